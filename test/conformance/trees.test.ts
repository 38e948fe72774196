/** Moves in trees that were made apart and together make a ring. Rule ids are those of docs/spec.md, group M. */
import { describe, expect, it } from 'vitest';

import { listConflicts } from '../../src/db/conflict-list.ts';
import { restoreConflict } from '../../src/db/restore.ts';
import { Chance } from '../support/chance.ts';
import { expectEqual, fleetOf, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const FOLDERS =
  'CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (id) ON DELETE CASCADE, name TEXT NOT NULL)';

/** Trees of every form that SQLite has: by id, by text, of several columns, with roots that refer to themselves. */
const FORMS: Record<string, { readonly ddl: string; readonly nodes: string; readonly isRooted?: boolean }> = {
  ids: { ddl: FOLDERS, nodes: "INSERT INTO t VALUES (1, NULL, '1'), (2, NULL, '2'), (3, NULL, '3')" },
  text: {
    ddl: 'CREATE TABLE t (name TEXT PRIMARY KEY, parent TEXT REFERENCES t (name) ON DELETE CASCADE) WITHOUT ROWID',
    nodes: "INSERT INTO t (name) VALUES ('1'), ('2'), ('3')",
  },
  'a unique column': {
    ddl: 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, parent TEXT REFERENCES t (name))',
    nodes: "INSERT INTO t (name) VALUES ('1'), ('2'), ('3')",
  },
  'several columns': {
    ddl: `CREATE TABLE t (area TEXT NOT NULL, name TEXT NOT NULL, up TEXT, parent TEXT, PRIMARY KEY (area, name),
      FOREIGN KEY (up, parent) REFERENCES t (area, name) ON DELETE CASCADE)`,
    nodes: "INSERT INTO t (area, name) VALUES ('a', '1'), ('a', '2'), ('a', '3')",
  },
  'roots that refer to themselves': {
    ddl: 'CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL REFERENCES t (id) ON DELETE CASCADE, name TEXT NOT NULL)',
    nodes: "INSERT INTO t VALUES (1, 1, '1'), (2, 2, '2'), (3, 3, '3')",
    isRooted: true,
  },
};

function move(replica: Replica, form: string, name: string, to: string): void {
  const { ddl } = FORMS[form] ?? { ddl: '' };
  const value = ddl.includes('parent INTEGER') ? `(SELECT id FROM t WHERE name = '${to}')` : `'${to}'`;
  replica.write(`UPDATE t SET ${ddl.includes('area') ? "up = 'a', " : ''}parent = ${value} WHERE name = '${name}'`);
  replica.stamp();
}

/** Name of each row → name of its parent; a root that refers to itself has none. */
function tree(replica: Replica): Map<string, string | null> {
  const ddl = String(replica.rows("SELECT sql FROM sqlite_schema WHERE name = 't'")[0]?.[0]);
  const on = ddl.includes('parent INTEGER') ? 'p.id = t.parent' : 'p.name = t.parent';
  const rows = replica.rows(`SELECT t.name, p.name FROM t LEFT JOIN t p ON ${on} ORDER BY t.name`);
  return new Map((rows as [string, string | null][]).map(([name, up]) => [name, up === name ? null : up]));
}

function hasRing(parents: ReadonlyMap<string, string | null>): boolean {
  return [...parents.keys()].some((start) => {
    const seen = new Set<string>();
    let at: string | null = start;
    for (; at !== null && !seen.has(at); at = parents.get(at) ?? null) seen.add(at);
    return at !== null;
  });
}

function made(form: string, count: number): Replica[] {
  const { ddl, nodes } = FORMS[form] ?? { ddl: '', nodes: '' };
  const replicas = fleetOf(count, ddl);
  replicas[0]?.write(nodes);
  converge(replicas);
  return replicas;
}

const ORDERS = [
  [0, 1, 2],
  [2, 1, 0],
  [1, 2, 0],
] as const;

