/**
 * What waits: versions that cannot stand in the tables yet (`version` holds one as a batch of one row), and deletes that
 * cannot be carried out yet (`version` is NULL; the tombstone is in its own table, the row still in the user's).
 */
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import type { WaitingRow } from './api.ts';

/** A version or a delete that waits. */
export interface Pending {
  readonly model: Model;
  readonly uuid: Uint8Array;
  readonly birthHlc: number;
  readonly birthRun: number;
  readonly hlc: number;
  readonly run: number;
  readonly reason: WaitingRow['reason'];
  /** One sentence for people. */
  readonly detail: string;
  /** The version, encoded as a batch; null for a delete. */
  readonly version: Uint8Array | null;
  /** UUIDs of the rows whose arrival may let it stand. */
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
  const lsn = library.sql.value(
    `SELECT lsn FROM flotilla_pending WHERE uuid = ? AND birth_hlc = ? AND birth_run = ? AND hlc = ? AND run = ?
     AND (version IS NULL) = ?`,
    uuid,
    pending.birthHlc,
    pending.birthRun,
    pending.hlc,
    pending.run,
    pending.version === null ? 1 : 0,
  );
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
    lsn ?? library.nextLsn(),
    pending.reason,
    pending.detail,
    pending.version === null ? null : Buffer.from(pending.version),
  );
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

/** Versions that wait for the arrival of one of these rows. */
export function waitersOf(library: Library, targets: Iterable<Uint8Array>): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (const target of targets) {
    const rows = library.sql.rows(
      `SELECT p.version FROM flotilla_waits w JOIN flotilla_pending p ON p.uuid = w.uuid
       WHERE w.target = ? AND p.version IS NOT NULL`,
      Buffer.from(target),
    );
    for (const [version] of rows) found.push(version as Uint8Array);
  }
  return found;
}

/** All that waits, oldest first; `deletes` picks between deletes and versions. */
export function allPending(library: Library, deletes: boolean): Omit<Pending, 'targets'>[] {
  return library.sql
    .rows(
      `SELECT uuid, tbl, birth_hlc, birth_run, hlc, run, reason, detail, version FROM flotilla_pending
       WHERE (version IS NULL) = ? ORDER BY lsn`,
      deletes ? 1 : 0,
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
