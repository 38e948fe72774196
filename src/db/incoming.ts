/**
 * The words of an arriving batch: its rows, where their references lead, and what in it names the same row twice. Nothing is
 * written here.
 */
import { FlotillaError } from '../errors.ts';
import type { Cell, Cells, Entry, LocalStamp } from './cells.ts';
import { registerCell } from './cells.ts';
import type { Batch, CellData, ColumnData, SqlValue, TableData } from '../protocol/types.ts';
import type { WaitingRow } from './api.ts';
import type { Rule } from './conflicts.ts';
import type { Column, Model } from './model.ts';
import { syncedColumns } from './model.ts';

/** Why a version waits. */
export interface Hold {
  readonly reason: WaitingRow['reason'];
  /** One sentence for people. */
  readonly detail: string;
}

/** A version of the batch that is newer than what is here. */
export interface Incoming {
  readonly model: Model;
  readonly table: TableData;
  readonly position: number;
  /** Dictionary index of the row. */
  readonly index: number;
  /** The row stands here in an older version. */
  readonly isUpdate: boolean;
  /** The row stands here without an identity, and takes this one. */
  isPaired: boolean;
  hold: Hold | null;
  /** What is written of it, and the stamps of the row then. */
  readonly outcome: Outcome;
}

/** What an arriving version makes of the row that is here. */
export interface Outcome extends LocalStamp {
  /** Numbers of the columns that it writes; null for all. */
  readonly taken: ReadonlySet<number> | null;
  /** Of those: columns whose value here its writers did not know of, so that it is discarded unseen. */
  readonly unseen: ReadonlySet<number>;
  /** The stamps of what those columns held. */
  readonly lost: Cells;
  /** The rule by which they are discarded. */
  readonly rule: Rule;
  readonly cells: Cells;
  /** What columns with a policy show of the cells, by column number. */
  readonly shown: ReadonlyMap<number, SqlValue>;
}

const references = new WeakMap<TableData, (readonly number[])[]>();

/** All lists of references of a table's rows: columns and dependencies. */
export function referencesOf(table: TableData): (readonly number[])[] {
  let lists = references.get(table);
  if (lists === undefined) {
    lists = table.columns.flatMap((column) => (column.kind === 'ref' ? [column.refs] : []));
    for (const dependency of table.dependencies) lists.push(dependency.refs);
    references.set(table, lists);
  }
  return lists;
}

/** The lists of references of those columns that a version writes. */
export function referencesIn({ model, table, outcome: { taken } }: Incoming): (readonly number[])[] {
  if (taken === null) return referencesOf(table);
  const isTaken = (name: string): boolean => taken.has(columnNamed(model, name).number);
  const lists = table.columns.flatMap((column) => (column.kind === 'ref' && isTaken(column.name) ? [column.refs] : []));
  for (const { foreignKey, refs } of table.dependencies)
    if (model.foreignKeys[foreignKey]?.columns.some(isTaken) === true) lists.push(refs);
  return lists;
}

const cellPlaces = new WeakMap<CellData, Map<number, number>>();

/** Stamps of single columns of a version. @param runs - the batch's runs as local numbers */
export function cellsOf(model: Model, table: TableData, position: number, runs: readonly number[]): Cells {
  const { cells, registers } = table;
  if (cells.row.length === 0 && registers === undefined) return NO_CELLS;
  const found = new Map<number, Cell & { readonly seen: LocalStamp[] }>();
  const numberOf = (column: number): number =>
    column < 0 ? column : columnNamed(model, table.columns[column]?.name ?? '').number;
  const stampAt = (list: CellData, i: number): LocalStamp => ({
    hlc: list.hlc[i] ?? 0,
    run: runs[list.run[i] ?? 0] ?? 0,
  });
  for (let i = firstPlace(cells, position); cells.row[i] === position; i += 1) {
    const number = numberOf(cells.column[i] ?? 0);
    const known = found.get(number);
    if (known === undefined) found.set(number, { ...stampAt(cells, i), seen: [] });
    else known.seen.push(stampAt(cells, i));
  }
  if (registers === undefined) return found;
  const entries = new Map<number, Entry[]>();
  for (let i = firstPlace(registers, position); registers.row[i] === position; i += 1) {
    const number = numberOf(registers.column[i] ?? 0);
    const value = registers.values[i] ?? null;
    const exact = typeof value === 'number' && registers.ints[i] === 1 ? BigInt(value) : value;
    entries.set(number, [...(entries.get(number) ?? []), { ...stampAt(registers, i), value: exact }]);
  }
  return new Map<number, Cell>([
    ...found,
    ...[...entries].map(([number, own]) => [number, registerCell(own)] as const),
  ]);
}

/** Where the stamps of a row begin. */
function firstPlace(list: CellData, position: number): number {
  let places = cellPlaces.get(list);
  if (places === undefined) {
    places = new Map();
    for (let i = list.row.length - 1; i >= 0; i -= 1) places.set(list.row[i] as number, i);
    cellPlaces.set(list, places);
  }
  return places.get(position) ?? Infinity;
}

