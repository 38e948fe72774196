/**
 * One column of values in a batch. SQLite lets every row of a column have a type of its own; nearly all columns have one or
 * two. So the types come first (one byte for all where they agree), then the values of each type together.
 */
import { type ByteReader, type ByteWriter, damaged } from './bytes.ts';
import { TextBytes, textOf } from './text-bytes.ts';
import type { SqlValue } from './types.ts';

/** Types as they are written; the numbers are part of the wire. */
const NULL = 0;
const NUMBER = 1;
const BIGINT = 2;
const TEXT = 3;
const BLOB = 4;
/** In place of one type for all: a byte for each row follows. */
const MIXED = 5;
/** Text that is not valid UTF-8, as its bytes. */
const TEXT_BYTES = 6;
/** Types of which there is a section when types are mixed, in the order in which they are written. */
const SECTIONS = [NUMBER, BIGINT, TEXT, BLOB, TEXT_BYTES] as const;

/** How numbers are written: safe integers packed, anything else as float64. */
const NUMBERS_INTEGER = 0;
const NUMBERS_DOUBLE = 1;

/** A column's values, and which of them must be stored as INTEGER (see `ColumnData`). */
export interface Values {
  readonly values: readonly SqlValue[];
  readonly ints?: Uint8Array;
}

function typeOf(value: unknown, what: string): number {
  switch (typeof value) {
    case 'string':
      return TEXT;
    case 'number':
      return NUMBER;
    case 'bigint':
      return BIGINT;
    default:
      if (value === null) return NULL;
      if (value instanceof Uint8Array) return BLOB;
      if (value instanceof TextBytes) return TEXT_BYTES;
      return damaged(`${what}: a value is of no type that SQLite has.`);
  }
}

/** Writes a column; the reader must know how many rows there are. */
export function writeValues(writer: ByteWriter, column: Values, what: string): void {
  const { values, ints } = column;
  if (values.length > 0) writeByType(writer, values, what);
  writer.byte(ints === undefined ? 0 : 1);
  if (ints === undefined) return;
  checkInts(ints, values, what);
  writer.raw(ints);
}

function writeByType(writer: ByteWriter, values: readonly SqlValue[], what: string): void {
  const first = typeOf(values[0], what);
  let same = 1;
  while (same < values.length && typeOf(values[same], what) === first) same += 1;
  if (same === values.length) {
    writer.byte(first);
    writeSection(writer, first, values, what);
    return;
  }
  const types = new Uint8Array(values.length);
  const sections: SqlValue[][] = Array.from({ length: TEXT_BYTES + 1 }, () => []);
  for (let i = 0; i < values.length; i += 1) {
    const type = typeOf(values[i], what);
    types[i] = type;
    sections[type]!.push(values[i]!);
  }
  writer.byte(MIXED);
  writer.raw(types);
  for (const type of SECTIONS) {
    if (sections[type]!.length > 0) writeSection(writer, type, sections[type]!, what);
  }
}

/** Writes values that are all of `type`; the casts say what `typeOf` found. */
function writeSection(writer: ByteWriter, type: number, values: readonly SqlValue[], what: string): void {
  if (type === NUMBER) writeNumbers(writer, values as readonly number[], what);
  else if (type === BIGINT) writer.bigints(values as readonly bigint[]);
  else if (type === TEXT) writeTexts(writer, values as readonly string[], what);
  else if (type === BLOB) writeBlobs(writer, values as readonly Uint8Array[], what);
  else if (type === TEXT_BYTES) {
    writeBlobs(
      writer,
      (values as readonly TextBytes[]).map((value) => value.bytes),
      what,
    );
  }
}

function writeNumbers(writer: ByteWriter, values: readonly number[], what: string): void {
  let whole = true;
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i]!;
    if (Number.isSafeInteger(value) && (value !== 0 || 1 / value > 0)) continue;
    whole = false;
    // SQLite has no NaN: it would arrive as NULL.
    if (Number.isNaN(value)) damaged(`${what}: NaN is no value.`);
  }
  writer.byte(whole ? NUMBERS_INTEGER : NUMBERS_DOUBLE);
  if (whole) writer.integers(values, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, what);
  else writer.doubles(values);
}

/** Texts are joined, so that the whole column is encoded and decoded at once; lengths are UTF-16 units. */
function writeTexts(writer: ByteWriter, values: readonly string[], what: string): void {
  const lengths = new Array<number>(values.length);
  for (let i = 0; i < values.length; i += 1) lengths[i] = values[i]!.length;
  writer.integers(lengths, 0, 0xffffffff, what);
  writer.text(values.join(''));
}

