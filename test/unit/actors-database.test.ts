import { createActor, fromCallback, fromPromise, SimulatedClock } from 'xstate';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/actors/clock.ts';
import {
  databaseMachine,
  databaseState,
  HEALTHY_OPEN_MS,
  MAX_RESTARTS,
  MAX_STAMP_TRIES,
  openDatabase,
  RESTART_DELAY_MS,
  withWorker,
} from '../../src/actors/database.ts';
import type { DatabaseEvent, DatabaseState, NodeStore } from '../../src/actors/database.ts';
import { startWorker } from '../../src/actors/worker-client.ts';
import type { WorkerSpec } from '../../src/actors/worker-client.ts';
import { FlotillaError } from '../../src/errors.ts';
import { settle, until } from '../support/until.ts';

const FAKE = new URL('./fixtures/fake-worker.ts', import.meta.url);
const spec = (file: string, role: 'write' | 'read' = 'write'): WorkerSpec => ({
  role,
  file,
  purpose: 'serve',
  key: null,
  device: 'me',
  name: 'mine',
  durability: 'normal',
});

type EventName = DatabaseEvent['type'];
const EVENTS: { readonly [E in EventName]: Extract<DatabaseEvent, { type: E }> } = {
  READY: { type: 'READY' },
  ENDED: { type: 'ENDED', error: new FlotillaError('DATABASE', 'crashed'), isBatch: false },
  CLOSE: { type: 'CLOSE' },
};
const WAYS: { readonly [S in DatabaseState]: readonly EventName[] } = {
  opening: [],
  open: ['READY'],
  restarting: ['READY', 'ENDED'],
  failed: ['ENDED'],
  closing: ['READY', 'CLOSE'],
  closed: ['ENDED', 'CLOSE'],
};
const TABLE: { readonly [S in DatabaseState]: { readonly [E in EventName]: DatabaseState } } = {
  opening: { READY: 'open', ENDED: 'failed', CLOSE: 'closing' },
  open: { READY: 'open', ENDED: 'restarting', CLOSE: 'closing' },
  restarting: { READY: 'restarting', ENDED: 'restarting', CLOSE: 'closed' },
  failed: { READY: 'failed', ENDED: 'failed', CLOSE: 'closed' },
  closing: { READY: 'closing', ENDED: 'closed', CLOSE: 'closing' },
  closed: { READY: 'closed', ENDED: 'closed', CLOSE: 'closed' },
};

function machine() {
  const clock = new SimulatedClock();
  const log: string[] = [];
  let finishClosing = (): void => {};
  const actor = createActor(
    databaseMachine.provide({
      actors: {
        workers: fromCallback(() => {
          log.push('start');
          return () => void log.push('end');
        }),
        closeWorkers: fromPromise(() => new Promise<void>((resolve) => (finishClosing = resolve))),
      },
    }),
    { clock },
  );
  actor.start();
  const send = (event: DatabaseEvent): void => {
    if (actor.getSnapshot().status === 'active') actor.send(event);
  };
  return { clock, log, send, state: () => databaseState(actor.getSnapshot()), finishClosing: () => finishClosing() };
}

describe('database: state × event', () => {
  for (const state of Object.keys(TABLE) as DatabaseState[]) {
    for (const [event, target] of Object.entries(TABLE[state]) as Array<[EventName, DatabaseState]>) {
      it(`${state} × ${event} → ${target}`, () => {
        const made = machine();
        for (const step of WAYS[state]) made.send(EVENTS[step]);
        expect(made.state()).toBe(state);
        made.send(EVENTS[event]);
        expect(made.state()).toBe(target);
      });
    }
  }

  it('restarts after a pause, with new workers', () => {
    const made = machine();
    made.send(EVENTS.READY);
    made.send(EVENTS.ENDED);
    expect(made.log).toEqual(['start', 'end']);
    made.clock.increment(RESTART_DELAY_MS);
    expect(made.state()).toBe('opening');
    expect(made.log).toEqual(['start', 'end', 'start']);
  });

  it('gives up after too many restarts without a healthy minute', () => {
    const made = machine();
    const crash = (): void => {
      made.send(EVENTS.READY);
      made.send(EVENTS.ENDED);
    };
    for (let restart = 0; restart < MAX_RESTARTS; restart += 1) {
      crash();
      expect(made.state()).toBe('restarting');
      made.clock.increment(RESTART_DELAY_MS);
    }
    crash();
    expect(made.state()).toBe('failed');
  });

  it('does not count those of which batches are the cause: they are set aside', () => {
    const made = machine();
    for (let restart = 0; restart < MAX_RESTARTS * 2; restart += 1) {
      made.send(EVENTS.READY);
      made.send({ ...EVENTS.ENDED, isBatch: true });
      expect(made.state()).toBe('restarting');
      made.clock.increment(RESTART_DELAY_MS);
    }
  });

  it('counts from zero after a healthy minute', () => {
    const made = machine();
    for (let restart = 0; restart < MAX_RESTARTS * 2; restart += 1) {
      made.send(EVENTS.READY);
      made.clock.increment(HEALTHY_OPEN_MS);
      made.send(EVENTS.ENDED);
      expect(made.state()).toBe('restarting');
      made.clock.increment(RESTART_DELAY_MS);
    }
  });

  it('keeps the workers until they are closed', async () => {
    const made = machine();
    made.send(EVENTS.READY);
    made.send(EVENTS.CLOSE);
    await until(() => made.state() === 'closing');
    expect(made.log).toEqual(['start']);
    made.finishClosing();
    await until(() => made.state() === 'closed');
    expect(made.log).toEqual(['start', 'end']);
  });
});

