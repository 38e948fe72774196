import { createActor, SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';
import {
  DISCOVERY_RETRY_MS,
  discoveryMachine,
  discoveryState,
  MAX_ADDRESSES,
  MAX_PEERS,
  mergeAddresses,
  searchWith,
} from '../../src/actors/discovery.ts';
import type { DiscoveryEvent, Seen } from '../../src/actors/discovery.ts';
import type { DiscoveryOptions } from '../../src/net/api.ts';
import { settle } from '../support/until.ts';

type State = 'idle' | 'starting' | 'searching' | 'impossible' | 'stopped';
type EventName = DiscoveryEvent['type'];

const EVENTS: { readonly [E in EventName]: Extract<DiscoveryEvent, { type: E }> } = {
  START: { type: 'START' },
  SEARCHING: { type: 'SEARCHING' },
  PROBLEM: { type: 'PROBLEM', message: 'no route' },
  FOUND: { type: 'FOUND', peer: 'p', addresses: ['/new'] },
  PROVEN: { type: 'PROVEN', peer: 'p', address: '/proven' },
  AWAKE: { type: 'AWAKE' },
  STOP: { type: 'STOP' },
};
const WAYS: { readonly [S in State]: readonly EventName[] } = {
  idle: [],
  starting: ['START'],
  searching: ['START', 'SEARCHING'],
  impossible: ['START', 'PROBLEM'],
  stopped: ['STOP'],
};
const TABLE: { readonly [S in State]: { readonly [E in EventName]: State } } = {
  idle: {
    START: 'starting',
    SEARCHING: 'idle',
    PROBLEM: 'idle',
    FOUND: 'idle',
    PROVEN: 'idle',
    AWAKE: 'idle',
    STOP: 'stopped',
  },
  starting: {
    START: 'starting',
    SEARCHING: 'searching',
    PROBLEM: 'impossible',
    FOUND: 'starting',
    PROVEN: 'starting',
    AWAKE: 'starting',
    STOP: 'stopped',
  },
  searching: {
    START: 'searching',
    SEARCHING: 'searching',
    PROBLEM: 'impossible',
    FOUND: 'searching',
    PROVEN: 'searching',
    AWAKE: 'starting',
    STOP: 'stopped',
  },
  impossible: {
    START: 'impossible',
    SEARCHING: 'impossible',
    PROBLEM: 'impossible',
    FOUND: 'impossible',
    PROVEN: 'impossible',
    AWAKE: 'starting',
    STOP: 'stopped',
  },
  stopped: {
    START: 'stopped',
    SEARCHING: 'stopped',
    PROBLEM: 'stopped',
    FOUND: 'stopped',
    PROVEN: 'stopped',
    AWAKE: 'stopped',
    STOP: 'stopped',
  },
};

function rig() {
  const clock = new SimulatedClock();
  const made = { started: 0, stopped: 0, handlers: null as Pick<DiscoveryOptions, 'onPeer' | 'onProblem'> | null };
  const start = { settle: (): void => {}, fail: (_: Error): void => {} };
  const closing: Array<Promise<void>> = [];
  const actor = createActor(
    discoveryMachine.provide({
      actors: {
        search: searchWith(
          (handlers) => {
            made.handlers = handlers;
            return {
              start() {
                made.started += 1;
                return new Promise((resolve, reject) => Object.assign(start, { settle: resolve, fail: reject }));
              },
              async stop() {
                made.stopped += 1;
              },
            };
          },
          (closed) => closing.push(closed),
        ),
      },
    }),
    { input: { device: 'me', known: new Map([['p', ['/known']]]) }, clock },
  );
  const seen: Seen[] = [];
  actor.on('SEEN', (event) => seen.push(event));
  actor.start();
  return {
    clock,
    made,
    start,
    closing,
    seen,
    send: (event: DiscoveryEvent) => actor.getSnapshot().status === 'active' && actor.send(event),
    state: () => discoveryState(actor.getSnapshot()),
    problem: () => actor.getSnapshot().context.problem,
  };
}

describe('discovery: state × event', () => {
  for (const state of Object.keys(TABLE) as State[]) {
    for (const [event, target] of Object.entries(TABLE[state]) as Array<[EventName, State]>) {
      it(`${state} × ${event} → ${target}`, () => {
        const made = rig();
        for (const step of WAYS[state]) made.send(EVENTS[step]);
        expect(made.state()).toBe(state);
        made.send(EVENTS[event]);
        expect(made.state()).toBe(target);
      });
    }
  }
});

describe('discovery', () => {
  it('says where a peer was seen: what was heard first, then what was known', async () => {
    const made = rig();
    made.send({ type: 'START' });
    made.start.settle();
    await settle(2);
    expect(made.state()).toBe('searching');
    made.made.handlers?.onPeer('p', ['/new', '/known']);
    made.made.handlers?.onPeer('q', ['/other']);
    made.made.handlers?.onPeer('me', ['/mine']);
    expect(made.seen.map(({ peer, addresses }) => [peer, ...addresses])).toEqual([
      ['p', '/new', '/known'],
      ['q', '/other'],
    ]);
  });

  it('tries again where it could not work, with fresh sockets, and forgets the problem when it works', async () => {
    const made = rig();
    made.send({ type: 'START' });
    made.start.settle();
    await settle(2);
    made.made.handlers?.onProblem('no route');
    expect([made.state(), made.problem()]).toEqual(['impossible', 'no route']);
    await settle(2);
    expect(made.made.stopped).toBe(1);
    made.clock.increment(DISCOVERY_RETRY_MS);
    expect([made.state(), made.problem(), made.made.started]).toEqual(['starting', 'no route', 2]);
    made.start.settle();
    await settle(2);
    expect([made.state(), made.problem()]).toEqual(['searching', '']);
  });

  it('closes sockets that were still opening when it was stopped', async () => {
    const made = rig();
    made.send({ type: 'START' });
    made.send({ type: 'STOP' });
    expect(made.made.stopped).toBe(0);
    made.start.settle();
    await Promise.all(made.closing);
    expect(made.made.stopped).toBe(1);
  });

  it('[H11] keeps what is known and proven, whatever is heard', async () => {
    const made = rig();
    made.send({ type: 'START' });
    made.start.settle();
    await settle(2);
    made.send({ type: 'PROVEN', peer: 'p', address: '/proven' });
    for (let n = 0; n < MAX_PEERS; n += 1) made.made.handlers?.onPeer(`peer ${n}`, ['/x']);
    for (let n = 0; n < MAX_ADDRESSES + 5; n += 1) made.made.handlers?.onPeer('p', [`/made up ${n}`]);
    expect(made.seen.at(-1)?.addresses.slice(-2)).toEqual(['/proven', '/known']);
    expect(made.seen.at(-1)?.addresses).toHaveLength(MAX_ADDRESSES + 2);
  });

  it('opens fresh sockets when the device wakes up, and closes the old ones', async () => {
    const made = rig();
    made.send({ type: 'START' });
    made.start.settle();
    await settle(2);
    made.send({ type: 'AWAKE' });
    await settle(2);
    expect([made.state(), made.made.started, made.made.stopped]).toEqual(['starting', 2, 1]);
  });

  it('keeps a bounded number of addresses and peers', () => {
    let known: ReadonlyMap<string, readonly string[]> = new Map();
    for (let n = 0; n < MAX_ADDRESSES + 5; n += 1) known = mergeAddresses(known, 'p', [`/${n}`]);
    expect(known.get('p')).toHaveLength(MAX_ADDRESSES);
    expect(known.get('p')?.[0]).toBe(`/${MAX_ADDRESSES + 4}`);
    for (let n = 0; n < MAX_PEERS; n += 1) known = mergeAddresses(known, `peer ${n}`, ['/x']);
    expect(known.size).toBe(MAX_PEERS);
    expect(known.has('p')).toBe(false);
  });
});
