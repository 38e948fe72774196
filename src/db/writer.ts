/**
 * The write worker's service: everything that changes the library, one call at a time.
 */
import { createHash, randomBytes } from 'node:crypto';
import { dirname } from 'node:path';

import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import { isSignedBy, signWith } from '../protocol/peer-id.ts';
import { hexToBytes, makeUuidV7Generator } from '../protocol/uuid.ts';
import type { SchemaDescription } from '../protocol/schema.ts';
import type { Cursor, Head, HeardWire, KnowledgeWire } from '../protocol/types.ts';
import type {
  Applied,
  Change,
  HeadListener,
  LibraryInfo,
  MemberRow,
  OwnRequest,
  Owned,
  PassBegun,
  PassWish,
  RestoredConflict,
  Revoked,
  SessionStart,
  SnapshotOffer,
  Taken,
  TakenSnapshot,
} from './api.ts';
import { isAhead } from './anew.ts';
import { Bootstrap } from './bootstrap.ts';
import { CONFLICT_DAYS, RETENTION_DAYS } from './config.ts';
import { checkKnown } from './claims.ts';
import { ageOutConflicts } from './conflicts.ts';
import { Conversation, hear, hearAll, hearOfOthers, heardHash, heardMembers, knowledgeHeard } from './heard.ts';
import { describeModels } from './describe.ts';
import { floorOf, prune } from './floor.ts';
import { headOf } from './history.ts';
import { entriesOf, wireOf } from './knowledge-wire.ts';
import { beginNewcomer, passKind, sourceOf, takeOver } from './newcomer.ts';
import { beginPass, noteFloor, noteTold } from './reconcile.ts';
import { allModels } from './model.ts';
import type { Library, Seal, Surroundings } from './library.ts';
import type { LeftBehind } from './remark.ts';
import { admit, readMembers, recordsHash, revoke } from './members.ts';
import { lastPage } from './pass.ts';
import { noteDangling } from './remark.ts';
import type { WriteAccess } from './access.ts';
import { fileAccess } from './access.ts';
import { emptyWal, explainSqlite } from './open.ts';
import { loadFunctions } from './policies.ts';
import { restoreConflict } from './restore.ts';
import { Served } from './served.ts';
import { requireLibrary, storedConfig } from './serving.ts';
import { STAMP_SLICE, hasMarks } from './stamp.ts';

/** Tries to find a moment without a foreign write for a reader that never found one. */
const HOLD_TRIES = 100;

/** How often it is looked whether deletes may be forgotten, ms. */
const PRUNE_EVERY_MS = 10_000;

/** How long after a commit of another program batches are applied one a transaction, ms: it waits for 20 ms then, and not for 100. */
const OTHERS_WRITE_MS = 1_000;

/** Of the retention: when a member was last heard of need not be told to anybody who knows it more or less exactly. */
const SEEN_PARTS = 30;

const NOTHING_SAID: KnowledgeWire = { runs: new Uint8Array(0), hlc: [] };

/** How often old records of conflicts are looked for, ms: nobody counts on the hour in which they go. */
const AGE_OUT_EVERY_MS = 3_600_000;

/** Real signatures. @param key - seed of this device's key; null where nothing is signed */
function realSeal(key: Uint8Array | null): Seal {
  return {
    sign(bytes) {
      if (key !== null) return signWith(key, bytes);
      throw new FlotillaError('CONFIG', 'This device has no key here: run the command with its home folder.');
    },
    isSignedBy,
  };
}

/**
 * The clock and randomness of a real device, and what lies beside its library.
 * @param key - seed of its key; null where no membership begins or ends
 */
export function realSurroundings(device: string, file?: string, key: Uint8Array | null = null): Surroundings {
  const newUuid = makeUuidV7Generator((size) => randomBytes(size));
  return {
    device,
    seal: realSeal(key),
    now: Date.now,
    randomBytes: (size) => randomBytes(size),
    newUuid: () => newUuid(Date.now()),
    ...(file === undefined ? {} : { functions: (module) => loadFunctions(dirname(file), module) }),
  };
}

/** Frees the memory of bytes that came from another thread and are of no more use: left to itself, V8 keeps up to 64 MB of them before it looks. */
function giveBack({ buffer }: Uint8Array): void {
  structuredClone(null, { transfer: [buffer as ArrayBuffer] });
}

