/** Pruning, absence and coming back. Rule ids are those of docs/spec.md, group F. */
import { describe, expect, it } from 'vitest';

import { floorOf } from '../../src/db/floor.ts';
import { Conversation, hearOfOthers, heardHash } from '../../src/db/heard.ts';
import { wireOf } from '../../src/db/knowledge-wire.ts';
import { Chance } from '../support/chance.ts';
import { expectEqual, fleetOf, inTheMiddle, pagesFor, singles } from '../support/engine.ts';
import { FOUNDED_ID, Replica, converge } from '../support/replica.ts';
import type { ReplicaOptions } from '../support/replica.ts';
import { SnapshotFolder, bring } from '../support/snapshots.ts';

const DDL = `CREATE TABLE folders (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
  CREATE TABLE files (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, name TEXT, size INTEGER);
  CREATE TABLE links (id INTEGER PRIMARY KEY, folder_id INTEGER NOT NULL REFERENCES folders (id), what TEXT);
  CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT)`;

const DAY_MS = 86_400_000;

/** A clock of their own: days pass at once. */
class Days {
  #now = Date.UTC(2026, 5, 1);

  readonly now = (): number => (this.#now += 1);

  pass(days: number): void {
    this.#now += days * DAY_MS;
  }
}

function members(count: number, days: Days, options: Partial<ReplicaOptions> = {}): Replica[] {
  const replicas = fleetOf(count, DDL, { now: days.now, libraryId: FOUNDED_ID, ...options });
  const [first, ...others] = replicas;
  first?.found();
  for (const other of others) first?.admit(other);
  converge(replicas);
  return replicas;
}

/** A device that has nothing yet, and whom nobody has let in. */
function newcomer(days: Days): Replica {
  return new Replica({ device: 'N', ddl: DDL, now: days.now, newcomer: true, libraryId: FOUNDED_ID });
}

/** The first page of a pass from somebody, as if it had been cut off there. */
function begunWith(to: Replica, from: Replica): Uint8Array {
  const pass = to.passFrom(from);
  const page = inTheMiddle(pass.next() as Uint8Array);
  pass.close();
  return page;
}

/** Two devices, of which one was restored from before a delete that the other one has forgotten by now. */
function restored(days: Days): [Replica, Replica] {
  const [a, b] = members(2, days) as [Replica, Replica];
  a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
  converge([a, b]);
  const backup = b.backup();
  a.write("DELETE FROM folders WHERE name = 'x'");
  converge([a, b]);
  expect(a.prune().tombstones).toBe(1);
  return [a, b.restored(backup)];
}

function content(replica: Replica): unknown[][] {
  return [
    ...replica.rows('SELECT name FROM folders ORDER BY name'),
    ...replica.rows(
      'SELECT f.name, f.size, p.name FROM files f LEFT JOIN folders p ON p.id = f.folder_id ORDER BY f.name',
    ),
    ...replica.rows('SELECT l.what, p.name FROM links l JOIN folders p ON p.id = l.folder_id ORDER BY l.what'),
    ...replica.rows('SELECT name, colour FROM tags ORDER BY name'),
  ];
}

function tombstones(replica: Replica): number {
  return Number(replica.rows('SELECT count(*) FROM flotilla_tombstones')[0]?.[0]);
}

async function expectSame(replicas: readonly Replica[]): Promise<void> {
  for (const replica of replicas) {
    expect(content(replica)).toEqual(content(replicas[0] as Replica));
    expect(replica.waiting()).toEqual([]);
  }
  await expectEqual(...replicas);
}

describe('[F1] a tombstone', () => {
  it('goes when every member has ACKed it, and not before', () => {
    const [a, b, c] = members(3, new Days()) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b, c]);
    a.write("DELETE FROM folders WHERE name = 'x'");
    b.pull(a);
    expect(a.prune()).toEqual({ tombstones: 0, blockedBy: ['C'] });
    c.pull(b);
    // A has not heard of it.
    expect(a.prune()).toEqual({ tombstones: 0, blockedBy: ['C'] });
    a.hear(c);
    expect(a.prune()).toEqual({ tombstones: 1, blockedBy: [] });
    expect(tombstones(a)).toBe(0);
    expect(floorOf(a.library.sql).size).toBe(1);
    converge([a, b, c]);
    for (const replica of [b, c]) expect(replica.prune().tombstones).toBe(1);
    expect(content(b)).toEqual([['y']]);
  });

