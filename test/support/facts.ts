/**
 * What a test reads of a schema by itself, without the registry that it tests: tables, columns, foreign keys, unique indexes.
 */
import type { Database } from 'better-sqlite3';

export interface ColumnFacts {
  readonly name: string;
  readonly type: string;
  readonly notNull: boolean;
  readonly hasDefault: boolean;
  readonly isGenerated: boolean;
}

export interface ReferenceFacts {
  readonly columns: readonly string[];
  readonly table: string;
  readonly targets: readonly string[];
  readonly onDelete: string;
}

export interface TableFacts {
  readonly name: string;
  readonly columns: readonly ColumnFacts[];
  readonly key: readonly string[];
  /** Whether its rows have a rowid. */
  readonly hasRowid: boolean;
  /** The INTEGER PRIMARY KEY column. */
  readonly rowid: string | null;
  readonly references: readonly ReferenceFacts[];
  /** Whether the program keeps something by triggers. REPLACE does not fire those of the rows that it evicts. */
  readonly hasTriggers: boolean;
  /** Sets of columns over which rows are unique, the key included; for expressions all columns that they name. */
  readonly uniques: ReadonlyArray<readonly string[]>;
}

export type Facts = ReadonlyMap<string, TableFacts>;

export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

const same = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();

/** Facts of the user's ordinary tables, without those named in `without`. */
export function readFacts(db: Database, without: readonly string[] = []): Facts {
  const names = db
    .prepare(
      `SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
       AND name NOT GLOB 'sqlite_*' AND name NOT GLOB 'flotilla_*' ORDER BY name`,
    )
    .pluck()
    .all() as string[];
  const tables = names.filter((name) => !without.some((other) => same(name, other)));
  return new Map(tables.map((name) => [name, readTable(db, name, tables)]));
}

function readTable(db: Database, table: string, tables: readonly string[]): TableFacts {
  const raw = db
    .prepare('SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)')
    .all(table) as {
    name: string;
    type: string;
    notnull: number;
    dflt_value: string | null;
    pk: number;
    hidden: number;
  }[];
  const key = raw
    .filter(({ pk }) => pk > 0)
    .toSorted((a, b) => a.pk - b.pk)
    .map(({ name }) => name);
  const indexes = db.prepare('SELECT name, "unique", origin FROM pragma_index_list(?)').all(table) as {
    name: string;
    unique: number;
    origin: string;
  }[];
  // An INTEGER PRIMARY KEY is the rowid and has no index.
  const rowid = key.length === 1 && !indexes.some(({ origin }) => origin === 'pk') ? (key[0] ?? null) : null;
  const columns = raw.map(({ name, type, notnull, dflt_value: text, hidden }) => ({
    name,
    type: type.toUpperCase(),
    notNull: notnull === 1,
    hasDefault: text !== null,
    isGenerated: hidden !== 0,
  }));
  const uniques = indexes
    .filter(({ unique }) => unique === 1)
    .map(({ name }) => {
      const terms = db.prepare('SELECT name FROM pragma_index_xinfo(?) WHERE key = 1').pluck().all(name) as (
        | string
        | null
      )[];
      if (!terms.includes(null)) return terms as string[];
      const sql = String(db.prepare('SELECT sql FROM sqlite_schema WHERE name = ?').pluck().get(name));
      const text = sql.slice(sql.indexOf('('));
      return columns.map((column) => column.name).filter((column) => new RegExp(`\\b${column}\\b`, 'i').test(text));
    });
  const primaryKeys = (parent: string): string[] =>
    db.prepare('SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk').pluck().all(parent) as string[];
  const links = db
    .prepare('SELECT id, "table", "from", "to", on_delete FROM pragma_foreign_key_list(?) ORDER BY id, seq')
    .all(table) as { id: number; table: string; from: string; to: string | null; on_delete: string }[];
  const references = [...new Set(links.map(({ id }) => id))].map((id) => {
    const own = links.filter((link) => link.id === id);
    const parent = tables.find((name) => same(name, own[0]?.table ?? '')) ?? own[0]?.table ?? '';
    const targets = own.map(({ to }) => to);
    return {
      columns: own.map(({ from }) => from),
      table: parent,
      targets: targets.includes(null) ? primaryKeys(parent) : (targets as string[]),
      onDelete: own[0]?.on_delete ?? '',
    };
  });
  const hasTriggers =
    db
      .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? AND name NOT GLOB 'flotilla_*'")
      .get(table) !== undefined;
  const hasRowid =
    db.prepare("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?").pluck().get(table) === 0;
  return { name: table, columns, key, hasRowid, rowid, references, hasTriggers, uniques };
}

/**
 * True when a column holds an integer id that every device assigns anew: the INTEGER PRIMARY KEY, or a reference to such a
 * column, over any number of steps.
 */
export function isLocalId(facts: Facts, table: string, column: string, seen: ReadonlySet<string> = new Set()): boolean {
  const own = facts.get(table);
  const place = `${table}.${column}`;
  if (own === undefined || seen.has(place)) return false;
  if (own.rowid !== null && same(own.rowid, column)) return true;
  return own.references.some(({ columns, targets, table: parent }) => {
    const at = columns.findIndex((name) => same(name, column));
    return at !== -1 && isLocalId(facts, parent, targets[at] ?? '', new Set([...seen, place]));
  });
}
