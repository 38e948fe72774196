/** Membership as synced data: records that arrive, and what a revocation means for rows. */
import { describe, expect, it } from 'vitest';

import { wireOf } from '../../src/db/knowledge-wire.ts';
import { recordsHash } from '../../src/db/members.ts';
import { stampExisting } from '../../src/db/stamp.ts';
import { decodeBatch } from '../../src/protocol/batch.ts';
import { recordIdOf, recordText, signedBytes } from '../../src/protocol/membership.ts';
import type { MemberRecord } from '../../src/protocol/membership.ts';
import type { ColumnData, SqlValue } from '../../src/protocol/types.ts';
import { hexToBytes } from '../../src/protocol/uuid.ts';
import { altered, expectEqual, fleetOf, inTheMiddle, pagesFor } from '../support/engine.ts';
import { FOUNDED_ID, converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';
import { pretendedSeal } from '../support/surroundings.ts';

const DDL = `CREATE TABLE folders (id INTEGER PRIMARY KEY, name TEXT);
  CREATE TABLE notes (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, body TEXT);`;

/** Copies on A, B, C, …; A has founded the library and let nobody in yet. */
function founded(count: number): Replica[] {
  const replicas = fleetOf(count, DDL, { libraryId: FOUNDED_ID });
  replicas[0]?.found();
  return replicas;
}

/** The same, all members, let in by A, and everybody knows. */
function fleet(count: number): Replica[] {
  const [a, ...others] = founded(count) as [Replica, ...Replica[]];
  for (const other of others) a.admit(other);
  for (const other of others) other.pull(a);
  return [a, ...others];
}

const bodies = (replica: Replica): unknown[] => replica.rows('SELECT body FROM notes ORDER BY body').flat();
const add = (replica: Replica, body: string): void => replica.write('INSERT INTO notes (body) VALUES (?)', body);

/** A page whose records of membership are others. `about` is the device that a record is about. */
function forged(page: Uint8Array, change: (column: string, value: SqlValue, about: string) => SqlValue): Uint8Array {
  return altered(page, (batch) => ({
    tables: batch.tables.map((table) => {
      if (table.table !== 'flotilla_membership') return table;
      const texts = table.columns.find(({ name }) => name === 'record') as Extract<ColumnData, { kind: 'value' }>;
      const abouts = texts.values.map((text) => (JSON.parse(String(text)) as MemberRecord).device);
      const columns = table.columns.map((column): ColumnData =>
        column.kind === 'ref'
          ? column
          : { ...column, values: column.values.map((value, i) => change(column.name, value, abouts[i] ?? '')) },
      );
      return { ...table, columns };
    }),
  }));
}

function refusals(to: Replica, page: Uint8Array): readonly string[] {
  return to.served.apply('A', [page]).flatMap(({ refused }) => refused);
}

describe('records that arrive', () => {
  it('[P5] who was let in by one member is a member for all, over a chain of those who let in', async () => {
    const [a, b, c, d] = founded(4) as [Replica, Replica, Replica, Replica];
    a.admit(b);
    b.pull(a);
    b.admit(c);
    c.pull(b);
    c.admit(d);
    d.pull(c);
    a.pull(d);
    expect([a, c, d].map((one) => one.members())).toEqual(['ABCD', 'ABCD', 'ABCD']);
    converge([a, b, c, d]);
    expect(b.members()).toBe('ABCD');
    expect(a.rows('SELECT device, invited_by FROM flotilla_members ORDER BY device')).toEqual([
      ['A', ''],
      ['B', 'A'],
      ['C', 'B'],
      ['D', 'C'],
    ]);
    await expectEqual(a, b, c, d);
  });

  it('[P2] without the signature of its signer are not taken, and that is said; the rest of the batch is', async () => {
    const [a, b] = fleet(2) as [Replica, Replica];
    a.admit({ device: 'X' });
    add(a, 'beside it');
    const [page] = pagesFor(b, a, 1000) as [Uint8Array];
    const bad = forged(page, (name, value) => (name === 'signature' ? Buffer.alloc(32) : value));
    expect(refusals(b, bad)).toEqual([expect.stringContaining('about X has no valid signature of A')]);
    expect([b.members(), bodies(b)]).toEqual(['AB', ['beside it']]);
    expect(b.rows('SELECT count(*) FROM flotilla_membership')).toEqual([[2]]);
  });

  it.each([
    ['another name', (text: string) => text.replace('X', 'Y')],
    [
      'another order',
      (text: string) => JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(text)).toReversed())),
    ],
    ['no record', () => 'null'],
    ['no text', () => null],
  ])('[P2] with %s than what was signed are not taken', (_, change) => {
    const [a, b] = fleet(2) as [Replica, Replica];
    a.admit({ device: 'X' });
    const [page] = pagesFor(b, a, 1000) as [Uint8Array];
    const bad = forged(page, (name, value, about) =>
      name === 'record' && about === 'X' ? change(String(value)) : value,
    );
    expect(refusals(b, bad)).toHaveLength(1);
    expect(b.members()).toBe('AB');
  });

  it('[P2] one that is signed is taken beside others that are not', () => {
    const [a, b] = fleet(2) as [Replica, Replica];
    for (const device of ['X', 'Y', 'Z']) a.admit({ device });
    const [page] = pagesFor(b, a, 1000) as [Uint8Array];
    const bad = forged(page, (name, value, about) =>
      name === 'signature' && 'XZ'.includes(about) ? Buffer.alloc(32) : value,
    );
    expect(refusals(b, bad)).toHaveLength(2);
    expect(b.members()).toBe('ABY');
  });

  it('[P2] under the identity of another row are not taken: they would push that one out', () => {
    const [a, b] = fleet(2) as [Replica, Replica];
    a.admit({ device: 'X' });
    const [page] = pagesFor(b, a, 1000) as [Uint8Array];
    const bad = altered(page, (batch) => {
      const uuids = Uint8Array.from(batch.uuids);
      uuids.set(new Uint8Array(16).fill(0x42), (batch.tables[0]?.rows.at(-1) ?? 0) * 16);
      return { uuids };
    });
    expect(refusals(b, bad)).toEqual([expect.stringContaining('identity of another row')]);
    expect(b.members()).toBe('AB');
  });

  it('[P2] cannot be deleted, neither by a peer nor by a program', () => {
    const [a, b] = fleet(2) as [Replica, Replica];
    add(a, 'note');
    b.pull(a);
    a.write('DELETE FROM notes');
    const [page] = pagesFor(b, a, 1000) as [Uint8Array];
    const bad = altered(page, (batch) => {
      const buried = batch.tombstones.flatMap(({ rows }) => rows);
      const membership = batch.names.indexOf('flotilla_membership');
      return {
        uuidTable: batch.uuidTable.map((name, index) => (buried.includes(index) ? membership : name)),
        tombstones: batch.tombstones.map((table) => ({ ...table, table: 'flotilla_membership' })),
      };
    });
    expect(refusals(b, bad)).toEqual([expect.stringContaining('which is never done')]);
    expect(b.rows('SELECT count(*) FROM flotilla_tombstones')).toEqual([[0]]);
    for (const sql of ['DELETE FROM flotilla_membership', "UPDATE flotilla_membership SET record = ''"])
      expect(() => b.write(sql)).toThrow('flotilla alone');
  });

  it('[P3] of a signer that is no member are kept, do not count, and are told of', async () => {
    const [a, b] = fleet(2) as [Replica, Replica];
    const stray: MemberRecord = { type: 'member', device: 'Y', term: 1, name: 'y', by: 'X', byTerm: 1, at: 1 };
    insertRecord(a, stray);
    b.pull(a);
    expect([a.members(), b.members()]).toEqual(['AB', 'AB']);
    expect(b.rows("SELECT value FROM flotilla_state WHERE key = 'uncounted'")).toEqual([[1]]);
    // Its signer becomes a member after all.
    b.admit({ device: 'X' });
    a.pull(b);
    expect([a.members(), b.members()]).toEqual(['ABXY', 'ABXY']);
    expect(b.rows("SELECT value FROM flotilla_state WHERE key = 'uncounted'")).toEqual([[0]]);
    await expectEqual(a, b);
  });
});

