/**
 * Two nodes with one device key, since a home folder was copied with its library: both find out and stop, whether they meet or only a
 * third device is connected to both. A node that was killed and started again is none.
 */
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RunningNode } from '../../examples/support.ts';
import type { Invitation } from '../../src/index.ts';
import { endEverything, execute, flotillaJson, startFlotilla, testFolder, untilColumn } from '../support/command.ts';
import type { Program } from '../support/command.ts';

const folder = testFolder();
const SCHEMA = 'CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)';
const BODIES = 'SELECT body FROM notes ORDER BY body';
const fileOf = (device: string): string => join(folder, device, 'library.db');
const TWICE = /^Another node runs with the key of this device .*remove the home folder and join again/;

interface Line {
  readonly event: string;
  readonly message?: string;
  readonly code?: string;
  readonly addresses?: readonly string[];
  readonly state?: string;
}
const linesOf = (program: Program): Line[] => program.lines.map((line) => JSON.parse(line) as Line);

async function up(device: string, ...options: string[]): Promise<Program & { readonly addresses: readonly string[] }> {
  const program = startFlotilla(['up', fileOf(device), '--local-only', '--json', ...options]);
  const ready = JSON.parse(await program.line((line) => line.includes('"ready"'))) as Line;
  return Object.assign(program, { addresses: ready.addresses ?? [] });
}

const peers = (addresses: readonly string[]): string[] => [
  '--no-discovery',
  ...addresses.flatMap((address) => ['--peer', address]),
];

async function expectTwice(program: Program, why: RegExp): Promise<void> {
  expect(await program.ended).toBe(1);
  const notices = linesOf(program).filter(({ event }) => event === 'notice');
  expect(notices.map(({ message }) => message)).toEqual([expect.stringMatching(TWICE)]);
  expect(notices[0]?.message).toMatch(why);
}

beforeAll(async () => {
  for (const device of ['laptop', 'nas']) mkdirSync(join(folder, device));
  execute(fileOf('laptop'), SCHEMA);
  await flotillaJson(['init', fileOf('laptop'), '--name', 'laptop']);
  const node = new RunningNode('laptop', fileOf('laptop'), []);
  await node.ready();
  const { text } = await flotillaJson<Invitation>(['invite', fileOf('laptop'), '--local-only']);
  await flotillaJson(['join', text, fileOf('nas'), '--local-only', '--name', 'nas']);
  await node.terminate();
  cpSync(join(folder, 'laptop'), join(folder, 'clone'), { recursive: true });
});
afterAll(endEverything);

describe('two nodes with one key', () => {
  it('[P14] in one network meet, and both stop', async () => {
    const one = await up('laptop');
    const two = await up('clone');
    await Promise.all([one, two].map((program) => expectTwice(program, /this one has met it/)));
  });

  it('[P14] that a member is connected to are told by it, and both stop; the member goes on', async () => {
    const nas = await up('nas', '--no-discovery');
    const one = await up('laptop', ...peers(nas.addresses));
    await one.line((line) => line.includes('"live"'));
    const two = await up('clone', ...peers(nas.addresses));
    await Promise.all([one, two].map((program) => expectTwice(program, /"nas" is connected to both/)));
    const told = await nas.line((line) => line.includes('"notice"'));
    expect(told).toMatch(/Two nodes run with the key of \\"laptop\\"/);
    // One of them is taken away: the other is what it was.
    const again = await up('laptop', ...peers(nas.addresses));
    execute(fileOf('laptop'), "INSERT INTO notes (body) VALUES ('afterwards')");
    await untilColumn(fileOf('nas'), BODIES, ['afterwards']);
    again.signal('SIGTERM');
    expect(await again.ended).toBe(0);
    nas.signal('SIGTERM');
    expect(await nas.ended).toBe(0);
  });

  it('are told apart from one that was killed, and started again at once', async () => {
    const nas = await up('nas', '--no-discovery');
    for (const body of ['b', 'c', 'd']) {
      const laptop = await up('laptop', ...peers(nas.addresses));
      execute(fileOf('laptop'), `INSERT INTO notes (body) VALUES ('${body}')`);
      await laptop.line((line) => line.includes('"live"'));
      laptop.signal('SIGKILL');
      await laptop.ended;
      expect(linesOf(laptop).filter(({ event }) => event === 'notice')).toEqual([]);
    }
    expect(linesOf(nas).filter(({ event }) => event === 'notice')).toEqual([]);
    nas.signal('SIGTERM');
    expect(await nas.ended).toBe(0);
  });

  it('are two devices once one of them has joined anew', async () => {
    const laptop = await up('laptop');
    const { text } = await flotillaJson<Invitation>(['invite', fileOf('laptop'), '--local-only']);
    rmSync(`${fileOf('clone')}.flotilla`, { recursive: true });
    await flotillaJson(['join', text, fileOf('clone'), '--local-only', '--name', 'clone']);
    const clone = await up('clone');
    execute(fileOf('clone'), "INSERT INTO notes (body) VALUES ('of the clone')");
    await untilColumn(fileOf('laptop'), BODIES, ['afterwards', 'b', 'c', 'd', 'of the clone']);
    await untilColumn(fileOf('clone'), BODIES, ['afterwards', 'b', 'c', 'd', 'of the clone']);
    for (const program of [laptop, clone]) {
      program.signal('SIGTERM');
      expect(await program.ended).toBe(0);
    }
  });
});
