/**
 * One copy of a library in memory, in one thread, with its own clock: what engine tests and the small fleet are made of.
 * It uses the engine's own parts, without workers, machines or network.
 */
import Sqlite from 'better-sqlite3';
import type { Database } from 'better-sqlite3';

import type { Taken } from '../../src/db/api.ts';
import type { Applier } from '../../src/db/apply.ts';
import { stampsBeyond } from '../../src/db/beyond.ts';
import { parseConfig } from '../../src/db/config.ts';
import { inspect } from '../../src/db/digest.ts';
import { Feeds } from '../../src/db/feed.ts';
import type { KnowledgeWire } from '../../src/protocol/types.ts';
import { wireOf } from '../../src/db/knowledge-wire.ts';
import type { FaultPoint } from '../../src/db/fault-points.ts';
import type { Pruned } from '../../src/db/floor.ts';
import { floorOf, isBelow, prune } from '../../src/db/floor.ts';
import { hearAll } from '../../src/db/heard.ts';
import type { Library } from '../../src/db/library.ts';
import { describeModels } from '../../src/db/describe.ts';
import { allModels } from '../../src/db/model.ts';
import { admit, requireNotRevoked, revoke, writeFounder } from '../../src/db/members.ts';
import { beginNewcomer, markNewcomer, passKind } from '../../src/db/newcomer.ts';
import { beginPass, noteFloor, noteTold } from '../../src/db/reconcile.ts';
import { Served } from '../../src/db/served.ts';
import { noteDangling } from '../../src/db/remark.ts';
import { createLibrary } from '../../src/db/setup.ts';
import { stampExisting } from '../../src/db/stamp.ts';
import { makeUuidV7Generator } from '../../src/protocol/uuid.ts';
import { libraryIdOf } from '../../src/protocol/membership.ts';
import { pretendedSeal } from './surroundings.ts';

export interface ReplicaOptions {
  readonly device: string;
  readonly ddl: string;
  readonly config?: object;
  readonly libraryId?: string;
  /** Wall clock in ms. @default one that advances a millisecond a reading */
  readonly now?: () => number;
  /** Random bytes. @default from a counter */
  readonly randomBytes?: (size: number) => Uint8Array;
  /** What the configuration's module exports. */
  readonly functions?: Readonly<Record<string, unknown>>;
  /** Path of the library, so that other programs can write to it. @default none: it is in memory */
  readonly file?: string;
  /** Rows that are there before the library is initialised. */
  readonly before?: string;
  /** It has just joined: its first pass comes from one member. @default false */
  readonly newcomer?: boolean;
  /** Hears of each step at which it may die, and throws if it does. */
  readonly reached?: (point: FaultPoint) => void;
}

export const LIBRARY_ID = '00112233445566778899aabbccddeeff';

const FOUNDING_SALT = '5a'.repeat(16);

/** The id of the library that device A founds, see {@link Replica.found}. */
export const FOUNDED_ID = libraryIdOf('A', FOUNDING_SALT);

/** Bytes from a seeded generator (mulberry32): tests must replay. */
export function seededBytes(seed: number): (size: number) => Uint8Array {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  return (size) => Uint8Array.from({ length: size }, () => next() & 0xff);
}

let seeds = 1;
let time = Date.UTC(2026, 0, 1);

/** 1970 in Julian days. */
const EPOCH = 2_440_587.5;

/** A connected pair's state on one side. */
export class Replica {
  readonly device: string;
  db: Database;
  served: Served;
  feeds: Feeds;
  /** Changes of the schema that it has followed, in words. */
  readonly changes: string[] = [];
  readonly #options: ReplicaOptions;
  readonly #now: () => number;
  readonly #randomBytes: (size: number) => Uint8Array;

