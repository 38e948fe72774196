/** Rows that were made apart and collide in a unique index. Rule ids are those of docs/spec.md, group U. */
import { describe, expect, it } from 'vitest';

import { parseConfig } from '../../src/db/config.ts';
import type { UniqueIndex } from '../../src/db/indexes.ts';
import { policyOf } from '../../src/db/unique-policy.ts';
import { expectEqual, fleetOf, pagesFor, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const ORDERS = [
  [0, 1, 2],
  [2, 1, 0],
  [1, 2, 0],
] as const;

function inOrder(replicas: readonly Replica[], order: readonly number[]): Replica[] {
  return order.map((i) => replicas[i] as Replica);
}

function uuidOrder(replica: Replica, n: number, key: string): unknown[] {
  return replica.rows(`SELECT ${key} FROM flotilla_rows_${n} m JOIN t ON t.id = m.key ORDER BY m.uuid`).flat();
}

describe('[U2] rename', () => {
  const DDL = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, note TEXT)';

  it.each(ORDERS)('gives the later row another name, the same on every device (order %i %i %i)', async (...order) => {
    const replicas = fleetOf(3, DDL) as [Replica, Replica, Replica];
    for (const [i, replica] of replicas.entries()) {
      replica.write(`INSERT INTO t (name, note) VALUES ('x', 'by ${i}')`);
      replica.stamp();
    }
    converge(inOrder(replicas, order));
    const shown = replicas.map((replica) => replica.rows('SELECT name, note FROM t ORDER BY note'));
    expect(shown[0]).toHaveLength(3);
    for (const rows of shown) expect(rows).toEqual(shown[0]);
    const names = (shown[0] as [string, string][]).map(([name]) => name);
    expect(names.filter((name) => name === 'x')).toHaveLength(1);
    for (const name of names) expect(name).toMatch(/^x( \([0-9a-f]{4,}\))?$/);
    // The first by UUID keeps its name.
    const [first] = uuidOrder(replicas[0], 1, 'name');
    expect(first).toBe('x');
    for (const replica of replicas) expect(replica.waiting()).toEqual([]);
    const records = replicas.flatMap((replica) =>
      replica.rows("SELECT lost FROM flotilla_conflicts WHERE rule = 'renamed'"),
    );
    expect(records.length).toBeGreaterThan(0);
    for (const [lost] of records) expect(lost).toBe('x');
    await expectEqual(...replicas);
  });

  it('renames in the last text of an index over several columns, and under its collation', async () => {
    const [a, b] =
      pairOf(`CREATE TABLE folders (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES folders (id), name TEXT COLLATE NOCASE NOT NULL, colour TEXT,
      UNIQUE (parent_id, name)); CREATE TABLE f (id INTEGER PRIMARY KEY, folder_id INTEGER NOT NULL REFERENCES folders (id), v)`);
    a.write("INSERT INTO folders VALUES (1, NULL, 'root', NULL)");
    converge([a, b]);
    a.write("INSERT INTO folders VALUES (2, 1, 'Docs', NULL); INSERT INTO f VALUES (1, 2, 'a')");
    a.stamp();
    b.write("INSERT INTO folders VALUES (2, 1, 'docs', NULL); INSERT INTO f VALUES (1, 2, 'b')");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT count(*) FROM folders')).toEqual([[3]]);
      expect(replica.rows('SELECT count(*) FROM f JOIN folders g ON g.id = f.folder_id')).toEqual([[2]]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
  });

  it('works in partial indexes and those of expressions', async () => {
    const [a, b] =
      pairOf(`CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, gone INTEGER NOT NULL DEFAULT 0, mail TEXT);
      CREATE UNIQUE INDEX t_name ON t (lower(name)) WHERE gone = 0; CREATE UNIQUE INDEX t_mail ON t (mail) WHERE mail <> '';`);
    a.write("INSERT INTO t (name, gone, mail) VALUES ('X', 0, 'm'), ('y', 1, '')");
    a.stamp();
    b.write("INSERT INTO t (name, gone, mail) VALUES ('x', 0, ''), ('Y', 0, 'm')");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT count(*), count(DISTINCT lower(name)), count(DISTINCT mail) FROM t')).toEqual([
        [4, 3, 3],
      ]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
  });
});

