/**
 * Applying a batch: one transaction that stamps what is marked, merges, takes up what waited for it, and stores cursor
 * and knowledge. When it returns, the batch is durable, and only then may it be ACKed.
 *
 * Nearly every batch can be taken as it is. So it is first tried without savepoints, several batches in one transaction, and
 * only where something of it has to be undone, each batch again in one of its own, with care.
 */
import { FlotillaError } from '../errors.ts';
import { decodeBatch } from '../protocol/batch.ts';
import type { Batch } from '../protocol/types.ts';
import type { Taken } from './api.ts';
import { Adopter } from './adopt.ts';
import { disclaimAsked } from './asked.ts';
import type { Loose } from './balance.ts';
import { balance, countLoose, prepareBalance } from './balance.ts';
import { noteUnderWay } from './beyond.ts';
import { checkClaims } from './claims.ts';
import type { Doomed } from './deletes.ts';
import type { Library } from './library.ts';
import { hear } from './heard.ts';
import { UnknownSchema, checkTables, requireKnown } from './incoming.ts';
import { requireNotRevoked, screenRecords, takeRecords } from './members.ts';
import type { Screened } from './members.ts';
import { mergeBatch } from './merge.ts';
import { MustUndo } from './merged.ts';
import { getState } from './metadata.ts';
import { closedRing, hasPending, waitersOf } from './pending.ts';
import { noteSource, sourceOf } from './newcomer.ts';
import {
  endReconciling,
  finishReconciling,
  forgetGraves,
  isLate,
  isOutdated,
  isReconcilingWith,
  noteNamed,
} from './reconcile.ts';
import { markOwnReborn, noteDangling } from './remark.ts';
import { retryWaiting, settle } from './settle.ts';
import { isForeignKeyFailure } from './sql.ts';
import { STAMP_SLICE, hasMarks, stampAll, stampExisting, stampMarks } from './stamp.ts';
import { joinVersions } from './version.ts';

/** Batches that are taken with care after one that had to be: what one of them meets, the next ones often meet too. */
const CAREFUL_BATCHES = 16;

export class Applier {
  readonly #library: Library;
  #adopter: Adopter | null;
  /** What the last page has left. */
  #takenHead = -1;
  /** So many batches are still to be taken with care. */
  #careful = 0;

  constructor(library: Library) {
    this.#library = library;
    this.#adopter = getState(library.db, 'adopting') === 1 ? new Adopter() : null;
  }

  /** Applies one batch of `peer`. Throws, changing nothing, when it is damaged or stamped in the future, or the peer was revoked. */
  apply(peer: string, page: Uint8Array): Taken {
    return this.together(peer, [page])?.[0] ?? this.alone(peer, page);
  }