describe('[M1] the later of two moves that make a ring', () => {
  it.each(Object.keys(FORMS).flatMap((form) => ORDERS.map((order) => ({ form, order }))))(
    'gives way: the row goes to the top, the same on every device ($form, order $order)',
    async ({ form, order }) => {
      const replicas = made(form, 3) as [Replica, Replica, Replica];
      move(replicas[0], form, '1', '2');
      move(replicas[1], form, '2', '1');
      converge(order.map((i) => replicas[i] as Replica));
      for (const replica of replicas) {
        expect(Object.fromEntries(tree(replica))).toEqual({ 1: '2', 2: null, 3: null });
        expect(replica.waiting()).toEqual([]);
      }
      await expectEqual(...replicas);
    },
  );

  it.each(ORDERS)('gives way in a ring over three devices (order %i %i %i)', async (...order) => {
    const replicas = made('ids', 3) as [Replica, Replica, Replica];
    move(replicas[0], 'ids', '1', '2');
    move(replicas[1], 'ids', '2', '3');
    move(replicas[2], 'ids', '3', '1');
    converge(order.map((i) => replicas[i] as Replica));
    for (const replica of replicas) expect(Object.fromEntries(tree(replica))).toEqual({ 1: '2', 2: '3', 3: null });
    await expectEqual(...replicas);
  });

  it('is decided by when the rows were moved, not by what else was written to them', async () => {
    const [a, b] = made('ids', 2) as [Replica, Replica];
    move(a, 'ids', '1', '2');
    move(b, 'ids', '2', '1');
    a.write("UPDATE t SET name = '1 of a' WHERE name = '1'");
    a.stamp();
    converge([a, b]);
    for (const replica of [a, b])
      expect(Object.fromEntries(tree(replica))).toEqual({ '1 of a': '2', 2: null, 3: null });
    await expectEqual(a, b);
  });

  it('is recorded with where the row was moved, and can be restored once that makes no ring', async () => {
    const [a, b] = made('ids', 2) as [Replica, Replica];
    move(a, 'ids', '1', '2');
    move(b, 'ids', '2', '1');
    converge([a, b]);
    // Whoever saw the ring first has it.
    const [found] = [a, b].flatMap((replica) =>
      listConflicts(replica.library.sql, replica.library.registry, {}).conflicts.map((record) => ({ replica, record })),
    );
    expect(found?.record).toMatchObject({ table: 't', column: 'parent', rule: 'cycle' });
    const { replica: where, record } = found ?? { replica: a, record: { id: 0 } };
    expect(() => restoreConflict(where.library, record.id)).toThrow(/above itself/);
    move(where, 'ids', '1', '3');
    restoreConflict(where.library, record.id);
    converge([a, b]);
    for (const replica of [a, b]) expect(Object.fromEntries(tree(replica))).toEqual({ 1: '3', 2: '1', 3: null });
    await expectEqual(a, b);
  });

  it('leaves a ring to a move that ends it, though that comes later', async () => {
    const [a, b, c] = made('ids', 3) as [Replica, Replica, Replica];
    move(a, 'ids', '1', '2');
    move(b, 'ids', '2', '1');
    b.write("UPDATE t SET parent = (SELECT id FROM t WHERE name = '3') WHERE name = '2'");
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(Object.fromEntries(tree(replica))).toEqual({ 1: '2', 2: '3', 3: null });
      expect(replica.rows("SELECT count(*) FROM flotilla_conflicts WHERE rule = 'cycle'")).toEqual([[0]]);
    }
    await expectEqual(a, b, c);
  });
});

