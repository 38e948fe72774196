/** Joining with a copy of the library (`--same`): equal rows are paired, the rest is new. */
import { describe, expect, it } from 'vitest';

import { setState } from '../../src/db/metadata.ts';
import { expectEqual, inTheMiddle, pagesFor } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';

const DDL = `
CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, color TEXT);
CREATE TABLE entries (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE, name TEXT, any_ BLOB);
CREATE TABLE taggings (
  entry_id INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
  tag_id INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE, note TEXT, PRIMARY KEY (entry_id, tag_id)
);`;
const config = { tables: { tags: { identity: 'name' } } };

/** A copy that has rows without identities, as `join --same` leaves it. */
function joining(rows: string, device = 'B', ddl = DDL, configured: object = config): Replica {
  const replica = new Replica({ device, ddl, config: configured });
  replica.write('UPDATE flotilla_capture SET suspended = 1');
  replica.write(rows);
  replica.write('UPDATE flotilla_capture SET suspended = 0');
  setState(replica.db, 'adopting', 1);
  replica.restart();
  return replica;
}

const TREE =
  "INSERT INTO entries VALUES (1, NULL, 'root', 1), (2, 1, 'a', 5), (3, 1, 'b', 5.0), (4, 2, 'a', x'00'), (5, 2, 'twin', 0), (6, 2, 'twin', 0)";

