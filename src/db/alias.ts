/**
 * Two rows that are one from now on. The winner is born again, so that nobody's delete of it from before takes the other one along;
 * the loser gets a tombstone that carries the winner's UUID as an alias; who refers to the loser refers to the winner. All of it is
 * written as any program would write it, so that it is stamped, renames derived identities, and travels like every other change.
 */
import { decodeBatch } from '../protocol/batch.ts';
import type { Batch, TableData } from '../protocol/types.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import { writeTombstone } from './births.ts';
import { encodedKey } from './capture.ts';
import type { Collider } from './collisions.ts';
import { recordRow, recordVersion } from './conflicts.ts';
import { hideRows } from './hide.ts';
import type { Doomed, Referrer } from './deletes.ts';
import { referrersOf, takeOut } from './deletes.ts';
import { collidingHeir, isDiscarded, nameAlias } from './heirs.ts';
import type { MarkKey } from './identity.ts';
import { cellsOf } from './incoming.ts';
import { readVersion, translateRuns } from './join.ts';
import type { UniqueIndex } from './indexes.ts';
import type { Library } from './library.ts';
import type { ForeignKey, Model } from './model.ts';
import { isPartialId, keyColumn, mapJoin, quoteName, rowByKey, rowsTable } from './model.ts';
import { keysHeldOutside } from './outside.ts';
import { cellsHere, cellsOverWaiting, mayWriteHere, ownsHere, ownsVersion } from './owned-outcomes.ts';
import { foreignCondition } from './owners.ts';
import { canPark, park } from './park.ts';
import type { Pending } from './pending.ts';
import { collidingVersions, forgetPending, noteArrival, pendingKind, putPending } from './pending.ts';
import { OP_REBORN, markReferences, touchReferrers } from './remark.ts';
import type { StandingRow } from './rivals.ts';
import { rivalsIn, standingRow, valuesHere, valuesOfRow } from './rivals.ts';
import { isSettled } from './settled.ts';
import type { MergeWaiting } from './settle.ts';
import type { Key } from './sql.ts';
import { unlessRefused } from './sql.ts';
import { asWriter, stampAll } from './stamp.ts';
import { isAbove } from './trees.ts';
import { policyOf, renamedColumn } from './unique-policy.ts';
import { joinVersions } from './version.ts';

/** Digits of its own UUID that the name of a row gets whose place is taken. */
const SUFFIX_DIGITS = 8;

/** Makes one row of a version that waits and of the row in its way. Answers false, changing nothing, when that cannot be. */
export function mergeRows(library: Library, collider: Collider, rival: StandingRow, merge: MergeWaiting): boolean {
  const { model } = collider;
  // One of them is born again, which only its owner may do.
  if (!ownsVersion(library, model, collider.version) || !ownsHere(library, model, rival.key)) return false;
  // What refers to the loser follows: whoever owns it makes them one, and it comes from there.
  const loser = Buffer.compare(collider.uuid, rival.uuid) > 0 ? standingRow(library, model, collider.uuid) : rival;
  if (
    loser !== null &&
    referrersOf(library, model, [loser.key]).some((row) => !mayWriteHere(library, row.model, row.key))
  )
    return false;
  // Tables that stay on this device may forbid that a row goes.
  if (keysHeldOutside(library, model, [rival.key]).length > 0) return false;
  return library.attempt(() => {
    if (Buffer.compare(collider.uuid, rival.uuid) > 0) {
      // The loser waits; an older version of it may stand here.
      recordVersion(library, collider, 'merged', rival);
      const older = standingRow(library, model, collider.uuid);
      if (older === null) {
        const cells = cellsOverWaiting(library, model, collider.version) ?? new Map();
        writeTombstone(
          library,
          model,
          collider.uuid,
          collider.birthHlc,
          collider.birthRun,
          library.around.now(),
          cells,
        );
        forgetPending(library, collider.uuid);
      } else absorb(library, older, rival);
      return becomeOne(library, model, collider.uuid, rival.uuid);
    }
    const last = readVersion(library, model, rival.uuid);
    if (!canPark(library, model) || !park(library, model, rival.key)) return false;
    merge(joinVersions(library, [collider.version]), []);
    const winner = standingRow(library, model, collider.uuid);
    if (winner === null) return false;
    absorb(library, rival, winner, last);
    return becomeOne(library, model, rival.uuid, winner.uuid);
  });
}

