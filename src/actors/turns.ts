/**
 * A device that is behind takes the feed of one peer at a time, and asks the others when it has that: they then send only what
 * that one did not have. First comes who answers first, so the nearest and the least busy; of several that wait, whoever is known to give
 * most. A peer that gives nothing, or much less than another one, rests, and the other one goes on. Peers that have not been tried are
 * tried where it may be worth it. Each change makes the next one wait twice as long, so that two links that change places do not make
 * the device run to and fro.
 */
import type { Clock } from './clock.ts';

/** Time between two looks at what a peer gives, ms: a peer that has given nothing in it is left for the next one. */
export const TURN_LOOK_MS = 5_000;

/** How often what another one is known to give must be what this one gives, for a change. Less is the weather. */
export const MUCH_FASTER = 3;

/** A change must be worth it: with less time left than this, ms, a peer goes on, however slow. */
export const WORTH_MS = 20_000;

/** Looks at a peer before it is left for being slow, or for one that was not tried; doubled with each change, up to the second number. */
export const LEAST_LOOKS = 2;
export const MOST_LOOKS = 64;

/** How long what a peer gave is remembered, ms: after it the peer is tried again. */
export const REMEMBERED_MS = 10 * 60_000;

/** What is known of a peer before it is tried. */
export interface Standing {
  /** It has something that this device does not know of; true as long as it has not said. */
  readonly hasNews: boolean;
  /** Sessions in which it has something to give or to take. */
  readonly load: number;
  /** As measured, ms; null when it is not known. */
  readonly roundTripMs: number | null;
}

/** Who asks for a turn. */
export interface Taker {
  /** Peer id. */
  readonly peer: string;
  standing(): Standing;
  /** True while it is not the peer's link that is waited for: what came is being taken in, or the peer makes what it is to give. */
  isAtWork(): boolean;
  /** Has the peer pause its feed, or go on with it. */
  rest(rests: boolean): void;
}

/** A peer's turn. It ends with its session as well. */
export interface Turn {
  /**
   * Something came from the peer and is durable.
   * @param bytes - of the batch
   * @param rows - in it
   * @param remaining - rows that are left, about
   */
  came(bytes: number, rows: number, remaining: number): void;
  /** The peer has sent all. Twice is harmless. */
  end(): void;
}

export interface Turns {
  /**
   * Resolves when it is the turn of whoever asks.
   * @param signal - ends the waiting (rejects then), or the turn
   */
  take(taker: Taker, signal: AbortSignal): Promise<Turn>;
  /** It is nobody's turn: whoever asks now need not wait. */
  areFree(): boolean;
}

/** One that waits for its first turn, or has it, or rests. */
interface Place {
  readonly taker: Taker;
  /** Begins its first turn; null when it has begun. */
  begin: (() => void) | null;
  /** When it last had to go, as a count of changes: of equals the one that has rested longest comes first. */
  left: number;
}

