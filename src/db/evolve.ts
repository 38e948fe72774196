/**
 * Following a schema that has changed: what is known of tables and columns (`known.ts`) is brought to what stands in the file
 * now. Numbers are kept for good, over renames and drops; what the file has lost is remembered as what only others have.
 * Nothing but the metadata about the schema is written here; rows are for `catch-up.ts`.
 */
import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import { compareSchemas } from '../protocol/schema.ts';
import type { SchemaDescription } from '../protocol/schema.ts';
import { foldName, formatConfig, tableConfig } from './config.ts';
import type { Config, TableConfig } from './config.ts';
import { describeModels } from './describe.ts';
import { join, numbersOf, readKnown, writeKnown } from './known.ts';
import type { Known, KnownColumn, KnownTable } from './known.ts';
import { createMap, getState, setState } from './metadata.ts';
import { ALWAYS_THERE, NOT_HERE, allModels, rowsTable } from './model.ts';
import type { Model, Registry } from './model.ts';
import { columnNames, columnNow, pruneConfig, tableNow, tablesIn, triggerNames } from './renames.ts';
import { readRegistry } from './schema.ts';
import { requireUsable } from './usable.ts';

/** What has become of a schema. */
export interface Evolved {
  readonly registry: Registry;
  /** Tables that were not there, or that were built anew: some rows may have come or gone unseen. */
  readonly rebuilt: readonly Model[];
  /** Tables that others had and that have appeared here. */
  readonly arrived: readonly Model[];
  /** Columns that have appeared, and those of them that were known from others. */
  readonly added: ReadonlyArray<{
    readonly model: Model;
    readonly numbers: readonly number[];
    readonly fromOthers: readonly number[];
  }>;
  /** Columns or whole tables are gone, with what they held: the numbers of such tables; null for neither. */
  readonly lost: readonly number[] | null;
  /** For people, one sentence each. */
  readonly changes: readonly string[];
}

/**
 * Brings what is known to what stands in the file, in the caller's transaction.
 * @param config - the configuration to go by
 * @param isStripped - our triggers were taken away on purpose: that they are missing says nothing
 * @throws FlotillaError SCHEMA_MISMATCH when something means something else now than on other devices
 */
export function evolve(db: Database, config: Config, isStripped = false): Evolved {
  const before = readKnown(db);
  const changes: string[] = [];
  const clock = Number(db.prepare('SELECT hlc FROM flotilla_clock WHERE id = 1').pluck().get());
  const described = JSON.parse(String(getState(db, 'described'))) as SchemaDescription;
  const tables = before.map((table) => followTable(db, config, before, table, described, changes));
  const renamed = renameInConfig(db, config, before, tables);
  const fitted = pruneConfig(db, renamed);
  const named = claimTables(db, fitted, tables, changes);
  const raw = readRegistry(db, fitted, numbersOf(named));
  const known = followColumns(db, fitted, raw, named, clock, described, changes);
  requireUsable(db, raw);
  const registry = join(raw, known);
  refuseConflicts(described, registry);
  if (JSON.stringify(known) !== JSON.stringify(before)) writeKnown(db, known);
  setState(db, 'config', formatConfig(renamed));
  rebuildMaps(db, before, registry);
  return { registry, changes, lost: lostOf(before, known), ...whatIsNew(db, before, registry, isStripped) };
}

/** A table under the name that it has now. */
function followTable(
  db: Database,
  config: Config,
  known: Known,
  table: KnownTable,
  described: SchemaDescription,
  changes: string[],
): KnownTable {
  const now = tableNow(db, config, known, table);
  if (now === table.name) return table;
  if (now !== null) {
    changes.push(`The table "${table.name}" is called "${now}" now.`);
    return { ...table, name: now };
  }
  changes.push(`The table "${table.name}" is gone: rows of other devices wait, in case it comes back.`);
  return without(table, described);
}

/** A table that only others have from now on. */
function without(table: KnownTable, described: SchemaDescription): KnownTable {
  return {
    ...table,
    name: null,
    described: described.tables.find(({ name }) => name === table.wire) ?? null,
    columns: table.columns.map((column) => gone(column, table.wire, described)),
  };
}

/** A column that the table has lost: others may have it still. */
function gone(column: KnownColumn, table: string, described: SchemaDescription): KnownColumn {
  const said = described.tables.find(({ name }) => name === table)?.columns.find(({ name }) => name === column.wire);
  return { ...column, name: null, since: NOT_HERE, described: said ?? column.described };
}

