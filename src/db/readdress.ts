/**
 * Giving a row another id, with all that refers to it by that, on whatever terms, in tables that sync and in those that do not. It is the
 * same row as before, so there is nothing to stamp.
 */
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { orAbort, quoteName, rowsTable } from './model.ts';
import { outsideKeys } from './outside.ts';
import type { Key } from './sql.ts';
import { unlessRefused } from './sql.ts';

/**
 * Capture must be suspended and foreign keys deferred.
 * @returns the tables in which a row has another id now; null, and what was written is to be undone, where a constraint forbids it
 */
export function readdress(library: Library, model: Model, from: Key, to: Key): Model[] | null {
  const moved: Model[] = [];
  const done = new Set<string>();
  const give = (table: string, column: string): boolean => {
    const place = `${table}\n${column}`;
    if (done.has(place)) return true;
    done.add(place);
    // The row itself comes last, so that ON UPDATE finds nothing left to do.
    if (!referencesTo(library, table, column).every((child) => give(...child))) return false;
    const own = library.registry.byName.get(table);
    if (own?.rowid === column) moved.push(own);
    return write(library, table, column, from, to);
  };
  return give(model.table, model.rowid ?? '') ? moved : null;
}

/** Columns that refer to a column, with their tables. */
function referencesTo(library: Library, table: string, column: string): [string, string][] {
  const inside = library.registry.models.flatMap((child) =>
    child.foreignKeys.map((key) => ({ ...key, from: child.table, to: key.table })),
  );
  const outside = outsideKeys(library).map((key) => ({ ...key, from: key.table, to: key.parent.table }));
  return [...inside, ...outside].flatMap(({ from, to, columns, targets }) => {
    const name = to === table ? columns[targets.indexOf(column)] : undefined;
    return name === undefined ? [] : [[from, name] as [string, string]];
  });
}

function write(library: Library, table: string, column: string, from: Key, to: Key): boolean {
  const { sql, registry } = library;
  const model = registry.byName.get(table);
  const name = quoteName(column);
  const clause = model === undefined ? 'OR ABORT ' : orAbort(model);
  return unlessRefused(() => {
    sql.run(`UPDATE ${clause}${quoteName(table)} SET ${name} = ? WHERE ${name} = ?`, to, from);
    if (model === undefined) return;
    const place = model.rowid === null ? model.key.indexOf(column) + 1 : Number(column === model.rowid);
    if (place === 0) return;
    const key = model.rowid === null ? `k${place}` : 'key';
    sql.run(`UPDATE ${rowsTable(model)} SET ${key} = ? WHERE ${key} = ?`, to, from);
  });
}
