/**
 * The registry's words: what a synced table is made of, as `schema.ts` reads it from the file and the configuration.
 * Types and small helpers only.
 */

import type { UniquePolicy } from './unique-policy.ts';

/** How a local column crosses the wire. */
export type ColumnRole =
  /** Its value, byte for byte. */
  | { readonly kind: 'value' }
  /** An integer id of a row of `table` (a model's name): it crosses as that row's UUID. */
  | { readonly kind: 'ref'; readonly table: string }
  /** The table's own INTEGER PRIMARY KEY, assigned anew on every device: it does not cross. */
  | { readonly kind: 'rowid' }
  /** Not synced, by configuration. */
  | { readonly kind: 'local' };

/** Column affinity by SQLite's rules (https://sqlite.org/datatype3.html#determination_of_column_affinity). */
export type Affinity = 'INTEGER' | 'TEXT' | 'BLOB' | 'REAL' | 'NUMERIC';

export interface Column {
  readonly name: string;
  /** Our number of the column, for good: bit `number` of a mark's mask. 0, 1, 2 … */
  readonly number: number;
  /** Its name on the wire: the first that it had, so that devices which have renamed it understand those which have not. */
  readonly wire: string;
  /**
   * The clock when the column came to the table: rows born up to then have no value of their own in it, unless a cell says
   * so. {@link ALWAYS_THERE} for those of the beginning, {@link NOT_HERE} while the table lacks it.
   */
  readonly since: number;
  readonly affinity: Affinity;
  readonly notNull: boolean;
  readonly hasDefault: boolean;
  /** SQL of its default. */
  readonly fallback: string;
  readonly role: ColumnRole;
  /** How concurrent writes come together, if not by the later one: a policy's or a function's name (`registers.ts`). */
  readonly policy?: string;
}

/** {@link Column.since} of a column that every row was born with. */
export const ALWAYS_THERE = -1;
/** {@link Column.since} of a column that other devices have and this one has not: later than every birth. */
export const NOT_HERE = Number.MAX_SAFE_INTEGER;

/** In place of the stamp of a value that a row does not have in a column: any real one is later. */
export const UNSET_HLC = 0;

export type DeleteAction = 'NO ACTION' | 'RESTRICT' | 'SET NULL' | 'SET DEFAULT' | 'CASCADE';

export interface ForeignKey {
  /** The same number wherever the same columns refer to the same columns, so that it may travel; see {@link foreignKeyNumber}. */
  readonly number: number;
  /** Referencing columns, of this model. */
  readonly columns: readonly string[];
  /** Their names on the wire. */
  readonly wires: readonly string[];
  /** Referenced model. */
  readonly table: string;
  /** Referenced columns, resolved (the primary key when the declaration names none). */
  readonly targets: readonly string[];
  readonly onDelete: DeleteAction;
  readonly onUpdate: DeleteAction;
  /**
   * True when it is one column that holds the INTEGER PRIMARY KEY of `table`, so that the column's `ref` role says it
   * all. Otherwise the target is found by joining on `targets`, and travels as a dependency.
   */
  readonly simple: boolean;
}

/** Where a row's UUID comes from. */
export type Identity =
  /** A fresh v7 UUID at birth. */
  | { readonly kind: 'random' }
  /** Derived from these columns (natural key, or declared identity): equal columns on two devices are one row. */
  | { readonly kind: 'derived'; readonly columns: readonly string[] };

