/**
 * Local writes of rows of which a newer version waits. The version gets what was written, column by column: what the person sees
 * is the older row with the new value in it, and neither the value nor the rest of the version may be lost.
 */
import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import type { Library } from './library.ts';
import type { Column, Model } from './model.ts';
import { rowsTable } from './model.ts';
import { forgetPending, putPending } from './pending.ts';
import { joinVersion, readVersion, targetsIn, withBirthOf } from './join.ts';

/** Brings the version that waits for this row, if there is one, up to what was just written here in some columns. */
export function amendWaiting(library: Library, model: Model, uuid: Uint8Array, columns: readonly Column[]): void {
  const waiting = library.sql.rows(
    'SELECT birth_hlc, birth_run, reason, detail, version FROM flotilla_pending WHERE uuid = ? AND version IS NOT NULL',
    Buffer.from(uuid),
  )[0];
  const here = waiting === undefined ? null : readVersion(library, model, uuid);
  if (waiting === undefined || here === null) return;
  const [birthHlc, birthRun, reason, detail, version] = waiting;
  const theirs = decodeBatch(version as Uint8Array);
  const row = library.sql.rows(
    `SELECT birth_hlc, birth_run FROM ${rowsTable(model)} WHERE uuid = ?`,
    Buffer.from(uuid),
  )[0];
  if (library.compare(Number(row?.[0]), Number(row?.[1]), Number(birthHlc), Number(birthRun)) > 0) {
    // It has been born again here: that wins whole over what waits.
    forgetPending(library, uuid);
    return;
  }
  const joined = joinVersion(
    library,
    model,
    theirs,
    withBirthOf(theirs, here, new Set(columns.map(({ wire }) => wire))),
  );
  putPending(library, {
    model,
    uuid,
    birthHlc: Number(birthHlc),
    birthRun: Number(birthRun),
    ...joined.last,
    reason: reason as 'constraint',
    detail: String(detail),
    version: encodeBatch(joined.version),
    targets: targetsIn(joined.version)
      .filter((target) => !stands(library, target))
      .map((target) => target.uuid),
  });
}

function stands(library: Library, { table, uuid }: { readonly table: string; readonly uuid: Uint8Array }): boolean {
  const model = library.arriving(table);
  return library.sql.value(`SELECT 1 FROM ${rowsTable(model)} WHERE uuid = ?`, Buffer.from(uuid)) !== undefined;
}
