/**
 * What a batch says that cannot be true, whoever sends it: stamps later than clocks may differ, a change before the birth of its
 * row, a stamp of this device's run of today that it has not given, one UUID in two tables. Nobody honest says any of it.
 */
import { randomBytes } from 'node:crypto';

import { FlotillaError } from '../errors.ts';
import { differenceInWords, HLC_PER_MS, hlcToMs, isTooFarAhead, MAX_DRIFT_MS } from '../protocol/hlc.ts';
import { MAX_KNOWN_RUNS } from '../protocol/knowledge.ts';
import { unpackRuns } from '../protocol/stamp.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Batch, KnowledgeWire } from '../protocol/types.ts';
import type { Library } from './library.ts';
import { runBytes } from './page.ts';

/** @throws FlotillaError CLOCK_AHEAD or PROTOCOL, before anything is changed */
export function checkClaims(library: Library, batch: Batch): void {
  checkClock(library, batch);
  for (const { rows, hlc } of [...batch.tables, ...batch.tombstones]) {
    if (hlc.some((stamp, i) => stamp < (batch.birthHlc[rows[i] ?? 0] ?? 0)))
      throw new FlotillaError('PROTOCOL', 'The peer sent a row that was changed before it was made.');
  }
  checkOwnRun(library, batch);
  checkRuns(library, batch);
  checkUuids(batch);
}

function checkClock(library: Library, batch: Batch): void {
  let latest = 0;
  const see = (hlcs: readonly number[]): void => {
    for (let i = 0; i < hlcs.length; i += 1) if ((hlcs[i] as number) > latest) latest = hlcs[i] as number;
  };
  see(batch.birthHlc);
  for (const table of batch.tables) see(table.hlc);
  for (const table of batch.tombstones) see(table.hlc);
  see(batch.end.knowledge.hlc);
  see(batch.end.floor?.hlc ?? []);
  refuseFuture(library, latest);
}

/** @throws FlotillaError CLOCK_AHEAD when the latest stamp of a peer lies too far ahead */
export function refuseFuture(library: Library, latest: number): void {
  const now = library.around.now();
  // What is no later than our own clock does not raise it: after our clock was set back, our own stamps may come home. And where it lies in the
  // future itself, since all clocks were wrong together, members go on from there. (Nobody can bring it there by what he sends.)
  const latestTaken = isTooFarAhead(library.hlc, now) ? library.hlc + MAX_DRIFT_MS * HLC_PER_MS : library.hlc;
  if (latest > latestTaken && isTooFarAhead(latest, now)) {
    throw new FlotillaError(
      'CLOCK_AHEAD',
      `The peer stamps ${differenceInWords(hlcToMs(latest) - now)} of this device's clock. Set the clocks of both right, then it goes on.`,
    );
  }
}

/**
 * Our run is as old as this opening, so all its stamps were given here. Believed, a later one would be taken for merged: what we
 * stamp up to there would be spared to whoever hears of it, and lost.
 */
function checkOwnRun(library: Library, batch: Batch): void {
  const own = library.ownRun();
  if (own === null) return;
  const { runs, hlc } = batch.end.knowledge;
  const isOurs = (bytes: Uint8Array): boolean => bytesToHex(bytes) === own;
  let isFalse = hlc.some((stamp, i) => stamp > library.hlc && isOurs(runs.subarray(16 * i, 16 * i + 16)));
  const index = batch.runDevices.findIndex((_, i) => isOurs(runBytes(batch, i)));
  if (index >= 0) {
    const see = (list: { readonly hlc: readonly number[]; readonly run: readonly number[] }): void => {
      isFalse ||= list.run.some((run, i) => run === index && (list.hlc[i] ?? 0) > library.hlc);
    };
    see({ hlc: batch.birthHlc, run: batch.birthRun });
    for (const table of batch.tables) {
      see(table);
      see(table.cells);
      if (table.registers !== undefined) see(table.registers);
    }
    for (const table of batch.tombstones) {
      see(table);
      see(table.seen);
    }
  }
  if (isFalse) throw new FlotillaError('PROTOCOL', 'The peer says that this device has written what it has not.');
}

/**
 * What a peer says that it or others know, or have pruned.
 * @throws FlotillaError CLOCK_AHEAD or PROTOCOL, before anything is changed
 */
