/**
 * Where a row's UUID comes from: from the mark that it began with (v7), or from the columns that name it, so that the same tag made on
 * two devices is one row. Foreign keys inside such a key count as the UUID of their target.
 */
import { createHash, hash } from 'node:crypto';

import { canonicalKey, derivedUuid, hexToBytes, placedUuid } from '../protocol/uuid.ts';
import type { KeyPart } from '../protocol/uuid.ts';
import { TextBytes } from '../protocol/text-bytes.ts';
import type { SqlValue } from '../protocol/types.ts';
import { decodeKey } from './capture.ts';
import type { UniqueIndex } from './indexes.ts';
import type { Library } from './library.ts';
import type { Column, Model } from './model.ts';
import { keyColumn, quoteName, rowsTable } from './model.ts';
import type { Key } from './sql.ts';
import { jsonKeys, narrow, readBig } from './sql.ts';

/** A row's local key as marks name it: the integer, or the encoded natural key. */
export type MarkKey = Key | string;

/** The mark that a new row began with. */
export interface FirstMark {
  readonly n: number;
  /** ms since 1970 */
  readonly at: number;
  readonly key: MarkKey;
}

interface LastMark {
  readonly n: number;
  readonly at: number;
}

/** The last mark that was given a UUID in each open library, by the number of its table. */
const lastNamed = new WeakMap<Library, Map<number, LastMark>>();

/**
 * Gives UUIDs to rows of one table that are born together, in any order, and that no columns name. Such a UUID follows from the row's
 * first mark, so that a library that went back to before that was stamped (a power cut, an older backup) gives the row the same one again:
 * others may have it by then, and it would be there twice. Marks are numbered from 1 again when all are stamped; where time has not gone on
 * since, the UUID is a fresh one.
 */
export function uuidsOfMarks(library: Library, model: Model): (first: FirstMark) => Uint8Array {
  const ofLibrary = lastNamed.get(library) ?? new Map<number, LastMark>();
  lastNamed.set(library, ofLibrary);
  const last = ofLibrary.get(model.n);
  let greatest = 0;
  return ({ n, at, key }) => {
    if (last !== undefined && at <= last.at && n <= last.n) return library.around.newUuid();
    greatest = Math.max(greatest, n);
    ofLibrary.set(model.n, { n: greatest, at: Math.max(at, ofLibrary.get(model.n)?.at ?? 0) });
    return placedUuid(seedOf(library, model), at, n, String(key));
  };
}

/** What tells the marks of a table here from those of other tables and devices. */
function seedOf(library: Library, model: Model): Uint8Array {
  let seed = seeds.get(model);
  if (seed === undefined) {
    seed = hash('sha256', JSON.stringify([library.libraryId, library.around.device, model.wire]), 'buffer');
    seeds.set(model, seed);
  }
  return seed;
}

const seeds = new WeakMap<Model, Uint8Array>();

/** SQL condition that finds a row of the user's table by its natural key. */
export function keyCondition(model: Model, alias: string): string {
  return model.key.map((_, index) => `${keyColumn(model, index, alias)} IS ?`).join(' AND ');
}

/** SQL condition that finds a row of the map table by its natural key. */
export function mapKeyCondition(model: Model): string {
  return model.key.map((_, index) => `k${index + 1} IS ?`).join(' AND ');
}

/** Rows whose ids the map does not have as they are: table → id → UUID, null where no row with an identity has that id. */
export type Moved = ReadonlyMap<string, ReadonlyMap<SqlValue, Uint8Array | null>>;

/** A row that marks concern, as far as its id goes. */
interface Placed {
  readonly model: Model;
  readonly key: MarkKey;
  readonly alive: boolean;
  readonly mapped: { readonly key: Key; readonly uuid: Uint8Array } | null;
}

/** What marks that are being stamped have made of the ids of rows, as far as it can be told before any is born. */
export function movedIn(slots: readonly Placed[]): Moved {
  const moved = new Map<string, Map<SqlValue, Uint8Array | null>>();
  const place = ({ table }: Model, key: SqlValue, uuid: Uint8Array | null): void => {
    moved.set(table, (moved.get(table) ?? new Map<SqlValue, Uint8Array | null>()).set(key, uuid));
  };
  const left = slots.filter(({ model, alive, key, mapped }) => model.rowid !== null && !(alive && key === mapped?.key));
  for (const { model, mapped } of left) if (mapped !== null) place(model, mapped.key, null);
  for (const { model, alive, key, mapped } of left) if (alive && mapped !== null) place(model, key, mapped.uuid);
  return moved;
}

