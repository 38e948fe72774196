/**
 * Packets over a libp2p stream: each is its length in 4 bytes, big-endian, and then its bytes. Both directions are pipes
 * of async generators (it-pipe) between the two halves that hold the back-pressure. What a packet means is decided above.
 */
import type { Stream } from '@libp2p/interface';
import { pipe } from 'it-pipe';
import { Uint8ArrayList } from 'uint8arraylist';
import { FlotillaError, messageOf } from '../errors.ts';
import { Inlet } from './inlet.ts';
import { Outlet } from './outlet.ts';

/** Bytes of the length before each packet. */
const LENGTH_BYTES = 4;
/** How long `close` waits for the other side to end too, ms: more than a slow link needs, less than a person waits. */
export const CLOSE_TIMEOUT_MS = 5_000;

/** How long a packet that has begun may bring next to nothing, ms: a link that is down for a moment goes on within seconds. */
export const STALL_MS = 30_000;
/** What "next to nothing" is, bytes: 0.5 kB/s, a tenth of the slowest mobile network. */
export const LEAST_PROGRESS_BYTES = 16 * 1024;

/** A stream of whole packets, with back-pressure both ways. */
export interface Packets {
  /** Peer id of the other side, proven by Noise. */
  readonly peer: string;
  /** Resolves once the stream took all parts of the packet; rejects when the stream is gone. */
  send(parts: readonly Uint8Array[]): Promise<void>;
  /**
   * Packets as they come, each in an ArrayBuffer of its own. Leaving a loop and starting another goes on where the first
   * one stopped. Throws when the stream ends inside a packet, or when a packet is announced that is too long.
   */
  readonly packets: AsyncIterable<Uint8Array>;
  /** What waits here to be read, and how that was kept small. */
  readonly inlet: Pick<Inlet, 'queuedBytes' | 'maxQueuedBytes' | 'pauses'>;
  /** Sends what waits, ends this direction, waits (bounded) for the other side to end. What still comes is dropped. */
  close(): Promise<void>;
  /** Ends both directions at once. */
  abort(error: Error): void;
}

export interface PacketLimits {
  /** How long a packet that begins with this byte may be. @default as long as any */
  readonly limitOf?: (first: number) => number;
  /** @default {@link STALL_MS} */
  readonly stallMs?: number;
}

/**
 * @param stream - a fresh libp2p stream; must be handed over before anything else listens to it
 * @param peer - peer id of the other side
 * @param maxBytes - longest packet that is taken or sent
 */
export function openPackets(stream: Stream, peer: string, maxBytes: number, limits: PacketLimits = {}): Packets {
  const inlet = new Inlet(stream);
  const outlet = new Outlet(stream);
  const split = pipe(
    () => inlet[Symbol.asyncIterator](),
    (source) => splitPackets(source, peer, maxBytes, limits),
    (source) => endOnError(source, stream, peer),
  );
  let closing: Promise<void> | null = null;

  return {
    peer,
    inlet,
    packets: resumable(split),
    async send(parts) {
      const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
      if (bytes > maxBytes) {
        throw new FlotillaError(
          'PROTOCOL',
          `A packet of ${bytes} bytes is longer than the ${maxBytes} that a peer takes.`,
        );
      }
      const length = new Uint8Array(LENGTH_BYTES);
      new DataView(length.buffer).setUint32(0, bytes);
      try {
        await outlet.send([length, ...parts]);
      } catch (error) {
        throw lost(peer, error);
      }
    },
    close() {
      closing ??= closeStream(stream, inlet, outlet);
      return closing;
    },
    abort(error) {
      stream.abort(error);
    },
  };
}

/** An iterable over one iterator that a `break` does not end. */
export function resumable<T>(source: AsyncIterable<T>): AsyncIterable<T> {
  const iterator = source[Symbol.asyncIterator]();
  const next = { next: () => iterator.next() };
  return { [Symbol.asyncIterator]: () => next };
}

