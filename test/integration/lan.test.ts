/**
 * Three hosts with addresses of their own, in network namespaces that this test makes and removes: the first one stands in
 * two networks, each of the others in one of them. Discovery by multicast on real interfaces, invitations with real
 * addresses, addresses in place of discovery, and what is said where multicast cannot work. Needs root and iproute2.
 */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { commandFile } from '../../examples/support.ts';
import type { Invitation, NodeEvent } from '../../src/api.ts';
import { endEverything, execute, run, start, testFolder, untilColumn } from '../support/command.ts';
import type { Program } from '../support/command.ts';

/** Names that no other run on this machine has. */
const NAMES = [`flotilla${process.pid}a`, `flotilla${process.pid}b`, `flotilla${process.pid}c`] as const;
/** A network: its number, and the hosts in it with the names of their interfaces. The first has the default routes. */
const NETWORKS = [
  { number: 77, ends: [[0, `fl${process.pid}a`] as const, [1, `fl${process.pid}b`] as const] },
  { number: 78, ends: [[0, `fl${process.pid}d`] as const, [2, `fl${process.pid}c`] as const] },
] as const;
const [[TO_SECOND, OF_SECOND], [, OF_THIRD]] = NETWORKS.map(({ ends }) => ends.map(([, link]) => link)) as [
  [string, string],
  [string, string],
];

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Why there can be no namespaces here; '' if there can. */
function makeNamespaces(): string {
  try {
    for (const name of NAMES) {
      ip('netns', 'add', name);
      ip('-n', name, 'link', 'set', 'lo', 'up');
    }
    for (const { number, ends } of NETWORKS) {
      const [[one, link], [other, otherLink]] = ends;
      ip('link', 'add', link, 'netns', NAMES[one], 'type', 'veth', 'peer', 'name', otherLink, 'netns', NAMES[other]);
      for (const [host, name] of ends) {
        ip('-n', NAMES[host], 'addr', 'add', `10.${number}.0.${host + 1}/24`, 'dev', name);
        ip('-n', NAMES[host], 'link', 'set', name, 'up');
      }
    }
    // The second network has no route that carries multicast: one socket would use the first one alone.
    for (const [host, name] of NETWORKS[0].ends) ip('-n', NAMES[host], 'route', 'add', 'default', 'dev', name);
    return '';
  } catch (error) {
    return `no network namespaces can be made here: ${String(error).split('\n')[0]}`;
  }
}

function inHost(host: 0 | 1 | 2, ...args: string[]): Program {
  return start('ip', ['netns', 'exec', NAMES[host], process.execPath, commandFile(), ...args, '--json']);
}

function says(program: Program, fits: (event: NodeEvent) => boolean): Promise<string> {
  return program.line((line) => fits(JSON.parse(line) as NodeEvent));
}

let missing = '';
let folder: string;

beforeAll(() => {
  missing = makeNamespaces();
  folder = testFolder();
});
afterAll(() => {
  endEverything();
  for (const name of NAMES) {
    try {
      ip('netns', 'del', name);
    } catch {
      // It was never made.
    }
  }
});

/** The library of each host. */
const fileOf = (host: 0 | 1 | 2): string => join(folder, `${host}.db`);

/** Starts a host's node, which has forgotten where the others were: only what the test gives it tells that. */
async function up(host: 0 | 1 | 2, ...options: string[]): Promise<Program> {
  rmSync(join(`${fileOf(host)}.flotilla`, 'peers.json'), { force: true });
  const program = inHost(host, 'up', fileOf(host), ...options);
  await says(program, (event) => event.event === 'ready');
  return program;
}

async function stop(...programs: Program[]): Promise<void> {
  for (const program of programs) program.signal('SIGTERM');
  for (const program of programs) expect(await program.ended, program.stderr()).toBe(0);
}

const isFound = (event: NodeEvent): boolean => event.event === 'discovered' && event.via === 'mdns';
const isLive = (event: NodeEvent): boolean => event.event === 'peer' && event.state === 'live';
const NAMES_OF_THINGS = 'SELECT name FROM things ORDER BY name';

