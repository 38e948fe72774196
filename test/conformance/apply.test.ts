/** Merging: which of two versions stands, whatever the order in which they come and however often. */
import { describe, expect, it } from 'vitest';

import { FlotillaError } from '../../src/errors.ts';
import { altered, expectEqual, fleetOf, inTheMiddle, pagesFor, pairOf, stampsOf } from '../support/engine.ts';
import { Replica, converge, seededBytes } from '../support/replica.ts';

const DDL = `
CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, color TEXT);
CREATE TABLE entries (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE, name TEXT);
CREATE TABLE taggings (
  entry_id INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
  tag_id INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE, note TEXT, PRIMARY KEY (entry_id, tag_id)
);`;
const config = { tables: { tags: { identity: 'name' } } };

describe('[A8] which version stands', () => {
  it('takes the later change of a row that both have', async () => {
    const [a, b] = pairOf(DDL, { config });
    a.write("INSERT INTO entries (name) VALUES ('first')");
    converge([a, b]);
    a.write("UPDATE entries SET name = 'early'");
    a.stamp();
    b.write("UPDATE entries SET name = 'late'");
    converge([a, b]);
    expect(a.rows('SELECT name FROM entries')).toEqual([['late']]);
    await expectEqual(a, b);
  });

  it('takes the later birth whole, even over a later change', async () => {
    const [a, b] = pairOf(DDL, { config });
    a.write("INSERT INTO tags (name, color) VALUES ('red', 'from a')");
    a.stamp();
    b.write("INSERT INTO tags (name, color) VALUES ('red', 'from b')");
    b.stamp();
    a.write("UPDATE tags SET color = 'changed after b was born'");
    converge([a, b]);
    expect(a.rows('SELECT name, color FROM tags')).toEqual([['red', 'from b']]);
    await expectEqual(a, b);
  });

  it('keeps a row dead that was changed elsewhere while it was deleted', async () => {
    const [a, b] = pairOf(DDL, { config });
    a.write("INSERT INTO entries (name) VALUES ('x')");
    converge([a, b]);
    a.write('DELETE FROM entries');
    a.stamp();
    b.write("UPDATE entries SET name = 'later than the delete'");
    converge([a, b]);
    expect(a.rows('SELECT * FROM entries')).toEqual([]);
    expect(b.rows('SELECT * FROM entries')).toEqual([]);
    await expectEqual(a, b);
  });

  it('lets a row live that was born again after its death, in one page and in two', async () => {
    for (const size of [1, 100]) {
      const [a, b] = pairOf(DDL, { config });
      a.write("INSERT INTO tags (name, color) VALUES ('red', 'old')");
      converge([a, b]);
      const { uuid } = stampsOf(a, 'tags', 1);
      a.write('DELETE FROM tags');
      a.write("INSERT INTO tags (name, color) VALUES ('red', 'new')");
      expect(stampsOf(a, 'tags', 1).uuid).toBe(uuid);
      b.pull(a, size);
      expect(b.rows('SELECT name, color FROM tags')).toEqual([['red', 'new']]);
      converge([a, b]);
      await expectEqual(a, b);
    }
  });

  it('does not let an older birth back in after a death', async () => {
    const [a, b, c] = fleetOf(3, DDL, { config }) as [Replica, Replica, Replica];
    a.write("INSERT INTO tags (name, color) VALUES ('red', 'old')");
    c.pull(a);
    b.pull(a);
    b.write('DELETE FROM tags');
    a.pull(b);
    expect(a.rows('SELECT * FROM tags')).toEqual([]);
    a.pull(c);
    expect(a.rows('SELECT * FROM tags')).toEqual([]);
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });

  it('drops a version of a row that is in our knowledge and nowhere here: it was deleted and its tombstone is gone', () => {
    const [a, b] = pairOf(DDL, { config });
    a.write("INSERT INTO entries (name) VALUES ('x')");
    const [page] = pagesFor(b, a, 10) as [Uint8Array];
    b.pull(a);
    a.write('DELETE FROM entries');
    b.pull(a);
    b.write('DELETE FROM flotilla_tombstones');
    b.applier.apply('A', inTheMiddle(page));
    expect(b.rows('SELECT * FROM entries')).toEqual([]);
  });

  it('does not keep a tombstone that it knows already of a row that is nowhere here', () => {
    const [a, b] = pairOf(DDL, { config });
    a.write("INSERT INTO entries (name) VALUES ('x')");
    b.pull(a);
    a.write('DELETE FROM entries');
    const [page] = pagesFor(b, a, 10) as [Uint8Array];
    b.applier.apply('A', page);
    b.write('DELETE FROM flotilla_tombstones');
    b.applier.apply('A', inTheMiddle(page));
    expect(b.rows('SELECT * FROM flotilla_tombstones')).toEqual([]);
  });
});

