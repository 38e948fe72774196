/**
 * Peer ids as what they are: an Ed25519 public key, written in base58. Who holds an id can check what its device signed, with
 * no key sent beside it. Pure, and without libp2p, since the database checks records on arrival.
 */
import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
/** Bytes of an Ed25519 public key, and of the seed from which a private one is made. */
export const KEY_BYTES = 32;
/** Identity multihash (00) of 36 bytes: the protobuf of a public key of type 1 (Ed25519), 32 bytes. libp2p's peer id specification. */
const ID_PREFIX = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20);
/** Characters of such an id in base58. */
const ID_LENGTH = 52;
/** DER before the raw key: SubjectPublicKeyInfo and PKCS #8 of Ed25519 (RFC 8410). */
const PUBLIC_DER = Buffer.from('302a300506032b6570032100', 'hex');
const PRIVATE_DER = Buffer.from('302e020100300506032b657004220420', 'hex');

/** The raw public key of a device; null for what is no peer id of an Ed25519 key. */
export function publicKeyOf(peer: string): Uint8Array | null {
  if (peer.length !== ID_LENGTH) return null;
  let value = 0n;
  for (const character of peer) {
    const digit = ALPHABET.indexOf(character);
    if (digit < 0) return null;
    value = value * 58n + BigInt(digit);
  }
  const hex = value.toString(16);
  // The first byte of an id is zero, which a number does not show: base58 writes it as a leading 1.
  const bytes = Buffer.from(`00${hex.length % 2 === 0 ? '' : '0'}${hex}`, 'hex');
  if (bytes.byteLength !== ID_PREFIX.byteLength + KEY_BYTES) return null;
  if (!bytes.subarray(0, ID_PREFIX.byteLength).equals(ID_PREFIX) || !peer.startsWith('1')) return null;
  return Uint8Array.from(bytes.subarray(ID_PREFIX.byteLength));
}

/** True when the device with this id signed these bytes. */
export function isSignedBy(peer: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  const raw = publicKeyOf(peer);
  if (raw === null) return false;
  const key = createPublicKey({ key: Buffer.concat([PUBLIC_DER, raw]), format: 'der', type: 'spki' });
  return verify(null, bytes, key, signature);
}

/** Signs with the key that comes of a seed of {@link KEY_BYTES}. 64 bytes, the same for the same bytes. */
export function signWith(seed: Uint8Array, bytes: Uint8Array): Uint8Array {
  const key = createPrivateKey({ key: Buffer.concat([PRIVATE_DER, seed]), format: 'der', type: 'pkcs8' });
  return new Uint8Array(sign(null, bytes, key));
}
