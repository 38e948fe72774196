/** Group W of docs/spec.md: what capture does to the programs that write. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import type { Database } from 'better-sqlite3';
import { afterAll, describe, expect, it } from 'vitest';

import { initLibraryFile } from '../../src/db/setup.ts';
import { Writer } from '../../src/db/writer.ts';
import { surroundingsOf } from '../support/surroundings.ts';
import { expectEqual, pairOf, stampsOf } from '../support/engine.ts';
import { converge, Replica, seededBytes } from '../support/replica.ts';

const SCHEMAS: ReadonlyArray<readonly [what: string, ddl: string]> = [
  [
    'unique indexes of all forms',
    `CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE, b INTEGER, c, g TEXT AS (a || b) STORED, v AS (b + 1));
     CREATE UNIQUE INDEX u1 ON t (a) WHERE b > 2; CREATE UNIQUE INDEX u2 ON t (json_extract(c, '$.x')) WHERE json_valid(c);
     CREATE UNIQUE INDEX u3 ON t (lower(g), b); CREATE UNIQUE INDEX u4 ON t (v, a COLLATE BINARY DESC) WHERE c IS NOT NULL`,
  ],
  [
    'a key of two columns, WITHOUT ROWID',
    'CREATE TABLE t (a TEXT COLLATE NOCASE, b INTEGER NOT NULL DEFAULT 7, c, id UNIQUE, PRIMARY KEY (b DESC, a)) WITHOUT ROWID',
  ],
  [
    'conflict clauses',
    'CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, a TEXT UNIQUE ON CONFLICT IGNORE, b INTEGER NOT NULL ON CONFLICT REPLACE DEFAULT 3, c UNIQUE ON CONFLICT REPLACE)',
  ],
  [
    'triggers of its own',
    `CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b INTEGER UNIQUE, c); CREATE TABLE l (id INTEGER PRIMARY KEY, what TEXT UNIQUE);
     CREATE TRIGGER x AFTER INSERT ON t WHEN new.a IS NOT NULL BEGIN INSERT OR REPLACE INTO l (what) VALUES (new.a); UPDATE t SET c = changes() WHERE id = new.id; END;
     CREATE TRIGGER y BEFORE UPDATE OF b ON t WHEN new.b = 4 BEGIN SELECT RAISE(IGNORE); END;
     CREATE TRIGGER z AFTER DELETE ON t BEGIN DELETE FROM l WHERE what = old.a; END`,
  ],
  [
    'references to itself that cascade',
    `CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b INTEGER REFERENCES t (id) ON DELETE CASCADE ON UPDATE CASCADE, c TEXT REFERENCES t (a) ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED)`,
  ],
  ['no types', 'CREATE TABLE t (id PRIMARY KEY, a UNIQUE, b, c, UNIQUE (b, c))'],
];
const VALUES = [
  'NULL',
  '1',
  '1.0',
  '2',
  '3',
  '4',
  "'a'",
  "'A'",
  "'b'",
  "''",
  "'1'",
  "x'31'",
  `'{"x": 1}'`,
  `'{"x": 2}'`,
  '9007199254740993',
  "CAST(x'ff' AS TEXT)",
];

/**
 * A statement with small values, so that conflicts are frequent.
 * @param isOrdered - only statements whose outcome does not depend on the order in which SQLite comes upon the rows, which
 *   nobody promises and triggers change
 */
