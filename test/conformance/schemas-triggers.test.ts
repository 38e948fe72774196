/** Group S of docs/spec.md: virtual tables, views, and the user's own triggers. */
import { describe, expect, it } from 'vitest';

import { expectEqual, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';

describe('full-text search', () => {
  const ddl = `CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT UNIQUE, body TEXT, folder INTEGER REFERENCES notes (id) ON DELETE CASCADE);
    CREATE VIRTUAL TABLE search USING fts5 (title, body, content = 'notes', content_rowid = 'id', tokenize = 'porter');
    CREATE TRIGGER notes_ai AFTER INSERT ON notes BEGIN INSERT INTO search (rowid, title, body) VALUES (new.id, new.title, new.body); END;
    CREATE TRIGGER notes_ad AFTER DELETE ON notes BEGIN INSERT INTO search (search, rowid, title, body) VALUES ('delete', old.id, old.title, old.body); END;
    CREATE TRIGGER notes_au AFTER UPDATE ON notes BEGIN
      INSERT INTO search (search, rowid, title, body) VALUES ('delete', old.id, old.title, old.body);
      INSERT INTO search (rowid, title, body) VALUES (new.id, new.title, new.body); END`;
  const find = 'SELECT n.title FROM search JOIN notes n ON n.id = search.rowid WHERE search MATCH ? ORDER BY n.title';

  it('[S10] with external content is filled where rows arrive, by the triggers that fill it where they are written', async () => {
    const [a, b] = pairOf(ddl);
    expect(b.library.registry.left.map(({ table }) => table)).toContain('search');
    b.write("INSERT INTO notes (title, body) VALUES ('mine', 'walking dogs')");
    a.write(
      "INSERT INTO notes (title, body) VALUES ('first', 'walks'), ('second', 'cats'); INSERT INTO notes (title, body, folder) VALUES ('inner', 'walked', 1)",
    );
    converge([a, b]);
    expect(b.rows(find, 'walk')).toEqual([['first'], ['inner'], ['mine']]);
    a.write("UPDATE notes SET body = 'dogs' WHERE title = 'second'; DELETE FROM notes WHERE title = 'first'");
    converge([a, b]);
    // Two rows that exchange a unique value go by way of a third one.
    b.write(
      "UPDATE notes SET title = 'x' WHERE title = 'mine'; UPDATE notes SET title = 'mine' WHERE title = 'second'; UPDATE notes SET title = 'second' WHERE title = 'x'",
    );
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows(find, 'walk')).toEqual([['second']]);
      expect(replica.rows(find, 'parked')).toEqual([]);
      replica.write("INSERT INTO search (search) VALUES ('integrity-check')");
    }
    expect(b.rows('SELECT count(*) FROM flotilla_marks')).toEqual([[0]]);
    await expectEqual(a, b);
  });
});

describe('an R-tree and other tables that stay here', () => {
  it('[S10] are kept by triggers on every device', async () => {
    const [a, b] = pairOf(
      `CREATE TABLE places (id INTEGER PRIMARY KEY, name TEXT, x REAL, y REAL);
       CREATE VIRTUAL TABLE area USING rtree (id, x1, x2, y1, y2);
       CREATE TABLE counts (kind TEXT PRIMARY KEY, n INTEGER NOT NULL);
       CREATE TABLE recent (place INTEGER PRIMARY KEY REFERENCES places (id) ON DELETE CASCADE, at TEXT DEFAULT CURRENT_TIMESTAMP);
       CREATE TRIGGER i AFTER INSERT ON places BEGIN
         INSERT INTO area VALUES (new.id, new.x, new.x, new.y, new.y);
         INSERT INTO counts VALUES ('places', 1) ON CONFLICT (kind) DO UPDATE SET n = n + 1;
         INSERT OR REPLACE INTO recent (place) VALUES (new.id); END;
       CREATE TRIGGER u AFTER UPDATE OF x, y ON places WHEN old.x IS NOT new.x OR old.y IS NOT new.y BEGIN
         UPDATE area SET x1 = new.x, x2 = new.x, y1 = new.y, y2 = new.y WHERE id = new.id;
         INSERT OR REPLACE INTO recent (place) VALUES (new.id); END;
       CREATE TRIGGER d BEFORE DELETE ON places BEGIN
         DELETE FROM area WHERE id = old.id; UPDATE counts SET n = n - 1 WHERE kind = 'places'; END`,
      { config: { tables: { counts: { sync: false }, recent: { sync: false } } } },
    );
    b.write("INSERT INTO places (name, x, y) VALUES ('there', 1, 1)");
    a.write("INSERT INTO places (name, x, y) VALUES ('p', 5, 5), ('q', 6, 6)");
    converge([a, b]);
    a.write("UPDATE places SET x = 9 WHERE name = 'p'");
    b.write("DELETE FROM places WHERE name = 'there'; UPDATE places SET name = 'q2' WHERE name = 'q'");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(
        replica.rows('SELECT p.name FROM area JOIN places p USING (id) WHERE x1 BETWEEN 5 AND 9 ORDER BY 1'),
      ).toEqual([['p'], ['q2']]);
      expect(replica.rows('SELECT count(*) FROM area')).toEqual([[2]]);
      expect(replica.rows('SELECT n FROM counts')).toEqual([[2]]);
      expect(replica.rows('SELECT count(*) FROM recent')).toEqual([[2]]);
      expect(replica.rows('SELECT rtreecheck(?)', 'area')).toEqual([['ok']]);
    }
    await expectEqual(a, b);
  });
});