function writeBlobs(writer: ByteWriter, values: readonly Uint8Array[], what: string): void {
  writer.integers(
    values.map((value) => value.length),
    0,
    0xffffffff,
    what,
  );
  for (const value of values) writer.raw(value);
}

/** Reads a column of `rows` rows; texts and blobs are at most `limit` bytes in all. Blobs are views of the input. */
export function readValues(reader: ByteReader, rows: number, limit: number, what: string): Values {
  const values = rows === 0 ? [] : readByType(reader, rows, limit, what);
  const flag = reader.byte();
  if (flag === 0) return { values };
  if (flag !== 1) damaged(`${what}: an unknown mark.`);
  const ints = reader.raw(rows);
  checkInts(ints, values, what);
  return { values, ints };
}

function readByType(reader: ByteReader, rows: number, limit: number, what: string): SqlValue[] {
  const type = reader.byte();
  if (type !== MIXED) return readSection(reader, type, rows, limit, what);
  const types = reader.raw(rows);
  const counts = new Uint32Array(TEXT_BYTES + 1);
  for (let i = 0; i < rows; i += 1) {
    if (types[i]! > TEXT_BYTES || types[i] === MIXED) damaged(`${what}: an unknown type.`);
    counts[types[i]!]! += 1;
  }
  const sections: SqlValue[][] = [];
  for (const each of SECTIONS) {
    sections[each] = counts[each]! > 0 ? readSection(reader, each, counts[each]!, limit, what) : [];
  }
  const next = new Uint32Array(TEXT_BYTES + 1);
  const values = new Array<SqlValue>(rows);
  for (let i = 0; i < rows; i += 1) {
    const each = types[i]!;
    values[i] = each === NULL ? null : sections[each]![next[each]!++]!;
  }
  return values;
}

function readSection(reader: ByteReader, type: number, count: number, limit: number, what: string): SqlValue[] {
  switch (type) {
    case NULL:
      return new Array<SqlValue>(count).fill(null);
    case NUMBER:
      return readNumbers(reader, count, what);
    case BIGINT:
      return reader.bigints(count);
    case TEXT:
      return readTexts(reader, count, limit, what);
    case BLOB:
      return readBlobs(reader, count, limit, what);
    case TEXT_BYTES:
      return readTextBytes(reader, count, limit, what);
    default:
      return damaged(`${what}: an unknown type.`);
  }
}

function readNumbers(reader: ByteReader, count: number, what: string): number[] {
  const form = reader.byte();
  if (form === NUMBERS_INTEGER) return reader.integers(count, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, what);
  if (form !== NUMBERS_DOUBLE) damaged(`${what}: an unknown form of numbers.`);
  const values = reader.doubles(count);
  if (values.some(Number.isNaN)) damaged(`${what}: NaN is no value.`);
  return values;
}

function readTexts(reader: ByteReader, count: number, limit: number, what: string): string[] {
  const lengths = reader.integers(count, 0, limit, what);
  const joined = reader.text(limit, what);
  const values = new Array<string>(count);
  let at = 0;
  for (let i = 0; i < count; i += 1) {
    const start = at;
    at += lengths[i]!;
    values[i] = joined.slice(start, at);
  }
  if (at !== joined.length) damaged(`${what}: the texts are not as long as they say.`);
  return values;
}

function readBlobs(reader: ByteReader, count: number, limit: number, what: string): Uint8Array[] {
  const lengths = reader.integers(count, 0, limit, what);
  return lengths.map((length) => reader.raw(length));
}

/** Valid UTF-8 in there would be a second form of a text, with another digest. */
function readTextBytes(reader: ByteReader, count: number, limit: number, what: string): TextBytes[] {
  return readBlobs(reader, count, limit, what).map((bytes) => {
    const text = textOf(bytes);
    return typeof text === 'string' ? damaged(`${what}: a text is written as bytes without need.`) : text;
  });
}

/** A mark says INTEGER of a value that is one; else a receiver would have to guess what was meant. */
function checkInts(ints: Uint8Array, values: readonly SqlValue[], what: string): void {
  if (ints.length !== values.length) damaged(`${what}: not as many marks as rows.`);
  for (let i = 0; i < ints.length; i += 1) {
    if (ints[i] === 0) continue;
    if (ints[i] !== 1 || !(typeof values[i] === 'bigint' || Number.isInteger(values[i]))) {
      damaged(`${what}: a value that is no integer is marked as one.`);
    }
  }
}
