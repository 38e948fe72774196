/**
 * Drawings of what was measured: `docs/perf/NAME.svg`, of the JSON line that lies beside it (`NAME.jsonl`), as `npm run bench -- NAME --json`
 * prints it. Nothing is measured here.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectFolder } from '../examples/support.ts';
import { shown } from './bench.ts';
import { type Chart, drawChart, type Panel } from './chart.ts';

/** Where lines and drawings are. */
export const PLOTS_FOLDER = join(projectFolder, 'docs', 'perf');

/** What every line says of the machine. */
interface Around {
  readonly node: string;
  readonly cpu: string;
  readonly cores: number;
  readonly quick: boolean;
}

interface Way {
  readonly usPerRow: number;
  readonly cpuUsPerRow: number;
  readonly senderMB: number;
  readonly receiverMB: number;
}

interface ScaleLine extends Around {
  readonly sizes: ReadonlyArray<{ readonly rows: number; readonly feed: Way; readonly snapshot: Way }>;
}

interface LiveLine extends Around {
  readonly found: ReadonlyArray<{
    readonly peers: number;
    readonly rate: number;
    readonly reached: number;
    readonly p50: number;
    readonly p99: number;
  }>;
}

interface CatchupLine extends Around {
  readonly rows: number;
  readonly wholeMs: number;
  readonly wholeBytes: number;
  readonly changes: ReadonlyArray<{ readonly share: number; readonly ms: number; readonly bytes: number }>;
}

interface PeersLine extends Around {
  readonly rows: number;
  readonly systems: ReadonlyArray<{
    readonly system: string;
    readonly reason: string;
    readonly seconds?: number;
    readonly senderMB?: number | null;
    readonly receiverMB?: number | null;
  }>;
}

const WAYS = ['feed', 'snapshot'] as const;

function scaleChart({ sizes, ...around }: ScaleLine): Chart {
  const panel = (title: string, values: (size: ScaleLine['sizes'][number]) => number[]): Panel => ({
    title,
    series: ['by the feed', 'by a snapshot'],
    groups: sizes.map((size) => ({ label: `${shown(size.rows)} rows`, values: values(size) })),
  });
  return {
    title: 'A first pass, by the size of the library',
    subtitle: machineOf(around),
    panels: [
      panel('Time a row, µs', (size) => WAYS.map((way) => size[way].usPerRow)),
      panel('CPU time of both ends a row, µs', (size) => WAYS.map((way) => size[way].cpuUsPerRow)),
      panel('Peak memory of the receiver, MB', (size) => WAYS.map((way) => size[way].receiverMB)),
    ],
  };
}

function liveChart({ found, ...around }: LiveLine): Chart {
  return {
    title: 'From the commit on one device until a program on another sees the row',
    subtitle: machineOf(around),
    panels: [
      {
        title: 'Milliseconds',
        series: ['median', '99th percentile'],
        groups: found.map(({ peers, reached, p50, p99 }) => ({
          label: `${peers} ${peers === 1 ? 'peer' : 'peers'}, ${shown(reached)} commits/s`,
          values: [p50, p99],
        })),
      },
    ],
  };
}

function catchupChart({ rows, wholeMs, wholeBytes, changes, ...around }: CatchupLine): Chart {
  const groups = [
    ...changes.map(({ share, ms, bytes }) => ({
      label: share === 0 ? 'nothing changed' : `${share * 100} % of entries changed`,
      ms,
      bytes,
    })),
    { label: 'a new device, everything', ms: wholeMs, bytes: wholeBytes },
  ];
  return {
    title: `A device that comes back: ${shown(rows)} rows in all`,
    subtitle: machineOf(around),
    panels: [
      {
        title: 'Until it has all, s',
        series: [''],
        groups: groups.map(({ label, ms }) => ({ label, values: [ms / 1_000] })),
      },
      {
        title: 'On the wire, kB',
        series: [''],
        groups: groups.map(({ label, bytes }) => ({ label, values: [bytes / 1_000] })),
      },
    ],
  };
}

function peersChart({ rows, systems, ...around }: PeersLine): Chart {
  return {
    title: `${shown(rows)} rows from one process into an empty one`,
    subtitle: machineOf(around),
    panels: [
      {
        title: 'Until durable, s',
        series: [''],
        groups: systems.map(({ system, reason, seconds }) => ({
          label: system,
          values: [reason === '' ? (seconds ?? null) : null],
          note: reason,
        })),
      },
      {
        title: 'Peak memory, MB',
        series: ['sender', 'receiver'],
        groups: systems
          .filter(({ reason }) => reason === '')
          .map(({ system, senderMB = null, receiverMB = null }) => ({ label: system, values: [senderMB, receiverMB] })),
      },
    ],
  };
}

const CHARTS: Readonly<Record<string, (line: never) => Chart>> = {
  scale: scaleChart,
  live: liveChart,
  catchup: catchupChart,
  peers: peersChart,
};

/** The benchmarks that are drawn. */
const PLOTTED = Object.keys(CHARTS);

function machineOf({ node, cpu, cores, quick }: Around): string {
  return `Node.js ${node.replace('v', '')}, ${cores} × ${cpu}${quick ? ', a small run' : ''}`;
}

/** Keeps the line of a benchmark that is drawn, in place of the one before. */
export function keepLine(bench: string, line: object): void {
  if (!PLOTTED.includes(bench)) return;
  mkdirSync(PLOTS_FOLDER, { recursive: true });
  writeFileSync(join(PLOTS_FOLDER, `${bench}.jsonl`), `${JSON.stringify(line)}\n`);
}

/** The drawing of a benchmark whose line is there; null if it is not. */
export function plotOf(bench: string): string | null {
  const file = join(PLOTS_FOLDER, `${bench}.jsonl`);
  const chart = CHARTS[bench];
  if (chart === undefined || !existsSync(file)) return null;
  return drawChart(chart(JSON.parse(readFileSync(file, 'utf8')) as never));
}

/** Draws every line that is there; gives the files that it wrote. */
export function drawPlots(): string[] {
  return PLOTTED.flatMap((bench) => {
    const plot = plotOf(bench);
    if (plot === null) return [];
    writeFileSync(join(PLOTS_FOLDER, `${bench}.svg`), plot);
    return [`docs/perf/${bench}.svg`];
  });
}
