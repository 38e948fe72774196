/** Group V of docs/spec.md: every value in every kind of column, byte for byte. */
import { describe, expect, it } from 'vitest';

import { expectEqual, fleetOf, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

/** As SQL, so that SQLite makes of them what it makes of anybody's. */
const VALUES = [
  'NULL',
  '0',
  '1',
  '-1',
  '5',
  '5.0',
  '-0.0',
  '0.1',
  '1e300',
  '-5e-324',
  '9e999',
  '-9e999',
  '9e999 - 9e999',
  '9007199254740991',
  '9007199254740992',
  '-9007199254740993',
  '9223372036854775807',
  '-9223372036854775808',
  '9223372036854775808',
  '9007199254740993.0',
  "''",
  "'text'",
  "' 5 '",
  "'5'",
  "'5.0'",
  "'1e3'",
  "'0x10'",
  "'9223372036854775807'",
  "'9223372036854775808'",
  'char(0)',
  "'a' || char(0) || 'b'",
  "'ümläut 💡' || char(0x10ffff)",
  'char(0xfeff) || 1',
  "x''",
  "x'00'",
  "x'00ff10'",
  "CAST('12' AS BLOB)",
  'zeroblob(3)',
  "'2026-02-30'",
  "'2026-01-01T00:00:00.000Z'",
  "date('now')",
  "julianday('now')",
  "strftime('%s', 'now')",
  'TRUE',
];
const TYPES = [
  'INTEGER',
  'INT8',
  'BOOLEAN',
  'REAL',
  'DOUBLE PRECISION',
  'TEXT',
  'VARCHAR(3)',
  'BLOB',
  'NUMERIC',
  'DECIMAL(10,5)',
  'DATETIME',
  'DATE',
  'JSON',
  '',
];

/** Type and exact content of each cell; what JavaScript tells apart and SQL does not (−0.0) by JavaScript. */
function cells(replica: Replica, columns: readonly string[]): unknown[][] {
  const list = columns.map(
    (name) => `typeof(${name}), CASE typeof(${name}) WHEN 'text' THEN hex(${name}) ELSE ${name} END`,
  );
  return replica.db
    .prepare(`SELECT ${list.join(', ')} FROM t ORDER BY tag`)
    .safeIntegers()
    .raw()
    .all() as unknown[][];
}

describe('every value', () => {
  const columns = TYPES.map((_, i) => `c${i}`);
  const ddl = `CREATE TABLE t (id INTEGER PRIMARY KEY, tag INTEGER, ${TYPES.map((type, i) => `c${i} ${type}`).join(', ')})`;
  const insert = (value: string, tag: number): string =>
    `INSERT INTO t (tag, ${columns.join(', ')}) SELECT ${tag}, ${columns.map(() => 'v').join(', ')} FROM (SELECT ${value} AS v)`;

  it('[V1] arrives in every kind of column with its type and its bytes, inserted, updated and in pages of one row', async () => {
    for (const rows of [1, 1000]) {
      const [a, b, c] = fleetOf(3, ddl) as [Replica, Replica, Replica];
      VALUES.forEach((value, i) => a.write(insert(value, i)));
      const written = cells(a, columns);
      b.pull(a, rows);
      expect(cells(b, columns)).toEqual(written);
      // Each value in the place of another one.
      VALUES.forEach((value, i) =>
        b.write(
          `UPDATE t SET (${columns.join(', ')}) = (SELECT ${columns.map(() => 'v').join(', ')} FROM (SELECT ${value} AS v)) WHERE tag = ${(i + 7) % VALUES.length}`,
        ),
      );
      const changed = cells(b, columns);
      converge([a, b, c], rows);
      expect(cells(a, columns)).toEqual(changed);
      expect(cells(c, columns)).toEqual(changed);
      await expectEqual(a, b, c);
    }
  });

  it('[V2] TEXT in an INTEGER column and the other way round stay what they are', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, t TEXT, b BLOB)');
    a.write(`INSERT INTO t VALUES (1, 'no number', x'31', 1), (2, x'31', NULL, '1'), (3, 1.5, x'', 1.0)`);
    converge([a, b]);
    const types = 'SELECT typeof(i), typeof(t), typeof(b), quote(i), quote(t), quote(b) FROM t ORDER BY id';
    expect(b.rows(types)).toEqual([
      ['text', 'blob', 'integer', "'no number'", "X'31'", '1'],
      ['blob', 'null', 'text', "X'31'", 'NULL', "'1'"],
      ['real', 'blob', 'real', '1.5', "X''", '1.0'],
    ]);
    await expectEqual(a, b);
  });

  it('[V3] −0.0 arrives as −0.0, infinities as infinities, NaN as the NULL that SQLite makes of it', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, tag INTEGER, u)');
    [-0, 0, Infinity, -Infinity, Number.NaN, 5e-324, Number.MAX_VALUE].forEach((value, i) =>
      a.write('INSERT INTO t (tag, u) VALUES (?, ?)', i, value),
    );
    converge([a, b]);
    const values = b.rows('SELECT u FROM t ORDER BY tag').map(([value]) => value);
    expect(values).toStrictEqual([-0, 0, Infinity, -Infinity, null, 5e-324, Number.MAX_VALUE]);
    await expectEqual(a, b);
  });

  it('[V3] −0.0 and 0.0, written at once, end as one of them on all devices', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, u)');
    a.write('INSERT INTO t VALUES (1, 5), (2, 5)');
    converge([a, b]);
    a.write('UPDATE t SET u = CASE id WHEN 1 THEN 0.0 ELSE -0.0 END');
    a.stamp();
    b.write('UPDATE t SET u = CASE id WHEN 1 THEN -0.0 ELSE 0.0 END');
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT u FROM t ORDER BY id')).toStrictEqual([[-0], [0]]);
    await expectEqual(a, b);
  });

  it('[V5] of 10 MB and of nothing arrive, alone and together, in values and in keys', async () => {
    const size = 10_000_000;
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, v, w); CREATE TABLE k (k PRIMARY KEY, v)');
    a.write(
      `INSERT INTO t (v, w) VALUES (randomblob(${size}), ''), (x'', printf('%.*c', ${size}, 'x') || 'ü' || char(0) || 'end'),
        (randomblob(${size}), CAST(x'ff' || zeroblob(${size}) AS TEXT)), ('', x'');
       INSERT INTO k VALUES (printf('%.*c', ${size / 10}, 'k'), 1), (zeroblob(${size / 10}), 2), ('', 3), (x'', 4)`,
    );
    converge([a, b]);
    const sums =
      'SELECT typeof(v), typeof(w), length(hex(v)), hex(substr(CAST(w AS BLOB), -4)) FROM t ORDER BY 1, 2, 3, 4';
    expect(b.rows(sums)).toEqual(a.rows(sums));
    a.write('UPDATE k SET v = v + 10; DELETE FROM k WHERE v = 12');
    b.write(`UPDATE t SET w = w || 'more' WHERE typeof(v) = 'blob' AND typeof(w) = 'text'`);
    converge([a, b]);
    expect(b.rows('SELECT v FROM k ORDER BY v')).toEqual([[11], [13], [14]]);
    await expectEqual(a, b);
  });

  it('[V1] in STRICT tables too, where ANY keeps what it is given', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, tag INTEGER, c0 ANY) STRICT');
    VALUES.forEach((value, i) => a.write(`INSERT INTO t (tag, c0) VALUES (${i}, ${value})`));
    converge([a, b]);
    expect(cells(b, ['c0'])).toEqual(cells(a, ['c0']));
    await expectEqual(a, b);
  });
});

