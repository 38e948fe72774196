/**
 * A member that was taken over, and strangers, against a real node on loopback: whatever they send, the session ends with a code and
 * a reason, the node goes on, its library is as it was, and an honest member still syncs. Rule ids are those of docs/spec.md.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createInvitation, initLibrary, joinLibrary, openNode } from '../../src/index.ts';
import type { ErrorCode, FlotillaNode, NodeEvent } from '../../src/index.ts';
import { FRAME_BYTES, MAX_FRAME_BYTES } from '../../src/protocol/frames.ts';
import { HLC_PER_MS } from '../../src/protocol/hlc.ts';
import { MAX_STAMP_MESSAGES } from '../../src/protocol/stamp-set.ts';
import type { Batch, Frame } from '../../src/protocol/types.ts';
import { Attacker, makeAttackerHome } from '../support/attacker.ts';
import type { Wire } from '../support/attacker.ts';
import { toMessagePack } from '../support/wire/damage.ts';
import { wantAll } from '../support/wants.ts';

const SCHEMA = `
  CREATE TABLE things (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES things (id), name TEXT NOT NULL);
  CREATE TABLE tags (name TEXT PRIMARY KEY);
  INSERT INTO things VALUES (1, NULL, 'root'), (2, 1, 'leaf');
  INSERT INTO tags VALUES ('red');
`;
const FAR_MS = 3_600_000;

let folder: string;
let victim: FlotillaNode;
let honest: FlotillaNode;
let attacker: Attacker;
const events: NodeEvent[] = [];
const file = (name: string): string => join(folder, `${name}.db`);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flotilla-hostile-'));
  sql('victim', SCHEMA);
  await initLibrary(file('victim'), { name: 'victim' });
  victim = await openNode({ library: file('victim'), localOnly: true, discovery: false });
  victim.onEvent((event) => events.push(event));
  honest = await join_('honest').then(() => up('honest'));
  const key = await makeAttackerHome(file('attacker'), victim.device);
  await join_('attacker');
  attacker = await Attacker.start(key, victim.addresses());
  await when(victim, async () => (await stateOf(honest.device)) === 'live');
  await when(victim, async () => (await victim.status()).peers.some(({ device }) => device === attacker.device));
  // What is compared before and after an attack must not be on its way yet.
  while (!(await isInSync(victim, honest)) || !(await isInSync(honest, victim)));
});
afterAll(async () => {
  await attacker.stop();
  await Promise.all([victim.stop(), honest.stop()]);
  await rm(folder, { recursive: true, force: true });
});

function sql(name: string, text: string): void {
  const db = new Sqlite(file(name));
  db.exec(text);
  db.close();
}

async function join_(name: string): Promise<void> {
  const { text } = await createInvitation(file('victim'), { localOnly: true });
  await joinLibrary(text, file(name), { name, localOnly: true });
}

async function up(name: string): Promise<FlotillaNode> {
  return openNode({ library: file(name), localOnly: true, discovery: false });
}

async function stateOf(device: string): Promise<string> {
  return (await victim.status()).peers.find((peer) => peer.device === device)?.state ?? '';
}

async function isInSync(node: FlotillaNode, other: FlotillaNode): Promise<boolean> {
  const { peers, library } = await node.status();
  return library.members.length === 3 && peers.some(({ device, inSync }) => device === other.device && inSync);
}

/** Resolves when `condition` holds; looked at on every event of the node. */
function when(node: FlotillaNode, condition: () => boolean | Promise<boolean>): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      Promise.resolve(condition()).then((holds) => {
        if (!holds) return;
        stop();
        resolve();
      }, reject);
    };
    const stop = node.onEvent(look);
    look();
  });
}

/** What the library holds, but for what a session notes of its peers. */
function contents(name = 'victim'): string {
  const db = new Sqlite(file(name), { readonly: true });
  try {
    const tables = ['things', 'tags', 'flotilla_members', 'flotilla_tables', 'flotilla_columns', 'flotilla_runs'];
    const more = ['flotilla_knowledge', 'flotilla_pending', 'flotilla_tombstones'];
    return JSON.stringify([...tables, ...more].map((table) => db.prepare(`SELECT * FROM ${table}`).raw().all()));
  } finally {
    db.close();
  }
}

