/**
 * Making a library of a file: `init` on a file that is there, and what a newcomer builds from an invitation's grant. Each
 * is one transaction: it is done, or nothing has changed.
 */
import { existsSync, renameSync, rmSync } from 'node:fs';

import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import type { InitReport, JoinGrant } from './api.ts';
import { installCapture } from './capture.ts';
import { loadConfig, parseConfig } from './config.ts';
import type { LoadedConfig } from './config.ts';
import { requireFreeNames } from './choose.ts';
import { checkGrant, runDdl } from './grant.ts';
import { guardTriggers } from './guard.ts';
import { Library } from './library.ts';
import type { Surroundings } from './library.ts';
import { firstKnown, join, numbersOf, readKnown, writeKnown } from './known.ts';
import { createMap, createMetadata, getState, hasMetadata, setState } from './metadata.ts';
import { screenRecords, takeRecords, writeFounder } from './members.ts';
import { markNewcomer } from './newcomer.ts';
import type { Registry } from './model.ts';
import { quoteName } from './model.ts';
import { explainSqlite, lockLibrary, openForWriting, requireDatabase } from './open.ts';
import { tryFunctions } from './policies.ts';
import { tableReports } from './report.ts';
import { readRegistry } from './schema.ts';
import { pruneConfig } from './renames.ts';
import { Served } from './served.ts';
import { noteSchema, storedConfig } from './serving.ts';
import { stampExisting } from './stamp.ts';
import { requireUsable } from './usable.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import { decodeBatch } from '../protocol/batch.ts';
import { libraryIdOf } from '../protocol/membership.ts';

/** What `init` works with. */
export interface SetupOptions {
  readonly file: string;
  /** Name of this device, for the record of its membership. */
  readonly name: string;
  readonly around: Surroundings;
}

/**
 * Initialises a library in place: metadata, triggers, identities for the rows that are there.
 * @throws FlotillaError NO_SUCH_FILE, NOT_A_DATABASE, NO_PRIMARY_KEY, UNSUPPORTED_SCHEMA, CONFIG, ALREADY_INITIALISED
 */
export function initLibraryFile(
  options: SetupOptions,
  configPath: string | null,
  configJson: string | null,
): InitReport {
  const { file, around } = options;
  requireDatabase(file);
  return withFile(file, (db) => {
    const config = configJson === null ? loadConfig(file, configPath ?? undefined) : parseConfig(configJson, file);
    if (hasMetadata(db)) return reportExisting(db, file, config);
    // Whatever cannot sync is refused before anything is written.
    requireFreeNames(db);
    requireUsable(db, readRegistry(db, config.config, new Map()));
    const salt = bytesToHex(around.randomBytes(16));
    const libraryId = libraryIdOf(around.device, salt);
    return inTransaction(db, () => {
      const library = createLibrary(db, around, libraryId, config);
      const { registry } = library;
      writeFounder(library, options.name, salt);
      tryFunctions(library);
      const stampedRows = stampEverything(library);
      return { libraryId, tables: tableReports(registry, countRows(db, registry)), stampedRows, created: true };
    });
  });
}

/** A second `init`: fine when nothing is to change, else refused, since a running fleet has agreed on the first. */
function reportExisting(db: Database, file: string, config: LoadedConfig | null): InitReport {
  if (config !== null && config.text !== getState(db, 'given')) {
    throw new FlotillaError(
      'ALREADY_INITIALISED',
      `${file} was initialised with another configuration. Put the old one back, or bring the library to the new one with "flotilla migrate".`,
    );
  }
  const registry = readRegistry(db, pruneConfig(db, storedConfig(db)), numbersOf(readKnown(db)));
  return {
    libraryId: String(getState(db, 'library')),
    tables: tableReports(registry, countRows(db, registry)),
    stampedRows: 0,
    created: false,
  };
}

/** What a newcomer builds from. */
export interface GrantUse {
  readonly grant: JoinGrant;
  /** What the rows in a file that is there are: `union` all new, `same` equal to rows that will come, `empty` none. */
  readonly existing: 'empty' | 'union' | 'same';
}

/**
 * Makes a newcomer's library from a grant: a new file, or of the file that is there.
 * @throws FlotillaError SCHEMA_MISMATCH, LIBRARY_NOT_EMPTY, ALREADY_INITIALISED, PROTOCOL
 */
export function createFromGrant(options: SetupOptions, use: GrantUse): InitReport {
  const { file } = options;
  checkGrant(use.grant);
  if (existsSync(file)) {
    requireDatabase(file);
    return withFile(file, (db) => {
      if (hasMetadata(db)) return rejoin(db, options, use.grant);
      return inTransaction(db, () => adoptGrant(db, options, use));
    });
  }
  // Built aside: a library is there whole, or not at all.
  const draft = `${file}.joining`;
  removeFile(draft);
  try {
    const report = withFile(draft, (db) => {
      return inTransaction(db, () => buildFromGrant(db, options, use));
    });
    renameSync(draft, file);
    return report;
  } finally {
    removeFile(draft);
  }
}