describe('[M5] rows that become one', () => {
  const NAMED =
    'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, parent INTEGER REFERENCES t (id) ON DELETE CASCADE)';

  it.each(['child', 'parent'])('make no ring of one, nor of more, where the %s is made later', async (later) => {
    const replicas = fleetOf(3, NAMED, { config: { tables: { t: { unique: { name: 'merge' } } } } });
    const [a, b] = replicas as [Replica, Replica, Replica];
    // The smaller UUID wins, which is that of the row made first.
    const [first, second] = later === 'child' ? ['up', 'down'] : ['down', 'up'];
    a.write(`INSERT INTO t VALUES (1, '${first}', NULL)`);
    a.stamp();
    a.write(`INSERT INTO t VALUES (2, '${second}', NULL); INSERT INTO t VALUES (3, 'between', NULL)`);
    a.write(`UPDATE t SET parent = (SELECT id FROM t WHERE name = 'up') WHERE name = 'between'`);
    a.write(`UPDATE t SET parent = (SELECT id FROM t WHERE name = 'between') WHERE name = 'down'`);
    converge(replicas);
    a.write("UPDATE t SET name = 'one' WHERE name = 'up'");
    a.stamp();
    b.write("UPDATE t SET name = 'one' WHERE name = 'down'");
    converge(replicas);
    for (const replica of replicas) {
      expect(hasRing(tree(replica))).toBe(false);
      expect(replica.rows('SELECT name FROM t ORDER BY name')).toEqual([['between'], ['one']]);
      expect(replica.rows('SELECT count(*) FROM t WHERE parent = id')).toEqual([[0]]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(...replicas);
  });
});

describe('[M2] a version that would close a ring', () => {
  it('waits until all is known, and no commit shows the ring', async () => {
    const [a, b] = made('ids', 2) as [Replica, Replica];
    move(a, 'ids', '1', '2');
    move(b, 'ids', '2', '1');
    b.write(
      `WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO t SELECT 100 + i, NULL, 'more ' || i FROM n`,
    );
    const pass = a.passFrom(b);
    let pages = 0;
    let isWaiting = false;
    for (let page = pass.next(10); page !== null; page = pass.next(10)) {
      const { complete } = a.apply(b.device, page);
      pages += 1;
      expect(hasRing(tree(a))).toBe(false);
      if (complete) break;
      isWaiting ||= a.waiting().includes('cycle');
    }
    pass.close();
    expect(pages).toBeGreaterThan(2);
    expect(isWaiting).toBe(true);
    expect(a.waiting()).toEqual([]);
    converge([a, b]);
    await expectEqual(a, b);
  });
});

describe('[M3] a tree', () => {
  const PEOPLE =
    'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, twin INTEGER REFERENCES t (id), parent INTEGER REFERENCES t (id))';

  function ring(column: string, config: object = {}): unknown[][] {
    const [a, b] = pairOf(PEOPLE, { config });
    a.write("INSERT INTO t (id, name) VALUES (1, '1'), (2, '2')");
    converge([a, b]);
    a.write(`UPDATE t SET ${column} = (SELECT id FROM t WHERE name = '2') WHERE name = '1'`);
    a.stamp();
    b.write(`UPDATE t SET ${column} = (SELECT id FROM t WHERE name = '1') WHERE name = '2'`);
    converge([a, b]);
    return a.rows(`SELECT p.name FROM t LEFT JOIN t p ON p.id = t.${column} ORDER BY t.name`);
  }

  it('is a reference called parent, and no other that deletes nothing', () => {
    expect(ring('parent')).toEqual([['2'], [null]]);
    expect(ring('twin')).toEqual([['2'], ['1']]);
  });

  it('is what the configuration says', () => {
    expect(ring('parent', { tables: { t: { tree: false } } })).toEqual([['2'], ['1']]);
    expect(ring('twin', { tables: { t: { tree: 'TWIN' } } })).toEqual([['2'], [null]]);
    expect(() => pairOf(PEOPLE, { config: { tables: { t: { tree: ['name'] } } } })).toThrow(
      /"tree" of the table "t" names "name"/,
    );
  });
});

describe('[M4] a row of another device', () => {
  it('is left to its owner, who sees the same ring', async () => {
    const [a, b] = pairOf(FOLDERS, { config: { ownership: 'device' } });
    a.write("INSERT INTO t VALUES (1, NULL, '1')");
    b.write("INSERT INTO t VALUES (1, NULL, '2')");
    converge([a, b]);
    move(a, 'ids', '1', '2');
    move(b, 'ids', '2', '1');
    a.pull(b);
    expect(a.waiting()).toEqual(['cycle']);
    expect(Object.fromEntries(tree(a))).toEqual({ 1: '2', 2: null });
    b.pull(a);
    expect(Object.fromEntries(tree(b))).toEqual({ 1: '2', 2: null });
    a.pull(b);
    expect(a.waiting()).toEqual([]);
    await expectEqual(a, b);
  });
});

describe('[M1] [M2] random moves', () => {
  const SEEDS = Number(process.env['FLOTILLA_TREE_SEEDS'] ?? 10);
  const ROWS = 6;

  it.each(Array.from({ length: SEEDS }, (_, i) => i + 1))('end in one tree everywhere (seed %i)', async (seed) => {
    const chance = new Chance(seed);
    const forms = Object.keys(FORMS);
    const form = forms[seed % forms.length] ?? 'ids';
    const replicas = made(form, 3);
    const { isRooted = false, ddl = '' } = FORMS[form] ?? {};
    const at = (): Replica => replicas[chance.below(replicas.length)] as Replica;
    const inserted = ddl.includes('area') ? "(area, name) VALUES ('a', '%')" : "(name) VALUES ('%')";
    for (let i = 4; i <= ROWS; i += 1)
      replicas[0]?.write(
        isRooted ? `INSERT INTO t VALUES (${i}, ${i}, '${i}')` : `INSERT INTO t ${inserted.replace('%', String(i))}`,
      );
    converge(replicas);
    for (let step = 0; step < 60; step += 1) {
      const replica = at();
      const other = at();
      if (chance.below(3) > 0) {
        const [name, to] = [String(1 + chance.below(ROWS)), String(1 + chance.below(ROWS))];
        const parents = tree(replica);
        // What no program would do: into itself, or into what is in it.
        const isWrong = name === to || hasRing(new Map(parents).set(name, to));
        if (!isWrong && parents.has(name) && parents.has(to)) move(replica, form, name, to);
      } else if (replica !== other) {
        replica.pull(other, 1 + chance.below(4));
        expect(hasRing(tree(replica))).toBe(false);
      }
    }
    converge(replicas);
    for (const replica of replicas) {
      expect(hasRing(tree(replica))).toBe(false);
      expect([...tree(replica)]).toEqual([...tree(replicas[0] as Replica)]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(...replicas);
  });
});

describe('[M1] a ring that one device has made by itself', () => {
  it('ends as well where its rows had to wait for something else, each for the other', async () => {
    const [a, b, c] = fleetOf(
      3,
      `CREATE TABLE tag (id INTEGER PRIMARY KEY, likes INTEGER REFERENCES tag (id));
       CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (id), name TEXT NOT NULL, tag INTEGER REFERENCES tag (id))`,
    ) as [Replica, Replica, Replica];
    a.write(
      `PRAGMA foreign_keys = OFF; INSERT INTO tag VALUES (1, 99); PRAGMA foreign_keys = ON;
       INSERT INTO t VALUES (1, NULL, 'x', NULL), (2, 1, 'y', 1); UPDATE t SET parent = 2 WHERE id = 1`,
    );
    b.pull(a);
    expect(b.waiting()).toEqual(['missing-target', 'missing-target']);
    a.write('UPDATE tag SET likes = NULL');
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(replica.waiting()).toEqual([]);
      expect([...tree(replica)]).toEqual([
        ['x', null],
        ['y', 'x'],
      ]);
    }
    await expectEqual(a, b, c);
  });
});
