/**
 * The first words of a session: what we say of ourselves, and whether we can talk with who answers. Pure.
 */
import type { SessionStart } from '../db/api.ts';
import type { ErrorCode } from '../errors.ts';
import { differenceInWords, MAX_DRIFT_MS } from '../protocol/hlc.ts';
import type { SchemaDifferences } from '../protocol/schema.ts';
import type { Frame } from '../protocol/types.ts';

/**
 * Version of the session protocol. History
 * 1: first
 */
export const SESSION_PROTOCOL = 1;

export type Hello = Extract<Frame, { type: 'hello' }>;

/** Own facts that a session needs. */
export interface SessionFacts {
  /** Own peer id. */
  readonly device: string;
  readonly name: string;
  /** Library id, hex. */
  readonly library: string;
}

/** Why two nodes cannot talk. The message is read by people on both sides. */
export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
}

export function makeHello(
  facts: SessionFacts,
  {
    schemaHash,
    knowledgeHash,
    head,
    floorHash,
    heardHash,
  }: Pick<SessionStart, 'schemaHash' | 'knowledgeHash' | 'head' | 'floorHash' | 'heardHash'>,
  clock: number,
  load: number,
): Hello {
  return {
    type: 'hello',
    protocol: SESSION_PROTOCOL,
    library: facts.library,
    name: facts.name,
    schema: schemaHash,
    clock,
    knowledge: knowledgeHash,
    head,
    floor: floorHash,
    heard: heardHash,
    load,
  };
}

/** Conflicts that are told at once: the first one usually explains the others. */
const MAX_CONFLICTS = 3;

/** Null when the tables of both mean the same, though one may have more of them. */
export function checkSchemas({ differences, conflicts }: SchemaDifferences): Refusal | null {
  if (conflicts.length === 0) return null;
  const more = conflicts.length + differences.length - MAX_CONFLICTS;
  const message = `${conflicts.slice(0, MAX_CONFLICTS).join(' ')}${more > 0 ? ` (${more} more)` : ''}`;
  return { code: 'SCHEMA_MISMATCH', message };
}

/**
 * Null when we can talk.
 *
 * @param now - own wall clock, ms since 1970, when the hello was read
 */
export function checkHello(hello: Hello, own: SessionFacts, now: number): Refusal | null {
  const pair = `"${own.name}" and "${hello.name}"`;
  if (hello.protocol !== SESSION_PROTOCOL) {
    const older = hello.protocol < SESSION_PROTOCOL ? hello.name : own.name;
    return {
      code: 'PROTOCOL',
      message: `${pair} speak different versions of the protocol (${SESSION_PROTOCOL} and ${hello.protocol}): update Flotilla on "${older}".`,
    };
  }
  if (hello.library !== own.library) {
    return { code: 'OTHER_LIBRARY', message: `${pair} hold different libraries: only copies of one library sync.` };
  }
  const ahead = hello.clock - now;
  if (Math.abs(ahead) > MAX_DRIFT_MS) {
    const [fast, slow] = ahead > 0 ? [hello.name, own.name] : [own.name, hello.name];
    return {
      code: 'CLOCK_AHEAD',
      message: `The clock of "${fast}" is ${differenceInWords(Math.abs(ahead))} of the clock of "${slow}": set the one that is wrong.`,
    };
  }
  return null;
}
