/** Rows that are named by the one above them, in which a new name is one for all that is below. Group N of docs/spec.md. */
import { describe, expect, it } from 'vitest';

import { expectEqual, fleetOf } from '../support/engine.ts';
import type { Replica } from '../support/replica.ts';
import { converge } from '../support/replica.ts';

describe('rows that are named by the one above them', () => {
  const folders = (): [Replica, Replica, Replica] =>
    fleetOf(
      3,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, up INTEGER NOT NULL REFERENCES p ON DELETE CASCADE, name TEXT NOT NULL, UNIQUE (up, name));
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER NOT NULL REFERENCES p ON DELETE CASCADE, v TEXT)`,
      { config: { tables: { p: { identity: ['up', 'name'] } } } },
    ) as [Replica, Replica, Replica];
  const paths = `WITH RECURSIVE path (id, t) AS (SELECT id, name FROM p WHERE id = up
    UNION ALL SELECT p.id, t || '/' || p.name FROM p JOIN path ON p.up = path.id AND p.id <> p.up)
    SELECT t, (SELECT group_concat(v) FROM c WHERE c.p = path.id) FROM path ORDER BY t`;

  it('[N1] follow it to another place, with what was put into them meanwhile', async () => {
    const [a, b, c] = folders();
    a.write("INSERT INTO p VALUES (1, 1, 'root'), (2, 1, 'x'), (3, 2, 'sub'), (4, 1, 'y')");
    converge([a, b, c]);
    a.write(
      "INSERT INTO c VALUES (1, 3, 'in sub'); INSERT INTO p VALUES (5, 3, 'deep'); INSERT INTO c VALUES (2, 5, 'in deep')",
    );
    a.stamp();
    b.write("UPDATE p SET name = 'z' WHERE name = 'x'");
    b.stamp();
    c.write("UPDATE p SET name = 'SUB', up = (SELECT id FROM p WHERE name = 'y') WHERE name = 'sub'");
    c.stamp();
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(replica.waiting()).toEqual([]);
      expect(replica.rows(paths)).toEqual(a.rows(paths));
      expect(replica.rows('SELECT count(*) FROM c')).toEqual([[2]]);
    }
    await expectEqual(a, b, c);
  });

  it('[N1] do not come to be above themselves when the one above them is moved below', async () => {
    const [a, b, c] = folders();
    a.write("INSERT INTO p VALUES (1, 1, 'root'), (2, 1, 'x'), (3, 1, 'y')");
    converge([a, b, c]);
    a.write("INSERT INTO p VALUES (6, 3, 'in y'); INSERT INTO c VALUES (1, 6, 'v')");
    a.stamp();
    b.pull(a);
    b.write("UPDATE p SET name = 'z', up = (SELECT id FROM p WHERE name = 'in y') WHERE name = 'x'");
    c.write("UPDATE p SET name = 'w' WHERE name = 'y'");
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(replica.waiting()).toEqual([]);
      expect(replica.rows(paths)).toEqual(a.rows(paths));
      expect(replica.rows('SELECT count(*) FROM c')).toEqual([[1]]);
    }
    await expectEqual(a, b, c);
  });

  it('[V7] have their names also where the root comes in the same breath', () => {
    const [a] = folders();
    const names = (): unknown[][] =>
      a.rows("SELECT name, hex(uuid) FROM p JOIN flotilla_rows_1 ON key = id WHERE name <> 'root' ORDER BY name");
    a.write("INSERT INTO p VALUES (1, 1, 'root'), (3, 2, 'sub'), (2, 1, 'x')");
    a.stamp();
    const before = names();
    a.write("DELETE FROM p WHERE name = 'x'; INSERT INTO p VALUES (7, 1, 'x'), (8, 7, 'sub')");
    a.stamp();
    expect(names()).toEqual(before);
  });

  it('[N1] a ring that a program makes of them is stamped, and ends', () => {
    const [a] = folders();
    a.write("INSERT INTO p VALUES (1, 1, 'root'), (2, 1, 'x'), (3, 2, 'y'), (4, 3, 'z')");
    a.stamp();
    a.write('UPDATE p SET up = 4 WHERE id = 2');
    a.stamp();
    expect(a.stamp()).toBe(0);
  });
});
