/**
 * The description of a library's tables that its node gives to others, and its hash: equal for two libraries between which
 * there is nothing to say. Column order, numbers, local columns, indexes and defaults do not count.
 */
import { createHash } from 'node:crypto';

import type { ColumnDescription, SchemaDescription, TableDescription } from '../protocol/schema.ts';
import { isInternal } from './choose.ts';
import type { Column, Model } from './model.ts';

/** @param models - the tables, those that other devices have included */
export function describeModels(models: readonly Model[]): SchemaDescription {
  const byName = new Map(models.map((model) => [model.table, model]));
  const tables = models
    .filter((model) => !isInternal(model.wire))
    .toSorted((a, b) => compare(a.wire, b.wire))
    .map((model) => describe(model, byName));
  return { tables };
}

export function hashOf(schema: SchemaDescription): string {
  return createHash('sha256').update(JSON.stringify(schema)).digest('hex');
}

/** Names on the wire of some columns of a table. */
export function wiresOf(model: Model | undefined, columns: readonly string[]): string[] {
  return columns.map((name) => model?.columns.find((column) => column.name === name)?.wire ?? name);
}

type ByName = ReadonlyMap<string, Model>;

function describe(model: Model, byName: ByName): TableDescription {
  return {
    name: model.wire,
    ownership: model.ownership,
    ownedBy: wiresOf(model, model.ownedBy?.columns ?? [])[0] ?? '',
    identity: model.identity.kind === 'derived' ? wiresOf(model, model.identity.columns) : null,
    key: wiresOf(model, model.key),
    collations: model.keyCollations,
    columns: [
      ...model.columns.map((column) => describeColumn(column, byName, false)),
      ...model.absent.map((column) => describeColumn(column, byName, true)),
    ]
      .filter((column) => column !== null)
      .toSorted((a, b) => compare(a.name, b.name)),
    foreignKeys: model.foreignKeys
      .map(({ columns, table, targets, onDelete }) => ({
        columns: wiresOf(model, columns),
        table: byName.get(table)?.wire ?? table,
        targets: wiresOf(byName.get(table), targets),
        onDelete,
      }))
      .toSorted((a, b) => compare(JSON.stringify(a), JSON.stringify(b))),
    absent: model.isAbsent,
  };
}

function describeColumn(column: Column, byName: ByName, absent: boolean): ColumnDescription | null {
  const { role, wire: name, affinity: type, notNull, policy = '' } = column;
  if (role.kind === 'local') return null;
  const target = role.kind === 'ref' ? (byName.get(role.table)?.wire ?? role.table) : '';
  return { name, kind: role.kind, target, type, notNull, policy, absent };
}

/** Orders by code units, which is the same on every machine. */
function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
