/**
 * Cells: the stamps of single columns of a shared row that were written after its birth. A column without one wears the birth
 * stamp. They stand in the row's map table as one JSON text (null for most rows), so that they move and go with it, and one
 * look-up brings them. A table of their own was the other way: it needs a join for each page and a query more for each batch.
 *
 * Beside its stamp a cell says what its writer had seen of other runs in that column. That is what tells a later write from one
 * that knew nothing of the other: only the second discards something that a person has to hear of.
 */
import { FlotillaError } from '../errors.ts';
import type { SqlValue } from '../protocol/types.ts';
import { UNSET_HLC } from './model.ts';
import type { Policy } from './registers.ts';
import { isSame, textToValue, valueToText } from './registers.ts';

/** A write of a column with a policy. */
export interface Entry extends LocalStamp {
  readonly value: SqlValue;
}

/** A change stamp with the local number of its run. */
export interface LocalStamp {
  readonly hlc: number;
  readonly run: number;
}

export interface Cell extends LocalStamp {
  /** Stamps of other runs that its writer had seen in this column, of each run the last. */
  readonly seen: readonly LocalStamp[];
  /** Of a column with a policy, which has no other stamps: its entries (`registers.ts`). The stamp is that of the latest. */
  readonly entries?: readonly Entry[];
}

/** By column number. */
export type Cells = ReadonlyMap<number, Cell>;

/** Orders two stamps: negative, 0 or positive. */
export type Order = (hlcA: number, runA: number, hlcB: number, runB: number) => number;

/** Runs that a cell remembers at most: so many devices at once do not write one column of one row. The latest are kept. */
const MAX_SEEN = 8;

/** Stamps that a tombstone remembers at most, about 1 KB. Whose change is not among them counts as unseen. */
const MAX_BURIED = 64;

const NONE: Cells = new Map();

/** Reads what {@link formatCells} wrote. */
export function parseCells(text: SqlValue | undefined): Cells {
  if (typeof text !== 'string') return NONE;
  const cells = new Map<number, Cell>();
  for (const [column, ...parts] of JSON.parse(text) as [number, ...(number | StoredEntry)[]][]) {
    if (Array.isArray(parts[0])) {
      const entries = (parts as StoredEntry[]).map(([hlc, run, value]) => ({ hlc, run, value: textToValue(value) }));
      cells.set(column, registerCell(entries));
      continue;
    }
    const [stamp, ...seen] = pairs(parts as number[]);
    if (stamp !== undefined) cells.set(column, { ...stamp, seen });
  }
  return cells;
}

type StoredEntry = [hlc: number, run: number, value: string];

/** A register as a cell. */
export function registerCell(entries: readonly Entry[]): Cell {
  // Two entries of one time may be of two runs; which of them is the last, only their order can say (`lastChange`).
  const { hlc, run } = entries.reduce((last, entry) => (entry.hlc > last.hlc ? entry : last), NOTHING_WRITTEN);
  return { hlc, run, seen: [], entries };
}

const NOTHING_WRITTEN: LocalStamp = { hlc: 0, run: 0 };

/** Whether a cell says that the row has no value of its own in a column. (What an owned row says of its ownership has numbers below 0.) */
export function isUnset(column: number, cell: Cell | undefined): boolean {
  return column >= 0 && cell !== undefined && cell.hlc === UNSET_HLC && cell.entries === undefined;
}

/** Those of the cells that are registers. */
export function registersIn(cells: Cells): Cells {
  return new Map([...cells].filter(([, { entries }]) => entries !== undefined));
}

/** The stamps of what stands in a column, as opposed to what was seen. */
export function stampsOf(cell: Cell): readonly LocalStamp[] {
  return cell.entries ?? [cell];
}

