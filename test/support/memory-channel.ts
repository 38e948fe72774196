/**
 * A pair of channels in memory, in place of a libp2p stream. Frames cross in order; what is not read waits. As with a
 * process that is killed, an abort shows at the other side as a clean end.
 */
import type { Channel, Frame } from '../../src/protocol/types.ts';

export interface MemoryChannelOptions {
  /** Called with each frame before it crosses; throw to lose it, as if the stream had broken there. */
  readonly onFrame?: (from: string, frame: Frame) => void;
}

export interface MemoryChannel extends Channel {
  /** True when it was closed or aborted by its own side. */
  readonly ended: boolean;
  /** Why it was aborted by its own side; null if it was not. */
  readonly abortedWith: Error | null;
}

class End implements MemoryChannel {
  readonly peer: string;
  readonly #own: string;
  readonly #options: MemoryChannelOptions;
  readonly #inbox: Frame[] = [];
  #other: End | null = null;
  #inboxEnded = false;
  #wake: (() => void) | null = null;
  ended = false;
  abortedWith: Error | null = null;

  constructor(own: string, peer: string, options: MemoryChannelOptions) {
    this.#own = own;
    this.peer = peer;
    this.#options = options;
  }

  join(other: End): void {
    this.#other = other;
  }

  async send(frame: Frame): Promise<void> {
    // A stream takes nothing in the tick in which it is asked to.
    await Promise.resolve();
    const other = this.#other;
    if (this.ended || other === null || other.abortedWith !== null) throw new Error('the stream is gone');
    try {
      this.#options.onFrame?.(this.#own, frame);
    } catch (error) {
      this.abort(error as Error);
      throw error;
    }
    if (this.ended) throw new Error('the stream is gone');
    other.#inbox.push(structuredClone(frame));
    other.#wake?.();
  }

  get frames(): AsyncIterable<Frame> {
    return { [Symbol.asyncIterator]: () => this.#read() };
  }

  async *#read(): AsyncGenerator<Frame> {
    for (;;) {
      if (this.abortedWith !== null) return;
      const frame = this.#inbox.shift();
      if (frame !== undefined) yield frame;
      else if (this.#inboxEnded) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async close(): Promise<void> {
    this.ended = true;
    this.#other?.endInbox();
  }

  abort(error: Error): void {
    if (this.abortedWith !== null) return;
    this.abortedWith = error;
    this.ended = true;
    this.endInbox();
    this.#other?.endInbox();
  }

  endInbox(): void {
    this.#inboxEnded = true;
    this.#wake?.();
  }
}

/** Two joined ends: the first is `a`'s, whose `peer` is `b`. */
export function memoryChannelPair(
  a: string,
  b: string,
  options: MemoryChannelOptions = {},
): [MemoryChannel, MemoryChannel] {
  const first = new End(a, b, options);
  const second = new End(b, a, options);
  first.join(second);
  second.join(first);
  return [first, second];
}
