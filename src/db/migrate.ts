/**
 * `flotilla migrate`: changes the schema of a library with everything that its devices hold in view. What plain SQL could not
 * do while our triggers are there (DROP COLUMN) works, and nothing gets lost that others may still have: values of columns and
 * rows of tables that go are kept aside, and what a table that is built anew holds otherwise than before counts as written.
 * One transaction: it is done, or nothing has changed.
 */
import type { Database } from 'better-sqlite3';

import { FlotillaError, messageOf } from '../errors.ts';
import { encodeBatch } from '../protocol/batch.ts';
import type { Batch } from '../protocol/types.ts';
import { formatAside, parseAside } from './aside.ts';
import { OP_UPDATE, LAST_MASK_BIT, dropCapture, encodedKey, installCapture } from './capture.ts';
import { catchUp } from './catch-up.ts';
import { loadConfig } from './config.ts';
import type { LoadedConfig } from './config.ts';
import { evolve } from './evolve.ts';
import type { Evolved } from './evolve.ts';
import { guardTriggers } from './guard.ts';
import { translateRuns } from './join.ts';
import { asideOf } from './late.ts';
import { Library } from './library.ts';
import { setState } from './metadata.ts';
import { mapJoin, quoteName, rowsTable, syncedColumns } from './model.ts';
import type { Model, Registry } from './model.ts';
import { explainSqlite, lockLibrary, openForReading, openForWriting, requireDatabase, useWal } from './open.ts';
import { NO_END, PageBuilder, readVersions, versionSelect } from './page.ts';
import { putPending } from './pending.ts';
import { Served } from './served.ts';
import { noteSchema, requireLibrary, storedConfig } from './serving.ts';
import type { SetupOptions } from './setup.ts';
import { BEFORE_ALL_KEYS, Statements, readBig } from './sql.ts';
import type { Key, RawRow } from './sql.ts';
import { firstWords, splitStatements } from './statements.ts';
import { cutVersion } from './version.ts';

/** Rows that are kept aside at once. */
const KEEP_ROWS = 1000;

/**
 * Runs SQL on a library whose node does not run.
 * @param config - a new configuration; null keeps the one that it has
 * @returns what has changed, in words
 * @throws FlotillaError LIBRARY_IN_USE, NOT_INITIALISED, SCHEMA_MISMATCH, CONFIG, DATABASE
 */
export function migrateFile({ file, around }: SetupOptions, sql: string, config: LoadedConfig | null): string[] {
  requireDatabase(file);
  let db: Database | null = null;
  let snapshot: Database | null = null;
  const unlock = lockLibrary(file);
  try {
    db = openForWriting(file, 'full');
    requireLibrary(db, file);
    useWal(db, file);
    // What was written and changed so far is this device's, before anything else is done.
    const served = new Served(db, around, () => undefined);
    served.run(() => served.applier.stamp());
    snapshot = openForReading(file);
    snapshot.exec('BEGIN');
    snapshot.prepare('SELECT 1 FROM flotilla_state LIMIT 1').get();
    db.pragma('foreign_keys = OFF');
    db.exec('BEGIN IMMEDIATE');
    const migration = new Migration(db, snapshot, served.library.registry, around, config);
    migration.run(splitStatements(sql));
    db.exec('COMMIT');
    return migration.changes;
  } catch (error) {
    if (db?.inTransaction === true) db.exec('ROLLBACK');
    throw explainSqlite(error, file);
  } finally {
    snapshot?.close();
    db?.close();
    unlock();
  }
}

/** The configuration to migrate to: the file that is given, or the one beside the library; null if there is none. */
export function configFor(file: string, path: string | null): LoadedConfig | null {
  const loaded = loadConfig(file, path ?? undefined);
  return path === null && loaded.text === '{}' ? null : loaded;
}

class Migration {
  readonly changes: string[] = [];
  readonly #db: Database;
  /** Sees the library as it was before. */
  readonly #before: Statements;
  readonly #was: Registry;
  readonly #around: SetupOptions['around'];
  readonly #config: LoadedConfig | null;
  #isCaptured = true;

