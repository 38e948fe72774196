/** Group V of docs/spec.md: text that no string of JavaScript holds. */
import { describe, expect, it } from 'vitest';

import { altered, expectEqual, fleetOf, pagesFor, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

/** Bytes that are no UTF-8, and some that are and look like it. */
const TEXTS = [
  'ff',
  'c3',
  '41ff42',
  'e282',
  'f09f92',
  'eda080', // a surrogate
  'c0af', // overlong
  'f4908080', // beyond U+10FFFF
  '00ff00', // NUL around
  '31ff', // begins like a number
  'efbfbd', // U+FFFD itself, valid
  'efbfbdff',
  'efbbbf41', // a byte order mark, valid
  '80'.repeat(100),
];

const cast = (hex: string): string => `CAST(x'${hex}' AS TEXT)`;
const stored = (replica: Replica, column = 'v', table = 't'): unknown[][] =>
  replica.rows(`SELECT typeof(${column}), hex(${column}) FROM ${table} ORDER BY 2, 1`);
const expected = (texts: readonly string[]): unknown[][] =>
  texts.map((hex) => ['text', hex.toUpperCase()]).toSorted((x, y) => ((x[1] ?? '') < (y[1] ?? '') ? -1 : 1));

describe('text that is no UTF-8', () => {
  it.each(['TEXT', 'INTEGER', 'REAL', 'BLOB', 'NUMERIC', ''])(
    '[V4] arrives byte for byte in a column of type "%s"',
    async (type) => {
      const [a, b, c] = fleetOf(3, `CREATE TABLE t (id INTEGER PRIMARY KEY, v ${type}, w)`) as [
        Replica,
        Replica,
        Replica,
      ];
      for (const hex of TEXTS) a.write(`INSERT INTO t (v, w) VALUES (${cast(hex)}, 9223372036854775807)`);
      a.write("INSERT INTO t (v) VALUES (NULL), (x'ff'), (7), ('plain')");
      converge([a, b]);
      expect(stored(b)).toEqual(stored(a));
      converge([b, c]);
      expect(stored(c).filter((row) => row[0] === 'text').length).toBeGreaterThanOrEqual(TEXTS.length);
      expect(stored(c)).toEqual(stored(a));
      c.write(`UPDATE t SET v = ${cast('c3ff')} WHERE v IS ${cast('ff')}`);
      b.write(`UPDATE t SET v = ${cast('fe')} WHERE v IS ${cast('efbfbd')}`);
      converge([a, b, c]);
      expect(stored(a)).toEqual(stored(b));
      expect(stored(a).map((row) => row[1])).toContain('C3FF');
      await expectEqual(a, b, c);
    },
  );

  it('[V4] is found anew in keys, composite ones and with a collation as well', async () => {
    for (const ddl of [
      'CREATE TABLE t (v TEXT PRIMARY KEY, n)',
      'CREATE TABLE t (v TEXT PRIMARY KEY, n) WITHOUT ROWID',
      'CREATE TABLE t (v PRIMARY KEY, n)',
      "CREATE TABLE t (v TEXT COLLATE NOCASE, k TEXT DEFAULT 'k', n, PRIMARY KEY (k, v))",
    ]) {
      const [a, b] = pairOf(ddl);
      for (const hex of TEXTS) a.write(`INSERT INTO t (v, n) VALUES (${cast(hex)}, 0)`);
      b.write(`INSERT INTO t (v, n) VALUES (${cast('ff')}, 1)`);
      converge([a, b]);
      expect(stored(a)).toEqual(expected(TEXTS));
      expect(stored(b)).toEqual(expected(TEXTS));
      b.write(
        `UPDATE t SET n = 5; DELETE FROM t WHERE v = ${cast('c3')}; UPDATE t SET v = ${cast('5aff')} WHERE v = ${cast('e282')}`,
      );
      converge([a, b]);
      expect(a.rows('SELECT DISTINCT n FROM t')).toEqual([[5]]);
      expect(stored(a)).toEqual(expected([...TEXTS.filter((hex) => hex !== 'c3' && hex !== 'e282'), '5aff']));
      await expectEqual(a, b);
    }
  });

  it('[V4] names one row on two devices where it is an identity, folded as its collation folds', async () => {
    const ddl = 'CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT NOT NULL UNIQUE COLLATE NOCASE, n)';
    const [a, b] = pairOf(ddl, { config: { tables: { t: { identity: 'v' } } } });
    a.write(`INSERT INTO t (v, n) VALUES (${cast('41ff')}, 'a')`);
    b.write(`INSERT INTO t (v, n) VALUES ('other', 'x'), (${cast('61ff')}, 'b')`);
    converge([a, b]);
    expect(a.rows('SELECT count(*) FROM t')).toEqual([[2]]);
    expect(stored(a)).toEqual(stored(b));
    await expectEqual(a, b);
  });

  it('[V4] survives waiting, foreign keys by value, and giving way in a unique index', async () => {
    const [a, b] = pairOf(`CREATE TABLE p (id INTEGER PRIMARY KEY, v TEXT UNIQUE);
      CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT REFERENCES p (v) ON UPDATE CASCADE)`);
    a.write(`INSERT INTO p VALUES (1, ${cast('ff')}), (2, ${cast('fe')}); INSERT INTO t (v) SELECT v FROM p`);
    const pages = pagesFor(b, a, 1);
    for (const page of pages.toReversed())
      b.applier.apply(
        'A',
        altered(page, ({ end }) => ({
          end: { ...end, complete: false, knowledge: { runs: new Uint8Array(0), hlc: [] } },
        })),
      );
    expect(stored(b)).toEqual(expected(['ff', 'fe']));
    expect(b.waiting()).toEqual([]);
    b.write('DELETE FROM flotilla_cursors');
    converge([a, b]);
    b.write(
      `UPDATE p SET v = ${cast('fd')} WHERE v = ${cast('ff')}; UPDATE p SET v = ${cast('ff')} WHERE v = ${cast('fe')}; UPDATE p SET v = ${cast('fe')} WHERE v = ${cast('fd')}`,
    );
    converge([a, b]);
    expect(a.rows('SELECT id, hex(v) FROM p ORDER BY id')).toEqual([
      [1, 'FE'],
      [2, 'FF'],
    ]);
    await expectEqual(a, b);
  });

  it('[V4] is paired with its equal where a copied file joins', async () => {
    const ddl = 'CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE k (v TEXT PRIMARY KEY, n)';
    const before = `INSERT INTO t VALUES (1, ${cast('ff')}), (2, ${cast('fe')}); INSERT INTO k VALUES (${cast('ff')}, 1)`;
    const [a] = pairOf(ddl, { before });
    const [b] = pairOf(ddl);
    b.write('UPDATE flotilla_capture SET suspended = 1');
    b.write(before);
    b.write("UPDATE flotilla_capture SET suspended = 0; INSERT INTO flotilla_state VALUES ('adopting', 1)");
    b.restart();
    b.pull(a);
    converge([a, b]);
    expect(b.rows('SELECT count(*) FROM t')).toEqual([[2]]);
    expect(a.rows('SELECT count(*) FROM k')).toEqual([[1]]);
    await expectEqual(a, b);
  });

  it('[V4] shows in digests: other bytes are another value', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, v)');
    a.write(`INSERT INTO t VALUES (1, ${cast('ff')})`);
    converge([a, b]);
    b.write(
      `UPDATE flotilla_capture SET suspended = 1; UPDATE t SET v = ${cast('fe')}; UPDATE flotilla_capture SET suspended = 0`,
    );
    expect(await b.digest()).not.toEqual(await a.digest());
    b.write(
      `UPDATE flotilla_capture SET suspended = 1; UPDATE t SET v = x'ff'; UPDATE flotilla_capture SET suspended = 0`,
    );
    expect(await b.digest()).not.toEqual(await a.digest());
  });
});
