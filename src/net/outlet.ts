/**
 * The writing half of a libp2p stream: a queue of packets, joined when small, cut when large, written no faster than the
 * stream drains. Never uses `stream.onDrain()`: it does not re-arm after the first drain, and memory grows without end.
 */
import type { Stream, StreamCloseEvent } from '@libp2p/interface';
import { pipe } from 'it-pipe';
import { Uint8ArrayList } from 'uint8arraylist';

/** Largest write. Above 256 KiB libp2p gets no faster, and one write would hold more of its memory. */
export const WRITE_BYTES = 256 * 1024;
/** Packets waiting at the same moment are joined up to this many bytes: below it the cost per write rules. */
export const GATHER_BYTES = 64 * 1024;

interface Waiting {
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Writes packets in the order of the calls; no two of them ever interleave. */
export class Outlet {
  readonly #stream: Stream;
  readonly #queue: Waiting[] = [];
  #group: Waiting[] = [];
  #finishing = false;
  #error: Error | null = null;
  #wake: (() => void) | null = null;
  readonly #done: Promise<void>;

  constructor(stream: Stream) {
    this.#stream = stream;
    stream.addEventListener('close', (event) => this.#fail(closeError(event)));
    if (stream.status !== 'open') this.#fail(closeError(undefined));
    this.#done = pipe(
      () => this.#groups(),
      toWrites,
      (source) => writeTo(stream, source),
    ).catch((error: unknown) => this.#fail(error instanceof Error ? error : new Error(String(error))));
  }

  /** Resolves once the stream has taken every byte, so that the memory may be used again. */
  send(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#error !== null) return Promise.reject(this.#error);
    if (this.#finishing) return Promise.reject(closeError(undefined));
    return new Promise((resolve, reject) => {
      const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
      this.#queue.push({ parts, bytes, resolve, reject });
      this.#notify();
    });
  }

  /** Takes nothing more, and resolves when everything has been written, or when the stream is gone. */
  async finish(): Promise<void> {
    this.#finishing = true;
    this.#notify();
    await this.#done;
  }

  /** What is to be written next, as one group; the one before is answered when the next is asked for. */
  async *#groups(): AsyncGenerator<readonly Uint8Array[]> {
    for (;;) {
      for (const packet of this.#group) packet.resolve();
      this.#group = [];
      while (this.#queue.length === 0) {
        if (this.#error !== null) throw this.#error;
        if (this.#finishing) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      let bytes = 0;
      let count = 0;
      for (const packet of this.#queue) {
        if (count > 0 && bytes + packet.bytes > GATHER_BYTES) break;
        bytes += packet.bytes;
        count += 1;
      }
      this.#group = this.#queue.splice(0, count);
      yield this.#group.flatMap((packet) => packet.parts);
    }
  }

  #fail(error: Error): void {
    this.#error ??= error;
    for (const packet of [...this.#group, ...this.#queue.splice(0)]) packet.reject(this.#error);
    this.#group = [];
    // The pipe still waits for its next group when the stream ends in a quiet moment.
    this.#notify();
    if (this.#stream.status === 'open') this.#stream.abort(this.#error);
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}

/** Joins the parts of a group and cuts them, so that every write but the last is large. */
async function* toWrites(groups: AsyncIterable<readonly Uint8Array[]>): AsyncGenerator<Uint8Array | Uint8ArrayList> {
  for await (const parts of groups) {
    let pieces: Uint8Array[] = [];
    let bytes = 0;
    for (const part of parts) {
      for (let from = 0; from < part.byteLength;) {
        const piece = part.subarray(from, from + WRITE_BYTES - bytes);
        pieces.push(piece);
        from += piece.byteLength;
        bytes += piece.byteLength;
        if (bytes < WRITE_BYTES) continue;
        yield new Uint8ArrayList(...pieces);
        pieces = [];
        bytes = 0;
      }
    }
    // Many small pieces are copied into one: encrypting them one by one costs more than the copy.
    if (bytes > 0) yield bytes <= GATHER_BYTES ? Buffer.concat(pieces) : new Uint8ArrayList(...pieces);
  }
}

async function writeTo(stream: Stream, source: AsyncIterable<Uint8Array | Uint8ArrayList>): Promise<void> {
  for await (const chunk of source) {
    stream.send(chunk);
    // In a loop: one drain may make room for a part of the chunk only.
    while (stream.writableNeedsDrain) await drained(stream);
  }
}

/** One `drain` event from now on; rejects when the stream closes first. */
function drained(stream: Stream): Promise<void> {
  return new Promise((resolve, reject) => {
    if (stream.writeStatus === 'closed') {
      reject(closeError(undefined));
      return;
    }
    const onDrain = (): void => {
      stream.removeEventListener('close', onClose);
      resolve();
    };
    const onClose = (event: StreamCloseEvent): void => {
      stream.removeEventListener('drain', onDrain);
      reject(closeError(event));
    };
    stream.addEventListener('drain', onDrain, { once: true });
    stream.addEventListener('close', onClose, { once: true });
  });
}

function closeError(event: StreamCloseEvent | undefined): Error {
  return event?.error ?? new Error('The stream is closed');
}
