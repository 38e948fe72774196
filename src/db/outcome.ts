/** What a rule makes of a row that stands here: a write of this device, stamped like any other. */
import type { SqlValue } from '../protocol/types.ts';
import type { Cells, LocalStamp } from './cells.ts';
import { formatCells, writeColumns } from './cells.ts';
import { columnNamed } from './incoming.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { orAbort, quoteName, rowByKey, rowsTable } from './model.ts';
import type { Key } from './sql.ts';
import { requireConstraint } from './sql.ts';

/** What a column is set to: SQL, and its parameter if it has one. */
export interface Assignment {
  readonly column: string;
  readonly sql: string;
  readonly values: readonly SqlValue[];
}

/** A stamp of this device for what it is about to write. */
export function ownStamp(library: Library): LocalStamp {
  return { hlc: library.stampAt(library.around.now()), run: library.run };
}

/**
 * Writes some columns of a row. Answers false, with the row as it was, when a constraint does not allow it.
 * @param cells - those over which it is written: the row's, or of an owned one what `owned-outcomes.ts` says
 */
export function writeOutcome(
  library: Library,
  { model, key }: { readonly model: Model; readonly key: Key },
  cells: Cells,
  assignments: readonly Assignment[],
  stamp?: LocalStamp,
): boolean {
  const set = assignments.map(({ column, sql }) => `${quoteName(column)} = ${sql}`).join(', ');
  try {
    library.sql.run(
      `UPDATE ${orAbort(model)}${quoteName(model.table)} SET ${set} WHERE ${rowByKey(model)}`,
      ...assignments.flatMap(({ values }) => values),
      key,
    );
  } catch (error) {
    requireConstraint(error);
    return false;
  }
  const { hlc, run } = stamp ?? ownStamp(library);
  const numbers = assignments.map(({ column }) => columnNamed(model, column).number);
  library.sql.run(
    `UPDATE ${rowsTable(model)} SET hlc = ?, run = ?, lsn = ?, cells = ? WHERE key = ?`,
    hlc,
    run,
    library.nextLsn(),
    formatCells(model.ownership === 'device' ? cells : writeColumns(cells, numbers, { hlc, run })),
    key,
  );
  return true;
}
