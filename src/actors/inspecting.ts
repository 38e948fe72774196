/**
 * Questions about the copy at the other end, for `verify`: both halves. Answers come in any order, by id.
 */
import { FlotillaError } from '../errors.ts';
import type { Store } from '../db/api.ts';
import type { Frame, Inspection, InspectionAnswer } from '../protocol/types.ts';
import type { Clock } from './clock.ts';

/** How long a peer may take to answer, ms: it may have to hash a table of a million rows. */
export const INSPECT_TIMEOUT_MS = 60_000;
/** Questions that a peer may have open with us at once: `verify` asks one at a time, so more is a fault. */
export const MAX_OPEN_QUESTIONS = 16;

export interface InspectingOptions {
  readonly store: Pick<Store, 'inspect'>;
  readonly send: (frame: Frame) => Promise<void>;
  readonly clock: Clock;
  readonly onFault: (error: unknown) => void;
}

export interface Inspecting {
  ask(query: Inspection): Promise<InspectionAnswer>;
  /** A question of the peer; throws `PROTOCOL` when it asks too much at once. */
  asked(frame: Extract<Frame, { type: 'inspect' }>): void;
  /** An answer of the peer; one that nobody waits for any more is dropped. Throws `PROTOCOL` for one that was never asked for. */
  answered(frame: Extract<Frame, { type: 'inspected' }>): void;
  /** Rejects what is open; resolves when no answer of ours is being made any more. */
  stop(): Promise<void>;
}

export function createInspecting(options: InspectingOptions): Inspecting {
  const { store, send, clock } = options;
  const open = new Map<number, { resolve(answer: InspectionAnswer): void; reject(error: Error): void }>();
  /** Asked, and not answered yet, also where nobody waits any more. */
  const asked = new Set<number>();
  let lastId = 0;
  let questions = 0;
  let stopped = false;
  let answering: Promise<void> = Promise.resolve();

  async function answer(frame: Extract<Frame, { type: 'inspect' }>): Promise<void> {
    try {
      if (stopped) return;
      const found = await store.inspect(frame.query);
      if (!stopped) await send({ type: 'inspected', id: frame.id, answer: found });
    } catch (error) {
      if (!stopped) options.onFault(error);
    } finally {
      questions -= 1;
    }
  }

  return {
    async ask(query) {
      if (stopped) throw new FlotillaError('STOPPED', 'The session has ended.');
      lastId += 1;
      const id = lastId;
      let timer: unknown;
      try {
        return await new Promise<InspectionAnswer>((resolve, reject) => {
          open.set(id, { resolve, reject });
          asked.add(id);
          const late = (): void =>
            reject(
              new FlotillaError('UNREACHABLE', 'The peer did not answer in time: try again when it is less busy.'),
            );
          timer = clock.setTimeout(late, INSPECT_TIMEOUT_MS);
          send({ type: 'inspect', id, query }).catch(reject);
        });
      } finally {
        clock.clearTimeout(timer);
        open.delete(id);
      }
    },
    asked(frame) {
      if (questions >= MAX_OPEN_QUESTIONS) throw new FlotillaError('PROTOCOL', 'The peer asks too much at once.');
      questions += 1;
      answering = answering.then(() => answer(frame));
    },
    answered(frame) {
      if (!asked.delete(frame.id)) throw new FlotillaError('PROTOCOL', 'The peer answered what it was not asked.');
      open.get(frame.id)?.resolve(frame.answer);
    },
    async stop() {
      stopped = true;
      for (const { reject } of open.values()) reject(new FlotillaError('STOPPED', 'The session has ended.'));
      await answering;
    },
  };
}