export function createTurns(clock: Clock): Turns {
  /** Those that wait or rest. */
  const others = new Set<Place>();
  /** Bytes in a look of those that were tried. */
  const given = new Map<string, { readonly bytes: number; readonly at: number }>();
  let current: Place | null = null;
  /** It has given nothing for so long that the next one to come need not wait. */
  let isSilent = false;
  /** It is looked whether it gives more than the one before. */
  let isTrial = false;
  let looks = 0;
  let bytes = 0;
  let rows = 0;
  let remaining = 0;
  let changes = 0;
  let timer: unknown = null;

  function startLooking(): void {
    clock.clearTimeout(timer);
    bytes = 0;
    rows = 0;
    timer = clock.setTimeout(look, TURN_LOOK_MS);
  }

  function rateOf({ taker }: Place): number | null {
    const found = given.get(taker.peer);
    // The clock may have been set back.
    return found === undefined || Math.abs(clock.now() - found.at) > REMEMBERED_MS ? null : found.bytes;
  }

  /** Negative when one is to come before another. */
  function compare(one: Place, other: Place): number {
    const [a, b] = [one.taker.standing(), other.taker.standing()];
    const [rateA, rateB] = [rateOf(one), rateOf(other)];
    return (
      Number(b.hasNews) - Number(a.hasNews) ||
      rankOf(rateB) - rankOf(rateA) ||
      (rateB ?? 0) - (rateA ?? 0) ||
      one.left - other.left ||
      a.load - b.load ||
      // Not a number where neither is known.
      (a.roundTripMs ?? Infinity) - (b.roundTripMs ?? Infinity) ||
      0
    );
  }

  function best(among: readonly Place[]): Place | undefined {
    return among.toSorted(compare)[0];
  }

  function go(place: Place, trial: boolean): void {
    others.delete(place);
    current = place;
    isSilent = false;
    isTrial = trial;
    looks = 0;
    remaining = Infinity;
    startLooking();
    if (place.begin === null) place.taker.rest(false);
    else place.begin();
    place.begin = null;
  }

  /** The one whose turn it is rests, and another one goes on. */
  function change(place: Place, trial = false): void {
    changes += 1;
    if (current !== null) {
      current.left = changes;
      others.add(current);
      current.taker.rest(true);
    }
    go(place, trial);
  }

  function next(): void {
    clock.clearTimeout(timer);
    current = null;
    const place = best([...others]);
    if (place === undefined) changes = 0;
    else go(place, false);
  }

  function look(): void {
    if (current === null) return;
    if (bytes === 0 && current.taker.isAtWork()) return startLooking();
    looks += 1;
    given.set(current.taker.peer, { bytes, at: clock.now() });
    if (bytes === 0) {
      isSilent = true;
      const place = best([...others]);
      // Where all are silent it may be this device that cannot take anything in.
      if (place !== undefined && (rateOf(place) !== 0 || hasWaited())) return change(place);
    } else {
      const faster = fasterOne();
      if (faster !== undefined) return change(faster);
      const untried = untriedOne();
      if (untried !== undefined) return change(untried, true);
      isTrial = false;
    }
    startLooking();
  }

  function fasterOne(): Place | undefined {
    const found = best([...others].filter((place) => (rateOf(place) ?? 0) > bytes * (isTrial ? 1 : MUCH_FASTER)));
    return isTrial || isWorthIt() ? found : undefined;
  }

  function untriedOne(): Place | undefined {
    if (!isWorthIt()) return undefined;
    return best([...others].filter((place) => rateOf(place) === null && place.taker.standing().hasNews));
  }

  function hasWaited(): boolean {
    return looks >= Math.min(LEAST_LOOKS * 2 ** changes, MOST_LOOKS);
  }

  function isWorthIt(): boolean {
    // That little is left is only what it says: after some minutes it is not believed any more.
    return hasWaited() && (remaining * TURN_LOOK_MS > WORTH_MS * rows || looks >= MOST_LOOKS);
  }

  return {
    areFree: () => current === null,
    async take(taker, signal) {
      signal.throwIfAborted();
      const place: Place = { taker, begin: () => {}, left: 0 };
      const leave = (): void => {
        others.delete(place);
        if (current === place) next();
      };
      signal.addEventListener('abort', leave, { once: true });
      const turn: Turn = {
        came(size, count, left) {
          if (current !== place) return;
          // What it took to get going says nothing of what it gives.
          if (bytes === 0 && looks === 0) startLooking();
          isSilent = false;
          bytes += size;
          rows += count;
          remaining = left;
        },
        end() {
          signal.removeEventListener('abort', leave);
          // It rests, and what was on its way was the end.
          if (others.has(place)) taker.rest(false);
          leave();
        },
      };
      if (current === null) {
        go(place, false);
        return turn;
      }
      await new Promise<void>((resolve, reject) => {
        const stop = (): void => reject(signal.reason as Error);
        signal.addEventListener('abort', stop, { once: true });
        place.begin = () => {
          signal.removeEventListener('abort', stop);
          resolve();
        };
        others.add(place);
        if (isSilent) change(place);
      });
      return turn;
    },
  };
}

/** Who is known to give something comes before who was not tried, and that one before who gave nothing. */
function rankOf(rate: number | null): number {
  if (rate === null) return 1;
  return rate > 0 ? 2 : 0;
}
