/** Frames: batches pass uncopied, control frames are bounded, hostile ones are a FlotillaError PROTOCOL. */
import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import { MAX_BATCH_BYTES } from '../../src/protocol/batch.ts';
import { decodeFrame, encodeFrame, FRAME_BYTES, frameLimit, MAX_FRAME_BYTES } from '../../src/protocol/frames.ts';
import { MAX_KNOWN_RUNS } from '../../src/protocol/knowledge.ts';
import { MAX_CREDIT, MAX_DEVICE_NAME, MAX_INSPECTED_ROWS, MAX_REASON } from '../../src/protocol/messages.ts';
import { MAX_ITEMS, pack, unpack } from '../../src/protocol/msgpack.ts';
import type { Frame } from '../../src/protocol/types.ts';
import { bytesOf, RUN_A, sampleFrames } from './protocol-samples.ts';

const protocolError = expect.objectContaining({ name: 'FlotillaError', code: 'PROTOCOL' });
const HELLO = 1;
const REFUSE = 2;
const WANT = 3;
const ACK = 5;
const INSPECT = 6;
const INSPECTED = 7;
const BYE = 8;

/** A frame with any fields, as a hostile peer makes it. */
function forged(type: number, fields: unknown): Uint8Array {
  return Uint8Array.of(type, ...new Packr({ useRecords: false }).pack(fields));
}

/** The fields of a sample as they travel, with some of them changed. */
function fieldsOf(name: string, changes: Readonly<Record<string, unknown>> = {}): unknown[] {
  const { type: _type, ...fields } = sampleFrames[name]!;
  const wire = unpack(bytesOf(sampleFrames[name]!).subarray(1)) as readonly unknown[];
  const changed = Object.keys(fields).map((field, i) => (field in changes ? changes[field] : wire[i]));
  expect(Object.keys(fields)).toEqual(expect.arrayContaining(Object.keys(changes)));
  return changed;
}

describe('batch frames', () => {
  it('carry the batch without copying it, both ways', () => {
    const data = Uint8Array.of(1, 2, 3);
    const chunks = encodeFrame({ type: 'batch', data });
    expect(chunks).toEqual([Uint8Array.of(4), data]);
    expect((chunks as Uint8Array[])[1]).toBe(data);
    const bytes = Buffer.from([9, 4, 1, 2, 3]).subarray(1);
    const frame = decodeFrame(bytes);
    expect(frame).toStrictEqual({ type: 'batch', data });
    if (frame.type === 'batch') expect(frame.data.buffer).toBe(bytes.buffer);
  });

  it('hold the greatest batch and nothing greater', () => {
    expect(MAX_FRAME_BYTES).toBe(32 * 1024 * 1024);
    expect(() => encodeFrame({ type: 'batch', data: new Uint8Array(MAX_BATCH_BYTES) })).not.toThrow();
    expect(() => encodeFrame({ type: 'batch', data: new Uint8Array(MAX_BATCH_BYTES + 1) })).toThrow(protocolError);
    expect(() => decodeFrame(new Uint8Array(MAX_FRAME_BYTES + 1).fill(4))).toThrow(protocolError);
  });
});

describe('[H2] frames that ask for more than they may hold', () => {
  it('are as long as what their type may hold', () => {
    for (const [name, frame] of Object.entries(sampleFrames)) {
      const longer = new Uint8Array(FRAME_BYTES[frame.type] + 1);
      longer.set(bytesOf(frame));
      if (frame.type !== 'batch') expect(() => decodeFrame(longer), name).toThrow(protocolError);
      expect(frameLimit(longer[0] ?? 0), name).toBe(FRAME_BYTES[frame.type]);
    }
    expect(frameLimit(250)).toBe(0);
  });

  it('have at most so many items, and maps count for more', () => {
    const list = (item: number, count: number): Uint8Array => {
      const bytes = new Uint8Array(5 + count).fill(item);
      bytes[0] = 0xdd;
      new DataView(bytes.buffer).setUint32(1, count);
      return bytes;
    };
    expect(unpack(list(0xc0, MAX_ITEMS))).toHaveLength(MAX_ITEMS);
    expect(() => unpack(list(0xc0, MAX_ITEMS + 1))).toThrow(protocolError);
    expect(() => unpack(list(0x80, MAX_ITEMS / 10))).toThrow(protocolError);
    expect(() => pack(Array.from({ length: MAX_ITEMS + 1 }, () => null))).toThrow(protocolError);
  });
});

