/**
 * The receiving half of a session: batches are applied one after the other, each ACKed when it is durable. What waits is
 * bounded by the credit that was granted; who sends beyond it breaks the protocol.
 */
import { FlotillaError } from '../errors.ts';
import type { Applied, FaultPoint } from '../db/api.ts';
import type { Frame } from '../protocol/types.ts';

/**
 * Bytes of batches that a peer may have on its way to us un-ACKed. About a dozen batches of 1,000 rows: enough to keep a
 * link of 50 ms busy at 80 MB/s, little enough that ten peers at once cost 40 MB.
 */
export const RECEIVE_CREDIT_BYTES = 4 * 1024 * 1024;

/** Live calls overtake those of a backfill in the mailbox of the write worker. */
export type Priority = 'live' | 'backfill';

export interface ReceiverOptions {
  readonly peer: string;
  readonly store: { apply(peer: string, data: Uint8Array, priority: Priority): Promise<Applied> };
  readonly credit: number;
  readonly send: (frame: Frame) => Promise<void>;
  /** After each batch that was applied, before its ACK. */
  readonly onDurable: (applied: Applied) => void;
  /** After each batch that was applied and ACKed; `first` until the first pass is complete, that batch included. */
  readonly onApplied: (applied: Applied, first: boolean, bytes: number) => void;
  readonly onFault: (error: unknown) => void;
  /** Hears of each step at which a crash is tried. Given by tests alone. @default nobody does */
  readonly reached?: (point: FaultPoint) => void;
}

export interface Receiver {
  /** Takes a batch; throws `PROTOCOL` when the credit was used up before it came. */
  take(data: Uint8Array): void;
  /** True while a batch is being applied. */
  applying(): boolean;
  /** Drops what waits; resolves when the batch that is being applied, if any, is durable and ACKed. */
  stop(): Promise<void>;
}

export function createReceiver(options: ReceiverOptions): Receiver {
  const { peer, store, credit, send } = options;
  const waiting: Uint8Array[] = [];
  let unacked = 0;
  let first = true;
  let stopped = false;
  let applying = false;
  let running: Promise<void> | null = null;

  async function run(): Promise<void> {
    try {
      for (let data = waiting.shift(); data !== undefined && !stopped; data = waiting.shift()) {
        const bytes = data.byteLength;
        applying = true;
        const applied = await store.apply(peer, movable(data), first ? 'backfill' : 'live');
        applying = false;
        options.onDurable(applied);
        unacked -= bytes;
        options.reached?.('ack: due');
        await send({
          type: 'ack',
          cursor: applied.cursor,
          complete: applied.complete,
          credit: bytes,
          knowledge: applied.said,
        });
        options.reached?.('ack: sent');
        options.onApplied(applied, first, bytes);
        if (applied.complete) first = false;
      }
    } catch (error) {
      stopped = true;
      options.onFault(error);
    } finally {
      running = null;
    }
  }

  return {
    take(data) {
      if (stopped) return;
      // A batch may overdraw the credit, since its size is known only when it is read, but nothing may follow it.
      if (unacked >= credit) {
        throw new FlotillaError('PROTOCOL', `The peer sent more than the ${credit} bytes it was granted.`);
      }
      unacked += data.byteLength;
      waiting.push(data);
      running ??= run();
    },
    applying: () => applying,
    async stop() {
      stopped = true;
      waiting.length = 0;
      await running;
    },
  };
}

/** Bytes beside a batch in the buffer of its packet: the type of its frame. */
const MAX_PACKET_HEAD_BYTES = 16;

/** The bytes in a buffer that can move to the worker as a whole; copied where they are a small part of a larger one. */
export function movable(data: Uint8Array): Uint8Array {
  const { buffer } = data;
  if (buffer instanceof ArrayBuffer && buffer.byteLength - data.byteLength <= MAX_PACKET_HEAD_BYTES) return data;
  return new Uint8Array(data);
}
