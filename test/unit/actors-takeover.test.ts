/** Several peers and one device that is behind: who gives, and how often a row crosses. */
import { SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';
import type { DriverEvent } from '../../src/actors/peer-session.ts';
import { startSession } from '../../src/actors/session-driver.ts';
import type { SessionDriver } from '../../src/actors/session-driver.ts';
import { CHUNKS_ON_THE_WAY, SNAPSHOT_MAKING_MS } from '../../src/actors/taking.ts';
import { createTurns, TURN_LOOK_MS } from '../../src/actors/turns.ts';
import type { Turns } from '../../src/actors/turns.ts';
import { CHUNK_BYTES } from '../../src/protocol/messages.ts';
import type { Frame } from '../../src/protocol/types.ts';
import { FakeStore } from '../support/fake-store.ts';
import { memoryChannelPair } from '../support/memory-channel.ts';
import { settle, until } from '../support/until.ts';

/** A store that reads as many pages, or chunks of a snapshot, as it is allowed to. */
class Paced extends FakeStore {
  allowed = Infinity;
  #wake: () => void = () => {};

  allow(pages: number): void {
    this.allowed += pages;
    this.#wake();
  }

  async #allowed(): Promise<void> {
    while (this.allowed < 1) await new Promise<void>((resolve) => (this.#wake = resolve));
    this.allowed -= 1;
  }

  override async page(...args: Parameters<FakeStore['page']>): ReturnType<FakeStore['page']> {
    await this.#allowed();
    return super.page(...args);
  }

  override beforePart = async (): Promise<void> => this.#allowed();
}

interface Side {
  readonly driver: SessionDriver;
  readonly events: DriverEvent[];
}

const isLive = ({ events }: Side): boolean =>
  ['INBOUND_COMPLETE', 'OUTBOUND_ACKED'].every((type) => events.some((event) => event.type === type));

function fleet() {
  const clock = new SimulatedClock();
  const turns = new Map<FakeStore, Turns>();
  const drivers = new Map<SessionDriver, FakeStore>();
  /** Rows that crossed, as often as they did, and the peers that were told to rest or to go on. */
  const crossed: string[] = [];
  const rested: string[] = [];

  function connect(one: FakeStore, other: FakeStore): [Side, Side] {
    const onFrame = (from: string, frame: Frame): void => {
      const to = from === one.device ? other.device : one.device;
      if (frame.type === 'rest') rested.push(`${frame.rests ? '-' : '+'}${to}`);
      if (frame.type !== 'batch' || to !== 'c') return;
      const { rows } = JSON.parse(Buffer.from(frame.data).toString()) as { rows: { id: string }[] };
      crossed.push(...rows.map(({ id }) => id));
    };
    const [near, far] = memoryChannelPair(one.device, other.device, { onFrame });
    const start = (store: FakeStore, channel: typeof near): Side => {
      const events: DriverEvent[] = [];
      const own = turns.get(store) ?? createTurns(clock);
      turns.set(store, own);
      const driver = startSession({
        channel,
        store,
        clock,
        turns: own,
        facts: { device: store.device, name: store.device, library: 'ab'.repeat(16) },
        limits: { rows: 10, bytes: 1024 * 1024 },
        snapshotRows: 10,
        emit: (event) => events.push(event),
        onApplied({ said }) {
          for (const [to, of] of drivers) if (of === store && to !== driver) to.offer(said);
        },
      });
      drivers.set(driver, store);
      return { driver, events };
    };
    return [start(one, near), start(other, far)];
  }

  const look = async (): Promise<void> => {
    clock.increment(TURN_LOOK_MS);
    await settle(50);
  };
  return { connect, look, crossed, rested };
}

/** A and B with the same 500 rows in another order, and C without any. */
async function behind(rowBytes = 0) {
  const parts = fleet();
  const [a, b] = [new Paced('a', { rowBytes }), new Paced('b', { rowBytes })];
  const c = new FakeStore('c', { takesSnapshots: rowBytes > 0 });
  const ids = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, i) => `${prefix}${i}`);
  a.write(...ids('a', 400));
  b.write(...ids('b', 100));
  const both = parts.connect(a, b);
  await until(() => both.every(isLive));
  await Promise.all(both.map(({ driver }) => driver.end('done')));
  a.allowed = 0;
  b.allowed = 0;
  return { ...parts, a, b, c };
}

/** C takes from A, which gives a page in a look, until that is too little; B is there as well. C's side of both sessions. */
async function slowFirst({ connect, look, a, b, c }: Awaited<ReturnType<typeof behind>>): Promise<[Side, Side]> {
  const [toA] = connect(c, a);
  a.allow(1);
  await until(() => c.ids().length === 10 || c.gathered?.bytes.length === CHUNK_BYTES);
  const [toB] = connect(c, b);
  await settle(50);
  for (let i = 0; i < 2; i += 1) {
    a.allow(1);
    await settle(50);
    await look();
  }
  return [toA, toB];
}

