/**
 * Undoing what a conflict decided: the lost value is written again, or the lost row inserted again, as an ordinary change of
 * this device. It is later than what had won, so it wins everywhere.
 */
import { FlotillaError, messageOf } from '../errors.ts';
import { decodeBatch } from '../protocol/batch.ts';
import type { Batch, SqlValue } from '../protocol/types.ts';
import type { RestoredConflict } from './api.ts';
import { encodedKey } from './capture.ts';
import { exactly } from './conflicts.ts';
import { bindable } from './incoming.ts';
import { keyCondition } from './identity.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { orAbort, quoteName, rowByKey, rowsTable, syncedColumns } from './model.ts';
import { nameRow, wordsFor } from './names.ts';
import { forgetPending, noteArrival } from './pending.ts';
import { OP_REBORN } from './remark.ts';
import { isSame } from './registers.ts';
import type { Key } from './sql.ts';
import { readBig, requireConstraint } from './sql.ts';
import { stampAll } from './stamp.ts';
import { ringsOf } from './trees.ts';

/**
 * Restores what record `id` holds, in one transaction that leaves nothing unstamped.
 * @throws FlotillaError NO_SUCH_CONFLICT, CANNOT_RESTORE; nothing is changed then
 */
export function restoreConflict(library: Library, id: number): RestoredConflict {
  try {
    return library.transact(() => {
      stampAll(library);
      const restored = restore(library, id);
      stampAll(library);
      library.sql.run('UPDATE flotilla_conflicts SET restored_at = ? WHERE id = ?', library.around.now(), id);
      return restored;
    });
  } catch (error) {
    if (error instanceof FlotillaError) throw error;
    requireConstraint(error);
    throw cannot(id, `the table refuses it: ${messageOf(error)}`, error);
  }
}

function restore(library: Library, id: number): RestoredConflict {
  const text = 'SELECT tbl, uuid, col, lost, restored_at FROM flotilla_conflicts WHERE id = ?';
  const row = readBig(library.sql.get(text), [id])[0];
  if (row === undefined) {
    throw new FlotillaError(
      'NO_SUCH_CONFLICT',
      `There is no record ${id}: "flotilla conflicts" lists those that there are; old ones age out.`,
    );
  }
  const [tbl, uuid, col, lost, restoredAt] = row as [bigint, Uint8Array, string | null, SqlValue, bigint | null];
  if (restoredAt !== null)
    throw cannot(id, `it was restored already, on ${new Date(Number(restoredAt)).toISOString()}`);
  const model = library.registry.models.find(({ n }) => n === Number(tbl));
  if (model === undefined) throw cannot(id, 'its table does not sync here any more');
  const name = nameRow(library.sql, model, uuid);
  if (col === null && lost === null) deleteAgain(library, id, model, uuid);
  else if (col === null) insertAgain(library, id, model, uuid, decodeBatch(lost as Uint8Array));
  else writeAgain(library, id, model, uuid, col, lost);
  const after = nameRow(library.sql, model, uuid);
  return {
    id,
    table: model.table,
    row: after.key === '' ? name : after,
    column: col,
    isDelete: col === null && lost === null,
  };
}

/** Writes the value of one column again. */
function writeAgain(library: Library, id: number, model: Model, uuid: Uint8Array, name: string, lost: SqlValue): void {
  const column = syncedColumns(model).find((candidate) => candidate.name === name);
  if (column === undefined) throw cannot(id, `${model.table} has no column ${name} any more`);
  const key = keyOf(library, model, uuid);
  if (key === undefined)
    throw cannot(id, `its row of ${model.table} is gone${adviceFor(library, uuid, ': restore that first')}`);
  const value =
    column.role.kind === 'ref' && lost instanceof Uint8Array
      ? resolve(library, id, library.model(column.role.table), lost)
      : lost;
  const [table, quoted] = [quoteName(model.table), quoteName(name)];
  library.sql.run(`UPDATE ${orAbort(model)}${table} SET ${quoted} = ? WHERE ${rowByKey(model)}`, value, key);
  for (const tree of model.trees) {
    if (tree.columns.includes(name) && ringsOf(library, model, tree, [key]).size > 0)
      throw cannot(id, 'the row would be above itself: what it was in is in it now. Move that out first');
  }
  if (column.policy === undefined) return;
  stampAll(library);
  const shown = readBig(library.sql.get(`SELECT ${quoted} FROM ${table} WHERE ${rowByKey(model)}`), [key])[0]?.[0];
  if (!isSame(shown ?? null, value)) throw cannot(id, `the policy of ${name} (${column.policy}) keeps another value`);
}

/** Deletes a row again whose delete was undone; a table that forbids it still does. */
function deleteAgain(library: Library, id: number, model: Model, uuid: Uint8Array): void {
  const key = keyOf(library, model, uuid);
  if (key === undefined) throw cannot(id, 'the row is gone');
  library.sql.run(`DELETE FROM ${quoteName(model.table)} WHERE ${rowByKey(model)}`, key);
}

/**
 * Inserts a row again, under its old UUID and with a new birth: what still refers to it elsewhere finds it, and it is later than
 * its tombstone.
 */
