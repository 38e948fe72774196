/**
 * The effects of the node: opens what it needs in order, gives each session its dialling and its driver, and closes all of
 * it in reverse. Everything real (database, host, discovery, clock) is passed in, so that a fleet runs in one process.
 */
import { createActor, fromCallback, fromPromise, waitFor } from 'xstate';
import type { LeaveReport, NodeEvent, PeerStatus } from '../api.ts';
import type { LibraryInfo, MemberRow } from '../db/api.ts';
import { FlotillaError, messageOf } from '../errors.ts';
import type { Discovery, DiscoveryOptions, Host } from '../net/api.ts';
import type { Channel, Inspection, InspectionAnswer } from '../protocol/types.ts';
import { watchAwake } from './awake.ts';
import type { Clock } from './clock.ts';
import type { NodeStore } from './database.ts';
import { addressesOf, discoveryMachine, searchWith } from './discovery.ts';
import { Absent, neighbours } from './mesh.ts';
import { nodeMachine, opensStream, peersAmong } from './node.ts';
import type { NodeMachineEvent, SessionRef } from './node.ts';
import { peerSessionMachine, sessionState } from './peer-session.ts';
import type { DriveInput, DriverEvent } from './peer-session.ts';
import { startSession } from './session-driver.ts';
import type { SessionDriver } from './session-driver.ts';
import { createTurns } from './turns.ts';

/** How long a device that leaves waits for the members that are connected to take that in, ms: a batch and its ACK, over a slow link. */
export const LEAVE_TIMEOUT_MS = 10_000;
/** Progress is reported at most this often, ms: ten times a second is as much as an eye takes in. */
export const PROGRESS_INTERVAL_MS = 100;
/** Bytes a batch aims at, at most: a quarter of the credit, so that several are always on their way. */
export const BATCH_BYTES = 1024 * 1024;

/** How often somebody is dialled who claims to be this device, ms, and how long that may take; anybody may claim it. */
const MEET_EVERY_MS = 8_000;
const MEET_TIMEOUT_MS = 5_000;

/** A peer that was not heard for this long, and is heard again, has come back, ms: three announcements that stayed away. */
const SILENT_MS = 30_000;

export interface NodeRuntimeOptions {
  /** Own peer id. */
  readonly device: string;
  readonly name: string;
  /** Rows a batch at most. */
  readonly batchRows: number;
  /** Rows from which on a newcomer is given a snapshot. @default SNAPSHOT_ROWS */
  readonly snapshotRows?: number;
  readonly clock: Clock;
  readonly random: () => number;
  /** The addresses that this device has now, as a text: another one says that the network has changed. */
  readonly network: () => string;
  /** Addresses by peer id: from the user and from the address book. */
  readonly known: ReadonlyMap<string, readonly string[]>;
  readonly openStore: (onFailed: (error: FlotillaError) => void) => Promise<NodeStore>;
  /** Listens from here on. */
  readonly openHost: (allowed: (peer: string) => boolean, signal: AbortSignal) => Promise<Host>;
  /** null: no multicast discovery. */
  readonly createDiscovery:
    | ((handlers: Pick<DiscoveryOptions, 'addresses' | 'onPeer' | 'onSelf' | 'onProblem'>) => Discovery)
    | null;
  /** Starts whatever else serves while the node runs (newcomers, the control socket); resolves with the way to end it. */
  readonly serve: (parts: NodeParts) => Promise<() => Promise<void>>;
  /** Writes addresses at which a member was reached to the address book. */
  readonly remember: (peer: string, addresses: readonly string[]) => void;
  /** Notes that these members are connected now, or were until now. @default nobody asks */
  readonly noteSeen?: (peers: readonly string[]) => Promise<void>;
  readonly emit: (event: NodeEvent) => void;
}

export interface NodeParts {
  readonly store: NodeStore;
  readonly host: Host;
  readonly library: LibraryInfo;
}

