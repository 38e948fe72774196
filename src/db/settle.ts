/**
 * What deletes do to the rows that refer to what was deleted. It is decided at the end of a complete pass, never at a page
 * in the middle, and only when every stamp of the conflict is in our knowledge: before that, the move that would end the
 * conflict may still be on its way. The outcome is an ordinary stamped write of this device; every device that sees the
 * conflict writes the same one, so they converge. Rows of another device are left to their owner, and wait.
 *
 * CASCADE, SET NULL and SET DEFAULT are carried out here; the clauses that forbid a delete undo it (`revive.ts`).
 */
import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Batch, SqlValue, TableData } from '../protocol/types.ts';
import { writeTombstone } from './births.ts';
import { withoutStandingBlockers } from './blockers.ts';
import type { Cells } from './cells.ts';
import { formatCells, writeColumns } from './cells.ts';
import type { Doomed, Referrer, Verdict } from './deletes.ts';
import { carryOutDeletes, nodeId } from './deletes.ts';
import { cellsOf, columnNamed } from './incoming.ts';
import type { Setting, Target } from './join.ts';
import { rebear, translateRuns, writeVersion } from './join.ts';
import type { Library } from './library.ts';
import type { KnownVersion } from './lookup.ts';
import type { ForeignKey, Model } from './model.ts';
import { mapJoin, orAbort, quoteName, rowByKey, rowsTable } from './model.ts';
import { runBytes } from './page.ts';
import type { Pending } from './pending.ts';
import type { Judgement } from './revive.ts';
import { blockedDeletes, revive } from './revive.ts';
import { defaultOf, isCarriedOut } from './clauses.ts';
import { recordDelete } from './conflicts.ts';
import type { Key } from './sql.ts';
import { narrow, readBig } from './sql.ts';
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
  const waiting = waitingDeletes(library);
  if (waiting.length === 0) return 0;
  const judge: Judgement = {
    isSettled: (row) => isSettled(library, row),
    // A newer version that waits may refer to something else: this one decides nothing.
    isReferrerSettled: (row) => isSettled(library, row) && !hasWaitingVersion(library, row.uuid),
    mayWrite: (row) => mayWriteHere(library, row),
    isCarriedOut,
  };
  const { undone, undecided } = blockedDeletes(library, waiting, judge);
  for (const row of undone) revive(library, row);
  const doomed = waiting.filter((row) => !undone.includes(row));
  const refused = new Set<Doomed>();
  const gone = carryOutDeletes(library, doomed, (parent, referrer) => {
    if (undecided.has(nodeId(parent.model, parent.key))) return 'stays';
    if (!judge.isReferrerSettled(referrer) || !judge.mayWrite(referrer)) return 'stays';
    const verdict = settleReferrer(library, referrer);
    if (verdict === 'stays') refused.add(parent);
    return verdict;
  });
  // A CHECK forbids it, or a unique index that has the rest of the row already: SQLite would have refused the delete.
  const kept = [...refused].filter((row) => row.isWaiting === true && judge.mayWrite(row));
  for (const row of kept) revive(library, row);
  return gone + undone.length + kept.length;
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

/** Does to a row what the ON DELETE of its foreign key says. It stays as it is when a constraint does not allow it. */
function settleReferrer(library: Library, referrer: Referrer): Verdict {
  const { model, foreignKey, uuid, key, birthHlc, birthRun } = referrer;
  if (foreignKey.onDelete === 'CASCADE') {
    writeTombstone(library, model, uuid, birthHlc, birthRun, library.around.now(), referrer.cells);
    return { model, key, uuid, birthHlc, birthRun, hlc: library.hlc, run: library.run, discards: 'cascade' };
  }
  return library.attempt(() => clearReference(library, referrer)) ? 'released' : 'stays';
}

