/**
 * Other programs use the library while its node runs: one that holds a write transaction for seconds, one that commits as
 * fast as it can. Nobody waits for ever and nothing is lost.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLibrary } from '../../examples/file-library/library.ts';
import { Device } from '../../examples/fleet.ts';
import { projectFolder } from '../../examples/support.ts';
import { column, endEverything, execute, type Program, start, testFolder, untilColumn } from '../support/command.ts';
import { ARRIVAL_MS, expectEqual, untilState } from '../support/devices.ts';

/** How long the greedy program keeps everybody else from writing, ms. */
const HOLD_MS = 2_500;
/** Transactions of the busy program: more than one page holds, however quickly they come. */
const COMMITS = 1_200;

const folder = testFolder();
const first = new Device(folder, 'first');
const second = new Device(folder, 'second');

/** Runs a script with a connection `db` to the library, in a process of its own. */
function program(device: Device, script: string): Program {
  const text = `
    import Database from 'better-sqlite3';
    const db = new Database(${JSON.stringify(device.library)}, { timeout: 60_000 });
    db.pragma('synchronous = NORMAL');
    ${script}
    db.close();`;
  return start(process.execPath, ['--input-type=module', '-e', text], { cwd: projectFolder });
}

beforeAll(async () => {
  openLibrary(first.library).close();
  await first.init();
  await first.start([]);
  await second.join(first);
  await second.start([]);
  await Promise.all([untilState(first, second, 'live'), untilState(second, first, 'live')]);
});
afterAll(endEverything);

describe('a program that holds a write transaction', () => {
  it('delays what others wrote, and its own, but loses none of it', async () => {
    const events = second.node.events.length;
    const holder = program(
      second,
      `db.exec("BEGIN IMMEDIATE; INSERT INTO tags (name) VALUES ('held')");
      console.log('holding');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${HOLD_MS});
      db.exec('COMMIT');
      console.log('let go');`,
    );
    await holder.line((line) => line === 'holding');
    execute(first.library, "INSERT INTO tags (name) VALUES ('meanwhile')");
    expect(await holder.ended).toBe(0);
    for (const { library } of [first, second]) {
      await untilColumn(library, "SELECT name FROM tags WHERE name IN ('held', 'meanwhile') ORDER BY name", [
        'held',
        'meanwhile',
      ]);
    }
    await expectEqual([first, second]);
    // Waiting is no fault: the session stood all the time.
    expect(second.node.events.slice(events).filter((event) => event.event === 'peer')).toEqual([]);
  });
});

describe('a program that commits without pause', () => {
  it('is followed live: every one of its commits arrives, in many pages and without a fault', async () => {
    const events = second.node.events.length;
    const writer = program(
      first,
      `const add = db.prepare('INSERT INTO tags (name) VALUES (?)');
      for (let i = 0; i < ${COMMITS}; i += 1) add.run('tag ' + i);`,
    );
    await untilColumn(second.library, "SELECT 1 FROM tags WHERE name = 'tag 0'", [1]);
    expect(await writer.ended).toBe(0);
    await untilColumn(second.library, "SELECT count(*) FROM tags WHERE name GLOB 'tag [0-9]*'", [COMMITS]);
    await expectEqual([first, second]);
    // In many pages, so it was live; never back to a backfill.
    await second.node.waitFor('all of it', ARRIVAL_MS, (all) => {
      const applied = all.slice(events).flatMap((event) => (event.event === 'applied' ? [event.rows] : []));
      return applied.length > 1 && applied.reduce((sum, rows) => sum + rows, 0) >= COMMITS ? true : undefined;
    });
    expect(second.node.events.slice(events).filter((event) => event.event === 'peer')).toEqual([]);
  });

  it('may do so on both sides at once', async () => {
    const script = (device: Device): string =>
      `const change = db.prepare("UPDATE tags SET color = '${device.name} ' || ? WHERE name = 'tag ' || ?");
      for (let i = 0; i < ${COMMITS / 4}; i += 1) change.run(String(i), String(i));`;
    const writers = [first, second].map((device) => program(device, script(device)));
    expect(await Promise.all(writers.map(({ ended }) => ended))).toEqual([0, 0]);
    await expectEqual([first, second]);
    const colours = `SELECT count(*) FROM tags WHERE color = 'first ' || substr(name, 5) OR color = 'second ' || substr(name, 5)`;
    expect(column(first.library, colours)).toEqual([COMMITS / 4]);
  });
});
