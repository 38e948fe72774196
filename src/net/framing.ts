/**
 * A session's stream as a channel of frames: the frame codec of `protocol/` piped onto packets. No limit and no
 * back-pressure of its own: those belong to the packets below and to the session's credit above.
 */
import type { Stream } from '@libp2p/interface';
import { pipe } from 'it-pipe';
import { decodeFrame, encodeFrame, frameLimit, MAX_FRAME_BYTES } from '../protocol/frames.ts';
import type { Channel, Frame } from '../protocol/types.ts';
import { endOnError, openPackets, resumable } from './packets.ts';
import type { PacketLimits, Packets } from './packets.ts';

/** A channel that also shows what waits in it. */
export interface StreamChannel extends Channel {
  readonly inlet: Packets['inlet'];
}

/**
 * @param stream - a fresh libp2p stream; listened to from this call on, so that nothing piles up unseen
 * @param peer - peer id of the other side, as Noise proved it
 */
export function openFrames(stream: Stream, peer: string, limits: Pick<PacketLimits, 'stallMs'> = {}): StreamChannel {
  const packets = openPackets(stream, peer, MAX_FRAME_BYTES, { limitOf: frameLimit, ...limits });
  const frames = pipe(
    () => decodeFrames(packets.packets),
    (source) => endOnError(source, stream, peer),
  );
  return {
    peer,
    inlet: packets.inlet,
    frames: resumable(frames),
    async send(frame) {
      const encoded = encodeFrame(frame);
      await packets.send(encoded instanceof Uint8Array ? [encoded] : encoded);
    },
    close: () => packets.close(),
    abort: (error) => packets.abort(error),
  };
}

async function* decodeFrames(packets: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  for await (const packet of packets) yield decodeFrame(packet);
}
