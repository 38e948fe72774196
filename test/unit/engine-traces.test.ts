/**
 * Traces by hand: each is a way in which a simpler scheme lost a row, let copies differ, or brought something back. Random
 * runs alone do not find all of them.
 */
import { describe, expect, it } from 'vitest';

import { expectEqual, fleetOf, inTheMiddle, pagesFor, rowsIn } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';

const DDL = `
CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT);
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE,
  note_id INTEGER REFERENCES notes (id) ON DELETE SET NULL, name TEXT
);
CREATE TABLE files (id INTEGER PRIMARY KEY, note_id INTEGER REFERENCES notes (id) ON DELETE SET NULL, name TEXT);`;
const config = { tables: { files: { ownership: 'device' } } };

function three(): [Replica, Replica, Replica] {
  return fleetOf(3, DDL, { config }) as [Replica, Replica, Replica];
}

const names = (replica: Replica): unknown[] => replica.rows('SELECT name FROM entries ORDER BY name').flat();

describe('a page that covers the number of a change which was overwritten and travels elsewhere', () => {
  it('[A3] claims nothing: the overwritten row still comes by another way', async () => {
    const [a, b, c] = three();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'r')");
    a.stamp();
    a.write("INSERT INTO entries VALUES (2, NULL, NULL, 's')");
    b.pull(a);
    b.write("UPDATE entries SET name = 'r by b' WHERE name = 'r'");
    a.pull(b);
    // At A, r lies behind s now. C takes the page with s, whose stamp is later than r's birth, and then loses A.
    const pages = pagesFor(c, a, 1);
    expect(pages).toHaveLength(2);
    c.applier.apply('A', pages[0] as Uint8Array);
    expect(names(c)).toEqual(['s']);
    c.pull(b);
    expect(names(c)).toEqual(['r by b', 's']);
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });

  it('[A3] claims nothing for those that the receiver feeds in turn', async () => {
    const [a, b, c] = three();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'r'), (2, NULL, NULL, 's'), (3, NULL, NULL, 't')");
    const [first] = pagesFor(b, a, 1) as [Uint8Array];
    b.applier.apply('A', first);
    c.pull(b);
    expect(names(c)).toEqual(['r']);
    // B's complete pass to C says what B knows, which is not what A has stamped.
    expect(pagesFor(c, a, 10).reduce((sum, page) => sum + rowsIn(page), 0)).toBe(3);
    c.pull(a);
    expect(names(c)).toEqual(['r', 's', 't']);
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });
});

describe('a cascade', () => {
  it('[D1] decided at a page would kill a row whose move is in the next one', async () => {
    const [a, b] = three();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'old'), (2, NULL, NULL, 'new'), (3, 1, NULL, 'child')");
    converge([a, b]);
    a.write("DELETE FROM entries WHERE id = 1; INSERT INTO entries VALUES (3, 2, NULL, 'child again')");
    expect(names(a)).toEqual(['child again', 'new']);
    // Moved away by B, deleted as a whole by A: B's move is later, but the row is dead.
    b.write("UPDATE entries SET parent_id = (SELECT id FROM entries WHERE name = 'new') WHERE name = 'child'");
    converge([a, b], 1);
    expect(names(b)).toEqual(['child again', 'new']);
    await expectEqual(a, b);
  });

  it('[D1] spares the row that was moved away before, though the delete comes first', async () => {
    const [a, b, c] = three();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'old'), (2, NULL, NULL, 'new'), (3, 1, NULL, 'child')");
    converge([a, b, c]);
    a.write('UPDATE entries SET parent_id = 2 WHERE id = 3');
    a.stamp();
    a.write('DELETE FROM entries WHERE id = 1');
    a.stamp();
    // The move gets a later place in the feed than the delete.
    a.write("UPDATE entries SET name = 'moved child' WHERE id = 3");
    for (const page of pagesFor(b, a, 1)) {
      b.applier.apply('A', page);
      expect(b.rows("SELECT count(*) FROM entries WHERE name LIKE '%child'")).toEqual([[1]]);
    }
    converge([a, b, c], 1);
    expect(names(c)).toEqual(['moved child', 'new']);
    await expectEqual(a, b, c);
  });

  it('of SQLite itself finds nothing left to do: every row that goes has a tombstone', async () => {
    const [a, b, c] = three();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'root')");
    converge([a, b, c]);
    a.write('DELETE FROM entries');
    b.write(
      "INSERT INTO entries SELECT 10, id, NULL, 'x' FROM entries; INSERT INTO entries VALUES (11, 10, NULL, 'y'), (12, 11, NULL, 'z')",
    );
    converge([a, b, c], 1);
    for (const replica of [a, b, c]) {
      expect(names(replica)).toEqual([]);
      expect(replica.rows('SELECT count(*) FROM flotilla_tombstones')).toEqual([[4]]);
    }
    await expectEqual(a, b, c);
  });
});

