/**
 * The floor for `synctest`, `backfill` and `bootstrap`: what a plain local loop needs to copy the same rows, with no sync at all. better-sqlite3,
 * prepared single-row inserts, transactions of 1,000, foreign keys on, WAL, the rows read from the source file into the
 * same tables with the same indexes. Run in a process of its own, so that it shares neither memory nor warmth.
 *
 *   node bench/floor.ts <source library> <target file>
 */
import Database from 'better-sqlite3';
import { SCHEMA_SQL } from '../examples/file-library/library.ts';

const ROWS_A_TRANSACTION = 1_000;
/** Parents before children; within a table the ids ascend, and a parent's is smaller than its children's. */
const TABLES = [
  'volumes',
  'locations',
  'content_identities',
  'user_metadata',
  'entries',
  'tags',
  'entry_tags',
] as const;

function copy(source: Database.Database, target: Database.Database): number {
  let rows = 0;
  target.exec('BEGIN');
  for (const table of TABLES) {
    const columns = source.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table) as string[];
    const insert = target.prepare(
      `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`,
    );
    const read = source.prepare(`SELECT ${columns.join(', ')} FROM ${table} ORDER BY rowid`).raw();
    for (const row of read.iterate() as IterableIterator<unknown[]>) {
      insert.run(row);
      rows += 1;
      if (rows % ROWS_A_TRANSACTION === 0) target.exec('COMMIT; BEGIN');
    }
  }
  target.exec('COMMIT');
  return rows;
}

const [from, to] = process.argv.slice(2);
if (from === undefined || to === undefined) throw new Error('Use: floor.ts <source library> <target file>');
const source = new Database(from, { readonly: true });
const target = new Database(to);
target.pragma('journal_mode = WAL');
target.pragma('synchronous = NORMAL');
target.pragma('foreign_keys = ON');
target.exec(SCHEMA_SQL);
const [started, cpu] = [performance.now(), process.cpuUsage()];
const rows = copy(source, target);
const [seconds, used] = [(performance.now() - started) / 1_000, process.cpuUsage(cpu)];
target.close();
source.close();
console.log(JSON.stringify({ rows, seconds, cpuMs: (used.user + used.system) / 1_000 }));
