/**
 * The words that every room shares: stamps, cursors, batches, frames. Types only; no I/O, no clock, no library.
 */

import type { SchemaDescription } from './schema.ts';
import type { TextBytes } from './text-bytes.ts';

/**
 * A value as SQLite holds it. An INTEGER outside ±(2^53−1), or one whose column cannot tell 5 from 5.0, is a bigint. A TEXT
 * that is not valid UTF-8, which no string can hold, is {@link TextBytes}.
 */
export type SqlValue = null | number | bigint | string | Uint8Array | TextBytes;

/**
 * When and by whom a row was written: hybrid logical clock in ms × 1000 + counter (an integer below 2^53), and the run
 * that wrote it. Ordered by `hlc`, then by the bytes of the run id.
 */
export interface Stamp {
  readonly hlc: number;
  /** 16-byte run id as 32 lower-case hex digits. */
  readonly run: string;
}

/** Knowledge on the wire: run ids, 16 bytes each, one after the other, and the hlc up to which each is known. */
export interface KnowledgeWire {
  readonly runs: Uint8Array;
  readonly hlc: readonly number[];
}

/** Where a receiver stands in one sender's feed (design: section 6). */
export interface Cursor {
  /** lsn up to which everything was taken in. */
  readonly position: number;
  /** Head lsn of the snapshot from which the last page was read. */
  readonly head: number;
  /** Run (hex) under which the sender gave that head lsn. */
  readonly run: string;
}

/** Where a feed ends. */
export interface Head {
  readonly lsn: number;
  /** Run (hex) under which that lsn was given. */
  readonly run: string;
}

/** One column of one table in a batch. Arrays are as long as the table's `rows`. */
export type ColumnData =
  | {
      readonly kind: 'value';
      readonly name: string;
      readonly values: readonly SqlValue[];
      /** 1 where `values` holds an INTEGER and the column could hold a REAL of the same value; absent if never needed. */
      readonly ints?: Uint8Array;
    }
  | {
      /** An integer id, as a reference to the row that it means: index into the batch's dictionary, −1 for NULL. */
      readonly kind: 'ref';
      readonly name: string;
      readonly refs: readonly number[];
    };

/** A dependency that no single column expresses (a foreign key on natural or several columns). −1 for none. */
export interface DependencyData {
  /** Number of the foreign key: the same for the same one everywhere. */
  readonly foreignKey: number;
  readonly refs: readonly number[];
}

/** Stamps beside those that every row has, as lists of equal length; `row` says which position they belong to, ascending. */
export interface StampList {
  readonly row: readonly number[];
  readonly hlc: readonly number[];
  /** Indexes into the batch's `runs`. */
  readonly run: readonly number[];
}

/**
 * Stamps of single columns that were written after the birth of their row; a column without one has the birth's stamp. Of several
 * entries with the same row and column the first is the stamp, the others are what its writer had seen of others in that column.
 */
export interface CellData extends StampList {
  /** Indexes into the table's `columns`; −1 and −2 are the tenure of an owned row: its title, its epoch, what its writer had seen. */
  readonly column: readonly number[];
}

/**
 * Entries of columns with a policy, such as counters: the stamp of each and its value. What a column shows is made of all entries
 * of its row, so nothing but the entries counts of it.
 */
export interface RegisterData extends CellData {
  readonly values: readonly SqlValue[];
  /** 1 where `values` holds an INTEGER. */
  readonly ints: Uint8Array;
}

/** The row versions of one table in a batch, in columns. */
export interface TableData {
  readonly table: string;
  /** Dictionary index of each row's UUID (its birth stamp stands in the dictionary too). */
  readonly rows: readonly number[];
  /** Change stamp of each row. */
  readonly hlc: readonly number[];
  /** Index into the batch's `runs` of each row's change stamp. */
  readonly run: readonly number[];
  readonly columns: readonly ColumnData[];
  readonly dependencies: readonly DependencyData[];
  readonly cells: CellData;
  /** Absent where the table has no column with a policy. */
  readonly registers?: RegisterData;
}

