/**
 * A device of a fleet that is killed and opened again: its library is a file, served by the real services of the database workers, in
 * this process. Nothing happens by itself, so that two plays reach the same points in the same order.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import Sqlite from 'better-sqlite3';

import { createReceiver } from '../../../src/actors/receiving.ts';
import type { WriteAccess } from '../../../src/db/access.ts';
import { fileAccess } from '../../../src/db/access.ts';
import type { FaultPoint } from '../../../src/db/fault-points.ts';
import { Reader } from '../../../src/db/reader.ts';
import { Writer } from '../../../src/db/writer.ts';
import type { Cursor, Frame, KnowledgeWire, PassKind } from '../../../src/protocol/types.ts';
import { surroundingsOf } from '../surroundings.ts';

/** Rows a batch: few, so that each pass has several pages. */
const BATCH = { rows: 6, bytes: 1 << 20 };
const CREDIT = 1 << 24;
const IN_TURN = { maySnapshot: false, isItsTurn: true };

/** What a crash is tried at. */
export type Reached = (point: FaultPoint) => void;

export class CrashDevice {
  readonly name: string;
  readonly file: string;
  readonly #reached: Reached;
  readonly #now: () => number;
  /** What the node would do by itself after a while. */
  readonly #later: (() => void)[] = [];
  #open: { readonly writer: Writer; readonly reader: Reader } | null = null;

  /** @param now - its clock, ms since 1970 */
  constructor(folder: string, name: string, now: () => number, reached: Reached) {
    this.name = name;
    this.file = join(folder, `${name}.db`);
    this.#now = now;
    this.#reached = reached;
  }

  get exists(): boolean {
    return existsSync(this.file);
  }

  get writer(): Writer {
    return this.#serve().writer;
  }

  get reader(): Reader {
    return this.#serve().reader;
  }

  #serve(): { readonly writer: Writer; readonly reader: Reader } {
    if (this.#open !== null) return this.#open;
    const access: WriteAccess = {
      ...fileAccess,
      watchCommits: () => () => undefined,
      setTimeout: (work) => this.#later.push(work),
      clearTimeout: () => undefined,
      soon: (work) => void this.#later.push(work),
    };
    const around = { ...surroundingsOf(this.name, this.file), now: this.#now, reached: this.#reached };
    const fail = (error: unknown): never => {
      throw error;
    };
    const ignore = (): void => undefined;
    const writer = new Writer(this.file, 'normal', around, ignore, fail, ignore, ignore, access);
    // A search for what is news takes no time: on a busy machine it would end a page early.
    this.#open = { writer, reader: new Reader(this.file, { ...fileAccess, elapsed: () => 0 }) };
    return this.#open;
  }

  close(): void {
    this.#open?.reader.close();
    this.#open?.writer.close();
    this.#open = null;
    this.#later.length = 0;
  }

  /** A program of its own writes. */
  write(...statements: readonly string[]): void {
    const db = new Sqlite(this.file);
    try {
      db.pragma('foreign_keys = ON');
      for (const sql of statements) {
        moment();
        db.exec(sql);
      }
    } finally {
      db.close();
    }
  }

  /** Does what the node does by itself after a while: it prunes. */
  tidy(): void {
    void this.writer;
    for (const work of this.#later.splice(0)) work();
  }

  /** One session, as the two nodes would have it: both passes, and what others know. */
  async meet(other: CrashDevice): Promise<void> {
    for (const device of [this, other]) device.writer.stamp();
    this.#learnTables(other);
    other.#learnTables(this);
    // As at the beginning of a session with somebody whose clock agrees.
    for (const [device, { name }] of [
      [this, other],
      [other, this],
    ] as const)
      if (device.writer.sessionStart(name).isAhead) device.writer.stampAnew();
    const [mine, theirs] = [this.writer.sessionStart(other.name), other.writer.sessionStart(this.name)];
    const own = this.writer.beginPass(other.name, theirs.floor, IN_TURN);
    const others = other.writer.beginPass(this.name, mine.floor, IN_TURN);
    if (own === null || others === null) throw new Error(`${this.name} and ${other.name} have no turn`);
    other.writer.hear(this.name, mine.knowledge);
    this.writer.hear(other.name, theirs.knowledge);
    const inward = (): Promise<void> => this.#take(other, own.cursor, mine.knowledge, own.pass);
    const outward = (): Promise<void> => other.#take(this, others.cursor, theirs.knowledge, others.pass);
    // Who must reconcile does that before it gives anything.
    for (const pass of own.pass === 'reconcile' ? [inward, outward] : [outward, inward]) await pass();
    other.writer.hearOfOthers(this.name, mine.knowledge, this.writer.heardNews(other.name));
    this.writer.hearOfOthers(other.name, theirs.knowledge, other.writer.heardNews(this.name));
  }

  #learnTables(other: CrashDevice): void {
    const { schema, schemaHash } = other.writer.sessionStart(this.name);
    if (this.writer.sessionStart(other.name).schemaHash !== schemaHash) this.writer.learnSchema(schema);
  }

  /** Takes a pass of another device's feed, a batch after the other. */
  async #take(from: CrashDevice, cursor: Cursor | null, knowledge: KnowledgeWire, pass: PassKind): Promise<void> {
    const { feed } = from.reader.openFeed(this.name, cursor, knowledge, pass, '');
    for (let complete = false; !complete;) {
      const data = from.#page(feed);
      if (data === null) break;
      complete = await new Promise<boolean>((resolve, reject) => {
        const receiver = createReceiver({
          peer: from.name,
          store: { apply: async (peer, batch) => this.writer.apply(peer, batch) },
          credit: CREDIT,
          send: async (frame) => from.#hearAck(this.name, frame),
          onDurable: () => undefined,
          onApplied: (applied) => resolve(applied.complete),
          onFault: reject,
          reached: this.#reached,
        });
        receiver.take(data);
      });
    }
    from.reader.closeFeed(feed);
  }

  #hearAck(peer: string, frame: Frame): void {
    if (frame.type === 'ack') this.writer.acked(peer, frame.cursor, frame.complete, frame.knowledge);
  }

  #page(feed: number): Uint8Array | null {
    for (let tries = 0; tries < 10; tries += 1) {
      const page = this.reader.page(feed, BATCH);
      if ('head' in page) return page.data === null ? null : new Uint8Array(page.data);
      if (page.unstamped) this.writer.stamp();
      if (page.dangling !== null) this.writer.noteDangling(page.dangling);
    }
    throw new Error(`${this.name} cannot be read`);
  }
}

/** Waits until the clock has gone on: which of two writes is the later one must not be left to chance. */
function moment(): void {
  for (const now = Date.now(); Date.now() < now + 3;);
}
