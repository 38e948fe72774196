/** A world and a library for the commands' tests: nothing here touches the process, the clock or a file. */
import { Writable } from 'node:stream';
import type {
  Change,
  ConflictList,
  DeviceList,
  FlotillaNode,
  InitReport,
  NodeEvent,
  NodeStatus,
  LeaveReport,
  Owned,
  Pairing,
  Progress,
  RestoredConflict,
  Revoked,
  VerifyReport,
} from '../../src/index.ts';
import type { Api, Io, Signal } from '../../src/cli/context.ts';

export const ME = '12D3KooWMeMeMeMeMeMeMeMeMeMeMeMeMeMeMeMeMeMe11111111';
export const PEER = '12D3KooWPeerPeerPeerPeerPeerPeerPeerPeerPeer22222222';
export const OTHER = '12D3KooWOtherOtherOtherOtherOtherOtherOther33333333';

/** A stream that remembers, and that can stop reading. */
export class Sink extends Writable {
  readonly chunks: string[] = [];
  isTTY?: boolean;
  columns?: number;
  rows?: number;
  #held: (() => void) | null = null;
  #holding = false;

  constructor(terminal?: { columns: number; rows: number }) {
    super({ highWaterMark: 256, decodeStrings: false });
    if (terminal !== undefined) {
      this.isTTY = true;
      this.columns = terminal.columns;
      this.rows = terminal.rows;
    }
  }

