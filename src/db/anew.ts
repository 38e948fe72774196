/**
 * Stamps of a clock that was wrong. A device whose clock was set ahead has stamped in the future, and goes on there, since stamps never go
 * back; nobody takes that from it. Once its clock agrees with that of another member, what it has stamped later than clocks may differ, and nobody
 * else has, is stamped again: in the same order and by the same runs, but beginning now. What is stamped is only renamed, everywhere in
 * the metadata, so nothing else has to be known about it.
 *
 * There may be millions, and other programs want to write meanwhile. So it is first written down what becomes of each, then the tables are gone
 * through in slices of a transaction each, and the place in them is written down as well: whoever opens a library that is in the middle of
 * it goes on there, before anything else. Until it is done nothing is stamped, merged or given to anybody.
 *
 * A clock that was behind needs none of that: its stamps are early, and taken by everybody.
 */
import type { Database } from 'better-sqlite3';

import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import { HLC_PER_MS, hlcToMs, isTooFarAhead, MAX_DRIFT_MS } from '../protocol/hlc.ts';
import type { Batch, SqlValue, StampList } from '../protocol/types.ts';
import { formatAside, parseAside } from './aside.ts';
import type { Aside } from './aside.ts';
import { parseCells, stampsOf } from './cells.ts';
import type { FaultPoint } from './fault-points.ts';
import type { Library } from './library.ts';
import { ANEW, getState, setState } from './metadata.ts';
import { RIVAL_NAMES } from './rival-names.ts';
import { Statements } from './sql.ts';

/** What was done. */
export interface StampedAnew {
  /** How many stamps have been given anew. */
  readonly stamps: number;
  /** How far the clock had been ahead at least, ms. */
  readonly aheadMs: number;
}

/** A table with stamps. */
interface Stamped {
  readonly table: string;
  /** Its primary key; null where a stamp is part of that, and all rows are renamed at once. */
  readonly key: string | null;
  /** Columns that hold the time of a stamp. */
  readonly columns: readonly string[];
}

