/**
 * Runs benchmarks by name: all of them, or those that are named. A table each for people; with `--json`, one JSON object on a
 * line of its own each for machines, and everything else on the error output.
 *
 *   npm run bench [-- NAME…] [--json] [--quick] [--plots]
 *   npm run bench -- peers [--limit 600] [--only yjs,loro]
 *   npm run bench -- --plots
 *
 * With `--plots`, the lines of those that are drawn are kept in docs/perf, and drawn there; without a name, those that are there are
 * drawn again and nothing is measured.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import Table from 'cli-table3';
import type { Bench, BenchOptions, BenchReport } from './bench.ts';
import { capture } from './capture.ts';
import { catchup } from './catchup.ts';
import { backfill, bootstrap } from './first-pass.ts';
import { fanout, live } from './live.ts';
import { lookup } from './lookup.ts';
import { peers } from './peers.ts';
import { drawPlots, keepLine } from './plots.ts';
import { scale } from './scale.ts';

const BENCHES: readonly Bench[] = [backfill, bootstrap, scale, live, catchup, capture, lookup, fanout, peers];

interface Arguments extends Pick<BenchOptions, 'quick' | 'limitS' | 'only'> {
  readonly benches: readonly Bench[];
  readonly json: boolean;
  readonly plots: boolean;
}

function readArguments(): Arguments {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      plots: { type: 'boolean', default: false },
      limit: { type: 'string', default: '600' },
      only: { type: 'string' },
    },
  });
  const limitS = Number(values.limit);
  if (!(limitS > 0)) throw new Error('--limit takes seconds.');
  const unknown = positionals.find((name) => !BENCHES.some((bench) => bench.name === name));
  if (unknown !== undefined) {
    const known = BENCHES.map(({ name, about }) => `  ${name.padEnd(10)} ${about}`);
    throw new Error([`There is no benchmark "${unknown}". There are:`, ...known].join('\n'));
  }
  const benches = BENCHES.filter(({ name, onDemand }) =>
    positionals.length === 0 ? onDemand !== true && !values.plots : positionals.includes(name),
  );
  const { json, quick, plots, only } = values;
  return { benches, json, quick, plots, limitS, only: only?.split(',') ?? null };
}

/** What the figures were measured on, since they mean nothing without. */
function surroundings(): { node: string; sqlite: string; cpu: string; cores: number } {
  const db = new Database(':memory:');
  const sqlite = String(db.prepare('SELECT sqlite_version()').pluck().get());
  db.close();
  return { node: process.version, sqlite, cpu: cpus()[0]?.model.trim() ?? 'unknown', cores: cpus().length };
}

function print({ table, notes }: BenchReport, to: NodeJS.WriteStream): void {
  const [head = [], ...rows] = table;
  const drawn = new Table({
    head: [...head],
    colAligns: head.map((_, i) => (i === 0 ? 'left' : 'right')),
    style: { head: [], border: [] },
  });
  drawn.push(...rows.map((row) => [...row]));
  to.write(`${drawn.toString()}\n${notes.map((note) => `${note}\n`).join('')}`);
}

async function main(): Promise<void> {
  const { benches, json, quick, plots, limitS, only } = readArguments();
  const people = json ? process.stderr : process.stdout;
  const around = surroundings();
  people.write(
    `Node.js ${around.node}, SQLite ${around.sqlite}, ${around.cores} × ${around.cpu}${quick ? ', quick' : ''}\n`,
  );
  for (const bench of benches) {
    people.write(`\n${bench.name}: ${bench.about}\n`);
    const report = await bench.run({ quick, limitS, only, say: (line) => void people.write(`  ${line}\n`) });
    print(report, people);
    const { ratio, figures } = report;
    const line = { bench: report.bench, ratio, ...figures, quick, ...around };
    if (json) process.stdout.write(`${JSON.stringify(line)}\n`);
    if (plots) keepLine(bench.name, line);
  }
  if (plots) for (const file of drawPlots()) people.write(`${file}\n`);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
// Nodes may still run where something failed: they end with this process.
process.exit();
