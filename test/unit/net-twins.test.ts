/**
 * Two hosts with one key, over loopback: what shows that there are two, and what does not.
 */
import { createServer, connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { Connection, Ed25519PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import multicastDns from 'multicast-dns';
import { afterEach, describe, expect, it } from 'vitest';
import { createDiscovery } from '../../src/net/discovery.ts';
import { createHost } from '../../src/net/host.ts';
import type { JoinableHost } from '../../src/net/host.ts';
import { makePsk } from '../../src/net/psk.ts';
import { TwinWatch } from '../../src/net/twins.ts';

const stops: Array<() => unknown> = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

const soon = (): AbortSignal => AbortSignal.timeout(20_000);
const newKey = (): Promise<Ed25519PrivateKey> => generateKeyPair('Ed25519');

/** A host, and what it was told of twins: `device by`. */
async function start(privateKey: Ed25519PrivateKey, allowed = true, psk: Uint8Array | null = null) {
  const host = await createHost({
    privateKey,
    psk,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    localOnly: true,
    allowed: () => allowed,
    invited: () => false,
    beatMs: 300,
  });
  stops.push(() => host.stop());
  const told: string[] = [];
  let wake = (): void => {};
  host.onTwin((device, by) => {
    told.push(`${device} ${by}`);
    wake();
  });
  const hears = (): Promise<void> => new Promise((resolve) => (told.length > 0 ? resolve() : (wake = resolve)));
  return { host, told, hears };
}

/** A TCP port that leads to the host, and holds back what is said to it for so long after the first bytes. */
async function leadsTo(host: JoinableHost, heldMs: number): Promise<string[]> {
  const port = Number(/tcp\/(\d+)/.exec(host.addresses()[0] ?? '')?.[1]);
  const server = createServer((incoming) => {
    const outgoing = connect(port, '127.0.0.1');
    let held = Promise.resolve();
    let pieces = 0;
    incoming.on('data', (piece) => {
      // The last message of the handshake is the third that the dialling side sends.
      pieces += 1;
      if (pieces > 2 && heldMs > 0) held = held.then(() => new Promise((resolve) => setTimeout(resolve, heldMs)));
      void held.then(() => outgoing.destroyed || outgoing.write(piece));
    });
    outgoing.on('data', (piece) => incoming.destroyed || incoming.write(piece));
    for (const socket of [incoming, outgoing]) {
      socket.on('error', () => {});
      stops.push(() => socket.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  stops.push(() => server.close());
  return [`/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}`];
}

describe('two hosts with one key', () => {
  it('both know it when one has dialled the other', async () => {
    const key = await newKey();
    const device = peerIdFromPrivateKey(key).toString();
    const [one, two] = [await start(key, false), await start(key, false)];
    await one.host.meetSelf(two.host.addresses(), soon());
    await Promise.all([one.hears(), two.hears()]);
    expect([one.told, two.told]).toEqual([[`${device} `], [`${device} `]]);
  });

  it.each([
    ['a host', null],
    ['a host, with a pre-shared key,', makePsk()],
  ])('[P14] know it of %s that is connected to both', async (_, psk) => {
    const key = await newKey();
    const member = await start(await newKey(), true, psk);
    const [one, two] = [await start(key, true, psk), await start(key, true, psk)];
    const { host } = member;
    await one.host.dial(host.device, host.addresses(), soon());
    await two.host.dial(host.device, host.addresses(), soon());
    await Promise.all([member.hears(), one.hears(), two.hears()]);
    expect(member.told).toEqual([`${one.host.device} `]);
    expect([one.told, two.told]).toEqual([
      [`${one.host.device} ${host.device}`],
      [`${one.host.device} ${host.device}`],
    ]);
  });
});

describe('one host', () => {
  it.each([
    ['straight', null],
    ['by way of somebody', 0],
    ['by way of somebody who holds the handshake up', 300],
  ])('[P14] that meets itself, %s, is one', async (_, heldMs) => {
    const one = await start(await newKey(), false);
    const addresses = heldMs === null ? one.host.addresses() : await leadsTo(one.host, heldMs);
    await one.host.meetSelf(addresses, soon());
    const other = await start(await newKey(), false);
    // Whatever was on its way has come when another dial has been answered.
    await other.host.dial(one.host.device, one.host.addresses(), soon()).catch(() => {});
    expect(one.told).toEqual([]);
  });

  it('is not told by a stranger that it is two', async () => {
    const one = await start(await newKey(), false);
    const key = await newKey();
    const [stranger, same] = [await start(key), await start(key)];
    for (const { host } of [stranger, same])
      await host.dial(one.host.device, one.host.addresses(), soon()).catch(() => {});
    expect(one.told).toEqual([]);
  });
});

describe('discovery', () => {
  it('tells that somebody else goes by our own name, and not that we do', async () => {
    const device = peerIdFromPrivateKey(await newKey()).toString();
    const own = `/ip4/127.0.0.1/tcp/4001/p2p/${device}`;
    const heard: Array<readonly string[]> = [];
    let wake = (): void => {};
    const discovery = createDiscovery({
      device,
      addresses: () => [own],
      localOnly: true,
      onPeer: () => {},
      onSelf: (addresses) => {
        heard.push(addresses);
        wake();
      },
      onProblem: () => {},
    });
    stops.push(() => discovery.stop());
    await discovery.start();
    const mdns = multicastDns({ interface: '127.0.0.1', bind: '0.0.0.0' });
    stops.push(() => new Promise<void>((resolve) => mdns.destroy(resolve)));
    await new Promise<void>((resolve) => mdns.once('ready', () => resolve()));
    const claim = (address: string): void =>
      mdns.respond([
        { name: '_p2p._udp.local', type: 'PTR', data: 'other._p2p._udp.local' },
        { name: 'other._p2p._udp.local', type: 'TXT', data: `dnsaddr=${address}` },
      ]);
    // Our own address in other words is nothing new either.
    claim(own);
    claim(`/ip4/127.0.0.1/tcp/4002/p2p/${device}`);
    await new Promise<void>((resolve) => (heard.length > 0 ? resolve() : (wake = resolve)));
    expect(heard[0]).toEqual([`/ip4/127.0.0.1/tcp/4002/p2p/${device}`]);
  });
});

it('what a connection has told that never came to stand is forgotten with it', async () => {
  const remotePeer = peerIdFromPrivateKey(await newKey());
  const device = remotePeer.toString();
  const open: Connection[] = [];
  const told: string[] = [];
  const watch = new TwinWatch();
  watch.start({
    device: 'own',
    openConnections: () => open,
    ping: () => Promise.resolve(),
    onTwin: (twin) => told.push(twin),
  });
  const connect = (key: string): void => {
    const connection = { remotePeer } as unknown as Connection;
    open.push(connection);
    watch.opened(connection, key);
  };
  const [one, other] = [new Uint8Array(16).fill(1), new Uint8Array(16).fill(2)];
  watch.told('first', one);
  connect('first');
  watch.told('second', other);
  watch.ended('second');
  connect('second');
  await new Promise((resolve) => setImmediate(resolve));
  expect(told).toEqual([]);
  watch.told('third', other);
  connect('third');
  await new Promise((resolve) => setImmediate(resolve));
  expect(told).toEqual([device]);
});
