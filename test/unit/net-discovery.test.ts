/**
 * Discovery on loopback: instances find each other, understand libp2p's format, and shrug off damaged packets.
 */
import { createSocket } from 'node:dgram';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import multicastDns from 'multicast-dns';
import { setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Discovery } from '../../src/net/api.ts';
import { createDiscovery } from '../../src/net/discovery.ts';

type Answer = NonNullable<multicastDns.ResponsePacket['answers']>[number];

const SERVICE = '_p2p._udp.local';
const stops: Array<() => unknown> = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

const newPeer = async (): Promise<string> => peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString();

/** One instance on loopback, and what it hears. */
function instance(device: string, addresses: string[], service = SERVICE) {
  const heard = new Map<string, readonly string[]>();
  const waiting = new Map<string, () => void>();
  const problems: string[] = [];
  const discovery: Discovery = createDiscovery({
    device,
    addresses: () => addresses,
    localOnly: true,
    service,
    onPeer: (peer, list) => {
      heard.set(peer, list);
      waiting.get(peer)?.();
    },
    onProblem: (message) => problems.push(message),
  });
  stops.push(() => discovery.stop());
  const hears = (peer: string): Promise<void> =>
    new Promise((resolve) => (heard.has(peer) ? resolve() : waiting.set(peer, resolve)));
  return { discovery, heard, hears, problems };
}

/** A bare mDNS program on loopback. */
async function bare(): Promise<ReturnType<typeof multicastDns>> {
  const mdns = multicastDns({ interface: '127.0.0.1', bind: '0.0.0.0' });
  stops.push(() => new Promise<void>((resolve) => mdns.destroy(resolve)));
  await once(mdns, 'ready');
  return mdns;
}