  /**
   * Applies batches of `peer`, one after the other, in one transaction.
   * @returns null, with nothing changed, when they have to be taken alone: then it will be seen which of them is to blame
   */
  together(peer: string, pages: readonly Uint8Array[]): Taken[] | null {
    if (this.#careful > 0 || this.#adopter !== null) return null;
    try {
      return this.#transact(peer, decoded(pages), { holdDeletes: false, loose: null, isBold: true });
    } catch (error) {
      if (error instanceof MustUndo || isForeignKeyFailure(error)) this.#careful = CAREFUL_BATCHES;
      else if (!(error instanceof FlotillaError || error instanceof UnknownSchema)) throw error;
      return null;
    }
  }

  /** Applies one batch of `peer`, and finds a way where something of it cannot stand. Throws as {@link Applier.apply} does. */
  alone(peer: string, page: Uint8Array): Taken {
    const batch = decodeBatch(page);
    this.#careful = Math.max(0, this.#careful - 1);
    const how = { holdDeletes: false, loose: null, isBold: false };
    const taken = this.#tryToTake(peer, batch, how);
    if (!(taken instanceof Error)) return taken;
    const loose = countLoose(this.#library);
    if (loose !== null) {
      prepareBalance(this.#library, loose);
      const balanced = this.#tryToTake(peer, batch, { ...how, loose });
      if (!(balanced instanceof Error)) return balanced;
    }
    // Something that we do not see through still refers to what was deleted here: the deletes wait for it.
    const held = this.#tryToTake(peer, batch, { ...how, holdDeletes: true, loose });
    if (!(held instanceof Error)) return held;
    throw new FlotillaError(
      'PROTOCOL',
      'What the peer sent would break a foreign key here. If all devices run the current version, please report it.',
      { cause: held },
    );
  }

  /** Takes a batch, or answers with what SQLite says when a foreign key does not let it commit. */
  #tryToTake(peer: string, batch: Batch, how: Attempt): Taken | Error {
    try {
      return this.#transact(peer, [batch], how)[0] as Taken;
    } catch (error) {
      this.#adopter?.reset();
      if (!isForeignKeyFailure(error)) throw error;
      return error;
    }
  }

  /**
   * Stamps at most `limit` marks, in a transaction of its own. What a program wrote may have made room for a version that waits.
   * @returns how many it took
   */
  stamp(limit = Infinity): number {
    return this.#stamp(limit, false);
  }

  /** Tries what waits again: the tables have changed. What is marked is stamped before, in slices as always. */
  retry(): void {
    if (!hasPending(this.#library)) return;
    for (let taken = STAMP_SLICE; taken >= STAMP_SLICE;) taken = this.#stamp(STAMP_SLICE, true);
  }

  /** @param retries - tries what waits again also where there was nothing to stamp */
  #stamp(limit: number, retries: boolean): number {
    const library = this.#library;
    const take = (): number => (limit === Infinity ? stampAll(library) : stampMarks(library, limit));
    try {
      const stamped = library.transact(() => {
        const taken = take();
        if (taken > 0) this.#adopter?.reset();
        library.reached('stamp: taken');
        // Before the last slice, a row that a program has deleted or moved still has its mapping.
        if ((taken > 0 || retries) && hasPending(library) && !hasMarks(library)) {
          library.db.pragma('defer_foreign_keys = ON');
          library.withoutCapture(() =>
            retryWaiting(library, (versions, doomed) => this.#mergeAndWake(versions, false, true, doomed)),
          );
          library.reached('stamp: retried');
        }
        return taken;
      });
      library.reached('stamp: committed');
      return stamped;
    } catch (error) {
      if (!isForeignKeyFailure(error)) throw error;
      return library.transact(take);
    }
  }

  /** Decides what was left to another device until now: something here has another owner. */
  settle(): void {
    const library = this.#library;
    if (!hasPending(library)) return;
    try {
      library.transact(() => {
        stampAll(library);
        library.db.pragma('defer_foreign_keys = ON');
        library.withoutCapture(() =>
          settle(library, (versions, doomed) => this.#mergeAndWake(versions, false, true, doomed), false),
        );
      });
    } catch (error) {
      // The end of the next pass finds a way.
      if (!isForeignKeyFailure(error)) throw error;
    }
  }

  #transact(peer: string, batches: Iterable<Batch>, how: Attempt): Taken[] {
    const library = this.#library;
    let isReconciled = false;
    const taken = library.transact(() => {
      const all: Taken[] = [];
      for (const batch of batches) {
        if (isReconciled) throw new MustUndo('The commit ends what is kept in memory of a pass that reconciles.');
        all.push(this.#take(peer, batch, how));
        this.#takenHead = library.head;
        isReconciled = batch.end.floor !== undefined;
      }
      return all;
    });
    library.reached('apply: committed');
    if (isReconciled) endReconciling(library);
    if (this.#adopter !== null && taken.some(({ complete }) => complete)) this.#finishAdopting();
    return taken;
  }

  #take(peer: string, batch: Batch, how: Attempt): Taken {
    const library = this.#library;
    const { loose } = how;
    checkClaims(library, batch);
    this.#checkPass(peer, batch);
    requireKnown(library, batch);
    checkTables(library, batch);
    requireNotRevoked(library.sql, peer);
    // Commands that have written since the last page have stamped for themselves.
    if (stampAll(library) > 0 || library.head !== this.#takenHead) this.#adopter?.reset();
    library.reached('apply: stamped');
    library.db.pragma('defer_foreign_keys = ON');
    if (loose !== null) noteDangling(library, []);
    const screened = screenRecords(library, batch);
    const { head } = library;
    const changed = library.withoutCapture(() => this.#merge(peer, screened, how));
    noteSource(library, peer, batch.end.complete);
    const rows = countRows(screened.batch) + (screened.records === null ? 0 : countRows(screened.records));
    library.count('batchesIn', 1);
    library.count('rowsIn', rows);
    noteUnderWay(library, head, batch.end.complete);
    if (!disclaimAsked(library)) library.saveCursor(peer, batch.end.cursor);
    if (loose !== null) balance(library, loose);
    const { cursor, complete, remaining } = batch.end;
    const waitingCount = library.sql.number('SELECT count(*) FROM flotilla_pending');
    library.reached('apply: written');
    return {
      cursor,
      complete,
      rows,
      changed,
      remaining,
      waitingCount,
      knowledge: complete ? batch.end.knowledge : null,
      refused: screened.refused,
    };
  }

  #merge(peer: string, { batch, records }: Screened, { holdDeletes, isBold }: Attempt): number {
    const library = this.#library;
    if (isReconcilingWith(library, peer)) noteNamed(library, batch);
    // First of all, and apart: nothing of theirs waits for anything.
    const news = records === null ? 0 : takeRecords(library, records);
    const changed = news + this.#mergeAndWake(batch, holdDeletes, false, [], isBold);
    const { complete, knowledge, floor, lost } = batch.end;
    library.reached('apply: merged');
    if (!complete) return changed;
    library.learn(knowledge);
    library.reached('apply: learned');
    disclaimAsked(library);
    // What it says that it knows is durable there.
    hear(library, peer, knowledge, library.around.now());
    const gone = floor === undefined ? [] : finishReconciling(library, knowledge, floor, lost);
    if (floor !== undefined) library.reached('apply: reconciled');
    settle(library, (versions, doomed) => this.#mergeAndWake(versions, holdDeletes, true, doomed), holdDeletes);
    library.reached('apply: settled');
    forgetGraves(library, gone);
    return changed;
  }

  /** What a newcomer takes comes from one peer until it has all; a pass that reconciles ends with a floor, and no other does. */
  #checkPass(peer: string, { end }: Batch): void {
    const library = this.#library;
    const isReconciling = isReconcilingWith(library, peer);
    if (isOutdated(library, peer))
      throw new FlotillaError(
        'BUSY',
        'This device has heard from another one of deletes that are forgotten by now; it will ask again.',
      );
    if (end.complete && isLate(library, peer))
      throw new FlotillaError('BUSY', 'This device compares its rows with another one already; it will ask again.');
    if (end.complete && (end.floor !== undefined) !== isReconciling)
      throw new FlotillaError('PROTOCOL', 'The peer ends another kind of pass than it was asked for.');
    const source = sourceOf(library);
    if (source !== null && source !== '' && source !== peer)
      throw new FlotillaError('BUSY', `This device takes its first pass from ${source}; others follow.`);
  }

  /** Merges a batch, then what waited for its rows, then what waited for those. Returns how much of the batch was news. */
  #mergeAndWake(
    batch: Batch,
    holdDeletes: boolean,
    retake: boolean,
    doomed: readonly Doomed[] = [],
    isBold = false,
  ): number {
    const library = this.#library;
    const merged = mergeBatch(library, batch, { holdDeletes, retake, adopter: this.#adopter, doomed, isBold });
    const tried = new Set<string>();
    let { arrivals, held } = merged;
    while (hasPending(library) && (arrivals.length > 0 || held.length > 0)) {
      const awake = [...waitersOf(library, arrivals), ...closedRing(library, held, tried)];
      if (awake.length === 0) break;
      ({ arrivals, held } = mergeBatch(library, joinVersions(library, awake.map(decodeBatch)), {
        holdDeletes,
        retake: true,
        adopter: this.#adopter,
      }));
    }
    return merged.changed;
  }

  /** The first complete pass is done: rows here that found no equal are new. */
  #finishAdopting(): void {
    const library = this.#library;
    library.transact(() => {
      // What was written here meanwhile may refer to rows that had no identity, and has stayed behind then.
      for (const model of library.registry.models) markOwnReborn(library, model);
      for (const model of library.registry.models) stampExisting(library, model, library.around.now());
      stampAll(library);
      library.sql.run("DELETE FROM flotilla_state WHERE key = 'adopting'");
      library.reached('apply: adopted');
    });
    this.#adopter = null;
  }
}

/** How a batch is taken. */
interface Attempt {
  /** Leave every delete waiting. */
  readonly holdDeletes: boolean;
  /** What led nowhere before: SQLite may have lost count of it, see `balance.ts`, and what arrives may refer to its rows. */
  readonly loose: Loose | null;
  /** See `MergeOptions` in `merged.ts`. */
  readonly isBold: boolean;
}

/** One after the other: the objects of each are garbage before those of the next are made. */
function* decoded(pages: readonly Uint8Array[]): Generator<Batch> {
  for (const page of pages) yield decodeBatch(page);
}

function countRows(batch: Batch): number {
  const tables = batch.tables.reduce((sum, table) => sum + table.rows.length, 0);
  return batch.tombstones.reduce((sum, table) => sum + table.rows.length, tables);
}
