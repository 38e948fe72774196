/**
 * The pre-shared key of a library: who does not have it does not finish a handshake. Its file has libp2p's own form (as in
 * `swarm.key` of other libp2p programs), so that people can look at it, and bring one. Pure but for the random bytes.
 */
import { randomBytes } from 'node:crypto';
import { FlotillaError } from '../errors.ts';

/** 256 bits, as XSalsa20 wants them. */
export const PSK_BYTES = 32;

/** The two lines before the key: what it is, and how it is written. */
const HEADER = '/key/swarm/psk/1.0.0/\n/base16/\n';
const FILE = /^\/key\/swarm\/psk\/1\.0\.0\/\r?\n\/base16\/\r?\n([0-9a-fA-F]{64})\s*$/;

/** A fresh key. */
export function makePsk(): Uint8Array {
  return new Uint8Array(randomBytes(PSK_BYTES));
}

/** The key as the text of its file. */
export function encodePsk(psk: Uint8Array): string {
  return `${HEADER}${Buffer.from(psk).toString('hex')}\n`;
}

/**
 * Reads the text of a key's file.
 * @param path - for the message
 * @throws FlotillaError CONFIG for anything else
 */
export function decodePsk(text: string, path: string): Uint8Array {
  const hex = FILE.exec(text)?.[1];
  if (hex !== undefined) return Uint8Array.from(Buffer.from(hex, 'hex'));
  throw new FlotillaError(
    'CONFIG',
    `${path} holds no pre-shared key: copy the file of the same name from the home folder of another device of the library.`,
  );
}
