/**
 * One row that was given two names apart, where its name is its identity: two rows came of it, and become one again under the
 * name that was given later. Where the two tombstones of the old name meet it is noted; at the end of a complete pass, when all is
 * known of both rows, the earlier one gets a tombstone that leads to the other.
 */
import { decodeBatch } from '../protocol/batch.ts';
import { bytesToHex, hexToBytes } from '../protocol/uuid.ts';
import { isIdentity } from './alias.ts';
import { writeTombstone } from './births.ts';
import type { LocalStamp } from './cells.ts';
import { recordRow, recordVersion } from './conflicts.ts';
import { collidingHeir, heirOf, nameAlias } from './heirs.ts';
import type { UniqueIndex } from './indexes.ts';
import type { Library } from './library.ts';
import type { KnownVersion } from './lookup.ts';
import { setState } from './metadata.ts';
import type { Model, Registry } from './model.ts';
import { cellsWaiting } from './owned-versions.ts';
import { pendingKind, putPending, waitingVersion } from './pending.ts';
import type { StandingRow } from './rivals.ts';
import { standingRow } from './rivals.ts';
import { isSettled } from './settled.ts';
import { policyOf } from './unique-policy.ts';

const PREFIX = 'rival name ';

/** Names that were given one after the other. */
const MAX_NAMES = 100;

/**
 * Whether rows of a table become one only by their names: an index that makes rows one does it by its own rule, and a name that
 * holds references follows what it refers to.
 */
function isNamedApart(registry: Registry, model: Model): boolean {
  const { ownership, identity, columns } = model;
  if (ownership !== 'shared' || identity.kind !== 'derived') return false;
  const isPlain = (name: string): boolean => columns.find((column) => column.name === name)?.role.kind === 'value';
  const uniques = model.uniques as readonly UniqueIndex[];
  return (
    identity.columns.every(isPlain) &&
    uniques.every((unique) => isIdentity(model, unique) || policyOf(registry, model, unique) !== 'merge')
  );
}

/** Two tombstones of a row meet: do they give it different names? @param alias - the name that the arriving one gives */
export function noteRivalNames(
  library: Library,
  model: Model,
  uuid: Uint8Array,
  known: KnownVersion,
  arriving: KnownVersion,
  alias: Uint8Array,
): void {
  if (!isNamedApart(library.registry, model)) return;
  if (library.compare(known.birthHlc, known.birthRun, arriving.birthHlc, arriving.birthRun) !== 0) return;
  const other = library.sql.value('SELECT alias FROM flotilla_tombstones WHERE uuid = ?', Buffer.from(uuid));
  if (!(other instanceof Uint8Array) || Buffer.compare(other, alias) === 0) return;
  const isKnownEarlier = library.compare(known.hlc, known.run, arriving.hlc, arriving.run) < 0;
  const [loser, { hlc, run }] = isKnownEarlier ? [other, known] : [alias, arriving];
  setState(library.db, PREFIX + bytesToHex(loser), JSON.stringify([bytesToHex(uuid), hlc, run]));
}

/** Makes one what can be now. Returns whether anything was changed. */
export function settleRivalNames(library: Library): boolean {
  let moved = false;
  const notes = library.sql.rows(
    'SELECT key, value FROM flotilla_state WHERE key > ? AND key < ?',
    PREFIX,
    `${PREFIX}~`,
  );
  for (const [key, value] of notes) {
    const [dead, hlc, run] = JSON.parse(String(value)) as [string, number, number];
    const loser = hexToBytes(String(key).slice(PREFIX.length));
    const outcome = settleName(library, hexToBytes(dead), loser, { hlc, run });
    if (outcome === 'open') continue;
    library.sql.run('DELETE FROM flotilla_state WHERE key = ?', key);
    moved ||= outcome === 'settled';
  }
  return moved;
}

function settleName(
  library: Library,
  dead: Uint8Array,
  name: Uint8Array,
  given: LocalStamp,
): 'open' | 'settled' | 'nothing' {
  if (!library.isSettled(given.run, given.hlc)) return 'open';
  const tbl = library.sql.value('SELECT tbl FROM flotilla_tombstones WHERE uuid = ?', Buffer.from(dead));
  const model = library.registry.models.find(({ n }) => n === Number(tbl));
  if (model === undefined) return 'nothing';
  const loser = rowNamed(library, model, name, given);
  if (loser === null) return 'nothing';
  const winner = heirNamed(library, model, dead);
  if (winner === 'open' || !isDecided(library, loser)) return 'open';
  // The later one only, so that no two of them can ever lead to each other.
  const births =
    winner === 'none' ? 0 : library.compare(winner.birthHlc, winner.birthRun, loser.birthHlc, loser.birthRun);
  if (winner === 'none' || births <= 0) return 'nothing';
  const { uuid, birthHlc, birthRun, version } = loser;
  if (version === null) recordRow(library, model, uuid, 'named-apart', winner);
  else recordVersion(library, { ...loser, version: decodeBatch(version) }, 'named-apart', winner);
  // What waits for this row waits no more.
  writeTombstone(library, model, uuid, birthHlc, birthRun, library.around.now(), loser.cells);
  nameAlias(library, uuid, winner.uuid);
  if (version !== null) return 'settled';
  putPending(library, {
    ...loser,
    hlc: library.hlc,
    run: library.run,
    reason: 'referrers',
    detail: 'It has another name now, but rows here still refer to it.',
    version: null,
    targets: [],
  });
  return 'settled';
}

/** A row that stands here, or the version of one that does not. */
type Named = Omit<StandingRow, 'key'> & { readonly version: Uint8Array | null };

/** All is known of it, and nothing but a unique index keeps it from standing. */
function isDecided(library: Library, row: Named): boolean {
  return isSettled(library, row) && pendingKind(library, row.uuid) === (row.version === null ? null : 'unique');
}

/** The row that is meant by the name of a dead one; also one that waits because another one has its unique values. */
function heirNamed(library: Library, model: Model, dead: Uint8Array): Named | 'open' | 'none' {
  const heir = heirOf(library, model, dead);
  if (heir === 'none') return heir;
  if (heir !== 'open') return { ...heir, version: null };
  const uuid = collidingHeir(library, model, dead);
  const waiting = uuid === null ? null : waitingRow(library, model, uuid);
  return waiting !== null && isDecided(library, waiting) ? waiting : 'open';
}

function waitingRow(library: Library, model: Model, uuid: Uint8Array): Named | null {
  const waiting = waitingVersion(library, uuid);
  return waiting === null || standingRow(library, model, uuid) !== null
    ? null
    : { ...waiting, cells: cellsWaiting(library, model, uuid) };
}

/** The row that got its name by a rename with this stamp, whatever its writer has called it since. */
function rowNamed(library: Library, model: Model, name: Uint8Array, given: LocalStamp): Named | null {
  let [at, by] = [name, given];
  const isBy = (birthHlc: number, birthRun: number): boolean => birthRun === by.run && birthHlc >= by.hlc;
  for (let step = 0; step < MAX_NAMES; step += 1) {
    const here = standingRow(library, model, at);
    const row = here === null ? waitingRow(library, model, at) : { ...here, version: null };
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