/**
 * Lets the heir of a row in, whose delete waits: the row itself has the heir's unique values, and goes as soon as nothing refers to it
 * any more. Answers false, changing nothing, when that cannot be.
 */
export function admitHeir(library: Library, loser: Doomed, merge: MergeWaiting): boolean {
  const { model, key } = loser;
  const uuid = collidingHeir(library, model, loser.uuid);
  const here = standingRow(library, model, loser.uuid);
  if (uuid === null || here === null) return false;
  const waiting = collidingVersions(library).find((other) => Buffer.compare(other.uuid, uuid) === 0);
  if (waiting === undefined || waiting.version === null) return false;
  const version = decodeBatch(waiting.version);
  const cells = cellsOf(model, version.tables[0] as TableData, 0, translateRuns(library, version));
  if (!isSettled(library, { ...waiting, cells })) return false;
  const values = valuesHere(library, model, version);
  const takesPlace = values !== null && twinOf(library, model, values, { uuid })?.key === key;
  if (!takesPlace && !mayMakeRoom(library, loser)) return false;
  const others = referrersOf(library, model, [key]).filter((row) => !mayMove(library, row));
  return library.attempt(() => {
    // Rows of other devices' wait for what their owners say, or have said.
    if (others.length > 0 && !hideRows(library, others, { ...DEAD_TARGET, targets: [loser.uuid] })) return false;
    if (loser.discards !== undefined) recordRow(library, model, loser.uuid, loser.discards, loser);
    if (takesPlace) return becomeHeir(library, loser, waiting, merge);
    if (!park(library, model, key)) return false;
    merge(joinVersions(library, [version]), []);
    const heir = standingRow(library, model, uuid);
    if (heir === null) return false;
    redirect(library, here, heir);
    if (referrersOf(library, model, [key]).length > 0) return false;
    takeOut(library, [loser]);
    return true;
  });
}

/** Whether a row can leave its place in unique indexes to its heir. */
export function mayMakeRoom(library: Library, row: Pick<StandingRow, 'model' | 'key'>): boolean {
  const { model, key } = row;
  return canPark(library, model) && keysHeldOutside(library, model, [key]).length === 0 && isNamedByKey(library, row);
}

/** A row whose heir has the same key here is that from now on, and so is what refers to the key. */
function becomeHeir(
  library: Library,
  loser: Doomed,
  { uuid, birthRun, version }: Omit<Pending, 'targets'>,
  merge: MergeWaiting,
): boolean {
  const { model, key } = loser;
  forgetPending(library, loser.uuid);
  // Older than the heir, which is written over it.
  library.sql.run(
    `UPDATE ${rowsTable(model)} SET uuid = ?, birth_hlc = 0, birth_run = ?, hlc = 0, run = ?, cells = NULL, aside = NULL WHERE key = ?`,
    Buffer.from(uuid),
    birthRun,
    birthRun,
    key,
  );
  merge(joinVersions(library, [decodeBatch(version as Uint8Array)]), []);
  if (pendingKind(library, uuid) !== null) return false;
  noteArrival(library, uuid);
  asWriter(library, () => touchReferrers(library, model, markKeyOf(library, model, key), 'renamed'));
  return true;
}

/** The key of a row, as marks name it. */
function markKeyOf(library: Library, model: Model, key: Key): MarkKey {
  if (model.rowid !== null) return key;
  const text = `SELECT ${encodedKey(model, 't')} FROM ${quoteName(model.table)} t WHERE ${rowByKey(model)}`;
  return String(library.sql.value(text, key));
}

/** Nothing refers to a row by other values than those of its key and its name: what does would be lost sight of when they are parked. */
function isNamedByKey(library: Library, { model, key }: Pick<StandingRow, 'model' | 'key'>): boolean {
  const names = model.identity.kind === 'derived' ? [...model.key, ...model.identity.columns] : model.key;
  return referrersOf(library, model, [key]).every(({ foreignKey }) =>
    foreignKey.targets.every((name) => names.includes(name)),
  );
}

