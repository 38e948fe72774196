/**
 * Capture: triggers in pure SQL that note which rows any writer touched, in the append-only log `flotilla_marks`. They
 * work in SQLite 3.40 and later whoever writes, so nothing here may need a function of ours, fail for a value that a
 * user can write, or read more than an index look-up.
 *
 * A mark says where to look, not what is there: stamping replays the marks in order and reads the rows. Therefore
 * - a second insert under a key that lives is a REPLACE of that row, and needs no mark for what it replaced;
 * - a move onto a key that lives (UPDATE OR REPLACE) says that the row which lived there was evicted;
 * - only a row that goes because of *another* key than its own leaves no trace, since REPLACE fires no delete trigger:
 *   {@link OP_EVICT} marks name such rows beforehand, and whether it came to that is seen when stamping: the row is no longer there,
 *   or another one is inserted under its key, without an {@link OP_STANDS} mark that says that it was there still.
 */
import type { Database } from 'better-sqlite3';
import { textOf } from '../protocol/text-bytes.ts';
import type { SqlValue } from '../protocol/types.ts';
import { mayBeUndone } from './clauses.ts';
import type { UniqueIndex } from './indexes.ts';
import { termOf } from './indexes.ts';
import type { Affinity, Column, Model, Registry } from './model.ts';
import { keyColumn, quoteName, syncedColumns } from './model.ts';
import { MEMBERSHIP_TABLE } from './choose.ts';
import { foreignCondition, foreignOwner, ownerColumn } from './owners.ts';
import type { SchemaColumn, SchemaModel } from './schema.ts';

/** A row was inserted: `new`. */
export const OP_INSERT = 1;
/** A row was changed, moved, or both: `old`, `new`, `mask`. */
export const OP_UPDATE = 2;
/** A row was deleted: `old`, and in `new` what it held if the delete may have to be undone. */
export const OP_DELETE = 3;
/** A row that a REPLACE may evict: `old`. */
export const OP_EVICT = 4;

/** The row whose key a new one has is there as that is about to be inserted: `old`. */
export const OP_STANDS = 7;

/**
 * A reference by id was changed when the row that it meant had no longer that id: it may have followed it by ON UPDATE CASCADE.
 * `old`: the referring row by its key now; `new`: both ids, as `before:after`; `mask`: the bit of the column, which the mark of the
 * change itself leaves out.
 */
export const OP_FOLLOW = 6;

/** Last bit of a mask; columns from this number on share it, so that a mask stays below 2^53, exact in JavaScript. */
export const LAST_MASK_BIT = 52;

/** Milliseconds since 1970; `unixepoch('subsec')` is NULL before SQLite 3.42. 210866760000000 is 1970 in Julian ms. */
const NOW = `CAST(julianday('now') * 86400000.0 - 210866760000000.0 + 0.5 AS INTEGER)`;

const CAPTURING = '(SELECT suspended FROM flotilla_capture) IS NOT 1';

/**
 * The triggers that capture `model`, as CREATE TRIGGER statements.
 * @param keepsLast - a delete may have to be undone: its mark carries what the row held, since nobody can read it later
 */
export function captureTriggers(model: Model, registry: Registry, keepsLast = false): string[] {
  const synced = syncedColumns(model);
  const name = (part: string): string => `CREATE TRIGGER flotilla_${model.n}_${part}`;
  const table = quoteName(model.table);
  const oldKey = encodedKey(model, 'OLD');
  const newKey = encodedKey(model, 'NEW');
  const moved =
    model.rowid === null || model.rowidIsRef
      ? []
      : [`OLD.${quoteName(model.rowid)} IS NOT NEW.${quoteName(model.rowid)}`];
  const anything = either([...moved, ...synced.map(changed)]);
  const following = synced.filter((column) => followsIds(model, column));
  return [
    `${name('insert')} AFTER INSERT ON ${table} WHEN ${CAPTURING} BEGIN ${mark(model, OP_INSERT, { new: newKey })} END`,
    `${name('update')} AFTER UPDATE ON ${table} WHEN ${anything} AND ${CAPTURING} BEGIN ` +
      `${mark(model, OP_UPDATE, { old: oldKey, new: newKey, mask: maskOf(synced) + withoutFollowing(following, registry), ...ownerBefore(model, 'OLD') })}` +
      `${following.map((column) => followMark(model, column, registry)).join('')} END`,
    `${name('delete')} AFTER DELETE ON ${table} WHEN ${CAPTURING} BEGIN ${mark(model, OP_DELETE, {
      old: oldKey,
      ...ownerBefore(model, 'OLD'),
      ...(keepsLast
        ? {
            new: encodedParts(
              synced.map(({ name: column }) => column),
              'OLD',
            ),
          }
        : {}),
    })} END`,
    ...evictions(model, name, registry),
    ...(model.ownership === 'device' ? guards(model, name, registry) : []),
    ...(model.table === MEMBERSHIP_TABLE ? recordGuards(model) : []),
  ];
}

