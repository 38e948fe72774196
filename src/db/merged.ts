/**
 * What a merge is asked for, and what it did.
 */
import type { Adopter } from './adopt.ts';
import type { Doomed } from './deletes.ts';

/** What a merge did. */
export interface Merged {
  /** Versions and tombstones that changed something here. */
  changed: number;
  /** UUIDs of rows that stand now and did not before: what waited for them may stand too. */
  readonly arrivals: Uint8Array[];
  /** UUIDs of rows that wait for another row since now. */
  readonly held: Uint8Array[];
}

export interface MergeOptions {
  /** Leave every delete waiting: a commit has failed because of one. */
  readonly holdDeletes: boolean;
  /** The batch holds versions that wait here themselves and are tried again. */
  readonly retake: boolean;
  /** Pairs rows that are here without an identity with equal rows that arrive. */
  readonly adopter: Adopter | null;
  /** Rows whose delete waits here: what arrives may take their unique values, if they can go then. */
  readonly doomed?: readonly Doomed[];
  /**
   * Throws {@link MustUndo} where it would have to be begun again. Inside of a savepoint SQLite keeps the old content of each page that
   * each statement changes: a fifth of what a batch costs, and more the more of them are in one transaction.
   */
  readonly isBold?: boolean;
}

/** A merge without a savepoint has met something that must be undone, with the whole transaction. */
export class MustUndo extends Error {}

/** What two merges did together. */
export function both(one: Merged, other: Merged): Merged {
  return {
    changed: one.changed + other.changed,
    arrivals: [...one.arrivals, ...other.arrivals],
    held: [...one.held, ...other.held],
  };
}
