/**
 * Programs that write in ways of their own: Drizzle and Kysely, Python as Python programs are written, the sqlite3 shell as
 * people type into it. Each in a process of its own, on a captured file and on its twin.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Sqlite from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { HAS_PYTHON, HAS_SHELL } from '../support/writers.ts';
import { Written } from '../support/written.ts';

const PROGRAMS = fileURLToPath(new URL('programs', import.meta.url));

let written: Written;
beforeEach(() => {
  written = new Written();
});
afterEach(() => written.close());

function run(command: string, args: readonly string[], input = ''): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8', input, cwd: written.folder });
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${stderr} ${error?.message ?? ''}`);
}

describe('a program', () => {
  it.each(['drizzle.ts', 'kysely.ts'])(
    '[W21] that writes through a library of its own is captured: %s',
    async (name) => {
      for (const file of [written.file, written.plainFile]) run(process.execPath, [join(PROGRAMS, name), file]);
      written.expectUndisturbed();
      const titles = written.plain.prepare('SELECT title FROM tasks').pluck().all();
      expect(titles.length).toBeGreaterThan(0);
      await written.expectArrival();
    },
  );

  it('[W21] in Python is captured, with its transactions and its values', async (context) => {
    if (!HAS_PYTHON) context.skip('python3 with its module sqlite3 is not on this machine');
    for (const file of [written.file, written.plainFile]) run('python3', [join(PROGRAMS, 'idioms.py'), file]);
    written.expectUndisturbed();
    expect(written.plain.prepare("SELECT count(*) FROM people WHERE name LIKE 'Person%'").pluck().get()).toBe(5);
    await written.expectArrival();
  });

  it('[W21] typed into the sqlite3 shell is captured, imports and all', async (context) => {
    if (!HAS_SHELL) context.skip('the sqlite3 shell is not on this machine (Debian: apt install sqlite3)');
    writeFileSync(join(written.folder, 'people.csv'), '71,Kim,1,"a ""note"", imported"\n72,Lou,2,x\n');
    writeFileSync(join(written.folder, 'teams.csv'), 'code,title\nimp,Imported\n');
    writeFileSync(join(written.folder, 'more.sql'), "INSERT INTO memberships VALUES (71, 'imp', 1);\n");
    const script = readFileSync(join(PROGRAMS, 'idioms.sql'), 'utf8');
    for (const file of [written.file, written.plainFile]) run('sqlite3', ['-bail', file], script);
    written.expectUndisturbed();
    expect(written.plain.prepare("SELECT note FROM people WHERE name = 'Kim'").pluck().get()).toBe(
      'a "note", imported',
    );
    await written.expectArrival();
  });

  it('[W21] that is given the dump of a library elsewhere gets its rows, and disturbs nobody', (context) => {
    if (!HAS_SHELL) context.skip('the sqlite3 shell is not on this machine (Debian: apt install sqlite3)');
    const { stdout, status } = spawnSync('sqlite3', [written.file, '.dump'], { encoding: 'utf8' });
    expect(status).toBe(0);
    const copy = join(written.folder, 'dumped.db');
    run('sqlite3', ['-bail', copy], stdout);
    const db = new Sqlite(copy);
    expect(written.seen(db)).toEqual(written.seen(written.plain));
    expect(db.pragma('integrity_check', { simple: true })).toBe('ok');
    db.close();
  });
});

describe('VACUUM', () => {
  it('[W22] by another program changes nothing that syncs, nor do new rowids where the key is another one', async () => {
    const other = new Sqlite(written.file);
    // Gaps in the rowids of tables whose key is another one.
    other.exec("INSERT INTO teams (code) VALUES ('a'), ('b'), ('c'); DELETE FROM teams WHERE code IN ('a', 'b')");
    await written.expectArrival();
    const lsn = written.library.library.head;
    other.exec('VACUUM');
    // Most versions keep rowids; they need not, and the next statement does what they are free to do.
    other.exec('UPDATE teams SET rowid = rowid - 2 WHERE rowid > 5; UPDATE memberships SET rowid = rowid + 100');
    written.library.stamp();
    expect(written.library.library.head).toBe(lsn);
    other.exec("UPDATE teams SET title = 'after' WHERE code = 'c'; DELETE FROM teams WHERE code = 'ops'");
    other.close();
    await written.expectArrival();
    expect(written.other.rows("SELECT title FROM teams WHERE code = 'c'")).toEqual([['after']]);
  });

  it('[W22] INTO another file makes a copy that is a library of the same rows', async () => {
    written.library.write("INSERT INTO people (name) VALUES ('not stamped yet')");
    const copy = join(written.folder, 'copy.db');
    written.library.db.exec(`VACUUM INTO '${copy}'`);
    const restored = written.library.restored(readFileSync(copy));
    restored.stamp();
    written.other.pull(restored);
    expect(written.other.rows("SELECT name FROM people WHERE name = 'not stamped yet'")).toHaveLength(1);
    expect(await restored.digest()).toEqual(await written.other.digest());
  });

  it('[W22] and another page size, and a file that was copied while nobody wrote', async () => {
    const other = new Sqlite(written.file);
    other.exec("INSERT INTO people (name) VALUES ('before')");
    other.close();
    written.library.db.pragma('wal_checkpoint(TRUNCATE)');
    copyFileSync(written.file, join(written.folder, 'copied.db'));
    const copied = new Sqlite(join(written.folder, 'copied.db'));
    copied.exec('PRAGMA journal_mode = DELETE; PRAGMA page_size = 1024; VACUUM;');
    copied.close();
    const restored = written.library.restored(readFileSync(join(written.folder, 'copied.db')));
    restored.stamp();
    written.other.pull(restored);
    expect(await restored.digest()).toEqual(await written.other.digest());
  });
});
