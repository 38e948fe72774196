/**
 * The text of an invitation, and the key that it stands for. Whoever holds the text can derive that key, whose peer id the
 * inviting node lets in for the join protocol alone. Pure: the secret and the time come from the caller.
 */
import { createHash, createPrivateKey, createPublicKey, hkdfSync } from 'node:crypto';
import { privateKeyFromRaw, publicKeyFromRaw } from '@libp2p/crypto/keys';
import type { Ed25519PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey, peerIdFromPublicKey, peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { FlotillaError } from '../errors.ts';
import { withoutPeer } from './addresses.ts';
import { PSK_BYTES } from './psk.ts';

/** How an invitation begins; the number is its version. */
const PREFIX = 'flotilla1-';
const LIBRARY_BYTES = 16;
/** 128 bits: nobody guesses it while the invitation is open. */
export const SECRET_BYTES = 16;
/** ms since 1970 in 6 bytes: enough until the year 10889. */
const EXPIRY_BYTES = 6;
/** An Ed25519 public key; its peer id follows from it. */
const KEY_BYTES = 32;
/** What stands before the seed in a private key of that kind in DER (RFC 8410, PKCS #8). */
const KEY_HEADER = Buffer.from('302e020100300506032b657004220420', 'hex');
/** A damaged text passes with a probability of 2^-48. */
const CHECKSUM_BYTES = 6;

export interface InvitationData {
  /** 32 hex digits. */
  readonly libraryId: string;
  /** Peer id of the node that lets the new device in. */
  readonly inviter: string;
  /** Multiaddrs of that node, without `/p2p/…`. */
  readonly addresses: readonly string[];
  /** {@link SECRET_BYTES} random bytes. */
  readonly secret: Uint8Array;
  /** ms since 1970 */
  readonly expiresAt: number;
  /** Pre-shared key of the library, {@link PSK_BYTES} bytes; null where it has none. */
  readonly psk: Uint8Array | null;
}

/** The invitation as one word of letters, digits, `-` and `_`. */
export function encodeInvitation(data: InvitationData): string {
  const key = peerIdFromString(data.inviter).publicKey;
  if (key?.type !== 'Ed25519') throw new FlotillaError('CONFIG', `${data.inviter} is no peer id of a Flotilla node.`);
  const expiry = Buffer.alloc(EXPIRY_BYTES);
  expiry.writeUIntBE(data.expiresAt, 0, EXPIRY_BYTES);
  const addresses = data.addresses.map((address) => multiaddr(withoutPeer(address)).bytes);
  const body = Buffer.concat([
    Buffer.from(data.libraryId, 'hex'),
    data.secret,
    expiry,
    key.raw,
    Uint8Array.of(addresses.length),
    ...addresses.flatMap((bytes) => [Uint8Array.of(bytes.byteLength), bytes]),
    data.psk ?? new Uint8Array(),
  ]);
  return PREFIX + Buffer.concat([body, checksum(body)]).toString('base64url');
}

/**
 * Reads an invitation; spaces and line breaks, as a terminal or a mail adds them, do not matter.
 * @throws FlotillaError INVITE_INVALID for anything that `encodeInvitation` did not make
 */
export function decodeInvitation(text: string): InvitationData {
  const word = text.replace(/\s+/g, '');
  const bytes = Buffer.from(word.slice(PREFIX.length), 'base64url');
  const body = bytes.subarray(0, -CHECKSUM_BYTES);
  // Written again and compared, since the decoder skips foreign characters and the last one has unused bits.
  const intact =
    word === PREFIX + bytes.toString('base64url') && checksum(body).equals(bytes.subarray(body.byteLength));
  if (!intact) throw invalid();
  try {
    return parse(body);
  } catch (cause) {
    throw invalid(cause);
  }
}

/** The key whose peer id is the invitation's. */
export function invitationKey(secret: Uint8Array): Ed25519PrivateKey {
  const seed = Buffer.from(hkdfSync('sha256', secret, new Uint8Array(), 'flotilla invitation key 1', KEY_BYTES));
  // libp2p would do this in JavaScript, which fills tables for some 40 ms first, and the event loop waits.
  const key = createPrivateKey({ key: Buffer.concat([KEY_HEADER, seed]), format: 'der', type: 'pkcs8' });
  const { x = '' } = createPublicKey(key).export({ format: 'jwk' });
  const made = privateKeyFromRaw(Buffer.concat([seed, Buffer.from(x, 'base64url')]));
  if (made.type !== 'Ed25519') throw new Error(`A key of another kind was made: ${made.type}`);
  return made;
}

/** The peer id under which a holder of the invitation appears. */
export function invitationPeer(secret: Uint8Array): string {
  return peerIdFromPrivateKey(invitationKey(secret)).toString();
}

function parse(body: Buffer): InvitationData {
  let at = 0;
  const take = (bytes: number): Buffer => {
    if (at + bytes > body.byteLength) throw new RangeError('The invitation is too short');
    at += bytes;
    return body.subarray(at - bytes, at);
  };
  const libraryId = take(LIBRARY_BYTES).toString('hex');
  const secret = new Uint8Array(take(SECRET_BYTES));
  const expiresAt = take(EXPIRY_BYTES).readUIntBE(0, EXPIRY_BYTES);
  const key = publicKeyFromRaw(new Uint8Array(take(KEY_BYTES)));
  if (key.type !== 'Ed25519') throw new RangeError('The invitation holds another kind of key');
  const addresses = Array.from({ length: take(1).readUInt8() }, () =>
    multiaddr(new Uint8Array(take(take(1).readUInt8()))).toString(),
  );
  const psk = at === body.byteLength ? null : new Uint8Array(take(PSK_BYTES));
  if (at !== body.byteLength) throw new RangeError('The invitation is too long');
  return { libraryId, inviter: peerIdFromPublicKey(key).toString(), addresses, secret, expiresAt, psk };
}

function checksum(body: Uint8Array): Buffer {
  return createHash('sha256').update(PREFIX).update(body).digest().subarray(0, CHECKSUM_BYTES);
}

function invalid(cause?: unknown): FlotillaError {
  return new FlotillaError(
    'INVITE_INVALID',
    'The invitation is damaged or incomplete: copy the whole text again, from "flotilla1-" to its end.',
    { cause },
  );
}
