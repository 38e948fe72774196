/**
 * Hosts in memory that dial each other by address, in place of libp2p: who may connect is asked on both sides, each pair
 * has one connection, a host that stops takes its connections and streams along.
 */
import type { Host } from '../../src/net/api.ts';
import type { Channel } from '../../src/protocol/types.ts';
import { memoryChannelPair } from './memory-channel.ts';
import type { MemoryChannel } from './memory-channel.ts';

interface Member {
  readonly device: string;
  readonly allowed: (peer: string) => boolean;
  readonly channels: Set<(channel: Channel) => void>;
  readonly connections: Set<(peer: string, open: boolean, address: string) => void>;
}

export class MemoryNetwork {
  readonly #hosts = new Map<string, Member>();
  readonly #connected = new Set<string>();
  readonly #refused = new Set<string>();
  readonly #streams = new Map<string, Set<MemoryChannel>>();
  /** Dials that were tried, as `from→to`. */
  readonly dials: string[] = [];

  static #pair(a: string, b: string): string {
    return [a, b].toSorted().join(' ');
  }

  get size(): number {
    return this.#hosts.size;
  }

  createHost(device: string, allowed: (peer: string) => boolean): Host {
    const own: Member = { device, allowed, channels: new Set(), connections: new Set() };
    this.#hosts.set(device, own);
    return {
      device,
      addresses: () => [`/memory/${device}`],
      dial: async (peer, addresses, signal) => {
        this.dials.push(`${device}→${peer}`);
        await Promise.resolve();
        signal.throwIfAborted();
        const other = this.#hosts.get(peer);
        if (this.#connected.has(MemoryNetwork.#pair(device, peer))) return;
        if (other === undefined || !addresses.includes(`/memory/${peer}`)) throw new Error(`${peer} did not answer`);
        // As with libp2p, a peer that refuses us closes a moment after the dial has succeeded.
        if (!allowed(peer) || !other.allowed(device) || this.#refused.has(MemoryNetwork.#pair(device, peer))) return;
        this.#connected.add(MemoryNetwork.#pair(device, peer));
        for (const listener of own.connections) listener(peer, true, `/memory/${peer}`);
        for (const listener of other.connections) listener(device, true, '');
      },
      openChannel: async (peer) => {
        await Promise.resolve();
        const other = this.#hosts.get(peer);
        if (other === undefined || !this.#connected.has(MemoryNetwork.#pair(device, peer)))
          throw new Error('there is no connection');
        const [mine, theirs] = memoryChannelPair(device, peer);
        const key = MemoryNetwork.#pair(device, peer);
        this.#streams.set(key, (this.#streams.get(key) ?? new Set()).add(mine).add(theirs));
        for (const listener of other.channels) listener(theirs);
        if (other.channels.size === 0) theirs.abort(new Error('nobody listens'));
        return mine;
      },
      onChannel: (listener) => add(own.channels, listener),
      onConnection: (listener) => add(own.connections, listener),
      onTwin: () => () => {},
      meetSelf: async () => {},
      roundTrip: () => null,
      hangUp: async (peer) => this.cut(device, peer),
      stop: async () => {
        for (const peer of this.#hosts.keys()) this.cut(device, peer);
        this.#hosts.delete(device);
      },
    };
  }

  /** From now on they do not let each other in. */
  refuse(a: string, b: string): void {
    this.#refused.add(MemoryNetwork.#pair(a, b));
  }

  /** The connection between two hosts breaks. */
  cut(a: string, b: string): void {
    const key = MemoryNetwork.#pair(a, b);
    for (const stream of this.#streams.get(key) ?? []) stream.abort(new Error('cut'));
    this.#streams.delete(key);
    if (!this.#connected.delete(key)) return;
    for (const listener of this.#hosts.get(a)?.connections ?? []) listener(b, false, '');
    for (const listener of this.#hosts.get(b)?.connections ?? []) listener(a, false, '');
  }

  /** Only the stream between two hosts breaks; the connection stands. */
  cutStreams(a: string, b: string): void {
    const key = MemoryNetwork.#pair(a, b);
    for (const stream of this.#streams.get(key) ?? []) stream.abort(new Error('cut'));
    this.#streams.delete(key);
  }
}

function add<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
