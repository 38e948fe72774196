/** Values arrive byte for byte, with the same type. */
import { describe, expect, it } from 'vitest';

import { expectEqual, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

/** Every cell with its type and, for what JavaScript would blur, its text. */
function exactly(replica: Replica, table: string, columns: readonly string[]): unknown[][] {
  const list = columns.map(
    (column) =>
      `typeof(${column}), CASE typeof(${column}) WHEN 'blob' THEN hex(${column}) WHEN 'text' THEN hex(${column}) WHEN 'real' THEN printf('%!.20e', ${column}) ELSE CAST(${column} AS TEXT) END`,
  );
  return replica.rows(`SELECT ${list.join(', ')} FROM ${table} ORDER BY tag`);
}

describe('values', () => {
  const columns = ['i', 'r', 't', 'b', 'n', 'u'];
  const ddl = 'CREATE TABLE t (id INTEGER PRIMARY KEY, tag INTEGER, i INTEGER, r REAL, t TEXT, b BLOB, n NUMERIC, u)';
  const values = [
    'NULL',
    '0',
    '1',
    '-1',
    '5',
    '5.0',
    '-0.0',
    '0.1',
    '1e300',
    '-1e-300',
    '9e999',
    '-9e999',
    '9007199254740991',
    '9007199254740992',
    '9007199254740993',
    '-9007199254740993',
    '9223372036854775807',
    '-9223372036854775808',
    '9007199254740993.0',
    '1e18',
    '1.5e18',
    "''",
    "'text'",
    "'5'",
    "'5.0'",
    'char(65, 0, 66)',
    "'ümläut 💡'",
    'char(0)',
    "x''",
    "x'00ff10'",
    'zeroblob(3)',
    "CAST('12' AS BLOB)",
    "'9223372036854775807'",
  ];

  it('of every type in columns of every affinity are the same there', async () => {
    const [a, b] = pairOf(ddl);
    values.forEach((value, i) =>
      a.write(
        `INSERT INTO t (tag, i, r, t, b, n, u) VALUES (${i}, ${value}, ${value}, ${value}, ${value}, ${value}, ${value})`,
      ),
    );
    b.pull(a);
    expect(exactly(b, 't', columns)).toEqual(exactly(a, 't', columns));
    b.write('UPDATE t SET tag = tag + 100');
    converge([a, b]);
    expect(exactly(a, 't', columns)).toEqual(exactly(b, 't', columns));
    await expectEqual(a, b);
  });

  it('keep the sign of a zero', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT, u)');
    const sign = (replica: Replica): unknown => replica.rows('SELECT u FROM t')[0]?.[0];
    a.write("INSERT INTO t VALUES (1, 'inserted', -0.0)");
    b.pull(a);
    expect(sign(b)).toBe(-0);
    a.write('UPDATE t SET u = 1.5');
    a.write('UPDATE t SET u = -0.0');
    b.pull(a);
    expect(sign(b)).toBe(-0);
    await expectEqual(a, b);
  });

  it('are the same when each row has a page of its own', async () => {
    const [a, b] = pairOf(ddl);
    values.forEach((value, i) =>
      a.write(
        `INSERT INTO t (tag, i, r, t, b, n, u) VALUES (${i}, ${value}, ${value}, ${value}, ${value}, ${value}, ${value})`,
      ),
    );
    b.pull(a, 1);
    expect(exactly(b, 't', columns)).toEqual(exactly(a, 't', columns));
    await expectEqual(a, b);
  });

  it('are the same after having waited', async () => {
    const waiting = `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT UNIQUE); CREATE TABLE t (id INTEGER PRIMARY KEY, tag INTEGER, p_id INTEGER REFERENCES p (id), u, b BLOB)`;
    const [a, b] = pairOf(waiting, { config: { tables: { p: { unique: { name: 'keep-first' } } } } });
    b.write("INSERT INTO p VALUES (1, 'x')");
    b.stamp();
    a.write("INSERT INTO p VALUES (1, 'x')");
    values.forEach((value, i) => a.write(`INSERT INTO t (tag, p_id, u, b) VALUES (${i}, 1, ${value}, ${value})`));
    b.pull(a);
    expect(b.waiting()).toHaveLength(values.length + 1);
    b.write('DELETE FROM p');
    converge([a, b]);
    expect(b.waiting()).toEqual([]);
    expect(exactly(b, 't', ['u', 'b'])).toEqual(exactly(a, 't', ['u', 'b']));
    await expectEqual(a, b);
  });

  it('5 and 5.0 differ in a column without a type, and so do the digests', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, u)');
    a.write('INSERT INTO t VALUES (1, 5), (2, 5.0)');
    b.pull(a);
    expect(b.rows('SELECT typeof(u) FROM t ORDER BY id')).toEqual([['integer'], ['real']]);
    await expectEqual(a, b);
    b.write(
      'UPDATE flotilla_capture SET suspended = 1; UPDATE t SET u = 5.0 WHERE id = 1; UPDATE flotilla_capture SET suspended = 0',
    );
    expect(await b.digest()).not.toEqual(await a.digest());
  });

  it('in STRICT tables are the same', async () => {
    const [a, b] = pairOf(
      'CREATE TABLE t (id INTEGER PRIMARY KEY, tag INTEGER, i INT, r REAL, t TEXT, b BLOB, u ANY) STRICT',
    );
    a.write(
      "INSERT INTO t VALUES (1, 1, 9223372036854775807, 5, '5', x'00', 5), (2, 2, 0, 0.5, '', x'', 5.0), (3, 3, NULL, NULL, NULL, NULL, '5')",
    );
    converge([a, b]);
    expect(exactly(b, 't', ['i', 'r', 't', 'b', 'u'])).toEqual(exactly(a, 't', ['i', 'r', 't', 'b', 'u']));
    await expectEqual(a, b);
  });
});

