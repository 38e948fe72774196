/**
 * Outcomes that are written of owned rows: by their owner alone. For whoever is not, there are no cells to write over theirs.
 */
import type { Batch } from '../protocol/types.ts';
import type { Cells } from './cells.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { rowsTable } from './model.ts';
import type { Owner, Written } from './owners.ts';
import { Owners, cellsOver, ownerColumn, ownerOfRoot } from './owners.ts';
import type { Key } from './sql.ts';

/** The cells of what this device writes over an owned row that stands here; null if it belongs to another one. */
export function cellsHere(
  library: Library,
  row: Written & { readonly model: Model; readonly key: Key },
): Cells | null {
  return overWith(library, row, new Owners(library).of(row.model, row.key));
}

/** The same of a version that waits. @param version - that version */
export function cellsOverWaiting(
  library: Library,
  row: Written & { readonly model: Model; readonly uuid: Uint8Array; readonly birthHlc: number },
  version: Batch,
): Cells | null {
  return overWith(library, row, ownerOfVersion(library, row, version));
}

/** As long as its path leads to nothing that is here, a row is that of whoever wrote it last. */
function overWith(library: Library, row: Written, owner: Owner | null): Cells | null {
  const device = owner === null ? library.runDevice(row.run) : owner.device;
  if (device !== library.around.device) return null;
  return owner === null ? row.cells : cellsOver(library, row, owner);
}

function ownerOfVersion(
  library: Library,
  { model, ...root }: Written & { readonly model: Model; readonly uuid: Uint8Array; readonly birthHlc: number },
  version: Batch,
): Owner | null {
  const { ownedBy } = model;
  if (ownedBy === null) return ownerOfRoot(library, root);
  const table = version.tables[0];
  const column = table?.columns.find(({ name }) => name === ownerColumn(model));
  const refs = ownedBy.simple
    ? column?.kind === 'ref'
      ? column.refs
      : []
    : table?.dependencies.find(({ foreignKey }) => foreignKey === ownedBy.number)?.refs;
  const target = refs?.[0] ?? -1;
  if (target < 0) return ownerOfRoot(library, root);
  const parent = library.model(ownedBy.table);
  const key = library.sql.value(
    `SELECT key FROM ${rowsTable(parent)} WHERE uuid = ?`,
    Buffer.from(version.uuids.subarray(target * 16, target * 16 + 16)),
  );
  return key === undefined ? null : new Owners(library).of(parent, key as Key);
}
