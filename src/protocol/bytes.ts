/**
 * Writing and reading the binary form of batches: numbers little-endian, lists of integers packed as narrow as they allow. The
 * reader takes its input for hostile: every read is checked against what is left, every integer against its bounds.
 */
import { isAscii, isUtf8 } from 'node:buffer';
import { FlotillaError } from '../errors.ts';

/** First capacity of a writer, bytes: a live page fits, a full page doubles it a few times. */
const FIRST_CAPACITY = 16 * 1024;

/** How a list of integers is packed: bytes of one item, or'ed with PACK_DELTA where items are differences. */
const PACK_CONSTANT = 0;
const PACK_RAW = 8;
const PACK_DELTA = 0x10;

/** Bytes of a float64, which also carries integers up to 2^53. */
const DOUBLE = 8;

/** Raises the error for a message that the protocol does not allow, while it is read or before it is sent. */
export function damaged(what: string): never {
  throw new FlotillaError('PROTOCOL', `${what} If all devices run the current version, please report it.`);
}

/** Bytes that one offset up to `range` needs: 0, 1, 2, 4, or 8 where only a raw float64 holds it. */
function widthOf(range: number): number {
  if (range === 0) return PACK_CONSTANT;
  if (range <= 0xff) return 1;
  if (range <= 0xffff) return 2;
  return range <= 0xffffffff ? 4 : PACK_RAW;
}

/** A growing buffer. */
export class ByteWriter {
  #buffer = Buffer.allocUnsafeSlow(FIRST_CAPACITY);
  #view = new DataView(this.#buffer.buffer);
  #at = 0;

  /** Bytes written so far. */
  get length(): number {
    return this.#at;
  }

  /** What was written, in an ArrayBuffer of its own and of exactly that size, so that it can be transferred. */
  finish(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#buffer.buffer.slice(0, this.#at));
  }

  /** Makes room for `bytes` more and returns where they begin. Call it before `#buffer` and `#view` are looked at: it may replace them. */
  #reserve(bytes: number): number {
    const at = this.#at;
    const end = at + bytes;
    if (end > this.#buffer.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(end, 2 * this.#buffer.length));
      grown.set(this.#buffer.subarray(0, at));
      this.#buffer = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#at = end;
    return at;
  }

  byte(value: number): void {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
  }

  /** A count: unsigned, below 2^32. */
  count(value: number): void {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value, true);
  }

  /** A float64. */
  double(value: number): void {
    const at = this.#reserve(DOUBLE);
    this.#view.setFloat64(at, value, true);
  }

  /** Bytes as they are; the reader must know how many. */
  raw(bytes: Uint8Array): void {
    const at = this.#reserve(bytes.length);
    this.#buffer.set(bytes, at);
  }

  /** A text with its length in bytes before it. */
  text(value: string): void {
    const size = Buffer.byteLength(value);
    this.count(size);
    const at = this.#reserve(size);
    this.#buffer.write(value, at);
  }

  /** Float64s one after the other. */
  doubles(values: readonly number[]): void {
    let at = this.#reserve(values.length * DOUBLE);
    const view = this.#view;
    for (let i = 0; i < values.length; i += 1, at += DOUBLE) view.setFloat64(at, values[i]!, true);
  }

  /** 64-bit integers one after the other; refuses what does not fit. */
  bigints(values: readonly bigint[]): void {
    let at = this.#reserve(values.length * DOUBLE);
    const view = this.#view;
    for (let i = 0; i < values.length; i += 1, at += DOUBLE) {
      const value = values[i]!;
      if (BigInt.asIntN(64, value) !== value) damaged(`The integer ${value} does not fit into 64 bits.`);
      view.setBigInt64(at, value, true);
    }
  }