  it('stays while somebody has not heard of the birth of what died: the row may be on its way to him', async () => {
    const [a, b, c] = members(3, new Days()) as [Replica, Replica, Replica];
    c.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    const [late] = pagesFor(b, c, 1) as [Uint8Array];
    const toA = a.passFrom(c);
    a.applier.apply('C', toA.next(1) as Uint8Array);
    toA.close();
    a.write("DELETE FROM folders WHERE name = 'x'");
    // B has the delete, and A itself knew no more of C when it said so.
    b.pull(a);
    converge([a, c]);
    for (const other of [a, c]) b.hear(other);
    a.hear(b);
    expect(a.prune().tombstones).toBe(0);
    b.prune();
    b.applier.apply('C', late);
    converge([a, b, c]);
    expect(content(b)).toEqual([['y']]);
    await expectSame([a, b, c]);
    for (const replica of [a, b, c]) expect(replica.prune().tombstones).toBe(1);
  });

  it('goes with the one that leads to it by an alias', () => {
    const [a, b] = members(2, new Days()) as [Replica, Replica];
    a.write("INSERT INTO tags VALUES ('x', 'red')");
    converge([a, b]);
    a.write("UPDATE tags SET name = 'y'");
    a.stamp();
    a.write("UPDATE tags SET name = 'z'");
    a.stamp();
    a.write('DELETE FROM tags');
    converge([a, b]);
    expect(tombstones(a)).toBe(3);
    expect(a.prune()).toEqual({ tombstones: 3, blockedBy: [] });
  });

  it('goes with others that lead to each other in a circle', () => {
    const [a, b] = members(2, new Days()) as [Replica, Replica];
    a.write("INSERT INTO tags VALUES ('x', 'red'), ('y', 'green')");
    converge([a, b]);
    a.write('DELETE FROM tags');
    converge([a, b]);
    // As renames to and fro on several devices leave them.
    a.write(
      'UPDATE flotilla_tombstones AS t SET alias = (SELECT uuid FROM flotilla_tombstones o WHERE o.uuid <> t.uuid)',
    );
    expect(a.prune()).toEqual({ tombstones: 2, blockedBy: [] });
  });

  it('stays while a member has never said what it knows, however long', () => {
    const days = new Days();
    const [a, b] = members(2, days) as [Replica, Replica];
    a.admit({ device: 'Z' });
    a.write("INSERT INTO folders VALUES (1, 'x')");
    converge([a, b]);
    a.write('DELETE FROM folders');
    converge([a, b]);
    days.pass(400);
    a.hear(b);
    expect(a.prune()).toEqual({ tombstones: 0, blockedBy: ['Z'] });
  });