export class Writer {
  readonly #file: string;
  readonly #db: Database;
  readonly #access: WriteAccess;
  readonly #closeFile: () => void;
  readonly #served: Served;
  readonly #bootstrap: Bootstrap;
  readonly #stopWatching: () => void;
  readonly #onHead: HeadListener;
  readonly #onFault: (error: unknown) => void;
  readonly #onMembers: () => void;
  /** When old records of conflicts are looked for again. */
  #ageOutAt = 0;
  /** When it may be tried again to prune, and the timer for that. */
  #pruneAt = 0;
  #pruning: unknown = null;
  readonly #sessions = new Map<string, Conversation>();
  /** What was heard of each peer before its session began. */
  readonly #heardBefore = new Map<string, ReadonlyMap<number, number>>();
  #announced = 0;
  /** Whose work is being done: that of the peer that has sent it, or our own. */
  #from: string | null = null;
  #announcedMembers: object | null = null;
  #seenVersion = -1;
  /** SQLite's number of what other programs have committed, and when it changed last. */
  #others: { readonly version: number; readonly at: number } | null = null;
  /** Why what others wrote could not be stamped when it was last tried; '' if it could. */
  #trouble = '';
  /** The next slice of what others wrote is on its way. */
  #isLooking = false;
  #isHeld = false;
  #isClosed = false;

  /**
   * Opens a library to serve it.
   * @param onHead - hears of each commit that moved the head
   * @param onFault - hears of a failure outside of any call (stamping what others wrote)
   * @param onSchema - hears of each change of the schema that was followed, in words
   * @param onMembers - hears after each commit that changed who is a member
   * @param access - how the file is reached, and the timers
   */
  constructor(
    file: string,
    durability: 'normal' | 'full',
    around: Surroundings,
    onHead: HeadListener,
    onFault: (error: unknown) => void,
    onSchema: (changes: readonly string[]) => void = () => undefined,
    onMembers: () => void = () => undefined,
    access: WriteAccess = fileAccess,
  ) {
    this.#file = file;
    this.#onHead = onHead;
    this.#onFault = onFault;
    this.#onMembers = onMembers;
    this.#access = access;
    const { db, close } = access.openForWriting(file, durability);
    try {
      requireLibrary(db, file);
      access.useWal(db, file);
      db.prepare('UPDATE flotilla_self SET device = ? WHERE id = 1 AND device IS NOT ?').run(
        around.device,
        around.device,
      );
      db.prepare('UPDATE flotilla_capture SET suspended = 0 WHERE suspended <> 0').run();
      this.#db = db;
      this.#closeFile = close;
      this.#served = new Served(db, around, (changes) => onSchema(changes));
      this.#bootstrap = new Bootstrap(access.beside(file), this.#served.library);
    } catch (error) {
      close();
      throw explainSqlite(error, file);
    }
    this.#announced = this.#library.head;
    this.#ageOut();
    this.#stopWatching = access.watchCommits(file, () => this.#look());
    this.#look();
    this.#tidy();
  }

