/**
 * Calls into a database worker thread, and the words they cross in. The write worker is a serial mailbox: one call is in
 * the worker at a time, so that a live call overtakes those of a backfill that wait here. Calls to the read worker go
 * through at once.
 */
import { Worker } from 'node:worker_threads';
import type { HeadListener, InitReport, JoinGrant, JoinState } from '../db/api.ts';
import { ERROR_CODES, FlotillaError, messageOf } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import type { Clock } from './clock.ts';
import { within } from './clock.ts';
import type { Priority } from './receiving.ts';

/** How long a worker may take to close its file, ms: a checkpoint of a large WAL on a slow disk. Then it is ended. */
export const WORKER_CLOSE_TIMEOUT_MS = 10_000;

/**
 * Young generation of a worker's heap, MB. A batch makes garbage that dies at once; left to itself V8 lets the heap of the
 * write worker grow to 165 MB with 18 in use. Against 16, this spares 10 MB at the same CPU time; 4 spares no more
 * (measured over 337,683 rows).
 */
const YOUNG_GENERATION_MB = 8;

/** `workerData` of a database worker. */
export interface WorkerSpec {
  readonly role: 'write' | 'read';
  /** Path of the library. */
  readonly file: string;
  /** Own peer id; '' where nothing is stamped. */
  readonly device: string;
  /** Name of the device, for the record that `init` writes of it. */
  readonly name: string;
  readonly durability: 'normal' | 'full';
  /** Seed of this device's key, for the records of membership that it signs; null where it signs none. */
  readonly key: Uint8Array | null;
  /** `serve`: the library must be there; `setup`: one of `SetupStore` will say what to do. */
  readonly purpose: 'serve' | 'setup';
}

/** Main → worker. Byte arrays among `args`, and in lists among them, are given away, with the buffers that they are views of. `close` (no args) closes the file; the answer is the last. */
export interface WorkerCall {
  readonly id: number;
  readonly method: string;
  readonly args: readonly unknown[];
}

/** Worker → main. */
export type WorkerMessage =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: WorkerError }
  | { readonly event: 'head'; readonly head: number; readonly from: string | null }
  /** The schema has changed and was followed; in words. */
  | { readonly event: 'schema'; readonly changes: readonly string[] }
  /** It has changed who is a member. */
  | { readonly event: 'members' }
  | { readonly event: 'ready' }
  /** It cannot do its work, and ends. */
  | { readonly event: 'failed'; readonly error: WorkerError }
  /** Something went wrong outside of any call; it goes on. */
  | { readonly event: 'fault'; readonly error: WorkerError };

/** A worker's thread, as it is used here: a simulation has another kind, without threads. */
export interface WorkerThread {
  postMessage(call: WorkerCall, transfer: ArrayBuffer[]): void;
  on(event: 'message', listener: (message: WorkerMessage) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'exit', listener: (code: number) => void): unknown;
  terminate(): Promise<unknown>;
}

/** Starts a thread that does what a database worker does. */
export type StartThread = (spec: WorkerSpec) => WorkerThread;

export interface WorkerError {
  readonly code: string;
  readonly message: string;
}

/** What the write worker offers to `init` and `join`, beside the store. */
export interface SetupStore {
  /** Both null: the configuration beside the library, if there is one. */
  init(configPath: string | null, configJson: string | null): Promise<InitReport>;
  createFromGrant(args: { grant: JoinGrant; existing: 'empty' | 'union' | 'same' }): Promise<InitReport>;
  /** Rejects with what `createFromGrant` would reject with, and changes nothing. */
  tryGrant(args: { grant: JoinGrant; existing: 'empty' | 'union' | 'same' }): Promise<void>;
  inspectForJoin(): Promise<JoinState>;
}

export interface WorkerListener {
  readonly onReady?: () => void;
  readonly onHead?: HeadListener;
  readonly onSchema?: (changes: readonly string[]) => void;
  readonly onMembers?: () => void;
  readonly onFault?: (error: FlotillaError) => void;
  /** It ended by itself, or could not start. Called once; never after `close()` or `kill()`. `during`: the call that it was at, if one alone was in it. */
  readonly onEnd?: (error: FlotillaError, during: WorkerCall | null) => void;
}

export interface WorkerClient {
  /** Resolves when the worker said that it is ready; rejects with why it is not. */
  readonly ready: Promise<void>;
  call(method: string, args: readonly unknown[], priority?: Priority): Promise<unknown>;
  /**
   * Runs `work` between a call of `before` and one of `after`, with no other call in between; `after` is called whatever
   * becomes of `work`. For the write worker.
   */
  around<T>(before: string, after: string, work: () => Promise<T>): Promise<T>;
  /** Lets the call that runs end, closes the file, ends the thread. Waiting calls are rejected. Twice is harmless. */
  close(): Promise<void>;
  /** Ends the thread now. */
  kill(): Promise<void>;
}

interface Pending {
  readonly call: WorkerCall;
  /** True when nothing else may come in after it until it is let go. */
  readonly holds: boolean;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** The worker's entry, with the extension of the files that run: `.ts` from the sources, `.js` from the package. */
export function workerUrl(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? '../db/worker.ts' : '../db/worker.js', import.meta.url);
}