/** A synced table. */
export interface Model {
  /** Small number of the table in this file; part of `flotilla_rows_<n>`. */
  readonly n: number;
  readonly table: string;
  /** Its name on the wire: the first that it had. */
  readonly wire: string;
  /** True when other devices have the table and this one has not: what arrives of it waits. Its map table is empty. */
  readonly isAbsent: boolean;
  readonly ownership: 'shared' | 'device';
  /** Of an owned table: the foreign key, of one column, to the row whose owner owns this one; null if its maker does. */
  readonly ownedBy: ForeignKey | null;
  readonly identity: Identity;
  /** The columns of the table. */
  readonly columns: readonly Column[];
  /** Columns that other devices have and this table lacks: their values are kept aside in the map table. */
  readonly absent: readonly Column[];
  /** Primary key columns in key order. */
  readonly key: readonly string[];
  /** Collation of each key column ('BINARY', 'NOCASE', …). */
  readonly keyCollations: readonly string[];
  /**
   * The INTEGER PRIMARY KEY column (alias of the rowid), or null. With it, the map table's `key` is its value; without,
   * the map table holds the key columns as `k1`, `k2`, ….
   */
  readonly rowid: string | null;
  /** True when the rowid column is itself a foreign key, so that its value is given by the target, not assigned here. */
  readonly rowidIsRef: boolean;
  readonly foreignKeys: readonly ForeignKey[];
  /** Those of them by which its rows form a tree (`trees.ts`). */
  readonly trees: readonly ForeignKey[];
  /** Unique indexes other than the primary key: the columns of each (null for an expression), and whether it is partial. */
  readonly uniques: ReadonlyArray<{
    readonly name: string;
    readonly columns: ReadonlyArray<string | null>;
    readonly partial: boolean;
    /** What becomes of rows that collide in it, where the configuration says so (`unique-policy.ts`). */
    readonly policy?: UniquePolicy;
  }>;
  /** A constraint of the table says ON CONFLICT: see {@link orAbort}. */
  readonly hasConflictClause: boolean;
  /** A trigger of the user's may skip rows with RAISE(IGNORE), so that a statement may write less than it was told. */
  readonly maySkip: boolean;
}

/** All synced tables, parents before children where there is no cycle; the internal `flotilla_members` and `flotilla_transfers` come first. */
export interface Registry {
  readonly models: readonly Model[];
  readonly byName: ReadonlyMap<string, Model>;
  /** Tables that other devices have and this one has not. */
  readonly absent: readonly Model[];
  /** All of both, by their names on the wire. */
  readonly byWire: ReadonlyMap<string, Model>;
  /** Tables that do not sync, with the reason. */
  readonly left: ReadonlyArray<{ readonly table: string; readonly reason: string }>;
  /** SHA-256 (hex) of the synced schema in canonical form: what two libraries must have in common. */
  readonly schemaHash: string;
  /** File with the functions that are named as policies, beside the library; null for none. */
  readonly mergeModule: string | null;
}

/** Quotes an identifier for SQL. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Name of a model's map table. */
export function rowsTable(model: Pick<Model, 'n'>): string {
  return `flotilla_rows_${model.n}`;
}

/** The columns that cross the wire, in order of their numbers. */
export function syncedColumns(model: Model): readonly Column[] {
  let synced = syncedOf.get(model);
  if (synced === undefined) {
    synced = model.columns.filter((column) => column.role.kind === 'value' || column.role.kind === 'ref');
    syncedOf.set(model, synced);
  }
  return synced;
}

const syncedOf = new WeakMap<Model, readonly Column[]>();

/** Tables that are here, and those that only others have. */
export function allModels(registry: Registry): Model[] {
  return [...registry.models, ...registry.absent];
}

/** All columns that a version of a row may bring: those of the table, and those kept aside. */
export function knownColumns(model: Model): Column[] {
  return [...syncedColumns(model), ...model.absent];
}

/** Columns that not every row has a value of its own in. */
export function lateColumns(model: Model): readonly Column[] {
  let late = lateOf.get(model);
  if (late === undefined) {
    late = knownColumns(model).filter((column) => column.since !== ALWAYS_THERE);
    lateOf.set(model, late);
  }
  return late;
}

const lateOf = new WeakMap<Model, readonly Column[]>();

/**
 * Number of a foreign key: 31 bits of a hash (FNV-1a) of what refers to what, by names on the wire. SQLite numbers foreign keys
 * from the last one declared, so that a new one would shift all others.
 */
