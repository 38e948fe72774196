/** Whether all is known of a row, so that an outcome may be written. Whether this device may is for `owned-outcomes.ts` to say. */
import type { Cells } from './cells.ts';
import { stampsOf } from './cells.ts';
import type { Library } from './library.ts';
import type { KnownVersion } from './lookup.ts';

/** Nothing about it can still be on its way from where we have heard of it. */
export function isSettled(library: Library, version: KnownVersion & { readonly cells?: Cells }): boolean {
  const stamps = [
    ...[...(version.cells?.values() ?? [])].flatMap(stampsOf),
    version,
    { hlc: version.birthHlc, run: version.birthRun },
  ];
  return stamps.every(({ hlc, run }) => library.isSettled(run, hlc));
}

/** SQL condition: the row of the map table `m` is not one that is about to go, because its delete waits or has just been written. */
export function isStaying(m: string): string {
  return `NOT EXISTS (SELECT 1 FROM flotilla_tombstones s WHERE s.uuid = ${m}.uuid AND s.hlc >= ${m}.birth_hlc)`;
}
