/**
 * The join protocol: one question and one answer over one stream, by which a holder of an invitation becomes a member.
 * The stream stands under the invitation's key; the real device proves itself by a signature inside. No database enters:
 * the inviter's member list and grant come in as functions.
 */
import { publicKeyFromProtobuf, publicKeyToProtobuf } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey, peerIdFromPublicKey } from '@libp2p/peer-id';
import * as v from 'valibot';
import type { JoinGrant, MemberRow } from '../db/api.ts';
import { FlotillaError, messageOf } from '../errors.ts';
import { text } from '../protocol/forms.ts';
import { withoutPeer } from './addresses.ts';
import { createDiscovery } from './discovery.ts';
import type { Home } from './home.ts';
import { createHost } from './host.ts';
import type { JoinableHost } from './host.ts';
import { invitationKey, invitationPeer } from './invitation.ts';
import type { InvitationData } from './invitation.ts';
import { conversation, otherVersion } from './json.ts';
import type { Packets } from './packets.ts';

/** How long a joiner may take for each of its steps, ms: it has everything at hand. A silent one gives its stream back. */
const REQUEST_TIMEOUT_MS = 10_000;
/** How long the inviter is looked for on the LAN when no address answers, ms: one question is answered within 20. */
const DISCOVERY_MS = 5_000;
/** Part of the whole time that the addresses may take, so that discovery gets its turn. */
const DIAL_SHARE = 0.6;
/** Longest device name, characters. */
const MAX_NAME_LENGTH = 200;

const requestSchema = v.object({
  type: v.literal('join'),
  /** Public key of the device, base64 of its protobuf. */
  key: v.pipe(text(200), v.base64()),
  /** Signature by that key, base64, over {@link claim}. */
  signature: v.pipe(text(200), v.base64()),
  name: text(MAX_NAME_LENGTH),
});

/** The device has looked at the offer and can take it. */
const acceptSchema = v.object({ type: v.literal('accept') });

const grantSchema = v.object({
  libraryId: v.string(),
  ddl: v.array(v.string()),
  omitted: v.array(v.object({ name: v.string(), reason: v.string() })),
  config: v.string(),
  schema: v.string(),
  /** base64 */
  membership: v.pipe(v.string(), v.base64()),
});

const refusalCodes = ['NOT_A_MEMBER', 'INVITE_USED', 'INVITE_EXPIRED', 'REFUSED', 'PROTOCOL'] as const;

const answerSchema = v.variant('type', [
  v.object({ type: v.literal('offered'), grant: grantSchema }),
  v.object({ type: v.literal('granted'), grant: grantSchema }),
  v.object({ type: v.literal('refused'), code: v.picklist(refusalCodes), message: v.string() }),
]);

type Request = v.InferOutput<typeof requestSchema>;
type Answer = v.InferOutput<typeof answerSchema>;

/** What the two sides of a joining say to each other. */
export const joinTalk = conversation({ request: requestSchema, accept: acceptSchema, answer: answerSchema });
const { send, receive } = joinTalk;

/** What the inviting node gives the exchange to work with. */
export interface JoinDeps {
  readonly home: Pick<Home, 'device' | 'invites' | 'useInvite'>;
  readonly libraryId: string;
  /** Read anew for each answer: it must hold the member that was added just before. */
  grant(): Promise<JoinGrant>;
  /** Durable when it resolves; harmless when the device is a member already. */
  admit(device: string, name: string): Promise<void>;
  /** Members, and devices that were. */
  members(): Promise<MemberRow[]>;
  /** ms since 1970 */
  now(): number;
}

/** A device that was let in. */
export interface Joined {
  readonly device: string;
  readonly name: string;
}

export interface JoinRequest {
  readonly invitation: InvitationData;
  /** Key of the device that joins. The same one may ask again until the invitation expires. */
  readonly deviceKey: PrivateKey;
  readonly name: string;
  /** Looks whether the library on offer can be built here; what it rejects with ends the joining, and the invitation stays open. */
  readonly accept: (grant: JoinGrant) => Promise<void>;
  /** Dials and discovers on loopback only. */
  readonly localOnly: boolean;
  readonly timeoutMs: number;
  /** The clock. @default Date.now */
  readonly now?: () => number;
  readonly signal?: AbortSignal;
}

export interface JoinResult {
  readonly grant: JoinGrant;
  /** Peer id of the inviting node. */
  readonly inviter: string;
  /** Where it can be reached, without `/p2p/…`; what was found on the LAN first. */
  readonly addresses: string[];
}

/**
 * The inviting side of one stream. Never rejects: what goes wrong is answered, and a joiner that is gone asks again.
 * @returns the device that is a member now, even if the answer did not reach it; null when none was let in
 */
