/** What programs do to a library, and what arrives of it elsewhere. */
import { describe, expect, it } from 'vitest';

import { expectEqual, pairOf, stampsOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const TREE =
  'CREATE TABLE entries (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE, name TEXT)';
const NAMES = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT)';
const KEYED = 'CREATE TABLE t (code TEXT PRIMARY KEY, note TEXT)';

function tombstones(replica: Replica): number {
  return Number(replica.rows('SELECT count(*) FROM flotilla_tombstones')[0]?.[0]);
}

describe('ids', () => {
  it('makes a new row of a delete and an insert under one id', async () => {
    const [a, b] = pairOf(NAMES);
    a.write("INSERT INTO t (name) VALUES ('old')");
    converge([a, b]);
    const before = stampsOf(a, 't', 1).uuid;
    a.write("DELETE FROM t WHERE id = 1; INSERT INTO t (id, name) VALUES (1, 'new')");
    expect(stampsOf(a, 't', 1).uuid).not.toBe(before);
    expect(tombstones(a)).toBe(1);
    converge([a, b]);
    expect(b.rows('SELECT name FROM t')).toEqual([['new']]);
    await expectEqual(a, b);
  });

  it('only moves the mapping when an id changes', async () => {
    const [a, b] = pairOf(NAMES);
    a.write("INSERT INTO t (name) VALUES ('x')");
    converge([a, b]);
    const before = stampsOf(a, 't', 1);
    a.write('UPDATE t SET id = 70');
    expect(stampsOf(a, 't', 70)).toEqual(before);
    const pages = b.pull(a);
    expect(pages.reduce((sum, page) => sum + page.rows, 0)).toBe(0);
    await expectEqual(a, b);
  });

  it('sends the change of a row whose id changes with it', async () => {
    const [a, b] = pairOf(NAMES);
    a.write("INSERT INTO t (name) VALUES ('x')");
    converge([a, b]);
    a.write("UPDATE t SET id = 70, name = 'y'");
    converge([a, b]);
    expect(b.rows('SELECT id, name FROM t')).toEqual([[1, 'y']]);
    await expectEqual(a, b);
  });

  it('keeps apart two rows that swap their ids, and what refers to them', async () => {
    const [a, b] = pairOf(TREE);
    a.write(
      "INSERT INTO entries (id, name) VALUES (1, 'one'), (2, 'two'); INSERT INTO entries (id, parent_id, name) VALUES (10, 1, 'in one'), (20, 2, 'in two')",
    );
    converge([a, b]);
    // Swapped under their children: in-one lies in two now.
    a.write(
      'PRAGMA foreign_keys = OFF; UPDATE entries SET id = -1 WHERE id = 1; UPDATE entries SET id = 1 WHERE id = 2; UPDATE entries SET id = 2 WHERE id = -1; PRAGMA foreign_keys = ON',
    );
    expect(a.rows('SELECT c.name, p.name FROM entries c JOIN entries p ON p.id = c.parent_id ORDER BY 1')).toEqual([
      ['in one', 'two'],
      ['in two', 'one'],
    ]);
    const uuids = [stampsOf(a, 'entries', 1).uuid, stampsOf(a, 'entries', 2).uuid];
    expect(new Set(uuids).size).toBe(2);
    converge([a, b]);
    expect(tombstones(b)).toBe(0);
    // The ids stay as they were there; what lies where has changed.
    expect(b.rows('SELECT id, name FROM entries WHERE parent_id IS NULL ORDER BY id')).toEqual([
      [1, 'one'],
      [2, 'two'],
    ]);
    expect(b.rows('SELECT c.name, p.name FROM entries c JOIN entries p ON p.id = c.parent_id ORDER BY 1')).toEqual([
      ['in one', 'two'],
      ['in two', 'one'],
    ]);
    await expectEqual(a, b);
  });

  it('gives ids to new rows that no row has had here in this table', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)');
    b.write("INSERT INTO t (id, name) VALUES (500, 'gone'); DELETE FROM t");
    a.write("INSERT INTO t (name) VALUES ('x')");
    converge([a, b]);
    expect(b.rows('SELECT id FROM t')).toEqual([[501]]);
    b.write("INSERT INTO t (name) VALUES ('y')");
    converge([a, b]);
    await expectEqual(a, b);
  });
});

