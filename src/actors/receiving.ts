/**
 * The receiving half of a session: batches are applied in their order, those that have gathered together, each ACKed when it is durable. What waits is
 * bounded by the credit that was granted; who sends beyond it breaks the protocol.
 */
import { FlotillaError } from '../errors.ts';
import type { Applied, FaultPoint } from '../db/api.ts';
import type { Cursor, Frame } from '../protocol/types.ts';

/**
 * Bytes of batches that a peer may have on its way to us un-ACKed. About a dozen batches of 1,000 rows: enough to keep a
 * link of 50 ms busy at 80 MB/s, little enough that ten peers at once cost 40 MB.
 */
export const RECEIVE_CREDIT_BYTES = 4 * 1024 * 1024;

/**
 * Bytes of batches that are applied together, in one transaction if nobody else writes: about eight of 1,000 rows, 100 ms. Half as many take as
 * long a row in a small library and 6 % longer in one of two million rows, where each transaction writes a page or two of an index for nearly every row.
 */
const TOGETHER_BYTES = 640 * 1024;
/** How many at most: live ones are small, and each looks after what it completes. */
const TOGETHER = 32;

/** Live calls overtake those of a backfill in the mailbox of the write worker. */
export type Priority = 'live' | 'backfill';

export interface ReceiverOptions {
  readonly peer: string;
  readonly store: {
    apply(peer: string, pages: readonly Uint8Array[], priority: Priority): Promise<readonly Applied[]>;
  };
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
  /** The first pass is over, without a batch. */
  concluded(): void;
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

  /** @param cursor - as the library has it by now */
  async function ack(applied: Applied, bytes: number, cursor: Cursor): Promise<void> {
    const { complete, said } = applied;
    options.onDurable(applied);
    unacked -= bytes;
    options.reached?.('ack: due');
    await send({ type: 'ack', cursor, complete, credit: bytes, knowledge: said });
    options.reached?.('ack: sent');
    options.onApplied(applied, first, bytes);
    if (complete) first = false;
  }

  async function run(): Promise<void> {
    try {
      while (waiting.length > 0 && !stopped) {
        const pages = waiting.splice(0, fewOf(waiting));
        const sizes = pages.map(({ byteLength }) => byteLength);
        applying = true;
        const all = await store.apply(peer, pages.map(movable), first ? 'backfill' : 'live');
        applying = false;
        for (const [i, applied] of all.entries()) await ack(applied, sizes[i] ?? 0, (all.at(-1) ?? applied).cursor);
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
    concluded() {
      first = false;
    },
    applying: () => applying,
    async stop() {
      stopped = true;
      waiting.length = 0;
      await running;
    },
  };
}

/** How many of the batches that wait are applied together: the first, and what fits beside it. */
function fewOf(waiting: readonly Uint8Array[]): number {
  let bytes = 0;
  let count = 0;
  for (const { byteLength } of waiting) {
    bytes += byteLength;
    if (count > 0 && (count === TOGETHER || bytes > TOGETHER_BYTES)) break;
    count += 1;
  }
  return count;
}

/** Bytes beside a batch in the buffer of its packet: the type of its frame. */
const MAX_PACKET_HEAD_BYTES = 16;

/** The bytes in a buffer that can move to the worker as a whole; copied where they are a small part of a larger one. */
export function movable(data: Uint8Array): Uint8Array {
  const { buffer } = data;
  if (buffer instanceof ArrayBuffer && buffer.byteLength - data.byteLength <= MAX_PACKET_HEAD_BYTES) return data;
  return new Uint8Array(data);
}
