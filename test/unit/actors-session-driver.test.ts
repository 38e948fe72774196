import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';
import { LEAST_RATE_MS } from '../../src/actors/progress.ts';
import type { Progress } from '../../src/api.ts';
import { SESSION_PROTOCOL } from '../../src/actors/handshake.ts';
import type { SessionFacts } from '../../src/actors/handshake.ts';
import { INSPECT_TIMEOUT_MS } from '../../src/actors/inspecting.ts';
import type { DriverEvent } from '../../src/actors/peer-session.ts';
import { RECEIVE_CREDIT_BYTES } from '../../src/actors/receiving.ts';
import { FAREWELL_TIMEOUT_MS, OWING_TIMEOUT_MS, startSession } from '../../src/actors/session-driver.ts';
import type { DriverOptions, SessionDriver } from '../../src/actors/session-driver.ts';
import { createTurns } from '../../src/actors/turns.ts';
import type { Taker } from '../../src/actors/turns.ts';
import { CHUNK_BYTES } from '../../src/protocol/messages.ts';
import type { SchemaDescription } from '../../src/protocol/schema.ts';
import type { Channel, Frame, KnowledgeWire } from '../../src/protocol/types.ts';
import { FlotillaError } from '../../src/errors.ts';
import { FakeStore } from '../support/fake-store.ts';
import type { FakeStoreOptions } from '../support/fake-store.ts';
import { memoryChannelPair } from '../support/memory-channel.ts';
import type { MemoryChannelOptions } from '../support/memory-channel.ts';
import { settle, until } from '../support/until.ts';
import { wantAll } from '../support/wants.ts';

interface Side {
  readonly store: FakeStore;
  readonly driver: SessionDriver;
  readonly events: DriverEvent[];
  readonly progress: Progress[];
  readonly differences: string[];
  readonly has: (type: DriverEvent['type']) => boolean;
}

const ids = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, n) => `${prefix}${String(n).padStart(4, '0')}`);

function facts(device: string, changes: Partial<SessionFacts> = {}): SessionFacts {
  return { device, name: `${device}'s box`, library: 'ab'.repeat(16), ...changes };
}

function side(
  channel: Channel,
  store: FakeStore,
  clock: SimulatedClock,
  changes: Partial<SessionFacts> = {},
  options: Partial<DriverOptions> = {},
): Side {
  const events: DriverEvent[] = [];
  const progress: Progress[] = [];
  const differences: string[] = [];
  const driver = startSession({
    channel,
    store,
    clock,
    turns: createTurns(clock),
    facts: facts(store.device, changes),
    limits: { rows: 10, bytes: 1024 * 1024 },
    emit: (event) => events.push(event),
    onProgress: (now) => progress.push(now),
    snapshotRows: 10,
    onDifferences: (found) => differences.push(...found),
    ...options,
  });
  return { store, driver, events, progress, differences, has: (type) => events.some((event) => event.type === type) };
}

function connect(
  a: FakeStore,
  b: FakeStore,
  options: MemoryChannelOptions = {},
  clock = new SimulatedClock(),
): [Side, Side] {
  const [first, second] = memoryChannelPair(a.device, b.device, options);
  return [side(first, a, clock), side(second, b, clock)];
}

const isLive = (one: Side): boolean => one.has('INBOUND_COMPLETE') && one.has('OUTBOUND_ACKED');

const NOTHING: KnowledgeWire = { runs: new Uint8Array(), hlc: [] };

/** Holds up what is applied, until it is told to let it through. */
function holdApply(store: FakeStore): () => void {
  let go = (): void => {};
  const held = new Promise<void>((resolve) => (go = resolve));
  store.beforeApply = () => held;
  return go;
}

/** A peer that is played frame by frame. */
function played(store: FakeStore, options: Partial<DriverOptions> = {}, onRead: (frame: Frame) => void = () => {}) {
  const clock = new SimulatedClock();
  const [own, theirs] = memoryChannelPair(store.device, 'b');
  const watched: Channel = {
    peer: own.peer,
    send: (frame) => own.send(frame),
    frames: reported(own.frames, onRead),
    close: () => own.close(),
    abort: (error) => own.abort(error),
  };
  const frames = theirs.frames[Symbol.asyncIterator]();
  const next = async (): Promise<Frame | null> => {
    const result = await frames.next();
    return result.done === true ? null : result.value;
  };
  const hello = (clockMs = 0): Extract<Frame, { type: 'hello' }> => ({
    type: 'hello',
    protocol: SESSION_PROTOCOL,
    library: 'ab'.repeat(16),
    name: 'b',
    schema: 'schema',
    clock: clockMs,
    knowledge: 'other',
    head: { lsn: 0, run: '00'.repeat(16) },
    floor: '[]',
    heard: '00',
    load: 0,
  });
  return { clock, own, theirs, next, hello, want: wantAll, ...side(watched, store, clock, {}, options) };
}

