/**
 * Writing arriving rows into the user's tables and their map tables, in bulk. What a constraint refuses is noted, so that the
 * caller can begin again without it.
 */
import type { Batch, ColumnData, TableData } from '../protocol/types.ts';
import { messageOf } from '../errors.ts';
import type { Adopter } from './adopt.ts';
import { formatCells } from './cells.ts';
import type { Hold, Incoming, References } from './incoming.ts';
import { bindable, columnData, columnNamed, referencesOf, takenColumns } from './incoming.ts';
import type { Library } from './library.ts';
import type { Found, Led } from './lookup.ts';
import type { Column, Model } from './model.ts';
import { isLedAlong, isPlainId, orAbort, quoteName, rowByKey, rowsTable, syncedColumns } from './model.ts';
import type { Changes } from './overwrite.ts';
import { overwrite } from './overwrite.ts';
import { readdress } from './readdress.ts';
import type { Key } from './sql.ts';
import { inLists, insertMany, requireConstraint } from './sql.ts';

/** Columns of a map table that a newer version writes. */
const STAMPED = ['birth_hlc', 'birth_run', 'hlc', 'run', 'lsn', 'cells', 'aside'];

export class RowWriter {
  /** Rows that a constraint refused, by dictionary index. */
  readonly failures = new Map<number, Hold>();
  readonly #library: Library;
  readonly #batch: Batch;
  readonly #found: Found;
  readonly #first: readonly number[] | null;
  /** Local key of every row of the dictionary that stands here, or will at the end; holes where none does. */
  readonly #keys: (Key | undefined)[];
  /** What `pushValues` has looked for last. */
  #last: {
    readonly table: TableData | null;
    readonly columns: readonly Column[];
    readonly data: readonly (ColumnData | undefined)[];
  } = { table: null, columns: [], data: [] };
  /** Where rows stand whose key is a reference that led nowhere, and leads to a row of another id now: until {@link follow}. */
  readonly #before = new Map<Incoming, Key>();

  /** @param first - see `firstOfEach` */
  constructor(library: Library, batch: Batch, found: Found, first: readonly number[] | null) {
    this.#library = library;
    this.#batch = batch;
    this.#found = found;
    this.#first = first;
    this.#keys = found.rows.map((row) => row?.key);
  }

  /** Local key of the row that a dictionary index means; undefined if it has none yet. */
  keyOf(index: number): Key | undefined {
    return this.#keys[this.#first === null ? index : (this.#first[index] ?? index)];
  }

  /** Local key of the row that a row refers to; null for none, undefined where that is not here. */
  targetOf(references: References, row: Incoming): Key | null | undefined {
    const { refs, isLedAlong: isAlong } = references;
    const target = refs[row.position] ?? -1;
    if (target < 0) return null;
    const led = this.ledOf(references, row);
    if (led !== undefined) return led.key;
    return (isAlong ? this.#found.heirs.get(target) : undefined) ?? this.keyOf(target);
  }

  /** What a reference means, where that has another name by now. */
  ledOf({ refs, isById }: References, { position }: Incoming): Led | undefined {
    if (!isById) return undefined;
    return this.#found.led.get(refs[position] ?? -1) ?? this.#found.older.get(refs)?.get(position);
  }

  uuidOf(index: number): Buffer {
    const { buffer, byteOffset } = this.#batch.uuids;
    return Buffer.from(buffer, byteOffset + index * 16, 16);
  }

  /** Gives new rows their local ids at once, so that references resolve without order: trees, rings. */
  giveKeys(incoming: readonly Incoming[], adopter: Adopter | null): void {
    const { models } = this.#library.registry;
    const give = (model: Model): void => {
      const rows = incoming.filter(
        (row) =>
          row.model === model && !row.isUpdate && row.hold === null && !(model.rowidIsRef && this.#isPlaced(row.index)),
      );
      if (adopter === null) for (const row of rows) this.#setKey(row, this.#freshKey(row));
      else this.#pairOrGiveKeys(adopter, rows);
    };
    for (const model of models) if (!model.rowidIsRef) give(model);
    // An id that is a reference comes after that of its target, also where the tables refer to each other in a ring.
    const given = models.filter((model) => model.rowidIsRef);
    for (let depth = 0; depth < given.length; depth += 1) {
      for (const model of given) {
        give(model);
        for (const row of incoming) if (row.model === model && row.isUpdate && row.hold === null) this.#followKey(row);
      }
    }
  }

  /** A writer without foreign keys may have moved what the key of a row refers to, and not the row. */
  #followKey(row: Incoming): void {
    const { taken } = row.outcome;
    if (taken !== null && !taken.has(columnNamed(row.model, row.model.rowid ?? '').number)) return;
    const [here, key] = [this.keyOf(row.index), this.#givenKey(row)];
    if (here === undefined || key === undefined || key === here) return;
    if (!this.#before.has(row)) this.#before.set(row, here);
    this.#setKey(row, key);
  }

  /**
   * Lets rows go where that has gone which their keys refer to, with all that refers to them. Answers false where a constraint forbids it.
   */
  follow(): boolean {
    for (const [row, from] of this.#before) {
      const to = this.keyOf(row.index) as Key;
      const moved = readdress(this.#library, row.model, from, to);
      if (moved === null) this.failures.set(row.index, { reason: 'unique', detail: 'Another row here has its id.' });
      else this.#correctKeys(moved, from, to);
    }
    return this.failures.size === 0;
  }

  /** Rows of the dictionary may have followed as well. */
  #correctKeys(moved: readonly Model[], from: Key, to: Key): void {
    const names = moved.map((model) => this.#batch.names.indexOf(model.wire));
    this.#batch.uuidTable.forEach((name, index) => {
      if (names.includes(name) && this.#keys[index] === from) this.#keys[index] = to;
    });
    for (const [row, key] of this.#before) if (moved.includes(row.model) && key === from) this.#before.set(row, to);
  }

  /** Parents are paired before their children, whose content names them. */
  #pairOrGiveKeys(adopter: Adopter, rows: readonly Incoming[]): void {
    let left = rows;
    while (left.length > 0) {
      const ready = left.filter((row) =>
        referencesOf(row.model, row.table).every((references) => this.targetOf(references, row) !== undefined),
      );
      const now = new Set(ready.length > 0 ? ready : left);
      for (const row of now) {
        const key = adopter.pair(
          this.#library,
          row.model,
          this.valuesOf(
            row,
            syncedColumns(row.model).map((column) => column.name),
          ),
        );
        row.isPaired = key !== null;
        this.#setKey(row, key ?? this.#freshKey(row));
      }
      left = left.filter((row) => !now.has(row));
    }
  }

  #isPlaced(target: number): boolean {
    return target < 0 || this.keyOf(target) !== undefined;
  }

  #setKey(row: Incoming, key: Key | undefined): void {
    this.#keys[this.#first === null ? row.index : (this.#first[row.index] ?? row.index)] = key;
  }

  #freshKey(row: Incoming): Key | undefined {
    const { model } = row;
    if (model.rowid === null) return 0;
    return model.rowidIsRef ? this.#givenKey(row) : this.#library.nextKey(model);
  }

  /** The key of a row whose INTEGER PRIMARY KEY is itself a reference: the local id of its target. */
  #givenKey(row: Incoming): Key | undefined {
    const column = columnData(row.table, columnNamed(row.model, row.model.rowid ?? '').wire);
    return column?.kind === 'ref' ? this.keyOf(column.refs[row.position] ?? -1) : undefined;
  }

  /** Inserts rows of one table, with their mappings. */
  insert(model: Model, rows: readonly Incoming[]): void {
    this.#insertRows(
      model,
      rows.filter((row) => !row.isPaired),
    );
    if (this.failures.size === 0) this.#insertMappings(model, rows);
  }

  #insertRows(model: Model, rows: readonly Incoming[]): void {
    const groups = new Map<string, Incoming[]>();
    for (const row of rows) {
      const unset = row.outcome.unset.size === 0 ? '' : [...row.outcome.unset].join();
      const group = groups.get(unset);
      if (group === undefined) groups.set(unset, [row]);
      else group.push(row);
    }
    for (const group of groups.values()) this.#insertAlike(model, group);
  }

  /** Rows that have values in the same columns; the others get their defaults. */
  #insertAlike(model: Model, rows: readonly Incoming[]): void {
    const unset = rows[0]?.outcome.unset;
    const columns = syncedColumns(model).filter(({ number }) => unset?.has(number) !== true);
    const givesKey = model.rowid !== null && !model.rowidIsRef;
    const names = [...(givesKey ? [model.rowid ?? ''] : []), ...columns.map((column) => column.name)];
    const head = `INSERT ${orAbort(model)}INTO ${quoteName(model.table)} (${names.map(quoteName).join(', ')})`;
    const fill = (at: number, into: unknown[]): void => {
      const row = rows[at] as Incoming;
      if (givesKey) into.push(this.keyOf(row.index));
      this.pushValues(row, columns, into);
    };
    const insertOne = (at: number): void => {
      const row = rows[at] as Incoming;
      const values: unknown[] = [];
      fill(at, values);
      try {
        const written = this.#library.sql.run(`${head} VALUES (${values.map(() => '?').join(', ')})`, ...values);
        if (written === 0) this.#refuseSkipped(row);
      } catch (error) {
        this.#refuse(row, error);
      }
    };
    if (model.maySkip) {
      for (let at = 0; at < rows.length; at += 1) insertOne(at);
      return;
    }
    insertMany(this.#library.sql, head, names.length, rows.length, fill, (first, size, error) => {
      if (size === 1) return this.#refuse(rows[first] as Incoming, error);
      requireConstraint(error);
      for (let at = first; at < first + size; at += 1) insertOne(at);
    });
  }

  #insertMappings(model: Model, rows: readonly Incoming[]): void {
    const natural = model.rowid === null;
    const keyColumns = natural ? model.key.map((_, i) => `, k${i + 1}`).join('') : '';
    const keys = natural ? model.key.map((name) => columnNamed(model, name)) : [];
    insertMany(
      this.#library.sql,
      `INSERT INTO ${rowsTable(model)} (key, uuid, birth_hlc, birth_run, hlc, run, lsn, cells, aside${keyColumns})`,
      9 + keys.length,
      rows.length,
      (at, into) => {
        const row = rows[at] as Incoming;
        into.push(
          natural ? null : this.keyOf(row.index),
          this.uuidOf(row.index),
          ...this.#stamps(row),
          this.#library.nextLsn(),
          formatCells(row.outcome.cells),
          row.outcome.aside,
        );
        this.pushValues(row, keys, into);
      },
    );
  }

  /** Writes a newer version over an older one, with its stamps. */
  update(row: Incoming): void {
    if (this.#overwrite(row)) this.#restamp(row);
  }

  /** The same for rows of one table, see `canOverwriteTogether`. */
  updateTogether(model: Model, rows: readonly Incoming[], changes: Changes): void {
    for (const row of overwrite(this.#library, model, rows, changes, this)) this.#overwrite(row);
    if (this.failures.size === 0) this.#restampTogether(model, rows);
  }

  /** @returns false when the table refuses it */
  #overwrite(row: Incoming): boolean {
    const { model } = row;
    const columns = takenColumns(row);
    if (columns.length === 0) return true;
    const { unset } = row.outcome;
    const values: unknown[] = [];
    this.pushValues(
      row,
      columns.filter(({ number }) => !unset.has(number)),
      values,
    );
    const value = (column: Column): string => (unset.has(column.number) ? column.fallback : '?');
    const set = columns.map((column) => `${quoteName(column.name)} = ${value(column)}`).join(', ');
    const text = `UPDATE ${orAbort(model)}${quoteName(model.table)} SET ${set} WHERE ${rowByKey(model)}`;
    try {
      if (this.#library.sql.run(text, ...values, this.keyOf(row.index)) > 0) return true;
      this.#refuseSkipped(row);
    } catch (error) {
      this.#refuse(row, error);
    }
    return false;
  }

  #restamp(row: Incoming): void {
    const { model } = row;
    const keys = model.rowid === null ? takenColumns(row).filter(({ name }) => model.key.includes(name)) : [];
    const keyValues: unknown[] = [];
    this.pushValues(row, keys, keyValues);
    const set = [...STAMPED, ...keys.map(({ name }) => `k${model.key.indexOf(name) + 1}`)];
    this.#library.sql.run(
      `UPDATE ${rowsTable(model)} SET ${set.map((name) => `${name} = ?`).join(', ')} WHERE key = ?`,
      ...this.#stamped(row),
      ...keyValues,
      this.keyOf(row.index),
    );
  }

  #restampTogether(model: Model, rows: readonly Incoming[]): void {
    const set = STAMPED.map((name, i) => `${name} = v.column${i + 2}`).join(', ');
    const fill = (at: number, into: unknown[]): void => {
      const row = rows[at] as Incoming;
      into.push(this.keyOf(row.index), ...this.#stamped(row));
    };
    inLists(STAMPED.length + 1, rows.length, fill, (list, params) => {
      const text = `UPDATE ${rowsTable(model)} AS m SET ${set} FROM (VALUES ${list}) v WHERE m.key = v.column1`;
      this.#library.sql.run(text, ...params);
    });
  }

  /** What the map table says of a version that is written over another one, with a new lsn: {@link STAMPED}. */
  #stamped(row: Incoming): unknown[] {
    const { cells, aside } = row.outcome;
    return [...this.#stamps(row), this.#library.nextLsn(), formatCells(cells), aside];
  }

  /** What some columns of an arriving row would hold here. */
  valuesOf(row: Incoming, columns: readonly string[]): unknown[] {
    const values: unknown[] = [];
    this.pushValues(
      row,
      columns.map((name) => columnNamed(row.model, name)),
      values,
    );
    return values;
  }

  /** Notes that a constraint refused a row; anything but a constraint ends the batch. */
  #refuse(row: Incoming, error: unknown): void {
    const code = requireConstraint(error);
    const isUnique =
      code === 'SQLITE_CONSTRAINT_UNIQUE' ||
      code === 'SQLITE_CONSTRAINT_PRIMARYKEY' ||
      code === 'SQLITE_CONSTRAINT_ROWID';
    this.failures.set(row.index, {
      reason: isUnique ? 'unique' : 'constraint',
      detail: isUnique
        ? `Another row here has its unique value: ${messageOf(error)}.`
        : `The table refuses it: ${messageOf(error)}.`,
    });
  }

  #refuseSkipped(row: Incoming): void {
    this.failures.set(row.index, {
      reason: 'constraint',
      detail: `A trigger of ${row.model.table} leaves it out here.`,
    });
  }

  /** Birth and change stamp, as the map table holds them. */
  #stamps(row: Incoming): number[] {
    const { index, outcome } = row;
    return [
      this.#batch.birthHlc[index] ?? 0,
      this.#found.runs[this.#batch.birthRun[index] ?? 0] ?? 0,
      outcome.hlc,
      outcome.run,
    ];
  }

  /** Adds what some columns of an arriving row would hold here. */
  pushValues(row: Incoming, columns: readonly Column[], into: unknown[]): void {
    // The same columns of the same table, row after row: they are looked for once.
    if (this.#last.table !== row.table || this.#last.columns !== columns)
      this.#last = { table: row.table, columns, data: columns.map(({ wire }) => columnData(row.table, wire)) };
    const { data: found } = this.#last;
    for (let i = 0; i < columns.length; i += 1) {
      const column = columns[i] as Column;
      if (column.policy !== undefined) {
        into.push(row.outcome.shown.get(column.number) ?? null);
        continue;
      }
      const data = found[i];
      if (data === undefined) into.push(null);
      else if (data.kind === 'value') into.push(bindable(data, row.position));
      else {
        const isById = this.#found.led.size + this.#found.older.size > 0 && isPlainId(row.model, column.name);
        const isAlong = this.#found.heirs.size > 0 && isLedAlong(row.model, column.name);
        into.push(this.targetOf({ refs: data.refs, isById, isLedAlong: isAlong }, row) ?? null);
      }
    }
  }
}
