/** Rows that belong to the device that made them. */
import { describe, expect, it } from 'vitest';

import { altered, expectEqual, fleetOf, inTheMiddle, pagesFor } from '../support/engine.ts';
import { converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const DDL = `
CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT);
CREATE TABLE files (
  id INTEGER PRIMARY KEY, name TEXT, note_id INTEGER REFERENCES notes (id) ON DELETE SET NULL,
  topic_id INTEGER REFERENCES notes (id) ON DELETE CASCADE
);
CREATE TABLE codes (code TEXT PRIMARY KEY, what TEXT);`;
const config = { tables: { files: { ownership: 'device' }, codes: { ownership: 'device' } } };

function three(): [Replica, Replica, Replica] {
  return fleetOf(3, DDL, { config }) as [Replica, Replica, Replica];
}

describe('owned rows', () => {
  it('arrive from their owner, also by way of another device', async () => {
    const [a, b, c] = three();
    a.write("INSERT INTO files (name) VALUES ('x')");
    b.pull(a);
    c.pull(b);
    expect(c.rows('SELECT name FROM files')).toEqual([['x']]);
    a.write("UPDATE files SET name = 'y'");
    b.pull(a);
    c.pull(b);
    expect(c.rows('SELECT name FROM files')).toEqual([['y']]);
    a.write('DELETE FROM files');
    b.pull(a);
    c.pull(b);
    expect(c.rows('SELECT name FROM files')).toEqual([]);
    await expectEqual(a, b, c);
  });

  it('are guarded on other devices, with a message that says why', async () => {
    const [a, b] = three();
    a.write("INSERT INTO files (name) VALUES ('x')");
    b.pull(a);
    expect(() => b.write("UPDATE files SET name = 'forged'")).toThrow(
      'flotilla: this row of files belongs to another device; change it there',
    );
    expect(() => b.write('DELETE FROM files')).toThrow('belongs to another device');
    expect(() => b.write('UPDATE files SET id = 99')).not.toThrow();
    b.write("INSERT INTO files (name) VALUES ('own'); UPDATE files SET name = 'mine' WHERE name = 'own'");
    converge([a, b]);
    expect(a.rows('SELECT name FROM files ORDER BY name')).toEqual([['mine'], ['x']]);
    await expectEqual(a, b);
  });

  it('may be changed by their owner after a restart and a restore, under another run', async () => {
    const [a, b] = three();
    a.write("INSERT INTO files (name) VALUES ('x')");
    converge([a, b]);
    const backup = a.backup();
    a.restart();
    a.write("UPDATE files SET name = 'y'");
    converge([a, b]);
    expect(b.rows('SELECT name FROM files')).toEqual([['y']]);
    const again = a.restored(backup);
    again.write("UPDATE files SET name = 'z'");
    converge([again, b]);
    expect(b.rows('SELECT name FROM files')).toEqual([['z']]);
    await expectEqual(again, b);
  });

  it('are not taken from another device: a version', () => {
    const [a, b, c] = three();
    a.write("INSERT INTO files (name) VALUES ('x')");
    converge([a, b, c]);
    // B stamps a change of A's row with its own run.
    b.write(
      "UPDATE flotilla_capture SET suspended = 1; UPDATE files SET name = 'forged'; UPDATE flotilla_capture SET suspended = 0",
    );
    b.write("INSERT INTO notes (body) VALUES ('so that B has a run')");
    b.stamp();
    b.write(
      `UPDATE flotilla_rows_${b.library.model('files').n} SET hlc = hlc + 1000000, run = ${b.library.run}, lsn = 1000`,
    );
    b.write('UPDATE flotilla_clock SET head = 1000');
    const pages = pagesFor(c, b, 100);
    for (const page of pages) c.applier.apply('B', page);
    expect(c.rows('SELECT body FROM notes')).toEqual([['so that B has a run']]);
    expect(c.rows('SELECT name FROM files')).toEqual([['x']]);
  });

  it('are not taken from another device: a tombstone', () => {
    const [a, b, c] = three();
    a.write("INSERT INTO files (name) VALUES ('x')");
    converge([a, b, c]);
    a.write('DELETE FROM files');
    a.stamp();
    const [page] = pagesFor(c, a, 100) as [Uint8Array];
    b.write("INSERT INTO notes (body) VALUES ('so that B has a run')");
    b.stamp();
    const forged = altered(page, ({ tombstones, runs, runDevices }) => ({
      runs: Buffer.concat([runs, Buffer.from(b.library.runHex(b.library.run), 'hex')]),
      runDevices: [...runDevices, 'B'],
      tombstones: tombstones.map((table) => ({ ...table, run: table.run.map(() => runDevices.length) })),
    }));
    c.applier.apply('B', forged);
    expect(c.rows('SELECT name FROM files')).toEqual([['x']]);
    expect(c.rows('SELECT * FROM flotilla_tombstones')).toEqual([]);
  });

  it('are refused when a peer gives a run to another device than the one that is known', () => {
    const [a, b, c] = three();
    a.write("INSERT INTO files (name) VALUES ('x')");
    converge([a, b, c]);
    a.write("UPDATE files SET name = 'y'");
    const [page] = pagesFor(c, a, 100) as [Uint8Array];
    const forged = altered(page, () => ({ runDevices: ['B'] }));
    expect(() => c.applier.apply('B', forged)).toThrow(/another device/);
    expect(c.rows('SELECT name FROM files')).toEqual([['x']]);
  });

  it('are not taken from nobody', () => {
    const [a, b] = three();
    a.write("INSERT INTO files (name) VALUES ('x')");
    const [page] = pagesFor(b, a, 100) as [Uint8Array];
    b.applier.apply(
      'A',
      altered(page, ({ runDevices }) => ({ runDevices: runDevices.map(() => '') })),
    );
    expect(b.rows('SELECT name FROM files')).toEqual([]);
  });

  it("lose nothing elsewhere by a REPLACE, which no guard sees, and are set right by their owner's next change", async () => {
    const [a, b, c] = three();
    a.write("INSERT INTO files (id, name) VALUES (1, 'x'), (2, 'y'); INSERT INTO codes VALUES ('k', 'of a')");
    converge([a, b, c]);
    b.write("REPLACE INTO files (id, name) VALUES (1, 'replaced'); REPLACE INTO codes VALUES ('k', 'replaced')");
    converge([a, b, c]);
    for (const replica of [a, c]) {
      expect(replica.rows('SELECT name FROM files ORDER BY name')).toEqual([['x'], ['y']]);
      expect(replica.rows('SELECT what FROM codes')).toEqual([['of a']]);
    }
    a.write("UPDATE files SET name = name || '!'; UPDATE codes SET what = 'still of a'");
    converge([a, b, c]);
    expect(b.rows('SELECT name FROM files ORDER BY name')).toEqual([['x!'], ['y!']]);
    expect(b.rows('SELECT what FROM codes')).toEqual([['still of a']]);
    await expectEqual(a, b, c);
  });

  it('belong to the later birth when two devices derive the same row', async () => {
    const [a, b, c] = three();
    a.write("INSERT INTO codes VALUES ('k', 'a')");
    a.stamp();
    b.write("INSERT INTO codes VALUES ('k', 'b')");
    b.stamp();
    converge([a, b, c]);
    for (const replica of [a, b, c]) expect(replica.rows('SELECT what FROM codes')).toEqual([['b']]);
    expect(() => a.write("UPDATE codes SET what = 'again'")).toThrow('belongs to another device');
    await expectEqual(a, b, c);
  });
});

describe('[C6] versions of an owned row', () => {
  it('are taken whole: what an old one of its owner brings late changes no column', async () => {
    const [a, b] = three();
    a.write("INSERT INTO files (name) VALUES ('x')");
    converge([a, b]);
    a.write("UPDATE files SET name = 'y'");
    const [old] = pagesFor(b, a, 1000);
    a.write("INSERT INTO notes VALUES (1, 'n'); UPDATE files SET note_id = 1");
    b.pull(a);
    b.apply(a.device, inTheMiddle(old as Uint8Array));
    expect(b.rows('SELECT name, note_id FROM files')).toEqual([['y', 1]]);
    await expectEqual(a, b);
  });
});

describe('[D7] shared rows that owned rows refer to', () => {
  it('cannot be deleted here while a row of another device would have to be written for it', () => {
    const [a, b] = three();
    a.write("INSERT INTO notes VALUES (1, 'n'); INSERT INTO files (name, note_id) VALUES ('x', 1)");
    b.pull(a);
    expect(() => b.write('DELETE FROM notes')).toThrow('belongs to another device');
    expect(b.rows('SELECT body FROM notes')).toEqual([['n']]);
  });

  for (const [column, left] of [
    ['note_id', [['x', null]]],
    ['topic_id', []],
  ] as const) {
    it(`are settled by the owner alone, and the delete waits elsewhere until then (${column})`, async () => {
      const [a, b, c] = three();
      b.write("INSERT INTO notes VALUES (1, 'n')");
      converge([a, b, c]);
      b.write('DELETE FROM notes');
      b.stamp();
      a.write(`INSERT INTO files (name, ${column}) VALUES ('x', 1)`);
      c.pull(a);
      c.pull(b);
      expect(c.waiting()).toEqual(['referrers']);
      b.pull(a);
      expect(b.waiting()).toEqual(['dead-target']);
      expect(c.rows(`SELECT name, ${column} FROM files`)).toEqual([['x', 1]]);
      converge([a, b, c]);
      for (const replica of [a, b, c]) {
        expect(replica.rows(`SELECT name, ${column} FROM files`)).toEqual(left);
        expect(replica.rows('SELECT * FROM notes')).toEqual([]);
        expect(replica.waiting()).toEqual([]);
      }
      await expectEqual(a, b, c);
    });
  }
});