async function* reported(frames: AsyncIterable<Frame>, onRead: (frame: Frame) => void): AsyncGenerator<Frame> {
  for await (const frame of frames) {
    onRead(frame);
    yield frame;
  }
}

describe('session over two drivers', () => {
  it('brings both copies up to date, and both sides live', async () => {
    const one = new FakeStore('a');
    const two = new FakeStore('b');
    one.write(...ids('a', 35));
    two.write(...ids('b', 5));
    const [a, b] = connect(one, two);
    await until(() => isLive(a) && isLive(b));
    expect(a.events.map((event) => event.type)).toContain('HELLO');
    expect(a.store.ids()).toEqual([...ids('a', 35), ...ids('b', 5)]);
    expect(b.store.ids()).toEqual(a.store.ids());
    expect(a.store.acks.at(-1)).toMatchObject({ peer: 'b', complete: true });
    await Promise.all([a.driver.end('done'), b.driver.end('done')]);
  });

  it('goes live when there is nothing to send either way', async () => {
    const [a, b] = connect(new FakeStore('a'), new FakeStore('b'));
    await until(() => isLive(a) && isLive(b));
    await a.driver.end('done');
    await b.driver.ended;
  });

  it('sends live what is written afterwards, and knows when it has arrived', async () => {
    const [a, b] = connect(new FakeStore('a'), new FakeStore('b'));
    await until(() => isLive(a) && isLive(b));
    a.store.write('later');
    await until(() => b.store.ids().includes('later'));
    expect(b.store.priorities.at(-1)).toBe('live');
    await until(() => a.driver.inSync() && b.driver.inSync());
    b.store.write('back');
    expect(b.driver.inSync()).toBe(false);
    await until(() => a.store.ids().includes('back') && b.driver.inSync());
    await a.driver.end('done');
    await b.driver.ended;
  });

  it('ends when neither side needs it, and not before what has begun is taken in', async () => {
    const [one, two] = [new FakeStore('a'), new FakeStore('b')];
    one.write(...ids('a', 35));
    const go = holdApply(two);
    const [a, b] = connect(one, two);
    await until(() => two.applying === 1);
    a.driver.need(false);
    b.driver.need(false);
    await settle();
    expect([...a.events, ...b.events].map(({ type }) => type)).not.toContain('SPARE');
    go();
    await Promise.all([a.driver.ended, b.driver.ended]);
    expect([a.events.at(-1)?.type, b.events.at(-1)?.type]).toEqual(['SPARE', 'SPARE']);
    expect(two.ids()).toEqual(ids('a', 35));
  });

  it('goes on as long as one side needs it', async () => {
    const [a, b] = connect(new FakeStore('a'), new FakeStore('b'));
    await until(() => isLive(a) && isLive(b));
    a.driver.need(false);
    await settle();
    a.store.write('later');
    await until(() => b.store.ids().includes('later'));
    b.driver.need(false);
    await Promise.all([a.driver.ended, b.driver.ended]);
    expect([a.events.at(-1)?.type, b.events.at(-1)?.type]).toEqual(['SPARE', 'SPARE']);
  });

  it('does not send back what came from the peer', async () => {
    let back = 0;
    const [a, b] = connect(new FakeStore('a'), new FakeStore('b'), {
      onFrame(from, frame) {
        if (from !== 'b' || frame.type !== 'batch') return;
        back += (JSON.parse(Buffer.from(frame.data).toString()) as { rows: unknown[] }).rows.length;
      },
    });
    await until(() => isLive(a) && isLive(b));
    for (const id of ids('live', 5)) {
      a.store.write(id);
      await until(() => b.store.ids().includes(id) && a.driver.inSync());
    }
    await settle();
    expect(back).toBe(0);
    await a.driver.end('done');
    await b.driver.ended;
  });

  it('loses nothing that is written between the hello and the first page', async () => {
    let written = false;
    const one = new FakeStore('a');
    const [a, b] = connect(one, new FakeStore('b'), {
      onFrame(from, frame) {
        // Their knowledge was equal when they said so; it is not any more.
        if (from === 'b' && frame.type === 'want' && !written) {
          written = true;
          expect(frame.knowledge).toBeNull();
          one.write('between');
        }
      },
    });
    await until(() => isLive(a) && isLive(b));
    expect(b.store.ids()).toEqual(['between']);
    await a.driver.end('done');
    await b.driver.ended;
  });

  it('does not read the feed while nothing is written', async () => {
    const [a, b] = connect(new FakeStore('a'), new FakeStore('b'));
    await until(() => isLive(a) && isLive(b));
    await settle();
    const { pages } = a.store;
    await settle(100);
    expect(a.store.pages).toBe(pages);
    await a.driver.end('done');
    await b.driver.ended;
  });

  it('does not read the echo of what it takes, and sends what is written meanwhile after the batch that is being applied', async () => {
    const [giving, taking] = [new FakeStore('a'), new FakeStore('b')];
    giving.write(...ids('a', 400));
    let go = holdApply(taking);
    const [a, b] = connect(giving, taking);
    await until(() => taking.applying === 1);
    const { pages } = taking;
    go();
    await until(() => isLive(a) && b.driver.inSync());
    giving.write('live');
    await until(() => taking.ids().includes('live') && b.driver.inSync());
    // But for the page that ends its own first pass.
    expect(taking.pages - pages).toBeLessThanOrEqual(1);

    go = holdApply(taking);
    giving.write('another');
    await until(() => taking.applying === 1);
    taking.write('own');
    go();
    await until(() => giving.ids().includes('own'));
    await a.driver.end('done');
    await b.driver.ended;
  });

  it('reports progress that ends at the whole', async () => {
    const store = new FakeStore('a');
    store.write(...ids('a', 35));
    const clock = new SimulatedClock();
    const taking = new FakeStore('b');
    taking.beforeApply = async () => void clock.increment(LEAST_RATE_MS);
    const [a, b] = connect(store, taking, {}, clock);
    await until(() => isLive(a) && isLive(b));
    expect(b.progress.map(({ done, total }) => [done, total])).toEqual([
      [10, 35],
      [20, 35],
      [30, 35],
      [35, 35],
    ]);
    expect(b.progress[1]?.rate).toBeGreaterThan(0);
    expect(b.progress[1]?.secondsLeft).toBeGreaterThan(0);
    expect(b.progress.at(-1)?.secondsLeft).toBe(0);
    expect(b.driver.progress()).toBeNull();
    await a.driver.end('done');
    await b.driver.ended;
  });

  it('says goodbye on stop: the other side hears it, nothing stays open', async () => {
    const [a, b] = connect(new FakeStore('a'), new FakeStore('b'));
    await until(() => isLive(a) && isLive(b));
    await a.driver.end('the node stops');
    await b.driver.ended;
    expect(a.has('FAULT')).toBe(false);
    expect(b.events.at(-1)).toEqual({
      type: 'FAULT',
      code: 'STOPPED',
      reason: 'the peer said goodbye: the node stops',
    });
    for (const { store } of [a, b]) expect([store.openFeeds, store.listening]).toEqual([0, 0]);
  });

  it('ends an apply that runs, and ACKs it, before the goodbye', async () => {
    const source = new FakeStore('a');
    source.write(...ids('a', 35));
    const sink = new FakeStore('b');
    const release = holdApply(sink);
    const sent: Frame[] = [];
    const [a, b] = connect(source, sink, { onFrame: (from, frame) => from === 'b' && sent.push(frame) });
    await until(() => sink.applying === 1);
    const ended = b.driver.end('stop');
    release();
    await ended;
    await a.driver.ended;
    expect(sink.ids()).toEqual(ids('a', 10));
    expect(sent.slice(-2).map((frame) => frame.type)).toEqual(['ack', 'bye']);
    expect(sink.applying).toBe(0);
  });

  it('does not hang on a peer that takes nothing more', async () => {
    const store = new FakeStore('a');
    const clock = new SimulatedClock();
    let aborted: Error | null = null;
    const channel: Channel = {
      peer: 'b',
      send: () => (aborted === null ? new Promise((_resolve, reject) => (stuck = reject)) : Promise.reject(aborted)),
      frames: { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) },
      close: () => Promise.resolve(),
      abort: (error) => {
        aborted = error;
        stuck(error);
      },
    };
    let stuck: (error: Error) => void = () => {};
    const a = side(channel, store, clock);
    await settle(2);
    const ended = a.driver.end('stop');
    await settle(2);
    clock.increment(FAREWELL_TIMEOUT_MS);
    await ended;
    expect(aborted).not.toBeNull();
  });

  it('resumes after a break at any frame, with nothing lost', async () => {
    let total = 0;
    for (let cut = 0; ; cut += 1) {
      let frames = 0;
      const one = new FakeStore('a');
      const two = new FakeStore('b');
      one.write(...ids('a', 25));
      two.write(...ids('b', 12));
      const broken = connect(one, two, {
        onFrame() {
          frames += 1;
          if (frames > cut) throw new Error('cut');
        },
      });
      await until(() => broken.every((part) => part.has('FAULT')) || broken.every(isLive));
      if (broken.every(isLive) && !broken.some((part) => part.has('FAULT'))) {
        total = cut;
        await Promise.all(broken.map(({ driver }) => driver.end('done')));
        break;
      }
      await Promise.all(broken.map(({ driver }) => driver.ended));
      expect([one.openFeeds, two.openFeeds, one.listening, two.listening]).toEqual([0, 0, 0, 0]);
      const again = connect(one, two);
      await until(() => again.every(isLive));
      expect(one.ids(), `cut at frame ${cut}`).toEqual([...ids('a', 25), ...ids('b', 12)]);
      expect(two.ids(), `cut at frame ${cut}`).toEqual(one.ids());
      await Promise.all(again.map(({ driver }) => driver.end('done')));
    }
    expect(total).toBeGreaterThan(10);
  });

  it('faults, telling the peer, when a batch cannot be applied', async () => {
    const source = new FakeStore('a');
    source.write('bad');
    const sink = new FakeStore('b');
    sink.beforeApply = () => Promise.reject(new Error('the disk is full'));
    const [a, b] = connect(source, sink);
    await Promise.all([a.driver.ended, b.driver.ended]);
    expect(b.events.at(-1)).toEqual({ type: 'FAULT', code: 'UNREACHABLE', reason: 'the disk is full' });
    expect(a.events.at(-1)).toMatchObject({ type: 'FAULT', reason: expect.stringContaining('the disk is full') });
  });

  it('[P8] is over for a device that the library has just heard was removed, in words that say so', async () => {
    const source = new FakeStore('a');
    source.write('too late');
    const sink = new FakeStore('b');
    sink.beforeApply = () => Promise.reject(new FlotillaError('REVOKED', 'a member no more'));
    const [a, b] = connect(source, sink);
    await Promise.all([a.driver.ended, b.driver.ended]);
    expect(b.events.at(-1)).toMatchObject({ type: 'REFUSED', code: 'REVOKED' });
    expect(a.events.at(-1)).toMatchObject({
      type: 'REFUSED',
      code: 'REVOKED',
      reason: '"b\'s box" does not know this device as a member of the library any more',
    });
  });

  it('answers questions about the copy', async () => {
    const [a, b] = connect(new FakeStore('a'), new FakeStore('b'));
    await expect(a.driver.inspectPeer({ kind: 'tables' })).rejects.toMatchObject({ code: 'UNREACHABLE' });
    b.store.write('one');
    await until(() => isLive(a));
    const answer = await a.driver.inspectPeer({ kind: 'rows', table: 'rows', bucket: 0 });
    expect(answer).toEqual({ kind: 'rows', rows: [['one', 'one']] });
    await a.driver.end('done');
    await b.driver.ended;
    await expect(a.driver.inspectPeer({ kind: 'tables' })).rejects.toMatchObject({ code: 'STOPPED' });
  });
});

