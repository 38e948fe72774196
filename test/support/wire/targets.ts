/**
 * Everything that reads what a peer, a command or the network sends: where valid input comes from, how it is read, and what
 * may come of it. Reading may give a value within all limits, or throw a FlotillaError of one of few codes. Nothing else.
 */
import { createHash } from 'node:crypto';

import fc from 'fast-check';

import { FlotillaError } from '../../../src/errors.ts';
import type { ErrorCode } from '../../../src/errors.ts';
import { compareSchemas } from '../../../src/protocol/schema.ts';
import type { SchemaDescription } from '../../../src/protocol/schema.ts';
import { decodeBatch, encodeBatch } from '../../../src/protocol/batch.ts';
import { ByteReader, ByteWriter } from '../../../src/protocol/bytes.ts';
import { readValues, writeValues } from '../../../src/protocol/columns.ts';
import { decodeFrame, encodeFrame } from '../../../src/protocol/frames.ts';
import { Knowledge } from '../../../src/protocol/knowledge.ts';
import { pack, unpack } from '../../../src/protocol/msgpack.ts';
import type { Plain } from '../../../src/protocol/msgpack.ts';
import { encodeStamps, StampSet } from '../../../src/protocol/stamp-set.ts';
import type { Frame } from '../../../src/protocol/types.ts';
import { dialable, ipOf, parseAddress, peerOf, withPeer } from '../../../src/net/addresses.ts';
import { readAnswer, readRequest } from '../../../src/net/control.ts';
import { peersIn } from '../../../src/net/discovery.ts';
import { decodeInvitation, encodeInvitation } from '../../../src/net/invitation.ts';
import { pairTalk } from '../../../src/net/pairing.ts';
import { joinTalk } from '../../../src/net/join.ts';
import { anyRun, batch, frames, knowledge, schemaDescription, sqlValue } from '../../property/protocol-arbitraries.ts';
import type { Chance } from '../random/chance.ts';
import { BATCH_BOMBS, COLUMN_BOMBS, FRAME_BOMBS, MESSAGE_BOMBS, TEXT_BOMBS } from './bombs.ts';
import type { Bomb } from './bombs.ts';
import { damaged, toJson, toMessagePack, twisted } from './damage.ts';
import { hostileApply } from './hostile.ts';

/** Valid messages that damage is drawn from, for one stretch of runs. */
const POOL = 16;
/** Rows of the columns that are read by themselves. */
const COLUMN_ROWS = 7;
/** Bytes of text in them at most. */
const COLUMN_BYTES = 100_000;

/** A decoder under fire. `T` is what a message is before it becomes bytes. */
export interface Target {
  readonly name: string;
  /** One message from chance, damaged. */
  readonly open: (seed: number) => (chance: Chance) => Uint8Array;
  /** Reads it; throws what it throws. Resolves or returns with what is wrong with the result, '' for nothing. */
  readonly read: (bytes: Uint8Array) => string | void;
  readonly codes: readonly ErrorCode[];
  /** Errors of parsers below may be the cause of ours; an accident inside (TypeError, RangeError) may not. */
  readonly causes: readonly string[];
  readonly bombs: readonly Bomb[];
}

const PROTOCOL: readonly ErrorCode[] = ['PROTOCOL'];

/**
 * Draws from a pool of valid messages and damages their bytes, or their content where `twist` can write it.
 * @param arbitraries - one, or one for each type of which some must be in every pool
 */
function open<T>(
  arbitraries: fc.Arbitrary<T> | readonly fc.Arbitrary<T>[],
  encode: (value: T) => Uint8Array,
  twist?: (value: T, chance: Chance) => Uint8Array,
): Target['open'] {
  return (seed) => {
    const kinds = [arbitraries].flat() as fc.Arbitrary<T>[];
    const pool = kinds.flatMap((one) =>
      fc.sample(one, { seed, numRuns: Math.max(2, Math.floor(POOL / kinds.length)) }),
    );
    const bytes = pool.map(encode);
    return (chance) => {
      const i = chance.below(pool.length);
      if (twist !== undefined && chance.is(0.4)) return twist(pool[i] as T, chance);
      return damaged(bytes[i] as Uint8Array, chance, chance.pick(bytes));
    };
  };
}

