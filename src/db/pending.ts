/**
 * What waits: versions that cannot stand in the tables yet (`version` holds one as a batch of one row), and deletes that
 * cannot be carried out yet (`version` is NULL; the tombstone is in its own table, the row still in the user's).
 */
import { bytesToHex } from '../protocol/uuid.ts';
import type { Library } from './library.ts';
import type { WaitingRow } from './api.ts';
import { isUnseen } from './killed.ts';
import type { KnownVersion } from './lookup.ts';
import type { Model } from './model.ts';
import { rowsTable } from './model.ts';
import type { Key } from './sql.ts';

/** Which version of which row waits. */
export interface PendingKey {
  readonly uuid: Uint8Array;
  readonly hlc: number;
  readonly run: number;
}

/** A version or a delete that waits. */
export interface Pending extends PendingKey {
  readonly model: Model;
  readonly birthHlc: number;
  readonly birthRun: number;
  readonly reason: WaitingRow['reason'];
  /** One sentence for people. */
  readonly detail: string;
  /** The version, encoded as a batch; null for a delete. */
  readonly version: Uint8Array | null;
  /** UUIDs of the rows whose arrival may let it stand; of a delete that of the row with which it goes. */
  readonly targets: readonly Uint8Array[];
}

export function hasPending(library: Library): boolean {
  return library.sql.value('SELECT 1 FROM flotilla_pending LIMIT 1') !== undefined;
}

/**
 * Sets a version or a delete aside, in place of what waited for that row before. A version that was tried again keeps its
 * place in the feed: nothing about it is new to anybody.
 */
