/**
 * Joining two versions of one row, column by column, outside of the tables: when one of them waits, what arrives and what is
 * written here go into it. Versions are batches of one row, as `flotilla_pending` holds them.
 */
import { NO_STAMPS } from '../protocol/batch.ts';
import { bytesToHex, hexToBytes } from '../protocol/uuid.ts';
import type { Batch, ColumnData, DependencyData, SqlValue, TableData } from '../protocol/types.ts';
import { FlotillaError } from '../errors.ts';
import type { Cells, Entry, LocalStamp, Order, Policies } from './cells.ts';
import { isUnset, joinCells, lastChange, registerCell, writeColumns } from './cells.ts';
import { cellsOf, columnByWire, columnNamed } from './incoming.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { UNSET_HLC } from './model.ts';
import { NO_END, PageBuilder, readVersions, runBytes, versionSelect } from './page.ts';
import type { ColumnStamps } from './stamp-lists.ts';
import { pickStamps, StampLists } from './stamp-lists.ts';
import { narrow } from './sql.ts';
import { cutVersion } from './version.ts';

/** Two versions in one. */
export interface JoinedVersion {
  readonly version: Batch;
  /** Its change stamp. */
  readonly last: LocalStamp;
  /** Whether `theirs` brought anything. */
  readonly isNews: boolean;
  /** Stamps of its columns, and those that `ours` had. */
  readonly cells: Cells;
  readonly before: Cells;
  /** Numbers of the columns that `theirs` wrote over without having seen them. */
  readonly unseen: ReadonlySet<number>;
}

/** Runs of a batch as local numbers. New ones are stored, so it must not happen inside a savepoint that may be undone. */
export function translateRuns(library: Library, batch: Batch): number[] {
  return batch.runDevices.map((device, i) =>
    library.runOrdinal(bytesToHex(runBytes(batch, i)), device === '' ? null : device),
  );
}

/** The row that stands here, as a version; null if none does, or if its references point nowhere. */
export function readVersion(library: Library, model: Model, uuid: Uint8Array): Batch | null {
  const { sql, registry } = library;
  const builder = new PageBuilder(sql, registry, (ordinal) => ({
    hex: library.runHex(ordinal),
    device: library.runDevice(ordinal) ?? '',
  }));
  const text = versionSelect(model, registry, 'WHERE m.uuid = ?');
  builder.addVersions(model, readVersions(sql, model, text, [Buffer.from(uuid)]));
  builder.resolve();
  const page = builder.build(NO_END);
  const table = page.tables[0];
  return table === undefined ? null : cutVersion(page, table, 0);
}

/** A version with the birth of another one, of which only some columns count (by their names on the wire): they were written on top of that. */
export function withBirthOf(of: Batch, version: Batch, columns: ReadonlySet<string>): Batch {
  const table = onlyTable(version);
  const row = table.rows[0] ?? 0;
  const born = onlyTable(of).rows[0] ?? 0;
  const birthRun = version.runDevices.length;
  const run = of.birthRun[born] ?? 0;
  const others = table.columns.flatMap(({ name }, i) => (columns.has(name) ? [] : [i]));
  const kept = pickStamps(
    table,
    (_row, column) => column < 0 || columns.has(table.columns[column]?.name ?? ''),
    (position) => position,
    (stamp) => stamp,
  );
  const { registers: _registers, ...rest } = table;
  return {
    ...version,
    runs: concat(version.runs, runBytes(of, run)),
    runDevices: [...version.runDevices, of.runDevices[run] ?? ''],
    birthHlc: version.birthHlc.map((hlc, i) => (i === row ? (of.birthHlc[born] ?? 0) : hlc)),
    birthRun: version.birthRun.map((own, i) => (i === row ? birthRun : own)),
    tables: [
      {
        ...rest,
        ...kept,
        cells: {
          row: [...kept.cells.row, ...others.map(() => 0)],
          column: [...kept.cells.column, ...others],
          hlc: [...kept.cells.hlc, ...others.map(() => UNSET_HLC)],
          run: [...kept.cells.run, ...others.map(() => table.run[0] ?? 0)],
        },
      },
    ],
  };
}

