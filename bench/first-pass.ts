/**
 * The 182,530-entry scenario into a new device, against a plain local copy of the same rows without any sync: `backfill` by the feed, into a
 * library that has one row already, and `bootstrap` by a snapshot, into one that has none.
 */
import {
  type Bench,
  type BenchOptions,
  type BenchReport,
  paired,
  rounded,
  type Run,
  shown,
  spreadOf,
  type Spread,
} from './bench.ts';
import { cpuMsOf, dismiss, type LoopDelay, loopDelayOf, loopNote, Source, untilSame } from './nodes.ts';

const FULL = { entries: 182_530, pairs: 5 };
const QUICK = { entries: 20_000, pairs: 2 };

/** Says that both copies hold the same entries. */
const SUM = 'SELECT count(*) || sum(size) || sum(modified_at) FROM entries';

async function measure(name: string, isBlank: boolean, { quick, say }: BenchOptions): Promise<BenchReport> {
  const { entries, pairs } = quick ? QUICK : FULL;
  const goal = isBlank ? 1.2 : 0.6;
  const source = await Source.start(name, entries);
  const withStart: number[] = [];
  const loops: LoopDelay[] = [];
  const peaks: { sender: number; receiver: number }[] = [];
  const ours = async (): Promise<Run> => {
    const device = await source.newDevice(`device ${withStart.length}`, isBlank);
    const node = await device.start([]);
    const before = cpuMsOf(source.node, node);
    const { ms, withStartMs } = await source.wholePass(node);
    const cpuMs = cpuMsOf(source.node, node) - before;
    withStart.push(withStartMs);
    peaks.push({ sender: source.node.peakRssMB ?? 0, receiver: node.peakRssMB ?? 0 });
    await untilSame(source, device, SUM);
    loops.push(await loopDelayOf(device));
    await dismiss(device);
    return { ms, cpuMs };
  };
  const floor = async (): Promise<Run> => {
    const copied = await source.copyPlainly();
    say(`${shown(source.rows)} rows in ${shown(copied.ms / 1_000)} s by a plain loop`);
    return copied;
  };
  const found = await paired(pairs, ours, floor);
  const loopDelayMs = {
    sender: await loopDelayOf(source),
    receiver: { max: Math.max(...loops.map(({ max }) => max)), p99: Math.max(...loops.map(({ p99 }) => p99)) },
  };
  await source.node.terminate();
  const start = spreadOf(withStart.slice(1));
  const peak = (side: 'sender' | 'receiver'): number => Math.max(...peaks.map((one) => one[side]));
  const range = ({ least, greatest }: Spread): string => `${least.toFixed(2)} – ${greatest.toFixed(2)}`;
  const seconds = ({ median }: Spread): string => `${shown(median / 1_000)} s`;
  return {
    bench: name,
    ratio: rounded(found.ratio.median),
    figures: {
      entries,
      rows: source.rows,
      pairs,
      least: rounded(found.ratio.least),
      greatest: rounded(found.ratio.greatest),
      cpuRatio: rounded(found.cpuRatio.median),
      floorMs: rounded(found.other.median),
      syncMs: rounded(found.one.median),
      withStartMs: rounded(start.median),
      rowsPerSecond: Math.round(source.rows / (found.one.median / 1_000)),
      peakRssMB: { sender: peak('sender'), receiver: peak('receiver') },
      loopDelayMs,
      goal,
    },
    table: [
      ['', 'plain loop', 'sync', 'ratio', 'spread', 'by CPU time, both ends', 'with the start of Node.js', 'goal'],
      [
        `${shown(source.rows)} rows`,
        seconds(found.other),
        seconds(found.one),
        found.ratio.median.toFixed(2),
        range(found.ratio),
        found.cpuRatio.median.toFixed(2),
        seconds(start),
        `≥ ${goal}`,
      ],
    ],
    notes: [
      'Ratio: time of the plain loop / time from when the new node listens until it has all, durably; of pairs in turns, the median.',
      `Peak memory: sender ${peak('sender')} MB, receiver ${peak('receiver')} MB.`,
      loopNote(loopDelayMs),
    ],
  };
}

export const backfill: Bench = {
  name: 'backfill',
  about: 'all rows by the feed into a library that is not empty, against a plain copy loop',
  run: (options) => measure('backfill', false, options),
};

export const bootstrap: Bench = {
  name: 'bootstrap',
  about: 'the same into a new device, by a snapshot',
  run: (options) => measure('bootstrap', true, options),
};
