/**
 * The machine of the node: start, run one session actor per member, stop. It routes what the network says to the session
 * it is meant for; what a session makes of it is the session's own affair.
 */
import { assign, enqueueActions, fromCallback, fromPromise, setup } from 'xstate';
import type { ActorRefFrom } from 'xstate';
import type { MemberRow } from '../db/api.ts';
import { FlotillaError, messageOf } from '../errors.ts';
import type { Channel } from '../protocol/types.ts';
import { neighbours } from './mesh.ts';
import { peerSessionMachine } from './peer-session.ts';

export type NodeMachineEvent =
  /** The members as the library has them now. */
  | { readonly type: 'MEMBERS'; readonly members: readonly MemberRow[] }
  /** A peer opened a sync stream to us. */
  | { readonly type: 'CHANNEL'; readonly channel: Channel }
  /** A connection to a peer stands, or discovery heard it. */
  | { readonly type: 'PEER_SEEN'; readonly peer: string; readonly isConnected: boolean }
  /** This device has slept, or its network has changed. */
  | { readonly type: 'AWAKE' }
  /** The library cannot be used any more. */
  | { readonly type: 'FAILED'; readonly error: FlotillaError }
  | { readonly type: 'STOP' };

export interface NodeInput {
  /** Own peer id. */
  readonly device: string;
  /** 0 ≤ random() < 1, for the jitter of the sessions. */
  readonly random: () => number;
}

export type SessionRef = ActorRefFrom<typeof peerSessionMachine>;

interface NodeContext extends NodeInput {
  /** One for each member that we may talk to, by peer id. */
  readonly sessions: ReadonlyMap<string, SessionRef>;
  /** Sessions that were ever begun: a device that comes back as a member gets another one. */
  readonly begun: number;
  /** Why the node failed. */
  readonly error: FlotillaError | null;
}

/** Whom a node may talk to: the other members; nobody once it is none itself any more. */
export function peersAmong(members: readonly MemberRow[], device: string): readonly MemberRow[] {
  const isOut = members.some((member) => member.device === device && member.revoked !== null);
  return isOut ? [] : members.filter((member) => member.revoked === null && member.device !== device);
}

/** Sessions at most: a person has some ten devices, and each member that is away is dialled again and again. */
export const MAX_SESSIONS = 256;

/** Of a pair, the side with the smaller peer id opens the stream, so that there is one. */
export function opensStream(own: string, peer: string): boolean {
  return own < peer;
}

function asFlotillaError(error: unknown): FlotillaError {
  return error instanceof FlotillaError ? error : new FlotillaError('DATABASE', messageOf(error), { cause: error });
}

function reject(channel: Channel): void {
  channel.abort(new FlotillaError('REFUSED', 'This node expects no stream from that peer.'));
}

