/**
 * Foreign keys that name a row by values which may change while the row stays the same (a UNIQUE column that is not its
 * identity). The reference travels as the row that it means; here it is seen to that the values fit as well, before SQLite
 * finds at the commit that they do not. Whatever does not fit waits for the version that does.
 */
import type { Incoming } from './incoming.ts';
import { columnNamed, takenColumns } from './incoming.ts';
import type { Library } from './library.ts';
import { referrersOf } from './deletes.ts';
import type { ForeignKey, Model } from './model.ts';
import { mapJoin, quoteName, refersTo, rowsTable } from './model.ts';
import { hasDangling } from './remark.ts';
import type { RowWriter } from './rows.ts';
import type { Key } from './sql.ts';

/** A row that referred to one that was updated. */
interface Watched {
  readonly child: Model;
  readonly foreignKey: ForeignKey;
  readonly uuid: Uint8Array;
  readonly values: string;
  /** Dictionary index of the row that was updated; null for one that is about to go. */
  readonly parent: number | null;
}

/** The foreign keys of `model` of this kind. */
function looseKeys(library: Library, model: Model): ForeignKey[] {
  return model.foreignKeys.filter((key) => !key.simple && isLoose(library, key));
}

/** A row that refers to nothing may have an identity whose values it no longer holds. */
function isLoose(library: Library, key: ForeignKey): boolean {
  if (hasDangling(library)) return true;
  const target = library.model(key.table);
  const { identity } = target;
  if (!(identity.kind === 'derived' && key.targets.every((name) => identity.columns.includes(name)))) return true;
  // Where a row that names it got another name, its owner has to follow first.
  return target.ownership === 'device' && key.targets.some((name) => columnNamed(target, name).role.kind === 'ref');
}

const named = new WeakMap<Model, boolean>();

/** True when rows of `model` are named by values of theirs that are not their identity. */
export function hasLooseReferrers(library: Library, model: Model): boolean {
  const isReferredTo = (keys: readonly ForeignKey[]): boolean => keys.some(({ table }) => table === model.table);
  if (hasDangling(library)) return library.registry.models.some((child) => isReferredTo(looseKeys(library, child)));
  let has = named.get(model);
  if (has === undefined) {
    has = library.registry.models.some((child) => isReferredTo(looseKeys(library, child)));
    named.set(model, has);
  }
  return has;
}

/** Columns of a table whose rows are compared with one expression: SQLite takes 1,000 deep. */
const MOST_COLUMNS = 500;

/**
 * Whether rows of a table can be written over together. Not where writing one may change another: by the ON UPDATE of a foreign key to
 * values that are no identity; nor where each has to be looked at, since a trigger may skip it, or something led nowhere.
 */
export function canOverwriteTogether(library: Library, model: Model): boolean {
  return (
    model.rowid !== null &&
    model.columns.length <= MOST_COLUMNS &&
    !model.rowidIsRef &&
    !model.maySkip &&
    !hasDangling(library) &&
    !hasLooseReferrers(library, model) &&
    looseKeys(library, model).length === 0
  );
}

export class LooseKeys {
  readonly #library: Library;
  readonly #rows: RowWriter;
  readonly #watched: Watched[] = [];
  readonly #seen = new Set<string>();

  constructor(library: Library, rows: RowWriter) {
    this.#library = library;
    this.#rows = rows;
  }

  /** A row is about to be updated, or parked (`index` is null when it will go then): who refers to it by values? */
  before(model: Model, key: Key, index: number | null): void {
    const library = this.#library;
    if (!hasLooseReferrers(library, model) || this.#seen.has(`${model.n}:${key}`)) return;
    this.#seen.add(`${model.n}:${key}`);
    for (const referrer of referrersOf(library, model, [key])) {
      const { foreignKey, model: child, uuid } = referrer;
      if (foreignKey.simple || !isLoose(library, foreignKey)) continue;
      this.#watched.push({ child, foreignKey, uuid, values: this.#values(child, foreignKey, uuid), parent: index });
    }
  }

  /** Rows of the merge that cannot stand, by dictionary index (null: one that should go), with a sentence that says why. */
  broken(written: readonly Incoming[]): Map<number | null, string> {
    const library = this.#library;
    const keysOf = new Map(
      [...new Set(written.map(({ model }) => model))].map((model) => [model, looseKeys(library, model)]),
    );
    const broken = new Map<number | null, string>();
    const refuse = (index: number, key: ForeignKey): void => {
      broken.set(
        index,
        `It refers to a row of ${key.table} by (${key.columns.join(', ')}), which has other values now.`,
      );
    };
    for (const { model, index } of written)
      for (const key of keysOf.get(model) ?? [])
        if (this.#isViolated(model, key, this.#rows.uuidOf(index))) refuse(index, key);
    const own = new Map(
      this.#watched.length === 0 ? [] : written.map((row) => [this.#rows.uuidOf(row.index).toString('latin1'), row]),
    );
    for (const { child, foreignKey, uuid, values, parent } of this.#watched) {
      const row = own.get(Buffer.from(uuid).toString('latin1'));
      if (row !== undefined) {
        // It was written before the row to which it refers, and SQLite's ON UPDATE has changed it since.
        if (!this.#isAsBrought(row, foreignKey, uuid, values)) refuse(row.index, foreignKey);
        continue;
      }
      // Changed by SQLite's own ON UPDATE, without a stamp; or left pointing nowhere.
      if (values === this.#values(child, foreignKey, uuid) && !this.#isViolated(child, foreignKey, uuid)) continue;
      broken.set(parent, `Rows of ${child.table} here still refer to its old (${foreignKey.targets.join(', ')}).`);
    }
    return broken;
  }

  /** Whether a row that was written refers to what its version says. @param before - what it referred to when it was last looked at */
  #isAsBrought(row: Incoming, foreignKey: ForeignKey, uuid: Uint8Array, before: string): boolean {
    const { model, outcome } = row;
    const taken = takenColumns(row)
      .filter(({ name, number }) => foreignKey.columns.includes(name) && !outcome.unset.has(number))
      .map(({ name }) => name);
    if (taken.length === 0) return before === this.#values(model, foreignKey, uuid);
    const condition = taken.map((name) => `t.${quoteName(name)} IS ?`).join(' AND ');
    return (
      this.#library.sql.value(
        `SELECT 1 FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)} WHERE m.uuid = ? AND ${condition}`,
        Buffer.from(uuid),
        ...this.#rows.valuesOf(row, taken),
      ) !== undefined
    );
  }

  #isViolated(model: Model, key: ForeignKey, uuid: Uint8Array): boolean {
    const set = key.columns.map((column) => `t.${quoteName(column)} IS NOT NULL`).join(' AND ');
    return (
      this.#library.sql.value(
        `SELECT 1 FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)}
         WHERE m.uuid = ? AND ${set} AND NOT EXISTS (SELECT 1 FROM ${quoteName(key.table)} p WHERE ${refersTo(key)})`,
        Buffer.from(uuid),
      ) !== undefined
    );
  }

  #values(model: Model, key: ForeignKey, uuid: Uint8Array): string {
    const row = this.#library.sql.rows(
      `SELECT ${key.columns.map((column) => `t.${quoteName(column)}`).join(', ')}
       FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)} WHERE m.uuid = ?`,
      Buffer.from(uuid),
    )[0];
    return (row ?? []).map((value) => `${typeof value}${String(value)}`).join('\n');
  }
}
