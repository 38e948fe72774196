/**
 * Moves in a tree that were made apart and together make a ring. The version that would close it waits; at the end of a complete pass,
 * when all is known of every row of the ring, the latest of its moves gives way: the row goes to the top of the tree, as a stamped write
 * of every device that sees the ring.
 */
import type { Batch, SqlValue, TableData } from '../protocol/types.ts';
import { decodeBatch } from '../protocol/batch.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Cells, LocalStamp } from './cells.ts';
import { record } from './conflicts.ts';
import type { Hold, Incoming } from './incoming.ts';
import { cellsOf, columnNamed } from './incoming.ts';
import type { Setting } from './join.ts';
import { translateRuns, writeVersion } from './join.ts';
import type { Library } from './library.ts';
import type { Column, ForeignKey, Model } from './model.ts';
import { quoteName, rowByKey, rowsTable } from './model.ts';
import { ownStamp, writeOutcome } from './outcome.ts';
import { cellsHere, cellsOverWaiting } from './owned-outcomes.ts';
import { closingVersions, pendingKind, waitingVersion, waitsForWaiting } from './pending.ts';
import type { StandingRow } from './rivals.ts';
import { standingRow, valuesOfRow } from './rivals.ts';
import type { RowWriter } from './rows.ts';
import { isSettled } from './settled.ts';
import type { MergeWaiting } from './settle.ts';
import type { Key } from './sql.ts';
import { parentHere, ringsOf } from './trees.ts';
import { joinVersions, targetOf, valueIn } from './version.ts';

const HOLD: Hold = {
  reason: 'cycle',
  detail: 'It would be above itself in its tree: what it was moved into was moved into it elsewhere.',
};

/** Watches the moves of one merge. */
export class TreeMoves {
  readonly #library: Library;
  readonly #rows: RowWriter;
  readonly #moved = new Map<ForeignKey, Incoming[]>();

  constructor(library: Library, rows: RowWriter) {
    this.#library = library;
    this.#rows = rows;
  }

  /**
   * A row is about to be written over.
   * @param changed - the columns in which it changes, where that is known
   */
  before(row: Incoming, changed?: readonly Column[]): void {
    const { model, outcome } = row;
    for (const tree of model.trees) {
      if (changed !== undefined && !changed.some(({ name }) => tree.columns.includes(name))) continue;
      const columns = tree.columns.map((name) => columnNamed(model, name));
      if (!columns.every(({ number }) => outcome.taken?.has(number) !== false)) continue;
      const isOther = columns.map(({ name }) => `${quoteName(name)} IS NOT ?`).join(' OR ');
      const text = `SELECT 1 FROM ${quoteName(model.table)} WHERE (${isOther}) AND ${rowByKey(model)}`;
      const values = this.#rows.valuesOf(row, tree.columns);
      if (this.#library.sql.value(text, ...values, this.#rows.keyOf(row.index)) !== undefined) this.#note(tree, row);
    }
  }

  /** A row has been inserted that waited, or that died before: it may be above what is here. */
  born(row: Incoming): void {
    for (const tree of row.model.trees) this.#note(tree, row);
  }

  #note(tree: ForeignKey, row: Incoming): void {
    const rows = this.#moved.get(tree);
    if (rows === undefined) this.#moved.set(tree, [row]);
    else rows.push(row);
  }

