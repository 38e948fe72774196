/**
 * Discovery on the LAN by multicast DNS, in libp2p's format (service `_p2p._udp.local`, TXT `dnsaddr=<multiaddr>`), so that
 * other libp2p programs are understood. One socket an interface: a single socket uses the routed interface alone, which
 * on a machine with a VPN or containers is the wrong one. Nothing heard here is trusted; only Noise proves a peer id.
 */
import { createSocket } from 'node:dgram';
import type { RemoteInfo } from 'node:dgram';
import { randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import multicastDns from 'multicast-dns';
import { messageOf } from '../errors.ts';
import { announceable, dialable, isLoopbackIp, peerOf } from './addresses.ts';
import type { Discovery, DiscoveryOptions } from './api.ts';

/** libp2p's service name. */
const SERVICE = '_p2p._udp.local';
/** The interval between two questions grows from here, ms: two nodes started together find each other at once, … */
const FIRST_INTERVAL_MS = 1_000;
/**
 * … and in the long run a question every 10 to 20 s, by whoever is first: it is answered to all, so a question that is heard stands for one's
 * own (RFC 6762, 7.3). If each asked for itself, what there is to hear would grow with the square of the devices, times their number.
 */
const LAST_INTERVAL_MS = 10_000;
/** How often the interfaces are read again, ms: a Wi-Fi that comes later is used within this time. */
const RESCAN_MS = 5_000;
/** Life of an answer, s: libp2p's. */
const TTL_SECONDS = 120;
/** A TXT string holds 255 bytes; the rest is `dnsaddr=`. */
const MAX_ADDRESS_BYTES = 255 - 'dnsaddr='.length;
/** Addresses announced, and taken from one answer: the packet must fit a network frame of 1,500 bytes. */
const MAX_ADDRESSES = 8;
const LOOPBACK = '127.0.0.1';

/** One socket on one interface. */
interface Socket {
  readonly name: string;
  readonly mdns: ReturnType<typeof multicastDns>;
  /** Settles when the socket stands, or never will. */
  readonly ready: Promise<void>;
  /** Until the next question; null before the first. */
  next: NodeJS.Timeout | null;
  /** From then to the one after it, ms. */
  intervalMs: number;
}

/** Makes a discovery that does nothing until `start`. */
export function createDiscovery(options: DiscoveryOptions): Discovery {
  return new MulticastDiscovery(options);
}

class MulticastDiscovery implements Discovery {
  readonly #options: DiscoveryOptions;
  /** libp2p names a node by a random word, so that its peer id does not stand in a name that others cache. */
  readonly #name: string;
  readonly #service: string;
  /** By interface address. */
  readonly #sockets = new Map<string, Socket>();
  /** What does not work, by interface address; `membership` when it cannot hear, else it cannot send. */
  readonly #problems = new Map<string, { readonly message: string; readonly membership: boolean }>();
  #reported = '';
  #running = false;
  #rescan: NodeJS.Timeout | null = null;

  constructor(options: DiscoveryOptions) {
    this.#options = options;
    this.#service = options.service ?? SERVICE;
    this.#name = `${randomBytes(16).toString('hex')}.${this.#service}`;
  }

  async start(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    this.#scan();
    await Promise.all([...this.#sockets.values()].map((socket) => socket.ready));
    if (!this.#running) return;
    this.#rescan = setInterval(() => this.#scan(), RESCAN_MS).unref();
  }

  async stop(): Promise<void> {
    this.#running = false;
    if (this.#rescan !== null) clearInterval(this.#rescan);
    await Promise.all([...this.#sockets.keys()].map((address) => this.#close(address)));
  }

  /** Opens a socket on each interface that has none, closes those whose interface went. */
  #scan(): void {
    const wanted = this.#interfaces();
    for (const address of this.#sockets.keys()) if (!wanted.has(address)) void this.#close(address);
    for (const [address, name] of wanted) if (!this.#sockets.has(address)) this.#open(address, name);
    this.#report();
  }

  /** Address → name of the interfaces to use. */
  #interfaces(): Map<string, string> {
    if (this.#options.localOnly) return new Map([[LOOPBACK, 'loopback']]);
    const found = new Map<string, string>();
    for (const [name, entries] of Object.entries(networkInterfaces())) {
      if (this.#options.interfaces !== undefined && !this.#options.interfaces.includes(name)) continue;
      // One membership an interface is all that the system grants, so its first address stands for it.
      const entry = entries?.find((candidate) => candidate.family === 'IPv4' && !candidate.internal);
      if (entry !== undefined) found.set(entry.address, name);
    }
    return found;
  }

  #open(address: string, name: string): void {
    // Bound to all addresses: bound to the interface's own, a socket hears no multicast.
    const socket = createSocket({ type: 'udp4', reuseAddr: true });
    const mdns = multicastDns({ socket, interface: address, bind: '0.0.0.0' });
    const ready = new Promise<void>((resolve) => {
      mdns.once('ready', resolve);
      mdns.once('error', () => resolve());
    });
    const own: Socket = { name, mdns, ready, next: null, intervalMs: FIRST_INTERVAL_MS };
    this.#sockets.set(address, own);
    mdns.on('ready', () => {
      if (!this.#running) return;
      // Announced and asked at once: a newcomer is known within milliseconds, not at the next question.
      this.#announce(address, name, mdns);
      this.#ask(address, own);
    });
    mdns.on('error', (error) => this.#fault(address, name, error));
    // Damaged packets come here too; those have no `syscall`, and are nobody's problem.
    mdns.on('warning', (error) => this.#fault(address, name, error));
    mdns.on('query', (packet, from) => {
      if (this.#ignores(from) || !packet.questions?.some((question) => question.name === this.#service)) return;
      this.#announce(address, name, mdns);
      // Ours comes here too.
      if (own.intervalMs === LAST_INTERVAL_MS) this.#askLater(address, own);
    });
    mdns.on('response', (packet, from) => {
      if (!this.#ignores(from)) this.#hear([...(packet.answers ?? []), ...(packet.additionals ?? [])]);
    });
  }

  async #close(address: string): Promise<void> {
    const socket = this.#sockets.get(address);
    if (socket === undefined) return;
    this.#sockets.delete(address);
    if (socket.next !== null) clearTimeout(socket.next);
    this.#problems.delete(address);
    // multicast-dns starts a timer when the socket stands: destroyed before that, it would never be stopped.
    await socket.ready;
    await new Promise<void>((resolve) => {
      socket.mdns.destroy(() => resolve());
    });
  }

  /** A socket that hears all interfaces hears the LAN also where only loopback is wanted. */
  #ignores(from: RemoteInfo): boolean {
    return !this.#running || (this.#options.localOnly && !isLoopbackIp(from.address));
  }

  #ask(address: string, socket: Socket): void {
    socket.mdns.query({ questions: [{ name: this.#service, type: 'PTR' }] }, this.#sent(address, socket.name));
    this.#askLater(address, socket);
    socket.intervalMs = Math.min(socket.intervalMs * 2, LAST_INTERVAL_MS);
  }

  #askLater(address: string, socket: Socket): void {
    if (this.#sockets.get(address) !== socket) return;
    if (socket.next !== null) clearTimeout(socket.next);
    // In the long run not all at once: who is first spares the others theirs.
    const spread = socket.intervalMs === LAST_INTERVAL_MS ? Math.random() : 0;
    socket.next = setTimeout(() => this.#ask(address, socket), socket.intervalMs * (1 + spread)).unref();
  }

  #announce(address: string, name: string, mdns: Socket['mdns']): void {
    const addresses = announceable(this.#options.addresses(), this.#options.localOnly)
      .filter((candidate) => peerOf(candidate) !== null && candidate.length <= MAX_ADDRESS_BYTES)
      .slice(0, MAX_ADDRESSES);
    if (addresses.length === 0) return;
    mdns.respond(
      [
        { name: this.#service, type: 'PTR', class: 'IN', ttl: TTL_SECONDS, data: this.#name },
        ...addresses.map((candidate) => ({
          name: this.#name,
          type: 'TXT' as const,
          class: 'IN' as const,
          ttl: TTL_SECONDS,
          data: `dnsaddr=${candidate}`,
        })),
      ],
      this.#sent(address, name),
    );
  }

  /** What became of a packet: a route that is missing shows when sending, and goes when it is there. */
  #sent(address: string, name: string): (error: Error | null) => void {
    return (error) => {
      if (error) this.#fault(address, name, error);
      else if (this.#problems.get(address)?.membership === false) {
        this.#problems.delete(address);
        this.#report();
      }
    };
  }

  #hear(answers: readonly Answer[]): void {
    const { device, localOnly, onPeer, onSelf } = this.#options;
    for (const [peer, addresses] of peersIn(answers, device, localOnly, this.#service)) onPeer(peer, addresses);
    if (onSelf === undefined) return;
    // What is ours comes back to us as well, under our own name.
    const others = answers.filter((answer) => answer.data !== this.#name && answer.name !== this.#name);
    const ours = peersIn(others, '', localOnly, this.#service).get(device);
    // Where we listen is worked out anew each time, so only when somebody speaks for us: everybody else is heard all the time.
    const own = ours === undefined ? [] : this.#options.addresses();
    const claimed = ours?.filter((one) => !own.includes(one)) ?? [];
    if (claimed.length > 0) onSelf(claimed);
  }

  #fault(address: string, name: string, error: Error): void {
    if (!('syscall' in error) || !this.#sockets.has(address)) return;
    const code = 'code' in error ? String(error.code) : messageOf(error);
    const message =
      code === 'EADDRINUSE' || code === 'EACCES'
        ? `Discovery cannot use UDP port 5353 on ${name} (${code}): end the program that holds it, or name peers by address.`
        : `Discovery cannot send multicast on ${name} (${code}): ` +
          `add a route (ip route add 224.0.0.0/4 dev ${name}), choose another interface, or name peers by address.`;
    this.#problems.set(address, { message, membership: error.syscall === 'addMembership' });
    this.#report();
  }

  /** Tells about a problem once, while no interface works; one that works is enough. */
  #report(): void {
    if (!this.#running) return;
    const works = [...this.#sockets.keys()].some((address) => !this.#problems.has(address));
    const wanted = this.#options.interfaces;
    const none =
      wanted === undefined
        ? 'No network interface can carry multicast, so nobody will be discovered: connect to a network, or name peers by address.'
        : `None of the interfaces ${wanted.join(', ')} has an IPv4 address, so nobody will be discovered: choose another one.`;
    const problem = works ? '' : ([...this.#problems.values()][0]?.message ?? none);
    if (problem === this.#reported) return;
    this.#reported = problem;
    if (problem !== '') this.#options.onProblem(problem);
  }
}

/** An answer of multicast DNS, as far as it matters here. Anybody on the network may have made it up. */
export interface Answer {
  readonly name: string;
  readonly type: string;
  readonly data?: unknown;
}

/** The peers that an announcement names, with where each says it is, at most {@link MAX_ADDRESSES} of both. */
export function peersIn(
  answers: readonly Answer[],
  device: string,
  localOnly: boolean,
  service: string = SERVICE,
): Map<string, string[]> {
  const named = new Set(answers.filter((a) => a.type === 'PTR' && a.name === service).map((a) => a.data));
  const peers = new Map<string, string[]>();
  for (const answer of answers) {
    if (answer.type !== 'TXT' || !named.has(answer.name)) continue;
    const address = textOf(answer.data);
    const peer = address === null ? null : peerOf(address);
    if (address === null || peer === null || peer === device) continue;
    const heard = peers.get(peer) ?? [];
    if ((heard.length === 0 && peers.size >= MAX_ADDRESSES) || heard.length >= MAX_ADDRESSES) continue;
    if (dialable([address], localOnly).length > 0 && !heard.includes(address)) peers.set(peer, [...heard, address]);
  }
  return peers;
}

/** The address in a TXT answer; null when it holds none. Its strings come as buffers, but anything may come. */
function textOf(data: unknown): string | null {
  const strings: unknown[] = Array.isArray(data) ? data : [data];
  for (const string of strings) {
    const text = typeof string === 'string' || Buffer.isBuffer(string) ? string.toString() : '';
    if (text.startsWith('dnsaddr=')) return text.slice('dnsaddr='.length);
  }
  return null;
}
