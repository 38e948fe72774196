/**
 * Stamps of a clock that was wrong. A device whose clock was set ahead has stamped in the future, and goes on there, since stamps never go
 * back; nobody takes that from it. Once its clock agrees with that of another member, what it has stamped later than clocks may differ, and nobody
 * else has, is stamped again: in the same order and by the same runs, but beginning now. What is stamped is only renamed, everywhere in
 * the metadata at once, so nothing else has to be known about it.
 *
 * A clock that was behind needs none of that: its stamps are early, and taken by everybody.
 */
import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import { HLC_PER_MS, hlcToMs, isTooFarAhead, MAX_DRIFT_MS } from '../protocol/hlc.ts';
import type { Batch, SqlValue, StampList } from '../protocol/types.ts';
import { formatAside, parseAside } from './aside.ts';
import type { Aside } from './aside.ts';
import { parseCells, stampsOf } from './cells.ts';
import type { Library } from './library.ts';
import { RIVAL_NAMES } from './rival-names.ts';
import { insertMany } from './sql.ts';
import type { Statements } from './sql.ts';

/** What was done. */
export interface StampedAnew {
  /** How many stamps have been given anew. */
  readonly stamps: number;
  /** How far the clock had been ahead at least, ms. */
  readonly aheadMs: number;
}

/** Columns that hold a stamp's time, by table; those of the map tables beside them. */
const STAMPED: ReadonlyArray<readonly [table: string, columns: readonly string[]]> = [
  ['flotilla_tombstones', ['birth_hlc', 'hlc']],
  ['flotilla_pending', ['birth_hlc', 'hlc']],
  ['flotilla_conflicts', ['lost_hlc', 'kept_hlc']],
  ['flotilla_behind', ['hlc']],
];
/** Those that are times up to which something holds, and need not be anybody's stamp. */
const BOUNDS: ReadonlyArray<readonly [table: string, column: string, key: string]> = [
  ['flotilla_columns', 'since', 'tbl, number'],
  ['flotilla_floor', 'hlc', 'run'],
];
/** Moments by the clock that was wrong: what is to age would wait for them. */
const MOMENTS: ReadonlyArray<readonly [table: string, column: string]> = [
  ['flotilla_conflicts', 'at'],
  ['flotilla_seen', 'at'],
  ['flotilla_acks', 'at'],
];

/** True when this library stamps later than clocks may differ. */
export function isAhead(library: Library): boolean {
  return isTooFarAhead(library.hlc, library.around.now());
}

/**
 * Stamps anew what lies too far ahead of the clock, which must be right now.
 * @returns null when there is nothing of that kind, or when another member has some of it: then it is no more ours to change
 */
export function stampAnew(library: Library): StampedAnew | null {
  return library.transact(() => {
    if (!isAhead(library)) return null;
    const { sql } = library;
    const now = library.around.now();
    const limit = (now + MAX_DRIFT_MS) * HLC_PER_MS;
    const heard = sql.number('SELECT ifnull(max(hlc), 0) FROM flotilla_heard');
    if (heard > limit) return null;
    const last = library.hlc;
    const maps = mapTables(sql);
    if (hasForeign(library, maps, limit) || hasLeft(sql, maps, limit)) return null;
    const later = new Later(limit);
    collect(sql, maps, later);
    // After everything that stays as it is, and not before now.
    later.begin(Math.max(heard, latestKept(library, maps, limit), now * HLC_PER_MS - 1));
    renameIn(sql, maps, later);
    for (const [table, column] of MOMENTS) sql.run(`UPDATE ${table} SET ${column} = ? WHERE ${column} > ?`, now, now);
    library.turnBack((hlc) => later.anew(hlc));
    return { stamps: later.count, aheadMs: hlcToMs(last) - now };
  });
}

/** The stamps that are too late, and what becomes of them: the order stays. */
class Later {
  /** What is not later than this stays. */
  readonly limit: number;
  readonly #found = new Set<number>();
  #sorted = new Float64Array();
  #base = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get count(): number {
    return this.#sorted.length;
  }

  see(hlc: number): number {
    if (hlc > this.limit) this.#found.add(hlc);
    return hlc;
  }

  begin(base: number): void {
    this.#base = base;
    this.#sorted = Float64Array.from(this.#found).sort();
    this.#found.clear();
  }

  /** Old and new time of each. */
  pairs(): ReadonlyArray<readonly [old: number, anew: number]> {
    return Array.from(this.#sorted, (hlc, index) => [hlc, this.#base + index + 1] as const);
  }

  /** The new time of a stamp; of any other time what keeps its place among the stamps. */
  readonly anew = (hlc: number): number => {
    if (hlc <= this.limit) return hlc;
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] ?? 0) <= hlc) low = middle + 1;
      else high = middle;
    }
    return this.#base + low;
  };
}

