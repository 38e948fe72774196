/**
 * Stamps and the ids of runs: their order, and runs as hex text (in maps and messages) and as bytes (on the wire).
 */
import { FlotillaError } from '../errors.ts';
import { bytesToHex, hexToBytes } from './uuid.ts';
import type { Stamp } from './types.ts';

/** Bytes of a run id. */
export const RUN_BYTES = 16;

const RUN_HEX = /^[0-9a-f]{32}$/;

/**
 * Order of two stamps: negative when `a` is earlier, positive when it is later, 0 when they are the same. Comparing the
 * lower-case hex of two runs is comparing their bytes.
 */
export function compareStamps(a: Stamp, b: Stamp): number {
  if (a.hlc !== b.hlc) return a.hlc < b.hlc ? -1 : 1;
  if (a.run === b.run) return 0;
  return a.run < b.run ? -1 : 1;
}

/** Where no run is meant: the head of a copy that has given no lsn yet. */
export const NO_RUN = '0'.repeat(RUN_BYTES * 2);

/** True for 32 lower-case hex digits. */
export function isRun(run: string): boolean {
  return RUN_HEX.test(run);
}

/** The 16 bytes of a run id. @throws FlotillaError PROTOCOL when it is not one */
export function runToBytes(run: string): Uint8Array {
  if (!isRun(run)) throw new FlotillaError('PROTOCOL', 'A run id is not 32 lower-case hex digits.');
  return hexToBytes(run);
}

/** The run id of 16 bytes. @throws FlotillaError PROTOCOL when there are not 16 */
export function bytesToRun(bytes: Uint8Array): string {
  if (bytes.length !== RUN_BYTES)
    throw new FlotillaError('PROTOCOL', `A run id has ${bytes.length} bytes instead of ${RUN_BYTES}.`);
  return bytesToHex(bytes);
}

/** Run ids one after the other, 16 bytes each. */
export function packRuns(runs: readonly string[]): Uint8Array {
  const joined = runs.join('');
  if (!runs.every(isRun)) throw new FlotillaError('PROTOCOL', 'A run id is not 32 lower-case hex digits.');
  return hexToBytes(joined);
}

/** The inverse of {@link packRuns}. @throws FlotillaError PROTOCOL when the length is no multiple of 16 */
export function unpackRuns(bytes: Uint8Array): string[] {
  if (bytes.length % RUN_BYTES !== 0)
    throw new FlotillaError('PROTOCOL', `A list of runs has ${bytes.length} bytes, no multiple of ${RUN_BYTES}.`);
  const hex = bytesToHex(bytes);
  const runs: string[] = [];
  for (let at = 0; at < hex.length; at += 2 * RUN_BYTES) runs.push(hex.slice(at, at + 2 * RUN_BYTES));
  return runs;
}