describe('[U3] keep-first', () => {
  it('sets a ring that refers to the row aside before what the ring refers to', async () => {
    const [a, b] = pairOf(`CREATE TABLE t (id INTEGER PRIMARY KEY, code BLOB UNIQUE, v);
      CREATE TABLE part (id INTEGER PRIMARY KEY, t INTEGER NOT NULL REFERENCES t ON DELETE SET NULL, v);
      CREATE TABLE link (id INTEGER PRIMARY KEY, part INTEGER REFERENCES part,
        next INTEGER REFERENCES link ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED)`);
    a.write("INSERT INTO t VALUES (1, x'01', 'a')");
    a.stamp();
    b.write(`BEGIN; INSERT INTO t VALUES (1, x'01', 'b'); INSERT INTO part VALUES (1, 1, 'p');
      INSERT INTO link VALUES (1, NULL, 2), (2, 1, 1); COMMIT`);
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT v FROM t')).toEqual([['a']]);
      expect(replica.rows('SELECT id FROM part UNION ALL SELECT id FROM link')).toEqual([]);
    }
    a.write("UPDATE t SET code = x'02'");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.waiting()).toEqual([]);
    expect(a.rows('SELECT t.v, count(*) FROM t LEFT JOIN part ON t = t.id LEFT JOIN link GROUP BY t.v')).toEqual(
      b.rows('SELECT t.v, count(*) FROM t LEFT JOIN part ON t = t.id LEFT JOIN link GROUP BY t.v'),
    );
    await expectEqual(a, b);
  });

  const DDL = `CREATE TABLE t (id INTEGER PRIMARY KEY, code INTEGER UNIQUE, note TEXT);
    CREATE TABLE u (id INTEGER PRIMARY KEY, t_id INTEGER NOT NULL REFERENCES t (id) ON DELETE CASCADE, v TEXT);
    CREATE TABLE w (id INTEGER PRIMARY KEY, u_id INTEGER REFERENCES u (id) ON DELETE SET NULL)`;

  it.each(ORDERS)(
    'shows the first, and lets the others and what refers to them wait (order %i %i %i)',
    async (...order) => {
      const replicas = fleetOf(3, DDL) as [Replica, Replica, Replica];
      for (const [i, replica] of replicas.entries()) {
        replica.write(
          `INSERT INTO t VALUES (1, 7, 'by ${i}'); INSERT INTO u VALUES (1, 1, 'of ${i}'); INSERT INTO w VALUES (1, 1)`,
        );
        replica.stamp();
      }
      converge(inOrder(replicas, order));
      const shown = replicas.map((replica) =>
        replica.rows('SELECT t.note, u.v FROM w JOIN u ON u.id = w.u_id JOIN t ON t.id = u.t_id'),
      );
      expect(shown[0]).toHaveLength(1);
      for (const rows of shown) expect(rows).toEqual(shown[0]);
      for (const replica of replicas) {
        expect(replica.waiting().toSorted()).toEqual([
          'missing-target',
          'missing-target',
          'missing-target',
          'missing-target',
          'unique',
          'unique',
        ]);
        expect(replica.rows('SELECT count(*) FROM t')).toEqual([[1]]);
      }
      await expectEqual(...replicas);
      // The winner goes, then the next one: each time the next in order shows, with all that belongs to it.
      const seen = new Set(shown[0]?.map(([note]) => note));
      for (let left = 2; left >= 0; left -= 1) {
        replicas[0].write('DELETE FROM t');
        converge(inOrder(replicas, order));
        const now = replicas.map((replica) => replica.rows('SELECT t.note, u.v FROM u JOIN t ON t.id = u.t_id'));
        for (const rows of now) expect(rows).toEqual(now[0]);
        expect(now[0]).toHaveLength(left > 0 ? 1 : 0);
        for (const [note] of now[0] ?? []) seen.add(note);
        await expectEqual(...replicas);
      }
      expect(seen.size).toBe(3);
      for (const replica of replicas) expect(replica.waiting()).toEqual([]);
    },
  );

  it('ends when the winner gets another value', async () => {
    const [a, b] = pairOf(DDL);
    for (const replica of [a, b]) {
      replica.write(`INSERT INTO t VALUES (1, 7, '${replica.device}')`);
      replica.stamp();
    }
    converge([a, b]);
    b.write('UPDATE t SET code = 8');
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT code FROM t ORDER BY code')).toEqual([[7], [8]]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b);
  });
});

