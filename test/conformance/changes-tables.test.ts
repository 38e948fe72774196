/**
 * Tables that come, go and are built anew on one device before they do on another.
 */
import { describe, expect, it } from 'vitest';

import { Replica, converge } from '../support/replica.ts';
import { expectEqual, replicas } from './changes.ts';

const DDL = 'CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT NOT NULL);';
const ALBUMS = `
CREATE TABLE albums (id INTEGER PRIMARY KEY, title TEXT NOT NULL, cover_id INTEGER REFERENCES files (id));
CREATE TABLE album_files (
  album_id INTEGER NOT NULL REFERENCES albums (id) ON DELETE CASCADE, file_id INTEGER NOT NULL REFERENCES files (id),
  PRIMARY KEY (album_id, file_id));`;
const CONTENT = `SELECT a.title, c.name, group_concat(f.name) FROM albums a LEFT JOIN files c ON c.id = a.cover_id
  LEFT JOIN album_files x ON x.album_id = a.id LEFT JOIN files f ON f.id = x.file_id GROUP BY a.id ORDER BY a.title`;

describe('a table that is added', () => {
  it('[G4] its rows wait where it is missing, are passed on, and stand when the table comes', async () => {
    const [a, b, c] = replicas(DDL);
    b.write("INSERT INTO files (name) VALUES ('x')");
    a.write("INSERT INTO files (name) VALUES ('one'), ('two')");
    converge([a, b, c]);
    for (const replica of [a, c]) replica.write(ALBUMS);
    a.write("INSERT INTO albums (title, cover_id) SELECT 'summer', id FROM files WHERE name = 'two'");
    a.write('INSERT INTO album_files SELECT 1, id FROM files');
    b.pull(a);
    expect(b.waiting()).toEqual(['no-table', 'no-table', 'no-table', 'no-table']);
    c.pull(b);
    expect(c.rows(CONTENT)).toEqual(a.rows(CONTENT));
    a.write("UPDATE albums SET title = 'summer 2026'");
    c.write('UPDATE albums SET cover_id = NULL');
    b.pull(a);
    b.pull(c);
    b.write(ALBUMS);
    b.look();
    expect(b.waiting()).toEqual([]);
    converge([a, b, c]);
    expect(b.rows('SELECT title, cover_id FROM albums')).toEqual([['summer 2026', null]]);
    await expectEqual(a, b, c);
  });

  it('[G4] a delete reaches those who have the table through one who has not', async () => {
    const [a, b, c] = replicas(DDL);
    for (const replica of [a, c]) replica.write(ALBUMS);
    a.write("INSERT INTO albums (title) VALUES ('gone'), ('kept')");
    b.pull(a);
    c.pull(b);
    a.write("DELETE FROM albums WHERE title = 'gone'");
    b.pull(a);
    c.pull(b);
    expect(c.rows('SELECT title FROM albums')).toEqual([['kept']]);
    b.write(ALBUMS);
    b.look();
    expect(b.rows('SELECT title FROM albums')).toEqual([['kept']]);
    await expectEqual(a, b, c);
  });

  it('[G4] of an owned table the later change wins while it waits, too', async () => {
    const config = { tables: { volumes: { ownership: 'device' } } };
    const volumes = 'CREATE TABLE volumes (id INTEGER PRIMARY KEY, name TEXT);';
    const a = new Replica({ device: 'a', ddl: `${DDL}${volumes}`, config });
    const [b, c] = replicas(DDL);
    a.write("INSERT INTO volumes (name) VALUES ('first')");
    b.pull(a);
    a.write("UPDATE volumes SET name = 'second'");
    b.pull(a);
    c.pull(b);
    expect(b.waiting()).toEqual(['no-table']);
    await expectEqual(a, b, c);
  });

  it('[G1] rows that it has when it is noticed are born', async () => {
    const [a, b] = replicas(DDL);
    for (const replica of [a, b]) replica.write(`${ALBUMS} INSERT INTO albums (title) VALUES ('${replica.device}')`);
    converge([a, b]);
    expect(a.rows('SELECT title FROM albums ORDER BY title')).toEqual([['a'], ['b']]);
    await expectEqual(a, b);
  });
});

