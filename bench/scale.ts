/**
 * What a row costs as libraries grow: time, CPU time and memory of a first pass by the feed and by a snapshot, from ten thousand entries to
 * a million, or of the sizes in FLOTILLA_BENCH_ENTRIES (such as 100000,3000000), beside what a plain copy loop takes. Both must stay flat.
 */
import { type Bench, type BenchOptions, type BenchReport, type Run, rounded, shown, spreadOf } from './bench.ts';
import { cpuMsOf, dismiss, Source } from './nodes.ts';

const FULL = [10_000, 100_000, 1_000_000];
const QUICK = [2_000, 20_000];
/** Times the time a row of the size before that are wanted at most, and MB a node. */
const GOAL = { timeRatio: 1.2, rssMB: 300 };

/** Passes of each kind, in turns. */
const TURNS = 3;

interface Pass extends Run {
  readonly senderMB: number;
  readonly receiverMB: number;
}

interface Size {
  readonly entries: number;
  readonly rows: number;
  readonly feed: Pass;
  readonly snapshot: Pass;
  /** By a plain loop, without any sync. */
  readonly floor: Run;
}

/** The median of times, and the most memory. */
function middle(passes: readonly Pass[]): Pass {
  const median = (of: (pass: Pass) => number): number => spreadOf(passes.map(of)).median;
  const most = (of: (pass: Pass) => number): number => Math.max(...passes.map(of));
  return {
    ms: median(({ ms }) => ms),
    cpuMs: median(({ cpuMs }) => cpuMs),
    senderMB: most(({ senderMB }) => senderMB),
    receiverMB: most(({ receiverMB }) => receiverMB),
  };
}

async function measure(entries: number): Promise<Size> {
  const source = await Source.start('scale', entries);
  const pass = async (isBlank: boolean): Promise<Pass> => {
    const device = await source.newDevice(isBlank ? 'blank' : 'not blank', isBlank);
    const node = await device.start([]);
    const before = cpuMsOf(source.node, node);
    const { ms } = await source.wholePass(node);
    const cpuMs = cpuMsOf(source.node, node) - before;
    const [senderMB, receiverMB] = [source.node.peakRssMB ?? 0, node.peakRssMB ?? 0];
    await dismiss(device);
    return { ms, cpuMs, senderMB, receiverMB };
  };
  const passes = { snapshot: [] as Pass[], feed: [] as Pass[] };
  for (let turn = 0; turn < TURNS; turn += 1) {
    passes.snapshot.push(await pass(true));
    passes.feed.push(await pass(false));
  }
  await source.node.terminate();
  const [snapshot, feed] = [middle(passes.snapshot), middle(passes.feed)];
  return { entries, rows: source.rows, feed, snapshot, floor: await source.copyPlainly() };
}

async function run({ quick, say }: BenchOptions): Promise<BenchReport> {
  const sizes: Size[] = [];
  const asked = process.env['FLOTILLA_BENCH_ENTRIES']?.split(',').map(Number);
  for (const entries of asked ?? (quick ? QUICK : FULL)) {
    const size = await measure(entries);
    sizes.push(size);
    say(
      `${shown(size.rows)} rows: feed ${shown(size.feed.ms)} ms, snapshot ${shown(size.snapshot.ms)} ms, plain loop ${shown(size.floor.ms)} ms`,
    );
  }
  const perRow = ({ ms, cpuMs }: Run, { rows }: Size): { us: number; cpuUs: number } => ({
    us: (ms * 1_000) / rows,
    cpuUs: (cpuMs * 1_000) / rows,
  });
  // Of one size alone there is nothing to compare: its ratio is 1.
  const last = sizes.at(-1) as Size;
  const before = sizes.at(-2) ?? last;
  const grown = (way: 'feed' | 'snapshot' | 'floor'): number =>
    perRow(last[way], last).us / perRow(before[way], before).us;
  const grownCpu = perRow(last.feed, last).cpuUs / perRow(before.feed, before).cpuUs;
  return {
    bench: 'scale',
    ratio: rounded(grown('feed')),
    figures: {
      snapshotRatio: rounded(grown('snapshot')),
      cpuRatio: rounded(grownCpu),
      floorRatio: rounded(grown('floor')),
      goal: GOAL,
      sizes: sizes.map((size) => ({
        entries: size.entries,
        rows: size.rows,
        floorUsPerRow: rounded(perRow(size.floor, size).us),
        ...Object.fromEntries(
          (['feed', 'snapshot'] as const).map((way) => {
            const { us, cpuUs } = perRow(size[way], size);
            const { senderMB, receiverMB } = size[way];
            return [way, { usPerRow: rounded(us), cpuUsPerRow: rounded(cpuUs), senderMB, receiverMB }];
          }),
        ),
      })),
    },
    table: [
      ['rows', 'plain loop', 'feed', 'CPU, both ends', 'memory', 'snapshot', 'CPU, both ends', 'memory'],
      ...sizes.map((size) => [
        shown(size.rows),
        `${shown(perRow(size.floor, size).us)} µs a row`,
        ...(['feed', 'snapshot'] as const).flatMap((way) => {
          const { us, cpuUs } = perRow(size[way], size);
          return [`${shown(us)} µs a row`, `${shown(cpuUs)} µs`, `${size[way].senderMB} / ${size[way].receiverMB} MB`];
        }),
      ]),
    ],
    notes: [
      `Medians of ${TURNS} passes. Memory: peak of the sender's process so far, and the highest of the receivers'. Ratio: time a row of the last line against the one before, by the feed; at most ${GOAL.timeRatio} wanted, and less than ${GOAL.rssMB} MB. That of the plain loop grew ${grown('floor').toFixed(2)} times.`,
    ],
  };
}

export const scale: Bench = { name: 'scale', about: 'time and memory a row as libraries grow', run };
