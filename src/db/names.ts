/**
 * Rows and values in words, for people: which row it is, what a column holds.
 */
import { TextBytes } from '../protocol/text-bytes.ts';
import { formatUuid } from '../protocol/uuid.ts';
import type { SqlValue } from '../protocol/types.ts';
import type { RowName, ShownValue } from './api.ts';
import type { Model } from './model.ts';
import { mapJoin, quoteName, rowsTable, syncedColumns } from './model.ts';
import type { Statements } from './sql.ts';
import { readBig } from './sql.ts';

/** Characters of a value, or bytes of a blob, that are shown: enough to know it again; it may be many megabytes. */
export const MAX_SHOWN = 200;

/** The row as it stands in its table; with its UUID alone if it is not there. */
export function nameRow(sql: Statements, model: Model, uuid: Uint8Array): RowName {
  const texts = textColumns(model);
  const columns = [...model.key, ...texts].map((column) => `t.${quoteName(column)}`).join(', ');
  const text = `SELECT ${columns} FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)} WHERE m.uuid = ?`;
  const row = readBig(sql.get(text), [Buffer.from(uuid)])[0];
  const keys = row?.slice(0, model.key.length) ?? [];
  return {
    uuid: formatUuid(uuid),
    key: keys.map((value) => showValue(value).text).join(', '),
    text: firstText(row?.slice(model.key.length) ?? []),
  };
}

/** Columns in which a row's name may stand: texts that are no part of its key. */
export function textColumns(model: Model): string[] {
  return syncedColumns(model)
    .filter(({ name, affinity, role }) => affinity === 'TEXT' && role.kind === 'value' && !model.key.includes(name))
    .map(({ name }) => name);
}

/** The first of some values that is a text worth showing; '' if none is. */
export function firstText(values: readonly SqlValue[]): string {
  const found = values.find((value) => typeof value === 'string' && value.trim() !== '');
  return typeof found === 'string' ? found.slice(0, MAX_SHOWN) : '';
}

/** A row in a few words: its key and a text, or its UUID where it has neither. */
export function wordsFor({ uuid, key, text }: RowName): string {
  const quoted = text === '' ? '' : JSON.stringify(text);
  return [key, quoted].filter((part) => part !== '').join(' ') || uuid;
}

/** A value in words. Integers must come as bigints, else they are taken for REAL. */
export function showValue(value: SqlValue): ShownValue {
  if (value === null) return { type: 'null', text: 'NULL', size: 0 };
  if (typeof value === 'bigint') return { type: 'integer', text: String(value), size: 0 };
  if (typeof value === 'number') return { type: 'real', text: realText(value), size: 0 };
  if (typeof value === 'string') return { type: 'text', text: value.slice(0, MAX_SHOWN), size: value.length };
  if (value instanceof TextBytes)
    return { type: 'text', text: String(value).slice(0, MAX_SHOWN), size: value.bytes.length };
  return { type: 'blob', text: Buffer.from(value.subarray(0, MAX_SHOWN)).toString('hex'), size: value.length };
}

function realText(value: number): string {
  if (Object.is(value, -0)) return '-0.0';
  return /^-?\d+$/.test(String(value)) ? `${value}.0` : String(value);
}
