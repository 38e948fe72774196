/**
 * SQLite's counts of references that lead nowhere. They go up and down within a transaction, and a commit fails unless they come to
 * zero. What a writer without foreign keys left has not been counted, so they go wrong both ways: it counts when it ends while something
 * else is open, and again when its row is written in another foreign key of the same table.
 */
import type { Library } from './library.ts';

/** References here that lead nowhere: how many each foreign key has. */
export type Loose = ReadonlyMap<string, number>;

/** How often a row is written in one transaction at most, with room: once as it arrives, and for each conflict that is settled then. */
const WRITES_OF_A_ROW = 16;

/** Null for none. It reads all rows. */
export function countLoose(library: Library): Loose | null {
  const counts = new Map<string, number>();
  for (const { table, fkid } of library.db.pragma('foreign_key_check') as { table: string; fkid: number }[]) {
    const key = `${fkid} ${table}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts.size === 0 ? null : counts;
}

/** Lays in what {@link balance} needs; before the transaction begins. */
export function prepareBalance(library: Library, loose: Loose): void {
  const { db } = library;
  db.pragma('foreign_keys = OFF');
  db.exec(`
    CREATE TEMP TABLE IF NOT EXISTS flotilla_nowhere (id INTEGER PRIMARY KEY);
    CREATE TEMP TABLE IF NOT EXISTS flotilla_loose (id INTEGER REFERENCES flotilla_nowhere DEFERRABLE INITIALLY DEFERRED);
    DELETE FROM temp.flotilla_loose`);
  try {
    for (let left = sum(loose) * WRITES_OF_A_ROW; left > 0; left -= 1) addLoose(library);
  } finally {
    db.pragma('foreign_keys = ON');
  }
}

/**
 * Brings the counts to zero at the end of a transaction, unless more leads nowhere than did before. One of them begins anew when keys are
 * no more deferred while a batch is merged. That of keys that always are is brought above zero first, by references that lead nowhere, and
 * comes down with these and those that were laid in: each that goes is taken off, until it is zero.
 * @param before - what led nowhere when it began
 */
export function balance(library: Library, before: Loose): void {
  const { db, sql } = library;
  for (const [key, count] of countLoose(library) ?? []) if (count > (before.get(key) ?? 0)) return;
  db.pragma('defer_foreign_keys = OFF');
  for (let left = sum(before); left > 0; left -= 1) addLoose(library);
  sql.run('DELETE FROM temp.flotilla_loose');
}

function addLoose({ sql }: Library): void {
  sql.run('INSERT INTO temp.flotilla_loose (id) VALUES (1)');
}

function sum(loose: Loose): number {
  return [...loose.values()].reduce((all, count) => all + count, 0);
}
