/**
 * Ids that are part of a foreign key of several columns, of rows that get another name. Group N of docs/spec.md.
 */
import { expect, it } from 'vitest';

import { expectShown, fleetOf } from '../support/engine.ts';
import type { Replica } from '../support/replica.ts';
import { converge } from '../support/replica.ts';

it.each(
  ['NO ACTION', 'CASCADE', 'SET NULL'].flatMap((clause) =>
    ['shared', 'device'].map((ownership) => [clause, ownership]),
  ),
)(
  '[N1] [N2] a row that waits and refers to itself by an id and a value follows with both: ON DELETE %s, %s rows',
  async (clause, ownership) => {
    const replicas = fleetOf(
      3,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE ${clause}, code TEXT, up_p INTEGER, up_code TEXT, v TEXT,
         UNIQUE (p, code), FOREIGN KEY (up_p, up_code) REFERENCES c (p, code));`,
      { config: { tables: { p: { identity: 'name' }, c: { ownership } } } },
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
    // Rows of another device's are led on by their owner.
    expect(a.waiting().length > 0).toBe(ownership === 'device');
    converge(replicas);
    const shown = `SELECT c.v, p.name, up.name, up_code FROM c JOIN p ON p.id = c.p JOIN p up ON up.id = c.up_p ORDER BY c.v`;
    await expectShown(replicas, shown, [
      ['self', 'y', 'y', 'k'],
      ['to it', 'y', 'y', 'k'],
    ]);
  },
);

const OWNERSHIPS = ['shared', 'device'].flatMap((c) => ['shared', 'device'].map((d) => [c, d] as const));
const ACTIONS = ['NO ACTION', 'CASCADE'].flatMap((action) => OWNERSHIPS.map((both) => [action, ...both] as const));

it.each(ACTIONS)(
  '[N1] [N2] what refers to a row by such an id and a value follows it: ON UPDATE %s, %s rows, referred to by %s rows',
  async (action, ownership, ofReferrers) => {
    // Who pulls first after the change of the name, before which A knew the rows or did not.
    const orders = [
      { isKnown: false, pulls: [[0, 2]] },
      {
        isKnown: false,
        pulls: [
          [2, 0],
          [1, 0],
        ],
      },
      { isKnown: true, pulls: [] },
    ] as const;
    for (const { isKnown, pulls } of orders) {
      const replicas = fleetOf(
        3,
        `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
         CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE CASCADE, code TEXT NOT NULL, UNIQUE (p, code));
         CREATE TABLE d (id INTEGER PRIMARY KEY, p INTEGER, code TEXT, v TEXT,
           FOREIGN KEY (p, code) REFERENCES c (p, code) ON UPDATE ${action} ON DELETE SET NULL);`,
        { config: { tables: { p: { identity: 'name' }, c: { ownership }, d: { ownership: ofReferrers } } } },
      ) as [Replica, Replica, Replica];
      const [a, b, c] = replicas;
      a.write("INSERT INTO p VALUES (7, 'x')");
      converge(replicas);
      b.write("INSERT INTO c SELECT 1, id, 'k' FROM p; INSERT INTO d SELECT 1, id, 'k', 'of B' FROM p");
      c.pull(b);
      c.write("INSERT INTO d SELECT 2, id, 'k', 'of C' FROM p");
      c.stamp();
      if (isKnown) converge(replicas);
      a.write("UPDATE p SET name = 'y'");
      a.stamp();
      for (const [to, from] of pulls) replicas[to].pull(replicas[from]);
      converge(replicas);
      await expectShown(replicas, 'SELECT d.v, p.name, code FROM d LEFT JOIN p ON p.id = d.p ORDER BY d.v', [
        ['of B', 'y', 'k'],
        ['of C', 'y', 'k'],
      ]);
    }
  },
);
