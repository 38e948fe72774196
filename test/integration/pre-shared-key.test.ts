/**
 * A library with a pre-shared key: devices get it with their invitation, and who lacks it gets nowhere, be it a member.
 */
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RunningNode, type StatusReport } from '../../examples/support.ts';
import type { Invitation } from '../../src/index.ts';
import { endEverything, execute, expectRefusal, flotillaJson, testFolder, untilColumn } from '../support/command.ts';

const folder = testFolder();
const SCHEMA = 'CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)';
const BODIES = 'SELECT body FROM notes ORDER BY body';
const fileOf = (name: string): string => join(folder, `${name}.db`);
const keyOf = (name: string): string => join(folder, `${name}.db.flotilla`, 'swarm.key');

async function start(name: string): Promise<RunningNode> {
  const node = new RunningNode(name, fileOf(name), []);
  await node.ready();
  return node;
}

async function letIn(from: string, name: string): Promise<void> {
  const { text } = await flotillaJson<Invitation>(['invite', fileOf(from), '--local-only']);
  await flotillaJson(['join', text, fileOf(name), '--local-only', '--name', name]);
}

beforeAll(async () => {
  execute(fileOf('first'), SCHEMA);
  await flotillaJson(['init', fileOf('first'), '--psk', '--name', 'first']);
});
afterAll(endEverything);

describe('a library with a pre-shared key', () => {
  it('gives it on by invitation, from device to device', async () => {
    await start('first');
    await letIn('first', 'second');
    const second = await start('second');
    await letIn('second', 'third');
    expect(readFileSync(keyOf('second'))).toEqual(readFileSync(keyOf('first')));
    expect(readFileSync(keyOf('third'))).toEqual(readFileSync(keyOf('first')));
    await start('third');
    execute(fileOf('third'), "INSERT INTO notes (body) VALUES ('from the third')");
    await untilColumn(fileOf('first'), BODIES, ['from the third']);
    expect(await flotillaJson<StatusReport>(['status', fileOf('first')])).toMatchObject({ psk: true });
    await second.terminate();
    expect(await flotillaJson<StatusReport>(['status', fileOf('second')])).toMatchObject({ psk: true });
  });

  it('has nothing to say to a member that has lost it, and that one is told where to look', async () => {
    renameSync(keyOf('second'), join(folder, 'kept'));
    const second = await start('second');
    execute(fileOf('first'), "INSERT INTO notes (body) VALUES ('among those with the key')");
    const why = await second.waitFor('why it cannot connect', 30_000, (events) => {
      for (const event of events)
        if (event.event === 'peer' && event.state === 'backoff' && event.reason.includes('swarm.key')) return event;
      return undefined;
    });
    expect(why).toMatchObject({ code: 'UNREACHABLE' });
    await second.terminate();
    renameSync(join(folder, 'kept'), keyOf('second'));
    await start('second');
    await untilColumn(fileOf('second'), BODIES, ['among those with the key', 'from the third']);
  });
});

describe('a library without one', () => {
  it('stays so by a second init, and says that', async () => {
    execute(fileOf('plain'), SCHEMA);
    await flotillaJson(['init', fileOf('plain')]);
    await expectRefusal(
      ['init', fileOf('plain'), '--psk'],
      folder,
      { code: 'ALREADY_INITIALISED', says: /without a pre-shared key/ },
      /(first|second|third)\.db/,
    );
    expect(existsSync(keyOf('plain'))).toBe(false);
    expect(await flotillaJson<StatusReport>(['status', fileOf('plain')])).toMatchObject({ psk: false });
  });

  it('leaves no old key in the home folder of a device that joins it', async () => {
    const plain = await start('plain');
    execute(fileOf('again'), SCHEMA);
    await flotillaJson(['init', fileOf('again'), '--psk']);
    for (const end of ['', '-wal', '-shm', '-flotilla-lock']) rmSync(`${fileOf('again')}${end}`, { force: true });
    await letIn('plain', 'again');
    expect(existsSync(keyOf('again'))).toBe(false);
    await plain.terminate();
  });
});
