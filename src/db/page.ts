/**
 * Builds batches from rows of the library: reads versions in columns, turns local ids into UUIDs with one query a page,
 * and keeps the dictionary. Used by the feed and by the digests.
 */
import { NO_RUN } from '../protocol/stamp.ts';
import { TextBytes } from '../protocol/text-bytes.ts';
import { hexToBytes, bytesToHex } from '../protocol/uuid.ts';
import { NO_STAMPS } from '../protocol/batch.ts';
import type { Batch, ColumnData, PageEnd, SqlValue, TableData, TombstoneData } from '../protocol/types.ts';
import type { LocalStamp } from './cells.ts';
import type { Aside } from './aside.ts';
import { parseAside, withUnset } from './aside.ts';
import { parseCells } from './cells.ts';
import type { ColumnStamps } from './stamp-lists.ts';
import { pickStamps, StampLists } from './stamp-lists.ts';
import type { Column, Model, Registry } from './model.ts';
import { lateColumns, mapJoin, quoteName, refersTo, rowsTable, syncedColumns } from './model.ts';
import type { Key, RawRow, Statements } from './sql.ts';
import { jsonKeys, narrow, readBig, readExact } from './sql.ts';

/** Places of the metadata in a row that {@link versionSelect} reads; the columns follow. */
export const LSN = 0;
const KEY = 1;
export const UUID = 2;
export const BIRTH_HLC = 3;
export const BIRTH_RUN = 4;
export const HLC = 5;
export const RUN = 6;
/** See `cells.ts`. */
export const CELLS = 7;
/** See `aside.ts`. */
const ASIDE = 8;
const FIRST_COLUMN = 9;

/** The end of a batch that is no page of a feed: a version that waits, member rows in a grant, rows for a digest. */
export const NO_END: PageEnd = {
  cursor: { position: 0, head: 0, run: NO_RUN },
  complete: false,
  knowledge: { runs: new Uint8Array(0), hlc: [] },
  remaining: 0,
};

/** A run as it is known here. */
export interface RunInfo {
  readonly hex: string;
  readonly device: string;
}

/** A target of a reference, resolved outside of the page. */
export interface Target {
  readonly model: Model;
  readonly key: Key;
  readonly uuid: Uint8Array;
  readonly birthHlc: number;
  readonly birthRun: number;
  readonly lsn: number;
}

/**
 * SELECT of row versions: metadata, synced columns, and the map keys of targets that no single column names.
 * @param withTargets - join each reference's target too: UUID, birth, lsn. Costs as much as the rest, so it is for few rows
 */
export function versionSelect(model: Model, registry: Registry, condition: string, withTargets = false): string {
  const columns = syncedColumns(model).map((column) => `t.${quoteName(column.name)}`);
  const targets: string[] = [];
  const joins: string[] = [];
  const joinTarget = (map: string): void =>
    void targets.push(`${map}.uuid, ${map}.birth_hlc, ${map}.birth_run, ${map}.lsn`);
  for (const { name, role } of syncedColumns(model)) {
    const target = role.kind === 'ref' && withTargets ? registry.byName.get(role.table) : undefined;
    if (target === undefined) continue;
    const map = `r${targets.length}`;
    joins.push(`LEFT JOIN ${rowsTable(target)} ${map} ON ${map}.key = t.${quoteName(name)}`);
    joinTarget(map);
  }
  for (const foreignKey of model.foreignKeys) {
    if (foreignKey.simple) continue;
    const target = registry.byName.get(foreignKey.table);
    if (target === undefined) continue;
    const [table, map] = [`t${foreignKey.number}`, `m${foreignKey.number}`];
    joins.push(`LEFT JOIN ${quoteName(target.table)} ${table} ON ${refersTo(foreignKey, table)}`);
    joins.push(`LEFT JOIN ${rowsTable(target)} ${map} ON ${mapJoin(target, table, map)}`);
    columns.push(`${map}.key`);
    if (withTargets) joinTarget(map);
  }
  return `SELECT m.lsn, m.key, m.uuid, m.birth_hlc, m.birth_run, m.hlc, m.run, m.cells, m.aside${[...columns, ...targets].map((column) => `, ${column}`).join('')}
    FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)} ${joins.join(' ')} ${condition}`;
}

