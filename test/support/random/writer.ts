/**
 * What programs write into a random schema: plain SQL, one statement at a time, made of what the copy shows at that moment.
 * Some of it the tables refuse, as in life.
 */
import type { Chance } from './chance.ts';
import type { Column, ForeignKey, Schema, Table } from './schema.ts';
import { columnOf, isNamedByValues, quote } from './schema.ts';
import type { Snapshot, SnapRow } from './snapshot.ts';
import { cellAt } from './snapshot.ts';
import { fewValue, literal, wildValue } from './values.ts';

/** How programs write. */
export interface Manner {
  /** Values of unique columns are changed to others' on purpose; rows are evicted. */
  readonly isHard: boolean;
}

type Values = Map<string, string>;

/** Statements of one program in one copy, until the next one. */
export class Writer {
  readonly #chance: Chance;
  readonly #schema: Schema;
  readonly #manner: Manner;
  readonly #prefix: string;
  #count = 0;

  /** @param prefix - begins the tokens: no other writer has it */
  constructor(chance: Chance, schema: Schema, manner: Manner, prefix: string) {
    this.#chance = chance;
    this.#schema = schema;
    this.#manner = manner;
    this.#prefix = prefix;
  }

  /** The next statement, or a few that belong together. */
  next(snapshot: Snapshot): string[] {
    for (;;) {
      const table = this.#chance.pick(this.#schema.tables);
      const rows = [...(snapshot.get(table.name)?.values() ?? [])];
      const statements = rows.length === 0 ? this.#insert(table, snapshot) : this.#any(table, rows, snapshot);
      if (statements !== null) return statements;
    }
  }

