/**
 * Where a library's things are, and what every entry of the API checks of a path before anything is opened or made.
 */
import { randomUUID } from 'node:crypto';
import { rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import type { WorkerSpec } from './actors/worker-client.ts';
import { FlotillaError, messageOf } from './errors.ts';
import { makeFolder } from './net/files.ts';
import { openHome } from './net/home.ts';
import type { Home } from './net/home.ts';

/** The home folder of a library's node. */
export function homeOf(library: string, home?: string): string {
  return resolve(home ?? `${library}.flotilla`);
}

/** The name of this device, when nobody chose one. */
export function defaultName(): string {
  return hostname() || 'unnamed device';
}

/** @throws FlotillaError NO_SUCH_FILE, NOT_A_DATABASE */
export async function requireFile(file: string): Promise<string> {
  const path = resolve(file);
  const found = await stat(path).catch(() => null);
  if (found === null) throw new FlotillaError('NO_SUCH_FILE', `There is no file ${path}: check the path.`);
  if (!found.isFile())
    throw new FlotillaError('NOT_A_DATABASE', `${path} is not a file: name the library file itself.`);
  return path;
}

/**
 * Throws unless a library can be made at `path`, or is a file there already.
 * @throws FlotillaError NOT_A_DATABASE, READ_ONLY
 */
export async function requirePlace(path: string): Promise<void> {
  if ((await stat(path).catch(() => null)) !== null) {
    await requireFile(path);
    return;
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
  return { role: 'read', purpose: 'serve', file, device: '', name: '', durability: 'normal' };
}
