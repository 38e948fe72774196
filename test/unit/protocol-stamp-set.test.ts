import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_HLC } from '../../src/protocol/hlc.ts';
import { encodeStamps, MAX_STAMPS_BYTES, StampSet } from '../../src/protocol/stamp-set.ts';

const [A, B] = ['0a'.repeat(16), 'b0'.repeat(16)];

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

  it('has room for more when it is told the same again', () => {
    const many = (from: number): number[] => Array.from({ length: 300_000 }, (_, i) => from + 2 * i);
    const [one, other] = [many(0), many(1_000_000)];
    const set = setOf(new Map([[A, one]]));
    for (let again = 0; again < 3; again += 1)
      for (const message of encodeStamps(new Map([[A, one]]))) set.add(message);
    for (const message of encodeStamps(new Map([[A, other]]))) set.add(message);
    for (const hlc of [...one.slice(-9), ...other.slice(-9)])
      expect([set.has(A, hlc), set.has(A, hlc + 1)]).toEqual([true, false]);
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

  it('refuses a message that comes back to a run: each time costs what there is of it', () => {
    const [message] = encodeStamps(new Map([[A, [5]]])) as [Uint8Array];
    expect(() => new StampSet().add(Buffer.concat([message, message]))).toThrow(
      expect.objectContaining({ code: 'PROTOCOL' }),
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
});
