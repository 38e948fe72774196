/** Versions that arrive of rows that stand here: what of them is written, and what becomes of several that come together. */
import { describe, expect, it } from 'vitest';

import { expectEqual, expectShown, inTheMiddle, pagesFor, pairOf } from '../support/engine.ts';
import type { Replica } from '../support/replica.ts';
import { converge } from '../support/replica.ts';

/** More than go into one statement, and not all of a size. */
const ROWS = 217;

const DDL = `
CREATE TABLE files (
  id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES files (id), name TEXT NOT NULL UNIQUE, size INTEGER, note TEXT COLLATE NOCASE, raw
);
CREATE TABLE changes (id INTEGER PRIMARY KEY, file INTEGER, what TEXT);
CREATE TRIGGER renamed AFTER UPDATE OF name ON files BEGIN INSERT INTO changes (file, what) VALUES (NEW.id, 'name'); END;
CREATE TRIGGER grown AFTER UPDATE OF size ON files BEGIN INSERT INTO changes (file, what) VALUES (NEW.id, 'size'); END;
CREATE TRIGGER moved AFTER UPDATE OF folder_id ON files BEGIN INSERT INTO changes (file, what) VALUES (NEW.id, 'folder'); END;`;

/** Two copies with as many rows, nothing of which is known to have changed. */
function filled(ownership: 'shared' | 'device'): [Replica, Replica] {
  const [a, b] = pairOf(DDL, { config: { tables: { files: { ownership }, changes: { sync: false } } } });
  a.write(
    `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${ROWS})
     INSERT INTO files (id, folder_id, name, size, note, raw) SELECT i, nullif(i / 2, 0), 'file ' || i, i, 'a note', i FROM n`,
  );
  converge([a, b]);
  a.write('DELETE FROM changes');
  b.write('DELETE FROM changes');
  return [a, b];
}

describe.each(['shared', 'device'] as const)('[A19] a version of a row that stands here: %s rows', (ownership) => {
  it('writes only the columns in which it changes the row', async () => {
    const [a, b] = filled(ownership);
    a.write('UPDATE files SET size = size + 1');
    a.write("UPDATE files SET name = 'another name' WHERE id = 7");
    b.pull(a);
    expect(b.rows('SELECT what, count(*) FROM changes GROUP BY what ORDER BY what')).toEqual([
      ['name', 1],
      ['size', ROWS],
    ]);
    await expectEqual(a, b);
  });

  it('changes nothing in the table where it holds what is there', async () => {
    const [a, b] = filled(ownership);
    a.write('UPDATE files SET size = size + 1');
    a.stamp();
    a.write('UPDATE files SET size = size - 1');
    b.pull(a);
    expect(b.rows('SELECT what FROM changes')).toEqual([]);
    await expectEqual(a, b);
  });

  it('is written together with others', async () => {
    const [a, b] = filled(ownership);
    a.write('UPDATE files SET size = size + 1');
    const { sql } = b.library;
    const run = sql.run.bind(sql);
    let updates = 0;
    sql.run = (text, ...params) => {
      updates += Number(text.startsWith('UPDATE'));
      return run(text, ...params);
    };
    b.pull(a);
    expect(updates).toBeLessThan(ROWS / 2);
    await expectEqual(a, b);
  });

  it('changes types and bytes that look the same', async () => {
    const [a, b] = filled(ownership);
    a.write('UPDATE files SET raw = CAST(raw AS REAL) WHERE id % 4 = 0');
    a.write('UPDATE files SET raw = CAST(raw AS TEXT) WHERE id % 4 = 1');
    a.write('UPDATE files SET raw = CAST(CAST(raw AS TEXT) AS BLOB) WHERE id % 4 = 2');
    a.write("UPDATE files SET note = 'A Note' WHERE id % 2 = 0");
    b.pull(a);
    const shown = 'SELECT id, raw, typeof(raw), CAST(note AS BLOB) FROM files ORDER BY id';
    await expectShown([a, b], shown, a.rows(shown));
    expect(b.rows('SELECT DISTINCT typeof(raw) FROM files ORDER BY 1')).toEqual([
      ['blob'],
      ['integer'],
      ['real'],
      ['text'],
    ]);
  });

  it('changes the smallest integer into the REAL that is as small', async () => {
    const [a, b] = filled(ownership);
    a.write('UPDATE files SET size = -9223372036854775808 WHERE id < 9');
    b.pull(a);
    a.write('UPDATE files SET size = CAST(size AS REAL) WHERE id < 9');
    b.pull(a);
    expect(b.rows('SELECT DISTINCT typeof(size) FROM files WHERE id < 9')).toEqual([['real']]);
    await expectEqual(a, b);
  });

  it('takes the value that another one gives up, whichever comes first', async () => {
    const [a, b] = filled(ownership);
    a.write("UPDATE files SET name = 'gone', size = 0 WHERE id = 90");
    a.write("UPDATE files SET name = 'file 90' WHERE id = 10");
    a.write("UPDATE files SET name = 'file 10', note = 'last' WHERE id = 150");
    a.write('UPDATE files SET folder_id = 1, size = size + 1 WHERE id > 150');
    b.pull(a);
    const shown = 'SELECT id, folder_id, name, size, note FROM files ORDER BY id';
    await expectShown([a, b], shown, a.rows(shown));
  });

  it('waits alone when the table refuses it', async () => {
    const [a, b] = filled(ownership);
    b.write("INSERT INTO files (id, name) VALUES (1000, 'taken')");
    b.stamp();
    a.write('UPDATE files SET size = size + 1');
    a.write("UPDATE files SET name = 'taken' WHERE id = 100");
    for (const page of pagesFor(b, a, 1000)) b.apply('A', inTheMiddle(page));
    expect(b.waiting()).toEqual(['unique']);
    expect(b.rows('SELECT count(*) FROM files WHERE size = id + 1')).toEqual([[ROWS - 1]]);
    converge([a, b]);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });
});

it.each([499, 700])('[A19] goes for tables of %i columns as well', async (count) => {
  const names = Array.from({ length: count }, (_, i) => `c${i}`);
  const [a, b] = pairOf(`CREATE TABLE wide (id INTEGER PRIMARY KEY, ${names.join(', ')})`);
  a.write(
    `INSERT INTO wide (${names.join(', ')}) VALUES (${names.map((_, i) => i).join(', ')}), (${names.map(() => "'x'").join(', ')})`,
  );
  converge([a, b]);
  a.write(`UPDATE wide SET c0 = 'first', ${names.at(-1)} = 'last'`);
  b.pull(a);
  await expectShown([a, b], `SELECT c0, c1, ${names.at(-1)} FROM wide ORDER BY id`, [
    ['first', 1, 'last'],
    ['first', 'x', 'last'],
  ]);
});
