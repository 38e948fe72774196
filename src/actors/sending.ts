/**
 * The sending half of a session: one pass over our feed, from the peer's cursor to the head, then on as the head grows.
 * It reads a page only when the peer has credit and there may be something to read; it never polls, and holds one page.
 */
import { FlotillaError } from '../errors.ts';
import type { Store } from '../db/api.ts';
import { MAX_KNOWN_RUNS } from '../protocol/knowledge.ts';
import { MAX_STAMP_MESSAGES } from '../protocol/stamp-set.ts';
import type { Cursor, Frame, KnowledgeWire, PassKind } from '../protocol/types.ts';
import { createGate } from './clock.ts';
import type { Clock } from './clock.ts';

/**
 * How long what came from others waits before it is passed on, ms: by then whoever got it from its author as well has said so.
 * A few round trips; it is what each device between two that have no session of their own costs.
 */
export const RELAY_DELAY_MS = 200;

/**
 * How many entries that the peer has sent itself may gather in our feed, and how often it is looked, ms. Beyond that they are passed over while
 * nothing arrives, which takes about 3 µs each: the next session would have to begin with it.
 */
export const ECHO_ENTRIES = 1_000;
export const ECHO_LOOK_MS = 1_000;

/**
 * Rows of the first page, at most: the peer begins to apply it while the next one is read. What has gathered there meanwhile goes into one
 * transaction.
 */
const FIRST_PAGE_ROWS = 250;

export interface BatchLimits {
  readonly rows: number;
  readonly bytes: number;
}

export interface SenderOptions {
  readonly peer: string;
  readonly store: Pick<Store, 'openFeed' | 'page' | 'closeFeed' | 'peerKnows' | 'peerHas' | 'acked' | 'onHead'>;
  /** Where the pass begins. */
  readonly cursor: Cursor | null;
  readonly pass: PassKind;
  /** What the peer knew when it asked. */
  readonly knowledge: KnowledgeWire;
  /** Hash of the records of membership that it had then, hex. */
  readonly records: string;
  /** Bytes that the peer grants. */
  readonly credit: number;
  /** The peer says that it has all up to the cursor, so that there is no pass to be sent. */
  readonly isOver: boolean;
  readonly limits: BatchLimits;
  readonly send: (frame: Frame) => Promise<void>;
  /** Ends it. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** True while a batch of this peer is being applied: what makes the head grow just then came from the peer itself. */
  readonly applying: () => boolean;
  /** Rows are too large to be sent: which, and what to do. */
  readonly onHeldUp?: (message: string) => void;
  /** The peer ACKed a whole pass. */
  readonly onComplete: () => void;
}

export interface Sender {
  /** Takes an ACK; throws `PROTOCOL` when nothing was sent that it could answer. */
  acked(ack: Extract<Frame, { type: 'ack' }>): void;
  /** A batch of the peer was applied; a complete one says what the peer knows, which is then not sent back. */
  applied(knowledge: KnowledgeWire | null): void;
  /** The peer says what it has by now. */
  offered(knowledge: KnowledgeWire): void;
  /** The peer tells of versions that it has beyond that; throws `PROTOCOL` when it tells of too many without a rest. */
  has(stamps: Uint8Array): void;
  /** The peer wants nothing for a while, or goes on. */
  rest(rests: boolean): void;
  /** True while a batch is on its way that the peer has not ACKed. */
  owed(): boolean;
  /** True when the peer has ACKed all that we know of. */
  upToDate(): boolean;
  /** What is too large to be sent, in words; '' for nothing. */
  heldUp(): string;
  /** Runs until the signal aborts or something fails (rejects then). The feed is closed either way. */
  run(): Promise<void>;
}