describe('REPLACE and UPSERT', () => {
  it('keeps the identity of a row that is replaced under its id', async () => {
    const [a, b] = pairOf(NAMES);
    a.write("INSERT INTO t VALUES (1, 'x', 'one')");
    converge([a, b]);
    const { uuid } = stampsOf(a, 't', 1);
    a.write("REPLACE INTO t VALUES (1, 'y', 'two')");
    expect(stampsOf(a, 't', 1).uuid).toBe(uuid);
    converge([a, b]);
    expect(b.rows('SELECT name, note FROM t')).toEqual([['y', 'two']]);
    await expectEqual(a, b);
  });

  it('sees the row that REPLACE evicts by a unique value', async () => {
    const [a, b] = pairOf(NAMES);
    a.write("INSERT INTO t VALUES (1, 'x', 'one'), (2, 'y', 'two')");
    converge([a, b]);
    a.write("REPLACE INTO t VALUES (3, 'x', 'three')");
    converge([a, b]);
    expect(b.rows('SELECT name, note FROM t ORDER BY name')).toEqual([
      ['x', 'three'],
      ['y', 'two'],
    ]);
    expect(tombstones(a)).toBe(1);
    await expectEqual(a, b);
  });

  it('sees two rows evicted by one REPLACE', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, code TEXT UNIQUE)');
    a.write("INSERT INTO t VALUES (1, 'x', 'p'), (2, 'y', 'q'), (3, 'z', 'r')");
    converge([a, b]);
    a.write("REPLACE INTO t VALUES (3, 'x', 'q')");
    converge([a, b]);
    expect(b.rows('SELECT name, code FROM t')).toEqual([['x', 'q']]);
    expect(tombstones(a)).toBe(2);
    await expectEqual(a, b);
  });

  it('sees the row that UPDATE OR REPLACE evicts by a unique value and by an id', async () => {
    const [a, b] = pairOf(NAMES);
    a.write("INSERT INTO t VALUES (1, 'x', 'one'), (2, 'y', 'two'), (3, 'z', 'three'), (4, 'v', 'four')");
    converge([a, b]);
    a.write("UPDATE OR REPLACE t SET name = 'x' WHERE id = 2; UPDATE OR REPLACE t SET id = 3 WHERE id = 4");
    converge([a, b]);
    expect(b.rows('SELECT name, note FROM t ORDER BY note')).toEqual([
      ['v', 'four'],
      ['x', 'two'],
    ]);
    expect(tombstones(a)).toBe(2);
    await expectEqual(a, b);
  });

  it('is not misled by a REPLACE that was rolled back', async () => {
    const [a, b] = pairOf(NAMES);
    a.write("INSERT INTO t VALUES (1, 'x', 'one')");
    converge([a, b]);
    a.write("BEGIN; REPLACE INTO t VALUES (2, 'x', 'two'); ROLLBACK");
    a.write("INSERT OR IGNORE INTO t VALUES (2, 'x', 'two')");
    a.stamp();
    expect(tombstones(a)).toBe(0);
    converge([a, b]);
    expect(b.rows('SELECT name, note FROM t')).toEqual([['x', 'one']]);
    await expectEqual(a, b);
  });

  it('takes an UPSERT for a change of the row that was there', async () => {
    const [a, b] = pairOf(NAMES);
    a.write("INSERT INTO t VALUES (1, 'x', 'one')");
    converge([a, b]);
    const { uuid } = stampsOf(a, 't', 1);
    a.write("INSERT INTO t (name, note) VALUES ('x', 'two') ON CONFLICT (name) DO UPDATE SET note = excluded.note");
    expect(stampsOf(a, 't', 1).uuid).toBe(uuid);
    expect(tombstones(a)).toBe(0);
    converge([a, b]);
    expect(b.rows('SELECT name, note FROM t')).toEqual([['x', 'two']]);
    await expectEqual(a, b);
  });

  it('replaces a row by its natural key', async () => {
    const [a, b] = pairOf(KEYED);
    a.write("INSERT INTO t VALUES ('k', 'one')");
    converge([a, b]);
    a.write("REPLACE INTO t VALUES ('k', 'two')");
    converge([a, b]);
    expect(b.rows('SELECT code, note FROM t')).toEqual([['k', 'two']]);
    await expectEqual(a, b);
  });

  it('sees what refers to a replaced row refer to the row that took its id', async () => {
    const [a, b] = pairOf(
      `${TREE}; CREATE TABLE taggings (entry_id INTEGER NOT NULL REFERENCES entries (id), tag TEXT NOT NULL, PRIMARY KEY (entry_id, tag))`,
    );
    a.write("INSERT INTO entries (id, name) VALUES (1, 'old'); INSERT INTO taggings VALUES (1, 'red')");
    converge([a, b]);
    a.write(
      "PRAGMA foreign_keys = OFF; DELETE FROM entries; INSERT INTO entries (id, name) VALUES (1, 'new'); PRAGMA foreign_keys = ON",
    );
    converge([a, b]);
    expect(b.rows('SELECT e.name, t.tag FROM taggings t JOIN entries e ON e.id = t.entry_id')).toEqual([
      ['new', 'red'],
    ]);
    await expectEqual(a, b);
  });
});

