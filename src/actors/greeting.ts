/**
 * The first words of a peer: its hello, then what the hellos have shown to differ: its description of its tables, and its floor. Until then
 * nothing else is taken.
 */
import type { SessionStart, Store } from '../db/api.ts';
import { FlotillaError } from '../errors.ts';
import { compareSchemas } from '../protocol/schema.ts';
import type { SchemaDescription } from '../protocol/schema.ts';
import type { Frame, KnowledgeWire } from '../protocol/types.ts';
import type { Clock } from './clock.ts';
import { checkHello, checkSchemas } from './handshake.ts';
import type { Hello, Refusal, SessionFacts } from './handshake.ts';

export interface GreetingOptions {
  readonly facts: SessionFacts;
  /** What this device has said of itself. */
  readonly start: SessionStart;
  readonly store: Pick<Store, 'stampAnew' | 'learnSchema'>;
  readonly clock: Clock;
  readonly send: (frame: Frame) => Promise<void>;
  readonly signal: AbortSignal;
  /** Hears the peer's hello, before it is known whether the two can talk. */
  readonly onHello: (hello: Hello) => void;
  /** What the two have of tables that the other has not, or has otherwise; none when all is the same. */
  readonly onDifferences: (differences: readonly string[]) => void;
  /** The two cannot talk. */
  readonly onRefusal: (refusal: Refusal) => void;
}

/** What a peer has said of itself. */
export interface Introduction extends Pick<Hello, 'knowledge' | 'head' | 'heard'> {
  /** Up to where it has pruned deletes. */
  readonly floor: KnowledgeWire;
}

export interface Greeting {
  /** Takes a word of the peer. Resolves with its introduction once that is complete; null until then, and when the two cannot talk. */
  take(frame: Frame): Promise<Introduction | null>;
  /** True while the store is told what tables the peer has. */
  learning(): boolean;
}

/** What may follow a hello, in this order. */
const WORDS = { schema: 'describing its tables', floor: 'naming its floor' } as const;

export function createGreeting(options: GreetingOptions): Greeting {
  const { facts, start, store, clock, send, signal } = options;
  const awaited: Array<keyof typeof WORDS> = [];
  let hello: Hello | null = null;
  let { floor } = start;
  let learning = false;

  /** @returns whether the two can talk */
  async function meet(said: Hello): Promise<boolean> {
    options.onHello(said);
    const refusal = checkHello(said, facts, clock.now());
    if (refusal !== null) return refuse(refusal);
    // The clock is right by now, though it was not when something was stamped.
    if (start.isAhead && (await store.stampAnew()))
      throw new FlotillaError('CLOCK_AHEAD', 'What was stamped by a clock that was wrong is stamped again.');
    hello = said;
    if (said.schema === start.schemaHash) options.onDifferences([]);
    else {
      awaited.push('schema');
      await send({ type: 'schema', schema: start.schema });
    }
    if (said.floor !== start.floorHash) {
      awaited.push('floor');
      await send({ type: 'floor', floor: start.floor });
    }
    return true;
  }

  /** @returns whether the two can talk */
  async function compare({ name }: Hello, schema: SchemaDescription): Promise<boolean> {
    const found = compareSchemas({ name: facts.name, schema: start.schema }, { name, schema });
    const refusal = checkSchemas(found);
    if (refusal !== null) return refuse(refusal);
    options.onDifferences(found.differences);
    learning = true;
    try {
      await store.learnSchema(schema);
    } finally {
      learning = false;
    }
    signal.throwIfAborted();
    return true;
  }

  function refuse(refusal: Refusal): false {
    options.onRefusal(refusal);
    return false;
  }

  async function hear(frame: Frame): Promise<boolean> {
    if (hello === null) {
      if (frame.type === 'hello') return meet(frame);
      throw new FlotillaError('PROTOCOL', `The peer began with "${frame.type}", not with hello.`);
    }
    const next = awaited.shift();
    if (frame.type === 'schema' && next === 'schema') return compare(hello, frame.schema);
    if (frame.type !== 'floor' || next !== 'floor')
      throw new FlotillaError('PROTOCOL', `The peer said "${frame.type}" instead of ${WORDS[next ?? 'floor']}.`);
    ({ floor } = frame);
    return true;
  }

  return {
    async take(frame) {
      const canTalk = await hear(frame);
      if (!canTalk || hello === null || awaited.length > 0) return null;
      const { knowledge, head, heard } = hello;
      return { knowledge, head, heard, floor };
    },
    learning: () => learning,
  };
}
