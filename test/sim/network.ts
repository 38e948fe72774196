/**
 * A network in virtual time, in place of libp2p: connections that take time to dial and to notice that they are gone, streams that
 * keep their order and carry real frames, links that are slow, cut, walled or lossy in one direction, each by a seed.
 */
import type { Host } from '../../src/net/api.ts';
import { decodeFrame, encodeFrame } from '../../src/protocol/frames.ts';
import type { Channel, Frame } from '../../src/protocol/types.ts';
import type { Chance } from '../support/chance.ts';
import type { VirtualTime } from './time.ts';

/** After so long without a heartbeat a connection counts as gone, ms at least and at most. */
const HEARTBEAT_MS = [5_000, 15_000] as const;
/** How often a frame that does not get through is sent again, ms. */
const RESEND_MS = 400;

/** How fast a link is. */
export interface Speed {
  /** ms from one end to the other. */
  readonly latency: number;
  /** Bytes a ms. */
  readonly bandwidth: number;
}

const FAST: Speed = { latency: 2, bandwidth: 10_000 };

interface Party {
  readonly device: string;
  readonly allowed: (peer: string) => boolean;
  readonly channels: Set<(channel: Channel) => void>;
  readonly connections: Set<(peer: string, open: boolean, address: string) => void>;
}

/** What travels, as whoever sent it sees it. */
export type Tap = (from: string, to: string, frame: Frame) => void;

export class SimNetwork {
  readonly time: VirtualTime;
  readonly chance: Chance;
  readonly tap: Tap;
  readonly #parties = new Map<string, Party>();
  readonly #connections = new Map<string, Connection>();
  /** `from to`: nothing that is sent arrives. */
  readonly #holes = new Set<string>();
  /** `from to`: dials do not get through; connections that stand carry both ways. */
  readonly #walls = new Set<string>();
  readonly #speeds = new Map<string, Speed>();
  /** Bytes of frames that were sent. */
  bytes = 0;
  frames = 0;

  constructor(time: VirtualTime, chance: Chance, tap: Tap) {
    this.time = time;
    this.chance = chance;
    this.tap = tap;
  }

