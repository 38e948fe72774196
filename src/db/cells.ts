/**
 * Cells: the stamps of single columns of a shared row that were written after its birth. A column without one wears the birth
 * stamp. They stand in the row's map table as one JSON text (null for most rows), so that they move and go with it, and one
 * look-up brings them. A table of their own was the other way: it needs a join for each page and a query more for each batch.
 *
 * Beside its stamp a cell says what its writer had seen of other runs in that column. That is what tells a later write from one
 * that knew nothing of the other: only the second discards something that a person has to hear of.
 */
import type { SqlValue } from '../protocol/types.ts';
import { UNSET_HLC } from './model.ts';

/** A change stamp with the local number of its run. */
export interface LocalStamp {
  readonly hlc: number;
  readonly run: number;
}

export interface Cell extends LocalStamp {
  /** Stamps of other runs that its writer had seen in this column, of each run the last. */
  readonly seen: readonly LocalStamp[];
}

/** By column number. */
export type Cells = ReadonlyMap<number, Cell>;

/** Orders two stamps: negative, 0 or positive. */
export type Order = (hlcA: number, runA: number, hlcB: number, runB: number) => number;

/** Runs that a cell remembers at most: so many devices at once do not write one column of one row. The latest are kept. */
const MAX_SEEN = 8;

const NONE: Cells = new Map();

/** Reads what {@link formatCells} wrote. */
export function parseCells(text: SqlValue | undefined): Cells {
  if (typeof text !== 'string') return NONE;
  const cells = new Map<number, Cell>();
  for (const [column = 0, ...stamps] of JSON.parse(text) as number[][]) {
    const [stamp, ...seen] = pairs(stamps);
    if (stamp !== undefined) cells.set(column, { ...stamp, seen });
  }
  return cells;
}

/** `[[column, hlc, run, seen hlc, seen run, …], …]`, columns ascending; null for none. */
export function formatCells(cells: Cells): string | null {
  if (cells.size === 0) return null;
  const sorted = [...cells].toSorted(([a], [b]) => a - b);
  return JSON.stringify(
    sorted.map(([column, { hlc, run, seen }]) => [column, hlc, run, ...seen.flatMap((one) => [one.hlc, one.run])]),
  );
}

/** A list of stamps as one array of numbers, for the tombstones; see {@link formatSeen}. */
export function parseSeen(text: SqlValue | undefined): LocalStamp[] {
  return typeof text === 'string' ? pairs(JSON.parse(text) as number[]) : [];
}

/** `[hlc, run, hlc, run, …]`; null for none. */
export function formatSeen(seen: readonly LocalStamp[]): string | null {
  return seen.length === 0 ? null : JSON.stringify(seen.flatMap(({ hlc, run }) => [hlc, run]));
}

function pairs(numbers: readonly number[]): LocalStamp[] {
  const stamps: LocalStamp[] = [];
  for (let i = 0; i + 1 < numbers.length; i += 2) stamps.push({ hlc: numbers[i] ?? 0, run: numbers[i + 1] ?? 0 });
  return stamps;
}

/** The cells after a write of some columns by one run, which has seen what stood there. */
export function writeColumns(cells: Cells, columns: Iterable<number>, { hlc, run }: LocalStamp): Cells {
  const written = new Map(cells);
  for (const column of columns) {
    const before = cells.get(column);
    written.set(column, { hlc, run, seen: before === undefined ? [] : seenBy(run, [before, ...before.seen]) });
  }
  return written;
}

/** The later of two lists of stamps for each run, without that of `run` itself; the latest {@link MAX_SEEN} of them. */
function seenBy(run: number, stamps: readonly LocalStamp[]): LocalStamp[] {
  const last = new Map<number, number>();
  for (const stamp of stamps) {
    if (stamp.run !== run && stamp.hlc > (last.get(stamp.run) ?? UNSET_HLC)) last.set(stamp.run, stamp.hlc);
  }
  return [...last]
    .map(([of, hlc]) => ({ hlc, run: of }))
    .toSorted((a, b) => b.hlc - a.hlc || a.run - b.run)
    .slice(0, MAX_SEEN);
}

/** What became of two versions of one row with the same birth. */
export interface Joined {
  readonly cells: Cells;
  /** Columns in which theirs is the later one. */
  readonly taken: ReadonlySet<number>;
  /** Those of them in which whoever wrote theirs did not know of ours. */
  readonly unseen: ReadonlySet<number>;
}

/** Joins the cells of two versions with the same birth: of each column the later stamp. The result does not depend on which is ours. */
export function joinCells(order: Order, ours: Cells, theirs: Cells): Joined {
  const taken = new Set<number>();
  const unseen = new Set<number>();
  if (theirs.size === 0 && ours.size === 0) return { cells: ours, taken, unseen };
  const cells = new Map(ours);
  for (const [column, { hlc }] of ours) {
    // They have had a value since the birth, where we have none.
    if (hlc !== UNSET_HLC || theirs.has(column)) continue;
    cells.delete(column);
    taken.add(column);
  }
  for (const [column, their] of theirs) {
    if (their.hlc === UNSET_HLC) continue;
    const our = ours.get(column);
    if (our === undefined || our.hlc === UNSET_HLC) {
      cells.set(column, their);
      taken.add(column);
      continue;
    }
    const which = order(their.hlc, their.run, our.hlc, our.run);
    if (which === 0) continue;
    const [later, earlier] = which > 0 ? [their, our] : [our, their];
    cells.set(column, { ...later, seen: seenBy(later.run, [...later.seen, earlier, ...earlier.seen]) });
    if (which < 0) continue;
    taken.add(column);
    if (!covers([their, ...their.seen], our)) unseen.add(column);
  }
  return { cells, taken, unseen };
}

/** True when one of the stamps is of the same run and not earlier: whoever wrote a run's later change of a row had its earlier ones. */
export function covers(stamps: readonly LocalStamp[], stamp: LocalStamp): boolean {
  return stamps.some(({ hlc, run }) => run === stamp.run && hlc >= stamp.hlc);
}

/** True when a row has been changed by somebody of whose change whoever has seen only `seen` knows nothing. */
export function hasUnseen(cells: Cells, seen: readonly LocalStamp[]): boolean {
  return [...cells.values()].some((cell) => !covers(seen, cell));
}

/** The last change of a row: the greatest of its birth and its cells. */
export function lastChange(order: Order, birth: LocalStamp, cells: Cells): LocalStamp {
  let last = birth;
  for (const { hlc, run } of cells.values()) if (order(hlc, run, last.hlc, last.run) > 0) last = { hlc, run };
  return last;
}

/** What somebody who holds this row has seen of it: of each run the last stamp. That of the birth goes without saying. */
export function seenIn(cells: Cells): LocalStamp[] {
  return seenBy(
    0,
    [...cells.values()].flatMap((cell) => [cell, ...cell.seen]),
  );
}