/**
 * The derived UUIDs of rows; null for a row that has NULL in its identity and gets a fresh one. Rows that are gone, or that
 * refer to a row without an identity, are absent from the answer.
 */
export function deriveUuids(
  library: Library,
  model: Model,
  keys: readonly MarkKey[],
  moved: Moved = new Map(),
): Map<MarkKey, Uint8Array | null> {
  const derived = new Map<MarkKey, Uint8Array | null>();
  if (model.identity.kind !== 'derived' || keys.length === 0) return derived;
  const columns = model.identity.columns.map((name) => columnOf(model, name));
  const rows = readIdentities(library, model, columns, keys);
  const targets = targetUuids(library, columns, rows, moved);
  const libraryBytes = hexToBytes(library.libraryId);
  for (const [key, values] of rows) {
    const parts = columns.map((column, index) => keyPart(model, column, values[index] ?? null, targets));
    if (parts.some((part) => part?.type === 'null')) {
      derived.set(key, null);
      continue;
    }
    if (parts.some((part) => part === null)) continue;
    const canonical = canonicalKey(libraryBytes, model.wire, parts as KeyPart[]);
    derived.set(key, derivedUuid(createHash('sha256').update(canonical).digest()));
  }
  return derived;
}

function columnOf(model: Model, name: string): Column {
  const column = model.columns.find((candidate) => candidate.name === name);
  if (column === undefined) throw new RangeError(`${model.table} has no column ${name}`);
  return column;
}

/** The identity columns of each row that still exists; integers as bigints, so that 1 and 1.0 differ. */
function readIdentities(
  library: Library,
  model: Model,
  columns: readonly Column[],
  keys: readonly MarkKey[],
): Map<MarkKey, SqlValue[]> {
  const list = columns.map((column) => `t.${quoteName(column.name)}`).join(', ');
  const found = new Map<MarkKey, SqlValue[]>();
  if (model.rowid !== null) {
    const rowid = quoteName(model.rowid);
    const statement = library.sql.get(
      `SELECT t.${rowid}, ${list} FROM json_each(?) j CROSS JOIN ${quoteName(model.table)} t ON t.${rowid} = j.value`,
    );
    for (const [key, ...values] of readBig(statement, [jsonKeys(keys as Key[])]))
      found.set(narrow(key ?? null) as Key, values);
    return found;
  }
  const statement = library.sql.get(
    `SELECT ${list} FROM ${quoteName(model.table)} t WHERE ${keyCondition(model, 't')}`,
  );
  for (const key of keys) {
    const row = readBig(statement, decodeKey(String(key)))[0];
    if (row !== undefined) found.set(key, row);
  }
  return found;
}

/** UUIDs of all rows that the identities refer to, one query a target table: table → local id → UUID. */
function targetUuids(
  library: Library,
  columns: readonly Column[],
  rows: ReadonlyMap<MarkKey, SqlValue[]>,
  moved: Moved,
): Map<string, Map<SqlValue, Uint8Array>> {
  const wanted = new Map<string, Set<Key>>();
  columns.forEach((column, index) => {
    if (column.role.kind !== 'ref') return;
    const ids = wanted.get(column.role.table) ?? new Set<Key>();
    for (const values of rows.values()) {
      const id = narrow(values[index] ?? null);
      if (typeof id === 'number' || typeof id === 'bigint') ids.add(id);
    }
    wanted.set(column.role.table, ids);
  });
  const uuids = new Map<string, Map<SqlValue, Uint8Array>>();
  for (const [table, ids] of wanted) {
    const found = library.sql.rows(
      `SELECT m.key, m.uuid FROM json_each(?) j CROSS JOIN ${rowsTable(library.model(table))} m ON m.key = j.value`,
      jsonKeys(ids),
    );
    const own = new Map(found.map(([key, uuid]): [SqlValue, Uint8Array] => [key ?? null, uuid as Uint8Array]));
    for (const [key, uuid] of moved.get(table) ?? []) {
      if (uuid === null) own.delete(key);
      else own.set(key, uuid);
    }
    uuids.set(table, own);
  }
  return uuids;
}