/** What a write of this device adds to columns with a policy, by column number. */
export interface Added {
  readonly differences: ReadonlyMap<number, SqlValue>;
  readonly stamp: LocalStamp;
}

/**
 * Joins two versions with the same birth: of each column the later one, of equal ones theirs.
 * @param added - to be added to the result
 */
export function joinVersion(
  library: Library,
  model: Model,
  ours: Batch,
  theirs: Batch,
  added: Added | null = null,
): JoinedVersion {
  const order: Order = (hlcA, runA, hlcB, runB) => library.compare(hlcA, runA, hlcB, runB);
  const mine = onlyTable(ours);
  const table = onlyTable(theirs);
  const ourCells = cellsOf(model, mine, 0, translateRuns(library, ours));
  const theirRuns = translateRuns(library, theirs);
  const theirCells = cellsOf(model, table, 0, theirRuns);
  const policies = library.policies(model);
  const joined = joinCells(order, ourCells, theirCells, policies);
  const { taken } = joined;
  const cells = added === null ? joined.cells : addDifferences(policies, joined.cells, added);
  const isOurs = (name: string): boolean => {
    const { number } = columnByWire(model, name);
    const [our, their] = [ourCells.get(number), theirCells.get(number)];
    if (isUnset(number, their)) return !isUnset(number, our);
    if (our === undefined || taken.has(number)) return false;
    return their === undefined || order(our.hlc, our.run, their.hlc, their.run) > 0;
  };
  const page = new Joining(theirs);
  const placed = (own: ColumnData): ColumnData =>
    own.kind === 'ref' ? { ...own, refs: own.refs.map((index) => page.place(ours, index)) } : own;
  const theirNames = new Set(table.columns.map(({ name }) => name));
  const columns = [
    ...table.columns.map((column): ColumnData => {
      const entries = cells.get(columnByWire(model, column.name).number)?.entries;
      if (entries !== undefined) return shownColumn(library, model, column, entries);
      if (!isOurs(column.name)) return column;
      return placed(mine.columns.find(({ name }) => name === column.name) ?? column);
    }),
    ...mine.columns.filter(({ name }) => !theirNames.has(name)).map(placed),
  ];
  const dependencies = table.dependencies.map((dependency): DependencyData => {
    const key = model.foreignKeys.find(({ number }) => number === dependency.foreignKey);
    if (key?.wires.some(isOurs) !== true) return dependency;
    const own = mine.dependencies.find(({ foreignKey }) => foreignKey === dependency.foreignKey) ?? dependency;
    return { ...own, refs: own.refs.map((index) => page.place(ours, index)) };
  });
  const born = table.rows[0] ?? 0;
  const birth = { hlc: theirs.birthHlc[born] ?? 0, run: theirRuns[theirs.birthRun[born] ?? 0] ?? 0 };
  const last = lastChange(order, birth, cells);
  const version = page.build({
    ...table,
    hlc: [last.hlc],
    run: [page.run(library, last.run)],
    columns,
    dependencies,
    ...page.stamps(library, model, columns, cells),
  });
  return { version, last, isNews: taken.size > 0, cells, before: ourCells, unseen: joined.unseen };
}

function addDifferences(policies: Policies, cells: Cells, { differences, stamp }: Added): Cells {
  const grown = new Map(cells);
  for (const [number, difference] of differences) {
    const entries = policies.get(number)?.add(cells.get(number)?.entries ?? [], difference, stamp);
    if (entries !== undefined) grown.set(number, registerCell(entries));
  }
  return grown;
}

/** A column with a policy, as its entries make it; as it came where they cannot be brought together, so that the version waits. */
function shownColumn(library: Library, model: Model, column: ColumnData, entries: readonly Entry[]): ColumnData {
  try {
    const value = library.policies(model).get(columnByWire(model, column.name).number)?.fold(entries) ?? null;
    const ints = Uint8Array.of(typeof value === 'bigint' ? 1 : 0);
    return { kind: 'value', name: column.name, values: [narrow(value)], ints };
  } catch (error) {
    if (error instanceof FlotillaError) return column;
    throw error;
  }
}

