import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { captureTriggers, decodeKey, dropCapture, encodedKey, installCapture } from '../../src/db/capture.ts';
import { readRegistry } from '../../src/db/schema.ts';
import type { SqlValue } from '../../src/protocol/types.ts';
import type { CaptureLibrary } from './helpers/capture.ts';
import { OWN_DEVICE, captureLibrary } from './helpers/capture.ts';

const run = promisify(execFile);

const FILES = `
  CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, size INTEGER, ratio REAL, data, note TEXT);
`;
const TAGS = `
  CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT UNIQUE, color TEXT);
  INSERT INTO tags (id, name) VALUES (1, 'red'), (2, 'blue'), (3, 'green');
`;

const inserted = (table: string, key: unknown): object => ({ table, op: 'insert', new: key });
const updated = (table: string, old: unknown, columns: string[], now: unknown = old): object => ({
  table,
  op: 'update',
  old,
  new: now,
  columns,
});
const deleted = (table: string, key: unknown): object => ({ table, op: 'delete', old: key });
const evicted = (table: string, key: unknown): object => ({ table, op: 'evict', old: key });
const stands = (table: string, key: unknown): object => ({ table, op: 'stands', old: key });

describe('what a mark says', () => {
  it('names the row of each insert, update and delete, in the order in which they happened', () => {
    const { marksOf } = captureLibrary(FILES);
    const sql = `
      INSERT INTO files (id, name) VALUES (5, 'a'), (6, 'b');
      UPDATE files SET size = 1, note = 'x' WHERE id = 5;
      DELETE FROM files WHERE id = 6;
    `;
    expect(marksOf(sql)).toEqual([
      inserted('files', 5),
      inserted('files', 6),
      updated('files', 5, ['size', 'note']),
      deleted('files', 6),
    ]);
  });

  it('carries the time of the write in ms', () => {
    const { db } = captureLibrary(FILES);
    const before = Date.now();
    db.exec("INSERT INTO files (name) VALUES ('a')");
    const [at, type] = db.prepare('SELECT at, typeof(at) FROM flotilla_marks').raw().get() as [number, string];
    expect(type).toBe('integer');
    expect(at).toBeGreaterThanOrEqual(before - 1);
    expect(at).toBeLessThanOrEqual(Date.now() + 1);
  });

  it('agrees with SQLite’s own clock to the millisecond', () => {
    const { db } = captureLibrary(FILES);
    const now =
      /CAST\(julianday\('now'\).*? AS INTEGER\)/.exec(
        JSON.stringify(db.prepare('SELECT sql FROM sqlite_schema').all()),
      )?.[0] ?? '';
    for (const ms of [0, 1, 999, 1_700_000_000_001, 1_700_000_031_676, 1_700_000_285_084, 4_102_444_799_999]) {
      const fixed = now.replace("'now'", `${ms / 1000}, 'unixepoch', 'subsec'`);
      expect(db.prepare(`SELECT ${fixed}`).pluck().get()).toBe(ms);
    }
  });

  it('has no mark for an update that changes nothing', () => {
    const { marksOf, db } = captureLibrary(FILES);
    db.exec("INSERT INTO files (id, name, size, ratio, data) VALUES (1, 'a', 5, 1.0, x'00')");
    expect(marksOf("UPDATE files SET id = 1, name = 'a', size = 5.0, ratio = 1, data = x'00', note = NULL")).toEqual(
      [],
    );
  });

  it('undoes its marks with the statement or the transaction', () => {
    const { marksOf, takeMarks, db } = captureLibrary(TAGS);
    takeMarks();
    expect(() => db.exec("INSERT INTO tags (name) VALUES ('new'), ('red')")).toThrow(/UNIQUE/);
    expect(takeMarks()).toEqual([]);
    expect(marksOf("BEGIN; INSERT INTO tags (name) VALUES ('x'); ROLLBACK")).toEqual([]);
  });

  it('leaves alone what the writer asks about its own statement', () => {
    const { db } = captureLibrary(FILES);
    expect(db.prepare("INSERT INTO files (id, name) VALUES (42, 'a')").run()).toMatchObject({
      changes: 1,
      lastInsertRowid: 42,
    });
    expect(db.prepare("UPDATE files SET name = 'b' RETURNING id, name").all()).toEqual([{ id: 42, name: 'b' }]);
  });

  it('does not name local columns, nor mark a change that is in them alone', () => {
    const { marksOf, db } = captureLibrary(FILES, '{"tables":{"files":{"localColumns":["note"]}}}');
    db.exec('INSERT INTO files (id) VALUES (1)');
    expect(marksOf("UPDATE files SET note = 'x'")).toEqual([]);
    expect(marksOf("UPDATE files SET note = 'y', size = 3")).toEqual([updated('files', 1, ['size'])]);
  });

  it('lets columns beyond the 52nd share a bit, in tables as wide as SQLite makes them', () => {
    const columns = Array.from({ length: 1999 }, (_, index) => `c${index + 1}`);
    const { marksOf, db } = captureLibrary(`CREATE TABLE wide (id INTEGER PRIMARY KEY, ${columns.join(', ')})`);
    db.exec('INSERT INTO wide (id) VALUES (1)');
    marksOf('UPDATE wide SET c51 = 1');
    const mask = (sql: string): unknown => {
      db.exec(`DELETE FROM flotilla_marks; ${sql}`);
      return db.prepare('SELECT mask FROM flotilla_marks').pluck().get();
    };
    expect(mask('UPDATE wide SET c1 = 1')).toBe(2);
    expect(mask('UPDATE wide SET c51 = 2')).toBe(2 ** 51);
    expect(mask('UPDATE wide SET c52 = 1')).toBe(2 ** 52);
    expect(mask('UPDATE wide SET c60 = 1, c1999 = 1')).toBe(2 ** 52);
  });
});

