/**
 * Joining, both sides over real hosts on loopback.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { JoinGrant, MemberRow } from '../../src/db/api.ts';
import { FlotillaError } from '../../src/errors.ts';
import { withoutPeer } from '../../src/net/addresses.ts';
import { createDiscovery } from '../../src/net/discovery.ts';
import { openHome } from '../../src/net/home.ts';
import type { Home } from '../../src/net/home.ts';
import { createHost } from '../../src/net/host.ts';
import type { JoinableHost } from '../../src/net/host.ts';
import { invitationPeer } from '../../src/net/invitation.ts';
import type { InvitationData } from '../../src/net/invitation.ts';
import { requestJoin, serveJoin } from '../../src/net/join.ts';
import type { Joined, JoinRequest } from '../../src/net/join.ts';

const LIBRARY = '00112233445566778899aabbccddeeff';
const EXPIRES = 10_000;
const grant: JoinGrant = {
  libraryId: LIBRARY,
  ddl: ['CREATE TABLE t(id INTEGER PRIMARY KEY)'],
  omitted: [{ name: 'v', reason: 'calls a function' }],
  config: '{}',
  schema: 'abc',
  membership: new Uint8Array(),
};

let folder: string;
let home: Home;
let host: JoinableHost;
let members: MemberRow[];
/** What the inviter's side said of each stream, in order. */
let served: Array<Promise<Joined | null>>;
let now: number;
/** Peer ids of invitations that the gate lets in: what the node reads from its home. */
let open: Set<string>;
/** Runs after a member was written, before the answer. */
let afterMember: () => void;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flotilla-join-'));
  home = await openHome(folder, true);
  members = [{ device: home.device, name: 'founder', invitedBy: '', addedAt: 1, revoked: null }];
  served = [];
  now = 1_000;
  open = new Set();
  afterMember = () => {};
  host = await createHost({
    privateKey: home.key,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    localOnly: true,
    allowed: () => false,
    invited: (peer) => open.has(peer),
  });
  host.handleJoin((packets) => {
    served.push(
      serveJoin(packets, {
        home,
        libraryId: LIBRARY,
        grant: async () => ({ ...grant, membership: Uint8Array.of(members.length, 255) }),
        members: async () => members,
        admit: async (device, name) => {
          if (members.some((member) => member.device === device)) return;
          members = [...members, { device, name, invitedBy: home.device, addedAt: now, revoked: null }];
          afterMember();
        },
        now: () => now,
      }),
    );
  });
});
afterEach(async () => {
  await host.stop();
  await rm(folder, { recursive: true, force: true });
});

async function invite(): Promise<InvitationData> {
  const secret = randomBytes(16);
  const peer = invitationPeer(secret);
  await home.addInvite(peer, EXPIRES);
  open.add(peer);
  return {
    libraryId: LIBRARY,
    inviter: home.device,
    addresses: host.addresses().map(withoutPeer),
    secret,
    expiresAt: EXPIRES,
    psk: null,
  };
}

async function ask(invitation: InvitationData, changes: Partial<JoinRequest> = {}) {
  return requestJoin({
    invitation,
    deviceKey: changes.deviceKey ?? (await newKey()),
    name: 'laptop',
    accept: async () => {},
    localOnly: true,
    timeoutMs: 20_000,
    now: () => now,
    ...changes,
  });
}

const newKey = (): Promise<PrivateKey> => generateKeyPair('Ed25519');
const idOf = (key: PrivateKey): string => peerIdFromPrivateKey(key).toString();