/** Throws what {@link createFromGrant} would throw, and changes nothing. */
export function tryGrant(options: SetupOptions, use: GrantUse): void {
  const { file } = options;
  checkGrant(use.grant);
  const exists = existsSync(file);
  if (exists) requireDatabase(file);
  withFile(exists ? file : ':memory:', (db) => {
    if (hasMetadata(db)) {
      requireSameLibrary(db, file, use.grant);
      // Before anybody becomes a member: its node must not run when the records are written.
      lockLibrary(file)();
      return;
    }
    db.exec('BEGIN');
    try {
      if (exists) adoptGrant(db, options, use);
      else buildFromGrant(db, options, use);
    } finally {
      db.exec('ROLLBACK');
    }
  });
}

/** Makes a newcomer's library of a grant in an empty database. The caller's transaction decides whether it stays. */
export function buildFromGrant(db: Database, options: SetupOptions, use: GrantUse): InitReport {
  runDdl(db, use.grant.ddl);
  return adoptGrant(db, options, use);
}

/**
 * Joining again with a library of the same id takes over who is a member, and changes nothing else: after a crash in the middle, or
 * when this device was a member before.
 */
function rejoin(db: Database, { file, around }: SetupOptions, grant: JoinGrant): InitReport {
  requireSameLibrary(db, file, grant);
  const unlock = lockLibrary(file);
  try {
    const { library } = new Served(db, around, () => undefined);
    library.transact(() => takeMembership(library, grant));
  } finally {
    unlock();
  }
  return reportExisting(db, file, null);
}

function requireSameLibrary(db: Database, file: string, grant: JoinGrant): void {
  if (getState(db, 'library') !== grant.libraryId) {
    throw new FlotillaError(
      'ALREADY_INITIALISED',
      `${file} belongs to another library already: join with another file.`,
    );
  }
}

/** Takes over the records of membership of a grant, those that are signed. */
function takeMembership(library: Library, grant: JoinGrant): void {
  const { records } = screenRecords(library, decodeBatch(grant.membership));
  if (records === null) return;
  library.db.pragma('defer_foreign_keys = ON');
  library.withoutCapture(() => takeRecords(library, records));
}

function adoptGrant(db: Database, options: SetupOptions, { grant, existing }: GrantUse): InitReport {
  const config = parseConfig(grant.config, 'the invitation');
  requireFreeNames(db);
  const library = createLibrary(db, options.around, grant.libraryId, config);
  const { registry } = library;
  if (registry.schemaHash !== grant.schema) {
    throw new FlotillaError(
      'SCHEMA_MISMATCH',
      `The tables of ${options.file} are not those of the library to join: join with a new file, or bring both to the same schema first.`,
    );
  }
  const rows = [...countRows(db, registry).values()].reduce((sum, count) => sum + count, 0);
  if (rows > 0 && existing === 'empty') {
    throw new FlotillaError(
      'LIBRARY_NOT_EMPTY',
      `${options.file} has ${rows} rows already. Say what they are: --union if they are all new, --same if it is a copy of the library.`,
    );
  }
  library.transact(() => {
    takeMembership(library, grant);
    library.count('batchesIn', 1);
    markNewcomer(library);
  });
  if (existing === 'same' && rows > 0) setState(db, 'adopting', 1);
  const stampedRows = existing === 'union' ? stampEverything(library) : 0;
  return {
    libraryId: grant.libraryId,
    tables: tableReports(registry, countRows(db, registry)),
    stampedRows,
    created: true,
  };
}

/** Writes metadata, map tables and triggers of a new library, and opens it. The caller's transaction decides whether it stays. */
export function createLibrary(db: Database, around: Surroundings, libraryId: string, config: LoadedConfig): Library {
  createMetadata(db, libraryId, config.text, around.device);
  const raw = readRegistry(db, config.config, new Map());
  const known = firstKnown(raw, config.config);
  writeKnown(db, known);
  const registry = join(raw, known);
  for (const model of registry.models) createMap(db, model);
  guardTriggers(db, registry);
  // Last: ours must be the youngest triggers of their tables (`capture.ts`).
  installCapture(db, registry);
  noteSchema(db, registry);
  return new Library(db, registry, around);
}

function stampEverything(library: Library): number {
  return library.transact(() => {
    // The rows are there now: what their insertion marked says nothing more than that.
    library.sql.run('DELETE FROM flotilla_marks');
    let rows = 0;
    for (const model of library.registry.models) {
      const stamped = stampExisting(library, model, library.around.now());
      if (!model.table.startsWith('flotilla_')) rows += stamped;
    }
    return rows;
  });
}

function countRows(db: Database, registry: Registry): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { table } of registry.models) {
    if (table.startsWith('flotilla_')) continue;
    counts.set(
      table,
      db
        .prepare(`SELECT count(*) FROM ${quoteName(table)}`)
        .pluck()
        .get() as number,
    );
  }
  return counts;
}

function inTransaction<T>(db: Database, work: () => T): T {
  return db.transaction(work).immediate();
}

function withFile<T>(file: string, work: (db: Database) => T): T {
  let db: Database | null = null;
  try {
    db = openForWriting(file, 'full');
    return work(db);
  } catch (error) {
    throw explainSqlite(error, file);
  } finally {
    db?.close();
  }
}

function removeFile(file: string): void {
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(`${file}${suffix}`, { force: true });
}
