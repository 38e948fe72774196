/**
 * Row identities: UUIDs as 16 bytes and as text, fresh ones in time order (v7), and derived ones (v8) from a hash of what
 * names a row. Randomness, clock and hashing come from outside.
 */
import { FlotillaError } from '../errors.ts';

/** Bytes of a UUID. */
export const UUID_BYTES = 16;

const HEX = /^(?:[0-9a-fA-F]{2})*$/;
const UUID_TEXT = /^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$/;

/** Lower-case hex digits, two a byte. */
export function bytesToHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** The bytes of hex digits of either case. @throws FlotillaError PROTOCOL for anything else */
export function hexToBytes(hex: string): Uint8Array {
  // Buffer.from(…, 'hex') stops silently at the first character that is no digit.
  if (!HEX.test(hex)) throw new FlotillaError('PROTOCOL', 'A text that should be hex digits, two a byte, is not.');
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

/** A UUID with dashes, lower-case. */
export function formatUuid(bytes: Uint8Array): string {
  const hex = bytesToHex(bytes);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** The 16 bytes of a UUID given as text (with dashes or without, either case) or as 16 bytes; null when it is neither. */
export function parseUuid(value: string | Uint8Array): Uint8Array | null {
  if (typeof value === 'string') return UUID_TEXT.test(value) ? hexToBytes(value.replaceAll('-', '')) : null;
  return value.length === UUID_BYTES ? value : null;
}

/** UUIDs whose random bits are drawn at once: one call of the random source costs more than all the rest of them. */
const RANDOM_BATCH = 512;

/** Random bytes of one UUID beside its counter. */
const RANDOM_BYTES = 6;

/**
 * Bits of the counter that orders the UUIDs of one millisecond: the 12 of `rand_a` and 14 of `rand_b` (RFC 9562, 6.2,
 * method 1). It starts at a random value below half, so at least 2^25 fit into one millisecond; the next one is borrowed after that.
 */
const COUNTER_SPACE = 2 ** 26;

/** The greatest time of a v7 UUID, ms. */
const MAX_UUID_MS = 2 ** 48 - 1;

/**
 * Makes a source of v7 UUIDs, each greater than the one before (bytes compared), so that their index is filled from left to
 * right. When the clock stands or goes back, the counter goes on.
 *
 * @param random - gives n random bytes
 * @returns a function of the wall clock (ms since 1970) that makes a fresh 16-byte array
 */
export function makeUuidV7Generator(random: (bytes: number) => Uint8Array): (nowMs: number) => Uint8Array {
  let pool: Uint8Array = new Uint8Array(0);
  let used = 0;
  let ms = -1;
  let counter = 0;
  // The time in two parts, since bit operators see 32 bits only.
  let high = 0;
  let low = 0;

  const draw = (bytes: number): number => {
    if (used + bytes > pool.length) {
      pool = random(RANDOM_BATCH * RANDOM_BYTES);
      used = 0;
      if (pool.length < bytes) throw new RangeError('The source of randomness gave too few bytes.');
    }
    used += bytes;
    return used - bytes;
  };
  const enter = (time: number): void => {
    ms = Math.min(Math.max(0, Math.trunc(time)), MAX_UUID_MS);
    high = Math.floor(ms / 2 ** 32);
    low = ms >>> 0;
    const at = draw(RANDOM_BYTES);
    counter =
      (((pool[at]! << 24) | (pool[at + 1]! << 16) | (pool[at + 2]! << 8) | pool[at + 3]!) >>> 7) &
      (COUNTER_SPACE / 2 - 1);
  };

  return (nowMs) => {
    if (nowMs >= ms + 1) enter(nowMs);
    else if (++counter >= COUNTER_SPACE) enter(ms + 1);
    const uuid = new Uint8Array(UUID_BYTES);
    uuid[0] = high >>> 8;
    uuid[1] = high;
    uuid[2] = low >>> 24;
    uuid[3] = low >>> 16;
    uuid[4] = low >>> 8;
    uuid[5] = low;
    uuid[6] = 0x70 | (counter >>> 22);
    uuid[7] = counter >>> 14;
    uuid[8] = 0x80 | ((counter >>> 8) & 0x3f);
    uuid[9] = counter;
    const at = draw(RANDOM_BYTES);
    for (let i = 0; i < RANDOM_BYTES; i += 1) uuid[10 + i] = pool[at + i]!;
    return uuid;
  };
}

/**
 * The v7 UUID of something that has a place in time: the same for the same. Its last bits are mixed rather than hashed, since there are
 * millions of them and nobody has a reason to make two alike.
 *
 * @param seed - of whatever gives such UUIDs: 8 bytes of a hash of what tells it from others
 * @param ms - since 1970
 * @param number - its place among what has the same time; the lowest 26 bits of it count
 * @param key - what else it has, as a text
 */
export function placedUuid(seed: Uint8Array, ms: number, number: number, key: string): Uint8Array {
  const uuid = Buffer.alloc(UUID_BYTES);
  uuid.writeUIntBE(Math.min(Math.max(0, Math.trunc(ms)), MAX_UUID_MS), 0, 6);
  const counter = number % COUNTER_SPACE;
  uuid.writeUInt16BE(0x7000 | (counter >>> 14), 6);
  uuid.writeUInt16BE(0x8000 | (counter & 0x3fff), 8);
  let [a, b] = [0, 4].map((at) => (seed[at]! << 24) | (seed[at + 1]! << 16) | (seed[at + 2]! << 8) | seed[at + 3]!) as [
    number,
    number,
  ];
  const add = (value: number): void => {
    a = mix(a ^ value);
    b = mix(b + a);
  };
  add(Math.floor(ms / 2 ** 32));
  add(ms >>> 0);
  add(Math.floor(number / 2 ** 32));
  add(number >>> 0);
  for (let i = 0; i < key.length; i += 1) add(key.charCodeAt(i));
  uuid.writeUInt32BE(a >>> 0, 10);
  uuid.writeUInt16BE(b >>> 16, 14);
  return uuid;
}

/** Spreads each bit over all 32 (the last step of MurmurHash3). */
function mix(value: number): number {
  let h = value ^ (value >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** The v8 UUID of a hash: its first 16 bytes, with version and variant set. @throws RangeError for a hash that is too short */
export function derivedUuid(hash: Uint8Array): Uint8Array {
  if (hash.length < UUID_BYTES) throw new RangeError(`A hash of ${hash.length} bytes is too short for a UUID.`);
  const uuid = new Uint8Array(hash.subarray(0, UUID_BYTES));
  uuid[6] = (uuid[6]! & 0x0f) | 0x80;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}

/** One part of a natural key, with its storage class said, so that 1, 1.0, '1' and x'31' name four rows. */
export type KeyPart =
  | { readonly type: 'null' }
  | { readonly type: 'integer'; readonly value: number | bigint }
  | { readonly type: 'real'; readonly value: number }
  /** As bytes where it is not valid UTF-8. */
  | { readonly type: 'text'; readonly value: string | Uint8Array }
  | { readonly type: 'blob'; readonly value: Uint8Array }
  /** A foreign key, replaced by the UUID of the row that it points to. */
  | { readonly type: 'uuid'; readonly value: Uint8Array };

/** First byte of a canonical key. Changing the encoding renames every derived row: a new number needs a migration. */
const KEY_FORMAT = 1;

const KEY_TAGS = { null: 0, integer: 1, real: 2, text: 3, blob: 4, uuid: 5 } as const;

/** Bytes of a length, a count or a tag in a canonical key. */
const LENGTH_BYTES = 4;
const NUMBER_BYTES = 8;

/**
 * What names a row with a natural key, as bytes that no other key shares: every variable part carries its length, every
 * part its type. The caller hashes it (SHA-256) and makes a {@link derivedUuid} of it.
 *
 * @param library - the library id, so that two libraries derive different UUIDs
 * @param table - name of the table
 * @param parts - the key columns in key order, text folded by its collation already
 */
export function canonicalKey(library: Uint8Array, table: string, parts: readonly KeyPart[]): Uint8Array {
  const tableBytes = Buffer.byteLength(table);
  let size = 1 + LENGTH_BYTES + library.length + LENGTH_BYTES + tableBytes + LENGTH_BYTES;
  for (const part of parts) size += 1 + sizeOfPart(part);
  const out = Buffer.allocUnsafe(size);
  out[0] = KEY_FORMAT;
  let at = out.writeUInt32BE(library.length, 1);
  out.set(library, at);
  at = out.writeUInt32BE(tableBytes, at + library.length);
  at += out.write(table, at);
  at = out.writeUInt32BE(parts.length, at);
  for (const part of parts) {
    out[at] = KEY_TAGS[part.type];
    at = writePart(out, part, at + 1);
  }
  return out;
}

function sizeOfPart(part: KeyPart): number {
  switch (part.type) {
    case 'null':
      return 0;
    case 'integer':
    case 'real':
      return NUMBER_BYTES;
    case 'text':
      return LENGTH_BYTES + (typeof part.value === 'string' ? Buffer.byteLength(part.value) : part.value.length);
    case 'blob':
      return LENGTH_BYTES + part.value.length;
    case 'uuid':
      if (part.value.length !== UUID_BYTES) throw new RangeError(`A UUID has ${part.value.length} bytes.`);
      return UUID_BYTES;
  }
}

function writePart(out: Buffer, part: KeyPart, at: number): number {
  switch (part.type) {
    case 'null':
      return at;
    case 'integer':
      return out.writeBigInt64BE(BigInt(part.value), at);
    case 'real':
      // −0.0 equals 0.0 in a key; adding 0 makes them one.
      return out.writeDoubleBE(part.value + 0, at);
    case 'text': {
      if (typeof part.value !== 'string') return writePart(out, { type: 'blob', value: part.value }, at);
      const start = at + LENGTH_BYTES;
      const length = out.write(part.value, start);
      out.writeUInt32BE(length, at);
      return start + length;
    }
    case 'blob':
      out.set(part.value, out.writeUInt32BE(part.value.length, at));
      return at + LENGTH_BYTES + part.value.length;
    case 'uuid':
      out.set(part.value, at);
      return at + UUID_BYTES;
  }
}
