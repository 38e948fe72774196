/**
 * Who owns an owned row, by what is here: the last transfer of its root, or whoever made that. The root is where the foreign
 * keys of `ownedBy` lead, the row itself where it has none or holds NULL there. Once in SQL, for the guards of capture, which
 * must work whoever writes; once for stamping and settling, with the title under which this device writes.
 */
import { TRANSFERS_TABLE, INTERNAL_TABLES } from './choose.ts';
import type { Cells, LocalStamp, Order } from './cells.ts';
import type { Library } from './library.ts';
import type { Model, Registry } from './model.ts';
import { mapJoin, quoteName, rowsTable } from './model.ts';
import type { Key } from './sql.ts';
import { jsonKeys } from './sql.ts';
import type { Tenure, Title } from './tenure.ts';
import { compareTitles, nextTenure, tenureCells, tenureOf } from './tenure.ts';
import type { SqlValue } from '../protocol/types.ts';

const TRANSFERS = rowsTable({ n: INTERNAL_TABLES.get(TRANSFERS_TABLE) ?? 0 });

/** SQL: a row that is here belongs to another device. @param row - `OLD`, `NEW` or the alias of the user's table */
export function foreignCondition(model: Model, row: string, registry: Registry, depth = 0): string {
  // The unary plus keeps the column's affinity out of the comparison, which would keep the map's index out of it.
  const place =
    model.rowid === null
      ? model.key.map((column, position) => `m.k${position + 1} IS +${row}.${quoteName(column)}`).join(' AND ')
      : `m.key = ${row}.${quoteName(model.rowid)}`;
  const own = foreignRoot(model, place);
  if (model.ownedBy === null) return own;
  return `CASE WHEN ${row}.${quoteName(ownerColumn(model))} IS NULL THEN ${own} ELSE ${foreignOwner(model, row, registry, depth)} END`;
}

/** SQL: the row to which a row of `model` belongs by its `ownedBy` is another device's. */
export function foreignOwner(model: Model, row: string, registry: Registry, depth = 0): string {
  const parent = registry.byName.get(model.ownedBy?.table ?? '') as Model;
  const target = model.ownedBy?.targets[0] ?? '';
  const value = `${row}.${quoteName(ownerColumn(model))}`;
  // The map alone is enough, and still has a row that a cascade has just removed.
  if (parent.ownedBy === null && target === parent.rowid) return foreignRoot(parent, `m.key = ${value}`);
  const alias = `p${depth}`;
  return (
    `EXISTS (SELECT 1 FROM ${quoteName(parent.table)} ${alias} WHERE ${alias}.${quoteName(target)} = ${value} ` +
    `AND ${foreignCondition(parent, alias, registry, depth + 1)})`
  );
}

/** A row without an identity was made here a moment ago; a run of which no device is known was not minted here. */
function foreignRoot(model: Model, place: string): string {
  return (
    `EXISTS (SELECT 1 FROM ${rowsTable(model)} m LEFT JOIN flotilla_runs r ON r.run = m.birth_run WHERE ${place} ` +
    'AND ifnull((SELECT x.device FROM flotilla_transfers x ' +
    `CROSS JOIN ${TRANSFERS} xm ON xm.key = x.id CROSS JOIN flotilla_runs xr ON xr.run = xm.birth_run ` +
    'WHERE x.root = m.uuid AND (xm.birth_hlc, xr.id) > (m.birth_hlc, r.id) ' +
    'ORDER BY xm.birth_hlc DESC, xr.id DESC LIMIT 1), r.device) IS NOT (SELECT device FROM flotilla_self))'
  );
}

/** The column of `ownedBy`. */
export function ownerColumn(model: Model): string {
  return model.ownedBy?.columns[0] ?? '';
}

/** A row that belongs to nobody but its maker, and to whom it has gone since. */
export interface Root {
  readonly uuid: Uint8Array;
  readonly birthHlc: number;
  readonly birthRun: number;
}

export interface Owner {
  readonly root: Root;
  readonly device: string | null;
  /** The transfer by which it got the root; null if it made it. */
  readonly transfer: LocalStamp | null;
}

