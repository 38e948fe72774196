/**
 * Single versions: cutting one out of a batch, so that it can wait in `flotilla_pending` as a batch of one row.
 */
import type { Batch, DependencyData, TableData } from '../protocol/types.ts';
import { NO_END } from './page.ts';

/** The version at `position` of `table`, as a batch of its own, with just the dictionary that it needs. */
export function cutVersion(batch: Batch, table: TableData, position: number): Batch {
  const dictionary: number[] = [];
  const place = (index: number): number => {
    if (index < 0) return -1;
    const known = dictionary.indexOf(index);
    return known >= 0 ? known : dictionary.push(index) - 1;
  };
  const at = (values: readonly number[]): number => values[position] ?? -1;
  const rows = [place(at(table.rows))];
  const columns = table.columns.map((column) => {
    if (column.kind === 'ref') return { ...column, refs: [place(at(column.refs))] };
    const values = [column.values[position] ?? null];
    return column.ints === undefined
      ? { kind: column.kind, name: column.name, values }
      : { ...column, values, ints: column.ints.slice(position, position + 1) };
  });
  const dependencies: DependencyData[] = table.dependencies.map((dependency) => ({ ...dependency, refs: [place(at(dependency.refs))] }));
  const uuids = new Uint8Array(dictionary.length * 16);
  dictionary.forEach((index, i) => uuids.set(batch.uuids.subarray(index * 16, index * 16 + 16), i * 16));
  const pick = (values: readonly number[]): number[] => dictionary.map((index) => values[index] ?? 0);
  return {
    runs: batch.runs,
    runDevices: batch.runDevices,
    uuids,
    birthHlc: pick(batch.birthHlc),
    birthRun: pick(batch.birthRun),
    uuidTable: pick(batch.uuidTable),
    names: batch.names,
    tables: [{ table: table.table, rows, hlc: [at(table.hlc)], run: [at(table.run)], columns, dependencies }],
    tombstones: [],
    end: NO_END,
  };
}

/** The one version of such a batch with some references set to NULL and a new change stamp. */
export function withoutReferences(
  batch: Batch,
  columns: ReadonlySet<string>,
  stamp: { readonly hlc: number; readonly run: Uint8Array; readonly device: string },
): Batch {
  const runs = new Uint8Array(batch.runs.length + 16);
  runs.set(batch.runs);
  runs.set(stamp.run, batch.runs.length);
  return {
    ...batch,
    runs,
    runDevices: [...batch.runDevices, stamp.device],
    tables: batch.tables.map((table) => ({
      ...table,
      hlc: [stamp.hlc],
      run: [batch.runDevices.length],
      columns: table.columns.map((column) => {
        if (!columns.has(column.name)) return column;
        return column.kind === 'ref' ? { ...column, refs: [-1] } : { ...column, values: [null] };
      }),
      dependencies: table.dependencies,
    })),
  };
}
