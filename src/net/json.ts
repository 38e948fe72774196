/**
 * Messages of the short exchanges (joining, pairing): one JSON object a packet, each checked by its schema. What comes is from strangers.
 */
import type { z } from 'zod';
import { FlotillaError } from '../errors.ts';
import type { Packets } from './packets.ts';

export async function sendJson(packets: Packets, message: unknown): Promise<void> {
  await packets.send([new TextEncoder().encode(JSON.stringify(message))]);
}

/** Reads one message. @throws FlotillaError PROTOCOL for what is none of that kind */
export function readJson<T>(packet: Uint8Array, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(new TextDecoder().decode(packet)));
  } catch (cause) {
    throw otherVersion(cause);
  }
}

/** The next message. @throws FlotillaError PROTOCOL; UNREACHABLE when the other side has ended */
export async function receiveJson<T>(packets: Packets, schema: z.ZodType<T>): Promise<T> {
  for await (const packet of packets.packets) return readJson(packet, schema);
  throw new FlotillaError('UNREACHABLE', 'The other side ended the connection without a word.');
}

export function otherVersion(cause?: unknown): FlotillaError {
  return new FlotillaError(
    'PROTOCOL',
    'The other side speaks another version of the join protocol: update Flotilla on both.',
    { cause },
  );
}
