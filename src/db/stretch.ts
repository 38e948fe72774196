/** The next stretch of the feed: the entries of all tables in the order of their lsn, up to a number. */
import type { Model } from './model.ts';
import { rowsTable } from './model.ts';
import type { Statements } from './sql.ts';

export const TOMBSTONES = 'flotilla_tombstones';
export const PENDING = 'flotilla_pending';

/** Tables of entries. @param models - those whose rows go */
export function entryTables(models: readonly Model[]): string[] {
  return [...models.map(rowsTable), TOMBSTONES, PENDING];
}

/** Parts of a compound SELECT: SQLite takes 500. */
const MAX_PARTS = 400;

/** All that lies behind `:position` in a table. Deletes that wait are no entries: their tombstones are. */
function behind(table: string): string {
  return `FROM ${table} WHERE ${table === PENDING ? 'version IS NOT NULL AND ' : ''}lsn > :position`;
}

/** How many entries lie behind a position. */
export function countBehind(sql: Statements, tables: readonly string[], position: number): number {
  return tables.reduce((sum, table) => sum + sql.number(`SELECT count(*) ${behind(table)}`, { position }), 0);
}

export interface Stretch {
  /** lsn of the last entry; null when there are no more. */
  readonly end: number | null;
  /** The tables in which they are. A live page has one or two. */
  readonly sources: ReadonlySet<string>;
}

/** The next `rows` entries behind a position; of a great many tables about so many. */
export function nextStretch(sql: Statements, tables: readonly string[], position: number, rows: number): Stretch {
  const groups = Math.ceil(tables.length / MAX_PARTS);
  const all = Array.from({ length: groups }, (_, i) =>
    stretchOf(sql, tables.slice(i * MAX_PARTS, (i + 1) * MAX_PARTS), position, Math.ceil(rows / groups)),
  );
  const ends = all.flatMap(({ end }) => end ?? []);
  return {
    end: ends.length === 0 ? null : Math.min(...ends),
    sources: new Set(all.flatMap(({ sources }) => [...sources])),
  };
}

function stretchOf(sql: Statements, tables: readonly string[], position: number, rows: number): Stretch {
  // SQLite merges these as it reads, and stops there: with a limit of its own each would be read to that and sorted.
  const parts = tables.map((table, i) => `SELECT lsn, ${i} ${behind(table)}`);
  const found = sql.rows(
    `WITH next (lsn, source) AS (${parts.join(' UNION ALL ')} ORDER BY 1 LIMIT :rows)
     SELECT source, max(lsn), count(*) FROM next GROUP BY source`,
    { position, rows },
  );
  const isCut = found.reduce((sum, [, , count]) => sum + Number(count), 0) >= rows;
  return {
    end: isCut ? Math.max(...found.map(([, end]) => Number(end))) : null,
    sources: new Set(found.map(([source]) => tables[Number(source)] as string)),
  };
}
