/**
 * `flotilla migrate`: what plain SQL cannot do to a library, and what it must not lose.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import Sqlite from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { parseConfig } from '../../src/db/config.ts';
import { migrateFile } from '../../src/db/migrate.ts';
import { splitStatements } from '../../src/db/statements.ts';
import { surroundingsOf } from '../support/surroundings.ts';
import type { Replica } from '../support/replica.ts';
import { converge } from '../support/replica.ts';
import { expectEqual, replicas } from './changes.ts';

const DDL = `
CREATE TABLE albums (id INTEGER PRIMARY KEY, title TEXT NOT NULL);
CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT, size INTEGER, album_id INTEGER REFERENCES albums (id));`;

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-migrate-'));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Stops a copy's node, migrates its file, and starts it again. */
function migrate(copy: Replica, sql: string, config: object | null = null): [Replica, string[]] {
  const file = join(folder, `${copy.device}.sql`);
  const around = { ...surroundingsOf(copy.device), now: () => copy.library.around.now() };
  copy.stamp();
  const db = new Sqlite(copy.backup());
  db.pragma('wal_checkpoint');
  db.exec(`VACUUM INTO '${file}'`);
  db.close();
  const loaded = config === null ? null : parseConfig(JSON.stringify(config), 'test');
  const changes = migrateFile({ file, name: copy.device, around }, sql, loaded);
  const reopened = new Sqlite(file);
  reopened.pragma('journal_mode = DELETE');
  const restored = copy.restored(reopened.serialize());
  reopened.close();
  return [restored, changes];
}

