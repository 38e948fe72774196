/** What waits: rows whose targets have not come, deletes that rows here forbid, values that are taken. */
import { describe, expect, it } from 'vitest';

import { decodeBatch, encodeBatch } from '../../src/protocol/batch.ts';
import { cutVersion } from '../../src/db/version.ts';
import { applyAll, expectEqual, fleetOf, pagesFor, pairOf, singles } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';

const TREE =
  'CREATE TABLE entries (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE, name TEXT); CREATE INDEX e ON entries (parent_id)';
const NAMES = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT)';
/** Rows that collide wait aside. */
const KEEP = { config: { tables: { t: { unique: { name: 'keep-first' } } } } };

/** ms: such numbers of rows take a loaded machine longer than other tests. */
const BULK_TIMEOUT = 180_000;

describe('[A9] rows whose targets have not come', () => {
  it('lets a child wait for its parent, and take its place when that comes', async () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO entries VALUES (1, NULL, 'p'), (2, 1, 'c')");
    const [parent, child] = singles(b, a) as [Uint8Array, Uint8Array];
    applyAll(b, 'A', [child]);
    expect(b.rows('SELECT * FROM entries')).toEqual([]);
    expect(b.waiting()).toEqual(['missing-target']);
    applyAll(b, 'A', [parent]);
    expect(b.waiting()).toEqual([]);
    expect(b.rows('SELECT c.name, p.name FROM entries c JOIN entries p ON p.id = c.parent_id')).toEqual([['c', 'p']]);
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('wakes a chain of waiting rows at once, however long', { timeout: BULK_TIMEOUT }, async () => {
    const [a, b] = pairOf(TREE);
    const length = 3000;
    a.write(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${length})
      INSERT INTO entries SELECT i, CASE i WHEN 1 THEN NULL ELSE i - 1 END, 'n' || i FROM n`);
    const pages = pagesFor(b, a, 100);
    applyAll(b, 'A', pages.slice(1).reverse());
    expect(b.waiting()).toHaveLength(length - 100);
    applyAll(b, 'A', pages.slice(0, 1));
    expect(b.waiting()).toEqual([]);
    expect(b.rows('SELECT count(*) FROM entries')).toEqual([[length]]);
    b.pull(a);
    await expectEqual(a, b);
  });

  it('wakes 10,000 rows that waited for one with one look-up for all of them', { timeout: BULK_TIMEOUT }, async () => {
    const [a, b] = pairOf(TREE);
    a.write(`INSERT INTO entries VALUES (1, NULL, 'p');
      WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 10001) INSERT INTO entries SELECT i, 1, 'n' || i FROM n`);
    const pages = pagesFor(b, a, 1000);
    // One page of one row, not the pass: that would be 10,001 pages, and all the time of this test.
    const pass = b.passFrom(a);
    const first = pass.next(1) as Uint8Array;
    pass.close();
    applyAll(b, 'A', pages.slice(1));
    expect(b.waiting().length).toBeGreaterThan(9000);
    const before = b.rows("SELECT value FROM flotilla_counters WHERE name = 'lookupsIn'")[0]?.[0] as number;
    applyAll(b, 'A', [first]);
    expect(b.waiting()).toEqual([]);
    expect((b.rows("SELECT value FROM flotilla_counters WHERE name = 'lookupsIn'")[0]?.[0] as number) - before).toBe(2);
    b.pull(a);
    await expectEqual(a, b);
  });

  it('wakes a row that waits for two only when both have come', async () => {
    const [a, b] = pairOf(
      'CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, a INTEGER NOT NULL REFERENCES p, b INTEGER NOT NULL REFERENCES p)',
    );
    a.write('INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (1, 1, 2)');
    const [one, two, child] = singles(b, a) as [Uint8Array, Uint8Array, Uint8Array];
    applyAll(b, 'A', [child, one]);
    expect(b.waiting()).toEqual(['missing-target']);
    applyAll(b, 'A', [two]);
    expect(b.waiting()).toEqual([]);
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('takes rows that refer to themselves and to each other', async () => {
    const [a, b] = pairOf(
      'CREATE TABLE n (id INTEGER PRIMARY KEY, next INTEGER REFERENCES n (id) DEFERRABLE INITIALLY DEFERRED, name TEXT)',
    );
    a.write("BEGIN; INSERT INTO n VALUES (1, 1, 'self'), (2, 3, 'x'), (3, 4, 'y'), (4, 2, 'z'); COMMIT");
    b.write("INSERT INTO n VALUES (2, NULL, 'own')");
    converge([a, b]);
    expect(b.rows('SELECT n.name, m.name FROM n JOIN n m ON m.id = n.next ORDER BY 1')).toEqual([
      ['self', 'self'],
      ['x', 'y'],
      ['y', 'z'],
      ['z', 'x'],
    ]);
    await expectEqual(a, b);
  });

  it('closes a ring whose rows came one by one', async () => {
    const [a, b] = pairOf(
      'CREATE TABLE n (id INTEGER PRIMARY KEY, next INTEGER REFERENCES n (id) DEFERRABLE INITIALLY DEFERRED, name TEXT)',
    );
    a.write("BEGIN; INSERT INTO n VALUES (2, 3, 'x'), (3, 4, 'y'), (4, 2, 'z'), (5, 2, 'beside'); COMMIT");
    // Each row alone in a page: those that went ahead of it are taken out.
    const pages = ['x', 'y', 'z', 'beside'].map((name) => {
      const lone = new Replica({
        device: 'L',
        ddl: 'CREATE TABLE n (id INTEGER PRIMARY KEY, next INTEGER REFERENCES n (id) DEFERRABLE INITIALLY DEFERRED, name TEXT)',
      });
      const [page] = pagesFor(lone, a, 10) as [Uint8Array];
      return onlyRow(page, name);
    });
    for (const order of [
      [0, 1, 2, 3],
      [3, 2, 1, 0],
      [1, 3, 0, 2],
    ]) {
      const c = new Replica({
        device: 'C',
        ddl: 'CREATE TABLE n (id INTEGER PRIMARY KEY, next INTEGER REFERENCES n (id) DEFERRABLE INITIALLY DEFERRED, name TEXT)',
      });
      applyAll(
        c,
        'A',
        order.map((i) => pages[i] as Uint8Array),
      );
      expect(c.waiting()).toEqual([]);
      expect(c.rows('SELECT count(*) FROM n')).toEqual([[4]]);
      c.pull(a);
      await expectEqual(a, c);
    }
    expect(b.rows('SELECT * FROM n')).toEqual([]);
  });

  it('relays a row that waits, and it stands where its target is', async () => {
    const [a, b, c] = fleetOf(3, TREE) as [Replica, Replica, Replica];
    a.write("INSERT INTO entries VALUES (1, NULL, 'p'), (2, 1, 'c')");
    const [parent, child] = singles(b, a) as [Uint8Array, Uint8Array];
    applyAll(b, 'A', [child]);
    applyAll(c, 'A', [parent]);
    c.pull(b);
    expect(c.rows('SELECT name FROM entries ORDER BY name')).toEqual([['c'], ['p']]);
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });

  it('wakes a row whose target was made here', async () => {
    const ddl =
      'CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE); CREATE TABLE u (id INTEGER PRIMARY KEY, tag_id INTEGER NOT NULL REFERENCES tags (id))';
    const [a, b] = pairOf(ddl, { config: { tables: { tags: { identity: 'name' } } } });
    a.write("INSERT INTO tags (name) VALUES ('red'); INSERT INTO u VALUES (1, 1)");
    const [, child] = singles(b, a) as [Uint8Array, Uint8Array];
    applyAll(b, 'A', [child]);
    expect(b.waiting()).toEqual(['missing-target']);
    b.write("INSERT INTO tags (name) VALUES ('red')");
    // Any complete pass will do: another peer has nothing at all.
    b.pull(new Replica({ device: 'Z', ddl, config: { tables: { tags: { identity: 'name' } } } }));
    expect(b.waiting()).toEqual([]);
    expect(b.rows('SELECT t.name FROM u JOIN tags t ON t.id = u.tag_id')).toEqual([['red']]);
    converge([a, b]);
    await expectEqual(a, b);
  });
});

describe('UNIQUE', () => {
  it('[U5] hands a value over from a row that gives it up to one that takes it, in every order', async () => {
    const [a, b] = pairOf(NAMES);
    a.write("INSERT INTO t VALUES (1, 'x', '1'), (2, 'y', '2'), (3, 'z', '3')");
    converge([a, b]);
    a.write(
      "UPDATE t SET name = 'w' WHERE id = 1; UPDATE t SET name = 'x' WHERE id = 2; UPDATE t SET name = 'y' WHERE id = 3",
    );
    converge([a, b]);
    expect(b.rows('SELECT name, note FROM t ORDER BY note')).toEqual([
      ['w', '1'],
      ['x', '2'],
      ['y', '3'],
    ]);
    a.write(
      "UPDATE t SET name = 'v' WHERE id = 3; UPDATE t SET name = 'y' WHERE id = 2; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (4, 'w', '4')",
    );
    converge([a, b]);
    expect(b.rows('SELECT name, note FROM t ORDER BY note')).toEqual([
      ['y', '2'],
      ['v', '3'],
      ['w', '4'],
    ]);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('[U5] lets two rows swap their values, in one page and in two', async () => {
    for (const size of [1, 100]) {
      const [a, b] = pairOf(
        'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, n INTEGER NOT NULL UNIQUE, note TEXT, UNIQUE (note, n))',
      );
      a.write("INSERT INTO t VALUES (1, 'x', 1, '1'), (2, 'y', 2, '2'), (3, 'z', 3, '3')");
      converge([a, b]);
      a.write(
        "UPDATE t SET name = name || '-', n = -n; UPDATE t SET name = 'y', n = 2 WHERE id = 1; UPDATE t SET name = 'z', n = 3 WHERE id = 2; UPDATE t SET name = 'x', n = 1 WHERE id = 3",
      );
      b.pull(a, size);
      expect(b.waiting()).toEqual([]);
      expect(b.rows('SELECT name, n, note FROM t ORDER BY note')).toEqual([
        ['y', 2, '1'],
        ['z', 3, '2'],
        ['x', 1, '3'],
      ]);
      await expectEqual(a, b);
    }
  });

  it('[U5] lets a child take the name of the parent that it leaves and that goes, in one page and in two', async () => {
    const ddl = `CREATE TABLE e (id INTEGER PRIMARY KEY, up INTEGER REFERENCES e (id) ON DELETE CASCADE, name TEXT NOT NULL);
      CREATE UNIQUE INDEX e_name ON e (ifnull(up, 0), name)`;
    for (const schema of [ddl, ddl.replace('ifnull(up, 0), name', 'name')]) {
      for (const size of [1, 100]) {
        const [a, b] = pairOf(schema);
        a.write("INSERT INTO e VALUES (1, NULL, 'dir'), (2, 1, 'inner'), (3, 2, 'file')");
        converge([a, b]);
        a.write(
          "UPDATE e SET up = NULL, name = 'tmp' WHERE id = 2; DELETE FROM e WHERE id = 1; UPDATE e SET name = 'dir' WHERE id = 2",
        );
        b.pull(a, size);
        expect(b.waiting()).toEqual([]);
        expect(b.rows('SELECT c.name, p.name FROM e c LEFT JOIN e p ON p.id = c.up ORDER BY 1')).toEqual([
          ['dir', null],
          ['file', 'dir'],
        ]);
        await expectEqual(a, b);
      }
    }
  });

  it('swaps values beside unique columns that are local or generated', async () => {
    const ddl = `CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT, place INTEGER UNIQUE, upper TEXT AS (upper(name)) STORED UNIQUE)`;
    const [a, b] = pairOf(ddl, { config: { tables: { t: { localColumns: ['place'] } } } });
    a.write("INSERT INTO t (id, name, note, place) VALUES (1, 'x', '1', 1), (2, 'y', '2', 2)");
    converge([a, b]);
    b.write('UPDATE t SET place = id + 10');
    a.write(
      "UPDATE t SET name = '-' WHERE id = 1; UPDATE t SET name = 'x' WHERE id = 2; UPDATE t SET name = 'y' WHERE id = 1",
    );
    converge([a, b]);
    expect(b.rows('SELECT name, note, upper, place FROM t ORDER BY note')).toEqual([
      ['y', '1', 'Y', 11],
      ['x', '2', 'X', 12],
    ]);
    expect(b.waiting()).toEqual([]);
    // And a collision on such a column alone is met with patience.
    a.write("INSERT INTO t (name, note) VALUES ('Z', 'a')");
    b.write("INSERT INTO t (name, note) VALUES ('z', 'b')");
    converge([a, b]);
    expect([a.waiting(), b.waiting()]).toEqual([['unique'], ['unique']]);
    await expectEqual(a, b);
  });

  it('parks no row that cannot go', async () => {
    const ddl = `${NAMES}; CREATE TABLE private (id INTEGER PRIMARY KEY, t_id INTEGER REFERENCES t (id))`;
    const [a, b] = pairOf(ddl, { config: { tables: { private: { sync: false } } } });
    a.write("INSERT INTO t VALUES (1, 'x', 'old')");
    converge([a, b]);
    b.write('INSERT INTO private VALUES (1, 1)');
    a.write("DELETE FROM t; INSERT INTO t VALUES (2, 'x', 'new')");
    b.pull(a);
    expect(b.waiting().toSorted()).toEqual(['referrers', 'unique']);
    expect(b.rows('SELECT name, note FROM t')).toEqual([['x', 'old']]);
    b.write('DELETE FROM private');
    converge([a, b]);
    expect(b.rows('SELECT name, note FROM t')).toEqual([['x', 'new']]);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('[U5] swaps those that can, though another collides for good', async () => {
    const [a, b] = pairOf(NAMES, KEEP);
    a.write("INSERT INTO t VALUES (1, 'x', '1'), (2, 'y', '2')");
    converge([a, b]);
    b.write("INSERT INTO t VALUES (9, 'taken', 'b')");
    b.stamp();
    a.write(
      "UPDATE t SET name = '-' WHERE id = 1; UPDATE t SET name = 'x' WHERE id = 2; UPDATE t SET name = 'y' WHERE id = 1; INSERT INTO t VALUES (3, 'taken', 'a')",
    );
    b.pull(a);
    expect(b.waiting()).toEqual(['unique']);
    expect(b.rows('SELECT name, note FROM t ORDER BY note')).toEqual([
      ['y', '1'],
      ['x', '2'],
      ['taken', 'b'],
    ]);
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('takes nothing for a change when the same collision is met again', () => {
    const [a, b] = pairOf(NAMES, KEEP);
    a.write("INSERT INTO t VALUES (1, 'x', 'a')");
    b.write("INSERT INTO t VALUES (1, 'x', 'b')");
    converge([a, b]);
    const heads = [a.library.head, b.library.head];
    for (let i = 0; i < 3; i += 1) {
      a.pull(b);
      b.pull(a);
    }
    expect([a.library.head, b.library.head]).toEqual(heads);
  });

  it('lets a row wait that a CHECK refuses here', async () => {
    const a = new Replica({ device: 'A', ddl: 'CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)' });
    const b = new Replica({ device: 'B', ddl: 'CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER CHECK (n < 10))' });
    a.write('INSERT INTO t VALUES (1, 5), (2, 50)');
    converge([a, b]);
    expect(b.rows('SELECT n FROM t')).toEqual([[5]]);
    expect(b.waiting()).toEqual(['constraint']);
    a.write('UPDATE t SET n = 7 WHERE id = 2');
    converge([a, b]);
    expect(b.rows('SELECT n FROM t ORDER BY n')).toEqual([[5], [7]]);
    await expectEqual(a, b);
  });
});

describe('rest', () => {
  it('writes and sends nothing in a second pass, whatever waits', () => {
    const [a, b, c] = fleetOf(
      3,
      `${NAMES}; CREATE TABLE u (id INTEGER PRIMARY KEY, t_id INTEGER REFERENCES t (id))`,
      KEEP,
    ) as [Replica, Replica, Replica];
    a.write("INSERT INTO t VALUES (1, 'x', 'a'), (2, 'y', 'a')");
    converge([a, b, c]);
    a.write('DELETE FROM t WHERE id = 1');
    b.write("INSERT INTO u VALUES (1, 1); INSERT INTO t VALUES (9, 'z', 'b')");
    c.write("INSERT INTO t VALUES (9, 'z', 'c')");
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(replica.waiting().length).toBeGreaterThan(0);
    const states = [a, b, c].map((replica) => replica.backup());
    for (const to of [a, b, c]) {
      for (const from of [a, b, c]) {
        if (to === from) continue;
        expect(to.pull(from).map(({ rows, changed }) => [rows, changed])).toEqual([[0, 0]]);
      }
    }
    const tables = ['flotilla_pending', 'flotilla_tombstones', 'flotilla_knowledge', 'flotilla_clock', 't', 'u'];
    [a, b, c].forEach((replica, i) => {
      const before = replica.restored(states[i] as Buffer);
      for (const table of tables)
        expect(replica.rows(`SELECT * FROM ${table}`)).toEqual(before.rows(`SELECT * FROM ${table}`));
    });
  });
});

/** The page with just the row of this name (in column `name`), all references kept. */
function onlyRow(page: Uint8Array, name: string): Uint8Array {
  return cut(page, (values) => values.indexOf(name));
}

function cut(page: Uint8Array, find: (values: readonly unknown[]) => number): Uint8Array {
  const batch = decodeBatch(page);
  const table = batch.tables.find((candidate) => candidate.table === 'n');
  const column = table?.columns.find((candidate) => candidate.name === 'name');
  if (table === undefined || column?.kind !== 'value') throw new Error('the page has no such rows');
  return encodeBatch(cutVersion(batch, table, find(column.values)));
}
