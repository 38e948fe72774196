/**
 * Versions that wait because what they refer to was deleted: what the ON DELETE of their foreign keys says is written into them, or
 * the delete is undone; and where the deleted row has become one with another, they refer to that one.
 */
import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Batch, SqlValue, TableData } from '../protocol/types.ts';
import { aliasOf } from './alias.ts';
import { writeTombstone } from './births.ts';
import type { Cells } from './cells.ts';
import { defaultOf, isCarriedOut } from './clauses.ts';
import { recordDelete, recordVersion } from './conflicts.ts';
import { cellsOf } from './incoming.ts';
import type { Setting, Target } from './join.ts';
import { rebear, translateRuns, writeVersion } from './join.ts';
import { isKilled } from './killed.ts';
import type { Library } from './library.ts';
import type { ForeignKey, Model } from './model.ts';
import { mapJoin, quoteName, rowByKey, rowsTable, syncedColumns } from './model.ts';
import { cellsOverWaiting, ownsVersion } from './owned-outcomes.ts';
import { runBytes } from './page.ts';
import type { Pending } from './pending.ts';
import { forgetPending, hasWaitingVersion, putPending, versionsOfDeadTargets } from './pending.ts';
import type { StandingRow } from './rivals.ts';
import { valuesHere } from './rivals.ts';
import { isSettled, isStaying } from './settled.ts';
import type { MergeWaiting } from './settle.ts';
import { narrow, readBig } from './sql.ts';
import { asWriter } from './stamp.ts';
import { joinVersions, targetIndex, targetOf, uuidAt } from './version.ts';

/** Settles what can be settled now. Returns whether anything was changed. */
export function settleOrphans(library: Library, merge: MergeWaiting): boolean {
  let moved = false;
  for (const waiting of versionsOfDeadTargets(library)) {
    if (hasWaitingVersion(library, waiting.uuid) && settleOrphan(library, waiting, merge)) moved = true;
  }
  return moved;
}

function settleOrphan(library: Library, waiting: Omit<Pending, 'targets'>, merge: MergeWaiting): boolean {
  const { model, uuid } = waiting;
  if (waiting.version === null) return false;
  const version = decodeBatch(waiting.version);
  const cells = cellsOf(model, version.tables[0] as TableData, 0, translateRuns(library, version));
  if (!isSettled(library, { ...waiting, cells })) return false;
  // Null where it is not ours to write.
  const over = cellsOverWaiting(library, model, version);
  if (over === null) return false;
  const dead = model.foreignKeys.filter((foreignKey) => targetState(library, version, foreignKey) === 'dead');
  const winners = dead.map((key) => winnerOf(library, version, key));
  if (winners.some((winner) => winner !== null))
    return followAliases(library, waiting, version, over, dead, winners, merge);
  if (dead.some((foreignKey) => foreignKey.onDelete === 'CASCADE')) {
    forgetPending(library, uuid);
    const values = new Map<string, unknown>();
    const stamp = { hlc: library.hlc, run: library.run };
    recordVersion(library, { ...waiting, version, values }, 'cascade', stamp);
    writeTombstone(library, model, uuid, waiting.birthHlc, waiting.birthRun, library.around.now(), over);
    holdOlderVersion(library, waiting);
    return true;
  }
  const cleared = dead.map((key) => (isCarriedOut(model, key) ? clearedBy(library, model, key) : null));
  const forbidding = dead.filter((_, i) => cleared[i] === null);
  if (forbidding.length > 0) return reviveTargets(library, model, version, forbidding, merge);
  const settings = new Map(cleared.flatMap((settings) => settings ?? []));
  if (settings.size === 0) return false;
  merge(decodeBatch(encodeBatch(writeVersion(library, model, version, settings, over))), []);
  return true;
}

/** The row that a version's dead target has become one with, if all is known of it. */
function winnerOf(library: Library, version: Batch, foreignKey: ForeignKey): StandingRow | null {
  const uuid = targetOf(version, foreignKey);
  const winner = uuid === null ? null : aliasOf(library, library.model(foreignKey.table), uuid);
  return winner !== null && isSettled(library, winner) ? winner : null;
}