describe('traps of comparison', () => {
  const values = (): CaptureLibrary => {
    const library = captureLibrary(FILES);
    library.db.exec("INSERT INTO files (id, name, data) VALUES (1, 'foo', 1)");
    return library;
  };

  it("'foo' → 'FOO' is a change under NOCASE", () => {
    expect(values().marksOf("UPDATE files SET name = 'FOO'")).toEqual([updated('files', 1, ['name'])]);
  });

  it('1 → 1.0 is a change where the column keeps the difference', () => {
    expect(values().marksOf('UPDATE files SET data = 1.0')).toEqual([updated('files', 1, ['data'])]);
  });

  it('the least integer and the real of the same value differ in a column of INTEGER affinity', () => {
    const { marksOf, db } = values();
    db.exec('UPDATE files SET size = -9223372036854775808');
    const before = db.prepare('SELECT typeof(size) FROM files').pluck().get();
    const marks = marksOf('UPDATE files SET size = -9223372036854775808.0');
    const after = db.prepare('SELECT typeof(size) FROM files').pluck().get();
    expect([before, after, marks]).toEqual(['integer', 'real', [updated('files', 1, ['size'])]]);
  });

  it('text and blob of the same bytes, NULL and values, NUL inside text', () => {
    const { marksOf } = values();
    expect(marksOf("UPDATE files SET data = 'a'")).toHaveLength(1);
    expect(marksOf("UPDATE files SET data = x'61'")).toHaveLength(1);
    expect(marksOf('UPDATE files SET data = NULL')).toHaveLength(1);
    expect(marksOf('UPDATE files SET note = ?', 'a\0b')).toHaveLength(1);
    expect(marksOf('UPDATE files SET note = ?', 'a\0c')).toHaveLength(1);
    expect(marksOf('UPDATE files SET note = ?', 'a\0c')).toEqual([]);
  });

  it('marks exactly the updates after which the row holds other bytes', () => {
    const { db, takeMarks } = captureLibrary(
      'CREATE TABLE v (id INTEGER PRIMARY KEY, i INTEGER, t TEXT COLLATE NOCASE, r REAL, n NUMERIC, b)',
    );
    const value = fc.oneof(
      fc.constantFrom(
        null,
        0,
        1,
        1n,
        2n ** 53n + 1n,
        -(2n ** 63n),
        -(2 ** 63),
        0.5,
        'a',
        'A',
        '1',
        '1.0',
        'a\0',
        Infinity,
      ),
      fc.constantFrom(Buffer.from('a'), Buffer.from(''), Buffer.from('1')),
    );
    const columns = ['i', 't', 'r', 'n', 'b'];
    const image = columns.map((name) => `typeof(${name}) || quote(${name}) || hex(${name})`).join(', ');
    const look = db.prepare(`SELECT ${image} FROM v`).raw();
    const insert = db.prepare('INSERT INTO v (id, i, t, r, n, b) VALUES (1, ?, ?, ?, ?, ?)');
    const update = db.prepare('UPDATE v SET i = ?, t = ?, r = ?, n = ?, b = ?');
    const five = fc.tuple(value, value, value, value, value);
    const property = fc.property(five, five, (first, second) => {
      db.exec('DELETE FROM v');
      insert.run(...first);
      takeMarks();
      const before = look.get() as string[];
      update.run(...second);
      const after = look.get() as string[];
      const different = columns.filter((_, index) => before[index] !== after[index]);
      expect(takeMarks()).toEqual(different.length === 0 ? [] : [updated('v', 1, different)]);
    });
    fc.assert(property, { numRuns: 500 });
  });
});

