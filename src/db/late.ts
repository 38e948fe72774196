/**
 * Values of columns that this device does not have, in arriving versions.
 */
import type { Batch, TableData } from '../protocol/types.ts';
import type { Aside, AsideValue } from './aside.ts';
import { cellsOf, columnData } from './incoming.ts';
import type { Model } from './model.ts';
import { UNSET_HLC } from './model.ts';

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
    if (data === undefined || cells.get(number)?.hlc === UNSET_HLC) continue;
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
