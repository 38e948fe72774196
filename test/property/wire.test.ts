/** A little of what `npm run fuzz:wire` does at length: damaged and hostile messages for everything that reads them. */
import { describe, expect, it } from 'vitest';

import { Chance } from '../support/random/chance.ts';
import { TARGETS } from '../support/wire/targets.ts';
import { fire } from '../support/wire/worker.ts';

/** Messages for each decoder; a library to apply to takes longer to make than a message to read. */
const RUNS = 40;
const APPLIED = 8;

describe('[H2] damaged and hostile messages', () => {
  it.each(TARGETS)('are read as $name, or refused in words', (target) => {
    const tally = { read: 0, refused: 0 };
    const draw = target.open(1);
    const runs = target.name === 'apply' ? APPLIED : RUNS;
    for (let run = 0; run < runs; run += 1) {
      const fault = fire(target, draw(new Chance(run)), tally);
      expect(fault, `run ${run}`).toBeNull();
    }
    expect(tally.read + tally.refused).toBe(runs);
  });
});
