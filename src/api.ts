/**
 * The public types: what `openNode` and its companions take and give. `index.ts` exports them; nothing here runs.
 */
import type {
  Change,
  ConflictList,
  ConflictQuery,
  InitReport,
  LibraryStatus,
  Owned,
  RestoredConflict,
  Revoked,
} from './db/api.ts';
import type { ErrorCode } from './errors.ts';

/** How a session stands. The machine of the session decides it; this is its state's name. */
export type PeerState =
  | 'connecting'
  | 'handshake'
  | 'backfill'
  | 'ack'
  | 'live'
  | 'backoff'
  | 'refused'
  /** Among many devices: changes go to and come from this one over others. */
  | 'idle'
  | 'stopped';

/** Progress of a pass, from the receiver's side. */
export interface Progress {
  /** Versions and tombstones taken in during this pass. */
  readonly done: number;
  /** Versions and tombstones of the whole pass. */
  readonly total: number;
  /** Rows a second over the last seconds. */
  readonly rate: number;
  /** Seconds left at that rate; null while unknown. */
  readonly secondsLeft: number | null;
}

export interface PeerStatus {
  /** Peer id. */
  readonly device: string;
  readonly name: string;
  readonly state: PeerState;
  /** How it was found: `mdns`, `address`, `inbound`; '' when it was not seen yet. */
  readonly via: string;
  readonly progress: Progress | null;
  /** Why it backs off or was refused, for programs and for people; both '' otherwise. */
  readonly code: ErrorCode | '';
  readonly reason: string;
  /** True once this peer has ACKed our whole feed and we have its. */
  readonly inSync: boolean;
  /** What one of the two has of tables and columns and the other lacks or has otherwise, one sentence each. */
  readonly differences: readonly string[];
  /** Which row is too large to be sent to it, and what to do; '' for none. */
  readonly heldUp: string;
}

export interface NodeStatus {
  readonly file: string;
  readonly running: boolean;
  /** Own peer id; '' if this home has never been used. */
  readonly device: string;
  readonly name: string;
  readonly addresses: readonly string[];
  /** True when only nodes with the library's pre-shared key get a connection. */
  readonly psk: boolean;
  readonly peers: readonly PeerStatus[];
  /** Why multicast discovery does not work here; '' if it does or was not asked for. */
  readonly discoveryProblem: string;
  /** Greatest event loop delay of the main thread since the node was ready, ms; 0 when not running. */
  readonly maxEventLoopDelayMs: number;
  /** Of a hundred looks at the event loop, 99 found no greater delay than this, ms; 0 when not running. */
  readonly p99EventLoopDelayMs: number;
  readonly library: LibraryStatus;
}

/** What happens in a node, as `up --json` prints it: one object a line. */
export type NodeEvent =
  | {
      readonly event: 'ready';
      readonly device: string;
      readonly library: string;
      readonly addresses: readonly string[];
    }
  | { readonly event: 'notice'; readonly message: string }
  | { readonly event: 'discovered'; readonly device: string; readonly via: 'mdns' | 'address' }
  | {
      readonly event: 'peer';
      readonly device: string;
      readonly name: string;
      readonly state: PeerState;
      /** See {@link PeerStatus}. */
      readonly code: ErrorCode | '';
      readonly reason: string;
    }
  | { readonly event: 'progress'; readonly device: string; readonly name: string; readonly progress: Progress }
  | {
      readonly event: 'applied';
      readonly device: string;
      /** Versions and deletes in the batch; 0 where nothing but the end of a pass has come. */
      readonly rows: number;
      readonly changed: number;
      readonly complete: boolean;
    }
  | { readonly event: 'joined'; readonly device: string; readonly name: string }
  | {
      /** A device is a member no more; this one itself, if `device` is its own. `by` has ended that: it itself, if it left. */
      readonly event: 'revoked';
      readonly device: string;
      readonly name: string;
      readonly by: string;
      readonly byName: string;
    }
  | { readonly event: 'stopped' };

