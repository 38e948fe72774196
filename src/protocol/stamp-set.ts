/**
 * A set of stamps, exact: which versions a device has beyond what it knows (`Knowledge`), since a pass was broken off. Stamps of bulk
 * writes follow each other, so ranges say it in few bytes. Every stamp in a range is meant: a stamp that is not in the set was not taken in.
 */
import { damaged, ByteReader, ByteWriter } from './bytes.ts';
import { MAX_HLC } from './hlc.ts';
import { bytesToRun, RUN_BYTES, runToBytes } from './stamp.ts';

/** Bytes of a message that tells of stamps, about: a larger set is told in several. */
export const STAMPS_BYTES = 256 * 1024;

/** Bytes of the longest such message: what is written before its length is looked at again. */
export const MAX_STAMPS_BYTES = STAMPS_BYTES + 64;

/** Such messages before a `want`: what takes two bytes a range at least, and is mostly twice as long, in full. */
export const MAX_STAMP_MESSAGES = 64;

/**
 * Ranges that a set holds at most: 16 MB. A million rows that were written one by one have as many; what is left out is only sent again.
 */
export const MAX_RANGES = 1_000_000;

/** Digits of a number in base 128. */
const BASE = 128;

/** Messages that tell of stamps: run (hex) → hlcs in any order, also more than once. */
export function encodeStamps(stamps: ReadonlyMap<string, readonly number[]>): Uint8Array<ArrayBuffer>[] {
  const messages: Uint8Array<ArrayBuffer>[] = [];
  let writer = new ByteWriter();
  for (const [run, hlcs] of stamps) {
    const ranges = rangesOf(hlcs);
    for (let at = 0; at < ranges.length;) {
      writer.raw(runToBytes(run));
      let before = 0;
      while (at < ranges.length && writer.length < STAMPS_BYTES) {
        const [from = 0, to = 0] = ranges.slice(at, at + 2);
        // No range begins where the one before it ended, so 0 is free to say that no more of this run come.
        writeNumber(writer, from - before + 1);
        writeNumber(writer, to - from);
        before = to + 1;
        at += 2;
      }
      writeNumber(writer, 0);
      if (writer.length < STAMPS_BYTES) continue;
      messages.push(writer.finish());
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
  for (let place = 1; place <= MAX_HLC; place *= BASE) {
    const byte = reader.byte();
    value += (byte % BASE) * place;
    if (byte < BASE && value <= MAX_HLC) return value;
  }
  return damaged('A message has a number that is too large.');
}

/** Stamps that were told of. */
export class StampSet {
  /** By run (hex): first and last of each range, ascending. */
  readonly #ranges = new Map<string, Float64Array>();
  /** How many there are. */
  #count = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Adds what a message of {@link encodeStamps} says. @throws FlotillaError PROTOCOL when it is damaged */
  add(message: Uint8Array): void {
    const reader = new ByteReader(message);
    const named = new Set<string>();
    while (reader.left > 0) {
      const run = bytesToRun(reader.raw(RUN_BYTES));
      // Each costs what there is of its run.
      if (named.has(run)) damaged('A message tells of the stamps of one run twice.');
      named.add(run);
      const ranges: number[] = [];
      let from = 0;
      for (let step = readNumber(reader); step > 0; step = readNumber(reader)) {
        from += step - 1;
        const to = from + readNumber(reader);
        if (to > MAX_HLC) damaged('A message has a stamp that is none.');
        ranges.push(from, to);
        from = to + 1;
      }
      const before = this.#ranges.get(run) ?? NONE;
      const after = joinRanges(before, ranges);
      const count = this.#count + (after.length - before.length) / 2;
      if (count > MAX_RANGES) continue;
      this.#count = count;
      this.#ranges.set(run, after);
    }
  }

  has(run: string, hlc: number): boolean {
    return isWithin(this.#ranges.get(run) ?? NONE, hlc);
  }

  clear(): void {
    this.#ranges.clear();
    this.#count = 0;
  }
}

const NONE = new Float64Array(0);

/** The ranges of both: who is told again, as each peer is that goes on, is mostly told the same. */
function joinRanges(one: Float64Array, other: readonly number[]): Float64Array {
  const joined = new Float64Array(one.length + other.length);
  let [i, j, length] = [0, 0, 0];
  while (i < one.length || j < other.length) {
    const isOne = (one[i] ?? Infinity) <= (other[j] ?? Infinity);
    const from = (isOne ? one[i] : other[j]) as number;
    const to = (isOne ? one[i + 1] : other[j + 1]) as number;
    if (isOne) i += 2;
    else j += 2;
    const last = length === 0 ? -Infinity : (joined[length - 1] as number);
    if (from <= last + 1) joined[length - 1] = Math.max(last, to);
    else {
      joined[length] = from;
      joined[length + 1] = to;
      length += 2;
    }
  }
  return joined.slice(0, length);
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
