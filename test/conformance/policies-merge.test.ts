/** Group C of docs/spec.md, from C10 on: columns whose concurrent writes come together. */
import { describe, expect, it } from 'vitest';

import { restoreConflict } from '../../src/db/restore.ts';
import { FlotillaError } from '../../src/errors.ts';
import { altered, expectEqual, fleetOf, pagesFor, pairOf } from '../support/engine.ts';
import { converge, Replica } from '../support/replica.ts';
import type { ReplicaOptions } from '../support/replica.ts';

const DDL = `CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, n INTEGER DEFAULT 0, high REAL, low, tags TEXT);`;

/** Words of both, in order. */
const union = (a: unknown, b: unknown): string =>
  [...new Set([...String(a).split(' '), ...String(b).split(' ')])].toSorted().join(' ');

const OPTIONS = {
  config: {
    module: './flotilla.merge.js',
    tables: {
      things: {
        columns: { n: { merge: 'counter' }, high: { merge: 'max' }, low: { merge: 'min' }, tags: { merge: 'union' } },
      },
    },
  },
  functions: { union },
} satisfies Partial<ReplicaOptions>;

function fleet(count: number, options: Partial<ReplicaOptions> = OPTIONS, ddl = DDL): Replica[] {
  const replicas = fleetOf(count, ddl, options);
  (replicas[0] as Replica).write("INSERT INTO things (name, n, high, low, tags) VALUES ('x', 10, 1.5, 5, 'b')");
  converge(replicas);
  return replicas;
}

function pair(options?: Partial<ReplicaOptions>, ddl?: string): [Replica, Replica] {
  return fleet(2, options, ddl) as [Replica, Replica];
}

function shown(replica: Replica, columns = 'n, high, low, tags'): unknown[] {
  return replica.rows(`SELECT ${columns} FROM things ORDER BY id`).flat();
}

const records = (replica: Replica): unknown[][] =>
  replica.rows('SELECT col, rule, lost, kept FROM flotilla_conflicts ORDER BY id');