export interface NodeOptions {
  /** Path of the library file. */
  readonly library: string;
  /** Folder for the key, the port and the invitations. @default `<library>.flotilla` */
  readonly home?: string;
  /** Name of this device for people. @default the host name */
  readonly name?: string;
  /** TCP port; 0 for any. @default the one used last time, any the first time */
  readonly port?: number;
  /** Keep listening, discovery and dialling on loopback. @default false */
  readonly localOnly?: boolean;
  /** Look for members by multicast DNS. @default true */
  readonly discovery?: boolean;
  /** Names of the network interfaces to discover on. @default all */
  readonly interfaces?: readonly string[];
  /** Multiaddrs of members, with `/p2p/<peer id>`, to dial beside what discovery finds. @default [] */
  readonly peers?: readonly string[];
  /** Rows a batch at most. @default 1000 */
  readonly batchRows?: number;
  /** `full` waits for the disk at every commit; `normal` may lose the last commits in a power cut, never consistency. @default 'normal' */
  readonly durability?: 'normal' | 'full';
}

export interface FlotillaNode {
  /** Own peer id. */
  readonly device: string;
  readonly libraryId: string;
  /** Multiaddrs under which this node can be dialled, with `/p2p/<peer id>`. */
  addresses(): string[];
  status(): Promise<NodeStatus>;
  /** Compares this copy with every connected peer's. */
  verify(): Promise<VerifyReport>;
  /**
   * Gives an owned row, and all that is owned through it, to a member: also what a device owned that is gone.
   * @param key - its primary key as text (several columns as a JSON array), or its UUID
   * @throws FlotillaError NO_SUCH_ROW, NOT_OWNED, NOT_A_MEMBER
   */
  own(table: string, key: string, options?: OwnOptions): Promise<Owned>;
  /** Members, and devices that were. */
  devices(): Promise<DeviceList>;
  /**
   * Shows a six-digit code by which one device of the same network may join, once; a code shown before is worth nothing then.
   * @throws FlotillaError NOT_A_MEMBER, NO_MULTICAST
   */
  pair(): Promise<Pairing>;
  /**
   * Ends the membership of another device: it is hung up on, and refused from now on, by every member that has heard of it.
   * @param device - peer id or name
   * @throws FlotillaError NOT_A_MEMBER; CONFIG for this device, which leaves instead
   */
  revoke(device: string): Promise<Revoked>;
  /**
   * Ends the membership of this device, tells the members that are connected, and stops the node.
   * @throws FlotillaError NOT_A_MEMBER
   */
  leave(): Promise<LeaveReport>;
  /** Everything that any program has committed to the library until now, as one thing to wait for. */
  change(): Promise<Change>;
  /**
   * Resolves with the peer ids of the members that hold a change durably, once they are as many as asked for, this device not counted.
   * Rejects when the signal aborts.
   */
  replicated(change: Change, options?: ReplicatedOptions): Promise<readonly string[]>;
  /** What was discarded or changed of what people wrote, newest first. */
  conflicts(query?: ConflictQuery): Promise<ConflictList>;
  /**
   * Puts back what a conflict discarded, as an ordinary change of this device.
   * @throws FlotillaError NO_SUCH_CONFLICT, CANNOT_RESTORE
   */
  restoreConflict(id: number): Promise<RestoredConflict>;
  /** Events as they happen; `ready` is the first, and who listens as soon as the node is there misses none. The returned function ends it. */
  onEvent(listener: (event: NodeEvent) => void): () => void;
  /** Drains and closes everything. Twice is harmless. */
  stop(): Promise<void>;
}

/** A device that is or was a member. */
export interface DeviceInfo {
  /** Peer id. */
  readonly device: string;
  readonly name: string;
  /** This device itself. */
  readonly isSelf: boolean;
  /** Peer id and name of the device that let it in; '' for the first one. */
  readonly invitedBy: string;
  readonly invitedByName: string;
  /** ms since 1970, by the clock of the device that let it in. */
  readonly addedAt: number;
  /** Who ended its membership (it itself, if it left), and when, by that device's clock; null while it is a member. */
  readonly revoked: { readonly by: string; readonly byName: string; readonly at: number } | null;
  /** A connection to it stands. */
  readonly connected: boolean;
  /** When this device was last in touch with it, ms since 1970; null if it never was. Nobody else's knowledge counts. */
  readonly lastSeen: number | null;
}

export interface DeviceList {
  readonly devices: readonly DeviceInfo[];
}

/** Who knows that this device has left. */
export interface LeaveReport {
  readonly told: ReadonlyArray<{ readonly device: string; readonly name: string }>;
  /** Members that were not connected: they hear of it from the others, or not at all if nobody was told. */
  readonly untold: ReadonlyArray<{ readonly device: string; readonly name: string }>;
}

