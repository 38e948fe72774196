/**
 * Devices of one make-believe person, on one machine: each has a folder with its own library and home, and at times a
 * running node. Built on the command line alone.
 */
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { Invitation, JoinReport } from '../src/index.ts';
import { compareLibraries, type Comparison, describeDifference } from './compare.ts';
import { flotilla, libraryScript, runScript, RunningNode, sleep, type StatusReport, until } from './support.ts';

/** mDNS answers within a second or not at all; twice its first repetitions, on a busy machine. */
const DISCOVERY_MS = 8_000;
/** A pause between two looks at the libraries from outside. */
const LOOK_MS = 20;

/** One device. */
export class Device {
  readonly name: string;
  readonly folder: string;
  readonly library: string;
  /** All nodes that have run here, the last one last. */
  readonly nodes: RunningNode[] = [];
  /** Own peer id, known after the first start. */
  id = '';
  /** Where it listens, with its peer id. */
  addresses: readonly string[] = [];

  constructor(parent: string, name: string) {
    this.name = name;
    this.folder = join(parent, name.replaceAll(' ', '-'));
    this.library = join(this.folder, 'library.db');
    mkdirSync(this.folder);
  }

  get node(): RunningNode {
    const node = this.nodes.at(-1);
    if (node === undefined || !node.running) throw new Error(`${this.name} does not run.`);
    return node;
  }

  /**
   * Makes this device the first one: an initialised library. It may be there already.
   * @param ms - how long that may take
   */
  async init(ms?: number): Promise<void> {
    if (!existsSync(this.library)) throw new Error(`${this.library} does not exist yet.`);
    copyFileSync(libraryScript('flotilla.config.json'), join(this.folder, 'flotilla.config.json'));
    await flotilla(['init', this.library, '--name', this.name], ms);
  }

  /** Lets this device in by an invitation of another one, which must run. */
  async join(inviter: Device): Promise<void> {
    const invitation = await flotilla<Invitation>(['invite', inviter.library, '--local-only']);
    await flotilla<JoinReport>(['join', invitation.text, this.library, '--local-only', '--name', this.name]);
  }

  /**
   * Starts the node; resolves when it listens.
   * @param ms - how long that may take
   */
  async start(options: readonly string[], ms?: number): Promise<RunningNode> {
    const node = new RunningNode(this.name, this.library, ['--name', this.name, ...options]);
    this.nodes.push(node);
    const { device, addresses } = await node.ready(ms);
    this.id = device;
    this.addresses = addresses;
    return node;
  }

  status(): Promise<StatusReport> {
    return flotilla<StatusReport>(['status', this.library]);
  }

  /** Runs a program of the file library on this device's library, in a process of its own. */
  run<Result>(script: string, args: readonly string[]): Promise<Result> {
    return runScript<Result>(libraryScript(script), [this.library, ...args, '--json']);
  }

  /** True if a node of this device has found `other` by multicast. */
  discovered(other: Device): boolean {
    return this.nodes.some(({ events }) =>
      events.some((event) => event.event === 'discovered' && event.via === 'mdns' && event.device === other.id),
    );
  }

  /** Rows in the tables of the user, counted from outside; 0 while there is no library. */
  countRows(): number {
    return existsSync(this.library) ? rowCounts(this.library).reduce((sum, rows) => sum + rows, 0) : 0;
  }
}

/** True once all pairs have found each other by multicast, false if that does not happen in time. */
export async function foundByMulticast(devices: readonly Device[], ms = DISCOVERY_MS): Promise<boolean> {
  const pairs = devices.flatMap((one, index) => devices.slice(index + 1).map((other) => [one, other] as const));
  const allFound = (): true | undefined =>
    pairs.every(([one, other]) => one.discovered(other) || other.discovered(one)) ? true : undefined;
  return until('multicast', ms, allFound).catch(() => false);
}

/** Rows of each table of the user, in the order of the names. */
function rowCounts(file: string): number[] {
  const db = new Database(file, { readonly: true, fileMustExist: true });
  try {
    const tables = db
      .prepare(
        `SELECT name
        FROM sqlite_schema
        WHERE type = 'table' AND name NOT GLOB 'flotilla_*' AND name NOT GLOB 'sqlite_*'
        ORDER BY name`,
      )
      .pluck()
      .all() as string[];
    return tables.map(
      (table) =>
        db
          .prepare(`SELECT count(*) FROM "${table.replaceAll('"', '""')}"`)
          .pluck()
          .get() as number,
    );
  } finally {
    db.close();
  }
}

export interface Equal {
  readonly comparison: Comparison;
  /** Until the copies were equal, without the time that the comparison itself took. */
  readonly seconds: number;
}

/**
 * Waits until all copies hold the same, looking from outside: first the cheap sign (equal numbers of rows), then row
 * by row.
 *
 * @throws Error - when they do not become equal within `ms`, naming some differences
 */
export async function waitUntilEqual(devices: readonly Device[], ms: number): Promise<Equal> {
  const started = performance.now();
  const files = devices.map(({ library }) => library);
  let [pause, last]: [number, Comparison | null] = [LOOK_MS, null];
  while (performance.now() - started < ms) {
    const looked = performance.now();
    const [first, ...others] = files.map((file) => rowCounts(file).join());
    if (others.every((counts) => counts === first)) {
      last = compareLibraries(files);
      if (last.identical) return { comparison: last, seconds: (looked - started) / 1_000 };
      // Looking must not become the main load of the machine.
      pause = Math.max(LOOK_MS, performance.now() - looked);
    }
    await sleep(pause);
  }
  const { examples, ...counts } = last ?? compareLibraries(files);
  const named = examples.slice(0, 5).map(describeDifference);
  throw new Error(
    [`The copies were not equal after ${ms / 1_000} s: ${JSON.stringify(counts)}`, ...named].join('\n  '),
  );
}

/** What a node still has to do, in words; '' if it is quiet. */
export function unrest({ running, peers, library }: StatusReport): string {
  if (!running) return 'does not run';
  if (library.unstamped > 0) return `${library.unstamped} changes are not stamped`;
  if (library.waitingCount > 0) return `${library.waitingCount} rows wait: ${library.waiting[0]?.detail ?? ''}`;
  const busy = peers.filter((peer) => peer.state !== 'live' || !peer.inSync);
  if (busy.length > 0)
    return busy
      .map((peer) => `${peer.name} is ${peer.state}${peer.inSync ? '' : ', not in sync'} ${peer.reason}`)
      .join('; ');
  return peers.length === 0 ? 'knows nobody' : '';
}

/**
 * Waits until every node says that everybody has everything and has ACKed it; gives the last word of each.
 *
 * @param ms - how long at most
 * @param stillMs - how long at most while nothing changes on any of them. @default ms
 */
export async function waitUntilQuiet(
  devices: readonly Device[],
  ms: number,
  stillMs = ms,
): Promise<{ reports: StatusReport[]; restless: string[] }> {
  const began = performance.now();
  let [state, changedAt] = ['', began];
  for (;;) {
    const reports = await Promise.all(devices.map((device) => device.status()));
    const restless = reports
      .map(unrest)
      .flatMap((words, index) => (words === '' ? [] : [`${devices[index]?.name}: ${words}`]));
    const now = JSON.stringify(
      reports.map(({ library }) => [library.head, library.acks, library.counters, library.waitingCount]),
    );
    if (now !== state) [state, changedAt] = [now, performance.now()];
    const isOver = performance.now() > began + ms || performance.now() > changedAt + stillMs;
    if (restless.length === 0 || isOver) return { reports, restless };
    await sleep(100);
  }
}
