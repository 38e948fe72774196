/** A device that has nothing yet takes a snapshot in place of its first pass, and is then what the feed would have made of it. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import type { Database } from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { CHUNK_BYTES } from '../../src/protocol/messages.ts';
import { Chance } from '../support/chance.ts';
import { expectEqual, fleetOf } from '../support/engine.ts';
import { Replica, converge } from '../support/replica.ts';
import type { ReplicaOptions } from '../support/replica.ts';
import { SnapshotFolder, bring, offerFrom } from '../support/snapshots.ts';
import { WildFleet } from '../support/wild-fleet.ts';
import { WILD_SCHEMAS } from './schemas/all.ts';

const DDL = `
CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, color TEXT);
CREATE TABLE entries (
  id INTEGER PRIMARY KEY AUTOINCREMENT, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE, name TEXT, size
);
CREATE TABLE taggings (
  entry_id INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
  tag_id INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE, note TEXT, PRIMARY KEY (entry_id, tag_id)
);
CREATE TABLE notes (id INTEGER PRIMARY KEY, text);
CREATE TABLE seen (id INTEGER PRIMARY KEY, entry TEXT);
CREATE TRIGGER sees AFTER INSERT ON entries BEGIN INSERT INTO seen (entry) VALUES (NEW.name); END;`;
const config = {
  tables: {
    tags: { identity: 'name' },
    notes: { ownership: 'device' },
    seen: { sync: false },
    taggings: { localColumns: ['note'] },
  },
};

let folder: SnapshotFolder;
beforeEach(() => {
  folder = new SnapshotFolder();
});
afterEach(() => folder.remove());

function newcomer(options: Partial<ReplicaOptions> = {}): Replica {
  return new Replica({ device: 'N', ddl: DDL, config, newcomer: true, ...options });
}

/** A library that has seen something: rows of two devices, changes, deletes, a row that was given away. */
function livedIn(): [Replica, Replica] {
  const [a, b] = fleetOf(2, DDL, { config }) as [Replica, Replica];
  a.write(`
    INSERT INTO entries (id, name, size) VALUES (7, 'root', 5), (9, 'home', 5.0), (12, 'x', x'00ff');
    UPDATE entries SET parent_id = 7 WHERE id = 9;
    INSERT INTO tags (name, color) VALUES ('red', 'f00'), ('blue', '00f');
    INSERT INTO taggings SELECT e.id, t.id, 'only here' FROM entries e, tags t;
    INSERT INTO notes (text) VALUES ('of a'), (9007199254740993)`);
  b.write("INSERT INTO notes (text) VALUES ('of b'), ('given'); INSERT INTO entries (name) VALUES ('from b')");
  converge([a, b]);
  b.write("UPDATE entries SET name = 'renamed', size = 6 WHERE name = 'home'; DELETE FROM tags WHERE name = 'blue'");
  a.write("UPDATE notes SET text = 'changed' WHERE text = 'of a'; DELETE FROM entries WHERE name = 'x'");
  const [[given] = []] = a.rows("SELECT id FROM notes WHERE text = 'given'");
  a.own('notes', Number(given));
  a.write("UPDATE notes SET text = 'taken' WHERE text = 'given'");
  converge([a, b]);
  return [a, b];
}

/** What a program sees of a copy, and what it sends to others. */
async function expectLike(from: Replica, to: Replica): Promise<void> {
  await expectEqual(from, to);
  expect(to.library.knowledge()).toEqual(from.library.knowledge());
  expect(to.pull(from).map(({ changed }) => changed)).toEqual([0]);
}

/** Takes the feed after all, and is whole. */
async function expectFeed(from: Replica, to: Replica): Promise<void> {
  to.pull(from);
  await expectEqual(from, to);
}