type OnError = (error: FlotillaError) => void;

async function open(file = 'fine', onFailed: OnError = () => {}, onFault: OnError = () => {}): Promise<NodeStore> {
  const common = {
    file,
    device: 'me',
    name: 'mine',
    durability: 'normal',
    clock: systemClock,
    worker: FAKE,
    key: null,
  } as const;
  const store = await openDatabase({ ...common, onFailed, onFault });
  onTestFinished(() => store.close());
  return store;
}

describe('database workers', () => {
  it('sends writes to the write worker, reads to the read worker, buffers by transfer', async () => {
    const store = await open();
    const data = new Uint8Array(5);
    expect(await store.apply('peer', [data])).toMatchObject([{ rows: 5 }]);
    expect(data.byteLength).toBe(0);
    expect((await store.joinGrant()) as unknown).toBeInstanceOf(ArrayBuffer);
  });

  it('gives errors back with their code', async () => {
    const store = await open();
    await expect(store.sessionStart('peer')).rejects.toMatchObject({ name: 'FlotillaError', code: 'DISK_FULL' });
  });

  it('stamps and asks again for a page; while others never rest, it holds them off', async () => {
    const store = await open();
    const order = (): Promise<string[]> => store.members() as unknown as Promise<string[]>;
    const page = store.page(3, { rows: 1, bytes: 1 });
    // Waits until the page is read and others may write again.
    const later = store.admit('x', 'x');
    expect(await page).toMatchObject({ head: 3 });
    await later;
    const done = await order();
    expect(done.filter((name) => name === 'stamp')).toHaveLength(MAX_STAMP_TRIES);
    expect(done.slice(done.indexOf('hold'), done.indexOf('hold') + 2)).toEqual(['hold', 'release']);
  });

  it('tells of what fails by itself in a worker', async () => {
    const faults: FlotillaError[] = [];
    const store = await open(
      'fine',
      () => {},
      (error) => faults.push(error),
    );
    await store.stamp();
    await store.closeFeed(666);
    await until(() => faults.length === 1);
    expect(faults[0]).toMatchObject({ code: 'DATABASE', message: 'stamping failed' });
    await store.info();
  });

  it('tells how far the head has moved', async () => {
    const store = await open();
    const heads: number[] = [];
    const stop = store.onHead((head) => heads.push(head));
    await store.admit('x', 'x');
    await until(() => heads.length === 1);
    expect(heads).toEqual([42]);
    stop();
  });

  it('rejects with why the library cannot be opened', async () => {
    await expect(open('in-use')).rejects.toMatchObject({ code: 'LIBRARY_IN_USE', message: 'another node has it' });
    await expect(open('crash')).rejects.toMatchObject({
      code: 'DATABASE',
      message: expect.stringContaining('broken from the start'),
    });
  });

  it('rejects what was asked of a worker that dies, and starts it anew', async () => {
    const store = await open();
    await expect(
      store.acked('peer', { position: 0, head: 0, run: '' }, true, { runs: new Uint8Array(), hlc: [] }),
    ).rejects.toBeInstanceOf(FlotillaError);
    await expect(store.info()).rejects.toMatchObject({ code: 'STOPPED' });
    let answered = false;
    while (!answered) {
      answered = await store.info().then(
        () => true,
        () => false,
      );
      await settle(1);
    }
  });

  it('takes nothing more after its close; closing twice is harmless', async () => {
    const store = await open();
    await Promise.all([store.close(), store.close()]);
    await expect(store.info()).rejects.toMatchObject({ code: 'STOPPED' });
  });

  it('opens a worker for one piece of work', async () => {
    const info = await withWorker(spec('fine', 'read'), systemClock, (call) => call('info', []), FAKE);
    expect(info).toMatchObject({ schema: 'read' });
    await expect(withWorker(spec('in-use'), systemClock, (call) => call('info', []), FAKE)).rejects.toMatchObject({
      code: 'LIBRARY_IN_USE',
    });
  });
});

describe('the mailbox of the write worker', () => {
  it('lets live calls overtake those of a backfill, one at a time', async () => {
    const worker = startWorker(FAKE, spec('hold'), systemClock);
    onTestFinished(() => worker.close());
    await worker.ready;
    const bytes = (): Uint8Array[] => [new Uint8Array(1)];
    await Promise.all([
      worker.call('apply', ['backfill 1', bytes()], 'backfill'),
      worker.call('apply', ['backfill 2', bytes()], 'backfill'),
      worker.call('apply', ['backfill 3', bytes()], 'backfill'),
      worker.call('apply', ['live 1', bytes()], 'live'),
      worker.call('apply', ['live 2', bytes()], 'live'),
    ]);
    const order = (await worker.call('order', [])) as string[];
    expect(order.slice(0, 5)).toEqual(['backfill 1', 'live 1', 'live 2', 'backfill 2', 'backfill 3']);
  });

  it('rejects what waits when it is closed, but ends what runs', async () => {
    const worker = startWorker(FAKE, spec('hold'), systemClock);
    await worker.ready;
    const running = worker.call('apply', ['one', [new Uint8Array(1)]]);
    const waiting = worker.call('apply', ['two', [new Uint8Array(1)]]);
    const rejected = expect(waiting).rejects.toMatchObject({ code: 'STOPPED' });
    await worker.close();
    await expect(running).resolves.toEqual([{ rows: 1 }]);
    await rejected;
  });
});
