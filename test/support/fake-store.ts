/**
 * A store in memory with the promises of the real one that the actors lean on: a feed in lsn order, cursors, knowledge
 * that grows by complete passes only, apply that is idempotent. Rows are ids; batches are JSON.
 */
import { createHash } from 'node:crypto';

import type {
  Applied,
  Change,
  ConflictList,
  FeedOpened,
  FeedPage,
  HeadListener,
  LibraryInfo,
  LibraryStatus,
  MemberRow,
  PassBegun,
  PassWish,
  Revoked,
  SessionStart,
  SnapshotOffer,
  TakenSnapshot,
} from '../../src/db/api.ts';
import type { NodeStore } from '../../src/actors/database.ts';
import { CHUNK_BYTES } from '../../src/protocol/messages.ts';
import type { SchemaDescription } from '../../src/protocol/schema.ts';
import { encodeStamps, StampSet } from '../../src/protocol/stamp-set.ts';
import type {
  Cursor,
  Head,
  HeardWire,
  Inspection,
  InspectionAnswer,
  KnowledgeWire,
  PassKind,
} from '../../src/protocol/types.ts';

interface Row {
  readonly id: string;
  readonly run: string;
  readonly hlc: number;
  readonly member?: MemberRow;
}

const NOTHING: KnowledgeWire = { runs: new Uint8Array(), hlc: [] };

interface FakeBatch {
  readonly rows: readonly Row[];
  readonly cursor: Cursor;
  readonly complete: boolean;
  readonly remaining: number;
  readonly knowledge: ReadonlyArray<readonly [run: string, hlc: number]>;
  readonly padding: string;
}

interface Feed {
  position: number;
  /** True when the last batch was complete. */
  passEnded: boolean;
  readonly known: Map<string, number>;
  readonly has: StampSet;
}

interface Gathered {
  readonly offer: SnapshotOffer;
  bytes: Buffer;
}

export interface FakeStoreOptions {
  readonly libraryId?: string;
  readonly schema?: string;
  readonly members?: readonly MemberRow[];
  /** Bytes that each row adds to a batch, or to a snapshot. @default 0 */
  readonly rowBytes?: number;
  /** Asks for a snapshot while it has no rows. @default false */
  readonly takesSnapshots?: boolean;
}

export class FakeStore implements NodeStore {
  readonly device: string;
  readonly #options: FakeStoreOptions;
  readonly #run: string;
  /** By lsn. */
  readonly #log: Array<Row & { lsn: number }> = [];
  readonly #ids = new Map<string, Row>();
  readonly #knowledge = new Map<string, number>();
  readonly #cursors = new Map<string, Cursor>();
  readonly #feeds = new Map<number, Feed>();
  readonly #listeners = new Set<HeadListener>();
  readonly #schemaListeners = new Set<(changes: readonly string[]) => void>();
  readonly #memberListeners = new Set<() => void>();
  /** What it has been told of others' tables. */
  /** It has stamped in the future. */
  isAhead = false;
  readonly learned: SchemaDescription[] = [];
  schema: SchemaDescription = { tables: [] };
  floor: KnowledgeWire = NOTHING;
  /** What it was told of the floors of peers. */
  readonly floors: KnowledgeWire[] = [];
  #lastFeed = 0;
  #head = 0;
  #hlc = 0;
  /** What peers ACKed, in order. */
  readonly acks: Array<{ readonly peer: string; readonly cursor: Cursor; readonly complete: boolean }> = [];
  readonly priorities: string[] = [];
  /** Awaited before each apply. */
  beforeApply: (peer: string) => Promise<void> = async () => {};
  applying = 0;
  pages = 0;
  closed = false;

