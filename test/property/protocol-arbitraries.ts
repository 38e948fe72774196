/** What the property tests of the protocol draw from: batches, stamps and knowledges, with the values that break codecs. */
import fc from 'fast-check';
import { Knowledge } from '../../src/protocol/knowledge.ts';
import { TextBytes } from '../../src/protocol/text-bytes.ts';
import type { SchemaDescription } from '../../src/protocol/schema.ts';
import type {
  Batch,
  ColumnData,
  Frame,
  SqlValue,
  StampList,
  TableData,
  TombstoneData,
} from '../../src/protocol/types.ts';

/** Objects as programs write them: fast-check would also make some without a prototype, which strict equality tells apart. */
export function record<T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(fields, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

/** Knowledges and stamps meet only if they name the same few runs. */
export const run = fc.constantFrom('00'.repeat(16), '0a'.repeat(16), 'a0'.repeat(16), 'ff'.repeat(16), '80'.repeat(16));
export const anyRun = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString('hex'));
export const hlc = fc.oneof(
  fc.nat(5),
  fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  fc.constantFrom(0, 2 ** 32, Number.MAX_SAFE_INTEGER),
);
export const stamp = record({ hlc, run });
export const knowledge = fc.array(fc.tuple(run, hlc), { maxLength: 6 }).map((entries) => new Knowledge(entries));

/** Text that is no UTF-8: some bytes that cannot be, between any others. */
export const textBytes = fc
  .tuple(
    fc.uint8Array({ maxLength: 10 }),
    fc.constantFrom('ff', 'c080', 'eda080', 'f4908080'),
    fc.uint8Array({ maxLength: 10 }),
  )
  .map(([before, broken, after]) => new TextBytes(Uint8Array.of(...before, ...Buffer.from(broken, 'hex'), ...after)));

/** Any value that SQLite can hold. `binary` text has NUL, astral characters and everything else but lone surrogates. */
export const sqlValue: fc.Arbitrary<SqlValue> = fc.oneof(
  fc.constant(null),
  fc.double({ noNaN: true }),
  fc.maxSafeInteger(),
  fc.integer({ min: -300, max: 300 }),
  fc.constantFrom(0, -0, 5, 5.5, Infinity, -Infinity, Number.MIN_VALUE, Number.MAX_VALUE, 2 ** 53, -(2 ** 53), 1e300),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.constantFrom(0n, 5n, -1n, 2n ** 63n - 1n, -(2n ** 63n)),
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.constantFrom(
    '',
    '\0',
    'a\0b',
    '\u{1F600}',
    '\uFEFFwith a mark',
    `\uFEFF${'x'.repeat(100)}`,
    '__proto__',
    'é'.repeat(200),
  ),
  fc.uint8Array({ maxLength: 40 }),
  textBytes,
);