type Ended = Extract<NodeEvent, { event: 'peer' }>;

/** The end of the session that `attack` goes through, as the victim tells of it. */
async function endOf(attack: () => Promise<void>): Promise<Ended> {
  const from = events.length;
  // From its handshake on: until then, the victim may still be trying to reach the attacker by itself.
  const ended = (): Ended | undefined => {
    const fresh = events
      .slice(from)
      .filter((event): event is Ended => event.event === 'peer' && event.device === attacker.device);
    const begins = fresh.findIndex(({ state }) => state === 'handshake');
    return begins < 0 ? undefined : fresh.slice(begins).find(({ code }) => code !== '');
  };
  // The victim may cut the stream while something is still being sent: that is what is looked for.
  await attack().catch(() => {});
  await when(victim, () => ended() !== undefined);
  attacker.drop();
  return ended() as Ended;
}

/** The session ends so, and nothing has changed. */
async function expectEnd(attack: () => Promise<void>, code: ErrorCode, reason: RegExp): Promise<void> {
  const before = contents();
  const end = await endOf(attack);
  expect(end).toMatchObject({ code, reason: expect.stringMatching(reason) });
  expect((await victim.status()).peers.find(({ device }) => device === attacker.device)).toMatchObject({ code });
  expect(contents()).toBe(before);
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  expect(await stateOf(honest.device)).toBe('live');
}

const raw = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
const bytesOf = (type: number, fields: unknown): Uint8Array => Uint8Array.of(type, ...toMessagePack(fields));

describe('[H2] bytes that make no sense', () => {
  it.each<readonly [string, (wire: Wire) => Promise<void>, ErrorCode, RegExp]>([
    ['noise', (wire) => wire.packet(Uint8Array.of(1, ...randomBytes(40))), 'PROTOCOL', /./],
    ['a frame of no type', (wire) => wire.packet(raw('fa01')), 'PROTOCOL', /packet of 2 bytes|unknown type/],
    ['an empty frame', (wire) => wire.packet(new Uint8Array(0)), 'PROTOCOL', /empty/],
    [
      'a frame that is cut off',
      async (wire) => {
        wire.stream.send(raw('0000002001'));
        await wire.stream.close();
      },
      'UNREACHABLE',
      /middle of a message/,
    ],
    [
      'a frame that says it has 32 MiB and more',
      async (wire) => void wire.stream.send(Buffer.from((MAX_FRAME_BYTES + 1).toString(16).padStart(8, '0'), 'hex')),
      'PROTOCOL',
      /announced a packet/,
    ],
    [
      'a hello that is longer than any, before all of it has come',
      async (wire) => void wire.stream.send(raw(`${(FRAME_BYTES.hello + 1).toString(16).padStart(8, '0')}01`)),
      'PROTOCOL',
      /allowed of its kind/,
    ],
    [
      'lists in lists',
      (wire) => wire.packet(Uint8Array.of(1, ...new Uint8Array(9_000).fill(0x91))),
      'PROTOCOL',
      /deep/,
    ],
    ['counts beyond all', (wire) => wire.packet(raw('01dfffffffff')), 'PROTOCOL', /too early|items/],
    [
      'a key that reaches for prototypes',
      (wire) => wire.packet(bytesOf(1, new Map([['__proto__', { polluted: true }]]))),
      'PROTOCOL',
      /key/,
    ],
  ])('%s', async (_what, attack, code, reason) => {
    await expectEnd(async () => attack(await attacker.open()), code, reason);
  });

  it('a frame with a bit turned', async () => {
    await expectEnd(
      async () => {
        const wire = await attacker.open();
        const theirs = await wire.next('hello');
        const bytes = bytesOf(1, wire.hello(theirs));
        bytes[1] = 0x5f;
        await wire.packet(bytes);
      },
      'PROTOCOL',
      /goes on after its end|wrong form/,
    );
  });
});