function makeStatement(random: (below: number) => number, isOrdered: boolean): string {
  const value = (): string => VALUES[random(VALUES.length)] ?? 'NULL';
  const or = ['', '', 'OR REPLACE ', 'OR IGNORE ', 'OR FAIL ', 'OR ABORT '][random(6)] ?? '';
  const columns = ['id', 'a', 'b', 'c'].filter(() => random(4) > 0);
  const names = columns.length === 0 ? ['a'] : columns;
  const where =
    [
      '',
      ` WHERE ${['id', 'a', 'b', 'c'][random(4)]} = ${value()}`,
      ' WHERE b IS NOT NULL',
      ' WHERE (a, b) IN (SELECT a, b FROM t LIMIT 2)',
    ][random(4)] ?? '';
  switch (random(6)) {
    case 0:
    case 1:
      return `INSERT ${or}INTO t (${names.join(', ')}) VALUES ${Array.from({ length: 1 + random(3) }, () => `(${names.map(value).join(', ')})`).join(', ')}`;
    case 2:
      return `INSERT INTO t (${names.join(', ')}) VALUES (${names.map(value).join(', ')}) ON CONFLICT DO ${random(2) === 0 ? 'NOTHING' : `UPDATE SET c = ${value()}`}`;
    case 3:
      return `DELETE FROM t${where}`;
    default:
      return `UPDATE ${or}t SET ${['id', 'a', 'b', 'c'][random(4)]} = ${random(3) === 0 ? 'CAST(id AS INTEGER) + 1' : value()}${isOrdered && or !== '' ? ` WHERE id = ${value()}` : where}`;
  }
}

/** What a statement does: its error, what it says that it did, and everything that stands there afterwards. */
function outcome(db: Database, statement: string): unknown {
  let error = '';
  try {
    db.exec(statement);
  } catch (thrown) {
    error = thrown instanceof Error ? thrown.message : String(thrown);
  }
  const tables = db
    .prepare(
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'flotilla_*' AND name NOT GLOB 'sqlite_*' ORDER BY name",
    )
    .pluck()
    .all() as string[];
  const all = tables.map((table) => {
    const columns = db.prepare('SELECT name FROM pragma_table_xinfo(?)').pluck().all(table) as string[];
    return db
      .prepare(
        `SELECT ${columns.map((name) => `typeof(${name}) || hex(${name})`).join(', ')} FROM ${table} ORDER BY ${columns.map((_, i) => i + 1).join(', ')}`,
      )
      .raw()
      .all();
  });
  return { error, all, said: error === '' && db.prepare('SELECT changes(), last_insert_rowid()').raw().get() };
}