/**
 * What refers to the loser refers to the winner; then the loser goes, with a record of what it held.
 * @param last - what that was, if it has been parked since
 */
function absorb(library: Library, loser: StandingRow, winner: StandingRow, last: Batch | null = null): void {
  redirect(library, loser, winner);
  recordRow(library, loser.model, loser.uuid, 'merged', winner, { last });
  asWriter(library, () => deleteRow(library, loser));
}

function deleteRow(library: Library, { model, key }: Pick<StandingRow, 'model' | 'key'>): void {
  library.sql.run(`DELETE FROM ${quoteName(model.table)} WHERE ${rowByKey(model)}`, key);
}

function becomeOne(library: Library, model: Model, loser: Uint8Array, winner: Uint8Array): boolean {
  nameAlias(library, loser, winner);
  asWriter(library, () => {
    library.sql.run(
      `INSERT INTO flotilla_marks (tbl, op, old, new, at, mask)
       SELECT ${model.n}, ${OP_REBORN}, ${encodedKey(model, 't')}, ${encodedKey(model, 't')}, ?, 0
       FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)} WHERE m.uuid = ?`,
      library.around.now(),
      Buffer.from(winner),
    );
  });
  return true;
}

/**
 * Rewrites all references to one row into references to another.
 * @param goes - the one goes as soon as nothing refers to it any more, and nothing will: what has no room beside the other may wait
 */
export function redirect(library: Library, from: StandingRow, to: StandingRow, goes = true): void {
  for (const child of library.registry.models) {
    for (const foreignKey of child.foreignKeys) {
      if (foreignKey.table !== from.model.table) continue;
      if (isKeyOfOthers(library, child, foreignKey)) {
        for (const left of referrersOf(library, from.model, [from.key]))
          if (left.model === child && left.foreignKey === foreignKey) rekey(library, left, to);
        continue;
      }
      if (isTree(child, foreignKey) && isAbove(library, child, foreignKey, from, to)) {
        asWriter(library, () => takePlace(library, foreignKey, from, to));
        // Its place was taken: it may not come to be above itself.
        const now = standingAt(library, to);
        if (now === null || isAbove(library, child, foreignKey, from, now)) continue;
      }
      move(library, child, foreignKey, from, to, '', []);
      for (const left of referrersOf(library, from.model, [from.key]))
        if (left.model === child && left.foreignKey === foreignKey && mayMove(library, left))
          makeRoom(library, left, from, to, goes);
    }
  }
}

/** Also where rows are named by the one above them, and become others when they are moved. */
function isTree(child: Model, foreignKey: ForeignKey): boolean {
  const { identity } = child;
  const names = identity.kind === 'derived' && foreignKey.columns.some((name) => identity.columns.includes(name));
  return child.trees.includes(foreignKey) || (foreignKey.table === child.table && names);
}

/** The row that stands where one stood, which may have another name by now. */
function standingAt(library: Library, { model, key }: StandingRow): StandingRow | null {
  const uuid = library.sql.value(`SELECT uuid FROM ${rowsTable(model)} WHERE key = ?`, key);
  return uuid instanceof Uint8Array ? standingRow(library, model, uuid) : null;
}

/** Whether other rows refer to those of a table by its natural key, in which the reference is. */
function isKeyOfOthers(library: Library, model: Model, { columns }: ForeignKey): boolean {
  if (model.rowid !== null || !columns.some((name) => model.key.includes(name))) return false;
  return library.registry.models.some(({ foreignKeys }) =>
    foreignKeys.some(({ table, targets }) => table === model.table && targets.some((name) => columns.includes(name))),
  );
}

/**
 * A row that has the reference in its key, by which others refer to it, gets a successor beside it, to which those are led one after
 * the other: what their ON UPDATE says is for programs that change a key.
 */
