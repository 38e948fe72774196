/**
 * Stamps of single columns as a batch carries them: lists over all rows of a table, those of plain columns and those of
 * registers apart.
 */
import { NO_STAMPS } from '../protocol/batch.ts';
import type { CellData, RegisterData, SqlValue, TableData } from '../protocol/types.ts';
import type { Cells } from './cells.ts';
import { narrow } from './sql.ts';

/** The part of a table's rows that this is about. */
export type ColumnStamps = Pick<TableData, 'cells' | 'registers'>;

/** Collects the stamps of rows, which come in order. */
export class StampLists {
  readonly #cells = { row: [] as number[], column: [] as number[], hlc: [] as number[], run: [] as number[] };
  readonly #registers = { row: [] as number[], column: [] as number[], hlc: [] as number[], run: [] as number[] };
  readonly #values: SqlValue[] = [];

  /**
   * @param place - index of a column, by its number; undefined for one that does not travel
   * @param runOf - index of a run in the batch, by its local number
   */
  add(row: number, cells: Cells, place: (column: number) => number | undefined, runOf: (run: number) => number): void {
    for (const [number, cell] of [...cells].toSorted(([a], [b]) => a - b)) {
      const column = place(number);
      if (column === undefined) continue;
      const list = cell.entries === undefined ? this.#cells : this.#registers;
      for (const { hlc, run } of cell.entries ?? [cell, ...cell.seen]) {
        list.row.push(row);
        list.column.push(column);
        list.hlc.push(hlc);
        list.run.push(runOf(run));
      }
      if (cell.entries !== undefined) this.#values.push(...cell.entries.map(({ value }) => value));
    }
  }

  finish(): ColumnStamps {
    const values = this.#values;
    const cells: CellData = this.#cells.row.length === 0 ? NO_STAMPS : this.#cells;
    if (values.length === 0) return { cells };
    const ints = Uint8Array.from(values, (value) => (typeof value === 'bigint' ? 1 : 0));
    return { cells, registers: { ...this.#registers, values: values.map(narrow), ints } };
  }
}

/** Some of the stamps, with their rows, runs and columns renumbered. */
export function pickStamps(
  { cells, registers }: ColumnStamps,
  keep: (row: number, column: number) => boolean,
  row: (row: number) => number,
  run: (run: number) => number,
  column: (column: number) => number = (same) => same,
): ColumnStamps {
  const pick = (list: CellData): { readonly kept: readonly number[]; readonly stamps: CellData } => {
    const kept = list.row.flatMap((_, i) => (keep(list.row[i] ?? 0, list.column[i] ?? 0) ? [i] : []));
    const at = (numbers: readonly number[]): number[] => kept.map((i) => numbers[i] ?? 0);
    const stamps = {
      row: at(list.row).map(row),
      column: at(list.column).map(column),
      hlc: at(list.hlc),
      run: at(list.run).map(run),
    };
    return { kept, stamps };
  };
  const plain = pick(cells).stamps;
  if (registers === undefined) return { cells: plain };
  const { kept, stamps } = pick(registers);
  return { cells: plain, ...(kept.length === 0 ? {} : { registers: pickValues(registers, kept, stamps) }) };
}

function pickValues({ values, ints }: RegisterData, kept: readonly number[], stamps: CellData): RegisterData {
  return {
    ...stamps,
    values: kept.map((i) => values[i] ?? null),
    ints: Uint8Array.from(kept, (i) => ints[i] ?? 0),
  };
}

/** Every stamp that says something new, as opposed to what its writer had seen: index of its run, and its time. */
export function ownStamps({ cells, registers }: ColumnStamps): (readonly [run: number, hlc: number])[] {
  // What an owned row says of its ownership is no change.
  return [cells, ...(registers === undefined ? [] : [registers])].flatMap((list) =>
    list.hlc.flatMap((hlc, i) => ((list.column[i] ?? 0) < 0 ? [] : [[list.run[i] ?? 0, hlc] as const])),
  );
}
