/**
 * The machine of one peer: connecting → handshake → backfill → ack → live, and back after any fault. It alone decides
 * the state; its effects (dialling, running the protocol) come in by `provide()` and only send events to it.
 *
 * Rules
 * - A channel is welcome in every state but `stopped`, and the newest wins: the side with the smaller peer id opens it,
 *   and it does so only when its own end of the older one is gone, so the older one is dead even if we do not know yet.
 * - `backfill` ends when the inbound pass is complete, `ack` when the peer has ACKed our whole feed; in either order.
 * - After this device has slept, or on another network, all that is not a session begins anew, without backoff.
 * - Among many devices not each has a session with each: who is not needed is `idle`, until it is, or connects itself.
 * - Every fault leads to `backoff`; nobody gives up for good. A refusal is not retried by the backoff timer, since the
 *   same words would be said again; but membership may arrive later, so it is looked at again after a while, or as soon
 *   as the peer is seen.
 */
import { assign, fromCallback, fromPromise, setup } from 'xstate';
import type { SnapshotFrom } from 'xstate';
import type { PeerState } from '../api.ts';
import { ERROR_CODES, FlotillaError, messageOf } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import type { Channel } from '../protocol/types.ts';

/** First step of the backoff, ms: a peer that restarts is back in about a second. */
export const BACKOFF_BASE_MS = 1_000;
/** Longest backoff, ms: a device that was switched on is found within a minute even where discovery does not work. */
export const BACKOFF_CAP_MS = 60_000;
/** A session that was live this long was healthy, ms: the next fault begins again at the first step. */
export const HEALTHY_MS = 60_000;
/** How long dialling and opening the stream (or waiting for the other to open it) may take, ms: three TCP SYN retries. */
export const CONNECT_TIMEOUT_MS = 15_000;
/**
 * How long the other may take to say hello, ms. Longer than dialling: both hellos wait for the write worker, which may
 * be in the middle of stamping a large import.
 */
export const HANDSHAKE_TIMEOUT_MS = 30_000;
/** When a refusal is looked at again, ms: membership or a schema change may have arrived. */
export const REFUSED_RETRY_MS = 60_000;

/** What the effects report. */
export type DriverEvent =
  | { readonly type: 'HELLO' }
  | { readonly type: 'INBOUND_COMPLETE' }
  | { readonly type: 'OUTBOUND_ACKED' }
  /** Neither side needs the session. */
  | { readonly type: 'SPARE' }
  | { readonly type: 'FAULT'; readonly code: ErrorCode; readonly reason: string }
  /** `code` as the peer said it, or ours. */
  | { readonly type: 'REFUSED'; readonly code: string; readonly reason: string };

export type SessionEvent =
  | DriverEvent
  /** The other side opened a channel. */
  | { readonly type: 'CHANNEL'; readonly channel: Channel }
  /** Discovery announced the peer, or a connection to it stands. */
  | { readonly type: 'PEER_SEEN'; readonly isConnected: boolean }
  /** This device needs a session with the peer. */
  | { readonly type: 'NEEDED' }
  /** This device has slept, or its network is another one: what was tried before says nothing any more. */
  | { readonly type: 'AWAKE' }
  | { readonly type: 'STOP' };

export interface SessionInput {
  /** Peer id of the other side. */
  readonly peer: string;
  /** 0 ≤ random() < 1, for the jitter. */
  readonly random: () => number;
  /** Whether it begins at once. @default true */
  readonly isNeeded?: boolean;
}

export interface SessionContext extends SessionInput {
  /** Faults in a row since the last healthy session. */
  readonly attempt: number;
  readonly channel: Channel | null;
  /** True once the peer has ACKed our whole feed in this session. */
  readonly outboundAcked: boolean;
  /** Why the last session ended: for programs, '' while none has, and for people. */
  readonly code: ErrorCode | '';
  readonly reason: string;
}

/** Input of the effect that runs the protocol. */
export interface DriveInput {
  readonly peer: string;
  readonly channel: Channel;
}

/** Full jitter: anything between nothing and the step, so that two peers do not dial in lockstep. */
export function backoffDelay(attempt: number, random: () => number): number {
  const steps = Math.min(Math.max(attempt - 1, 0), 30);
  return random() * Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** steps);
}

/** What a thrown value says of why there is no session: code and reason. */
export function whyOf(error: unknown): { readonly code: ErrorCode; readonly reason: string } {
  return { code: error instanceof FlotillaError ? error.code : 'UNREACHABLE', reason: messageOf(error) };
}

/** A peer may name codes that this version does not know. */
function codeFrom(code: string): ErrorCode {
  return Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'REFUSED';
}

function notProvided(effect: string): never {
  throw new Error(`the effect "${effect}" of the peer session was not provided`);
}

