/**
 * Frames: what crosses a session's stream, one length-prefixed message each. A type byte, then MessagePack of the fields (`layout.ts`) for
 * control frames; batches, chunks and lists of stamps as they are: they are never looked into nor copied here.
 */
import * as v from 'valibot';
import { FlotillaError, messageOf } from '../errors.ts';
import { MAX_BATCH_BYTES } from './batch.ts';
import { damaged } from './bytes.ts';
import { fromWire, toWire } from './layout.ts';
import * as messages from './messages.ts';
import { pack, type Plain, unpack } from './msgpack.ts';
import { MAX_STAMPS_BYTES } from './stamp-set.ts';
import type { Frame, InspectionAnswer } from './types.ts';

/**
 * Version of the session's protocol, sent in `hello`. History:
 * 1: hello, schema, floor, refuse, fetch, snapshot, part, chunk, want, batch (format 1), ack, keep, has, rest, offer, heard, inspect, inspected, bye.
 */
export const PROTOCOL_VERSION = 1;

/** Bytes of the longest frame: 32 MiB. The greatest batch and its type byte; a peer that announces more is cut off before it sends it. */
export const MAX_FRAME_BYTES = MAX_BATCH_BYTES + 1;

/** First byte of each frame. */
export const FRAME_TYPES = {
  hello: 1,
  refuse: 2,
  want: 3,
  batch: 4,
  ack: 5,
  inspect: 6,
  inspected: 7,
  bye: 8,
  offer: 9,
  keep: 10,
  has: 11,
  schema: 12,
  heard: 13,
  fetch: 14,
  snapshot: 15,
  part: 16,
  chunk: 17,
  rest: 18,
  floor: 19,
} as const;

const KIB = 1024;
const MIB = 1024 * KIB;

/**
 * Bytes of a frame of each type, its type byte included. Control frames are read on the main thread, so they are as short as what
 * they may hold; `refuse` and `bye` have room for fields of later versions.
 */
export const FRAME_BYTES: Readonly<Record<Frame['type'], number>> = {
  /** With room for fields of later versions. */
  hello: 16 * KIB,
  /** It names as many runs as a knowledge. */
  floor: 4 * MIB,
  refuse: 16 * KIB,
  bye: 16 * KIB,
  keep: KIB,
  /** After a whole pass it says all that has become known. */
  ack: 4 * MIB,
  offer: 4 * MIB,
  /** One member's knowledge, or several small ones. */
  heard: 4 * MIB,
  /** A name of 1,024 characters. */
  inspect: 8 * KIB,
  /** A knowledge of 100,000 runs has 2.5 MB. */
  want: 4 * MIB,
  /** 20,000 columns with short names. */
  schema: 8 * MIB,
  /** 200,000 rows of a bucket, 130 bytes each. */
  inspected: MAX_FRAME_BYTES,
  batch: MAX_FRAME_BYTES,
  fetch: KIB,
  snapshot: KIB,
  part: KIB,
  chunk: messages.CHUNK_BYTES + 1,
  has: MAX_STAMPS_BYTES + 1,
  rest: KIB,
};

const BYTES_BY_TYPE = new Map(
  Object.entries(FRAME_TYPES).map(([name, type]) => [type as number, FRAME_BYTES[name as Frame['type']]]),
);

/** Frames whose content is bytes as they are, by their first byte. */
const RAW = new Map<number, 'batch' | 'chunk' | 'has'>([
  [FRAME_TYPES.batch, 'batch'],
  [FRAME_TYPES.chunk, 'chunk'],
  [FRAME_TYPES.has, 'has'],
]);

/** How long a frame may be, by its first byte; 0 for one that is of no type. */
export function frameLimit(first: number): number {
  return BYTES_BY_TYPE.get(first) ?? 0;
}

/**
 * @returns one array of bytes, or for bytes as they are two: the type, and `data` itself, not copied
 * @throws FlotillaError PROTOCOL when the receiver would refuse it
 */
export function encodeFrame(frame: Frame): Uint8Array | Uint8Array[] {
  const type = FRAME_TYPES[frame.type];
  if ('data' in frame) {
    const most = FRAME_BYTES[frame.type] - 1;
    if (frame.data.length > most) damaged(`A ${frame.type} of ${frame.data.length} bytes is larger than ${most}.`);
    return [Uint8Array.of(type), frame.data];
  }
  const fields = pack(toFields(frame));
  checkSize(type, fields.length + 1);
  const bytes = new Uint8Array(1 + fields.length);
  bytes[0] = type;
  bytes.set(fields, 1);
  return bytes;
}

/**
 * Reads a frame. Its `data`, if it has any, is a view of `bytes`.
 *
 * @throws FlotillaError PROTOCOL for whatever {@link encodeFrame} does not write, and nothing else
 */
export function decodeFrame(bytes: Uint8Array): Frame {
  try {
    return readFrame(bytes);
  } catch (error) {
    if (error instanceof FlotillaError) throw error;
    throw new FlotillaError('PROTOCOL', `A frame could not be read: ${messageOf(error)}`, { cause: error });
  }
}

