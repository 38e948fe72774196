/**
 * Says whether several copies of one library hold the same: opens the files itself, reads their schema itself, and
 * compares row by row by UUID, with every foreign key replaced by the UUID of the row that it points to, since integer
 * ids differ from device to device. It asks no node and knows no table by name, so it can be believed.
 *
 * Rows stream out of each file in the order of their UUIDs and are merged like sorted lists: memory stays flat.
 *
 *   node examples/compare.ts <library> <library> …
 */
import Database from 'better-sqlite3';

/** Differences that are named; the others are only counted. */
const MOST_EXAMPLES = 20;
/** Milliseconds to wait for a writer that holds the file alone (a checkpoint, a schema change). */
const BUSY_TIMEOUT_MS = 20_000;

export interface Difference {
  readonly table: string;
  readonly uuid: string;
  /** The file that differs from the first one. */
  readonly file: string;
  readonly kind: 'missing' | 'extra' | 'different' | 'without identity';
  /** The row in the first file, references as UUIDs; '' if it is not there. */
  readonly first: string;
  readonly other: string;
}

export interface Comparison {
  /** True when all files hold the same and no foreign key dangles. */
  readonly identical: boolean;
  /** Rows of the user's synced tables in the first file (Flotilla's own ones are compared, but not counted). */
  readonly rows: number;
  /** Rows that the first file has and another one lacks, summed over the others; likewise below. */
  readonly missingRows: number;
  readonly extraRows: number;
  readonly differentRows: number;
  /** Rows that `PRAGMA foreign_key_check` finds, summed over all files. */
  readonly foreignKeyViolations: number;
  readonly examples: readonly Difference[];
}

interface Row {
  readonly uuid: Buffer;
  /** All synced values in one text, exact in value and type. */
  readonly content: string;
}

type Chain = { readonly map: string; readonly table: string } | null;

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** One library file, and how its rows are read. */
class Library {
  readonly file: string;
  readonly #db: Database.Database;
  /** Map table of each synced table, by lower-case name: SQLite's names do not differ by case. */
  readonly #maps: ReadonlyMap<string, string>;