describe('[A13] a snapshot', () => {
  it('makes a copy of a device that has nothing, under the ids of the sender, with cursor and knowledge', async () => {
    const [a, b] = livedIn();
    const n = newcomer();
    expect(await bring(folder, a, n)).toMatchObject({ rows: 10 });
    for (const table of ['entries', 'tags', 'notes'])
      expect(n.rows(`SELECT * FROM ${table}`)).toEqual(a.rows(`SELECT * FROM ${table}`));
    expect(n.rows('SELECT typeof(size) FROM entries')).toEqual(a.rows('SELECT typeof(size) FROM entries'));
    expect(n.rows('SELECT note FROM taggings')).toEqual([[null], [null]]);
    expect(n.rows('SELECT count(*) FROM seen')).toEqual([[3]]);
    await expectLike(a, n);
    converge([a, b, n]);
    await expectEqual(a, b, n);
  });

  it('is gone on from like any first pass: writes, deletes and moves of all three reach all', async () => {
    const [a, b] = livedIn();
    const n = newcomer();
    await bring(folder, a, n);
    n.write("INSERT INTO entries (name, parent_id) SELECT 'new', id FROM entries WHERE name = 'root'");
    n.write("UPDATE entries SET size = 7 WHERE name = 'renamed'; DELETE FROM entries WHERE name = 'from b'");
    b.write(
      "UPDATE notes SET text = 'b again' WHERE text = 'of b'; UPDATE entries SET name = 'b' WHERE name = 'renamed'",
    );
    converge([a, b, n]);
    expect(a.rows("SELECT name, size FROM entries WHERE name IN ('b', 'new', 'from b')")).toEqual([
      ['b', 7],
      ['new', null],
    ]);
    await expectEqual(a, b, n);
  });

  it('gives others what it brought, also those that have read the feed of the newcomer before', async () => {
    const [a] = livedIn();
    const n = newcomer();
    const c = newcomer({ device: 'C', newcomer: false });
    c.pull(n);
    await bring(folder, a, n);
    c.pull(n);
    await expectEqual(a, n, c);
  });

  it('leaves what is written at the sender while it is on its way to the feed', async () => {
    const [a] = livedIn();
    const n = newcomer();
    const meanwhile = (): void => a.write("INSERT INTO entries (name) VALUES ('late'); DELETE FROM tags");
    expect(await bring(folder, a, n, { meanwhile })).not.toBeNull();
    expect(n.rows("SELECT 1 FROM entries WHERE name = 'late'")).toEqual([]);
    await expectFeed(a, n);
    expect(n.rows("SELECT name FROM entries WHERE name = 'late'")).toEqual([['late']]);
  });

  it.each(WILD_SCHEMAS)('of $name, with a history, is what the feed would have brought', async (schema) => {
    const fleet = new WildFleet(schema, { seed: 1, bold: true, rounds: 1 });
    await fleet.play();
    const [a] = fleet.copies as [Replica];
    const make = (device: string): Replica =>
      new Replica({
        device,
        ddl: schema.ddl,
        newcomer: true,
        ...(schema.config === undefined ? {} : { config: schema.config }),
      });
    const [n, byFeed] = [make('N'), make('F')];
    const taken = await bring(folder, a, n);
    expect(taken).not.toBeNull();
    byFeed.pull(a);
    n.pull(a);
    await expectEqual(byFeed, n);
    expect(n.waiting().toSorted()).toEqual(byFeed.waiting().toSorted());
    const fleetAndMore = [...fleet.copies, byFeed, n];
    converge(fleetAndMore);
    await expectEqual(...fleetAndMore);
  });
});

