/**
 * What deletes do to the rows that refer to what was deleted. It is decided at the end of a complete pass, never at a page
 * in the middle, and only when every stamp of the conflict is in our knowledge: before that, the move that would end the
 * conflict may still be on its way. The outcome is an ordinary stamped write of this device; every device that sees the
 * conflict writes the same one, so they converge. Rows of another device are left to their owner, and wait.
 *
 * ON DELETE CASCADE and SET NULL are carried out here. The other clauses wait, listed, until the release that does them.
 */
import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Batch, TableData } from '../protocol/types.ts';
import { writeTombstone } from './births.ts';
import { withoutStandingBlockers } from './blockers.ts';
import type { Cells } from './cells.ts';
import { formatCells, writeColumns } from './cells.ts';
import type { Doomed, Referrer, Verdict } from './deletes.ts';
import { carryOutDeletes } from './deletes.ts';
import { cellsOf, columnNamed } from './incoming.ts';
import { wiresOf } from './describe.ts';
import { clearColumns, translateRuns } from './join.ts';
import type { Library } from './library.ts';
import type { KnownVersion } from './lookup.ts';
import type { ForeignKey, Model } from './model.ts';
import { mapJoin, quoteName, rowsTable } from './model.ts';
import { runBytes } from './page.ts';
import type { Pending } from './pending.ts';
import {
  forgetPending,
  hasPending,
  pendingDeletes,
  putPending,
  readVersionsOf,
  unboundVersions,
  versionsOfDeadTargets,
} from './pending.ts';
import { joinVersions } from './version.ts';

/** Merges versions that wait here, in the running transaction. `doomed` are the rows whose delete waits. */
export type MergeWaiting = (versions: Batch, doomed: readonly Doomed[]) => void;

/** Settles what can be settled now; called at the end of a complete pass, in its transaction. */
export function settle(library: Library, merge: MergeWaiting, holdDeletes: boolean): void {
  // Each round carries out what the last one made possible; it ends, since each ends some row's waiting.
  for (let moved = true; moved && hasPending(library);) {
    moved = !holdDeletes && settleDeletes(library) > 0;
    moved = retryVersions(library, merge, holdDeletes) || moved;
    moved = settleVersions(library, merge) || moved;
  }
}

/** Tries those versions again that wait for no row, and writes nothing of our own: it may be done at any time. */
export function retryWaiting(library: Library, merge: MergeWaiting): void {
  while (retryVersions(library, merge, false));
}

// -- deletes that wait because rows here refer to what they delete

function settleDeletes(library: Library): number {
  const doomed = waitingDeletes(library);
  if (doomed.length === 0) return 0;
  const known = new Map<Doomed, boolean>();
  return carryOutDeletes(library, doomed, (parent, referrer) => {
    const isKnown = known.get(parent) ?? isSettled(library, parent);
    known.set(parent, isKnown);
    return isKnown ? settleReferrer(library, referrer) : 'stays';
  });
}

/** Rows whose delete waits; deletes of rows that have gone meanwhile wait no more. */
function waitingDeletes(library: Library): Doomed[] {
  const doomed: Doomed[] = [];
  for (const waiting of pendingDeletes(library)) {
    if (waiting.key === null) forgetPending(library, waiting.uuid);
    else
      doomed.push({
        ...waiting,
        key: waiting.key,
        isWaiting: true,
        ...(waiting.isUnseen ? { discards: 'deleted' } : {}),
      });
  }
  return doomed;
}

function settleReferrer(library: Library, referrer: Referrer): Verdict {
  const { model, foreignKey, uuid, key, birthHlc, birthRun } = referrer;
  if (!isCarriedOut(model, foreignKey)) return 'stays';
  // A newer version waits, which may refer to something else: this one decides nothing.
  if (!isSettled(library, referrer) || !mayWriteHere(library, referrer) || hasWaitingVersion(library, uuid))
    return 'stays';
  if (foreignKey.onDelete === 'CASCADE') {
    writeTombstone(library, model, uuid, birthHlc, birthRun, library.around.now(), referrer.cells);
    return { model, key, uuid, birthHlc, birthRun, hlc: library.hlc, run: library.run, discards: 'cascade' };
  }
  const table = quoteName(model.table);
  const set = foreignKey.columns.map((column) => `${quoteName(column)} = NULL`).join(', ');
  try {
    library.sql.run(
      `UPDATE ${table} SET ${set} WHERE rowid IN (
         SELECT t.rowid FROM ${rowsTable(model)} m CROSS JOIN ${table} t ON ${mapJoin(model)} WHERE m.key = ?)`,
      key,
    );
  } catch (error) {
    // A CHECK that forbids it, or a unique index that has the rest of the row already.
    if (!isConstraint(error)) throw error;
    return 'stays';
  }
  const hlc = library.stampAt(library.around.now());
  const numbers = foreignKey.columns.map((name) => columnNamed(model, name).number);
  const cells =
    model.ownership === 'device' ? referrer.cells : writeColumns(referrer.cells, numbers, { hlc, run: library.run });
  library.sql.run(
    `UPDATE ${rowsTable(model)} SET hlc = ?, run = ?, lsn = ?, cells = ? WHERE key = ?`,
    hlc,
    library.run,
    library.nextLsn(),
    formatCells(cells),
    key,
  );
  return 'released';
}

// -- versions that wait

/** Tries those again that wait for no row: a collision may have ended. All together, since they may exchange values. */
function retryVersions(library: Library, merge: MergeWaiting, holdDeletes: boolean): boolean {
  const before = unboundVersions(library);
  const versions = withoutStandingBlockers(library, before);
  if (versions.length === 0) return false;
  merge(
    joinVersions(library, readVersionsOf(library, versions).map(decodeBatch)),
    holdDeletes ? [] : waitingDeletes(library),
  );
  return unboundVersions(library).length < before.length;
}

