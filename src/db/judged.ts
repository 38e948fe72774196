/**
 * The outcome of an arriving version with what its policy columns show: it waits when their entries cannot be brought together.
 */
import { FlotillaError } from '../errors.ts';
import type { SqlValue } from '../protocol/types.ts';
import type { AsideValue } from './aside.ts';
import { formatAside, withoutUnset } from './aside.ts';
import type { Cell, Cells, LocalStamp, Policies } from './cells.ts';
import { isUnset, stampsOf } from './cells.ts';
import type { Hold, Outcome } from './incoming.ts';
import { foldAside } from './late.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { lateColumns, syncedColumns } from './model.ts';

/** With what columns with a policy show of the row's entries; it waits if they cannot be brought together. */
export function withShown(policies: Policies, outcome: Judged): Judged {
  if (outcome.hold !== null) return outcome;
  const shown = new Map<number, SqlValue>();
  try {
    for (const [number, policy] of policies) shown.set(number, policy.fold(outcome.cells.get(number)?.entries ?? []));
    return { ...outcome, shown };
  } catch (error) {
    if (error instanceof FlotillaError) return { ...outcome, hold: holdFor(error.message) };
    throw error;
  }
}

/** Why a version waits whose columns cannot be brought together; null when they can. */
export function holdFor(fault: string | null): Hold | null {
  return fault === null ? null : { reason: 'constraint', detail: fault };
}

/** What a version makes of the row that is here, and why it has to wait all the same. */
export type Judged = Outcome & { readonly hold: Hold | null };

/** Whether a version is nothing but the values that its row was born with; nearly all that a first pass brings is. */
export function isPlain(model: Model, cells: Cells, policies: Policies): boolean {
  return cells.size === 0 && policies.size === 0 && lateColumns(model).length === 0;
}

/** What such a version makes where its row is not here. */
export const PLAIN: Omit<Judged, keyof LocalStamp> = {
  cells: new Map(),
  aside: null,
  unset: new Set(),
  taken: null,
  unseen: new Set(),
  lost: new Map(),
  rule: 'later-write',
  shown: new Map(),
  hold: null,
};

/** What of the outcome is stored beside the table. */
export function keptBeside(
  library: Library,
  model: Model,
  birthHlc: number,
  all: Cells,
  values: ReadonlyMap<number, AsideValue>,
): Pick<Outcome, 'cells' | 'aside' | 'unset'> {
  const { cells, aside } = withoutUnset(model, birthHlc, all, foldAside(library, model, all, values));
  const unset =
    cells.size === all.size && aside.size === 0
      ? PLAIN.unset
      : new Set(syncedColumns(model).flatMap(({ number }) => (isUnset(number, all.get(number)) ? [number] : [])));
  return { cells, aside: formatAside(aside), unset };
}

/**
 * The columns of a row that is written over whole, as they were.
 * @param by - the run that bore it again: if it wrote the row last, it has seen all but what others wrote into columns of their own
 */
export function lostIn(model: Model, row: LocalStamp, cells: Cells, by: number | null): Cells {
  const lost = new Map<number, Cell>();
  for (const { number } of syncedColumns(model)) {
    const own = cells.get(number);
    const cell = isUnset(number, own) ? undefined : own;
    const isSeen = row.run === by && (cell === undefined || stampsOf(cell).every(({ run }) => run === by));
    const { hlc, run } = cell ?? row;
    if (!isSeen) lost.set(number, { hlc, run, seen: [] });
  }
  return lost;
}
