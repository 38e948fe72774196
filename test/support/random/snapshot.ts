/**
 * What a copy's tables show, read by the harness itself: values with their storage classes, references as the rows that they
 * lead to. Two copies are compared by it without any word from the engine.
 */
import { createHash } from 'node:crypto';
import type { Database } from 'better-sqlite3';

import type { Column, ForeignKey, Schema, Table } from './schema.ts';
import { quote } from './schema.ts';
import type { Cell } from './values.ts';
import { cellText } from './values.ts';

export interface SnapRow {
  readonly table: Table;
  /** Its key on this copy. */
  readonly key: string;
  /** By the order of the table's columns. */
  readonly cells: readonly Cell[];
  /** Where each foreign key leads on this copy; null where it is NULL or leads nowhere. */
  readonly targets: ReadonlyArray<SnapRow | null>;
  /** A foreign key of it leads nowhere. */
  readonly isDangling: boolean;
  /** Columns with the id of a row that is gone, in a foreign key that refers to nothing since another column is NULL: NULL elsewhere (A10). */
  readonly idle: ReadonlySet<string>;
}

export type Snapshot = ReadonlyMap<string, ReadonlyMap<string, SnapRow>>;

/** Columns that hold the same on all copies. */
export function isComparable(column: Column): boolean {
  return column.idOf === null && column.purpose !== 'local';
}

export function takeSnapshot(db: Database, schema: Schema): Snapshot {
  const snapshot = new Map<string, Map<string, SnapRow>>();
  const open: { row: SnapRow; keys: (string | null)[] }[] = [];
  for (const table of schema.tables) {
    const rows = new Map<string, SnapRow>();
    snapshot.set(table.name, rows);
    for (const raw of readAll(db, selectOf(table, schema))) {
      const cells = raw.slice(0, table.columns.length);
      const cellOf = (name: string): Cell => cells[table.columns.findIndex((column) => column.name === name)] ?? null;
      let at = table.columns.length;
      const keys = table.foreignKeys.map((foreignKey) => {
        const parent = tableOf(schema, foreignKey.table);
        const key = raw.slice(at, (at += parent.key.length));
        return key.includes(null) ? null : keyText(key);
      });
      const isDangling = table.foreignKeys.some(
        (foreignKey, i) => keys[i] === null && foreignKey.columns.every((name) => cellOf(name) !== null),
      );
      const row = {
        table,
        key: keyText(table.key.map(cellOf)),
        cells,
        targets: [],
        isDangling,
        idle: new Set<string>(),
      };
      rows.set(row.key, row);
      open.push({ row, keys });
    }
  }
  for (const { row, keys } of open) {
    (row as { targets: SnapRow['targets'] }).targets = row.table.foreignKeys.map((foreignKey, i) => {
      const key = keys[i] ?? null;
      return key === null ? null : (snapshot.get(foreignKey.table)?.get(key) ?? null);
    });
    (row as { idle: SnapRow['idle'] }).idle = idleColumns(row, snapshot);
  }
  return snapshot;
}

function idleColumns(row: SnapRow, snapshot: Snapshot): Set<string> {
  const refersToNothing = (name: string): boolean =>
    row.table.foreignKeys
      .filter(({ columns }) => columns.includes(name))
      .every(({ columns }) => columns.some((other) => cellAt(row, other) === null));
  const idle = row.table.columns.filter(
    ({ name, idOf, purpose }) =>
      idOf !== null &&
      purpose !== 'id' &&
      snapshot.get(idOf)?.has(keyText([cellAt(row, name)])) !== true &&
      refersToNothing(name),
  );
  return new Set(idle.map(({ name }) => name));
}

/** All rows of a snapshot. */
export function rowsOf(snapshot: Snapshot): SnapRow[] {
  return [...snapshot.values()].flatMap((rows) => [...rows.values()]);
}

export function cellAt(row: SnapRow, name: string): Cell {
  return row.cells[row.table.columns.findIndex((column) => column.name === name)] ?? null;
}

/** The values of a row that mean the same on all copies. */
export function contentOf(row: SnapRow): string {
  return row.table.columns
    .map((column, i) =>
      isComparable(column)
        ? cellText(row.cells[i] ?? null)
        : column.idOf === null
          ? ''
          : refText(row.idle.has(column.name) ? null : (row.cells[i] ?? null)),
    )
    .join('\u0001');
}

function refText(cell: Cell): string {
  return cell === null ? 'n' : 'ref';
}

/**
 * Each row's content with what it refers to, over several steps, as a sorted list. Rows that lead nowhere, and what leads to
 * them, are left out: they cannot be told to others.
 */
export function canonical(snapshot: Snapshot): Map<string, SnapRow[]> {
  const rows = rowsOf(snapshot).filter((row) => isWhole(row));
  let labels = new Map(rows.map((row) => [row, hashOf([row.table.name, contentOf(row)])]));
  for (let step = 0; step < STEPS; step += 1) {
    labels = new Map(
      rows.map((row) => [
        row,
        hashOf([
          labels.get(row) ?? '',
          ...row.targets.map((target) => (target === null ? '-' : (labels.get(target) ?? '?'))),
        ]),
      ]),
    );
  }
  const groups = new Map<string, SnapRow[]>();
  for (const [row, label] of labels) groups.set(label, [...(groups.get(label) ?? []), row]);
  return groups;
}

/** References are followed so far: rows differ by their tokens long before. */
const STEPS = 3;

function isWhole(row: SnapRow, seen = new Set<SnapRow>()): boolean {
  if (seen.has(row)) return true;
  seen.add(row);
  return !row.isDangling && row.targets.every((target) => target === null || isWhole(target, seen));
}

/** What one copy shows and the other does not, for people; empty when they are equal. */
export function differences(one: Snapshot, other: Snapshot): string[] {
  const [a, b] = [canonical(one), canonical(other)];
  const only = (from: typeof a, than: typeof a, who: string): string[] =>
    [...from].flatMap(([label, rows]) =>
      rows.slice(than.get(label)?.length ?? 0).map((row) => `only in the ${who}: ${describeRow(row)}`),
    );
  return [...only(a, b, 'first'), ...only(b, a, 'second')];
}

export function describeRow(row: SnapRow): string {
  const cells = row.table.columns.map((column, i) => `${column.name}=${short(cellText(row.cells[i] ?? null))}`);
  return `${row.table.name} (${cells.join(', ')})`;
}

function short(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

function hashOf(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64');
}

export function tableOf(schema: Schema, name: string): Table {
  return schema.tables.find((table) => table.name === name) as Table;
}

export function keyText(cells: readonly Cell[]): string {
  return JSON.stringify(cells.map(cellText));
}

/** Columns, then for each foreign key the key of its target. */
function selectOf(table: Table, schema: Schema): string {
  const columns = table.columns.map((column) => `t.${quote(column.name)}`);
  const joins = table.foreignKeys.map((foreignKey: ForeignKey, i) => {
    const parent = tableOf(schema, foreignKey.table);
    columns.push(...parent.key.map((name) => `p${i}.${quote(name)}`));
    // The plus: only the parent's affinity counts.
    const on = foreignKey.columns.map((name, at) => `p${i}.${quote(foreignKey.targets[at] ?? '')} = +t.${quote(name)}`);
    return `LEFT JOIN ${quote(parent.name)} p${i} ON ${on.join(' AND ')}`;
  });
  return `SELECT ${columns.join(', ')} FROM ${quote(table.name)} t ${joins.join(' ')}`;
}

function readAll(db: Database, sql: string): Cell[][] {
  return db.prepare(sql).safeIntegers(true).raw().all() as Cell[][];
}
