/**
 * What can be done with a library beside running its node: make it, invite, join, look at it, check it. Each talks to the
 * running node if there is one, and otherwise opens a database worker for as long as it takes.
 */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { resolve } from 'node:path';
import { pause, systemClock } from './actors/clock.ts';
import { withWorker } from './actors/database.ts';
import type { WorkerSpec } from './actors/worker-client.ts';
import type {
  DeviceList,
  ExamineOptions,
  FlotillaNode,
  InitOptions,
  Invitation,
  InviteOptions,
  JoinOptions,
  JoinReport,
  LeaveOptions,
  LeaveReport,
  MigrateOptions,
  MigrateReport,
  NodeStatus,
  OwnOptions,
  Pairing,
  PairOptions,
  PeerState,
  PeerStatus,
  Replicated,
  VerifyReport,
  WaitOptions,
} from './api.ts';
import type {
  Change,
  ConflictList,
  ConflictQuery,
  Examination,
  InitReport,
  JoinState,
  LibraryStatus,
  MemberRow,
  OwnRequest,
  Owned,
  RestoredConflict,
  Revoked,
} from './db/api.ts';
import { FlotillaError } from './errors.ts';
import { callControl, controlPath } from './net/control.ts';
import type { Home } from './net/home.ts';
import { decodeInvitation } from './net/invitation.ts';
import { requestJoin } from './net/join.ts';
import { readCode, requestInvitation } from './net/pairing.ts';
import { makePsk } from './net/psk.ts';
import { PAIRING_MS } from './pairing.ts';
import { describeDevices, requireMember, requireOther } from './devices.ts';
import { openInvitations, openNode } from './node.ts';
import {
  defaultName,
  findHome,
  homeOf,
  makeHome,
  readerSpec,
  requireFile,
  requirePlace,
  writerSpec,
} from './places.ts';

/** How long a running node may take to answer, ms: it counts the rows of every table for a status. */
const STATUS_TIMEOUT_MS = 30_000;
/** The same for a check of every page and a comparison with every peer, ms. */
const VERIFY_TIMEOUT_MS = 10 * 60_000;
/** How long a device that leaves looks for the others, ms: discovery asks every 10 seconds. */
const FIND_TIMEOUT_MS = 12_000;
/** States of a session after which it is known whether the peer is there. */
const TRIED: readonly PeerState[] = ['ack', 'live', 'backoff', 'refused', 'idle'];
/** How long it is waited for other devices, unless the user says otherwise, ms. */
const WAIT_TIMEOUT_MS = 60_000;
/** How often a node is asked who has ACKed a change, ms. */
const HOLDERS_EVERY_MS = 250;
const NEVER = new AbortController().signal;
/** How long joining may take, unless the user says otherwise, ms. */
const JOIN_TIMEOUT_MS = 30_000;

interface HomeOption {
  readonly home?: string;
}

function setupSpec(file: string, home: Home, name: string): WorkerSpec {
  return { ...writerSpec(file, home), purpose: 'setup', name };
}

/**
 * Makes a database file a library: this device is its first member. Done again, it changes nothing.
 * @throws FlotillaError NO_SUCH_FILE, NOT_A_DATABASE, CONFIG, NO_PRIMARY_KEY, UNSUPPORTED_SCHEMA, ALREADY_INITIALISED, LIBRARY_IN_USE
 */
export async function initLibrary(file: string, options: InitOptions = {}): Promise<InitReport> {
  const path = await requireFile(file);
  const config = options.config === undefined ? null : resolve(options.config);
  await using made = await makeHome(homeOf(path, options.home));
  const { home } = made;
  const name = options.name || (await home.settings()).name || defaultName();
  const report = (await withWorker(setupSpec(path, home, name), systemClock, (call) =>
    call('init', [config, null]),
  )) as InitReport;
  // Done again it changes nothing: then this device needs no home for it, and keeps the name that it has.
  if (report.created) {
    await home.savePsk(options.psk ? makePsk() : null);
    made.keep();
    await home.saveSettings({ name });
  } else if (options.psk && (await home.psk()) === null) {
    throw new FlotillaError(
      'ALREADY_INITIALISED',
      `${path} is a library already, without a pre-shared key: docs/security.md says how all its devices get one.`,
    );
  }
  return report;
}