describe('on a network', () => {
  it('devices find each other by multicast in each of their networks, and become equal', async (context) => {
    if (missing !== '') context.skip(missing);
    execute(
      fileOf(0),
      "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO things (name) VALUES ('a')",
    );
    expect((await run(inHost(0, 'init', fileOf(0), '--name', 'first'))).code).toBe(0);
    const first = await up(0);
    for (const host of [1, 2] as const) {
      const { stdout } = await run(inHost(0, 'invite', fileOf(0)));
      const invitation = JSON.parse(stdout) as Invitation;
      expect(invitation.addresses.toSorted()).toEqual(
        NETWORKS.map(({ number }) => expect.stringMatching(`^/ip4/10\\.${number}\\.0\\.1/tcp/\\d+$`)),
      );
      const joined = await run(inHost(host, 'join', invitation.text, fileOf(host), '--name', `host ${host}`));
      expect(joined).toMatchObject({ code: 0, stderr: '' });
    }
    const [second, third] = [await up(1), await up(2)];
    await Promise.all([says(second, isFound), says(third, isFound)]);

    execute(fileOf(1), "INSERT INTO things (name) VALUES ('b')");
    execute(fileOf(2), "INSERT INTO things (name) VALUES ('c')");
    // These two never meet: what one writes comes to the other by way of the first.
    for (const host of [0, 1, 2] as const) await untilColumn(fileOf(host), NAMES_OF_THINGS, ['a', 'b', 'c']);
    await stop(first, second, third);
  });

  it('they look on the interface that they are told, and on no other', async (context) => {
    if (missing !== '') context.skip(missing);
    const third = await up(2);
    const first = await up(0, '--interface', TO_SECOND);
    const second = await up(1, '--interface', OF_SECOND);
    await Promise.all([says(second, isFound), says(second, isLive)]);
    // The first one announced itself before all that: where it is heard, it is known within milliseconds.
    const heardOnTheOther = third.lines.map((line) => JSON.parse(line) as NodeEvent).filter(isFound);
    expect(heardOnTheOther).toEqual([]);
    await stop(first, second, third);
  });

  it('a member whose address is given needs no discovery', async (context) => {
    if (missing !== '') context.skip(missing);
    const first = await up(0, '--no-discovery');
    const ready = JSON.parse(first.lines[0] ?? '') as Extract<NodeEvent, { event: 'ready' }>;
    const address = ready.addresses.find((one) => one.startsWith('/ip4/10.78.')) ?? '';
    const third = await up(2, '--no-discovery', '--peer', address);
    await says(third, isLive);
    await says(third, (event) => event.event === 'discovered' && event.via === 'address');
    execute(fileOf(2), "INSERT INTO things (name) VALUES ('d')");
    await untilColumn(fileOf(0), NAMES_OF_THINGS, ['a', 'b', 'c', 'd']);
    await stop(first, third);
  });

  it('one line says why multicast cannot work here, and the node goes on without it', async (context) => {
    if (missing !== '') context.skip(missing);
    const alone = join(folder, 'alone.db');
    execute(alone, 'CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)');
    expect((await run(inHost(2, 'init', alone))).code).toBe(0);
    const notice = async (...options: string[]): Promise<string> => {
      const node = inHost(2, 'up', alone, ...options);
      const line = await says(node, (event) => event.event === 'notice');
      await stop(node);
      expect(node.lines.filter((other) => other.includes('"notice"'))).toEqual([line]);
      return line;
    };
    expect(await notice('--interface', 'none0')).toMatch(/none0 has an IPv4 address, .*choose another one/);

    const hold = "require('node:dgram').createSocket('udp4').bind(5353, () => console.log('held'))";
    const holder = start('ip', ['netns', 'exec', NAMES[2], process.execPath, '-e', hold]);
    await holder.line((line) => line === 'held');
    expect(await notice()).toMatch(/UDP port 5353 .*EADDRINUSE.*end the program that holds it/);
    holder.signal('SIGKILL');
    await holder.ended;

    ip('-n', NAMES[2], 'link', 'set', OF_THIRD, 'down');
    expect(await notice()).toMatch(/No network interface can carry multicast.*connect to a network/);
  });
});
