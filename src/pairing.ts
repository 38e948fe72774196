/**
 * The six-digit codes of a running node: one at a time, and what becomes of it, up to the device that was let in.
 */
import type { Pairing } from './api.ts';
import { FlotillaError } from './errors.ts';
import { decodeInvitation, invitationPeer } from './net/invitation.ts';
import type { Joined } from './net/join.ts';
import { CODE_MS, MAX_TRIES, showCode } from './net/pairing.ts';
import type { CodeEnd } from './net/pairing.ts';

/** Minutes that the device which knew the code has to join: it does so at once, or again after a crash. */
export const PAIRED_MINUTES = 5;
/** The longest that it takes until it is known what became of a code, ms. */
export const PAIRING_MS = CODE_MS + PAIRED_MINUTES * 60_000;

export interface PairingsDeps {
  readonly localOnly: boolean;
  readonly interfaces?: readonly string[];
  /** An invitation's text, good for {@link PAIRED_MINUTES}. */
  readonly invite: () => Promise<string>;
}

export interface Pairings {
  /** Shows a new code; the one before it is worth nothing from here on. */
  show(): Promise<Pairing>;
  /** The pairing of that code; null when another one is shown by now. */
  of(code: string): Pairing | null;
  /** A device has joined by an invitation, named by its peer id. */
  joined(invitation: string, device: Joined): void;
  close(): Promise<void>;
}

const ENDS: Readonly<Record<Exclude<CodeEnd, 'used'>, string>> = {
  lost: 'The connection broke when the code had been proven: show a new one.',
  guessed: `The code was typed wrong, or guessed at, ${MAX_TRIES} times, and is worth nothing any more: show a new one.`,
  expired: 'Nobody used the code in time: show a new one.',
  closed: 'The code is not shown any more.',
};

export function createPairings(deps: PairingsDeps): Pairings {
  let current: Pairing | null = null;
  /** Who waits for the device that joins, by the peer id of its invitation. */
  const waiting = new Map<string, (device: Joined) => void>();

  async function show(): Promise<Pairing> {
    await current?.close();
    let resolve: (device: Joined) => void = () => {};
    let reject: (error: FlotillaError) => void = () => {};
    const joined = new Promise<Joined>((done, failed) => {
      resolve = done;
      reject = failed;
    });
    // It may be that nobody waits for it.
    joined.catch(() => {});
    let timer: NodeJS.Timeout | undefined;
    const fail = (message: string): void => reject(new FlotillaError('CODE_REFUSED', message));
    const shown = await showCode({
      ...deps,
      async invite() {
        const text = await deps.invite();
        const peer = invitationPeer(decodeInvitation(text).secret);
        waiting.set(peer, resolve);
        timer = setTimeout(() => {
          waiting.delete(peer);
          fail('The device that knew the code has not joined: show a new one.');
        }, PAIRED_MINUTES * 60_000).unref();
        return text;
      },
      onEnd: (end) => {
        if (end !== 'used') fail(ENDS[end]);
      },
    });
    void joined.then(
      () => clearTimeout(timer),
      () => clearTimeout(timer),
    );
    const close = async (): Promise<void> => {
      await shown.close();
      fail(ENDS.closed);
    };
    current = { code: shown.code, expiresAt: shown.expiresAt, joined, close };
    return current;
  }

  return {
    show,
    of: (code) => (current?.code === code ? current : null),
    joined(invitation, device) {
      waiting.get(invitation)?.(device);
      waiting.delete(invitation);
    },
    close: async () => current?.close(),
  };
}
