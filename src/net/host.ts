/**
 * A libp2p node of ours, as the narrow `Host`. Who may connect is decided here, after Noise has proved the peer id and
 * before any stream opens; why somebody may is decided by the caller. No database and no session logic enter.
 */
import type { Connection, MultiaddrConnection, PeerId, PrivateKey, Stream } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import type { Multiaddr } from '@multiformats/multiaddr';
import { FlotillaError, messageOf } from '../errors.ts';
import type { Channel } from '../protocol/types.ts';
import { dialable, isLoopback, withPeer, withoutPeer } from './addresses.ts';
import { JOIN_PROTOCOL, SYNC_PROTOCOL } from './api.ts';
import type { Host } from './api.ts';
import { openFrames } from './framing.ts';
import { BEAT_MS, Heartbeat } from './heartbeat.ts';
import type { Beating } from './heartbeat.ts';
import { openPackets } from './packets.ts';
import type { Packets } from './packets.ts';
import { TWIN_PROTOCOL, TwinWatch } from './twins.ts';

/** libp2p's own; every one of our hosts answers it. */
const PING_PROTOCOL = '/ipfs/ping/1.0.0';
const PING_BYTES = 32;
/** A handshake takes 10 ms on a LAN; a silent socket holds its place for this long, ms. */
const INBOUND_UPGRADE_TIMEOUT_MS = 4_000;
/** Connections a second that one address may open: the nodes of one machine share 127.0.0.1 and all redial at once. */
const INBOUND_PER_SECOND = 20;
/** Handshakes at the same time: more than one address can hold open (20 a second for 4 s), so it cannot lock friends out. */
export const MAX_PENDING_INBOUND = 100;
/** One address of several may be dead (other network, VPN); a live one on a LAN answers at once, ms. */
const ADDRESS_DIAL_TIMEOUT_MS = 4_000;
/** A second stream may come before the end of a broken one was noticed; more is abuse. */
const MAX_STREAMS = 4;
/** Connections with one peer: over several networks, and dead ones that nobody has noticed yet. Beyond, the oldest goes. */
export const MAX_PEER_CONNECTIONS = 4;
/** Longest packet of the join protocol, bytes: it carries the DDL and the members of a library. */
export const MAX_JOIN_BYTES = 8 * 1024 * 1024;
/** The same for what a newcomer says: a key, a signature, a name. Read as JSON on the main thread. */
const MAX_JOIN_REQUEST_BYTES = 16 * 1024;

export interface HostOptions {
  readonly privateKey: PrivateKey;
  /** Pre-shared key of the library; only who has it too gets a connection, either way. @default none */
  readonly psk?: Uint8Array | null;
  /** Multiaddrs to listen on; none for a host that only dials. */
  readonly listen: readonly string[];
  /** Refuses every address that is not loopback, for listening and for dialling. */
  readonly localOnly: boolean;
  /** May this peer have a connection, either way, and the sync stream? Asked at each connection and stream. */
  readonly allowed: (peer: string) => boolean;
  /** May this peer connect to us for the join protocol alone? */
  readonly invited: (peer: string) => boolean;
  /** The protocol of invited peers. @default {@link JOIN_PROTOCOL} */
  readonly joinProtocol?: string;
  /** Time between two beats of the heartbeat, ms. @default 2500 */
  readonly beatMs?: number;
  /** How long a message that has begun may bring nothing more, ms. @default 30000 */
  readonly stallMs?: number;
  /** Gives up starting. */
  readonly signal?: AbortSignal;
}

/** A host that also speaks the join protocol. */
export interface JoinableHost extends Host {
  /** Calls back with each stream of an invited peer; without a listener they are refused. Returns the way to stop. */
  handleJoin(handler: (packets: Packets) => void): () => void;
  /** Opens the join stream over the existing connection. */
  openJoin(peer: string, signal: AbortSignal): Promise<Packets>;
}

/** Begins to load what a host is made of, so that it is there when one is created. What goes wrong is told by that. */
export function loadStack(): void {
  import('./stack.ts').catch(() => {});
}