/** A transfer of ownership, as it is known here. */
interface Transfer extends LocalStamp {
  readonly root: Uint8Array;
  readonly device: string;
}

/** The transfer with this stamp; null if none has been heard of. */
export function transferAt(library: Library, { hlc, run }: LocalStamp): Transfer | null {
  const row = library.sql.rows(
    `SELECT x.root, x.device FROM ${TRANSFERS} m CROSS JOIN flotilla_transfers x ON x.id = m.key WHERE m.birth_hlc = ? AND m.birth_run = ?`,
    hlc,
    run,
  )[0];
  return row === undefined ? null : { hlc, run, root: row[0] as Uint8Array, device: String(row[1]) };
}

/** The owner of a root: the last transfer of it counts, if it came after the birth of the row that is here. */
export function ownerOfRoot(library: Library, root: Root): Owner {
  let transfer: Transfer | null = null;
  let least: LocalStamp = { hlc: root.birthHlc, run: root.birthRun };
  for (const [hlc, run, device] of library.sql.rows(
    `SELECT m.birth_hlc, m.birth_run, x.device FROM flotilla_transfers x CROSS JOIN ${TRANSFERS} m ON m.key = x.id WHERE x.root = ?`,
    Buffer.from(root.uuid),
  )) {
    const stamp = { hlc: Number(hlc), run: Number(run) };
    if (library.compare(stamp.hlc, stamp.run, least.hlc, least.run) <= 0) continue;
    transfer = { ...stamp, root: root.uuid, device: String(device) };
    least = stamp;
  }
  return { root, device: transfer?.device ?? library.runDevice(root.birthRun), transfer };
}

/**
 * What the `ownedBy` column of a row held before the marks that are being stamped, where they say that it may hold something
 * else now; undefined where they say nothing of the row.
 */
export type OwnerBefore = (model: Model, key: SqlValue) => SqlValue | undefined;

/** Looks owners up, and remembers them: made for one slice of stamping, or one decision. */
export class Owners {
  readonly #library: Library;
  readonly #before: OwnerBefore;
  readonly #owners = new Map<string, Owner | null>();
  /** Values of `ownedBy` columns that were read together. */
  readonly #values = new Map<string, SqlValue>();

  constructor(library: Library, before: OwnerBefore = () => undefined) {
    this.#library = library;
    this.#before = before;
  }

  /** Reads what {@link of} needs of many rows at once. */
  prepare(model: Model, keys: readonly Key[]): void {
    if (model.ownedBy === null || keys.length === 0) return;
    for (const [key, value] of this.#library.sql.rows(
      `SELECT m.key, t.${quoteName(ownerColumn(model))} FROM json_each(?) j
       CROSS JOIN ${rowsTable(model)} m ON m.key = j.value CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)}`,
      jsonKeys(keys),
    ))
      this.#values.set(placeOf(model, key ?? null), value ?? null);
  }

  /**
   * The owner of a row that has an identity here; null if its path leads to a row that is not here.
   * @param key - its key in the map table
   */
  of(model: Model, key: Key, before?: SqlValue): Owner | null {
    if (model.ownedBy === null) return this.#rootAt(model, key);
    const value = before ?? this.#before(model, key) ?? this.#valueOf(model, key);
    if (value === undefined) return null;
    return isNull(value) ? this.#rootAt(model, key) : this.ofTarget(model, value);
  }

  /** The owner of what the value of an `ownedBy` column refers to. */
  ofTarget(model: Model, value: SqlValue): Owner | null {
    const parent = this.#library.model(model.ownedBy?.table ?? '');
    const place = `${model.n} ${typeof value} ${String(value)}`;
    let owner = this.#owners.get(place);
    if (owner === undefined) {
      const key = this.#keyOf(parent, model.ownedBy?.targets[0] ?? '', value);
      owner = key === undefined ? null : this.of(parent, key);
      this.#owners.set(place, owner);
    }
    return owner;
  }

  #keyOf(parent: Model, target: string, value: SqlValue): Key | undefined {
    if (target === parent.rowid) return value as Key;
    const key = this.#library.sql.value(
      `SELECT m.key FROM ${quoteName(parent.table)} t CROSS JOIN ${rowsTable(parent)} m ON ${mapJoin(parent)} WHERE t.${quoteName(target)} = ?`,
      value,
    );
    return key as Key | undefined;
  }

  #valueOf(model: Model, key: Key): SqlValue | undefined {
    const place = placeOf(model, key);
    if (!this.#values.has(place)) this.prepare(model, [key]);
    return this.#values.get(place);
  }

  #rootAt(model: Model, key: Key): Owner | null {
    const row = this.#library.sql.rows(
      `SELECT uuid, birth_hlc, birth_run FROM ${rowsTable(model)} WHERE key = ?`,
      key,
    )[0];
    if (row === undefined) return null;
    const [uuid, birthHlc, birthRun] = row;
    return ownerOfRoot(this.#library, {
      uuid: uuid as Uint8Array,
      birthHlc: Number(birthHlc),
      birthRun: Number(birthRun),
    });
  }
}