describe('keys', () => {
  it('a changed integer key is a move, whatever name of the rowid changes it', () => {
    const { marksOf } = captureLibrary(TAGS);
    expect(marksOf('UPDATE tags SET id = 10 WHERE id = 1')).toEqual([updated('tags', 1, [], 10)]);
    expect(marksOf("UPDATE tags SET rowid = 11, name = 'x' WHERE id = 10")).toEqual([
      updated('tags', 10, ['name'], 11),
    ]);
  });

  it('an id swap is moves in order', () => {
    const { marksOf } = captureLibrary(TAGS);
    const sql = `
      UPDATE tags SET id = -1 WHERE id = 1;
      UPDATE tags SET id = 1 WHERE id = 2;
      UPDATE tags SET id = 2 WHERE id = -1;
    `;
    expect(marksOf(sql)).toEqual([updated('tags', 1, [], -1), updated('tags', 2, [], 1), updated('tags', -1, [], 2)]);
  });

  it('an id that is used again is a delete and an insert', () => {
    const { marksOf } = captureLibrary(TAGS);
    expect(marksOf("DELETE FROM tags WHERE id = 3; INSERT INTO tags (name) VALUES ('new')")).toEqual([
      deleted('tags', 3),
      inserted('tags', 3),
    ]);
  });

  it('a natural key stands in the mark as it is, before and after', () => {
    const { marksOf } = captureLibrary('CREATE TABLE pairs (a INTEGER, b TEXT COLLATE NOCASE, x, PRIMARY KEY (b, a))');
    expect(marksOf("INSERT INTO pairs (a, b) VALUES (7, 'k')")).toEqual([inserted('pairs', ['k', 7])]);
    expect(marksOf("UPDATE pairs SET b = 'K', x = 1")).toEqual([updated('pairs', ['k', 7], ['b', 'x'], ['K', 7])]);
    expect(marksOf('DELETE FROM pairs')).toEqual([deleted('pairs', ['K', 7])]);
  });

  it('any value in a natural key comes back the same', () => {
    const { db, registry, takeMarks, model } = captureLibrary('CREATE TABLE k (a, b, PRIMARY KEY (a, b))');
    expect(registry.models.map(({ table }) => table)).toContain('k');
    const value: fc.Arbitrary<SqlValue> = fc.oneof(
      fc.constantFrom<SqlValue[]>(
        null,
        '',
        ',',
        'n',
        'i1,t',
        'a\0b',
        '\0',
        '🚢é',
        new Uint8Array(),
        Uint8Array.of(0, 44, 255),
      ),
      fc.constantFrom<SqlValue[]>(Infinity, -Infinity, 5e-324, Number.MAX_VALUE, 0.1, 1 / 3, -1.5, 2 ** 63, 1e22),
      fc.constantFrom<SqlValue[]>(2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n),
      fc.double({ noNaN: true }),
      fc.string({ unit: 'binary' }),
      fc.uint8Array(),
      fc.integer(),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    );
    const insert = db.prepare('INSERT INTO k (a, b) VALUES (?, ?)');
    const encoded = db.prepare(`SELECT ${encodedKey(model('k'), 't')} FROM k AS t`).pluck();
    const property = fc.property(value, value, (a, b) => {
      db.exec('DELETE FROM k');
      takeMarks();
      insert.run(a, b);
      const inTable = decodeKey(String(encoded.get()));
      const [mark] = takeMarks();
      expect(mark?.new).toEqual(inTable);
      // −0 is stored as 0; bigints come back as numbers where that is exact.
      const plain = (part: SqlValue): SqlValue => {
        if (typeof part === 'bigint' && Number.isSafeInteger(Number(part))) return Number(part);
        return part === 0 ? 0 : part;
      };
      expect(inTable).toEqual([plain(a), plain(b)]);
    });
    fc.assert(property, { numRuns: 1000 });
  });

  it('an integer beyond 2^53 in a natural key is exact', () => {
    expect(decodeKey('i9007199254740993,i-9223372036854775808,i42,n')).toEqual([
      9007199254740993n,
      -9223372036854775808n,
      42,
      null,
    ]);
    expect(() => decodeKey('z1')).toThrow(RangeError);
  });
});