function readFrame(bytes: Uint8Array): Frame {
  const type = bytes[0];
  if (type === undefined) damaged('A frame is empty.');
  checkSize(type, bytes.length);
  const raw = RAW.get(type);
  if (raw !== undefined) {
    const data = new Uint8Array(bytes.buffer, bytes.byteOffset + 1, bytes.byteLength - 1);
    return { type: raw, data };
  }
  const fields = bytes.subarray(1);
  switch (type) {
    case FRAME_TYPES.hello:
      return { type: 'hello', ...taken(messages.hello, fields, 'hello') };
    case FRAME_TYPES.schema:
      return { type: 'schema', schema: taken(messages.schema, fields, 'schema') };
    case FRAME_TYPES.floor:
      return { type: 'floor', ...taken(messages.floor, fields, 'floor') };
    case FRAME_TYPES.refuse:
      return { type: 'refuse', ...taken(messages.refuse, fields, 'refuse') };
    case FRAME_TYPES.want:
      return { type: 'want', ...taken(messages.want, fields, 'want') };
    case FRAME_TYPES.ack:
      return { type: 'ack', ...taken(messages.ack, fields, 'ack') };
    case FRAME_TYPES.keep:
      return { type: 'keep', ...taken(messages.keep, fields, 'keep') };
    case FRAME_TYPES.rest:
      return { type: 'rest', ...taken(messages.rest, fields, 'rest') };
    case FRAME_TYPES.offer:
      return { type: 'offer', ...taken(messages.offer, fields, 'offer') };
    case FRAME_TYPES.heard:
      return { type: 'heard', ...taken(messages.heard, fields, 'heard') };
    case FRAME_TYPES.fetch:
      return { type: 'fetch', ...taken(messages.fetch, fields, 'fetch') };
    case FRAME_TYPES.snapshot:
      return { type: 'snapshot', ...taken(messages.snapshot, fields, 'snapshot') };
    case FRAME_TYPES.part:
      return { type: 'part', ...taken(messages.part, fields, 'part') };
    case FRAME_TYPES.inspect:
      return { type: 'inspect', ...taken(messages.inspect, fields, 'inspect') };
    case FRAME_TYPES.inspected:
      return fromInspected(taken(messages.inspected, fields, 'inspected'));
    case FRAME_TYPES.bye:
      return { type: 'bye', ...taken(messages.bye, fields, 'bye') };
    default:
      return damaged(`A frame has the unknown type ${type}.`);
  }
}

/** Frames of an unknown type are named as such later. */
function checkSize(type: number, bytes: number): void {
  const limit = BYTES_BY_TYPE.get(type);
  if (limit !== undefined && bytes > limit) damaged(`A frame of ${bytes} bytes is larger than ${limit}.`);
}

/**
 * What travels of a control frame, checked. Words for people are cut to what fits; whatever else does not fit is a fault of ours.
 */
function toFields(frame: Exclude<Frame, { data: Uint8Array }>): Plain {
  const { type, ...fields } = frame;
  switch (frame.type) {
    case 'refuse':
      return written(messages.refuse, { ...fields, message: frame.message.slice(0, messages.MAX_REASON) }, type);
    case 'bye':
      return written(messages.bye, { reason: frame.reason.slice(0, messages.MAX_REASON) }, type);
    case 'inspected':
      return written(messages.inspected, { id: frame.id, answer: toAnswer(frame.answer) }, type);
    case 'hello':
      return written(messages.hello, fields, type);
    case 'schema':
      return written(messages.schema, frame.schema, type);
    case 'floor':
      return written(messages.floor, fields, type);
    case 'want':
      return written(messages.want, fields, type);
    case 'ack':
      return written(messages.ack, fields, type);
    case 'keep':
      return written(messages.keep, fields, type);
    case 'rest':
      return written(messages.rest, fields, type);
    case 'offer':
      return written(messages.offer, fields, type);
    case 'heard':
      return written(messages.heard, fields, type);
    case 'fetch':
      return written(messages.fetch, fields, type);
    case 'snapshot':
      return written(messages.snapshot, fields, type);
    case 'part':
      return written(messages.part, fields, type);
    case 'inspect':
      return written(messages.inspect, fields, type);
  }
}

/** The fields that have come. */
function taken<Schema extends v.GenericSchema>(schema: Schema, bytes: Uint8Array, type: string): v.InferOutput<Schema> {
  return check(schema, fromWire(schema, unpack(bytes)), type);
}

/** The fields that go. */
function written(schema: v.GenericSchema, fields: unknown, type: string): Plain {
  return toWire(schema, check(schema, fields, type));
}

/** Runs a schema and names what does not fit, without repeating what the peer sent. */
function check<Schema extends v.GenericSchema>(schema: Schema, value: unknown, type: string): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const path = result.issues[0].path ?? [];
  const place =
    path.length === 0
      ? ''
      : ` at ${path
          .slice(0, 3)
          .map(({ key }) => String(key))
          .join('.')}`;
  return damaged(`A ${type} message has the wrong form${place}.`);
}

type InspectedFields = v.InferOutput<typeof messages.inspected>;

function toAnswer(answer: InspectionAnswer): unknown {
  if (answer.kind !== 'tables') return answer;
  const tables = Object.entries(answer.tables).map(([name, { rows, digest }]) => [name, rows, digest]);
  return { kind: 'tables', tables };
}

/** The answer as callers know it. Without a prototype, so that a table named `constructor` is found only if it is there. */
function fromInspected({ id, answer }: InspectedFields): Frame {
  if (answer.kind !== 'tables') return { type: 'inspected', id, answer };
  const tables = Object.create(null) as Record<string, { rows: number; digest: string }>;
  for (const [name, rows, digest] of answer.tables) tables[name] = { rows, digest };
  return { type: 'inspected', id, answer: { kind: 'tables', tables } };
}