describe('[U4] merge', () => {
  const DDL = `CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, main_tag INTEGER REFERENCES tags (id) ON DELETE SET NULL);
    CREATE TABLE note_tags (note_id INTEGER NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
      tag_id INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE, PRIMARY KEY (note_id, tag_id));
    CREATE TABLE aliases (id INTEGER PRIMARY KEY, tag_id INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE, name TEXT, UNIQUE (tag_id, name));`;
  const JOINED =
    'SELECT n.body, m.name, (SELECT group_concat(t.name) FROM note_tags x JOIN tags t ON t.id = x.tag_id WHERE x.note_id = n.id) FROM notes n LEFT JOIN tags m ON m.id = n.main_tag ORDER BY n.body';

  it.each(ORDERS)(
    'makes one row of them, and all that refers to them refers to it (order %i %i %i)',
    async (...order) => {
      const replicas = fleetOf(3, DDL) as [Replica, Replica, Replica];
      for (const [i, replica] of replicas.entries()) {
        replica.write(
          `INSERT INTO tags VALUES (1, 'red'); INSERT INTO notes VALUES (1, 'n${i}', 1); INSERT INTO note_tags VALUES (1, 1);
         INSERT INTO aliases VALUES (1, 1, 'rot'), (2, 1, 'r${i}')`,
        );
        replica.stamp();
      }
      converge(inOrder(replicas, order));
      for (const replica of replicas) {
        expect(replica.waiting()).toEqual([]);
        expect(replica.rows('SELECT name FROM tags')).toEqual([['red']]);
        expect(replica.rows(JOINED)).toEqual([
          ['n0', 'red', 'red'],
          ['n1', 'red', 'red'],
          ['n2', 'red', 'red'],
        ]);
        // Where two of them are alike now, they are one as well.
        expect(replica.rows('SELECT name FROM aliases ORDER BY name')).toEqual([['r0'], ['r1'], ['r2'], ['rot']]);
      }
      await expectEqual(...replicas);
    },
  );

  it('what arrives later for the row that is no more follows it, before ON DELETE applies', async () => {
    const [a, b, c] = fleetOf(3, DDL) as [Replica, Replica, Replica];
    a.write("INSERT INTO tags VALUES (1, 'red')");
    a.stamp();
    b.write("INSERT INTO tags VALUES (1, 'red')");
    b.stamp();
    // C knows both only as far as each is alone, and refers to B's.
    c.pull(b);
    c.write("INSERT INTO notes VALUES (1, 'late', 1); INSERT INTO note_tags VALUES (1, 1)");
    c.stamp();
    converge([a, b]);
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(replica.rows(JOINED)).toEqual([['late', 'red', 'red']]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b, c);
  });

  it('a delete of the winner from before does not take the other one along', async () => {
    const [a, b] = pairOf(DDL);
    a.write("INSERT INTO tags VALUES (1, 'red')");
    a.stamp();
    b.write("INSERT INTO tags VALUES (1, 'red'); INSERT INTO notes VALUES (1, 'n', 1)");
    b.stamp();
    const pages = pagesFor(b, a, 100);
    a.write('DELETE FROM tags');
    a.stamp();
    for (const page of pages) b.applier.apply('A', page);
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows(JOINED)).toEqual([['n', 'red', null]]);
    await expectEqual(a, b);
  });
});

