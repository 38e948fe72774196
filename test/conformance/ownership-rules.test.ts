/** Who may write which row, and what becomes of those who did not know. Rule ids are those of docs/spec.md. */
import { describe, expect, it } from 'vitest';

import { expectEqual, fleetOf, inTheMiddle, pagesFor, pairOf } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const DDL = `
CREATE TABLE volumes (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE locations (id INTEGER PRIMARY KEY, name TEXT, volume_id INTEGER NOT NULL REFERENCES volumes (id) ON DELETE CASCADE);
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, name TEXT, location_id INTEGER REFERENCES locations (id) ON DELETE CASCADE
);`;
const config = {
  tables: {
    volumes: { ownership: 'device' },
    locations: { ownedBy: 'volume_id' },
    entries: { ownedBy: 'LOCATION_ID' },
  },
};

/** A has a volume with a location and an entry, B one without entries. */
function three(): [Replica, Replica, Replica] {
  const [a, b, c] = fleetOf(3, DDL, { config }) as [Replica, Replica, Replica];
  a.write(`INSERT INTO volumes VALUES (1, 'of A'); INSERT INTO locations VALUES (1, 'a', 1);
    INSERT INTO entries VALUES (1, 'one', 1), (2, 'two', 1)`);
  a.stamp();
  b.write("INSERT INTO volumes VALUES (50, 'of B'); INSERT INTO locations VALUES (50, 'b', 50)");
  converge([a, b, c]);
  return [a, b, c];
}

function names(replica: Replica): unknown[] {
  return replica.rows('SELECT name FROM entries ORDER BY name').map(([name]) => name);
}

/** The volume goes to `to`. */
function give(by: Replica, name: string, to = by): void {
  by.own('volumes', by.rows('SELECT id FROM volumes WHERE name = ?', name)[0]?.[0] as number, to);
}

function conflicts(replica: Replica): unknown[][] {
  return replica.rows('SELECT rule, col, lost, kept FROM flotilla_conflicts ORDER BY id');
}

const FOREIGN = 'belongs to another device';

