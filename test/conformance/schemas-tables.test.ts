/** Group S of docs/spec.md: what stands in a table besides its key. */
import { describe, expect, it } from 'vitest';

import { expectEqual, fleetOf, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

describe('generated columns', () => {
  it('[S6] are computed on every device, virtual and stored, wherever they stand among the others', async () => {
    const [a, b] = pairOf(`CREATE TABLE t (
        v TEXT GENERATED ALWAYS AS (upper(name)) VIRTUAL, id INTEGER PRIMARY KEY, s TEXT AS (name || '!') STORED,
        name TEXT, n INTEGER, twice INTEGER AS (2 * n) STORED, after TEXT);
      CREATE INDEX i ON t (v); CREATE INDEX j ON t (s, twice)`);
    b.write("INSERT INTO t (name, n) VALUES ('there', 7)");
    a.write("INSERT INTO t (name, n, after) VALUES ('x', 1, 'z')");
    converge([a, b]);
    b.write("UPDATE t SET name = 'y', n = 2 WHERE name = 'x'");
    converge([a, b]);
    const all = 'SELECT v, s, name, n, twice, after FROM t ORDER BY name';
    expect(a.rows(all)).toEqual([
      ['THERE', 'there!', 'there', 7, 14, null],
      ['Y', 'y!', 'y', 2, 4, 'z'],
    ]);
    expect(b.rows(all)).toEqual(a.rows(all));
    await expectEqual(a, b);
  });

  it('[S6] in unique indexes, also inside of expressions and conditions: REPLACE evicts, collisions wait, nothing fails', async () => {
    for (const index of [
      'CREATE UNIQUE INDEX u ON t (g)',
      'CREATE UNIQUE INDEX u ON t (lower(g))',
      'CREATE UNIQUE INDEX u ON t (name) WHERE g IS NOT NULL',
      'CREATE UNIQUE INDEX u ON t (substr(g, 1, 9), g)',
    ]) {
      const [a, b] = pairOf(
        `CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, g TEXT AS (name || '.') STORED); ${index}`,
      );
      a.write("INSERT INTO t (name) VALUES ('x'), ('y')");
      converge([a, b]);
      a.write("REPLACE INTO t (id, name) VALUES (7, 'x'); UPDATE OR REPLACE t SET name = 'y' WHERE id = 7");
      converge([a, b]);
      expect(b.rows('SELECT name FROM t')).toEqual([['y']]);
      // Only the row that it may really evict is marked, not whatever stands there.
      a.write("INSERT INTO t (name) VALUES ('free')");
      expect(a.rows('SELECT op FROM flotilla_marks')).toEqual([[1]]);
      a.write("INSERT INTO t (name) VALUES ('both')");
      b.write("INSERT INTO t (name) VALUES ('both')");
      converge([a, b]);
      await expectEqual(a, b);
    }
  });

  it('[S6] in a primary key of a table WITHOUT ROWID or as an identity are refused with what to do', () => {
    expect(() =>
      pairOf(
        'CREATE TABLE p (a TEXT UNIQUE); CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, g TEXT AS (n) STORED UNIQUE); DROP TABLE p',
        { config: { tables: { t: { identity: 'g' } } } },
      ),
    ).toThrow(/generated/);
  });

  it('[S6] as a foreign key, or as its target, are refused with what to do', () => {
    expect(() =>
      pairOf(
        'CREATE TABLE p (code TEXT PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT, g TEXT AS (lower(x)) STORED REFERENCES p (code))',
      ),
    ).toThrow(/"t".*generated.*"sync": false/s);
    expect(() =>
      pairOf(
        'CREATE TABLE p (id INTEGER PRIMARY KEY, x TEXT, g TEXT AS (lower(x)) STORED UNIQUE); CREATE TABLE t (id INTEGER PRIMARY KEY, g TEXT REFERENCES p (g))',
      ),
    ).toThrow(/"p".*generated.*"sync": false/s);
  });
});

describe('constraints and defaults', () => {
  it('[S7] CHECK, NOT NULL without default, DEFAULT expressions, COLLATE: what stands there arrives, and nothing is filled in', async () => {
    const ddl = `CREATE TABLE t (
      id INTEGER PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('a', 'b')), n INTEGER NOT NULL,
      at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), made INTEGER DEFAULT CURRENT_TIMESTAMP,
      token BLOB DEFAULT (randomblob(8)), word TEXT DEFAULT bare, quoted TEXT DEFAULT 'it''s', neg REAL DEFAULT -1.5,
      name TEXT COLLATE NOCASE DEFAULT 'Ä', CHECK (n > 0 AND (kind <> 'b' OR n < 10)), CONSTRAINT c UNIQUE (kind, n) ON CONFLICT REPLACE)`;
    const [a, b, c] = fleetOf(3, ddl) as [Replica, Replica, Replica];
    a.write(
      "INSERT INTO t (kind, n) VALUES ('a', 1), ('b', 2); INSERT INTO t (kind, n, at, token, word) VALUES ('a', 3, 'x', NULL, NULL)",
    );
    converge([a, b]);
    const all = 'SELECT kind, n, at, made, hex(token), word, quoted, neg, name FROM t ORDER BY n';
    expect(b.rows(all)).toEqual(a.rows(all));
    b.write("INSERT INTO t (kind, n, name) VALUES ('a', 1, 'instead'); UPDATE t SET n = 5 WHERE n = 2");
    converge([a, b, c]);
    expect(a.rows(all)).toEqual(b.rows(all));
    expect(c.rows(all)).toEqual(b.rows(all));
    expect(a.rows('SELECT n, name FROM t ORDER BY n')).toEqual([
      [1, 'instead'],
      [3, 'Ä'],
      [5, 'Ä'],
    ]);
    expect(a.waiting()).toEqual([]);
    await expectEqual(a, b, c);
  });

  it.each(['ROLLBACK', 'ABORT', 'FAIL', 'IGNORE', 'REPLACE'])(
    '[S7] ON CONFLICT %s in the schema decides about statements, never about what arrives',
    async (clause) => {
      const [a, b] =
        pairOf(`CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT ${clause}, u TEXT UNIQUE ON CONFLICT ${clause}, n TEXT NOT NULL ON CONFLICT ${clause} DEFAULT 'd');
        CREATE TABLE k (k TEXT PRIMARY KEY ON CONFLICT ${clause}, n)`);
      a.write("INSERT INTO t (u, n) VALUES ('same', 'a'), ('a', 'a'); INSERT INTO k VALUES ('k', 'a')");
      b.write("INSERT INTO t (u, n) VALUES ('same', 'b'), ('b', 'b'); INSERT INTO k VALUES ('k', 'b')");
      converge([a, b]);
      for (const replica of [a, b]) {
        // Every row is there or waits: none was dropped or evicted unseen.
        const [[shown]] = replica.rows('SELECT count(*) FROM t') as [[number]];
        expect(shown + replica.waiting().length).toBe(4);
        expect(replica.rows('SELECT count(*) FROM k')).toEqual([[1]]);
      }
      b.write("UPDATE t SET u = 'other' WHERE u = 'same'");
      a.write("UPDATE t SET n = 'changed' WHERE u = 'b'");
      converge([a, b]);
      expect(a.rows('SELECT count(*) FROM t')).toEqual([[4]]);
      expect(b.rows('SELECT u, n FROM t ORDER BY u, n')).toEqual(a.rows('SELECT u, n FROM t ORDER BY u, n'));
      await expectEqual(a, b);
    },
  );

  it('[S8] partial, expression, descending and covering indexes, unique and not', async () => {
    const [a, b] = pairOf(`CREATE TABLE t (id INTEGER PRIMARY KEY, "a b" TEXT, c INTEGER, d TEXT, deleted INTEGER);
      CREATE UNIQUE INDEX u1 ON t ("a b" COLLATE NOCASE, c DESC) WHERE deleted IS NULL;
      CREATE UNIQUE INDEX u2 ON t (lower(d), c + 1) WHERE d <> '' AND c > 0;
      CREATE UNIQUE INDEX u3 ON t ((CASE WHEN deleted THEN NULL ELSE json_extract(d, '$.x') END)) WHERE json_valid(d);
      CREATE INDEX i1 ON t (length(d)); CREATE INDEX i2 ON t (c) WHERE c IN (1, 2)`);
    a.write(`INSERT INTO t ("a b", c, d) VALUES ('x', 1, 'D'), ('X', 2, 'e'), ('y', 1, '{"x": 1}')`);
    converge([a, b]);
    a.write(
      `INSERT OR REPLACE INTO t ("a b", c, d) VALUES ('X', 1, 'f'), ('z', 1, '{"x":1}'); UPDATE OR REPLACE t SET d = 'F' WHERE c = 2; INSERT OR REPLACE INTO t (c, d) VALUES (2, 'f')`,
    );
    converge([a, b]);
    const all = 'SELECT "a b", c, d FROM t ORDER BY 1, 2, 3';
    expect(b.rows(all)).toEqual(a.rows(all));
    expect(b.rows(all)).toHaveLength(3);
    await expectEqual(a, b);
  });

  it('[S7] tables of one column, of 300, and with a table number beyond the first', async () => {
    const wide = Array.from({ length: 300 }, (_, i) => `c${i}`);
    const [a, b] = pairOf(
      `CREATE TABLE one (k TEXT PRIMARY KEY) WITHOUT ROWID; CREATE TABLE t (id INTEGER PRIMARY KEY, ${wide.map((name) => `${name} DEFAULT 0`).join(', ')})`,
    );
    a.write("INSERT INTO one VALUES ('x'), ('y'); INSERT INTO t DEFAULT VALUES; DELETE FROM one WHERE k = 'x'");
    converge([a, b]);
    b.write("UPDATE one SET k = 'z'");
    for (const i of [0, 51, 52, 53, 299]) b.write(`UPDATE t SET c${i} = ${i} + 1`);
    converge([a, b]);
    expect(a.rows('SELECT c0, c51, c52, c53, c299, c7 FROM t')).toEqual([[1, 52, 53, 54, 300, 0]]);
    expect(a.rows('SELECT k FROM one')).toEqual([['z']]);
    await expectEqual(a, b);
  });
});

describe('a table without a primary key', () => {
  it('[S5] is refused with the three ways out', () => {
    expect(() => pairOf('CREATE TABLE t (a, b)')).toThrow(
      /"t" has no primary key.*primary key.*"identity".*"sync": false/s,
    );
  });

  it('[S5] syncs by columns that are NOT NULL and UNIQUE, when they are declared as its identity', async () => {
    const ddl =
      'CREATE TABLE t (a TEXT NOT NULL COLLATE NOCASE, v, b INTEGER NOT NULL, UNIQUE (b, a)); CREATE TABLE c (id INTEGER PRIMARY KEY, b INTEGER, a TEXT, FOREIGN KEY (b, a) REFERENCES t (b, a) ON DELETE CASCADE)';
    const [a, b] = pairOf(ddl, { config: { tables: { t: { identity: ['a', 'b'] } } } });
    a.write("INSERT INTO t VALUES ('x', 1, 1), ('y', 2, 2); INSERT INTO c VALUES (1, 1, 'x')");
    b.write("INSERT INTO t VALUES ('X', 10, 1)");
    converge([a, b]);
    expect(a.rows('SELECT count(*) FROM t')).toEqual([[2]]);
    b.write("REPLACE INTO t VALUES ('Y', 3, 2); VACUUM; DELETE FROM t WHERE b = 1");
    converge([a, b]);
    expect(a.rows('SELECT a, v FROM t')).toEqual([['Y', 3]]);
    expect(a.rows('SELECT count(*) FROM c')).toEqual([[0]]);
    await expectEqual(a, b);
  });

  it('[S5] is refused where the identity can be NULL, or is not UNIQUE', () => {
    const config = { tables: { t: { identity: 'a' } } };
    expect(() => pairOf('CREATE TABLE t (a TEXT UNIQUE, b)', { config })).toThrow(/"t" has no primary key.*NOT NULL/s);
    expect(() => pairOf('CREATE TABLE t (a TEXT NOT NULL, b)', { config })).toThrow(/"t" has no primary key.*UNIQUE/s);
    expect(() =>
      pairOf('CREATE TABLE t (a TEXT NOT NULL, b); CREATE UNIQUE INDEX i ON t (a) WHERE b IS NULL', { config }),
    ).toThrow(/"t" has no primary key/);
  });
});
