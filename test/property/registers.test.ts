/** Registers: what columns with a policy show must not depend on who merged first, how often, or by which way. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import type { Cells, Entry, Order } from '../../src/db/cells.ts';
import { formatCells, joinCells, parseCells, registerCell } from '../../src/db/cells.ts';
import type { MergeFunction, Policy } from '../../src/db/registers.ts';
import { compareValues, isSame, makePolicy } from '../../src/db/registers.ts';
import type { SqlValue } from '../../src/protocol/types.ts';

const order: Order = (hlcA, runA, hlcB, runB) => hlcA - hlcB || runA - runB;

const wordsOf = (text: SqlValue): string[] => String(text).split(' ');
const union: MergeFunction = (a, b) => [...new Set([...wordsOf(a), ...wordsOf(b)])].toSorted().join(' ');
const policyOf = (name: string): Policy =>
  makePolicy(name, { table: 't', name: 'c', affinity: 'BLOB' }, order, () => union);

const value: fc.Arbitrary<SqlValue> = fc.oneof(
  fc.constant(null),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: -3n, max: 3n }),
  fc.double({ noNaN: true }),
  fc.integer({ min: -3, max: 3 }).map((number) => number / 2),
  fc.string({ maxLength: 3 }),
  fc.uint8Array({ maxLength: 2 }),
);
const words: fc.Arbitrary<SqlValue> = fc
  .subarray(['a', 'b', 'c', 'd'], { minLength: 1 })
  .map((list) => list.toSorted().join(' '));

/** What the runs of a fleet wrote, one after the other on copies of their own: entries that may meet. */
function written(policy: Policy, values: fc.Arbitrary<SqlValue>): fc.Arbitrary<Entry[][]> {
  const write = fc.record({ copy: fc.nat(3), value: values, from: fc.option(fc.nat(3), { nil: undefined }) });
  return fc.array(write, { maxLength: 12 }).map((steps) => {
    const copies: (readonly Entry[])[] = [[], [], [], []];
    steps.forEach(({ copy, value: wanted, from }, step) => {
      const before = copies[copy] ?? [];
      copies[copy] = from === undefined ? before : policy.join(before, copies[from] ?? []);
      try {
        copies[copy] = policy.write(copies[copy], wanted, { hlc: step + 1, run: copy + 1 }) ?? copies[copy];
      } catch {
        // No number, in a counter.
      }
    });
    return copies.map((entries) => [...entries]);
  });
}

const sorted = (entries: readonly Entry[]): unknown[] =>
  entries.toSorted((a, b) => order(a.hlc, a.run, b.hlc, b.run)).map(({ hlc, run, value: one }) => [hlc, run, one]);

describe.each([
  ['counter', value],
  ['max', value],
  ['min', value],
  ['union', words],
] as const)('[C10] [C13] joining registers of %s', (name, values) => {
  const policy = policyOf(name);

  it('does not depend on order or grouping', () => {
    fc.assert(
      fc.property(written(policy, values), (copies) => {
        const [a = [], b = [], c = [], d = []] = copies;
        const one = policy.join(policy.join(policy.join(a, b), c), d);
        const other = policy.join(policy.join(d, b), policy.join(c, a));
        expect(sorted(one)).toEqual(sorted(other));
        expect(isSame(policy.fold(one), policy.fold(other))).toBe(true);
      }),
    );
  });

  it('changes nothing when it is done again', () => {
    fc.assert(
      fc.property(written(policy, values), ([a = [], b = []]) => {
        const once = policy.join(a, b);
        expect(sorted(policy.join(once, b))).toEqual(sorted(once));
        const cells = (entries: readonly Entry[]): Cells => new Map([[0, registerCell(entries)]]);
        const again = joinCells(order, cells(once), cells(a), new Map([[0, policy]]));
        expect([...again.taken]).toEqual([]);
      }),
    );
  });

  it('shows what was written by whoever had seen everything', () => {
    fc.assert(
      fc.property(written(policy, values), values, ([a = [], b = []], wanted) => {
        const before = policy.join(a, b);
        let after: readonly Entry[];
        try {
          after = policy.write(before, wanted, { hlc: 99, run: 9 }) ?? before;
        } catch {
          return;
        }
        const shown = policy.fold(after);
        if (name === 'counter') expectNumber(shown, wanted, policy.fold(before));
        else expect(isSame(shown, policy.fold([...before, { hlc: 99, run: 9, value: wanted }]))).toBe(true);
      }),
    );
  });

  it('is kept as text and read again', () => {
    fc.assert(
      fc.property(written(policy, values), ([a = []]) => {
        fc.pre(a.length > 0);
        const [entries] = [...parseCells(formatCells(new Map([[3, registerCell(a)]]))).values()].map(
          (cell) => cell.entries,
        );
        expect(entries?.length).toBe(a.length);
        entries?.forEach((entry, i) => expect(isSame(entry.value, a[i]?.value ?? null)).toBe(true));
      }),
    );
  });
});

/** What was written, where all are integers and none leaves 64 bits: sums of reals may be off by what is rounded. */
function expectNumber(shown: SqlValue, wanted: SqlValue, before: SqlValue): void {
  if (typeof shown === 'number' || typeof wanted === 'number' || typeof before === 'number') return;
  if (typeof before === 'string' || before instanceof Uint8Array) return;
  expect(shown).toBe(wanted ?? (before === null ? null : 0n));
}

describe('the order of values', () => {
  it('[C13] is total, and the same in both directions', () => {
    fc.assert(
      fc.property(value, value, value, (a, b, c) => {
        expect(Math.sign(compareValues(a, b))).toBe(-Math.sign(compareValues(b, a)) + 0);
        if (compareValues(a, b) === 0) expect(isSame(a, b)).toBe(true);
        if (compareValues(a, b) <= 0 && compareValues(b, c) <= 0) expect(compareValues(a, c)).toBeLessThanOrEqual(0);
      }),
    );
  });
});
