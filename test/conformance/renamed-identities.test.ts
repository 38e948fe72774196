/**
 * Rows whose identity is their name, and get another name: whoever refers to them goes on doing so. Group N of docs/spec.md.
 */
import { describe, expect, it } from 'vitest';

import { expectEqual, expectShown, fleetOf, inTheMiddle, pagesFor, pairOf } from '../support/engine.ts';
import { FOUNDED_ID, converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const CLAUSES = ['CASCADE', 'SET NULL', 'SET DEFAULT', 'RESTRICT', 'NO ACTION'] as const;
const OWNERSHIPS = ['shared', 'device'] as const;
const CASES = CLAUSES.flatMap((clause) => OWNERSHIPS.map((ownership) => [clause, ownership] as const));

/** Rows with a declared identity, and rows that refer to them by id. */
function declared(clause: string, ownership: string, count = 3): Replica[] {
  return fleetOf(
    count,
    `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, note TEXT);
     CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p (id) ON DELETE ${clause}, v TEXT);`,
    { config: { tables: { p: { identity: 'name' }, c: { ownership } } } },
  );
}

const SHOWN = 'SELECT c.v, p.name FROM c LEFT JOIN p ON p.id = c.p ORDER BY c.v, p.name';

describe('a declared identity that is renamed', () => {
  it.each(CASES)('[N1] keeps those who refer to it: ON DELETE %s, %s rows', async (clause, ownership) => {
    const [a, b, c] = declared(clause, ownership) as [Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (7, 'x', 'n'); INSERT INTO c VALUES (1, 7, 'of A')");
    converge([a, b, c]);
    a.write("INSERT INTO c VALUES (2, 7, 'later')");
    b.write("INSERT INTO c VALUES (5, (SELECT id FROM p), 'of B'); UPDATE p SET name = 'y'");
    converge([a, b, c]);
    await expectShown([a, b, c], SHOWN, [
      ['later', 'y'],
      ['of A', 'y'],
      ['of B', 'y'],
    ]);
    for (const replica of [a, b, c]) {
      expect(replica.rows('SELECT name, note FROM p')).toEqual([['y', 'n']]);
      expect(replica.rows('SELECT rule FROM flotilla_conflicts')).toEqual([]);
    }
  });

  it.each(CASES)('[N1] over several renames, back and forth: ON DELETE %s, %s rows', async (clause, ownership) => {
    const [a, b, c] = declared(clause, ownership) as [Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (7, 'x', 'n'); INSERT INTO c VALUES (1, 7, 'of A')");
    converge([a, b, c]);
    a.write("INSERT INTO c VALUES (2, 7, 'later')");
    for (const name of ['y', 'x', 'z', 'w']) {
      b.write('UPDATE p SET name = ?', name);
      b.stamp();
      if (name === 'x') converge([b, c]);
    }
    converge([b, c]);
    converge([a, b, c]);
    await expectShown([a, b, c], SHOWN, [
      ['later', 'w'],
      ['of A', 'w'],
    ]);
  });

  it.each(CASES)('[N2] while its owner is away, the others agree: ON DELETE %s, %s rows', async (clause, ownership) => {
    const [a, b, c] = declared(clause, ownership) as [Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (7, 'x', 'n'); INSERT INTO c VALUES (1, 7, 'of A')");
    converge([a, b, c]);
    b.write("UPDATE p SET name = 'y'");
    converge([b, c]);
    await expectEqual(b, c);
    expect(b.rows(SHOWN)).toEqual([['of A', 'y']]);
    converge([a, b, c]);
    await expectShown([a, b, c], SHOWN, [['of A', 'y']]);
  });

  it.each(CASES)('[N3] to a name that another device made: ON DELETE %s, %s rows', async (clause, ownership) => {
    const [a, b, c] = declared(clause, ownership) as [Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (7, 'x', 'n'); INSERT INTO c VALUES (1, 7, 'of A')");
    converge([a, b, c]);
    a.write("INSERT INTO p VALUES (8, 'y', 'other'); INSERT INTO c VALUES (2, 8, 'also')");
    a.stamp();
    b.write("UPDATE p SET name = 'y'");
    converge([a, b, c]);
    await expectShown([a, b, c], SHOWN, [
      ['also', 'y'],
      ['of A', 'y'],
    ]);
  });

  it.each(CASES)('[N3] to two names apart: ON DELETE %s, %s rows', async (clause, ownership) => {
    const [a, b, c] = declared(clause, ownership) as [Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (7, 'x', 'n'); INSERT INTO c VALUES (1, 7, 'of A')");
    converge([a, b, c]);
    a.write("INSERT INTO c VALUES (2, 7, 'later')");
    b.write("UPDATE p SET name = 'y'");
    b.stamp();
    c.write("UPDATE p SET name = 'z'");
    c.stamp();
    converge([a, b, c]);
    await expectShown([a, b, c], SHOWN, [
      ['later', 'z'],
      ['of A', 'z'],
    ]);
    for (const replica of [a, b, c]) expect(replica.rows('SELECT name, note FROM p')).toEqual([['z', 'n']]);
    const rules = [a, b, c].flatMap((replica) => replica.rows('SELECT DISTINCT rule FROM flotilla_conflicts').flat());
    expect(rules).toContain('named-apart');
  });

  it.each(CASES)(
    '[N1] though somebody deletes it under its old name: ON DELETE %s, %s rows',
    async (clause, ownership) => {
      for (const first of ['name', 'delete']) {
        const [a, b, c] = declared(clause, ownership) as [Replica, Replica, Replica];
        a.write("INSERT INTO p VALUES (7, 'x', 'n')");
        converge([a, b, c]);
        a.write("INSERT INTO c VALUES (1, 7, 'of A')");
        a.stamp();
        b.write("UPDATE p SET name = 'y'");
        b.stamp();
        c.write('DELETE FROM p');
        c.stamp();
        for (const other of first === 'name' ? [b, c] : [c, b])
          for (const page of pagesFor(a, other, 1000)) a.apply(other.device, inTheMiddle(page));
        a.write('DELETE FROM flotilla_cursors');
        converge([a, b, c]);
        await expectShown([a, b, c], SHOWN, [['of A', 'y']]);
      }
    },
  );

  it.each(CASES)('[N1] and is deleted under its new one: ON DELETE %s, %s rows', async (clause, ownership) => {
    for (const first of ['no row', 'a row of its own', "another's row"]) {
      const replicas = declared(clause, ownership, 4) as [Replica, Replica, Replica, Replica];
      const [a, b, c, d] = replicas;
      b.write("INSERT INTO p VALUES (7, 'x', 'n')");
      converge(replicas);
      a.write("INSERT INTO c SELECT 1, id, 'of A' FROM p");
      d.pull(a);
      b.write("UPDATE p SET name = 'y', note = 'm'");
      b.stamp();
      b.write('DELETE FROM p');
      // Whoever has the row that refers to it hears of both at once, and tells the others before they hear of that row.
      const order = first === 'no row' ? [] : first === 'a row of its own' ? [a, c, d] : [d, c, a];
      order.forEach((replica, i) => replica.pull(order[i - 1] ?? b));
      converge(replicas);
      const isForbidden = clause === 'RESTRICT' || clause === 'NO ACTION';
      await expectShown(replicas, SHOWN, clause === 'CASCADE' ? [] : [['of A', isForbidden ? 'y' : null]]);
      for (const replica of replicas) {
        expect(replica.rows('SELECT name, note FROM p')).toEqual(isForbidden ? [['y', 'm']] : []);
        expect(replica.rows('SELECT * FROM flotilla_pending')).toEqual([]);
      }
    }
  });

  it('[N1] as long as the old name is held anywhere, the way to the new one is not forgotten', async () => {
    const replicas = fleetOf(
      2,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER NOT NULL REFERENCES p ON DELETE CASCADE, v TEXT);
       CREATE TABLE own (p INTEGER REFERENCES p)`,
      { config: { tables: { p: { identity: 'name' }, own: { sync: false } } }, libraryId: FOUNDED_ID },
    ) as [Replica, Replica];
    const [a, b] = replicas;
    a.found();
    a.admit(b);
    a.write("INSERT INTO p VALUES (7, 'x'); INSERT INTO own VALUES (7)");
    converge(replicas);
    for (const name of ['y', 'z']) {
      b.write('UPDATE p SET name = ?', name);
      converge(replicas);
    }
    const graves = (): unknown => a.rows('SELECT count(*) FROM flotilla_tombstones')[0]?.[0];
    expect(graves()).toBe(2);
    a.prune();
    expect(graves()).toBe(2);
    // The row is still there under its old name, for a table that does not sync.
    a.write("INSERT INTO c VALUES (1, 7, 'late')");
    converge(replicas);
    for (const replica of replicas)
      expect(replica.rows('SELECT c.v, p.name FROM c JOIN p ON p.id = c.p')).toEqual([['late', 'z']]);
    await expectEqual(...replicas);
    a.write('DELETE FROM own');
    converge(replicas);
    for (let i = 0; i < 2; i += 1) a.prune();
    expect(graves()).toBe(0);
  });

  it.each([
    ['a new one', "UPDATE p SET name = 'y' WHERE name = 'x'; INSERT INTO p VALUES (70, 'x', 'new')", ['y', 'z']],
    [
      'the one with which it exchanges it',
      "UPDATE p SET name = 't' WHERE name = 'x'; UPDATE p SET name = 'x' WHERE name = 'z'; UPDATE p SET name = 'z' WHERE name = 't'",
      ['z', 'x'],
    ],
  ])('[N1] though its old name is that of another row at once: %s', async (_, sql, [first, second]) => {
    for (const ownership of OWNERSHIPS) {
      const replicas = declared('CASCADE', ownership, 4) as [Replica, Replica, Replica, Replica];
      const [a, b, c, d] = replicas;
      a.write("INSERT INTO p VALUES (7, 'x', 'n'), (8, 'z', 'm'); INSERT INTO c VALUES (1, 7, 'to x'), (2, 8, 'to z')");
      converge(replicas);
      // Heard of by nobody who gives the names, and by one before and one after them.
      d.write("INSERT INTO c SELECT 3, id, 'also to x' FROM p WHERE name = 'x'");
      c.pull(d);
      b.write(`BEGIN; ${sql}; COMMIT`);
      a.pull(b);
      a.pull(c);
      converge(replicas);
      await expectShown(replicas, SHOWN, [
        ['also to x', first],
        ['to x', first],
        ['to z', second],
      ]);
    }
  });

  it.each(OWNERSHIPS)('[N1] what is named by it and refers to itself still does: %s rows', async (ownership) => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
       CREATE TABLE c (p INTEGER NOT NULL REFERENCES p (id) ON DELETE CASCADE, v TEXT NOT NULL, top_p INTEGER, top_v TEXT,
         PRIMARY KEY (p, v), FOREIGN KEY (top_p, top_v) REFERENCES c (p, v) ON DELETE CASCADE)`,
      { config: { tables: { p: { identity: 'name' }, c: { ownership } } } },
    ) as [Replica, Replica, Replica];
    const [a, b] = replicas;
    b.write("INSERT INTO p VALUES (7, 'x')");
    converge(replicas);
    a.write("INSERT INTO c SELECT id, 'of A', id, 'of A' FROM p");
    a.stamp();
    b.write("UPDATE p SET name = 'y'");
    converge(replicas);
    await expectShown(replicas, 'SELECT v, p = top_p AND v = top_v, name FROM c JOIN p ON p.id = c.p', [
      ['of A', 1, 'y'],
    ]);
  });

  it('[N1] is not ended by a late delete of its old name, which another row has by now', async () => {
    const replicas = declared('CASCADE', 'shared', 4) as [Replica, Replica, Replica, Replica];
    const [a, b, c, d] = replicas;
    a.write("INSERT INTO p VALUES (7, 'x', 'n')");
    converge([a, b, c]);
    b.write("UPDATE p SET name = 'y'");
    b.stamp();
    c.write('DELETE FROM p');
    c.stamp();
    d.write("INSERT INTO p VALUES (1, 'x', 'of D')");
    d.stamp();
    b.pull(d);
    b.pull(c);
    expect(b.rows('SELECT name, note FROM p ORDER BY name')).toEqual([
      ['x', 'of D'],
      ['y', 'n'],
    ]);
    converge(replicas);
    await expectEqual(...replicas);
  });

  it('[A1] comes with the end of the old name, so that nobody is left with that alone when its device is restored', async () => {
    const [a, b, c] = declared('CASCADE', 'shared') as [Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (7, 'x', 'n'); INSERT INTO c VALUES (1, 7, 'of A')");
    converge([a, b, c]);
    const backup = a.backup();
    for (const name of ['y', 'z']) {
      a.write('UPDATE p SET name = ?', name);
      a.stamp();
    }
    const pass = b.passFrom(a);
    b.apply('A', pass.next(1) as Uint8Array);
    pass.close();
    expect(b.rows('SELECT name FROM p')).toContainEqual(['z']);
    const restored = a.restored(backup);
    converge([restored, b, c]);
    await expectShown([restored, b, c], SHOWN, [['of A', 'z']]);
  });

  it('[A4] the end of the old name is sent also to one that has the new name, with the same stamp, from a pass that broke off', async () => {
    const replicas = fleetOf(
      3,
      'CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, up INTEGER REFERENCES p (id))',
      { config: { tables: { p: { identity: 'name' } } } },
    ) as [Replica, Replica, Replica];
    const [a, b, c] = replicas;
    a.write("INSERT INTO p VALUES (1, 'x', NULL), (2, 'child', NULL)");
    converge([a, b]);
    for (const sql of ["name = 'renamed child' WHERE id = 2", "name = 'y' WHERE id = 1", 'up = 1 WHERE id = 2']) {
      a.write(`UPDATE p SET ${sql}`);
      a.stamp();
    }
    const pass = c.passFrom(a);
    c.apply('A', pass.next(1) as Uint8Array);
    pass.close();
    expect(c.rows('SELECT name FROM p')).toContainEqual(['y']);
    c.pull(b);
    c.pull(a);
    expect(c.rows('SELECT name FROM p ORDER BY name')).toEqual([['renamed child'], ['y']]);
    converge(replicas);
    await expectEqual(...replicas);
  });

  it('[N1] what refers to it in its own name follows, with what refers to that', async () => {
    const [a, b, c] = fleetOf(
      3,
      `CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
       CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT);
       CREATE TABLE tagged (file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE, tag INTEGER NOT NULL REFERENCES tags ON DELETE CASCADE, PRIMARY KEY (file, tag)) WITHOUT ROWID;
       CREATE TABLE votes (id INTEGER PRIMARY KEY, file INTEGER, tag INTEGER, n INTEGER, FOREIGN KEY (file, tag) REFERENCES tagged ON DELETE CASCADE)`,
      { config: { tables: { tags: { identity: 'name' } } } },
    ) as [Replica, Replica, Replica];
    a.write(
      "INSERT INTO tags VALUES (3, 'x'); INSERT INTO files VALUES (1, 'f'), (2, 'g'); INSERT INTO tagged VALUES (1, 3)",
    );
    converge([a, b, c]);
    a.write(
      'INSERT INTO votes VALUES (1, 1, 3, 5); INSERT INTO tagged VALUES (2, 3); INSERT INTO votes VALUES (2, 2, 3, 6)',
    );
    b.write("UPDATE tags SET name = 'y'");
    converge([a, b, c]);
    await expectShown(
      [a, b, c],
      `SELECT files.name, tags.name, n FROM votes JOIN tagged USING (file, tag) JOIN files ON files.id = file
       JOIN tags ON tags.id = tag ORDER BY n`,
      [
        ['f', 'y', 5],
        ['g', 'y', 6],
      ],
    );
  });

  it.each([
    [
      'key',
      `CREATE TABLE p (code TEXT PRIMARY KEY);
       CREATE TABLE c (p TEXT NOT NULL REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE, name TEXT NOT NULL, hash BLOB UNIQUE, v TEXT, PRIMARY KEY (p, name));
       CREATE TABLE d (id INTEGER PRIMARY KEY, v TEXT, p TEXT, name TEXT, FOREIGN KEY (p, name) REFERENCES c ON UPDATE CASCADE)`,
      [
        "INSERT INTO p VALUES ('x'); INSERT INTO c VALUES ('x', 'n', x'01', 'first')",
        "INSERT INTO d VALUES (1, 'of A', 'x', 'n')",
      ],
      'SELECT d.v, c.p, c.name, c.v FROM c LEFT JOIN d USING (p, name)',
    ],
    [
      'declared identity',
      `CREATE TABLE p (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER NOT NULL REFERENCES p ON DELETE CASCADE, name TEXT NOT NULL, hash BLOB UNIQUE, v TEXT, UNIQUE (p, name));
       CREATE TABLE d (id INTEGER PRIMARY KEY, v TEXT, c INTEGER REFERENCES c)`,
      [
        "INSERT INTO p VALUES (1, 'x'); INSERT INTO c VALUES (1, 1, 'n', x'01', 'first')",
        "INSERT INTO d VALUES (1, 'of A', 1)",
      ],
      'SELECT d.v, p.code, c.name, c.v FROM c JOIN p ON p.id = c.p LEFT JOIN d ON d.c = c.id',
    ],
  ] as const)(
    '[N1] what has it in its name, and has got another one since, is not led back to an older one: %s',
    async (form, ddl, [before, meanwhile], shown) => {
      const identities = { p: { identity: 'code' }, c: { identity: ['p', 'name'] } };
      const config = { tables: form === 'key' ? {} : identities };
      const [a, b, c] = fleetOf(3, ddl, { config }) as [Replica, Replica, Replica];
      a.write(before);
      converge([a, b, c]);
      a.write(meanwhile);
      a.stamp();
      for (const change of ["p SET code = 'y'", "c SET v = 'second'", "c SET name = 'm'"]) {
        b.write(`UPDATE ${change}`);
        b.stamp();
      }
      converge([a, b, c]);
      await expectShown([a, b, c], shown, [['of A', 'y', 'm', 'second']]);
    },
  );

  it.each([
    ['', ''],
    [' where it has to make room for itself', ', hash BLOB UNIQUE'],
  ])(
    "[N2] what is named by it follows when its owner says so, though another device's rows refer to it%s",
    async (_, unique) => {
      const replicas = fleetOf(
        4,
        `CREATE TABLE p (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE);
       CREATE TABLE c (p INTEGER NOT NULL REFERENCES p (id) ON DELETE CASCADE ON UPDATE CASCADE, name TEXT NOT NULL${unique}, PRIMARY KEY (p, name));
       CREATE TABLE d (id INTEGER PRIMARY KEY, p INTEGER, name TEXT, FOREIGN KEY (p, name) REFERENCES c ON UPDATE CASCADE);`,
        { config: { tables: { p: { identity: 'code' }, c: { ownership: 'device' }, d: { ownership: 'device' } } } },
      ) as [Replica, Replica, Replica, Replica];
      const [a, b, c] = replicas;
      c.write("INSERT INTO p VALUES (1, 'x')");
      converge(replicas);
      b.write(`INSERT INTO c VALUES (1, 'n'${unique === '' ? '' : ", x'01'"})`);
      converge(replicas);
      a.write("INSERT INTO d VALUES (1, 1, 'n')");
      converge(replicas);
      c.write("UPDATE p SET code = 'y'");
      converge(replicas);
      await expectShown(replicas, 'SELECT d.id, p.code, name FROM d JOIN c USING (p, name) JOIN p ON p.id = c.p', [
        [1, 'y', 'n'],
      ]);
      for (const replica of replicas) expect(replica.rows('SELECT count(*) FROM c')).toEqual([[1]]);
    },
  );

  it.each([
    ['id', 'CREATE TABLE more (id INTEGER PRIMARY KEY REFERENCES p (id) ON DELETE CASCADE ON UPDATE CASCADE, v TEXT);'],
    [
      'name',
      'CREATE TABLE more (id INTEGER NOT NULL PRIMARY KEY REFERENCES p (id) ON DELETE CASCADE ON UPDATE CASCADE, v TEXT) WITHOUT ROWID;',
    ],
  ])('[N2] what is named by it, by its %s, follows in its place when its owner says so', async (_, more) => {
    const [a, b, c] = fleetOf(
      3,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
       ${more}
       CREATE TABLE c (id INTEGER PRIMARY KEY, more INTEGER NOT NULL REFERENCES more (id) ON UPDATE CASCADE, v TEXT);`,
      { config: { tables: { p: { identity: 'name' }, more: { ownership: 'device' } } } },
    ) as [Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (7, 'x'); INSERT INTO more VALUES (7, 'of A')");
    converge([a, b, c]);
    b.write("UPDATE p SET name = 'y'; INSERT INTO c VALUES (1, (SELECT id FROM p), 'of B')");
    c.write("INSERT INTO c VALUES (1, (SELECT id FROM p), 'of C')");
    const ids = b.rows('SELECT id FROM more');
    converge([a, b, c]);
    const shown =
      'SELECT c.v, more.v, p.name FROM c JOIN more ON more.id = c.more JOIN p ON p.id = more.id ORDER BY c.v';
    await expectShown([a, b, c], shown, [
      ['of B', 'of A', 'y'],
      ['of C', 'of A', 'y'],
    ]);
    expect(b.rows('SELECT id FROM more')).toEqual(ids);
  });
});

describe('a natural key that is renamed', () => {
  const natural = (clause: string, ownership: string): [Replica, Replica, Replica] =>
    fleetOf(
      3,
      `CREATE TABLE p (code TEXT PRIMARY KEY, note TEXT);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p TEXT DEFAULT 'none' REFERENCES p ON DELETE ${clause} ON UPDATE CASCADE, v TEXT);`,
      { config: { tables: { c: { ownership } } } },
    ) as [Replica, Replica, Replica];
  const shown = 'SELECT v, p FROM c ORDER BY v';

  it.each(CASES)('[N1] keeps those who refer to it: ON DELETE %s, %s rows', async (clause, ownership) => {
    const [a, b, c] = natural(clause, ownership);
    a.write("INSERT INTO p VALUES ('x', 'n')");
    converge([a, b, c]);
    // A row that the renaming device has would be written with it, which is not its to do: it is refused there.
    if (ownership === 'shared') a.write("INSERT INTO c VALUES (1, 'x', 'of A')");
    converge([a, b, c]);
    a.write("INSERT INTO c VALUES (2, 'x', 'later')");
    b.write("INSERT INTO c VALUES (5, 'x', 'of B'); UPDATE p SET code = 'y'; UPDATE p SET code = 'z'");
    converge([a, b, c]);
    await expectShown([a, b, c], shown, [
      ['later', 'z'],
      ...(ownership === 'shared' ? [['of A', 'z']] : []),
      ['of B', 'z'],
    ]);
    for (const replica of [a, b, c]) expect(replica.rows('SELECT code, note FROM p')).toEqual([['z', 'n']]);
  });

  it('[N2] a reference by values means the row that has them now, everywhere', async () => {
    const replicas = fleetOf(
      4,
      `CREATE TABLE p (code TEXT PRIMARY KEY, note TEXT);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p TEXT REFERENCES p ON UPDATE CASCADE);`,
      { config: { tables: { c: { ownership: 'device' } } } },
    ) as [Replica, Replica, Replica, Replica];
    const [a, b, c, d] = replicas;
    a.write("INSERT INTO p VALUES ('x', 'n')");
    converge([a, b]);
    b.write("UPDATE p SET code = 'y'");
    b.stamp();
    c.pull(b);
    a.write("INSERT INTO c VALUES (1, 'x')");
    a.stamp();
    d.write("INSERT INTO p VALUES ('x', 'of D')");
    d.stamp();
    b.pull(d);
    a.pull(b);
    converge(replicas);
    await expectShown(replicas, 'SELECT p FROM c', [['x']]);
  });

  it.each([
    [
      'exchange names',
      "UPDATE p SET code = 'tmp' WHERE code = 'x'; UPDATE p SET code = 'x' WHERE code = 'y'; UPDATE p SET code = 'y' WHERE code = 'tmp'",
    ],
    [
      'leave their names to new ones',
      "UPDATE p SET code = 'z' WHERE code = 'x'; INSERT INTO p VALUES ('x', 'new'); UPDATE p SET note = 'more' WHERE code = 'z'",
    ],
  ])('[N1] %s in one transaction, and all of them live', async (_, sql) => {
    const [a, b] = pairOf('CREATE TABLE p (code TEXT PRIMARY KEY, note TEXT);');
    a.write("INSERT INTO p VALUES ('x', 'one'), ('y', 'two')");
    converge([a, b]);
    b.write(`BEGIN; ${sql}; COMMIT`);
    const shown = b.rows('SELECT code, note FROM p ORDER BY code');
    converge([a, b]);
    await expectShown([a, b], 'SELECT code, note FROM p ORDER BY code', shown);
  });
});

it.each([false, true])(
  "[N2] what refers to another device's row by the new name of a third one waits for its owner (who deletes it: %s)",
  async (isDeleted) => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
       CREATE TABLE shelf (place INTEGER NOT NULL REFERENCES place ON DELETE CASCADE, no INTEGER NOT NULL, PRIMARY KEY (place, no));
       CREATE TABLE book (
         id INTEGER PRIMARY KEY, place INTEGER, no INTEGER, FOREIGN KEY (place, no) REFERENCES shelf ON DELETE SET NULL
       )`,
      { config: { tables: { place: { identity: 'name' }, shelf: { ownership: 'device' } } } },
    ) as [Replica, Replica, Replica];
    const [a, b, c] = replicas;
    a.write("INSERT INTO place VALUES (1, 'x'); INSERT INTO shelf VALUES (1, 1)");
    converge(replicas);
    if (isDeleted) a.write('DELETE FROM shelf');
    a.stamp();
    b.write("UPDATE place SET name = 'y'; INSERT INTO book SELECT 1, place, no FROM shelf");
    if (isDeleted) c.pull(a);
    c.pull(b);
    expect(c.violations()).toEqual([]);
    converge(replicas);
    await expectShown(replicas, 'SELECT name, no FROM book LEFT JOIN place ON place.id = book.place', [
      isDeleted ? [null, null] : ['y', 1],
    ]);
  },
);

it('[N1] a row that is named by another one and refers to itself does so under its new name', async () => {
  const [a, b] = pairOf(
    `CREATE TABLE town (name TEXT PRIMARY KEY);
     CREATE TABLE house (
       town TEXT NOT NULL REFERENCES town ON DELETE CASCADE ON UPDATE CASCADE, no INTEGER NOT NULL, up_town TEXT, up_no INTEGER,
       PRIMARY KEY (town, no), FOREIGN KEY (up_town, up_no) REFERENCES house (town, no) ON DELETE CASCADE ON UPDATE CASCADE
     );`,
  );
  a.write("INSERT INTO town VALUES ('York')");
  converge([a, b]);
  a.write("UPDATE town SET name = 'Leeds'");
  b.write("INSERT INTO house VALUES ('York', 1, 'York', 1)");
  converge([a, b]);
  for (const replica of [a, b]) {
    expect(replica.waiting()).toEqual([]);
    expect(replica.rows('SELECT * FROM house')).toEqual([['Leeds', 1, 'Leeds', 1]]);
  }
  await expectEqual(a, b);
});

it.each([1, 2, 3, 1000])(
  '[N1] a row whose place in a unique index its own old name has, with what is named by it and what refers to that: %i rows a page',
  async (rows) => {
    const [a, b] = pairOf(
      `CREATE TABLE town (name TEXT PRIMARY KEY, code TEXT UNIQUE);
       CREATE TABLE house (town TEXT PRIMARY KEY REFERENCES town ON UPDATE CASCADE ON DELETE CASCADE, v TEXT);
       CREATE TABLE room (id INTEGER PRIMARY KEY, house TEXT REFERENCES house ON UPDATE CASCADE ON DELETE SET NULL)`,
    );
    a.write(
      "INSERT INTO town VALUES ('York', 'Y'); INSERT INTO house VALUES ('York', 'v'); INSERT INTO room VALUES (1, 'York')",
    );
    converge([a, b]);
    a.write("UPDATE town SET name = 'Leeds'");
    b.pull(a, rows);
    await expectShown(
      [a, b],
      'SELECT code, v, room.id FROM town JOIN house ON house.town = name JOIN room ON room.house = name',
      [['Y', 'v', 1]],
    );
  },
);
