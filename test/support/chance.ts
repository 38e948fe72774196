/** Chance from a seed, and made-up words and names: data of ours that looks like somebody's. */
import { seededBytes } from './replica.ts';

const SYLLABLES =
  'ba be bo da di do fa fi ga go ha ka ke ko la le li lo ma me mi na ne no ra re ri ro sa se so ta ti to va vi';
const PARTS = SYLLABLES.split(' ');

export class Chance {
  readonly #bytes: (size: number) => Uint8Array;

  constructor(seed: number) {
    this.#bytes = seededBytes(seed);
  }

  /** 0 ≤ x < 1 */
  number(): number {
    return Buffer.from(this.#bytes(4)).readUInt32LE() / 2 ** 32;
  }

  /** 0, 1, … limit − 1 */
  below(limit: number): number {
    return Math.floor(this.number() * limit);
  }

  between(least: number, greatest: number): number {
    return least + this.below(greatest - least + 1);
  }

  /** True that often. */
  happens(of: number): boolean {
    return this.number() < of;
  }

  pick<T>(from: readonly T[]): T {
    if (from.length === 0) throw new RangeError('nothing to pick from');
    return from[this.below(from.length)] as T;
  }

  /** One of each weight's share. */
  weighted<T>(from: ReadonlyArray<readonly [weight: number, choice: T]>): T {
    let left = this.number() * from.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, choice] of from) {
      if (left < weight) return choice;
      left -= weight;
    }
    return (from.at(-1) as readonly [number, T])[1];
  }

  shuffled<T>(from: readonly T[]): T[] {
    return from
      .map((item) => [this.number(), item] as const)
      .toSorted(([a], [b]) => a - b)
      .map(([, item]) => item);
  }

  /** Distinct pairs of numbers from 1 to `left` and 1 to `right`, at most `count`. */
  pairs(count: number, left: number, right: number): [number, number][] {
    const found = new Map<string, [number, number]>();
    for (let n = 0; n < count; n += 1) {
      const pair: [number, number] = [this.between(1, left), this.between(1, right)];
      found.set(pair.join(), pair);
    }
    return [...found.values()];
  }

  word(): string {
    return Array.from({ length: this.between(2, 4) }, () => this.pick(PARTS)).join('');
  }

  /** A word with a capital. */
  name(): string {
    const word = this.word();
    return `${(word[0] ?? '').toUpperCase()}${word.slice(1)}`;
  }

  /** Some words, the first with a capital, with an apostrophe and a letter beyond ASCII now and then. */
  title(words = this.between(1, 4)): string {
    const rest = Array.from({ length: words - 1 }, () => this.word());
    const special = this.happens(0.1) ? ["d'" + this.word()] : this.happens(0.1) ? [`é${this.word()}`] : [];
    return [this.name(), ...rest, ...special].join(' ');
  }

  hex(bytes: number): string {
    return Buffer.from(this.#bytes(bytes)).toString('hex');
  }

  blob(bytes: number): Uint8Array {
    return this.#bytes(bytes);
  }

  /** YYYY-MM-DD hh:mm:ss in some year before now. */
  date(): string {
    const at = Date.UTC(2015, 0, 1) + Math.floor(this.number() * 10 * 365 * 86_400) * 1_000;
    return new Date(at).toISOString().slice(0, 19).replace('T', ' ');
  }
}

/** A value as an SQL literal. */
export function literal(value: unknown): string {
  if (value === null || value === undefined) return 'NULL';
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (typeof value === 'boolean') return value ? '1' : '0';
  if (value instanceof Uint8Array) return `x'${Buffer.from(value).toString('hex')}'`;
  if (typeof value === 'string') return `'${value.replaceAll("'", "''")}'`;
  throw new TypeError(`no SQL value: ${typeof value}`);
}

/** Rows as INSERT statements; the first row says which columns. */
export function inserts(table: string, rows: ReadonlyArray<Readonly<Record<string, unknown>>>): string {
  const columns = Object.keys(rows[0] ?? {});
  if (columns.length === 0) return '';
  const name = (text: string): string => `"${text.replaceAll('"', '""')}"`;
  const values = rows.map((row) => `(${columns.map((column) => literal(row[column])).join(', ')})`);
  return `INSERT INTO ${name(table)} (${columns.map(name).join(', ')}) VALUES\n  ${values.join(',\n  ')};\n`;
}

/** `count` rows, numbered from 1, as an INSERT statement. */
export function rows(table: string, count: number, make: (n: number) => Readonly<Record<string, unknown>>): string {
  return inserts(
    table,
    Array.from({ length: count }, (_, i) => make(i + 1)),
  );
}
