/**
 * One row that was given two names apart, where its name is its identity: two rows came of it, and become one again under the
 * name that was given later. Where the two tombstones of the old name meet it is noted; at the end of a complete pass, when all is
 * known of both rows, the earlier one gets a tombstone that leads to the other.
 */
import { decodeBatch } from '../protocol/batch.ts';
import type { Batch, TableData } from '../protocol/types.ts';
import { bytesToHex, hexToBytes } from '../protocol/uuid.ts';
import { mayMakeRoom } from './alias.ts';
import { writeTombstone } from './births.ts';
import type { Cells, LocalStamp } from './cells.ts';
import { recordRow, recordVersion } from './conflicts.ts';
import { collidingHeir, heirOf } from './heirs.ts';
import { cellsOf } from './incoming.ts';
import type { UniqueIndex } from './indexes.ts';
import { translateRuns } from './join.ts';
import type { Library } from './library.ts';
import type { KnownVersion } from './lookup.ts';
import { setState } from './metadata.ts';
import type { Model } from './model.ts';
import { syncedColumns } from './model.ts';
import { forgetPending, pendingKind, putPending, waitingVersion } from './pending.ts';
import type { StandingRow } from './rivals.ts';
import { standingRow, valuesHere, valuesOfRow } from './rivals.ts';
import { isSettled } from './settled.ts';
import { policyOf } from './unique-policy.ts';

export const RIVAL_NAMES = 'rival name ';

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
 * Whether rows of a table become one only by their names: an index may say otherwise that they do, by its own rule, and a name that
 * holds references follows what it refers to.
 */
function isNamedApart({ registry }: Library, model: Model): boolean {
  const { ownership, identity, columns } = model;
  if (ownership !== 'shared' || identity.kind !== 'derived') return false;
  const isPlain = (name: string | null): boolean =>
    columns.find((column) => column.name === name)?.role.kind === 'value' && identity.columns.includes(name ?? '');
  return (
    identity.columns.every(isPlain) &&
    (model.uniques as readonly UniqueIndex[]).every(
      (unique) =>
        (!unique.partial && unique.columns.every((name) => isPlain(name))) ||
        policyOf(registry, model, unique) !== 'merge',
    )
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
  if (!isNamedApart(library, model)) return;
  if (library.compare(known.birthHlc, known.birthRun, arriving.birthHlc, arriving.birthRun) !== 0) return;
  const other = library.sql.value('SELECT alias FROM flotilla_tombstones WHERE uuid = ?', Buffer.from(uuid));
  if (!(other instanceof Uint8Array) || Buffer.compare(other, alias) === 0) return;
  const isKnownEarlier = library.compare(known.hlc, known.run, arriving.hlc, arriving.run) < 0;
  const [loser, { hlc, run }] = isKnownEarlier ? [other, known] : [alias, arriving];
  setState(library.db, RIVAL_NAMES + bytesToHex(loser), JSON.stringify([bytesToHex(uuid), hlc, run]));
}

/** Makes one what can be now. Returns whether anything was changed. */
export function settleRivalNames(library: Library): boolean {
  let moved = false;
  const notes = library.sql.rows(
    'SELECT key, value FROM flotilla_state WHERE key > ? AND key < ?',
    RIVAL_NAMES,
    `${RIVAL_NAMES}~`,
  );
  for (const [key, value] of notes) {
    const [dead, hlc, run] = JSON.parse(String(value)) as [string, number, number];
    const loser = hexToBytes(String(key).slice(RIVAL_NAMES.length));
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
  const winner = lastNamed(library, model, dead);
  if (winner === 'open' || !isSettled(library, loser)) return 'open';
  // The later one only, so that no two of them can ever lead to each other.
  const births =
    winner === 'none' ? 0 : library.compare(winner.birthHlc, winner.birthRun, loser.birthHlc, loser.birthRun);
  if (winner === 'none' || births <= 0) return 'nothing';
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
  if (standing !== null) {
    putPending(library, {
      ...standing,
      hlc: library.hlc,
      run: library.run,
      reason: 'referrers',
      detail: 'It has another name now, but rows here still refer to it.',
      version: null,
      targets: [],
    });
  }
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

function differs(library: Library, model: Model, one: Named, other: Named): boolean {
  const [mine, theirs] = [one, other].map(({ standing, version }) =>
    standing === null ? valuesHere(library, model, version as Batch) : valuesOfRow(library, standing),
  );
  return syncedColumns(model).some(({ name }) => mine?.get(name) !== theirs?.get(name));
}
