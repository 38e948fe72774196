/**
 * What the database workers offer to the rest, as one interface. `actors/` talks to it through the database actor; tests
 * may drive it in one thread. Everything that crosses it can be structured-cloned; batches are byte arrays that move.
 */
import type { SchemaDescription } from '../protocol/schema.ts';
import type {
  Cursor,
  Head,
  HeardWire,
  Inspection,
  InspectionAnswer,
  KnowledgeWire,
  PassKind,
} from '../protocol/types.ts';

export type { FaultPoint } from './fault-points.ts';

/** What `init` found out about one table. */
export interface TableReport {
  readonly table: string;
  readonly syncs: boolean;
  /** Why it does not sync; '' if it does. */
  readonly reason: string;
  readonly ownership: 'shared' | 'device';
  /** In words: `uuid v7`, `derived from (entry_id, tag_id)`, `column uuid`. */
  readonly identity: string;
  /** `column → table`, one each. */
  readonly references: readonly string[];
  readonly localColumns: readonly string[];
  readonly rows: number;
}

/** What `init` did. */
export interface InitReport {
  readonly libraryId: string;
  readonly tables: readonly TableReport[];
  /** Rows that were there before and are stamped now. */
  readonly stampedRows: number;
  /** False when the library had been initialised before and nothing was changed. */
  readonly created: boolean;
}

/** Something that a person should know about a file, or mend. */
export interface Finding {
  /** `refusal`: `init` (or `up`) refuses the file because of it. `problem`: it is wrong as it is. `advice`: it works, but perhaps not as one thinks. */
  readonly level: 'refusal' | 'problem' | 'advice';
  /** What kind of finding, for programs: `no-primary-key`, `foreign-key-index`, … */
  readonly rule: string;
  /** Table, view or other object that it is about; '' for the file. */
  readonly table: string;
  /** What is so, and what to do, for people. */
  readonly message: string;
}

/** What `doctor` found. */
export interface Examination {
  readonly initialised: boolean;
  /** '' unless it is initialised. */
  readonly libraryId: string;
  /** True when there is no refusal and no problem. */
  readonly ok: boolean;
  /** What syncs and what does not; empty when that cannot be told. */
  readonly tables: readonly TableReport[];
  readonly findings: readonly Finding[];
}

/** Fixed facts of an open library. */
export interface LibraryInfo {
  readonly libraryId: string;
  /** Hash of the synced schema, hex. */
  readonly schema: string;
  readonly tables: readonly string[];
}

export interface MemberRow {
  /** Peer id. */
  readonly device: string;
  readonly name: string;
  /** Peer id of the device that let it in; '' for the founder. */
  readonly invitedBy: string;
  /** ms since 1970. */
  readonly addedAt: number;
  /** Who ended its membership (it itself, if it left), and when (ms since 1970); null while it is a member. */
  readonly revoked: { readonly by: string; readonly at: number } | null;
}

/** What became of a device whose membership was to end. */
export interface Revoked {
  /** Peer id. */
  readonly device: string;
  readonly name: string;
  /** False when it was no member any more, and nothing was done. */
  readonly changed: boolean;
}

/** Gives an owned row to a member. */
export interface OwnRequest {
  readonly table: string;
  /** The row's primary key as text (several columns: as a JSON array), or its UUID. */
  readonly key: string;
  /** Peer id or name of the new owner; null for this device. */
  readonly device: string | null;
}

/** What became of a row that was given to a member. */
export interface Owned {
  readonly table: string;
  /** UUID of the row, hex with dashes. */
  readonly uuid: string;
  /** Peer id of its owner from now on. */
  readonly device: string;
  /** Peer id of its owner before, as far as this device knew; '' if it knew of none. */
  readonly previous: string;
  /** False when it was the owner already, and nothing was done. */
  readonly changed: boolean;
}

/** Counters: of what came in since the library was initialised (kept in it), of what went out since the node started. */
export interface Counters {
  readonly batchesIn: number;
  readonly batchesOut: number;
  /** UUID → id queries while applying. */
  readonly lookupsIn: number;
  /** id → UUID queries while reading pages. */
  readonly lookupsOut: number;
  readonly rowsIn: number;
  readonly rowsOut: number;
}

