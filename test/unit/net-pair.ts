/**
 * Two libp2p nodes on loopback, connected, for tests that need real streams in their hands.
 */
import type { Stream } from '@libp2p/interface';
import { ping } from '@libp2p/ping';
import { createLibp2p } from 'libp2p';
import { transportOptions } from '../../src/net/transport.ts';

const PROTOCOL = '/test/1';
/** Round trips without any change after which nothing is on its way any more. */
const QUIET_ROUNDS = 20;

export interface Pair {
  /** A fresh stream: the end that opened it, and the other. */
  open(): Promise<[Stream, Stream]>;
  /** Waits until `observe` stays the same over many round trips on the same connection: everything sent has arrived. */
  quiet(observe: () => unknown): Promise<void>;
  /** One round trip each way. */
  roundTrip(): Promise<void>;
  stop(): Promise<void>;
}

export async function connectPair(): Promise<Pair> {
  const start = () =>
    createLibp2p({
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      ...transportOptions(),
      services: { ping: ping() },
      connectionMonitor: { enabled: false },
    });
  const [a, b] = await Promise.all([start(), start()]);
  let arrived: (stream: Stream) => void = () => {};
  await b.handle(PROTOCOL, (stream) => arrived(stream), { maxInboundStreams: 100 });
  const connection = await a.dial(b.getMultiaddrs());
  const roundTrip = async (): Promise<void> => {
    await a.services.ping.ping(b.peerId);
    await b.services.ping.ping(a.peerId);
  };
  return {
    roundTrip,
    async open() {
      const inbound = new Promise<Stream>((resolve) => {
        arrived = resolve;
      });
      const outbound = await connection.newStream(PROTOCOL, { maxOutboundStreams: 100 });
      return [outbound, await inbound];
    },
    async quiet(observe) {
      let last = JSON.stringify(observe());
      for (let rounds = 0; rounds < QUIET_ROUNDS; rounds += 1) {
        await roundTrip();
        const now = JSON.stringify(observe());
        if (now !== last) rounds = 0;
        last = now;
      }
    },
    async stop() {
      await Promise.all([a.stop(), b.stop()]);
    },
  };
}
