/** Small messages that ask for much, and messages as long as they may be: each decoder must answer soon, in little memory. */
import { MAX_BATCH_BYTES, MAX_BATCH_GROUPS, MAX_BATCH_ROWS, BATCH_FORMAT } from '../../../src/protocol/batch.ts';
import { ByteWriter } from '../../../src/protocol/bytes.ts';
import { FRAME_TYPES, MAX_FRAME_BYTES } from '../../../src/protocol/frames.ts';

export type Bomb = readonly [name: string, make: () => Uint8Array];

/** How a list of integers says that all of them are the same, and how that they count up. */
const CONSTANT = 0;
const COUNTING = 0x10;
const DOUBLE_BYTES = 8;
/** Bytes of a column without a value in any of no rows, its name of four characters included. */
const EMPTY_COLUMN_BYTES = 10;

function constant(writer: ByteWriter, value: number): void {
  writer.byte(CONSTANT);
  writer.double(value);
}

/** A batch up to its groups: one run, one table, one row in the dictionary. */
function batchHead(): ByteWriter {
  const writer = new ByteWriter();
  writer.byte(BATCH_FORMAT);
  writer.count(1);
  writer.raw(new Uint8Array(16));
  writer.text('');
  writer.count(1);
  writer.text('t');
  writer.count(1);
  writer.raw(new Uint8Array(16));
  for (let list = 0; list < 3; list += 1) constant(writer, 0);
  return writer;
}

function groupHead(writer: ByteWriter, rows: number): void {
  writer.count(0);
  writer.count(rows);
  if (rows > 0) for (let list = 0; list < 3; list += 1) constant(writer, 0);
}

function nullColumns(writer: ByteWriter, count: number, rows: number): void {
  writer.count(count);
  for (let i = 0; i < count; i += 1) {
    writer.text(i.toString(36).padStart(4, '0'));
    writer.byte(0);
    if (rows > 0) writer.byte(0);
    writer.byte(0);
  }
}

/** No dependencies, no stamps, no registers. */
function groupEnd(writer: ByteWriter): void {
  writer.count(0);
  writer.count(0);
  writer.byte(0);
}

function batchEnd(writer: ByteWriter): Uint8Array {
  writer.count(0);
  for (let number = 0; number < 2; number += 1) writer.double(0);
  writer.raw(new Uint8Array(16));
  writer.byte(0);
  writer.double(0);
  writer.count(0);
  return writer.finish();
}

function groups(count: number, rows: number, columns: number): Uint8Array {
  const writer = batchHead();
  writer.count(count);
  for (let i = 0; i < count; i += 1) {
    groupHead(writer, rows);
    nullColumns(writer, columns, rows);
    groupEnd(writer);
  }
  return batchEnd(writer);
}

/** Stamps of one row, all the same, in a few bytes. */
function stamps(count: number): Uint8Array {
  const writer = batchHead();
  writer.count(1);
  groupHead(writer, 1);
  nullColumns(writer, 1, 1);
  writer.count(0);
  writer.count(count);
  for (let list = 0; list < 4; list += 1) constant(writer, 0);
  writer.byte(0);
  return batchEnd(writer);
}

function dictionary(count: number): Uint8Array {
  const writer = new ByteWriter();
  writer.byte(BATCH_FORMAT);
  writer.count(1);
  writer.raw(new Uint8Array(16));
  writer.text('');
  writer.count(1);
  writer.text('t');
  writer.count(count);
  writer.raw(new Uint8Array(count * 16));
  for (let list = 0; list < 3; list += 1) constant(writer, 0);
  writer.count(0);
  return batchEnd(writer);
}

/** One text, cut into as many as there are rows. */
function texts(rows: number, bytes: number): Uint8Array {
  const writer = batchHead();
  writer.count(1);
  groupHead(writer, rows);
  writer.count(1);
  writer.text('c');
  writer.byte(0);
  writer.byte(3);
  constant(writer, bytes / rows);
  writer.text('\u00e9'.repeat(bytes / 2));
  writer.byte(0);
  groupEnd(writer);
  return batchEnd(writer);
}