describe('a table that is dropped', () => {
  it('[G5] deletes nothing elsewhere, and comes back with what others have', async () => {
    const [a, b] = replicas(DDL + ALBUMS);
    a.write("INSERT INTO files (name) VALUES ('one'); INSERT INTO albums (title) VALUES ('summer')");
    converge([a, b]);
    a.write('DROP TABLE album_files; DROP TABLE albums');
    b.write("UPDATE albums SET title = 'autumn'");
    converge([a, b]);
    expect(b.rows('SELECT title FROM albums')).toEqual([['autumn']]);
    expect(a.waiting()).toEqual(['no-table']);
    a.write(ALBUMS);
    converge([a, b]);
    expect(a.rows('SELECT title FROM albums')).toEqual([['autumn']]);
    await expectEqual(a, b);
  });
});

describe('a table that is built anew', () => {
  it('[G6] its rows keep their identity, those that are new are born, those that went are deleted', async () => {
    const [a, b] = replicas(DDL);
    a.write("INSERT INTO files (name) VALUES ('one'), ('two'), ('three')");
    converge([a, b]);
    const before = b.library.head;
    a.db.pragma('foreign_keys = OFF');
    a.write(`BEGIN;
      CREATE TABLE new_files (id INTEGER PRIMARY KEY, name TEXT NOT NULL CHECK (length(name) < 100), size INTEGER);
      INSERT INTO new_files (id, name) SELECT id, name FROM files WHERE name <> 'two';
      INSERT INTO new_files (id, name, size) VALUES (7, 'four', 4);
      DROP TABLE files;
      ALTER TABLE new_files RENAME TO files;
      COMMIT`);
    a.db.pragma('foreign_keys = ON');
    b.pull(a);
    expect(b.rows('SELECT name FROM files ORDER BY name')).toEqual([['four'], ['one'], ['three']]);
    // One birth and one delete: nothing else has travelled.
    expect(b.library.head - before).toBe(2);
    a.write("UPDATE files SET name = 'ONE' WHERE name = 'one'");
    converge([a, b]);
    expect(b.rows('SELECT name FROM files ORDER BY name')).toEqual([['ONE'], ['four'], ['three']]);
    await expectEqual(a, b);
  });
});

describe('constraints that a newer schema has', () => {
  it('[G7] a row that violates one waits with its reason, and stands when it no longer does', async () => {
    const [a, b] = replicas('CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT, size INTEGER);');
    a.write(`CREATE TABLE n (id INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER CHECK (size >= 0));
      INSERT INTO n SELECT * FROM files; DROP TABLE files; ALTER TABLE n RENAME TO files`);
    b.write("INSERT INTO files (name, size) VALUES ('bad', -1), (NULL, 1), ('good', 1)");
    converge([a, b]);
    expect(a.rows('SELECT name, size FROM files')).toEqual([['good', 1]]);
    expect(a.waiting()).toEqual(['constraint', 'constraint']);
    b.write("UPDATE files SET size = 0 WHERE name = 'bad'; UPDATE files SET name = 'named' WHERE name IS NULL");
    converge([a, b]);
    expect(a.rows('SELECT name, size FROM files ORDER BY name')).toEqual([
      ['bad', 0],
      ['good', 1],
      ['named', 1],
    ]);
    await expectEqual(a, b);
  });

  it('[G7] a unique index that comes later, too', async () => {
    const [a, b] = replicas('CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT);');
    a.write('CREATE UNIQUE INDEX files_name ON files (name)');
    a.write("INSERT INTO files (name) VALUES ('x')");
    b.write("INSERT INTO files (name) VALUES ('y')");
    converge([a, b]);
    expect(a.violations()).toEqual([]);
    expect(a.rows('SELECT name FROM files ORDER BY name')).toEqual([['x'], ['y']]);
    await expectEqual(a, b);
  });
});
