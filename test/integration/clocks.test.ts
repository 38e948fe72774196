/**
 * A device whose clock was ahead by a year, and is right again: what it had written goes out all the same. (Its greatest stamp is set by hand, as
 * that clock would have left it: the clock of this machine is not ours to set.)
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RunningNode } from '../../examples/support.ts';
import type { Invitation, VerifyReport } from '../../src/index.ts';
import { column, endEverything, execute, flotillaJson, testFolder, untilColumn } from '../support/command.ts';
import { ARRIVAL_MS } from '../support/devices.ts';

const folder = testFolder();
const wrong = join(folder, 'wrong.db');
const right = join(folder, 'right.db');
const SCHEMA = 'CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)';
const BODIES = 'SELECT body FROM notes ORDER BY body';
const YEAR_MS = 365 * 86_400_000;

beforeAll(async () => {
  execute(wrong, `${SCHEMA}; INSERT INTO notes (body) VALUES ('before')`);
  await flotillaJson(['init', wrong, '--name', 'wrong']);
  const node = new RunningNode('wrong', wrong, []);
  await node.ready();
  const { text } = await flotillaJson<Invitation>(['invite', wrong, '--local-only']);
  await flotillaJson(['join', text, right, '--local-only', '--name', 'right']);
  const other = new RunningNode('right', right, []);
  await other.ready();
  await untilColumn(right, BODIES, ['before']);
  await node.terminate();
  await other.terminate();
});
afterAll(endEverything);

describe('a clock that was a year ahead', () => {
  it('[T3] costs nothing of what was written: it is stamped again, goes out, and that is said', async () => {
    execute(wrong, `UPDATE flotilla_clock SET hlc = ${(Date.now() + YEAR_MS) * 1000}`);
    execute(wrong, "UPDATE notes SET body = 'changed'; INSERT INTO notes (body) VALUES ('fresh')");
    const other = new RunningNode('right', right, []);
    await other.ready();
    const node = new RunningNode('wrong', wrong, []);
    await node.ready();
    await untilColumn(right, BODIES, ['changed', 'fresh'], ARRIVAL_MS);
    const notice = node.events.find((event) => event.event === 'notice');
    expect(notice).toMatchObject({
      message: expect.stringMatching(/^The clock of this device was 36[45] d.* ahead: .*right time/),
    });
    // Both ways, from then on.
    execute(right, "INSERT INTO notes (body) VALUES ('back')");
    await untilColumn(wrong, BODIES, ['back', 'changed', 'fresh'], ARRIVAL_MS);
    execute(wrong, "INSERT INTO notes (body) VALUES ('and on')");
    await untilColumn(right, BODIES, ['and on', 'back', 'changed', 'fresh'], ARRIVAL_MS);
    const report = await flotillaJson<VerifyReport>(['verify', wrong]);
    expect(report.peers).toMatchObject([{ name: 'right', identical: true }]);
    expect(column(wrong, 'SELECT hlc < 1000 * (unixepoch() * 1000 + 300000) FROM flotilla_clock')).toEqual([1]);
    await node.terminate();
    await other.terminate();
  });
});
