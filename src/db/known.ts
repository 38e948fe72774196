/**
 * What a library file knows of tables and columns, for good: their numbers, their names on the wire, since when they are
 * there; also of those that only other devices have. `schema.ts` reads what stands in the file now; here the two are put
 * together. How what is known follows a changed schema is in `evolve.ts`.
 */
import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import type { ColumnDescription, SchemaDescription, TableDescription } from '../protocol/schema.ts';
import { INTERNAL_TABLES } from './choose.ts';
import { foldName } from './config.ts';
import type { Config } from './config.ts';
import { describeModels, hashOf, wiresOf } from './describe.ts';
import type { Column, ForeignKey, Model, Registry } from './model.ts';
import { ALWAYS_THERE, NOT_HERE, foreignKeyNumber } from './model.ts';
import { getState, setState } from './metadata.ts';
import { readRegistry } from './schema.ts';

export interface KnownColumn {
  readonly number: number;
  /** Null while the table lacks it. */
  readonly name: string | null;
  readonly wire: string;
  /** See `Column.since`. */
  readonly since: number;
  /** What others say of it; null while it is here. */
  readonly described: ColumnDescription | null;
}

export interface KnownTable {
  readonly n: number;
  /** Null while this device does not have it. */
  readonly name: string | null;
  readonly wire: string;
  /** What others say of it; null while it is here. */
  readonly described: TableDescription | null;
  readonly columns: readonly KnownColumn[];
}

export type Known = readonly KnownTable[];

export function readKnown(db: Database): KnownTable[] {
  const columns = db
    .prepare('SELECT tbl, number, name, wire, since, described FROM flotilla_columns ORDER BY tbl, number')
    .raw()
    .all() as [number, number, string | null, string, number, string | null][];
  const tables = db.prepare('SELECT n, name, wire, described FROM flotilla_tables ORDER BY n').raw().all() as [
    number,
    string | null,
    string,
    string | null,
  ][];
  return tables.map(([n, name, wire, described]) => ({
    n,
    name,
    wire,
    described: described === null ? null : (JSON.parse(described) as TableDescription),
    columns: columns
      .filter(([table]) => table === n)
      .map(([, number, column, columnWire, since, text]) => ({
        number,
        name: column,
        wire: columnWire,
        since,
        described: text === null ? null : (JSON.parse(text) as ColumnDescription),
      })),
  }));
}

export function writeKnown(db: Database, known: Known): void {
  db.exec('DELETE FROM flotilla_columns; DELETE FROM flotilla_tables');
  const table = db.prepare('INSERT INTO flotilla_tables (n, name, wire, described) VALUES (?, ?, ?, ?)');
  const column = db.prepare(
    'INSERT INTO flotilla_columns (tbl, number, name, wire, since, described) VALUES (?, ?, ?, ?, ?, ?)',
  );
  const json = (value: object | null): string | null => (value === null ? null : JSON.stringify(value));
  for (const { n, name, wire, described, columns } of known) {
    table.run(n, name, wire, json(described));
    for (const each of columns) column.run(n, each.number, each.name, each.wire, each.since, json(each.described));
  }
}

/** Numbers as `readRegistry` takes them; new tables get greater ones than all that were ever given. */
export function numbersOf(known: Known): Map<string, number> {
  return new Map(known.map(({ n, name, wire }) => [name ?? `\u0000${wire}`, n]));
}

/** The registry of a file whose schema is as it is known. Null when it is not: it must be brought up to date first. */
export function registryOf(db: Database, config: Config, known: Known): Registry | null {
  const raw = readRegistry(db, config, numbersOf(known));
  const byNumber = new Map(known.map((table) => [table.n, table]));
  const isKnown = raw.models.every((model) => {
    const table = byNumber.get(model.n);
    return model.columns.every(({ name }) => table?.columns.some((column) => column.name === name) === true);
  });
  return isKnown ? join(raw, known) : null;
}

/** What the file holds, under the numbers and names that are known. */
export function join(raw: Registry, known: Known): Registry {
  const byNumber = new Map(known.map((table) => [table.n, table]));
  const renamed = new Map<string, Model>();
  for (const model of raw.models) {
    const table = byNumber.get(model.n);
    if (table === undefined)
      throw new FlotillaError('DATABASE', `The metadata does not know the table ${model.table}.`);
    const columns = model.columns.map((column): Column => {
      const own = table.columns.find(({ name }) => name === column.name);
      return own === undefined ? column : { ...column, number: own.number, wire: own.wire, since: own.since };
    });
    renamed.set(model.table, { ...model, wire: table.wire, columns, absent: absentColumns(table) });
  }
  const models = raw.models.map((model) => {
    const own = renamed.get(model.table) ?? model;
    const foreignKeys = own.foreignKeys.map((key) => {
      const target = renamed.get(key.table);
      const targets = wiresOf(target, key.targets);
      const wires = wiresOf(own, key.columns);
      return { ...key, wires, number: foreignKeyNumber(wires, target?.wire ?? key.table, targets) };
    });
    const trees = foreignKeys.filter((_, i) => own.trees.includes(own.foreignKeys[i] as ForeignKey));
    return { ...own, foreignKeys, trees };
  });
  const absent = known.filter((table) => table.name === null).map(absentTable);
  const all = [...models, ...absent];
  return {
    ...raw,
    models,
    byName: new Map(models.map((model) => [model.table, model])),
    absent,
    byWire: new Map(all.map((model) => [model.wire, model])),
    schemaHash: hashOf(describeModels(all)),
  };
}