/**
 * Puts the capture triggers of all models in place, in one transaction, unless they are there already.
 *
 * They must be the youngest triggers of their tables: SQLite fires the youngest first, so that our mark of a statement
 * comes before the marks of what a user's own triggers do in answer to it.
 * @returns true when something was changed
 */
export function installCapture(db: Database, registry: Registry): boolean {
  const wanted = registry.models.flatMap((model) => captureTriggers(model, registry, mayBeUndone(registry, model)));
  if (isInstalled(db, registry, wanted)) return false;
  db.transaction(() => {
    dropCapture(db);
    for (const statement of wanted) db.exec(statement);
  })();
  return true;
}

/** Removes all triggers of ours. */
export function dropCapture(db: Database): void {
  for (const { name } of triggers(db)) {
    if (isOurs(name)) db.exec(`DROP TRIGGER main.${quoteName(name)}`);
  }
}

/**
 * SQL for the key of a row as marks carry it: the integer of an INTEGER PRIMARY KEY, else all key columns as text, each
 * with its type and byte for byte.
 * @param alias - the row: `OLD`, `NEW` or a table's alias
 */
export function encodedKey(model: Model, alias: string): string {
  if (model.rowid !== null) return `${alias}.${quoteName(model.rowid)}`;
  return encodedParts(model.key, alias);
}

function encodedParts(columns: readonly string[], alias: string): string {
  return columns.map((column) => encodedPart(`${alias}.${quoteName(column)}`)).join(` || ',' || `) || `''`;
}

/** The key columns of a key that {@link encodedKey} made as text. Integers beyond ±(2^53−1) come as bigints. */
export function decodeKey(text: string): SqlValue[] {
  return text.split(',').map(decodePart);
}

// 21 digits name a double exactly: 17 would do if the digits themselves were never off, which old builds cannot promise.
function encodedPart(value: string): string {
  return (
    `CASE typeof(${value}) WHEN 'integer' THEN 'i' || ${value} WHEN 'text' THEN 't' || hex(${value}) ` +
    `WHEN 'real' THEN 'r' || printf('%!.20e', ${value}) WHEN 'blob' THEN 'b' || hex(${value}) ELSE 'n' END`
  );
}

function decodePart(part: string): SqlValue {
  const value = part.slice(1);
  switch (part[0]) {
    case 'n':
      return null;
    case 'i': {
      const number = Number(value);
      return Number.isSafeInteger(number) ? number : BigInt(value);
    }
    case 'r':
      return /inf/i.test(value) ? (value.startsWith('-') ? -Infinity : Infinity) : Number(value);
    case 't':
      return textOf(Buffer.from(value, 'hex'));
    case 'b':
      return Uint8Array.from(Buffer.from(value, 'hex'));
    default:
      throw new RangeError(`a mark carries a key of an unknown kind: ${part.slice(0, 20)}`);
  }
}

function mark(model: Model, op: number, parts: { old?: string; new?: string; mask?: string; owner?: string }): string {
  const columns = [
    'tbl',
    'op',
    ...(parts.old === undefined ? [] : ['old']),
    ...(parts.new === undefined ? [] : ['new']),
    'at',
    'mask',
    ...(parts.owner === undefined ? [] : ['owner']),
  ];
  const keys = [parts.old, parts.new].filter((part) => part !== undefined);
  const values = [model.n, op, ...keys, NOW, parts.mask ?? 0, ...(parts.owner === undefined ? [] : [parts.owner])];
  return `INSERT INTO flotilla_marks (${columns.join(', ')}) VALUES (${values.join(', ')});`;
}

/** Whether a column holds ids that ON UPDATE CASCADE may change. */
export function followsIds(model: Model, { name, role, number }: Column): boolean {
  return (
    role.kind === 'ref' &&
    number < LAST_MASK_BIT &&
    model.foreignKeys.some(({ columns, onUpdate }) => onUpdate === 'CASCADE' && columns.includes(name))
  );
}