describe('session: refusals', () => {
  const cases: ReadonlyArray<readonly [string, FakeStoreOptions & Partial<SessionFacts>, string]> = [
    ['another library', { library: 'cd'.repeat(16) }, 'OTHER_LIBRARY'],
  ];
  for (const [what, changes, code] of cases) {
    it(`refuses ${what}, on both sides, and changes nothing`, async () => {
      const clock = new SimulatedClock();
      const [first, second] = memoryChannelPair('a', 'b');
      const one = new FakeStore('a');
      one.write('secret');
      const a = side(first, one, clock);
      const b = side(second, new FakeStore('b'), clock, changes);
      await Promise.all([a.driver.ended, b.driver.ended]);
      for (const part of [a, b]) expect(part.events.at(-1)).toMatchObject({ type: 'REFUSED', code });
      expect(b.store.ids()).toEqual([]);
    });
  }

  const tableOf = (type: 'TEXT' | 'BLOB', ...more: string[]): SchemaDescription => ({
    tables: [
      {
        name: 'rows',
        ownership: 'shared',
        ownedBy: '',
        identity: null,
        key: ['id'],
        collations: ['BINARY'],
        columns: ['name', ...more].map((name) => {
          return { name, kind: 'value', target: '', type, notNull: false, policy: '', absent: false } as const;
        }),
        foreignKeys: [],
        absent: false,
      },
    ],
  });

  it('[G9] refuses a peer for which a column means something else, saying which and what to do, and changes nothing', async () => {
    const [one, two] = [new FakeStore('a'), new FakeStore('b')];
    one.schema = tableOf('TEXT');
    two.schema = tableOf('BLOB');
    one.write('secret');
    const [a, b] = connect(one, two);
    await Promise.all([a.driver.ended, b.driver.ended]);
    for (const part of [a, b]) {
      expect(part.events.at(-1)).toMatchObject({
        type: 'REFUSED',
        code: 'SCHEMA_MISMATCH',
        reason: expect.stringMatching(/"name" of "rows" is of type (TEXT|BLOB) on .* another name/),
      });
    }
    expect(two.ids()).toEqual([]);
    expect(two.learned).toEqual([]);
  });

  it('[G8] says in words what a peer has more, tells the store of it, and goes on', async () => {
    const [one, two] = [new FakeStore('a'), new FakeStore('b')];
    one.schema = tableOf('TEXT', 'note');
    two.schema = tableOf('TEXT');
    one.write('row');
    const [a, b] = connect(one, two);
    await until(() => isLive(a) && isLive(b));
    expect(two.ids()).toEqual(['row']);
    expect(two.learned).toEqual([one.schema]);
    const words = [
      `"b's box" does not have the column "note" of "rows": its values are kept aside there until it is upgraded.`,
    ];
    for (const part of [a, b]) expect(part.differences).toEqual(words);
    await Promise.all([a.driver.end('done'), b.driver.end('done')]);
  });

  it('[T2] refuses a clock that is wrong by more than the drift, with the difference in words', async () => {
    const a = played(new FakeStore('a'));
    expect((await a.next())?.type).toBe('hello');
    await a.theirs.send(a.hello(2 * 3_600_000));
    expect(await a.next()).toMatchObject({
      type: 'refuse',
      code: 'CLOCK_AHEAD',
      message: expect.stringContaining('2 h'),
    });
    await a.theirs.close();
    await a.driver.ended;
    expect(a.events).toEqual([
      { type: 'REFUSED', code: 'CLOCK_AHEAD', reason: expect.stringContaining('"b" is 2 h ahead') },
    ]);
  });

  it('[T3] has stamped anew what a clock that is right by now has stamped too late, and begins again', async () => {
    const store = new FakeStore('a');
    store.isAhead = true;
    const a = played(store);
    await a.next();
    await a.theirs.send(a.hello());
    expect(await a.next()).toMatchObject({ type: 'bye' });
    await a.theirs.close();
    await a.driver.ended;
    expect(store.isAhead).toBe(false);
    expect(a.events).toEqual([
      { type: 'FAULT', code: 'CLOCK_AHEAD', reason: expect.stringContaining('stamped again') },
    ]);
  });

  it('[T4] does not take a clock for right that the peer says is wrong', async () => {
    const store = new FakeStore('a');
    store.isAhead = true;
    const a = played(store);
    await a.next();
    await a.theirs.send(a.hello(-2 * 3_600_000));
    expect(await a.next()).toMatchObject({ type: 'refuse', code: 'CLOCK_AHEAD' });
    await a.theirs.close();
    await a.driver.ended;
    expect(store.isAhead).toBe(true);
  });

  it('refuses another version of the protocol', async () => {
    const a = played(new FakeStore('a'));
    await a.theirs.send({ ...a.hello(), protocol: SESSION_PROTOCOL + 1 } as Frame);
    await a.theirs.close();
    await a.driver.ended;
    expect(a.events).toEqual([
      { type: 'REFUSED', code: 'PROTOCOL', reason: expect.stringContaining('update Flotilla on "a') },
    ]);
  });
});

