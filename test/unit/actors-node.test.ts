import { createActor, fromCallback, fromPromise, SimulatedClock } from 'xstate';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { NodeEvent } from '../../src/api.ts';
import { systemClock } from '../../src/actors/clock.ts';
import { nodeMachine } from '../../src/actors/node.ts';
import type { NodeMachineEvent } from '../../src/actors/node.ts';
import { startNode } from '../../src/actors/node-runtime.ts';
import type { NodeRuntimeOptions, RunningNode } from '../../src/actors/node-runtime.ts';
import { peerSessionMachine } from '../../src/actors/peer-session.ts';
import { RELAY_DELAY_MS } from '../../src/actors/sending.ts';
import { compareCopies } from '../../src/actors/verify.ts';
import type { Applied, MemberRow, FeedPage, PageLimits } from '../../src/db/api.ts';
import { FlotillaError } from '../../src/errors.ts';
import type { Channel } from '../../src/protocol/types.ts';
import { FakeStore } from '../support/fake-store.ts';
import { memoryChannelPair } from '../support/memory-channel.ts';
import { MemoryNetwork } from '../support/memory-network.ts';
import { settle, until } from '../support/until.ts';

type State = 'starting' | 'running' | 'stopping' | 'stopped' | 'failed';
/** The machine's events, and the ends of its two effects. */
type Step = NodeMachineEvent['type'] | 'started' | 'not started' | 'shut down';

const member = (device: string): MemberRow => ({
  device,
  name: `${device}'s box`,
  invitedBy: '',
  addedAt: 0,
  revoked: null,
});

function machine() {
  const ends = { start: (_: MemberRow[]) => {}, fail: (_: Error) => {}, shut: () => {} };
  const actor = createActor(
    nodeMachine.provide({
      actors: {
        start: fromPromise<readonly MemberRow[]>(
          () => new Promise<MemberRow[]>((resolve, reject) => Object.assign(ends, { start: resolve, fail: reject })),
        ),
        watch: fromCallback(() => {}),
        shutDown: fromPromise(() => new Promise<void>((resolve) => Object.assign(ends, { shut: resolve }))),
        session: peerSessionMachine.provide({
          actors: {
            connect: fromPromise<Channel, { peer: string }>(() => new Promise<never>(() => {})),
            drive: fromCallback(() => {}),
          },
        }),
      },
    }),
    { input: { device: 'm', random: () => 0 }, clock: new SimulatedClock() },
  );
  actor.start();
  const send = (event: NodeMachineEvent): void => {
    if (actor.getSnapshot().status === 'active') actor.send(event);
  };
  const steps: { readonly [S in Step]: () => void } = {
    MEMBERS: () => send({ type: 'MEMBERS', members: [member('m'), member('a'), member('z')] }),
    CHANNEL: () => send({ type: 'CHANNEL', channel: memoryChannelPair('m', 'a')[0] }),
    PEER_SEEN: () => send({ type: 'PEER_SEEN', peer: 'a', isConnected: false }),
    AWAKE: () => send({ type: 'AWAKE' }),
    FAILED: () => send({ type: 'FAILED', error: new FlotillaError('DATABASE', 'gone') }),
    STOP: () => send({ type: 'STOP' }),
    started: () => ends.start([member('m'), member('a')]),
    'not started': () => ends.fail(new FlotillaError('LIBRARY_IN_USE', 'taken')),
    'shut down': () => ends.shut(),
  };
  const step = async (name: Step): Promise<void> => {
    steps[name]();
    await settle(2);
  };
  return { send, step, state: () => actor.getSnapshot().value as State, context: () => actor.getSnapshot().context };
}

