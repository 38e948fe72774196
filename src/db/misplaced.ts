/**
 * Rows of other devices that stand here under another name than theirs: what their name refers to has moved from under them, by a write that
 * no trigger saw (O8). Such a row keeps its name until it comes again, but it is no more what the name says: a row of our own which gets
 * that name is the same row as the one that its owner has (N3), and takes its place.
 */
import { encodeBatch } from '../protocol/batch.ts';
import { OP_INSERT, OP_UPDATE, encodedKey } from './capture.ts';
import { referrersOf, takeOut } from './deletes.ts';
import type { Referrer } from './deletes.ts';
import type { MarkKey } from './identity.ts';
import { deriveUuids } from './identity.ts';
import { readVersion } from './join.ts';
import { lead } from './left-names.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { mapJoin, quoteName, rowsTable } from './model.ts';
import { Owners } from './owners.ts';
import { keysHeldOutside } from './outside.ts';
import type { Pending } from './pending.ts';
import { standingRow } from './rivals.ts';
import type { StandingRow } from './rivals.ts';
import type { Key } from './sql.ts';

/**
 * Takes the row that has a name without right out of the tables, and leads what refers to it to the one that gets the name.
 * @param to - local key of the row that gets it
 * @returns the version that stood here; null, and nothing is changed, where the row has a right to its name or cannot go
 */
export function takeFromName(
  library: Library,
  model: Model,
  name: Uint8Array,
  to: MarkKey,
): Omit<Pending, 'targets'> | null {
  const row = model.ownership === 'device' ? standingRow(library, model, name) : null;
  if (row === null || isOurs(library, row)) return null;
  const from = markKeyOf(library, row);
  if (from === null || hasMoved(library, model, from) || !isMisplaced(library, row, from)) return null;
  const referrers = referrersOf(library, model, [row.key]).filter(
    (referrer) => referrer.model !== model || referrer.key !== row.key,
  );
  const canGo = referrers.every((referrer) => model.rowid !== null && canBeLed(library, referrer));
  if (!canGo || keysHeldOutside(library, model, [row.key]).length > 0) return null;
  const version = readVersion(library, model, name);
  const isGone = library.withoutCapture(() =>
    library.attempt(() => {
      if (
        !referrers.every(({ model: child, foreignKey, key }) => lead(library, child, foreignKey, key, model, to as Key))
      )
        return false;
      takeOut(library, [row]);
      // That its reference has got another meaning is said of nothing that is here.
      library.sql.run('DELETE FROM flotilla_marks WHERE tbl = ? AND op = ? AND old IS ?', model.n, OP_UPDATE, from);
      return true;
    }),
  );
  if (!isGone) return null;
  return { ...row, reason: 'unique', detail: '', version: version === null ? null : Buffer.from(encodeBatch(version)) };
}

function isOurs(library: Library, { model, key, run }: StandingRow): boolean {
  const owner = new Owners(library).of(model, key);
  return [owner?.device, library.runDevice(run)].includes(library.around.device);
}

/** The key of a row as marks name it; null where it is not in its table. */
function markKeyOf(library: Library, { model, uuid }: StandingRow): MarkKey | null {
  const key = library.sql.value(
    `SELECT ${model.rowid === null ? encodedKey(model, 't') : 'm.key'} FROM ${rowsTable(model)} m
     CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)} WHERE m.uuid = ?`,
    Buffer.from(uuid),
  );
  return (key ?? null) as MarkKey | null;
}

/** Its columns give it another name by now, or none. */
function isMisplaced(library: Library, { model, uuid }: StandingRow, key: MarkKey): boolean {
  const derived = deriveUuids(library, model, [key]).get(key);
  return derived === undefined || derived === null || Buffer.compare(derived, uuid) !== 0;
}

/** Whether marks say that a row came to this key, or left it: they speak of other rows as well. */
function hasMoved(library: Library, model: Model, key: MarkKey): boolean {
  return (
    library.sql.value(
      'SELECT 1 FROM flotilla_marks WHERE tbl = ? AND op IN (?, ?) AND old IS NOT new AND ? IN (old, new) LIMIT 1',
      model.n,
      OP_INSERT,
      OP_UPDATE,
      key,
    ) !== undefined
  );
}

/** A reference by the id, in a column that is part of nothing else. */
function canBeLed(library: Library, { model, foreignKey: { simple, columns } }: Referrer): boolean {
  return (
    simple &&
    columns.every(
      (name) =>
        name !== model.rowid &&
        !model.key.includes(name) &&
        model.foreignKeys.every((key) => key.simple || !key.columns.includes(name)) &&
        !library.registry.models.some(({ foreignKeys }) =>
          foreignKeys.some(({ table, targets }) => table === model.table && targets.includes(name)),
        ),
    )
  );
}
