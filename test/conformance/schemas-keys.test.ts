/** Group S of docs/spec.md: every kind of key. */
import { describe, expect, it } from 'vitest';

import { STAMP_SLICE } from '../../src/db/stamp.ts';
import { expectEqual, fleetOf, pairOf, stampsOf } from '../support/engine.ts';
import { converge, Replica } from '../support/replica.ts';

/** Tables with a value `v`, each with rows to insert: `(key columns…, v)`. */
const KEYS: ReadonlyArray<readonly [what: string, table: string, columns: string, rows: readonly string[]]> = [
  ['INTEGER PRIMARY KEY', 'CREATE TABLE t (id INTEGER PRIMARY KEY, v)', 'id', ['1', '2', '-7']],
  ['AUTOINCREMENT', 'CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v)', 'id', ['1', '2', '900']],
  ['a table constraint', 'CREATE TABLE t (v, id INTEGER, PRIMARY KEY (id))', 'id', ['1', '2', '3']],
  ['INTEGER PRIMARY KEY DESC', 'CREATE TABLE t (id INTEGER PRIMARY KEY DESC, v)', 'id', ['1', '2', '3']],
  ['INT PRIMARY KEY', 'CREATE TABLE t (id INT PRIMARY KEY, v)', 'id', ['1', "'x'", '1.5']],
  ['text', 'CREATE TABLE t (k TEXT PRIMARY KEY, v)', 'k', ["'a'", "''", "'ä, b'"]],
  [
    'UUID text',
    'CREATE TABLE t (k CHAR(36) NOT NULL PRIMARY KEY, v)',
    'k',
    ["'0190f3a2-0000-7000-8000-000000000001'", "'0190f3a2-0000-7000-8000-000000000002'", "'not one'"],
  ],
  ['blob', 'CREATE TABLE t (k BLOB PRIMARY KEY, v)', 'k', ["x'00'", "x''", "x'ff00ff'"]],
  ['untyped', 'CREATE TABLE t (k PRIMARY KEY, v)', 'k', ['1', "'1'", "x'31'", '1.5', '-0.0', '9223372036854775807']],
  ['real', 'CREATE TABLE t (k REAL PRIMARY KEY, v)', 'k', ['0.1', '1e300', '9e999', '-5e-324']],
  ['NOCASE', 'CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v)', 'k', ["'Ab'", "'c'", "'Ä'"]],
  ['RTRIM', 'CREATE TABLE t (k TEXT COLLATE RTRIM PRIMARY KEY, v)', 'k', ["'a  '", "'b'", "' c'"]],
  [
    'another collation than the column',
    'CREATE TABLE t (k TEXT COLLATE NOCASE, v, PRIMARY KEY (k COLLATE BINARY))',
    'k',
    ["'a'", "'A'", "'b'"],
  ],
  [
    'a wider collation than the column',
    'CREATE TABLE t (k TEXT, v, PRIMARY KEY (k COLLATE NOCASE))',
    'k',
    ["'a'", "'B'", "'c'"],
  ],
  [
    'composite',
    'CREATE TABLE t (a TEXT, v, b INTEGER, PRIMARY KEY (b DESC, a))',
    'a, b',
    ["'x', 1", "'x', 2", "'y', 1"],
  ],
  ['WITHOUT ROWID', 'CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID', 'k', ["'a'", "'b'", "''"]],
  ['WITHOUT ROWID, integer', 'CREATE TABLE t (id INTEGER PRIMARY KEY, v) WITHOUT ROWID', 'id', ['1', '2', '-3']],
  [
    'WITHOUT ROWID, composite',
    'CREATE TABLE t (a, v, b COLLATE NOCASE, PRIMARY KEY (b, a)) WITHOUT ROWID',
    'a, b',
    ["1, 'x'", "2, 'X'", "x'00', 'y'"],
  ],
  ['STRICT', 'CREATE TABLE t (id INTEGER PRIMARY KEY, v ANY) STRICT', 'id', ['1', '2', '3']],
  [
    'STRICT, WITHOUT ROWID',
    'CREATE TABLE t (k ANY PRIMARY KEY, v ANY) STRICT, WITHOUT ROWID',
    'k',
    ['1', "'1'", "x'31'"],
  ],
  [
    'columns that take the names of the rowid',
    'CREATE TABLE t (k TEXT PRIMARY KEY, rowid, oid, _rowid_, v)',
    'k, rowid',
    ["'a', 5", "'b', 5", "'c', NULL"],
  ],
  [
    'every column',
    'CREATE TABLE t (a TEXT, b TEXT, v, PRIMARY KEY (a, b, v))',
    'a, b',
    ["'x', 'y'", "'x', 'z'", "'', ''"],
  ],
  ['a column named twice', 'CREATE TABLE t (a TEXT, v, PRIMARY KEY (a, a COLLATE NOCASE))', 'a', ["'x'", "'y'", "'z'"]],
];