const WAYS: { readonly [S in State]: readonly Step[] } = {
  starting: [],
  running: ['started'],
  stopping: ['started', 'STOP'],
  stopped: ['started', 'STOP', 'shut down'],
  failed: ['not started'],
};
const TABLE: { readonly [S in State]: { readonly [E in Step]: State } } = {
  starting: {
    MEMBERS: 'starting',
    CHANNEL: 'starting',
    PEER_SEEN: 'starting',
    AWAKE: 'starting',
    FAILED: 'stopping',
    STOP: 'stopping',
    started: 'running',
    'not started': 'failed',
    'shut down': 'starting',
  },
  running: {
    MEMBERS: 'running',
    CHANNEL: 'running',
    PEER_SEEN: 'running',
    AWAKE: 'running',
    FAILED: 'stopping',
    STOP: 'stopping',
    started: 'running',
    'not started': 'running',
    'shut down': 'running',
  },
  stopping: {
    MEMBERS: 'stopping',
    CHANNEL: 'stopping',
    PEER_SEEN: 'stopping',
    AWAKE: 'stopping',
    FAILED: 'stopping',
    STOP: 'stopping',
    started: 'stopping',
    'not started': 'stopping',
    'shut down': 'stopped',
  },
  stopped: {
    MEMBERS: 'stopped',
    CHANNEL: 'stopped',
    PEER_SEEN: 'stopped',
    AWAKE: 'stopped',
    FAILED: 'stopped',
    STOP: 'stopped',
    started: 'stopped',
    'not started': 'stopped',
    'shut down': 'stopped',
  },
  failed: {
    MEMBERS: 'failed',
    CHANNEL: 'failed',
    PEER_SEEN: 'failed',
    AWAKE: 'failed',
    FAILED: 'failed',
    STOP: 'failed',
    started: 'failed',
    'not started': 'failed',
    'shut down': 'failed',
  },
};

describe('node: state × event', () => {
  for (const state of Object.keys(TABLE) as State[]) {
    for (const [event, target] of Object.entries(TABLE[state]) as Array<[Step, State]>) {
      it(`${state} × ${event} → ${target}`, async () => {
        const made = machine();
        for (const way of WAYS[state]) await made.step(way);
        expect(made.state()).toBe(state);
        await made.step(event);
        expect(made.state()).toBe(target);
      });
    }
  }

  it('ends as failed, with the reason, when it was a failure that stopped it', async () => {
    const made = machine();
    for (const step of ['started', 'FAILED', 'shut down'] as const) await made.step(step);
    expect(made.state()).toBe('failed');
    expect(made.context().error?.message).toBe('gone');
  });

  it('has one session per member but itself, and one more for a newcomer', async () => {
    const made = machine();
    await made.step('started');
    expect([...made.context().sessions.keys()]).toEqual(['a']);
    await made.step('MEMBERS');
    await made.step('MEMBERS');
    expect([...made.context().sessions.keys()]).toEqual(['a', 'z']);
  });

  it('takes streams of members with a smaller peer id, and no others', async () => {
    const made = machine();
    await made.step('started');
    await made.step('MEMBERS');
    for (const [peer, taken] of [
      ['a', true],
      ['z', false],
      ['stranger', false],
    ] as const) {
      const [channel] = memoryChannelPair('m', peer);
      made.send({ type: 'CHANNEL', channel });
      expect(channel.abortedWith === null, peer).toBe(taken);
    }
  });
});

interface Rig {
  readonly node: RunningNode;
  readonly store: FakeStore;
  readonly events: NodeEvent[];
}

const ALL = ['a', 'b', 'c'].map(member);

async function launch(
  network: MemoryNetwork,
  device: string,
  store: FakeStore,
  changes: Partial<NodeRuntimeOptions> = {},
): Promise<Rig> {
  const events: NodeEvent[] = [];
  const node = await startNode({
    device,
    name: `${device}'s box`,
    batchRows: 10,
    clock: systemClock,
    random: () => 0,
    network: () => '',
    known: new Map(['a', 'b', 'c'].filter((peer) => peer !== device).map((peer) => [peer, [`/memory/${peer}`]])),
    openStore: async () => store,
    openHost: async (allowed) => network.createHost(device, allowed),
    createDiscovery: null,
    serve: async () => async () => {},
    remember: () => {},
    emit: (event) => events.push(event),
    ...changes,
  });
  onTestFinished(() => node.stop());
  return { node, store, events };
}

const stateOf = (rig: Rig, peer: string): string | undefined =>
  rig.node.peers().find(({ device }) => device === peer)?.state;
const ids = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, n) => `${prefix}${n}`.padEnd(5, '.')).toSorted();