/** A version that cannot stand in the tables yet, or a delete that cannot be carried out yet. */
export interface WaitingRow {
  readonly table: string;
  /** hex with dashes */
  readonly uuid: string;
  readonly reason:
    | 'missing-target'
    | 'dead-target'
    | 'referrers'
    | 'unique'
    | 'constraint'
    | 'not-owner'
    | 'no-table'
    | 'cycle';
  /** One sentence for people. */
  readonly detail: string;
}

/** A value as it is shown to people. */
export interface ShownValue {
  readonly type: 'null' | 'integer' | 'real' | 'text' | 'blob' | 'reference';
  /** Cut where it is long; a blob in hex; a reference as the row that it means. */
  readonly text: string;
  /** Characters of the whole text, bytes of the whole blob; 0 for other types. */
  readonly size: number;
}

/** A row as people know it. */
export interface RowName {
  /** hex with dashes */
  readonly uuid: string;
  /** Its key here; '' while it is not in the table. */
  readonly key: string;
  /** A text that it holds, such as a name; '' if it has none. */
  readonly text: string;
}

/** One side of a conflict. */
export interface ConflictSide {
  /** What stood in the column; null when the record is about a whole row. */
  readonly value: ShownValue | null;
  /** Peer id of the device that wrote it; '' while nobody told us. */
  readonly device: string;
  /** Name of that device as a member; '' if it is none. */
  readonly name: string;
  /** When it was written, ms since 1970, by that device's clock. */
  readonly at: number;
}

/** A record of something that a person wrote and that was discarded or changed. */
export interface ConflictRecord {
  readonly id: number;
  readonly table: string;
  readonly row: RowName;
  /** null: the whole row. */
  readonly column: string | null;
  /** The values of a whole row that was lost; null where a column was, or where what was lost is its delete. */
  readonly columns: Readonly<Record<string, ShownValue>> | null;
  readonly lost: ConflictSide;
  readonly kept: ConflictSide;
  /** Name of the rule by which it was decided. */
  readonly rule: string;
  /** The same in words. */
  readonly reason: string;
  /** When it was recorded here, ms since 1970. */
  readonly at: number;
  /** When it was restored, ms since 1970; null if it was not. */
  readonly restoredAt: number | null;
}

export interface ConflictQuery {
  /** Only those of this table. @default all */
  readonly table?: string;
  /** The latest so many. @default 100 */
  readonly limit?: number;
}

/** The latest records of conflicts, newest first. */
export interface ConflictList {
  readonly conflicts: readonly ConflictRecord[];
  /** How many there are in all (of the table, if one is asked for). */
  readonly total: number;
  /** How many of them were not restored. */
  readonly unrestored: number;
}

/** What `restore` did. */
export interface RestoredConflict {
  readonly id: number;
  readonly table: string;
  readonly row: RowName;
  readonly column: string | null;
  /** The row was deleted again: its delete had been undone. */
  readonly isDelete: boolean;
}

/** What `status` shows of the library. */
export interface LibraryStatus {
  readonly libraryId: string;
  readonly tables: ReadonlyArray<{
    readonly table: string;
    readonly ownership: 'shared' | 'device';
    readonly rows: number;
  }>;
  readonly rows: number;
  readonly tombstones: number;
  readonly pruning: PruningStatus;
  readonly waiting: readonly WaitingRow[];
  /** How many wait in all (`waiting` lists at most 100). */
  readonly waitingCount: number;
  /** Records of conflicts that were not restored. */
  readonly conflicts: number;
  /** Marks that are not stamped yet. */
  readonly unstamped: number;
  readonly head: number;
  readonly counters: Counters;
  /** Bytes of metadata other than row identities (design: section 4). */
  readonly coordinationBytes: number;
  /** Those that are members now. */
  readonly members: readonly MemberRow[];
  /** Records of membership that are kept but do not count: their signers are no members. */
  readonly uncountedRecords: number;
  /** By peer id: how far it has ACKed our feed. */
  readonly acks: Readonly<
    Record<string, { readonly position: number; readonly complete: boolean; readonly at: number }>
  >;
}