export interface LeaveOptions {
  readonly home?: string;
  /** Keep to loopback while the others are told, if no node runs. @default false */
  readonly localOnly?: boolean;
}

export interface ReplicatedOptions {
  /** Other devices that must hold it. @default 1 */
  readonly devices?: number;
  /** Ends the wait. @default it lasts until the node stops */
  readonly signal?: AbortSignal;
}

export interface WaitOptions {
  readonly home?: string;
  /** Other devices that must hold what is committed now. @default 1 */
  readonly devices?: number;
  /** ms after which it fails with NOT_REPLICATED. @default 60_000 */
  readonly timeoutMs?: number;
}

export interface Replicated {
  /** Peer ids of the members that are known to hold it durably. */
  readonly devices: readonly string[];
}

export interface VerifyReport {
  /** True when no check found anything. */
  readonly ok: boolean;
  readonly foreignKeyViolations: readonly string[];
  readonly integrity: readonly string[];
  /** False when no node was running, so that nothing could be compared with peers. */
  readonly compared: boolean;
  readonly peers: ReadonlyArray<{
    readonly device: string;
    readonly name: string;
    readonly identical: boolean;
    /** At most 100 rows that differ. */
    readonly differences: ReadonlyArray<{
      readonly table: string;
      readonly uuid: string;
      readonly difference: 'only here' | 'only there' | 'different';
    }>;
    /** Why it could not be compared; '' otherwise. */
    readonly error: string;
  }>;
}

export interface InitOptions {
  /** Configuration file. @default `flotilla.config.json` beside the library, if it exists */
  readonly config?: string;
  readonly home?: string;
  readonly name?: string;
  /** Make a pre-shared key, without which nobody finishes a handshake with a node of the library. @default false */
  readonly psk?: boolean;
}

export interface ExamineOptions {
  /** Configuration file; a library that is initialised has its own. @default `flotilla.config.json` beside the file, if it exists */
  readonly config?: string;
}

export interface MigrateOptions {
  readonly home?: string;
  /** Files of SQL statements to run, in this order. @default none: only the configuration is taken over */
  readonly sql?: readonly string[];
  /** Configuration file. @default `flotilla.config.json` beside the library if it exists, else the one that the library has */
  readonly config?: string;
}

export interface MigrateReport {
  /** What changed, one sentence each. */
  readonly changes: readonly string[];
}

export interface InviteOptions {
  readonly home?: string;
  /** Minutes until it expires. @default 15 */
  readonly minutes?: number;
  /** Put loopback addresses in. @default false */
  readonly localOnly?: boolean;
}

export interface Invitation {
  /** What the other device types or scans: one word without spaces. */
  readonly text: string;
  readonly libraryId: string;
  readonly device: string;
  readonly addresses: readonly string[];
  /** ms since 1970 */
  readonly expiresAt: number;
  /** False when no node was running, so that somebody must start one before the invitation can be used. */
  readonly nodeRunning: boolean;
}

export interface PairOptions {
  readonly home?: string;
  /** Stay on loopback, if no node runs. @default false */
  readonly localOnly?: boolean;
}

/** A six-digit code on show. */
export interface Pairing {
  /** What is typed on the other device, in place of an invitation. */
  readonly code: string;
  /** ms since 1970 */
  readonly expiresAt: number;
  /** Resolves with the device that was let in; rejects with CODE_REFUSED when nobody can use the code any more. */
  readonly joined: Promise<{ readonly device: string; readonly name: string }>;
  /** From here on the code is worth nothing. Twice is harmless. */
  close(): Promise<void>;
}

export interface OwnOptions {
  /** Peer id or name of the member that gets the row. @default this device */
  readonly device?: string;
}

export interface JoinOptions {
  readonly home?: string;
  readonly name?: string;
  /** How rows that are there already are meant. @default refuse if there are any */
  readonly existing?: 'union' | 'same';
  readonly localOnly?: boolean;
  /** Gives up after this many milliseconds. @default 30_000 */
  readonly timeoutMs?: number;
}

export interface JoinReport {
  readonly libraryId: string;
  /** Own peer id. */
  readonly device: string;
  /** Peer id of the device that let us in. */
  readonly invitedBy: string;
  /** True when the file was made now. */
  readonly created: boolean;
  readonly omitted: ReadonlyArray<{ readonly name: string; readonly reason: string }>;
  readonly init: InitReport;
}
