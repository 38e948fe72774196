/**
 * Coming back after so long that deletes were pruned meanwhile. The pass goes from the beginning and names every row that the sender has.
 * At its end, in one transaction: what the sender knows of and has no longer was deleted; what was written here meanwhile is written anew
 * (its old stamps may be older than deletes of which nothing is left); and the sender's floor is ours.
 */
import type { Database } from 'better-sqlite3';

import type { Batch, ColumnData, DependencyData, KnowledgeWire, PassKind } from '../protocol/types.ts';
import { hlcToMs } from '../protocol/hlc.ts';
import { encodedKey } from './capture.ts';
import { MEMBERSHIP_TABLE } from './choose.ts';
import type { Cells } from './cells.ts';
import { formatSeen, parseCells, seenIn } from './cells.ts';
import { floorOf, isBelow, raiseFloor } from './floor.ts';
import { recordDead } from './given-up.ts';
import { entriesOf } from './knowledge-wire.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { mapJoin, quoteName, rowsTable } from './model.ts';
import { cellsWaiting } from './owned-versions.ts';
import { forgetPending, putPending } from './pending.ts';
import { OP_REBORN } from './remark.ts';
import { isStaying } from './settled.ts';
import type { Key, RawRow } from './sql.ts';
import { jsonKeys } from './sql.ts';
import { asWriter } from './stamp.ts';

/** From whom an open library takes a pass that reconciles: one at a time, since what is not named in it goes. */
interface Reconciling {
  /** null: from nobody at the moment. */
  peer: string | null;
  /** Who was asked for one, and was not waited for any longer. */
  readonly late: Set<string>;
  /** Who has been told of our floor, with its own as it said in return; null: it has not yet. */
  readonly told: Map<string, ReadonlyMap<string, number> | null>;
  /** Who was told of a lower one than that which we have taken over since. */
  readonly outdated: Set<string>;
}

const reconciling = new WeakMap<Database, Reconciling>();

function stateOf({ db }: Library): Reconciling {
  const state = reconciling.get(db) ?? { peer: null, late: new Set(), told: new Map(), outdated: new Set() };
  reconciling.set(db, state);
  return state;
}

/** A peer is told of our floor, with the beginning of a session: if it knows less, it reconciles before it gives us anything. */
export function noteTold(library: Library, peer: string): void {
  const { told, outdated } = stateOf(library);
  told.set(peer, null);
  outdated.delete(peer);
}

/** What a peer has said of its own floor, in the same session. */
export function noteFloor(library: Library, peer: string, floor: ReadonlyMap<string, number>): void {
  stateOf(library).told.set(peer, floor);
}

/** This device has taken over the floor of `giver`: nobody else has been told of it. Who has forgotten as much himself may go on. */
export function noteTakenOver(library: Library, giver: string): void {
  const { told, outdated } = stateOf(library);
  const ours = floorOf(library.sql);
  for (const [peer, floor] of told) if (peer !== giver && isBelow(floor ?? new Map(), ours)) outdated.add(peer);
}

/** Whether a peer began to give when it had been told of a lower floor: it may give what was deleted, and forgotten here since. */
export function isOutdated(library: Library, peer: string): boolean {
  return stateOf(library).outdated.has(peer);
}

/** Begins a pass from a peer; of one that reconciles nothing has been named yet. */
export function beginPass(library: Library, peer: string, kind: PassKind): void {
  const state = stateOf(library);
  state.late.delete(peer);
  if (kind !== 'reconcile') {
    if (state.peer === peer) state.peer = null;
    return;
  }
  if (state.peer !== null && state.peer !== peer) state.late.add(state.peer);
  state.peer = peer;
  library.db.exec(
    'CREATE TEMP TABLE IF NOT EXISTS flotilla_named (uuid BLOB PRIMARY KEY) WITHOUT ROWID; DELETE FROM temp.flotilla_named',
  );
}

/** Whether what this peer sends is such a pass. */
export function isReconcilingWith(library: Library, peer: string): boolean {
  return stateOf(library).peer === peer;
}

/** Whether this peer was asked for such a pass, and another one has taken over since. */
export function isLate(library: Library, peer: string): boolean {
  return stateOf(library).late.has(peer);
}

/**
 * Notes the rows that a page says are there: those that it brings, and those that it names for no other reason. What it says is dead dies
 * of its tombstone; and what a row refers to that waits need not be there.
 */