describe('counters', () => {
  it('[C10] concurrent increments add up', async () => {
    const replicas = fleet(3);
    for (const [i, replica] of replicas.entries()) {
      replica.write(`UPDATE things SET n = n + ${10 ** i}`);
      replica.stamp();
      replica.write(`UPDATE things SET n = n + ${10 ** i}`);
    }
    converge(replicas);
    for (const replica of replicas) {
      expect(shown(replica, 'n')).toEqual([10 + 2 * 111]);
      expect(records(replica)).toEqual([]);
    }
    await expectEqual(...replicas);
  });

  it('[C10] also those of one device over several runs, before and after others were merged', async () => {
    const [a, b] = pair();
    a.write('UPDATE things SET n = n + 1');
    a.restart();
    a.write('UPDATE things SET n = n + 1');
    b.write('UPDATE things SET n = n - 5');
    a.pull(b);
    a.write('UPDATE things SET n = n * 2');
    a.restart();
    b.write('UPDATE things SET n = 100');
    converge([a, b]);
    // A saw 10 + 1 + 1 - 5 = 7 and made 14 of it; B saw 5 and made 100 of it.
    for (const replica of [a, b]) expect(shown(replica, 'n')).toEqual([10 + 1 + 1 - 5 + 7 + 95]);
    await expectEqual(a, b);
  });

  it('[C10] an increment that comes twice, late, or by another way counts once', async () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    a.write('UPDATE things SET n = n + 1');
    const pages = pagesFor(b, a, 1000);
    a.write('UPDATE things SET n = n + 1');
    c.pull(a);
    b.pull(c);
    for (const page of [...pages, ...pages]) b.applier.apply('A', page);
    expect(shown(b, 'n')).toEqual([12]);
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });

  it('[C10] a restored copy counts on without taking back what it had counted', async () => {
    const [a, b] = pair();
    const backup = a.backup();
    a.write('UPDATE things SET n = n + 1');
    converge([a, b]);
    const restored = a.restored(backup);
    restored.write('UPDATE things SET n = n + 100');
    converge([restored, b]);
    for (const replica of [restored, b]) expect(shown(replica, 'n')).toEqual([111]);
    await expectEqual(restored, b);
  });

  it.each([
    ['NULL counts as nothing', 'NULL', 'n + 1', 'n + 2', 3],
    ['integers stay exact', '9007199254740993', 'n + 1', 'n + 1', 9007199254740995n],
    ['beyond 64 bits it goes on as REAL', '9223372036854775807', 'n + 0', 'n + 1', 9223372036854775808],
    ['reals', '0.5', 'n + 0.25', 'n + 0.125', 0.875],
  ])('[C11] numbers: %s', async (_name, start, one, other, sum) => {
    const [a, b] = fleetOf(2, DDL, OPTIONS) as [Replica, Replica];
    a.write(`INSERT INTO things (name, n) VALUES ('x', ${start})`);
    converge([a, b]);
    a.write(`UPDATE things SET n = ${one.replace('n', 'ifnull(n, 0)')}`);
    b.write(`UPDATE things SET n = ${other.replace('n', 'ifnull(n, 0)')}`);
    converge([a, b]);
    for (const replica of [a, b])
      expect(replica.db.prepare('SELECT n FROM things').safeIntegers().pluck().get()).toEqual(
        typeof sum === 'number' && Number.isSafeInteger(sum) ? BigInt(sum) : sum,
      );
    await expectEqual(a, b);
  });

  it('[C11] NULL sets it to zero, and what is no number is put back and recorded', async () => {
    const [a, b] = pair();
    a.write("UPDATE things SET n = 'many', name = 'y'");
    a.stamp();
    expect(shown(a, 'name, n')).toEqual(['y', 10]);
    expect(records(a)).toEqual([['n', 'not-mergeable', 'many', 10]]);
    expect(() => restoreConflict(a.library, 1)).toThrow('the policy of n (counter) keeps another value');
    a.write('UPDATE things SET n = 9e999');
    a.stamp();
    expect(records(a)).toHaveLength(2);
    a.write('UPDATE things SET n = NULL');
    a.stamp();
    expect(shown(a, 'n')).toEqual([0]);
    b.write('UPDATE things SET n = n + 1');
    converge([a, b]);
    for (const replica of [a, b]) expect(shown(replica, 'name, n')).toEqual(['y', 1]);
    await expectEqual(a, b);
  });

  it('[C12] a row that is made anew begins anew', async () => {
    const [a, b] = fleetOf(2, 'CREATE TABLE hits (page TEXT PRIMARY KEY, n INTEGER NOT NULL)', {
      config: { tables: { hits: { columns: { n: { merge: 'counter' } } } } },
    }) as [Replica, Replica];
    a.write("INSERT INTO hits VALUES ('/', 5)");
    converge([a, b]);
    b.write('UPDATE hits SET n = n + 1');
    b.stamp();
    a.write("DELETE FROM hits; INSERT INTO hits VALUES ('/', 1)");
    converge([a, b]);
    a.write('UPDATE hits SET n = n + 1');
    b.write('UPDATE hits SET n = n + 1');
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT n FROM hits')).toEqual([[3]]);
    await expectEqual(a, b);
  });

  it('[C10] of an UPSERT and of a REPLACE under the same key', async () => {
    const [a, b] = fleetOf(2, 'CREATE TABLE hits (page TEXT PRIMARY KEY, n INTEGER NOT NULL)', {
      config: { tables: { hits: { columns: { n: { merge: 'counter' } } } } },
    }) as [Replica, Replica];
    a.write("INSERT INTO hits VALUES ('/', 1)");
    converge([a, b]);
    for (const replica of [a, b])
      replica.write("INSERT INTO hits VALUES ('/', 1) ON CONFLICT (page) DO UPDATE SET n = n + excluded.n");
    a.write("INSERT OR REPLACE INTO hits VALUES ('/', 12)");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT n FROM hits')).toEqual([[13]]);
    await expectEqual(a, b);
  });
});

