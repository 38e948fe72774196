/**
 * What a copy holds, in a form that is equal on all copies that hold the same: every row by its values, each reference by the
 * row that it leads to, integer ids left out. It reads the schema itself and asks nothing of the engine that it checks.
 */
import { createHash } from 'node:crypto';
import type { Database } from 'better-sqlite3';

import { type Facts, isLocalId, quoted, type TableFacts } from './facts.ts';

/** References are followed this far; trees in the tests are less deep. */
const DEPTH = 12;

interface Row {
  readonly values: readonly string[];
  /** Values by column, for look-ups along foreign keys. */
  readonly raw: ReadonlyMap<string, unknown>;
  /** The row that each reference leads to, null for none. */
  readonly targets: (Row | null)[];
  name: string;
}

/** A value with its type, exact. */
export function exact(value: unknown): string {
  if (value instanceof Uint8Array) return `x'${Buffer.from(value).toString('hex')}'`;
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return `${Object.is(value, -0) ? '-0' : value}r`;
  return value === null ? 'NULL' : JSON.stringify(value);
}

/** Rows of each table in an order that depends on nothing but what they say. */
export function contentsOf(db: Database, facts: Facts, localColumns: readonly string[] = []): Record<string, string[]> {
  const tables = new Map<string, Row[]>();
  for (const table of facts.values()) tables.set(table.name, readRows(db, facts, table, localColumns));
  for (const table of facts.values()) link(table, facts, tables);
  const all = [...tables.values()].flat();
  for (let step = 0; step < DEPTH; step += 1) {
    // All at once: each step looks at the names of the step before.
    const names = all.map(({ values, targets }) =>
      digest([...values, ...targets.map((target) => target?.name ?? '-')]),
    );
    all.forEach((row, i) => (row.name = names[i] ?? ''));
  }
  return Object.fromEntries(
    [...tables].map(([name, rows]) => [
      name,
      rows.map((row) => describe(facts.get(name) as TableFacts, row)).toSorted(),
    ]),
  );
}

function readRows(db: Database, facts: Facts, table: TableFacts, localColumns: readonly string[]): Row[] {
  const columns = table.columns.filter(({ name }) => !localColumns.includes(`${table.name}.${name}`));
  const shown = columns.map(({ name }) => !isLocalId(facts, table.name, name));
  const rows = db
    .prepare(`SELECT ${columns.map(({ name }) => quoted(name)).join(', ')} FROM ${quoted(table.name)}`)
    .safeIntegers(true)
    .raw()
    .all() as unknown[][];
  return rows.map((row) => {
    const values = row.flatMap((value, i) => (shown[i] === true ? [`${columns[i]?.name} ${exact(value)}`] : []));
    const raw = new Map(columns.map(({ name }, i) => [name.toLowerCase(), row[i]]));
    return { values, raw, targets: [], name: digest([table.name, ...values]) };
  });
}

function link(table: TableFacts, facts: Facts, tables: ReadonlyMap<string, readonly Row[]>): void {
  for (const { columns, targets, table: parent } of table.references) {
    const placed = new Map((tables.get(parent) ?? []).map((row) => [place(row, targets), row]));
    for (const row of tables.get(table.name) ?? []) {
      const isNull = columns.some((column) => row.raw.get(column.toLowerCase()) === null);
      const target = isNull ? null : placed.get(place(row, columns));
      if (target === undefined && facts.has(parent)) throw new Error(`${table.name} (${row.values.join()}) dangles`);
      row.targets.push(target ?? null);
    }
  }
}

function place(row: Row, columns: readonly string[]): string {
  return columns
    .map((column) => {
      const value = row.raw.get(column.toLowerCase());
      // A parent's key may compare without case.
      return typeof value === 'string' ? value.toLowerCase() : exact(value);
    })
    .join('|');
}

function describe(table: TableFacts, row: Row): string {
  const links = table.references.map(({ columns }, i) => {
    const target = row.targets[i];
    return `${columns.join('+')} → ${target === null || target === undefined ? 'none' : `${target.values.slice(0, 3).join()}#${target.name}`}`;
  });
  return [...row.values, ...links].join(', ');
}

function digest(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12);
}
