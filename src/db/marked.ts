/**
 * The rows that marks speak of: which of them others can know, where their mappings stand, and what a row that has got another
 * name leaves to its successor.
 */
import type { SqlValue } from '../protocol/types.ts';
import { OP_DELETE, OP_FOLLOW, OP_INSERT, OP_UPDATE, decodeKey } from './capture.ts';
import type { MarkKey } from './identity.ts';
import { keyCondition, mapKeyCondition } from './identity.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { quoteName, rowsTable } from './model.ts';
import type { Key, RawRow } from './sql.ts';
import { jsonKeys } from './sql.ts';

/** A mark that says nothing to others. */
export const OP_NONE = 0;

/** A row that others know under another name takes over what its predecessor had for columns that are not here. */
export function inherit(library: Library, model: Model, key: MarkKey, aside: SqlValue): void {
  const where = model.rowid === null ? mapKeyCondition(model) : 'key = ?';
  const params = model.rowid === null ? decodeKey(String(key)) : [key];
  library.sql.run(`UPDATE ${rowsTable(model)} SET aside = ? WHERE ${where}`, aside, ...params);
}

/**
 * A mark as it concerns others. A row with NULL in its natural key (which only old tables allow) has no name that another
 * device could know, nor does anything tell two of them apart: it stays on this device, comes to be when it gets a whole
 * key, and is gone for others when it loses it.
 */
export function named(library: Library, mark: RawRow): RawRow {
  const [n, table, op, before, after, at, mask] = mark;
  const model = library.modelByNumber(Number(table));
  const had = before !== null && isNamed(model, before as MarkKey);
  const has = carriesKey(op) && after !== null && isNamed(model, after as MarkKey);
  if (op === OP_UPDATE && had !== has)
    return [n, table, had ? OP_DELETE : OP_INSERT, had ? before : null, had ? null : after, at, mask] as RawRow;
  return had || has ? mark : ([n, table, OP_NONE, null, null, at, mask] as RawRow);
}

/** Whether `new` of a mark is a key, and not what a deleted row held, or two ids. */
export function carriesKey(op: SqlValue | undefined): boolean {
  return op !== OP_DELETE && op !== OP_FOLLOW;
}

/** False for a natural key with a NULL in it. */
export function isNamed(model: Model, key: MarkKey): boolean {
  return model.rowid !== null || !String(key).split(',').includes('n');
}

/** True for a v8 UUID. */
export function isDerived(uuid: Uint8Array): boolean {
  return (uuid[6] ?? 0) >> 4 === 8;
}

/** Mappings of the given keys: key as marks name it → (map key, uuid, birth, cells, stamp). */
export function loadMap(library: Library, model: Model, keys: ReadonlySet<MarkKey>): Map<MarkKey, RawRow> {
  const found = new Map<MarkKey, RawRow>();
  if (model.rowid !== null) {
    const rows = library.sql.rows(
      `SELECT m.key, m.uuid, m.birth_hlc, m.birth_run, m.cells, m.hlc, m.run, m.aside FROM json_each(?) j CROSS JOIN ${rowsTable(model)} m ON m.key = j.value`,
      jsonKeys(keys as ReadonlySet<Key>),
    );
    for (const row of rows) found.set(row[0] as Key, row);
    return found;
  }
  const text = `SELECT key, uuid, birth_hlc, birth_run, cells, hlc, run, aside FROM ${rowsTable(model)} WHERE ${mapKeyCondition(model)}`;
  for (const key of keys) {
    const row = library.sql.rows(text, ...decodeKey(String(key)))[0];
    if (row !== undefined) found.set(key, row);
  }
  return found;
}

export function exists(library: Library, model: Model, key: MarkKey): boolean {
  const condition = model.rowid === null ? keyCondition(model, 't') : `t.${quoteName(model.rowid)} = ?`;
  const params = model.rowid === null ? decodeKey(String(key)) : [key];
  return library.sql.value(`SELECT 1 FROM ${quoteName(model.table)} t WHERE ${condition}`, ...params) !== undefined;
}
