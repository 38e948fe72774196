/** The feed: pages, parents first, cursors, knowledge, and what stays behind. */
import { describe, expect, it } from 'vitest';

import { noteDangling } from '../../src/db/remark.ts';
import { wireOf } from '../../src/db/knowledge-wire.ts';
import { decodeBatch } from '../../src/protocol/batch.ts';
import { encodeStamps } from '../../src/protocol/stamp-set.ts';
import { expectEqual, fleetOf, inTheMiddle, pagesFor, pairOf, rowsIn, stampsOf } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';

const TREE = `CREATE TABLE entries (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE, name TEXT, size INTEGER)`;
const LINKED = `
CREATE TABLE volumes (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE contents (id INTEGER PRIMARY KEY, hash TEXT);
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, volume_id INTEGER NOT NULL REFERENCES volumes (id), content_id INTEGER REFERENCES contents (id),
  parent_id INTEGER REFERENCES entries (id), name TEXT
);`;

function counter(replica: Replica, name: string): number {
  return Number(replica.rows('SELECT value FROM flotilla_counters WHERE name = ?', name)[0]?.[0] ?? 0);
}

/** Gives `replica` 40 volumes and contents and 400 entries that refer to three of them each. */
function fill(replica: Replica): void {
  replica.write(`
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO volumes SELECT i, 'v' || i FROM n;
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO contents SELECT i, 'h' || i FROM n;
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
    INSERT INTO entries SELECT i, 1 + i % 40, 1 + (i * 7) % 40, nullif(i / 10, 0), 'e' || i FROM n;`);
}

describe('[A6] look-ups', () => {
  it('are one query a batch on the way in, and at most one a page on the way out', () => {
    const [a, b] = pairOf(LINKED);
    fill(a);
    const applied = b.pull(a, 50);
    expect(applied.length).toBe(10);
    expect(counter(b, 'batchesIn')).toBe(10);
    expect(counter(b, 'lookupsIn')).toBe(10);
    expect(a.feeds.counters.batchesOut).toBe(10);
    expect(a.feeds.counters.lookupsOut).toBeLessThanOrEqual(10);
    expect(a.feeds.counters.rowsOut).toBe(480);
  });

  it('are as few live, in both directions', () => {
    const [a, b] = pairOf(LINKED);
    fill(a);
    converge([a, b]);
    const before = [
      counter(b, 'batchesIn'),
      counter(b, 'lookupsIn'),
      a.feeds.counters.batchesOut,
      a.feeds.counters.lookupsOut,
    ];
    const pass = b.passFrom(a);
    b.applier.apply('A', pass.next() as Uint8Array);
    for (let i = 0; i < 5; i += 1) {
      a.write(
        `INSERT INTO entries (volume_id, content_id, parent_id, name) SELECT ${i + 1}, ${i + 2}, ${i + 3}, 'live' || value FROM generate_series(1, 20)`.replace(
          'generate_series(1, 20)',
          "json_each('[1,2,3,4,5]')",
        ),
      );
      b.applier.apply('A', pass.next() as Uint8Array);
    }
    const after = [
      counter(b, 'batchesIn'),
      counter(b, 'lookupsIn'),
      a.feeds.counters.batchesOut,
      a.feeds.counters.lookupsOut,
    ];
    expect(after.map((value, i) => value - (before[i] as number))).toEqual([6, 5, 6, 5]);
  });

  it('are none for an empty page', () => {
    const [a, b] = pairOf(LINKED);
    b.pull(a);
    expect(counter(b, 'batchesIn')).toBe(1);
    expect(counter(b, 'lookupsIn')).toBe(0);
    expect(b.library.head).toBe(0);
  });
});

