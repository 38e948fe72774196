/**
 * Merging one batch into the tables, inside the caller's transaction: later birth wins whole, then the later change; a row
 * lives if its birth is later than its tombstone; what cannot stand yet waits. The result does not depend on the order of
 * batches, nor on how often they come.
 */
import { encodeBatch } from '../protocol/batch.ts';
import type { Batch, TableData, TombstoneData } from '../protocol/types.ts';
import { noteBlocker } from './blockers.ts';
import type { Doomed } from './deletes.ts';
import { carryOutDeletes, stillHere } from './deletes.ts';
import type { Hold, Incoming, Outcome } from './incoming.ts';
import { cellsOf, firstOfEach, referencesIn, splitVersions } from './incoming.ts';
import type { Library } from './library.ts';
import type { Found, KnownPending, KnownRow, KnownTombstone } from './lookup.ts';
import { LeftNames, awaitHeirs, meanHeirs } from './left-names.ts';
import type { Heirless } from './left-names.ts';
import { birthOf, lookUp } from './lookup.ts';
import type { MergeOptions, Merged } from './merged.ts';
import { MustUndo, both } from './merged.ts';
import type { Judged } from './judged.ts';
import { PLAIN, holdFor, isPlain, keptBeside, lostIn, withShown } from './judged.ts';
import { LooseKeys, canOverwriteTogether } from './loose.ts';
import type { ForeignKey, Model } from './model.ts';
import { canPark, parkAll } from './park.ts';
import { forgetPending, putPending } from './pending.ts';
import { danglingKeys, hasDangling, touchDangling, touchMended } from './remark.ts';
import { changesOf } from './overwrite.ts';
import { noteRivalNames } from './rival-names.ts';
import { RowWriter } from './rows.ts';
import { TreeMoves } from './cycles.ts';
import type { Key } from './sql.ts';
import { cutVersion } from './version.ts';
import { absorbIntoWaiting } from './absorb.ts';
import type { AsideValue } from './aside.ts';
import { parseAside, withUnset } from './aside.ts';
import { asideOf, joinAside } from './late.ts';
import type { Cells, LocalStamp, Order } from './cells.ts';
import { formatSeen, isUnset, joinCells, lastChange, parseCells } from './cells.ts';
import { recordOverwritten } from './conflicts.ts';
import { recordDead, recordOvertaken } from './given-up.ts';
import { TRANSFERS_TABLE } from './choose.ts';
import { storeGrave } from './graves.ts';
import { compareGraves, isKilled, isUnseen, tenureOfGrave } from './killed.ts';
import { tenureOf } from './tenure.ts';
import { joinVersion, readVersion, translateRuns } from './join.ts';
import { takeLost } from './owned-marks.ts';
import { Standings, cellsWaiting, compareOwned, isUnseenOwned } from './owned-versions.ts';

/** A tombstone of the batch: its stamp, and the birth of what died. */
interface Buried extends KnownTombstone {
  readonly model: Model;
  readonly index: number;
}

/** Merges a batch. Constraint failures set single rows aside and begin again without them. */
export function mergeBatch(library: Library, batch: Batch, options: MergeOptions): Merged {
  if (batch.tables.length === 0 && batch.tombstones.length === 0) return { changed: 0, arrivals: [], held: [] };
  const transfers = batch.tables.filter(({ table }) => table === TRANSFERS_TABLE);
  if (transfers.length > 0 && transfers.length < batch.tables.length + batch.tombstones.length) {
    // What was written under them comes after them.
    const others = batch.tables.filter(({ table }) => table !== TRANSFERS_TABLE);
    const known = mergeBatch(library, { ...batch, tables: transfers, tombstones: [] }, options);
    return both(known, mergeBatch(library, { ...batch, tables: others }, options));
  }
  const [first, rest] = splitVersions(batch);
  const merged = mergeOnce(library, first, options);
  if (rest === null) return merged;
  return both(merged, mergeOnce(library, rest, options));
}

