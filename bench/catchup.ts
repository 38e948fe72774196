/**
 * What a device costs that comes back: nothing, 1 % or 10 % of the rows changed while it was away. Time and bytes, against the whole
 * library by the feed in the same run.
 */
import { type Bench, type BenchOptions, type BenchReport, rounded, shown, spreadOf } from './bench.ts';
import { waitUntilQuiet } from '../examples/fleet.ts';
import { bytesSentBy, caughtUp, dismiss, Source, untilPassedOver, untilSame, withLibrary } from './nodes.ts';

const FULL = { entries: 182_530, times: 3 };
const QUICK = { entries: 8_000, times: 1 };
const SHARES = [0, 0.01, 0.1];
const GOAL = { timeShare: 0.03, bytesShare: 0.02, reconnectBytes: 2_000 };
const SUM = 'SELECT count(*) || sum(size) FROM entries';

interface Cost {
  readonly ms: number;
  readonly bytes: number;
}

async function run({ quick, say }: BenchOptions): Promise<BenchReport> {
  const { entries, times } = quick ? QUICK : FULL;
  const source = await Source.start('catchup', entries);
  /** From when a device listens until it has what the source has. */
  const take = async (device: Awaited<ReturnType<Source['newDevice']>>): Promise<Cost> => {
    const node = await device.start([]);
    const ms = await caughtUp(node, 60_000 + source.rows * 2);
    // Those of earlier connections are not counted any more.
    const bytes = bytesSentBy(source.node, node);
    await untilSame(source, device, SUM);
    await waitUntilQuiet([source, device], 60_000 + source.rows * 2);
    // Otherwise that is left for the next time.
    await untilPassedOver(device, source, 60_000 + source.rows * 2);
    return { ms, bytes };
  };
  const whole: Cost[] = [];
  const parts = SHARES.map((): Cost[] => []);
  for (let time = 0; time < times; time += 1) {
    const device = await source.newDevice(`device ${time}`, false);
    whole.push(await take(device));
    for (const [i, share] of SHARES.entries()) {
      await device.node.terminate();
      withLibrary(source.library, (db) =>
        db.prepare('UPDATE entries SET size = size + 1 WHERE id % 1000 < ?').run(share * 1_000),
      );
      parts[i]?.push(await take(device));
      say(
        `${share * 100} % changed: ${shown(parts[i]?.at(-1)?.ms ?? 0)} ms, ${shown(parts[i]?.at(-1)?.bytes ?? 0)} bytes`,
      );
    }
    await dismiss(device);
  }
  await source.node.terminate();
  const median = (costs: readonly Cost[]): Cost => ({
    ms: spreadOf(costs.map(({ ms }) => ms)).median,
    bytes: spreadOf(costs.map(({ bytes }) => bytes)).median,
  });
  const full = median(whole);
  const nothing = median(parts[0] ?? []);
  const found = SHARES.map((share, i) => {
    const cost = median(parts[i] ?? []);
    return { share, ...cost, timeShare: cost.ms / full.ms, bytesShare: cost.bytes / full.bytes };
  });
  const one = found.find(({ share }) => share === 0.01);
  return {
    bench: 'catchup',
    ratio: rounded(one?.timeShare ?? 0),
    figures: {
      entries,
      rows: source.rows,
      wholeMs: rounded(full.ms),
      wholeBytes: full.bytes,
      changes: found.map((cost) => ({
        share: cost.share,
        ms: rounded(cost.ms),
        bytes: cost.bytes,
        timeShare: rounded(cost.timeShare),
        bytesShare: rounded(cost.bytesShare),
        // Without what it takes to find each other and shake hands.
        workShare: rounded((cost.ms - nothing.ms) / (full.ms - nothing.ms)),
      })),
      goal: GOAL,
    },
    table: [
      [
        'entries changed',
        'time',
        'of a full backfill',
        'without the reconnect',
        'bytes, both ways',
        'of a full backfill',
      ],
      ...found.map(({ share, ms, bytes, timeShare, bytesShare }) => [
        `${share * 100} %`,
        `${shown(ms)} ms`,
        `${shown(timeShare * 100)} %`,
        `${shown(((ms - nothing.ms) / (full.ms - nothing.ms)) * 100)} %`,
        shown(bytes),
        `${shown(bytesShare * 100)} %`,
      ]),
      ['everything', `${shown(full.ms)} ms`, '', '', shown(full.bytes), ''],
    ],
    notes: [
      'From when the node listens; so the first line is what it takes to find each other, to connect and to shake hands.',
      `Wanted for 1 %: at most ${GOAL.timeShare * 100} % of the time and ${GOAL.bytesShare * 100} % of the bytes; for nothing less than ${GOAL.reconnectBytes} bytes.`,
    ],
  };
}

export const catchup: Bench = { name: 'catchup', about: 'a device that comes back after changes elsewhere', run };
