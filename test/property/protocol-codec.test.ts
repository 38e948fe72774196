/** Batches and frames: what is written is read back exactly, and damaged input never does anything but fail. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FlotillaError } from '../../src/errors.ts';
import { decodeBatch, encodeBatch } from '../../src/protocol/batch.ts';
import { ByteReader, ByteWriter } from '../../src/protocol/bytes.ts';
import { readValues, writeValues } from '../../src/protocol/columns.ts';
import { decodeFrame, encodeFrame } from '../../src/protocol/frames.ts';
import { pack, unpack } from '../../src/protocol/msgpack.ts';
import type { Frame } from '../../src/protocol/types.ts';
import { batch, frame, record, sqlValue } from './protocol-arbitraries.ts';

/** How bytes are damaged: cut, one bit turned, bytes replaced, something added. */
const damage = fc.oneof(
  record({ kind: fc.constant('cut'), at: fc.nat(), with: fc.constant(new Uint8Array(0)) }),
  record({ kind: fc.constant('flip'), at: fc.nat(), with: fc.uint8Array({ minLength: 1, maxLength: 1 }) }),
  record({ kind: fc.constant('replace'), at: fc.nat(), with: fc.uint8Array({ minLength: 1, maxLength: 9 }) }),
  record({
    kind: fc.constant('replace'),
    at: fc.nat(),
    with: fc.constantFrom(new Uint8Array(8).fill(255), new Uint8Array(4)),
  }),
  record({ kind: fc.constant('add'), at: fc.nat(), with: fc.uint8Array({ minLength: 1, maxLength: 9 }) }),
);

function damaged(bytes: Uint8Array, how: { kind: string; at: number; with: Uint8Array }): Uint8Array {
  const at = how.at % bytes.length;
  if (how.kind === 'cut') return bytes.slice(0, at);
  if (how.kind === 'add') return Uint8Array.of(...bytes, ...how.with);
  const copy = bytes.slice();
  if (how.kind === 'flip') copy[at] = copy[at]! ^ (1 << (how.with[0]! % 8));
  else copy.set(how.with.subarray(0, copy.length - at), at);
  return copy;
}

/** Runs a decoder; it may succeed (a value was changed) or throw a FlotillaError PROTOCOL. Returns what it gave. */
function attempt<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch (error) {
    expect(error).toBeInstanceOf(FlotillaError);
    expect((error as FlotillaError).code).toBe('PROTOCOL');
    expect((error as FlotillaError).cause, 'no accident inside').toBeUndefined();
    return undefined;
  }
}

function bytesOf(one: Frame): Uint8Array {
  const encoded = encodeFrame(one);
  return encoded instanceof Uint8Array ? encoded : new Uint8Array(Buffer.concat(encoded));
}

describe('batches', () => {
  it('come back exactly, to the sign of zero and the type of an integer', () => {
    fc.assert(
      fc.property(batch, (one) => void expect(decodeBatch(encodeBatch(one))).toStrictEqual(one)),
      { numRuns: 200 },
    );
  });

  it('come back from the middle of a larger buffer, at any alignment', () => {
    fc.assert(
      fc.property(batch, fc.integer({ min: 1, max: 9 }), (one, shift) => {
        const bytes = encodeBatch(one);
        const larger = Buffer.alloc(bytes.length + 20, 0xaa);
        larger.set(bytes, shift);
        expect(decodeBatch(larger.subarray(shift, shift + bytes.length))).toStrictEqual(one);
      }),
    );
  });

  it('that are damaged fail as PROTOCOL or give another batch that could have been sent', () => {
    fc.assert(
      fc.property(batch, fc.array(damage, { minLength: 1, maxLength: 3 }), (one, damages) => {
        const bytes = damages.reduce(
          (all, how) => (all.length === 0 ? all : damaged(all, how)),
          encodeBatch(one) as Uint8Array,
        );
        const result = attempt(() => decodeBatch(bytes));
        if (result !== undefined) expect(decodeBatch(encodeBatch(result))).toStrictEqual(result);
      }),
      { numRuns: 400 },
    );
  });

  it('that are cut anywhere fail', () => {
    fc.assert(
      fc.property(batch, fc.nat(), (one, at) => {
        const bytes = encodeBatch(one);
        expect(attempt(() => decodeBatch(bytes.subarray(0, at % bytes.length)))).toBeUndefined();
      }),
      { numRuns: 200 },
    );
  });

  it('made of noise fail', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        (noise) => void attempt(() => decodeBatch(Uint8Array.of(1, ...noise))),
      ),
      {
        numRuns: 400,
      },
    );
  });
});

describe('columns', () => {
  it('come back exactly when they are long enough to make the buffer grow', () => {
    fc.assert(
      fc.property(
        fc.array(sqlValue, { minLength: 1, maxLength: 5 }),
        fc.integer({ min: 1, max: 4000 }),
        (some, rows) => {
          const values = Array.from({ length: rows }, (_, i) => some[i % some.length]!);
          const writer = new ByteWriter();
          writeValues(writer, { values }, 'values');
          expect(readValues(new ByteReader(writer.finish()), rows, 2 ** 24, 'values')).toStrictEqual({ values });
        },
      ),
      { numRuns: 60 },
    );
  });

  it('integers come back from any packing', () => {
    const step = fc.constantFrom(0, 1, -1, 200, 60_000, 2 ** 31, 2 ** 33);
    const jitter = fc.constantFrom(0, 1, 255, 256, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32);
    const list = fc
      .tuple(fc.integer(), step, fc.array(jitter, { minLength: 1, maxLength: 3 }), fc.nat(100))
      .map(([first, by, jitters, length]) =>
        Array.from({ length }, (_, i) => first + i * by + jitters[i % jitters.length]!),
      );
    fc.assert(
      fc.property(list, (values) => {
        const writer = new ByteWriter();
        writer.integers(values, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, 'values');
        const reader = new ByteReader(writer.finish());
        const read = reader.integers(values.length, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, 'values');
        reader.end();
        expect(read).toEqual(values);
      }),
      { numRuns: 500 },
    );
  });
});

describe('frames', () => {
  it('come back exactly', () => {
    fc.assert(
      fc.property(frame, (one) => void expect(decodeFrame(bytesOf(one))).toEqual(one)),
      { numRuns: 200 },
    );
  });

  it('that are damaged fail as PROTOCOL or give another frame that could have been sent', () => {
    fc.assert(
      fc.property(frame, damage, (one, how) => {
        const result = attempt(() => decodeFrame(damaged(bytesOf(one), how)));
        if (result !== undefined) expect(decodeFrame(bytesOf(result))).toEqual(result);
      }),
      { numRuns: 400 },
    );
  });

  it('made of any well-formed MessagePack fail as PROTOCOL', () => {
    const plain = fc.object({
      key: fc.oneof(fc.string(), fc.constantFrom('cursor', 'knowledge', 'runs', 'hlc', 'answer', 'kind', 'tables')),
    });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 12 }), plain, (type, value) => {
        const fields = JSON.parse(JSON.stringify(value)) as Parameters<typeof pack>[0];
        if (type !== 4) attempt(() => decodeFrame(Uint8Array.of(type, ...pack(fields))));
      }),
    );
  });

  it('MessagePack of noise fails as PROTOCOL or gives plain data', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (noise) => void attempt(() => unpack(noise))),
      { numRuns: 400 },
    );
  });
});
