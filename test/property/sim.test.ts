/**
 * The fleet in a box, small: `npm run sim` plays it at length. Whole nodes in virtual time, with crashes, partitions and a long absence.
 */
import { describe, expect, it } from 'vitest';

import { SimError, playSim } from '../sim/fleet.ts';
import type { Mutant } from '../sim/mutants.ts';

const SMALL = { nodes: 3, rounds: 1, minutes: 2 };

describe('a simulated fleet', () => {
  it('keeps what was promised, and replays exactly', async () => {
    const first = await playSim(2, SMALL);
    expect(first.operations).toBeGreaterThan(20);
    await playSim(4, SMALL);
    expect(await playSim(2, SMALL)).toEqual(first);
  });

  it.each<[Mutant, number]>([
    ['ack-before-commit', 2],
    ['early-knowledge', 2],
    ['prune-at-once', 1],
  ])('finds a build with %s', async (mutant, seed) => {
    await expect(playSim(seed, { ...SMALL, mutant })).rejects.toBeInstanceOf(SimError);
  });
});
