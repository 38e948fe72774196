/**
 * Whether all is known of a row, so that an outcome may be written; and whether this device may write it.
 */
import type { Cells } from './cells.ts';
import type { Library } from './library.ts';
import type { KnownVersion } from './lookup.ts';
import type { Model } from './model.ts';

/** Nothing about it can still be on its way from where we have heard of it. */
export function isSettled(library: Library, version: KnownVersion & { readonly cells?: Cells }): boolean {
  const stamps = [...(version.cells?.values() ?? []), version, { hlc: version.birthHlc, run: version.birthRun }];
  return stamps.every(({ hlc, run }) => library.isSettled(run, hlc));
}

/** Rows of another device's are left to it. */
export function mayWriteHere(library: Library, row: { readonly model: Model; readonly birthRun: number }): boolean {
  return row.model.ownership === 'shared' || library.runDevice(row.birthRun) === library.around.device;
}
