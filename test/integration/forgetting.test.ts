/** What others know, between real nodes: waiting for a change to be elsewhere, and forgetting deletes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Device } from '../../examples/fleet.ts';
import { flotilla } from '../../examples/support.ts';
import type { NodeStatus, Replicated } from '../../src/index.ts';
import { endEverything, execute, expectRefusal, flotillaCommand, testFolder, untilColumn } from '../support/command.ts';
import { ARRIVAL_MS, expectEqual, untilState } from '../support/devices.ts';

const folder = testFolder();
const first = new Device(folder, 'first');
const second = new Device(folder, 'second');
const third = new Device(folder, 'third');
const all = [first, second, third];
const NAMES = 'SELECT name FROM t ORDER BY name';

const TOMBSTONES = 'SELECT count(*) FROM flotilla_tombstones';

const statusOf = (device: Device): Promise<NodeStatus> => flotilla<NodeStatus>(['status', device.library]);

beforeAll(async () => {
  execute(first.library, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y')");
  await flotilla(['init', first.library, '--name', first.name]);
  await first.start([]);
  await second.join(first);
  await second.start([]);
  await third.join(first);
  await third.start([]);
  await untilState(third, first, 'live');
  await untilState(third, second, 'live');
  await untilColumn(third.library, NAMES, ['x', 'y'], ARRIVAL_MS);
});
afterAll(endEverything);

describe('[F5] flotilla wait', () => {
  it('ends when so many other devices are known to hold what is committed', async () => {
    execute(first.library, "INSERT INTO t (name) VALUES ('z')");
    const { devices } = await flotilla<Replicated>(['wait', first.library, '--devices', '2']);
    expect([...devices].toSorted()).toEqual([second.id, third.id].toSorted());
    for (const device of [second, third]) await untilColumn(device.library, NAMES, ['x', 'y', 'z'], ARRIVAL_MS);
  });

  it('fails when the time is up, or no node runs', async () => {
    const running = /library\.db/;
    await expectRefusal(
      ['wait', first.library, '--devices', '3', '--timeout', '1'],
      first.folder,
      { code: 'NOT_REPLICATED', says: /on 2 of 3/ },
      running,
    );
    await third.node.terminate();
    await expectRefusal(['wait', third.library], third.folder, { code: 'UNREACHABLE', says: /No node runs/ });
  });
});

describe('[F1] deletes', () => {
  it('are remembered, and status says for whom, until the last member has them', async () => {
    execute(first.library, "DELETE FROM t WHERE name = 'x'");
    await untilColumn(second.library, NAMES, ['y', 'z'], ARRIVAL_MS);
    await untilColumn(first.library, TOMBSTONES, [1], ARRIVAL_MS);
    expect((await statusOf(first)).library.pruning.behind).toMatchObject([
      { device: third.id, tombstones: 1, setAside: false },
    ]);
    const { stdout } = await flotillaCommand(['status', first.library]);
    expect(stdout).toMatch(
      /remembered until every device has them.*:\n {2}third .* lacks 1 delete, the oldest of \d{4}-\d\d-\d\d/,
    );
    await third.start([]);
    await untilColumn(third.library, NAMES, ['y', 'z'], ARRIVAL_MS);
    for (const device of all) await untilColumn(device.library, TOMBSTONES, [0], ARRIVAL_MS);
    await expectEqual(all);
    // Its node was started anew since it wrote last, and has written nothing in this run.
    const { devices } = await flotilla<Replicated>(['wait', third.library, '--devices', '2']);
    expect(devices).toHaveLength(2);
  });
});
