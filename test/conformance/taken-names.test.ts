/**
 * Rows that get another name while another row takes the old one: a reference says which of the two it means. Group N of docs/spec.md.
 */
import { describe, expect, it } from 'vitest';

import { expectEqual, expectShown, fleetOf, inTheMiddle, pagesFor } from '../support/engine.ts';
import type { Replica } from '../support/replica.ts';
import { FOUNDED_ID, converge } from '../support/replica.ts';

type Clause = 'CASCADE' | 'SET NULL' | 'RESTRICT';

const CASES = (['shared', 'device'] as const).flatMap((ownership) =>
  (['CASCADE', 'SET NULL', 'RESTRICT'] as const).map((clause) => [clause, ownership] as const),
);

/** Devices that have a tag, a row `x` and, at A, a row that refers to it. */
function devices(clause: Clause, ownership: string, count: number): Replica[] {
  const replicas = fleetOf(
    count,
    `CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT);
     CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, tag INTEGER REFERENCES tag ON DELETE SET NULL);
     CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE ${clause}, v TEXT)`,
    { config: { tables: { p: { identity: 'name' }, c: { ownership } } } },
  );
  replicas[0]?.write(
    "INSERT INTO tag VALUES (1, 't'); INSERT INTO p VALUES (7, 'x', NULL); INSERT INTO c VALUES (1, 7, 'of A')",
  );
  converge(replicas);
  return replicas;
}

const SHOWN = 'SELECT c.v, p.name FROM c LEFT JOIN p ON p.id = c.p ORDER BY c.v';

/** Takes what B has, as pages in the middle of a pass: nothing is decided yet. */
function hearFrom(b: Replica, a: Replica): void {
  for (const page of pagesFor(a, b, 1000)) a.apply('B', inTheMiddle(page));
}

describe('[N1] a row whose old name is that of another row at once', () => {
  it.each(CASES)('which has to wait: ON DELETE %s, %s rows', async (clause, ownership) => {
    const replicas = devices(clause, ownership, 4) as [Replica, Replica, Replica, Replica];
    const [a, b, c, d] = replicas;
    // Heard of by nobody who gives the names, and by one after them.
    d.write("INSERT INTO c SELECT 3, id, 'of D' FROM p");
    d.stamp();
    b.write("BEGIN; UPDATE p SET name = 'y'; INSERT INTO p SELECT 70, 'x', id FROM tag; COMMIT");
    a.write('DELETE FROM tag');
    hearFrom(b, a);
    expect(a.waiting()).toContain('dead-target');
    c.pull(d);
    a.pull(c);
    converge(replicas);
    await expectShown(replicas, SHOWN, [
      ['of A', 'y'],
      ['of D', 'y'],
    ]);
  });

  it.each(CASES)('while it has to wait itself: ON DELETE %s, %s rows', async (clause, ownership) => {
    const replicas = devices(clause, ownership, 4) as [Replica, Replica, Replica, Replica];
    const [a, b, c, d] = replicas;
    for (const replica of [c, d]) replica.write('INSERT INTO c SELECT 3, id, ? FROM p', `of ${replica.device}`);
    a.pull(c);
    giveName(b, a);
    // Heard of after that.
    a.pull(d);
    expect(a.rows(SHOWN)).toEqual([]);
    converge(replicas);
    await expectShown(
      replicas,
      SHOWN,
      ['of A', 'of C', 'of D'].map((v) => [v, 'y']),
    );
  });

  it.each(CASES)('and is deleted while it has to wait: ON DELETE %s, %s rows', async (clause, ownership) => {
    const replicas = devices(clause, ownership, 3) as [Replica, Replica, Replica];
    const [a, b, c] = replicas;
    a.write('DELETE FROM c');
    b.pull(a);
    c.write("INSERT INTO c SELECT 3, id, 'of C' FROM p");
    a.pull(c);
    giveName(b, a);
    b.write("DELETE FROM p WHERE name = 'y'");
    b.stamp();
    hearFrom(b, a);
    converge(replicas);
    const name = clause === 'RESTRICT' ? 'y' : null;
    await expectShown(replicas, SHOWN, clause === 'CASCADE' ? [] : [['of C', name]]);
  });
});

