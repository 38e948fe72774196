/**
 * Foreign keys that name a row by values which may change while the row stays the same (a UNIQUE column that is not its
 * identity). The reference travels as the row that it means; here it is seen to that the values fit as well, before SQLite
 * finds at the commit that they do not. Whatever does not fit waits for the version that does.
 */
import type { Incoming } from './incoming.ts';
import { columnNamed, takenColumns } from './incoming.ts';
import type { Library } from './library.ts';
import { referrersOf } from './deletes.ts';
import type { Referrer } from './deletes.ts';
import { livingHeir } from './heirs.ts';
import type { ForeignKey, Model } from './model.ts';
import { isLedAlong, mapJoin, orAbort, quoteName, refersTo, rowByKey, rowsTable } from './model.ts';
import { hasDangling } from './remark.ts';
import { valuesOfRow } from './rivals.ts';
import type { RowWriter } from './rows.ts';
import type { Key } from './sql.ts';
import { unlessRefused } from './sql.ts';

/** A row that referred to one that was updated. */
interface Watched {
  readonly child: Model;
  readonly foreignKey: ForeignKey;
  readonly uuid: Uint8Array;
  readonly values: string;
  /** Dictionary index of the row that was updated; null for one that is about to go. */
  readonly parent: number | null;
  readonly referrer: Referrer;
  /** What the row held, where that may have to follow; null where it may not. */
  readonly held: ReadonlyMap<string, unknown> | null;
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
      const mayFollow = index !== null && foreignKey.columns.some((name) => isLedAlong(child, name));
      const held = mayFollow ? valuesOfRow(library, referrer) : null;
      const values = this.#values(child, foreignKey, uuid);
      this.#watched.push({ child, foreignKey, uuid, values, parent: index, referrer, held });
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
    for (const watched of this.#watched) {
      const { child, foreignKey, uuid, values, parent } = watched;
      const row = own.get(Buffer.from(uuid).toString('latin1'));
      if (row !== undefined) {
        // It was written before the row to which it refers, and SQLite's ON UPDATE has changed it since.
        if (!this.#isAsBrought(row, foreignKey, uuid, values)) refuse(row.index, foreignKey);
        continue;
      }
      // Changed by SQLite's own ON UPDATE, without a stamp; or left pointing nowhere.
      if (values === this.#values(child, foreignKey, uuid) && !this.#isViolated(child, foreignKey, uuid)) continue;
      if (this.#follows(watched)) continue;
      broken.set(parent, `Rows of ${child.table} here still refer to its old (${foreignKey.targets.join(', ')}).`);
    }
    return broken;
  }

  /**
   * Lets a row follow with an id that is only a part of its reference, where what it refers to has it of a row that has another name now: it
   * means the same as before, whoever owns it. Answers false where that is not all.
   */
  #follows({ child, foreignKey, uuid, referrer, held }: Watched): boolean {
    if (held === null) return false;
    const library = this.#library;
    const now = valuesOfRow(library, { model: library.model(foreignKey.table), key: referrer.parentKey });
    const values = foreignKey.columns.map((name, i) => {
      const [before, after] = [held.get(name), now.get(foreignKey.targets[i] ?? '')];
      return isLedAlong(child, name) && this.#isHeir(child, name, before, after) ? after : before;
    });
    const set = foreignKey.columns.map((name) => `${quoteName(name)} = ?`).join(', ');
    return (
      unlessRefused(() =>
        library.sql.run(
          `UPDATE ${orAbort(child)}${quoteName(child.table)} SET ${set} WHERE ${rowByKey(child)}`,
          ...values,
          referrer.key,
        ),
      ) && !this.#isViolated(child, foreignKey, uuid)
    );
  }

  /** Whether one id is that of the row by whose name the row of another one goes now. */
  #isHeir(child: Model, name: string, before: unknown, after: unknown): boolean {
    const { role } = columnNamed(child, name);
    if (role.kind !== 'ref') return false;
    const target = this.#library.model(role.table);
    const uuid = this.#library.sql.value(`SELECT uuid FROM ${rowsTable(target)} WHERE key = ?`, before);
    if (!(uuid instanceof Uint8Array)) return false;
    const heir = livingHeir(this.#library, target, uuid)?.key;
    return heir !== undefined && BigInt(heir) === BigInt(after as Key | bigint);
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
