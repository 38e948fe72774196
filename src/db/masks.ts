/**
 * Which columns a mark says were changed: one bit a column, see `capture.ts`.
 */
import { LAST_MASK_BIT } from './capture.ts';
import type { Model } from './model.ts';

/** Every bit that a mask may have. */
export const ALL_COLUMNS = (1n << BigInt(LAST_MASK_BIT + 1)) - 1n;

/** The bit of a column, by its number. */
export function maskBit(number: number): bigint {
  return 1n << BigInt(Math.min(number, LAST_MASK_BIT));
}

/**
 * A reference of several columns counts as one: joined column by column with another one that was written at the same time it
 * could name a row that nobody ever meant, and none at all.
 */
export function withWholeReferences(model: Model, mask: bigint): bigint {
  for (let before = -1n; before !== mask;) {
    before = mask;
    for (const { columns } of model.foreignKeys) {
      if (columns.length === 1) continue;
      const bits = model.columns.filter(({ name }) => columns.includes(name)).map(({ number }) => maskBit(number));
      if (bits.some((bit) => (mask & bit) !== 0n)) for (const bit of bits) mask |= bit;
    }
  }
  return mask;
}

/** Whether a write of these columns may have given the row another name. */
export function identityMayChange(model: Model, mask: bigint): boolean {
  const { identity } = model;
  if (identity.kind !== 'derived') return false;
  return identity.columns.some((name) => {
    const number = model.columns.find((column) => column.name === name)?.number ?? 0;
    return (mask & maskBit(number)) !== 0n;
  });
}