export function noteNamed(library: Library, batch: Batch): void {
  const brought = new Set(batch.tables.flatMap(({ rows }) => rows));
  const meant = new Set([
    ...batch.tombstones.flatMap(({ rows, alias }) => [...rows, ...alias]),
    ...batch.tables.flatMap(({ columns, dependencies }) => [...columns, ...dependencies].flatMap(refsOf)),
  ]);
  for (let index = 0; index < batch.birthHlc.length; index += 1) {
    if (meant.has(index) && !brought.has(index)) continue;
    const uuid = Buffer.from(batch.uuids.subarray(index * 16, index * 16 + 16));
    library.sql.run('INSERT OR IGNORE INTO temp.flotilla_named (uuid) VALUES (?)', uuid);
  }
}

function refsOf(column: ColumnData | DependencyData): readonly number[] {
  return 'refs' in column ? column.refs : [];
}

/** A row that the sender knows of and has no longer. */
export interface Missing {
  readonly uuid: Buffer;
  /** The tombstone of an earlier life, if one is here: others may still need it. */
  readonly before: RawRow | null;
}

const GRAVE = 'uuid, tbl, birth_hlc, birth_run, hlc, run, lsn, seen, version, alias';

/** What the sender knows, as local numbers of runs. */
type Known = ReadonlyMap<number, number>;

/**
 * After the last page was merged and its knowledge taken over, before what waits is settled.
 * @param knowledge - all that the sender knows
 * @param lost - tables, by their names on the wire, of which it has nothing any more and cannot say what was deleted
 * @returns the rows that are to go
 */
export function finishReconciling(
  library: Library,
  knowledge: KnowledgeWire,
  floor: KnowledgeWire,
  lost: readonly string[] = [],
): Missing[] {
  const known = new Map(entriesOf(knowledge).map(([run, hlc]) => [library.runOrdinal(run, null), hlc]));
  // Records of membership are never deleted, and stand for themselves whoever has them.
  const models = library.registry.models.filter(({ table }) => table !== MEMBERSHIP_TABLE);
  // Versions wait of tables as well that this device does not have.
  const gone = [...models, ...library.registry.absent]
    .filter(({ wire }) => !lost.includes(wire))
    .flatMap((model) => buryMissing(library, model, known));
  for (const model of models) bearAnew(library, model, known, floor);
  for (const [run, hlc] of entriesOf(floor)) raiseFloor(library, library.runOrdinal(run, null), hlc);
  library.db.exec('DELETE FROM temp.flotilla_named');
  return gone;
}

/**
 * Gives rows that the sender knows of and has no longer a tombstone, under which they go or are born again, as with any delete that comes
 * late. It is stamped with the sender's last stamp: whoever has that knows that they are gone. Versions of them that wait are given up.
 */
function buryMissing(library: Library, model: Model, known: Known): Missing[] {
  const last = [...known].reduce<readonly [run: number, hlc: number]>((a, b) => (b[1] > a[1] ? b : a), [0, -1]);
  const gone: Missing[] = [];
  for (const { uuid, birthHlc, birthRun, cells, waits } of unnamed(library, model)) {
    if (!covers(known, birthRun, birthHlc)) continue;
    const seen = formatSeen(seenIn(cells).filter(({ run, hlc }) => covers(known, run, hlc)));
    const stamp = { birthHlc, birthRun, hlc: last[1], run: last[0] };
    const before = library.sql.rows(`SELECT ${GRAVE} FROM flotilla_tombstones WHERE uuid = ?`, uuid)[0] ?? null;
    if (waits) {
      recordDead(library, model, uuid, { ...stamp, seen });
      forgetPending(library, uuid);
    }
    library.sql.run(
      'INSERT OR REPLACE INTO flotilla_tombstones (uuid, tbl, birth_hlc, birth_run, hlc, run, lsn, seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      uuid,
      model.n,
      stamp.birthHlc,
      stamp.birthRun,
      stamp.hlc,
      stamp.run,
      library.nextLsn(),
      seen,
    );
    gone.push({ uuid, before });
    if (waits && library.sql.value(`SELECT 1 FROM ${rowsTable(model)} WHERE uuid = ?`, uuid) === undefined) continue;
    putPending(library, {
      model,
      uuid,
      ...stamp,
      reason: 'referrers',
      detail: 'It was deleted while this device was away.',
      version: null,
      targets: [],
    });
  }
  return gone;
}

/** A row that the sender has not named: as it stands here, or as a version of it waits. */
interface Unnamed {
  readonly uuid: Buffer;
  readonly birthHlc: number;
  readonly birthRun: number;
  readonly cells: Cells;
  readonly waits: boolean;
}