/** @param awaits - what refers to rows that are written over is to wait for their heirs, unless these stand */
function mergeOnce(library: Library, batch: Batch, options: MergeOptions, awaits = true): Merged {
  const found = lookUp(library, batch, translateRuns(library, batch));
  meanHeirs(library, batch, found);
  const absorbed = options.retake ? null : absorbIntoWaiting(library, batch, found);
  if (absorbed !== null) {
    const merged = mergeBatch(library, absorbed.rest, options);
    if (absorbed.versions === null) return merged;
    return both(merged, mergeBatch(library, absorbed.versions, { ...options, retake: true }));
  }
  const holds = new Map<number, Hold>();
  let mayExchange = true;
  for (;;) {
    const merge = new Merge(library, batch, found, options, holds, awaits);
    if (options.isBold === true) {
      if (merge.run()) return merge.result;
      throw new MustUndo('Something in the batch cannot stand as it is.');
    }
    if (library.attempt(() => merge.run())) return merge.result;
    options.adopter?.reset();
    if (merge.heirless.length > 0) {
      awaitHeirs(library, merge.heirless);
      return mergeOnce(library, batch, options, false);
    }
    if (mayExchange && [...merge.failures.values()].some(({ reason }) => reason === 'unique')) {
      const exchanged = exchange(library, batch, found, options, holds, awaits);
      if (exchanged !== null) return exchanged;
      mayExchange = false;
    }
    for (const [index, hold] of merge.failures) holds.set(index, hold);
  }
}

/** Tries again with the rows out of each other's way in unique indexes. Null when that is of no help. */
function exchange(
  library: Library,
  batch: Batch,
  found: Found,
  options: MergeOptions,
  given: ReadonlyMap<number, Hold>,
  awaits: boolean,
): Merged | null {
  const holds = new Map(given);
  for (;;) {
    const merge = new Merge(library, batch, found, options, holds, awaits, true);
    if (library.attempt(() => merge.run())) return merge.result;
    options.adopter?.reset();
    if (merge.failures.size === 0) return null;
    for (const [index, hold] of merge.failures) holds.set(index, hold);
  }
}

class Merge {
  readonly result: Merged = { changed: 0, arrivals: [], held: [] };
  /** What has to be taken out of the tables before it can be begun again. */
  heirless: readonly Heirless[] = [];
  readonly #library: Library;
  readonly #batch: Batch;
  readonly #found: Found;
  readonly #options: MergeOptions;
  readonly #holds: ReadonlyMap<number, Hold>;
  readonly #awaits: boolean;
  readonly #parks: boolean;
  /** See `firstOfEach`. The arrays below are by that index. */
  readonly #first: readonly number[] | null;
  readonly #rows: RowWriter;
  /** Will be inserted: key not given yet. */
  readonly #coming: boolean[] = [];
  /** Tombstones of this batch that are newer than what is here. */
  readonly #buried: (Buried | undefined)[] = [];
  /** The version that waited here has died in this batch. */
  readonly #dropped: boolean[] = [];
  /** Rows of which the batch has a version, by dictionary index; null until somebody asks. */
  #brought: Set<number> | null = null;
  readonly #standings: Standings;

  constructor(
    library: Library,
    batch: Batch,
    found: Found,
    options: MergeOptions,
    holds: ReadonlyMap<number, Hold>,
    awaits: boolean,
    parks = false,
  ) {
    this.#library = library;
    this.#batch = batch;
    this.#found = found;
    this.#options = options;
    this.#holds = holds;
    this.#awaits = awaits;
    this.#parks = parks;
    this.#first = firstOfEach(batch);
    this.#rows = new RowWriter(library, batch, found, this.#first);
    this.#standings = new Standings(library);
  }

  /** Rows that a constraint refused, by dictionary index. */
  get failures(): Map<number, Hold> {
    return this.#rows.failures;
  }

