/**
 * Two nodes with one key: a home folder that was copied, or came back with a backup while the first one went on. They take turns in
 * everybody's sessions, so each would miss what it is owed, and nothing would say why. So every start of a node has a random name of its own, the
 * _instance_, and there are two ways to find out, neither of which a restart looks like:
 * - a node meets somebody with its own key and another instance;
 * - a member has two connections of one peer that were opened by different instances, both of which answer.
 * Noise carries the instance, under the key, so nobody else can make it up, and it costs no message of its own.
 */
import { randomBytes } from 'node:crypto';
import type { Connection } from '@libp2p/interface';

/** Protocol id by which a member tells both. */
export const TWIN_PROTOCOL = '/flotilla/twin/1';
const INSTANCE_BYTES = 16;
/** How long the older connection may take to answer, ms: as long as a silent one is kept. */
const ANSWER_MS = 8_000;
/** How long a connection to our own key is held, ms: libp2p resets it as soon as it has it, which could cost the other side the proof. */
const HOLD_MS = 1_000;

/** Called when it is known that two nodes run with the key of `device`; `by` is the member that has told us, '' when we know it ourselves. */
export type TwinListener = (device: string, by: string) => void;

export interface TwinWatchOptions {
  /** Own peer id. */
  readonly device: string;
  readonly openConnections: (peer: string) => Connection[];
  /** Resolves when the other side of a connection has answered, rejects when it does not. */
  readonly ping: (connection: Connection, signal: AbortSignal) => Promise<void>;
  readonly onTwin: TwinListener;
}

export class TwinWatch {
  /** Goes with every handshake of ours. */
  readonly instance = new Uint8Array(randomBytes(INSTANCE_BYTES));
  #options: TwinWatchOptions | null = null;
  /** The instance at the other end of connections that do not stand yet, hex. */
  readonly #told = new Map<string, string>();
  /** The same of those that do. */
  readonly #instances = new WeakMap<Connection, string>();
  readonly #proving = new Set<string>();

  start(options: TwinWatchOptions): void {
    this.#options = options;
  }

  /** Noise has proven our own key at the other end. Whoever has led our dial back to ourselves shows us our own instance. */
  async metSelf(instance: Uint8Array | undefined, direction: 'inbound' | 'outbound'): Promise<void> {
    if (instance?.byteLength !== INSTANCE_BYTES || Buffer.from(instance).equals(this.instance)) return;
    this.#options?.onTwin(this.#options.device, '');
    if (direction === 'outbound') await new Promise((resolve) => setTimeout(resolve, HOLD_MS));
  }

  /** Noise has proven which instance is at the other end of a connection, which need not come to stand. */
  told(key: string, instance: Uint8Array | undefined): void {
    if (instance?.byteLength === INSTANCE_BYTES) this.#told.set(key, Buffer.from(instance).toString('hex'));
  }

  /** A connection has ended, or was refused. */
  ended(key: string): void {
    this.#told.delete(key);
  }

  /** A connection stands. */
  opened(connection: Connection, key: string): void {
    const hex = this.#told.get(key);
    this.#told.delete(key);
    if (this.#options === null || hex === undefined) return;
    this.#instances.set(connection, hex);
    const peer = connection.remotePeer.toString();
    const other = this.#options
      .openConnections(peer)
      .find((one) => ![undefined, hex].includes(this.#instances.get(one)));
    if (other !== undefined) void this.#prove(peer, other, this.#options);
  }

  /** A node that was started anew leaves a dead connection behind for a while; one that answers now runs beside the other. */
  async #prove(peer: string, older: Connection, { ping, openConnections, onTwin }: TwinWatchOptions): Promise<void> {
    if (this.#proving.has(peer)) return;
    this.#proving.add(peer);
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      await ping(older, signal);
      onTwin(peer, '');
      await Promise.allSettled(
        openConnections(peer).map(async (one) => (await one.newStream(TWIN_PROTOCOL, { signal })).close({ signal })),
      );
    } catch {
      // The older one was dead, or is now.
    } finally {
      this.#proving.delete(peer);
    }
  }
}