describe('views', () => {
  it('[S11] do not sync; what is written through their INSTEAD OF triggers does', async () => {
    const [a, b] = pairOf(`CREATE TABLE people (id INTEGER PRIMARY KEY, first TEXT, last TEXT);
      CREATE VIEW names AS SELECT id, first || ' ' || last AS name FROM people;
      CREATE TRIGGER ni INSTEAD OF INSERT ON names BEGIN INSERT INTO people (first, last) VALUES (substr(new.name, 1, instr(new.name, ' ') - 1), substr(new.name, instr(new.name, ' ') + 1)); END;
      CREATE TRIGGER nd INSTEAD OF DELETE ON names BEGIN DELETE FROM people WHERE id = old.id; END;
      CREATE TRIGGER nu INSTEAD OF UPDATE ON names BEGIN UPDATE people SET last = new.name WHERE id = old.id; END`);
    expect(a.library.registry.left.find(({ table }) => table === 'names')?.reason).toMatch(/view/);
    a.write(
      "INSERT INTO names (name) VALUES ('Ada Lovelace'), ('Alan Turing'); UPDATE names SET name = 'King' WHERE name LIKE 'Ada%'",
    );
    converge([a, b]);
    b.write("DELETE FROM names WHERE name LIKE 'Alan%'");
    converge([a, b]);
    expect(a.rows('SELECT name FROM names')).toEqual([['Ada King']]);
    expect(b.rows('SELECT name FROM names')).toEqual([['Ada King']]);
    await expectEqual(a, b);
  });
});

describe('triggers that write to synced tables', () => {
  it('[S12] do their work where a row is written, once, and what they wrote arrives', async () => {
    const [a, b] = pairOf(`CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, n INTEGER DEFAULT 0, changed TEXT);
      CREATE TABLE log (id INTEGER PRIMARY KEY, what TEXT);
      CREATE TABLE sums (k TEXT PRIMARY KEY, n INTEGER);
      CREATE VIEW hub AS SELECT 1 AS what;
      CREATE TRIGGER touch AFTER UPDATE OF v ON t WHEN new.n < 3 BEGIN UPDATE t SET changed = hex(randomblob(4)), n = n + 1 WHERE id = new.id; END;
      CREATE TRIGGER logged AFTER INSERT ON t BEGIN INSERT INTO hub VALUES ('new ' || new.v); END;
      CREATE TRIGGER by_hub INSTEAD OF INSERT ON hub BEGIN INSERT INTO log (what) VALUES (new.what); INSERT OR REPLACE INTO "sums" VALUES ('k', (SELECT count(*) FROM log)); END`);
    a.write("INSERT INTO t (v) VALUES ('x'), ('y'); UPDATE t SET v = v || '!'");
    converge([a, b]);
    const all = 'SELECT v, n, changed FROM t ORDER BY v';
    expect(b.rows(all)).toEqual(a.rows(all));
    expect(b.rows('SELECT what FROM log ORDER BY what')).toEqual([['new x'], ['new y']]);
    b.write("UPDATE t SET v = 'z' WHERE v = 'y!'; INSERT INTO t (v) VALUES ('w')");
    converge([a, b]);
    expect(a.rows(all)).toEqual(b.rows(all));
    expect(a.rows('SELECT count(*) FROM log')).toEqual([[3]]);
    expect(a.rows('SELECT n FROM t WHERE v = ?', 'z')).toEqual([[2]]);
    await expectEqual(a, b);
  });
});

