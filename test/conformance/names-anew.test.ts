/**
 * Names that were left and taken again, where a row's name is its identity. Group N of docs/spec.md.
 */
import { it } from 'vitest';

import { expectShown, fleetOf } from '../support/engine.ts';
import type { Replica } from '../support/replica.ts';
import { converge } from '../support/replica.ts';

it.each([
  ['a delete by somebody who has not heard of that', 'y'],
  ['another name by somebody who has not heard of that', 'z'],
])('[N1] a row that is made anew under a name that another one has left stays: %s', async (_, name) => {
  const replicas = fleetOf(
    4,
    `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, note TEXT);
     CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE CASCADE, v TEXT)`,
    { config: { tables: { p: { identity: 'name' } } } },
  ) as [Replica, Replica, Replica, Replica];
  const [a, b, c, d] = replicas;
  a.write("INSERT INTO p VALUES (7, 'x', 'first')");
  converge(replicas);
  a.write("INSERT INTO c VALUES (1, 7, 'to the first')");
  a.stamp();
  b.write("UPDATE p SET name = 'y'");
  b.stamp();
  d.pull(b);
  if (name === 'y') c.write('DELETE FROM p');
  c.stamp();
  b.write("INSERT INTO p VALUES (8, 'x', 'anew'); INSERT INTO c VALUES (2, 8, 'to the new one')");
  b.stamp();
  if (name === 'z') c.write("UPDATE p SET name = 'z'");
  c.stamp();
  // Here it is found out that what was deleted has another name, and that is said by a later stamp.
  d.pull(c);
  converge(replicas);
  await expectShown(replicas, 'SELECT name, note, v FROM p LEFT JOIN c ON c.p = p.id ORDER BY name', [
    ['x', 'anew', 'to the new one'],
    [name, 'first', 'to the first'],
  ]);
});
