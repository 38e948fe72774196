/**
 * The snapshot that a device takes that has nothing yet: gathered in a file beside its library, checked as what a stranger has made, and
 * copied into the tables in one transaction. What goes beside its rows is applied as batches afterwards, by whoever calls this.
 *
 * Whatever is odd in it is a reason to take the feed instead, never one to mend something.
 */
import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from 'node:fs';

import Sqlite from 'better-sqlite3';
import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import { CHUNK_BYTES } from '../protocol/messages.ts';
import { RUN_BYTES } from '../protocol/stamp.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { SqlValue } from '../protocol/types.ts';
import type { SnapshotOffer } from './api.ts';
import { dropCapture, installCapture } from './capture.ts';
import type { Cell, Cells, LocalStamp } from './cells.ts';
import { formatCells } from './cells.ts';
import { refuseFuture, requireRoom } from './claims.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { mapJoin, orAbort, quoteName, rowsTable, syncedColumns } from './model.ts';
import { isEmpty, noteSource, sourceOf } from './newcomer.ts';
import { changingAll } from './open.ts';
import { standingOf } from './owners.ts';
import { noteSchema, schemaCookie } from './serving.ts';
import {
  ATTACHED,
  SNAPSHOT_FORMAT,
  layoutOf,
  rowsIn,
  snapshotModels,
  snapshotSchema,
  valueColumn,
} from './snapshot.ts';
import { stampAll } from './stamp.ts';
import { tenureOf } from './tenure.ts';
import { hasRing } from './trees.ts';
import { BEFORE_ALL_KEYS } from './sql.ts';

/**
 * Rows that are copied by one statement into a table with triggers: SQLite gathers them all in memory before it writes the first, and
 * keeps the old content of every page that they change until the last. A few MB so.
 */
const ROWS_AT_ONCE = 2_000;
/** Rows whose cells are looked at together. */
const CELLS_AT_ONCE = 5_000;
/** Page cache of the snapshot's file, KiB, in place of the 16,000 that SQLite is built with: it is walked through in the order of its rows. */
const CACHE_KIB = 1024;
/** Stamps in one cell at most: its own, and what its writer had seen (`cells.ts`, `tenure.ts`). */
const MAX_STAMPS = 64;

/** Whether this device has nothing of its own yet, so that it can take over the ids of another one. */
export function isBlank(library: Library): boolean {
  const { sql } = library;
  if (sourceOf(library) !== '' || sql.value("SELECT 1 FROM flotilla_state WHERE key = 'adopting'") !== undefined)
    return false;
  return isEmpty(library);
}

// -- the file

/** A snapshot that is being gathered. */
export class Gathered {
  readonly offer: SnapshotOffer;
  readonly path: string;
  readonly #fd: number;
  readonly #digest: Hash = createHash('sha256');
  /** Bytes that are there. */
  size = 0;
  #isOpen = true;

