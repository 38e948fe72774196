/**
 * What deletes do to the rows that refer to what was deleted. It is decided at the end of a complete pass, never at a page
 * in the middle, and only when every stamp of the conflict is in our knowledge: before that, the move that would end the
 * conflict may still be on its way. The outcome is an ordinary stamped write of this device; every device that sees the
 * conflict writes the same one, so they converge. Rows of another device are left to their owner, and wait.
 *
 * ON DELETE CASCADE and SET NULL are carried out here. The other clauses wait, listed, until the release that does them.
 */
import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import { hexToBytes } from '../protocol/uuid.ts';
import type { Batch } from '../protocol/types.ts';
import type { Referrer } from './deletes.ts';
import { referrersOf, removeRows } from './deletes.ts';
import type { Library } from './library.ts';
import type { KnownVersion } from './lookup.ts';
import type { Model } from './model.ts';
import { mapJoin, quoteName, rowsTable } from './model.ts';
import type { Pending } from './pending.ts';
import { allPending, forgetPending, hasPending, putPending } from './pending.ts';
import type { Key } from './sql.ts';
import { writeTombstone } from './stamp.ts';
import { withoutReferences } from './version.ts';

/** Merges a batch of one row in the running transaction. */
export type MergeOne = (version: Batch) => void;

/** Settles what can be settled now; called at the end of a complete pass, in its transaction. */
export function settle(library: Library, merge: MergeOne): void {
  if (!hasPending(library)) return;
  // Each round carries out what the last one made possible: a cascade reaches the children of the children.
  for (let moved = true; moved; ) {
    moved = false;
    for (const waiting of allPending(library, true)) if (settleDelete(library, waiting)) moved = true;
    for (const waiting of allPending(library, false)) if (settleVersion(library, waiting, merge)) moved = true;
  }
}

/** A delete that waits because rows here refer to what it deletes. */
function settleDelete(library: Library, waiting: Omit<Pending, 'targets'>): boolean {
  const { model, uuid } = waiting;
  const key = library.sql.rows(`SELECT key FROM ${rowsTable(model)} WHERE uuid = ?`, Buffer.from(uuid))[0]?.[0] as Key | undefined;
  if (key === undefined) {
    forgetPending(library, uuid);
    return true;
  }
  let moved = false;
  for (const referrer of referrersOf(library, model, [key])) {
    if (isSettled(library, waiting) && isSettled(library, referrer) && mayWriteHere(library, referrer)) {
      moved = settleReferrer(library, referrer) || moved;
    }
  }
  if (referrersOf(library, model, [key]).every((referrer) => referrer.model === model && referrer.key === key)) {
    removeRows(library, model, [{ key, uuid }]);
    return true;
  }
  return moved;
}

function settleReferrer(library: Library, referrer: Referrer): boolean {
  const { model, foreignKey, uuid } = referrer;
  if (foreignKey.onDelete === 'CASCADE') {
    if (isDeleted(library, uuid, referrer)) return false;
    writeTombstone(library, model, uuid, referrer.birthHlc, referrer.birthRun, library.around.now());
    putPending(library, {
      model,
      uuid,
      birthHlc: referrer.birthHlc,
      birthRun: referrer.birthRun,
      hlc: referrer.hlc,
      run: referrer.run,
      reason: 'referrers',
      detail: 'The row that it refers to was deleted, and rows here still refer to it.',
      version: null,
      targets: [],
    });
    return true;
  }
  if (foreignKey.onDelete !== 'SET NULL' || !canBeNull(model, foreignKey.columns)) return false;
  const table = quoteName(model.table);
  const set = foreignKey.columns.map((column) => `${quoteName(column)} = NULL`).join(', ');
  library.sql.run(
    `UPDATE ${table} SET ${set} WHERE rowid IN (
       SELECT t.rowid FROM ${rowsTable(model)} m CROSS JOIN ${table} t ON ${mapJoin(model)} WHERE m.key = ?)`,
    referrer.key,
  );
  library.sql.run(
    `UPDATE ${rowsTable(model)} SET hlc = ?, run = ?, lsn = ? WHERE key = ?`,
    library.stampAt(library.around.now()),
    library.run,
    library.nextLsn(),
    referrer.key,
  );
  return true;
}

