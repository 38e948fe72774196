/**
 * The reading half of a libp2p stream: a bounded queue between the network, which pushes, and a loop, which pulls.
 * A libp2p stream never pauses by itself, whatever reads it (`for await`, the it-pipe adapters, `lpStream`): memory grows
 * with a slow reader, or the stream is reset at 4 MiB. So this half pauses and resumes it. No codec may enter here.
 */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface';
import type { Uint8ArrayList } from 'uint8arraylist';

/** Bytes in the queue from which the stream is paused: a few batches, so that the loop above never runs dry. */
export const PAUSE_AT_BYTES = 1024 * 1024;
/** Bytes in the queue at which it goes on: half, so that pausing is rare and the window is granted in large steps. */
export const RESUME_AT_BYTES = PAUSE_AT_BYTES / 2;

/** Bytes as they came, in order, taken from the stream no faster than they are read here. For one loop. */
export class Inlet {
  /** Bytes that are here and were not read yet. */
  queuedBytes = 0;
  /** The greatest `queuedBytes` so far. */
  maxQueuedBytes = 0;
  /** How often the stream was paused. */
  pauses = 0;

  readonly #stream: Stream;
  readonly #chunks: Array<Uint8Array | Uint8ArrayList> = [];
  #pauseDue = false;
  #ended = false;
  #error: Error | null = null;
  #wake: (() => void) | null = null;

  /** Listens from now on: what arrives before the first read is bounded too. */
  constructor(stream: Stream) {
    this.#stream = stream;
    stream.addEventListener('message', this.#onMessage);
    stream.addEventListener('end', this.#onEnd);
    stream.addEventListener('close', this.#onClose);
    if (stream.readableEnded || (stream.status !== 'open' && stream.readBufferLength === 0)) this.#ended = true;
  }

  /** What is there, then what comes; ends with the stream, throws its error after the last byte that arrived. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array | Uint8ArrayList, void> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.queuedBytes -= chunk.byteLength;
        this.#resumeIfLow();
        yield chunk;
      } else if (this.#error !== null) {
        throw this.#error;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  /** Ends the loop and drops what still comes, so that an unread rest does not keep the stream from closing. */
  discard(): void {
    this.#stream.removeEventListener('message', this.#onMessage);
    // Without any listener the bytes would pile up in the stream.
    this.#stream.addEventListener('message', () => {});
    this.#chunks.length = 0;
    this.queuedBytes = 0;
    this.#ended = true;
    this.#resumeIfLow();
    this.#notify();
  }

  readonly #onMessage = (event: StreamMessageEvent): void => {
    this.#chunks.push(event.data);
    this.queuedBytes += event.data.byteLength;
    this.maxQueuedBytes = Math.max(this.maxQueuedBytes, this.queuedBytes);
    this.#notify();
    if (this.queuedBytes < PAUSE_AT_BYTES || this.#pauseDue) return;
    this.#pauseDue = true;
    // Not here: this listener may run inside resume(), which would undo the pause towards yamux and go on granting window.
    queueMicrotask(() => {
      this.#pauseDue = false;
      if (this.queuedBytes < PAUSE_AT_BYTES || this.#stream.readStatus !== 'readable') return;
      this.#stream.pause();
      this.pauses += 1;
    });
  };

  readonly #onEnd = (): void => {
    this.#ended = true;
    this.#notify();
  };

  readonly #onClose = (event: StreamCloseEvent): void => {
    if (event.error !== undefined) this.#error = event.error;
    // A stream that was paused when the connection went still holds bytes: `end` follows when they have been read.
    else if (this.#stream.readBufferLength === 0) this.#ended = true;
    this.#notify();
  };

  #resumeIfLow(): void {
    if (this.#stream.readStatus !== 'paused' || this.queuedBytes > RESUME_AT_BYTES) return;
    try {
      this.#stream.resume();
    } catch {
      // The connection is gone, so no window can be granted any more; the bytes were handed over before that failed.
    }
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
