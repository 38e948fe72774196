/**
 * The wire, byte by byte. A test that fails here says: peers that run the released version will not understand this one. If
 * that is meant, raise PROTOCOL_VERSION or BATCH_FORMAT, add to their history, and only then change the bytes below.
 */
import { createHash } from 'node:crypto';
import { toJsonSchema } from '@valibot/to-json-schema';
import { describe, expect, it } from 'vitest';
import { BATCH_FORMAT, decodeBatch, encodeBatch } from '../../src/protocol/batch.ts';
import { decodeFrame, PROTOCOL_VERSION } from '../../src/protocol/frames.ts';
import * as messages from '../../src/protocol/messages.ts';
import { bytesOf, sampleBatch, sampleFrames } from './protocol-samples.ts';

const BATCH =
  '01020000000a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0ab0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b00e000000313244334b6f6f5753' +
  '616d706c65000000000200000007000000656e7472696573090000006c6f636174696f6e7304000000000102030405060708' +
  '090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a' +
  '3b3c3d3e3f0260f08018211d1943e803e903ea03000001000000000000000000000001010000000000000000000000010100' +
  '0000000000000200000001000000000000000000010114008118211d19430004010000000000000000000109000000090000' +
  '00706172656e745f69640101000000000000f0bf00010b0000006c6f636174696f6e5f696401000000000000000840040000' +
  '006e616d650003010000000000000040010007000000610062f09f9880000400000073697a65000100040000000000000000' +
  '0000000070110100000500000073636f72650001010000000000000080000000000000f83f00030000006269670002ffffff' +
  'ffffffff7f05000000000000000004000000686173680004010000000000000000030001020300040000006e6f7465000000' +
  '03000000616e79000501030000000000000000144000000000000000f03f0100000078010100010000000200000001000000' +
  '000000f0bf0400030000000100000000000000000001010114008118211d1943000403010000000000000000000100010000' +
  '00000000004000010101030000000100000000000000000001010114008118211d1943000402010000000000000000000100' +
  '00000000000000104005010102010000000000000840000000000000e0bfffffffffffffff7f010100010100000000000000' +
  '01000000000000000000000040001c008118211d194300000000000000f03f00000000000000000001000000000000000000' +
  '0000000010008118211d1943000000000000000000000000000080444000000000000045400a0a0a0a0a0a0a0a0a0a0a0a0a' +
  '0a0a0a010000000000000000020000000a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0ab0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b00100' +
  '008118211d19430900';

const FRAMES: Readonly<Record<string, string>> = {
  hello:
    '019a01c41007070707070707070707070707070707a942c3bc636865726569c420ababababababababababababababababab' +
    'abababababababababababababababcb4279b76daa800000c420cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd' +
    'cdcdcdcdcdcdcdcd92cb4270000000000000c4100a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0ac410efefefefefefefefefefefef' +
    'efefefefc4101212121212121212121212121212121203',
  schema:
    '0c919199a7656e7472696573a6646576696365a9706172656e745f696492a9706172656e745f6964a46e616d6591a2696491' +
    'a642494e4152599397a26964a5726f776964a0a7494e5445474552c2a0c297a9706172656e745f6964a3726566a7656e7472' +
    '696573a7494e5445474552c2a0c297a46e6f7465a576616c7565a0a454455854c3a36d6178c3919491a9706172656e745f69' +
    '64a7656e747269657391a26964a743415343414445c2',
  floor: '139192c4100a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a91cb43191d2118810000',
  refuse: '0292ac4e4f545f415f4d454d424552ac57686f2061726520796f753f',
  want:
    '0396a97265636f6e63696c659329cb4270000000000000c4100a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a92c4100a0a0a0a0a0a' +
    '0a0a0a0a0a0a0a0a0a0a91cb43191d2118810000c402ababce00400000c2',
  'want from nothing': '0396a86e6577636f6d6572c0c0c4010001c2',
  'want of nothing new':
    '0396a86f7264696e61727993cb4270000000000000cb4270000000000000c4100a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0ac0c4' +
    '02ababce00400000c3',
  batch: '04010203',
  ack:
    '05949329cb4270000000000000c4100a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0ac3ce0001117092c4100a0a0a0a0a0a0a0a0a0a' +
    '0a0a0a0a0a0a91cb43191d2118810000',
  keep: '0a91c2',
  has: '0b0708',
  rest: '1291c3',
  offer: '099192c4100a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a91cb43191d2118810000',
  heard:
    '0d919294a470656572cb4279b76daa80000092c4100a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a91cb43191d2118810000c394a5' +
    '6f746865720092c40090c2',
  fetch: '0e91c420abababababababababababababababababababababababababababababababab',
  snapshot:
    '0f94c4100b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0bce03567e00c420efefefefefefefefefefefefefefefefefefefefefefef' +
    'efefefefefefefefefce00052712',
  part: '1092c4100b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0bce00040000',
  chunk: '11040506',
  'inspect tables': '06920181a46b696e64a67461626c6573',
  'inspect buckets': '06920282a46b696e64a76275636b657473a57461626c65a7656e7472696573',
  'inspect rows': '06920383a46b696e64a4726f7773a57461626c65a7656e7472696573a66275636b6574ccff',
  'inspected tables':
    '07920182a46b696e64a67461626c6573a67461626c65739293a7656e747269657302a2616193ab636f6e7374727563746f72' + '00a0',
  'inspected buckets': '07920282a46b696e64a76275636b657473a76469676573747392a26161a26262',
  'inspected rows': '07920382a46b696e64a4726f7773a4726f77739192a23030a26666',
  bye: '0891a773746f70706564',
};

/** SHA-256 of the schemas of all messages: fields, types and limits. (A new release of the library may spell them anew: compare, then change it.) */
const SCHEMAS = 'd4137f52dfa5edbda36746fac3f7778996abcc8307e00cdc16db5317fb7eb31a';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('the wire', () => {
  it('has these versions', () => {
    expect([PROTOCOL_VERSION, BATCH_FORMAT]).toEqual([1, 1]);
  });

  it('a batch is these bytes, and these bytes are that batch', () => {
    expect(hex(encodeBatch(sampleBatch))).toBe(BATCH);
    expect(decodeBatch(new Uint8Array(Buffer.from(BATCH, 'hex')))).toStrictEqual(sampleBatch);
  });

  it('has a sample of every frame', () => {
    expect(Object.keys(FRAMES)).toEqual(Object.keys(sampleFrames));
    const types = new Set(Object.values(sampleFrames).map((frame) => frame.type));
    expect([...types].toSorted()).toEqual(
      [...Object.keys(messages).filter((name) => /^[a-z]+$/.test(name)), 'batch', 'chunk', 'has'].toSorted(),
    );
  });

  it.each(Object.entries(sampleFrames))('%s is these bytes, and these bytes are that frame', (name, frame) => {
    expect(hex(bytesOf(frame))).toBe(FRAMES[name]);
    expect(decodeFrame(new Uint8Array(Buffer.from(FRAMES[name]!, 'hex')))).toEqual(frame);
  });

  it('messages have these fields and limits', () => {
    const schemas = Object.entries(messages).flatMap(([name, schema]) =>
      typeof schema === 'object' ? [[name, toJsonSchema(schema, { errorMode: 'ignore', typeMode: 'input' })]] : [],
    );
    expect(createHash('sha256').update(JSON.stringify(schemas)).digest('hex')).toBe(SCHEMAS);
  });
});