/** A version that waits because it refers to a row that was deleted, or because a constraint refused it. */
function settleVersion(library: Library, waiting: Omit<Pending, 'targets'>, merge: MergeOne): boolean {
  const { model, uuid } = waiting;
  if (waiting.version === null || !isStillWaiting(library, uuid)) return false;
  const version = decodeBatch(waiting.version);
  if (waiting.reason === 'unique' || waiting.reason === 'constraint') {
    merge(version);
    return !isStillWaiting(library, uuid);
  }
  if (!isSettled(library, waiting) || !mayWriteHere(library, waiting)) return false;
  const cleared = new Set<string>();
  for (const foreignKey of model.foreignKeys) {
    const dead = deadTarget(library, version, foreignKey);
    if (dead === 'alive') continue;
    if (dead === 'unsettled') return false;
    if (foreignKey.onDelete === 'CASCADE') {
      forgetPending(library, uuid);
      writeTombstone(library, model, uuid, waiting.birthHlc, waiting.birthRun, library.around.now());
      holdOlderVersion(library, waiting);
      return true;
    }
    if (foreignKey.onDelete !== 'SET NULL' || !canBeNull(model, foreignKey.columns)) return false;
    for (const column of foreignKey.columns) cleared.add(column);
  }
  if (cleared.size === 0) return false;
  const stamp = {
    hlc: library.stampAt(library.around.now()),
    run: hexToBytes(library.runHex(library.run)),
    device: library.around.device,
  };
  const changed = withoutReferences(version, cleared, stamp);
  merge(decodeBatch(encodeBatch(changed)));
  return true;
}

/** The older version of a row whose newer one has just been deleted goes as well, when nothing refers to it any more. */
function holdOlderVersion(library: Library, waiting: Omit<Pending, 'targets'>): void {
  const row = library.sql.value(`SELECT 1 FROM ${rowsTable(waiting.model)} WHERE uuid = ?`, Buffer.from(waiting.uuid));
  if (row === undefined) return;
  putPending(library, { ...waiting, reason: 'referrers', detail: 'The row that it refers to was deleted.', version: null, targets: [] });
}

/** How the target of a waiting version's foreign key stands. */
function deadTarget(library: Library, version: Batch, foreignKey: Model['foreignKeys'][number]): 'alive' | 'unsettled' | 'dead' {
  const table = version.tables[0];
  if (table === undefined) return 'alive';
  const column = table.columns.find((candidate) => candidate.name === foreignKey.columns[0]);
  const dependency = table.dependencies.find((candidate) => candidate.foreignKey === foreignKey.number);
  const target = (foreignKey.simple ? (column?.kind === 'ref' ? column.refs[0] : -1) : dependency?.refs[0]) ?? -1;
  if (target < 0) return 'alive';
  const uuid = Buffer.from(version.uuids.subarray(target * 16, target * 16 + 16));
  if (library.sql.value(`SELECT 1 FROM ${rowsTable(library.model(foreignKey.table))} WHERE uuid = ?`, uuid) !== undefined) return 'alive';
  const tombstone = library.sql.rows('SELECT hlc, run FROM flotilla_tombstones WHERE uuid = ?', uuid)[0];
  if (tombstone !== undefined) return library.knows(Number(tombstone[1]), Number(tombstone[0])) ? 'dead' : 'unsettled';
  const runIndex = version.birthRun[target] ?? 0;
  const run = library.runOrdinal(Buffer.from(version.runs.subarray(runIndex * 16, runIndex * 16 + 16)).toString('hex'), null);
  const waits = library.sql.value('SELECT 1 FROM flotilla_pending WHERE uuid = ?', uuid) !== undefined;
  return !waits && library.knows(run, version.birthHlc[target] ?? 0) ? 'dead' : 'unsettled';
}

function isStillWaiting(library: Library, uuid: Uint8Array): boolean {
  return library.sql.value('SELECT 1 FROM flotilla_pending WHERE uuid = ? AND version IS NOT NULL', Buffer.from(uuid)) !== undefined;
}

function isDeleted(library: Library, uuid: Uint8Array, version: KnownVersion): boolean {
  const row = library.sql.rows('SELECT hlc, run FROM flotilla_tombstones WHERE uuid = ?', Buffer.from(uuid))[0];
  return row !== undefined && library.compare(version.birthHlc, version.birthRun, Number(row[0]), Number(row[1])) < 0;
}

/** All its stamps are in our knowledge: nothing about it can still be on its way from where we have heard of it. */
function isSettled(library: Library, version: KnownVersion): boolean {
  return library.knows(version.birthRun, version.birthHlc) && library.knows(version.run, version.hlc);
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
