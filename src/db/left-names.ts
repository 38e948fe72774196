/**
 * Names that a row has left and another one has taken, where the name is the identity: one UUID, of which the earlier birth goes on
 * under another name and the later one is another row. A reference says which birth it means; what refers to the earlier one means its
 * heir, and means the same row as before, so nothing of that is stamped.
 */
import type { Batch } from '../protocol/types.ts';
import { referrersOf, stillHere } from './deletes.ts';
import type { Referrer } from './deletes.ts';
import { livingHeir, nameOfHeir } from './heirs.ts';
import { hideRows } from './hide.ts';
import type { Incoming } from './incoming.ts';
import { cellsOf, columnNamed } from './incoming.ts';
import { isKilled } from './killed.ts';
import type { Library } from './library.ts';
import { birthOf } from './lookup.ts';
import type { Found, KnownRow, KnownTombstone, Led } from './lookup.ts';
import type { ForeignKey, Model } from './model.ts';
import { isLedAlong, isPlainId, orAbort, quoteName, rowByKey } from './model.ts';
import { hasWaitingVersion } from './pending.ts';
import type { RowWriter } from './rows.ts';
import { unlessRefused } from './sql.ts';
import type { Key } from './sql.ts';

/**
 * Lets references of a batch that mean an earlier birth of a row lead to its heir, or wait for it. Those in a name, or by values, do not: what
 * is named by it has its name of that, and values mean the row that has them now.
 */
export function meanHeirs(library: Library, batch: Batch, found: Found): void {
  findHeirsOfParts(library, batch, found);
  const renamed = found.tombstones.flatMap((tombstone, index) => {
    if (tombstone === undefined) return [];
    const model = library.arriving(batch.names[batch.uuidTable[index] ?? 0] ?? '');
    return [
      { index, model, tombstone, isDead: isKilled(library, model, tombstone, birthOf(batch, found, index), null) },
    ];
  });
  findOlderReferences(
    library,
    batch,
    found,
    renamed.filter(({ isDead }) => !isDead),
  );
  const earlier = renamed.filter(({ index, model, tombstone, isDead }) => {
    const row = found.rows[index];
    if (!isDead || row === undefined) return false;
    // The other row may have to wait: the earlier one stands in its place so long.
    const waiting = found.pending[index];
    return !isKilled(library, model, tombstone, waiting === undefined || waiting.isDelete ? row : waiting, null);
  });
  if (earlier.length === 0) return;
  const dying = new Set(batch.tombstones.flatMap(({ rows }) => rows));
  for (const { index, model } of earlier) {
    const uuid = uuidAt(batch, index);
    const isAlone = batch.birthHlc.every((_, other) => other === index || !uuidAt(batch, other).equals(uuid));
    if (!isAlone || dying.has(index)) continue;
    const heir = ledTo(library, model, uuid);
    if (heir !== undefined) found.led.set(index, heir);
  }
}

/** Whether a row has had another name before: what refers to it may be older than this one. */
function isHeir(library: Library, uuid: Uint8Array): boolean {
  return library.sql.value('SELECT 1 FROM flotilla_tombstones WHERE alias = ?', uuid) !== undefined;
}

/** Whether the heir of a row was deleted as well. */
function isGone(library: Library, uuid: Uint8Array): boolean {
  const isDead = library.sql.value('SELECT 1 FROM flotilla_tombstones WHERE uuid = ?', uuid) !== undefined;
  return isDead && !hasWaitingVersion(library, uuid);
}

function uuidAt(batch: Batch, index: number): Buffer {
  return Buffer.from(batch.uuids.subarray(index * 16, index * 16 + 16));
}

/** Where a reference to a row leads that has another name now; undefined if it has none. */
function ledTo(library: Library, model: Model, uuid: Buffer): Led | undefined {
  const heir = livingHeir(library, model, uuid);
  const name = heir === null ? nameOfHeir(library, uuid) : uuid;
  return name === null ? undefined : { key: heir?.key, uuid: name };
}

/**
 * An id that is only a part of foreign keys is that of a row which others have in their values: these follow it to its heir, and whoever refers
 * to them with it. In shared rows that is written (`orphans.ts`); those of other devices mean the same row without that.
 */