  constructor(file: string) {
    this.file = file;
    this.#db = new Database(file, { readonly: true, fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
    // One snapshot for everything that is asked of this file.
    this.#db.exec('BEGIN');
    const listed = this.#db.prepare('SELECT n, name FROM flotilla_tables ORDER BY n').all() as Array<{
      n: number;
      name: string;
    }>;
    this.#maps = new Map(listed.map(({ n, name }) => [name.toLowerCase(), `flotilla_rows_${n}`]));
  }

  get tables(): string[] {
    return [...this.#maps.keys()].toSorted();
  }

  close(): void {
    this.#db.close();
  }

  foreignKeyViolations(): number {
    return this.#db.prepare('SELECT count(*) FROM pragma_foreign_key_check').pluck().get() as number;
  }

  count(table: string): number {
    return this.#db
      .prepare(`SELECT count(*) FROM ${quote(table)}`)
      .pluck()
      .get() as number;
  }

  /** Rows with a UUID, in the order of their UUIDs. */
  rows(table: string): IterableIterator<Row> {
    return this.#db.prepare(this.#query(table)).iterate() as IterableIterator<Row>;
  }

  /** Rows in the table that no UUID belongs to: no other copy can know them. */
  withoutIdentity(table: string): number {
    const map = this.#mapOf(table);
    return this.#db
      .prepare(
        `SELECT count(*)
        FROM ${quote(table)} t
        WHERE NOT EXISTS (SELECT 1 FROM ${map} m WHERE ${this.#join(table, 't', 'm')})`,
      )
      .pluck()
      .get() as number;
  }

  #mapOf(table: string): string {
    const map = this.#maps.get(table.toLowerCase());
    if (map === undefined) throw new Error(`${this.file}: the table ${table} does not sync.`);
    return quote(map);
  }

  #primaryKey(table: string): string[] {
    return this.#db
      .prepare('SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk')
      .pluck()
      .all(table) as string[];
  }

  /** The INTEGER PRIMARY KEY column, whose value is a local id; null if the table has none. */
  #rowid(table: string): string | null {
    const key = this.#primaryKey(table);
    const [only] = key;
    if (only === undefined || key.length > 1) return null;
    const type = this.#db
      .prepare('SELECT upper(type) FROM pragma_table_info(?) WHERE name = ?')
      .pluck()
      .get(table, only) as string;
    // A key with an index of its own (WITHOUT ROWID, or INTEGER PRIMARY KEY DESC) is no alias of the rowid.
    const indexed = this.#db.prepare("SELECT 1 FROM pragma_index_list(?) WHERE origin = 'pk'").get(table);
    return type === 'INTEGER' && indexed === undefined ? only : null;
  }

  /** Condition that brings a table's row and its map row together. */
  #join(table: string, row: string, map: string): string {
    const rowid = this.#rowid(table);
    if (rowid !== null) return `${row}.${quote(rowid)} = ${map}.key`;
    return this.#primaryKey(table)
      .map((column, index) => `${row}.${quote(column)} IS ${map}.k${index + 1}`)
      .join(' AND ');
  }

  /**
   * The table whose local ids a column holds, found along its foreign keys (a key may point to a column that is a
   * foreign key itself); null if its value means the same everywhere.
   */
  #target(table: string, column: string, seen: readonly string[] = []): Chain {
    const here = `${table}.${column}`.toLowerCase();
    if (seen.includes(here)) return null;
    const keys = this.#db
      .prepare(
        `SELECT seq, "table" AS target, "to" AS targetColumn
        FROM pragma_foreign_key_list(?)
        WHERE lower("from") = lower(?)`,
      )
      .all(table, column) as Array<{ seq: number; target: string; targetColumn: string | null }>;
    for (const { seq, target, targetColumn } of keys) {
      const pointedTo = targetColumn ?? this.#primaryKey(target)[seq];
      const map = this.#maps.get(target.toLowerCase());
      if (pointedTo === undefined || map === undefined) continue;
      if (pointedTo.toLowerCase() === this.#rowid(target)?.toLowerCase()) {
        return this.#target(target, pointedTo, [...seen, here]) ?? { map: quote(map), table: target };
      }
      const further = this.#target(target, pointedTo, [...seen, here]);
      if (further !== null) return further;
    }
    return null;
  }

  #query(table: string): string {
    const columns = this.#db
      .prepare('SELECT name FROM pragma_table_info(?) ORDER BY name')
      .pluck()
      .all(table) as string[];
    const rowid = this.#rowid(table);
    const joins: string[] = [];
    const parts: string[] = [];
    for (const column of columns) {
      const value = `t.${quote(column)}`;
      const target = this.#target(table, column);
      if (target !== null) {
        const alias = `r${joins.length}`;
        joins.push(`LEFT JOIN ${target.map} ${alias} ON ${alias}.key = ${value}`);
        const text = `CASE WHEN ${value} IS NULL THEN 'NULL'
          ELSE ifnull('→' || hex(${alias}.uuid), '→ nowhere') END`;
        parts.push(`'${column.replaceAll("'", "''")}=' || ${text}`);
      } else if (column !== rowid) {
        // quote() is exact in value and type, but ends at a NUL character.
        const text = `CASE WHEN typeof(${value}) = 'text' AND length(${value}) < length(CAST(${value} AS BLOB))
          AND instr(CAST(${value} AS BLOB), x'00') THEN 'text:' || hex(${value}) ELSE quote(${value}) END`;
        parts.push(`'${column.replaceAll("'", "''")}=' || ${text}`);
      }
    }
    return `
      SELECT m.uuid AS uuid, ${parts.length === 0 ? "''" : parts.join(" || ', ' || ")} AS content
      FROM ${this.#mapOf(table)} m
      CROSS JOIN ${quote(table)} t ON ${this.#join(table, 't', 'm')}
      ${joins.join('\n')}
      ORDER BY m.uuid`;
  }
}

