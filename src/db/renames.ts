/**
 * What was renamed since the metadata was brought up to date last. SQLite itself tells: ALTER TABLE … RENAME rewrites the
 * text of our triggers, whose names and mask bits keep our numbers. Where a table was built anew, nothing is left of that,
 * and the configuration says it (`renamedFrom`, `renamedColumns`).
 */
import type { Database } from 'better-sqlite3';

import { INTERNAL_TABLES, isInternal } from './choose.ts';
import { foldName, tableConfig } from './config.ts';
import type { Config, TableConfig } from './config.ts';
import type { Known, KnownTable } from './known.ts';
import { LAST_MASK_BIT } from './capture.ts';

/** Where our triggers of a table are now, and what its columns are called in them, by number. */
export interface TriggerNames {
  /** Null when they are gone: the table was dropped, or built anew. */
  readonly table: string | null;
  readonly columns: ReadonlyMap<number, string>;
}

export function triggerNames(db: Database, n: number): TriggerNames {
  const rows = db
    .prepare("SELECT name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND name IN (?, ?)")
    .raw()
    .all(`flotilla_${n}_insert`, `flotilla_${n}_update`) as [string, string, string][];
  const columns = new Map<number, string>();
  const update = rows.find(([name]) => name.endsWith('_update'))?.[2] ?? '';
  const term =
    /OLD\.("(?:[^"]|"")*") IS NOT NEW\.\1 COLLATE BINARY(?: OR typeof\(OLD\.\1\) IS NOT typeof\(NEW\.\1\))?\) << (\d+)/g;
  for (const [, quoted = '', bit] of update.matchAll(term)) {
    // The last bit is shared by all columns from there on.
    if (Number(bit) < LAST_MASK_BIT) columns.set(Number(bit), quoted.slice(1, -1).replaceAll('""', '"'));
  }
  return { table: rows.find(([name]) => name.endsWith('_insert'))?.[1] ?? null, columns };
}

/** Names of the tables in the file that are not ours. */
export function tablesIn(db: Database): string[] {
  const names = db
    .prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name COLLATE BINARY")
    .pluck()
    .all() as string[];
  return names.filter((name) => INTERNAL_TABLES.has(name) || !isInternal(name));
}

/** The name that a known table has now; null when it is gone. */
export function tableNow(db: Database, config: Config, known: Known, table: KnownTable): string | null {
  if (table.name === null) return null;
  const tables = tablesIn(db);
  if (tables.includes(table.name)) return table.name;
  const isNew = (name: string): boolean => tables.includes(name) && !known.some((other) => other.name === name);
  const moved = triggerNames(db, table.n).table;
  if (moved !== null && isNew(moved)) return moved;
  const declared = tables.find((name) => {
    const from = tableConfig(config, name).renamedFrom;
    return from !== undefined && isNew(name) && foldName(from) === foldName(table.name ?? '');
  });
  return declared ?? null;
}

/** The name that a known column has now; null when it is gone. @param present - the columns of the table */
export function columnNow(
  table: KnownTable,
  names: TriggerNames,
  settings: TableConfig,
  present: readonly string[],
  column: { readonly number: number; readonly name: string },
): string | null {
  // Triggers first: the old name may be that of a new column by now.
  const moved = names.columns.get(column.number);
  if (moved !== undefined && present.includes(moved)) return moved;
  if (present.includes(column.name)) return column.name;
  const isNew = (name: string): boolean =>
    present.includes(name) && !table.columns.some((other) => other.name === name);
  const declared = Object.entries(settings.renamedColumns ?? {}).find(
    ([, before]) => foldName(before) === foldName(column.name),
  )?.[0];
  return present.find((name) => declared !== undefined && foldName(name) === foldName(declared) && isNew(name)) ?? null;
}

export function columnNames(db: Database, table: string): string[] {
  return db.prepare("SELECT name FROM pragma_table_xinfo(?, 'main')").pluck().all(table) as string[];
}

/** The configuration without tables and local columns that the file does not have: they may come back. */
export function pruneConfig(db: Database, config: Config): Config {
  if (config.tables === undefined) return config;
  const here = new Set([...tablesIn(db), ...viewsIn(db)].map(foldName));
  const entries = Object.entries(config.tables).filter(([name]) => here.has(foldName(name)));
  const tables = entries.map(([name, { localColumns, ...settings }]): [string, TableConfig] => {
    if (localColumns === undefined) return [name, settings];
    const present = new Set(columnNames(db, name).map(foldName));
    return [name, { ...settings, localColumns: localColumns.filter((column) => present.has(foldName(column))) }];
  });
  return { ...config, tables: Object.fromEntries(tables) };
}

function viewsIn(db: Database): string[] {
  return db
    .prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'table'")
    .pluck()
    .all() as string[];
}
