/**
 * Reading the frames of a channel one by one.
 */
import type { Channel, Frame } from '../protocol/types.ts';

/** The frames of a channel, so that a wait for the next one can be left and taken up again. */
export interface Reading {
  /** The next frame that was not taken: call it again after a wait that was left. */
  next(): Promise<IteratorResult<Frame>>;
  /** Reads and drops what still comes, until the other side has closed as well. */
  toEnd(): Promise<void>;
}

export function startReading(channel: Channel): Reading {
  const frames = channel.frames[Symbol.asyncIterator]();
  let pending: Promise<IteratorResult<Frame>> | null = null;
  const next = async (): Promise<IteratorResult<Frame>> => {
    pending ??= frames.next();
    const result = await pending;
    pending = null;
    return result;
  };
  return {
    next,
    async toEnd() {
      while ((await next()).done !== true);
    },
  };
}