export async function serveJoin(packets: Packets, deps: JoinDeps): Promise<Joined | null> {
  const limit = (): NodeJS.Timeout =>
    setTimeout(() => packets.abort(new Error('The joining device did not go on in time')), REQUEST_TIMEOUT_MS);
  let timer = limit();
  let joined: Joined | null = null;
  try {
    const request = await receive(packets, 'request');
    const device = await proveDevice(request, packets.peer, deps.libraryId);
    await requireOpen(packets.peer, device, deps);
    await send(packets, { type: 'offered', grant: toWire(await deps.grant()) });
    await receive(packets, 'accept');
    clearTimeout(timer);
    await admit(device, request.name, packets.peer, deps);
    joined = { device, name: request.name };
    timer = limit();
    await send(packets, { type: 'granted', grant: toWire(await deps.grant()) });
    await packets.close();
  } catch (error) {
    await refuse(packets, error);
  } finally {
    clearTimeout(timer);
  }
  return joined;
}

async function requireOpen(invitation: string, device: string, deps: JoinDeps): Promise<void> {
  const invites = await deps.home.invites(deps.now());
  const invite = invites.find((candidate) => candidate.peer === invitation);
  if (invite === undefined) {
    throw new FlotillaError('INVITE_EXPIRED', 'The invitation has expired: ask for a new one.');
  }
  // Who used it, was let in and is a member no more does not get in by it again.
  const isSpent = invite.usedBy !== '' && (invite.usedBy !== device || (await isRevoked(device, deps)));
  if (isSpent) throw usedUp();
}

/** Writes, in an order in which a crash at any point lets the same device ask again. */
async function admit(device: string, name: string, invitation: string, deps: JoinDeps): Promise<void> {
  // First the invitation, then the member: of two devices at the same moment only one may become a member.
  if (!(await deps.home.useInvite(invitation, device))) throw usedUp();
  await deps.admit(device, name);
}

async function isRevoked(device: string, deps: JoinDeps): Promise<boolean> {
  const members = await deps.members();
  return members.some((member) => member.device === device && member.revoked !== null);
}

function usedUp(): FlotillaError {
  return new FlotillaError('INVITE_USED', 'The invitation was used already by another device: ask for a new one.');
}

async function proveDevice(request: Request, invitation: string, libraryId: string): Promise<string> {
  try {
    const key = publicKeyFromProtobuf(Buffer.from(request.key, 'base64'));
    // The only kind whose peer id tells the key, by which what the device signs is checked later.
    if (key.type !== 'Ed25519') throw new RangeError('The device has another kind of key');
    const device = peerIdFromPublicKey(key).toString();
    const signed = claim(libraryId, invitation, device);
    if (await key.verify(signed, Buffer.from(request.signature, 'base64'))) return device;
  } catch {
    // A key or a signature that cannot be read proves as little as a wrong one.
  }
  throw new FlotillaError(
    'PROTOCOL',
    'The joining device did not prove who it is: update Flotilla on both devices and try again.',
  );
}

async function refuse(packets: Packets, error: unknown): Promise<void> {
  const code =
    refusalCodes.find((candidate) => error instanceof FlotillaError && candidate === error.code) ?? 'REFUSED';
  const message =
    code === 'REFUSED'
      ? `The inviting node could not let the device in: ${messageOf(error)}. Try again.`
      : messageOf(error);
  try {
    await send(packets, { type: 'refused', code, message });
    await packets.close();
  } catch {
    // The joiner is gone, and learns from that.
    packets.abort(new Error(message));
  }
}

/**
 * The joining side: finds the inviting node, proves the device, comes back with what the new library needs.
 * @throws FlotillaError INVITE_EXPIRED, INVITE_USED, SCHEMA_MISMATCH, UNREACHABLE, REFUSED, PROTOCOL
 */
export async function requestJoin(options: JoinRequest): Promise<JoinResult> {
  const { invitation, localOnly, timeoutMs } = options;
  const now = options.now ?? Date.now;
  if (invitation.expiresAt <= now()) {
    throw new FlotillaError('INVITE_EXPIRED', 'The invitation has expired: ask for a new one.');
  }
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
  let proven = false;
  const host = await createHost({
    privateKey: invitationKey(invitation.secret),
    psk: invitation.psk,
    listen: [],
    localOnly,
    allowed: (peer) => {
      // Asked after Noise: from here on it is known that the inviting node itself is there.
      if (peer === invitation.inviter) proven = true;
      return peer === invitation.inviter;
    },
    invited: () => false,
  });
  try {
    const found = await reach(host, options, signal, () => proven);
    const packets = await host.openJoin(invitation.inviter, signal);
    const grant = await exchange(packets, options, signal);
    return { grant, inviter: invitation.inviter, addresses: [...new Set([...found, ...invitation.addresses])] };
  } catch (error) {
    options.signal?.throwIfAborted();
    // An answer, in its own words.
    if (error instanceof FlotillaError && error.code !== 'UNREACHABLE') throw error;
    if (error instanceof BrokenOff) throw new FlotillaError('UNREACHABLE', error.message, { cause: error.cause });
    if (proven && !timeout.aborted) {
      throw new FlotillaError(
        'INVITE_USED',
        'The invitation was used already, has expired, or was not made by that node: ask for a new one.',
        { cause: error },
      );
    }
    throw new FlotillaError(
      'UNREACHABLE',
      `The inviting node did not answer at ${invitation.addresses.join(', ') || 'any address'} and was not found on the network: ` +
        'start it with "flotilla up", check that both devices are on the same network, and try again.',
      { cause: error },
    );
  } finally {
    await host.stop();
  }
}

