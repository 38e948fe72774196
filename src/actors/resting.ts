/**
 * Having a peer pause its feed while another one's turn has come, and go on with it later, without what has come from others meanwhile.
 */
import type { Store } from '../db/api.ts';
import type { Frame } from '../protocol/types.ts';

export interface Resting {
  /** Says so to the peer, as soon as it was asked for its feed. */
  rest(rests: boolean): void;
  rests(): boolean;
  /** The peer has been asked for its feed. */
  begun(): Promise<void>;
  /** Tells the peer what has come in passes that are not complete. */
  tellStamps(): Promise<void>;
}

export function createResting(options: {
  readonly store: Pick<Store, 'stampsBeyond'>;
  readonly send: (frame: Frame) => Promise<void>;
  readonly signal: AbortSignal;
  readonly onFault: (error: unknown) => void;
}): Resting {
  const { store, send, signal, onFault } = options;
  let isAsked = false;
  let rests = false;
  let said = false;
  let saying: Promise<void> | null = null;

  async function tellStamps(): Promise<void> {
    for (const data of await store.stampsBeyond()) await send({ type: 'has', data });
    signal.throwIfAborted();
  }

  /** What is decided meanwhile is said as well. */
  async function say(): Promise<void> {
    try {
      while (rests !== said) {
        const now = rests;
        if (!now) await tellStamps();
        said = now;
        await send({ type: 'rest', rests: now });
      }
    } catch (error) {
      if (!signal.aborted) onFault(error);
    } finally {
      saying = null;
    }
  }

  return {
    rest(now) {
      rests = now;
      if (isAsked && rests !== said) saying ??= say();
    },
    rests: () => rests,
    async begun() {
      isAsked = true;
      if (rests !== said) saying ??= say();
      await saying;
    },
    tellStamps,
  };
}