const among = (peers: readonly string[]): Map<string, string[]> =>
  new Map(peers.map((peer) => [peer, [`/memory/${peer}`]]));

/** Brings all of one store's rows into another, as they are. */
async function copy(from: FakeStore, to: FakeStore): Promise<void> {
  const { feed } = await from.openFeed(to.device, null, { runs: new Uint8Array(), hlc: [] });
  for (let complete = false; !complete;) {
    const page = await from.page(feed, { rows: 10, bytes: 1_000_000 });
    if (page.data !== null) await to.apply(from.device, [new Uint8Array(page.data)]);
    complete = page.complete;
  }
}

/** Counts the rows that come in batches. */
class Counting extends FakeStore {
  taken = 0;

  override async applyOne(...args: Parameters<FakeStore['applyOne']>): Promise<Applied> {
    const applied = await super.applyOne(...args);
    this.taken += applied.rows;
    return applied;
  }
}

/** What ends a pass comes by itself, after the last rows. */
class LateEnd extends FakeStore {
  #end: FeedPage | null = null;

  override async page(id: number, limits: PageLimits): Promise<FeedPage> {
    const end = this.#end;
    this.#end = null;
    if (end !== null) return end;
    const page = await super.page(id, limits);
    if (page.data === null || !page.complete || page.rows === 0) return page;
    const batch = JSON.parse(Buffer.from(page.data).toString()) as object;
    const withChanges = (changes: object): ArrayBuffer =>
      new Uint8Array(Buffer.from(JSON.stringify({ ...batch, ...changes }))).buffer;
    this.#end = { ...page, rows: 0, data: withChanges({ rows: [] }) };
    return { ...page, complete: false, data: withChanges({ complete: false, knowledge: [] }) };
  }
}

