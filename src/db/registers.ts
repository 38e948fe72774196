/**
 * Registers: columns whose concurrent writes are not a conflict but come together. A column with a policy holds entries, each a
 * value with the stamp of the write that made it; the table shows them folded. Joining two versions joins their entries, so
 * that nothing depends on who merges first, and each entry can be skipped by its own stamp as any other write.
 *
 * `counter` keeps of each run its last entry, its sum. Everything else (`max`, `min`, functions of the user's) is a join of a
 * semilattice: an entry that another one contains goes, so that mostly a single one is left. A value that was merged but that
 * nobody stamped must never stand in an entry: peers that know both stamps that led to it would be spared it for ever.
 */
import { FlotillaError, messageOf } from '../errors.ts';
import { TextBytes } from '../protocol/text-bytes.ts';
import type { SqlValue } from '../protocol/types.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Entry, LocalStamp, Order } from './cells.ts';
import type { Affinity } from './model.ts';
import { showValue } from './names.ts';

/** What the configuration may say of a column; any other word is the name of a function. */
export const LWW = 'lww';
export const COUNTER = 'counter';

/** Policies that need no function of the user's. */
export const BUILT_IN: ReadonlySet<string> = new Set([COUNTER, 'max', 'min']);

/** How the entries of one column come together. Integers are bigints everywhere, so that 5 and 5.0 differ. */
export interface Policy {
  /** What the column shows. @throws FlotillaError MERGE_FUNCTION */
  fold(entries: readonly Entry[]): SqlValue;
  /** The entries of two versions in one. @throws FlotillaError MERGE_FUNCTION */
  join(ours: readonly Entry[], theirs: readonly Entry[]): readonly Entry[];
  /**
   * The entries after a write of our own.
   * @param value - what was written over what {@link fold} gives
   * @returns null when the write says nothing that they do not say already
   * @throws FlotillaError MERGE_FUNCTION when the column cannot hold the value
   */
  write(entries: readonly Entry[], value: SqlValue, stamp: LocalStamp): readonly Entry[] | null;
  /** What a write adds to what it found, so that it can be added to other entries; see {@link Policy.add}. */
  difference(entries: readonly Entry[], value: SqlValue): SqlValue;
  /** The entries after a write of our own that found another version of the row. */
  add(entries: readonly Entry[], difference: SqlValue, stamp: LocalStamp): readonly Entry[];
}

/** A function of the user's: must be commutative, associative and idempotent. Never gets NULL. */
export type MergeFunction = (a: SqlValue, b: SqlValue) => unknown;

/** The policy that a name of the configuration means. @param call - the function, for names that are no policy of ours */
export function makePolicy(
  name: string,
  column: { readonly table: string; readonly name: string; readonly affinity: Affinity },
  order: Order,
  call: (name: string) => MergeFunction,
): Policy {
  if (name === COUNTER) return new Counter(order, `The column ${column.name} of ${column.table}`);
  const normal = (value: SqlValue): SqlValue => value;
  if (name === 'max') return new Join(order, { merge: (a, b) => (compareValues(a, b) >= 0 ? a : b), normal });
  if (name === 'min') return new Join(order, { merge: (a, b) => (compareValues(a, b) <= 0 ? a : b), normal });
  return new Join(order, checked(name, column, call(name)));
}

/** For a column that this device does not have, with a function that it may not have: nothing is brought together yet. */
export function keepAll(order: Order): Policy {
  const join = (ours: readonly Entry[], theirs: readonly Entry[]): readonly Entry[] => {
    const all = new Map([...ours, ...theirs].map((entry) => [`${entry.hlc}@${entry.run}`, entry]));
    return [...all.values()].toSorted((a, b) => order(a.hlc, a.run, b.hlc, b.run));
  };
  return {
    join,
    fold: (entries) => entries.at(-1)?.value ?? null,
    write: (entries, value, stamp) => join(entries, [{ ...stamp, value }]),
    difference: (_entries, value) => value,
    add: (entries, difference, stamp) => join(entries, [{ ...stamp, value: difference }]),
  };
}

/** The last entry of each run, in the order of runs: sums of floating numbers must not depend on where they are made. */
export function lastOfEach(order: Order, entries: readonly Entry[]): Entry[] {
  const last = new Map<number, Entry>();
  for (const entry of entries) if (entry.hlc > (last.get(entry.run)?.hlc ?? -1)) last.set(entry.run, entry);
  // With equal times stamps are ordered by run.
  return [...last.values()].toSorted((a, b) => order(0, a.run, 0, b.run));
}