/** Columns of one type are written in another way than mixed ones. */
function values(rows: number): fc.Arbitrary<SqlValue[]> {
  const list = <T extends SqlValue>(one: fc.Arbitrary<T>) =>
    fc.array(one as fc.Arbitrary<SqlValue>, { minLength: rows, maxLength: rows });
  return fc.oneof(
    list(sqlValue),
    list(fc.oneof(fc.constant(null), fc.string())),
    list(fc.string({ unit: 'binary' })),
    list(fc.double({ noNaN: true })),
    list(fc.maxSafeInteger()),
    fc
      .tuple(fc.maxSafeInteger(), fc.integer({ min: -70_000, max: 70_000 }))
      .map(([first, step]) => counting(rows, first, step)),
    list(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
    list(fc.uint8Array({ maxLength: 20 })),
    list(textBytes),
    list(fc.constant(null)),
  );
}

function counting(rows: number, first: number, step: number): number[] {
  return Array.from({ length: rows }, (_, i) => first + i * step).map((value) =>
    Number.isSafeInteger(value) ? value : 0,
  );
}

const name = fc.oneof(
  fc.string({ minLength: 1, maxLength: 12 }),
  fc.constantFrom('order', 'constructor', 'toString', 'ü "x"', 'a\0b'),
);
const properName = name.filter((text) => text !== '__proto__');

function numbers(length: number, one: fc.Arbitrary<number>): fc.Arbitrary<number[]> {
  return fc.array(one, { minLength: length, maxLength: length });
}

function column(rows: number, uuids: number): fc.Arbitrary<ColumnData> {
  const references = numbers(rows, fc.integer({ min: -1, max: uuids - 1 }));
  return fc.oneof(
    fc.tuple(properName, references).map(([columnName, refs]): ColumnData => ({ kind: 'ref', name: columnName, refs })),
    fc
      .tuple(properName, values(rows))
      .map(([columnName, list]): ColumnData => ({ kind: 'value', name: columnName, values: list })),
    fc.tuple(properName, values(rows)).map(([columnName, list]): ColumnData => {
      const ints = Uint8Array.from(list, (value) => (typeof value === 'bigint' || Number.isInteger(value) ? 1 : 0));
      return { kind: 'value', name: columnName, values: list, ints };
    }),
  );
}

/** The rows of a table are those that the dictionary gives it, in any order, any number of times. */
function group(
  table: string,
  candidates: readonly number[],
  runs: number,
): fc.Arbitrary<Omit<TombstoneData, 'seen' | 'alias'>> {
  const rows = candidates.length === 0 ? fc.constant([]) : fc.array(fc.constantFrom(...candidates), { maxLength: 30 });
  return rows.chain((list) =>
    record({
      table: fc.constant(table),
      rows: fc.constant(list),
      hlc: numbers(list.length, hlc),
      run: numbers(list.length, fc.nat(runs - 1)),
    }),
  );
}

/** Tombstones, some with what their deleter had seen. */
function graves(tableName: string, candidates: readonly number[], runs: number): fc.Arbitrary<TombstoneData> {
  return group(tableName, candidates, runs).chain((head) =>
    fc
      .tuple(stamps(head.hlc, runs), numbers(head.rows.length, fc.constantFrom(-1, ...candidates)))
      .map(([seen, alias]): TombstoneData => ({ ...head, seen, alias })),
  );
}

/** Stamps of some rows, in their order. @param changes - hlc of each row's last change */
function stamps(changes: readonly number[], runs: number): fc.Arbitrary<StampList> {
  const rows = changes.length;
  const entry = fc.tuple(fc.nat(Math.max(0, rows - 1)), hlc, fc.nat(runs - 1));
  return fc.array(entry, { maxLength: rows === 0 ? 0 : 10 }).map((list) => {
    const sorted = list.toSorted(([a], [b]) => a - b);
    return {
      row: sorted.map(([row]) => row),
      hlc: sorted.map(([row, at]) => Math.min(at, changes[row] ?? 0)),
      run: sorted.map(([, , run]) => run),
    };
  });
}

function table(tableName: string, candidates: readonly number[], runs: number, uuids: number): fc.Arbitrary<TableData> {
  return group(tableName, candidates, runs).chain((head) => {
    const rows = head.rows.length;
    const references = numbers(rows, fc.integer({ min: -1, max: uuids - 1 }));
    return record({
      table: fc.constant(head.table),
      rows: fc.constant(head.rows),
      hlc: fc.constant(head.hlc),
      run: fc.constant(head.run),
      columns: fc.uniqueArray(column(rows, uuids), { maxLength: 5, selector: (one) => one.name }),
      dependencies: fc.array(record({ foreignKey: fc.nat(20), refs: references }), { maxLength: 2 }),
    }).chain((body) => {
      const { length } = body.columns;
      return stamps(length === 0 ? [] : body.hlc, runs).chain((list) =>
        numbers(list.row.length, fc.nat(Math.max(0, length - 1))).chain((columns) => {
          const withCells: TableData = { ...body, cells: { ...list, column: columns } };
          const entries = fc.array(fc.oneof(fc.maxSafeInteger(), fc.double({ noNaN: true }), fc.string()), {
            minLength: columns.length,
            maxLength: columns.length,
          });
          // The same stamps again, as entries with values.
          return fc.option(entries, { nil: undefined }).map((values): TableData =>
            values === undefined
              ? withCells
              : {
                  ...withCells,
                  registers: {
                    ...withCells.cells,
                    values,
                    ints: Uint8Array.from(values, (value) =>
                      Number.isSafeInteger(value) && !Object.is(value, -0) ? 1 : 0,
                    ),
                  },
                },
          );
        }),
      );
    });
  });
}

const end = record({
  position: fc.maxSafeNat(),
  head: fc.maxSafeNat(),
  run: anyRun,
  remaining: fc.maxSafeNat(),
  complete: fc.boolean(),
  knowledge,
  floor: fc.option(knowledge),
  lost: fc.option(fc.uniqueArray(properName, { maxLength: 3 })),
}).map(({ position, head, run: cursorRun, remaining, complete, knowledge: known, floor, lost }) => ({
  cursor: { position, head, run: cursorRun },
  complete,
  knowledge: complete ? known.toWire() : { runs: new Uint8Array(0), hlc: [] },
  remaining,
  ...(complete && floor !== null ? { floor: floor.toWire(), ...(lost === null ? {} : { lost }) } : {}),
}));

/** Any batch that the database could build. */
export const batch: fc.Arbitrary<Batch> = record({
  runDevices: fc.array(fc.oneof(fc.constant(''), fc.string({ maxLength: 20 })), { minLength: 1, maxLength: 4 }),
  names: fc.uniqueArray(properName, { minLength: 1, maxLength: 4 }),
  uuids: fc.integer({ min: 1, max: 40 }),
}).chain(({ runDevices, names, uuids }) =>
  record({
    runs: fc.uint8Array({ minLength: runDevices.length * 16, maxLength: runDevices.length * 16 }),
    runDevices: fc.constant(runDevices),
    uuids: fc.uint8Array({ minLength: uuids * 16, maxLength: uuids * 16 }),
    birthHlc: numbers(uuids, hlc),
    birthRun: numbers(uuids, fc.nat(runDevices.length - 1)),
    uuidTable: numbers(uuids, fc.nat(names.length - 1)),
    names: fc.constant(names),
    end,
  }).chain((head) => {
    const of = (index: number) => head.uuidTable.flatMap((tableIndex, uuid) => (tableIndex === index ? [uuid] : []));
    const tables = names.map((tableName, index) => table(tableName, of(index), runDevices.length, uuids));
    const tombstones = names.map((tableName, index) => graves(tableName, of(index), runDevices.length));
    return record({ tables: fc.tuple(...tables), tombstones: fc.tuple(...tombstones) }).map((body): Batch => ({
      ...head,
      ...body,
    }));
  }),
);

const wireName = properName.filter((one) => Buffer.byteLength(one) <= 100);
const names = fc.array(wireName, { maxLength: 3 });

/** What a device could say of its tables. */
export const schemaDescription: fc.Arbitrary<SchemaDescription> = record({
  tables: fc.uniqueArray(
    record({
      name: wireName,
      ownership: fc.constantFrom('shared' as const, 'device' as const),
      ownedBy: fc.oneof(fc.constant(''), wireName),
      identity: fc.option(names),
      key: names,
      collations: fc.array(fc.constantFrom('BINARY', 'NOCASE', 'RTRIM'), { maxLength: 3 }),
      columns: fc.uniqueArray(
        record({
          name: wireName,
          kind: fc.constantFrom('value' as const, 'ref' as const, 'rowid' as const),
          target: fc.oneof(fc.constant(''), wireName),
          type: fc.constantFrom(
            'INTEGER' as const,
            'TEXT' as const,
            'BLOB' as const,
            'REAL' as const,
            'NUMERIC' as const,
          ),
          notNull: fc.boolean(),
          policy: fc.constantFrom('', 'counter', 'max'),
          absent: fc.boolean(),
        }),
        { maxLength: 5, selector: (one) => one.name },
      ),
      foreignKeys: fc.array(
        record({ columns: names, table: wireName, targets: names, onDelete: fc.constantFrom('CASCADE', 'NO ACTION') }),
        { maxLength: 2 },
      ),
      absent: fc.boolean(),
    }),
    { maxLength: 4, selector: (one) => one.name },
  ),
});

const text = fc.string({ unit: 'binary', maxLength: 40 });
const hex = fc.uint8Array({ minLength: 1, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'));
const cursor = record({ position: fc.maxSafeNat(), head: fc.maxSafeNat(), run: anyRun });
const tableName = fc.string({ minLength: 1, maxLength: 10 }).filter((name) => name !== '__proto__');
/** Frames that a node could send, of each type: the compiler sees to it that none is left out. */
export const frames: { readonly [T in Frame['type']]: fc.Arbitrary<Extract<Frame, { type: T }>> } = {
  hello: record({
    type: fc.constant('hello' as const),
    protocol: fc.nat(),
    library: hex,
    name: text,
    schema: hex,
    clock: fc.maxSafeNat(),
    knowledge: hex,
    head: record({ lsn: fc.maxSafeNat(), run }),
    floor: hex,
    heard: hex,
    load: fc.maxSafeNat(),
  }),
  floor: record({ type: fc.constant('floor' as const), floor: knowledge.map((known) => known.toWire()) }),
  want: fc.oneof(
    record({
      type: fc.constant('want' as const),
      pass: fc.constantFrom('ordinary' as const, 'newcomer' as const, 'reconcile' as const),
      cursor: fc.option(cursor),
      knowledge: fc.option(knowledge.map((known) => known.toWire())),
      records: fc.constantFrom('00', 'ab'.repeat(16)),
      credit: fc.integer({ min: 1, max: 2 ** 30 }),
      isOver: fc.constant(false),
    }),
    record({
      type: fc.constant('want' as const),
      pass: fc.constant('ordinary' as const),
      cursor: cursor.map((at) => ({ ...at, position: at.head })),
      knowledge: fc.constant(null),
      records: hex,
      credit: fc.integer({ min: 1, max: 2 ** 30 }),
      isOver: fc.constant(true),
    }),
  ),
  batch: record({ type: fc.constant('batch' as const), data: fc.uint8Array() }),
  ack: record({
    type: fc.constant('ack' as const),
    cursor,
    complete: fc.boolean(),
    credit: fc.nat(2 ** 30),
    knowledge: knowledge.map((known) => known.toWire()),
  }),
  keep: record({ type: fc.constant('keep' as const), needed: fc.boolean() }),
  rest: record({ type: fc.constant('rest' as const), rests: fc.boolean() }),
  has: record({ type: fc.constant('has' as const), data: fc.uint8Array({ maxLength: 40 }) }),
  offer: record({ type: fc.constant('offer' as const), knowledge: knowledge.map((known) => known.toWire()) }),
  heard: record({
    type: fc.constant('heard' as const),
    members: fc.array(
      record({
        device: fc.string({ minLength: 1, maxLength: 60 }),
        at: fc.maxSafeNat(),
        knowledge: knowledge.map((known) => known.toWire()),
        whole: fc.boolean(),
      }),
      { maxLength: 4 },
    ),
  }),
  inspect: record({
    type: fc.constant('inspect' as const),
    id: fc.maxSafeNat(),
    query: fc.oneof(
      fc.constant({ kind: 'tables' as const }),
      record({ kind: fc.constant('buckets' as const), table: tableName }),
      record({ kind: fc.constant('rows' as const), table: tableName, bucket: fc.nat(255) }),
    ),
  }),
  inspected: record({
    type: fc.constant('inspected' as const),
    id: fc.maxSafeNat(),
    answer: fc.oneof(
      record({
        kind: fc.constant('tables' as const),
        tables: fc.dictionary(
          fc.oneof(tableName, fc.constant('constructor')),
          record({ rows: fc.maxSafeNat(), digest: hex }),
        ),
      }),
      record({ kind: fc.constant('buckets' as const), digests: fc.array(hex) }),
      record({ kind: fc.constant('rows' as const), rows: fc.array(fc.tuple(hex, hex)) }),
    ),
  }),
  schema: record({ type: fc.constant('schema' as const), schema: schemaDescription }),
  refuse: record({ type: fc.constant('refuse' as const), code: text, message: text }),
  bye: record({ type: fc.constant('bye' as const), reason: text }),
  fetch: record({ type: fc.constant('fetch' as const), layout: hex }),
  snapshot: record({
    type: fc.constant('snapshot' as const),
    id: hex,
    bytes: fc.nat(2 ** 30),
    hash: hex,
    rows: fc.maxSafeNat(),
  }),
  part: record({ type: fc.constant('part' as const), id: hex, offset: fc.nat(2 ** 30) }),
  chunk: record({ type: fc.constant('chunk' as const), data: fc.uint8Array() }),
};

/** Any frame that a node could send. */
export const frame: fc.Arbitrary<Frame> = fc.oneof(...Object.values<fc.Arbitrary<Frame>>(frames));