function clearReference(library: Library, { model, foreignKey, key, cells: before }: Referrer): boolean {
  const isDefault = foreignKey.onDelete === 'SET DEFAULT';
  const set = foreignKey.columns.map(
    (name) => `${quoteName(name)} = ${(isDefault ? defaultOf(model, name) : null) ?? 'NULL'}`,
  );
  try {
    library.sql.run(
      `UPDATE ${orAbort(model)}${quoteName(model.table)} SET ${set.join(', ')} WHERE ${rowByKey(model)}`,
      key,
    );
  } catch (error) {
    if (!isConstraint(error)) throw error;
    return false;
  }
  if (isDefault && !hasTarget(library, model, foreignKey, key)) return false;
  const hlc = library.stampAt(library.around.now());
  const numbers = foreignKey.columns.map((name) => columnNamed(model, name).number);
  const cells = model.ownership === 'device' ? before : writeColumns(before, numbers, { hlc, run: library.run });
  library.sql.run(
    `UPDATE ${rowsTable(model)} SET hlc = ?, run = ?, lsn = ?, cells = ? WHERE key = ?`,
    hlc,
    library.run,
    library.nextLsn(),
    formatCells(cells),
    key,
  );
  return true;
}

/** The defaults of a foreign key must mean a row that is here, or nothing. */
function hasTarget(library: Library, model: Model, { columns, table, targets }: ForeignKey, key: Key): boolean {
  const own = (name: string): string => `${quoteName(model.table)}.${quoteName(name)}`;
  const on = columns.map((name, i) => `p.${quoteName(targets[i] ?? '')} = ${own(name)}`).join(' AND ');
  const isNull = columns.map((name) => `${own(name)} IS NULL`).join(' OR ');
  return (
    library.sql.value(
      `SELECT 1 FROM ${quoteName(model.table)}
       WHERE ${rowByKey(model)} AND (${isNull} OR EXISTS (SELECT 1 FROM ${quoteName(table)} p WHERE ${on}))`,
      key,
    ) !== undefined
  );
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
  let moved = false;
  for (const waiting of versionsOfDeadTargets(library)) {
    if (hasWaitingVersion(library, waiting.uuid) && settleVersion(library, waiting, merge)) moved = true;
  }
  return moved;
}

function settleVersion(library: Library, waiting: Omit<Pending, 'targets'>, merge: MergeWaiting): boolean {
  const { model, uuid } = waiting;
  if (waiting.version === null || !mayWriteHere(library, waiting)) return false;
  const version = decodeBatch(waiting.version);
  const cells = cellsOf(model, version.tables[0] as TableData, 0, translateRuns(library, version));
  if (!isSettled(library, { ...waiting, cells })) return false;
  const dead = model.foreignKeys.filter((foreignKey) => targetState(library, version, foreignKey) === 'dead');
  if (dead.some((foreignKey) => foreignKey.onDelete === 'CASCADE')) {
    forgetPending(library, uuid);
    writeTombstone(library, model, uuid, waiting.birthHlc, waiting.birthRun, library.around.now(), cells);
    holdOlderVersion(library, waiting);
    return true;
  }
  const cleared = dead.map((key) => (isCarriedOut(model, key) ? clearedBy(library, model, key) : null));
  const forbidding = dead.filter((_, i) => cleared[i] === null);
  if (forbidding.length > 0) return reviveTargets(library, model, version, forbidding, merge);
  const settings = new Map(cleared.flatMap((settings) => settings ?? []));
  if (settings.size === 0) return false;
  merge(decodeBatch(encodeBatch(writeVersion(library, model, version, settings))), []);
  return true;
}

/**
 * What SET NULL or SET DEFAULT puts into the columns of a waiting version. A default means a row of this device, as it does to
 * SQLite. Null when there is no such row.
 */
function clearedBy(library: Library, model: Model, foreignKey: ForeignKey): [string, Setting][] | null {
  const { onDelete, columns } = foreignKey;
  const values = columns.map((name) => {
    const text = onDelete === 'SET DEFAULT' ? defaultOf(model, name) : null;
    return text === null ? null : (readBig(library.sql.get(`SELECT ${text}`), [])[0]?.[0] ?? null);
  });
  const isNull = values.includes(null);
  const target = isNull ? null : findTarget(library, foreignKey, values);
  if (!isNull && target === null) return null;
  return columns.map((name, i): [string, Setting] => [name, { value: narrow(values[i] ?? null), target }]);
}