describe('[A14] a snapshot that breaks off', () => {
  /** A library whose snapshot has several chunks. */
  function large(): Replica {
    const a = new Replica({ device: 'A', ddl: DDL, config });
    a.write(
      `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
       INSERT INTO entries (name, size) SELECT 'entry ' || i, randomblob(200) FROM n`,
    );
    a.stamp();
    return a;
  }

  it('goes on after its last whole chunk, over a restart', async () => {
    const a = large();
    const n = newcomer();
    const out = folder.out(a);
    const before = folder.in(n);
    const wanted = before.want(n.library, 'A');
    const offer = (await offerFrom(out, a, wanted?.layout ?? ''))!;
    expect(offer.bytes).toBeGreaterThan(3 * CHUNK_BYTES);
    const part = async (at: number): Promise<Uint8Array> => new Uint8Array(await out.part(offer.id, at));
    expect(before.begin(n.library, 'A', offer)).toBe(0);
    for (const at of [0, CHUNK_BYTES]) before.add(n.library, 'A', await part(at));
    before.leave();
    n.restart();
    const after = folder.in(n);
    after.want(n.library, 'A');
    const from = after.begin(n.library, 'A', offer);
    expect(from).toBe(2 * CHUNK_BYTES);
    for (let at = from; at < offer.bytes; at += CHUNK_BYTES) after.add(n.library, 'A', await part(at));
    expect(after.take(n.served, (data) => n.apply('A', data), 'A')).toMatchObject({ rows: 4000 });
    await expectLike(a, n);
    out.close();
  });

  it('goes on there as well after another one was begun, in whose place a third one may come', async () => {
    const n = newcomer();
    const bootstrap = folder.in(n);
    const offer = { id: 'aa', bytes: 3 * CHUNK_BYTES, hash: 'bb', rows: 1 };
    const gather = (peer: string, id: string, chunks: number): number => {
      bootstrap.want(n.library, peer);
      const from = bootstrap.begin(n.library, peer, { ...offer, id });
      for (let i = 0; i < chunks; i += 1) bootstrap.add(n.library, peer, new Uint8Array(CHUNK_BYTES));
      return from / CHUNK_BYTES;
    };
    expect(gather('A', 'aa', 2)).toBe(0);
    expect(gather('B', 'cc', 1)).toBe(0);
    expect(gather('A', 'aa', 0)).toBe(2);
    expect(gather('C', 'dd', 1)).toBe(0);
    expect(gather('A', 'aa', 0)).toBe(2);
    expect(gather('C', 'dd', 0)).toBe(1);
    expect(gather('B', 'cc', 0)).toBe(0);
    n.write("INSERT INTO entries (name) VALUES ('mine')");
    folder.in(n);
    expect(readdirSync(folder.path)).toEqual([]);
  });

  it('begins anew with another one', async () => {
    const a = large();
    const n = newcomer();
    const bootstrap = folder.in(n);
    bootstrap.want(n.library, 'A');
    const offer = { id: 'aa', bytes: 2 * CHUNK_BYTES, hash: 'bb', rows: 1 };
    bootstrap.begin(n.library, 'A', offer);
    bootstrap.add(n.library, 'A', new Uint8Array(CHUNK_BYTES));
    expect(bootstrap.begin(n.library, 'A', offer)).toBe(CHUNK_BYTES);
    expect(bootstrap.begin(n.library, 'A', { ...offer, id: 'cc' })).toBe(0);
    bootstrap.want(n.library, 'B');
    expect(() => bootstrap.begin(n.library, 'A', offer)).toThrow(/another one/);
    await expectFeed(a, n);
  });

  it('leaves nothing behind in the end, nor where the file is not wanted any more', async () => {
    const a = large();
    const n = newcomer();
    await bring(folder, a, n);
    expect(readdirSync(folder.path).filter((name) => name.endsWith('-in'))).toEqual([]);
    const late = newcomer({ device: 'L' });
    const bootstrap = folder.in(late);
    bootstrap.want(late.library, 'A');
    bootstrap.begin(late.library, 'A', { id: 'aa', bytes: CHUNK_BYTES, hash: 'bb', rows: 1 });
    bootstrap.leave();
    late.pull(a);
    folder.in(late);
    expect(existsSync(join(folder.path, 'L-flotilla-snapshot-in'))).toBe(false);
  });
});

