/**
 * The home folder of a node: its key, its settings, its invitations, the addresses of its peers, and who runs on it. Nothing
 * of the library's content enters, and no key leaves. The clock is passed in.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys';
import type { Ed25519PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import * as v from 'valibot';
import { FlotillaError } from '../errors.ts';
import { finite, integer, object, read } from '../protocol/forms.ts';
import { KEY_BYTES } from '../protocol/peer-id.ts';
import { createWhole, makeFolder, readWhole, writeWhole } from './files.ts';
import { decodePsk, encodePsk } from './psk.ts';

/** Addresses kept of one peer: those of its interfaces, old ones falling out. */
const MAX_ADDRESSES = 8;
/** The name by which libp2p programs know such a file. */
const PSK_FILE = 'swarm.key';

const settingsSchema = v.pipe(
  object,
  v.object({ name: v.optional(v.string(), ''), port: v.optional(integer(0, 65_535), 0) }),
);
const inviteSchema = v.object({ peer: v.string(), expiresAt: finite });
const bookSchema = v.pipe(object, v.record(v.string(), v.object({ addresses: v.array(v.string()), seenAt: finite })));
const runningSchema = v.object({ pid: integer(0), addresses: v.array(v.string()) });

/** What a node remembers about itself: '' and 0 until they are chosen. */
export type HomeSettings = v.InferOutput<typeof settingsSchema>;
/** Peer id → where it was last reached, and when (ms since 1970). */
export type AddressBook = v.InferOutput<typeof bookSchema>;
/** The process that runs on this home, and where it listens. */
export type Running = v.InferOutput<typeof runningSchema>;

/** An invitation that was made here and has not expired. */
export interface Invite {
  /** Peer id under which its holder appears: the invitation's name. */
  readonly peer: string;
  /** ms since 1970 */
  readonly expiresAt: number;
  /** Peer id of the device that used it; '' while it is unused. */
  readonly usedBy: string;
}

export interface Home {
  readonly path: string;
  readonly key: Ed25519PrivateKey;
  /** Own peer id. */
  readonly device: string;
  /** The 32 bytes of which the key is made, for what the database signs. */
  readonly seed: Uint8Array;
  /**
   * The library's pre-shared key; null where it has none.
   * @throws FlotillaError CONFIG when its file is damaged
   */
  psk(): Promise<Uint8Array | null>;
  savePsk(psk: Uint8Array | null): Promise<void>;
  settings(): Promise<HomeSettings>;
  saveSettings(changes: Partial<HomeSettings>): Promise<void>;
  /** Remembers an invitation. The secret itself is not kept: its peer id is enough to know it again. */
  addInvite(peer: string, expiresAt: number): Promise<void>;
  /**
   * Invitations that have not expired, used ones too: the device that used one may have to ask again. Removes the expired.
   * @param now - ms since 1970
   */
  invites(now: number): Promise<Invite[]>;
  /** Uses an invitation up for a device. False when another device used it before, or when there is none. */
  useInvite(peer: string, device: string): Promise<boolean>;
  addressBook(): Promise<AddressBook>;
  /** @param now - ms since 1970 */
  rememberPeer(peer: string, addresses: readonly string[], now: number): Promise<void>;
  /** Notes when peers were last in touch. @param now - ms since 1970 */
  notePeers(peers: readonly string[], now: number): Promise<void>;
  /** Null when no process runs on this home; what a killed one left behind does not count. */
  running(): Promise<Running | null>;
  setRunning(running: Running): Promise<void>;
  clearRunning(): Promise<void>;
}

/**
 * Opens a home folder.
 * @param create - make folder and key where they are missing
 * @throws FlotillaError NO_SUCH_FILE when there is none and `create` is false; CONFIG when a file in it is damaged
 */
export async function openHome(path: string, create: boolean): Promise<Home> {
  if (create) {
    await makeFolder(path);
    await makeFolder(join(path, 'invites'));
  }
  const key = await openKey(join(path, 'key'), create);
  return new HomeFolder(path, key);
}

async function openKey(path: string, create: boolean): Promise<Ed25519PrivateKey> {
  let bytes = await readWhole(path);
  if (bytes === null && create) {
    await createWhole(path, privateKeyToProtobuf(await generateKeyPair('Ed25519')));
    // Read again, also by whoever made it: of two processes that start at once, both take the same.
    bytes = await readWhole(path);
  }
  if (bytes === null) {
    throw new FlotillaError(
      'NO_SUCH_FILE',
      `There is no key at ${path}: run "flotilla init" or "flotilla join" first.`,
    );
  }
  try {
    const key = privateKeyFromProtobuf(bytes);
    if (key.type !== 'Ed25519') throw new RangeError(`it is a key of the kind ${key.type}`);
    return key;
  } catch (cause) {
    throw damaged(path, cause);
  }
}

