import { createActor, fromCallback, fromPromise, SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';
import type { PeerState } from '../../src/api.ts';
import {
  BACKOFF_BASE_MS,
  BACKOFF_CAP_MS,
  backoffDelay,
  CONNECT_TIMEOUT_MS,
  HANDSHAKE_TIMEOUT_MS,
  HEALTHY_MS,
  peerSessionMachine,
  REFUSED_RETRY_MS,
  sessionState,
} from '../../src/actors/peer-session.ts';
import type { SessionEvent } from '../../src/actors/peer-session.ts';
import { FlotillaError } from '../../src/errors.ts';
import type { Channel } from '../../src/protocol/types.ts';
import { memoryChannelPair } from '../support/memory-channel.ts';
import { settle } from '../support/until.ts';

interface Rig {
  readonly clock: SimulatedClock;
  readonly state: () => PeerState;
  readonly send: (event: SessionEvent) => unknown;
  readonly attempt: () => number;
  readonly reason: () => string;
  readonly code: () => string;
  /** Settles the running `connect`. */
  connected(channel: Channel): Promise<void>;
  notConnected(error: Error): Promise<void>;
  /** Channels over which a driver was started, and ended. */
  readonly driven: Channel[];
  readonly ended: Channel[];
  readonly dials: () => number;
}

const channel = (): Channel => memoryChannelPair('me', 'them')[0];

function rig(random = () => 0.5): Rig {
  const clock = new SimulatedClock();
  const driven: Channel[] = [];
  const ended: Channel[] = [];
  let dials = 0;
  let settleConnect = { resolve: (_: Channel) => {}, reject: (_: Error) => {} };
  const actor = createActor(
    peerSessionMachine.provide({
      actors: {
        connect: fromPromise(
          () =>
            new Promise<Channel>((resolve, reject) => {
              dials += 1;
              settleConnect = { resolve, reject };
            }),
        ),
        drive: fromCallback(({ input }) => {
          driven.push(input.channel);
          return () => void ended.push(input.channel);
        }),
      },
    }),
    { input: { peer: 'them', random }, clock },
  );
  actor.start();
  return {
    clock,
    driven,
    ended,
    dials: () => dials,
    state: () => sessionState(actor.getSnapshot()),
    attempt: () => actor.getSnapshot().context.attempt,
    reason: () => actor.getSnapshot().context.reason,
    code: () => actor.getSnapshot().context.code,
    // A machine in its final state takes nothing more; XState says so aloud.
    send: (event) => actor.getSnapshot().status === 'active' && actor.send(event),
    async connected(opened) {
      settleConnect.resolve(opened);
      await settle(2);
    },
    async notConnected(error) {
      settleConnect.reject(error);
      await settle(2);
    },
  };
}

type EventName = SessionEvent['type'];

const EVENTS: { readonly [E in EventName]: () => Extract<SessionEvent, { type: E }> } = {
  CHANNEL: () => ({ type: 'CHANNEL', channel: channel() }),
  HELLO: () => ({ type: 'HELLO' }),
  INBOUND_COMPLETE: () => ({ type: 'INBOUND_COMPLETE' }),
  OUTBOUND_ACKED: () => ({ type: 'OUTBOUND_ACKED' }),
  FAULT: () => ({ type: 'FAULT', code: 'PROTOCOL', reason: 'broken' }),
  REFUSED: () => ({ type: 'REFUSED', code: 'OTHER_LIBRARY', reason: 'other library' }),
  SPARE: () => ({ type: 'SPARE' }),
  NEEDED: () => ({ type: 'NEEDED' }),
  PEER_SEEN: () => ({ type: 'PEER_SEEN', isConnected: true }),
  AWAKE: () => ({ type: 'AWAKE' }),
  STOP: () => ({ type: 'STOP' }),
};

/** How to come into each state. */
const WAYS: { readonly [S in PeerState]: readonly EventName[] } = {
  connecting: [],
  handshake: ['CHANNEL'],
  backfill: ['CHANNEL', 'HELLO'],
  ack: ['CHANNEL', 'HELLO', 'INBOUND_COMPLETE'],
  live: ['CHANNEL', 'HELLO', 'INBOUND_COMPLETE', 'OUTBOUND_ACKED'],
  backoff: ['CHANNEL', 'FAULT'],
  refused: ['CHANNEL', 'REFUSED'],
  idle: ['CHANNEL', 'SPARE'],
  stopped: ['STOP'],
};

/** Where each event leads from each state. A new state or event does not compile until it is thought through here. */
const TABLE: { readonly [S in PeerState]: { readonly [E in EventName]: PeerState } } = {
  connecting: {
    CHANNEL: 'handshake',
    HELLO: 'connecting',
    INBOUND_COMPLETE: 'connecting',
    OUTBOUND_ACKED: 'connecting',
    SPARE: 'connecting',
    NEEDED: 'connecting',
    FAULT: 'connecting',
    REFUSED: 'connecting',
    PEER_SEEN: 'connecting',
    AWAKE: 'connecting',
    STOP: 'stopped',
  },
  handshake: {
    CHANNEL: 'handshake',
    HELLO: 'backfill',
    INBOUND_COMPLETE: 'handshake',
    OUTBOUND_ACKED: 'handshake',
    SPARE: 'idle',
    NEEDED: 'handshake',
    FAULT: 'backoff',
    REFUSED: 'refused',
    PEER_SEEN: 'handshake',
    AWAKE: 'handshake',
    STOP: 'stopped',
  },
  backfill: {
    CHANNEL: 'handshake',
    HELLO: 'backfill',
    INBOUND_COMPLETE: 'ack',
    OUTBOUND_ACKED: 'backfill',
    SPARE: 'idle',
    NEEDED: 'backfill',
    FAULT: 'backoff',
    REFUSED: 'refused',
    PEER_SEEN: 'backfill',
    AWAKE: 'backfill',
    STOP: 'stopped',
  },
  ack: {
    CHANNEL: 'handshake',
    HELLO: 'ack',
    INBOUND_COMPLETE: 'ack',
    OUTBOUND_ACKED: 'live',
    SPARE: 'idle',
    NEEDED: 'ack',
    FAULT: 'backoff',
    REFUSED: 'refused',
    PEER_SEEN: 'ack',
    AWAKE: 'ack',
    STOP: 'stopped',
  },
  live: {
    CHANNEL: 'handshake',
    HELLO: 'live',
    INBOUND_COMPLETE: 'live',
    OUTBOUND_ACKED: 'live',
    SPARE: 'idle',
    NEEDED: 'live',
    FAULT: 'backoff',
    REFUSED: 'refused',
    PEER_SEEN: 'live',
    AWAKE: 'live',
    STOP: 'stopped',
  },
  backoff: {
    CHANNEL: 'handshake',
    HELLO: 'backoff',
    INBOUND_COMPLETE: 'backoff',
    OUTBOUND_ACKED: 'backoff',
    SPARE: 'backoff',
    NEEDED: 'backoff',
    FAULT: 'backoff',
    REFUSED: 'backoff',
    PEER_SEEN: 'connecting',
    AWAKE: 'connecting',
    STOP: 'stopped',
  },
  refused: {
    CHANNEL: 'handshake',
    HELLO: 'refused',
    INBOUND_COMPLETE: 'refused',
    OUTBOUND_ACKED: 'refused',
    SPARE: 'refused',
    NEEDED: 'refused',
    FAULT: 'refused',
    REFUSED: 'refused',
    PEER_SEEN: 'connecting',
    AWAKE: 'connecting',
    STOP: 'stopped',
  },
  idle: {
    CHANNEL: 'handshake',
    HELLO: 'idle',
    INBOUND_COMPLETE: 'idle',
    OUTBOUND_ACKED: 'idle',
    SPARE: 'idle',
    NEEDED: 'connecting',
    FAULT: 'idle',
    REFUSED: 'idle',
    PEER_SEEN: 'connecting',
    AWAKE: 'idle',
    STOP: 'stopped',
  },
  stopped: {
    CHANNEL: 'stopped',
    HELLO: 'stopped',
    INBOUND_COMPLETE: 'stopped',
    OUTBOUND_ACKED: 'stopped',
    SPARE: 'stopped',
    NEEDED: 'stopped',
    FAULT: 'stopped',
    REFUSED: 'stopped',
    PEER_SEEN: 'stopped',
    AWAKE: 'stopped',
    STOP: 'stopped',
  },
};

/** Where time alone leads, and after how long. */
const TIME: { readonly [S in PeerState]: { readonly after: number; readonly to: PeerState } | null } = {
  connecting: { after: CONNECT_TIMEOUT_MS, to: 'backoff' },
  handshake: { after: HANDSHAKE_TIMEOUT_MS, to: 'backoff' },
  backfill: null,
  ack: null,
  live: null,
  backoff: { after: BACKOFF_BASE_MS / 2, to: 'connecting' },
  refused: { after: REFUSED_RETRY_MS, to: 'connecting' },
  idle: null,
  stopped: null,
};

function rigIn(state: PeerState, random?: () => number): Rig {
  const made = rig(random);
  for (const event of WAYS[state]) made.send(EVENTS[event]());
  expect(made.state()).toBe(state);
  return made;
}

const STATES = Object.keys(TABLE) as PeerState[];

describe('peer session: state × event', () => {
  for (const state of STATES) {
    for (const [event, target] of Object.entries(TABLE[state]) as Array<[EventName, PeerState]>) {
      it(`${state} × ${event} → ${target}`, () => {
        const made = rigIn(state);
        made.send(EVENTS[event]());
        expect(made.state()).toBe(target);
      });
    }
  }
});

const TIMED = STATES.flatMap((state) => {
  const rule = TIME[state];
  return rule === null ? [] : [[state, rule.to, rule.after] as const];
});
const LASTING = STATES.filter((state) => TIME[state] === null);

describe('peer session: time', () => {
  it.each(LASTING)('%s lasts', (state) => {
    const made = rigIn(state);
    made.clock.increment(24 * 3_600_000);
    expect(made.state()).toBe(state);
  });

  it.each(TIMED)('%s → %s after %d ms, not before', (state, to, after) => {
    const made = rigIn(state);
    made.clock.increment(after - 1);
    expect(made.state()).toBe(state);
    made.clock.increment(1);
    expect(made.state()).toBe(to);
  });
});

describe('peer session', () => {
  it('handshakes over the channel that was dialled', async () => {
    const made = rig();
    const opened = channel();
    await made.connected(opened);
    expect(made.state()).toBe('handshake');
    expect(made.driven).toEqual([opened]);
  });

  it('backs off with the reason when dialling fails', async () => {
    const made = rig();
    await made.notConnected(new Error('nobody there'));
    expect(made.state()).toBe('backoff');
    expect(made.reason()).toBe('nobody there');
  });

  it('goes live when the peer ACKed before our own pass was complete', () => {
    const made = rigIn('backfill');
    made.send({ type: 'OUTBOUND_ACKED' });
    made.send({ type: 'INBOUND_COMPLETE' });
    expect(made.state()).toBe('live');
  });

  it('forgets an ACK of the session before', () => {
    const made = rigIn('backfill');
    made.send({ type: 'OUTBOUND_ACKED' });
    for (const event of ['FAULT', 'CHANNEL', 'HELLO', 'INBOUND_COMPLETE'] as const) made.send(EVENTS[event]());
    expect(made.state()).toBe('ack');
  });

  it('ends the driver when it leaves the session, and lets the newest channel win', () => {
    const made = rigIn('live');
    const newer = channel();
    made.send({ type: 'CHANNEL', channel: newer });
    expect(made.ended).toEqual([made.driven[0]]);
    expect(made.driven[1]).toBe(newer);
    made.send({ type: 'FAULT', code: 'PROTOCOL', reason: 'x' });
    expect(made.ended).toHaveLength(2);
  });

  it('dials again after each fault, for ever, at most a minute apart', () => {
    const made = rig(() => 1);
    for (let fault = 1; fault <= 12; fault += 1) {
      made.send(EVENTS.CHANNEL());
      made.send(EVENTS.FAULT());
      expect(made.state()).toBe('backoff');
      made.clock.increment(Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** (fault - 1)) - 1);
      expect(made.state()).toBe('backoff');
      made.clock.increment(1);
      expect(made.state()).toBe('connecting');
    }
    expect(made.dials()).toBe(13);
  });

  it('begins the backoff anew after a healthy minute live, not before', () => {
    const made = rig();
    for (let fault = 0; fault < 4; fault += 1) {
      made.send(EVENTS.CHANNEL());
      made.send(EVENTS.FAULT());
    }
    expect(made.attempt()).toBe(4);
    for (const event of WAYS.live) made.send(EVENTS[event]());
    made.clock.increment(HEALTHY_MS - 1);
    expect(made.attempt()).toBe(4);
    made.clock.increment(1);
    expect(made.attempt()).toBe(0);
    expect(made.state()).toBe('live');
  });

  it('stays idle while nobody needs it, though the peer is heard', () => {
    const made = rigIn('idle');
    const before = made.dials();
    made.send({ type: 'PEER_SEEN', isConnected: false });
    made.clock.increment(10 * REFUSED_RETRY_MS);
    expect([made.state(), made.dials()]).toEqual(['idle', before]);
  });

  it('dials at once when the peer is seen, however long the backoff', () => {
    const made = rig(() => 1);
    for (let fault = 0; fault < 10; fault += 1) {
      made.send(EVENTS.CHANNEL());
      made.send(EVENTS.FAULT());
    }
    const before = made.dials();
    made.send({ type: 'PEER_SEEN', isConnected: false });
    expect([made.state(), made.dials()]).toEqual(['connecting', before + 1]);
  });

  it('[H10] dials at once after a sleep or on another network, and begins the backoff anew', () => {
    const made = rig(() => 1);
    for (let fault = 0; fault < 10; fault += 1) {
      made.send(EVENTS.CHANNEL());
      made.send(EVENTS.FAULT());
    }
    const before = made.dials();
    made.send({ type: 'AWAKE' });
    expect([made.state(), made.dials(), made.attempt()]).toEqual(['connecting', before + 1, 0]);
    // The dial that runs is given up for a new one, and time for it begins again.
    made.clock.increment(CONNECT_TIMEOUT_MS - 1);
    made.send({ type: 'AWAKE' });
    expect([made.state(), made.dials()]).toEqual(['connecting', before + 2]);
    made.clock.increment(CONNECT_TIMEOUT_MS - 1);
    expect(made.state()).toBe('connecting');
  });

  it('leaves a session that stands alone when the device wakes up', () => {
    const made = rigIn('live');
    made.send({ type: 'AWAKE' });
    expect([made.state(), made.driven.length, made.ended.length]).toEqual(['live', 1, 0]);
  });

  it('[H10] waits a part of the step that chance says: 1 s doubled up to 60 s', () => {
    for (const [fault, step] of [1, 2, 4, 8, 16, 32, 60, 60].entries()) {
      for (const chance of [0.1, 0.5, 0.9]) {
        const made = rig(() => chance);
        for (let faults = 0; faults <= fault; faults += 1) {
          made.send(EVENTS.CHANNEL());
          made.send(EVENTS.FAULT());
        }
        made.clock.increment(step * 1_000 * chance - 1);
        expect(made.state()).toBe('backoff');
        made.clock.increment(1);
        expect(made.state()).toBe('connecting');
      }
    }
  });

  it('keeps the code of what went wrong, and knows codes of later versions for a refusal', async () => {
    const made = rig();
    await made.notConnected(new FlotillaError('UNREACHABLE', 'nobody there'));
    expect([made.code(), made.reason()]).toEqual(['UNREACHABLE', 'nobody there']);
    made.send(EVENTS.CHANNEL());
    made.send(EVENTS.FAULT());
    expect(made.code()).toBe('PROTOCOL');
    made.send(EVENTS.CHANNEL());
    made.send({ type: 'REFUSED', code: '__proto__', reason: 'x' });
    expect(made.code()).toBe('REFUSED');
  });

  it('jitters over the whole step', () => {
    expect(backoffDelay(1, () => 0)).toBe(0);
    expect(backoffDelay(3, () => 0.25)).toBe(BACKOFF_BASE_MS);
    expect(backoffDelay(1_000, () => 1)).toBe(BACKOFF_CAP_MS);
  });
});
