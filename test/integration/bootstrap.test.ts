/** A new device and a library that is worth a snapshot: two processes, as people run them. */
import { readdirSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLibrary } from '../../examples/file-library/library.ts';
import { fillSynthetic } from '../../examples/file-library/synthetic.ts';
import { Device } from '../../examples/fleet.ts';
import { SNAPSHOT_ROWS } from '../../src/actors/giving.ts';
import { column, endEverything, execute, testFolder } from '../support/command.ts';
import { expectEqual } from '../support/devices.ts';

const folder = testFolder();
const sender = new Device(folder, 'sender');
const receiver = new Device(folder, 'receiver');

beforeAll(async () => {
  const db = openLibrary(sender.library);
  fillSynthetic(db, { entries: SNAPSHOT_ROWS, seed: 3, volume: 'sender' });
  db.close();
  await sender.init();
  await sender.start([]);
  await receiver.join(sender);
});
afterAll(endEverything);

const snapshotsOf = ({ library }: Device): string[] =>
  readdirSync(dirname(library)).filter((name) => name.startsWith(`${basename(library)}-flotilla-snapshot`));

describe('[A13] a new device', () => {
  it('takes a snapshot, with the ids of the sender, and follows the feed from there', async () => {
    const node = await receiver.start([]);
    await node.waitFor('the end of its first pass', 60_000, (events) =>
      events.find((event) => event.event === 'applied' && event.complete),
    );
    const ids = 'SELECT sum(id * (parent_id + 1)) FROM entries';
    expect(column(receiver.library, ids)).toEqual(column(sender.library, ids));
    // By the feed it would be more than forty.
    expect((await receiver.status()).library.counters.batchesIn).toBeLessThan(10);
    execute(sender.library, "UPDATE entries SET name = 'changed' WHERE id = 5");
    execute(receiver.library, "INSERT INTO user_metadata (note) VALUES ('of the new device')");
    await expectEqual([sender, receiver]);
  });

  it('has nothing of it left beside its library; who gave it keeps it for a while, and not longer than its node runs', async () => {
    expect(snapshotsOf(receiver)).toEqual([]);
    expect(snapshotsOf(sender)).toHaveLength(1);
    await sender.node.terminate();
    expect(snapshotsOf(sender)).toEqual([]);
  });
});