function insertAgain(library: Library, id: number, model: Model, uuid: Uint8Array, version: Batch): void {
  if (keyOf(library, model, uuid) !== undefined)
    throw cannot(id, `the row is there again: ${model.table} ${wordsFor(nameRow(library.sql, model, uuid))}`);
  refuseForeign(library, id, model, version);
  const values = valuesOf(library, id, model, uuid, version);
  const columns = [...values.keys()];
  library.sql.run(
    `INSERT ${orAbort(model)}INTO ${quoteName(model.table)} (${columns.map(quoteName).join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`,
    ...values.values(),
  );
  const natural = model.rowid === null;
  const parts = natural ? model.key.map((name) => values.get(name) ?? null) : [];
  const key = natural ? null : (values.get(model.rowid ?? '') ?? null);
  // It had become one with another row: whoever refers to its old identity means that one.
  if (hasAlias(library, uuid)) return;
  forgetPending(library, uuid);
  noteArrival(library, uuid);
  // Its stamps are those of the marks: that of its insertion, and one that lets it be born again under this identity.
  library.sql.run(
    `INSERT INTO ${rowsTable(model)} (key, uuid, birth_hlc, birth_run, hlc, run, lsn${natural ? parts.map((_, i) => `, k${i + 1}`).join('') : ''})
     VALUES (?, ?, 0, ?, 0, ?, 0${parts.map(() => ', ?').join('')})`,
    key,
    Buffer.from(uuid),
    library.run,
    library.run,
    ...parts,
  );
  const where = natural ? keyCondition(model, 't') : `t.${quoteName(model.rowid ?? '')} = ?`;
  library.sql.run(
    `INSERT INTO flotilla_marks (tbl, op, old, new, at, mask)
     SELECT ${model.n}, ${OP_REBORN}, ${encodedKey(model, 't')}, ${encodedKey(model, 't')}, ?, 0 FROM ${quoteName(model.table)} t WHERE ${where}`,
    library.around.now(),
    ...(natural ? parts : [key]),
  );
}

function hasAlias(library: Library, uuid: Uint8Array): boolean {
  const text = 'SELECT 1 FROM flotilla_tombstones WHERE uuid = ? AND alias IS NOT NULL';
  return library.sql.value(text, Buffer.from(uuid)) !== undefined;
}

/** Values to insert, by column: its own id, and references as ids here. */
function valuesOf(library: Library, id: number, model: Model, uuid: Uint8Array, version: Batch): Map<string, SqlValue> {
  const values = new Map<string, SqlValue>();
  const own = model.rowid !== null && !model.rowidIsRef ? library.nextKey(model) : null;
  if (model.rowid !== null && own !== null) values.set(model.rowid, own);
  for (const column of syncedColumns(model)) {
    const { name, wire } = column;
    const data = version.tables[0]?.columns.find((candidate) => candidate.name === wire);
    if (data === undefined) continue;
    if (data.kind === 'value') {
      values.set(name, exactly(bindable(data, 0), column));
      continue;
    }
    const index = data.refs[0] ?? -1;
    const target = version.uuids.subarray(index * 16, index * 16 + 16);
    const table = version.names[version.uuidTable[index] ?? 0] ?? '';
    if (index < 0) values.set(name, null);
    else if (own !== null && Buffer.compare(target, uuid) === 0) values.set(name, own);
    else values.set(name, resolve(library, id, library.arriving(table), target));
  }
  return values;
}

/** An owned row is its owner's: born again here it would be ours. */
function refuseForeign(library: Library, id: number, model: Model, version: Batch): void {
  if (model.ownership !== 'device') return;
  const born = version.birthRun[version.tables[0]?.rows[0] ?? 0] ?? 0;
  const owner = version.runDevices[born] ?? '';
  if (owner !== library.around.device)
    throw cannot(id, `the row belonged to another device (${owner}), and only that one may make it again`);
}

/** The local id of what a reference means. */
function resolve(library: Library, id: number, target: Model, uuid: Uint8Array): SqlValue {
  const key = keyOf(library, target, uuid);
  if (key !== undefined) return key;
  throw cannot(
    id,
    `it refers to a row of ${target.table} that is not here${adviceFor(library, uuid, ': restore that first')}`,
  );
}

function keyOf(library: Library, model: Model, uuid: Uint8Array): Key | undefined {
  return library.sql.value(`SELECT key FROM ${rowsTable(model)} WHERE uuid = ?`, Buffer.from(uuid)) as Key | undefined;
}

/** How the row could be brought back, if there is a record of it. */
function adviceFor(library: Library, uuid: Uint8Array, advice: string): string {
  const record = library.sql.value(
    'SELECT id FROM flotilla_conflicts WHERE uuid = ? AND col IS NULL AND restored_at IS NULL ORDER BY id DESC LIMIT 1',
    Buffer.from(uuid),
  );
  return record === undefined ? '' : `${advice}, it is record ${String(record)}`;
}

function cannot(id: number, why: string, cause?: unknown): FlotillaError {
  return new FlotillaError('CANNOT_RESTORE', `Record ${id} cannot be restored: ${why}.`, { cause });
}
