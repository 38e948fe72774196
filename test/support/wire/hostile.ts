/**
 * Batches that are well written and mean harm, applied to a library: rows, stamps, runs, names, references and ends exchanged
 * for others. Applying one may change what a member may change, or fail as a FlotillaError with nothing changed; the file must
 * keep its constraints, its triggers and its metadata either way.
 */
import { decodeBatch, encodeBatch } from '../../../src/protocol/batch.ts';
import { FlotillaError } from '../../../src/errors.ts';
import type { Batch, SqlValue } from '../../../src/protocol/types.ts';
import type { Chance } from '../random/chance.ts';
import { fleetOf, pagesFor } from '../engine.ts';
import { FOUNDED_ID, converge } from '../replica.ts';
import type { Replica } from '../replica.ts';
import { damaged, EVIL_NAMES } from './damage.ts';
import type { Target } from './targets.ts';

const DDL = `
CREATE TABLE notes (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES notes (id) ON DELETE CASCADE, body TEXT NOT NULL, size INTEGER, any_ ANY);
CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, hits INTEGER NOT NULL DEFAULT 0);
CREATE TABLE note_tags (note_id INTEGER REFERENCES notes (id) ON DELETE CASCADE, tag_id INTEGER REFERENCES tags (id) ON DELETE CASCADE, PRIMARY KEY (note_id, tag_id));
CREATE TABLE volumes (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE entries (id INTEGER PRIMARY KEY, name TEXT, volume_id INTEGER NOT NULL REFERENCES volumes (id) ON DELETE RESTRICT);
CREATE TABLE pairs (a TEXT, b TEXT, note_id INTEGER REFERENCES notes (id) ON DELETE SET NULL, PRIMARY KEY (a, b));
CREATE TABLE uses (id INTEGER PRIMARY KEY, a TEXT, b TEXT, FOREIGN KEY (a, b) REFERENCES pairs (a, b) ON DELETE SET NULL);
`;
const CONFIG = {
  tables: {
    tags: { columns: { hits: { merge: 'counter' } } },
    volumes: { ownership: 'device' },
    entries: { ownedBy: 'volume_id' },
  },
};
const CONTENT = `
INSERT INTO notes VALUES (1, NULL, 'root', 1, 1.5), (2, 1, 'leaf', 2, x'00'), (3, 2, 'leaf of leaf', NULL, 'x');
INSERT INTO tags VALUES (1, 'red', 1), (2, 'blue', 2);
INSERT INTO note_tags VALUES (1, 1), (2, 2), (3, 1);
INSERT INTO volumes VALUES (1, 'disk');
INSERT INTO entries VALUES (1, 'file', 1), (2, 'other', 1);
INSERT INTO pairs VALUES ('a', 'b', 1), ('c', 'd', NULL);
INSERT INTO uses VALUES (1, 'a', 'b'), (2, NULL, NULL);
`;
/** What the attacker writes afterwards: pages that carry these are not applied yet. */
const LATER = `
UPDATE notes SET body = 'changed', parent_id = 3 WHERE id = 2;
UPDATE notes SET parent_id = NULL WHERE id = 3;
DELETE FROM notes WHERE id = 1;
INSERT INTO notes VALUES (10, 3, 'new', 4, NULL);
UPDATE tags SET hits = hits + 5;
INSERT INTO tags VALUES (3, 'green', 0);
DELETE FROM pairs WHERE a = 'a';
DELETE FROM note_tags WHERE note_id = 3;
`;
const VALUES: readonly SqlValue[] = [null, 0, -1, 1.5, 2n ** 62n, '', 'red', 'x', Uint8Array.of(1, 2), Infinity, 'a'];
const OPTIONS = { config: CONFIG, libraryId: FOUNDED_ID };
/** Tries to change a batch so that it is still one. */
const TRIES = 12;
/** Hostile batches that are applied to one library one after the other, at most. */
const MAX_BATCHES = 4;

interface Siege {
  readonly pages: readonly Uint8Array[];
  readonly runs: readonly Uint8Array[];
  readonly backup: Buffer;
  readonly victim: Replica;
}

