/**
 * Which rows stand in the way of versions that wait for a unique value. It is remembered in memory only: as long as those rows
 * have not changed, nobody needs to try the versions again, and ten thousand collisions cost a page of news nothing.
 */
import type { Incoming } from './incoming.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { mapJoin, quoteName, rowsTable } from './model.ts';
import type { UniqueIndex } from './indexes.ts';
import type { PendingKey } from './pending.ts';
import type { RowWriter } from './rows.ts';
import { takenColumns } from './incoming.ts';
import type { Key } from './sql.ts';
import { jsonKeys } from './sql.ts';

interface Blocker {
  readonly model: Model;
  readonly key: Key;
  readonly lsn: number;
}

const known = new WeakMap<Library, Map<string, Blocker>>();

function blockers(library: Library): Map<string, Blocker> {
  let map = known.get(library);
  if (map === undefined) {
    map = new Map();
    known.set(library, map);
  }
  return map;
}

/** Remembers what stands in the way of a version that is being set aside, if an index of plain columns tells. */
export function noteBlocker(library: Library, row: Incoming, rows: RowWriter, pending: PendingKey): void {
  const { model } = row;
  const map = blockers(library);
  map.delete(nameOf(pending));
  const synced = new Set(takenColumns(row).map((column) => column.name));
  for (const unique of model.uniques as readonly UniqueIndex[]) {
    // Of a row that is written in some columns, the others are not known here.
    const columns = unique.columns.filter((name) => name !== null && synced.has(name)) as string[];
    if (unique.partial || columns.length !== unique.columns.length) continue;
    const values = rows.valuesOf(row, columns);
    const where = columns
      .map((name, i) => `t.${quoteName(name)} = ? COLLATE ${quoteName(unique.collations[i] ?? 'BINARY')}`)
      .join(' AND ');
    const found = library.sql.rows(
      `SELECT m.key, m.lsn FROM ${quoteName(model.table)} t CROSS JOIN ${rowsTable(model)} m ON ${mapJoin(model)} WHERE ${where} AND m.uuid <> ?`,
      ...values,
      Buffer.from(pending.uuid),
    )[0];
    if (found === undefined) continue;
    map.set(nameOf(pending), { model, key: found[0] as Key, lsn: Number(found[1]) });
    return;
  }
}

/** Those of the versions that are worth another try: their blocker has changed or gone, is about to, or is not known. */
export function withoutStandingBlockers<T extends PendingKey>(library: Library, waiting: readonly T[]): T[] {
  const map = blockers(library);
  const keys = new Map<Model, Set<Key>>();
  for (const version of waiting) {
    const blocker = map.get(nameOf(version));
    if (blocker === undefined) continue;
    const own = keys.get(blocker.model) ?? new Set<Key>();
    keys.set(blocker.model, own.add(blocker.key));
  }
  const standing = new Map<Model, Map<Key, number>>();
  for (const [model, own] of keys) {
    const rows = library.sql.rows(
      `SELECT m.key, m.lsn FROM json_each(?) j CROSS JOIN ${rowsTable(model)} m ON m.key = j.value
       WHERE NOT EXISTS (SELECT 1 FROM flotilla_pending p WHERE p.uuid = m.uuid)`,
      jsonKeys(own),
    );
    standing.set(model, new Map(rows.map(([key, lsn]) => [key as Key, Number(lsn)])));
  }
  return waiting.filter((version) => {
    const blocker = map.get(nameOf(version));
    const isStanding = blocker !== undefined && standing.get(blocker.model)?.get(blocker.key) === blocker.lsn;
    if (!isStanding) map.delete(nameOf(version));
    return !isStanding;
  });
}

function nameOf({ uuid, hlc, run }: PendingKey): string {
  return `${Buffer.from(uuid).toString('latin1')}${hlc}@${run}`;
}
