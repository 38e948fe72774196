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

/**
 * The result of `promise`, or a rejection as soon as `signal` aborts. A race with one promise that stays for long would keep all that ever
 * came of it: here nothing is left behind.
 */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
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
        const woken = new Promise<void>((resolve) => (wake = resolve));
        await unlessAborted(woken, signal).finally(() => (wake = null));
      }
      opened = false;
    },
  };
}

/** Resolves after so long, ms; rejects when `signal` aborts. */
export async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  let timer: unknown = null;
  const over = new Promise<void>((resolve) => (timer = clock.setTimeout(resolve, ms)));
  await unlessAborted(over, signal).finally(() => clock.clearTimeout(timer));
}