/**
 * Starts a libp2p node.
 * @throws FlotillaError CONFIG when an address cannot be listened on
 */
export async function createHost(options: HostOptions): Promise<JoinableHost> {
  const { allowed, invited, localOnly, psk = null, joinProtocol = JOIN_PROTOCOL } = options;
  if (localOnly && !options.listen.every(isLoopback)) {
    throw new FlotillaError('CONFIG', `A local-only node listens on 127.0.0.1, not on ${options.listen.join(', ')}.`);
  }
  const heartbeat = new Heartbeat();
  /** ms, as the last beat measured it. */
  const roundTrips = new WeakMap<Connection, number>();
  const twins = new TwinWatch();
  /** After Noise: the peer id is proven here. Bytes are counted from here on as signs of life. */
  const deny = (peer: PeerId, connection: MultiaddrConnection, may: boolean): boolean => {
    const id = connectionKey(peer, connection.remoteAddr);
    if (may) {
      connection.addEventListener('message', () => heartbeat.heard(id));
      connection.addEventListener('close', () => twins.ended(id));
    } else twins.ended(id);
    return !may;
  };
  const { createLibp2p, ping, transportOptions } = await import('./stack.ts');
  options.signal?.throwIfAborted();
  const libp2p = await createLibp2p({
    privateKey: options.privateKey,
    addresses: { listen: [...options.listen] },
    ...transportOptions(psk, {
      instance: twins.instance,
      async onProven({ peer, instance, direction, remoteAddr }) {
        if (peer.publicKey?.equals(options.privateKey.publicKey) === true) await twins.metSelf(instance, direction);
        else twins.told(connectionKey(peer, remoteAddr), instance);
      },
    }),
    // No identify: nobody asks for what it tells (protocols, addresses, versions), and it was two fifths of a reconnect's bytes.
    services: { ping: ping() },
    connectionGater: {
      denyDialMultiaddr: (address) => localOnly && !isLoopback(address.toString()),
      denyInboundEncryptedConnection: (peer, connection) =>
        deny(peer, connection, allowed(peer.toString()) || invited(peer.toString())),
      denyOutboundEncryptedConnection: (peer, connection) => deny(peer, connection, allowed(peer.toString())),
    },
    connectionManager: {
      inboundUpgradeTimeout: INBOUND_UPGRADE_TIMEOUT_MS,
      inboundConnectionThreshold: INBOUND_PER_SECOND,
      maxIncomingPendingConnections: MAX_PENDING_INBOUND,
      addressDialTimeout: ADDRESS_DIAL_TIMEOUT_MS,
      // No name is looked up on behalf of an address that somebody else gave us.
      resolvers: {},
    },
    connectionMonitor: { enabled: false },
  }).catch((cause: unknown) => {
    throw new FlotillaError(
      'CONFIG',
      `Cannot listen on ${options.listen.join(', ')} (${messageOf(cause)}): choose another port, or 0 for any.`,
      { cause },
    );
  });

  const channelListeners = new Set<(channel: Channel) => void>();
  const connectionListeners = new Set<(peer: string, open: boolean, address: string) => void>();
  const twinListeners = new Set<(device: string, by: string) => void>();
  const joinHandlers = new Set<(packets: Packets) => void>();
  /** Peers reported as connected: an invitation's peer id is nobody's business above. */
  const reported = new Set<string>();
  const stopping = new AbortController();

  const beats = setInterval(() => {
    const open = libp2p.getConnections();
    heartbeat.beat(
      open.map((connection) => beating(connection, (ms) => roundTrips.set(connection, ms))),
      stopping.signal,
    );
  }, options.beatMs ?? BEAT_MS);
  beats.unref();

  const slow = options.stallMs === undefined ? {} : { stallMs: options.stallMs };
  const limits = { maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS };
  await libp2p.handle(
    SYNC_PROTOCOL,
    (stream, connection) => {
      const peer = connection.remotePeer.toString();
      if (!allowed(peer) || channelListeners.size === 0) {
        stream.abort(new FlotillaError('NOT_A_MEMBER', `${peer} may not sync with this node.`));
        return;
      }
      const channel = openFrames(stream, peer, slow);
      for (const listener of channelListeners) listener(channel);
    },
    limits,
  );
  await libp2p.handle(
    joinProtocol,
    (stream, connection) => {
      const peer = connection.remotePeer.toString();
      if (!invited(peer) || joinHandlers.size === 0) {
        stream.abort(new FlotillaError('INVITE_USED', `${peer} holds no open invitation of this node.`));
        return;
      }
      const packets = openPackets(stream, peer, MAX_JOIN_BYTES, { limitOf: () => MAX_JOIN_REQUEST_BYTES, ...slow });
      for (const handler of joinHandlers) handler(packets);
    },
    limits,
  );

  await libp2p.handle(TWIN_PROTOCOL, (stream, connection) => {
    const peer = connection.remotePeer.toString();
    stream.abort(new Error('Heard'));
    if (allowed(peer)) for (const listener of twinListeners) listener(libp2p.peerId.toString(), peer);
  });
  twins.start({
    device: libp2p.peerId.toString(),
    openConnections: (peer) => (allowed(peer) ? openConnections(peer) : []),
    ping: answered,
    onTwin: (device, by) => {
      for (const listener of twinListeners) listener(device, by);
    },
  });

  libp2p.addEventListener('peer:connect', (event) => {
    const peer = event.detail.toString();
    if (!allowed(peer) || reported.has(peer)) return;
    reported.add(peer);
    const dialled = openConnections(peer).find((connection) => connection.direction === 'outbound');
    const address = dialled === undefined ? '' : withPeer(dialled.remoteAddr.toString(), peer);
    for (const listener of connectionListeners) listener(peer, true, address);
  });
  libp2p.addEventListener('connection:open', (event) => {
    twins.opened(event.detail, connectionKey(event.detail.remotePeer, event.detail.remoteAddr));
    const all = libp2p.getConnections(event.detail.remotePeer).toSorted((a, b) => b.timeline.open - a.timeline.open);
    for (const connection of all.slice(MAX_PEER_CONNECTIONS))
      connection.abort(new FlotillaError('PROTOCOL', `${connection.remotePeer.toString()} has too many connections.`));
  });
  libp2p.addEventListener('peer:disconnect', (event) => {
    const peer = event.detail.toString();
    if (!reported.delete(peer)) return;
    for (const listener of connectionListeners) listener(peer, false, '');
  });

  async function openStream(peer: string, protocol: string, signal: AbortSignal): Promise<Stream> {
    // The newest first: an older one may be dead without anybody having noticed yet.
    const [connection] = openConnections(peer).toSorted((a, b) => b.timeline.open - a.timeline.open);
    if (connection === undefined) throw new FlotillaError('UNREACHABLE', `There is no connection to ${peer}.`);
    try {
      return await connection.newStream(protocol, { signal });
    } catch (cause) {
      throw new FlotillaError(
        'UNREACHABLE',
        // libp2p rejects with a bare event when the connection has just ended.
        `It opened no stream (${cause instanceof Error ? cause.message : 'the connection ended'}): it may not know this device as a member.`,
        { cause },
      );
    }
  }

  const openConnections = (peer: string): Connection[] =>
    libp2p.getConnections(peerIdFromString(peer)).filter((connection) => connection.status === 'open');

  let stopped: Promise<void> | null = null;
  const host: JoinableHost = {
    device: libp2p.peerId.toString(),
    addresses: () => libp2p.getMultiaddrs().map((address) => withPeer(address.toString(), libp2p.peerId.toString())),
    async dial(peer, addresses, signal) {
      if (openConnections(peer).length > 0) return;
      // The same address may be known with and without the peer id.
      const targets = [...new Set(dialable(addresses, localOnly).map(withoutPeer))];
      if (targets.length === 0) {
        throw new FlotillaError('UNREACHABLE', 'No address of it is known that may be dialled from here.');
      }
      try {
        await libp2p.dial(
          targets.map((address) => multiaddr(withPeer(address, peer))),
          { signal },
        );
      } catch (cause) {
        const why = `It did not answer at ${targets.join(', ')} (${messageOf(cause)}).`;
        throw new FlotillaError('UNREACHABLE', brokeOff(cause, psk !== null) ? `${why} ${PSK_HINT}` : why, { cause });
      }
    },
    async openChannel(peer, signal) {
      return openFrames(await openStream(peer, SYNC_PROTOCOL, signal), peer, slow);
    },
    async openJoin(peer, signal) {
      return openPackets(await openStream(peer, joinProtocol, signal), peer, MAX_JOIN_BYTES);
    },
    onChannel: (listener) => listen(channelListeners, listener),
    onConnection: (listener) => listen(connectionListeners, listener),
    handleJoin: (handler) => listen(joinHandlers, handler),
    onTwin: (listener) => listen(twinListeners, listener),
    async meetSelf(addresses, signal) {
      // Without the peer id: libp2p dials nobody who is called like itself. It fails in any case, since it keeps no such connection.
      for (const address of new Set(dialable(addresses, localOnly).map(withoutPeer)))
        await libp2p.dial(multiaddr(address), { signal }).catch(() => {});
    },
    roundTrip(peer) {
      const measured = openConnections(peer).flatMap((connection) => roundTrips.get(connection) ?? []);
      return measured.length === 0 ? null : Math.min(...measured);
    },
    async hangUp(peer) {
      await libp2p.hangUp(peerIdFromString(peer));
    },
    stop() {
      stopped ??= (async () => {
        clearInterval(beats);
        stopping.abort();
        await libp2p.stop();
      })();
      return stopped;
    },
  };
  if (options.signal?.aborted) await host.stop();
  options.signal?.throwIfAborted();
  return host;
}