  constructor(options: ReplicaOptions, restored?: Buffer) {
    this.#options = options;
    this.device = options.device;
    this.#now = options.now ?? (() => (time += 1));
    this.#randomBytes = options.randomBytes ?? seededBytes((seeds += 1));
    this.db = new Sqlite(restored ?? options.file ?? ':memory:');
    if (options.file !== undefined) this.db.pragma('journal_mode = WAL');
    // Our triggers ask for the time by this name: a story replays with the time that it is told in.
    this.db.function('julianday', (_when) => EPOCH + this.#now() / 86_400_000);
    this.db.pragma('foreign_keys = ON');
    if (restored === undefined) {
      this.db.exec(options.ddl);
      if (options.before !== undefined) this.db.exec(options.before);
      const config = parseConfig(JSON.stringify(options.config ?? {}), 'test');
      const library = this.db
        .transaction(() => createLibrary(this.db, this.#around(), options.libraryId ?? LIBRARY_ID, config))
        .immediate();
      library.transact(() => {
        library.sql.run('DELETE FROM flotilla_marks');
        for (const model of library.registry.models) stampExisting(library, model, this.#now());
        if (options.newcomer === true) markNewcomer(library);
      });
    }
    this.served = this.#serve();
    this.feeds = new Feeds(this.db, this.library.registry, () => 0);
  }

  get library(): Library {
    return this.served.library;
  }

  get applier(): Applier {
    return this.served.applier;
  }

  #around(): ConstructorParameters<typeof Library>[2] {
    const newUuid = makeUuidV7Generator(this.#randomBytes);
    return {
      device: this.device,
      seal: pretendedSeal(this.device),
      now: this.#now,
      randomBytes: this.#randomBytes,
      newUuid: () => newUuid(this.#now()),
      functions: () => this.#options.functions ?? {},
      ...(this.#options.reached === undefined ? {} : { reached: this.#options.reached }),
    };
  }

  #serve(): Served {
    return new Served(this.db, this.#around(), (changes) => this.changes.push(...changes));
  }

  /** Closes and opens it again, as a restart of the node does: a new run. */
  restart(): void {
    this.served = this.#serve();
    this.feeds = new Feeds(this.db, this.library.registry, () => 0);
  }

  /** Looks whether the schema has changed, as the node does when somebody has written. */
  look(): void {
    if (this.served.hasMoved()) this.served.follow();
    this.feeds.use(this.library.registry);
  }

  /** The whole file, as a backup would take it. */
  backup(): Buffer {
    return this.db.serialize();
  }

  /** A copy of it that was restored from such a backup. */
  restored(backup: Buffer): Replica {
    return new Replica(this.#options, backup);
  }

  /** What a program writes. */
  write(sql: string, ...params: unknown[]): void {
    if (params.length > 0) this.db.prepare(sql).run(...params);
    else this.db.exec(sql);
  }

  rows(sql: string, ...params: unknown[]): unknown[][] {
    return this.db
      .prepare(sql)
      .raw()
      .all(...params) as unknown[][];
  }

  stamp(): number {
    this.look();
    return this.applier.stamp();
  }

  /** Makes this copy's device the first member. It must be A, and the library {@link FOUNDED_ID}. */
  found(): void {
    this.library.transact(() => writeFounder(this.library, 'founder', FOUNDING_SALT));
  }

  /** Lets a device in. */
  admit({ device }: Pick<Replica, 'device'>): void {
    admit(this.library, device, `${device}'s box`);
  }

  revoke({ device }: Pick<Replica, 'device'>): void {
    revoke(this.library, device);
  }

  /** Peer ids of the members, as this copy has them, in one word. */
  members(): string {
    return this.rows('SELECT device FROM flotilla_members WHERE revoked_at IS NULL ORDER BY device').join('');
  }

  /** Knows a device as a member, as if records said so. */
  knowMember(device: string, name = device): void {
    this.library.sql.run(
      'INSERT OR REPLACE INTO flotilla_members (device, name, term, invited_by, added_at) VALUES (?, ?, 1, ?, 0)',
      device,
      name,
      '',
    );
  }

  /** Gives an owned row to a device that is a member. @param to - @default this one */
  own(table: string, key: string | number, to: Replica = this): void {
    for (const { device } of [this, to]) this.knowMember(device);
    this.served.own({ table, key: String(key), device: to.device });
  }

  /**
   * Opens a pass of `from`'s feed for this copy.
   * @param knowledge - what this copy has said that it knows; by now it may know more
   */
  passFrom(from: Replica, knowledge: KnowledgeWire = wireOf([...this.library.knowledge()])): Pass {
    requireNotRevoked(from.library.sql, this.device);
    from.stamp();
    this.look();
    // What the two say of their tables when they shake hands.
    if (from.library.registry.schemaHash !== this.library.registry.schemaHash) {
      this.served.learn(describeModels(allModels(from.library.registry)));
      this.look();
    }
    const cursor = this.library.cursor(from.device);
    noteTold(this.library, from.device);
    from.hear(this);
    const floor = floorOf(from.library.sql);
    noteFloor(this.library, from.device, floor);
    const kind = passKind(this.library, from.device, floor);
    // Whoever is behind what was pruned gives nothing before it has reconciled itself.
    const isStale = isBelow(from.library.knowledge(), floorOf(this.library.sql));
    if (isStale && kind !== 'reconcile') return new Pass(this, from, null);
    this.library.transact(() => {
      if (kind === 'newcomer') beginNewcomer(this.library, from.device, wireOf([...floor]));
      beginPass(this.library, from.device, kind);
    });
    const { feed } = from.feeds.open(cursor, knowledge, kind);
    for (const stamps of stampsBeyond(this.library.sql, this.library.registry)) from.feeds.peerHas(feed, stamps);
    return new Pass(this, from, feed);
  }

  /** Hears from another member what it knows. */
  hear(member: Replica): void {
    this.library.transact(() =>
      hearAll(this.library, member.device, wireOf([...member.library.knowledge()]), this.#now()),
    );
  }

  /** Prunes what every member has ACKed. */
  prune(retentionDays?: number): Pruned {
    this.stamp();
    return prune(this.library, retentionDays);
  }

  /** Takes all that `from` has, in one complete pass. */
  pull(from: Replica, rows = 1000): Taken[] {
    const pass = this.passFrom(from);
    const applied: Taken[] = [];
    for (let page = pass.next(rows); page !== null; page = pass.next(rows)) {
      const result = this.apply(from.device, page);
      applied.push(result);
      if (result.complete) break;
    }
    pass.close();
    from.hear(this);
    return applied;
  }

  apply(peer: string, page: Uint8Array): Taken {
    const [applied] = this.served.apply(peer, [page]) as [Taken];
    this.look();
    return applied;
  }

  async digest(): Promise<unknown> {
    this.stamp();
    return inspect(this.db, this.library.registry, { kind: 'tables' }, async () => undefined);
  }

  waiting(): string[] {
    return this.rows('SELECT reason FROM flotilla_pending ORDER BY lsn').map(([reason]) => String(reason));
  }

  violations(): unknown[] {
    return [...(this.db.pragma('foreign_key_check') as unknown[])];
  }
}

/** A pass of one copy's feed for another. */
export class Pass {
  readonly #to: Replica;
  readonly #from: Replica;
  /** Null where nothing may be taken. */
  readonly #feed: number | null;

  constructor(to: Replica, from: Replica, feed: number | null) {
    this.#to = to;
    this.#from = from;
    this.#feed = feed;
  }

  /** The next page, encoded; null when there is nothing to send. */
  next(rows = 1000, bytes = 1 << 20): Uint8Array | null {
    if (this.#feed === null) return null;
    for (let tries = 0; tries < 10; tries += 1) {
      const page = this.#from.feeds.page(this.#feed, { rows, bytes });
      if ('unstamped' in page) {
        const { dangling } = page;
        if (dangling !== null) this.#from.library.transact(() => noteDangling(this.#from.library, dangling));
        this.#from.stamp();
        continue;
      }
      if (page.data === null && !page.complete && page.heldUp === '') continue;
      return page.data === null ? null : new Uint8Array(page.data);
    }
    throw new Error(`${this.#from.device} cannot be stamped for ${this.#to.device}`);
  }

  /** The receiver has said what it knows by now. */
  peerKnows(knowledge: KnowledgeWire): void {
    if (this.#feed !== null) this.#from.feeds.peerKnows(this.#feed, knowledge);
  }

  close(): void {
    if (this.#feed !== null) this.#from.feeds.close(this.#feed);
  }
}

/** Exchanges between all pairs until nothing changes any more. */
export function converge(replicas: readonly Replica[], rows = 1000): void {
  for (let round = 0; round < 30; round += 1) {
    let changed = 0;
    const heads = replicas.map((replica) => replica.library.head).join();
    for (const to of replicas) {
      for (const from of replicas) {
        if (from !== to) changed += to.pull(from, rows).reduce((sum, applied) => sum + applied.changed, 0);
      }
    }
    if (changed === 0 && heads === replicas.map((replica) => replica.library.head).join()) return;
  }
  throw new Error('the copies do not come to rest');
}
