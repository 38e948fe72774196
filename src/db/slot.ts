/**
 * A row as the marks of one slice see it: where it was, where it is now, and what has become of it.
 */
import type { SqlValue } from '../protocol/types.ts';
import type { Cells } from './cells.ts';
import type { FirstMark, MarkKey } from './identity.ts';
import type { MappedRow } from './lookup.ts';
import type { Model } from './model.ts';
import type { Owner } from './owners.ts';
import type { Key } from './sql.ts';

/** A row as the marks saw it. */
export interface Slot {
  readonly model: Model;
  /** Where it is now. */
  key: MarkKey;
  /** Where its mapping stands in the file; null for a row that is born in these marks. */
  readonly mapped:
    | (MappedRow & {
        readonly cells: Cells;
        /** See `aside.ts`. */
        readonly aside: SqlValue;
      })
    | null;
  /** Of a row that is born in the place of another one: what stood aside of that. */
  inherited: SqlValue;
  /** What its `ownedBy` column held before these marks; see `flotilla_marks.owner`. */
  ownedBy: SqlValue;
  /** Of an owned row: whose it was before these marks; null where its path leads nowhere. */
  owner: Owner | null;
  /** The mark that it began with, if it is born in these marks. */
  first?: FirstMark;
  /** Number and time of the last mark that concerned it. */
  order: number;
  at: number;
  alive: boolean;
  changed: boolean;
  /** Which columns have: bits as in a mark's mask. */
  mask: bigint;
  /** What it held when it was deleted, as its mark carries it. */
  last: string | null;
  /** Some column of its identity may have changed. */
  renamed: boolean;
  /** The row that it is from now on, under another name. */
  heir: Slot | null;
  /** It is the heir of another one. */
  inherits: boolean;
  /** It has got another key, so that who refers to it had to be changed as well. */
  hasMoved: boolean;
  /** A mark says that a REPLACE may have evicted it, and none says since that it is there. */
  suspect: boolean;
  /** A mark said so, whatever has been said since: an ON DELETE of what the REPLACE evicts first may write a row that it evicts then. */
  evicted: boolean;
  /** A mark says that it is there as another row is about to be inserted under its key. */
  stands: boolean;
  /** It gets a new birth, though it is the same row. */
  reborn: boolean;
  /** What was added to columns with a policy, by column number. */
  differences: ReadonlyMap<number, SqlValue>;
}

const NO_DIFFERENCES: ReadonlyMap<number, SqlValue> = new Map();

export function newSlot(model: Model, key: MarkKey, mapped: Slot['mapped']): Slot {
  return {
    model,
    key,
    mapped,
    ownedBy: null,
    owner: null,
    order: 0,
    at: 0,
    alive: true,
    changed: false,
    mask: 0n,
    last: null,
    renamed: false,
    heir: null,
    inherits: false,
    hasMoved: false,
    inherited: null,
    suspect: false,
    evicted: false,
    stands: false,
    reborn: false,
    differences: NO_DIFFERENCES,
  };
}

/** A natural key stands in the map table too, and may have followed what it refers to while nothing else was written. */
export function isWritten({ model, changed, hasMoved }: Slot): boolean {
  return changed || (model.rowid === null && hasMoved);
}

/** The ids that rows had which have left them, by table with integer keys. */
export function leftKeys(slots: readonly Slot[]): Map<Model, Key[]> {
  const left = new Map<Model, Key[]>();
  for (const { model, mapped } of slots) {
    if (model.rowid === null || mapped === null) continue;
    const keys = left.get(model) ?? [];
    keys.push(mapped.key);
    left.set(model, keys);
  }
  return left;
}
