/**
 * Making room in unique indexes. SQLite checks them row by row, so that two rows cannot swap values, and no row can take the
 * value of one that is about to go. Rows that will be written anew or removed in the same breath are parked meanwhile: their
 * unique values give way to NULL or to a value that nobody has.
 */
import type { Doomed } from './deletes.ts';
import type { Incoming } from './incoming.ts';
import { readVersion } from './join.ts';
import type { Library } from './library.ts';
import type { LooseKeys } from './loose.ts';
import type { Column, Model } from './model.ts';
import { orAbort, quoteName, rowByKey, syncedColumns } from './model.ts';
import type { RowWriter } from './rows.ts';
import { takenColumns } from './incoming.ts';
import type { Key } from './sql.ts';
import { requireConstraint } from './sql.ts';

/** Bits that make of a key, whatever it is, a number that fits: far from all ids and counts that people use, and still exact. */
const PARKED_BITS = -(2n ** 62n);

/** True when a row of the table that is written anew in these columns, or removed, can make room in a unique index. */
export function canPark(library: Library, model: Model, written: readonly Column[] = syncedColumns(model)): boolean {
  return parkedColumns(library, model, written).length > 0;
}

/**
 * Takes the rows that a merge will write over or remove out of their unique indexes.
 * @returns the doomed ones with what they held; null when no row, or not all of them, can make room
 */
export function parkAll(
  library: Library,
  standing: readonly Incoming[],
  doomed: readonly Doomed[],
  rows: RowWriter,
  loose: LooseKeys,
): Doomed[] | null {
  const updates = standing
    .filter((row) => row.isUpdate)
    .map((row) => ({
      model: row.model,
      key: rows.keyOf(row.index) as Key,
      index: row.index,
      columns: takenColumns(row),
    }));
  const going = doomed.map(({ model, key }) => ({ model, key, index: null, columns: syncedColumns(model) }));
  const parked = [...updates, ...going].filter((row) => canPark(library, row.model, row.columns));
  const held = doomed.map((row) => ({ ...row, last: readVersion(library, row.model, row.uuid) }));
  const isDone = parked.every(({ model, key, index, columns }) => {
    loose.before(model, key, index);
    return park(library, model, key, columns);
  });
  return isDone && parked.length > 0 ? held : null;
}

/** Takes a row out of its unique indexes. Answers false when the table does not allow it. */
export function park(
  library: Library,
  model: Model,
  key: Key,
  written: readonly Column[] = syncedColumns(model),
): boolean {
  const columns = parkedColumns(library, model, written);
  const set = columns.map((column) => `${quoteName(column.name)} = ?`).join(', ');
  try {
    library.sql.run(
      `UPDATE ${orAbort(model)}${quoteName(model.table)} SET ${set} WHERE ${rowByKey(model)}`,
      ...columns.map((column) => parkedValue(column, key)),
      key,
    );
    return true;
  } catch (error) {
    requireConstraint(error);
    return false;
  }
}

/**
 * One column of each unique index, best one that can be NULL, since NULLs are never equal. Only columns that sync are written
 * anew afterwards, and keys must stay what the map table says. So must names by which others refer to the row, which do not change
 * while it stays the same: the ON UPDATE of who refers to it would write there what nobody wrote.
 */
function parkedColumns({ registry }: Library, model: Model, written: readonly Column[]): Column[] {
  const names = model.identity.kind === 'derived' ? model.identity.columns : [];
  const isReferredTo = (name: string): boolean =>
    registry.models.some((child) =>
      child.foreignKeys.some(({ table, targets }) => table === model.table && targets.includes(name)),
    );
  const candidates = written.filter(
    ({ name }) => !model.key.includes(name) && !(names.includes(name) && isReferredTo(name)),
  );
  const chosen = new Set<Column>();
  for (const { columns } of model.uniques) {
    const own = candidates.filter((column) => columns.includes(column.name));
    const column = own.find((candidate) => !candidate.notNull) ?? own[0];
    if (column !== undefined) chosen.add(column);
  }
  return [...chosen];
}

function parkedValue(column: Column, key: Key): string | bigint | Buffer | null {
  if (!column.notNull) return null;
  if (column.affinity === 'TEXT') return `\u0000flotilla parked ${key}`;
  if (column.affinity === 'BLOB') return Buffer.from(`\u0000flotilla parked ${key}`);
  return BigInt(key) ^ PARKED_BITS;
}
