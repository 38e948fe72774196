/**
 * A long run of real nodes: `npm run soak -- [--minutes 30] [--nodes 4] [--seed 1] [--keep] [--json]`. Processes of their own on loopback, programs that write
 * to their libraries all the time, and what happens to computers: killed, stopped and started, asleep, a program killed in the middle, a
 * writer that holds the file, VACUUM and checkpoints. After each round all must come to rest with the same content and nothing lost.
 * The first device runs through it all: its memory and open files must not grow with the rounds.
 *
 * Progress goes to stderr; the last line of stdout is JSON. Exit code 1 unless all is well. A seed repeats the plan, not the moments.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import Sqlite from 'better-sqlite3';

import { compareLibraries, describeDifference } from '../examples/compare.ts';
import { Device, waitUntilQuiet } from '../examples/fleet.ts';
import { wholeNumber } from '../examples/options.ts';
import { cleanUp, flotilla, sleep, temporaryFolder } from '../examples/support.ts';
import { Chance } from './support/chance.ts';

const SCHEMA = `
  CREATE TABLE folders (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES folders (id) ON DELETE SET NULL, name TEXT NOT NULL, UNIQUE (parent, name));
  CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    folder INTEGER NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
    token TEXT NOT NULL,
    body TEXT,
    edits INTEGER NOT NULL DEFAULT 0
  );
  CREATE INDEX notes_by_folder ON notes (folder);
  CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, uses INTEGER NOT NULL DEFAULT 1);
  CREATE TABLE note_tags (
    note INTEGER NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
    tag INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE,
    PRIMARY KEY (note, tag)
  ) WITHOUT ROWID;
  INSERT INTO folders (name) VALUES ('inbox'), ('archive');
`;

/** How long programs write in a round, ms, and what happens meanwhile. */
const WRITING_MS = 12_000;
const ACCIDENTS = 6;
/** The longest that a computer sleeps, and that a program holds the file, ms. */
const SLEEP_MS = 9_000;
const HOLD_MS = 3_000;
/** A fleet that is not at rest and in which nothing has changed for so long is stuck, ms: back-off after kills goes up to a minute. */
const STUCK_MS = 150_000;
/** And one that still changes after so long answers its own changes, ms. */
const REST_MS = 1_200_000;
/** How long a program waits for the others that write to the same file, ms. */
const BUSY_MS = 180_000;
/** Rounds until caches are warm: growth is counted from there. */
const WARM_ROUNDS = 3;
/** Differences that are named. */
const NAMED = 5;

/** What the first device's process holds. */
interface Footprint {
  readonly rssMB: number;
  readonly files: number;
}

interface Result {
  readonly minutes: number;
  readonly nodes: number;
  readonly rounds: number;
  readonly operations: number;
  readonly accidents: number;
  readonly diverged: number;
  readonly lostWrites: number;
  readonly resurrected: number;
  readonly violations: number;
  /** Of the first device's node, after {@link WARM_ROUNDS} rounds and at the end. */
  readonly rssMB: readonly [number, number];
  readonly openFiles: readonly [number, number];
}

/** What programs have said. */
class Ledger {
  readonly inserted = new Set<string>();
  /** Perhaps: the commit was not seen. */
  readonly touched = new Set<string>();
  readonly deleted = new Set<string>();
  operations = 0;

  take(line: string): void {
    const [mark, what = ''] = line.split(' ');
    if (mark === '+') this.inserted.add(what);
    else if (mark === '-') this.touched.add(what);
    else if (mark === '=') this.deleted.add(what);
    else if (mark === 'done') this.operations += Number(what);
  }
}

