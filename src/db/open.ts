/**
 * Opening library files: SQLite's answers turned into errors that say what to do, the settings of our connections, and the
 * lock that keeps two nodes from one file.
 */
import { existsSync } from 'node:fs';

import Sqlite from 'better-sqlite3';
import type { Database } from 'better-sqlite3';

import { FlotillaError, messageOf } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';

/** How long a connection of ours waits for another program's write transaction, ms. */
const BUSY_TIMEOUT_MS = 10_000;
/** Page cache of the writing connection, KiB. With 32 or 40 MiB nothing gets faster. */
const WRITE_CACHE_KIB = 24 * 1024;
/**
 * Changed pages that a transaction keeps in memory, KiB, before it writes some of them to the WAL ahead of its end: those of one over indexes of
 * random values, such as a batch makes in a large library, come again and would be written and read several times.
 */
const SPILL_KIB = 40 * 1024;
/** The same for a transaction that changes a whole library. */
const WHOLE_CACHE_KIB = 16 * 1024;
/** Page cache of a reading connection, KiB: it walks through, and what it reads again is in the system's cache. */
const READ_CACHE_KIB = 4 * 1024;
/**
 * Pages in the WAL before a commit checkpoints it: 64 MiB. At SQLite's own 1,000 a backfill writes the same index pages to
 * the file, with an fsync, several times a second; at 4,000 each large transaction does.
 */
const CHECKPOINT_PAGES = 16_000;
/** What SQLite leaves in the WAL unless it is told otherwise, pages: more than that the next program that commits would move to the file. */
const USUAL_WAL_PAGES = 1_000;

/** Codes of SQLite errors that people can do something about. */
const KNOWN_FAULTS: ReadonlyArray<readonly [prefix: string, code: ErrorCode, advice: string]> = [
  ['SQLITE_NOTADB', 'NOT_A_DATABASE', 'the file is not an SQLite database: give the path of your library file'],
  ['SQLITE_FULL', 'DISK_FULL', 'the disk is full: make room, then it goes on'],
  ['SQLITE_READONLY', 'READ_ONLY', 'the file or its folder cannot be written: check the permissions'],
  ['SQLITE_PERM', 'READ_ONLY', 'the file or its folder cannot be used: check the permissions'],
  ['SQLITE_CANTOPEN', 'READ_ONLY', 'the file or its folder cannot be opened: check that it exists and may be written'],
  ['SQLITE_BUSY', 'LOCKED', 'another program has held the database locked for too long: end its transaction'],
  ['SQLITE_IOERR', 'IO_ERROR', 'the disk reported an error: look at it and its connection, then it goes on'],
  ['SQLITE_CORRUPT', 'DATABASE', 'the database is damaged: restore a copy, or join again from another device'],
];

/** What a person should know of an error that SQLite raised; errors of our own pass unchanged. */
export function explainSqlite(error: unknown, file: string): FlotillaError {
  if (error instanceof FlotillaError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const known = KNOWN_FAULTS.find(([prefix]) => code.startsWith(prefix));
  if (known !== undefined)
    return new FlotillaError(known[1], `${file}: ${known[2]} (${messageOf(error)}).`, { cause: error });
  return new FlotillaError('DATABASE', `${file}: ${messageOf(error)}.`, { cause: error });
}

/** Throws unless `file` is there and begins like an SQLite database (or is empty, which SQLite takes for a new one). */
export function requireDatabase(file: string): void {
  if (!existsSync(file)) {
    throw new FlotillaError(
      'NO_SUCH_FILE',
      `There is no file ${file}: check the path, or get it with "flotilla join".`,
    );
  }
  // By SQLite alone: closing any descriptor of ours would take away the locks that its connections in this process hold on
  // the file (POSIX), and another program would then throw the WAL away under a running node.
  const db = new Sqlite(file, { readonly: true, timeout: BUSY_TIMEOUT_MS });
  try {
    db.pragma('schema_version');
  } catch (error) {
    throw explainSqlite(error, file);
  } finally {
    db.close();
  }
}

/** Opens a connection for writing, with foreign keys on. */
export function openForWriting(file: string, durability: 'normal' | 'full'): Database {
  return connect(file, {}, [
    'foreign_keys = ON',
    `synchronous = ${durability === 'full' ? 'FULL' : 'NORMAL'}`,
    `cache_size = -${WRITE_CACHE_KIB}`,
    `cache_spill = -${SPILL_KIB}`,
    `wal_autocheckpoint = ${CHECKPOINT_PAGES}`,
  ]);
}

/**
 * Does what changes a whole library in one transaction: what it changes goes to the WAL as soon as the page cache is full, since it comes to
 * more than any memory in the end.
 */
export function changingAll<T>(db: Database, work: () => T): T {
  db.pragma(`cache_size = -${WHOLE_CACHE_KIB}`);
  db.pragma('cache_spill = 1');
  try {
    return work();
  } finally {
    db.pragma(`cache_size = -${WRITE_CACHE_KIB}`);
    db.pragma(`cache_spill = -${SPILL_KIB}`);
  }
}

/** Opens a connection that cannot write. */
export function openForReading(file: string): Database {
  return connect(file, { readonly: true }, [`cache_size = -${READ_CACHE_KIB}`]);
}

/** Opens a connection that reads the library, and writes only what is attached to it: SQLite opens that as the first file was opened. */
export function openForCopying(file: string): Database {
  return connect(file, { fileMustExist: true }, [`cache_size = -${READ_CACHE_KIB}`]);
}

function connect(file: string, options: Sqlite.Options, pragmas: readonly string[]): Database {
  const db = new Sqlite(file, { ...options, timeout: BUSY_TIMEOUT_MS });
  try {
    for (const pragma of [...pragmas, 'temp_store = MEMORY']) db.pragma(pragma);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Write-ahead logging: readers and the writer do not wait for each other. Stays in the file. */
export function useWal(db: Database, file: string): void {
  const mode = db.pragma('journal_mode = WAL', { simple: true });
  if (mode !== 'wal' && mode !== 'memory') {
    throw new FlotillaError(
      'DATABASE',
      `${file}: the file system does not allow write-ahead logging (${String(mode)}): use a local disk.`,
    );
  }
}

/** Moves what the WAL holds to the file, so that no program has to whose commit comes next; not where it is little. */
export function emptyWal(db: Database): void {
  const pages = (mode: string): number => {
    const [{ log, checkpointed }] = db.pragma(`wal_checkpoint(${mode})`) as [{ log: number; checkpointed: number }];
    return log - checkpointed;
  };
  if (pages('NOOP') > USUAL_WAL_PAGES) pages('PASSIVE');
}

/**
 * Keeps other nodes from a library: an exclusive lock on a small file beside it, which the system gives back when the
 * process ends, however it ends. (A lock row in the library would stay behind after a crash.)
 */
export function lockLibrary(file: string): () => void {
  const lock = new Sqlite(`${file}-flotilla-lock`, { timeout: 0 });
  try {
    lock.pragma('journal_mode = DELETE');
    lock.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    lock.close();
    if (error instanceof Error && 'code' in error && String(error.code).startsWith('SQLITE_BUSY')) {
      throw new FlotillaError('LIBRARY_IN_USE', `${file} is in use by another Flotilla node: stop that one first.`, {
        cause: error,
      });
    }
    throw error;
  }
  return () => lock.close();
}
