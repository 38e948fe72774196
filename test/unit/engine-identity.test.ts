/** Who a row is: declared identities, natural keys, rows named by other rows. */
import { describe, expect, it } from 'vitest';

import { expectEqual, pairOf, stampsOf } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';

const TAGGED = `
CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT UNIQUE COLLATE NOCASE, color TEXT);
CREATE TABLE entries (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE taggings (
  entry_id INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
  tag_id INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE, note TEXT, PRIMARY KEY (entry_id, tag_id)
);
CREATE TABLE remarks (id INTEGER PRIMARY KEY, tag_id INTEGER REFERENCES tags (id) ON DELETE SET NULL, text TEXT);`;
const config = { tables: { tags: { identity: 'name' } } };

const tagged = (replica: Replica): unknown[][] =>
  replica.rows(
    'SELECT e.name, t.name, g.note FROM taggings g JOIN entries e ON e.id = g.entry_id JOIN tags t ON t.id = g.tag_id ORDER BY 1, 2',
  );

describe('a declared identity', () => {
  it('makes one row of equal ones made on two devices, and of what hangs on both', async () => {
    const [a, b] = pairOf(TAGGED, { config });
    a.write("INSERT INTO entries VALUES (1, 'x')");
    converge([a, b]);
    a.write("INSERT INTO tags VALUES (7, 'red', 'a'); INSERT INTO taggings VALUES (1, 7, 'a')");
    a.stamp();
    b.write(
      "INSERT INTO tags VALUES (9, 'red', 'b'); INSERT INTO taggings VALUES (1, 9, 'b'); INSERT INTO remarks VALUES (1, 9, 'r')",
    );
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(tagged(replica)).toEqual([['x', 'red', 'b']]);
      expect(replica.rows('SELECT t.color FROM remarks r JOIN tags t ON t.id = r.tag_id')).toEqual([['b']]);
    }
    expect(a.rows('SELECT id FROM tags')).toEqual([[7]]);
    expect(b.rows('SELECT id FROM tags')).toEqual([[9]]);
    await expectEqual(a, b);
  });

  it('follows the collation of its unique index', async () => {
    const [a, b] = pairOf(TAGGED, { config });
    a.write("INSERT INTO tags (name) VALUES ('Red')");
    a.stamp();
    b.write("INSERT INTO tags (name) VALUES ('RED')");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT name FROM tags')).toEqual([['RED']]);
    expect([a.waiting(), b.waiting()]).toEqual([[], []]);
    const { uuid } = stampsOf(a, 'tags', 1);
    a.write("UPDATE tags SET name = 'red'");
    expect(stampsOf(a, 'tags', 1).uuid).toBe(uuid);
    converge([a, b]);
    expect(b.rows('SELECT name FROM tags')).toEqual([['red']]);
    await expectEqual(a, b);
  });

  it('follows the collation of an index that was made apart from the table', async () => {
    const ddl =
      'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b TEXT NOT NULL); CREATE UNIQUE INDEX i ON t (b COLLATE RTRIM, a COLLATE NOCASE)';
    const [a, b] = pairOf(ddl, { config: { tables: { t: { identity: ['a', 'b'] } } } });
    a.write("INSERT INTO t (a, b) VALUES ('K', 'v')");
    b.write("INSERT INTO t (a, b) VALUES ('k', 'v  ')");
    converge([a, b]);
    expect(a.rows('SELECT count(*) FROM t')).toEqual([[1]]);
    await expectEqual(a, b);
  });

  it('moves with all that hangs on it when it is renamed', async () => {
    const [a, b] = pairOf(TAGGED, { config });
    a.write(
      "INSERT INTO entries VALUES (1, 'x'), (2, 'y'); INSERT INTO tags VALUES (1, 'red', NULL); INSERT INTO taggings VALUES (1, 1, 'n'), (2, 1, 'm'); INSERT INTO remarks VALUES (1, 1, 'r')",
    );
    converge([a, b]);
    a.write("UPDATE tags SET name = 'crimson'");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(tagged(replica)).toEqual([
        ['x', 'crimson', 'n'],
        ['y', 'crimson', 'm'],
      ]);
      expect(replica.rows('SELECT t.name FROM remarks r JOIN tags t ON t.id = r.tag_id')).toEqual([['crimson']]);
      expect(replica.rows('SELECT count(*) FROM tags')).toEqual([[1]]);
      expect(replica.waiting()).toEqual([]);
    }
    // The same pair made elsewhere afterwards is the same row.
    const c = new Replica({ device: 'C', ddl: TAGGED, config });
    c.write("INSERT INTO tags VALUES (5, 'crimson', 'c')");
    converge([a, b, c]);
    expect(a.rows('SELECT count(*) FROM tags')).toEqual([[1]]);
    await expectEqual(a, b, c);
  });

  it('renamed onto a name that exists elsewhere becomes one with it, taggings and all', async () => {
    const [a, b] = pairOf(TAGGED, { config });
    a.write(
      "INSERT INTO entries VALUES (1, 'x'); INSERT INTO tags VALUES (1, 'red', NULL); INSERT INTO taggings VALUES (1, 1, 'a')",
    );
    converge([a, b]);
    a.write("UPDATE tags SET name = 'blue'");
    a.stamp();
    b.write("INSERT INTO tags VALUES (2, 'blue', 'b'); INSERT INTO taggings VALUES (1, 2, 'b')");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(tagged(replica)).toEqual([['x', 'blue', 'b']]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
  });

  it('is swapped between two rows with what hangs on each', async () => {
    const [a, b] = pairOf(TAGGED, { config });
    a.write(
      "INSERT INTO entries VALUES (1, 'x'); INSERT INTO tags VALUES (1, 'red', '1'), (2, 'blue', '2'); INSERT INTO taggings VALUES (1, 1, 'of 1')",
    );
    converge([a, b]);
    a.write(
      "UPDATE tags SET name = '-' WHERE id = 1; UPDATE tags SET name = 'red' WHERE id = 2; UPDATE tags SET name = 'blue' WHERE id = 1",
    );
    converge([a, b]);
    expect(b.rows('SELECT name, color FROM tags ORDER BY color')).toEqual([
      ['blue', '1'],
      ['red', '2'],
    ]);
    expect(tagged(b)).toEqual([['x', 'blue', 'of 1']]);
    await expectEqual(a, b);
  });

  it('given up for NULL is free for another row', async () => {
    const [a, b] = pairOf(TAGGED, { config });
    a.write("INSERT INTO tags VALUES (1, 'red', 'first')");
    converge([a, b]);
    a.write('UPDATE tags SET name = NULL');
    a.stamp();
    b.pull(a);
    b.write("INSERT INTO tags (name, color) VALUES ('red', 'second')");
    converge([a, b]);
    for (const replica of [a, b])
      expect(replica.rows('SELECT name, color FROM tags ORDER BY color')).toEqual([
        [null, 'first'],
        ['red', 'second'],
      ]);
    await expectEqual(a, b);
  });

  it('taken up after NULL is the one of that name', async () => {
    const [a, b] = pairOf(TAGGED, { config });
    a.write("INSERT INTO tags VALUES (1, NULL, 'a')");
    converge([a, b]);
    a.write("UPDATE tags SET name = 'red'");
    a.stamp();
    b.write("INSERT INTO tags (name, color) VALUES ('red', 'b')");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows("SELECT color FROM tags WHERE name = 'red'")).toEqual([['b']]);
    await expectEqual(a, b);
  });

  it('of a tagging follows its tag when both are written at once', async () => {
    const [a, b] = pairOf(TAGGED, { config });
    a.write(
      "INSERT INTO entries VALUES (1, 'x'); INSERT INTO tags VALUES (1, 'red', NULL); INSERT INTO taggings VALUES (1, 1, 'n')",
    );
    converge([a, b]);
    a.write("INSERT INTO tags VALUES (2, 'blue', NULL); UPDATE taggings SET tag_id = 2");
    a.stamp();
    b.write("INSERT INTO tags VALUES (2, 'blue', NULL); INSERT INTO taggings VALUES (1, 2, 'b')");
    converge([a, b]);
    for (const replica of [a, b]) expect(tagged(replica)).toEqual([['x', 'blue', 'b']]);
    await expectEqual(a, b);
  });
});

