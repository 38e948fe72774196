/** What a writer without foreign keys has left: it stays behind, and holds up nothing from elsewhere. */
import { describe, expect, it } from 'vitest';

import { expectEqual, fleetOf, pairOf } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';

describe('[A10] a row of which one reference leads nowhere', () => {
  it.each(['', 'DEFERRABLE INITIALLY DEFERRED'])(
    'takes what others write to its other references %s',
    async (clause) => {
      const [a, b] = pairOf(`CREATE TABLE page (
      id INTEGER PRIMARY KEY,
      title TEXT,
      up INTEGER REFERENCES page (id) ${clause},
      next INTEGER REFERENCES page (id) ${clause}
    )`);
      a.write("INSERT INTO page (id, title) VALUES (1, 'one'), (2, 'two')");
      converge([a, b]);
      a.write('PRAGMA foreign_keys = OFF; UPDATE page SET up = 99 WHERE id = 1; PRAGMA foreign_keys = ON');
      b.write('UPDATE page SET next = 2 WHERE id = 1');
      converge([a, b]);
      expect(a.rows('SELECT up, next FROM page WHERE id = 1')).toEqual([[99, 2]]);
      a.write('UPDATE page SET up = NULL WHERE id = 1');
      converge([a, b]);
      expect(b.rows('SELECT up, next FROM page WHERE id = 1')).toEqual([[null, 2]]);
      await expectEqual(a, b);
    },
  );
});

describe('[A10] a row that has the id of another one as its own', () => {
  it('takes along what refers to it, on whatever terms, when it goes to where the other one is', async () => {
    const [a, b] = pairOf(
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE photo (p INTEGER PRIMARY KEY REFERENCES p, note TEXT);
      CREATE TABLE print (photo INTEGER PRIMARY KEY REFERENCES photo, note TEXT);
      CREATE TABLE tag (id INTEGER PRIMARY KEY, photo INTEGER REFERENCES print ON UPDATE RESTRICT, name TEXT);
      CREATE TABLE seen (photo INTEGER REFERENCES photo, at TEXT)`,
      { config: { tables: { seen: { sync: false } } } },
    );
    a.write(
      "INSERT INTO p VALUES (1, 'x'); INSERT INTO photo VALUES (1, 'old'); INSERT INTO print VALUES (1, 'p'); INSERT INTO tag VALUES (1, 1, 't')",
    );
    converge([a, b]);
    a.write(
      "PRAGMA foreign_keys = OFF; UPDATE p SET id = 40; PRAGMA foreign_keys = ON; INSERT INTO seen VALUES (1, 'now')",
    );
    b.write("BEGIN; PRAGMA defer_foreign_keys = ON; REPLACE INTO photo VALUES (1, 'new'); COMMIT");
    converge([a, b]);
    a.write("UPDATE photo SET note = note || '!'");
    converge([a, b]);
    expect(
      a.rows(
        'SELECT photo.p, photo.note, print.note, name FROM photo JOIN print ON print.photo = photo.p JOIN tag ON tag.photo = print.photo',
      ),
    ).toEqual([[40, 'new!', 'p', 't']]);
    expect(a.violations()).toEqual([]);
    await expectEqual(a, b);
  });
});

describe('[A10] a row that refers to another one of its table by its name', () => {
  it('arrives once somebody else has made that', async () => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE flag (id INTEGER PRIMARY KEY, code TEXT UNIQUE, up TEXT REFERENCES flag (code), note TEXT);`,
      { config: { tables: { flag: { identity: ['code'] } } } },
    );
    const [a, b, c] = replicas as [Replica, Replica, Replica];
    a.write("PRAGMA foreign_keys = OFF; INSERT INTO flag VALUES (1, 'low', 'high', 'left'); PRAGMA foreign_keys = ON");
    // It believes that it has all that was written there.
    c.pull(a);
    b.write("INSERT INTO flag VALUES (1, 'high', NULL, 'made')");
    converge(replicas);
    for (const replica of replicas)
      expect(replica.rows('SELECT note FROM flag ORDER BY note')).toEqual([['left'], ['made']]);
    await expectEqual(...replicas);
  });
});