function frameBytes(one: Frame): Uint8Array {
  const encoded = encodeFrame(one);
  return encoded instanceof Uint8Array ? encoded : new Uint8Array(Buffer.concat(encoded));
}

/** A frame whose fields were exchanged, under its own type. */
function twistedFrame(one: Frame, chance: Chance): Uint8Array {
  const bytes = frameBytes(one);
  if ('data' in one) return bytes;
  const fields = toMessagePack(twisted(unpack(bytes.subarray(1)), chance));
  return new Uint8Array(Buffer.concat([bytes.subarray(0, 1), fields]));
}

/** What can be read must be something that could have been sent. */
function again(what: string, encode: () => unknown): string {
  try {
    encode();
    return '';
  } catch (error) {
    return `${what} was read that nobody may send: ${String(error)}`;
  }
}

/** True when a value has something of a prototype that it was not given. */
function hasForeignPrototype(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return false;
  if (Array.isArray(value)) return value.some(hasForeignPrototype);
  const prototype: unknown = Object.getPrototypeOf(value);
  return (prototype !== null && prototype !== Object.prototype) || Object.values(value).some(hasForeignPrototype);
}

const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

const PEER = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo';
const key = fc.constantFrom(PEER, '12D3KooWSmxU1hn1ct4E6MT6ZfG9QRZ9yFgqzpzgRBbb9fL3vqVL');
const port = fc.integer({ min: 1, max: 65_535 });
const address = fc.oneof(
  fc.tuple(fc.ipV4(), port).map(([ip, number]) => `/ip4/${ip}/tcp/${number}`),
  fc.tuple(fc.ipV6(), port).map(([ip, number]) => `/ip6/${ip}/tcp/${number}`),
  fc.tuple(fc.domain(), port).map(([name, number]) => `/dns4/${name}/tcp/${number}`),
);
const addressWithPeer = fc.tuple(address, key).map(([one, peer]) => withPeer(one, peer));
const invitation = fc.record({
  libraryId: fc.constant('00112233445566778899aabbccddeeff'),
  inviter: key,
  addresses: fc.array(address, { maxLength: 4 }),
  secret: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  expiresAt: fc.nat(),
  psk: fc.option(fc.uint8Array({ minLength: 32, maxLength: 32 })),
});

const INVITATION = 'flotilla1-';
const CHECKSUM_BYTES = 6;

/** An invitation with a checksum that fits, so that damage gets past it. */
function resealed(bytes: Uint8Array): Uint8Array {
  const body = Buffer.from(textOf(bytes).slice(INVITATION.length), 'base64url').subarray(0, -CHECKSUM_BYTES);
  const checksum = createHash('sha256').update(INVITATION).update(body).digest().subarray(0, CHECKSUM_BYTES);
  return bytesOf(INVITATION + Buffer.concat([body, checksum]).toString('base64url'));
}

