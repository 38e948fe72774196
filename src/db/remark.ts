/**
 * Rows that others must hear of though no column of theirs has changed: what they refer to is another row now, or is there at
 * last. They are marked, and the next slice of stamping does the rest.
 */
import { LAST_MASK_BIT, OP_UPDATE, decodeKey, encodedKey } from './capture.ts';
import type { Cells, LocalStamp } from './cells.ts';
import { stampsOf } from './cells.ts';
import { haveFollowed } from './follows.ts';
import type { MarkKey } from './identity.ts';
import { keyCondition } from './identity.ts';
import type { Library } from './library.ts';
import { getState, setState } from './metadata.ts';
import type { ForeignKey, Model } from './model.ts';
import { mapJoin, quoteName, refersTo, rowsTable } from './model.ts';
import { foreignCondition } from './owners.ts';
import type { Key } from './sql.ts';
import { jsonKeys } from './sql.ts';
import { ringsOf } from './trees.ts';

/** A mark of our own making: the row (`old`) is to be born again. */
export const OP_REBORN = 5;

/** Whether some writer without foreign keys has left references here that point nowhere. */
export function hasDangling(library: Library): boolean {
  return getState(library.db, 'dangling') === 1;
}

/** A stamp of a row that stayed behind in a pass, whose receiver believes that it has all that was stamped up to then. */
export interface LeftBehind extends LocalStamp {
  readonly uuid: Uint8Array;
}

export function noteDangling(library: Library, left: readonly LeftBehind[]): void {
  const { sql, registry } = library;
  if (!hasDangling(library)) setState(library.db, 'dangling', 1);
  if (left.length === 0) return;
  const gone = registry.models.map((model) => `uuid NOT IN (SELECT uuid FROM ${rowsTable(model)})`);
  sql.run(`DELETE FROM flotilla_behind WHERE ${gone.join(' AND ')}`);
  for (const { uuid, hlc, run } of left)
    sql.run('INSERT OR IGNORE INTO flotilla_behind (uuid, hlc, run) VALUES (?, ?, ?)', Buffer.from(uuid), hlc, run);
}

/**
 * The columns of a row that has stayed behind and is whole now whose values went to nobody: they are stamped anew, as whoever has come to
 * know their stamps will not ask for them. Each is named once.
 */
export function takeLeftBehind(
  library: Library,
  model: Model,
  { uuid, cells }: { uuid: Uint8Array; cells: Cells },
): number[] {
  const id = Buffer.from(uuid);
  const left = library.sql.rows('SELECT hlc, run FROM flotilla_behind WHERE uuid = ?', id);
  if (left.length === 0 || danglingKeys(library, model, uuid).length > 0) return [];
  library.sql.run('DELETE FROM flotilla_behind WHERE uuid = ?', id);
  const names = new Set(left.map(([hlc, run]) => `${Number(hlc)}@${Number(run)}`));
  return [...cells].flatMap(([column, cell]) =>
    column >= 0 && stampsOf(cell).some(({ hlc, run }) => names.has(`${hlc}@${run}`)) ? [column] : [],
  );
}

/**
 * Why the rows that refer to a key are marked: another row is born there, or has moved to where one died, which rows may still have
 * referred to; the row there has got another name; it has only moved there, so that who refers to it by other columns, or has
 * followed it, still means the same row.
 */
export type Touched = 'born' | 'renamed' | 'moved';

/**
 * The rows that refer to `key` refer to another row from now on, or to one at last, though no column of theirs has changed:
 * they are marked, and the next slice stamps them (and renames those whose identity holds the reference). Rows of other devices
 * that refer to a row under its old name are left to those: they still mean the same row.
 */
export function touchReferrers(library: Library, model: Model, key: MarkKey, why: Touched): void {
  for (const child of library.registry.models) {
    const own =
      why === 'renamed' && child.ownership === 'device'
        ? ` AND NOT (${foreignCondition(child, 't', library.registry)})`
        : '';
    for (const foreignKey of child.foreignKeys) {
      const isSpared = !foreignKey.targets.includes(model.rowid ?? '') || haveFollowed(library, child, foreignKey, key);
      if (why === 'moved' && isSpared) continue;
      // In a ring of rows that are named by each other there is no end to new names.
      const mayBeRing =
        why === 'renamed' && child === model && foreignKey.table === model.table && model.rowid !== null;
      if (mayBeRing && ringsOf(library, model, foreignKey, [key as Key]).size > 0) continue;
      if (foreignKey.table === model.table) touch(library, child, foreignKey, model, key, own);
    }
  }
}

/**
 * Whether rows still refer to ids of a table that were left, and are nobody's now: a writer without foreign keys has left them. Whoever gets
 * such an id has to look for them.
 * @param keys - ids that rows of `model` had
 */
export function areReferredTo(library: Library, model: Model, keys: readonly Key[]): boolean {
  const ids = jsonKeys(keys);
  return library.registry.models.some((child) =>
    child.foreignKeys.some(({ simple, table, columns }) => {
      if (!simple || table !== model.table) return false;
      // What was not stamped before is written with the row that has the id now in view.
      const text = `SELECT 1 FROM json_each(?) k CROSS JOIN ${quoteName(child.table)} t ON t.${quoteName(columns[0] ?? '')} = k.value
        CROSS JOIN ${rowsTable(child)} m ON ${mapJoin(child)}
        WHERE NOT EXISTS (SELECT 1 FROM ${rowsTable(model)} p WHERE p.key = k.value) LIMIT 1`;
      return library.sql.value(text, ids) !== undefined;
    }),
  );
}

/**
 * A row came from elsewhere, and rows here that stayed behind may be waiting for its values. Their ids are never given to it.
 * @param head - lsn of the last change before it came: what has come with it did not stay behind
 */