class Counter implements Policy {
  readonly #order: Order;
  readonly #where: string;

  constructor(order: Order, where: string) {
    this.#order = order;
    this.#where = where;
  }

  fold(entries: readonly Entry[]): SqlValue {
    // What a row was born with may be no number: it stays until somebody counts.
    return (
      this.#sum(entries) ?? lastOfEach(this.#order, entries).findLast(({ value }) => value !== null)?.value ?? null
    );
  }

  #sum(entries: readonly Entry[]): number | bigint | null {
    let sum: number | bigint | null = null;
    for (const { value } of lastOfEach(this.#order, entries))
      if (isFiniteNumber(value)) sum = sum === null ? value : plus(sum, value);
    return sum;
  }

  join(ours: readonly Entry[], theirs: readonly Entry[]): readonly Entry[] {
    return lastOfEach(this.#order, [...ours, ...theirs]);
  }

  write(entries: readonly Entry[], value: SqlValue, stamp: LocalStamp): readonly Entry[] | null {
    const sum = this.#sum(entries);
    const wanted = this.#wanted(sum, value);
    if (wanted === null || isEqual(wanted, sum)) return null;
    const others = entries.filter(({ run }) => run !== stamp.run);
    const rest = this.#sum(others);
    // Not what it was plus what was added: with reals, that would be off by what is rounded.
    return this.#with(others, rest === null ? wanted : minus(wanted, rest), stamp);
  }

  difference(entries: readonly Entry[], value: SqlValue): SqlValue {
    const sum = this.#sum(entries);
    const wanted = this.#wanted(sum, value);
    return wanted === null || sum === null ? wanted : minus(wanted, sum);
  }

  add(entries: readonly Entry[], difference: SqlValue, stamp: LocalStamp): readonly Entry[] {
    if (!isFiniteNumber(difference)) return entries;
    const own = entries.find(({ run }) => run === stamp.run)?.value;
    const others = entries.filter(({ run }) => run !== stamp.run);
    return this.#with(others, own !== undefined && isFiniteNumber(own) ? plus(own, difference) : difference, stamp);
  }

  #with(others: readonly Entry[], value: SqlValue, { hlc, run }: LocalStamp): readonly Entry[] {
    return lastOfEach(this.#order, [...others, { hlc, run, value }]);
  }

  /** The number that was meant; null for none. NULL in place of a number counts as 0. */
  #wanted(sum: number | bigint | null, value: SqlValue): number | bigint | null {
    if (isFiniteNumber(value)) return value;
    if (value === null) return sum === null ? null : 0n;
    throw fault(`${this.#where} counts: it can hold finite numbers, not ${words(value)}`);
  }
}

/** The greatest lower or least upper value of two, and the form that a value has beside others. */
interface Lattice {
  merge(a: SqlValue, b: SqlValue): SqlValue;
  /** Several texts may say the same, such as lists in any order: the one that {@link Lattice.merge} gives. */
  normal(value: SqlValue): SqlValue;
}

/** A join of a semilattice. */
class Join implements Policy {
  readonly #order: Order;
  readonly #lattice: Lattice;

  constructor(order: Order, lattice: Lattice) {
    this.#order = order;
    this.#lattice = lattice;
  }