describe('[H2] frames at the wrong moment', () => {
  const want = wantAll(1, { knowledge: null });
  const ack: Frame = {
    type: 'ack',
    cursor: { position: 1, head: 1, run: 'ab'.repeat(16) },
    complete: true,
    credit: 10,
    knowledge: { runs: new Uint8Array(0), hlc: [] },
  };
  it.each<readonly [string, readonly Frame[], RegExp]>([
    ['a batch before hello', [{ type: 'batch', data: new Uint8Array(1) }], /began with "batch"/],
    ['an ACK before hello', [ack], /began with "ack"/],
  ])('%s', async (_what, frames, reason) => {
    await expectEnd(async () => (await attacker.open()).send(...frames), 'PROTOCOL', reason);
  });
  it.each<readonly [string, readonly Frame[], RegExp]>([
    ['a second want', [want, want], /twice/],
    ['an ACK of nothing', [ack], /before it asked/],
    ['an ACK of what was not sent', [want, { ...ack, credit: 77 }], /ACKed a batch that was not sent/],
    ['a rest before it asked for anything', [{ type: 'rest', rests: true }], /rest before/],
    [
      'more stamps than anybody has',
      Array.from({ length: MAX_STAMP_MESSAGES + 1 }, (): Frame => ({ type: 'has', data: new Uint8Array(20) })),
      /more versions/,
    ],
    ['stamps that are none', [{ type: 'has', data: Uint8Array.of(1, 2, 3) }, want], /ends too early/],
    [
      'a floor that nobody asked about',
      [{ type: 'floor', floor: { runs: new Uint8Array(), hlc: [] } }],
      /without being asked/,
    ],
    ['tables that nobody asked about', [{ type: 'schema', schema: { tables: [] } }], /without being asked/],
    [
      'an answer that nobody asked for',
      [{ type: 'inspected', id: 1, answer: { kind: 'buckets', digests: [] } }],
      /not asked/,
    ],
  ])('%s', async (_what, frames, reason) => {
    await expectEnd(async () => (await attacker.greeted()).send(...frames), 'PROTOCOL', reason);
  });
});

describe('[H3] a batch', () => {
  /** Takes a page of the victim's own, changes it, and sends it back. */
  const altered = (change: (batch: Batch) => Partial<Batch>) => async (): Promise<void> => {
    const wire = await attacker.greeted();
    const batch = await wire.firstBatch();
    await wire.sendBatch({ ...batch, ...change(batch) });
  };
  const now = (): number => Date.now() * HLC_PER_MS;

  it('that is damaged', async () => {
    await expectEnd(
      async () => (await attacker.greeted()).send({ type: 'batch', data: Uint8Array.of(1, 255, 255, 255, 255) }),
      'PROTOCOL',
      /runs/,
    );
  });

  it('that passes off another device’s run as its own', async () => {
    await expectEnd(
      altered(({ runDevices }) => ({ runDevices: runDevices.map(() => attacker.device) })),
      'PROTOCOL',
      /belongs to another device/,
    );
  });

  it('that names what the victim has written as it has not', async () => {
    await expectEnd(
      altered((batch) => ({
        tables: batch.tables.map((table) => ({ ...table, hlc: table.hlc.map(() => now() + 60_000 * HLC_PER_MS) })),
      })),
      'PROTOCOL',
      /this device has written what it has not/,
    );
  });

  it('that knows the future', async () => {
    const knowledge = { runs: randomBytes(16), hlc: [now() + FAR_MS * HLC_PER_MS] };
    await expectEnd(
      altered(({ end }) => ({ end: { ...end, complete: true, knowledge } })),
      'CLOCK_AHEAD',
      /ahead of this device's clock/,
    );
  });

  it('or a rumour that knows the future', async () => {
    const knowledge = { runs: randomBytes(16), hlc: [now() + FAR_MS * HLC_PER_MS] };
    const members = [{ device: honest.device, at: Date.now(), knowledge, whole: false }];
    await expectEnd(
      async () => {
        const wire = await attacker.greeted();
        await wire.send(wantAll(1, { knowledge: null }));
        await wire.send({ type: 'heard', members });
      },
      'CLOCK_AHEAD',
      /ahead of this device's clock/,
    );
  });

  it('that knows more of the victim than the victim', async () => {
    const run = column(
      'victim',
      'SELECT id FROM flotilla_runs JOIN flotilla_openings USING (run) ORDER BY first_lsn DESC LIMIT 1',
    );
    const knowledge = { runs: new Uint8Array(run[0] as Buffer), hlc: [now() + 60_000 * HLC_PER_MS] };
    await expectEnd(
      altered(({ end }) => ({ end: { ...end, complete: true, knowledge } })),
      'PROTOCOL',
      /has written what it has not/,
    );
  });

  it('with one identity for rows of two tables', async () => {
    await expectEnd(
      altered(({ uuids, uuidTable }) => {
        const copy = uuids.slice();
        const other = uuidTable.findIndex((table) => table !== uuidTable[0]);
        copy.copyWithin(16 * other, 0, 16);
        return { uuids: copy };
      }),
      'PROTOCOL',
      /two tables/,
    );
  });

  it('[H6] with SQL and words of JavaScript for names is kept aside like any other', async () => {
    const evil = 'x"; DROP TABLE things; --';
    const wire = await attacker.greeted();
    const batch = await wire.firstBatch();
    const before = column('victim', 'SELECT name FROM things ORDER BY id');
    await wire.sendBatch({
      ...batch,
      names: [...batch.names, evil, 'constructor'],
      uuids: Uint8Array.of(...batch.uuids, ...randomBytes(32)),
      birthHlc: [...batch.birthHlc, now(), now()],
      birthRun: [...batch.birthRun, 0, 0],
      uuidTable: [...batch.uuidTable, batch.names.length, batch.names.length + 1],
      runs: randomBytes(batch.runs.length),
      runDevices: batch.runDevices.map(() => attacker.device),
      tables: [evil, 'constructor'].map((table, i) => ({
        table,
        rows: [batch.uuidTable.length + i],
        hlc: [now()],
        run: [0],
        columns: [{ kind: 'value' as const, name: `"'; DELETE FROM tags; --`, values: ['toString'] }],
        dependencies: [],
        cells: { row: [], column: [], hlc: [], run: [] },
      })),
      tombstones: [],
      end: { ...batch.end, complete: false, knowledge: { runs: new Uint8Array(0), hlc: [] } },
    });
    await wire.next('ack');
    expect(column('victim', 'SELECT name FROM things ORDER BY id')).toEqual(before);
    expect(column('victim', 'SELECT name FROM tags')).toEqual(['red']);
    expect((await victim.status()).library.waiting.map(({ table }) => table)).toEqual([evil, 'constructor']);
    await wire.send({ type: 'bye', reason: 'done' });
  });
});