/** SQL: a reference is changed whose target has no longer the id by which it is named. */
function hasFollowed({ name, role }: Column, registry: Registry): string {
  const parent = registry.byName.get(role.kind === 'ref' ? role.table : '') as Model;
  const [before, after] = [`OLD.${quoteName(name)}`, `NEW.${quoteName(name)}`];
  return (
    `CASE WHEN ${before} IS ${after} OR ${before} IS NULL OR ${after} IS NULL THEN 0 ELSE NOT EXISTS ` +
    `(SELECT 1 FROM ${quoteName(parent.table)} p WHERE p.${quoteName(parent.rowid ?? '')} = ${before}) END`
  );
}

function withoutFollowing(columns: readonly Column[], registry: Registry): string {
  if (columns.length === 0) return '';
  const bits = columns.map((column) => `(${hasFollowed(column, registry)}) << ${column.number}`);
  return ` & ~(${balanced(
    bits.map((bit) => `(${bit})`),
    '|',
    '0',
  )})`;
}

function followMark(model: Model, column: Column, registry: Registry): string {
  const name = quoteName(column.name);
  return (
    ` INSERT INTO flotilla_marks (tbl, op, old, new, at, mask) SELECT ${model.n}, ${OP_FOLLOW}, ${encodedKey(model, 'NEW')}, ` +
    `OLD.${name} || ':' || NEW.${name}, ${NOW}, 1 << ${column.number} WHERE ${hasFollowed(column, registry)};`
  );
}

/**
 * What the `ownedBy` column of a row holds before a write: it says whose row it was when it is stamped, whatever has become of
 * it and of what it referred to. An empty blob stands for NULL.
 */
function ownerBefore(model: Model, row: string): { owner?: string } {
  return model.ownedBy === null ? {} : { owner: `ifnull(${row}.${quoteName(ownerColumn(model))}, x'')` };
}

/**
 * True when a column's value is another one, byte for byte: 'foo' → 'FOO' under NOCASE and 1 → 1.0 count. A column of
 * TEXT or REAL affinity holds no two numbers that are equal but differ in type, so `typeof`, half of the cost, is spared.
 */
function changed(column: { readonly name: string; readonly affinity?: Affinity }): string {
  const before = `OLD.${quoteName(column.name)}`;
  const after = `NEW.${quoteName(column.name)}`;
  const bytes = `${before} IS NOT ${after} COLLATE BINARY`;
  if (column.affinity === 'TEXT' || column.affinity === 'REAL') return `(${bytes})`;
  return `(${bytes} OR typeof(${before}) IS NOT typeof(${after}))`;
}

function maskOf(columns: readonly Column[]): string {
  const bits = new Map<number, string[]>();
  for (const column of columns) {
    const bit = Math.min(column.number, LAST_MASK_BIT);
    bits.set(bit, [...(bits.get(bit) ?? []), changed(column)]);
  }
  return balanced(
    [...bits].map(([bit, terms]) => `(${either(terms)} << ${bit})`),
    '|',
    '0',
  );
}

function either(terms: readonly string[]): string {
  return balanced(terms, 'OR', '0');
}

/** Joins terms as a balanced tree: SQLite refuses an expression that is 1,000 deep, as a chain over a wide table is. */
function balanced(terms: readonly string[], operator: string, empty: string): string {
  if (terms.length <= 1) return terms[0] ?? empty;
  const half = Math.ceil(terms.length / 2);
  return `(${balanced(terms.slice(0, half), operator, empty)} ${operator} ${balanced(terms.slice(half), operator, empty)})`;
}

// ---- evictions

/** An index in which a new row may take another row's place. */
interface Rival {
  readonly index: UniqueIndex;
  readonly isKey: boolean;
}

/** The key itself, which no index of the model's stands for. */
function keyRival({ key, keyCollations }: Model, isKey: boolean): Rival {
  const expressions = key.map(() => null);
  const index = { name: '', columns: key, partial: false, collations: keyCollations, expressions, where: null };
  return { index, isKey };
}

function rivals(model: Model): Rival[] {
  const found = model.uniques.map((unique) => ({ index: unique as UniqueIndex, isKey: false }));
  // A natural key evicts the row with the same key, which is then a second insert under it. It can be another key only
  // where the index takes different bytes for equal: by a collation, or 1 and 1.0 in a column that converts nothing.
  const exact = model.key.every((name, position) => {
    const column = model.columns.find((candidate) => candidate.name === name);
    return model.keyCollations[position] === 'BINARY' && column !== undefined && column.affinity !== 'BLOB';
  });
  // Where the columns of a row say whose it is, what a REPLACE wrote over must be known.
  if ((model.rowid !== null || exact) && model.ownedBy === null) return found;
  return [keyRival(model, model.ownedBy === null), ...found];
}

