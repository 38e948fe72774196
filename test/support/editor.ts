/**
 * Random edits of a table of any schema, made of what is in it: new rows like those that are there, other values, other
 * targets, deletes, REPLACE. A careful editor leaves alone what two devices could do to each other (values that only one row
 * can have, deletes that may be forbidden elsewhere, moves that may close a circle); a bold one does all of that.
 */
import type { Database } from 'better-sqlite3';

import type { Chance } from './chance.ts';
import { type Facts, quoted, type ReferenceFacts, type TableFacts } from './facts.ts';

type Values = Map<string, unknown>;

/** Where a row is. */
interface Place {
  readonly where: string;
  readonly key: readonly unknown[];
}

export interface EditorOptions {
  readonly db: Database;
  readonly facts: Facts;
  readonly chance: Chance;
  readonly bold: boolean;
  /** Columns that name a row everywhere, by table: equal ones are one row, so they collide with nothing. */
  readonly identities: ReadonlyMap<string, readonly string[]>;
  /** Tables in which every device writes its own rows only. */
  readonly owned: readonly string[];
  /** Text that nobody else writes. */
  readonly fresh: () => string;
  /** A whole number that nobody else writes. */
  readonly freshNumber: () => number;
}

export class Editor {
  readonly #options: EditorOptions;
  readonly #tables: readonly TableFacts[];

  constructor(options: EditorOptions) {
    this.#options = options;
    this.#tables = [...options.facts.values()].filter(({ name }) => !options.owned.includes(name));
  }