/** Compares the files with the first of them. */
export function compareLibraries(files: readonly string[]): Comparison {
  const counts = { rows: 0, missingRows: 0, extraRows: 0, differentRows: 0, foreignKeyViolations: 0 };
  const examples: Difference[] = [];
  const note = (difference: Difference): void => {
    if (examples.length < MOST_EXAMPLES) examples.push(difference);
  };
  const libraries: Library[] = [];
  try {
    for (const file of files) libraries.push(new Library(file));
    const [first, ...others] = libraries;
    if (first === undefined) throw new Error('There is nothing to compare: name at least one library.');
    for (const library of libraries) counts.foreignKeyViolations += library.foreignKeyViolations();
    for (const table of new Set(libraries.flatMap(({ tables }) => tables))) {
      for (const library of libraries) {
        if (!library.tables.includes(table))
          throw new Error(`${library.file}: the table ${table} is missing or does not sync.`);
        const nameless = library.withoutIdentity(table);
        if (nameless === 0) continue;
        note({ table, uuid: '', file: library.file, kind: 'without identity', first: '', other: `${nameless} rows` });
        // Whoever else is asked lacks these rows.
        if (library === first) counts.missingRows += nameless * others.length;
        else counts.extraRows += nameless;
      }
      if (!table.startsWith('flotilla_')) counts.rows += first.count(table);
      mergeTable(table, first, others, counts, note);
    }
  } finally {
    for (const library of libraries) library.close();
  }
  const { missingRows, extraRows, differentRows, foreignKeyViolations } = counts;
  const identical = missingRows + extraRows + differentRows + foreignKeyViolations === 0 && examples.length === 0;
  return { identical, ...counts, examples };
}

/** Walks all copies of one table at once, in the order of the UUIDs. */
function mergeTable(
  table: string,
  first: Library,
  others: readonly Library[],
  counts: { missingRows: number; extraRows: number; differentRows: number },
  note: (difference: Difference) => void,
): void {
  const left = first.rows(table);
  const rights = others.map((library) => {
    const rows = library.rows(table);
    return { library, rows, current: rows.next() };
  });
  for (let row = left.next(); ; row = left.next()) {
    for (const right of rights) {
      // What the other one has before this UUID, the first one has not at all.
      while (
        right.current.done !== true &&
        (row.done === true || right.current.value.uuid.compare(row.value.uuid) < 0)
      ) {
        counts.extraRows += 1;
        const { uuid, content } = right.current.value;
        note({ table, uuid: uuid.toString('hex'), file: right.library.file, kind: 'extra', first: '', other: content });
        right.current = right.rows.next();
      }
      if (row.done === true) continue;
      const facts = { table, uuid: row.value.uuid.toString('hex'), file: right.library.file, first: row.value.content };
      if (right.current.done === true || !right.current.value.uuid.equals(row.value.uuid)) {
        counts.missingRows += 1;
        note({ ...facts, kind: 'missing', other: '' });
        continue;
      }
      if (right.current.value.content !== row.value.content) {
        counts.differentRows += 1;
        note({ ...facts, kind: 'different', other: right.current.value.content });
      }
      right.current = right.rows.next();
    }
    if (row.done === true) return;
  }
}

/** One line a difference, for people. */
export function describeDifference({ table, uuid, file, kind, first, other }: Difference): string {
  const row = uuid === '' ? table : `${table} ${uuid}`;
  if (kind === 'missing') return `${row} is missing in ${file}: ${first}`;
  if (kind === 'extra') return `${row} is only in ${file}: ${other}`;
  if (kind === 'different') return `${row} differs in ${file}: ${first} there ${other}`;
  return `${row}: ${other} in ${file} have no identity`;
}

if (import.meta.main) {
  try {
    const { examples, ...comparison } = compareLibraries(process.argv.slice(2));
    for (const difference of examples) console.error(describeDifference(difference));
    console.log(JSON.stringify(comparison));
    process.exitCode = comparison.identical ? 0 : 1;
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