/** Those with stamps beside the map tables. */
const STAMPED: readonly Stamped[] = [
  { table: 'flotilla_tombstones', key: 'uuid', columns: ['birth_hlc', 'hlc'] },
  { table: 'flotilla_pending', key: 'uuid', columns: ['birth_hlc', 'hlc'] },
  { table: 'flotilla_conflicts', key: 'id', columns: ['lost_hlc', 'kept_hlc'] },
  // Stamps of rows that refer to nothing: few, if any.
  { table: 'flotilla_behind', key: null, columns: ['hlc'] },
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

/** In the state while it is under way, beside the place that has been reached: what becomes of which stamp, in pieces. */
const PIECE = `${ANEW} `;
/** Stamps in a piece, and bytes of each. */
const IN_PIECE = 16_384;
const HLC_BYTES = 8;

/** Rows that are renamed in one transaction: about 20 ms. */
const SLICE_ROWS = 2_000;

/** How far it is. */
interface Place {
  /** What is later than this is renamed. */
  readonly limit: number;
  /** The first new time is one more. */
  readonly base: number;
  /** The table that comes next, and the key after which, as digits or hex; null for its beginning. */
  readonly table: string;
  readonly after: string | null;
}

/** True when this library stamps later than clocks may differ. */
export function isAhead(library: Library): boolean {
  return isTooFarAhead(library.hlc, library.around.now());
}

/**
 * Begins to stamp anew what lies too far ahead of the clock, which must be right now. Everything that others wrote here must be stamped before;
 * whoever calls this goes on with `finishStampingAnew` before he does anything else, and opens the library anew.
 * @returns null when there is nothing of that kind, or when another member has some of it: then it is no more ours to change
 */
export function beginStampingAnew(library: Library): StampedAnew | null {
  if (!isAhead(library)) return null;
  const { sql, db } = library;
  const now = library.around.now();
  const limit = (now + MAX_DRIFT_MS) * HLC_PER_MS;
  const heard = sql.number('SELECT ifnull(max(hlc), 0) FROM flotilla_heard');
  if (heard > limit) return null;
  const last = library.hlc;
  const maps = mapTables(sql);
  if (hasForeign(library, maps, limit) || hasLeft(sql, maps, limit)) return null;
  // After everything that stays as it is, and not before now.
  const base = Math.max(heard, latestKept(library, maps, limit), now * HLC_PER_MS - 1);
  const later = new Later(limit, base, collect(db, maps, limit));
  later.write(db);
  library.transact(() => {
    setState(db, ANEW, JSON.stringify({ limit, base, table: stampedIn(maps)[0]?.table, after: null }));
    renameBounds(sql, later);
    edit(sql, 'flotilla_state', 'key', 'value', `key GLOB '${RIVAL_NAMES}*'`, (text) =>
      inJson(String(text), later.anew),
    );
    for (const [table, column] of MOMENTS) sql.run(`UPDATE ${table} SET ${column} = ? WHERE ${column} > ?`, now, now);
    library.turnBack(later.anew);
    library.reached('anew: written down');
  });
  return { stamps: later.count, aheadMs: hlcToMs(last) - now };
}

/** Goes on with what was begun, if anything was. */
export function finishStampingAnew(db: Database, reached: (point: FaultPoint) => void = () => undefined): void {
  const stored = getState(db, ANEW);
  if (typeof stored !== 'string') return;
  const sql = new Statements(db);
  const tables = stampedIn(mapTables(sql));
  let place = JSON.parse(stored) as Place;
  const later = Later.read(sql, place);
  db.function('flotilla_anew', { deterministic: true, directOnly: true }, (hlc: unknown) => later.anew(hlc as number));
  for (let i = tables.findIndex(({ table }) => table === place.table); i < tables.length;) {
    const stamped = tables[i] as Stamped;
    const slice = db.transaction(() => {
      const after = renameSlice(sql, stamped, place.after, later);
      place = { ...place, after, table: after === null ? (tables[i + 1]?.table ?? '') : stamped.table };
      if (place.table === '') sql.run('DELETE FROM flotilla_state WHERE key >= ? AND key < ?', ANEW, AFTER_PIECES);
      else setState(db, ANEW, JSON.stringify(place));
      reached('anew: renamed');
    });
    slice.immediate();
    reached('anew: committed');
    if (place.after === null) i += 1;
  }
}

/** Behind the keys of all pieces. */
const AFTER_PIECES = `${ANEW}!`;

/** The stamps that are too late, and what becomes of them: the order stays. */
class Later {
  /** What is not later than this stays. */
  readonly limit: number;
  readonly #base: number;
  /** In order, each once. */
  readonly #sorted: Float64Array;

  constructor(limit: number, base: number, sorted: Float64Array) {
    this.limit = limit;
    this.#base = base;
    this.#sorted = sorted;
  }

  static read(sql: Statements, { limit, base }: Place): Later {
    const pieces = sql.rows(
      'SELECT value FROM flotilla_state WHERE key >= ? AND key < ? ORDER BY key',
      PIECE,
      AFTER_PIECES,
    );
    const bytes = Buffer.concat(pieces.map(([piece]) => piece as Uint8Array));
    const sorted = Float64Array.from({ length: bytes.byteLength / HLC_BYTES }, (_, i) =>
      bytes.readDoubleLE(i * HLC_BYTES),
    );
    return new Later(limit, base, sorted);
  }

  /** Of no meaning yet, and a piece after the other. */
  write(db: Database): void {
    db.prepare('DELETE FROM flotilla_state WHERE key >= ? AND key < ?').run(PIECE, AFTER_PIECES);
    const add = db.prepare('INSERT INTO flotilla_state (key, value) VALUES (?, ?)');
    for (let at = 0; at < this.count; at += IN_PIECE) {
      const piece = this.#sorted.subarray(at, at + IN_PIECE);
      const bytes = Buffer.alloc(piece.length * HLC_BYTES);
      piece.forEach((hlc, i) => bytes.writeDoubleLE(hlc, i * HLC_BYTES));
      add.run(`${PIECE}${String(at).padStart(12, '0')}`, bytes);
    }
  }

  get count(): number {
    return this.#sorted.length;
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
  const rows = sql.rows(
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'flotilla_rows_[0-9]*' ORDER BY name",
  );
  return rows.map(([name]) => String(name));
}

function stampedIn(maps: readonly string[]): Stamped[] {
  return [...STAMPED, ...maps.map((table) => ({ table, key: 'key', columns: ['birth_hlc', 'hlc'] }))];
}

/** Whether some of what is too late was stamped by another device: then that one's clock was wrong as well, and it is not ours. */
function hasForeign({ sql, around }: Library, maps: readonly string[], limit: number): boolean {
  const foreign = 'SELECT run FROM flotilla_runs WHERE device IS NOT ?';
  const inColumn = stampedIn(maps).some(({ table, columns }) =>
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

/** All stamps that are too late, in order. */
function collect(db: Database, maps: readonly string[], limit: number): Float64Array {
  const found: number[] = [];
  const see = (hlc: number): number => {
    if (hlc > limit) found.push(hlc);
    return hlc;
  };
  for (const { table, columns } of stampedIn(maps)) {
    for (const column of columns) {
      const late = db.prepare<[number], number>(`SELECT ${column} FROM ${table} WHERE ${column} > ?`).pluck();
      for (const hlc of late.iterate(limit)) found.push(hlc);
    }
  }
  seeInside(db, maps, limit, see);
  const sorted = Float64Array.from(found).sort();
  return sorted.filter((hlc, i) => hlc !== sorted[i - 1]);
}

/** The latest stamp that stays. */
function latestKept(library: Library, maps: readonly string[], limit: number): number {
  let last = 0;
  const see = (hlc: number): number => {
    if (hlc <= limit) last = Math.max(last, hlc);
    return hlc;
  };
  const within = [
    ...stampedIn(maps).flatMap(({ table, columns }) => columns.map((column) => [table, column])),
    ...BOUNDS,
  ];
  for (const [table, column] of within)
    see(library.sql.number(`SELECT ifnull(max(${column}), 0) FROM ${table} WHERE ${column} <= ?`, limit));
  for (const hlc of library.knowledge().values()) see(hlc);
  seeInside(library.db, maps, limit, see);
  return last;
}

/** Renames some rows of a table, in the caller's transaction. @returns the key of the last one; null when it was the last of all */
function renameSlice(
  sql: Statements,
  { table, key, columns }: Stamped,
  after: Place['after'],
  later: Later,
): Place['after'] {
  const { limit, anew } = later;
  const renamed = columns.map(
    (column) =>
      `${column} = CASE WHEN ${column} > :limit THEN CAST(flotilla_anew(${column}) AS INTEGER) ELSE ${column} END`,
  );
  const isLate = columns.map((column) => `${column} > :limit`).join(' OR ');
  if (key === null) {
    sql.run(`UPDATE ${table} SET ${renamed.join(', ')} WHERE ${isLate}`, { limit });
    return null;
  }
  const from = after === null ? null : key === 'uuid' ? Buffer.from(after, 'hex') : BigInt(after);
  const begun = from === null ? '' : `AND ${key} > :from`;
  const to = sql.value(
    `SELECT ${key} FROM ${table} WHERE true ${begun} ORDER BY ${key} LIMIT 1 OFFSET ${SLICE_ROWS - 1}`,
    { from },
  );
  const range = `${begun} ${to === undefined ? '' : `AND ${key} <= :to`}`;
  const bounds = { limit, from, to: to ?? null };
  for (const [column, where, rename] of insideOf(table, limit))
    edit(sql, table, key, column, `(${where}) ${range}`, (value) => rename(value, anew), bounds);
  sql.run(`UPDATE ${table} SET ${renamed.join(', ')} WHERE (${isLate}) ${range}`, bounds);
  if (to === undefined) return null;
  return to instanceof Uint8Array ? Buffer.from(to).toString('hex') : String(to);
}

function renameBounds(sql: Statements, later: Later): void {
  for (const [table, column, key] of BOUNDS) {
    // All at once, since what one becomes may be what another one was.
    const found = sql.rows(`SELECT ${column}, ${key} FROM ${table} WHERE ${column} > ?`, later.limit);
    const places = key.replaceAll(/\w+/g, '?');
    for (const [hlc, ...id] of found)
      sql.run(`UPDATE ${table} SET ${column} = ? WHERE (${key}) = (${places})`, later.anew(Number(hlc)), ...id);
  }
}

// -- stamps within texts and blobs

type Rename = (hlc: number) => number;

/** A text or blob with stamps within it, which rows have one that may be too late, and how these are renamed. */
type Inside = readonly [column: string, where: string, rename: (value: SqlValue, rename: Rename) => SqlValue];

function insideOf(table: string, limit: number): readonly Inside[] {
  const version: Inside = ['version', 'version IS NOT NULL', (blob, rename) => inVersion(blob as Uint8Array, rename)];
  const inText = (text: SqlValue, rename: Rename): SqlValue => inJson(String(text), rename);
  switch (table) {
    case 'flotilla_tombstones':
      return [['seen', `hlc > ${limit}`, inText], version];
    case 'flotilla_pending':
      return [version];
    case 'flotilla_conflicts':
      return [];
    default:
      return [
        // A row's own stamp is the latest of its cells, but for one that is asked for again (`asked.ts`).
        ['cells', `hlc > ${limit} OR hlc = 0`, inText],
        ['aside', 'aside IS NOT NULL', inAside],
      ];
  }
}

/** Gives each time that stands within a text or a blob to `see`. */
function seeInside(db: Database, maps: readonly string[], limit: number, see: Rename): void {
  for (const { table, key } of stampedIn(maps)) {
    if (key === null) continue;
    for (const [column, where, rename] of insideOf(table, limit)) {
      const text = `SELECT ${column} FROM ${table} WHERE (${where}) AND ${column} IS NOT NULL`;
      for (const value of db.prepare<[], SqlValue>(text).pluck().iterate()) rename(value, see);
    }
  }
  const names = `SELECT value FROM flotilla_state WHERE key GLOB '${RIVAL_NAMES}*'`;
  for (const value of db.prepare<[], SqlValue>(names).pluck().iterate()) inJson(String(value), see);
}

/** Changes texts or blobs, and writes back what has become another one. */
function edit(
  sql: Statements,
  table: string,
  key: string,
  column: string,
  where: string,
  change: (value: SqlValue) => SqlValue,
  bounds: object = {},
): void {
  const found = sql.rows(`SELECT ${key}, ${column} FROM ${table} WHERE ${where} AND ${column} IS NOT NULL`, bounds);
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
