import { describe, expect, it } from 'vitest';
import type {
  Examination,
  Invitation,
  JoinReport,
  NodeStatus,
  Pairing,
  PeerStatus,
  VerifyReport,
} from '../../src/index.ts';
import type { Api } from '../../src/cli/context.ts';
import { drawQr } from '../../src/cli/invite.ts';
import { run } from '../../src/cli/program.ts';
import { FlotillaError } from '../../src/errors.ts';
import { fakeApi, FakeIo, initReport, ME, nodeStatus, OTHER, PEER, progress } from './cli-fakes.ts';

async function running(
  argv: readonly string[],
  api: Partial<Api>,
  terminal?: { columns: number; rows: number },
): Promise<{ io: FakeIo; code: number; text: string }> {
  const io = new FakeIo(terminal === undefined ? {} : { terminal });
  const code = await run(argv, io, fakeApi(api));
  expect(io.stderr.text).toBe('');
  return { io, code, text: io.stdout.text };
}

/** The line that contains a text, with single blanks. */
function lineWith(text: string, part: string): string {
  const line = text.split('\n').find((one) => one.includes(part));
  return (line ?? '').replaceAll('│', ' ').replaceAll(/\s+/g, ' ').trim();
}

describe('init', () => {
  it('prints what syncs, then what does not and why', async () => {
    const { code, text } = await running(['init', 'files.db'], { initLibrary: () => Promise.resolve(initReport()) });
    expect(code).toBe(0);
    expect(lineWith(text, 'ownership')).toBe('table ownership identity references rows');
    expect(lineWith(text, 'uuid v7')).toBe('entries shared uuid v7 parent_id → entries, volume_id → volumes 182,530');
    expect(text).toContain('Does not sync:\n  log: it has no primary key\n  entries.seen_at: local by configuration\n');
    expect(text).toContain('files.db is library aaaa now; 182,532 rows that were there will sync.');
    expect(text.indexOf('Does not sync')).toBeGreaterThan(text.indexOf('uuid v7'));
  });

  it('says so when there was nothing to do', async () => {
    const report = initReport({ created: false });
    const { text } = await running(['init', 'files.db'], { initLibrary: () => Promise.resolve(report) });
    expect(text).toContain('files.db was library aaaa already; nothing was changed.');
  });

  it('gives machines the report, on one line', async () => {
    const { io } = await running(['init', 'x', '--json'], { initLibrary: () => Promise.resolve(initReport()) });
    expect(io.stdout.json).toEqual([initReport()]);
  });
});

describe('own', () => {
  const owned = { table: 'volumes', uuid: 'u', device: ME, previous: PEER, changed: true };

  it('says whose the row is now, and whose no more', async () => {
    const given: unknown[] = [];
    const ownRow = (...args: unknown[]): Promise<typeof owned> => (given.push(args), Promise.resolve(owned));
    const { code, text } = await running(['own', 'files.db', 'volumes', '7', '--for', 'laptop'], { ownRow });
    expect(code).toBe(0);
    expect(given).toEqual([['files.db', 'volumes', '7', { device: 'laptop' }]]);
    expect(text).toContain('volumes 7 belongs to …11111111 from now on, and to …22222222 no more.');
  });

  it('says so when nothing was to do, and gives machines the answer', async () => {
    const ownRow = (): Promise<typeof owned> => Promise.resolve({ ...owned, changed: false });
    expect((await running(['own', 'f', 'volumes', '7'], { ownRow })).text).toBe(
      'volumes 7 belongs to …11111111 already.\n',
    );
    expect((await running(['own', 'f', 'volumes', '7', '--json'], { ownRow })).io.stdout.json).toEqual([
      { ...owned, changed: false },
    ]);
  });
});

