/**
 * What our connections are made of: TCP, the library's pre-shared key if it has one, Noise, Yamux. The only file that imports them, so that one can be exchanged for
 * its successor in one place.
 */
import { noise } from '@chainsafe/libp2p-noise';
import { preSharedKey } from '@libp2p/pnet';
import { tcp } from '@libp2p/tcp';
import type { MultiaddrConnection, PeerId } from '@libp2p/interface';
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
 * Streams of one connection at the same time, each way: one of a session, one for each beat of the heart, and those that end.
 * yamux resets what a peer opens beyond.
 */
export const MAX_CONNECTION_STREAMS = 32;

type TransportOptions = Pick<
  Libp2pOptions,
  'transports' | 'connectionProtector' | 'connectionEncrypters' | 'streamMuxers'
>;

/** What Noise has proven of a connection. */
export interface Proven {
  readonly peer: PeerId;
  /** Of the node at the other end, under its key; undefined where it names none. */
  readonly instance: Uint8Array | undefined;
  readonly direction: 'inbound' | 'outbound';
  readonly remoteAddr: MultiaddrConnection['remoteAddr'];
}

/** Hears what Noise has proven; the connection goes on when the promise resolves. */
type OnProven = (proven: Proven) => Promise<void>;

/**
 * Noise with the instance of this start in its extensions, where libp2p has room for byte strings that only WebTransport uses. It tells whose key
 * it has proven, since libp2p keeps quiet about a peer with our own.
 */
function tellingNoise(instance: Uint8Array, onProven: OnProven): ReturnType<typeof noise> {
  const create = noise({ extensions: { webtransportCerthashes: [instance] } });
  return (components) => {
    const inner = create(components);
    const telling = (direction: Proven['direction'], secure: typeof inner.secureInbound) => ({
      async value(...given: Parameters<typeof secure>): ReturnType<typeof secure> {
        const secured = await secure.apply(inner, given);
        await onProven({
          peer: secured.remotePeer,
          instance: secured.remoteExtensions?.webtransportCerthashes[0],
          direction,
          // The pre-shared key wraps the connection of a transport in one that has the same address.
          remoteAddr: (given[0] as MultiaddrConnection).remoteAddr,
        });
        return secured;
      },
    });
    return Object.create(inner, {
      secureInbound: telling('inbound', inner.secureInbound),
      secureOutbound: telling('outbound', inner.secureOutbound),
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
