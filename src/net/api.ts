/**
 * What the network room offers, as narrow interfaces, so that the actors above can be tested over in-memory ones.
 */
import type { Channel } from '../protocol/types.ts';

/** Protocol id of the long-lived stream of a session. */
export const SYNC_PROTOCOL = '/flotilla/sync/1';
/** Protocol id of the short exchange that lets a new device in. */
export const JOIN_PROTOCOL = '/flotilla/join/1';
/** Protocol id of the exchange that proves a six-digit code; spoken by hosts of its own. */
export const PAIR_PROTOCOL = '/flotilla/pair/1';

/** A libp2p node of ours. Peers are named by peer id strings, addresses by multiaddr strings. */
export interface Host {
  /** Own peer id. */
  readonly device: string;
  /** Own listen addresses, each with `/p2p/<peer id>`. */
  addresses(): string[];
  /**
   * Connects to a peer at one of `addresses` (a no-op when connected already). Resolving proves nothing: a peer that
   * refuses us closes a moment later.
   */
  dial(peer: string, addresses: readonly string[], signal: AbortSignal): Promise<void>;
  /** Opens the sync stream over the existing connection. */
  openChannel(peer: string, signal: AbortSignal): Promise<Channel>;
  /** Calls back with each sync stream that a peer opened to us; returns the way to stop. */
  onChannel(listener: (channel: Channel) => void): () => void;
  /**
   * Calls back when the first connection to a peer stands and when the last one is gone; `address` is where we reached it, '' if
   * it came to us or is gone.
   */
  onConnection(listener: (peer: string, open: boolean, address: string) => void): () => void;
  /**
   * Calls back when two nodes run with the key of one device, this one or another: `by` is the member that has told us, '' when
   * this host has seen it itself. Returns the way to stop.
   */
  onTwin(listener: (device: string, by: string) => void): () => void;
  /** Looks whether somebody else has our own key at one of `addresses`; what is found comes by `onTwin`. */
  meetSelf(addresses: readonly string[], signal: AbortSignal): Promise<void>;
  /** How long a peer takes to answer, as measured last, ms; null when it was not. */
  roundTrip(peer: string): number | null;
  /** Closes every connection to a peer. */
  hangUp(peer: string): Promise<void>;
  /** Twice is harmless. */
  stop(): Promise<void>;
}

/** Finds other nodes by multicast DNS in libp2p's format. */
export interface Discovery {
  /** Resolves when the sockets stand. Problems come by `onProblem`, never as a rejection. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

export interface DiscoveryOptions {
  /** Own peer id: what is heard from it is ignored. */
  readonly device: string;
  /** Own addresses to announce, asked for each time. */
  readonly addresses: () => readonly string[];
  /** What is announced and asked for. @default libp2p's `_p2p._udp.local` */
  readonly service?: string;
  /** Names of interfaces to use. @default all that can carry multicast */
  readonly interfaces?: readonly string[];
  /** Only loopback: one socket bound to 127.0.0.1, nothing leaves the machine. */
  readonly localOnly: boolean;
  /** A node was heard; called on every announcement, addresses of this answer. */
  readonly onPeer: (peer: string, addresses: readonly string[]) => void;
  /** Our own peer id was heard from somebody else, at these addresses. @default nobody asks */
  readonly onSelf?: (addresses: readonly string[]) => void;
  /** Discovery cannot work, with what to do. */
  readonly onProblem: (message: string) => void;
}