describe('pair', () => {
  /** A code on show, and the ways to end it. */
  function shown() {
    let letIn = (_: { device: string; name: string }): void => {};
    let refuse = (_: Error): void => {};
    const joined = new Promise<{ device: string; name: string }>((resolve, reject) => {
      letIn = resolve;
      refuse = reject;
    });
    let closes = 0;
    const close = async (): Promise<void> => {
      closes += 1;
      refuse(new FlotillaError('CODE_REFUSED', 'The code is not shown any more.'));
    };
    const pairing: Pairing = { code: '012345', expiresAt: Date.UTC(2030, 0, 1, 0, 5), joined, close };
    return { pairing, letIn, closes: () => closes };
  }

  it('shows the digits, says what to do with them, and then who came', async () => {
    const { pairing, letIn, closes } = shown();
    letIn({ device: PEER, name: 'phone' });
    const { code, text } = await running(['pair', 'files.db'], { pairDevice: () => Promise.resolve(pairing) });
    expect(code).toBe(0);
    expect(text).toBe(
      '012 345\n\nOn the other device, in the same network: flotilla join 012345 files.db\n' +
        'Works once, for 5 min, while this runs; Ctrl+C takes it back.\nphone (…22222222) is a member now.\n',
    );
    expect(closes()).toBe(1);
  });

  it('takes the code back when it is asked to end, and fails when the code is void', async () => {
    const io = new FakeIo();
    const first = shown();
    const ending = run(
      ['pair', 'files.db', '--json'],
      io,
      fakeApi({ pairDevice: () => Promise.resolve(first.pairing) }),
    );
    while (io.signals.size === 0) await new Promise(setImmediate);
    io.signal('SIGINT');
    expect(await ending).toBe(0);
    expect(io.stdout.json).toEqual([{ event: 'code', code: '012345', expiresAt: first.pairing.expiresAt }]);
    const second = shown();
    await second.pairing.close();
    const other = new FakeIo();
    expect(await run(['pair', 'f'], other, fakeApi({ pairDevice: () => Promise.resolve(second.pairing) }))).toBe(1);
    expect(other.stderr.text).toBe('flotilla: The code is not shown any more.\n');
  });
});

describe('invite', () => {
  const invitation: Invitation = {
    text: `flotilla1-${'abcdefgh'.repeat(20)}`,
    libraryId: 'aaaa',
    device: ME,
    addresses: [`/ip4/192.0.2.1/tcp/4001/p2p/${ME}`],
    expiresAt: Date.UTC(2030, 0, 1, 0, 15),
    nodeRunning: true,
  };
  const createInvitation = (): Promise<Invitation> => Promise.resolve(invitation);

  it('prints the text, expiry and addresses; no code into a pipe', async () => {
    const { text } = await running(['invite', 'files.db'], { createInvitation });
    expect(text.split('\n')[0]).toBe(invitation.text);
    expect(text).toContain('for 15 min (until 2030-01-01T00:15:00.000Z)');
    expect(text).toContain(`  /ip4/192.0.2.1/tcp/4001/p2p/${ME}`);
    expect(text).not.toContain('█');
    expect(text).not.toContain('No node is running');
  });

  it('draws the code on a terminal that is wide enough, and with --qr anywhere', async () => {
    const code = drawQr(invitation.text).join('\n');
    const wide = await running(['invite', 'x'], { createInvitation }, { columns: 120, rows: 60 });
    expect(wide.text).toContain(code);
    const narrow = await running(['invite', 'x'], { createInvitation }, { columns: 40, rows: 60 });
    expect(narrow.text).not.toContain('█');
    expect(narrow.text).toMatch(/The QR code needs \d+ columns/);
    const forced = await running(['invite', 'x', '--qr'], { createInvitation });
    expect(forced.text).toContain(code);
  });

  it('says that a node must be started when none runs', async () => {
    const { text } = await running(['invite', 'files.db'], {
      createInvitation: () => Promise.resolve({ ...invitation, nodeRunning: false, addresses: [] }),
    });
    expect(text).toContain('No node is running here, so nobody can use it yet. Start one: flotilla up files.db');
  });

  it('gives machines the invitation alone', async () => {
    const { io } = await running(['invite', 'x', '--json', '--qr'], { createInvitation }, { columns: 120, rows: 60 });
    expect(io.stdout.json).toEqual([invitation]);
  });
});

describe('join', () => {
  const report: JoinReport = {
    libraryId: 'aaaa',
    device: ME,
    invitedBy: PEER,
    created: true,
    omitted: [{ name: 'spy', reason: 'a trigger that writes to another table' }],
    init: initReport({ stampedRows: 0 }),
  };

  it('tells what was taken over, what was not, and what comes next', async () => {
    const { text, code } = await running(['join', 'i', 'files.db'], { joinLibrary: () => Promise.resolve(report) });
    expect(code).toBe(0);
    expect(text).toContain('  spy: a trigger that writes to another table');
    expect(text).toContain('files.db, made now, is part of library aaaa.');
    expect(text).toContain('This device is …11111111, let in by …22222222.');
    expect(text).toContain('Next: flotilla up files.db');
  });

  it('gives machines the report', async () => {
    const { io } = await running(['join', 'i', 'x', '--json'], { joinLibrary: () => Promise.resolve(report) });
    expect(io.stdout.json).toEqual([report]);
  });
});

