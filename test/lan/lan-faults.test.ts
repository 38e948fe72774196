/**
 * Hosts on one bridge, with multicast between them, whose cables are pulled, slowed down and lossy, and one behind a router that translates
 * its address. Whatever the network does, all copies end equal.
 */
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { Invitation, NodeEvent } from '../../src/api.ts';
import { endEverything, execute, run, testFolder, untilColumn } from '../support/command.ts';
import type { Program } from '../support/command.ts';
import {
  BEHIND,
  ON_BRIDGE,
  inHost,
  loseSome,
  lostBy,
  makeBehind,
  makeHosts,
  missingFilter,
  plugged,
  removeHosts,
  slowDown,
} from '../support/hosts.ts';
import type { HostNumber } from '../support/hosts.ts';

/** Until something has come through a bad network, ms: a dead link is noticed after some 15 s, and dialled again within a minute. */
const ARRIVAL_MS = 100_000;
const NAMES = 'SELECT name FROM things ORDER BY name';

let missing = '';
let folder: string;
const nodes = new Map<HostNumber, Program>();
const names: string[] = [];

beforeAll(() => {
  missing = makeHosts();
  folder = testFolder();
});
afterAll(() => {
  endEverything();
  removeHosts();
});

const fileOf = (host: HostNumber): string => join(folder, `${host}.db`);

async function up(host: HostNumber): Promise<void> {
  const program = inHost(host, 'up', fileOf(host));
  await program.line((line) => (JSON.parse(line) as NodeEvent).event === 'ready');
  nodes.set(host, program);
}

async function letIn(host: HostNumber): Promise<void> {
  const { stdout } = await run(inHost(0, 'invite', fileOf(0)));
  const { text } = JSON.parse(stdout) as Invitation;
  expect(await run(inHost(host, 'join', text, fileOf(host), '--name', `host ${host}`))).toMatchObject({ code: 0 });
  await up(host);
}

function add(host: HostNumber, name: string): void {
  execute(fileOf(host), `INSERT INTO things (name) VALUES ('${name}')`);
  names.push(name);
}

async function allHave(): Promise<void> {
  for (const host of nodes.keys()) await untilColumn(fileOf(host), NAMES, names.toSorted(), ARRIVAL_MS);
}

/** What a node has said so far, so that one waits for what comes after it. */
function later(host: HostNumber): (fits: (event: NodeEvent) => boolean) => Promise<string> {
  const program = nodes.get(host) as Program;
  const seen = program.lines.length;
  return (fits) =>
    program.line((line) => program.lines.indexOf(line) >= seen && fits(JSON.parse(line) as NodeEvent), ARRIVAL_MS);
}

const isLost = (event: NodeEvent): boolean => event.event === 'peer' && event.state === 'backoff';

describe('on a bridge', () => {
  it('devices find each other by multicast, whoever let them in', async (context) => {
    if (missing !== '') context.skip(missing);
    execute(fileOf(0), 'CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, data BLOB)');
    expect((await run(inHost(0, 'init', fileOf(0), '--name', 'host 0'))).code).toBe(0);
    await up(0);
    for (const host of [1, 2] as const) await letIn(host);
    for (const host of ON_BRIDGE) add(host, `of ${host}`);
    await allHave();
    const found = (event: NodeEvent): boolean => event.event === 'discovered' && event.via === 'mdns';
    for (const host of ON_BRIDGE) await nodes.get(host)?.line((line) => found(JSON.parse(line) as NodeEvent));
  });

  it('a cable that is pulled costs nothing: both sides write on, and are equal when it is back', async (context) => {
    if (missing !== '') context.skip(missing);
    const lost = later(0);
    plugged(1, false);
    add(1, 'written alone');
    add(0, 'written without 1');
    await lost(isLost);
    await untilColumn(fileOf(2), NAMES, names.filter((name) => name !== 'written alone').toSorted(), ARRIVAL_MS);
    plugged(1, true);
    await allHave();
  });

  it('what is written while a cable is pulled and put back again and again arrives', async (context) => {
    if (missing !== '') context.skip(missing);
    for (let i = 0; i < 6; i += 1) {
      plugged(2, i % 2 === 1);
      add(2, `flutter ${i}`);
      add(0, `flutter of 0: ${i}`);
      await untilColumn(fileOf(1), `SELECT 1 FROM things WHERE name = 'flutter of 0: ${i}'`, [1], ARRIVAL_MS);
    }
    await allHave();
  });

  it('a slow link only takes its time', async (context) => {
    if (missing !== '') context.skip(missing);
    for (const host of [0, 1] as const) slowDown(host, '2mbit');
    execute(fileOf(0), "INSERT INTO things (name, data) SELECT 'slow', randomblob(500000)");
    names.push('slow');
    await allHave();
  });

  it('one packet of ten that is lost costs nothing', async (context) => {
    if (missing !== '' || missingFilter() !== '') context.skip(missing || missingFilter());
    loseSome(1, 10);
    for (let i = 0; i < 20; i += 1) {
      add(0, `lossy ${i}`);
      add(1, `lossy of 1: ${i}`);
      await allHave();
    }
    expect(lostBy(1)).toBeGreaterThan(0);
  });
});

describe('behind a router that translates addresses', () => {
  it('a device joins and syncs with those before it, both ways, though none of them can dial it', async (context) => {
    if (missing !== '' || missingFilter() !== '') context.skip(missing || missingFilter());
    makeBehind();
    await letIn(BEHIND);
    add(BEHIND, 'from behind');
    add(2, 'to whom is behind');
    await allHave();
  });

  it('and is back by itself when its cable was pulled', async (context) => {
    if (missing !== '' || missingFilter() !== '') context.skip(missing || missingFilter());
    const lost = later(BEHIND);
    plugged(BEHIND, false);
    add(BEHIND, 'alone behind');
    add(1, 'before the router');
    await lost(isLost);
    plugged(BEHIND, true);
    await allHave();
  });

  it('all end with their copies whole', async (context) => {
    if (missing !== '') context.skip(missing);
    for (const program of nodes.values()) program.signal('SIGTERM');
    for (const [host, program] of nodes) {
      expect(await program.ended, program.stderr()).toBe(0);
      await untilColumn(fileOf(host), 'PRAGMA integrity_check', ['ok']);
    }
  });
});
