/**
 * `flotilla doctor`: reads a library, initialised or not, without changing it, and says what syncs, what does not and why, and
 * what a person should know or mend. Every table that cannot sync is told of, not only the first one.
 */
import type { Database } from 'better-sqlite3';

import { FlotillaError, messageOf } from '../errors.ts';
import { adviceOn } from './advice.ts';
import type { Examination, Finding } from './api.ts';
import { isInternal, takenInWords, takenNames } from './choose.ts';
import { loadConfig } from './config.ts';
import { numbersOf, readKnown } from './known.ts';
import { getState, hasMetadata } from './metadata.ts';
import { pruneConfig } from './renames.ts';
import { isUpToDate, storedConfig } from './serving.ts';
import type { Registry } from './model.ts';
import { quoteName } from './model.ts';
import { explainSqlite, openForReading, requireDatabase } from './open.ts';
import { tableReports } from './report.ts';
import { readRegistry } from './schema.ts';
import { reasonUnusable } from './usable.ts';

/** How SQLite begins to say that a foreign key refers to no unique columns. */
const FOREIGN_KEY_MISMATCH = 'foreign key mismatch';

/** Names of findings that stand for an error that `init` would raise. */
const RULES = {
  NO_PRIMARY_KEY: 'no-primary-key',
  UNSUPPORTED_SCHEMA: 'unsupported',
  CONFIG: 'configuration',
} as const;

/**
 * Examines a file. Nothing in it is changed.
 * @param configPath - the configuration that `init` would be given; a library that is initialised has its own
 * @throws FlotillaError NO_SUCH_FILE, NOT_A_DATABASE, DATABASE, FORMAT_TOO_NEW
 */
export function examineFile(file: string, configPath: string | null): Examination {
  requireDatabase(file);
  let db: Database | null = null;
  try {
    db = openForReading(file);
    // One snapshot, whatever is written meanwhile.
    db.exec('BEGIN');
    return examine(db, file, configPath);
  } catch (error) {
    throw explainSqlite(error, file);
  } finally {
    db?.close();
  }
}

function examine(db: Database, file: string, configPath: string | null): Examination {
  const initialised = hasMetadata(db);
  const findings: Finding[] = [];
  const refuse = (table: string, error: FlotillaError): void => {
    findings.push({ level: 'refusal', rule: ruleOf(error), table, message: error.message });
  };
  if (!initialised) {
    for (const taken of takenNames(db))
      findings.push({ level: 'refusal', rule: 'name-taken', table: taken.name, message: takenInWords(taken) });
  }
  const registry = readTolerantly(db, file, configPath, initialised, refuse);
  const unusable = new Set<string>();
  if (registry !== null) {
    for (const model of registry.models) {
      const reason = reasonUnusable(db, model);
      if (reason === null) continue;
      unusable.add(model.table);
      // A foreign key that fits nothing is told of where it stands, not wherever it gets in the way.
      if (!reason.includes(FOREIGN_KEY_MISMATCH))
        findings.push({ level: 'refusal', rule: 'unusable', table: model.table, message: reason });
    }
    if (initialised && findings.length === 0 && !isUpToDate(db)) {
      const message =
        'The tables may have changed since the node ran last. It follows them when it starts, and says what it found.';
      findings.push({ level: 'advice', rule: 'schema-changed', table: '', message });
    }
    findings.push(...violations(db, unusable), ...adviceOn(db, registry, unusable));
  }
  return {
    initialised,
    libraryId: initialised ? String(getState(db, 'library')) : '',
    ok: findings.every((finding) => finding.level === 'advice'),
    tables: registry === null ? [] : tableReports(registry, countRows(db, registry, unusable)),
    findings,
  };
}

/** The registry without the tables that cannot sync; null when nothing can be read at all. */
function readTolerantly(
  db: Database,
  file: string,
  configPath: string | null,
  initialised: boolean,
  refuse: (table: string, error: FlotillaError) => void,
): Registry | null {
  try {
    if (initialised) return readRegistry(db, pruneConfig(db, storedConfig(db)), numbersOf(readKnown(db)), refuse);
    return readRegistry(db, loadConfig(file, configPath ?? undefined).config, new Map(), refuse);
  } catch (error) {
    if (!(error instanceof FlotillaError) || !(error.code in RULES)) throw error;
    refuse('', error);
    return null;
  }
}

function ruleOf(error: FlotillaError): string {
  return RULES[error.code as keyof typeof RULES] ?? 'unsupported';
}

/** Rows that refer to nothing, one finding for each foreign key; and foreign keys that cannot refer to anything. */
function violations(db: Database, unusable: ReadonlySet<string>): Finding[] {
  const tables = db
    .prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name")
    .pluck()
    .all() as string[];
  return tables
    .filter((table) => !isInternal(table) && !unusable.has(table))
    .flatMap((table) => violationsOf(db, table));
}

function violationsOf(db: Database, table: string): Finding[] {
  let rows: { parent: string; count: number }[];
  try {
    rows = db
      .prepare('SELECT parent, count(*) AS count FROM pragma_foreign_key_check(?) GROUP BY parent, fkid')
      .all(table) as typeof rows;
  } catch (error) {
    if (!messageOf(error).startsWith(FOREIGN_KEY_MISMATCH)) throw error;
    const message = `SQLite cannot check the foreign keys of "${table}": ${messageOf(error)}. Let them refer to a primary key or to UNIQUE columns.`;
    return [{ level: 'problem', rule: 'foreign-key-mismatch', table, message }];
  }
  return rows.map(({ parent, count }) => ({
    level: 'problem',
    rule: 'foreign-key',
    table,
    message:
      `${count === 1 ? '1 row refers' : `${count} rows refer`} to a row of "${parent}" that does not exist; they stay on this device ` +
      `until it does. PRAGMA foreign_key_check(${quoteName(table)}) lists them: mend or delete them.`,
  }));
}

function countRows(db: Database, registry: Registry, unusable: ReadonlySet<string>): Map<string, number> {
  const count = (table: string): number =>
    Number(
      db
        .prepare(`SELECT count(*) FROM ${quoteName(table)}`)
        .pluck()
        .get(),
    );
  const readable = registry.models.filter(({ table }) => !unusable.has(table));
  return new Map(readable.map(({ table }) => [table, count(table)]));
}
