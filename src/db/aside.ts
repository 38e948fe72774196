/**
 * What a row's table and its cells do not tell, in one blob of its map row that moves and goes with it:
 * - values of columns that other devices have and this one has not (yet); they travel on with the row and enter the table
 *   when the column appears;
 * - where `Column.since` does not say it, whether the row has a value of its own in a column: it came without one, so that
 *   any real value wins over the default that stands in the table, or it was born with one though the column is younger here.
 */
import { ByteReader, ByteWriter, damaged } from '../protocol/bytes.ts';
import { readValues, writeValues } from '../protocol/columns.ts';
import { MAX_BATCH_BYTES, MAX_BATCH_COLUMNS, MAX_NAME_BYTES } from '../protocol/batch.ts';
import type { SqlValue } from '../protocol/types.ts';
import type { Cells } from './cells.ts';
import { isUnset } from './cells.ts';
import type { Model } from './model.ts';
import { NOT_HERE, UNSET_HLC, lateColumns } from './model.ts';

/** First byte of the blob. */
const FORMAT = 1;

const VALUE = 0;
const REFERENCE = 1;
const NO_REFERENCE = 2;
const UNSET = 3;
const BORN = 4;

/** The row that a reference leads to. */
export interface AsideTarget {
  readonly uuid: Uint8Array;
  readonly birthHlc: number;
  /** Local number of the run. */
  readonly birthRun: number;
  /** The table's name on the wire. */
  readonly table: string;
}

/** A value that the table has no column for. Its stamp is its cell's, or the birth's without one. */
export type AsideValue =
  | { readonly kind: 'value'; readonly value: SqlValue; /** See `ColumnData`. */ readonly isInt: boolean }
  | { readonly kind: 'ref'; readonly target: AsideTarget | null };

/** Notes on a column of the table: it has no value of its own, or has had it since its birth. */
type AsideNote = { readonly kind: 'unset' } | { readonly kind: 'born' };

/** By column number. */
export type Aside = ReadonlyMap<number, AsideValue | AsideNote>;

const NONE: Aside = new Map();

/** Reads what {@link formatAside} wrote. */
export function parseAside(blob: SqlValue | undefined): Aside {
  if (!(blob instanceof Uint8Array)) return NONE;
  const reader = new ByteReader(blob);
  if (reader.byte() !== FORMAT) damaged('Values that were set aside are of an unknown format.');
  const aside = new Map<number, AsideValue | AsideNote>();
  for (let left = reader.count(MAX_BATCH_COLUMNS, 'columns'); left > 0; left -= 1)
    aside.set(reader.count(0xffffffff, 'columns'), readEntry(reader));
  return aside;
}

function readEntry(reader: ByteReader): AsideValue | AsideNote {
  switch (reader.byte()) {
    case VALUE: {
      const { values, ints } = readValues(reader, 1, MAX_BATCH_BYTES, 'values');
      return { kind: 'value', value: values[0] ?? null, isInt: ints?.[0] === 1 };
    }
    case REFERENCE: {
      const uuid = reader.raw(16);
      const birthHlc = reader.natural('birth');
      const birthRun = reader.count(0xffffffff, 'runs');
      return { kind: 'ref', target: { uuid, birthHlc, birthRun, table: reader.text(MAX_NAME_BYTES, 'name') } };
    }
    case NO_REFERENCE:
      return { kind: 'ref', target: null };
    case UNSET:
      return { kind: 'unset' };
    case BORN:
      return { kind: 'born' };
    default:
      return damaged('A value that was set aside is of an unknown kind.');
  }
}

/** Null for none. */
export function formatAside(aside: Aside): Buffer | null {
  if (aside.size === 0) return null;
  const writer = new ByteWriter();
  writer.byte(FORMAT);
  writer.count(aside.size);
  for (const [number, entry] of [...aside].toSorted(([a], [b]) => a - b)) {
    writer.count(number);
    if (entry.kind === 'value') {
      writer.byte(VALUE);
      writeValues(writer, { values: [entry.value], ...(entry.isInt ? { ints: Uint8Array.of(1) } : {}) }, 'values');
    } else if (entry.kind === 'unset') writer.byte(UNSET);
    else if (entry.kind === 'born') writer.byte(BORN);
    else if (entry.target === null) writer.byte(NO_REFERENCE);
    else {
      const { uuid, birthHlc, birthRun, table } = entry.target;
      writer.byte(REFERENCE);
      writer.raw(uuid);
      writer.double(birthHlc);
      writer.count(birthRun);
      writer.text(table);
    }
  }
  return Buffer.from(writer.finish());
}

/** The cells of a row, with one of {@link UNSET_HLC} for each column in which it has no value of its own. @param run - any that is known */
export function withUnset(model: Model, birthHlc: number, run: number, cells: Cells, aside: Aside): Cells {
  const late = lateColumns(model);
  if (late.length === 0 && aside.size === 0) return cells;
  const all = new Map(cells);
  const unset = { hlc: UNSET_HLC, run, seen: [] };
  for (const { number, since } of late) {
    const entry = aside.get(number);
    if (since === NOT_HERE) {
      if (entry?.kind !== 'value' && entry?.kind !== 'ref') all.set(number, unset);
    } else if (birthHlc <= since && entry === undefined && !all.has(number)) all.set(number, unset);
  }
  for (const [number, { kind }] of aside) if (kind === 'unset' && !all.has(number)) all.set(number, unset);
  return all;
}

/**
 * The other way round: what of such cells is stored as cells, and what as notes.
 * @param values - those of columns that are not here
 */
export function withoutUnset(
  model: Model,
  birthHlc: number,
  cells: Cells,
  values: ReadonlyMap<number, AsideValue>,
): { readonly cells: Cells; readonly aside: Aside } {
  const late = lateColumns(model);
  const unset = [...cells].filter(([number, cell]) => isUnset(number, cell));
  if (late.length === 0 && unset.length === 0) return { cells, aside: NONE };
  const aside = new Map<number, AsideValue | AsideNote>(values);
  const kept = new Map(cells);
  for (const [number] of unset) {
    kept.delete(number);
    const since = late.find((column) => column.number === number)?.since ?? -1;
    if (since < birthHlc) aside.set(number, { kind: 'unset' });
  }
  for (const { number, since } of late)
    if (since !== NOT_HERE && birthHlc <= since && !cells.has(number)) aside.set(number, { kind: 'born' });
  return { cells: kept, aside };
}

/** After all columns of the table were stamped as born anew: no note holds any more, the values of others' columns do. */
export function bornAnew(blob: SqlValue | undefined): Buffer | null {
  return formatAside(new Map([...parseAside(blob)].filter(([, { kind }]) => kind === 'value' || kind === 'ref')));
}
