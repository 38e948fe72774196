/**
 * Versions that wait because a row here has their value in a unique index. At the end of a complete pass, when all is known of both
 * rows, the policy of the index decides (`unique-policy.ts`). Renaming and merging are stamped writes of this device, as of every
 * device that sees the collision: the same outcome everywhere. What `keep-first` shows is a function of the versions alone.
 */
import { decodeBatch } from '../protocol/batch.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Batch, SqlValue, TableData } from '../protocol/types.ts';
import { mergeRows } from './alias.ts';
import { recordVersionValue, recordValue } from './conflicts.ts';
import { hideRows } from './hide.ts';
import { cellsOf } from './incoming.ts';
import type { UniqueIndex } from './indexes.ts';
import { translateRuns, writeVersion } from './join.ts';
import type { Library } from './library.ts';
import type { Column, Model } from './model.ts';
import { ownStamp, writeOutcome } from './outcome.ts';
import { cellsHere, cellsOverWaiting } from './owned-outcomes.ts';
import { collidingVersions, hasWaitingVersion, pendingKind } from './pending.ts';
import type { Pending } from './pending.ts';
import type { StandingRow } from './rivals.ts';
import { rivalsIn, valuesHere, valuesOfRow } from './rivals.ts';
import { isSettled } from './settled.ts';
import type { MergeWaiting } from './settle.ts';
import { policyOf, renamedColumn } from './unique-policy.ts';
import { joinVersions } from './version.ts';

/** Digits of a row's UUID that a name gets at first, and when that is taken too. */
const SUFFIX_DIGITS = [4, 8, 12, 32];

/** A version that waits, with what it would hold here. */
export interface Collider {
  readonly model: Model;
  readonly uuid: Uint8Array;
  readonly birthHlc: number;
  readonly birthRun: number;
  readonly hlc: number;
  readonly run: number;
  readonly version: Batch;
  readonly values: ReadonlyMap<string, unknown>;
}

interface Rivalry {
  readonly unique: UniqueIndex;
  readonly rival: StandingRow;
}

/** Settles what collides here. Returns whether anything was changed. */
export function settleCollisions(library: Library, merge: MergeWaiting): boolean {
  let moved = false;
  for (const waiting of collidingVersions(library)) {
    // What was settled before may have ended this one's waiting.
    if (pendingKind(library, waiting.uuid) !== 'unique') continue;
    const collider = readCollider(library, waiting);
    if (collider !== null && settleCollision(library, collider, merge)) moved = true;
  }
  return moved;
}

function readCollider(library: Library, waiting: Omit<Pending, 'targets'>): Collider | null {
  const { model, version: bytes } = waiting;
  if (bytes === null) return null;
  const version = decodeBatch(bytes);
  const cells = cellsOf(model, version.tables[0] as TableData, 0, translateRuns(library, version));
  const values = isSettled(library, { ...waiting, cells }) ? valuesHere(library, model, version) : null;
  return values === null ? null : { ...waiting, version, values };
}

function settleCollision(library: Library, collider: Collider, merge: MergeWaiting): boolean {
  const { model, uuid, values } = collider;
  const uniques = model.uniques as readonly UniqueIndex[];
  const found = uniques.flatMap((unique) =>
    rivalsIn(library, model, unique, values, uuid).map((rival): Rivalry => ({ unique, rival })),
  );
  // A rival whose newer version waits, or whose delete does, may give way by itself.
  if (
    found.length === 0 ||
    found.some(({ rival }) => pendingKind(library, rival.uuid) !== null || !isSettled(library, rival))
  )
    return false;
  for (const { unique, rival } of found) {
    const policy = policyOf(library.registry, model, unique);
    if (policy === 'merge' && mergeRows(library, collider, rival, merge)) return true;
    if (policy === 'rename' && giveWay(library, collider, rival, unique, merge)) return true;
  }
  // Whoever is smaller than all that stand in its way takes their place.
  if (!found.every(({ rival }) => Buffer.compare(uuid, rival.uuid) < 0)) return false;
  const kept = found.filter(({ unique }) => policyOf(library.registry, model, unique) === 'keep-first');
  if (kept.length < found.length) return false;
  // Something else may hold it as well: then the others stay.
  return library.attempt(() => {
    const isHidden = hideRows(
      library,
      found.map(({ rival }) => rival),
    );
    if (isHidden) retake(library, collider.version, merge);
    return isHidden && !hasWaitingVersion(library, uuid);
  });
}

/** Renames the larger of the two. */
function giveWay(
  library: Library,
  collider: Collider,
  rival: StandingRow,
  unique: UniqueIndex,
  merge: MergeWaiting,
): boolean {
  const { model } = collider;
  const column = renamedColumn(library.registry, model, unique);
  if (column === null) return false;
  const isColliderLast = Buffer.compare(collider.uuid, rival.uuid) > 0;
  const loser = isColliderLast ? collider : rival;
  const over = isColliderLast
    ? cellsOverWaiting(library, model, collider.version)
    : model.ownership === 'shared'
      ? rival.cells
      : cellsHere(library, rival);
  if (over === null) return false;
  const values = isColliderLast ? collider.values : valuesOfRow(library, rival);
  const name = freeName(library, model, values, loser.uuid, unique, column);
  if (name === null) return false;
  if (!isColliderLast) return rename(library, { ...rival, cells: over }, column, name);
  const version = writeVersion(
    library,
    model,
    collider.version,
    new Map([[column.name, { value: name, target: null }]]),
    over,
  );
  recordVersionValue(library, collider, column, 'renamed', name);
  retake(library, version, merge);
  return true;
}

/** The value with a suffix from the row's own UUID, as short as is free here. */
function freeName(
  library: Library,
  model: Model,
  values: ReadonlyMap<string, unknown>,
  loser: Uint8Array,
  unique: UniqueIndex,
  column: Column,
): string | null {
  const value = values.get(column.name);
  if (value === null || value === undefined) return null;
  const digits = bytesToHex(loser);
  const old = typeof value === 'string' ? value : String(value as SqlValue);
  const endings = SUFFIX_DIGITS.map((length) => ` (${digits.slice(-length)})`);
  const base = endings.reduce((text, ending) => (text.endsWith(ending) ? text.slice(0, -ending.length) : text), old);
  for (const ending of endings) {
    const name = base + ending;
    if (name !== old && rivalsIn(library, model, unique, new Map(values).set(column.name, name), loser).length === 0)
      return name;
  }
  return null;
}

function rename(library: Library, row: StandingRow, column: Column, name: string): boolean {
  return library.attempt(() => {
    const stamp = ownStamp(library);
    recordValue(library, row, column, 'renamed', { ...stamp, value: name });
    return writeOutcome(library, row, row.cells, [{ column: column.name, sql: '?', values: [name] }], stamp);
  });
}

function retake(library: Library, version: Batch, merge: MergeWaiting): void {
  merge(joinVersions(library, [version]), []);
}
