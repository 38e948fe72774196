/**
 * Pairing on the LAN: six digits are shown on one device and typed on the other. Both find each other by multicast DNS, prove to each
 * other by CPace that they know the digits, and the result is an ordinary invitation. It runs on a host of its own, with keys made
 * for this one code: no stranger comes near the node for it, and a library with a pre-shared key can be joined as well.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { generateKeyPair } from '@libp2p/crypto/keys';
import * as v from 'valibot';
import { FlotillaError } from '../errors.ts';
import { text } from '../protocol/forms.ts';
import { listenAddresses } from './addresses.ts';
import { PAIR_PROTOCOL } from './api.ts';
import { lvCat, SHARE_BYTES, startCPace, TAG_BYTES } from './cpace.ts';
import type { CPaceSide } from './cpace.ts';
import { createDiscovery } from './discovery.ts';
import { createHost } from './host.ts';
import type { JoinableHost } from './host.ts';
import { conversation } from './json.ts';
import type { Packets } from './packets.ts';

/** What devices that show a code announce, and those that were told one ask for. */
const SERVICE = '_flotilla-pair._udp.local';
/** Six digits: with {@link MAX_TRIES} a stranger has 3 chances in a million, and people type them without a mistake. */
const DIGITS = 6;
/** Exchanges in which a device answers for one code, and in which one uses a code that was typed: a typing error or two, no more guesses. */
export const MAX_TRIES = 3;
/** How long a code can be used, ms: long enough to walk to the other device. */
export const CODE_MS = 5 * 60_000;
/** How long the other side may take for each step, ms: it has everything at hand. */
const STEP_MS = 10_000;
/** How long a device that shows a code is looked for, ms: one question is answered within 20. */
const SEARCH_MS = 5_000;
/** The same once one of them has refused, ms: those that are there have been heard by then. */
const SEARCH_ON_MS = 1_000;
/** How long all of it may take who was told a code, ms: anybody may announce devices that do not answer. */
const REQUEST_MS = 30_000;
const NONCE_BYTES = 16;

const base64 = (bytes: number) => v.pipe(v.string(), v.base64(), v.length(4 * Math.ceil(bytes / 3)));

/** What the two say to each other, in this order; the one that was told the code begins. */
const schemas = {
  hello: v.object({ type: v.literal('hello'), nonce: base64(NONCE_BYTES) }),
  share: v.object({ type: v.literal('share'), share: base64(SHARE_BYTES) }),
  proof: v.object({ type: v.literal('proof'), tag: base64(TAG_BYTES) }),
  answer: v.variant('type', [
    v.object({ type: v.literal('invitation'), tag: base64(TAG_BYTES), invitation: text(4096) }),
    v.object({ type: v.literal('refused') }),
  ]),
} as const;

/** What the two of a pairing say to each other. */
export const pairTalk = conversation(schemas);
const { send, receive } = pairTalk;

const encode = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const decode = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));

/**
 * The six digits of a text that is a code, spaces and dashes in it left out; null when it is something else.
 * @throws FlotillaError CODE_REFUSED for digits that are more or fewer
 */
export function readCode(text: string): string | null {
  const digits = text.replaceAll(/[\s-]/g, '');
  if (!/^\d+$/.test(digits)) return null;
  if (digits.length === DIGITS) return digits;
  throw new FlotillaError(
    'CODE_REFUSED',
    `A code has ${DIGITS} digits, not ${digits.length}: compare it with what the other device shows.`,
  );
}

/**
 * Begins the exchange for a code. Both peer ids are those that Noise has proven at this very connection, so whoever stands in the middle
 * of two connections finds two different exchanges.
 */
function begin(code: string, initiator: string, responder: string, nonces: readonly [string, string]): CPaceSide {
  const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
  const channel = lvCat(bytesOf(PAIR_PROTOCOL), bytesOf(initiator), bytesOf(responder));
  const session = Buffer.concat(nonces.map(decode));
  return startCPace({ password: bytesOf(code), channel, session }, randomBytes(SHARE_BYTES));
}

/** Why a code can be used no more. */
export type CodeEnd = 'used' | 'lost' | 'guessed' | 'expired' | 'closed';

export interface PairingOptions {
  /** Listens and announces on loopback only. */
  readonly localOnly: boolean;
  /** Names of the interfaces to announce on. @default all */
  readonly interfaces?: readonly string[];
  /** What is announced. @default {@link SERVICE} */
  readonly service?: string;
  /** Makes the invitation for the device that has proven that it knows the code. */
  readonly invite: () => Promise<string>;
  /** Called once: the code was used by the device that got the invitation, or will be used by nobody. */
  readonly onEnd: (end: CodeEnd) => void;
  /** How long the code can be used, ms. @default {@link CODE_MS} */
  readonly lifeMs?: number;
  /** The clock. @default Date.now */
  readonly now?: () => number;
}