const content = (replica: Replica, columns: string): unknown[][] =>
  replica.rows(
    `SELECT ${[...columns.split(', '), 'v'].map((c) => `typeof(${c}) || ':' || quote(${c})`).join(', ')} FROM t ORDER BY 1, 2, ${columns.includes(',') ? '3' : '1'}`,
  );

describe('every kind of key', () => {
  it.each(KEYS)('[S1] %s: rows arrive, change, go', async (_, ddl, columns, keys) => {
    const [a, b, c] = fleetOf(3, ddl) as [Replica, Replica, Replica];
    keys.forEach((key, i) => a.write(`INSERT INTO t (${columns}, v) VALUES (${key}, ${i})`));
    converge([a, b]);
    expect(content(b, columns).map((row) => row.at(-1))).toHaveLength(keys.length);
    if (a.library.model('t').rowid === null) expect(content(b, columns)).toEqual(content(a, columns));
    b.write("UPDATE t SET v = 'changed ' || v");
    converge([a, b, c]);
    expect(content(a, 'v')).toEqual(content(b, 'v'));
    expect(content(c, 'v')).toEqual(content(a, 'v'));
    c.write("DELETE FROM t WHERE v = 'changed 1'; UPDATE t SET v = 'again'");
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(replica.rows('SELECT v FROM t')).toEqual(keys.slice(1).map(() => ['again']));
      expect(replica.waiting()).toEqual([]);
    }
    a.write('DELETE FROM t');
    converge([a, b, c]);
    expect(c.rows('SELECT count(*) FROM t')).toEqual([[0]]);
    await expectEqual(a, b, c);
  });

  it.each(KEYS)('[S1] %s: REPLACE, UPSERT and conflicts end the same', async (_, ddl, columns, keys) => {
    const [a, b] = pairOf(ddl);
    keys.forEach((key, i) => a.write(`INSERT INTO t (${columns}, v) VALUES (${key}, ${i})`));
    converge([a, b]);
    const key = keys[0] ?? '';
    a.write(`REPLACE INTO t (${columns}, v) VALUES (${key}, 'replaced')`);
    b.write("UPDATE t SET v = 'there'");
    converge([a, b]);
    b.write(`DELETE FROM t WHERE v <> 'replaced'; INSERT INTO t (${columns}, v) VALUES (${keys[1]}, 'anew')`);
    converge([a, b]);
    expect(content(a, 'v')).toEqual(content(b, 'v'));
    expect(a.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('[S1] a key that is changed is another row where it names the row, and the same where it is a number of this device', async () => {
    for (const [ddl, isSame] of [
      ['CREATE TABLE t (k INTEGER PRIMARY KEY, v)', true],
      ['CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID', false],
      ['CREATE TABLE t (k TEXT PRIMARY KEY, v)', false],
    ] as const) {
      const [a, b] = pairOf(ddl);
      a.write("INSERT INTO t VALUES (1, 'x'), (2, 'y')");
      converge([a, b]);
      a.write('UPDATE t SET k = 10 * k');
      converge([a, b]);
      expect(b.rows('SELECT v FROM t ORDER BY v')).toEqual([['x'], ['y']]);
      expect(b.rows('SELECT CAST(k AS INTEGER) FROM t ORDER BY v')).toEqual(isSame ? [[1], [2]] : [[10], [20]]);
      a.write("UPDATE t SET k = CASE v WHEN 'x' THEN 3 ELSE 4 END; UPDATE t SET k = 7 - k WHERE v = 'x' AND 0");
      a.write('UPDATE t SET k = -k; UPDATE t SET k = 7 + k');
      converge([a, b]);
      expect(b.rows('SELECT v FROM t ORDER BY v')).toEqual([['x'], ['y']]);
      await expectEqual(a, b);
    }
  });

  it.each([
    ['INTEGER PRIMARY KEY', 'CREATE TABLE t (k INTEGER PRIMARY KEY, v)'],
    ['another key', 'CREATE TABLE t (k INT PRIMARY KEY, v)'],
    ['WITHOUT ROWID', 'CREATE TABLE t (k INT, v, PRIMARY KEY (v, k)) WITHOUT ROWID'],
  ])(
    '[S1] all rows that were there get an identity, more than a slice and from the smallest id on: %s',
    async (_, ddl) => {
      const rows = 2 * STAMP_SLICE;
      const before = `
      INSERT INTO t (k, v) VALUES (-9223372036854775808, 'least'), (9223372036854775807, 'greatest');
      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})
      INSERT INTO t (k, v) SELECT i * 7 % ${rows + 1} - ${STAMP_SLICE}, i FROM n`;
      const [a, b] = [new Replica({ device: 'A', ddl, before }), new Replica({ device: 'B', ddl })];
      expect(a.rows('SELECT count(*) FROM t')).toEqual([[rows + 2]]);
      expect(a.rows('SELECT count(*), count(DISTINCT uuid), count(DISTINCT lsn) FROM flotilla_rows_1')).toEqual([
        [rows + 2, rows + 2, rows + 2],
      ]);
      converge([a, b]);
      expect(b.rows('SELECT count(DISTINCT v) FROM t')).toEqual([[rows + 2]]);
      await expectEqual(a, b);
    },
  );

  it('[S2] ids are given anew, beyond all that AUTOINCREMENT has given out', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v)');
    b.write("INSERT INTO t VALUES (500, 'gone'); DELETE FROM t");
    a.write("INSERT INTO t (v) VALUES ('x'), ('y')");
    converge([a, b]);
    expect(b.rows('SELECT id, v FROM t ORDER BY id')).toEqual([
      [501, 'x'],
      [502, 'y'],
    ]);
    b.write("INSERT INTO t (v) VALUES ('z')");
    expect(b.rows("SELECT id FROM t WHERE v = 'z'")).toEqual([[503]]);
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('[S3] VACUUM changes nothing, though it may number hidden rowids anew', async () => {
    for (const ddl of [
      'CREATE TABLE t (k TEXT PRIMARY KEY, v)',
      'CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID',
      'CREATE TABLE t (k INTEGER PRIMARY KEY, v)',
    ]) {
      const [a, b] = pairOf(ddl);
      a.write("INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z'); DELETE FROM t WHERE v = 'x'");
      converge([a, b]);
      a.write('VACUUM');
      b.write('VACUUM');
      expect(a.stamp()).toBe(0);
      a.write("UPDATE t SET v = 'changed' WHERE v = 'y'");
      b.write("DELETE FROM t WHERE v = 'z'");
      converge([a, b]);
      expect(a.rows('SELECT v FROM t')).toEqual([['changed']]);
      await expectEqual(a, b);
    }
  });

  it('[S4] a row with NULL in its natural key stays here until it has a whole key, however many there are', async () => {
    for (const ddl of [
      'CREATE TABLE t (k TEXT PRIMARY KEY, v)',
      'CREATE TABLE t (k TEXT, v, PRIMARY KEY (k))',
      'CREATE TABLE t (k INT PRIMARY KEY, v)',
    ]) {
      const [a, b] = pairOf(ddl, { before: "INSERT INTO t VALUES (NULL, 'old'), (NULL, 'older')" });
      a.write("INSERT INTO t VALUES (NULL, 'x'), (NULL, 'y'), (3, 'z')");
      converge([a, b]);
      expect(b.rows('SELECT v FROM t ORDER BY v')).toEqual([['old'], ['older'], ['z']]);
      a.write(
        "UPDATE t SET k = 1 WHERE v = 'x'; UPDATE t SET v = 'yy' WHERE v = 'y'; UPDATE t SET k = NULL WHERE v = 'z'",
      );
      converge([a, b]);
      expect(b.rows('SELECT v FROM t WHERE k IS NOT NULL')).toEqual([['x']]);
      a.write('DELETE FROM t WHERE k IS NULL');
      b.write('DELETE FROM t');
      converge([a, b]);
      expect(a.rows('SELECT count(*) FROM t')).toEqual([[0]]);
      await expectEqual(a, b);
    }
    const [a, b] = pairOf('CREATE TABLE t (a TEXT, b TEXT, v, PRIMARY KEY (a, b))');
    a.write("INSERT INTO t VALUES ('x', NULL, 1), (NULL, 'x', 2), ('x', 'n', 3), ('x', NULL, 4)");
    a.write("UPDATE t SET v = v + 10; REPLACE INTO t VALUES ('x', NULL, 5)");
    converge([a, b]);
    expect(b.rows('SELECT a, b, v FROM t')).toEqual([['x', 'n', 13]]);
    await expectEqual(a, b);
  });

  it('[S1] keys that are foreign keys name the row by what they refer to', async () => {
    const [a, b] = pairOf(`CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE detail (p_id INTEGER PRIMARY KEY REFERENCES p (id) ON DELETE CASCADE, text TEXT);
      CREATE TABLE more (p_id INTEGER PRIMARY KEY REFERENCES detail (p_id) ON DELETE CASCADE, text TEXT) WITHOUT ROWID;
      CREATE TABLE pair (a INTEGER NOT NULL REFERENCES p (id), b INTEGER NOT NULL REFERENCES p (id), PRIMARY KEY (a, b)) WITHOUT ROWID`);
    b.write("INSERT INTO p VALUES (1, 'other')");
    a.write(
      "INSERT INTO p VALUES (1, 'x'), (2, 'y'); INSERT INTO detail VALUES (1, 'of x'), (2, 'of y'); INSERT INTO more VALUES (2, 'more of y'); INSERT INTO pair VALUES (1, 2), (2, 2)",
    );
    converge([a, b]);
    const joined = `SELECT p.name, d.text, m.text, (SELECT group_concat(q.name) FROM pair JOIN p q ON q.id = pair.b WHERE pair.a = p.id)
      FROM p LEFT JOIN detail d ON d.p_id = p.id LEFT JOIN more m ON m.p_id = p.id ORDER BY p.name`;
    expect(b.rows(joined)).toEqual([
      ['other', null, null, null],
      ['x', 'of x', null, 'y'],
      ['y', 'of y', 'more of y', 'y'],
    ]);
    expect(a.rows(joined)).toEqual(b.rows(joined));
    expect(stampsOf(a, 'detail', 1).uuid).toBe(
      stampsOf(b, 'detail', Number(b.rows("SELECT id FROM p WHERE name = 'x'")[0]?.[0])).uuid,
    );
    b.write("DELETE FROM pair; DELETE FROM p WHERE name = 'y'");
    converge([a, b]);
    expect(a.rows('SELECT count(*) FROM more')).toEqual([[0]]);
    await expectEqual(a, b);
  });
});
