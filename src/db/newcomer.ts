/**
 * A device that has just joined takes its first pass from one member alone: from several at once it could get a row from one, and the
 * claim that nothing is missing from another who has pruned the row's delete.
 */
import type { KnowledgeWire, PassKind } from '../protocol/types.ts';
import { isBelow, raiseFloor } from './floor.ts';
import { entriesOf } from './knowledge-wire.ts';
import type { Library } from './library.ts';
import { getState, setState } from './metadata.ts';
import { quoteName, rowsTable } from './model.ts';
import { noteTakenOver } from './reconcile.ts';
import { snapshotModels } from './snapshot.ts';

/** The member from whom a newcomer takes its first pass; '' for nobody yet. No such entry once it is complete. */
const KEY = 'newcomer';

/** Before a peer id: up to where that member had pruned deletes when the pass began. The newcomer will lack those deletes as well. */
const FLOOR = 'newcomer-floor ';

/** Call it where a library is made of an invitation. */
export function markNewcomer(library: Library): void {
  setState(library.db, KEY, '');
}

/** Before the peer id: what has come already is not from that one alone. */
const MIXED = '+';

/** From whom the first pass comes: '' when nobody has sent anything yet, null when it is complete. */
export function sourceOf(library: Library): string | null {
  return readSource(library)?.peer ?? null;
}

function readSource(library: Library): { readonly peer: string; readonly isMixed: boolean } | null {
  const value = getState(library.db, KEY);
  if (typeof value !== 'string') return null;
  return { peer: value.replace(MIXED, ''), isMixed: value.startsWith(MIXED) };
}

/**
 * What kind of pass this device has to ask a peer for. A newcomer that was restored from a backup may have told others of its rows before,
 * and have had their deletes, which may be forgotten by now: what it has it must reconcile, unless nothing was forgotten since its pass began.
 * @param floor - the peer's
 */
export function passKind(library: Library, peer: string, floor: ReadonlyMap<string, number>): PassKind {
  const source = readSource(library);
  const isFirst = source !== null && !source.isMixed && (source.peer === '' || source.peer === peer);
  if (isFirst && (!hasRisen(library, peer, floor) || isEmpty(library))) return 'newcomer';
  return isBelow(library.knowledge(), floor) ? 'reconcile' : 'ordinary';
}

/** Whether a peer has pruned since this device began its first pass there; true where it has not begun one. */
function hasRisen(library: Library, peer: string, floor: ReadonlyMap<string, number>): boolean {
  const stored = readFloor(library, peer);
  return stored === null || isBelow(stored, floor);
}

function readFloor(library: Library, peer: string): Map<string, number> | null {
  const stored = getState(library.db, FLOOR + peer);
  return typeof stored === 'string' ? new Map(JSON.parse(stored) as [string, number][]) : null;
}

/** There are no rows in the user's tables, none that wait and no deletes. */
export function isEmpty({ sql, registry }: Library): boolean {
  const tables = snapshotModels(registry).flatMap((model) => [rowsTable(model), quoteName(model.table)]);
  return [...tables, 'flotilla_tombstones', 'flotilla_pending'].every(
    (table) => sql.value(`SELECT 1 FROM ${table} LIMIT 1`) === undefined,
  );
}

/** The first pass begins, or goes on. @param floor - the sender's */
export function beginNewcomer(library: Library, peer: string, floor: KnowledgeWire): void {
  setState(library.db, FLOOR + peer, JSON.stringify(entriesOf(floor)));
}

function forgetFloors(library: Library): void {
  library.sql.run("DELETE FROM flotilla_state WHERE key GLOB ? || '*'", FLOOR);
}

/** A page of a peer was taken. After the last one, whoever knows less than its sender had pruned must reconcile with us as well. */
export function noteSource(library: Library, peer: string, isComplete: boolean): void {
  const source = sourceOf(library);
  if (source === null) return;
  if (isComplete) {
    const floor = readFloor(library, peer) ?? new Map<string, number>();
    // From one that was restored meanwhile less may have come.
    if (!isBelow(library.knowledge(), floor))
      for (const [run, hlc] of floor) raiseFloor(library, library.runOrdinal(run, null), hlc);
    noteTakenOver(library, peer);
    library.sql.run('DELETE FROM flotilla_state WHERE key = ?', KEY);
    forgetFloors(library);
  } else if (source !== peer) setState(library.db, KEY, peer);
}

/** Another peer takes over where the first one was lost. What has come may lack deletes that it has pruned, so it reconciles. */
export function takeOver(library: Library, peer: string): void {
  const source = sourceOf(library);
  if (source === null || source === '' || source === peer) return;
  setState(library.db, KEY, MIXED + peer);
  forgetFloors(library);
}
