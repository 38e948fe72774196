/**
 * The writing program of the `capture` benchmark, in a process of its own: does one thing to a library file as any program
 * would and prints how long it took. WAL, synchronous NORMAL, foreign keys on, prepared statements.
 *
 *   node bench/capture-writer.ts <file> <table> <work> <rows>
 */
import Database from 'better-sqlite3';

/** Rows of a bulk transaction. */
const BULK_ROWS = 10_000;

type Work = 'bulk' | 'single' | 'update' | 'delete';

interface Statements {
  readonly insert: string;
  readonly values: (n: number) => unknown[];
  readonly update: string;
  readonly delete: string;
}

const TABLES: Readonly<Record<string, Statements>> = {
  entries: {
    insert: `INSERT INTO entries (location_id, parent_id, content_id, metadata_id, name, extension, kind, size, modified_at)
      VALUES (1, NULL, ?, NULL, ?, 'jpg', 'file', ?, ?)`,
    values: (n) => [1 + (n % 1_000), `photo ${n}.jpg`, n * 37, 1_700_000_000_000 + n],
    update: 'UPDATE entries SET size = ? WHERE id = ?',
    delete: 'DELETE FROM entries WHERE id = ?',
  },
  notes: {
    insert: 'INSERT INTO notes (title, body, changed_at) VALUES (?, ?, ?)',
    values: (n) => [
      `note ${n}`,
      `a sentence or two that somebody has written down, number ${n}`,
      1_700_000_000_000 + n,
    ],
    update: 'UPDATE notes SET changed_at = ? WHERE id = ?',
    delete: 'DELETE FROM notes WHERE id = ?',
  },
};

function work(db: Database.Database, table: Statements, kind: Work, rows: number): void {
  const insert = db.prepare(table.insert);
  const update = db.prepare(table.update);
  const remove = db.prepare(table.delete);
  const one = {
    bulk: (n: number) => insert.run(...table.values(n)),
    single: (n: number) => insert.run(...table.values(n)),
    update: (n: number) => update.run(n, n),
    delete: (n: number) => remove.run(n),
  }[kind];
  const rowsAtOnce = kind === 'single' ? 1 : BULK_ROWS;
  for (let done = 0; done < rows; done += rowsAtOnce) {
    db.exec('BEGIN IMMEDIATE');
    for (let n = done + 1; n <= Math.min(done + rowsAtOnce, rows); n += 1) one(n);
    db.exec('COMMIT');
  }
}

const [file, name, kind, count] = process.argv.slice(2);
const table = TABLES[name ?? ''];
if (file === undefined || table === undefined) throw new Error('Use: capture-writer.ts <file> <table> <work> <rows>');
const db = new Database(file, { fileMustExist: true });
db.pragma('journal_mode = WAL');
db.pragma('synchronous = NORMAL');
db.pragma('foreign_keys = ON');
// What the statements touch is read once, so that none of them pays for the first look at the file.
db.prepare(`SELECT count(*) FROM ${name}`).get();
const started = performance.now();
work(db, table, kind as Work, Number(count));
const ms = performance.now() - started;
db.close();
console.log(JSON.stringify({ ms }));
