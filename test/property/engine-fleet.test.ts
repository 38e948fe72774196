/**
 * A random fleet, from seeds: whatever programs write and however passes are cut, repeated, relayed and restored, the copies
 * come to rest, are equal, keep their constraints at every commit, and have lost nothing. A failure prints its seed and its
 * whole story; `FLOTILLA_FLEET_RUNS` raises the number of seeds, `FLOTILLA_FLEET_SEED` is the first of them.
 */
import { describe, expect, it } from 'vitest';

import { playFleet } from '../support/fleet.ts';

/** Seeds in all: about 10 s. */
const RUNS = Number(process.env['FLOTILLA_FLEET_RUNS'] ?? 20);
const FIRST_SEED = Number(process.env['FLOTILLA_FLEET_SEED'] ?? 1);
/** ms for a part of the seeds. */
const TIMEOUT = 60_000 + RUNS * 1000;

async function play(share: number, offset: number, options: Parameters<typeof playFleet>[1]): Promise<void> {
  const count = Math.ceil(RUNS * share);
  expect(count).toBeGreaterThan(0);
  for (let seed = FIRST_SEED; seed < FIRST_SEED + count; seed += 1) await playFleet(seed + offset, options);
}

describe('a random fleet', () => {
  it('comes to rest equal, with nothing lost', { timeout: TIMEOUT }, () => play(0.4, 0, { restores: false }));

  it('does so after restores from older backups', { timeout: TIMEOUT }, () => play(0.3, 100_000, { restores: true }));

  it('does so after a long story', { timeout: TIMEOUT }, () => play(0.1, 200_000, { steps: 200 }));

  it('[O4] does so where rows are owned through others, moved and given away', { timeout: TIMEOUT }, () =>
    play(0.3, 400_000, { transfers: true, steps: 100 }),
  );

  it('comes to rest equal where values collide and deletes are forbidden', { timeout: TIMEOUT }, () =>
    play(0.2, 300_000, { hard: true, steps: 100 }),
  );
});

describe('seeds that found a fault once', () => {
  it.each([
    [1, 60, false, 'copies that differed'],
    [6, 100, true, 'copies that differed'],
    [15, 60, false, 'a content that went back to an older one'],
    [222, 60, false, 'a tagging that was lost'],
  ])('%i in %i steps (hard: %s): %s', { timeout: TIMEOUT }, async (seed, steps, hard) => {
    await playFleet(seed, { steps, hard });
  });

  it('[O8] 401204, where rows are given away: copies that differed', { timeout: TIMEOUT }, () =>
    playFleet(401_204, { transfers: true, steps: 100 }),
  );
});
