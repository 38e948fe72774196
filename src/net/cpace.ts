/**
 * CPace, a balanced password-authenticated key exchange: two sides that know the same few digits agree on a key, and who does not
 * know them learns from one exchange whether one guess was right, and nothing else. By draft-irtf-cfrg-cpace (as submitted to the RFC editor), cipher suite
 * CPACE-RISTR255-SHA512, with clear roles (initiator A, responder B), no associated data, and its explicit key confirmation. Pure: the
 * scalar comes from the caller. Names and order of steps are those of the draft; its test vectors are tests here.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { ristretto255, ristretto255_hasher } from '@noble/curves/ed25519.js';

/** G.DSI of the suite. */
const DSI = 'CPaceRistretto255';
/** H.s_in_bytes: the block of SHA-512. */
const BLOCK_BYTES = 128;
/** Bytes of a share, and of a scalar. */
export const SHARE_BYTES = 32;
/** Bits of the group's order, rounded down: what the draft keeps of 32 random bytes. */
const SCALAR_BITS = 252n;
/** Bytes of a tag of HMAC-SHA-512. */
export const TAG_BYTES = 64;

type Point = InstanceType<typeof ristretto255.Point>;

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const hash = (...parts: readonly Uint8Array[]): Buffer => createHash('sha512').update(Buffer.concat(parts)).digest();

/** What both sides put in: they agree on a key only if all of it is the same. */
export interface CPaceInput {
  /** PRS: the password-related string. */
  readonly password: Uint8Array;
  /** CI: names the channel and, in the order of their roles, the two sides. */
  readonly channel: Uint8Array;
  /** sid: unique for this exchange, known to both before it. */
  readonly session: Uint8Array;
}

/** One side's part in one exchange; never to be used twice. */
export interface CPaceSide {
  /** Ya or Yb: what is sent. */
  readonly share: Uint8Array;
  /** @returns null when the other's share is none, or the neutral element: the exchange must be broken off */
  finish(role: 'initiator' | 'responder', other: Uint8Array): CPaceKeys | null;
}

/** What has been agreed upon. */
export interface CPaceKeys {
  /** The intermediate session key, from which other keys may be derived. */
  readonly isk: Uint8Array;
  /** The tag that this side sends as its proof. */
  readonly tag: Uint8Array;
  /** True when the tag that came is the other side's proof. */
  proves(tag: Uint8Array): boolean;
}

/** lv_cat: each string with its length in LEB128 before it. */
export function lvCat(...parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts.flatMap((part) => [leb128(part.byteLength), part]));
}

function leb128(length: number): Uint8Array {
  const bytes: number[] = [];
  let rest = length;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Uint8Array.of(...bytes, rest);
}

/** generator_string: the zeros keep the password in a block of its own. */
export function generatorString({ password, channel, session }: CPaceInput): Uint8Array {
  const dsi = bytesOf(DSI);
  const zeros = Math.max(0, BLOCK_BYTES - 1 - lvCat(password).byteLength - lvCat(dsi).byteLength);
  return lvCat(dsi, password, new Uint8Array(zeros), channel, session);
}

/** element_derivation of RFC 9496, which the library has for some groups only. */
function derive(uniform: Uint8Array): Point {
  const { deriveToCurve } = ristretto255_hasher;
  if (deriveToCurve === undefined) throw new Error('@noble/curves has no element derivation for ristretto255');
  return deriveToCurve(uniform);
}

/** sample_scalar, of 32 random bytes. */
function scalarOf(random: Uint8Array): bigint {
  const number = BigInt(`0x${Buffer.from(random).reverse().toString('hex')}`);
  return number & ((1n << SCALAR_BITS) - 1n);
}

/**
 * Begins an exchange.
 * @param random - {@link SHARE_BYTES} fresh random bytes
 */
export function startCPace(input: CPaceInput, random: Uint8Array): CPaceSide {
  const generator = derive(hash(generatorString(input)));
  const scalar = scalarOf(random);
  const share = generator.multiply(scalar).toBytes();
  return {
    share,
    finish(role, other) {
      const point = decode(other);
      const shared = point?.multiply(scalar);
      if (shared === undefined || shared.is0()) return null;
      const [ya, yb] = role === 'initiator' ? [share, other] : [other, share];
      const none = new Uint8Array();
      const transcript = Buffer.concat([lvCat(ya, none), lvCat(yb, none)]);
      const isk = hash(lvCat(bytesOf(`${DSI}_ISK`), input.session, shared.toBytes()), transcript);
      const key = hash(bytesOf('CPaceMac'), input.session, isk);
      const tagOf = (sent: Uint8Array): Buffer => createHmac('sha512', key).update(lvCat(sent, none)).digest();
      const expected = tagOf(other);
      return {
        isk,
        tag: tagOf(share),
        proves: (tag) => tag.byteLength === TAG_BYTES && timingSafeEqual(tag, expected),
      };
    },
  };
}

function decode(share: Uint8Array): Point | null {
  try {
    return ristretto255.Point.fromBytes(share);
  } catch {
    return null;
  }
}
