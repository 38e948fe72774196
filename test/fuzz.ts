/**
 * Random stories at length: `npm run fuzz -- --runs 2000 [--seed 1] [--kind easy,hard] [--steps 60] [--json]`. Each run plays the
 * next seed with a random schema of one kind. What goes wrong is printed as it happens, with the story made short; the last
 * line of the output is JSON: runs, operations, diverged, violations, lostWrites and the seeds of what failed.
 */
import { setImmediate } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { wholeNumber } from '../examples/options.ts';
import { shorten } from './support/random/shorten.ts';
import type { Fault, Kind } from './support/random/play.ts';
import { KINDS, StoryError, playStory } from './support/random/play.ts';

/** Runs between two lines of progress. */
const PROGRESS = 100;

interface Options {
  readonly runs: number;
  readonly seed: number;
  readonly kinds: readonly Kind[];
  readonly steps: number | null;
  readonly json: boolean;
  readonly short: boolean;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '200' },
      seed: { type: 'string', default: '1' },
      kind: { type: 'string', default: KINDS.join(',') },
      steps: { type: 'string' },
      json: { type: 'boolean', default: false },
      short: { type: 'boolean', default: false },
    },
  });
  const kinds = values.kind.split(',').map((name) => {
    const kind = KINDS.find((candidate) => candidate === name);
    if (kind === undefined) throw new Error(`--kind takes some of ${KINDS.join(', ')}, with commas.`);
    return kind;
  });
  return {
    runs: wholeNumber('runs', values.runs, 1),
    seed: wholeNumber('seed', values.seed, 0),
    kinds,
    steps: values.steps === undefined ? null : wholeNumber('steps', values.steps, 1),
    json: values.json,
    short: values.short,
  };
}

/** Every fourth story is three times as long. */
function stepsOf(seed: number, options: Options): number {
  return options.steps ?? (seed % 4 === 0 ? 180 : 60);
}

async function fuzz(options: Options): Promise<boolean> {
  const faults: Record<Fault, number> = { diverged: 0, violation: 0, lost: 0 };
  const seeds: { seed: number; kind: Kind; fault: Fault }[] = [];
  let operations = 0;
  let tokens = 0;
  for (let run = 0; run < options.runs; run += 1) {
    const seed = options.seed + run;
    const kind = options.kinds[seed % options.kinds.length] as Kind;
    const steps = stepsOf(seed, options);
    // What statements and databases held is given back in the event loop only: 3.5 GB after a thousand stories without it.
    await setImmediate();
    try {
      const told = await playStory(seed, { kind, steps });
      operations += told.operations;
      tokens += told.tokens;
    } catch (error) {
      if (!(error instanceof StoryError)) throw error;
      faults[error.fault] += 1;
      seeds.push({ seed, kind, fault: error.fault });
      const said = options.short ? await shorten(error, { kind, steps }) : error;
      process.stderr.write(`${said.message}\n\n`);
    }
    if ((run + 1) % PROGRESS === 0 && !options.json)
      process.stdout.write(`${run + 1} of ${options.runs} runs, ${operations} operations, ${seeds.length} faults\n`);
  }
  const { diverged, violation, lost } = faults;
  process.stdout.write(
    `${JSON.stringify({ runs: options.runs, operations, tokens, diverged, violations: violation, lostWrites: lost, seeds })}\n`,
  );
  return seeds.length === 0;
}

process.exitCode = (await fuzz(readOptions())) ? 0 : 1;
