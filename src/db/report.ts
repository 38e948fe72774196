/**
 * What `init` tells about each table, in words.
 */
import type { TableReport } from './api.ts';
import { isInternal } from './choose.ts';
import type { Model, Registry } from './model.ts';

/**
 * One report a table of the user's: those that sync, parents first, then those that do not.
 * @param registry - the tables
 * @param counts - rows of each table; 0 where it names none
 */
export function tableReports(registry: Registry, counts: ReadonlyMap<string, number>): TableReport[] {
  const synced = registry.models.map((model): TableReport => ({
    table: model.table,
    syncs: true,
    reason: '',
    ownership: model.ownership,
    identity: identityInWords(model),
    references: model.foreignKeys.map((key) => `${list(key.columns)} → ${key.table}`),
    localColumns: model.columns.filter((column) => column.role.kind === 'local').map((column) => column.name),
    rows: counts.get(model.table) ?? 0,
  }));
  const left = registry.left.map(({ table, reason }): TableReport => ({
    table,
    syncs: false,
    reason,
    ownership: 'shared',
    identity: '',
    references: [],
    localColumns: [],
    rows: counts.get(table) ?? 0,
  }));
  return [...synced, ...left].filter((report) => !isInternal(report.table));
}

function identityInWords({ identity, key }: Model): string {
  if (identity.kind === 'random') return 'uuid v7';
  const [first, ...more] = identity.columns;
  const isKey = more.length + 1 === key.length && identity.columns.every((column) => key.includes(column));
  return isKey || more.length > 0 ? `derived from (${identity.columns.join(', ')})` : `column ${first ?? ''}`;
}

function list(columns: readonly string[]): string {
  return columns.length === 1 ? (columns[0] ?? '') : `(${columns.join(', ')})`;
}