  /**
   * Safe integers between `lowest` and `highest`, packed: all as offsets from the least, or, where that is narrower, the
   * differences between neighbours as offsets from the least difference (numbers that count up take no room at all).
   * The reader must know how many there are.
   */
  integers(values: readonly number[], lowest: number, highest: number, what: string): void {
    const length = values.length;
    if (length === 0) return;
    let previous = values[0]!;
    let least = previous;
    let greatest = previous;
    let leastStep = Infinity;
    let greatestStep = -Infinity;
    for (let i = 0; i < length; i += 1) {
      const value = values[i]!;
      if (!Number.isSafeInteger(value)) damaged(`${what}: ${String(value)} is no integer.`);
      if (value < least) least = value;
      else if (value > greatest) greatest = value;
      if (i > 0) {
        const step = value - previous;
        if (step < leastStep) leastStep = step;
        if (step > greatestStep) greatestStep = step;
      }
      previous = value;
    }
    if (least < lowest || greatest > highest) damaged(`${what}: not between ${lowest} and ${highest}.`);
    const width = widthOf(greatest - least);
    // Steps beyond 2^53 were rounded, but then they are not narrow either.
    const stepWidth = length > 2 ? widthOf(greatestStep - leastStep) : PACK_RAW;
    if (stepWidth < width && Number.isSafeInteger(leastStep)) this.#steps(values, leastStep, stepWidth);
    else this.#offsets(values, least, width);
  }

  #offsets(values: readonly number[], least: number, width: number): void {
    this.byte(width);
    if (width === PACK_RAW) {
      this.doubles(values);
      return;
    }
    this.double(least);
    let at = this.#reserve(values.length * width);
    const bytes = this.#buffer;
    const view = this.#view;
    if (width === 1) for (let i = 0; i < values.length; i += 1) bytes[at++] = values[i]! - least;
    else if (width === 2)
      for (let i = 0; i < values.length; i += 1, at += 2) view.setUint16(at, values[i]! - least, true);
    else if (width === 4)
      for (let i = 0; i < values.length; i += 1, at += 4) view.setUint32(at, values[i]! - least, true);
  }

  #steps(values: readonly number[], leastStep: number, width: number): void {
    this.byte(width | PACK_DELTA);
    let previous = values[0]!;
    this.double(previous);
    this.double(leastStep);
    let at = this.#reserve((values.length - 1) * width);
    const view = this.#view;
    if (width === PACK_CONSTANT) return;
    for (let i = 1; i < values.length; i += 1, at += width) {
      const value = values[i]!;
      const offset = value - previous - leastStep;
      previous = value;
      if (width === 1) view.setUint8(at, offset);
      else if (width === 2) view.setUint16(at, offset, true);
      else view.setUint32(at, offset, true);
    }
  }
}

