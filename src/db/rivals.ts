/**
 * Which rows here have the values of a waiting version in a unique index, whatever the index is made of.
 */
import type { Batch, SqlValue } from '../protocol/types.ts';
import type { Cells } from './cells.ts';
import { parseCells } from './cells.ts';
import { bindable } from './incoming.ts';
import type { UniqueIndex } from './indexes.ts';
import { termOf } from './indexes.ts';
import type { Library } from './library.ts';
import type { MappedRow } from './lookup.ts';
import type { Model } from './model.ts';
import { mapJoin, quoteName, rowByKey, rowsTable } from './model.ts';
import type { Key } from './sql.ts';
import { readBig } from './sql.ts';

/** A row that stands here. */
export interface StandingRow extends MappedRow {
  readonly model: Model;
  readonly cells: Cells;
}

/** What a version's columns would hold here, by name; null when it refers to a row that is not here. */
export function valuesHere(library: Library, model: Model, version: Batch): Map<string, unknown> | null {
  const values = new Map<string, unknown>(model.columns.map(({ name }) => [name, null]));
  for (const { name, wire } of model.columns) {
    const column = version.tables[0]?.columns.find((candidate) => candidate.name === wire);
    if (column === undefined) continue;
    if (column.kind === 'value') {
      values.set(name, bindable(column, 0));
      continue;
    }
    const index = column.refs[0] ?? -1;
    if (index < 0) continue;
    const target = library.arriving(version.names[version.uuidTable[index] ?? 0] ?? '');
    const key = library.sql.value(
      `SELECT key FROM ${rowsTable(target)} WHERE uuid = ?`,
      Buffer.from(version.uuids.subarray(index * 16, index * 16 + 16)),
    );
    if (key === undefined) return null;
    values.set(name, key);
  }
  return values;
}

/** The rows that stand in the way of one with these values in a unique index. */
export function rivalsIn(
  library: Library,
  model: Model,
  unique: UniqueIndex,
  values: ReadonlyMap<string, unknown>,
  self: Uint8Array,
): StandingRow[] {
  const table = quoteName(model.table);
  const newRow = new Map([...values.keys()].map((name) => [name, '?']));
  const params: unknown[] = [];
  const ofNewRow = (expression: string): string => {
    params.push(...values.values());
    return termOf(expression, model.table, newRow);
  };
  const terms = unique.columns.map((column, i) => {
    const expression = unique.expressions[i] ?? (column === null ? 'NULL' : `${table}.${quoteName(column)}`);
    const collation = quoteName(unique.collations[i] ?? 'BINARY');
    if (column === null || !values.has(column)) return `${expression} COLLATE ${collation} = ${ofNewRow(expression)}`;
    params.push(values.get(column));
    return `${expression} COLLATE ${collation} = ?`;
  });
  if (unique.where !== null) terms.push(`(${unique.where})`, ofNewRow(`(${unique.where})`));
  // A generated column cannot be worked out here: nothing is found, and the row waits.
  if (unique.columns.some((name) => name !== null && !values.has(name))) return [];
  const keys = (model.rowid === null ? model.key : [model.rowid]).map(quoteName);
  return library.sql
    .rows(
      // Apart from the map, since a condition may name a column that is called as one of the map's.
      `SELECT m.key, m.uuid, m.birth_hlc, m.birth_run, m.hlc, m.run, m.cells
       FROM ${table} t CROSS JOIN ${rowsTable(model)} m ON ${mapJoin(model)}
       WHERE (${keys.map((name) => `t.${name}`).join(', ')}) IN (SELECT ${keys.join(', ')} FROM ${table} WHERE ${terms.join(' AND ')})
         AND m.uuid <> ?`,
      ...params,
      Buffer.from(self),
    )
    .map((row) => standing(model, row));
}

/** The row with a UUID, if it stands here. */
export function standingRow(library: Library, model: Model, uuid: Uint8Array): StandingRow | null {
  const row = library.sql.rows(
    `SELECT key, uuid, birth_hlc, birth_run, hlc, run, cells FROM ${rowsTable(model)} WHERE uuid = ?`,
    Buffer.from(uuid),
  )[0];
  return row === undefined ? null : standing(model, row);
}

function standing(
  model: Model,
  [key, uuid, birthHlc, birthRun, hlc, run, cells]: readonly (SqlValue | undefined)[],
): StandingRow {
  return {
    model,
    key: key as Key,
    uuid: uuid as Uint8Array,
    birthHlc: Number(birthHlc),
    birthRun: Number(birthRun),
    hlc: Number(hlc),
    run: Number(run),
    cells: parseCells(cells),
  };
}

/** What all columns of a row here hold, by name. */
export function valuesOfRow(
  library: Library,
  { model, key }: Pick<StandingRow, 'model' | 'key'>,
): Map<string, unknown> {
  const names = model.columns.map(({ name }) => name);
  const row = readBig(
    library.sql.get(
      `SELECT ${names.map(quoteName).join(', ')} FROM ${quoteName(model.table)} WHERE ${rowByKey(model)}`,
    ),
    [key],
  )[0];
  return new Map(names.map((name, i) => [name, row?.[i] ?? null]));
}
