import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { describe, expect, it } from 'vitest';

import {
  libraryIdOf,
  membershipOf,
  nextTerm,
  readRecord,
  recordIdOf,
  recordText,
  signedBytes,
  signedRecords,
} from '../../src/protocol/membership.ts';
import type { MemberRecord, Membership } from '../../src/protocol/membership.ts';
import { isSignedBy, publicKeyOf, signWith } from '../../src/protocol/peer-id.ts';

const SALT = '5a'.repeat(16);
const LIBRARY = libraryIdOf('A', SALT);
const FOUNDER: MemberRecord = { type: 'founder', device: 'A', name: 'a', salt: SALT, at: 1 };

/** What one device has of the records, and what it adds by itself. Dates are all the same: nothing may depend on them. */
class Copy {
  readonly records: Map<string, MemberRecord>;

  constructor(records: Iterable<MemberRecord> = [FOUNDER]) {
    this.records = new Map([...records].map((record) => [recordIdOf(LIBRARY, recordText(record)), record]));
  }

  get membership(): Membership {
    return membershipOf(LIBRARY, this.records);
  }

  /** Peer ids of the members, in one word. */
  get members(): string {
    const devices = [...this.membership.devices.values()].filter(({ revoked }) => revoked === null);
    return devices
      .map(({ device }) => device)
      .toSorted()
      .join('');
  }

  add(record: MemberRecord): this {
    this.records.set(recordIdOf(LIBRARY, recordText(record)), record);
    return this;
  }

  /** `by` lets devices in, one after the other. */
  invite(by: string, ...devices: string[]): this {
    for (const device of devices) {
      const byTerm = this.membership.devices.get(by)?.term ?? 1;
      const term = nextTerm(this.membership, this.records.values(), device);
      this.add({ type: 'member', device, term, name: device.toLowerCase(), by, byTerm, at: 1 });
    }
    return this;
  }

  revoke(by: string, device: string): this {
    const { devices } = this.membership;
    const [byTerm, term] = [devices.get(by)?.term ?? 1, devices.get(device)?.term ?? 1];
    const keeps = signedRecords(this.membership, this.records, device);
    return this.add({ type: 'revoked', device, term, by, byTerm, at: 1, keeps });
  }

  copy(): Copy {
    return new Copy(this.records.values());
  }

  with(...others: Copy[]): Copy {
    return new Copy([this, ...others].flatMap(({ records }) => [...records.values()]));
  }
}

describe('peer ids', () => {
  it('are keys: what libp2p signs is checked by the id alone, and the other way round', async () => {
    for (let i = 0; i < 8; i += 1) {
      const key = await generateKeyPair('Ed25519');
      const id = peerIdFromPrivateKey(key).toString();
      const bytes = Uint8Array.of(i, 2, 3);
      const signature = await key.sign(bytes);
      expect(publicKeyOf(id)).toEqual(key.publicKey.raw);
      expect(signWith(key.raw.subarray(0, 32), bytes)).toEqual(Uint8Array.from(signature));
      expect(isSignedBy(id, bytes, signature)).toBe(true);
      expect(isSignedBy(id, Uint8Array.of(i, 2, 4), signature)).toBe(false);
      expect(isSignedBy(id, bytes, signature.subarray(1))).toBe(false);
    }
  });

  it('of other kinds, and what is none, prove nothing', async () => {
    const other = peerIdFromPrivateKey(await generateKeyPair('secp256k1')).toString();
    const own = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString();
    for (const id of [
      '',
      'A',
      '1'.repeat(52),
      'z'.repeat(52),
      `${own.slice(0, -1)}0`,
      `2${own.slice(1)}`,
      `${own}1`,
      other,
    ]) {
      expect(publicKeyOf(id)).toBeNull();
      expect(isSignedBy(id, new Uint8Array(), new Uint8Array(64))).toBe(false);
    }
  });
});

