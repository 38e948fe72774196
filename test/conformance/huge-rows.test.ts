/** Rows that are larger than a message may be. */
import { describe, expect, it } from 'vitest';

import { wireOf } from '../../src/db/knowledge-wire.ts';
import { recordsHash } from '../../src/db/members.ts';
import { MAX_BATCH_BYTES, decodeBatch } from '../../src/protocol/batch.ts';
import { altered, expectEqual, fleetOf, inTheMiddle, pagesFor, pairOf, rowsIn } from '../support/engine.ts';
import { FOUNDED_ID, Pass, converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const DDL = `
CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT, content BLOB);
CREATE TABLE tags (id INTEGER PRIMARY KEY, file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE, name TEXT)`;

const names = (replica: Replica): unknown[] =>
  replica.rows('SELECT name FROM files ORDER BY name').map(([name]) => name);

/** Takes what a pass gives by now; returns how many rows that were, and whether it is complete. */
function take(to: Replica, pass: Pass): { rows: number; complete: boolean } {
  let rows = 0;
  for (let page = pass.next(); page !== null; page = pass.next()) {
    rows += rowsIn(page);
    to.apply('A', page);
    if (decodeBatch(page).end.complete) return { rows, complete: true };
  }
  return { rows, complete: false };
}

/** A has a row of 32 MiB between others, with one that refers to it. */
function withHuge(): [Replica, Replica] {
  const [a, b] = pairOf(DDL);
  a.write(`
    INSERT INTO files (id, name) VALUES (1, 'before');
    INSERT INTO files (id, name, content) VALUES (2, 'huge', zeroblob(${MAX_BATCH_BYTES + 1}));
    INSERT INTO tags (file_id, name) VALUES (1, 'of before'), (2, 'of huge');
    INSERT INTO files (id, name) VALUES (3, 'after')`);
  return [a, b];
}

describe('[A18] a row that is larger than a message', () => {
  it('stays behind, with what refers to it, and holds up nothing else', () => {
    const [a, b] = withHuge();
    const pass = b.passFrom(a);
    expect(take(b, pass)).toMatchObject({ complete: false });
    expect(names(b)).toEqual(['after', 'before']);
    expect(b.waiting()).toEqual(['missing-target']);
    // What follows goes as well.
    a.write("INSERT INTO files (name) VALUES ('later')");
    expect(take(b, pass)).toEqual({ rows: 1, complete: false });
    expect(names(b)).toEqual(['after', 'before', 'later']);
    pass.close();
  });

  it('is said, with the limit and what to do', () => {
    const [a, b] = withHuge();
    a.stamp();
    const { feed } = a.feeds.open(null, { runs: new Uint8Array(), hlc: [] });
    for (;;) {
      const page = a.feeds.page(feed, { rows: 1000, bytes: 1 << 20 });
      if (!('heldUp' in page) || page.heldUp === '') continue;
      expect(page).toMatchObject({ complete: false });
      expect(page.heldUp).toMatch(/row 2 of "files" has 33 MiB, more than the 31 MiB .*"localColumns"/);
      break;
    }
    expect(b.waiting()).toEqual([]);
  });

  it('comes when it is small enough, in the same pass, and so does the end of the pass', async () => {
    const [a, b] = withHuge();
    const pass = b.passFrom(a);
    take(b, pass);
    a.write('UPDATE files SET content = zeroblob(10) WHERE id = 2');
    expect(take(b, pass)).toEqual({ rows: 1, complete: true });
    pass.close();
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('so in a later pass, which sends nothing again', async () => {
    const [a, b] = withHuge();
    const first = b.passFrom(a);
    take(b, first);
    first.close();
    const second = b.passFrom(a);
    expect(take(b, second)).toEqual({ rows: 0, complete: false });
    second.close();
    a.write('DELETE FROM files WHERE id = 2');
    const third = b.passFrom(a);
    expect(take(b, third)).toMatchObject({ complete: true });
    third.close();
    expect(names(b)).toEqual(['after', 'before']);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('is nothing that a receiver takes for deleted: it is one that has grown', async () => {
    const [a, b] = pairOf(DDL);
    a.write("INSERT INTO files (id, name) VALUES (1, 'small'); INSERT INTO tags (file_id, name) VALUES (1, 'x')");
    b.pull(a);
    a.write(`UPDATE files SET name = 'grown', content = zeroblob(${MAX_BATCH_BYTES + 1}) WHERE id = 1`);
    a.write("INSERT INTO files (name) VALUES ('later')");
    b.pull(a);
    expect(names(b)).toEqual(['later', 'small']);
    a.write('UPDATE files SET content = NULL WHERE id = 1');
    b.pull(a);
    expect(names(b)).toEqual(['grown', 'later']);
    await expectEqual(a, b);
  });

  it('[F2] nor does it keep a pass that reconciles from naming what is there', async () => {
    const DAY_MS = 86_400_000;
    let time = Date.UTC(2026, 5, 1);
    const [a, b] = fleetOf(2, DDL, { now: () => (time += 1), libraryId: FOUNDED_ID }) as [Replica, Replica];
    a.found();
    a.admit(b);
    a.write("INSERT INTO files (id, name) VALUES (1, 'old'), (2, 'gone')");
    a.stamp();
    a.write(`INSERT INTO files (id, name) VALUES (3, 'grown'), (4, 'last')`);
    converge([a, b]);
    time += 31 * DAY_MS;
    a.write("DELETE FROM files WHERE name = 'gone'");
    expect(a.prune().tombstones).toBe(1);
    a.write(`UPDATE files SET content = zeroblob(${MAX_BATCH_BYTES + 1}) WHERE id = 3`);
    b.passFrom(a).close();
    // As in a session: no records lead, so that there is nothing to send but names.
    const known = wireOf([...b.library.knowledge()]);
    const pass = new Pass(b, a, a.feeds.open(null, known, 'reconcile', recordsHash(b.library.sql)).feed);
    expect(take(b, pass)).toMatchObject({ complete: false });
    a.write('UPDATE files SET content = NULL WHERE id = 3');
    expect(take(b, pass)).toEqual({ rows: 1, complete: true });
    pass.close();
    expect(names(b)).toEqual(['grown', 'last', 'old']);
    await expectEqual(a, b);
  });
});

describe('[A1] parents that are large', () => {
  it('go ahead as far as a page may be large; the others come in their places, and who refers to them waits', async () => {
    const [a, b] = pairOf(DDL);
    a.write(`
      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90) INSERT INTO files (id, name) SELECT i, 'f' || i FROM n;
      INSERT INTO tags (file_id, name) SELECT id, 'of ' || name FROM files`);
    a.stamp();
    // All contents at once: each file lies behind what refers to it now, and together they are more than a message.
    a.write('UPDATE files SET content = zeroblob(400000)');
    const pages = pagesFor(b, a, 1000);
    for (const page of pages) {
      expect(page.length).toBeLessThan(MAX_BATCH_BYTES / 2);
      b.apply('A', page);
      expect(b.violations()).toEqual([]);
    }
    expect(pages.reduce((sum, page) => sum + rowsIn(page), 0)).toBe(180);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('do not go with a row that leaves them no room in a message', async () => {
    const [a, b] = pairOf(DDL.replace('file_id INTEGER NOT NULL', 'content BLOB, file_id INTEGER NOT NULL'));
    a.write(
      `INSERT INTO files (id, name) VALUES (1, 'f'); INSERT INTO tags (file_id, content) VALUES (1, zeroblob(${28 << 20}))`,
    );
    a.stamp();
    a.write(`UPDATE files SET content = zeroblob(${6 << 20})`);
    b.pull(a);
    expect(b.waiting()).toEqual([]);
    await expectEqual(a, b);
  });

  it('nor do new names that wait, with the ends of the old ones', async () => {
    const [a, b, c] = fleetOf(
      3,
      `CREATE TABLE regions (id INTEGER PRIMARY KEY);
       CREATE TABLE towns (name TEXT PRIMARY KEY, region_id INTEGER REFERENCES regions (id), content BLOB)`,
    ) as [Replica, Replica, Replica];
    a.write(
      `INSERT INTO towns (name, content) VALUES ('York', zeroblob(${17 << 20})), ('Hull', zeroblob(${17 << 20}))`,
    );
    converge([a, b]);
    a.write("INSERT INTO regions VALUES (1); UPDATE towns SET name = name || '!', region_id = 1");
    const isOfTowns = ({ table }: { table: string }): boolean => table === 'towns';
    for (const page of pagesFor(b, a, 1))
      b.apply('A', inTheMiddle(altered(page, ({ tables }) => ({ tables: tables.filter(isOfTowns) }))));
    expect(b.waiting()).toEqual(['missing-target', 'missing-target']);
    const pages = pagesFor(c, b, 1000);
    expect(Math.max(...pages.map(({ length }) => length))).toBeLessThan(MAX_BATCH_BYTES);
    for (const page of pages) c.apply('B', page);
    await expectEqual(b, c);
  });
});
