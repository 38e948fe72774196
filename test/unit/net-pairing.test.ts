/**
 * Pairing by six digits, both sides over real hosts and multicast on loopback; strangers speak it by hand.
 */
import { randomBytes } from 'node:crypto';
import { generateKeyPair } from '@libp2p/crypto/keys';
import { afterEach, describe, expect, it } from 'vitest';
import { PAIR_PROTOCOL } from '../../src/net/api.ts';
import { lvCat, startCPace } from '../../src/net/cpace.ts';
import { createDiscovery } from '../../src/net/discovery.ts';
import { createHost } from '../../src/net/host.ts';
import type { JoinableHost } from '../../src/net/host.ts';
import type { Packets } from '../../src/net/packets.ts';
import { MAX_TRIES, pairTalk, readCode, requestInvitation, showCode } from '../../src/net/pairing.ts';
import type { CodeEnd, PairingOptions, ShownCode } from '../../src/net/pairing.ts';

/** A name of these tests' own: another test on this machine may show a code at the same time. */
const SERVICE = '_flotilla-test._udp.local';
/** A device that is there is seen within this time, ms, on a busy machine too. */
const SEEN_MS = 1_500;
const stops: Array<() => Promise<unknown>> = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

/** A code on show, and how it ended. */
async function show(change: Partial<PairingOptions> = {}): Promise<ShownCode & { readonly ended: Promise<CodeEnd> }> {
  let tell: (end: CodeEnd) => void = () => {};
  const ended = new Promise<CodeEnd>((resolve) => (tell = resolve));
  const shown = await showCode({
    localOnly: true,
    service: SERVICE,
    invite: async () => 'an invitation',
    onEnd: tell,
    ...change,
  });
  stops.push(() => shown.close());
  return { ...shown, ended };
}

const ask = (code: string, searchMs?: number): Promise<string> =>
  requestInvitation({ code, localOnly: true, service: SERVICE, ...(searchMs === undefined ? {} : { searchMs }) });

/** Another code than that one. */
const wrong = (code: string): string => `${code.slice(0, 5)}${(Number(code[5]) + 1) % 10}`;

/** Where a code is on show, as multicast says. */
async function whereShown(): Promise<{ peer: string; addresses: readonly string[] }> {
  return new Promise((resolve) => {
    const discovery = createDiscovery({
      device: 'nobody',
      service: SERVICE,
      localOnly: true,
      addresses: () => [],
      onPeer: (peer, addresses) => resolve({ peer, addresses }),
      onProblem: () => {},
    });
    stops.push(() => discovery.stop());
    void discovery.start();
  });
}

async function guest(): Promise<JoinableHost> {
  const host = await createHost({
    privateKey: await generateKeyPair('Ed25519'),
    listen: [],
    localOnly: true,
    joinProtocol: PAIR_PROTOCOL,
    allowed: () => true,
    invited: () => false,
  });
  stops.push(() => host.stop());
  return host;
}

const soon = (): AbortSignal => AbortSignal.timeout(20_000);
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const say = (packets: Packets, message: unknown): Promise<void> =>
  packets.send([new TextEncoder().encode(JSON.stringify(message))]);

async function hear<K extends Parameters<typeof pairTalk.read>[0]>(packets: Packets, kind: K) {
  for await (const packet of packets.packets) return pairTalk.read(kind, packet);
  throw new Error('it ended');
}

/** Guesses a code by hand; what came of it. `names` is what it says of the channel. */
async function guess(code: string, names?: readonly [string, string]): Promise<string> {
  const host = await guest();
  const { peer, addresses } = await whereShown();
  await host.dial(peer, addresses, soon());
  const packets = await host.openJoin(peer, soon());
  const nonce = base64(randomBytes(16));
  await say(packets, { type: 'hello', nonce });
  const theirs = await hear(packets, 'hello').catch(() => null);
  if (theirs === null) return 'ended';
  const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
  const [initiator, responder] = names ?? [host.device, peer];
  const side = startCPace(
    {
      password: bytesOf(code),
      channel: lvCat(bytesOf(PAIR_PROTOCOL), bytesOf(initiator), bytesOf(responder)),
      session: Buffer.concat([Buffer.from(nonce, 'base64'), Buffer.from(theirs.nonce, 'base64')]),
    },
    randomBytes(32),
  );
  await say(packets, { type: 'share', share: base64(side.share) });
  const { share } = await hear(packets, 'share');
  const keys = side.finish('initiator', new Uint8Array(Buffer.from(share, 'base64')));
  await say(packets, { type: 'proof', tag: base64(keys?.tag ?? new Uint8Array(64)) });
  const { type } = await hear(packets, 'answer');
  await packets.close();
  return type;
}