function rekey(library: Library, left: Referrer, to: StandingRow): void {
  if (isGoing(library, left) || !mayWriteHere(library, left.model, left.key)) return;
  const values = valuesOfRow(library, left);
  const targets = readTargets(library, left.foreignKey, to);
  left.foreignKey.columns.forEach((name, i) => values.set(name, targets[i]));
  // What it refers to as itself is what it is from now on.
  for (const { model, key, foreignKey } of referrersOf(library, left.model, [left.key]))
    if (model === left.model && key === left.key && !foreignKey.columns.some((name) => model.key.includes(name)))
      foreignKey.columns.forEach((name, i) => values.set(name, values.get(foreignKey.targets[i] ?? '')));
  const twin = twinOf(library, left.model, values, left);
  if (twin !== null && isDiscarded(library, left.model, left, twin.uuid))
    recordRow(library, left.model, left.uuid, 'merged', twin);
  library.attempt(() => {
    const heir = twin ?? insertTwin(library, values, left);
    if (heir === null) return false;
    redirect(library, left, heir);
    const others = referrersOf(library, left.model, [left.key]);
    // It has made room for its heir, and cannot stay.
    const isParked = twin === null && canPark(library, left.model);
    if (isParked && others.length > 0 && !hideRows(library, others, { ...DEAD_TARGET, targets: [left.uuid] }))
      return false;
    leaveTo(library, left, heir);
    return true;
  });
}

/** A row goes for its heir; rows of other devices that refer to it keep it until their owners have heard of that. */
function leaveTo(library: Library, left: Referrer, heir: StandingRow): void {
  const { model, key, uuid, birthHlc, birthRun } = left;
  if (referrersOf(library, model, [key]).length === 0) asWriter(library, () => deleteRow(library, left));
  else {
    const cells = (model.ownership === 'shared' ? null : cellsHere(library, left)) ?? left.cells;
    writeTombstone(library, model, uuid, birthHlc, birthRun, library.around.now(), cells);
    holdForHeir(library, left);
  }
  nameAlias(library, uuid, heir.uuid);
}

/** The delete of a row that has an heir, and has just been stamped, waits. */
export function holdForHeir(library: Library, row: StandingRow): void {
  putPending(library, {
    ...row,
    hlc: library.hlc,
    run: library.run,
    reason: 'referrers',
    detail: 'It has another name now, but rows here still refer to it.',
    version: null,
    targets: [],
  });
}

/** Whether this device may write a row and all that has to follow it. */
function mayFollow(library: Library, row: Pick<StandingRow, 'model' | 'key' | 'uuid'>): boolean {
  if (isGoing(library, row) || !mayWriteHere(library, row.model, row.key)) return false;
  return referrersOf(library, row.model, [row.key]).every((referrer) => mayMove(library, referrer));
}

/** Whether this device may lead a row to another one. */
function mayMove(library: Library, row: Referrer): boolean {
  return isKeyOfOthers(library, row.model, row.foreignKey)
    ? mayFollow(library, row)
    : !isGoing(library, row) && mayWriteHere(library, row.model, row.key);
}

/** The row is dead, and only its delete waits: another name would bring it back. It may have one already, which it was given since. */
function isGoing(library: Library, { uuid }: Pick<StandingRow, 'uuid'>): boolean {
  return pendingKind(library, uuid) === 'delete';
}

const DEAD_TARGET = {
  reason: 'dead-target',
  detail: 'It refers to a row that was deleted.',
  isOvertaken: true,
} as const;

/** Inserts a row with these values, for which another one makes room in unique indexes; null when that is not enough. */
function insertTwin(library: Library, values: ReadonlyMap<string, unknown>, of: Referrer): StandingRow | null {
  const names = [...values.keys()];
  if (canPark(library, of.model) && isNamedByKey(library, of) && !park(library, of.model, of.key)) return null;
  asWriter(library, () => {
    unlessRefused(() =>
      library.sql.run(
        `INSERT OR IGNORE INTO ${quoteName(of.model.table)} (${names.map(quoteName).join(', ')})
         VALUES (${names.map(() => '?').join(', ')})`,
        ...values.values(),
      ),
    );
  });
  return twinOf(library, of.model, values, of);
}

/** Puts a row to where one stands that is above it in their tree, so that what is between does not come to be above itself. */
function takePlace(library: Library, { columns }: ForeignKey, { model, key }: StandingRow, below: StandingRow): void {
  const list = columns.map(quoteName).join(', ');
  const table = quoteName(model.table);
  const place = `(SELECT ${list} FROM ${table} WHERE ${rowByKey(model)})`;
  library.sql.run(`UPDATE OR IGNORE ${table} SET (${list}) = ${place} WHERE ${rowByKey(model)}`, key, below.key);
}