/** Whether an insert under the key of a row that is there comes with an {@link OP_STANDS} mark. */
export function saysWhatStands({ uniques, ownedBy }: Model): boolean {
  return uniques.length > 0 || ownedBy !== null;
}

/** Whether ON DELETE CASCADE may take rows of a table along with one of the same table, over any number of steps. */
function takesItsOwn({ table }: Model, { models }: Registry): boolean {
  const reached = new Set<string>();
  for (let next = [table]; next.length > 0;) {
    next = models
      .filter((child) => child.foreignKeys.some((key) => key.onDelete === 'CASCADE' && next.includes(key.table)))
      .map((child) => child.table)
      .filter((name) => !reached.has(name));
    for (const name of next) reached.add(name);
  }
  return reached.has(table);
}

function evictions(model: Model, name: (part: string) => string, registry: Registry): string[] {
  const found = rivals(model);
  const others = found.filter(({ index }) => index.columns !== model.key);
  // A row that moves onto another's key says itself that this has gone, unless it goes along with it.
  const onUpdate = takesItsOwn(model, registry) ? [keyRival(model, false), ...others] : found;
  if (onUpdate.length === 0) return [];
  const table = quoteName(model.table);
  const insert = found.map((rival) => lookUp(model, rival));
  if (saysWhatStands(model)) insert.push(standsMark(model));
  const update = onUpdate.map((rival) => {
    const moves = either(rival.index.columns.map((column) => (column === null ? '1' : changed({ name: column }))));
    // A row can also enter a partial index by a change of the columns in its condition.
    return lookUp(model, rival, [...(rival.index.partial ? [] : [moves]), notItself(model)]);
  });
  const trigger = (event: string, marks: readonly string[]): string[] =>
    marks.length === 0
      ? []
      : [
          `${name(`${event}_evict`)} BEFORE ${event.toUpperCase()} ON ${table} WHEN ${CAPTURING} BEGIN ${marks.join(' ')} END`,
        ];
  return [...trigger('insert', insert), ...trigger('update', update)];
}

/** How a trigger names the rows of its table: one that is called NEW or OLD would hide the row that is written. */
function inTable({ table }: Model): { readonly row: string; readonly from: string } {
  const name = quoteName(table);
  return /^(?:new|old)$/i.test(table)
    ? { row: 'flotilla_row', from: `${name} AS flotilla_row` }
    : { row: name, from: name };
}

/** The condition of a partial index for the rows of the table. */
function conditionOf(model: Model, where: string): string {
  const { row } = inTable(model);
  if (row === quoteName(model.table)) return `(${where})`;
  const names = [...newRow(model).keys()];
  return termOf(`(${where})`, model.table, new Map(names.map((name) => [name, `${row}.${quoteName(name)}`])));
}

/** Marks the row of a unique index that has the new row's place: the index itself finds it. */
function lookUp(model: Model, { index, isKey }: Rival, conditions: readonly string[] = []): string {
  const { row: table, from } = inTable(model);
  const terms = index.columns.map((column, position) => {
    const expression = index.expressions[position];
    // Outside of a partial index it may not even be computable.
    if (column === null) {
      const value = index.where === null ? expression : `CASE WHEN (${index.where}) THEN ${expression} END`;
      return `${expression ?? 'NULL'} = ${termOf(value ?? 'NULL', model.table, newRow(model))}`;
    }
    return `${table}.${quoteName(column)} COLLATE ${quoteName(index.collations[position] ?? 'BINARY')} = ${newValue(model, column)}`;
  });
  const where = [
    ...conditions,
    ...terms,
    ...(index.where === null ? [] : [conditionOf(model, index.where)]),
    ...(isKey ? [`${encodedKey(model, table)} IS NOT ${encodedKey(model, 'NEW')}`] : []),
  ];
  const { owner } = ownerBefore(model, table);
  const into = owner === undefined ? '(tbl, op, old, at, mask)' : '(tbl, op, old, at, mask, owner)';
  return (
    `INSERT INTO flotilla_marks ${into} SELECT ${model.n}, ${OP_EVICT}, ${encodedKey(model, table)}, ${NOW}, 0` +
    `${owner === undefined ? '' : `, ${owner}`} FROM ${from} WHERE ${where.join(' AND ')};`
  );
}

