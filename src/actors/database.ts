/**
 * The machine of the two database workers (one writes, one only reads), and the `Store` in front of them. A worker that
 * dies takes the other along: both are started anew, and whatever was asked of them is rejected, so that sessions fault
 * and resume from their cursors. A batch of which it dies again is set aside. Only this room knows that there are threads.
 */
import { assign, createActor, fromCallback, fromPromise, setup, waitFor } from 'xstate';
import type { Applied, HeadListener, SessionStart, SnapshotOffer, Store, TakenSnapshot } from '../db/api.ts';
import { FlotillaError, messageOf } from '../errors.ts';
import type { HeardWire } from '../protocol/types.ts';
import type { Clock } from './clock.ts';
import { createHeardLooks } from './heard-looks.ts';
import type { Priority } from './receiving.ts';
import { createSetAside } from './set-aside.ts';
import type { SessionStore } from './session-driver.ts';
import { startWorker, workerUrl } from './worker-client.ts';
import type { StartThread, WorkerCall, WorkerClient, WorkerSpec } from './worker-client.ts';

/** Restarts in a row before the library counts as broken: what fails five times is not a passing fault. */
export const MAX_RESTARTS = 5;
/** Pause before a restart, ms: a full disk or a locked file gets a moment. */
export const RESTART_DELAY_MS = 500;
/** Workers that were open this long were healthy, ms: restarts are counted from zero again. */
export const HEALTHY_OPEN_MS = 60_000;
/** How often a page or digest is asked for again after stamping, when other programs keep writing. Then they are held off. */
export const MAX_STAMP_TRIES = 3;

export type DatabaseEvent =
  /** Both workers are ready. */
  | { readonly type: 'READY' }
  /** A worker could not start, or died. `isBatch`: of a batch, which will be set aside if that happens again. */
  | { readonly type: 'ENDED'; readonly error: FlotillaError; readonly isBatch: boolean }
  | { readonly type: 'CLOSE' };

interface DatabaseContext {
  /** Restarts since the last healthy minute. */
  readonly restarts: number;
  /** True once the library was open: then a failure is worth another try, before it is the user's to know. */
  readonly wasOpen: boolean;
  readonly error: FlotillaError | null;
}

export const databaseMachine = setup({
  types: { context: {} as DatabaseContext, events: {} as DatabaseEvent },
  actors: {
    /** Starts both workers; its end kills those that were not closed. */
    workers: fromCallback<{ type: 'none' }, void, DatabaseEvent>(() => {
      throw new Error('the effect "workers" of the database was not provided');
    }),
    /** Closes both workers in good order. */
    closeWorkers: fromPromise<void>(() => Promise.reject(new Error('the effect "closeWorkers" was not provided'))),
  },
  actions: {
    noteError: assign({ error: (_, params: { error: FlotillaError }) => params.error }),
    noteOpen: assign({ wasOpen: true, error: null }),
    countRestart: assign({ restarts: ({ context }) => context.restarts + 1 }),
    forgetRestarts: assign({ restarts: 0 }),
  },
  guards: {
    mayRestart: ({ context }) => context.wasOpen && context.restarts < MAX_RESTARTS,
    isBatch: ({ event }) => event.type === 'ENDED' && event.isBatch,
  },
  delays: { restart: RESTART_DELAY_MS, healthy: HEALTHY_OPEN_MS },
}).createMachine({
  id: 'database',
  context: { restarts: 0, wasOpen: false, error: null },
  initial: 'running',
  states: {
    running: {
      invoke: { src: 'workers' },
      initial: 'opening',
      on: {
        ENDED: [
          {
            guard: 'isBatch',
            target: 'restarting',
            actions: { type: 'noteError', params: ({ event }) => ({ error: event.error }) },
          },
          {
            guard: 'mayRestart',
            target: 'restarting',
            actions: ['countRestart', { type: 'noteError', params: ({ event }) => ({ error: event.error }) }],
          },
          { target: 'failed', actions: { type: 'noteError', params: ({ event }) => ({ error: event.error }) } },
        ],
        CLOSE: '.closing',
      },
      states: {
        opening: { on: { READY: 'open' } },
        open: { entry: 'noteOpen', after: { healthy: { actions: 'forgetRestarts' } } },
        closing: {
          // The workers still run: what is in them ends first. If they die now, that is an end as well.
          invoke: { src: 'closeWorkers', onDone: '#database.closed', onError: '#database.closed' },
          on: { ENDED: '#database.closed', READY: {}, CLOSE: {} },
        },
      },
    },
    restarting: {
      after: { restart: 'running' },
      on: { CLOSE: 'closed' },
    },
    failed: { on: { CLOSE: 'closed' } },
    closed: { type: 'final' },
  },
});