describe('session: credit', () => {
  it('never has more than the granted credit un-ACKed, by more than the batch that overdraws it', async () => {
    const store = new FakeStore('a', { rowBytes: 1_000 });
    store.write(...ids('a', 200));
    const a = played(store);
    const credit = 25_000;
    await a.next();
    await a.theirs.send(a.hello());
    await a.theirs.send(a.want(credit));
    expect((await a.next())?.type).toBe('want');
    let flying: Array<{ bytes: number; cursor: unknown }> = [];
    let most = 0;
    for (let batches = 0; batches < 20;) {
      // Everything that the sender is willing to send now.
      await settle(30);
      const before = store.pages;
      await settle(30);
      expect(store.pages, 'a sender without credit reads no page').toBe(before);
      let frame = await a.next();
      for (;;) {
        if (frame?.type !== 'batch') throw new Error(`unexpected ${frame?.type}`);
        batches += 1;
        const bytes = frame.data.byteLength;
        const beforeIt = flying.reduce((sum, one) => sum + one.bytes, 0);
        expect(beforeIt).toBeLessThan(credit);
        flying.push({ bytes, cursor: (JSON.parse(Buffer.from(frame.data).toString()) as { cursor: unknown }).cursor });
        most = Math.max(most, flying.length);
        if (beforeIt + bytes >= credit || batches === 20) break;
        frame = await a.next();
      }
      for (const { bytes, cursor } of flying) {
        await a.theirs.send({
          type: 'ack',
          cursor: cursor as never,
          complete: false,
          credit: bytes,
          knowledge: NOTHING,
        });
      }
      flying = [];
    }
    expect(most).toBe(3);
    await a.theirs.close();
    await a.driver.ended;
  });

  it('bounds what waits at a slow receiver', async () => {
    const source = new FakeStore('a', { rowBytes: 100_000 });
    source.write(...ids('a', 200));
    const sink = new FakeStore('b');
    sink.beforeApply = () => new Promise(() => {});
    let sent = 0;
    const [first, second] = memoryChannelPair('a', 'b', {
      onFrame: (_from, frame) => {
        if (frame.type === 'batch') sent += frame.data.byteLength;
      },
    });
    const clock = new SimulatedClock();
    const limits = { rows: 5, bytes: 1024 * 1024 };
    side(first, source, clock, {}, { limits });
    side(second, sink, clock, {}, { limits });
    await until(() => sent >= RECEIVE_CREDIT_BYTES);
    await settle(50);
    expect(sent).toBeLessThan(RECEIVE_CREDIT_BYTES + 600_000);
    expect(source.pages).toBeLessThan(12);
    expect(sink.applying).toBe(1);
  });

  it('faults a peer that goes on sending after the credit is used up', async () => {
    const store = new FakeStore('a');
    store.beforeApply = () => new Promise(() => {});
    const a = played(store);
    await a.theirs.send(a.hello());
    const half = new Uint8Array(RECEIVE_CREDIT_BYTES / 2 + 1);
    for (let n = 0; n < 2; n += 1) await a.theirs.send({ type: 'batch', data: half });
    await settle();
    expect(a.events.map((event) => event.type)).toEqual(['HELLO']);
    await a.theirs.send({ type: 'batch', data: half });
    await until(() => a.has('FAULT'));
    expect(a.events.at(-1)).toMatchObject({ reason: expect.stringContaining('granted') });
  });

  it('faults a peer that ACKs what was not sent', async () => {
    const a = played(new FakeStore('a'));
    await a.theirs.send(a.hello());
    await a.theirs.send(a.want(1_000_000));
    await a.theirs.send({
      type: 'ack',
      cursor: { position: 1, head: 1, run: 'r' },
      complete: true,
      credit: 1 << 30,
      knowledge: NOTHING,
    });
    await until(() => a.has('FAULT'));
    await a.theirs.close();
    await a.driver.ended;
  });
});

