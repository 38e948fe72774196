/**
 * Devices that are upgraded on different days, while their nodes run: any program changes the schema, and nothing is restarted.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Device } from '../../examples/fleet.ts';
import { openLibrary } from '../../examples/file-library/library.ts';
import { fillSynthetic } from '../../examples/file-library/synthetic.ts';
import type { MigrateReport, NodeStatus, VerifyReport } from '../../src/index.ts';
import { column, endEverything, execute, flotillaJson, testFolder, untilColumn } from '../support/command.ts';
import { ARRIVAL_MS, untilState } from '../support/devices.ts';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = testFolder();
const ada = new Device(folder, 'ada');
const ben = new Device(folder, 'ben');

const UPGRADE = `ALTER TABLE tags ADD COLUMN weight INTEGER;
  CREATE TABLE lists (id INTEGER PRIMARY KEY, title TEXT NOT NULL, tag_id INTEGER REFERENCES tags (id) ON DELETE CASCADE);`;

const verify = (device: Device): Promise<VerifyReport> => flotillaJson<VerifyReport>(['verify', device.library]);

/** Waits until both have compared their copies and found them the same. */
async function untilIdentical(device: Device): Promise<void> {
  const ends = Date.now() + ARRIVAL_MS;
  for (;;) {
    const report = await verify(device).catch(() => null);
    if (report?.peers.every(({ identical }) => identical) === true) return;
    if (Date.now() > ends) throw new Error(`not identical: ${JSON.stringify(report)}`);
  }
}

beforeAll(async () => {
  const db = openLibrary(ada.library);
  fillSynthetic(db, { entries: 50, seed: 1, volume: 'ada' });
  db.close();
  await ada.init();
  await ada.start([]);
  await ben.join(ada);
  await ben.start([]);
  await untilState(ben, ada, 'live');
});
afterAll(endEverything);

describe('an upgrade', () => {
  it('[G1] on one device is followed at once, told in words, and sync goes on', async () => {
    const from = ben.node.events.length;
    execute(ada.library, UPGRADE);
    execute(ada.library, "INSERT INTO tags (name, weight) VALUES ('heavy', 9)");
    execute(ada.library, "INSERT INTO lists (title, tag_id) SELECT 'heavy things', id FROM tags WHERE name = 'heavy'");
    await untilColumn(ben.library, "SELECT name FROM tags WHERE name = 'heavy'", ['heavy']);
    await untilState(ben, ada, 'live', from);
    const notices = ada.node.events.flatMap((event) => (event.event === 'notice' ? [event.message] : []));
    expect(notices).toContain('The column "weight" of "tags" is new.');
    expect(notices).toContain('The table "lists" is new.');
    await untilColumn(ben.library, "SELECT count(*) FROM flotilla_pending WHERE reason = 'no-table'", [1]);
    const status = await flotillaJson<NodeStatus>(['status', ben.library]);
    expect(status.peers[0]?.differences).toEqual([
      '"ben" does not have the column "weight" of "tags": its values are kept aside there until it is upgraded.',
      '"ben" does not have the table "lists": its rows wait there until it is upgraded.',
    ]);
    await untilIdentical(ben);
  });

  it('[G3] on the other device brings what waited there', async () => {
    const from = ben.node.events.length;
    execute(ben.library, UPGRADE);
    await untilColumn(ben.library, 'SELECT l.title || t.weight FROM lists l JOIN tags t ON t.id = l.tag_id', [
      'heavy things9',
    ]);
    await untilState(ben, ada, 'live', from);
    execute(ben.library, "UPDATE tags SET weight = 10 WHERE name = 'heavy'");
    await untilColumn(ada.library, "SELECT weight FROM tags WHERE name = 'heavy'", [10]);
    await untilIdentical(ada);
  });

  it('[G11] by flotilla migrate drops a column, with the node stopped', async () => {
    const sql = join(folder, 'drop.sql');
    writeFileSync(sql, 'ALTER TABLE tags DROP COLUMN weight;\n');
    await ben.node.terminate();
    const report = await flotillaJson<MigrateReport>(['migrate', ben.library, '--sql', sql]);
    expect(report.changes).toEqual(['The column "weight" of "tags" is gone.']);
    await ben.start([]);
    await untilState(ben, ada, 'live');
    execute(ben.library, "UPDATE tags SET name = 'light' WHERE name = 'heavy'");
    await untilColumn(ada.library, "SELECT weight FROM tags WHERE name = 'light'", [10]);
    expect(column(ben.library, "SELECT count(*) FROM pragma_table_info('tags') WHERE name = 'weight'")).toEqual([0]);
    await untilIdentical(ada);
  });
});
