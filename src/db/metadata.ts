/**
 * The metadata tables inside the library file: what they are and how they come to be (docs/architecture.md tells what
 * each is for). Whatever must agree with the data in one commit is here; what may be lost is in the home folder.
 */
import type { Database, Statement } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import type { Model } from './model.ts';
import { rowsTable } from './model.ts';

/** Version of the metadata format. 1: first release. */
export const FORMAT_VERSION = 1;

// No constraint on the marks: with one, SQLite keeps a statement journal for each row that any program writes (measured:
// 1.5 times the bulk insert instead of 1.2), and an outer OR IGNORE could drop a mark unseen.
const TABLES = `
CREATE TABLE flotilla_state (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE flotilla_clock (id INTEGER PRIMARY KEY CHECK (id = 1), hlc INTEGER NOT NULL, head INTEGER NOT NULL);
CREATE TABLE flotilla_capture (id INTEGER PRIMARY KEY CHECK (id = 1), suspended INTEGER NOT NULL);
CREATE TABLE flotilla_self (id INTEGER PRIMARY KEY CHECK (id = 1), device TEXT NOT NULL);
CREATE TABLE flotilla_counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE flotilla_tables (n INTEGER PRIMARY KEY, name TEXT UNIQUE, wire TEXT NOT NULL UNIQUE, described TEXT);
CREATE TABLE flotilla_columns (
  tbl INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT, wire TEXT NOT NULL, since INTEGER NOT NULL, described TEXT,
  PRIMARY KEY (tbl, number), UNIQUE (tbl, wire)
) WITHOUT ROWID;
CREATE TABLE flotilla_runs (run INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, device TEXT);
CREATE TABLE flotilla_openings (first_lsn INTEGER PRIMARY KEY, run INTEGER NOT NULL);
CREATE TABLE flotilla_marks (n INTEGER PRIMARY KEY, tbl INTEGER, op INTEGER, old, new, at INTEGER, mask INTEGER, owner);
CREATE TABLE flotilla_tombstones (
  uuid BLOB PRIMARY KEY, tbl INTEGER NOT NULL, birth_hlc INTEGER NOT NULL, birth_run INTEGER NOT NULL,
  hlc INTEGER NOT NULL, run INTEGER NOT NULL, lsn INTEGER NOT NULL, seen TEXT, version BLOB, alias BLOB
) WITHOUT ROWID;
CREATE INDEX flotilla_tombstones_lsn ON flotilla_tombstones (lsn);
CREATE TABLE flotilla_pending (
  uuid BLOB PRIMARY KEY, tbl INTEGER NOT NULL, birth_hlc INTEGER NOT NULL, birth_run INTEGER NOT NULL,
  hlc INTEGER NOT NULL, run INTEGER NOT NULL, lsn INTEGER NOT NULL,
  reason TEXT NOT NULL, detail TEXT NOT NULL, version BLOB
) WITHOUT ROWID;
CREATE INDEX flotilla_pending_lsn ON flotilla_pending (lsn) WHERE version IS NOT NULL;
CREATE TABLE flotilla_waits (target BLOB, uuid BLOB, PRIMARY KEY (target, uuid)) WITHOUT ROWID;
CREATE INDEX flotilla_waits_uuid ON flotilla_waits (uuid);
CREATE TABLE flotilla_behind (uuid BLOB, hlc INTEGER, run INTEGER, PRIMARY KEY (uuid, hlc, run)) WITHOUT ROWID;
CREATE TABLE flotilla_knowledge (run INTEGER PRIMARY KEY, hlc INTEGER NOT NULL);
CREATE TABLE flotilla_cursors (peer TEXT PRIMARY KEY, position INTEGER NOT NULL, head INTEGER NOT NULL, run TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE flotilla_acks (peer TEXT PRIMARY KEY, position INTEGER NOT NULL, complete INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE flotilla_membership (id BLOB PRIMARY KEY, record TEXT NOT NULL, signature BLOB NOT NULL);
CREATE TABLE flotilla_heard (device TEXT NOT NULL, run INTEGER NOT NULL, hlc INTEGER NOT NULL, PRIMARY KEY (device, run)) WITHOUT ROWID;
CREATE TABLE flotilla_seen (device TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE flotilla_floor (run INTEGER PRIMARY KEY, hlc INTEGER NOT NULL);
CREATE TABLE flotilla_members (
  device TEXT PRIMARY KEY, name TEXT NOT NULL, term INTEGER NOT NULL, invited_by TEXT NOT NULL, added_at INTEGER NOT NULL,
  revoked_by TEXT, revoked_at INTEGER
) WITHOUT ROWID;
CREATE TABLE flotilla_transfers (
  id INTEGER PRIMARY KEY, tbl TEXT NOT NULL, root BLOB NOT NULL, device TEXT NOT NULL, at INTEGER NOT NULL
);
CREATE INDEX flotilla_transfers_root ON flotilla_transfers (root);
CREATE TABLE flotilla_conflicts (
  id INTEGER PRIMARY KEY, at INTEGER NOT NULL, tbl INTEGER NOT NULL, uuid BLOB NOT NULL, col TEXT, rule TEXT NOT NULL,
  lost, lost_hlc INTEGER NOT NULL, lost_run INTEGER NOT NULL, kept, kept_hlc INTEGER NOT NULL, kept_run INTEGER NOT NULL,
  restored_at INTEGER
);
CREATE UNIQUE INDEX flotilla_conflicts_once ON flotilla_conflicts (uuid, ifnull(col, ''), lost_hlc, lost_run, kept_hlc, kept_run);
CREATE INDEX flotilla_conflicts_at ON flotilla_conflicts (at);
INSERT INTO flotilla_clock (id, hlc, head) VALUES (1, 0, 0);
INSERT INTO flotilla_capture (id, suspended) VALUES (1, 0);
`;

