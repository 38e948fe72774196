/** Ways in which bytes of a peer can be wrong: by accident on the way, and on purpose. */
import type { Chance } from '../random/chance.ts';

/** Numbers that ask for too much, end a range, or are none. */
const GREAT = [0xff, 0x7f, 0xffff, 0x7fff, 0xffffffff, 0x7fffffff, 0x80000000, 100_000, 4_000_000, 4_000_001];
const DOUBLES = [NaN, Infinity, -Infinity, -1, 0.5, 2 ** 53, -(2 ** 53), 2 ** 53 - 1, 2 ** 64, 1e308, -0];
/** Names that mean something to JavaScript, SQL or a terminal. */
export const EVIL_NAMES = [
  '__proto__',
  'constructor',
  'prototype',
  'hasOwnProperty',
  'toString',
  '',
  'x"; DROP TABLE notes; --',
  "'); DELETE FROM flotilla_members; --",
  'flotilla_state',
  'sqlite_schema',
  '\u001b[2J\u001b]0;owned\u0007',
  '\0',
  '../../key',
  'a'.repeat(2000),
];

type Damage = (bytes: Uint8Array, chance: Chance, other: Uint8Array) => Uint8Array;

const at = (bytes: Uint8Array, chance: Chance): number => chance.below(bytes.length + 1);
const noise = (chance: Chance, length: number): Uint8Array => Uint8Array.from({ length }, () => chance.below(256));

function over(bytes: Uint8Array, place: number, with_: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  copy.set(with_.subarray(0, Math.max(0, copy.length - place)), Math.min(place, copy.length));
  return copy;
}

function between(bytes: Uint8Array, from: number, to: number, middle: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.concat([bytes.subarray(0, from), middle, bytes.subarray(to)]));
}

function number(chance: Chance): Uint8Array {
  const bytes = Buffer.alloc(8);
  const width = chance.pick([1, 2, 4, 8]);
  if (width === 8) {
    const value = chance.pick(DOUBLES);
    if (chance.is(0.5)) bytes.writeDoubleLE(value);
    else bytes.writeDoubleBE(value);
    return new Uint8Array(bytes);
  }
  const value = chance.pick(GREAT) % 2 ** (8 * width);
  if (chance.is(0.5)) bytes.writeUIntLE(value, 0, width);
  else bytes.writeUIntBE(value, 0, width);
  return new Uint8Array(bytes.subarray(0, width));
}

const DAMAGES: readonly Damage[] = [
  // Truncated.
  (bytes, chance) => bytes.slice(0, chance.below(bytes.length + 1)),
  // Bits turned.
  (bytes, chance) => {
    const copy = bytes.slice();
    for (let left = chance.between(1, 8); left > 0 && copy.length > 0; left -= 1) {
      const place = chance.below(copy.length);
      copy[place] = (copy[place] ?? 0) ^ (1 << chance.below(8));
    }
    return copy;
  },
  // Two messages put together.
  (bytes, chance, other) => between(bytes, at(bytes, chance), bytes.length, other.subarray(at(other, chance))),
  // Lengths, counts and numbers inflated.
  (bytes, chance) => over(bytes, at(bytes, chance), number(chance)),
  // Noise in place of something, added, or missing.
  (bytes, chance) => over(bytes, at(bytes, chance), noise(chance, chance.between(1, 9))),
  (bytes, chance) => {
    const place = at(bytes, chance);
    return between(bytes, place, place, noise(chance, chance.between(1, 9)));
  },
  (bytes, chance) => {
    const place = at(bytes, chance);
    return between(bytes, place, Math.min(bytes.length, place + chance.between(1, 9)), new Uint8Array(0));
  },
  // A part twice.
  (bytes, chance) => {
    const place = at(bytes, chance);
    return between(bytes, place, place, bytes.slice(place, place + chance.between(1, 64)));
  },
  // A name that should not be one.
  (bytes, chance) => over(bytes, at(bytes, chance), Buffer.from(chance.pick(EVIL_NAMES))),
];

/** The bytes, damaged one to three times. */
export function damaged(bytes: Uint8Array, chance: Chance, other: Uint8Array): Uint8Array {
  let result = bytes;
  for (let times = chance.between(1, 3); times > 0; times -= 1) result = chance.pick(DAMAGES)(result, chance, other);
  return result;
}

