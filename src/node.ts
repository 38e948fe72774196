/**
 * The facade of a running node: wires database, host, discovery, invitations and control socket to the actor tree, and
 * shows it as a `FlotillaNode`. What it decides is only what is started with what; how things stand is the machines'.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { pause, systemClock } from './actors/clock.ts';
import { openDatabase, withWorker } from './actors/database.ts';
import { startNode } from './actors/node-runtime.ts';
import type { NodeParts, RunningNode } from './actors/node-runtime.ts';
import { compareCopies } from './actors/verify.ts';
import type {
  FlotillaNode,
  Invitation,
  InviteOptions,
  NodeOptions,
  NodeStatus,
  ReplicatedOptions,
  VerifyReport,
} from './api.ts';
import type { Change, ConflictQuery, MemberRow, OwnRequest } from './db/api.ts';
import { describeDevices, requireMember, requireOther } from './devices.ts';
import { FlotillaError, messageOf } from './errors.ts';
import { createNodeEvents } from './events.ts';
import type { NodeEvents } from './events.ts';
import { invitationAddresses, listenAddresses, networkOf, parseAddress, peerOf } from './net/addresses.ts';
import { controlPath, serveControl } from './net/control.ts';
import { createDiscovery } from './net/discovery.ts';
import type { Home } from './net/home.ts';
import { createHost, loadStack } from './net/host.ts';
import type { JoinableHost } from './net/host.ts';
import { encodeInvitation, invitationPeer, SECRET_BYTES } from './net/invitation.ts';
import { serveJoin } from './net/join.ts';
import { defaultName, findHome, homeOf, makeHome, readerSpec, requireFile } from './places.ts';
import type { NewHome } from './places.ts';
import { createPairings, PAIRED_MINUTES } from './pairing.ts';
import type { Pairings } from './pairing.ts';

/** Rows a batch, unless the user says otherwise: 100 to 350 kB, a few ms of work on each side. */
const DEFAULT_BATCH_ROWS = 1_000;
/** How often the event loop is looked at, ms: fine enough to see a stall of 20, and costs nothing. */
const DELAY_RESOLUTION_MS = 10;
/** Minutes that an invitation stays open, unless the user says otherwise. */
const DEFAULT_INVITE_MINUTES = 15;

/**
 * Opens a library and keeps it in sync with its other members until `stop()`. The first event, `ready`, comes after the
 * promise has resolved, so that a listener that is added at once hears it.
 *
 * @throws FlotillaError with nothing left running: NO_SUCH_FILE, NOT_A_DATABASE, NOT_INITIALISED, LIBRARY_IN_USE, CONFIG, …
 */
export async function openNode(options: NodeOptions): Promise<FlotillaNode> {
  const file = await requireFile(options.library);
  const batchRows = options.batchRows ?? DEFAULT_BATCH_ROWS;
  if (!Number.isSafeInteger(batchRows) || batchRows < 1) {
    throw new FlotillaError('CONFIG', `batchRows is ${batchRows}: give a whole number of at least 1.`);
  }
  const explicit = explicitPeers(options.peers ?? []);
  const delays = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  delays.enable();
  try {
    await using made = await homeFor(file, homeOf(file, options.home));
    const node = await start({ ...options, batchRows }, file, made.home, explicit, delays);
    made.keep();
    return node;
  } catch (error) {
    delays.disable();
    throw error;
  }
}

/** The home of an initialised library; made anew where only the file was copied, and gone again if the start fails. */
async function homeFor(file: string, path: string): Promise<NewHome> {
  if ((await findHome(path)) === null) {
    // Before a folder is made: what cannot be opened leaves no trace.
    await withWorker(readerSpec(file), systemClock, (call) => call('status', []));
  }
  return makeHome(path);
}

/** Peer id → addresses, from multiaddrs with `/p2p/<peer id>`. */
function explicitPeers(addresses: readonly string[]): Map<string, string[]> {
  const peers = new Map<string, string[]>();
  for (const address of addresses) {
    const peer = parseAddress(address) === null ? null : peerOf(address);
    if (peer === null) {
      throw new FlotillaError(
        'CONFIG',
        `"${address}" names no peer: write /ip4/<address>/tcp/<port>/p2p/<peer id>, as "flotilla status" shows it.`,
      );
    }
    peers.set(peer, [...(peers.get(peer) ?? []), address]);
  }
  return peers;
}