describe('joining', () => {
  it('makes the device a member, and brings everything that a new library needs', async () => {
    const invitation = await invite();
    const deviceKey = await newKey();
    const result = await ask(invitation, { deviceKey });
    expect(result).toEqual({
      grant: { ...grant, membership: Uint8Array.of(2, 255) },
      inviter: home.device,
      addresses: invitation.addresses,
    });
    expect(members[1]).toMatchObject({ device: idOf(deviceKey), name: 'laptop' });
    expect(await Promise.all(served)).toEqual([{ device: idOf(deviceKey), name: 'laptop' }]);
  });

  it('twice with one invitation is refused, and adds nobody', async () => {
    const invitation = await invite();
    await ask(invitation);
    await expect(ask(invitation)).rejects.toMatchObject({ code: 'INVITE_USED' });
    expect(members).toHaveLength(2);
  });

  it('at the same moment with one invitation lets one device in', async () => {
    const invitation = await invite();
    const outcomes = await Promise.allSettled(Array.from({ length: 4 }, () => ask(invitation)));
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1);
    expect(members).toHaveLength(2);
  });

  it('again by the same device is answered again, and adds nobody', async () => {
    const invitation = await invite();
    const deviceKey = await newKey();
    await ask(invitation, { deviceKey });
    expect((await ask(invitation, { deviceKey })).grant.ddl).toEqual(grant.ddl);
    expect(members).toHaveLength(2);
  });

  it('can be repeated by the same device when the answer was lost', async () => {
    const invitation = await invite();
    const deviceKey = await newKey();
    const peer = invitationPeer(invitation.secret);
    let cut: Promise<void> = Promise.resolve();
    afterMember = () => {
      cut = host.hangUp(peer);
    };
    await expect(ask(invitation, { deviceKey })).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining('again'),
    });
    await cut;
    expect(members).toHaveLength(2);
    await expect(ask(invitation)).rejects.toMatchObject({ code: 'INVITE_USED' });
    expect((await ask(invitation, { deviceKey })).grant.membership).toEqual(Uint8Array.of(2, 255));
    expect(members).toHaveLength(2);
  });

  it('that the device declines makes nobody a member, and the invitation stays open', async () => {
    const invitation = await invite();
    const why = new FlotillaError('SCHEMA_MISMATCH', 'other tables');
    await expect(ask(invitation, { accept: () => Promise.reject(why) })).rejects.toBe(why);
    expect(await Promise.all(served)).toEqual([null]);
    expect(members).toHaveLength(1);
    await ask(invitation);
    expect(members).toHaveLength(2);
  });

  it('with an expired invitation is refused by either side', async () => {
    const invitation = await invite();
    await expect(ask(invitation, { now: () => EXPIRES })).rejects.toMatchObject({ code: 'INVITE_EXPIRED' });
    now = EXPIRES;
    await expect(ask(invitation, { now: () => 0 })).rejects.toMatchObject({ code: 'INVITE_EXPIRED' });
    expect(members).toHaveLength(1);
  });

  it('with an invitation that the node does not let in any more says so', async () => {
    const invitation = await invite();
    open.clear();
    await expect(ask(invitation)).rejects.toMatchObject({
      code: 'INVITE_USED',
      message: expect.stringContaining('ask for a new one'),
    });
    expect(served).toEqual([]);
  });

  it('to another library is refused: the proof is worth nothing there', async () => {
    const invitation = { ...(await invite()), libraryId: 'ff'.repeat(16) };
    await expect(ask(invitation)).rejects.toMatchObject({ code: 'PROTOCOL' });
    expect(members).toHaveLength(1);
  });

  it('finds the inviter on the network when no address of the invitation answers', async () => {
    const invitation = { ...(await invite()), addresses: [] };
    const discovery = createDiscovery({
      device: host.device,
      addresses: () => host.addresses(),
      localOnly: true,
      onPeer: () => {},
      onProblem: () => {},
    });
    await discovery.start();
    const result = await ask(invitation);
    await discovery.stop();
    expect(result.addresses).toEqual(host.addresses().map(withoutPeer));
    expect(members).toHaveLength(2);
  });

  it('says what to do when the inviter is not there', async () => {
    const invitation = await invite();
    await host.stop();
    await expect(ask(invitation, { timeoutMs: 1_000 })).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining('flotilla up'),
    });
  });

  it('can be given up', async () => {
    const controller = new AbortController();
    const invitation = { ...(await invite()), addresses: [] };
    const asking = ask(invitation, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(asking).rejects.toThrow('enough');
  });
});
