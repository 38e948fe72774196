/**
 * Pruning, and what it costs whoever was away. A tombstone goes when every member is known to have it, and our **floor** rises to its
 * stamp: below it a feed would bring rows back that were deleted. Who knows less than a floor says takes no ordinary feed from there, and
 * gives none; it reconciles first (`reconcile.ts`).
 */
import { decodeBatch } from '../protocol/batch.ts';
import { hlcToMs } from '../protocol/hlc.ts';
import type { SqlValue } from '../protocol/types.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { PruningStatus } from './api.ts';
import { CONFLICT_DAYS, RETENTION_DAYS } from './config.ts';
import type { Config } from './config.ts';
import type { Heard } from './heard.ts';
import { heardMembers } from './heard.ts';
import { targetsIn } from './join.ts';
import type { Library } from './library.ts';
import { getState, setState } from './metadata.ts';
import type { Statements } from './sql.ts';

const DAY_MS = 86_400_000;

/** Tombstones that one transaction prunes: some ms. */
const PRUNED_AT_ONCE = 5_000;
/** Waiting versions that are read at once. */
const READ_AT_ONCE = 500;

/** What pruning did. */
export interface Pruned {
  readonly tombstones: number;
  /** Peer ids of members that hold it up: they have not ACKed some tombstone, or know what has not come here. */
  readonly blockedBy: readonly string[];
}

/** Prunes what may go, in slices of a transaction each. */
export function prune(library: Library, retentionDays: number = RETENTION_DAYS): Pruned {
  let tombstones = 0;
  for (;;) {
    const { pruned, blockedBy } = library.transact(() => pruneSlice(library, retentionDays));
    library.reached('prune: committed');
    tombstones += pruned;
    if (pruned < PRUNED_AT_ONCE) return { tombstones, blockedBy };
  }
}

function pruneSlice(library: Library, retentionDays: number): { pruned: number; blockedBy: readonly string[] } {
  noteAwake(library, retentionDays);
  if (library.sql.value('SELECT 1 FROM flotilla_tombstones LIMIT 1') === undefined) return { pruned: 0, blockedBy: [] };
  const members = heardMembers(library.sql, library.around.device);
  // Somebody knows of something that has not come here: it may be a newcomer whom he has told more than we know.
  const ahead = members.filter(({ knowledge }) => [...knowledge].some(([run, hlc]) => !library.knows(run, hlc)));
  if (ahead.length > 0) return { pruned: 0, blockedBy: ahead.map(({ device }) => device) };
  const counting = countingMembers(library, retentionDays, members);
  const known = knownToAll(library, counting);
  const gone = library.sql.rows(
    // What an alias leads to stays as long as the one that leads there; a name that was given back leads in a circle.
    `WITH RECURSIVE known (run, hlc) AS (SELECT value ->> 0, value ->> 1 FROM json_each(?)),
     ready (uuid) AS (
       SELECT t.uuid FROM flotilla_tombstones t JOIN known d ON d.run = t.run AND t.hlc <= d.hlc
         JOIN known b ON b.run = t.birth_run AND t.birth_hlc <= b.hlc
       WHERE NOT EXISTS (SELECT 1 FROM flotilla_pending p WHERE p.uuid = t.uuid)
         AND NOT EXISTS (SELECT 1 FROM flotilla_waits w WHERE w.target = t.uuid)
         AND hex(t.uuid) NOT IN (SELECT upper(value) FROM json_each(?))),
     needed (uuid) AS (
       SELECT alias FROM flotilla_tombstones WHERE alias IS NOT NULL AND uuid NOT IN (SELECT uuid FROM ready)
       UNION SELECT t.alias FROM flotilla_tombstones t JOIN needed USING (uuid) WHERE t.alias IS NOT NULL)
     DELETE FROM flotilla_tombstones WHERE uuid IN (
       SELECT uuid FROM ready WHERE uuid NOT IN (SELECT uuid FROM needed) LIMIT ${PRUNED_AT_ONCE})
     RETURNING run, hlc`,
    JSON.stringify([...known]),
    JSON.stringify([...referredByWaiting(library.sql)]),
  );
  library.reached('prune: forgotten');
  for (const [run, hlc] of gone) raiseFloor(library, Number(run), Number(hlc));
  library.reached('prune: floor raised');
  const blockedBy =
    gone.length === PRUNED_AT_ONCE
      ? []
      : counting.filter((member) => lacksTombstones(library, member)).map(({ device }) => device);
  return { pruned: gone.length, blockedBy };
}

/**
 * What versions refer to that wait for something else, as hex: once they are taken, its tombstone says whom they mean. Versions of tables
 * that are not here are left out: they may be as many as there are rows.
 */
function referredByWaiting(sql: Statements): Set<string> {
  const referred = new Set<string>();
  const page = `SELECT uuid, version FROM flotilla_pending WHERE uuid > ? AND version IS NOT NULL AND reason <> 'no-table' ORDER BY uuid LIMIT ${READ_AT_ONCE}`;
  for (let after: SqlValue = Buffer.alloc(0); ;) {
    const rows = sql.rows(page, after);
    for (const [, version] of rows)
      for (const { uuid } of targetsIn(decodeBatch(version as Uint8Array))) referred.add(bytesToHex(uuid));
    if (rows.length < READ_AT_ONCE) return referred;
    after = rows.at(-1)?.[0] ?? null;
  }
}

