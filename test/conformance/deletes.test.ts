/** What deletes do to rows that refer to what was deleted, when neither writer knew of the other. Rule ids are those of docs/spec.md, group D. */
import { describe, expect, it } from 'vitest';

import { applyAll, expectEqual, fleetOf, pagesFor, pairOf, singles } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';

const TREE =
  'CREATE TABLE entries (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE, name TEXT); CREATE INDEX e ON entries (parent_id)';

/** ms: such numbers of rows take a loaded machine longer than other tests. */
const BULK_TIMEOUT = 180_000;

describe('ON DELETE across devices', () => {
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

  it('[D2] CASCADE takes the rows of another device along, and theirs', async () => {
    const replicas = conflict('ON DELETE CASCADE', 'NOT NULL');
    converge(replicas);
    for (const replica of replicas) {
      expect(replica.rows('SELECT * FROM c UNION ALL SELECT *, 0 FROM g')).toEqual([]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(...replicas);
  });

  it('[D2] SET NULL clears the column', async () => {
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

  it('[D6] keeps it also when somebody else has deleted the row later', () => {
    const replicas = fleetOf(4, ddl(''));
    const [a, b, c, d] = replicas as [Replica, Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (1, 'x')");
    converge(replicas);
    for (const replica of [a, d]) {
      replica.write('DELETE FROM p');
      replica.stamp();
    }
    a.pull(d);
    b.write("INSERT INTO c VALUES (1, 1, 'child')");
    c.pull(b);
    a.pull(c);
    expect(a.rows('SELECT p.name, c.name FROM c JOIN p ON p.id = c.p_id')).toEqual([['x', 'child']]);
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

  it.each(['RESTRICT', 'NO ACTION', 'SET NULL'])(
    '[D7] what a reference of another device forbids to delete is born again by its owner: ON DELETE %s',
    async (action) => {
      const replicas = fleetOf(
        3,
        `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE c (id INTEGER PRIMARY KEY, p_id INTEGER NOT NULL REFERENCES p (id) ON DELETE ${action}, name TEXT)`,
        { config: { tables: { p: { ownership: 'device' }, c: { ownership: 'device' } } } },
      );
      const [a, b] = replicas as [Replica, Replica];
      a.write("INSERT INTO p VALUES (1, 'x')");
      converge(replicas);
      a.write('DELETE FROM p');
      b.write("INSERT INTO c VALUES (1, 1, 'child')");
      converge(replicas);
      for (const replica of replicas) {
        expect(replica.rows('SELECT p.name, c.name FROM c JOIN p ON p.id = c.p_id')).toEqual([['x', 'child']]);
        expect(replica.waiting()).toEqual([]);
      }
      await expectEqual(...replicas);
    },
  );

  it('[D7] and nobody bears again what cannot do without a row of another device before that one is there', async () => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE root (id INTEGER PRIMARY KEY, name TEXT);
       CREATE TABLE p (id INTEGER PRIMARY KEY, root INTEGER NOT NULL REFERENCES root ON DELETE CASCADE, name TEXT);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER NOT NULL REFERENCES p ON DELETE RESTRICT, name TEXT)`,
      { config: { tables: { root: { ownership: 'device' }, c: { ownership: 'device' } } } },
    );
    const [a, b] = replicas as [Replica, Replica];
    a.write("INSERT INTO root VALUES (1, 'top')");
    converge(replicas);
    b.write("INSERT INTO p VALUES (1, 1, 'x')");
    b.stamp();
    a.write('DELETE FROM root');
    a.pull(b);
    expect(a.rows('SELECT * FROM p')).toEqual([]);
    b.write("INSERT INTO c VALUES (1, 1, 'child')");
    converge(replicas);
    for (const replica of replicas) {
      expect(
        replica.rows('SELECT root.name, p.name, c.name FROM c JOIN p ON p.id = c.p JOIN root ON root.id = root'),
      ).toEqual([['top', 'x', 'child']]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(...replicas);
  });

  it('[D1] is decided by no page in the middle', () => {
    const [a, b, c] = conflict('ON DELETE CASCADE') as [Replica, Replica, Replica];
    applyAll(c, 'B', pagesFor(c, b, 1));
    applyAll(c, 'A', pagesFor(c, a, 1));
    expect(c.rows('SELECT name FROM c')).toEqual([['child']]);
    expect(c.waiting()).toEqual(['referrers']);
  });

  it('[D1] waits for a move that is still on its way', async () => {
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

  it('[D1] does not cascade to a row whose newer version waits: it may have moved', async () => {
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

  it('[D1] does not take a target for dead that was born again after the tombstone and has not come', async () => {
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

  it('[D2] clears a foreign key of several columns', async () => {
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

  it('[D2] lets a row die whose ring waits for each other and for a dead one', async () => {
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

  it('[D2] removes a ring of rows that died elsewhere', async () => {
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
    '[D2] deletes 10,000 rows of a tree that came in small pages, and 10,000 that were hung on it elsewhere',
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

describe('[D2] a parent with another affinity than its children', () => {
  it('takes along what SQLite takes along with it, on every device', async () => {
    const [a, b] = pairOf(`CREATE TABLE p (name ANY PRIMARY KEY) STRICT;
      CREATE TABLE c (id INTEGER PRIMARY KEY, p NUMERIC REFERENCES p (name) ON DELETE CASCADE);`);
    a.write("INSERT INTO p VALUES ('1')");
    converge([a, b]);
    a.write('DELETE FROM p');
    b.write('INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 1)');
    converge([a, b]);
    expect(a.rows('SELECT count(*) FROM c')).toEqual(b.rows('SELECT count(*) FROM c'));
    expect([...a.waiting(), ...b.waiting()]).toEqual([]);
    await expectEqual(a, b);
  });
});