const NO_CELLS: Cells = new Map();

const columnMaps = new WeakMap<TableData, Map<string, ColumnData>>();

/** A column of the batch's table by its name; {@link checkTable} has seen to it that it is there. */
export function columnData(table: TableData, name: string): ColumnData {
  let map = columnMaps.get(table);
  if (map === undefined) {
    map = new Map(table.columns.map((column) => [column.name, column]));
    columnMaps.set(table, map);
  }
  return map.get(name) as ColumnData;
}

export function columnNamed(model: Model, name: string): Column {
  return model.columns.find((column) => column.name === name) as Column;
}

/** A batch must bring exactly the columns that sync here, in the roles that they have here, and refer to rows of the right tables. */
export function checkTable(model: Model, batch: Batch, table: TableData): void {
  const expected = syncedColumns(model);
  let fits = table.columns.length === expected.length;
  for (const column of expected) {
    const data = columnData(table, column.name) as ColumnData | undefined;
    if (column.role.kind === 'ref') fits &&= data?.kind === 'ref' && leadsTo(batch, data.refs, column.role.table);
    else fits &&= data?.kind === 'value';
  }
  const joined = model.foreignKeys.filter((key) => !key.simple);
  fits &&= table.dependencies.length === joined.length;
  for (const key of joined) {
    const dependency = table.dependencies.find((candidate) => candidate.foreignKey === key.number);
    fits &&= dependency !== undefined && leadsTo(batch, dependency.refs, key.table);
  }
  if (!fits)
    throw new FlotillaError('PROTOCOL', `The peer sent rows of ${model.table} with other columns than it has here.`);
}

/** Each row must bring entries for each column with a policy, and for no other: what such a column shows is made of them alone. */
export function checkRegisters(model: Model, { table, rows, columns, registers }: TableData): void {
  const expected = syncedColumns(model).filter(({ policy }) => policy !== undefined);
  const places = expected.map(({ name }) => columns.findIndex((column) => column.name === name));
  const found = new Set<string>();
  let fits = true;
  registers?.row.forEach((row, i) => {
    const column = registers.column[i] ?? 0;
    fits &&= places.includes(column);
    found.add(`${row}:${column}`);
  });
  if (!fits || found.size !== rows.length * expected.length)
    throw new FlotillaError('PROTOCOL', `The peer sent rows of ${table} whose columns have other policies than here.`);
}

function leadsTo(batch: Batch, refs: readonly number[], table: string): boolean {
  const name = batch.names.indexOf(table);
  return refs.every((target) => target < 0 || batch.uuidTable[target] === name);
}

/** A value as better-sqlite3 must be given it, so that the same is stored. */
export function bindable(data: ColumnData & { kind: 'value' }, position: number): SqlValue {
  const value = data.values[position] ?? null;
  if (typeof value === 'number' && data.ints !== undefined && data.ints[position] === 1) return BigInt(value);
  if (value instanceof Uint8Array && !Buffer.isBuffer(value))
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return value;
}

/**
 * A row and its newer version that waits at the sender may come in one batch. The row goes first, as if it had come in a page
 * before: it stands until the other can. The second part is null when there is nothing of the kind.
 */
export function splitVersions(batch: Batch): [Batch, Batch | null] {
  if (hasDistinctTables(batch)) return [batch, null];
  const seen = new Set<string>();
  const later = new Set<TableData>();
  for (const table of batch.tables) {
    const uuids = table.rows.map((index) => uuidText(batch, index));
    if (uuids.some((uuid) => seen.has(uuid))) later.add(table);
    for (const uuid of uuids) seen.add(uuid);
  }
  if (later.size === 0) return [batch, null];
  return [
    { ...batch, tables: batch.tables.filter((table) => !later.has(table)) },
    { ...batch, tables: [...later], tombstones: [] },
  ];
}

/**
 * For each entry of the dictionary the first one of the same UUID; null when none stands there twice. That happens when the
 * page has a tombstone and the row that was born again, or a version that waits beside others.
 */
export function firstOfEach(batch: Batch): number[] | null {
  if (batch.tombstones.length === 0 && hasDistinctTables(batch)) return null;
  const first = new Map<string, number>();
  return batch.birthHlc.map((_, index) => {
    const uuid = uuidText(batch, index);
    const known = first.get(uuid);
    if (known === undefined) first.set(uuid, index);
    return known ?? index;
  });
}

/** Only versions that wait travel in groups of their own. */
function hasDistinctTables(batch: Batch): boolean {
  return new Set(batch.tables.map((table) => table.table)).size === batch.tables.length;
}

function uuidText(batch: Batch, index: number): string {
  return Buffer.from(batch.uuids.buffer, batch.uuids.byteOffset + index * 16, 16).toString('latin1');
}
