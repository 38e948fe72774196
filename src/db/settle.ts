/**
 * What deletes do to the rows that refer to what was deleted. It is decided at the end of a complete pass, never at a page
 * in the middle, and only when every stamp of the conflict is in our knowledge: before that, the move that would end the
 * conflict may still be on its way. The outcome is an ordinary stamped write of this device; every device that sees the
 * conflict writes the same one, so they converge. Rows of another device are left to their owner, and wait.
 *
 * CASCADE, SET NULL and SET DEFAULT are carried out here; the clauses that forbid a delete undo it (`revive.ts`).
 */
import { decodeBatch } from '../protocol/batch.ts';
import type { Batch } from '../protocol/types.ts';
import { admitHeir, redirect } from './alias.ts';
import { writeTombstone } from './births.ts';
import { withoutStandingBlockers } from './blockers.ts';
import { defaultOf, isCarriedOut } from './clauses.ts';
import { settleCollisions } from './collisions.ts';
import { settleCycles } from './cycles.ts';
import type { Doomed, Referrer, Verdict } from './deletes.ts';
import { carryOutDeletes, referrersOf, waitingDeletes } from './deletes.ts';
import { heirOf, lastHeir } from './heirs.ts';
import type { Library } from './library.ts';
import type { ForeignKey, Model } from './model.ts';
import { mapJoin, quoteName, refersTo, rowByKey, rowsTable } from './model.ts';
import { bearAgain, settleOrphans } from './orphans.ts';
import { writeOutcome } from './outcome.ts';
import { hasPending, hasWaitingVersion, readVersionsOf, unboundVersions, waitersOf } from './pending.ts';
import { nodeId } from './removal.ts';
import type { Judgement } from './revive.ts';
import { blockedDeletes, revive } from './revive.ts';
import { settleRivalNames } from './rival-names.ts';
import { standingRow } from './rivals.ts';
import { cellsHere, mayWriteHere, ownsHere } from './owned-outcomes.ts';
import { isSettled, isStaying } from './settled.ts';
import type { Key } from './sql.ts';
import { joinVersions } from './version.ts';

/** Merges versions that wait here, in the running transaction. `doomed` are the rows whose delete waits. */
export type MergeWaiting = (versions: Batch, doomed: readonly Doomed[]) => void;

/** Settles what can be settled now; called at the end of a complete pass, in its transaction. */
export function settle(library: Library, merge: MergeWaiting, holdDeletes: boolean): void {
  if (!holdDeletes) settleRivalNames(library);
  // Each round carries out what the last one made possible; it ends, since each ends some row's waiting.
  for (let moved = true; moved && hasPending(library);) {
    moved = !holdDeletes && settleDeletes(library, merge) > 0;
    moved = retryVersions(library, merge, holdDeletes) || moved;
    moved = settleOrphans(library, merge) || moved;
    moved = settleCollisions(library, merge) || moved;
    moved = settleCycles(library, merge) || moved;
  }
}

/** Tries those versions again that wait for no row, and writes nothing of our own: it may be done at any time. */
export function retryWaiting(library: Library, merge: MergeWaiting): void {
  while (retryVersions(library, merge, false));
}

// -- deletes that wait because rows here refer to what they delete

function settleDeletes(library: Library, merge: MergeWaiting): number {
  if (redirectToHeirs(library, merge)) return 1;
  const waiting = waitingDeletes(library);
  if (waiting.length === 0) return 0;
  const judge: Judgement = {
    // Whoever refers to a row that has an heir will refer to that.
    isSettled: (row) => isSettled(library, row) && heirOf(library, row.model, row.uuid) === 'none',
    lastName: (row) => {
      const last = lastHeir(library, row.model, row.uuid);
      return Buffer.compare(last, row.uuid) === 0 ? null : last;
    },
    // A newer version that waits may refer to something else: this one decides nothing.
    isReferrerSettled: (row) => isSettled(library, row) && !hasWaitingVersion(library, row.uuid),
    mayWrite: ({ model, key }) => mayWriteHere(library, model, key),
    mayBear: ({ model, key }) => ownsHere(library, model, key),
    isCarriedOut,
  };
  const { undone, renamed, undecided } = blockedDeletes(library, waiting, judge);
  if (bearAgain(library, renamed, merge)) return 1;
  for (const row of undone) revive(library, row);
  const doomed = waiting.filter((row) => !undone.includes(row));
  const refused = new Set<Doomed>();
  const gone = carryOutDeletes(library, doomed, (parent, referrer) => {
    if (undecided.has(nodeId(parent.model, parent.key))) return 'stays';
    if (!judge.isReferrerSettled(referrer) || !judge.mayWrite(referrer)) return 'stays';
    const verdict = settleReferrer(library, parent, referrer);
    if (verdict === 'stays') refused.add(parent);
    return verdict;
  });
  // A CHECK forbids it, or a unique index that has the rest of the row already: SQLite would have refused the delete.
  const kept = [...refused].filter((row) => row.isWaiting === true);
  const revived = kept.filter((row) => judge.lastName(row) === null && judge.mayBear(row));
  for (const row of revived) revive(library, row);
  const named = kept.filter((row) => judge.lastName(row) !== null);
  const borne = bearAgain(library, named, merge) ? 1 : 0;
  return gone + undone.length + revived.length + borne;
}