  /** After all has been written: those that have to wait, of each ring the latest of the rows of this merge. By dictionary index. */
  closing(): Map<number, Hold> {
    const library = this.#library;
    const closing = new Map<number, Hold>();
    for (const [tree, rows] of this.#moved) {
      const { model } = rows[0] as Incoming;
      const byKey = new Map(rows.map((row) => [this.#keyOf(row), row]));
      for (const ring of distinct(ringsOf(library, model, tree, [...byKey.keys()]).values())) {
        if (isOneOwners(library, model, ring)) continue;
        const own = [...ring].map((key) => byKey.get(key)).filter((row) => row !== undefined);
        const stamped = own.map((row) => ({ row, ...moveOf(model, tree, row.outcome, row.outcome) }));
        closing.set(latest(library, stamped).row.index, HOLD);
      }
    }
    return closing;
  }

  #keyOf(row: Incoming): Key {
    const text = `SELECT key FROM ${rowsTable(row.model)} WHERE uuid = ?`;
    return this.#library.sql.value(text, this.#rows.uuidOf(row.index)) as Key;
  }
}

/** A ring that the owner of its rows has made in one place: nothing was moved apart, and nobody else may end it. */
function isOneOwners(library: Library, model: Model, ring: ReadonlySet<Key>): boolean {
  if (model.ownership === 'shared') return false;
  const text = `SELECT run FROM ${rowsTable(model)} WHERE key = ?`;
  return new Set([...ring].map((key) => library.runDevice(library.sql.number(text, key)))).size === 1;
}

/** Rings that are not the same one. */
function distinct(rings: Iterable<ReadonlySet<Key>>): ReadonlySet<Key>[] {
  const found: ReadonlySet<Key>[] = [];
  for (const ring of rings) if (!found.some((known) => known.has([...ring][0] as Key))) found.push(ring);
  return found;
}

/** When a row was moved to where it is. */
function moveOf(model: Model, tree: ForeignKey, { cells }: { readonly cells: Cells }, other: LocalStamp): LocalStamp {
  const cell = model.ownership === 'device' ? undefined : cells.get(columnNamed(model, tree.columns[0] ?? '').number);
  return { hlc: (cell ?? other).hlc, run: (cell ?? other).run };
}

function latest<T extends LocalStamp>(library: Library, moves: readonly T[]): T {
  return moves.reduce((last, move) => (library.compare(move.hlc, move.run, last.hlc, last.run) > 0 ? move : last));
}

/** A row of a ring, in its newest version: one that stands here, or one that waits. */
interface Member extends LocalStamp {
  readonly uuid: Uint8Array;
  readonly row: StandingRow | null;
  readonly version: Batch | null;
  /** UUID of the row that it is in; null at the top. */
  readonly parent: Uint8Array | null;
}

/** Settles the rings that can be. Returns whether anything was changed. */
export function settleCycles(library: Library, merge: MergeWaiting): boolean {
  let moved = false;
  for (const { model, uuid } of closingVersions(library)) {
    for (const tree of model.trees) {
      const ring = ringThrough(library, model, tree, uuid);
      if (ring !== null && giveWay(library, model, tree, latest(library, ring), merge)) moved = true;
    }
  }
  return moved;
}

/** The ring that a version which waits would close; null for none, or if something of it may still change. */
function ringThrough(library: Library, model: Model, tree: ForeignKey, uuid: Uint8Array): Member[] | null {
  const ring: Member[] = [];
  const seen = new Set<string>();
  for (let at: Uint8Array | null = uuid; at !== null && !seen.has(bytesToHex(at));) {
    seen.add(bytesToHex(at));
    const member = memberOf(library, model, tree, at);
    if (member === null) return null;
    ring.push(member);
    at = member.parent;
    // A row that refers to itself is a root.
    if (at !== null && ring.length > 1 && Buffer.compare(at, uuid) === 0) return ring;
  }
  return null;
}

/** Null for a row that is not here, waits for something else, or of which not all is known. */
function memberOf(library: Library, model: Model, tree: ForeignKey, uuid: Uint8Array): Member | null {
  const kind = pendingKind(library, uuid);
  // One may wait only because another one of the ring does.
  if (kind !== null && !waitsForWaiting(library, uuid)) return null;
  const waiting = kind === null ? null : waitingVersion(library, uuid);
  if (waiting?.version instanceof Uint8Array) {
    const version = decodeBatch(waiting.version);
    const cells = cellsOf(model, version.tables[0] as TableData, 0, translateRuns(library, version));
    if (!isSettled(library, { ...waiting, cells })) return null;
    const born = { hlc: waiting.birthHlc, run: waiting.birthRun };
    const move = moveOf(model, tree, { cells }, model.ownership === 'device' ? waiting : born);
    return { ...move, uuid, row: standingRow(library, model, uuid), version, parent: targetOf(version, tree) };
  }
  const row = standingRow(library, model, uuid);
  if (row === null || !isSettled(library, row)) return null;
  const move = moveOf(model, tree, row, model.ownership === 'device' ? row : { hlc: row.birthHlc, run: row.birthRun });
  return { ...move, uuid, row, version: null, parent: parentHere(library, model, tree, uuid) };
}

/** Takes a row to the top of its tree. Answers false where that is for somebody else to do, or the table does not allow it. */
function giveWay(library: Library, model: Model, tree: ForeignKey, move: Member, merge: MergeWaiting): boolean {
  const columns = tree.columns.map((name) => columnNamed(model, name));
  const free = columns.filter(({ notNull }) => !notNull);
  if (move.version !== null) {
    const { version } = move;
    const over = cellsOverWaiting(library, model, version);
    const settings = free.length > 0 ? ofNull(free) : ofItself(model, tree, move, version);
    if (over === null || settings === null) return false;
    const written = writeVersion(library, model, version, settings, over);
    const stamp = { hlc: library.hlc, run: library.run };
    for (const column of columns) recordMove(library, model, column, move, version, settings, stamp);
    merge(joinVersions(library, [written]), []);
    return true;
  }
  const { row } = move;
  const cells = row === null || model.ownership === 'shared' ? (row?.cells ?? null) : cellsHere(library, row);
  if (row === null || cells === null) return false;
  return library.attempt(() => {
    const stamp = ownStamp(library);
    const assignments = (free.length > 0 ? free : columns).map(({ name: column }) => ({
      column,
      sql: free.length > 0 ? 'NULL' : quoteName(tree.targets[tree.columns.indexOf(column)] ?? ''),
      values: [],
    }));
    const before = valuesOfRow(library, row);
    if (!writeOutcome(library, row, cells, assignments, stamp)) return false;
    for (const column of columns) {
      const isRef = column.role.kind === 'ref';
      const lost = { hlc: move.hlc, run: move.run, value: isRef ? move.parent : (before.get(column.name) as SqlValue) };
      const after = valuesOfRow(library, row).get(column.name) as SqlValue;
      record(library, model, row.uuid, column, 'cycle', lost, {
        ...stamp,
        value: isRef && after !== null ? row.uuid : after,
      });
    }
    return true;
  });
}

function ofNull(columns: readonly Column[]): Map<string, Setting> {
  return new Map(columns.map(({ name }) => [name, { value: null, target: null }]));
}

/** In a tree in which NULL is not allowed the rows at the top refer to themselves. */
function ofItself(
  model: Model,
  { columns, targets }: ForeignKey,
  { uuid }: Member,
  version: Batch,
): Map<string, Setting> | null {
  const at = version.tables[0]?.rows[0] ?? 0;
  const run = version.birthRun[at] ?? 0;
  const target = { model, uuid, birth: { hlc: version.birthHlc[at] ?? 0, run } };
  const own = targets.map((name) => columnNamed(model, name));
  // What only another reference says cannot be written here; an id of its own goes without saying.
  if (own.some(({ role, name }) => role.kind !== 'value' && name !== model.rowid)) return null;
  return new Map(columns.map((name, i) => [name, { value: valueIn(version, own[i] as Column), target }]));
}

function recordMove(
  library: Library,
  model: Model,
  column: Column,
  move: Member,
  version: Batch,
  settings: ReadonlyMap<string, Setting>,
  stamp: LocalStamp,
): void {
  const setting = settings.get(column.name);
  if (setting === undefined) return;
  const lost = { hlc: move.hlc, run: move.run, value: valueIn(version, column) };
  const value = column.role.kind === 'ref' ? (setting.target?.uuid ?? null) : setting.value;
  record(library, model, move.uuid, column, 'cycle', lost, { ...stamp, value });
}
