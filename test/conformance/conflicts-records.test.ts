/** Group R of docs/spec.md, from R10 on: records of conflicts are listed, restored, and age out. */
import { describe, expect, it } from 'vitest';

import type { ConflictList, ConflictQuery } from '../../src/db/api.ts';
import { listConflicts } from '../../src/db/conflict-list.ts';
import { ageOutConflicts, RULES } from '../../src/db/conflicts.ts';
import { pruningStatus } from '../../src/db/floor.ts';
import { restoreConflict } from '../../src/db/restore.ts';
import { FlotillaError } from '../../src/errors.ts';
import { expectEqual, fleetOf, pairOf } from '../support/engine.ts';
import { FOUNDED_ID, converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const DAY_MS = 86_400_000;

const PEOPLE = `CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, age INTEGER, score, photo BLOB,
  boss_id INTEGER REFERENCES people (id) ON DELETE SET NULL);`;
const TREE = `CREATE TABLE folders (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, title TEXT NOT NULL);
  CREATE TABLE notes (id INTEGER PRIMARY KEY, folder_id INTEGER NOT NULL REFERENCES folders (id) ON DELETE CASCADE, body TEXT, weight REAL);`;

function list(replica: Replica, query: ConflictQuery = {}): ConflictList {
  return listConflicts(replica.library.sql, replica.library.registry, query);
}

/** Puts the latest record back, or the one that is named. */
function restore(replica: Replica, id = Number(list(replica).conflicts[0]?.id)): void {
  restoreConflict(replica.library, id);
}

function refusal(work: () => unknown): FlotillaError {
  try {
    work();
  } catch (error) {
    if (error instanceof FlotillaError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

/** A writes over what B writes a moment later, so that A holds the record. */
async function contested(set: string, other: string, ddl = PEOPLE): Promise<[Replica, Replica]> {
  const [a, b] = pairOf(ddl);
  for (const [device, name] of [
    ['A', 'laptop'],
    ['B', 'nas'],
  ] as const)
    a.knowMember(device, name);
  a.write("INSERT INTO people (id, name, age, score) VALUES (1, 'Ann', 30, 1), (2, 'Bob', 40, 2)");
  converge([a, b]);
  a.write(`UPDATE people SET ${set} WHERE name = 'Ann'`);
  a.stamp();
  b.write(`UPDATE people SET ${other} WHERE name = 'Ann'`);
  converge([a, b]);
  expect(list(a).total).toBeGreaterThan(0);
  expect(list(b).total).toBe(0);
  return [a, b];
}

describe('listing', () => {
  it('[R10] a record says which row and column, both values, who wrote each, when, and why', async () => {
    const before = Date.UTC(2026, 0, 1);
    const [a] = await contested('age = 31', 'age = 32');
    expect(list(a)).toEqual({
      total: 1,
      unrestored: 1,
      conflicts: [
        {
          id: 1,
          table: 'people',
          row: { uuid: expect.stringMatching(/^[0-9a-f]{8}-/), key: '1', text: 'Ann' },
          column: 'age',
          columns: null,
          lost: {
            value: { type: 'integer', text: '31', size: 0 },
            device: 'A',
            name: 'laptop',
            at: expect.any(Number),
          },
          kept: { value: { type: 'integer', text: '32', size: 0 }, device: 'B', name: 'nas', at: expect.any(Number) },
          rule: 'later-write',
          reason: RULES['later-write'],
          at: expect.any(Number),
          restoredAt: null,
        },
      ],
    });
    const [record] = list(a).conflicts;
    expect(record?.lost.at).toBeGreaterThan(before);
    expect(record?.kept.at).toBeGreaterThanOrEqual(record?.lost.at ?? Infinity);
  });

  it.each([
    ['score = 5', 'score = 5.0', 'integer 5', 'real 5.0'],
    ['score = 9007199254740993', 'score = NULL', 'integer 9007199254740993', 'null NULL'],
    ['age = 1e300', 'age = 7', 'real 1e+300', 'integer 7'],
    ["photo = x'00ff'", "photo = 'ff'", 'blob 00ff', 'text ff'],
    ['boss_id = 2', 'boss_id = 1', 'reference people 2 "Bob"', 'reference people 1 "Ann"'],
  ])('[R10] both values keep their type: %s against %s', async (one, other, lost, kept) => {
    const [a] = await contested(one, other);
    const [record] = list(a).conflicts;
    const shown = [record?.lost.value, record?.kept.value].map((value) => `${value?.type} ${value?.text}`);
    expect(shown).toEqual([lost, kept]);
  });

  it('[R10] long values are cut, and their size is said', async () => {
    const [a] = await contested("name = 'Ann'||replace(hex(zeroblob(500000)), '0', 'é')", 'age = 1, name = NULL');
    const value = list(a).conflicts.find(({ column }) => column === 'name')?.lost.value;
    expect(value?.size).toBe(1_000_003);
    expect(value?.text).toMatch(/^Ann(é){197}$/);
  });

  it('[R10] the newest first, of one table if asked, no more than asked', async () => {
    const [a] = await contested("age = 1, score = 'x'", "age = 2, score = 'y'");
    const all = list(a).conflicts.map(({ id }) => id);
    expect(all).toEqual([2, 1]);
    expect(list(a, { limit: 1 })).toMatchObject({ conflicts: [{ id: 2 }], total: 2, unrestored: 2 });
    expect(list(a, { table: 'PEOPLE' }).total).toBe(2);
    expect(list(a, { table: 'flotilla_transfers' })).toEqual({ conflicts: [], total: 0, unrestored: 0 });
    expect(refusal(() => list(a, { table: 'nobody' })).code).toBe('CONFIG');
    expect(refusal(() => list(a, { limit: -1 })).code).toBe('CONFIG');
  });

  it('[R10] a row that went is shown with all that it held', () => {
    const [a, b] = pairOf(PEOPLE);
    a.write("INSERT INTO people (id, name, age) VALUES (1, 'Ann', 30), (2, 'Bob', 40)");
    converge([a, b]);
    a.write("UPDATE people SET age = 41, boss_id = 1, photo = x'01' WHERE id = 2");
    a.stamp();
    b.write("DELETE FROM people WHERE name = 'Bob'");
    converge([a, b]);
    expect(list(a).conflicts).toMatchObject([
      {
        row: { key: '', text: 'Bob' },
        column: null,
        columns: {
          name: { type: 'text', text: 'Bob' },
          age: { type: 'integer', text: '41' },
          photo: { type: 'blob', text: '01', size: 1 },
          boss_id: { type: 'reference', text: 'people 1 "Ann"' },
        },
        lost: { value: null, device: 'A' },
        kept: { value: null, device: 'B' },
        rule: 'deleted',
        reason: RULES.deleted,
      },
    ]);
  });
});

describe('restoring a value', () => {
  it.each([
    ['age = 31', 'age = 32', 'age', 31],
    ["photo = x'00ff'", 'photo = 1', 'photo', Buffer.from([0, 255])],
    ["score = 'old'", 'score = 9', 'score', 'old'],
  ])(
    '[R11] writes it again as a change of this device, which wins everywhere: %s',
    async (one, other, column, value) => {
      const [a, b] = await contested(one, other);
      restore(a);
      expect(list(a)).toMatchObject({ total: 1, unrestored: 0, conflicts: [{ restoredAt: expect.any(Number) }] });
      converge([a, b]);
      for (const replica of [a, b])
        expect(replica.rows(`SELECT ${column} FROM people WHERE name = 'Ann'`)).toEqual([[value]]);
      // B has seen what it wrote over: it is no conflict again.
      expect(list(b).total).toBe(0);
      await expectEqual(a, b);
    },
  );

  it('[R11] keeps the types that only an untyped column can tell apart', async () => {
    const [a, b] = await contested('score = 5', 'score = 5.0');
    restore(a);
    converge([a, b]);
    for (const replica of [a, b])
      expect(replica.rows("SELECT typeof(score), score FROM people WHERE name = 'Ann'")).toEqual([['integer', 5]]);
  });

  it('[R11] a reference is that of the same row again, whatever its id here', async () => {
    const [a, b] = await contested('boss_id = 2', 'boss_id = 1');
    a.write('UPDATE people SET id = 77 WHERE id = 2');
    a.stamp();
    restore(a);
    converge([a, b]);
    for (const replica of [a, b])
      expect(
        replica.rows('SELECT b.name FROM people p JOIN people b ON b.id = p.boss_id WHERE p.name = ?', 'Ann'),
      ).toEqual([['Bob']]);
    await expectEqual(a, b);
  });

  it('[R11] once only', async () => {
    const [a] = await contested('age = 31', 'age = 32');
    restore(a);
    const error = refusal(() => restore(a, 1));
    expect([error.code, error.message]).toEqual(['CANNOT_RESTORE', expect.stringContaining('restored already')]);
    expect(refusal(() => restore(a, 99)).code).toBe('NO_SUCH_CONFLICT');
  });

  it('[R11] what the table refuses changes nothing and says why', async () => {
    const [a, b] = await contested(
      "name = 'Bill', age = 1",
      "name = 'Anna'",
      `${PEOPLE} CREATE UNIQUE INDEX names ON people (name);`,
    );
    a.write("UPDATE people SET name = 'Bill' WHERE name = 'Bob'");
    a.stamp();
    const head = a.library.head;
    const error = refusal(() => restore(a, 1));
    expect(error.code).toBe('CANNOT_RESTORE');
    expect(error.message).toMatch(/UNIQUE constraint failed: people\.name/);
    expect(list(a).unrestored).toBe(1);
    expect(a.library.head).toBe(head);
    converge([a, b]);
    await expectEqual(a, b);
  });

  it('[R11] a value whose row or target is gone is refused, with what to restore first', async () => {
    const [a, b] = await contested('boss_id = 2', 'boss_id = 1');
    a.write("UPDATE people SET age = 50 WHERE name = 'Bob'");
    a.stamp();
    b.write("DELETE FROM people WHERE name = 'Bob'");
    converge([a, b]);
    const error = refusal(() => restore(a, 1));
    expect(error.message).toBe(
      'Record 1 cannot be restored: it refers to a row of people that is not here: restore that first, it is record 2.',
    );
    restore(a, 2);
    restore(a, 1);
    converge([a, b]);
    for (const replica of [a, b])
      expect(
        replica.rows('SELECT b.name, b.age FROM people p JOIN people b ON b.id = p.boss_id WHERE p.name = ?', 'Ann'),
      ).toEqual([['Bob', 50]]);
    await expectEqual(a, b);
  });

  it('[R11] of a row that is gone', async () => {
    const [a] = await contested('age = 31', 'age = 32');
    a.write("DELETE FROM people WHERE name = 'Ann'");
    expect(refusal(() => restore(a, 1)).message).toBe('Record 1 cannot be restored: its row of people is gone.');
  });
});

describe('restoring a row', () => {
  it('[R12] inserts it again under its old identity, with all values, everywhere', async () => {
    const [a, b, c] = fleetOf(3, TREE) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders VALUES (1, NULL, 'top'); INSERT INTO notes VALUES (1, 1, 'text', 2.5)");
    converge([a, b, c]);
    a.write("UPDATE notes SET body = 'newer'");
    a.stamp();
    b.write('DELETE FROM notes');
    converge([a, b, c]);
    const [{ row } = { row: { uuid: '' } }] = list(a).conflicts;
    restore(a);
    converge([a, b, c]);
    for (const replica of [a, b, c]) {
      expect(
        replica.rows('SELECT n.body, n.weight, f.title FROM notes n JOIN folders f ON f.id = n.folder_id'),
      ).toEqual([['newer', 2.5, 'top']]);
      const { n } = replica.library.model('notes');
      expect(replica.rows(`SELECT lower(hex(uuid)) FROM flotilla_rows_${n}`)).toEqual([[row.uuid.replaceAll('-', '')]]);
    }
    await expectEqual(a, b, c);
    expect(refusal(() => restoreConflict(a.library, 1)).message).toContain('restored already');
  });

  it('[R12] of a natural key, and a row that refers to itself', async () => {
    const [a, b] = pairOf(
      'CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT); CREATE TABLE loops (id INTEGER PRIMARY KEY, self INTEGER REFERENCES loops (id), t TEXT)',
    );
    a.write("INSERT INTO tags VALUES ('red', 'a'); INSERT INTO loops VALUES (9, 9, 'x')");
    converge([a, b]);
    a.write("UPDATE tags SET colour = 'b'; UPDATE loops SET t = 'y'");
    a.stamp();
    b.write('DELETE FROM tags; DELETE FROM loops');
    converge([a, b]);
    expect(list(a).total).toBe(2);
    restore(a, 1);
    restore(a, 2);
    converge([a, b]);
    for (const replica of [a, b]) {
      expect(replica.rows('SELECT name, colour FROM tags')).toEqual([['red', 'b']]);
      expect(replica.rows('SELECT self = id, t FROM loops')).toEqual([[1, 'y']]);
    }
    await expectEqual(a, b);
  });

  it('[R12] a row that went with its parent comes back after it', async () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO folders VALUES (1, NULL, 'top'), (2, 1, 'sub')");
    converge([a, b]);
    a.write("INSERT INTO notes VALUES (1, 2, 'by A', 1); UPDATE folders SET title = 'renamed' WHERE id = 2");
    a.stamp();
    b.write("DELETE FROM folders WHERE title = 'sub'");
    converge([a, b]);
    const records = new Map(list(a).conflicts.map(({ table, id }) => [table, id]));
    expect(records.size).toBe(2);
    const error = refusal(() => restore(a, records.get('notes')));
    expect(error.message).toContain(
      `it refers to a row of folders that is not here: restore that first, it is record ${records.get('folders')}.`,
    );
    restore(a, records.get('folders'));
    restore(a, records.get('notes'));
    converge([a, b]);
    for (const replica of [a, b])
      expect(
        replica.rows(
          'SELECT n.body, f.title, p.title FROM notes n JOIN folders f ON f.id = n.folder_id JOIN folders p ON p.id = f.parent_id',
        ),
      ).toEqual([['by A', 'renamed', 'top']]);
    await expectEqual(a, b);
  });

  it('[R12] a row that went with parents that were deleted knowingly comes back after them', async () => {
    const [a, b] = pairOf(TREE);
    a.write("INSERT INTO folders VALUES (1, NULL, 'top'), (2, 1, 'sub'), (3, 2, 'deep'), (4, 1, 'other')");
    converge([a, b]);
    a.write("INSERT INTO notes VALUES (1, 3, 'by A', 1)");
    a.stamp();
    b.write("DELETE FROM folders WHERE title = 'top'");
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT count(*) FROM folders')).toEqual([[0]]);
    const records = list(a).conflicts;
    expect(new Set(records.map(({ table, rule, row }) => `${table} ${rule} ${row.text}`))).toEqual(
      new Set(['folders took-along deep', 'folders took-along sub', 'folders took-along top', 'notes cascade by A']),
    );
    const idOf = (text: string): number => records.find(({ row }) => row.text === text)?.id ?? 0;
    const error = refusal(() => restore(a, idOf('by A')));
    expect(error.message).toContain(
      `a row of folders that is not here: restore that first, it is record ${idOf('deep')}.`,
    );
    for (const text of ['top', 'sub', 'deep', 'by A']) restore(a, idOf(text));
    converge([a, b]);
    for (const replica of [a, b])
      expect(
        replica.rows(
          `SELECT n.body, f.title, p.title, q.title FROM notes n JOIN folders f ON f.id = n.folder_id
           JOIN folders p ON p.id = f.parent_id JOIN folders q ON q.id = p.parent_id`,
        ),
      ).toEqual([['by A', 'deep', 'sub', 'top']]);
    await expectEqual(a, b);
  });

  it('[R12] a row that is there again is left alone', async () => {
    const [a, b] = pairOf('CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT)');
    a.write("INSERT INTO tags VALUES ('red', 'a')");
    converge([a, b]);
    a.write("UPDATE tags SET colour = 'b'");
    a.stamp();
    b.write('DELETE FROM tags');
    converge([a, b]);
    b.write("INSERT INTO tags VALUES ('red', 'c')");
    converge([a, b]);
    expect(refusal(() => restore(a, 1)).message).toContain('the row is there again: tags red "c"');
    await expectEqual(a, b);
  });
});

describe('restoring what a rule decided', () => {
  it('[R14] a delete that was undone is done again, if the table allows it', async () => {
    const [a, b] = pairOf(`CREATE TABLE kinds (id INTEGER PRIMARY KEY, name TEXT);
      CREATE TABLE things (id INTEGER PRIMARY KEY, kind_id INTEGER REFERENCES kinds (id) ON DELETE RESTRICT)`);
    a.write("INSERT INTO kinds VALUES (1, 'odd')");
    converge([a, b]);
    a.write('DELETE FROM kinds');
    a.stamp();
    b.write('INSERT INTO things VALUES (1, 1)');
    converge([a, b]);
    const holder = [a, b].find((replica) => list(replica).total > 0) as Replica;
    expect(list(holder).conflicts).toMatchObject([
      { table: 'kinds', row: { text: 'odd' }, column: null, columns: null, rule: 'revived' },
    ]);
    expect(refusal(() => restore(holder)).message).toContain('FOREIGN KEY constraint failed');
    holder.write('DELETE FROM things');
    restore(holder);
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows('SELECT * FROM kinds')).toEqual([]);
    await expectEqual(a, b);
  });

  it('[R14] a name that gave way is given back once nobody else has it', async () => {
    const [a, b] = pairOf('CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER)');
    a.write("INSERT INTO files (name, size) VALUES ('x', 1)");
    a.stamp();
    b.write("INSERT INTO files (name, size) VALUES ('x', 2)");
    converge([a, b]);
    const holder = [a, b].find((replica) => list(replica).total > 0) as Replica;
    expect(list(holder).conflicts).toMatchObject([{ column: 'name', rule: 'renamed', lost: { value: { text: 'x' } } }]);
    expect(refusal(() => restore(holder)).message).toContain('UNIQUE constraint failed');
    holder.write("UPDATE files SET name = 'other' WHERE name = 'x'");
    restore(holder);
    converge([a, b]);
    for (const replica of [a, b])
      expect(replica.rows('SELECT name FROM files ORDER BY name')).toEqual([['other'], ['x']]);
    await expectEqual(a, b);
  });

  it('[R14] a row that became one with another comes back as a row of its own', async () => {
    const [a, b] = pairOf('CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT UNIQUE, name TEXT)', {
      config: { tables: { people: { unique: { mail: 'merge' } } } },
    });
    a.write("INSERT INTO people (mail, name) VALUES ('m', 'by A')");
    a.stamp();
    b.write("INSERT INTO people (mail, name) VALUES ('m', 'by B')");
    converge([a, b]);
    const holder = [a, b].find((replica) => list(replica).total > 0) as Replica;
    const lost = String(list(holder).conflicts.find(({ rule }) => rule === 'merged')?.columns?.['name']?.text);
    holder.write("UPDATE people SET mail = 'n'");
    restore(holder, list(holder).conflicts.find(({ rule }) => rule === 'merged')?.id);
    converge([a, b]);
    for (const replica of [a, b]) expect(replica.rows("SELECT name FROM people WHERE mail = 'm'")).toEqual([[lost]]);
    expect(a.rows('SELECT count(*) FROM people')).toEqual([[2]]);
    await expectEqual(a, b);
  });
});

describe('aging', () => {
  it('[R13] records go when they are older than the days of the configuration', () => {
    let now = Date.UTC(2026, 0, 1);
    const [a, b] = pairOf(PEOPLE, { now: () => (now += 1) });
    a.write("INSERT INTO people (name, age) VALUES ('Ann', 1)");
    converge([a, b]);
    const contest = (age: number): void => {
      a.write('UPDATE people SET age = ?', age);
      a.stamp();
      b.write('UPDATE people SET age = ?', age + 1);
      converge([a, b]);
    };
    contest(10);
    now += 20 * 86_400_000;
    contest(20);
    expect(ageOutConflicts(a.library, 30)).toBe(0);
    now += 11 * 86_400_000;
    expect(ageOutConflicts(a.library, 30)).toBe(1);
    expect(list(a).conflicts.map(({ lost }) => lost.value?.text)).toEqual(['20']);
    expect(ageOutConflicts(a.library, 1)).toBe(1);
    expect(list(a).total).toBe(0);
  });

  it('[R13] and not before every member has what was kept, unless it is not waited for any more', () => {
    let now = Date.UTC(2026, 0, 1);
    const fleet = fleetOf(3, PEOPLE, { now: () => (now += 1), libraryId: FOUNDED_ID });
    const [a, b, c] = fleet as [Replica, Replica, Replica];
    a.found();
    for (const other of [b, c]) a.admit(other);
    a.write("INSERT INTO people (name, age) VALUES ('Ann', 1)");
    converge(fleet);
    const contest = (age: number): void => {
      a.write('UPDATE people SET age = ?', age);
      a.stamp();
      b.write('UPDATE people SET age = ?', age + 1);
      converge([a, b]);
      expect(list(a).total).toBe(1);
    };
    const behind = (conflictDays: number): unknown => pruningStatus(a.library.sql, 'A', now, { conflictDays }).behind;
    contest(10);
    now += 10 * DAY_MS;
    expect(ageOutConflicts(a.library, 5)).toBe(0);
    expect(behind(5)).toMatchObject([{ device: 'C', tombstones: 0, records: 1, setAside: false }]);
    expect(behind(20)).toEqual([]);
    converge(fleet);
    expect(behind(5)).toEqual([]);
    expect(ageOutConflicts(a.library, 20)).toBe(0);
    expect(ageOutConflicts(a.library, 5)).toBe(1);
    contest(20);
    for (const gone of [0, 0, 1]) {
      now += 11 * DAY_MS;
      converge([a, b]);
      expect(ageOutConflicts(a.library, 5)).toBe(gone);
    }
  });
});
