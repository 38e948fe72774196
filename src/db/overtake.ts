/**
 * Local writes of rows of which a newer version waits. The version gets what was written, column by column: what the person sees
 * is the older row with the new value in it, and neither the value nor the rest of the version may be lost.
 */
import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import type { Batch, SqlValue, TableData } from '../protocol/types.ts';
import type { LocalStamp } from './cells.ts';
import { record } from './conflicts.ts';
import { recordReplaced } from './given-up.ts';
import { valueIn } from './version.ts';
import { cellsOf } from './incoming.ts';
import type { Library } from './library.ts';
import type { Column, Model } from './model.ts';
import { rowsTable } from './model.ts';
import { forgetPending, putPending, waitingVersion } from './pending.ts';
import { joinVersion, readVersion, targetsIn, translateRuns, withBirthOf } from './join.ts';

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
    const older = waitingVersion(library, uuid);
    if (older !== null) recordReplaced(library, older, 'later-birth', { hlc, run, version: here }, library.run);
    forgetPending(library, uuid);
    return;
  }
  // With another birth nothing says that whoever wrote here did not see what it held: here it is known.
  if (births < 0) recordBorn(library, { model, uuid }, columns, theirs, { version: here, hlc, run });
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

/** Records the values that a version was born with and that are written over though nobody here has seen them. */
function recordBorn(
  library: Library,
  row: { readonly model: Model; readonly uuid: Uint8Array },
  columns: readonly Column[],
  waiting: Batch,
  here: LocalStamp & { readonly version: Batch },
): void {
  const table = waiting.tables[0] as TableData;
  const cells = cellsOf(row.model, table, 0, translateRuns(library, waiting));
  const index = table.rows[0] ?? 0;
  const run = translateRuns(library, waiting)[waiting.birthRun[index] ?? 0] ?? 0;
  const birth = { hlc: waiting.birthHlc[index] ?? 0, run };
  for (const column of columns) {
    if (column.policy !== undefined || cells.has(column.number)) continue;
    const lost = { ...birth, value: valueIn(waiting, column) };
    const kept = { hlc: here.hlc, run: here.run, value: valueIn(here.version, column) };
    record(library, row.model, row.uuid, column, 'later-write', lost, kept);
  }
}

function stands(library: Library, { table, uuid }: { readonly table: string; readonly uuid: Uint8Array }): boolean {
  const model = library.arriving(table);
  return library.sql.value(`SELECT 1 FROM ${rowsTable(model)} WHERE uuid = ?`, Buffer.from(uuid)) !== undefined;
}