describe('max, min and functions', () => {
  it('[C13] the greatest, the least and the merged value win, whichever is later', async () => {
    const replicas = fleet(3);
    const [a, b, c] = replicas as [Replica, Replica, Replica];
    a.write("UPDATE things SET high = 9, low = 4, tags = 'b c'");
    a.stamp();
    b.write("UPDATE things SET high = 3, low = 3, tags = 'a b'");
    b.stamp();
    c.write("UPDATE things SET high = 5, low = 4.5, tags = 'd'");
    converge(replicas);
    for (const replica of replicas) {
      expect(shown(replica, 'high, low, tags')).toEqual([9, 3, 'a b c d']);
      expect(records(replica)).toEqual([]);
    }
    await expectEqual(...replicas);
  });

  it('[C13] a write that says nothing new is put back, and nobody hears of it', async () => {
    const [a, b] = pair();
    const [head] = [a.library.head, a.stamp()];
    a.write('UPDATE things SET high = 1, low = 7, tags = NULL');
    a.stamp();
    expect(shown(a, 'high, low, tags')).toEqual([1.5, 5, 'b']);
    expect(a.library.head).toBe(head);
    expect(records(a)).toEqual([]);
    a.write("UPDATE things SET high = 1, name = 'y'");
    converge([a, b]);
    for (const replica of [a, b]) expect(shown(replica, 'name, high')).toEqual(['y', 1.5]);
    await expectEqual(a, b);
  });

  it('[C13] a merged value reaches those who know both of its parts from elsewhere', async () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    a.write("UPDATE things SET tags = 'b x'");
    b.write("UPDATE things SET tags = 'b y'");
    a.pull(b);
    expect(shown(a, 'tags')).toEqual(['b x y']);
    c.pull(b);
    c.pull(a);
    expect(shown(c, 'tags')).toEqual(['b x y']);
    b.pull(c);
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });

  it('[C13] types are ordered as SQLite does, and of equal numbers the integer is less', async () => {
    const [a, b] = fleetOf(2, 'CREATE TABLE t (id INTEGER PRIMARY KEY, v)', {
      config: { tables: { t: { columns: { v: { merge: 'max' } } } } },
    }) as [Replica, Replica];
    const rounds = [
      ['5', '5.0', 'real'],
      ["'a'", '9e999', 'text'],
      ["'b'", "x'00'", 'blob'],
    ] as const;
    a.write('INSERT INTO t VALUES (1, -1)');
    converge([a, b]);
    for (const [one, other, type] of rounds) {
      a.write(`UPDATE t SET v = ${one}`);
      a.stamp();
      b.write(`UPDATE t SET v = ${other}`);
      converge([a, b]);
      for (const replica of [a, b]) expect(replica.rows('SELECT typeof(v) FROM t')).toEqual([[type]]);
      await expectEqual(a, b);
    }
  });

  it.each([
    ['the last', (_a: unknown, b: unknown): unknown => b, /not commutative: for 3 and 7 it gives 7, .* round 3\.$/],
    [
      'a sum',
      (a: unknown, b: unknown): unknown => Number(a) + Number(b),
      /not idempotent: for 3 and .* 6, for that .* 12\.$/,
    ],
    [
      'a mean',
      (a: unknown, b: unknown): unknown => (Number(a) + Number(b)) / 2,
      /not associative: for 3 and 7 it gives 5, .* 3 again 4\.$/,
    ],
    ['nothing', (): unknown => undefined, /gives no value that the column can hold for 3 and 3\.$/],
    [
      'a failure',
      (): unknown => {
        throw new Error('cannot');
      },
      /fails for 3 and 3: cannot\.$/,
    ],
  ])('[C14] a function that must not be used is refused with the values that show it: %s', (_name, call, message) => {
    const [a, b] = fleetOf(2, DDL, {
      config: { module: './m.js', tables: { things: { columns: { low: { merge: 'bad' } } } } },
      functions: { bad: call },
    }) as [Replica, Replica];
    a.write('INSERT INTO things (low) VALUES (NULL)');
    converge([a, b]);
    a.write('UPDATE things SET low = 3');
    b.write("UPDATE things SET low = 7, name = 'y'");
    b.pull(a);
    expect(b.waiting()).toEqual(['constraint']);
    expect(String(b.rows('SELECT detail FROM flotilla_pending')[0]?.[0])).toMatch(message);
    // What this device shows stays as it is.
    expect(shown(b, 'low, name')).toEqual([7, 'y']);
  });

  it('[C14] a function must give what the column holds as it is', () => {
    const [a, b] = pair({
      ...OPTIONS,
      functions: { union: (x: unknown, y: unknown) => String(x).length + String(y).length },
    });
    a.write("UPDATE things SET tags = 'p'");
    a.stamp();
    expect(shown(a, 'tags')).toEqual(['b']);
    expect(records(a)).toEqual([['tags', 'not-mergeable', 'p', 'b']]);
    expect(b.waiting()).toEqual([]);
  });

  it('[C14] what waits because of a function stands as soon as the function can merge it', async () => {
    let isMended = false;
    const functions = { union: (a: unknown, b: unknown): unknown => (isMended || a === b ? union(a, b) : b) };
    const [a, b] = pair({ ...OPTIONS, functions });
    isMended = true;
    a.write("UPDATE things SET tags = 'p'");
    a.stamp();
    b.write("UPDATE things SET tags = 'q'");
    b.stamp();
    isMended = false;
    b.pull(a);
    a.pull(b);
    expect([...a.waiting(), ...b.waiting()]).toEqual(['constraint', 'constraint']);
    isMended = true;
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.waiting()).toEqual([]);
      expect(shown(replica, 'tags')).toEqual(['b p q']);
    }
    await expectEqual(a, b);
  });

  it('[C13] values of several forms, such as lists in any order, are compared by what the function makes of them', async () => {
    const [a, b] = pair();
    a.write("UPDATE things SET tags = 'd b'");
    b.write("UPDATE things SET tags = 'c b a'");
    converge([a, b]);
    a.write("UPDATE things SET tags = 'd c'");
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(shown(replica, 'tags')).toEqual(['a b c d']);
      expect(records(replica)).toEqual([]);
    }
    await expectEqual(a, b);
  });

  it('[C14] a value that the function cannot merge with what is there is put back and recorded', () => {
    const functions = {
      union(a: unknown, b: unknown): unknown {
        if ([a, b].includes('bad')) throw new Error('no list');
        return union(a, b);
      },
    };
    const [a] = pair({ ...OPTIONS, functions });
    a.write("UPDATE things SET tags = 'bad'");
    a.stamp();
    expect(shown(a, 'tags')).toEqual(['b']);
    expect(records(a)).toEqual([['tags', 'not-mergeable', 'bad', 'b']]);
  });
});