describe('ownership', () => {
  it('[O1] a row belongs to the owner of what it refers to, over any number of steps', async () => {
    const [a, b, c] = three();
    for (const other of [b, c]) {
      expect(() => other.write("UPDATE entries SET name = 'x'")).toThrow(`row of entries ${FOREIGN}`);
      expect(() => other.write('DELETE FROM entries')).toThrow(FOREIGN);
      expect(() => other.write("UPDATE locations SET name = 'x'")).toThrow(FOREIGN);
      expect(() => other.write("DELETE FROM volumes WHERE name = 'of A'")).toThrow(FOREIGN);
    }
    a.write("UPDATE entries SET name = name || '!'; UPDATE locations SET name = 'a!' WHERE name = 'a'");
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(names(replica)).toEqual(['one!', 'two!']);
    await expectEqual(a, b, c);
  });

  it('[O2] nobody adds rows to what belongs to another device', () => {
    const [, b] = three();
    const id = (name: string): string => `(SELECT id FROM locations WHERE name = '${name}')`;
    expect(() => b.write(`INSERT INTO entries (name, location_id) VALUES ('x', ${id('a')})`)).toThrow(
      'flotilla: this row of entries would belong to a row of locations of another device; add it there',
    );
    b.write(`INSERT INTO entries (name, location_id) VALUES ('y', ${id('b')}), ('z', NULL)`);
    // What is ignored, or becomes no change, is not refused.
    b.write(`INSERT OR IGNORE INTO entries SELECT * FROM entries`);
    expect(names(b)).toEqual(['one', 'two', 'y', 'z']);
  });

  it('[O1] a row that refers to nothing belongs to its maker', () => {
    const [a, b, c] = three();
    b.write("INSERT INTO entries (name) VALUES ('loose')");
    converge([a, b, c]);
    expect(() => a.write("UPDATE entries SET name = 'x' WHERE name = 'loose'")).toThrow(FOREIGN);
    b.write("UPDATE entries SET name = 'still loose' WHERE name = 'loose'");
    converge([a, b, c]);
    expect(names(a)).toEqual(['one', 'still loose', 'two']);
  });

  for (const from of ['the new owner', 'the old owner', 'a third device'] as const) {
    it(`[O3] a transfer by ${from} hands over everything below with one row`, async () => {
      const [a, b, c] = three();
      const by = { 'the new owner': b, 'the old owner': a, 'a third device': c }[from];
      const before = by.library.head;
      give(by, 'of A', b);
      expect(by.library.head - before).toBe(1);
      converge([a, b, c]);
      expect(() => a.write("UPDATE entries SET name = 'x'")).toThrow(FOREIGN);
      expect(() => a.write("INSERT INTO entries (name, location_id) VALUES ('x', 1)")).toThrow('would belong to');
      b.write("UPDATE entries SET name = name || ' by B'");
      b.write("INSERT INTO entries (name, location_id) SELECT 'new', id FROM locations WHERE name = 'a'");
      b.write("DELETE FROM entries WHERE name = 'two by B'");
      converge([a, b, c]);
      for (const replica of [a, b, c]) expect(names(replica)).toEqual(['new', 'one by B']);
      expect([a, b, c].flatMap(conflicts)).toEqual([]);
      await expectEqual(a, b, c);
    });
  }

  it('[O3] a transfer back, and to a device that has it already', async () => {
    const [a, b, c] = three();
    give(b, 'of A');
    converge([a, b, c]);
    b.write("UPDATE entries SET name = 'by B' WHERE name = 'one'");
    converge([a, b, c]);
    give(a, 'of A');
    give(a, 'of A');
    expect(a.rows('SELECT count(*) FROM flotilla_transfers')).toEqual([[2]]);
    a.write("UPDATE entries SET name = 'by A again' WHERE name = 'by B'");
    converge([a, b, c]);
    expect(() => b.write("UPDATE entries SET name = 'x' WHERE name LIKE 'by A%'")).toThrow(FOREIGN);
    for (const replica of [a, b, c]) expect(names(replica)).toEqual(['by A again', 'two']);
    await expectEqual(a, b, c);
  });

  it('[O3] says what cannot be given, or to whom', () => {
    const [a, b] = three();
    expect(() => b.own('entries', 1)).toThrow('belongs to the row of locations that its location_id refers to');
    expect(() => b.own('volumes', 999)).toThrow('volumes has no row (id) = 999');
    expect(() => b.own('nowhere', 1)).toThrow('There is no table "nowhere"');
    b.write("INSERT INTO entries (id, name) VALUES (77, 'loose')");
    a.pull(b);
    a.own('Entries', a.rows("SELECT id FROM entries WHERE name = 'loose'")[0]?.[0] as number);
    expect(() => a.write("UPDATE entries SET name = 'mine' WHERE name = 'loose'")).not.toThrow();
  });

  it('[O4] of two transfers made apart the later one counts', async () => {
    const [a, b, c] = three();
    give(b, 'of A');
    give(c, 'of A');
    b.write("UPDATE entries SET name = 'by B' WHERE name = 'one'");
    c.write("UPDATE entries SET name = 'by C' WHERE name = 'two'");
    b.stamp();
    c.stamp();
    converge([a, b, c]);
    for (const other of [a, b]) expect(() => other.write("UPDATE entries SET name = 'x'")).toThrow(FOREIGN);
    c.write("UPDATE entries SET name = name || '!'");
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(names(replica)).toEqual(['by B!', 'by C!']);
    await expectEqual(a, b, c);
  });
});

