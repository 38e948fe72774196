import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';

import { parseConfig } from '../../src/db/config.ts';
import { splitIndexSql } from '../../src/db/indexes.ts';
import { createMetadata } from '../../src/db/metadata.ts';
import type { ColumnRole, Model, Registry } from '../../src/db/model.ts';
import { tableReports } from '../../src/db/report.ts';
import { affinityOf, readRegistry } from '../../src/db/schema.ts';
import { FlotillaError } from '../../src/errors.ts';

interface Settings {
  readonly config?: object;
  readonly numbers?: ReadonlyMap<string, number>;
  readonly metadata?: boolean;
}

function read(schema: string, { config = {}, numbers = new Map(), metadata = false }: Settings = {}): Registry {
  const db = new Database(':memory:');
  try {
    db.exec(schema);
    if (metadata) createMetadata(db, '00'.repeat(16), '{}', 'device');
    return readRegistry(db, parseConfig(JSON.stringify(config), 'test').config, numbers);
  } finally {
    db.close();
  }
}

function model(registry: Registry, table: string): Model {
  const found = registry.byName.get(table);
  if (found === undefined) throw new Error(`no model ${table}`);
  return found;
}

function role(registry: Registry, table: string, column: string): ColumnRole | undefined {
  return model(registry, table).columns.find((candidate) => candidate.name === column)?.role;
}

