/** Batches: exact values, limits, and the lies of a hostile peer, each of which must be a FlotillaError PROTOCOL. */
import { describe, expect, it } from 'vitest';
import { FlotillaError } from '../../src/errors.ts';
import {
  decodeBatch,
  encodeBatch,
  MAX_BATCH_BYTES,
  MAX_BATCH_CELLS,
  MAX_BATCH_COLUMNS,
  MAX_BATCH_ROWS,
  NO_STAMPS,
} from '../../src/protocol/batch.ts';
import { ByteReader, ByteWriter } from '../../src/protocol/bytes.ts';
import { TextBytes } from '../../src/protocol/text-bytes.ts';
import type { Batch, CellData, RegisterData, ColumnData, SqlValue, TableData } from '../../src/protocol/types.ts';
import { sampleBatch } from './protocol-samples.ts';

const protocolError = expect.objectContaining({ name: 'FlotillaError', code: 'PROTOCOL' });

/** The sample with its one table changed. */
function withTable(change: Partial<TableData>): Batch {
  // The stamps of the sample are of columns that a change may take away.
  const { registers, ...bare } = sampleBatch.tables[0]!;
  const stamps = change.columns === undefined ? { registers: registers! } : { cells: NO_STAMPS };
  return { ...sampleBatch, tables: [{ ...bare, ...stamps, ...change }] };
}

function withCells(change: Partial<CellData>): Batch {
  return withTable({ cells: { row: [0], column: [0], hlc: [1], run: [0], ...change } });
}

function withRegisters(change: Partial<RegisterData>): Batch {
  return withTable({
    registers: { row: [0], column: [0], hlc: [1], run: [0], values: [1], ints: Uint8Array.of(1), ...change },
  });
}

/** A batch of `rows` rows of table `t`, all of them the one UUID there is. */
function sized(rows: number, columns: readonly ColumnData[]): Batch {
  const zeros = new Array<number>(rows).fill(0);
  return {
    ...sampleBatch,
    uuids: new Uint8Array(16),
    birthHlc: [1],
    birthRun: [0],
    uuidTable: [0],
    names: ['t'],
    tables: [{ table: 't', rows: zeros, hlc: zeros, run: zeros, columns, dependencies: [], cells: NO_STAMPS }],
    tombstones: [],
  };
}

/** The values of one column after the way over the wire. */
function roundTrip(values: readonly SqlValue[], ints?: Uint8Array): readonly SqlValue[] {
  const column: ColumnData = { kind: 'value', name: 'c', values, ...(ints && { ints }) };
  const [read] = decodeBatch(encodeBatch(sized(values.length, [column]))).tables[0]!.columns;
  if (read?.kind !== 'value') throw new Error('another kind of column came back');
  expect(read.ints).toEqual(ints);
  return read.values;
}

/** A text that is no UTF-8, by its hex digits. */
function broken(hex: string): TextBytes {
  return new TextBytes(Uint8Array.from(Buffer.from(hex, 'hex')));
}

