/**
 * One row that was given two names apart, where its name is its identity: two rows came of it, and become one again under the
 * name that was given later. Where the two tombstones of the old name meet it is noted; at the end of a complete pass, when all is
 * known of both rows, the earlier one gets a tombstone that leads to the other.
 */
import { bytesToHex, hexToBytes } from '../protocol/uuid.ts';
import { writeTombstone } from './births.ts';
import type { LocalStamp } from './cells.ts';
import { recordRow } from './conflicts.ts';
import { heirOf } from './heirs.ts';
import type { Library } from './library.ts';
import type { KnownVersion } from './lookup.ts';
import { setState } from './metadata.ts';
import type { Model } from './model.ts';
import { syncedColumns } from './model.ts';
import { pendingKind, putPending } from './pending.ts';
import type { StandingRow } from './rivals.ts';
import { standingRow, valuesOfRow } from './rivals.ts';
import { isSettled } from './settled.ts';

export const RIVAL_NAMES = 'rival name ';

/** Names that were given one after the other. */
const MAX_NAMES = 100;

/**
 * Whether rows of a table become one only by their names: another unique index would make them one by its own rule, and a name that
 * holds references follows what it refers to.
 */
function isNamedApart({ ownership, identity, columns, uniques }: Model): boolean {
  if (ownership !== 'shared' || identity.kind !== 'derived') return false;
  const isPlain = (name: string | null): boolean =>
    columns.find((column) => column.name === name)?.role.kind === 'value' && identity.columns.includes(name ?? '');
  return (
    identity.columns.every(isPlain) &&
    uniques.every((unique) => !unique.partial && unique.columns.every((name) => isPlain(name)))
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
  if (!isNamedApart(model)) return;
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
  const winner = heirOf(library, model, dead);
  if (winner === 'open' || !isSettled(library, loser) || pendingKind(library, loser.uuid) !== null) return 'open';
  // The later one only, so that no two of them can ever lead to each other.
  const births =
    winner === 'none' ? 0 : library.compare(winner.birthHlc, winner.birthRun, loser.birthHlc, loser.birthRun);
  if (winner === 'none' || births <= 0) return 'nothing';
  if (differs(library, loser, winner)) recordRow(library, model, loser.uuid, 'named-apart', winner);
  const { uuid, birthHlc, birthRun } = loser;
  writeTombstone(library, model, uuid, birthHlc, birthRun, library.around.now(), loser.cells);
  library.sql.run(
    'UPDATE flotilla_tombstones SET alias = ? WHERE uuid = ?',
    Buffer.from(winner.uuid),
    Buffer.from(uuid),
  );
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

/** The row here that got its name by a rename with this stamp, whatever its writer has called it since. */
function rowNamed(library: Library, model: Model, name: Uint8Array, given: LocalStamp): StandingRow | null {
  let [at, by] = [name, given];
  const isBy = (birthHlc: number, birthRun: number): boolean => birthRun === by.run && birthHlc > by.hlc;
  for (let step = 0; step < MAX_NAMES; step += 1) {
    const row = standingRow(library, model, at);
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

function differs(library: Library, one: StandingRow, other: StandingRow): boolean {
  const [mine, theirs] = [valuesOfRow(library, one), valuesOfRow(library, other)];
  return syncedColumns(one.model).some(({ name }) => mine.get(name) !== theirs.get(name));
}
