/**
 * Nodes for benchmarks: a library of entries and its node, new devices beside it, and what their processes use, seen from outside.
 * They run what users install, built first: from the sources Node.js keeps the compiler that strips types in every thread.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { openLibrary } from '../examples/file-library/library.ts';
import { fillSynthetic } from '../examples/file-library/synthetic.ts';
import { Device } from '../examples/fleet.ts';
import {
  flotilla,
  projectFolder,
  type RunningNode,
  runScript,
  temporaryFolder,
  until,
  useBuild,
} from '../examples/support.ts';
import { type Run, rounded, shown } from './bench.ts';

/** Slowest sync that is waited for: rows a second, beside a minute. */
const LEAST_RATE = 500;

/** Builds what is measured, once. */
export function build(): void {
  if (isBuilt) return;
  const { status, error, stdout, stderr } = spawnSync(process.execPath, [join(projectFolder, 'scripts', 'build.ts')], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`The build failed. ${stdout}${stderr}`, { cause: error });
  useBuild();
  isBuilt = true;
}

let isBuilt = false;

/** A device with a library of so many entries, and the rows that they point to. */
export class Source extends Device {
  rows = 0;

  /** Fills the library, initialises it and starts its node. */
  static async start(bench: string, entries: number): Promise<Source> {
    build();
    const source = new Source(temporaryFolder(`flotilla-bench-${bench}-`, false), 'source');
    const db = openLibrary(source.library);
    fillSynthetic(db, { entries, seed: 1, volume: 'source' });
    db.close();
    source.rows = source.countRows();
    await source.init(60_000 + (source.rows / LEAST_RATE) * 1_000);
    await source.start([]);
    return source;
  }

  /** A new device that has joined and does not run yet. @param isBlank - false: it has one row of its own, so that the feed brings all */
  async newDevice(name: string, isBlank: boolean): Promise<Device> {
    const device = new Device(join(this.folder, '..'), name);
    await device.join(this);
    if (!isBlank) withLibrary(device.library, (db) => db.exec("INSERT INTO tags (name) VALUES ('its own')"));
    return device;
  }

  /** The floor: its rows copied by a plain local loop, without any sync, in a process of its own. */
  async copyPlainly(): Promise<Run> {
    const target = join(this.folder, 'floor.db');
    const { rows, seconds, cpuMs } = await runScript<{ rows: number; seconds: number; cpuMs: number }>(
      join(projectFolder, 'bench', 'floor.ts'),
      [this.library, target],
    );
    // What the new devices have written has come to the source as well.
    if (rows < this.rows) throw new Error(`The floor copied ${rows} rows of ${this.rows}.`);
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${target}${suffix}`, { force: true });
    return { ms: seconds * 1_000, cpuMs };
  }

  /** Until a device that runs has taken all in, as it says; ms since it listened, since its process began, and rows taken. */
  async wholePass(node: RunningNode): Promise<{ ms: number; withStartMs: number }> {
    const ready = await node.waitFor('its start', 30_000, (events) => events.find(({ event }) => event === 'ready'));
    const done = await node.waitFor('the end of its first pass', 60_000 + (this.rows / LEAST_RATE) * 1_000, (events) =>
      events.find((event) => event.event === 'applied' && event.complete),
    );
    return { ms: done.at - ready.at, withStartMs: done.at - node.startedAt };
  }
}

/** Until a device that runs has caught up with another one, and that with it: ms since it listened. */
export async function caughtUp(node: RunningNode, ms = 120_000): Promise<number> {
  const ready = await node.waitFor('its start', 30_000, (events) => events.find(({ event }) => event === 'ready'));
  const live = await node.waitFor('a session that is live', ms, (events) =>
    events.find((event) => event.event === 'peer' && event.state === 'live'),
  );
  return live.at - ready.at;
}

/** Ends a device for good: its node, its membership, its files. */
export async function dismiss(device: Device): Promise<void> {
  await device.node.terminate();
  await flotilla(['leave', device.library]).catch(() => undefined);
  rmSync(device.folder, { recursive: true, force: true });
}

export function withLibrary<T>(file: string, work: (db: Database.Database) => T): T {
  const db = new Database(file, { fileMustExist: true });
  try {
    db.pragma('synchronous = NORMAL');
    db.pragma('foreign_keys = ON');
    return work(db);
  } finally {
    db.close();
  }
}

/** Until two libraries hold as many rows of a table, and the one the last of the other. */
export async function untilSame(one: Device, other: Device, sql: string, ms = 120_000): Promise<void> {
  const answer = ({ library }: Device): unknown => withLibrary(library, (db) => db.prepare(sql).pluck().get());
  const wanted = answer(one);
  await until(`${other.name} to have what ${one.name} has`, ms, () => (answer(other) === wanted ? true : undefined));
}

/** Change numbers that a device leaves to be passed over by the next session. */
const LEFT_OVER = 1_000;

/** Until a device has passed over what has come from another one, in the feed that it gives to that. */
export async function untilPassedOver(device: Device, from: Device, ms: number): Promise<void> {
  await until(`${device.name} to have passed over what came from ${from.name}`, ms, async () => {
    const { head, acks } = (await device.status()).library;
    return (acks[from.id]?.position ?? 0) >= head - LEFT_OVER ? true : undefined;
  });
}

/** Delay of the event loop of a node's main thread since it was ready, ms: a peer is cut off whose loop stalls for seconds. */
export interface LoopDelay {
  readonly max: number;
  readonly p99: number;
}

/** Greatest delay that is wanted, ms. */
export const MOST_LOOP_DELAY_MS = 50;

/** The greatest delays of devices that run. */
export async function loopDelayOf(...devices: readonly Device[]): Promise<LoopDelay> {
  const reports = await Promise.all(devices.map((device) => device.status()));
  return {
    max: rounded(Math.max(...reports.map(({ maxEventLoopDelayMs }) => maxEventLoopDelayMs))),
    p99: rounded(Math.max(...reports.map(({ p99EventLoopDelayMs }) => p99EventLoopDelayMs))),
  };
}

/** What they are, for people. */
export function loopNote(delays: Readonly<Record<string, LoopDelay>>): string {
  const told = Object.entries(delays).map(
    ([side, { max, p99 }]) => `${side} ${shown(p99)} ms at the 99th percentile, ${shown(max)} ms at most`,
  );
  return `Delay of the event loop of the main thread: ${told.join('; ')}. At most ${MOST_LOOP_DELAY_MS} ms wanted.`;
}

/** CPU time that processes have used, ms; their threads included. */
export function cpuMsOf(...nodes: readonly RunningNode[]): number {
  return nodes.reduce((sum, { pid }) => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return sum + (Number(fields[11]) + Number(fields[12])) * 10;
  }, 0);
}

/** Bytes that processes have sent over TCP connections that stand. */
export function bytesSentBy(...nodes: readonly { readonly pid: number }[]): number {
  const sockets = execFileSync('ss', ['-tinpHO'], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 }).split('\n');
  return sockets
    .filter((line) => nodes.some(({ pid }) => line.includes(`pid=${pid},`)))
    .reduce((sum, line) => sum + Number(/bytes_sent:(\d+)/.exec(line)?.[1] ?? 0), 0);
}