function besiege(): Siege {
  const [victim, attacker, other] = fleetOf(3, DDL, OPTIONS) as [Replica, Replica, Replica];
  attacker.write(CONTENT);
  victim.write("INSERT INTO volumes VALUES (7, 'mine'); INSERT INTO notes VALUES (7, NULL, 'mine', 1, 1)");
  victim.found();
  for (const one of [attacker, other]) victim.admit(one);
  converge([victim, attacker, other]);
  attacker.write(LATER);
  attacker.stamp();
  const [fresh] = fleetOf(1, DDL, OPTIONS) as [Replica];
  const pages = [
    ...pagesFor(victim, attacker, 3),
    ...pagesFor(victim, attacker, 1000),
    ...pagesFor(fresh, attacker, 1000),
  ];
  const runs = [...victim.library.knowledge().keys()].map((run) => new Uint8Array(Buffer.from(run, 'hex')));
  return { pages, runs, backup: victim.backup(), victim };
}

/** The parts of a target that applies some batches one after the other to a library of their own. */
export function hostileApply(): Pick<Target, 'open' | 'read'> {
  let siege: Siege | null = null;
  return {
    open() {
      siege ??= besiege();
      const { pages, runs } = siege;
      return (chance) => {
        const batches = Array.from({ length: chance.between(1, MAX_BATCHES) }, () =>
          hostile(chance.pick(pages), chance, chance.pick(pages), runs),
        );
        return inOne(batches);
      };
    },
    read(bytes) {
      if (siege === null) throw new Error('nobody is there to be attacked');
      const victim = siege.victim.restored(siege.backup);
      try {
        return attack(victim, apart(bytes));
      } finally {
        victim.db.close();
      }
    },
  };
}

/** Applies batches; what is wrong with the library afterwards, '' for nothing. Throws the refusal of the last one. */
function attack(victim: Replica, batches: Iterable<Uint8Array>): string {
  let refusal: FlotillaError | null = null;
  for (const batch of batches) {
    const before = contents(victim);
    refusal = null;
    try {
      victim.apply('B', batch);
    } catch (error) {
      if (!(error instanceof FlotillaError)) throw error;
      refusal = error;
      if (contents(victim) !== before) return `a refused batch changed something: ${error.message}`;
    }
    const fault = faultOf(victim);
    if (fault !== '') return fault;
  }
  if (refusal !== null) throw refusal;
  return '';
}

/** Several batches as one message of the fuzz, each with its length before it. */
function inOne(batches: readonly Uint8Array[]): Uint8Array {
  const parts = batches.flatMap((batch) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(batch.length);
    return [length, batch];
  });
  return new Uint8Array(Buffer.concat(parts));
}

function* apart(bytes: Uint8Array): Generator<Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length;) {
    const length = view.getUint32(at);
    yield bytes.slice(at + 4, at + 4 + length);
    at += 4 + length;
  }
}

/** All that the file holds, but SQLite's own number of its schema. */
function contents(replica: Replica): string {
  const tables = replica
    .rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
    .map(([name]) => String(name));
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
  return JSON.stringify(
    tables.map((name) => [name, replica.rows(`SELECT * FROM ${quoted(name)}`).filter(([first]) => first !== 'cookie')]),
    (_key, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value),
  );
}

/** What is wrong with the file, '' for nothing. */
function faultOf(replica: Replica): string {
  if (replica.db.inTransaction) return 'a transaction was left open';
  if (replica.violations().length > 0) return 'a foreign key leads nowhere';
  if (replica.rows('SELECT suspended FROM flotilla_capture')[0]?.[0] !== 0) return 'capture was left suspended';
  if (replica.rows('SELECT 1 FROM flotilla_marks').length > 0) return 'applying left marks';
  if (replica.members() !== 'ABC' || replica.rows('SELECT 1 FROM flotilla_membership').length < 3)
    return 'it is another one who is a member';
  replica.write("INSERT INTO pairs VALUES ('probe', 'probe', NULL)");
  if (replica.stamp() !== 1) return 'a write is not captured any more';
  replica.write("DELETE FROM pairs WHERE a = 'probe'");
  replica.stamp();
  return '';
}