export type DatabaseState = 'opening' | 'open' | 'restarting' | 'failed' | 'closing' | 'closed';

export function databaseState(snapshot: { readonly value: unknown }): DatabaseState {
  const { value } = snapshot;
  return (typeof value === 'string' ? value : (value as { running: string }).running) as DatabaseState;
}

/** The store of a running node. */
export interface NodeStore extends Store, SessionStore {
  apply(peer: string, pages: readonly Uint8Array[], priority?: Priority): Promise<readonly Applied[]>;
}

export interface DatabaseOptions extends Omit<WorkerSpec, 'role' | 'purpose'> {
  readonly clock: Clock;
  /** The library is broken for good: the node must end. Never called while opening. */
  readonly onFailed: (error: FlotillaError) => void;
  /** Something failed in a worker outside of any call; it goes on. */
  readonly onFault: (error: FlotillaError) => void;
  /** Entry of the worker, or what is started in its place. @default src/db/worker */
  readonly worker?: URL | StartThread;
}

/** Commits whose ends are remembered; a backlog of more is caught up with in pages of any cut. */
const REMEMBERED_HEADS = 256;

/** Opens the library in its two workers; rejects with why it cannot be opened, with nothing left running. */
export async function openDatabase(options: DatabaseOptions): Promise<NodeStore> {
  const { clock, onFailed, onFault, worker: entry = workerUrl(), ...spec } = options;
  let writer: WorkerClient | null = null;
  let reader: WorkerClient | null = null;
  const listeners = new Set<HeadListener>();
  const memberListeners = new Set<() => void>();
  const schemaListeners = new Set<(changes: readonly string[]) => void>();
  /** Changes that were followed while the library was opened, before anybody could listen. */
  const early: string[] = [];
  const setAside = createSetAside(clock);
  const looks = createHeardLooks(clock);
  /** Where the last commits ended: a live page is cut there, so that what was committed together arrives together. */
  const heads: number[] = [];

  function workers(sendBack: (event: DatabaseEvent) => void): () => void {
    const onEnd = (error: FlotillaError, during: WorkerCall | null): void => {
      const isBatch = during?.method === 'apply';
      if (isBatch) setAside.ended(String(during.args[0]), error);
      sendBack({ type: 'ENDED', error, isBatch });
    };
    const onHead: HeadListener = (head, from) => {
      if (heads.push(head) > REMEMBERED_HEADS) heads.shift();
      for (const listener of listeners) listener(head, from);
    };
    const onSchema = (changes: readonly string[]): void => {
      if (schemaListeners.size === 0) early.push(...changes);
      for (const listener of schemaListeners) listener(changes);
    };
    const write = startWorker(entry, { ...spec, role: 'write', purpose: 'serve' }, clock, {
      onEnd,
      onHead,
      onFault,
      onSchema,
      onMembers: () => {
        for (const listener of memberListeners) listener();
      },
    });
    writer = write;
    let read: WorkerClient | null = null;
    let ended = false;
    // The read worker comes second: it may rely on what the first one repairs and creates.
    write.ready
      .then(() => {
        if (ended) return undefined;
        read = startWorker(entry, { ...spec, role: 'read', purpose: 'serve' }, clock, { onEnd, onHead, onFault });
        reader = read;
        return read.ready.then(() => {
          sendBack({ type: 'READY' });
          // After a restart: what the worker before had no time to say.
          for (const listener of memberListeners) listener();
        });
      })
      .catch(() => {});
    return () => {
      ended = true;
      writer = null;
      reader = null;
      void write.kill();
      void read?.kill();
    };
  }

  const actor = createActor(
    databaseMachine.provide({
      actors: {
        workers: fromCallback(({ sendBack }) => workers(sendBack)),
        closeWorkers: fromPromise(async () => {
          // The reader first, so that the writer is alone for its last checkpoint.
          await reader?.close();
          await writer?.close();
        }),
      },
    }),
    { clock },
  );
  actor.start();
  const opened = await waitFor(actor, (snapshot) => databaseState(snapshot) !== 'opening');
  if (databaseState(opened) !== 'open') {
    actor.send({ type: 'CLOSE' });
    throw opened.context.error ?? new FlotillaError('DATABASE', 'The library could not be opened.');
  }
  const watching = actor.subscribe((snapshot) => {
    if (databaseState(snapshot) === 'failed')
      onFailed(snapshot.context.error ?? new FlotillaError('DATABASE', 'The database failed.'));
  });

  function call(
    role: 'write' | 'read',
    method: string,
    args: readonly unknown[],
    priority?: Priority,
  ): Promise<unknown> {
    const client = role === 'write' ? writer : reader;
    if (client === null || databaseState(actor.getSnapshot()) !== 'open') {
      return Promise.reject(new FlotillaError('STOPPED', 'The database is not open at the moment.'));
    }
    return client.call(method, args, priority);
  }
  function requireWriter(): WorkerClient {
    if (writer === null) throw new FlotillaError('STOPPED', 'The database is not open at the moment.');
    return writer;
  }

  /** A method of `Store` that only forwards; the types are those of the interface. */
  const forward = <M extends keyof Store>(role: 'write' | 'read', method: M): Store[M] =>
    ((...args: unknown[]) => call(role, method, args)) as unknown as Store[M];

  /** A call after which there may be more to tell of others. */
  async function hearing(method: keyof Store, args: readonly unknown[]): Promise<unknown> {
    const result = await call('write', method, args);
    looks.heard();
    return result;
  }

  /** A read that needs every mark stamped: other programs may write at any moment, so it may take several tries. */
  async function readStamped<T>(method: string, args: readonly unknown[]): Promise<T> {
    for (let attempt = 0; attempt < MAX_STAMP_TRIES; attempt += 1) {
      const result = (await call('read', method, args)) as T | NotYet;
      if (!isNotYet(result)) return result;
      if (result.unstamped) await call('write', 'stamp', []);
      if (isLeft(result)) await call('write', 'noteDangling', [result.dangling]);
    }
    // Others never rest: they are held off for as long as it takes. What is dangling is noted between two such reads.
    const held = (): Promise<T | NotYet> =>
      requireWriter().around('hold', 'release', () => call('read', method, args) as Promise<T | NotYet>);
    let result = await held();
    if (isNotYet(result) && isLeft(result)) {
      await call('write', 'noteDangling', [result.dangling]);
      result = await held();
    }
    if (!isNotYet(result)) return result;
    throw new FlotillaError('DATABASE', 'The library could not be read: other programs write to it without pause.');
  }

  async function apply(
    peer: string,
    pages: readonly Uint8Array[],
    priority: Priority = 'live',
  ): Promise<readonly Applied[]> {
    setAside.check(peer);
    const applied = (await call('write', 'apply', [peer, pages], priority)) as readonly Applied[];
    setAside.worked(peer);
    if (applied.some(({ complete }) => complete)) looks.heard();
    return applied;
  }

  async function close(): Promise<void> {
    if (actor.getSnapshot().status === 'active') actor.send({ type: 'CLOSE' });
    await waitFor(actor, (snapshot) => databaseState(snapshot) === 'closed');
    watching.unsubscribe();
    listeners.clear();
    schemaListeners.clear();
    memberListeners.clear();
  }

  return {
    info: forward('write', 'info'),
    stamp: forward('write', 'stamp'),
    sessionStart(peer) {
      looks.begin(peer);
      return call('write', 'sessionStart', [peer]) as Promise<SessionStart>;
    },
    stampAnew: forward('write', 'stampAnew'),
    learnSchema: forward('write', 'learnSchema'),
    beginPass: forward('write', 'beginPass'),
    concludePass: (peer, head) => hearing('concludePass', [peer, head]) as Promise<Applied>,
    beginSnapshot: forward('write', 'beginSnapshot'),
    addToSnapshot: (peer, data) => call('write', 'addToSnapshot', [peer, data], 'backfill') as Promise<void>,
    takeSnapshot: (peer) => hearing('takeSnapshot', [peer]) as Promise<TakenSnapshot | null>,
    async offerSnapshot(peer, layout, leastRows) {
      const isMade = await readStamped<boolean>('makeSnapshot', [peer, layout, leastRows]);
      return isMade ? (call('read', 'snapshotReady', []) as Promise<SnapshotOffer | null>) : null;
    },
    snapshotPart: forward('read', 'snapshotPart'),
    hear: (peer, knowledge) => hearing('hear', [peer, knowledge]) as Promise<void>,
    hearOfOthers: (peer, base, members) => hearing('hearOfOthers', [peer, base, members]) as Promise<void>,
    heardNews: async (peer) => (looks.take(peer) ? (call('write', 'heardNews', [peer]) as Promise<HeardWire[]>) : []),
    change: forward('write', 'change'),
    holders: forward('write', 'holders'),
    async acked(peer, cursor, complete, knowledge) {
      await call('write', 'acked', [peer, cursor, complete, knowledge]);
      if (knowledge.hlc.length > 0) looks.heard();
    },
    members: forward('write', 'members'),
    admit: (peer, name) => hearing('admit', [peer, name]) as Promise<void>,
    revoke: forward('write', 'revoke'),
    own: forward('write', 'own'),
    restoreConflict: forward('write', 'restoreConflict'),
    apply,
    openFeed: forward('read', 'openFeed'),
    page: (feed, limits) => readStamped('page', [feed, { ...limits, groupEnds: [...heads] }]),
    closeFeed: forward('read', 'closeFeed'),
    peerKnows: forward('read', 'peerKnows'),
    peerHas: forward('read', 'peerHas'),
    stampsBeyond: forward('read', 'stampsBeyond'),
    inspect: (query) => readStamped('inspect', [query]),
    status: forward('read', 'status'),
    check: forward('read', 'check'),
    conflicts: forward('read', 'conflicts'),
    joinGrant: forward('read', 'joinGrant'),
    onHead(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    onMembers(listener) {
      memberListeners.add(listener);
      return () => memberListeners.delete(listener);
    },
    onSchema(listener) {
      schemaListeners.add(listener);
      if (early.length > 0) listener(early.splice(0));
      return () => schemaListeners.delete(listener);
    },
    close,
  };
}

/** The read worker's answer while the write worker must do something first. */
interface NotYet {
  /** Marks must be stamped. */
  readonly unstamped: boolean;
  /** What refers to nothing must be noted. */
  readonly dangling?: readonly unknown[] | null;
}

function isLeft({ dangling }: NotYet): boolean {
  return dangling !== undefined && dangling !== null;
}

function isNotYet(result: unknown): result is NotYet {
  return (
    typeof result === 'object' && result !== null && 'unstamped' in result && typeof result.unstamped === 'boolean'
  );
}

/** Runs `work` with one worker alone, opened for it and closed after it. */
export async function withWorker<T>(
  spec: WorkerSpec,
  clock: Clock,
  work: (call: WorkerClient['call']) => Promise<T>,
  url: URL = workerUrl(),
): Promise<T> {
  const worker = startWorker(url, spec, clock);
  try {
    await worker.ready;
    return await work(worker.call);
  } catch (error) {
    throw error instanceof FlotillaError ? error : new FlotillaError('DATABASE', messageOf(error), { cause: error });
  } finally {
    await worker.close();
  }
}
