/**
 * A database worker without a thread: the real services of `src/db`, on a library in memory, with calls and answers that take their
 * virtual time on the way. What crosses is cloned, as between threads.
 */
import type { Database } from 'better-sqlite3';
import Sqlite from 'better-sqlite3';

import type { WorkerCall, WorkerMessage, WorkerSpec, WorkerThread } from '../../src/actors/worker-client.ts';
import type { OpenFile, ReadAccess, WriteAccess } from '../../src/db/access.ts';
import type { Surroundings } from '../../src/db/library.ts';
import { Reader } from '../../src/db/reader.ts';
import { Writer } from '../../src/db/writer.ts';
import { FlotillaError, messageOf } from '../../src/errors.ts';
import type { Chance } from '../support/chance.ts';
import type { Mutate } from './mutants.ts';
import type { DeviceClock } from './time.ts';

/** ms that a call may take in the writing thread, at most: other programs get to write in between. */
const WRITE_MS = 25;
/** The same in the reading one. */
const READ_MS = 4;

/** What threads of one process share. */
export interface Process {
  readonly db: Database;
  readonly clock: DeviceClock;
  readonly chance: Chance;
  readonly around: Surroundings;
  /** The path that names of files beside the library are made of; null where there are none, and so no snapshots. */
  readonly beside: string | null;
  /** Programs may not write: the node holds them off. */
  held: boolean;
  /** Stands around each call of the writing service. */
  readonly mutate: Mutate;
}

export class SimThread implements WorkerThread {
  readonly #process: Process;
  readonly #spec: WorkerSpec;
  readonly #listeners = new Set<(message: WorkerMessage) => void>();
  #service: Writer | Reader | null = null;
  #isDead = false;
  #lastAsked = 0;
  #lastSaid = 0;

  constructor(process: Process, spec: WorkerSpec) {
    this.#process = process;
    this.#spec = spec;
    this.#in(() => this.#open());
  }

  on(event: string, listener: (argument: never) => void): this {
    if (event === 'message') this.#listeners.add(listener as (message: WorkerMessage) => void);
    return this;
  }

  postMessage(call: WorkerCall, transfer: ArrayBuffer[]): void {
    const arrived = structuredClone(call, { transfer });
    this.#in(() => void this.#answer(arrived));
  }

  async terminate(): Promise<void> {
    this.die();
  }

  /** Its process is gone, and so are the files that it had open for reading. */
  die(): void {
    this.#isDead = true;
    if (this.#service instanceof Reader) this.#service.close();
  }

  /** Another program has written. */
  look(): void {
    if (this.#isDead || !(this.#service instanceof Writer)) return;
    this.#service.stamp();
  }

  #open(): void {
    const { db, around } = this.#process;
    try {
      if (this.#spec.role === 'read') this.#service = new Reader('library', this.#readAccess());
      else
        this.#service = new Writer(
          'library',
          this.#spec.durability,
          around,
          (head, from) => this.#say({ event: 'head', head, from }),
          (error) => this.#say({ event: 'fault', error: inWords(error) }),
          (changes) => this.#say({ event: 'schema', changes }),
          () => this.#say({ event: 'members' }),
          this.#writeAccess(db),
        );
      this.#say({ event: 'ready' });
    } catch (error) {
      this.#say({ event: 'failed', error: inWords(error) });
    }
  }

  async #answer(call: WorkerCall): Promise<void> {
    try {
      const result: unknown = await this.#do(call);
      this.#say({ id: call.id, result });
    } catch (error) {
      this.#say({ id: call.id, error: inWords(error) });
    }
  }

  #do(call: WorkerCall): unknown {
    const service = this.#service;
    if (service === null) throw new Error('the library is not open');
    // There is one connection, so nobody could read while a transaction keeps others out.
    if (call.method === 'hold') {
      this.#process.held = true;
      return (service as Writer).stamp();
    }
    if (call.method === 'release') return void (this.#process.held = false);
    const proceed = ({ method, args }: WorkerCall): unknown => {
      const run: unknown = Reflect.get(service, method);
      if (typeof run !== 'function') throw new RangeError(`the database worker has no method ${method}`);
      return Reflect.apply(run, service, args) as unknown;
    };
    return service instanceof Writer ? this.#process.mutate(call, proceed) : proceed(call);
  }

  /** What timers do is of the thread that set them. */
  #timers(): Pick<WriteAccess, 'setTimeout' | 'clearTimeout' | 'beside'> {
    const { clock, beside } = this.#process;
    return {
      setTimeout: (work, ms) => clock.setTimeout(() => this.#isDead || work(), ms),
      clearTimeout: (timer) => clock.clearTimeout(timer),
      beside: () => beside,
    };
  }

  #writeAccess(db: Database): WriteAccess {
    const { clock } = this.#process;
    return {
      ...this.#timers(),
      openForWriting: () => ({ db, close: () => undefined }),
      useWal: () => undefined,
      watchCommits: () => () => undefined,
      soon: (work) => void clock.setTimeout(() => this.#isDead || work(), 0),
    };
  }

  #readAccess(): ReadAccess {
    const { clock, db } = this.#process;
    const openCopy = (): OpenFile => {
      const copy = new Sqlite(db.serialize());
      return { db: copy, close: () => copy.close() };
    };
    return {
      ...this.#timers(),
      openForReading: () => ({ db, close: () => undefined }),
      openSnapshot: openCopy,
      openForCopying: openCopy,
      breathe: () => new Promise((resolve) => void clock.setTimeout(() => resolve(), 0)),
      now: () => clock.now(),
      elapsed: () => clock.elapsed(),
    };
  }

  /** Does something a moment later, after what was asked before. */
  #in(work: () => void): void {
    this.#lastAsked = this.#afterwards(this.#lastAsked, work);
  }

  #say(message: WorkerMessage): void {
    const said = structuredClone(message);
    this.#lastSaid = this.#afterwards(this.#lastSaid, () => {
      for (const listener of this.#listeners) listener(said);
    });
  }

  /** @returns when it will happen, not before `earliest`; virtual ms */
  #afterwards(earliest: number, work: () => void): number {
    const { clock } = this.#process;
    const at = Math.max(earliest, clock.elapsed() + this.#takes());
    clock.setTimeout(() => {
      if (!this.#isDead) work();
    }, at - clock.elapsed());
    return at;
  }

  #takes(): number {
    return this.#process.chance.below(this.#spec.role === 'write' ? WRITE_MS : READ_MS);
  }
}

function inWords(error: unknown): { code: string; message: string } {
  return { code: error instanceof FlotillaError ? error.code : 'DATABASE', message: messageOf(error) };
}
