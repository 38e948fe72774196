/**
 * Values of columns that this device does not have, in arriving versions.
 */
import type { Batch, TableData } from '../protocol/types.ts';
import type { Aside, AsideValue } from './aside.ts';
import type { Cells } from './cells.ts';
import { isUnset } from './cells.ts';
import { cellsOf, columnData } from './incoming.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { narrow } from './sql.ts';

const NONE: ReadonlyMap<number, AsideValue> = new Map();

/** What an arriving version brings for columns that are not here. @param runs - the batch's runs as local numbers */
export function asideOf(
  model: Model,
  batch: Batch,
  table: TableData,
  position: number,
  runs: readonly number[],
): ReadonlyMap<number, AsideValue> {
  if (model.absent.length === 0) return NONE;
  const cells = cellsOf(model, table, position, runs);
  const values = new Map<number, AsideValue>();
  for (const { number, wire } of model.absent) {
    const data = columnData(table, wire);
    if (data === undefined || isUnset(number, cells.get(number))) continue;
    if (data.kind === 'value') {
      const isInt = data.ints?.[position] === 1;
      values.set(number, { kind: 'value', value: data.values[position] ?? null, isInt });
      continue;
    }
    const index = data.refs[position] ?? -1;
    const target =
      index < 0
        ? null
        : {
            uuid: batch.uuids.subarray(index * 16, index * 16 + 16),
            birthHlc: batch.birthHlc[index] ?? 0,
            birthRun: runs[batch.birthRun[index] ?? 0] ?? 0,
            table: batch.names[batch.uuidTable[index] ?? 0] ?? '',
          };
    values.set(number, { kind: 'ref', target });
  }
  return values;
}

/** Ours, with theirs where they are later. */
export function joinAside(
  model: Model,
  ours: Aside,
  theirs: ReadonlyMap<number, AsideValue>,
  taken: ReadonlySet<number>,
): ReadonlyMap<number, AsideValue> {
  if (model.absent.length === 0) return NONE;
  const values = new Map<number, AsideValue>();
  for (const { number } of model.absent) {
    const value = taken.has(number) ? theirs.get(number) : ours.get(number);
    if (value?.kind === 'value' || value?.kind === 'ref') values.set(number, value);
  }
  return values;
}

/** Columns with a policy show what their entries make together, also while they stand aside. */
export function foldAside(
  library: Library,
  model: Model,
  cells: Cells,
  values: ReadonlyMap<number, AsideValue>,
): ReadonlyMap<number, AsideValue> {
  const policies = library.policies(model);
  if (policies.size === 0 || model.absent.length === 0) return values;
  const folded = new Map(values);
  for (const { number } of model.absent) {
    const entries = cells.get(number)?.entries;
    const value = entries === undefined ? undefined : policies.get(number)?.fold(entries);
    if (value === undefined) continue;
    folded.set(number, { kind: 'value', value: narrow(value), isInt: typeof value === 'bigint' });
  }
  return folded;
}
