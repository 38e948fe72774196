/**
 * Joining with more than an empty place: a new file takes over what of the schema is safe, a file with rows of its own
 * brings them along (`--union`), a copy of the library finds its rows again (`--same`).
 */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Device } from '../../examples/fleet.ts';
import type { Invitation, JoinReport } from '../../src/index.ts';
import { column, endEverything, execute, flotillaJson, testFolder, untilColumn } from '../support/command.ts';
import { expectEqual } from '../support/devices.ts';

const SCHEMA = `
  CREATE TABLE authors (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
  CREATE TABLE books (
    id INTEGER PRIMARY KEY,
    author_id INTEGER NOT NULL REFERENCES authors (id) ON DELETE CASCADE,
    title TEXT NOT NULL,
    edits INTEGER NOT NULL DEFAULT 0
  );
  CREATE INDEX books_by_author ON books (author_id);
  CREATE TABLE diary (id INTEGER PRIMARY KEY, line TEXT NOT NULL);
  CREATE VIEW shelf AS SELECT name, title FROM books JOIN authors ON authors.id = author_id;
  -- Harmless anywhere: the diary stays on its device.
  CREATE TRIGGER books_noted AFTER INSERT ON books BEGIN
    INSERT INTO diary (line) VALUES ('got ' || NEW.title);
  END;
  -- Would count again, on every device, what one of them has counted.
  CREATE TRIGGER books_counted AFTER UPDATE OF title ON books BEGIN
    UPDATE books SET edits = edits + 1 WHERE id = NEW.id;
  END;`;
const CONFIG = '{"tables": {"diary": {"sync": false}}}';
const BOOKS = "SELECT name || ': ' || title FROM shelf ORDER BY 1";

const folder = testFolder();
const first = new Device(folder, 'first');
const fresh = new Device(folder, 'fresh');
const union = new Device(folder, 'union');
const same = new Device(folder, 'same');
const all = [first, fresh, union, same];

async function joinFirst(device: Device, ...options: string[]): Promise<JoinReport> {
  const { text } = await flotillaJson<Invitation>(['invite', first.library, '--local-only']);
  return flotillaJson<JoinReport>(['join', text, device.library, '--local-only', '--name', device.name, ...options]);
}

const objects = (device: Device): unknown[] =>
  column(
    device.library,
    `SELECT type || ' ' || name FROM sqlite_schema
    WHERE name NOT GLOB 'flotilla_*' AND name NOT GLOB 'sqlite_*' AND tbl_name NOT GLOB 'flotilla_*' ORDER BY 1`,
  );

beforeAll(async () => {
  execute(first.library, SCHEMA);
  execute(
    first.library,
    `INSERT INTO authors VALUES (1, 'Austen'), (2, 'Borges'), (3, 'Calvino');
    INSERT INTO books (id, author_id, title) VALUES
      (1, 1, 'Emma'), (2, 1, 'Persuasion'), (3, 2, 'Ficciones'), (4, 3, 'Le città invisibili');`,
  );
  // A copy, as people make them, from before anybody thought of sync; and since then each has got a book more.
  copyFileSync(first.library, same.library);
  execute(same.library, "INSERT INTO books (author_id, title) VALUES (3, 'Palomar')");
  execute(first.library, "INSERT INTO books (author_id, title) VALUES (2, 'El Aleph')");
  execute(union.library, SCHEMA);
  execute(
    union.library,
    "INSERT INTO authors VALUES (1, 'Dostoevsky'); INSERT INTO books (id, author_id, title) VALUES (1, 1, 'The Idiot')",
  );
  writeFileSync(join(first.folder, 'flotilla.config.json'), CONFIG);
  await flotillaJson(['init', first.library, '--name', 'first']);
  await first.start([]);
});
afterAll(endEverything);

describe('a new file', () => {
  it('gets the whole schema, the trigger that writes to a synced table with its guard', async () => {
    const report = await joinFirst(fresh);
    expect(report.created).toBe(true);
    expect(report.omitted).toEqual([]);
    expect(objects(fresh)).toEqual(objects(first));
    for (const device of [first, fresh]) {
      expect(
        column(
          device.library,
          "SELECT name FROM sqlite_schema WHERE name GLOB 'books_*' AND sql GLOB '*flotilla_capture*'",
        ),
      ).toEqual(['books_counted']);
    }
    await fresh.start([]);
    await expectEqual([first, fresh]);
    expect(column(fresh.library, BOOKS)).toEqual(column(first.library, BOOKS));
  });
});

describe('a file with rows of its own', () => {
  it('joins with --union: its rows are kept beside the others, under other ids where these are taken', async () => {
    const report = await joinFirst(union, '--union');
    expect(report).toMatchObject({ created: false, init: { stampedRows: 2 } });
    await union.start([]);
    await expectEqual([first, fresh, union]);
    expect(column(first.library, BOOKS)).toContain('Dostoevsky: The Idiot');
    // Nothing was renumbered here: who wrote these ids down finds the rows by them.
    expect(column(union.library, 'SELECT title FROM books WHERE id = 1 AND author_id = 1')).toEqual(['The Idiot']);
  });
});

describe('a copy of the library', () => {
  it('joins with --same: equal rows are the same rows, and the one that only it has goes to all', async () => {
    const ids = column(same.library, 'SELECT id FROM books ORDER BY id');
    const report = await joinFirst(same, '--same');
    expect(report.created).toBe(false);
    await same.start([]);
    await untilColumn(first.library, "SELECT count(*) FROM books WHERE title = 'Palomar'", [1]);
    await expectEqual(all);
    expect(column(same.library, BOOKS)).toEqual([
      'Austen: Emma',
      'Austen: Persuasion',
      'Borges: El Aleph',
      'Borges: Ficciones',
      'Calvino: Le città invisibili',
      'Calvino: Palomar',
      'Dostoevsky: The Idiot',
    ]);
    expect(column(same.library, 'SELECT id FROM books ORDER BY id')).toEqual(expect.arrayContaining(ids));
  });

  it('is written from now on like the others', async () => {
    execute(
      same.library,
      "INSERT INTO books (author_id, title) SELECT id, 'Ombra' FROM authors WHERE name = 'Calvino'",
    );
    execute(fresh.library, "UPDATE authors SET name = 'Jorge Luis Borges' WHERE name = 'Borges'");
    execute(first.library, "DELETE FROM authors WHERE name = 'Austen'");
    const expected = [
      'Calvino: Le città invisibili',
      'Calvino: Ombra',
      'Calvino: Palomar',
      'Dostoevsky: The Idiot',
      'Jorge Luis Borges: El Aleph',
      'Jorge Luis Borges: Ficciones',
    ];
    for (const device of all) await untilColumn(device.library, BOOKS, expected);
    await expectEqual(all);
  });
});

describe('a trigger of the user that writes to a synced table', () => {
  it('runs where the row was written, and nowhere else when the row arrives', async () => {
    execute(same.library, "UPDATE books SET title = 'Fictions' WHERE title = 'Ficciones'");
    execute(fresh.library, "UPDATE books SET title = 'Invisible Cities' WHERE title GLOB 'Le citt*'");
    const edits = "SELECT edits FROM books WHERE title IN ('Fictions', 'Invisible Cities') ORDER BY title";
    for (const device of all) await untilColumn(device.library, edits, [1, 1]);
    await expectEqual(all);
  });
});
