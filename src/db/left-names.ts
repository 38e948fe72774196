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
import { columnNamed } from './incoming.ts';
import { isKilled } from './killed.ts';
import type { Library } from './library.ts';
import type { Found, KnownRow, KnownTombstone } from './lookup.ts';
import type { ForeignKey, Model } from './model.ts';
import { isLedAlong, isPlainId, orAbort, quoteName, rowByKey } from './model.ts';
import type { RowWriter } from './rows.ts';
import { unlessRefused } from './sql.ts';
import type { Key } from './sql.ts';

/**
 * Lets references of a batch that mean an earlier birth of a row lead to its heir, or wait for it. Those in a name, or by values, do not: what
 * is named by it has its name of that, and values mean the row that has them now.
 */
export function meanHeirs(library: Library, batch: Batch, found: Found): void {
  findHeirsOfParts(library, batch, found);
  const earlier = found.rows.flatMap((row, index) => {
    const tombstone = found.tombstones[index];
    if (row === undefined || tombstone === undefined) return [];
    const model = library.arriving(batch.names[batch.uuidTable[index] ?? 0] ?? '');
    const birth = {
      birthHlc: batch.birthHlc[index] ?? 0,
      birthRun: found.runs[batch.birthRun[index] ?? 0] ?? 0,
    };
    // The other row may have to wait: the earlier one stands in its place so long.
    const waiting = found.pending[index];
    const other = waiting === undefined || waiting.isDelete ? row : waiting;
    const isEarlier =
      isKilled(library, model, tombstone, birth, null) && !isKilled(library, model, tombstone, other, null);
    return isEarlier ? [{ index, model }] : [];
  });
  if (earlier.length === 0) return;
  const dying = new Set(batch.tombstones.flatMap(({ rows }) => rows));
  const uuidAt = (index: number): Buffer => Buffer.from(batch.uuids.subarray(index * 16, index * 16 + 16));
  for (const { index, model } of earlier) {
    const uuid = uuidAt(index);
    const isAlone = batch.birthHlc.every((_, other) => other === index || !uuidAt(other).equals(uuid));
    if (!isAlone || dying.has(index)) continue;
    const heir = livingHeir(library, model, uuid);
    const name = heir === null ? nameOfHeir(library, uuid) : uuid;
    if (name !== null) found.led.set(index, { key: heir?.key, uuid: name });
  }
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
        const heir = livingHeir(
          library,
          library.model(own.role.table),
          Buffer.from(batch.uuids.subarray(index * 16, index * 16 + 16)),
        );
        if (heir !== null) found.heirs.set(index, heir.key);
      }
    }
  }
}

/** A row that is written over by another one of its name, now or once that need not wait any more, with what refers to it. */
interface Left {
  readonly model: Model;
  readonly uuid: Uint8Array;
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
    const uuid = this.#rows.uuidOf(index);
    const alias = library.sql.value('SELECT alias FROM flotilla_tombstones WHERE uuid = ?', uuid);
    if (!(alias instanceof Uint8Array) || uuid.equals(alias)) return;
    const referrers = referrersOf(library, model, [here.key]).filter(
      // One by values says no birth: it is what has these values now.
      ({ model: child, foreignKey }) => foreignKey.simple && foreignKey.columns.every((name) => isPlainId(child, name)),
    );
    if (referrers.length > 0) this.#left.push({ model, uuid, referrers });
  }

  /** Where the heirs are not here. @param standing - the rows that are about to be written */
  heirless(standing: readonly Incoming[]): Heirless[] {
    return this.#left.flatMap(({ model, uuid, referrers }) => {
      const name = livingHeir(this.#library, model, uuid) === null ? nameOfHeir(this.#library, uuid) : null;
      const isComing = standing.some(({ index }) => name !== null && this.#rows.uuidOf(index).equals(name));
      return name === null || isComing ? [] : [{ name, referrers }];
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