  constructor(
    db: Database,
    snapshot: Database,
    was: Registry,
    around: SetupOptions['around'],
    config: LoadedConfig | null,
  ) {
    this.#db = db;
    this.#before = new Statements(snapshot);
    this.#was = was;
    this.#around = around;
    this.#config = config;
  }

  run(statements: readonly string[]): void {
    for (const statement of statements) this.#execute(statement);
    const library = this.#catchUp();
    library.transact(() => {
      for (const model of this.#was.models) this.#keep(library, model);
    });
    noteSchema(this.#db, library.registry);
    if (this.#config !== null) setState(this.#db, 'given', this.#config.text);
    const [broken] = this.#db.pragma('foreign_key_check') as { table: string; parent: string }[];
    if (broken === undefined) return;
    throw new FlotillaError(
      'DATABASE',
      `After the migration rows of "${broken.table}" would refer to rows of "${broken.parent}" that do not exist. Nothing was changed: correct the SQL.`,
    );
  }

  #execute(statement: string): void {
    const words = firstWords(statement, 3);
    // All of it is one transaction already, in which foreign keys are checked at the end.
    if (/^(?:BEGIN|COMMIT|END)\b/.test(words) || words.startsWith('PRAGMA FOREIGN_KEYS')) return;
    if (/^(?:ROLLBACK|SAVEPOINT|RELEASE|ATTACH|DETACH|VACUUM)\b/.test(words)) {
      throw new FlotillaError(
        'CONFIG',
        `A migration cannot use ${words.split(' ')[0]}: it is one transaction. Take it out.`,
      );
    }
    if (!this.#isCaptured) this.#catchUp();
    try {
      this.#db.exec(statement);
    } catch (error) {
      if (!/flotilla_\d+_/.test(messageOf(error)) || /^(?:INSERT|UPDATE|DELETE|REPLACE|WITH)\b/.test(words))
        throw error;
      // Our triggers name the column: what they say of renames so far is taken over, then they make way.
      this.#catchUp();
      dropCapture(this.#db);
      this.#isCaptured = false;
      this.#db.exec(statement);
    }
  }

  /** Brings metadata, triggers and identities to the schema as it is now. */
  #catchUp(): Library {
    const db = this.#db;
    const evolved = evolve(db, this.#config?.config ?? storedConfig(db), !this.#isCaptured);
    for (const model of evolved.rebuilt) this.#markChanged(model);
    guardTriggers(db, evolved.registry);
    installCapture(db, evolved.registry);
    this.#isCaptured = true;
    const library = new Library(db, evolved.registry, this.#around);
    // What goes is kept, see below.
    library.transact(() => catchUp(library, { ...evolved, lost: null } satisfies Evolved));
    this.changes.push(...evolved.changes);
    return library;
  }

  /** Rows of a table that was built anew hold what they hold by this device's doing. */
  #markChanged(model: Model): void {
    const was = this.#was.models.find(({ n }) => n === model.n);
    if (was === undefined) return;
    const pairs = syncedColumns(model).flatMap((column): { now: string; was: string; bit: number }[] => {
      const then = syncedColumns(was).find(({ number }) => number === column.number);
      return then === undefined
        ? []
        : [{ now: column.name, was: then.name, bit: Math.min(column.number, LAST_MASK_BIT) }];
    });
    if (pairs.length === 0) return;
    const select = (of: Model, names: readonly string[]): string =>
      `SELECT m.key, ${names.map((name) => `t.${quoteName(name)}`).join(', ')} FROM ${rowsTable(of)} m
       CROSS JOIN ${quoteName(of.table)} t ON ${mapJoin(of)} WHERE m.key > ? ORDER BY m.key LIMIT ${KEEP_ROWS}`;
    const now = new Statements(this.#db);
    const mark = this.#db.prepare(
      `INSERT INTO flotilla_marks (tbl, op, old, new, at, mask)
       SELECT ${model.n}, ${OP_UPDATE}, ${encodedKey(model, 't')}, ${encodedKey(model, 't')}, ?, ?
       FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)} WHERE m.key = ?`,
    );
    let after: Key = BEFORE_ALL_KEYS;
    for (;;) {
      const rows = readBig(
        now.get(
          select(
            model,
            pairs.map((pair) => pair.now),
          ),
        ),
        [after],
      );
      const last = rows.at(-1);
      if (last === undefined) return;
      const then = new Map(
        readBig(
          this.#before.get(
            select(
              was,
              pairs.map((pair) => pair.was),
            ),
          ),
          [after],
        ).map((row) => [row[0], row]),
      );
      for (const row of rows) {
        const old = then.get(row[0] ?? null);
        if (old === undefined) continue;
        const bits = new Set(pairs.flatMap(({ bit }, i) => (isSame(row[i + 1], old[i + 1]) ? [] : [bit])));
        if (bits.size > 0)
          mark.run(
            this.#around.now(),
            [...bits].reduce((mask, bit) => mask + 2 ** bit, 0),
            row[0],
          );
      }
      after = last[0] as Key;
    }
  }

  /** Keeps aside what a table has lost: columns of its rows, or all of them. */
  #keep(library: Library, was: Model): void {
    const model = library.modelByNumber(was.n);
    const lost = syncedColumns(was).filter(({ number }) => model.absent.some((column) => column.number === number));
    if (!model.isAbsent && lost.length === 0) return;
    const text = versionSelect(was, this.#was, `WHERE m.key > ? ORDER BY m.key LIMIT ${KEEP_ROWS}`);
    let after: Key = BEFORE_ALL_KEYS;
    for (;;) {
      const versions = readVersions(this.#before, was, text, [after]);
      const last = versions.at(-1);
      if (last === undefined) return;
      after = last[1] as Key;
      const batch = this.#batchOf(was, versions);
      if (model.isAbsent) keepRows(library, model, batch);
      else keepValues(library, model, batch);
    }
  }

  #batchOf(model: Model, versions: readonly RawRow[]): Batch {
    const builder = new PageBuilder(this.#before, this.#was, (ordinal) => {
      const row = this.#before.rows('SELECT lower(hex(id)), device FROM flotilla_runs WHERE run = ?', ordinal)[0];
      return { hex: String(row?.[0]), device: typeof row?.[1] === 'string' ? row[1] : '' };
    });
    builder.addVersions(model, versions);
    builder.resolve();
    return builder.build(NO_END);
  }
}

function keepRows(library: Library, model: Model, batch: Batch): void {
  const runs = translateRuns(library, batch);
  for (const table of batch.tables) {
    table.rows.forEach((index, position) =>
      putPending(library, {
        model,
        uuid: batch.uuids.subarray(index * 16, index * 16 + 16),
        birthHlc: batch.birthHlc[index] ?? 0,
        birthRun: runs[batch.birthRun[index] ?? 0] ?? 0,
        hlc: table.hlc[position] ?? 0,
        run: runs[table.run[position] ?? 0] ?? 0,
        reason: 'no-table',
        detail: 'Its table was dropped on this device.',
        version: encodeBatch(cutVersion(batch, table, position)),
        targets: [],
      }),
    );
  }
}

function keepValues(library: Library, model: Model, batch: Batch): void {
  const runs = translateRuns(library, batch);
  for (const table of batch.tables) {
    table.rows.forEach((index, position) => {
      const values = asideOf(model, batch, table, position, runs);
      const uuid = Buffer.from(batch.uuids.subarray(index * 16, index * 16 + 16));
      const aside = parseAside(library.sql.value(`SELECT aside FROM ${rowsTable(model)} WHERE uuid = ?`, uuid));
      const blob = formatAside(new Map([...aside, ...values]));
      library.sql.run(`UPDATE ${rowsTable(model)} SET aside = ? WHERE uuid = ?`, blob, uuid);
    });
  }
}

function isSame(a: unknown, b: unknown): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0;
  return Object.is(a, b);
}