describe('[L1] a device that is behind', () => {
  it('takes one feed at a time; when that peer is lost another one goes on with what has not come', async () => {
    const { connect, a, b, c, crossed } = await behind();
    const [toA] = connect(c, a);
    a.allow(7);
    await until(() => c.ids().length === 70);
    const [toB] = connect(c, b);
    b.allow(Infinity);
    await settle(50);
    expect(c.ids()).toHaveLength(70);
    void toA.driver.end('the network is gone');
    await until(() => isLive(toB));
    expect(c.ids()).toEqual(b.ids());
    expect(crossed).toHaveLength(500);
    // Nor does the first one, when it is back.
    const [again] = connect(c, a);
    a.allow(Infinity);
    await until(() => isLive(again));
    expect(crossed).toHaveLength(500);
  });
});

describe('[L3] a peer that is slow', () => {
  it('rests while a faster one gives, and is asked for what that one did not have', async () => {
    const parts = await behind();
    const { a, b, c, crossed, rested } = parts;
    a.write('only a has it');
    const [toA, toB] = await slowFirst(parts);
    expect(rested).toEqual(['-a']);
    const { pages } = a;
    b.allow(Infinity);
    a.allow(Infinity);
    await until(() => isLive(toA) && isLive(toB));
    expect(rested).toEqual(['-a', '+a']);
    expect(c.ids()).toEqual(a.ids());
    // But for the page that it was reading when it was told to rest.
    expect(crossed).toHaveLength(501 + 10);
    expect(a.pages).toBeGreaterThan(pages);
  });

  it('goes on when the other one is lost, without what that one has given', async () => {
    const parts = await behind();
    const { a, b, c, crossed, rested } = parts;
    const [toA, toB] = await slowFirst(parts);
    b.allow(20);
    await until(() => c.ids().length > 150);
    await settle(50);
    void toB.driver.end('the network is gone');
    a.allow(Infinity);
    await until(() => isLive(toA));
    expect(rested).toEqual(['-a', '+a']);
    expect(c.ids()).toEqual(a.ids());
    expect(crossed).toHaveLength(500 + 10);
  });
});

describe('[L1] [A14] a device that takes a snapshot', () => {
  /** Rows so large that a snapshot has more chunks than may be on their way. */
  const ROW_BYTES = 20_000;
  const chunksOf = async (store: FakeStore): Promise<number> =>
    Math.ceil((await store.offerSnapshot('c', 'aa', 0))!.bytes / CHUNK_BYTES);

  it('takes that of another one at once, when the one that gives it is lost', async () => {
    const { connect, a, b, c } = await behind(ROW_BYTES);
    const [toA] = connect(c, a);
    a.allow(3);
    await until(() => c.gathered?.bytes.length === 3 * CHUNK_BYTES);
    const [toB] = connect(c, b);
    b.allow(Infinity);
    await settle(50);
    expect(b.chunksGiven).toBe(0);
    void toA.driver.end('the network is gone');
    await until(() => isLive(toB));
    expect(c.ids()).toEqual(b.ids());
    expect(b.chunksGiven).toBe(await chunksOf(b));
  });

  it('[L3] leaves a slow one for another one', async () => {
    const parts = await behind(ROW_BYTES);
    const { a, b, c } = parts;
    const [toA, toB] = await slowFirst(parts);
    b.allow(Infinity);
    await until(() => isLive(toB));
    expect(c.ids()).toEqual(b.ids());
    expect(b.chunksGiven).toBe(await chunksOf(b));
    // What had been asked for comes, and is of no use any more; then the feed, in which nothing is left.
    a.allow(Infinity);
    await until(() => isLive(toA));
    expect(a.chunksGiven).toBeLessThan(await chunksOf(a));
  });

  it('[L3] goes on with the first one where it had left it, when the other one is slower', async () => {
    const parts = await behind(ROW_BYTES);
    const { look, a, b, c } = parts;
    const [toA, toB] = await slowFirst(parts);
    await look();
    a.allow(Infinity);
    await until(() => isLive(toA));
    expect(c.ids()).toEqual(a.ids());
    // Those that were on their way came twice.
    expect(a.chunksGiven).toBeLessThanOrEqual((await chunksOf(a)) + CHUNKS_ON_THE_WAY);
    b.allow(Infinity);
    await until(() => isLive(toB));
  });

  it('[L2] does not leave one that makes its snapshot, unless that lasts for too long', async () => {
    const { connect, look, a, b, c } = await behind(ROW_BYTES);
    let made = (): void => {};
    a.beforeOffer = () => new Promise<void>((resolve) => (made = resolve));
    connect(c, a);
    await settle(50);
    const [toB] = connect(c, b);
    b.allow(Infinity);
    for (let i = 0; i + 1 < SNAPSHOT_MAKING_MS / TURN_LOOK_MS; i += 1) await look();
    expect(b.chunksGiven).toBe(0);
    await look();
    await until(() => isLive(toB));
    made();
    await settle(50);
    expect(a.chunksGiven).toBe(0);
    expect(c.ids()).toEqual(b.ids());
  });
});