describe('a code', () => {
  it('is six digits, however people write them', () => {
    expect(readCode('123456')).toBe('123456');
    expect(readCode(' 123 456 ')).toBe('123456');
    expect(readCode('123-456')).toBe('123456');
    for (const text of ['12345a', '', 'flotilla1-abc', '١٢٣٤٥٦']) expect(readCode(text)).toBeNull();
    for (const text of ['12345', '123 456 7']) expect(() => readCode(text)).toThrow(/has 6 digits, not [57]/);
  });

  it('that is typed as it was shown brings the invitation, and is used up', async () => {
    const shown = await show();
    expect(shown.code).toMatch(/^\d{6}$/);
    expect(await ask(shown.code)).toBe('an invitation');
    expect(await shown.ended).toBe('used');
    await expect(ask(shown.code, 500)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('that is wrong is refused and costs a try; the right one still works', async () => {
    const shown = await show();
    await expect(ask(wrong(shown.code), SEEN_MS)).rejects.toMatchObject({
      code: 'CODE_REFUSED',
      message: expect.stringMatching(/Compare the digits/),
    });
    expect(await ask(shown.code)).toBe('an invitation');
  });

  it('is void after so many wrong tries, also for who knows it', async () => {
    const shown = await show();
    for (let tries = 0; tries < MAX_TRIES; tries += 1)
      await expect(ask(wrong(shown.code), SEEN_MS)).rejects.toMatchObject({ code: 'CODE_REFUSED' });
    expect(await shown.ended).toBe('guessed');
    await expect(ask(shown.code, 500)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('lets in one of many who type it at the same moment', async () => {
    const shown = await show();
    const outcomes = await Promise.allSettled(Array.from({ length: 3 }, () => ask(shown.code, 500)));
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1);
  });

  it('expires', async () => {
    const shown = await show({ lifeMs: 50 });
    expect(await shown.ended).toBe('expired');
    await expect(ask(shown.code, 500)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('is worth nothing once it is not shown any more', async () => {
    const shown = await show();
    await shown.close();
    await shown.close();
    expect(await shown.ended).toBe('closed');
    await expect(ask(shown.code, 500)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it('is found beside others that are shown in the same network', async () => {
    const [one, two] = [await show({ invite: async () => 'one' }), await show({ invite: async () => 'two' })];
    expect(await ask(two.code)).toBe('two');
    expect(await ask(one.code)).toBe('one');
  });
});

describe('a stranger on the network', () => {
  it('with the code gets the invitation by hand: the other tests guess in the same way', async () => {
    const shown = await show();
    expect(await guess(shown.code)).toBe('invitation');
  });

  it('has so many guesses, also all at once, and breaking off does not spare one', async () => {
    const shown = await show();
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => guess(wrong(shown.code))));
    const answered = outcomes.filter((outcome) => outcome.status === 'fulfilled' && outcome.value === 'refused');
    expect(answered.length).toBeLessThanOrEqual(MAX_TRIES);
    expect(await shown.ended).toBe('guessed');
  });

  it('who hands the messages of one connection on to another is refused: the channel is part of the proof', async () => {
    const shown = await show();
    const between = (await guest()).device;
    expect(await guess(shown.code, [between, between])).toBe('refused');
  });

  it('who announces devices of its own learns of a code by so many tries, no more', async () => {
    const proofs: string[] = [];
    for (let n = 0; n < MAX_TRIES + 2; n += 1) {
      const host = await createHost({
        privateKey: await generateKeyPair('Ed25519'),
        listen: ['/ip4/127.0.0.1/tcp/0'],
        localOnly: true,
        joinProtocol: PAIR_PROTOCOL,
        allowed: () => false,
        invited: () => true,
      });
      stops.push(() => host.stop());
      host.handleJoin((packets) => {
        const answer = async (): Promise<void> => {
          await hear(packets, 'hello');
          await say(packets, { type: 'hello', nonce: base64(randomBytes(16)) });
          const { share } = await hear(packets, 'share');
          // Any element of the group will do.
          await say(packets, { type: 'share', share });
          proofs.push((await hear(packets, 'proof')).tag);
          await say(packets, { type: 'invitation', tag: base64(randomBytes(64)), invitation: 'come in' });
        };
        answer().catch(() => {});
      });
      const discovery = createDiscovery({
        device: host.device,
        service: SERVICE,
        localOnly: true,
        addresses: () => host.addresses(),
        onPeer: () => {},
        onProblem: () => {},
      });
      stops.push(() => discovery.stop());
      await discovery.start();
    }
    await expect(ask('123456')).rejects.toMatchObject({ code: 'CODE_REFUSED' });
    expect(proofs).toHaveLength(MAX_TRIES);
  });

  it.each([
    ['nothing', async () => {}],
    ['no message', (packets: Packets) => packets.send([Uint8Array.of(1, 2, 3)])],
    ['the last message first', (packets: Packets) => say(packets, { type: 'proof', tag: base64(new Uint8Array(64)) })],
    [
      'a share that is none',
      async (packets: Packets) => {
        await say(packets, { type: 'hello', nonce: base64(new Uint8Array(16)) });
        await say(packets, { type: 'share', share: base64(new Uint8Array(32)) });
        await say(packets, { type: 'proof', tag: base64(new Uint8Array(64)) });
      },
    ],
  ])('who says %s is let go of, and the code still works', async (_, speak) => {
    const shown = await show();
    const host = await guest();
    const { peer, addresses } = await whereShown();
    await host.dial(peer, addresses, soon());
    const packets = await host.openJoin(peer, soon());
    await speak(packets);
    packets.abort(new Error('gone'));
    expect(await ask(shown.code)).toBe('an invitation');
  });
});
