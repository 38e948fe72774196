/**
 * SQLite's counts of references that lead nowhere. They go up and down within a transaction, and a commit fails unless they come to
 * zero. What a writer without foreign keys left has not been counted, but counts when it ends while something else is open: a count is
 * below zero then, and the commit fails though every reference leads somewhere.
 */
import type { Library } from './library.ts';

/** References here that lead nowhere. It reads all rows. */
export function countLoose(library: Library): number {
  return (library.db.pragma('foreign_key_check') as unknown[]).length;
}

/**
 * Brings a count that is below zero back to it, and leaves any other as it is: each reference that leads nowhere is counted up when it
 * comes, and down when it goes unless the count is zero. There are two, of keys that are always deferred, and of those that are while
 * a batch is merged.
 * @param loose - how far below they may be
 */
export function balance(library: Library, loose: number): void {
  library.db.exec(`
    CREATE TEMP TABLE IF NOT EXISTS flotilla_nowhere (id INTEGER PRIMARY KEY);
    CREATE TEMP TABLE IF NOT EXISTS flotilla_loose (id INTEGER REFERENCES flotilla_nowhere);
    CREATE TEMP TABLE IF NOT EXISTS flotilla_deferred (
      id INTEGER REFERENCES flotilla_nowhere DEFERRABLE INITIALLY DEFERRED
    )`);
  for (const table of ['flotilla_loose', 'flotilla_deferred']) {
    for (let left = loose; left > 0; left -= 1) library.sql.run(`INSERT INTO temp.${table} (id) VALUES (1)`);
    library.sql.run(`DELETE FROM temp.${table}`);
  }
}