describe('[U1] which policy', () => {
  function policies(ddl: string, table: string, config: object = {}): Record<string, string> {
    const [a] = fleetOf(1, ddl, { config }) as [Replica];
    const { registry } = a.library;
    const model = a.library.model(table);
    return Object.fromEntries(
      (model.uniques as readonly UniqueIndex[]).map((unique) => [
        unique.columns.join(),
        policyOf(registry, model, unique),
      ]),
    );
  }

  it('merge where the rows hold nothing else, else rename for text, else keep-first', () => {
    expect(policies('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)', 't')).toEqual({ name: 'merge' });
    expect(policies('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)', 't')).toEqual({ name: 'rename' });
    expect(policies('CREATE TABLE t (id INTEGER PRIMARY KEY, code INTEGER UNIQUE, v)', 't')).toEqual({
      code: 'keep-first',
    });
    expect(policies('CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT, v, UNIQUE (a, b))', 't')).toEqual({
      'a,b': 'rename',
    });
  });

  it('finds the text in the expression of an index, whatever its name', () => {
    const ddl = `CREATE TABLE t (id INTEGER PRIMARY KEY, "it's (a) name?" TEXT, v);
      CREATE UNIQUE INDEX t_name ON t (lower("it's (a) name?"))`;
    expect(policies(ddl, 't')).toEqual({ '': 'rename' });
  });

  it('keep-first for text that others know the row by', () => {
    expect(
      policies(
        'CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE, v); CREATE TABLE c (id INTEGER PRIMARY KEY, t TEXT REFERENCES t (code))',
        't',
      ),
    ).toEqual({ code: 'keep-first' });
  });

  it('keep-first for text that refers to another row', () => {
    const ddl =
      'CREATE TABLE p (code TEXT PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY, p TEXT UNIQUE REFERENCES p (code), v)';
    expect(policies(ddl, 't')).toEqual({ p: 'keep-first' });
  });

  it('as the configuration says', () => {
    const ddl = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, a, b, UNIQUE (a, b))';
    const config = { tables: { t: { unique: { name: 'keep-first', 'A, b': 'merge' } } } };
    expect(policies(ddl, 't', config)).toEqual({ name: 'keep-first', 'a,b': 'merge' });
    expect(() => policies(ddl, 't', { tables: { t: { unique: { b: 'merge' } } } })).toThrow(/no unique index/);
    expect(() => parseConfig('{"tables":{"t":{"unique":{"a":"drop"}}}}', 'test')).toThrow(/unique/);
  });
});

describe('[U6] a row that this device may not write', () => {
  const DDL = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, note TEXT)';

  it('of another device is renamed by its owner alone, and waits elsewhere until then', async () => {
    const replicas = fleetOf(3, DDL, { config: { ownership: 'device' } });
    const [a, b, c] = replicas as [Replica, Replica, Replica];
    a.write("INSERT INTO t (name, note) VALUES ('x', 'of A')");
    a.stamp();
    b.write("INSERT INTO t (name, note) VALUES ('x', 'of B')");
    b.stamp();
    c.pull(a);
    c.pull(b);
    expect(c.waiting()).toEqual(['unique']);
    expect(c.rows('SELECT name, note FROM t')).toEqual([['x', 'of A']]);
    converge(replicas);
    for (const replica of replicas) {
      expect(replica.rows("SELECT note FROM t WHERE name = 'x'")).toEqual([['of A']]);
      expect(replica.rows("SELECT count(*) FROM t WHERE note = 'of B' AND name LIKE 'x (%)'")).toEqual([[1]]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(...replicas);
  });

  it('that a local table holds is not merged away', () => {
    const [a, b] = pairOf(`${DDL}; CREATE TABLE mine (t_id INTEGER NOT NULL REFERENCES t (id))`, {
      config: { tables: { t: { unique: { name: 'merge' } }, mine: { sync: false } } },
    });
    a.write("INSERT INTO t (name) VALUES ('x')");
    a.stamp();
    b.write("INSERT INTO t (name) VALUES ('x'); INSERT INTO mine SELECT id FROM t");
    b.pull(a);
    expect(b.waiting()).toEqual(['unique']);
    expect(b.rows('SELECT count(*) FROM mine JOIN t ON t.id = mine.t_id')).toEqual([[1]]);
    expect(b.violations()).toEqual([]);
  });
});