function mapTables(sql: Statements): string[] {
  const rows = sql.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'flotilla_rows_[0-9]*'");
  return rows.map(([name]) => String(name));
}

function stampedIn(maps: readonly string[]): ReadonlyArray<readonly [table: string, columns: readonly string[]]> {
  return [...STAMPED, ...maps.map((map) => [map, ['birth_hlc', 'hlc']] as const)];
}

/** Whether some of what is too late was stamped by another device: then that one's clock was wrong as well, and it is not ours. */
function hasForeign({ sql, around }: Library, maps: readonly string[], limit: number): boolean {
  const foreign = 'SELECT run FROM flotilla_runs WHERE device IS NOT ?';
  const inColumn = stampedIn(maps).some(([table, columns]) =>
    columns.some((column) => {
      const isForeign = `${column} > ? AND ${column.replace('hlc', 'run')} IN (${foreign})`;
      return sql.value(`SELECT 1 FROM ${table} WHERE ${isForeign} LIMIT 1`, limit, around.device) !== undefined;
    }),
  );
  if (inColumn) return true;
  const runs = new Set(sql.rows(foreign, around.device).map(([run]) => Number(run)));
  return maps.some((map) =>
    sql
      .rows(`SELECT cells FROM ${map} WHERE hlc > ? AND cells IS NOT NULL`, limit)
      .some(([text]) =>
        [...parseCells(text).values()].some((cell) =>
          [...stampsOf(cell), ...cell.seen].some(({ hlc, run }) => hlc > limit && runs.has(run)),
        ),
      ),
  );
}

/** Whether a member has ACKed some of what is too late, in a pass that is not complete, so that it does not claim to know it yet. */
function hasLeft(sql: Statements, maps: readonly string[], limit: number): boolean {
  const acked = sql.number(
    `SELECT ifnull(max(a.position), 0) FROM flotilla_acks a
     JOIN flotilla_members m ON m.device = a.peer WHERE m.revoked_at IS NULL`,
  );
  return [...maps, 'flotilla_tombstones', 'flotilla_pending'].some(
    (table) => sql.value(`SELECT 1 FROM ${table} WHERE lsn <= ? AND hlc > ? LIMIT 1`, acked, limit) !== undefined,
  );
}

function collect(sql: Statements, maps: readonly string[], later: Later): void {
  for (const [table, columns] of stampedIn(maps)) {
    for (const column of columns) {
      const found = sql.rows(`SELECT DISTINCT ${column} FROM ${table} WHERE ${column} > ?`, later.limit);
      for (const [hlc] of found) later.see(Number(hlc));
    }
  }
  inside(sql, maps, later.limit, (hlc) => later.see(hlc));
}

/** The latest stamp that stays. */
function latestKept(library: Library, maps: readonly string[], limit: number): number {
  let last = 0;
  const see = (hlc: number): number => {
    if (hlc <= limit) last = Math.max(last, hlc);
    return hlc;
  };
  for (const [table, columns] of stampedIn(maps)) {
    for (const column of columns)
      see(library.sql.number(`SELECT ifnull(max(${column}), 0) FROM ${table} WHERE ${column} <= ?`, limit));
  }
  for (const [table, column] of BOUNDS)
    see(library.sql.number(`SELECT ifnull(max(${column}), 0) FROM ${table} WHERE ${column} <= ?`, limit));
  for (const hlc of library.knowledge().values()) see(hlc);
  inside(library.sql, maps, limit, see);
  return last;
}

function renameIn(sql: Statements, maps: readonly string[], later: Later): void {
  inside(sql, maps, later.limit, later.anew);
  // In one pass over each table: there may be a million values, and no index.
  sql.run('CREATE TEMP TABLE flotilla_anew (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)');
  const pairs = later.pairs();
  insertMany(sql, 'INSERT INTO temp.flotilla_anew (old, new)', 2, pairs.length, (index, into) => {
    into.push(...(pairs[index] ?? []));
  });
  const renamed = (column: string): string =>
    `${column} = CASE WHEN ${column} > :limit THEN (SELECT new FROM temp.flotilla_anew WHERE old = ${column}) ELSE ${column} END`;
  for (const [table, columns] of stampedIn(maps))
    sql.run(
      `UPDATE ${table} SET ${columns.map(renamed).join(', ')} WHERE ${columns.map((column) => `${column} > :limit`).join(' OR ')}`,
      { limit: later.limit },
    );
  sql.run('DROP TABLE temp.flotilla_anew');
  for (const [table, column, key] of BOUNDS) {
    // All at once, since what one becomes may be what another one was.
    const found = sql.rows(`SELECT ${column}, ${key} FROM ${table} WHERE ${column} > ?`, later.limit);
    const places = key.replaceAll(/\w+/g, '?');
    for (const [hlc, ...id] of found)
      sql.run(`UPDATE ${table} SET ${column} = ? WHERE (${key}) = (${places})`, later.anew(Number(hlc)), ...id);
  }
}

