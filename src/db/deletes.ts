/**
 * Carrying out deletes that came from elsewhere: children before parents, so that SQLite's own cascades (which would
 * remove rows without a mark while capture is suspended) find nothing left to do. A row that something here still refers
 * to stays, and its delete waits for the end of a complete pass.
 */
import type { Batch } from '../protocol/types.ts';
import type { Cells } from './cells.ts';
import { parseCells } from './cells.ts';
import type { Rule } from './conflicts.ts';
import { recordRow } from './conflicts.ts';
import { keepLast } from './graves.ts';
import type { Leaving, Reference } from './removal.ts';
import { byModel, nodeId, removeAll } from './removal.ts';
import type { Library } from './library.ts';
import type { MappedRow } from './lookup.ts';
import type { ForeignKey, Model } from './model.ts';
import { mapJoin, quoteName, rowsTable } from './model.ts';
import { keysHeldOutside } from './outside.ts';
import { forgetPending, pendingDeletes, putPending } from './pending.ts';
import type { Key } from './sql.ts';
import { jsonKeys } from './sql.ts';

/** A row that a tombstone wants gone; the last stamp is the tombstone's. */
export interface Doomed extends MappedRow {
  readonly model: Model;
  /** Why a record is made when it goes: nobody who decided about it knew of its last change. */
  readonly discards?: Rule;
  /** UUID of the deleted row with which it goes, by a CASCADE that this device has carried out. */
  readonly goesWith?: Uint8Array;
  /** Its delete is among those that wait already. */
  readonly isWaiting?: boolean;
  /** What it held before it was parked, to make room for others. */
  readonly last?: Batch | null;
}

/** A row that refers to another. Keys are those of the map tables. */
export interface Referrer {
  readonly model: Model;
  readonly foreignKey: ForeignKey;
  readonly key: Key;
  readonly parentKey: Key;
  readonly uuid: Uint8Array;
  readonly birthHlc: number;
  readonly birthRun: number;
  readonly hlc: number;
  readonly run: number;
  readonly cells: Cells;
}

/**
 * What becomes of a row that refers to a doomed one: it stays as it is and keeps the other, it has let go of it, or it is
 * doomed as well.
 */
export type Verdict = 'stays' | 'released' | Doomed;

/** Deletes in the middle of a pass: nothing is decided about the rows that refer to what was deleted. */
const undecided = (): Verdict => 'stays';

/**
 * Removes those rows that nothing refers to but rows that go as well; the others are set aside. Returns how many went.
 * @param judge - decides about a row outside of the list that refers to one in it
 */
export function carryOutDeletes(
  library: Library,
  doomed: readonly Doomed[],
  judge: (parent: Doomed, referrer: Referrer) => Verdict = undecided,
  holdAll = false,
): number {
  const nodes = new Map(doomed.map((row) => [nodeId(row.model, row.key), row]));
  const found: Reference[] = [];
  const references = new Map<string, Set<string>>();
  const stays = new Set<string>(holdAll ? nodes.keys() : []);
  for (let frontier = [...nodes.values()]; frontier.length > 0;) {
    const next: Doomed[] = [];
    for (const [model, rows] of byModel(frontier)) {
      const keys = rows.map((row) => row.key);
      for (const key of keysHeldOutside(library, model, keys)) stays.add(nodeId(model, key));
      for (const referrer of referrersOf(library, model, keys)) {
        const child = nodeId(referrer.model, referrer.key);
        const parent = nodeId(model, referrer.parentKey);
        if (child === parent) continue;
        if (!nodes.has(child)) {
          const verdict = judge(nodes.get(parent) as Doomed, referrer);
          if (verdict === 'released') continue;
          if (verdict === 'stays') stays.add(parent);
          else {
            nodes.set(child, verdict);
            next.push(verdict);
          }
        }
        found.push({ child, parent, foreignKey: referrer.foreignKey });
        references.set(child, (references.get(child) ?? new Set<string>()).add(parent));
      }
    }
    frontier = next;
  }
  // What stays keeps what it refers to.
  const queue = [...stays];
  for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
    for (const parent of references.get(node) ?? []) {
      if (stays.has(parent)) continue;
      stays.add(parent);
      queue.push(parent);
    }
  }
  // What is discarded unseen can only be restored after what it refers to.
  const missed = new Set<string>();
  const discarded = [...nodes].flatMap(([node, row]) => (row.discards !== undefined && !stays.has(node) ? [node] : []));
  for (let node = discarded.pop(); node !== undefined; node = discarded.pop()) {
    for (const parent of references.get(node) ?? []) {
      if (missed.has(parent)) continue;
      missed.add(parent);
      discarded.push(parent);
    }
  }
  const going = new Map([...nodes].filter(([node]) => !stays.has(node)));
  removeAll(library, going, found, (model, rows) => keepWhatGoes(library, model, rows, missed));
  for (const node of stays) {
    const row = nodes.get(node) as Doomed;
    if (row.isWaiting !== true) holdDelete(library, row);
  }
  return going.size;
}