describe('discovery', () => {
  it('lets two instances find each other, with their addresses, and not themselves', async () => {
    const [a, b] = [await newPeer(), await newPeer()];
    const one = instance(a, [`/ip4/127.0.0.1/tcp/4001/p2p/${a}`, `/ip4/192.0.2.7/tcp/4001/p2p/${a}`]);
    await one.discovery.start();
    const two = instance(b, [`/ip4/127.0.0.1/tcp/4002/p2p/${b}`]);
    await two.discovery.start();
    await Promise.all([one.hears(b), two.hears(a)]);
    // Local only: the address of the LAN is neither announced nor taken.
    expect(two.heard.get(a)).toEqual([`/ip4/127.0.0.1/tcp/4001/p2p/${a}`]);
    expect(one.heard.get(b)).toEqual([`/ip4/127.0.0.1/tcp/4002/p2p/${b}`]);
    expect(one.heard.has(a)).toBe(false);
    expect(one.problems).toEqual([]);
  });

  it("speaks libp2p's format: a PTR to a random name, and a TXT of that name with dnsaddr", async () => {
    const peer = await newPeer();
    const address = `/ip4/127.0.0.1/tcp/4001/p2p/${peer}`;
    const other = await bare();
    const answers = new Promise<Answer[]>((resolve) => {
      other.on('response', (packet) => {
        const list = packet.answers ?? [];
        if (list.some((answer) => answer.type === 'TXT' && String(answer.data).includes(peer))) resolve(list);
      });
    });
    await instance(peer, [address]).discovery.start();
    other.query({ questions: [{ name: SERVICE, type: 'PTR' }] });
    const [ptr, txt] = await answers;
    expect(ptr).toMatchObject({ name: SERVICE, type: 'PTR' });
    expect(String(ptr?.type === 'PTR' && ptr.data)).not.toContain(peer);
    expect(txt).toMatchObject({ name: ptr?.type === 'PTR' && ptr.data, type: 'TXT' });
    expect(String(txt?.type === 'TXT' && txt.data)).toBe(`dnsaddr=${address}`);
  });

  it('survives damaged packets and addresses, and takes what is good after them', async () => {
    const own = await newPeer();
    const listener = instance(own, []);
    await listener.discovery.start();
    const raw = createSocket({ type: 'udp4', reuseAddr: true });
    stops.push(() => new Promise<void>((resolve) => raw.close(() => resolve())));
    raw.bind(0, '127.0.0.1');
    await once(raw, 'listening');
    raw.setMulticastInterface('127.0.0.1');
    for (const bytes of [
      [],
      [1],
      [255, 255, 255, 255, 255, 255],
      Array.from({ length: 600 }, (_, index) => index & 0xff),
    ]) {
      await new Promise((resolve) => raw.send(Uint8Array.from(bytes), 5353, '224.0.0.251', resolve));
    }
    const other = await bare();
    const peer = await newPeer();
    const respond = (name: string, texts: string[]): Promise<void> =>
      new Promise((resolve) => {
        other.respond(
          [
            { name: SERVICE, type: 'PTR', ttl: 120, data: name },
            ...texts.map((data): Answer => ({ name, type: 'TXT', ttl: 120, data })),
          ],
          () => resolve(),
        );
      });
    const bad = [
      '',
      'dnsaddr=',
      'dnsaddr=/ip4/999.1.1.1/tcp/1',
      'dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/nobody',
      `dnsaddr=/p2p/${peer}`,
    ];
    await respond(`a.${SERVICE}`, bad);
    await respond(`b.${SERVICE}`, [
      ...bad,
      `dnsaddr=/ip4/127.0.0.1/tcp/5/p2p/${peer}`,
      `dnsaddr=/ip4/8.8.8.8/tcp/5/p2p/${peer}`,
    ]);
    await listener.hears(peer);
    expect(listener.heard.get(peer)).toEqual([`/ip4/127.0.0.1/tcp/5/p2p/${peer}`]);
    expect(listener.problems).toEqual([]);
  });

  it('says one clear sentence when there is no interface to use', async () => {
    const problems: string[] = [];
    const discovery = createDiscovery({
      device: await newPeer(),
      addresses: () => [],
      interfaces: ['no-such-interface'],
      localOnly: false,
      onPeer: () => {},
      onProblem: (message) => problems.push(message),
    });
    await discovery.start();
    await discovery.stop();
    await discovery.stop();
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/no-such-interface.*choose another/);
  });

  it('asks no more often in the long run, however many there are', async () => {
    const service = `_${randomBytes(6).toString('hex')}._udp.local`;
    const other = await bare();
    let questions = 0;
    other.on('query', (packet) => {
      if (packet.questions?.some(({ name }) => name === service) === true) questions += 1;
    });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
    stops.push(() => vi.useRealTimers());
    const passes = async (seconds: number): Promise<number> => {
      questions = 0;
      for (let second = 0; second < seconds; second += 1) {
        vi.advanceTimersByTime(1_000);
        // What was sent is heard.
        for (let turn = 0; turn < 20; turn += 1) await setImmediate();
      }
      return questions;
    };
    const devices = await Promise.all(Array.from({ length: 4 }, newPeer));
    const list = devices.map((device) => instance(device, [`/ip4/127.0.0.1/tcp/4001/p2p/${device}`], service));
    for (const { discovery } of list) await discovery.start();
    // Each for itself at first, so that they find each other at once.
    expect(await passes(20)).toBeGreaterThanOrEqual(4 * 4);
    for (const { heard } of list) heard.clear();
    // Every 10 to 20 s by one of them.
    expect(await passes(60)).toBeLessThanOrEqual(7);
    for (const { heard } of list) expect(heard.size).toBe(3);
  });

  it('is silent once it was stopped', async () => {
    const [a, b] = [await newPeer(), await newPeer()];
    const one = instance(a, [`/ip4/127.0.0.1/tcp/1/p2p/${a}`]);
    const starting = one.discovery.start();
    await one.discovery.stop();
    await starting;
    const two = instance(b, [`/ip4/127.0.0.1/tcp/2/p2p/${b}`]);
    const three = instance(await newPeer(), []);
    await two.discovery.start();
    await three.discovery.start();
    await three.hears(b);
    expect(one.heard.size).toBe(0);
    expect(three.heard.has(a)).toBe(false);
  });
});
