/**
 * What our connections are made of: TCP, the library's pre-shared key if it has one, Noise, Yamux. The only file that imports them, so that one can be exchanged for
 * its successor in one place.
 */
import { noise } from '@chainsafe/libp2p-noise';
import { preSharedKey } from '@libp2p/pnet';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import type { Libp2pOptions } from 'libp2p';
import { encodePsk } from './psk.ts';

/** Yamux window of a fresh stream, bytes: the protocol's own start value, which a peer may rely on. */
const INITIAL_WINDOW_BYTES = 256 * 1024;
/**
 * Greatest window, bytes. A stream's read buffer holds 4 MiB and is reset beyond it, so a paused stream must never have
 * granted more than that; 2 MiB still carry 26 MB/s over a round trip of 50 ms.
 */
export const MAX_WINDOW_BYTES = 2 * 1024 * 1024;

/**
 * Streams of one connection at the same time, each way: one of a session, one for each beat of the heart, identify, and those that end.
 * yamux resets what a peer opens beyond.
 */
export const MAX_CONNECTION_STREAMS = 32;

type TransportOptions = Pick<
  Libp2pOptions,
  'transports' | 'connectionProtector' | 'connectionEncrypters' | 'streamMuxers'
>;

/**
 * The part of libp2p's options that says how bytes travel.
 * @param psk - pre-shared key, without which nobody gets as far as Noise. @default none
 */
export function transportOptions(psk: Uint8Array | null = null): TransportOptions {
  return {
    transports: [tcp()],
    ...(psk === null ? {} : { connectionProtector: preSharedKey({ psk: Buffer.from(encodePsk(psk)) }) }),
    connectionEncrypters: [noise()],
    streamMuxers: [
      yamux({
        maxInboundStreams: MAX_CONNECTION_STREAMS,
        maxOutboundStreams: MAX_CONNECTION_STREAMS,
        streamOptions: { initialStreamWindowSize: INITIAL_WINDOW_BYTES, maxStreamWindowSize: MAX_WINDOW_BYTES },
      }),
    ],
  };
}
