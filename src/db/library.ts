/**
 * An open library on the writing side: its registry, its clock, its runs, its knowledge, and transactions that keep the
 * copies of them in memory and in the file the same. One instance, in the write worker; whoever stamps or merges goes
 * through it.
 */
import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import { tick } from '../protocol/hlc.ts';
import { bytesToHex, hexToBytes } from '../protocol/uuid.ts';
import type { Cursor, KnowledgeWire } from '../protocol/types.ts';
import type { Counters } from './api.ts';
import { distrustStamps } from './beyond.ts';
import type { FaultPoint } from './fault-points.ts';
import type { Model, Registry } from './model.ts';
import { quoteName } from './model.ts';
import { getState, setState } from './metadata.ts';
import type { Policies } from './cells.ts';
import { NO_POLICIES, readPolicies } from './policies.ts';
import type { Key } from './sql.ts';
import { Statements, isForeignKeyFailure } from './sql.ts';

/** Signatures under records of membership. */
export interface Seal {
  /** Signs with the key of this device. @throws FlotillaError CONFIG where it has none */
  sign(bytes: Uint8Array): Uint8Array;
  /** True when the device with that peer id has signed these bytes. */
  isSignedBy(device: string, bytes: Uint8Array, signature: Uint8Array): boolean;
}

/** What a library needs from outside. */
export interface Surroundings {
  /** Peer id of this device. */
  readonly device: string;
  readonly seal: Seal;
  /** Wall clock, ms since 1970. */
  readonly now: () => number;
  readonly randomBytes: (size: number) => Uint8Array;
  /** Fresh v7 UUIDs, ascending. */
  readonly newUuid: () => Uint8Array;
  /** The functions of the configuration's module, by name. Throws when it cannot be loaded. @default there are none */
  readonly functions?: (module: string) => Readonly<Record<string, unknown>>;
  /** Hears of each step at which a crash is tried. Given by tests alone, see `fault-points.ts`. @default nobody does */
  readonly reached?: (point: FaultPoint) => void;
}

/** Local ids are given below 2^52, so that a table in which somebody uses huge ids still has room. */
const KEY_CEILING = 2 ** 52;

/** State, with the number of a table: the greatest id of it that a program has taken a row away from. */
const LAST_LEFT = 'last left ';

export type CounterName = keyof Counters;

/** The schema of the file is no longer the one that the library was opened with: it must be followed first. */
export class SchemaMoved extends Error {}

export class Library {
  readonly db: Database;
  readonly sql: Statements;
  readonly registry: Registry;
  readonly around: Surroundings;
  readonly libraryId: string;
  readonly #byNumber: ReadonlyMap<number, Model>;
  /** SQLite's number of the schema that the registry fits; null: whoever has opened it knows. */
  cookie: number | null = null;

  /** Greatest hlc stamped or merged here. */
  #hlc = 0;
  /** The last lsn given. */
  #head = 0;
  #stored = { hlc: 0, head: 0 };
  /** Ordinal of this opening's run; 0 until it is minted. */
  #run = 0;
  readonly #runIds = new Map<number, string>();
  readonly #runByHex = new Map<string, number>();
  readonly #runDevices = new Map<number, string | null>();
  /** Knowledge: run ordinal → hlc. */
  readonly #knowledge = new Map<number, number>();
  readonly #counters = new Map<CounterName, number>();
  readonly #nextKeys = new Map<string, number>();
  readonly #policies: ReadonlyMap<Model, Policies>;
  #inTransaction = false;
  /** A transaction has failed, and memory may hold what the file does not. */
  #isStale = false;
  /** Devices that were members. */
  #revoked: ReadonlySet<string> = new Set();
  #membersChange: object | null = null;

  constructor(db: Database, registry: Registry, around: Surroundings) {
    this.db = db;
    this.sql = new Statements(db);
    this.registry = registry;
    this.#byNumber = new Map([...registry.models, ...registry.absent].map((model) => [model.n, model]));
    this.around = around;
    this.libraryId = String(getState(db, 'library'));
    this.#load();
    this.#policies = readPolicies(registry, around, (hlcA, runA, hlcB, runB) => this.compare(hlcA, runA, hlcB, runB));
  }

  /** How the columns of a table come together that have a policy, by column number. */
  policies(model: Model): Policies {
    return this.#policies.get(model) ?? NO_POLICIES;
  }

