/**
 * Outcomes that are written of rows, by whoever may: of an owned row, its owner alone. As long as its path leads to nothing that
 * is here, an owned row is that of whoever wrote it last.
 */
import type { Batch, TableData } from '../protocol/types.ts';
import type { Cells } from './cells.ts';
import { cellsOf } from './incoming.ts';
import { translateRuns } from './join.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { rowsTable } from './model.ts';
import type { Owner, Root, Written } from './owners.ts';
import { Owners, cellsOver, ownerColumn, ownerOfRoot } from './owners.ts';
import type { Key } from './sql.ts';

/** Whether this device may write a row that stands here. @param key - in its map table */
export function mayWriteHere(library: Library, model: Model, key: Key): boolean {
  if (model.ownership === 'shared') return true;
  const owner = new Owners(library).of(model, key);
  const run = library.sql.number(`SELECT run FROM ${rowsTable(model)} WHERE key = ?`, key);
  return isOwn(library, owner, run);
}

/** The cells of what this device writes over an owned row that stands here; null if it belongs to another one. */
export function cellsHere(library: Library, row: Written & { readonly model: Model; readonly key: Key }): Cells | null {
  return overWith(library, row, new Owners(library).of(row.model, row.key));
}

/** The cells that a write of this device over a version has, which stands nowhere here; null if it is not its to write. */
export function cellsOverWaiting(library: Library, model: Model, version: Batch): Cells | null {
  const table = version.tables[0] as TableData;
  const runs = translateRuns(library, version);
  const cells = cellsOf(model, table, 0, runs);
  if (model.ownership === 'shared') return cells;
  const index = table.rows[0] ?? 0;
  const row = {
    uuid: uuidAt(version, index),
    birthHlc: version.birthHlc[index] ?? 0,
    birthRun: runs[version.birthRun[index] ?? 0] ?? 0,
    hlc: table.hlc[0] ?? 0,
    run: runs[table.run[0] ?? 0] ?? 0,
    cells,
  };
  return overWith(library, row, ownerOfVersion(library, model, row, version));
}

function overWith(library: Library, row: Written, owner: Owner | null): Cells | null {
  if (!isOwn(library, owner, row.run)) return null;
  return owner === null ? row.cells : cellsOver(library, row, owner);
}

function isOwn(library: Library, owner: Owner | null, run: number): boolean {
  return (owner === null ? library.runDevice(run) : owner.device) === library.around.device;
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
  const key = library.sql.value(`SELECT key FROM ${rowsTable(parent)} WHERE uuid = ?`, uuidAt(version, target));
  return key === undefined ? null : new Owners(library).of(parent, key as Key);
}

function uuidAt(version: Batch, index: number): Buffer {
  return Buffer.from(version.uuids.subarray(index * 16, index * 16 + 16));
}