  override _write(chunk: unknown, _encoding: string, done: (error?: Error | null) => void): void {
    this.chunks.push(String(chunk));
    if (this.#holding) this.#held = () => done();
    else done();
  }

  /** From now on the reader reads nothing more. */
  hold(): void {
    this.#holding = true;
  }

  /** The reader reads again. Resolves when the stream has nothing left to say. */
  async release(): Promise<void> {
    this.#holding = false;
    const held = this.#held;
    this.#held = null;
    held?.();
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
  }

  get text(): string {
    return this.chunks.join('');
  }

  get lines(): string[] {
    return this.text.split('\n').slice(0, -1);
  }

  /** Every line as JSON. */
  get json(): Array<Record<string, unknown>> {
    return this.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}

/** A world whose clock only moves when told. */
export class FakeIo implements Io {
  readonly stdout: Sink;
  readonly stderr = new Sink();
  readonly env: Record<string, string | undefined>;
  readonly exits: number[] = [];
  time = 0;
  readonly signals = new Set<(signal: Signal) => void>();
  readonly exitListeners = new Set<() => void>();
  #timers: Array<{ at: number; callback: () => void }> = [];

  constructor(
    options: { terminal?: { columns: number; rows: number }; env?: Record<string, string | undefined> } = {},
  ) {
    this.stdout = new Sink(options.terminal);
    this.env = options.env ?? {};
  }

  now = (): number => this.time;
  wallClock = (): number => Date.UTC(2030, 0, 1);

  after = (ms: number, callback: () => void): (() => void) => {
    const timer = { at: this.time + ms, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  };

  onSignal = (listener: (signal: Signal) => void): (() => void) => {
    this.signals.add(listener);
    return () => this.signals.delete(listener);
  };

  onExit = (listener: () => void): (() => void) => {
    this.exitListeners.add(listener);
    return () => this.exitListeners.delete(listener);
  };

  exit = (code: number): void => {
    this.exits.push(code);
  };

  signal(signal: Signal): void {
    for (const listener of this.signals) listener(signal);
  }

  advance(ms: number): void {
    this.time += ms;
    const due = this.#timers.filter((timer) => timer.at <= this.time);
    this.#timers = this.#timers.filter((timer) => timer.at > this.time);
    for (const timer of due) timer.callback();
  }

  get timers(): number {
    return this.#timers.length;
  }
}

/** A library that refuses everything that a test did not provide. */
export function fakeApi(parts: Partial<Api>): () => Promise<Api> {
  const refuse = (name: string) => () => Promise.reject(new Error(`${name} was not expected`));
  return () =>
    Promise.resolve({
      openNode: refuse('openNode'),
      initLibrary: refuse('initLibrary'),
      createInvitation: refuse('createInvitation'),
      pairDevice: refuse('pairDevice'),
      joinLibrary: refuse('joinLibrary'),
      readStatus: refuse('readStatus'),
      listDevices: refuse('listDevices'),
      revokeDevice: refuse('revokeDevice'),
      leaveLibrary: refuse('leaveLibrary'),
      ownRow: refuse('ownRow'),
      waitReplicated: refuse('waitReplicated'),
      verifyLibrary: refuse('verifyLibrary'),
      listConflicts: refuse('listConflicts'),
      restoreConflict: refuse('restoreConflict'),
      examineLibrary: refuse('examineLibrary'),
      migrateLibrary: refuse('migrateLibrary'),
      ...parts,
    });
}

/** A node that does what the test says. */
export class FakeNode implements FlotillaNode {
  readonly device = ME;
  readonly libraryId = 'aaaa';
  stops = 0;
  /** What `stop()` waits for. */
  draining: Promise<void> = Promise.resolve();
  known: NodeStatus = nodeStatus({});
  readonly listeners = new Set<(event: NodeEvent) => void>();

  addresses(): string[] {
    return [`/ip4/127.0.0.1/tcp/4001/p2p/${ME}`];
  }

  status(): Promise<NodeStatus> {
    return Promise.resolve(this.known);
  }

  verify(): Promise<VerifyReport> {
    return Promise.reject(new Error('verify was not expected'));
  }

  devices(): Promise<DeviceList> {
    return Promise.reject(new Error('devices was not expected'));
  }

  pair(): Promise<Pairing> {
    return Promise.reject(new Error('pair was not expected'));
  }

  revoke(): Promise<Revoked> {
    return Promise.reject(new Error('revoke was not expected'));
  }

  leave(): Promise<LeaveReport> {
    return Promise.reject(new Error('leave was not expected'));
  }

  own(): Promise<Owned> {
    return Promise.reject(new Error('own was not expected'));
  }

  change(): Promise<Change> {
    return Promise.reject(new Error('change was not expected'));
  }

  replicated(): Promise<readonly string[]> {
    return Promise.reject(new Error('replicated was not expected'));
  }

  conflicts(): Promise<ConflictList> {
    return Promise.reject(new Error('conflicts was not expected'));
  }

  restoreConflict(): Promise<RestoredConflict> {
    return Promise.reject(new Error('restoreConflict was not expected'));
  }

  onEvent(listener: (event: NodeEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  emit(event: NodeEvent): void {
    for (const listener of this.listeners) listener(event);
  }

  async stop(): Promise<void> {
    this.stops += 1;
    await this.draining;
    this.emit({ event: 'stopped' });
  }
}

export function progress(done: number, total: number, rate = 1_000, secondsLeft: number | null = 5): Progress {
  return { done, total, rate, secondsLeft };
}

export function nodeStatus(change: Partial<NodeStatus>): NodeStatus {
  return {
    file: 'files.db',
    running: true,
    device: ME,
    name: 'laptop',
    addresses: [`/ip4/127.0.0.1/tcp/4001/p2p/${ME}`],
    psk: false,
    peers: [],
    discoveryProblem: '',
    maxEventLoopDelayMs: 12,
    p99EventLoopDelayMs: 2,
    library: {
      libraryId: 'aaaa',
      tables: [
        { table: 'entries', ownership: 'shared', rows: 182_530 },
        { table: 'volumes', ownership: 'device', rows: 2 },
      ],
      rows: 182_532,
      tombstones: 3,
      pruning: { tombstones: 3, behind: [] },
      waiting: [],
      waitingCount: 0,
      conflicts: 0,
      unstamped: 0,
      head: 200,
      counters: { batchesIn: 183, batchesOut: 7, lookupsIn: 180, lookupsOut: 6, rowsIn: 182_530, rowsOut: 40 },
      coordinationBytes: 12_345,
      members: [
        { device: ME, name: 'laptop', invitedBy: '', addedAt: 1, revoked: null },
        { device: PEER, name: 'nas', invitedBy: ME, addedAt: 2, revoked: null },
      ],
      uncountedRecords: 0,
      acks: {},
    },
    ...change,
  };
}

export function initReport(change: Partial<InitReport> = {}): InitReport {
  return {
    libraryId: 'aaaa',
    created: true,
    stampedRows: 182_532,
    tables: [
      {
        table: 'entries',
        syncs: true,
        reason: '',
        ownership: 'shared',
        identity: 'uuid v7',
        references: ['parent_id → entries', 'volume_id → volumes'],
        localColumns: ['seen_at'],
        rows: 182_530,
      },
      {
        table: 'log',
        syncs: false,
        reason: 'it has no primary key',
        ownership: 'shared',
        identity: '',
        references: [],
        localColumns: [],
        rows: 9,
      },
    ],
    ...change,
  };
}
