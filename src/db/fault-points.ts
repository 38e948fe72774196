/**
 * The steps of stamping, applying, ACKing and pruning at which it matters that a process may die: before and after every commit, and
 * inside the transactions. Whoever does such a step says so to `Surroundings.reached`, which no node has: tests give one, and kill
 * their process there, at one point after the other.
 */
export const FAULT_POINTS = [
  // Of every write transaction of an open library, whatever it is for.
  'transaction: begun',
  'transaction: saved',
  'transaction: committed',
  // Marks become stamps: the rows have them and the marks are there still; the marks are gone; what waited was tried again.
  'stamp: replayed',
  'stamp: taken',
  'stamp: retried',
  'stamp: committed',
  // A batch, and at the end of a pass what is known with it; a copy that was joined with finds out which of its rows are new.
  'apply: stamped',
  'apply: merged',
  'apply: learned',
  'apply: reconciled',
  'apply: settled',
  'apply: written',
  'apply: committed',
  'apply: adopted',
  // The batch is durable and its ACK has not left; it has; its receiver takes it in.
  'ack: due',
  'ack: sent',
  'ack: heard',
  'ack: stored',
  'ack: committed',
  // Deletes that all have are forgotten, a slice after the other.
  'prune: forgotten',
  'prune: floor raised',
  'prune: committed',
  // Stamps of a clock that was wrong are given anew: what becomes of each is written down; a slice after the other is renamed.
  'anew: written down',
  'anew: renamed',
  'anew: committed',
  // The tables have changed, and what is known of them follows.
  'schema: followed',
  'schema: committed',
] as const;

export type FaultPoint = (typeof FAULT_POINTS)[number];