describe('records', () => {
  it('are read only as they were written', () => {
    const text = recordText(FOUNDER);
    expect(readRecord(text)).toEqual(FOUNDER);
    const [more, spaced] = [text.replace('}', ',"more":1}'), text.replace(':', ': ')];
    const turned = JSON.stringify(Object.fromEntries(Object.entries(FOUNDER).toReversed()));
    const twice = text.replace('"at":1', '"at":1,"at":1');
    for (const bad of [
      '',
      '{}',
      'null',
      '[',
      more,
      spaced,
      turned,
      twice,
      text.replace('founder', 'king'),
      text.replace('"at":1', '"at":-1'),
    ])
      expect(readRecord(bad)).toBeNull();
  });

  it('are bound to one library', () => {
    const text = recordText(FOUNDER);
    expect(recordIdOf(LIBRARY, text)).toMatch(/^[0-9a-f]{32}$/);
    expect(recordIdOf('00'.repeat(16), text)).not.toBe(recordIdOf(LIBRARY, text));
    expect(signedBytes('00'.repeat(16), text)).not.toEqual(signedBytes(LIBRARY, text));
  });
});

describe('membership', () => {
  it('[P4] begins with the founder, who is named by the library id: nobody else can be it', () => {
    expect(new Copy().members).toBe('A');
    const usurper: MemberRecord = { ...FOUNDER, device: 'X' };
    const copy = new Copy([FOUNDER, usurper]).add({
      type: 'member',
      device: 'Y',
      term: 1,
      name: '',
      by: 'X',
      byTerm: 1,
      at: 1,
    });
    expect(copy.members).toBe('A');
    expect([...copy.membership.devices.keys()]).toEqual(['A']);
    expect(new Copy([usurper]).invite('X', 'B').members).toBe('');
  });

  it('[P3] is what members say, over any number of steps; what others say does not count', () => {
    const copy = new Copy().invite('A', 'B').invite('B', 'C').invite('C', 'D').invite('X', 'Y');
    expect(copy.members).toBe('ABCD');
    expect(copy.membership.devices.get('D')).toEqual({
      device: 'D',
      name: 'd',
      term: 1,
      invitedBy: 'C',
      addedAt: 1,
      revoked: null,
    });
    expect(copy.membership.counted.size).toBe(4);
    // Until it counts, in whatever order.
    expect(copy.invite('D', 'X').members).toBe('ABCDXY');
  });

  it('[P6] ends by a word of any other member, the founder not excepted; those that were let in stay', () => {
    const copy = new Copy().invite('A', 'B').invite('B', 'C').revoke('C', 'A').revoke('C', 'B');
    expect(copy.members).toBe('C');
    expect(copy.membership.devices.get('B')?.revoked).toEqual({ by: 'C', at: 1 });
    expect(copy.invite('B', 'X').members).toBe('C');
  });

  it('[P6] what a revoked device signs later does not count, and neither does what its revoker had not heard of', () => {
    const before = new Copy().invite('A', 'B', 'C', 'D').invite('B', 'E');
    // Unheard of by A: an earlier date would change nothing.
    const apart = before.copy().invite('B', 'X').invite('X', 'Y').revoke('B', 'D').revoke('X', 'C');
    expect(apart.members).toBe('ABEXY');
    const both = before.copy().revoke('A', 'B').with(apart);
    expect(both.members).toBe('ACDE');
    expect(both.membership.devices.get('X')?.revoked).toEqual({ by: 'A', at: 1 });
    // It says the same of Y, which X had let in, and lets X in again.
    expect(both.invite('C', 'X').members).toBe('ACDEX');
  });

  it('[P6] two that revoke one device apart: what one of them knew of stands', () => {
    const before = new Copy().invite('A', 'B', 'C', 'R');
    const heard = before.copy().invite('R', 'X');
    const both = before.copy().revoke('A', 'R').with(heard.copy().revoke('B', 'R'));
    expect(both.members).toBe('ABCX');
  });

  it('[P7] two that revoke each other at the same time are both out, and whoever is left may let one in again', () => {
    const before = new Copy().invite('A', 'B').invite('B', 'C').invite('C', 'D');
    const both = before.copy().revoke('B', 'D').with(before.copy().revoke('D', 'B'));
    expect(both.members).toBe('AC');
    expect(both.invite('A', 'B').members).toBe('ABC');
    expect(before.copy().revoke('A', 'D').with(before.copy().revoke('D', 'A')).members).toBe('BC');
  });

  it('[P7] three in a ring are out, in whatever order it is heard of', () => {
    const before = new Copy().invite('A', 'B', 'C', 'D', 'E');
    const ring = [
      before.copy().revoke('B', 'C'),
      before.copy().revoke('C', 'D'),
      before.copy().revoke('D', 'B'),
    ] as const;
    const whole = ring[0].with(ring[1], ring[2]);
    expect(whole.members).toBe('AE');
    expect(ring[2].with(ring[0], ring[1]).membership).toEqual(whole.membership);
  });

  it('[P7] nobody undoes his own revocation by answering it, and takes along nobody but who revoked him', () => {
    const before = new Copy().invite('A', 'B', 'C', 'D');
    const revoked = before.copy().revoke('B', 'A');
    // The founder was stolen; it pretends to know of nothing, and answers all of them.
    const answers = ['B', 'C', 'D'].map((device): MemberRecord => {
      return { type: 'revoked', device, term: 1, by: 'A', byTerm: 1, at: 0, keeps: [] };
    });
    expect(revoked.with(new Copy([FOUNDER, ...answers])).members).toBe('CD');
  });

  it('[P7] nor by somebody whom he lets in to do it', () => {
    const before = new Copy().invite('A', 'B', 'C', 'D').revoke('A', 'B');
    const hostile = before.copy().add({ type: 'member', device: 'X', term: 1, name: 'x', by: 'B', byTerm: 1, at: 0 });
    for (const device of ['A', 'C', 'D'])
      hostile.add({ type: 'revoked', device, term: 1, by: 'X', byTerm: 1, at: 0, keeps: [] });
    expect(hostile.members).not.toMatch(/[BX]/);
  });

  it('[P7] strangers that vouch for each other are nobody', () => {
    const copy = new Copy().invite('A', 'B');
    for (const [device, by] of [...'XY'].map((one) => [one, one === 'X' ? 'Y' : 'X'] as const))
      copy.add({ type: 'member', device, term: 1, name: '', by, byTerm: 1, at: 1 });
    for (const [by, device] of ['XY', 'YX', 'XA', 'YB'].map((pair) => [...pair] as [string, string]))
      copy.add({ type: 'revoked', device, term: 1, by, byTerm: 1, at: 1, keeps: [] });
    expect(copy.members).toBe('AB');
    expect([...copy.membership.devices.keys()].toSorted()).toEqual(['A', 'B']);
  });

  it('[P11] leaving is a revocation by oneself; what was signed before stands', () => {
    const copy = new Copy().invite('A', 'B').invite('B', 'C').revoke('B', 'B');
    expect(copy.members).toBe('AC');
    expect(copy.membership.devices.get('B')?.revoked).toEqual({ by: 'B', at: 1 });
    expect(copy.invite('B', 'X').revoke('B', 'A').members).toBe('AC');
  });

  it('[P12] who was revoked or has left can be let in again, any number of times', () => {
    const copy = new Copy().invite('A', 'B').invite('B', 'C').revoke('A', 'B').invite('C', 'B');
    expect(copy.members).toBe('ABC');
    expect(copy.membership.devices.get('B')).toMatchObject({ term: 2, invitedBy: 'C', revoked: null });
    expect(copy.invite('B', 'D').revoke('B', 'B').members).toBe('ACD');
    expect(copy.invite('D', 'B').members).toBe('ABCD');
    expect(copy.membership.devices.get('B')?.term).toBe(3);
    expect(copy.revoke('C', 'A').invite('B', 'A').members).toBe('ABCD');
  });

  it('[P12] nobody lets himself in again', () => {
    const copy = new Copy().invite('A', 'B').revoke('A', 'B');
    for (const byTerm of [1, 2, 3])
      copy.add({ type: 'member', device: 'B', term: 2, name: 'b', by: 'B', byTerm, at: 0 });
    expect(copy.members).toBe('A');
  });

  it('[P12] a revocation says nothing of a later term, which its signer had not heard of', () => {
    const before = new Copy().invite('A', 'B', 'C').revoke('A', 'B');
    const again = before.copy().invite('A', 'B');
    expect(again.with(before.copy().revoke('C', 'B')).members).toBe('ABC');
  });
});