  get #library(): Library {
    return this.#served.library;
  }

  info(): LibraryInfo {
    const { libraryId, registry } = this.#library;
    return { libraryId, schema: registry.schemaHash, tables: registry.models.map((model) => model.table) };
  }

  stamp(): { head: number; stamped: number } {
    return { stamped: this.#stampSlices(), head: this.#library.head };
  }

  sessionStart(peer: string): SessionStart {
    return this.#do(() => {
      const { registry } = this.#library;
      const floor = byRun(floorOf(this.#library.sql));
      noteTold(this.#library, peer);
      this.#heardBefore.set(peer, knowledgeHeard(this.#library.sql, peer));
      return {
        ...this.#speakTo(peer),
        head: headOf(this.#library.sql),
        floor: wireOf(floor),
        floorHash: hashOf(floor),
        heardHash: this.#heardHash(peer),
        cursor: this.#library.cursor(peer),
        schema: describeModels(allModels(registry)),
        schemaHash: registry.schemaHash,
        isAhead: isAhead(this.#library),
      };
    });
  }

  stampAnew(): boolean {
    this.#stampSlices();
    return this.#do(() => this.#served.stampAnew() !== null);
  }

  beginPass(peer: string, floor: KnowledgeWire, { maySnapshot, isItsTurn, heard }: PassWish): PassBegun | null {
    checkKnown(this.#library, floor);
    return this.#do(() =>
      this.#library.transact(() => {
        const library = this.#library;
        const theirs = new Map(entriesOf(floor));
        noteFloor(library, peer, theirs);
        const pass = passKind(library, peer, theirs);
        // A first pass comes from one peer alone, and so does one that reconciles.
        if (!isItsTurn && (pass !== 'ordinary' || sourceOf(library) !== null)) return null;
        takeOver(library, peer);
        const snapshot = pass === 'newcomer' && maySnapshot ? this.#bootstrap.want(library, peer) : null;
        if (snapshot === null) this.#bootstrap.leave();
        if (pass === 'newcomer') beginNewcomer(library, peer, floor);
        beginPass(library, peer, pass);
        const spoken = this.#speakTo(peer);
        if (heard === this.#heardHash(peer)) this.#sessions.get(peer)?.spreading.wasToldAll(library);
        return {
          pass,
          cursor: library.cursor(peer),
          records: recordsHash(library.sql),
          snapshot,
          ...spoken,
        };
      }),
    );
  }

  #heardHash(peer: string): string {
    const retentionMs = (storedConfig(this.#db).retentionDays ?? RETENTION_DAYS) * 86_400_000;
    return heardHash(this.#library, peer, retentionMs / SEEN_PARTS);
  }

  /** What this device tells a peer that it knows; what it says later is what has come since. */
  #speakTo(peer: string): Pick<SessionStart, 'knowledge' | 'knowledgeHash'> {
    const entries = byRun(this.#library.knowledge());
    this.#sessions.set(peer, new Conversation(peer, new Map(entries)));
    return { knowledge: wireOf(entries), knowledgeHash: hashOf(entries) };
  }

  beginSnapshot(peer: string, offer: SnapshotOffer): number {
    return this.#do(() => this.#bootstrap.begin(this.#library, peer, offer));
  }

  addToSnapshot(peer: string, data: Uint8Array): void {
    this.#do(() => this.#bootstrap.add(this.#library, peer, data));
    giveBack(data);
  }

  takeSnapshot(peer: string): TakenSnapshot | null {
    return this.#do(() => {
      this.#from = peer;
      return this.#bootstrap.take(this.#served, (data) => this.#apply(peer, [data])[0] as Taken, peer);
    });
  }

  hear(peer: string, knowledge: KnowledgeWire): void {
    checkKnown(this.#library, knowledge);
    const before = this.#heardBefore.get(peer);
    this.#do(() =>
      this.#library.transact(() => hearAll(this.#library, peer, knowledge, this.#library.around.now(), before)),
    );
    this.#tidy();
  }

  hearOfOthers(peer: string, base: KnowledgeWire, members: readonly HeardWire[]): void {
    checkKnown(this.#library, base, ...members.map(({ knowledge }) => knowledge));
    const conversation = this.#sessions.get(peer) ?? null;
    this.#do(() => this.#library.transact(() => hearOfOthers(this.#library, base, members, conversation)));
    this.#tidy();
  }

  heardNews(peer: string): readonly HeardWire[] {
    return this.#do(() => this.#sessions.get(peer)?.spreading.news(this.#library) ?? []);
  }

  change(): Change {
    this.#stampSlices();
    return this.#do(() => {
      const library = this.#library;
      const { device } = library.around;
      const own = [...library.knowledge()].filter(
        ([run, hlc]) => hlc > 0 && library.runDevice(library.runOrdinal(run, null)) === device,
      );
      return { stamps: own.map(([run, hlc]) => ({ run, hlc })) };
    });
  }

  holders({ stamps }: Change): readonly string[] {
    const library = this.#library;
    const wanted = stamps.map(({ run, hlc }) => [library.runOrdinal(run, null), hlc] as const);
    return heardMembers(library.sql, library.around.device)
      .filter(({ knowledge }) => wanted.every(([run, hlc]) => (knowledge.get(run) ?? -1) >= hlc))
      .map(({ device }) => device);
  }

  learnSchema(schema: SchemaDescription): void {
    this.#do(() => this.#served.learn(schema));
  }

  apply(peer: string, pages: readonly Uint8Array[]): Applied[] {
    if (this.#othersWrite()) return pages.flatMap((page) => this.#applyTogether(peer, [page]));
    return this.#applyTogether(peer, pages);
  }

  concludePass(peer: string, { lsn, run }: Head): Applied {
    // Nothing is said in return: what has become known here since the peer was told goes with the next ACK.
    const answer = (taken: Taken): Applied => ({ ...taken, said: NOTHING_SAID });
    return this.#applyPages(peer, [lastPage({ position: lsn, head: lsn, run })], answer)[0] as Applied;
  }

  #applyTogether(peer: string, pages: readonly Uint8Array[]): Applied[] {
    return this.#applyPages(peer, pages, (taken) => ({
      ...taken,
      said: taken.complete ? (this.#sessions.get(peer)?.sayTo(this.#library) ?? NOTHING_SAID) : NOTHING_SAID,
    }));
  }

  #applyPages<T>(peer: string, pages: readonly Uint8Array[], answer: (taken: Taken) => T): T[] {
    // It stamps what is left in its own transaction: that must not be somebody's million rows.
    this.#stampSlices();
    return this.#do(() => {
      const { ownHlc } = this.#library;
      const applied = this.#apply(peer, pages);
      // Marks of ours that had not been stamped, and outcomes, go out like what is written here.
      this.#from = this.#library.ownHlc === ownHlc ? peer : null;
      this.#ageOut();
      // What the sender knows is heard with the end of its pass.
      if (applied.some(({ complete }) => complete)) this.#tidy();
      return applied.map(answer);
    });
  }

  #apply(peer: string, pages: readonly Uint8Array[]): Taken[] {
    const applied = this.#served.apply(peer, pages);
    for (const message of applied.flatMap(({ refused }) => refused))
      this.#onFault(new FlotillaError('PROTOCOL', message));
    return applied;
  }

  /** Whether another program has committed within the last second: it is likely to wait for its turn again. */
  #othersWrite(): boolean {
    const now = this.#library.around.now();
    const version = Number(this.#db.pragma('data_version', { simple: true }));
    if (this.#others !== null && version !== this.#others.version) this.#others = { version, at: now };
    this.#others ??= { version, at: -Infinity };
    return Math.abs(now - this.#others.at) < OTHERS_WRITE_MS;
  }

  restoreConflict(id: number): RestoredConflict {
    return this.#do(() => restoreConflict(this.#library, id));
  }

  acked(peer: string, cursor: Cursor, complete: boolean, knowledge: KnowledgeWire): void {
    checkKnown(this.#library, knowledge);
    this.#do(() =>
      this.#library.transact(() => {
        hear(this.#library, peer, knowledge, this.#library.around.now());
        this.#library.reached('ack: heard');
        this.#library.sql.run(
          `INSERT INTO flotilla_acks (peer, position, complete, at) VALUES (?, ?, ?, ?)
           ON CONFLICT (peer) DO UPDATE SET position = excluded.position, complete = excluded.complete, at = excluded.at`,
          peer,
          cursor.position,
          complete ? 1 : 0,
          this.#library.around.now(),
        );
        this.#library.reached('ack: stored');
      }),
    );
    this.#library.reached('ack: committed');
    this.#tidy();
  }

  members(): MemberRow[] {
    return readMembers(this.#library.sql);
  }

  admit(device: string, name: string): void {
    this.#do(() => admit(this.#library, device, name));
  }

  revoke(named: string): Revoked {
    return this.#do(() => revoke(this.#library, named));
  }

  own(request: OwnRequest): Owned {
    return this.#do(() => this.#served.own(request));
  }

  /** Rows here refer to nothing, written by somebody without foreign keys: from now on new rows are looked at for them. */
  noteDangling(left: readonly LeftBehind[]): void {
    this.#do(() => this.#library.transact(() => noteDangling(this.#library, left)));
  }

  /**
   * Keeps other writers out, with nothing left to stamp, until `release`: a reader that found fresh marks each time it
   * looked gets its snapshot. The lock is taken again right after the commit, before a writer that sleeps wakes up.
   */
  hold(): void {
    this.#do(() => {
      for (let tries = 0; tries < HOLD_TRIES; tries += 1) {
        this.#stampSlices();
        this.#db.exec('BEGIN IMMEDIATE');
        if (this.#library.sql.value('SELECT 1 FROM flotilla_marks LIMIT 1') === undefined) {
          this.#isHeld = true;
          return;
        }
        this.#db.exec('ROLLBACK');
      }
    });
  }

  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#db.exec('ROLLBACK');
    if (!this.#isClosed) this.#lookAgain();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#pruning !== null) this.#access.clearTimeout(this.#pruning);
    this.release();
    this.#stopWatching();
    this.#bootstrap.leave();
    try {
      // Our own marks go out stamped, and the WAL does not grow from run to run.
      this.#stampSlices();
      this.#db.pragma('wal_checkpoint(PASSIVE)');
    } finally {
      this.#closeFile();
    }
  }

  /** Somebody may have written: if so, stamps what they did, a slice at a time. */
  #look(): void {
    // Each commit of somebody else calls this; one row of slices is enough for all of them.
    if (this.#isClosed || this.#isHeld || this.#isLooking) return;
    try {
      const version = Number(this.#db.pragma('data_version', { simple: true }));
      if (version === this.#seenVersion) return;
      if (this.#served.hasMoved()) this.#do(() => this.#served.follow());
      const taken = hasMarks(this.#library) ? this.#stampSlice() : 0;
      this.#trouble = '';
      if (taken < STAMP_SLICE) this.#seenVersion = version;
      else this.#lookAgain();
    } catch (error) {
      const fault = explainSqlite(error, this.#file);
      // It is tried again several times a second: once is enough to say so.
      if (fault.message !== this.#trouble) this.#onFault(fault);
      this.#trouble = fault.message;
    }
  }

  /** Now and then. Records are made while applying, so that is the time to look. */
  #ageOut(): void {
    const now = this.#library.around.now();
    // The clock may have been set back.
    if (now < this.#ageOutAt && now > this.#ageOutAt - 2 * AGE_OUT_EVERY_MS) return;
    this.#ageOutAt = now + AGE_OUT_EVERY_MS;
    const { conflictDays = CONFLICT_DAYS, retentionDays } = storedConfig(this.#db);
    ageOutConflicts(this.#library, conflictDays, retentionDays);
  }

  /** Now and then: when others are known to have more, deletes may be forgotten; and what has come is moved to the file. */
  #tidy(): void {
    if (this.#isClosed || this.#pruning !== null) return;
    const wait = Math.max(0, this.#pruneAt - this.#library.around.now());
    // What was heard before that is looked at then, all at once.
    this.#pruning = this.#access.setTimeout(
      () => {
        this.#pruning = null;
        this.#pruneAt = this.#library.around.now() + PRUNE_EVERY_MS;
        try {
          if (this.#isHeld) return;
          this.#do(() => prune(this.#library, storedConfig(this.#db).retentionDays));
          emptyWal(this.#db);
        } catch (error) {
          this.#onFault(explainSqlite(error, this.#file));
        }
      },
      Math.min(wait, PRUNE_EVERY_MS),
    );
  }

  #lookAgain(): void {
    this.#isLooking = true;
    this.#access.soon(() => {
      this.#isLooking = false;
      this.#look();
    });
  }

  /** Stamps all marks, a transaction for each slice: other programs get to write in between. */
  #stampSlices(): number {
    let stamped = 0;
    for (let taken = STAMP_SLICE; taken >= STAMP_SLICE; stamped += taken) taken = this.#stampSlice();
    return stamped;
  }

  #stampSlice(): number {
    const taken = this.#do(() => this.#served.applier.stamp(STAMP_SLICE));
    // Where there is nobody to wait for, nobody will say that he has a delete.
    if (taken > 0) this.#tidy();
    return taken;
  }

  #do<T>(work: () => T): T {
    try {
      return this.#served.run(work);
    } catch (error) {
      throw explainSqlite(error, this.#file);
    } finally {
      if (this.#library.head !== this.#announced) {
        this.#announced = this.#library.head;
        this.#onHead(this.#announced, this.#from);
      }
      this.#from = null;
      const { membersChange } = this.#library;
      if (membersChange !== null && membersChange !== this.#announcedMembers) {
        this.#announcedMembers = membersChange;
        this.#onMembers();
      }
    }
  }
}

type Entries = ReadonlyArray<readonly [run: string, hlc: number]>;

function byRun(known: ReadonlyMap<string, number>): Entries {
  return [...known].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Hex; 128 bits. */
function hashOf(entries: Entries): string {
  const digest = createHash('sha256');
  for (const [run, hlc] of entries) digest.update(hexToBytes(run)).update(`${hlc};`);
  return digest.digest('hex').slice(0, 32);
}