  /** Says that a step is done at which a crash is tried. */
  reached(point: FaultPoint): void {
    this.around.reached?.(point);
  }

  get head(): number {
    return this.#head;
  }

  get hlc(): number {
    return this.#hlc;
  }

  /** A synced table by its name here. */
  model(name: string): Model {
    const model = this.registry.byName.get(name);
    if (model === undefined) throw new FlotillaError('DATABASE', `There is no synced table ${JSON.stringify(name)}.`);
    return model;
  }

  /** A table by its name on the wire; also one that this device does not have. */
  arriving(wire: string): Model {
    const model = this.registry.byWire.get(wire);
    if (model === undefined) {
      throw new FlotillaError('PROTOCOL', `The table ${JSON.stringify(wire)} is not known here.`);
    }
    return model;
  }

  modelByNumber(n: number): Model {
    const model = this.#byNumber.get(n);
    if (model === undefined)
      throw new FlotillaError('DATABASE', `The metadata names a table number ${n} that does not exist.`);
    return model;
  }

  /**
   * One write transaction. What `work` throws undoes everything, in the file and in memory.
   */
  transact<T>(work: () => T): T {
    if (this.#inTransaction) return work();
    if (this.#isStale) this.#undo();
    if (this.db.inTransaction) {
      // Setting up a library is one transaction of its own, which decides for all of it.
      const result = work();
      this.#save();
      return result;
    }
    this.db.exec('BEGIN IMMEDIATE');
    if (this.cookie !== null && this.db.pragma('schema_version', { simple: true }) !== this.cookie) {
      this.db.exec('ROLLBACK');
      throw new SchemaMoved('The schema has changed meanwhile.');
    }
    this.#inTransaction = true;
    this.#nextKeys.clear();
    const head = this.#head;
    try {
      this.reached('transaction: begun');
      const result = work();
      this.#save();
      this.reached('transaction: saved');
      this.#commit();
      this.reached('transaction: committed');
      return result;
    } catch (error) {
      this.#isStale = true;
      this.#head = head;
      try {
        this.#undo();
      } catch {
        // What cannot be undone or read just now is so before the next transaction.
      }
      throw error;
    } finally {
      this.#inTransaction = false;
    }
  }

  /** Ends a transaction that has failed, and brings memory back to what the file has. */
  #undo(): void {
    if (this.db.inTransaction) this.db.exec('ROLLBACK');
    this.#load();
    this.#isStale = false;
  }

  /**
   * SQLite counts what is missing as it goes, and miscounts where a foreign key's column has another affinity than the one that it
   * refers to: a parent '1' that arrives takes the child 1 off the count. What it refuses though every foreign key holds is
   * committed.
   */
  #commit(): void {
    try {
      this.db.exec('COMMIT');
    } catch (error) {
      if (!isForeignKeyFailure(error) || (this.db.pragma('foreign_key_check') as unknown[]).length > 0) throw error;
      // Begins the count anew (except that of keys that are declared as deferred).
      this.db.pragma('defer_foreign_keys = OFF');
      this.db.exec('COMMIT');
    }
  }

