/**
 * Two that have met before and have nothing new: what the hellos say is enough, and whatever is written in that moment arrives.
 */
import { SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';
import type { DriverEvent } from '../../src/actors/peer-session.ts';
import { startSession } from '../../src/actors/session-driver.ts';
import type { SessionDriver } from '../../src/actors/session-driver.ts';
import { createTurns } from '../../src/actors/turns.ts';
import type { TableDescription } from '../../src/protocol/schema.ts';
import type { Channel, Frame, KnowledgeWire } from '../../src/protocol/types.ts';
import { FakeStore } from '../support/fake-store.ts';
import { memoryChannelPair } from '../support/memory-channel.ts';
import { settle, until } from '../support/until.ts';

interface Side {
  readonly driver: SessionDriver;
  readonly isLive: () => boolean;
}

function side(channel: Channel, store: FakeStore, clock: SimulatedClock): Side {
  const types = new Set<DriverEvent['type']>();
  const driver = startSession({
    channel,
    store,
    clock,
    turns: createTurns(clock),
    facts: { device: store.device, name: store.device, library: 'ab'.repeat(16) },
    limits: { rows: 10, bytes: 1024 * 1024 },
    emit: ({ type }) => types.add(type),
    snapshotRows: 10,
  });
  return { driver, isLive: () => types.has('INBOUND_COMPLETE') && types.has('OUTBOUND_ACKED') };
}

/** A session of the two, once both are live and know that they have all. */
async function meet(one: FakeStore, two: FakeStore, onFrame: (from: string, frame: Frame) => void = () => {}) {
  const clock = new SimulatedClock();
  const said: string[] = [];
  const [first, second] = memoryChannelPair(one.device, two.device, {
    onFrame(from, frame) {
      said.push(`${from} ${frame.type}`);
      onFrame(from, frame);
    },
  });
  const [a, b] = [side(first, one, clock), side(second, two, clock)];
  await until(() => a.isLive() && b.isLive() && a.driver.inSync() && b.driver.inSync());
  await settle();
  return {
    said: said.splice(0).toSorted(),
    a: a.driver,
    b: b.driver,
    async end() {
      await Promise.all([a.driver.end('done'), b.driver.end('done')]);
    },
  };
}

/** Two that have all of each other, and have seen the ends of each other's feeds. */
async function acquainted(): Promise<[FakeStore, FakeStore]> {
  const [one, two] = [new FakeStore('a'), new FakeStore('b')];
  one.write('of a');
  two.write('of b');
  for (let session = 0; session < 2; session += 1) await (await meet(one, two)).end();
  return [one, two];
}

const DESCRIBED: TableDescription = {
  name: 'other',
  ownership: 'shared',
  ownedBy: '',
  identity: null,
  key: ['id'],
  collations: [],
  columns: [],
  foreignKeys: [],
  absent: false,
};

const NOTHING_NEW = ['a hello', 'a want', 'b hello', 'b want'];

describe('[A21] a session of two that have nothing new', () => {
  it('has two messages of each, after which both are live', async () => {
    const [one, two] = await acquainted();
    const acks = one.acks.length;
    const session = await meet(one, two);
    expect(session.said).toEqual(NOTHING_NEW);
    expect(one.acks.slice(acks)).toEqual([
      { peer: 'b', cursor: expect.objectContaining({ position: 2, head: 2 }), complete: true },
    ]);
    await session.end();
  });

  it('brings what is written afterwards, as what is live, and says when it has arrived', async () => {
    const [one, two] = await acquainted();
    const { a, b, end } = await meet(one, two);
    one.write('later');
    expect(a.inSync()).toBe(false);
    await until(() => two.ids().includes('later') && a.inSync());
    two.write('back');
    await until(() => one.ids().includes('back') && b.inSync());
    expect([one.priorities.at(-1), two.priorities.at(-1)]).toEqual(['live', 'live']);
    await end();
  });

  it.each<[string, string, Frame['type']]>([
    ['the one whose hello is on its way', 'a', 'hello'],
    ['the other one', 'b', 'hello'],
    ['the one that is asked', 'a', 'want'],
    ['the one that asks', 'b', 'want'],
  ])('loses nothing that is written in that moment by %s', async (_, writer, when) => {
    const [one, two] = await acquainted();
    let isWritten = false;
    const session = await meet(one, two, (from, frame) => {
      if (isWritten || frame.type !== when || from !== 'b') return;
      isWritten = true;
      (writer === 'a' ? one : two).write('in that moment');
    });
    expect(isWritten).toBe(true);
    await until(() => one.ids().includes('in that moment') && two.ids().includes('in that moment'));
    await until(() => session.a.inSync() && session.b.inSync());
    await session.end();
  });

  it('takes pages where one has not seen the end of the other, though nothing is in them', async () => {
    const [one, two] = await acquainted();
    const session = await meet(one, two);
    one.write('live');
    await until(() => two.ids().includes('live') && session.a.inSync());
    await session.end();
    // What it took in moved the end of its own feed, which nobody was told of.
    const again = await meet(one, two);
    expect(again.said).toEqual(['a ack', 'a hello', 'a want', 'b batch', 'b hello', 'b want']);
    await again.end();
    expect((await meet(one, two)).said).toEqual(NOTHING_NEW);
  });
});

describe('floors', () => {
  const floor = (hlc: number): KnowledgeWire => ({ runs: new Uint8Array(16).fill(7), hlc: [hlc] });

  it('that are the same cross as hashes', async () => {
    const [one, two] = await acquainted();
    for (const store of [one, two]) store.floor = floor(5);
    const session = await meet(one, two);
    expect(session.said).toEqual(NOTHING_NEW);
    expect([one.floors.at(-1), two.floors.at(-1)]).toEqual([floor(5), floor(5)]);
    await session.end();
  });

  it('that differ are told, whatever else differs', async () => {
    const [one, two] = await acquainted();
    one.floor = floor(5);
    two.floor = floor(9);
    two.schema = { tables: [DESCRIBED] };
    const session = await meet(one, two);
    expect(session.said).toEqual([...NOTHING_NEW, 'a floor', 'a schema', 'b floor', 'b schema'].toSorted());
    expect([one.floors.at(-1), two.floors.at(-1)]).toEqual([floor(9), floor(5)]);
    expect(one.learned).toEqual([two.schema]);
    await session.end();
  });
});