/** Reads what a {@link ByteWriter} wrote. Throws FlotillaError PROTOCOL, never anything else. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #buffer: Buffer;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    // A Buffer would give Buffers as slices; callers are promised plain arrays.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Checks that `bytes` more are there, steps over them and returns where they begin. */
  #take(bytes: number): number {
    const at = this.#at;
    if (bytes > this.#bytes.length - at) damaged('It ends too early.');
    this.#at = at + bytes;
    return at;
  }

  /** Bytes that have not been read. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** Fails when anything is left. */
  end(): void {
    if (this.left > 0) damaged('It goes on after its end.');
  }

  byte(): number {
    return this.#bytes[this.#take(1)]!;
  }

  count(limit: number, what: string): number {
    const value = this.#view.getUint32(this.#take(4), true);
    if (value > limit) damaged(`${what}: ${value} are more than ${limit}.`);
    return value;
  }

  /** An integer between 0 and 2^53 − 1. */
  natural(what: string): number {
    const value = this.#view.getFloat64(this.#take(DOUBLE), true);
    if (!Number.isSafeInteger(value) || value < 0) damaged(`${what} is no natural number.`);
    return value;
  }

  /** A view of the next bytes; it shares memory with the input. */
  raw(bytes: number): Uint8Array {
    const at = this.#take(bytes);
    return this.#bytes.subarray(at, at + bytes);
  }

  /** Text of at most `limit` bytes. */
  text(limit: number, what: string): string {
    const size = this.count(limit, what);
    const at = this.#take(size);
    const bytes = this.#bytes.subarray(at, at + size);
    // Half of the texts are ASCII, for which latin1 is several times faster; and no decoder here drops a leading U+FEFF.
    if (isAscii(bytes)) return this.#buffer.toString('latin1', at, at + size);
    if (!isUtf8(bytes)) damaged(`${what}: a text is not UTF-8.`);
    return this.#buffer.toString('utf8', at, at + size);
  }

  doubles(length: number): number[] {
    let at = this.#take(length * DOUBLE);
    const view = this.#view;
    const values = new Array<number>(length);
    for (let i = 0; i < length; i += 1, at += DOUBLE) values[i] = view.getFloat64(at, true);
    return values;
  }

  bigints(length: number): bigint[] {
    let at = this.#take(length * DOUBLE);
    const view = this.#view;
    const values = new Array<bigint>(length);
    for (let i = 0; i < length; i += 1, at += DOUBLE) values[i] = view.getBigInt64(at, true);
    return values;
  }

  /** `length` integers, each between `lowest` and `highest`. The caller has bounded `length`: constants take no bytes. */
  integers(length: number, lowest: number, highest: number, what: string): number[] {
    if (length === 0) return [];
    const code = this.byte();
    const width = code & ~PACK_DELTA;
    if (width === PACK_RAW && code === PACK_RAW) return bounded(this.doubles(length), lowest, highest, what);
    if (width !== PACK_CONSTANT && width !== 1 && width !== 2 && width !== 4) damaged(`${what}: unknown packing.`);
    const base = this.#integer(what);
    return code === width
      ? this.#offsets(length, base, width, lowest, highest, what)
      : this.#steps(length, base, width, lowest, highest, what);
  }

  #integer(what: string): number {
    const value = this.#view.getFloat64(this.#take(DOUBLE), true);
    if (!Number.isSafeInteger(value)) damaged(`${what}: no integer.`);
    return value;
  }

  #offsets(length: number, base: number, width: number, lowest: number, highest: number, what: string): number[] {
    let at = this.#take(length * width);
    const bytes = this.#bytes;
    const view = this.#view;
    const values = new Array<number>(length);
    if (width === PACK_CONSTANT) values.fill(base);
    else if (width === 1) for (let i = 0; i < length; i += 1) values[i] = base + bytes[at++]!;
    else if (width === 2) for (let i = 0; i < length; i += 1, at += 2) values[i] = base + view.getUint16(at, true);
    else for (let i = 0; i < length; i += 1, at += 4) values[i] = base + view.getUint32(at, true);
    return bounded(values, lowest, highest, what);
  }

  #steps(length: number, base: number, width: number, lowest: number, highest: number, what: string): number[] {
    const leastStep = this.#integer(what);
    let at = this.#take((length - 1) * width);
    const view = this.#view;
    const values = new Array<number>(length);
    let value = base;
    values[0] = value;
    for (let i = 1; i < length; i += 1, at += width) {
      if (width === 1) value += leastStep + view.getUint8(at);
      else if (width === 2) value += leastStep + view.getUint16(at, true);
      else if (width === 4) value += leastStep + view.getUint32(at, true);
      else value += leastStep;
      values[i] = value;
    }
    return bounded(values, lowest, highest, what);
  }
}

/** Checks every value; sums that left the safe range on the way are outside of any bounds that a caller gives. */
function bounded(values: number[], lowest: number, highest: number, what: string): number[] {
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i]!;
    if (!Number.isSafeInteger(value) || value < lowest || value > highest)
      damaged(`${what}: not between ${lowest} and ${highest}.`);
  }
  return values;
}
