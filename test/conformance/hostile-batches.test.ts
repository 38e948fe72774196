/** Batches that are well written and say what cannot be: refused before anything changes. Each of these was found by `npm run fuzz:wire`. */
import { describe, expect, it } from 'vitest';

import { MAX_KNOWN_COLUMNS, MAX_KNOWN_TABLES } from '../../src/db/known.ts';
import { NO_END } from '../../src/db/page.ts';
import { emptyBatch } from '../../src/db/pass.ts';
import { encodeBatch } from '../../src/protocol/batch.ts';
import { MAX_KNOWN_RUNS } from '../../src/protocol/knowledge.ts';
import type { Batch, TableData } from '../../src/protocol/types.ts';
import { altered, expectEqual, fleetOf, inTheMiddle, pagesFor, pairOf } from '../support/engine.ts';
import { converge, Replica } from '../support/replica.ts';

const DDL = `
CREATE TABLE notes (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES notes (id), body TEXT);
CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT);`;

/** Two copies that are the same, and a page of what A has written since. */
function pageOf(sql: string): { readonly a: Replica; readonly b: Replica; readonly page: Uint8Array } {
  const [a, b] = pairOf(DDL);
  a.write("INSERT INTO notes VALUES (1, NULL, 'root'); INSERT INTO tags VALUES ('red', '#f00')");
  converge([a, b]);
  a.write(sql);
  return { a, b, page: pagesFor(b, a, 100)[0] as Uint8Array };
}

function contents(replica: Replica): unknown {
  const tables = ['notes', 'tags', 'flotilla_tables', 'flotilla_columns', 'flotilla_runs', 'flotilla_knowledge'];
  const names = replica.rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name");
  return [
    names,
    ...[...tables, 'flotilla_pending', 'flotilla_tombstones'].map((name) => replica.rows(`SELECT * FROM ${name}`)),
  ];
}

/** The batch is refused with these words, nothing has changed, and what is honest is taken afterwards. */
async function expectRefused(
  { a, b, page }: ReturnType<typeof pageOf>,
  change: (batch: Batch) => Partial<Batch>,
  says: RegExp,
): Promise<void> {
  const before = contents(b);
  expect(() => b.apply('A', altered(page, change))).toThrow(
    expect.objectContaining({ name: 'FlotillaError', code: 'PROTOCOL', message: expect.stringMatching(says) }),
  );
  expect(contents(b)).toEqual(before);
  converge([a, b]);
  await expectEqual(a, b);
}

const table = (batch: Batch, name: string): TableData => batch.tables.find((one) => one.table === name) as TableData;
const instead = (batch: Batch, name: string, change: Partial<TableData>): Partial<Batch> => ({
  tables: batch.tables.map((one) => (one.table === name ? { ...one, ...change } : one)),
});

