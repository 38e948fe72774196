/**
 * A fleet in a box: `npm run sim -- --seeds 100 --nodes 5 [--seed 1] [--rounds 3] [--minutes 6] [--mutant name] [--json]`. Whole nodes
 * in one process, in virtual time; each seed replays exactly. Progress and the stories of what goes wrong go to stderr; the last
 * line of stdout is JSON. Exit code 1 unless all is well.
 *
 * `npm run sim -- --mutants [--json]` hunts all builds that are broken on purpose, by random seeds and by hand-made traces.
 */
import { parseArgs } from 'node:util';

import { wholeNumber } from '../examples/options.ts';
import { SimError } from './sim/fault.ts';
import type { Fault } from './sim/fault.ts';
import { playSim } from './sim/fleet.ts';
import { huntMutants } from './sim/hunt.ts';
import { MUTANTS } from './sim/mutants.ts';
import type { Mutant } from './sim/mutants.ts';

interface Options {
  readonly seeds: number;
  readonly nodes: number;
  readonly seed: number;
  readonly rounds: number;
  readonly minutes: number;
  readonly mutant: Mutant | null;
  /** Hunt all broken builds instead. */
  readonly mutants: boolean;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '10' },
      nodes: { type: 'string', default: '4' },
      seed: { type: 'string', default: '1' },
      rounds: { type: 'string', default: '3' },
      minutes: { type: 'string', default: '6' },
      mutant: { type: 'string' },
      mutants: { type: 'boolean', default: false },
      // The last line is JSON anyway; taken as the other commands take it.
      json: { type: 'boolean', default: false },
    },
  });
  const whole = (name: 'seeds' | 'nodes' | 'seed' | 'rounds' | 'minutes', least: number): number =>
    wholeNumber(name, values[name], least);
  const mutant = MUTANTS.find((name) => name === values.mutant) ?? null;
  if (values.mutant !== undefined && mutant === null) throw new Error(`--mutant takes one of ${MUTANTS.join(', ')}.`);
  return {
    seeds: whole('seeds', 1),
    nodes: whole('nodes', 2),
    seed: whole('seed', 0),
    rounds: whole('rounds', 1),
    minutes: whole('minutes', 1),
    mutant,
    mutants: values.mutants,
  };
}

async function simulate({ seeds, seed: first, mutants: _, ...options }: Options): Promise<boolean> {
  const faults: Record<Fault, number> = { diverged: 0, lost: 0, resurrected: 0, violation: 0 };
  const failed: number[] = [];
  let [virtualHours, operations] = [0, 0];
  for (let seed = first; seed < first + seeds; seed += 1) {
    try {
      const played = await playSim(seed, options);
      virtualHours += played.virtualHours;
      operations += played.operations;
      process.stderr.write(
        `seed ${seed}: ${played.virtualHours.toFixed(1)} virtual hours, ${played.operations} programs, ` +
          `${played.events} events, ${played.frames} frames, ${played.bytes} bytes\n`,
      );
    } catch (error) {
      if (!(error instanceof SimError)) throw error;
      faults[error.fault] += 1;
      failed.push(seed);
      process.stderr.write(`${error.message}\n\n`);
    }
  }
  const { diverged, lost, resurrected, violation } = faults;
  const result = {
    seeds,
    nodes: options.nodes,
    virtualHours: Math.round(virtualHours * 10) / 10,
    operations,
    diverged,
    lostWrites: lost,
    resurrected,
    violations: violation,
    failed,
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
  return failed.length === 0;
}

async function hunt(): Promise<boolean> {
  const hunted = await huntMutants((line) => process.stderr.write(`${line}\n`));
  process.stdout.write(`${JSON.stringify(hunted)}\n`);
  return hunted.missed.length === 0;
}

const options = readOptions();
process.exitCode = (await (options.mutants ? hunt() : simulate(options))) ? 0 : 1;
