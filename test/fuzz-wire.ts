/**
 * Everything that reads what others send, under fire: `npm run fuzz:wire -- --runs 100000 [--seed 1] [--from 0] [--decoder
 * batch,frames] [--json]`. Each run reads one message that was valid and is damaged; before them come the bombs, small messages that
 * ask for much. A decoder must give something that could have been sent, or refuse it in words, within bounded time and
 * memory. The last line of the output is JSON; the exit code is 1 if anything in it is not zero that should be.
 */
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';

import { wholeNumber } from '../examples/options.ts';
import { TARGETS } from './support/wire/targets.ts';
import { decoderOf, plan } from './support/wire/worker.ts';
import type { Assignment, Fault, Report, Tally } from './support/wire/worker.ts';

/** A decoder that takes this long for one message hangs, ms. The longest message of all takes about a second. */
const HANG_MS = 15_000;
/** How often the decoders are looked at, ms. */
const LOOK_MS = 500;
/** Heap of the thread that reads, MB: what a message of 32 MiB may become, with room. */
const HEAP_MB = 640;
/** Faults that are shown in words. */
const SHOWN = 20;

interface Options {
  readonly runs: number;
  readonly seed: number;
  readonly from: number;
  readonly decoders: readonly string[];
  readonly json: boolean;
}

function readOptions(): Options {
  const all = TARGETS.map(({ name }) => name);
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '20000' },
      seed: { type: 'string', default: '1' },
      from: { type: 'string' },
      decoder: { type: 'string', default: all.join(',') },
      json: { type: 'boolean', default: false },
    },
  });
  const decoders = values.decoder.split(',');
  const unknown = decoders.filter((name) => !all.includes(name));
  if (unknown.length > 0) throw new Error(`--decoder takes some of ${all.join(', ')}, with commas.`);
  const first = -plan(decoders).bombs.length;
  return {
    runs: wholeNumber('runs', values.runs, 1),
    seed: wholeNumber('seed', values.seed, 0),
    from: values.from === undefined ? first : wholeNumber('from', values.from, first),
    decoders,
    json: values.json,
  };
}

/** Runs from `from` on, in one thread, until all are done or the thread is lost. Resolves with the run to go on with. */
function stretch(
  assignment: Assignment,
  onFault: (fault: Fault) => void,
  onTally: (tally: Tally) => void,
): Promise<number> {
  return new Promise((resolve) => {
    const worker = new Worker(new URL('./support/wire/worker.ts', import.meta.url), {
      workerData: assignment,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB, maxYoungGenerationSizeMb: 64 },
    });
    let tally: Tally | null = null;
    let last = Atomics.load(assignment.at, 0);
    /** Loading is not reading, and takes long on a busy machine. */
    let since = Infinity;
    const lost = (kind: 'hang' | 'memory' | 'crash', detail: string): void => {
      const run = Atomics.load(assignment.at, 0);
      onFault({ kind, detail, run, decoder: decoderOf(assignment.targets, run) });
      finish(run + 1);
    };
    const finish = (next: number): void => {
      clearInterval(watch);
      worker.removeAllListeners();
      worker.on('error', () => {});
      worker.on('exit', () => resolve(next));
      if (tally !== null) onTally(tally);
      void worker.terminate();
    };
    const watch = setInterval(() => {
      const now = Atomics.load(assignment.at, 0);
      if (now !== last) [last, since] = [now, Date.now()];
      else if (Date.now() - since > HANG_MS) lost('hang', `not done after ${HANG_MS} ms`);
    }, LOOK_MS);
    worker.on('message', (message: Report) => {
      if ('begins' in message) return void (since = Date.now());
      if ('fault' in message) return onFault(message.fault);
      tally = message.done;
      if (message.isLast) finish(assignment.to);
    });
    worker.on('error', (error) => {
      const isMemory = 'code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY';
      lost(isMemory ? 'memory' : 'crash', isMemory ? `more than ${HEAP_MB} MB` : (error.stack ?? error.message));
    });
  });
}

async function fuzz({ runs, seed, from, decoders, json }: Options): Promise<boolean> {
  const counts: Record<Fault['kind'], number> = { crash: 0, hang: 0, memory: 0, limit: 0, pollution: 0 };
  const faults: Array<Pick<Fault, 'kind' | 'decoder' | 'run'>> = [];
  const total: Record<string, { read: number; refused: number }> = {};
  let done = 0;
  let slowest: Pick<Tally, 'slowest' | 'slowestMs'> = { slowest: '', slowestMs: 0 };
  const at = new Int32Array(new SharedArrayBuffer(4));
  const to = Math.max(0, from) + runs;
  const onFault = (fault: Fault): void => {
    counts[fault.kind] += 1;
    faults.push({ kind: fault.kind, decoder: fault.decoder, run: fault.run });
    if (faults.length <= SHOWN)
      process.stderr.write(`${fault.kind} of ${fault.decoder}, run ${fault.run}: ${fault.detail}\n\n`);
  };
  const onTally = (tally: Tally): void => {
    done += tally.runs;
    if (tally.slowestMs > slowest.slowestMs) slowest = tally;
    for (const [name, { read, refused }] of Object.entries(tally.decoders)) {
      const sum = (total[name] ??= { read: 0, refused: 0 });
      sum.read += read;
      sum.refused += refused;
    }
  };
  for (let next = from; next < to;) {
    Atomics.store(at, 0, next);
    next = await stretch({ seed, from: next, to, targets: decoders, at }, onFault, onTally);
    if (!json) process.stdout.write(`run ${next} of ${to}, ${faults.length} faults\n`);
  }
  const report = {
    runs: done,
    seed,
    decoders: total,
    crashes: counts.crash,
    hangs: counts.hang,
    overMemory: counts.memory,
    overLimits: counts.limit,
    polluted: counts.pollution,
    slowestMs: Math.round(slowest.slowestMs),
    slowest: slowest.slowest,
    faults: faults.slice(0, SHOWN),
  };
  process.stdout.write(`${JSON.stringify(report)}\n`);
  return faults.length === 0;
}

process.exitCode = (await fuzz(readOptions())) ? 0 : 1;
