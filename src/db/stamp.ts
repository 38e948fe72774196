/**
 * Stamping: turns the marks that the triggers left into identities, stamps and lsns. It must be done before anything is
 * read or merged, else a fresh local write would wear an old stamp. Marks are replayed in order: delete then insert is a
 * new row, even under the same id; a changed key only moves the mapping.
 */
import {
  OP_DELETE,
  OP_EVICT,
  OP_FOLLOW,
  OP_INSERT,
  OP_STANDS,
  OP_UPDATE,
  decodeKey,
  encodedKey,
  saysWhatStands,
} from './capture.ts';
import { forgetAhead, standingAfter } from './ahead.ts';
import { bornAnew, formatAside, parseAside } from './aside.ts';
import { askFor } from './asked.ts';
import { bear, writeTombstone } from './births.ts';
import type { Cells, LocalStamp } from './cells.ts';
import { formatCells, parseCells, writeColumns } from './cells.ts';
import type { MarkKey } from './identity.ts';
import { deriveUuids, foldedKey, isNamedByItself, movedIn } from './identity.ts';
import { Follows, forgetFollowed } from './follows.ts';
import { lastVersions } from './graves.ts';
import { nameHeir } from './heirs.ts';
import type { Library } from './library.ts';
import { hasLooseReferrers } from './loose.ts';
import { OP_NONE, carriesKey, exists, inherit, isDerived, isNamed, loadMap, named } from './marked.ts';
import type { Model } from './model.ts';
import { NOT_HERE, lateColumns, mapJoin, quoteName, rowsTable, syncedColumns } from './model.ts';
import { ALL_COLUMNS, identityMayChange, maskBit, withWholeReferences } from './masks.ts';
import { hasPending } from './pending.ts';
import { amendWaiting } from './overtake.ts';
import { cellsOfBirth, cellsOver } from './owners.ts';
import { noteLost, overtaken, ownersOfMarks, recordOvertakes, revert, titleBirths } from './owned-marks.ts';
import type { Base } from './owned-marks.ts';
import { cellsAtBirth, writeRegisters } from './register-writes.ts';
import type { Touched } from './remark.ts';
import { OP_REBORN, areReferredTo, hasDangling, noteDangling, takeLeftBehind, touchReferrers } from './remark.ts';
import type { Slot } from './slot.ts';
import { isWritten, leftKeys, newSlot } from './slot.ts';
import { BEFORE_ALL_KEYS } from './sql.ts';
import type { Key, RawRow } from './sql.ts';
import type { SqlValue } from '../protocol/types.ts';

/** Marks a transaction of its own takes: about 20 ms of work, so that other writers get in between. */
export const STAMP_SLICE = 5000;

/** Marks that are read beyond a slice that ends in the middle of a statement, until that has ended. */
const MORE_MARKS = 50;

/** Stamps about `limit` marks in the running transaction, fewer only if there are no more; returns how many it took. */
export function stampMarks(library: Library, limit: number): number {
  const marks = readMarks(library, limit);
  const last = marks.at(-1);
  if (last === undefined) {
    forgetFollowed(library);
    forgetAhead(library);
    return 0;
  }
  new Replay(library).run(marks);
  library.reached('stamp: replayed');
  library.sql.run('DELETE FROM flotilla_marks WHERE n <= ?', last[0]);
  return marks.length;
}

/** The first marks, at least `limit` if there are so many. That a row is there when another takes its key goes with the mark of that. */
function readMarks(library: Library, limit: number): RawRow[] {
  const text = 'SELECT n, tbl, op, old, new, at, mask, owner FROM flotilla_marks WHERE n > ? ORDER BY n LIMIT ?';
  const marks = library.sql.rows(text, 0, limit);
  for (let more = marks; more.length > 0 && marks.length >= limit && isCutShort(marks); marks.push(...more))
    more = library.sql.rows(text, marks.at(-1)?.[0], MORE_MARKS);
  return marks;
}

/** The last that is said of some table is what stands there as a row is about to be inserted. */
function isCutShort(marks: readonly RawRow[]): boolean {
  const seen = new Set<SqlValue>();
  return marks.toReversed().some(([, table = null, op]) => {
    const isLast = !seen.has(table);
    seen.add(table);
    return isLast && op === OP_STANDS;
  });
}

export function hasMarks({ sql }: Library): boolean {
  return sql.value('SELECT 1 FROM flotilla_marks LIMIT 1') !== undefined;
}

