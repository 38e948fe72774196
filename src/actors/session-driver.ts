/**
 * The effects of a peer session: runs the protocol over one channel and reports to the machine, which alone decides the
 * state. One driver lives as long as its channel; whatever ends it (a fault, a goodbye, `end()`), it ends once, and
 * `ended` resolves when nothing of it is left: no feed, no apply, no timer.
 */
import type { Progress } from '../api.ts';
import type { Applied, Store } from '../db/api.ts';
import { FlotillaError, messageOf } from '../errors.ts';
import { coversWire } from '../protocol/knowledge.ts';
import { MAX_STAMP_MESSAGES } from '../protocol/stamp-set.ts';
import type {
  Channel,
  Frame,
  HeardWire,
  Inspection,
  InspectionAnswer,
  KnowledgeWire,
  PassKind,
} from '../protocol/types.ts';
import { createAsking } from './asking.ts';
import { createGate, unlessAborted } from './clock.ts';
import type { Clock } from './clock.ts';
import { createGiving, SNAPSHOT_ROWS } from './giving.ts';
import { createGreeting } from './greeting.ts';
import type { Greeting, Introduction } from './greeting.ts';
import { makeHello } from './handshake.ts';
import type { Refusal, SessionFacts } from './handshake.ts';
import { createInspecting } from './inspecting.ts';
import { whyOf } from './peer-session.ts';
import type { DriverEvent } from './peer-session.ts';
import { createPassProgress } from './progress.ts';
import { startReading } from './reading.ts';
import type { Reading } from './reading.ts';
import { createReceiver, RECEIVE_CREDIT_BYTES } from './receiving.ts';
import type { Priority } from './receiving.ts';
import { createResting } from './resting.ts';
import { createSender, joinKnowledge } from './sending.ts';
import type { BatchLimits, Sender } from './sending.ts';
import { spread } from './spreading.ts';
import { createTaking } from './taking.ts';
import type { Turns } from './turns.ts';

/**
 * How long the end of a session may take, ms: what is being applied becomes durable and is ACKed, the goodbye leaves, the
 * other side closes. A few round trips and one batch; a dead link must not hold up a stop for longer.
 */
export const FAREWELL_TIMEOUT_MS = 3_000;

/**
 * How long a peer that owes us something (what it wants, the rest of a pass, an ACK) may say nothing, ms. Its heart beats, so it is there;
 * but it may be stuck, or mean to hold us up. Longer than any import is stamped or another program keeps its library locked.
 */
export const OWING_TIMEOUT_MS = 10 * 60_000;

/** What a session uses of the store. */
export interface SessionStore extends Pick<
  Store,
  | 'sessionStart'
  | 'stampAnew'
  | 'beginPass'
  | 'concludePass'
  | 'beginSnapshot'
  | 'addToSnapshot'
  | 'takeSnapshot'
  | 'offerSnapshot'
  | 'snapshotPart'
  | 'hear'
  | 'hearOfOthers'
  | 'heardNews'
  | 'learnSchema'
  | 'acked'
  | 'openFeed'
  | 'page'
  | 'closeFeed'
  | 'peerKnows'
  | 'peerHas'
  | 'stampsBeyond'
  | 'inspect'
  | 'onHead'
> {
  apply(peer: string, pages: readonly Uint8Array[], priority: Priority): Promise<readonly Applied[]>;
}

export interface DriverOptions {
  readonly channel: Channel;
  readonly store: SessionStore;
  readonly facts: SessionFacts;
  readonly limits: BatchLimits;
  /** Rows from which on a snapshot is given. @default SNAPSHOT_ROWS */
  readonly snapshotRows?: number;
  readonly clock: Clock;
  /** Whether this device needs the session, as long as it does not say otherwise. @default true */
  readonly isNeeded?: boolean;
  /** Whose feed this device takes now. */
  readonly turns: Turns;
  /** Sessions of this device in which something is to be given or taken. @default none */
  readonly load?: () => number;
  /** Of the peer, ms; null when it is not known. @default it is not */
  readonly roundTrip?: () => number | null;
  /** To the machine. */
  readonly emit: (event: DriverEvent) => void;
  readonly onName?: (name: string) => void;
  /** What the two have of tables that the other has not, or has otherwise; none when all is the same. */
  readonly onDifferences?: (differences: readonly string[]) => void;
  /** After each batch, and after a snapshot. */
  readonly onApplied?: (applied: Pick<Applied, 'rows' | 'changed' | 'complete' | 'said'>) => void;
  /** Rows here are too large to be sent: which, and what to do. */
  readonly onHeldUp?: (message: string) => void;
  /** After each ACK of the peer. */
  readonly onAcked?: () => void;
  /** While a pass of several batches is taken in, and at its end. */
  readonly onProgress?: (progress: Progress) => void;
}