describe('[N1] a row whose old name is that of another row', () => {
  it.each(['shared', 'device'])(
    'though a row refers to the one by its id, and to the other by values: %s rows',
    async (ownership) => {
      const replicas = fleetOf(
        3,
        `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, v TEXT);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p, name TEXT REFERENCES p (name), v TEXT)`,
        { config: { tables: { p: { identity: 'name' }, c: { ownership } } } },
      ) as [Replica, Replica, Replica];
      const [a, b, c] = replicas;
      a.write("INSERT INTO p VALUES (7, 'x', 'first')");
      converge(replicas);
      b.write("BEGIN; UPDATE p SET name = 'y'; INSERT INTO p VALUES (70, 'x', 'second'); COMMIT");
      c.write("INSERT INTO c SELECT 1, id, name, 'of C' FROM p");
      b.pull(c);
      a.pull(b);
      converge(replicas);
      await expectShown(replicas, 'SELECT c.v, p.v, n.v FROM c JOIN p ON p.id = c.p JOIN p n ON n.name = c.name', [
        ['of C', 'first', 'second'],
      ]);
    },
  );
});

it.each(['shared', 'device'])(
  '[N1] what has the old name in its own belongs to whoever has that by now, with what refers to it: %s rows',
  async (ownership) => {
    const replicas = fleetOf(
      4,
      `CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT);
       CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, tag INTEGER REFERENCES tag ON DELETE SET NULL);
       CREATE TABLE c (p INTEGER NOT NULL REFERENCES p ON DELETE CASCADE, v TEXT NOT NULL, PRIMARY KEY (p, v));
       CREATE TABLE d (id INTEGER PRIMARY KEY, p INTEGER, v TEXT, w TEXT, FOREIGN KEY (p, v) REFERENCES c ON DELETE SET NULL)`,
      { config: { tables: { p: { identity: 'name' }, c: { ownership }, d: { ownership } } } },
    ) as [Replica, Replica, Replica, Replica];
    const [a, b, c, d] = replicas;
    a.write("INSERT INTO tag VALUES (1, 't'); INSERT INTO p VALUES (7, 'x', NULL)");
    converge(replicas);
    for (const replica of [a, c, d]) {
      replica.write("INSERT INTO c SELECT id, 'of ' || ? FROM p", replica.device);
      replica.write('INSERT INTO d SELECT 1, p, v, v FROM c');
      replica.stamp();
    }
    a.pull(c);
    giveName(b, a);
    a.pull(d);
    converge(replicas);
    await expectShown(
      replicas,
      'SELECT w, p.name FROM d JOIN c USING (p, v) JOIN p ON p.id = c.p ORDER BY w',
      ['of A', 'of C', 'of D'].map((w) => [w, 'x']),
    );
  },
);

describe('[N1] a row that was made apart, where another one has its name since the one that counts got another', () => {
  it.each(['shared', 'device'].flatMap((ownership) => [1, 1000].map((rows) => [ownership, rows] as const)))(
    'is referred to under the new name also when it comes with what refers to it: %s rows, %i a page',
    async (ownership, rows) => {
      const replicas = fleetOf(
        3,
        `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
         CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE SET NULL, v TEXT)`,
        { config: { tables: { p: { identity: 'name' }, c: { ownership } } } },
      ) as [Replica, Replica, Replica];
      const [, b, c] = replicas;
      b.write("INSERT INTO p VALUES (1, 'x'); INSERT INTO c VALUES (1, 1, 'of B')");
      b.stamp();
      for (const sql of ["INSERT INTO p VALUES (5, 'x')", "UPDATE p SET name = 'y'", "INSERT INTO p VALUES (6, 'x')"]) {
        c.write(sql);
        c.stamp();
      }
      c.pull(b, rows);
      converge(replicas);
      await expectShown(replicas, SHOWN, [['of B', 'y']]);
    },
  );
});