describe('triggers that refuse', () => {
  it('[S13] let what they refuse wait, listed, and be taken up when it can be', async () => {
    for (const refusal of ["RAISE(ABORT, 'too many')", 'RAISE(IGNORE)']) {
      const [a, b] = pairOf(
        `CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE limits (n INTEGER);
         CREATE TRIGGER few BEFORE INSERT ON t WHEN (SELECT count(*) FROM t) >= (SELECT n FROM limits) BEGIN SELECT ${refusal}; END;
         CREATE TRIGGER same BEFORE UPDATE ON t WHEN new.v = 'forbidden' AND (SELECT n FROM limits) < 5 BEGIN SELECT ${refusal}; END`,
        { config: { tables: { limits: { sync: false } } } },
      );
      a.write('INSERT INTO limits VALUES (9)');
      b.write('INSERT INTO limits VALUES (2)');
      a.write("INSERT INTO t (v) VALUES ('1'), ('2'), ('3')");
      converge([a, b]);
      expect(b.rows('SELECT count(*) FROM t')).toEqual([[2]]);
      expect(b.waiting()).toEqual(['constraint']);
      a.write("UPDATE t SET v = 'forbidden' WHERE v = '1'");
      converge([a, b]);
      expect(b.waiting()).toEqual(['constraint', 'constraint']);
      expect(b.rows("SELECT count(*) FROM t WHERE v = 'forbidden'")).toEqual([[0]]);
      await expectEqual(a, b);
      b.write('UPDATE limits SET n = 9');
      converge([a, b]);
      expect(b.waiting()).toEqual([]);
      expect(b.rows('SELECT v FROM t ORDER BY v')).toEqual([['2'], ['3'], ['forbidden']]);
      await expectEqual(a, b);
    }
  });

  it('[S13] do not run where rows arrive when they would end the transaction or leave a statement half done', () => {
    for (const refusal of ["RAISE(ROLLBACK, 'too many')", "RAISE(FAIL, 'too many')"]) {
      const [a, b] = pairOf(
        `CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE limits (n INTEGER);
         CREATE TRIGGER few AFTER INSERT ON t WHEN (SELECT count(*) FROM t) > (SELECT n FROM limits) BEGIN SELECT ${refusal}; END`,
        { config: { tables: { limits: { sync: false } } } },
      );
      b.write('INSERT INTO limits VALUES (2)');
      a.write("INSERT INTO t (v) VALUES ('1'), ('2'), ('3')");
      converge([a, b]);
      expect(b.rows('SELECT count(*) FROM t')).toEqual([[3]]);
      expect(() => b.write("INSERT INTO t (v) VALUES ('4')")).toThrow(/too many/);
    }
  });

  it('[S13] cannot refuse a delete that has happened elsewhere', async () => {
    for (const refusal of ["RAISE(ABORT, 'kept')", "RAISE(ROLLBACK, 'kept')", 'RAISE(IGNORE)']) {
      const [a, b] = pairOf(
        `CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE kept (v TEXT);
         CREATE TRIGGER keep BEFORE DELETE ON t WHEN EXISTS (SELECT 1 FROM kept WHERE v = old.v) BEGIN SELECT ${refusal}; END`,
        { config: { tables: { kept: { sync: false } } } },
      );
      b.write("INSERT INTO kept VALUES ('x')");
      a.write("INSERT INTO t (v) VALUES ('x'), ('y')");
      converge([a, b]);
      a.write('DELETE FROM t');
      converge([a, b]);
      expect(b.rows('SELECT count(*) FROM t')).toEqual([[0]]);
      await expectEqual(a, b);
    }
  });
});