/** Stamps all marks in the running transaction. */
export function stampAll(library: Library): number {
  let taken = 0;
  for (let slice = stampMarks(library, STAMP_SLICE); slice > 0; slice = stampMarks(library, STAMP_SLICE))
    taken += slice;
  return taken;
}

/** Runs SQL as any program would, while a merge has capture suspended, and stamps what it did. */
export function asWriter(library: Library, work: () => void): void {
  library.sql.run('UPDATE flotilla_capture SET suspended = 0 WHERE id = 1');
  work();
  library.sql.run('UPDATE flotilla_capture SET suspended = 1 WHERE id = 1');
  stampAll(library);
}

/** Gives identities to the rows of a table that have none: data from before sync. Returns how many. */
export function stampExisting(library: Library, model: Model, at: number): number {
  let stamped = 0;
  for (const keys of unmappedKeys(library, model)) {
    bear(
      library,
      model,
      keys.map((key) => ({ key, at })),
    );
    stamped += keys.length;
  }
  return stamped;
}

/**
 * Keys of the rows without identity, in slices. The table is walked once: a walk for each slice would pass all rows that have one by
 * then, which is most of the time of a large table. So a slice begins where the last one ended, or all keys are read at once where SQLite
 * would not go on from a key (several columns, WITHOUT ROWID), and where rows are named by each other.
 */
function* unmappedKeys(library: Library, model: Model): Generator<readonly MarkKey[]> {
  const t = quoteName(model.table);
  const isUnmapped = `NOT EXISTS (SELECT 1 FROM ${rowsTable(model)} m WHERE ${mapJoin(model)})`;
  if (model.rowid !== null) {
    const rowid = `t.${quoteName(model.rowid)}`;
    const limit = isNamedByItself(model) ? -1 : STAMP_SLICE;
    const sql = `SELECT ${rowid} FROM ${t} t WHERE ${rowid} > ? AND ${isUnmapped} ORDER BY ${rowid} LIMIT ?`;
    for (let from: Key | undefined = BEFORE_ALL_KEYS; from !== undefined;) {
      const keys: Key[] = library.sql.rows(sql, from, limit).map(([key]) => key as Key);
      if (keys.length > 0) yield keys;
      from = keys.at(-1);
    }
    return;
  }
  const isWhole = model.key.map((column) => `t.${quoteName(column)} IS NOT NULL`).join(' AND ');
  const keys = library.sql
    .rows(`SELECT ${encodedKey(model, 't')} FROM ${t} t WHERE ${isWhole} AND ${isUnmapped}`)
    .map(([key]) => String(key));
  const slice = isNamedByItself(model) ? keys.length : STAMP_SLICE;
  for (let from = 0; from < keys.length; from += slice) yield keys.slice(from, from + slice);
}

class Replay {
  readonly #library: Library;
  readonly #slots: Slot[] = [];
  /** Living rows: table number → key now (folded) → slot. */
  readonly #live = new Map<number, Map<MarkKey, Slot>>();
  /** Keys whose row is another one than before, so that those who refer to them refer to another row. */
  readonly #reused: { model: Model; key: MarkKey; why: Touched }[] = [];
  readonly #follows: Follows;
  /** A new row may be what others point to. */
  readonly #hasDangling: boolean;

  constructor(library: Library) {
    this.#library = library;
    this.#follows = new Follows(library);
    this.#hasDangling = hasDangling(library);
  }

