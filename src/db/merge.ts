/**
 * Merging one batch into the tables, inside the caller's transaction: later birth wins whole, then the later change; a row
 * lives if its birth is later than its tombstone; what cannot stand yet waits. The result does not depend on the order of
 * batches, nor on how often they come.
 */
import { encodeBatch } from '../protocol/batch.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Batch, ColumnData, SqlValue, TableData } from '../protocol/types.ts';
import { FlotillaError, messageOf } from '../errors.ts';
import type { WaitingRow } from './api.ts';
import type { Adopter } from './adopt.ts';
import type { Doomed } from './deletes.ts';
import { carryOutDeletes } from './deletes.ts';
import type { Library } from './library.ts';
import type { Found, KnownVersion } from './lookup.ts';
import { lookUp } from './lookup.ts';
import type { Column, Model } from './model.ts';
import { mapJoin, quoteName, rowsTable, syncedColumns } from './model.ts';
import { runBytes } from './page.ts';
import { forgetPending, putPending } from './pending.ts';
import type { Key } from './sql.ts';
import { insertMany } from './sql.ts';
import { cutVersion } from './version.ts';

/** What a merge did. */
export interface Merged {
  /** Versions and tombstones that changed something here. */
  changed: number;
  /** UUIDs of rows that stand now and did not before: what waited for them may stand too. */
  readonly arrivals: Uint8Array[];
  /** UUIDs of rows that wait for another row since now. */
  readonly held: Uint8Array[];
}

export interface MergeOptions {
  /** Leave every delete waiting: a commit has failed because of one. */
  readonly holdDeletes: boolean;
  /** The batch is a version that waits here itself and is tried again. */
  readonly retake: boolean;
  /** Pairs rows that are here without an identity with equal rows that arrive. */
  readonly adopter: Adopter | null;
}

interface Hold {
  readonly reason: WaitingRow['reason'];
  readonly detail: string;
}

/** A version of the batch that is newer than what is here. */
interface Incoming {
  readonly model: Model;
  readonly table: TableData;
  readonly position: number;
  /** Dictionary index of the row. */
  readonly index: number;
  /** The row stands here in an older version. */
  readonly isUpdate: boolean;
  /** The row stands here without an identity, and takes this one. */
  isPaired: boolean;
  hold: Hold | null;
}

/** Runs of a batch as local numbers. New ones are stored, so it must not happen inside a savepoint that may be undone. */
export function translateRuns(library: Library, batch: Batch): number[] {
  return batch.runDevices.map((device, i) => library.runOrdinal(bytesToHex(runBytes(batch, i)), device === '' ? null : device));
}

/** Merges a batch. Constraint failures set single rows aside and begin again without them. */
export function mergeBatch(library: Library, batch: Batch, options: MergeOptions): Merged {
  if (batch.tables.length === 0 && batch.tombstones.length === 0) return { changed: 0, arrivals: [], held: [] };
  const [first, rest] = splitVersions(batch);
  const merged = mergeOnce(library, first, options);
  if (rest === null) return merged;
  const more = mergeOnce(library, rest, options);
  return {
    changed: merged.changed + more.changed,
    arrivals: [...merged.arrivals, ...more.arrivals],
    held: [...merged.held, ...more.held],
  };
}

function mergeOnce(library: Library, batch: Batch, options: MergeOptions): Merged {
  const found = lookUp(library, batch, translateRuns(library, batch));
  const holds = new Map<number, Hold>();
  for (;;) {
    const merge = new Merge(library, batch, found, options, holds);
    if (library.attempt(() => merge.run())) return merge.result;
    options.adopter?.reset();
    for (const [index, hold] of merge.failures) holds.set(index, hold);
  }
}

/**
 * A row and its newer version that waits at the sender may come in one batch. The row goes first, as if it had come in a page
 * before: it stands until the other can.
 */
function splitVersions(batch: Batch): [Batch, Batch | null] {
  const seen = new Set<string>();
  const later = new Set<TableData>();
  if (new Set(batch.tables.map((table) => table.table)).size === batch.tables.length) return [batch, null];
  for (const table of batch.tables) {
    const uuids = table.rows.map((index) => uuidText(batch, index));
    if (uuids.some((uuid) => seen.has(uuid))) later.add(table);
    for (const uuid of uuids) seen.add(uuid);
  }
  if (later.size === 0) return [batch, null];
  return [
    { ...batch, tables: batch.tables.filter((table) => !later.has(table)) },
    { ...batch, tables: [...later], tombstones: [] },
  ];
}