const request = fc.record({ id: fc.nat(), method: fc.string(), params: fc.jsonValue() });
const answer = fc.record({ id: fc.nat(), error: fc.record({ code: fc.string(), message: fc.string() }) });
const base64 = (length: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((bytes) => Buffer.from(bytes).toString('base64'));
const pairing = fc.oneof(
  fc.record({ type: fc.constant('hello'), nonce: base64(16) }),
  fc.record({ type: fc.constant('share'), share: base64(32) }),
  fc.record({ type: fc.constant('proof'), tag: base64(64) }),
  fc.record({ type: fc.constant('invitation'), tag: base64(64), invitation: fc.string() }),
  fc.record({ type: fc.constant('refused') }),
);
const joining = fc.oneof(
  fc.record({
    type: fc.constant('join'),
    key: fc.base64String({ maxLength: 100 }),
    signature: fc.base64String({ maxLength: 100 }),
    name: fc.string(),
  }),
  fc.constant({ type: 'accept' }),
  fc.record({
    type: fc.constantFrom('offered', 'granted'),
    grant: fc.record({
      libraryId: fc.string(),
      ddl: fc.array(fc.string(), { maxLength: 4 }),
      omitted: fc.array(fc.record({ name: fc.string(), reason: fc.string() }), { maxLength: 2 }),
      config: fc.string(),
      schema: fc.string(),
      membership: fc.base64String(),
    }),
  }),
  fc.record({
    type: fc.constant('refused'),
    code: fc.constantFrom('INVITE_USED', 'REFUSED'),
    message: fc.string(),
  }),
);
const announcement = fc.array(
  fc.record({
    name: fc.constantFrom('_p2p._udp.local', 'a._p2p._udp.local'),
    type: fc.constantFrom('PTR', 'TXT'),
    data: fc.oneof(
      fc.constant('a._p2p._udp.local'),
      addressWithPeer.map((one) => `dnsaddr=${one}`),
      fc.jsonValue(),
    ),
  }),
  { maxLength: 20 },
);

const json = (value: unknown): Uint8Array => bytesOf(JSON.stringify(value));
const twistedJson = (value: unknown, chance: Chance): Uint8Array => bytesOf(toJson(twisted(value, chance)));

/** Reads with each reader; the first that understands it decides. */
function firstOf(readers: ReadonlyArray<() => unknown>): void {
  const last = readers.at(-1);
  for (const read of readers) {
    try {
      return void read();
    } catch (error) {
      if (read === last || !(error instanceof FlotillaError) || error.code !== 'PROTOCOL') throw error;
    }
  }
}

export const TARGETS: readonly Target[] = [
  {
    name: 'frames',
    open: open(Object.values<fc.Arbitrary<Frame>>(frames), frameBytes, twistedFrame),
    read(bytes) {
      const one = decodeFrame(bytes);
      if (one.type !== 'batch' && hasForeignPrototype(one)) return 'a frame has a prototype of its own';
      return again('a frame', () => encodeFrame(one));
    },
    codes: PROTOCOL,
    causes: [],
    bombs: FRAME_BOMBS,
  },
  {
    name: 'msgpack',
    open: open(
      fc.jsonValue(),
      (value) => new Uint8Array(pack(value as Plain)),
      (value, chance) => toMessagePack(twisted(value, chance)),
    ),
    read: (bytes) => (hasForeignPrototype(unpack(bytes)) ? 'plain data has a prototype of its own' : ''),
    codes: PROTOCOL,
    causes: [],
    bombs: MESSAGE_BOMBS,
  },
  {
    name: 'batch',
    open: open(batch, encodeBatch),
    read(bytes) {
      const one = decodeBatch(bytes);
      return again('a batch', () => encodeBatch(one));
    },
    codes: PROTOCOL,
    causes: [],
    bombs: BATCH_BOMBS,
  },
  {
    name: 'columns',
    open: open(fc.array(sqlValue, { minLength: COLUMN_ROWS, maxLength: COLUMN_ROWS }), (values) => {
      const writer = new ByteWriter();
      writeValues(writer, { values }, 'values');
      return writer.finish();
    }),
    read(bytes) {
      const reader = new ByteReader(bytes);
      const { values } = readValues(reader, COLUMN_ROWS, COLUMN_BYTES, 'values');
      reader.end();
      return values.length === COLUMN_ROWS ? '' : 'a column has another number of rows';
    },
    codes: PROTOCOL,
    causes: [],
    bombs: COLUMN_BOMBS,
  },
  {
    name: 'knowledge',
    open: open(
      knowledge.map((known) => known.toWire()),
      ({ runs, hlc }) => json({ runs: Buffer.from(runs).toString('hex'), hlc }),
    ),
    read(bytes) {
      const { runs, hlc } = looseJson(bytes);
      const known = Knowledge.fromWire({
        runs: new Uint8Array(Buffer.from(String(runs), 'hex')),
        hlc: Array.isArray(hlc) ? (hlc as number[]) : [],
      });
      return again('a knowledge', () => known.canonicalBytes());
    },
    codes: PROTOCOL,
    causes: [],
    bombs: [],
  },
  {
    name: 'stamps',
    open: open(
      fc.dictionary(anyRun, fc.array(fc.maxSafeNat(), { minLength: 1, maxLength: 20 }), { minKeys: 1, maxKeys: 4 }),
      (stamps) => encodeStamps(new Map(Object.entries(stamps)))[0] as Uint8Array,
    ),
    read: (bytes) => new StampSet().add(bytes),
    codes: PROTOCOL,
    causes: [],
    bombs: [],
  },
  {
    name: 'schema',
    open: open(
      schemaDescription,
      (schema) => frameBytes({ type: 'schema', schema }),
      (schema, chance) => twistedFrame({ type: 'schema', schema }, chance),
    ),
    read(bytes) {
      const one = decodeFrame(bytes);
      if (one.type !== 'schema') return '';
      const own: SchemaDescription = { tables: one.schema.tables.slice(1) };
      const { differences } = compareSchemas({ name: 'a', schema: own }, { name: 'b', schema: one.schema });
      return differences.every((sentence) => sentence.length < 10_000) ? '' : 'a difference has no end';
    },
    codes: PROTOCOL,
    causes: [],
    bombs: [],
  },
  {
    name: 'apply',
    ...hostileApply(),
    codes: ['PROTOCOL', 'CLOCK_AHEAD'],
    // The last line of defence: what SQLite itself will not commit.
    causes: ['SqliteError'],
    bombs: [],
  },
  {
    name: 'invitation',
    open(seed) {
      const draw = open(invitation, (data) => bytesOf(encodeInvitation(data)))(seed);
      return (chance) => {
        const bytes = draw(chance);
        return chance.is(0.7) ? resealed(bytes) : bytes;
      };
    },
    read(bytes) {
      const { addresses } = decodeInvitation(textOf(bytes));
      return addresses.length <= 255 ? '' : 'an invitation has too many addresses';
    },
    codes: ['INVITE_INVALID'],
    // What it wraps are the words of the parsers below, whatever their class.
    causes: ['*'],
    bombs: TEXT_BOMBS,
  },
  {
    name: 'addresses',
    open: open(addressWithPeer, bytesOf),
    read(bytes) {
      const text = textOf(bytes);
      for (const one of [text, text.replaceAll('\0', '')]) {
        parseAddress(one);
        peerOf(one);
        ipOf(one);
        if (dialable([one], true).some((usable) => !usable.startsWith('/ip4/127.') && !usable.startsWith('/ip6/::1/')))
          return 'an address beyond loopback may be dialled by a local-only node';
      }
      return '';
    },
    codes: [],
    causes: [],
    bombs: TEXT_BOMBS,
  },
  {
    name: 'announcements',
    open: open(announcement, json, twistedJson),
    read(bytes) {
      const parsed = looseJson(bytes);
      const peers = peersIn(Array.isArray(parsed) ? parsed.filter(isAnswer) : [], PEER, false);
      return peers.size <= 8 && [...peers.values()].every((list) => list.length <= 8) ? '' : 'too many were heard';
    },
    codes: [],
    causes: [],
    bombs: [],
  },
  {
    name: 'joining',
    open: open(joining, json, twistedJson),
    read: (bytes) =>
      firstOf([
        () => joinTalk.read('request', bytes),
        () => joinTalk.read('accept', bytes),
        () => joinTalk.read('answer', bytes),
      ]),
    codes: PROTOCOL,
    causes: ['SyntaxError', 'ValiError'],
    bombs: TEXT_BOMBS,
  },
  {
    name: 'pairing',
    open: open(pairing, json, twistedJson),
    read: (bytes) =>
      firstOf([
        () => pairTalk.read('hello', bytes),
        () => pairTalk.read('share', bytes),
        () => pairTalk.read('proof', bytes),
        () => pairTalk.read('answer', bytes),
      ]),
    codes: PROTOCOL,
    causes: ['SyntaxError', 'ValiError'],
    bombs: TEXT_BOMBS,
  },
  {
    name: 'control',
    open: open(fc.oneof(request, answer), json, twistedJson),
    read: (bytes) => firstOf([() => readRequest(textOf(bytes)), () => readAnswer(textOf(bytes))]),
    codes: PROTOCOL,
    causes: ['SyntaxError', 'ValiError'],
    bombs: TEXT_BOMBS,
  },
];

/** JSON for targets that take objects; what is none gives nothing. */
function looseJson(bytes: Uint8Array): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(textOf(bytes));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function isAnswer(value: unknown): value is { name: string; type: string; data?: unknown } {
  return typeof value === 'object' && value !== null && 'name' in value && 'type' in value;
}
