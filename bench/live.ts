/**
 * From the commit of a program on one device until a program on another one sees the row, at several rates and with several devices, beside
 * the round trip of a bare libp2p stream in the same run: 1, 5 and 20, or as many as FLOTILLA_BENCH_PEERS says (such as 1,5). And what all of it
 * costs: CPU time and bytes a change (`fanout`).
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import type { Device } from '../examples/fleet.ts';
import { projectFolder, runScript, sleep } from '../examples/support.ts';
import { type Bench, type BenchOptions, type BenchReport, rounded, shown } from './bench.ts';
import { measureEcho } from './echo.ts';
import { bytesSentBy, caughtUp, cpuMsOf, loopDelayOf, loopNote, Source, untilSame } from './nodes.ts';

const ENTRIES = 2_000;
const GOALS = { p50: 15, p99: 60, rate: 100 };
/** How long a row may take before it counts as lost, s. */
const LIMIT_S = 60;

/**
 * How long a device may take to listen, and then to be live, ms. With twenty on one machine each newcomer makes work for all others (some 200 ms
 * of CPU time each), and so does merely keeping up the connections (20 ms a second each): minutes where other work goes on as well.
 */
const COME_UP_MS = 300_000;

const FULL = { peers: [1, 5, 20], rates: [1, 100, 5_000], seconds: 10 };
const QUICK = { peers: [1], rates: [100, 1_000], seconds: 2 };
/** Transactions of one measurement at most, for all peers together: those of 5,000 a second come in a burst. */
const MOST = 20_000;
const LEAST = 20;

interface Lag {
  readonly seen: number;
  readonly p50: number;
  readonly p99: number;
  readonly growth: number;
}

interface Measured extends Lag {
  readonly peers: number;
  readonly rate: number;
  /** Transactions a second that the writer reached. */
  readonly reached: number;
}

/** A writer's device and others that are live with it. Those that could not be started end with this process. */
async function fleetOf(bench: string): Promise<{ source: Source; grow: (peers: number) => Promise<Device[]> }> {
  const source = await Source.start(bench, ENTRIES);
  const devices: Device[] = [];
  const grow = async (peers: number): Promise<Device[]> => {
    while (devices.length < peers) {
      const device = await source.newDevice(`device ${devices.length}`, true);
      await caughtUp(await device.start([], COME_UP_MS), COME_UP_MS);
      devices.push(device);
    }
    await Promise.all(devices.map((device) => untilSame(source, device, 'SELECT count(*) FROM entries')));
    return devices;
  };
  return { source, grow };
}

async function stop(source: Source, devices: readonly Device[]): Promise<void> {
  for (const device of [...devices, source]) await device.node.terminate();
}

