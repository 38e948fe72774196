import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_HLC } from '../../src/protocol/hlc.ts';
import { MAX_KNOWN_RUNS } from '../../src/protocol/knowledge.ts';
import {
  encodeStamps,
  MAX_RANGES,
  MAX_STAMP_MESSAGES,
  MAX_STAMPS_BYTES,
  StampSet,
} from '../../src/protocol/stamp-set.ts';

const [A, B] = ['0a'.repeat(16), 'b0'.repeat(16)];

/** So many stamps of which none follows another. */
function everyOther(count: number, step = 2): number[] {
  return Array.from({ length: count }, (_, i) => (i + 1) * step);
}

function setOf(stamps: ReadonlyMap<string, readonly number[]>): StampSet {
  const set = new StampSet();
  for (const message of encodeStamps(stamps)) set.add(message);
  return set;
}

describe('a set of stamps', () => {
  it('has what was put in, and nothing else', () => {
    const near = fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 60 });
    const far = fc.array(fc.integer({ min: 0, max: MAX_HLC }), { maxLength: 20 });
    fc.assert(
      fc.property(near, far, (close, wide) => {
        const set = setOf(
          new Map([
            [A, close],
            [B, [...wide, ...close]],
          ]),
        );
        for (let hlc = 0; hlc <= 61; hlc += 1) {
          expect(set.has(A, hlc)).toBe(close.includes(hlc));
          expect(set.has(B, hlc)).toBe(close.includes(hlc) || wide.includes(hlc));
        }
        for (const hlc of wide) {
          expect(set.has(B, hlc)).toBe(true);
          expect(set.has(B, hlc + 1)).toBe(wide.includes(hlc + 1) || close.includes(hlc + 1));
        }
        expect(set.isEmpty).toBe(close.length + wide.length === 0);
      }),
    );
  });

  it('is the same whatever was told more than once, and takes no more room for that', () => {
    const some = fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 30 });
    fc.assert(
      fc.property(fc.array(some, { maxLength: 6 }), (told) => {
        const set = new StampSet();
        for (const hlcs of told) for (const message of encodeStamps(new Map([[A, hlcs]]))) set.add(message);
        for (let hlc = 0; hlc <= 61; hlc += 1) expect(set.has(A, hlc)).toBe(told.flat().includes(hlc));
      }),
    );
    const set = new StampSet();
    const most = encodeStamps(new Map([[A, everyOther(MAX_RANGES / 2)]]));
    for (let i = 0; i < 3; i += 1) for (const message of most) set.add(message);
    for (const message of encodeStamps(new Map([[B, [1]]]))) set.add(message);
    expect([set.has(A, 2), set.has(A, MAX_RANGES), set.has(B, 1)]).toEqual([true, true, true]);
  });

  it('is told in no more messages than are taken', () => {
    const wide = everyOther(MAX_STAMP_MESSAGES * 50_000, 2 ** 30);
    const messages = encodeStamps(new Map([[A, wide]]));
    expect(messages).toHaveLength(MAX_STAMP_MESSAGES);
    const set = new StampSet();
    set.add(messages[0] as Uint8Array);
    expect([set.has(A, 2 ** 30), set.has(A, 2 ** 31)]).toEqual([true, true]);
  });

  it('holds a bounded number of runs and of ranges', () => {
    const run = (i: number): string => i.toString(16).padStart(32, '0');
    const set = setOf(new Map(Array.from({ length: MAX_KNOWN_RUNS + 1 }, (_, i) => [run(i), [1]])));
    expect([set.has(run(0), 1), set.has(run(MAX_KNOWN_RUNS - 1), 1), set.has(run(MAX_KNOWN_RUNS), 1)]).toEqual([
      true,
      true,
      false,
    ]);
    const told = everyOther(MAX_RANGES + 500_000);
    const full = setOf(new Map([[A, told]]));
    const held = told.filter((hlc) => full.has(A, hlc)).length;
    expect(held).toBeLessThanOrEqual(MAX_RANGES);
    expect(held).toBeGreaterThan(MAX_RANGES - MAX_STAMPS_BYTES / 2);
  });

  it('says what was written in bulk in a few bytes, and what was written one by one in messages of bounded length', () => {
    const bulk = Array.from(
      { length: 100_000 },
      (_, i) => 1_767_225_600_000_000 + Math.floor(i / 250) * 1000 + (i % 250),
    );
    expect(encodeStamps(new Map([[A, bulk]]))[0]?.length).toBeLessThan(2_000);
    const single = Array.from(
      { length: 200_000 },
      (_, i) => 1_767_225_600_000_000 + i * 33_000_000 + ((i * 7919) % 1_000_003),
    );
    const messages = encodeStamps(
      new Map([
        [A, single],
        [B, single],
      ]),
    );
    expect(messages.length).toBeGreaterThan(4);
    for (const message of messages) expect(message.length).toBeLessThanOrEqual(MAX_STAMPS_BYTES);
    const set = setOf(
      new Map([
        [A, single],
        [B, single],
      ]),
    );
    for (const hlc of single.slice(0, 1_000))
      expect([set.has(A, hlc), set.has(B, hlc), set.has(B, hlc + 1)]).toEqual([true, true, false]);
    expect(set.has(B, single.at(-1) ?? 0)).toBe(true);
  });

  it('has nothing any more when it was cleared', () => {
    const set = setOf(new Map([[A, [1]]]));
    set.clear();
    expect([set.isEmpty, set.has(A, 1)]).toEqual([true, false]);
  });

  it('has what several messages told, in whatever order and however they overlap', () => {
    const hlcs = fc.array(fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 20 }), { maxLength: 6 });
    fc.assert(
      fc.property(hlcs, (told) => {
        const set = new StampSet();
        for (const some of told) for (const message of encodeStamps(new Map([[A, some]]))) set.add(message);
        for (let hlc = 0; hlc <= 41; hlc += 1) expect(set.has(A, hlc)).toBe(told.flat().includes(hlc));
      }),
    );
  });

  it('refuses what is cut off, and numbers beyond any stamp', () => {
    const message = encodeStamps(new Map([[A, [5, 7]]]))[0] as Uint8Array;
    for (let length = 1; length < message.length; length += 1)
      expect(() => new StampSet().add(message.subarray(0, length))).toThrow(
        expect.objectContaining({ code: 'PROTOCOL' }),
      );
    const huge = new Uint8Array([...message.subarray(0, 16), ...new Array<number>(9).fill(255), 1, 0, 0]);
    expect(() => new StampSet().add(huge)).toThrow(expect.objectContaining({ code: 'PROTOCOL' }));
  });

  it('refuses a run that is named twice or for nothing: each costs a look at all that is known of it', () => {
    const message = encodeStamps(new Map([[A, [5, 7]]]))[0] as Uint8Array;
    expect(() => new StampSet().add(new Uint8Array([...message, ...message]))).toThrow(/twice/);
    expect(() => new StampSet().add(new Uint8Array(17))).toThrow(/no stamps/);
  });

  it('has the greatest stamp that there can be', () => {
    expect(setOf(new Map([[A, [MAX_HLC]]])).has(A, MAX_HLC)).toBe(true);
  });
});