describe('values', () => {
  it.each([
    ['integers of all sizes', [0, 1, -1, 255, 256, 65_536, 2 ** 31, -(2 ** 31), 2 ** 32, 2 ** 53 - 1, -(2 ** 53 - 1)]],
    ['counting up', Array.from({ length: 500 }, (_, i) => 1e12 + i * 1000)],
    ['reals', [0.1, -0, 0, Infinity, -Infinity, 5e-324, 1.7976931348623157e308, 2 ** 53, 2 ** 60]],
    ['bigints, small ones too', [0n, 1n, -1n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)]],
    ['texts', ['', 'a\0b', '\0', '\u{1F600}\u{10FFFF}', '\uFEFF', `\uFEFF${'é'.repeat(100)}`, 'x'.repeat(70_000)]],
    ['a leading byte order mark', [`\uFEFF${'x'.repeat(100)}`, '\uFEFF']],
    ['blobs', [new Uint8Array(0), Uint8Array.of(0, 255), new Uint8Array(70_000).fill(7)]],
    ['texts that are no UTF-8', [broken('ff'), broken('00c080'), broken(`${'ff'.repeat(70_000)}`)]],
    ['nothing', [null, null]],
    [
      'all at once',
      [null, 1, broken('ff'), 1.5, -0, 2n, 'x', Uint8Array.of(1), broken('c3'), null, '', 3n, 2 ** 53 - 1],
    ],
    ['no rows', []],
  ] as const)('%s come back with their types', (_name, values) => {
    expect(roundTrip(values)).toStrictEqual(values);
  });

  it('marks of INTEGER values come back', () => {
    expect(roundTrip([5, 5, 7n, 'x', null], Uint8Array.of(1, 0, 1, 0, 0))).toEqual([5, 5, 7n, 'x', null]);
  });

  it('blobs given as Buffers come back as plain arrays of bytes', () => {
    expect(roundTrip([Buffer.from('ab')])).toStrictEqual([Uint8Array.of(0x61, 0x62)]);
  });

  it.each([
    ['NaN', Number.NaN],
    ['an integer beyond 64 bits', 2n ** 63n],
    ['undefined', undefined],
    ['a boolean', true],
    ['an object', {}],
    ['a list', [1]],
  ])('%s is refused', (_name, value) => {
    expect(() => roundTrip([value as SqlValue])).toThrow(protocolError);
  });
});

describe('an encoded batch', () => {
  it('fills an ArrayBuffer of its own, so that it can be transferred', () => {
    const bytes = encodeBatch(sampleBatch);
    expect([bytes.byteOffset, bytes.buffer.byteLength]).toEqual([0, bytes.length]);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    expect(decodeBatch(encodeBatch(sampleBatch))).toStrictEqual(sampleBatch);
  });

  it('is right whichever piece makes the buffer grow', () => {
    const tail: readonly ColumnData[] = sampleBatch.tables[0]!.columns.map((column) =>
      column.kind === 'value'
        ? { ...column, values: column.values.slice(0, 1), ...(column.ints && { ints: Uint8Array.of(1) }) }
        : column,
    );
    const broken: number[] = [];
    for (let size = 16_384 - 600; size < 16_384; size += 1) {
      const head: ColumnData = { kind: 'value', name: 'head', values: [new Uint8Array(size)] };
      const batch = sized(1, [head, ...tail.filter((column) => column.kind === 'value')]);
      const bytes = encodeBatch(batch);
      if (Buffer.compare(bytes, encodeBatch(decodeBatch(bytes))) !== 0) broken.push(size);
    }
    expect(broken).toEqual([]);
  });

  it('takes almost no room for what counts up or stays the same', () => {
    const rows = 10_000;
    const column: ColumnData = { kind: 'value', name: 'c', values: Array.from({ length: rows }, (_, i) => 1e9 + i) };
    expect(encodeBatch(sized(rows, [column])).length).toBeLessThan(400);
  });
});