/** null when the part refers to a row that has no identity. */
function keyPart(
  model: Model,
  column: Column,
  value: SqlValue,
  targets: ReadonlyMap<string, ReadonlyMap<SqlValue, Uint8Array>>,
): KeyPart | null {
  if (value === null) return { type: 'null' };
  if (column.role.kind === 'ref') {
    const uuid = targets.get(column.role.table)?.get(narrow(value));
    return uuid === undefined ? null : { type: 'uuid', value: uuid };
  }
  if (typeof value === 'bigint') return { type: 'integer', value };
  if (typeof value === 'number')
    return isWhole(value) ? { type: 'integer', value: BigInt(value) } : { type: 'real', value };
  if (typeof value === 'string') return { type: 'text', value: fold(value, collationOf(model, column)) };
  if (value instanceof TextBytes) return { type: 'text', value: foldBytes(value, collationOf(model, column)) };
  return { type: 'blob', value };
}

/** 1 and 1.0 are equal in every index, so they are one name. */
function isWhole(value: number): boolean {
  return Number.isInteger(value) && Math.abs(value) < 2 ** 63;
}

/** The collation under which an identity column is unique: that of the key, or of the index that its columns make. */
function collationOf(model: Model, column: Column): string {
  const index = model.key.indexOf(column.name);
  if (index >= 0) return model.keyCollations[index] ?? 'BINARY';
  const identity = model.identity.kind === 'derived' ? model.identity.columns : [];
  for (const unique of model.uniques as readonly UniqueIndex[]) {
    if (unique.partial || !unique.columns.every((name) => name !== null && identity.includes(name))) continue;
    const position = unique.columns.indexOf(column.name);
    if (position >= 0) return unique.collations[position] ?? 'BINARY';
  }
  return 'BINARY';
}

/** Text as SQLite's built-in collations see it: what is equal to them becomes the same text. */
function fold(text: string, collation: string): string {
  if (collation === 'NOCASE') return text.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());
  if (collation === 'RTRIM') return text.replace(/ +$/, '');
  return text;
}

/** The same for text that is no UTF-8. SQLite folds bytes there as well: they are all ASCII. */
function foldBytes(text: TextBytes, collation: string): Uint8Array {
  return Buffer.from(fold(String(text), collation), 'latin1');
}

/** A value of an identity column, as text that is the same for all values that make the same identity. */
export function identityText(model: Model, name: string, value: SqlValue): string {
  const column = columnOf(model, name);
  if (column.role.kind === 'ref' || value === null) return String(value);
  const part = keyPart(model, column, value, new Map());
  if (part === null || part.type === 'null') return 'null';
  return part.value instanceof Uint8Array
    ? `${part.type} ${Buffer.from(part.value).toString('hex')}`
    : `${part.type} ${String(part.value).length}:${String(part.value)}`;
}

/** True when rows of the table are named by other rows of it (a folder and a name in it): those must have their names first. */
export function isNamedByItself(model: Model): boolean {
  const { identity } = model;
  if (identity.kind !== 'derived') return false;
  return identity.columns.some((name) => {
    const { role } = columnOf(model, name);
    return role.kind === 'ref' && role.table === model.table;
  });
}

/** A local key in the form that is the same for all keys which the key's index takes for equal. */
export function foldedKey(model: Model, key: MarkKey): MarkKey {
  if (model.rowid !== null || typeof key !== 'string' || hasExactKey(model)) return key;
  const parts = decodeKey(key).map((value, position) => {
    const collation = model.keyCollations[position] ?? 'BINARY';
    if (typeof value === 'string') return `t${fold(value, collation)}`;
    if (value instanceof TextBytes) return `x${fold(String(value), collation)}`;
    if (value instanceof Uint8Array) return `b${Buffer.from(value).toString('hex')}`;
    return String(value);
  });
  return JSON.stringify(parts);
}

/** Keys of the table are equal only if their bytes are. */
function hasExactKey(model: Model): boolean {
  return model.key.every(
    (name, position) => model.keyCollations[position] === 'BINARY' && columnOf(model, name).affinity !== 'BLOB',
  );
}