describe('traps of REPLACE and UPSERT', () => {
  it('REPLACE that evicts through another unique index marks the row beforehand', () => {
    const { marksOf, db } = captureLibrary(TAGS);
    expect(marksOf("INSERT OR REPLACE INTO tags (id, name) VALUES (9, 'red')")).toEqual([
      evicted('tags', 1),
      inserted('tags', 9),
    ]);
    expect(db.prepare('SELECT id FROM tags ORDER BY id').pluck().all()).toEqual([2, 3, 9]);
  });

  it('REPLACE marks every row that goes', () => {
    const { marksOf } = captureLibrary(
      'CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, b UNIQUE, c, d, UNIQUE (c, d)); INSERT INTO t VALUES (1, 1, 1, 1, 1), (2, 2, 2, 2, 2), (3, 3, 3, 3, 3)',
    );
    const marks = marksOf('REPLACE INTO t VALUES (7, 1, 2, 3, 3)');
    expect(marks.slice(0, 3)).toEqual(expect.arrayContaining([evicted('t', 1), evicted('t', 2), evicted('t', 3)]));
    expect(marks.slice(3)).toEqual([inserted('t', 7)]);
  });

  it('REPLACE under the same id is a second insert, while the first one stands', () => {
    const { marksOf } = captureLibrary(TAGS);
    expect(marksOf("REPLACE INTO tags (id, name) VALUES (1, 'rot')")).toEqual([stands('tags', 1), inserted('tags', 1)]);
    expect(marksOf("REPLACE INTO tags (id, name) VALUES (1, 'rot')")).toEqual([
      evicted('tags', 1),
      stands('tags', 1),
      inserted('tags', 1),
    ]);
  });

  it('REPLACE under a natural key says that the row stands, however it is written', () => {
    const { marksOf } = captureLibrary(
      "CREATE TABLE t (k TEXT NOT NULL DEFAULT 'x' PRIMARY KEY COLLATE NOCASE, x UNIQUE) WITHOUT ROWID; INSERT INTO t VALUES ('x', 1)",
    );
    expect(marksOf("REPLACE INTO t VALUES ('X', 2)")).toContainEqual(stands('t', ['x']));
    expect(marksOf('REPLACE INTO t VALUES (NULL, 3)')).toContainEqual(stands('t', ['X']));
    expect(marksOf("INSERT INTO t VALUES ('y', 4)")).toEqual([inserted('t', ['y'])]);
  });

  it('UPDATE OR REPLACE marks what it evicts, and only that', () => {
    const { marksOf } = captureLibrary(TAGS);
    expect(marksOf("UPDATE OR REPLACE tags SET name = 'red' WHERE id = 2")).toEqual([
      evicted('tags', 1),
      updated('tags', 2, ['name']),
    ]);
    expect(marksOf("UPDATE tags SET name = 'red', color = 'r' WHERE id = 2")).toEqual([updated('tags', 2, ['color'])]);
  });

  it('UPDATE OR REPLACE of an id is a move onto a key that lives', () => {
    const { marksOf, db } = captureLibrary(TAGS);
    expect(marksOf('UPDATE OR REPLACE tags SET id = 1 WHERE id = 2')).toEqual([updated('tags', 2, [], 1)]);
    expect(db.prepare('SELECT id, name FROM tags ORDER BY id').raw().all()).toEqual([
      [1, 'blue'],
      [3, 'green'],
    ]);
  });

  it('a conflict clause in the schema is caught like one in the statement', () => {
    const { marksOf } = captureLibrary(
      'CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE ON CONFLICT REPLACE); INSERT INTO t VALUES (1, 5)',
    );
    expect(marksOf('INSERT INTO t (a) VALUES (5)')).toEqual([evicted('t', 1), inserted('t', 2)]);
  });

  it('REPLACE that puts the default in place of NULL evicts the row with the default', () => {
    const { marksOf, db } = captureLibrary(`
      CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL DEFAULT "it's" UNIQUE, b INTEGER NOT NULL DEFAULT 5 UNIQUE, c NOT NULL DEFAULT plain UNIQUE);
      INSERT INTO t (id) VALUES (1);
      INSERT INTO t (id, a, b, c) VALUES (2, 'x', 5.5, 'y');
    `);
    expect(db.prepare('SELECT a, b, c FROM t WHERE id = 1').raw().get()).toEqual(["it's", 5, 'plain']);
    expect(marksOf("REPLACE INTO t (id, a, b, c) VALUES (3, NULL, 7, 'z')")).toEqual([
      evicted('t', 1),
      inserted('t', 3),
    ]);
    expect(marksOf('UPDATE OR REPLACE t SET a = NULL WHERE id = 2')).toEqual([evicted('t', 3), updated('t', 2, ['a'])]);
    expect(marksOf("REPLACE INTO t (id, a, b, c) VALUES (4, 'n', 8, NULL)")).toEqual([inserted('t', 4)]);
    expect(marksOf("REPLACE INTO t (id, a, b, c) VALUES (5, 'm', 9, NULL)")).toEqual([
      evicted('t', 4),
      inserted('t', 5),
    ]);
  });

  it('a partial index evicts only the rows in it', () => {
    const { marksOf } = captureLibrary(`
      CREATE TABLE t (id INTEGER PRIMARY KEY, a, dead INTEGER NOT NULL DEFAULT 0);
      CREATE UNIQUE INDEX living ON t (a) WHERE t.dead = 0;
      INSERT INTO t VALUES (1, 'x', 1), (2, 'x', 1), (3, 'x', 0);
    `);
    expect(marksOf("INSERT OR REPLACE INTO t VALUES (4, 'x', 0)")).toEqual([evicted('t', 3), inserted('t', 4)]);
    // By a change of the condition alone, too.
    expect(marksOf('UPDATE OR REPLACE t SET dead = 0 WHERE id = 1')).toEqual([
      evicted('t', 4),
      updated('t', 1, ['dead']),
    ]);
  });

  it('an index on expressions evicts by them', () => {
    const { marksOf, db } = captureLibrary(`
      CREATE TABLE "a b" (id INTEGER PRIMARY KEY, name TEXT, "x y" INTEGER);
      CREATE UNIQUE INDEX u ON "a b" (lower("name"), "x y" + 1, "x y");
      INSERT INTO "a b" VALUES (1, 'Foo', 1), (2, 'foo', 2);
    `);
    expect(marksOf(`INSERT OR REPLACE INTO "a b" VALUES (3, 'FOO', 2)`)).toEqual([
      evicted('a b', 2),
      inserted('a b', 3),
    ]);
    expect(marksOf(`UPDATE OR REPLACE "a b" SET "x y" = 1 WHERE id = 3`)).toEqual([
      evicted('a b', 1),
      updated('a b', 3, ['x y']),
    ]);
    expect(db.prepare('SELECT id FROM "a b"').pluck().all()).toEqual([3]);
  });

  it('an index with its own collation evicts by that, not by the column’s', () => {
    const { marksOf } = captureLibrary(
      "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT); CREATE UNIQUE INDEX u ON t (a COLLATE NOCASE); INSERT INTO t VALUES (1, 'foo')",
    );
    expect(marksOf("REPLACE INTO t VALUES (2, 'FOO')")).toEqual([evicted('t', 1), inserted('t', 2)]);
  });

  it('a generated column in a unique index evicts too', () => {
    const { marksOf } = captureLibrary(
      "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, g AS (lower(a)) UNIQUE, s AS (a || '!') STORED UNIQUE); INSERT INTO t VALUES (1, 'foo'), (2, 'bar')",
    );
    expect(marksOf("REPLACE INTO t VALUES (3, 'FOO')")).toEqual([evicted('t', 1), inserted('t', 3)]);
    const marks = marksOf("UPDATE OR REPLACE t SET a = 'bar' WHERE id = 3");
    expect(new Set(marks.map((mark) => JSON.stringify(mark)))).toEqual(
      new Set([evicted('t', 2), updated('t', 3, ['a'])].map((mark) => JSON.stringify(mark))),
    );
  });

  it('a natural key that is equal but not the same evicts; the same key is a second insert', () => {
    const { marksOf } = captureLibrary(
      "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, x); INSERT INTO t VALUES ('foo', 1); CREATE TABLE u (k PRIMARY KEY); INSERT INTO u VALUES (1)",
    );
    expect(marksOf("REPLACE INTO t VALUES ('foo', 2)")).toEqual([inserted('t', ['foo'])]);
    expect(marksOf("REPLACE INTO t VALUES ('FOO', 2)")).toEqual([evicted('t', ['foo']), inserted('t', ['FOO'])]);
    expect(marksOf('REPLACE INTO u VALUES (1.0)')).toEqual([evicted('u', [1]), inserted('u', [1])]);
  });

  it('UPSERT is an update, after a candidate that still stands', () => {
    const { marksOf } = captureLibrary(TAGS);
    const sql =
      "INSERT INTO tags (name, color) VALUES ('red', 'r') ON CONFLICT (name) DO UPDATE SET color = excluded.color";
    expect(marksOf(sql)).toEqual([evicted('tags', 1), updated('tags', 1, ['color'])]);
    expect(
      marksOf("INSERT INTO tags (id, name) VALUES (1, 'rot') ON CONFLICT (id) DO UPDATE SET name = excluded.name"),
    ).toEqual([stands('tags', 1), updated('tags', 1, ['name'])]);
  });

  it('INSERT OR IGNORE that is ignored inserts nothing, and its OR clause does not reach into the marks', () => {
    const { marksOf } = captureLibrary(TAGS);
    expect(marksOf("INSERT OR IGNORE INTO tags (name) VALUES ('red'), ('new')")).toEqual([
      evicted('tags', 1),
      inserted('tags', 4),
    ]);
    expect(marksOf("INSERT OR REPLACE INTO tags (name) VALUES ('a'), ('b')")).toEqual([
      inserted('tags', 5),
      inserted('tags', 6),
    ]);
    expect(marksOf("UPDATE OR IGNORE tags SET color = 'c' WHERE id < 4")).toHaveLength(3);
  });

  it('with recursive triggers REPLACE deletes in so many words', () => {
    const { marksOf, db } = captureLibrary(TAGS);
    db.pragma('recursive_triggers = ON');
    expect(marksOf("REPLACE INTO tags (id, name) VALUES (9, 'red')")).toEqual([
      evicted('tags', 1),
      deleted('tags', 1),
      inserted('tags', 9),
    ]);
  });

  it('no eviction is noted where nothing is in the way', () => {
    const { marksOf } = captureLibrary(TAGS);
    expect(marksOf("INSERT INTO tags (name) VALUES ('x'), (NULL), (NULL)").map(({ op }) => op)).toEqual([
      'insert',
      'insert',
      'insert',
    ]);
    expect(marksOf("UPDATE tags SET name = name || '!'").map(({ op }) => op)).not.toContain('evict');
  });

  it('finds candidates by the unique index, not by reading the table', () => {
    const { db, model, registry } = captureLibrary(`
      CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b, dead INTEGER, UNIQUE (a, b));
      CREATE UNIQUE INDEX e ON t (lower(a));
      CREATE UNIQUE INDEX p ON t (b COLLATE NOCASE) WHERE dead IS NULL;
    `);
    const lookUps = captureTriggers(model('t'), registry)
      .filter((sql) => sql.includes('_evict '))
      .flatMap((sql) => [...sql.matchAll(/(?<=mask\) )SELECT .*?(?=;)/g)].map(([select]) => select));
    expect(lookUps).toHaveLength(7);
    for (const select of lookUps) {
      const columns = '1 AS id, 2 AS a, 3 AS b, 4 AS dead';
      const plan = db
        .prepare(`EXPLAIN QUERY PLAN WITH n AS (SELECT ${columns}) SELECT EXISTS (${select}) FROM n AS NEW, n AS OLD`)
        .all() as { detail: string }[];
      const details = plan.map(({ detail }) => detail).filter((detail) => /\bt\b/.test(detail));
      // For an expression the new row stands as a table of one row under the same name: that one is read whole.
      const count = (what: string): number => details.filter((detail) => detail.startsWith(what)).length;
      expect(details).toContainEqual(
        expect.stringMatching(/^SEARCH t USING (?:(?:COVERING )?INDEX|INTEGER PRIMARY KEY)/),
      );
      expect([count('SEARCH t'), count('SCAN t')]).toEqual([1, count('CO-ROUTINE t')]);
    }
  });
});

