/**
 * Which self-references are trees, and where a row stands in one. Two moves made apart can make a ring (A under B here, B under A there):
 * every version of it is well, and no foreign key forbids it, but nothing that walks up or down the tree would end.
 */
import { bytesToHex } from '../protocol/uuid.ts';
import { badConfig } from './choose.ts';
import type { TableConfig } from './config.ts';
import { foldName } from './config.ts';
import type { Library } from './library.ts';
import type { ForeignKey, Identity, Model } from './model.ts';
import { mapJoin, quoteName, refersTo, rowsTable } from './model.ts';
import type { Key } from './sql.ts';
import { jsonKeys } from './sql.ts';

/** Names of columns that lead to what a row is part of or subject to. */
const UPWARD = /parent|manager|report|reply|superior|supervisor/i;

/**
 * The foreign keys of a table by which its rows form a tree: as configured, else those to the table itself that delete children with their
 * parent or have a name that says so.
 * @throws FlotillaError CONFIG for a column that is none
 */
export function treesOf(
  draft: { readonly table: string; readonly settings: TableConfig; readonly key: readonly string[] },
  foreignKeys: readonly ForeignKey[],
  identity: Identity,
): readonly ForeignKey[] {
  const { tree } = draft.settings;
  if (tree === false) return [];
  const named = identity.kind === 'derived' ? identity.columns : [];
  // A row that names itself by its parent becomes another row with another parent: nothing is moved.
  const movable = foreignKeys.filter(
    ({ table, columns }) =>
      table === draft.table && columns.every((name) => !draft.key.includes(name) && !named.includes(name)),
  );
  if (tree === undefined)
    return movable.filter(
      ({ columns, onDelete }) => onDelete === 'CASCADE' || columns.some((name) => UPWARD.test(name)),
    );
  return tree.map((name) => {
    const found = movable.find(({ columns }) => columns.some((column) => foldName(column) === foldName(name)));
    if (found !== undefined) return found;
    throw badConfig(
      `"tree" of the table "${draft.table}" names "${name}", which is no reference to a row of the same table that can be changed. Name one that is, or set it to false.`,
    );
  });
}

/** UUID of the row here that is above one that stands here; null for none. */
export function parentHere(library: Library, model: Model, tree: ForeignKey, uuid: Uint8Array): Uint8Array | null {
  const map = rowsTable(model);
  const table = quoteName(model.table);
  const parent = library.sql.value(
    `SELECT pm.uuid FROM ${map} m CROSS JOIN ${table} t ON ${mapJoin(model)}
       CROSS JOIN ${table} p ON ${refersTo(tree)} CROSS JOIN ${map} pm ON ${mapJoin(model, 'p', 'pm')}
     WHERE m.uuid = ?`,
    Buffer.from(uuid),
  );
  return parent instanceof Uint8Array ? parent : null;
}

/** Whether a row here is above another one in their tree. */
export function isAbove(
  library: Library,
  model: Model,
  tree: ForeignKey,
  { uuid }: { readonly uuid: Uint8Array },
  below: { readonly uuid: Uint8Array },
): boolean {
  const seen = new Set<string>();
  for (let at = parentHere(library, model, tree, below.uuid); at !== null;) {
    if (Buffer.compare(at, uuid) === 0) return true;
    const name = bytesToHex(at);
    if (seen.has(name)) return false;
    seen.add(name);
    at = parentHere(library, model, tree, at);
  }
  return false;
}

/** Those of some rows here, by their keys, that are above themselves, each with the keys of its ring. A row that refers to itself is a root. */
export function ringsOf(library: Library, model: Model, tree: ForeignKey, keys: readonly Key[]): Map<Key, Set<Key>> {
  const map = rowsTable(model);
  const table = quoteName(model.table);
  const step = (from: string): string =>
    tree.simple
      ? `SELECT u.start, t.${quoteName(tree.columns[0] ?? '')} FROM ${from} u
           CROSS JOIN ${table} t ON t.${quoteName(model.rowid ?? '')} = u.at WHERE t.${quoteName(tree.columns[0] ?? '')} IS NOT NULL`
      : `SELECT u.start, pm.key FROM ${from} u CROSS JOIN ${map} m ON m.key = u.at CROSS JOIN ${table} t ON ${mapJoin(model)}
           CROSS JOIN ${table} p ON ${refersTo(tree)} CROSS JOIN ${map} pm ON ${mapJoin(model, 'p', 'pm')}`;
  // UNION ends at what it has been through.
  const reached = library.sql.rows(
    `WITH RECURSIVE first (start, at) AS (SELECT value, value FROM json_each(?)),
       up (start, at) AS (${step('first')} UNION ${step('up')})
     SELECT start, at FROM up`,
    jsonKeys(keys),
  );
  const above = new Map<Key, Set<Key>>();
  for (const [start, at] of reached) {
    const ring = above.get(start as Key) ?? new Set<Key>();
    above.set(start as Key, ring.add(at as Key));
  }
  // What is reached from a row that is reached from itself is its ring.
  return new Map([...above].filter(([start, ring]) => ring.has(start) && ring.size > 1));
}

/** Whether any row here is above itself. In one walk over all of them, whatever the tree is like. */
export function hasRing(library: Library, model: Model, tree: ForeignKey): boolean {
  const table = quoteName(model.table);
  const column = quoteName(tree.columns[0] ?? '');
  const rowid = quoteName(model.rowid ?? '');
  // In a ring of ids one must be in a greater one.
  if (tree.simple && library.sql.value(`SELECT 1 FROM ${table} WHERE ${column} > ${rowid} LIMIT 1`) === undefined)
    return false;
  const map = rowsTable(model);
  const text = tree.simple
    ? `SELECT ${rowid}, ${column} FROM ${table} WHERE ${column} IS NOT NULL ORDER BY 1`
    : `SELECT m.key, pm.key FROM ${map} m CROSS JOIN ${table} t ON ${mapJoin(model)}
         CROSS JOIN ${table} p ON ${refersTo(tree)} CROSS JOIN ${map} pm ON ${mapJoin(model, 'p', 'pm')} ORDER BY 1`;
  const keys: number[] = [];
  const parents: number[] = [];
  for (const row of library.db.prepare(text).raw().iterate() as Iterable<[number, number]>) {
    if (row[0] === row[1]) continue;
    keys.push(row[0]);
    parents.push(row[1]);
  }
  /** The walk by which a row was reached first; 0 for none yet. */
  const walks = new Uint32Array(keys.length);
  for (let start = 0; start < keys.length; start += 1) {
    for (let at = start; at >= 0; at = placeOf(keys, parents[at] ?? 0)) {
      if (walks[at] === start + 1) return true;
      if (walks[at] !== 0) break;
      walks[at] = start + 1;
    }
  }
  return false;
}

/** Where a key stands among ascending ones; −1 if it does not. */
function placeOf(keys: readonly number[], key: number): number {
  let [low, high] = [0, keys.length - 1];
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const found = keys[middle] ?? 0;
    if (found === key) return middle;
    if (found < key) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