describe('control frames', () => {
  it('have the same bytes whatever the order of their fields', () => {
    const { type, cursor, complete, credit, knowledge } = sampleFrames['ack'] as Extract<Frame, { type: 'ack' }>;
    expect(bytesOf({ knowledge, credit, complete, cursor, type })).toEqual(bytesOf(sampleFrames['ack']!));
  });

  it('cut reasons to what fits instead of failing', () => {
    expect(decodeFrame(bytesOf({ type: 'bye', reason: 'x'.repeat(10_000) }))).toEqual({
      type: 'bye',
      reason: 'x'.repeat(MAX_REASON),
    });
    const refuse = decodeFrame(bytesOf({ type: 'refuse', code: 'C', message: 'x'.repeat(10_000) }));
    expect(refuse).toEqual({ type: 'refuse', code: 'C', message: 'x'.repeat(MAX_REASON) });
  });

  it('hello and refuse of a later version are still understood', () => {
    expect(decodeFrame(forged(HELLO, [...fieldsOf('hello', { protocol: 7 }), ['offer']]))).toEqual({
      ...sampleFrames['hello'],
      protocol: 7,
    });
    expect(decodeFrame(forged(REFUSE, [...fieldsOf('refuse'), 1]))).toEqual(sampleFrames['refuse']);
    expect(decodeFrame(forged(BYE, [...fieldsOf('bye'), 1]))).toEqual(sampleFrames['bye']);
  });

  it('a hello of an earlier version lacks what it does not know', () => {
    const {
      head: _head,
      floor: _floor,
      load: _load,
      ...rest
    } = sampleFrames['hello'] as Extract<Frame, { type: 'hello' }>;
    expect(decodeFrame(forged(HELLO, fieldsOf('hello').slice(0, 6)))).toEqual({
      ...rest,
      head: { lsn: 0, run: '00'.repeat(16) },
      floor: '00',
      heard: '00',
      load: 0,
    });
  });

  it('carry the knowledge of very many runs', () => {
    const hlc = Array.from({ length: MAX_KNOWN_RUNS }, (_, i) => i);
    const frame: Frame = {
      type: 'want',
      pass: 'ordinary',
      cursor: null,
      knowledge: { runs: new Uint8Array(hlc.length * 16), hlc },
      records: '00',
      credit: 1,
      isOver: false,
    };
    const read = decodeFrame(bytesOf(frame));
    expect(read.type === 'want' && read.knowledge?.runs.length).toBe(hlc.length * 16);
    expect(read.type === 'want' && read.knowledge?.hlc.every((value, i) => value === i)).toBe(true);
  });

  it('tables named like members of Object are found only when they are there', () => {
    const frame = decodeFrame(bytesOf(sampleFrames['inspected tables']!));
    if (frame.type !== 'inspected' || frame.answer.kind !== 'tables') throw new Error('another frame came back');
    expect(frame.answer.tables['constructor']).toEqual({ rows: 0, digest: '' });
    expect(frame.answer.tables['toString']).toBeUndefined();
  });
});

