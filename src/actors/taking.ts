/**
 * Taking a snapshot, in place of the first pass of the feed: asks for it, gathers its chunks, and has it taken in. So many chunks are asked
 * for ahead that a link is kept busy; what was gathered before a session broke off is not asked for again.
 */
import type { SnapshotOffer, SnapshotWanted, TakenSnapshot } from '../db/api.ts';
import { FlotillaError } from '../errors.ts';
import { CHUNK_BYTES } from '../protocol/messages.ts';
import type { Frame } from '../protocol/types.ts';
import { createGate } from './clock.ts';
import { movable } from './receiving.ts';

/** Chunks that may be on their way: 4 MiB, as much as a credit. */
export const CHUNKS_ON_THE_WAY = 16;

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
  /** Resolves when the snapshot is durable here, with its rows; with null when there is none, or it is not what it should be. */
  run(wanted: SnapshotWanted): Promise<TakenSnapshot | null>;
}

export function createTaking(options: {
  readonly peer: string;
  readonly store: SnapshotStore;
  readonly send: (frame: Frame) => Promise<void>;
  readonly signal: AbortSignal;
  /** So many rows more are done, and so many are left: about, for people. */
  readonly onProgress: (rows: number, remaining: number) => void;
  /** All has come, and is taken in from here on. */
  readonly onTransferred: () => void;
}): Taking {
  const { peer, store, send, signal, onProgress, onTransferred } = options;
  const wake = createGate();
  const chunks: Uint8Array[] = [];
  let isAsked = false;
  let offer: SnapshotOffer | null = null;
  /** Chunks that were asked for and have not come. */
  let owed = 0;

  /** @returns rows that were told of */
  async function gather({ id, bytes, rows }: SnapshotOffer, from: number): Promise<number> {
    let asked = from;
    let done = from;
    let shown = 0;
    while (done < bytes) {
      for (; owed + chunks.length < CHUNKS_ON_THE_WAY && asked < bytes; asked += CHUNK_BYTES) {
        owed += 1;
        await send({ type: 'part', id, offset: asked });
      }
      const chunk = chunks.shift();
      if (chunk === undefined) {
        await wake.wait(signal);
        continue;
      }
      done += chunk.byteLength;
      await store.addToSnapshot(peer, movable(chunk));
      signal.throwIfAborted();
      const now = Math.floor((TRANSFERRED * rows * done) / bytes);
      onProgress(now - shown, rows - now);
      shown = now;
    }
    return shown;
  }

  return {
    answered(frame) {
      if (frame.type === 'snapshot') {
        if (!isAsked || offer !== null)
          throw new FlotillaError('PROTOCOL', 'The peer offers a snapshot without being asked.');
        const { type: _type, ...fields } = frame;
        offer = fields;
      } else {
        if (owed === 0) throw new FlotillaError('PROTOCOL', 'The peer sent a chunk that was not asked for.');
        owed -= 1;
        chunks.push(frame.data);
      }
      wake.open();
    },
    async run({ layout }) {
      isAsked = true;
      await send({ type: 'fetch', layout });
      while (offer === null) await wake.wait(signal);
      if (offer.bytes === 0) return null;
      const from = await store.beginSnapshot(peer, offer);
      signal.throwIfAborted();
      const shown = await gather(offer, from);
      onTransferred();
      const taken = await store.takeSnapshot(peer);
      if (taken !== null) onProgress(offer.rows - shown, 0);
      return taken;
    },
  };
}
