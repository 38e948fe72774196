/**
 * Columns that come on one device before they come on another.
 */
import { describe, expect, it } from 'vitest';

import { Replica, converge } from '../support/replica.ts';

const DDL = `
CREATE TABLE folders (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE files (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folders (id), name TEXT NOT NULL);`;

function pair(ddl = DDL): [Replica, Replica] {
  return [new Replica({ device: 'a', ddl }), new Replica({ device: 'b', ddl })];
}

async function expectEqual(...replicas: Replica[]): Promise<void> {
  const digests = await Promise.all(replicas.map((replica) => replica.digest()));
  for (const digest of digests) expect(digest).toEqual(digests[0]);
  for (const replica of replicas) expect(replica.violations()).toEqual([]);
}

describe('a column that is added', () => {
  it('[G1] is noticed while the library is served, and written values reach those who have it', async () => {
    const [a, b] = pair();
    a.write("INSERT INTO files (name) VALUES ('one')");
    converge([a, b]);
    for (const replica of [a, b]) replica.write('ALTER TABLE files ADD COLUMN size INTEGER');
    a.write('UPDATE files SET size = 5');
    converge([a, b]);
    expect(a.changes).toEqual(['The column "size" of "files" is new.']);
    expect(b.rows('SELECT name, size FROM files')).toEqual([['one', 5]]);
    await expectEqual(a, b);
  });

  it('[G2] does not send rows again that have no value in it', () => {
    const [a, b] = pair();
    a.write("INSERT INTO files (name) VALUES ('one'), ('two')");
    converge([a, b]);
    const heads = [a, b].map((replica) => replica.library.head);
    a.write('ALTER TABLE files ADD COLUMN size INTEGER');
    b.write('ALTER TABLE files ADD COLUMN size INTEGER');
    converge([a, b]);
    expect([a, b].map((replica) => replica.library.head)).toEqual(heads);
  });

  it('[G3] keeps its values aside where it is missing, passes them on, and shows them when the column comes', async () => {
    const [a, b] = pair();
    const c = new Replica({ device: 'c', ddl: DDL });
    a.write("INSERT INTO files (name) VALUES ('old')");
    converge([a, b, c]);
    for (const replica of [a, c]) replica.write("ALTER TABLE files ADD COLUMN note TEXT DEFAULT 'none'");
    a.write("INSERT INTO files (name, note) VALUES ('new', 'first')");
    a.write("UPDATE files SET note = 'later' WHERE name = 'old'");
    b.pull(a);
    // Only what b keeps aside can bring it to c.
    c.pull(b);
    const all = [
      ['new', 'first'],
      ['old', 'later'],
    ];
    expect(c.rows('SELECT name, note FROM files ORDER BY name')).toEqual(all);
    b.write("ALTER TABLE files ADD COLUMN note TEXT DEFAULT 'none'");
    b.look();
    expect(b.rows('SELECT name, note FROM files ORDER BY name')).toEqual(all);
    await expectEqual(a, b, c);
  });
});
