/** What waits: rows whose targets have not come, deletes that rows here forbid, values that are taken. */
import { describe, expect, it } from 'vitest';

import { decodeBatch, encodeBatch } from '../../src/protocol/batch.ts';
import { cutVersion } from '../../src/db/version.ts';
import { expectEqual, fleetOf, inTheMiddle, pagesFor, pairOf } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';

const TREE =
  'CREATE TABLE entries (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE, name TEXT); CREATE INDEX e ON entries (parent_id)';
const NAMES = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT)';
/** Rows that collide wait aside. */
const KEEP = { config: { tables: { t: { unique: { name: 'keep-first' } } } } };

/** ms: such numbers of rows take a loaded machine longer than other tests. */
const BULK_TIMEOUT = 180_000;

/** Applies pages as if all came from the middle of a pass that was broken off, so that the next one begins at 0. */
function applyAll(to: Replica, from: string, pages: readonly Uint8Array[]): void {
  for (const page of pages) {
    to.applier.apply(from, inTheMiddle(page));
    expect(to.violations()).toEqual([]);
  }
  to.write('DELETE FROM flotilla_cursors');
}

/** Pages of one row each, in the order in which the rows were written. */
function singles(to: Replica, from: Replica): Uint8Array[] {
  return pagesFor(to, from, 1);
}