function refusal(schema: string, settings: Settings = {}): FlotillaError {
  try {
    read(schema, settings);
  } catch (error) {
    if (error instanceof FlotillaError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

const names = (registry: Registry): string[] => registry.models.map((found) => found.table);

describe('which tables sync', () => {
  it('leaves out views, virtual tables and their storage, and what SQLite keeps, each with a reason', () => {
    const registry = read(`
      CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT);
      CREATE VIEW v AS SELECT x FROM a;
      CREATE VIRTUAL TABLE search USING fts5 (x);
    `);
    expect(names(registry)).toEqual(['a']);
    const left = new Map(registry.left.map(({ table, reason }) => [table, reason]));
    expect(left.get('v')).toMatch(/view/);
    expect(left.get('search')).toMatch(/virtual table/);
    expect(left.get('search_data')).toMatch(/storage of a virtual table/);
    expect(left.get('sqlite_sequence')).toMatch(/SQLite/);
    expect([...left.values()].every((reason) => reason.endsWith('.'))).toBe(true);
  });

  it('takes no storage of a virtual table for a table when its module is not loaded', () => {
    const db = new Database(':memory:');
    db.exec('CREATE TABLE vectors_chunks (id INTEGER PRIMARY KEY); CREATE TABLE vectorsother (id INTEGER PRIMARY KEY)');
    db.unsafeMode(true);
    db.pragma('writable_schema = ON');
    db.exec(
      `INSERT INTO sqlite_schema VALUES ('table', 'vectors', 'vectors', 0, 'CREATE VIRTUAL TABLE vectors USING absent(a)')`,
    );
    db.pragma('writable_schema = RESET');
    expect(names(readRegistry(db, {}, new Map()))).toEqual(['vectorsother']);
    const forced = readRegistry(db, { tables: { vectors_chunks: { sync: true } } }, new Map());
    expect(names(forced)).toEqual(['vectors_chunks', 'vectorsother']);
    db.close();
  });

  it('leaves out what the configuration leaves out, whatever it is', () => {
    const registry = read(
      'CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (x); CREATE TABLE c (k TEXT PRIMARY KEY) WITHOUT ROWID',
      { config: { tables: { b: { sync: false }, C: { sync: false } } } },
    );
    expect(names(registry)).toEqual(['a']);
    expect(registry.left.map(({ table }) => table)).toEqual(['b', 'c', 'sqlite_schema']);
  });

  it('refuses a table without primary key, saying what to do', () => {
    const error = refusal('CREATE TABLE notes (x)');
    expect(error.code).toBe('NO_PRIMARY_KEY');
    expect(error.message).toMatch(/"notes".*primary key.*"sync": false/);
  });

  it('refuses a library in UTF-16', () => {
    const db = new Database(':memory:');
    db.pragma("encoding = 'UTF-16le'");
    db.exec('CREATE TABLE a (id INTEGER PRIMARY KEY)');
    expect(() => readRegistry(db, {}, new Map())).toThrow(/UTF-16le/);
    db.close();
  });

  it('refuses a configuration that names what is not there', () => {
    const schema = 'CREATE TABLE a (id INTEGER PRIMARY KEY, x); CREATE VIEW v AS SELECT 1';
    expect(refusal(schema, { config: { tables: { b: {} } } }).message).toMatch(/"b"/);
    expect(refusal(schema, { config: { tables: { v: { sync: true } } } }).message).toMatch(/"v".*view/);
    expect(refusal(schema, { config: { tables: { a: { localColumns: ['y'] } } } }).message).toMatch(/"a".*"y"/);
    expect(refusal(schema, { config: { tables: { a: { identity: 'y' } } } }).message).toMatch(/"a".*"y"/);
  });

  it('reads only the main database, whatever temporary tables cover it', () => {
    const db = new Database(':memory:');
    db.exec(
      'CREATE TABLE a (id INTEGER PRIMARY KEY, x); CREATE TEMP TABLE a (k TEXT PRIMARY KEY); CREATE TEMP TABLE b (y)',
    );
    const registry = readRegistry(db, {}, new Map());
    expect(names(registry)).toEqual(['a']);
    expect(model(registry, 'a').rowid).toBe('id');
    db.close();
  });
});

describe('keys', () => {
  it.each([
    ['id INTEGER PRIMARY KEY', 'id'],
    ['id integer primary key autoincrement', 'id'],
    ['id INTEGER, PRIMARY KEY (id)', 'id'],
    ['id INTEGER, PRIMARY KEY (id DESC)', 'id'],
    ['id INTEGER PRIMARY KEY DESC', null],
    ['id INT PRIMARY KEY', null],
    ['id BIGINT PRIMARY KEY', null],
    ['id TEXT UNIQUE PRIMARY KEY', null],
    ['id INTEGER, b, PRIMARY KEY (id, b)', null],
  ])('%s: the rowid is %s', (columns, rowid) => {
    const found = model(read(`CREATE TABLE t (${columns})`), 't');
    expect(found.rowid).toBe(rowid);
    expect(found.identity.kind).toBe(rowid === null ? 'derived' : 'random');
    expect(role(read(`CREATE TABLE t (${columns})`), 't', 'id')?.kind).toBe(rowid === null ? 'value' : 'rowid');
  });

  it('reads composite keys in key order with their collations', () => {
    const found = model(read('CREATE TABLE t (a TEXT, b TEXT COLLATE NOCASE, c INTEGER, PRIMARY KEY (c, b))'), 't');
    expect(found.key).toEqual(['c', 'b']);
    expect(found.keyCollations).toEqual(['BINARY', 'NOCASE']);
    expect(found.identity).toEqual({ kind: 'derived', columns: ['c', 'b'] });
    expect(found.uniques).toEqual([]);
  });

  it('reads other unique indexes: collations, expressions, conditions', () => {
    const found = model(
      read(`
        CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b TEXT, dead INTEGER);
        CREATE UNIQUE INDEX u1 ON t (b COLLATE NOCASE, a DESC) WHERE dead = 0 /* living */;
        CREATE UNIQUE INDEX u2 ON t (lower(b || ',)'), coalesce(a, 'x') DESC);
        CREATE INDEX plain ON t (b);
      `),
      't',
    );
    expect(found.uniques).toMatchObject([
      { name: 'sqlite_autoindex_t_1', columns: ['a'], partial: false },
      { name: 'u1', columns: ['b', 'a'], partial: true, collations: ['NOCASE', 'BINARY'], where: 'dead = 0' },
      { name: 'u2', columns: [null, null], partial: false, expressions: ["lower(b || ',)')", "coalesce(a, 'x')"] },
    ]);
  });
});

describe('splitIndexSql', () => {
  it('is not misled by quotes, brackets and comments', () => {
    const sql = `CREATE UNIQUE INDEX "i(" ON [t)(] -- (a
      ("a,b" ASC, ')'||\`c\`, max(d, /* ,) */ 1) desc) where "x" = '--' -- end`;
    expect(splitIndexSql(sql)).toEqual({ terms: ['"a,b"', "')'||`c`", 'max(d,   1)'], where: `"x" = '--'` });
    expect(splitIndexSql("CREATE UNIQUE INDEX i ON t ('it''s (')")).toEqual({ terms: ["'it''s ('"], where: null });
  });
});

describe('columns', () => {
  it.each([
    ['INTEGER', 'INTEGER'],
    ['bigint unsigned', 'INTEGER'],
    ['CHARINT', 'INTEGER'],
    ['VARCHAR(20)', 'TEXT'],
    ['CLOB', 'TEXT'],
    ['BLOB', 'BLOB'],
    ['', 'BLOB'],
    ['DOUBLE PRECISION', 'REAL'],
    ['FLOAT', 'REAL'],
    ['DECIMAL(10,5)', 'NUMERIC'],
    ['DATETIME', 'NUMERIC'],
    ['ANY', 'NUMERIC'],
  ])('declared as %j, has the affinity %s', (type, affinity) => {
    expect(affinityOf(type, false)).toBe(affinity);
  });

  it('ANY keeps what it gets in a STRICT table', () => {
    const registry = read('CREATE TABLE t (id INTEGER PRIMARY KEY, x ANY) STRICT');
    expect(model(registry, 't').columns.map(({ affinity }) => affinity)).toEqual(['INTEGER', 'BLOB']);
  });

  it('agrees with SQLite on which conversion a column makes', () => {
    const types = [
      'INT',
      'CHARINT',
      'VARCHAR',
      'BLOB',
      '',
      'DOUBLE',
      'DECIMAL',
      'STRING',
      'BOOLEAN',
      'FLOATING POINT',
      'XBLOBX',
    ];
    const db = new Database(':memory:');
    for (const type of types) {
      const seen = db
        .prepare(`SELECT typeof(CAST('1.5' AS "${type === '' ? 'BLOB' : type}"))`)
        .pluck()
        .get();
      // A table column and CAST follow the same rules; only NUMERIC and INTEGER cannot be told apart by one probe.
      const expected = { INTEGER: 'integer', TEXT: 'text', BLOB: 'blob', REAL: 'real', NUMERIC: 'real' };
      expect([type, expected[affinityOf(type, false)]]).toEqual([type, seen]);
    }
    db.close();
  });

  it('skips generated columns and numbers by place', () => {
    const found = model(
      read('CREATE TABLE t (id INTEGER PRIMARY KEY, g AS (x + 1), x INT NOT NULL DEFAULT 7, s AS (x) STORED, y)'),
      't',
    );
    expect(found.columns.map(({ name, number }) => [name, number])).toEqual([
      ['id', 0],
      ['x', 2],
      ['y', 4],
    ]);
    expect(found.columns[1]).toMatchObject({ notNull: true, hasDefault: true });
    expect(found.columns[2]).toMatchObject({ notNull: false, hasDefault: false });
  });

  it('local columns must do without a value and outside of keys', () => {
    const schema = 'CREATE TABLE t (k TEXT PRIMARY KEY, a, b NOT NULL DEFAULT 1, c NOT NULL, u UNIQUE)';
    const registry = read(schema, { config: { tables: { t: { localColumns: ['a', 'B'] } } } });
    expect(model(registry, 't').columns.map((column) => column.role.kind)).toEqual([
      'value',
      'local',
      'local',
      'value',
      'value',
    ]);
    const local = (column: string): FlotillaError =>
      refusal(schema, { config: { tables: { t: { localColumns: [column] } } } });
    expect([local('k').code, local('k').message]).toEqual(['CONFIG', expect.stringMatching(/"k" of "t".*primary key/)]);
    expect([local('c').code, local('c').message]).toEqual(['CONFIG', expect.stringMatching(/"c" of "t".*default/)]);
    const both = { tables: { t: { localColumns: ['u'], identity: 'u' } } };
    expect(refusal(schema, { config: both }).message).toMatch(/identity of the table "t".*local/);
  });
});

describe('references', () => {
  const library = `
    CREATE TABLE entries (
      id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE,
      content TEXT REFERENCES contents ON DELETE SET NULL, name TEXT);
    CREATE TABLE contents (hash TEXT PRIMARY KEY, size INTEGER);
    CREATE TABLE user_metadata (entry_id INTEGER PRIMARY KEY REFERENCES entries (id), note TEXT);
    CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
    CREATE TABLE entry_tags (entry_id INTEGER REFERENCES entries, tag_id INTEGER REFERENCES TAGS ("ID"), PRIMARY KEY (entry_id, tag_id));
    CREATE TABLE remarks (id INTEGER PRIMARY KEY, about INTEGER REFERENCES user_metadata (entry_id));
    CREATE TABLE weights (entry_id INTEGER, tag_id INTEGER, w REAL, PRIMARY KEY (entry_id, tag_id),
      FOREIGN KEY (entry_id, tag_id) REFERENCES entry_tags);
  `;

  it('a column that holds an integer id is a reference to the table whose id it is', () => {
    const registry = read(library);
    expect(role(registry, 'entries', 'parent_id')).toEqual({ kind: 'ref', table: 'entries' });
    expect(role(registry, 'entry_tags', 'tag_id')).toEqual({ kind: 'ref', table: 'tags' });
    expect(role(registry, 'user_metadata', 'entry_id')).toEqual({ kind: 'ref', table: 'entries' });
    expect(role(registry, 'remarks', 'about')).toEqual({ kind: 'ref', table: 'user_metadata' });
    expect(model(registry, 'entries').foreignKeys).toMatchObject([
      {
        number: expect.any(Number),
        columns: ['content'],
        table: 'contents',
        targets: ['hash'],
        onDelete: 'SET NULL',
        simple: false,
      },
      {
        number: expect.any(Number),
        columns: ['parent_id'],
        table: 'entries',
        targets: ['id'],
        onDelete: 'CASCADE',
        simple: true,
      },
    ]);
    expect(model(registry, 'remarks').foreignKeys).toMatchObject([{ table: 'user_metadata', simple: true }]);
  });

  it('a key of keys is followed to the ids in it, and travels as a dependency', () => {
    const registry = read(library);
    expect(role(registry, 'weights', 'entry_id')).toEqual({ kind: 'ref', table: 'entries' });
    expect(role(registry, 'weights', 'tag_id')).toEqual({ kind: 'ref', table: 'tags' });
    expect(model(registry, 'weights').foreignKeys).toMatchObject([
      { table: 'entry_tags', columns: ['entry_id', 'tag_id'], targets: ['entry_id', 'tag_id'], simple: false },
    ]);
    expect(role(registry, 'entries', 'content')).toEqual({ kind: 'value' });
  });

  it('an id that is a foreign key makes the identity', () => {
    const found = model(read(library), 'user_metadata');
    expect(found).toMatchObject({
      rowid: 'entry_id',
      rowidIsRef: true,
      identity: { kind: 'derived', columns: ['entry_id'] },
    });
    expect(model(read(library), 'entries').rowidIsRef).toBe(false);
  });

  it('a column under two foreign keys takes the one that names an id at once', () => {
    const registry = read(`
      CREATE TABLE a (id INTEGER PRIMARY KEY);
      CREATE TABLE p (k INTEGER UNIQUE REFERENCES a (id), id INTEGER PRIMARY KEY);
      CREATE TABLE c (id INTEGER PRIMARY KEY, x INTEGER REFERENCES a (id) REFERENCES p (k));
    `);
    expect(role(registry, 'c', 'x')).toEqual({ kind: 'ref', table: 'a' });
    expect(model(registry, 'c').foreignKeys).toMatchObject([
      { table: 'p', simple: false },
      { table: 'a', simple: true },
    ]);
  });

  it('of two ids under one column the first wins and the other is a dependency', () => {
    const registry = read(`
      CREATE TABLE a (id INTEGER PRIMARY KEY);
      CREATE TABLE b (id INTEGER PRIMARY KEY REFERENCES a (id));
      CREATE TABLE c (id INTEGER PRIMARY KEY, x INTEGER REFERENCES a (id) REFERENCES b (id));
    `);
    expect(role(registry, 'c', 'x')).toEqual({ kind: 'ref', table: 'b' });
    expect(model(registry, 'c').foreignKeys.map(({ table, simple }) => [table, simple])).toEqual([
      ['b', true],
      ['a', false],
    ]);
  });

  it('rings of values end, and an id that refers to itself is an id', () => {
    const registry = read(`
      CREATE TABLE a (k TEXT PRIMARY KEY REFERENCES b (k));
      CREATE TABLE b (k TEXT PRIMARY KEY REFERENCES a (k));
      CREATE TABLE s (id INTEGER PRIMARY KEY REFERENCES s (id));
      CREATE TABLE t (id INTEGER PRIMARY KEY REFERENCES d (k));
      CREATE TABLE d (id INTEGER PRIMARY KEY, k INTEGER UNIQUE REFERENCES t (id));
    `);
    expect(role(registry, 'a', 'k')).toEqual({ kind: 'value' });
    expect(model(registry, 's')).toMatchObject({ rowidIsRef: false, identity: { kind: 'random' }, foreignKeys: [] });
    expect(model(registry, 't')).toMatchObject({ rowidIsRef: false, identity: { kind: 'random' } });
    expect(model(registry, 't').foreignKeys).toMatchObject([{ table: 'd', simple: false }]);
    expect(role(registry, 'd', 'k')).toEqual({ kind: 'ref', table: 't' });
  });

  it('refuses ids that are each other’s', () => {
    const error = refusal(
      'CREATE TABLE a (id INTEGER PRIMARY KEY REFERENCES b (id)); CREATE TABLE b (id INTEGER PRIMARY KEY REFERENCES a (id))',
    );
    expect([error.code, error.message]).toEqual(['UNSUPPORTED_SCHEMA', expect.stringMatching(/"a", "b".*ring/)]);
  });

  it('refuses a reference to a table that does not sync, with both names and what to do', () => {
    const schema =
      'CREATE TABLE cache (id INTEGER PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY, c INTEGER REFERENCES cache)';
    const without = { cache: { sync: false } };
    const error = refusal(schema, { config: { tables: without } });
    expect(error.code).toBe('UNSUPPORTED_SCHEMA');
    expect(error.message).toMatch(/"t".*"cache".*does not sync.*localColumns/);
    const registry = read(schema, { config: { tables: { ...without, t: { localColumns: ['c'] } } } });
    expect(model(registry, 't').foreignKeys).toEqual([]);
    expect(refusal('CREATE TABLE t (id INTEGER PRIMARY KEY, c REFERENCES gone)').message).toMatch(
      /"gone".*does not exist/,
    );
  });

  it('refuses a reference that SQLite could not keep', () => {
    const mismatch = refusal(
      'CREATE TABLE p (id INTEGER PRIMARY KEY, x); CREATE TABLE t (id INTEGER PRIMARY KEY, c REFERENCES p (x))',
    );
    expect(mismatch.message).toMatch(/\(c\) of the table "t".*\(x\) of "p".*UNIQUE/);
    const count = refusal(
      'CREATE TABLE p (a, b, PRIMARY KEY (a, b)); CREATE TABLE t (id INTEGER PRIMARY KEY, c REFERENCES p)',
    );
    expect(count.code).toBe('UNSUPPORTED_SCHEMA');
    const generated = refusal(
      'CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY, x, g INTEGER AS (x) REFERENCES p)',
    );
    expect(generated.message).toMatch(/\(g\).*"t".*generated/);
  });

  it('puts parents before children, and breaks circles the same way every time', () => {
    const registry = read(library);
    const place = (table: string): number => names(registry).indexOf(table);
    for (const found of registry.models) {
      for (const key of found.foreignKeys)
        if (key.table !== found.table) expect(place(key.table)).toBeLessThan(place(found.table));
    }
    const circle = `
      CREATE TABLE z (id INTEGER PRIMARY KEY);
      CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a, z INTEGER REFERENCES z);
      CREATE TABLE a (id INTEGER PRIMARY KEY, b INTEGER REFERENCES b, z INTEGER REFERENCES z);
    `;
    expect(names(read(circle))).toEqual(['z', 'a', 'b']);
  });
});

describe('identity and ownership', () => {
  const schema =
    'CREATE TABLE t (id INTEGER PRIMARY KEY, uuid TEXT UNIQUE, a, b, UNIQUE (a, b)); CREATE TABLE s (id INTEGER PRIMARY KEY)';

  it('takes the columns that the configuration declares, in the schema’s spelling', () => {
    const registry = read(schema, { config: { tables: { T: { identity: 'UUID' } } } });
    expect(model(registry, 't').identity).toEqual({ kind: 'derived', columns: ['uuid'] });
    const two = read(schema, { config: { tables: { t: { identity: ['b', 'a'] } } } });
    expect(model(two, 't').identity).toEqual({ kind: 'derived', columns: ['b', 'a'] });
  });

  it('refuses an identity that is not unique, or that every device assigns anew', () => {
    const identity = (columns: string | string[]): string =>
      refusal(schema, { config: { tables: { t: { identity: columns } } } }).message;
    expect(identity('a')).toMatch(/"t".*\(a\).*UNIQUE/);
    expect(identity('id')).toMatch(/"t".*\(id\).*integer ids/);
  });

  it('gives each table its own ownership, or the one for all', () => {
    const registry = read(schema, {
      metadata: true,
      config: { ownership: 'device', tables: { s: { ownership: 'shared' } } },
    });
    expect(registry.models.map(({ table, ownership }) => [table, ownership])).toEqual([
      ['flotilla_membership', 'shared'],
      ['flotilla_transfers', 'shared'],
      ['s', 'shared'],
      ['t', 'device'],
    ]);
  });

  const OWNED = `CREATE TABLE volumes (id INTEGER PRIMARY KEY, code TEXT UNIQUE);
    CREATE TABLE entries (id INTEGER PRIMARY KEY, volume_id INTEGER REFERENCES volumes, code TEXT REFERENCES volumes (code),
      parent_id INTEGER REFERENCES entries, plain INTEGER)`;
  const volumes = { ownership: 'device' };

  it('[O1] finds the row that owns another by the column of its foreign key', () => {
    for (const ownedBy of ['VOLUME_ID', 'code']) {
      const registry = read(OWNED, { config: { tables: { volumes, entries: { ownedBy } } } });
      expect(model(registry, 'entries')).toMatchObject({
        ownership: 'device',
        ownedBy: { columns: [ownedBy.toLowerCase()], table: 'volumes' },
      });
      expect(model(registry, 'volumes').ownedBy).toBeNull();
    }
  });

  it.each([
    [{ entries: { ownedBy: 'volume_id' } }, /rows of "volumes" belong to nobody/],
    [{ volumes, entries: { ownedBy: 'plain' } }, /names "plain", which is no column with a foreign key/],
    [{ volumes, entries: { ownedBy: 'parent_id' } }, /entries would own each other/],
    [{ volumes, entries: { ownedBy: 'volume_id', ownership: 'shared' } }, /cannot be shared and have "ownedBy"/],
  ])('[O1] refuses what leads to no owner: %j', (tables, says) => {
    expect(() => read(OWNED, { config: { tables } })).toThrow(says);
  });
});

describe('the registry', () => {
  it('begins with membership, and leaves the other tables of ours out', () => {
    const registry = read('CREATE TABLE a (id INTEGER PRIMARY KEY)', { metadata: true });
    expect(names(registry)).toEqual(['flotilla_membership', 'flotilla_transfers', 'a']);
    expect(registry.models.map(({ n }) => n)).toEqual([0, 100_000, 1]);
    expect(model(registry, 'flotilla_membership').identity).toEqual({ kind: 'derived', columns: ['id'] });
    expect(registry.left.find(({ table }) => table === 'flotilla_marks')?.reason).toMatch(/Flotilla/);
  });

  it('keeps numbers that were given, and gives new ones beyond them', () => {
    const schema =
      'CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY)';
    const registry = read(schema, {
      numbers: new Map([
        ['flotilla_membership', 0],
        ['b', 2],
        ['dropped', 7],
      ]),
    });
    expect(registry.models.map(({ table, n }) => [table, n])).toEqual([
      ['a', 8],
      ['b', 2],
      ['c', 9],
    ]);
  });

  it('takes any name', () => {
    const registry = read(`
      CREATE TABLE "select ""x"" from" ("group by" INTEGER PRIMARY KEY, "it's" TEXT UNIQUE, "Ünï コード" REAL, [a.b] INTEGER REFERENCES "select ""x"" from");
      CREATE TABLE "order" ("select ""x"" from" INTEGER REFERENCES "select ""x"" from", "?1" BLOB, PRIMARY KEY ("?1", "select ""x"" from"));
    `);
    expect(names(registry)).toEqual(['select "x" from', 'order']);
    expect(role(registry, 'order', 'select "x" from')).toEqual({ kind: 'ref', table: 'select "x" from' });
    expect(model(registry, 'select "x" from').columns.map(({ name }) => name)).toEqual([
      'group by',
      "it's",
      'Ünï コード',
      'a.b',
    ]);
  });

  describe('schemaHash', () => {
    const base =
      'CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT, y INT); CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a)';
    const hash = (schema: string, settings?: Settings): string => read(schema, settings).schemaHash;

    it('is the same whatever differs between devices that still understand each other', () => {
      const same = [
        'CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a); CREATE TABLE a (id INTEGER PRIMARY KEY, y INTEGER, x VARCHAR)',
        `${base}; CREATE UNIQUE INDEX u ON a (x); CREATE VIEW v AS SELECT 1`,
      ];
      expect(hash(base)).toMatch(/^[0-9a-f]{64}$/);
      for (const schema of same) expect(hash(schema)).toBe(hash(base));
      expect(hash(base, { metadata: true, numbers: new Map([['a', 9]]) })).toBe(hash(base));
      const local =
        'CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT, y INT, z); CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a)';
      expect(hash(local, { config: { tables: { a: { localColumns: ['z'] } } } })).toBe(hash(base));
    });

    it('differs with everything that decides what a row means', () => {
      const others = [
        base.replace('x TEXT', 'x BLOB'),
        base.replace('x TEXT', 'x TEXT NOT NULL'),
        base.replace('x TEXT', 'x2 TEXT'),
        base.replace('REFERENCES a', ''),
        base.replace('REFERENCES a', 'REFERENCES a ON DELETE CASCADE'),
        base.replace('id INTEGER PRIMARY KEY, x', 'id INT PRIMARY KEY, x').replace(' REFERENCES a', ''),
        `${base}; CREATE TABLE c (id INTEGER PRIMARY KEY)`,
      ];
      const hashes = [
        hash(base),
        ...others.map((schema) => hash(schema)),
        hash(base, { config: { ownership: 'device' } }),
      ];
      expect(new Set(hashes).size).toBe(hashes.length);
      expect(hash('CREATE TABLE t (k TEXT PRIMARY KEY)')).not.toBe(
        hash('CREATE TABLE t (k TEXT PRIMARY KEY COLLATE NOCASE)'),
      );
    });
  });
});

describe('tableReports', () => {
  it('tells what syncs and how, and what does not and why, of the user’s tables only', () => {
    const registry = read(
      `CREATE TABLE e (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES e, uuid UNIQUE, tmp);
       CREATE TABLE k (a INTEGER REFERENCES e, b TEXT, PRIMARY KEY (a, b));
       CREATE TABLE w (id INTEGER PRIMARY KEY, a INTEGER, b TEXT, FOREIGN KEY (a, b) REFERENCES k);
       CREATE VIEW v AS SELECT 1;`,
      { metadata: true, config: { tables: { e: { identity: 'uuid', ownership: 'device', localColumns: ['tmp'] } } } },
    );
    const shared = { syncs: true, reason: '', ownership: 'shared', localColumns: [] };
    expect(tableReports(registry, new Map([['e', 3]]))).toEqual([
      {
        ...shared,
        table: 'e',
        ownership: 'device',
        identity: 'column uuid',
        references: ['parent → e'],
        localColumns: ['tmp'],
        rows: 3,
      },
      { ...shared, table: 'k', identity: 'derived from (a, b)', references: ['a → e'], rows: 0 },
      { ...shared, table: 'w', identity: 'uuid v7', references: ['(a, b) → k'], rows: 0 },
      {
        ...shared,
        table: 'v',
        syncs: false,
        reason: expect.stringMatching(/view/),
        identity: '',
        references: [],
        rows: 0,
      },
    ]);
  });
});
