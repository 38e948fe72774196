/**
 * The words of an arriving batch: its rows, where their references lead, and what in it names the same row twice. Nothing is
 * written here.
 */
import { FlotillaError } from '../errors.ts';
import type { ColumnDescription, SchemaDescription, TableDescription } from '../protocol/schema.ts';
import type { Cell, Cells, Entry, LocalStamp } from './cells.ts';
import { registerCell } from './cells.ts';
import type { Batch, CellData, ColumnData, SqlValue, TableData } from '../protocol/types.ts';
import type { Library } from './library.ts';
import type { WaitingRow } from './api.ts';
import type { Rule } from './conflicts.ts';
import type { Column, Model } from './model.ts';
import { UNSET_HLC, isLedAlong, isPlainId, knownColumns, syncedColumns } from './model.ts';

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
  /** Numbers of the columns of the table that it has no value for: they get their default. */
  readonly unset: ReadonlySet<number>;
  /** What is kept of it beside the table, see `aside.ts`. */
  readonly aside: Buffer | null;
  /** What columns with a policy show of the cells, by column number. */
  readonly shown: ReadonlyMap<number, SqlValue>;
}

/** References of all rows of a table. */
export interface References {
  readonly refs: readonly number[];
  /** By an id and nothing else: see `Found.led`. */
  readonly isById: boolean;
  /** By an id that is only a part of foreign keys, in a row of a device: see `Found.heirs`. */
  readonly isLedAlong: boolean;
}

const references = new WeakMap<TableData, References[]>();

/** All references of a table's rows that must lead to rows here: columns of the table, and dependencies. */
export function referencesOf(model: Model, table: TableData): References[] {
  let lists = references.get(table);
  if (lists === undefined) {
    lists = standingReferences(model, table, () => true);
    references.set(table, lists);
  }
  return lists;
}

/** Columns that are not here, and foreign keys that are not, hold nobody up. */
function standingReferences(model: Model, table: TableData, isTaken: (name: string) => boolean): References[] {
  const lists: References[] = [];
  for (const { name, wire, role } of model.columns) {
    const data = role.kind === 'ref' && isTaken(name) ? columnData(table, wire) : undefined;
    if (data?.kind === 'ref')
      lists.push({ refs: data.refs, isById: isPlainId(model, name), isLedAlong: isLedAlong(model, name) });
  }
  for (const { foreignKey, refs } of table.dependencies)
    if (model.foreignKeys.find(({ number }) => number === foreignKey)?.columns.some(isTaken) === true)
      lists.push({ refs, isById: false, isLedAlong: false });
  return lists;
}

/** The references of those columns that a version writes. */
export function referencesIn({ model, table, outcome: { taken } }: Incoming): References[] {
  if (taken === null) return referencesOf(model, table);
  return standingReferences(model, table, (name) => taken.has(columnNamed(model, name).number));
}

const cellPlaces = new WeakMap<CellData, Map<number, number>>();

/**
 * Stamps of single columns of a version; of {@link UNSET_HLC} where it has no value, also for columns that its sender did not
 * know of.
 * @param runs - the batch's runs as local numbers
 */
