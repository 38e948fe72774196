/**
 * One row that was given two names apart, where its name is its identity: two rows came of it, and become one again under the
 * name that was given later. Where the two tombstones of the old name meet it is noted; at the end of a complete pass, when all is
 * known of both rows, the earlier one gets a tombstone that leads to the other.
 */
import { decodeBatch } from '../protocol/batch.ts';
import type { Batch, SqlValue, TableData } from '../protocol/types.ts';
import { bytesToHex, hexToBytes } from '../protocol/uuid.ts';
import { holdForHeir, mayMakeRoom } from './alias.ts';
import { writeTombstone } from './births.ts';
import type { Cells, LocalStamp } from './cells.ts';
import { recordRow, recordVersion } from './conflicts.ts';
import { collidingHeir, heirOf, nameAlias } from './heirs.ts';
import { cellsOf, columnNamed } from './incoming.ts';
import type { UniqueIndex } from './indexes.ts';
import { readVersion, targetsIn, translateRuns } from './join.ts';
import { isKilled } from './killed.ts';
import type { Library } from './library.ts';
import type { KnownVersion } from './lookup.ts';
import { setState } from './metadata.ts';
import type { Model } from './model.ts';
import { syncedColumns } from './model.ts';
import { forgetPending, hasWaitingVersion, pendingKind, waitingVersion } from './pending.ts';
import type { StandingRow } from './rivals.ts';
import { rivalsIn, standingRow, valuesHere, valuesOfRow } from './rivals.ts';
import { isSettled } from './settled.ts';
import type { RawRow } from './sql.ts';
import { policyOf } from './unique-policy.ts';

export const RIVAL_NAMES = 'rival name ';

const LOST_NAMES = 'lost name ';

/** Names that were given one after the other. */
const MAX_NAMES = 100;

/** One of the rows that came of a row with two names: it stands here, or waits because the other one has its unique value. */
interface Named extends KnownVersion {
  readonly uuid: Uint8Array;
  readonly cells: Cells;
  readonly standing: StandingRow | null;
  readonly version: Batch | null;
}

/**
 * What names the rows of a table that become one only by their names: plain columns alone, or references as well. Null for other
 * tables: an index may say otherwise that rows are one, by its own rule.
 */
function namedBy({ registry }: Library, model: Model): 'values' | 'references' | null {
  const { ownership, identity } = model;
  if (ownership !== 'shared' || identity.kind !== 'derived') return null;
  const isName = (name: string | null): boolean => identity.columns.includes(name ?? '');
  const isMerged = (model.uniques as readonly UniqueIndex[]).some(
    (unique) => (unique.partial || !unique.columns.every(isName)) && policyOf(registry, model, unique) === 'merge',
  );
  if (isMerged) return null;
  const roles = new Set(identity.columns.map((name) => columnNamed(model, name).role.kind));
  return roles.has('ref') ? 'references' : 'values';
}

/**
 * Two tombstones of a row meet: do they give it different names, or does the later one give it none?
 * @param alias - the name that the arriving one gives
 */
export function noteRivalNames(
  library: Library,
  model: Model,
  uuid: Uint8Array,
  known: KnownVersion,
  arriving: KnownVersion,
  alias: Uint8Array | null,
): void {
  const order = library.compare(known.hlc, known.run, arriving.hlc, arriving.run);
  if (order === 0 || model.ownership !== 'shared') return;
  if (library.compare(known.birthHlc, known.birthRun, arriving.birthHlc, arriving.birthRun) !== 0) return;
  const other = library.sql.value('SELECT alias FROM flotilla_tombstones WHERE uuid = ?', Buffer.from(uuid));
  const isKnownEarlier = order < 0;
  if (!(other instanceof Uint8Array) || alias === null) {
    const [earlier, later] = isKnownEarlier ? [other, alias] : [alias, other];
    if (later instanceof Uint8Array || !(earlier instanceof Uint8Array)) return;
    setState(library.db, LOST_NAMES + bytesToHex(uuid), bytesToHex(earlier));
    return;
  }
  if (namedBy(library, model) === null || Buffer.compare(other, alias) === 0) return;
  const [loser, { hlc, run }] = isKnownEarlier ? [other, known] : [alias, arriving];
  setState(library.db, RIVAL_NAMES + bytesToHex(loser), JSON.stringify([bytesToHex(uuid), hlc, run]));
}