  it('stays while somebody knows of what has not come here: it may be a newcomer whom he has told more', () => {
    const days = new Days();
    const [a, b] = members(2, days) as [Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x')");
    converge([a, b]);
    b.write('DELETE FROM folders');
    converge([a, b]);
    // A lets somebody in, and then says what it knows.
    a.admit({ device: 'N' });
    a.stamp();
    b.hear(a);
    expect(b.prune()).toEqual({ tombstones: 0, blockedBy: ['A'] });
    b.pull(a);
    expect(b.prune()).toEqual({ tombstones: 0, blockedBy: ['N'] });
  });

  it('stays while its delete waits here, or something waits for what it deleted', () => {
    const [a, b] = members(2, new Days()) as [Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x')");
    converge([a, b]);
    a.write('DELETE FROM folders');
    a.stamp();
    b.library.transact(() => b.library.sql.run("INSERT INTO flotilla_waits SELECT uuid, x'00' FROM flotilla_rows_1"));
    b.pull(a);
    b.hear(a);
    expect(b.prune().tombstones).toBe(0);
  });
});

describe('[F2] a member that was silent for longer than the retention', () => {
  it('is set aside; when it comes back, what the others deleted goes, and what it wrote stays and is sent', async () => {
    const days = new Days();
    const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y'); INSERT INTO files VALUES (1, 1, 'a', 1), (2, 2, 'b', 2)");
    converge([a, b, c]);
    days.pass(31);
    a.write("DELETE FROM folders WHERE name = 'x'; UPDATE files SET size = 3 WHERE name = 'b'");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.prune()).toEqual({ tombstones: 2, blockedBy: [] });
    c.write("INSERT INTO folders VALUES (9, 'of C'); INSERT INTO files VALUES (9, 9, 'of C', 9)");
    converge([a, b, c]);
    expect(content(a)).toEqual([['of C'], ['y'], ['b', 3, 'y'], ['of C', 9, 'of C']]);
    await expectSame([a, b, c]);
    for (const replica of [a, b, c]) expect(tombstones(replica)).toBe(0);
  });

  it('sets nobody aside when it was away itself: nobody has heard of its own deletes yet', async () => {
    const days = new Days();
    const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b, c]);
    expect(a.prune().tombstones).toBe(0);
    a.write("DELETE FROM folders WHERE name = 'x'");
    days.pass(40);
    b.write("UPDATE folders SET name = 'x, changed' WHERE name = 'x'");
    converge([b, c]);
    expect(a.prune()).toEqual({ tombstones: 0, blockedBy: ['B', 'C'] });
    converge([a, b, c]);
    expect(content(a)).toEqual([['y']]);
    await expectSame([a, b, c]);
    for (const replica of [a, b, c]) expect(replica.prune().tombstones).toBe(1);
  });

  it('hears from its owner what a delete means for a row that its owner has forgotten, in a restore, to have hung on it', async () => {
    const days = new Days();
    const owned = {
      tables: { files: { ownership: 'device' } },
    };
    const [a, b] = members(2, days, { config: owned }) as [Replica, Replica];
    b.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b]);
    a.write("INSERT INTO files (id, name) VALUES (1, 'f')");
    converge([a, b]);
    const backup = a.backup();
    a.write("UPDATE files SET folder_id = (SELECT id FROM folders WHERE name = 'x')");
    converge([a, b]);
    const restored = a.restored(backup);
    days.pass(31);
    restored.write("DELETE FROM folders WHERE name = 'x'");
    expect(restored.prune().tombstones).toBe(1);
    converge([restored, b]);
    await expectSame([restored, b]);
    expect(content(b)).toEqual([['y']]);
    converge([restored, b]);
    for (const replica of [restored, b]) replica.prune();
    for (const replica of [restored, b]) expect(tombstones(replica)).toBe(0);
  });

  it('finds what it wrote to rows that are gone in the records of conflicts', async () => {
    const days = new Days();
    const [a, b] = members(2, days) as [Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'); INSERT INTO files VALUES (1, 1, 'a', 1)");
    converge([a, b]);
    days.pass(31);
    a.write('DELETE FROM files');
    a.prune();
    b.write('UPDATE files SET size = 100');
    converge([a, b]);
    expect(content(b)).toEqual([['x']]);
    expect(b.rows('SELECT rule FROM flotilla_conflicts')).toEqual([['deleted']]);
    expect(a.rows('SELECT rule FROM flotilla_conflicts')).toEqual([]);
    await expectSame([a, b]);
  });

  it('keeps, with its own new rows, what those cannot do without', async () => {
    const days = new Days();
    const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'kept'), (2, 'gone')");
    converge([a, b, c]);
    days.pass(31);
    a.write('DELETE FROM folders');
    converge([a, b]);
    a.prune();
    c.write("INSERT INTO links VALUES (1, 1, 'l'); INSERT INTO files VALUES (1, 2, 'f', 1)");
    converge([a, b, c]);
    // NO ACTION forbids the delete of the one, CASCADE takes what C hung on the other.
    expect(content(a)).toEqual([['kept'], ['l', 'kept']]);
    await expectSame([a, b, c]);
  });

  it('writes a natural key anew that the others deleted meanwhile: it lives everywhere', async () => {
    const days = new Days();
    const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
    days.pass(31);
    c.write("INSERT INTO tags VALUES ('t', 'red')");
    c.stamp();
    a.write("INSERT INTO tags VALUES ('t', 'blue')");
    a.stamp();
    a.write("DELETE FROM tags WHERE name = 't'");
    converge([a, b]);
    // B has pruned the delete, A has not.
    b.prune();
    expect([tombstones(a), tombstones(b)]).toEqual([1, 0]);
    c.pull(b);
    converge([a, b, c]);
    expect(content(a)).toEqual([['t', 'red']]);
    await expectSame([a, b, c]);
  });

  it('gives nothing before it has reconciled, also where a second one was away', async () => {
    const days = new Days();
    const [a, b, c, d] = members(4, days) as [Replica, Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b, c, d]);
    days.pass(31);
    a.write("DELETE FROM folders WHERE name = 'x'");
    converge([a, b]);
    for (const replica of [a, b]) replica.prune();
    // C and D meet first: neither knows of the delete.
    c.write("INSERT INTO files SELECT 5, id, 'late', 5 FROM folders WHERE name = 'x'");
    d.pull(c);
    expect(b.pull(d)).toEqual([]);
    expect(content(b)).toEqual([['y']]);
    d.pull(b);
    expect(content(d)).toEqual([['y']]);
    converge([a, b, c, d]);
    expect(content(a)).toEqual([['y']]);
    await expectSame([a, b, c, d]);
  });

  it('and one that pruned by itself meanwhile come together, whoever begins', async () => {
    for (const order of [
      [0, 1, 2, 3],
      [3, 2, 1, 0],
    ]) {
      const days = new Days();
      const replicas = members(4, days) as [Replica, Replica, Replica, Replica];
      const [a, b, c, d] = replicas;
      a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y'), (3, 'z')");
      converge(replicas);
      days.pass(31);
      a.write("DELETE FROM folders WHERE name = 'x'");
      converge([a, b]);
      c.write("DELETE FROM folders WHERE name = 'y'");
      converge([c, d]);
      for (const replica of replicas) replica.prune();
      for (const replica of replicas) expect(tombstones(replica)).toBe(0);
      converge(order.map((i) => replicas[i] as Replica));
      expect(content(a)).toEqual([['z']]);
      await expectSame(replicas);
    }
  });

  it('has what it wrote settled also where that waits at the others already, since they had to reconcile first', async () => {
    const days = new Days();
    const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b, c]);
    a.write("DELETE FROM folders WHERE name = 'x'");
    c.write("INSERT INTO files (folder_id, name) SELECT id, 'f' FROM folders WHERE name = 'x'");
    c.write("DELETE FROM folders WHERE name = 'y'");
    converge([a, b]);
    days.pass(40);
    a.hear(b);
    b.hear(a);
    for (const replica of [a, b, c]) replica.prune();
    a.pull(c);
    expect(a.waiting()).toEqual(['missing-target']);
    c.pull(a);
    converge([a, b, c]);
    await expectSame([a, b, c]);
  });

  it('says by what waits there nothing of what that refers to', async () => {
    const days = new Days();
    const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b, c]);
    days.pass(31);
    a.write("DELETE FROM folders WHERE name = 'y'");
    converge([a, b]);
    for (const replica of [a, b]) replica.prune();
    c.write("DELETE FROM folders WHERE name = 'x'");
    c.stamp();
    expect(c.prune().tombstones).toBe(1);
    // A asks before it has heard of B's file; C has it from A before it answers, and it waits there for what C has forgotten.
    const said = wireOf([...a.library.knowledge()]);
    b.write("INSERT INTO files (folder_id, name) SELECT id, 'f' FROM folders WHERE name = 'x'");
    a.pull(b);
    c.pull(a);
    expect(c.waiting()).toEqual(['missing-target']);
    const asked = a.passFrom(c, said);
    for (let complete = false; !complete;) complete = a.apply('C', asked.next() as Uint8Array).complete;
    asked.close();
    converge([a, b, c]);
    expect(content(a)).toEqual([]);
    await expectSame([a, b, c]);
  });

  it('may be restored from a backup that is older than what was pruned', async () => {
    const days = new Days();
    const [a, old] = restored(days);
    expect(content(old)).toEqual([['x'], ['y']]);
    converge([a, old]);
    expect(content(a)).toEqual([['y']]);
    await expectSame([a, old]);
  });

  it('has nothing left of what waits in such a backup for rows that were deleted with it', async () => {
    const days = new Days();
    const [a, b] = members(2, days) as [Replica, Replica];
    a.write("INSERT INTO folders VALUES (2, 'y'); INSERT INTO files VALUES (1, 2, 'moved', 1)");
    converge([a, b]);
    a.write("INSERT INTO folders VALUES (1, 'x'); INSERT INTO files VALUES (2, 1, 'new', 1)");
    a.write("UPDATE files SET folder_id = 1 WHERE name = 'moved'");
    // The page with the folder is late.
    for (const page of singles(b, a).slice(1)) b.apply('A', inTheMiddle(page));
    expect(b.waiting()).toEqual(['missing-target', 'missing-target']);
    const backup = b.backup();
    converge([a, b]);
    a.write("DELETE FROM folders WHERE name = 'x'");
    converge([a, b]);
    expect(a.prune().tombstones).toBe(3);
    const old = b.restored(backup);
    old.write("UPDATE files SET size = 7 WHERE name = 'moved'");
    converge([a, old]);
    expect(content(old)).toEqual([['y']]);
    expect(old.rows('SELECT rule FROM flotilla_conflicts')).toEqual([['deleted']]);
    await expectSame([a, old]);
  });

  it('takes nothing more, once it has reconciled, of what another one began to give that has to do so as well', async () => {
    const days = new Days();
    const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y'); INSERT INTO files VALUES (1, 1, 'f', 1)");
    converge([a, b, c]);
    const backups = [b.backup(), c.backup()] as const;
    a.write("DELETE FROM folders WHERE name = 'x'");
    converge([a, b, c]);
    expect(a.prune().tombstones).toBe(2);
    const [old, other] = [b.restored(backups[0]), c.restored(backups[1])];
    other.write("UPDATE files SET size = 7; UPDATE folders SET name = 'z' WHERE name = 'y'");
    const page = begunWith(old, other);
    other.pull(a);
    old.pull(a);
    // It is late, and its sender has no longer what it holds.
    expect(() => old.apply('C', page)).toThrow('will ask again');
    converge([a, old, other]);
    expect(content(a)).toEqual([['z']]);
    await expectSame([a, old, other]);
  });

  it('begins again when it is cut off in the middle', async () => {
    const days = new Days();
    const [a, b] = members(2, days) as [Replica, Replica];
    a.write(
      `WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) INSERT INTO folders SELECT i, 'f' || i FROM n`,
    );
    converge([a, b]);
    days.pass(31);
    a.write("DELETE FROM folders WHERE id <= 20; UPDATE folders SET name = 'g' || id WHERE id >= 49");
    a.prune();
    const pass = b.passFrom(a);
    expect(b.apply('A', pass.next(1) as Uint8Array).complete).toBe(false);
    pass.close();
    b.restart();
    expect(content(b)).toHaveLength(50);
    converge([a, b], 10);
    expect(content(b)).toHaveLength(30);
    await expectSame([a, b]);
  });
});

