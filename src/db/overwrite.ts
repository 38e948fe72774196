/**
 * Writing newer versions over rows that stand here: many with one statement, and only the columns that change by it. A statement that
 * sets a column writes its indexes and looks for what it refers to, also where it holds the same before and after.
 */
import type { SqlValue } from '../protocol/types.ts';
import type { Incoming } from './incoming.ts';
import { takenColumns } from './incoming.ts';
import type { Library } from './library.ts';
import type { Column, Model } from './model.ts';
import { orAbort, quoteName } from './model.ts';
import type { Key } from './sql.ts';
import { inLists, requireConstraint } from './sql.ts';

/** The columns in which a version changes the row that stands here. */
export type Changes = ReadonlyMap<Incoming, readonly Column[]>;

/** What versions bring, as it is to be written here. */
interface Brought {
  keyOf(index: number): Key | undefined;
  pushValues(row: Incoming, columns: readonly Column[], into: unknown[]): void;
}

/** What versions change of the rows that stand here. Nothing is said of one that has no value for a column, nor of one whose row is not found. */
export function changesOf(library: Library, model: Model, rows: readonly Incoming[], brought: Brought): Changes {
  const changes = new Map<Incoming, readonly Column[]>();
  const id = quoteName(model.rowid ?? '');
  const whole = rows.filter(({ outcome }) => outcome.unset.size === 0);
  for (const { columns, alike } of byColumns(whole, takenColumns)) {
    const byKey = new Map(alike.map((row) => [brought.keyOf(row.index), row]));
    const differ = columns.map((column, i) => differs(column, `v.column${i + 2}`)).join(' || ') || "''";
    const fill = (at: number, into: unknown[]): void => {
      const row = alike[at] as Incoming;
      into.push(brought.keyOf(row.index));
      brought.pushValues(row, columns, into);
    };
    const changed = new Map<SqlValue | undefined, readonly Column[]>();
    inLists(columns.length + 1, alike.length, fill, (list, params) => {
      const text = `SELECT t.${id}, ${differ} FROM (VALUES ${list}) v CROSS JOIN ${quoteName(model.table)} t ON t.${id} = v.column1`;
      for (const [key, bits] of library.sql.rows(text, ...params)) {
        const row = byKey.get(key as Key);
        const known = changed.get(bits) ?? columns.filter((_, i) => String(bits)[i] === '1');
        changed.set(bits, known);
        if (row !== undefined) changes.set(row, known);
      }
    });
  }
  return changes;
}

/**
 * SQL: 1 if what the row `t` holds may be another value than it would hold then, else 0. Where the affinity does not decide it, 5 and 5.0 differ,
 * and 0.0 and −0.0 may; a column for integers holds the smallest one, alone of all, as a REAL as well.
 */
function differs({ name, affinity }: Column, value: string): string {
  const own = `t.${quoteName(name)}`;
  const bytes = `${own} IS NOT ${value} COLLATE BINARY`;
  if (affinity === 'BLOB') return `(${bytes} OR typeof(${own}) IS NOT typeof(${value}) OR ${own} IS 0)`;
  if (affinity === 'INTEGER' || affinity === 'NUMERIC') return `(${bytes} OR ifnull(${own} <= -9.2e18, 0))`;
  return `(${bytes})`;
}

/**
 * Writes what changes.
 * @returns the rows that have to be written one by one: nothing is known of what they change, or a statement for several was not taken as it is
 */
export function overwrite(
  library: Library,
  model: Model,
  rows: readonly Incoming[],
  changes: Changes,
  brought: Brought,
): Incoming[] {
  const left = rows.filter((row) => !changes.has(row));
  const known = rows.filter((row) => changes.has(row));
  const id = quoteName(model.rowid ?? '');
  for (const { columns, alike } of byColumns(known, (row) => changes.get(row) ?? [])) {
    if (columns.length === 0) continue;
    const set = columns.map(({ name }, i) => `${quoteName(name)} = v.column${i + 2}`).join(', ');
    const fill = (at: number, into: unknown[]): void => {
      const row = alike[at] as Incoming;
      into.push(brought.keyOf(row.index));
      brought.pushValues(row, columns, into);
    };
    inLists(columns.length + 1, alike.length, fill, (list, params, first, size) => {
      const text = `UPDATE ${orAbort(model)}${quoteName(model.table)} AS t SET ${set} FROM (VALUES ${list}) v WHERE t.${id} = v.column1`;
      try {
        if (library.sql.run(text, ...params) === size) return;
      } catch (error) {
        requireConstraint(error);
      }
      left.push(...alike.slice(first, first + size));
    });
  }
  return left;
}

interface Alike {
  readonly columns: readonly Column[];
  readonly alike: Incoming[];
}

/** Rows of which the same columns are meant. */
function byColumns(rows: readonly Incoming[], columnsOf: (row: Incoming) => readonly Column[]): Alike[] {
  const groups = new Map<string, Alike>();
  let last: Alike | undefined;
  for (const row of rows) {
    const columns = columnsOf(row);
    // Mostly the very same list.
    if (last?.columns !== columns) {
      const name = columns.map(({ number }) => number).join();
      last = groups.get(name) ?? { columns, alike: [] };
      groups.set(name, last);
    }
    last.alike.push(row);
  }
  return [...groups.values()];
}
