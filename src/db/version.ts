/**
 * Single versions: cutting one out of a batch, so that it can wait in `flotilla_pending` as a batch of one row, and putting
 * several together again.
 */
import type { Batch, ColumnData, DependencyData, SqlValue, TableData } from '../protocol/types.ts';
import type { Library } from './library.ts';
import { bindable, columnData } from './incoming.ts';
import type { Column, ForeignKey } from './model.ts';
import { UNSET_HLC } from './model.ts';
import { pickStamps } from './stamp-lists.ts';
import { NO_END, PageBuilder, runBytes } from './page.ts';

/** The version at `position` of `table`, as a batch of its own, with just the dictionary, runs and names that it needs. */
export function cutVersion(batch: Batch, table: TableData, position: number): Batch {
  const dictionary: number[] = [];
  const place = (index: number): number => {
    if (index < 0) return -1;
    const known = dictionary.indexOf(index);
    return known >= 0 ? known : dictionary.push(index) - 1;
  };
  const at = (values: readonly number[]): number => values[position] ?? -1;
  const numbering = (): { readonly used: number[]; readonly place: (index: number) => number } => {
    const used: number[] = [];
    return { used, place: (index) => (used.includes(index) ? used.indexOf(index) : used.push(index) - 1) };
  };
  const runs = numbering();
  const names = numbering();
  const rows = [place(at(table.rows))];
  const own = table.cells.row.flatMap((row, i) => (row === position ? [i] : []));
  // A column in which the row has no value of its own is left out.
  const unset = new Set(
    own
      .filter((i) => table.cells.hlc[i] === UNSET_HLC && (table.cells.column[i] ?? 0) >= 0)
      .map((i) => table.cells.column[i]),
  );
  const kept = table.columns.map((_, i) => i).filter((i) => !unset.has(i));
  const columns = kept.map((i) => {
    const column = table.columns[i] as ColumnData;
    if (column.kind === 'ref') return { ...column, refs: [place(at(column.refs))] };
    const values = [column.values[position] ?? null];
    return column.ints === undefined
      ? { kind: column.kind, name: column.name, values }
      : { ...column, values, ints: column.ints.slice(position, position + 1) };
  });
  const dependencies: DependencyData[] = table.dependencies.map((dependency) => ({
    ...dependency,
    refs: [place(at(dependency.refs))],
  }));
  const uuids = new Uint8Array(dictionary.length * 16);
  dictionary.forEach((index, i) => uuids.set(batch.uuids.subarray(index * 16, index * 16 + 16), i * 16));
  const pick = (values: readonly number[]): number[] => dictionary.map((index) => values[index] ?? 0);
  const birthRun = pick(batch.birthRun).map(runs.place);
  const uuidTable = pick(batch.uuidTable).map(names.place);
  const run = [runs.place(at(table.run))];
  const stamps = pickStamps(
    table,
    (row, column) => row === position && !unset.has(column),
    () => 0,
    runs.place,
    (column) => (column < 0 ? column : kept.indexOf(column)),
  );
  const runIds = new Uint8Array(runs.used.length * 16);
  runs.used.forEach((index, i) => runIds.set(runBytes(batch, index), i * 16));
  return {
    runs: runIds,
    runDevices: runs.used.map((index) => batch.runDevices[index] ?? ''),
    uuids,
    birthHlc: pick(batch.birthHlc),
    birthRun,
    uuidTable,
    names: names.used.map((index) => batch.names[index] ?? ''),
    tables: [{ table: table.table, rows, hlc: [at(table.hlc)], run, columns, dependencies, ...stamps }],
    tombstones: [],
    end: NO_END,
  };
}

/** Versions that wait, as one batch: one look-up for all, and those that refer to each other can stand together. */
export function joinVersions(library: Library, versions: readonly Batch[]): Batch {
  const builder = new PageBuilder(library.sql, library.registry, (ordinal) => ({
    hex: library.runHex(ordinal),
    device: library.runDevice(ordinal) ?? '',
  }));
  for (const version of versions) builder.addWaiting(version);
  return builder.build(NO_END);
}

/** Place in its dictionary of the row that a version's foreign key refers to; −1 for none, or for itself. */
export function targetIndex(version: Batch, foreignKey: ForeignKey): number {
  return refersToItself(version, foreignKey) ? -1 : refIndex(version, foreignKey);
}

export function refersToItself(version: Batch, foreignKey: ForeignKey): boolean {
  return refIndex(version, foreignKey) === version.tables[0]?.rows[0];
}

function refIndex(version: Batch, foreignKey: ForeignKey): number {
  const table = version.tables[0];
  const column = table?.columns.find((candidate) => candidate.name === foreignKey.wires[0]);
  const dependency = table?.dependencies.find((candidate) => candidate.foreignKey === foreignKey.number);
  return (foreignKey.simple ? (column?.kind === 'ref' ? column.refs[0] : -1) : dependency?.refs[0]) ?? -1;
}

/** A UUID of a version's dictionary. */
export function uuidAt(version: Batch, index: number): Buffer {
  return Buffer.from(version.uuids.subarray(index * 16, index * 16 + 16));
}

/** The UUID of that row; null for none, or for the row itself. */
export function targetOf(version: Batch, foreignKey: ForeignKey): Buffer | null {
  const target = targetIndex(version, foreignKey);
  return target < 0 ? null : uuidAt(version, target);
}

/** What a version holds in a column, a reference as the UUID of its target. */
export function valueIn(version: Batch, { wire }: Column): SqlValue {
  const data = columnData(version.tables[0] as TableData, wire);
  if (data === undefined) return null;
  if (data.kind === 'value') return bindable(data, 0) as SqlValue;
  const index = data.refs[0] ?? -1;
  return index < 0 ? null : version.uuids.slice(index * 16, index * 16 + 16);
}