export function cellsOf(model: Model, table: TableData, position: number, runs: readonly number[]): Cells {
  const { cells, registers } = table;
  const missing = missingColumns(model, table);
  if (cells.row.length === 0 && registers === undefined && missing.length === 0) return NO_CELLS;
  const found = new Map<number, Cell & { readonly seen: LocalStamp[] }>();
  const numberOf = (column: number): number =>
    column < 0 ? column : columnByWire(model, table.columns[column]?.name ?? '').number;
  const stampAt = (list: CellData, i: number): LocalStamp => ({
    hlc: list.hlc[i] ?? 0,
    run: runs[list.run[i] ?? 0] ?? 0,
  });
  const known = runs[table.run[position] ?? 0] ?? 0;
  for (const { number } of missing) found.set(number, { hlc: UNSET_HLC, run: known, seen: [] });
  for (let i = firstPlace(cells, position); cells.row[i] === position; i += 1) {
    const number = numberOf(cells.column[i] ?? 0);
    const cell = found.get(number);
    if (cell === undefined) found.set(number, { ...stampAt(cells, i), seen: [] });
    else cell.seen.push(stampAt(cells, i));
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

const missingIn = new WeakMap<TableData, readonly Column[]>();

/** Columns known here that the sender did not know of. */
function missingColumns(model: Model, table: TableData): readonly Column[] {
  let missing = missingIn.get(table);
  if (missing === undefined) {
    missing = knownColumns(model).filter(({ wire }) => columnData(table, wire) === undefined);
    missingIn.set(table, missing);
  }
  return missing;
}

/** A column of the batch's table by its name on the wire. */
export function columnData(table: TableData, wire: string): ColumnData | undefined {
  let map = columnMaps.get(table);
  if (map === undefined) {
    map = new Map(table.columns.map((column) => [column.name, column]));
    columnMaps.set(table, map);
  }
  return map.get(wire);
}

export function columnNamed(model: Model, name: string): Column {
  return model.columns.find((column) => column.name === name) as Column;
}

/** The columns that an arriving version writes. */
export function takenColumns({ model, outcome }: Incoming): readonly Column[] {
  const columns = syncedColumns(model);
  return outcome.taken === null ? columns : columns.filter(({ number }) => outcome.taken?.has(number));
}

/** Any column that a version of a row of the table may bring. */
export function columnByWire(model: Model, wire: string): Column {
  return knownColumns(model).find((column) => column.wire === wire) as Column;
}

/** A batch brings tables or columns that are not known here: they are to be remembered first. */
export class UnknownSchema extends Error {
  readonly schema: SchemaDescription;

  constructor(schema: SchemaDescription) {
    super('The peer has tables or columns that are not known here.');
    this.schema = schema;
  }
}

/** @throws UnknownSchema unless all tables and columns of a batch are known */
export function requireKnown(library: Library, batch: Batch): void {
  const { byWire } = library.registry;
  const isKnown = (table: TableData): boolean => {
    const model = byWire.get(table.table);
    return (
      model !== undefined && table.columns.every(({ name }) => (columnByWire(model, name) as unknown) !== undefined)
    );
  };
  if (batch.names.every((name) => byWire.has(name)) && batch.tables.every(isKnown)) return;
  const targetOf = (refs: readonly number[]): string => {
    const index = refs.find((ref) => ref >= 0);
    return index === undefined ? '' : (batch.names[batch.uuidTable[index] ?? 0] ?? '');
  };
  const tables = batch.names.map((name): TableDescription => {
    const columns = batch.tables
      .filter((table) => table.table === name)
      .flatMap((table) => table.columns)
      .map((data): ColumnDescription => ({
        name: data.name,
        kind: data.kind,
        target: data.kind === 'ref' ? targetOf(data.refs) : '',
        type: 'BLOB',
        notNull: false,
        // What its entries mean is not known yet; they are kept.
        policy: hasRegister(batch, name, data.name) ? 'unknown' : '',
        absent: false,
      }));
    return {
      name,
      ownership: 'shared',
      ownedBy: '',
      identity: null,
      key: [],
      collations: [],
      columns,
      foreignKeys: [],
      absent: false,
    };
  });
  throw new UnknownSchema({ tables });
}

function hasRegister({ tables }: Batch, name: string, column: string): boolean {
  return tables.some(
    (table) =>
      table.table === name && table.registers?.column.some((at) => table.columns[at]?.name === column) === true,
  );
}

/** All that a batch brings must fit what is here, before any of it is merged. @throws FlotillaError PROTOCOL */
export function checkTables(library: Library, batch: Batch): void {
  for (const table of batch.tables) {
    const model = library.arriving(table.table);
    checkTable(library, model, batch, table);
    checkRegisters(model, table);
  }
}

/** What a batch brings must be known, have the roles that it has here, and refer to rows of the right tables. */
function checkTable(library: Library, model: Model, batch: Batch, table: TableData): void {
  const wireOf = (name: string): string => library.registry.byName.get(name)?.wire ?? name;
  // Of what is not here nothing is known but what somebody has said.
  const isAbsent = (wire: string): boolean => model.absent.some((column) => column.wire === wire);
  let fits = true;
  for (const data of table.columns) {
    const role = (columnByWire(model, data.name) as Column | undefined)?.role;
    if (role?.kind === 'ref')
      fits &&= data.kind === 'ref' && (isAbsent(data.name) || leadsTo(batch, data.refs, wireOf(role.table)));
    else fits &&= role?.kind === 'value' && data.kind === 'value';
  }
  for (const { foreignKey, refs } of table.dependencies) {
    const key = model.foreignKeys.find(({ number }) => number === foreignKey);
    fits &&= key === undefined || leadsTo(batch, refs, wireOf(key.table));
  }
  // A row is found by its key, so that comes with every version.
  for (const { name, wire, role } of model.columns)
    if (role.kind !== 'rowid' && model.key.includes(name)) fits &&= columnData(table, wire) !== undefined;
  if (!fits)
    throw new FlotillaError('PROTOCOL', `The peer sent rows of ${model.table} with other columns than it has here.`);
  // Of a table that is not here nobody knows yet whether its rows have owners.
  if (model.ownership === 'shared' && model.isAbsent !== true && table.cells.column.some((column) => column < 0))
    throw new FlotillaError(
      'PROTOCOL',
      `The peer sent rows of ${model.table} with an owner, which they do not have here.`,
    );
}

/**
 * Each row must bring entries for each column with a policy in which it has a value, and for no other: what such a column shows
 * is made of them alone.
 */
function checkRegisters(model: Model, { table, rows, columns, registers, cells }: TableData): void {
  const places = columns.flatMap(({ name }, i) => (columnByWire(model, name).policy === undefined ? [] : [i]));
  const found = new Set<string>();
  let fits = true;
  registers?.row.forEach((row, i) => {
    const column = registers.column[i] ?? 0;
    fits &&= places.includes(column);
    found.add(`${row}:${column}`);
  });
  cells.row.forEach((row, i) => {
    const column = cells.column[i] ?? 0;
    if (cells.hlc[i] === UNSET_HLC && places.includes(column)) found.add(`${row}:${column}`);
  });
  if (!fits || found.size !== rows.length * places.length)
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