function uuidText(batch: Batch, index: number): string {
  return Buffer.from(batch.uuids.buffer, batch.uuids.byteOffset + index * 16, 16).toString('latin1');
}

/**
 * For each entry of the dictionary the first one of the same UUID. A UUID stands there more than once when the page has a
 * tombstone and the row that was born again, or a version that waits and one that does not.
 */
function firstOfEach(batch: Batch): number[] {
  const first = new Map<string, number>();
  return batch.birthHlc.map((_, index) => {
    const uuid = uuidText(batch, index);
    const known = first.get(uuid);
    if (known === undefined) first.set(uuid, index);
    return known ?? index;
  });
}

class Merge {
  readonly result: Merged = { changed: 0, arrivals: [] };
  /** Rows that a constraint refused, by dictionary index. */
  readonly failures = new Map<number, Hold>();
  readonly #library: Library;
  readonly #batch: Batch;
  readonly #found: Found;
  readonly #options: MergeOptions;
  readonly #holds: ReadonlyMap<number, Hold>;
  /** Local key of every row of the dictionary that stands here, or will at the end; holes where none does. */
  readonly #keys: (Key | undefined)[];
  /** Will be inserted: key not given yet. */
  readonly #coming: boolean[] = [];

  constructor(library: Library, batch: Batch, found: Found, options: MergeOptions, holds: ReadonlyMap<number, Hold>) {
    this.#library = library;
    this.#batch = batch;
    this.#found = found;
    this.#options = options;
    this.#holds = holds;
    this.#keys = found.rows.map((row) => row?.key);
  }