describe('a chain of devices, each of which meets only its neighbours', () => {
  /** Up the chain and down again, so often that what the last has written has come to the first. */
  function passAlong(chain: readonly Replica[]): void {
    const links = chain.slice(1).map((replica, i) => [chain[i] as Replica, replica] as const);
    for (const [one, other] of [...links, ...links.toReversed()]) {
      other.pull(one);
      one.pull(other);
    }
  }

  it('[O1] [O3] passes on owned rows, whose owner alone writes them, and their transfers', async () => {
    const chain = fleetOf(5, DDL, { config });
    const [first, , middle, , last] = chain as [Replica, Replica, Replica, Replica, Replica];
    first.write("INSERT INTO volumes VALUES (1, 'of A'); INSERT INTO locations VALUES (1, 'a', 1)");
    first.write("INSERT INTO entries VALUES (1, 'one', 1), (2, 'two', 1)");
    passAlong(chain);
    for (const replica of chain) expect(names(replica), replica.device).toEqual(['one', 'two']);
    for (const other of [middle, last])
      expect(() => other.write("UPDATE entries SET name = 'x'")).toThrow(`row of entries ${FOREIGN}`);
    give(last, 'of A');
    last.write("UPDATE entries SET name = 'of E' WHERE name = 'one'; DELETE FROM entries WHERE name = 'two'");
    // Not heard of yet at the other end, whose late write gives way when it is.
    first.write("UPDATE entries SET name = 'late' WHERE name = 'one'");
    passAlong(chain);
    passAlong(chain);
    for (const replica of chain) expect(names(replica), replica.device).toEqual(['of E']);
    expect(() => first.write("UPDATE entries SET name = 'x'")).toThrow(FOREIGN);
    expect(conflicts(first)).toEqual([['ownership', 'name', 'late', 'of E']]);
    await expectEqual(...chain);
  });
});

describe('those who did not know', () => {
  it('[O5] what the old owner wrote late stands where the new one wrote nothing', async () => {
    const [a, b, c] = three();
    give(b, 'of A');
    a.write("UPDATE entries SET name = 'late' WHERE id = 1; DELETE FROM entries WHERE id = 2");
    a.write("INSERT INTO entries (name, location_id) VALUES ('late too', 1)");
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(names(replica)).toEqual(['late', 'late too']);
    b.write("UPDATE entries SET name = name || ', by B'");
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(names(replica)).toEqual(['late too, by B', 'late, by B']);
    expect([a, b, c].flatMap(conflicts)).toEqual([]);
    await expectEqual(a, b, c);
  });

  for (const order of ['the transfer first', 'the late write first'] as const) {
    it(`[O5] and gives way where the new one wrote, with a record: ${order}`, async () => {
      const [a, b, c] = three();
      give(b, 'of A');
      b.write("UPDATE entries SET name = 'by B' WHERE name = 'one'");
      b.stamp();
      a.write("UPDATE entries SET name = 'late' WHERE id = 1");
      a.stamp();
      if (order === 'the transfer first') {
        c.pull(b);
        c.pull(a);
      } else {
        c.pull(a);
        c.pull(b);
      }
      converge([a, b, c]);
      for (const replica of [a, b, c]) expect(names(replica)).toEqual(['by B', 'two']);
      expect(conflicts(a)).toEqual([['ownership', 'name', 'late', 'by B']]);
      await expectEqual(a, b, c);
    });

    it(`[O5] a row that the old owner deleted lives if the new one wrote it: ${order}`, async () => {
      const [a, b, c] = three();
      give(b, 'of A');
      b.write("UPDATE entries SET name = 'by B' WHERE name = 'one'");
      b.stamp();
      a.write('DELETE FROM entries WHERE id = 1');
      a.stamp();
      if (order === 'the transfer first') {
        c.pull(b);
        c.pull(a);
      } else {
        c.pull(a);
        c.pull(b);
      }
      converge([a, b, c]);
      for (const replica of [a, b, c]) expect(names(replica)).toEqual(['by B', 'two']);
      b.write("DELETE FROM entries WHERE name = 'by B'");
      converge([c, a, b]);
      for (const replica of [a, b, c]) expect(names(replica)).toEqual(['two']);
      await expectEqual(a, b, c);
    });

    it(`[O5] a row that the new owner deleted stays dead whatever the old one wrote: ${order}`, async () => {
      const [a, b, c] = three();
      give(b, 'of A');
      b.write("DELETE FROM entries WHERE name = 'one'");
      b.stamp();
      a.write("UPDATE entries SET name = 'late' WHERE id = 1");
      a.stamp();
      if (order === 'the transfer first') {
        c.pull(b);
        c.pull(a);
      } else {
        c.pull(a);
        c.pull(b);
      }
      converge([a, b, c]);
      for (const replica of [a, b, c]) expect(names(replica)).toEqual(['two']);
      expect(conflicts(a).map(([rule, column]) => [rule, column])).toEqual([['ownership', null]]);
      await expectEqual(a, b, c);
    });
  }

  it('[O6] a version under a transfer that has not arrived waits for it', async () => {
    const [a, b, c] = three();
    give(b, 'of A');
    b.write("UPDATE entries SET name = 'by B' WHERE name = 'one'");
    // The transfer and the version come in pages of their own; the last one overtakes the others.
    const pages = pagesFor(c, b, 1);
    c.applier.apply('B', inTheMiddle(pages.at(-1) as Uint8Array));
    expect(c.waiting()).toEqual(['not-owner']);
    expect(names(c)).toEqual(['one', 'two']);
    for (const page of pages) c.applier.apply('B', page);
    converge([a, b, c]);
    expect(c.waiting()).toEqual([]);
    for (const replica of [a, b, c]) expect(names(replica)).toEqual(['by B', 'two']);
    await expectEqual(a, b, c);
  });

  it('[O6] a version whose writer was never its owner is not taken', () => {
    const [, b, c] = three();
    b.write("INSERT INTO volumes (name) VALUES ('for a run of its own')");
    b.stamp();
    const { n } = b.library.model('entries');
    // What no honest node does: the row of another device is written unseen by the triggers, and stamped.
    b.write(
      `UPDATE flotilla_capture SET suspended = 1; UPDATE entries SET name = 'stolen' WHERE name = 'one';
       UPDATE flotilla_rows_${n} SET hlc = (SELECT hlc + 1 FROM flotilla_clock), run = ${b.library.run}, lsn = (SELECT head + 1 FROM flotilla_clock)
       WHERE key = (SELECT id FROM entries WHERE name = 'stolen');
       UPDATE flotilla_clock SET head = head + 1, hlc = hlc + 1; UPDATE flotilla_capture SET suspended = 0`,
    );
    b.restart();
    expect(c.pull(b).some(({ rows }) => rows > 0)).toBe(true);
    expect(names(c)).toEqual(['one', 'two']);
  });
});