describe('[F2] a member that comes back, and a table that only some have', () => {
  /** Copies of which those named `late` do not have the table of the tags. */
  function unlike(days: Days, late: readonly string[]): [Replica, Replica, Replica] {
    const [without = ''] = DDL.split(/;\s*CREATE TABLE tags/);
    const make = (device: string): Replica =>
      new Replica({
        device,
        ddl: late.includes(device) ? without : DDL,
        now: days.now,
        libraryId: FOUNDED_ID,
      });
    const replicas = [make('A'), make('B'), make('C')] as [Replica, Replica, Replica];
    replicas[0].found();
    for (const other of replicas.slice(1)) replicas[0].admit(other);
    replicas[0].write("INSERT INTO tags VALUES ('kept', 'red'), ('gone', 'blue')");
    converge(replicas);
    return replicas;
  }

  it('has nothing left of what waits for the table, and was deleted', async () => {
    const days = new Days();
    const [a, b, c] = unlike(days, ['B']);
    expect(b.waiting()).toEqual(['no-table', 'no-table']);
    a.write("DELETE FROM tags WHERE name = 'gone'");
    for (let i = 0; i < 4; i += 1) {
      days.pass(10);
      converge([a, c]);
      a.prune();
    }
    c.prune();
    expect([tombstones(a), tombstones(c)]).toEqual([0, 0]);
    converge([a, b, c]);
    expect(b.waiting()).toEqual(['no-table']);
    b.write('CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT)');
    b.look();
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(replica.rows('SELECT name FROM tags')).toEqual([['kept']]);
    await expectEqual(a, b, c);
  });

  it('keeps what waits for the table at the one with whom it reconciles', async () => {
    const days = new Days();
    const [a, b, c] = unlike(days, ['B']);
    b.write("INSERT INTO folders (name) VALUES ('old')");
    converge([a, b, c]);
    b.write('DELETE FROM folders');
    for (let i = 0; i < 4; i += 1) {
      days.pass(10);
      converge([b, c]);
      b.prune();
    }
    expect(tombstones(b)).toBe(0);
    a.pull(b);
    expect(a.rows('SELECT name FROM tags ORDER BY name')).toEqual([['gone'], ['kept']]);
    expect(a.rows('SELECT count(*) FROM folders')).toEqual([[0]]);
    converge([a, b, c]);
    await expectEqual(a, b, c);
  });

  it('[G5] keeps the rows of a table that was dropped there by plain SQL', async () => {
    const days = new Days();
    const [a, b, c] = unlike(days, []);
    b.write("INSERT INTO folders (name) VALUES ('old')");
    converge([a, b, c]);
    b.write('DELETE FROM folders');
    b.write('DROP TABLE tags');
    for (let i = 0; i < 4; i += 1) {
      days.pass(10);
      converge([b, c]);
      b.prune();
    }
    expect(tombstones(b)).toBe(0);
    a.pull(b);
    for (const replica of [a, c])
      expect(replica.rows('SELECT name FROM tags ORDER BY name')).toEqual([['gone'], ['kept']]);
    expect(a.rows('SELECT count(*) FROM folders')).toEqual([[0]]);
    b.write('CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT)');
    b.look();
    converge([a, b, c]);
    for (const replica of [a, b, c])
      expect(replica.rows('SELECT name FROM tags ORDER BY name')).toEqual([['gone'], ['kept']]);
    await expectEqual(a, b, c);
  });
});