describe('hostile frames', () => {
  const run = Buffer.from(RUN_A, 'hex');
  const sound: ReadonlyArray<readonly [number, unknown]> = [
    [HELLO, fieldsOf('hello')],
    [WANT, fieldsOf('want of nothing new')],
    [ACK, fieldsOf('ack')],
    [INSPECTED, [1, { kind: 'tables', tables: [['t', 1, 'aa']] }]],
  ];
  it.each(sound)('are none without a fault: type %i', (type, fields) => {
    expect(() => decodeFrame(forged(type, fields))).not.toThrow();
  });

  const hello = (changes: Record<string, unknown>): Uint8Array => forged(HELLO, fieldsOf('hello', changes));
  const want = (changes: Record<string, unknown>): Uint8Array => forged(WANT, fieldsOf('want', changes));
  const isOver = (changes: Record<string, unknown>): Uint8Array =>
    forged(WANT, fieldsOf('want of nothing new', changes));
  const ack = (changes: Record<string, unknown>): Uint8Array => forged(ACK, fieldsOf('ack', changes));
  const tables = (...list: unknown[]): unknown => [1, { kind: 'tables', tables: list }];
  it.each<[string, Uint8Array]>([
    ['nothing', new Uint8Array(0)],
    ['type 0', Uint8Array.of(0)],
    ['a type of the future', forged(250, [])],
    ['no fields', Uint8Array.of(HELLO)],
    ['a field missing', forged(ACK, fieldsOf('ack').slice(0, -1))],
    ['a field too many', forged(ACK, [...fieldsOf('ack'), 1])],
    ['very many fields', forged(HELLO, [...fieldsOf('hello'), ...new Array<number>(100).fill(1)])],
    ['a map for a list', forged(REFUSE, { code: 'C', message: 'm' })],
    ['a number for a text', hello({ name: 5 })],
    ['a name too long', hello({ name: 'x'.repeat(MAX_DEVICE_NAME + 1) })],
    ['a library id of no bytes', hello({ library: Buffer.alloc(0) })],
    ['a library id that is too long', hello({ library: Buffer.alloc(65) })],
    ['a library id in hex digits', hello({ library: '07'.repeat(16) })],
    ['a clock that is infinite', hello({ clock: Infinity })],
    ['a clock that is NaN', hello({ clock: Number.NaN })],
    ['a head without a run', hello({ head: [1] })],
    ['a reason too long', forged(REFUSE, ['C', 'x'.repeat(MAX_REASON + 1)])],
    ['no credit', want({ credit: 0 })],
    ['too much credit', want({ credit: MAX_CREDIT + 1 })],
    ['credit taken back', ack({ credit: -1 })],
    ['a position with a fraction', ack({ cursor: [1.5, 2, run] })],
    ['a position beyond 2^53', ack({ cursor: [2 ** 53, 2, run] })],
    ['a run that is too short', ack({ cursor: [1, 2, run.subarray(1)] })],
    ['a run that is too long', ack({ cursor: [1, 2, Buffer.concat([run, run])] })],
    ['knowledge that does not fit', want({ knowledge: [Buffer.alloc(16), []] })],
    ['knowledge that is no bytes', want({ knowledge: ['x'.repeat(16), [1]] })],
    ['knowledge that is no list', want({ knowledge: [Buffer.alloc(16), 'x'] })],
    ['knowledge that is a map', want({ knowledge: [Buffer.alloc(16), { length: 1 }] })],
    ['a pass that is over, from nowhere', isOver({ cursor: null })],
    ['a pass that is over, in the middle of a feed', isOver({ cursor: [1, 2, run] })],
    ['a pass that is over, with other knowledge', isOver({ knowledge: [Buffer.alloc(0), []] })],
    ['a pass that is over, and compares all', isOver({ pass: 'reconcile' })],
    ['an unknown inspection', forged(INSPECT, [1, { kind: 'everything' }])],
    ['a bucket that is none', forged(INSPECT, [1, { kind: 'rows', table: 't', bucket: 256 }])],
    ['a table named __proto__', forged(INSPECT, [1, { kind: 'buckets', table: '__proto__' }])],
    ['an answer about __proto__', forged(INSPECTED, tables(['__proto__', 1, 'aa']))],
    ['an answer that names a table twice', forged(INSPECTED, tables(['t', 1, 'aa'], ['t', 1, 'aa']))],
    ['too many digests', forged(INSPECTED, [1, { kind: 'buckets', digests: new Array(257).fill('aa') }])],
  ])('%s', (_name, bytes) => {
    expect(() => decodeFrame(bytes)).toThrow(protocolError);
  });

  it('too many rows of a bucket', () => {
    const rows = new Array<[string, string]>(MAX_INSPECTED_ROWS + 1).fill(['00', '00']);
    const fields = pack([1, { kind: 'rows', rows }]);
    const bytes = new Uint8Array(1 + fields.length);
    bytes.set(fields, 1);
    bytes[0] = INSPECTED;
    expect(() => decodeFrame(bytes)).toThrow(protocolError);
  });

  it('what they say is not repeated in the error', () => {
    const bytes = forged(HELLO, fieldsOf('hello', { clock: 'secret-text' }));
    expect(() => decodeFrame(bytes)).toThrow(
      expect.not.objectContaining({ message: expect.stringContaining('secret') }),
    );
  });

  it('we do not send what the other side would refuse', () => {
    expect(() =>
      encodeFrame({
        type: 'want',
        pass: 'ordinary',
        cursor: null,
        knowledge: null,
        records: '00',
        credit: -1,
        isOver: false,
      }),
    ).toThrow(protocolError);
    expect(() =>
      encodeFrame({
        ...(sampleFrames['hello'] as Extract<Frame, { type: 'hello' }>),
        library: 'x',
      }),
    ).toThrow(protocolError);
  });
});

