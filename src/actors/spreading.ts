/**
 * Telling a peer what others know, as long as the session lasts.
 */
import type { Store } from '../db/api.ts';
import { MAX_HEARD } from '../protocol/messages.ts';
import type { Frame, HeardWire } from '../protocol/types.ts';
import { pause } from './clock.ts';
import type { Clock } from './clock.ts';

/** How often what others know is passed on, ms: pruning and "is it on two devices" can wait so long. */
export const SPREAD_EVERY_MS = 5_000;

/** Entries of knowledge that one frame carries, if it is not of one member alone. */
const HEARD_ENTRIES = 10_000;

/** Runs until the signal aborts (rejects then). */
export async function spread(options: {
  readonly peer: string;
  readonly store: Pick<Store, 'heardNews'>;
  readonly send: (frame: Frame) => Promise<void>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}): Promise<never> {
  const { peer, store, send, clock, signal } = options;
  for (;;) {
    const members = await store.heardNews(peer);
    signal.throwIfAborted();
    for (const few of inFrames(members)) await send({ type: 'heard', members: few });
    await pause(clock, SPREAD_EVERY_MS, signal);
  }
}

function inFrames(members: readonly HeardWire[]): HeardWire[][] {
  const frames: HeardWire[][] = [];
  let left = 0;
  for (const member of members) {
    left -= member.knowledge.hlc.length;
    if (left >= 0 && (frames.at(-1)?.length ?? MAX_HEARD) < MAX_HEARD) frames.at(-1)?.push(member);
    else {
      frames.push([member]);
      left = HEARD_ENTRIES - member.knowledge.hlc.length;
    }
  }
  return frames;
}
