/**
 * Random stories in which clocks are a year ahead now and then, and are set right: what was written meanwhile is stamped again, and all that is promised
 * of other stories is promised of these. `FLOTILLA_CLOCK_RUNS` raises the number of seeds.
 */
import { describe, expect, it } from 'vitest';

import { KINDS, playStory } from '../support/random/play.ts';

/** Seeds of each kind: about 10 s in all. */
const RUNS = Number(process.env['FLOTILLA_CLOCK_RUNS'] ?? 3);
const FIRST_SEED = 5_000;
/** ms for one seed. */
const SEED_MS = 20_000;

describe('[T3] random stories with clocks that were a year ahead', () => {
  it.each([...KINDS])('lose nothing, and end equal: %s', { timeout: (RUNS + 1) * SEED_MS }, async (kind) => {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed += 1) {
      const told = await playStory(seed, { kind, wrongClocks: true });
      expect(told.operations).toBeGreaterThan(0);
    }
  });
});