/**
 * Keeps of rows that are about to go what is to be kept of them.
 * @param missed - what has to be there before something that is discarded unseen can be restored
 */
export function keepWhatGoes(
  library: Library,
  model: Model,
  rows: readonly Doomed[],
  missed: ReadonlySet<string> = new Set(),
): void {
  for (const row of rows) {
    const rule = row.discards ?? (missed.has(nodeId(model, row.key)) ? 'took-along' : null);
    if (rule !== null) recordRow(library, model, row.uuid, rule, row, row);
  }
  keepLast(library, model, rows);
}

/** Rows whose delete waits; deletes of rows that have gone meanwhile wait no more. */
export function waitingDeletes(library: Library): Doomed[] {
  const doomed: Doomed[] = [];
  for (const waiting of pendingDeletes(library)) {
    if (waiting.key === null) forgetPending(library, waiting.uuid);
    else
      doomed.push({
        ...waiting,
        key: waiting.key,
        isWaiting: true,
        ...(waiting.isUnseen ? { discards: 'deleted' } : waiting.goesAlong ? { discards: 'cascade' } : {}),
      });
  }
  return doomed;
}

/** Those of the rows that are here, with the keys that they have by now. */
export function stillHere<Row extends Pick<Doomed, 'model' | 'uuid'>>(library: Library, rows: readonly Row[]): Row[] {
  return rows.flatMap((row) => {
    const key = library.sql.value(`SELECT key FROM ${rowsTable(row.model)} WHERE uuid = ?`, Buffer.from(row.uuid));
    return key === undefined ? [] : [{ ...row, key: key as Key }];
  });
}

/** Takes rows out of the tables, referrers first, though nobody deleted them. */
export function takeOut(library: Library, rows: readonly Leaving[]): void {
  const nodes = new Map(rows.map((row) => [nodeId(row.model, row.key), row]));
  const found: Reference[] = [];
  for (const [model, own] of byModel(rows)) {
    const keys = own.map((row) => row.key);
    for (const { model: from, key, parentKey, foreignKey } of referrersOf(library, model, keys))
      found.push({ child: nodeId(from, key), parent: nodeId(model, parentKey), foreignKey });
  }
  removeAll(library, nodes, found);
}

function holdDelete(library: Library, row: Doomed): void {
  putPending(library, {
    ...row,
    reason: 'referrers',
    detail: `It was deleted elsewhere, but rows here still refer to it.`,
    version: null,
    targets: row.goesWith === undefined ? [] : [row.goesWith],
  });
}

/** Rows of synced tables that refer to any of `keys` of `model`. */
export function referrersOf(library: Library, model: Model, keys: readonly Key[]): Referrer[] {
  const referrers: Referrer[] = [];
  for (const child of library.registry.models) {
    for (const foreignKey of child.foreignKeys) {
      if (foreignKey.table !== model.table) continue;
      const rows = library.sql.rows(referrerQuery(child, foreignKey, model), jsonKeys(keys));
      for (const [key, parentKey, uuid, birthHlc, birthRun, hlc, run, cells] of rows) {
        referrers.push({
          model: child,
          foreignKey,
          key: key as Key,
          parentKey: parentKey as Key,
          uuid: uuid as Uint8Array,
          birthHlc: Number(birthHlc),
          birthRun: Number(birthRun),
          hlc: Number(hlc),
          run: Number(run),
          cells: parseCells(cells),
        });
      }
    }
  }
  return referrers;
}

function referrerQuery(child: Model, foreignKey: ForeignKey, parent: Model): string {
  const select = 'SELECT m.key, p.key, m.uuid, m.birth_hlc, m.birth_run, m.hlc, m.run, m.cells';
  const childTable = `${quoteName(child.table)} t`;
  const childMap = `${rowsTable(child)} m ON ${mapJoin(child)}`;
  if (foreignKey.simple) {
    return `${select} FROM (SELECT value AS key FROM json_each(?)) p
      CROSS JOIN ${childTable} ON t.${quoteName(foreignKey.columns[0] ?? '')} = p.key CROSS JOIN ${childMap}`;
  }
  return `${select} FROM (SELECT value AS key FROM json_each(?)) j
    CROSS JOIN ${rowsTable(parent)} p ON p.key = j.key
    CROSS JOIN ${quoteName(parent.table)} pt ON ${mapJoin(parent, 'pt', 'p')}
    CROSS JOIN ${childTable} ON ${isMetBy(foreignKey, 'pt')} CROSS JOIN ${childMap}`;
}

/**
 * SQL: what ON DELETE and ON UPDATE of the row `p` do is done to the row `t`. SQLite looks for it with the affinities of both columns: a parent
 * '1' that goes takes children along that hold 1, though they refer to the parent 1.
 */
function isMetBy({ columns, targets }: ForeignKey, p: string): string {
  return columns.map((name, i) => `${p}.${quoteName(targets[i] ?? '')} = t.${quoteName(name)}`).join(' AND ');
}
