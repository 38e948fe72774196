/**
 * Small helpers around better-sqlite3: statements prepared once per text, and rows read with exact integers.
 */
import type { Database, Statement } from 'better-sqlite3';

import { TextBytes, textOf } from '../protocol/text-bytes.ts';
import type { SqlValue } from '../protocol/types.ts';
import { tokenEnd } from './indexes.ts';

/** A row as an array, in the order of the columns. */
export type RawRow = SqlValue[];
/** A local key: the INTEGER PRIMARY KEY or the surrogate of a map row; a bigint only beyond ±(2^53−1). */
export type Key = number | bigint;

/** Less than any, the smallest integer included. */
export const BEFORE_ALL_KEYS: Key = -Infinity;

/** Prepared statements by their text. One per connection. */
export class Statements {
  readonly #db: Database;
  readonly #cache = new Map<string, Statement<unknown[]>>();

  constructor(db: Database) {
    this.#db = db;
  }

  get(sql: string): Statement<unknown[]> {
    let statement = this.#cache.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare<unknown[]>(sql);
      this.#cache.set(sql, statement);
    }
    return statement;
  }

  /** Returns how many rows the statement itself wrote. */
  run(sql: string, ...params: unknown[]): number {
    if (params.some(isTextBytes)) return prepareForBytes(this.#db, sql, params).run(...params.map(asBound)).changes;
    return this.get(sql).run(...params).changes;
  }

  /** The first column of the first row. */
  value(sql: string, ...params: unknown[]): SqlValue | undefined {
    const row = this.rows(sql, ...params)[0];
    return row?.[0];
  }

  /** A count or another integer that is known to be small. */
  number(sql: string, ...params: unknown[]): number {
    return Number(this.value(sql, ...params) ?? 0);
  }

  /**
   * Rows as arrays, integers exact. Reading every integer as a BigInt is several times slower, so it is done only when a
   * number of 2^53 or more shows that plain reading would have rounded (rounding keeps the magnitude, so it does show).
   */
  rows(sql: string, ...params: unknown[]): RawRow[] {
    return readExact(this.get(sql), params);
  }
}

/** Reads rows exactly; see {@link Statements.rows}. */
export function readExact(statement: Statement<unknown[]>, params: readonly unknown[]): RawRow[] {
  const rows = read(statement, params, false);
  return rows.some(hasUnsafe) ? read(statement, params, true).map((row) => row.map(narrow)) : rows;
}

/** Reads rows with every INTEGER as a bigint, so that 5 and 5.0 differ. */
export function readBig(statement: Statement<unknown[]>, params: readonly unknown[]): RawRow[] {
  return read(statement, params, true);
}

function read(statement: Statement<unknown[]>, params: readonly unknown[], big: boolean): RawRow[] {
  const { database, source } = statement;
  const asked = params.some(isTextBytes) ? prepareForBytes(database, source, params) : statement;
  const bound = params.map(asBound);
  asked.safeIntegers(big);
  let rows: RawRow[];
  try {
    rows = asked.raw().all(...bound) as RawRow[];
  } finally {
    asked.safeIntegers(false);
  }
  if (asked.readonly && rows.some(hasReplacement)) restoreTexts(asked, bound, rows);
  return rows;
}

function hasUnsafe(row: RawRow): boolean {
  for (let i = 0; i < row.length; i += 1) {
    const value = row[i];
    if (typeof value === 'number' && (value > Number.MAX_SAFE_INTEGER || value < -Number.MAX_SAFE_INTEGER)) return true;
  }
  return false;
}

// ---- text that is no UTF-8

/** What SQLite's text becomes in a string wherever it is not valid UTF-8. */
const REPLACEMENT = '\u{FFFD}';

function hasReplacement(row: RawRow): boolean {
  for (let i = 0; i < row.length; i += 1) {
    const value = row[i];
    if (typeof value === 'string' && value.includes(REPLACEMENT)) return true;
  }
  return false;
}

/**
 * Reads the texts in which a character was replaced once more, as bytes: those that are no UTF-8 become {@link TextBytes}, and
 * those in which somebody has really written U+FFFD stay. Pages without such a text, nearly all, are only looked through.
 */
function restoreTexts(statement: Statement<unknown[]>, params: readonly unknown[], rows: RawRow[]): void {
  const width = rows[0]?.length ?? 0;
  const columns = Array.from({ length: width }, (_, i) => `c${i}`);
  const bytes = columns.map((name) => `CASE typeof(${name}) WHEN 'text' THEN CAST(${name} AS BLOB) END`);
  const again = statement.database
    .prepare<unknown[]>(
      `WITH q (${columns.join(', ')}) AS MATERIALIZED (${statement.source}) SELECT ${bytes.join(', ')} FROM q`,
    )
    .raw()
    .all(...params) as (Buffer | null)[][];
  rows.forEach((row, position) => {
    row.forEach((value, i) => {
      const found = again[position]?.[i] ?? null;
      // A text that has changed in between (where nothing holds a snapshot) stays as it was read.
      if (typeof value === 'string' && found !== null && found.toString('utf8') === value) row[i] = textOf(found);
    });
  });
}

