/**
 * What marks beyond a slice say of the rows in it. Marks have no index, which every write would pay for, so they are read to their end; where
 * many are left, that would be done for slice after slice, and an index of them is made once, beside the library.
 */
import { OP_INSERT, OP_UPDATE } from './capture.ts';
import type { MarkKey } from './identity.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import type { Key } from './sql.ts';
import { jsonKeys } from './sql.ts';

/** Marks that are left from which on they get an index: it costs as much as reading them a few times. */
const MANY_MARKS = 20_000;

/** In place of a table's number, for how far the index goes. */
const END = -1;

/** Those of the keys whose rows are still there, by the next mark beyond `last` that speaks of them. */
export function standingAfter(
  library: Library,
  model: Model,
  keys: readonly MarkKey[],
  last: number,
): ReadonlySet<MarkKey> {
  const end = indexedUpTo(library, last);
  const found = end === null ? new Map<MarkKey, boolean>() : readIndex(library, model, keys, last);
  const unsaid = keys.filter((key) => !found.has(key));
  for (const [key, isThere] of readMarks(library, model, unsaid, end ?? last)) found.set(key, isThere);
  return new Set([...found].flatMap(([key, isThere]) => (isThere ? [key] : [])));
}

/** No marks are left. */
export function forgetAhead(library: Library): void {
  if (hasIndex(library)) library.sql.run('DROP TABLE temp.flotilla_ahead');
}

function readMarks(library: Library, model: Model, keys: readonly MarkKey[], last: number): [MarkKey, boolean][] {
  if (keys.length === 0) return [];
  const list = listOf(model, keys);
  const rows = library.sql.rows(
    `SELECT key, isThere, min(n) FROM (
       SELECT old AS key, 1 AS isThere, n FROM flotilla_marks WHERE n > ? AND tbl = ? AND old IN (SELECT value FROM json_each(?))
       UNION ALL
       SELECT new, 0, n FROM flotilla_marks
       WHERE n > ? AND tbl = ? AND op IN (${OP_INSERT}, ${OP_UPDATE}) AND new IS NOT old AND new IN (SELECT value FROM json_each(?)))
     GROUP BY key`,
    last,
    model.n,
    list,
    last,
    model.n,
    list,
  );
  return rows.map(([key, isThere]) => [key as MarkKey, isThere === 1]);
}

function readIndex(library: Library, model: Model, keys: readonly MarkKey[], last: number): Map<MarkKey, boolean> {
  const rows = library.sql.rows(
    `SELECT j.value, (
       SELECT a.isThere FROM temp.flotilla_ahead a WHERE a.tbl = ? AND a.key = j.value AND a.n > ? ORDER BY a.n LIMIT 1
     ) AS isThere FROM json_each(?) j WHERE isThere IS NOT NULL`,
    model.n,
    last,
    listOf(model, keys),
  );
  return new Map(rows.map(([key, isThere]) => [key as MarkKey, isThere === 1]));
}

function listOf(model: Model, keys: readonly MarkKey[]): string {
  return model.rowid === null ? JSON.stringify(keys) : jsonKeys(keys as readonly Key[]);
}

/** The mark up to which there is an index, which is made where it is worth it; null for none. */
function indexedUpTo(library: Library, last: number): number | null {
  const { sql } = library;
  const newest = sql.number('SELECT ifnull(max(n), 0) FROM flotilla_marks');
  const end = hasIndex(library) ? sql.number('SELECT max(n) FROM temp.flotilla_ahead WHERE tbl = ?', END) : null;
  if (end !== null && end <= newest && newest - end < MANY_MARKS) return end;
  forgetAhead(library);
  if (newest - last < MANY_MARKS) return null;
  sql.run(
    `CREATE TEMP TABLE flotilla_ahead (tbl INTEGER, key, n INTEGER, isThere INTEGER, PRIMARY KEY (tbl, key, n, isThere)) WITHOUT ROWID`,
  );
  sql.run(
    `INSERT INTO temp.flotilla_ahead (tbl, key, n, isThere)
     SELECT tbl, old, n, 1 FROM flotilla_marks WHERE n > ? AND old IS NOT NULL
     UNION ALL
     SELECT tbl, new, n, 0 FROM flotilla_marks WHERE n > ? AND op IN (${OP_INSERT}, ${OP_UPDATE}) AND new IS NOT old AND new IS NOT NULL
     UNION ALL SELECT ?, 0, ?, 0`,
    last,
    last,
    END,
    newest,
  );
  return newest;
}

/** It goes with a transaction that is undone. */
function hasIndex(library: Library): boolean {
  return library.sql.value("SELECT 1 FROM temp.sqlite_schema WHERE name = 'flotilla_ahead'") !== undefined;
}