/** Tables in the file that are known from others take over their numbers. */
function claimTables(db: Database, config: Config, tables: readonly KnownTable[], changes: string[]): KnownTable[] {
  const here = tablesIn(db).filter((name) => !tables.some((table) => table.name === name));
  return tables.map((table) => {
    if (table.name !== null || !here.includes(table.wire) || tableConfig(config, table.wire).sync === false)
      return table;
    changes.push(`The table "${table.wire}" is here now.`);
    return { ...table, name: table.wire, described: null };
  });
}

function followColumns(
  db: Database,
  config: Config,
  raw: Registry,
  tables: readonly KnownTable[],
  clock: number,
  described: SchemaDescription,
  changes: string[],
): KnownTable[] {
  const models = new Map(raw.models.map((model) => [model.n, model]));
  const followed = tables.map((table) => {
    const model = models.get(table.n);
    if (model !== undefined)
      return { ...table, columns: columnsOf(db, config, model, table, clock, described, changes) };
    // It is there, but does not sync any more.
    if (table.name === null) return table;
    changes.push(`The table "${table.name}" does not sync any more.`);
    return without(table, described);
  });
  for (const model of raw.models) {
    if (tables.some(({ n }) => n === model.n)) continue;
    changes.push(`The table "${model.table}" is new.`);
    const settings = tableConfig(config, model.table);
    const wire = freeName(
      settings.renamedFrom ?? model.table,
      followed.map((table) => table.wire),
    );
    const columns = model.columns.map(({ name, number }) => {
      return { number, name, wire: oldName(settings, name) ?? name, since: ALWAYS_THERE, described: null };
    });
    followed.push({ n: model.n, name: model.table, wire, described: null, columns });
  }
  return followed;
}

function columnsOf(
  db: Database,
  config: Config,
  model: Model,
  table: KnownTable,
  clock: number,
  described: SchemaDescription,
  changes: string[],
): KnownColumn[] {
  const present = model.columns.map(({ name }) => name);
  const names = triggerNames(db, model.n);
  const settings = tableConfig(config, model.table);
  // Of a table that has just appeared every row is either born now or still waits, whole.
  const since = names.table === null && table.columns.every(({ name }) => name === null) ? ALWAYS_THERE : clock;
  const columns = table.columns.map((column): KnownColumn => {
    const { name, number } = column;
    if (name === null) return column;
    const now = columnNow(table, names, settings, present, { name, number });
    if (now === name) return column;
    if (now !== null) {
      changes.push(`The column "${name}" of "${model.table}" is called "${now}" now.`);
      return { ...column, name: now };
    }
    changes.push(`The column "${name}" of "${model.table}" is gone.`);
    return gone(column, table.wire, described);
  });
  for (const name of present) {
    if (columns.some((column) => column.name === name)) continue;
    if (since !== ALWAYS_THERE) changes.push(`The column "${name}" of "${model.table}" is new.`);
    const at = columns.findIndex((column) => column.name === null && column.wire === name);
    const known = columns[at];
    if (known !== undefined) {
      columns[at] = { ...known, name, since, described: null };
      continue;
    }
    const number = Math.max(-1, ...columns.map((column) => column.number)) + 1;
    columns.push({
      number,
      name,
      wire: freeName(
        name,
        columns.map(({ wire }) => wire),
      ),
      since,
      described: null,
    });
  }
  return columns;
}

/** What a name was before, as the configuration says. */
function oldName(settings: TableConfig, name: string): string | undefined {
  return Object.entries(settings.renamedColumns ?? {}).find(([now]) => foldName(now) === foldName(name))?.[1];
}

/** A name on the wire for something new whose own name may be the first name of something that was renamed. */
function freeName(name: string, taken: readonly string[]): string {
  let free = name;
  for (let i = 2; taken.includes(free); i += 1) free = `${name} (${i})`;
  return free;
}

