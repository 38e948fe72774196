/**
 * Libraries as files: init, what a newcomer builds from a grant, the lock, what status and checks say. Without workers.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import Sqlite from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { fileAccess } from '../../src/db/access.ts';
import type { JoinGrant } from '../../src/db/api.ts';
import { openForWriting } from '../../src/db/open.ts';
import { Reader } from '../../src/db/reader.ts';
import { createFromGrant, initLibraryFile, tryGrant } from '../../src/db/setup.ts';
import { STAMP_SLICE } from '../../src/db/stamp.ts';
import { Writer } from '../../src/db/writer.ts';
import { until } from '../support/until.ts';
import { surroundingsOf } from '../support/surroundings.ts';

const SCHEMA = `
  CREATE TABLE folders (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, name TEXT NOT NULL);
  CREATE TABLE notes (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folders (id) ON DELETE SET NULL, body TEXT, draft TEXT);
  CREATE TABLE log (id INTEGER PRIMARY KEY, line TEXT);
  CREATE INDEX notes_folder ON notes (folder_id);
  CREATE VIEW titles AS SELECT id, substr(body, 1, 10) AS title FROM notes;
  CREATE TRIGGER notes_log AFTER INSERT ON notes BEGIN INSERT INTO log (line) SELECT 'note ' || new.id FROM notes WHERE id = new.id; END;
  CREATE TRIGGER notes_folder_default AFTER INSERT ON notes WHEN new.folder_id IS NULL BEGIN UPDATE notes SET body = trim(body) WHERE id = new.id; END;
  CREATE VIRTUAL TABLE search USING fts5 (body);
  PRAGMA user_version = 7;
`;
const CONFIG = JSON.stringify({ tables: { log: { sync: false }, notes: { localColumns: ['draft'] } } });
const ROWS = `
  INSERT INTO folders VALUES (1, NULL, 'root'), (2, 1, 'sub');
  INSERT INTO notes (id, folder_id, body, draft) VALUES (5, 2, 'hello', 'mine'), (6, NULL, 'loose', NULL);
`;

let folder: string;
const closers: (() => void)[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-files-'));
});
afterEach(() => {
  for (const close of closers.splice(0)) close();
  rmSync(folder, { recursive: true, force: true });
});

function path(name: string): string {
  return join(folder, name);
}

function make(name: string, ...sql: string[]): string {
  const db = new Sqlite(path(name));
  for (const text of sql) db.exec(text);
  db.close();
  return path(name);
}

function init(file: string, device = 'A', config: string | null = CONFIG) {
  return initLibraryFile({ file, name: `name of ${device}`, around: surroundingsOf(device, file) }, null, config);
}

function reader(file: string): Reader {
  const opened = new Reader(file);
  closers.push(() => opened.close());
  return opened;
}

function fail(error: unknown): never {
  throw error;
}

function writer(file: string, device: string): Writer {
  const opened = new Writer(file, 'normal', surroundingsOf(device, file), () => undefined, fail);
  closers.push(() => opened.close());
  return opened;
}

function grantOf(file: string): JoinGrant {
  return reader(file).joinGrant();
}

function newcomer(file: string, grant: JoinGrant, existing: 'empty' | 'union' | 'same' = 'empty') {
  return createFromGrant({ file, name: 'newcomer', around: surroundingsOf('B', file) }, { grant, existing });
}

/** Everything that `from` has goes to `to`. @param between - what happens after each page */
function send(from: string, to: Writer, between: () => void = () => undefined): void {
  const source = reader(from);
  const { feed } = source.openFeed('B', null, { runs: new Uint8Array(), hlc: [] }, 'ordinary', '');
  for (;;) {
    const page = source.page(feed, { rows: 2, bytes: 1 << 20 });
    if (!('data' in page) || page.data === null) throw new Error('the feed has nothing to send');
    if (to.apply('A', [new Uint8Array(page.data)])[0]?.complete === true) return;
    between();
  }
}

function digestOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

function all(file: string, sql: string): unknown[][] {
  const db = new Sqlite(file, { readonly: true });
  try {
    return db.prepare(sql).raw().all() as unknown[][];
  } finally {
    db.close();
  }
}