describe('[A10] a row that refers to one whose id is that of another', () => {
  it('arrives once somebody else has made that, which gets the same id', async () => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE photo (p INTEGER PRIMARY KEY REFERENCES p, note TEXT);
      CREATE TABLE tag (id INTEGER PRIMARY KEY, photo INTEGER NOT NULL REFERENCES photo ON DELETE CASCADE, name TEXT)`,
    );
    const [a, b, c] = replicas as [Replica, Replica, Replica];
    a.write("INSERT INTO p VALUES (7, 'x')");
    converge(replicas);
    a.write("PRAGMA foreign_keys = OFF; INSERT INTO tag VALUES (1, 7, 'left'); PRAGMA foreign_keys = ON");
    c.pull(a);
    b.write("INSERT INTO photo SELECT id, 'made' FROM p");
    converge(replicas);
    for (const replica of replicas)
      expect(replica.rows('SELECT name, note FROM tag JOIN photo ON photo = p')).toEqual([['left', 'made']]);
    await expectEqual(...replicas);
  });
});

describe('[A10] a row that refers to one whose name has an id of nobody in it', () => {
  it('arrives with what was written to it, once somebody else has let it refer to nothing', async () => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE volume (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE place (volume INTEGER NOT NULL REFERENCES volume, n INTEGER NOT NULL, PRIMARY KEY (volume, n));
      CREATE TABLE page (
        id INTEGER PRIMARY KEY,
        title TEXT,
        volume INTEGER,
        n INTEGER,
        FOREIGN KEY (volume, n) REFERENCES place ON DELETE SET NULL
      )`,
    );
    const [a, b, c] = replicas as [Replica, Replica, Replica];
    a.write(
      "INSERT INTO volume VALUES (1, 'x'); INSERT INTO place VALUES (1, 1); INSERT INTO page VALUES (1, 'old', 1, 1)",
    );
    converge(replicas);
    a.write(
      "PRAGMA foreign_keys = OFF; INSERT INTO place VALUES (99, 1); UPDATE page SET title = 'new', volume = 99; PRAGMA foreign_keys = ON",
    );
    for (const other of [b, c]) other.pull(a);
    b.write('UPDATE page SET volume = NULL, n = NULL');
    converge(replicas);
    for (const replica of replicas)
      expect(replica.rows('SELECT title, volume, n FROM page')).toEqual([['new', null, null]]);
    a.write('DELETE FROM place WHERE volume = 99');
    converge(replicas);
    await expectEqual(...replicas);
  });
});

describe('[A10] a row that several others make whole', () => {
  it('arrives with what was written to it, though what they wrote is later than what takes it there', async () => {
    let time = Date.UTC(2026, 0, 1);
    const ddl = `CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE page (id INTEGER PRIMARY KEY, title TEXT, note TEXT, tag INTEGER REFERENCES tag ON DELETE SET NULL)`;
    const replicas = [0, 0, 60_000].map(
      (skew, i) => new Replica({ device: 'abc'[i] ?? '', ddl, now: () => (time += 1) + skew }),
    );
    const [a, b, c] = replicas as [Replica, Replica, Replica];
    a.write("INSERT INTO tag VALUES (1, 'x'); INSERT INTO page VALUES (1, 'old', 'old', 1)");
    converge(replicas);
    a.write("PRAGMA foreign_keys = OFF; DELETE FROM tag; UPDATE page SET title = 'new'; PRAGMA foreign_keys = ON");
    for (const other of [b, c]) other.pull(a);
    b.write("UPDATE page SET note = 'theirs'");
    for (const other of [b, c]) a.pull(other);
    b.pull(c);
    c.pull(b);
    converge(replicas);
    for (const replica of replicas)
      expect(replica.rows('SELECT title, note, tag FROM page')).toEqual([['new', 'theirs', null]]);
    await expectEqual(...replicas);
  });
});

describe('[W20] a row that another one takes the id of, away from which it was moved', () => {
  it.each(['UPDATE p SET id = 33', 'DELETE FROM p'])(
    'is told apart from that, though both came to be apart (%s)',
    async (leaving) => {
      const [a, b] = pairOf(
        `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE SET NULL, name TEXT)`,
      );
      a.write("INSERT INTO p VALUES (2, 'old'); INSERT INTO c VALUES (1, 2, 'c')");
      converge([a, b]);
      a.write(`PRAGMA foreign_keys = OFF; ${leaving}`);
      a.stamp();
      a.write("INSERT INTO p VALUES (2, 'new'); PRAGMA foreign_keys = ON");
      converge([a, b]);
      for (const replica of [a, b])
        expect(replica.rows('SELECT c.name, p.name FROM c JOIN p ON p.id = c.p')).toEqual([['c', 'new']]);
      await expectEqual(a, b);
    },
  );
});
