/**
 * Two hosts with addresses of their own, in network namespaces that this test makes and removes: discovery by multicast on a
 * real interface, invitations with real addresses, and a node without any network. Needs root and iproute2.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { projectFolder } from '../../examples/support.ts';
import type { Invitation, NodeEvent } from '../../src/api.ts';
import { column, endEverything, execute, run, start, testFolder, untilColumn } from '../support/command.ts';
import type { Program } from '../support/command.ts';

const CLI = join(projectFolder, 'src', 'cli', 'main.ts');
/** Names that no other run on this machine has. */
const NAMES = [`flotilla${process.pid}a`, `flotilla${process.pid}b`] as const;
const LINKS = [`fl${process.pid}a`, `fl${process.pid}b`] as const;

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Why there can be no namespaces here; '' if there can. */
function makeNamespaces(): string {
  try {
    for (const name of NAMES) ip('netns', 'add', name);
    ip('link', 'add', LINKS[0], 'netns', NAMES[0], 'type', 'veth', 'peer', 'name', LINKS[1], 'netns', NAMES[1]);
    NAMES.forEach((name, i) => {
      ip('-n', name, 'addr', 'add', `10.77.0.${i + 1}/24`, 'dev', LINKS[i] as string);
      ip('-n', name, 'link', 'set', LINKS[i] as string, 'up');
      ip('-n', name, 'link', 'set', 'lo', 'up');
      ip('-n', name, 'route', 'add', 'default', 'dev', LINKS[i] as string);
    });
    return '';
  } catch (error) {
    return `no network namespaces can be made here: ${String(error).split('\n')[0]}`;
  }
}

function inHost(host: 0 | 1, ...args: string[]): Program {
  return start('ip', ['netns', 'exec', NAMES[host], process.execPath, CLI, ...args, '--json']);
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

describe('on a network', () => {
  it('devices find each other by multicast on the interface that they are told, and become equal', async (context) => {
    if (missing !== '') context.skip(missing);
    const [a, b] = [join(folder, 'a.db'), join(folder, 'b.db')];
    execute(
      a,
      "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO things (name) VALUES ('one'), ('two')",
    );
    expect((await run(inHost(0, 'init', a, '--name', 'first'))).code).toBe(0);
    const first = inHost(0, 'up', a, '--interface', LINKS[0]);
    await says(first, (event) => event.event === 'ready');

    const { stdout } = await run(inHost(0, 'invite', a));
    const invitation = JSON.parse(stdout) as Invitation;
    expect(invitation.addresses).toEqual([expect.stringMatching(/^\/ip4\/10\.77\.0\.1\/tcp\/\d+$/)]);
    expect(await run(inHost(1, 'join', invitation.text, b, '--name', 'second'))).toMatchObject({ code: 0, stderr: '' });
    // Without the address that it joined at, only multicast can tell where the other is.
    execFileSync('rm', [join(`${b}.flotilla`, 'peers.json')]);
    const second = inHost(1, 'up', b, '--interface', LINKS[1]);
    await says(second, (event) => event.event === 'discovered' && event.via === 'mdns');
    await untilColumn(b, 'SELECT name FROM things ORDER BY name', ['one', 'two']);

    execute(b, "INSERT INTO things (name) VALUES ('three')");
    await untilColumn(a, 'SELECT name FROM things ORDER BY id', ['one', 'two', 'three']);
    second.signal('SIGTERM');
    expect(await second.ended).toBe(0);
    first.signal('SIGTERM');
    expect(await first.ended).toBe(0);
    expect(column(a, 'SELECT count(*) FROM things')).toEqual([3]);
  });

  it('an interface that is not there is named, and the node goes on without discovery', async (context) => {
    if (missing !== '') context.skip(missing);
    const c = join(folder, 'c.db');
    execute(c, 'CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)');
    expect((await run(inHost(0, 'init', c))).code).toBe(0);
    const node = inHost(0, 'up', c, '--interface', 'none0');
    const notice = await says(node, (event) => event.event === 'notice');
    expect(notice).toContain('none0');
    node.signal('SIGTERM');
    expect(await node.ended).toBe(0);
  });
});
