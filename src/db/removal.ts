/**
 * Taking rows out of the tables together: referrers first, so that what ON DELETE clauses say (which would write rows without a
 * mark, or refuse) finds nothing to do. Nothing else refers to these rows.
 */
import { canBeNull } from './clauses.ts';
import type { Library } from './library.ts';
import type { ForeignKey, Model } from './model.ts';
import { orAbort, quoteName, rowByKey, rowsTable } from './model.ts';
import { forgetPending, hasPending } from './pending.ts';
import type { Key } from './sql.ts';
import { jsonKeys, unlessRefused } from './sql.ts';

/** A row that leaves the tables. */
export interface Leaving {
  readonly model: Model;
  /** Key in its map table. */
  readonly key: Key;
  readonly uuid: Uint8Array;
}

/** A reference from one row that may leave to another, both by {@link nodeId}. */
export interface Reference {
  readonly child: string;
  readonly parent: string;
  readonly foreignKey: ForeignKey;
}

/** Names a row among others, by the key in its map table. */
export function nodeId(model: Model, key: Key): string {
  return `${model.n}:${key}`;
}

/**
 * Removes rows and their mappings.
 * @param before - is called with rows of a table before they go
 */
export function removeAll<T extends Leaving>(
  library: Library,
  rows: ReadonlyMap<string, T>,
  references: readonly Reference[],
  before: (model: Model, rows: readonly T[]) => void = () => undefined,
): void {
  const remove = (nodes: readonly string[]): void => {
    for (const [model, own] of byModel(nodes.map((node) => rows.get(node) as T))) removeRows(library, model, own);
  };
  const [generations, rings] = inOrder([...rows.keys()], references);
  for (const nodes of generations) {
    for (const [model, own] of byModel(nodes.map((node) => rows.get(node) as T))) before(model, own);
    remove(nodes);
  }
  if (rings.length === 0) return;
  for (const [model, own] of byModel(rings.map((node) => rows.get(node) as T))) before(model, own);
  const within = new Set(rings);
  const held = references.filter(({ child, parent }) => within.has(child) && within.has(parent));
  const left = held.filter(({ child, foreignKey }) => !letGo(library, rows.get(child) as T, foreignKey));
  const [opened, closed] = inOrder(rings, left);
  for (const nodes of [...opened, closed]) remove(nodes);
}

/** Leaves first. What is left in the end is rings and what they refer to. */
function inOrder(nodes: readonly string[], references: readonly Reference[]): [string[][], string[]] {
  const going = new Set(nodes);
  const holders = new Map<string, Set<string>>();
  const held = new Map<string, Set<string>>();
  for (const { child, parent } of references) {
    if (child === parent || !going.has(child) || !going.has(parent)) continue;
    holders.set(parent, (holders.get(parent) ?? new Set()).add(child));
    held.set(child, (held.get(child) ?? new Set()).add(parent));
  }
  const result: string[][] = [];
  let generation = nodes.filter((node) => !holders.has(node));
  while (generation.length > 0) {
    result.push(generation);
    const next: string[] = [];
    for (const node of generation) {
      going.delete(node);
      for (const parent of held.get(node) ?? []) {
        const left = holders.get(parent) as Set<string>;
        left.delete(node);
        if (left.size === 0) next.push(parent);
      }
    }
    generation = next;
  }
  return [result, [...going]];
}

/** Lets a row that is about to leave refer to nothing, or else to itself. Answers false where it can do neither. */
function letGo(library: Library, { model, key }: Leaving, { columns, table, targets }: ForeignKey): boolean {
  const column = columns.find((name) => canBeNull(model, [name]));
  const isFree = column !== undefined || (table === model.table && !columns.some((name) => model.key.includes(name)));
  if (!isFree) return false;
  const set =
    column === undefined
      ? columns.map((name, i) => `${quoteName(name)} = ${quoteName(targets[i] ?? '')}`).join(', ')
      : `${quoteName(column)} = NULL`;
  return unlessRefused(() =>
    library.sql.run(`UPDATE ${orAbort(model)}${quoteName(model.table)} SET ${set} WHERE ${rowByKey(model)}`, key),
  );
}

function removeRows(library: Library, model: Model, rows: readonly Leaving[]): void {
  const keys = jsonKeys(rows.map((row) => row.key));
  const table = quoteName(model.table);
  if (model.rowid === null)
    for (const { key } of rows) library.sql.run(`DELETE FROM ${table} WHERE ${rowByKey(model)}`, key);
  else
    library.sql.run(`DELETE FROM ${table} WHERE ${quoteName(model.rowid)} IN (SELECT value FROM json_each(?))`, keys);
  library.sql.run(`DELETE FROM ${rowsTable(model)} WHERE key IN (SELECT value FROM json_each(?))`, keys);
  if (hasPending(library)) for (const row of rows) forgetPending(library, row.uuid);
}

/** Rows by their tables. */
export function byModel<T extends { readonly model: Model }>(rows: readonly T[]): Map<Model, T[]> {
  const groups = new Map<Model, T[]>();
  for (const row of rows) {
    const own = groups.get(row.model);
    if (own === undefined) groups.set(row.model, [row]);
    else own.push(row);
  }
  return groups;
}
