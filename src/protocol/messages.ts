/**
 * The control messages of a session, one schema each. A schema bounds everything: lengths, counts, ranges. `hello` and
 * `refuse` take no offence at fields that they do not know, so that a later version can still say who it is or why it leaves.
 */
import { z } from 'zod';
import { MAX_BATCH_COLUMNS, MAX_BATCH_TABLES, MAX_NAME_BYTES } from './batch.ts';
import { knowledgeFault } from './knowledge.ts';
import { RUN_BYTES } from './stamp.ts';
import type { KnowledgeWire } from './types.ts';

/** Characters of a device's name. */
export const MAX_DEVICE_NAME = 256;

/** Characters of a peer id. */
const MAX_DEVICE_ID = 128;

/** Characters of a reason in words. */
export const MAX_REASON = 2000;

/** Bytes of batches on their way: 1 GiB, more than any link holds and still a number that cannot overflow anything. */
export const MAX_CREDIT = 1024 * 1024 * 1024;

/** Rows of one bucket of a table (a 256th of it): tables up to 50 million rows can be compared, in 25 MB. */
export const MAX_INSPECTED_ROWS = 200_000;

/** Buckets of a table: one for each value of a UUID's last byte. */
export const BUCKETS = 256;

/** Hex digits of ids and hashes: 512 bits at most. */
const hex = z
  .string()
  .max(128)
  .regex(/^(?:[0-9a-f]{2})+$/);
const run = z
  .string()
  .length(2 * RUN_BYTES)
  .regex(/^[0-9a-f]+$/);
/** lsn, ms, ids of requests: zod's `int` keeps to ±(2^53 − 1). */
const natural = z.int().min(0);
const tableName = z
  .string()
  .min(1)
  .max(MAX_NAME_BYTES)
  .refine((name) => name !== '__proto__');
const digest = z.string().max(128);
const cursor = z.strictObject({ position: natural, head: natural, run });

/** Checked by one loop of ours: a zod schema an item costs too much with tens of thousands of runs. */
const knowledge = z
  .strictObject({
    runs: z.instanceof(Uint8Array),
    hlc: z.custom<number[]>((value) => Array.isArray(value), { abort: true }),
  })
  .refine((wire: KnowledgeWire) => knowledgeFault(wire) === null);

export const hello = z.object({
  protocol: natural,
  library: hex,
  name: z.string().max(MAX_DEVICE_NAME),
  schema: hex,
  clock: natural,
  knowledge: hex,
  // Another version's hello may lack it, and is answered all the same.
  floor: knowledge.default({ runs: new Uint8Array(), hlc: [] }),
  load: natural.default(0),
});

const columnName = tableName;
const columnNames = z.array(columnName).max(MAX_BATCH_COLUMNS);

const column = z.strictObject({
  name: columnName,
  kind: z.enum(['value', 'ref', 'rowid']),
  target: z.string().max(MAX_NAME_BYTES),
  type: z.enum(['INTEGER', 'TEXT', 'BLOB', 'REAL', 'NUMERIC']),
  notNull: z.boolean(),
  policy: z.string().max(MAX_NAME_BYTES),
  absent: z.boolean(),
});

const table = z.strictObject({
  name: tableName,
  ownership: z.enum(['shared', 'device']),
  ownedBy: z.string().max(MAX_NAME_BYTES),
  identity: columnNames.nullable(),
  key: columnNames,
  collations: z.array(z.string().max(MAX_NAME_BYTES)).max(MAX_BATCH_COLUMNS),
  columns: z
    .array(column)
    .max(MAX_BATCH_COLUMNS)
    .refine((columns) => hasDistinctNames(columns)),
  foreignKeys: z
    .array(
      z.strictObject({
        columns: columnNames,
        table: tableName,
        targets: columnNames,
        onDelete: z.string().max(64),
      }),
    )
    .max(MAX_BATCH_COLUMNS),
  absent: z.boolean(),
});

export const schema = z.strictObject({
  tables: z
    .array(table)
    .max(MAX_BATCH_TABLES)
    .refine((tables) => hasDistinctNames(tables)),
});

function hasDistinctNames(items: ReadonlyArray<{ readonly name: string }>): boolean {
  return new Set(items.map(({ name }) => name)).size === items.length;
}

export const refuse = z.object({ code: z.string().max(64), message: z.string().max(MAX_REASON) });

export const want = z.strictObject({
  pass: z.enum(['ordinary', 'newcomer', 'reconcile']),
  cursor: cursor.nullable(),
  knowledge: knowledge.nullable(),
  records: hex,
  credit: z.int().min(1).max(MAX_CREDIT),
});

export const ack = z.strictObject({
  cursor,
  complete: z.boolean(),
  credit: z.int().min(0).max(MAX_CREDIT),
  knowledge,
});

export const keep = z.strictObject({ needed: z.boolean() });

export const rest = z.strictObject({ rests: z.boolean() });

export const offer = z.strictObject({ knowledge });

/** Members that one message may speak of. */
export const MAX_HEARD = 1000;

export const heard = z.strictObject({
  members: z
    .array(z.strictObject({ device: z.string().min(1).max(MAX_DEVICE_ID), at: natural, knowledge, whole: z.boolean() }))
    .max(MAX_HEARD),
});

/** Bytes of a chunk of a snapshot, the last one excepted: what libp2p sends fastest, and 16 of them are a granted credit. */
export const CHUNK_BYTES = 256 * 1024;

/** Bytes of a snapshot: 1 TiB, beyond any library of one person's. */
const MAX_SNAPSHOT_BYTES = 2 ** 40;

export const fetch = z.strictObject({ layout: hex });

/** `bytes` 0: there is none, the feed is to be asked for. */
export const snapshot = z.strictObject({
  id: hex,
  bytes: z.int().min(0).max(MAX_SNAPSHOT_BYTES),
  hash: hex,
  rows: natural,
});

export const part = z.strictObject({ id: hex, offset: z.int().min(0).max(MAX_SNAPSHOT_BYTES) });

export const inspect = z.strictObject({
  id: natural,
  query: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('tables') }),
    z.strictObject({ kind: z.literal('buckets'), table: tableName }),
    z.strictObject({
      kind: z.literal('rows'),
      table: tableName,
      bucket: z
        .int()
        .min(0)
        .max(BUCKETS - 1),
    }),
  ]),
});

/** Tables travel as a list, not as a map: names from outside are never keys while they are unchecked. */
export const inspected = z.strictObject({
  id: natural,
  answer: z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('tables'),
      tables: z
        .array(z.tuple([tableName, natural, digest]))
        .max(MAX_BATCH_TABLES)
        .refine((tables) => new Set(tables.map(([name]) => name)).size === tables.length),
    }),
    z.strictObject({ kind: z.literal('buckets'), digests: z.array(digest).max(BUCKETS) }),
    z.strictObject({
      kind: z.literal('rows'),
      rows: z.array(z.tuple([z.string().max(64), digest])).max(MAX_INSPECTED_ROWS),
    }),
  ]),
});

export const bye = z.object({ reason: z.string().max(MAX_REASON) });
