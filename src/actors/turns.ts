/**
 * A device that is behind takes the feed of one peer at a time, and asks the others when it has that: they then send only what
 * that one did not have. First comes who answers first, so the nearest and the least busy.
 */
import { createGate } from './clock.ts';
import type { Clock } from './clock.ts';

/** How long a peer whose turn it is may send nothing before the next one is asked as well, ms. */
export const TURN_PATIENCE_MS = 5_000;

/** A peer's turn. */
export interface Turn {
  /** Something came from it. */
  goesOn(): void;
  /** It has sent all, or is gone. Twice is harmless. */
  end(): void;
}

export interface Turns {
  /** Resolves when it is the turn of whoever asks; rejects when `signal` aborts. */
  take(signal: AbortSignal): Promise<Turn>;
}

export function createTurns(clock: Clock): Turns {
  const waiting: Array<() => void> = [];
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
    waiting.shift()?.();
  }

  function begin(): Turn {
    const turn: Turn = {
      goesOn() {
        if (current === turn) watch();
      },
      end() {
        if (current === turn) next();
      },
    };
    current = turn;
    watch();
    return turn;
  }

  return {
    async take(signal) {
      signal.throwIfAborted();
      if (current === null) return begin();
      const gate = createGate();
      let turn: Turn | null = null;
      const go = (): void => {
        turn = begin();
        gate.open();
      };
      waiting.push(go);
      try {
        await gate.wait(signal);
      } catch (error) {
        const place = waiting.indexOf(go);
        if (place >= 0) waiting.splice(place, 1);
        (turn as Turn | null)?.end();
        throw error;
      }
      return turn as unknown as Turn;
    },
  };
}
