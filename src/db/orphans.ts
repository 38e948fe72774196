/**
 * Versions that wait because what they refer to was deleted: what the ON DELETE of their foreign keys says is written into them, or
 * the delete is undone; and where the deleted row has become one with another, they refer to that one.
 */
import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Batch, SqlValue, TableData } from '../protocol/types.ts';
import { writeTombstone } from './births.ts';
import type { Cells } from './cells.ts';
import { defaultOf, isCarriedOut, mayBeUndone } from './clauses.ts';
import { recordDelete, recordVersion } from './conflicts.ts';
import type { Heir } from './heirs.ts';
import { heirOf, isDiscarded, lastHeir, livingHeir, nameAlias, rowNamed } from './heirs.ts';
import { cellsOf, columnNamed } from './incoming.ts';
import type { Setting, Target } from './join.ts';
import { rebear, translateRuns, writeVersion } from './join.ts';
import { isKilled } from './killed.ts';
import type { Library } from './library.ts';
import type { ForeignKey, Model } from './model.ts';
import { isPartialId, mapJoin, quoteName, rowByKey, rowsTable, syncedColumns } from './model.ts';
import { cellsOverWaiting, ownsVersion } from './owned-outcomes.ts';
import { runBytes } from './page.ts';
import type { Pending } from './pending.ts';
import { forgetPending, hasWaitingVersion, putPending, versionsOfDeadTargets } from './pending.ts';
import type { StandingRow } from './rivals.ts';
import { valuesHere } from './rivals.ts';
import { isSettled, isStaying } from './settled.ts';
import type { MergeWaiting } from './settle.ts';
import { narrow, readBig, unlessRefused } from './sql.ts';
import { asWriter } from './stamp.ts';
import { joinVersions, refersToItself, targetIndex, targetOf, uuidAt } from './version.ts';

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
  const lost = model.foreignKeys.filter((foreignKey) => targetState(library, version, foreignKey) === 'dead');
  const heirs = lost.map((key) => heirOfTarget(library, version, key));
  if (heirs.includes('open')) return false;
  const ids = idsOfDead(library, model, version);
  if (ids === 'open') return false;
  const dead = lost.filter((_, i) => heirs[i] === 'none');
  const isCascade = dead.some((foreignKey) => foreignKey.onDelete === 'CASCADE');
  // Null where it is not ours to write. Deletes that it forbids are.
  const over = cellsOverWaiting(library, model, version);
  if (over === null && lost.length === 0 && ids.length > 0) {
    // Not to be written, nor need it be: a merge leads it there (`meanHeirs`).
    merge(joinVersions(library, [version]), []);
    return !hasWaitingVersion(library, uuid);
  }
  if (over === null && (isCascade || dead.length === 0)) return false;
  // First what ON DELETE says of the others: a row that is given another name has to stand under that at once.
  if (over !== null && dead.length === 0 && lost.length + ids.length > 0)
    return followHeirs(
      library,
      waiting,
      version,
      over,
      [...ids, ...settingsOfHeirs(library, model, lost, heirs)],
      merge,
    );
  if (over !== null && isCascade) {
    forgetPending(library, uuid);
    recordVersion(library, { ...waiting, version }, 'cascade', { hlc: library.hlc, run: library.run });
    const last = mayBeUndone(library.registry, model) ? waiting.version : null;
    writeTombstone(library, model, uuid, waiting.birthHlc, waiting.birthRun, library.around.now(), over, last);
    holdOlderVersion(library, waiting);
    return true;
  }
  const cleared = dead.map((key) => (isCarriedOut(model, key) ? clearedBy(library, model, key) : null));
  const forbidding = dead.filter((_, i) => cleared[i] === null);
  if (forbidding.length > 0) return reviveTargets(library, version, forbidding, merge);
  const settings = new Map(cleared.flatMap((settings) => settings ?? []));
  if (over === null || settings.size === 0) return false;
  merge(decodeBatch(encodeBatch(writeVersion(library, model, version, settings, over))), []);
  return true;
}

/** The row that stands for a version's dead target. */
function heirOfTarget(library: Library, version: Batch, foreignKey: ForeignKey): Heir {
  const uuid = targetOf(version, foreignKey);
  return uuid === null ? 'none' : heirOf(library, library.model(foreignKey.table), uuid);
}

function settingsOfHeirs(
  library: Library,
  model: Model,
  dead: readonly ForeignKey[],
  heirs: readonly Heir[],
): [string, Setting][] {
  return dead.flatMap((foreignKey, i) => {
    const heir = heirs[i];
    return heir === undefined || typeof heir === 'string' ? [] : referringTo(library, model, foreignKey, heir);
  });
}

/**
 * Ids of dead rows with an heir that are only part of a foreign key of several columns, as the heir's: what the key refers to has it in its
 * own values, and follows as well.
 */
