/**
 * Hosts on loopback: who gets in, how far, and what is noticed when a peer falls silent.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { Connection } from '@libp2p/interface';
import { createLibp2p } from 'libp2p';
import { multiaddr } from '@multiformats/multiaddr';
import { afterEach, describe, expect, it } from 'vitest';
import { Heartbeat, MAX_SILENT_BEATS } from '../../src/net/heartbeat.ts';
import { createHost, MAX_PEER_CONNECTIONS, MAX_PENDING_INBOUND } from '../../src/net/host.ts';
import type { HostOptions, JoinableHost } from '../../src/net/host.ts';
import { transportOptions } from '../../src/net/transport.ts';
import type { Channel } from '../../src/protocol/types.ts';
import { until } from '../support/until.ts';

const stops: Array<() => unknown> = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

/** More than a host has places for handshakes. */
const FLOOD = 3 * MAX_PENDING_INBOUND;
/** What opens a handshake: the choice of Noise, and its first message, which is a key. */
const OPENING = Buffer.concat([Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n\0\x20'), randomBytes(32)]);

const none = (): boolean => false;
const anyone = (): boolean => true;

async function start(options: Partial<HostOptions> = {}): Promise<JoinableHost> {
  const host = await createHost({
    privateKey: await generateKeyPair('Ed25519'),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    localOnly: true,
    allowed: anyone,
    invited: none,
    ...options,
  });
  stops.push(() => host.stop());
  return host;
}

const soon = (): AbortSignal => AbortSignal.timeout(20_000);

/** A libp2p node that is none of ours asks for `protocol` at `host`: is it cut off, or refused this stream alone? */
async function knock(host: JoinableHost, protocol: string): Promise<'cut off' | 'stream refused'> {
  const stranger = await createLibp2p({ ...transportOptions(), connectionMonitor: { enabled: false } });
  stops.push(() => stranger.stop());
  const connection = await stranger.dial(host.addresses().map((address) => multiaddr(address)));
  try {
    const stream = await connection.newStream(protocol, { signal: soon() });
    if (stream.status === 'open') await new Promise((resolve) => stream.addEventListener('close', resolve));
  } catch {
    // Reset while the protocol was being agreed on; which of the two it was, the next stream shows.
  }
  try {
    await connection.newStream('/ipfs/ping/1.0.0', { signal: soon() });
    return 'stream refused';
  } catch {
    return 'cut off';
  }
}

describe('two hosts', () => {
  it('connect, open a channel and exchange frames', async () => {
    const [a, b] = [await start(), await start()];
    const events: string[] = [];
    a.onConnection((peer, open) => events.push(`a ${peer === b.device} ${open}`));
    const connected = new Promise<void>((resolve) => b.onConnection((_peer, open) => open && resolve()));
    const arrived = new Promise<Channel>((resolve) => b.onChannel(resolve));
    await a.dial(b.device, b.addresses(), soon());
    await a.dial(b.device, b.addresses(), soon());
    const channel = await a.openChannel(b.device, soon());
    expect(channel.peer).toBe(b.device);
    await channel.send({ type: 'bye', reason: 'hello' });
    const other = await arrived;
    expect(other.peer).toBe(a.device);
    for await (const frame of other.frames) {
      expect(frame).toEqual({ type: 'bye', reason: 'hello' });
      break;
    }
    await connected;
    const gone = new Promise<void>((resolve) => a.onConnection((_peer, open) => !open && resolve()));
    await b.hangUp(a.device);
    await gone;
    expect(events).toEqual(['a true true', 'a true false']);
  });

  it('name addresses that can be dialled, with the peer id', async () => {
    const host = await start();
    expect(host.addresses()).toHaveLength(1);
    expect(host.addresses()[0]).toMatch(new RegExp(`^/ip4/127\\.0\\.0\\.1/tcp/[1-9]\\d*/p2p/${host.device}$`));
  });

  it('that are not there reject with UNREACHABLE, as does a channel without a connection', async () => {
    const [a, b] = [await start(), await start()];
    const addresses = b.addresses();
    await b.stop();
    await b.stop();
    const known = [...addresses, ...addresses.map((address) => address.replace(/\/p2p\/.*/, ''))];
    await expect(a.dial(b.device, known, soon())).rejects.toMatchObject({
      code: 'UNREACHABLE',
      // Each address once, and without the peer id, which is said beside it.
      message: expect.stringMatching(/^It did not answer at \/ip4\/127\.0\.0\.1\/tcp\/\d+ \(.*ECONNREFUSED.*\)\.$/),
    });
    await expect(a.openChannel(b.device, soon())).rejects.toMatchObject({ code: 'UNREACHABLE' });
    await expect(a.dial(b.device, [], soon())).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('do not take another peer at the same address for the one they asked for', async () => {
    const [a, b, c] = [await start(), await start(), await start()];
    await expect(a.dial(c.device, b.addresses(), soon())).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });
});

describe('the gate', () => {
  it('ends a stranger after Noise and before any stream', async () => {
    const asked: string[] = [];
    const host = await start({
      allowed: (peer) => {
        asked.push(peer);
        return false;
      },
    });
    let handlers = 0;
    host.onChannel(() => (handlers += 1));
    host.handleJoin(() => (handlers += 1));
    host.onConnection(() => (handlers += 1));
    for (const protocol of ['/flotilla/sync/1', '/flotilla/join/1', '/ipfs/ping/1.0.0', '/ipfs/id/1.0.0']) {
      expect(await knock(host, protocol)).toBe('cut off');
    }
    // Asked once a connection, with a peer id that only Noise can have told; never for a stream.
    expect(asked).toHaveLength(4);
    expect(new Set(asked).size).toBe(4);
    expect(handlers).toBe(0);
  });

  it('lets an invited peer in for the join protocol alone', async () => {
    const host = await start({ allowed: none, invited: anyone });
    let channels = 0;
    let joins = 0;
    host.onChannel(() => (channels += 1));
    host.onConnection(() => (channels += 1));
    host.handleJoin((packets) => {
      joins += 1;
      packets.abort(new Error('seen'));
    });
    expect(await knock(host, '/flotilla/join/1')).toBe('stream refused');
    expect(joins).toBe(1);
    expect(await knock(host, '/flotilla/sync/1')).toBe('stream refused');
    expect(channels).toBe(0);
  });

  it('takes no long words from a newcomer', async () => {
    const host = await start({ allowed: none, invited: anyone });
    const said = new Promise<unknown>((resolve) => {
      host.handleJoin((packets) => {
        packets.packets[Symbol.asyncIterator]().next().then(resolve, resolve);
      });
    });
    const newcomer = await createLibp2p({ ...transportOptions(), connectionMonitor: { enabled: false } });
    stops.push(() => newcomer.stop());
    const connection = await newcomer.dial(host.addresses().map((address) => multiaddr(address)));
    const stream = await connection.newStream('/flotilla/join/1', { signal: soon() });
    stream.send(Uint8Array.of(0, 1, 0, 0, 0x5b));
    expect(await said).toMatchObject({ code: 'PROTOCOL', message: expect.stringContaining('65536 bytes') });
  });

  it('gives a member no join stream', async () => {
    const host = await start();
    let joins = 0;
    host.handleJoin(() => (joins += 1));
    expect(await knock(host, '/flotilla/join/1')).toBe('stream refused');
    expect(joins).toBe(0);
  });

  it('[H7] lets one peer have so many connections, and closes the oldest', async () => {
    const host = await start();
    const privateKey = await generateKeyPair('Ed25519');
    const dialled: Connection[] = [];
    for (let n = 0; n < MAX_PEER_CONNECTIONS + 2; n += 1) {
      const peer = await createLibp2p({ privateKey, ...transportOptions(), connectionMonitor: { enabled: false } });
      stops.push(() => peer.stop());
      dialled.push(await peer.dial(host.addresses().map((address) => multiaddr(address))));
    }
    const isOver = (connection: Connection | undefined): Promise<void> =>
      new Promise((resolve) => {
        if (connection?.status !== 'open') resolve();
        else connection.addEventListener('close', () => resolve());
      });
    await Promise.all(dialled.slice(0, 2).map(isOver));
    expect(dialled.slice(2).map(({ status }) => status)).toEqual(
      Array.from({ length: MAX_PEER_CONNECTIONS }, () => 'open'),
    );
  });

  it('[H7] cuts off what floods it with handshakes from one address, and has room for a member', async () => {
    const host = await start();
    const port = Number(/tcp\/(\d+)/.exec(host.addresses()[0] ?? '')?.[1]);
    const sockets = Array.from({ length: FLOOD }, () =>
      connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' }).on('error', () => {}),
    );
    stops.push(() => sockets.forEach((socket) => socket.destroy()));
    for (const socket of sockets) socket.write(OPENING);
    // Before its time, as nobody goes on with a handshake.
    await new Promise((resolve) => sockets.forEach((socket) => socket.once('close', resolve)));
    const member = await start();
    // Once, without another try.
    await member.dial(host.device, host.addresses(), soon());
    await member.openChannel(host.device, soon());
  });

  it('asks about the peer that is dialled, too', async () => {
    const [a, b] = [await start({ allowed: none }), await start()];
    await expect(a.dial(b.device, b.addresses(), soon())).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('keeps a local-only host on loopback', async () => {
    const host = await start();
    // 192.0.2.0/24 is set aside for documentation; nothing is sent to it, or this would take seconds.
    await expect(host.dial(host.device, ['/ip4/192.0.2.1/tcp/4001'], soon())).rejects.toThrow(/may be dialled/);
    await expect(start({ listen: ['/ip4/0.0.0.0/tcp/0'] })).rejects.toMatchObject({ code: 'CONFIG' });
  });

  it('says what to do when the port is taken', async () => {
    const host = await start();
    const port = /tcp\/(\d+)/.exec(host.addresses()[0] ?? '')?.[1];
    await expect(start({ listen: [`/ip4/127.0.0.1/tcp/${port}`] })).rejects.toThrow(/another port/);
  });
});

describe('a pre-shared key', () => {
  const key = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);

  it('carries everything between those who have it', async () => {
    const [a, b] = [await start({ psk: key(1) }), await start({ psk: key(1) })];
    const arrived = new Promise<Channel>((resolve) => b.onChannel(resolve));
    await a.dial(b.device, b.addresses(), soon());
    const channel = await a.openChannel(b.device, soon());
    // Many packets of every size: the cipher must keep its place over all of them.
    const data = Uint8Array.from({ length: 1_000_000 }, (_, index) => index * 7);
    void channel.send({ type: 'batch', data }).then(() => channel.send({ type: 'bye', reason: 'done' }));
    const frames: unknown[] = [];
    for await (const frame of (await arrived).frames) {
      frames.push(frame);
      if (frame.type === 'bye') break;
    }
    expect(frames).toEqual([
      { type: 'batch', data },
      { type: 'bye', reason: 'done' },
    ]);
  });

  it('ends devices with none and with another one before Noise, either way', async () => {
    const asked: string[] = [];
    const allowed = (peer: string): boolean => asked.push(peer) > 0;
    const holder = await start({ psk: key(1), allowed });
    const others = [await start({ psk: null, allowed }), await start({ psk: key(2), allowed })];
    const refused = { code: 'UNREACHABLE', message: expect.stringMatching(/swarm\.key/) };
    // All at once, since some of them wait until a handshake has taken too long.
    await Promise.all(
      others.flatMap((other) => [
        expect(other.dial(holder.device, holder.addresses(), soon())).rejects.toMatchObject(refused),
        expect(holder.dial(other.device, other.addresses(), soon())).rejects.toMatchObject(refused),
      ]),
    );
    // None of them has heard who another is.
    expect(asked).toEqual([]);
  });
});

describe('the heartbeat', () => {
  const beatingOf = (id: string, cut: string[]) => ({
    id,
    ping: () => new Promise<void>(() => {}),
    cut: () => cut.push(id),
  });

  it('cuts what is silent for several beats, and nothing that gave one sign in between', () => {
    const heartbeat = new Heartbeat();
    const cut: string[] = [];
    const connections = [beatingOf('silent', cut), beatingOf('alive', cut)];
    const { signal } = new AbortController();
    for (let beat = 0; beat <= MAX_SILENT_BEATS; beat += 1) {
      if (beat === MAX_SILENT_BEATS - 1) heartbeat.heard('alive');
      expect(cut).toEqual([]);
      heartbeat.beat(connections, signal);
    }
    expect(cut).toEqual(['silent']);
  });

  it('leaves a connection to itself at its first beat', () => {
    const heartbeat = new Heartbeat();
    const pinged: string[] = [];
    const beating = (id: string) => ({
      ...beatingOf(id, []),
      async ping() {
        pinged.push(id);
      },
    });
    const { signal } = new AbortController();
    heartbeat.beat([beating('one')], signal);
    expect(pinged).toEqual([]);
    heartbeat.beat([beating('one'), beating('two')], signal);
    expect(pinged).toEqual(['one']);
  });

  it('survives one missed ping', () => {
    expect(MAX_SILENT_BEATS).toBeGreaterThan(1);
    const heartbeat = new Heartbeat();
    const cut: string[] = [];
    const connections = [beatingOf('peer', cut)];
    for (let beat = 0; beat < 50; beat += 1) {
      if (beat % 2 === 0) heartbeat.heard('peer');
      heartbeat.beat(connections, new AbortController().signal);
    }
    expect(cut).toEqual([]);
  });

  it('[L4] measures how long a peer takes to answer, as long as it is connected', async () => {
    const [a, b] = [await start({ beatMs: 20 }), await start()];
    expect(a.roundTrip(b.device)).toBeNull();
    await a.dial(b.device, b.addresses(), soon());
    await until(() => a.roundTrip(b.device) !== null);
    expect(a.roundTrip(b.device)).toBeGreaterThan(0);
    await a.hangUp(b.device);
    expect(a.roundTrip(b.device)).toBeNull();
  });

  it('keeps quiet connections of living hosts, and cuts that of a stopped process', async () => {
    const [a, quiet] = [await start({ beatMs: 300 }), await start()];
    const child = spawn(process.execPath, [fileURLToPath(new URL('net-host-child.ts', import.meta.url))], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    stops.push(async () => {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    });
    const [line] = await once(createInterface({ input: child.stdout }), 'line');
    const { device, addresses } = JSON.parse(String(line)) as { device: string; addresses: string[] };
    await a.dial(device, addresses, soon());
    await a.dial(quiet.device, quiet.addresses(), soon());
    const lost = new Promise<string>((resolve) => a.onConnection((peer, open) => !open && resolve(peer)));
    child.kill('SIGSTOP');
    expect(await lost).toBe(device);
    // Its heart beat on the same clock all the time.
    const channel = new Promise<Channel>((resolve) => quiet.onChannel(resolve));
    await (await a.openChannel(quiet.device, soon())).send({ type: 'bye', reason: '' });
    expect((await channel).peer).toBe(a.device);
  });
});