describe('capture', () => {
  it.each(SCHEMAS)('[W2] changes the outcome of no statement: %s', (_, ddl) => {
    for (const recursive of ['OFF', 'ON']) {
      const bytes = seededBytes(ddl.length * 7 + recursive.length);
      const random = (below: number): number => ((bytes(1)[0] ?? 0) * 256 + (bytes(1)[0] ?? 0)) % below;
      const plain = new Sqlite(':memory:');
      plain.pragma('foreign_keys = ON');
      plain.exec(ddl);
      const captured = new Replica({ device: 'A', ddl });
      for (const db of [plain, captured.db]) {
        db.pragma(`recursive_triggers = ${recursive}`);
        db.exec('CREATE TEMP TABLE first (id INTEGER PRIMARY KEY)');
      }
      for (let i = 0; i < 400; i += 1) {
        // What the connection says of its last statement starts the same, also after one that failed.
        for (const db of [plain, captured.db]) db.exec('REPLACE INTO first VALUES (77)');
        const statement = makeStatement(random, true);
        expect(outcome(captured.db, statement), statement).toEqual(outcome(plain, statement));
      }
      plain.close();
    }
  });

  it.each(SCHEMAS)('[W3] misses nothing that a statement did: %s', async (_, ddl) => {
    const bytes = seededBytes(ddl.length);
    const random = (below: number): number => ((bytes(1)[0] ?? 0) * 256 + (bytes(1)[0] ?? 0)) % below;
    const [a, b] = pairOf(ddl);
    const content = (replica: Replica): unknown[][] =>
      replica.rows(
        "SELECT quote(a), quote(b), quote(c) FROM t WHERE id IS NOT NULL AND ifnull(b, '') IS NOT 'x' ORDER BY 1, 2, 3",
      );
    const isTree = ddl.includes('REFERENCES');
    for (let round = 0; round < 12; round += 1) {
      for (let i = 0; i < 12; i += 1) outcome(a.db, makeStatement(random, false));
      b.pull(a);
      // Ids differ from device to device, and so does what refers to them.
      if (!isTree) expect(content(b)).toEqual(content(a));
      expect(b.rows('SELECT count(*) FROM t WHERE id IS NOT NULL')).toEqual(
        a.rows('SELECT count(*) FROM t WHERE id IS NOT NULL'),
      );
      expect(b.waiting()).toEqual([]);
    }
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('[W3] what is inserted under the id of a row that was evicted is another row', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT)');
    a.write("INSERT INTO t VALUES (1, 'x', 'one'), (2, 'y', 'two')");
    converge([a, b]);
    a.write("REPLACE INTO t VALUES (4, 'y', 'four'); DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (2, 'z', 'new')");
    b.write("DELETE FROM t WHERE note = 'two'");
    converge([a, b]);
    expect(b.rows('SELECT name, note FROM t ORDER BY name')).toEqual([
      ['x', 'one'],
      ['z', 'new'],
    ]);
    await expectEqual(a, b);
  });

  it('[W3] what an ON DELETE of the first row has written that a REPLACE evicts, and is evicted then, is deleted for all', async () => {
    const [a, b] = pairOf(
      'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, code TEXT UNIQUE, other TEXT REFERENCES t (code) ON DELETE SET NULL)',
    );
    a.write("INSERT INTO t VALUES (1, 'one', 'a', NULL), (2, 'two', 'b', 'a')");
    converge([a, b]);
    a.write("REPLACE INTO t VALUES (1, 'two', 'c', NULL)");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT name, code FROM t')).toEqual([['two', 'c']]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
  });

  it('[W3] what might have been evicted and was not is the same row when it is replaced', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT)');
    a.write("INSERT INTO t VALUES (2, 'y', 'two')");
    converge([a, b]);
    const { uuid } = stampsOf(a, 't', 2);
    a.write("INSERT OR IGNORE INTO t VALUES (4, 'y', 'four'); REPLACE INTO t VALUES (2, 'y', 'new')");
    converge([a, b]);
    expect(stampsOf(a, 't', 2).uuid).toBe(uuid);
    expect(b.rows('SELECT name, note FROM t')).toEqual([['y', 'new']]);
    await expectEqual(a, b);
  });

  it('[W1] uses no function that SQLite 3.40 does not have', () => {
    const old = new Set([
      'typeof',
      'hex',
      'printf',
      'julianday',
      'ifnull',
      'cast',
      'lower',
      'json_extract',
      'json_valid',
      'raise',
    ]);
    for (const [, ddl] of SCHEMAS) {
      const replica = new Replica({ device: 'A', ddl, config: { ownership: 'device' } });
      const triggers = replica.rows("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name GLOB 'flotilla_*'");
      expect(triggers.length).toBeGreaterThan(3);
      for (const [sql] of triggers) {
        const text = String(sql).replaceAll(/'(?:[^']|'')*'/g, "''");
        const called = [...text.matchAll(/([A-Za-z_]\w*)\s*\(/g)].map(([, name]) => (name ?? '').toLowerCase());
        const words = new Set([
          'values',
          'flotilla_marks',
          'when',
          'and',
          'or',
          'not',
          'as',
          'select',
          'from',
          'exists',
          'is',
          'then',
          'where',
          'in',
        ]);
        expect(called.filter((name) => !old.has(name) && !words.has(name))).toEqual([]);
      }
    }
  });
});

describe('a trigger without a guard', () => {
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-guard-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('[W4] that a program has made since init gets it when the node starts', () => {
    const file = join(folder, 'library.db');
    const db = new Sqlite(file);
    db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v, at)');
    initLibraryFile({ file, name: 'n', around: surroundingsOf('d') }, null, null);
    db.exec("CREATE TRIGGER x AFTER UPDATE OF v ON t BEGIN UPDATE t SET at = 'now' WHERE id = new.id; END");
    const fault = (error: unknown): void => {
      throw error;
    };
    new Writer(
      file,
      'normal',
      surroundingsOf('d'),
      () => undefined,
      fault,
      () => undefined,
    ).close();
    expect(db.prepare("SELECT sql FROM sqlite_schema WHERE name = 'x'").pluck().get()).toContain('flotilla_capture');
    db.exec('INSERT INTO t (v) VALUES (1); UPDATE t SET v = 2');
    expect(db.prepare('SELECT at FROM t').pluck().get()).toBe('now');
    db.close();
  });
});