describe('rows whose targets have not come', () => {
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

  it('wakes a chain of waiting rows at once, however long', async () => {
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

describe('ON DELETE', () => {
  const ddl = (action: string, notNull = ''): string =>
    `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
     CREATE TABLE c (id INTEGER PRIMARY KEY, p_id INTEGER ${notNull} REFERENCES p (id) ${action}, name TEXT);
     CREATE TABLE g (id INTEGER PRIMARY KEY, c_id INTEGER NOT NULL REFERENCES c (id) ON DELETE CASCADE)`;

  /** A deletes the parent, B hangs a child and a grandchild on it, neither knowing of the other. */
  function conflict(action: string, notNull = ''): Replica[] {
    const replicas = fleetOf(3, ddl(action, notNull));
    const [a, b] = replicas as [Replica, Replica];
    a.write("INSERT INTO p VALUES (1, 'x')");
    converge(replicas);
    a.write('DELETE FROM p');
    b.write("INSERT INTO c VALUES (1, 1, 'child'); INSERT INTO g VALUES (1, 1)");
    return replicas;
  }

  it('CASCADE takes the rows of another device along, and theirs', async () => {
    const replicas = conflict('ON DELETE CASCADE', 'NOT NULL');
    converge(replicas);
    for (const replica of replicas) {
      expect(replica.rows('SELECT * FROM c UNION ALL SELECT *, 0 FROM g')).toEqual([]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(...replicas);
  });

  it('SET NULL clears the column', async () => {
    const replicas = conflict('ON DELETE SET NULL');
    converge(replicas);
    for (const replica of replicas) {
      expect(replica.rows('SELECT p_id, name FROM c')).toEqual([[null, 'child']]);
      expect(replica.rows('SELECT count(*) FROM g')).toEqual([[1]]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(...replicas);
  });

  for (const [action, notNull] of [
    ['', ''],
    ['ON DELETE RESTRICT', 'NOT NULL'],
    ['ON DELETE SET NULL', 'NOT NULL'],
    ['ON DELETE SET DEFAULT', 'NOT NULL'],
  ] as const) {
    it(`[D4] a delete that SQLite would have refused is undone (${action || 'NO ACTION'} ${notNull})`, async () => {
      const replicas = conflict(action, notNull);
      converge(replicas);
      for (const replica of replicas) {
        expect(replica.rows('SELECT p.name, c.name FROM g JOIN c ON c.id = g.c_id JOIN p ON p.id = c.p_id')).toEqual([
          ['x', 'child'],
        ]);
        expect(replica.waiting()).toEqual([]);
      }
      const [a] = replicas as [Replica];
      const records = replicas.flatMap((replica) => replica.rows('SELECT rule FROM flotilla_conflicts'));
      expect(records.length).toBeGreaterThan(0);
      expect(new Set(records.flat())).toEqual(new Set(['revived']));
      await expectEqual(...replicas);
      a.write('DELETE FROM g; DELETE FROM c; DELETE FROM p');
      converge(replicas);
      for (const replica of replicas) {
        expect(replica.waiting()).toEqual([]);
        expect(replica.rows('SELECT * FROM p')).toEqual([]);
      }
      await expectEqual(...replicas);
    });
  }

  it('[D3] SET DEFAULT sets the default where that means a row; where it does not, the delete is undone', async () => {
    const [a, b] = pairOf(`CREATE TABLE p (name TEXT PRIMARY KEY, note);
      CREATE TABLE c (id INTEGER PRIMARY KEY, p TEXT NOT NULL DEFAULT 'none' REFERENCES p (name) ON DELETE SET DEFAULT);`);
    a.write("INSERT INTO p VALUES ('none', 1), ('x', 2)");
    converge([a, b]);
    a.write("DELETE FROM p WHERE name = 'x'");
    b.write("INSERT INTO c (p) VALUES ('x')");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT p FROM c')).toEqual([['none']]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
    a.write("INSERT INTO p VALUES ('y', 3); UPDATE c SET p = 'y'; DELETE FROM p WHERE name = 'none'");
    a.write("INSERT INTO p VALUES ('z', 4)");
    converge([a, b]);
    b.write("INSERT INTO c (p) VALUES ('z')");
    a.write("DELETE FROM p WHERE name = 'z'");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT name FROM p ORDER BY name')).toEqual([['y'], ['z']]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
  });

  it('[D5] what an undone delete cannot do without comes back with it', async () => {
    const [a, b] = pairOf(`CREATE TABLE top (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE mid (id INTEGER PRIMARY KEY, top_id INTEGER NOT NULL REFERENCES top (id) ON DELETE CASCADE, name TEXT);
      CREATE TABLE leaf (id INTEGER PRIMARY KEY, mid_id INTEGER NOT NULL REFERENCES mid (id), name TEXT);`);
    a.write("INSERT INTO top VALUES (1, 't'); INSERT INTO mid VALUES (1, 1, 'm')");
    converge([a, b]);
    a.write('DELETE FROM top');
    b.write("INSERT INTO leaf VALUES (1, 1, 'l')");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(
        replica.rows(
          'SELECT t.name, m.name, l.name FROM leaf l JOIN mid m ON m.id = l.mid_id JOIN top t ON t.id = m.top_id',
        ),
      ).toEqual([['t', 'm', 'l']]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
  });

  it('[D6] the tombstone keeps what the delete took, so that its own device can undo it as well', async () => {
    const replicas = conflict('');
    const [a, b, c] = replicas as [Replica, Replica, Replica];
    // B is heard of only through C, and has never heard of the delete itself.
    c.pull(b);
    a.pull(c);
    expect(a.rows('SELECT p.name, c.name FROM c JOIN p ON p.id = c.p_id')).toEqual([['x', 'child']]);
    expect(a.waiting()).toEqual([]);
    converge([a, c]);
    expect(c.rows('SELECT p.name, c.name FROM c JOIN p ON p.id = c.p_id')).toEqual([['x', 'child']]);
    converge(replicas);
    await expectEqual(...replicas);
  });

  it('[D6] keeps every kind of value', async () => {
    const [a, b] = pairOf(`CREATE TABLE q (id INTEGER PRIMARY KEY);
      CREATE TABLE p (id INTEGER PRIMARY KEY, a, b TEXT, c BLOB, d REAL, e INTEGER, q_id INTEGER REFERENCES q (id) ON DELETE SET NULL);
      CREATE TABLE c (id INTEGER PRIMARY KEY, p_id INTEGER NOT NULL REFERENCES p (id));`);
    a.write('INSERT INTO q VALUES (7)');
    a.write(
      "INSERT INTO p VALUES (1, 5, 'ü,x', x'00ff', -0.0, 9223372036854775807, 7), (2, 5.0, '', x'', 1e300, NULL, NULL)",
    );
    converge([a, b]);
    const content =
      'SELECT a, typeof(a), b, hex(c), typeof(c), d, typeof(d), CAST(e AS TEXT), q_id IS NULL FROM p ORDER BY typeof(a)';
    const before = a.rows(content);
    a.write('DELETE FROM p');
    b.write('INSERT INTO c SELECT id, id FROM p');
    a.pull(b);
    expect(a.rows(content)).toEqual(before);
    converge([a, b]);
    expect(b.rows(content)).toEqual(before);
    await expectEqual(a, b);
  });

  it('is decided by no page in the middle', () => {
    const [a, b, c] = conflict('ON DELETE CASCADE') as [Replica, Replica, Replica];
    applyAll(c, 'B', pagesFor(c, b, 1));
    applyAll(c, 'A', pagesFor(c, a, 1));
    expect(c.rows('SELECT name FROM c')).toEqual([['child']]);
    expect(c.waiting()).toEqual(['referrers']);
  });

  it('waits for a move that is still on its way', async () => {
    const [a, b, c] = fleetOf(3, ddl('ON DELETE CASCADE')) as [Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (1, 'old'), (2, 'new'); INSERT INTO c VALUES (1, 1, 'child')");
    converge([a, b, c]);
    a.write('UPDATE c SET p_id = 2');
    a.stamp();
    a.write('DELETE FROM p WHERE id = 1');
    // The delete comes by way of C, before the move, and with no claim to know it.
    const pages = pagesFor(c, a, 1);
    expect(pages).toHaveLength(2);
    applyAll(c, 'A', pages.slice(-1));
    expect(c.waiting()).toEqual(['referrers']);
    b.pull(c);
    expect(b.waiting()).toEqual(['referrers']);
    expect(b.rows('SELECT name FROM c')).toEqual([['child']]);
    b.pull(a);
    expect(b.rows('SELECT p.name FROM c JOIN p ON p.id = c.p_id')).toEqual([['new']]);
    expect(b.waiting()).toEqual([]);
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });

  it('does not cascade to a row whose newer version waits: it may have moved', async () => {
    const [a, b] = pairOf(
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE c (id INTEGER PRIMARY KEY, p_id INTEGER REFERENCES p (id) ON DELETE CASCADE, name TEXT UNIQUE)`,
      {
        config: { tables: { c: { unique: { name: 'keep-first' } } } },
      },
    );
    b.write("INSERT INTO c VALUES (7, NULL, 'taken')");
    b.stamp();
    a.write("INSERT INTO p VALUES (1, 'old'), (2, 'new'); INSERT INTO c VALUES (1, 1, 'child')");
    b.pull(a);
    a.write("UPDATE c SET p_id = 2, name = 'taken'; DELETE FROM p WHERE id = 1");
    b.pull(a);
    expect(b.waiting().toSorted()).toEqual(['referrers', 'unique']);
    b.write("UPDATE c SET name = 'free' WHERE id = 7");
    converge([a, b]);
    expect(b.rows("SELECT p.name FROM c JOIN p ON p.id = c.p_id WHERE c.name = 'taken'")).toEqual([['new']]);
    await expectEqual(a, b);
  });

  it('does not take a target for dead that was born again after the tombstone and has not come', async () => {
    const ddlTags = `CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
      CREATE TABLE u (id INTEGER PRIMARY KEY, tag_id INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE, name TEXT)`;
    const config = { tables: { tags: { identity: 'name' } } };
    const [a, b] = pairOf(ddlTags, { config });
    a.write("INSERT INTO tags VALUES (1, 'red')");
    converge([a, b]);
    a.write('DELETE FROM tags');
    converge([a, b]);
    a.write("INSERT INTO tags VALUES (1, 'red'); INSERT INTO u VALUES (1, 1, 'tagged')");
    const [, tagging] = singles(b, a) as [Uint8Array, Uint8Array];
    applyAll(b, 'A', [tagging]);
    b.pull(new Replica({ device: 'Z', ddl: ddlTags, config }));
    expect(b.waiting()).toHaveLength(1);
    converge([a, b]);
    expect(b.rows('SELECT name FROM u')).toEqual([['tagged']]);
    await expectEqual(a, b);
  });

  it('clears a foreign key of several columns', async () => {
    const composite = `CREATE TABLE p (x TEXT, y TEXT, PRIMARY KEY (x, y));
      CREATE TABLE c (id INTEGER PRIMARY KEY, x TEXT, y TEXT, FOREIGN KEY (x, y) REFERENCES p (x, y) ON DELETE SET NULL)`;
    const [a, b] = pairOf(composite);
    a.write("INSERT INTO p VALUES ('1', '2')");
    converge([a, b]);
    a.write('DELETE FROM p');
    b.write("INSERT INTO c VALUES (1, '1', '2')");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT x, y FROM c')).toEqual([[null, null]]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
  });

  it('lets a row die whose ring waits for each other and for a dead one', async () => {
    const ring = `CREATE TABLE p (id INTEGER PRIMARY KEY);
      CREATE TABLE c (id INTEGER PRIMARY KEY, next INTEGER REFERENCES c (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, p_id INTEGER REFERENCES p (id) ON DELETE CASCADE)`;
    const [a, b] = pairOf(ring);
    a.write('INSERT INTO p VALUES (1)');
    converge([a, b]);
    a.write('DELETE FROM p');
    b.write('BEGIN; INSERT INTO c VALUES (1, 2, NULL), (2, 1, 1); COMMIT');
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT * FROM c')).toEqual([]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
  });

  it('removes a ring of rows that died elsewhere', async () => {
    const ring =
      'CREATE TABLE c (id INTEGER PRIMARY KEY, next INTEGER REFERENCES c (id) DEFERRABLE INITIALLY DEFERRED)';
    const [a, b] = pairOf(ring);
    a.write('BEGIN; INSERT INTO c VALUES (1, 2), (2, 3), (3, 1), (4, 4); COMMIT');
    converge([a, b]);
    a.write('BEGIN; DELETE FROM c; COMMIT');
    b.pull(a, 1);
    expect(b.rows('SELECT * FROM c')).toEqual([]);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it(
    'deletes 10,000 rows of a tree that came in small pages, and 10,000 that were hung on it elsewhere',
    { timeout: BULK_TIMEOUT },
    async () => {
      const [a, b] = pairOf(TREE);
      const tree = (from: number, to: number, step: number): string =>
        `WITH RECURSIVE n (i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${to})
       INSERT INTO entries SELECT i, CASE WHEN i % ${step} = 0 THEN 1 ELSE i - 1 END, 'n' || i FROM n`;
      a.write(`INSERT INTO entries VALUES (1, NULL, 'root'); ${tree(2, 10_001, 2)}`);
      converge([a, b]);
      a.write('DELETE FROM entries WHERE id = 1');
      b.write(tree(20_000, 29_999, 100));
      converge([a, b], 500);
      for (const replica of [a, b]) {
        expect(replica.rows('SELECT count(*) FROM entries')).toEqual([[0]]);
        expect(replica.waiting()).toEqual([]);
      }
      await expectEqual(a, b);
    },
  );

  it('keeps a row that something refers to which does not sync, and goes on', async () => {
    const outside = `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT, mine INTEGER REFERENCES p (id));
      CREATE TABLE private (id INTEGER PRIMARY KEY, p_id INTEGER NOT NULL REFERENCES p (id));
      CREATE TABLE weak (id INTEGER PRIMARY KEY, p_id INTEGER REFERENCES p (id) ON DELETE CASCADE)`;
    const config = { tables: { private: { sync: false }, weak: { sync: false }, p: { localColumns: ['mine'] } } };
    const [a, b] = pairOf(outside, { config });
    a.write("INSERT INTO p (id, name) VALUES (1, 'held'), (2, 'free'), (3, 'weak'), (4, 'by a column')");
    converge([a, b]);
    b.write(
      "INSERT INTO private SELECT 1, id FROM p WHERE name = 'held'; INSERT INTO weak SELECT 1, id FROM p WHERE name = 'weak'",
    );
    b.write("INSERT INTO p (name, mine) SELECT 'own', id FROM p WHERE name = 'by a column'");
    a.write('DELETE FROM p');
    converge([a, b]);
    expect(b.rows('SELECT name FROM p ORDER BY name')).toEqual([['by a column'], ['held'], ['own']]);
    expect(b.rows('SELECT * FROM weak')).toEqual([]);
    expect(b.waiting()).toEqual(['referrers', 'referrers']);
    b.write('DELETE FROM private; UPDATE p SET mine = NULL');
    converge([a, b]);
    expect(b.rows('SELECT name FROM p')).toEqual([['own']]);
    await expectEqual(a, b);
  });
});

describe('UNIQUE', () => {
  it('hands a value over from a row that gives it up to one that takes it, in every order', async () => {
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

  it('lets two rows swap their values, in one page and in two', async () => {
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

  it('lets a child take the name of the parent that it leaves and that goes, in one page and in two', async () => {
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

  it('swaps those that can, though another collides for good', async () => {
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
