/** Groups R and D of docs/spec.md: what rows held is kept as it was, though they make room for others in unique indexes meanwhile. */
import { describe, expect, it } from 'vitest';

import { listConflicts } from '../../src/db/conflict-list.ts';
import { restoreConflict } from '../../src/db/restore.ts';
import { decodeBatch } from '../../src/protocol/batch.ts';
import { expectEqual, fleetOf, pairOf } from '../support/engine.ts';
import type { Replica } from '../support/replica.ts';
import { converge } from '../support/replica.ts';

const ITEMS = `CREATE TABLE box (id INTEGER PRIMARY KEY, name TEXT);
  CREATE TABLE item (id INTEGER PRIMARY KEY, box INTEGER REFERENCES box (id), no INTEGER, note TEXT, UNIQUE (box, no));`;

/** Restores the only record of a copy. */
function restore(replica: Replica): void {
  const { conflicts } = listConflicts(replica.library.sql, replica.library.registry, {});
  expect(conflicts).toHaveLength(1);
  restoreConflict(replica.library, Number(conflicts[0]?.id));
}

describe('rows that make room', () => {
  it('[R3] a row that goes for one that takes its values is recorded with all that it held', async () => {
    const [a, b] = pairOf(ITEMS);
    a.write("INSERT INTO box VALUES (1, 'b'); INSERT INTO item VALUES (1, 1, 5, 'old')");
    converge([a, b]);
    b.write("UPDATE item SET note = 'mine'");
    b.stamp();
    a.write("DELETE FROM item; INSERT INTO item VALUES (2, 1, 5, 'new')");
    converge([a, b]);
    expect(b.rows('SELECT note FROM item')).toEqual([['new']]);
    b.write('UPDATE item SET no = 6');
    restore(b);
    expect(b.rows('SELECT name, no, note FROM item JOIN box ON box.id = box ORDER BY no')).toEqual([
      ['b', 5, 'mine'],
      ['b', 6, 'new'],
    ]);
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('[U5] rows with the greatest and the smallest ids exchange values that cannot be NULL', async () => {
    for (const [first, second] of [
      [2n ** 63n - 1n, 2n ** 62n + 3n],
      [-(2n ** 63n), -1n],
    ] as const) {
      const [a, b] = pairOf('CREATE TABLE item (id INTEGER PRIMARY KEY, no INTEGER NOT NULL UNIQUE);');
      b.write(`INSERT INTO item VALUES (${first}, 1), (${second}, 2)`);
      converge([a, b]);
      a.write(
        'UPDATE item SET no = -9 WHERE no = 1; UPDATE item SET no = 1 WHERE no = 2; UPDATE item SET no = 2 WHERE no = -9',
      );
      converge([a, b]);
      expect(b.rows(`SELECT no FROM item ORDER BY id = ${first} DESC`)).toEqual([[2], [1]]);
      await expectEqual(a, b);
    }
  });

  it('[R1] a value that is replaced by one of a row in an exchange is recorded as it was', async () => {
    const [a, b] = pairOf('CREATE TABLE item (id INTEGER PRIMARY KEY, no INTEGER UNIQUE, note TEXT);');
    a.write("INSERT INTO item VALUES (1, 1, 'one'), (2, 2, 'two')");
    converge([a, b]);
    b.write("UPDATE item SET no = 7 WHERE note = 'one'");
    b.stamp();
    a.write(
      'UPDATE item SET no = 0 WHERE id = 2; UPDATE item SET no = 2 WHERE id = 1; UPDATE item SET no = 1 WHERE id = 2',
    );
    converge([a, b]);
    expect(b.rows('SELECT no, note FROM item ORDER BY no')).toEqual([
      [1, 'two'],
      [2, 'one'],
    ]);
    restore(b);
    expect(b.rows("SELECT no FROM item WHERE note = 'one'")).toEqual([[7]]);
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('[R14] so is a row that becomes one with another', async () => {
    const [a, b] = pairOf('CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT UNIQUE);');
    a.write("INSERT INTO tag VALUES (1, 'x')");
    a.stamp();
    b.write("INSERT INTO tag VALUES (1, 'x')");
    b.pull(a);
    const records = b.rows('SELECT rule, lost FROM flotilla_conflicts');
    expect(records.map(([rule]) => rule)).toEqual(['merged']);
    const { tables } = decodeBatch(records[0]?.[1] as Uint8Array);
    expect(tables[0]?.columns).toMatchObject([{ name: 'name', values: ['x'] }]);
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('[D6] a delete is undone with what the row held before another one took its values', async () => {
    const ddl = `${ITEMS} CREATE TABLE use (id INTEGER PRIMARY KEY, item INTEGER REFERENCES item (id));`;
    const [a, b, c] = fleetOf(3, ddl) as [Replica, Replica, Replica];
    a.write("INSERT INTO box VALUES (1, 'b'); INSERT INTO item VALUES (1, 1, 5, 'old')");
    converge([a, b, c]);
    c.write('INSERT INTO use VALUES (1, 1)');
    a.write("DELETE FROM item; INSERT INTO item VALUES (2, 1, 5, 'new')");
    b.pull(a);
    expect(b.rows('SELECT note FROM item')).toEqual([['new']]);
    b.write('UPDATE item SET no = 6');
    b.pull(c);
    expect(b.rows('SELECT name, no, note FROM item JOIN box ON box.id = box ORDER BY no')).toEqual([
      ['b', 5, 'old'],
      ['b', 6, 'new'],
    ]);
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });

  it.each(['page', 'shelf'])(
    '[U3] so do rings of rows that refer to one another, and what a %s refers to',
    async (first) => {
      const tables = {
        page: `CREATE TABLE page (id INTEGER PRIMARY KEY, shelf INTEGER REFERENCES shelf (id) ON DELETE SET DEFAULT,
        next INTEGER NOT NULL REFERENCES page (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED);`,
        shelf: `CREATE TABLE shelf (id INTEGER PRIMARY KEY, box INTEGER NOT NULL REFERENCES box (id) ON DELETE SET NULL,
        top INTEGER REFERENCES page (id) ON DELETE RESTRICT);`,
      };
      const ddl = `CREATE TABLE box (id INTEGER PRIMARY KEY, no INTEGER UNIQUE, note TEXT);
      ${first === 'page' ? tables.page + tables.shelf : tables.shelf + tables.page}`;
      const [a, b] = pairOf(ddl);
      a.write("INSERT INTO box VALUES (1, 5, 'a')");
      a.stamp();
      b.write(`INSERT INTO box VALUES (1, 5, 'b'); INSERT INTO shelf VALUES (1, 1, NULL);
      BEGIN; INSERT INTO page VALUES (1, 1, 2), (2, 1, 1); UPDATE shelf SET top = 2; COMMIT`);
      converge([a, b]);
      for (const replica of [a, b])
        expect(replica.rows('SELECT note, (SELECT count(*) FROM page) FROM box')).toEqual([['a', 0]]);
      await expectEqual(a, b);
      a.write('UPDATE box SET no = 6');
      converge([a, b]);
      for (const replica of [a, b])
        expect(
          replica.rows('SELECT count(*) FROM box JOIN shelf ON box = box.id JOIN page ON shelf = shelf.id'),
        ).toEqual([[2]]);
      await expectEqual(a, b);
    },
  );
});
