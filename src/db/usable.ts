/**
 * Whether plain SQLite can read and write the tables that sync: each statement that a merge would run is compiled, and
 * nothing is run. What a program registers for itself (functions, collations, modules of extensions) is not there in the node,
 * nor in the sqlite3 shell, and a row could neither be captured nor arrive.
 */
import type { Database } from 'better-sqlite3';

import { messageOf } from '../errors.ts';
import { CONFIG_FILE } from './config.ts';
import { unsupported } from './choose.ts';
import type { Model, Registry } from './model.ts';
import { quoteName } from './model.ts';

/** Why a table cannot be used here, as a sentence with a remedy; null when it can. */
export function reasonUnusable(db: Database, model: Model): string | null {
  const table = quoteName(model.table);
  const names = model.columns.map((column) => quoteName(column.name));
  const statements = [
    `SELECT ${names.join(', ')} FROM ${table} WHERE ${model.key.map((name) => `${quoteName(name)} IS NULL`).join(' AND ')}`,
    `INSERT INTO ${table} (${names.join(', ')}) VALUES (${names.map(() => 'NULL').join(', ')})`,
    `UPDATE ${table} SET ${names.map((name) => `${name} = NULL`).join(', ')}`,
    // With a condition, since without one SQLite may empty a table without looking at its rows.
    `DELETE FROM ${table} WHERE ${names[0] ?? '1'} IS NULL`,
  ];
  for (const statement of statements) {
    try {
      db.prepare(`EXPLAIN ${statement}`);
    } catch (error) {
      return (
        `The table "${model.table}" cannot be used by plain SQLite, as the node has it: ${messageOf(error)}. Mend that in its columns, ` +
        `constraints, indexes, triggers and foreign keys, or set "sync": false for it in ${CONFIG_FILE}.`
      );
    }
  }
  return null;
}

/** @throws FlotillaError UNSUPPORTED_SCHEMA for the first table that cannot be used */
export function requireUsable(db: Database, registry: Registry): void {
  for (const model of registry.models) {
    const reason = reasonUnusable(db, model);
    if (reason !== null) throw unsupported(reason);
  }
}
