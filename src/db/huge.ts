/**
 * Rows that are larger than a message may be. They stay behind, and what else there is goes on; but a pass that lacks them is not complete, and
 * the receiver's place stays before them, so that they go as soon as they are small enough.
 */
import { MAX_BATCH_BYTES } from '../protocol/batch.ts';
import { CONFIG_FILE } from './config.ts';
import type { Entry, HeldUp, Pass } from './pass.ts';
import { rowsTable } from './model.ts';
import { TextBytes } from '../protocol/text-bytes.ts';
import type { RawRow, Statements } from './sql.ts';

/** Bytes of the values of a row at most: what a batch carries but for stamps and names. */
export const HUGE_ROW_BYTES = MAX_BATCH_BYTES - 64 * 1024;

const AHEAD_BYTES = 8 * 1024 * 1024;

/** Bytes of UTF-8 that one unit of a string takes at most. */
const UTF8_MOST = 3;

/** Bytes of the values of a version that was read, as they travel. @param size - as it was estimated */
export function isHuge(version: RawRow, size: number): boolean {
  return size * UTF8_MOST > HUGE_ROW_BYTES && bytesOf(version) > HUGE_ROW_BYTES;
}

function bytesOf(version: RawRow): number {
  return version.reduce<number>((sum, value) => {
    if (typeof value === 'string') return sum + Buffer.byteLength(value);
    if (value instanceof TextBytes) return sum + value.bytes.length;
    return sum + (value instanceof Uint8Array ? value.length : 8);
  }, 0);
}

/**
 * Bytes, as they are estimated, of what may go along with these entries: two thousand thumbnails of 4 KB, and little enough beside a page that
 * neither memory nor the message overflows.
 */
export function roomBeside(entries: readonly Entry[]): number {
  const estimated = entries.reduce((sum, { size }) => sum + size, 0) * UTF8_MOST;
  if (estimated + AHEAD_BYTES * UTF8_MOST <= HUGE_ROW_BYTES) return AHEAD_BYTES;
  const exact = entries.reduce(
    (sum, { model, version, size }) => sum + (model && version ? bytesOf(version) : size),
    0,
  );
  return Math.max(0, Math.min(AHEAD_BYTES, (HUGE_ROW_BYTES - exact) / UTF8_MOST));
}

/** Notes an entry that is too large. Returns whether it is. */
export function holdUp(pass: Pass, { lsn, size, model, version, waits }: Entry): boolean {
  if (model !== undefined && version !== undefined) {
    if (!isHuge(version, size)) return false;
    const row = `The row ${String(version[1])} of "${model.table}"`;
    pass.heldUp.set(lsn, { source: rowsTable(model), row, bytes: bytesOf(version) });
    return true;
  }
  if (waits === undefined || size <= HUGE_ROW_BYTES) return false;
  pass.heldUp.set(lsn, { source: 'flotilla_pending', row: `A row of "${waits.model.table}" that waits`, bytes: size });
  return true;
}

/** What is held up by now: that which has changed since has another lsn. */
export function stillHeldUp(sql: Statements, pass: Pass): readonly HeldUp[] {
  for (const [lsn, { source }] of pass.heldUp)
    if (sql.value(`SELECT 1 FROM ${source} WHERE lsn = ?`, lsn) === undefined) pass.heldUp.delete(lsn);
  return [...pass.heldUp.values()];
}

/** Up to where a receiver has everything. */
export function safePosition({ position, heldUp }: Pass): number {
  return Math.min(position, ...[...heldUp.keys()].map((lsn) => lsn - 1));
}

export function heldUpInWords(found: readonly HeldUp[]): string {
  const [first] = found;
  if (first === undefined) return '';
  const more = found.length === 1 ? '' : ` (and ${found.length - 1} more)`;
  return (
    `${first.row}${more} has ${Math.ceil(first.bytes / 1024 / 1024)} MiB, more than the ${Math.floor(HUGE_ROW_BYTES / 1024 / 1024)} MiB that one message carries: ` +
    'it stays behind, and others do not forget deletes or confirm what they have before it has come. ' +
    `Keep such contents in files, or name the column under "localColumns" in ${CONFIG_FILE}.`
  );
}