function findHeirsOfParts(library: Library, batch: Batch, found: Found): void {
  for (const table of batch.tables) {
    const model = library.arriving(table.table);
    for (const column of table.columns) {
      const own = column.kind === 'ref' ? model.columns.find(({ wire }) => wire === column.name) : undefined;
      if (column.kind !== 'ref' || own?.role.kind !== 'ref' || !isLedAlong(model, own.name)) continue;
      for (const index of new Set(column.refs)) {
        const tombstone = found.tombstones[index];
        if (tombstone === undefined || found.rows[index] !== undefined || found.pending[index] !== undefined) continue;
        const heir = livingHeir(library, library.model(own.role.table), uuidAt(batch, index));
        if (heir !== null) found.heirs.set(index, heir.key);
      }
    }
  }
}

/**
 * A row was made apart under a name that another one has left, and whoever sends what refers to that one has only the later of the two: what is
 * older than its target does not mean it.
 * @param living - what the batch tells of rows that have been born since their names were left
 */
function findOlderReferences(
  library: Library,
  batch: Batch,
  found: Found,
  living: readonly { readonly index: number; readonly model: Model }[],
): void {
  const heirs = new Map<number, Led>();
  for (const { index, model } of living) {
    const uuid = uuidAt(batch, index);
    const heir = ledTo(library, model, uuid);
    if (heir === undefined || (heir.key === undefined && isGone(library, heir.uuid)) || isHeir(library, uuid)) continue;
    const isComingHeir = batch.tombstones.some(({ alias }) =>
      alias.some((other) => other >= 0 && uuidAt(batch, other).equals(uuid)),
    );
    if (!isComingHeir) heirs.set(index, heir);
  }
  if (heirs.size === 0) return;
  for (const table of batch.tables) {
    const model = library.arriving(table.table);
    for (const column of table.columns) {
      const own = column.kind === 'ref' ? model.columns.find(({ wire }) => wire === column.name) : undefined;
      if (column.kind !== 'ref' || own === undefined || !isPlainId(model, own.name)) continue;
      const led = new Map<number, Led>();
      column.refs.forEach((target, position) => {
        const heir = heirs.get(target);
        if (heir === undefined) return;
        const row = { hlc: table.hlc[position] ?? 0, run: found.runs[table.run[position] ?? 0] ?? 0 };
        const { hlc, run } = cellsOf(model, table, position, found.runs).get(own.number) ?? row;
        const { birthHlc, birthRun } = birthOf(batch, found, target);
        if (library.compare(hlc, run, birthHlc, birthRun) < 0) led.set(position, heir);
      });
      if (led.size > 0) found.older.set(column.refs, led);
    }
  }
}

/** A row that is written over by another one of its name, now or once that need not wait any more, with what refers to it. */
interface Left {
  readonly model: Model;
  readonly uuid: Uint8Array;
  /** Where the heir has been deleted the referrers belong to the other row: they are not known to mean the heir by anything but their age. */
  readonly isByAge: boolean;
  readonly referrers: readonly Referrer[];
}

/** What refers to a row that is written over, and is not here under its last name. */
export interface Heirless {
  readonly name: Uint8Array;
  readonly referrers: readonly Referrer[];
}

/** Lets rows wait for the heirs of what they refer to. What cannot be taken out of the tables stays. */
export function awaitHeirs(library: Library, heirless: readonly Heirless[]): void {
  for (const { name, referrers } of heirless)
    for (const row of stillHere(library, referrers)) hideRows(library, [row], { ...HEIRLESS, targets: [name] });
}

const HEIRLESS = {
  reason: 'missing-target',
  detail: 'It refers to a row that has another name now, and is not here under that.',
  isOvertaken: true,
} as const;

/** For one merge: what refers to rows that are written over by others which have taken their names. */
export class LeftNames {
  readonly #library: Library;
  readonly #rows: RowWriter;
  readonly #left: Left[] = [];

  constructor(library: Library, rows: RowWriter) {
    this.#library = library;
    this.#rows = rows;
  }

