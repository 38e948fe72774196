/**
 * What a newcomer needs to build the same library: the DDL of the tables, indexes, views and triggers (those that write to
 * synced tables with their guard, `guard.ts`), without what needs an extension; the configuration; the records of membership. And the
 * check of all that on the other side.
 */
import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import { encodeBatch } from '../protocol/batch.ts';
import type { JoinGrant } from './api.ts';
import { MEMBERSHIP_TABLE, isInternal } from './choose.ts';
import { foldName, formatConfig } from './config.ts';
import type { TableConfig } from './config.ts';
import { getState } from './metadata.ts';
import type { Registry } from './model.ts';
import { NO_END, PageBuilder, readVersions, versionSelect } from './page.ts';
import type { RunInfo } from './page.ts';
import { pruneConfig } from './renames.ts';
import { storedConfig } from './serving.ts';
import type { Statements } from './sql.ts';

/** Virtual table modules that every SQLite of ours has, and that a newcomer can build empty. */
const KNOWN_MODULES = ['fts3', 'fts4', 'fts5', 'rtree', 'rtree_i32'];
/** What a grant may hold: anything else is not executed. */
const ALLOWED =
  /^(?:CREATE\s+(?:TABLE|VIRTUAL\s+TABLE|INDEX|UNIQUE\s+INDEX|VIEW|TRIGGER)\b|PRAGMA\s+user_version\s*=\s*-?\d+\s*$)/i;
/** Statements of one grant: far beyond any schema written by people. */
const MAX_STATEMENTS = 10_000;

/** Reads what to give to a newcomer. */
export function readGrant(
  db: Database,
  sql: Statements,
  registry: Registry,
  runOf: (ordinal: number) => RunInfo,
): JoinGrant {
  const ddl: string[] = [];
  const omitted: { name: string; reason: string }[] = [];
  const shadows = new Set(
    (db
      .prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'")
      .pluck()
      .all() as string[]) ?? [],
  );
  const objects = db
    .prepare(
      `SELECT type, name, tbl_name AS tableName, sql FROM sqlite_schema WHERE sql IS NOT NULL
       ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 WHEN 'view' THEN 2 ELSE 3 END, rowid`,
    )
    .all() as { type: string; name: string; tableName: string; sql: string }[];
  for (const object of objects) {
    if (
      isInternal(object.name) ||
      isInternal(object.tableName) ||
      object.name.startsWith('sqlite_') ||
      shadows.has(object.name)
    )
      continue;
    const reason = reasonToOmit(object);
    if (reason === null) ddl.push(object.sql);
    else omitted.push({ name: object.name, reason });
  }
  ddl.push(`PRAGMA user_version = ${Number(db.pragma('user_version', { simple: true }))}`);
  return {
    libraryId: String(getState(db, 'library')),
    ddl,
    omitted,
    config: grantConfig(db, registry),
    schema: registry.schemaHash,
    membership: readAll(sql, registry, MEMBERSHIP_TABLE, runOf),
  };
}

/** The configuration for a newcomer: what tables and columns are called on the wire counts as what they were called before. */
export function grantConfig(db: Database, registry: Registry): string {
  const config = pruneConfig(db, storedConfig(db));
  const tables: Record<string, TableConfig> = {};
  for (const [name, { renamedFrom: _from, renamedColumns: _columns, ...settings }] of Object.entries(
    config.tables ?? {},
  ))
    tables[name] = settings;
  for (const model of registry.models) {
    const columns = model.columns.filter(({ name, wire }) => name !== wire).map(({ name, wire }) => [name, wire]);
    if (model.wire === model.table && columns.length === 0) continue;
    const own = Object.keys(tables).find((name) => foldName(name) === foldName(model.table)) ?? model.table;
    tables[own] = {
      ...tables[own],
      ...(model.wire === model.table ? {} : { renamedFrom: model.wire }),
      ...(columns.length === 0 ? {} : { renamedColumns: Object.fromEntries(columns) as Record<string, string> }),
    };
  }
  return formatConfig(Object.keys(tables).length === 0 ? config : { ...config, tables });
}

function reasonToOmit(object: { type: string; sql: string }): string | null {
  if (object.type !== 'table') return null;
  const module = /^CREATE\s+VIRTUAL\s+TABLE\s+.*?\bUSING\s+(\w+)/is.exec(object.sql)?.[1]?.toLowerCase();
  return module === undefined || KNOWN_MODULES.includes(module) ? null : `it needs the extension ${module}`;
}

/** All rows of an internal table, as a batch that is no page of a feed. */
export function readAll(
  sql: Statements,
  registry: Registry,
  table: string,
  runOf: (ordinal: number) => RunInfo,
): Uint8Array {
  const model = registry.byName.get(table);
  if (model === undefined) throw new FlotillaError('DATABASE', `The library has no table ${table}.`);
  const builder = new PageBuilder(sql, registry, runOf);
  builder.addVersions(model, readVersions(sql, model, versionSelect(model, registry, ''), []));
  return encodeBatch(builder.build(NO_END));
}

/** Throws unless every statement of a grant is one that builds a schema. */
export function checkGrant(grant: JoinGrant): void {
  const bad =
    grant.ddl.length > MAX_STATEMENTS ? '…' : grant.ddl.find((statement) => !ALLOWED.test(statement.trimStart()));
  if (bad !== undefined) {
    throw new FlotillaError(
      'PROTOCOL',
      `The inviting device sent a statement that builds no schema: ${bad.slice(0, 60)}. Nothing was done.`,
    );
  }
}

/** Builds the schema in an empty database. */
export function runDdl(db: Database, ddl: readonly string[]): void {
  for (const statement of ddl) {
    // `prepare` takes one statement and refuses more, so that nothing can ride along.
    if (/^PRAGMA/i.test(statement)) db.pragma(statement.replace(/^PRAGMA\s+/i, ''));
    else db.prepare(statement).run();
  }
}
