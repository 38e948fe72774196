/** Shared rows are merged column by column, and what is discarded unseen is recorded. Rule ids are those of docs/spec.md. */
import { describe, expect, it } from 'vitest';

import { expectEqual, fleetOf, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const DDL = `CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, phone TEXT, boss_id INTEGER REFERENCES people (id) ON DELETE SET NULL);`;

function conflicts(replica: Replica): unknown[][] {
  return replica.rows('SELECT col, rule, lost, kept FROM flotilla_conflicts ORDER BY id');
}

function pairWithAnn(): [Replica, Replica] {
  const [a, b] = pairOf(DDL);
  a.write("INSERT INTO people (name, phone) VALUES ('Ann', '1')");
  converge([a, b]);
  return [a, b];
}

describe('columns', () => {
  it('[C1] concurrent writes of different columns both survive', async () => {
    const [a, b] = pairWithAnn();
    a.write("UPDATE people SET name = 'Anna'");
    b.write("UPDATE people SET phone = '2'");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT name, phone FROM people')).toEqual([['Anna', '2']]);
    expect([...conflicts(a), ...conflicts(b)]).toEqual([]);
    await expectEqual(a, b);
  });

  it('[C1] of concurrent writes of one column the later wins everywhere', async () => {
    const [a, b] = pairWithAnn();
    a.write("UPDATE people SET name = 'first', phone = 'a'");
    a.stamp();
    b.write("UPDATE people SET name = 'second'");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT name, phone FROM people')).toEqual([['second', 'a']]);
    await expectEqual(a, b);
  });

  it('[C2] a write stamps the columns that it changes and no others', () => {
    const [a] = pairWithAnn();
    a.write("UPDATE people SET name = name, phone = '9'");
    a.stamp();
    const [[cells]] = a.rows('SELECT cells FROM flotilla_rows_1') as [[string]];
    expect(JSON.parse(cells)).toEqual([[2, expect.any(Number), expect.any(Number)]]);
  });

  it('[C1] a reference that a delete cleared stays cleared when another column arrives late', async () => {
    const [a, b] = pairOf(DDL);
    a.write("INSERT INTO people VALUES (1, 'Ann', '1', NULL), (2, 'Bob', '2', 1)");
    converge([a, b]);
    a.write('DELETE FROM people WHERE id = 1');
    b.write("UPDATE people SET phone = '3' WHERE name = 'Bob'");
    converge([a, b]);
    for (const replica of [a, b])
      expect(replica.rows('SELECT name, phone, boss_id FROM people')).toEqual([['Bob', '3', null]]);
    await expectEqual(a, b);
  });

  it('[C3] a row that was made anew wins whole', async () => {
    const [a, b] = pairOf('CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT, size INTEGER)');
    a.write("INSERT INTO tags VALUES ('red', 'a', 1)");
    converge([a, b]);
    b.write("UPDATE tags SET size = 2 WHERE name = 'red'");
    b.stamp();
    a.write("DELETE FROM tags; INSERT INTO tags VALUES ('red', 'c', 3)");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT * FROM tags')).toEqual([['red', 'c', 3]]);
    await expectEqual(a, b);
  });

  it('[C5] what arrives for a row that waits, and what is written here, goes into what waits', async () => {
    const config = { tables: { people: { unique: { name: 'keep-first' } } } };
    const ddl = `${DDL} CREATE UNIQUE INDEX people_name ON people (name)`;
    const [a, b, c] = fleetOf(3, ddl, { config }) as [Replica, Replica, Replica];
    c.write("INSERT INTO people (name) VALUES ('taken')");
    c.stamp();
    a.write("INSERT INTO people (name, phone) VALUES ('Ann', '1')");
    b.pull(a);
    c.pull(a);
    a.write("UPDATE people SET name = 'taken'");
    b.write("UPDATE people SET phone = '5'");
    c.pull(a);
    expect(c.waiting()).toEqual(['unique']);
    c.pull(b);
    c.write("UPDATE people SET boss_id = id WHERE name = 'Ann'");
    c.write("UPDATE people SET name = 'free' WHERE name = 'taken'");
    converge([c, a, b]);
    for (const replica of [a, b, c]) {
      expect(replica.waiting()).toEqual([]);
      expect(replica.rows("SELECT phone, boss_id = id FROM people WHERE name = 'taken'")).toEqual([['5', 1]]);
    }
    await expectEqual(a, b, c);
  });
});

describe('records of what was discarded', () => {
  it('[R1] an overwritten value is recorded where it stood, when whoever wrote over it did not know of it', () => {
    const [a, b] = pairWithAnn();
    a.write("UPDATE people SET name = 'first'");
    a.stamp();
    b.write("UPDATE people SET name = 'second'");
    converge([a, b]);
    expect(conflicts(a)).toEqual([['name', 'later-write', 'first', 'second']]);
    expect(conflicts(b)).toEqual([]);
  });

  it('[R1] also when the writer has written again since', () => {
    const [a, b] = pairWithAnn();
    a.write("UPDATE people SET name = 'first'");
    a.stamp();
    b.write("UPDATE people SET name = 'second'");
    b.stamp();
    b.write("UPDATE people SET name = 'third'");
    b.restart();
    b.write("UPDATE people SET name = 'fourth'");
    converge([a, b]);
    expect(conflicts(a)).toEqual([['name', 'later-write', 'first', 'fourth']]);
  });

  it('[R2] nothing is recorded when the writer had seen what it wrote over, also through a third device', () => {
    const [a, b, c] = fleetOf(3, DDL) as [Replica, Replica, Replica];
    a.write("INSERT INTO people (name, phone) VALUES ('Ann', '1')");
    converge([a, b, c]);
    a.write("UPDATE people SET name = 'by A'");
    converge([a, b]);
    b.write("UPDATE people SET name = 'by B'");
    converge([b, c]);
    c.write("UPDATE people SET name = 'by C'");
    converge([c, a]);
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(replica.rows('SELECT name FROM people')).toEqual([['by C']]);
      expect(conflicts(replica)).toEqual([]);
    }
  });

  it('[R2] nothing is recorded when both wrote the same', () => {
    const [a, b] = pairWithAnn();
    for (const replica of [a, b]) replica.write("UPDATE people SET name = 'same'");
    converge([a, b]);
    expect([...conflicts(a), ...conflicts(b)]).toEqual([]);
  });

  it('[R3] a row that was deleted by somebody who did not know of its last change is recorded whole', async () => {
    const [a, b] = pairWithAnn();
    a.write("UPDATE people SET phone = 'new'");
    a.stamp();
    b.write('DELETE FROM people');
    converge([a, b]);
    expect(a.rows('SELECT col, rule, typeof(lost), kept FROM flotilla_conflicts')).toEqual([
      [null, 'deleted', 'blob', null],
    ]);
    await expectEqual(a, b);
  });

  it('[R3] a delete by somebody who knew of the last change leaves no record', () => {
    const [a, b] = pairWithAnn();
    a.write("UPDATE people SET phone = 'new'");
    converge([a, b]);
    b.write('DELETE FROM people');
    converge([a, b]);
    expect([...conflicts(a), ...conflicts(b)]).toEqual([]);
  });

  it('[R4] two rows of one identity, made apart, differ: the one that gives way is recorded', async () => {
    const [a, b] = pairOf('CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT)');
    a.write("INSERT INTO tags VALUES ('red', 'by A')");
    a.stamp();
    b.write("INSERT INTO tags VALUES ('red', 'by B')");
    converge([a, b]);
    expect(conflicts(a)).toEqual([['colour', 'later-birth', 'by A', 'by B']]);
    expect(conflicts(b)).toEqual([]);
    await expectEqual(a, b);
  });

  it('[R4] not when they are alike', () => {
    const [a, b] = pairOf('CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT)');
    for (const replica of [a, b]) {
      replica.write("INSERT INTO tags VALUES ('red', 'same')");
      replica.stamp();
    }
    converge([a, b]);
    expect([...conflicts(a), ...conflicts(b)]).toEqual([]);
  });
});

describe('[C1] in a library in which some rows refer to nothing', () => {
  it('concurrent writes of different columns both survive all the same', async () => {
    const [a, b] = pairOf(`${DDL} CREATE TABLE calls (id INTEGER PRIMARY KEY, who INTEGER REFERENCES people (id))`);
    a.write("INSERT INTO people (name, phone) VALUES ('Ann', '1')");
    a.write('PRAGMA foreign_keys = OFF; INSERT INTO calls VALUES (1, 77); PRAGMA foreign_keys = ON');
    converge([a, b]);
    a.write("UPDATE people SET name = 'Anna'");
    a.stamp();
    b.write("UPDATE people SET phone = '2'");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT name, phone FROM people')).toEqual([['Anna', '2']]);
    expect(b.rows('SELECT * FROM calls')).toEqual([]);
    // It comes once it refers to somebody.
    a.write('UPDATE calls SET who = 1');
    converge([a, b]);
    expect(b.rows('SELECT p.name FROM calls c JOIN people p ON p.id = c.who')).toEqual([['Anna']]);
    await expectEqual(a, b);
  });
});
