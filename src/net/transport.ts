/**
 * What our connections are made of: TCP, the library's pre-shared key if it has one, Noise, Yamux. The only file that imports them, so that one can be exchanged for
 * its successor in one place.
 */
import { noise } from '@chainsafe/libp2p-noise';
import { preSharedKey } from '@libp2p/pnet';
import { tcp } from '@libp2p/tcp';
import type { PeerId } from '@libp2p/interface';
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

/** Hears each peer id that Noise has proven, with the instance that came with it; the connection goes on when the promise resolves. */
type OnProven = (peer: PeerId, instance: Uint8Array | undefined, direction: 'inbound' | 'outbound') => Promise<void>;

/**
 * Noise with the instance of this start in its extensions, where libp2p has room for byte strings that only WebTransport uses. It tells whose key
 * it has proven, since libp2p keeps quiet about a peer with our own.
 */
function tellingNoise(instance: Uint8Array, onProven: OnProven): ReturnType<typeof noise> {
  const create = noise({ extensions: { webtransportCerthashes: [instance] } });
  return (components) => {
    const inner = create(components);
    type Secured = Awaited<ReturnType<typeof inner.secureInbound>>;
    const tell = async (secured: Secured, direction: 'inbound' | 'outbound'): Promise<Secured> => {
      await onProven(secured.remotePeer, secured.remoteExtensions?.webtransportCerthashes[0], direction);
      return secured;
    };
    return Object.create(inner, {
      secureInbound: {
        value: async (...given: Parameters<typeof inner.secureInbound>) =>
          tell(await inner.secureInbound(...given), 'inbound'),
      },
      secureOutbound: {
        value: async (...given: Parameters<typeof inner.secureOutbound>) =>
          tell(await inner.secureOutbound(...given), 'outbound'),
      },
    }) as typeof inner;
  };
}

/**
 * The part of libp2p's options that says how bytes travel.
 * @param psk - pre-shared key, without which nobody gets as far as Noise. @default none
 * @param twins - this start of a node, and who hears whom Noise has proven. @default nobody
 */
export function transportOptions(
  psk: Uint8Array | null = null,
  twins: { readonly instance: Uint8Array; readonly onProven: OnProven } | null = null,
): TransportOptions {
  return {
    transports: [tcp()],
    ...(psk === null ? {} : { connectionProtector: preSharedKey({ psk: Buffer.from(encodePsk(psk)) }) }),
    connectionEncrypters: [twins === null ? noise() : tellingNoise(twins.instance, twins.onProven)],
    streamMuxers: [
      yamux({
        maxInboundStreams: MAX_CONNECTION_STREAMS,
        maxOutboundStreams: MAX_CONNECTION_STREAMS,
        streamOptions: { initialStreamWindowSize: INITIAL_WINDOW_BYTES, maxStreamWindowSize: MAX_WINDOW_BYTES },
      }),
    ],
  };
}