describe('a batch that cannot be', () => {
  it('[H5] deletes a row before it was made', () =>
    expectRefused(
      pageOf("DELETE FROM tags; INSERT INTO tags VALUES ('blue', '')"),
      ({ tombstones }) => ({ tombstones: tombstones.map((one) => ({ ...one, hlc: one.hlc.map(() => 0) })) }),
      /before it was made/,
    ));

  it('[H5] brings owners of rows that have none', () =>
    expectRefused(
      pageOf("INSERT INTO tags VALUES ('blue', '')"),
      (batch) => {
        const { hlc, run } = table(batch, 'tags');
        return instead(batch, 'tags', { cells: { row: [0], column: [-1], hlc: [...hlc], run: [...run] } });
      },
      /with an owner/,
    ));

  it('[H5] brings a row without its key', () =>
    expectRefused(
      pageOf("INSERT INTO tags VALUES ('blue', '')"),
      (batch) =>
        instead(batch, 'tags', { columns: table(batch, 'tags').columns.filter(({ name }) => name !== 'name') }),
      /other columns/,
    ));

  it('[H5] brings an id, which each device gives itself', () =>
    expectRefused(
      pageOf("INSERT INTO notes VALUES (5, 1, 'x')"),
      (batch) =>
        instead(batch, 'notes', {
          columns: [...table(batch, 'notes').columns, { kind: 'value', name: 'id', values: [5] }],
        }),
      /an id of its own/,
    ));

  it('[H5] brings one row twice', () =>
    expectRefused(
      pageOf("INSERT INTO tags VALUES ('blue', ''), ('green', '')"),
      (batch) => {
        const { rows } = table(batch, 'tags');
        return instead(batch, 'tags', { rows: rows.map(() => rows[0] ?? 0) });
      },
      /more often/,
    ));

  it('[H5] gives one identity to rows of two tables', () =>
    expectRefused(
      pageOf("INSERT INTO tags VALUES ('blue', ''); INSERT INTO notes VALUES (5, 1, 'x')"),
      ({ uuids, uuidTable }) => {
        const copy = uuids.slice();
        copy.copyWithin(16 * uuidTable.findIndex((index) => index !== uuidTable[0]), 0, 16);
        return { uuids: copy };
      },
      /two tables/,
    ));

  it('[H1] teaches nothing of tables when it is refused', () =>
    expectRefused(
      pageOf("INSERT INTO tags VALUES ('blue', ''); INSERT INTO notes VALUES (5, 1, 'x')"),
      (batch) => ({
        names: batch.names.map((name) => (name === 'notes' ? 'unknown' : name)),
        tables: batch.tables.map((one) =>
          one.table === 'notes' ? { ...one, table: 'unknown' } : { ...one, columns: one.columns.slice(1) },
        ),
      }),
      /other columns/,
    ));
});

describe('an identity that was given to another table first', () => {
  it('[H5] stands in the way of no row', async () => {
    const [a, b, c] = fleetOf(3, DDL) as [Replica, Replica, Replica];
    converge([a, b, c]);
    a.write("INSERT INTO tags VALUES ('blue', '')");
    c.pull(a);
    // It waits for a table that never comes, under the identity of the tag.
    const [page] = pagesFor(b, c, 100) as [Uint8Array];
    b.apply(
      'C',
      inTheMiddle(
        altered(page, ({ names, tables }) => ({
          names: names.map((name) => (name === 'tags' ? 'unknown' : name)),
          tables: tables.map((one) => (one.table === 'tags' ? { ...one, table: 'unknown' } : one)),
        })),
      ),
    );
    expect(b.waiting()).toHaveLength(1);
    b.pull(a);
    a.write("UPDATE tags SET colour = '#00f' WHERE name = 'blue'");
    b.pull(a);
    expect(b.rows('SELECT * FROM tags')).toEqual([['blue', '#00f']]);
    await expect(b.digest()).resolves.toBeDefined();
  });
});

describe('what a library learns of others', () => {
  it('[H9] ends at as many runs as a message may name', () => {
    const { b, page } = pageOf("INSERT INTO tags VALUES ('blue', '')");
    const runs = (from: number, count: number): Uint8Array => {
      const bytes = Buffer.alloc(16 * count);
      for (let i = 0; i < count; i += 1) bytes.writeUInt32BE(from + i + 1, 16 * i);
      return new Uint8Array(bytes);
    };
    const knowing = (from: number, count: number): Uint8Array =>
      altered(page, ({ end }) => ({
        end: {
          ...end,
          complete: true,
          knowledge: { runs: runs(from, count), hlc: Array.from({ length: count }, () => 1) },
        },
      }));
    const half = MAX_KNOWN_RUNS / 2;
    b.apply('A', knowing(0, half));
    b.apply('A', knowing(0, half));
    expect(() => b.apply('A', knowing(half, half))).toThrow(/more than 100000 starts of nodes/);
    // What it knows can still be told to others.
    expect(b.library.knowledge().size).toBeLessThanOrEqual(MAX_KNOWN_RUNS);
  });

  it('[H9] ends at thousands of tables and columns', () => {
    const { b } = pageOf('SELECT 1');
    const column = (name: string) =>
      ({ name, kind: 'value', target: '', type: 'TEXT', notNull: false, policy: '', absent: false }) as const;
    const unknown = (name: string, columns: number) =>
      ({
        name,
        ownership: 'shared',
        ownedBy: '',
        identity: null,
        key: [],
        collations: [],
        columns: Array.from({ length: columns }, (_, i) => column(`c${i}`)),
        foreignKeys: [],
        absent: false,
      }) as const;
    const before = contents(b);
    const tables = Array.from({ length: MAX_KNOWN_TABLES }, (_, i) => unknown(`t${i}`, 1));
    expect(() => b.served.learn({ tables })).toThrow(/more than 2000/);
    const wide = Array.from({ length: MAX_KNOWN_COLUMNS / 2000 }, (_, i) => unknown(`t${i}`, 2000));
    expect(() => b.served.learn({ tables: wide })).toThrow(/20000/);
    expect(contents(b)).toEqual(before);
  });
});