/** The members that are waited for, in a write transaction: all that were not silent for longer than the retention. */
export function countingMembers(
  library: Library,
  retentionDays: number,
  members: readonly Heard[] = heardMembers(library.sql, library.around.device),
): Heard[] {
  const awake = noteAwake(library, retentionDays);
  return members.filter(
    ({ at, knowledge }) => !isSetAside(library.around.now(), { at: Math.max(at, awake), knowledge }, retentionDays),
  );
}

/** How often it is noted that this device is there, ms. */
const ALIVE_EVERY_MS = 3_600_000;

/**
 * Since when this device has been there without a break of half the retention; ms since 1970, 0 for always. What others did not say while it
 * was away itself is no silence of theirs: back from a long absence it would set all of them aside, and forget its own deletes before
 * anybody has heard of them.
 */
function noteAwake(library: Library, retentionDays: number): number {
  const now = library.around.now();
  const [alive, since] = ['alive', 'awake'].map((key) => Number(getState(library.db, key) ?? 0)) as [number, number];
  const isBack = alive > 0 && now - alive > (retentionDays * DAY_MS) / 2;
  const awake = isBack ? now : Math.min(since, now);
  if (awake !== since) setState(library.db, 'awake', awake);
  if (isBack || Math.abs(now - alive) > ALIVE_EVERY_MS) setState(library.db, 'alive', now);
  return awake;
}

/** Whether a member has been silent for so long that pruning goes on without it. One that has never said a word blocks for good. */
export function isSetAside(
  now: number,
  { at, knowledge }: Pick<Heard, 'at' | 'knowledge'>,
  retentionDays: number,
): boolean {
  return knowledge.size > 0 && now - at > retentionDays * DAY_MS;
}

/** What this device and all of these members know: run → hlc. */
export function knownToAll(library: Library, members: readonly Heard[]): Map<number, number> {
  const known = new Map<number, number>();
  for (const [hex, own] of library.knowledge()) {
    const run = library.runOrdinal(hex, null);
    const least = members.reduce((hlc, { knowledge }) => Math.min(hlc, knowledge.get(run) ?? -1), own);
    if (least >= 0) known.set(run, least);
  }
  return known;
}

function lacksTombstones(library: Library, member: Heard): boolean {
  return lackedBy(library.sql, member).tombstones > 0;
}

/**
 * What a member is not known to have: how many tombstones, and outcomes of records that are older than so, and the stamp of the oldest.
 * @param before - ms since 1970
 */
function lackedBy(
  sql: Pick<Statements, 'rows'>,
  { knowledge }: Pick<Heard, 'knowledge'>,
  before = 0,
): { tombstones: number; records: number; oldest: number } {
  const [row] = sql.rows(
    `WITH known (run, hlc) AS (SELECT value ->> 0, value ->> 1 FROM json_each(?)),
     kept (run, hlc, is_record) AS (
       SELECT run, hlc, 0 FROM flotilla_tombstones
       UNION ALL SELECT kept_run, kept_hlc, 1 FROM flotilla_conflicts WHERE at < ?)
     SELECT count(*) - ifnull(sum(k.is_record), 0), ifnull(sum(k.is_record), 0), ifnull(min(k.hlc), 0) FROM kept k
     WHERE NOT EXISTS (SELECT 1 FROM known d WHERE d.run = k.run AND k.hlc <= d.hlc)`,
    JSON.stringify([...knowledge]),
    before,
  );
  const [tombstones = 0, records = 0, oldest = 0] = (row ?? []).map(Number);
  return { tombstones, records, oldest };
}

/** What pruning waits for, for people. */
export function pruningStatus(
  sql: Statements,
  own: string,
  now: number,
  { retentionDays = RETENTION_DAYS, conflictDays = CONFLICT_DAYS }: Pick<Config, 'retentionDays' | 'conflictDays'>,
): PruningStatus {
  const awake = sql.number("SELECT value FROM flotilla_state WHERE key = 'awake'");
  const behind = heardMembers(sql, own).flatMap((member) => {
    const { tombstones, records, oldest } = lackedBy(sql, member, now - conflictDays * DAY_MS);
    if (tombstones + records === 0) return [];
    const { device, at: seen, knowledge } = member;
    return [
      {
        device,
        tombstones,
        records,
        since: hlcToMs(oldest),
        seen,
        setAside: isSetAside(now, { at: Math.max(seen, awake), knowledge }, retentionDays),
      },
    ];
  });
  return { tombstones: sql.number('SELECT count(*) FROM flotilla_tombstones'), behind };
}

export function raiseFloor(library: Library, run: number, hlc: number): void {
  library.sql.run(
    `INSERT INTO flotilla_floor (run, hlc) VALUES (?, ?)
     ON CONFLICT (run) DO UPDATE SET hlc = excluded.hlc WHERE excluded.hlc > flotilla_floor.hlc`,
    run,
    hlc,
  );
}

/** Our floor: run id (hex) → hlc. */
export function floorOf(sql: Pick<Library['sql'], 'rows'>): Map<string, number> {
  const rows = sql.rows('SELECT r.id, f.hlc FROM flotilla_floor f JOIN flotilla_runs r ON r.run = f.run');
  return new Map(rows.map(([id, hlc]) => [bytesToHex(id as Uint8Array), Number(hlc)]));
}

/** Whether who knows so much lacks what was pruned up to a floor. */
export function isBelow(knowledge: ReadonlyMap<string, number>, floor: ReadonlyMap<string, number>): boolean {
  return [...floor].some(([run, hlc]) => (knowledge.get(run) ?? -1) < hlc);
}