export function foreignKeyNumber(columns: readonly string[], table: string, targets: readonly string[]): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(JSON.stringify([columns, table, targets]))) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 1;
}

/**
 * What our own INSERT and UPDATE of the user's rows say after the verb. ON CONFLICT in the schema is meant for the statements
 * of programs; for a row that arrives, IGNORE would lose it, REPLACE would evict another one unseen, and ROLLBACK would end
 * the transaction. It is not said where no constraint has such a clause, since it overrides the OR clauses inside the user's
 * triggers as well.
 */
export function orAbort(model: Model): string {
  return model.hasConflictClause ? 'OR ABORT ' : '';
}

/** SQL that joins alias `t` (the user's table) to alias `m` (its map table). */
export function mapJoin(model: Model, t = 't', m = 'm'): string {
  if (model.rowid !== null) return `${t}.${quoteName(model.rowid)} = ${m}.key`;
  return model.key.map((_, index) => `${keyColumn(model, index, t)} IS ${m}.k${index + 1}`).join(' AND ');
}

/**
 * SQL: the row `t` refers to the row `p`, as SQLite takes it: values are compared with the affinity and collation of the parent's
 * columns. The plus takes the affinity of the child's away, which could find more than one parent; without it, an index of the
 * child's is found.
 */
export function refersTo({ columns, targets }: Pick<ForeignKey, 'columns' | 'targets'>, p = 'p', t = 't'): string {
  return columns
    .map((name, i): [string, string] => [`${p}.${quoteName(targets[i] ?? '')}`, `${t}.${quoteName(name)}`])
    .map(([parent, child]) => `${parent} = ${child} AND ${parent} = +${child}`)
    .join(' AND ');
}

/**
 * SQL for one column of a natural key, to be compared as the index of the key does: the column itself may be declared with
 * another collation, which would find other rows, and none of them by the index.
 */
export function keyColumn(model: Model, index: number, alias: string): string {
  const name = quoteName(model.key[index] ?? '');
  return `${alias === '' ? '' : `${alias}.`}${name} COLLATE ${quoteName(model.keyCollations[index] ?? 'BINARY')}`;
}

/**
 * SQL condition that finds the row of a user's table by its key in the map table (`?`). By the columns of the key, never by
 * the rowid: a table may have none, or columns that take its names. (`IN` with several keys at once would be one statement
 * for all, but SQLite scans the table for row values with a collation.)
 */
export function rowByKey(model: Model): string {
  if (model.rowid !== null) return `${quoteName(model.rowid)} = ?`;
  const own = model.key.map((_, index) => keyColumn(model, index, '')).join(', ');
  const mapped = model.key.map((_, index) => `k${index + 1}`).join(', ');
  return `(${own}) = (SELECT ${mapped} FROM ${rowsTable(model)} WHERE key = ?)`;
}

/**
 * Whether a column refers to a row by its id and by nothing else: it is in no name of its own row, and in no foreign key of several columns,
 * which means a row that has that id in its name.
 */
export function isPlainId(model: Model, name: string): boolean {
  if (isInName(model, name)) return false;
  return model.foreignKeys.every(({ simple, columns }) => simple || !columns.includes(name));
}

/** Whether a column holds an id only as a part of foreign keys of several columns, and is in no name of its own row. */
export function isPartialId(model: Model, name: string): boolean {
  if (isInName(model, name) || isPlainId(model, name)) return false;
  return !model.foreignKeys.some(({ simple, columns }) => simple && columns.includes(name));
}

/** Whether the row that such an id means follows to its heir without that anybody writes it: see `meanHeirs`. */
export function isLedAlong(model: Model, name: string): boolean {
  return model.ownership === 'device' && isPartialId(model, name);
}

function isInName({ key, rowid, identity }: Model, name: string): boolean {
  return name === rowid || key.includes(name) || (identity.kind === 'derived' && identity.columns.includes(name));
}