describe('[A7] a fresh local write', () => {
  it('does not wear the stamp of what arrives: it is stamped before anything is merged', async () => {
    const [a, b] = three();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'x')");
    converge([a, b]);
    a.write("UPDATE entries SET name = 'from a'");
    const [page] = pagesFor(b, a, 10) as [Uint8Array];
    b.write("UPDATE entries SET name = 'from b'");
    b.applier.apply('A', page);
    expect(names(b)).toEqual(['from b']);
    converge([a, b]);
    expect(names(a)).toEqual(['from b']);
    await expectEqual(a, b);
  });

  it('does not wear an old stamp: it is stamped before anything is read', async () => {
    const [a, b] = three();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'x')");
    converge([a, b]);
    const pass = b.passFrom(a);
    b.applier.apply('A', pass.next() as Uint8Array);
    a.write("UPDATE entries SET name = 'y'");
    b.applier.apply('A', pass.next() as Uint8Array);
    expect(names(b)).toEqual(['y']);
    await expectEqual(a, b);
  });

  it('on a row whose delete arrives with the next page is dead with it', async () => {
    const [a, b] = three();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'x')");
    converge([a, b]);
    a.write('DELETE FROM entries');
    const [page] = pagesFor(b, a, 10) as [Uint8Array];
    b.write("UPDATE entries SET name = 'y'; INSERT INTO entries VALUES (2, 1, NULL, 'child')");
    b.applier.apply('A', inTheMiddle(page));
    expect(names(b)).toEqual(['child', 'y']);
    b.applier.apply('A', page);
    expect(names(b)).toEqual([]);
    converge([a, b]);
    await expectEqual(a, b);
  });
});

describe('after a restore', () => {
  it('what had reached others comes back, and what is written anew is not taken for it', async () => {
    const [a, b, c] = three();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'before')");
    converge([a, b, c]);
    const backup = a.backup();
    a.write(
      "INSERT INTO entries VALUES (2, NULL, NULL, 'reached b'); UPDATE entries SET name = 'changed' WHERE id = 1",
    );
    b.pull(a);
    const again = a.restored(backup);
    again.write("INSERT INTO entries VALUES (2, NULL, NULL, 'written anew')");
    converge([again, b, c]);
    for (const replica of [again, b, c]) expect(names(replica)).toEqual(['changed', 'reached b', 'written anew']);
    await expectEqual(again, b, c);
  });

  it('a delete of which half had reached others is settled all the same', async () => {
    const [a, b] = three();
    a.write("INSERT INTO notes VALUES (1, 'n')");
    converge([a, b]);
    b.write("INSERT INTO files VALUES (1, 1, 'of b')");
    b.write("INSERT INTO entries VALUES (1, NULL, 1, 'by b')");
    b.stamp();
    const backup = a.backup();
    a.write('DELETE FROM notes');
    a.stamp();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'lost')");
    // The tombstone reaches B in the middle of a pass; then A loses both, and no pass of it will ever claim that run again.
    b.applier.apply('A', pagesFor(b, a, 1)[0] as Uint8Array);
    const again = a.restored(backup);
    again.write("INSERT INTO entries VALUES (5, NULL, NULL, 'afterwards')");
    converge([again, b]);
    for (const replica of [again, b]) {
      expect(replica.rows('SELECT note_id, name FROM files')).toEqual([[null, 'of b']]);
      expect(replica.rows("SELECT note_id FROM entries WHERE name = 'by b'")).toEqual([[null]]);
      expect(replica.rows('SELECT * FROM notes')).toEqual([]);
      expect(replica.waiting()).toEqual([]);
    }
    await expectEqual(again, b);
  });

  it('of the receiver, a row that it had deleted is deleted again by those who know', async () => {
    const [a, b] = three();
    a.write("INSERT INTO entries VALUES (1, NULL, NULL, 'x')");
    converge([a, b]);
    const backup = b.backup();
    b.write('DELETE FROM entries');
    converge([a, b]);
    const again = b.restored(backup);
    expect(names(again)).toEqual(['x']);
    converge([a, again]);
    expect(names(again)).toEqual([]);
    expect(names(a)).toEqual([]);
    await expectEqual(a, again);
  });
});

describe('several devices that see one conflict', () => {
  it('each write the outcome, and come to rest', async () => {
    const [a, b, c] = three();
    const d = new Replica({ device: 'D', ddl: DDL, config });
    const all = [a, b, c, d];
    a.write("INSERT INTO notes VALUES (1, 'n'); INSERT INTO entries VALUES (1, NULL, NULL, 'root')");
    converge(all);
    a.write('DELETE FROM notes; DELETE FROM entries');
    b.write("INSERT INTO entries VALUES (5, NULL, 1, 'keeps'), (6, 1, 1, 'goes')");
    a.stamp();
    b.stamp();
    // C and D see both sides before they hear of each other.
    for (const replica of [c, d]) for (const from of [a, b]) replica.pull(from);
    for (const replica of [c, d]) expect(replica.rows('SELECT name, note_id FROM entries')).toEqual([['keeps', null]]);
    converge(all);
    const heads = all.map((replica) => replica.library.head);
    converge(all);
    expect(all.map((replica) => replica.library.head)).toEqual(heads);
    for (const replica of all) expect(replica.rows('SELECT name, note_id FROM entries')).toEqual([['keeps', null]]);
    await expectEqual(...all);
  });
});