describe('[N1] a row that was made apart since another one has left its name is not what older references mean', () => {
  const replicasApart = (ownership: string, clause = 'NO ACTION'): [Replica, Replica, Replica, Replica, Replica] => {
    const replicas = fleetOf(
      5,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE ${clause}, v TEXT)`,
      { config: { tables: { p: { identity: 'name' }, c: { ownership } } } },
    ) as [Replica, Replica, Replica, Replica, Replica];
    const [a, b, c, d] = replicas;
    b.write("INSERT INTO p VALUES (7, 'x')");
    b.stamp();
    for (const replica of [a, c]) replica.pull(b);
    c.write("INSERT INTO c SELECT 1, id, 'of C' FROM p");
    c.stamp();
    b.write("UPDATE p SET name = 'y'");
    b.stamp();
    d.write("INSERT INTO p VALUES (9, 'x')");
    d.stamp();
    c.pull(d);
    return replicas;
  };

  it.each(['shared', 'device'])('where it is heard of after that row: %s rows', async (ownership) => {
    const replicas = replicasApart(ownership);
    const [, b, c] = replicas;
    c.pull(b);
    expect(c.rows(SHOWN)).toEqual([['of C', 'y']]);
    converge(replicas);
    await expectShown(replicas, SHOWN, [['of C', 'y']]);
  });

  it.each(['shared', 'device'])('where they come from one who has not heard of it: %s rows', async (ownership) => {
    const replicas = replicasApart(ownership);
    const [, b, c, d, e] = replicas;
    for (const other of [b, d, c]) e.pull(other);
    expect(e.rows(SHOWN)).toEqual([['of C', 'y']]);
    converge(replicas);
    await expectShown(replicas, SHOWN, [['of C', 'y']]);
  });

  it.each(
    ['shared', 'device'].flatMap((ownership) =>
      ['NO ACTION', 'SET NULL', 'CASCADE'].map((clause) => [ownership, clause] as const),
    ),
  )('unless that one has been deleted: %s rows, ON DELETE %s', async (ownership, clause) => {
    const replicas = replicasApart(ownership, clause);
    const [, b, c, d, e] = replicas;
    b.write('DELETE FROM p');
    for (const other of [b, d, c]) e.pull(other);
    expect(e.waiting()).toEqual([]);
    converge(replicas);
    await expectShown(replicas, SHOWN, [['of C', 'x']]);
  });
});

it.each(['shared', 'device'])(
  '[N1] a row whose delete waits for what refers to it means the row that has another name now, should it stay: %s rows refer to it',
  async (ownership) => {
    const replicas = fleetOf(
      4,
      `CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT);
       CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, tag INTEGER REFERENCES tag ON DELETE SET NULL);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p, v TEXT);
       CREATE TABLE g (id INTEGER PRIMARY KEY, c INTEGER NOT NULL REFERENCES c)`,
      { config: { tables: { p: { identity: 'name' }, g: { ownership } } } },
    ) as [Replica, Replica, Replica, Replica];
    const [a, b, c, d] = replicas;
    a.write(
      "INSERT INTO tag VALUES (1, 't'); INSERT INTO p VALUES (7, 'x', NULL); INSERT INTO c VALUES (1, 7, 'of A')",
    );
    converge(replicas);
    d.write('INSERT INTO g SELECT 1, id FROM c');
    a.pull(d);
    c.write('DELETE FROM c');
    hearFrom(c, a);
    expect(a.waiting()).toEqual(['referrers']);
    giveName(b, a);
    converge(replicas);
    await expectShown(replicas, SHOWN, [['of A', 'y']]);
  },
);

/** Of a row `x` that B calls `y` the new name has to wait at A, for a tag that was deleted there, and another row has the old one. */
function giveName(b: Replica, a: Replica): void {
  b.write("BEGIN; UPDATE p SET name = 'y', tag = (SELECT id FROM tag); INSERT INTO p VALUES (70, 'x', NULL); COMMIT");
  a.write('DELETE FROM tag');
  hearFrom(b, a);
  expect(a.waiting()).toContain('dead-target');
}

it.each([1, 1000])(
  '[N1] though a row refers to both, to one by its id and to the other by its name: %s rows a page',
  async (rows) => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
     CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p, name TEXT REFERENCES p (name), v TEXT)`,
      { config: { tables: { p: { identity: 'name' } } } },
    ) as [Replica, Replica, Replica];
    const [a, b, c] = replicas;
    a.write("INSERT INTO p VALUES (7, 'x')");
    converge(replicas);
    c.write("INSERT INTO c SELECT 1, id, 'x', 'by both' FROM p; INSERT INTO c SELECT 2, id, NULL, 'by its id' FROM p");
    c.stamp();
    b.write("BEGIN; UPDATE p SET name = 'y'; INSERT INTO p VALUES (70, 'x'); COMMIT");
    a.pull(b, rows);
    a.pull(c, rows);
    converge(replicas, rows);
    await expectShown(replicas, 'SELECT v, c.name, p.name FROM c JOIN p ON p.id = c.p ORDER BY v', [
      ['by both', 'x', 'y'],
      ['by its id', null, 'y'],
    ]);
  },
);

