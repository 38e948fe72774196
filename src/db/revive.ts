/**
 * Deletes that SQLite would have refused, had it seen the reference: RESTRICT and NO ACTION, and SET NULL or SET DEFAULT where the
 * column cannot take it. The deleted row is born again, and with it the deleted rows that it cannot do without, as a stamped write
 * of whichever device sees the conflict. What the delete would have taken along by CASCADE stays with it.
 */
import { bytesToHex } from '../protocol/uuid.ts';
import { bornAnew } from './aside.ts';
import { recordDelete } from './conflicts.ts';
import type { Doomed, Referrer } from './deletes.ts';
import { referrersOf } from './deletes.ts';
import { formatCells, parseCells, registersIn } from './cells.ts';
import type { Library } from './library.ts';
import type { ForeignKey, Model } from './model.ts';
import { rowsTable } from './model.ts';
import { forgetPending } from './pending.ts';
import { nodeId } from './removal.ts';
import type { Key } from './sql.ts';

/** What may be known of a conflict, and done about it, on this device. */
export interface Judgement {
  /** Nothing about the delete can still be on its way. */
  readonly isSettled: (row: Doomed) => boolean;
  /** The last name that the row was given, if it was deleted under another one than it has here. */
  readonly lastName: (row: Doomed) => Uint8Array | null;
  /** Nothing about the referring row can, and it stands here in its newest version. */
  readonly isReferrerSettled: (referrer: Referrer) => boolean;
  /** This device may write the row. */
  readonly mayWrite: (row: { readonly model: Model; readonly key: Key }) => boolean;
  /** This device may bear the row again. */
  readonly mayBear: (row: { readonly model: Model; readonly key: Key }) => boolean;
  /** What becomes of the referring row can be written into it: a CASCADE, a SET NULL that the column takes. */
  readonly isCarriedOut: (model: Model, foreignKey: ForeignKey) => boolean;
}

/** How the deletes stand that wait here. */
export interface Blocked {
  /** They are undone: something that stays refers to them. */
  readonly undone: readonly Doomed[];
  /** They are undone as well, but under their last names, to which what refers to them is led then: they go themselves. */
  readonly renamed: readonly Doomed[];
  /** They wait on: what refers to them may still change. */
  readonly undecided: ReadonlySet<string>;
}

interface Node {
  readonly row: Doomed | Referrer;
  readonly model: Model;
  readonly key: Key;
  /** Nodes that cannot go while this one stays. */
  readonly holds: Set<string>;
}

