/**
 * Programs other than ours that write SQLite files: Python and the sqlite3 shell, where they are installed. Each brings a
 * build of SQLite of its own, often an older one. A machine without one of them tests with the others.
 */
import { spawnSync } from 'node:child_process';
import { withDatabase } from './command.ts';

/** How long a writer waits for another one's transaction, ms. */
const BUSY_MS = 20_000;

/** Runs a script of SQL statements on a file, in a process of its own, with foreign keys on. */
export interface OutsideWriter {
  readonly name: string;
  write(file: string, sql: string): void;
}

const PYTHON_SCRIPT = `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=${BUSY_MS / 1_000}, isolation_level=None)
db.execute('PRAGMA foreign_keys = ON')
db.executescript(sys.stdin.read())
db.close()
`;

function spawned(name: string, command: string, args: (file: string) => readonly string[], prefix = ''): OutsideWriter {
  return {
    name,
    write(file, sql) {
      const { status, stderr } = spawnSync(command, args(file), { input: `${prefix}${sql}`, encoding: 'utf8' });
      if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr}`);
    },
  };
}

/** better-sqlite3 as in this process, in another one. */
const NODE_SCRIPT = `
const { readFileSync } = require('node:fs');
const db = new (require('better-sqlite3'))(process.argv[1], { timeout: ${BUSY_MS} });
db.exec(readFileSync(0, 'utf8'));
db.close();
`;

const betterSqlite: OutsideWriter = {
  name: 'better-sqlite3',
  write: (file, sql) => withDatabase(file, (db) => void db.exec(sql)),
};

const isThere = (command: string, args: readonly string[]): boolean => spawnSync(command, args).status === 0;

const python = spawned('Python', 'python3', (file) => ['-c', PYTHON_SCRIPT, file]);
const shell = spawned(
  'the sqlite3 shell',
  'sqlite3',
  (file) => ['-batch', '-bail', file],
  `.timeout ${BUSY_MS}\nPRAGMA foreign_keys = ON;\n`,
);

export const HAS_PYTHON = isThere('python3', ['-c', 'import sqlite3']);
export const HAS_SHELL = isThere('sqlite3', ['--version']);

/** All writers that this machine has. */
export const OUTSIDE_WRITERS: readonly OutsideWriter[] = [
  betterSqlite,
  spawned('better-sqlite3 in another process', process.execPath, (file) => ['-e', NODE_SCRIPT, file]),
  ...(HAS_PYTHON ? [python] : []),
  ...(HAS_SHELL ? [shell] : []),
];

/** Why tests with a writer are left out here, for each that is missing. */
export const ABSENT_WRITERS: readonly string[] = [
  ...(HAS_PYTHON ? [] : ['python3 with its module sqlite3 is not on this machine']),
  ...(HAS_SHELL ? [] : ['the sqlite3 shell is not on this machine (Debian: apt install sqlite3)']),
];