describe('foreign keys', () => {
  const TREE = `
    CREATE TABLE nodes (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES nodes ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, node INTEGER REFERENCES nodes ON DELETE SET NULL ON UPDATE CASCADE);
    INSERT INTO nodes VALUES (1, NULL), (2, 1), (3, 2);
    INSERT INTO notes VALUES (7, 3);
  `;

  it('a cascade marks the children first', () => {
    const { marksOf } = captureLibrary(TREE);
    expect(marksOf('DELETE FROM nodes WHERE id = 1')).toEqual([
      updated('notes', 7, ['node']),
      deleted('nodes', 3),
      deleted('nodes', 2),
      deleted('nodes', 1),
    ]);
  });

  it('a changed id marks the rows that follow it, apart from other changes', () => {
    const { marksOf } = captureLibrary(TREE);
    expect(marksOf('UPDATE nodes SET id = 30 WHERE id = 3')).toEqual([
      updated('notes', 7, []),
      { table: 'notes', op: 'follow', old: 7, ids: '3:30', columns: ['node'] },
      updated('nodes', 3, [], 30),
    ]);
    expect(marksOf('UPDATE notes SET node = 1')).toEqual([updated('notes', 7, ['node'])]);
  });

  it('a row that REPLACE evicts takes its children along, with marks', () => {
    const { marksOf } = captureLibrary(`
      CREATE TABLE p (id INTEGER PRIMARY KEY, name UNIQUE);
      CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE CASCADE);
      INSERT INTO p VALUES (1, 'x'); INSERT INTO c VALUES (5, 1);
    `);
    expect(marksOf("REPLACE INTO p VALUES (2, 'x')")).toEqual([evicted('p', 1), deleted('c', 5), inserted('p', 2)]);
  });

  it('writers without foreign keys are captured as they are', () => {
    const { marksOf, db } = captureLibrary(TREE);
    db.pragma('foreign_keys = OFF');
    expect(marksOf('DELETE FROM nodes WHERE id = 1; INSERT INTO notes VALUES (8, 99)')).toEqual([
      deleted('nodes', 1),
      inserted('notes', 8),
    ]);
  });
});

