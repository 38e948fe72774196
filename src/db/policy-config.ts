/**
 * Which columns may have a policy: those whose value concerns nothing but themselves. Everything else is refused in words,
 * before anything is written.
 */
import { badConfig } from './choose.ts';
import type { TableConfig } from './config.ts';
import { foldName } from './config.ts';
import type { UniqueIndex } from './indexes.ts';
import type { Column, Model } from './model.ts';
import { COUNTER, LWW } from './registers.ts';

/** Policies that need no function. */
const OWN = new Set([COUNTER, 'max', 'min']);

/** Column → policy. @param resolve - names in the schema's own spelling; throws for one that does not exist */
export function policiesIn(
  { columns = {} }: TableConfig,
  resolve: (names: readonly string[]) => readonly string[],
): ReadonlyMap<string, string> {
  const names = Object.keys(columns);
  const resolved = resolve(names);
  const policies = names.map((name, i) => [resolved[i] ?? name, columns[name]?.merge ?? LWW] as const);
  return new Map(policies.filter(([, policy]) => policy !== LWW));
}

/** @throws FlotillaError CONFIG for a column that cannot have the policy that it is given */
export function checkPolicies(model: Model, module: string | null): void {
  for (const column of model.columns) {
    if (column.policy === undefined) continue;
    const problem = problemOf(model, column, column.policy, module);
    if (problem !== null)
      throw badConfig(`"${column.name}" of "${model.table}" cannot be merged by "${column.policy}": ${problem}`);
  }
}

function problemOf(model: Model, column: Column, policy: string, module: string | null): string | null {
  const { name } = column;
  if (model.ownership === 'device')
    return 'only the owner of a row writes it, so there is nothing to merge. Leave it out.';
  if (column.role.kind === 'local')
    return 'it stays on this device. Take it out of localColumns, or leave the policy out.';
  if (model.key.includes(name)) return 'it is part of the primary key. Leave it out.';
  if (model.identity.kind === 'derived' && model.identity.columns.includes(name))
    return 'it is part of the identity, which must not change. Leave it out.';
  if (model.foreignKeys.some(({ columns }) => columns.includes(name))) return 'it is a reference. Leave it out.';
  const unique = model.uniques.find((index) => concerns(index as UniqueIndex, name));
  if (unique !== undefined)
    return `it is in the UNIQUE index "${unique.name}", and a merged value might be another row's. Leave it out, or drop the index.`;
  if (policy === COUNTER && column.affinity === 'TEXT')
    return 'it is declared to hold text, and a counter holds numbers. Declare it INTEGER or REAL.';
  if (!OWN.has(policy) && module === null)
    return 'that is no policy (lww, max, min, counter), and there is no "module" with functions. Name the file that exports it.';
  return null;
}

/** An expression or a condition may name the column in any way: a word of that name is enough. */
function concerns({ columns, expressions, where }: UniqueIndex, name: string): boolean {
  if (columns.includes(name)) return true;
  const wanted = foldName(name);
  const isWord = /^[\p{L}\p{N}_$]+$/u.test(wanted);
  const texts = [...expressions, where].filter((text) => text !== null).map(foldName);
  return texts.some((text) => (isWord ? text.split(/[^\p{L}\p{N}_$]+/u).includes(wanted) : text.includes(wanted)));
}
