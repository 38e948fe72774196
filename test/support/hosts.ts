/**
 * Hosts with addresses of their own, in network namespaces: some on one bridge, one behind a router that translates addresses. Links are
 * cut, slowed down and made lossy. Needs root and iproute2; loss and translation need nft as well.
 */
import { execFileSync, spawnSync } from 'node:child_process';

import { messageOf } from '../../src/errors.ts';
import { commandFile } from '../../examples/support.ts';
import { start } from './command.ts';
import type { Program } from './command.ts';

/** A host on the bridge: 10.77.0.(number + 1). */
export const ON_BRIDGE = [0, 1, 2] as const;
/** The host behind the router: 10.88.0.2. */
export const BEHIND = 3;
export type HostNumber = (typeof ON_BRIDGE)[number] | typeof BEHIND;

const SWITCH = `flotilla${process.pid}s`;
const ROUTER = `flotilla${process.pid}r`;
const nameOf = (host: HostNumber): string => `flotilla${process.pid}h${host}`;
/** The end of a host's cable in the host, and the other one. */
const linkOf = (host: HostNumber): string => `fl${process.pid}h${host}`;
const portOf = (host: HostNumber): string => `fl${process.pid}p${host}`;
const OUTER = `fl${process.pid}ro`;
const OUTER_PORT = `fl${process.pid}po`;

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

function nft(name: string, rules: string): void {
  execFileSync('ip', ['netns', 'exec', name, 'nft', '-f', '-'], { input: rules, stdio: ['pipe', 'ignore', 'pipe'] });
}

/** Why addresses cannot be translated nor packets lost here; '' if they can. */
export function missingFilter(): string {
  return spawnSync('nft', ['--version']).status === 0
    ? ''
    : 'there is no nft here to lose packets and translate addresses';
}

/** Makes all hosts on the bridge. @returns why that cannot be done here; '' if it is done */
export function makeHosts(): string {
  try {
    ip('netns', 'add', SWITCH);
    ip('-n', SWITCH, 'link', 'add', 'name', 'br0', 'type', 'bridge');
    ip('-n', SWITCH, 'link', 'set', 'br0', 'up');
    for (const host of ON_BRIDGE) {
      plug(nameOf(host), linkOf(host), portOf(host), `10.77.0.${host + 1}/24`);
      ip('-n', nameOf(host), 'route', 'add', 'default', 'dev', linkOf(host));
    }
    return '';
  } catch (error) {
    return `no network namespaces can be made here: ${messageOf(error).split('\n').slice(0, 2).join(': ')}`;
  }
}

/** A namespace with one end of a cable, whose other end is in the bridge. */
function plug(name: string, link: string, port: string, address: string): void {
  ip('netns', 'add', name);
  ip('-n', name, 'link', 'set', 'lo', 'up');
  ip('link', 'add', link, 'netns', name, 'type', 'veth', 'peer', 'name', port, 'netns', SWITCH);
  ip('-n', SWITCH, 'link', 'set', port, 'master', 'br0', 'up');
  ip('-n', name, 'addr', 'add', address, 'dev', link);
  ip('-n', name, 'link', 'set', link, 'up');
}

/** Makes the host behind the router: it reaches those on the bridge, and none of them reaches it by itself. */
export function makeBehind(): void {
  plug(ROUTER, OUTER, OUTER_PORT, '10.77.0.9/24');
  const [name, link, port] = [nameOf(BEHIND), linkOf(BEHIND), portOf(BEHIND)];
  ip('netns', 'add', name);
  ip('-n', name, 'link', 'set', 'lo', 'up');
  ip('link', 'add', link, 'netns', name, 'type', 'veth', 'peer', 'name', port, 'netns', ROUTER);
  ip('-n', ROUTER, 'addr', 'add', '10.88.0.1/24', 'dev', port);
  ip('-n', ROUTER, 'link', 'set', port, 'up');
  ip('-n', name, 'addr', 'add', '10.88.0.2/24', 'dev', link);
  ip('-n', name, 'link', 'set', link, 'up');
  ip('-n', name, 'route', 'add', 'default', 'via', '10.88.0.1');
  execFileSync('ip', ['netns', 'exec', ROUTER, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']);
  nft(
    ROUTER,
    `table ip nat {
      chain out {
        type nat hook postrouting priority 100;
        oifname "${OUTER}" masquerade
      }
      chain through {
        type filter hook forward priority 0;
        iifname "${OUTER}" ct state new drop
      }
    }`,
  );
}

/** Removes all of it. */
export function removeHosts(): void {
  for (const name of [...ON_BRIDGE, BEHIND].map((host) => nameOf(host as HostNumber)).concat(ROUTER, SWITCH))
    spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
}

/** `flotilla <args> --json` on a host. */
export function inHost(host: HostNumber, ...args: string[]): Program {
  return start('ip', ['netns', 'exec', nameOf(host), process.execPath, commandFile(), ...args, '--json']);
}

/** Pulls the cable of a host out of the switch, or puts it back: the host itself does not notice. */
export function plugged(host: HostNumber, isIn: boolean): void {
  ip('-n', host === BEHIND ? ROUTER : SWITCH, 'link', 'set', portOf(host), isIn ? 'up' : 'down');
}

/** What a host sends leaves it at this rate. */
export function slowDown(host: HostNumber, rate: string): void {
  const args = ['netns', 'exec', nameOf(host), 'tc', 'qdisc', 'replace', 'dev', linkOf(host), 'root'];
  ip(...args, 'tbf', 'rate', rate, 'burst', '16kb', 'latency', '400ms');
}

/** So many of a hundred packets never reach a host. */
export function loseSome(host: HostNumber, percent: number): void {
  nft(
    nameOf(host),
    `table ip lossy {
      chain in {
        type filter hook input priority 0;
        iifname "${linkOf(host)}" numgen random mod 100 < ${percent} counter drop
      }
    }`,
  );
}

/** How many packets were lost so. */
export function lostBy(host: HostNumber): number {
  const rules = execFileSync('ip', ['netns', 'exec', nameOf(host), 'nft', 'list', 'table', 'ip', 'lossy']).toString();
  return Number(/counter packets (\d+)/.exec(rules)?.[1] ?? 0);
}