function hostile(page: Uint8Array, chance: Chance, other: Uint8Array, runs: readonly Uint8Array[]): Uint8Array {
  if (chance.is(0.15)) return damaged(page, chance, other);
  for (let tries = 0; tries < TRIES; tries += 1) {
    try {
      let batch = decodeBatch(page);
      for (let times = chance.between(1, 3); times > 0; times -= 1) batch = chance.pick(CHANGES)(batch, chance, runs);
      return encodeBatch(batch);
    } catch (error) {
      if (!(error instanceof FlotillaError)) throw error;
    }
  }
  return page;
}

type Change = (batch: Batch, chance: Chance, runs: readonly Uint8Array[]) => Batch;

/** A list with one of its numbers exchanged. */
function exchanged(list: readonly number[], chance: Chance): number[] {
  if (list.length === 0) return [];
  const copy = [...list];
  const at = chance.below(copy.length);
  const old = copy[at] ?? 0;
  copy[at] = chance.pick([chance.pick(list), 0, -1, old + 1, old - 1, old + 1_000_000, old + 10 ** 15, 1]);
  return copy;
}

function oneOf<T>(list: readonly T[], chance: Chance, change: (one: T) => T): T[] {
  if (list.length === 0) return [];
  const at = chance.below(list.length);
  return list.map((one, i) => (i === at ? change(one) : one));
}