describe('[L4] a session that waits for its turn', () => {
  it('says whether the peer knows something new, how busy it is and how near', async () => {
    const unknown = { runs: new Uint8Array(16).fill(7), hlc: [1] };
    for (const knowledge of [NOTHING, unknown]) {
      const takers: Taker[] = [];
      const turns = {
        areFree: () => false,
        take(taker: Taker) {
          takers.push(taker);
          return new Promise<never>(() => {});
        },
      };
      const a = played(new FakeStore('a'), { turns, roundTrip: () => 12 });
      await a.theirs.send({ ...a.hello(), load: 3 });
      await until(() => takers.length === 1);
      expect(takers[0]?.standing()).toEqual({ hasNews: true, load: 3, roundTripMs: 12 });
      await a.theirs.send({ ...a.want(1), knowledge });
      await until(() => a.store.openFeeds === 1);
      expect(takers[0]?.standing().hasNews).toBe(knowledge === unknown);
      a.theirs.abort(new Error('gone'));
    }
  });
});

describe('session: memory', () => {
  const heard = { device: 'c', at: 1, knowledge: NOTHING, whole: true };

  it('reads nothing more while the library takes in what a peer tells of others', async () => {
    const store = new FakeStore('a');
    let go = (): void => {};
    store.hearOfOthers = () => new Promise<void>((resolve) => (go = resolve));
    let read = 0;
    const a = played(store, {}, () => (read += 1));
    await a.theirs.send(a.hello());
    await a.theirs.send(a.want(1_000_000));
    for (let i = 0; i < 5; i += 1) await a.theirs.send({ type: 'heard', members: [heard] });
    await settle();
    expect(read).toBe(3);
    store.hearOfOthers = async () => {};
    go();
    await until(() => read === 7);
    await a.theirs.close();
    await a.driver.ended;
  });

  it('keeps no frame that was taken', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const frames: WeakRef<Frame>[] = [];
    const a = played(new FakeStore('a'), {}, (frame) => frames.push(new WeakRef(frame)));
    await a.theirs.send(a.hello());
    await a.theirs.send(a.want(1_000_000));
    for (let i = 0; i < 50; i += 1) await a.theirs.send({ type: 'heard', members: [heard] });
    await until(() => frames.length === 52);
    await settle();
    collect();
    // The last one may still be in a variable.
    expect(frames.slice(1, -2).filter((frame) => frame.deref() !== undefined)).toEqual([]);
    await a.theirs.close();
    await a.driver.ended;
  });
});