  /** @returns false when it must be undone: constraints refused rows, or a row is still parked */
  run(): boolean {
    const library = this.#library;
    this.#mergeTombstones();
    const incoming = this.#newer();
    this.#holdUnresolved(incoming);
    this.#rows.giveKeys(incoming, this.#options.adopter);
    const standing = incoming.filter((row) => row.hold === null);
    const loose = new LooseKeys(library, this.#rows);
    // What stays behind, and what is discarded unseen, is to be seen before anything makes room for others.
    const stayed = hasDangling(library) ? this.#stayed(standing) : null;
    const left = new LeftNames(library, this.#rows);
    if (!this.#options.retake)
      for (const row of incoming)
        if (row.isUpdate && this.#waiting(row.index)?.isDelete !== false)
          left.before(row, this.#found.rows[row.index], this.#tombstone(row.index));
    for (const buried of this.#buried) {
      const row = buried === undefined ? undefined : this.#found.rows[buried.index];
      if (buried !== undefined && row !== undefined && !this.#isKilled(buried.index, buried, row))
        left.beside(buried.model, buried.index, row);
    }
    if (this.#awaits) this.heirless = left.heirless(standing);
    if (this.heirless.length > 0 || !this.#rows.follow()) return false;
    for (const row of standing) if (row.outcome.unseen.size > 0) recordOverwritten(library, row, this.#rows);
    const going = this.#doomed(incoming);
    const doomed = this.#parks ? parkAll(library, standing, going, this.#rows, loose) : going;
    if (doomed === null || !this.#write(standing, loose, stayed)) return false;
    left.follow(standing);
    for (const row of incoming) {
      const waiting = this.#options.retake ? undefined : this.#waiting(row.index);
      if (waiting?.isDelete === false)
        recordOvertaken(library, waiting, row, this.#rows.uuidOf(row.index), this.#birth(row.index), this.#batch);
    }
    for (const row of standing)
      if (this.#found.pending[row.index] !== undefined) forgetPending(library, this.#rows.uuidOf(row.index));
    for (const row of incoming) if (row.hold !== null) this.#setAside(row, row.hold);
    carryOutDeletes(library, doomed, undefined, this.#options.holdDeletes);
    this.result.changed += incoming.length;
    return !this.#parks || stillHere(library, doomed).every(({ model }) => !canPark(library, model));
  }

  /** The foreign keys of rows that stayed behind here, by dictionary index. */
  #stayed(standing: readonly Incoming[]): Map<number, ForeignKey[]> {
    const updated = standing.filter((row) => row.isUpdate);
    return new Map(
      updated.map(({ model, index }) => [index, danglingKeys(this.#library, model, this.#rows.uuidOf(index))]),
    );
  }

  #write(
    standing: readonly Incoming[],
    loose: LooseKeys,
    stayed: ReadonlyMap<number, readonly ForeignKey[]> | null,
  ): boolean {
    const library = this.#library;
    const { head } = library;
    const moves = new TreeMoves(library, this.#rows);
    for (const model of library.registry.models) {
      const rows = standing.filter((row) => row.model === model);
      if (rows.length === 0) continue;
      const born = rows.filter((row) => !row.isUpdate);
      this.#rows.insert(model, born);
      for (const row of born) {
        this.result.arrivals.push(this.#rows.uuidOf(row.index));
        if (this.#options.retake || this.#tombstone(row.index) !== undefined) moves.born(row);
      }
      if (stayed !== null && this.failures.size === 0)
        for (const row of born) touchDangling(library, model, this.#rows.uuidOf(row.index), head);
      const newer = rows.filter((row) => row.isUpdate);
      if (canOverwriteTogether(library, model)) {
        const changes = changesOf(library, model, newer, this.#rows);
        for (const row of newer) moves.before(row, changes.get(row));
        this.#rows.updateTogether(model, newer, changes);
        continue;
      }
      for (const row of newer) {
        loose.before(model, this.#rows.keyOf(row.index) as Key, row.index);
        moves.before(row);
        this.#rows.update(row);
        const keys = stayed?.get(row.index) ?? [];
        if (keys.length > 0) touchMended(library, model, this.#rows.uuidOf(row.index), keys);
      }
    }
    if (this.failures.size > 0) return false;
    const broken = loose.broken(standing);
    for (const [index, detail] of broken)
      if (index !== null) this.failures.set(index, { reason: 'constraint', detail });
    if (broken.size > 0) return false;
    for (const [index, hold] of moves.closing()) this.failures.set(index, hold);
    return this.failures.size === 0;
  }

  #at(index: number): number {
    return this.#first === null ? index : (this.#first[index] ?? index);
  }

  // -- what is newer

  #mergeTombstones(): void {
    const library = this.#library;
    for (const table of this.#batch.tombstones) {
      const model = library.arriving(table.table);
      table.rows.forEach((index, i) => {
        const hlc = table.hlc[i] ?? 0;
        const run = this.#found.runs[table.run[i] ?? 0] ?? 0;
        const { birthHlc, birthRun } = this.#birth(index);
        library.sawHlc(hlc);
        const seen = formatSeen(this.#seen(table, i));
        const tenure = tenureOfGrave(seen);
        // A transfer that is not known yet hides no delete: there is nothing that could be written over it meanwhile.
        if (model.ownership === 'device' && this.#standings.of(birthRun, run, tenure) === 'invalid') return;
        const known = this.#found.tombstones[index];
        const alias = table.alias[i] ?? -1;
        const grave = { birthHlc, birthRun, hlc, run, seen };
        const heir = alias < 0 ? null : this.#rows.uuidOf(alias);
        if (known !== undefined) noteRivalNames(library, model, this.#rows.uuidOf(index), known, grave, heir);
        if (known !== undefined && compareGraves(library, model, grave, known) <= 0) return;
        const waiting = this.#found.pending[index];
        if (
          known === undefined &&
          this.#found.rows[index] === undefined &&
          waiting === undefined &&
          library.knows(run, hlc) &&
          !this.#brings(index)
        )
          return;
        storeGrave(library, model, this.#rows.uuidOf(index), grave, heir);
        this.result.changed += 1;
        const buried = { model, index, ...grave };
        this.#buried[this.#at(index)] = buried;
        if (waiting !== undefined && !waiting.isDelete && this.#isKilled(index, buried, waiting)) {
          recordDead(library, model, this.#rows.uuidOf(index), buried);
          forgetPending(library, this.#rows.uuidOf(index));
          this.#dropped[this.#at(index)] = true;
        }
      });
    }
  }

  /** Whether a version of a row comes along, which its delete must not let in, known and forgotten as it may be. */
  #brings(index: number): boolean {
    this.#brought ??= new Set(this.#batch.tables.flatMap(({ rows }) => rows.map((row) => this.#at(row))));
    return this.#brought.has(this.#at(index));
  }

  /** What the deleter of a row had seen of it. */
  #seen({ seen }: TombstoneData, position: number): LocalStamp[] {
    const from = seen.row.indexOf(position);
    if (from < 0) return [];
    const after = seen.row.findIndex((row, i) => i > from && row !== position);
    return seen.hlc
      .slice(from, after < 0 ? undefined : after)
      .map((hlc, i) => ({ hlc, run: this.#found.runs[seen.run[from + i] ?? 0] ?? 0 }));
  }

  /** The version that stands or waits here dies of a tombstone. */
  #isKilled(index: number, tombstone: Buried, version: KnownRow | KnownPending): boolean {
    const { model } = tombstone;
    return isKilled(this.#library, model, tombstone, version, this.#cellsHere(model, index, version));
  }

  #cellsHere(model: Model, index: number, version: KnownRow | KnownPending): Cells {
    if ('cells' in version) return parseCells(version.cells);
    return model.ownership === 'shared' ? NO_CELLS : cellsWaiting(this.#library, model, this.#rows.uuidOf(index));
  }

  /** Rows that the tombstones of this batch kill, unless a version of a later birth has come or waits: that one lives. */
  #doomed(incoming: readonly Incoming[]): Doomed[] {
    const doomed = this.#parks ? stillHere(this.#library, this.#options.doomed ?? []) : [];
    if (this.#buried.length === 0) return doomed;
    const reborn = new Set(incoming.map((row) => this.#at(row.index)));
    this.#buried.forEach((tombstone, at) => {
      if (tombstone === undefined || reborn.has(at)) return;
      const row = this.#found.rows[tombstone.index];
      if (row === undefined || !this.#isKilled(tombstone.index, tombstone, row)) return;
      const other = this.#waiting(tombstone.index);
      if (other !== undefined && !other.isDelete) return;
      const { birthHlc, birthRun } = row;
      const discards = isUnseen(this.#library, tombstone.model, row, tombstone);
      doomed.push({
        ...(discards ? { discards: tombstone.model.ownership === 'shared' ? 'deleted' : 'ownership' } : {}),
        model: tombstone.model,
        key: this.#rows.keyOf(tombstone.index) ?? row.key,
        uuid: this.#rows.uuidOf(tombstone.index),
        birthHlc,
        birthRun,
        hlc: tombstone.hlc,
        run: tombstone.run,
      });
    });
    return doomed;
  }

  #waiting(index: number): KnownPending | undefined {
    return this.#dropped[this.#at(index)] === true ? undefined : this.#found.pending[index];
  }

  #tombstone(index: number): KnownTombstone | undefined {
    return this.#buried[this.#at(index)] ?? this.#found.tombstones[index];
  }

  /** The versions of the batch that are newer than what is here, held ones included. */
  #newer(): Incoming[] {
    const incoming: Incoming[] = [];
    for (const table of this.#batch.tables) {
      const model = this.#library.arriving(table.table);
      for (let position = 0; position < table.rows.length; position += 1) {
        const row = this.#judge(model, table, position);
        if (row !== null) incoming.push(row);
      }
    }
    return incoming;
  }

  #judge(model: Model, table: TableData, position: number): Incoming | null {
    const library = this.#library;
    const index = table.rows[position] ?? 0;
    const { birthHlc, birthRun } = this.#birth(index);
    const hlc = table.hlc[position] ?? 0;
    const run = this.#found.runs[table.run[position] ?? 0] ?? 0;
    library.sawHlc(hlc);
    library.sawHlc(birthHlc);
    const isOwned = model.ownership === 'device';
    const cells = isOwned ? cellsOf(model, table, position, this.#found.runs) : NO_CELLS;
    const standing = isOwned ? this.#standings.of(birthRun, run, tenureOf(cells)) : 'valid';
    if (standing === 'invalid') return null;
    const tombstone = this.#tombstone(index);
    if (tombstone !== undefined && isKilled(library, model, tombstone, { birthHlc, birthRun }, cells)) return null;
    const row = this.#found.rows[index];
    const waiting = this.#waiting(index);
    const known = waiting !== undefined && !waiting.isDelete ? waiting : row;
    if (known === undefined) {
      // All of it was merged here, and the row is not here: it was deleted and pruned. (Not where its tombstone is here, which it
      // has just been found to outlive; and of a table that was here once, nothing is left that could tell. Where its last change is
      // news, it stayed behind somewhere.)
      const isKnown = library.knows(birthRun, birthHlc) && library.knows(run, hlc);
      const isPruned = tombstone === undefined && isKnown && !this.#options.retake && !model.isAbsent;
      if (isPruned && !(isOwned && takeLost(library, this.#rows.uuidOf(index)))) return null;
    } else {
      const births = library.compare(birthHlc, birthRun, known.birthHlc, known.birthRun);
      if (births < 0) return null;
      // Columns are compared one by one, unless a version that waits has brought them here.
      const isByColumn = births === 0 && model.ownership === 'shared';
      const order =
        births ||
        (isOwned
          ? compareOwned(library, { hlc, run, cells }, { ...known, cells: this.#cellsHere(model, index, known) })
          : Number(isByColumn) || library.compare(hlc, run, known.hlc, known.run));
      if (order < 0 || (order === 0 && !(this.#options.retake && known === waiting))) return null;
    }
    const outcome = this.#outcome(model, table, position, row);
    if (outcome === null) return null;
    const own = model.isAbsent ? NO_TABLE : (this.#holds.get(index) ?? null);
    const hold = own ?? (standing === 'unknown' ? UNKNOWN_TRANSFER : outcome.hold);
    this.#coming[this.#at(index)] = row === undefined && hold === null;
    return { model, table, position, index, isUpdate: row !== undefined, isPaired: false, hold, outcome };
  }

  /** What a version that is newer than `row` makes of it. Null when nothing: it brings no column that is newer. */
  #outcome(model: Model, table: TableData, position: number, row: KnownRow | undefined): Judged | null {
    const outcome = this.#joined(model, table, position, row);
    const policies = this.#library.policies(model);
    return outcome === null || policies.size === 0 ? outcome : withShown(policies, outcome);
  }

  #joined(model: Model, table: TableData, position: number, row: KnownRow | undefined): Judged | null {
    const library = this.#library;
    const policies = library.policies(model);
    const index = table.rows[position] ?? 0;
    const { birthHlc, birthRun } = this.#birth(index);
    const stamp = { hlc: table.hlc[position] ?? 0, run: this.#found.runs[table.run[position] ?? 0] ?? 0 };
    const theirs = cellsOf(model, table, position, this.#found.runs);
    const whole = isPlain(model, theirs, policies)
      ? { ...stamp, ...PLAIN }
      : this.#asBrought(model, table, position, stamp, theirs);
    if (row === undefined) return whole;
    const isReborn = library.compare(birthHlc, birthRun, row.birthHlc, row.birthRun) > 0;
    if (isReborn) {
      // Whoever deleted the row that is here, or wrote it, has seen it.
      const tombstone = this.#tombstone(index);
      const hasSeen = tombstone !== undefined && !isUnseen(library, model, row, tombstone);
      if (hasSeen) return whole;
      const lost = lostIn(model, row, parseCells(row.cells), birthRun);
      return { ...whole, unseen: new Set(lost.keys()), lost, rule: 'later-birth' };
    }
    const aside = parseAside(row.aside);
    const ours = withUnset(model, birthHlc, birthRun, parseCells(row.cells), aside);
    if (model.ownership === 'device') {
      if (!isUnseenOwned(library, whole, { ...row, cells: ours })) return whole;
      const lost = lostIn(model, row, NO_CELLS, null);
      return { ...whole, unseen: new Set(lost.keys()), lost, rule: 'ownership' };
    }
    const joined = joinCells(this.#order, ours, theirs, policies);
    if (joined.taken.size === 0 && !this.#options.retake) return null;
    return {
      ...lastChange(this.#order, { hlc: birthHlc, run: birthRun }, joined.cells),
      ...keptBeside(
        library,
        model,
        birthHlc,
        joined.cells,
        joinAside(model, aside, this.#aside(model, table, position), joined.taken),
      ),
      taken: joined.taken,
      unseen: joined.unseen,
      lost: ours,
      rule: 'later-write',
      shown: NOTHING_SHOWN,
      hold: holdFor(joined.fault),
    };
  }

  /** A version that is written as a whole. */
  #asBrought(model: Model, table: TableData, position: number, stamp: LocalStamp, theirs: Cells): Judged {
    const { cells, fault } = joinCells(this.#order, NO_CELLS, theirs, this.#library.policies(model));
    const { birthHlc } = this.#birth(table.rows[position] ?? 0);
    // What it has no value in stays said.
    const all = new Map([...cells, ...[...theirs].filter(([number, cell]) => isUnset(number, cell))]);
    return {
      ...PLAIN,
      ...stamp,
      ...keptBeside(this.#library, model, birthHlc, all, this.#aside(model, table, position)),
      hold: holdFor(fault),
    };
  }

  #aside(model: Model, table: TableData, position: number): ReadonlyMap<number, AsideValue> {
    return asideOf(model, this.#batch, table, position, this.#found.runs);
  }

  readonly #order: Order = (hlcA, runA, hlcB, runB) => this.#library.compare(hlcA, runA, hlcB, runB);

  /** Rows that refer to something that is not here wait, and so do new rows that refer to those. */
  #holdUnresolved(incoming: readonly Incoming[]): void {
    const referrers = new Map<number, Incoming[]>();
    const queue: Incoming[] = [];
    const hold = (row: Incoming, target: number, isLed = false): void => {
      row.hold = this.#reasonFor(target, isLed);
      this.#coming[this.#at(row.index)] = false;
      queue.push(row);
    };
    for (const row of incoming) {
      if (row.hold !== null) continue;
      for (const references of referencesIn(row)) {
        if (this.#rows.targetOf(references, row) !== undefined) continue;
        const target = references.refs[row.position] ?? -1;
        if (this.#coming[this.#at(target)] !== true) {
          hold(row, target, this.#rows.ledOf(references, row) !== undefined);
          break;
        }
        const list = referrers.get(this.#at(target));
        if (list === undefined) referrers.set(this.#at(target), [row]);
        else list.push(row);
      }
    }
    for (let row = queue.pop(); row !== undefined; row = queue.pop()) {
      if (row.isUpdate) continue;
      for (const referrer of referrers.get(this.#at(row.index)) ?? [])
        if (referrer.hold === null) hold(referrer, row.index);
    }
  }

  #reasonFor(target: number, isLed: boolean): Hold {
    const name = this.#batch.names[this.#batch.uuidTable[target] ?? 0] ?? '';
    const tombstone = this.#tombstone(target);
    return tombstone !== undefined &&
      !isLed &&
      isKilled(this.#library, this.#library.model(name), tombstone, this.#birth(target), null) &&
      this.#waiting(target) === undefined
      ? { reason: 'dead-target', detail: `It refers to a row of ${name} that was deleted.` }
      : { reason: 'missing-target', detail: `It refers to a row of ${name} that has not arrived.` };
  }

  #setAside(row: Incoming, hold: Hold): void {
    const { birthHlc, birthRun } = this.#birth(row.index);
    const isBound = hold.reason === 'missing-target' || hold.reason === 'dead-target';
    const targets = (isBound ? referencesIn(row) : []).flatMap((references) => {
      const target = references.refs[row.position] ?? -1;
      if (this.#rows.targetOf(references, row) !== undefined || this.#at(target) === this.#at(row.index)) return [];
      return [this.#rows.ledOf(references, row)?.uuid ?? this.#rows.uuidOf(target)];
    });
    const pending = {
      model: row.model,
      uuid: this.#rows.uuidOf(row.index),
      birthHlc,
      birthRun,
      ...hold,
      ...this.#whole(row),
      targets,
    };
    putPending(this.#library, pending);
    if (hold.reason === 'unique') noteBlocker(this.#library, row, this.#rows, pending);
    if (targets.length > 0) this.result.held.push(this.#rows.uuidOf(row.index));
  }

  /** A version that has to wait, whole: columns that it does not bring are those of the row that is here. */
  #whole({ model, table, position, index, outcome }: Incoming): LocalStamp & { readonly version: Uint8Array } {
    const version = cutVersion(this.#batch, table, position);
    const here = outcome.taken === null ? null : readVersion(this.#library, model, this.#rows.uuidOf(index));
    if (here === null) return { hlc: outcome.hlc, run: outcome.run, version: encodeBatch(version) };
    const joined = joinVersion(this.#library, model, here, version);
    return { ...joined.last, version: encodeBatch(joined.version) };
  }

  #birth(index: number): { birthHlc: number; birthRun: number } {
    return birthOf(this.#batch, this.#found, index);
  }
}

const UNKNOWN_TRANSFER: Hold = {
  reason: 'not-owner',
  detail: 'It was written under a transfer of ownership that has not arrived.',
};

const NO_TABLE: Hold = { reason: 'no-table', detail: 'This device does not have its table (yet).' };
const NOTHING_SHOWN: Outcome['shown'] = new Map();
const NO_CELLS: Cells = new Map();