describe('init', () => {
  it('reports what syncs, stamps what is there, and makes the device a member', () => {
    const report = init(make('a.db', SCHEMA, ROWS));
    expect(report.created).toBe(true);
    expect(report.stampedRows).toBe(4);
    const byTable = new Map(report.tables.map((table) => [table.table, table]));
    expect(byTable.get('notes')).toMatchObject({
      syncs: true,
      rows: 2,
      identity: 'uuid v7',
      references: ['folder_id → folders'],
      localColumns: ['draft'],
    });
    expect(byTable.get('log')).toMatchObject({ syncs: false });
    expect(byTable.get('search')?.reason).not.toBe('');
    expect(reader(path('a.db')).status().members).toMatchObject([{ device: 'A', name: 'name of A', invitedBy: '' }]);
  });

  it('done twice changes nothing; with another configuration it is refused', () => {
    const file = make('a.db', SCHEMA, ROWS);
    const first = init(file);
    expect(init(file)).toMatchObject({ libraryId: first.libraryId, created: false, stampedRows: 0 });
    expect(() => init(file, 'A', '{"ownership":"device"}')).toThrowError(
      expect.objectContaining({ code: 'ALREADY_INITIALISED' }),
    );
  });

  it.each([
    ['a table without a primary key', 'CREATE TABLE loose (a, b)', 'NO_PRIMARY_KEY'],
    [
      'a table that refers to one that does not sync',
      'CREATE TABLE x (id INTEGER PRIMARY KEY, l INTEGER REFERENCES log (id))',
      'UNSUPPORTED_SCHEMA',
    ],
  ])('refuses %s, and leaves the file as it was', (_, sql, code) => {
    const file = make('a.db', SCHEMA, ROWS, sql);
    const before = digestOf(file);
    expect(() => init(file)).toThrowError(expect.objectContaining({ code }));
    expect(digestOf(file)).toBe(before);
    expect(readdirSync(folder)).toEqual(['a.db']);
  });

  it('refuses what is no database', () => {
    writeFileSync(path('a.db'), 'this is a text file and no database at all');
    expect(() => init(path('a.db'))).toThrowError(expect.objectContaining({ code: 'NOT_A_DATABASE' }));
    expect(() => init(path('none.db'))).toThrowError(expect.objectContaining({ code: 'NO_SUCH_FILE' }));
    expect(existsSync(path('none.db'))).toBe(false);
  });
});

