/** The clock, the knowledge and the order of stamps, for any input. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isTooFarAhead, MAX_DRIFT_MS, tick } from '../../src/protocol/hlc.ts';
import { Knowledge } from '../../src/protocol/knowledge.ts';
import { compareStamps, packRuns, unpackRuns } from '../../src/protocol/stamp.ts';
import { anyRun, hlc, knowledge, run, stamp } from './protocol-arbitraries.ts';

/** ms since 1970, to the year 2200. */
const wallClock = fc.nat({ max: 7_258_118_400_000 });

describe('hlc', () => {
  it('grows with every tick, whatever the wall clock does', () => {
    fc.assert(
      fc.property(fc.array(wallClock, { minLength: 1, maxLength: 50 }), (times) => {
        let last = 0;
        for (const now of times) {
          const next = tick(last, now);
          expect(next).toBeGreaterThan(last);
          expect(next).toBeGreaterThanOrEqual(now * 1000);
          last = next;
        }
      }),
    );
  });

  it('runs ahead of the greatest clock by one count a tick and no more', () => {
    fc.assert(
      fc.property(fc.array(wallClock, { minLength: 1, maxLength: 50 }), (times) => {
        let last = 0;
        for (const now of times) last = tick(last, now);
        expect(last).toBeLessThan(Math.max(...times) * 1000 + times.length + 1);
      }),
    );
  });

  it('merging what is not too far ahead never lifts it beyond the clock and the drift', () => {
    fc.assert(
      fc.property(
        wallClock,
        fc.array(fc.integer({ min: -MAX_DRIFT_MS * 3000, max: MAX_DRIFT_MS * 3000 })),
        (now, offsets) => {
          let last = 0;
          for (const offset of offsets) {
            const theirs = Math.max(0, now * 1000 + offset);
            if (!isTooFarAhead(theirs, now)) last = tick(Math.max(last, theirs), now);
          }
          expect(last).toBeLessThanOrEqual((now + MAX_DRIFT_MS) * 1000 + offsets.length);
        },
      ),
    );
  });
});

describe('stamps', () => {
  it('have one order: by hlc, then by the bytes of the run', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ hlc: fc.nat(3), run: anyRun })), (stamps) => {
        const sorted = stamps.toSorted(compareStamps);
        const bytes = (one: { run: string }) => Buffer.from(one.run, 'hex');
        const expected = stamps.toSorted((a, b) => a.hlc - b.hlc || Buffer.compare(bytes(a), bytes(b)));
        expect(sorted).toEqual(expected);
      }),
    );
  });

  it('runs survive as bytes', () => {
    fc.assert(fc.property(fc.array(anyRun), (runs) => void expect(unpackRuns(packRuns(runs))).toEqual(runs)));
  });
});

describe('knowledge', () => {
  const merged = (...all: Knowledge[]): Knowledge => {
    const result = new Knowledge();
    for (const one of all) result.merge(one);
    return result;
  };

  it('merges in any order, in any grouping, any number of times to the same', () => {
    fc.assert(
      fc.property(knowledge, knowledge, knowledge, (a, b, c) => {
        expect(merged(a, b).equals(merged(b, a))).toBe(true);
        expect(merged(merged(a, b), c).equals(merged(a, merged(b, c)))).toBe(true);
        expect(merged(a, a).equals(a)).toBe(true);
      }),
    );
  });

  it('covers after a merge what either covered, and nothing that neither did', () => {
    fc.assert(
      fc.property(knowledge, knowledge, stamp, (a, b, one) => {
        expect(merged(a, b).covers(one)).toBe(a.covers(one) || b.covers(one));
      }),
    );
  });

  it('never covers less after it was raised', () => {
    fc.assert(
      fc.property(knowledge, run, hlc, stamp, (a, raised, to, one) => {
        const before = a.covers(one);
        a.raise(raised, to);
        expect(a.covers(one)).toBe(before || (one.run === raised && one.hlc <= to));
        expect(a.covers({ run: raised, hlc: to })).toBe(true);
      }),
    );
  });

  it('covers all of another exactly when merging that one brings no news', () => {
    fc.assert(
      fc.property(knowledge, knowledge, (a, b) => {
        const covers = a.coversAll(b);
        expect(a.clone().merge(b)).toBe(!covers);
        expect(merged(a, b).equals(a)).toBe(covers);
      }),
    );
  });

  it('what changed since an earlier one brings that one up to date', () => {
    fc.assert(
      fc.property(knowledge, knowledge, (a, b) => {
        expect(merged(b, a.changedSince(b)).equals(merged(b, a))).toBe(true);
        expect(a.changedSince(a).size).toBe(0);
      }),
    );
  });

  it('crosses the wire, and has one canonical form', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(anyRun, hlc)), fc.array(fc.tuple(run, hlc)), (many, few) => {
        const a = new Knowledge([...many, ...few]);
        const b = new Knowledge([...few, ...many].toReversed());
        expect(Knowledge.fromWire(a.toWire()).equals(a)).toBe(true);
        expect(a.toWire()).toEqual(b.toWire());
        expect(a.canonicalBytes()).toEqual(b.canonicalBytes());
      }),
    );
  });

  it('has different canonical bytes when it is different', () => {
    fc.assert(
      fc.property(knowledge, knowledge, (a, b) => {
        expect(Buffer.compare(a.canonicalBytes(), b.canonicalBytes()) === 0).toBe(a.equals(b));
      }),
    );
  });
});