/** The row here that a foreign key with these values refers to. */
function findTarget(library: Library, { table, targets }: ForeignKey, values: readonly SqlValue[]): Target | null {
  const model = library.model(table);
  const where = targets.map((name) => `t.${quoteName(name)} = ?`).join(' AND ');
  const row = library.sql.rows(
    `SELECT m.uuid, m.birth_hlc, m.birth_run FROM ${quoteName(table)} t CROSS JOIN ${rowsTable(model)} m ON ${mapJoin(model)} WHERE ${where}`,
    ...values,
  )[0];
  if (row === undefined) return null;
  return { model, uuid: row[0] as Uint8Array, birth: { hlc: Number(row[1]), run: Number(row[2]) } };
}

/** Bears the rows again that a waiting version refers to and that may not go, from what their tombstones keep. */
function reviveTargets(
  library: Library,
  model: Model,
  version: Batch,
  forbidding: readonly ForeignKey[],
  merge: MergeWaiting,
): boolean {
  const revived = new Map<string, Batch>();
  const queue = forbidding.map((foreignKey) => ({ of: model, version, foreignKey }));
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const uuid = targetOf(next.version, next.foreignKey);
    const target = library.model(next.foreignKey.table);
    if (uuid === null || revived.has(bytesToHex(uuid))) continue;
    const grave = library.sql.rows(
      'SELECT birth_run, hlc, run, version FROM flotilla_tombstones WHERE uuid = ?',
      uuid,
    )[0];
    // Its values went with somebody else: whoever has them, or the row, bears it again.
    if (grave === undefined || grave[3] === null) return false;
    const [birthRun, hlc, run] = grave.map(Number) as [number, number, number];
    if (!mayWriteHere(library, { model: target, birthRun })) return false;
    const last = decodeBatch(grave[3] as Uint8Array);
    revived.set(bytesToHex(uuid), rebear(library, last));
    recordDelete(library, { model: target, uuid, hlc, run }, { hlc: library.hlc, run: library.run });
    for (const foreignKey of target.foreignKeys) {
      const isNeeded = foreignKey.onDelete === 'CASCADE' || !isCarriedOut(target, foreignKey);
      if (isNeeded && targetState(library, last, foreignKey) === 'dead')
        queue.push({ of: target, version: last, foreignKey });
    }
  }
  merge(joinVersions(library, [...revived.values()]), []);
  return revived.size > 0;
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

/** Place in its dictionary of the row that a version's foreign key refers to; −1 for none, or for itself. */
function targetIndex(version: Batch, foreignKey: ForeignKey): number {
  const table = version.tables[0];
  const column = table?.columns.find((candidate) => candidate.name === foreignKey.wires[0]);
  const dependency = table?.dependencies.find((candidate) => candidate.foreignKey === foreignKey.number);
  const target = (foreignKey.simple ? (column?.kind === 'ref' ? column.refs[0] : -1) : dependency?.refs[0]) ?? -1;
  return target === table?.rows[0] ? -1 : target;
}

function uuidAt(version: Batch, index: number): Buffer {
  return Buffer.from(version.uuids.subarray(index * 16, index * 16 + 16));
}

function targetOf(version: Batch, foreignKey: ForeignKey): Buffer | null {
  const target = targetIndex(version, foreignKey);
  return target < 0 ? null : uuidAt(version, target);
}

/** How the target of a waiting version's foreign key stands. */
function targetState(library: Library, version: Batch, foreignKey: ForeignKey): 'alive' | 'unsettled' | 'dead' {
  const target = targetIndex(version, foreignKey);
  if (target < 0) return 'alive';
  const uuid = uuidAt(version, target);
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

function isConstraint(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('SQLITE_CONSTRAINT');
}