/** Makes one what can be now. Returns whether anything was changed. */
export function settleRivalNames(library: Library): boolean {
  let moved = false;
  for (const [key, value] of notesOf(library, LOST_NAMES)) {
    const outcome = settleLost(library, hexToBytes(String(key).slice(LOST_NAMES.length)), hexToBytes(String(value)));
    if (outcome === 'open') continue;
    library.sql.run('DELETE FROM flotilla_state WHERE key = ?', key);
    moved ||= outcome === 'settled';
  }
  // Names that hold references last: of what these lead to it has to be known whether it is one with something else.
  const notes = notesOf(library, RIVAL_NAMES).map((note) => readNote(library, note));
  const inFlux = new Set<string>();
  for (const note of notes.toSorted((a, b) => Number(a.isByReferences) - Number(b.isByReferences))) {
    const { key, model, isByReferences } = note;
    const isHeld = isByReferences && model?.foreignKeys.some(({ table }) => inFlux.has(table)) === true;
    const outcome = model === undefined ? 'nothing' : isHeld ? 'open' : settleName(library, { ...note, model });
    if (model !== undefined && outcome !== 'nothing') inFlux.add(model.table);
    if (outcome === 'open') continue;
    library.sql.run('DELETE FROM flotilla_state WHERE key = ?', key);
    moved ||= outcome === 'settled';
  }
  return moved;
}

/** A row that was given two names apart, of which one has to give way. */
interface RivalNames {
  readonly key: SqlValue;
  readonly model: Model;
  readonly isByReferences: boolean;
  /** Its old name, the one that was given earlier, and when that was. */
  readonly dead: Uint8Array;
  readonly name: Uint8Array;
  readonly given: LocalStamp;
}

function readNote(
  library: Library,
  [key = null, value]: RawRow,
): Omit<RivalNames, 'model'> & { readonly model: Model | undefined } {
  const [hex, hlc, run] = JSON.parse(String(value)) as [string, number, number];
  const dead = hexToBytes(hex);
  const tbl = library.sql.value('SELECT tbl FROM flotilla_tombstones WHERE uuid = ?', Buffer.from(dead));
  const model = library.registry.models.find(({ n }) => n === Number(tbl));
  const isByReferences = model !== undefined && namedBy(library, model) === 'references';
  const name = hexToBytes(String(key).slice(RIVAL_NAMES.length));
  return { key, model, isByReferences, dead, name, given: { hlc, run } };
}

function notesOf(library: Library, prefix: string): RawRow[] {
  return library.sql.rows('SELECT key, value FROM flotilla_state WHERE key > ? AND key < ?', prefix, `${prefix}~`);
}

/**
 * A row was deleted by somebody who had not heard of its new name, under which it lives on: whoever refers to it still means that
 * (N1), so the delete says so from now on.
 */
function settleLost(library: Library, dead: Uint8Array, heir: Uint8Array): 'open' | 'settled' | 'nothing' {
  const grave = library.sql.rows(
    'SELECT tbl, hlc, run, birth_hlc, birth_run, seen, alias FROM flotilla_tombstones WHERE uuid = ?',
    Buffer.from(dead),
  )[0];
  const model = library.registry.models.find(({ n }) => n === Number(grave?.[0]));
  if (grave === undefined || model === undefined || grave[6] !== null) return 'nothing';
  const [hlc, run, birthHlc, birthRun] = grave.slice(1, 5).map(Number) as [number, number, number, number];
  if (!library.isSettled(run, hlc)) return 'open';
  const row = standingRow(library, model, dead);
  const tombstone = { hlc, run, birthHlc, birthRun, seen: grave[5] ?? null };
  // It was made anew, and has to stay that.
  if (hasWaitingVersion(library, dead) || (row !== null && !isKilled(library, model, tombstone, row, row.cells)))
    return 'nothing';
  if (standingRow(library, model, heir) === null && !hasWaitingVersion(library, heir)) return 'nothing';
  const now = library.stampAt(library.around.now());
  library.sql.run(
    'UPDATE flotilla_tombstones SET hlc = ?, run = ?, lsn = ? WHERE uuid = ?',
    now,
    library.run,
    library.nextLsn(),
    Buffer.from(dead),
  );
  nameAlias(library, dead, heir);
  return 'settled';
}

