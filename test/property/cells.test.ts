/** Joining the columns of two versions: the result must not depend on order, grouping or repetition. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import type { Cells, Order } from '../../src/db/cells.ts';
import { UNSET_HLC } from '../../src/db/model.ts';
import { formatCells, joinCells, lastChange, parseCells, writeColumns } from '../../src/db/cells.ts';

const order: Order = (hlcA, runA, hlcB, runB) => hlcA - hlcB || runA - runB;

const stamp = fc.record({ hlc: fc.nat(20), run: fc.integer({ min: 1, max: 4 }) });
const cells: fc.Arbitrary<Cells> = fc
  .array(fc.tuple(fc.nat(4), stamp, fc.array(stamp, { maxLength: 3 })), { maxLength: 5 })
  .map((list) => new Map(list.map(([column, { hlc, run }, seen]) => [column, { hlc, run, seen }])));

const join = (ours: Cells, theirs: Cells): Cells => joinCells(order, ours, theirs).cells;
/** Of a column without a value it does not matter which run says so. */
const stamps = (of: Cells): unknown[] =>
  [...of]
    .toSorted(([a], [b]) => a - b)
    .map(([column, { hlc, run }]) => (hlc === UNSET_HLC ? [column, 'unset'] : [column, hlc, run]));

describe('[C4] joining columns', () => {
  it('does not depend on which side is ours', () => {
    fc.assert(
      fc.property(cells, cells, (a, b) => {
        expect(stamps(join(a, b))).toEqual(stamps(join(b, a)));
      }),
    );
  });

  it('does not depend on the order of three', () => {
    fc.assert(
      fc.property(cells, cells, cells, (a, b, c) => {
        expect(stamps(join(join(a, b), c))).toEqual(stamps(join(a, join(b, c))));
      }),
    );
  });

  it('changes nothing when it is done again', () => {
    fc.assert(
      fc.property(cells, cells, (a, b) => {
        const once = join(a, b);
        const again = joinCells(order, once, b);
        expect(again.cells).toEqual(once);
        expect([...again.taken, ...again.unseen]).toEqual([]);
      }),
    );
  });

  it('takes exactly the columns in which theirs is later', () => {
    fc.assert(
      fc.property(cells, cells, (a, b) => {
        const { cells: joined, taken } = joinCells(order, a, b);
        for (const column of joined.keys()) expect(taken.has(column)).toBe(isTheirs(a, b, column));
      }),
    );
  });

  it('a writer that has seen a value discards it unnoticed, any other does not', () => {
    fc.assert(
      fc.property(cells, fc.nat(4), (seen, column) => {
        const mine = writeColumns(seen, [column], { hlc: 30, run: 1 });
        const knowing = writeColumns(mine, [column], { hlc: 40, run: 2 });
        const ignorant = writeColumns(seen, [column], { hlc: 40, run: 2 });
        expect([...joinCells(order, mine, knowing).unseen]).toEqual([]);
        expect([...joinCells(order, mine, ignorant).unseen]).toEqual([column]);
      }),
    );
  });

  it('the last change of a row is the greatest of its stamps', () => {
    fc.assert(
      fc.property(stamp, cells, (birth, of) => {
        const last = lastChange(order, birth, of);
        for (const { hlc, run } of [birth, ...of.values()])
          expect(order(hlc, run, last.hlc, last.run)).toBeLessThanOrEqual(0);
      }),
    );
  });

  it('is kept as text and read again', () => {
    fc.assert(
      fc.property(cells, (of) => {
        expect(new Map(parseCells(formatCells(of)))).toEqual(new Map(of));
      }),
    );
  });
});

function isTheirs(ours: Cells, theirs: Cells, column: number): boolean {
  const [our, their] = [ours.get(column), theirs.get(column)];
  if (their === undefined || their.hlc === UNSET_HLC) return false;
  return our === undefined || our.hlc === UNSET_HLC || order(their.hlc, their.run, our.hlc, our.run) > 0;
}
