/**
 * The fleet in a box, small: `npm run sim` plays it at length. Whole nodes in virtual time, with crashes, partitions and a long absence.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { BROKEN_BUILDS } from '../sim/builds.ts';
import { SimError } from '../sim/fault.ts';
import { playSim } from '../sim/fleet.ts';
import type { Mutant } from '../sim/mutants.ts';

const ROOT = join(import.meta.dirname, '..', '..');
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
    ['early-knowledge', 1],
    ['prune-at-once', 1],
  ])('finds a build with %s', async (mutant, seed) => {
    await expect(playSim(seed, { ...SMALL, mutant })).rejects.toBeInstanceOf(SimError);
  });
});

describe('a broken build', () => {
  it.each(BROKEN_BUILDS)(
    '$name is broken where it says, and its trace is there',
    ({ changes, trace: [file, name] }) => {
      for (const change of changes) {
        const text = readFileSync(join(ROOT, change.file), 'utf8');
        expect(text.split(change.from), change.from).toHaveLength(2);
      }
      expect(readFileSync(join(ROOT, file), 'utf8')).toContain(`[${name}]`);
    },
  );

  it('has a name of its own', () => {
    const names = BROKEN_BUILDS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });
});
