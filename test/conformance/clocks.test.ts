/** Clocks that are wrong, and are set right. Rule ids are those of docs/spec.md, group T. */
import { describe, expect, it } from 'vitest';

import { formatAside, parseAside } from '../../src/db/aside.ts';
import type { FaultPoint } from '../../src/db/fault-points.ts';
import { floorOf } from '../../src/db/floor.ts';
import { decodeBatch } from '../../src/protocol/batch.ts';
import { HLC_PER_MS, MAX_DRIFT_MS } from '../../src/protocol/hlc.ts';
import { altered, expectEqual, inTheMiddle, pagesFor, pairOf } from '../support/engine.ts';
import { FOUNDED_ID, Replica, converge } from '../support/replica.ts';

const START = Date.UTC(2026, 5, 1);
const YEAR_MS = 365 * 86_400_000;

/** A device's clock: it runs, and may be wrong. */
class Clock {
  #now = START;
  /** ms */
  wrongBy = 0;

  readonly now = (): number => (this.#now += 1) + this.wrongBy;

  /** By a clock that is right. */
  get right(): number {
    return this.#now;
  }

  pass(ms: number): void {
    this.#now += ms;
  }
}

const DDL = `
  CREATE TABLE folders (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
  CREATE TABLE files (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, name TEXT, plays INTEGER NOT NULL DEFAULT 0);
  CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT);
  CREATE TABLE volumes (id INTEGER PRIMARY KEY, label TEXT);
  CREATE TABLE entries (id INTEGER PRIMARY KEY, volume_id INTEGER NOT NULL REFERENCES volumes (id), path TEXT)`;
const CONFIG = {
  tables: {
    files: { columns: { plays: { merge: 'counter' } } },
    volumes: { ownership: 'device' },
    entries: { ownedBy: 'volume_id' },
  },
};

interface Pair {
  readonly a: Replica;
  readonly b: Replica;
  /** That of A. */
  readonly clock: Clock;
  readonly bClock: Clock;
  /** For both. */
  readonly pass: (ms: number) => void;
}

/** A, whose clock will be wrong, and B, whose is right: both have the same. */
function pair(config: object = CONFIG, ddl = DDL, fill: (a: Replica) => void = fillIn): Pair {
  const clock = new Clock();
  const bClock = new Clock();
  const options = { config, libraryId: FOUNDED_ID };
  const a = new Replica({ ...options, device: 'A', ddl, now: clock.now });
  const b = new Replica({ ...options, device: 'B', ddl, now: bClock.now });
  a.found();
  a.admit(b);
  fill(a);
  converge([a, b]);
  const pass = (ms: number): void => {
    clock.pass(ms);
    bClock.pass(ms);
  };
  return { a, b, clock, bClock, pass };
}

/** Two whose clock is one and the same, and a year ahead by now. */
function pairAhead(): Pick<Pair, 'a' | 'b' | 'clock'> {
  const clock = new Clock();
  const [a, b] = pairOf(DDL, { now: clock.now, libraryId: FOUNDED_ID });
  a.found();
  a.admit(b);
  converge([a, b]);
  clock.wrongBy = YEAR_MS;
  return { a, b, clock };
}

/** What both have. */
function fillIn(a: Replica): void {
  a.write(`
    INSERT INTO folders (name) VALUES ('old'), ('gone');
    INSERT INTO files (folder_id, name, plays) VALUES (1, 'one', 1), (1, 'two', 0), (2, 'three', 0);
    INSERT INTO tags VALUES ('red', 'r'), ('green', 'g');
    INSERT INTO volumes (label) VALUES ('disk');
    INSERT INTO entries (volume_id, path) VALUES (1, '/a')`);
}

/** All sorts of writes. */
function write(a: Replica): void {
  a.write(`
    INSERT INTO folders (name) VALUES ('new');
    INSERT INTO files (folder_id, name) SELECT id, 'four' FROM folders WHERE name = 'new'`);
  a.stamp();
  a.write(`
    UPDATE files SET name = 'uno', plays = plays + 5 WHERE name = 'one';
    UPDATE files SET folder_id = (SELECT id FROM folders WHERE name = 'new') WHERE name = 'two'`);
  a.stamp();
  // In a later run of the node too: each run counts for itself.
  a.restart();
  a.write(`
    UPDATE files SET plays = plays + 2 WHERE name = 'uno';
    DELETE FROM folders WHERE name = 'gone';
    DELETE FROM files WHERE name = 'four';
    UPDATE tags SET name = 'crimson' WHERE name = 'red';
    INSERT INTO volumes (label) VALUES ('stick');
    UPDATE entries SET path = '/b';
    INSERT INTO entries (volume_id, path) VALUES (2, '/c')`);
  a.own('volumes', 1);
  a.stamp();
}

/** Every time of a stamp that lies behind a limit, wherever it stands in the metadata. */
function laterThan(replica: Replica, limit: number): string[] {
  const found: string[] = [];
  const see = (where: string, value: unknown): void => {
    if (typeof value === 'number' && value > limit) found.push(`${where}: ${value}`);
    else if (typeof value === 'string') for (const [digits] of value.matchAll(/\d{16,}/g)) see(where, Number(digits));
    else if (Array.isArray(value)) for (const one of value) see(where, one);
    else if (value instanceof Map) for (const one of value.values()) see(where, one);
    else if (typeof value === 'object' && value !== null && !(value instanceof Uint8Array))
      for (const one of Object.values(value)) see(where, one);
  };
  const tables = replica.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'flotilla_*'");
  for (const [table] of tables) {
    const columns = replica
      .rows(`SELECT name FROM pragma_table_info('${String(table)}')`)
      .map(([name]) => String(name));
    for (const row of replica.rows(`SELECT ${columns.join(', ')} FROM ${String(table)}`)) {
      row.forEach((value, i) => {
        const where = `${String(table)}.${columns[i]}`;
        if (columns[i] === 'version' && value !== null) see(where, decodeBatch(value as Uint8Array));
        else if (columns[i] === 'aside') see(where, parseAside(value as Uint8Array | null));
        else see(where, value);
      });
    }
  }
  return found;
}

/** All that people see of a copy. */
function content(replica: Replica): unknown[] {
  return [
    replica.rows(
      'SELECT f.name, f.plays, d.name FROM files f LEFT JOIN folders d ON d.id = f.folder_id ORDER BY f.name',
    ),
    replica.rows('SELECT name FROM folders ORDER BY name'),
    replica.rows('SELECT name, colour FROM tags ORDER BY name'),
    replica.rows(
      'SELECT v.label, e.path FROM volumes v LEFT JOIN entries e ON e.volume_id = v.id ORDER BY label, path',
    ),
  ];
}

const limitOf = (clock: Clock): number => (clock.right + MAX_DRIFT_MS) * HLC_PER_MS;
const lastStamp = (replica: Replica): number => Number(replica.rows('SELECT hlc FROM flotilla_clock')[0]?.[0]);

describe('a clock that is set back', () => {
  it('[T1] makes no stamp earlier than the last one, nor does a restart', () => {
    const { a, clock } = pair();
    clock.wrongBy = YEAR_MS;
    a.write("INSERT INTO folders (name) VALUES ('x')");
    a.stamp();
    let last = lastStamp(a);
    expect(last).toBeGreaterThan((clock.right + YEAR_MS) * HLC_PER_MS - 1_000_000);
    for (const wrongBy of [0, -YEAR_MS, 60_000, -3_600_000]) {
      clock.wrongBy = wrongBy;
      a.restart();
      a.write("UPDATE folders SET name = name || '.'");
      a.stamp();
      expect(lastStamp(a)).toBeGreaterThan(last);
      last = lastStamp(a);
    }
  });
});

describe('a clock that was behind', () => {
  it('[T2] stamps what everybody takes, once it is right or before: later than what its device had seen', async () => {
    const { a, b, clock } = pair();
    b.write("UPDATE folders SET name = 'of b' WHERE name = 'old'");
    b.stamp();
    clock.wrongBy = -YEAR_MS;
    a.pull(b);
    write(a);
    a.write("UPDATE folders SET name = 'of a' WHERE name = 'of b'");
    a.stamp();
    const before = content(a);
    clock.wrongBy = 0;
    expect(a.served.stampAnew()).toBeNull();
    converge([a, b]);
    expect(content(b)).toEqual(before);
    await expectEqual(a, b);
  });
});

describe('a clock that was behind, against what others wrote meanwhile', () => {
  it('[T2] loses, also where it was written later, and that is recorded; nothing else is lost', async () => {
    const { a, b, clock, pass } = pair();
    pass(3_600_000);
    b.write("UPDATE folders SET name = 'of b' WHERE name = 'old'");
    b.stamp();
    clock.wrongBy = -YEAR_MS;
    a.write("UPDATE folders SET name = 'of a' WHERE name = 'old'; INSERT INTO folders (name) VALUES ('made by a')");
    a.stamp();
    clock.wrongBy = 0;
    converge([a, b]);
    await expectEqual(a, b);
    expect(b.rows('SELECT name FROM folders ORDER BY name')).toEqual([['gone'], ['made by a'], ['of b']]);
    expect(a.rows("SELECT lost, kept FROM flotilla_conflicts WHERE col = 'name'")).toEqual([['of a', 'of b']]);
  });
});

describe('what a clock that was ahead has stamped', () => {
  it('[T2] is refused in words, and loses nothing', () => {
    const { a, b, clock } = pair();
    clock.wrongBy = YEAR_MS;
    write(a);
    const before = content(b);
    expect(() => b.pull(a)).toThrow(/365 d ahead of this device's clock/);
    expect(content(b)).toEqual(before);
    // Also when the clock is right again: the stamps are what they were.
    clock.wrongBy = 0;
    expect(() => b.pull(a)).toThrow(/365 d ahead/);
  });

  it('[T3] is stamped again once the clock is right, goes out, and is what was written', async () => {
    const { a, b, clock, pass } = pair();
    clock.wrongBy = YEAR_MS;
    write(a);
    const before = content(a);
    clock.wrongBy = 0;
    expect(laterThan(a, limitOf(clock)).length).toBeGreaterThan(20);
    expect(a.served.stampAnew()?.aheadMs).toBeGreaterThan(YEAR_MS - 1_000);
    expect(laterThan(a, limitOf(clock))).toEqual([]);
    expect(content(a)).toEqual(before);
    converge([a, b]);
    expect(content(a)).toEqual(before);
    expect(content(b)).toEqual(before);
    await expectEqual(a, b);
    // Once is enough, and the next write is stamped by the clock.
    expect(a.served.stampAnew()).toBeNull();
    pass(3_600_000);
    a.write("INSERT INTO folders (name) VALUES ('afterwards')");
    a.stamp();
    expect(Math.abs(lastStamp(a) / HLC_PER_MS - clock.right)).toBeLessThan(1_000);
  });

  it('[T3] [K1] a slice after the other: whoever dies between two goes on when it is opened again, and gives nothing before', async () => {
    const clock = new Clock();
    let committed = 0;
    let dies = 0;
    const reached = (point: FaultPoint): void => {
      if (point !== 'anew: committed') return;
      committed += 1;
      if (committed === dies) throw new Error('killed');
    };
    const [a, b] = pairOf(DDL, { now: clock.now, libraryId: FOUNDED_ID, config: CONFIG, reached });
    a.found();
    a.admit(b);
    fillIn(a);
    converge([a, b]);
    clock.wrongBy = YEAR_MS;
    write(a);
    a.write(
      "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2100) INSERT INTO folders (name) SELECT 'many ' || i FROM n",
    );
    a.stamp();
    clock.wrongBy = 0;
    const before = content(a);
    const backup = a.backup();
    a.restored(backup).served.stampAnew();
    const slices = committed;
    expect(slices).toBeGreaterThan(10);
    for (let nth = 1; nth < slices; nth += 1) {
      const copy = a.restored(backup);
      [committed, dies] = [0, nth];
      expect(() => copy.served.stampAnew()).toThrow('killed');
      const { feed } = copy.feeds.open(null, { runs: new Uint8Array(0), hlc: [] }, 'ordinary', '');
      expect(copy.feeds.page(feed, { rows: 1, bytes: 1000 })).toMatchObject({ unstamped: true });
      dies = 0;
      // Opened again, or asked for anything where another program had only kept it locked.
      if (nth % 2 === 0) copy.restart();
      else copy.served.run(() => undefined);
      expect(committed).toBe(slices);
      expect(laterThan(copy, limitOf(clock))).toEqual([]);
      expect(content(copy)).toEqual(before);
      if (nth % 5 !== 1) continue;
      const other = b.restored(b.backup());
      converge([copy, other]);
      expect(content(other)).toEqual(before);
      await expectEqual(copy, other);
    }
  });

  it('[T3] comes together with what others have written meanwhile, as if it was written when the clock was set right', async () => {
    const { a, b, clock, pass } = pair();
    b.write(
      "UPDATE files SET name = 'eins', plays = plays + 100 WHERE name = 'one'; UPDATE tags SET colour = 'b' WHERE name = 'green'",
    );
    b.stamp();
    clock.wrongBy = YEAR_MS;
    write(a);
    clock.wrongBy = 0;
    // What A has not seen must not be taken for older because of it.
    expect(() => a.pull(b)).not.toThrow();
    pass(3_600_000);
    a.served.stampAnew();
    converge([a, b]);
    await expectEqual(a, b);
    const files = "SELECT name, plays FROM files WHERE name IN ('uno', 'eins')";
    // 1 that both had, 5 and 2 by A in two runs, 100 by B.
    expect(a.rows(files)).toEqual([['uno', 108]]);
    expect(b.rows(files)).toEqual([['uno', 108]]);
    expect(b.rows("SELECT colour FROM tags WHERE name = 'green'")).toEqual([['b']]);
  });

  it('[T3] takes along what waits, what stands aside, and records of what was discarded', async () => {
    const { a, b, clock } = pair();
    // A column that only B has, and a version whose reference has not come.
    b.write('ALTER TABLE folders ADD COLUMN mood TEXT');
    b.look();
    b.write("UPDATE folders SET mood = 'blue' WHERE name = 'old'");
    converge([a, b]);
    clock.wrongBy = YEAR_MS;
    a.write("ALTER TABLE tags ADD COLUMN size INTEGER; UPDATE tags SET size = 3 WHERE name = 'red'");
    a.look();
    a.write("INSERT INTO folders (name) VALUES ('later')");
    a.stamp();
    a.write("UPDATE folders SET name = 'older' WHERE name = 'old'");
    a.stamp();
    const before = content(a);
    clock.wrongBy = 0;
    expect(a.served.stampAnew()).not.toBeNull();
    expect(laterThan(a, limitOf(clock))).toEqual([]);
    b.write('ALTER TABLE tags ADD COLUMN size INTEGER');
    b.look();
    converge([a, b]);
    await expectEqual(a, b);
    expect(content(b)).toEqual(before);
    expect(b.rows('SELECT name, mood FROM folders ORDER BY name')).toEqual([
      ['gone', null],
      ['later', null],
      ['older', 'blue'],
    ]);
    expect(b.rows('SELECT name, size FROM tags ORDER BY name')).toEqual([
      ['green', null],
      ['red', 3],
    ]);
  });

  it('[T3] keeps what was pruned below the floor, so that nothing comes back from who was away', async () => {
    const { a, b, clock } = pair();
    clock.wrongBy = YEAR_MS;
    a.write("DELETE FROM folders WHERE name = 'gone'");
    a.stamp();
    // B has been away for longer than the retention, by the clock that is wrong.
    expect(a.prune().tombstones).toBeGreaterThan(0);
    clock.wrongBy = 0;
    a.served.stampAnew();
    expect([...floorOf(a.library.sql).values()].every((hlc) => hlc <= limitOf(clock))).toBe(true);
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT name FROM folders')).toEqual([['old']]);
    await expectEqual(a, b);
  });

  it('[T3] is later than what its writer had seen, also if that is ahead of the clock by less than clocks may differ', async () => {
    const { a, b, clock, bClock } = pair();
    bClock.wrongBy = MAX_DRIFT_MS - 60_000;
    b.write(
      "UPDATE tags SET colour = 'of b'; UPDATE folders SET name = 'of b' WHERE name = 'old'; DELETE FROM folders WHERE name = 'gone'",
    );
    b.stamp();
    clock.wrongBy = YEAR_MS;
    // In the middle of a pass: nobody claims anything of it.
    const [page] = pagesFor(a, b, 1000);
    a.apply('B', inTheMiddle(page ?? new Uint8Array()));
    a.write(
      "UPDATE tags SET colour = 'of a'; UPDATE folders SET name = 'of a'; INSERT INTO folders (name) VALUES ('gone')",
    );
    a.stamp();
    clock.wrongBy = 0;
    a.served.stampAnew();
    converge([a, b]);
    await expectEqual(a, b);
    expect(b.rows('SELECT DISTINCT colour FROM tags')).toEqual([['of a']]);
    expect(b.rows('SELECT name FROM folders ORDER BY name')).toEqual([['gone'], ['of a']]);
  });

  it('[T3] is later than what its writer had seen, and has overwritten', async () => {
    const { a, b, clock, bClock } = pair();
    bClock.wrongBy = MAX_DRIFT_MS - 60_000;
    b.write("UPDATE tags SET colour = 'of b' WHERE name = 'red'");
    clock.wrongBy = YEAR_MS;
    const [page] = pagesFor(a, b, 1000);
    a.apply('B', inTheMiddle(page ?? new Uint8Array()));
    a.write("UPDATE tags SET colour = 'of a' WHERE name = 'red'");
    a.stamp();
    clock.wrongBy = 0;
    a.served.stampAnew();
    // Of B's write nothing is left here but that it was seen.
    converge([a, b]);
    await expectEqual(a, b);
    expect(b.rows("SELECT colour FROM tags WHERE name = 'red'")).toEqual([['of a']]);
  });

  it('[T3] takes along deletes that are undone, rows that are hidden, and records of what was discarded', async () => {
    const ddl = `
      CREATE TABLE folders (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
      CREATE TABLE links (id INTEGER PRIMARY KEY, folder_id INTEGER NOT NULL REFERENCES folders (id), what TEXT);
      CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT UNIQUE, colour TEXT)`;
    const { a, b, clock, pass } = pair({ tables: { labels: { unique: { name: 'keep-first' } } } }, ddl, () => {});
    a.write("INSERT INTO folders (name) VALUES ('needed'), ('other')");
    converge([a, b]);
    b.write(
      "INSERT INTO links (folder_id, what) VALUES (1, 'of b'); INSERT INTO labels (name, colour) VALUES ('same', 'of b'); UPDATE folders SET name = 'of b' WHERE id = 2",
    );
    b.stamp();
    clock.wrongBy = YEAR_MS;
    a.write("UPDATE folders SET name = 'changed'; INSERT INTO labels (name, colour) VALUES ('same', 'of a')");
    a.stamp();
    a.write('DELETE FROM folders WHERE id = 1');
    a.stamp();
    // The last values stand in the tombstone. What comes from B makes a record, and hides a row of ours.
    const kept = 'SELECT count(*) FROM flotilla_tombstones WHERE version IS NOT NULL';
    expect(a.rows(kept)).toEqual([[1]]);
    const [page] = pagesFor(a, b, 1000);
    a.apply('B', page ?? new Uint8Array());
    const dates = 'SELECT max(at) FROM flotilla_conflicts';
    expect(Number(a.rows(dates)[0]?.[0])).toBeGreaterThan(clock.right + YEAR_MS - 10_000);
    expect(a.waiting().length).toBeGreaterThan(0);
    clock.wrongBy = 0;
    expect(a.served.stampAnew()).not.toBeNull();
    expect(laterThan(a, limitOf(clock))).toEqual([]);
    expect(Number(a.rows(dates)[0]?.[0])).toBeLessThanOrEqual(clock.right);
    pass(1_000);
    converge([a, b]);
    await expectEqual(a, b);
    expect(b.rows('SELECT name FROM folders ORDER BY name')).toEqual([['changed'], ['changed']]);
    expect(b.rows('SELECT name, colour FROM labels')).toEqual(a.rows('SELECT name, colour FROM labels'));
  });

  it('[T3] takes along where values that are set aside lead to', () => {
    const { a, clock } = pair();
    clock.wrongBy = YEAR_MS;
    a.write("INSERT INTO folders (name) VALUES ('target')");
    a.stamp();
    const map = `flotilla_rows_${a.library.model('folders').n}`;
    const birthOf = (): number => Number(a.rows(`SELECT max(birth_hlc) FROM ${map}`)[0]?.[0]);
    const target = { uuid: new Uint8Array(16), birthHlc: birthOf(), birthRun: a.library.run, table: 'folders' };
    const entry = { kind: 'ref', target } as const;
    a.write(`UPDATE ${map} SET aside = ?`, formatAside(new Map([[9, entry]])));
    clock.wrongBy = 0;
    expect(a.served.stampAnew()).not.toBeNull();
    const [[aside]] = a.rows(`SELECT aside FROM ${map} LIMIT 1`) as [[Uint8Array]];
    expect(parseAside(aside).get(9)).toMatchObject({ target: { birthHlc: birthOf() } });
    expect(birthOf()).toBeLessThan(limitOf(clock));
  });

  it('[T4] is left alone if another device has stamped it', () => {
    const { a, b, clock } = pairAhead();
    a.write("INSERT INTO folders (name) VALUES ('new'); UPDATE tags SET colour = 'c'");
    // The pass is not complete, so that B claims nothing of it; and then it writes on its own.
    const [page] = pagesFor(b, a, 1000);
    b.apply('A', inTheMiddle(page ?? new Uint8Array()));
    b.write("UPDATE folders SET name = name || '!'");
    b.stamp();
    clock.wrongBy = 0;
    const before = lastStamp(b);
    expect(b.served.stampAnew()).toBeNull();
    expect(lastStamp(b)).toBe(before);
  });

  it('[T4] stays as it is where another member has taken it, whose clock was ahead as well', async () => {
    const { a, b, clock } = pairAhead();
    a.write("INSERT INTO folders (name) VALUES ('new')");
    converge([a, b]);
    clock.wrongBy = 0;
    const before = lastStamp(a);
    expect(a.served.stampAnew()).toBeNull();
    expect(lastStamp(a)).toBe(before);
    // Between themselves they go on from there.
    for (const [one, name] of [
      [a, 'more'],
      [b, 'and more'],
    ] as const) {
      one.write(`INSERT INTO folders (name) VALUES ('${name}')`);
      converge([a, b]);
    }
    await expectEqual(a, b);
    expect(a.rows('SELECT name FROM folders ORDER BY name')).toEqual([['and more'], ['more'], ['new']]);
    // But nobody leads them further than that at once.
    b.write("INSERT INTO folders (name) VALUES ('far')");
    const [page] = pagesFor(a, b, 1000);
    const far = lastStamp(a) + 2 * MAX_DRIFT_MS * HLC_PER_MS;
    const later = altered(page ?? new Uint8Array(), ({ end }) => ({
      end: { ...end, knowledge: { ...end.knowledge, hlc: end.knowledge.hlc.map(() => far) } },
    }));
    expect(() => a.apply('B', later)).toThrow(/ahead of this device's clock/);
  });

  it('[T4] stays as it is where another member has ACKed some of it, whose clock was ahead as well', () => {
    const { a, b, clock } = pairAhead();
    a.write("INSERT INTO folders (name) VALUES ('one'), ('two'), ('three')");
    const [page] = pagesFor(b, a, 2);
    const { cursor, complete } = b.apply('A', page ?? new Uint8Array());
    expect(complete).toBe(false);
    a.write(`INSERT INTO flotilla_acks (peer, position, complete, at) VALUES ('B', ${cursor.position}, 0, 0)`);
    clock.wrongBy = 0;
    const before = lastStamp(a);
    expect(a.served.stampAnew()).toBeNull();
    expect(lastStamp(a)).toBe(before);
  });

  it('[T4] is not looked at while stamps and clock agree', () => {
    const { a } = pair();
    write(a);
    const before = lastStamp(a);
    expect(a.served.stampAnew()).toBeNull();
    expect(lastStamp(a)).toBe(before);
  });
});