function idsOfDead(library: Library, model: Model, version: Batch): [string, Setting][] | 'open' {
  const settings: [string, Setting][] = [];
  for (const { name, wire, role } of model.columns) {
    const column = version.tables[0]?.columns.find((candidate) => candidate.name === wire);
    const target = column?.kind === 'ref' ? (column.refs[0] ?? -1) : -1;
    if (target < 0 || role.kind !== 'ref' || !isPartialId(model, name)) continue;
    const parent = library.model(role.table);
    if (stateOf(library, version, parent, target) !== 'dead') continue;
    const heir = heirOf(library, parent, uuidAt(version, target));
    if (heir === 'open') return 'open';
    if (heir !== 'none') settings.push([name, { value: heir.key, named: asTarget(heir) }]);
  }
  return settings;
}

/** Lets a version refer to the heirs of its dead targets. */
function followHeirs(
  library: Library,
  waiting: Omit<Pending, 'targets'>,
  version: Batch,
  over: Cells,
  led: readonly [string, Setting][],
  merge: MergeWaiting,
): boolean {
  const { model, uuid } = waiting;
  const settings = new Map(led);
  const redirected = writeVersion(library, model, version, settings, over);
  const isRenamed = model.identity.kind === 'derived' && model.identity.columns.some((name) => settings.has(name));
  if (!isRenamed) {
    merge(joinVersions(library, [redirected]), []);
    return true;
  }
  // Its name holds the reference: it is another row then, and may be there already. What else it refers to has to be there.
  if (model.foreignKeys.some((foreignKey) => targetState(library, redirected, foreignKey) !== 'alive')) return false;
  const values = valuesHere(library, model, redirected);
  if (values === null) return false;
  // What refers to itself does so under its new name.
  for (const foreignKey of model.foreignKeys) {
    if (!refersToItself(version, foreignKey)) continue;
    foreignKey.columns.forEach((name, i) => values.set(name, values.get(foreignKey.targets[i] ?? '')));
  }
  const here = bearRenamed(library, model, values);
  if (here.row === null) return false;
  // It is one with a row of that name.
  if (!here.isNew && isDiscarded(library, model, { ...waiting, cells: over }, here.row.uuid))
    recordVersion(library, { ...waiting, version }, 'merged', here.row);
  forgetPending(library, uuid);
  writeTombstone(library, model, uuid, waiting.birthHlc, waiting.birthRun, library.around.now(), over);
  nameAlias(library, uuid, here.row.uuid);
  holdOlderVersion(library, waiting);
  return true;
}

/** The row of the name that these values give it, which is inserted unless it is there; null when the table has no room for it. */
function bearRenamed(
  library: Library,
  model: Model,
  values: ReadonlyMap<string, unknown>,
): { readonly row: StandingRow | null; readonly isNew: boolean } {
  const known = rowNamed(library, model, values);
  if (known !== null) return { row: known, isNew: false };
  const columns = syncedColumns(model).map(({ name }) => name);
  asWriter(library, () => {
    unlessRefused(() =>
      library.sql.run(
        `INSERT OR IGNORE INTO ${quoteName(model.table)} (${columns.map(quoteName).join(', ')})
         VALUES (${columns.map(() => '?').join(', ')})`,
        ...columns.map((name) => values.get(name) ?? null),
      ),
    );
  });
  return { row: rowNamed(library, model, values), isNew: true };
}

function asTarget({ model, uuid, birthHlc, birthRun }: StandingRow): Target {
  return { model, uuid, birth: { hlc: birthHlc, run: birthRun } };
}

function referringTo(library: Library, model: Model, foreignKey: ForeignKey, row: StandingRow): [string, Setting][] {
  const target = asTarget(row);
  const list = foreignKey.targets.map(quoteName).join(', ');
  const values = library.sql.rows(
    `SELECT ${list} FROM ${quoteName(row.model.table)} WHERE ${rowByKey(row.model)}`,
    row.key,
  )[0];
  return settingsOf(library, model, foreignKey, values ?? [], target);
}

/** A foreign key that refers to a row here. One of several columns may be an id by itself, of another row then. */
function settingsOf(
  library: Library,
  model: Model,
  { columns, simple }: ForeignKey,
  values: readonly SqlValue[],
  target: Target | null,
): [string, Setting][] {
  return columns.map((name, i): [string, Setting] => {
    const value = values[i] ?? null;
    const { role } = columnNamed(model, name);
    if (simple || role.kind !== 'ref') return [name, { value, target }];
    return [name, { value, target, named: value === null ? null : rowWith(library, library.model(role.table), value) }];
  });
}