describe('what cannot be sent', () => {
  const longName = 'n'.repeat(1025);
  const column = (name: string): ColumnData => ({ kind: 'value', name, values: [null, null] });
  it.each<[string, Batch]>([
    ['a column shorter than its table', withTable({ columns: [{ kind: 'value', name: 'c', values: [1] }] })],
    ['stamps fewer than rows', withTable({ hlc: [1] })],
    ['runs more than rows', withTable({ run: [0, 0, 0] })],
    ['a row beyond the dictionary', withTable({ rows: [0, 4] })],
    ['a row that is none', withTable({ rows: [0, -1] })],
    ['a row of another table', withTable({ rows: [0, 3] })],
    ['a reference beyond the dictionary', withTable({ columns: [{ kind: 'ref', name: 'c', refs: [-1, 4] }] })],
    ['a reference below none', withTable({ columns: [{ kind: 'ref', name: 'c', refs: [-2, 0] }] })],
    ['a fraction for an index', withTable({ columns: [{ kind: 'ref', name: 'c', refs: [0.5, 0] }] })],
    ['a hole in a list', withTable({ hlc: new Array<number>(2) })],
    ['a run beyond the runs', withTable({ run: [0, 2] })],
    ['a negative hlc', withTable({ hlc: [-1, 1] })],
    ['an hlc beyond 2^53', withTable({ hlc: [2 ** 53, 1] })],
    ['a table that is not named', withTable({ table: 'other' })],
    ['a column twice', withTable({ columns: [column('a'), column('a')] })],
    ['a column named __proto__', withTable({ columns: [column('__proto__')] })],
    ['a column without a name', withTable({ columns: [column('')] })],
    ['a name too long', withTable({ columns: [column(longName)] })],
    ['a table named __proto__', { ...withTable({ table: '__proto__' }), names: ['__proto__', 'locations'] }],
    ['a table named twice', { ...sampleBatch, names: ['entries', 'entries'] }],
    ['a foreign key with a negative number', withTable({ dependencies: [{ foreignKey: -1, refs: [0, 0] }] })],
    ['a stamp of a row that is none', withCells({ row: [2] })],
    ['a stamp of a column that is none', withCells({ column: [9] })],
    ['a stamp by a run beyond the runs', withCells({ run: [2] })],
    ['stamps fewer than their rows', withCells({ hlc: [] })],
    ['entries without a value', withRegisters({ values: [], ints: new Uint8Array(0) })],
    ['entries that do not say whether they are integers', withRegisters({ ints: new Uint8Array(0) })],
    ['an entry of a column that is not there', withRegisters({ column: [9] })],
    ['an entry that is later than its row', withRegisters({ hlc: [2 ** 53 - 1] })],
    [
      'entries out of order',
      withRegisters({
        row: [1, 0],
        column: [0, 0],
        hlc: [1, 1],
        run: [0, 0],
        values: [1, 1],
        ints: Uint8Array.of(1, 1),
      }),
    ],
    ['an entry of an unknown run', withRegisters({ run: [7] })],
    ['an entry that is NaN', withRegisters({ values: [NaN], ints: Uint8Array.of(0) })],
    ['a stamp later than its row', withCells({ hlc: [2 ** 53 - 1] })],
    ['stamps out of order', withCells({ row: [1, 0], column: [0, 0], hlc: [1, 1], run: [0, 0] })],
    [
      'what a deleter had seen of no tombstone',
      {
        ...sampleBatch,
        tombstones: sampleBatch.tombstones.map((one) => ({ ...one, seen: { row: [1], hlc: [1], run: [0] } })),
      },
    ],
    [
      'marks fewer than rows',
      withTable({ columns: [{ kind: 'value', name: 'c', values: [1, 2], ints: Uint8Array.of(1) }] }),
    ],
    [
      'a mark on a text',
      withTable({ columns: [{ kind: 'value', name: 'c', values: [1, 'x'], ints: Uint8Array.of(1, 1) }] }),
    ],
    [
      'a mark on a fraction',
      withTable({ columns: [{ kind: 'value', name: 'c', values: [1, 1.5], ints: Uint8Array.of(1, 1) }] }),
    ],
    ['runs that do not fit their devices', { ...sampleBatch, runDevices: ['x'] }],
    ['a dictionary cut short', { ...sampleBatch, uuids: sampleBatch.uuids.subarray(1) }],
    ['births fewer than UUIDs', { ...sampleBatch, birthHlc: [1] }],
    [
      'a cursor without a run',
      { ...sampleBatch, end: { ...sampleBatch.end, cursor: { position: 0, head: 0, run: '' } } },
    ],
    ['a negative rest', { ...sampleBatch, end: { ...sampleBatch.end, remaining: -1 } }],
    ['knowledge in the middle of a pass', { ...sampleBatch, end: { ...sampleBatch.end, complete: false } }],
    ['too many rows', sized(MAX_BATCH_ROWS + 1, [])],
    [
      'too many columns',
      withTable({ columns: Array.from({ length: MAX_BATCH_COLUMNS + 1 }, (_, i) => column(`c${i}`)) }),
    ],
  ])('%s', (_name, batch) => {
    expect(() => encodeBatch(batch)).toThrow(protocolError);
  });

  it('more values than the limit', () => {
    const rows = MAX_BATCH_CELLS / 1000;
    const values = new Array<null>(rows).fill(null);
    const columns = (count: number) =>
      Array.from({ length: count }, (_, i): ColumnData => ({ kind: 'value', name: `c${i}`, values }));
    expect(decodeBatch(encodeBatch(sized(rows, columns(1000)))).tables[0]?.columns).toHaveLength(1000);
    expect(() => encodeBatch(sized(rows, columns(1001)))).toThrow(protocolError);
  });

  it('more bytes than a frame holds', () => {
    const blob = (size: number): ColumnData => ({ kind: 'value', name: 'c', values: [new Uint8Array(size)] });
    expect(encodeBatch(sized(1, [blob(MAX_BATCH_BYTES - 2000)])).length).toBeGreaterThan(MAX_BATCH_BYTES - 2000);
    expect(() => encodeBatch(sized(1, [blob(MAX_BATCH_BYTES)]))).toThrow(protocolError);
  });
});