class HomeFolder implements Home {
  readonly path: string;
  readonly key: Ed25519PrivateKey;
  readonly device: string;
  readonly seed: Uint8Array;
  /** The end of the last change: changes read and then write, so they go one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(path: string, key: Ed25519PrivateKey) {
    this.path = path;
    this.key = key;
    this.device = peerIdFromPrivateKey(key).toString();
    // A copy: it moves to another thread as it is. libp2p keeps the public key behind the seed.
    this.seed = Uint8Array.from(key.raw.subarray(0, KEY_BYTES));
  }

  async psk(): Promise<Uint8Array | null> {
    const path = join(this.path, PSK_FILE);
    const text = await readWhole(path);
    return text === null ? null : decodePsk(text.toString(), path);
  }

  async savePsk(psk: Uint8Array | null): Promise<void> {
    const path = join(this.path, PSK_FILE);
    if (psk === null) await rm(path, { force: true });
    else await writeWhole(path, encodePsk(psk));
  }

  async settings(): Promise<HomeSettings> {
    return (await this.#read('node.json', settingsSchema)) ?? read(settingsSchema, {});
  }

  saveSettings(changes: Partial<HomeSettings>): Promise<void> {
    return this.#change(async () => this.#write('node.json', { ...(await this.settings()), ...changes }));
  }

  async addInvite(peer: string, expiresAt: number): Promise<void> {
    await makeFolder(join(this.path, 'invites'));
    await this.#write(join('invites', `${peer}.json`), { peer, expiresAt });
  }

  async invites(now: number): Promise<Invite[]> {
    const names = await readdir(join(this.path, 'invites')).catch(() => []);
    const open: Invite[] = [];
    for (const name of names.filter((candidate) => candidate.endsWith('.json')).toSorted()) {
      const invite = await this.#read(join('invites', name), inviteSchema);
      if (invite === null) continue;
      const used = this.#usedFile(invite.peer);
      if (invite.expiresAt > now) {
        open.push({ ...invite, usedBy: (await readWhole(used))?.toString() ?? '' });
        continue;
      }
      // The invitation first: without it the mark of its use means nothing, and not the other way round.
      await rm(join(this.path, 'invites', name), { force: true });
      await rm(used, { force: true });
    }
    return open;
  }

  async useInvite(peer: string, device: string): Promise<boolean> {
    if ((await this.#read(join('invites', `${peer}.json`), inviteSchema)) === null) return false;
    const used = this.#usedFile(peer);
    if (await createWhole(used, device)) return true;
    return (await readWhole(used))?.toString() === device;
  }

  async addressBook(): Promise<AddressBook> {
    return (await this.#read('peers.json', bookSchema)) ?? {};
  }

  rememberPeer(peer: string, addresses: readonly string[], now: number): Promise<void> {
    return this.#change(async () => {
      const book = await this.addressBook();
      const known = [...new Set([...addresses, ...(book[peer]?.addresses ?? [])])].slice(0, MAX_ADDRESSES);
      await this.#write('peers.json', { ...book, [peer]: { addresses: known, seenAt: now } });
    });
  }

  notePeers(peers: readonly string[], now: number): Promise<void> {
    return this.#change(async () => {
      const book = await this.addressBook();
      const seen = peers.map((peer) => [peer, { addresses: book[peer]?.addresses ?? [], seenAt: now }]);
      await this.#write('peers.json', { ...book, ...Object.fromEntries(seen) });
    });
  }

  async running(): Promise<Running | null> {
    const running = await this.#read('running.json', runningSchema);
    return running !== null && isAlive(running.pid) ? running : null;
  }

  setRunning(running: Running): Promise<void> {
    return this.#write('running.json', running);
  }

  async clearRunning(): Promise<void> {
    await rm(join(this.path, 'running.json'), { force: true });
  }

  #usedFile(peer: string): string {
    return join(this.path, 'invites', `${peer}.used`);
  }

  #change<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  async #write(name: string, value: unknown): Promise<void> {
    await writeWhole(join(this.path, name), `${JSON.stringify(value, null, 2)}\n`);
  }

  /** Null when the file is not there. */
  async #read<Schema extends v.GenericSchema>(name: string, schema: Schema): Promise<v.InferOutput<Schema> | null> {
    const path = join(this.path, name);
    const bytes = await readWhole(path);
    if (bytes === null) return null;
    try {
      return read(schema, JSON.parse(bytes.toString()));
    } catch (cause) {
      throw damaged(path, cause);
    }
  }
}

function damaged(path: string, cause: unknown): FlotillaError {
  return new FlotillaError('CONFIG', `${path} is damaged: restore it from a backup, or delete it to start it anew.`, {
    cause,
  });
}

/** True when a process has that id. It may be another one by now: only the control socket proves a running node. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Somebody else's process is a process too.
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