describe('[F4] what members know', () => {
  it('spreads to those that never meet them, first where it differs from what the teller knows, then as it grows', () => {
    const [a, b, c] = members(3, new Days()) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b, c]);
    // From now on B is between the two.
    const toA = new Conversation('A', b.library.knowledge());
    const base = wireOf([...b.library.knowledge()]);
    const tell = (): number => {
      const news = toA.spreading.news(b.library);
      a.library.transact(() => hearOfOthers(a.library, base, news, null));
      return news.length;
    };
    expect(tell()).toBe(1);
    expect(tell()).toBe(0);
    a.write("DELETE FROM folders WHERE name = 'x'");
    b.pull(a);
    expect(a.prune()).toEqual({ tombstones: 0, blockedBy: ['C'] });
    c.pull(b);
    expect(tell()).toBe(1);
    expect(a.prune()).toEqual({ tombstones: 1, blockedBy: [] });
  });
});

describe('[F4] what a member knows', () => {
  it('is not told to whom has told it', () => {
    const [a, b, c] = members(3, new Days()) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x')");
    converge([a, b, c]);
    const [toA, toB] = [new Conversation('A', b.library.knowledge()), new Conversation('B', a.library.knowledge())];
    const toldTo = (from: Replica, to: Replica, said: Conversation, heard: Conversation): string[] => {
      const news = said.spreading.news(from.library);
      const base = wireOf([...from.library.knowledge()]);
      to.library.transact(() => hearOfOthers(to.library, base, news, heard));
      return news.map(({ device }) => device);
    };
    expect(toldTo(b, a, toA, toB)).toEqual(['C']);
    // C has more by now, as B hears from itself, and A by B.
    c.write("INSERT INTO folders VALUES (2, 'y')");
    b.pull(c);
    a.pull(b);
    expect(toldTo(b, a, toA, toB)).toEqual(['C']);
    expect(toldTo(a, b, toB, toA)).toEqual([]);
  });
});

