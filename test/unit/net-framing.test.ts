/**
 * Packets and frames over real libp2p streams on loopback: order, ends, limits, and the five back-pressure traps of
 * libp2p 3, observed by what waits where, never by time.
 */
import type { Stream } from '@libp2p/interface';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFrames } from '../../src/net/framing.ts';
import { PAUSE_AT_BYTES, RESUME_AT_BYTES } from '../../src/net/inlet.ts';
import { Outlet, WRITE_BYTES } from '../../src/net/outlet.ts';
import { openPackets } from '../../src/net/packets.ts';
import type { Packets } from '../../src/net/packets.ts';
import { MAX_WINDOW_BYTES } from '../../src/net/transport.ts';
import { FRAME_BYTES, MAX_FRAME_BYTES } from '../../src/protocol/frames.ts';
import { connectPair } from './net-pair.ts';
import type { Pair } from './net-pair.ts';

const MIB = 1024 * 1024;
const LIMIT = 16 * MIB;
/** What may wait at a reader that does not read: its queue, and a window that was granted before the pause. */
const READER_HOLDS = PAUSE_AT_BYTES + 2 * MAX_WINDOW_BYTES;
/** What the sender may have been relieved of, with that reader: the same, and what lies in the sockets. */
const SENDER_MAY_SEND = READER_HOLDS + 8 * MIB;

let pair: Pair;
beforeAll(async () => {
  pair = await connectPair();
});
afterAll(async () => {
  await pair.stop();
});

async function openBoth(): Promise<{ from: Packets; to: Packets; out: Stream; into: Stream }> {
  const [out, into] = await pair.open();
  return { out, into, from: openPackets(out, 'b', LIMIT), to: openPackets(into, 'a', LIMIT) };
}

/** A packet that says its number in its first 4 bytes. */
function numbered(number: number, bytes: number): Uint8Array {
  const packet = new Uint8Array(bytes).fill(number & 0xff);
  new DataView(packet.buffer).setUint32(0, number);
  return packet;
}

function numberOf(packet: Uint8Array): number {
  return new DataView(packet.buffer, packet.byteOffset).getUint32(0);
}

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of source) all.push(item);
  return all;
}

/** Sends `count` packets one after the other; `taken` counts those that the stream took. */
function flood(packets: Packets, count: number, bytes: number): { taken: number; done: Promise<void> } {
  const state = { taken: 0, done: Promise.resolve() };
  state.done = (async () => {
    for (let number = 0; number < count; number += 1) {
      await packets.send([numbered(number, bytes)]);
      state.taken += 1;
    }
  })();
  return state;
}

/** Reads numbered packets until there were `count`; fails when one is out of order or has other bytes. */
async function readNumbered(packets: Packets, count: number, each: () => unknown = () => {}): Promise<void> {
  let expected = 0;
  for await (const packet of packets.packets) {
    expect(numberOf(packet)).toBe(expected);
    expect(packet.at(-1)).toBe(expected & 0xff);
    expected += 1;
    if (expected === count) return;
    await each();
  }
  throw new Error(`only ${expected} packets came`);
}

