/**
 * Small files of the home folder, written so that a crash leaves the old or the new content and never half of it, and so
 * that nobody but the owner reads them.
 */
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { FlotillaError, messageOf } from '../errors.ts';

/** Files: read and written by the owner only. */
const FILE_MODE = 0o600;
/** The system's words for a place that takes no file or folder of ours. ENOENT comes from file systems like /proc. */
const CANNOT_WRITE = ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EISDIR', 'EEXIST', 'ENOENT', 'ENAMETOOLONG'];
/** Folders: entered by the owner only. */
const FOLDER_MODE = 0o700;

/**
 * Makes the folder, and those above it, where they are missing. Not by Node's `recursive`: that never ends below a folder
 * which is there and still answers ENOENT, as /proc does, and it calls a read-only place missing (Node 24.21).
 * @returns the topmost folder that was made; null when all were there
 * @throws FlotillaError READ_ONLY, DISK_FULL
 */
export async function makeFolder(path: string): Promise<string | null> {
  try {
    await mkdir(path, { mode: FOLDER_MODE });
    return path;
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return null;
    const above = dirname(path);
    const isAboveMissing = code === 'ENOENT' && (await stat(above).catch(() => null)) === null;
    if (!isAboveMissing || above === path) throw explain(error, path);
    const topmost = await makeFolder(above);
    const made = await makeFolder(path);
    return topmost ?? made;
  }
}

/**
 * Replaces the file's content, durably.
 * @throws FlotillaError READ_ONLY, DISK_FULL
 */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  try {
    const temporary = await writeTemporary(path, content);
    await rename(temporary, path);
  } catch (error) {
    throw explain(error, path);
  }
}

/**
 * Creates the file with that content, durably; false, changing nothing, when there is one already.
 * @throws FlotillaError READ_ONLY, DISK_FULL
 */
export async function createWhole(path: string, content: string | Uint8Array): Promise<boolean> {
  const temporary = await writeTemporary(path, content).catch((error: unknown) => {
    throw explain(error, path);
  });
  try {
    // A link is refused when the name is taken, which a rename is not: of two at the same time one wins.
    await link(temporary, path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw explain(error, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** The file's bytes; null when there is no such file. */
export async function readWhole(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path);
  } catch (error) {
    // ENOTDIR: what should be its folder is a file.
    if (['ENOENT', 'ENOTDIR'].includes(codeOf(error))) return null;
    throw error;
  }
}

/** What a person can do about a path that cannot be written; errors that are none of the path's pass unchanged. */
function explain(error: unknown, path: string): unknown {
  if (error instanceof FlotillaError) return error;
  const code = codeOf(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new FlotillaError(
      'DISK_FULL',
      `${path} cannot be written, since the disk is full: make room, then try again.`,
      {
        cause: error,
      },
    );
  }
  if (!CANNOT_WRITE.includes(code)) return error;
  return new FlotillaError(
    'READ_ONLY',
    `${path} cannot be made or written (${messageOf(error)}): correct the permissions, or name another home folder with --home.`,
    { cause: error },
  );
}

/** The system's code of an error, such as `ENOENT`; '' when it has none. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

async function writeTemporary(path: string, content: string | Uint8Array): Promise<string> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  const file = await open(temporary, 'wx', FILE_MODE);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  return temporary;
}