describe('[F4] two that have heard the same of others', () => {
  it('say so by a hash, and tell each other nothing but what comes', () => {
    const days = new Days();
    const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x')");
    converge([a, b, c]);
    const hashes = (): string[] => [heardHash(a.library, 'B', DAY_MS), heardHash(b.library, 'A', DAY_MS)];
    const isEven = (): boolean => new Set(hashes()).size === 1;
    expect(isEven()).toBe(true);
    const toA = new Conversation('A', b.library.knowledge());
    toA.spreading.wasToldAll(b.library);
    expect(toA.spreading.news(b.library)).toEqual([]);
    c.write("INSERT INTO folders VALUES (2, 'y')");
    b.pull(c);
    b.hear(c);
    expect(isEven()).toBe(false);
    const base = wireOf([...b.library.knowledge()]);
    const news = toA.spreading.news(b.library);
    expect(news.map(({ device, whole }) => [device, whole])).toEqual([['C', false]]);
    a.library.transact(() => hearOfOthers(a.library, base, news, null));
    expect(isEven()).toBe(true);
    // What one of them has said itself does not matter between the two.
    a.write("INSERT INTO folders VALUES (3, 'z')");
    b.pull(a);
    expect(isEven()).toBe(true);
  });

  it('do not say so where one has heard that a member is there much later than the other', () => {
    const days = new Days();
    const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x')");
    converge([a, b, c]);
    days.pass(2);
    a.hear(c);
    expect(heardHash(a.library, 'B', DAY_MS)).not.toBe(heardHash(b.library, 'A', DAY_MS));
    b.hear(c);
    expect(heardHash(a.library, 'B', DAY_MS)).toBe(heardHash(b.library, 'A', DAY_MS));
  });
});

describe('[F4] what members know, of a start that one of them has never heard of', () => {
  it('is nothing, although the teller knows it: a delete of then stays', () => {
    const [a, b, c] = members(3, new Days()) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b, c]);
    // B starts anew and deletes; C is away.
    b.restart();
    b.write("DELETE FROM folders WHERE name = 'x'");
    b.stamp();
    const base = b.library.knowledge();
    a.pull(b);
    const news = new Conversation('A', base).spreading.news(b.library);
    a.library.transact(() => hearOfOthers(a.library, wireOf([...base]), news, null));
    expect(a.prune()).toEqual({ tombstones: 0, blockedBy: ['C'] });
    c.pull(a);
    expect(c.rows('SELECT name FROM folders')).toEqual([['y']]);
  });
});

