/**
 * Transfers of ownership: a row of `flotilla_transfers` for each, which syncs like any other and is never changed. Its birth stamp is
 * the title under which the new owner writes from then on.
 */
import { FlotillaError } from '../errors.ts';
import { formatUuid, parseUuid } from '../protocol/uuid.ts';
import type { OwnRequest, Owned } from './api.ts';
import { TRANSFERS_TABLE, isInternal } from './choose.ts';
import { foldName } from './config.ts';
import type { Library } from './library.ts';
import { memberNamed } from './members.ts';
import type { Model } from './model.ts';
import { mapJoin, quoteName, rowsTable } from './model.ts';
import { Owners, ownerColumn } from './owners.ts';
import type { Key } from './sql.ts';
import { stampAll } from './stamp.ts';

/**
 * Gives a row, and all that is owned through it, to a member. Any member may, also of what a device owns that is gone.
 * @throws FlotillaError NO_SUCH_ROW, NOT_OWNED, NOT_A_MEMBER
 */
export function ownRow(library: Library, request: OwnRequest): Owned {
  return library.transact(() => {
    stampAll(library);
    const model = modelNamed(library, request.table);
    const { device } = memberNamed(library.sql, request.device ?? library.around.device);
    const { key, uuid } = rowNamed(library, model, request.key);
    const owner = new Owners(library).of(model, key);
    if (owner === null || Buffer.compare(owner.root.uuid, uuid) !== 0) {
      throw new FlotillaError(
        'NOT_OWNED',
        `This row of ${model.table} belongs to the row of ${model.ownedBy?.table ?? ''} that its ${ownerColumn(model)} refers to: name that one.`,
      );
    }
    const owned = { table: model.table, uuid: formatUuid(uuid), device, previous: owner.device ?? '' };
    if (owner.device === device) return { ...owned, changed: false };
    library.sql.run(
      `INSERT INTO ${TRANSFERS_TABLE} (tbl, root, device, at) VALUES (?, ?, ?, ?)`,
      model.wire,
      Buffer.from(uuid),
      device,
      library.around.now(),
    );
    stampAll(library);
    return { ...owned, changed: true };
  });
}

function modelNamed(library: Library, table: string): Model {
  const model = library.registry.models.find((one) => foldName(one.table) === foldName(table));
  if (model === undefined || isInternal(model.table))
    throw new FlotillaError('NO_SUCH_ROW', `There is no table "${table}" that syncs.`);
  if (model.ownership === 'shared') {
    throw new FlotillaError(
      'NOT_OWNED',
      `Every member may write the rows of ${model.table}: it has no "ownership": "device" in the configuration.`,
    );
  }
  return model;
}

/** A row by its primary key (several columns as a JSON array), or by its UUID. */
function rowNamed(library: Library, model: Model, text: string): { key: Key; uuid: Uint8Array } {
  const map = rowsTable(model);
  const uuid = parseUuid(text);
  let row =
    uuid === null ? undefined : library.sql.rows(`SELECT key, uuid FROM ${map} WHERE uuid = ?`, Buffer.from(uuid))[0];
  if (row === undefined) {
    const values = model.key.length === 1 ? [text] : keyValues(text, model);
    // As the table compares them: '7' finds 7 in a column of integers.
    const where = model.key.map((name) => `t.${quoteName(name)} = ?`).join(' AND ');
    row = library.sql.rows(
      `SELECT m.key, m.uuid FROM ${quoteName(model.table)} t CROSS JOIN ${map} m ON ${mapJoin(model)} WHERE ${where}`,
      ...values,
    )[0];
  }
  if (row === undefined)
    throw new FlotillaError('NO_SUCH_ROW', `${model.table} has no row (${model.key.join(', ')}) = ${text} here.`);
  return { key: row[0] as Key, uuid: row[1] as Uint8Array };
}

function keyValues(text: string, model: Model): (string | number)[] {
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch {
    values = null;
  }
  const isKey = (value: unknown): value is string | number => typeof value === 'string' || typeof value === 'number';
  if (Array.isArray(values) && values.length === model.key.length && values.every(isKey)) return values;
  throw new FlotillaError(
    'NO_SUCH_ROW',
    `The key of ${model.table} has the columns ${model.key.join(', ')}: give their values as a JSON array, or the row's UUID.`,
  );
}
