/**
 * The machine that knows where peers may be: it merges what multicast DNS hears, the addresses that the user gave and the
 * address book into "peer P was seen at A". It searches for as long as the node runs; where multicast cannot work it
 * says so and tries again, since networks come and go.
 */
import { assign, emit, fromCallback, setup } from 'xstate';
import { messageOf } from '../errors.ts';
import type { Discovery, DiscoveryOptions } from '../net/api.ts';

/** How long until discovery is tried again where it could not work, ms: a network that comes up is used within half a minute. */
export const DISCOVERY_RETRY_MS = 30_000;
/** Addresses kept of one peer: every interface with IPv4 and IPv6 and a few old ones; the newest first. */
export const MAX_ADDRESSES = 16;
/** Peers remembered: anybody on the network may announce himself, so there must be an end. */
export const MAX_PEERS = 1_024;

export type Via = 'mdns' | 'address';

export type DiscoveryEvent =
  | { readonly type: 'START' }
  /** The sockets stand. */
  | { readonly type: 'SEARCHING' }
  | { readonly type: 'PROBLEM'; readonly message: string }
  /** Multicast DNS heard a peer. */
  | { readonly type: 'FOUND'; readonly peer: string; readonly addresses: readonly string[] }
  /** The peer was reached at that address, and has proven who it is. */
  | { readonly type: 'PROVEN'; readonly peer: string; readonly address: string }
  /** This device has slept, or its network has changed. */
  | { readonly type: 'AWAKE' }
  | { readonly type: 'STOP' };

/** What the node hears. */
export interface Seen {
  readonly type: 'SEEN';
  readonly peer: string;
  /** All that is known, newest first. */
  readonly addresses: readonly string[];
  readonly via: Via;
}

export interface DiscoveryInput {
  /** Own peer id. */
  readonly device: string;
  /** Given by the user, and from the address book: peer id → addresses. */
  readonly known: ReadonlyMap<string, readonly string[]>;
}

interface DiscoveryContext extends DiscoveryInput {
  /** What was heard, by peer id. Anybody on the network may have made it up, so it takes nothing away from what is `known`. */
  readonly heard: ReadonlyMap<string, readonly string[]>;
  /** Why multicast does not work here; '' if it does. */
  readonly problem: string;
}

/** `newer` before what was known, each address once, at most `MAX_ADDRESSES`; the oldest peers go when there are too many. */
export function mergeAddresses(
  known: ReadonlyMap<string, readonly string[]>,
  peer: string,
  newer: readonly string[],
): ReadonlyMap<string, readonly string[]> {
  const merged = new Map(known);
  const before = merged.get(peer) ?? [];
  merged.delete(peer);
  merged.set(peer, [...new Set([...newer, ...before])].slice(0, MAX_ADDRESSES));
  for (const oldest of merged.keys()) {
    if (merged.size <= MAX_PEERS) break;
    merged.delete(oldest);
  }
  return merged;
}

/** Where a peer may be: what was heard last first, then what the user and the address book say. */
export function addressesOf(
  { heard, known }: Pick<DiscoveryContext, 'heard' | 'known'>,
  peer: string,
): readonly string[] {
  return [...new Set([...(heard.get(peer) ?? []), ...(known.get(peer) ?? [])])];
}

export const discoveryMachine = setup({
  types: {
    input: {} as DiscoveryInput,
    context: {} as DiscoveryContext,
    events: {} as DiscoveryEvent,
    emitted: {} as Seen,
  },
  actors: {
    /** Opens the sockets and reports; its end closes them. */
    search: fromCallback<{ type: 'none' }, void, DiscoveryEvent>(() => {
      throw new Error('the effect "search" of discovery was not provided');
    }),
  },
  actions: {
    noteProblem: assign({ problem: (_, params: { message: string }) => params.message }),
    forgetProblem: assign({ problem: '' }),
    take: assign({
      heard: ({ context }, params: { peer: string; addresses: readonly string[] }) =>
        mergeAddresses(context.heard, params.peer, params.addresses),
    }),
    trust: assign({
      known: ({ context }, params: { peer: string; address: string }) =>
        mergeAddresses(context.known, params.peer, [params.address]),
    }),
    announce: emit(({ context }, params: { peer: string }) => ({
      type: 'SEEN' as const,
      peer: params.peer,
      addresses: addressesOf(context, params.peer),
      via: 'mdns' as const,
    })),
  },
  guards: {
    isOther: ({ context }, params: { peer: string }) => params.peer !== context.device,
  },
  delays: { retry: DISCOVERY_RETRY_MS },
}).createMachine({
  id: 'discovery',
  context: ({ input }) => ({ ...input, heard: new Map(), problem: '' }),
  initial: 'idle',
  on: {
    STOP: '.stopped',
    PROVEN: { actions: { type: 'trust', params: ({ event }) => ({ peer: event.peer, address: event.address }) } },
  },
  states: {
    /** Multicast is not asked for (yet); the known addresses serve all the same. */
    idle: { on: { START: 'active' } },

    active: {
      invoke: { src: 'search' },
      initial: 'starting',
      on: {
        // Fresh sockets, which announce and ask at once.
        AWAKE: { target: 'active', reenter: true },
        PROBLEM: {
          target: 'impossible',
          actions: { type: 'noteProblem', params: ({ event }) => ({ message: event.message }) },
        },
        FOUND: {
          guard: { type: 'isOther', params: ({ event }) => ({ peer: event.peer }) },
          actions: [
            { type: 'take', params: ({ event }) => ({ peer: event.peer, addresses: event.addresses }) },
            { type: 'announce', params: ({ event }) => ({ peer: event.peer }) },
          ],
        },
      },
      states: {
        starting: { on: { SEARCHING: 'searching' } },
        searching: { entry: 'forgetProblem' },
      },
    },

    impossible: { after: { retry: 'active' }, on: { AWAKE: 'active' } },

    stopped: { type: 'final' },
  },
});

/** Name of the state, for people and tests: idle, starting, searching, impossible, stopped. */
export function discoveryState(snapshot: { readonly value: unknown }): string {
  const { value } = snapshot;
  return typeof value === 'string' ? value : String((value as { active: string }).active);
}

/**
 * The `search` effect over a real (or fake) multicast DNS.
 *
 * @param ending - hears when the sockets begin to close, so that a stop can wait for it
 */
export function searchWith(
  create: (handlers: Pick<DiscoveryOptions, 'onPeer' | 'onProblem'>) => Discovery,
  ending: (closed: Promise<void>) => void,
) {
  return fromCallback<{ type: 'none' }, void, DiscoveryEvent>(({ sendBack }) => {
    const discovery = create({
      onPeer: (peer, addresses) => sendBack({ type: 'FOUND', peer, addresses }),
      onProblem: (message) => sendBack({ type: 'PROBLEM', message }),
    });
    const started = discovery.start().then(
      () => sendBack({ type: 'SEARCHING' }),
      (error: unknown) => sendBack({ type: 'PROBLEM', message: messageOf(error) }),
    );
    // Stopped only once it stands, so that no socket is opened after its end.
    return () => ending(started.then(() => discovery.stop()).catch(() => {}));
  });
}