/** Writes at a rate on one device, and watches another one. */
async function measure(
  source: Source,
  watched: Device,
  rate: number,
  count: number,
): Promise<Lag & { reached: number }> {
  const script = (name: string): string => join(projectFolder, 'bench', name);
  const reader = spawn(
    process.execPath,
    [script('live-reader.ts'), watched.library, String(count), String(count / rate + LIMIT_S)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const lines = createInterface({ input: reader.stdout })[Symbol.asyncIterator]();
  await lines.next();
  const { ms } = await runScript<{ ms: number }>(script('live-writer.ts'), [
    source.library,
    String(rate),
    String(count),
  ]);
  const lag = JSON.parse(String((await lines.next()).value)) as Lag;
  if (lag.seen < count) throw new Error(`${count - lag.seen} of ${count} rows were not seen within ${LIMIT_S} s.`);
  return { ...lag, reached: (count * 1_000) / ms };
}

async function run({ quick, say }: BenchOptions): Promise<BenchReport> {
  const { peers: usualPeers, rates, seconds } = quick ? QUICK : FULL;
  const peers = process.env['FLOTILLA_BENCH_PEERS']?.split(',').map(Number) ?? usualPeers;
  const echo = await measureEcho(500);
  const quantile = (part: number): number => echo[Math.ceil(part * echo.length) - 1] ?? Number.NaN;
  say(`a bare stream: ${shown(quantile(0.5))} ms there and back`);
  const { source, grow } = await fleetOf('live');
  const found: Measured[] = [];
  let devices: Device[] = [];
  const left: number[] = [];
  for (const count of peers) {
    // Too many for this machine, at least as busy as it is: what was found for fewer still holds.
    const more = left.length > 0 ? null : await grow(count).catch(() => null);
    if (more === null) {
      left.push(count);
      continue;
    }
    devices = more;
    for (const rate of rates) {
      const transactions = Math.min(MOST / count, Math.max(LEAST, rate * seconds));
      const lag = await measure(source, devices.at(-1) as Device, rate, transactions);
      found.push({ ...lag, peers: count, rate });
      say(`${count} peers, ${rate} a second: ${shown(lag.p50)} ms, at the 99th percentile ${shown(lag.p99)} ms`);
    }
  }
  const loopDelayMs = { writer: await loopDelayOf(source), others: await loopDelayOf(...devices) };
  await stop(source, devices);
  // With as many peers as come first: one, unless FLOTILLA_BENCH_PEERS says otherwise.
  const usual = found.find(({ rate }) => rate === GOALS.rate) as Measured;
  return {
    bench: 'live',
    ratio: rounded(usual.p50 / quantile(0.5)),
    figures: {
      echoMs: { p50: rounded(quantile(0.5)), p99: rounded(quantile(0.99)) },
      found: found.map(({ peers: count, rate, reached, p50, p99, growth }) => ({
        peers: count,
        rate,
        reached: Math.round(reached),
        p50: rounded(p50),
        p99: rounded(p99),
        growth: rounded(growth),
      })),
      loopDelayMs,
      goal: GOALS,
    },
    table: [
      ['peers', 'transactions a second', 'reached', 'p50', 'p99', 'second half / first half'],
      ...found.map(({ peers: count, rate, reached, p50, p99, growth }) => [
        String(count),
        shown(rate),
        shown(reached),
        `${shown(p50)} ms`,
        `${shown(p99)} ms`,
        shown(growth),
      ]),
    ],
    notes: [
      `A bare libp2p stream: ${shown(quantile(0.5))} ms there and back, ${shown(quantile(0.99))} ms at the 99th percentile. The ratio is that of the medians at ${GOALS.rate} a second with ${usual.peers} peers.`,
      `Wanted there: ${GOALS.p50} ms and ${GOALS.p99} ms.`,
      loopNote(loopDelayMs),
      ...left.map((count) => `${count} peers could not be brought up on this machine.`),
    ],
  };
}

export const live: Bench = { name: 'live', about: 'commit on one device to visible on another', run };

const FAN_FULL = { nodes: [2, 5, 10, 20], changes: 1_000 };
const FAN_QUICK = { nodes: [2, 4], changes: 300 };
const FAN_RATE = 100;
/** How long the nodes are watched at rest, ms: what they use then is taken off. */
const REST_MS = 3_000;

interface Fan {
  readonly nodes: number;
  readonly cpuMs: number;
  readonly bytes: number;
}

async function runFanout({ quick, say }: BenchOptions): Promise<BenchReport> {
  const { nodes, changes } = quick ? FAN_QUICK : FAN_FULL;
  const { source, grow } = await fleetOf('fanout');
  const found: Fan[] = [];
  let devices: Device[] = [];
  for (const count of nodes) {
    const more = await grow(count - 1).catch(() => null);
    if (more === null) {
      say(`${count} nodes could not be brought up on this machine`);
      break;
    }
    devices = more;
    const all = [source, ...devices].map(({ node }) => node);
    const used = (): { at: number; cpuMs: number; bytes: number } => ({
      at: performance.now(),
      cpuMs: cpuMsOf(...all),
      bytes: bytesSentBy(...all),
    });
    await sleep(REST_MS);
    const before = used();
    await sleep(REST_MS);
    const rested = used();
    await runScript(join(projectFolder, 'bench', 'live-writer.ts'), [
      source.library,
      String(FAN_RATE),
      String(changes),
    ]);
    await Promise.all(devices.map((device) => untilSame(source, device, 'SELECT count(*) FROM entries')));
    const after = used();
    const share = (after.at - rested.at) / (rested.at - before.at);
    const cost = (what: 'cpuMs' | 'bytes'): number =>
      (after[what] - rested[what] - (rested[what] - before[what]) * share) / changes;
    found.push({ nodes: count, cpuMs: cost('cpuMs'), bytes: cost('bytes') });
    say(`${count} nodes: ${shown(cost('cpuMs'))} ms of CPU time, ${shown(cost('bytes'))} bytes a change`);
  }
  await stop(source, devices);
  const [first, last] = [found[0], found.at(-1)] as [Fan, Fan];
  const perNode = ({ cpuMs, nodes: count }: Fan): number => cpuMs / count;
  return {
    bench: 'fanout',
    ratio: rounded(perNode(last) / perNode(first)),
    figures: {
      changes,
      rate: FAN_RATE,
      found: found.map(({ nodes: count, cpuMs, bytes }) => ({
        nodes: count,
        cpuMsPerChange: rounded(cpuMs),
        bytesPerChange: Math.round(bytes),
        bytesPerChangeAndReceiver: Math.round(bytes / (count - 1)),
      })),
    },
    table: [
      ['nodes', 'CPU time a change, all nodes', 'of each node', 'bytes a change', 'for each receiver'],
      ...found.map((fan) => [
        String(fan.nodes),
        `${shown(fan.cpuMs)} ms`,
        `${shown(perNode(fan))} ms`,
        shown(fan.bytes),
        shown(fan.bytes / (fan.nodes - 1)),
      ]),
    ],
    notes: [
      `${changes} transactions of one row, ${FAN_RATE} a second; what the nodes use at rest is taken off. The ratio is that of the CPU time of each node, with the most nodes against the fewest.`,
    ],
  };
}

export const fanout: Bench = {
  name: 'fanout',
  about: 'one writer, 2 to 20 nodes: CPU time and bytes a change',
  run: runFanout,
};
