/**
 * Renamed tables and columns, also where the other devices still use the old names.
 */
import { describe, expect, it } from 'vitest';

import { Replica, converge } from '../support/replica.ts';
import { expectEqual, replicas } from './changes.ts';

const DDL = `
CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT);
CREATE TABLE files (id INTEGER PRIMARY KEY, title TEXT NOT NULL, parent_id INTEGER REFERENCES files (id));
CREATE TABLE file_tags (file_id INTEGER REFERENCES files (id) ON DELETE CASCADE, tag TEXT REFERENCES tags (name),
  PRIMARY KEY (file_id, tag));`;

const FILL = `INSERT INTO tags (name, colour) VALUES ('red', '#f00'); INSERT INTO files (title) VALUES ('one');
  INSERT INTO file_tags VALUES (1, 'red')`;

describe('renames', () => {
  it('[G10] of columns and tables by ALTER are seen without being told, and both sides understand each other', async () => {
    const [a, b, c] = replicas(DDL);
    a.write(FILL);
    converge([a, b, c]);
    const heads = [a, b, c].map((copy) => copy.library.head);
    a.write(`ALTER TABLE files RENAME COLUMN title TO "the name"; ALTER TABLE tags RENAME COLUMN name TO label;
      ALTER TABLE tags RENAME TO labels; ALTER TABLE file_tags RENAME TO file_labels`);
    converge([a, b, c]);
    expect([a, b, c].map((copy) => copy.library.head)).toEqual(heads);
    expect(a.changes).toEqual(
      [
        'The table "tags" is called "labels" now.',
        'The table "file_tags" is called "file_labels" now.',
        'The column "title" of "files" is called "the name" now.',
        'The column "name" of "labels" is called "label" now.',
      ].toSorted(() => 0),
    );
    a.write(
      `UPDATE files SET "the name" = 'two'; INSERT INTO labels VALUES ('blue', '#00f'); INSERT INTO file_labels VALUES (1, 'blue')`,
    );
    b.write(
      "UPDATE tags SET colour = '#e00' WHERE name = 'red'; INSERT INTO files (title, parent_id) VALUES ('child', 1)",
    );
    // The same new tag on both: its identity may not depend on what its table is called.
    a.write("INSERT INTO labels VALUES ('same', 'a')");
    b.write("INSERT INTO tags VALUES ('same', 'b')");
    converge([a, b, c]);
    expect(b.rows('SELECT title FROM files ORDER BY title')).toEqual([['child'], ['two']]);
    expect(a.rows('SELECT label, colour FROM labels ORDER BY label')).toEqual(
      c.rows('SELECT name, colour FROM tags ORDER BY name'),
    );
    expect(a.rows('SELECT count(*) FROM labels')).toEqual([[3]]);
    await expectEqual(a, b, c);
  });

  it('[G10] in a table that was built anew are declared in the configuration', async () => {
    const config = { tables: { files: { renamedColumns: { name: 'title' } }, labels: { renamedFrom: 'tags' } } };
    const [a, b] = replicas(DDL);
    a.write(FILL);
    converge([a, b]);
    a.db.pragma('foreign_keys = OFF');
    a.write(`CREATE TABLE n (id INTEGER PRIMARY KEY, name TEXT NOT NULL, parent_id INTEGER REFERENCES files (id));
      INSERT INTO n SELECT * FROM files; DROP TABLE files; ALTER TABLE n RENAME TO files;
      CREATE TABLE labels (name TEXT PRIMARY KEY, colour TEXT); INSERT INTO labels SELECT * FROM tags; DROP TABLE tags;
      CREATE TABLE m (file_id INTEGER REFERENCES files (id) ON DELETE CASCADE, tag TEXT REFERENCES labels (name),
        PRIMARY KEY (file_id, tag)); INSERT INTO m SELECT * FROM file_tags; DROP TABLE file_tags; ALTER TABLE m RENAME TO file_tags`);
    a.db.pragma('foreign_keys = ON');
    a.served.follow(config as never);
    a.look();
    const head = b.library.head;
    converge([a, b]);
    expect(b.library.head).toBe(head);
    a.write("UPDATE files SET name = 'two'; UPDATE labels SET colour = 'x'");
    converge([a, b]);
    expect(b.rows('SELECT title, colour FROM files, tags')).toEqual([['two', 'x']]);
    await expectEqual(a, b);
  });

  it('[G10] a new column under an old name is another one', async () => {
    const [a, b, c] = replicas('CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT);');
    a.write("INSERT INTO files (name) VALUES ('one')");
    converge([a, b, c]);
    for (const copy of [a, c])
      copy.write('ALTER TABLE files RENAME COLUMN name TO title; ALTER TABLE files ADD COLUMN name TEXT');
    converge([a, b, c]);
    a.write("UPDATE files SET name = 'new'");
    b.write("UPDATE files SET name = 'old'");
    b.pull(a);
    c.pull(b);
    converge([a, b, c]);
    expect(c.rows('SELECT title, name FROM files')).toEqual([['old', 'new']]);
    await expectEqual(a, b, c);
  });

  it('[G10] a device that joins later gets the names on the wire with the configuration', async () => {
    const [a] = replicas('CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT);');
    a.write(
      'ALTER TABLE files RENAME COLUMN name TO title; ALTER TABLE files ADD COLUMN name TEXT; ALTER TABLE files RENAME TO documents',
    );
    a.write("INSERT INTO documents (title, name) VALUES ('one', 'new')");
    a.stamp();
    const { grantConfig } = await import('../../src/db/grant.ts');
    const config = JSON.parse(grantConfig(a.db, a.library.registry)) as object;
    const d = new Replica({
      device: 'd',
      ddl: 'CREATE TABLE documents (id INTEGER PRIMARY KEY, title TEXT, name TEXT)',
      config,
    });
    expect(d.library.registry.schemaHash).toBe(a.library.registry.schemaHash);
    converge([a, d]);
    expect(d.rows('SELECT title, name FROM documents')).toEqual([['one', 'new']]);
    await expectEqual(a, d);
  });
});