describe('capture as a whole', () => {
  it('DELETE without WHERE marks every row', () => {
    const { marksOf } = captureLibrary(TAGS);
    expect(marksOf('DELETE FROM tags')).toEqual([deleted('tags', 1), deleted('tags', 2), deleted('tags', 3)]);
  });

  it('INSERT … SELECT into an empty table marks every row', () => {
    const { marksOf } = captureLibrary(
      `${TAGS} CREATE TABLE copy (id INTEGER PRIMARY KEY, name TEXT UNIQUE, color TEXT);`,
    );
    expect(marksOf('INSERT INTO copy SELECT * FROM tags')).toEqual([
      inserted('copy', 1),
      inserted('copy', 2),
      inserted('copy', 3),
    ]);
  });

  it('works under names that are keywords, quotes, spaces, and not ASCII', () => {
    const { marksOf } = captureLibrary(
      `
      CREATE TABLE "select ""x"" from 'y'" ("group" INTEGER PRIMARY KEY, "it's" TEXT UNIQUE, "Ünï コード" REAL, [a.b] INTEGER);
      CREATE TABLE "order" ("new" TEXT COLLATE NOCASE, "old" BLOB, "rowid" INT, "oid", "_rowid_", PRIMARY KEY ("old", "new"), UNIQUE ("rowid"));
    `,
      '{"ownership":"device"}',
    );
    const name = `select "x" from 'y'`;
    expect(
      marksOf(
        `INSERT INTO "select ""x"" from 'y'" VALUES (1, 'a', 1, 1); UPDATE "select ""x"" from 'y'" SET "Ünï コード" = 2`,
      ),
    ).toEqual([inserted(name, 1), updated(name, 1, ['Ünï コード'])]);
    expect(marksOf(`REPLACE INTO "select ""x"" from 'y'" VALUES (2, 'a', 1, 1)`)).toEqual([
      evicted(name, 1),
      inserted(name, 2),
    ]);
    expect(
      marksOf(`INSERT INTO "order" VALUES ('a', x'00', 5, 1, 1); REPLACE INTO "order" VALUES ('b', x'00', 5, 1, 1)`),
    ).toEqual([
      inserted('order', [Uint8Array.of(0), 'a']),
      evicted('order', [Uint8Array.of(0), 'a']),
      inserted('order', [Uint8Array.of(0), 'b']),
    ]);
  });

  it('is silent while it is suspended, and speaks when nobody has said anything', () => {
    const { marksOf, db } = captureLibrary(TAGS);
    const all = "INSERT OR REPLACE INTO tags (name) VALUES ('red'); UPDATE tags SET color = 'c'; DELETE FROM tags";
    db.exec('UPDATE flotilla_capture SET suspended = 1');
    expect(marksOf(all)).toEqual([]);
    db.exec('DELETE FROM flotilla_capture');
    expect(marksOf("INSERT INTO tags (name) VALUES ('x')")).toHaveLength(1);
  });

  it('captures transfers like any other table, and lets nobody write records of membership', () => {
    const { db, marksOf } = captureLibrary('');
    expect(marksOf("INSERT INTO flotilla_transfers VALUES (7, 't', x'00', 'd', 1)")).toEqual([
      inserted('flotilla_transfers', 7),
    ]);
    const record = "INSERT INTO flotilla_membership VALUES (x'01', '{}', x'02')";
    expect(() => db.exec(record)).toThrow('records of membership are written by flotilla alone');
    db.exec(`UPDATE flotilla_capture SET suspended = 1; ${record}; UPDATE flotilla_capture SET suspended = 0`);
    expect(() => db.exec("UPDATE flotilla_membership SET record = ''")).toThrow('by flotilla alone');
    expect(() => db.exec('DELETE FROM flotilla_membership')).toThrow('by flotilla alone');
  });

  it('installs once, repairs what is missing or old, and goes without a trace', () => {
    const { db, registry, marksOf } = captureLibrary(TAGS);
    expect(installCapture(db, registry)).toBe(false);
    db.exec('DROP TRIGGER flotilla_1_update');
    expect(installCapture(db, registry)).toBe(true);
    db.exec('ALTER TABLE tags ADD COLUMN later');
    const after = readRegistry(db, {}, new Map(registry.models.map(({ table, n }) => [table, n])));
    expect(installCapture(db, after)).toBe(true);
    expect(marksOf('UPDATE tags SET later = 1 WHERE id = 1')).toHaveLength(1);
    db.exec('CREATE TABLE log (x); CREATE TRIGGER mine AFTER INSERT ON tags BEGIN INSERT INTO log VALUES (1); END');
    dropCapture(db);
    expect(db.prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'").pluck().all()).toEqual(['mine']);
    expect(marksOf('DELETE FROM tags')).toEqual([]);
  });

  it('its marks come before those of what a user’s own triggers do in answer', () => {
    const { db, registry, marksOf } = captureLibrary(TAGS);
    db.exec(
      "CREATE TRIGGER mine AFTER INSERT ON tags BEGIN UPDATE tags SET color = 'auto', id = NEW.id + 100 WHERE id = NEW.id; END",
    );
    expect(installCapture(db, registry)).toBe(true);
    const expected = [inserted('tags', 4), updated('tags', 4, ['color'], 104)];
    expect(marksOf("INSERT INTO tags (name) VALUES ('x')")).toEqual(expected);
    expect(installCapture(db, registry)).toBe(false);
  });
});

describe('rows that belong to another device', () => {
  const owned = (schema: string): CaptureLibrary => {
    const library = captureLibrary(schema, '{"ownership":"device"}');
    library.db.exec(`
      INSERT INTO flotilla_runs (run, id, device) VALUES (1, x'01', '${OWN_DEVICE}'), (2, x'02', 'device-other'), (3, x'03', NULL);
    `);
    return library;
  };
  const volumes = (): CaptureLibrary => {
    const library = owned(`
      CREATE TABLE "my volumes" (id INTEGER PRIMARY KEY, name TEXT, seen);
      CREATE TABLE paths (id INTEGER PRIMARY KEY, volume INTEGER REFERENCES "my volumes" ON DELETE CASCADE ON UPDATE CASCADE);
      INSERT INTO "my volumes" (id, name) VALUES (1, 'own'), (2, 'other'), (3, 'nobody knows'), (4, 'not stamped yet'), (5, 'a run that is gone');
      INSERT INTO paths VALUES (10, 1), (20, 2);
    `);
    const map = `flotilla_rows_${library.model('my volumes').n}`;
    const paths = `flotilla_rows_${library.model('paths').n}`;
    const columns = '(key, uuid, birth_hlc, birth_run, hlc, run, lsn)';
    library.db.exec(`
      INSERT INTO ${map} ${columns} VALUES (1, x'01', 1, 1, 1, 1, 1), (2, x'02', 1, 2, 1, 2, 2), (3, x'03', 1, 3, 1, 3, 3), (5, x'05', 1, 9, 1, 9, 6);
      INSERT INTO ${paths} ${columns} VALUES (10, x'10', 1, 2, 1, 2, 4), (20, x'20', 1, 2, 1, 2, 5);
    `);
    return library;
  };

  it.each([2, 3, 5])('row %i can be neither changed nor deleted here, and says why', (id) => {
    const { db } = volumes();
    const message = 'flotilla: this row of my volumes belongs to another device; change it there';
    expect(() => db.exec(`UPDATE "my volumes" SET name = 'x' WHERE id = ${id}`)).toThrow(message);
    expect(() => db.exec(`DELETE FROM "my volumes" WHERE id = ${id}`)).toThrow(message);
  });

  it('own rows and rows that are not stamped yet can', () => {
    const { db, takeMarks } = volumes();
    takeMarks();
    db.exec(`UPDATE "my volumes" SET name = 'x' WHERE id IN (1, 4); DELETE FROM "my volumes" WHERE id = 4`);
    expect(takeMarks().map(({ op }) => op)).toEqual(['update', 'update', 'delete']);
  });

  it('an update that changes nothing passes, and so does everything under suspended capture', () => {
    const { db } = volumes();
    db.exec(`UPDATE "my volumes" SET name = name`);
    db.exec(`UPDATE flotilla_capture SET suspended = 1; UPDATE "my volumes" SET name = 'y'; DELETE FROM "my volumes"`);
    expect(db.prepare('SELECT count(*) FROM "my volumes"').pluck().get()).toBe(0);
  });

  it('a cascade into another device’s row refuses the whole statement', () => {
    const { db } = volumes();
    expect(() => db.exec('DELETE FROM "my volumes" WHERE id = 1')).toThrow(
      'flotilla: this row of paths belongs to another device',
    );
    expect(db.prepare('SELECT count(*) FROM "my volumes"').pluck().get()).toBe(5);
  });

  it('UPSERT does not get around it', () => {
    const { db } = volumes();
    const sql = `INSERT INTO "my volumes" (id, name) VALUES (2, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name`;
    expect(() => db.exec(sql)).toThrow(/belongs to another device/);
  });

  it('finds natural keys in the map by its index', () => {
    const { db, model, registry } = owned(
      "CREATE TABLE k (a TEXT, b INTEGER, x, PRIMARY KEY (a, b)); INSERT INTO k VALUES ('p', 1, 0), ('q', 2, 0)",
    );
    const map = `flotilla_rows_${model('k').n}`;
    db.exec(`
      INSERT INTO ${map} (uuid, birth_hlc, birth_run, hlc, run, lsn, k1, k2)
      VALUES (x'01', 1, 1, 1, 1, 1, 'p', 1), (x'02', 1, 2, 1, 2, 2, 'q', 2);
    `);
    db.exec("UPDATE k SET x = 1 WHERE a = 'p'");
    expect(() => db.exec("UPDATE k SET x = 1 WHERE a = 'q'")).toThrow(/belongs to another device/);
    const guard = captureTriggers(model('k'), registry).find((sql) => sql.includes('guard_delete')) ?? '';
    const foreign = /EXISTS \((SELECT 1 .*flotilla_self\))\)/.exec(guard)?.[1] ?? '';
    const plan = db.prepare(`EXPLAIN QUERY PLAN SELECT (${foreign}) FROM k AS OLD`).all() as { detail: string }[];
    expect(plan.map(({ detail }) => detail)).toContainEqual(
      expect.stringMatching(new RegExp(`^SEARCH m USING .*INDEX ${map}_key .*k1=\\? AND k2=\\?`)),
    );
  });
});