describe('rows that move', () => {
  it('[O7] an owner hands a row over by moving it, and whatever is below', async () => {
    const [a, b, c] = three();
    a.write("UPDATE locations SET volume_id = (SELECT id FROM volumes WHERE name = 'of B') WHERE name = 'a'");
    converge([a, b, c]);
    expect(() => a.write("UPDATE entries SET name = 'x'")).toThrow(FOREIGN);
    expect(() => a.write("UPDATE locations SET volume_id = 1 WHERE name = 'a'")).toThrow(FOREIGN);
    b.write("UPDATE entries SET name = name || ' by B'; UPDATE locations SET name = 'b2' WHERE name = 'a'");
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(names(replica)).toEqual(['one by B', 'two by B']);
    expect([a, b, c].flatMap(conflicts)).toEqual([]);
    await expectEqual(a, b, c);
  });

  it('[O7] from a root with a later transfer to one with an earlier: its new owner can write it', async () => {
    const [a, b, c] = three();
    give(c, 'of B');
    converge([a, b, c]);
    give(b, 'of A');
    converge([a, b, c]);
    b.write("UPDATE entries SET name = name || ' by B'");
    b.write("UPDATE entries SET location_id = (SELECT id FROM locations WHERE name = 'b') WHERE name = 'one by B'");
    converge([a, b, c]);
    expect(() => b.write("UPDATE entries SET name = 'x' WHERE name = 'one by B'")).toThrow(FOREIGN);
    c.write("UPDATE entries SET name = 'by C' WHERE name = 'one by B'");
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(names(replica)).toEqual(['by C', 'two by B']);
    await expectEqual(a, b, c);
  });

  it('[O7] what is written and moved in one transaction is still its owner’s own write', async () => {
    const [a, b, c] = three();
    a.write(`BEGIN; UPDATE entries SET name = 'edited' WHERE id = 1;
      UPDATE locations SET volume_id = (SELECT id FROM volumes WHERE name = 'of B') WHERE name = 'a';
      COMMIT`);
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(names(replica)).toEqual(['edited', 'two']);
    await expectEqual(a, b, c);
  });

  it('[O7] a cascade of its owner takes along what is below', async () => {
    const [a, b, c] = three();
    a.write('DELETE FROM volumes WHERE id = 1');
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(names(replica)).toEqual([]);
      expect(replica.rows('SELECT name FROM locations')).toEqual([['b']]);
    }
    await expectEqual(a, b, c);
  });
});

