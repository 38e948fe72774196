/**
 * What SQL lets a program do to the tables of `written.ts`, in statements that SQLite 3.40 takes. Each works whether foreign keys
 * are on or off, though it does something else then.
 */
import { OFFICE_ROWS } from './written.ts';

export const REPERTOIRE: Readonly<Record<string, string>> = {
  'UPSERT, by the key and by another unique column': `
    INSERT INTO people (id, name, note) VALUES (1, 'Ada', 'upserted') ON CONFLICT (id) DO UPDATE SET note = excluded.note;
    INSERT INTO people (name, note) VALUES ('BEN', 'by name'), ('Eve', 'new') ON CONFLICT (name) DO UPDATE SET note = excluded.note, name = excluded.name;
    INSERT INTO teams (code) VALUES ('core'), ('new') ON CONFLICT DO NOTHING;`,
  'REPLACE that takes the place of other rows': `
    REPLACE INTO people (id, name) VALUES (40, 'dan');
    REPLACE INTO people (id, name, note) VALUES (3, 'Cleo', 'again');
    INSERT OR REPLACE INTO memberships (person, team, since) VALUES (2, 'core', 99), (1, 'ops', 1);`,
  'UPDATE OR REPLACE': `
    UPDATE OR REPLACE people SET name = 'CLEO' WHERE id = 4;
    UPDATE OR REPLACE memberships SET team = 'ops' WHERE person = 2;`,
  'INSERT OR IGNORE and UPDATE OR IGNORE': `
    INSERT OR IGNORE INTO people (id, name) VALUES (1, 'nobody'), (50, 'ada'), (51, 'Fay');
    UPDATE OR IGNORE people SET name = 'Ada' WHERE id > 1;
    INSERT OR IGNORE INTO teams (code, title) VALUES ('bad', NULL), ('good', 'Good');`,
  'UPDATE FROM and DELETE with a query': `
    UPDATE tasks SET title = tasks.title || ' in ' || p.title, done = p.id FROM projects p WHERE p.id = tasks.project AND p.id < 3;
    WITH old (id) AS (SELECT max(id) FROM tasks) DELETE FROM tasks WHERE id IN (SELECT id FROM old);`,
  'changed keys, one after the other and swapped': `
    UPDATE projects SET id = id + 100 WHERE id = 3;
    UPDATE tasks SET id = -1 WHERE id = 5; UPDATE tasks SET id = 5 WHERE id = 6; UPDATE tasks SET id = 6 WHERE id = -1;
    UPDATE teams SET code = 'operations', title = 'Renamed' WHERE code = 'ops';
    UPDATE memberships SET team = 'none' WHERE person = 1;`,
  'a delete that takes a tree along': `DELETE FROM projects WHERE id = 1; DELETE FROM tasks WHERE id = 4;`,
  'a delete that empties references': `DELETE FROM people WHERE name IN ('Ada', 'Ben');`,
  'a delete that puts the default in their place': `DELETE FROM teams WHERE code IN ('core', 'ops');`,
  'DELETE without WHERE, and filled again': `
    DELETE FROM memberships;
    INSERT INTO memberships (person, team, since) SELECT id, 'none', id * 0.5 FROM people WHERE id IN (SELECT owner FROM tasks);
    DELETE FROM tasks; DELETE FROM projects;
    INSERT INTO projects (title, team) VALUES ('From scratch', 'none');`,
  'ids that are used again': `
    DELETE FROM tasks WHERE id = 6; INSERT INTO tasks (id, project, title) VALUES (6, 2, 'another one');
    DELETE FROM people WHERE id = 4; INSERT INTO people (name) VALUES ('Gus');
    DELETE FROM projects WHERE id = 3; INSERT INTO projects (title) VALUES ('a later id');`,
  'savepoints, some rolled back': `
    BEGIN; INSERT INTO people (name) VALUES ('outer');
    SAVEPOINT a; INSERT INTO people (name) VALUES ('lost'); DELETE FROM tasks;
    SAVEPOINT b; UPDATE people SET note = 'lost' WHERE id = 1; RELEASE b; ROLLBACK TO a;
    INSERT INTO people (name) VALUES ('inner'); RELEASE a; COMMIT;`,
  'a transaction that is rolled back': `
    BEGIN; DELETE FROM people; UPDATE teams SET title = 'lost'; ROLLBACK;
    INSERT INTO people (name, note) VALUES ('after', NULL);`,
  'a write and its opposite in one transaction': `
    BEGIN IMMEDIATE; INSERT INTO people (id, name) VALUES (70, 'brief'); DELETE FROM people WHERE id = 70;
    UPDATE teams SET title = 'x' WHERE code = 'core'; UPDATE teams SET title = 'Core' WHERE code = 'core'; COMMIT;`,
  'references that hold at the commit only': `
    BEGIN; PRAGMA defer_foreign_keys = ON;
    INSERT INTO tasks (id, project, parent, title) VALUES (81, 90, 82, 'child first'), (82, 90, NULL, 'then the parent');
    INSERT INTO projects (id, title) VALUES (90, 'last of all'); COMMIT;`,
  'rows of another file and of a temporary table': `
    ATTACH ':memory:' AS aside; CREATE TABLE aside.people (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO aside.people VALUES (1, 'from aside');
    CREATE TEMP TABLE tasks (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO temp.tasks VALUES (1, 'temporary');
    INSERT INTO main.people (name) SELECT name FROM aside.people;
    UPDATE main.tasks SET title = (SELECT title FROM temp.tasks WHERE id = 1) WHERE id = 1;
    DROP TABLE temp.tasks; DETACH aside;`,
  'recursive triggers on, which fire what REPLACE deletes': `
    PRAGMA recursive_triggers = ON; REPLACE INTO people (id, name) VALUES (41, 'Ben'); UPDATE OR REPLACE people SET name = 'Cleo' WHERE id = 4;`,
  'many rows of a recursive query, changed at once': `
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
      INSERT INTO tasks (project, owner, title) SELECT 1 + i % 3, 1 + i % 4, 'row ' || i FROM n;
    UPDATE tasks SET title = title || CASE id % 2 WHEN 0 THEN '' ELSE '!' END, done = id % 5;`,
  'VACUUM after deletes': `
    DELETE FROM memberships WHERE person = 1; DELETE FROM tasks WHERE id IN (1, 4); VACUUM;
    UPDATE memberships SET since = 7 WHERE person = 4; INSERT INTO teams (code) VALUES ('after the vacuum');`,
};

/** Everything that there was, once more, under the ids of what has just been deleted. */
export const RESET = `
  DELETE FROM memberships; DELETE FROM tasks; DELETE FROM projects; DELETE FROM people; DELETE FROM teams;
  ${OFFICE_ROWS}`;

/** Brings back to order what is left of references when somebody wrote without foreign keys. */
export const REPAIR = `
  UPDATE people SET boss = NULL WHERE boss NOT IN (SELECT id FROM people);
  UPDATE projects SET team = NULL WHERE team NOT IN (SELECT code FROM teams);
  DELETE FROM tasks WHERE project NOT IN (SELECT id FROM projects);
  UPDATE tasks SET parent = NULL WHERE parent NOT IN (SELECT id FROM tasks);
  UPDATE tasks SET owner = NULL WHERE owner NOT IN (SELECT id FROM people);
  DELETE FROM memberships WHERE person NOT IN (SELECT id FROM people) OR team NOT IN (SELECT code FROM teams);`;
