/**
 * Unique indexes: which rows a new row would push out. The pragmas tell columns and collations; the text of an
 * expression and of a partial index's WHERE stands only in the CREATE INDEX statement, which is cut apart here.
 */
import type { Database } from 'better-sqlite3';
import type { Model } from './model.ts';
import { quoteName } from './model.ts';

/** A unique index with all that is needed to find the row that holds given values in it. */
export type UniqueIndex = Model['uniques'][number] & {
  /** Collation of each term. */
  readonly collations: readonly string[];
  /** SQL text of each term that is an expression, null where it is a column. */
  readonly expressions: ReadonlyArray<string | null>;
  /** SQL text of the condition of a partial index, or null. */
  readonly where: string | null;
};

/** Unique indexes of a table other than its primary key, by name. */
export function readUniques(db: Database, table: string): UniqueIndex[] {
  return indexList(db, table)
    .filter((index) => index.unique === 1 && index.origin !== 'pk')
    .map((index) => readIndex(db, index))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** The index of a primary key, or null when the key is the rowid itself (an INTEGER PRIMARY KEY). */
export function readKeyIndex(db: Database, table: string): UniqueIndex | null {
  const index = indexList(db, table).find((candidate) => candidate.origin === 'pk');
  return index === undefined ? null : readIndex(db, index);
}

/** The terms of a CREATE INDEX statement without ASC and DESC, and its condition. */
export function splitIndexSql(sql: string): { terms: string[]; where: string | null } {
  const text = withoutComments(sql);
  const terms: string[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at < text.length; at = tokenEnd(text, at)) {
    const char = text[at];
    if (char === '(' && ++depth === 1) start = at + 1;
    const closes = char === ')' && --depth === 0;
    if (!closes && !(char === ',' && depth === 1)) continue;
    terms.push(
      text
        .slice(start, at)
        .trim()
        .replace(/\s+(?:ASC|DESC)$/i, ''),
    );
    start = at + 1;
    if (closes) break;
  }
  const condition = /^\s*WHERE\b([\s\S]*)$/i.exec(text.slice(start));
  return { terms, where: condition?.[1]?.trim() ?? null };
}

/** Whether rows are found by these columns, in any order, without reading the table. */
export function isIndexed(db: Database, table: string, columns: readonly string[], rowid: string | null): boolean {
  if (columns.length === 1 && columns[0] === rowid) return true;
  return indexList(db, table).some((row) => {
    if (row.partial === 1) return false;
    const first = readIndex(db, row).columns.slice(0, columns.length);
    return first.length === columns.length && first.every((name) => name !== null && columns.includes(name));
  });
}

interface IndexRow {
  readonly name: string;
  readonly unique: number;
  readonly origin: string;
  readonly partial: number;
}

function indexList(db: Database, table: string): IndexRow[] {
  const sql = `SELECT name, "unique", origin, partial FROM pragma_index_list(?, 'main')`;
  return db.prepare(sql).safeIntegers(false).all(table) as IndexRow[];
}

function readIndex(db: Database, index: IndexRow): UniqueIndex {
  const terms = db
    .prepare(`SELECT cid, name, coll FROM pragma_index_xinfo(?, 'main') WHERE key = 1 ORDER BY seqno`)
    .safeIntegers(false)
    .all(index.name) as Array<{ cid: number; name: string | null; coll: string }>;
  const sql = db
    .prepare(`SELECT sql FROM main.sqlite_schema WHERE type = 'index' AND name = ?`)
    .pluck()
    .get(index.name);
  const split = typeof sql === 'string' ? splitIndexSql(sql) : { terms: [], where: null };
  return {
    name: index.name,
    columns: terms.map((term) => term.name),
    partial: index.partial === 1,
    collations: terms.map((term) => term.coll),
    expressions: terms.map((term, position) => (term.name === null ? (split.terms[position] ?? null) : null)),
    where: split.where,
  };
}

/**
 * SQL: what a term of an index, or its condition, is for a row that is only given as values. Its text names bare columns, so
 * the row is given to it as a table of one row.
 * @param values - SQL of the value of each column that the text may name
 */
export function termOf(text: string, table: string, values: ReadonlyMap<string, string>): string {
  const row = [...values].map(([name, sql]) => `${sql} AS ${quoteName(inSubquery(name))}`).join(', ');
  const names = new Set([...values.keys()].map((name) => name.toLowerCase()));
  const named = text.replaceAll(NAMES, (token) => {
    const name = token.replaceAll(/^["`[]|["`\]]$/g, '');
    return names.has(name.toLowerCase()) && inSubquery(name) !== name ? quoteName(inSubquery(name)) : token;
  });
  return `(SELECT ${named} FROM (SELECT ${row}) AS ${quoteName(table)})`;
}

/** Strings and names, quoted or not. */
const NAMES = /'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[\p{L}_$][\p{L}\p{N}_$]*/gu;

/** SQLite takes the names true and false for no names of a subquery's columns. */
function inSubquery(name: string): string {
  return /^(?:true|false)$/i.test(name) ? `flotilla_${name.toLowerCase()}` : name;
}

/** Where the token that begins at `at` ends: a quoted token counts as one, everything else is a character. */
export function tokenEnd(text: string, at: number): number {
  const open = text[at];
  if (open !== "'" && open !== '"' && open !== '`' && open !== '[') return at + 1;
  const close = text.indexOf(open === '[' ? ']' : open, at + 1);
  // A doubled quote ends one token and begins the next at once, which comes to the same.
  return close === -1 ? text.length : close + 1;
}

function withoutComments(sql: string): string {
  let result = '';
  let at = 0;
  while (at < sql.length) {
    const line = sql.startsWith('--', at);
    if (line || sql.startsWith('/*', at)) {
      const end = sql.indexOf(line ? '\n' : '*/', at + 2);
      at = end === -1 ? sql.length : end + (line ? 1 : 2);
      result += ' ';
      continue;
    }
    const end = tokenEnd(sql, at);
    result += sql.slice(at, end);
    at = end;
  }
  return result;
}
