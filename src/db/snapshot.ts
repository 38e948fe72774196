/**
 * What a snapshot is: a library's rows with their metadata in a file of its own, which a device that has nothing yet takes instead of the
 * first pass of the feed. Of each of the user's tables it holds one table, in which each row stands with what its map row says of it,
 * under the ids of the sender; what is not one of these rows (transfers, deletes, what waits, the end of the pass) stands beside them in
 * batches, as the feed would send it. Nothing local is in it.
 *
 * The file is made by `snapshot-out.ts` and read by `snapshot-in.ts`.
 */
import { createHash } from 'node:crypto';

import type { Database } from 'better-sqlite3';

import { isInternal } from './choose.ts';
import { readKnown } from './known.ts';
import type { Model, Registry } from './model.ts';
import { ALWAYS_THERE, syncedColumns } from './model.ts';

/** Version of the file's form. 1: first release. */
export const SNAPSHOT_FORMAT = 1;

/** Name under which the file is attached to a library. */
export const ATTACHED = 'flotilla_snapshot';

/** Where the files lie that this device takes, of two senders at most, and the one that it gives, beside its library. */
export const incomingSnapshots = (library: string): readonly [string, string] => [
  `${library}-flotilla-snapshot-in`,
  `${library}-flotilla-snapshot-in-2`,
];
export const outgoingSnapshot = (library: string): string => `${library}-flotilla-snapshot-out`;

/** The models whose rows stand in tables of the file. */
export function snapshotModels(registry: Registry): Model[] {
  return registry.models.filter(({ table }) => !isInternal(table));
}

/** The tables of the file, as `sqlite_schema` has them: name → SQL. Nothing else may be in it. */
export function snapshotSchema(registry: Registry): Map<string, string> {
  const tables = new Map([
    ['about', 'CREATE TABLE about (name TEXT PRIMARY KEY, value)'],
    ['runs', 'CREATE TABLE runs (run INTEGER PRIMARY KEY, id BLOB, device TEXT)'],
    ['batches', 'CREATE TABLE batches (n INTEGER PRIMARY KEY, data BLOB)'],
  ]);
  for (const model of snapshotModels(registry)) {
    const columns = syncedColumns(model).map((column) => `, ${valueColumn(column)}`);
    // Without types, so that every value stays what it is.
    const text = `CREATE TABLE ${rowsIn(model)} (key INTEGER PRIMARY KEY, uuid, birth_hlc, birth_run, hlc, run, lsn, cells${columns.join('')})`;
    tables.set(rowsIn(model), text);
  }
  return tables;
}

/** Name of a model's table in the file. */
export function rowsIn(model: Pick<Model, 'n'>): string {
  return `rows_${model.n}`;
}

/** Name of a column in such a table. */
export function valueColumn(column: { readonly number: number }): string {
  return `c${column.number}`;
}

/**
 * Hash of the numbers that tables and columns have, which a snapshot leaves as they are: only between two libraries with the same ones can
 * it go. Null where a library is in no state for that: tables or columns that only others have, columns that came later than their table,
 * policies (whose values are made of entries, which no copy of a table has).
 */
export function layoutOf(db: Database, registry: Registry): string | null {
  const isPlain = readKnown(db).every(
    ({ name, described, columns }) =>
      name !== null &&
      described === null &&
      columns.every((column) => column.name !== null && column.described === null && column.since === ALWAYS_THERE),
  );
  const models = snapshotModels(registry);
  if (!isPlain || models.some(({ columns }) => columns.some(({ policy }) => policy !== undefined))) return null;
  // Attached files must have the encoding of the first, and a newcomer's is UTF-8.
  if (db.pragma('encoding', { simple: true }) !== 'UTF-8') return null;
  const layout = models.map((model) => [
    model.n,
    model.wire,
    ...syncedColumns(model).map(({ number, wire }) => [number, wire]),
  ]);
  return createHash('sha256')
    .update(JSON.stringify([SNAPSHOT_FORMAT, registry.schemaHash, layout]))
    .digest('hex');
}
