/** Chance from a seed (mulberry32): the same seed gives the same story, on every machine. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed ^ 0x9e3779b9, 2_654_435_761) >>> 0;
  }

  /** At least 0, below 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  /** From `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  is(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(from: readonly T[]): T {
    if (from.length === 0) throw new RangeError('there is nothing to pick from');
    return from[this.below(from.length)] as T;
  }

  pickOr<T>(from: readonly T[], otherwise: T): T {
    return from.length === 0 ? otherwise : this.pick(from);
  }

  /** One of several things, each with its weight. */
  weighted<T>(choices: ReadonlyArray<readonly [weight: number, thing: T]>): T {
    let left = this.next() * choices.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, thing] of choices) {
      if (left < weight) return thing;
      left -= weight;
    }
    return (choices.at(-1) as (typeof choices)[number])[1];
  }

  /** Some of the things, in their order. */
  some<T>(from: readonly T[], probability: number): T[] {
    return from.filter(() => this.is(probability));
  }

  /** A seed for something of its own, so that what happens there shifts nothing here. */
  fork(): number {
    return this.below(2 ** 31);
  }
}
