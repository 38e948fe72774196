/**
 * Stamping of owned rows: whose they were when they were written, under which tenure a write of ours stands, and what becomes
 * of a write that was not ours to make.
 */
import type { SqlValue } from '../protocol/types.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import { askFor } from './asked.ts';
import { formatCells } from './cells.ts';
import type { Order } from './cells.ts';
import { recordRow } from './conflicts.ts';
import { recordReplaced } from './given-up.ts';
import { readVersion } from './join.ts';
import type { Library } from './library.ts';
import { getState, setState } from './metadata.ts';
import type { Model } from './model.ts';
import { rowsTable } from './model.ts';
import type { Owner, OwnerBefore, Root, Written } from './owners.ts';
import { Owners, anyTransfers, cellsOfBirth, ownerOfRoot } from './owners.ts';
import { cellsWaiting } from './owned-versions.ts';
import type { Pending } from './pending.ts';
import { forgetPending, hasPending, waitingVersion } from './pending.ts';
import type { Key } from './sql.ts';
import { jsonKeys } from './sql.ts';
import { compareTenures, tenureOf } from './tenure.ts';

/** A row that marks concern, as far as its owner goes. */
interface OwnedSlot {
  readonly model: Model;
  readonly mapped: (Root & { readonly key: Key }) | null;
  readonly ownedBy: SqlValue;
  owner: Owner | null;
}

/** Finds the owners of the rows that marks concern, as they were before: call it as long as the map is what it was then. */
export function ownersOfMarks(library: Library, slots: readonly OwnedSlot[]): void {
  const owned = slots.filter(({ model, mapped }) => model.ownership === 'device' && mapped !== null);
  if (owned.length === 0) return;
  const owners = new Owners(library, ownerBeforeMarks(library));
  for (const model of new Set(owned.map((slot) => slot.model))) {
    if (model.ownedBy === null) continue;
    const unknown = owned.filter((slot) => slot.model === model && slot.ownedBy === null);
    owners.prepare(
      model,
      unknown.map(({ mapped }) => mapped?.key ?? 0),
    );
  }
  const hasTransfers = anyTransfers(library);
  for (const slot of owned) {
    const { model, mapped } = slot;
    if (mapped === null) continue;
    slot.owner =
      model.ownedBy === null
        ? ownerOfRoot(library, mapped, hasTransfers)
        : owners.of(model, mapped.key, slot.ownedBy ?? undefined);
  }
}

/**
 * A row between an owned one and its root may have been moved or deleted by later marks than these, so all that there are must be
 * asked. They have no index, which every write would pay for: they are read once a slice, and only where there are such rows.
 */
function ownerBeforeMarks(library: Library): OwnerBefore {
  let values: Map<string, SqlValue> | null = null;
  return (model, key) => {
    values ??= readOwnerMarks(library);
    return values.get(`${model.n}:${String(key)}`);
  };
}

function readOwnerMarks(library: Library): Map<string, SqlValue> {
  const { models } = library.registry;
  const between = models.filter(
    (model) => model.ownedBy !== null && models.some((other) => other.ownedBy?.table === model.table),
  );
  const values = new Map<string, SqlValue>();
  if (between.length === 0) return values;
  for (const [table, key, owner] of library.sql.rows(
    'SELECT tbl, old, owner FROM flotilla_marks WHERE owner IS NOT NULL AND tbl IN (SELECT value FROM json_each(?)) ORDER BY n',
    jsonKeys(between.map(({ n }) => n)),
  )) {
    const place = `${String(table)}:${String(key)}`;
    if (!values.has(place)) values.set(place, owner ?? null);
  }
  return values;
}

/** Rows that have just been born under a root that was transferred to this device say so. @param head - last lsn before they were */
export function titleBirths(library: Library, model: Model, head: number): void {
  if (model.ownedBy === null || !anyTransfers(library)) return;
  const keys = library.sql.rows(`SELECT key FROM ${rowsTable(model)} WHERE lsn > ?`, head).map(([key]) => key as Key);
  const owners = new Owners(library);
  owners.prepare(model, keys);
  for (const key of keys) {
    const owner = owners.of(model, key);
    if (owner === null || owner.transfer === null || owner.device !== library.around.device) continue;
    library.sql.run(
      `UPDATE ${rowsTable(model)} SET cells = ? WHERE key = ?`,
      formatCells(cellsOfBirth(library, owner)),
      key,
    );
  }
}

/** What a write of ours is written over. */
export interface Base extends Written {
  readonly birthHlc: number;
  /** The version that waited here, and of which whoever writes now has not seen anything. */
  readonly overtakes?: Omit<Pending, 'targets'>;
}

/**
 * A local write of an owned row overtakes a version that waits here: it is written over that one where it is the later, which
 * would win over it elsewhere. One whose right to be here is not known yet goes on waiting.
 */
export function overtaken(library: Library, model: Model, row: Base & { readonly uuid: Uint8Array }): Base {
  const waiting = hasPending(library) ? waitingVersion(library, row.uuid) : null;
  if (waiting === null || waiting.version === null || waiting.reason === 'not-owner') return row;
  const { birthHlc, birthRun, hlc, run } = waiting;
  const cells = cellsWaiting(library, model, row.uuid);
  forgetPending(library, row.uuid);
  const order: Order = (hlcA, runA, hlcB, runB) => library.compare(hlcA, runA, hlcB, runB);
  const isLater =
    order(birthHlc, birthRun, row.birthHlc, row.birthRun) ||
    compareTenures(order, tenureOf(cells), tenureOf(row.cells)) ||
    order(hlc, run, row.hlc, row.run);
  return { ...(isLater > 0 ? { birthHlc, birthRun, hlc, run, cells } : row), overtakes: waiting };
}

/** Records the version that a write of ours, which has just been stamped, has overtaken: what is written says that it is known here. */
export function recordOvertakes(library: Library, { overtakes }: Base): void {
  const { hlc, run } = library;
  if (overtakes === undefined || overtakes.run === run) return;
  const version = readVersion(library, overtakes.model, overtakes.uuid);
  recordReplaced(library, overtakes, 'later-write', { hlc, run, version });
}

/**
 * A write that no guard saw of a row that was not ours to write. It is recorded, and the row is asked for again: we forget that
 * we know its version, and our places in the feeds of others, so that whoever has it sends it. Until then whatever comes of its
 * owner is newer.
 */
export function revert(
  library: Library,
  model: Model,
  row: Root & { readonly hlc: number; readonly run: number },
): void {
  // It may have made way for a row of ours a moment ago (`misplaced.ts`).
  const here = `SELECT 1 FROM ${rowsTable(model)} WHERE uuid = ? AND birth_hlc = ? AND birth_run = ?`;
  if (library.sql.value(here, Buffer.from(row.uuid), row.birthHlc, row.birthRun) === undefined) return;
  const at = { hlc: library.stampAt(library.around.now()), run: library.run };
  recordRow(library, model, row.uuid, 'ownership', row, { at });
  askFor(library, model, row);
}

/** A row that went in such a write: it is to be taken again though its birth is known, as that of a row that was deleted. */
export function noteLost(library: Library, uuid: Uint8Array): void {
  setState(library.db, lostKey(uuid), 1);
}

/** Whether a row is waited for that went without a delete; it is not any more. */
export function takeLost(library: Library, uuid: Uint8Array): boolean {
  if (getState(library.db, lostKey(uuid)) !== 1) return false;
  library.sql.run('DELETE FROM flotilla_state WHERE key = ?', lostKey(uuid));
  return true;
}

function lostKey(uuid: Uint8Array): string {
  return `lost ${bytesToHex(uuid)}`;
}