/** Those that refer to a row that was deleted get what the ON DELETE of their foreign key says. */
function settleVersions(library: Library, merge: MergeWaiting): boolean {
  const models = library.registry.models.filter((model) =>
    model.foreignKeys.some((foreignKey) => isCarriedOut(model, foreignKey)),
  );
  let moved = false;
  for (const waiting of versionsOfDeadTargets(library, models)) {
    if (hasWaitingVersion(library, waiting.uuid) && settleVersion(library, waiting, merge)) moved = true;
  }
  return moved;
}

/** Whether this release does what the foreign key says of a deleted target. */
function isCarriedOut(model: Model, { onDelete, columns }: ForeignKey): boolean {
  return onDelete === 'CASCADE' || (onDelete === 'SET NULL' && canBeNull(model, columns));
}

function settleVersion(library: Library, waiting: Omit<Pending, 'targets'>, merge: MergeWaiting): boolean {
  const { model, uuid } = waiting;
  if (waiting.version === null || !mayWriteHere(library, waiting)) return false;
  const version = decodeBatch(waiting.version);
  const cells = cellsOf(model, version.tables[0] as TableData, 0, translateRuns(library, version));
  if (!isSettled(library, { ...waiting, cells })) return false;
  const dead = model.foreignKeys.filter((foreignKey) => targetState(library, model, version, foreignKey) === 'dead');
  if (dead.some((foreignKey) => foreignKey.onDelete === 'CASCADE')) {
    forgetPending(library, uuid);
    writeTombstone(library, model, uuid, waiting.birthHlc, waiting.birthRun, library.around.now(), cells);
    holdOlderVersion(library, waiting);
    return true;
  }
  if (!dead.every((foreignKey) => isCarriedOut(model, foreignKey))) return false;
  const cleared = new Set(dead.flatMap((foreignKey) => foreignKey.columns));
  if (cleared.size === 0) return false;
  merge(decodeBatch(encodeBatch(clearColumns(library, model, version, cleared))), []);
  return true;
}

/** The older version of a row whose newer one has just been deleted goes as well, when nothing refers to it any more. */
function holdOlderVersion(library: Library, waiting: Omit<Pending, 'targets'>): void {
  const row = library.sql.value(`SELECT 1 FROM ${rowsTable(waiting.model)} WHERE uuid = ?`, Buffer.from(waiting.uuid));
  if (row === undefined) return;
  putPending(library, {
    ...waiting,
    reason: 'referrers',
    detail: 'The row that it refers to was deleted.',
    version: null,
    targets: [],
  });
}

/** How the target of a waiting version's foreign key stands. */
function targetState(
  library: Library,
  model: Model,
  version: Batch,
  foreignKey: ForeignKey,
): 'alive' | 'unsettled' | 'dead' {
  const table = version.tables[0];
  if (table === undefined) return 'alive';
  const column = table.columns.find((candidate) => candidate.name === wiresOf(model, foreignKey.columns)[0]);
  const dependency = table.dependencies.find((candidate) => candidate.foreignKey === foreignKey.number);
  const target = (foreignKey.simple ? (column?.kind === 'ref' ? column.refs[0] : -1) : dependency?.refs[0]) ?? -1;
  if (target < 0 || target === table.rows[0]) return 'alive';
  const uuid = Buffer.from(version.uuids.subarray(target * 16, target * 16 + 16));
  if (
    library.sql.value(`SELECT 1 FROM ${rowsTable(library.model(foreignKey.table))} WHERE uuid = ?`, uuid) !== undefined
  )
    return 'alive';
  if (hasWaitingVersion(library, uuid)) return 'unsettled';
  const tombstone = library.sql.rows('SELECT hlc, run FROM flotilla_tombstones WHERE uuid = ?', uuid)[0];
  // Without a tombstone nothing is decided, even if its birth is in our knowledge: it may have stayed behind at its writer, for
  // lack of a target of its own, and will be born again.
  if (tombstone === undefined) return 'unsettled';
  const [hlc, run] = tombstone.map(Number) as [number, number];
  const birthRun = library.runOrdinal(bytesToHex(runBytes(version, version.birthRun[target] ?? 0)), null);
  // A tombstone from before the target's birth says nothing: that row is still to come.
  if (library.compare(version.birthHlc[target] ?? 0, birthRun, hlc, run) > 0) return 'unsettled';
  return library.isSettled(run, hlc) ? 'dead' : 'unsettled';
}

function hasWaitingVersion(library: Library, uuid: Uint8Array): boolean {
  return (
    library.sql.value('SELECT 1 FROM flotilla_pending WHERE uuid = ? AND version IS NOT NULL', Buffer.from(uuid)) !==
    undefined
  );
}

/** Nothing about it can still be on its way from where we have heard of it. */
function isSettled(library: Library, version: KnownVersion & { readonly cells?: Cells }): boolean {
  const stamps = [...(version.cells?.values() ?? []), version, { hlc: version.birthHlc, run: version.birthRun }];
  return stamps.every(({ hlc, run }) => library.isSettled(run, hlc));
}

function mayWriteHere(library: Library, row: { readonly model: Model; readonly birthRun: number }): boolean {
  return row.model.ownership === 'shared' || library.runDevice(row.birthRun) === library.around.device;
}

function canBeNull(model: Model, columns: readonly string[]): boolean {
  return columns.every((name) => {
    const column = model.columns.find((candidate) => candidate.name === name);
    return column !== undefined && !column.notNull && !model.key.includes(name) && column.role.kind !== 'local';
  });
}

function isConstraint(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('SQLITE_CONSTRAINT');
}