export const peerSessionMachine = setup({
  types: {
    input: {} as SessionInput,
    context: {} as SessionContext,
    events: {} as SessionEvent,
  },
  actors: {
    /** Dials and opens the channel, or dials and waits until the other opens it. */
    connect: fromPromise<Channel, { peer: string }>(() => notProvided('connect')),
    /** Runs the protocol over a channel; its end says bye. */
    drive: fromCallback<{ type: 'none' }, DriveInput>(() => notProvided('drive')),
  },
  actions: {
    countFault: assign({ attempt: ({ context }) => context.attempt + 1 }),
    forgetFaults: assign({ attempt: 0 }),
    keepReason: assign((_, params: { code: string; reason: string }) => ({
      code: codeFrom(params.code),
      reason: params.reason,
    })),
    takeChannel: assign((_, params: { channel: Channel }) => ({ channel: params.channel, outboundAcked: false })),
    dropChannel: assign({ channel: null, outboundAcked: false }),
    noteAcked: assign({ outboundAcked: true }),
  },
  guards: {
    outboundAcked: ({ context }) => context.outboundAcked,
    isSpare: ({ context }) => context.isNeeded === false,
    isConnected: (_, params: { isConnected: boolean }) => params.isConnected,
  },
  delays: {
    backoff: ({ context }) => backoffDelay(context.attempt, context.random),
    connectTimeout: CONNECT_TIMEOUT_MS,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    healthy: HEALTHY_MS,
    refusedRetry: REFUSED_RETRY_MS,
  },
}).createMachine({
  id: 'peer-session',
  context: ({ input }) => ({ ...input, attempt: 0, channel: null, outboundAcked: false, code: '', reason: '' }),
  initial: 'beginning',
  on: {
    CHANNEL: {
      target: '.session',
      // Also when a session runs: the newest channel wins.
      reenter: true,
      actions: { type: 'takeChannel', params: ({ event }) => ({ channel: event.channel }) },
    },
    STOP: '.stopped',
  },
  states: {
    beginning: { always: [{ guard: 'isSpare', target: 'idle' }, { target: 'connecting' }] },

    connecting: {
      invoke: {
        src: 'connect',
        input: ({ context }) => ({ peer: context.peer }),
        onDone: {
          target: 'session',
          actions: { type: 'takeChannel', params: ({ event }) => ({ channel: event.output }) },
        },
        onError: {
          target: 'backoff',
          actions: ['countFault', { type: 'keepReason', params: ({ event }) => whyOf(event.error) }],
        },
      },
      after: {
        connectTimeout: {
          target: 'backoff',
          actions: [
            'countFault',
            { type: 'keepReason', params: { code: 'UNREACHABLE', reason: 'no session was opened in time' } },
          ],
        },
      },
      // The dial that runs goes by the network of before.
      on: { AWAKE: { target: 'connecting', reenter: true, actions: 'forgetFaults' } },
    },

    session: {
      initial: 'handshake',
      invoke: {
        src: 'drive',
        input: ({ context }) => ({ peer: context.peer, channel: context.channel ?? notProvided('channel') }),
      },
      exit: 'dropChannel',
      on: {
        FAULT: {
          target: 'backoff',
          actions: ['countFault', { type: 'keepReason', params: ({ event }) => event }],
        },
        REFUSED: {
          target: 'refused',
          actions: { type: 'keepReason', params: ({ event }) => event },
        },
        SPARE: 'idle',
      },
      states: {
        handshake: {
          on: { HELLO: 'backfill' },
          after: {
            handshakeTimeout: {
              target: '#peer-session.backoff',
              actions: [
                'countFault',
                { type: 'keepReason', params: { code: 'UNREACHABLE', reason: 'the peer did not say hello in time' } },
              ],
            },
          },
        },
        backfill: {
          on: {
            OUTBOUND_ACKED: { actions: 'noteAcked' },
            INBOUND_COMPLETE: [{ guard: 'outboundAcked', target: 'live' }, { target: 'ack' }],
          },
        },
        ack: { on: { OUTBOUND_ACKED: 'live' } },
        live: { after: { healthy: { actions: 'forgetFaults' } } },
      },
    },

    backoff: {
      after: { backoff: 'connecting' },
      on: { PEER_SEEN: 'connecting', AWAKE: { target: 'connecting', actions: 'forgetFaults' } },
    },

    refused: {
      after: { refusedRetry: 'connecting' },
      on: { PEER_SEEN: 'connecting', AWAKE: 'connecting' },
    },

    idle: {
      entry: 'forgetFaults',
      on: {
        NEEDED: 'connecting',
        PEER_SEEN: {
          guard: { type: 'isConnected', params: ({ event }) => ({ isConnected: event.isConnected }) },
          target: 'connecting',
        },
      },
    },

    stopped: { type: 'final' },
  },
});

/** The state's public name. */
export function sessionState(snapshot: Pick<SnapshotFrom<typeof peerSessionMachine>, 'value'>): PeerState {
  const value = snapshot.value;
  return typeof value === 'string' ? (value as PeerState) : (value.session as PeerState);
}