/** What a column of a version is set to. A local id counts by the row that it means. */
export interface Setting {
  readonly value: SqlValue;
  /** The row that the foreign key refers to, null for none; absent where that stays the same. */
  readonly target?: Target | null;
  /** Of one column of several: the row whose id it holds, null for none. */
  readonly named?: Target | null;
}

/** A row that stands here, as others refer to it. */
export interface Target {
  readonly model: Model;
  readonly uuid: Uint8Array;
  readonly birth: LocalStamp;
}

/**
 * A version with some columns written by this device.
 * @param before - the cells of the version; of an owned row, those of what is written over it
 */
export function writeVersion(
  library: Library,
  model: Model,
  version: Batch,
  settings: ReadonlyMap<string, Setting>,
  before: Cells,
): Batch {
  const stamp = { hlc: library.stampAt(library.around.now()), run: library.run };
  const table = onlyTable(version);
  const page = new Joining(version);
  const numbers = [...settings.keys()].map((name) => columnNamed(model, name).number);
  const place = (target: Target | null): number => (target === null ? -1 : page.placeTarget(library, target));
  const placed = new Map(
    [...settings].flatMap(([name, { target }]) => (target === undefined ? [] : [[name, place(target)]])),
  );
  const written = [...settings].map(([name, setting]): ColumnData => {
    const { wire, role } = columnNamed(model, name);
    if (role.kind === 'ref') {
      const { named } = setting;
      return { kind: 'ref', name: wire, refs: [named === undefined ? (placed.get(name) ?? -1) : place(named)] };
    }
    return valueColumn(wire, setting.value);
  });
  const columns = [
    ...table.columns.filter(({ name }) => !written.some((column) => column.name === name)),
    ...written,
  ].toSorted((one, other) => placeOf(table, one) - placeOf(table, other));
  return page.build({
    ...table,
    hlc: [stamp.hlc],
    run: [page.run(library, stamp.run)],
    columns,
    dependencies: table.dependencies.map((dependency) => {
      const names = model.foreignKeys.find(({ number }) => number === dependency.foreignKey)?.columns ?? [];
      const name = names.find((one) => placed.has(one));
      // A key of several columns refers to nothing as soon as one of them is NULL.
      return name === undefined ? dependency : { ...dependency, refs: [placed.get(name) ?? -1] };
    }),
    ...page.stamps(
      library,
      model,
      columns,
      model.ownership === 'device' ? before : writeColumns(before, numbers, stamp),
    ),
  });
}

/** A version as this device bears it anew. */
export function rebear(library: Library, version: Batch): Batch {
  const stamp = { hlc: library.stampAt(library.around.now()), run: library.run };
  const table = onlyTable(version);
  const page = new Joining(version);
  const run = page.run(library, stamp.run);
  return page.bear({ ...table, hlc: [stamp.hlc], run: [run], cells: NO_STAMPS }, stamp.hlc, run);
}

/** Columns keep their places; new ones come last. */
function placeOf(table: TableData, { name }: ColumnData): number {
  const place = table.columns.findIndex((column) => column.name === name);
  return place < 0 ? table.columns.length : place;
}

function valueColumn(name: string, value: SqlValue): ColumnData {
  if (typeof value !== 'bigint') return { kind: 'value', name, values: [value] };
  return { kind: 'value', name, values: [narrow(value)], ints: Uint8Array.of(1) };
}

/** The rows that a version refers to, itself left out. */
export function targetsIn(version: Batch): { readonly table: string; readonly uuid: Uint8Array }[] {
  const table = onlyTable(version);
  const own = table.rows[0];
  const refs = [
    ...table.columns.flatMap((column) => (column.kind === 'ref' ? column.refs : [])),
    ...table.dependencies.flatMap((dependency) => dependency.refs),
  ];
  return [...new Set(refs)]
    .filter((index) => index >= 0 && index !== own)
    .map((index) => ({
      table: version.names[version.uuidTable[index] ?? 0] ?? '',
      uuid: version.uuids.subarray(index * 16, index * 16 + 16),
    }));
}

