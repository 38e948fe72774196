/**
 * The 182,530-entry scenario: two nodes in two processes, one with a library of entries with three foreign keys each
 * and the rows that they point to, the other one empty. Measures how long the second one takes to have everything
 * durably, beside the floor: a plain local copy of the same rows without any sync. Fails if anything is lost, or if what
 * must not grow with the library has grown: look-ups, coordination data, memory.
 *
 * The nodes run what users install, built here first. From the sources, Node.js would keep the compiler that strips the
 * types in each of a node's three threads: 60 MB that no user ever has.
 *
 *   npm run synctest -- [--entries 182530] [--batch 1000] [--seed 1] [--keep] [--json]
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { SyntheticReport } from '../examples/file-library/synthetic.ts';
import { Device, foundByMulticast, waitUntilEqual, waitUntilQuiet } from '../examples/fleet.ts';
import { measureLatency } from '../examples/latency.ts';
import { wholeNumber } from '../examples/options.ts';
import { restartsOf, type ScenarioReport } from '../examples/report.ts';
import { count, Screen } from '../examples/screen.ts';
import { projectFolder, runScript, type StatusReport, temporaryFolder } from '../examples/support.ts';
import { build } from './nodes.ts';

/** The figure of the real system whose backfill never ended. */
const ENTRIES = 182_530;
/** Slowest sync that we wait for: rows a second, beside a minute. */
const LEAST_RATE = 1_000;
const LATENCY_SAMPLES = 60;
const QUIET_MS = 30_000;
const EQUAL_MS = 60_000;

/** Of either process, MB. */
const MOST_MEMORY_MB = 400;
/** After all ACKs, bytes. */
const MOST_COORDINATION_BYTES = 1_000_000;

interface Options {
  readonly entries: number;
  readonly batch: number;
  readonly seed: number;
  readonly keep: boolean;
  readonly json: boolean;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      entries: { type: 'string', default: String(ENTRIES) },
      batch: { type: 'string', default: '1000' },
      seed: { type: 'string', default: '1' },
      keep: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  });
  return {
    ...values,
    entries: wholeNumber('entries', values.entries, 1),
    batch: wholeNumber('batch', values.batch, 1),
    seed: wholeNumber('seed', values.seed, 0),
  };
}

/** What is larger than it may be, in words. The event loop delays are not judged: a busy machine makes them as well. */
function excesses(result: Omit<ScenarioReport, 'problems'>): string[] {
  const { peakRssMB } = result;
  const checks: ReadonlyArray<readonly [what: string, is: number, most: number]> = [
    ['look-up queries at the receiver', result.lookupQueries, result.batches],
    ['look-up queries at the sender', result.senderLookupQueries, result.senderBatches],
    ['bytes of coordination data', result.coordinationBytes, MOST_COORDINATION_BYTES],
    ['MB of memory of the sender', peakRssMB.sender ?? 0, MOST_MEMORY_MB],
    ['MB of memory of the receiver', peakRssMB.receiver ?? 0, MOST_MEMORY_MB],
  ];
  return checks.filter(([, is, most]) => is > most).map(([what, is, most]) => `${is} ${what}, at most ${most} allowed`);
}