  fold(entries: readonly Entry[]): SqlValue {
    let all: SqlValue = null;
    for (const { value } of entries.toSorted((a, b) => this.#order(a.hlc, a.run, b.hlc, b.run)))
      all = this.#joined(all, value);
    return all;
  }

  /** NULL says nothing. */
  #joined(a: SqlValue, b: SqlValue): SqlValue {
    if (a === null) return b;
    return b === null || isSame(a, b) ? a : this.#lattice.merge(a, b);
  }

  #contains(a: SqlValue, b: SqlValue): boolean {
    if (b === null || isSame(a, b)) return true;
    return a !== null && isSame(this.#lattice.merge(a, b), this.#lattice.normal(a));
  }

  /** Those that no other one contains; of equal ones the latest. */
  join(ours: readonly Entry[], theirs: readonly Entry[]): readonly Entry[] {
    const left: Entry[] = [];
    const sorted = [...ours, ...theirs].toSorted((a, b) => this.#order(b.hlc, b.run, a.hlc, a.run));
    for (const entry of sorted) {
      if (left.some((other) => this.#contains(other.value, entry.value))) continue;
      for (let i = left.length - 1; i >= 0; i -= 1) {
        if (this.#contains(entry.value, (left[i] as Entry).value)) left.splice(i, 1);
      }
      left.push(entry);
    }
    return left;
  }

  write(entries: readonly Entry[], value: SqlValue, { hlc, run }: LocalStamp): readonly Entry[] | null {
    const before = this.fold(entries);
    // What is new contains all that was there, which therefore goes.
    return this.#contains(before, value) ? null : [{ hlc, run, value: this.#joined(before, value) }];
  }

  difference(_entries: readonly Entry[], value: SqlValue): SqlValue {
    return value;
  }

  add(entries: readonly Entry[], difference: SqlValue, stamp: LocalStamp): readonly Entry[] {
    return this.write(entries, difference, stamp) ?? entries;
  }
}

// -- functions of the user's

/** Checks a function on values that a column really holds. @throws FlotillaError MERGE_FUNCTION with the values that show it */
export function checkFunction(policy: Policy, values: readonly SqlValue[]): void {
  const entries = values.map((value, hlc): Entry => ({ hlc, run: 0, value }));
  for (const a of entries) for (const b of entries) policy.join([a], [b]);
  for (let i = 0; i + 2 < entries.length; i += 1) {
    const [a, b, c] = entries.slice(i, i + 3) as [Entry, Entry, Entry];
    const left = policy.fold([{ ...a, value: policy.fold([a, b]) }, c]);
    const right = policy.fold([a, { ...b, value: policy.fold([b, c]) }]);
    if (!isSame(left, right))
      throw fault(
        `A merge function is not associative: for ${words(a.value)}, ${words(b.value)} and ${words(c.value)} it gives ${words(left)} or ${words(right)}, depending on which two are merged first`,
      );
  }
}

/** The function with every result checked, so that one that is not what it must be is found by the values that show it. */
function checked(
  name: string,
  { table, name: column, affinity }: { readonly table: string; readonly name: string; readonly affinity: Affinity },
  call: MergeFunction,
): Lattice {
  const where = `The function "${name}" of the column ${column} of ${table}`;
  const f = (a: SqlValue, b: SqlValue): SqlValue => {
    let result: unknown;
    try {
      result = call(given(a), given(b));
    } catch (error) {
      throw fault(`${where} fails for ${words(a)} and ${words(b)}: ${messageOf(error)}`, error);
    }
    const value = taken(result, a, b, affinity);
    if (value === undefined)
      throw fault(`${where} gives no value that the column can hold for ${words(a)} and ${words(b)}`);
    return value;
  };
  const normal = (value: SqlValue): SqlValue => {
    const once = f(value, value);
    if (!isSame(f(once, once), once))
      throw fault(
        `${where} is not idempotent: for ${words(value)} and the same again it gives ${words(once)}, for that and the same ${words(f(once, once))}`,
      );
    return once;
  };
  const merge = (one: SqlValue, other: SqlValue): SqlValue => {
    // In one order, so that every device finds the same fault with the same words.
    const sorted = compareValues(one, other) <= 0 ? [one, other] : [other, one];
    const [a, b] = sorted.map(normal) as [SqlValue, SqlValue];
    const merged = f(a, b);
    const reverse = f(b, a);
    if (!isSame(merged, reverse))
      throw fault(
        `${where} is not commutative: for ${words(a)} and ${words(b)} it gives ${words(merged)}, the other way round ${words(reverse)}`,
      );
    for (const value of [a, b])
      if (!isSame(f(merged, value), merged))
        throw fault(
          `${where} is not associative: for ${words(a)} and ${words(b)} it gives ${words(merged)}, but for that and ${words(value)} again ${words(f(merged, value))}`,
        );
    return merged;
  };
  return { merge, normal };
}

/** A value as the user's function gets it: numbers as numbers where these are exact. */
function given(value: SqlValue): SqlValue {
  return typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/**
 * What it gives back, with the type of an equal value that it was given; undefined when that is nothing that the column holds as it
 * is: what SQLite would turn into another type would differ from what its entries say.
 */
function taken(result: unknown, a: SqlValue, b: SqlValue, affinity: Affinity): SqlValue | undefined {
  if (result === null || result instanceof Uint8Array || result instanceof TextBytes) return result;
  const holdsNumbers = affinity !== 'TEXT' && affinity !== 'BLOB';
  if (typeof result === 'string')
    return holdsNumbers && result.trim() !== '' && !Number.isNaN(Number(result)) ? undefined : result;
  if (affinity === 'TEXT') return undefined;
  if (typeof result === 'bigint' && affinity !== 'REAL')
    return BigInt.asIntN(64, result) === result ? result : undefined;
  if (typeof result !== 'number' || Number.isNaN(result)) return undefined;
  for (const one of [a, b]) if (isFiniteNumber(one) && isEqual(one, result)) return one;
  return affinity !== 'REAL' && Number.isSafeInteger(result) ? BigInt(result) : result;
}

function fault(message: string, cause?: unknown): FlotillaError {
  return new FlotillaError('MERGE_FUNCTION', `${message}.`, { cause });
}

function words(value: SqlValue): string {
  const { type, text } = showValue(value);
  return type === 'text' ? JSON.stringify(text) : type === 'blob' ? `x'${text}'` : text;
}

// -- values

function isFiniteNumber(value: SqlValue): value is number | bigint {
  return typeof value === 'bigint' || (typeof value === 'number' && Number.isFinite(value));
}

function isEqual(a: number | bigint, b: SqlValue): boolean {
  return isFiniteNumber(b) && !(a < b) && !(a > b);
}

/** The same bytes of the same type. */
export function isSame(a: SqlValue, b: SqlValue): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0;
  if (a instanceof TextBytes && b instanceof TextBytes) return Buffer.compare(a.bytes, b.bytes) === 0;
  return Object.is(a, b);
}

function plus(a: number | bigint, b: number | bigint): number | bigint {
  if (typeof a === 'bigint' && typeof b === 'bigint') return inRange(a + b);
  return finite(Number(a) + Number(b));
}

function minus(a: number | bigint, b: number | bigint): number | bigint {
  if (typeof a === 'bigint' && typeof b === 'bigint') return inRange(a - b);
  return finite(Number(a) - Number(b));
}

/** Beyond 64 bits it goes on as REAL, as in SQLite. */
function inRange(value: bigint): number | bigint {
  return BigInt.asIntN(64, value) === value ? value : Number(value);
}

/** Beyond what a double holds it stays at the greatest one, so that it can come back. */
function finite(value: number): number {
  return Math.max(-Number.MAX_VALUE, Math.min(Number.MAX_VALUE, value));
}

/** SQLite's order of values (NULL, numbers, texts, blobs), made total: of equal numbers the integer is less. */
export function compareValues(a: SqlValue, b: SqlValue): number {
  const [left, right] = [classOf(a), classOf(b)];
  if (left !== right) return left - right;
  if (left === 2) return Buffer.compare(bytesOf(a), bytesOf(b));
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b);
  if (isNumber(a) && isNumber(b)) {
    if (a < b) return -1;
    if (a > b) return 1;
    if (typeof a !== typeof b) return typeof a === 'bigint' ? -1 : 1;
    return Object.is(a, b) ? 0 : Object.is(a, -0) ? -1 : 1;
  }
  return 0;
}

function isNumber(value: SqlValue): value is number | bigint {
  return typeof value === 'number' || typeof value === 'bigint';
}

function classOf(value: SqlValue): number {
  if (value === null) return 0;
  if (isNumber(value)) return 1;
  return typeof value === 'string' || value instanceof TextBytes ? 2 : 3;
}

function bytesOf(text: SqlValue): Uint8Array {
  return text instanceof TextBytes ? text.bytes : Buffer.from(String(text));
}

// -- in the map table

/** A value as text: a letter for its type, then the value. */
export function valueToText(value: SqlValue): string {
  if (value === null) return 'n';
  if (typeof value === 'bigint') return `i${value}`;
  if (typeof value === 'number') return Object.is(value, -0) ? 'r-0' : `r${value}`;
  if (typeof value === 'string') return `t${value}`;
  if (value instanceof TextBytes) return `x${bytesToHex(value.bytes)}`;
  return `b${bytesToHex(value)}`;
}

/** The value that {@link valueToText} wrote. */
export function textToValue(text: string): SqlValue {
  const rest = text.slice(1);
  switch (text[0]) {
    case 'i':
      return BigInt(rest);
    case 'r':
      return Number(rest);
    case 't':
      return rest;
    case 'b':
      return Buffer.from(rest, 'hex');
    case 'x':
      return new TextBytes(Buffer.from(rest, 'hex'));
    default:
      return null;
  }
}
