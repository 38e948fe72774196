/** What `doctor` finds in a file, and that it leaves the file as it is. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { Examination, Finding } from '../../src/db/api.ts';
import { examineFile } from '../../src/db/examine.ts';
import { initLibraryFile } from '../../src/db/setup.ts';
import { surroundingsOf } from '../support/surroundings.ts';

let folder = '';
let file = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-doctor-'));
  file = join(folder, 'library.db');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(sql: string): void {
  const db = new Sqlite(file);
  db.pragma('foreign_keys = OFF');
  db.exec(sql);
  db.close();
}

/** Examines a file with this schema. */
function examine(sql: string, config?: object): Examination {
  write(sql);
  if (config !== undefined) writeFileSync(join(folder, 'flotilla.config.json'), JSON.stringify(config));
  return examineFile(file, null);
}

function init(): void {
  initLibraryFile({ file, name: 'n', around: surroundingsOf('d') }, null, null);
}

const told = (examination: Examination, level: Finding['level']): string[] =>
  examination.findings.filter((finding) => finding.level === level).map(({ rule, table }) => `${rule} ${table}`.trim());
const message = (examination: Examination, rule: string): string =>
  examination.findings.find((finding) => finding.rule === rule)?.message ?? '';

describe('examining a file', () => {
  it('[S17] changes nothing in it and beside it, initialised or not', () => {
    write('PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, v UNIQUE); INSERT INTO t (v) VALUES (1)');
    const state = (): unknown => [
      createHash('sha256').update(readFileSync(file)).digest('hex'),
      readdirSync(folder).filter((name) => !/-(?:wal|shm)$/.test(name)),
    ];
    const before = state();
    expect(examineFile(file, null)).toMatchObject({ initialised: false, libraryId: '', ok: true });
    expect(state()).toEqual(before);
    init();
    const after = state();
    const examination = examineFile(file, null);
    expect(examination).toMatchObject({ initialised: true, ok: true });
    expect(examination.libraryId).toHaveLength(32);
    expect(state()).toEqual(after);
  });

  it('[S18] tells of every table that cannot sync, not only of the first, and is not ok just when init refuses', () => {
    const examination = examine(`
      CREATE TABLE a (x); CREATE TABLE b (x); CREATE TABLE flotilla_c (id INTEGER PRIMARY KEY);
      CREATE TABLE d (id INTEGER PRIMARY KEY, g AS (id) STORED REFERENCES d (id));
      CREATE TABLE e (id INTEGER PRIMARY KEY, a TEXT REFERENCES a (x));
      CREATE TABLE f (id INTEGER PRIMARY KEY, v); CREATE TRIGGER t AFTER INSERT ON f BEGIN SELECT absent(1); END`);
    expect(told(examination, 'refusal').toSorted()).toEqual([
      'name-taken flotilla_c',
      'no-primary-key a',
      'no-primary-key b',
      'unsupported d',
      'unusable f',
    ]);
    expect(examination.ok).toBe(false);
    expect(examination.tables.filter((table) => table.syncs).map(({ table }) => table)).toEqual(['e', 'f']);
    expect(init).toThrow(/flotilla_c|primary key|cannot|absent/);
    // With the remedies that the messages name, init goes through.
    write(
      'DROP TABLE flotilla_c; DROP TRIGGER t; DROP TABLE d; DROP TABLE e; CREATE TABLE e (id INTEGER PRIMARY KEY, a TEXT)',
    );
    const mended = examine('', { tables: { a: { sync: false }, b: { sync: false } } });
    expect(mended.ok).toBe(true);
    init();
    expect(examineFile(file, null).ok).toBe(true);
  });

  it('[S18] tells what is wrong with the configuration, or with the whole file', () => {
    const examination = examine('CREATE TABLE t (id INTEGER PRIMARY KEY)', { tables: { absent: {} } });
    expect(told(examination, 'refusal')).toEqual(['configuration']);
    expect(examination).toMatchObject({ ok: false, tables: [] });
    writeFileSync(file, 'no database at all, but long enough to be looked at as one, one would think');
    expect(() => examineFile(file, null)).toThrow(/not an SQLite database/);
    expect(() => examineFile(join(folder, 'absent.db'), null)).toThrow(/There is no file/);
  });

  it('finds rows that refer to nothing: a problem, though init would take them', () => {
    const examination = examine(
      'CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p); CREATE INDEX i ON c (p); INSERT INTO c VALUES (1, 7), (2, 8), (3, NULL)',
    );
    expect(told(examination, 'problem')).toEqual(['foreign-key c']);
    expect(message(examination, 'foreign-key')).toMatch(/^2 rows refer to a row of "p".*foreign_key_check\("c"\)/);
    expect(examination.ok).toBe(false);
  });

  it('says what works otherwise than one may think, and nothing of what is as it should be', () => {
    const good = examine(`PRAGMA journal_mode = WAL; CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE c (p INTEGER NOT NULL REFERENCES p (id), k TEXT NOT NULL, PRIMARY KEY (p, k)) WITHOUT ROWID;
      CREATE TABLE d (id INTEGER PRIMARY KEY REFERENCES p (id), p INTEGER, k TEXT, FOREIGN KEY (k, p) REFERENCES c (k, p)); CREATE INDEX i ON d (p, k, id);
      CREATE VIRTUAL TABLE s USING fts5 (name, content = 'p', content_rowid = 'id'); CREATE TRIGGER fed AFTER INSERT ON p BEGIN INSERT INTO s (rowid, name) VALUES (new.id, new.name); END`);
    expect(good).toMatchObject({ ok: true, findings: [] });
  });

  it.each([
    ['number-as-name', 'CREATE TABLE t (id INT PRIMARY KEY, v)', /"id" of "t" is a number.*INTEGER PRIMARY KEY/],
    [
      'null-in-key',
      'CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t (v) VALUES (1), (2)',
      /^2 rows of "t" have NULL/,
    ],
    ['unique-values', 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)', /"identity": \["name"\]/],
    [
      'foreign-key-index',
      'CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p)',
      /CREATE INDEX … ON "t" \("p"\)/,
    ],
    [
      'reference-without-foreign-key',
      'CREATE TABLE categories (id INTEGER PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY, category_id INTEGER)',
      /looks like a reference to "categories".*REFERENCES/,
    ],
    [
      'table-hides-row',
      'CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE Old (id INTEGER PRIMARY KEY REFERENCES p ON DELETE CASCADE ON UPDATE SET NULL); CREATE TABLE new (id INTEGER PRIMARY KEY REFERENCES p ON DELETE CASCADE ON UPDATE SET NULL)',
      /"Old" for the row of "p".*ON DELETE CASCADE and ON UPDATE SET NULL of \(id\)/,
    ],
    [
      'table-hides-row',
      'CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE new (id INTEGER PRIMARY KEY REFERENCES p ON UPDATE CASCADE); CREATE TABLE old (id INTEGER PRIMARY KEY REFERENCES p)',
      /"new" for the row of "p".*ON UPDATE CASCADE of \(id\)/,
    ],
    [
      'huge-row',
      'CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); INSERT INTO t VALUES (1, zeroblob(20000000), zeroblob(20000000)), (2, 1, 1)',
      /^1 row of "t" is larger than 31 MiB/,
    ],
    [
      'guarded-trigger',
      'CREATE TABLE t (id INTEGER PRIMARY KEY, at); CREATE TRIGGER x AFTER UPDATE ON t BEGIN UPDATE t SET at = 1; END',
      /"x" of "t" writes to "t".*gets.*guard/,
    ],
    [
      'refusing-trigger',
      'CREATE TABLE t (id INTEGER PRIMARY KEY, v); CREATE TRIGGER x BEFORE INSERT ON t WHEN new.v < 0 BEGIN SELECT RAISE(ABORT, 1); END',
      /"x" of "t" may refuse rows/,
    ],
    [
      'overridden-or-clause',
      'CREATE TABLE l (k PRIMARY KEY); CREATE TABLE v (x); CREATE TABLE t (id INTEGER PRIMARY KEY, v UNIQUE ON CONFLICT IGNORE); CREATE TRIGGER x AFTER INSERT ON t BEGIN INSERT OR IGNORE INTO v VALUES (1); END',
      /OR clauses do not count/,
    ],
    [
      'unfed-virtual-table',
      'CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE VIRTUAL TABLE s USING fts5 (x)',
      /"s" is a virtual table/,
    ],
    ['journal-mode', 'PRAGMA journal_mode = DELETE; CREATE TABLE t (id INTEGER PRIMARY KEY)', /journal mode delete/],
  ])('advises: %s', (rule, sql, says) => {
    const examination = examine(sql, {
      tables: Object.fromEntries(/TABLE v /.test(sql) ? [['v', { sync: false }]] : []),
    });
    expect(told(examination, 'advice').map((one) => one.split(' ')[0])).toContain(rule);
    expect(message(examination, rule)).toMatch(says);
    expect(examination.ok).toBe(true);
  });

  it('tells of a guard that is there already, and of a schema that has changed since init', () => {
    write(
      'CREATE TABLE t (id INTEGER PRIMARY KEY, at); CREATE TRIGGER x AFTER UPDATE ON t BEGIN UPDATE t SET at = 1; END',
    );
    init();
    expect(message(examineFile(file, null), 'guarded-trigger')).toMatch(/WHEN clause has the guard/);
    write('ALTER TABLE t ADD COLUMN more');
    expect(told(examineFile(file, null), 'advice')).toContain('schema-changed');
  });
});