export function createSender(options: SenderOptions): Sender {
  const { peer, store, limits, send, signal, clock } = options;
  const wake = createGate();
  const inFlight: number[] = [];
  let credit = options.credit;
  let feed: number | null = null;
  /** What the peer has said that it knows, before the feed was open. */
  const said: KnowledgeWire[] = [];
  /** Runs in that, and in what the store is being told of it. */
  let saidRuns = 0;
  /** What it has told of versions before the next page. */
  const stamps: Uint8Array[] = [];
  let isResting = false;
  /** True when there may be something behind the last page. */
  let dirty = true;
  /** The head as somebody else than the peer moved it last. */
  let head = 0;
  /** The head as this device moved it last. */
  let ownHead = 0;
  let sentHead = -1;
  /** Until what came from others is passed on. */
  let relaying: unknown = null;
  /** Until what came from the peer is passed over. */
  let passing: unknown = null;
  let passEnded = false;
  /** What is too large to be sent, in words; '' for nothing. */
  let heldUp = '';
  let newest: Pick<Extract<Frame, { type: 'ack' }>, 'cursor' | 'complete' | 'knowledge'> | null = null;
  let storing: Promise<void> | null = null;
  let storeFault: unknown = null;

  function confirm({ cursor, complete, knowledge }: NonNullable<typeof newest>): void {
    newest = { cursor, complete, knowledge: newest === null ? knowledge : joinKnowledge(newest.knowledge, knowledge) };
    storing ??= storeAcks();
    wake.open();
    if (complete) options.onComplete();
  }

  /** Stores the newest ACK; those that come while one is being stored are one call. */
  async function storeAcks(): Promise<void> {
    try {
      while (newest !== null) {
        const { cursor, complete, knowledge } = newest;
        newest = null;
        await store.acked(peer, cursor, complete, knowledge);
      }
    } catch (error) {
      storeFault = error;
      wake.open();
    } finally {
      storing = null;
    }
  }

  /** A page that was not spared what the peer knows is only longer than it must be: no fault. */
  async function spare(opened: number, knowledge: KnowledgeWire): Promise<void> {
    await store.peerKnows(opened, knowledge).catch(() => {});
    saidRuns -= knowledge.hlc.length;
  }

  /** Whoever says more than is looked at is sent what he has. */
  function hasSaid(knowledge: KnowledgeWire): void {
    const runs = knowledge.hlc.length;
    if (runs === 0 || saidRuns + runs > MAX_KNOWN_RUNS) return;
    saidRuns += runs;
    if (feed === null) said.push(knowledge);
    else void spare(feed, knowledge);
  }

  function relayLater(): void {
    relaying ??= clock.setTimeout(() => {
      relaying = null;
      if (head <= sentHead) return;
      dirty = true;
      wake.open();
    }, RELAY_DELAY_MS);
  }

  /** @param grown - the head as the peer has moved it */
  function passOverLater(grown: number): void {
    if (passing !== null || grown - sentHead < ECHO_ENTRIES) return;
    passing = clock.setTimeout(() => {
      passing = null;
      if (options.applying()) return passOverLater(grown);
      dirty = true;
      wake.open();
    }, ECHO_LOOK_MS);
  }

  async function follow(opened: number): Promise<never> {
    for (;;) {
      while (!dirty || credit <= 0 || isResting) {
        await wake.wait(signal);
        if (storeFault !== null) throw storeFault;
      }
      dirty = false;
      for (let told = stamps.shift(); told !== undefined; told = stamps.shift()) await store.peerHas(opened, told);
      const rows = sentHead < 0 ? Math.min(limits.rows, FIRST_PAGE_ROWS) : limits.rows;
      const page = await store.page(opened, { ...limits, rows });
      signal.throwIfAborted();
      sentHead = page.head;
      ({ heldUp } = page);
      if (heldUp !== '') options.onHeldUp?.(heldUp);
      if ((!page.complete && heldUp === '') || (passEnded ? ownHead : head) > page.head) dirty = true;
      if (page.data !== null) {
        const data = new Uint8Array(page.data);
        credit -= data.byteLength;
        inFlight.push(data.byteLength);
        await send({ type: 'batch', data });
      } else if (page.complete && !passEnded) {
        // Without a last batch the peer would wait for ever.
        throw new FlotillaError('DATABASE', 'The feed ended its first pass without a batch.');
      }
      passEnded ||= page.complete;
    }
  }

  return {
    acked(ack) {
      const bytes = inFlight.shift();
      if (bytes === undefined || ack.credit !== bytes) {
        throw new FlotillaError('PROTOCOL', 'The peer ACKed a batch that was not sent.');
      }
      credit += bytes;
      confirm(ack);
    },
    applied(knowledge) {
      if (knowledge !== null) hasSaid(knowledge);
      if (dirty) wake.open();
    },
    offered: hasSaid,
    has(told) {
      if (stamps.length >= MAX_STAMP_MESSAGES)
        throw new FlotillaError('PROTOCOL', 'The peer tells of more versions that it has than anybody can have.');
      stamps.push(told);
    },
    rest(rests) {
      isResting = rests;
      // All of it is told again before it goes on.
      if (rests) stamps.length = 0;
      wake.open();
    },
    owed: () => inFlight.length > 0,
    upToDate: () => passEnded && heldUp === '' && inFlight.length === 0 && head <= sentHead && !dirty,
    heldUp: () => heldUp,
    async run() {
      const unlisten = store.onHead((grown, from) => {
        // What the peer has sent us it has: the feed passes over it when there is something else.
        if (from === peer && passEnded) return passOverLater(grown);
        head = grown;
        if (from === null) ownHead = grown;
        if (head <= sentHead) return;
        if (from !== null && passEnded) return relayLater();
        dirty = true;
        // By then it is known what the peer knows.
        if (!options.applying()) wake.open();
      });
      try {
        const { cursor, pass, knowledge: known, records } = options;
        ({ feed, isOver: passEnded } = await store.openFeed(peer, cursor, known, pass, records, options.isOver));
        signal.throwIfAborted();
        if (passEnded && cursor !== null) confirm({ cursor, complete: true, knowledge: NOTHING });
        for (const knowledge of said.splice(0)) await spare(feed, knowledge);
        await follow(feed);
      } catch (error) {
        if (!signal.aborted) throw error;
      } finally {
        unlisten();
        clock.clearTimeout(relaying);
        clock.clearTimeout(passing);
        // A worker that is gone has lost the feed anyway.
        if (feed !== null) await store.closeFeed(feed).catch(() => {});
        await storing;
      }
    },
  };
}

const NOTHING: KnowledgeWire = { runs: new Uint8Array(), hlc: [] };

/** One after the other: of a run that is named twice the greater counts. */
export function joinKnowledge(one: KnowledgeWire, other: KnowledgeWire): KnowledgeWire {
  const runs = new Uint8Array(one.runs.length + other.runs.length);
  runs.set(one.runs);
  runs.set(other.runs, one.runs.length);
  return { runs, hlc: [...one.hlc, ...other.hlc] };
}
