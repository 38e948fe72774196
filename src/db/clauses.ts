/**
 * What ON DELETE clauses come to when the reference and the delete were made apart: which can be carried out in the referring row,
 * and which forbid the delete.
 */
import type { ForeignKey, Model, Registry } from './model.ts';
import type { SchemaColumn } from './schema.ts';

/** Whether what the foreign key says of a deleted target can be written into the referring row. If not, the delete is undone. */
export function isCarriedOut(model: Model, { onDelete, columns }: ForeignKey): boolean {
  if (onDelete === 'CASCADE') return true;
  if (onDelete === 'SET NULL') return canBeNull(model, columns);
  if (onDelete !== 'SET DEFAULT') return false;
  return columns.every((name) => canBeNull(model, [name]) || defaultOf(model, name) !== null);
}

/**
 * Whether a delete of a row of `model` may have to be undone here. Where rows have owners also for what it takes along: who has the row
 * still may not be who may bear it again.
 */
export function mayBeUndone(registry: Registry, model: Model): boolean {
  const hasOwners = registry.models.some(({ ownership }) => ownership === 'device');
  const reached = new Set([model]);
  for (const parent of reached) {
    for (const child of registry.models) {
      for (const key of child.foreignKeys) {
        if (key.table !== parent.table) continue;
        if (key.onDelete === 'SET DEFAULT' || !isCarriedOut(child, key)) return true;
        if (hasOwners && key.onDelete === 'CASCADE') reached.add(child);
      }
    }
  }
  return false;
}

/** The default of a column as an SQL literal; null for none. */
export function defaultOf(model: Model, name: string): string | null {
  const column = model.columns.find((candidate) => candidate.name === name) as SchemaColumn | undefined;
  return column?.defaultSql ?? null;
}

/** Whether all of some columns of a row may be set to NULL. */
export function canBeNull(model: Model, columns: readonly string[]): boolean {
  return columns.every((name) => {
    const column = model.columns.find((candidate) => candidate.name === name);
    return column !== undefined && !column.notNull && !model.key.includes(name) && column.role.kind !== 'local';
  });
}
