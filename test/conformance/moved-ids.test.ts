/** Rows that get another integer id on one device, with references that follow them. Rules C2 and O8 of docs/spec.md. */
import { describe, expect, it } from 'vitest';

import { expectEqual, expectShown, fleetOf, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const DDL = `
  CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT, up INTEGER REFERENCES p ON UPDATE CASCADE);
  CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON UPDATE CASCADE, v TEXT);
  CREATE TABLE l (p INTEGER NOT NULL REFERENCES p ON UPDATE CASCADE, k TEXT NOT NULL, n, PRIMARY KEY (p, k)) WITHOUT ROWID;
  CREATE TABLE m (id INTEGER PRIMARY KEY, p INTEGER, k TEXT, FOREIGN KEY (k, p) REFERENCES l (k, p) ON UPDATE CASCADE);
  CREATE TABLE b (p INTEGER PRIMARY KEY REFERENCES p ON UPDATE CASCADE, w);
  CREATE TABLE d (id INTEGER PRIMARY KEY, b INTEGER REFERENCES b ON UPDATE CASCADE);`;

function filled(): [Replica, Replica] {
  const [a, b] = pairOf(DDL);
  a.write(`INSERT INTO p VALUES (1, 'x', NULL), (2, 'y', 1), (3, 'z', 3); INSERT INTO c VALUES (1, 1, 'c1'), (2, 2, 'c2');
    INSERT INTO l VALUES (1, 'k', 0); INSERT INTO m VALUES (1, 1, 'k'); INSERT INTO b VALUES (1, 'w'); INSERT INTO d VALUES (1, 1)`);
  converge([a, b]);
  return [a, b];
}

const REFERENCES = `SELECT c.v, p.name FROM c LEFT JOIN p ON p.id = c.p ORDER BY c.v`;

describe('an id that moves', () => {
  it.each([
    ['in its place', 'UPDATE OR REPLACE p SET id = 1 WHERE id = 2'],
    [
      'after it was deleted',
      'BEGIN; PRAGMA defer_foreign_keys = ON; DELETE FROM p WHERE id = 1; UPDATE p SET id = 1 WHERE id = 2; COMMIT',
    ],
  ])('[W3] to that of another row, %s, is what both rows’ references mean from now on', async (_, sql) => {
    const [a, b] = filled();
    a.write(sql);
    expect(a.violations()).toEqual([]);
    converge([a, b]);
    expect(b.rows(REFERENCES)).toEqual([
      ['c1', 'y'],
      ['c2', 'y'],
    ]);
    await expectEqual(a, b);
  });

  it('[C2] says nothing to others, nor do the references that follow it, over any number of steps', async () => {
    const [a, b] = filled();
    const [clock, digest] = [a.library.hlc, await a.digest()];
    for (const [from, to] of [
      [1, 50],
      [2, 60],
      [3, 70],
      [50, -1],
      [60, 50],
      [-1, 60],
    ])
      a.write('UPDATE p SET id = ? WHERE id = ?', to, from);
    a.stamp();
    expect(a.library.hlc).toBe(clock);
    expect(await a.digest()).toEqual(digest);
    // What is written afterwards still finds its rows.
    a.write("UPDATE l SET n = 1; UPDATE m SET k = NULL; UPDATE c SET v = v || '!'; UPDATE d SET b = NULL");
    converge([a, b]);
    expect(b.rows(REFERENCES)).toEqual([
      ['c1!', 'x'],
      ['c2!', 'y'],
    ]);
    expect(b.rows('SELECT name, n FROM l JOIN p ON p.id = l.p')).toEqual([['x', 1]]);
    await expectEqual(a, b);
  });

  it('[C2] so a reference that somebody moves meanwhile goes where it was moved, whatever came first', async () => {
    for (const isLater of [false, true]) {
      const [a, b] = filled();
      const follow = (): void => a.write('UPDATE p SET id = 50 WHERE id = 1');
      if (!isLater) follow();
      a.stamp();
      b.write("UPDATE c SET p = (SELECT id FROM p WHERE name = 'z') WHERE v = 'c1'");
      b.stamp();
      if (isLater) follow();
      converge([a, b]);
      for (const replica of [a, b]) {
        expect(replica.rows(REFERENCES)).toEqual([
          ['c1', 'z'],
          ['c2', 'y'],
        ]);
        expect(replica.rows('SELECT count(*) FROM flotilla_conflicts')).toEqual([[0]]);
      }
      await expectEqual(a, b);
    }
  });

  it('[C2] but a reference that gets to mean another row is written, also where it looks like one that followed', async () => {
    const [a, b] = filled();
    // The row that it meant is gone, and another one is at the id that it is given.
    a.write(`BEGIN; PRAGMA defer_foreign_keys = ON; DELETE FROM d; DELETE FROM b; DELETE FROM m; DELETE FROM l; UPDATE p SET up = NULL;
      DELETE FROM p WHERE id = 1; INSERT INTO p VALUES (9, 'new', NULL); UPDATE c SET p = 9 WHERE p = 1; COMMIT`);
    // Without foreign keys: ids are moved first, and references afterwards, one of them elsewhere.
    a.db.pragma('foreign_keys = OFF');
    a.write("UPDATE p SET id = id + 100; UPDATE c SET p = p + 100; UPDATE c SET p = 103 WHERE v = 'c2'");
    a.write(
      "INSERT INTO p VALUES (7, 'late', NULL); INSERT INTO c VALUES (5, 7, 'c5'); UPDATE p SET id = 8 WHERE id = 7",
    );
    a.write("UPDATE p SET id = 7 WHERE name = 'new'");
    a.write("UPDATE c SET p = 7 WHERE v = 'c1'");
    a.db.pragma('foreign_keys = ON');
    expect(a.violations()).toEqual([]);
    converge([a, b]);
    for (const replica of [a, b])
      expect(replica.rows(REFERENCES)).toEqual([
        ['c1', 'new'],
        ['c2', 'z'],
        ['c5', 'new'],
      ]);
    await expectEqual(a, b);
  });

  it('[C2] also when more rows follow than one slice of marks holds', async () => {
    const [a, b] = filled();
    a.write(
      "WITH n (i) AS (VALUES (10) UNION ALL SELECT i + 1 FROM n WHERE i < 7000) INSERT INTO c SELECT i, 1, 'many' FROM n",
    );
    converge([a, b]);
    const [clock, digest] = [a.library.hlc, await a.digest()];
    a.write('UPDATE p SET id = 50 WHERE id = 1');
    while (a.applier.stamp(1000) > 0);
    expect(a.library.hlc).toBe(clock);
    expect(await a.digest()).toEqual(digest);
    b.write('UPDATE c SET p = NULL WHERE id > 20');
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('[O8] a row whose id is a reference comes back under the id of what it refers to, when that has moved', async () => {
    const [a, b] = pairOf(
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
       CREATE TABLE more (id INTEGER PRIMARY KEY REFERENCES p (id) ON UPDATE NO ACTION DEFERRABLE INITIALLY DEFERRED, note TEXT);`,
      { config: { tables: { more: { ownership: 'device' } } } },
    );
    a.write("INSERT INTO p VALUES (1, 'one'), (2, 'two'); INSERT INTO more VALUES (1, 'of one')");
    b.pull(a);
    b.write(
      'BEGIN; UPDATE p SET id = 9 WHERE id = 1; UPDATE p SET id = 1 WHERE id = 2; UPDATE p SET id = 2 WHERE id = 9; COMMIT',
    );
    const shown = 'SELECT p.name, more.note FROM more JOIN p USING (id)';
    expect(b.rows(shown)).toEqual([['two', 'of one']]);
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows(shown)).toEqual([['one', 'of one']]);
    a.write("UPDATE more SET note = 'still of one'");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows(shown)).toEqual([['one', 'still of one']]);
    await expectEqual(a, b);
  });

  const SWAP =
    'BEGIN; UPDATE p SET id = 9 WHERE id = 1; UPDATE p SET id = 1 WHERE id = 2; UPDATE p SET id = 2 WHERE id = 9; COMMIT';
  const ADD = "INSERT INTO more (p, note) VALUES (2, 'of B')";
  const ID = 'p INTEGER PRIMARY KEY REFERENCES p (id) ON UPDATE NO ACTION DEFERRABLE INITIALLY DEFERRED, note TEXT';
  it.each([
    ['made in the same moment', ID, [`${SWAP}; ${ADD}`]],
    ['made later', ID, [SWAP, ADD]],
    ['made before', ID, [ADD, SWAP]],
    [
      'made later, by a key of several columns',
      `${ID.replace(' PRIMARY KEY', '')}, k DEFAULT 0, PRIMARY KEY (p, k)`,
      [SWAP, ADD],
    ],
  ])('[N3] [O8] such a row is one with an own row that gets its name: %s', async (_, columns, writes) => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
       CREATE TABLE more (${columns});
       CREATE TABLE notes (id INTEGER PRIMARY KEY, p INTEGER, k DEFAULT 0, v TEXT,
         FOREIGN KEY (${columns.includes('k DEFAULT') ? 'p, k' : 'p'}) REFERENCES more ON DELETE CASCADE);`,
      { config: { tables: { more: { ownership: 'device' } } } },
    ) as [Replica, Replica, Replica];
    const [a, b] = replicas;
    a.write("INSERT INTO p VALUES (1, 'one'), (2, 'two'); INSERT INTO more (p, note) VALUES (1, 'of A')");
    if (columns === ID) a.write("INSERT INTO notes (p, v) VALUES (1, 'about it')");
    b.pull(a);
    for (const sql of writes) {
      b.write(sql);
      b.stamp();
    }
    expect(b.violations()).toEqual([]);
    converge(replicas);
    const shown =
      'SELECT name, more.note, v FROM p LEFT JOIN more ON more.p = p.id LEFT JOIN notes ON notes.p = p.id ORDER BY name';
    await expectShown(replicas, shown, [
      ['one', 'of B', columns === ID ? 'about it' : null],
      ['two', null, null],
    ]);
    expect(a.rows('SELECT rule, lost FROM flotilla_conflicts WHERE col IS NOT NULL')).toEqual([
      ['later-birth', 'of A'],
    ]);
  });
});

describe('[W3] a row that takes the id of another one, and goes along with that', () => {
  it('is deleted for all, and so is the other', async () => {
    const [a, b] =
      pairOf(`CREATE TABLE entry (id INTEGER PRIMARY KEY, name TEXT, up INTEGER REFERENCES entry ON DELETE CASCADE);
      CREATE TABLE tag (id INTEGER PRIMARY KEY, entry INTEGER NOT NULL REFERENCES entry ON DELETE CASCADE)`);
    a.write("INSERT INTO entry VALUES (1, 'kept', NULL), (3, 'up', NULL), (4, 'down', 3)");
    converge([a, b]);
    b.write("INSERT INTO tag SELECT 1, id FROM entry WHERE name = 'up'");
    a.write('UPDATE OR REPLACE entry SET id = 3 WHERE id = 4');
    expect(a.rows('SELECT name FROM entry')).toEqual([['kept']]);
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT name FROM entry')).toEqual([['kept']]);
      expect(replica.rows('SELECT count(*) FROM tag')).toEqual([[0]]);
    }
    await expectEqual(a, b);
  });
});