function isTextBytes(value: unknown): value is TextBytes {
  return value instanceof TextBytes;
}

function asBound(value: unknown): unknown {
  return isTextBytes(value) ? Buffer.from(value.bytes) : value;
}

/**
 * The statement with a cast at each parameter that is text as bytes, which can only be bound as a blob. Not kept: such values
 * are rare and stand anywhere. The plus keeps the cast's affinity out of comparisons, as a bound text has none.
 */
function prepareForBytes(db: Database, sql: string, params: readonly unknown[]): Statement<unknown[]> {
  let text = '';
  let index = 0;
  for (let at = 0; at < sql.length;) {
    const end = tokenEnd(sql, at);
    const token = sql.slice(at, end);
    if (token === '?') text += isTextBytes(params[index++]) ? '+CAST(? AS TEXT)' : '?';
    else text += token;
    at = end;
  }
  return db.prepare<unknown[]>(text);
}

/** A bigint as a number where that is exact. */
export function narrow(value: SqlValue): SqlValue {
  if (typeof value !== 'bigint') return value;
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}

/** Keys as a JSON array for `json_each(?)`: one statement for any number of them. */
export function jsonKeys(keys: Iterable<Key>): string {
  return `[${[...keys].join(',')}]`;
}

let counting = '[0';
const countingEnds: number[] = [2];

/** `[0,1,…,n−1]` as JSON, for `json_each(?)` over the pieces of one blob. Grown once, cut afterwards. */
export function jsonCount(n: number): string {
  if (n === 0) return '[]';
  while (countingEnds.length < n) {
    counting += `,${countingEnds.length}`;
    countingEnds.push(counting.length);
  }
  return `${counting.slice(0, countingEnds[n - 1])}]`;
}

/** Rows in a list of VALUES: an INSERT has 1.2 to 1.5 times the speed of one row a statement; more gains nothing. */
const CHUNK_ROWS = 100;
/** SQLite's limit on parameters in one statement (SQLITE_MAX_VARIABLE_NUMBER). */
const MAX_PARAMETERS = 32_766;

/**
 * Runs `INSERT INTO … VALUES` for many rows with few statements. `fill(i)` gives the parameters of row i. When a statement
 * fails, `onFailure` is asked with the rows that it held (none of them is in the table then); without it the error is thrown.
 */
export function insertMany(
  statements: Statements,
  head: string,
  width: number,
  count: number,
  fill: (index: number, into: unknown[]) => void,
  onFailure?: (first: number, size: number, error: unknown) => void,
): void {
  inLists(width, count, fill, (list, params, first, size) => {
    try {
      statements.run(`${head} VALUES ${list}`, ...params);
    } catch (error) {
      if (onFailure === undefined) throw error;
      onFailure(first, size, error);
    }
  });
}

/**
 * Cuts many rows into lists for `VALUES`. Their sizes are 100, 10 and 1, so that at most three texts are prepared of a statement.
 * @param width - parameters of a row
 * @param fill - adds those of a row
 * @param use - is called with each list, its parameters, the place of its first row, and how many it has
 */
export function inLists(
  width: number,
  count: number,
  fill: (index: number, into: unknown[]) => void,
  use: (list: string, params: unknown[], first: number, size: number) => void,
): void {
  const largest = Math.max(1, Math.min(CHUNK_ROWS, Math.floor(MAX_PARAMETERS / width)));
  let done = 0;
  while (done < count) {
    const left = count - done;
    const size = left >= largest ? largest : left >= 10 && largest > 10 ? 10 : 1;
    const params: unknown[] = [];
    for (let i = 0; i < size; i += 1) fill(done + i, params);
    use(valuesList(width, size), params, done, size);
    done += size;
  }
}

const lists = new Map<string, string>();

function valuesList(width: number, size: number): string {
  const key = `${width}x${size}`;
  let list = lists.get(key);
  if (list === undefined) {
    list = Array.from({ length: size }, () => `(${Array.from({ length: width }, () => '?').join(', ')})`).join(', ');
    lists.set(key, list);
  }
  return list;
}

/** SQLite has refused something, or a whole transaction, because of a foreign key. */
export function isForeignKeyFailure(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && error.code === 'SQLITE_CONSTRAINT_FOREIGNKEY';
}

/**
 * Runs one statement. Answers false, with nothing changed, when a constraint refuses it: OR IGNORE does not cover all of them, such as
 * the type of a STRICT column.
 */
export function unlessRefused(statement: () => void): boolean {
  try {
    statement();
    return true;
  } catch (error) {
    requireConstraint(error);
    return false;
  }
}

/** The code of an error that a constraint raised; throws any other error on. */
export function requireConstraint(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (!code.startsWith('SQLITE_CONSTRAINT')) throw error;
  return code;
}
