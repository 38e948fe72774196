/**
 * One row that was given two names apart, where its name is its identity. Group N of docs/spec.md.
 */
import { expect, it } from 'vitest';

import { expectEqual, fleetOf } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';

it.each([
  ['keep-first', 'BLOB'],
  ['rename', 'TEXT'],
])('[N3] to two names apart, with a value that is unique (%s)', async (_, type) => {
  const replicas = fleetOf(
    4,
    `CREATE TABLE p (name TEXT NOT NULL PRIMARY KEY, code ${type} UNIQUE, note TEXT);
     CREATE TABLE c (id INTEGER PRIMARY KEY, p TEXT REFERENCES p ON UPDATE CASCADE, v TEXT)`,
  ) as [Replica, Replica, Replica, Replica];
  const [a, b, c, d] = replicas;
  a.write("INSERT INTO p VALUES ('x', x'01', 'n'); INSERT INTO c VALUES (1, 'x', 'v')");
  converge([a, b, c]);
  a.write("UPDATE p SET name = 'y', note = 'of a'");
  a.stamp();
  b.write("UPDATE p SET name = 'z'");
  b.stamp();
  c.write("INSERT INTO c VALUES (2, 'x', 'w')");
  for (const order of [replicas, [b, a, d, c]]) converge(order);
  for (const replica of replicas) {
    expect(replica.waiting()).toEqual([]);
    expect(replica.rows('SELECT name, hex(code), note FROM p')).toEqual([['z', '01', 'n']]);
    expect(replica.rows('SELECT v, p FROM c ORDER BY v')).toEqual([
      ['v', 'z'],
      ['w', 'z'],
    ]);
  }
  const rules = replicas.flatMap((replica) => replica.rows('SELECT DISTINCT rule FROM flotilla_conflicts').flat());
  expect(rules).toContain('named-apart');
  await expectEqual(...replicas);
});

it.each([true, false])(
  '[N3] to two names apart by what it refers to, and a unique index has room for both: %s',
  async (hasRoom) => {
    const replicas = fleetOf(
      4,
      `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
       CREATE TABLE c (one INTEGER NOT NULL REFERENCES p, other INTEGER NOT NULL REFERENCES p, note TEXT,
         code BLOB NOT NULL${hasRoom ? '' : ' UNIQUE'}, PRIMARY KEY (one, other));
       CREATE TABLE d (id INTEGER PRIMARY KEY, v TEXT, one INTEGER, other INTEGER, FOREIGN KEY (one, other) REFERENCES c ON UPDATE CASCADE)`,
    ) as [Replica, Replica, Replica, Replica];
    const [a, b, c, d] = replicas;
    a.write("INSERT INTO p VALUES (1, 'x'), (2, 'y'), (3, 'z'); INSERT INTO c VALUES (1, 1, 'n', x'01')");
    a.write("INSERT INTO d VALUES (1, 'v', 1, 1)");
    converge([a, b, c]);
    const [y, z] = ['y', 'z'].map((name) => `(SELECT id FROM p WHERE name = '${name}')`);
    a.write(`UPDATE c SET other = ${y}, note = 'of a'`);
    a.stamp();
    b.write(`UPDATE c SET one = ${z}`);
    b.stamp();
    c.write("INSERT INTO d SELECT 2, 'w', one, other FROM c");
    for (const order of [replicas, [b, a, d, c]]) converge(order);
    for (const replica of replicas) {
      expect(replica.waiting()).toEqual([]);
      const shown =
        'SELECT one.name, other.name, note FROM c JOIN p one ON one.id = one JOIN p other ON other.id = other';
      expect(replica.rows(`${shown} ORDER BY 1`)).toEqual([...(hasRoom ? [['x', 'y', 'of a']] : []), ['z', 'x', 'n']]);
      expect(replica.rows('SELECT v, p.name FROM d JOIN p ON p.id = d.one ORDER BY v')).toEqual([
        ['v', 'z'],
        ['w', 'z'],
      ]);
    }
    const rules = replicas.flatMap((replica) => replica.rows('SELECT DISTINCT rule FROM flotilla_conflicts').flat());
    expect(rules.includes('named-apart')).toBe(!hasRoom);
    await expectEqual(...replicas);
  },
);

it('[N3] to two names apart, as what is in its name is, with a value that is unique', async () => {
  const replicas = fleetOf(
    4,
    `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
     CREATE TABLE c (p INTEGER NOT NULL REFERENCES p, no INTEGER NOT NULL, code BLOB NOT NULL UNIQUE, note TEXT, PRIMARY KEY (p, no))`,
    { config: { tables: { p: { identity: 'name' } } } },
  ) as [Replica, Replica, Replica, Replica];
  const [a, b] = replicas;
  a.write("INSERT INTO p VALUES (1, 'x'); INSERT INTO c VALUES (1, 1, x'01', 'n')");
  converge(replicas);
  for (const [replica, name] of [
    [a, 'y'],
    [b, 'z'],
  ] as const) {
    replica.write('UPDATE p SET name = ?', name);
    replica.stamp();
  }
  converge(replicas);
  for (const replica of replicas) {
    expect(replica.waiting()).toEqual([]);
    expect(replica.rows('SELECT name, no, note FROM c JOIN p ON p.id = p')).toEqual([['z', 1, 'n']]);
  }
  await expectEqual(...replicas);
});

it('[N3] to two names apart, of which the one that was given first became a row last', async () => {
  const ddl = 'CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)';
  const config = { tables: { p: { identity: 'name' } } };
  let time = Date.UTC(2026, 0, 1);
  const on = (device: string): Replica => new Replica({ device, ddl, config, now: () => time });
  const [a, b, c] = [on('A'), on('B'), on('C')];
  a.write("INSERT INTO p VALUES (1, 'x')");
  converge([a, b, c]);
  time += 1000;
  // So many stamps take more than a millisecond: the name is given before B's, and the row is born after it.
  b.write(`BEGIN; WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
    INSERT INTO p (name) SELECT 'n' || i FROM n; UPDATE p SET name = 'of B' WHERE name = 'x'; COMMIT`);
  b.stamp();
  time += 1;
  c.write("UPDATE p SET name = 'of C'");
  c.stamp();
  time += 1000;
  converge([a, b, c]);
  for (const replica of [a, b, c])
    expect(replica.rows("SELECT name FROM p WHERE name LIKE 'of %'")).toEqual([['of B']]);
  await expectEqual(a, b, c);
});