function unnamed(library: Library, model: Model): Unnamed[] {
  const isUnnamed = (row: string): string =>
    `NOT EXISTS (SELECT 1 FROM temp.flotilla_named n WHERE n.uuid = ${row}.uuid)`;
  const rows = library.sql.rows(
    `SELECT p.uuid, p.birth_hlc, p.birth_run, NULL, 1 FROM flotilla_pending p
     WHERE p.tbl = ? AND p.version IS NOT NULL AND ${isUnnamed('p')}
     UNION ALL
     SELECT m.uuid, m.birth_hlc, m.birth_run, m.cells, 0 FROM ${rowsTable(model)} m
     WHERE ${isUnnamed('m')} AND NOT EXISTS (SELECT 1 FROM flotilla_pending p WHERE p.uuid = m.uuid) AND ${isStaying('m')}`,
    model.n,
  );
  return rows.map(([id, birthHlc, birthRun, cells, waits]) => {
    const uuid = Buffer.from(id as Uint8Array);
    return {
      uuid,
      birthHlc: Number(birthHlc),
      birthRun: Number(birthRun),
      cells: waits === 1 ? cellsWaiting(library, model, uuid) : parseCells(cells),
      waits: waits === 1,
    };
  });
}

/** A row's first birth is stamped when its UUID is made; beyond that, ms, it is taken for a later one. */
const SAME_MOMENT_MS = 10_000;

/**
 * Rows that the sender does not know of, and of whose identity it may have pruned a later delete, begin anew: some still have that delete,
 * and would take it for one of this row. That cannot be of a row with a UUID of its own in its first life. Rows of other devices are left
 * to those.
 */
function bearAnew(library: Library, model: Model, known: Known, floor: KnowledgeWire): void {
  const last = Math.max(-1, ...floor.hlc);
  const rows = library.sql.rows(
    `SELECT key, uuid, birth_run, birth_hlc FROM ${rowsTable(model)} WHERE birth_hlc <= ?`,
    last,
  );
  const keys = rows
    .filter(([, , run, hlc]) => !covers(known, Number(run), Number(hlc)))
    .filter(([, , run]) => model.ownership === 'shared' || library.runDevice(Number(run)) === library.around.device)
    .filter(([, uuid, , hlc]) => model.identity.kind === 'derived' || !isFirstBirth(uuid as Uint8Array, Number(hlc)))
    .map(([key]) => key as Key);
  if (keys.length === 0) return;
  asWriter(library, () =>
    library.sql.run(
      `INSERT INTO flotilla_marks (tbl, op, old, new, at, mask)
       SELECT ${model.n}, ${OP_REBORN}, ${encodedKey(model, 't')}, ${encodedKey(model, 't')}, ?, 0
       FROM json_each(?) j CROSS JOIN ${rowsTable(model)} m ON m.key = j.value CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)}`,
      library.around.now(),
      jsonKeys(keys),
    ),
  );
}

/** Whether a row with a v7 UUID was born when that was made. */
function isFirstBirth(uuid: Uint8Array, hlc: number): boolean {
  return Buffer.from(uuid).readUIntBE(0, 6) + SAME_MOMENT_MS > hlcToMs(hlc);
}

/** The transaction that ended it is durable. */
export function endReconciling(library: Library): void {
  const state = stateOf(library);
  if (state.peer !== null) noteTakenOver(library, state.peer);
  state.peer = null;
}

/**
 * The new tombstones of rows that have gone say nothing to anybody: whoever may hear of them has pruned them, or will reconcile. Those of rows
 * that cannot go yet are deletes of our own from now on, so that they spread: what refers to such a row is another device's, and waits
 * there for a row of which that device has nothing any more, if it was restored.
 */
export function forgetGraves(library: Library, gone: readonly Missing[]): void {
  for (const { uuid, before } of gone) {
    const forgotten = library.sql.run(
      `DELETE FROM flotilla_tombstones AS t WHERE uuid = ? AND alias IS NULL
         AND NOT EXISTS (SELECT 1 FROM flotilla_pending p WHERE p.uuid = t.uuid)
         AND NOT EXISTS (SELECT 1 FROM flotilla_waits w WHERE w.target = t.uuid)`,
      uuid,
    );
    if (forgotten > 0 && before !== null)
      library.sql.run(`INSERT INTO flotilla_tombstones (${GRAVE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, ...before);
    if (forgotten === 0) stampGrave(library, uuid);
  }
}

/** Makes a delete that waits here one of our own. */
function stampGrave(library: Library, uuid: Buffer): void {
  if (library.sql.value('SELECT 1 FROM flotilla_pending WHERE uuid = ? AND version IS NULL', uuid) === undefined)
    return;
  const stamp = [library.stampAt(library.around.now()), library.run];
  for (const table of ['flotilla_tombstones', 'flotilla_pending'])
    library.sql.run(`UPDATE ${table} SET hlc = ?, run = ?, lsn = ? WHERE uuid = ?`, ...stamp, library.nextLsn(), uuid);
}

function covers(known: Known, run: number, hlc: number): boolean {
  return hlc <= (known.get(run) ?? -1);
}
