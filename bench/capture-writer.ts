/**
 * The writing program of the `capture` benchmark, in a process of its own: does one thing to a file library as any program
 * would and prints how long it took. WAL, synchronous NORMAL, foreign keys on, prepared statements; everything else as SQLite
 * has it.
 *
 *   node bench/capture-writer.ts <library> <source> <work> <rows>
 */
import Database from 'better-sqlite3';

/** Parents before children; within a table the ids ascend, and a parent's is smaller than its children's. */
const TABLES = ['volumes', 'locations', 'content_identities', 'user_metadata', 'entries'] as const;
const ROWS_A_TRANSACTION = 1_000;
const ROWS_A_STATEMENT = 100;

interface Rows {
  readonly table: string;
  readonly columns: readonly string[];
  readonly rows: unknown[][];
}

function read(source: string, table: string): Rows {
  const db = new Database(source, { readonly: true, fileMustExist: true });
  const columns = db.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table) as string[];
  const rows = db
    .prepare(`SELECT ${columns.join(', ')} FROM ${table} ORDER BY rowid`)
    .raw()
    .all() as unknown[][];
  db.close();
  return { table, columns, rows };
}

/** Runs `write` for each item, some of them in a transaction. */
function transactions<T>(db: Database.Database, items: readonly T[], size: number, write: (item: T) => void): void {
  for (let at = 0; at < items.length; at += size) {
    db.exec('BEGIN IMMEDIATE');
    for (const item of items.slice(at, at + size)) write(item);
    db.exec('COMMIT');
  }
}

function insertion(db: Database.Database, { table, columns }: Rows, count = 1): Database.Statement {
  const row = `(${columns.map(() => '?').join(', ')})`;
  const values = Array.from({ length: count }, () => row).join(', ');
  return db.prepare(`INSERT INTO ${table} (${columns.join(', ')}) VALUES ${values}`);
}

/** All rows of a library, in transactions of `size` rows. */
function copy(db: Database.Database, tables: readonly Rows[], size: number): number {
  const all = tables.flatMap((table) => table.rows.map((row) => [insertions(table), row] as const));
  transactions(db, all, size, ([insert, row]) => void insert.run(row));
  return all.length;

  function insertions(table: Rows): Database.Statement {
    const statement = prepared.get(table) ?? insertion(db, table);
    prepared.set(table, statement);
    return statement;
  }
}

const prepared = new Map<Rows, Database.Statement>();

/** What the program does; returns how many rows it wrote. What it reads before is not counted. */
function prepareWork(db: Database.Database, source: string, work: string, limit: number): () => number {
  const entries = read(source, 'entries');
  const some = entries.rows.slice(0, limit);
  const ids = some.map(([id]) => id);
  switch (work) {
    case 'bulk':
    case 'one-transaction': {
      const tables = TABLES.map((table) => read(source, table));
      return () => copy(db, tables, work === 'bulk' ? ROWS_A_TRANSACTION : Number.MAX_SAFE_INTEGER);
    }
    case 'many': {
      const insert = insertion(db, entries, ROWS_A_STATEMENT);
      const whole = some.slice(0, some.length - (some.length % ROWS_A_STATEMENT));
      const statements = Array.from({ length: whole.length / ROWS_A_STATEMENT }, (_, i) =>
        whole.slice(i * ROWS_A_STATEMENT, (i + 1) * ROWS_A_STATEMENT).flat(),
      );
      return () => {
        transactions(db, statements, ROWS_A_TRANSACTION / ROWS_A_STATEMENT, (values) => void insert.run(values));
        return whole.length;
      };
    }
    case 'parents':
      return () =>
        copy(
          db,
          TABLES.filter((table) => table !== 'entries').map((table) => read(source, table)),
          ROWS_A_TRANSACTION,
        );
    case 'single': {
      const insert = insertion(db, entries);
      return () => {
        transactions(db, some, 1, (row) => void insert.run(row));
        return some.length;
      };
    }
    case 'update': {
      const update = db.prepare('UPDATE entries SET size = ?, modified_at = modified_at + 1 WHERE id = ?');
      return () => {
        transactions(db, ids, ROWS_A_TRANSACTION, (id) => void update.run(7, id));
        return ids.length;
      };
    }
    case 'delete': {
      // Children first: each statement deletes one row.
      const remove = db.prepare('DELETE FROM entries WHERE id = ?');
      const leaves = entries.rows.slice(-limit).map(([id]) => id);
      return () => {
        transactions(db, leaves.toReversed(), ROWS_A_TRANSACTION, (id) => void remove.run(id));
        return leaves.length;
      };
    }
    default:
      throw new Error(`There is no work "${work}".`);
  }
}

const [file, source, work, limit] = process.argv.slice(2);
if (file === undefined || source === undefined || work === undefined)
  throw new Error('Use: capture-writer.ts <library> <source> <work> <rows>');
const db = new Database(file, { fileMustExist: true });
db.pragma('journal_mode = WAL');
db.pragma('synchronous = NORMAL');
db.pragma('foreign_keys = ON');
const doWork = prepareWork(db, source, work, Number(limit));
const [started, cpu] = [performance.now(), process.cpuUsage()];
const rows = doWork();
const [ms, used] = [performance.now() - started, process.cpuUsage(cpu)];
db.close();
console.log(JSON.stringify({ rows, ms, cpuMs: (used.user + used.system) / 1_000 }));
