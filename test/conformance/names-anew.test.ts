/**
 * Names that were left and taken again, where a row's name is its identity. Group N of docs/spec.md.
 */
import { expect, it } from 'vitest';

import { expectShown, fleetOf } from '../support/engine.ts';
import type { Replica } from '../support/replica.ts';
import { converge } from '../support/replica.ts';

it('[N1] a row that was made anew goes with a record when it is found out later which name the one before has', async () => {
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
  c.write('DELETE FROM p');
  c.stamp();
  b.write("INSERT INTO p VALUES (8, 'x', 'anew'); INSERT INTO c VALUES (2, 8, 'to the new one')");
  b.stamp();
  // D has not heard of the new row: what was deleted has another name, it says.
  d.pull(c);
  converge(replicas);
  await expectShown(replicas, 'SELECT name, note, v FROM p LEFT JOIN c ON c.p = p.id ORDER BY v', [
    ['y', 'first', 'to the first'],
    ['y', 'first', 'to the new one'],
  ]);
  expect(b.rows('SELECT rule FROM flotilla_conflicts')).toEqual([['deleted']]);
});