describe('[H4] a cursor of a run that never was', () => {
  it('is answered from the beginning', async () => {
    const wire = await attacker.greeted();
    const batch = await wire.firstBatch({ position: 2 ** 40, head: 2 ** 41, run: 'ab'.repeat(16) });
    expect(batch.tables.find(({ table }) => table === 'things')?.rows).toHaveLength(2);
    await wire.send({ type: 'bye', reason: 'done' });
  });
});

describe('[H7] strangers', () => {
  const sockets: Socket[] = [];
  afterAll(() => sockets.forEach((socket) => socket.destroy()));

  async function knock(): Promise<Socket> {
    const port = Number(/tcp\/(\d+)/.exec(victim.addresses()[0] ?? '')?.[1]);
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  }

  it('ten that say nothing, and many that say nonsense, keep no member out', async () => {
    await honest.stop();
    await Promise.all(Array.from({ length: 10 }, knock));
    const talkers = await Promise.all(Array.from({ length: 40 }, knock));
    for (const socket of talkers) socket.write(randomBytes(200));
    honest = await up('honest');
    await when(victim, async () => (await stateOf(honest.device)) === 'live');
  });
});

describe('[H1] afterwards', () => {
  it('an honest member gets what is written, both ways, and both copies are the same', async () => {
    sql('victim', "INSERT INTO things (parent_id, name) VALUES (2, 'from the victim')");
    sql('honest', "INSERT INTO tags VALUES ('from the honest')");
    await when(honest, () => column('honest', 'SELECT name FROM things').includes('from the victim'));
    await when(victim, () => column('victim', 'SELECT name FROM tags').includes('from the honest'));
    const { peers, foreignKeyViolations, integrity } = await victim.verify();
    expect([foreignKeyViolations, integrity]).toEqual([[], []]);
    expect(peers.find(({ device }) => device === honest.device)).toMatchObject({ identical: true, error: '' });
  });
});

function column(name: string, text: string): unknown[] {
  const db = new Sqlite(file(name), { readonly: true });
  try {
    return db.prepare(text).pluck().all();
  } finally {
    db.close();
  }
}