describe('other writers', () => {
  /** Everything that the triggers do, in statements that older SQLite takes too. */
  const WORK = [
    "INSERT INTO t (id, a, b, r) VALUES (1, 'foo', x'00ff', 0.5)",
    "UPDATE t SET a = 'FOO', r = 9e999 WHERE id = 1",
    "INSERT OR REPLACE INTO t (id, a) VALUES (2, 'foo')",
    "INSERT INTO t (id, a) VALUES (3, 'foo') ON CONFLICT (a) DO UPDATE SET b = 'x'",
    'UPDATE t SET id = 5 WHERE id = 2',
    "INSERT INTO k (x, y) VALUES (9007199254740993, 'a' || char(0) || 'b'), (0.1, x'00'), (9e999, NULL), (-5e-324, '')",
    'DELETE FROM t',
  ];
  const SCHEMA = `
    CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE UNIQUE, b, r REAL);
    CREATE UNIQUE INDEX e ON t (lower(a)) WHERE b IS NULL;
    CREATE TABLE k (x, y, PRIMARY KEY (x, y));
  `;
  const PYTHON = `
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
for sql in json.loads(sys.argv[2]):
    db.execute(sql)
db.commit()
`;

  it('a program of its own with its own SQLite leaves the same marks as ours', async (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'flotilla-capture-'));
    try {
      const file = join(folder, 'library.db');
      const library = captureLibrary(SCHEMA, '{"ownership":"device"}', file);
      const twin = captureLibrary(SCHEMA, '{"ownership":"device"}');
      try {
        library.db.pragma('foreign_keys = OFF');
        for (const sql of WORK) twin.db.exec(sql);
        const missing = (error: NodeJS.ErrnoException): false => {
          if (error.code === 'ENOENT') return false;
          throw error;
        };
        const done =
          (await run('python3', ['-c', PYTHON, file, JSON.stringify(WORK)]).catch(missing)) ||
          (await run('sqlite3', ['-bail', file, `${WORK.join(';')};`]).catch(missing));
        if (done === false) context.skip('neither python3 nor the sqlite3 shell is on this machine');
        const marks = library.takeMarks();
        expect(marks).toEqual(twin.takeMarks());
        expect(
          marks
            .filter(({ op }) => op === 'insert')
            .slice(-4)
            .map((mark) => mark.new),
        ).toEqual([
          [9007199254740993n, 'a\0b'],
          [0.1, Uint8Array.of(0)],
          [Infinity, null],
          [-5e-324, ''],
        ]);
      } finally {
        library.db.close();
        twin.db.close();
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