async function synctest(options: Options, screen: Screen): Promise<boolean> {
  build();
  const folder = temporaryFolder('flotilla-synctest-', options.keep);
  const [sender, receiver] = [new Device(folder, 'sender'), new Device(folder, 'receiver')];
  screen.title(
    `synctest: ${count(options.entries)} entries from one process to another, ${count(options.batch)} rows a batch`,
  );

  const made = await sender.run<SyntheticReport>('synthetic.ts', [
    '--entries',
    String(options.entries),
    '--seed',
    String(options.seed),
  ]);
  const rows = sender.countRows();
  screen.line(
    'library',
    `${count(made.entries)} entries, ${count(made.contents)} contents, ${count(made.metadata)} notes, ` +
      `${made.depth} folders deep: ${count(rows)} rows`,
  );

  const floor = await runScript<{ rows: number; seconds: number }>(join(projectFolder, 'bench', 'floor.ts'), [
    sender.library,
    join(folder, 'floor.db'),
  ]);
  if (floor.rows !== rows) throw new Error(`The floor copied ${floor.rows} rows of ${rows}.`);
  screen.line('floor', `a plain local copy of these rows takes ${floor.seconds.toFixed(2)} s`);

  const initialising = performance.now();
  await sender.init();
  const initSeconds = (performance.now() - initialising) / 1_000;
  screen.line('sender', `initialised in ${initSeconds.toFixed(2)} s: rows that were there have their identities`);
  const upOptions = ['--batch', String(options.batch)];
  const sending = await sender.start(upOptions);
  await receiver.join(sender);
  screen.line('receiver', 'joined; now the clock runs');

  const node = await receiver.start(upOptions);
  const stopShowing = node.onEvent(() => {
    const last = node.events.findLast((event) => event.event === 'progress');
    if (last?.event === 'progress' && last.progress.total > 0) screen.bar('receiver', last.progress);
  });
  const done = await node.waitFor('the end of its backfill', 60_000 + (rows / LEAST_RATE) * 1_000, (events) =>
    events.find((event) => event.event === 'applied' && event.complete),
  );
  stopShowing();
  // From the start of the receiver's process: what a user waits, start of Node.js included.
  const syncSeconds = (done.at - node.startedAt) / 1_000;
  screen.line(
    'receiver',
    `has everything, durably, after ${syncSeconds.toFixed(2)} s: ${count(rows / syncSeconds)} rows a second`,
  );

  const { reports, restless } = await waitUntilQuiet([sender, receiver], QUIET_MS);
  const peakRssMB = { sender: sending.peakRssMB, receiver: node.peakRssMB };
  const { comparison } = await waitUntilEqual([sender, receiver], EQUAL_MS);
  const liveMs = await measureLatency([sender.library, receiver.library], LATENCY_SAMPLES);
  const discovery = (await foundByMulticast([sender, receiver])) ? 'mdns' : 'addresses';
  await receiver.node.terminate();
  await sender.node.terminate();

  const [atSender, atReceiver] = reports as [StatusReport, StatusReport];
  const { identical, missingRows, extraRows, differentRows, foreignKeyViolations } = comparison;
  const figures: Omit<ScenarioReport, 'problems'> = {
    nodes: 2,
    entries: made.entries,
    rows: comparison.rows,
    discovery,
    identical,
    missingRows,
    extraRows,
    differentRows,
    foreignKeyViolations,
    batches: atReceiver.library.counters.batchesIn,
    lookupQueries: atReceiver.library.counters.lookupsIn,
    senderBatches: atSender.library.counters.batchesOut,
    senderLookupQueries: atSender.library.counters.lookupsOut,
    coordinationBytes: Math.max(atSender.library.coordinationBytes, atReceiver.library.coordinationBytes),
    floorSeconds: round(floor.seconds),
    syncSeconds: round(syncSeconds),
    ratio: round(floor.seconds / syncSeconds),
    initSeconds: round(initSeconds),
    restarts: restartsOf([sender, receiver]),
    liveMs,
    peakRssMB,
    maxEventLoopDelayMs: {
      sender: round(atSender.maxEventLoopDelayMs),
      receiver: round(atReceiver.maxEventLoopDelayMs),
    },
    seconds: { index: round(made.seconds), backfill: round(syncSeconds), total: round(screen.seconds) },
  };
  const result: ScenarioReport = { ...figures, problems: [...restless, ...excesses(figures)] };
  screen.title('Result');
  screen.table([
    [
      'rows',
      identical
        ? `${count(result.rows)}, identical on both, nothing lost`
        : `DIFFERENT: ${missingRows} lost, ${extraRows} extra, ${differentRows} different`,
    ],
    ['sync', `${result.syncSeconds} s, floor ${result.floorSeconds} s, ratio ${result.ratio}`],
    [
      'look-ups',
      `${count(result.lookupQueries)} queries for ${count(result.batches)} batches at the receiver, ` +
        `${count(result.senderLookupQueries)} for ${count(result.senderBatches)} at the sender`,
    ],
    ['live', `${liveMs.p50} ms at the median, ${liveMs.p99} ms at the 99th percentile`],
    ['coordination data', `${count(result.coordinationBytes)} bytes after all ACKs`],
    ['peak memory', `sender ${peakRssMB.sender ?? '?'} MB, receiver ${peakRssMB.receiver ?? '?'} MB`],
    [
      'event loop delay',
      `sender ${result.maxEventLoopDelayMs.sender} ms, receiver ${result.maxEventLoopDelayMs.receiver} ms at most`,
    ],
    ...(options.keep ? [['kept', folder] as const] : []),
    ...result.problems.map((problem) => ['PROBLEM', problem] as const),
  ]);
  if (options.json) console.log(JSON.stringify(result));
  return identical && result.problems.length === 0;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

try {
  const options = readOptions();
  const ok = await synctest(options, new Screen(options.json ? process.stderr : process.stdout));
  process.exit(ok ? 0 : 1);
} catch (error) {
  console.error(`\nThe test failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
