/**
 * Copies that count, from seeds: after all exchanges every copy shows the sum of all increments, the greatest of all values and
 * all marks, whatever way they went. `FLOTILLA_FLEET_RUNS` raises the number of seeds, `FLOTILLA_FLEET_SEED` is the first of them.
 */
import { expect, it } from 'vitest';

import { playCounting } from '../support/counting.ts';

/** Seeds: about 5 s. */
const RUNS = Number(process.env['FLOTILLA_FLEET_RUNS'] ?? 20);
const FIRST_SEED = Number(process.env['FLOTILLA_FLEET_SEED'] ?? 1);
const STEPS = 120;

it('[C10] [C13] a random fleet counts exactly', { timeout: 60_000 + RUNS * 3000 }, async () => {
  expect(RUNS).toBeGreaterThan(0);
  for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed += 1) await playCounting(seed, STEPS);
});
