/** Versions of owned rows, as they arrive: which may be taken, which of two is the later, which discards what nobody knew of. */
import { decodeBatch } from '../protocol/batch.ts';
import type { TableData } from '../protocol/types.ts';
import type { Cells, LocalStamp, Order } from './cells.ts';
import { cellsOf } from './incoming.ts';
import { translateRuns } from './join.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { standingOf } from './owners.ts';
import { compareTenures, hasSeen, tenureOf } from './tenure.ts';
import type { Tenure } from './tenure.ts';

/** A version's stamp, and its cells with its tenure among them. */
type OwnedVersion = LocalStamp & { readonly cells: Cells };

/** Which versions may be taken, with one look-up for all of one title. */
export class Standings {
  readonly #library: Library;
  readonly #known = new Map<string, ReturnType<typeof standingOf>>();

  constructor(library: Library) {
    this.#library = library;
  }

  of(birthRun: number, run: number, tenure: Tenure): ReturnType<typeof standingOf> {
    const { title } = tenure;
    const name = title === null ? `${birthRun} ${run}` : `${title.hlc}@${title.run} ${run} ${title.isTransfer}`;
    let standing = this.#known.get(name);
    if (standing === undefined) {
      standing = standingOf(this.#library, birthRun, run, tenure);
      this.#known.set(name, standing);
    }
    return standing;
  }
}

/** Orders two versions with the same birth. */
export function compareOwned(library: Library, a: OwnedVersion, b: OwnedVersion): number {
  const order: Order = (hlcA, runA, hlcB, runB) => library.compare(hlcA, runA, hlcB, runB);
  return compareTenures(order, tenureOf(a.cells), tenureOf(b.cells)) || order(a.hlc, a.run, b.hlc, b.run);
}

/** Whether a version that is written over the one here was written by somebody who did not know of that. */
export function isUnseenOwned(library: Library, version: OwnedVersion, here: OwnedVersion): boolean {
  // Of one that was set aside as not ours to write, a record has been made.
  if (here.hlc === 0) return false;
  return !hasSeen({ run: version.run, tenure: tenureOf(version.cells) }, here, (run) => library.runDevice(run));
}

/** The cells of the version that waits for a row. */
export function cellsWaiting(library: Library, model: Model, uuid: Uint8Array): Cells {
  const version = library.sql.value(
    'SELECT version FROM flotilla_pending WHERE uuid = ? AND version IS NOT NULL',
    Buffer.from(uuid),
  );
  if (!(version instanceof Uint8Array)) return new Map();
  const batch = decodeBatch(version);
  return cellsOf(model, batch.tables[0] as TableData, 0, translateRuns(library, batch));
}
