/**
 * What a peer sends may end the worker that takes it in: out of memory, a fault of ours. It is tried once more, as the session begins
 * anew; after that it is set aside for a while, so that the rest of the node goes on.
 */
import { FlotillaError } from '../errors.ts';
import type { Clock } from './clock.ts';

/** How often what a peer sends may end the worker in a row. */
export const MAX_ENDS = 2;
/** How long it is set aside then, ms: what was short of memory may have room again, and an hour later one restart more hurts nobody. */
export const SET_ASIDE_MS = 3_600_000;

export interface SetAside {
  /** The worker ended while it took in a batch of this peer. */
  ended(peer: string, error: FlotillaError): void;
  /** A batch of this peer was taken in. */
  worked(peer: string): void;
  /** @throws FlotillaError SET_ASIDE while nothing of this peer is taken in */
  check(peer: string): void;
}

export function createSetAside(clock: Pick<Clock, 'now'>): SetAside {
  const ends = new Map<string, { readonly count: number; readonly at: number; readonly reason: string }>();
  return {
    ended(peer, error) {
      ends.set(peer, { count: (ends.get(peer)?.count ?? 0) + 1, at: clock.now(), reason: error.message });
    },
    worked: (peer) => void ends.delete(peer),
    check(peer) {
      const found = ends.get(peer);
      if (found === undefined || found.count < MAX_ENDS || clock.now() - found.at >= SET_ASIDE_MS) return;
      throw new FlotillaError(
        'SET_ASIDE',
        `What this device sends has ended the database worker ${found.count} times (${found.reason}), so it is set aside for an hour; ` +
          'everything else goes on. Update both devices, or give this one more memory, and restart it.',
      );
    },
  };
}