/**
 * Lets rows of a table that refer to one row refer to the other, where their unique indexes have room. Nobody wrote them, so the user's
 * triggers that write do not run, except where the reference is in their key or says whose they are.
 */
function move(
  library: Library,
  child: Model,
  foreignKey: ForeignKey,
  from: StandingRow,
  to: StandingRow,
  condition: string,
  params: readonly unknown[],
): void {
  const { columns, targets } = foreignKey;
  const list = columns.map(quoteName).join(', ');
  const row = `(SELECT ${targets.map(quoteName).join(', ')} FROM ${quoteName(from.model.table)} WHERE ${rowByKey(from.model)})`;
  // Rows of other devices are left to them.
  const own =
    child.ownership === 'shared'
      ? ''
      : ` AND NOT (${foreignCondition(child, quoteName(child.table), library.registry)})`;
  const map = rowsTable(child);
  const stays = `NOT EXISTS (SELECT 1 FROM ${map} m JOIN flotilla_pending w USING (uuid) WHERE w.version IS NULL AND ${mapJoin(child, quoteName(child.table))})`;
  const where = `(${list}) = ${row}${own} AND ${stays}${condition}`;
  const update = (): void => {
    unlessRefused(() =>
      library.sql.run(
        `UPDATE OR IGNORE ${quoteName(child.table)} SET (${list}) = ${row} WHERE ${where}`,
        to.key,
        from.key,
        ...params,
      ),
    );
  };
  if (child.rowid === null || columns.includes(child.rowid) || foreignKey === child.ownedBy) {
    asWriter(library, update);
    return;
  }
  const readKeys = (): Key[] =>
    library.sql
      .rows(`SELECT ${quoteName(child.rowid ?? '')} FROM ${quoteName(child.table)} WHERE ${where}`, from.key, ...params)
      .map(([key]) => key as Key);
  const before = readKeys();
  const along = referrersByParts(library, child, foreignKey, before);
  update();
  const left = new Set(readKeys());
  markReferences(
    library,
    child,
    foreignKey,
    before.filter((key) => !left.has(key)),
  );
  for (const referrer of along) if (!left.has(referrer.parentKey)) followInPart(library, child, referrer);
  stampAll(library);
}

/** A row that refers to another by an id and values, which it has in these columns. */
interface ByParts extends Referrer {
  readonly values: ReadonlyMap<string, unknown>;
}

/** What refers to rows by several columns, among them an id that these are about to change. */
function referrersByParts(
  library: Library,
  model: Model,
  { columns }: ForeignKey,
  keys: readonly Key[],
): readonly ByParts[] {
  const isPart = ({ table, simple, targets }: ForeignKey): boolean =>
    table === model.table && !simple && columns.some((name) => targets.includes(name));
  if (!library.registry.models.some(({ foreignKeys }) => foreignKeys.some(isPart))) return [];
  return referrersOf(library, model, keys).flatMap((referrer) => {
    const { model: child, foreignKey } = referrer;
    const isLed = isPart(foreignKey) && foreignKey.columns.some((name) => isPartialId(child, name));
    return isLed ? [{ ...referrer, values: valuesOfRow(library, referrer) }] : [];
  });
}

/** An id that is only a part of a foreign key follows the row that has it. Rows of other devices mean the same without being written. */
function followInPart(library: Library, parent: Model, referrer: ByParts): void {
  const { model, key, uuid, foreignKey, parentKey, values } = referrer;
  const now = valuesOfRow(library, { model: parent, key: parentKey });
  const { columns, targets } = foreignKey;
  const update = (): void => {
    unlessRefused(() =>
      library.sql.run(
        `UPDATE OR IGNORE ${quoteName(model.table)} SET ${columns.map((name) => `${quoteName(name)} = ?`).join(', ')}
         WHERE ${rowByKey(model)}`,
        ...columns.map((name, i) => (isPartialId(model, name) ? now.get(targets[i] ?? '') : values.get(name)) ?? null),
        key,
      ),
    );
  };
  const isWritten = !isGoing(library, { uuid }) && mayWriteHere(library, model, key);
  if (isWritten && model.rowid === null) {
    asWriter(library, update);
    return;
  }
  update();
  if (isWritten) markReferences(library, model, foreignKey, [key]);
}