/** Reads versions exactly: tables with a column that cannot tell 5 from 5.0 are read with bigints. */
export function readVersions(sql: Statements, model: Model, text: string, params: unknown[]): RawRow[] {
  const statement = sql.get(text);
  if (!hasUntyped(model)) return readExact(statement, params);
  const untyped = syncedColumns(model).map((column) => isUntyped(column));
  return readBig(statement, params).map((row) =>
    row.map((value, i) => (untyped[i - FIRST_COLUMN] === true ? value : narrow(value))),
  );
}

function isUntyped(column: Column): boolean {
  return column.role.kind === 'value' && column.affinity === 'BLOB';
}

function hasUntyped(model: Model): boolean {
  return model.columns.some(isUntyped);
}

/** Bytes that a row takes on the wire, roughly. */
export function sizeOf(row: RawRow): number {
  let size = 0;
  for (let i = FIRST_COLUMN; i < row.length; i += 1) {
    const value = row[i];
    if (typeof value === 'string' || value instanceof Uint8Array) size += value.length + 2;
    else size += value instanceof TextBytes ? value.bytes.length : 5;
  }
  return size + 30;
}

/** Versions of one table, as they were read. */
interface Section {
  readonly model: Model;
  readonly columns: readonly Column[];
  versions: RawRow[];
  /** Dictionary index of each version. */
  indexes: number[];
  /** Map key → dictionary index, for rows of this page and for targets. */
  readonly byKey: Map<Key, number>;
}

interface Tombstone extends LocalStamp {
  readonly model: Model;
  readonly index: number;
  readonly seen: readonly LocalStamp[];
  /** Dictionary index of the row that it has become one with; −1 for none. */
  readonly alias: number;
}

/** The tombstones of one table, while they are gathered. */
interface Grave {
  readonly rows: number[];
  readonly hlc: number[];
  readonly run: number[];
  readonly alias: number[];
  readonly seen: { readonly row: number[]; readonly hlc: number[]; readonly run: number[] };
}

export class PageBuilder {
  readonly #sql: Statements;
  readonly #registry: Registry;
  readonly #runOf: (ordinal: number) => RunInfo;
  readonly #sections = new Map<string, Section>();
  readonly #extra: TableData[] = [];
  readonly #tombstones: Tombstone[] = [];
  readonly #uuids: Uint8Array[] = [];
  readonly #birthHlc: number[] = [];
  readonly #birthRun: number[] = [];
  readonly #uuidTable: number[] = [];
  readonly #names: string[] = [];
  readonly #nameIndex = new Map<string, number>();
  readonly #runs: RunInfo[] = [];
  readonly #runIndex = new Map<string, number>();
  /** The dictionary by UUID and birth, made when versions that wait are added. */
  #dictionary: Map<string, number> | null = null;
  readonly #ordinalIndex = new Map<number, number>();
  /** id → UUID queries made. */
  lookups = 0;
  /** Versions and tombstones in the page. */
  rows = 0;

  constructor(sql: Statements, registry: Registry, runOf: (ordinal: number) => RunInfo) {
    this.#sql = sql;
    this.#registry = registry;
    this.#runOf = runOf;
  }

