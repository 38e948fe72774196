/**
 * Local writes of rows of which a newer version waits. The version gets what was written, column by column: what the person sees
 * is the older row with the new value in it, and neither the value nor the rest of the version may be lost.
 */
import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import type { SqlValue } from '../protocol/types.ts';
import type { Library } from './library.ts';
import type { Column, Model } from './model.ts';
import { rowsTable } from './model.ts';
import { forgetPending, putPending } from './pending.ts';
import { joinVersion, readVersion, targetsIn, withBirthOf } from './join.ts';

/**
 * Brings the version that waits for this row, if there is one, up to what was just written here in some columns.
 * @param differences - what was added to columns with a policy, by column number
 */
export function amendWaiting(
  library: Library,
  model: Model,
  uuid: Uint8Array,
  columns: readonly Column[],
  differences: ReadonlyMap<number, SqlValue>,
): void {
  const waiting = library.sql.rows(
    'SELECT birth_hlc, birth_run, reason, detail, version FROM flotilla_pending WHERE uuid = ? AND version IS NOT NULL',
    Buffer.from(uuid),
  )[0];
  const here = waiting === undefined ? null : readVersion(library, model, uuid);
  if (waiting === undefined || here === null) return;
  const [birthHlc, birthRun, reason, detail, version] = waiting;
  const theirs = decodeBatch(version as Uint8Array);
  const row = library.sql.rows(
    `SELECT birth_hlc, birth_run, hlc, run FROM ${rowsTable(model)} WHERE uuid = ?`,
    Buffer.from(uuid),
  )[0];
  const [bornHlc = 0, bornRun = 0, hlc = 0, run = 0] = row?.map(Number) ?? [];
  const births = library.compare(bornHlc, bornRun, Number(birthHlc), Number(birthRun));
  if (births > 0) {
    // It has been born again here: that wins whole over what waits.
    forgetPending(library, uuid);
    return;
  }
  // Entries from before another birth say nothing of it: only what has just been added counts there too.
  const own = births === 0 ? columns : columns.filter(({ policy }) => policy === undefined);
  // Where neither has a stamp of its own, what waits has the later birth.
  const joined = joinVersion(
    library,
    model,
    withBirthOf(theirs, here, new Set(own.map(({ wire }) => wire))),
    theirs,
    births === 0 ? null : { differences, stamp: { hlc, run } },
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