const CHANGES: readonly Change[] = [
  (batch, chance) => ({ ...batch, birthHlc: exchanged(batch.birthHlc, chance) }),
  (batch, chance) => ({ ...batch, birthRun: exchanged(batch.birthRun, chance) }),
  (batch, chance) => ({ ...batch, uuidTable: exchanged(batch.uuidTable, chance) }),
  // One UUID for another: a row twice, under another table, or in place of another.
  (batch, chance) => {
    const uuids = batch.uuids.slice();
    const count = uuids.length / 16;
    const from = 16 * chance.below(Math.max(1, count));
    if (count > 0) uuids.copyWithin(16 * chance.below(count), from, from + 16);
    return { ...batch, uuids };
  },
  // Somebody else's run, also the victim's own.
  (batch, chance, runs) => {
    const copy = batch.runs.slice();
    const count = copy.length / 16;
    if (count > 0) copy.set(chance.pick(runs), 16 * chance.below(count));
    return { ...batch, runs: copy };
  },
  (batch, chance) => ({
    ...batch,
    runDevices: oneOf(batch.runDevices, chance, () => chance.pick(['', 'A', 'B', 'C', 'nobody', '__proto__'])),
  }),
  // Names: unknown, evil, exchanged.
  (batch, chance) => {
    const name = chance.pick([...EVIL_NAMES, ...batch.names, 'flotilla_membership', 'flotilla_transfers']);
    const old = chance.pick(batch.names.length === 0 ? [''] : batch.names);
    const renamed = (one: string): string => (one === old ? name : one);
    return {
      ...batch,
      names: batch.names.map(renamed),
      tables: batch.tables.map((table) => ({ ...table, table: renamed(table.table) })),
      tombstones: batch.tombstones.map((table) => ({ ...table, table: renamed(table.table) })),
    };
  },
  (batch, chance) => ({
    ...batch,
    tables: oneOf(batch.tables, chance, (table) => {
      const field = chance.pick(['rows', 'hlc', 'run'] as const);
      return { ...table, [field]: exchanged(table[field], chance) };
    }),
  }),
  (batch, chance) => ({
    ...batch,
    tombstones: oneOf(batch.tombstones, chance, (table) => {
      const field = chance.pick(['rows', 'hlc', 'run', 'alias'] as const);
      return { ...table, [field]: exchanged(table[field], chance) };
    }),
  }),
  // Columns: left out, renamed, of another kind, other values.
  (batch, chance) => ({
    ...batch,
    tables: oneOf(batch.tables, chance, (table) => ({
      ...table,
      columns: oneOf(table.columns, chance, (column) => {
        const { name } = column;
        const rows = table.rows.length;
        return chance.pick<() => typeof column>([
          () => ({ ...column, name: chance.pick([...EVIL_NAMES, 'id', 'unknown']) }),
          () => ({ kind: 'ref', name, refs: Array.from({ length: rows }, () => chance.between(-1, 3)) }),
          () => ({ kind: 'value', name, values: Array.from({ length: rows }, () => chance.pick(VALUES)) }),
          () => (column.kind === 'ref' ? { ...column, refs: exchanged(column.refs, chance) } : column),
          () =>
            column.kind === 'value'
              ? { ...column, values: oneOf(column.values, chance, () => chance.pick(VALUES)) }
              : column,
        ])();
      }),
    })),
  }),
  (batch, chance) => ({
    ...batch,
    tables: oneOf(batch.tables, chance, (table) => {
      const at = chance.below(table.columns.length + 1);
      const columns = table.columns.filter((_, i) => i !== at);
      const last = columns.length - 1;
      const clip = (list: readonly number[]): number[] => list.map((column) => Math.min(column, last));
      return {
        ...table,
        columns,
        cells: { ...table.cells, column: clip(table.cells.column) },
        ...(table.registers === undefined
          ? {}
          : { registers: { ...table.registers, column: clip(table.registers.column) } }),
      };
    }),
  }),
  (batch, chance) => ({
    ...batch,
    tables: oneOf(batch.tables, chance, (table) => {
      if (chance.is(0.3)) {
        const { registers: _registers, ...rest } = table;
        return rest;
      }
      const field = chance.pick(['row', 'column', 'hlc', 'run'] as const);
      if (table.registers !== undefined && chance.is(0.5))
        return { ...table, registers: { ...table.registers, [field]: exchanged(table.registers[field], chance) } };
      return { ...table, cells: { ...table.cells, [field]: exchanged(table.cells[field], chance) } };
    }),
  }),
  // Stamps of single columns that nobody wrote, those of ownership included.
  (batch, chance) => ({
    ...batch,
    tables: oneOf(batch.tables, chance, (table) => {
      if (table.rows.length === 0 || table.cells.row.length > 0) return table;
      const hlc = table.hlc[0] ?? 0;
      return {
        ...table,
        cells: {
          row: [0],
          column: [chance.between(-2, table.columns.length - 1)],
          hlc: [hlc],
          run: [table.run[0] ?? 0],
        },
      };
    }),
  }),
  (batch, chance) => ({
    ...batch,
    tables: oneOf(batch.tables, chance, (table) => ({
      ...table,
      dependencies: oneOf(table.dependencies, chance, ({ foreignKey, refs }) =>
        chance.is(0.5) ? { foreignKey: chance.below(100), refs } : { foreignKey, refs: exchanged(refs, chance) },
      ),
    })),
  }),
  // Tombstones for rows that are in the dictionary.
  (batch, chance) => {
    const index = chance.below(Math.max(1, batch.uuidTable.length));
    const table = batch.names[batch.uuidTable[index] ?? 0] ?? '';
    const grave = {
      table,
      rows: [index],
      hlc: [(batch.birthHlc[index] ?? 0) + chance.pick([0, 1, 1000])],
      run: [batch.birthRun[index] ?? 0],
      alias: [chance.pick([-1, index, 0])],
      seen: { row: [], hlc: [], run: [] },
    };
    return { ...batch, tombstones: [...batch.tombstones, grave] };
  },
  // Ends: another place, more than is true, knowledge of what never was.
  (batch, chance, runs) => {
    const { end } = batch;
    const run = Buffer.from(chance.pick(runs)).toString('hex');
    const cursor = chance.pick([end.cursor, { position: 0, head: 2 ** 50, run }, { position: 2 ** 50, head: 1, run }]);
    const hlc = chance.pick([0, 10 ** 15, ...batch.birthHlc]);
    const knowledge = chance.pick([
      end.knowledge,
      { runs: chance.pick(runs), hlc: [hlc] },
      { runs: new Uint8Array(16).fill(9), hlc: [hlc] },
    ]);
    const complete = chance.is(0.7);
    return {
      ...batch,
      end: {
        ...end,
        cursor,
        complete,
        knowledge: complete ? knowledge : { runs: new Uint8Array(0), hlc: [] },
        remaining: chance.pick([end.remaining, 0, 2 ** 53 - 1]),
      },
    };
  },
];
