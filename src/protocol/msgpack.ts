/**
 * MessagePack for control frames: written by msgpackr, read by a reader of our own that knows only what a message may hold.
 *
 * msgpackr's reader cannot be told to leave its extensions out (its table of them is global: regular expressions, sets, cyclic
 * references, records compiled by `new Function`), replaces broken UTF-8 silently, and has no bound on depth. What a stranger to
 * our code may send must not reach any of that.
 */
import { isUtf8 } from 'node:buffer';
import { Packr } from 'msgpackr';
import { damaged } from './bytes.ts';

/** What a control frame is made of. Maps have text keys and come back without a prototype. */
export type Plain =
  | null
  | boolean
  | number
  | string
  | Uint8Array
  | readonly Plain[]
  | { readonly [key: string]: Plain };

/** How deep lists and maps may lie in each other; our deepest message has 4 levels. */
const MAX_DEPTH = 8;

/**
 * Items of a message: what is in its lists and maps, a map itself as {@link MAP_ITEMS}. The greatest answer to `inspect` has
 * 600,000. A message of as many is 60 MB in memory; without this, one of 32 MiB could ask for gigabytes.
 */
export const MAX_ITEMS = 1_000_000;

/** An empty map takes as much memory as so many small values. */
const MAP_ITEMS = 16;

const packr = new Packr({ useRecords: false, variableMapSize: true });

/**
 * Writes a value; integers beyond 32 bits go as float64, in which they are exact.
 * @throws FlotillaError PROTOCOL for one with more items than the reader takes
 */
export function pack(value: Plain): Uint8Array {
  const items = itemsOf(value);
  if (items > MAX_ITEMS) damaged(`A message of ${items} items is larger than ${MAX_ITEMS}.`);
  return packr.pack(value);
}

function itemsOf(value: Plain): number {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return 0;
  if (Array.isArray(value))
    return (value as readonly Plain[]).reduce<number>((sum, item) => sum + itemsOf(item), value.length);
  const entries = Object.values(value);
  return entries.reduce<number>((sum, item) => sum + itemsOf(item), MAP_ITEMS + 2 * entries.length);
}

/** Reads one value that fills `bytes`. @throws FlotillaError PROTOCOL for anything else */
export function unpack(bytes: Uint8Array): Plain {
  const reader = new PlainReader(bytes);
  const value = reader.value(0);
  reader.end();
  return value;
}

/** Reads nil, booleans, integers to 32 bits, float64, text, bytes, lists and maps (https://github.com/msgpack/msgpack/blob/master/spec.md). */
class PlainReader {
  readonly #bytes: Uint8Array;
  readonly #buffer: Buffer;
  readonly #view: DataView;
  #at = 0;
  #itemsLeft = MAX_ITEMS;

  constructor(bytes: Uint8Array) {
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  end(): void {
    if (this.#at !== this.#bytes.length) damaged('It goes on after its end.');
  }

  value(depth: number): Plain {
    const token = this.#uint(1);
    if (token < 0x80) return token;
    if (token < 0x90) return this.#map(token & 0x0f, depth);
    if (token < 0xa0) return this.#list(token & 0x0f, depth);
    if (token < 0xc0) return this.#text(token & 0x1f);
    if (token >= 0xe0) return token - 0x100;
    switch (token) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.#binary(this.#uint(1));
      case 0xc5:
        return this.#binary(this.#uint(2));
      case 0xc6:
        return this.#binary(this.#uint(4));
      case 0xcb:
        return this.#view.getFloat64(this.#take(8));
      case 0xcc:
        return this.#uint(1);
      case 0xcd:
        return this.#uint(2);
      case 0xce:
        return this.#uint(4);
      case 0xd0:
        return this.#view.getInt8(this.#take(1));
      case 0xd1:
        return this.#view.getInt16(this.#take(2));
      case 0xd2:
        return this.#view.getInt32(this.#take(4));
      case 0xd9:
        return this.#text(this.#uint(1));
      case 0xda:
        return this.#text(this.#uint(2));
      case 0xdb:
        return this.#text(this.#uint(4));
      case 0xdc:
        return this.#list(this.#uint(2), depth);
      case 0xdd:
        return this.#list(this.#uint(4), depth);
      case 0xde:
        return this.#map(this.#uint(2), depth);
      case 0xdf:
        return this.#map(this.#uint(4), depth);
      default:
        return damaged(`It holds the MessagePack type 0x${token.toString(16)}, which no message uses.`);
    }
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (bytes > this.#bytes.length - at) damaged('It ends too early.');
    this.#at = at + bytes;
    return at;
  }

  #uint(bytes: 1 | 2 | 4): number {
    const at = this.#take(bytes);
    if (bytes === 1) return this.#view.getUint8(at);
    return bytes === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #binary(size: number): Uint8Array {
    const at = this.#take(size);
    return this.#bytes.slice(at, at + size);
  }

  #text(size: number): string {
    const at = this.#take(size);
    if (!isUtf8(this.#bytes.subarray(at, at + size))) damaged('A text is not UTF-8.');
    return this.#buffer.toString('utf8', at, at + size);
  }

  #list(length: number, depth: number): Plain[] {
    this.#enter(length, length, depth);
    const list: Plain[] = [];
    for (let i = 0; i < length; i += 1) list.push(this.value(depth + 1));
    return list;
  }

  #map(length: number, depth: number): { readonly [key: string]: Plain } {
    this.#enter(2 * length, MAP_ITEMS + 2 * length, depth);
    const map = Object.create(null) as { [key: string]: Plain };
    for (let i = 0; i < length; i += 1) {
      const key = this.value(MAX_DEPTH);
      if (typeof key !== 'string' || key === '__proto__' || key in map)
        damaged('A map has a key that it may not have.');
      map[key] = this.value(depth + 1);
    }
    return map;
  }

  /** Every item takes a byte at least: what is declared beyond that is a lie, found before anything is allocated. */
  #enter(items: number, counted: number, depth: number): void {
    if (depth >= MAX_DEPTH) damaged('It is nested too deeply.');
    if (items > this.#bytes.length - this.#at) damaged('It ends too early.');
    this.#itemsLeft -= counted;
    if (this.#itemsLeft < 0) damaged(`It has more than ${MAX_ITEMS} items.`);
  }
}
