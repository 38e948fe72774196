/**
 * Counts a pass as it is taken in: done, total, rate, time left. The clock is passed in.
 */
import type { Progress } from '../api.ts';
import type { Applied } from '../db/api.ts';
import type { Clock } from './clock.ts';

/** The rate is measured over this long, ms: short enough to follow a change, long enough not to flicker. */
export const RATE_WINDOW_MS = 5_000;
/** No rate is told of less than this, ms: a burst that was on its way already says nothing of the rest. */
export const LEAST_RATE_MS = 250;

export interface PassProgress {
  /** Counts a batch that was applied. */
  add(applied: Pick<Applied, 'rows' | 'remaining' | 'complete'>): Progress;
  /** What is left goes at another pace: nothing is said of it until it is known. */
  changePace(): Progress | null;
  /** What was counted came to nothing: the pass begins anew. */
  reset(): void;
  /** The pass that runs; null between passes. */
  current(): Progress | null;
}

export function createPassProgress(clock: Clock): PassProgress {
  let done = 0;
  let samples: Array<{ readonly at: number; readonly done: number }> = [];
  let current: Progress | null = null;

  return {
    add({ rows, remaining, complete }) {
      const now = clock.now();
      if (current === null) {
        done = 0;
        samples = [];
      }
      done += rows;
      samples.push({ at: now, done });
      // The oldest sample is kept until a younger one is as old as the window, so that a slow pass has a rate, too.
      while (samples.length > 2 && samples[1]!.at <= now - RATE_WINDOW_MS) samples.shift();
      const first = samples[0]!;
      const elapsed = now - first.at;
      const rate = elapsed >= LEAST_RATE_MS ? ((done - first.done) / elapsed) * 1_000 : 0;
      // The total follows the sender's head, so that it is exact at the end whatever was written or skipped meanwhile.
      const total = done + remaining;
      const progress = { done, total, rate, secondsLeft: complete ? 0 : rate > 0 ? remaining / rate : null };
      current = complete ? null : progress;
      return progress;
    },
    changePace() {
      samples = [{ at: clock.now(), done }];
      if (current !== null) current = { ...current, rate: 0, secondsLeft: null };
      return current;
    },
    reset() {
      current = null;
    },
    current: () => current,
  };
}