describe('hostile bytes', () => {
  const good = encodeBatch(sampleBatch);
  /** Offset at which a text stands in the encoded sample. */
  const find = (text: string): number => Buffer.from(good).indexOf(text);
  const changed = (at: number, ...bytes: number[]): Uint8Array => {
    const copy = good.slice();
    copy.set(bytes, at);
    return copy;
  };

  it.each<[string, Uint8Array]>([
    ['nothing', new Uint8Array(0)],
    ['another format', changed(0, 2)],
    ['2^32 − 1 runs', changed(1, 255, 255, 255, 255)],
    ['something after the end', Uint8Array.of(...good, 0)],
    ['a name that is not UTF-8', changed(find('entries'), 0xff)],
    ['a name with a length beyond the end', changed(find('entries') - 4, 255, 3, 0, 0)],
    ['a column renamed to one that is there', changed(find('score') - 4, 4, 0, 0, 0)],
    ['larger than a batch may be', new Uint8Array(MAX_BATCH_BYTES + 1)],
  ])('%s', (_name, bytes) => {
    expect(() => decodeBatch(bytes)).toThrow(protocolError);
  });

  it('renaming a table to __proto__ is refused and pollutes nothing', () => {
    const batch = { ...withTable({ table: 'proto1234' }), names: ['proto1234', 'locations'], tombstones: [] };
    const bytes = Buffer.from(encodeBatch(batch));
    bytes.write('__proto__', bytes.indexOf('proto1234'));
    expect(() => decodeBatch(bytes)).toThrow(protocolError);
    expect(Object.keys(Object.prototype)).toEqual([]);
  });

  it('every cut fails', () => {
    for (let length = 0; length < good.length; length += 1) {
      expect(() => decodeBatch(good.subarray(0, length)), `${length} bytes`).toThrow(protocolError);
    }
  });

  it('every flipped bit fails or gives another valid batch', () => {
    const accidents: string[] = [];
    for (let bit = 0; bit < good.length * 8; bit += 1) {
      try {
        const result = decodeBatch(changed(bit >> 3, good[bit >> 3]! ^ (1 << (bit & 7))));
        const bytes = encodeBatch(result);
        if (Buffer.compare(bytes, encodeBatch(decodeBatch(bytes))) !== 0)
          accidents.push(`bit ${bit}: not a valid batch`);
      } catch (error) {
        if (!(error instanceof FlotillaError && error.code === 'PROTOCOL'))
          accidents.push(`bit ${bit}: ${String(error)}`);
      }
    }
    expect(accidents).toEqual([]);
  });

  it('a NaN among reals is refused', () => {
    const real = new Uint8Array(Float64Array.of(1.5).buffer);
    expect(() => decodeBatch(changed(Buffer.from(good).indexOf(real), 0, 0, 0, 0, 0, 0, 0xf8, 0x7f))).toThrow(
      protocolError,
    );
  });

  it('a text written as bytes though it is UTF-8 is refused: one value has one form', () => {
    const bytes = encodeBatch(sized(1, [{ kind: 'value', name: 'c', values: [broken('616263ff')] }]));
    bytes.set(Buffer.from('d'), Buffer.from(bytes).indexOf('abc') + 3);
    expect(() => decodeBatch(bytes)).toThrow(/as bytes without need/);
    expect(() => broken('616263')).toThrow(RangeError);
  });

  it('texts that are longer together than they say are refused', () => {
    const bytes = encodeBatch(sized(2, [{ kind: 'value', name: 'c', values: ['abc', 'abc'] }]));
    // Both lengths are one constant, 3: five bytes and more before the text.
    const at = Buffer.from(bytes).indexOf('abcabc') - 12;
    expect([...bytes.subarray(at, at + 8)]).toEqual([...new Uint8Array(Float64Array.of(3).buffer)]);
    bytes.set(new Uint8Array(Float64Array.of(2).buffer), at);
    expect(() => decodeBatch(bytes)).toThrow(/not as long/);
  });

  /** The start of a batch of one UUID and, in each of `groups` groups, `rows` rows that take no room. */
  function bomb(groups: number, rows: number): ByteWriter {
    const writer = new ByteWriter();
    writer.byte(1);
    writer.count(1);
    writer.raw(new Uint8Array(16));
    writer.text('');
    writer.count(1);
    writer.text('t');
    writer.count(1);
    writer.raw(new Uint8Array(16));
    for (const list of [[1], [0], [0]]) writer.integers(list, 0, 1, 'list');
    writer.count(groups);
    for (let group = 0; group < groups; group += 1) {
      writer.count(0);
      writer.count(rows);
      for (let list = 0; list < 3; list += 1) writer.integers(new Array<number>(rows).fill(0), 0, 0, 'list');
      if (group < groups - 1) writer.raw(new Uint8Array(13));
    }
    return writer;
  }

  it.each(['columns', 'dependencies'])(
    'a few bytes that claim a hundred million values in %s are refused before they are made',
    (kind) => {
      const writer = bomb(1, MAX_BATCH_ROWS);
      if (kind === 'dependencies') writer.count(0);
      writer.count(MAX_BATCH_COLUMNS);
      const bytes = writer.finish();
      expect(bytes.length).toBeLessThan(200);
      expect(() => decodeBatch(bytes)).toThrow(/values/);
    },
  );

  it('a few bytes that claim ever more rows are refused', () => {
    expect(() => decodeBatch(bomb(2, MAX_BATCH_ROWS / 2 + 1).finish())).toThrow(/more than 100000 rows/);
  });
});