describe('[A15] the feed is taken instead', () => {
  it('by a device that has rows, or that is to find its rows among those that come', async () => {
    const [a] = livedIn();
    const n = newcomer();
    n.write("INSERT INTO entries (name) VALUES ('mine')");
    expect(await bring(folder, a, n)).toBe('none');
    n.pull(a);
    a.pull(n);
    await expectEqual(a, n);
  });

  it('where something was written at the newcomer while the snapshot was on its way', async () => {
    const [a] = livedIn();
    const n = newcomer();
    const meanwhile = (): void => n.write("INSERT INTO entries (name) VALUES ('mine')");
    expect(await bring(folder, a, n, { meanwhile })).toBeNull();
    n.pull(a);
    a.pull(n);
    expect(a.rows("SELECT 1 FROM entries WHERE name = 'mine'")).toEqual([[1]]);
    await expectEqual(a, n);
  });

  it('from a device whose tables are numbered otherwise, or have columns that came later', async () => {
    const [a] = livedIn();
    a.write('ALTER TABLE tags ADD COLUMN shape TEXT');
    a.stamp();
    const n = newcomer({ ddl: DDL.replace('color TEXT', 'color TEXT, shape TEXT') });
    expect(await bring(folder, a, n)).toBe('none');
    await expectFeed(a, n);
  });

  it('where a trigger or a constraint of the newcomer does not let a row in', async () => {
    const [a] = livedIn();
    const n = newcomer({
      ddl: `${DDL} CREATE TRIGGER no BEFORE INSERT ON entries WHEN NEW.name = 'root' BEGIN SELECT RAISE(IGNORE); END;`,
    });
    expect(await bring(folder, a, n)).toBeNull();
    n.pull(a);
    expect(n.waiting()).not.toEqual([]);
    n.write('DROP TRIGGER no');
    n.look();
    n.pull(a);
    await expectEqual(a, n);
  });

  it('where a chunk was damaged on its way', async () => {
    const [a] = livedIn();
    const n = newcomer();
    const onTheWay = (chunk: Buffer): Buffer => {
      const other = Buffer.from(chunk);
      other[5000] = (other[5000] ?? 0) ^ 1;
      return other;
    };
    expect(await bring(folder, a, n, { onTheWay })).toBeNull();
    expect(n.rows('SELECT count(*) FROM entries')).toEqual([[0]]);
    // Nor is one asked for again.
    expect(await bring(folder, a, n)).toBe('none');
    await expectFeed(a, n);
  });
});