async function start(
  options: NodeOptions & { readonly batchRows: number },
  file: string,
  home: Home,
  explicit: ReadonlyMap<string, readonly string[]>,
  delays: ReturnType<typeof monitorEventLoopDelay>,
): Promise<FlotillaNode> {
  // While the workers load what they need: else this thread waits for them, and they for it.
  loadStack();
  const { device } = home;
  const localOnly = options.localOnly ?? false;
  const clock = systemClock;
  const settings = await home.settings();
  const psk = await home.psk();
  const name = options.name || settings.name || defaultName();
  const book = await home.addressBook();
  const known = new Map<string, readonly string[]>(explicit);
  for (const [peer, { addresses }] of Object.entries(book))
    if (addresses.length > 0) known.set(peer, [...(explicit.get(peer) ?? []), ...addresses]);

  const events = createNodeEvents();
  const { emit } = events;
  /** Writing the address book must not stop a node. */
  const remember = (peer: string, addresses: readonly string[]): void => {
    home.rememberPeer(peer, addresses, clock.now()).catch((error: unknown) => {
      emit({ event: 'notice', message: `The address book could not be written: ${messageOf(error)}` });
    });
  };

  const invitations = await openInvitations(home);
  let host: JoinableHost | null = null;
  let pairings: Pairings | null = null;

  async function openHost(allowed: (peer: string) => boolean, signal: AbortSignal): Promise<JoinableHost> {
    const listen = (port: number): Promise<JoinableHost> =>
      createHost({
        privateKey: home.key,
        psk,
        listen: listenAddresses(port, localOnly),
        localOnly,
        allowed,
        invited: (peer) => invitations.isOpen(peer),
        signal,
      });
    // A port that the user asks for must be had; the one of last time is only a habit.
    if (options.port !== undefined) return (host = await listen(options.port));
    return (host = await listen(settings.port).catch((error: unknown) => {
      if (settings.port === 0 || signal.aborted) throw error;
      return listen(0);
    }));
  }

  /** Lets newcomers in and answers the commands of this machine. */
  async function serve(parts: NodeParts): Promise<() => Promise<void>> {
    const { store, library } = parts;
    const addresses = parts.host.addresses();
    const invite = async (chosen: InviteOptions): Promise<Invitation> => {
      requireMember(await store.members(), device);
      return invitations.create(library.libraryId, portOf(addresses), chosen, true);
    };
    const pairing = createPairings({
      localOnly,
      ...(options.interfaces === undefined ? {} : { interfaces: options.interfaces }),
      invite: async () => (await invite({ localOnly, minutes: PAIRED_MINUTES })).text,
    });
    pairings = pairing;
    const control = await serveControl(controlPath(home.path), {
      status: () => opening.then((node) => node.status()),
      verify: () => opening.then((node) => node.verify()),
      own: (params) => store.own(params as OwnRequest),
      devices: () => opening.then((node) => node.devices()),
      revoke: (params) => opening.then((node) => node.revoke((params as { readonly device: string }).device)),
      leave: () => opening.then((node) => node.leave()),
      change: () => store.change(),
      holders: (params) => store.holders(params as Change),
      conflicts: (params) => store.conflicts((params ?? {}) as ConflictQuery),
      restore: (params) => store.restoreConflict((params as { readonly id: number }).id),
      invite: (params) => invite((params ?? {}) as InviteOptions),
      async pair() {
        const { code, expiresAt } = await (await opening).pair();
        return { code, expiresAt };
      },
      async paired(params) {
        const shown = pairing.of((params as { readonly code: string }).code);
        if (shown === null) throw new FlotillaError('CODE_REFUSED', 'Another code is shown by now.');
        return shown.joined;
      },
      unpair: async (params) => pairing.of((params as { readonly code: string }).code)?.close(),
    });
    // From here on commands find this node, and until here they made invitations by themselves.
    await invitations.reload();
    const stopJoins = host?.handleJoin((packets) => {
      void serveJoin(packets, {
        home,
        libraryId: library.libraryId,
        grant: () => store.joinGrant(),
        admit: (newcomer, newName) => store.admit(newcomer, newName),
        members: () => store.members(),
        now: () => clock.now(),
      }).then((joined) => {
        if (joined !== null) pairing.joined(packets.peer, joined);
      });
    });
    await home.saveSettings({ name, port: portOf(addresses) });
    await home.setRunning({ pid: process.pid, addresses });
    return async () => {
      stopJoins?.();
      await pairing.close();
      await home.clearRunning();
      await control.close();
    };
  }

  const opening = startNode({
    device,
    name,
    batchRows: options.batchRows,
    clock,
    random: Math.random,
    network: () => (localOnly ? '' : networkOf(networkInterfaces())),
    known,
    remember,
    noteSeen: (peers) => home.notePeers(peers, clock.now()),
    emit,
    openStore: (onFailed) =>
      openDatabase({
        file,
        device,
        name,
        durability: options.durability ?? 'normal',
        key: home.seed,
        clock,
        onFailed,
        onFault: (error) => emit({ event: 'notice', message: error.message }),
      }),
    openHost,
    createDiscovery:
      options.discovery === false
        ? null
        : (handlers) =>
            createDiscovery({
              ...handlers,
              device,
              localOnly,
              ...(options.interfaces === undefined ? {} : { interfaces: options.interfaces }),
            }),
    serve,
  }).then(async (running) => {
    const members = await running.store.members();
    const own = members.find((member) => member.device === device);
    if (own === undefined || own.revoked !== null)
      emit({ event: 'notice', message: own === undefined ? notAMember(home.path) : memberNoMore(own, members) });
    return facade(running, { file, device, name, delays, events, home, hasPsk: psk !== null, pairings });
  });
  // Awaited below; a request that comes early must not make a second, unhandled rejection of it.
  opening.catch(() => {});
  const node = await opening;
  // Loading and opening keep the loop busy before there is any peer to keep waiting: what is measured begins here.
  delays.reset();
  // The caller listens first.
  setImmediate(() => events.ready({ event: 'ready', device, library: node.libraryId, addresses: node.addresses() }));
  return node;
}