/** A tree of plain data with some of it exchanged: other types, depths, counts, names. */
export function twisted(value: unknown, chance: Chance): unknown {
  if (chance.is(0.15)) return replaced(value, chance);
  if (Array.isArray(value)) {
    const list = value.map((item) => twisted(item, chance));
    if (isSmall(list[0]) && chance.is(0.1))
      return [...list, ...Array.from({ length: chance.between(1, 3000) }, () => list[0])];
    return list;
  }
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  // A map, so that `__proto__` is a key like others.
  const map = new Map<unknown, unknown>(Object.entries(value).map(([key, item]) => [key, twisted(item, chance)]));
  if (chance.is(0.15)) map.set(chance.pick<unknown>([...EVIL_NAMES, 7, null]), chance.pick([{ polluted: true }, 1]));
  if (chance.is(0.1)) map.delete(chance.pickOr([...map.keys()], ''));
  return map;
}

/** What may stand in a list thousands of times. */
function isSmall(value: unknown): boolean {
  return typeof value === 'string' || typeof value === 'number' || (Array.isArray(value) && value.length < 4);
}

function replaced(value: unknown, chance: Chance): unknown {
  return chance.pick<() => unknown>([
    () => null,
    () => chance.pick(DOUBLES),
    () => chance.pick(GREAT),
    () => chance.pick(EVIL_NAMES),
    () => noise(chance, chance.below(40)),
    () => nested(value, chance.pick([1, 8, 9, 500, 5_000])),
    () => Array.from({ length: isSmall(value) ? chance.pick([0, 1, 256, 5_000]) : 3 }, () => value),
    () => 'x'.repeat(chance.pick([129, 257, 2_001, 70_000])),
    () => [],
    () => new Map(),
    () => true,
  ])();
}

/** A value inside that many lists. */
export function nested(value: unknown, depth: number): unknown {
  let result = value;
  for (let level = 0; level < depth; level += 1) result = [result];
  return result;
}

/** Items of a message that are written; the same list may stand in itself thousands of times, so the rest is left out. */
const MOST_ITEMS = 100_000;

/** Plain data as JSON, with maps as objects. Deep nesting is written by hand, since JSON.stringify recurses. */
export function toJson(value: unknown, budget = { left: MOST_ITEMS }): string {
  budget.left -= 1;
  if (budget.left < 0) return 'null';
  if (Array.isArray(value)) {
    let depth = 0;
    let inner: unknown = value;
    while (Array.isArray(inner) && inner.length === 1) {
      inner = inner[0];
      depth += 1;
    }
    if (depth > 0) return `${'['.repeat(depth)}${toJson(inner, budget)}${']'.repeat(depth)}`;
    return `[${value.map((item) => toJson(item, budget)).join(',')}]`;
  }
  if (value instanceof Map)
    return `{${[...value].map(([key, item]) => `${JSON.stringify(String(key))}:${toJson(item, budget)}`).join(',')}}`;
  return JSON.stringify(value) ?? 'null';
}

/** Plain data as MessagePack, without any check: maps may have any keys, lists any depth. */
export function toMessagePack(value: unknown): Uint8Array {
  const parts: Buffer[] = [];
  const head = (token: number, length: number): void => {
    const bytes = Buffer.alloc(5);
    bytes[0] = token;
    bytes.writeUInt32BE(length, 1);
    parts.push(bytes);
  };
  // A list of what is still to be written instead of recursion, which deep nesting would break.
  const left: unknown[] = [value];
  for (let written = 0; left.length > 0; written += 1) {
    const item = left.pop();
    if (item === null || item === undefined || written > MOST_ITEMS) parts.push(Buffer.of(0xc0));
    else if (typeof item === 'boolean') parts.push(Buffer.of(item ? 0xc3 : 0xc2));
    else if (typeof item === 'number') {
      const bytes = Buffer.alloc(9, 0xcb);
      bytes.writeDoubleBE(item, 1);
      parts.push(bytes);
    } else if (typeof item === 'string') {
      const bytes = Buffer.from(item);
      head(0xdb, bytes.length);
      parts.push(bytes);
    } else if (item instanceof Uint8Array) {
      head(0xc6, item.length);
      parts.push(Buffer.from(item));
    } else if (Array.isArray(item)) {
      head(0xdd, item.length);
      for (const each of item.toReversed()) left.push(each);
    } else {
      const entries = item instanceof Map ? [...item] : Object.entries(item as object);
      head(0xdf, entries.length);
      for (const [key, each] of entries.toReversed()) left.push(each, key);
    }
  }
  return new Uint8Array(Buffer.concat(parts));
}