/** @param entry - of the worker's code, or what is started in its place */
export function startWorker(
  entry: URL | StartThread,
  spec: WorkerSpec,
  clock: Clock,
  listener: WorkerListener = {},
): WorkerClient {
  const worker: WorkerThread = entry instanceof URL ? startThread(entry, spec) : entry(spec);
  const serial = spec.role === 'write';
  const inWorker = new Map<number, Pending>();
  const waiting: Record<Priority, Pending[]> = { live: [], backfill: [] };
  let isReady = (): void => {};
  let isNotReady: (error: Error) => void = () => {};
  const ready = new Promise<void>((resolve, reject) => {
    isReady = resolve;
    isNotReady = reject;
  });
  ready.catch(() => {});
  let lastId = 0;
  /** Why no call can be made any more. */
  let over: FlotillaError | null = null;
  let closing: Promise<void> | null = null;
  /** True from the answer to a `before` until its `after` is asked. */
  let held = false;

  function post(pending: Pending): void {
    inWorker.set(pending.call.id, pending);
    const transfer = pending.call.args
      .flat()
      .flatMap((arg) => (arg instanceof Uint8Array ? [arg.buffer as ArrayBuffer] : []));
    try {
      worker.postMessage(pending.call, transfer);
    } catch (error) {
      // An argument that cannot be cloned: a mistake of the caller, not of the worker.
      inWorker.delete(pending.call.id);
      pending.reject(error as Error);
    }
  }

  function pump(): void {
    while (!serial || (inWorker.size === 0 && !held)) {
      const next = waiting.live.shift() ?? waiting.backfill.shift();
      if (next === undefined) return;
      post(next);
    }
  }

  function rejectAll(error: FlotillaError, calls: Iterable<Pending>): void {
    for (const pending of calls) pending.reject(error);
  }

  function endWith(error: FlotillaError, told: boolean): void {
    const isFirst = over === null;
    over ??= error;
    const [running, ...others] = inWorker.values();
    isNotReady(error);
    // Before anybody hears of it who may end this worker for good, with another reason.
    rejectAll(error, [...inWorker.values(), ...waiting.live.splice(0), ...waiting.backfill.splice(0)]);
    inWorker.clear();
    if (isFirst && told) listener.onEnd?.(error, others.length === 0 ? (running?.call ?? null) : null);
  }

  worker.on('message', (message: WorkerMessage) => {
    if ('event' in message) {
      if (message.event === 'head') return listener.onHead?.(message.head, message.from);
      if (message.event === 'schema') return listener.onSchema?.(message.changes);
      if (message.event === 'members') return listener.onMembers?.();
      if (message.event === 'fault') return listener.onFault?.(revive(message.error));
      if (message.event === 'ready') {
        isReady();
        return listener.onReady?.();
      }
      endWith(revive(message.error), true);
      void worker.terminate();
      return;
    }
    const pending = inWorker.get(message.id);
    inWorker.delete(message.id);
    if ('error' in message) pending?.reject(revive(message.error));
    else if (pending !== undefined) {
      held = pending.holds;
      pending.resolve(message.result);
    }
    pump();
  });
  worker.on('error', (error) =>
    endWith(new FlotillaError('DATABASE', `The database worker failed: ${messageOf(error)}`, { cause: error }), true),
  );
  worker.on('exit', (code) =>
    endWith(new FlotillaError('DATABASE', `The database worker ended with code ${code}.`), true),
  );

  function request(method: string, args: readonly unknown[], priority: Priority, holds = false): Promise<unknown> {
    return new Promise((resolve, reject) => {
      lastId += 1;
      waiting[priority].push({ call: { id: lastId, method, args }, holds, resolve, reject });
      pump();
    });
  }

  function requireOpen(): void {
    if (over !== null) throw new FlotillaError('STOPPED', over.message, { cause: over });
  }

  async function closeWorker(): Promise<void> {
    const stopped = new FlotillaError('STOPPED', 'The library was closed.');
    rejectAll(stopped, [...waiting.live.splice(0), ...waiting.backfill.splice(0)]);
    if (over === null) {
      const closed = request('close', [], 'live');
      over = stopped;
      await within(closed, WORKER_CLOSE_TIMEOUT_MS, clock, () => stopped).catch(() => {});
    }
    await worker.terminate();
    endWith(stopped, false);
  }

  return {
    ready,
    async call(method, args, priority = 'live') {
      requireOpen();
      return request(method, args, priority);
    },
    async around(before, after, work) {
      requireOpen();
      await request(before, [], 'live', true);
      try {
        return await work();
      } finally {
        held = false;
        // Before anything that waits: the front of the queue. Its failure shows in the next call.
        lastId += 1;
        waiting.live.unshift({
          call: { id: lastId, method: after, args: [] },
          holds: false,
          resolve() {},
          reject() {},
        });
        pump();
      }
    },
    close: () => (closing ??= closeWorker()),
    async kill() {
      endWith(new FlotillaError('STOPPED', 'The database worker was ended.'), false);
      await worker.terminate();
    },
  };
}

function startThread(url: URL, spec: WorkerSpec): Worker {
  return new Worker(url, {
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    workerData: spec,
    name: `flotilla-${spec.role}`,
  });
}

function revive(error: WorkerError): FlotillaError {
  const code = Object.hasOwn(ERROR_CODES, error.code) ? (error.code as ErrorCode) : 'DATABASE';
  return new FlotillaError(code, error.message);
}