describe('flotilla migrate', () => {
  it('[G11] drops a column, and keeps its values for those who still have it', async () => {
    const [first, b, c] = replicas(DDL);
    first.write(
      "INSERT INTO albums (title) VALUES ('summer'); INSERT INTO files (name, size, album_id) VALUES ('one', 1, 1), ('two', 2, NULL)",
    );
    first.write("UPDATE files SET size = 11 WHERE name = 'one'");
    b.pull(first);
    const [a, changes] = migrate(first, 'ALTER TABLE files DROP COLUMN size; CREATE INDEX files_name ON files (name);');
    expect(changes).toEqual(['The column "size" of "files" is gone.']);
    // c has nothing yet, and gets all from the one that has dropped the column.
    c.pull(a);
    expect(c.rows('SELECT name, size FROM files ORDER BY name')).toEqual([
      ['one', 11],
      ['two', 2],
    ]);
    c.write("UPDATE files SET size = 22 WHERE name = 'two'");
    a.write("UPDATE files SET name = 'ONE' WHERE name = 'one'");
    converge([a, b, c]);
    expect(b.rows('SELECT name, size FROM files ORDER BY name')).toEqual([
      ['ONE', 11],
      ['two', 22],
    ]);
    await expectEqual(a, b, c);
    a.write('ALTER TABLE files ADD COLUMN size INTEGER');
    a.look();
    expect(a.rows('SELECT name, size FROM files ORDER BY name')).toEqual([
      ['ONE', 11],
      ['two', 22],
    ]);
    await expectEqual(a, b, c);
  });

  it('[G11] drops a table with all that refers to it, and keeps its rows for those who still have it', async () => {
    const [first, b, c] = replicas(DDL);
    first.write(
      "INSERT INTO albums (title) VALUES ('summer'); INSERT INTO files (name, size, album_id) VALUES ('one', 1, 1)",
    );
    b.pull(first);
    const [a] = migrate(first, 'ALTER TABLE files DROP COLUMN album_id; DROP TABLE albums;');
    c.pull(a);
    expect(c.rows('SELECT name, title FROM files JOIN albums ON albums.id = album_id')).toEqual([['one', 'summer']]);
    await expectEqual(a, b, c);
  });

  it('[G11] a row that gets another name afterwards takes along what is kept of it', async () => {
    const config = { tables: { tags: { identity: 'name' } } };
    const [first, second] = replicas(
      'CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, colour TEXT)',
      config,
    );
    first.write("ALTER TABLE tags ADD COLUMN weight INTEGER; INSERT INTO tags (name, weight) VALUES ('heavy', 9)");
    second.pull(first);
    second.write('ALTER TABLE tags ADD COLUMN weight INTEGER');
    second.look();
    second.write('UPDATE tags SET weight = 10');
    converge([first, second]);
    const [b] = migrate(second, 'ALTER TABLE tags DROP COLUMN weight');
    b.write("UPDATE tags SET name = 'light'");
    converge([first, b]);
    expect(first.rows('SELECT name, weight FROM tags')).toEqual([['light', 10]]);
    await expectEqual(first, b);
  });

  it('[G11] what is changed while a table is built anew counts as written', async () => {
    const [first, b] = replicas(DDL);
    first.write("INSERT INTO files (name, size) VALUES ('one', 1), ('two', 2), ('three', 3)");
    b.pull(first);
    b.write("UPDATE files SET size = 30 WHERE name = 'three'");
    const [a] = migrate(
      first,
      `PRAGMA foreign_keys = OFF; BEGIN;
       CREATE TABLE n (id INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER, album_id INTEGER REFERENCES albums (id));
       INSERT INTO n SELECT id, CASE name WHEN 'one' THEN 'ONE' ELSE name END, size, album_id FROM files WHERE name <> 'two';
       DROP TABLE files; ALTER TABLE n RENAME TO files; COMMIT;`,
    );
    converge([a, b]);
    expect(b.rows('SELECT name, size FROM files ORDER BY name')).toEqual([
      ['ONE', 1],
      ['three', 30],
    ]);
    await expectEqual(a, b);
  });

  it('[G11] renames in one go with a drop, and takes over a new configuration', async () => {
    const [first, b] = replicas(DDL);
    first.write("INSERT INTO files (name, size) VALUES ('one', 1)");
    b.pull(first);
    const [a, changes] = migrate(
      first,
      'ALTER TABLE files RENAME COLUMN name TO title; ALTER TABLE files DROP COLUMN size; ALTER TABLE files RENAME TO documents',
      { tables: { documents: { localColumns: ['later'] } } },
    );
    expect(changes).toEqual([
      'The column "name" of "files" is called "title" now.',
      'The column "size" of "files" is gone.',
      'The table "files" is called "documents" now.',
    ]);
    a.write("UPDATE documents SET title = 'two'; ALTER TABLE documents ADD COLUMN later");
    converge([a, b]);
    expect(a.library.model('documents').columns.at(-1)?.role).toEqual({ kind: 'local' });
    expect(b.rows('SELECT name, size FROM files')).toEqual([['two', 1]]);
    await expectEqual(a, b);
  });

  it('[G11] changes nothing when a statement fails, references would break, or a column would mean something else', () => {
    const [a] = replicas(DDL);
    a.write("INSERT INTO albums (title) VALUES ('summer'); INSERT INTO files (name, album_id) VALUES ('one', 1)");
    expect(() => migrate(a, 'ALTER TABLE files DROP COLUMN size; SELEC 1')).toThrow(/syntax error/);
    rmSync(join(folder, 'a.sql'));
    expect(() => migrate(a, 'DELETE FROM albums')).toThrow(/would refer to rows of "albums"/);
    rmSync(join(folder, 'a.sql'));
    const retyped = `CREATE TABLE n (id INTEGER PRIMARY KEY, name TEXT, size TEXT, album_id INTEGER REFERENCES albums (id));
      INSERT INTO n SELECT * FROM files; DROP TABLE files; ALTER TABLE n RENAME TO files`;
    expect(() => migrate(a, retyped)).toThrow(/"size" of "files" is of type INTEGER .* TEXT .* another name/);
    const db = new Sqlite(join(folder, 'a.sql'));
    expect(db.prepare('SELECT count(*) FROM files WHERE size IS NULL').pluck().get()).toBe(1);
    expect(db.prepare("SELECT count(*) FROM sqlite_schema WHERE name = 'flotilla_2_update'").pluck().get()).toBe(1);
    db.close();
  });
});

describe('splitStatements', () => {
  it('cuts by semicolons outside of strings, names, comments and bodies of triggers', () => {
    const trigger = "CREATE TRIGGER x AFTER INSERT ON a BEGIN UPDATE a SET v = CASE WHEN 1 THEN ';' END; SELECT 1; END";
    expect(splitStatements(`SELECT ';' AS "a;b"; -- c;\n${trigger};\n/* ; */; SELECT [;]`)).toEqual([
      `SELECT ';' AS "a;b"`,
      `-- c;\n${trigger}`,
      'SELECT [;]',
    ]);
  });
});