  /** One edit, of one table. Throws what SQLite throws when a constraint forbids it. */
  edit(): void {
    const { chance, bold } = this.#options;
    const table = chance.pick(this.#tables);
    const act = chance.weighted<(table: TableFacts) => void>([
      [4, (it) => this.#insert(it, 'INSERT')],
      [1, (it) => this.#insert(it, 'INSERT OR IGNORE')],
      [bold && !table.hasTriggers ? 1 : 0, (it) => this.#insert(it, 'REPLACE')],
      [6, (it) => this.#update(it)],
      [2, (it) => this.#delete(it)],
      [bold ? 1 : 0, (it) => this.#updateKey(it)],
    ]);
    act(table);
  }

  // -- what it does

  #insert(table: TableFacts, verb: string): void {
    const row = this.#like(table);
    if (row === null) return;
    if (table.rowid !== null && !table.references.some(({ columns }) => columns.includes(table.rowid ?? '')))
      row.delete(table.rowid);
    for (const reference of table.references) this.#refer(row, reference);
    for (const unique of table.uniques) if (!this.#freshen(table, row, unique)) return;
    const columns = [...row.keys()];
    this.#run(
      `${verb} INTO ${quoted(table.name)} (${columns.map(quoted).join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`,
      ...row.values(),
    );
  }

  #update(table: TableFacts): void {
    const { chance, bold } = this.#options;
    const fixed = new Set(bold ? table.key : [...table.key, ...table.uniques.flat()]);
    const plain = table.columns.filter((column) => !column.isGenerated && !fixed.has(column.name));
    const column = plain.length > 0 ? chance.pick(plain).name : null;
    const place = this.#place(table);
    if (column === null || place === null) return;
    const reference = table.references.find(({ columns }) => columns.includes(column));
    const row: Values = new Map();
    if (reference === undefined) row.set(column, this.#otherValue(table, column));
    else {
      if (reference.columns.some((name) => fixed.has(name))) return;
      const isTree = reference.table === table.name;
      if (isTree && !bold && !this.#mayMove(table, reference, place)) return;
      this.#refer(row, reference, isTree && !bold);
    }
    if (row.size === 0) return;
    const set = [...row.keys()].map((name) => `${quoted(name)} = ?`).join(', ');
    const or = bold ? chance.pick(['', 'OR IGNORE ', table.hasTriggers ? '' : 'OR REPLACE ']) : '';
    this.#run(`UPDATE ${or}${quoted(table.name)} SET ${set} WHERE ${place.where}`, ...row.values(), ...place.key);
  }

  #updateKey(table: TableFacts): void {
    const place = this.#place(table);
    if (place === null || table.rowid === null) return;
    const set = `${quoted(table.rowid)} = ?`;
    this.#run(
      `UPDATE ${quoted(table.name)} SET ${set} WHERE ${place.where}`,
      this.#options.freshNumber(),
      ...place.key,
    );
  }

  #delete(table: TableFacts): void {
    if (!this.#options.bold && !this.#mayGo(table.name)) return;
    const place = this.#place(table);
    if (place !== null) this.#run(`DELETE FROM ${quoted(table.name)} WHERE ${place.where}`, ...place.key);
  }

  // -- what it knows

  /** Whether deleting a row of this table is settled by the schema alone, whatever refers to it elsewhere. */
  #mayGo(table: string, seen: ReadonlySet<string> = new Set()): boolean {
    if (seen.has(table)) return true;
    const through = new Set([...seen, table]);
    return [...this.#options.facts.values()].every((child) =>
      child.references.every(({ table: parent, onDelete, columns }) => {
        if (parent !== table) return true;
        if (onDelete === 'CASCADE')
          return this.#mayGo(child.name, through) && !this.#options.owned.includes(child.name);
        const canBeNull = columns.every(
          (name) => child.columns.find((column) => column.name === name)?.notNull === false,
        );
        const isKey = columns.some(
          (name) => child.key.includes(name) || child.uniques.some((unique) => unique.includes(name)),
        );
        return onDelete === 'SET NULL' && canBeNull && !isKey && !this.#options.owned.includes(child.name);
      }),
    );
  }

  /** A careful editor moves what has a parent, and only to the top of a tree, where nothing is moved from. */
  #mayMove(table: TableFacts, { columns }: ReferenceFacts, { where, key }: Place): boolean {
    const parent = columns.map((column) => `${quoted(column)} IS NOT NULL`).join(' AND ');
    return this.#value(`SELECT 1 FROM ${quoted(table.name)} WHERE ${where} AND ${parent}`, ...key) === 1;
  }

  // -- values

  /** A row that is there, with its values. */
  #like(table: TableFacts): Values | null {
    const columns = table.columns.filter(({ isGenerated }) => !isGenerated).map(({ name }) => name);
    const row = this.#row(`SELECT ${columns.map(quoted).join(', ')} FROM ${quoted(table.name)}`);
    if (row === undefined) return null;
    const values: Values = new Map(columns.map((name, i) => [name, row[i]]));
    for (const { name, type } of table.columns) {
      const value = values.get(name);
      if (typeof value === 'string' && /TEXT|CHAR/.test(type) && this.#options.chance.happens(0.3))
        values.set(name, `${value} ${this.#options.fresh()}`);
    }
    return values;
  }

  /** Points a row to another target, or to none where that is allowed. */
  #refer(row: Values, { columns, table, targets }: ReferenceFacts, topOnly = false): void {
    const { chance, facts } = this.#options;
    const parent = facts.get(table);
    if (parent === undefined) return;
    const tree = parent.references.find((reference) => reference.table === table);
    const top =
      topOnly && tree !== undefined
        ? ` WHERE ${tree.columns.map((name) => `${quoted(name)} IS NULL`).join(' AND ')}`
        : '';
    const target = this.#row(`SELECT ${targets.map(quoted).join(', ')} FROM ${quoted(table)}${top}`);
    if (target === undefined || (topOnly ? false : chance.happens(0.05))) return;
    columns.forEach((column, i) => row.set(column, target[i]));
  }

  #otherValue(table: TableFacts, column: string): unknown {
    const { chance, fresh } = this.#options;
    const value = this.#row(`SELECT ${quoted(column)} FROM ${quoted(table.name)}`)?.[0] ?? null;
    if (chance.happens(0.5)) return value;
    if (typeof value === 'bigint') return value + BigInt(chance.between(-3, 3));
    if (typeof value === 'number') return value / 3;
    if (value instanceof Uint8Array) return chance.blob(value.length);
    return fresh();
  }

  /** Makes the values of a unique index new; false where a careful editor cannot. */
  #freshen(table: TableFacts, row: Values, unique: readonly string[]): boolean {
    const { bold, chance, fresh, freshNumber, identities } = this.#options;
    const names = identities.get(table.name) ?? (table.rowid === null ? table.key : []);
    const isIdentity =
      names.length > 0 && names.every((name) => unique.includes(name)) && unique.length === names.length;
    const free = unique.filter(
      (name) => !table.references.some(({ columns }) => columns.includes(name)) && row.has(name),
    );
    // Two devices may name the same row at once, as long as nothing else of it must be unique.
    if (isIdentity && (free.length === 0 || chance.happens(0.1))) return true;
    if (bold && chance.happens(0.5)) return true;
    if (free.length === 0) return row.size > 0 && unique.some((name) => row.get(name) === null);
    for (const name of free) {
      const value = row.get(name);
      if (value === null) continue;
      if (typeof value === 'bigint') row.set(name, BigInt(freshNumber()));
      else if (value instanceof Uint8Array) row.set(name, chance.blob(value.length));
      else row.set(name, bold && chance.happens(0.3) ? chance.pick(['same', 'Same']) : fresh());
    }
    return true;
  }

  /** One of the rows, by chance. */
  #place(table: TableFacts): Place | null {
    const key = table.hasRowid ? ['rowid'] : table.key.map(quoted);
    const found = this.#row(`SELECT ${key.join(', ')} FROM ${quoted(table.name)}`);
    return found === undefined ? null : { where: key.map((column) => `${column} = ?`).join(' AND '), key: found };
  }

  #row(sql: string): unknown[] | undefined {
    const rows = this.#options.db.prepare(sql).safeIntegers(true).raw().all() as unknown[][];
    return rows.length === 0 ? undefined : this.#options.chance.pick(rows);
  }

  #value(sql: string, ...params: unknown[]): unknown {
    return (
      this.#options.db
        .prepare(sql)
        .pluck()
        .get(...params) ?? null
    );
  }

  #run(sql: string, ...params: unknown[]): void {
    this.#options.db.prepare(sql).run(...params);
  }
}