describe('[F3] a newcomer', () => {
  it('takes its first pass from one member, whatever that one has pruned', async () => {
    const days = new Days();
    const [a, b] = members(2, days) as [Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b]);
    a.write("DELETE FROM folders WHERE name = 'x'");
    converge([a, b]);
    for (const replica of [a, b]) replica.prune();
    const n = newcomer(days);
    a.admit({ device: 'N' });
    const pass = n.passFrom(a);
    n.apply('A', pass.next(1) as Uint8Array);
    expect(() => n.pull(b)).toThrow(/first pass from A/);
    pass.close();
    n.pull(a);
    converge([a, b, n]);
    expect(content(n)).toEqual([['y']]);
    await expectSame([a, b, n]);
  });

  it('takes nothing more, once it has all, of what somebody began to give who has to reconcile', async () => {
    const days = new Days();
    const [a, old] = restored(days);
    old.write("UPDATE folders SET name = 'z' WHERE name = 'x'");
    const n = newcomer(days);
    a.admit({ device: 'N' });
    const page = begunWith(n, old);
    old.pull(a);
    n.pull(a);
    expect(() => n.apply('B', page)).toThrow('will ask again');
    converge([a, old, n]);
    expect(content(n)).toEqual([['y']]);
    await expectSame([a, old, n]);
  });

  it.each(['feed', 'snapshot'])(
    'that took its first pass by %s has whoever missed what its source had pruned reconcile',
    async (way) => {
      const days = new Days();
      const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
      a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
      converge([a, b, c]);
      days.pass(31);
      a.write("DELETE FROM folders WHERE name = 'x'");
      converge([a, b]);
      for (const replica of [a, b]) expect(replica.prune().tombstones).toBe(1);
      const n = newcomer(days);
      a.admit(n);
      const folder = new SnapshotFolder();
      if (way === 'snapshot') expect(await bring(folder, a, n)).not.toBeNull();
      else n.pull(a);
      folder.remove();
      // The newcomer has no delete to tell of, and says that it knows all.
      c.pull(n);
      expect(content(c)).toEqual([['y']]);
      converge([a, b, c, n]);
      await expectSame([a, b, c, n]);
    },
  );

  it('that takes a snapshot which is older than what was pruned since brings none of it back', async () => {
    const days = new Days();
    const [a, b, c] = members(3, days) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y'); INSERT INTO files (folder_id, name) VALUES (1, 'in x')");
    converge([a, b, c]);
    days.pass(31);
    const n = newcomer(days);
    const folder = new SnapshotFolder();
    const meanwhile = (): void => {
      a.write("DELETE FROM folders WHERE name = 'x'");
      converge([a, b]);
      for (const replica of [a, b]) expect(replica.prune().tombstones).toBe(2);
    };
    expect(await bring(folder, a, n, { meanwhile })).not.toBeNull();
    folder.remove();
    a.admit(n);
    expect(n.rows('SELECT name FROM folders ORDER BY name')).toEqual([['x'], ['y']]);
    // Not even to who reads from it before it has compared.
    b.pull(n);
    expect(content(b)).toEqual([['y']]);
    converge([a, b, c, n]);
    expect(content(n)).toEqual([['y']]);
    await expectSame([a, b, c, n]);
  });
});

describe('[F1] [F4] what a member that was restored once knew', () => {
  it('keeps no deletes, once it has said what it knows by now', () => {
    const [a, b, c] = members(3, new Days()) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b, c]);
    const backup = c.backup();
    c.write("INSERT INTO folders (name) VALUES ('z')");
    c.stamp();
    // It says so, and is restored before anybody has it.
    for (const other of [a, b]) other.hear(c);
    const restored = c.restored(backup);
    a.write("DELETE FROM folders WHERE name = 'x'");
    for (let round = 0; round < 2; round += 1) converge([a, b, restored]);
    expect(a.prune()).toEqual({ tombstones: 1, blockedBy: [] });
  });

  it('is not believed again of others who have not heard that it was restored', () => {
    const [a, b, c] = members(3, new Days()) as [Replica, Replica, Replica];
    converge([a, b, c]);
    const backup = c.backup();
    c.write("INSERT INTO folders (name) VALUES ('z')");
    c.stamp();
    for (const other of [a, b]) other.hear(c);
    const restored = c.restored(backup);
    const heard = (): unknown[][] => a.rows("SELECT run, hlc FROM flotilla_heard WHERE device = 'C' ORDER BY 1");
    a.hear(restored);
    const said = heard();
    const base = b.library.knowledge();
    const news = new Conversation('A', base).spreading.news(b.library);
    a.library.transact(() => hearOfOthers(a.library, wireOf([...base]), news, null));
    expect(heard()).toEqual(said);
    // What it says itself counts.
    restored.write("INSERT INTO folders (name) VALUES ('new')");
    restored.stamp();
    a.hear(restored);
    expect(heard()).not.toEqual(said);
  });
});

describe('[F2] [F3] a newcomer that is restored from a backup of before its first pass was complete', () => {
  it.each(['before it began', 'in its middle'])('loses what was deleted since, and forgotten (%s)', async (when) => {
    const days = new Days();
    const [a, b] = members(2, days) as [Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, 'x'), (2, 'y')");
    converge([a, b]);
    const n = newcomer(days);
    a.admit({ device: 'N' });
    if (when === 'in its middle') {
      const pass = n.passFrom(a);
      n.apply('A', pass.next(1) as Uint8Array);
      pass.close();
    }
    n.write("INSERT INTO folders (name) VALUES ('z')");
    n.stamp();
    const backup = n.backup();
    for (let round = 0; round < 2; round += 1) converge([a, b, n]);
    b.write("DELETE FROM folders WHERE name <> 'y'");
    for (let round = 0; round < 2; round += 1) converge([a, b, n]);
    for (const replica of [a, b]) expect(replica.prune().tombstones).toBe(2);
    const restored = n.restored(backup);
    restored.write("INSERT INTO folders (name) VALUES ('new')");
    for (let round = 0; round < 2; round += 1) converge([a, b, restored]);
    for (const replica of [a, b, restored]) expect(content(replica)).toEqual([['new'], ['y']]);
    await expectSame([a, b, restored]);
  });
});