export interface RunningNode extends NodeParts {
  peers(): PeerStatus[];
  /** Why multicast does not work; '' if it does or was not asked for. */
  discoveryProblem(): string;
  /** Asks a peer about its copy; rejects `UNREACHABLE` when there is no session with it. */
  inspectPeer(peer: string, query: Inspection): Promise<InspectionAnswer>;
  /** Peer ids of members to which a connection stands. */
  connected(): string[];
  /** Ends the membership of this device and tells those that are connected; whoever calls it stops the node then. */
  leave(): Promise<LeaveReport>;
  /** Drains and closes everything. Twice is harmless. */
  stop(): Promise<void>;
  /** Resolves when the node has ended, with the error if it failed. */
  readonly ended: Promise<FlotillaError | null>;
}

/** Starts the actor tree; rejects with why it cannot start, with nothing left running. */
export async function startNode(options: NodeRuntimeOptions): Promise<RunningNode> {
  const { device, clock, emit } = options;
  const allowed = new Set<string>();
  const connected = new Set<string>();
  const connectionWaits = new Map<string, Set<() => void>>();
  const via = new Map<string, PeerStatus['via']>();
  const names = new Map<string, string>();
  /** In which tables and columns each peer differs from this device, in words. */
  const differences = new Map<string, readonly string[]>();
  const drivers = new Map<string, SessionDriver>();
  const turns = createTurns(clock);
  const absent = new Absent();
  /** Which rows are too large to be sent, as it was told last. */
  let heldUp = '';
  /** With whom a session is kept. */
  let needed: ReadonlySet<string> | null = null;
  /** Peers that know that this device has left. */
  const told = new Set<string>();
  let leaving: (() => void) | null = null;
  /** What is still ending: goodbyes, sockets. */
  const endings = new Set<Promise<void>>();
  const closers: Array<() => Promise<void>> = [];
  let parts: NodeParts | null = null;
  let starting: Promise<unknown> = Promise.resolve();
  let stopping = false;

  const nameOf = (peer: string): string => names.get(peer) ?? '';

  function ending(promise: Promise<void>): void {
    const kept = promise.catch(() => {}).finally(() => endings.delete(kept));
    endings.add(kept);
  }

  async function closeAll(): Promise<void> {
    stopping = true;
    await Promise.all([...endings, noteSeen([...connected])]);
    for (let close = closers.pop(); close !== undefined; close = closers.pop()) {
      await close().catch((error: unknown) =>
        emit({ event: 'notice', message: `While stopping: ${messageOf(error)}` }),
      );
    }
  }

  async function openAll(signal: AbortSignal): Promise<readonly MemberRow[]> {
    try {
      const store = await options.openStore((error) => {
        if (actor.getSnapshot().status === 'active') actor.send({ type: 'FAILED', error });
      });
      closers.push(() => store.close());
      signal.throwIfAborted();
      const library = await store.info();
      const members = await store.members();
      allow(members);
      // The last, so that nobody connects to a node that cannot answer yet.
      const host = await options.openHost((peer) => allowed.has(peer), signal);
      closers.push(() => host.stop());
      signal.throwIfAborted();
      parts = { store, host, library };
      closers.push(await options.serve(parts));
      return members;
    } catch (error) {
      await closeAll();
      throw error;
    }
  }

  /** What cannot be noted is only less to show. */
  async function noteSeen(peers: readonly string[]): Promise<void> {
    if (peers.length > 0) await options.noteSeen?.(peers).catch(() => {});
  }

  function opened(): NodeParts {
    if (parts === null) throw new FlotillaError('STOPPED', 'The node is not running.');
    return parts;
  }

  function allow(members: readonly MemberRow[]): void {
    const peers = peersAmong(members, device);
    for (const { device: peer, name } of members) names.set(peer, name);
    const gone = [...allowed].filter((peer) => !peers.some((member) => member.device === peer));
    // Before a word is said to them: from here on nobody of them gets a connection or a stream.
    for (const peer of gone) allowed.delete(peer);
    for (const { device: peer, name, revoked } of members) {
      if (revoked !== null && (gone.includes(peer) || (peer === device && gone.length > 0)))
        emit({ event: 'revoked', device: peer, name, by: revoked.by, byName: nameOf(revoked.by) });
    }
    const isSelfOut = members.some((member) => member.device === device && member.revoked !== null);
    for (const peer of gone) part(peer, isSelfOut);
    for (const { device: peer, name } of peers) {
      if (allowed.has(peer)) continue;
      allowed.add(peer);
      if (parts !== null && watching) emit({ event: 'joined', device: peer, name });
    }
  }
  let watching = false;

  /** Tells a peer that there will be no session any more, if there is one, and hangs up. */
  function part(peer: string, isSelfOut: boolean): void {
    const { host } = opened();
    const driver = drivers.get(peer);
    const said = isSelfOut ? driver?.end('this device is a member no more') : driver?.dismiss();
    ending(Promise.resolve(said).then(() => host.hangUp(peer)));
  }

  // --- sessions ---------------------------------------------------------------------------------------------------

  /** Resolves at once or as soon as a connection to the peer stands, whoever made it. */
  function whenConnected(peer: string, signal: AbortSignal): Promise<void> {
    if (connected.has(peer)) return Promise.resolve();
    return new Promise((resolve) => {
      const waits = connectionWaits.get(peer) ?? new Set();
      connectionWaits.set(peer, waits.add(resolve));
      signal.addEventListener('abort', () => waits.delete(resolve), { once: true });
    });
  }

  /** Rejects as soon as the connection ends; whoever waits for the other side to open the stream waits in vain then. */
  function whenDisconnected(peer: string, signal: AbortSignal): Promise<never> {
    const over = new FlotillaError(
      'UNREACHABLE',
      'It ended the connection before a session began: it may not know this device as a member.',
    );
    if (!connected.has(peer)) return Promise.reject(over);
    return new Promise((_, reject) => {
      const stop = opened().host.onConnection((other, open) => {
        if (other === peer && !open) reject(over);
      });
      signal.addEventListener('abort', stop, { once: true });
    });
  }

  async function connect(peer: string, signal: AbortSignal): Promise<Channel> {
    const { host } = opened();
    const addresses = addressesOf(discovery.getSnapshot().context, peer);
    // A peer that dials us at the same time saves us from waiting for an address that is dead.
    await Promise.race([host.dial(peer, addresses, signal), whenConnected(peer, signal)]);
    // Whoever does not know us as a member lets the connection stand and ends it a moment later, without a word.
    if (!opensStream(device, peer)) return whenDisconnected(peer, signal);
    const channel = await host.openChannel(peer, signal);
    if (signal.aborted) channel.abort(new FlotillaError('STOPPED', 'The stream came too late.'));
    signal.throwIfAborted();
    return channel;
  }

  function drive({ peer, channel }: DriveInput, sendBack: (event: DriverEvent) => void): () => void {
    const { store, library, host } = opened();
    let reportedAt = -Infinity;
    let isUnfinished = false;
    const driver = startSession({
      channel,
      store,
      clock,
      turns,
      load: () => [...drivers.values()].filter((other) => !other.inSync()).length,
      roundTrip: () => host.roundTrip(peer),
      isNeeded: needed?.has(peer) ?? true,
      facts: { device, name: options.name, library: library.libraryId },
      limits: { rows: options.batchRows, bytes: BATCH_BYTES },
      ...(options.snapshotRows === undefined ? {} : { snapshotRows: options.snapshotRows }),
      emit: (event) => {
        if (event.type === 'REFUSED' && event.code === 'REVOKED') told.add(peer);
        leaving?.();
        sendBack(event);
      },
      onAcked: () => leaving?.(),
      onHeldUp(message) {
        if (heldUp !== message) emit({ event: 'notice', message });
        heldUp = message;
      },
      onName: (name) => names.set(peer, name),
      onDifferences: (found) => noteDifferences(peer, found),
      onApplied: ({ rows, changed, complete, said }) => {
        // What has become known here, which may be less than the sender claims for itself.
        if (said.hlc.length > 0) for (const [other, to] of drivers) if (other !== peer) to.offer(said);
        // The page that ends a pass may hold nothing, since all that is left in the feed is known here.
        if (rows > 0 || (complete && isUnfinished)) emit({ event: 'applied', device: peer, rows, changed, complete });
        isUnfinished = !complete;
      },
      onProgress: (progress) => {
        const now = clock.now();
        if (progress.done < progress.total && now - reportedAt < PROGRESS_INTERVAL_MS) return;
        reportedAt = now;
        emit({ event: 'progress', device: peer, name: nameOf(peer), progress });
      },
    });
    drivers.set(peer, driver);
    ending(driver.ended);
    const unlisten = store.onSchema(() => {
      if (!driver.learning())
        sendBack({
          type: 'FAULT',
          code: 'SCHEMA_MISMATCH',
          reason: 'what this device has to say of its tables, or of its clock, has changed',
        });
    });
    return () => {
      unlisten();
      if (drivers.get(peer) === driver) drivers.delete(peer);
      leaving?.();
      const ended = driver.end(stopping ? 'the node stops' : 'this node ended the session');
      ending(ended.then(() => (isIdle(peer) ? host.hangUp(peer) : undefined)));
    };
  }

  /** Told once, as long as they stay the same. */
  function noteDifferences(peer: string, found: readonly string[]): void {
    const before = differences.get(peer) ?? [];
    differences.set(peer, found);
    for (const message of found) if (!before.includes(message)) emit({ event: 'notice', message });
  }

  const observed = new WeakSet<SessionRef>();
  function observe(peer: string, session: SessionRef): void {
    if (observed.has(session)) return;
    observed.add(session);
    let last = '';
    const report = (snapshot: ReturnType<SessionRef['getSnapshot']>): void => {
      const state = sessionState(snapshot);
      if (state === last) return;
      last = state;
      absent.note(peer, state, snapshot.context.attempt);
      chooseNeighboursSoon();
      // That of a device which was removed ends; it was said already why.
      if (state === 'stopped' && !allowed.has(peer)) return;
      emit({ event: 'peer', device: peer, name: nameOf(peer), state, ...endOf(snapshot) });
    };
    report(session.getSnapshot());
    session.subscribe(report);
  }

  function isIdle(peer: string): boolean {
    const session = actor.getSnapshot().context.sessions.get(peer);
    return session !== undefined && sessionState(session.getSnapshot()) === 'idle';
  }

  let isChoosing = false;
  /** What changes at the same moment is looked at together. */
  function chooseNeighboursSoon(): void {
    if (isChoosing) return;
    isChoosing = true;
    queueMicrotask(() => {
      isChoosing = false;
      chooseNeighbours();
    });
  }

  /** Whom this device needs a session with follows from who is there. */
  function chooseNeighbours(): void {
    if (stopping) return;
    const { sessions } = actor.getSnapshot().context;
    needed = neighbours(device, [...sessions.keys()], (peer) => absent.has(peer));
    for (const [peer, session] of sessions) {
      drivers.get(peer)?.need(needed.has(peer));
      if (needed.has(peer) && isIdle(peer)) session.send({ type: 'NEEDED' });
    }
  }

  // --- what the outside says ----------------------------------------------------------------------------------------

  const { createDiscovery } = options;
  const discovery = createActor(
    discoveryMachine.provide({
      actors: {
        search: searchWith((handlers) => {
          if (createDiscovery === null) throw new Error('discovery was not asked for');
          return createDiscovery({ ...handlers, addresses: () => parts?.host.addresses() ?? [], onSelf: meetSelf });
        }, ending),
      },
    }),
    { input: { device, known: options.known }, clock },
  );

  function seen(peer: string, how: 'mdns' | 'address' | 'inbound'): void {
    const before = via.get(peer);
    if (before === how || before === 'mdns') return;
    via.set(peer, how);
    if (how !== 'inbound') emit({ event: 'discovered', device: peer, via: how });
  }

  let metAt = -Infinity;
  /** Somebody says that this device is elsewhere too. Anybody may say so: only a handshake shows it. */
  function meetSelf(addresses: readonly string[]): void {
    const now = clock.now();
    if (Math.abs(now - metAt) < MEET_EVERY_MS) return;
    metAt = now;
    void parts?.host.meetSelf(addresses, AbortSignal.timeout(MEET_TIMEOUT_MS));
  }

  /** Another node runs with the key of a device: with ours, and then this one ends, or with a member's. */
  function twinFound(twin: string, by: string, sendBack: (event: NodeMachineEvent) => void): void {
    if (twin === device) return sendBack({ type: 'FAILED', error: twinError(by === '' ? '' : nameOf(by) || by) });
    if (twinsTold.has(twin)) return;
    twinsTold.add(twin);
    emit({
      event: 'notice',
      message: `Two nodes run with the key of "${nameOf(twin) || twin}": its home folder was copied. Both have been told, and stop.`,
    });
  }
  const twinsTold = new Set<string>();

  function watch(sendBack: (event: NodeMachineEvent) => void): () => void {
    const { host, store } = opened();
    const stops: Array<() => void> = [];
    stops.push(host.onTwin((twin, by) => twinFound(twin, by, sendBack)));
    stops.push(host.onChannel((channel) => sendBack({ type: 'CHANNEL', channel })));
    stops.push(
      host.onConnection((peer, open, address) => {
        if (open || connected.has(peer)) ending(noteSeen([peer]));
        if (!open) return void connected.delete(peer);
        connected.add(peer);
        // Only what has been proven: an address that was merely heard may be anybody's.
        if (address !== '') {
          options.remember(peer, [address]);
          discovery.send({ type: 'PROVEN', peer, address });
        }
        seen(peer, options.known.has(peer) ? 'address' : 'inbound');
        for (const wake of connectionWaits.get(peer) ?? []) wake();
        connectionWaits.delete(peer);
        sendBack({ type: 'PEER_SEEN', peer, isConnected: true });
      }),
    );
    const heard = new Map<string, { readonly addresses: string; readonly at: number }>();
    const found = discovery.on('SEEN', ({ peer, addresses }) => {
      if (!allowed.has(peer)) return;
      const last = heard.get(peer);
      const now = clock.now();
      heard.set(peer, { addresses: addresses.join(), at: now });
      // Who says the same again and again is no news: a peer that refuses us would be dialled with every packet.
      if (last !== undefined && last.addresses === addresses.join() && Math.abs(now - last.at) < SILENT_MS) return;
      seen(peer, 'mdns');
      sendBack({ type: 'PEER_SEEN', peer, isConnected: false });
    });
    stops.push(() => found.unsubscribe());
    const wake = (): void => {
      heard.clear();
      discovery.send({ type: 'AWAKE' });
      sendBack({ type: 'AWAKE' });
    };
    stops.push(watchAwake({ clock, network: options.network, onAwake: wake }));
    // Once each: what does not work is tried again and again.
    const told = new Set(['']);
    const problems = discovery.subscribe(({ context: { problem } }) => {
      if (!told.has(problem)) emit({ event: 'notice', message: problem });
      told.add(problem);
    });
    stops.push(() => problems.unsubscribe());
    stops.push(
      store.onSchema((changes) => {
        for (const message of changes) emit({ event: 'notice', message });
        // A session that was refused may be possible now.
        for (const peer of allowed) sendBack({ type: 'PEER_SEEN', peer, isConnected: false });
      }),
    );
    stops.push(
      store.onMembers(() => {
        // A device that leaves goes on talking until the others have heard of it. A store that restarts tells again.
        if (leaving !== null) return;
        store.members().then(
          (members) => leaving ?? sendBack({ type: 'MEMBERS', members }),
          () => {},
        );
      }),
    );
    watching = true;
    stops.push(() => (watching = false));
    if (createDiscovery !== null) discovery.send({ type: 'START' });
    return () => {
      for (const stop of stops) stop();
      discovery.send({ type: 'STOP' });
    };
  }

  // --- leaving ------------------------------------------------------------------------------------------------------

  async function leave(): Promise<LeaveReport> {
    const { store } = opened();
    const peers = peersAmong(await store.members(), device);
    const isTold = ({ device: peer }: MemberRow): boolean => told.has(peer) || drivers.get(peer)?.delivered() === true;
    // What the peers ACK until it is written says nothing of it.
    leaving = () => {};
    await store.revoke(device).catch((error: unknown) => {
      leaving = null;
      throw error;
    });
    await new Promise<void>((resolve) => {
      const timer = clock.setTimeout(resolve, LEAVE_TIMEOUT_MS);
      leaving = () => {
        if (peers.some((member) => drivers.has(member.device) && !isTold(member))) return;
        clock.clearTimeout(timer);
        resolve();
      };
      leaving();
    });
    const brief = ({ device: peer, name }: MemberRow): { device: string; name: string } => ({ device: peer, name });
    const report = {
      told: peers.filter(isTold).map(brief),
      untold: peers.filter((member) => !isTold(member)).map(brief),
    };
    emit({ event: 'revoked', device, name: options.name, by: device, byName: options.name });
    return report;
  }

  // --- the machine --------------------------------------------------------------------------------------------------

  const actor = createActor(
    nodeMachine.provide({
      actors: {
        start: fromPromise(({ signal }) => {
          const promise = openAll(signal);
          starting = promise;
          return promise;
        }),
        watch: fromCallback(({ sendBack }) => watch(sendBack)),
        session: peerSessionMachine.provide({
          actors: {
            connect: fromPromise(({ input, signal }) => connect(input.peer, signal)),
            drive: fromCallback(({ input, sendBack }) => drive(input, sendBack)),
          },
        }),
        shutDown: fromPromise(async () => {
          await starting.catch(() => {});
          await closeAll();
        }),
      },
      actions: {
        allow: (_, { members }) => allow(members),
        announceStop: () => {
          stopping = true;
        },
      },
    }),
    { input: { device, random: options.random }, clock },
  );
  const ended = new Promise<FlotillaError | null>((resolve) => {
    actor.subscribe((snapshot) => {
      for (const [peer, session] of snapshot.context.sessions) observe(peer, session);
      if (snapshot.status !== 'active') resolve(snapshot.context.error);
    });
  });
  discovery.start();
  actor.start();
  const snapshot = await waitFor(actor, (now) => now.value !== 'starting');
  if (snapshot.value !== 'running') {
    discovery.stop();
    throw (await ended) ?? new FlotillaError('STOPPED', 'The node was stopped while it started.');
  }

  function peerStatus(peer: string, session: SessionRef): PeerStatus {
    const now = session.getSnapshot();
    const driver = drivers.get(peer);
    return {
      device: peer,
      name: nameOf(peer),
      state: sessionState(now),
      via: via.get(peer) ?? '',
      progress: driver?.progress() ?? null,
      ...endOf(now),
      inSync: driver?.inSync() ?? false,
      differences: differences.get(peer) ?? [],
      heldUp: driver?.heldUp() ?? '',
    };
  }

  return {
    ...opened(),
    ended,
    peers: () => [...actor.getSnapshot().context.sessions].map(([peer, session]) => peerStatus(peer, session)),
    discoveryProblem: () => discovery.getSnapshot().context.problem,
    async inspectPeer(peer, query) {
      const driver = drivers.get(peer);
      if (driver === undefined)
        throw new FlotillaError('UNREACHABLE', 'There is no session with this device at the moment.');
      return driver.inspectPeer(query);
    },
    connected: () => [...connected].filter((peer) => allowed.has(peer)),
    leave,
    async stop() {
      if (actor.getSnapshot().status === 'active') actor.send({ type: 'STOP' });
      await ended;
    },
  };
}

/** @param by - name of the member that has told us; '' when we have met the other node */
function twinError(by: string): FlotillaError {
  return new FlotillaError(
    'DEVICE_TWICE',
    `Another node runs with the key of this device (${by === '' ? 'this one has met it' : `"${by}" is connected to both`}): its home folder was copied, or came back from a backup. ` +
      'Both stop. Go on with one of them; on the other, remove the home folder and join again with an invitation.',
  );
}

/** Why the last session ended, while there is none. */
function endOf(snapshot: ReturnType<SessionRef['getSnapshot']>): Pick<PeerStatus, 'code' | 'reason'> {
  const state = sessionState(snapshot);
  const { code, reason } = snapshot.context;
  return state === 'backoff' || state === 'refused' ? { code, reason } : { code: '', reason: '' };
}
