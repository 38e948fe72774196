/**
 * The control messages of a session, one schema each. A schema bounds everything: lengths, counts, ranges. The order of its fields is that on
 * the wire (`layout.ts`). `hello`, `refuse` and `bye` take no offence at fields behind those that they know, so that a later version can still
 * say who it is or why it leaves.
 */
import * as v from 'valibot';
import { MAX_BATCH_COLUMNS, MAX_BATCH_TABLES, MAX_NAME_BYTES } from './batch.ts';
import { integer, list, text } from './forms.ts';
import { knowledgeFault } from './knowledge.ts';
import { hexBytes } from './layout.ts';
import { NO_RUN, RUN_BYTES } from './stamp.ts';

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

/** Ids and hashes: 512 bits at most. */
const hex = hexBytes(1, 64);
const run = hexBytes(RUN_BYTES);
/** lsn, ms, ids of requests. */
const natural = integer(0);
const name = text(MAX_NAME_BYTES);
const tableName = v.pipe(
  text(MAX_NAME_BYTES, 1),
  v.check((given) => given !== '__proto__'),
);
const digest = text(128);
const cursor = v.strictObject({ position: natural, head: natural, run });

/** Checked by one loop of ours: a schema an item costs too much with tens of thousands of runs. */
const knowledge = v.pipe(
  v.strictObject({ runs: v.instance(Uint8Array), hlc: v.custom<number[]>((value) => Array.isArray(value)) }),
  v.check((wire) => knowledgeFault(wire) === null),
);

export const hello = v.object({
  protocol: natural,
  library: hex,
  name: text(MAX_DEVICE_NAME),
  schema: hex,
  clock: natural,
  knowledge: hex,
  // Another version's hello may lack these, and is answered all the same.
  head: v.optional(v.strictObject({ lsn: natural, run }), () => ({ lsn: 0, run: NO_RUN })),
  floor: v.optional(hex, '00'),
  heard: v.optional(hex, '00'),
  load: v.optional(natural, 0),
});

const columnName = tableName;
const columnNames = list(columnName, MAX_BATCH_COLUMNS);

const column = v.strictObject({
  name: columnName,
  kind: v.picklist(['value', 'ref', 'rowid']),
  target: name,
  type: v.picklist(['INTEGER', 'TEXT', 'BLOB', 'REAL', 'NUMERIC']),
  notNull: v.boolean(),
  policy: name,
  absent: v.boolean(),
});

const table = v.strictObject({
  name: tableName,
  ownership: v.picklist(['shared', 'device']),
  ownedBy: name,
  identity: v.nullable(columnNames),
  key: columnNames,
  collations: list(name, MAX_BATCH_COLUMNS),
  columns: v.pipe(
    list(column, MAX_BATCH_COLUMNS),
    v.check((columns) => hasDistinctNames(columns)),
  ),
  foreignKeys: list(
    v.strictObject({
      columns: columnNames,
      table: tableName,
      targets: columnNames,
      onDelete: text(64),
    }),
    MAX_BATCH_COLUMNS,
  ),
  absent: v.boolean(),
});

export const schema = v.strictObject({
  tables: v.pipe(
    list(table, MAX_BATCH_TABLES),
    v.check((tables) => hasDistinctNames(tables)),
  ),
});

function hasDistinctNames(items: ReadonlyArray<{ readonly name: string }>): boolean {
  return new Set(items.map(({ name }) => name)).size === items.length;
}

export const floor = v.strictObject({ floor: knowledge });

export const refuse = v.object({ code: text(64), message: text(MAX_REASON) });

export const want = v.pipe(
  v.strictObject({
    pass: v.picklist(['ordinary', 'newcomer', 'reconcile']),
    cursor: v.nullable(cursor),
    knowledge: v.nullable(knowledge),
    records: hex,
    credit: integer(1, MAX_CREDIT),
    isOver: v.boolean(),
  }),
  v.check(
    ({ pass, cursor: at, knowledge: known, isOver }) =>
      !isOver || (pass === 'ordinary' && at !== null && at.position === at.head && known === null),
  ),
);

export const ack = v.strictObject({
  cursor,
  complete: v.boolean(),
  credit: integer(0, MAX_CREDIT),
  knowledge,
});

export const keep = v.strictObject({ needed: v.boolean() });

export const rest = v.strictObject({ rests: v.boolean() });

export const offer = v.strictObject({ knowledge });

/** Members that one message may speak of. */
export const MAX_HEARD = 1000;

export const heard = v.strictObject({
  members: list(
    v.strictObject({ device: text(MAX_DEVICE_ID, 1), at: natural, knowledge, whole: v.boolean() }),
    MAX_HEARD,
  ),
});

/** Bytes of a chunk of a snapshot, the last one excepted: what libp2p sends fastest, and 16 of them are a granted credit. */
export const CHUNK_BYTES = 256 * 1024;

/** Bytes of a snapshot: 1 TiB, beyond any library of one person's. */
const MAX_SNAPSHOT_BYTES = 2 ** 40;

export const fetch = v.strictObject({ layout: hex });

/** `bytes` 0: there is none, the feed is to be asked for. */
export const snapshot = v.strictObject({
  id: hex,
  bytes: integer(0, MAX_SNAPSHOT_BYTES),
  hash: hex,
  rows: natural,
});

export const part = v.strictObject({ id: hex, offset: integer(0, MAX_SNAPSHOT_BYTES) });

export const inspect = v.strictObject({
  id: natural,
  query: v.variant('kind', [
    v.strictObject({ kind: v.literal('tables') }),
    v.strictObject({ kind: v.literal('buckets'), table: tableName }),
    v.strictObject({
      kind: v.literal('rows'),
      table: tableName,
      bucket: integer(0, BUCKETS - 1),
    }),
  ]),
});

/** Tables travel as a list, not as a map: names from outside are never keys while they are unchecked. */
export const inspected = v.strictObject({
  id: natural,
  answer: v.variant('kind', [
    v.strictObject({
      kind: v.literal('tables'),
      tables: v.pipe(
        list(v.strictTuple([tableName, natural, digest]), MAX_BATCH_TABLES),
        v.check((tables) => new Set(tables.map(([name]) => name)).size === tables.length),
      ),
    }),
    v.strictObject({ kind: v.literal('buckets'), digests: list(digest, BUCKETS) }),
    v.strictObject({
      kind: v.literal('rows'),
      rows: list(v.strictTuple([text(64), digest]), MAX_INSPECTED_ROWS),
    }),
  ]),
});

export const bye = v.object({ reason: text(MAX_REASON) });
