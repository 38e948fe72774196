/**
 * A device whose library file is put back to an older copy, home folder and all: what it has lost comes back from the
 * others, its own writes too, and what it writes from then on is taken for new.
 */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLibrary } from '../../examples/file-library/library.ts';
import { fillSynthetic } from '../../examples/file-library/synthetic.ts';
import { Device } from '../../examples/fleet.ts';
import { column, endEverything, execute, testFolder, untilColumn } from '../support/command.ts';
import { expectEqual, untilState } from '../support/devices.ts';

const folder = testFolder();
const first = new Device(folder, 'first');
const second = new Device(folder, 'second');
const backup = join(folder, 'backup.db');
const TAGS = "SELECT name || ' ' || color FROM tags ORDER BY name";

beforeAll(async () => {
  const db = openLibrary(first.library);
  fillSynthetic(db, { entries: 100, seed: 3, volume: 'first' });
  db.close();
  await first.init();
  await first.start([]);
  await second.join(first);
  await second.start([]);
  await untilState(second, first, 'live');
  execute(second.library, "INSERT INTO tags (name, color) VALUES ('kept', 'blue'), ('deleted later', 'red')");
  await untilColumn(first.library, 'SELECT count(*) FROM tags', [2]);
});
afterAll(endEverything);

describe('a library file that was put back', () => {
  it('catches up, with what this device itself had written since', async () => {
    const db = new Database(second.library);
    await db.backup(backup);
    db.close();
    execute(
      second.library,
      "INSERT INTO tags (name) VALUES ('after the backup'); UPDATE tags SET color = 'green' WHERE name = 'kept'",
    );
    execute(second.library, "DELETE FROM tags WHERE name = 'deleted later'");
    execute(first.library, "INSERT INTO tags (name) VALUES ('from the other')");
    const expected = ['after the backup grey', 'from the other grey', 'kept green'];
    for (const { library } of [first, second]) await untilColumn(library, TAGS, expected);
    await second.node.terminate();
    execute(first.library, "UPDATE entries SET size = size + 1 WHERE kind = 'file'");

    for (const suffix of ['', '-wal', '-shm']) rmSync(`${second.library}${suffix}`, { force: true });
    const old = new Database(backup);
    await old.backup(second.library);
    old.close();
    expect(column(second.library, TAGS)).toEqual(['deleted later red', 'kept blue']);

    await second.start([]);
    await untilState(second, first, 'live');
    await expectEqual([first, second]);
    expect(column(second.library, TAGS)).toEqual(expected);
  });

  it('is written on: new rows, and changes of rows that had come back, arrive at the others', async () => {
    execute(second.library, "INSERT INTO tags (name) VALUES ('written after the restore')");
    execute(second.library, "UPDATE tags SET color = 'black' WHERE name = 'after the backup'");
    await untilColumn(first.library, TAGS, [
      'after the backup black',
      'from the other grey',
      'kept green',
      'written after the restore grey',
    ]);
    await expectEqual([first, second]);
  });

  it('together with its home folder, as a machine does that goes back as a whole, is no other', async () => {
    const [home, oldHome] = [`${second.library}.flotilla`, join(folder, 'home of before')];
    await second.node.terminate();
    cpSync(home, oldHome, { recursive: true });
    cpSync(second.library, backup);
    await second.start([]);
    await untilState(second, first, 'live');
    execute(second.library, "INSERT INTO tags (name) VALUES ('after both')");
    await untilColumn(first.library, "SELECT count(*) FROM tags WHERE name = 'after both'", [1]);
    await second.node.terminate();
    execute(first.library, "DELETE FROM tags WHERE name = 'from the other'");

    for (const suffix of ['', '-wal', '-shm']) rmSync(`${second.library}${suffix}`, { force: true });
    rmSync(home, { recursive: true });
    cpSync(oldHome, home, { recursive: true });
    cpSync(backup, second.library);
    await second.start([]);
    execute(second.library, "UPDATE tags SET color = 'white' WHERE name = 'kept'");
    for (const { library } of [first, second])
      await untilColumn(library, TAGS, [
        'after both grey',
        'after the backup black',
        'kept white',
        'written after the restore grey',
      ]);
    await expectEqual([first, second]);
  });
});
