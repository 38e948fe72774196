/**
 * The policies of a library's columns, with the functions that its configuration names: they are in a file beside the library,
 * on every device, since code does not travel.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { FlotillaError, messageOf } from '../errors.ts';
import type { Order, Policies } from './cells.ts';
import type { Library, Surroundings } from './library.ts';
import type { Model, Registry } from './model.ts';
import { allModels, knownColumns, quoteName } from './model.ts';
import type { MergeFunction, Policy } from './registers.ts';
import { BUILT_IN, checkFunction, keepAll, makePolicy } from './registers.ts';
import { readBig } from './sql.ts';

export const NO_POLICIES: Policies = new Map();

/** Different values of a column on which its function is tried before anything is synced: all pairs of them. */
const SAMPLES = 20;

/**
 * The policies of all tables.
 * @throws FlotillaError CONFIG when a function is not there: without it this device would show other values than the rest
 */
export function readPolicies(registry: Registry, around: Surroundings, order: Order): Map<Model, Policies> {
  const functions = functionsOf(registry, around);
  const policies = new Map<Model, Policies>();
  for (const model of allModels(registry)) {
    const columns = knownColumns(model).flatMap((column): [number, Policy][] => {
      const { policy, number } = column;
      if (policy === undefined) return [];
      const isAbsent = model.absent.includes(column);
      // The function of a column that is not here comes with the column: until then every entry is kept.
      if (isAbsent && !BUILT_IN.has(policy)) return [[number, keepAll(order)]];
      return [[number, makePolicy(policy, { ...column, table: model.table }, order, functions)]];
    });
    if (columns.length > 0) policies.set(model, new Map(columns));
  }
  return policies;
}

/** Gives functions by name; the module is loaded when the first one is asked for. */
function functionsOf({ mergeModule }: Registry, around: Surroundings): (name: string) => MergeFunction {
  let loaded: Readonly<Record<string, unknown>> | null = null;
  return (name) => {
    const file = mergeModule ?? '';
    try {
      loaded ??= around.functions?.(file) ?? {};
    } catch (cause) {
      throw new FlotillaError(
        'CONFIG',
        `${file}, which the configuration names for the function "${name}", cannot be loaded from beside the library: ${messageOf(cause)}. Copy it from a device that has it.`,
        { cause },
      );
    }
    const found = Object.hasOwn(loaded, name) ? loaded[name] : undefined;
    if (typeof found === 'function') return found as MergeFunction;
    throw new FlotillaError(
      'CONFIG',
      `${file} exports no function "${name}", which the configuration names: take the file from a device that has it, or correct the name.`,
    );
  };
}

/** Loads a module that lies in `folder`. ESM and CommonJS alike, at once: opening a library waits for nothing else. */
export function loadFunctions(folder: string, module: string): Readonly<Record<string, unknown>> {
  return createRequire(join(folder, 'library'))(join(folder, module)) as Readonly<Record<string, unknown>>;
}

/** Tries the functions on values that are there. @throws FlotillaError MERGE_FUNCTION with the values that show what is wrong */
export function tryFunctions(library: Library): void {
  for (const model of library.registry.models) {
    for (const [number, policy] of library.policies(model)) {
      const found = model.columns.find((candidate) => candidate.number === number);
      if (found === undefined) continue;
      const column = quoteName(found.name);
      const text = `SELECT DISTINCT ${column} FROM ${quoteName(model.table)} WHERE ${column} IS NOT NULL LIMIT ${SAMPLES}`;
      const values = readBig(library.sql.get(text), []).map(([value]) => value ?? null);
      checkFunction(policy, values);
    }
  }
}