describe('status', () => {
  const peer: PeerStatus = {
    device: PEER,
    name: 'nas',
    state: 'backfill',
    via: 'mdns',
    progress: progress(45_000, 182_530, 52_000, 3),
    code: '',
    reason: '',
    inSync: false,
    differences: [],
    heldUp: 'A row of entries is too large to be sent.',
  };
  const library = nodeStatus({}).library;
  const status: NodeStatus = nodeStatus({
    peers: [
      peer,
      {
        ...peer,
        device: OTHER,
        name: '',
        state: 'refused',
        via: 'address',
        progress: null,
        code: '',
        reason: 'not a member',
      },
    ],
    library: {
      ...library,
      acks: { [PEER]: { position: 150, complete: false, at: 1 } },
      waiting: Array.from({ length: 25 }, (_, index) => ({
        table: 'entries',
        uuid: `uuid-${index}`,
        reason: 'missing-target' as const,
        detail: 'its parent is not here yet',
      })),
      waitingCount: 130,
    },
  });
  const readStatus = (): Promise<NodeStatus> => Promise.resolve(status);

  it('summarises library, tables, devices, waiting rows and counters', async () => {
    const { text, code } = await running(['status', 'files.db'], { readStatus });
    expect(code).toBe(0);
    expect(text).toContain('library    aaaa in files.db');
    expect(text).toContain('node       running');
    expect(lineWith(text, 'entries │')).toBe('entries shared 182,530');
    expect(lineWith(text, 'this device')).toBe('laptop …11111111 this device');
    expect(lineWith(text, 'nas')).toBe(
      'nas …22222222 backfill change 150 of 200 45,000 of 182,530 rows, 52,000 rows/s, 3 s left, via mdns',
    );
    expect(lineWith(text, 'refused')).toBe('…33333333 refused not a member, via address');
    expect(text).toContain('Waiting: 130 rows\n  entries uuid-0: missing-target: its parent is not here yet');
    expect(text).toContain('  … and 110 rows more');
    // Once, however many peers it is too large for.
    expect(text.split('A row of entries is too large to be sent.')).toHaveLength(2);
    expect(lineWith(text, 'batches')).toBe('batches 183 7');
    expect(lineWith(text, 'look-up queries')).toBe('look-up queries 180 6');
    expect(text).toContain('coordination data: 12.3 kB');
  });

  it('works for a library whose node does not run', async () => {
    const stopped = nodeStatus({ running: false, device: '', addresses: [], library: { ...library, members: [] } });
    const { text, code } = await running(['status', 'x'], { readStatus: () => Promise.resolve(stopped) });
    expect(code).toBe(0);
    expect(text).toContain('device     not set up here yet');
    expect(text).toContain('node       not running');
    expect(text).toContain('No device is a member yet.');
  });

  it('says when a member has everything', async () => {
    const done = nodeStatus({ library: { ...library, acks: { [PEER]: { position: 200, complete: true, at: 1 } } } });
    const { text } = await running(['status', 'x'], { readStatus: () => Promise.resolve(done) });
    expect(lineWith(text, 'nas')).toBe('nas …22222222 not connected everything');
  });

  it('says so too when the rest came from that member itself, which ACKs nothing of its own', async () => {
    const inSync = nodeStatus({
      peers: [{ ...peer, state: 'live', progress: null, inSync: true }],
      library: { ...library, acks: { [PEER]: { position: 2, complete: true, at: 1 } } },
    });
    const { text } = await running(['status', 'x'], { readStatus: () => Promise.resolve(inSync) });
    expect(lineWith(text, 'nas')).toBe('nas …22222222 live, in sync everything via mdns');
  });

  it('gives machines the whole status and the sums', async () => {
    const { io } = await running(['status', 'x', '--json'], { readStatus });
    expect(io.stdout.json).toEqual([
      {
        ...status,
        batches: 190,
        batchesIn: 183,
        batchesOut: 7,
        lookupQueries: 186,
        lookupQueriesIn: 180,
        lookupQueriesOut: 6,
        coordinationBytes: 12_345,
      },
    ]);
  });
});

