/**
 * Knowledge: "everything that this run stamped up to this hlc has been merged here", for every run heard of. A claim, so it
 * must only ever grow by one's own stamps and by complete passes; who calls `raise` and `merge` answers for that.
 */
import { FlotillaError } from '../errors.ts';
import { MAX_HLC } from './hlc.ts';
import { packRuns, RUN_BYTES, runToBytes, unpackRuns } from './stamp.ts';
import type { KnowledgeWire, Stamp } from './types.ts';

/**
 * Runs that a message may name at most. Every start of a node makes one: ten devices started ten times a day for two and a half years
 * stay below; 100,000 of them are 2.5 MB on the wire.
 */
export const MAX_KNOWN_RUNS = 100_000;

/** Bytes of one entry in the canonical form: the run and its hlc. */
const ENTRY_BYTES = RUN_BYTES + 8;

/** A map run → hlc that only grows. */
export class Knowledge {
  readonly #known: Map<string, number>;

  /** @param entries - run (hex) and hlc, checked; of two entries of a run the greater counts */
  constructor(entries: Iterable<readonly [run: string, hlc: number]> = []) {
    this.#known = new Map();
    for (const [run, hlc] of entries) {
      runToBytes(run);
      this.raise(run, hlc);
    }
  }

  /** Reads what {@link Knowledge.toWire} wrote. @throws FlotillaError PROTOCOL when it is damaged or not in canonical order */
  static fromWire(wire: KnowledgeWire): Knowledge {
    const fault = knowledgeFault(wire);
    if (fault !== null) throw new FlotillaError('PROTOCOL', fault);
    const known = new Knowledge();
    let previous = '';
    for (const [index, run] of unpackRuns(wire.runs).entries()) {
      if (run <= previous) throw new FlotillaError('PROTOCOL', 'The runs of a knowledge do not ascend.');
      known.#known.set(run, wire.hlc[index]!);
      previous = run;
    }
    return known;
  }

  /** How many runs are known. */
  get size(): number {
    return this.#known.size;
  }

  /** The hlc up to which `run` is known; undefined when nothing of it is. */
  get(run: string): number | undefined {
    return this.#known.get(run);
  }

  /** Runs in the order of their bytes, with what is known of each. */
  entries(): Array<[run: string, hlc: number]> {
    return [...this.#known].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  /** The greatest hlc of any run; 0 for none. One's own clock must never fall behind it. */
  greatestHlc(): number {
    let greatest = 0;
    for (const hlc of this.#known.values()) greatest = Math.max(greatest, hlc);
    return greatest;
  }

  /** True when what was stamped so has been merged. */
  covers(stamp: Stamp): boolean {
    const hlc = this.#known.get(stamp.run);
    return hlc !== undefined && stamp.hlc <= hlc;
  }

  /** True when everything that `other` knows is known here. */
  coversAll(other: Knowledge): boolean {
    for (const [run, hlc] of other.#known) if (!this.covers({ run, hlc })) return false;
    return true;
  }

  /** Knows `run` at least up to `hlc`. Returns true when that was news. */
  raise(run: string, hlc: number): boolean {
    if (!isHlc(hlc)) throw new FlotillaError('PROTOCOL', `${hlc} is no hlc.`);
    const known = this.#known.get(run);
    if (known !== undefined && known >= hlc) return false;
    this.#known.set(run, hlc);
    return true;
  }

  /** Takes over what `other` knows, the greater hlc of each run. Returns true when anything was news. */
  merge(other: Knowledge): boolean {
    let news = false;
    for (const [run, hlc] of other.#known) news = this.raise(run, hlc) || news;
    return news;
  }

  /** What is known here beyond `previous`: merged into `previous` it gives at least this. */
  changedSince(previous: Knowledge): Knowledge {
    const changed = new Knowledge();
    for (const [run, hlc] of this.#known) if (!previous.covers({ run, hlc })) changed.#known.set(run, hlc);
    return changed;
  }

  clone(): Knowledge {
    const copy = new Knowledge();
    for (const [run, hlc] of this.#known) copy.#known.set(run, hlc);
    return copy;
  }

  equals(other: Knowledge): boolean {
    if (this.size !== other.size) return false;
    for (const [run, hlc] of this.#known) if (other.#known.get(run) !== hlc) return false;
    return true;
  }

  /** In canonical form: runs ascending. */
  toWire(): KnowledgeWire {
    const entries = this.entries();
    return { runs: packRuns(entries.map(([run]) => run)), hlc: entries.map(([, hlc]) => hlc) };
  }

  /** Bytes that are equal when and only when two knowledges are; the caller hashes them. */
  canonicalBytes(): Uint8Array {
    const out = new Uint8Array(this.size * ENTRY_BYTES);
    const view = new DataView(out.buffer);
    for (const [index, [run, hlc]] of this.entries().entries()) {
      out.set(runToBytes(run), index * ENTRY_BYTES);
      view.setBigUint64(index * ENTRY_BYTES + RUN_BYTES, BigInt(hlc));
    }
    return out;
  }
}

/** True when everything that is known to `theirs` is known to `ours`. */
export function coversWire(ours: KnowledgeWire, theirs: KnowledgeWire): boolean {
  const read = ({ runs, hlc }: KnowledgeWire): Knowledge =>
    new Knowledge(unpackRuns(runs).map((run, index) => [run, hlc[index] ?? 0]));
  return read(ours).coversAll(read(theirs));
}

/** What is wrong with the shape of a knowledge from outside, as a sentence; null when nothing is. Order is not looked at. */
export function knowledgeFault(wire: KnowledgeWire): string | null {
  if (wire.hlc.length > MAX_KNOWN_RUNS)
    return `A knowledge names ${wire.hlc.length} runs, more than ${MAX_KNOWN_RUNS}.`;
  if (wire.runs.length !== wire.hlc.length * RUN_BYTES) return 'A knowledge has not as many runs as hlcs.';
  if (!wire.hlc.every(isHlc)) return 'A knowledge has an hlc that is none.';
  return null;
}

function isHlc(hlc: unknown): boolean {
  return Number.isSafeInteger(hlc) && (hlc as number) >= 0 && (hlc as number) <= MAX_HLC;
}