/** How a pass may begin. */
export interface PassWish {
  /** False where the peer was asked for a snapshot already. */
  readonly maySnapshot: boolean;
  /** Whose turn it is gives alone: a first pass, or one that reconciles, begins only then. */
  readonly isItsTurn: boolean;
  /** Hash of what the peer has heard of others, hex: if it is ours as well, it is told only what comes. @default it has heard something else */
  readonly heard?: string;
}

/** What a device asks of a peer's feed. */
export interface PassBegun {
  readonly pass: PassKind;
  readonly cursor: Cursor | null;
  /** What we know at that moment, and its hash. */
  readonly knowledge: KnowledgeWire;
  readonly knowledgeHash: string;
  /** Hash of the records of membership that are here, hex. */
  readonly records: string;
  /** A snapshot to ask for instead, first; null for none. */
  readonly snapshot: SnapshotWanted | null;
}

/** The snapshot that a device could take. */
export interface SnapshotWanted {
  /** Hash of what the library of the one that gives it must have in common with this one, hex. */
  readonly layout: string;
}

/** What became of a snapshot that was taken. */
export interface TakenSnapshot {
  readonly rows: number;
}

/** A snapshot that a device gives. */
export interface SnapshotOffer {
  /** Hex. */
  readonly id: string;
  readonly bytes: number;
  /** SHA-256 of all bytes, hex. */
  readonly hash: string;
  /** Rows in it, for people. */
  readonly rows: number;
}

/** A moment in what this device has written, in this and earlier runs of its node: everything up to then. */
export interface Change {
  /** Of each run (id, hex) the last stamp. */
  readonly stamps: ReadonlyArray<{ readonly run: string; readonly hlc: number }>;
}

/** What pruning waits for. */
export interface PruningStatus {
  /** Deletes that are remembered until every member has them. */
  readonly tombstones: number;
  /** Members that keep something from being forgotten. */
  readonly behind: ReadonlyArray<{
    readonly device: string;
    /** Deletes that it lacks. */
    readonly tombstones: number;
    /** Records of conflicts that are old enough to go, of whose outcome it has not heard. */
    readonly records: number;
    /** Stamp of the oldest of these, ms since 1970. */
    readonly since: number;
    /** When it was last heard of, directly or by way of others; 0 for never. */
    readonly seen: number;
    /** True when it was silent for longer than the retention, so that pruning goes on without it. */
    readonly setAside: boolean;
  }>;
}

/** First words of a session, from this side. */
export interface SessionStart {
  readonly knowledge: KnowledgeWire;
  readonly knowledgeHash: string;
  /** Where our feed ends. */
  readonly head: Head;
  /** Up to where deletes were pruned here, and its hash (hex). */
  readonly floor: KnowledgeWire;
  readonly floorHash: string;
  /** Hash of what this device has heard of others than that peer, hex. */
  readonly heardHash: string;
  /** Our place in that peer's feed. */
  readonly cursor: Cursor | null;
  /** What we have and know of, and its hash (hex). */
  readonly schema: SchemaDescription;
  readonly schemaHash: string;
  /** This device stamps later than clocks may differ: its clock was wrong, and may be right by now. */
  readonly isAhead: boolean;
}

/** A pass over our feed for one peer was opened. */
export interface FeedOpened {
  readonly feed: number;
  /** True when the peer's cursor fits our history, false when the pass begins at 0. */
  readonly resumed: boolean;
  /** Entries between the start and the head. */
  readonly total: number;
  /** True when the peer has all up to the start, as it has said: what comes is live. */
  readonly isOver: boolean;
}

/** How much a page may hold. */
export interface PageLimits {
  readonly rows: number;
  /** Of row values, roughly; one row alone may be larger. */
  readonly bytes: number;
  /** lsns at which commits here ended, ascending: a page that must be cut is cut at the last of them that fits. */
  readonly groupEnds?: readonly number[];
}

/** One page of a feed. `data` is null when there is nothing to send: the peer has everything up to the head. */
export interface FeedPage {
  readonly data: ArrayBuffer | null;
  readonly rows: number;
  readonly complete: boolean;
  readonly remaining: number;
  readonly head: number;
  /** Which rows are too large to be sent, and what to do; '' for none. The pass is not complete then, though nothing is left that can go. */
  readonly heldUp: string;
}