/** A library file that was copied without its home: the key made here is nobody's. */
function notAMember(home: string): string {
  return (
    `This device is no member of the library, so no other will talk to it: put its home folder back (${home}), ` +
    'or get an invitation from a member and join with a new file.'
  );
}

/** The device was removed, or has left. */
function memberNoMore({ device, revoked }: MemberRow, members: readonly MemberRow[]): string {
  const by = revoked?.by ?? '';
  const who = `"${members.find((member) => member.device === by)?.name || by}"`;
  const when = new Date(revoked?.at ?? 0).toISOString().slice(0, 10);
  const what = by === device ? `This device left the library on ${when}` : `${who} removed this device on ${when}`;
  return `${what}, so it syncs with nobody. To come back, get an invitation from a member and join with this file.`;
}

/** The TCP port on which the host listens. */
function portOf(addresses: readonly string[]): number {
  return Number(/\/tcp\/(\d+)/.exec(addresses[0] ?? '')?.[1] ?? 0);
}

/** ms of delay in what the histogram holds: the time between two looks in ns, the pause between them included. */
function delayMs(between: number): number {
  return Math.max(0, between / 1e6 - DELAY_RESOLUTION_MS);
}

interface FacadeFacts {
  readonly file: string;
  readonly device: string;
  readonly name: string;
  readonly delays: ReturnType<typeof monitorEventLoopDelay>;
  readonly events: NodeEvents;
  readonly home: Home;
  readonly hasPsk: boolean;
  readonly pairings: Pairings | null;
}