export interface SessionDriver {
  /** True while it tells the store what the peer has: what the store says of a changed schema comes of that. */
  learning(): boolean;
  /** Asks the peer about its copy. */
  inspectPeer(query: Inspection): Promise<InspectionAnswer>;
  /** The inbound pass that runs; null when there is none. */
  progress(): Progress | null;
  /** True when the last inbound pass was complete and the peer has ACKed all that we have. */
  inSync(): boolean;
  /** True when the peer has ACKed all that we have. */
  delivered(): boolean;
  /** What is too large to be sent to it, in words; '' for nothing. */
  heldUp(): string;
  /** This device needs the session, or does so no more: it ends when the peer does not either. */
  need(isNeeded: boolean): void;
  /** Tells the peer what is here by now, so that it does not send it. */
  offer(knowledge: KnowledgeWire): void;
  /** Tells the peer why there will be no session with it any more, and ends. */
  dismiss(): Promise<void>;
  /** Says goodbye and ends. Twice is harmless. */
  end(reason: string): Promise<void>;
  readonly ended: Promise<void>;
}

export function startSession(options: DriverOptions): SessionDriver {
  const { channel, store, facts, clock, emit } = options;
  const peer = channel.peer;
  const stop = new AbortController();
  const { signal } = stop;
  const progress = createPassProgress(clock);
  let sender: Sender | null = null;
  let sending: Promise<void> = Promise.resolve();
  /** Our knowledge as our hello named it. */
  let spoken = NOTHING;
  let greeted = false;
  /** What the peer has told before its `want` of versions that it has. */
  const stamps: Uint8Array[] = [];
  /** Our `want` has gone out: from then on the peer takes offers. */
  let hasAsked = false;
  /** The peer owes us its feed, or a snapshot. */
  let isOwed = false;
  /** What is to be offered, while an offer is on its way. */
  let offers: KnowledgeWire[] | null = null;
  let greeting: Greeting | null = null;
  let ownPass: PassKind = 'ordinary';
  /** Opens when that is known. */
  const decided = createGate();
  /** As its hello said. */
  let load = 0;
  /** It knows something that this device did not, as both said; true until it has said. */
  let hasNews = true;
  let isNeeded = options.isNeeded ?? true;
  let saidNeeded = true;
  let isNeededThere = true;
  let asked: Promise<void> = Promise.resolve();
  /** What the peer's `want` said that it knows. */
  let base: KnowledgeWire | null = null;
  const inbound = createGate();
  let spreading: Promise<void> = Promise.resolve();
  let hearing: Promise<void> = Promise.resolve();
  let inboundComplete = false;
  let lastComplete = false;
  let reading: Reading | null = null;
  /** The last frame, if it is we who end the session; set by the first thing that ends it. */
  let farewell: { readonly frame: Frame | null } | null = null;
  let cutOff: unknown = null;
  let lastHeard = clock.now();
  let watch: unknown = null;

  const send = (frame: Frame): Promise<void> => channel.send(frame);

  function finish(frame: Frame | null): boolean {
    if (farewell !== null) return false;
    farewell = { frame };
    const late = new FlotillaError('STOPPED', 'The session did not end in time.');
    clock.clearTimeout(watch);
    cutOff = clock.setTimeout(() => channel.abort(late), FAREWELL_TIMEOUT_MS);
    stop.abort(new FlotillaError('STOPPED', 'The session has ended.'));
    return true;
  }

  const dismissal: Refusal = {
    code: 'REVOKED',
    message: `"${facts.name}" does not know this device as a member of the library any more`,
  };

  function fault(error: unknown): void {
    // The library has heard of it before the node has.
    if (error instanceof FlotillaError && error.code === 'REVOKED') return refuse(dismissal);
    const why = whyOf(error);
    if (!finish({ type: 'bye', reason: `a fault on the other side: ${why.reason}` })) return;
    emit(isSpare() ? { type: 'SPARE' } : { type: 'FAULT', ...why });
  }

  /** Ends the session with a peer that owes something and has said nothing for too long. */
  function watchOwing(): void {
    const owes = (isOwed && !lastComplete && !resting.rests()) || sender?.owed() === true;
    // Never longer: the clock may have been set back.
    const left = Math.min(OWING_TIMEOUT_MS, lastHeard + OWING_TIMEOUT_MS - clock.now());
    if (owes && left <= 0)
      return fault(
        new FlotillaError('UNREACHABLE', `The peer has not gone on for ${OWING_TIMEOUT_MS / 60_000} minutes.`),
      );
    watch = clock.setTimeout(watchOwing, owes ? left : OWING_TIMEOUT_MS);
  }

  const resting = createResting({ store, send, signal, onFault: fault });
  const inspecting = createInspecting({ store, send, clock, onFault: fault });
  const giving = createGiving({
    peer,
    store,
    leastRows: options.snapshotRows ?? SNAPSHOT_ROWS,
    send,
    onFault: fault,
  });
  const taking = createTaking({
    peer,
    store,
    send,
    signal,
    clock,
    onProgress(rows, remaining, bytes) {
      asking.turn()?.came(bytes, rows, remaining);
      options.onProgress?.(progress.add({ rows, remaining, complete: false }));
    },
    onTransferred() {
      const now = progress.changePace();
      if (now !== null) options.onProgress?.(now);
    },
  });
  const receiver = createReceiver({
    peer,
    store,
    credit: RECEIVE_CREDIT_BYTES,
    send,
    onFault: fault,
    onDurable: (applied) => sender?.applied(applied.knowledge),
    onApplied: tookIn,
  });

  /** @param first - it belongs to the first pass. @param bytes - of the batch */
  function tookIn(applied: Applied, first: boolean, bytes: number): void {
    const oneBatch = progress.current() === null && applied.complete;
    const now = progress.add(applied);
    lastComplete = applied.complete;
    options.onApplied?.(applied);
    // Whoever is to go on has been told before what need not be sent.
    if (applied.complete) asking.turn()?.end();
    else asking.turn()?.came(bytes, applied.rows, applied.remaining);
    if (now.total > 0 && (first || !oneBatch)) options.onProgress?.(now);
    if (applied.complete && !inboundComplete) {
      inboundComplete = true;
      inbound.open();
      emit({ type: 'INBOUND_COMPLETE' });
      spreading = spread({ peer, store, send, clock, signal }).catch((error: unknown) => {
        if (!signal.aborted) fault(error);
      });
    }
    weigh();
  }

  const asking = createAsking({
    peer,
    store,
    turns: options.turns,
    taker: {
      peer,
      standing: () => ({ hasNews, load, roundTripMs: options.roundTrip?.() ?? null }),
      isAtWork: () => receiver.applying() || taking.isAtWork(),
    },
    signal,
    onDecided(pass) {
      ownPass = pass;
      decided.open();
    },
    async takeSnapshot(wanted) {
      isOwed = true;
      weigh();
      const taken = await taking.run(wanted);
      if (taken === null || taken === 'left') progress.reset();
      else options.onApplied?.({ rows: taken.rows, changed: taken.rows, complete: false, said: NOTHING });
      return taken;
    },
    rest(rests) {
      resting.rest(rests);
      if (rests) taking.leave();
    },
  });

  function refuse(refusal: Refusal): void {
    if (finish({ type: 'refuse', ...refusal })) emit({ type: 'REFUSED', code: refusal.code, reason: refusal.message });
  }

  function startSending(want: Extract<Frame, { type: 'want' }>): void {
    const { cursor, pass, knowledge, records, credit } = want;
    if (sender !== null) throw new FlotillaError('PROTOCOL', 'The peer asked for the feed twice.');
    base = knowledge ?? spoken;
    hasNews = !coversWire(spoken, base);
    sender = createSender({
      peer,
      store,
      cursor,
      pass,
      // "The same as yours" means what our hello said, not what we know by now: a write of ours may have come in between.
      knowledge: base,
      records,
      credit,
      isOver: want.isOver,
      limits: options.limits,
      send,
      signal,
      clock,
      applying: () => receiver.applying(),
      ...(options.onHeldUp === undefined ? {} : { onHeldUp: options.onHeldUp }),
      onComplete: onceOnly(() => emit({ type: 'OUTBOUND_ACKED' })),
    });
    for (const data of stamps.splice(0)) sender.has(data);
    const following = sender;
    const run = async (): Promise<void> => {
      await store.hear(peer, knowledge ?? spoken);
      // What we have may have been deleted there: first we reconcile. If both must, one of them begins.
      await decided.wait(signal);
      if (ownPass === 'reconcile' && (pass !== 'reconcile' || facts.device < peer)) await inbound.wait(signal);
      if (!signal.aborted) await following.run();
    };
    sending = run().catch((error: unknown) => {
      if (!signal.aborted) fault(error);
    });
  }

  /** Asks for the peer's feed, when it is its turn. */
  async function ask(introduction: Introduction): Promise<void> {
    const wish = await asking.run(introduction);
    // The page that would say so goes without saying, and so does its ACK.
    const ended = wish.isOver ? await store.concludePass(peer, introduction.head) : null;
    signal.throwIfAborted();
    lastComplete = wish.isOver;
    if (!wish.isOver) await resting.tellStamps();
    hasAsked = true;
    isOwed = true;
    weigh();
    await send({ type: 'want', ...wish, credit: RECEIVE_CREDIT_BYTES });
    if (ended !== null) {
      receiver.concluded();
      tookIn(ended, true, 0);
    }
    return resting.begun();
  }

  /** Neither side needs the session, as they have said. */
  function isSpare(): boolean {
    return !saidNeeded && !isNeededThere;
  }

  /** Says whether this device needs the session when that has changed, and ends it when neither does. What has begun is taken in first. */
  function weigh(): void {
    if (!greeted || farewell !== null) return;
    const needs = isNeeded || (isOwed && !lastComplete);
    if (needs !== saidNeeded) {
      saidNeeded = needs;
      send({ type: 'keep', needed: needs }).catch((error: unknown) => {
        if (!signal.aborted) fault(error);
      });
    }
    if (isSpare() && finish({ type: 'bye', reason: 'neither side needs this session' })) emit({ type: 'SPARE' });
  }

  /** One at a time; what comes meanwhile goes together. */
  async function offer(knowledge: KnowledgeWire): Promise<void> {
    if (!hasAsked || signal.aborted) return;
    if (offers !== null) return void offers.push(knowledge);
    offers = [knowledge];
    try {
      while (offers.length > 0) await send({ type: 'offer', knowledge: offers.splice(0).reduce(joinKnowledge) });
    } catch (error) {
      if (!signal.aborted) fault(error);
    } finally {
      offers = null;
    }
  }

  async function heard(members: readonly HeardWire[]): Promise<void> {
    if (base === null)
      throw new FlotillaError('PROTOCOL', 'The peer tells of others before it has said what it knows.');
    await store.hearOfOthers(peer, base, members);
  }

  function take(frame: Frame): void {
    switch (frame.type) {
      case 'hello':
        throw new FlotillaError('PROTOCOL', 'The peer said hello twice.');
      case 'schema':
        throw new FlotillaError('PROTOCOL', 'The peer described its tables without being asked.');
      case 'floor':
        throw new FlotillaError('PROTOCOL', 'The peer named its floor without being asked.');
      case 'want':
        return startSending(frame);
      case 'has':
        if (sender !== null) return sender.has(frame.data);
        if (stamps.push(frame.data) > MAX_STAMP_MESSAGES)
          throw new FlotillaError(
            'PROTOCOL',
            'The peer tells of more versions than it can have, and asks for nothing.',
          );
        return;
      case 'rest':
        if (sender === null) throw new FlotillaError('PROTOCOL', 'The peer wants a rest before it asked for anything.');
        return sender.rest(frame.rests);
      case 'batch':
        return receiver.take(frame.data);
      case 'ack':
        if (sender === null) throw new FlotillaError('PROTOCOL', 'The peer ACKed before it asked for anything.');
        sender.acked(frame);
        return options.onAcked?.();
      case 'fetch':
      case 'part':
        return giving.asked(frame);
      case 'snapshot':
      case 'chunk':
        return taking.answered(frame);
      case 'keep':
        isNeededThere = frame.needed;
        return weigh();
      case 'offer':
        if (sender === null) throw new FlotillaError('PROTOCOL', 'The peer offers before it asked for anything.');
        return sender.offered(frame.knowledge);
      case 'heard':
        hearing = heard(frame.members).catch(fault);
        return;
      case 'inspect':
        return inspecting.asked(frame);
      case 'inspected':
        return inspecting.answered(frame);
      case 'refuse':
        if (finish(null)) emit({ type: 'REFUSED', code: frame.code, reason: frame.message });
        return;
      case 'bye':
        if (!finish(null)) return;
        if (isSpare()) return emit({ type: 'SPARE' });
        return emit({ type: 'FAULT', code: 'STOPPED', reason: `the peer said goodbye: ${frame.reason}` });
    }
  }

  async function talk(): Promise<void> {
    const start = await store.sessionStart(peer);
    signal.throwIfAborted();
    spoken = start.knowledge;
    await send(makeHello(facts, start, clock.now(), options.load?.() ?? 0));
    greeting = createGreeting({
      facts,
      start,
      store,
      clock,
      send,
      signal,
      onHello(hello) {
        options.onName?.(hello.name);
        ({ load } = hello);
      },
      onDifferences: (differences) => options.onDifferences?.(differences),
      onRefusal: refuse,
    });
    reading = startReading(channel);
    for (;;) {
      const next = await unlessAborted(reading.next(), signal);
      if (next.done === true) throw new FlotillaError('UNREACHABLE', 'The connection ended without a goodbye.');
      lastHeard = clock.now();
      if (greeted || next.value.type === 'refuse' || next.value.type === 'bye') {
        take(next.value);
        // Nothing more is read before that is taken in: it would pile up.
        await unlessAborted(hearing, signal);
      } else {
        const introduction = await greeting.take(next.value);
        if (farewell !== null) return;
        if (introduction === null) continue;
        emit({ type: 'HELLO' });
        watchOwing();
        greeted = true;
        weigh();
        asked = ask(introduction).catch((error: unknown) => {
          if (!signal.aborted) fault(error);
        });
      }
    }
  }

  async function run(): Promise<void> {
    await talk().catch((error: unknown) => {
      if (!signal.aborted) fault(error);
    });
    // What was being applied is durable and ACKed before the last word.
    await Promise.all([receiver.stop(), inspecting.stop(), giving.stop(), asked, sending, spreading, hearing]);
    try {
      const last = farewell?.frame ?? null;
      if (last !== null) await send(last);
      await channel.close();
      await reading?.toEnd();
    } catch (error) {
      channel.abort(error instanceof Error ? error : new Error(messageOf(error)));
    } finally {
      clock.clearTimeout(cutOff);
    }
  }

  const ended = run();

  return {
    learning: () => greeting?.learning() === true,
    async inspectPeer(query) {
      if (farewell !== null) throw new FlotillaError('STOPPED', 'The session has ended.');
      if (!greeted)
        throw new FlotillaError('UNREACHABLE', 'The session with this device is not open yet: try again in a moment.');
      return inspecting.ask(query);
    },
    progress: () => progress.current(),
    inSync: () => lastComplete && sender !== null && sender.upToDate(),
    need(now) {
      isNeeded = now;
      weigh();
    },
    offer: (knowledge) => void offer(knowledge),
    delivered: () => sender !== null && sender.upToDate(),
    heldUp: () => sender?.heldUp() ?? '',
    dismiss() {
      finish({ type: 'refuse', ...dismissal });
      return ended;
    },
    end(reason) {
      finish({ type: 'bye', reason });
      return ended;
    },
    ended,
  };
}

const NOTHING: KnowledgeWire = { runs: new Uint8Array(), hlc: [] };

function onceOnly(action: () => void): () => void {
  let done = false;
  return () => {
    if (!done) action();
    done = true;
  };
}