// -- stamps within texts and blobs

/** Gives each time that stands within a text or a blob to `rename`, and writes back what has become another one. */
function inside(sql: Statements, maps: readonly string[], limit: number, rename: (hlc: number) => number): void {
  for (const map of maps) {
    // A row's own stamp is the latest of its cells, but for one that is asked for again (`asked.ts`).
    edit(sql, map, 'key', 'cells', `hlc > ${limit} OR hlc = 0`, (text) => inJson(String(text), rename));
    edit(sql, map, 'key', 'aside', 'aside IS NOT NULL', (blob) => inAside(blob, rename));
  }
  edit(sql, 'flotilla_tombstones', 'uuid', 'seen', `hlc > ${limit}`, (text) => inJson(String(text), rename));
  for (const table of ['flotilla_tombstones', 'flotilla_pending'])
    edit(sql, table, 'uuid', 'version', 'version IS NOT NULL', (blob) => inVersion(blob as Uint8Array, rename));
  edit(sql, 'flotilla_state', 'key', 'value', `key GLOB '${RIVAL_NAMES}*'`, (text) => inJson(String(text), rename));
}

function edit(
  sql: Statements,
  table: string,
  key: string,
  column: string,
  where: string,
  change: (value: SqlValue) => SqlValue,
): void {
  const found = sql.rows(`SELECT ${key}, ${column} FROM ${table} WHERE (${where}) AND ${column} IS NOT NULL`);
  for (const [id, value = null] of found) {
    const changed = change(value);
    if (changed !== value) sql.run(`UPDATE ${table} SET ${column} = ? WHERE ${key} = ?`, changed, id);
  }
}

/** Numbers of columns and runs, which stand beside stamps in texts, end here; a stamp is that small only in the first hour of 1970. */
const MAX_NUMBERED = 0xffffffff;

/** In cells and in lists of stamps values are texts, so whatever is greater than a number of a column or run is the time of a stamp. */
function inJson(text: string, rename: (hlc: number) => number): string {
  const renamed = JSON.stringify(JSON.parse(text), (_, value: unknown) =>
    typeof value === 'number' && value > MAX_NUMBERED ? rename(value) : value,
  );
  return renamed === text ? text : renamed;
}

function inAside(blob: SqlValue, rename: (hlc: number) => number): SqlValue {
  let isOther = false;
  const renamed: Aside = new Map(
    [...parseAside(blob)].map(([column, entry]) => {
      if (entry.kind !== 'ref' || entry.target === null) return [column, entry];
      const birthHlc = rename(entry.target.birthHlc);
      isOther ||= birthHlc !== entry.target.birthHlc;
      return [column, { ...entry, target: { ...entry.target, birthHlc } }];
    }),
  );
  const written = formatAside(renamed);
  return isOther && written !== null ? Buffer.from(written) : blob;
}

function inVersion(blob: Uint8Array, rename: (hlc: number) => number): Uint8Array {
  let isOther = false;
  const all = (hlcs: readonly number[]): number[] =>
    hlcs.map((hlc) => {
      const renamed = rename(hlc);
      isOther ||= renamed !== hlc;
      return renamed;
    });
  const within = <T extends StampList>(list: T): T => ({ ...list, hlc: all(list.hlc) });
  const batch = decodeBatch(blob);
  const renamed: Batch = {
    ...batch,
    birthHlc: all(batch.birthHlc),
    tables: batch.tables.map((table) => ({
      ...table,
      hlc: all(table.hlc),
      cells: within(table.cells),
      ...(table.registers === undefined ? {} : { registers: within(table.registers) }),
    })),
    tombstones: batch.tombstones.map((one) => ({ ...one, hlc: all(one.hlc), seen: within(one.seen) })),
  };
  return isOther ? Buffer.from(encodeBatch(renamed)) : blob;
}
