import { describe, expect, it } from 'vitest';
import type { Api } from '../../src/cli/context.ts';
import { withEvent } from '../../src/cli/peer-list.ts';
import { plainLine } from '../../src/cli/plain-view.ts';
import { run } from '../../src/cli/program.ts';
import { statusLines } from '../../src/cli/status.ts';
import type { DeviceInfo, DeviceList, LeaveReport, NodeEvent, Revoked } from '../../src/index.ts';
import { fakeApi, FakeIo, FakeNode, ME, nodeStatus, OTHER, PEER } from './cli-fakes.ts';

async function running(
  argv: readonly string[],
  api: Partial<Api>,
): Promise<{ io: FakeIo; code: number; text: string }> {
  const io = new FakeIo();
  const code = await run(argv, io, fakeApi(api));
  return { io, code, text: io.stdout.text };
}

/** The line that contains a text, with single blanks. */
function lineWith(text: string, part: string): string {
  const line = text.split('\n').find((one) => one.includes(part));
  return (line ?? '').replaceAll('│', ' ').replaceAll(/\s+/g, ' ').trim();
}

const NOW = Date.UTC(2030, 0, 1);
const FIRST: DeviceInfo = {
  device: ME,
  name: 'laptop',
  isSelf: true,
  invitedBy: '',
  invitedByName: '',
  addedAt: Date.UTC(2029, 0, 1),
  revoked: null,
  connected: false,
  lastSeen: null,
};
const LET_IN: DeviceInfo = {
  ...FIRST,
  device: PEER,
  name: 'nas',
  isSelf: false,
  invitedBy: ME,
  invitedByName: 'laptop',
};
const LIST: DeviceList = {
  devices: [
    FIRST,
    { ...LET_IN, connected: true, lastSeen: NOW },
    {
      ...LET_IN,
      device: OTHER,
      name: 'phone\u001b[2J',
      lastSeen: NOW - 3_600_000,
      revoked: { by: ME, byName: 'laptop', at: NOW },
    },
    { ...LET_IN, device: 'gone', name: 'old', invitedByName: '', revoked: { by: 'gone', byName: 'old', at: NOW } },
  ],
};

describe('devices', () => {
  const listDevices = (): Promise<DeviceList> => Promise.resolve(LIST);

  it('tells of each by whom it was let in, when it was seen, and whether it is gone', async () => {
    const { code, text } = await running(['devices', 'files.db'], { listDevices });
    expect(code).toBe(0);
    expect(lineWith(text, 'laptop')).toBe(`laptop ${ME} 2029-01-01, the first this device`);
    expect(lineWith(text, PEER)).toBe(`nas ${PEER} 2029-01-01 by laptop connected`);
    expect(lineWith(text, OTHER)).toBe(`phone?[2J ${OTHER} 2029-01-01 by laptop 1 h ago removed 2030-01-01 by laptop`);
    expect(lineWith(text, 'old')).toBe('old gone 2029-01-01 by …11111111 never left 2030-01-01');
  });

  it('gives machines the list', async () => {
    const { io } = await running(['devices', 'files.db', '--json'], { listDevices });
    expect(io.stdout.json).toEqual([LIST]);
  });
});

describe('revoke', () => {
  const revoked: Revoked = { device: PEER, name: 'nas', changed: true };

  it('says what is so now, and how to take it back', async () => {
    const asked: unknown[] = [];
    const revokeDevice = (...args: unknown[]): Promise<Revoked> => (asked.push(args), Promise.resolve(revoked));
    const { code, text } = await running(['revoke', 'files.db', 'nas', '--home', 'h'], { revokeDevice });
    expect([code, asked]).toEqual([0, [['files.db', 'nas', { home: 'h' }]]]);
    expect(text).toContain('nas (…22222222) is a member no more. It keeps the copy that it has.');
    expect(text).toContain('To let it in again: flotilla invite files.db');
  });

  it('says so when nothing was to do, and gives machines the answer', async () => {
    const revokeDevice = (): Promise<Revoked> => Promise.resolve({ ...revoked, changed: false });
    expect((await running(['revoke', 'x', 'nas'], { revokeDevice })).text).toBe(
      'nas (…22222222) is a member no more already.\n',
    );
    const { io } = await running(['revoke', 'x', 'nas', '--json'], { revokeDevice });
    expect(io.stdout.json).toEqual([{ ...revoked, changed: false }]);
  });
});

describe('leave', () => {
  const nas = { device: PEER, name: 'nas' };
  const phone = { device: OTHER, name: 'phone' };
  const left = (report: LeaveReport) => running(['leave', 'files.db'], { leaveLibrary: () => Promise.resolve(report) });

  it('says who was told, and what stays', async () => {
    const { code, text } = await left({ told: [nas], untold: [phone] });
    expect(code).toBe(0);
    expect(text).toContain('Told: nas (…22222222)');
    expect(text).toContain('Not in reach, and told by the others: phone (…33333333)');
    expect(text).toContain('files.db keeps its rows');
  });

  it('says what to do when nobody was in reach', async () => {
    expect((await left({ told: [], untold: [phone] })).text).toContain('Until somebody runs "flotilla revoke" there');
    expect((await left({ told: [], untold: [] })).text).not.toContain('reach');
  });
});

describe('up', () => {
  const gone = (by: string): NodeEvent => ({ event: 'revoked', device: PEER, name: 'nas', by, byName: 'laptop' });

  it('tells who was removed by whom, who has left, and shows him no more', () => {
    expect(plainLine(gone(ME))).toBe('nas (…22222222) was removed from the library by laptop (…11111111)');
    expect(plainLine(gone(PEER))).toBe('nas (…22222222) has left the library');
    const list = withEvent(new Map(), { event: 'joined', device: PEER, name: 'nas' });
    expect([list.size, withEvent(list, gone(ME)).size]).toEqual([1, 0]);
  });

  it('ends well when the device leaves', async () => {
    const io = new FakeIo();
    const node = new FakeNode();
    const exited = run(['up', 'x', '--json'], io, fakeApi({ openNode: () => Promise.resolve(node) }));
    await new Promise((resolve) => setImmediate(resolve));
    node.emit({ event: 'revoked', device: ME, name: 'laptop', by: ME, byName: 'laptop' });
    node.emit({ event: 'stopped' });
    expect(await exited).toBe(0);
  });
});

describe('status', () => {
  it('[P3] tells of records that do not count', () => {
    const status = nodeStatus({});
    const lines = (uncountedRecords: number): string =>
      statusLines({ ...status, library: { ...status.library, uncountedRecords } }).join('\n');
    expect(lines(2)).toContain('2 records of membership signed by devices that are no members: not counted');
    expect(lines(0)).not.toContain('membership');
  });
});