/** A row that cannot follow, since the winner has one of that name already: its own policy says what becomes of it. */
function makeRoom(library: Library, left: Referrer, from: StandingRow, to: StandingRow, goes: boolean): void {
  const child = left.model;
  const values = valuesOfRow(library, left);
  const moved = valuesOfRow(library, left);
  const targets = readTargets(library, left.foreignKey, to);
  left.foreignKey.columns.forEach((name, i) => moved.set(name, targets[i]));
  for (const unique of child.uniques as readonly UniqueIndex[]) {
    const [rival] = rivalsIn(library, child, unique, moved, left.uuid);
    if (rival === undefined) continue;
    if (isIdentity(child, unique)) {
      becomeTwin(library, left, rival);
      return;
    }
    const policy = policyOf(library.registry, child, unique);
    const column = policy === 'rename' ? renamedColumn(library.registry, child, unique) : null;
    if (column !== null && values.get(column.name) !== null) {
      const name = quoteName(column.name);
      const suffix = ` (${bytesToHex(left.uuid).slice(-SUFFIX_DIGITS)})`;
      asWriter(library, () => {
        library.sql.run(
          `UPDATE OR IGNORE ${quoteName(child.table)} SET ${name} = ${name} || ? WHERE ${rowByKey(child)}`,
          suffix,
          left.key,
        );
      });
      move(library, child, left.foreignKey, from, to, ` AND ${rowByKey(child)}`, [left.key]);
    } else if (policy === 'keep-first') {
      // It waits, refers to the winner when it is tried again, and shows when there is room.
      if (goes) hideRows(library, [left]);
    } else {
      const [winner, loser] = Buffer.compare(rival.uuid, left.uuid) < 0 ? [rival, left] : [left, rival];
      absorb(library, loser, winner);
      becomeOne(library, child, loser.uuid, winner.uuid);
      if (winner === left) move(library, child, left.foreignKey, from, to, ` AND ${rowByKey(child)}`, [left.key]);
    }
    return;
  }
  // The same row twice by its key, like two taggings with tags that are one now: what refers to it follows.
  const twin = child.rowid === null ? twinOf(library, child, moved, left) : null;
  if (twin !== null) becomeTwin(library, left, twin);
}

/** Whether rows that have the same values in an index are the same row by their names. */
function isIdentity({ identity }: Model, { columns, partial }: UniqueIndex): boolean {
  return (
    identity.kind === 'derived' &&
    !partial &&
    columns.length === identity.columns.length &&
    columns.every((name) => name !== null && identity.columns.includes(name))
  );
}

/** A row that would have the name of one that is here is that row from now on. */
function becomeTwin(library: Library, left: Referrer, twin: StandingRow): void {
  redirect(library, left, twin);
  recordRow(library, left.model, left.uuid, 'merged', twin);
  leaveTo(library, left, twin);
}

/** The row here with a natural key. */
function twinOf(
  library: Library,
  model: Model,
  values: ReadonlyMap<string, unknown>,
  self: Pick<Referrer, 'uuid'>,
): StandingRow | null {
  const where = model.key.map((_, i) => `${keyColumn(model, i, 't')} = ?`).join(' AND ');
  const uuid = library.sql.value(
    `SELECT m.uuid FROM ${quoteName(model.table)} t CROSS JOIN ${rowsTable(model)} m ON ${mapJoin(model)} WHERE ${where} AND m.uuid <> ?`,
    ...model.key.map((name) => values.get(name)),
    Buffer.from(self.uuid),
  );
  return uuid instanceof Uint8Array ? standingRow(library, model, uuid) : null;
}

function readTargets(library: Library, { targets }: ForeignKey, { model, key }: StandingRow): unknown[] {
  const values = valuesOfRow(library, { model, key });
  return targets.map((name) => values.get(name) ?? null);
}