describe('session: what the protocol does not allow', () => {
  const wants = wantAll(1, { knowledge: null });
  const cases: ReadonlyArray<readonly [string, readonly Frame[], boolean]> = [
    ['a batch before hello', [{ type: 'batch', data: new Uint8Array(1) }], false],
    ['a want before hello', [wants], false],
    ['a second want', [wants, wants], true],
    ['an offer before a want', [{ type: 'offer', knowledge: NOTHING }], true],
    [
      'an ACK before a want',
      [{ type: 'ack', cursor: { position: 0, head: 0, run: '' }, complete: true, credit: 0, knowledge: NOTHING }],
      true,
    ],
  ];
  for (const [what, frames, greeted] of cases) {
    it(`faults on ${what}`, async () => {
      const a = played(new FakeStore('a'));
      if (greeted) await a.theirs.send(a.hello());
      for (const frame of frames) await a.theirs.send(frame);
      await a.theirs.close();
      await a.driver.ended;
      expect(a.events.at(-1)?.type).toBe('FAULT');
      expect(a.store.openFeeds).toBe(0);
    });
  }

  it('takes an end without goodbye for a fault', async () => {
    const a = played(new FakeStore('a'));
    await a.theirs.send(a.hello());
    await until(() => a.has('HELLO'));
    await settle();
    a.theirs.abort(new Error('killed'));
    await a.driver.ended;
    expect(a.events.at(-1)).toMatchObject({ type: 'FAULT', reason: expect.stringContaining('without a goodbye') });
  });

  it('[H8] ends with a peer that owes an answer and says nothing for long, and never with one that owes nothing', async () => {
    const a = played(new FakeStore('a'));
    await a.theirs.send(a.hello());
    await until(() => a.has('HELLO'));
    a.clock.increment(OWING_TIMEOUT_MS - 1);
    expect(a.has('FAULT')).toBe(false);
    a.clock.increment(1);
    expect(a.events.at(-1)).toMatchObject({
      type: 'FAULT',
      code: 'UNREACHABLE',
      reason: expect.stringMatching(/not gone on/),
    });
    await a.theirs.close();
    await a.driver.ended;

    const clock = new SimulatedClock();
    const [one, two] = connect(new FakeStore('a'), new FakeStore('b'), {}, clock);
    await until(() => isLive(one) && isLive(two) && one.driver.inSync() && two.driver.inSync());
    for (let hour = 0; hour < 24; hour += 1) clock.increment(3_600_000);
    expect([one.has('FAULT'), two.has('FAULT')]).toEqual([false, false]);
    await Promise.all([one.driver.end('done'), two.driver.end('done')]);
  });

  it('gives up a question that is not answered', async () => {
    const a = played(new FakeStore('a'));
    await a.theirs.send(a.hello());
    await until(() => a.has('HELLO'));
    await settle();
    const answer = a.driver.inspectPeer({ kind: 'tables' });
    const rejected = expect(answer).rejects.toMatchObject({ code: 'UNREACHABLE' });
    await settle();
    a.clock.increment(INSPECT_TIMEOUT_MS);
    await rejected;
    await a.theirs.close();
    await a.driver.ended;
  });
});

