/**
 * Hunts the builds that are broken on purpose: each must be found, by its hand-made trace or by random seeds.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

import { BROKEN_BUILDS } from './builds.ts';
import type { BrokenBuild } from './builds.ts';
import { SimError } from './fault.ts';
import { playSim } from './fleet.ts';
import { MUTANTS } from './mutants.ts';
import type { Mutant } from './mutants.ts';

const VITEST = join(import.meta.dirname, '..', '..', 'node_modules', 'vitest', 'vitest.mjs');
const CONFIG = join(import.meta.dirname, 'builds.config.ts');
/** A small fleet is enough for what is broken at every turn, and stories that are tried until it shows. */
const SMALL = { nodes: 3, rounds: 1, minutes: 2 };
const MAX_SEEDS = 20;

/** Runs the trace against its build. @returns how it was found; '' if it was not */
export function runTrace({ name, trace: [, tests] }: BrokenBuild): string {
  const { stdout, stderr } = spawnSync(process.execPath, [VITEST, 'run', '--config', CONFIG, '-t', `\\[${tests}\\]`], {
    encoding: 'utf8',
    env: { ...process.env, FLOTILLA_BROKEN_BUILD: name },
    maxBuffer: 1 << 28,
  });
  const [, passed = 0, failed = 0, skipped = 0] = (
    /tests: (\d+) passed, (\d+) failed, (\d+) skipped/.exec(stdout) ?? []
  ).map(Number);
  // A build that cannot even be loaded would not be one.
  if (passed + skipped === 0) throw new Error(`The trace of ${name} could not be run: ${stdout}${stderr}`);
  return failed > 0 ? `the trace [${tests}]` : '';
}

async function playSeeds(mutant: Mutant): Promise<string> {
  for (let seed = 1; seed <= MAX_SEEDS; seed += 1) {
    try {
      await playSim(seed, { ...SMALL, mutant });
    } catch (error) {
      if (!(error instanceof SimError)) throw error;
      return `seed ${seed}`;
    }
  }
  return '';
}

export interface Hunted {
  readonly mutants: number;
  readonly caught: number;
  readonly missed: readonly string[];
}

/** @param tell - hears of each, in words */
export async function huntMutants(tell: (line: string) => void): Promise<Hunted> {
  const missed: string[] = [];
  const note = (name: string, how: string): void => {
    tell(`${name}: ${how === '' ? 'MISSED' : `found by ${how}`}`);
    if (how === '') missed.push(name);
  };
  for (const mutant of MUTANTS) note(mutant, await playSeeds(mutant));
  for (const build of BROKEN_BUILDS) note(build.name, runTrace(build));
  const mutants = MUTANTS.length + BROKEN_BUILDS.length;
  return { mutants, caught: mutants - missed.length, missed };
}