/** The stream stood, so the invitation is good, but no answer came. */
class BrokenOff extends Error {}

async function exchange(packets: Packets, options: JoinRequest, signal: AbortSignal): Promise<JoinGrant> {
  const { invitation, deviceKey } = options;
  const device = peerIdFromPrivateKey(deviceKey).toString();
  const signed = claim(invitation.libraryId, invitationPeer(invitation.secret), device);
  const onAbort = (): void => packets.abort(new Error('The time is over'));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await send(packets, {
      type: 'join',
      key: Buffer.from(publicKeyToProtobuf(deviceKey.publicKey)).toString('base64'),
      signature: Buffer.from(await deviceKey.sign(signed)).toString('base64'),
      name: options.name.slice(0, MAX_NAME_LENGTH),
    });
    const offer = granted(await receive(packets, 'answer'), 'offered');
    await options.accept(offer).catch((cause: unknown) => {
      throw new Declined(cause);
    });
    await send(packets, { type: 'accept' });
    const grant = granted(await receive(packets, 'answer'), 'granted');
    await packets.close();
    return grant;
  } catch (cause) {
    if (cause instanceof Declined) {
      packets.abort(cause);
      throw cause.cause;
    }
    if (cause instanceof FlotillaError && cause.code !== 'UNREACHABLE') throw cause;
    throw new BrokenOff('The connection broke before the inviting node had answered: run the same command again.', {
      cause,
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** The library on offer cannot be built here; `cause` says why. */
class Declined extends Error {
  constructor(cause: unknown) {
    super('The joining device cannot build this library', { cause });
  }
}

function granted(answer: Answer, expected: 'offered' | 'granted'): JoinGrant {
  if (answer.type === 'refused') throw new FlotillaError(answer.code, answer.message);
  if (answer.type !== expected) throw otherVersion();
  return fromWire(answer.grant);
}

/** Connects at one of the invitation's addresses, or where the LAN says. Returns addresses that the invitation had not. */
async function reach(
  host: JoinableHost,
  { invitation, localOnly, timeoutMs }: JoinRequest,
  signal: AbortSignal,
  proven: () => boolean,
): Promise<string[]> {
  const dialing = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs * DIAL_SHARE)]);
  try {
    await host.dial(invitation.inviter, invitation.addresses, dialing);
    return [];
  } catch (error) {
    signal.throwIfAborted();
    // It is there and wants nothing of us: another address would change nothing.
    if (proven()) throw error;
    const found = await discover(invitation.inviter, host.device, localOnly, signal);
    if (found.length === 0) throw error;
    await host.dial(invitation.inviter, found, signal);
    return found.map(withoutPeer);
  }
}

/** Where the inviter says it is; nothing when it is not heard in time. */
async function discover(inviter: string, device: string, localOnly: boolean, signal: AbortSignal): Promise<string[]> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(DISCOVERY_MS)]);
  let tell: (addresses: string[]) => void = () => {};
  const heard = new Promise<string[]>((resolve) => {
    tell = resolve;
  });
  limit.addEventListener('abort', () => tell([]), { once: true });
  const discovery = createDiscovery({
    device,
    localOnly,
    // A passing guest: it asks, and announces nothing.
    addresses: () => [],
    onPeer: (peer, addresses) => {
      if (peer === inviter) tell([...addresses]);
    },
    onProblem: () => tell([]),
  });
  try {
    await discovery.start();
    return await heard;
  } finally {
    await discovery.stop();
  }
}

/** What the device signs: bound to this library and this invitation, so that it is worth nothing anywhere else. */
function claim(libraryId: string, invitation: string, device: string): Uint8Array {
  return new TextEncoder().encode(['flotilla join 1', libraryId, invitation, device].join('\n'));
}

function toWire(grant: JoinGrant): v.InferOutput<typeof grantSchema> {
  const membership = Buffer.from(grant.membership).toString('base64');
  return { ...grant, ddl: [...grant.ddl], omitted: [...grant.omitted], membership };
}

function fromWire(grant: v.InferOutput<typeof grantSchema>): JoinGrant {
  return { ...grant, membership: Uint8Array.from(Buffer.from(grant.membership, 'base64')) };
}
