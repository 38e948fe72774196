/** UUIDs: text, fresh ones in order, derived ones, and the canonical form of what names a row. */
import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  bytesToHex,
  canonicalKey,
  derivedUuid,
  formatUuid,
  hexToBytes,
  type KeyPart,
  makeUuidV7Generator,
  parseUuid,
} from '../../src/protocol/uuid.ts';

const TEXT = '01890a5d-ac96-774b-bcce-b302099a8057';
const NOW = Date.UTC(2026, 0, 1);

describe('UUIDs as text', () => {
  it('are written with dashes and read with or without, in either case', () => {
    const bytes = parseUuid(TEXT)!;
    expect(bytes).toHaveLength(16);
    expect(formatUuid(bytes)).toBe(TEXT);
    expect(parseUuid(TEXT.toUpperCase())).toEqual(bytes);
    expect(parseUuid(TEXT.replaceAll('-', ''))).toEqual(bytes);
    expect(parseUuid(bytes)).toEqual(bytes);
  });

  it.each(['', 'x', TEXT.slice(1), `${TEXT}0`, TEXT.replace('0', 'g'), `{${TEXT}}`])('%j is none', (text) => {
    expect(parseUuid(text)).toBeNull();
  });

  it('15 bytes are none', () => {
    expect(parseUuid(new Uint8Array(15))).toBeNull();
  });

  it('hex of views and of Buffers is their own, and broken hex is refused', () => {
    const larger = Buffer.from('00112233', 'hex');
    expect(bytesToHex(larger.subarray(1, 3))).toBe('1122');
    expect(hexToBytes('00fF')).toEqual(Uint8Array.of(0, 255));
    for (const broken of ['0', '0g', 'zz', '00 ']) expect(() => hexToBytes(broken)).toThrow(/hex/);
  });
});

describe('fresh UUIDs', () => {
  it('are v7 with the time of the clock', () => {
    const uuid = makeUuidV7Generator(randomBytes)(NOW);
    expect(formatUuid(uuid)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(parseInt(bytesToHex(uuid.subarray(0, 6)), 16)).toBe(NOW);
  });

  it('strictly ascend, while the clock goes on, stands, goes back or has fractions', () => {
    const next = makeUuidV7Generator(randomBytes);
    const times = [...new Array<number>(70_000).fill(NOW), NOW - 5000, NOW + 1, NOW + 1.5, NOW + 2, NOW, NOW + 3];
    const made = times.map((time) => bytesToHex(next(time)));
    expect(made.findIndex((hex, i) => i > 0 && hex <= made[i - 1]!)).toBe(-1);
    expect(parseInt(made.at(-1)!.slice(0, 12), 16)).toBe(NOW + 3);
  });

  it('carry into all bits of the counter, and borrow the next millisecond when it is used up', () => {
    // All random bits set: the counter begins just below half and leaves the fewest for one millisecond.
    const next = makeUuidV7Generator((bytes) => new Uint8Array(bytes).fill(255));
    const first = next(NOW);
    let last = first;
    const half = 2 ** 25;
    for (let i = 0; i < half; i += 1) last = next(NOW);
    expect(bytesToHex(last.subarray(0, 6))).toBe(bytesToHex(first.subarray(0, 6)));
    const beyond = next(NOW);
    expect(parseInt(bytesToHex(beyond.subarray(0, 6)), 16)).toBe(NOW + 1);
    expect(bytesToHex(beyond) > bytesToHex(last)).toBe(true);
    expect(bytesToHex(next(NOW)) > bytesToHex(beyond)).toBe(true);
  });

  it('of two generators differ in the same millisecond', () => {
    const [one, two] = [makeUuidV7Generator(randomBytes), makeUuidV7Generator(randomBytes)];
    const all = new Set<string>();
    for (let i = 0; i < 1000; i += 1) all.add(bytesToHex(one(NOW))).add(bytesToHex(two(NOW)));
    expect(all.size).toBe(2000);
  });

  it('draw randomness seldom', () => {
    let calls = 0;
    const next = makeUuidV7Generator((bytes) => {
      calls += 1;
      return randomBytes(bytes);
    });
    for (let i = 0; i < 10_000; i += 1) next(NOW);
    expect(calls).toBeLessThan(50);
  });
});

describe('derived UUIDs', () => {
  it('are the first 16 bytes of the hash with version 8, the hash untouched', () => {
    const hash = Buffer.alloc(32, 0xff);
    expect(formatUuid(derivedUuid(hash))).toBe('ffffffff-ffff-8fff-bfff-ffffffffffff');
    expect(hash.every((byte) => byte === 0xff)).toBe(true);
    expect(formatUuid(derivedUuid(new Uint8Array(16)))).toBe('00000000-0000-8000-8000-000000000000');
    expect(() => derivedUuid(new Uint8Array(15))).toThrow(RangeError);
  });
});

describe('canonical keys', () => {
  const library = new Uint8Array(16).fill(7);
  const uuid = parseUuid(TEXT)!;
  const hexOf = (...parts: KeyPart[]) => bytesToHex(canonicalKey(library, 'tags', parts));

  it('never change: derived UUIDs of all libraries hang on these bytes', () => {
    const key = canonicalKey(library, 'entry_tags', [
      { type: 'null' },
      { type: 'integer', value: -2 },
      { type: 'real', value: 1.5 },
      { type: 'text', value: 'ü\0' },
      { type: 'blob', value: Uint8Array.of(1, 2) },
      { type: 'uuid', value: uuid },
    ]);
    expect(bytesToHex(key)).toBe(
      `01${'00000010'}${'07'.repeat(16)}0000000a656e7472795f74616773${'00000006'}00` +
        `01fffffffffffffffe023ff80000000000000300000003c3bc0004000000020102${'05'}${TEXT.replaceAll('-', '')}`,
    );
    expect(formatUuid(derivedUuid(createHash('sha256').update(key).digest()))).toMatch(/^[0-9a-f-]{14}8/);
  });

  it('tell apart whatever differs in type, in value or in where a part ends', () => {
    const text = (value: string): KeyPart => ({ type: 'text', value });
    const keys = [
      hexOf(),
      hexOf({ type: 'null' }),
      hexOf({ type: 'null' }, { type: 'null' }),
      hexOf({ type: 'integer', value: 1 }),
      hexOf({ type: 'real', value: 1 }),
      hexOf(text('1')),
      hexOf({ type: 'blob', value: Uint8Array.of(0x31) }),
      hexOf(text('ab'), text('c')),
      hexOf(text('a'), text('bc')),
      hexOf(text('abc')),
      hexOf(text('')),
      hexOf({ type: 'uuid', value: uuid }),
      hexOf({ type: 'blob', value: uuid }),
      bytesToHex(canonicalKey(library, 'tag', [text('s')])),
      bytesToHex(canonicalKey(new Uint8Array(16), 'tags', [])),
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });

  it('are equal for what a key calls equal: 5 and 5n, 0.0 and −0.0', () => {
    expect(hexOf({ type: 'integer', value: 5 })).toBe(hexOf({ type: 'integer', value: 5n }));
    expect(hexOf({ type: 'real', value: 0 })).toBe(hexOf({ type: 'real', value: -0 }));
    expect(hexOf({ type: 'integer', value: -(2n ** 63n) })).toContain('8000000000000000');
  });

  it('refuse an integer beyond 64 bits and a UUID that is none', () => {
    expect(() => hexOf({ type: 'integer', value: 2n ** 63n })).toThrow(RangeError);
    expect(() => hexOf({ type: 'uuid', value: new Uint8Array(3) })).toThrow(RangeError);
  });
});
