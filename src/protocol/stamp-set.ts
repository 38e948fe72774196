/**
 * A set of stamps, exact: which versions a device has beyond what it knows (`Knowledge`), since a pass was broken off. Stamps of bulk
 * writes follow each other, so ranges say it in few bytes. Every stamp in a range is meant: a stamp that is not in the set was not taken in.
 */
import { damaged, ByteReader, ByteWriter } from './bytes.ts';
import { MAX_HLC } from './hlc.ts';
import { MAX_KNOWN_RUNS } from './knowledge.ts';
import { bytesToRun, RUN_BYTES, runToBytes } from './stamp.ts';

/** Bytes of a message that tells of stamps, about: a larger set is told in several. */
export const STAMPS_BYTES = 256 * 1024;

/** Bytes of the longest such message: what is written before its length is looked at again. */
export const MAX_STAMPS_BYTES = STAMPS_BYTES + 64;

/** Such messages at once: what takes two bytes a range at least, and is mostly twice as long, in full. What is beyond is only sent again. */
export const MAX_STAMP_MESSAGES = 64;

/**
 * Ranges that a set holds at most: 16 MB. A million rows that were written one by one have as many; what is left out is only sent again.
 */
export const MAX_RANGES = 1_000_000;

/** Digits of a number in base 128. */
const BASE = 128;

/** The greatest number in a message: one more than the greatest hlc. */
const MAX_NUMBER = MAX_HLC + 1;

/** Messages that tell of stamps, {@link MAX_STAMP_MESSAGES} at most: run (hex) → hlcs in any order, also more than once. */
export function encodeStamps(stamps: ReadonlyMap<string, readonly number[]>): Uint8Array<ArrayBuffer>[] {
  const messages: Uint8Array<ArrayBuffer>[] = [];
  let writer = new ByteWriter();
  for (const [run, hlcs] of stamps) {
    const ranges = rangesOf(hlcs);
    for (let at = 0; at < ranges.length;) {
      writer.raw(runToBytes(run));
      let before = 0;
      do {
        const [from = 0, to = 0] = ranges.slice(at, at + 2);
        // No range begins where the one before it ended, so 0 is free to say that no more of this run come.
        writeNumber(writer, from - before + 1);
        writeNumber(writer, to - from);
        before = to + 1;
        at += 2;
      } while (at < ranges.length && writer.length < STAMPS_BYTES);
      writeNumber(writer, 0);
      if (writer.length < STAMPS_BYTES) continue;
      if (messages.push(writer.finish()) === MAX_STAMP_MESSAGES) return messages;
      writer = new ByteWriter();
    }
  }
  if (writer.length > 0) messages.push(writer.finish());
  return messages;
}

/** First and last of each range of hlcs that follow each other, flat, ascending. */
function rangesOf(hlcs: readonly number[]): number[] {
  const sorted = Float64Array.from(hlcs).sort();
  const ranges: number[] = [];
  for (const hlc of sorted) {
    const last = ranges.at(-1);
    if (last !== undefined && hlc <= last + 1) ranges[ranges.length - 1] = hlc;
    else ranges.push(hlc, hlc);
  }
  return ranges;
}

function writeNumber(writer: ByteWriter, value: number): void {
  let rest = value;
  while (rest >= BASE) {
    writer.byte((rest % BASE) + BASE);
    rest = Math.floor(rest / BASE);
  }
  writer.byte(rest);
}

function readNumber(reader: ByteReader): number {
  let value = 0;
  for (let place = 1; place <= MAX_NUMBER; place *= BASE) {
    const byte = reader.byte();
    value += (byte % BASE) * place;
    if (byte < BASE && value <= MAX_NUMBER) return value;
  }
  return damaged('A message has a number that is too large.');
}

/** First and last of the ranges of one run, flat, ascending; one at least. */
function readRanges(reader: ByteReader): number[] {
  const ranges: number[] = [];
  let from = 0;
  for (let step = readNumber(reader); step > 0; step = readNumber(reader)) {
    from += step - 1;
    const to = from + readNumber(reader);
    if (to > MAX_HLC) damaged('A message has a stamp that is none.');
    ranges.push(from, to);
    from = to + 1;
  }
  if (ranges.length === 0) damaged('A message names a run, and no stamps of it.');
  return ranges;
}

/** Stamps that were told of. */
export class StampSet {
  /** By run (hex), as {@link rangesOf} gives them. */
  readonly #ranges = new Map<string, Float64Array>();
  /** Numbers in them. */
  #size = 0;

  get isEmpty(): boolean {
    return this.#size === 0;
  }

  /** Adds what a message of {@link encodeStamps} says. @throws FlotillaError PROTOCOL when it is damaged */
  add(message: Uint8Array): void {
    const reader = new ByteReader(message);
    const told = new Map<string, number[]>();
    while (reader.left > 0) {
      const run = bytesToRun(reader.raw(RUN_BYTES));
      // Each run is joined once, as that looks at all that is known of it.
      if (told.has(run)) damaged('A message names a run twice.');
      told.set(run, readRanges(reader));
    }
    for (const [run, ranges] of told) this.#join(run, ranges);
  }

  #join(run: string, told: readonly number[]): void {
    const before = this.#ranges.get(run);
    if (before === undefined && this.#ranges.size === MAX_KNOWN_RUNS) return;
    const joined = union(before ?? new Float64Array(), told);
    const size = this.#size - (before?.length ?? 0) + joined.length;
    if (size > 2 * MAX_RANGES) return;
    this.#size = size;
    this.#ranges.set(run, joined);
  }

  has(run: string, hlc: number): boolean {
    const ranges = this.#ranges.get(run);
    return ranges !== undefined && isWithin(ranges, hlc);
  }

  clear(): void {
    this.#ranges.clear();
    this.#size = 0;
  }
}

/** The ranges of both; those that overlap or follow each other are one. */
function union(one: Float64Array, other: readonly number[]): Float64Array {
  const joined = new Float64Array(one.length + other.length);
  let size = 0;
  for (let i = 0, j = 0; i < one.length || j < other.length;) {
    const isFirst = (one[i] ?? Infinity) <= (other[j] ?? Infinity);
    const from = isFirst ? one[i]! : other[j]!;
    const to = isFirst ? one[i + 1]! : other[j + 1]!;
    if (isFirst) i += 2;
    else j += 2;
    if (size > 0 && from <= joined[size - 1]! + 1) joined[size - 1] = Math.max(joined[size - 1]!, to);
    else {
      joined[size] = from;
      joined[size + 1] = to;
      size += 2;
    }
  }
  return joined.slice(0, size);
}

function isWithin(ranges: Float64Array, hlc: number): boolean {
  let low = 0;
  let high = ranges.length / 2;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if ((ranges[2 * middle + 1] as number) < hlc) low = middle + 1;
    else high = middle;
  }
  return low < ranges.length / 2 && (ranges[2 * low] as number) <= hlc;
}
