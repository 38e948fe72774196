/** Group S of docs/spec.md: every kind of foreign key. */
import { describe, expect, it } from 'vitest';

import { expectEqual, fleetOf, inTheMiddle, pagesFor, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

/** Applies all that `from` has, one row a page, last page first: each row must wait for its targets or be there. */
function pullBackwards(to: Replica, from: Replica): void {
  for (const page of pagesFor(to, from, 1).toReversed()) {
    to.applier.apply(from.device, inTheMiddle(page));
    expect(to.violations()).toEqual([]);
  }
  to.write('DELETE FROM flotilla_cursors');
}

/** Schemas with rows, a query that says what refers to what by names, and a change that follows. */
const SCHEMAS: ReadonlyArray<
  readonly [what: string, ddl: string, rows: string, query: string, change: string, count: number]
> = [
  [
    'self-references, of trees and rings',
    'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, parent INTEGER REFERENCES t ON DELETE CASCADE, next INTEGER REFERENCES t (id) ON DELETE SET NULL)',
    "INSERT INTO t VALUES (1, 'a', NULL, NULL), (2, 'b', 1, NULL), (3, 'c', 2, 2); UPDATE t SET next = 3 WHERE id < 3; INSERT INTO t VALUES (9, 'self', 9, 9)",
    'SELECT t.name, p.name, n.name FROM t LEFT JOIN t p ON p.id = t.parent LEFT JOIN t n ON n.id = t.next ORDER BY t.name',
    "UPDATE t SET parent = NULL WHERE name = 'self'",
    4,
  ],
  [
    'two tables that refer to each other, one way NULL',
    `CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT, b INTEGER REFERENCES b (id) ON DELETE SET NULL);
     CREATE TABLE b (id INTEGER PRIMARY KEY, name TEXT, a INTEGER NOT NULL REFERENCES a (id) ON DELETE CASCADE)`,
    "INSERT INTO a VALUES (1, 'x', NULL), (2, 'y', NULL); INSERT INTO b VALUES (1, 'of y', 2), (2, 'of x', 1); UPDATE a SET b = 3 - id",
    'SELECT a.name, b.name FROM a LEFT JOIN b ON b.id = a.b ORDER BY a.name',
    "DELETE FROM a WHERE name = 'y'",
    1,
  ],
  [
    'two tables that refer to each other, NOT NULL and deferred',
    `CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT, b INTEGER NOT NULL REFERENCES b (id) DEFERRABLE INITIALLY DEFERRED);
     CREATE TABLE b (id INTEGER PRIMARY KEY, name TEXT, a INTEGER NOT NULL REFERENCES a (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED)`,
    "BEGIN; INSERT INTO a VALUES (1, 'x', 7), (2, 'y', 8); INSERT INTO b VALUES (7, 'of x', 1), (8, 'of y', 2); COMMIT",
    'SELECT a.name, b.name FROM a JOIN b ON b.id = a.b AND b.a = a.id ORDER BY a.name',
    "BEGIN; DELETE FROM b WHERE name = 'of y'; DELETE FROM a WHERE name = 'y'; COMMIT",
    1,
  ],
  [
    'three tables in a ring by natural keys, WITHOUT ROWID, deferred',
    `CREATE TABLE a (k TEXT PRIMARY KEY, to_b TEXT NOT NULL REFERENCES b DEFERRABLE INITIALLY DEFERRED) WITHOUT ROWID;
     CREATE TABLE b (k TEXT PRIMARY KEY, to_c TEXT NOT NULL REFERENCES c DEFERRABLE INITIALLY DEFERRED) WITHOUT ROWID;
     CREATE TABLE c (k TEXT PRIMARY KEY, to_a TEXT NOT NULL REFERENCES a DEFERRABLE INITIALLY DEFERRED) WITHOUT ROWID`,
    "BEGIN; INSERT INTO a VALUES ('1', '2'), ('x', 'y'); INSERT INTO b VALUES ('2', '3'), ('y', 'z'); INSERT INTO c VALUES ('3', '1'), ('z', 'x'); COMMIT",
    'SELECT a.k, b.k, c.k FROM a JOIN b ON b.k = a.to_b JOIN c ON c.k = b.to_c AND c.to_a = a.k ORDER BY a.k',
    "BEGIN; UPDATE c SET to_a = CASE k WHEN '3' THEN 'x' ELSE '1' END; UPDATE b SET to_c = CASE k WHEN '2' THEN 'z' ELSE '3' END; COMMIT",
    2,
  ],
  [
    'several columns, of which one is an id',
    `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
     CREATE TABLE q (p INTEGER NOT NULL REFERENCES p (id) ON DELETE CASCADE, kind TEXT NOT NULL, name TEXT, PRIMARY KEY (p, kind));
     CREATE TABLE r (id INTEGER PRIMARY KEY, name TEXT, p INTEGER, kind TEXT, FOREIGN KEY (kind, p) REFERENCES q (kind, p) ON DELETE SET NULL ON UPDATE CASCADE)`,
    "INSERT INTO p VALUES (5, 'p5'), (6, 'p6'); INSERT INTO q VALUES (5, 'k', '5k'), (6, 'k', '6k'), (6, 'l', '6l'); INSERT INTO r VALUES (1, 'r1', 6, 'k'), (2, 'r2', 6, NULL), (3, 'r3', NULL, 'l'), (4, 'r4', 5, 'k')",
    'SELECT r.name, q.name, p.name FROM r LEFT JOIN q ON q.p = r.p AND q.kind = r.kind LEFT JOIN p ON p.id = r.p ORDER BY r.name',
    "UPDATE q SET kind = 'm' WHERE name = '6k'; DELETE FROM q WHERE name = '5k'",
    4,
  ],
  [
    'a UNIQUE pair of which one is the id of the target itself',
    `CREATE TABLE p (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT, UNIQUE (id, kind));
     CREATE TABLE r (id INTEGER PRIMARY KEY, p INTEGER NOT NULL, kind TEXT NOT NULL CHECK (kind = 'file'), name TEXT, FOREIGN KEY (p, kind) REFERENCES p (id, kind) ON DELETE CASCADE)`,
    "INSERT INTO p VALUES (5, 'file', 'p5'), (6, 'dir', 'p6'), (7, 'file', 'p7'); INSERT INTO r VALUES (1, 7, 'file', 'r1'), (2, 5, 'file', 'r2')",
    'SELECT r.name, p.name FROM r JOIN p ON p.id = r.p AND p.kind = r.kind ORDER BY r.name',
    "DELETE FROM p WHERE name = 'p5'; UPDATE p SET name = 'changed' WHERE name = 'p7'",
    1,
  ],
  [
    'UNIQUE columns that are no primary key, with another collation and type',
    `CREATE TABLE p (id INTEGER PRIMARY KEY, code TEXT NOT NULL COLLATE NOCASE UNIQUE, num NUMERIC UNIQUE);
     CREATE TABLE r (id INTEGER PRIMARY KEY, name TEXT, code TEXT REFERENCES p (code) ON UPDATE CASCADE ON DELETE SET NULL, num TEXT REFERENCES p (num) ON DELETE SET NULL)`,
    "INSERT INTO p VALUES (5, 'Ab', 10), (6, 'cd', 2.5); INSERT INTO r VALUES (1, 'r1', 'aB', NULL), (2, 'r2', 'CD', '10'), (3, 'r3', NULL, '2.5')",
    'SELECT r.name, r.code, c.code, n.code FROM r LEFT JOIN p c ON c.code = r.code LEFT JOIN p n ON n.num = r.num ORDER BY r.name',
    "UPDATE p SET code = 'Ef' WHERE code = 'ab'; DELETE FROM p WHERE code = 'cd'",
    3,
  ],
  [
    'keys of keys: an id that is a reference to an id that is one',
    `CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT);
     CREATE TABLE b (a_id INTEGER PRIMARY KEY REFERENCES a (id) ON DELETE CASCADE, name TEXT);
     CREATE TABLE c (b_id INTEGER NOT NULL REFERENCES b (a_id) ON DELETE CASCADE, n INTEGER NOT NULL, name TEXT, PRIMARY KEY (b_id, n)) WITHOUT ROWID;
     CREATE TABLE d (id INTEGER PRIMARY KEY, b INTEGER, n INTEGER, name TEXT, FOREIGN KEY (b, n) REFERENCES c (b_id, n) ON DELETE CASCADE)`,
    "INSERT INTO a VALUES (3, 'a3'), (4, 'a4'); INSERT INTO b VALUES (4, 'b4'), (3, 'b3'); INSERT INTO c VALUES (4, 1, 'c1'), (3, 1, 'c2'), (4, 2, 'c3'); INSERT INTO d VALUES (1, 4, 1, 'd1'), (2, 3, 1, 'd2')",
    'SELECT a.name, b.name, c.name, d.name FROM a JOIN b ON b.a_id = a.id JOIN c ON c.b_id = b.a_id LEFT JOIN d ON d.b = c.b_id AND d.n = c.n ORDER BY c.name',
    "UPDATE d SET name = 'changed'; DELETE FROM a WHERE name = 'a3'",
    2,
  ],
  [
    'two keys over one column, and a key twice',
    `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE q (id INTEGER PRIMARY KEY REFERENCES p (id) ON DELETE CASCADE, name TEXT);
     CREATE TABLE r (id INTEGER PRIMARY KEY, name TEXT, x INTEGER REFERENCES q (id) REFERENCES p (id), y INTEGER REFERENCES p (id) REFERENCES p (id))`,
    "INSERT INTO p VALUES (8, 'p8'), (9, 'p9'); INSERT INTO q VALUES (9, 'q9'), (8, 'q8'); INSERT INTO r VALUES (1, 'r', 9, 8), (2, 's', 8, 9)",
    'SELECT r.name, p.name, q.name, y.name FROM r JOIN p ON p.id = r.x JOIN q ON q.id = r.x JOIN p y ON y.id = r.y ORDER BY r.name',
    "UPDATE r SET x = y, y = x WHERE name = 'r'",
    2,
  ],
];

describe('every kind of foreign key', () => {
  it.each(SCHEMAS)('[S9] %s', async (_, ddl, rows, query, change, count) => {
    const [a, b, c] = fleetOf(3, ddl) as [Replica, Replica, Replica];
    const first = /CREATE TABLE (\w+) \((\w+) INTEGER PRIMARY KEY, name TEXT(?:\)|, parent)/.exec(ddl);
    // Ids differ from device to device.
    if (first !== null) b.write(`INSERT INTO ${first[1]} (name) VALUES ('mine 1'), ('mine 2')`);
    a.write(rows);
    const joined = a.rows(query);
    pullBackwards(c, a);
    expect(c.waiting()).toEqual([]);
    expect(c.rows(query)).toEqual(joined);
    converge([a, b, c]);
    b.write(change);
    converge([a, b, c]);
    const after = b.rows(query).filter((row) => !String(row[0]).startsWith('mine'));
    expect(after).toHaveLength(count);
    for (const replica of [a, c]) {
      expect(replica.rows(query)).toEqual(b.rows(query));
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b, c);
  });

  it.each(SCHEMAS)('[S9] %s: all of it deleted', async (_, ddl, rows) => {
    const [a, b] = pairOf(ddl);
    a.write(rows);
    converge([a, b]);
    const tables = [...ddl.matchAll(/CREATE TABLE (\w+)/g)].map(([, name]) => name);
    b.db.pragma('defer_foreign_keys = ON');
    b.write(
      `BEGIN; PRAGMA defer_foreign_keys = ON; ${tables
        .toReversed()
        .map((name) => `DELETE FROM ${name};`)
        .join(' ')} COMMIT`,
    );
    converge([a, b]);
    for (const name of tables) expect(a.rows(`SELECT count(*) FROM ${name}`)).toEqual([[0]]);
    expect(a.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('[S9] to a table that does not sync, or is not there, or to no unique columns, is refused with what to do', () => {
    const config = { tables: { p: { sync: false } } };
    expect(() =>
      pairOf(
        'CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p)',
        { config },
      ),
    ).toThrow(/"p", which does not sync.*"localColumns"/s);
    expect(() => pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, p INTEGER REFERENCES absent)')).toThrow(
      /"absent", which does not exist/,
    );
    expect(() =>
      pairOf('CREATE VIEW v AS SELECT 1 AS id; CREATE TABLE t (id INTEGER PRIMARY KEY, p INTEGER REFERENCES v (id))'),
    ).toThrow(/"v", which does not sync/);
    expect(() =>
      pairOf('CREATE TABLE p (id INTEGER PRIMARY KEY, x); CREATE TABLE t (id INTEGER PRIMARY KEY, p REFERENCES p (x))'),
    ).toThrow(/no primary key and not UNIQUE/);
  });
});

describe('[A10] an id in a foreign key of several columns that does not hold, since another column is NULL', () => {
  const DDL = `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE q (p INTEGER NOT NULL REFERENCES p (id) ON DELETE CASCADE, kind TEXT NOT NULL, PRIMARY KEY (p, kind));
    CREATE TABLE r (id INTEGER PRIMARY KEY, name TEXT, p INTEGER, kind TEXT, FOREIGN KEY (kind, p) REFERENCES q (kind, p))`;

  it('means nothing once its row is gone: the row that holds it arrives without it, also later', async () => {
    const replicas = fleetOf(3, DDL);
    const [a, b, c] = replicas as [Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (5, 'five'); INSERT INTO r VALUES (1, 'r', 5, NULL)");
    converge([a, b]);
    expect(b.rows('SELECT r.name, p.name FROM r JOIN p ON p.id = r.p')).toEqual([['r', 'five']]);
    a.write('DELETE FROM p');
    converge(replicas);
    for (const replica of [b, c]) expect(replica.rows('SELECT name FROM r')).toEqual([['r']]);
    expect(c.rows('SELECT p FROM r')).toEqual([[null]]);
    for (const replica of replicas) expect(replica.waiting()).toEqual([]);
    await expectEqual(...replicas);
  });
});

describe('[S9] columns with another affinity than those that they refer to', () => {
  it('hold up no batch, though SQLite takes one of them off its count that has nothing to do with it', async () => {
    const [a, b] = pairOf(`
      CREATE TABLE p (name BLOB PRIMARY KEY, top BLOB REFERENCES q (code));
      CREATE TABLE q (code BLOB PRIMARY KEY, p NUMERIC REFERENCES p (name));`);
    b.write("INSERT INTO p VALUES (1, NULL); INSERT INTO q VALUES (x'68', 1)");
    a.write("INSERT INTO p VALUES ('a', NULL); INSERT INTO q VALUES (x'74', 'a')");
    a.write("UPDATE p SET top = x'74'; INSERT INTO p VALUES ('1', x'74')");
    converge([a, b]);
    expect(b.rows('SELECT count(*) FROM p JOIN q ON q.code = p.top')).toEqual([[2]]);
    await expectEqual(a, b);
  });
});
