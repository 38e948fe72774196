/**
 * What becomes of two rows that were made or changed apart and have the same values in a unique index. The row with the smaller
 * UUID wins; the policy of the index says what the other one does.
 */
import type { UniqueIndex } from './indexes.ts';
import type { Column, Model, Registry } from './model.ts';
import { syncedColumns } from './model.ts';

/**
 * `merge`: both are one row from now on; who refers to the other refers to the winner. `rename`: its text gets a suffix from its own
 * UUID. `keep-first`: it and what refers to it wait aside until the winner goes.
 */
export type UniquePolicy = 'merge' | 'rename' | 'keep-first';

/** The policy of an index: as configured, else by what the index holds. */
export function policyOf(registry: Registry, model: Model, unique: UniqueIndex): UniquePolicy {
  if (unique.policy !== undefined) return unique.policy;
  const content = syncedColumns(model).filter(({ name }) => !model.key.includes(name));
  if (content.every(({ name }) => unique.columns.includes(name))) return 'merge';
  return renamedColumn(registry, model, unique) === null ? 'keep-first' : 'rename';
}

/** The column that `rename` changes: the last text of the index that names nothing else. Null when there is none. */
export function renamedColumn(registry: Registry, model: Model, unique: UniqueIndex): Column | null {
  const found = syncedColumns(model).filter(
    (column) => column.role.kind === 'value' && column.affinity === 'TEXT' && isIn(unique, column.name),
  );
  const free = found.filter(({ name }) => !isName(registry, model, name));
  const inOrder = free.toSorted((a, b) => unique.columns.indexOf(a.name) - unique.columns.indexOf(b.name));
  return inOrder.at(-1) ?? null;
}

/** Whether an index covers a column, by itself or in an expression. */
function isIn({ columns, expressions }: UniqueIndex, name: string): boolean {
  if (columns.includes(name)) return true;
  const word = new RegExp(
    `(?<![\\p{L}\\p{N}_$])${name.replaceAll(/[^\p{L}\p{N}_]/gu, String.raw`\$&`)}(?![\\p{L}\\p{N}_$])`,
    'iu',
  );
  return expressions.some((text) => text !== null && word.test(text));
}

/** Whether the column names a row: this one, by its key, its identity or a foreign key to it; or another one, to which it refers. */
function isName(registry: Registry, model: Model, name: string): boolean {
  if (model.key.includes(name) || model.foreignKeys.some(({ columns }) => columns.includes(name))) return true;
  if (model.identity.kind === 'derived' && model.identity.columns.includes(name)) return true;
  return registry.models.some((child) =>
    child.foreignKeys.some((key) => key.table === model.table && key.targets.includes(name)),
  );
}