  /** Goes on with what an earlier session has gathered of the same one, or begins. @param isSame - that is of the same one */
  constructor(path: string, offer: SnapshotOffer, isSame: boolean) {
    this.offer = offer;
    this.path = path;
    if (!isSame) removeGathered(path);
    this.#fd = openSync(this.path, existsSync(this.path) ? 'r+' : 'wx+', 0o600);
    const whole = Math.min(fstatSync(this.#fd).size, offer.bytes);
    this.#readAgain(whole - (whole % CHUNK_BYTES));
  }

  #readAgain(bytes: number): void {
    ftruncateSync(this.#fd, bytes);
    const chunk = Buffer.alloc(CHUNK_BYTES);
    for (; this.size < bytes; this.size += CHUNK_BYTES) {
      readSync(this.#fd, chunk, 0, CHUNK_BYTES, this.size);
      this.#digest.update(chunk);
    }
  }

  /** @throws FlotillaError PROTOCOL when a chunk has not the size that it must have */
  add(chunk: Uint8Array): void {
    if (chunk.byteLength !== Math.min(CHUNK_BYTES, this.offer.bytes - this.size))
      throw new FlotillaError('PROTOCOL', 'The peer sent a part of a snapshot that is not as long as it must be.');
    for (let written = 0; written < chunk.byteLength;)
      written += writeSync(this.#fd, chunk, written, chunk.byteLength - written, this.size + written);
    this.#digest.update(chunk);
    this.size += chunk.byteLength;
  }

  /** Closes the file; whether it is whole and as it was sent. Call it once. */
  finish(): boolean {
    this.close();
    return this.size === this.offer.bytes && this.#digest.digest('hex') === this.offer.hash;
  }

  close(): void {
    if (this.#isOpen) closeSync(this.#fd);
    this.#isOpen = false;
  }
}

/** Throws away what there is of a snapshot. */
export function removeGathered(path: string): void {
  for (const suffix of ['', '-journal']) rmSync(`${path}${suffix}`, { force: true });
}

/** Why a snapshot is not taken. */
export class Unfit extends Error {}

function require(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Unfit(what);
}

/**
 * Looks whether a file is a snapshot of this library and nothing else: no object in it could do anything once it is attached.
 * Returns the batches that go beside its rows, and the sender's head.
 */
export function inspectSnapshot(library: Library, path: string): { head: number; batches: Buffer[] } {
  const { registry } = library;
  const db = new Sqlite(path, { readonly: true });
  try {
    db.pragma('trusted_schema = OFF');
    db.pragma(`cache_size = -${CACHE_KIB}`);
    db.pragma('cell_size_check = ON');
    require(db.pragma('encoding', { simple: true }) === 'UTF-8', 'it has another encoding');
    const wanted = snapshotSchema(registry);
    const objects = db
      .prepare(
        "SELECT type, name, sql FROM sqlite_schema WHERE NOT (type = 'index' AND sql IS NULL AND tbl_name = 'about')",
      )
      .all() as { type: string; name: string; sql: unknown }[];
    require(objects.length === wanted.size &&
      objects.every(({ type, name, sql }) => type === 'table' && wanted.get(name) === sql), 'it holds other tables');
    require(db.pragma('quick_check(1)', { simple: true }) === 'ok', 'it is damaged');
    const about = new Map(db.prepare('SELECT name, value FROM about').raw().all() as [string, unknown][]);
    require(about.get('format') === SNAPSHOT_FORMAT &&
      about.get('library') === library.libraryId &&
      about.get('layout') === layoutOf(library.db, registry), 'it is of another library');
    const head = about.get('head');
    require(typeof head === 'number' && Number.isSafeInteger(head) && head >= 0, 'its head is no number');
    const batches = db.prepare('SELECT data FROM batches ORDER BY n').pluck().all() as unknown[];
    require(batches.length > 1 && batches.every((data) => data instanceof Uint8Array), 'it lacks the end of its pass');
    return { head, batches: batches as Buffer[] };
  } finally {
    db.close();
  }
}

// -- its rows

/**
 * Copies the rows of an inspected snapshot into the tables, in one transaction; everything is undone when something does not fit.
 * @returns how many rows there are now
 */
export function copySnapshot(library: Library, peer: string, path: string, head: number): number {
  const { db } = library;
  db.prepare(`ATTACH ? AS ${ATTACHED}`).run(path);
  db.pragma(`${ATTACHED}.cache_size = -${CACHE_KIB}`);
  // They need not be looked up one by one: all are checked before the commit.
  db.pragma('foreign_keys = OFF');
  try {
    const { rows, cookie } = changingAll(db, () =>
      library.transact(() => {
        stampAll(library);
        require(isEmpty(library), 'something was written here meanwhile');
        return library.withoutCapture(() => {
          noteSource(library, peer, false);
          // They would do nothing; but where a table has triggers, SQLite gathers what comes in memory.
          dropCapture(db);
          const rows = new Copying(library, head).run();
          installCapture(db, library.registry);
          noteSchema(db, library.registry);
          return { rows, cookie: schemaCookie(db) };
        });
      }),
    );
    library.cookie = cookie;
    return rows;
  } finally {
    db.pragma('foreign_keys = ON');
    db.exec(`DETACH ${ATTACHED}`);
  }
}

function hasTriggers(db: Database, table: string): boolean {
  const triggers = "SELECT 1 FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE LIMIT 1";
  return db.prepare(triggers).get(table) !== undefined;
}

class Copying {
  readonly #library: Library;
  readonly #head: number;
  /** Number of a run there → here. */
  readonly #runs = new Map<number, number>();
  /** What is added to the sender's lsns. */
  readonly #shift: number;

  constructor(library: Library, head: number) {
    this.#library = library;
    this.#head = head;
    this.#shift = library.takeLsns(head);
  }

  run(): number {
    const library = this.#library;
    const models = snapshotModels(library.registry);
    this.#takeRuns(models);
    let rows = 0;
    let latest = 0;
    for (const model of models) {
      const found = this.#check(model);
      rows += found.rows;
      latest = Math.max(latest, found.latest);
    }
    refuseFuture(library, latest);
    for (const model of models) this.#copy(model);
    for (const model of models) this.#copyCells(model);
    this.#requireDistinct(models);
    for (const model of models)
      require(!model.trees.some((tree) => hasRing(library, model, tree)), 'rows in it are above themselves');
    for (const model of models)
      require((library.db.pragma(`foreign_key_check(${quoteName(model.table)})`) as unknown[]).length ===
        0, 'rows in it refer to nothing');
    library.sawHlc(latest);
    library.count('rowsIn', rows);
    return rows;
  }

  /** Learns the sender's runs, under numbers of our own. */
  #takeRuns(models: readonly Model[]): void {
    const library = this.#library;
    const { db } = library;
    const runs = db.prepare(`SELECT run, id, device FROM ${ATTACHED}.runs`).raw().all() as unknown[][];
    const known = runs.map(([run, id, device]) => {
      require(Number.isSafeInteger(run) &&
        id instanceof Uint8Array &&
        id.byteLength === RUN_BYTES &&
        (device === null ||
          (typeof device === 'string' && device !== '' && device.length <= 128)), 'a run in it is none');
      return { run: run as number, hex: bytesToHex(id), device };
    });
    requireRoom(
      library,
      known.map(({ hex }) => hex),
    );
    const own = library.ownRun();
    db.exec(
      'CREATE TEMP TABLE IF NOT EXISTS flotilla_run_map (theirs INTEGER PRIMARY KEY, ours INTEGER); DELETE FROM temp.flotilla_run_map',
    );
    const note = db.prepare('INSERT INTO temp.flotilla_run_map (theirs, ours) VALUES (?, ?)');
    for (const { run, hex, device } of known) {
      // This device has no rows yet, so none are of its run of today.
      if (hex === own)
        for (const model of models)
          require(library.sql.value(
            `SELECT 1 FROM ${ATTACHED}.${rowsIn(model)} WHERE birth_run = ? OR run = ? LIMIT 1`,
            run,
            run,
          ) === undefined, 'it says that this device has written what it has not');
      const ours = library.runOrdinal(hex, device);
      this.#runs.set(run, ours);
      note.run(run, ours);
    }
  }

  /** Every row must be one by its form. */
  #check(model: Model): { rows: number; latest: number } {
    const { sql } = this.#library;
    const table = `${ATTACHED}.${rowsIn(model)}`;
    const fits = [
      "typeof(uuid) = 'blob' AND length(uuid) = 16",
      "typeof(birth_hlc) = 'integer' AND birth_hlc > 0 AND typeof(hlc) = 'integer' AND hlc >= birth_hlc",
      `typeof(lsn) = 'integer' AND lsn BETWEEN 1 AND ${this.#head}`,
    ];
    const rows = sql.number(`SELECT count(*) FROM ${table}`);
    const [sound] = sql.rows(`SELECT count(*), ifnull(max(hlc), 0) FROM ${table} WHERE ${fits.join(' AND ')}`);
    require(sound?.[0] === rows, 'a row in it has no identity or no stamp');
    return { rows, latest: Number(sound?.[1]) };
  }

  #copy(model: Model): void {
    const library = this.#library;
    const { sql } = library;
    const table = `${ATTACHED}.${rowsIn(model)}`;
    const rows = sql.number(`SELECT count(*) FROM ${table}`);
    const columns = syncedColumns(model);
    const givesKey = model.rowid !== null && !model.rowidIsRef;
    const names = [...(givesKey ? [model.rowid ?? ''] : []), ...columns.map(({ name }) => name)].map(quoteName);
    const values = [...(givesKey ? ['key'] : []), ...columns.map(valueColumn)];
    const insert = `INSERT ${orAbort(model)}INTO main.${quoteName(model.table)} (${names.join(', ')})
       SELECT ${values.join(', ')} FROM ${table}`;
    const copied = hasTriggers(library.db, model.table)
      ? this.#copySlices(table, insert)
      : sql.run(`${insert} ORDER BY key`);
    const natural = model.rowid === null ? model.key : [];
    const keys = natural.map((_, i) => `, k${i + 1}`).join('');
    const keyValues = natural.map((name) => {
      const column = columns.find((one) => one.name === name);
      require(column !== undefined, 'a key is not in it');
      return `, s.${valueColumn(column)}`;
    });
    const mapped = sql.run(
      `INSERT INTO main.${rowsTable(model)} (key, uuid, birth_hlc, birth_run, hlc, run, lsn${keys})
       SELECT s.key, s.uuid, s.birth_hlc, b.ours, s.hlc, r.ours, s.lsn + ${this.#shift}${keyValues.join('')}
       FROM ${table} s CROSS JOIN temp.flotilla_run_map b ON b.theirs = s.birth_run
         CROSS JOIN temp.flotilla_run_map r ON r.theirs = s.run ORDER BY s.key`,
    );
    require(copied === rows && mapped === rows, 'a row in it does not fit its table here');
    // An INTEGER PRIMARY KEY is the same in both; other keys the table may hold otherwise than they were given.
    if (!givesKey)
      require(sql.number(
        `SELECT count(*) FROM main.${rowsTable(model)} m CROSS JOIN main.${quoteName(model.table)} t ON ${mapJoin(model)}`,
      ) === rows, 'a row in it has another key than its table here');
    if (model.ownership === 'device') this.#requireMakers(model);
  }

  /** Copies by key, so many rows a statement. @returns how many were written */
  #copySlices(table: string, insert: string): number {
    const { sql } = this.#library;
    const end = `SELECT max(key) FROM (SELECT key FROM ${table} WHERE key > ? ORDER BY key LIMIT ${ROWS_AT_ONCE})`;
    let written = 0;
    let after: SqlValue = BEFORE_ALL_KEYS;
    for (;;) {
      const last: SqlValue | undefined = sql.value(end, after);
      if (last === undefined || last === null) return written;
      written += sql.run(`${insert} WHERE key > ? AND key <= ? ORDER BY key`, after, last);
      after = last;
    }
  }

  /** Of an owned row without a title, whoever made it must have written it. */
  #requireMakers(model: Model): void {
    const library = this.#library;
    const pairs = library.sql.rows(
      `SELECT DISTINCT birth_run, run FROM ${ATTACHED}.${rowsIn(model)} WHERE cells IS NULL`,
    );
    for (const [birthRun, run] of pairs) {
      const [maker, writer] = [birthRun, run].map((theirs) => library.runDevice(this.#runs.get(Number(theirs)) ?? 0));
      require(maker !== null && maker === writer, 'an owned row in it was written by somebody else');
    }
  }

  #copyCells(model: Model): void {
    const library = this.#library;
    const numbers = new Set(syncedColumns(model).map(({ number }) => number));
    const isOwned = model.ownership === 'device';
    let after: unknown = BEFORE_ALL_KEYS;
    for (;;) {
      const rows = library.sql.rows(
        `SELECT key, cells, birth_run, run, hlc FROM ${ATTACHED}.${rowsIn(model)}
         WHERE key > ? AND cells IS NOT NULL ORDER BY key LIMIT ${CELLS_AT_ONCE}`,
        after,
      );
      for (const [key, text, birthRun, run, hlc] of rows) {
        const cells = this.#readCells(text, Number(hlc), (column) =>
          column < 0 ? isOwned && column >= -2 : numbers.has(column),
        );
        if (isOwned) {
          const [born, wrote] = [birthRun, run].map((theirs) => this.#runs.get(Number(theirs)) ?? 0);
          require(standingOf(library, born ?? 0, wrote ?? 0, tenureOf(cells)) ===
            'valid', 'an owned row in it has no valid title');
        }
        library.sql.run(`UPDATE main.${rowsTable(model)} SET cells = ? WHERE key = ?`, formatCells(cells), key);
      }
      if (rows.length < CELLS_AT_ONCE) return;
      after = rows.at(-1)?.[0];
    }
  }

  /** Cells as another device has stored them (`formatCells`), with our numbers of runs. */
  #readCells(text: unknown, last: number, isColumn: (column: number) => boolean): Cells {
    let stored: unknown = null;
    try {
      stored = typeof text === 'string' ? JSON.parse(text) : null;
    } catch {
      // What is no JSON is nothing.
    }
    require(Array.isArray(stored) && stored.length > 0, 'the stamps of a row in it cannot be read');
    const cells = new Map<number, Cell>();
    for (const cell of stored as unknown[]) {
      require(Array.isArray(cell) &&
        cell.length >= 3 &&
        cell.length % 2 === 1 &&
        cell.length <= 1 + 2 * MAX_STAMPS &&
        cell.every((number) => Number.isSafeInteger(number)), 'the stamps of a row in it cannot be read');
      const [column, ...numbers] = cell as [number, ...number[]];
      const stamps: LocalStamp[] = [];
      for (let i = 0; i < numbers.length; i += 2) {
        const [hlc, run] = [numbers[i] ?? 0, this.#runs.get(numbers[i + 1] ?? 0)];
        require(run !== undefined && hlc >= 0 && hlc <= last, 'a stamp in it is later than its row');
        stamps.push({ hlc, run });
      }
      require(isColumn(column) && !cells.has(column), 'a stamp in it is of no column');
      const [stamp, ...seen] = stamps;
      if (stamp !== undefined) cells.set(column, { ...stamp, seen });
    }
    return cells;
  }

  /** A UUID names a row of one table. */
  #requireDistinct(models: readonly Model[]): void {
    const { sql } = this.#library;
    const bySize = models
      .map((model) => ({ map: rowsTable(model), rows: sql.number(`SELECT count(*) FROM ${rowsTable(model)}`) }))
      .toSorted((a, b) => a.rows - b.rows);
    bySize.forEach(({ map }, i) => {
      for (const larger of bySize.slice(i + 1))
        require(sql.value(`SELECT 1 FROM ${map} a CROSS JOIN ${larger.map} b ON b.uuid = a.uuid LIMIT 1`) ===
          undefined, 'it has one identity for rows of two tables');
    });
  }
}