async function* splitPackets(
  source: AsyncIterable<Uint8Array | Uint8ArrayList>,
  peer: string,
  maxBytes: number,
  { limitOf = () => maxBytes, stallMs = STALL_MS }: PacketLimits,
): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8ArrayList();
  let length = -1;
  let isChecked = false;
  const requireAllowed = (limit: number): void => {
    if (length <= limit) return;
    throw new FlotillaError(
      'PROTOCOL',
      `${peer} announced a packet of ${length} bytes; at most ${limit} are allowed${limit < maxBytes ? ' of its kind' : ''}.`,
    );
  };
  for await (const chunk of impatient(source, () => length >= 0 || buffer.byteLength > 0, peer, stallMs)) {
    buffer.append(chunk);
    for (;;) {
      if (length < 0) {
        if (buffer.byteLength < LENGTH_BYTES) break;
        length = buffer.getUint32(0);
        buffer.consume(LENGTH_BYTES);
        isChecked = false;
        requireAllowed(maxBytes);
      }
      if (!isChecked && buffer.byteLength > 0) {
        isChecked = true;
        requireAllowed(limitOf(buffer.get(0)));
      }
      if (buffer.byteLength < length) break;
      const packet = take(buffer, length);
      length = -1;
      yield packet;
    }
  }
  if (length >= 0 || buffer.byteLength > 0) {
    throw new FlotillaError('UNREACHABLE', `The connection to ${peer} ended in the middle of a message.`);
  }
}

/** What `source` brings; throws when it is waited for, in the middle of a packet, and next to nothing comes for `stallMs`. */
async function* impatient<T extends { readonly byteLength: number }>(
  source: AsyncIterable<T>,
  isMidway: () => boolean,
  peer: string,
  stallMs: number,
): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  // Time counts only while we wait: what we have not read for want of room is not the peer's fault.
  let waited = 0;
  let bytes = 0;
  for (;;) {
    const next = iterator.next();
    if (!isMidway()) {
      waited = 0;
      bytes = 0;
    }
    while (isMidway()) {
      const started = performance.now();
      const isThere = await isSettledWithin(next, stallMs - waited);
      waited += performance.now() - started;
      if (isThere) break;
      if (bytes < LEAST_PROGRESS_BYTES)
        throw new FlotillaError('UNREACHABLE', `${peer} began a message and did not go on for ${stallMs / 1000} s.`);
      waited = 0;
      bytes = 0;
    }
    const result = await next;
    if (result.done === true) return;
    bytes += result.value.byteLength;
    yield result.value;
  }
}

/** True as soon as the promise has settled, false when it has not after `ms`. */
function isSettledWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), ms);
    const settled = (): void => {
      clearTimeout(timer);
      resolve(true);
    };
    promise.then(settled, settled);
  });
}

/** Copied, so that the packet can move to a worker without taking its neighbours' memory along. */
function take(buffer: Uint8ArrayList, length: number): Uint8Array {
  const packet = new Uint8Array(length);
  let at = 0;
  for (const part of buffer.sublist(0, length)) {
    packet.set(part, at);
    at += part.byteLength;
  }
  buffer.consume(length);
  return packet;
}

/** Whatever goes wrong while reading ends the stream: nothing after it could be understood. */
export async function* endOnError<T>(source: AsyncIterable<T>, stream: Stream, peer: string): AsyncGenerator<T> {
  try {
    yield* source;
  } catch (cause) {
    const error = cause instanceof FlotillaError ? cause : lost(peer, cause);
    stream.abort(error);
    throw error;
  }
}

async function closeStream(stream: Stream, inlet: Inlet, outlet: Outlet): Promise<void> {
  const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
  const gone = new Promise<void>((resolve) => {
    stream.addEventListener('close', () => resolve(), { once: true });
    signal.addEventListener('abort', () => resolve(), { once: true });
    if (stream.timeline.close !== undefined) resolve();
  });
  inlet.discard();
  await Promise.race([outlet.finish(), gone]);
  try {
    await stream.close({ signal });
    await gone;
  } catch {
    // Closing can only fail because the stream is gone, which is what was wanted.
  }
  if (stream.timeline.close === undefined) stream.abort(new Error('The other side did not end its stream in time'));
}

function lost(peer: string, cause: unknown): FlotillaError {
  return new FlotillaError('UNREACHABLE', `The connection to ${peer} is gone: ${messageOf(cause)}.`, { cause });
}
