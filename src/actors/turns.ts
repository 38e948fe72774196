/**
 * A device that is behind takes the feed of one peer at a time, and asks the others when it has that: they then send only what
 * that one did not have. First comes who answers first, so the nearest and the least busy.
 */
import type { Clock } from './clock.ts';

/** How long a peer whose turn it is may send nothing before the next one is asked as well, ms. */
export const TURN_PATIENCE_MS = 5_000;

/** A peer's turn. It ends with its session as well. */
export interface Turn {
  /** Something came from the peer. */
  goesOn(): void;
  /** The peer has sent all. Twice is harmless. */
  end(): void;
}

export interface Turns {
  /**
   * Resolves when it is the turn of whoever asks.
   * @param signal - ends the waiting (rejects then), or the turn
   */
  take(signal: AbortSignal): Promise<Turn>;
}

export function createTurns(clock: Clock): Turns {
  const waiting = new Set<() => void>();
  let current: Turn | null = null;
  let timer: unknown = null;

  function watch(): void {
    clock.clearTimeout(timer);
    // Whose time is up goes on, but nobody waits for it any more.
    timer = clock.setTimeout(next, TURN_PATIENCE_MS);
  }

  function next(): void {
    clock.clearTimeout(timer);
    current = null;
    for (const begin of waiting) return begin();
  }

  function begin(signal: AbortSignal): Turn {
    const turn: Turn = {
      goesOn() {
        if (current === turn) watch();
      },
      end() {
        signal.removeEventListener('abort', turn.end);
        if (current === turn) next();
      },
    };
    signal.addEventListener('abort', turn.end);
    current = turn;
    watch();
    return turn;
  }

  return {
    async take(signal) {
      signal.throwIfAborted();
      if (current === null) return begin(signal);
      return new Promise((resolve, reject) => {
        const leave = (): void => {
          waiting.delete(go);
          reject(signal.reason as Error);
        };
        const go = (): void => {
          waiting.delete(go);
          signal.removeEventListener('abort', leave);
          resolve(begin(signal));
        };
        waiting.add(go);
        signal.addEventListener('abort', leave);
      });
    },
  };
}
