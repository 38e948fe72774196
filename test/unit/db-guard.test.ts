/**
 * Triggers of the user's that write to synced tables: run where a row is written, and nowhere else when it arrives.
 */
import { describe, expect, it } from 'vitest';

import { withGuard, writesTo } from '../../src/db/guard.ts';
import { Replica, converge } from '../support/replica.ts';

const GUARD = '(SELECT suspended FROM flotilla_capture) IS NOT 1';

describe('the guard', () => {
  it('is added to a trigger without a condition', () => {
    expect(withGuard('CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; END')).toBe(
      `CREATE TRIGGER a AFTER INSERT ON t\nWHEN ${GUARD}\nBEGIN SELECT 1; END`,
    );
  });

  it('comes before a condition that is there, comments and strings and all', () => {
    const sql =
      "CREATE TRIGGER \"when begin\" BEFORE UPDATE ON t -- WHEN\nWHEN new.a = 'BEGIN' OR old.b -- why\nBEGIN SELECT 'WHEN'; END";
    expect(withGuard(sql)).toBe(
      `CREATE TRIGGER "when begin" BEFORE UPDATE ON t -- WHEN\nWHEN ${GUARD} AND ( new.a = 'BEGIN' OR old.b -- why\n\n)\nBEGIN SELECT 'WHEN'; END`,
    );
  });

  it.each([
    ['INSERT INTO notes VALUES (1);', true],
    ['insert or replace into "notes" (a) VALUES (1);', true],
    ['REPLACE INTO main.notes VALUES (1);', true],
    ['UPDATE OR IGNORE [notes] SET a = 1;', true],
    ['UPDATE `Notes` SET a = 1;', true],
    ['DELETE FROM notes;', true],
    ['INSERT INTO log SELECT a FROM notes;', false],
    ['INSERT INTO notes2 VALUES (1);', false],
    ["INSERT INTO log VALUES ('DELETE FROM notes');", false],
    ['/* UPDATE notes */ UPDATE log SET a = (SELECT max(a) FROM notes);', false],
    ['INSERT INTO log VALUES (1) ON CONFLICT DO UPDATE SET a = 2;', false],
  ])('%s writes to the table: %s', (body, expected) => {
    expect(writesTo(`CREATE TRIGGER t AFTER UPDATE ON notes BEGIN ${body} END`, 'notes')).toBe(expected);
  });
});

describe('a trigger that counts edits in the row itself', () => {
  const ddl = `
    CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT, edits INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE log (id INTEGER PRIMARY KEY, line TEXT);
    CREATE TRIGGER edited AFTER UPDATE OF title ON notes WHEN old.title IS NOT new.title
      BEGIN UPDATE notes SET edits = edits + 1 WHERE id = new.id; END;
    CREATE TRIGGER logged AFTER UPDATE ON notes BEGIN INSERT INTO log (line) VALUES (new.title); END;`;
  const config = { tables: { log: { sync: false } } };

  it('counts once, on the device that edits, and all copies are equal', async () => {
    const [a, b] = [new Replica({ device: 'A', ddl, config }), new Replica({ device: 'B', ddl, config })];
    a.write("INSERT INTO notes (id, title) VALUES (1, 'one')");
    converge([a, b]);
    a.write("UPDATE notes SET title = 'two'");
    converge([a, b]);
    b.write("UPDATE notes SET title = 'three'");
    converge([a, b]);
    expect(a.rows('SELECT title, edits FROM notes')).toEqual([['three', 2]]);
    expect(b.rows('SELECT title, edits FROM notes')).toEqual([['three', 2]]);
    expect(await a.digest()).toEqual(await b.digest());
    // The local table is kept everywhere.
    expect(Number(b.rows('SELECT count(*) FROM log')[0]?.[0])).toBeGreaterThan(0);
  });
});