class Soak {
  readonly #devices: readonly Device[];
  readonly #chance: Chance;
  readonly #ledger = new Ledger();
  readonly #faults: Record<'diverged' | 'lost' | 'resurrected' | 'violations', number> = {
    diverged: 0,
    lost: 0,
    resurrected: 0,
    violations: 0,
  };
  readonly #footprints: Footprint[] = [];
  readonly #programs = new Map<Device, ChildProcess>();
  #accidents = 0;
  #writers = 0;

  constructor(folder: string, nodes: number, chance: Chance) {
    this.#devices = Array.from({ length: nodes }, (_, n) => new Device(folder, `device${n + 1}`));
    this.#chance = chance;
    process.once('exit', () => this.#programs.forEach((program) => program.kill('SIGKILL')));
  }

  get #first(): Device {
    return this.#devices[0] as Device;
  }

  async begin(): Promise<void> {
    const db = new Sqlite(this.#first.library);
    db.exec(SCHEMA);
    db.close();
    await flotilla(['init', this.#first.library, '--name', this.#first.name]);
    await this.#first.start([]);
    for (const device of this.#devices.slice(1)) {
      await device.join(this.#first);
      await device.start(this.#addresses());
    }
  }

  /** One round; false when something was found. */
  async round(): Promise<boolean> {
    const writers = this.#devices.map((device) => this.#write(device));
    for (let n = 0; n < ACCIDENTS; n += 1) {
      await sleep(this.#chance.below((2 * WRITING_MS) / ACCIDENTS));
      await this.#accident();
    }
    await Promise.all(writers);
    return this.#rest();
  }

  result(minutes: number, rounds: number): Result {
    const { diverged, lost, resurrected, violations } = this.#faults;
    const [warm, last] = [this.#footprints[WARM_ROUNDS - 1] ?? this.#footprints[0], this.#footprints.at(-1)];
    return {
      minutes: Math.round(minutes * 10) / 10,
      nodes: this.#devices.length,
      rounds,
      operations: this.#ledger.operations,
      accidents: this.#accidents,
      diverged,
      lostWrites: lost,
      resurrected,
      violations,
      rssMB: [warm?.rssMB ?? 0, last?.rssMB ?? 0],
      openFiles: [warm?.files ?? 0, last?.files ?? 0],
    };
  }

  /** A program that writes to a device's library; resolves when it has ended, however that was. */
  #write(device: Device): Promise<void> {
    this.#writers += 1;
    const args = [device.library, device.name, String(this.#writers), String(WRITING_MS)];
    const program = spawn(process.execPath, [join(import.meta.dirname, 'soak', 'writer.ts'), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#programs.set(device, program);
    createInterface({ input: program.stdout }).on('line', (line) => this.#ledger.take(line));
    let complaint = '';
    program.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text));
    return new Promise((resolve, reject) => {
      program.once('error', reject);
      program.once('close', (code, signal) => {
        this.#programs.delete(device);
        if (code === 0 || signal === 'SIGKILL') resolve();
        else reject(new Error(`The program that writes to ${device.library} ended with ${code}: ${complaint}`));
      });
    });
  }

  async #accident(): Promise<void> {
    this.#accidents += 1;
    // The first device's node runs through it all; its file has no such peace.
    const other = this.#chance.pick(this.#devices.slice(1));
    const any = this.#chance.pick(this.#devices);
    const [happen, device, what] = this.#chance.pick<readonly [() => unknown, Device, string]>([
      [() => other.node.kill().then(() => this.#again(other)), other, 'is killed'],
      [() => other.node.terminate().then(() => this.#again(other)), other, 'stops and starts'],
      [() => this.#asleep(other), other, 'sleeps'],
      [() => this.#programs.get(any)?.kill('SIGKILL'), any, 'has its program killed'],
      [() => this.#hold(any), any, 'has its file held'],
      [() => this.#maintain(any, 'VACUUM'), any, 'is vacuumed'],
      [() => this.#maintain(any, 'PRAGMA wal_checkpoint(TRUNCATE)'), any, 'has its log emptied'],
    ]);
    process.stderr.write(`  ${device.name} ${what}\n`);
    await happen();
  }

  /** Some time later, so that the others write on without it. */
  async #again(device: Device): Promise<void> {
    await sleep(this.#chance.below(SLEEP_MS));
    await device.start(this.#addresses());
  }

  async #asleep(device: Device): Promise<void> {
    process.kill(device.node.pid, 'SIGSTOP');
    await sleep(this.#chance.below(SLEEP_MS));
    process.kill(device.node.pid, 'SIGCONT');
  }

  async #hold({ library }: Device): Promise<void> {
    const db = new Sqlite(library, { timeout: BUSY_MS });
    try {
      db.exec('BEGIN IMMEDIATE');
      await sleep(this.#chance.below(HOLD_MS));
      db.exec('COMMIT');
    } finally {
      db.close();
    }
  }

  #maintain({ library }: Device, statement: string): void {
    const db = new Sqlite(library, { timeout: BUSY_MS });
    try {
      db.exec(statement);
    } finally {
      db.close();
    }
  }

  /** Addresses of the devices that run, as options of one that starts: nothing depends on multicast. */
  #addresses(): string[] {
    return this.#devices.flatMap(({ addresses }) => addresses).flatMap((address) => ['--peer', address]);
  }

  /** Waits until all are quiet, and looks for everything that must hold. */
  async #rest(): Promise<boolean> {
    const before = { ...this.#faults };
    const { restless } = await waitUntilQuiet(this.#devices, REST_MS, STUCK_MS);
    const comparison = compareLibraries(this.#devices.map(({ library }) => library));
    if (restless.length > 0 || !comparison.identical) {
      this.#faults.diverged += 1;
      for (const line of [...restless, ...comparison.examples.slice(0, NAMED).map(describeDifference)])
        process.stderr.write(`DIVERGED ${line}\n`);
    }
    for (const device of this.#devices) this.#examine(device);
    this.#footprints.push(footprintOf(this.#first.node.pid));
    const { rssMB, files } = this.#footprints.at(-1) as Footprint;
    process.stderr.write(`at rest: ${comparison.rows} rows, ${rssMB} MB, ${files} open files\n`);
    return Object.entries(before).every(([fault, count]) => count === this.#faults[fault as keyof typeof before]);
  }

  #examine({ name, library }: Device): void {
    const db = new Sqlite(library, { readonly: true });
    try {
      const sound = db.pragma('integrity_check', { simple: true }) === 'ok';
      if (!sound || (db.pragma('foreign_key_check') as unknown[]).length > 0) {
        this.#faults.violations += 1;
        process.stderr.write(`VIOLATED on ${name}\n`);
      }
      const there = new Set(db.prepare('SELECT token FROM notes').pluck().all() as string[]);
      // Doomed ones go with their folder, whoever has deleted that.
      for (const token of this.#ledger.inserted)
        if (!there.has(token) && token.startsWith('note') && !this.#ledger.touched.has(token))
          this.#found('lost', token, name);
      for (const token of this.#ledger.deleted) if (there.has(token)) this.#found('resurrected', token, name);
    } finally {
      db.close();
    }
  }

  #found(fault: 'lost' | 'resurrected', token: string, name: string): void {
    this.#faults[fault] += 1;
    process.stderr.write(`${fault.toUpperCase()} ${token} on ${name}\n`);
  }
}

function footprintOf(pid: number): Footprint {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return {
    rssMB: Math.round((Number(kilobytes) * 1_024) / 1_000_000),
    files: readdirSync(`/proc/${pid}/fd`).length,
  };
}

function readOptions(): { minutes: number; nodes: number; seed: number; keep: boolean } {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '30' },
      nodes: { type: 'string', default: '4' },
      seed: { type: 'string', default: '1' },
      // Leaves the files where they are.
      keep: { type: 'boolean', default: false },
      // The last line is JSON anyway; taken as the other commands take it.
      json: { type: 'boolean', default: false },
    },
  });
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new Error('--minutes takes a number above 0.');
  return {
    minutes,
    nodes: wholeNumber('nodes', values.nodes, 2),
    seed: wholeNumber('seed', values.seed, 0),
    keep: values.keep,
  };
}

async function main(): Promise<boolean> {
  const { minutes, nodes, seed, keep } = readOptions();
  const folder = temporaryFolder('flotilla-soak-', keep);
  if (keep) process.stderr.write(`in ${folder}\n`);
  const soak = new Soak(folder, nodes, new Chance(seed));
  const began = performance.now();
  const elapsed = (): number => (performance.now() - began) / 60_000;
  await soak.begin();
  let [rounds, isWell] = [0, true];
  // What was found once would be found again in each round.
  while (isWell && (rounds === 0 || elapsed() < minutes)) {
    isWell = await soak.round();
    rounds += 1;
    process.stderr.write(`round ${rounds}, ${elapsed().toFixed(1)} minutes\n`);
  }
  process.stdout.write(`${JSON.stringify(soak.result(elapsed(), rounds))}\n`);
  return isWell;
}

process.exitCode = (await main().finally(cleanUp)) ? 0 : 1;