function placeOf(model: Model, key: SqlValue): string {
  return `${model.n}:${String(key)}`;
}

/** Marks say NULL by an empty blob, since NULL in them says that they know nothing. */
export function isNull(value: SqlValue): boolean {
  return value === null || (value instanceof Uint8Array && value.length === 0);
}

/** A version as what is written over it has to know it. */
export interface Written extends LocalStamp {
  readonly birthRun: number;
  readonly cells: Cells;
}

/** The title under which this device writes, or makes, a row of this owner. @param birthRun - of the row; null while it is being born */
function titleOf(library: Library, owner: Owner, birthRun: number | null): Title | null {
  if (owner.transfer !== null) return { hlc: owner.transfer.hlc, run: owner.transfer.run, isTransfer: true };
  if (birthRun === null || library.runDevice(birthRun) === owner.device) return null;
  return { hlc: owner.root.birthHlc, run: owner.root.birthRun, isTransfer: false };
}

/** The cells of what this device writes over a version of a row that it owns. */
export function cellsOver(library: Library, before: Written, owner: Owner): Cells {
  const order: Order = (hlcA, runA, hlcB, runB) => library.compare(hlcA, runA, hlcB, runB);
  const deviceOf = (run: number): string | null => library.runDevice(run);
  const tenure = tenureOf(before.cells);
  const title = titleOf(library, owner, before.birthRun);
  // Nearly always the title stays what it was: then the root need not be looked for.
  const isSameRoot =
    compareTitles(order, title, tenure.title) !== 0 && isUnder(library, owner.root, before.birthRun, tenure);
  const next = nextTenure(order, { ...before, tenure }, title, isSameRoot, library.run, deviceOf);
  return tenureCells(next, library.run);
}

/** The cells of a row that this device makes under an owner that it is itself. */
export function cellsOfBirth(library: Library, owner: Owner): Cells {
  return tenureCells({ title: titleOf(library, owner, null), epoch: null, seen: [] }, library.run);
}

/** Whether a version was written as one of this root. */
function isUnder(library: Library, root: Root, birthRun: number, { title }: Tenure): boolean {
  if (title === null) return library.runDevice(birthRun) === library.runDevice(root.birthRun);
  if (!title.isTransfer) return title.hlc === root.birthHlc && title.run === root.birthRun;
  const transfer = transferAt(library, title);
  return transfer !== null && Buffer.compare(transfer.root, root.uuid) === 0;
}

/**
 * Whether a version may be taken that `run` wrote: by its title alone, and never by who owns the row here and now, which would be
 * another answer on every device. `unknown`: the transfer that it names has not arrived.
 */
export function standingOf(
  library: Library,
  birthRun: number,
  run: number,
  { title }: Tenure,
): 'valid' | 'invalid' | 'unknown' {
  const writer = library.runDevice(run);
  if (writer === null) return 'invalid';
  const transfer = title?.isTransfer === true ? transferAt(library, title) : null;
  if (title?.isTransfer === true && transfer === null) return 'unknown';
  const owner = transfer === null ? library.runDevice(title?.run ?? birthRun) : transfer.device;
  return owner === writer ? 'valid' : 'invalid';
}