export const nodeMachine = setup({
  types: { input: {} as NodeInput, context: {} as NodeContext, events: {} as NodeMachineEvent },
  actors: {
    /** Opens the store, then the host; resolves with the members. Leaves nothing open when it rejects. */
    start: fromPromise<readonly MemberRow[]>(() => Promise.reject(new Error('the effect "start" was not provided'))),
    /** Listens to host, store and discovery, and reports. */
    watch: fromCallback<{ type: 'none' }, void, NodeMachineEvent>(() => {
      throw new Error('the effect "watch" of the node was not provided');
    }),
    session: peerSessionMachine,
    /** Closes what `start` opened, when the sessions have ended. */
    shutDown: fromPromise<void>(() => Promise.reject(new Error('the effect "shutDown" was not provided'))),
  },
  actions: {
    /** Who may connect; told before a session dials. */
    allow: (_, _params: { members: readonly MemberRow[] }) => {},
    /** The node begins to stop; told before the sessions are. */
    announceStop: (_) => {},
    /** A channel that nobody here is meant to get. */
    rejectChannel: (_, params: { channel: Channel }) => reject(params.channel),
    takeMembers: enqueueActions(({ context, enqueue }, params: { members: readonly MemberRow[] }) => {
      const peers = peersAmong(params.members, context.device).map((member) => member.device);
      for (const [peer, session] of context.sessions)
        if (!peers.includes(peer)) enqueue.sendTo(session, { type: 'STOP' });
      enqueue.assign(({ context: { sessions: before, begun: count, random }, spawn }) => {
        const sessions = new Map([...before].filter(([peer]) => peers.includes(peer)));
        let begun = count;
        const needed = neighbours(context.device, peers, () => false);
        for (const peer of peers.filter((one) => !sessions.has(one))) {
          if (sessions.size >= MAX_SESSIONS) break;
          begun += 1;
          const input = { peer, random, isNeeded: needed.has(peer) };
          sessions.set(peer, spawn('session', { id: `${peer} ${begun}`, input }));
        }
        return { sessions, begun };
      });
    }),
    routeChannel: enqueueActions(({ context, enqueue }, params: { channel: Channel }) => {
      const { channel } = params;
      const session = context.sessions.get(channel.peer);
      // The larger peer id never opens: two streams for one pair would replace each other for ever.
      if (session === undefined || !opensStream(channel.peer, context.device)) {
        enqueue(() => reject(channel));
      } else {
        enqueue.sendTo(session, { type: 'CHANNEL', channel });
      }
    }),
    wakeSession: enqueueActions(({ context, enqueue }, params: { peer: string; isConnected: boolean }) => {
      const { peer, isConnected } = params;
      const session = context.sessions.get(peer);
      if (session !== undefined) enqueue.sendTo(session, { type: 'PEER_SEEN', isConnected });
    }),
    wakeSessions: enqueueActions(({ context, enqueue }) => {
      for (const session of context.sessions.values()) enqueue.sendTo(session, { type: 'AWAKE' });
    }),
    stopSessions: enqueueActions(({ context, enqueue }) => {
      for (const session of context.sessions.values()) enqueue.sendTo(session, { type: 'STOP' });
    }),
    noteError: assign({ error: (_, params: { error: unknown }) => asFlotillaError(params.error) }),
  },
  guards: {
    hasFailed: ({ context }) => context.error !== null,
  },
}).createMachine({
  id: 'node',
  context: ({ input }) => ({ ...input, sessions: new Map(), begun: 0, error: null }),
  initial: 'starting',
  states: {
    starting: {
      invoke: {
        src: 'start',
        onDone: {
          target: 'running',
          actions: [
            { type: 'allow', params: ({ event }) => ({ members: event.output }) },
            { type: 'takeMembers', params: ({ event }) => ({ members: event.output }) },
          ],
        },
        onError: { target: 'failed', actions: { type: 'noteError', params: ({ event }) => ({ error: event.error }) } },
      },
      on: {
        STOP: 'stopping',
        FAILED: { target: 'stopping', actions: { type: 'noteError', params: ({ event }) => ({ error: event.error }) } },
        CHANNEL: { actions: { type: 'rejectChannel', params: ({ event }) => ({ channel: event.channel }) } },
      },
    },

    running: {
      invoke: { src: 'watch' },
      on: {
        MEMBERS: {
          actions: [
            { type: 'allow', params: ({ event }) => ({ members: event.members }) },
            { type: 'takeMembers', params: ({ event }) => ({ members: event.members }) },
          ],
        },
        CHANNEL: { actions: { type: 'routeChannel', params: ({ event }) => ({ channel: event.channel }) } },
        AWAKE: { actions: 'wakeSessions' },
        PEER_SEEN: { actions: { type: 'wakeSession', params: ({ event }) => event } },
        FAILED: { target: 'stopping', actions: { type: 'noteError', params: ({ event }) => ({ error: event.error }) } },
        STOP: 'stopping',
      },
    },

    stopping: {
      entry: ['announceStop', 'stopSessions'],
      invoke: {
        src: 'shutDown',
        onDone: [{ guard: 'hasFailed', target: 'failed' }, { target: 'stopped' }],
        onError: { target: 'failed', actions: { type: 'noteError', params: ({ event }) => ({ error: event.error }) } },
      },
      on: { CHANNEL: { actions: { type: 'rejectChannel', params: ({ event }) => ({ channel: event.channel }) } } },
    },

    stopped: { type: 'final' },
    failed: { type: 'final' },
  },
});