describe('a key that two nodes run with', () => {
  /** A host that can be told of twins, and notes where it looked for its own. */
  function twinHost(network: MemoryNetwork) {
    const listeners = new Set<(device: string, by: string) => void>();
    const met: Array<readonly string[]> = [];
    const openHost: NodeRuntimeOptions['openHost'] = async (allowed) => ({
      ...network.createHost('a', allowed),
      onTwin(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      meetSelf: async (addresses) => void met.push(addresses),
    });
    return {
      openHost,
      met,
      tell: (device: string, by: string) => listeners.forEach((listener) => listener(device, by)),
    };
  }

  it('ends a node if it is its own, with what to do', async () => {
    const { openHost, tell } = twinHost(new MemoryNetwork());
    const { node } = await launch(new MemoryNetwork(), 'a', new FakeStore('a', { members: ALL }), { openHost });
    tell('a', 'b');
    expect(await node.ended).toMatchObject({
      code: 'DEVICE_TWICE',
      message: expect.stringMatching(/"b's box" is connected to both.*remove the home folder and join again/),
    });
  });

  it('is told once if it is another one, and changes nothing here', async () => {
    const { openHost, tell } = twinHost(new MemoryNetwork());
    const { node, events } = await launch(new MemoryNetwork(), 'a', new FakeStore('a', { members: ALL }), { openHost });
    tell('b', '');
    tell('b', '');
    const notices = events.flatMap((event) => (event.event === 'notice' ? [event.message] : []));
    expect(notices).toEqual([expect.stringMatching(/^Two nodes run with the key of "b's box"/)]);
    expect(node.peers()).not.toEqual([]);
  });

  it('is looked for where somebody claims it, now and then', async () => {
    const { openHost, met } = twinHost(new MemoryNetwork());
    let claim: (addresses: readonly string[]) => void = () => {};
    const clock = { ...systemClock, time: 1_000_000, now: () => clock.time };
    await launch(new MemoryNetwork(), 'a', new FakeStore('a', { members: ALL }), {
      openHost,
      clock,
      createDiscovery(handlers) {
        claim = handlers.onSelf ?? claim;
        return { start: async () => {}, stop: async () => {} };
      },
    });
    for (let n = 0; n < 5; n += 1) claim(['one']);
    clock.time += 60_000;
    claim(['two']);
    expect(met).toEqual([['one'], ['two']]);
  });
});

/** Takes rows in without being sure that nothing is missing. */
class Unsure extends Counting {
  override async applyOne(...args: Parameters<FakeStore['applyOne']>): Promise<Applied> {
    return { ...(await super.applyOne(...args)), said: { runs: new Uint8Array(), hlc: [] } };
  }
}

/** `a` has nothing, and two others have the same 35 rows of somebody else. */
async function withCopies() {
  const author = new FakeStore('x');
  author.write(...ids('x', 35));
  const [away, ...others] = ['a', 'b', 'c'].map((device) => new Counting(device, { members: ALL })) as [
    Counting,
    Counting,
    Counting,
  ];
  for (const store of others) await copy(author, store);
  return { network: new MemoryNetwork(), away, others };
}

describe('nodes over an in-memory network', () => {
  it('tell of the end of a pass though its last page holds nothing', async () => {
    const network = new MemoryNetwork();
    const store = new LateEnd('a', { members: ALL });
    store.write('row');
    await launch(network, 'a', store);
    const b = await launch(network, 'b', new FakeStore('b', { members: ALL }));
    await until(() => stateOf(b, 'a') === 'live');
    const applied = b.events.filter((event) => event.event === 'applied' && event.device === 'a');
    expect(applied.map((event) => event.event === 'applied' && [event.rows > 0, event.complete])).toEqual([
      [true, false],
      [false, true],
    ]);
  });

  it('find each other by known addresses, become equal, and stay so', async () => {
    const network = new MemoryNetwork();
    const rigs = await Promise.all(
      ['a', 'b', 'c'].map((device) => launch(network, device, new FakeStore(device, { members: ALL }))),
    );
    const [a, b, c] = rigs as [Rig, Rig, Rig];
    a.store.write(...ids('a', 25));
    c.store.write(...ids('c', 5));
    const all = [...ids('a', 25), ...ids('c', 5)];
    await until(() => rigs.every(({ store }) => store.ids().length === all.length));
    expect(b.store.ids()).toEqual(all);
    await until(() => rigs.every(({ node }) => node.peers().every(({ state, inSync }) => state === 'live' && inSync)));
    b.store.write('live');
    await until(() => rigs.every(({ store }) => store.ids().includes('live')));
    const states = a.events.flatMap((event) => (event.event === 'peer' && event.device === 'b' ? [event.state] : []));
    expect(states[0]).toBe('connecting');
    expect(states.at(-1)).toBe('live');
    expect(a.node.peers().map(({ device, name }) => [device, name])).toEqual([
      ['b', "b's box"],
      ['c', "c's box"],
    ]);
  });

  it('send a change over each link once, whoever else passes it on', async () => {
    const network = new MemoryNetwork();
    const clock = new SimulatedClock();
    const devices = ['a', 'b', 'c', 'd'];
    const members = devices.map(member);
    const rigs = await Promise.all(
      devices.map((device) =>
        launch(network, device, new Counting(device, { members }), { clock, known: among(devices) }),
      ),
    );
    await until(() => rigs.every(({ node }) => node.peers().every(({ state, inSync }) => state === 'live' && inSync)));
    const taken = (): number => rigs.reduce((sum, { store }) => sum + (store as Counting).taken, 0);
    const before = taken();
    for (const change of ['one', 'two']) {
      rigs[0]?.store.write(change);
      await until(() => rigs.every(({ store }) => store.ids().includes(change)));
      await settle();
      clock.increment(RELAY_DELAY_MS);
      await settle();
    }
    expect(taken() - before).toBe(2 * 3);
  });

  it('say that they have what they know themselves, not what its sender knows', async () => {
    const network = new MemoryNetwork();
    const clock = new SimulatedClock();
    const [a, b, c] = [
      new Counting('a', { members: ALL }),
      new Unsure('b', { members: ALL }),
      new Counting('c', { members: ALL }),
    ];
    const rigs: Rig[] = [];
    for (const store of [a, b, c]) rigs.push(await launch(network, store.device, store, { clock }));
    await until(() => rigs.every(({ node }) => node.peers().every(({ state, inSync }) => state === 'live' && inSync)));
    const before = b.taken;
    a.write('change');
    await until(() => b.ids().includes('change') && c.ids().includes('change'));
    await settle();
    clock.increment(RELAY_DELAY_MS);
    await until(() => b.taken === before + 2);
  });

  it('pass on what came from others to who cannot have it from its author', async () => {
    const network = new MemoryNetwork();
    const clock = new SimulatedClock();
    const members = ALL;
    const known = (...peers: string[]): Partial<NodeRuntimeOptions> => ({ clock, known: among(peers) });
    const a = await launch(
      network,
      'a',
      new Counting('a', { members: members.filter(({ device }) => device !== 'c') }),
      known('b'),
    );
    const b = await launch(network, 'b', new Counting('b', { members }), known('a', 'c'));
    const c = await launch(network, 'c', new Counting('c', { members }), known('b'));
    await until(() => stateOf(a, 'b') === 'live' && stateOf(c, 'b') === 'live' && stateOf(b, 'c') === 'live');
    a.store.write('from afar');
    await until(() => b.store.ids().includes('from afar'));
    await settle();
    expect(c.store.ids()).toEqual([]);
    clock.increment(RELAY_DELAY_MS);
    await until(() => c.store.ids().includes('from afar'));
  });

  it('take from one of several, then from the others what that one did not have', async () => {
    const { network, away, others } = await withCopies();
    others[1]?.write('of one alone');
    const known = among(['a']);
    await launch(network, 'b', others[0], { known });
    await launch(network, 'c', others[1], { known });
    const late = await launch(network, 'a', away);
    await until(() => away.ids().length === 36 && stateOf(late, 'b') === 'live' && stateOf(late, 'c') === 'live');
    expect(away.taken).toBe(36);
  });

  it('take from another one what is missing when the one that gives is lost', async () => {
    const { network, away, others } = await withCopies();
    for (const store of others) await launch(network, store.device, store, { known: among(['a']) });
    away.beforeApply = async (peer) => {
      if (away.taken < 10) return;
      away.beforeApply = async () => {};
      network.cut('a', peer);
      network.refuse('a', peer);
    };
    await launch(network, 'a', away);
    await until(() => away.ids().length === 35);
  });

  it('are, of many, each connected to some, and what one writes comes to all, also when others have gone', async () => {
    const network = new MemoryNetwork();
    const clock = new SimulatedClock();
    const devices = Array.from({ length: 20 }, (_, n) => `n${String(n).padStart(2, '0')}`);
    const members = devices.map(member);
    const rigs = await Promise.all(
      devices.map((device) =>
        launch(network, device, new FakeStore(device, { members }), { clock, known: among(devices) }),
      ),
    );
    const sessions = ({ node }: Rig): string[] =>
      node.peers().flatMap(({ device, state }) => (state === 'idle' || state === 'backoff' ? [] : [device]));
    const isSettled = (among: readonly Rig[]): boolean =>
      among.every(({ node }) => node.peers().every(({ state }) => ['live', 'idle', 'backoff'].includes(state)));
    const arrives = async (to: readonly Rig[], change: string): Promise<void> => {
      while (!to.every(({ store }) => store.ids().includes(change))) {
        clock.increment(RELAY_DELAY_MS);
        await settle(2);
      }
    };
    await until(() => isSettled(rigs));
    for (const rig of rigs) expect(sessions(rig).length).toBeLessThanOrEqual(10);
    rigs[0]?.store.write('to all');
    await arrives(rigs, 'to all');

    const gone = rigs.filter((_, n) => n % 3 === 1);
    const left = rigs.filter((rig) => !gone.includes(rig));
    await Promise.all(gone.map(({ node }) => node.stop()));
    rigs[0]?.store.write('to those that are left');
    await arrives(left, 'to those that are left');
    await until(() => isSettled(left));
    for (const rig of left) expect(sessions(rig).length).toBeLessThanOrEqual(12);
  });

  it('come back after the connection, the stream or a node is lost', async () => {
    const network = new MemoryNetwork();
    const stores = { a: new FakeStore('a', { members: ALL }), b: new FakeStore('b', { members: ALL }) };
    const a = await launch(network, 'a', stores.a);
    let b = await launch(network, 'b', stores.b);
    const live = (): boolean => stateOf(a, 'b') === 'live' && stateOf(b, 'a') === 'live';
    await until(live);
    for (const lose of [
      async () => network.cut('a', 'b'),
      async () => network.cutStreams('a', 'b'),
      async () => {
        await b.node.stop();
        stores.a.write('while away');
        b = await launch(network, 'b', stores.b);
      },
    ]) {
      await lose();
      await until(live);
    }
    await until(() => stores.b.ids().includes('while away'));
    expect(stores.b.ids()).toEqual(['while away']);
  });

  it('let a newcomer in as soon as it is a member, and not before', async () => {
    const network = new MemoryNetwork();
    const a = await launch(network, 'a', new FakeStore('a', { members: [member('a')] }));
    const b = await launch(network, 'b', new FakeStore('b', { members: [member('a'), member('b')] }));
    a.store.write('private');
    await until(() => network.dials.length > 0);
    expect(b.store.ids()).toEqual([]);
    await a.store.admit('b', "b's box");
    await until(() => stateOf(a, 'b') === 'live');
    await until(() => b.store.ids().includes('private'));
    expect(a.events).toContainEqual({ event: 'joined', device: 'b', name: "b's box" });
  });

  it('[P8] hang up on a device that was removed, refuse it, and take it back when it is let in again', async () => {
    const network = new MemoryNetwork();
    const a = await launch(network, 'a', new FakeStore('a', { members: ALL }));
    const b = await launch(network, 'b', new FakeStore('b', { members: ALL }));
    await until(() => stateOf(a, 'b') === 'live' && stateOf(b, 'a') === 'live');
    expect(a.node.connected()).toEqual(['b']);
    await a.store.revoke('b');
    await until(() => stateOf(a, 'b') === undefined && a.node.connected().length === 0);
    await until(() => stateOf(b, 'a') !== 'live');
    expect(a.events).toContainEqual({ event: 'revoked', device: 'b', name: "b's box", by: 'a', byName: "a's box" });
    expect(b.events.filter(({ event }) => event === 'peer')).toContainEqual(
      expect.objectContaining({ state: 'refused', reason: expect.stringContaining('does not know this device') }),
    );
    b.store.write('kept away');
    await until(() => b.store.ids().includes('kept away'));
    await settle();
    expect(a.store.ids()).toEqual([]);

    await a.store.admit('b', "b's box");
    expect(a.events).toContainEqual({ event: 'joined', device: 'b', name: "b's box" });
    await b.store.admit('b', "b's box");
    await until(() => stateOf(a, 'b') === 'live');
    await until(() => a.store.ids().includes('kept away'));
  });

  it('[P10] talk to nobody once they were removed themselves', async () => {
    const network = new MemoryNetwork();
    const a = await launch(network, 'a', new FakeStore('a', { members: ALL }));
    const b = await launch(network, 'b', new FakeStore('b', { members: ALL }));
    await until(() => stateOf(a, 'b') === 'live' && stateOf(b, 'a') === 'live');
    await b.store.revoke('b');
    await until(() => b.node.peers().length === 0 && b.node.connected().length === 0);
    expect(b.events).toContainEqual(expect.objectContaining({ event: 'revoked', device: 'b' }));
    await until(() => a.events.some((event) => event.event === 'peer' && event.reason.includes('a member no more')));
  });

  it('[P11] leave after the members that are connected have taken it in', async () => {
    const network = new MemoryNetwork();
    const a = await launch(network, 'a', new FakeStore('a', { members: ALL }));
    const b = await launch(network, 'b', new FakeStore('b', { members: ALL }));
    await until(() => stateOf(a, 'b') === 'live' && stateOf(b, 'a') === 'live');
    const report = await b.node.leave();
    expect(report).toEqual({
      told: [{ device: 'a', name: "a's box" }],
      untold: [{ device: 'c', name: "c's box" }],
    });
    expect((await a.store.members()).find(({ device }) => device === 'b')?.revoked).toEqual({ by: 'b', at: 0 });
    await b.node.stop();
    await until(() => a.node.peers().every(({ device }) => device !== 'b'));
  });

  it('tell where peers were found, and remember them', async () => {
    const network = new MemoryNetwork();
    const remembered: string[] = [];
    let heard = (_peer: string, _addresses: readonly string[]): void => {};
    const a = await launch(network, 'a', new FakeStore('a', { members: ALL }), {
      known: new Map(),
      createDiscovery: ({ onPeer }) => {
        heard = onPeer;
        return { start: async () => {}, stop: async () => {} };
      },
      remember: (peer) => remembered.push(peer),
    });
    await launch(network, 'b', new FakeStore('b', { members: ALL }), { known: new Map() });
    expect(stateOf(a, 'b')).not.toBe('live');
    heard('stranger', ['/memory/stranger']);
    heard('b', ['/memory/b']);
    await until(() => stateOf(a, 'b') === 'live');
    expect(remembered).toEqual(['b']);
    expect(a.events).toContainEqual({ event: 'discovered', device: 'b', via: 'mdns' });
    expect(a.node.peers()[0]).toMatchObject({ device: 'b', via: 'mdns' });
  });

  it('compare copies with connected peers', async () => {
    const network = new MemoryNetwork();
    const a = await launch(network, 'a', new FakeStore('a', { members: ALL }));
    const b = await launch(network, 'b', new FakeStore('b', { members: ALL }));
    await until(() => stateOf(a, 'b') === 'live' && stateOf(b, 'a') === 'live');
    a.store.write('one');
    await until(() => b.store.ids().includes('one'));
    const compare = () =>
      compareCopies(
        (query) => a.store.inspect(query),
        (query) => a.node.inspectPeer('b', query),
      );
    expect(await compare()).toEqual([]);
    b.store.inspect = async (query) => {
      if (query.kind === 'tables') return { kind: 'tables', tables: { rows: { rows: 1, digest: 'other' } } };
      if (query.kind === 'buckets') return { kind: 'buckets', digests: ['other'] };
      return {
        kind: 'rows',
        rows: [
          ['one', 'changed'],
          ['two', 'two'],
        ],
      };
    };
    expect(await compare()).toEqual([
      { table: 'rows', uuid: 'one', difference: 'different' },
      { table: 'rows', uuid: 'two', difference: 'only there' },
    ]);
    await expect(a.node.inspectPeer('c', { kind: 'tables' })).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('stop in good order: goodbyes are said, everything is closed, twice is harmless', async () => {
    const network = new MemoryNetwork();
    const closed: string[] = [];
    const store = new FakeStore('a', { members: ALL });
    const a = await launch(network, 'a', store, { serve: async () => async () => void closed.push('served') });
    const b = await launch(network, 'b', new FakeStore('b', { members: ALL }));
    await until(() => stateOf(a, 'b') === 'live' && stateOf(b, 'a') === 'live');
    await Promise.all([a.node.stop(), a.node.stop()]);
    await a.node.stop();
    expect([store.closed, store.openFeeds, store.listening, closed]).toEqual([true, 0, 0, ['served']]);
    expect(network.size).toBe(1);
    await until(() => b.events.some((event) => event.event === 'peer' && event.reason.includes('the node stops')));
    expect(await a.node.ended).toBeNull();
  });

  it('leave nothing open when they cannot start', async () => {
    const network = new MemoryNetwork();
    const store = new FakeStore('a', { members: ALL });
    const taken = new FlotillaError('LIBRARY_IN_USE', 'another node runs here');
    await expect(launch(network, 'a', store, { serve: () => Promise.reject(taken) })).rejects.toBe(taken);
    expect(store.closed).toBe(true);
    expect(network.size).toBe(0);
  });

  it('end when the database fails for good', async () => {
    const network = new MemoryNetwork();
    const store = new FakeStore('a', { members: ALL });
    let fail = (_: FlotillaError): void => {};
    const a = await launch(network, 'a', store, {
      openStore: async (onFailed) => {
        fail = onFailed;
        return store;
      },
    });
    fail(new FlotillaError('DATABASE', 'the disk is gone'));
    expect((await a.node.ended)?.message).toBe('the disk is gone');
    expect(store.closed).toBe(true);
  });
});
