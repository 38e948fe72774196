/**
 * A random fleet in one thread, from one seed: a few copies of a library with a tree, nullable and multiple references,
 * many-to-many, a declared identity, an owned and a shared table. Programs write plain SQL, passes are cut anywhere, nodes
 * restart, are restored from old backups, and have clocks that differ. Beside it runs a model of what must not get lost.
 */
import type { Rows } from './fleet-library.ts';
import {
  FLEET_CONFIG,
  FLEET_DDL,
  HARD_DDL,
  OWNED_CONFIG,
  OWNED_DDL,
  OWNED_ROWS,
  ROWS,
  rowsOf,
} from './fleet-library.ts';
import { FleetModel } from './fleet-model.ts';
import { FleetWriter, runProgram } from './fleet-writer.ts';
import { Replica, seededBytes } from './replica.ts';
import type { Pass } from './replica.ts';

export interface FleetOptions {
  /** Actions. @default 60 */
  readonly steps?: number;
  /** Whether copies are restored from older backups. @default by the seed */
  readonly restores?: boolean;
  /** Whether rows may collide and forbid deletes, see {@link HARD_DDL}. @default false */
  readonly hard?: boolean;
  /** Whether rows are owned through others, moved and given away, see {@link OWNED_DDL}. @default false */
  readonly transfers?: boolean;
}

/** Plays one seed to its end; throws an error that tells the seed and what was done. */
export async function playFleet(seed: number, options: FleetOptions = {}): Promise<void> {
  const fleet = new Fleet(seed, options);
  try {
    fleet.play();
    await fleet.rest();
  } catch (error) {
    throw new Error(`fleet seed ${seed}: ${String(error)}\n${fleet.trace.join('\n')}`, { cause: error });
  } finally {
    fleet.close();
  }
}

const emptyLibraries = new Map<string, Buffer>();

/** The file of a fresh copy: made once, since most of the time of a short play would go into it. */
function emptyLibrary(ddl: string, config: object, i: number): Buffer {
  let file = emptyLibraries.get(`${i}${ddl}`);
  if (file === undefined) {
    const replica = new Replica({ device: `device-${i}`, ddl, config });
    file = replica.backup();
    replica.db.close();
    emptyLibraries.set(`${i}${ddl}`, file);
  }
  return file;
}

interface Link {
  readonly to: number;
  readonly from: number;
  readonly pass: Pass;
}

class Fleet {
  readonly trace: string[] = [];
  readonly #replicas: Replica[] = [];
  readonly #linked: (to: number, from: number) => boolean;
  readonly #steps: number;
  readonly #restores: boolean;
  readonly #hard: boolean;
  readonly #transfers: boolean;
  readonly #skews: number[] = [];
  readonly #backups: { at: number; file: Buffer }[][] = [];
  #open: Link[] = [];
  /** Batches that were applied: they may come again. */
  readonly #applied: { to: number; from: string; page: Uint8Array }[] = [];
  #time = Date.UTC(2026, 0, 1);
  #checks = 0;
  readonly #dice: Dice;

  readonly #model = new FleetModel();
  readonly #writer: FleetWriter;
  #hasRestored = false;

  constructor(seed: number, options: FleetOptions) {
    this.#dice = new Dice(seed);
    const count = 3 + this.#below(2);
    const chain = this.#chance(0.5);
    this.#linked = (to, from) => to !== from && !(chain && Math.abs(to - from) === count - 1);
    this.#steps = options.steps ?? 60;
    this.#hard = options.hard ?? false;
    this.#transfers = options.transfers ?? false;
    this.#writer = new FleetWriter(this.#dice, { hard: this.#hard, transfers: this.#transfers });
    this.#restores = options.restores ?? this.#chance(0.4);
    for (let i = 0; i < count; i += 1) {
      this.#skews.push(this.#below(240_000) - 120_000);
      this.#backups.push([]);
      const randomBytes = seededBytes(seed * 16 + i);
      const now = (): number => (this.#time += 1) + (this.#skews[i] ?? 0);
      const ddl = this.#hard ? HARD_DDL : this.#transfers ? OWNED_DDL : FLEET_DDL;
      const config = this.#transfers ? OWNED_CONFIG : FLEET_CONFIG;
      this.#replicas.push(
        new Replica({ device: `device-${i}`, ddl, config, now, randomBytes }, emptyLibrary(ddl, config, i)),
      );
    }
  }