function absentColumns(table: KnownTable): Column[] {
  return table.columns.flatMap(({ number, name, wire, described }): Column[] => {
    if (name !== null || described === null || described.kind === 'rowid') return [];
    return [
      {
        name: wire,
        number,
        wire,
        since: NOT_HERE,
        affinity: described.type,
        notNull: described.notNull,
        hasDefault: false,
        fallback: 'NULL',
        role: described.kind === 'ref' ? { kind: 'ref', table: described.target } : { kind: 'value' },
        ...(described.policy === '' ? {} : { policy: described.policy }),
      },
    ];
  });
}

/** Stands for a table that only others have. Its map table has the form of one with an INTEGER PRIMARY KEY, and stays empty. */
function absentTable(table: KnownTable): Model {
  const { described } = table;
  const identity = described?.identity ?? null;
  return {
    n: table.n,
    table: table.wire,
    wire: table.wire,
    isAbsent: true,
    ownership: described?.ownership ?? 'shared',
    ownedBy: null,
    identity: identity === null ? { kind: 'random' } : { kind: 'derived', columns: identity },
    columns: [],
    absent: absentColumns(table),
    key: described?.key ?? [],
    keyCollations: described?.collations ?? [],
    rowid: '',
    rowidIsRef: false,
    foreignKeys: [],
    trees: [],
    uniques: [],
    hasConflictClause: false,
    maySkip: false,
  };
}

/** What is known of a library that is being made: every column was always there. */
export function firstKnown(raw: Registry, config: Config): Known {
  return raw.models.map((model) => {
    const settings = settingsOf(config, model.table);
    const renames = Object.entries(settings?.renamedColumns ?? {});
    return {
      n: model.n,
      name: model.table,
      wire: settings?.renamedFrom ?? model.table,
      described: null,
      columns: model.columns.map(({ name, number }) => ({
        number,
        name,
        wire: renames.find(([now]) => foldName(now) === foldName(name))?.[1] ?? name,
        since: ALWAYS_THERE,
        described: null,
      })),
    };
  });
}

function settingsOf(config: Config, table: string): NonNullable<Config['tables']>[string] | undefined {
  return Object.entries(config.tables ?? {}).find(([name]) => foldName(name) === foldName(table))?.[1];
}

/** Tables known in all, those of other devices included: each that is not here is a table of its own in the metadata. */
export const MAX_KNOWN_TABLES = 2_000;
/** Columns of all of them. */
export const MAX_KNOWN_COLUMNS = 20_000;

/**
 * What is known after somebody has described tables and columns that are news here; the same object when nothing is.
 * @throws FlotillaError PROTOCOL when that would be more than anybody has
 */
export function withDescribed(known: Known, schema: SchemaDescription): Known {
  let next = Math.max(0, ...known.filter(({ wire }) => !INTERNAL_TABLES.has(wire)).map(({ n }) => n)) + 1;
  let isNews = false;
  const tables = [...known];
  for (const table of schema.tables) {
    const at = tables.findIndex(({ wire }) => wire === table.name);
    const own = tables[at] ?? { n: next++, name: null, wire: table.name, described: table, columns: [] };
    const columns = [...own.columns];
    for (const described of table.columns) {
      if (columns.some(({ wire }) => wire === described.name)) continue;
      const number = Math.max(-1, ...columns.map((column) => column.number)) + 1;
      columns.push({ number, name: null, wire: described.name, since: NOT_HERE, described });
    }
    if (at >= 0 && columns.length === own.columns.length) continue;
    isNews = true;
    if (at < 0) tables.push({ ...own, columns });
    else tables[at] = { ...own, columns };
  }
  if (!isNews) return known;
  const columns = tables.reduce((sum, table) => sum + table.columns.length, 0);
  if (tables.length > MAX_KNOWN_TABLES || columns > MAX_KNOWN_COLUMNS)
    throw new FlotillaError(
      'PROTOCOL',
      `The peer has tables that are not here, with which there would be ${tables.length} of ${columns} columns: more than ${MAX_KNOWN_TABLES} or ${MAX_KNOWN_COLUMNS}.`,
    );
  return tables;
}

/** In the state while something that others may have was dropped here with what it held: the tables of which all is gone, as JSON. */
const LOST = 'lost';

/** Numbers of the tables that were dropped here with what they held, and have not come back; null when no column has gone so either. */
export function lostTables(db: Database): readonly number[] | null {
  const stored = getState(db, LOST);
  return typeof stored === 'string' ? (JSON.parse(stored) as number[]) : null;
}

/** Tables or columns were dropped. @param tables - their numbers */
export function noteLost(db: Database, tables: readonly number[]): void {
  setState(db, LOST, JSON.stringify([...new Set([...(lostTables(db) ?? []), ...tables])]));
}

/** What others have of them is fetched again. */
export function forgetLostTables(db: Database): void {
  db.prepare('DELETE FROM flotilla_state WHERE key = ?').run(LOST);
}
