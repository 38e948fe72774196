/**
 * The demo: several devices of one person on this machine, each with its own library and its own node. They pair,
 * bring each other up to date, stay live, are killed and stopped, and end equal. Nothing leaves the machine: all nodes
 * stay on loopback. At the end this script, and no node, opens all libraries and compares them.
 *
 *   npm run demo -- [--nodes 3] [--dir FOLDER | --entries K] [--seed 1] [--keep] [--json]
 */
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Device, foundByMulticast, waitUntilEqual, waitUntilQuiet } from './fleet.ts';
import type { IndexReport } from './file-library/indexer.ts';
import { openLibrary, randomFrom } from './file-library/library.ts';
import type { SyntheticReport } from './file-library/synthetic.ts';
import type { WriterReport } from './file-library/writer.ts';
import { measureLatency } from './latency.ts';
import { restartsOf, type DemoReport } from './report.ts';
import { type BarState, count, plural, Screen } from './screen.ts';
import { flotilla, projectFolder, type RunningNode, type StatusReport, temporaryFolder } from './support.ts';

/** A machine of today starts eight nodes without swapping; the demo shows nothing new beyond. */
const MOST_NODES = 8;
/** The backfill that is to be interrupted has about this many batches, so that "in the middle" can be hit. */
const BATCHES_TO_INTERRUPT = 100;
const LEAST_BATCH = 20;
const MOST_BATCH = 1_000;
/** The kill falls into this part of the backfill. */
const KILL_FROM = 0.05;
const KILL_UNTIL = 0.8;
const LATENCY_SAMPLES = 60;
/** Everything but a backfill is a matter of moments; this is when we stop waiting, ms. */
const EQUAL_MS = 60_000;
const QUIET_MS = 30_000;
/** Slowest backfill that we wait for: rows a second, beside a minute for the start. */
const LEAST_RATE = 1_000;
/** Folders and files of the small real folder that each further node indexes. */
const OWN_FOLDERS = 6;
const OWN_FILES = 8;

