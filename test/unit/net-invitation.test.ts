/**
 * Invitations as text, the key behind them, and the addresses that go into them.
 */
import { hkdfSync } from 'node:crypto';
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  announceable,
  dialable,
  invitationAddresses,
  isLoopback,
  listenAddresses,
  peerOf,
  withPeer,
} from '../../src/net/addresses.ts';
import type { Interfaces } from '../../src/net/addresses.ts';
import { decodeInvitation, encodeInvitation, invitationKey, invitationPeer } from '../../src/net/invitation.ts';

const inviter = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString();
const example = {
  libraryId: '00112233445566778899aabbccddeeff',
  inviter,
  addresses: ['/ip4/192.168.1.20/tcp/4001', '/ip6/fd00::2/tcp/4001', '/dns4/nas.local/tcp/4001'],
  secret: new Uint8Array(16).map((_, index) => index * 7),
  expiresAt: 1_790_000_000_123,
  psk: null,
};
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

function codeOf(run: () => unknown): string {
  try {
    run();
    return 'nothing was thrown';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

describe('an invitation', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        fc.integer({ min: 0, max: 2 ** 48 - 1 }),
        fc.array(fc.tuple(fc.ipV4(), fc.integer({ min: 1, max: 65_535 })), { maxLength: 4 }),
        fc.option(fc.uint8Array({ minLength: 32, maxLength: 32 })),
        (library, secret, expiresAt, list, key) => {
          const data = {
            libraryId: Buffer.from(library).toString('hex'),
            inviter,
            addresses: list.map(([ip, port]) => `/ip4/${ip}/tcp/${port}`),
            secret: Uint8Array.from(secret),
            expiresAt,
            psk: key === null ? null : Uint8Array.from(key),
          };
          expect(decodeInvitation(encodeInvitation(data))).toEqual(data);
        },
      ),
    );
    expect(decodeInvitation(encodeInvitation(example))).toEqual(example);
  });

  it('is one word that can be pasted with spaces and line breaks', () => {
    const text = encodeInvitation(example);
    expect(text).toMatch(/^flotilla1-[\w-]+$/);
    expect(decodeInvitation(`\n  ${text.slice(0, 40)}\r\n${text.slice(40)} \n`)).toEqual(example);
  });

  it('leaves out /p2p of its addresses, since the inviter stands in it', () => {
    const text = encodeInvitation({ ...example, addresses: [`/ip4/10.0.0.1/tcp/1/p2p/${inviter}`] });
    expect(decodeInvitation(text).addresses).toEqual(['/ip4/10.0.0.1/tcp/1']);
  });

  it('is INVITE_INVALID with any one character changed, left out or added', () => {
    const text = encodeInvitation(example);
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.constantFrom(...ALPHABET), (at, letter) => {
        fc.pre(text[at] !== letter);
        expect(codeOf(() => decodeInvitation(text.slice(0, at) + letter + text.slice(at + 1)))).toBe('INVITE_INVALID');
        expect(codeOf(() => decodeInvitation(text.slice(0, at) + text.slice(at + 1)))).toBe('INVITE_INVALID');
        expect(codeOf(() => decodeInvitation(text.slice(0, at) + letter + text.slice(at)))).toBe('INVITE_INVALID');
      }),
      { numRuns: 2_000 },
    );
  });

  it('is INVITE_INVALID as anything else', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.base64String().map((rest) => `flotilla1-${rest}`),
        ),
        (text) => {
          expect(codeOf(() => decodeInvitation(text))).toBe('INVITE_INVALID');
        },
      ),
    );
  });

  it('stands for the key that libp2p makes of the same seed, and signs with it', async () => {
    const seed = hkdfSync('sha256', example.secret, new Uint8Array(), 'flotilla invitation key 1', 32);
    const theirs = await generateKeyPairFromSeed('Ed25519', new Uint8Array(seed));
    const ours = invitationKey(example.secret);
    expect(ours.equals(theirs)).toBe(true);
    expect(theirs.publicKey.verify(example.secret, await ours.sign(example.secret))).toBe(true);
  });

  it('stands for one key, and another secret for another one', () => {
    const peer = invitationPeer(example.secret);
    expect(peer).toBe(peerIdFromPrivateKey(invitationKey(example.secret)).toString());
    expect(invitationPeer(Uint8Array.from(example.secret))).toBe(peer);
    expect(invitationPeer(example.secret.map((byte) => byte ^ 1))).not.toBe(peer);
  });
});

describe('addresses', () => {
  const entry = (address: string, internal = false) =>
    ({ address, internal, family: 'IPv4', netmask: '', mac: '', cidr: null }) as const;
  const interfaces: Interfaces = {
    lo: [entry('127.0.0.1', true)],
    eth0: [entry('192.168.1.20')],
    wlan0: [entry('10.0.0.3'), entry('169.254.3.3')],
  };

  it('of an invitation are those of the interfaces, and loopback only when asked for or alone', () => {
    expect(invitationAddresses(4001, interfaces, false)).toEqual([
      '/ip4/192.168.1.20/tcp/4001',
      '/ip4/10.0.0.3/tcp/4001',
    ]);
    expect(invitationAddresses(4001, interfaces, true)).toEqual(['/ip4/127.0.0.1/tcp/4001']);
    expect(invitationAddresses(4001, { lo: interfaces.lo }, false)).toEqual(['/ip4/127.0.0.1/tcp/4001']);
  });

  it('that may be dialled are TCP addresses of somebody, each once', () => {
    const good = ['/ip4/192.168.1.20/tcp/4001', '/dns4/nas.local/tcp/4001', '/ip6/::1/tcp/1', '/ip4/127.0.0.1/tcp/2'];
    const bad = [
      '',
      'x',
      '/ip4/1.2.3.4',
      '/ip4/1.2.3.4/udp/5',
      '/ip4/0.0.0.0/tcp/4',
      '/ip4/1.2.3.4/tcp/0',
      '/ip4/300.1.1.1/tcp/1',
    ];
    expect(dialable([...good, ...bad, ...good], false)).toEqual(good);
    expect(dialable([...good, ...bad], true)).toEqual(['/ip6/::1/tcp/1', '/ip4/127.0.0.1/tcp/2']);
  });

  it('that are announced hold loopback only when there is nothing else', () => {
    const [near, far] = ['/ip4/127.0.0.1/tcp/2', '/ip4/10.0.0.1/tcp/2'];
    expect(announceable([near, far], false)).toEqual([far]);
    expect(announceable([near], false)).toEqual([near]);
    expect(announceable([near, far], true)).toEqual([near]);
  });

  it('carry the peer id once', () => {
    const full = withPeer(withPeer('/ip4/10.0.0.1/tcp/2', inviter), inviter);
    expect(full).toBe(`/ip4/10.0.0.1/tcp/2/p2p/${inviter}`);
    expect(peerOf(full)).toBe(inviter);
    expect(peerOf('/ip4/10.0.0.1/tcp/2')).toBeNull();
    expect(peerOf('nonsense')).toBeNull();
  });

  it('of a local-only node are loopback', () => {
    expect(listenAddresses(0, true).every(isLoopback)).toBe(true);
    expect(listenAddresses(7, false)).toEqual(['/ip4/0.0.0.0/tcp/7']);
  });
});