describe('a column with a policy', () => {
  it('[C10] that has another name here is joined in a row that waits', async () => {
    const ddl = (column: string): string =>
      `CREATE TABLE pages (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES pages (id), ${column} INTEGER NOT NULL DEFAULT 0);`;
    const config = (column: string, more: object = {}) => ({
      tables: { pages: { columns: { [column]: { merge: 'counter' } }, ...more } },
    });
    const a = new Replica({ device: 'A', ddl: ddl('hits'), config: config('hits') });
    const renamed = config('visits', { renamedColumns: { visits: 'hits' } });
    const b = new Replica({ device: 'B', ddl: ddl('visits'), config: renamed });
    converge([a, b]);
    a.write('INSERT INTO pages VALUES (1, NULL, 0), (2, 1, 5)');
    const [whole] = pagesFor(b, a, 100) as [Uint8Array];
    a.write('UPDATE pages SET hits = hits + 1 WHERE id = 2');
    const later = pagesFor(b, a, 100)[0] as Uint8Array;
    // The child alone, twice: its parent has not come.
    for (const page of [whole, later]) {
      b.apply('A', inTheMiddle(altered(page, (batch) => instead(batch, 'pages', onlyChildren(table(batch, 'pages'))))));
    }
    expect(b.waiting()).toEqual(['missing-target']);
    b.apply('A', whole);
    converge([a, b]);
    expect(b.rows('SELECT visits FROM pages ORDER BY visits')).toEqual([[0], [6]]);
    await expectEqual(a, b);
  });
});

/** The rows of a table that refer to another one. */
function onlyChildren(of: TableData): TableData {
  const parents = of.columns.find(({ kind }) => kind === 'ref');
  const at = parents?.kind === 'ref' ? parents.refs.findIndex((ref) => ref >= 0) : -1;
  const one = <T>(list: readonly T[]): T[] => list.slice(at, at + 1);
  const entries = of.registers?.row.flatMap((row, i) => (row === at ? [i] : [])) ?? [];
  const pick = <T>(list: readonly T[]): T[] => entries.map((i) => list[i] as T);
  return {
    ...of,
    rows: one(of.rows),
    hlc: one(of.hlc),
    run: one(of.run),
    columns: of.columns.map((column) =>
      column.kind === 'ref'
        ? { ...column, refs: one(column.refs) }
        : { kind: 'value', name: column.name, values: one(column.values) },
    ),
    cells: { row: [], column: [], hlc: [], run: [] },
    ...(of.registers === undefined
      ? {}
      : {
          registers: {
            row: pick(of.registers.row).map(() => 0),
            column: pick(of.registers.column),
            hlc: pick(of.registers.hlc),
            run: pick(of.registers.run),
            values: pick(of.registers.values),
            ints: Uint8Array.from(pick([...of.registers.ints])),
          },
        }),
  };
}

it('[H3] a stamp of this device’s run of today that it has not given is no stamp', async () => {
  const made = pageOf("INSERT INTO tags VALUES ('blue', '')");
  made.b.write("INSERT INTO tags VALUES ('mine', '')");
  made.b.stamp();
  const own = Buffer.from(made.b.library.ownRun() as string, 'hex');
  const { hlc } = made.b.library;
  expect(() =>
    made.b.apply(
      'A',
      encodeBatch(emptyBatch({ ...NO_END, complete: true, knowledge: { runs: new Uint8Array(own), hlc: [hlc + 1] } })),
    ),
  ).toThrow(/has written what it has not/);
  converge([made.a, made.b]);
  await expectEqual(made.a, made.b);
});
