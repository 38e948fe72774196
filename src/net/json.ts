/**
 * Messages of the short exchanges (joining, pairing): one JSON object a packet, each checked by its schema. What comes is from strangers.
 */
import type * as v from 'valibot';
import { FlotillaError } from '../errors.ts';
import { read as parse } from '../protocol/forms.ts';
import type { Packets } from './packets.ts';

/** What two sides say to each other, by kind. */
export type Schemas = Readonly<Record<string, v.GenericSchema>>;

/** See {@link conversation}. */
export interface Talk<S extends Schemas> {
  send(packets: Packets, message: v.InferOutput<S[keyof S]>): Promise<void>;
  /** The next message. @throws FlotillaError PROTOCOL; UNREACHABLE when the other side has ended */
  receive<K extends keyof S>(packets: Packets, kind: K): Promise<v.InferOutput<S[K]>>;
  /** Reads one message. @throws FlotillaError PROTOCOL for what is none of that kind */
  read<K extends keyof S>(kind: K, packet: Uint8Array): v.InferOutput<S[K]>;
}

/** Sending and reading of messages that have these forms. */
export function conversation<S extends Schemas>(schemas: S): Talk<S> {
  function read<K extends keyof S>(kind: K, packet: Uint8Array): v.InferOutput<S[K]> {
    try {
      return parse(schemas[kind] as S[K], JSON.parse(new TextDecoder().decode(packet)));
    } catch (cause) {
      throw otherVersion(cause);
    }
  }
  return {
    send: (packets, message) => packets.send([new TextEncoder().encode(JSON.stringify(message))]),
    async receive(packets, kind) {
      for await (const packet of packets.packets) return read(kind, packet);
      throw new FlotillaError('UNREACHABLE', 'The other side ended the connection without a word.');
    },
    read,
  };
}

export function otherVersion(cause?: unknown): FlotillaError {
  return new FlotillaError(
    'PROTOCOL',
    'The other side speaks another version of the join protocol: update Flotilla on both.',
    { cause },
  );
}