describe('keys that compare by a collation', () => {
  it('takes a change of case for a change of the same row', async () => {
    const [a, b] = pairOf('CREATE TABLE t (code TEXT COLLATE NOCASE PRIMARY KEY, note TEXT)');
    a.write("INSERT INTO t VALUES ('Foo', 'one')");
    converge([a, b]);
    a.write("UPDATE t SET code = 'FOO'");
    a.stamp();
    expect(tombstones(a)).toBe(0);
    converge([a, b]);
    expect(b.rows('SELECT code, note FROM t')).toEqual([['FOO', 'one']]);
    b.write("REPLACE INTO t VALUES ('foo', 'two')");
    converge([a, b]);
    expect(a.rows('SELECT code, note FROM t')).toEqual([['foo', 'two']]);
    await expectEqual(a, b);
  });

  it('makes one row of the same key in two spellings', async () => {
    const [a, b] = pairOf(
      'CREATE TABLE t (code TEXT COLLATE NOCASE PRIMARY KEY, note TEXT); CREATE TABLE u (code TEXT COLLATE RTRIM PRIMARY KEY)',
    );
    a.write("INSERT INTO t VALUES ('Foo', 'a'); INSERT INTO u VALUES ('x')");
    b.write("INSERT INTO t VALUES ('foo', 'b'); INSERT INTO u VALUES ('x  ')");
    converge([a, b]);
    expect(a.rows('SELECT count(*) FROM t')).toEqual([[1]]);
    expect(a.rows('SELECT count(*) FROM u')).toEqual([[1]]);
    expect(a.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('takes 1 and 1.0 in a key without a type for one key', async () => {
    const [a, b] = pairOf('CREATE TABLE t (code PRIMARY KEY, note TEXT)');
    a.write("INSERT INTO t VALUES (1, 'integer')");
    a.stamp();
    b.write("INSERT INTO t VALUES (1.0, 'real')");
    converge([a, b]);
    expect(a.waiting()).toEqual([]);
    expect(a.rows('SELECT typeof(code), note FROM t')).toEqual([['real', 'real']]);
    a.write('UPDATE t SET code = 1');
    converge([a, b]);
    expect(b.rows('SELECT typeof(code), note FROM t')).toEqual([['integer', 'real']]);
    await expectEqual(a, b);
  });
});

describe('natural keys', () => {
  it('takes another key for another row', async () => {
    const [a, b] = pairOf(KEYED);
    a.write("INSERT INTO t VALUES ('k', 'one')");
    converge([a, b]);
    a.write("UPDATE t SET code = 'l'");
    converge([a, b]);
    expect(b.rows('SELECT code, note FROM t')).toEqual([['l', 'one']]);
    expect(tombstones(b)).toBe(1);
    await expectEqual(a, b);
  });

  it('keeps rows apart that swap their natural keys', async () => {
    const [a, b] = pairOf(KEYED);
    a.write("INSERT INTO t VALUES ('k', 'one'), ('l', 'two')");
    converge([a, b]);
    a.write(
      "UPDATE t SET code = 'm' WHERE code = 'k'; UPDATE t SET code = 'k' WHERE code = 'l'; UPDATE t SET code = 'l' WHERE code = 'm'",
    );
    converge([a, b]);
    expect(b.rows('SELECT code, note FROM t ORDER BY code')).toEqual([
      ['k', 'two'],
      ['l', 'one'],
    ]);
    await expectEqual(a, b);
  });

  it('keeps rows apart that swap natural keys which are not their identity', async () => {
    const config = { tables: { t: { identity: 'uuid' } } };
    const [a, b] = pairOf('CREATE TABLE t (code TEXT PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, note TEXT)', { config });
    a.write("INSERT INTO t VALUES ('k', 'u1', 'one'), ('l', 'u2', 'two')");
    a.stamp();
    a.write(
      "UPDATE t SET code = 'm' WHERE code = 'k'; UPDATE t SET code = 'k' WHERE code = 'l'; UPDATE t SET code = 'l' WHERE code = 'm'; INSERT INTO t VALUES ('m', 'u3', 'three')",
    );
    a.stamp();
    a.write("UPDATE t SET code = 'n' WHERE code = 'm'; INSERT INTO t VALUES ('m', 'u4', 'four')");
    converge([a, b]);
    expect(b.rows('SELECT code, note FROM t ORDER BY code')).toEqual([
      ['k', 'two'],
      ['l', 'one'],
      ['m', 'four'],
      ['n', 'three'],
    ]);
    await expectEqual(a, b);
  });
});

describe('cascades of the writer', () => {
  it('sends each row that a delete took along as deleted, children first', async () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO entries VALUES (1, NULL, 'r'), (2, 1, 'c'), (3, 2, 'g'), (4, NULL, 'other')");
    converge([a, b]);
    a.write('DELETE FROM entries WHERE id = 1');
    const pages = b.pull(a, 1);
    expect(pages.map((page) => page.waitingCount)).toEqual(pages.map(() => 0));
    expect(b.rows('SELECT name FROM entries')).toEqual([['other']]);
    expect(tombstones(b)).toBe(3);
    await expectEqual(a, b);
  });

  it('sends what SET NULL and ON UPDATE CASCADE changed', async () => {
    const [a, b] = pairOf(`CREATE TABLE p (id INTEGER PRIMARY KEY, code TEXT UNIQUE);
      CREATE TABLE c (id INTEGER PRIMARY KEY, p_id INTEGER REFERENCES p (id) ON DELETE SET NULL, code TEXT REFERENCES p (code) ON UPDATE CASCADE ON DELETE SET NULL)`);
    a.write("INSERT INTO p VALUES (1, 'x'), (2, 'y'); INSERT INTO c VALUES (1, 1, 'y'), (2, 2, 'x')");
    converge([a, b]);
    a.write("UPDATE p SET code = 'z' WHERE code = 'y'; DELETE FROM p WHERE id = 1");
    converge([a, b]);
    expect(b.rows('SELECT p_id, code FROM c ORDER BY id')).toEqual([
      [null, 'z'],
      [2, null],
    ]);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('makes no stamp of a write that changed nothing', () => {
    const [a] = pairOf(NAMES);
    a.write("INSERT INTO t VALUES (1, 'x', 'one')");
    const before = stampsOf(a, 't', 1);
    a.write("UPDATE t SET name = 'x', note = note");
    expect(stampsOf(a, 't', 1)).toEqual(before);
    a.write("BEGIN; INSERT INTO t VALUES (2, 'y', ''); DELETE FROM t WHERE id = 2; COMMIT");
    a.stamp();
    expect(tombstones(a)).toBe(0);
  });

  it('sees a change of case and of type', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, any_ BLOB)');
    a.write("INSERT INTO t VALUES (1, 'foo', 1)");
    converge([a, b]);
    a.write("UPDATE t SET name = 'FOO', any_ = 1.0");
    converge([a, b]);
    expect(b.rows('SELECT name, typeof(any_) FROM t')).toEqual([['FOO', 'real']]);
  });
});

describe('what a writer does to rows that wait', () => {
  const names = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT)';

  it('overtakes a version that waits, also one of a later birth', async () => {
    const config = { tables: { t: { identity: 'code', unique: { name: 'keep-first' } } } };
    const ddl = 'CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, name TEXT UNIQUE, note TEXT)';
    const [a, b] = pairOf(ddl, { config });
    a.write("INSERT INTO t (code, name) VALUES ('k', 'x')");
    converge([a, b]);
    b.write("INSERT INTO t (code, name) VALUES ('other', 'taken')");
    b.stamp();
    a.write("DELETE FROM t; INSERT INTO t (code, name) VALUES ('k', 'taken')");
    b.pull(a);
    expect(b.waiting()).toEqual(['unique']);
    b.write("UPDATE t SET note = 'mine', name = 'free' WHERE code = 'k'");
    b.stamp();
    expect(b.waiting()).toEqual([]);
    converge([a, b]);
    expect(a.rows("SELECT name, note FROM t WHERE code = 'k'")).toEqual([['free', 'mine']]);
    await expectEqual(a, b);
  });

  it('does not bring a row back whose delete waits by changing it', async () => {
    const ddl =
      'CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE c (id INTEGER PRIMARY KEY, p_id INTEGER REFERENCES p (id))';
    const [a, b] = pairOf(ddl, { config: { tables: { c: { sync: false } } } });
    a.write("INSERT INTO p VALUES (1, 'x')");
    converge([a, b]);
    b.write('INSERT INTO c VALUES (1, 1)');
    a.write('DELETE FROM p');
    b.pull(a);
    expect(b.waiting()).toEqual(['referrers']);
    b.write("UPDATE p SET name = 'changed'");
    b.stamp();
    expect(b.waiting()).toEqual(['referrers']);
    b.write('DELETE FROM c');
    converge([a, b]);
    expect(b.rows('SELECT * FROM p')).toEqual([]);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('ends a collision by renaming, and the version that waited stands', async () => {
    const [a, b] = pairOf(names, { config: { tables: { t: { unique: { name: 'keep-first' } } } } });
    a.write("INSERT INTO t (name) VALUES ('x')");
    b.write("INSERT INTO t (name) VALUES ('x')");
    converge([a, b]);
    expect([a.waiting(), b.waiting()]).toEqual([['unique'], ['unique']]);
    b.write("UPDATE t SET name = 'y'");
    converge([a, b]);
    expect([a.waiting(), b.waiting()]).toEqual([[], []]);
    expect(a.rows('SELECT name FROM t ORDER BY name')).toEqual([['x'], ['y']]);
    await expectEqual(a, b);
  });
});