/** Writes a record as a device that is hostile might, with a signature that is right. */
function insertRecord(replica: Replica, record: MemberRecord): void {
  const text = recordText(record);
  const signer = record.type === 'founder' ? record.device : record.by;
  const signature = pretendedSeal(signer).sign(signedBytes(FOUNDED_ID, text));
  const other = fleetOf(1, DDL, { libraryId: FOUNDED_ID, device: 'hostile' })[0] as Replica;
  other.library.transact(() => {
    other.library.withoutCapture(() =>
      other.library.sql.run(
        'INSERT INTO flotilla_membership (id, record, signature) VALUES (?, ?, ?)',
        Buffer.from(hexToBytes(recordIdOf(FOUNDED_ID, text))),
        text,
        Buffer.from(signature),
      ),
    );
  });
  other.library.transact(() => stampExisting(other.library, other.library.model('flotilla_membership'), 1));
  replica.pull(other);
}

describe('a device that was revoked', () => {
  it('[P8] gives nothing to whoever has heard of it, and gets nothing', () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    const late = pagesFor(a, c, 1000);
    add(c, 'later');
    const page = pagesFor(a, c, 1000)[0] as Uint8Array;
    a.revoke(c);
    for (const data of [...late, page]) expect(() => a.apply('C', data)).toThrow(/a member of this library no more/);
    expect(() => c.passFrom(a)).toThrow(/a member of this library no more/);
    b.pull(a);
    expect(() => b.pull(c)).toThrow(/a member of this library no more/);
    expect([a, b].map(bodies)).toEqual([[], []]);
  });

  it('[P8] is refused from the very commit on that brings the word', () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    a.revoke(c);
    const word = pagesFor(b, a, 1000)[0] as Uint8Array;
    add(c, 'too late');
    const page = pagesFor(b, c, 1000)[0] as Uint8Array;
    b.apply('A', word);
    expect(() => b.apply('C', page)).toThrow(/a member of this library no more/);
  });

  it('[P9] what a member took from it before hearing of it stands, everywhere; what refers to that as well', async () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    a.revoke(c);
    c.write("INSERT INTO folders (name) VALUES ('made after it')");
    add(c, 'written after it');
    b.pull(c);
    b.write("INSERT INTO notes (folder_id, body) SELECT id, 'by b' FROM folders");
    converge([a, b]);
    expect(a.members()).toBe('AB');
    expect(bodies(a)).toEqual(['by b', 'written after it']);
    await expectEqual(a, b);
    add(c, 'and later');
    expect(() => b.pull(c)).toThrow(/a member of this library no more/);
  });

  it('[P10] hears of it from whoever has the record, like everybody', () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    a.revoke(c);
    // Before b has taken it up itself, it would be refused; a page that was read before is on its way.
    const word = pagesFor(b, a, 1000)[0] as Uint8Array;
    expect(c.apply('B', word).changed).toBe(1);
    expect(c.members()).toBe('AB');
    expect(() => c.revoke(a)).toThrow(/This device is no member/);
    expect(() => c.admit({ device: 'X' })).toThrow(/This device is no member/);
    expect(b.members()).toBe('ABC');
  });

  it('[P8] cannot keep a member from hearing of it: by claims of knowledge, or by deletes under the name of the record', async () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    add(c, 'to delete');
    b.pull(c);
    a.revoke(c);
    const [record] = a.rows('SELECT uuid, birth_hlc FROM flotilla_rows_0 ORDER BY lsn DESC LIMIT 1') as [
      [Buffer, number],
    ];
    const run = Buffer.from(a.library.runHex(a.library.run), 'hex');
    c.write('DELETE FROM notes');
    const page = altered(pagesFor(b, c, 1000)[0] as Uint8Array, ({ end, uuids }) => ({
      uuids: Buffer.concat([uuids.subarray(0, (uuids.length / 16 - 1) * 16), record[0]]),
      end: { ...end, knowledge: { runs: run, hlc: [record[1] + 1] } },
    }));
    b.apply('C', page);
    expect(b.library.knows(b.library.runOrdinal(run.toString('hex'), null), record[1])).toBe(true);
    expect(b.rows('SELECT 1 FROM flotilla_tombstones WHERE uuid = ?', record[0])).toHaveLength(1);
    b.pull(a);
    expect(b.members()).toBe('AB');
  });

  it('[P8] is told of before any row, in every pass', () => {
    const [a, b] = fleet(2) as [Replica, Replica];
    add(a, 'one');
    add(a, 'two');
    b.pull(a);
    const [first, ...rest] = pagesFor(b, a, 1).map((page) => decodeBatch(page).tables.map(({ table }) => table));
    expect([first, rest]).toEqual([['flotilla_membership'], []]);
    // Known already: nothing is news, and no look-up is made for it.
    const before = b.rows("SELECT value FROM flotilla_counters WHERE name = 'lookupsIn'");
    expect(b.pull(a).map(({ rows, changed }) => [rows, changed])).toEqual([[0, 0]]);
    expect(b.rows("SELECT value FROM flotilla_counters WHERE name = 'lookupsIn'")).toEqual(before);
  });

  it('[P8] is told of to whoever has not the very same records, and to nobody else', () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    const tables = (to: Replica, hash: string): string[] => {
      const { feed } = a.feeds.open(to.library.cursor('A'), wireOf([...a.library.knowledge()]), 'ordinary', hash);
      const page = a.feeds.page(feed, { rows: 100, bytes: 1 << 20 });
      if (!('data' in page) || page.data === null) throw new Error('the feed has nothing to send');
      return decodeBatch(new Uint8Array(page.data)).tables.map(({ table }) => table);
    };
    const hashOf = (replica: Replica): string => recordsHash(replica.library.sql);
    converge([a, b, c]);
    expect(hashOf(b)).toBe(hashOf(a));
    expect(tables(b, hashOf(b))).toEqual([]);
    a.revoke(c);
    a.stamp();
    expect(tables(b, hashOf(b))).toEqual(['flotilla_membership']);
    b.pull(a);
    expect(tables(b, hashOf(b))).toEqual([]);
  });

  it('[P8] is told of in as many pages as it takes, where somebody has made a great many records', () => {
    const [a, b] = fleet(2) as [Replica, Replica];
    for (let i = 0; i < 150; i += 1) a.admit({ device: `device-${i}` });
    add(a, 'behind them');
    const pages = pagesFor(b, a, 1000, 2000);
    expect(pages.length).toBeGreaterThan(4);
    for (const page of pages) {
      expect(page.length).toBeLessThan(40_000);
      b.apply('A', page);
    }
    expect(b.rows('SELECT count(*) FROM flotilla_members')).toEqual([[152]]);
    expect(bodies(b)).toEqual(['behind them']);
  });

  it('[P6] takes along whom it let in unheard of; what those wrote stays', async () => {
    const [a, b, c, d] = fleet(4) as [Replica, Replica, Replica, Replica];
    void d;
    const x = founded(6)[5] as Replica;
    c.admit(x);
    x.pull(c);
    add(x, 'by x');
    b.pull(x);
    expect(b.members()).toContain('F');
    a.revoke(c);
    converge([a, b]);
    expect(b.members()).toBe('ABD');
    expect(() => b.pull(x)).toThrow(/a member of this library no more/);
    expect(bodies(a)).toEqual(['by x']);
    b.admit(x);
    add(x, 'again');
    x.apply('B', pagesFor(x, b, 1000)[0] as Uint8Array);
    converge([a, b, x]);
    expect(bodies(a)).toEqual(['again', 'by x']);
    await expectEqual(a, b, x);
  });

  it('[P12] is a member again when it is let in again, and what it wrote meanwhile arrives', async () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    a.revoke(c);
    add(c, 'written while out');
    converge([a, b]);
    b.admit(c);
    converge([a, b, c]);
    expect([a, b, c].map((one) => one.members())).toEqual(['ABC', 'ABC', 'ABC']);
    expect(bodies(a)).toEqual(['written while out']);
    await expectEqual(a, b, c);
  });

  it('[P12] [P13] is not waited for by what forgets deletes, and brings none of them back when it is let in again', async () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders (name) VALUES ('x'), ('y')");
    converge([a, b, c]);
    a.write("DELETE FROM folders WHERE name = 'x'");
    converge([a, b]);
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const)
      one.hear(other);
    expect(a.prune()).toEqual({ tombstones: 0, blockedBy: ['C'] });
    a.revoke(c);
    converge([a, b]);
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const)
      one.hear(other);
    expect([a, b].map((one) => one.prune())).toEqual([
      { tombstones: 1, blockedBy: [] },
      { tombstones: 1, blockedBy: [] },
    ]);
    add(c, 'written while out');
    b.admit(c);
    converge([a, b, c]);
    for (const one of [a, b, c]) {
      expect(one.rows('SELECT name FROM folders')).toEqual([['y']]);
      expect(bodies(one)).toEqual(['written while out']);
    }
    await expectEqual(a, b, c);
  });

  it('[P13] holds up no decision by what it has left half told', async () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    a.write("INSERT INTO folders (name) VALUES ('f')");
    converge([a, b, c]);
    c.write("INSERT INTO notes (folder_id, body) SELECT id, 'half told' FROM folders");
    // A page in the middle: nobody claims to know all that c stamped up to here.
    a.apply('C', inTheMiddle(pagesFor(a, c, 1000)[0] as Uint8Array));
    b.write('DELETE FROM folders');
    converge([a, b]);
    expect([a, b].map((one) => one.waiting())).not.toEqual([[], []]);
    b.revoke(c);
    converge([a, b]);
    expect([a, b].map((one) => one.waiting())).toEqual([[], []]);
    expect([bodies(a), bodies(b)]).toEqual([[], []]);
    await expectEqual(a, b);
  });

  it('[P1] a copy that was restored hears of it again', () => {
    const [a, b, c] = fleet(3) as [Replica, Replica, Replica];
    const backup = b.backup();
    a.revoke(c);
    b.pull(a);
    expect(b.members()).toBe('AB');
    const restored = b.restored(backup);
    expect(restored.members()).toBe('ABC');
    restored.pull(a);
    expect(restored.members()).toBe('AB');
    restored.restart();
    expect(restored.members()).toBe('AB');
  });
});
