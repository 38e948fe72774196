/**
 * Outcomes that are written of rows, by whoever may. Of an owned row: its owner; whoever wrote it last, under the title that it
 * has; and where what it belonged to was deleted, whoever did that. They may be several, and write the same; if it were the
 * owner alone, each could leave it to another, since where a row is gone nobody can tell any more to whom it led.
 */
import type { Batch, TableData } from '../protocol/types.ts';
import type { Cells } from './cells.ts';
import { cellsOf } from './incoming.ts';
import { translateRuns } from './join.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { rowsTable } from './model.ts';
import type { Owner, Root, Written } from './owners.ts';
import { Owners, cellsOver, ownerColumn, ownerOfRoot, transferAt } from './owners.ts';
import { tenureOfGrave } from './killed.ts';
import type { Key } from './sql.ts';
import { uuidAt } from './version.ts';

/** Whether this device may write a row that stands here. @param key - in its map table */
export function mayWriteHere(library: Library, model: Model, key: Key): boolean {
  if (model.ownership === 'shared') return true;
  if (new Owners(library).of(model, key)?.device === library.around.device) return true;
  const run = library.sql.number(`SELECT run FROM ${rowsTable(model)} WHERE key = ?`, key);
  return library.runDevice(run) === library.around.device;
}

/** Whether this device owns a row that stands here: only its owner bears it again, since that would make the row its own. */
export function ownsHere(library: Library, model: Model, key: Key): boolean {
  return model.ownership === 'shared' || new Owners(library).of(model, key)?.device === library.around.device;
}

/** The same of a row that does not. @param version - what it held last */
export function ownsVersion(library: Library, model: Model, version: Batch): boolean {
  if (model.ownership === 'shared') return true;
  return ownerOfVersion(library, model, writtenIn(library, model, version), version)?.device === library.around.device;
}

/** The cells of what this device writes over an owned row that stands here; null if it belongs to another one. */
export function cellsHere(library: Library, row: Written & { readonly model: Model; readonly key: Key }): Cells | null {
  return overWith(library, row, new Owners(library).of(row.model, row.key));
}

/** The cells that a write of this device over a version has, which stands nowhere here; null if it is not its to write. */
export function cellsOverWaiting(library: Library, model: Model, version: Batch): Cells | null {
  const row = writtenIn(library, model, version);
  if (model.ownership === 'shared') return row.cells;
  return overWith(library, row, ownerOfVersion(library, model, row, version));
}

function writtenIn(library: Library, model: Model, version: Batch): Written & Root {
  const table = version.tables[0] as TableData;
  const runs = translateRuns(library, version);
  const index = table.rows[0] ?? 0;
  return {
    uuid: uuidAt(version, index),
    birthHlc: version.birthHlc[index] ?? 0,
    birthRun: runs[version.birthRun[index] ?? 0] ?? 0,
    hlc: table.hlc[0] ?? 0,
    run: runs[table.run[0] ?? 0] ?? 0,
    cells: cellsOf(model, table, 0, runs),
  };
}

function overWith(library: Library, row: Written, owner: Owner | null): Cells | null {
  if (owner?.device === library.around.device) return cellsOver(library, row, owner);
  return library.runDevice(row.run) === library.around.device ? row.cells : null;
}

function ownerOfVersion(library: Library, model: Model, root: Root, version: Batch): Owner | null {
  const { ownedBy } = model;
  if (ownedBy === null) return ownerOfRoot(library, root);
  const table = version.tables[0];
  const column = table?.columns.find(({ name }) => name === ownerColumn(model));
  const dependency = table?.dependencies.find(({ foreignKey }) => foreignKey === ownedBy.number);
  const target = (ownedBy.simple ? (column?.kind === 'ref' ? column.refs[0] : -1) : dependency?.refs[0]) ?? -1;
  if (target < 0) return ownerOfRoot(library, root);
  const parent = library.model(ownedBy.table);
  const uuid = uuidAt(version, target);
  const key = library.sql.value(`SELECT key FROM ${rowsTable(parent)} WHERE uuid = ?`, uuid);
  return key === undefined ? ownerOfGrave(library, parent, uuid) : new Owners(library).of(parent, key as Key);
}

/** Who decides about what belonged to a row that was deleted: whoever deleted it, or to whom it has gone since. */
function ownerOfGrave(library: Library, model: Model, uuid: Buffer): Owner | null {
  const row = library.sql.rows(
    'SELECT birth_hlc, birth_run, run, seen FROM flotilla_tombstones WHERE uuid = ?',
    uuid,
  )[0];
  if (row === undefined) return null;
  const [birthHlc, birthRun, run] = row.slice(0, 3).map(Number) as [number, number, number];
  const device = library.runDevice(run);
  if (device !== library.around.device && model.ownedBy === null)
    return ownerOfRoot(library, { uuid, birthHlc, birthRun });
  const { title } = tenureOfGrave(row[3]);
  const transfer = title === null ? null : transferAt(library, title);
  const root = { uuid, birthHlc: title?.hlc ?? birthHlc, birthRun: title?.run ?? birthRun };
  return { root, device, transfer };
}
