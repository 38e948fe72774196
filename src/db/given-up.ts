/**
 * Records of versions that wait and are given up, because somebody who did not know of them wrote the row anew or deleted it: they
 * may have stood here before, or have been written here.
 */
import { decodeBatch } from '../protocol/batch.ts';
import type { Batch, TableData } from '../protocol/types.ts';
import type { Cells, LocalStamp } from './cells.ts';
import { formatCells } from './cells.ts';
import type { Rule } from './conflicts.ts';
import { record, recordVersion } from './conflicts.ts';
import type { Incoming } from './incoming.ts';
import { cellsOf } from './incoming.ts';
import { translateRuns } from './join.ts';
import type { Library } from './library.ts';
import { lostIn } from './judged.ts';
import type { KnownPending, KnownTombstone } from './lookup.ts';
import { isUnseen } from './killed.ts';
import type { Model } from './model.ts';
import { syncedColumns } from './model.ts';
import { cellsWaiting, isUnseenOwned } from './owned-versions.ts';
import type { Pending } from './pending.ts';
import { waitingVersion } from './pending.ts';
import { cutVersion, valueIn } from './version.ts';

/**
 * Another version of the row takes the place of the one that waits: columns are recorded where they differ.
 * @param bearer - the run that bore it again, if that may have seen what waits
 */
export function recordReplaced(
  library: Library,
  { model, uuid, hlc, run, version }: Omit<Pending, 'targets'>,
  rule: Rule,
  by: LocalStamp & { readonly version: Batch | null },
  bearer: number | null = null,
): void {
  if (version === null) return;
  const waiting = decodeBatch(version);
  if (by.version === null) {
    recordVersion(library, { model, uuid, hlc, run, version: waiting }, rule, by);
    return;
  }
  const cells = cellsOf(model, waiting.tables[0] as TableData, 0, translateRuns(library, waiting));
  const lost = lostIn(model, { hlc, run }, cells, bearer);
  for (const column of syncedColumns(model)) {
    const stamp = lost.get(column.number);
    if (stamp === undefined) continue;
    const kept = { hlc: by.hlc, run: by.run, value: valueIn(by.version, column) };
    const value = valueIn(waiting, column);
    record(library, model, uuid, column, rule, { hlc: stamp.hlc, run: stamp.run, value }, kept);
  }
}

/** What arrives takes the place of the version that waits for its row. With the same birth, a shared row is joined to that instead. */
export function recordOvertaken(
  library: Library,
  known: KnownPending,
  { model, table, position, outcome }: Incoming,
  uuid: Uint8Array,
  { birthHlc, birthRun }: Pick<KnownPending, 'birthHlc' | 'birthRun'>,
  batch: Batch,
): void {
  const isSameBirth = library.compare(birthHlc, birthRun, known.birthHlc, known.birthRun) === 0;
  if (isSameBirth) {
    if (model.ownership === 'shared') return;
    if (!isUnseenOwned(library, outcome, { ...known, cells: cellsWaiting(library, model, uuid) })) return;
  }
  const waiting = waitingVersion(library, uuid);
  if (waiting === null) return;
  const by = { ...outcome, version: cutVersion(batch, table, position) };
  if (isSameBirth) recordReplaced(library, waiting, 'ownership', by);
  else recordReplaced(library, waiting, 'later-birth', by, birthRun);
}

/** Columns of a version that waits are written over. @param ours - stamps of its columns; those of others are its birth's */
export function recordJoined(
  library: Library,
  row: { readonly model: Model; readonly uuid: Uint8Array },
  waiting: Batch,
  ours: Cells,
  joined: { readonly version: Batch; readonly cells: Cells; readonly unseen: ReadonlySet<number> },
): void {
  for (const column of syncedColumns(row.model)) {
    const [lost, kept] = [ours.get(column.number), joined.cells.get(column.number)];
    if (!joined.unseen.has(column.number) || lost === undefined || kept === undefined) continue;
    record(
      library,
      row.model,
      row.uuid,
      column,
      'later-write',
      { hlc: lost.hlc, run: lost.run, value: valueIn(waiting, column) },
      { hlc: kept.hlc, run: kept.run, value: valueIn(joined.version, column) },
    );
  }
}

/** The version of a row that waits dies of a tombstone. */
export function recordDead(library: Library, model: Model, uuid: Uint8Array, grave: KnownTombstone): void {
  const waiting = waitingVersion(library, uuid);
  if (waiting === null || waiting.version === null) return;
  const cells = formatCells(cellsWaiting(library, model, uuid));
  if (!isUnseen(library, model, { ...waiting, cells }, grave)) return;
  const rule = model.ownership === 'shared' ? 'deleted' : 'ownership';
  recordVersion(library, { ...waiting, version: decodeBatch(waiting.version) }, rule, grave);
}