  createHost(device: string, allowed: (peer: string) => boolean): Host {
    const own: Party = { device, allowed, channels: new Set(), connections: new Set() };
    this.#parties.set(device, own);
    return {
      device,
      addresses: () => [`/sim/${device}`],
      dial: (peer, _addresses, signal) => this.#dial(own, peer, signal),
      openChannel: (peer) => this.#openChannel(own, peer),
      onChannel: (listener) => added(own.channels, listener),
      onConnection: (listener) => added(own.connections, listener),
      onTwin: () => () => {},
      meetSelf: async () => {},
      roundTrip: () => null,
      hangUp: async (peer) => this.cut(device, peer, 0),
      stop: async () => {
        for (const peer of this.#parties.keys()) this.cut(device, peer, 0);
        if (this.#parties.get(device) === own) this.#parties.delete(device);
      },
    };
  }

  // -- what happens to it

  /** The connection between two devices breaks; each notices within `ms`. */
  cut(a: string, b: string, ms: number): void {
    const connection = this.#connections.get(pairOf(a, b));
    if (connection === undefined) return;
    connection.break();
    for (const side of [a, b]) {
      if (ms === 0) this.#noticed(connection, side);
      else this.time.after(this.chance.below(ms), () => this.#noticed(connection, side));
    }
  }

  /** A process is gone, without a word; its peers notice now or by their heartbeats. */
  crash(device: string): void {
    this.#parties.delete(device);
    for (const connection of this.#connections.values()) {
      if (!connection.joins(device)) continue;
      connection.break();
      connection.noticed.add(device);
      const other = connection.otherOf(device);
      const late = this.chance.happens(0.5) ? 0 : this.chance.between(...HEARTBEAT_MS);
      this.time.after(late, () => this.#noticed(connection, other));
    }
  }

  /** Nothing that `from` sends reaches `to`, until it is healed. */
  hole(from: string, to: string): void {
    this.#holes.add(`${from} ${to}`);
    const connection = this.#connections.get(pairOf(from, to));
    this.time.after(this.chance.between(...HEARTBEAT_MS), () => {
      const isStill = this.#holes.has(`${from} ${to}`) && this.#connections.get(pairOf(from, to)) === connection;
      if (isStill && connection !== undefined) this.cut(from, to, HEARTBEAT_MS[0]);
    });
  }

  /** `from` cannot dial `to`. */
  wall(from: string, to: string): void {
    this.#walls.add(`${from} ${to}`);
  }

  slow(a: string, b: string, speed: Speed): void {
    this.#speeds.set(pairOf(a, b), speed);
  }

  heal(): void {
    this.#holes.clear();
    this.#walls.clear();
    this.#speeds.clear();
  }

  // -- for its parts

  speed(a: string, b: string): Speed {
    return this.#speeds.get(pairOf(a, b)) ?? FAST;
  }

  /** Whether what `from` sends now arrives. */
  carries(from: string, to: string): boolean {
    return !this.#holes.has(`${from} ${to}`);
  }

  async #dial(own: Party, peer: string, signal: AbortSignal): Promise<void> {
    const { device } = own;
    await this.#travel(device, peer, 1);
    signal.throwIfAborted();
    if (this.#isUp(device, peer)) return;
    // Packets that are lost are waited for; whoever is not there says so.
    const isLost = !this.carries(device, peer) || !this.carries(peer, device) || this.#walls.has(`${device} ${peer}`);
    if (isLost) await aborted(signal);
    await this.#travel(device, peer, 2);
    signal.throwIfAborted();
    const other = this.#parties.get(peer);
    if (this.#parties.get(device) !== own || other === undefined) throw new Error(`${peer} did not answer`);
    if (this.#isUp(device, peer)) return;
    // As with libp2p, a peer that refuses us closes a moment after the dial has succeeded.
    if (!own.allowed(peer) || !other.allowed(device)) return;
    const old = this.#connections.get(pairOf(device, peer));
    if (old !== undefined) for (const side of [device, peer]) this.#noticed(old, side);
    this.#connections.set(pairOf(device, peer), new Connection(this, device, peer));
    for (const listener of own.connections) listener(peer, true, `/sim/${peer}`);
    for (const listener of other.connections) listener(device, true, '');
  }

  #isUp(a: string, b: string): boolean {
    return this.#connections.get(pairOf(a, b))?.isOpen === true;
  }

  async #openChannel(own: Party, peer: string): Promise<Channel> {
    const connection = this.#connections.get(pairOf(own.device, peer));
    if (connection === undefined || connection.noticed.has(own.device)) throw new Error('there is no connection');
    const [mine, theirs] = connection.openChannel(own.device);
    this.time.after(this.speed(own.device, peer).latency, () => {
      const other = this.#parties.get(peer);
      if (!connection.isOpen || other === undefined) return;
      for (const listener of other.channels) listener(theirs);
      if (other.channels.size === 0) theirs.abort(new Error('nobody listens'));
    });
    return mine;
  }

  async #travel(a: string, b: string, times: number): Promise<void> {
    const { latency } = this.speed(a, b);
    await new Promise<void>((resolve) => void this.time.after(times * latency, resolve));
  }

  #noticed(connection: Connection, side: string): void {
    if (connection.noticed.has(side)) return;
    connection.break();
    connection.noticed.add(side);
    connection.endStreams(side);
    const other = connection.otherOf(side);
    for (const listener of this.#parties.get(side)?.connections ?? []) listener(other, false, '');
  }
}

class Connection {
  readonly #network: SimNetwork;
  readonly #a: string;
  readonly #b: string;
  readonly #streams: End[] = [];
  /** Who knows that it is gone. */
  readonly noticed = new Set<string>();
  isOpen = true;

  constructor(network: SimNetwork, a: string, b: string) {
    this.#network = network;
    this.#a = a;
    this.#b = b;
  }

  joins(device: string): boolean {
    return device === this.#a || device === this.#b;
  }

  otherOf(device: string): string {
    return device === this.#a ? this.#b : this.#a;
  }

  openChannel(own: string): [End, End] {
    const mine = new End(this.#network, this, own, this.otherOf(own));
    const theirs = new End(this.#network, this, this.otherOf(own), own);
    mine.other = theirs;
    theirs.other = mine;
    this.#streams.push(mine, theirs);
    return [mine, theirs];
  }

  /** From now on nothing arrives. */
  break(): void {
    this.isOpen = false;
  }

  endStreams(device: string): void {
    for (const stream of this.#streams) if (stream.own === device) stream.abort(new Error('the connection is gone'));
  }
}

class End implements Channel {
  readonly peer: string;
  readonly own: string;
  other: End | null = null;
  readonly #network: SimNetwork;
  readonly #connection: Connection;
  readonly #inbox: Uint8Array[] = [];
  #inboxEnded = false;
  #wake: (() => void) | null = null;
  #isEnded = false;
  #isAborted = false;
  /** Until when the link is busy with what was sent, and when the last of it arrives at the earliest; virtual ms. */
  #busyUntil = 0;
  #arrivesAt = 0;

  constructor(network: SimNetwork, connection: Connection, own: string, peer: string) {
    this.#network = network;
    this.#connection = connection;
    this.own = own;
    this.peer = peer;
  }

  async send(frame: Frame): Promise<void> {
    // A stream takes nothing in the tick in which it is asked to.
    await Promise.resolve();
    this.#requireOpen();
    const network = this.#network;
    network.tap(this.own, this.peer, frame);
    const bytes = new Uint8Array(Buffer.concat([encodeFrame(frame)].flat()));
    network.bytes += bytes.byteLength;
    network.frames += 1;
    const { bandwidth } = network.speed(this.own, this.peer);
    const { now } = network.time;
    this.#busyUntil = Math.max(this.#busyUntil, now) + bytes.byteLength / bandwidth;
    this.#arrive((other) => other.#take(bytes));
    await new Promise<void>((resolve) => void network.time.after(this.#busyUntil - now, resolve));
    this.#requireOpen();
  }

  #requireOpen(): void {
    if (this.#isEnded || this.#connection.noticed.has(this.own)) throw new Error('the stream is gone');
  }

  /** Something reaches the other end, after what was sent before it. */
  #arrive(work: (other: End) => void): void {
    const { time, chance } = this.#network;
    const { latency } = this.#network.speed(this.own, this.peer);
    const jitter = chance.below(Math.ceil(latency));
    this.#arrivesAt = Math.max(this.#arrivesAt, this.#busyUntil, time.now) + latency + jitter;
    this.#later(this.#arrivesAt - time.now, work);
  }

  #later(ms: number, work: (other: End) => void): void {
    const { time } = this.#network;
    time.after(ms, () => {
      const { other } = this;
      if (!this.#connection.isOpen || other === null) return;
      if (this.#network.carries(this.own, this.peer) && this.#waiting.length === 0) return work(other);
      this.#waiting.push(work);
      if (this.#waiting.length === 1) this.#resend();
    });
  }

  /** What has not got through. */
  readonly #waiting: Array<(other: End) => void> = [];

  #resend(): void {
    this.#network.time.after(RESEND_MS, () => {
      const { other } = this;
      if (!this.#connection.isOpen || other === null) return;
      if (!this.#network.carries(this.own, this.peer)) return this.#resend();
      for (const work of this.#waiting.splice(0)) work(other);
    });
  }

  #take(bytes: Uint8Array): void {
    this.#inbox.push(bytes);
    this.#wake?.();
  }

  get frames(): AsyncIterable<Frame> {
    return { [Symbol.asyncIterator]: () => this.#read() };
  }

  async *#read(): AsyncGenerator<Frame> {
    for (;;) {
      if (this.#isAborted) return;
      const bytes = this.#inbox.shift();
      if (bytes !== undefined) yield decodeFrame(bytes);
      else if (this.#inboxEnded) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async close(): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#arrive((other) => other.#endInbox());
  }

  abort(_error: Error): void {
    if (this.#isAborted) return;
    this.#isAborted = true;
    this.#isEnded = true;
    this.#endInbox();
    this.#arrive((other) => other.#endInbox());
  }

  #endInbox(): void {
    this.#inboxEnded = true;
    this.#wake?.();
  }
}

function pairOf(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

function added<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const give = (): void => reject(signal.reason as Error);
    if (signal.aborted) give();
    else signal.addEventListener('abort', give, { once: true });
  });
}
