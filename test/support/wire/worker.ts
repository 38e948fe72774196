/**
 * Fires at the decoders, in a thread with little memory. What is being read stands in shared memory, so that whoever watches
 * knows it even when this thread hangs or dies.
 */
import { parentPort, workerData } from 'node:worker_threads';

import { FlotillaError } from '../../../src/errors.ts';
import { Chance } from '../random/chance.ts';
import { TARGETS } from './targets.ts';
import type { Target } from './targets.ts';

/** Runs of one decoder for which valid messages are drawn once. */
const STRETCH = 64;
/** Bytes of a message that are shown of a fault. */
const SHOWN_BYTES = 400;
/** Runs between two reports. */
const REPORT = 500;

export interface Assignment {
  readonly seed: number;
  /** The first run, and the one after the last. Runs below 0 are bombs. */
  readonly from: number;
  readonly to: number;
  /** Names of the decoders. */
  readonly targets: readonly string[];
  /** Shared: the run that is being done. */
  readonly at: Int32Array;
}

export interface Fault {
  readonly kind: 'crash' | 'hang' | 'memory' | 'limit' | 'pollution';
  readonly decoder: string;
  readonly run: number;
  readonly detail: string;
}

export type Report =
  /** All is loaded, and reading begins. */
  | { readonly begins: true }
  | { readonly fault: Fault }
  | { readonly done: Tally; /** Nothing more is to be done. */ readonly isLast: boolean };

export interface Tally {
  readonly runs: number;
  /** By decoder: read, and refused. */
  readonly decoders: Readonly<Record<string, { read: number; refused: number }>>;
  readonly slowestMs: number;
  readonly slowest: string;
}

/** The decoders that an assignment names, with their bombs in one row. */
export function plan(names: readonly string[]): {
  readonly targets: readonly Target[];
  readonly bombs: ReadonlyArray<{ readonly target: Target; readonly what: string; readonly make: () => Uint8Array }>;
} {
  const targets = TARGETS.filter(({ name }) => names.includes(name));
  const bombs = targets.flatMap((target) => target.bombs.map(([what, make]) => ({ target, what, make })));
  return { targets, bombs };
}

/** Which decoder a run is about. */
export function decoderOf(names: readonly string[], run: number): string {
  const { targets, bombs } = plan(names);
  const bomb = bombs[-run - 1];
  return run < 0 ? `${bomb?.target.name ?? ''}: ${bomb?.what ?? ''}` : (targets[run % targets.length]?.name ?? '');
}

const prototypes = [Object.prototype, Array.prototype, Function.prototype, Map.prototype, Uint8Array.prototype];
const keysBefore = prototypes.map((prototype) => Reflect.ownKeys(prototype).length);

/** Reads one message; what is wrong with how that went, null for nothing. */
export function fire(
  target: Target,
  bytes: Uint8Array,
  tally: { read: number; refused: number },
): Omit<Fault, 'decoder' | 'run'> | null {
  const shown = `${Buffer.from(bytes.subarray(0, SHOWN_BYTES)).toString('hex')}${bytes.length > SHOWN_BYTES ? '…' : ''}`;
  try {
    const wrong = target.read(bytes);
    tally.read += 1;
    if (typeof wrong === 'string' && wrong !== '') return { kind: 'limit', detail: `${wrong} ${shown}` };
  } catch (error) {
    tally.refused += 1;
    const cause = error instanceof Error ? error.cause : undefined;
    const isOurs = error instanceof FlotillaError && target.codes.includes(error.code);
    const isAccident =
      cause !== undefined && !target.causes.includes('*') && !target.causes.includes((cause as Error).constructor.name);
    if (!isOurs || isAccident) {
      const what = isOurs ? (cause as Error) : error;
      return { kind: 'crash', detail: `${what instanceof Error ? what.stack : String(what)} ${shown}` };
    }
  }
  const polluted = prototypes.some((prototype, i) => Reflect.ownKeys(prototype).length !== keysBefore[i]);
  return polluted ? { kind: 'pollution', detail: shown } : null;
}

function work({ seed, from, to, targets: names, at }: Assignment, report: (message: Report) => void): void {
  const { targets, bombs } = plan(names);
  const tallies = new Map(targets.map(({ name }) => [name, { read: 0, refused: 0 }]));
  const drawn = new Map<string, { readonly stretch: number; readonly draw: (chance: Chance) => Uint8Array }>();
  let slowestMs = 0;
  let slowest = '';
  let runs = 0;
  const tell = (isLast: boolean): void =>
    report({ done: { runs, decoders: Object.fromEntries(tallies), slowestMs, slowest }, isLast });

  function bytesOf(target: Target, run: number): Uint8Array {
    if (run < 0) return (bombs[-run - 1] as (typeof bombs)[number]).make();
    const stretch = Math.floor(run / targets.length / STRETCH);
    let source = drawn.get(target.name);
    if (source?.stretch !== stretch) {
      source = { stretch, draw: target.open(seed + stretch) };
      drawn.set(target.name, source);
    }
    return source.draw(new Chance(seed * 1_000_003 + run));
  }

  for (let run = from; run < to; run += 1) {
    Atomics.store(at, 0, run);
    const target = run < 0 ? bombs[-run - 1]?.target : targets[run % targets.length];
    if (target === undefined) continue;
    const bytes = bytesOf(target, run);
    const started = performance.now();
    const fault = fire(target, bytes, tallies.get(target.name) as { read: number; refused: number });
    const ms = performance.now() - started;
    if (ms > slowestMs) {
      slowestMs = ms;
      slowest = decoderOf(names, run);
    }
    runs += 1;
    if (fault !== null) report({ fault: { ...fault, decoder: decoderOf(names, run), run } });
    if (runs % REPORT === 0) tell(false);
  }
  tell(true);
}

if (parentPort !== null) {
  const port = parentPort;
  port.postMessage({ begins: true });
  work(workerData as Assignment, (message) => port.postMessage(message));
}