describe('back-pressure', () => {
  it('[trap 1] a sender stops while the reader does not read, again after every drain', async () => {
    const { from, to, out } = await openBoth();
    const bytes = 256 * 1024;
    const count = 256;
    const sent = flood(from, count, bytes);
    await pair.quiet(() => sent.taken);
    expect(sent.taken * bytes).toBeLessThan(SENDER_MAY_SEND);
    expect(out.writeBufferLength).toBeLessThanOrEqual(WRITE_BYTES);

    // One packet read makes no room for all the others.
    const reader = to.packets[Symbol.asyncIterator]();
    for (let number = 0; number < 32; number += 1) expect(numberOf((await reader.next()).value)).toBe(number);
    await pair.quiet(() => sent.taken);
    expect((sent.taken - 32) * bytes).toBeLessThan(SENDER_MAY_SEND);
    expect(out.writeBufferLength).toBeLessThanOrEqual(WRITE_BYTES);

    for (let number = 32; number < count; number += 1) expect(numberOf((await reader.next()).value)).toBe(number);
    await sent.done;
    from.abort(new Error('done'));
  });

  it('[trap 1] a drain that made room for a part only is not enough for the next write', async () => {
    // A stream that is only told what to say: how much a real one drains at a time is not ours to choose.
    const stream = Object.assign(new EventTarget(), {
      status: 'open',
      writeStatus: 'writable',
      writableNeedsDrain: false,
      writes: 0,
      send() {
        this.writes += 1;
        this.writableNeedsDrain = true;
      },
      abort() {},
    });
    const outlet = new Outlet(stream as unknown as Stream);
    const sent = outlet.send([new Uint8Array(2 * WRITE_BYTES)]);
    const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    await settled();
    expect(stream.writes).toBe(1);
    stream.dispatchEvent(new Event('drain'));
    await settled();
    expect(stream.writes).toBe(1);
    for (const writes of [2, 2]) {
      stream.writableNeedsDrain = false;
      stream.dispatchEvent(new Event('drain'));
      await settled();
      expect(stream.writes).toBe(writes);
    }
    await sent;
  });

  it('[trap 2] a stream that nobody reads is paused, and what waits is bounded', async () => {
    const { from, to, into } = await openBoth();
    const count = 64;
    const sent = flood(from, count, 512 * 1024);
    await pair.quiet(() => [sent.taken, to.inlet.queuedBytes]);
    expect(into.readStatus).toBe('paused');
    expect(to.inlet.queuedBytes + into.readBufferLength).toBeLessThan(READER_HOLDS);

    await readNumbered(to, count);
    await sent.done;
    expect(to.inlet.maxQueuedBytes).toBeLessThan(READER_HOLDS);
    from.abort(new Error('done'));
  });

  it('[trap 3] packets larger than a stream buffer, and a reader who comes late, break nothing', async () => {
    const { from, to, into } = await openBoth();
    const sent = flood(from, 3, 9 * MIB);
    await pair.quiet(() => to.inlet.queuedBytes);
    expect(into.status).toBe('open');
    await readNumbered(to, 3);
    await sent.done;
    from.abort(new Error('done'));
  });

  it('[trap 4] pausing and going on many times does not reset the stream', async () => {
    const { from, to, into } = await openBoth();
    const count = 512;
    const sent = flood(from, count, 96 * 1024);
    // Slower than the sender: a whole round trip for every few packets.
    let read = 0;
    await readNumbered(to, count, () => ((read += 1) % 4 === 0 ? pair.roundTrip() : undefined));
    await sent.done;
    expect(to.inlet.pauses).toBeGreaterThan(3);
    expect(to.inlet.maxQueuedBytes).toBeLessThan(READER_HOLDS);
    expect(into.status).toBe('open');
    from.abort(new Error('done'));
  });

  it('[trap 5] a window that has grown still fits the buffer of a reader who stops', async () => {
    const { from, to, into } = await openBoth();
    const fast = flood(from, 256, 256 * 1024);
    await readNumbered(to, 256);
    await fast.done;
    const { recvWindow } = into as unknown as { recvWindow: number };
    expect(recvWindow).toBeLessThanOrEqual(MAX_WINDOW_BYTES);
    expect(MAX_WINDOW_BYTES + WRITE_BYTES).toBeLessThan(into.maxReadBufferLength);

    const sent = flood(from, 128, 256 * 1024);
    await pair.quiet(() => [sent.taken, to.inlet.queuedBytes, into.readBufferLength]);
    expect(into.status).toBe('open');
    await readNumbered(to, 128);
    await sent.done;
    from.abort(new Error('done'));
  });

  it('goes on reading before the queue is empty', () => {
    expect(RESUME_AT_BYTES).toBeGreaterThan(0);
    expect(RESUME_AT_BYTES).toBeLessThan(PAUSE_AT_BYTES);
  });
});

