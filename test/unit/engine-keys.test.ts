/** Foreign keys other than an id: several columns, unique columns, values that change; and columns that stay here. */
import { describe, expect, it } from 'vitest';

import { expectEqual, fleetOf, inTheMiddle, pagesFor, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

describe('foreign keys to natural keys', () => {
  const ddl = `CREATE TABLE countries (code TEXT COLLATE NOCASE PRIMARY KEY, name TEXT);
    CREATE TABLE cities (country TEXT NOT NULL REFERENCES countries (code) ON DELETE CASCADE ON UPDATE CASCADE, name TEXT NOT NULL, PRIMARY KEY (country, name));
    CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, country TEXT, city TEXT, FOREIGN KEY (country, city) REFERENCES cities (country, name) ON DELETE SET NULL ON UPDATE CASCADE)`;

  it('let rows wait for their targets like any other', async () => {
    const [a, b] = pairOf(ddl);
    a.write(
      "INSERT INTO countries VALUES ('fr', 'France'); INSERT INTO cities VALUES ('FR', 'Paris'); INSERT INTO people VALUES (1, 'Zoé', 'FR', 'Paris'), (2, 'Nobody', 'FR', NULL)",
    );
    const pages = pagesFor(b, a, 1);
    expect(pages).toHaveLength(4);
    for (const page of pages.toReversed()) {
      b.applier.apply('A', inTheMiddle(page));
      expect(b.violations()).toEqual([]);
    }
    expect(b.waiting()).toEqual([]);
    expect(b.rows('SELECT name, country, city FROM people ORDER BY id')).toHaveLength(2);
    b.write('DELETE FROM flotilla_cursors');
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('follow ON DELETE and ON UPDATE of the writer', async () => {
    const [a, b] = pairOf(ddl);
    a.write(
      "INSERT INTO countries VALUES ('fr', 'France'), ('be', 'Belgique'); INSERT INTO cities VALUES ('fr', 'Paris'), ('be', 'Gand'); INSERT INTO people VALUES (1, 'Zoé', 'fr', 'Paris'), (2, 'Jan', 'be', 'Gand')",
    );
    converge([a, b]);
    a.write("UPDATE countries SET code = 'fx' WHERE code = 'fr'; DELETE FROM countries WHERE code = 'be'");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT name, country, city FROM people ORDER BY id')).toEqual([
        ['Zoé', 'fx', 'Paris'],
        ['Jan', null, null],
      ]);
      expect(replica.rows('SELECT country, name FROM cities')).toEqual([['fx', 'Paris']]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
  });

  it('find who refers in another spelling, by the collation of the key', async () => {
    const [a, b] = pairOf(`CREATE TABLE labels (code TEXT COLLATE NOCASE PRIMARY KEY);
      CREATE TABLE photos (id INTEGER PRIMARY KEY, label TEXT DEFAULT 'none' REFERENCES labels (code) ON DELETE SET DEFAULT)`);
    a.write("INSERT INTO labels VALUES ('none'), ('Red')");
    converge([a, b]);
    a.write("DELETE FROM labels WHERE code = 'Red'");
    b.write("INSERT INTO photos (label) VALUES ('red')");
    converge([a, b]);
    // SQLite's own SET DEFAULT, which nobody stamps, must not be what settles it.
    await expectEqual(a, b);
  });

  it('are settled where one device deleted and another referred', async () => {
    const [a, b, c] = fleetOf(3, ddl) as [Replica, Replica, Replica];
    a.write("INSERT INTO countries VALUES ('fr', 'France'); INSERT INTO cities VALUES ('fr', 'Paris')");
    converge([a, b, c]);
    a.write('DELETE FROM countries');
    b.write(
      "INSERT INTO cities VALUES ('fr', 'Lyon'); INSERT INTO people VALUES (1, 'Zoé', 'fr', 'Lyon'), (2, 'Léo', 'fr', 'Paris')",
    );
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(replica.rows('SELECT name, country, city FROM people ORDER BY name')).toEqual([
        ['Léo', null, null],
        ['Zoé', null, null],
      ]);
      expect(replica.rows('SELECT * FROM cities')).toEqual([]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b, c);
  });
});

describe('foreign keys to a unique column that may change', () => {
  const ddl = (clause: string): string => `CREATE TABLE p (id INTEGER PRIMARY KEY, code TEXT UNIQUE, name TEXT);
    CREATE TABLE c (id INTEGER PRIMARY KEY, code TEXT REFERENCES p (code) ${clause}, name TEXT)`;

  it('arrive changed together, in one page and in several', async () => {
    for (const size of [1, 100]) {
      const [a, b] = pairOf(ddl('ON UPDATE CASCADE'));
      a.write("INSERT INTO p VALUES (1, 'x', 'p'); INSERT INTO c VALUES (1, 'x', 'c'), (2, 'x', 'd')");
      converge([a, b]);
      a.write("UPDATE p SET code = 'y'");
      for (const applied of b.pull(a, size)) expect(applied.complete || b.violations().length === 0).toBe(true);
      expect(b.rows('SELECT code FROM c UNION SELECT code FROM p')).toEqual([['y']]);
      expect(b.waiting()).toEqual([]);
      expect(b.rows('SELECT count(*) FROM flotilla_marks')).toEqual([[0]]);
      await expectEqual(a, b);
    }
  });

  for (const clause of ['ON UPDATE CASCADE', 'ON UPDATE SET NULL', '', 'ON UPDATE RESTRICT']) {
    it(`wait, listed, where another device referred to the old value, and stop no session (${clause || 'NO ACTION'})`, async () => {
      const [a, b] = pairOf(ddl(clause));
      a.write("INSERT INTO p VALUES (1, 'x', 'p')");
      converge([a, b]);
      a.write("UPDATE p SET code = 'y'");
      a.stamp();
      b.write("INSERT INTO c VALUES (1, 'x', 'c')");
      converge([a, b]);
      expect(a.waiting()).toEqual(['constraint']);
      expect(b.waiting()).toEqual(['constraint']);
      expect(b.rows('SELECT code FROM c')).toEqual([['x']]);
      await expectEqual(a, b);
      b.write(
        "UPDATE p SET code = 'z'; UPDATE c SET code = 'z'".replace(
          'UPDATE p',
          clause === '' || clause === 'ON UPDATE RESTRICT' ? 'UPDATE c SET code = NULL; UPDATE p' : 'UPDATE p',
        ),
      );
      converge([a, b]);
      for (const replica of [a, b]) {
        expect(replica.waiting()).toEqual([]);
        expect(replica.rows('SELECT code FROM c UNION SELECT code FROM p')).toEqual([['z']]);
      }
      await expectEqual(a, b);
    });
  }

  it('refer to the row that has the value now, when it is another one', async () => {
    const [a, b] = pairOf(ddl(''));
    a.write("INSERT INTO p VALUES (1, 'x', 'old'); INSERT INTO c VALUES (1, 'x', 'c')");
    converge([a, b]);
    a.write("REPLACE INTO p VALUES (2, 'x', 'new')");
    converge([a, b]);
    expect(b.rows('SELECT p.name FROM c JOIN p USING (code)')).toEqual([['new']]);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });
});

describe('ids that are references', () => {
  it('get theirs after the row that they lead to, when that refers back', async () => {
    const [a, b] =
      pairOf(`CREATE TABLE people (id INTEGER PRIMARY KEY, badge_id INTEGER REFERENCES badges ON DELETE SET NULL);
      CREATE TABLE badges (id INTEGER PRIMARY KEY REFERENCES people ON DELETE CASCADE)`);
    b.write('INSERT INTO people VALUES (8, NULL)');
    a.write('INSERT INTO people VALUES (1, NULL); INSERT INTO badges VALUES (1); UPDATE people SET badge_id = 1');
    converge([a, b]);
    expect(b.rows('SELECT p.id, badge_id FROM people p JOIN badges b ON b.id = p.id')).toEqual([[9, 9]]);
    await expectEqual(a, b);
  });
});

describe('a row that moves to another id', () => {
  it('leaves those alone that refer to it by another column', async () => {
    const [a, b] = pairOf(`CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
      CREATE TABLE pets (id INTEGER PRIMARY KEY, owner TEXT REFERENCES people (name) ON UPDATE CASCADE)`);
    a.write("INSERT INTO people VALUES (1, 'Ann'); INSERT INTO pets VALUES (1, 'Ann')");
    converge([a, b]);
    a.write('UPDATE people SET id = 7');
    expect(b.pull(a).map(({ rows }) => rows)).toEqual([0]);
    await expectEqual(a, b);
  });
});

describe('local columns', () => {
  const ddl = `CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, seen INTEGER DEFAULT 0, own INTEGER REFERENCES t (id))`;
  const config = { tables: { t: { localColumns: ['seen', 'own'] } } };

  it('stay here: they are not sent, not overwritten, and their change is no change', async () => {
    const [a, b] = pairOf(ddl, { config });
    a.write("INSERT INTO t VALUES (1, 'x', 5, 1)");
    converge([a, b]);
    expect(b.rows('SELECT name, seen, own FROM t')).toEqual([['x', 0, null]]);
    b.write('UPDATE t SET seen = 9, own = id');
    expect(a.pull(b).map(({ rows }) => rows)).toEqual([0]);
    a.write("UPDATE t SET name = 'y', seen = 6");
    converge([a, b]);
    expect(a.rows('SELECT name, seen FROM t')).toEqual([['y', 6]]);
    expect(b.rows('SELECT name, seen, own FROM t')).toEqual([['y', 9, 1]]);
    await expectEqual(a, b);
  });
});