function facade(running: RunningNode, facts: FacadeFacts): FlotillaNode {
  const { store, host, library } = running;
  const { delays, events } = facts;
  void running.ended.then((error) => {
    delays.disable();
    if (error !== null) events.emit({ event: 'notice', message: error.message });
    events.emit({ event: 'stopped' });
  });

  async function status(): Promise<NodeStatus> {
    return {
      file: facts.file,
      running: true,
      device: facts.device,
      name: facts.name,
      addresses: host.addresses(),
      psk: facts.hasPsk,
      peers: running.peers(),
      discoveryProblem: running.discoveryProblem(),
      maxEventLoopDelayMs: delayMs(delays.max),
      p99EventLoopDelayMs: delayMs(delays.percentile(99)),
      library: await store.status(),
    };
  }

  return {
    device: facts.device,
    libraryId: library.libraryId,
    addresses: () => host.addresses(),
    status,
    verify: () => verify(running),
    own: (table, key, { device = null } = {}) => store.own({ table, key, device }),
    devices: async () => describeDevices(await store.members(), facts.home, await store.status(), running.connected()),
    async pair() {
      requireMember(await store.members(), facts.device);
      if (facts.pairings === null) throw new FlotillaError('STOPPED', 'The node is not running.');
      return facts.pairings.show();
    },
    async revoke(device) {
      requireOther(device, await store.members(), facts.device);
      return store.revoke(device);
    },
    async leave() {
      const report = await running.leave();
      // Whoever asked over the control socket gets the answer first.
      setImmediate(() => void running.stop());
      return report;
    },
    change: () => store.change(),
    replicated: (change, options = {}) => replicated(running, change, options),
    conflicts: (query = {}) => store.conflicts(query),
    restoreConflict: (id) => store.restoreConflict(id),
    onEvent: events.listen,
    stop: () => running.stop(),
  };
}

/** How often it is looked whether enough devices have ACKed a change, ms. */
const HOLDERS_EVERY_MS = 100;

async function replicated(
  running: RunningNode,
  change: Change,
  { devices = 1, signal }: ReplicatedOptions,
): Promise<readonly string[]> {
  const ended = new AbortController();
  void running.ended.then(() => ended.abort(new FlotillaError('STOPPED', 'The node was stopped.')));
  const until = signal === undefined ? ended.signal : AbortSignal.any([signal, ended.signal]);
  for (;;) {
    until.throwIfAborted();
    const holders = await running.store.holders(change);
    if (holders.length >= devices) return holders;
    await pause(systemClock, HOLDERS_EVERY_MS, until);
  }
}

async function verify(running: RunningNode): Promise<VerifyReport> {
  const { store } = running;
  const checked = await store.check();
  const peers: Array<VerifyReport['peers'][number]> = [];
  for (const { device, name } of running.peers()) {
    try {
      const differences = await compareCopies(
        (query) => store.inspect(query),
        (query) => running.inspectPeer(device, query),
      );
      peers.push({ device, name, identical: differences.length === 0, differences, error: '' });
    } catch (error) {
      peers.push({ device, name, identical: false, differences: [], error: messageOf(error) });
    }
  }
  const clean = checked.foreignKeyViolations.length === 0 && checked.integrity.length === 0;
  // A peer that is away was not compared: that is no finding.
  return { ok: clean && peers.every((peer) => peer.identical || peer.error !== ''), ...checked, compared: true, peers };
}

/** The open invitations of a home, as the gater needs them: at once, by peer id. */
export interface Invitations {
  isOpen(peer: string): boolean;
  /** Takes in what a command has made that did not find this node running yet. */
  reload(): Promise<void>;
  /** @param port - TCP port that the node listens on */
  create(libraryId: string, port: number, options: InviteOptions, nodeRunning: boolean): Promise<Invitation>;
}

export async function openInvitations(home: Home): Promise<Invitations> {
  const open = new Map<string, number>();
  const reload = async (): Promise<void> => {
    for (const { peer, expiresAt } of await home.invites(systemClock.now())) open.set(peer, expiresAt);
  };
  await reload();
  return {
    isOpen: (peer) => (open.get(peer) ?? 0) > systemClock.now(),
    reload,
    async create(libraryId, port, { minutes = DEFAULT_INVITE_MINUTES, localOnly = false }, nodeRunning) {
      if (!(minutes > 0))
        throw new FlotillaError('CONFIG', `An invitation of ${minutes} minutes cannot be used: give more than 0.`);
      const secret = new Uint8Array(randomBytes(SECRET_BYTES));
      const expiresAt = Math.round(systemClock.now() + minutes * 60_000);
      const addresses = invitationAddresses(port, networkInterfaces(), localOnly);
      const peer = invitationPeer(secret);
      await home.addInvite(peer, expiresAt);
      open.set(peer, expiresAt);
      const psk = await home.psk();
      const text = encodeInvitation({ libraryId, inviter: home.device, addresses, secret, expiresAt, psk });
      return { text, libraryId, device: home.device, addresses, expiresAt, nodeRunning };
    },
  };
}
