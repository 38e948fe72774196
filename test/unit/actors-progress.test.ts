import { describe, expect, it } from 'vitest';

import { createPassProgress, LEAST_RATE_MS, RATE_WINDOW_MS } from '../../src/actors/progress.ts';
import type { Clock } from '../../src/actors/clock.ts';

function begin() {
  let now = 1_000;
  const progress = createPassProgress({ now: () => now } as Clock);
  return {
    progress,
    add(ms: number, rows: number, remaining: number, complete = false) {
      now += ms;
      return progress.add({ rows, remaining, complete });
    },
  };
}

describe('the progress of a pass', () => {
  it('tells the rate of the last seconds, and what is left at that rate', () => {
    const { add } = begin();
    add(0, 100, 900);
    expect(add(1_000, 100, 800)).toEqual({ done: 200, total: 1_000, rate: 100, secondsLeft: 8 });
    add(RATE_WINDOW_MS, 100, 700);
    expect(add(1_000, 200, 500)).toMatchObject({ done: 500, rate: 50 });
  });

  it('tells no rate of a moment', () => {
    const { add } = begin();
    add(0, 100, 900);
    expect(add(LEAST_RATE_MS - 1, 500, 400)).toMatchObject({ rate: 0, secondsLeft: null });
    expect(add(1, 0, 400)).toMatchObject({ rate: 2_000, secondsLeft: 0.2 });
  });

  it('says nothing of what goes at another pace until that is known', () => {
    const { add, progress } = begin();
    expect(progress.changePace()).toBeNull();
    add(0, 100, 900);
    add(1_000, 800, 100);
    expect(progress.changePace()).toEqual({ done: 900, total: 1_000, rate: 0, secondsLeft: null });
    expect(progress.current()).toMatchObject({ secondsLeft: null });
    expect(add(1_000, 50, 50)).toMatchObject({ rate: 50, secondsLeft: 1 });
  });

  it('counts each pass from the beginning, and one that came to nothing', () => {
    const { add, progress } = begin();
    add(0, 100, 900);
    progress.reset();
    expect(progress.current()).toBeNull();
    expect(add(1_000, 10, 0, true)).toMatchObject({ done: 10, total: 10 });
    expect(progress.current()).toBeNull();
    expect(add(1_000, 5, 5)).toMatchObject({ done: 5, total: 10 });
  });
});