describe('[F1] [F2] random fleets', () => {
  const SEEDS = Number(process.env['FLOTILLA_PRUNE_SEEDS'] ?? 8);

  it.each(Array.from({ length: SEEDS }, (_, i) => i + 1))(
    'that prune and stay away at random are equal in the end, and no deleted row comes back (seed %i)',
    async (seed) => {
      const chance = new Chance(seed);
      const days = new Days();
      const replicas = members(4, days);
      const away = new Set<Replica>();
      const deleted = new Set<string>();
      let names = 0;
      for (let step = 0; step < 150; step += 1) {
        const replica = chance.pick(replicas);
        const kind = chance.below(20);
        if (kind < 4) {
          const name = `n${(names += 1)}`;
          replica.write(`INSERT INTO folders (name) VALUES ('${name}')`);
          replica.write(`INSERT INTO files (folder_id, name, size) SELECT max(id), '${name}', 0 FROM folders`);
          if (chance.happens(0.5))
            replica.write(`INSERT OR REPLACE INTO tags VALUES ('t${chance.below(3)}', '${name}')`);
        } else if (kind < 6) {
          replica.write(`UPDATE files SET size = ${step} WHERE id % 3 = ${chance.below(3)}`);
        } else if (kind < 8) {
          const [name] = replica
            .rows('SELECT name FROM folders WHERE id NOT IN (SELECT folder_id FROM links) ORDER BY name LIMIT 1')
            .flat();
          if (typeof name !== 'string') continue;
          replica.write('DELETE FROM folders WHERE name = ?', name);
          deleted.add(name);
        } else if (kind < 9) replica.write(`DELETE FROM tags WHERE name = 't${chance.below(3)}'`);
        else if (kind < 10) {
          if (away.has(replica)) away.delete(replica);
          else if (away.size < 2) away.add(replica);
        } else if (kind < 11) days.pass(chance.below(20));
        else if (kind < 13) replica.prune();
        else {
          const other = chance.pick(replicas);
          if (other !== replica && away.has(other) === away.has(replica)) replica.pull(other, 1 + chance.below(8));
        }
        expect(replica.violations()).toEqual([]);
      }
      converge(replicas);
      for (const replica of replicas) replica.prune();
      converge(replicas);
      await expectSame(replicas);
      for (const replica of replicas) {
        const present = new Set(replica.rows('SELECT name FROM folders').flat());
        expect([...deleted].filter((name) => present.has(name))).toEqual([]);
      }
    },
  );
});

it('[F1] a write to a row whose delete waits brings it back nowhere, where that delete is forgotten by now', async () => {
  const replicas = fleetOf(
    3,
    `CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT);
     CREATE TABLE files (id INTEGER PRIMARY KEY, note INTEGER REFERENCES notes ON DELETE SET NULL)`,
    { config: { tables: { files: { ownership: 'device' } } }, libraryId: FOUNDED_ID },
  ) as [Replica, Replica, Replica];
  const [a, b, c] = replicas;
  a.found();
  for (const replica of [b, c]) a.admit(replica);
  a.write("INSERT INTO notes VALUES (1, 'first')");
  converge(replicas);
  a.write('INSERT INTO files VALUES (1, 1)');
  a.stamp();
  b.write('DELETE FROM notes');
  b.stamp();
  // A decides about its file, and C has not heard of that.
  for (const other of [a, b]) c.pull(other);
  expect(c.waiting()).toEqual(['referrers']);
  for (const [to, from] of [
    [a, c],
    [a, b],
    [b, a],
    [a, b],
  ] as const)
    to.pull(from);
  b.pull(c);
  for (const replica of [a, b]) expect(replica.prune().tombstones).toBe(1);
  c.write("UPDATE notes SET body = 'second'");
  for (const replica of [a, b]) {
    replica.pull(c, 1);
    expect(replica.rows('SELECT * FROM notes')).toEqual([]);
  }
  converge(replicas);
  await expectEqual(...replicas);
  for (const replica of replicas) expect(replica.rows('SELECT * FROM notes')).toEqual([]);
  expect(c.rows('SELECT rule FROM flotilla_conflicts')).toEqual([['deleted']]);
});