describe('registers and the rest', () => {
  it('[C15] rows that were there before sync began count from what they held', async () => {
    const options = { ...OPTIONS, before: "INSERT INTO things (name, n, high, tags) VALUES ('x', 40, 2, 'a')" };
    const a = new Replica({ device: 'A', ddl: DDL, ...options });
    const b = new Replica({ device: 'B', ddl: DDL, ...OPTIONS });
    converge([a, b]);
    a.write('UPDATE things SET n = n + 1');
    b.write('UPDATE things SET n = n + 1, high = 1');
    converge([a, b]);
    for (const replica of [a, b]) expect(shown(replica, 'n, high, tags')).toEqual([42, 2, 'a']);
    await expectEqual(a, b);
  });

  it('[C15] counts of a row whose sum the table refuses wait, and stand once it fits', async () => {
    const [a, b] = pair(OPTIONS, DDL.replace('DEFAULT 0', 'DEFAULT 0 CHECK (n >= 0)'));
    a.write('UPDATE things SET n = n - 6');
    b.write('UPDATE things SET n = n - 7');
    converge([a, b]);
    expect([...a.waiting(), ...b.waiting()]).toEqual(['constraint', 'constraint']);
    expect([shown(a, 'n'), shown(b, 'n')]).toEqual([[4], [3]]);
    a.write('UPDATE things SET n = n + 1');
    b.write('UPDATE things SET n = n + 2');
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.waiting()).toEqual([]);
      expect(shown(replica, 'n')).toEqual([0]);
    }
    await expectEqual(a, b);
  });

  it('[C15] a put-back that the table refuses lets the whole row win', async () => {
    const [a, b] = pair(OPTIONS, DDL.replace('high REAL', 'high REAL CHECK (high < n)'));
    a.write('UPDATE things SET n = 1, high = 0.5');
    a.stamp();
    expect(shown(a, 'n, high')).toEqual([1, 0.5]);
    converge([a, b]);
    for (const replica of [a, b]) expect(shown(replica, 'n, high')).toEqual([1, 0.5]);
    await expectEqual(a, b);
  });

  it('[C15] a row that waits for another birth takes what is added here', async () => {
    const ddl = 'CREATE TABLE hits (page TEXT PRIMARY KEY, n INTEGER NOT NULL, slot TEXT UNIQUE)';
    const config = { tables: { hits: { columns: { n: { merge: 'counter' } }, unique: { slot: 'keep-first' } } } };
    const [a, b] = fleetOf(2, ddl, { config }) as [Replica, Replica];
    a.write("INSERT INTO hits VALUES ('/', 5, NULL)");
    converge([a, b]);
    b.write("INSERT INTO hits VALUES ('other', 1, 's')");
    b.stamp();
    a.write("DELETE FROM hits; INSERT INTO hits VALUES ('/', 100, 's')");
    b.pull(a);
    expect(b.waiting()).toEqual(['unique']);
    b.write("UPDATE hits SET n = n + 7 WHERE page = '/'");
    b.write("DELETE FROM hits WHERE page = 'other'");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT page, n, slot FROM hits')).toEqual([['/', 107, 's']]);
    await expectEqual(a, b);
  });

  it('[C15] a delete by somebody who knew of every count leaves no record, any other does', () => {
    const [a, b] = pair();
    for (let i = 0; i < 12; i += 1) {
      const replica = i % 2 === 0 ? a : b;
      replica.write('UPDATE things SET n = n + 1');
      converge([a, b]);
      replica.restart();
    }
    b.write('DELETE FROM things');
    converge([a, b]);
    expect([...records(a), ...records(b)]).toEqual([]);
    const [c, d] = pair();
    c.write('UPDATE things SET n = n + 1');
    c.stamp();
    d.write('DELETE FROM things');
    converge([c, d]);
    expect(records(c)).toMatchObject([[null, 'deleted', expect.anything(), null]]);
  });

  it('[C15] a row whose delete is undone keeps what was counted, and counts on', async () => {
    const ddl = `CREATE TABLE kinds (id INTEGER PRIMARY KEY, n INTEGER NOT NULL);
      CREATE TABLE uses (id INTEGER PRIMARY KEY, kind_id INTEGER NOT NULL REFERENCES kinds (id) ON DELETE RESTRICT)`;
    const config = { tables: { kinds: { columns: { n: { merge: 'counter' } } } } };
    const [a, b] = fleetOf(2, ddl, { config }) as [Replica, Replica];
    a.write('INSERT INTO kinds VALUES (1, 10)');
    converge([a, b]);
    b.write('UPDATE kinds SET n = n + 1');
    converge([a, b]);
    b.write('INSERT INTO uses VALUES (1, 1)');
    b.stamp();
    a.write('DELETE FROM kinds');
    converge([a, b]);
    for (const replica of [a, b]) replica.write('UPDATE kinds SET n = n + 5');
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT n FROM kinds')).toEqual([[21]]);
    await expectEqual(a, b);
  });

  it('[C15] two copies with other entries have other digests, even where they show the same', async () => {
    const [a, b] = pair();
    a.write('UPDATE things SET n = n + 1');
    a.stamp();
    b.write('UPDATE things SET n = n + 1');
    b.stamp();
    expect(await a.digest()).not.toEqual(await b.digest());
  });

  it('[C15] rows without the entries that they must have are refused', () => {
    const [a, b] = pair();
    a.write('UPDATE things SET n = n + 1');
    const [page] = pagesFor(b, a, 1000) as [Uint8Array];
    const bare = altered(page, ({ tables }) => ({
      tables: tables.map(({ registers: _, ...table }) => table),
    }));
    expect(() => b.applier.apply('A', bare)).toThrow(FlotillaError);
    expect(shown(b, 'n')).toEqual([10]);
  });
});