describe('a snapshot', () => {
  const taker = (): FakeStore => new FakeStore('b', { takesSnapshots: true });

  /** Rows of which a snapshot has several chunks. */
  function giver(): FakeStore {
    const store = new FakeStore('a', { rowBytes: 20_000 });
    store.write(...ids('a', 100));
    return store;
  }

  it('is taken in place of the first pass, whose rest comes by the feed', async () => {
    const one = giver();
    const two = taker();
    one.beforePart = async () => {
      if (one.chunksGiven === 3) one.write('late');
    };
    const [a, b] = connect(one, two);
    await until(() => isLive(a) && isLive(b) && two.ids().includes('late'));
    expect(two.ids()).toEqual(one.ids());
    expect(one.chunksGiven).toBeGreaterThan(5);
    expect(two.gathered).toBeNull();
    // Beside 'late' no row came by the feed.
    expect(one.pages).toBeLessThan(10);
    const totals = b.progress.map(({ done, total }) => ({ done, total }));
    expect(totals.length).toBeGreaterThan(5);
    expect(totals.every(({ done, total }) => done <= total)).toBe(true);
    await Promise.all([a.driver.end('done'), b.driver.end('done')]);
  });

  it('goes on where an earlier session broke off', async () => {
    const one = giver();
    const two = taker();
    const whole = Math.ceil((await one.offerSnapshot('b', 'aa', 0))!.bytes / CHUNK_BYTES);
    let chunks = 0;
    const [a, b] = connect(one, two, {
      onFrame(_, frame) {
        if (frame.type === 'chunk' && (chunks += 1) === 4) throw new Error('cut');
      },
    });
    await Promise.all([a.driver.ended, b.driver.ended]);
    const had = (two.gathered?.bytes.length ?? 0) / CHUNK_BYTES;
    expect(had).toBeGreaterThan(0);
    expect(had).toBeLessThan(whole);
    const before = one.chunksGiven;
    const [again, other] = connect(one, two);
    await until(() => isLive(again) && isLive(other));
    expect(one.chunksGiven - before).toBe(whole - had);
    expect(two.ids()).toEqual(one.ids());
    await Promise.all([again.driver.end('done'), other.driver.end('done')]);
  });

  it('gives way to the feed where there is none, and where it is not what it should be', async () => {
    const few = new FakeStore('a');
    few.write(...ids('a', 5));
    const damaged = giver();
    await damaged.offerSnapshot('b', 'aa', 0);
    damaged.given?.bytes.fill(0, 300_000, 300_010);
    for (const one of [few, damaged]) {
      const two = taker();
      const [a, b] = connect(one, two);
      await until(() => isLive(a) && isLive(b));
      expect(two.ids()).toEqual(one.ids());
      expect(two.unfit).toBe(one === damaged ? 1 : 0);
      await Promise.all([a.driver.end('done'), b.driver.end('done')]);
    }
  });

  it.each([
    ['a chunk that was not asked for', { type: 'chunk', data: Uint8Array.of(1) }],
    ['an offer that was not asked for', { type: 'snapshot', id: '61', bytes: 5, hash: 'aa', rows: 1 }],
  ] as const)('ends the session at %s', async (_, frame) => {
    const peer = played(new FakeStore('a'));
    await peer.next();
    await peer.theirs.send(peer.hello());
    await peer.theirs.send(frame);
    await until(() => peer.has('FAULT'));
    expect(peer.events).toContainEqual(expect.objectContaining({ type: 'FAULT', code: 'PROTOCOL' }));
  });

  it('ends the session of one who asks for more chunks than may be on their way', async () => {
    const one = giver();
    await one.offerSnapshot('b', 'aa', 0);
    let goOn = (): void => {};
    one.beforePart = () => new Promise((resolve) => (goOn = resolve));
    const peer = played(one);
    await peer.next();
    await peer.theirs.send(peer.hello());
    for (let i = 0; i < 40; i += 1) await peer.theirs.send({ type: 'part', id: '61', offset: 0 });
    await until(() => peer.has('FAULT'));
    goOn();
    expect(peer.events).toContainEqual(expect.objectContaining({ type: 'FAULT', code: 'PROTOCOL' }));
  });
});
