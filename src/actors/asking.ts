/**
 * Asking a peer for its feed, or for a snapshot in place of a first pass: when it is the peer's turn. A first pass and one that reconciles
 * come from one peer alone, so they begin only in its turn; an ordinary one is asked for as soon as there is nothing to wait for.
 */
import type { SnapshotWanted, Store, TakenSnapshot } from '../db/api.ts';
import type { Cursor, Head, KnowledgeWire, PassKind } from '../protocol/types.ts';
import { createGate } from './clock.ts';
import type { Introduction } from './greeting.ts';
import type { Taker, Turn, Turns } from './turns.ts';

export interface AskingOptions {
  readonly peer: string;
  readonly store: Pick<Store, 'beginPass'>;
  readonly turns: Turns;
  readonly taker: Omit<Taker, 'rest'>;
  readonly signal: AbortSignal;
  /** It is known what kind of pass is asked for. */
  readonly onDecided: (pass: PassKind) => void;
  /** Takes a snapshot; resolves with null when there is none, and with 'left' when the turn was over before all had come. */
  readonly takeSnapshot: (wanted: SnapshotWanted) => Promise<TakenSnapshot | null | 'left'>;
  /** Another peer's turn has come, or this one's again. */
  readonly rest: (rests: boolean) => void;
}

/** What to ask for. */
export interface Wish {
  readonly pass: PassKind;
  readonly cursor: Cursor | null;
  readonly records: string;
  /** null: what the peer knows as well, as its hello said. */
  readonly knowledge: KnowledgeWire | null;
  /** There is nothing to ask for: what the peer knows is known here, and all of its feed has been taken. */
  readonly isOver: boolean;
}

export interface Asking {
  /** Resolves with what to ask the peer's feed for. */
  run(introduction: Introduction): Promise<Wish>;
  /** The turn of the peer; null when it has not begun. */
  turn(): Turn | null;
}

export function createAsking(options: AskingOptions): Asking {
  const { peer, store, turns, signal } = options;
  const resumed = createGate();
  let turn: Turn | null = null;
  let rests = false;

  const taker: Taker = {
    ...options.taker,
    rest(now) {
      rests = now;
      options.rest(now);
      if (!now) resumed.open();
    },
  };

  /** Resolves in the peer's turn. */
  async function wait(): Promise<void> {
    turn ??= await turns.take(taker, signal);
    while (rests) await resumed.wait(signal);
  }

  return {
    turn: () => turn,
    async run({ floor, knowledge: theirs, head, heard }) {
      let maySnapshot = true;
      for (;;) {
        const begun = await store.beginPass(peer, floor, { maySnapshot, isItsTurn: turn !== null && !rests, heard });
        signal.throwIfAborted();
        if (begun === null) {
          await wait();
          continue;
        }
        options.onDecided(begun.pass);
        if (begun.snapshot !== null) {
          // What it did not bring is asked for.
          maySnapshot = (await options.takeSnapshot(begun.snapshot)) === 'left';
          continue;
        }
        const { pass, cursor, records } = begun;
        const isSame = begun.knowledgeHash === theirs;
        if (pass === 'ordinary' && !isSame && turn === null) {
          const isAtOnce = turns.areFree();
          await wait();
          // Another look when it has come later: by then we may know what this peer has.
          if (!isAtOnce) continue;
        }
        if (isSame) turn?.end();
        const isOver = isSame && pass === 'ordinary' && isAt(cursor, head);
        return { pass, cursor, records, knowledge: isSame ? null : begun.knowledge, isOver };
      }
    },
  };
}

function isAt(cursor: Cursor | null, { lsn, run }: Head): boolean {
  return cursor !== null && cursor.position === lsn && cursor.head === lsn && cursor.run === run;
}