  play(): void {
    for (let step = 0; step < this.#steps; step += 1) {
      this.#time += this.#below(3) === 0 ? this.#below(20_000) : this.#below(3);
      const dice = this.#below(100);
      if (dice < 3 && this.#transfers) this.#give(this.#below(this.#replicas.length));
      else if (dice < 45) this.#write(this.#below(this.#replicas.length));
      else if (dice < 85) this.#exchange();
      else if (dice < 89) this.#repeat();
      else if (dice < 92) this.#restart(this.#below(this.#replicas.length));
      else if (dice < 95) this.#backup(this.#below(this.#replicas.length));
      else if (dice < 97) this.#shiftClock(this.#below(this.#replicas.length));
      else if (this.#restores) this.#restore(this.#below(this.#replicas.length));
    }
  }

  /** Full exchange until nothing moves, then all that was promised. */
  async rest(): Promise<void> {
    this.trace.push('-- rest');
    for (const link of this.#open.splice(0)) link.pass.close();
    let quiet = 0;
    for (let round = 0; quiet < 2; round += 1) {
      if (round > 40) throw new Error('the fleet does not come to rest');
      const heads = this.#heads();
      let rows = 0;
      for (const [to, receiver] of this.#replicas.entries()) {
        for (const [from, sender] of this.#replicas.entries()) {
          if (!this.#linked(to, from)) continue;
          for (const applied of receiver.pull(sender, 1 + this.#below(30))) rows += applied.rows;
          this.#check(receiver);
        }
      }
      // Once more may be sent what came by another way meanwhile, but not twice.
      const still = heads === this.#heads();
      if (still && quiet > 0 && rows > 0) throw new Error('rows are sent that change nothing, again and again');
      quiet = still ? quiet + 1 : 0;
    }
    await this.#compare();
  }

  close(): void {
    for (const replica of this.#replicas) replica.db.close();
  }

  #heads(): string {
    return this.#replicas.map((replica) => replica.library.head).join(' ');
  }

  async #compare(): Promise<void> {
    const first = this.#replicas[0] as Replica;
    const rows = this.#rowsOf(first);
    const digest = JSON.stringify(await first.digest());
    for (const replica of this.#replicas) {
      this.#check(replica, true);
      if (JSON.stringify(await replica.digest()) !== digest) throw new Error(`the digest of ${replica.device} differs`);
      if (this.#hard) {
        for (const [name, row] of this.#rowsOf(replica)) rows.set(name, row);
        continue;
      }
      if (replica.waiting().length > 0)
        throw new Error(`${replica.device} has rows waiting: ${replica.waiting().join(', ')}`);
      const other = this.#rowsOf(replica);
      for (const name of new Set([...rows.keys(), ...other.keys()])) {
        const [a, b] = [rows.get(name)?.content, other.get(name)?.content];
        if (a !== b) throw new Error(`${name}: ${first.device} has ${a}, ${replica.device} has ${b}`);
      }
    }
    this.#model.judge(rows, { hasRestored: this.#hasRestored, hard: this.#hard, transfers: this.#transfers });
  }

  // -- what happens

  #exchange(): void {
    let link = this.#open.length > 0 && this.#chance(0.6) ? this.#pick(this.#open) : undefined;
    if (link === undefined) {
      const to = this.#below(this.#replicas.length);
      const from = this.#below(this.#replicas.length);
      if (!this.#linked(to, from)) return;
      link = { to, from, pass: (this.#replicas[to] as Replica).passFrom(this.#replicas[from] as Replica) };
      this.#open = this.#open.filter((other) => other.to !== to || other.from !== from || (other.pass.close(), false));
      this.#open.push(link);
      this.trace.push(`${to} <- ${from}: opens`);
    }
    const receiver = this.#replicas[link.to] as Replica;
    const sender = this.#replicas[link.from] as Replica;
    const size = 1 + this.#below(7);
    const bytes = this.#chance(0.1) ? 60 : 1 << 20;
    for (let pages = 1 + this.#below(4); pages > 0; pages -= 1) {
      const page = link.pass.next(size, bytes);
      if (page === null) break;
      const before = this.#rowsOf(receiver);
      if (this.#chance(0.04)) this.#failOnce(receiver, sender.device, page);
      const applied = receiver.applier.apply(sender.device, page);
      this.trace.push(
        `${link.to} <- ${link.from}: ${applied.rows} rows${applied.complete ? ', complete' : ''}${this.#difference(before, this.#rowsOf(receiver))}`,
      );
      this.#applied.push({ to: link.to, from: sender.device, page });
      this.#check(receiver);
    }
  }

  /** The disk is full, or the power goes, at the end of a transaction: nothing of it stays. */
  #failOnce(receiver: Replica, from: string, page: Uint8Array): void {
    const { library } = receiver;
    const before = receiver.rows(
      'SELECT (SELECT count(*) FROM flotilla_runs), (SELECT count(*) FROM flotilla_pending), hlc, head FROM flotilla_clock',
    );
    library.saveCursor = () => {
      throw new Error('the disk is full');
    };
    try {
      receiver.applier.apply(from, page);
    } catch (error) {
      if (!String(error).includes('the disk is full')) throw error;
    } finally {
      Reflect.deleteProperty(library, 'saveCursor');
    }
    const after = receiver.rows(
      'SELECT (SELECT count(*) FROM flotilla_runs), (SELECT count(*) FROM flotilla_pending), hlc, head FROM flotilla_clock',
    );
    if (JSON.stringify(before) !== JSON.stringify(after))
      throw new Error('a transaction that failed has left something');
  }

  /** A batch that was applied here comes once more. */
  #repeat(): void {
    if (this.#applied.length === 0) return;
    const { to, from, page } = this.#pick(this.#applied);
    const receiver = this.#replicas[to] as Replica;
    this.trace.push(`${to}: a batch again`);
    receiver.applier.apply(from, page);
    this.#check(receiver);
  }

  #restart(index: number): void {
    this.trace.push(`${index}: restarts`);
    this.#endPasses(index);
    this.#replicas[index]?.restart();
  }

  #backup(index: number): void {
    this.trace.push(`${index}: is backed up`);
    this.#backups[index]?.push({
      at: this.#time,
      file: (this.#replicas[index] as Replica).backup(),
    });
  }

  #restore(index: number): void {
    const backup = this.#backups[index]?.[this.#below(this.#backups[index]?.length ?? 0)];
    if (backup === undefined) return;
    this.trace.push(`${index}: is restored`);
    this.#hasRestored = true;
    this.#endPasses(index);
    const old = this.#replicas[index] as Replica;
    this.#replicas[index] = old.restored(backup.file);
    old.db.close();
    // What nobody else had is gone.
    const left = new Set<string>();
    for (const replica of this.#replicas) for (const name of this.#rowsOf(replica).keys()) left.add(name);
    this.#model.forget([...this.#model.written].filter((name) => !left.has(name)));
    // Batches applied after the backup were not: they may not come out of their order.
    for (let i = this.#applied.length - 1; i >= 0; i -= 1)
      if (this.#applied[i]?.to === index) this.#applied.splice(i, 1);
  }

  #shiftClock(index: number): void {
    this.#skews[index] = this.#below(240_000) - 120_000;
    this.trace.push(`${index}: clock at ${this.#skews[index]}`);
  }

  #rowsOf(replica: Replica): Rows {
    return rowsOf(replica, this.#transfers ? OWNED_ROWS : ROWS);
  }

  #endPasses(index: number): void {
    this.#open = this.#open.filter((link) => {
      const ends = link.to === index || link.from === index;
      if (ends) link.pass.close();
      return !ends;
    });
  }

  #write(index: number): void {
    const replica = this.#replicas[index] as Replica;
    const before = this.#rowsOf(replica);
    const statements = this.#writer.program(replica);
    const why = runProgram(replica, statements, this.#model, () => this.#rowsOf(replica));
    const refused = why === '' ? '' : ` (refused: ${why})`;
    this.trace.push(`${index}: ${statements.join('; ')}${refused}${this.#difference(before, this.#rowsOf(replica))}`);
    if (this.#chance(0.3)) replica.stamp();
    this.#check(replica);
  }

  /** Some device gives a box, or a volume that is in none, to some device. */
  #give(index: number): void {
    const replica = this.#replicas[index] as Replica;
    const roots = replica.rows(
      "SELECT 'boxes', id FROM boxes UNION ALL SELECT 'volumes', id FROM volumes WHERE box_id IS NULL ORDER BY 1, 2",
    );
    if (roots.length === 0) return;
    const [table, id] = this.#pick(roots);
    const to = this.#below(this.#replicas.length);
    this.trace.push(`${index}: gives ${String(table)} ${String(id)} to ${to}`);
    replica.own(String(table), Number(id), this.#replicas[to]);
    this.#check(replica);
  }

  #difference(before: Rows, after: Rows): string {
    const words: string[] = [];
    for (const [name, row] of after) {
      const old = before.get(name);
      if (old === undefined) words.push(`+${name} (${row.content})`);
      else if (old.content !== row.content) words.push(`~${name} (${row.content})`);
    }
    for (const name of before.keys()) if (!after.has(name)) words.push(`-${name}`);
    return words.length === 0 ? '' : ` => ${words.join(', ')}`;
  }

  #check(replica: Replica, thoroughly = false): void {
    const violations = replica.violations();
    if (violations.length > 0) throw new Error(`${replica.device}: ${JSON.stringify(violations)}`);
    this.#checks += 1;
    if (!thoroughly && this.#checks % 16 !== 0) return;
    const integrity = replica.db.pragma('integrity_check', { simple: true });
    if (integrity !== 'ok') throw new Error(`${replica.device}: ${String(integrity)}`);
  }

  #below(limit: number): number {
    return this.#dice.below(limit);
  }

  #chance(of: number): boolean {
    return this.#dice.happens(of);
  }

  #pick<T>(from: readonly T[]): T {
    return this.#dice.pick(from);
  }
}

/** mulberry32: its seeds have names. */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2_654_435_761) >>> 0;
  }

  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  happens(of: number): boolean {
    return this.#random() < of;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }
}