  /**
   * Call it before anything is written, and once for each arriving row, whether or not it has to wait: later on nobody can tell who refers
   * to which of the two.
   * @param here - the row that an arriving one is written over
   */
  before({ model, index }: Incoming, here: KnownRow | undefined, tombstone: KnownTombstone | undefined): void {
    const library = this.#library;
    if (here === undefined || tombstone === undefined || !isKilled(library, model, tombstone, here, null)) return;
    const referrers = this.#referrersOf(model, index, here);
    if (referrers.length > 0) this.#left.push({ model, uuid: this.#rows.uuidOf(index), isByAge: false, referrers });
  }

  /**
   * It is heard only now that a name was left, and a row that was made apart under it has been born since: what is older than that one means the
   * other.
   */
  beside(model: Model, index: number, here: KnownRow): void {
    if (model.ownership === 'device') return;
    const referrers = this.#referrersOf(model, index, here).filter(({ model: child, foreignKey, cells, ...row }) => {
      const { hlc, run } = cells.get(columnNamed(child, foreignKey.columns[0] ?? '').number) ?? row;
      return this.#library.compare(hlc, run, here.birthHlc, here.birthRun) < 0;
    });
    if (referrers.length > 0 && !isHeir(this.#library, this.#rows.uuidOf(index)))
      this.#left.push({ model, uuid: this.#rows.uuidOf(index), isByAge: true, referrers });
  }

  /** Who refers by an id to what is here, if that has left its name. One by values says no birth: it is what has these values now. */
  #referrersOf(model: Model, index: number, here: KnownRow): Referrer[] {
    const uuid = this.#rows.uuidOf(index);
    const alias = this.#library.sql.value('SELECT alias FROM flotilla_tombstones WHERE uuid = ?', uuid);
    if (!(alias instanceof Uint8Array) || uuid.equals(alias)) return [];
    return referrersOf(this.#library, model, [here.key]).filter(
      ({ model: child, foreignKey }) => foreignKey.simple && foreignKey.columns.every((name) => isPlainId(child, name)),
    );
  }

  /** Where the heirs are not here. @param standing - the rows that are about to be written */
  heirless(standing: readonly Incoming[]): Heirless[] {
    return this.#left.flatMap(({ model, uuid, isByAge, referrers }) => {
      const name = livingHeir(this.#library, model, uuid) === null ? nameOfHeir(this.#library, uuid) : null;
      const isComing = standing.some(({ index }) => name !== null && this.#rows.uuidOf(index).equals(name));
      return name === null || isComing || (isByAge && isGone(this.#library, name)) ? [] : [{ name, referrers }];
    });
  }

  /** Leads them to the heirs, which stand by now. @param written - the rows that have just been written, and say what they refer to */
  follow(written: readonly Incoming[]): void {
    for (const { model, uuid, referrers } of this.#left) {
      const heir = livingHeir(this.#library, model, uuid);
      if (heir === null) continue;
      for (const { model: child, foreignKey, key } of referrers)
        if (!written.some((row) => row.model === child && this.#says(row, foreignKey, key)))
          lead(this.#library, child, foreignKey, key, model, heir.key);
    }
  }

  #says({ model, index, outcome: { taken } }: Incoming, { columns }: ForeignKey, key: Key): boolean {
    if (this.#rows.keyOf(index) !== key) return false;
    return taken === null || columns.some((name) => taken.has(columnNamed(model, name).number));
  }
}

/** Lets a reference lead to another row. Answers false where a constraint forbids it. */
export function lead(
  library: Library,
  child: Model,
  { columns, targets }: ForeignKey,
  key: Key,
  parent: Model,
  to: Key,
): boolean {
  const row = `(SELECT ${targets.map(quoteName).join(', ')} FROM ${quoteName(parent.table)} WHERE ${rowByKey(parent)})`;
  return unlessRefused(() =>
    library.sql.run(
      `UPDATE ${orAbort(child)}${quoteName(child.table)} SET (${columns.map(quoteName).join(', ')}) = ${row} WHERE ${rowByKey(child)}`,
      to,
      key,
    ),
  );
}
