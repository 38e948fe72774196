/**
 * Taking rows out of the tables without deleting them: they and what refers to them wait aside, as versions, until what stands in
 * their way has gone. Nothing is stamped.
 */
import { encodeBatch } from '../protocol/batch.ts';
import type { Batch } from '../protocol/types.ts';
import { hexToBytes, bytesToHex } from '../protocol/uuid.ts';
import { keepWhatGoes, referrersOf, takeOut, waitingDeletes } from './deletes.ts';
import { readVersion, targetsIn } from './join.ts';
import type { Library } from './library.ts';
import { keysHeldOutside } from './outside.ts';
import type { Pending } from './pending.ts';
import { forgetPending, pendingKind, putPending, waitingVersion } from './pending.ts';
import { nodeId } from './removal.ts';
import type { StandingRow } from './rivals.ts';

/** Why rows wait aside. */
interface Why extends Pick<Pending, 'reason' | 'detail' | 'targets'> {
  /**
   * They may go from the tables though newer versions of them wait already, which go on waiting, or their deletes, which are carried out: nothing
   * refers to them any more.
   */
  readonly isOvertaken?: boolean;
}

const OTHER_WAS_FIRST: Why = {
  reason: 'unique',
  detail: 'Another row here has its unique value, and was first.',
  targets: [],
};

const WITH_OTHERS: Why = {
  reason: 'missing-target',
  detail: 'It refers to a row that waits itself.',
  targets: [],
};

/** Sets rows and all that refers to them aside. Answers false, changing nothing, when something does not allow it. */
export function hideRows(library: Library, rows: readonly StandingRow[], why = OTHER_WAS_FIRST): boolean {
  const hidden = withReferrers(library, rows, why.isOvertaken === true);
  if (hidden === null) return false;
  const dying = (why.isOvertaken === true ? waitingDeletes(library) : []).filter(({ model, key }) =>
    hidden.delete(nodeId(model, key)),
  );
  const versions = new Map<string, Batch>();
  const overtaking = new Map<string, Omit<Pending, 'targets'>>();
  for (const row of hidden.values()) {
    const version = readVersion(library, row.model, row.uuid);
    if (version === null) return false;
    versions.set(bytesToHex(row.uuid), version);
    const newer = waitingVersion(library, row.uuid);
    if (newer !== null) overtaking.set(bytesToHex(row.uuid), newer);
  }
  for (const row of dying) keepWhatGoes(library, row.model, [row]);
  takeOut(library, [...hidden.values(), ...dying]);
  for (const { uuid } of dying) forgetPending(library, uuid);
  const first = new Set(rows.map((row) => bytesToHex(row.uuid)));
  for (const row of hidden.values()) {
    const name = bytesToHex(row.uuid);
    const version = versions.get(name) as Batch;
    const gone = targetsIn(version).filter(({ uuid }) => versions.has(bytesToHex(uuid)));
    const isFirst = first.has(name);
    const newer = overtaking.get(name);
    if (newer !== undefined) {
      // It is tried again at once.
      putPending(library, { ...newer, targets: [] });
      continue;
    }
    const { reason, detail, targets } = isFirst ? why : WITH_OTHERS;
    putPending(library, {
      ...row,
      reason,
      detail,
      version: encodeBatch(version),
      targets: [...targets, ...gone.map(({ uuid }) => hexToBytes(bytesToHex(uuid)))],
    });
  }
  return true;
}

/** The rows and, over any number of steps, those that refer to them; null when one of them cannot be taken out. */
function withReferrers(
  library: Library,
  rows: readonly StandingRow[],
  mayBeOvertaken: boolean,
): Map<string, StandingRow> | null {
  const all = new Map<string, StandingRow>();
  for (let frontier = [...rows]; frontier.length > 0;) {
    const next: StandingRow[] = [];
    for (const row of frontier) {
      const name = nodeId(row.model, row.key);
      if (all.has(name)) continue;
      // A newer version or a delete that waits would be lost sight of.
      const isFree = mayBeOvertaken || pendingKind(library, row.uuid) === null;
      if (!isFree || keysHeldOutside(library, row.model, [row.key]).length > 0) return null;
      all.set(name, row);
      next.push(...referrersOf(library, row.model, [row.key]));
    }
    frontier = next;
  }
  return all;
}