describe('adopting', () => {
  it('pairs a tree with its copy under other ids, twins as well, in pages of any size', async () => {
    for (const size of [1, 2, 100]) {
      const a = new Replica({
        device: 'A',
        ddl: DDL,
        config,
        before: `${TREE}; INSERT INTO tags VALUES (1, 'red', 'r'); INSERT INTO taggings VALUES (3, 1, 'n')`,
      });
      const b = joining(
        "INSERT INTO entries VALUES (60, NULL, 'root', 1); INSERT INTO entries VALUES (10, 60, 'b', 5.0), (20, 60, 'a', 5); INSERT INTO entries VALUES (30, 20, 'twin', 0), (40, 20, 'twin', 0), (50, 20, 'a', x'00'); INSERT INTO tags VALUES (9, 'red', 'r'); INSERT INTO taggings VALUES (10, 9, 'n')",
      );
      b.pull(a, size);
      expect(b.rows('SELECT id FROM entries ORDER BY id')).toEqual([[10], [20], [30], [40], [50], [60]]);
      expect(b.rows('SELECT * FROM taggings')).toEqual([[10, 9, 'n']]);
      converge([a, b]);
      expect(a.rows('SELECT count(*) FROM entries')).toEqual([[6]]);
      expect(a.rows('SELECT count(*) FROM taggings')).toEqual([[1]]);
      await expectEqual(a, b);
      a.write("UPDATE entries SET name = 'changed' WHERE id = 3");
      converge([a, b]);
      expect(b.rows('SELECT name FROM entries WHERE id = 10')).toEqual([['changed']]);
    }
  });

  it('pairs names that are equal to the index that makes them unique', async () => {
    const ddl = `CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE);
      CREATE TABLE codes (code TEXT COLLATE NOCASE PRIMARY KEY, n INTEGER) WITHOUT ROWID;
      CREATE TABLE marks (k PRIMARY KEY, n INTEGER)`;
    const before =
      "INSERT INTO tags VALUES (1, 'foo'); INSERT INTO codes VALUES ('bar', 1); INSERT INTO marks VALUES (1, 5)";
    const a = new Replica({ device: 'A', ddl, config, before });
    const b = joining(
      "INSERT INTO tags VALUES (7, 'FOO'); INSERT INTO codes VALUES ('BAR', 1); INSERT INTO marks VALUES (1.0, 5)",
      'B',
      ddl,
    );
    b.pull(a);
    expect(b.waiting()).toEqual([]);
    converge([a, b]);
    // What stands in the copy that joins is the later change.
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT name FROM tags')).toEqual([['FOO']]);
      expect(replica.rows('SELECT code, n FROM codes')).toEqual([['BAR', 1]]);
      expect(replica.rows('SELECT typeof(k), n FROM marks')).toEqual([['real', 5]]);
    }
    await expectEqual(a, b);
  });

  it('takes what found no equal for new', async () => {
    const a = new Replica({ device: 'A', ddl: DDL, config, before: TREE });
    const b = joining(
      `${TREE}; INSERT INTO entries VALUES (7, 1, 'only here', 0), (8, 7, 'below', 0); UPDATE entries SET any_ = 6 WHERE id = 2`,
    );
    converge([a, b]);
    // The folder that differs is another one, and what lies in it too.
    expect(a.rows('SELECT name, count(*) FROM entries GROUP BY name ORDER BY name')).toEqual([
      ['a', 4],
      ['b', 1],
      ['below', 1],
      ['only here', 1],
      ['root', 1],
      ['twin', 4],
    ]);
    expect(b.rows('SELECT count(*) FROM entries')).toEqual([[12]]);
    await expectEqual(a, b);
  });

  it('pairs by the declared identity alone, and what stands here is the later change', async () => {
    const a = new Replica({ device: 'A', ddl: DDL, config, before: "INSERT INTO tags VALUES (1, 'red', 'theirs')" });
    const b = joining("INSERT INTO tags VALUES (7, 'red', 'ours')");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT name, color FROM tags')).toEqual([['red', 'ours']]);
    await expectEqual(a, b);
  });

  it('lets nothing written meanwhile be lost, also when it refers to rows that had no identity yet', async () => {
    const a = new Replica({
      device: 'A',
      ddl: DDL,
      config,
      before: `${TREE}; INSERT INTO tags VALUES (1, 'red', 'r')`,
    });
    const c = new Replica({ device: 'C', ddl: DDL, config });
    const b = joining(`${TREE}; INSERT INTO tags VALUES (1, 'red', 'r')`);
    b.write("INSERT INTO entries VALUES (100, 6, 'new here', 0); INSERT INTO taggings VALUES (3, 1, 'new tagging')");
    c.pull(b);
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(
        replica.rows("SELECT p.name FROM entries e JOIN entries p ON p.id = e.parent_id WHERE e.name = 'new here'"),
      ).toEqual([['twin']]);
      expect(
        replica.rows(
          'SELECT e.name, t.name, g.note FROM taggings g JOIN entries e ON e.id = g.entry_id JOIN tags t ON t.id = g.tag_id',
        ),
      ).toEqual([['b', 'red', 'new tagging']]);
      expect(replica.rows('SELECT count(*) FROM entries')).toEqual([[7]]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b, c);
  });

  it('pairs after a batch had to be begun again, and after one that came out of order', async () => {
    const ddl = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, code TEXT UNIQUE)';
    const config = { tables: { t: { unique: { code: 'keep-first' } } } };
    const a = new Replica({
      device: 'A',
      ddl,
      config,
      before: "INSERT INTO t VALUES (1, 'x', NULL), (2, 'y', NULL), (3, 'z', 'taken')",
    });
    const b = new Replica({ device: 'B', ddl, config });
    b.write(
      "UPDATE flotilla_capture SET suspended = 1; INSERT INTO t VALUES (5, 'x', NULL), (6, 'y', NULL), (7, 'other', 'taken'); UPDATE flotilla_capture SET suspended = 0",
    );
    setState(b.db, 'adopting', 1);
    b.restart();
    const pages = pagesFor(b, a, 2);
    for (const page of pages.toReversed()) b.applier.apply('A', inTheMiddle(page));
    expect(b.rows('SELECT id, name FROM t ORDER BY id')).toEqual([
      [5, 'x'],
      [6, 'y'],
      [7, 'other'],
    ]);
    b.write('DELETE FROM flotilla_cursors');
    converge([a, b]);
    expect(a.rows('SELECT count(*) FROM t')).toEqual([[3]]);
    await expectEqual(a, b);
  });

  it.each([false, true])(
    'pairs nothing with a row that was deleted meanwhile (stamped at once: %s)',
    async (isStamped) => {
      const ddl = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)';
      const a = new Replica({ device: 'A', ddl, before: "INSERT INTO t VALUES (1, 'x'), (2, 'y')" });
      const b = joining("INSERT INTO t VALUES (5, 'x'), (6, 'y')", 'B', ddl, {});
      const [first, ...rest] = pagesFor(b, a, 1) as [Uint8Array, Uint8Array];
      b.applier.apply('A', first);
      b.write("DELETE FROM t WHERE name = 'y'");
      if (isStamped) b.stamp();
      for (const page of rest) b.applier.apply('A', page);
      converge([a, b]);
      for (const replica of [a, b]) expect(replica.rows('SELECT name FROM t ORDER BY id')).toEqual([['x'], ['y']]);
      await expectEqual(a, b);
    },
  );

  it('does not take unequal values for equal', async () => {
    const ddl = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)';
    const rows: [string, string][] = [
      ["5, ''", "5.0, ''"],
      ["'5', ''", "5, ''"],
      ["x'35', ''", "'5', ''"],
      ["NULL, ''", "'null', ''"],
      ["'x' || char(0) || 'stringy', ''", "'x', 'y' || char(0) || 'string'"],
    ];
    for (const [ours, theirs] of rows) {
      const a = new Replica({ device: 'A', ddl, before: `INSERT INTO t VALUES (1, ${theirs})` });
      const b = new Replica({ device: 'B', ddl });
      b.write(
        `UPDATE flotilla_capture SET suspended = 1; INSERT INTO t VALUES (1, ${ours}); UPDATE flotilla_capture SET suspended = 0`,
      );
      setState(b.db, 'adopting', 1);
      b.restart();
      converge([a, b]);
      expect(a.rows('SELECT count(*) FROM t')).toEqual([[2]]);
      await expectEqual(a, b);
    }
  });
});
