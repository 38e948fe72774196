/**
 * Taking rows out of the tables without deleting them: they and what refers to them wait aside, as versions, until what stands in
 * their way has gone. Nothing is stamped.
 */
import { encodeBatch } from '../protocol/batch.ts';
import type { Batch } from '../protocol/types.ts';
import { hexToBytes, bytesToHex } from '../protocol/uuid.ts';
import { nodeId, referrersOf, takeOut } from './deletes.ts';
import { readVersion, targetsIn } from './join.ts';
import type { Library } from './library.ts';
import { keysHeldOutside } from './outside.ts';
import { pendingKind, putPending } from './pending.ts';
import type { StandingRow } from './rivals.ts';

/** Sets rows and all that refers to them aside. Answers false, changing nothing, when something does not allow it. */
export function hideRows(library: Library, rows: readonly StandingRow[]): boolean {
  const hidden = withReferrers(library, rows);
  if (hidden === null) return false;
  const versions = new Map<string, Batch>();
  for (const row of hidden.values()) {
    const version = readVersion(library, row.model, row.uuid);
    if (version === null) return false;
    versions.set(bytesToHex(row.uuid), version);
  }
  takeOut(library, [...hidden.values()]);
  const first = new Set(rows.map((row) => bytesToHex(row.uuid)));
  for (const row of hidden.values()) {
    const name = bytesToHex(row.uuid);
    const version = versions.get(name) as Batch;
    const gone = targetsIn(version).filter(({ uuid }) => versions.has(bytesToHex(uuid)));
    const isFirst = first.has(name);
    putPending(library, {
      ...row,
      reason: isFirst ? 'unique' : 'missing-target',
      detail: isFirst
        ? 'Another row here has its unique value, and was first.'
        : 'It refers to a row that waits itself.',
      version: encodeBatch(version),
      targets: gone.map(({ uuid }) => hexToBytes(bytesToHex(uuid))),
    });
  }
  return true;
}

/** The rows and, over any number of steps, those that refer to them; null when one of them cannot be taken out. */
function withReferrers(library: Library, rows: readonly StandingRow[]): Map<string, StandingRow> | null {
  const all = new Map<string, StandingRow>();
  for (let frontier = [...rows]; frontier.length > 0;) {
    const next: StandingRow[] = [];
    for (const row of frontier) {
      const name = nodeId(row.model, row.key);
      if (all.has(name)) continue;
      // A newer version or a delete that waits would be lost sight of.
      if (pendingKind(library, row.uuid) !== null || keysHeldOutside(library, row.model, [row.key]).length > 0)
        return null;
      all.set(name, row);
      next.push(...referrersOf(library, row.model, [row.key]));
    }
    frontier = next;
  }
  return all;
}