const PLACES = `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
  CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p, v TEXT, place INTEGER UNIQUE)`;

/** A row of A and an older one of B refer to one row and want one place, so that of A has to wait; B gives what they refer to another name. */
function loseThePlace(replicas: readonly [Replica, Replica, Replica]): void {
  const [a, b] = replicas;
  b.write("INSERT INTO p VALUES (7, 'x')");
  converge(replicas);
  b.write("INSERT INTO c VALUES (1, 7, 'of B', 1)");
  b.stamp();
  a.write("INSERT INTO c SELECT 1, id, 'of A', 1 FROM p");
  a.stamp();
  b.write("BEGIN; UPDATE p SET name = 'y'; INSERT INTO p VALUES (70, 'x'); COMMIT");
}

it.each(['shared', 'device'])(
  '[N1] what waits for another reason refers to the row that has another name now, wherever it was when it heard of that: %s rows',
  async (ownership) => {
    const replicas = fleetOf(3, PLACES, { config: { tables: { p: { identity: 'name' }, c: { ownership } } } }) as [
      Replica,
      Replica,
      Replica,
    ];
    const [a, b, c] = replicas;
    loseThePlace(replicas);
    // It stands at A when the names arrive; it comes to C after them, and has to wait at once.
    for (const other of [b, a]) c.pull(other);
    a.pull(b);
    converge(replicas);
    await expectEqual(...replicas);
    for (const replica of replicas) expect(replica.rows(SHOWN)).toEqual([['of B', 'y']]);
    b.write('DELETE FROM c');
    converge(replicas);
    await expectShown(replicas, SHOWN, [['of A', 'y']]);
  },
);

it.each(['shared', 'device'])(
  '[F1] the way to the new name is not forgotten while a row waits for something else that refers to the old one: %s rows',
  async (ownership) => {
    const replicas = fleetOf(3, PLACES, {
      config: { tables: { p: { identity: 'name' }, c: { ownership } } },
      libraryId: FOUNDED_ID,
    }) as [Replica, Replica, Replica];
    const [a, b, c] = replicas;
    a.found();
    for (const replica of [b, c]) a.admit(replica);
    loseThePlace(replicas);
    for (const other of [b, a]) c.pull(other);
    for (let i = 0; i < 2; i += 1) converge(replicas);
    for (const replica of replicas) replica.prune();
    await expectEqual(...replicas);
    b.write('DELETE FROM c');
    for (let i = 0; i < 2; i += 1) converge(replicas);
    await expectShown(replicas, SHOWN, [['of A', 'y']]);
    for (const replica of replicas) replica.prune();
    expect(c.rows('SELECT * FROM flotilla_tombstones WHERE alias IS NOT NULL')).toEqual([]);
  },
);