  run(marks: readonly RawRow[]): void {
    this.#loadMapped(marks);
    for (const mark of marks) this.#replay(named(this.#library, mark));
    this.#decideSuspects(Number(marks.at(-1)?.[0]));
    ownersOfMarks(this.#library, this.#slots);
    this.#rename();
    this.#write();
    for (const { model, key, why } of this.#reused) touchReferrers(this.#library, model, key, why);
  }

  /** What a REPLACE may have evicted has gone if it is not here, unless a later slice says what else has become of it. */
  #decideSuspects(last: number): void {
    const gone = this.#slots.filter(
      ({ evicted, alive, model, key }) => evicted && alive && !exists(this.#library, model, key),
    );
    for (const model of new Set(gone.map((slot) => slot.model))) {
      const own = gone.filter((slot) => slot.model === model);
      const standing = standingAfter(
        this.#library,
        model,
        own.map(({ key }) => key),
        last,
      );
      for (const slot of own) slot.alive = standing.has(slot.key);
    }
  }

  #loadMapped(marks: readonly RawRow[]): void {
    const keys = new Map<number, Map<MarkKey, MarkKey>>();
    for (const [, table, op, before, after] of marks) {
      const model = this.#library.modelByNumber(Number(table));
      const own = keys.get(model.n) ?? new Map<MarkKey, MarkKey>();
      for (const key of [before as MarkKey | null, carriesKey(op) ? (after as MarkKey | null) : null])
        if (key !== null && isNamed(model, key)) own.set(foldedKey(model, key), key);
      keys.set(model.n, own);
    }
    for (const [table, own] of keys) {
      const model = this.#library.modelByNumber(table);
      const live = new Map<MarkKey, Slot>();
      this.#live.set(table, live);
      for (const [key, row] of loadMap(this.#library, model, new Set(own.values()))) {
        const mapped = {
          key: row[0] as Key,
          uuid: row[1] as Uint8Array,
          birthHlc: Number(row[2]),
          birthRun: Number(row[3]),
          hlc: Number(row[5]),
          run: Number(row[6]),
          cells: parseCells(row[4]),
          aside: row[7] ?? null,
        };
        const slot = newSlot(model, key, mapped);
        this.#slots.push(slot);
        live.set(foldedKey(model, key), slot);
      }
    }
  }

  #replay([n, table, op, before, after, at, mask, owner = null]: RawRow): void {
    const live = this.#live.get(Number(table));
    if (live === undefined) return;
    const model = this.#library.modelByNumber(Number(table));
    const first = owner === null ? undefined : live.get(foldedKey(model, before as MarkKey));
    if (first !== undefined && first.ownedBy === null && !first.changed) first.ownedBy = owner;
    const order = Number(n);
    const time = Number(at);
    switch (op) {
      case OP_INSERT: {
        const here = live.get(foldedKey(model, after as MarkKey));
        // It was evicted, maybe in an earlier slice, and another one takes its key.
        const isGone = here !== undefined && here.mapped !== null && saysWhatStands(model) && !here.stands;
        if (here !== undefined && (here.suspect || isGone)) this.#kill(live, here, order, time);
        // A second insert under a living key is a REPLACE of that row: the same row, with new columns.
        const slot = this.#touch(live, model, after as MarkKey, order, time);
        slot.key = after as MarkKey;
        slot.stands = false;
        slot.changed = true;
        slot.mask = ALL_COLUMNS;
        slot.renamed = true;
        break;
      }
      case OP_UPDATE: {
        const slot = this.#touch(live, model, before as MarkKey, order, time);
        slot.suspect = false;
        // A new integer key alone says nothing to others: it only moves the mapping.
        if (mask !== 0) slot.changed = true;
        slot.mask |= withWholeReferences(model, BigInt(mask as number | bigint));
        if (identityMayChange(model, BigInt(mask as number | bigint))) slot.renamed = true;
        if (after !== before) this.#move(live, slot, after as MarkKey);
        break;
      }
      case OP_DELETE: {
        const slot = live.get(foldedKey(model, before as MarkKey));
        if (slot === undefined) break;
        slot.last = typeof after === 'string' ? after : null;
        this.#kill(live, slot, order, time);
        break;
      }
      case OP_EVICT: {
        const slot = live.get(foldedKey(model, before as MarkKey));
        if (slot === undefined) break;
        slot.suspect = true;
        slot.evicted = true;
        slot.stands = false;
        slot.order = order;
        slot.at = time;
        break;
      }
      case OP_STANDS: {
        const slot = live.get(foldedKey(model, before as MarkKey));
        if (slot === undefined) break;
        slot.suspect = false;
        slot.stands = true;
        break;
      }
      case OP_REBORN: {
        const slot = live.get(foldedKey(model, before as MarkKey));
        if (slot === undefined) break;
        this.#touch(live, model, before as MarkKey, order, time);
        slot.changed = true;
        slot.renamed = true;
        slot.reborn = true;
        break;
      }
      case OP_FOLLOW: {
        const slot = live.get(foldedKey(model, before as MarkKey));
        if (slot === undefined || this.#follows.isSame(model, order, String(after), Number(mask))) break;
        slot.changed = true;
        slot.mask |= withWholeReferences(model, BigInt(mask as number | bigint));
        if (identityMayChange(model, BigInt(mask as number | bigint))) slot.renamed = true;
        break;
      }
      case OP_NONE:
        break;
      default:
        throw new RangeError(`a mark has the unknown operation ${String(op)}`);
    }
  }

  #touch(live: Map<MarkKey, Slot>, model: Model, key: MarkKey, order: number, at: number): Slot {
    let slot = live.get(foldedKey(model, key));
    if (slot === undefined) {
      slot = newSlot(model, key, null);
      slot.first = { n: order, at, key };
      this.#slots.push(slot);
      live.set(foldedKey(model, key), slot);
    }
    slot.order = order;
    slot.at = at;
    return slot;
  }

