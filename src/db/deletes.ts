/**
 * Carrying out deletes that came from elsewhere: children before parents, so that SQLite's own cascades (which would
 * remove rows without a mark while capture is suspended) find nothing left to do. A row that something here still refers
 * to stays, and its delete waits for the end of a complete pass.
 */
import type { Library } from './library.ts';
import type { ForeignKey, Model } from './model.ts';
import { mapJoin, quoteName, rowsTable } from './model.ts';
import { forgetPending, hasPending, putPending } from './pending.ts';
import type { Key } from './sql.ts';
import { jsonKeys } from './sql.ts';

/** A row that a tombstone wants gone. */
export interface Doomed {
  readonly model: Model;
  /** Key in its map table. */
  readonly key: Key;
  readonly uuid: Uint8Array;
  readonly birthHlc: number;
  readonly birthRun: number;
  readonly hlc: number;
  readonly run: number;
}

/** A row that refers to another. Keys are those of the map tables. */
export interface Referrer {
  readonly model: Model;
  readonly foreignKey: ForeignKey;
  readonly key: Key;
  readonly parentKey: Key;
  readonly uuid: Uint8Array;
  readonly birthHlc: number;
  readonly birthRun: number;
  readonly hlc: number;
  readonly run: number;
}

/** Removes those rows that nothing outside of the list refers to; sets the others aside. Returns how many went. */
export function carryOutDeletes(library: Library, doomed: readonly Doomed[], holdAll = false): number {
  if (doomed.length === 0) return 0;
  const nodes = new Map(doomed.map((row) => [nodeId(row.model, row.key), row]));
  const referrers = new Map<string, string[]>();
  const references = new Map<string, Set<string>>();
  const stays = new Set<string>(holdAll ? nodes.keys() : []);
  for (const [model, rows] of byModel(doomed)) {
    for (const referrer of referrersOf(library, model, rows.map((row) => row.key))) {
      const child = nodeId(referrer.model, referrer.key);
      const parent = nodeId(model, referrer.parentKey);
      if (child === parent) continue;
      if (!nodes.has(child)) stays.add(parent);
      referrers.set(parent, [...(referrers.get(parent) ?? []), child]);
      references.set(child, (references.get(child) ?? new Set<string>()).add(parent));
    }
  }
  // What stays keeps what it refers to.
  const queue = [...stays];
  for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
    for (const parent of references.get(node) ?? []) {
      if (stays.has(parent)) continue;
      stays.add(parent);
      queue.push(parent);
    }
  }
  const going = [...nodes.keys()].filter((node) => !stays.has(node));
  for (const generation of generations(going, referrers)) {
    for (const [model, rows] of byModel(generation.map((node) => nodes.get(node) as Doomed))) removeRows(library, model, rows);
  }
  for (const node of stays) holdDelete(library, nodes.get(node) as Doomed);
  return going.length;
}

/** Leaves first. What is left in the end is cycles, which go together. */
function generations(nodes: readonly string[], referrers: ReadonlyMap<string, readonly string[]>): string[][] {
  const result: string[][] = [];
  const left = new Set(nodes);
  while (left.size > 0) {
    const leaves = [...left].filter((node) => !(referrers.get(node) ?? []).some((child) => left.has(child)));
    const generation = leaves.length > 0 ? leaves : [...left];
    result.push(generation);
    for (const node of generation) left.delete(node);
  }
  return result;
}

/** Removes rows and their mappings; nothing refers to them. */
export function removeRows(library: Library, model: Model, rows: ReadonlyArray<Pick<Doomed, 'key' | 'uuid'>>): void {
  const keys = jsonKeys(rows.map((row) => row.key));
  const table = quoteName(model.table);
  if (model.rowid === null) {
    library.sql.run(
      `DELETE FROM ${table} WHERE rowid IN (
         SELECT t.rowid FROM json_each(?) j CROSS JOIN ${rowsTable(model)} m ON m.key = j.value CROSS JOIN ${table} t ON ${mapJoin(model)})`,
      keys,
    );
  } else {
    library.sql.run(`DELETE FROM ${table} WHERE ${quoteName(model.rowid)} IN (SELECT value FROM json_each(?))`, keys);
  }
  library.sql.run(`DELETE FROM ${rowsTable(model)} WHERE key IN (SELECT value FROM json_each(?))`, keys);
  if (hasPending(library)) for (const row of rows) forgetPending(library, row.uuid);
}

function holdDelete(library: Library, row: Doomed): void {
  putPending(library, {
    ...row,
    reason: 'referrers',
    detail: `It was deleted elsewhere, but rows here still refer to it.`,
    version: null,
    targets: [],
  });
}

/** Rows of synced tables that refer to any of `keys` of `model`. */
export function referrersOf(library: Library, model: Model, keys: readonly Key[]): Referrer[] {
  const referrers: Referrer[] = [];
  for (const child of library.registry.models) {
    for (const foreignKey of child.foreignKeys) {
      if (foreignKey.table !== model.table) continue;
      const rows = library.sql.rows(referrerQuery(child, foreignKey, model), jsonKeys(keys));
      for (const [key, parentKey, uuid, birthHlc, birthRun, hlc, run] of rows) {
        referrers.push({
          model: child,
          foreignKey,
          key: key as Key,
          parentKey: parentKey as Key,
          uuid: uuid as Uint8Array,
          birthHlc: Number(birthHlc),
          birthRun: Number(birthRun),
          hlc: Number(hlc),
          run: Number(run),
        });
      }
    }
  }
  return referrers;
}

function referrerQuery(child: Model, foreignKey: ForeignKey, parent: Model): string {
  const select = 'SELECT m.key, p.key, m.uuid, m.birth_hlc, m.birth_run, m.hlc, m.run';
  const childTable = `${quoteName(child.table)} t`;
  const childMap = `${rowsTable(child)} m ON ${mapJoin(child)}`;
  if (foreignKey.simple) {
    return `${select} FROM (SELECT value AS key FROM json_each(?)) p
      CROSS JOIN ${childTable} ON t.${quoteName(foreignKey.columns[0] ?? '')} = p.key CROSS JOIN ${childMap}`;
  }
  const on = foreignKey.columns.map((column, i) => `t.${quoteName(column)} = pt.${quoteName(foreignKey.targets[i] ?? '')}`);
  return `${select} FROM (SELECT value AS key FROM json_each(?)) j
    CROSS JOIN ${rowsTable(parent)} p ON p.key = j.key
    CROSS JOIN ${quoteName(parent.table)} pt ON ${mapJoin(parent, 'pt', 'p')}
    CROSS JOIN ${childTable} ON ${on.join(' AND ')} CROSS JOIN ${childMap}`;
}

function nodeId(model: Model, key: Key): string {
  return `${model.n}:${key}`;
}

function byModel<T extends { readonly model: Model }>(rows: readonly T[]): Map<Model, T[]> {
  const groups = new Map<Model, T[]>();
  for (const row of rows) {
    const group = groups.get(row.model);
    if (group === undefined) groups.set(row.model, [row]);
    else group.push(row);
  }
  return groups;
}