describe('a newcomer', () => {
  it('builds the same schema, triggers that write to synced tables with their guard', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    const grant = grantOf(a);
    expect(grant.omitted).toEqual([]);
    const report = newcomer(path('b.db'), grant);
    expect(report).toMatchObject({ libraryId: grant.libraryId, created: true, stampedRows: 0 });
    const names =
      "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'flotilla%' AND name NOT LIKE 'sqlite%' ORDER BY name";
    expect(all(path('b.db'), names)).toEqual(all(a, names));
    const guarded =
      "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name NOT LIKE 'flotilla%' AND sql LIKE '%flotilla_capture%'";
    expect(all(a, guarded)).toEqual([['notes_folder_default']]);
    expect(all(path('b.db'), guarded)).toEqual([['notes_folder_default']]);
    expect(all(path('b.db'), 'PRAGMA user_version')).toEqual([[7]]);
    expect(reader(path('b.db')).status().members).toMatchObject([{ device: 'A' }]);
  });

  it('builds nothing that needs a module which its SQLite may lack, and is told so', () => {
    const a = make('a.db', SCHEMA, ROWS, 'CREATE VIRTUAL TABLE sizes USING dbstat');
    init(a);
    const grant = grantOf(a);
    expect(grant.omitted).toEqual([{ name: 'sizes', reason: 'it needs the extension dbstat' }]);
    newcomer(path('b.db'), grant);
    const virtual = "SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE%'";
    expect(all(path('b.db'), virtual)).toEqual([['search']]);
  });

  it('receives the rows under ids of its own, and keeps its local columns', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    newcomer(path('b.db'), grantOf(a));
    const b = writer(path('b.db'), 'B');
    send(a, b);
    expect(
      all(path('b.db'), 'SELECT f.name, p.name FROM folders f LEFT JOIN folders p ON p.id = f.parent_id ORDER BY 1'),
    ).toEqual([
      ['root', null],
      ['sub', 'root'],
    ]);
    expect(all(path('b.db'), 'SELECT body, draft FROM notes ORDER BY body')).toEqual([
      ['hello', null],
      ['loose', null],
    ]);
    // The user's trigger fired for its local table.
    expect(all(path('b.db'), 'SELECT count(*) FROM log')).toEqual([[2]]);
  });

  it('with rows must say what they are; refused, the file stays as it was', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    const b = make('b.db', SCHEMA, "INSERT INTO folders VALUES (9, NULL, 'other')");
    const before = digestOf(b);
    const options = { file: b, name: 'newcomer', around: surroundingsOf('B', b) };
    expect(() => tryGrant(options, { grant: grantOf(a), existing: 'empty' })).toThrowError(
      expect.objectContaining({ code: 'LIBRARY_NOT_EMPTY' }),
    );
    expect(() => newcomer(b, grantOf(a))).toThrowError(expect.objectContaining({ code: 'LIBRARY_NOT_EMPTY' }));
    expect(all(b, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'flotilla%'")).toEqual([[0]]);
    expect(tryGrant(options, { grant: grantOf(a), existing: 'union' })).toBeUndefined();
    expect(digestOf(b)).toBe(before);
    expect(newcomer(b, grantOf(a), 'union')).toMatchObject({ stampedRows: 1 });
  });

  it('with a copy pairs equal rows, parents first, and keeps what only it has', () => {
    const a = make('a.db', SCHEMA, ROWS);
    // The copy has other ids, and one row more.
    const b = make(
      'b.db',
      SCHEMA,
      "INSERT INTO folders VALUES (40, NULL, 'root'), (30, 40, 'sub'), (20, 30, 'only here'); INSERT INTO notes (id, folder_id, body) VALUES (1, 30, 'hello')",
    );
    init(a);
    newcomer(b, grantOf(a), 'same');
    send(a, writer(b, 'B'));
    expect(all(b, 'SELECT id, parent_id, name FROM folders ORDER BY id')).toEqual([
      [20, 30, 'only here'],
      [30, 40, 'sub'],
      [40, null, 'root'],
    ]);
    expect(all(b, 'SELECT body, folder_id FROM notes ORDER BY body')).toEqual([
      ['hello', 30],
      ['loose', null],
    ]);
    const status = reader(b).status();
    expect(status.tables.find((table) => table.table === 'folders')?.rows).toBe(3);
    expect(status.waitingCount).toBe(0);
  });

  it('with a copy pairs no row that a command has given an identity meanwhile', () => {
    const owned = JSON.stringify({ tables: { notes: { ownership: 'device' } } });
    const schema = `CREATE TABLE folders (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
      CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)`;
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    const rows = `INSERT INTO folders (name) VALUES ${names.map((name) => `('${name}')`).join(', ')}`;
    const [a, b] = [make('a.db', schema, rows), make('b.db', schema, rows)];
    init(a, 'A', owned);
    newcomer(b, grantOf(a), 'same');
    const receiver = writer(b, 'B');
    let isFirst = true;
    send(a, receiver, () => {
      if (!isFirst) return;
      isFirst = false;
      const db = new Sqlite(b);
      db.exec("UPDATE folders SET name = 'mine' WHERE name = 'f'; INSERT INTO notes VALUES (1, 'mine')");
      db.close();
      receiver.own({ table: 'notes', key: '1', device: 'A' });
    });
    expect(all(b, 'SELECT name FROM folders ORDER BY name')).toEqual([...names, 'mine'].map((name) => [name]));
    expect(all(b, 'SELECT count(*) FROM flotilla_rows_1 m JOIN folders f ON f.id = m.key')).toEqual([
      [names.length + 1],
    ]);
  });

  it('of another schema is refused before anything changes', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    const b = make('b.db', SCHEMA.replace('body TEXT', 'body BLOB'));
    const before = digestOf(b);
    const options = { file: b, name: 'newcomer', around: surroundingsOf('B', b) };
    expect(() => tryGrant(options, { grant: grantOf(a), existing: 'empty' })).toThrowError(
      expect.objectContaining({ code: 'SCHEMA_MISMATCH' }),
    );
    expect(digestOf(b)).toBe(before);
  });

  it('executes nothing that builds no schema', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    const grant = grantOf(a);
    for (const statement of [
      "ATTACH 'x' AS y",
      'DROP TABLE notes',
      'CREATE TABLE z (a); DROP TABLE z',
      'PRAGMA journal_mode = OFF',
    ]) {
      const bad = { ...grant, ddl: [...grant.ddl, statement] };
      expect(() => newcomer(path('b.db'), bad), statement).toThrow(/builds no schema|more than one statement/);
      expect(readdirSync(folder).filter((name) => name.startsWith('b.db'))).toEqual([]);
    }
  });
});