describe('what may have a policy', () => {
  const refusal = (columns: object, ddl = DDL, more: object = {}): string => {
    try {
      pairOf(ddl, { config: { ...more, tables: { things: { columns } } } });
    } catch (error) {
      if (error instanceof FlotillaError && error.code === 'CONFIG') return error.message;
      throw error;
    }
    return 'allowed';
  };

  it.each([
    [{ id: { merge: 'max' } }, DDL, /part of the primary key/],
    [{ none: { merge: 'max' } }, DDL, /no column/],
    [{ name: { merge: 'counter' } }, DDL, /declared to hold text/],
    [{ n: { merge: 'union' } }, DDL, /no policy .* and there is no "module"/],
    [{ n: { merge: 'max' } }, `${DDL} CREATE UNIQUE INDEX u ON things (n);`, /UNIQUE index "u"/],
    [{ n: { merge: 'max' } }, `${DDL} CREATE UNIQUE INDEX u ON things (abs(n));`, /UNIQUE index "u"/],
    [
      { n: { merge: 'max' } },
      `CREATE TABLE things (id INTEGER PRIMARY KEY, n INTEGER REFERENCES things (id));`,
      /it is a reference/,
    ],
  ])('[C16] refuses %j with a sentence', (columns, ddl, message) => {
    expect(refusal(columns, ddl)).toMatch(message);
  });

  it('[C16] refuses owned tables, and functions that are not exported', () => {
    expect(refusal({ n: { merge: 'max' } }, DDL, { ownership: 'device' })).toMatch(/only the owner/);
    expect(refusal({ tags: { merge: 'union' } }, DDL, { module: './m.js' })).toMatch(/exports no function "union"/);
    expect(refusal({ n: { merge: 'lww' } })).toBe('allowed');
  });

  it('[C16] policies are part of what devices must agree on', () => {
    const hash = (columns: object): string =>
      pairOf(DDL, { config: { tables: { things: { columns } } } })[0].library.registry.schemaHash;
    const hashes = [hash({}), hash({ n: { merge: 'max' } }), hash({ n: { merge: 'counter' } })];
    expect(new Set(hashes).size).toBe(3);
    expect(hash({ n: { merge: 'lww' } })).toBe(hashes[0]);
  });
});
