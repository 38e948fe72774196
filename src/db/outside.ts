/**
 * Foreign keys that do not sync: those of tables that stay on this device, and those over local columns. The rows behind
 * them are this device's own business, but SQLite enforces them, so they can keep a row here that was deleted elsewhere.
 */
import { foldName } from './config.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { mapJoin, quoteName, refersTo, rowsTable } from './model.ts';
import type { Key } from './sql.ts';
import { jsonKeys } from './sql.ts';

/** A foreign key to a table that syncs. */
export interface OutsideKey {
  readonly table: string;
  readonly columns: readonly string[];
  readonly parent: Model;
  readonly targets: readonly string[];
  /** It forbids that the row goes to which it refers. */
  readonly holds: boolean;
}

const known = new WeakMap<Library, readonly OutsideKey[]>();

/** Those of the rows that something outside refers to in a way that forbids their removal. */
export function keysHeldOutside(library: Library, model: Model, keys: readonly Key[]): Key[] {
  const held: Key[] = [];
  for (const { table, columns, parent, targets, holds } of outsideKeys(library)) {
    if (parent !== model || !holds) continue;
    const rows = library.sql.rows(
      `SELECT m.key FROM json_each(?) j CROSS JOIN ${rowsTable(model)} m ON m.key = j.value
       CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)}
       WHERE EXISTS (SELECT 1 FROM ${quoteName(table)} c WHERE ${refersTo({ columns, targets }, 't', 'c')})`,
      jsonKeys(keys),
    );
    for (const [key] of rows) held.push(key as Key);
  }
  return held;
}

export function outsideKeys(library: Library): readonly OutsideKey[] {
  let keys = known.get(library);
  if (keys === undefined) {
    keys = readOutsideKeys(library);
    known.set(library, keys);
  }
  return keys;
}

function readOutsideKeys(library: Library): OutsideKey[] {
  const { models } = library.registry;
  const rows = library.sql.rows(
    `SELECT l.name, k.id, k."table", k."from", k."to", k.on_delete
     FROM pragma_table_list l JOIN pragma_foreign_key_list(l.name, 'main') k
     WHERE l.schema = 'main' AND l.type = 'table' ORDER BY l.name, k.id, k.seq`,
  );
  const groups = new Map<string, typeof rows>();
  for (const row of rows)
    groups.set(`${String(row[1])} ${String(row[0])}`, [
      ...(groups.get(`${String(row[1])} ${String(row[0])}`) ?? []),
      row,
    ]);
  return [...groups.values()].flatMap((group) => {
    const [table, , named, , , action] = (group[0] ?? []).map(String);
    const parent = models.find((model) => foldName(model.table) === foldName(named ?? ''));
    if (table === undefined || parent === undefined) return [];
    const child = models.find((model) => model.table === table);
    const columns = group.map((row) => String(row[3]));
    const isLocal = columns.some(
      (name) => child?.columns.find((column) => column.name === name)?.role.kind === 'local',
    );
    if (child !== undefined && !isLocal) return [];
    const targets = group.map((row, i) => (row[4] === null ? (parent.key[i] ?? '') : String(row[4])));
    // SQLite carries these out by itself. Only a cascade that reaches a synced row must not happen unseen.
    const isCarriedOut =
      (action === 'SET NULL' && !hasNotNull(library, table, columns)) || (action === 'CASCADE' && child === undefined);
    return [{ table, columns, parent, targets, holds: !isCarriedOut }];
  });
}

function hasNotNull(library: Library, table: string, columns: readonly string[]): boolean {
  const rows = library.sql.rows(`SELECT name FROM pragma_table_info(?, 'main') WHERE "notnull" = 1`, table);
  return rows.some(([name]) => columns.includes(String(name)));
}
