/**
 * A library file that outside programs write to, its twin without Flotilla, and another copy that takes what was written: what
 * the tests of writers are made of.
 */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import type { Database } from 'better-sqlite3';
import { expect } from 'vitest';

import { contentsOf } from './contents.ts';
import { expectEqual } from './engine.ts';
import { quoted, readFacts } from './facts.ts';
import { converge, Replica } from './replica.ts';
import type { ReplicaOptions } from './replica.ts';

/** Tables with every action of a foreign key, every kind of key, and values that must be unique. */
export const OFFICE_DDL = `
  CREATE TABLE people (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE COLLATE NOCASE, boss INTEGER REFERENCES people (id) ON DELETE SET NULL, note
  );
  CREATE TABLE teams (code TEXT PRIMARY KEY, title TEXT NOT NULL DEFAULT 'untitled');
  CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT,
    team TEXT DEFAULT 'none' REFERENCES teams (code) ON UPDATE CASCADE ON DELETE SET DEFAULT
  );
  CREATE TABLE tasks (
    id INTEGER PRIMARY KEY, project INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE ON UPDATE CASCADE,
    parent INTEGER REFERENCES tasks (id) ON DELETE CASCADE, owner INTEGER REFERENCES people (id) ON DELETE SET NULL ON UPDATE CASCADE,
    title TEXT, done INTEGER DEFAULT 0
  );
  CREATE UNIQUE INDEX tasks_open ON tasks (project, lower(title)) WHERE done = 0;
  CREATE TABLE memberships (
    person INTEGER REFERENCES people (id) ON DELETE CASCADE, team TEXT REFERENCES teams (code) ON DELETE CASCADE ON UPDATE CASCADE,
    since REAL, PRIMARY KEY (person, team)
  );`;

export const OFFICE_ROWS = `
  INSERT INTO people (id, name, boss, note) VALUES (1, 'Ada', NULL, 1), (2, 'Ben', 1, 2.5), (3, 'Cleo', 1, x'00ff'), (4, 'Dan', 2, NULL);
  INSERT INTO teams (code, title) VALUES ('none', 'Nobody'), ('core', 'Core'), ('ops', 'Operations');
  INSERT INTO projects (id, title, team) VALUES (1, 'Attic', 'core'), (2, 'Barn', 'ops'), (3, 'Cellar', 'ops');
  INSERT INTO tasks (id, project, parent, owner, title) VALUES
    (1, 1, NULL, 1, 'sweep'), (2, 1, 1, 2, 'find a broom'), (3, 1, 2, 3, 'ask'), (4, 2, NULL, 2, 'paint'), (5, 2, 4, NULL, 'buy paint'), (6, 3, NULL, 4, 'dig');
  INSERT INTO memberships (person, team, since) VALUES (1, 'core', 1), (2, 'core', 2.5), (2, 'ops', 3), (4, 'ops', NULL);`;

export class Written {
  readonly folder: string;
  /** The library that is written to: its file, and the node's connection. */
  readonly file: string;
  readonly library: Replica;
  /** The same tables in a file that knows nothing of Flotilla. */
  readonly plainFile: string;
  readonly plain: Database;
  /** Another copy, on another device, with ids of its own. */
  readonly other: Replica;

  constructor(ddl = OFFICE_DDL, before = OFFICE_ROWS, options: Pick<ReplicaOptions, 'now'> = {}) {
    this.folder = mkdtempSync(join(realpathSync(tmpdir()), 'flotilla-writers-'));
    this.file = join(this.folder, 'library.db');
    this.plainFile = join(this.folder, 'plain.db');
    this.library = new Replica({ ...options, device: 'A', ddl, before, file: this.file });
    this.other = new Replica({ ...options, device: 'B', ddl });
    this.plain = new Sqlite(this.plainFile);
    this.plain.pragma('journal_mode = WAL');
    this.plain.exec(ddl);
    this.plain.exec(before);
    converge([this.library, this.other]);
  }

  /** For the end of the test. */
  close(): void {
    this.library.db.close();
    this.other.db.close();
    this.plain.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Every row as the program sees it, ids and all. */
  seen(db: Database): Record<string, unknown[]> {
    return Object.fromEntries(
      [...readFacts(db).values()].map(({ name, columns }) => [
        name,
        db
          .prepare(
            `SELECT ${columns.map((column) => `quote(${quoted(column.name)}), typeof(${quoted(column.name)})`).join(', ')}
             FROM ${quoted(name)} ORDER BY 1, 3`,
          )
          .raw()
          .all(),
      ]),
    );
  }

  /** The file holds what it would hold without capture. */
  expectUndisturbed(): void {
    expect(this.seen(this.library.db)).toEqual(this.seen(this.plain));
  }

  /** The other copy comes to hold the same. */
  async expectArrival(): Promise<void> {
    converge([this.library, this.other]);
    expect(this.library.rows('SELECT * FROM flotilla_marks')).toEqual([]);
    expect(this.library.waiting()).toEqual([]);
    expect(this.other.waiting()).toEqual([]);
    const facts = readFacts(this.library.db);
    expect(contentsOf(this.other.db, facts)).toEqual(contentsOf(this.library.db, facts));
    await expectEqual(this.library, this.other);
  }
}