describe('a page with more than one state of a row', () => {
  it('takes a rebirth and the tombstone before it for a living row, when the old row is here', async () => {
    const [a, b] = pairOf(DDL, { config });
    a.write(
      "INSERT INTO entries (name) VALUES ('e'); INSERT INTO tags (name) VALUES ('red'); INSERT INTO taggings VALUES (1, 1, 'old')",
    );
    converge([a, b]);
    a.write("DELETE FROM tags; INSERT INTO tags (name) VALUES ('red'); INSERT INTO taggings VALUES (1, 1, 'new')");
    b.pull(a);
    expect(b.rows('SELECT note FROM taggings')).toEqual([['new']]);
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('takes a row whose delete waits at the sender, and its tombstone, for a dead row', async () => {
    // The sender cannot delete it: a row there refers to it, of a table that stays on the device.
    const ddl = `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE c (id INTEGER PRIMARY KEY, p_id INTEGER REFERENCES p (id))`;
    const config = { tables: { c: { sync: false } } };
    const [a, b, d] = fleetOf(3, ddl, { config }) as [Replica, Replica, Replica];
    a.write("INSERT INTO p (name) VALUES ('x')");
    b.pull(a);
    b.write('INSERT INTO c (p_id) VALUES (1)');
    a.write('DELETE FROM p');
    b.pull(a);
    expect(b.waiting()).toEqual(['referrers']);
    d.pull(b);
    expect(d.rows('SELECT * FROM p')).toEqual([]);
    expect(d.waiting()).toEqual([]);
    await expectEqual(b, d);
  });

  it('takes a row and its newer version that waits at the sender, each to its place', async () => {
    const ddl =
      'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE); CREATE TABLE u (id INTEGER PRIMARY KEY, t_id INTEGER NOT NULL REFERENCES t (id))';
    const config = { tables: { t: { unique: { name: 'keep-first' } } } };
    const [a, b, c, d] = fleetOf(4, ddl, { config }) as [Replica, Replica, Replica, Replica];
    b.write("INSERT INTO t (name) VALUES ('y')");
    b.stamp();
    a.write("INSERT INTO t (name) VALUES ('x'); INSERT INTO u (t_id) VALUES (1)");
    converge([a, c, d]);
    c.pull(b);
    a.write("UPDATE t SET name = 'y'");
    c.pull(a);
    expect(c.waiting()).toEqual(['unique']);
    const e = new Replica({ device: 'E', ddl, config });
    e.pull(c);
    expect(e.rows('SELECT name FROM t ORDER BY name')).toEqual([['x'], ['y']]);
    expect(e.rows('SELECT count(*) FROM u')).toEqual([[1]]);
    expect(e.waiting()).toEqual(['unique']);
    await expectEqual(c, e);
  });

  it('begins again without losing the tombstones of the batch when a constraint refuses a row', async () => {
    const ddl = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)';
    const [a, b] = pairOf(ddl, { config: { tables: { t: { unique: { name: 'keep-first' } } } } });
    a.write("INSERT INTO t (name) VALUES ('gone')");
    converge([a, b]);
    b.write("INSERT INTO t (name) VALUES ('taken')");
    b.stamp();
    a.write("DELETE FROM t; INSERT INTO t (name) VALUES ('taken')");
    b.pull(a);
    expect(b.waiting()).toEqual(['unique']);
    expect(b.rows('SELECT name FROM t')).toEqual([['taken']]);
    expect(b.rows('SELECT count(*) FROM flotilla_tombstones')).toEqual([[1]]);
    a.pull(b);
    await expectEqual(a, b);
  });
});

describe('[A17] batches that have gathered', () => {
  /** What one copy sends another, in several pages, and how often that one has committed since. */
  const apart = (options = {}): { a: Replica; b: Replica; pages: Uint8Array[]; commits: () => number } => {
    const [a, b] = pairOf(DDL, options);
    a.write("INSERT INTO entries (name) VALUES ('root'); INSERT INTO entries (parent_id, name) VALUES (1, 'child')");
    a.write("INSERT INTO tags (name) VALUES ('red'), ('blue'); INSERT INTO taggings VALUES (2, 1, 'x')");
    const pages = pagesFor(b, a, 2);
    let count = 0;
    const { exec } = b.db;
    b.db.exec = (sql) => {
      count += Number(sql === 'COMMIT');
      return exec.call(b.db, sql);
    };
    return { a, b, pages, commits: () => count };
  };

  it('are applied in one transaction', async () => {
    const { a, b, pages, commits } = apart({ config });
    const taken = b.served.apply('A', pages);
    expect(commits()).toBe(1);
    expect(taken.map(({ complete }) => complete)).toEqual(pages.map((_, i) => i === pages.length - 1));
    await expectEqual(a, b);
  });

  it('are taken one by one where something has to be undone, with the same outcome', async () => {
    const { a, b, pages, commits } = apart();
    b.write("INSERT INTO tags (name) VALUES ('red')");
    b.stamp();
    const before = commits();
    b.served.apply('A', pages.slice(0, -1));
    expect(commits() - before).toBe(pages.length - 1);
    expect(b.waiting()).toEqual(['unique']);
    expect(b.rows('SELECT name FROM tags ORDER BY name')).toEqual([['blue'], ['red']]);
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('stand up to the first that is refused', () => {
    const { b, pages } = apart();
    const damaged = (pages[1] as Uint8Array).slice(0, -1);
    expect(() => b.served.apply('A', [pages[0] as Uint8Array, damaged, ...pages.slice(1)])).toThrowError(FlotillaError);
    expect(b.rows('SELECT name FROM entries')).toEqual([['root'], ['child']]);
    expect(b.rows('SELECT count(*) FROM tags')).toEqual([[0]]);
  });
});

describe('[A5] repetition and order', () => {
  const story = (a: Replica): void => {
    a.write("INSERT INTO entries (name) VALUES ('root'), ('other')");
    a.write("INSERT INTO entries (parent_id, name) VALUES (1, 'child'), (3, 'grandchild')");
    a.write("INSERT INTO tags (name) VALUES ('red'), ('blue')");
    a.write("INSERT INTO taggings VALUES (1, 1, 'x'), (3, 2, 'y'), (4, 1, 'z')");
    a.stamp();
    a.write("UPDATE entries SET parent_id = 2, name = 'moved' WHERE id = 4");
    a.write('DELETE FROM taggings WHERE entry_id = 1');
    a.write("UPDATE entries SET name = 'later' WHERE id = 1");
    a.write("DELETE FROM tags WHERE name = 'blue'");
    a.write("INSERT INTO tags (name, color) VALUES ('blue', 'again')");
  };

  it('changes nothing when a batch comes twice', async () => {
    const [a, b] = pairOf(DDL, { config });
    story(a);
    for (const page of pagesFor(b, a, 3)) {
      b.applier.apply('A', page);
      const { head } = b.library;
      expect(b.applier.apply('A', page).changed).toBe(0);
      expect(b.library.head).toBe(head);
    }
    await expectEqual(a, b);
  });

  it('changes nothing when an old batch comes late', async () => {
    const [a, b] = pairOf(DDL, { config });
    a.write("INSERT INTO entries (name) VALUES ('one'); INSERT INTO tags (name) VALUES ('green')");
    const early = pagesFor(b, a, 1);
    for (const page of early) b.applier.apply('A', page);
    story(a);
    converge([a, b]);
    const { head } = b.library;
    for (const page of early) expect(b.applier.apply('A', page).changed).toBe(0);
    expect(b.library.head).toBe(head);
    await expectEqual(a, b);
  });

  it('comes to the same in any order of batches', async () => {
    for (let seed = 1; seed <= 40; seed += 1) {
      const random = seededBytes(seed);
      const [a, b] = pairOf(DDL, { config });
      b.write("INSERT INTO tags (name) VALUES ('red'); INSERT INTO entries (name) VALUES ('own')");
      // Pages from several moments, so that they hold different versions of the same rows.
      const pages: Uint8Array[] = [];
      a.write("INSERT INTO tags (name) VALUES ('red'); INSERT INTO entries (id, name) VALUES (100, 'first')");
      pages.push(...pagesFor(b, a, 2));
      a.write('DELETE FROM tags; DELETE FROM entries');
      pages.push(...pagesFor(b, a, 2));
      story(a);
      pages.push(...pagesFor(b, a, 2));
      const shuffled = pages
        .flatMap((page) => [page, page])
        .map((page) => ({ page, at: random(4).join() }))
        .sort((x, y) => (x.at < y.at ? -1 : 1));
      for (const { page } of shuffled) {
        b.applier.apply('A', inTheMiddle(page));
        expect(b.violations()).toEqual([]);
      }
      b.write("DELETE FROM flotilla_cursors WHERE peer = 'A'");
      converge([a, b]);
      expect(b.waiting()).toEqual([]);
      await expectEqual(a, b);
    }
  });
});

describe('[A11] clocks', () => {
  it('refuses a batch stamped too far in the future, and changes nothing', () => {
    const start = Date.UTC(2026, 0, 1);
    const b = new Replica({ device: 'B', ddl: DDL, config, now: () => start });
    const a = new Replica({ device: 'A', ddl: DDL, config, now: () => start + 2 * 3600 * 1000 });
    a.write("INSERT INTO entries (name) VALUES ('x')");
    const [page] = pagesFor(b, a, 10) as [Uint8Array];
    const before = b.backup();
    const refused = (): unknown => b.applier.apply('A', page);
    expect(refused).toThrow(FlotillaError);
    expect(refused).toThrow(/2 h ahead/);
    expect(b.backup().equals(before)).toBe(true);
  });

  it('refuses knowledge of the future as well', () => {
    const start = Date.UTC(2026, 0, 1);
    const [a, b] = pairOf(DDL, { config, now: () => start });
    a.write("INSERT INTO entries (name) VALUES ('x')");
    const [page] = pagesFor(b, a, 10) as [Uint8Array];
    const forged = altered(page, ({ end }) => ({
      end: { ...end, knowledge: { ...end.knowledge, hlc: end.knowledge.hlc.map((hlc) => hlc + 3600 * 1_000_000) } },
    }));
    expect(() => b.applier.apply('A', forged)).toThrow(/1 h ahead/);
    expect(b.rows('SELECT * FROM entries')).toEqual([]);
  });

  it('takes its own stamps back after its clock was set back', async () => {
    let now = Date.UTC(2026, 0, 1);
    const a = new Replica({ device: 'A', ddl: DDL, config, now: () => now });
    const b = new Replica({ device: 'B', ddl: DDL, config, now: () => Date.UTC(2026, 0, 1) });
    now += 4 * 60_000;
    a.write("INSERT INTO entries (name) VALUES ('x')");
    b.pull(a);
    now -= 20 * 60_000;
    a.pull(b);
    a.write("UPDATE entries SET name = 'y'");
    converge([a, b]);
    expect(b.rows('SELECT name FROM entries')).toEqual([['y']]);
    await expectEqual(a, b);
  });

  it('makes no stamp older than those of before its restart, though the clock was set back meanwhile', async () => {
    let now = Date.UTC(2026, 0, 1);
    const a = new Replica({ device: 'A', ddl: DDL, config, now: () => now });
    const b = new Replica({ device: 'B', ddl: DDL, config, now: () => Date.UTC(2026, 0, 1) });
    now += 4 * 60_000;
    a.write("INSERT INTO entries (name) VALUES ('x')");
    converge([a, b]);
    now -= 20 * 60_000;
    a.restart();
    a.write("UPDATE entries SET name = 'y'");
    converge([a, b]);
    expect(b.rows('SELECT name FROM entries')).toEqual([['y']]);
    await expectEqual(a, b);
  });

  it('stamps a local write later than everything that was merged before it, though the clock is behind', async () => {
    const a = new Replica({ device: 'A', ddl: DDL, config, now: () => Date.UTC(2026, 0, 1) + 60_000 });
    const b = new Replica({ device: 'B', ddl: DDL, config, now: () => Date.UTC(2026, 0, 1) });
    a.write("INSERT INTO entries (name) VALUES ('x')");
    b.pull(a);
    b.write("UPDATE entries SET name = 'written after it was seen'");
    converge([a, b]);
    expect(a.rows('SELECT name FROM entries')).toEqual([['written after it was seen']]);
    await expectEqual(a, b);
  });
});