/** What applying a batch did. It is durable when this comes back. */
export interface Taken {
  readonly cursor: Cursor;
  readonly complete: boolean;
  /** Versions and tombstones in the batch. */
  readonly rows: number;
  /** Of those, how many changed something here. */
  readonly changed: number;
  readonly remaining: number;
  /** Versions that wait here after it, in all. */
  readonly waitingCount: number;
  /** What the sender knows, as the page said it; null unless the page was complete. */
  readonly knowledge: KnowledgeWire | null;
  /** Why records of membership in it were not taken, one sentence each. */
  readonly refused: readonly string[];
}

/** The same, with what the ACK says. */
export interface Applied extends Taken {
  /** What has become known here since it was last said to that peer. Empty unless the page was complete. */
  readonly said: KnowledgeWire;
}

/** How a library file stands, seen before joining. */
export interface JoinState {
  readonly exists: boolean;
  /** It has Flotilla metadata. */
  readonly initialised: boolean;
  /** Rows in tables other than SQLite's and Flotilla's. */
  readonly rows: number;
}

/** Everything that must exist in a new device's library before its first page. */
export interface JoinGrant {
  readonly libraryId: string;
  /** DDL in an order that runs: tables, indexes, and what was found safe of views and triggers. */
  readonly ddl: readonly string[];
  /** Views and triggers that were not taken over, with the reason. */
  readonly omitted: ReadonlyArray<{ readonly name: string; readonly reason: string }>;
  /** The configuration as JSON text. */
  readonly config: string;
  readonly schema: string;
  /** The records of membership, as an encoded batch: the newcomer must hold them before it serves or is served. */
  readonly membership: Uint8Array;
}

/** The write side: a serial mailbox. */
export interface WriteStore {
  info(): Promise<LibraryInfo>;
  /** Stamps every mark; resolves with the head lsn after it. */
  stamp(): Promise<{ head: number; stamped: number }>;
  sessionStart(peer: string): Promise<SessionStart>;
  /**
   * This device's clock agrees with a peer's: what was stamped when it was ahead, and nobody else has, is stamped again. Resolves with
   * whether there was something of that kind; all sessions must begin anew then.
   */
  stampAnew(): Promise<boolean>;
  /**
   * Begins a pass from a peer: what kind to ask for, and our place in its feed; null where that has to wait for its turn. In its turn it
   * takes over what another one has begun.
   * @param floor - up to where that peer has pruned deletes
   */
  beginPass(peer: string, floor: KnowledgeWire, how: PassWish): Promise<PassBegun | null>;
  /**
   * Ends a pass as its last page would: the peer has nothing that is not here, and our place in its feed is its end. Durable when it resolves.
   * @param head - where that peer's feed ends, as it has said
   */
  concludePass(peer: string, head: Head): Promise<Applied>;
  /** A peer will send this snapshot. Resolves with the byte from which on: that after what an earlier session has brought. */
  beginSnapshot(peer: string, offer: SnapshotOffer): Promise<number>;
  /** The next chunk of it. */
  addToSnapshot(peer: string, data: Uint8Array): Promise<void>;
  /** All is there. Resolves with what it brought once that is durable; null when it is not what it should be, so that the feed is asked for. */
  takeSnapshot(peer: string): Promise<TakenSnapshot | null>;
  /** A peer said what it knows. */
  hear(peer: string, knowledge: KnowledgeWire): Promise<void>;
  /** A peer said what it has heard of others. @param base - what it said that it knows itself */
  hearOfOthers(peer: string, base: KnowledgeWire, members: readonly HeardWire[]): Promise<void>;
  /** What of other members is news to a peer in this session. */
  heardNews(peer: string): Promise<readonly HeardWire[]>;
  /** Everything that is committed until now, stamped: a change to wait for. */
  change(): Promise<Change>;
  /** Peer ids of the other devices that are known to hold a change durably. */
  holders(change: Change): Promise<readonly string[]>;
  /** Remembers tables and columns that a peer has and this device has not, so that what comes of them is kept. */
  learnSchema(schema: SchemaDescription): Promise<void>;
  /**
   * Applies batches from `peer` in their order, each in one transaction or several in one. Rejects when one is damaged or not allowed:
   * that one changes nothing, those before it may be applied.
   */
  apply(peer: string, pages: readonly Uint8Array[]): Promise<readonly Applied[]>;
  /** `peer` says that it holds our feed durably up to `cursor`, and what it knows since it last said so. */
  acked(peer: string, cursor: Cursor, complete: boolean, knowledge: KnowledgeWire): Promise<void>;
  /** Members, and devices that were. */
  members(): Promise<MemberRow[]>;
  /** Lets a device in, also one that was a member before. Durable and stamped when it resolves; harmless for a member. */
  admit(device: string, name: string): Promise<void>;
  /** Ends the membership of a device, given by peer id or name. Durable and stamped when it resolves. */
  revoke(named: string): Promise<Revoked>;
  /** Gives a row to a member. Durable and stamped when it resolves. */
  own(request: OwnRequest): Promise<Owned>;
  /**
   * Puts back what a conflict discarded, as an ordinary change of this device.
   * Rejects with NO_SUCH_CONFLICT or CANNOT_RESTORE, changing nothing.
   */
  restoreConflict(id: number): Promise<RestoredConflict>;
}