/** `[[column, hlc, run, seen hlc, seen run, …], …]`, of a register `[column, [hlc, run, value], …]`, columns ascending; null for none. */
export function formatCells(cells: Cells): string | null {
  if (cells.size === 0) return null;
  const sorted = [...cells].toSorted(([a], [b]) => a - b);
  return JSON.stringify(
    sorted.map(([column, { hlc, run, seen, entries }]) =>
      entries === undefined
        ? [column, hlc, run, ...seen.flatMap((one) => [one.hlc, one.run])]
        : [column, ...entries.map((entry) => [entry.hlc, entry.run, valueToText(entry.value)])],
    ),
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
  /** Why the entries of some column could not be brought together; they stand side by side then. Null when all is well. */
  readonly fault: string | null;
}

/** Policies of a table's columns, by column number. */
export type Policies = ReadonlyMap<number, Policy>;

const NO_POLICIES: Policies = new Map();

/** Joins the cells of two versions with the same birth: of each column the later stamp. The result does not depend on which is ours. */
export function joinCells(order: Order, ours: Cells, theirs: Cells, policies: Policies = NO_POLICIES): Joined {
  const taken = new Set<number>();
  const unseen = new Set<number>();
  let fault: string | null = null;
  if (theirs.size === 0 && ours.size === 0) return { cells: ours, taken, unseen, fault };
  const cells = new Map(ours);
  for (const [column, our] of ours) {
    // They have had a value since the birth, where we have none.
    if (!isUnset(column, our) || theirs.has(column)) continue;
    cells.delete(column);
    taken.add(column);
  }
  for (const [column, their] of theirs) {
    if (isUnset(column, their)) continue;
    const our = ours.get(column);
    const policy = policies.get(column);
    if (policy !== undefined) {
      const joined = joinEntries(policy, our?.entries ?? [], their.entries ?? []);
      fault ??= joined.fault;
      cells.set(column, registerCell(joined.entries));
      if (joined.isNews) taken.add(column);
      continue;
    }
    if (their.entries !== undefined) throw new RangeError('a register is joined without its policy');
    if (our === undefined || isUnset(column, our)) {
      cells.set(column, their);
      taken.add(column);
      continue;
    }
    const which = order(their.hlc, their.run, our.hlc, our.run);
    if (which === 0) continue;
    const later = which > 0 ? their : our;
    // What its writer had seen stays what it was: that the two met here tells nothing about it.
    cells.set(column, later);
    if (which < 0) continue;
    taken.add(column);
    if (!covers([their, ...their.seen], our)) unseen.add(column);
  }
  return { cells, taken, unseen, fault };
}

/** Joins the entries of one register. Nothing is discarded there, so nothing is discarded unseen. */
function joinEntries(
  policy: Policy,
  ours: readonly Entry[],
  theirs: readonly Entry[],
): { readonly entries: readonly Entry[]; readonly isNews: boolean; readonly fault: string | null } {
  const isOurs = (entry: Entry): boolean =>
    ours.some(({ hlc, run, value }) => hlc === entry.hlc && run === entry.run && isSame(value, entry.value));
  try {
    const entries = policy.join(ours, theirs);
    return { entries, isNews: !entries.every(isOurs), fault: null };
  } catch (error) {
    if (!(error instanceof FlotillaError)) throw error;
    const news = theirs.filter((entry) => !isOurs(entry));
    return { entries: [...ours, ...news], isNews: news.length > 0, fault: error.message };
  }
}

/** True when one of the stamps is of the same run and not earlier: whoever wrote a run's later change of a row had its earlier ones. */
export function covers(stamps: readonly LocalStamp[], stamp: LocalStamp): boolean {
  return stamps.some(({ hlc, run }) => run === stamp.run && hlc >= stamp.hlc);
}

/**
 * True when a row has been changed by somebody of whose change a deleter knows nothing. @param seen - see {@link seenIn}: the
 * stamps do not say in which column they were seen, so they are counted; what was overwritten there unseen is one too few.
 */
export function hasUnseen(cells: Cells, seen: readonly LocalStamp[]): boolean {
  const left = seen.toSorted((a, b) => b.hlc - a.hlc);
  const stamps = [...cells.values()].flatMap(stampsOf).toSorted((a, b) => b.hlc - a.hlc);
  return stamps.some((stamp) => {
    const place = left.findIndex(({ hlc, run }) => run === stamp.run && hlc >= stamp.hlc);
    if (place >= 0) left.splice(place, 1);
    return place < 0;
  });
}

/** The last change of a row: the greatest of its birth and its cells. */
export function lastChange(order: Order, birth: LocalStamp, cells: Cells): LocalStamp {
  let last = birth;
  for (const cell of cells.values()) {
    for (const { hlc, run } of stampsOf(cell)) if (order(hlc, run, last.hlc, last.run) > 0) last = { hlc, run };
  }
  return last;
}

/**
 * What somebody who holds this row has seen of it: in each column the last stamp of each run. Those of the birth go without saying.
 * Each run that counted has an entry of its own, and whoever deletes the row has seen them all.
 */
export function seenIn(cells: Cells): LocalStamp[] {
  const most = [...cells.values()].some(({ entries }) => entries !== undefined) ? Infinity : MAX_BURIED;
  return [...cells.values()]
    .flatMap((cell) => [...stampsOf(cell), ...cell.seen])
    .map(({ hlc, run }) => ({ hlc, run }))
    .toSorted((a, b) => b.hlc - a.hlc || a.run - b.run)
    .slice(0, most);
}