/** Comes after what may have evicted the row. */
function standsMark(model: Model): string {
  const { row: table, from } = inTable(model);
  const key = model.rowid === null ? model.key : [model.rowid];
  const collation = (i: number): string =>
    model.rowid === null ? ` COLLATE ${quoteName(model.keyCollations[i] ?? 'BINARY')}` : '';
  const where = key.map((name, i) => `${table}.${quoteName(name)}${collation(i)} = ${newValue(model, name)}`);
  return (
    `INSERT INTO flotilla_marks (tbl, op, old, at, mask) SELECT ${model.n}, ${OP_STANDS}, ${encodedKey(model, table)}, ${NOW}, 0 ` +
    `FROM ${from} WHERE ${where.join(' AND ')};`
  );
}

/** REPLACE puts the default in place of a NULL that is not allowed, but only after the BEFORE triggers. */
function newValue(model: Model, name: string): string {
  const column = model.columns.find((candidate) => candidate.name === name) as SchemaColumn | undefined;
  const value = `NEW.${quoteName(name)}`;
  return column?.notNull === true && column.defaultSql !== null ? `ifnull(${value}, ${column.defaultSql})` : value;
}

function newRow(model: Model): Map<string, string> {
  const names = [...model.columns.map((column) => column.name), ...(model as SchemaModel).generated];
  return new Map(names.map((name) => [name, newValue(model, name)]));
}

/** The row that is being updated is no rival of itself. */
function notItself(model: Model): string {
  const table = inTable(model).row;
  if (model.rowid !== null) return `${table}.${quoteName(model.rowid)} <> OLD.${quoteName(model.rowid)}`;
  const same = model.key.map((column, index) => `${keyColumn(model, index, table)} IS OLD.${quoteName(column)}`);
  return `NOT (${same.join(' AND ')})`;
}

// ---- membership

/** Records of membership are signed: no program can write one, and what is there must stay as it is. */
function recordGuards(model: Model): string[] {
  return ['INSERT', 'UPDATE', 'DELETE'].map(
    (event) =>
      `CREATE TRIGGER flotilla_${model.n}_guard_${event.toLowerCase()} BEFORE ${event} ON ${quoteName(model.table)} ` +
      `WHEN ${CAPTURING} BEGIN SELECT RAISE(ABORT, 'flotilla: records of membership are written by flotilla alone'); END`,
  );
}

// ---- ownership

function guards(model: Model, name: (part: string) => string, registry: Registry): string[] {
  const table = quoteName(model.table);
  const refuse = (sentence: string): string =>
    `BEGIN SELECT RAISE(ABORT, 'flotilla: ${sentence.replaceAll("'", "''")}'); END`;
  const foreign = foreignCondition(model, 'OLD', registry);
  const keep = refuse(`this row of ${model.table} belongs to another device; change it there`);
  const update = `${either(syncedColumns(model).map(changed))} AND ${CAPTURING} AND ${foreign}`;
  const found = [
    `${name('guard_update')} BEFORE UPDATE ON ${table} WHEN ${update} ${keep}`,
    `${name('guard_delete')} BEFORE DELETE ON ${table} WHEN ${CAPTURING} AND ${foreign} ${keep}`,
  ];
  if (model.ownedBy === null) return found;
  // After the insert: one that is ignored, or becomes an update, must not be refused.
  const insert = `NEW.${quoteName(ownerColumn(model))} IS NOT NULL AND ${CAPTURING} AND ${foreignOwner(model, 'NEW', registry)}`;
  const to = model.ownedBy.table;
  const add = refuse(`this row of ${model.table} would belong to a row of ${to} of another device; add it there`);
  return [...found, `${name('guard_insert')} AFTER INSERT ON ${table} WHEN ${insert} ${add}`];
}

// ---- what is in place

interface TriggerRow {
  readonly position: number;
  readonly name: string;
  readonly tbl_name: string;
  readonly sql: string;
}

function triggers(db: Database): TriggerRow[] {
  return db
    .prepare(
      `SELECT rowid AS position, name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY rowid`,
    )
    .safeIntegers(false)
    .all() as TriggerRow[];
}

/** By the number of a table after the prefix: a trigger of the user's that only begins like ours is left alone. */
function isOurs(trigger: string): boolean {
  return /^flotilla_\d+_/.test(trigger);
}

function isInstalled(db: Database, registry: Registry, wanted: readonly string[]): boolean {
  const all = triggers(db);
  const ours = all.filter((trigger) => isOurs(trigger.name));
  if (JSON.stringify(ours.map((trigger) => trigger.sql).toSorted()) !== JSON.stringify(wanted.toSorted())) return false;
  const first = Math.min(...ours.map((trigger) => trigger.position));
  return all.every(
    (trigger) => isOurs(trigger.name) || trigger.position < first || !registry.byName.has(trigger.tbl_name),
  );
}