  /**
   * Runs `work` inside a savepoint; `work` answers false to have everything that it wrote undone. Runs must not be
   * learned inside (their numbers are kept in memory), so whoever calls this translates them first.
   */
  attempt(work: () => boolean): boolean {
    this.#mintRun();
    const before = {
      hlc: this.#hlc,
      head: this.#head,
      knowledge: new Map(this.#knowledge),
      counters: new Map(this.#counters),
      keys: new Map(this.#nextKeys),
    };
    this.db.exec('SAVEPOINT flotilla_attempt');
    let kept = false;
    try {
      kept = work();
    } finally {
      if (this.db.inTransaction) {
        if (!kept) this.db.exec('ROLLBACK TO flotilla_attempt');
        this.db.exec('RELEASE flotilla_attempt');
      }
      if (!kept) {
        this.#hlc = before.hlc;
        this.#head = before.head;
        refill(this.#knowledge, before.knowledge);
        refill(this.#counters, before.counters);
        refill(this.#nextKeys, before.keys);
      }
    }
    return kept;
  }

  /** Runs `work` with capture suspended. Only inside a transaction, so that a crash cannot leave it so. */
  withoutCapture<T>(work: () => T): T {
    // What is stamped in the middle of a merge finds it suspended, and must leave it so.
    if (this.sql.number('SELECT suspended FROM flotilla_capture') === 1) return work();
    this.sql.run('UPDATE flotilla_capture SET suspended = 1 WHERE id = 1');
    const result = work();
    this.sql.run('UPDATE flotilla_capture SET suspended = 0 WHERE id = 1');
    return result;
  }

  // -- clock, lsn, runs

  /** The stamp time of a write of our own that happened at `at` (ms). */
  stampAt(at: number): number {
    this.#mintRun();
    this.#hlc = tick(this.#hlc, Math.min(at, this.around.now()));
    this.#knowledge.set(this.#run, this.#hlc);
    return this.#hlc;
  }

  /** A stamp from elsewhere was merged: our own later ones must be greater. */
  sawHlc(hlc: number): void {
    if (hlc > this.#hlc) this.#hlc = hlc;
  }

  /** What was stamped too late has been stamped anew, everywhere in the file: so are our clock and our knowledge. In that transaction. */
  turnBack(anew: (hlc: number) => number): void {
    this.#hlc = anew(this.#hlc);
    for (const [run, hlc] of this.#knowledge) this.#knowledge.set(run, anew(hlc));
  }

  /** Ordinal of our own run. */
  get run(): number {
    this.#mintRun();
    return this.#run;
  }

  /** The last stamp given in this opening; −1 for none. */
  get ownHlc(): number {
    return this.#knowledge.get(this.#run) ?? -1;
  }

  /** Id (hex) of the run of this opening; null while nothing was stamped in it. */
  ownRun(): string | null {
    return this.#run === 0 ? null : this.runHex(this.#run);
  }

  /** How many runs have a number here. */
  get runCount(): number {
    return this.#runByHex.size;
  }

  hasRun(hex: string): boolean {
    return this.#runByHex.has(hex);
  }

  nextLsn(): number {
    this.#mintRun();
    this.#head += 1;
    return this.#head;
  }

  /** The next `count` lsns are given to what is copied with an order of its own. @returns the lsn before the first of them */
  takeLsns(count: number): number {
    this.#mintRun();
    const before = this.#head;
    this.#head += count;
    return before;
  }

  /** Minted late, so that openings in which nothing happened leave no trace. */
  #mintRun(): void {
    if (this.#run !== 0) return;
    const id = this.around.randomBytes(16);
    this.#run = this.runOrdinal(bytesToHex(id), this.around.device);
    this.sql.run(
      'INSERT INTO flotilla_openings (first_lsn, run) VALUES (?, ?) ON CONFLICT (first_lsn) DO UPDATE SET run = excluded.run',
      this.#head + 1,
      this.#run,
    );
  }

  /** Local number of a run, given one if it is new. A known device is never changed. */
  runOrdinal(hex: string, device: string | null): number {
    const known = this.#runByHex.get(hex);
    if (known !== undefined) {
      const knownDevice = this.#runDevices.get(known) ?? null;
      if (knownDevice === null && device !== null) {
        this.sql.run('UPDATE flotilla_runs SET device = ? WHERE run = ?', device, known);
        this.#runDevices.set(known, device);
      } else if (device !== null && knownDevice !== device) {
        throw new FlotillaError(
          'PROTOCOL',
          'The peer says that a run belongs to another device than the one known here.',
        );
      }
      return known;
    }
    const row = this.sql.rows(
      'INSERT INTO flotilla_runs (id, device) VALUES (?, ?) RETURNING run',
      Buffer.from(hexToBytes(hex)),
      device,
    );
    const ordinal = Number(row[0]?.[0]);
    this.#remember(ordinal, hex, device);
    return ordinal;
  }

  runHex(ordinal: number): string {
    const hex = this.#runIds.get(ordinal);
    if (hex === undefined)
      throw new FlotillaError('DATABASE', `The metadata names a run ${ordinal} that does not exist.`);
    return hex;
  }

  /** Peer id of the device that minted a run; null while nobody told us. */
  runDevice(ordinal: number): string | null {
    return this.#runDevices.get(ordinal) ?? null;
  }

  /** Orders two stamps given by hlc and local run number: negative, 0 or positive. */
  compare(hlcA: number, runA: number, hlcB: number, runB: number): number {
    if (hlcA !== hlcB) return hlcA - hlcB;
    if (runA === runB) return 0;
    return this.runHex(runA) < this.runHex(runB) ? -1 : 1;
  }

  #remember(ordinal: number, hex: string, device: string | null): void {
    this.#runIds.set(ordinal, hex);
    this.#runByHex.set(hex, ordinal);
    this.#runDevices.set(ordinal, device);
  }

  // -- knowledge and cursors

  /** True when everything that the run stamped up to `hlc` has been merged here. */
  knows(run: number, hlc: number): boolean {
    return hlc <= (this.#knowledge.get(run) ?? -1);
  }

  /**
   * True when nothing that was stamped before it can still be on its way from where we have heard of it: it is in our
   * knowledge, or its device has begun a later run since. (A device that was restored from a backup has lost the end of its
   * last run: what of that is left elsewhere comes in no complete pass any more, and would never be in anybody's knowledge.)
   */
  isSettled(run: number, hlc: number): boolean {
    if (this.knows(run, hlc)) return true;
    const device = this.runDevice(run);
    if (device === null || run === this.#run) return false;
    // Of what it has not brought to its end, nothing more will come from a device that was revoked.
    if (device === this.around.device || this.#revoked.has(device)) return true;
    for (const [other, known] of this.#knowledge) if (known > hlc && this.runDevice(other) === device) return true;
    return false;
  }

  /** Takes over a peer's knowledge at the end of a complete pass. */
  learn(wire: KnowledgeWire): void {
    wire.hlc.forEach((hlc, index) => {
      const run = this.runOrdinal(bytesToHex(wire.runs.subarray(index * 16, index * 16 + 16)), null);
      this.sawHlc(hlc);
      if (hlc > (this.#knowledge.get(run) ?? -1)) this.#knowledge.set(run, hlc);
    });
  }

  /**
   * Claims nothing of others any more, and reads their feeds from the beginning: what has come back with a table or a column was
   * merged here once, but is lost.
   */
  forgetKnowledge(): void {
    this.sql.run('DELETE FROM flotilla_knowledge');
    this.sql.run('DELETE FROM flotilla_cursors');
    distrustStamps(this);
    for (const run of this.#knowledge.keys()) if (run !== this.#run) this.#knowledge.delete(run);
    this.#savedKnowledge.clear();
  }

  /** A version that was merged here is here no more: what this run stamped from there on has to come again. */
  forget(run: number, hlc: number): void {
    if (this.knows(run, hlc)) this.#knowledge.set(run, Math.max(0, hlc - 1));
  }

  /** Our knowledge: run id (hex) → hlc. */
  knowledge(): Map<string, number> {
    return new Map([...this.#knowledge].map(([run, hlc]) => [this.runHex(run), hlc]));
  }

  cursor(peer: string): Cursor | null {
    const row = this.sql.rows('SELECT position, head, run FROM flotilla_cursors WHERE peer = ?', peer)[0];
    if (row === undefined) return null;
    return { position: Number(row[0]), head: Number(row[1]), run: String(row[2]) };
  }

  saveCursor(peer: string, cursor: Cursor): void {
    this.sql.run(
      `INSERT INTO flotilla_cursors (peer, position, head, run) VALUES (?, ?, ?, ?)
       ON CONFLICT (peer) DO UPDATE SET position = excluded.position, head = excluded.head, run = excluded.run`,
      peer,
      cursor.position,
      cursor.head,
      cursor.run,
    );
  }

  // -- local keys and counters

  /** The next free INTEGER PRIMARY KEY of a table, for a row that comes from elsewhere. */
  nextKey(model: Model): Key {
    let next = this.#nextKeys.get(model.table);
    if (next === undefined) {
      const column = quoteName(model.rowid ?? 'rowid');
      const inTable = this.sql.number(
        `SELECT ifnull(max(${column}), 0) FROM ${quoteName(model.table)} WHERE ${column} < ${KEY_CEILING}`,
      );
      const left = Number(getState(this.db, LAST_LEFT + model.n) ?? 0);
      next = Math.max(inTable, left, this.#sequence(model.table), this.#lastDangling(model), 0) + 1;
    }
    this.#nextKeys.set(model.table, next + 1);
    return next;
  }

  /**
   * Programs took rows away from their ids. Nobody else's row gets one of these: a writer without foreign keys may have left rows that
   * refer to it.
   */
  leftKeys(model: Model, keys: readonly Key[]): void {
    const name = LAST_LEFT + model.n;
    const known = Number(getState(this.db, name) ?? 0);
    const last = keys.reduce<Key>((most, key) => (key > most && key < KEY_CEILING ? key : most), known);
    if (last > known) setState(this.db, name, Number(last));
  }

  /** The greatest id that rows here refer to, where some refer to ids that are not there: a row from elsewhere is not what they mean. */
  #lastDangling(model: Model): number {
    if (this.sql.value("SELECT 1 FROM flotilla_state WHERE key = 'dangling' AND value = 1") === undefined) return 0;
    let last = 0;
    for (const child of this.registry.models) {
      for (const { simple, table, columns } of child.foreignKeys) {
        if (!simple || table !== model.table) continue;
        const column = quoteName(columns[0] ?? '');
        last = Math.max(
          last,
          this.sql.number(
            `SELECT ifnull(max(${column}), 0) FROM ${quoteName(child.table)} WHERE ${column} < ${KEY_CEILING}`,
          ),
        );
      }
    }
    return last;
  }

  /** What AUTOINCREMENT has given out, also for rows that are gone. */
  #sequence(table: string): number {
    const exists = this.sql.value("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'");
    if (exists === undefined) return 0;
    const seq = this.sql.number('SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = ?', table);
    return seq < KEY_CEILING ? seq : 0;
  }

  count(name: CounterName, by: number): void {
    this.#counters.set(name, (this.#counters.get(name) ?? 0) + by);
  }

  // -- members

  /** Another object after each change of who is a member; null before the first. */
  get membersChange(): object | null {
    return this.#membersChange;
  }

  membersChanged(): void {
    this.#membersChange = {};
    this.#readRevoked();
  }

  #readRevoked(): void {
    const rows = this.sql.rows('SELECT device FROM flotilla_members WHERE revoked_at IS NOT NULL');
    this.#revoked = new Set(rows.map(([device]) => String(device)));
  }

  // -- memory and file

  #load(): void {
    const clock = this.sql.rows('SELECT hlc, head FROM flotilla_clock WHERE id = 1')[0];
    this.#hlc = Number(clock?.[0] ?? 0);
    this.#head = Number(clock?.[1] ?? 0);
    this.#stored = { hlc: this.#hlc, head: this.#head };
    this.#runIds.clear();
    this.#runByHex.clear();
    this.#runDevices.clear();
    for (const [run, id, device] of this.sql.rows('SELECT run, id, device FROM flotilla_runs')) {
      this.#remember(Number(run), bytesToHex(id as Uint8Array), device === null ? null : String(device));
    }
    if (!this.#runIds.has(this.#run)) this.#run = 0;
    this.#knowledge.clear();
    for (const [run, hlc] of this.sql.rows('SELECT run, hlc FROM flotilla_knowledge'))
      this.#knowledge.set(Number(run), Number(hlc));
    this.#savedKnowledge = new Map(this.#knowledge);
    this.#counters.clear();
    this.#readRevoked();
  }

  #savedKnowledge = new Map<number, number>();

  #save(): void {
    if (this.#hlc !== this.#stored.hlc || this.#head !== this.#stored.head) {
      this.sql.run('UPDATE flotilla_clock SET hlc = ?, head = ? WHERE id = 1', this.#hlc, this.#head);
      this.#stored = { hlc: this.#hlc, head: this.#head };
    }
    for (const [run, hlc] of this.#knowledge) {
      if (this.#savedKnowledge.get(run) === hlc) continue;
      this.sql.run(
        'INSERT INTO flotilla_knowledge (run, hlc) VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET hlc = excluded.hlc',
        run,
        hlc,
      );
      this.#savedKnowledge.set(run, hlc);
    }
    for (const [name, value] of this.#counters) {
      this.sql.run(
        'INSERT INTO flotilla_counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value',
        name,
        value,
      );
    }
    this.#counters.clear();
  }
}

function refill<K, V>(map: Map<K, V>, from: ReadonlyMap<K, V>): void {
  map.clear();
  for (const [key, value] of from) map.set(key, value);
}
