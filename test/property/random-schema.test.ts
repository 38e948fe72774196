/**
 * Random schemas and everything that happens to their copies, from a few fixed seeds; `npm run fuzz` plays more of them, and
 * longer ones. A failure prints its seed and its whole story; `npm run fuzz -- --runs 1 --seed N --kind K --short` makes it short.
 */
import { describe, expect, it } from 'vitest';

import { KINDS, playStory } from '../support/random/play.ts';

/** Stories of each kind: about 10 s in all. */
const STORIES = 3;
/** ms for the stories of one kind, on a machine that does other things as well. */
const TIMEOUT = 120_000;

describe('random schemas', () => {
  it.each(KINDS)('%s: the copies are equal in the end, and nothing is lost', { timeout: TIMEOUT }, async (kind) => {
    let [operations, tokens] = [0, 0];
    for (let seed = 1; seed <= STORIES; seed += 1) {
      const told = await playStory(seed, { kind });
      operations += told.operations;
      tokens += told.tokens;
    }
    // A story in which nothing is written proves nothing.
    expect(operations).toBeGreaterThan(STORIES * 50);
    expect(tokens).toBeGreaterThan(STORIES * 10);
  });

  it('are the same for the same seed', { timeout: TIMEOUT }, async () => {
    const [one, other] = [await playStory(3, { kind: 'easy' }), await playStory(3, { kind: 'easy' })];
    expect(one).toEqual(other);
  });
});
