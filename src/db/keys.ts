/**
 * By which columns the rows of a table are told apart on this device: its primary key, or, in a table without one, columns
 * that are NOT NULL and UNIQUE and that the configuration declares as its identity. A hidden rowid will not do: VACUUM may
 * number rows anew, and nothing would tell.
 */
import type { Database } from 'better-sqlite3';
import { FlotillaError } from '../errors.ts';
import { CONFIG_FILE } from './config.ts';
import { readKeyIndex } from './indexes.ts';
import type { UniqueIndex } from './indexes.ts';

/** The key of a table. */
export interface TableKey {
  /** Columns in key order. */
  readonly columns: readonly string[];
  /** Collation of each, as the key's index has it. */
  readonly collations: readonly string[];
  /** The INTEGER PRIMARY KEY that is the rowid, or null. */
  readonly rowid: string | null;
  /** Name of the unique index that makes the key, where it is no primary key. */
  readonly index: string | null;
}

interface KeyColumn {
  readonly name: string;
  readonly pk: number;
  readonly notnull: number;
  readonly hidden: number;
}

/** Reads a table's key. `identity` is what the configuration declares. @throws FlotillaError NO_PRIMARY_KEY */
export function readKey(
  db: Database,
  table: string,
  columns: readonly KeyColumn[],
  uniques: readonly UniqueIndex[],
  identity: readonly string[] | undefined,
): TableKey {
  const first = columns.find((column) => column.pk === 1);
  if (first === undefined) return keyWithoutPrimary(table, columns, uniques, identity);
  // Whether INTEGER PRIMARY KEY is the rowid depends on how it was written ("DESC" on the column makes it none), but
  // only a key that is not the rowid has an index.
  const index = readKeyIndex(db, table);
  if (index === null) return { columns: [first.name], collations: ['BINARY'], rowid: first.name, index: null };
  return {
    columns: index.columns.filter((column) => column !== null),
    collations: index.collations,
    rowid: null,
    index: null,
  };
}

function keyWithoutPrimary(
  table: string,
  columns: readonly KeyColumn[],
  uniques: readonly UniqueIndex[],
  identity: readonly string[] | undefined,
): TableKey {
  const index = uniques.find((unique) => !unique.partial && unique.columns.every((name) => isFirm(columns, name)));
  const isDeclared = (unique: UniqueIndex): boolean =>
    identity?.length === unique.columns.length && unique.columns.every((name) => identity.includes(name ?? ''));
  const declared = uniques.find(
    (unique) => isDeclared(unique) && !unique.partial && unique.columns.every((name) => isFirm(columns, name)),
  );
  if (declared !== undefined) {
    const names = declared.columns.filter((column) => column !== null);
    return { columns: names, collations: declared.collations, rowid: null, index: declared.name };
  }
  const named =
    index === undefined
      ? 'columns that are NOT NULL and UNIQUE, if it gets such'
      : `(${index.columns.join(', ')}), which are NOT NULL and UNIQUE`;
  throw new FlotillaError(
    'NO_PRIMARY_KEY',
    `The table "${table}" has no primary key, so its rows cannot be told apart. Rebuild it with a primary key, declare as its ` +
      `"identity" in ${CONFIG_FILE} ${named}, or set "sync": false for it there.`,
  );
}

function isFirm(columns: readonly KeyColumn[], name: string | null): boolean {
  const column = columns.find((candidate) => candidate.name === name);
  return column !== undefined && column.notnull === 1 && column.hidden === 0;
}
