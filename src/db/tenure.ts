/**
 * Tenure: by what right a version of an owned row was written, and how two versions of one row with the same birth compare.
 *
 * A *title* is the stamp that made the writer the owner: that of the transfer of the row's root to it, or, where no transfer
 * counts, the birth of the root. A device that made the row itself, and under no transfer, needs none. Versions compare by
 * (epoch, title, stamp). Titles of one root follow each other, so the later one wins whatever the clocks say: who did not know
 * yet that it had lost the root loses against whoever got it. Titles of different roots say nothing about each other; so where
 * a row has changed its root since its last version, the next one begins an *epoch* with the stamp of that version, which is
 * later than every epoch before it. Without epochs a row that was moved from a root with a later title to one with an
 * earlier would be frozen: whatever its new owner wrote would be older than what stands there.
 *
 * Pure: who owns what is for `owners.ts` to say.
 */
import type { Cells, LocalStamp, Order } from './cells.ts';

/**
 * The column numbers under which a version of an owned row carries its tenure among its cells; no column has them. By the first
 * its title is a transfer, by the second the birth of a root.
 */
export const BY_TRANSFER = -1;
export const BY_BIRTH = -2;

/** Devices that a tenure remembers at most: the latest are kept. */
const MAX_SEEN = 8;

export interface Title extends LocalStamp {
  /** Whether it is a transfer, which has to be known before the version can stand; else it is the birth of a root. */
  readonly isTransfer: boolean;
}

export interface Tenure {
  /** null: its writer made the row and its root. */
  readonly title: Title | null;
  readonly epoch: LocalStamp | null;
  /** Of other devices that have written the row the last stamp that its writer had seen. */
  readonly seen: readonly LocalStamp[];
}

/** What every version has that its maker wrote. */
export const CREATORS: Tenure = { title: null, epoch: null, seen: [] };

/** Reads the tenure of a version from its cells. */
export function tenureOf(cells: Cells): Tenure {
  const transfer = cells.get(BY_TRANSFER);
  const cell = transfer ?? cells.get(BY_BIRTH);
  return cell === undefined ? CREATORS : fromStamps([cell, ...cell.seen], transfer !== undefined);
}

/** The cells of a version with this tenure; none for {@link CREATORS}. @param run - any that the version names: it stands where no stamp does */
export function tenureCells(tenure: Tenure, run: number): Cells {
  const [title, ...seen] = tenureStamps(tenure, run);
  const column = tenure.title?.isTransfer === true ? BY_TRANSFER : BY_BIRTH;
  return title === undefined ? new Map() : new Map([[column, { hlc: title.hlc, run: title.run, seen }]]);
}

/** The same as a list: what a tombstone carries. */
export function tenureStamps({ title, epoch, seen }: Tenure, run: number): LocalStamp[] {
  if (title === null && epoch === null && seen.length === 0) return [];
  const none = { hlc: 0, run };
  return [title ?? none, epoch ?? none, ...seen];
}

/** Reads what {@link tenureStamps} made. */
export function fromStamps([title, epoch, ...seen]: readonly LocalStamp[], isTransfer: boolean): Tenure {
  const isReal = (stamp: LocalStamp | undefined): stamp is LocalStamp => stamp !== undefined && stamp.hlc !== 0;
  return {
    title: isReal(title) ? { hlc: title.hlc, run: title.run, isTransfer } : null,
    epoch: isReal(epoch) ? { hlc: epoch.hlc, run: epoch.run } : null,
    seen,
  };
}

/** Orders stamps of which one may be missing: that one is the least. */
export function compareTitles(order: Order, a: LocalStamp | null, b: LocalStamp | null): number {
  if (a === null || b === null) return Number(a !== null) - Number(b !== null);
  return order(a.hlc, a.run, b.hlc, b.run);
}

/** Orders two tenures of one row: by epoch, then by title. Equal ones leave it to the stamps. */
export function compareTenures(order: Order, a: Tenure, b: Tenure): number {
  return compareTitles(order, a.epoch, b.epoch) || compareTitles(order, a.title, b.title);
}

/**
 * The tenure of a version that is written over another one.
 * @param before - that version: its stamp and its tenure
 * @param title - the title of the writer
 * @param isSameRoot - the row still belongs to the root under which `before` was written
 * @param deviceOf - the device of a run
 */
export function nextTenure(
  order: Order,
  before: LocalStamp & { readonly tenure: Tenure },
  title: Title | null,
  isSameRoot: boolean,
  run: number,
  deviceOf: (run: number) => string | null,
): Tenure {
  const { tenure } = before;
  const titles = compareTitles(order, title, tenure.title);
  const isNewEpoch = titles !== 0 && !(isSameRoot && titles > 0);
  return {
    title,
    epoch: isNewEpoch ? { hlc: before.hlc, run: before.run } : tenure.epoch,
    seen: lastOfEach([before, ...tenure.seen], run, deviceOf),
  };
}

/** The last stamp of each device but that of `run`, latest first. */
function lastOfEach(
  stamps: readonly LocalStamp[],
  run: number,
  deviceOf: (run: number) => string | null,
): readonly LocalStamp[] {
  const last = new Map<string | null, LocalStamp>();
  for (const stamp of stamps) {
    const device = deviceOf(stamp.run);
    if (device !== deviceOf(run) && stamp.hlc > (last.get(device)?.hlc ?? -1))
      last.set(device, { hlc: stamp.hlc, run: stamp.run });
  }
  return [...last.values()].toSorted((a, b) => b.hlc - a.hlc || a.run - b.run).slice(0, MAX_SEEN);
}

/** Whether whoever wrote a version knew of another one of the row: a device writes a row on top of what it wrote before. */
export function hasSeen(
  writer: { readonly run: number; readonly tenure: Tenure },
  version: LocalStamp,
  deviceOf: (run: number) => string | null,
): boolean {
  const device = deviceOf(version.run);
  if (deviceOf(writer.run) === device) return true;
  return writer.tenure.seen.some((stamp) => deviceOf(stamp.run) === device && stamp.hlc >= version.hlc);
}