interface Options {
  readonly nodes: number;
  readonly dir: string;
  /** Entries of a synthetic tree; null for a real folder. */
  readonly entries: number | null;
  readonly seed: number;
  readonly keep: boolean;
  readonly json: boolean;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      nodes: { type: 'string', default: '3' },
      dir: { type: 'string', default: join(projectFolder, 'node_modules') },
      entries: { type: 'string' },
      seed: { type: 'string', default: '1' },
      keep: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  });
  const whole = (name: string, text: string, least: number, most: number): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new Error(`--${name} takes a whole number from ${least} to ${most}.`);
    }
    return value;
  };
  const dir = resolve(values.dir);
  if (statSync(dir, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new Error(`--dir: ${dir} is not a folder.`);
  return {
    ...values,
    dir,
    nodes: whole('nodes', values.nodes, 2, MOST_NODES),
    entries: values.entries === undefined ? null : whole('entries', values.entries, 500, 10_000_000),
    seed: whole('seed', values.seed, 0, 2 ** 31),
  };
}

/** Makes a small folder with real files, for a node to index as its own. */
function makeFolder(device: Device, seed: number): string {
  const folder = join(device.folder, 'pictures');
  const random = randomFrom(seed);
  for (let year = 0; year < OWN_FOLDERS; year += 1) {
    const path = join(folder, String(2020 + year));
    mkdirSync(path, { recursive: true });
    for (let file = 0; file < OWN_FILES; file += 1) {
      const text = `${device.name} ${year} ${file} `.repeat(1 + Math.floor(random() * 2_000));
      // Some files are the same on all devices: their content must become one row.
      writeFileSync(join(path, `IMG ${file}.jpg`), file === 0 ? `the same picture of ${2020 + year}` : text);
    }
  }
  return folder;
}

/** How far the first pass of a node is, as its own events say. */
function progressOf(events: RunningNode['events']): BarState | undefined {
  const last = events.findLast((event) => event.event === 'progress');
  return last?.event === 'progress' ? last.progress : undefined;
}

/** True once a pass is complete: everything that one peer had is here, durably. */
function passComplete(events: RunningNode['events']): true | undefined {
  return events.some((event) => event.event === 'applied' && event.complete) ? true : undefined;
}

interface Backfill {
  /** From the start of the process, s. */
  readonly seconds: number;
}

/** Shows a node's backfill until it is complete. */
async function showBackfill(screen: Screen, device: Device, rows: number): Promise<Backfill> {
  const { node } = device;
  const stop = node.onEvent(() => {
    const progress = progressOf(node.events);
    if (progress !== undefined && progress.total > 0) screen.bar(device.name, progress);
  });
  const limit = 60_000 + (rows / LEAST_RATE) * 1_000;
  await node.waitFor('the end of its backfill', limit, passComplete);
  stop();
  const seconds = (performance.now() - node.startedAt) / 1_000;
  screen.line(device.name, `up to date, ${seconds.toFixed(1)} s after the start of its process`);
  return { seconds };
}

/** What a pass was when it was cut off. */
interface Interrupted {
  /** Rows in the library after the kill, counted from outside: none while a snapshot is on its way. */
  readonly held: number;
  /** Rows that had come, as the node counted them. */
  readonly done: number;
  /** Length of the pass, rows. */
  readonly total: number;
}

/** Kills a node in the middle of its backfill. */
async function killInTheMiddle(screen: Screen, device: Device): Promise<Interrupted> {
  const { node } = device;
  const { done, total } = await node.waitFor('the middle of its backfill', EQUAL_MS, (events) => {
    const progress = progressOf(events);
    if (passComplete(events) === true) return { done: 1, total: 1 };
    if (progress === undefined || progress.total === 0) return undefined;
    screen.bar(device.name, progress);
    return progress.done >= KILL_FROM * progress.total ? progress : undefined;
  });
  await node.kill();
  const held = device.countRows();
  if (done > KILL_UNTIL * total) {
    throw new Error('The backfill was over before it could be interrupted. Use a larger tree (--entries 20000).');
  }
  const percent = Math.round((100 * done) / total);
  screen.line(
    device.name,
    `killed with SIGKILL at ${percent} % of its backfill; its library holds ${count(held)} rows`,
  );
  return { held, done, total };
}

/**
 * Says whether the pass went on where it was. Had it begun anew, its length would be the old one, and what was there
 * would have come twice. (A little comes twice: parents that were sent ahead of their turn.) A snapshot goes on with the first chunk
 * that is lacking: had it begun anew, it would first have had to come as far as before.
 */
async function checkResumed(
  screen: Screen,
  device: Device,
  { held, done, total }: Interrupted,
  rows: number,
): Promise<string[]> {
  const first = device.node.events.find((event) => event.event === 'progress');
  const [had, left] = first?.event === 'progress' ? [first.progress.done, first.progress.total] : [0, 0];
  const received = (await device.status()).library.counters.rowsIn;
  const figures =
    held === 0
      ? `${count(had)} rows of the snapshot were there when its next chunk had come, ${count(done)} before the kill`
      : `${count(left)} rows were left to get, ${count(received)} came in all for ${count(rows)}`;
  if (held === 0 ? had <= done : left > total - held / 2 || received > rows + held / 2)
    return [`After the kill the backfill began anew: ${figures}.`];
  screen.line(device.name, `went on where it was: ${figures}`);
  return [];
}

async function writeEverywhere(screen: Screen, devices: readonly Device[], round: number): Promise<void> {
  const reports = await Promise.all(
    devices.map((device) => device.run<WriterReport>('writer.ts', [device.name, '--round', String(round)])),
  );
  const sum = (what: keyof WriterReport): number => reports.reduce((total, report) => total + report[what], 0);
  const words = (['inserted', 'renamed', 'moved', 'tagged', 'noted', 'deleted'] as const).map(
    (what) => `${count(sum(what))} ${what}`,
  );
  screen.line(
    'writers',
    `${plural(devices.length, 'library', 'libraries')} written to from outside: ${words.join(', ')}`,
  );
}

async function demo(options: Options, screen: Screen): Promise<boolean> {
  const folder = temporaryFolder('flotilla-demo-', options.keep);
  const devices = Array.from({ length: options.nodes }, (_, index) => new Device(folder, `node ${index + 1}`));
  const [first, second, ...further] = devices as [Device, Device, ...Device[]];
  const last = devices.at(-1) ?? second;
  const problems: string[] = [];
  screen.title(`Flotilla: ${options.nodes} devices on this machine, loopback only, no server`);

  screen.title('A library with files of its own');
  // Tables, then init, then rows: the indexer writes into a library that syncs already, and need not know.
  const indexing = performance.now();
  let entries: number;
  openLibrary(first.library).close();
  await first.init();
  if (options.entries === null) {
    screen.line(first.name, `indexes ${options.dir}`);
    const report = await first.run<IndexReport>('indexer.ts', [options.dir, first.name]);
    entries = report.files + report.folders + report.links;
    screen.line(
      first.name,
      `${plural(report.files, 'file')} in ${plural(report.folders, 'folder')} indexed in ${report.seconds.toFixed(1)} s`,
    );
  } else {
    const report = await first.run<SyntheticReport>('synthetic.ts', [
      '--entries',
      String(options.entries),
      '--seed',
      String(options.seed),
      '--volume',
      first.name,
    ]);
    entries = report.entries;
    screen.line(
      first.name,
      `${count(entries)} made-up entries, ${report.depth} folders deep, in ${report.seconds.toFixed(1)} s`,
    );
  }
  const indexSeconds = (performance.now() - indexing) / 1_000;
  const rows = first.countRows();
  const batch = Math.min(MOST_BATCH, Math.max(LEAST_BATCH, Math.round(rows / BATCHES_TO_INTERRUPT)));
  const upOptions = ['--batch', String(batch)];
  await first.start(upOptions);
  screen.line(first.name, `is up with ${count(rows)} rows`);

  screen.title('A second device joins, is killed in the middle of its backfill, and goes on where it was');
  await second.join(first);
  screen.line(second.name, `joined by the invitation of ${first.name}`);
  await second.start(upOptions);
  const interrupted = await killInTheMiddle(screen, second);
  await second.start(upOptions);
  const backfills = [(await showBackfill(screen, second, rows)).seconds];
  const resumed = await checkResumed(screen, second, interrupted, rows);
  problems.push(...resumed);
  const multicast = await foundByMulticast([first, second]);
  if (!multicast)
    screen.line('discovery', 'no multicast on loopback here: the nodes are given addresses instead (--peer)');

  if (further.length > 0) screen.title('Every device is equal: each one invites the next');
  for (const device of further) {
    const inviter = devices[devices.indexOf(device) - 1] ?? first;
    await device.join(inviter);
    const known = devices.slice(0, devices.indexOf(device)).flatMap(({ addresses }) => addresses);
    const peers = multicast ? [] : known.flatMap((address) => ['--peer', address]);
    await device.start([...upOptions, ...peers]);
    screen.line(device.name, `joined by the invitation of ${inviter.name}`);
    backfills.push((await showBackfill(screen, device, rows)).seconds);
  }

  screen.title('Each device has files of its own');
  const own = await Promise.all(
    devices
      .slice(1)
      .map((device, index) =>
        device.run<IndexReport>('indexer.ts', [makeFolder(device, options.seed + index), device.name]),
      ),
  );
  screen.line(
    'indexers',
    `${plural(own.length, 'folder')} with ${plural(
      own.reduce((sum, report) => sum + report.files, 0),
      'file',
    )} indexed while the nodes run`,
  );
  let equal = await waitUntilEqual(devices, EQUAL_MS);
  screen.line('all', `equal ${equal.seconds.toFixed(2)} s after the last write: ${count(equal.comparison.rows)} rows`);

  screen.title('Other programs write to all libraries at once');
  await writeEverywhere(screen, devices, 1);
  equal = await waitUntilEqual(devices, EQUAL_MS);
  screen.line('all', `equal ${equal.seconds.toFixed(2)} s after the last write`);

  screen.title('One device is off while the others go on, and is written to itself');
  await last.node.terminate();
  screen.line(last.name, 'stopped with SIGTERM, ended with 0');
  await writeEverywhere(screen, devices, 2);
  if (devices.length > 2) {
    const { seconds } = await waitUntilEqual(
      devices.filter((device) => device !== last),
      EQUAL_MS,
    );
    screen.line('others', `equal ${seconds.toFixed(2)} s after the last write`);
  }
  const others = devices.filter((device) => device !== last);
  await last.start([
    ...upOptions,
    ...(multicast ? [] : others.flatMap(({ addresses }) => addresses.flatMap((address) => ['--peer', address]))),
  ]);
  equal = await waitUntilEqual(devices, EQUAL_MS);
  screen.line(last.name, `started again and caught up: all equal ${equal.seconds.toFixed(2)} s after it was ready`);

  screen.title('Live: a row is committed to one file, and looked for in another');
  const liveMs = await measureLatency(
    devices.map(({ library }) => library),
    LATENCY_SAMPLES,
  );
  screen.line(
    'live',
    `${liveMs.p50} ms at the median, ${liveMs.p99} ms at the 99th percentile, ${liveMs.samples} samples`,
  );

  screen.title('At the end');
  const allFound = multicast && (await foundByMulticast(devices));
  const { reports, restless } = await waitUntilQuiet(devices, QUIET_MS);
  problems.push(...restless);
  const { comparison } = await waitUntilEqual(devices, EQUAL_MS);
  const { rows: finalRows, missingRows, extraRows, differentRows, foreignKeyViolations } = comparison;
  const verified = await flotilla<{ ok: boolean }>(['verify', first.library]).then(
    ({ ok }) => ok,
    () => false,
  );
  if (!verified) problems.push(`flotilla verify on ${first.name} found something.`);
  const peakRssMB = devices.map(({ node }) => node.peakRssMB);
  for (const device of devices) await device.node.terminate();
  const largest = (pick: (report: StatusReport) => number): number => Math.max(...reports.map(pick));
  const total = (pick: (report: StatusReport) => number): number =>
    reports.reduce((sum, report) => sum + pick(report), 0);
  const result: DemoReport = {
    nodes: devices.length,
    source: options.entries === null ? basename(options.dir) : 'synthetic',
    entries: reports[0]?.library.tables.find(({ table }) => table === 'entries')?.rows ?? entries,
    rows: finalRows,
    discovery: allFound ? 'mdns' : 'addresses',
    identical: comparison.identical,
    missingRows,
    extraRows,
    differentRows,
    foreignKeyViolations,
    verified,
    batches: total((report) => report.batches),
    lookupQueries: total((report) => report.lookupQueries),
    restarts: restartsOf(devices),
    resumed: resumed.length === 0,
    coordinationBytes: largest((report) => report.library.coordinationBytes),
    liveMs,
    peakRssMB,
    maxEventLoopDelayMs: round(largest((report) => report.maxEventLoopDelayMs)),
    seconds: {
      index: round(indexSeconds),
      backfill: round(Math.max(...backfills)),
      total: round(screen.seconds),
    },
    problems,
  };
  screen.table([
    [
      'content',
      comparison.identical
        ? `identical on all ${devices.length} devices: ${count(finalRows)} rows, references compared by UUID`
        : 'DIFFERENT',
    ],
    [
      'lost, extra, different',
      `${missingRows}, ${extraRows}, ${differentRows}; ${foreignKeyViolations} dangling references`,
    ],
    ['look-ups', `${count(result.lookupQueries)} queries for ${count(result.batches)} batches`],
    ['backfill', `${result.seconds.backfill} s at most, one of them killed and resumed`],
    ['live', `${liveMs.p50} ms (p99 ${liveMs.p99} ms)`],
    ['found each other by', result.discovery === 'mdns' ? 'multicast DNS' : 'addresses'],
    ['coordination data', `${count(result.coordinationBytes / 1_000)} kB at most, after all ACKs`],
    ['peak memory', peakRssMB.map((value) => (value === null ? 'unknown' : `${value} MB`)).join(', ')],
    ['in all', `${result.seconds.total} s`],
    ...(options.keep ? [['kept', folder] as const] : []),
    ...problems.map((problem) => ['PROBLEM', problem] as const),
  ]);
  if (options.json) console.log(JSON.stringify(result));
  return comparison.identical && problems.length === 0;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

try {
  const options = readOptions();
  const ok = await demo(options, new Screen(options.json ? process.stderr : process.stdout));
  process.exit(ok ? 0 : 1);
} catch (error) {
  console.error(`\nThe demo failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