  constructor(device: string, options: FakeStoreOptions = {}) {
    this.device = device;
    this.#options = options;
    this.#run = Buffer.from(device.padEnd(16, '_').slice(0, 16)).toString('hex');
    for (const member of options.members ?? [])
      this.#insert({ id: `member ${member.device}`, run: '00'.repeat(16), hlc: 1, member });
    if (this.#head > 0) this.#knowledge.set('00'.repeat(16), 1);
  }

  get openFeeds(): number {
    return this.#feeds.size;
  }

  get listening(): number {
    return this.#listeners.size;
  }

  ids(): string[] {
    return [...this.#ids.keys()].filter((id) => !id.startsWith('member ')).toSorted();
  }

  /** Local writes. */
  write(...ids: string[]): void {
    for (const id of ids) this.#insert(this.#stamped(id));
    this.#grown();
  }

  /** So many rows come from a peer, with what it has stamped. */
  grow(rows: number, from: string): void {
    for (let i = 0; i < rows; i += 1) this.#insert({ id: `${from} ${this.#head}`, run: '00'.repeat(16), hlc: 0 });
    this.#grown(from);
  }

  #stamped(id: string, member?: MemberRow): Row {
    this.#hlc += 1;
    this.#knowledge.set(this.#run, this.#hlc);
    return { id, run: this.#run, hlc: this.#hlc, ...(member === undefined ? {} : { member }) };
  }

  #insert(row: Row): void {
    this.#head += 1;
    this.#ids.set(row.id, row);
    this.#log.push({ ...row, lsn: this.#head });
  }

  #grown(from: string | null = null): void {
    for (const listener of this.#listeners) listener(this.#head, from);
  }

  async info(): Promise<LibraryInfo> {
    return {
      libraryId: this.#options.libraryId ?? 'ab'.repeat(16),
      schema: this.#options.schema ?? 'schema',
      tables: ['rows'],
    };
  }

  async stamp(): Promise<{ head: number; stamped: number }> {
    return { head: this.#head, stamped: 0 };
  }

  async stampAnew(): Promise<boolean> {
    const { isAhead } = this;
    this.isAhead = false;
    return isAhead;
  }

  async learnSchema(schema: SchemaDescription): Promise<void> {
    this.learned.push(schema);
  }

  onSchema(listener: (changes: readonly string[]) => void): () => void {
    this.#schemaListeners.add(listener);
    return () => this.#schemaListeners.delete(listener);
  }

  /** Has another schema from now on. */
  changeSchema(schema: SchemaDescription): void {
    this.schema = schema;
    for (const listener of this.#schemaListeners) listener(['The table "other" is new.']);
  }

  async sessionStart(peer: string): Promise<SessionStart> {
    const entries = [...this.#knowledge].toSorted(([a], [b]) => (a < b ? -1 : 1));
    return {
      knowledge: wireOf(entries),
      knowledgeHash: JSON.stringify(entries),
      head: { lsn: this.#head, run: this.#run },
      floor: this.floor,
      heardHash: '00',
      floorHash: JSON.stringify(this.floor.hlc),
      cursor: this.#cursors.get(peer) ?? null,
      schema: this.schema,
      schemaHash: this.schema.tables.length === 0 ? 'schema' : JSON.stringify(this.schema),
      isAhead: this.isAhead,
    };
  }

  async apply(peer: string, pages: readonly Uint8Array[], priority = 'live'): Promise<readonly Applied[]> {
    const all: Applied[] = [];
    for (const page of pages) all.push(await this.applyOne(peer, page, priority));
    return all;
  }

  async applyOne(peer: string, data: Uint8Array, priority: string): Promise<Applied> {
    this.priorities.push(priority);
    this.applying += 1;
    try {
      await this.beforeApply(peer);
      const batch = JSON.parse(Buffer.from(data).toString()) as FakeBatch;
      const fresh = batch.rows.filter((row) => !this.#ids.has(row.id));
      for (const row of fresh) this.#insert(row);
      this.#cursors.set(peer, batch.cursor);
      if (batch.complete) {
        for (const [run, hlc] of batch.knowledge)
          this.#knowledge.set(run, Math.max(hlc, this.#knowledge.get(run) ?? 0));
      }
      if (fresh.length > 0) this.#grown(peer);
      if (fresh.some(({ member }) => member !== undefined)) for (const listener of this.#memberListeners) listener();
      const { cursor, complete, remaining, rows } = batch;
      const knowledge = complete ? wireOf(batch.knowledge) : null;
      return {
        cursor,
        complete,
        remaining,
        rows: rows.length,
        changed: fresh.length,
        waitingCount: 0,
        knowledge,
        said: complete ? wireOf([...this.#knowledge]) : NOTHING,
        refused: [],
      };
    } finally {
      this.applying -= 1;
    }
  }

  async beginPass(peer: string, floor: KnowledgeWire, { maySnapshot, isItsTurn }: PassWish): Promise<PassBegun | null> {
    this.floors.push(floor);
    const isWanted = this.#options.takesSnapshots === true && maySnapshot && this.ids().length === 0;
    if (isWanted && !isItsTurn) return null;
    const { cursor, knowledge, knowledgeHash } = await this.sessionStart(peer);
    return {
      pass: 'ordinary',
      cursor,
      knowledge,
      knowledgeHash,
      records: '00',
      snapshot: isWanted ? { layout: 'aa' } : null,
    };
  }

  async concludePass(peer: string, { lsn, run }: Head): Promise<Applied> {
    const cursor = { position: lsn, head: lsn, run };
    const page: FakeBatch = { rows: [], cursor, complete: true, remaining: 0, knowledge: [], padding: '' };
    const [applied] = await this.apply(peer, [new Uint8Array(Buffer.from(JSON.stringify(page)))]);
    return { ...(applied as Applied), said: NOTHING };
  }

  /** The snapshot that it gives. */
  given: { readonly offer: SnapshotOffer; readonly bytes: Buffer } | null = null;
  /** The one that it gathers; it is kept over sessions. */
  gathered: Gathered | null = null;
  readonly #gathered = new Map<string, Gathered>();
  /** Chunks that were read out of the one that it gives. */
  chunksGiven = 0;
  /** Awaited before a snapshot is made. */
  beforeOffer: () => Promise<void> = async () => {};
  /** Awaited before each chunk is read out. */
  beforePart: () => Promise<void> = async () => {};
  /** Snapshots that were not what they should be. */
  unfit = 0;

  async offerSnapshot(_peer: string, _layout: string, leastRows: number): Promise<SnapshotOffer | null> {
    await this.beforeOffer();
    if (this.#log.length < leastRows) return null;
    if (this.given === null) {
      const cursor = { position: this.#head, head: this.#head, run: this.#run };
      const text = JSON.stringify({ rows: this.#log, cursor, knowledge: [...this.#knowledge] });
      const bytes = Buffer.from(text.padEnd(text.length + this.#log.length * (this.#options.rowBytes ?? 0)));
      const offer = {
        id: Buffer.from(this.device).toString('hex'),
        bytes: bytes.length,
        hash: hashOf(bytes),
        rows: this.#log.length,
      };
      this.given = { offer, bytes };
    }
    return this.given.offer;
  }

  async snapshotPart(_peer: string, id: string, offset: number): Promise<{ data: ArrayBuffer }> {
    if (this.given?.offer.id !== id) throw new Error('there is no such snapshot');
    this.chunksGiven += 1;
    await this.beforePart();
    return { data: new Uint8Array(this.given.bytes.subarray(offset, offset + CHUNK_BYTES)).buffer };
  }

  async beginSnapshot(_peer: string, offer: SnapshotOffer): Promise<number> {
    this.gathered = this.#gathered.get(offer.id) ?? { offer, bytes: Buffer.alloc(0) };
    this.#gathered.set(offer.id, this.gathered);
    return this.gathered.bytes.length;
  }

  async addToSnapshot(_peer: string, data: Uint8Array): Promise<void> {
    if (this.gathered !== null) this.gathered.bytes = Buffer.concat([this.gathered.bytes, data]);
  }

  async takeSnapshot(peer: string): Promise<TakenSnapshot | null> {
    const { bytes, offer } = this.gathered ?? { bytes: Buffer.alloc(0), offer: null };
    this.gathered = null;
    if (hashOf(bytes) !== offer?.hash) {
      this.unfit += 1;
      return null;
    }
    const { rows, cursor, knowledge } = JSON.parse(bytes.toString()) as Pick<
      FakeBatch,
      'rows' | 'cursor' | 'knowledge'
    >;
    for (const row of rows) this.#insert(row);
    for (const [run, hlc] of knowledge) this.#knowledge.set(run, hlc);
    this.#cursors.set(peer, cursor);
    this.#grown();
    return { rows: rows.length };
  }

  async hear(): Promise<void> {
    // What others know is of no use here.
  }

  async hearOfOthers(): Promise<void> {
    // Nor what they have heard.
  }

  async heardNews(): Promise<readonly HeardWire[]> {
    return [];
  }

  async change(): Promise<Change> {
    return { stamps: [{ run: this.#run, hlc: this.#head }] };
  }

  async holders(): Promise<readonly string[]> {
    return [];
  }

  async acked(peer: string, cursor: Cursor, complete: boolean): Promise<void> {
    this.acks.push({ peer, cursor, complete });
  }

  /** Of each device what was said last. */
  async members(): Promise<MemberRow[]> {
    const last = new Map<string, Row>();
    for (const row of this.#ids.values()) {
      const { member, hlc } = row;
      if (member !== undefined && hlc >= (last.get(member.device)?.hlc ?? 0)) last.set(member.device, row);
    }
    return [...last.values()].flatMap((row) => (row.member === undefined ? [] : [row.member]));
  }

  async admit(device: string, name: string): Promise<void> {
    this.#sayMember({ device, name, invitedBy: this.device, addedAt: 0, revoked: null });
  }

  async revoke(device: string): Promise<Revoked> {
    const known = (await this.members()).find((member) => member.device === device);
    if (known !== undefined) this.#sayMember({ ...known, revoked: { by: this.device, at: 0 } });
    return { device, name: known?.name ?? '', changed: known !== undefined };
  }

  #sayMember(member: MemberRow): void {
    this.#hlc = Math.max(this.#hlc, ...[...this.#ids.values()].map(({ hlc }) => hlc));
    this.#insert(this.#stamped(`member ${member.device} ${this.#hlc}`, member));
    this.#grown();
    for (const listener of this.#memberListeners) listener();
  }

  onMembers(listener: () => void): () => void {
    this.#memberListeners.add(listener);
    return () => this.#memberListeners.delete(listener);
  }

  async own(): Promise<never> {
    throw new Error('the fake store owns nothing');
  }

  async openFeed(
    _peer: string,
    cursor: Cursor | null,
    knowledge: KnowledgeWire | null,
    _pass: PassKind = 'ordinary',
    _records = '',
    isOver = false,
  ): Promise<FeedOpened> {
    const resumed = cursor !== null && cursor.run === this.#run && cursor.head <= this.#head;
    const position = resumed ? cursor.position : 0;
    const known = new Map(knowledge === null ? this.#knowledge : entriesOf(knowledge));
    this.#lastFeed += 1;
    this.#feeds.set(this.#lastFeed, { position, passEnded: isOver && resumed, known, has: new StampSet() });
    const total = this.#log.filter((row) => row.lsn > position).length;
    return { feed: this.#lastFeed, resumed, total, isOver: isOver && resumed };
  }

  async page(id: number, limits: { readonly rows: number; readonly bytes: number }): Promise<FeedPage> {
    const feed = this.#feeds.get(id);
    if (feed === undefined) throw new Error(`no feed ${id}`);
    this.pages += 1;
    const rowBytes = this.#options.rowBytes ?? 0;
    const most = Math.min(limits.rows, rowBytes === 0 ? Infinity : Math.max(1, Math.floor(limits.bytes / rowBytes)));
    const ahead = this.#log.filter((row) => row.lsn > feed.position).slice(0, most);
    feed.position = ahead.at(-1)?.lsn ?? feed.position;
    const rows = ahead.filter((row) => row.hlc > (feed.known.get(row.run) ?? 0) && !feed.has.has(row.run, row.hlc));
    const remaining = this.#head - feed.position;
    const complete = remaining === 0;
    // Whatever was sent, the last batch of it says that it was the last.
    const nothing = rows.length === 0 && (!complete || feed.passEnded);
    if (complete || rows.length > 0) feed.passEnded = complete;
    if (nothing) return { data: null, rows: 0, complete, remaining, head: this.#head, heldUp: '' };
    const batch: FakeBatch = {
      rows: rows.map(({ id: rowId, run, hlc, member }) => ({
        id: rowId,
        run,
        hlc,
        ...(member === undefined ? {} : { member }),
      })),
      cursor: { position: feed.position, head: this.#head, run: this.#run },
      complete,
      remaining,
      knowledge: complete ? [...this.#knowledge] : [],
      padding: 'x'.repeat(rowBytes * rows.length),
    };
    const data = new Uint8Array(Buffer.from(JSON.stringify(batch))).buffer;
    return { data, rows: rows.length, complete, remaining, head: this.#head, heldUp: '' };
  }

  async closeFeed(feed: number): Promise<void> {
    this.#feeds.delete(feed);
  }

  async peerKnows(id: number, knowledge: KnowledgeWire): Promise<void> {
    const known = this.#feeds.get(id)?.known;
    for (const [run, hlc] of entriesOf(knowledge)) known?.set(run, Math.max(hlc, known.get(run) ?? 0));
  }

  async peerHas(id: number, stamps: Uint8Array): Promise<void> {
    this.#feeds.get(id)?.has.add(stamps);
  }

  async stampsBeyond(): Promise<readonly Uint8Array[]> {
    const beyond = new Map<string, number[]>();
    for (const { run, hlc } of this.#log)
      if (hlc > (this.#knowledge.get(run) ?? 0)) beyond.set(run, [...(beyond.get(run) ?? []), hlc]);
    return encodeStamps(beyond);
  }

  async inspect(query: Inspection): Promise<InspectionAnswer> {
    const digest = this.ids().join(',');
    if (query.kind === 'tables') return { kind: 'tables', tables: { rows: { rows: this.ids().length, digest } } };
    if (query.kind === 'buckets') return { kind: 'buckets', digests: [digest] };
    return { kind: 'rows', rows: this.ids().map((id) => [id, id] as const) };
  }

  async status(): Promise<LibraryStatus> {
    throw new Error('not part of the fake');
  }

  async check(): Promise<{ foreignKeyViolations: readonly string[]; integrity: readonly string[] }> {
    return { foreignKeyViolations: [], integrity: [] };
  }

  async conflicts(): Promise<ConflictList> {
    return { conflicts: [], total: 0, unrestored: 0 };
  }

  async restoreConflict(): Promise<never> {
    throw new Error('not part of the fake');
  }

  async joinGrant(): Promise<never> {
    throw new Error('not part of the fake');
  }

  onHead(listener: HeadListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function wireOf(entries: ReadonlyArray<readonly [run: string, hlc: number]>): KnowledgeWire {
  return {
    runs: new Uint8Array(Buffer.from(entries.map(([run]) => run).join(''), 'hex')),
    hlc: entries.map(([, hlc]) => hlc),
  };
}

function entriesOf(knowledge: KnowledgeWire): Array<[run: string, hlc: number]> {
  return knowledge.hlc.map((hlc, index) => [
    Buffer.from(knowledge.runs.slice(index * 16, index * 16 + 16)).toString('hex'),
    hlc,
  ]);
}
