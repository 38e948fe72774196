import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compareLibraries, describeDifference } from '../../examples/compare.ts';

/** Two copies of one tiny library: the same rows under other integer ids. `shift` is the distance between the ids. */
function makeLibrary(file: string, shift: number): void {
  const db = new Database(file);
  const id = (number: number): number => number + shift;
  db.pragma('foreign_keys = OFF');
  db.pragma('synchronous = OFF');
  db.exec(`
    CREATE TABLE shelves (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE books (
      id INTEGER PRIMARY KEY,
      shelf INTEGER REFERENCES shelves,
      sequel_to INTEGER REFERENCES books (id),
      title TEXT,
      price
    );
    CREATE TABLE loans (book INTEGER REFERENCES books (id), person TEXT, since INTEGER, PRIMARY KEY (book, person));
    CREATE TABLE reminders (
      id INTEGER PRIMARY KEY, book INTEGER, person TEXT,
      FOREIGN KEY (book, person) REFERENCES loans (book, person)
    );
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE here_only (id INTEGER PRIMARY KEY, note TEXT);
    CREATE TABLE flotilla_tables (n INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO flotilla_tables VALUES (1, 'shelves'), (2, 'books'), (3, 'loans'), (4, 'reminders'), (5, 'settings');
    CREATE TABLE flotilla_rows_1 (key INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE);
    CREATE TABLE flotilla_rows_2 (key INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE);
    CREATE TABLE flotilla_rows_3 (key INTEGER PRIMARY KEY, k1, k2, uuid BLOB NOT NULL UNIQUE);
    CREATE TABLE flotilla_rows_4 (key INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE);
    CREATE TABLE flotilla_rows_5 (key INTEGER PRIMARY KEY, k1, uuid BLOB NOT NULL UNIQUE);
    INSERT INTO shelves VALUES (${id(1)}, 'left'), (${id(2)}, 'right');
    INSERT INTO flotilla_rows_1 VALUES (${id(1)}, x'11'), (${id(2)}, x'12');
    INSERT INTO books VALUES
      (${id(1)}, ${id(1)}, NULL, 'Dune', 12.5),
      (${id(2)}, ${id(1)}, ${id(1)}, 'Dune Messiah', 9),
      (${id(3)}, NULL, NULL, 'Solaris' || char(0) || 'a', x'0102');
    INSERT INTO flotilla_rows_2 VALUES (${id(1)}, x'21'), (${id(2)}, x'22'), (${id(3)}, x'23');
    INSERT INTO loans VALUES (${id(1)}, 'Ann', 2020), (${id(3)}, 'Bob', 2021);
    INSERT INTO flotilla_rows_3 VALUES (${1 + shift * 2}, ${id(1)}, 'Ann', x'31'), (${2 + shift * 2}, ${id(3)}, 'Bob', x'32');
    INSERT INTO reminders VALUES (${id(1)}, ${id(3)}, 'Bob');
    INSERT INTO flotilla_rows_4 VALUES (${id(1)}, x'41');
    INSERT INTO settings VALUES ('theme', 'dark');
    INSERT INTO flotilla_rows_5 VALUES (${id(1)}, 'theme', x'51');
    INSERT INTO here_only VALUES (${id(1)}, 'note ${shift}');
  `);
  db.close();
}