  /** @returns false when constraints refused rows, which are in `failures` then */
  run(): boolean {
    const doomed = this.#mergeTombstones();
    const incoming = this.#newer();
    this.#holdUnresolved(incoming);
    this.#giveKeys(incoming);
    const standing = incoming.filter((row) => row.hold === null);
    for (const model of this.#library.registry.models) {
      const rows = standing.filter((row) => row.model === model);
      if (rows.length === 0) continue;
      this.#insert(
        model,
        rows.filter((row) => !row.isUpdate),
      );
      for (const row of rows) if (row.isUpdate) this.#update(row);
    }
    if (this.failures.size > 0) return false;
    const isWaiting = this.#found.pending.length > 0;
    for (const row of standing) if (isWaiting && this.#found.pending[row.index] !== undefined) forgetPending(this.#library, this.#uuid(row.index));
    for (const row of incoming) if (row.hold !== null) this.#setAside(row, row.hold);
    carryOutDeletes(this.#library, doomed, this.#options.holdDeletes);
    this.result.changed += incoming.length;
    return true;
  }

  // -- what is newer

  #mergeTombstones(): Doomed[] {
    const library = this.#library;
    const doomed: Doomed[] = [];
    for (const table of this.#batch.tombstones) {
      const model = library.model(table.table);
      table.rows.forEach((index, i) => {
        const hlc = table.hlc[i] ?? 0;
        const run = this.#found.runs[table.run[i] ?? 0] ?? 0;
        const { birthHlc, birthRun } = this.#birth(index);
        library.sawHlc(hlc);
        if (!mayWrite(library, model, birthRun, run)) return;
        const known = this.#found.tombstones[index];
        if (known !== undefined && library.compare(hlc, run, known.hlc, known.run) <= 0) return;
        const row = this.#found.rows[index];
        const waiting = this.#found.pending[index];
        if (known === undefined && row === undefined && waiting === undefined && library.knows(run, hlc)) return;
        library.sql.run(
          'INSERT OR REPLACE INTO flotilla_tombstones (uuid, tbl, birth_hlc, birth_run, hlc, run, lsn) VALUES (?, ?, ?, ?, ?, ?, ?)',
          this.#uuid(index),
          model.n,
          birthHlc,
          birthRun,
          hlc,
          run,
          library.nextLsn(),
        );
        this.result.changed += 1;
        this.#found.tombstones[index] = { birthHlc, birthRun, hlc, run };
        const dies = (version: KnownVersion): boolean => library.compare(version.birthHlc, version.birthRun, hlc, run) < 0;
        if (waiting !== undefined && !waiting.isDelete && dies(waiting)) {
          forgetPending(library, this.#uuid(index));
          this.#found.pending[index] = undefined;
        }
        if (row !== undefined && dies(row)) {
          doomed.push({ model, key: row.key, uuid: this.#uuid(index), birthHlc: row.birthHlc, birthRun: row.birthRun, hlc, run });
        }
      });
    }
    return doomed;
  }

  /** The versions of the batch that are newer than what is here, held ones included. */
  #newer(): Incoming[] {
    const incoming: Incoming[] = [];
    for (const table of this.#batch.tables) {
      const model = this.#library.model(table.table);
      checkColumns(model, table);
      for (let position = 0; position < table.rows.length; position += 1) {
        const row = this.#judge(model, table, position);
        if (row !== null) incoming.push(row);
      }
    }
    return incoming;
  }

  #judge(model: Model, table: TableData, position: number): Incoming | null {
    const library = this.#library;
    const index = table.rows[position] ?? 0;
    const { birthHlc, birthRun } = this.#birth(index);
    const hlc = table.hlc[position] ?? 0;
    const run = this.#found.runs[table.run[position] ?? 0] ?? 0;
    library.sawHlc(hlc);
    library.sawHlc(birthHlc);
    if (!mayWrite(library, model, birthRun, run)) return null;
    const tombstone = this.#found.tombstones[index];
    if (tombstone !== undefined && library.compare(birthHlc, birthRun, tombstone.hlc, tombstone.run) <= 0) return null;
    const row = this.#found.rows[index];
    const waiting = this.#found.pending[index];
    const known = waiting !== undefined && !waiting.isDelete ? waiting : row;
    if (known === undefined) {
      // Everything that run stamped up to this birth was merged here, and the row is not here: it was deleted and pruned.
      if (library.knows(birthRun, birthHlc)) return null;
    } else {
      const order = library.compare(birthHlc, birthRun, known.birthHlc, known.birthRun) || library.compare(hlc, run, known.hlc, known.run);
      if (order < 0 || (order === 0 && !(this.#options.retake && known === waiting))) return null;
    }
    const hold = this.#holds.get(index) ?? null;
    this.#coming[index] = row === undefined && hold === null;
    return { model, table, position, index, isUpdate: row !== undefined, isPaired: false, hold };
  }

  /** Rows that refer to something that is not here wait, and so do new rows that refer to those. */
  #holdUnresolved(incoming: readonly Incoming[]): void {
    for (let again = true; again; ) {
      again = false;
      for (const row of incoming) {
        if (row.hold !== null || this.#missing(row) < 0) continue;
        row.hold = this.#reasonFor(this.#missing(row));
        this.#coming[row.index] = false;
        again = true;
      }
    }
  }

  /** Dictionary index of the first reference of a version that would point nowhere; −1 if none. */
  #missing(row: Incoming): number {
    for (const refs of referencesOf(row.table)) {
      const target = refs[row.position] ?? -1;
      if (target >= 0 && this.#keys[target] === undefined && this.#coming[target] !== true) return target;
    }
    return -1;
  }

  #reasonFor(target: number): Hold {
    const name = this.#batch.names[this.#batch.uuidTable[target] ?? 0] ?? '';
    const { birthHlc, birthRun } = this.#birth(target);
    const isDead = this.#found.tombstones[target] !== undefined || this.#library.knows(birthRun, birthHlc);
    return isDead && this.#found.pending[target] === undefined
      ? { reason: 'dead-target', detail: `It refers to a row of ${name} that was deleted.` }
      : { reason: 'missing-target', detail: `It refers to a row of ${name} that has not arrived.` };
  }

  // -- writing

  #giveKeys(incoming: readonly Incoming[]): void {
    for (const model of this.#library.registry.models) {
      const rows = incoming.filter((row) => row.model === model && !row.isUpdate && row.hold === null);
      const { adopter } = this.#options;
      if (adopter === null) for (const row of rows) this.#keys[row.index] = this.#freshKey(row);
      else this.#pairOrGiveKeys(adopter, rows);
    }
  }

  /** Parents are paired before their children, whose content names them. */
  #pairOrGiveKeys(adopter: Adopter, rows: readonly Incoming[]): void {
    let left = rows;
    while (left.length > 0) {
      const ready = left.filter((row) => referencesOf(row.table).every((refs) => this.#isPlaced(refs[row.position] ?? -1)));
      const now = new Set(ready.length > 0 ? ready : left);
      for (const row of now) {
        const key = adopter.pair(this.#library, row.model, this.#valuesOf(row));
        row.isPaired = key !== null;
        this.#keys[row.index] = key ?? this.#freshKey(row);
      }
      left = left.filter((row) => !now.has(row));
    }
  }

  #isPlaced(target: number): boolean {
    return target < 0 || this.#keys[target] !== undefined;
  }

  #freshKey(row: Incoming): Key | undefined {
    const { model } = row;
    if (model.rowid === null) return 0;
    return model.rowidIsRef ? this.#givenKey(row) : this.#library.nextKey(model);
  }

  /** The key of a row whose INTEGER PRIMARY KEY is itself a reference: the local id of its target. */
  #givenKey(row: Incoming): Key | undefined {
    const column = row.table.columns.find((candidate) => candidate.name === row.model.rowid);
    return column?.kind === 'ref' ? this.#keys[column.refs[row.position] ?? -1] : undefined;
  }

  #insert(model: Model, rows: readonly Incoming[]): void {
    for (const row of rows) this.result.arrivals.push(this.#uuid(row.index));
    this.#insertRows(
      model,
      rows.filter((row) => !row.isPaired),
    );
    this.#insertMappings(model, rows);
  }