/** What may be wrong where somebody is there and no handshake comes of it; a device without the key sees it too. */
const PSK_HINT =
  'If the library has a pre-shared key, the home folders of all its devices must hold the same swarm.key.';

/** True when somebody was there and ended the handshake, or said what is none; with a key, that may look like silence. */
function brokeOff(cause: unknown, withPsk: boolean): boolean {
  if (!(cause instanceof Error)) return false;
  if (cause instanceof AggregateError) return cause.errors.some((one) => brokeOff(one, withPsk));
  if (withPsk && cause.name === 'TimeoutError') return true;
  return cause.name === 'EncryptionFailedError' || cause.message.includes('ECONNRESET');
}

function listen<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Names a connection by what both the gater and libp2p's list of connections know of it. */
function connectionKey(peer: PeerId, address: Multiaddr): string {
  return `${peer.toString()} ${withoutPeer(address.toString())}`;
}

/** Resolves when the other side has answered a ping over this connection. */
async function answered(connection: Connection, signal: AbortSignal): Promise<void> {
  const stream = await connection.newStream(PING_PROTOCOL, { signal });
  try {
    await new Promise<void>((resolve, reject) => {
      stream.addEventListener('message', () => resolve());
      stream.addEventListener('close', () => reject(new Error('It did not answer')));
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      stream.send(crypto.getRandomValues(new Uint8Array(PING_BYTES)));
    });
  } finally {
    stream.abort(new Error('Answered'));
  }
}

/** @param onAnswer - hears how long the answer took, ms */
function beating(connection: Connection, onAnswer: (ms: number) => void): Beating {
  return {
    id: connectionKey(connection.remotePeer, connection.remoteAddr),
    async ping(signal) {
      const stream = await connection.newStream(PING_PROTOCOL, { signal });
      // As a sign of life the answer counts by its bytes, like anything that arrives.
      const sent = performance.now();
      stream.addEventListener('message', () => onAnswer(performance.now() - sent));
      stream.send(crypto.getRandomValues(new Uint8Array(PING_BYTES)));
      await stream.close({ signal });
    },
    cut: (error) => connection.abort(error),
  };
}