describe('writes that no guard saw', () => {
  it('[O8] a REPLACE of a row of another device is undone, with a record', async () => {
    const [a, b, c] = three();
    const mine = b.rows("SELECT id FROM locations WHERE name = 'b'")[0]?.[0];
    const theirs = b.rows("SELECT id FROM entries WHERE name = 'one'")[0]?.[0];
    b.write(`REPLACE INTO entries VALUES (${String(theirs)}, 'stolen', ${String(mine)})`);
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(names(replica)).toEqual(['one', 'two']);
    expect(conflicts(b).map(([rule, column]) => [rule, column])).toEqual([['ownership', null]]);
    await expectEqual(a, b, c);
  });

  it('[O8] what is written to one that has another id by now is not sent', async () => {
    const [a, b, c] = fleetOf(3, 'CREATE TABLE codes (id INTEGER PRIMARY KEY, what TEXT)', {
      config: { ownership: 'device' },
    }) as [Replica, Replica, Replica];
    a.write("INSERT INTO codes VALUES (1, 'of A')");
    b.pull(a);
    b.write('UPDATE codes SET id = 4');
    b.write("UPDATE codes SET what = 'stolen'");
    c.pull(b);
    expect(c.rows('SELECT what FROM codes')).toEqual([]);
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(replica.rows('SELECT what FROM codes')).toEqual([['of A']]);
    expect(conflicts(b).map(([rule]) => rule)).toEqual(['ownership']);
    await expectEqual(a, b, c);
  });

  it('[O8] it comes again though a pass that was open before ends with all that its device has stamped', async () => {
    const [a, b] = fleetOf(2, 'CREATE TABLE codes (id INTEGER PRIMARY KEY, what TEXT)', {
      config: { ownership: 'device' },
    }) as [Replica, Replica];
    a.write("INSERT INTO codes VALUES (1, 'of A'), (2, 'other')");
    const pages = pagesFor(b, a, 1);
    b.apply('A', pages[0] as Uint8Array);
    b.write('UPDATE codes SET id = 4');
    b.write("UPDATE codes SET what = 'stolen'");
    for (const page of pages.slice(1)) b.apply('A', page);
    converge([a, b]);
    expect(b.rows('SELECT what FROM codes ORDER BY what')).toEqual([['of A'], ['other']]);
    await expectEqual(a, b);
  });

  it('[O8] it need not come again once its owner has deleted it, though rows here refer to it', async () => {
    const [a, b] = fleetOf(
      2,
      'CREATE TABLE codes (id INTEGER PRIMARY KEY, what TEXT, up INTEGER REFERENCES codes ON DELETE CASCADE ON UPDATE CASCADE)',
      { config: { ownership: 'device' } },
    ) as [Replica, Replica];
    a.write("INSERT INTO codes VALUES (1, 'of A', NULL)");
    converge([a, b]);
    b.write("INSERT INTO codes VALUES (2, 'of B', 1)");
    b.write("BEGIN; UPDATE codes SET id = 4 WHERE id = 1; UPDATE codes SET what = 'stolen' WHERE id = 4; COMMIT");
    b.stamp();
    a.write('DELETE FROM codes WHERE id = 1');
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.waiting()).toEqual([]);
      expect(replica.rows('SELECT * FROM codes')).toEqual([]);
    }
    await expectEqual(a, b);
  });

  it('[O8] one that evicts a row of another device leaves it to come back', async () => {
    const [a, b] = evicting();
    b.write("UPDATE codes SET code = 'free'");
    converge([a, b]);
    for (const replica of [a, b])
      expect(replica.rows('SELECT code, what FROM codes ORDER BY code')).toEqual([
        ['free', 'of B'],
        ['k', 'of A'],
      ]);
    await expectEqual(a, b);
  });
});

/** Two devices, of which the second has evicted the first one's only row by one of its own. */
function evicting(): [Replica, Replica] {
  const [a, b] = pairOf('CREATE TABLE codes (id INTEGER PRIMARY KEY, code TEXT UNIQUE, what TEXT)', {
    config: { ownership: 'device' },
  });
  a.write("INSERT INTO codes VALUES (1, 'k', 'of A')");
  converge([a, b]);
  b.write("REPLACE INTO codes VALUES (9, 'k', 'of B')");
  return [a, b];
}