export function putPending(library: Library, pending: Pending): void {
  const uuid = Buffer.from(pending.uuid);
  const version = pending.version === null ? null : Buffer.from(pending.version);
  const known = library.sql.rows(
    `SELECT lsn, reason, detail FROM flotilla_pending WHERE uuid = ? AND birth_hlc = ? AND birth_run = ? AND hlc = ? AND run = ?
     AND version IS ?`,
    uuid,
    pending.birthHlc,
    pending.birthRun,
    pending.hlc,
    pending.run,
    version,
  )[0];
  if (known === undefined) {
    forgetPending(library, uuid);
    library.sql.run(
      `INSERT INTO flotilla_pending (uuid, tbl, birth_hlc, birth_run, hlc, run, lsn, reason, detail, version)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      uuid,
      pending.model.n,
      pending.birthHlc,
      pending.birthRun,
      pending.hlc,
      pending.run,
      library.nextLsn(),
      pending.reason,
      pending.detail,
      version,
    );
  } else {
    library.sql.run('DELETE FROM flotilla_waits WHERE uuid = ?', uuid);
    if (known[1] !== pending.reason || known[2] !== pending.detail) {
      library.sql.run(
        'UPDATE flotilla_pending SET reason = ?, detail = ? WHERE uuid = ?',
        pending.reason,
        pending.detail,
        uuid,
      );
    }
  }
  for (const target of pending.targets) {
    library.sql.run('INSERT OR IGNORE INTO flotilla_waits (target, uuid) VALUES (?, ?)', Buffer.from(target), uuid);
  }
}

/** Nothing waits for this row any more. */
export function forgetPending(library: Library, uuid: Uint8Array): void {
  const key = Buffer.from(uuid);
  library.sql.run('DELETE FROM flotilla_waits WHERE uuid = ?', key);
  library.sql.run('DELETE FROM flotilla_pending WHERE uuid = ?', key);
}

/** A row has come to stand here by a local write: what waits for it is tried again at the end of the next pass. */
export function noteArrival(library: Library, uuid: Uint8Array): void {
  library.sql.run('DELETE FROM flotilla_waits WHERE target = ?', Buffer.from(uuid));
}

/**
 * Versions that wait for the arrival of one of these rows, each once.
 * @param withTheirs - and those that wait for these, over any number of steps
 */
export function waitersOf(library: Library, targets: Iterable<Uint8Array>, withTheirs = false): Uint8Array[] {
  const found = new Map<string, Uint8Array>();
  const queue = [...targets];
  for (let target = queue.pop(); target !== undefined; target = queue.pop()) {
    const rows = library.sql.rows(
      `SELECT p.uuid, p.version FROM flotilla_waits w JOIN flotilla_pending p ON p.uuid = w.uuid
       WHERE w.target = ? AND p.version IS NOT NULL`,
      Buffer.from(target),
    );
    for (const [uuid, version] of rows as [Uint8Array, Uint8Array][]) {
      const name = bytesToHex(uuid);
      if (withTheirs && !found.has(name)) queue.push(uuid);
      found.set(name, version);
    }
  }
  return [...found.values()];
}

/** Versions that wait for no row: what holds them is a constraint, or has been done away with by a local write. */
export function unboundVersions(library: Library): PendingKey[] {
  return library.sql
    .rows(
      `SELECT p.uuid, p.hlc, p.run FROM flotilla_pending p
       WHERE p.version IS NOT NULL AND p.reason <> 'no-table'
       AND NOT EXISTS (SELECT 1 FROM flotilla_waits w WHERE w.uuid = p.uuid) ORDER BY p.lsn`,
    )
    .map(([uuid, hlc, run]) => ({ uuid: uuid as Uint8Array, hlc: Number(hlc), run: Number(run) }));
}

/** The versions themselves, each as a batch. */
export function readVersionsOf(library: Library, waiting: readonly PendingKey[]): Uint8Array[] {
  return waiting.map(
    ({ uuid }) =>
      library.sql.value('SELECT version FROM flotilla_pending WHERE uuid = ?', Buffer.from(uuid)) as Uint8Array,
  );
}

/**
 * Versions that wait for each other in a ring, with all that they wait for: together they can stand. `uuids` are versions that
 * have just been set aside, one of which must have closed it.
 * @param tried - what was tried before: a version is tried again only where it has come to wait for other rows
 */
export function closedRing(library: Library, uuids: Iterable<Uint8Array>, tried: Set<string>): Uint8Array[] {
  const ring = new Map<string, Uint8Array>();
  // What waits for a row that is not here at all, or that is held by something else than the lack of a row.
  const hopeless = new Set<string>();
  for (const uuid of uuids) {
    const attempt = [uuid, ...targetsOf(library, uuid)].map(bytesToHex).join();
    const reached = tried.has(attempt) ? null : reach(library, Buffer.from(uuid), hopeless);
    tried.add(attempt);
    if (reached === null) continue;
    for (const member of reached) {
      const version = library.sql.value(
        'SELECT version FROM flotilla_pending WHERE uuid = ?',
        Buffer.from(member, 'hex'),
      );
      ring.set(member, version as Uint8Array);
    }
  }
  return [...ring.values()];
}

/** All that a version waits for, over any number of steps, itself included; null if some of that cannot stand. */
function reach(library: Library, start: Buffer, hopeless: Set<string>): Set<string> | null {
  const seen = new Set<string>();
  const path: { readonly name: string; readonly left: Uint8Array[] }[] = [];
  const enter = (uuid: Uint8Array): boolean => {
    const name = bytesToHex(uuid);
    if (hopeless.has(name)) return false;
    if (seen.has(name)) return true;
    const targets = targetsOf(library, uuid);
    if (targets.length === 0) {
      hopeless.add(name);
      return false;
    }
    seen.add(name);
    path.push({ name, left: targets });
    return true;
  };
  let isPossible = enter(start);
  while (isPossible && path.length > 0) {
    const next = path.at(-1)?.left.pop();
    if (next === undefined) path.pop();
    else isPossible = enter(next);
  }
  if (isPossible) return seen;
  for (const { name } of path) hopeless.add(name);
  return null;
}

/** The rows that a version waits for; none if it is no version that waits for rows. */
function targetsOf(library: Library, uuid: Uint8Array): Uint8Array[] {
  return library.sql
    .rows(
      'SELECT w.target FROM flotilla_waits w JOIN flotilla_pending p ON p.uuid = w.uuid WHERE w.uuid = ? AND p.version IS NOT NULL',
      Buffer.from(uuid),
    )
    .map(([target]) => target as Uint8Array);
}

/** Whether all that a version waits for, over any number of steps, waits here as well, and for nothing but rows or the end of a ring. */
export function waitsForWaiting(library: Library, uuid: Uint8Array): boolean {
  const seen = new Set<string>();
  const queue = [uuid];
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    const name = bytesToHex(at);
    if (seen.has(name)) continue;
    seen.add(name);
    const kind = pendingKind(library, at);
    if (kind !== 'missing-target' && kind !== 'cycle') return false;
    queue.push(...targetsOf(library, at));
  }
  return true;
}

/** A row whose delete waits, with its key in the map table; null when the row has gone meanwhile. */
export type PendingDelete = Omit<Pending, 'targets' | 'version' | 'reason' | 'detail'> & {
  readonly key: Key | null;
  /** It was changed by somebody whose change the deleter did not know of. */
  readonly isUnseen: boolean;
  /** It goes because this device has carried out the CASCADE of another delete. */
  readonly goesAlong: boolean;
};

export function pendingDeletes(library: Library): PendingDelete[] {
  return library.registry.models.flatMap((model) =>
    library.sql
      .rows(
        `SELECT p.uuid, p.birth_hlc, p.birth_run, p.hlc, p.run, m.key, m.cells, s.seen, m.hlc, m.run,
           m.birth_hlc, m.birth_run, s.birth_hlc, s.birth_run, EXISTS (SELECT 1 FROM flotilla_waits w WHERE w.uuid = p.uuid)
         FROM flotilla_pending p LEFT JOIN ${rowsTable(model)} m ON m.uuid = p.uuid
         LEFT JOIN flotilla_tombstones s ON s.uuid = p.uuid
         WHERE p.version IS NULL AND p.tbl = ?`,
        model.n,
      )
      .map(([uuid, birthHlc, birthRun, hlc, run, key, cells, seen = null, ...stamps]) => ({
        model,
        uuid: uuid as Uint8Array,
        birthHlc: Number(birthHlc),
        birthRun: Number(birthRun),
        hlc: Number(hlc),
        run: Number(run),
        key: key as Key | null,
        isUnseen: isUnseen(
          library,
          model,
          { ...versionOf(stamps.slice(0, 4).map(Number)), cells },
          { birthHlc: Number(stamps[4]), birthRun: Number(stamps[5]), hlc: Number(hlc), run: Number(run), seen },
        ),
        goesAlong: stamps[6] === 1,
      })),
  );
}

function versionOf([hlc = 0, run = 0, birthHlc = 0, birthRun = 0]: readonly number[]): KnownVersion {
  return { hlc, run, birthHlc, birthRun };
}

/** Whether a version of the row waits, newer than what may stand here. */
export function hasWaitingVersion(library: Library, uuid: Uint8Array): boolean {
  return (
    library.sql.value('SELECT 1 FROM flotilla_pending WHERE uuid = ? AND version IS NOT NULL', Buffer.from(uuid)) !==
    undefined
  );
}

/** What waits for a row here: its delete, or a version with its reason; null for nothing. */
export function pendingKind(library: Library, uuid: Uint8Array): 'delete' | WaitingRow['reason'] | null {
  const row = library.sql.rows(
    'SELECT version IS NULL, reason FROM flotilla_pending WHERE uuid = ?',
    Buffer.from(uuid),
  )[0];
  if (row === undefined) return null;
  return row[0] === 1 ? 'delete' : (String(row[1]) as WaitingRow['reason']);
}

/** Versions that wait because another row has their unique value, in order of their UUIDs. */
export function collidingVersions(library: Library): Omit<Pending, 'targets'>[] {
  return readPending(library, "p.version IS NOT NULL AND p.reason = 'unique' ORDER BY p.uuid");
}

/** Versions that wait because they would close a ring in a tree, in order of their UUIDs. */
export function closingVersions(library: Library): Omit<Pending, 'targets'>[] {
  return readPending(library, "p.version IS NOT NULL AND p.reason = 'cycle' ORDER BY p.uuid");
}

/** The version of a row that waits; null for none. */
export function waitingVersion(library: Library, uuid: Uint8Array): Omit<Pending, 'targets'> | null {
  return readPending(library, 'p.version IS NOT NULL AND p.uuid = ?', Buffer.from(uuid))[0] ?? null;
}

/** Versions that wait for a row of which there is a tombstone, oldest first. */
export function versionsOfDeadTargets(library: Library): Omit<Pending, 'targets'>[] {
  return readPending(
    library,
    `p.version IS NOT NULL AND p.uuid IN (
       SELECT w.uuid FROM flotilla_waits w CROSS JOIN flotilla_tombstones t ON t.uuid = w.target) ORDER BY p.lsn`,
  );
}

function readPending(library: Library, condition: string, ...params: unknown[]): Omit<Pending, 'targets'>[] {
  return library.sql
    .rows(
      `SELECT p.uuid, p.tbl, p.birth_hlc, p.birth_run, p.hlc, p.run, p.reason, p.detail, p.version FROM flotilla_pending p
       WHERE ${condition}`,
      ...params,
    )
    .map(([uuid, tbl, birthHlc, birthRun, hlc, run, reason, detail, version]) => ({
      model: library.modelByNumber(Number(tbl)),
      uuid: uuid as Uint8Array,
      birthHlc: Number(birthHlc),
      birthRun: Number(birthRun),
      hlc: Number(hlc),
      run: Number(run),
      reason: String(reason) as WaitingRow['reason'],
      detail: String(detail),
      version: version as Uint8Array | null,
    }));
}