/** Tombstones of one table in a batch. `rows` are dictionary indexes; the birth there is the birth of what died. */
export interface TombstoneData {
  readonly table: string;
  readonly rows: readonly number[];
  readonly hlc: readonly number[];
  readonly run: readonly number[];
  /** Dictionary index of the row that each has become one with; −1 for none. */
  readonly alias: readonly number[];
  /** The changes that its deleter knew of: of each run the last. Those of the birth go without saying. Of an owned row: the tenure. */
  readonly seen: StampList;
}

/**
 * What a device asks of a peer's feed. `newcomer`: it has nothing, and takes its first pass from that peer alone. `reconcile`: it lacks
 * deletes that were pruned there, so it hears of every row that is there, and at the end of the floor.
 */
export type PassKind = 'ordinary' | 'newcomer' | 'reconcile';

/** What a member knows, as another one has heard it. */
export interface HeardWire {
  /** Peer id. */
  readonly device: string;
  /** When it was last heard of, ms since 1970. */
  readonly at: number;
  /** Of `whole`: where it differs from what the sender's `want` says that the sender knows (0 for nothing). Else: what has grown. */
  readonly knowledge: KnowledgeWire;
  readonly whole: boolean;
}

/** How a page ends. */
export interface PageEnd {
  /** The receiver's next cursor in this sender's feed. */
  readonly cursor: Cursor;
  /** True when the page reaches the head: the pass is complete and `knowledge` holds. */
  readonly complete: boolean;
  /** The sender's knowledge of that snapshot (whole, or what moved since the last page); empty unless `complete`. */
  readonly knowledge: KnowledgeWire;
  /** Entries that still lie between `cursor.position` and the head. */
  readonly remaining: number;
  /** Only at the end of a pass that reconciles: the sender's floor. What it has no longer was deleted there, or never was. */
  readonly floor?: KnowledgeWire;
  /** Beside it: tables that the sender has dropped with what they held. It names no row of them, and cannot say what was deleted. */
  readonly lost?: readonly string[];
}

/** A page of the feed: row versions and tombstones, grouped by table, in columns, with one dictionary. */
export interface Batch {
  /** Run ids, 16 bytes each, one after the other. */
  readonly runs: Uint8Array;
  /** Peer id of the device that minted each run; '' where the sender does not know. */
  readonly runDevices: readonly string[];
  /** The dictionary: UUIDs of rows and of the rows they refer to, 16 bytes each. */
  readonly uuids: Uint8Array;
  /** Birth stamp of each UUID in the dictionary. */
  readonly birthHlc: readonly number[];
  readonly birthRun: readonly number[];
  /** Number of the table in `tables`' names list of each UUID: index into `names`. */
  readonly uuidTable: readonly number[];
  /** Table names that occur, rows or references. */
  readonly names: readonly string[];
  readonly tables: readonly TableData[];
  readonly tombstones: readonly TombstoneData[];
  readonly end: PageEnd;
}

/** What a peer may ask to compare two copies (`verify`). Digests and hashes are hex. */
export type Inspection =
  | { readonly kind: 'tables' }
  | { readonly kind: 'buckets'; readonly table: string }
  | { readonly kind: 'rows'; readonly table: string; readonly bucket: number };

/** The answer, kind by kind. A bucket holds the rows whose UUID's last byte is its number: 256 buckets a table. */
export type InspectionAnswer =
  | { readonly kind: 'tables'; readonly tables: Readonly<Record<string, { rows: number; digest: string }>> }
  | { readonly kind: 'buckets'; readonly digests: readonly string[] }
  | { readonly kind: 'rows'; readonly rows: ReadonlyArray<readonly [uuid: string, hash: string]> };

