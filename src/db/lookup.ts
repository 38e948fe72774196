/**
 * The one look-up query of a batch: where each UUID of its dictionary stands here (row, tombstone, waiting), with which
 * stamps. `json_each` counts through one blob of UUIDs: 4 times faster than a query for each.
 */
import type { Batch, SqlValue } from '../protocol/types.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { rowsTable } from './model.ts';
import type { Key } from './sql.ts';
import { jsonCount } from './sql.ts';

/** The stamps of a version: of its birth and of its last change; of a tombstone, of what died and of the death. */
export interface KnownVersion {
  readonly birthHlc: number;
  readonly birthRun: number;
  readonly hlc: number;
  readonly run: number;
}

/** A row of a map table, and its version. */
export interface MappedRow extends KnownVersion {
  readonly key: Key;
  readonly uuid: Uint8Array;
}

export interface KnownRow extends KnownVersion {
  readonly key: Key;
  /** Text of its cells, see `cells.ts`. */
  readonly cells: SqlValue;
  /** See `aside.ts`. */
  readonly aside: SqlValue;
}

export interface KnownTombstone extends KnownVersion {
  /** Text of what its deleter had seen, see `cells.ts`. */
  readonly seen: SqlValue;
}

export interface KnownPending extends KnownVersion {
  /** True when a delete waits, false when a version does. */
  readonly isDelete: boolean;
}

/** A row that has another name by now. */
export interface Led {
  /** Where it stands; undefined while it does not. */
  readonly key: Key | undefined;
  /** Its last name. */
  readonly uuid: Uint8Array;
}

/** What is known here of each UUID in a batch's dictionary; arrays by dictionary index, holes where nothing is. */
export interface Found {
  readonly rows: (KnownRow | undefined)[];
  readonly tombstones: (KnownTombstone | undefined)[];
  readonly pending: (KnownPending | undefined)[];
  /** What a reference by a plain id means, where it means a row whose name another one has by now. See `meanHeirs`. */
  readonly led: Map<number, Led>;
  /** The same for single references that are older than the row which has that name now, by their list and the place in it. */
  readonly older: Map<readonly number[], ReadonlyMap<number, Led>>;
  /** Where the heir of a dead row stands, for ids that are only a part of foreign keys. See `meanHeirs`. */
  readonly heirs: Map<number, Key>;
  /** Local number of each run of the batch. */
  readonly runs: readonly number[];
}

const ROW = 0;
const TOMBSTONE = 1;
const PENDING = 2;

/** Of which birth of a row of its dictionary a batch speaks, with the local number of the run. */
export function birthOf(batch: Batch, { runs }: Found, index: number): Pick<KnownRow, 'birthHlc' | 'birthRun'> {
  return { birthHlc: batch.birthHlc[index] ?? 0, birthRun: runs[batch.birthRun[index] ?? 0] ?? 0 };
}

export function lookUp(library: Library, batch: Batch, runs: readonly number[]): Found {
  const count = batch.birthHlc.length;
  const found: Found = {
    rows: [],
    tombstones: [],
    pending: [],
    led: new Map(),
    older: new Map(),
    heirs: new Map(),
    runs,
  };
  if (count === 0) return found;
  const models = batch.names.map((name) => library.arriving(name));
  const groups = groupByTable(batch, models);
  const parts: string[] = [];
  const params: unknown[] = [];
  groups.forEach(({ model, indexes }, i) => {
    parts.push(`SELECT ${ROW}, ${i}, j.value, m.key, m.birth_hlc, m.birth_run, m.hlc, m.run, m.cells, m.aside
      FROM json_each(?) j CROSS JOIN ${rowsTable(model)} m ON m.uuid = substr(?, 1 + 16 * j.value, 16)`);
    params.push(jsonCount(indexes.length), pick(batch.uuids, indexes));
  });
  const all = Buffer.from(batch.uuids.buffer, batch.uuids.byteOffset, count * 16);
  for (const [kind, table, column, text] of [
    [TOMBSTONE, 'flotilla_tombstones', '0', 's.seen'],
    [PENDING, 'flotilla_pending', 's.version IS NULL', 'NULL'],
  ] as const) {
    parts.push(`SELECT ${kind}, s.tbl, j.value, ${column}, s.birth_hlc, s.birth_run, s.hlc, s.run, ${text}, NULL
      FROM (SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM ${table})) j
      CROSS JOIN ${table} s ON s.uuid = substr(?, 1 + 16 * j.value, 16)`);
    params.push(jsonCount(count), all);
  }
  library.count('lookupsIn', 1);
  for (const [kind, group, position, key, birthHlc, birthRun, hlc, run, text = null, aside = null] of library.sql.rows(
    parts.join(' UNION ALL '),
    ...params,
  )) {
    const version = { birthHlc: Number(birthHlc), birthRun: Number(birthRun), hlc: Number(hlc), run: Number(run) };
    if (kind === ROW) {
      const index = groups[Number(group)]?.indexes[Number(position)] ?? -1;
      found.rows[index] = { key: key as Key, cells: text, aside, ...version };
    } else if (models[batch.uuidTable[Number(position)] ?? 0]?.n !== group) {
      // Somebody gave a row's identity to a row of another table. Believed, it would stand in the way of what others send.
      continue;
    } else if (kind === TOMBSTONE) found.tombstones[Number(position)] = { seen: text, ...version };
    else found.pending[Number(position)] = { isDelete: key === 1, ...version };
  }
  return found;
}

/** Dictionary indexes by the table that their UUIDs belong to. */
function groupByTable(batch: Batch, models: readonly Model[]): { model: Model; indexes: number[] }[] {
  const groups = models.map((model) => ({ model, indexes: [] as number[] }));
  batch.uuidTable.forEach((name, index) => groups[name]?.indexes.push(index));
  return groups.filter((group) => group.indexes.length > 0);
}

function pick(uuids: Uint8Array, indexes: readonly number[]): Buffer {
  const out = Buffer.allocUnsafe(indexes.length * 16);
  indexes.forEach((index, i) => out.set(uuids.subarray(index * 16, index * 16 + 16), i * 16));
  return out;
}