  #any(table: Table, rows: readonly SnapRow[], snapshot: Snapshot): string[] | null {
    const row = this.#chance.pick(rows);
    const mayReplace = this.#mayReplace(table);
    const make = this.#chance.weighted<() => string[] | null>([
      [12, () => this.#insert(table, snapshot)],
      [9, () => this.#update(row, snapshot)],
      [4, () => this.#repoint(row, snapshot)],
      [3, () => this.#rekey(row, rows, snapshot)],
      [5, () => [`DELETE FROM ${quote(table.name)} WHERE ${whereKey(row)}`]],
      [mayReplace ? 2 : 0, () => this.#replace(row, snapshot)],
      [2, () => this.#upsert(row, snapshot)],
      [1, () => this.#reuse(row, snapshot)],
      [rows.length > 1 ? 1 : 0, () => this.#swap(table, rows)],
      [0.3, () => [`DELETE FROM ${quote(table.name)}`]],
      [0.5, () => this.#updateAll(table)],
      [this.#manner.isHard ? 3 : 0, () => this.#collide(row, rows)],
    ]);
    return make();
  }

  // -- statements

  #insert(table: Table, snapshot: Snapshot, given: Values = new Map(), verb?: string): string[] | null {
    const values = this.#newRow(table, snapshot, given);
    if (values === null) return null;
    const orIgnore = this.#chance.weighted([
      [6, 'INSERT'],
      [1, 'INSERT OR IGNORE'],
      [this.#mayReplace(table) ? 1 : 0, 'INSERT OR REPLACE'],
    ]);
    return [insertSql(verb ?? orIgnore, table, values)];
  }

  #update(row: SnapRow, snapshot: Snapshot): string[] {
    const set: Values = new Map();
    for (const column of this.#chance.some(row.table.columns, 0.4)) {
      if (column.purpose === 'token') set.set(column.name, this.#token(column));
      if (column.purpose === 'wild') set.set(column.name, this.#wild(column, row.table));
      if (column.purpose === 'local') set.set(column.name, `'here ${this.#prefix}'`);
    }
    if (this.#chance.is(0.2)) this.#addReference(row, snapshot, set);
    if (set.size === 0) this.#addToken(row.table, set);
    return [updateSql('UPDATE', row, set)];
  }

  /** Another parent, or none. */
  #repoint(row: SnapRow, snapshot: Snapshot): string[] | null {
    const set: Values = new Map();
    if (!this.#addReference(row, snapshot, set)) return null;
    if (this.#chance.is(0.8)) this.#addToken(row.table, set);
    return [updateSql(this.#chance.pick(['UPDATE', 'UPDATE', 'UPDATE OR IGNORE']), row, set)];
  }

  /** Another key, or another name. The tokens stay, so that the row can be followed. */
  #rekey(row: SnapRow, rows: readonly SnapRow[], snapshot: Snapshot): string[] | null {
    const { table } = row;
    const set: Values = new Map();
    const names = [...new Set([...table.key, ...(table.identity ?? [])])];
    const column = columnOf(table, this.#chance.pick(names));
    if (column.purpose === 'id') set.set(column.name, this.#otherId(rows));
    else if (column.purpose === 'few') set.set(column.name, fewValue(this.#chance, column.type, table.isStrict));
    else if (column.purpose === 'ref') {
      const key = table.foreignKeys.find((candidate) => candidate.columns.includes(column.name));
      if (key === undefined || !this.#refer(key, table, snapshot, set)) return null;
    } else return null;
    const verb = this.#chance.weighted([
      [4, 'UPDATE'],
      [1, 'UPDATE OR IGNORE'],
      [this.#mayEvict(table) ? 1 : 0, 'UPDATE OR REPLACE'],
    ]);
    return [updateSql(verb, row, set)];
  }

  #replace(row: SnapRow, snapshot: Snapshot): string[] | null {
    const { table } = row;
    const unique = this.#chance.pick([
      table.key,
      ...table.uniques.filter((columns) => this.#manner.isHard || columns === table.identity),
    ]);
    const given = new Map(unique.map((name) => [name, literal(cellAt(row, name))]));
    return this.#insert(table, snapshot, given, this.#chance.pick(['REPLACE', 'INSERT OR REPLACE']));
  }

  #upsert(row: SnapRow, snapshot: Snapshot): string[] | null {
    const { table } = row;
    const unique = this.#chance.pick([table.key, ...table.uniques]);
    const given: Values = new Map();
    if (this.#chance.is(0.7)) for (const name of unique) given.set(name, literal(cellAt(row, name)));
    const values = this.#newRow(table, snapshot, given);
    if (values === null) return null;
    const set = [...values.keys()]
      .filter((name) => ['token', 'wild'].includes(columnOf(table, name).purpose))
      .map((name) => `${quote(name)} = excluded.${quote(name)}`);
    const action = this.#chance.is(0.2) || set.length === 0 ? 'NOTHING' : `UPDATE SET ${set.join(', ')}`;
    return [`${insertSql('INSERT', table, values)} ON CONFLICT (${unique.map(quote).join(', ')}) DO ${action}`];
  }

  /** Another row under a key that was just freed. */
  #reuse(row: SnapRow, snapshot: Snapshot): string[] | null {
    const { table } = row;
    const given = new Map(table.key.map((name) => [name, literal(cellAt(row, name))]));
    const insert = this.#insert(table, snapshot, given, 'INSERT');
    return insert === null ? null : [`DELETE FROM ${quote(table.name)} WHERE ${whereKey(row)}`, ...insert];
  }

  /** Two rows take each other's ids, or each other's unique values. */
  #swap(table: Table, rows: readonly SnapRow[]): string[] | null {
    const own = table.isRowid ? [columnOf(table, table.key[0] ?? '')] : [];
    const names = table.columns.filter((column) => this.#manner.isHard && column.purpose === 'few' && !column.notNull);
    const candidates = [...own.filter((column) => column.purpose === 'id'), ...names];
    if (candidates.length === 0) return null;
    const column = this.#chance.pick(candidates);
    const [one, other] = [this.#chance.pick(rows), this.#chance.pick(rows)];
    if (one === other) return null;
    const free = column.purpose === 'id' ? '-77' : 'NULL';
    const [a, b] = [literal(cellAt(one, column.name)), literal(cellAt(other, column.name))];
    const moved = column.purpose === 'id' ? `${quote(column.name)} = -77` : whereKey(one);
    const to = quote(column.name);
    const update = (value: string, where: string): string =>
      `UPDATE ${quote(table.name)} SET ${to} = ${value} WHERE ${where}`;
    return [update(free, whereKey(one)), update(a, whereKey(other)), update(b, moved)];
  }

  #updateAll(table: Table): string[] | null {
    if (!table.isRowid) return null;
    const column = this.#chance.pick(table.columns.filter((candidate) => candidate.purpose === 'token'));
    const id = quote(table.key[0] ?? '');
    return [`UPDATE ${quote(table.name)} SET ${quote(column.name)} = ${literal(this.#freshToken())} || '-' || ${id}`];
  }

  /** A unique value that is another row's, or soon will be. */
  #collide(row: SnapRow, rows: readonly SnapRow[]): string[] | null {
    const { table } = row;
    const columns = table.columns.filter((column) => column.purpose === 'few' || column.purpose === 'code');
    if (columns.length === 0) return null;
    const column = this.#chance.pick(columns);
    const other = this.#chance.pick(rows);
    const value = this.#chance.is(0.5)
      ? literal(cellAt(other, column.name))
      : fewValue(this.#chance, column.type, table.isStrict);
    const set: Values = new Map([[column.name, value]]);
    const isName = table.key.includes(column.name) || (table.identity ?? []).includes(column.name);
    if (!isName) this.#addToken(table, set);
    const verbs = ['UPDATE', 'UPDATE OR IGNORE', ...(this.#mayEvict(table) ? ['UPDATE OR REPLACE'] : [])];
    return [updateSql(this.#chance.pick(verbs), row, set)];
  }

  /**
   * A row of another device that is evicted has no trigger to refuse it. A row that others name by values which a REPLACE
   * changes makes those wait who did so meanwhile.
   */
  #mayReplace(table: Table): boolean {
    if (table.ownership === 'device') return false;
    return this.#manner.isHard || !isNamedByValues(this.#schema, table);
  }

  /** SQLite lets UPDATE OR REPLACE give a row that refers to itself another key, and leaves the reference dangling. */
  #mayEvict(table: Table): boolean {
    return this.#mayReplace(table) && table.foreignKeys.every((key) => key.table !== table.name);
  }

  // -- values

  /** Values for a new row; null where there is no parent that it must have. */
  #newRow(table: Table, snapshot: Snapshot, given: Values): Values | null {
    const values: Values = new Map();
    for (const key of table.foreignKeys) {
      if (key.columns.every((name) => given.has(name))) continue;
      const mayLack = key.columns.every((name) => !columnOf(table, name).notNull);
      if (mayLack && this.#chance.is(0.4)) continue;
      if (!this.#refer(key, table, snapshot, values) && !mayLack) return null;
    }
    for (const column of table.columns) {
      if (given.has(column.name) || values.has(column.name)) continue;
      const value = this.#newValue(column, table);
      if (value !== null) values.set(column.name, value);
    }
    for (const [name, value] of given) values.set(name, value);
    if (![...values.keys()].some((name) => columnOf(table, name).purpose === 'token')) this.#addToken(table, values);
    return values;
  }

  /** Null leaves the column out. */
  #newValue(column: Column, table: Table): string | null {
    const chance = this.#chance;
    switch (column.purpose) {
      case 'id':
        if (chance.is(0.75)) return null;
        if (chance.is(0.05)) return chance.pick(['-5', '0', '9007199254740993', '4611686018427387904']);
        return String(chance.between(1, 30));
      case 'few':
        return !column.notNull && chance.is(0.2) ? 'NULL' : fewValue(chance, column.type, table.isStrict);
      case 'code':
        return column.type === 'BLOB' ? literal(Buffer.from(this.#freshToken())) : literal(this.#freshToken());
      case 'token':
        return !column.notNull && chance.is(0.2) ? null : this.#token(column);
      case 'wild':
        return (column.hasDefault && chance.is(0.4)) || (!column.notNull && chance.is(0.2))
          ? null
          : this.#wild(column, table);
      case 'local':
      case 'ref':
      case 'generated':
        return null;
    }
  }

  #wild(column: Column, table: Table): string {
    if (!column.notNull && this.#chance.is(0.15)) return 'NULL';
    return wildValue(this.#chance, column.type, table.isStrict);
  }

  #freshToken(): string {
    return `${this.#prefix}.${(this.#count += 1)}`;
  }

  #token(column: Column): string {
    const token = this.#freshToken();
    const asBlob = (column.type === '' || column.type === 'ANY') && this.#chance.is(0.3);
    return literal(asBlob ? Buffer.from(token) : token);
  }

  #addToken(table: Table, set: Values): void {
    const column = this.#chance.pick(table.columns.filter((candidate) => candidate.purpose === 'token'));
    set.set(column.name, this.#token(column));
  }

  /** Sets a foreign key that is no part of the row's name to another target. */
  #addReference(row: SnapRow, snapshot: Snapshot, set: Values): boolean {
    const { table } = row;
    const keys = table.foreignKeys.filter(({ columns }) => !columns.some((name) => table.key.includes(name)));
    if (keys.length === 0) return false;
    const key = this.#chance.pick(keys);
    if (key.columns.every((name) => !columnOf(table, name).notNull) && this.#chance.is(0.25)) {
      for (const name of key.columns) set.set(name, 'NULL');
      return true;
    }
    return this.#refer(key, table, snapshot, set);
  }

  #refer(key: ForeignKey, table: Table, snapshot: Snapshot, set: Values): boolean {
    const parents = [...(snapshot.get(key.table)?.values() ?? [])];
    if (parents.length === 0) return false;
    const parent = this.#chance.pick(parents);
    key.columns.forEach((name, i) => {
      const value = cellAt(parent, key.targets[i] ?? '');
      set.set(name, value === null && columnOf(table, name).notNull ? "'none'" : literal(value));
    });
    return true;
  }

  #otherId(rows: readonly SnapRow[]): string {
    const some = this.#chance.pick(rows);
    return this.#chance.pick([String(this.#chance.between(1, 60)), literal(cellAt(some, some.table.key[0] ?? ''))]);
  }
}

function insertSql(verb: string, table: Table, values: Values): string {
  const names = [...values.keys()].map(quote).join(', ');
  return `${verb} INTO ${quote(table.name)} (${names}) VALUES (${[...values.values()].join(', ')})`;
}

function updateSql(verb: string, row: SnapRow, set: Values): string {
  const list = [...set].map(([name, value]) => `${quote(name)} = ${value}`).join(', ');
  return `${verb} ${quote(row.table.name)} SET ${list} WHERE ${whereKey(row)}`;
}

/** The condition that finds a row on its copy. */
export function whereKey(row: SnapRow): string {
  return row.table.key.map((name) => `${quote(name)} = ${literal(cellAt(row, name))}`).join(' AND ');
}
