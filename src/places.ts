/**
 * Where a library's things are, and what every entry of the API checks of a path, and of the Node.js that runs, before
 * anything is opened or made.
 */
import { randomUUID } from 'node:crypto';
import { realpath, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import type { WorkerSpec } from './actors/worker-client.ts';
import { FlotillaError, messageOf } from './errors.ts';
import { makeFolder } from './net/files.ts';
import { openHome } from './net/home.ts';
import type { Home } from './net/home.ts';

/** What package.json says under `engines`. */
const NEEDED_NODE = { major: 22, minor: 12 };

/**
 * A program may use the API under a Node.js for which the native modules were not made: it would crash without a word. (The
 * command line has its own check, before it loads anything.)
 * @throws FlotillaError OLD_NODE
 */
function requireNode(): void {
  const { node } = process.versions;
  const [major = 0, minor = 0] = node.split('.').map(Number);
  if (major > NEEDED_NODE.major || (major === NEEDED_NODE.major && minor >= NEEDED_NODE.minor)) return;
  const needed = `${NEEDED_NODE.major}.${NEEDED_NODE.minor}`;
  throw new FlotillaError(
    'OLD_NODE',
    `Flotilla needs Node.js ${needed} or newer and this is ${node}: install a newer one (https://nodejs.org) and try again.`,
  );
}

/** The home folder of a library's node. */
export function homeOf(library: string, home?: string): string {
  return resolve(home ?? `${library}.flotilla`);
}

/** The name of this device, when nobody chose one. */
export function defaultName(): string {
  return hostname() || 'unnamed device';
}

/**
 * The library's own path, links followed: by whatever name it is opened, lock and home are the same.
 * @throws FlotillaError NO_SUCH_FILE, NOT_A_DATABASE, OLD_NODE
 */
export async function requireFile(file: string): Promise<string> {
  requireNode();
  const path = await realpath(file).catch(() => resolve(file));
  const found = await stat(path).catch(() => null);
  if (found === null) throw new FlotillaError('NO_SUCH_FILE', `There is no file ${path}: check the path.`);
  if (!found.isFile())
    throw new FlotillaError('NOT_A_DATABASE', `${path} is not a file: name the library file itself.`);
  return path;
}

/**
 * The path of a file that is there, or of one that can be made.
 * @throws FlotillaError NO_SUCH_FILE when there is no folder for it; NOT_A_DATABASE, READ_ONLY, OLD_NODE
 */
export async function requirePlace(file: string): Promise<string> {
  requireNode();
  if ((await stat(file).catch(() => null)) !== null) return requireFile(file);
  const folder = dirname(resolve(file));
  const path = join(await realpath(folder).catch(() => folder), basename(file));
  if ((await stat(folder).catch(() => null)) === null) {
    throw new FlotillaError('NO_SUCH_FILE', `There is no folder ${folder}: make it first, or name another file.`);
  }
  // By trying it: permissions say nothing of a read-only disk.
  const trial = `${path}.${randomUUID()}.tmp`;
  try {
    await writeFile(trial, '', { flag: 'wx' });
  } catch (cause) {
    throw new FlotillaError(
      'READ_ONLY',
      `${path} cannot be made (${messageOf(cause)}): correct the permissions of its folder, or name another file.`,
      { cause },
    );
  } finally {
    await rm(trial, { force: true });
  }
  return path;
}

/** The home folder, or null when this device has none for the library yet. */
export async function findHome(path: string): Promise<Home | null> {
  try {
    return await openHome(path, false);
  } catch (error) {
    if (error instanceof FlotillaError && error.code === 'NO_SUCH_FILE') return null;
    throw error;
  }
}

/** A home folder that goes again when what it was made for fails. */
export interface NewHome {
  readonly home: Home;
  /** From here on it stays. */
  keep(): void;
  /** Removes it, if it was made here and is not kept. */
  [Symbol.asyncDispose](): Promise<void>;
}

export async function makeHome(path: string): Promise<NewHome> {
  let mine = await makeFolder(path);
  const remove = async (): Promise<void> => {
    if (mine !== null) await rm(mine, { recursive: true, force: true });
  };
  try {
    const home = await openHome(path, true);
    return { home, keep: () => (mine = null), [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** What a worker is told, for a library that nobody stamps in. */
export function readerSpec(file: string): WorkerSpec {
  return { role: 'read', purpose: 'serve', file, device: '', name: '', durability: 'normal', key: null };
}

/** What a worker is told that serves a library for one command, with no node. */
export function writerSpec(file: string, { device, seed }: Home): WorkerSpec {
  return { role: 'write', purpose: 'serve', file, device, name: '', durability: 'full', key: seed };
}