describe('MessagePack', () => {
  it('reads what msgpackr writes, in all sizes', () => {
    const value = {
      numbers: [
        0,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        2 ** 32 - 1,
        2 ** 32,
        -1,
        -32,
        -33,
        -128,
        -129,
        -32_769,
        -(2 ** 31),
        1.5,
        2 ** 53 - 1,
      ],
      texts: [
        '',
        'x'.repeat(31),
        'x'.repeat(32),
        'x'.repeat(256),
        'x'.repeat(65_536),
        'ü\u{1F600}\0',
        `\uFEFF${'x'.repeat(99)}`,
      ],
      bytes: [new Uint8Array(0), new Uint8Array(256)],
      lists: [[], new Array<null>(16).fill(null)],
      more: [null, true, false, { nested: { deeper: [] } }],
    };
    expect(unpack(pack(value))).toEqual(value);
    expect(unpack(pack(new Array<number>(65_536).fill(1)))).toHaveLength(65_536);
    expect(unpack(pack(new Uint8Array(65_536)))).toHaveLength(65_536);
    const wide = Object.fromEntries(Array.from({ length: 65_536 }, (_, i) => [`k${i}`, i]));
    expect(Object.keys(unpack(pack(wide)) as object)).toHaveLength(65_536);
  });

  it.each([
    ['a date', new Date(0)],
    ['a set', new Set([1])],
    ['a regular expression', /x/],
    ['an error', new Error('x')],
    ['a bigint', 2n ** 60n],
    ['undefined', undefined],
  ])('%s is refused: no class and no extension is ever made', (_name, value) => {
    expect(() => unpack(new Packr({ useRecords: false, moreTypes: true }).pack([value]))).toThrow(protocolError);
  });

  it('records, which msgpackr compiles to functions, are refused', () => {
    expect(() => unpack(new Packr({ useRecords: true }).pack([{ a: 1 }]))).toThrow(protocolError);
  });

  it.each([
    ['__proto__ as a key', [0x81, 0xa9, ...Buffer.from('__proto__'), 0x80]],
    ['a key twice', [0x82, 0xa1, 0x61, 0x01, 0xa1, 0x61, 0x02]],
    ['a number as a key', [0x81, 0x01, 0x01]],
    ['a list longer than the message', [0xdd, 0xff, 0xff, 0xff, 0xff]],
    ['a map longer than the message', [0xdf, 0xff, 0xff, 0xff, 0xff]],
    ['a text longer than the message', [0xdb, 0xff, 0xff, 0xff, 0xff]],
    ['bytes longer than the message', [0xc6, 0xff, 0xff, 0xff, 0xff]],
    ['broken UTF-8', [0xa1, 0xff]],
    ['lists in lists without end', new Array<number>(100_000).fill(0x91)],
    ['the type that is never used', [0xc1]],
    ['two values', [0x01, 0x02]],
    ['a float32', [0xca, 0, 0, 0, 0]],
  ])('%s is refused', (_name, bytes) => {
    expect(() => unpack(Uint8Array.from(bytes))).toThrow(protocolError);
    expect(Object.keys(Object.prototype)).toEqual([]);
  });
});