function settleName(library: Library, rivals: RivalNames): 'open' | 'settled' | 'nothing' {
  const { model, dead, name, given } = rivals;
  if (!library.isSettled(given.run, given.hlc)) return 'open';
  const loser = rowNamed(library, model, name, given);
  if (loser === null) return 'nothing';
  const winner = lastNamed(library, model, dead);
  if (winner === 'open' || !isSettled(library, loser)) return 'open';
  // The later one only, so that no two of them can ever lead to each other.
  const births =
    winner === 'none' ? 0 : library.compare(winner.birthHlc, winner.birthRun, loser.birthHlc, loser.birthRun);
  if (winner === 'none' || births <= 0) return 'nothing';
  if (rivals.isByReferences) {
    if (loser.standing !== null && winner.standing !== null) return 'nothing';
    const isDecided = ![loser, winner].some((row) => refersToGoing(library, model, row));
    if (!isDecided || !isInTheWay(library, model, loser, winner)) return 'open';
  }
  const { standing, version } = loser;
  const isFree = standing === null ? winner.standing !== null : pendingKind(library, loser.uuid) === null;
  if (!isFree || (winner.standing === null && (standing === null || !mayMakeRoom(library, standing)))) return 'open';
  if (differs(library, model, loser, winner)) {
    if (version === null) recordRow(library, model, loser.uuid, 'named-apart', winner);
    else recordVersion(library, { ...loser, model, version }, 'named-apart', winner);
  }
  const { uuid, birthHlc, birthRun } = loser;
  if (standing === null) forgetPending(library, uuid);
  writeTombstone(library, model, uuid, birthHlc, birthRun, library.around.now(), loser.cells);
  library.sql.run(
    'UPDATE flotilla_tombstones SET alias = ? WHERE uuid = ?',
    Buffer.from(winner.uuid),
    Buffer.from(uuid),
  );
  if (standing !== null) holdForHeir(library, standing);
  return 'settled';
}

/** The row of the name that a dead one got last. */
function lastNamed(library: Library, model: Model, dead: Uint8Array): Named | 'open' | 'none' {
  const heir = heirOf(library, model, dead);
  if (heir !== 'open') return heir === 'none' ? 'none' : { ...heir, standing: heir, version: null };
  const uuid = collidingHeir(library, model, dead);
  const waiting = uuid === null ? null : waitingNamed(library, model, uuid);
  return waiting !== null && standingRow(library, model, waiting.uuid) === null && isSettled(library, waiting)
    ? waiting
    : 'open';
}

function waitingNamed(library: Library, model: Model, uuid: Uint8Array): Named | null {
  const waiting = waitingVersion(library, uuid);
  if (waiting === null || waiting.version === null || waiting.reason !== 'unique') return null;
  const version = decodeBatch(waiting.version);
  const cells = cellsOf(model, version.tables[0] as TableData, 0, translateRuns(library, version));
  return { ...waiting, version, cells, standing: null };
}

/** The row here that got its name by a rename with this stamp, whatever its writer has called it since. */
function rowNamed(library: Library, model: Model, name: Uint8Array, given: LocalStamp): Named | null {
  let [at, by] = [name, given];
  const isBy = (birthHlc: number, birthRun: number): boolean => birthRun === by.run && birthHlc >= by.hlc;
  for (let step = 0; step < MAX_NAMES; step += 1) {
    const standing = standingRow(library, model, at);
    const row = standing === null ? waitingNamed(library, model, at) : { ...standing, standing, version: null };
    if (row !== null && isBy(row.birthHlc, row.birthRun)) return row;
    const grave = library.sql.rows(
      'SELECT birth_hlc, birth_run, hlc, run, alias FROM flotilla_tombstones WHERE uuid = ? AND alias IS NOT NULL',
      Buffer.from(at),
    )[0];
    if (grave === undefined || !isBy(Number(grave[0]), Number(grave[1]))) return null;
    by = { hlc: Number(grave[2]), run: Number(grave[3]) };
    at = grave[4] as Uint8Array;
  }
  return null;
}

/** What is in its name goes, or is one with another row by now: the name will follow that. */
function refersToGoing(library: Library, model: Model, { uuid, version }: Named): boolean {
  const whole = version ?? readVersion(library, model, uuid);
  return whole === null || targetsIn(whole).some((target) => pendingKind(library, target.uuid) === 'delete');
}

/** A unique index has no room for both: one waits because the other one stands. */
function isInTheWay(library: Library, model: Model, one: Named, other: Named): boolean {
  const [waiting, standing] = one.standing === null ? [one, other.standing] : [other, one.standing];
  const values = waiting.version === null ? null : valuesHere(library, model, waiting.version);
  if (values === null || standing === null) return false;
  return (model.uniques as readonly UniqueIndex[]).some((unique) =>
    rivalsIn(library, model, unique, values, waiting.uuid).some(({ key }) => key === standing.key),
  );
}

function differs(library: Library, model: Model, one: Named, other: Named): boolean {
  const [mine, theirs] = [one, other].map(({ standing, version }) =>
    standing === null ? valuesHere(library, model, version as Batch) : valuesOfRow(library, standing),
  );
  return syncedColumns(model).some(({ name }) => mine?.get(name) !== theirs?.get(name));
}