describe('[A1] parents first', () => {
  it('sends a folder ahead that was updated after its files, so that nothing ever waits', async () => {
    const [a, b] = pairOf(TREE);
    a.write(
      "INSERT INTO entries (id, name) VALUES (1, 'root'), (2, 'folder'); UPDATE entries SET parent_id = 1 WHERE id = 2",
    );
    a.write(
      `WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 60) INSERT INTO entries SELECT i, 2, 'f' || i, 1 FROM n`,
    );
    a.stamp();
    a.write('UPDATE entries SET size = 51 WHERE id = 2');
    a.stamp();
    a.write('UPDATE entries SET size = 51 WHERE id = 1');
    const seen = new Set<string>();
    for (const page of pagesFor(b, a, 5)) {
      expect(b.applier.apply('A', page).waitingCount).toBe(0);
      for (const table of decodeBatch(page).tables) {
        for (const index of table.rows) {
          const uuid = Buffer.from(decodeBatch(page).uuids.subarray(index * 16, index * 16 + 16)).toString('hex');
          expect(seen.has(uuid)).toBe(false);
          seen.add(uuid);
        }
      }
    }
    expect(seen.size).toBe(53);
    await expectEqual(a, b);
  });

  it('sends a deep tree that was built from the leaves up', async () => {
    const [a, b] = pairOf(TREE);
    a.write(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO entries SELECT i, NULL, 'n' || i, i FROM n;
      UPDATE entries SET parent_id = id + 1 WHERE id < 200`);
    for (const applied of b.pull(a, 5)) expect(applied.waitingCount).toBe(0);
    await expectEqual(a, b);
  });

  it('sends a parent again that changed after it went ahead', async () => {
    const [a, b] = pairOf(TREE);
    a.write(
      "INSERT INTO entries VALUES (1, NULL, 'root', 0); INSERT INTO entries VALUES (2, 1, 'x', 0), (3, 1, 'y', 0), (4, 1, 'z', 0)",
    );
    a.stamp();
    a.write('UPDATE entries SET size = 1 WHERE id = 1');
    const pass = b.passFrom(a);
    b.applier.apply('A', pass.next(1) as Uint8Array);
    a.write('UPDATE entries SET size = 2 WHERE id = 1');
    for (let page = pass.next(1); page !== null; page = pass.next(1)) if (b.applier.apply('A', page).complete) break;
    expect(b.rows("SELECT size FROM entries WHERE name = 'root'")).toEqual([[2]]);
    await expectEqual(a, b);
  });
});

describe('pages', () => {
  it('hold at most so many rows, and a huge row travels alone', async () => {
    const [a, b] = pairOf('CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)');
    a.write(
      'INSERT INTO t VALUES (1, zeroblob(10)), (2, zeroblob(10)), (3, zeroblob(50000)), (4, zeroblob(10)), (5, zeroblob(50000)), (6, zeroblob(50000))',
    );
    const pages = pagesFor(b, a, 1000, 20_000);
    expect(pages.map(rowsIn)).toEqual([2, 1, 1, 1, 1]);
    for (const page of pages) b.applier.apply('A', page);
    await expectEqual(a, b);
  });

  it('hold every row once, whatever the limits', async () => {
    const [a] = pairOf(LINKED);
    fill(a);
    for (const [rows, bytes] of [
      [1, 1 << 20],
      [7, 1 << 20],
      [1000, 300],
      [1000, 1],
      [3, 150],
    ] as const) {
      const b = new Replica({ device: 'B', ddl: LINKED });
      const pages = pagesFor(b, a, rows, bytes);
      expect(pages.reduce((sum, page) => sum + rowsIn(page), 0)).toBe(480);
      for (const page of pages) b.applier.apply('A', page);
      expect(b.waiting()).toEqual([]);
      await expectEqual(a, b);
    }
  });

  it('go on live after the pass, each with what is new alone', async () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO entries (name) VALUES ('x')");
    const pass = b.passFrom(a);
    b.applier.apply('A', pass.next() as Uint8Array);
    expect(pass.next()).toBeNull();
    a.write("INSERT INTO entries (name) VALUES ('y')");
    const page = pass.next() as Uint8Array;
    expect(rowsIn(page)).toBe(1);
    expect(b.applier.apply('A', page).complete).toBe(true);
    expect(pass.next()).toBeNull();
    await expectEqual(a, b);
  });

  it('[A7] never hold a mark that is not stamped', () => {
    const [a, b] = pairOf(TREE);
    const { feed } = a.feeds.open(null, null);
    a.write("INSERT INTO entries (name) VALUES ('x')");
    expect(a.feeds.page(feed, { rows: 10, bytes: 1000 })).toEqual({ unstamped: true, dangling: null });
    expect(b.rows('SELECT 1')).toEqual([[1]]);
  });
});

describe('[A2] cursors', () => {
  it('resume a pass where it was broken off', async () => {
    const [a, b] = pairOf(TREE);
    a.write(
      `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) INSERT INTO entries SELECT i, NULL, 'n' || i, 0 FROM n`,
    );
    const pages = pagesFor(b, a, 4);
    for (const page of pages.slice(0, 2)) b.applier.apply('A', page);
    b.restart();
    a.restart();
    const rest = pagesFor(b, a, 4);
    expect(rest.reduce((sum, page) => sum + rowsIn(page), 0)).toBe(12);
    for (const page of rest) b.applier.apply('A', page);
    await expectEqual(a, b);
  });

  it('are refused after the sender was restored from an older backup, and nothing is lost', async () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO entries (name) VALUES ('kept')");
    converge([a, b]);
    const backup = a.backup();
    a.write("INSERT INTO entries (name) VALUES ('after the backup')");
    b.pull(a);
    const again = a.restored(backup);
    again.write("INSERT INTO entries (name) VALUES ('p'), ('q'), ('r')");
    again.stamp();
    const opened = again.feeds.open(b.library.cursor('A'), null);
    expect(opened.resumed).toBe(false);
    converge([again, b]);
    expect(again.rows('SELECT name FROM entries ORDER BY name')).toEqual([
      ['after the backup'],
      ['kept'],
      ['p'],
      ['q'],
      ['r'],
    ]);
    await expectEqual(again, b);
  });

  it('are refused when only the head that they name was undone: a row that lay before the position may lie behind it now', async () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO entries (name) VALUES ('1')");
    a.stamp();
    a.write("INSERT INTO entries (name) VALUES ('2')");
    a.stamp();
    const backup = a.backup();
    // Moves row 1 to lsn 3: the receiver's position becomes 2, by a page read at head 3.
    a.write("UPDATE entries SET size = 9 WHERE name = '1'");
    const [first] = pagesFor(b, a, 1) as [Uint8Array];
    b.applier.apply('A', first);
    const cursor = b.library.cursor('A');
    expect(cursor).toMatchObject({ position: 2, head: 3 });
    // The restore undoes the move: row 1 lies at lsn 1 again, before the position, and was never sent.
    const again = a.restored(backup);
    again.write("INSERT INTO entries (name) VALUES ('3')");
    again.stamp();
    expect(again.library.head).toBe(3);
    expect(again.feeds.open(cursor, null).resumed).toBe(false);
    b.pull(again);
    expect(b.rows('SELECT name FROM entries ORDER BY name')).toEqual([['1'], ['2'], ['3']]);
    await expectEqual(again, b);
  });

  it('are older after the receiver was restored, and it gets what it lacks', async () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO entries (name) VALUES ('1')");
    converge([a, b]);
    const backup = b.backup();
    a.write("INSERT INTO entries (name) VALUES ('2')");
    b.write("INSERT INTO entries (name) VALUES ('3')");
    converge([a, b]);
    const again = b.restored(backup);
    again.write("INSERT INTO entries (name) VALUES ('4')");
    converge([a, again]);
    expect(again.rows('SELECT name FROM entries ORDER BY name')).toEqual([['1'], ['2'], ['3'], ['4']]);
    await expectEqual(a, again);
  });
});

describe('[A12] runs', () => {
  it('are one an opening, and a restored copy stamps under a new one', () => {
    const [a] = pairOf(TREE);
    const runOf = (replica: Replica, name: string): string =>
      String(
        replica.rows(
          `SELECT hex(r.id) FROM entries t JOIN flotilla_rows_${replica.library.model('entries').n} m ON m.key = t.id JOIN flotilla_runs r ON r.run = m.run WHERE t.name = ?`,
          name,
        )[0]?.[0],
      );
    a.write("INSERT INTO entries (name) VALUES ('1')");
    a.stamp();
    a.write("INSERT INTO entries (name) VALUES ('2')");
    a.stamp();
    expect(runOf(a, '2')).toBe(runOf(a, '1'));
    const backup = a.backup();
    a.restart();
    a.write("INSERT INTO entries (name) VALUES ('3')");
    a.stamp();
    expect(runOf(a, '3')).not.toBe(runOf(a, '1'));
    const again = a.restored(backup);
    again.write("INSERT INTO entries (name) VALUES ('3')");
    again.stamp();
    expect([runOf(a, '1'), runOf(a, '3')]).not.toContain(runOf(again, '3'));
  });

  it('leave no trace when nothing is stamped in them', () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO entries (name) VALUES ('1')");
    converge([a, b]);
    const runs = b.rows('SELECT count(*) FROM flotilla_runs');
    for (let i = 0; i < 3; i += 1) {
      b.restart();
      b.pull(a);
      b.stamp();
    }
    expect(b.rows('SELECT count(*) FROM flotilla_runs')).toEqual(runs);
  });
});

describe('knowledge', () => {
  const known = (replica: Replica): [string, number][] => [...replica.library.knowledge()];

  it('[A3] grows at a complete pass, not by pages before', () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO entries (name) VALUES ('1'), ('2'), ('3'), ('4')");
    const pages = pagesFor(b, a, 1);
    for (const page of pages.slice(0, -1)) {
      b.applier.apply('A', page);
      expect(known(b)).toEqual([]);
    }
    b.applier.apply('A', pages.at(-1) as Uint8Array);
    expect(known(b)).toEqual(known(a));
  });

  it('[A4] spares the echo and what came another way', () => {
    const [a, b, c] = fleetOf(3, TREE) as [Replica, Replica, Replica];
    a.write("INSERT INTO entries (name) VALUES ('1'), ('2')");
    b.pull(a);
    expect(pagesFor(a, b, 10).map(rowsIn)).toEqual([0]);
    c.pull(a);
    expect(pagesFor(c, b, 10).map(rowsIn)).toEqual([0]);
    c.write("UPDATE entries SET size = 1 WHERE name = '1'");
    a.pull(c);
    expect(pagesFor(b, a, 10).map(rowsIn)).toEqual([1]);
    expect(pagesFor(c, a, 10).map(rowsIn)).toEqual([0]);
  });

  it('[A4] spares the echo of a pass that is still open', () => {
    const [a, b] = pairOf(TREE);
    a.stamp();
    const { feed } = b.feeds.open(null, { runs: new Uint8Array(0), hlc: [] });
    b.feeds.page(feed, { rows: 10, bytes: 1000 });
    a.write("INSERT INTO entries (name) VALUES ('1')");
    const [applied] = b.pull(a);
    b.feeds.peerKnows(feed, applied?.knowledge ?? { runs: new Uint8Array(0), hlc: [] });
    expect(b.feeds.page(feed, { rows: 10, bytes: 1000 })).toMatchObject({ data: null, rows: 0, complete: true });
  });

  it('[A20] reaches the peer alone when what it has itself has become much', () => {
    const [a, b] = pairOf(TREE);
    a.stamp();
    const live = a.passFrom(b);
    a.applier.apply('B', live.next() as Uint8Array);
    const grow = (rows: number): void => {
      a.write(
        `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})
         INSERT INTO entries (name) SELECT i FROM n`,
      );
      for (const { knowledge } of b.pull(a)) if (knowledge !== null) live.peerKnows(knowledge);
    };
    grow(900);
    expect(live.next()).toBeNull();
    grow(200);
    const page = live.next() as Uint8Array;
    expect(rowsIn(page)).toBe(0);
    expect(a.applier.apply('B', page)).toMatchObject({ complete: true, changed: 0 });
    expect(a.library.cursor('B')?.position).toBe(b.library.head);
    expect(live.next()).toBeNull();
  });

  it('[A4] is no reason to spare a version whose birth alone is known', async () => {
    const [a, b, c] = fleetOf(3, TREE) as [Replica, Replica, Replica];
    a.write("INSERT INTO entries (name) VALUES ('1')");
    converge([a, b, c]);
    b.write('UPDATE entries SET size = 5');
    a.pull(b);
    c.pull(a);
    expect(c.rows('SELECT size FROM entries')).toEqual([[5]]);
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });
});

describe('[A10] rows that refer to nothing, left by a writer without foreign keys', () => {
  const orphan = (replica: Replica, sql: string): void =>
    replica.write(`PRAGMA foreign_keys = OFF; ${sql}; PRAGMA foreign_keys = ON`);

  it('stay behind, and that is noted before a page goes out without them', () => {
    const [a] = pairOf(TREE);
    a.write("INSERT INTO entries (name) VALUES ('whole')");
    orphan(a, "INSERT INTO entries VALUES (2, 99, 'orphan', 0)");
    a.stamp();
    const { feed } = a.feeds.open(null, { runs: new Uint8Array(0), hlc: [] });
    const page = (): ReturnType<typeof a.feeds.page> => a.feeds.page(feed, { rows: 10, bytes: 10_000 });
    // A new row has one stamp for both, its birth and its last change.
    const left = { hlc: stampsOf(a, 'entries', 2).birth };
    for (const answer of [page(), page()]) expect(answer).toMatchObject({ unstamped: false, dangling: [left, left] });
    const answer = page();
    if ('dangling' in answer) a.library.transact(() => noteDangling(a.library, answer.dangling ?? []));
    expect(page()).toMatchObject({ rows: 1, complete: true });
  });

  it('arrive once their target exists, also where nothing of them was known', async () => {
    const [a, b, c] = fleetOf(3, TREE) as [Replica, Replica, Replica];
    orphan(a, "INSERT INTO entries VALUES (1, NULL, 'whole', 0), (2, 99, 'orphan', 0), (3, 2, 'child', 0)");
    converge([a, b]);
    expect(b.rows('SELECT name FROM entries')).toEqual([['whole']]);
    expect(b.waiting()).toEqual(['missing-target']);
    c.pull(b);
    a.write("INSERT INTO entries VALUES (99, 1, 'target', 0)");
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(
        replica.rows('SELECT e.name, p.name FROM entries e LEFT JOIN entries p ON p.id = e.parent_id ORDER BY 1'),
      ).toEqual([
        ['child', 'orphan'],
        ['orphan', 'target'],
        ['target', 'whole'],
        ['whole', null],
      ]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(a, b, c);
  });

  it('arrive once another row was given the id that they refer to', async () => {
    const [a, b] = pairOf(TREE);
    orphan(a, "INSERT INTO entries VALUES (1, NULL, 'whole', 0), (2, 99, 'orphan', 0)");
    converge([a, b]);
    a.write('UPDATE entries SET id = 99 WHERE id = 1');
    converge([a, b]);
    expect(b.rows('SELECT e.name, p.name FROM entries e JOIN entries p ON p.id = e.parent_id')).toEqual([
      ['orphan', 'whole'],
    ]);
    await expectEqual(a, b);
  });

  it('arrive once they were given another target', async () => {
    const [a, b] = pairOf(TREE);
    orphan(a, "INSERT INTO entries VALUES (1, NULL, 'whole', 0), (2, 99, 'orphan', 0)");
    converge([a, b]);
    a.write('UPDATE entries SET parent_id = 1 WHERE id = 2');
    converge([a, b]);
    expect(b.rows('SELECT name FROM entries ORDER BY 1')).toEqual([['orphan'], ['whole']]);
    await expectEqual(a, b);
  });

  it('are not given a row from elsewhere that would take the id they refer to', async () => {
    const [a, b] = pairOf(TREE);
    orphan(a, "INSERT INTO entries VALUES (2, 3, 'orphan', 0)");
    converge([a, b]);
    b.write("INSERT INTO entries (name) VALUES ('stranger')");
    converge([a, b]);
    expect(a.rows('SELECT count(*) FROM entries e JOIN entries p ON p.id = e.parent_id')).toEqual([[0]]);
    expect(a.rows("SELECT id > 3 FROM entries WHERE name = 'stranger'")).toEqual([[1]]);
    expect(await a.digest()).toEqual(await b.digest());
  });

  it('arrive when a row from elsewhere has the values that they refer to', async () => {
    const ddl =
      'CREATE TABLE p (code TEXT PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, code TEXT REFERENCES p (code))';
    const [a, b] = pairOf(ddl);
    orphan(a, "INSERT INTO c VALUES (1, 'x')");
    converge([a, b]);
    expect(b.rows('SELECT * FROM c')).toEqual([]);
    b.write("INSERT INTO p VALUES ('x')");
    converge([a, b]);
    expect(b.rows('SELECT id, code FROM c')).toEqual([[1, 'x']]);
    await expectEqual(a, b);
  });

  it('do not hold up what others refer to and delete', async () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO entries VALUES (1, NULL, 'p', 0), (2, 1, 'c', 0)");
    converge([a, b]);
    orphan(a, 'DELETE FROM entries WHERE id = 1');
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT * FROM entries')).toEqual([]);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });
});

describe('data from before sync', () => {
  it('has identities and is sent, parents first', async () => {
    const before = `INSERT INTO entries VALUES (1, NULL, 'root', 0); INSERT INTO entries SELECT value, 1, 'n' || value, 0 FROM json_each('[2,3,4,5,6,7,8,9]')`;
    const a = new Replica({ device: 'A', ddl: TREE, before });
    const b = new Replica({ device: 'B', ddl: TREE });
    for (const applied of b.pull(a, 2)) expect(applied.waitingCount).toBe(0);
    expect(b.rows('SELECT count(*) FROM entries')).toEqual([[9]]);
    expect(stampsOf(a, 'entries', 1).uuid).toHaveLength(32);
    await expectEqual(a, b);
    // What was sent in the middle of another pass comes again and changes nothing.
    for (const page of pagesFor(new Replica({ device: 'C', ddl: TREE }), a, 3))
      expect(b.applier.apply('A', inTheMiddle(page)).changed).toBe(0);
  });
});

describe('[A4] what a device has from a pass that was broken off', () => {
  it('is not the end of an old name, though it has the new one, whose birth has the same stamp', () => {
    const [a, b] = pairOf('CREATE TABLE town (name TEXT PRIMARY KEY, size INTEGER)');
    a.write("INSERT INTO town VALUES ('York', 1)");
    converge([a, b]);
    a.write("UPDATE town SET name = 'Leeds'");
    a.stamp();
    const [birth, run] = a.rows(
      "SELECT birth_hlc, hex(id) FROM flotilla_rows_1 m JOIN flotilla_runs r ON r.run = birth_run WHERE k1 = 'Leeds'",
    )[0] as [number, string];
    const { feed } = a.feeds.open(null, wireOf([...b.library.knowledge()]));
    for (const stamps of encodeStamps(new Map([[run.toLowerCase(), [birth]]]))) a.feeds.peerHas(feed, stamps);
    const page = a.feeds.page(feed, { rows: 10, bytes: 10_000 });
    expect('data' in page && page.data !== null && rowsIn(new Uint8Array(page.data))).toBe(1);
  });
});
