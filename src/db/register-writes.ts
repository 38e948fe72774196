/**
 * What programs write into columns with a policy. They write the value that they want to see; here that becomes an entry of this
 * run, and the table shows what all entries make of it. Marks hold no values, so what was shown before comes from the entries.
 */
import { FlotillaError } from '../errors.ts';
import type { SqlValue } from '../protocol/types.ts';
import { decodeKey } from './capture.ts';
import type { Cell, Cells, LocalStamp } from './cells.ts';
import { formatCells, registerCell } from './cells.ts';
import { recordRefused } from './conflicts.ts';
import type { MarkKey } from './identity.ts';
import { keyCondition } from './identity.ts';
import type { Library } from './library.ts';
import type { Column, Model } from './model.ts';
import { orAbort, quoteName, syncedColumns } from './model.ts';
import { isSame } from './registers.ts';
import { readBig, requireConstraint } from './sql.ts';

/** A row that has been written here. */
export interface WrittenRow {
  readonly model: Model;
  readonly key: MarkKey;
  readonly uuid: Uint8Array;
  readonly cells: Cells;
}

/** What became of writes into columns with a policy. */
export interface RegistersWritten {
  /** The row's cells with the new entries. */
  readonly cells: Cells;
  /** Columns that have one, with what it adds to what was there before. */
  readonly differences: ReadonlyMap<number, SqlValue>;
  /** False when the table refuses to show what the entries say. */
  readonly isShown: boolean;
}

/** The cells that a row is born with: one entry in each of its registers; null when it has none. */
export function cellsAtBirth(library: Library, model: Model, key: MarkKey, stamp: LocalStamp): string | null {
  if (library.policies(model).size === 0) return null;
  const columns = syncedColumns(model).filter(({ policy }) => policy !== undefined);
  const values = readValues(library, model, key, columns);
  const { hlc, run } = stamp;
  return formatCells(
    new Map(columns.map(({ number }, i) => [number, registerCell([{ hlc, run, value: values[i] ?? null }])])),
  );
}

/** Takes what was written into some columns, and has the table show what is to be seen there. */
export function writeRegisters(
  library: Library,
  row: WrittenRow,
  columns: readonly Column[],
  stamp: LocalStamp,
): RegistersWritten {
  const { model, uuid } = row;
  const policies = library.policies(model);
  const values = readValues(library, model, row.key, columns);
  const cells = new Map<number, Cell>(row.cells);
  const differences = new Map<number, SqlValue>();
  const toShow: { readonly column: Column; readonly value: SqlValue }[] = [];
  columns.forEach((column, i) => {
    const policy = policies.get(column.number);
    if (policy === undefined) return;
    const value = values[i] ?? null;
    const before = row.cells.get(column.number)?.entries ?? [];
    try {
      const after = policy.write(before, value, stamp);
      if (after !== null) {
        cells.set(column.number, registerCell(after));
        differences.set(column.number, policy.difference(before, value));
      }
      const shown = policy.fold(after ?? before);
      if (!isSame(shown, value)) toShow.push({ column, value: shown });
    } catch (error) {
      if (!(error instanceof FlotillaError)) throw error;
      const shown = policy.fold(before);
      const { hlc, run } = registerCell(before);
      recordRefused(library, model, uuid, column, { ...stamp, value }, { hlc, run, value: shown });
      toShow.push({ column, value: shown });
    }
  });
  return { cells, differences, isShown: show(library, row, toShow) };
}

/** Writes values into the table that no program is to be told of. */
function show(
  library: Library,
  { model, key }: WrittenRow,
  values: ReadonlyArray<{ readonly column: Column; readonly value: SqlValue }>,
): boolean {
  if (values.length === 0) return true;
  const set = values.map(({ column }) => `${quoteName(column.name)} = ?`).join(', ');
  const { condition, params } = place(model, key);
  return library.withoutCapture(() => {
    try {
      const text = `UPDATE ${orAbort(model)}${quoteName(model.table)} SET ${set} WHERE ${condition}`;
      library.sql.run(text, ...values.map(({ value }) => value), ...params);
      return true;
    } catch (error) {
      // A CHECK over several columns, of which the others have what was just written.
      requireConstraint(error);
      return false;
    }
  });
}

function readValues(library: Library, model: Model, key: MarkKey, columns: readonly Column[]): SqlValue[] {
  const { condition, params } = place(model, key);
  const text = `SELECT ${columns.map(({ name }) => quoteName(name)).join(', ')} FROM ${quoteName(model.table)} WHERE ${condition}`;
  return readBig(library.sql.get(text), params)[0] ?? [];
}

function place(model: Model, key: MarkKey): { readonly condition: string; readonly params: unknown[] } {
  return model.rowid === null
    ? { condition: keyCondition(model, quoteName(model.table)), params: decodeKey(String(key)) }
    : { condition: `${quoteName(model.rowid)} = ?`, params: [key] };
}