  #move(live: Map<MarkKey, Slot>, slot: Slot, to: MarkKey): void {
    const { model } = slot;
    live.delete(foldedKey(model, slot.key));
    const evicted = live.get(foldedKey(model, to));
    if (evicted !== undefined && evicted !== slot) {
      // Marked under its new key before it moved there: what ON UPDATE does to a row that refers to itself.
      if (evicted.mapped === null && evicted.mask !== ALL_COLUMNS) {
        slot.changed ||= evicted.changed;
        slot.mask |= evicted.mask;
        slot.renamed ||= evicted.renamed;
      }
      this.#kill(live, evicted, slot.order, slot.at);
    }
    slot.key = to;
    slot.hasMoved = true;
    live.set(foldedKey(model, to), slot);
  }

  #kill(live: Map<MarkKey, Slot>, slot: Slot, order: number, at: number): void {
    slot.alive = false;
    slot.order = order;
    slot.at = at;
    live.delete(foldedKey(slot.model, slot.key));
  }

  /** Rows whose derived identity has changed: the old row dies and another one is born in its place. */
  #rename(): void {
    for (const model of this.#library.registry.models) {
      if (model.identity.kind !== 'derived') continue;
      const candidates = this.#slots.filter(
        (slot) => slot.model === model && slot.alive && slot.mapped !== null && slot.renamed && !this.#isForeign(slot),
      );
      if (candidates.length === 0) continue;
      const derived = deriveUuids(
        this.#library,
        model,
        candidates.map((slot) => slot.key),
        movedIn(this.#slots),
      );
      for (const slot of candidates) {
        const uuid = derived.get(slot.key) ?? null;
        if (slot.mapped === null || (uuid !== null && Buffer.compare(uuid, slot.mapped.uuid) === 0)) continue;
        // It has no derived name (any more), or refers to a row that is being born with it.
        if (uuid === null && !isDerived(slot.mapped.uuid)) continue;
        slot.alive = false;
        const heir = newSlot(model, slot.key, null);
        heir.order = slot.order;
        heir.at = slot.at;
        heir.inherits = true;
        heir.hasMoved = slot.hasMoved;
        heir.inherited = bornAnew(slot.mapped.aside);
        slot.heir = heir;
        this.#slots.push(heir);
      }
    }
  }

  #write(): void {
    const { sql } = this.#library;
    const slots = this.#slots.sort((a, b) => a.order - b.order);
    const moved = slots.filter(
      (slot) => slot.alive && slot.mapped !== null && slot.key !== slot.mapped.key && slot.model.rowid !== null,
    );
    const dead = slots.filter((slot) => !slot.alive && slot.mapped !== null);
    const vacated = new Set(dead.map(({ model, mapped }) => `${model.n}:${mapped?.key}`));
    const left = leftKeys([...dead, ...moved]);
    for (const [model, keys] of left) this.#library.leftKeys(model, keys);
    const last = this.#lastVersions(dead);
    for (const slot of dead) this.#bury(slot, last);
    // All moved rows leave their places before one takes a new one: two rows may have swapped keys.
    for (const slot of slots) {
      if (!slot.alive || slot.mapped === null || slot.model.rowid !== null || !isWritten(slot)) continue;
      if (this.#isForeign(slot)) continue;
      sql.run(`UPDATE ${rowsTable(slot.model)} SET k1 = NULL WHERE key = ?`, slot.mapped.key);
    }
    const saved = moved.map(
      (slot) =>
        sql.rows(
          `DELETE FROM ${rowsTable(slot.model)} WHERE key = ? RETURNING uuid, birth_hlc, birth_run, hlc, run, lsn, cells, aside`,
          slot.mapped?.key,
        )[0],
    );
    moved.forEach((slot, index) => {
      sql.run(
        `INSERT INTO ${rowsTable(slot.model)} (key, uuid, birth_hlc, birth_run, hlc, run, lsn, cells, aside) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        slot.key,
        ...(saved[index] ?? []),
      );
      // Another row may have had this id, or none: who refers to it refers to this one from now on.
      const why = vacated.has(`${slot.model.n}:${slot.key}`) ? 'born' : 'moved';
      this.#reused.push({ model: slot.model, key: slot.key, why });
    });
    this.#bearAll(slots.filter((slot) => slot.alive && slot.mapped === null));
    if (!this.#hasDangling && [...left].some(([model, keys]) => areReferredTo(this.#library, model, keys)))
      noteDangling(this.#library, []);
    for (const { model, mapped, heir } of dead)
      if (mapped !== null && heir !== null) nameHeir(this.#library, model, mapped.uuid, heir.key);
    const changed = slots.filter((slot) => slot.alive && isWritten(slot) && slot.mapped !== null);
    for (const slot of changed) this.#restamp(slot);
    if (!hasPending(this.#library)) return;
    for (const { model, mapped, mask, differences } of changed) {
      if (mapped === null || mask === 0n || model.ownership === 'device') continue;
      const columns = syncedColumns(model).filter(({ number }) => (mask & maskBit(number)) !== 0n);
      amendWaiting(this.#library, model, mapped.uuid, columns, differences);
    }
  }

  /** What the dead rows held, while the rows that they refer to still have their mappings. */
  #lastVersions(dead: readonly Slot[]): Map<string, Uint8Array> {
    const found = new Map<string, Uint8Array>();
    for (const model of new Set(dead.map((slot) => slot.model))) {
      const rows = dead.flatMap(({ model: own, mapped, last }) =>
        own === model && mapped !== null && last !== null ? [{ ...mapped, last }] : [],
      );
      for (const [uuid, version] of lastVersions(this.#library, model, rows)) found.set(uuid, version);
    }
    return found;
  }

  #bury(slot: Slot, last: ReadonlyMap<string, Uint8Array>): void {
    const { mapped, model } = slot;
    if (mapped === null) return;
    const library = this.#library;
    const isForeign = this.#isForeign(slot);
    // What it held is its owner's, and comes again. Another row may have its key by now.
    if (isForeign) askFor(library, model, mapped);
    library.sql.run(`DELETE FROM ${rowsTable(model)} WHERE key = ?`, mapped.key);
    if (isForeign) {
      noteLost(library, mapped.uuid);
      return;
    }
    const base = this.#base(slot, mapped);
    const version = last.get(Buffer.from(mapped.uuid).toString('hex')) ?? null;
    const cells = this.#cellsOver(slot, base);
    writeTombstone(library, model, mapped.uuid, base.birthHlc, base.birthRun, slot.at, cells, version);
    recordOvertakes(library, base);
  }

  #bearAll(born: readonly Slot[]): void {
    for (const model of this.#library.registry.models) {
      const own = born.filter((slot) => slot.model === model);
      if (own.length === 0) continue;
      const { head } = this.#library;
      bear(this.#library, model, own);
      for (const { key, inherited } of own) if (inherited !== null) inherit(this.#library, model, key, inherited);
      titleBirths(this.#library, model, head);
      const left = new Set(
        this.#slots
          .filter((slot) => slot.model === model && (!slot.alive || slot.key !== slot.mapped?.key))
          .map((slot) => slot.mapped?.key),
      );
      for (const slot of own) {
        const isReused =
          model.rowid === null ? slot.inherits && !slot.hasMoved : slot.inherits || left.has(slot.key as Key);
        if (isReused || this.#hasDangling || hasLooseReferrers(this.#library, model))
          this.#reused.push({ model, key: slot.key, why: slot.inherits ? 'renamed' : 'born' });
      }
    }
  }

  /** As long as its path leads nowhere, an owned row is that of whoever wrote it last. */
  #isOwn({ model, mapped, owner }: Slot): boolean {
    if (model.ownership === 'shared' || mapped === null) return true;
    const device = owner === null ? this.#library.runDevice(mapped.run) : owner.device;
    return device === this.#library.around.device;
  }

  /**
   * The row belongs to another device. The guards refuse such a write, but not one that no trigger sees. Nobody would take a
   * stamp of ours for it, so there is none. Where we were the last to write it, it is a late write under the title that we had.
   */
  #isForeign(slot: Slot): boolean {
    return !this.#isOwn(slot) && this.#library.runDevice(slot.mapped?.run ?? 0) !== this.#library.around.device;
  }

  /** The cells of a shared row after a write of our own; null when it says nothing that they do not say already. */
  #written(slot: Slot, row: NonNullable<Slot['mapped']>, stamp: LocalStamp): Cells | 'reborn' | null {
    const { model, mask } = slot;
    const columns = syncedColumns(model).filter(({ number }) => (mask & maskBit(number)) !== 0n);
    const registers = columns.filter(({ policy }) => policy !== undefined);
    const plain = columns.filter(({ policy }) => policy === undefined).map(({ number }) => number);
    if (registers.length === 0) return writeColumns(row.cells, plain, stamp);
    const counted = writeRegisters(this.#library, { ...row, model, key: slot.key }, registers, stamp);
    // What the table shows is what this device says, so it says it of the whole row.
    if (!counted.isShown) return 'reborn';
    slot.differences = counted.differences;
    return plain.length === 0 && counted.differences.size === 0 ? null : writeColumns(counted.cells, plain, stamp);
  }

  /** Of an owned row: the tenure of what is written over this version. */
  #cellsOver({ model, owner }: Slot, base: Base): Cells {
    if (model.ownership === 'shared' || owner?.device !== this.#library.around.device) return base.cells;
    return cellsOver(this.#library, base, owner);
  }

  /** Rows without cells say in another way that a column which came later has been written. */
  #aside({ model, mask }: Slot, { aside, birthHlc }: NonNullable<Slot['mapped']>, isReborn: boolean): SqlValue {
    if (isReborn) return bornAnew(aside);
    if (model.ownership === 'shared') return aside;
    const late = lateColumns(model).filter(
      ({ since, number }) => since !== NOT_HERE && (mask & maskBit(number)) !== 0n,
    );
    if (late.length === 0) return aside;
    const notes = new Map(parseAside(aside));
    for (const { number, since } of late) {
      if (birthHlc <= since) notes.set(number, { kind: 'born' });
      else notes.delete(number);
    }
    return formatAside(notes);
  }

  #restamp(slot: Slot): void {
    const library = this.#library;
    const { mapped, model } = slot;
    if (mapped === null) return;
    const natural = model.rowid === null;
    const parts = natural ? decodeKey(String(slot.key)) : [];
    const keys = natural ? model.key.map((_, index) => `, k${index + 1} = ?`).join('') : '';
    const moveOnly = (): void => {
      if (natural)
        library.sql.run(`UPDATE ${rowsTable(model)} SET lsn = lsn${keys} WHERE key = ?`, ...parts, mapped.key);
    };
    if (!slot.changed) {
      moveOnly();
      return;
    }
    if (this.#isForeign(slot)) {
      revert(library, model, mapped);
      return;
    }
    const isOwned = model.ownership === 'device';
    if (this.#hasDangling && !isOwned)
      for (const number of takeLeftBehind(library, model, mapped)) slot.mask |= maskBit(number);
    const isReborn = slot.reborn && this.#isOwn(slot);
    const base = isReborn ? mapped : this.#base(slot, mapped);
    const ownedCells = isOwned && !isReborn ? this.#cellsOver(slot, base) : this.#cellsOfRebirth(slot);
    const hlc = library.stampAt(slot.at);
    const { run } = library;
    let bearsAgain = isReborn;
    let cells = ownedCells;
    if (!isOwned && !isReborn) {
      const written = this.#written(slot, mapped, { hlc, run });
      if (written === null) {
        moveOnly();
        return;
      }
      if (written === 'reborn') bearsAgain = true;
      else cells = written;
    }
    const text = bearsAgain && !isOwned ? cellsAtBirth(library, model, slot.key, { hlc, run }) : formatCells(cells);
    library.sql.run(
      `UPDATE ${rowsTable(model)} SET birth_hlc = ?, birth_run = ?, hlc = ?, run = ?, lsn = ?, cells = ?, aside = ?${keys} WHERE key = ?`,
      bearsAgain ? hlc : base.birthHlc,
      bearsAgain ? run : base.birthRun,
      hlc,
      run,
      library.nextLsn(),
      text,
      this.#aside(slot, mapped, bearsAgain),
      ...parts,
      natural ? mapped.key : slot.key,
    );
    recordOvertakes(library, base);
  }

  /** What is written over: of a row of our own it may be a version that waits. */
  #base({ model, owner }: Slot, mapped: NonNullable<Slot['mapped']>): Base {
    const isOwn = model.ownership === 'device' && owner?.device === this.#library.around.device;
    return isOwn ? overtaken(this.#library, model, mapped) : mapped;
  }

  #cellsOfRebirth({ model, owner }: Slot): Cells {
    return model.ownership === 'shared' || owner === null ? new Map() : cellsOfBirth(this.#library, owner);
  }
}
