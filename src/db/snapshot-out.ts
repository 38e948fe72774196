/**
 * The snapshot that a device gives: made in one read transaction on a connection of its own, kept as a file for whoever asks, and read
 * out in chunks.
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync, rmSync } from 'node:fs';

import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import { CHUNK_BYTES } from '../protocol/messages.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { OpenFile, ReadAccess } from './access.ts';
import type { SnapshotOffer } from './api.ts';
import { TRANSFERS_TABLE } from './choose.ts';
import { Feeds, ownBuffer } from './feed.ts';
import type { NotYet } from './feed.ts';
import { readAll } from './grant.ts';
import { UNSTAMPED, getState } from './metadata.ts';
import type { Model, Registry } from './model.ts';
import { mapJoin, quoteName, rowsTable, syncedColumns } from './model.ts';
import type { RunInfo } from './page.ts';
import {
  ATTACHED,
  SNAPSHOT_FORMAT,
  layoutOf,
  outgoingSnapshot,
  rowsIn,
  snapshotModels,
  snapshotSchema,
  valueColumn,
} from './snapshot.ts';
import { BEFORE_ALL_KEYS, Statements } from './sql.ts';

/** How long a snapshot is kept after somebody has taken something of it, ms: who was cut off goes on, and others may take it too. */
const KEEP_MS = 10 * 60_000;
/** Rows that are copied between two turns of whoever else is served: about 30 ms. */
const ROWS_AT_ONCE = 20_000;
/** Of the batches beside the rows. */
const PAGE = { rows: 5_000, bytes: 4 * 1024 * 1024 };
/** Bytes that are hashed between two turns. */
const HASHED_AT_ONCE = 4 * 1024 * 1024;

interface Given {
  readonly offer: SnapshotOffer;
  readonly fd: number;
}

export class SnapshotsOut {
  readonly #file: string;
  readonly #access: ReadAccess;
  /** Path of the snapshot; null where there can be none. */
  readonly #out: string | null;
  #made: { readonly layout: string; readonly given: Promise<Given | null> } | null = null;
  #timer: unknown = null;

  constructor(file: string, access: ReadAccess) {
    this.#file = file;
    this.#access = access;
    const base = access.beside(file);
    this.#out = base === null ? null : outgoingSnapshot(base);
    // What a node that was killed has left.
    this.#remove();
  }

