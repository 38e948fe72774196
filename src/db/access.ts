/**
 * How the services of the database workers reach their file, and time. It is passed in, so that a simulated fleet runs the same
 * services on libraries in memory, in virtual time.
 */
import { setImmediate as breathe } from 'node:timers/promises';

import type { Database } from 'better-sqlite3';

import {
  explainSqlite,
  lockLibrary,
  openForCopying,
  openForReading,
  openForWriting,
  requireDatabase,
  useWal,
} from './open.ts';
import { watchCommits } from './watch.ts';

/** An open connection, and the way to end it with all that was opened for it. */
export interface OpenFile {
  readonly db: Database;
  close(): void;
}

interface Surrounding {
  setTimeout(work: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** The path that names of other files are made of by adding to it; null where there can be none. */
  beside(file: string): string | null;
}

export interface WriteAccess extends Surrounding {
  /** Nobody else serves the file until it is closed. */
  openForWriting(file: string, durability: 'normal' | 'full'): OpenFile;
  useWal(db: Database, file: string): void;
  /** Calls `look` soon after others may have committed; returns the way to stop. */
  watchCommits(file: string, look: () => void): () => void;
  /** Calls `work` when whoever waits has had a turn. */
  soon(work: () => void): void;
}

export interface ReadAccess extends Surrounding {
  openForReading(file: string): OpenFile;
  /** A connection of its own, for a snapshot that stays open over several turns. */
  openSnapshot(file: string): OpenFile;
  /** A connection of its own to which a file can be attached that is written; it does not write the library. */
  openForCopying(file: string): OpenFile;
  /** Lets others have a turn. */
  breathe(): Promise<void>;
  /** ms since 1970. */
  now(): number;
  /** ms that pass, from any beginning. */
  elapsed(): number;
}

function openWith(open: (file: string) => Database): (file: string) => OpenFile {
  return (file) => {
    const db = open(file);
    return { db, close: () => db.close() };
  };
}

/** A file on a disk, and the real time. */
export const fileAccess: WriteAccess & ReadAccess = {
  openForWriting(file, durability) {
    requireDatabase(file);
    let unlock: (() => void) | null = null;
    try {
      unlock = lockLibrary(file);
      const db = openForWriting(file, durability);
      const release = unlock;
      return {
        db,
        close() {
          db.close();
          release();
        },
      };
    } catch (error) {
      unlock?.();
      throw explainSqlite(error, file);
    }
  },
  openForReading(file) {
    requireDatabase(file);
    try {
      return openWith(openForReading)(file);
    } catch (error) {
      throw explainSqlite(error, file);
    }
  },
  openSnapshot: openWith(openForReading),
  openForCopying: openWith(openForCopying),
  useWal,
  watchCommits,
  setTimeout: (work, ms) => setTimeout(work, ms),
  clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
  beside: (file) => file,
  soon: (work) => void setImmediate(work),
  breathe: () => breathe<void>(),
  now: () => Date.now(),
  elapsed: () => performance.now(),
};