/** Creates the metadata tables of a new library. The caller's transaction decides whether they stay. */
export function createMetadata(db: Database, libraryId: string, config: string, device: string): void {
  db.exec(TABLES);
  setState(db, 'format', FORMAT_VERSION);
  setState(db, 'library', libraryId);
  setState(db, 'config', config);
  // As it was given; the one above follows renames.
  setState(db, 'given', config);
  db.prepare('INSERT INTO flotilla_self (id, device) VALUES (1, ?)').run(device);
}

/** Creates the map table of a table: local key → UUID, birth stamp, change stamp, lsn, stamps of single columns, values set aside. */
export function createMap(db: Database, model: Model): void {
  const keys = model.rowid === null ? model.key.map((_, index) => `k${index + 1}`) : [];
  const columns = keys.map((name, index) => `, ${name} COLLATE ${model.keyCollations[index] ?? 'BINARY'}`).join('');
  const name = rowsTable(model);
  db.exec(`
    CREATE TABLE ${name} (
      key INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, birth_hlc INTEGER NOT NULL, birth_run INTEGER NOT NULL,
      hlc INTEGER NOT NULL, run INTEGER NOT NULL, lsn INTEGER NOT NULL, cells TEXT, aside BLOB${columns}
    );
    CREATE INDEX ${name}_lsn ON ${name} (lsn);
    ${keys.length > 0 ? `CREATE UNIQUE INDEX ${name}_key ON ${name} (${keys.join(', ')});` : ''}
  `);
}

/** In the state while stamps are given anew (`anew.ts`): how far that is. */
export const ANEW = 'anew';

/**
 * A query that finds something while a page, a digest or a snapshot must wait: what a program wrote has no stamp yet, or stamps are being
 * given anew.
 */
export const UNSTAMPED = `SELECT 1 FROM flotilla_marks UNION ALL SELECT 1 FROM flotilla_state WHERE key = '${ANEW}' LIMIT 1`;

/** True when the file has Flotilla metadata; throws when it is of a later format than this program knows. */
export function hasMetadata(db: Database): boolean {
  const found = db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'flotilla_state'").get();
  if (found === undefined) return false;
  const format = getState(db, 'format');
  if (typeof format === 'number' && format > FORMAT_VERSION) {
    throw new FlotillaError(
      'FORMAT_TOO_NEW',
      `This library has metadata of format ${format}, this program knows ${FORMAT_VERSION}: install a newer Flotilla on this device.`,
    );
  }
  return true;
}

export function getState(db: Database, key: string): unknown {
  let statement = stateOf.get(db);
  if (statement === undefined) {
    statement = db.prepare('SELECT value FROM flotilla_state WHERE key = ?').pluck();
    stateOf.set(db, statement);
  }
  return statement.get(key);
}

/** Asked several times a batch. */
const stateOf = new WeakMap<Database, Statement>();

export function setState(db: Database, key: string, value: string | number): void {
  db.prepare(
    'INSERT INTO flotilla_state (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
  ).run(key, value);
}