/** The configuration under the names of now. What it names that is not there (yet) stays in it. */
function renameInConfig(db: Database, config: Config, before: Known, now: readonly KnownTable[]): Config {
  if (config.tables === undefined) return config;
  const here = new Set(tablesIn(db).map(foldName));
  const tables: Record<string, TableConfig> = {};
  for (const [name, settings] of Object.entries(config.tables)) {
    const at = before.findIndex((table) =>
      [table.name ?? '', table.wire].some((own) => foldName(own) === foldName(name)),
    );
    const known = before[at];
    const current = here.has(foldName(name)) ? name : (now[at]?.name ?? name);
    tables[current] = {
      ...(known === undefined ? settings : renameColumns(db, current, known, settings)),
      ...tables[current],
    };
  }
  return { ...config, tables };
}

function renameColumns(db: Database, table: string, known: KnownTable, settings: TableConfig): TableConfig {
  const present = columnNames(db, table);
  const names = triggerNames(db, known.n);
  const now = (name: string): string => {
    const column = known.columns.find((candidate) => foldName(candidate.name ?? '') === foldName(name));
    if (column === undefined || column.name === null) return name;
    return columnNow(known, names, settings, present, { number: column.number, name: column.name }) ?? name;
  };
  const { localColumns, identity } = settings;
  return {
    ...settings,
    ...(localColumns === undefined ? {} : { localColumns: localColumns.map(now) }),
    ...(identity === undefined ? {} : { identity: identity.map(now) }),
  };
}

function refuseConflicts(described: SchemaDescription, registry: Registry): void {
  const now = describeModels(allModels(registry));
  const { conflicts } = compareSchemas({ name: 'other devices', schema: described }, { name: 'this one', schema: now });
  if (conflicts.length === 0) return;
  throw new FlotillaError(
    'SCHEMA_MISMATCH',
    `The schema has changed in a way that other devices cannot follow. ${conflicts.slice(0, 3).join(' ')}`,
  );
}

/** Map tables of what is new, empty ones of what is gone. */
function rebuildMaps(db: Database, before: Known, registry: Registry): void {
  for (const model of allModels(registry)) {
    const was = before.find(({ n }) => n === model.n);
    if (was !== undefined && (was.name === null) === model.isAbsent) continue;
    if (was !== undefined) db.exec(`DROP TABLE ${rowsTable(model)}`);
    createMap(db, model);
    if (!model.isAbsent) continue;
    db.prepare('DELETE FROM flotilla_marks WHERE tbl = ?').run(model.n);
    db.prepare('DELETE FROM flotilla_pending WHERE tbl = ? AND version IS NULL').run(model.n);
    db.prepare('DELETE FROM flotilla_waits WHERE uuid IN (SELECT uuid FROM flotilla_pending WHERE tbl = ?)').run(
      model.n,
    );
    db.prepare("UPDATE flotilla_pending SET reason = 'no-table', detail = ? WHERE tbl = ?").run(
      'This device does not have its table (any more).',
      model.n,
    );
  }
}

function lostOf(before: Known, known: Known): number[] | null {
  const tables: number[] = [];
  let hasLost = false;
  for (const table of before) {
    const now = known.find(({ n }) => n === table.n);
    if (table.name === null || now === undefined) continue;
    const names = new Map(now.columns.map((column) => [column.number, column]));
    if (now.name === null) tables.push(table.n);
    hasLost ||= table.columns.some(({ number, name }) => name !== null && names.get(number)?.name === null);
  }
  return hasLost || tables.length > 0 ? tables : null;
}

function whatIsNew(
  db: Database,
  before: Known,
  registry: Registry,
  isStripped: boolean,
): Pick<Evolved, 'rebuilt' | 'arrived' | 'added'> {
  const was = new Map(before.map((table) => [table.n, table]));
  const rebuilt = registry.models.filter((model) => {
    const isOld = typeof was.get(model.n)?.name === 'string';
    return triggerNames(db, model.n).table !== model.table && !(isStripped && isOld);
  });
  const arrived = registry.models.filter((model) => was.get(model.n)?.name === null);
  const added = registry.models.flatMap((model) => {
    const old = was.get(model.n);
    if (old === undefined || old.name === null) return [];
    const had = new Set(old.columns.flatMap(({ name, number }) => (name === null ? [] : [number])));
    const numbers = model.columns.flatMap(({ number, role }) =>
      had.has(number) || role.kind === 'local' ? [] : [number],
    );
    const fromOthers = numbers.filter((number) => old.columns.some((column) => column.number === number));
    return numbers.length === 0 ? [] : [{ model, numbers, fromOthers }];
  });
  return { rebuilt, arrived, added };
}