function onlyTable(version: Batch): TableData {
  const table = version.tables[0];
  if (table === undefined) throw new RangeError('a version without its row');
  return table;
}

/** A version that grows out of another one. */
class Joining {
  #batch: Batch;

  constructor(batch: Batch) {
    this.#batch = batch;
  }

  /** The place in the dictionary of what stands at `index` in that of another version. */
  place(from: Batch, index: number): number {
    if (index < 0) return -1;
    const batch = this.#batch;
    const uuid = from.uuids.subarray(index * 16, index * 16 + 16);
    const known = this.#placeOf(uuid);
    if (known >= 0) return known;
    const run = from.birthRun[index] ?? 0;
    const name = from.names[from.uuidTable[index] ?? 0] ?? '';
    const names = batch.names.includes(name) ? batch.names : [...batch.names, name];
    this.#batch = {
      ...batch,
      uuids: concat(batch.uuids, uuid),
      birthHlc: [...batch.birthHlc, from.birthHlc[index] ?? 0],
      birthRun: [...batch.birthRun, batch.runDevices.length],
      runs: concat(batch.runs, runBytes(from, run)),
      runDevices: [...batch.runDevices, from.runDevices[run] ?? ''],
      uuidTable: [...batch.uuidTable, names.indexOf(name)],
      names,
    };
    return batch.birthHlc.length;
  }

  #placeOf(uuid: Uint8Array): number {
    const { birthHlc, uuids } = this.#batch;
    return birthHlc.findIndex((_, i) => Buffer.compare(uuids.subarray(i * 16, i * 16 + 16), uuid) === 0);
  }

  /** The place in the dictionary of a row that stands here, or of the version's own. */
  placeTarget(library: Library, { model, uuid, birth }: Target): number {
    const known = this.#placeOf(uuid);
    if (known >= 0) return known;
    const run = this.run(library, birth.run);
    const batch = this.#batch;
    const names = batch.names.includes(model.wire) ? batch.names : [...batch.names, model.wire];
    this.#batch = {
      ...batch,
      uuids: concat(batch.uuids, uuid),
      birthHlc: [...batch.birthHlc, birth.hlc],
      birthRun: [...batch.birthRun, run],
      uuidTable: [...batch.uuidTable, names.indexOf(model.wire)],
      names,
    };
    return batch.birthHlc.length;
  }

  run(library: Library, ordinal: number): number {
    const batch = this.#batch;
    const hex = library.runHex(ordinal);
    for (let i = 0; i < batch.runDevices.length; i += 1) if (bytesToHex(runBytes(batch, i)) === hex) return i;
    this.#batch = {
      ...batch,
      runs: concat(batch.runs, hexToBytes(hex)),
      runDevices: [...batch.runDevices, library.runDevice(ordinal) ?? ''],
    };
    return batch.runDevices.length;
  }

  stamps(library: Library, model: Model, columns: readonly ColumnData[], cells: Cells): ColumnStamps {
    const numbers = columns.map(({ name }) => columnByWire(model, name).number);
    const lists = new StampLists();
    lists.add(
      0,
      cells,
      (number) => (number < 0 ? number : numbers.includes(number) ? numbers.indexOf(number) : undefined),
      (run) => this.run(library, run),
    );
    return lists.finish();
  }

  /** With another birth stamp. */
  bear(table: TableData, hlc: number, run: number): Batch {
    const own = table.rows[0] ?? 0;
    const { birthHlc, birthRun } = this.#batch;
    this.#batch = {
      ...this.#batch,
      birthHlc: birthHlc.map((one, i) => (i === own ? hlc : one)),
      birthRun: birthRun.map((one, i) => (i === own ? run : one)),
    };
    return this.build(table);
  }

  /** In the form that every version has: what it does not need is left out, and the same version is always the same bytes. */
  build(table: TableData): Batch {
    return cutVersion({ ...this.#batch, tables: [table] }, table, 0);
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