describe('a change', () => {
  it('[V6] of type or bytes alone is a change, whatever the collation takes for equal', async () => {
    const [a, b] = pairOf(
      "CREATE TABLE t (id INTEGER PRIMARY KEY, n TEXT COLLATE NOCASE, r TEXT COLLATE RTRIM, u, i INTEGER); INSERT INTO t VALUES (1, 'foo', 'x', 1, 1)",
    );
    converge([a, b]);
    const all = 'SELECT n, r, typeof(u), quote(u), quote(i) FROM t';
    for (const set of [
      "n = 'FOO'",
      "r = 'x  '",
      'u = 1.0',
      "u = '1'",
      "u = x'31'",
      "n = 'Foo' || char(0)",
      "i = '1x'",
      'u = 9007199254740993',
      'u = 9007199254740993.0',
    ]) {
      a.write(`UPDATE t SET ${set}`);
      converge([a, b]);
      expect(b.rows(all)).toEqual(a.rows(all));
    }
    a.write('UPDATE t SET n = n, u = u, i = i');
    const before = a.library.head;
    a.stamp();
    expect(a.library.head).toBe(before);
    await expectEqual(a, b);
  });
});

describe('keys and identities', () => {
  it('[V7] hold every value as it is', async () => {
    const keys = VALUES.filter((value) => value !== 'NULL' && value !== '9e999 - 9e999' && !value.includes('now'));
    for (const ddl of [
      'CREATE TABLE t (v PRIMARY KEY, n)',
      'CREATE TABLE t (v PRIMARY KEY, n) WITHOUT ROWID',
      'CREATE TABLE t (v TEXT PRIMARY KEY, n)',
      'CREATE TABLE t (v NUMERIC PRIMARY KEY, n)',
      'CREATE TABLE t (v REAL, n, m TEXT DEFAULT x, PRIMARY KEY (m, v))'.replace('DEFAULT x', "DEFAULT 'm'"),
    ]) {
      const [a, b] = pairOf(ddl);
      for (const key of keys) a.write(`INSERT OR IGNORE INTO t (v, n) VALUES (${key}, 0)`);
      for (const key of keys.toReversed()) b.write(`INSERT OR IGNORE INTO t (v, n) VALUES (${key}, 1)`);
      const count = a.rows('SELECT count(*) FROM t');
      converge([a, b]);
      expect(b.rows('SELECT count(*) FROM t')).toEqual(count);
      b.write('UPDATE t SET n = 5');
      converge([a, b]);
      expect(a.rows('SELECT DISTINCT n FROM t')).toEqual([[5]]);
      expect(a.waiting()).toEqual([]);
      await expectEqual(a, b);
    }
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, v UNIQUE, n)', {
      config: { tables: { t: { identity: 'v' } } },
    });
    for (const key of keys) a.write(`INSERT OR IGNORE INTO t (v, n) VALUES (${key}, 0)`);
    b.write('INSERT INTO t (v) VALUES (7777)');
    for (const key of keys) b.write(`INSERT OR IGNORE INTO t (v, n) VALUES (${key}, 1)`);
    converge([a, b]);
    expect(b.rows('SELECT count(*) - 1 FROM t')).toEqual(
      a.rows("SELECT count(*) FROM t WHERE v <> 7777 OR typeof(v) <> 'integer'"),
    );
    await expectEqual(a, b);
  });
});
