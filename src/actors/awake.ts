/**
 * Notices that this device has slept, or that its network is another one. Timers stand still in sleep, so a look that comes much too
 * late says so; networks are told apart by the addresses that the device has. A false alarm costs a dial.
 */
import type { Clock } from './clock.ts';

/** Time between two looks, ms: nobody waits longer on a new network. */
export const LOOK_MS = 5_000;
/** How much too late a look comes after a sleep, ms: more than a busy machine is ever late, less than a connection survives. */
export const SLEPT_MS = 10_000;

export interface AwakeOptions {
  readonly clock: Clock;
  /** The addresses of this device as a text. */
  readonly network: () => string;
  readonly onAwake: () => void;
}

/** Looks until it is stopped. Returns the way to stop. */
export function watchAwake({ clock, network, onAwake }: AwakeOptions): () => void {
  let addresses = network();
  let last = clock.now();
  let timer: unknown;
  const look = (): void => {
    const now = clock.now();
    const current = network();
    const hasChanged = current !== addresses || now - last > LOOK_MS + SLEPT_MS;
    addresses = current;
    last = now;
    timer = clock.setTimeout(look, LOOK_MS);
    if (hasChanged) onAwake();
  };
  timer = clock.setTimeout(look, LOOK_MS);
  return () => clock.clearTimeout(timer);
}
