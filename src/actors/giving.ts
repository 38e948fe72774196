/**
 * Giving a snapshot: makes one, or says that there is none, and sends its chunks as they are asked for, one after the other. Whoever asks
 * for more at once than fits on the way breaks the protocol.
 */
import type { Store } from '../db/api.ts';
import { FlotillaError } from '../errors.ts';
import type { Frame } from '../protocol/types.ts';
import { CHUNKS_ON_THE_WAY } from './taking.ts';

/**
 * Rows from which on a snapshot is worth its file: making, checking and copying one takes about 200 ms however small it is, in which the
 * feed brings nearly as many.
 */
export const SNAPSHOT_ROWS = 20_000;

type Request = Extract<Frame, { type: 'fetch' | 'part' }>;

export interface Giving {
  /** Takes a request; throws `PROTOCOL` when too many wait. */
  asked(request: Request): void;
  /** Drops what waits; resolves when nothing runs any more. */
  stop(): Promise<void>;
}

export function createGiving(options: {
  readonly peer: string;
  readonly store: Pick<Store, 'offerSnapshot' | 'snapshotPart'>;
  readonly leastRows: number;
  readonly send: (frame: Frame) => Promise<void>;
  readonly onFault: (error: unknown) => void;
}): Giving {
  const { peer, store, leastRows, send, onFault } = options;
  const waiting: Request[] = [];
  let running: Promise<void> | null = null;
  let stopped = false;

  async function answer(request: Request): Promise<Frame> {
    if (request.type === 'part')
      return { type: 'chunk', data: new Uint8Array((await store.snapshotPart(peer, request.id, request.offset)).data) };
    const offer = await store.offerSnapshot(peer, request.layout, leastRows);
    return { type: 'snapshot', ...(offer ?? NONE) };
  }

  async function run(): Promise<void> {
    try {
      for (let next = waiting.shift(); next !== undefined && !stopped; next = waiting.shift())
        await send(await answer(next));
    } catch (error) {
      if (!stopped) onFault(error);
    } finally {
      running = null;
    }
  }

  return {
    asked(request) {
      if (stopped) return;
      if (waiting.length > CHUNKS_ON_THE_WAY)
        throw new FlotillaError('PROTOCOL', 'The peer asks for more chunks than may be on their way.');
      waiting.push(request);
      running ??= run();
    },
    async stop() {
      stopped = true;
      waiting.length = 0;
      await running;
    },
  };
}

const NONE = { id: '00', bytes: 0, hash: '00', rows: 0 };
