/**
 * When it is worth a look what of others is news to a peer: sessions ask every few seconds, and mostly nothing was heard since. So a device
 * at rest leaves its database alone.
 */
import type { Clock } from './clock.ts';

/** It is looked at least so often, ms: that others are still there is news as well, once an hour. */
export const LOOK_AGAIN_MS = 10 * 60_000;

export interface HeardLooks {
  /** Something was heard. */
  heard(): void;
  /** A session begins. */
  begin(peer: string): void;
  /** Whether it is time to look again for this peer; then that counts as done. */
  take(peer: string): boolean;
}

export function createHeardLooks(clock: Pick<Clock, 'now'>): HeardLooks {
  let count = 0;
  const looked = new Map<string, { readonly count: number; readonly at: number }>();
  return {
    heard() {
      count += 1;
    },
    begin: (peer) => void looked.delete(peer),
    take(peer) {
      const last = looked.get(peer);
      const now = clock.now();
      if (last?.count === count && Math.abs(now - last.at) < LOOK_AGAIN_MS) return false;
      looked.set(peer, { count, at: now });
      return true;
    },
  };
}
