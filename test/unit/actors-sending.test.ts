import { SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';
import { ECHO_ENTRIES, ECHO_LOOK_MS, createSender } from '../../src/actors/sending.ts';
import type { Sender } from '../../src/actors/sending.ts';
import { MAX_KNOWN_RUNS } from '../../src/protocol/knowledge.ts';
import { MAX_STAMP_MESSAGES } from '../../src/protocol/stamp-set.ts';
import type { Frame, KnowledgeWire } from '../../src/protocol/types.ts';
import { FakeStore } from '../support/fake-store.ts';
import { settle, until } from '../support/until.ts';

const NOTHING: KnowledgeWire = { runs: new Uint8Array(), hlc: [] };

function sending(store: FakeStore, applying = (): boolean => false) {
  const clock = new SimulatedClock();
  const stop = new AbortController();
  const [told, sent]: [string[], Frame[]] = [[], []];
  const sender: Sender = createSender({
    peer: 'b',
    store,
    cursor: null,
    pass: 'ordinary',
    knowledge: NOTHING,
    records: '00',
    credit: 1 << 20,
    isOver: false,
    limits: { rows: 10, bytes: 1 << 20 },
    send: async (frame) => void sent.push(frame),
    signal: stop.signal,
    clock,
    applying,
    onHeldUp: (message) => told.push(message),
    onComplete: () => {},
  });
  const running = sender.run();
  return {
    sender,
    told,
    sent,
    clock,
    async end() {
      stop.abort(new Error('done'));
      await running;
    },
  };
}

/** Has a row that is too large to be sent. */
class Laden extends FakeStore {
  isLaden = true;

  override async page(...args: Parameters<FakeStore['page']>): ReturnType<FakeStore['page']> {
    const page = await super.page(...args);
    return this.isLaden ? { ...page, complete: false, heldUp: 'a row is too large' } : page;
  }
}

/** Opens no feed before it may, and notes what it is told of the peer. */
class Slow extends FakeStore {
  readonly known: KnowledgeWire[] = [];
  readonly has: number[] = [];
  open = (): void => {};
  readonly #opened = new Promise<void>((resolve) => (this.open = resolve));

  override async openFeed(...args: Parameters<FakeStore['openFeed']>): ReturnType<FakeStore['openFeed']> {
    await this.#opened;
    return super.openFeed(...args);
  }

  override async peerKnows(_feed: number, knowledge: KnowledgeWire): Promise<void> {
    this.known.push(knowledge);
  }

  override async peerHas(_feed: number, stamps: Uint8Array): Promise<void> {
    this.has.push(stamps[0] ?? 0);
  }
}

it('[A18] what is too large is told, and waited for without reading the feed again and again', async () => {
  const store = new Laden('a');
  store.write('one', 'two');
  const { sender, told, sent, end } = sending(store);
  await until(() => sent.length === 1);
  await settle();
  const { pages } = store;
  await settle(100);
  expect(store.pages).toBe(pages);
  expect(told).toContain('a row is too large');
  expect(sender.heldUp()).toBe('a row is too large');
  expect(sender.upToDate()).toBe(false);
  store.isLaden = false;
  store.write('three');
  await until(() => sent.length === 2);
  expect(sender.heldUp()).toBe('');
  await end();
});

describe('what a peer tells of itself before the next page', () => {
  it('is told anew after a rest, and takes no more room for that', async () => {
    const store = new Slow('a');
    const { sender, sent, end } = sending(store);
    const tell = (what: number): void => {
      for (let i = 0; i < MAX_STAMP_MESSAGES; i += 1) sender.has(Uint8Array.of(what));
    };
    tell(1);
    for (const what of [2, 3]) {
      sender.rest(true);
      tell(what);
      sender.rest(false);
    }
    expect(() => sender.has(Uint8Array.of(3))).toThrow(/more versions/);
    store.open();
    await until(() => sent.length === 1);
    expect(store.has).toEqual(new Array(MAX_STAMP_MESSAGES).fill(3));
    await end();
  });

  it('is looked at up to as many runs as anybody may know', async () => {
    const store = new Slow('a');
    const { sender, sent, end } = sending(store);
    const few = { runs: new Uint8Array(16), hlc: [1] };
    const most = { runs: new Uint8Array(16 * MAX_KNOWN_RUNS), hlc: new Array<number>(MAX_KNOWN_RUNS).fill(1) };
    for (const knowledge of [NOTHING, few, most, few]) sender.offered(knowledge);
    store.open();
    await until(() => sent.length === 1);
    expect(store.known).toEqual([few, few]);
    sender.offered(most);
    sender.offered(few);
    await settle();
    expect(store.known).toHaveLength(3);
    sender.offered(few);
    expect(store.known).toHaveLength(4);
    await end();
  });
});

describe('[A20] what the peer has sent itself', () => {
  /** A feed whose first pass is over, and what the peer sends. */
  async function live(applying?: () => boolean) {
    const store = new FakeStore('a');
    const { sent, clock, end } = sending(store, applying);
    await until(() => sent.length === 1);
    const { pages } = store;
    const take = (rows: number): void => {
      store.grow(rows, 'b');
    };
    return { store, clock, end, take, read: () => store.pages - pages };
  }

  it('is passed over when it has become much, after a while', async () => {
    const { clock, end, take, read } = await live();
    take(ECHO_ENTRIES - 1);
    clock.increment(10 * ECHO_LOOK_MS);
    await settle();
    expect(read()).toBe(0);
    take(1);
    await settle();
    expect(read()).toBe(0);
    clock.increment(ECHO_LOOK_MS);
    await until(() => read() > 0);
    await end();
  });

  it('is not while something of it is being applied', async () => {
    let applying = true;
    const { clock, end, take, read } = await live(() => applying);
    take(2 * ECHO_ENTRIES);
    clock.increment(ECHO_LOOK_MS);
    await settle();
    expect(read()).toBe(0);
    applying = false;
    clock.increment(ECHO_LOOK_MS);
    await until(() => read() > 0);
    await end();
  });
});
