/** Group S of docs/spec.md: names, and what plain SQLite cannot read or write. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { initLibraryFile } from '../../src/db/setup.ts';
import { surroundingsOf } from '../support/surroundings.ts';
import { expectEqual, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';

const NAMES = [
  'select',
  'table',
  'values',
  'order by',
  'a "quoted" one',
  "it's",
  '[brackets]',
  'back`tick',
  'per%cent; -- no comment',
  'line\nbreak',
  'Größe',
  '名前',
  '💡',
  'rowid',
  'old',
  'new',
  'key',
  'uuid',
  'k1',
  'm',
  't',
  'j',
  'constructor',
  'x.y',
  '?',
  ':name',
  '$1',
  '1st',
  ' ',
];
const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;

describe('names', () => {
  it.each(NAMES)('[S14] %j names a table, its columns, index, foreign key and trigger', async (name) => {
    const n = quote(name);
    const [a, b] = pairOf(
      `CREATE TABLE ${n} (id INTEGER PRIMARY KEY, ${n} TEXT, "up ${name.replaceAll('"', '""')}" INTEGER REFERENCES ${n} (id) ON DELETE SET NULL, UNIQUE (${n}));
       CREATE UNIQUE INDEX ${quote(`i ${name}`)} ON ${n} (lower(${n})) WHERE ${n} <> '';
       CREATE TABLE ${quote(`${name} 2`)} (${n} TEXT, id INTEGER REFERENCES ${n}, v, PRIMARY KEY (id, ${n}), FOREIGN KEY (${n}) REFERENCES ${n} (${n}) ON UPDATE CASCADE) WITHOUT ROWID;
       CREATE TRIGGER ${quote(`t ${name}`)} AFTER INSERT ON ${n} BEGIN INSERT INTO ${quote(`${name} 2`)} VALUES (new.${n}, new.id, 'made'); END`,
    );
    b.write(`INSERT INTO ${n} (${n}) VALUES ('mine')`);
    a.write(`INSERT INTO ${n} VALUES (1, 'x', NULL), (2, 'y', 1)`);
    converge([a, b]);
    b.write(
      `UPDATE ${n} SET ${n} = 'z' WHERE ${n} = 'y'; UPDATE ${quote(`${name} 2`)} SET v = 'changed' WHERE ${n} = 'x'`,
    );
    converge([a, b]);
    const all = `SELECT p.${n}, u.${n}, c.v FROM ${n} p LEFT JOIN ${n} u ON u.id = p."up ${name.replaceAll('"', '""')}" LEFT JOIN ${quote(`${name} 2`)} c ON c.id = p.id AND c.${n} = p.${n} ORDER BY 1`;
    expect(a.rows(all)).toEqual([
      ['mine', null, 'made'],
      ['x', null, 'changed'],
      ['z', 'x', 'made'],
    ]);
    expect(b.rows(all)).toEqual(a.rows(all));
    await expectEqual(a, b);
  });

  it('[S14] that a batch cannot carry are refused with what to do', () => {
    for (const ddl of [
      'CREATE TABLE "" (id INTEGER PRIMARY KEY)',
      'CREATE TABLE t (id INTEGER PRIMARY KEY, "" TEXT)',
      'CREATE TABLE t (id INTEGER PRIMARY KEY, __proto__ TEXT)',
      `CREATE TABLE t (id INTEGER PRIMARY KEY, "${'x'.repeat(2000)}" TEXT)`,
    ])
      expect(() => pairOf(ddl)).toThrow(/cannot sync. Rename it/);
  });

  it('[S14] are compared as SQLite does: the case of ASCII letters says nothing', async () => {
    const [a, b] = pairOf(
      'CREATE TABLE Parents (ID INTEGER PRIMARY KEY, Name TEXT UNIQUE); CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES PARENTS (id), n TEXT REFERENCES parents (NAME)); CREATE TRIGGER x AFTER INSERT ON c BEGIN UPDATE pARENTS SET name = name || 1 WHERE Id = new.p; END',
      { config: { tables: { PARENTS: { localColumns: [] } } } },
    );
    a.write("INSERT INTO parents VALUES (1, 'x'); INSERT INTO c (p) VALUES (1)");
    converge([a, b]);
    expect(b.rows('SELECT name FROM parents')).toEqual([['x1']]);
    await expectEqual(a, b);
  });

  it.each(['new', 'OLD'])(
    '[W3] rows that are evicted are deleted for all, also from a table called %s',
    async (name) => {
      const [a, b] = pairOf(`CREATE TABLE "${name}" (id INTEGER PRIMARY KEY, code TEXT, no INTEGER, note TEXT);
      CREATE UNIQUE INDEX codes ON "${name}" (code);
      CREATE UNIQUE INDEX places ON "${name}" (no) WHERE "${name}".note <> 'none';`);
      a.write(
        `INSERT INTO "${name}" VALUES (1, 'a', 1, 'one'), (2, 'b', 2, 'two'), (3, 'c', 3, 'three'), (4, 'd', 1, 'none')`,
      );
      converge([a, b]);
      b.write(`REPLACE INTO "${name}" SELECT id, 'a', 2, 'new' FROM "${name}" WHERE code = 'b'`);
      converge([a, b]);
      for (const replica of [a, b])
        expect(replica.rows(`SELECT code, note FROM "${name}" ORDER BY code`)).toEqual([
          ['a', 'new'],
          ['c', 'three'],
          ['d', 'none'],
        ]);
      b.write(`UPDATE OR REPLACE "${name}" SET no = 3, note = 'shown' WHERE code = 'd'`);
      converge([a, b]);
      for (const replica of [a, b])
        expect(replica.rows(`SELECT code FROM "${name}" ORDER BY code`)).toEqual([['a'], ['d']]);
      await expectEqual(a, b);
    },
  );
});

describe('init', () => {
  let folder = '';
  let count = 0;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flotilla-names-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const init = (build: (db: Sqlite.Database) => void, config: object = {}): unknown => {
    count += 1;
    const file = join(folder, `${count}.db`);
    const db = new Sqlite(file);
    build(db);
    db.close();
    const before = new Sqlite(file).prepare('SELECT count(*) FROM sqlite_schema').pluck().get();
    try {
      return initLibraryFile({ file, name: 'n', around: surroundingsOf('d') }, null, JSON.stringify(config));
    } catch (error) {
      const after = new Sqlite(file).prepare('SELECT count(*) FROM sqlite_schema').pluck().get();
      expect(after).toBe(before);
      throw error;
    }
  };

  it('[S15] refuses what has a name of ours: table, view, index or trigger, in any case', () => {
    const t = 'CREATE TABLE t (id INTEGER PRIMARY KEY, v)';
    for (const [ddl, what] of [
      ['CREATE TABLE flotilla_things (id INTEGER PRIMARY KEY)', 'table "flotilla_things"'],
      ['CREATE TABLE FLOTILLA_STATE (id INTEGER PRIMARY KEY)', 'table "FLOTILLA_STATE"'],
      ['CREATE VIEW flotilla_view AS SELECT 1', 'view "flotilla_view"'],
      [`${t}; CREATE INDEX flotilla_by_v ON t (v)`, 'index "flotilla_by_v"'],
      [`${t}; CREATE TRIGGER flotilla_1_insert AFTER INSERT ON t BEGIN SELECT 1; END`, 'trigger "flotilla_1_insert"'],
    ] as const)
      expect(() => init((db) => void db.exec(ddl))).toThrow(`The ${what} has a name that begins with flotilla_`);
    // Without the underscore it is anybody's.
    init(
      (db) =>
        void db.exec('CREATE TABLE flotilla (id INTEGER PRIMARY KEY); CREATE TABLE flotillas (id INTEGER PRIMARY KEY)'),
    );
  });

  it('[S16] refuses what plain SQLite cannot read or write: functions, collations and modules of one program', () => {
    const cases: ReadonlyArray<readonly [(db: Sqlite.Database) => void, RegExp]> = [
      [
        (db) => {
          db.function('mine', { deterministic: true }, (x: unknown) => x);
          db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v CHECK (mine(v)))');
        },
        /"t" cannot be used by plain SQLite, as the node has it: unknown function: mine\(\).*"sync": false/,
      ],
      [
        (db) => {
          db.function('mine', { deterministic: true }, (x: unknown) => x);
          db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v); CREATE INDEX i ON t (mine(v))');
        },
        /"t" cannot be used .*mine/,
      ],
      [
        (db) =>
          void db.exec(
            'CREATE TABLE t (id INTEGER PRIMARY KEY, v); CREATE TRIGGER x AFTER UPDATE ON t BEGIN SELECT mine(new.v); END',
          ),
        /"t" cannot be used .*mine/,
      ],
      [
        (db) =>
          void db.exec(
            'CREATE TABLE t (id INTEGER PRIMARY KEY, v); CREATE TRIGGER x AFTER DELETE ON t BEGIN INSERT INTO gone VALUES (1); END',
          ),
        /"t" cannot be used .*no such table: main\.gone/,
      ],
    ];
    for (const [build, message] of cases) expect(() => init(build)).toThrow(message);
    // Left out it does no harm.
    init(cases[0]?.[0] as (db: Sqlite.Database) => void, { tables: { t: { sync: false } } });
  });
});