export interface ShownCode {
  /** Six digits. */
  readonly code: string;
  /** ms since 1970 */
  readonly expiresAt: number;
  /** From here on the code is worth nothing. Twice is harmless. */
  close(): Promise<void>;
}

/**
 * Makes a code, and waits for who knows it.
 * @throws FlotillaError NO_MULTICAST when nobody could find this device
 */
export async function showCode(options: PairingOptions): Promise<ShownCode> {
  const { localOnly, lifeMs = CODE_MS, now = Date.now } = options;
  const code = String(randomInt(10 ** DIGITS)).padStart(DIGITS, '0');
  let ended: Promise<void> | null = null;
  let tries = 0;
  let running = 0;
  let isProven = false;
  const host = await createHost({
    privateKey: await generateKeyPair('Ed25519'),
    listen: listenAddresses(0, localOnly),
    localOnly,
    joinProtocol: PAIR_PROTOCOL,
    allowed: () => false,
    invited: () => ended === null,
  });
  const announced = await announce(host, options).catch(async (error: unknown) => {
    await host.stop();
    throw error;
  });
  const timer = setTimeout(() => void end('expired'), lifeMs);

  function end(why: CodeEnd): Promise<void> {
    ended ??= (async () => {
      clearTimeout(timer);
      options.onEnd(why);
      await announced();
      await host.stop();
    })();
    return ended;
  }

  host.handleJoin((packets) => {
    // Each answer could be one guess, until it is proven to be none.
    if (tries >= MAX_TRIES || isProven) return void refuse(packets);
    tries += 1;
    running += 1;
    void within(packets, async (step) => {
      const { nonce } = await step(receive(packets, 'hello'));
      const own = encode(randomBytes(NONCE_BYTES));
      await send(packets, { type: 'hello', nonce: own });
      const { share } = await step(receive(packets, 'share'));
      const side = begin(code, packets.peer, host.device, [nonce, own]);
      await send(packets, { type: 'share', share: encode(side.share) });
      const keys = side.finish('responder', decode(share));
      const { tag } = await step(receive(packets, 'proof'));
      if (isProven || ended !== null || keys?.proves(decode(tag)) !== true) {
        await refuse(packets);
        return;
      }
      isProven = true;
      try {
        await send(packets, { type: 'invitation', tag: encode(keys.tag), invitation: await options.invite() });
        await packets.close();
        void end('used');
      } catch {
        void end('lost');
      }
    }).finally(() => {
      running -= 1;
      if (tries >= MAX_TRIES && running === 0 && !isProven) void end('guessed');
    });
  });
  return { code, expiresAt: now() + lifeMs, close: () => end('closed') };
}

/** @returns the way to end it */
async function announce(host: JoinableHost, options: PairingOptions): Promise<() => Promise<void>> {
  let problem = '';
  const discovery = createDiscovery({
    device: host.device,
    service: options.service ?? SERVICE,
    localOnly: options.localOnly,
    ...(options.interfaces === undefined ? {} : { interfaces: options.interfaces }),
    addresses: () => host.addresses(),
    onPeer: () => {},
    onProblem: (message) => (problem = message),
  });
  await discovery.start();
  if (problem !== '') {
    await discovery.stop();
    throw withoutMulticast(problem);
  }
  return () => discovery.stop();
}

function withoutMulticast(problem: string): FlotillaError {
  return new FlotillaError('NO_MULTICAST', `${problem} Without it, use "flotilla invite" instead of "flotilla pair".`);
}

async function refuse(packets: Packets): Promise<void> {
  try {
    await send(packets, { type: 'refused' });
    await packets.close();
  } catch {
    packets.abort(new Error('The code is not taken'));
  }
}

/** Runs one exchange; ends the stream when a step takes too long or anything goes wrong. */
async function within(
  packets: Packets,
  work: (step: <T>(wait: Promise<T>) => Promise<T>) => Promise<void>,
): Promise<void> {
  try {
    await work(async (wait) => {
      const timer = setTimeout(() => packets.abort(new Error('The other side did not go on in time')), STEP_MS);
      return wait.finally(() => clearTimeout(timer));
    });
  } catch (error) {
    packets.abort(error instanceof Error ? error : new Error('The exchange has failed'));
  }
}