/**
 * Looks at a database, a library or one that is to become one, without changing it: what syncs, what does not and why, and
 * what should be known or mended.
 * @throws FlotillaError NO_SUCH_FILE, NOT_A_DATABASE, FORMAT_TOO_NEW, DATABASE
 */
export async function examineLibrary(file: string, options: ExamineOptions = {}): Promise<Examination> {
  const path = await requireFile(file);
  const config = options.config === undefined ? null : resolve(options.config);
  const spec: WorkerSpec = { ...readerSpec(path), purpose: 'setup' };
  return (await withWorker(spec, systemClock, (call) => call('examine', [config]))) as Examination;
}

/**
 * Changes the schema of a library, by SQL files and a new configuration, in one transaction. Its node must not run.
 * @throws FlotillaError NO_SUCH_FILE, NOT_INITIALISED, LIBRARY_IN_USE, CONFIG, SCHEMA_MISMATCH, UNSUPPORTED_SCHEMA, DATABASE
 */
export async function migrateLibrary(file: string, options: MigrateOptions = {}): Promise<MigrateReport> {
  const path = await requireFile(file);
  const config = options.config === undefined ? null : resolve(options.config);
  const files = await Promise.all((options.sql ?? []).map(readSql));
  await using made = await makeHome(homeOf(path, options.home));
  const { home } = made;
  const spec = setupSpec(path, home, '');
  const changes = await withWorker(spec, systemClock, (call) => call('migrate', [files.join(';\n'), config]));
  made.keep();
  return { changes: changes as string[] };
}

async function readSql(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new FlotillaError('NO_SUCH_FILE', `The file of SQL ${path} cannot be read: check the path.`, { cause });
  }
}

/**
 * Makes a one-time invitation for another device.
 * @throws FlotillaError NO_SUCH_FILE, NOT_INITIALISED, NOT_A_MEMBER, CONFIG
 */
export async function createInvitation(file: string, options: InviteOptions = {}): Promise<Invitation> {
  const path = await requireFile(file);
  const homePath = homeOf(path, options.home);
  const { minutes, localOnly } = options;
  const askNode = async (): Promise<Invitation | null> => {
    const told = await callControl(controlPath(homePath), 'invite', { minutes, localOnly }, STATUS_TIMEOUT_MS);
    return told === null ? null : (told.result as Invitation);
  };
  const invited = await askNode();
  if (invited !== null) return invited;
  const { libraryId, members } = await libraryStatus(path);
  const home = await requireHome(homePath);
  requireMember(members, home.device);
  let { port } = await home.settings();
  if (port === 0) {
    // The invitation has to name the port on which the node will listen when somebody starts it.
    port = await freePort();
    await home.saveSettings({ port });
  }
  const made = await (await openInvitations(home)).create(libraryId, port, options, false);
  // A node that has started meanwhile may have read the invitations before this one was there; the one that it makes it knows.
  return (await askNode()) ?? made;
}

/**
 * Shows a six-digit code by which one device of the same network may join, once: `joinLibrary` takes it in place of an invitation. If no node
 * runs, one is started for as long as the code is shown.
 * @throws FlotillaError NO_SUCH_FILE, NOT_INITIALISED, NOT_A_MEMBER, NO_MULTICAST
 */
export async function pairDevice(file: string, options: PairOptions = {}): Promise<Pairing> {
  const path = await requireFile(file);
  const homePath = homeOf(path, options.home);
  const control = controlPath(homePath);
  const told = await callControl(control, 'pair', {}, STATUS_TIMEOUT_MS);
  if (told !== null) {
    const shown = told.result as Pick<Pairing, 'code' | 'expiresAt'>;
    const joined = callControl(control, 'paired', { code: shown.code }, PAIRING_MS).then((answer) => {
      if (answer === null) throw new FlotillaError('STOPPED', 'The node has stopped, and the code with it.');
      return answer.result as Awaited<Pairing['joined']>;
    });
    joined.catch(() => {});
    const close = async (): Promise<void> => {
      await callControl(control, 'unpair', { code: shown.code }, STATUS_TIMEOUT_MS);
    };
    return { ...shown, joined, close };
  }
  const { members } = await libraryStatus(path);
  requireMember(members, (await requireHome(homePath)).device);
  const node = await openNode({ library: path, home: homePath, localOnly: options.localOnly ?? false });
  try {
    const pairing = await node.pair();
    return { ...pairing, close: () => node.stop() };
  } catch (error) {
    await node.stop();
    throw error;
  }
}

