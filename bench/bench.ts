/**
 * What all benchmarks share: how they are called, what they report, and how a ratio is measured. A machine with other work on
 * it drifts; so what is compared is run in turns, the one and the other, and each pair gives one ratio.
 */

/** What a benchmark is run with. */
export interface BenchOptions {
  /** Small and few rounds: shows that it works and about where the figures lie. */
  readonly quick: boolean;
  /** A line of progress for people. */
  readonly say: (line: string) => void;
  /** How long each step of another system may take, s (`peers`). */
  readonly limitS: number;
  /** The other systems that are wanted, null for all (`peers`). */
  readonly only: readonly string[] | null;
}

/** What a benchmark found. */
export interface BenchReport {
  readonly bench: string;
  /** The figure that its goal is about. */
  readonly ratio: number;
  /** Everything else for machines: numbers, or objects of them. */
  readonly figures: Readonly<Record<string, unknown>>;
  /** For people: the first row is the head. */
  readonly table: ReadonlyArray<readonly string[]>;
  /** What was measured, in a few lines. */
  readonly notes: readonly string[];
}

export interface Bench {
  readonly name: string;
  /** One line for the list of benchmarks. */
  readonly about: string;
  /** Runs only when it is named. */
  readonly onDemand?: boolean;
  run(options: BenchOptions): Promise<BenchReport>;
}

/** Some measurements of one thing. */
export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly greatest: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  const median = (at(Math.ceil(sorted.length / 2) - 1) + at(Math.floor(sorted.length / 2))) / 2;
  return { median, least: at(0), greatest: at(sorted.length - 1) };
}

/** One run: how long it took, and how much of that its own process worked. Other programs disturb the second far less. */
export interface Run {
  readonly ms: number;
  readonly cpuMs: number;
}

/** Two things measured in turns. */
export interface Paired {
  /** other / one, of each pair. */
  readonly ratio: Spread;
  readonly cpuRatio: Spread;
  /** ms */
  readonly one: Spread;
  readonly other: Spread;
}

/**
 * Runs two things in turns and compares them pair by pair. Which of them goes first changes from pair to pair, so that a drift
 * favours neither; the first pair only warms up what they share (the file system's cache) and does not count.
 */
export async function paired(pairs: number, one: () => Promise<Run>, other: () => Promise<Run>): Promise<Paired> {
  const found: (readonly [Run, Run])[] = [];
  for (let n = 0; n <= pairs; n += 1) {
    const oneFirst = n % 2 === 0;
    const first = await (oneFirst ? one : other)();
    const second = await (oneFirst ? other : one)();
    if (n > 0) found.push(oneFirst ? [first, second] : [second, first]);
  }
  return {
    ratio: spreadOf(found.map(([a, b]) => b.ms / a.ms)),
    cpuRatio: spreadOf(found.map(([a, b]) => b.cpuMs / a.cpuMs)),
    one: spreadOf(found.map(([a]) => a.ms)),
    other: spreadOf(found.map(([, b]) => b.ms)),
  };
}

/** A number for people: three digits that say something. */
export function shown(value: number): string {
  return value.toLocaleString('en-US', { maximumSignificantDigits: value < 1_000 ? 3 : 4 });
}

/** A number for machines, without digits that say nothing. */
export function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