/** Everything that crosses a session's stream. One frame is one length-prefixed message. */
export type Frame =
  | {
      readonly type: 'hello';
      readonly protocol: number;
      /** Library id, hex. */
      readonly library: string;
      /** Name of the device, for people. */
      readonly name: string;
      /** Hash of what it has of tables and knows of, hex. */
      readonly schema: string;
      /** Wall clock of the sender, ms since 1970. */
      readonly clock: number;
      /** Hash of the sender's knowledge, hex. */
      readonly knowledge: string;
      /** Where its feed ends. */
      readonly head: Head;
      /** Hash of its floor, hex. */
      readonly floor: string;
      /** Hash of what it has heard of others than the peer, hex: to whom has heard the same it tells only what is new. */
      readonly heard: string;
      /** Its sessions in which something is to be given or taken: who has a choice takes the feed of one that has little to do. */
      readonly load: number;
    }
  | {
      /** Follows both hellos when their schema hashes differ. */
      readonly type: 'schema';
      readonly schema: SchemaDescription;
    }
  | {
      /** Follows both hellos, and what follows them else, when their hashes of the floor differ. */
      readonly type: 'floor';
      /** Up to where the sender has pruned deletes: who knows less has to reconcile. */
      readonly floor: KnowledgeWire;
    }
  | {
      /** Asks the other side for its feed. */
      readonly type: 'want';
      readonly pass: PassKind;
      readonly cursor: Cursor | null;
      /** null: "my knowledge has the hash that you said of yours". */
      readonly knowledge: KnowledgeWire | null;
      /** Hash of the records of membership that it has, hex: none is sent where they are the same. */
      readonly records: string;
      /** Bytes of batches that may be on their way un-ACKed. */
      readonly credit: number;
      /**
       * The pass is over, and this is its ACK: the cursor stands where the hello said that the feed ends, and the knowledge is the same. What has
       * been written since is sent as what is live.
       */
      readonly isOver: boolean;
    }
  | { readonly type: 'batch'; readonly data: Uint8Array }
  | {
      /** The batch is durable here. */
      readonly type: 'ack';
      readonly cursor: Cursor;
      /** True when the batch ended a pass. */
      readonly complete: boolean;
      /** Bytes of credit given back. */
      readonly credit: number;
      /** What has become known here since it was last said to this peer, durable as the batch. */
      readonly knowledge: KnowledgeWire;
    }
  | {
      /** Whether the sender needs this session; true until it says otherwise. When neither does, it ends. */
      readonly type: 'keep';
      readonly needed: boolean;
    }
  | {
      /** What is here by now, durable: it need not be sent. Told when it came from somebody else. */
      readonly type: 'offer';
      readonly knowledge: KnowledgeWire;
    }
  | {
      /** Stamps of versions that are here beyond what is known, from a pass that was broken off (`stamp-set.ts`): they need not be sent. */
      readonly type: 'has';
      readonly data: Uint8Array;
    }
  | {
      /** Whether the other side is to pause its feed, as somebody else gives more; it is not until it is said. */
      readonly type: 'rest';
      readonly rests: boolean;
    }
  | {
      /** What others know, so that it spreads to devices that never meet them. */
      readonly type: 'heard';
      readonly members: readonly HeardWire[];
    }
  | {
      /** Asks for a snapshot, by a device that has nothing yet; before its `want`. */
      readonly type: 'fetch';
      /** Hash of what both libraries must have in common, hex. */
      readonly layout: string;
    }
  | {
      /** The answer: what will be sent chunk by chunk. */
      readonly type: 'snapshot';
      readonly id: string;
      /** 0: there is none. */
      readonly bytes: number;
      /** SHA-256 of all of it, hex. */
      readonly hash: string;
      /** Rows in it. */
      readonly rows: number;
    }
  /** Asks for the chunk that begins there. Chunks come in the order in which they were asked for. */
  | { readonly type: 'part'; readonly id: string; readonly offset: number }
  | { readonly type: 'chunk'; readonly data: Uint8Array }
  | { readonly type: 'inspect'; readonly id: number; readonly query: Inspection }
  | { readonly type: 'inspected'; readonly id: number; readonly answer: InspectionAnswer }
  | { readonly type: 'refuse'; readonly code: string; readonly message: string }
  | { readonly type: 'bye'; readonly reason: string };

/** A session's stream, seen from above: whole frames, with back-pressure both ways. */
export interface Channel {
  /** Peer id of the other side, proven by Noise. */
  readonly peer: string;
  /** Resolves once the stream took the frame (waits while it is full); rejects when it is gone. */
  send(frame: Frame): Promise<void>;
  /** Frames as they come; nothing more is read from the network than the loop takes. Ends when the stream ends. */
  readonly frames: AsyncIterable<Frame>;
  /** Ends politely: what was sent still arrives. */
  close(): Promise<void>;
  /** Ends now. */
  abort(error: Error): void;
}
