/**
 * Time as the actors see it: it is passed in, so that a fleet of nodes can run in one process in simulated time. The
 * shape is the one of an XState clock, so that one clock drives machines and effects alike.
 */
import type { ActorOptions, AnyActorLogic } from 'xstate';
import type { FlotillaError } from '../errors.ts';

/** Timers as XState wants them, and the time. */
export type Clock = NonNullable<ActorOptions<AnyActorLogic>['clock']> & {
  /** ms since 1970. */
  now(): number;
};

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  setTimeout: (fn, ms) => setTimeout(fn, ms),
  clearTimeout: (id) => clearTimeout(id as NodeJS.Timeout),
};

/**
 * The result of `promise`, or a rejection once `ms` have passed. What the promise stands for goes on; its late result
 * is dropped.
 */
export function within<T>(promise: Promise<T>, ms: number, clock: Clock, error: () => FlotillaError): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer: unknown = clock.setTimeout(() => reject(error()), ms);
    promise.then(resolve, reject).finally(() => clock.clearTimeout(timer));
  });
}

/** A rejection as soon as `signal` aborts; never resolves. `stop` takes the listener off again. */
export function whenAborted(signal: AbortSignal): { readonly rejected: Promise<never>; stop(): void } {
  let onAbort = (): void => {};
  const rejected = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  // Whoever races it takes the rejection; alone it must not count as unhandled.
  rejected.catch(() => {});
  return { rejected, stop: () => signal.removeEventListener('abort', onAbort) };
}

/** Something to wait at: `open()` lets through whoever waits, or the next one to come. */
export interface Gate {
  open(): void;
  /** Resolves at the next `open()`, at once if one came since the last wait; rejects when `signal` aborts. */
  wait(signal: AbortSignal): Promise<void>;
}

export function createGate(): Gate {
  let opened = false;
  let wake: (() => void) | null = null;
  return {
    open() {
      opened = true;
      wake?.();
    },
    async wait(signal) {
      signal.throwIfAborted();
      if (!opened) {
        const aborted = whenAborted(signal);
        try {
          await Promise.race([new Promise<void>((resolve) => (wake = resolve)), aborted.rejected]);
        } finally {
          wake = null;
          aborted.stop();
        }
      }
      opened = false;
    },
  };
}

/** Resolves after so long, ms; rejects when `signal` aborts. */
export async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const aborted = whenAborted(signal);
  let timer: unknown = null;
  try {
    await Promise.race([new Promise<void>((resolve) => (timer = clock.setTimeout(resolve, ms))), aborted.rejected]);
  } finally {
    clock.clearTimeout(timer);
    aborted.stop();
  }
}
