/**
 * CPace, by the test vectors of draft-irtf-cfrg-cpace (appendix "CPace using group ristretto255 and hash SHA-512"). Those
 * for the key use associated data, which we do not: it is computed here from the draft's own steps for the rest.
 */
import { createHash, createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { generatorString, lvCat, startCPace } from '../../src/net/cpace.ts';

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const ascii = (word: string): Uint8Array => new TextEncoder().encode(word);

const input = {
  password: ascii('Password'),
  channel: hex('0b415f696e69746961746f720b425f726573706f6e646572'),
  session: hex('7e4b4791d6a8ef019b936c79fb7f2c57'),
};
const ya = hex('da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08');
const yb = hex('d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d');
const Ya = 'd6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157';
const Yb = '3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258';
const K = '80b69a8a76457ab6a4d7f887a4bf6b55a2f80ac19c333f917a05fc9887c8b40f';

describe('CPace', () => {
  it('writes lengths and strings as the draft does', () => {
    expect(text(lvCat(ascii('1234'), ascii('5'), ascii(''), ascii('678')))).toBe('043132333401350003363738');
    const long = Uint8Array.from({ length: 128 }, (_, index) => index);
    expect(text(lvCat(long))).toBe(`8001${text(long)}`);
    expect(text(lvCat(long.subarray(0, 127))).slice(0, 4)).toBe('7f00');
    expect(text(generatorString(input))).toBe(
      `11435061636552697374726574746f3235350850617373776f726464${'00'.repeat(100)}` +
        '180b415f696e69746961746f720b425f726573706f6e646572107e4b4791d6a8ef019b936c79fb7f2c57',
    );
  });

  it('makes the shares of the draft', () => {
    expect(text(startCPace(input, ya).share)).toBe(Ya);
    expect(text(startCPace(input, yb).share)).toBe(Yb);
  });

  it('agrees on the key and the tags that follow from its shared point', () => {
    const a = startCPace(input, ya).finish('initiator', hex(Yb));
    const b = startCPace(input, yb).finish('responder', hex(Ya));
    // As the vectors for ISK and the section on key confirmation have it, with empty ADa and ADb.
    const transcript = `20${Ya}0020${Yb}00`;
    const isk = createHash('sha512')
      .update(hex(`15435061636552697374726574746f3235355f49534b10${text(input.session)}20${K}${transcript}`))
      .digest();
    const macKey = createHash('sha512').update('CPaceMac').update(input.session).update(isk).digest();
    const tag = (share: string): string =>
      createHmac('sha512', macKey)
        .update(hex(`20${share}00`))
        .digest('hex');
    expect(text(a?.isk ?? new Uint8Array())).toBe(isk.toString('hex'));
    expect(text(b?.isk ?? new Uint8Array())).toBe(isk.toString('hex'));
    expect(text(a?.tag ?? new Uint8Array())).toBe(tag(Ya));
    expect(text(b?.tag ?? new Uint8Array())).toBe(tag(Yb));
    expect(a?.proves(hex(tag(Yb)))).toBe(true);
    expect(b?.proves(hex(tag(Ya)))).toBe(true);
  });

  it('takes nobody for the other side who sends its own tag back, or half of one', () => {
    const a = startCPace(input, ya).finish('initiator', hex(Yb));
    expect(a?.proves(a.tag)).toBe(false);
    const b = startCPace(input, yb).finish('responder', hex(Ya));
    expect(a?.proves(b?.tag.subarray(0, 32) ?? new Uint8Array())).toBe(false);
    expect(a?.proves(new Uint8Array())).toBe(false);
  });

  it.each([
    ['another password', { password: ascii('Passwore') }],
    ['another channel', { channel: hex('0b425f726573706f6e6465720b415f696e69746961746f72') }],
    ['another session', { session: hex('7e4b4791d6a8ef019b936c79fb7f2c58') }],
  ])('agrees on nothing with %s', (_, change) => {
    const other = startCPace({ ...input, ...change }, yb);
    const a = startCPace(input, ya).finish('initiator', other.share);
    const b = other.finish('responder', hex(Ya));
    expect(a?.proves(b?.tag ?? new Uint8Array())).toBe(false);
    expect(b?.proves(a?.tag ?? new Uint8Array())).toBe(false);
  });

  // The draft's "Invalid inputs for scalar_mult_vfy", and shares of other lengths.
  it.each([
    '2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c',
    '00'.repeat(32),
    '',
    Ya.slice(2),
    `${Ya}00`,
  ])('breaks off when the share is %s', (share) => {
    expect(startCPace(input, ya).finish('initiator', hex(share))).toBeNull();
  });
});
