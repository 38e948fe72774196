/**
 * Taking a snapshot, in place of the first pass of the feed: asks for it, gathers its chunks, and has it taken in. So many chunks are asked
 * for ahead that a link is kept busy; what was gathered before a session broke off, or before another peer's turn, is not asked for again.
 */
import type { SnapshotOffer, SnapshotWanted, TakenSnapshot } from '../db/api.ts';
import { FlotillaError } from '../errors.ts';
import { CHUNK_BYTES } from '../protocol/messages.ts';
import type { Frame } from '../protocol/types.ts';
import { createGate } from './clock.ts';
import type { Clock } from './clock.ts';
import { movable } from './receiving.ts';

/** Chunks that may be on their way: 4 MiB, as much as a credit. */
export const CHUNKS_ON_THE_WAY = 16;

/**
 * How long a peer may make a snapshot before it counts as one that gives nothing, ms: about 5 s for ten million rows on a quiet machine.
 */
export const SNAPSHOT_MAKING_MS = 60_000;

/** Share of a snapshot that counts as done when all of it has come: what is left is to take it in, which may last longer than a fast link. */
export const TRANSFERRED = 0.9;

/** What is used of the store. */
export interface SnapshotStore {
  beginSnapshot(peer: string, offer: SnapshotOffer): Promise<number>;
  addToSnapshot(peer: string, data: Uint8Array): Promise<void>;
  takeSnapshot(peer: string): Promise<TakenSnapshot | null>;
}

export interface Taking {
  /** Takes an answer of the peer; throws `PROTOCOL` when nothing was asked that it could answer. */
  answered(frame: Extract<Frame, { type: 'snapshot' | 'chunk' }>): void;
  /**
   * Resolves when the snapshot is durable here, with its rows; with null when there is none, or it is not what it should be; with 'left' when
   * it was left before all had come.
   */
  run(wanted: SnapshotWanted): Promise<TakenSnapshot | null | 'left'>;
  /** Asks for no more of it, if it has not all come. */
  leave(): void;
  /** True while what is waited for is not the link: the peer makes the snapshot, or it is taken in here. */
  isAtWork(): boolean;
}

export function createTaking(options: {
  readonly peer: string;
  readonly store: SnapshotStore;
  readonly send: (frame: Frame) => Promise<void>;
  readonly signal: AbortSignal;
  readonly clock: Pick<Clock, 'now'>;
  /** So many rows more are done, and so many are left, about; and so many bytes have come. */
  readonly onProgress: (rows: number, remaining: number, bytes: number) => void;
  /** All has come, and is taken in from here on. */
  readonly onTransferred: () => void;
}): Taking {
  const { peer, store, send, signal, clock, onProgress, onTransferred } = options;
  const wake = createGate();
  const chunks: Uint8Array[] = [];
  /** When the snapshot was asked for, whose offer is awaited; null: none is. */
  let askedAt: number | null = null;
  let offer: SnapshotOffer | null = null;
  /** Chunks that were asked for and have not come. */
  let owed = 0;
  /** Answers that are on their way to what was left. */
  let stale = 0;
  let isRunning = false;
  let isLeft = false;
  let takesIn = false;

  /** @returns rows that were told of */
  async function gather({ id, bytes, rows }: SnapshotOffer, from: number): Promise<number> {
    let asked = from;
    let done = from;
    let shown = 0;
    while (done < bytes && !isLeft) {
      for (; owed + chunks.length < CHUNKS_ON_THE_WAY && asked < bytes; asked += CHUNK_BYTES) {
        owed += 1;
        await send({ type: 'part', id, offset: asked });
      }
      const chunk = chunks.shift();
      if (chunk === undefined) {
        await wake.wait(signal);
        continue;
      }
      const size = chunk.byteLength;
      done += size;
      await store.addToSnapshot(peer, movable(chunk));
      signal.throwIfAborted();
      const now = Math.floor((TRANSFERRED * rows * done) / bytes);
      onProgress(now - shown, rows - now, size);
      shown = now;
    }
    return shown;
  }

  async function take({ layout }: SnapshotWanted): Promise<TakenSnapshot | null | 'left'> {
    askedAt = clock.now();
    await send({ type: 'fetch', layout });
    while (offer === null && !isLeft) await wake.wait(signal);
    if (offer === null) return 'left';
    const offered: SnapshotOffer = offer;
    if (offered.bytes === 0) return null;
    const from = await store.beginSnapshot(peer, offered);
    signal.throwIfAborted();
    const shown = await gather(offered, from);
    if (isLeft) return 'left';
    takesIn = true;
    onTransferred();
    const taken = await store.takeSnapshot(peer);
    if (taken !== null) onProgress(offered.rows - shown, 0, 0);
    return taken;
  }

  return {
    answered(frame) {
      if (stale > 0) {
        stale -= 1;
        return;
      }
      if (frame.type === 'snapshot') {
        if (askedAt === null) throw new FlotillaError('PROTOCOL', 'The peer offers a snapshot without being asked.');
        askedAt = null;
        const { type: _type, ...fields } = frame;
        offer = fields;
      } else {
        if (owed === 0) throw new FlotillaError('PROTOCOL', 'The peer sent a chunk that was not asked for.');
        owed -= 1;
        chunks.push(frame.data);
      }
      wake.open();
    },
    async run(wanted) {
      isRunning = true;
      isLeft = false;
      try {
        return await take(wanted);
      } catch (error) {
        // By then it may be another peer whose snapshot is gathered.
        if (isLeft && !signal.aborted) return 'left';
        throw error;
      } finally {
        stale += owed + (askedAt === null ? 0 : 1);
        [askedAt, offer, owed, chunks.length] = [null, null, 0, 0];
        isRunning = false;
        takesIn = false;
      }
    },
    leave() {
      if (!isRunning || takesIn) return;
      isLeft = true;
      wake.open();
    },
    isAtWork: () => takesIn || (askedAt !== null && Math.abs(clock.now() - askedAt) < SNAPSHOT_MAKING_MS),
  };
}