/** Lets a version refer to the rows that its dead targets have become one with. */
function followAliases(
  library: Library,
  waiting: Omit<Pending, 'targets'>,
  version: Batch,
  over: Cells,
  dead: readonly ForeignKey[],
  winners: ReadonlyArray<StandingRow | null>,
  merge: MergeWaiting,
): boolean {
  const { model, uuid } = waiting;
  const settings = new Map(
    dead.flatMap((foreignKey, i) => {
      const winner = winners[i] ?? null;
      return winner === null ? [] : referringTo(library, foreignKey, winner);
    }),
  );
  const redirected = writeVersion(library, model, version, settings, over);
  const isRenamed = model.identity.kind === 'derived' && model.identity.columns.some((name) => settings.has(name));
  if (!isRenamed) {
    merge(joinVersions(library, [redirected]), []);
    return true;
  }
  // Its name holds the reference: it is another row then, and may be there already.
  const values = valuesHere(library, model, redirected);
  if (values === null) return false;
  const columns = syncedColumns(model).map(({ name }) => name);
  asWriter(library, () =>
    library.sql.run(
      `INSERT OR IGNORE INTO ${quoteName(model.table)} (${columns.map(quoteName).join(', ')})
       VALUES (${columns.map(() => '?').join(', ')})`,
      ...columns.map((name) => values.get(name) ?? null),
    ),
  );
  forgetPending(library, uuid);
  writeTombstone(library, model, uuid, waiting.birthHlc, waiting.birthRun, library.around.now(), over);
  holdOlderVersion(library, waiting);
  return true;
}

function referringTo(library: Library, { columns, targets }: ForeignKey, row: StandingRow): [string, Setting][] {
  const { model, uuid, key } = row;
  const target = { model, uuid, birth: { hlc: row.birthHlc, run: row.birthRun } };
  const list = targets.map(quoteName).join(', ');
  const values = library.sql.rows(`SELECT ${list} FROM ${quoteName(model.table)} WHERE ${rowByKey(model)}`, key)[0];
  return columns.map((name, i): [string, Setting] => [name, { value: values?.[i] ?? null, target }]);
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
    `SELECT m.uuid, m.birth_hlc, m.birth_run FROM ${quoteName(table)} t CROSS JOIN ${rowsTable(model)} m ON ${mapJoin(model)} WHERE ${where} AND ${isStaying('m')}`,
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
    const grave = library.sql.rows('SELECT hlc, run, version FROM flotilla_tombstones WHERE uuid = ?', uuid)[0];
    // Its values went with somebody else: whoever has them, or the row, bears it again.
    if (grave === undefined || grave[2] === null) return false;
    const [hlc, run] = grave.slice(0, 2).map(Number) as [number, number];
    const last = decodeBatch(grave[2] as Uint8Array);
    if (!ownsVersion(library, target, last)) return false;
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
  const tombstone = library.sql.rows(
    'SELECT hlc, run, birth_hlc, birth_run, seen FROM flotilla_tombstones WHERE uuid = ?',
    uuid,
  )[0];
  // Without a tombstone nothing is decided, even if its birth is in our knowledge: it may have stayed behind at its writer, for
  // lack of a target of its own, and will be born again.
  if (tombstone === undefined) return 'unsettled';
  const [hlc, run, deadHlc, deadRun] = tombstone.slice(0, 4).map(Number) as [number, number, number, number];
  const birthRun = library.runOrdinal(bytesToHex(runBytes(version, version.birthRun[target] ?? 0)), null);
  const grave = { hlc, run, birthHlc: deadHlc, birthRun: deadRun, seen: tombstone[4] ?? null };
  // A tombstone from before the target's birth says nothing: that row is still to come.
  const birth = { birthHlc: version.birthHlc[target] ?? 0, birthRun };
  if (!isKilled(library, library.model(foreignKey.table), grave, birth, null)) return 'unsettled';
  return library.isSettled(run, hlc) ? 'dead' : 'unsettled';
}
