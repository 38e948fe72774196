/**
 * Opening a file library the way any program would: better-sqlite3, plain SQL, nothing of Flotilla. The indexer, the
 * writer and the generator share it.
 */
import { readFileSync } from 'node:fs';
import Database from 'better-sqlite3';

/** Milliseconds a writer waits for another one's transaction (a node applies in slices far shorter than this). */
const BUSY_TIMEOUT_MS = 20_000;

/** Text of the schema, so that others can make the same tables. */
export const SCHEMA_SQL: string = readFileSync(new URL('schema.sql', import.meta.url), 'utf8');

/** Opens a library for writing; makes the file and its tables if they are not there. */
export function openLibrary(file: string): Database.Database {
  const db = new Database(file, { timeout: BUSY_TIMEOUT_MS });
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = NORMAL');
  db.pragma('foreign_keys = ON');
  const entries = db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'entries'").get();
  if (entries === undefined) db.exec(`BEGIN IMMEDIATE; ${SCHEMA_SQL} COMMIT;`);
  return db;
}

/** Extension of a file name as the schema wants it: lower case, without the dot, '' for none. */
export function extensionOf(name: string): string {
  const dot = name.lastIndexOf('.');
  return dot > 0 ? name.slice(dot + 1).toLowerCase() : '';
}

/** A small deterministic generator of numbers from 0 to 1 (mulberry32): the same seed gives the same library. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