describe('comparing copies of a library', () => {
  let folder: string;
  let files: [string, string, string];
  const change = (file: string, sql: string): void => {
    const db = new Database(file);
    db.pragma('foreign_keys = OFF');
    db.pragma('synchronous = OFF');
    db.pragma('synchronous = OFF');
    db.exec(sql);
    db.close();
  };
  const counts = (): number[] => {
    const { missingRows, extraRows, differentRows, foreignKeyViolations } = compareLibraries(files);
    return [missingRows, extraRows, differentRows, foreignKeyViolations];
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'flotilla-compare-'));
    files = [join(folder, 'a.db'), join(folder, 'b.db'), join(folder, 'c.db')];
    makeLibrary(files[0], 0);
    makeLibrary(files[1], 100);
    makeLibrary(files[2], 7);
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('finds nothing in copies that differ only in integer ids and in tables that do not sync', () => {
    expect(compareLibraries(files)).toEqual({
      identical: true,
      rows: 9,
      missingRows: 0,
      extraRows: 0,
      differentRows: 0,
      foreignKeyViolations: 0,
      examples: [],
    });
  });

  it.each([
    ['a changed value', "UPDATE shelves SET name = 'Left' WHERE id = 101"],
    ['NULL in place of a value', 'UPDATE shelves SET name = NULL WHERE id = 101'],
    ['a value of another type', 'UPDATE books SET price = 9.0 WHERE id = 102'],
    ['bytes in place of text', "UPDATE settings SET value = x'6461726b'"],
    ['a difference behind a NUL character', "UPDATE books SET title = 'Solaris' || char(0) || 'b' WHERE id = 103"],
    ['a reference to another row', 'UPDATE books SET shelf = 102 WHERE id = 101'],
    ['NULL in place of a reference', 'UPDATE books SET sequel_to = NULL WHERE id = 102'],
    ['a reference where none was', 'UPDATE books SET sequel_to = 102 WHERE id = 103'],
    ['a changed value beside a natural key', "UPDATE loans SET since = 2022 WHERE person = 'Bob'"],
    ['a reference to another row by a composite key', "UPDATE reminders SET book = 101, person = 'Ann'"],
  ])('finds %s', (_what, sql) => {
    change(files[1], sql);
    const comparison = compareLibraries(files);
    expect(comparison).toMatchObject({
      identical: false,
      missingRows: 0,
      extraRows: 0,
      differentRows: 1,
      foreignKeyViolations: 0,
    });
    expect(comparison.examples.map((example) => [example.kind, example.file])).toEqual([['different', files[1]]]);
  });

  it('finds two rows whose identities are swapped', () => {
    change(
      files[2],
      "UPDATE flotilla_rows_1 SET uuid = x'ff' WHERE key = 8; UPDATE flotilla_rows_1 SET uuid = x'11' WHERE key = 9;",
    );
    change(files[2], "UPDATE flotilla_rows_1 SET uuid = x'12' WHERE key = 8");
    // Both shelves, and the two books that stand on the first of them.
    expect(counts()).toEqual([0, 0, 4, 0]);
  });

  it('finds a missing row, at the beginning, in the middle and at the end', () => {
    for (const uuid of ['31', '32', '41']) {
      const [table, n] = uuid.startsWith('3') ? ['loans', 3] : ['reminders', 4];
      const where = uuid === '31' ? "person = 'Ann'" : uuid === '32' ? "person = 'Bob'" : 'true';
      change(files[1], `DELETE FROM ${table} WHERE ${where}; DELETE FROM flotilla_rows_${n} WHERE uuid = x'${uuid}';`);
    }
    change(files[2], "DELETE FROM books WHERE id = 9; DELETE FROM flotilla_rows_2 WHERE uuid = x'22'");
    expect(counts()).toEqual([4, 0, 0, 0]);
  });

  it('finds a row that is gone though its identity is still listed', () => {
    change(files[1], 'DELETE FROM settings');
    expect(counts()).toEqual([1, 0, 0, 0]);
  });

  it('finds a row too many, and names it for people', () => {
    change(
      files[1],
      "INSERT INTO shelves VALUES (50, 'new'), (51, 'newer'); INSERT INTO flotilla_rows_1 VALUES (50, x'10'), (51, x'99');",
    );
    const comparison = compareLibraries(files);
    expect(comparison).toMatchObject({ identical: false, missingRows: 0, extraRows: 2, differentRows: 0 });
    expect(comparison.examples.map(describeDifference)).toEqual([
      `shelves 10 is only in ${files[1]}: name='new'`,
      `shelves 99 is only in ${files[1]}: name='newer'`,
    ]);
  });

  it('finds a row that has no identity, on either side', () => {
    change(files[1], "INSERT INTO settings VALUES ('font', 'large')");
    expect(counts()).toEqual([0, 1, 0, 0]);
    change(files[0], "INSERT INTO shelves VALUES (60, 'floor')");
    expect(counts()).toEqual([2, 1, 0, 0]);
  });

  it('finds a reference that dangles, even if all copies agree in it', () => {
    change(files[1], 'UPDATE books SET shelf = 999 WHERE id = 101');
    expect(counts()).toEqual([0, 0, 1, 1]);
    change(files[0], 'UPDATE books SET shelf = 999 WHERE id = 1');
    change(files[2], 'UPDATE books SET shelf = 999 WHERE id = 8');
    const comparison = compareLibraries(files);
    expect(comparison).toMatchObject({ identical: false, differentRows: 0, foreignKeyViolations: 3 });
  });

  it('refuses a file whose synced tables are others', () => {
    change(files[2], "DELETE FROM flotilla_tables WHERE name = 'settings'");
    expect(() => compareLibraries(files)).toThrow(/c\.db: the table settings is missing or does not sync/);
  });
});
