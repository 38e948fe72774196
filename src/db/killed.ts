/**
 * What a tombstone kills. Of a shared row: every version whose birth is not later than the delete. Of an owned row: the
 * incarnation that was deleted, as far as the deleter owned it; a version of a later tenure lives, since whoever deleted the
 * row did not know yet that it had gone to somebody else.
 */
import type { SqlValue } from '../protocol/types.ts';
import type { Cells, Order } from './cells.ts';
import { hasUnseen, parseCells, parseSeen } from './cells.ts';
import type { Library } from './library.ts';
import type { KnownTombstone, KnownVersion } from './lookup.ts';
import type { Model } from './model.ts';
import type { Tenure } from './tenure.ts';
import { compareTenures, fromStamps, hasSeen, tenureOf } from './tenure.ts';

function orderOf(library: Library): Order {
  return (hlcA, runA, hlcB, runB) => library.compare(hlcA, runA, hlcB, runB);
}

/** Under which tenure an owned row was deleted. Whether its title is a transfer goes by whether one is known. */
export function tenureOfGrave(seen: SqlValue | undefined): Tenure {
  return fromStamps(parseSeen(seen), true);
}

/** True when a version is dead. @param cells - null where only its birth is known */
export function isKilled(
  library: Library,
  model: Model,
  tombstone: KnownTombstone,
  version: Pick<KnownVersion, 'birthHlc' | 'birthRun'>,
  cells: Cells | null,
): boolean {
  const { birthHlc, birthRun } = version;
  if (model.ownership === 'shared') return library.compare(birthHlc, birthRun, tombstone.hlc, tombstone.run) <= 0;
  const births = library.compare(birthHlc, birthRun, tombstone.birthHlc, tombstone.birthRun);
  if (births !== 0 || cells === null) return births <= 0;
  return compareTenures(orderOf(library), tenureOf(cells), tenureOfGrave(tombstone.seen)) <= 0;
}

/** Which of two tombstones of one row kills more. */
export function compareGraves(library: Library, model: Model, a: KnownTombstone, b: KnownTombstone): number {
  const stamps = library.compare(a.hlc, a.run, b.hlc, b.run);
  if (model.ownership === 'shared') return stamps;
  return (
    library.compare(a.birthHlc, a.birthRun, b.birthHlc, b.birthRun) ||
    compareTenures(orderOf(library), tenureOfGrave(a.seen), tenureOfGrave(b.seen)) ||
    stamps
  );
}

/**
 * Whether whoever deleted a row did not know of its last change. Of another birth it can be told that it was known only where
 * the same run made both, and that one first: the row may have been made apart, or again since.
 */
export function isUnseen(
  library: Library,
  model: Model,
  row: KnownVersion & { readonly cells: SqlValue | undefined },
  tombstone: KnownTombstone,
): boolean {
  if (model.ownership === 'shared') {
    const knewBirth = tombstone.birthRun === row.birthRun && row.birthHlc <= tombstone.birthHlc;
    return !knewBirth || hasUnseen(parseCells(row.cells), parseSeen(tombstone.seen));
  }
  // Nobody has seen what came after: the row that is here may have been made in the place of the deleted one.
  if (library.compare(row.hlc, row.run, tombstone.hlc, tombstone.run) > 0) return true;
  const tenure = tenureOfGrave(tombstone.seen);
  return !hasSeen({ run: tombstone.run, tenure }, row, (run) => library.runDevice(run));
}