export const BATCH_BOMBS: readonly Bomb[] = [
  ['as many values as a batch may have, all NULL', () => groups(1, MAX_BATCH_ROWS, 40)],
  ['one column too many', () => groups(1, MAX_BATCH_ROWS, 41)],
  ['as many groups as a batch may have, of no row', () => groups(MAX_BATCH_GROUPS, 0, 0)],
  ['as many groups as a batch may have, of one row', () => groups(MAX_BATCH_GROUPS, 1, 1)],
  [
    'columns of no row, as many as fit',
    () => groups(Math.floor(MAX_BATCH_BYTES / (1990 * EMPTY_COLUMN_BYTES + 40)), 0, 1990),
  ],
  ['as many stamps as a batch may have', () => stamps(3_900_000)],
  ['as many UUIDs as a batch may have', () => dictionary(1_000_000)],
  ['one long text in as many parts as there may be rows', () => texts(MAX_BATCH_ROWS, 20 * MAX_BATCH_ROWS)],
  ['nothing but zeros', () => Uint8Array.of(BATCH_FORMAT, ...new Uint8Array(100))],
  ['as long as may be, of zeros', () => over(new Uint8Array(MAX_BATCH_BYTES), [BATCH_FORMAT])],
  ['longer than may be', () => over(new Uint8Array(MAX_BATCH_BYTES + 1), [BATCH_FORMAT])],
];

function over(bytes: Uint8Array, head: readonly number[]): Uint8Array {
  bytes.set(head);
  return bytes;
}

/** MessagePack of `bytes` bytes: a list of as many items, each one byte. */
function list(item: number, bytes: number): Uint8Array {
  const result = new Uint8Array(bytes).fill(item);
  result[0] = 0xdd;
  new DataView(result.buffer).setUint32(1, bytes - 5);
  return result;
}

/** Lists in lists. */
function deep(bytes: number): Uint8Array {
  return new Uint8Array(bytes).fill(0x91);
}

function text(bytes: number): Uint8Array {
  const result = new Uint8Array(bytes).fill(0x61);
  result[0] = 0xdb;
  new DataView(result.buffer).setUint32(1, bytes - 5);
  return result;
}

/** A map with one key that no message knows, and a long list of empty maps under it. */
function unknownKey(bytes: number): Uint8Array {
  return Uint8Array.from(Buffer.concat([Buffer.of(0x81, 0xa1, 0x78), list(0x80, bytes - 3)]));
}

export const MESSAGE_BOMBS: readonly Bomb[] = [
  ['empty maps', () => list(0x80, MAX_FRAME_BYTES - 1)],
  ['empty lists', () => list(0x90, MAX_FRAME_BYTES - 1)],
  ['nothing, very often', () => list(0xc0, MAX_FRAME_BYTES - 1)],
  ['empty texts', () => list(0xa0, MAX_FRAME_BYTES - 1)],
  ['lists in lists', () => deep(MAX_FRAME_BYTES - 1)],
  ['one text', () => text(MAX_FRAME_BYTES - 1)],
  ['a list that says it has four thousand million items', () => Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff)],
  ['a map that says it has four thousand million', () => Uint8Array.of(0xdf, 0xff, 0xff, 0xff, 0xff)],
  ['bytes that say they are four thousand million', () => Uint8Array.of(0xc6, 0xff, 0xff, 0xff, 0xff)],
];

/** Each message bomb in a frame of each type, and frames that hide a long list under an unknown key. */
export const FRAME_BOMBS: readonly Bomb[] = Object.entries(FRAME_TYPES).flatMap(([name, type]): Bomb[] => {
  const frame = (fields: Uint8Array): Uint8Array => {
    const bytes = new Uint8Array(1 + fields.length);
    bytes[0] = type;
    bytes.set(fields, 1);
    return bytes;
  };
  if (type === FRAME_TYPES.batch) return [['a batch of nothing', () => frame(new Uint8Array(0))]];
  return [
    ...MESSAGE_BOMBS.slice(0, 2).map(([what, make]): Bomb => [`${name} of ${what}`, () => frame(make())]),
    [`${name} with an unknown key`, () => frame(unknownKey(MAX_FRAME_BYTES - 1))],
  ];
});

export const COLUMN_BOMBS: readonly Bomb[] = [
  ['a mix of types without end', () => new Uint8Array(1_000_000).fill(5)],
  [
    'numbers that count up beyond all',
    () => {
      const writer = new ByteWriter();
      writer.byte(1);
      writer.byte(0);
      writer.byte(COUNTING);
      writer.double(0);
      writer.double(Number.MAX_SAFE_INTEGER);
      writer.raw(new Uint8Array(DOUBLE_BYTES));
      return writer.finish();
    },
  ],
];

export const TEXT_BOMBS: readonly Bomb[] = [
  ['JSON lists in lists', () => Buffer.from('['.repeat(4_000_000))],
  ['JSON objects in objects', () => Buffer.from('{"a":'.repeat(1_000_000))],
  ['a long number', () => Buffer.from('9'.repeat(1_000_000))],
  ['spaces', () => Buffer.from(' '.repeat(4_000_000))],
  ['slashes', () => Buffer.from('/'.repeat(1_000_000))],
  ['protocols', () => Buffer.from('/ip4/1.2.3.4'.repeat(50_000))],
  ['an invitation of a million letters', () => Buffer.from(`flotilla1-${'A'.repeat(1_000_000)}`)],
];