describe('a served library', () => {
  it('[A17] takes what has gathered in one transaction, unless another program has just written', () => {
    init(make('a.db', SCHEMA, ROWS));
    newcomer(path('b.db'), grantOf(path('a.db')));
    const source = reader(path('a.db'));
    const { feed } = source.openFeed('B', null, { runs: new Uint8Array(), hlc: [] }, 'ordinary', '');
    const pages = [1, 1].map((rows) => {
      const page = source.page(feed, { rows, bytes: 1 << 20 });
      if (!('data' in page) || page.data === null) throw new Error('the feed has nothing to send');
      return new Uint8Array(page.data);
    });
    let now = Date.now();
    let commits = 0;
    const reached = (point: string): void => void (commits += Number(point === 'apply: committed'));
    const around = { ...surroundingsOf('B', path('b.db')), now: () => now, reached };
    const served = new Writer(path('b.db'), 'normal', around, () => undefined, fail);
    closers.push(() => served.close());
    const commitsOf = (): number => {
      const before = commits;
      served.apply('A', pages);
      return commits - before;
    };
    expect(commitsOf()).toBe(1);
    make('b.db', "INSERT INTO log (line) VALUES ('of another program')");
    expect(commitsOf()).toBe(2);
    now += 1_000;
    expect(commitsOf()).toBe(1);
  });

  it.each([
    ['normal', 1],
    ['full', 2],
  ] as const)('is as durable as the user chose: %s', (durability, synchronous) => {
    const db = openForWriting(make('a.db', SCHEMA), durability);
    closers.push(() => db.close());
    expect(db.pragma('synchronous', { simple: true })).toBe(synchronous);
  });

  it('moves what a pass has left in the WAL to the file, a while later, and leaves what is little', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    const later: (() => void)[] = [];
    const access = { ...fileAccess, setTimeout: (work: () => void) => later.push(work), clearTimeout: () => undefined };
    const ignore = (): void => undefined;
    const node = new Writer(a, 'normal', surroundingsOf('A', a), ignore, fail, ignore, ignore, access);
    closers.push(() => node.close());
    const program = new Sqlite(a);
    closers.push(() => program.close());
    program.pragma('wal_autocheckpoint = 0');
    const pagesLeft = (): number => {
      const [{ log, checkpointed }] = program.pragma('wal_checkpoint(NOOP)') as [{ log: number; checkpointed: number }];
      return log - checkpointed;
    };
    const write = (rows: number): void => {
      program.exec(
        `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})
         INSERT INTO folders (name) SELECT hex(zeroblob(2000)) FROM n`,
      );
      node.stamp();
      for (const work of later.splice(0)) work();
    };
    write(300);
    expect(pagesLeft()).toBeGreaterThan(300);
    write(1_000);
    expect(pagesLeft()).toBe(0);
  });

  it('is locked against a second node, until the first one closes', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    const first = writer(a, 'A');
    expect(() => writer(a, 'A')).toThrowError(expect.objectContaining({ code: 'LIBRARY_IN_USE' }));
    first.close();
    expect(writer(a, 'A').info().tables).toContain('notes');
  });

  it('must be initialised, and keep its schema', () => {
    const a = make('a.db', SCHEMA);
    expect(() => reader(a)).toThrowError(expect.objectContaining({ code: 'NOT_INITIALISED' }));
    init(a);
    make('a.db', 'ALTER TABLE notes ADD COLUMN more TEXT');
    expect(() => reader(a)).toThrowError(expect.objectContaining({ code: 'SCHEMA_MISMATCH' }));
  });

  it('of a later format is left alone', () => {
    const a = make('a.db', SCHEMA);
    init(a);
    make('a.db', "UPDATE flotilla_state SET value = 99 WHERE key = 'format'");
    expect(() => reader(a)).toThrowError(expect.objectContaining({ code: 'FORMAT_TOO_NEW' }));
  });

  it('tells how it stands, and finds dangling references', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    expect(reader(a).check()).toEqual({ foreignKeyViolations: [], integrity: [] });
    expect(reader(a).status()).toMatchObject({ rows: 4, tombstones: 0, waitingCount: 0, unstamped: 0 });
    make('a.db', "PRAGMA foreign_keys = OFF; INSERT INTO notes (folder_id, body) VALUES (77, 'x')");
    expect(reader(a).check().foreignKeyViolations).toHaveLength(1);
    expect(reader(a).status().unstamped).toBe(1);
  });

  it('stamps a great bulk a transaction a slice, whoever asks for it', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    const [heads, bulk] = [[] as number[], 2 * STAMP_SLICE + 10];
    const node = new Writer(a, 'normal', surroundingsOf('A'), (head) => heads.push(head), fail);
    closers.push(() => node.close());
    make(
      'a.db',
      `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${bulk}) INSERT INTO folders (name) SELECT i FROM n`,
    );
    const before = node.stamp().head - bulk;
    // A head is announced after each commit of ours: no slice is larger than what others are made to wait for.
    expect(heads.map((head, i) => head - (heads[i - 1] ?? before))).toEqual([STAMP_SLICE, STAMP_SLICE, 10]);
  });

  it('keeps out other writers while it is held, with nothing left to stamp', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    const node = writer(a, 'A');
    const other = new Sqlite(a, { timeout: 0 });
    closers.push(() => other.close());
    other.exec("INSERT INTO folders (name) VALUES ('new')");
    node.hold();
    expect(all(a, 'SELECT count(*) FROM flotilla_marks')).toEqual([[0]]);
    expect(() => other.exec("INSERT INTO folders (name) VALUES ('kept out')")).toThrowError(/locked/);
    node.release();
    other.exec("INSERT INTO folders (name) VALUES ('let in')");
    expect(all(a, 'SELECT count(*) FROM folders')).toEqual([[4]]);
  });

  it('[F1] forgets deletes where no other member has to be waited for', async () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    const node = writer(a, 'A');
    make('a.db', 'DELETE FROM notes');
    node.stamp();
    await until(() => all(a, 'SELECT count(*) FROM flotilla_tombstones')[0]?.[0] === 0);
    expect(all(a, 'SELECT count(*) FROM flotilla_floor')).toEqual([[1]]);
  });

  it('[F2] reconciles with one peer at a time, when it is its turn', () => {
    const a = make('a.db', SCHEMA, ROWS);
    init(a);
    const node = writer(a, 'A');
    const floor = { runs: new Uint8Array(16).fill(7), hlc: [1] };
    const begin = (peer: string, isItsTurn: boolean, below = floor): string | undefined =>
      node.beginPass(peer, below, { maySnapshot: false, isItsTurn })?.pass;
    expect(begin('B', false)).toBeUndefined();
    expect(begin('B', true)).toBe('reconcile');
    expect(begin('C', false)).toBeUndefined();
    expect(begin('C', false, { runs: new Uint8Array(0), hlc: [] })).toBe('ordinary');
    expect(begin('C', true)).toBe('reconcile');
    expect(begin('B', false)).toBeUndefined();
  });
});