  #insertRows(model: Model, rows: readonly Incoming[]): void {
    const columns = syncedColumns(model);
    const givesKey = model.rowid !== null && !model.rowidIsRef;
    const names = [...(givesKey ? [model.rowid ?? ''] : []), ...columns.map((column) => column.name)];
    const head = `INSERT INTO ${quoteName(model.table)} (${names.map(quoteName).join(', ')})`;
    const fill = (at: number, into: unknown[]): void => {
      const row = rows[at] as Incoming;
      if (givesKey) into.push(this.#keys[row.index]);
      this.#pushValues(row, columns, into);
    };
    insertMany(this.#library.sql, head, names.length, rows.length, fill, (first, size, error) => {
      if (size === 1) return this.#refuse(rows[first] as Incoming, error);
      requireConstraint(error);
      for (let at = first; at < first + size; at += 1) {
        insertMany(
          this.#library.sql,
          head,
          names.length,
          1,
          (_, into) => fill(at, into),
          (_first, _size, single) => this.#refuse(rows[at] as Incoming, single),
        );
      }
    });
  }

  #insertMappings(model: Model, rows: readonly Incoming[]): void {
    if (this.failures.size > 0) return;
    const natural = model.rowid === null;
    const keyColumns = natural ? model.key.map((_, i) => `, k${i + 1}`).join('') : '';
    const keys = natural ? model.key.map((name) => columnNamed(model, name)) : [];
    insertMany(
      this.#library.sql,
      `INSERT INTO ${rowsTable(model)} (key, uuid, birth_hlc, birth_run, hlc, run, lsn${keyColumns})`,
      7 + keys.length,
      rows.length,
      (at, into) => {
        const row = rows[at] as Incoming;
        const { birthHlc, birthRun } = this.#birth(row.index);
        into.push(natural ? null : this.#keys[row.index], this.#uuid(row.index), birthHlc, birthRun);
        into.push(row.table.hlc[row.position], this.#found.runs[row.table.run[row.position] ?? 0], this.#library.nextLsn());
        this.#pushValues(row, keys, into);
      },
    );
  }

  #update(row: Incoming): void {
    const library = this.#library;
    const { model } = row;
    const key = this.#keys[row.index];
    const columns = syncedColumns(model);
    const values: unknown[] = [];
    this.#pushValues(row, columns, values);
    const table = quoteName(model.table);
    const where =
      model.rowid === null
        ? `rowid IN (SELECT t.rowid FROM ${rowsTable(model)} m CROSS JOIN ${table} t ON ${mapJoin(model)} WHERE m.key = ?)`
        : `${quoteName(model.rowid)} = ?`;
    try {
      if (columns.length > 0) {
        library.sql.run(`UPDATE ${table} SET ${columns.map((column) => `${quoteName(column.name)} = ?`).join(', ')} WHERE ${where}`, ...values, key);
      }
    } catch (error) {
      this.#refuse(row, error);
      return;
    }
    const keys = model.rowid === null ? model.key.map((name) => columnNamed(model, name)) : [];
    const keyValues: unknown[] = [];
    this.#pushValues(row, keys, keyValues);
    const { birthHlc, birthRun } = this.#birth(row.index);
    library.sql.run(
      `UPDATE ${rowsTable(model)} SET birth_hlc = ?, birth_run = ?, hlc = ?, run = ?, lsn = ?${keys.map((_, i) => `, k${i + 1} = ?`).join('')} WHERE key = ?`,
      birthHlc,
      birthRun,
      row.table.hlc[row.position],
      this.#found.runs[row.table.run[row.position] ?? 0],
      library.nextLsn(),
      ...keyValues,
      key,
    );
  }

  #setAside(row: Incoming, hold: Hold): void {
    const { birthHlc, birthRun } = this.#birth(row.index);
    const targets = referencesOf(row.table)
      .map((refs) => refs[row.position] ?? -1)
      .filter((target) => target >= 0 && this.#keys[target] === undefined);
    putPending(this.#library, {
      model: row.model,
      uuid: this.#uuid(row.index),
      birthHlc,
      birthRun,
      hlc: row.table.hlc[row.position] ?? 0,
      run: this.#found.runs[row.table.run[row.position] ?? 0] ?? 0,
      ...hold,
      version: encodeBatch(cutVersion(this.#batch, row.table, row.position)),
      targets: targets.map((target) => this.#uuid(target)),
    });
  }

  /** Notes that a constraint refused a row; anything but a constraint ends the batch. */
  #refuse(row: Incoming, error: unknown): void {
    const code = requireConstraint(error);
    const isUnique = code === 'SQLITE_CONSTRAINT_UNIQUE' || code === 'SQLITE_CONSTRAINT_PRIMARYKEY' || code === 'SQLITE_CONSTRAINT_ROWID';
    this.failures.set(row.index, {
      reason: isUnique ? 'unique' : 'constraint',
      detail: isUnique ? `Another row here has its unique value: ${messageOf(error)}.` : `The table refuses it: ${messageOf(error)}.`,
    });
  }

  // -- the batch's words

  #uuid(index: number): Buffer {
    const { buffer, byteOffset } = this.#batch.uuids;
    return Buffer.from(buffer, byteOffset + index * 16, 16);
  }

  #birth(index: number): { birthHlc: number; birthRun: number } {
    return { birthHlc: this.#batch.birthHlc[index] ?? 0, birthRun: this.#found.runs[this.#batch.birthRun[index] ?? 0] ?? 0 };
  }

  #valuesOf(row: Incoming): unknown[] {
    const values: unknown[] = [];
    this.#pushValues(row, syncedColumns(row.model), values);
    return values;
  }

  #pushValues(row: Incoming, columns: readonly Column[], into: unknown[]): void {
    for (const column of columns) {
      const data = columnData(row.table, column.name);
      into.push(data.kind === 'ref' ? this.#refKey(data.refs[row.position] ?? -1) : bindable(data, row.position));
    }
  }

  #refKey(target: number): Key | null {
    return target < 0 ? null : (this.#keys[target] ?? null);
  }
}