export function checkKnown(library: Library, ...said: readonly KnowledgeWire[]): void {
  for (const { hlc } of said)
    refuseFuture(
      library,
      hlc.reduce((last, one) => Math.max(last, one), 0),
    );
  requireRoom(
    library,
    said.flatMap(({ runs }) => unpackRuns(runs)),
  );
}

/** Beyond what a message may name, nobody could tell another one what he knows. */
function checkRuns(library: Library, { runs, runDevices, end }: Batch): void {
  const { knowledge, floor } = end;
  const most = runDevices.length + knowledge.hlc.length + (floor?.hlc.length ?? 0);
  if (library.runCount + most <= MAX_KNOWN_RUNS) return;
  requireRoom(
    library,
    [runs, knowledge.runs, floor?.runs ?? new Uint8Array(0)].flatMap((list) => unpackRuns(list)),
  );
}

/** @throws FlotillaError PROTOCOL when these runs and those known here are more than a message may name */
export function requireRoom(library: Library, runs: readonly string[]): void {
  const count = library.runCount;
  if (count + runs.length <= MAX_KNOWN_RUNS) return;
  const fresh = [...new Set(runs)].filter((run) => !library.hasRun(run)).length;
  if (fresh > 0 && count + fresh > MAX_KNOWN_RUNS)
    throw new FlotillaError(
      'PROTOCOL',
      `The peer knows of more than ${MAX_KNOWN_RUNS} starts of nodes, together with those known here.`,
    );
}

/** Odd, and nobody else's: whoever chooses UUIDs cannot choose where they fall. */
const MULTIPLIERS = new Uint32Array(new Uint8Array(randomBytes(16)).buffer).map((word) => word | 1);

/** Versions of one row in a batch: the one that stands at the sender, and a newer one that waits there. */
const MAX_VERSIONS = 2;

/** A UUID names a row of one table, and a row comes once, or once more in a group of its own. */
function checkUuids(batch: Batch): void {
  const first = firstOfEach(batch);
  const versions = new Uint8Array(first.length);
  const groups = [...batch.tables, ...batch.tombstones];
  const lastGroup = new Int32Array(first.length).fill(-1);
  groups.forEach(({ rows }, group) => {
    for (const index of rows) {
      const at = first[index] ?? 0;
      const isTwice = lastGroup[at] === group;
      if (group < batch.tables.length) versions[at] = Math.min(MAX_VERSIONS, versions[at] ?? 0) + 1;
      lastGroup[at] = group;
      if (isTwice || (versions[at] ?? 0) > MAX_VERSIONS)
        throw new FlotillaError('PROTOCOL', 'The peer sent one row more often than there can be versions of it.');
    }
  });
}

/** For each entry of the dictionary the first of its UUID. In a table of its own making, at a third of what a `Map` of texts costs. */
function firstOfEach({ uuids, uuidTable }: Batch): Int32Array {
  const count = uuidTable.length;
  const first = new Int32Array(count);
  const view = new DataView(uuids.buffer, uuids.byteOffset, uuids.byteLength);
  const [a = 1, b = 1, c = 1, d = 1] = MULTIPLIERS;
  const bits = 1 + Math.ceil(Math.log2(Math.max(2, count)));
  const slots = new Int32Array(2 ** bits).fill(-1);
  for (let i = 0; i < count; i += 1) {
    const w0 = view.getUint32(16 * i);
    const w1 = view.getUint32(16 * i + 4);
    const w2 = view.getUint32(16 * i + 8);
    const w3 = view.getUint32(16 * i + 12);
    let slot = (Math.imul(w0, a) + Math.imul(w1, b) + Math.imul(w2, c) + Math.imul(w3, d)) >>> (32 - bits);
    let other = slots[slot] as number;
    while (other >= 0) {
      const isSame =
        view.getUint32(16 * other + 12) === w3 &&
        view.getUint32(16 * other + 8) === w2 &&
        view.getUint32(16 * other + 4) === w1 &&
        view.getUint32(16 * other) === w0;
      if (isSame && uuidTable[other] !== uuidTable[i])
        throw new FlotillaError('PROTOCOL', 'The peer sent one identity for rows of two tables.');
      if (isSame) break;
      slot = (slot + 1) % slots.length;
      other = slots[slot] as number;
    }
    if (other < 0) slots[slot] = i;
    first[i] = other < 0 ? i : other;
  }
  return first;
}