  /**
   * Begins to make a snapshot, unless there is one already; `ready` tells what has become of it.
   * @param leastRows - a library with fewer goes by the feed, which takes no longer then
   * @returns whether there will be one, or that something must be done before
   */
  begin(registry: Registry, layout: string, leastRows: number): boolean | NotYet {
    if (this.#made?.layout === layout) return true;
    if (this.#out === null) return false;
    this.#drop();
    const out = this.#out;
    const copying = this.#openCopying(out);
    let isBegun = false;
    try {
      copying.db.exec('BEGIN');
      if (copying.db.prepare(UNSTAMPED).get() !== undefined) return { unstamped: true, dangling: null };
      if (!mayGive(copying.db, registry, layout, leastRows)) return false;
      isBegun = true;
      this.#made = { layout, given: this.#make(copying, out, registry, layout) };
      return true;
    } finally {
      if (!isBegun) {
        copying.close();
        this.#remove();
      }
    }
  }

  /** The snapshot, once it is made; null when it could not be. */
  async ready(): Promise<SnapshotOffer | null> {
    const given = (await this.#made?.given) ?? null;
    this.#keep();
    return given?.offer ?? null;
  }

  /** @throws FlotillaError BUSY when it is there no more */
  async part(id: string, offset: number): Promise<ArrayBuffer> {
    const given = await this.#made?.given;
    if (given?.offer.id !== id)
      throw new FlotillaError('BUSY', 'The snapshot that the peer takes is not here any more; it will ask again.');
    this.#keep();
    const { fd, offer } = given;
    const chunk = Buffer.alloc(Math.max(0, Math.min(CHUNK_BYTES, offer.bytes - offset)));
    for (let read = 0; read < chunk.length;) {
      const more = readSync(fd, chunk, read, chunk.length - read, offset + read);
      if (more === 0) throw new FlotillaError('DATABASE', 'The snapshot has become shorter while it was sent.');
      read += more;
    }
    return ownBuffer(chunk);
  }

  close(): void {
    this.#drop();
  }

  /** A connection to the library to which the new file is attached. */
  #openCopying(out: string): OpenFile {
    this.#remove();
    // For nobody else to read; SQLite takes an empty file for a new database.
    closeSync(openSync(out, 'wx', 0o600));
    const copying = this.#access.openForCopying(this.#file);
    copying.db.prepare(`ATTACH ? AS ${ATTACHED}`).run(out);
    // If it is not written to its end it is thrown away.
    copying.db.pragma(`${ATTACHED}.journal_mode = OFF`);
    copying.db.pragma(`${ATTACHED}.synchronous = OFF`);
    return copying;
  }

  async #make(copying: OpenFile, out: string, registry: Registry, layout: string): Promise<Given | null> {
    let fd: number | null = null;
    try {
      const rows = await writeSnapshot(copying.db, registry, layout, () => this.#access.breathe());
      copying.close();
      fd = openSync(out, 'r');
      const { size: bytes } = fstatSync(fd);
      const hash = await hashOf(fd, bytes, () => this.#access.breathe());
      return { offer: { id: randomBytes(16).toString('hex'), bytes, hash, rows }, fd };
    } catch {
      // A full disk, rows that are not as they should be: the feed says what is wrong, if it is of any matter.
      copying.close();
      if (fd !== null) closeSync(fd);
      this.#made = null;
      this.#remove();
      return null;
    }
  }

  #keep(): void {
    this.#access.clearTimeout(this.#timer);
    this.#timer = this.#access.setTimeout(() => this.#drop(), KEEP_MS);
  }

  #drop(): void {
    this.#access.clearTimeout(this.#timer);
    const made = this.#made;
    this.#made = null;
    if (made === null) return;
    void made.given.then((given) => {
      if (given === null) return;
      closeSync(given.fd);
      if (this.#made === null) this.#remove();
    });
  }

  #remove(): void {
    if (this.#out === null) return;
    for (const suffix of ['', '-journal']) rmSync(`${this.#out}${suffix}`, { force: true });
  }
}

/** Whether all that a library holds can go in a snapshot. */
function mayGive(db: Database, registry: Registry, layout: string, leastRows: number): boolean {
  // Rows that refer to nothing stay behind; and who is no whole copy yet gives none.
  if (getState(db, 'dangling') === 1 || getState(db, 'newcomer') !== undefined) return false;
  if (layoutOf(db, registry) !== layout) return false;
  const has = (text: string): boolean => db.prepare(text).get() !== undefined;
  const maps = snapshotModels(registry).map(rowsTable);
  if (maps.some((map) => has(`SELECT 1 FROM ${map} WHERE aside IS NOT NULL LIMIT 1`))) return false;
  const rows = maps.map((map) => `(SELECT count(*) FROM ${map})`);
  return maps.length > 0 && has(`SELECT 1 WHERE ${rows.join(' + ')} >= ${leastRows}`);
}

/** Writes the file, in the read transaction that is open on `db`. Returns how many rows of the user's tables are in it. */
async function writeSnapshot(
  db: Database,
  registry: Registry,
  layout: string,
  breathe: () => Promise<void>,
): Promise<number> {
  for (const text of snapshotSchema(registry).values())
    db.exec(text.replace('CREATE TABLE ', `CREATE TABLE ${ATTACHED}.`));
  let rows = 0;
  for (const model of snapshotModels(registry)) rows += await copyRows(db, model, breathe);
  db.exec(`INSERT INTO ${ATTACHED}.runs (run, id, device) SELECT run, id, device FROM main.flotilla_runs`);
  const sql = new Statements(db);
  const insert = db.prepare(`INSERT INTO ${ATTACHED}.batches (data) VALUES (?)`);
  for (const batch of readBatches(db, sql, registry)) insert.run(batch);
  const about = db.prepare(`INSERT INTO ${ATTACHED}.about (name, value) VALUES (?, ?)`);
  about.run('format', SNAPSHOT_FORMAT);
  about.run('library', String(getState(db, 'library')));
  about.run('layout', layout);
  about.run('head', sql.number('SELECT head FROM flotilla_clock WHERE id = 1'));
  db.exec('COMMIT');
  return rows;
}

async function copyRows(db: Database, model: Model, breathe: () => Promise<void>): Promise<number> {
  const columns = syncedColumns(model);
  const into = ['key', 'uuid', 'birth_hlc', 'birth_run', 'hlc', 'run', 'lsn', 'cells'];
  const insert = db.prepare(
    `INSERT INTO ${ATTACHED}.${rowsIn(model)} (${[...into, ...columns.map(valueColumn)].join(', ')})
     SELECT ${[...into.map((name) => `m.${name}`), ...columns.map(({ name }) => `t.${quoteName(name)}`)].join(', ')}
     FROM main.${rowsTable(model)} m CROSS JOIN main.${quoteName(model.table)} t ON ${mapJoin(model)}
     WHERE m.key > ? ORDER BY m.key LIMIT ${ROWS_AT_ONCE}`,
  );
  const last = db
    .prepare(`SELECT max(key) FROM ${ATTACHED}.${rowsIn(model)}`)
    .pluck()
    .safeIntegers(true);
  let rows = 0;
  let after: unknown = BEFORE_ALL_KEYS;
  for (;;) {
    const { changes } = insert.run(after);
    rows += changes;
    if (changes < ROWS_AT_ONCE) return rows;
    after = last.get();
    await breathe();
  }
}

/** What goes beside the rows: first the transfers, without which nobody could say whose a row is; the last one ends the pass. */
function* readBatches(db: Database, sql: Statements, registry: Registry): Generator<Buffer> {
  const runOf = (ordinal: number): RunInfo => {
    const [id, device] = sql.rows('SELECT id, device FROM flotilla_runs WHERE run = ?', ordinal)[0] ?? [];
    return { hex: bytesToHex(id as Uint8Array), device: device === null ? '' : String(device) };
  };
  yield Buffer.from(readAll(sql, registry, TRANSFERS_TABLE, runOf));
  const feeds = new Feeds(db, registry);
  const { feed } = feeds.openBeside();
  for (;;) {
    const page = feeds.page(feed, PAGE);
    if ('unstamped' in page || page.data === null) throw new Error('the library has changed in a read transaction');
    yield Buffer.from(page.data);
    if (page.complete) return;
  }
}

async function hashOf(fd: number, bytes: number, breathe: () => Promise<void>): Promise<string> {
  const digest = createHash('sha256');
  const buffer = Buffer.alloc(HASHED_AT_ONCE);
  for (let at = 0; at < bytes;) {
    const read = readSync(fd, buffer, 0, buffer.length, at);
    if (read === 0) throw new Error('the snapshot has become shorter');
    digest.update(buffer.subarray(0, read));
    at += read;
    await breathe();
  }
  return digest.digest('hex');
}