const CHANGES: Readonly<Record<string, (rows: (table: string) => string) => string>> = {
  'another table': () => 'CREATE TABLE more (x)',
  'a view': () => 'CREATE VIEW more AS SELECT 1',
  'a trigger': (rows) => `CREATE TRIGGER more AFTER INSERT ON ${rows('entries')} BEGIN SELECT 1; END`,
  'an index': () => 'CREATE INDEX more ON runs (id)',
  'a table of another form': (rows) => `ALTER TABLE ${rows('entries')} ADD COLUMN more`,
  'another library': () => "UPDATE about SET value = 'ff' WHERE name = 'library'",
  'a later format': () => "UPDATE about SET value = 2 WHERE name = 'format'",
  'a head that is no number': () => "UPDATE about SET value = 'x' WHERE name = 'head'",
  'no end': () => 'DELETE FROM batches WHERE n = (SELECT max(n) FROM batches)',
  'no batches': () => 'DELETE FROM batches',
  'a batch of nonsense': () => "UPDATE batches SET data = x'0102'",
  'a batch that is none': () => 'UPDATE batches SET data = 5',
  'a short UUID': (rows) => `UPDATE ${rows('entries')} SET uuid = x'00' WHERE key = 7`,
  'one UUID twice': (rows) =>
    `UPDATE ${rows('entries')} SET uuid = (SELECT uuid FROM ${rows('entries')} WHERE key = 7)`,
  'one UUID in two tables': (rows) =>
    `UPDATE ${rows('entries')} SET uuid = (SELECT uuid FROM ${rows('tags')} LIMIT 1) WHERE key = 7`,
  'a stamp that is text': (rows) => `UPDATE ${rows('entries')} SET hlc = 'x'`,
  'a change before the birth': (rows) => `UPDATE ${rows('entries')} SET hlc = birth_hlc - 1`,
  'a stamp of the far future': (rows) => `UPDATE ${rows('entries')} SET hlc = hlc + 1000000000000000`,
  'a stamp of no run': (rows) => `UPDATE ${rows('entries')} SET run = 999`,
  'an lsn beyond the head': (rows) => `UPDATE ${rows('entries')} SET lsn = 1000000`,
  'a run with a short id': () => "UPDATE runs SET id = x'00' WHERE run = 1",
  'a run of a device that is none': () => 'UPDATE runs SET device = 5',
  'cells that are no JSON': (rows) => `UPDATE ${rows('entries')} SET cells = '[[' WHERE key = 7`,
  'cells of a column that is none': (rows) => `UPDATE ${rows('entries')} SET cells = '[[99, 1, 1]]' WHERE key = 7`,
  'cells that are a register': (rows) => `UPDATE ${rows('entries')} SET cells = '[[2, [1, 1, "i5"]]]' WHERE key = 7`,
  'a tenure of a shared row': (rows) => `UPDATE ${rows('entries')} SET cells = '[[-1, 1, 1]]' WHERE key = 7`,
  'a cell later than its row': (rows) =>
    `UPDATE ${rows('entries')} SET cells = json_array(json_array(2, hlc + 1, 1)) WHERE key = 7`,
  'a reference to nothing': (rows) => `UPDATE ${rows('entries')} SET c1 = 4711 WHERE key = 7`,
  'a ring in a tree': (rows) => `UPDATE ${rows('entries')} SET c1 = 9 WHERE key = 7`,
  'a NULL that the table does not take': (rows) => `UPDATE ${rows('tags')} SET c1 = NULL`,
  'an owned row that another device wrote': (
    rows,
  ) => `UPDATE ${rows('notes')} SET run = (SELECT run FROM runs WHERE device = 'B' AND run <> birth_run LIMIT 1)
       WHERE cells IS NULL AND birth_run IN (SELECT run FROM runs WHERE device = 'A')`,
  'an owned row without its transfer': () => 'DELETE FROM batches WHERE n = 1',
};

describe('[H12] a snapshot in which something is false', () => {
  it.each(Object.entries(CHANGES))('such as %s is not taken, and changes nothing', async (_, change) => {
    const [a] = livedIn();
    const n = newcomer();
    const forge = (db: Database): void => {
      const before = db.serialize();
      db.exec(change((table) => `rows_${a.library.model(table).n}`));
      expect(db.serialize().equals(before)).toBe(false);
    };
    expect(await bring(folder, a, n, { forge })).toBeNull();
    expect(n.violations()).toEqual([]);
    expect(n.db.pragma('foreign_keys', { simple: true })).toBe(1);
    expect(n.rows('SELECT suspended FROM flotilla_capture')).toEqual([[0]]);
    await expectFeed(a, n);
  });

  it('or that is damaged anywhere, leaves a library that is sound', async () => {
    const [a] = livedIn();
    const chance = new Chance(1);
    for (let times = 0; times < 40; times += 1) {
      const [n, own] = [newcomer(), new SnapshotFolder()];
      await bring(own, a, n, { spoil: (bytes) => (bytes[chance.below(bytes.length)] = chance.below(256)) });
      expect(n.violations()).toEqual([]);
      expect(n.db.pragma('integrity_check', { simple: true })).toBe('ok');
      own.remove();
    }
  });
});
