/** What has come of a pass that broke off, when another peer takes over: by the rows that cross. */
import { describe, expect, it } from 'vitest';

import { takeOver } from '../../src/db/newcomer.ts';
import { expectEqual, fleetOf, rowsIn } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';

const FILES = `
CREATE TABLE folders (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, name TEXT);
CREATE TABLE files (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, name TEXT, size INTEGER);`;

const MANY = `
INSERT INTO folders (id, parent_id, name) VALUES (1, NULL, 'top'), (2, 1, 'middle'), (3, 2, 'low');
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO files SELECT i, 1 + i % 3, 'f' || i, i FROM n`;

/** A and B have the same, C has nothing. */
function behind(ddl = FILES, sql = MANY): [Replica, Replica, Replica] {
  const [a, b, c] = fleetOf(3, ddl) as [Replica, Replica, Replica];
  a.write(sql);
  // Other rows later, so that the feed of B has another order than that of A.
  b.write("INSERT INTO folders (id, name) VALUES (77, 'of B')");
  b.pull(a, 37);
  a.pull(b);
  a.write('UPDATE files SET size = -1 WHERE id % 10 = 0; DELETE FROM files WHERE id % 10 = 1');
  converge([a, b]);
  return [a, b, c];
}

/** Takes some pages of a pass, which breaks off then. Returns how many rows came. */
function takeSome(to: Replica, from: Replica, pages: number, rows = 20): number {
  const pass = to.passFrom(from);
  let taken = 0;
  for (let i = 0; i < pages; i += 1) {
    const page = pass.next(rows) as Uint8Array;
    taken += rowsIn(page);
    to.apply(from.device, page);
  }
  pass.close();
  return taken;
}

/** Takes all; returns how many rows crossed. */
function takeAll(to: Replica, from: Replica): number {
  return to.pull(from, 50).reduce((sum, { rows }) => sum + rows, 0);
}

/** A column goes without a trace, and comes back. */
function loseSizes(replica: Replica): void {
  replica.db.pragma('foreign_keys = OFF');
  replica.write(`BEGIN;
    CREATE TABLE other (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, name TEXT);
    INSERT INTO other SELECT id, folder_id, name FROM files;
    DROP TABLE files;
    ALTER TABLE other RENAME TO files;
    COMMIT`);
  replica.db.pragma('foreign_keys = ON');
  replica.stamp();
  replica.write('ALTER TABLE files ADD COLUMN size INTEGER');
  replica.stamp();
}

