/**
 * A member that claims room for everything and reads next to nothing: the node that gives to it keeps no more of it in memory than what is
 * on its way.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Device } from '../../examples/fleet.ts';
import { flotilla, until } from '../../examples/support.ts';
import { Attacker, makeAttackerHome } from '../support/attacker.ts';
import { endEverything, execute, testFolder } from '../support/command.ts';
import { ARRIVAL_MS } from '../support/devices.ts';

const ROWS = 256;
const ROW_BYTES = 1024 * 1024;
/** Rows that may be under way: in the window of the stream, in the system's buffers, and in pages that have been read. */
const MOST_UNDER_WAY = 24;
/** Half of it all, in memory, MB: reading pages makes a node that has just started grow by some 90. */
const MOST_GROWTH_MB = 128;

const folder = testFolder();
const giver = new Device(folder, 'giver');
let attacker: Attacker;

beforeAll(async () => {
  execute(
    giver.library,
    `CREATE TABLE notes (id INTEGER PRIMARY KEY, body BLOB);
     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${ROWS})
     INSERT INTO notes (body) SELECT randomblob(${ROW_BYTES}) FROM n`,
  );
  await flotilla(['init', giver.library, '--name', giver.name]);
  await giver.start([]);
  const slow = new Device(folder, 'slow');
  const key = await makeAttackerHome(slow.library, giver.id);
  await slow.join(giver);
  attacker = await Attacker.start(key, giver.addresses);
});
afterAll(async () => {
  endEverything();
  await attacker.stop();
});

it('a member that does not read what it asked for costs a node little memory, however much that is', async () => {
  const wire = await attacker.greeted();
  const rowsOut = async (): Promise<number> => (await giver.status()).library.counters.rowsOut;
  const [peak, before] = [giver.node.peakRssMB ?? 0, await rowsOut()];
  await wire.ask(2 * ROWS * ROW_BYTES);
  // Until no more leaves: all of it would within moments, if anything but the reader stopped it.
  let [last, now] = [before, before];
  await until('the giver to stop', ARRIVAL_MS, async () => {
    [last, now] = [now, await rowsOut()];
    return now === last && now > before ? true : undefined;
  });

  expect(now - before).toBeLessThan(MOST_UNDER_WAY);
  expect((giver.node.peakRssMB ?? 0) - peak).toBeLessThan(MOST_GROWTH_MB);
});
