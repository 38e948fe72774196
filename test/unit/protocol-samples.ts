/** One small batch with everything in it, and one frame of each type: what the wire tests are about. */
import { encodeFrame } from '../../src/protocol/frames.ts';
import { packRuns } from '../../src/protocol/stamp.ts';
import type { Batch, Frame } from '../../src/protocol/types.ts';

export const RUN_A = '0a'.repeat(16);
export const RUN_B = 'b0'.repeat(16);

const HLC = 1_767_225_600_000_000;

/** 4 UUIDs: entries 0 to 2 and location 3. */
export const sampleBatch: Batch = {
  runs: packRuns([RUN_A, RUN_B]),
  runDevices: ['12D3KooWSample', ''],
  uuids: Uint8Array.from({ length: 64 }, (_, i) => i),
  birthHlc: [HLC, HLC + 1, HLC + 2, HLC - 1000],
  birthRun: [0, 0, 0, 1],
  uuidTable: [0, 0, 0, 1],
  names: ['entries', 'locations'],
  tables: [
    {
      table: 'entries',
      rows: [0, 1],
      hlc: [HLC + 5, HLC + 9],
      run: [0, 1],
      columns: [
        { kind: 'ref', name: 'parent_id', refs: [-1, 0] },
        { kind: 'ref', name: 'location_id', refs: [3, 3] },
        { kind: 'value', name: 'name', values: ['a\0b', '\u{1F600}'] },
        { kind: 'value', name: 'size', values: [0, 70_000] },
        { kind: 'value', name: 'score', values: [-0, 1.5] },
        { kind: 'value', name: 'big', values: [2n ** 63n - 1n, 5n] },
        { kind: 'value', name: 'hash', values: [Uint8Array.of(1, 2, 3), new Uint8Array(0)] },
        { kind: 'value', name: 'note', values: [null, null] },
        { kind: 'value', name: 'any', values: [5, 'x'], ints: Uint8Array.of(1, 0) },
      ],
      dependencies: [{ foreignKey: 2, refs: [3, -1] }],
      cells: { row: [0, 1, 1], column: [2, 3, 3], hlc: [HLC + 5, HLC + 9, HLC + 8], run: [0, 1, 0] },
      registers: {
        row: [0, 1, 1],
        column: [4, 4, 4],
        hlc: [HLC + 5, HLC + 9, HLC + 7],
        run: [0, 1, 0],
        values: [3, -0.5, 2n ** 63n - 1n],
        ints: Uint8Array.of(1, 0, 1),
      },
    },
  ],
  tombstones: [
    { table: 'entries', rows: [2], hlc: [HLC + 7], run: [1], alias: [0], seen: { row: [0], hlc: [HLC + 4], run: [0] } },
  ],
  end: {
    cursor: { position: 41, head: 42, run: RUN_A },
    complete: true,
    knowledge: { runs: packRuns([RUN_A, RUN_B]), hlc: [HLC + 9, HLC] },
    remaining: 0,
  },
};

const cursor = { position: 41, head: 2 ** 40, run: RUN_A };

export const sampleFrames: Readonly<Record<string, Frame>> = {
  hello: {
    type: 'hello',
    protocol: 1,
    library: '07'.repeat(16),
    name: 'Bücherei',
    schema: 'ab'.repeat(32),
    clock: 1_767_225_600_000,
    knowledge: 'cd'.repeat(32),
    head: { lsn: 2 ** 40, run: RUN_A },
    floor: 'ef'.repeat(16),
    heard: '12'.repeat(16),
    load: 3,
  },
  schema: {
    type: 'schema',
    schema: {
      tables: [
        {
          name: 'entries',
          ownership: 'device',
          ownedBy: 'parent_id',
          identity: ['parent_id', 'name'],
          key: ['id'],
          collations: ['BINARY'],
          columns: [
            { name: 'id', kind: 'rowid', target: '', type: 'INTEGER', notNull: false, policy: '', absent: false },
            {
              name: 'parent_id',
              kind: 'ref',
              target: 'entries',
              type: 'INTEGER',
              notNull: false,
              policy: '',
              absent: false,
            },
            { name: 'note', kind: 'value', target: '', type: 'TEXT', notNull: true, policy: 'max', absent: true },
          ],
          foreignKeys: [{ columns: ['parent_id'], table: 'entries', targets: ['id'], onDelete: 'CASCADE' }],
          absent: false,
        },
      ],
    },
  },
  floor: { type: 'floor', floor: { runs: packRuns([RUN_A]), hlc: [HLC] } },
  refuse: { type: 'refuse', code: 'NOT_A_MEMBER', message: 'Who are you?' },
  want: {
    type: 'want',
    pass: 'reconcile',
    cursor,
    knowledge: { runs: packRuns([RUN_A]), hlc: [HLC] },
    records: 'abab',
    credit: 4_194_304,
    isOver: false,
  },
  'want from nothing': {
    type: 'want',
    pass: 'newcomer',
    cursor: null,
    knowledge: null,
    records: '00',
    credit: 1,
    isOver: false,
  },
  'want of nothing new': {
    type: 'want',
    pass: 'ordinary',
    cursor: { ...cursor, position: cursor.head },
    knowledge: null,
    records: 'abab',
    credit: 4_194_304,
    isOver: true,
  },
  batch: { type: 'batch', data: Uint8Array.of(1, 2, 3) },
  ack: { type: 'ack', cursor, complete: true, credit: 70_000, knowledge: { runs: packRuns([RUN_A]), hlc: [HLC] } },
  keep: { type: 'keep', needed: false },
  has: { type: 'has', data: Uint8Array.of(7, 8) },
  rest: { type: 'rest', rests: true },
  offer: { type: 'offer', knowledge: { runs: packRuns([RUN_A]), hlc: [HLC] } },
  heard: {
    type: 'heard',
    members: [
      { device: 'peer', at: 1_767_225_600_000, knowledge: { runs: packRuns([RUN_A]), hlc: [HLC] }, whole: true },
      { device: 'other', at: 0, knowledge: { runs: new Uint8Array(), hlc: [] }, whole: false },
    ],
  },
  fetch: { type: 'fetch', layout: 'ab'.repeat(32) },
  snapshot: { type: 'snapshot', id: '0b'.repeat(16), bytes: 56_000_000, hash: 'ef'.repeat(32), rows: 337_682 },
  part: { type: 'part', id: '0b'.repeat(16), offset: 262_144 },
  chunk: { type: 'chunk', data: Uint8Array.of(4, 5, 6) },
  'inspect tables': { type: 'inspect', id: 1, query: { kind: 'tables' } },
  'inspect buckets': { type: 'inspect', id: 2, query: { kind: 'buckets', table: 'entries' } },
  'inspect rows': { type: 'inspect', id: 3, query: { kind: 'rows', table: 'entries', bucket: 255 } },
  'inspected tables': {
    type: 'inspected',
    id: 1,
    answer: { kind: 'tables', tables: { entries: { rows: 2, digest: 'aa' }, constructor: { rows: 0, digest: '' } } },
  },
  'inspected buckets': { type: 'inspected', id: 2, answer: { kind: 'buckets', digests: ['aa', 'bb'] } },
  'inspected rows': { type: 'inspected', id: 3, answer: { kind: 'rows', rows: [['00', 'ff']] } },
  bye: { type: 'bye', reason: 'stopped' },
};

/** A frame as the bytes that a peer gets. */
export function bytesOf(frame: Frame): Uint8Array {
  const encoded = encodeFrame(frame);
  return encoded instanceof Uint8Array ? encoded : new Uint8Array(Buffer.concat(encoded));
}