describe('[A16] whoever takes over', () => {
  it('sends no row that has come from the one before', async () => {
    const [a, b, c] = behind();
    const taken = takeSome(c, a, 10);
    expect(taken).toBeGreaterThan(150);
    const left = takeAll(c, b);
    expect(taken + left).toBe(takeAll(fleetOf(1, FILES)[0] as Replica, a));
    await expectEqual(b, c);
    expect(takeAll(c, a)).toBe(0);
  });

  it('nor do the third and the first again, in whatever order they come', async () => {
    const [a, b, c] = behind();
    const all = takeAll(fleetOf(1, FILES)[0] as Replica, a);
    let taken = 0;
    for (const from of [a, b, a, b]) taken += takeSome(c, from, 2);
    expect(taken + takeAll(c, b)).toBe(all);
    await expectEqual(b, c);
  });

  it('sends what has changed since, and what only it has', async () => {
    const [a, b, c] = behind();
    takeSome(c, a, 10);
    b.write("UPDATE files SET name = 'new' WHERE id % 50 = 2; DELETE FROM folders WHERE id = 3");
    c.write("UPDATE files SET size = 7 WHERE name = 'f12'");
    takeAll(c, b);
    converge([a, b, c]);
    await expectEqual(a, b, c);
    expect(c.rows("SELECT count(*) FROM files WHERE name = 'new'")[0]?.[0]).toBeGreaterThan(0);
  });

  it('sends an older version of a row of which a part has come: a stamp says nothing of those before it', async () => {
    const [a, b, c] = fleetOf(3, FILES) as [Replica, Replica, Replica];
    a.write("INSERT INTO files (id, name, size) VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3)");
    b.pull(a);
    // Of what A writes now B has nothing, and C the end.
    a.write("UPDATE files SET name = 'due' WHERE id = 2");
    a.write("INSERT INTO files (id, name, size) VALUES (4, 'four', 4)");
    const pass = c.passFrom(a);
    const rows = [pass.next(1), pass.next(1)];
    pass.close();
    for (const page of rows) if (page !== null) c.apply('A', page);
    takeAll(c, b);
    expect(c.rows('SELECT name FROM files ORDER BY name')).toEqual(b.rows('SELECT name FROM files ORDER BY name'));
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });

  it('spares versions that wait as well', async () => {
    const [a, b, c] = fleetOf(3, FILES) as [Replica, Replica, Replica];
    a.write('CREATE TABLE later (id INTEGER PRIMARY KEY, name TEXT)');
    a.write(
      "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) INSERT INTO later SELECT i, 'l' || i FROM n",
    );
    a.write(MANY);
    b.pull(a);
    a.write('DELETE FROM files WHERE id % 2 = 1');
    converge([a, b]);
    b.write("INSERT INTO files (name) VALUES ('of B')");
    const all = takeAll(fleetOf(1, FILES)[0] as Replica, b);
    const taken = takeSome(c, a, 12);
    expect(c.waiting().length).toBeGreaterThan(0);
    expect(taken + takeAll(c, b)).toBe(all);
    await expectEqual(b, c);
  });

  it('sends deletes again, as their stamps may be those of other rows', async () => {
    const [a, b, c] = fleetOf(3, FILES) as [Replica, Replica, Replica];
    a.write(MANY);
    converge([a, b, c]);
    a.write("DELETE FROM files WHERE id <= 30; INSERT INTO files (name) VALUES ('last')");
    b.pull(a);
    expect(takeSome(c, a, 2, 10)).toBe(20);
    expect(takeAll(c, b)).toBe(31);
    await expectEqual(a, b, c);
  });

  it('names to a newcomer what has come, and sends the rest', async () => {
    const [a, b] = behind();
    const n = new Replica({ device: 'N', ddl: FILES, newcomer: true });
    const all = takeAll(fleetOf(1, FILES)[0] as Replica, a);
    const taken = takeSome(n, a, 10);
    n.library.transact(() => takeOver(n.library, 'B'));
    expect(taken + takeAll(n, b)).toBe(all);
    await expectEqual(b, n);
    expect(takeAll(n, a)).toBe(0);
  });

  it('is not told of rows whose column was lost by their old stamps', async () => {
    const [a, b, c] = behind();
    converge([a, b, c]);
    loseSizes(c);
    expect(takeSome(c, a, 3)).toBe(60);
    c.write("UPDATE files SET name = name || '!' WHERE id % 2 = 0");
    c.stamp();
    takeAll(c, b);
    converge([a, b, c]);
    await expectEqual(a, b, c);
    expect(c.rows('SELECT count(*) FROM files WHERE size IS NULL')[0]?.[0]).toBe(0);
  });

  it('nor when a pass of somebody is complete who does not know of them, and they were written to here since', async () => {
    const [a, b, c, d] = fleetOf(4, FILES) as [Replica, Replica, Replica, Replica];
    a.write(MANY);
    converge([a, b, c, d]);
    a.write("INSERT INTO files (name, size) VALUES ('new', -1)");
    converge([a, b, c]);
    loseSizes(c);
    takeSome(c, b, 3);
    takeAll(c, d);
    c.write("UPDATE files SET name = 'newer' WHERE name = 'new'");
    c.stamp();
    takeAll(c, a);
    converge([a, b, c, d]);
    await expectEqual(a, b, c, d);
    expect(c.rows("SELECT size FROM files WHERE name = 'newer'")).toEqual([[-1]]);
  });
});
