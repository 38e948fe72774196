/**
 * Ids that are part of a foreign key of several columns, of rows that get another name. Group N of docs/spec.md.
 */
import { expect, it } from 'vitest';

import { expectShown, fleetOf } from '../support/engine.ts';
import type { Replica } from '../support/replica.ts';
import { converge } from '../support/replica.ts';

it.each(['NO ACTION', 'CASCADE', 'SET NULL'])(
  '[N1] a row that waits and refers to itself by an id and a value follows with both: ON DELETE %s',
  async (clause) => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE ${clause}, code TEXT, up_p INTEGER, up_code TEXT, v TEXT,
         UNIQUE (p, code), FOREIGN KEY (up_p, up_code) REFERENCES c (p, code));`,
      { config: { tables: { p: { identity: 'name' } } } },
    ) as [Replica, Replica, Replica];
    const [a, b] = replicas;
    a.write("INSERT INTO p VALUES (7, 'x')");
    converge(replicas);
    a.write("UPDATE p SET name = 'y'");
    a.stamp();
    b.write(
      "INSERT INTO c SELECT 1, id, 'k', id, 'k', 'self' FROM p; INSERT INTO c SELECT 2, id, 'l', id, 'k', 'to it' FROM p",
    );
    b.stamp();
    a.pull(b);
    expect(a.waiting()).toEqual([]);
    converge(replicas);
    const shown = `SELECT c.v, p.name, up.name, up_code FROM c JOIN p ON p.id = c.p JOIN p up ON up.id = c.up_p ORDER BY c.v`;
    await expectShown(replicas, shown, [
      ['self', 'y', 'y', 'k'],
      ['to it', 'y', 'y', 'k'],
    ]);
  },
);

it.each(['shared', 'device'])(
  '[N1] [N2] a row that waits for nothing but such an id follows what it refers to: %s rows',
  async (ownership) => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE CASCADE, code TEXT NOT NULL, UNIQUE (p, code));
       CREATE TABLE d (id INTEGER PRIMARY KEY, p INTEGER, code TEXT, v TEXT,
         FOREIGN KEY (p, code) REFERENCES c (p, code) ON UPDATE CASCADE ON DELETE SET NULL);`,
      { config: { tables: { p: { identity: 'name' }, d: { ownership } } } },
    ) as [Replica, Replica, Replica];
    const [a, b, c] = replicas;
    a.write("INSERT INTO p VALUES (7, 'x')");
    converge(replicas);
    b.write("INSERT INTO c SELECT 1, id, 'k' FROM p; INSERT INTO d SELECT 1, id, 'k', 'of B' FROM p");
    c.pull(b);
    c.write("INSERT INTO d SELECT 2, id, 'k', 'of C' FROM p");
    c.stamp();
    a.write("UPDATE p SET name = 'y'");
    a.stamp();
    a.pull(c);
    converge(replicas);
    await expectShown(replicas, 'SELECT d.v, p.name, code FROM d LEFT JOIN p ON p.id = d.p ORDER BY d.v', [
      ['of B', 'y', 'k'],
      ['of C', 'y', 'k'],
    ]);
  },
);