describe('a key of references', () => {
  it('names the same pair on two devices whatever the local ids are', async () => {
    const ddl = `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE pair (a INTEGER NOT NULL REFERENCES p (id), kind TEXT NOT NULL, b INTEGER NOT NULL REFERENCES p (id), note TEXT, PRIMARY KEY (a, kind, b));
      CREATE TABLE of_pair (id INTEGER PRIMARY KEY, a INTEGER, kind TEXT, b INTEGER, FOREIGN KEY (a, kind, b) REFERENCES pair (a, kind, b) ON DELETE CASCADE)`;
    const [a, b] = pairOf(ddl);
    b.write("INSERT INTO p VALUES (1, 'filler'), (2, 'filler')");
    a.write("INSERT INTO p VALUES (1, 'x'), (2, 'y')");
    converge([a, b]);
    a.write("INSERT INTO pair VALUES (1, 'k', 2, 'a')");
    a.stamp();
    b.write(
      "INSERT INTO pair SELECT x.id, 'k', y.id, 'b' FROM p x, p y WHERE x.name = 'x' AND y.name = 'y'; INSERT INTO of_pair SELECT 1, a, kind, b FROM pair",
    );
    converge([a, b]);
    const joined = 'SELECT x.name, kind, y.name, note FROM pair JOIN p x ON x.id = a JOIN p y ON y.id = b';
    for (const replica of [a, b]) {
      expect(replica.rows(joined)).toEqual([['x', 'k', 'y', 'b']]);
      expect(replica.rows('SELECT count(*) FROM of_pair JOIN pair USING (a, kind, b)')).toEqual([[1]]);
    }
    await expectEqual(a, b);
  });

  it('names a row by its folder and its name, however many lie in one another and in which order they came', async () => {
    const ddl =
      'CREATE TABLE t (id INTEGER PRIMARY KEY, up INTEGER REFERENCES t (id) ON DELETE CASCADE, name TEXT NOT NULL, note TEXT, UNIQUE (up, name))';
    const named = { config: { tables: { t: { identity: ['up', 'name'] } } } };
    const before =
      "INSERT INTO t VALUES (1, 2, 'leaf', NULL), (2, 3, 'inner', NULL), (3, 4, 'folder', NULL), (4, NULL, 'root', NULL)";
    const a = new Replica({ device: 'A', ddl, ...named, before: `PRAGMA foreign_keys = OFF; ${before}` });
    const b = new Replica({ device: 'B', ddl, ...named });
    b.pull(a);
    a.write(
      "INSERT INTO t (up, name, note) VALUES (1, 'p', 'a'); INSERT INTO t (up, name, note) VALUES (last_insert_rowid(), 'q', 'a')",
    );
    a.stamp();
    b.write(
      "INSERT INTO t (up, name, note) SELECT id, 'p', 'b' FROM t WHERE name = 'leaf'; INSERT INTO t (up, name, note) VALUES (last_insert_rowid(), 'q', 'b')",
    );
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT name, note FROM t WHERE note IS NOT NULL ORDER BY name')).toEqual([
        ['p', 'b'],
        ['q', 'b'],
      ]);
      expect(replica.waiting()).toEqual([]);
    }
    // A folder that is renamed takes all below it along.
    b.write("UPDATE t SET name = 'renamed' WHERE name = 'folder'");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT count(*) FROM t')).toEqual([[6]]);
    await expectEqual(a, b);
  });

  it('that is an INTEGER PRIMARY KEY as well follows the row it refers to', async () => {
    const ddl = `CREATE TABLE entries (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE metadata (entry_id INTEGER PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE ON UPDATE CASCADE, note TEXT);
      CREATE TABLE more (entry_id INTEGER PRIMARY KEY REFERENCES metadata (entry_id) ON DELETE CASCADE ON UPDATE CASCADE, note TEXT)`;
    const [a, b] = pairOf(ddl);
    b.write("INSERT INTO entries VALUES (1, 'filler')");
    a.write(
      "INSERT INTO entries VALUES (1, 'x'), (2, 'y'); INSERT INTO metadata VALUES (2, 'of y'); INSERT INTO more VALUES (2, 'more of y')",
    );
    converge([a, b]);
    const joined =
      'SELECT e.name, m.note, o.note FROM entries e JOIN metadata m ON m.entry_id = e.id JOIN more o USING (entry_id)';
    expect(b.rows(joined)).toEqual([['y', 'of y', 'more of y']]);
    a.write('UPDATE entries SET id = 50 WHERE id = 2');
    converge([a, b]);
    b.write(
      "UPDATE metadata SET note = 'changed'; INSERT INTO metadata SELECT id, 'of x' FROM entries WHERE name = 'x'",
    );
    a.write("INSERT INTO metadata VALUES (1, 'of x, elsewhere')");
    converge([a, b]);
    expect(a.rows(joined)).toEqual([['y', 'changed', 'more of y']]);
    expect(a.rows('SELECT count(*) FROM metadata')).toEqual([[2]]);
    a.write('DELETE FROM entries WHERE id = 50');
    converge([a, b]);
    expect(b.rows('SELECT count(*) FROM metadata')).toEqual([[1]]);
    await expectEqual(a, b);
  });
});
