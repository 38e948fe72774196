/**
 * The hybrid logical clock: one integer that follows the wall clock but never stands still and never goes back. It orders
 * conflicts, nothing else. The wall clock comes in as an argument, so that a test or a simulated fleet can own time.
 */
import { FlotillaError } from '../errors.ts';

/** Counter steps in a millisecond: hlc = ms × 1000 + counter. A counter that overflows carries into the milliseconds. */
export const HLC_PER_MS = 1000;

/** The greatest hlc: 2^53 − 1, so that a double holds every one exactly. Reached in the year 2255. */
export const MAX_HLC = Number.MAX_SAFE_INTEGER;

/**
 * How far a stamp may lie ahead of our clock, in ms: 5 minutes. Devices without a time server drift by seconds a day, so
 * five minutes only refuse a clock that is set wrong; and a clock that is wrong by less wins conflicts for no longer than that.
 */
export const MAX_DRIFT_MS = 5 * 60 * 1000;

/**
 * The next hlc.
 *
 * @param last - the greatest hlc that was given or merged so far; 0 for none
 * @param nowMs - wall clock (or time of the write), ms since 1970
 * @returns greater than `last`, and not below `nowMs`
 * @throws FlotillaError CLOCK_AHEAD when the clock says a year after 2255
 */
export function tick(last: number, nowMs: number): number {
  const next = Math.max(last + 1, Math.trunc(nowMs) * HLC_PER_MS);
  if (!(next <= MAX_HLC))
    throw new FlotillaError('CLOCK_AHEAD', 'The clock of this device is set after the year 2255. Set it right.');
  return next;
}

/** True when `hlc` lies further ahead of `nowMs` than clocks may differ; such a stamp is refused, not merged. */
export function isTooFarAhead(hlc: number, nowMs: number, driftMs: number = MAX_DRIFT_MS): boolean {
  return hlc > (nowMs + driftMs) * HLC_PER_MS;
}

/** The millisecond (since 1970) in which `hlc` lies. */
export function hlcToMs(hlc: number): number {
  return Math.floor(hlc / HLC_PER_MS);
}

/** Units of a difference, greatest first, each in ms. */
const UNITS: ReadonlyArray<readonly [name: string, ms: number]> = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
];

/** A difference of clocks for people, in its two greatest units: `2 h 10 min ahead`, `3 s behind`, `not ahead`. */
export function differenceInWords(differenceMs: number): string {
  let rest = Math.abs(differenceMs);
  const words: string[] = [];
  for (const [name, ms] of UNITS) {
    const count = Math.floor(rest / ms);
    rest -= count * ms;
    if (count > 0) words.push(`${count} ${name}`);
    // The unit after the greatest one is the last that says anything: 3 d 0 h 5 min is 3 d.
    if (words.length === 2 || (words.length === 1 && count === 0)) break;
  }
  if (words.length === 0) return 'not ahead';
  return `${words.join(' ')} ${differenceMs > 0 ? 'ahead' : 'behind'}`;
}

/** How far a stamp lies from a clock, in words. */
export function aheadInWords(hlc: number, nowMs: number): string {
  return differenceInWords(hlcToMs(hlc) - nowMs);
}
