/**
 * `up` and `status` as programs and people read them, the ways in which a node ends, and that it can be started again
 * whatever ended it.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Device, waitUntilQuiet } from '../../examples/fleet.ts';
import { openLibrary } from '../../examples/file-library/library.ts';
import type { StatusReport } from '../../examples/support.ts';
import type { NodeEvent } from '../../src/index.ts';
import {
  endEverything,
  execute,
  flotillaCommand,
  flotillaJson,
  type Program,
  startFlotilla,
  testFolder,
} from '../support/command.ts';
import { ARRIVAL_MS, untilState } from '../support/devices.ts';

const folder = testFolder();
const first = new Device(folder, 'first');
const second = new Device(folder, 'second');

const up = (...options: string[]): Program => startFlotilla(['up', first.library, '--local-only', ...options]);
const isReady = (line: string): boolean => line.includes('"event":"ready"');

/** Every event and its fields; more than that is nobody's to rely on. */
const FIELDS: Record<NodeEvent['event'], readonly string[]> = {
  ready: ['device', 'library', 'addresses'],
  notice: ['message'],
  discovered: ['device', 'via'],
  peer: ['device', 'name', 'state', 'code', 'reason'],
  progress: ['device', 'name', 'progress'],
  applied: ['device', 'rows', 'changed', 'complete'],
  joined: ['device', 'name'],
  revoked: ['device', 'name', 'by', 'byName'],
  stopped: [],
};

beforeAll(async () => {
  openLibrary(first.library).close();
  execute(first.library, "INSERT INTO tags (name) VALUES ('one'), ('two')");
  await first.init();
});
afterAll(endEverything);

describe('status', () => {
  it('shows library, device and rows while no node runs', async () => {
    const status = await flotillaJson<StatusReport>(['status', first.library]);
    expect(status).toMatchObject({
      file: first.library,
      running: false,
      name: 'first',
      addresses: [],
      peers: [],
      library: { rows: 2, tombstones: 0, waitingCount: 0, unstamped: 0 },
    });
    expect(status.library.members).toMatchObject([{ device: status.device, name: 'first', invitedBy: '' }]);
    expect(status.library.tables).toContainEqual({ table: 'tags', ownership: 'shared', rows: 2 });
  });

  it('shows sessions, counters and ACKs while the node runs, to machines and to people', async () => {
    await first.start([]);
    await second.join(first);
    await second.start([]);
    await Promise.all([untilState(first, second, 'live'), untilState(second, first, 'live')]);
    const { reports, restless } = await waitUntilQuiet([second], ARRIVAL_MS);
    expect(restless).toEqual([]);
    const [status] = reports as [StatusReport];
    expect(status).toMatchObject({ running: true, device: second.id, name: 'second', addresses: second.addresses });
    expect(status.peers).toMatchObject([{ device: first.id, name: 'first', state: 'live', reason: '', inSync: true }]);
    expect(status.library.acks[first.id]).toMatchObject({ complete: true });
    expect(status.batches).toBeGreaterThan(0);
    expect(status.lookupQueries).toBeLessThanOrEqual(status.batches);
    expect(status).toEqual(
      expect.objectContaining({ coordinationBytes: expect.any(Number), maxEventLoopDelayMs: expect.any(Number) }),
    );
    const { code, stdout, stderr } = await flotillaCommand(['status', second.library]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/node +running/);
    expect(stdout).toMatch(/first .*live, in sync/);
    expect(stdout).toMatch(/look-up queries/);
  });
});

describe('up', () => {
  it('in a pipe says plain lines, beginning with who it is and where it listens', async () => {
    await second.node.terminate();
    const program = startFlotilla(['up', second.library, '--local-only']);
    await program.line((line) => /^first .*: live$/.test(line));
    program.signal('SIGTERM');
    expect(await program.ended).toBe(0);
    expect(program.stderr()).toBe('');
    expect(program.lines[0]).toMatch(/^Flotilla is up: device …\w+, library [0-9a-f]{32}$/);
    expect(program.lines[1]).toMatch(/^ {2}listening on \/ip4\/127\.0\.0\.1\/tcp\/\d+\/p2p\/\w+$/);
    expect(program.lines.at(-1)).toBe('Flotilla has stopped.');
    // No colours, no picture: nobody watches a pipe.
    expect(program.lines.join('\n')).not.toMatch(new RegExp(String.fromCharCode(27)));
  });

  it('with --json prints nothing but events, one a line, from ready to stopped; SIGINT ends it well', async () => {
    await first.node.terminate();
    const program = up('--json');
    await program.line(isReady);
    await second.start([]);
    execute(second.library, "INSERT INTO tags (name) VALUES ('three')");
    await program.line((line) => line.includes('"event":"applied"'));
    program.signal('SIGINT');
    expect(await program.ended).toBe(0);
    expect(program.stderr()).toBe('');
    const events = program.lines.map((line) => JSON.parse(line) as NodeEvent);
    for (const { event, ...fields } of events) expect(Object.keys(fields), event).toEqual(FIELDS[event]);
    expect(events[0]?.event).toBe('ready');
    expect(events.at(-1)).toEqual({ event: 'stopped' });
    expect(events.filter(({ event }) => ['ready', 'stopped'].includes(event))).toHaveLength(2);
  });
});

describe('a node that was killed', () => {
  it('leaves nothing behind that keeps the next one from starting', async () => {
    const killed = up('--json');
    await killed.line(isReady);
    const socket = join(`${first.library}.flotilla`, 'control.sock');
    killed.signal('SIGKILL');
    expect(await killed.ended).toBe('SIGKILL');
    expect(existsSync(socket)).toBe(true);
    const status = await flotillaJson<StatusReport>(['status', first.library]);
    expect(status.running).toBe(false);
    const next = up('--json');
    const [before, after] = [await killed.line(isReady), await next.line(isReady)];
    // The same device at the same address, so that others find it where it was.
    expect(JSON.parse(after)).toEqual(JSON.parse(before));
    next.signal('SIGTERM');
    expect(await next.ended).toBe(0);
    expect(existsSync(socket)).toBe(false);
  });
});