describe('ids', () => {
  it('as large as 2^60 name rows, in keys and in references', async () => {
    const [a, b] = pairOf(`CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE c (id INTEGER PRIMARY KEY, p_id INTEGER REFERENCES p (id) ON DELETE CASCADE, name TEXT);
      CREATE TABLE m (p_id INTEGER PRIMARY KEY REFERENCES p (id) ON DELETE CASCADE, name TEXT);
      CREATE TABLE j (p_id INTEGER NOT NULL REFERENCES p (id) ON DELETE CASCADE, c_id INTEGER NOT NULL REFERENCES c (id) ON DELETE CASCADE, PRIMARY KEY (p_id, c_id))`);
    const big = '1152921504606846976';
    a.write(`INSERT INTO p VALUES (${big}, 'x'), (1152921504606846978, 'y'), (-${big}, 'z'), (1, 'small');
      INSERT INTO c SELECT id + 1, id, name FROM p; INSERT INTO m SELECT id, name FROM p;
      INSERT INTO j SELECT p_id, id FROM c`);
    b.pull(a);
    const joined =
      'SELECT p.name, c.name, m.name FROM p JOIN c ON c.p_id = p.id JOIN m ON m.p_id = p.id JOIN j ON j.p_id = p.id AND j.c_id = c.id ORDER BY 1';
    expect(b.rows(joined)).toEqual(a.rows(joined));
    expect(b.rows(joined)).toHaveLength(4);
    a.write(`UPDATE p SET name = 'changed' WHERE id = ${big}; DELETE FROM p WHERE id = -${big}`);
    converge([a, b]);
    expect(b.rows(joined)).toEqual(a.rows(joined));
    expect(b.rows(joined)).toHaveLength(3);
    await expectEqual(a, b);
  });

  it('keep being given when somebody has used the greatest one', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)');
    b.write("INSERT INTO t VALUES (9223372036854775807, 'greatest')");
    a.write("INSERT INTO t (name) VALUES ('x'), ('y')");
    converge([a, b]);
    expect(b.rows('SELECT count(*) FROM t WHERE id < 1000')).toEqual([[2]]);
    await expectEqual(a, b);
  });
});

describe('odd tables', () => {
  it('with names like keywords, quotes and spaces sync', async () => {
    const [a, b] =
      pairOf(`CREATE TABLE "select" ("group" INTEGER PRIMARY KEY, "from" TEXT, "a ""b""" TEXT, "c'd" TEXT, UNIQUE ("from"));
      CREATE TABLE "or der" ("x y" INTEGER NOT NULL REFERENCES "select" ("group") ON DELETE CASCADE, "where" TEXT NOT NULL, PRIMARY KEY ("x y", "where"))`);
    a.write(`INSERT INTO "select" VALUES (1, 'x', 'y', 'z'); INSERT INTO "or der" VALUES (1, 'w')`);
    converge([a, b]);
    b.write(`UPDATE "select" SET "c'd" = 'changed'`);
    converge([a, b]);
    expect(a.rows(`SELECT "c'd", o."where" FROM "select" JOIN "or der" o ON o."x y" = "group"`)).toEqual([
      ['changed', 'w'],
    ]);
    await expectEqual(a, b);
  });

  it('with generated columns, defaults and more than 64 columns sync', async () => {
    const many = Array.from({ length: 70 }, (_, i) => `c${i} INTEGER DEFAULT ${i}`).join(', ');
    const [a, b] = pairOf(
      `CREATE TABLE t (id INTEGER PRIMARY KEY, ${many}, twice INTEGER AS (c1 * 2) STORED, thrice INTEGER AS (c1 * 3))`,
    );
    a.write('INSERT INTO t (c69) VALUES (1)');
    converge([a, b]);
    a.write('UPDATE t SET c69 = 2, c1 = 10');
    converge([a, b]);
    expect(b.rows('SELECT c0, c1, c69, twice, thrice FROM t')).toEqual([[0, 10, 2, 20, 30]]);
    await expectEqual(a, b);
  });

  it('of nothing but an id sync', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY)');
    a.write('INSERT INTO t VALUES (5), (6)');
    b.write('INSERT INTO t VALUES (5)');
    converge([a, b]);
    expect(a.rows('SELECT count(*) FROM t')).toEqual([[3]]);
    await expectEqual(a, b);
  });
});