/** The read-only side. */
export interface ReadStore {
  /**
   * Opens a pass for a peer: `knowledge` null means "the same as ours". Rejects with BELOW_FLOOR when it has to reconcile.
   * @param isOver - the peer says that it has all up to its cursor
   */
  openFeed(
    peer: string,
    cursor: Cursor | null,
    knowledge: KnowledgeWire | null,
    pass: PassKind,
    records: string,
    isOver: boolean,
  ): Promise<FeedOpened>;
  page(feed: number, limits: PageLimits): Promise<FeedPage>;
  closeFeed(feed: number): Promise<void>;
  /** The peer of this feed said what it knows by now; what it sent us itself is not sent back. */
  peerKnows(feed: number, knowledge: KnowledgeWire): Promise<void>;
  /** The peer of this feed told of versions that it has, whatever it knows: a message as `stampsBeyond` gives them. */
  peerHas(feed: number, stamps: Uint8Array): Promise<void>;
  /** What is here beyond what is known, from passes that are not complete, as messages for whoever takes over; none when there are none. */
  stampsBeyond(): Promise<readonly Uint8Array[]>;
  /**
   * Makes a snapshot for a peer, or finds one that is there; null when the feed is to be taken.
   * @param leastRows - with fewer rows the feed does as well
   */
  offerSnapshot(peer: string, layout: string, leastRows: number): Promise<SnapshotOffer | null>;
  /** A chunk of it, of `CHUNK_BYTES` or what is left from there on. */
  snapshotPart(peer: string, id: string, offset: number): Promise<{ readonly data: ArrayBuffer }>;
  inspect(query: Inspection): Promise<InspectionAnswer>;
  status(): Promise<LibraryStatus>;
  /** `foreign_key_check` and `integrity_check`, one line a finding. */
  check(): Promise<{ foreignKeyViolations: readonly string[]; integrity: readonly string[] }>;
  conflicts(query: ConflictQuery): Promise<ConflictList>;
  joinGrant(): Promise<JoinGrant>;
}

/** See {@link Store.onHead}. `from`: the peer of which a batch moved it; null where something of this device is in it. */
export type HeadListener = (head: number, from: string | null) => void;

/** Both sides, and the word that the feed has grown (by local writes or by a merge). */
export interface Store extends WriteStore, ReadStore {
  /**
   * Calls back after each commit that moved the head; returns the way to stop.
   * @param listener - hears the new head lsn, and whether it was moved by what came from another device
   */
  onHead(listener: HeadListener): () => void;
  /** Calls back after each commit that changed who is a member; returns the way to stop. */
  onMembers(listener: () => void): () => void;
  /**
   * Calls back after the schema has changed and was followed, with sentences that say what changed; none when only another
   * device has told of what is not here. Returns the way to stop.
   */
  onSchema(listener: (changes: readonly string[]) => void): () => void;
  close(): Promise<void>;
}