describe('verify', () => {
  const good: VerifyReport = {
    ok: true,
    foreignKeyViolations: [],
    integrity: [],
    compared: true,
    peers: [{ device: PEER, name: 'nas', identical: true, differences: [], error: '' }],
  };
  const verifying = (report: VerifyReport): Partial<Api> => ({ verifyLibrary: () => Promise.resolve(report) });

  it('exits 0 when nothing is wrong', async () => {
    const { text, code } = await running(['verify', 'x'], verifying(good));
    expect(code).toBe(0);
    expect(text).toBe('foreign keys: ok\nintegrity: ok\nnas (…22222222): identical\nNothing wrong was found.\n');
  });

  it('exits 1 and names what differs', async () => {
    const differences = Array.from({ length: 22 }, (_, index) => ({
      table: 'entries',
      uuid: `uuid-${index}`,
      difference: 'only here' as const,
    }));
    const { text, code } = await running(
      ['verify', 'x'],
      verifying({
        ...good,
        ok: false,
        foreignKeyViolations: ['entries 7 → volumes'],
        peers: [
          { device: PEER, name: 'nas', identical: false, differences, error: '' },
          { device: OTHER, name: 'box', identical: false, differences: [], error: 'it went away' },
        ],
      }),
    );
    expect(code).toBe(1);
    expect(text).toContain('foreign keys: 1 problem\n  entries 7 → volumes\n');
    expect(text).toContain('nas (…22222222): differs\n  entries uuid-0: only here\n');
    expect(text).toContain('  … and 2 rows more (see --json)');
    expect(text).toContain('box (…33333333): could not be compared: it went away');
  });

  it('says when nothing could be compared', async () => {
    const { text } = await running(['verify', 'x.db'], verifying({ ...good, compared: false, peers: [] }));
    expect(text).toContain('peers: not compared, since no node is running. Start one: flotilla up x.db');
  });

  it('gives machines the report, with the same exit code', async () => {
    const bad = { ...good, ok: false, integrity: ['page 3 is broken'] };
    const { io, code } = await running(['verify', 'x', '--json'], verifying(bad));
    expect(code).toBe(1);
    expect(io.stdout.json).toEqual([bad]);
  });
});

describe('doctor', () => {
  const good: Examination = {
    initialised: false,
    libraryId: '',
    ok: true,
    tables: initReport().tables,
    findings: [{ level: 'advice', rule: 'journal-mode', table: '', message: 'The file is in another mode.' }],
  };
  const examining = (examination: Examination): Partial<Api> => ({
    examineLibrary: () => Promise.resolve(examination),
  });

  it('shows what syncs, what is worth knowing, and exits 0', async () => {
    const { text, code } = await running(['doctor', 'x.db'], examining(good));
    expect(code).toBe(0);
    expect(lineWith(text, 'uuid v7')).toMatch(/^entries shared uuid v7/);
    expect(text).toContain('Worth knowing:\n  - The file is in another mode.\n');
    expect(text).toContain('Nothing is wrong. Next: flotilla init x.db\n');
    expect(text).not.toContain('Cannot sync');
  });

  it('exits 1 where init would refuse or rows refer to nothing, and puts that first', async () => {
    const findings: Examination['findings'] = [
      ...good.findings,
      { level: 'problem', rule: 'foreign-key', table: 'c', message: '2 rows refer to nothing.' },
      { level: 'refusal', rule: 'no-primary-key', table: 'log', message: 'It has no\u001B[2J primary key.' },
    ];
    const { text, code } = await running(['doctor', 'x'], examining({ ...good, ok: false, findings }));
    expect(code).toBe(1);
    expect(text).toContain('Cannot sync, so that "flotilla init" refuses the file:\n  - It has no?[2J primary key.\n');
    expect(text.indexOf('Cannot sync')).toBeLessThan(text.indexOf('Wrong:\n  - 2 rows refer to nothing.'));
    expect(text).toContain('Something is wrong: see above.');
  });

  it('gives machines the examination, with the same exit code', async () => {
    const { io, code } = await running(['doctor', 'x', '--json'], examining({ ...good, ok: false }));
    expect(code).toBe(1);
    expect(io.stdout.json).toEqual([{ ...good, ok: false }]);
  });
});