  /** Adds versions that {@link versionSelect} read. */
  addVersions(model: Model, versions: readonly RawRow[]): void {
    const section = this.#section(model);
    for (const version of versions) {
      const key = version[KEY] as Key;
      const known = section.byKey.get(key);
      const index =
        known ??
        this.#entry(
          model,
          version[UUID] as Uint8Array,
          version[BIRTH_HLC] as number,
          this.#run(version[BIRTH_RUN] as number),
        );
      section.byKey.set(key, index);
      section.versions.push(version);
      section.indexes.push(index);
    }
    this.rows += versions.length;
  }

  /** Adds versions that were read together with their targets. Returns the targets that were not in the dictionary. */
  addWithTargets(model: Model, versions: readonly RawRow[]): Target[] {
    this.addVersions(model, versions);
    const section = this.#section(model);
    const references = this.#references(section);
    const first = FIRST_COLUMN + section.columns.length + this.#dependencies(section).length;
    const found: Target[] = [];
    for (const version of versions) {
      references.forEach(([target, place], i) => {
        const key = version[place] as Key | null;
        const [uuid, birthHlc, birthRun, lsn] = version.slice(first + 4 * i, first + 4 * i + 4);
        if (key === null || uuid === null || this.#section(target).byKey.has(key)) return;
        found.push(
          this.#addTarget({
            model: target,
            key,
            uuid: uuid as Uint8Array,
            birthHlc: Number(birthHlc),
            birthRun: Number(birthRun),
            lsn: Number(lsn),
          }),
        );
      });
    }
    return found;
  }

  #addTarget(target: Target): Target {
    const { model, key, uuid, birthHlc, birthRun } = target;
    this.#section(model).byKey.set(key, this.#entry(model, uuid, birthHlc, this.#run(birthRun)));
    return target;
  }

  /** Names a row that the receiver has already, so that it hears that the row is still here. */
  mention(model: Model, version: RawRow): void {
    const [uuid, hlc, run] = [UUID, BIRTH_HLC, BIRTH_RUN].map((column) => version[column]);
    this.name(model, uuid as Uint8Array, Number(hlc), Number(run));
  }

  /** Names a row without saying anything of it, in an entry of its own, to which no reference leads: that says nothing of being here. */
  name(model: Model, uuid: Uint8Array, birthHlc: number, birthRun: number): number {
    return this.#entry(model, uuid, birthHlc, this.#run(birthRun));
  }

  addTombstone(
    model: Model,
    uuid: Uint8Array,
    birth: LocalStamp,
    death: LocalStamp,
    seen: readonly LocalStamp[],
    alias: Uint8Array | null,
  ): void {
    const index = this.#entry(model, uuid, birth.hlc, this.#run(birth.run));
    // Of the other row nothing but its name is meant.
    const other = alias === null ? -1 : this.#entry(model, alias, 0, this.#run(birth.run));
    const withRun = ({ hlc, run }: LocalStamp): LocalStamp => ({ hlc, run: this.#run(run) });
    this.#tombstones.push({ model, index, ...withRun(death), seen: seen.map(withRun), alias: other });
    this.rows += 1;
  }

  /**
   * Adds the one version of a batch that waits in `flotilla_pending`. Its UUIDs may stand in the page with other births: the
   * row in an older version, or a reference to what it was before.
   */
  addWaiting(batch: Batch): void {
    const entries = batch.birthHlc.map((birthHlc, i) => {
      const uuid = batch.uuids.subarray(i * 16, i * 16 + 16);
      const model = this.#registry.byWire.get(batch.names[batch.uuidTable[i] ?? 0] ?? '');
      if (model === undefined) return -1;
      const run = this.#runByHex(
        bytesToHex(runBytes(batch, batch.birthRun[i] ?? 0)),
        batch.runDevices[batch.birthRun[i] ?? 0] ?? '',
      );
      return this.#place(model, uuid, birthHlc, run);
    });
    const at = (index: number): number => (index < 0 ? -1 : (entries[index] ?? -1));
    const runOf = (run: number): number =>
      this.#runByHex(bytesToHex(runBytes(batch, run)), batch.runDevices[run] ?? '');
    for (const table of batch.tables) {
      this.#extra.push({
        ...table,
        rows: table.rows.map(at),
        run: table.run.map(runOf),
        columns: table.columns.map((column) =>
          column.kind === 'ref' ? { ...column, refs: column.refs.map(at) } : column,
        ),
        dependencies: table.dependencies.map((dependency) => ({ ...dependency, refs: dependency.refs.map(at) })),
        ...pickStamps(
          table,
          () => true,
          (row) => row,
          runOf,
        ),
      });
      this.rows += table.rows.length;
    }
  }

  /** Place in the dictionary of a UUID with this birth, which may stand there already. */
  #place(model: Model, uuid: Uint8Array, birthHlc: number, run: number): number {
    this.#dictionary ??= new Map(
      this.#uuids.map((known, i) => [this.#placeName(known, this.#birthHlc[i] ?? 0, this.#birthRun[i] ?? 0), i]),
    );
    const name = this.#placeName(uuid, birthHlc, run);
    const index = this.#dictionary.get(name) ?? this.#entry(model, uuid, birthHlc, run);
    this.#dictionary.set(name, index);
    return index;
  }

  /**
   * Resolves the references of all versions added so far whose targets are not in the dictionary yet: one query.
   * Returns the targets found.
   */
  resolve(): Target[] {
    const wanted = new Map<Model, Set<Key>>();
    for (const section of this.#sections.values()) {
      for (const [model, place] of this.#references(section)) {
        const { byKey } = this.#section(model);
        for (const version of section.versions) {
          const key = version[place] as Key | null;
          if (key === null || byKey.has(key)) continue;
          const keys = wanted.get(model) ?? new Set<Key>();
          keys.add(key);
          wanted.set(model, keys);
        }
      }
    }
    if (wanted.size === 0) return [];
    const models = [...wanted.keys()];
    const text = models
      .map(
        (model, i) =>
          `SELECT ${i}, m.key, m.uuid, m.birth_hlc, m.birth_run, m.lsn FROM json_each(?) j CROSS JOIN ${rowsTable(model)} m ON m.key = j.value`,
      )
      .join(' UNION ALL ');
    this.lookups += 1;
    const found = this.#sql.rows(text, ...models.map((model) => jsonKeys(wanted.get(model) ?? [])));
    return found.map(([which, key, uuid, birthHlc, birthRun, lsn]) => {
      const model = models[Number(which)] as Model;
      return this.#addTarget({
        model,
        key: key as Key,
        uuid: uuid as Uint8Array,
        birthHlc: Number(birthHlc),
        birthRun: Number(birthRun),
        lsn: Number(lsn),
      });
    });
  }

  /** Takes those versions out whose references point nowhere (a writer without foreign keys); call it when all is resolved. */
  leaveOutDangling(): RawRow[] {
    const left: RawRow[] = [];
    for (const section of this.#sections.values()) {
      const keep = this.#standing(section);
      if (keep === null) continue;
      left.push(...section.versions.filter((_, i) => keep[i] !== true));
      section.versions = section.versions.filter((_, i) => keep[i]);
      section.indexes = section.indexes.filter((_, i) => keep[i]);
    }
    this.rows -= left.length;
    return left;
  }

  /** The page. Versions whose references point nowhere are left out. */
  build(end: PageEnd): Batch {
    this.leaveOutDangling();
    const tables = [...this.#sections.values()]
      .filter((section) => section.versions.length > 0)
      .map((section) => this.#table(section));
    return {
      tables: [...tables, ...this.#extra],
      tombstones: this.#tombstoneTables(),
      runs: concat(this.#runs.map((run) => hexToBytes(run.hex))),
      runDevices: this.#runs.map((run) => run.device),
      uuids: concat(this.#uuids),
      birthHlc: this.#birthHlc,
      birthRun: this.#birthRun,
      uuidTable: this.#uuidTable,
      names: this.#names,
      end,
    };
  }

  #section(model: Model): Section {
    let section = this.#sections.get(model.table);
    if (section === undefined) {
      section = { model, columns: syncedColumns(model), versions: [], indexes: [], byKey: new Map() };
      this.#sections.set(model.table, section);
    }
    return section;
  }

  /** Where the references of a section's versions stand: target model and place in the row. */
  #references(section: Section): [Model, number][] {
    const references: [Model, number][] = [];
    section.columns.forEach((column, i) => {
      if (column.role.kind !== 'ref') return;
      const model = this.#registry.byName.get(column.role.table);
      if (model !== undefined) references.push([model, FIRST_COLUMN + i]);
    });
    this.#dependencies(section).forEach(([model, , place]) => references.push([model, place]));
    return references;
  }

  #dependencies(section: Section): [Model, number, number][] {
    const dependencies: [Model, number, number][] = [];
    let place = FIRST_COLUMN + section.columns.length;
    for (const foreignKey of section.model.foreignKeys) {
      const model = this.#registry.byName.get(foreignKey.table);
      if (foreignKey.simple || model === undefined) continue;
      dependencies.push([model, foreignKey.number, place]);
      place += 1;
    }
    return dependencies;
  }

  #table(section: Section): TableData {
    const { model, columns, versions, indexes } = section;
    const asides = model.absent.length === 0 ? [] : versions.map((version) => parseAside(version[ASIDE]));
    const absent = model.absent.filter(({ number }) => asides.some((aside) => aside.has(number)));
    return {
      table: model.wire,
      rows: indexes,
      hlc: versions.map((version) => version[HLC] as number),
      run: versions.map((version) => this.#run(version[RUN] as number)),
      columns: [
        ...columns.map((column, i) => this.#column(column, versions, FIRST_COLUMN + i)),
        ...absent.map((column) => this.#absentColumn(column, asides)),
      ],
      dependencies: this.#dependencies(section).map(([target, foreignKey, place]) => ({
        foreignKey,
        refs: this.#indexes(target, versions, place),
      })),
      ...this.#stamps(model, [...columns, ...absent], versions),
    };
  }

  #stamps(model: Model, columns: readonly Column[], versions: readonly RawRow[]): ColumnStamps {
    const isEarly = lateColumns(model).length === 0;
    if (isEarly && versions.every((version) => version[CELLS] === null && version[ASIDE] === null))
      return { cells: NO_STAMPS };
    const places = new Map(columns.map((column, i) => [column.number, i]));
    const lists = new StampLists();
    versions.forEach((version, row) =>
      lists.add(
        row,
        withUnset(
          model,
          version[BIRTH_HLC] as number,
          version[RUN] as number,
          parseCells(version[CELLS]),
          parseAside(version[ASIDE]),
        ),
        (number) => (number < 0 ? number : places.get(number)),
        (run) => this.#run(run),
      ),
    );
    return lists.finish();
  }

  /** Which versions have all their targets; null when all have. */
  #standing(section: Section): boolean[] | null {
    let keep: boolean[] | null = null;
    for (const [model, place] of this.#references(section)) {
      const { byKey } = this.#section(model);
      section.versions.forEach((version, i) => {
        const key = version[place] as Key | null;
        if (key === null || byKey.has(key) || !this.#isEnforced(section, version, place)) return;
        keep ??= section.versions.map(() => true);
        keep[i] = false;
      });
    }
    for (const [, number, place] of this.#dependencies(section)) {
      const names = section.model.foreignKeys.find((foreignKey) => foreignKey.number === number)?.columns ?? [];
      const places = names.map((name) => FIRST_COLUMN + section.columns.findIndex((column) => column.name === name));
      section.versions.forEach((version, i) => {
        if (version[place] !== null || places.some((at) => version[at] === null)) return;
        keep ??= section.versions.map(() => true);
        keep[i] = false;
      });
    }
    return keep;
  }

  /** Whether a foreign key holds for a column of a version: of several columns none does as soon as one of them is NULL. */
  #isEnforced({ model, columns }: Section, version: RawRow, place: number): boolean {
    const name = columns[place - FIRST_COLUMN]?.name;
    const isNull = (other: string): boolean =>
      version[FIRST_COLUMN + columns.findIndex((column) => column.name === other)] === null;
    return (
      name === undefined || model.foreignKeys.some((key) => key.columns.includes(name) && !key.columns.some(isNull))
    );
  }

  #column(column: Column, versions: readonly RawRow[], place: number): ColumnData {
    if (column.role.kind === 'ref') {
      const model = this.#registry.byName.get(column.role.table) as Model;
      return { kind: 'ref', name: column.wire, refs: this.#indexes(model, versions, place) };
    }
    const values = versions.map((version) => version[place] as SqlValue);
    if (!isUntyped(column)) return { kind: 'value', name: column.wire, values };
    const ints = Uint8Array.from(values, (value) => (typeof value === 'bigint' ? 1 : 0));
    return { kind: 'value', name: column.wire, values: values.map(narrow), ints };
  }

  /** A column that the table lacks, from the values that were set aside. Rows without one are marked by their cells. */
  #absentColumn({ number, wire, role }: Column, asides: readonly Aside[]): ColumnData {
    const entries = asides.map((aside) => aside.get(number));
    if (role.kind === 'ref') {
      const refs = entries.map((entry) => {
        const target = entry?.kind === 'ref' ? entry.target : null;
        const model = target === null ? undefined : this.#registry.byWire.get(target.table);
        if (target === null || model === undefined) return -1;
        return this.#place(model, target.uuid, target.birthHlc, this.#run(target.birthRun));
      });
      return { kind: 'ref', name: wire, refs };
    }
    const values = entries.map((entry) => (entry?.kind === 'value' ? entry.value : null));
    if (!entries.some((entry) => entry?.kind === 'value' && entry.isInt)) return { kind: 'value', name: wire, values };
    const ints = Uint8Array.from(entries, (entry) => (entry?.kind === 'value' && entry.isInt ? 1 : 0));
    return { kind: 'value', name: wire, values, ints };
  }

  #indexes(model: Model, versions: readonly RawRow[], place: number): number[] {
    const { byKey } = this.#section(model);
    return versions.map((version) => {
      const key = version[place] as Key | null;
      return key === null ? -1 : (byKey.get(key) ?? -1);
    });
  }

  #tombstoneTables(): TombstoneData[] {
    const tables = new Map<string, Grave>();
    for (const { model, index, hlc, run, seen, alias } of this.#tombstones) {
      const table = tables.get(model.wire) ?? {
        rows: [],
        hlc: [],
        run: [],
        alias: [],
        seen: { row: [], hlc: [], run: [] },
      };
      for (const stamp of seen) {
        table.seen.row.push(table.rows.length);
        table.seen.hlc.push(stamp.hlc);
        table.seen.run.push(stamp.run);
      }
      table.alias.push(alias);
      table.rows.push(index);
      table.hlc.push(hlc);
      table.run.push(run);
      tables.set(model.wire, table);
    }
    return [...tables].map(([table, data]) => ({ table, ...data }));
  }

  #placeName(uuid: Uint8Array, birthHlc: number, birthRun: number): string {
    return `${bytesToHex(uuid)}${birthHlc}@${birthRun}`;
  }

  #entry(model: Model, uuid: Uint8Array, birthHlc: number, birthRun: number): number {
    let name = this.#nameIndex.get(model.wire);
    if (name === undefined) {
      name = this.#names.push(model.wire) - 1;
      this.#nameIndex.set(model.wire, name);
    }
    this.#birthHlc.push(birthHlc);
    this.#birthRun.push(birthRun);
    this.#uuidTable.push(name);
    return this.#uuids.push(uuid) - 1;
  }

  #run(ordinal: number): number {
    let index = this.#ordinalIndex.get(ordinal);
    if (index === undefined) {
      const run = this.#runOf(ordinal);
      index = this.#runByHex(run.hex, run.device);
      this.#ordinalIndex.set(ordinal, index);
    }
    return index;
  }

  #runByHex(hex: string, device: string): number {
    let index = this.#runIndex.get(hex);
    if (index === undefined) {
      index = this.#runs.push({ hex, device }) - 1;
      this.#runIndex.set(hex, index);
    } else if (device !== '' && this.#runs[index]?.device === '') this.#runs[index] = { hex, device };
    return index;
  }
}

/** Id of a run in a batch's dictionary. */
export function runBytes(batch: Batch, index: number): Uint8Array {
  return batch.runs.subarray(index * 16, index * 16 + 16);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.length * 16);
  parts.forEach((part, i) => out.set(part, i * 16));
  return out;
}