describe('packets', () => {
  it('arrive whole and in the order of the calls, whatever their sizes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.nat(2_000), fc.constantFrom(0, 65_536, 262_143, 262_144, 262_145, 700_000)), {
          maxLength: 20,
        }),
        async (sizes) => {
          const { from, to } = await openBoth();
          const packets = sizes.map((size, index) => new Uint8Array(size).fill(index + 1));
          // All at once, each in two parts: an interleaved part would show as a foreign byte.
          const sending = Promise.all(
            packets.map((packet) =>
              from.send([packet.subarray(0, packet.length >> 1), packet.subarray(packet.length >> 1)]),
            ),
          );
          const reading = collect(to.packets);
          await sending;
          const closing = from.close();
          const read = await reading;
          await to.close();
          await closing;
          expect(read.map((packet) => packet.length)).toEqual(sizes);
          expect(read.every((packet, index) => packet.every((byte) => byte === index + 1))).toBe(true);
        },
      ),
      { numRuns: 25 },
    );
  });

  it('can be moved to a worker alone: each has its own memory', async () => {
    const { from, to } = await openBoth();
    await Promise.all([from.send([numbered(1, 100)]), from.send([numbered(2, 100)])]);
    for await (const packet of to.packets) {
      expect(packet.buffer.byteLength).toBe(100);
      if (numberOf(packet) === 2) break;
    }
    from.abort(new Error('done'));
  });

  it('go on in a second loop where the first one stopped', async () => {
    const { from, to } = await openBoth();
    for (let number = 0; number < 3; number += 1) await from.send([numbered(number, 8)]);
    const read: number[] = [];
    for await (const packet of to.packets) {
      read.push(numberOf(packet));
      break;
    }
    for await (const packet of to.packets) {
      read.push(numberOf(packet));
      if (read.length === 3) break;
    }
    expect(read).toEqual([0, 1, 2]);
    from.abort(new Error('done'));
  });

  it('announced as too long end the stream before they are sent', async () => {
    const { out, to, into } = await openRaw();
    out.send(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 1, 2, 3));
    await expect(collect(to.packets)).rejects.toMatchObject({ code: 'PROTOCOL' });
    expect(into.status).toBe('aborted');
  });

  it('too long to send are refused here, and the stream goes on', async () => {
    const { from, to } = await openBoth();
    await expect(from.send([new Uint8Array(LIMIT + 1)])).rejects.toMatchObject({ code: 'PROTOCOL' });
    await from.send([numbered(0, 4)]);
    await readNumbered(to, 1);
    from.abort(new Error('done'));
  });

  it.each([
    ['inside the length', [0, 0]],
    ['after the length', [0, 0, 0, 4]],
    ['inside the bytes', [0, 0, 0, 4, 1, 2]],
  ])('cut off %s reject', async (_where, bytes) => {
    const { out, to } = await openRaw();
    out.send(Uint8Array.from([0, 0, 0, 1, 9, ...bytes]));
    await out.close();
    const read: Uint8Array[] = [];
    const loop = (async () => {
      for await (const packet of to.packets) read.push(packet);
    })();
    await expect(loop).rejects.toMatchObject({ code: 'UNREACHABLE' });
    expect(read).toEqual([Uint8Array.of(9)]);
  });

  it('end with the stream when it ends between two of them', async () => {
    const { out, to } = await openRaw();
    out.send(Uint8Array.from([0, 0, 0, 1, 9]));
    await out.close();
    expect(await collect(to.packets)).toEqual([Uint8Array.of(9)]);
    await to.close();
  });

  it('that arrived before a reset are still read, and then it shows', async () => {
    const { from, to, into } = await openBoth();
    await from.send([numbered(0, 8)]);
    await pair.quiet(() => to.inlet.queuedBytes);
    const closed = new Promise((resolve) => into.addEventListener('close', resolve));
    from.abort(new Error('pulled out'));
    await closed;
    await readNumbered(to, 1);
    await expect(collect(to.packets)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('still waiting when the stream breaks reject, as do later ones', async () => {
    const { from, to } = await openBoth();
    const sends = Array.from({ length: 40 }, (_, number) => from.send([numbered(number, 512 * 1024)]));
    const outcomes = Promise.allSettled(sends);
    await pair.quiet(() => to.inlet.queuedBytes);
    to.abort(new Error('gone'));
    const rejected = (await outcomes).filter((outcome) => outcome.status === 'rejected');
    expect(rejected.length).toBeGreaterThan(0);
    await expect(from.send([numbered(0, 4)])).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });
});

describe('closing', () => {
  it('sends what waits before it ends, and waits for the other side', async () => {
    const { from, to, out } = await openBoth();
    const sends = Array.from({ length: 20 }, (_, number) => from.send([numbered(number, 300 * 1024)]));
    let closed = false;
    const closing = from.close().then(() => {
      closed = true;
    });
    const read = await collect(to.packets);
    await Promise.all(sends);
    expect(read.map(numberOf)).toEqual(Array.from({ length: 20 }, (_, number) => number));
    expect(closed).toBe(false);
    await to.close();
    await closing;
    expect(out.status).toBe('closed');
  });

  it('does not wait for an unread rest, and twice is harmless', async () => {
    const { from, to } = await openBoth();
    const sent = flood(from, 40, 256 * 1024).done;
    await pair.quiet(() => to.inlet.queuedBytes);
    const closing = Promise.all([to.close(), to.close()]);
    await sent;
    await from.close();
    await closing;
    expect(to.inlet.queuedBytes).toBe(0);
  });

  it('of a stream that is gone already resolves', async () => {
    const { from, to } = await openBoth();
    from.abort(new Error('gone'));
    await from.close();
    await to.close();
    await expect(from.send([numbered(0, 4)])).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });
});

describe('frames', () => {
  it('cross both ways', async () => {
    const [out, into] = await pair.open();
    const [a, b] = [openFrames(out, 'b'), openFrames(into, 'a')];
    const data = new Uint8Array(3 * MIB).fill(7);
    const sent = Promise.all([
      a.send({ type: 'batch', data }),
      a.send({ type: 'bye', reason: 'done' }),
      b.send({ type: 'bye', reason: 'done too' }),
    ]);
    const [first, second] = [await nextOf(b.frames), await nextOf(b.frames)];
    expect(first.type === 'batch' && Buffer.compare(first.data, data)).toBe(0);
    expect(second).toEqual({ type: 'bye', reason: 'done' });
    expect(await nextOf(a.frames)).toEqual({ type: 'bye', reason: 'done too' });
    await sent;
    await Promise.all([a.close(), b.close()]);
  });

  it('that make no sense end the stream', async () => {
    const [out, into] = await pair.open();
    const channel = openFrames(into, 'a');
    out.send(Uint8Array.from([0, 0, 0, 2, 250, 1]));
    await expect(collect(channel.frames)).rejects.toMatchObject({ code: 'PROTOCOL' });
    expect(into.status).toBe('aborted');
  });

  it('[H8] that have begun and do not go on end the stream, however often a byte comes', async () => {
    const [out, into] = await pair.open();
    const channel = openFrames(into, 'a', { stallMs: 60 });
    out.send(Uint8Array.from([0, 0, 16, 0, 4]));
    const drip = setInterval(() => out.status === 'open' && out.send(Uint8Array.of(1)), 5);
    try {
      await expect(collect(channel.frames)).rejects.toMatchObject({
        code: 'UNREACHABLE',
        message: expect.stringContaining('did not go on'),
      });
      expect(into.status).toBe('aborted');
    } finally {
      clearInterval(drip);
    }
  });

  it('[H8] may be as far apart as they like', async () => {
    const [out, into] = await pair.open();
    const [a, b] = [openFrames(out, 'b'), openFrames(into, 'a', { stallMs: 1 })];
    for (const reason of ['one', 'two']) {
      await a.send({ type: 'bye', reason });
      expect(await nextOf(b.frames)).toEqual({ type: 'bye', reason });
      await pair.quiet(() => 0);
    }
    await Promise.all([a.close(), b.close()]);
  });

  it('[H2] announced as longer than any of their type end the stream before they have come', async () => {
    for (const type of ['hello', 'bye', 'ack', 'inspect', 'want', 'schema'] as const) {
      const [out, into] = await pair.open();
      const channel = openFrames(into, 'a');
      const head = Buffer.alloc(5);
      head.writeUInt32BE(FRAME_BYTES[type] + 1);
      head[4] = { hello: 1, bye: 8, ack: 5, inspect: 6, want: 3, schema: 12 }[type];
      out.send(head);
      await expect(collect(channel.frames)).rejects.toMatchObject({ code: 'PROTOCOL' });
    }
  });

  it('announced as longer than any frame end the stream', async () => {
    const [out, into] = await pair.open();
    const channel = openFrames(into, 'a');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(MAX_FRAME_BYTES + 1);
    out.send(length);
    await expect(collect(channel.frames)).rejects.toMatchObject({ code: 'PROTOCOL' });
  });
});

/** One end raw, to send bytes that the packets would not. */
async function openRaw(): Promise<{ out: Stream; to: Packets; into: Stream }> {
  const [out, into] = await pair.open();
  return { out, into, to: openPackets(into, 'a', LIMIT) };
}

async function nextOf<T>(source: AsyncIterable<T>): Promise<T> {
  for await (const item of source) return item;
  throw new Error('nothing came');
}
