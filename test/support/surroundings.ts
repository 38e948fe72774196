/** What a library needs from outside, for devices that tests give short names: those have no keys, so their signatures are pretended. */
import { createHash } from 'node:crypto';

import type { Seal, Surroundings } from '../../src/db/library.ts';
import { realSurroundings } from '../../src/db/writer.ts';

/** A signature of 32 bytes that anybody could make. */
export function pretendedSeal(device: string): Seal {
  const mark = (signer: string, bytes: Uint8Array): Buffer =>
    createHash('sha256').update(`${signer}\n`).update(bytes).digest();
  return {
    sign: (bytes) => mark(device, bytes),
    isSignedBy: (signer, bytes, signature) => mark(signer, bytes).equals(signature),
  };
}

/** The real clock and randomness. */
export function surroundingsOf(device: string, file?: string): Surroundings {
  return { ...realSurroundings(device, file), seal: pretendedSeal(device) };
}