export interface CodeRequest {
  /** Six digits. */
  readonly code: string;
  /** Looks and dials on loopback only. */
  readonly localOnly: boolean;
  /** How long a device that shows a code is looked for, ms. @default 5000 */
  readonly searchMs?: number;
  /** What such a device announces. @default {@link SERVICE} */
  readonly service?: string;
}

/**
 * The side that was told the code: finds the device that shows it, and gets an invitation from it.
 * @throws FlotillaError CODE_REFUSED when no device takes the code; UNREACHABLE when none shows any; NO_MULTICAST
 */
export async function requestInvitation(request: CodeRequest): Promise<string> {
  const { code, localOnly, searchMs = SEARCH_MS, service = SERVICE } = request;
  const signal = AbortSignal.timeout(REQUEST_MS);
  const dialled = new Set<string>();
  const host = await createHost({
    privateKey: await generateKeyPair('Ed25519'),
    listen: [],
    localOnly,
    joinProtocol: PAIR_PROTOCOL,
    allowed: (peer) => dialled.has(peer),
    invited: () => false,
  });
  const found = search(host.device, service, localOnly);
  let tries = 0;
  try {
    await found.started;
    while (tries < MAX_TRIES && !signal.aborted) {
      const next = await found.next(tries === 0 ? searchMs : SEARCH_ON_MS);
      if (next === null) break;
      dialled.add(next.peer);
      const packets = await open(host, next, signal);
      if (packets === null) continue;
      const invitation = await prove(packets, code, host.device, () => (tries += 1));
      if (invitation !== null) return invitation;
    }
  } finally {
    await found.stop();
    await host.stop();
  }
  if (tries === 0)
    throw new FlotillaError(
      'UNREACHABLE',
      'No device on this network shows a code: run "flotilla pair" on a member, check that both are on the same network and that no firewall is between, and try again.',
    );
  throw new FlotillaError(
    'CODE_REFUSED',
    'The code was not taken: it is another one, or was used, guessed at or shown for too long. Compare the digits, or show a new code with "flotilla pair".',
  );
}

interface Found {
  readonly peer: string;
  readonly addresses: readonly string[];
}

/** Null when it does not answer: nothing has been said to it. */
async function open(host: JoinableHost, { peer, addresses }: Found, signal: AbortSignal): Promise<Packets | null> {
  try {
    await host.dial(peer, addresses, signal);
    return await host.openJoin(peer, signal);
  } catch {
    return null;
  }
}

/**
 * @param onTry - called when this side gives something away: whoever got it may have guessed the code by it, once
 * @returns the invitation of a device that knows the code; null of any other
 */
async function prove(packets: Packets, code: string, device: string, onTry: () => void): Promise<string | null> {
  let invitation: string | null = null;
  await within(packets, async (step) => {
    const own = encode(randomBytes(NONCE_BYTES));
    await send(packets, { type: 'hello', nonce: own });
    const { nonce } = await step(receive(packets, 'hello'));
    const side = begin(code, device, packets.peer, [own, nonce]);
    await send(packets, { type: 'share', share: encode(side.share) });
    const { share } = await step(receive(packets, 'share'));
    const keys = side.finish('initiator', decode(share));
    if (keys === null) throw new FlotillaError('PROTOCOL', 'The other side sent no share.');
    onTry();
    await send(packets, { type: 'proof', tag: encode(keys.tag) });
    const answer = await step(receive(packets, 'answer'));
    if (answer.type !== 'invitation' || !keys.proves(decode(answer.tag)))
      return packets.abort(new Error('It does not know the code'));
    ({ invitation } = answer);
    await packets.close();
  });
  return invitation;
}

/** The devices that show a code, one after the other, each once. */
function search(device: string, service: string, localOnly: boolean) {
  const heard = new Set<string>();
  const queue: Found[] = [];
  let wake: () => void = () => {};
  let problem = '';
  const discovery = createDiscovery({
    device,
    service,
    localOnly,
    // A passing guest: it asks, and announces nothing.
    addresses: () => [],
    onPeer: (peer, addresses) => {
      if (heard.has(peer)) return;
      heard.add(peer);
      queue.push({ peer, addresses });
      wake();
    },
    onProblem: (message) => (problem = message),
  });
  return {
    started: discovery.start().then(() => {
      if (problem !== '') throw withoutMulticast(problem);
    }),
    /** Null when none is heard in time. */
    async next(ms: number): Promise<Found | null> {
      if (queue.length === 0) {
        let timer: NodeJS.Timeout | undefined;
        await new Promise<void>((resolve) => {
          wake = resolve;
          timer = setTimeout(resolve, ms);
        });
        clearTimeout(timer);
      }
      return queue.shift() ?? null;
    },
    stop: () => discovery.stop(),
  };
}