/** What refers to a row that has an heir refers to that from now on. */
function redirectToHeirs(library: Library, merge: MergeWaiting): boolean {
  let moved = false;
  for (const loser of waitingDeletes(library)) {
    const heir = isSettled(library, loser) ? heirOf(library, loser.model, loser.uuid) : 'open';
    const here = standingRow(library, loser.model, loser.uuid);
    if (heir === 'open' && admitHeir(library, loser, merge)) return true;
    if (typeof heir === 'string' || here === null) continue;
    const referrers = referrersOf(library, loser.model, [loser.key]);
    const own = referrers.filter(({ model, key }) => mayWriteHere(library, model, key));
    if (own.length === 0) continue;
    redirect(library, here, heir, own.length === referrers.length);
    const left = referrersOf(library, loser.model, [loser.key]);
    // At once: what had to make room for others would come back to it otherwise.
    if (left.length === 0) carryOutDeletes(library, [loser]);
    moved ||= left.length < referrers.length;
  }
  return moved;
}

/** Does to a row what the ON DELETE of its foreign key says. It stays as it is when a constraint does not allow it. */
function settleReferrer(library: Library, parent: Doomed, referrer: Referrer): Verdict {
  const { model, foreignKey, uuid, key, birthHlc, birthRun } = referrer;
  const before = model.ownership === 'shared' ? referrer.cells : cellsHere(library, referrer);
  if (before === null) return 'stays';
  if (foreignKey.onDelete === 'CASCADE') {
    writeTombstone(library, model, uuid, birthHlc, birthRun, library.around.now(), before);
    const { hlc, run } = library;
    return { model, key, uuid, birthHlc, birthRun, hlc, run, discards: 'cascade', goesWith: parent.uuid };
  }
  return library.attempt(() => clearReference(library, { ...referrer, cells: before })) ? 'released' : 'stays';
}

function clearReference(library: Library, { model, foreignKey, key, cells }: Referrer): boolean {
  const isDefault = foreignKey.onDelete === 'SET DEFAULT';
  const assignments = foreignKey.columns.map((column) => ({
    column,
    sql: (isDefault ? defaultOf(model, column) : null) ?? 'NULL',
    values: [],
  }));
  if (!writeOutcome(library, { model, key }, cells, assignments)) return false;
  return !isDefault || hasTarget(library, model, foreignKey, key);
}

/** The defaults of a foreign key must mean a row that is here, or nothing. */
function hasTarget(library: Library, model: Model, { columns, table, targets }: ForeignKey, key: Key): boolean {
  const target = library.model(table);
  const own = (name: string): string => `${quoteName(model.table)}.${quoteName(name)}`;
  const on = refersTo({ columns, targets }, 'p', quoteName(model.table));
  const isNull = columns.map((name) => `${own(name)} IS NULL`).join(' OR ');
  return (
    library.sql.value(
      `SELECT 1 FROM ${quoteName(model.table)}
       WHERE ${rowByKey(model)} AND (${isNull} OR EXISTS (
         SELECT 1 FROM ${quoteName(table)} p CROSS JOIN ${rowsTable(target)} m ON ${mapJoin(target, 'p')}
         WHERE ${on} AND ${isStaying('m')}))`,
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
  const doomed = holdDeletes ? [] : waitingDeletes(library);
  // What waits for them may be what lets go of a row in their way.
  const waiters =
    doomed.length === 0
      ? []
      : waitersOf(
          library,
          versions.map(({ uuid }) => uuid),
          true,
        );
  merge(joinVersions(library, [...readVersionsOf(library, versions), ...waiters].map(decodeBatch)), doomed);
  return unboundVersions(library).length < before.length;
}