/** Owned rows are written by their owner alone: the device whose run gave birth to them. */
function mayWrite(library: Library, model: Model, birthRun: number, run: number): boolean {
  if (model.ownership === 'shared') return true;
  const owner = library.runDevice(birthRun);
  return owner !== null && owner === library.runDevice(run);
}

const references = new WeakMap<TableData, (readonly number[])[]>();

/** All lists of references of a table's rows: columns and dependencies. */
function referencesOf(table: TableData): (readonly number[])[] {
  let lists = references.get(table);
  if (lists === undefined) {
    lists = table.columns.flatMap((column) => (column.kind === 'ref' ? [column.refs] : []));
    for (const dependency of table.dependencies) lists.push(dependency.refs);
    references.set(table, lists);
  }
  return lists;
}

const columnMaps = new WeakMap<TableData, Map<string, ColumnData>>();

function columnData(table: TableData, name: string): ColumnData {
  let map = columnMaps.get(table);
  if (map === undefined) {
    map = new Map(table.columns.map((column) => [column.name, column]));
    columnMaps.set(table, map);
  }
  return map.get(name) as ColumnData;
}

function columnNamed(model: Model, name: string): Column {
  return model.columns.find((column) => column.name === name) as Column;
}

/** A batch must bring exactly the columns that sync here, in the roles that they have here. */
function checkColumns(model: Model, table: TableData): void {
  const expected = syncedColumns(model);
  const fits =
    table.columns.length === expected.length &&
    expected.every((column) => {
      const data = columnData(table, column.name) as ColumnData | undefined;
      return data !== undefined && data.kind === (column.role.kind === 'ref' ? 'ref' : 'value');
    });
  if (!fits) throw new FlotillaError('PROTOCOL', `The peer sent rows of ${model.table} with other columns than it has here.`);
}

function bindable(data: ColumnData & { kind: 'value' }, position: number): SqlValue {
  const value = data.values[position] ?? null;
  if (typeof value === 'number' && data.ints !== undefined && data.ints[position] === 1) return BigInt(value);
  if (value instanceof Uint8Array && !Buffer.isBuffer(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return value;
}

function requireConstraint(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (!code.startsWith('SQLITE_CONSTRAINT')) throw error;
  return code;
}