export function touchDangling(library: Library, model: Model, uuid: Uint8Array, head: number): void {
  for (const child of library.registry.models) {
    for (const foreignKey of child.foreignKeys) {
      if (foreignKey.table !== model.table || (foreignKey.simple && !model.rowidIsRef)) continue;
      const key = library.sql.value(
        `SELECT ${encodedKey(model, 't')} FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)} WHERE m.uuid = ?`,
        Buffer.from(uuid),
      );
      const wasHere = ` AND EXISTS (SELECT 1 FROM ${rowsTable(child)} m WHERE ${mapJoin(child)} AND m.lsn <= ${head})`;
      if (key !== undefined) touch(library, child, foreignKey, model, key as MarkKey, wasHere);
    }
  }
}

/** Those foreign keys of a row that lead nowhere, or have an id in them that is no row's: it stays behind. */
export function danglingKeys(library: Library, model: Model, uuid: Uint8Array): ForeignKey[] {
  return model.foreignKeys.filter((key) => {
    const set = key.columns.map((name) => `t.${quoteName(name)} IS NOT NULL`).join(' AND ');
    const leadsNowhere = [`NOT EXISTS (SELECT 1 FROM ${quoteName(key.table)} p WHERE ${refersTo(key)})`];
    if (!key.simple) leadsNowhere.push(...idsOfNobody(library, model, key));
    const text = `SELECT 1 FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)}
      WHERE m.uuid = ? AND ${set} AND (${leadsNowhere.join(' OR ')})`;
    return library.sql.value(text, Buffer.from(uuid)) !== undefined;
  });
}

/** SQL: an id in a foreign key of several columns, whose target may have that id itself, is no row's. */
function idsOfNobody({ registry }: Library, model: Model, { columns }: ForeignKey): string[] {
  return columns.flatMap((name) => {
    const role = model.columns.find((column) => column.name === name)?.role;
    const rowid = role?.kind === 'ref' ? registry.byName.get(role.table)?.rowid : undefined;
    if (role?.kind !== 'ref' || typeof rowid !== 'string') return [];
    return [`NOT EXISTS (SELECT 1 FROM ${quoteName(role.table)} p WHERE p.${quoteName(rowid)} = t.${quoteName(name)})`];
  });
}

/**
 * What arrived has made a row whole that stayed behind here. What was written to it meanwhile has been taken for known by others,
 * who did not get it: a stamp of our own on the references that were mended takes it to them.
 */
export function touchMended(library: Library, model: Model, uuid: Uint8Array, stayed: readonly ForeignKey[]): void {
  const own = model.ownership === 'device' ? ` AND NOT (${foreignCondition(model, 't', library.registry)})` : '';
  if (danglingKeys(library, model, uuid).length > 0) return;
  library.sql.run(
    `INSERT INTO flotilla_marks (tbl, op, old, new, at, mask)
     SELECT ${model.n}, ${OP_UPDATE}, ${encodedKey(model, 't')}, ${encodedKey(model, 't')}, ?, ?
     FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)} WHERE m.uuid = ?${own}`,
    library.around.now(),
    maskOf(model, { columns: stayed.flatMap(({ columns }) => columns) }),
    Buffer.from(uuid),
  );
}

/** @param condition - SQL that says more of the rows (`t`) */
function touch(
  library: Library,
  child: Model,
  foreignKey: ForeignKey,
  model: Model,
  key: MarkKey,
  condition = '',
): void {
  const where = model.rowid === null ? keyCondition(model, 'p') : `p.${quoteName(model.rowid)} = ?`;
  library.sql.run(
    `INSERT INTO flotilla_marks (tbl, op, old, new, at, mask)
     SELECT ${child.n}, ${OP_UPDATE}, ${encodedKey(child, 't')}, ${encodedKey(child, 't')}, ?, ?
     FROM ${quoteName(model.table)} p CROSS JOIN ${quoteName(child.table)} t ON ${refersTo(foreignKey)} WHERE ${where}${condition}`,
    library.around.now(),
    maskOf(child, foreignKey),
    ...(model.rowid === null ? decodeKey(String(key)) : [key]),
  );
}

/** Marks rows of a table with an integer key as written in the columns of a foreign key. */
export function markReferences(library: Library, child: Model, foreignKey: ForeignKey, keys: readonly Key[]): void {
  library.sql.run(
    `INSERT INTO flotilla_marks (tbl, op, old, new, at, mask)
     SELECT ${child.n}, ${OP_UPDATE}, value, value, ?, ? FROM json_each(?)`,
    library.around.now(),
    maskOf(child, foreignKey),
    jsonKeys(keys),
  );
}

function maskOf(child: Model, { columns }: Pick<ForeignKey, 'columns'>): number {
  const numbers = columns.map((name) => child.columns.find((column) => column.name === name)?.number ?? 0);
  return [...new Set(numbers.map((number) => Math.min(number, LAST_MASK_BIT)))].reduce(
    (bits, bit) => bits + 2 ** bit,
    0,
  );
}

/**
 * Marks the rows that this device gave birth to: while others had no identity yet, some of them referred to those and stayed
 * behind.
 */
export function markOwnReborn(library: Library, model: Model): void {
  library.sql.run(
    `INSERT INTO flotilla_marks (tbl, op, old, new, at, mask)
     SELECT ${model.n}, ${OP_REBORN}, ${encodedKey(model, 't')}, ${encodedKey(model, 't')}, ?, 0
     FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)}
     WHERE m.birth_run IN (SELECT run FROM flotilla_runs WHERE device = ?)`,
    library.around.now(),
    library.around.device,
  );
}
