/** HLC, stamps and knowledge: the promises that examples show best. */
import { describe, expect, it } from 'vitest';
import { FlotillaError } from '../../src/errors.ts';
import {
  aheadInWords,
  differenceInWords,
  hlcToMs,
  isTooFarAhead,
  MAX_DRIFT_MS,
  MAX_HLC,
  tick,
} from '../../src/protocol/hlc.ts';
import { Knowledge, MAX_KNOWN_RUNS } from '../../src/protocol/knowledge.ts';
import { bytesToRun, compareStamps, isRun, packRuns, runToBytes, unpackRuns } from '../../src/protocol/stamp.ts';

const RUN_A = '0a'.repeat(16);
const RUN_B = 'b0'.repeat(16);
const NOW = Date.UTC(2026, 0, 1);
const protocolError = expect.objectContaining({ name: 'FlotillaError', code: 'PROTOCOL' });

describe('hlc', () => {
  it('is the wall clock in ms × 1000 when that is later', () => {
    expect(tick(0, NOW)).toBe(NOW * 1000);
    expect(tick(NOW * 1000 - 1, NOW)).toBe(NOW * 1000);
  });

  it('counts on when the clock stands or goes back, and carries into the milliseconds', () => {
    expect(tick(NOW * 1000, NOW)).toBe(NOW * 1000 + 1);
    expect(tick(NOW * 1000 + 999, NOW - 5000)).toBe((NOW + 1) * 1000);
  });

  it('is an integer for a clock with fractions', () => {
    expect(tick(0, NOW + 0.7)).toBe(NOW * 1000);
  });

  it('fits a double until 2255, and says so after that', () => {
    expect(tick(0, Date.UTC(2255, 0, 1))).toBeLessThan(MAX_HLC);
    expect(() => tick(0, Date.UTC(2256, 0, 1))).toThrow(FlotillaError);
    expect(() => tick(MAX_HLC, NOW)).toThrow(/2255/);
  });

  it('is too far ahead beyond the drift, not at it', () => {
    const limit = (NOW + MAX_DRIFT_MS) * 1000;
    expect(isTooFarAhead(limit, NOW)).toBe(false);
    expect(isTooFarAhead(limit + 1, NOW)).toBe(true);
    expect(isTooFarAhead((NOW + 2) * 1000, NOW, 1)).toBe(true);
  });

  it('tells its millisecond', () => {
    expect(hlcToMs(NOW * 1000 + 999)).toBe(NOW);
  });

  it.each([
    [2 * 3_600_000 + 10 * 60_000, '2 h 10 min ahead'],
    [2 * 3_600_000 + 5000, '2 h ahead'],
    [3 * 86_400_000 + 3_600_000, '3 d 1 h ahead'],
    [-(90 * 1000), '1 min 30 s behind'],
    [-3999, '3 s behind'],
    [0, 'not ahead'],
    [999, 'not ahead'],
  ])('says %d ms as "%s"', (ms, words) => {
    expect(differenceInWords(ms)).toBe(words);
    expect(aheadInWords((NOW + ms) * 1000, NOW)).toBe(words);
  });
});

describe('stamps', () => {
  it('are ordered by hlc, then by run', () => {
    const one = { hlc: 5, run: RUN_A };
    expect(compareStamps(one, { hlc: 6, run: RUN_A })).toBeLessThan(0);
    expect(compareStamps(one, { hlc: 4, run: RUN_B })).toBeGreaterThan(0);
    expect(compareStamps(one, { hlc: 5, run: RUN_B })).toBeLessThan(0);
    expect(compareStamps(one, { ...one })).toBe(0);
  });

  it('take only 16 bytes or 32 lower-case digits for a run', () => {
    expect(bytesToRun(runToBytes(RUN_A))).toBe(RUN_A);
    expect(isRun(RUN_A.toUpperCase())).toBe(false);
    expect(() => runToBytes('0a')).toThrow(protocolError);
    expect(() => runToBytes(RUN_A.toUpperCase())).toThrow(protocolError);
    expect(() => bytesToRun(new Uint8Array(15))).toThrow(protocolError);
    expect(() => packRuns([`${RUN_A}00`, RUN_A.slice(2)])).toThrow(protocolError);
    expect(() => unpackRuns(new Uint8Array(17))).toThrow(protocolError);
  });
});

describe('knowledge', () => {
  it('covers a run up to its hlc, and nothing of a run that it never heard of', () => {
    const known = new Knowledge([[RUN_A, 5]]);
    expect(known.covers({ run: RUN_A, hlc: 5 })).toBe(true);
    expect(known.covers({ run: RUN_A, hlc: 6 })).toBe(false);
    expect(known.covers({ run: RUN_B, hlc: 0 })).toBe(false);
  });

  it('never falls', () => {
    const known = new Knowledge([[RUN_A, 5]]);
    expect(known.raise(RUN_A, 4)).toBe(false);
    expect(known.merge(new Knowledge([[RUN_A, 3]]))).toBe(false);
    expect(known.get(RUN_A)).toBe(5);
    expect(known.greatestHlc()).toBe(5);
    expect(new Knowledge().greatestHlc()).toBe(0);
  });

  it('a copy and what changed are apart from the original', () => {
    const known = new Knowledge([[RUN_A, 5]]);
    const copy = known.clone();
    copy.raise(RUN_A, 9);
    copy.raise(RUN_B, 1);
    expect(known.entries()).toEqual([[RUN_A, 5]]);
    expect(copy.changedSince(known).entries()).toEqual([
      [RUN_A, 9],
      [RUN_B, 1],
    ]);
  });

  it('refuses from the wire what is not canonical', () => {
    const wire = new Knowledge([
      [RUN_B, 2],
      [RUN_A, 1],
    ]).toWire();
    expect(wire).toEqual({ runs: packRuns([RUN_A, RUN_B]), hlc: [1, 2] });
    expect(() => Knowledge.fromWire({ ...wire, hlc: [1] })).toThrow(protocolError);
    expect(() => Knowledge.fromWire({ ...wire, hlc: [1, -1] })).toThrow(protocolError);
    expect(() => Knowledge.fromWire({ ...wire, hlc: [1, 1.5] })).toThrow(protocolError);
    expect(() => Knowledge.fromWire({ ...wire, hlc: [1, 2 ** 53] })).toThrow(protocolError);
    expect(() => Knowledge.fromWire({ ...wire, runs: wire.runs.subarray(1) })).toThrow(protocolError);
    expect(() => Knowledge.fromWire({ runs: packRuns([RUN_B, RUN_A]), hlc: [1, 2] })).toThrow(protocolError);
    expect(() => Knowledge.fromWire({ runs: packRuns([RUN_A, RUN_A]), hlc: [1, 2] })).toThrow(protocolError);
    const many = MAX_KNOWN_RUNS + 1;
    expect(() => Knowledge.fromWire({ runs: new Uint8Array(many * 16), hlc: new Array<number>(many).fill(0) })).toThrow(
      protocolError,
    );
  });

  it('refuses what is no run or no hlc', () => {
    expect(() => new Knowledge([['x', 1]])).toThrow(protocolError);
    expect(() => new Knowledge().raise(RUN_A, Number.NaN)).toThrow(protocolError);
  });
});
