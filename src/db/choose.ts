/**
 * Which tables of a library sync. Everything that is left out gets a sentence that says why.
 */
import type { Database } from 'better-sqlite3';
import { FlotillaError } from '../errors.ts';
import { MAX_NAME_BYTES } from '../protocol/batch.ts';
import { foldName, tableConfig } from './config.ts';
import type { Config, TableConfig } from './config.ts';

/** The internal table of records of membership: it syncs, but is no part of the user's schema. */
export const MEMBERSHIP_TABLE = 'flotilla_membership';

/** The internal table of transfers of ownership; it syncs too. */
export const TRANSFERS_TABLE = 'flotilla_transfers';

/** Internal tables that sync, with their numbers in every file: the user's begin at 1, and stay below the second. */
export const INTERNAL_TABLES: ReadonlyMap<string, number> = new Map([
  [MEMBERSHIP_TABLE, 0],
  [TRANSFERS_TABLE, 100_000],
]);

/** A table as `PRAGMA table_list` shows it. */
export interface TableEntry {
  readonly name: string;
  readonly type: 'table' | 'view' | 'virtual' | 'shadow';
  readonly wr: number;
  readonly strict: number;
}

/** True for tables that belong to SQLite or to Flotilla. */
export function isInternal(table: string): boolean {
  return /^(?:sqlite|flotilla)_/i.test(table);
}

/**
 * Throws when something in a database that is no library yet has a name that begins with ours: it would be taken for
 * metadata, or would be in its way.
 */
export function requireFreeNames(db: Database): void {
  const [taken] = takenNames(db);
  if (taken !== undefined) throw unsupported(takenInWords(taken));
}

/** What of a database that is no library yet has a name of ours. */
export function takenNames(db: Database): Array<{ type: string; name: string }> {
  return select<{ type: string; name: string }>(
    db,
    `SELECT type, name FROM main.sqlite_schema WHERE lower(name) GLOB 'flotilla_*' ORDER BY rowid`,
  );
}

export function takenInWords({ type, name }: { type: string; name: string }): string {
  return `The ${type} "${name}" has a name that begins with flotilla_, which Flotilla keeps for itself. Rename it, then initialise the library.`;
}

/** Divides the tables of a library into those that sync and those that do not, with the reason. */
export function chooseTables(
  db: Database,
  config: Config,
): { chosen: TableEntry[]; left: Array<{ table: string; reason: string }> } {
  const entries = select<TableEntry>(
    db,
    `SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name COLLATE BINARY`,
  );
  const names = new Set(entries.map((entry) => foldName(entry.name)));
  const unknown = Object.keys(config.tables ?? {}).find((name) => !names.has(foldName(name)));
  if (unknown !== undefined) {
    throw badConfig(
      `The configuration names the table "${unknown}", which the library does not have. Correct the name.`,
    );
  }
  const absentModules = tablesOfAbsentModules(db);
  const chosen: TableEntry[] = [];
  const left: Array<{ table: string; reason: string }> = [];
  for (const entry of entries) {
    const settings = tableConfig(config, entry.name);
    const reason = INTERNAL_TABLES.has(entry.name) ? '' : reasonToLeave(entry, settings, absentModules);
    if (reason === '') chosen.push(entry);
    else left.push({ table: entry.name, reason });
    if (reason !== '' && settings.sync === true) {
      throw badConfig(`The configuration wants "${entry.name}" to sync, but that is impossible: ${reason}`);
    }
  }
  return { chosen, left };
}

function reasonToLeave(entry: TableEntry, settings: TableConfig, absentModules: readonly string[]): string {
  if (/^sqlite_/i.test(entry.name)) return 'It belongs to SQLite.';
  if (isInternal(entry.name)) return 'It belongs to Flotilla.';
  if (entry.type === 'view') return 'It is a view; the tables it reads from sync.';
  if (entry.type === 'virtual') return 'It is a virtual table; each device fills its own.';
  if (entry.type === 'shadow') return 'It is the storage of a virtual table.';
  if (settings.sync === false) return 'The configuration leaves it out.';
  const owner = absentModules.find((virtual) => foldName(entry.name).startsWith(`${foldName(virtual)}_`));
  if (owner === undefined || settings.sync === true) return '';
  return `It looks like storage of the virtual table "${owner}", whose module is not loaded here; set "sync": true if not.`;
}

/** Virtual tables whose module is unknown here: SQLite cannot tell which tables are their storage. */
function tablesOfAbsentModules(db: Database): string[] {
  const modules = new Set(
    select<{ name: string }>(db, 'SELECT name FROM pragma_module_list').map((row) => foldName(row.name)),
  );
  return select<{ name: string; sql: string }>(
    db,
    `SELECT name, sql FROM main.sqlite_schema WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%'`,
  )
    .filter(({ sql }) => {
      const module = /\bUSING\s+(?:["'`[]([^"'`\]]+)["'`\]]|(\w+))/i.exec(sql);
      return !modules.has(foldName(module?.[1] ?? module?.[2] ?? ''));
    })
    .map(({ name }) => name);
}

/** Refuses names that a batch cannot carry (`protocol/batch.ts`). */
export function checkNames(table: string, columns: readonly string[]): void {
  const isBad = (name: string): boolean =>
    name === '' || name === '__proto__' || Buffer.byteLength(name) > MAX_NAME_BYTES;
  const bad = [table, ...columns].find(isBad);
  if (bad === undefined) return;
  const what = bad === '' ? 'an empty name' : `the name "${bad.slice(0, 60)}"`;
  throw unsupported(
    `The table "${table.slice(0, 60)}" or a column of it has ${what}, which cannot sync. Rename it, or set "sync": false.`,
  );
}

export function unsupported(message: string): FlotillaError {
  return new FlotillaError('UNSUPPORTED_SCHEMA', message);
}

export function badConfig(message: string): FlotillaError {
  return new FlotillaError('CONFIG', message);
}

export function select<Row>(db: Database, sql: string, ...values: string[]): Row[] {
  return db
    .prepare(sql)
    .safeIntegers(false)
    .all(...values) as Row[];
}