it('[O8] of one that evicts a row of another device nothing is recorded, also where a row of this one has that id at once', async () => {
  const [a, b] = evicting();
  b.write("UPDATE codes SET code = 'free'; INSERT INTO codes VALUES (1, 'more', 'of B')");
  converge([a, b]);
  for (const replica of [a, b]) {
    expect(replica.rows('SELECT code, what FROM codes ORDER BY code')).toEqual([
      ['free', 'of B'],
      ['k', 'of A'],
      ['more', 'of B'],
    ]);
    expect(conflicts(replica)).toEqual([]);
  }
  await expectEqual(a, b);
});

describe('shared rows that owned rows refer to', () => {
  it.each([
    ['CASCADE', []],
    ['SET NULL', [[null]]],
  ])(
    '[O9] are deleted when another one takes over what its owner has left behind: ON DELETE %s',
    async (clause, left) => {
      const fleet = fleetOf(
        3,
        `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE ${clause})`,
        { config: { tables: { c: { ownership: 'device' } } } },
      );
      const [a, b, c] = fleet as [Replica, Replica, Replica];
      a.write("INSERT INTO p VALUES (1, 'x')");
      converge(fleet);
      a.write('INSERT INTO c VALUES (1, 1)');
      b.write('DELETE FROM p');
      // That is the last that anybody hears of A.
      for (const other of [c, b]) other.pull(a);
      converge([b, c]);
      for (const replica of [b, c]) expect(replica.waiting()).toHaveLength(1);
      c.own('c', 1);
      expect(c.waiting()).toEqual([]);
      expect(c.rows('SELECT p FROM c')).toEqual(left);
      converge([b, c]);
      for (const replica of [b, c]) {
        expect(replica.waiting()).toEqual([]);
        expect(replica.rows('SELECT p FROM c')).toEqual(left);
        expect(replica.rows('SELECT count(*) FROM p')).toEqual([[0]]);
      }
      await expectEqual(b, c);
    },
  );

  it.each(['CASCADE', 'SET NULL'])(
    '[D7] are deleted when each owner has done its part: ON DELETE %s',
    async (clause) => {
      const replicas = fleetOf(
        3,
        `CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT);
       CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE ${clause}, v TEXT)`,
        { config: { tables: { c: { ownership: 'device' } } } },
      ) as [Replica, Replica, Replica];
      const [a, b, c] = replicas;
      a.write("INSERT INTO p VALUES (1, 'x')");
      converge(replicas);
      b.write("INSERT INTO c VALUES (1, (SELECT id FROM p), 'of B')");
      c.write("INSERT INTO c VALUES (1, (SELECT id FROM p), 'of C')");
      a.write('DELETE FROM p');
      converge(replicas);
      for (const replica of replicas) {
        expect(replica.waiting()).toEqual([]);
        expect(replica.rows('SELECT count(*) FROM p')).toEqual([[0]]);
        expect(replica.rows('SELECT p, count(*) FROM c')).toEqual([[null, clause === 'CASCADE' ? 0 : 2]]);
      }
      await expectEqual(...replicas);
    },
  );

  it('[O9] become one by the devices that own what refers to them, in any order', async () => {
    const [a, b, c] = fleetOf(
      3,
      `CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
       CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT, label_id INTEGER REFERENCES labels (id))`,
      { config: { tables: { files: { ownership: 'device' } } } },
    ) as [Replica, Replica, Replica];
    for (const replica of [a, b]) {
      replica.write(`INSERT INTO labels VALUES (1, 'x'); INSERT INTO files VALUES (1, '${replica.device}', 1)`);
      replica.stamp();
    }
    for (const from of [b, a, b]) c.pull(from);
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(replica.waiting()).toEqual([]);
      expect(
        replica.rows('SELECT f.name, l.name FROM files f JOIN labels l ON l.id = f.label_id ORDER BY f.name'),
      ).toEqual([
        ['A', 'x'],
        ['B', 'x'],
      ]);
      expect(replica.rows('SELECT count(*) FROM labels')).toEqual([[1]]);
    }
    await expectEqual(a, b, c);
  });
});