describe('integers', () => {
  const read = (bytes: readonly number[], length: number) =>
    new ByteReader(Uint8Array.from(bytes)).integers(length, 0, 100, 'list');
  const double = (value: number): number[] => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value, true);
    return [...bytes];
  };

  it('are read as they are meant', () => {
    expect(read([0, ...double(7)], 3)).toEqual([7, 7, 7]);
    expect(read([1, ...double(7), 0, 93], 2)).toEqual([7, 100]);
    expect(read([0x10, ...double(7), ...double(-1)], 3)).toEqual([7, 6, 5]);
  });

  it.each([
    ['an unknown width', [3, ...double(0), 0, 0, 0], 1],
    ['unknown flags', [0x21, ...double(0), 0], 1],
    ['steps without a width that fits them', [0x18, ...double(0), ...double(0)], 2],
    ['a base that is no number', [0, ...double(Number.NaN)], 1],
    ['a base with a fraction', [0, ...double(0.5)], 1],
    ['a constant out of bounds', [0, ...double(101)], 1],
    ['an offset out of bounds', [1, ...double(7), 94], 1],
    ['steps that leave the bounds', [0x10, ...double(99), ...double(1)], 3],
    ['steps that leave the bounds and come back', [0x11, ...double(0), ...double(-1), 0, 2], 3],
    ['steps that leave all numbers', [0x10, ...double(0), ...double(2 ** 53 - 1)], 4],
    ['raw numbers that are none', [8, ...double(Number.NaN)], 1],
    ['raw numbers with fractions', [8, ...double(1.5)], 1],
    ['fewer than promised', [1, ...double(7), 0], 2],
  ] as const)('%s are refused', (_name, bytes, length) => {
    expect(() => read(bytes, length)).toThrow(protocolError);
  });
});