/** The row here that has an id. */
function rowWith(library: Library, model: Model, key: SqlValue): Target | null {
  const row = library.sql.rows(`SELECT uuid, birth_hlc, birth_run FROM ${rowsTable(model)} WHERE key = ?`, key)[0];
  if (row === undefined) return null;
  return { model, uuid: row[0] as Uint8Array, birth: { hlc: Number(row[1]), run: Number(row[2]) } };
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
  return settingsOf(library, model, foreignKey, values.map(narrow), target);
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

/** A deleted row that a waiting version cannot do without. */
interface Needed {
  readonly model: Model;
  readonly uuid: Uint8Array;
  readonly hlc: number;
  readonly run: number;
  /** What it held last; null where this device does not have that. */
  readonly last: Batch | null;
  /** Whether this device may bear it again. */
  readonly isOurs: boolean;
  /** The deleted rows that it cannot do without itself. */
  readonly needs: Set<string>;
}

/** Bears the rows again that a waiting version refers to and that may not go. */
function reviveTargets(
  library: Library,
  version: Batch,
  forbidding: readonly ForeignKey[],
  merge: MergeWaiting,
): boolean {
  return bearAgain(library, namedBy(library, version, forbidding), merge);
}

/** A deleted row, under any of its names. */
export type Named = Pick<Needed, 'model' | 'uuid'>;

function namedBy(library: Library, version: Batch, foreignKeys: readonly ForeignKey[]): Named[] {
  return foreignKeys.flatMap((foreignKey) => {
    const uuid = targetOf(version, foreignKey);
    return uuid === null ? [] : [{ model: library.model(foreignKey.table), uuid }];
  });
}

/**
 * Bears deleted rows again, from what their tombstones keep; each as soon as what it cannot do without itself is there. Others are born
 * again by their owners, and by whoever has their values. Of a row that was renamed the last name counts.
 */
export function bearAgain(library: Library, rows: readonly Named[], merge: MergeWaiting): boolean {
  const found = new Map<string, Needed>();
  const queue = rows.map((row) => ({ of: null as Needed | null, row }));
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const { model } = next.row;
    const uuid = Buffer.from(lastHeir(library, model, next.row.uuid));
    const name = bytesToHex(uuid);
    next.of?.needs.add(name);
    if (found.has(name)) continue;
    const needed = readNeeded(library, model, uuid);
    const { last } = needed;
    found.set(name, needed);
    if (last === null) continue;
    const dead = model.foreignKeys.filter(
      (foreignKey) =>
        (foreignKey.onDelete === 'CASCADE' || !isCarriedOut(model, foreignKey)) &&
        targetState(library, last, foreignKey) === 'dead' &&
        // What has an heir is referred to as that.
        heirOfTarget(library, last, foreignKey) === 'none',
    );
    queue.push(...namedBy(library, last, dead).map((row) => ({ of: needed, row })));
  }
  for (let size = -1; size !== found.size;) {
    size = found.size;
    for (const [name, { last, isOurs, needs }] of found)
      if (last === null || !isOurs || [...needs].some((other) => !found.has(other))) found.delete(name);
  }
  if (found.size === 0) return false;
  const revived = [...found.values()].map((needed) => {
    const born = rebear(library, needed.last as Batch);
    recordDelete(library, needed, { hlc: library.hlc, run: library.run });
    return born;
  });
  merge(joinVersions(library, revived), []);
  return true;
}

function readNeeded(library: Library, model: Model, uuid: Buffer): Needed {
  const grave = library.sql.rows('SELECT hlc, run, version FROM flotilla_tombstones WHERE uuid = ?', uuid)[0];
  const [hlc = 0, run = 0] = (grave ?? []).slice(0, 2).map(Number);
  const last = grave?.[2] instanceof Uint8Array ? decodeBatch(grave[2]) : null;
  return { model, uuid, hlc, run, last, isOurs: last !== null && ownsVersion(library, model, last), needs: new Set() };
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
  return target < 0 ? 'alive' : stateOf(library, version, library.model(foreignKey.table), target);
}

/** How the row at an index of a version's dictionary stands. */
function stateOf(library: Library, version: Batch, model: Model, target: number): 'alive' | 'unsettled' | 'dead' {
  const uuid = uuidAt(version, target);
  const here = library.sql.rows(`SELECT birth_hlc, birth_run FROM ${rowsTable(model)} WHERE uuid = ?`, uuid)[0];
  if (here === undefined && hasWaitingVersion(library, uuid)) return 'unsettled';
  const tombstone = library.sql.rows(
    'SELECT hlc, run, birth_hlc, birth_run, seen, alias FROM flotilla_tombstones WHERE uuid = ?',
    uuid,
  )[0];
  // Without a tombstone nothing is decided, even if its birth is in our knowledge: it may have stayed behind at its writer, for
  // lack of a target of its own, and will be born again.
  if (tombstone === undefined) return here === undefined ? 'unsettled' : 'alive';
  const [hlc, run, deadHlc, deadRun] = tombstone.slice(0, 4).map(Number) as [number, number, number, number];
  const birthRun = library.runOrdinal(bytesToHex(runBytes(version, version.birthRun[target] ?? 0)), null);
  const grave = { hlc, run, birthHlc: deadHlc, birthRun: deadRun, seen: tombstone[4] ?? null };
  // A tombstone from before the target's birth says nothing: that row is still to come.
  const birth = { birthHlc: version.birthHlc[target] ?? 0, birthRun };
  const isDead = isKilled(library, model, grave, birth, null);
  if (here !== undefined) {
    // The row that is here may be another one, which has taken the name of the target.
    const other = { birthHlc: Number(here[0]), birthRun: Number(here[1]) };
    const isOther = isDead && tombstone[5] !== null && !isKilled(library, model, grave, other, null);
    if (!isOther || livingHeir(library, model, uuid) !== null) return 'alive';
  }
  return isDead && library.isSettled(run, hlc) ? 'dead' : 'unsettled';
}