/** A port that is free now, as the system chooses it. */
function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer();
    server.once('error', fail);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => done(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/**
 * Joins a library by invitation: makes the file, or takes the one that is there with its rows as `existing` says.
 * @param text - an invitation, or the six digits that a device of the same network shows
 * @throws FlotillaError INVITE_INVALID, CODE_REFUSED, INVITE_EXPIRED, INVITE_USED, LIBRARY_NOT_EMPTY, ALREADY_INITIALISED, SCHEMA_MISMATCH, UNREACHABLE, …
 */
export async function joinLibrary(text: string, file: string, options: JoinOptions = {}): Promise<JoinReport> {
  const code = readCode(text);
  const invited = code === null ? decodeInvitation(text) : null;
  const path = await requirePlace(file);
  await using made = await makeHome(homeOf(path, options.home));
  const { home } = made;
  const name = options.name || (await home.settings()).name || defaultName();
  // Awaited here: what was made is kept or taken away when this block ends.
  return await withWorker(setupSpec(path, home, name), systemClock, async (call) => {
    const found = (await call('inspectForJoin', [])) as JoinState;
    requireMeaning(found, path, options.existing);
    const localOnly = options.localOnly ?? false;
    // The code as late as possible: it is good for one invitation.
    const invitation = invited ?? decodeInvitation(await requestInvitation({ code: code ?? '', localOnly }));
    const existing = await meaningOf(found, path, invitation.libraryId, options.existing);
    const { grant, inviter, addresses } = await requestJoin({
      invitation,
      deviceKey: home.key,
      name,
      // Before anybody becomes a member: what cannot be built here must not use the invitation up.
      accept: async (offer) => void (await call('tryGrant', [{ grant: offer, existing }])),
      localOnly,
      timeoutMs: options.timeoutMs ?? JOIN_TIMEOUT_MS,
    });
    // The key is a member's from here on: with it, the same command can be run again if the rest fails.
    made.keep();
    await home.savePsk(invitation.psk);
    const init = (await call('createFromGrant', [{ grant, existing }])) as InitReport;
    await home.rememberPeer(inviter, addresses, systemClock.now());
    await home.saveSettings({ name });
    return {
      libraryId: grant.libraryId,
      device: home.device,
      invitedBy: inviter,
      created: !found.exists,
      omitted: grant.omitted,
      init,
    };
  });
}

/** Refuses rows of which nothing says what they mean, since a copied file would double every row. */
function requireMeaning({ initialised, rows }: JoinState, path: string, existing: JoinOptions['existing']): void {
  if (initialised || rows === 0 || existing !== undefined) return;
  throw new FlotillaError(
    'LIBRARY_NOT_EMPTY',
    `${path} has rows already: say --union if all of them are new to the library, --same if they are a copy of its rows, or join with a new file.`,
  );
}

/** What the rows that are there mean. */
async function meaningOf(
  found: JoinState,
  path: string,
  libraryId: string,
  existing: JoinOptions['existing'],
): Promise<'empty' | 'union' | 'same'> {
  if (found.initialised) {
    // Joining again, after a crash in the middle: what was done stays done.
    if ((await libraryStatus(path)).libraryId === libraryId) return existing ?? 'empty';
    throw new FlotillaError(
      'ALREADY_INITIALISED',
      `${path} is part of another Flotilla library already: join with a new file.`,
    );
  }
  return found.rows === 0 ? 'empty' : (existing ?? 'empty');
}

/** How a library and its node stand; works with and without a running node. */
export async function readStatus(file: string, options: HomeOption = {}): Promise<NodeStatus> {
  const path = await requireFile(file);
  const homePath = homeOf(path, options.home);
  const told = await callControl(controlPath(homePath), 'status', {}, STATUS_TIMEOUT_MS);
  if (told !== null) return told.result as NodeStatus;
  const library = await libraryStatus(path);
  const home = await findHome(homePath);
  return {
    file: path,
    running: false,
    device: home?.device ?? '',
    name: (await home?.settings())?.name ?? '',
    addresses: [],
    psk: home !== null && (await home.psk()) !== null,
    peers: library.members
      .filter((member) => member.device !== home?.device)
      .map(({ device, name }) => ({
        device,
        name,
        state: 'stopped',
        via: '',
        progress: null,
        code: '',
        reason: '',
        inSync: false,
        differences: [],
        heldUp: '',
      })),
    discoveryProblem: '',
    maxEventLoopDelayMs: 0,
    p99EventLoopDelayMs: 0,
    library,
  };
}

/**
 * Gives an owned row, and all that is owned through it, to a member of the library: by default to this device.
 * @param key - the row's primary key as text (several columns as a JSON array), or its UUID
 * @throws FlotillaError NO_SUCH_FILE, NOT_INITIALISED, NO_SUCH_ROW, NOT_OWNED, NOT_A_MEMBER, LIBRARY_IN_USE
 */
export async function ownRow(
  file: string,
  table: string,
  key: string,
  options: HomeOption & OwnOptions = {},
): Promise<Owned> {
  const path = await requireFile(file);
  const homePath = homeOf(path, options.home);
  const request: OwnRequest = { table, key, device: options.device ?? null };
  const told = await callControl(controlPath(homePath), 'own', request, STATUS_TIMEOUT_MS);
  if (told !== null) return told.result as Owned;
  await libraryStatus(path);
  const spec = writerSpec(path, await requireHome(homePath));
  return (await withWorker(spec, systemClock, (call) => call('own', [request]))) as Owned;
}

/**
 * The devices of a library: members, and those that were; works with and without a running node.
 * @throws FlotillaError NO_SUCH_FILE, NOT_INITIALISED
 */
export async function listDevices(file: string, options: HomeOption = {}): Promise<DeviceList> {
  const path = await requireFile(file);
  const homePath = homeOf(path, options.home);
  const told = await callControl(controlPath(homePath), 'devices', {}, STATUS_TIMEOUT_MS);
  if (told !== null) return told.result as DeviceList;
  return withWorker(readerSpec(path), systemClock, async (call) => {
    const members = (await call('members', [])) as MemberRow[];
    return describeDevices(members, await findHome(homePath), (await call('status', [])) as LibraryStatus, []);
  });
}

/**
 * Ends the membership of another device; works with and without a running node, and spreads like any change.
 * @param device - its peer id or name
 * @throws FlotillaError NO_SUCH_FILE, NOT_INITIALISED, NOT_A_MEMBER, LIBRARY_IN_USE; CONFIG for this device itself
 */
export async function revokeDevice(file: string, device: string, options: HomeOption = {}): Promise<Revoked> {
  const path = await requireFile(file);
  const homePath = homeOf(path, options.home);
  const told = await callControl(controlPath(homePath), 'revoke', { device }, STATUS_TIMEOUT_MS);
  if (told !== null) return told.result as Revoked;
  await libraryStatus(path);
  const home = await requireHome(homePath);
  return withWorker(writerSpec(path, home), systemClock, async (call) => {
    requireOther(device, (await call('members', [])) as MemberRow[], home.device);
    return (await call('revoke', [device])) as Revoked;
  });
}

/**
 * Ends the membership of this device, and tells the members that can be reached. A running node stops; if none runs, one is
 * started for it.
 * @throws FlotillaError NO_SUCH_FILE, NOT_INITIALISED, NOT_A_MEMBER
 */
export async function leaveLibrary(file: string, options: LeaveOptions = {}): Promise<LeaveReport> {
  const path = await requireFile(file);
  const homePath = homeOf(path, options.home);
  const told = await callControl(controlPath(homePath), 'leave', {}, STATUS_TIMEOUT_MS);
  if (told !== null) return told.result as LeaveReport;
  const { members } = await libraryStatus(path);
  requireMember(members, (await requireHome(homePath)).device);
  const node = await openNode({ library: path, home: homePath, localOnly: options.localOnly ?? false });
  try {
    await whenTried(node);
    return await node.leave();
  } finally {
    await node.stop();
  }
}

/** Resolves when each member has been reached or has not answered, or after a while. */
async function whenTried(node: FlotillaNode): Promise<void> {
  const waiting = new Set((await node.status()).peers.map((peer) => peer.device));
  await new Promise<void>((done) => {
    const timer = systemClock.setTimeout(done, FIND_TIMEOUT_MS);
    const look = (peers: ReadonlyArray<Pick<PeerStatus, 'device' | 'state'>>): void => {
      for (const { device, state } of peers) if (TRIED.includes(state)) waiting.delete(device);
      if (waiting.size > 0) return;
      forget();
      systemClock.clearTimeout(timer);
      done();
    };
    const forget = node.onEvent((event) => look(event.event === 'peer' ? [event] : []));
    void node.status().then(({ peers }) => look(peers));
  });
}

/**
 * Waits until what is committed to a library now is known to be durable on other devices. Its node must run.
 * @throws FlotillaError NOT_REPLICATED, UNREACHABLE when no node runs, NO_SUCH_FILE
 */
export async function waitReplicated(file: string, options: WaitOptions = {}): Promise<Replicated> {
  const { devices = 1, timeoutMs = WAIT_TIMEOUT_MS } = options;
  const path = await requireFile(file);
  const control = controlPath(homeOf(path, options.home));
  const ask = async (method: string, params: unknown): Promise<unknown> => {
    const told = await callControl(control, method, params, STATUS_TIMEOUT_MS);
    if (told !== null) return told.result;
    throw new FlotillaError('UNREACHABLE', `No node runs for ${path}: start "flotilla up" first.`);
  };
  const change = (await ask('change', {})) as Change;
  const until = systemClock.now() + timeoutMs;
  for (;;) {
    const holders = (await ask('holders', change)) as readonly string[];
    if (holders.length >= devices) return { devices: holders };
    if (systemClock.now() >= until)
      throw new FlotillaError(
        'NOT_REPLICATED',
        `It is known to be on ${holders.length} of ${devices} other devices: let them connect, and wait again.`,
      );
    await pause(systemClock, HOLDERS_EVERY_MS, NEVER);
  }
}

/** The home folder of this device. @throws FlotillaError NOT_INITIALISED */
async function requireHome(path: string): Promise<Home> {
  const home = await findHome(path);
  if (home !== null) return home;
  throw new FlotillaError(
    'NOT_INITIALISED',
    `This device has no home folder ${path}: run "flotilla up" once, or name it with --home.`,
  );
}

async function libraryStatus(path: string): Promise<LibraryStatus> {
  return (await withWorker(readerSpec(path), systemClock, (call) => call('status', []))) as LibraryStatus;
}

/** Checks a library, and compares it with every connected peer if its node runs. */
export async function verifyLibrary(file: string, options: HomeOption = {}): Promise<VerifyReport> {
  const path = await requireFile(file);
  const told = await callControl(controlPath(homeOf(path, options.home)), 'verify', {}, VERIFY_TIMEOUT_MS);
  if (told !== null) return told.result as VerifyReport;
  type Checked = Pick<VerifyReport, 'foreignKeyViolations' | 'integrity'>;
  const checked = (await withWorker(readerSpec(path), systemClock, (call) => call('check', []))) as Checked;
  const ok = checked.foreignKeyViolations.length === 0 && checked.integrity.length === 0;
  return { ok, ...checked, compared: false, peers: [] };
}

/**
 * What was discarded or changed of what people wrote, newest first; works with and without a running node.
 * @throws FlotillaError NO_SUCH_FILE, NOT_INITIALISED, CONFIG when no such table syncs
 */
export async function listConflicts(file: string, options: ConflictQuery & HomeOption = {}): Promise<ConflictList> {
  const path = await requireFile(file);
  const { home, ...query } = options;
  const told = await callControl(controlPath(homeOf(path, home)), 'conflicts', query, STATUS_TIMEOUT_MS);
  if (told !== null) return told.result as ConflictList;
  return (await withWorker(readerSpec(path), systemClock, (call) => call('conflicts', [query]))) as ConflictList;
}

/**
 * Puts back what a conflict discarded, as an ordinary change of this device; works with and without a running node.
 * @param id - as {@link listConflicts} gives it
 * @throws FlotillaError NO_SUCH_CONFLICT, CANNOT_RESTORE, NOT_INITIALISED, LIBRARY_IN_USE
 */
export async function restoreConflict(file: string, id: number, options: HomeOption = {}): Promise<RestoredConflict> {
  const path = await requireFile(file);
  const homePath = homeOf(path, options.home);
  const told = await callControl(controlPath(homePath), 'restore', { id }, STATUS_TIMEOUT_MS);
  if (told !== null) return told.result as RestoredConflict;
  const spec = writerSpec(path, await requireHome(homePath));
  return (await withWorker(spec, systemClock, (call) => call('restoreConflict', [id]))) as RestoredConflict;
}