/** Walks from the doomed rows to all that would go with them, and back from what stays. Writes nothing. */
export function blockedDeletes(library: Library, doomed: readonly Doomed[], judge: Judgement): Blocked {
  const nodes = new Map<string, Node>(
    doomed.map((row) => [nodeOf(row), { row, model: row.model, key: row.key, holds: new Set() }]),
  );
  const standing = new Set<string>();
  const undecided = new Set<string>();
  // What was deleted under another name as well, with the node of the row that stands here under that.
  const renamed = new Map<string, string | null>();
  const byUuid = new Map(doomed.map((row) => [bytesToHex(row.uuid), nodeOf(row)]));
  for (const row of doomed) {
    const isSettled = judge.isSettled(row);
    if (!isSettled) undecided.add(nodeOf(row));
    const last = isSettled ? judge.lastName(row) : null;
    if (last === null) continue;
    const heir = byUuid.get(bytesToHex(last)) ?? null;
    renamed.set(nodeOf(row), heir);
    if (heir !== null) nodes.get(nodeOf(row))?.holds.add(heir);
  }
  for (let frontier = [...nodes.values()]; frontier.length > 0;) {
    const next: Node[] = [];
    for (const [model, keys] of byModel(frontier)) {
      for (const referrer of referrersOf(library, model, keys)) {
        const parent = nodeId(model, referrer.parentKey);
        const child = nodeId(referrer.model, referrer.key);
        const isWritten = judge.isCarriedOut(referrer.model, referrer.foreignKey);
        const goesAlong = isWritten && referrer.foreignKey.onDelete === 'CASCADE';
        const known = nodes.get(child);
        // A row that goes as well holds what it refers to only if it has to stay itself, and keeps the reference then.
        if (known !== undefined) {
          if (child !== parent && (goesAlong || !isWritten)) known.holds.add(parent);
          continue;
        }
        if (isWritten && !goesAlong) continue;
        // A row of another device's goes along as well, when its owner has heard of it.
        if (!judge.isReferrerSettled(referrer)) undecided.add(parent);
        else if (!isWritten) standing.add(parent);
        else {
          const { model: childModel, key } = referrer;
          const node = { row: referrer, model: childModel, key, holds: new Set([parent]) };
          nodes.set(child, node);
          next.push(node);
        }
      }
    }
    frontier = next;
  }
  spread(nodes, standing);
  spread(nodes, undecided);
  const blocked = doomed.filter((row) => {
    const name = nodeOf(row);
    return standing.has(name) && !undecided.has(name);
  });
  // It is for its owner to bear it again; what cannot do without it waits for that as well, or it would go again where the owner is.
  const others = new Set(blocked.filter((row) => !renamed.has(nodeOf(row)) && !judge.mayBear(row)).map(nodeOf));
  spreadBack(nodes, others);
  // What has another name is led to that first: it need not hold anything itself, and what refers to it will refer to its heir.
  const led = blocked.filter((row) => renamed.has(nodeOf(row)));
  const heirs = new Set(led.map((row) => renamed.get(nodeOf(row))));
  const later = new Set(led.map(nodeOf));
  spreadBack(nodes, later);
  spread(nodes, later);
  for (const name of [...others, ...later]) undecided.add(name);
  const undone = blocked.filter((row) => {
    const name = nodeOf(row);
    return !renamed.has(name) && !others.has(name) && (heirs.has(name) || !later.has(name));
  });
  return { undone, renamed: led, undecided };
}

function nodeOf({ model, key }: Pick<Node, 'model' | 'key'>): string {
  return nodeId(model, key);
}

/** Adds to `marked` all that the marked nodes hold. */
function spread(nodes: ReadonlyMap<string, Node>, marked: Set<string>): void {
  const queue = [...marked];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    for (const parent of nodes.get(name)?.holds ?? []) {
      if (marked.has(parent)) continue;
      marked.add(parent);
      queue.push(parent);
    }
  }
}

/** Adds to `marked` all that holds a marked node. */
function spreadBack(nodes: ReadonlyMap<string, Node>, marked: Set<string>): void {
  for (let size = -1; size !== marked.size;) {
    size = marked.size;
    for (const [name, { holds }] of nodes) if ([...holds].some((parent) => marked.has(parent))) marked.add(name);
  }
}

/** Undoes a delete that waits here: the row is born again with all that it holds. */
export function revive(library: Library, row: Doomed): void {
  const hlc = library.stampAt(library.around.now());
  recordDelete(library, row, { hlc, run: library.run });
  const map = rowsTable(row.model);
  // What was counted is kept: entries have stamps of their own, of which the new birth takes nothing.
  const cells = registersIn(parseCells(library.sql.value(`SELECT cells FROM ${map} WHERE key = ?`, row.key)));
  library.sql.run(
    `UPDATE ${map} SET birth_hlc = ?, birth_run = ?, hlc = ?, run = ?, lsn = ?, cells = ?, aside = ? WHERE key = ?`,
    hlc,
    library.run,
    hlc,
    library.run,
    library.nextLsn(),
    formatCells(cells),
    bornAnew(library.sql.value(`SELECT aside FROM ${map} WHERE key = ?`, row.key)),
    row.key,
  );
  forgetPending(library, row.uuid);
}

function byModel(nodes: readonly Node[]): Map<Model, Key[]> {
  const groups = new Map<Model, Key[]>();
  for (const { model, key } of nodes) groups.set(model, [...(groups.get(model) ?? []), key]);
  return groups;
}
