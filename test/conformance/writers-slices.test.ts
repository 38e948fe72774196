/** What one statement marks may fall into two slices of stamping, and what becomes of a row into many. */
import { describe, expect, it } from 'vitest';

import { STAMP_SLICE } from '../../src/db/stamp.ts';
import { expectEqual, inTheMiddle, pagesFor, pairOf, stampsOf } from '../support/engine.ts';
import type { Replica } from '../support/replica.ts';
import { converge } from '../support/replica.ts';

const DDL = `
  CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT);
  CREATE TABLE use (id INTEGER PRIMARY KEY, tag INTEGER REFERENCES tag (id) ON DELETE CASCADE);
  CREATE TABLE other (id INTEGER PRIMARY KEY);`;

/** Marks between two that belong together. */
function fill(replica: Replica, marks: number): void {
  replica.write(
    `WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < ${marks})
     INSERT INTO other SELECT NULL FROM n`,
  );
}

function inOneTransaction(replica: Replica, work: () => void): void {
  replica.write('BEGIN');
  work();
  replica.write('COMMIT');
}

/** A tag at two devices, which the other one uses. */
function used(): { readonly a: Replica; readonly b: Replica; readonly uuid: string; readonly birth: number } {
  const [a, b] = pairOf(DDL);
  a.write("INSERT INTO tag VALUES (5, 'a', 'first')");
  converge([a, b]);
  b.write('INSERT INTO use SELECT 1, id FROM tag');
  return { a, b, ...stampsOf(a, 'tag', 5) };
}

describe('[W3] a row that REPLACE evicts, in another slice than the one that takes its id', () => {
  it.each([0, STAMP_SLICE - 3, STAMP_SLICE - 2, STAMP_SLICE - 1, STAMP_SLICE])(
    'is another row than that (%i marks between)',
    async (between) => {
      const [a, b] = pairOf(DDL);
      a.write("INSERT INTO tag VALUES (5, 'a', 'first')");
      converge([a, b]);
      const { uuid } = stampsOf(a, 'tag', 5);
      b.write("UPDATE tag SET note = 'of the first'");
      inOneTransaction(a, () => {
        a.write("REPLACE INTO tag VALUES (7, 'a', 'second')");
        fill(a, between);
        a.write("INSERT INTO tag VALUES (5, 'b', 'third')");
      });
      converge([a, b]);
      expect(stampsOf(a, 'tag', 5).uuid).not.toBe(uuid);
      for (const replica of [a, b])
        expect(replica.rows('SELECT name, note FROM tag ORDER BY name')).toEqual([
          ['a', 'second'],
          ['b', 'third'],
        ]);
      await expectEqual(a, b);
    },
  );
});

describe('[W25] a row that an insert has left as it is, since its value was taken', () => {
  it.each([0, STAMP_SLICE, 5 * STAMP_SLICE])(
    'stays the same row under another id (%i marks between)',
    async (between) => {
      const [a, b] = pairOf(DDL);
      a.write("INSERT INTO tag VALUES (5, 'a', 'first')");
      converge([a, b]);
      const { uuid, birth } = stampsOf(a, 'tag', 5);
      b.write('INSERT INTO use SELECT 1, id FROM tag');
      inOneTransaction(a, () => {
        a.write("INSERT OR IGNORE INTO tag (name) VALUES ('a')");
        fill(a, between);
        a.write('UPDATE tag SET id = 9');
      });
      converge([a, b]);
      expect(stampsOf(a, 'tag', 9)).toMatchObject({ uuid, birth });
      for (const replica of [a, b])
        expect(replica.rows('SELECT note FROM use JOIN tag ON tag.id = tag')).toEqual([['first']]);
      await expectEqual(a, b);
    },
  );
});

describe('[W25] a row that is replaced under its own id, at the edge of a slice', () => {
  it.each([-3, -2, -1, 0, 1])('stays the same row (%i)', async (shift) => {
    const { a, b, uuid, birth } = used();
    inOneTransaction(a, () => {
      fill(a, STAMP_SLICE + shift);
      a.write("REPLACE INTO tag VALUES (5, 'a', 'again')");
    });
    converge([a, b]);
    expect(stampsOf(a, 'tag', 5)).toMatchObject({ uuid, birth });
    for (const replica of [a, b])
      expect(replica.rows('SELECT note FROM use JOIN tag ON tag.id = tag')).toEqual([['again']]);
    await expectEqual(a, b);
  });
});

describe('[A7] what waits is tried again only when everything is stamped', () => {
  it.each<[string, (replica: Replica) => void]>([
    ['when the library is opened', (replica) => replica.restart()],
    ['between two slices', (replica) => replica.applier.stamp(1)],
    ['when a row has got another owner', (replica) => replica.applier.settle()],
  ])('%s: a row that has just been deleted still has its id', async (_when, tryAgain) => {
    // What stands in the way in such an index is not remembered: each time, the row that waits for it is tried.
    const [a, b] = pairOf(`
      CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT, note TEXT);
      CREATE UNIQUE INDEX by_name ON tag (name) WHERE name <> '';
      CREATE TABLE other (id INTEGER PRIMARY KEY);`);
    a.write("INSERT INTO tag VALUES (5, 'a', 'of A')");
    b.write("INSERT INTO tag VALUES (1, 'a', 'of B')");
    b.stamp();
    const [page] = pagesFor(b, a, 10) as [Uint8Array];
    b.applier.apply('A', inTheMiddle(page));
    expect(b.rows('SELECT reason FROM flotilla_pending')).toEqual([['unique']]);
    inOneTransaction(b, () => {
      fill(b, 1);
      b.write('DELETE FROM tag');
    });
    tryAgain(b);
    b.stamp();
    for (const replica of [a, b]) expect(replica.rows('SELECT note FROM tag')).toEqual([['of A']]);
    converge([a, b]);
    expect(b.rows('SELECT note FROM tag')).toEqual([['of A']]);
    await expectEqual(a, b);
  });
});
