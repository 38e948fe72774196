/**
 * Walks a folder and writes what it finds into a file library, from a process of its own and with plain SQL. It imports
 * nothing of Flotilla: a node that has the library open picks the rows up by itself.
 *
 *   node examples/file-library/indexer.ts <library> <folder> <volume> [--json]
 */
import { hash } from 'node:crypto';
import {
  closeSync,
  constants,
  type Dirent,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Database } from 'better-sqlite3';
import { extensionOf, openLibrary } from './library.ts';

/** Rows written in one transaction: large enough to be fast, small enough to let other writers in every few ms. */
const ROWS_A_TRANSACTION = 1_000;
/** Bytes of each of the three samples (first, middle, last): one page of the disk. */
const SAMPLE_BYTES = 4_096;
/** Hex digits of the hash that are kept: 128 bits do not collide by accident. */
const HASH_DIGITS = 32;

export interface IndexReport {
  readonly files: number;
  readonly folders: number;
  readonly links: number;
  /** Files and folders that could not be read; the files are listed without content. */
  readonly unreadable: number;
  /** Sockets, pipes and devices, which are not listed. */
  readonly skipped: number;
  /** Bytes of all files. */
  readonly bytes: number;
  /** Content identities that were new to the library. */
  readonly contents: number;
  readonly seconds: number;
}

interface FileFacts {
  readonly size: number;
  readonly modifiedAt: number;
  /** Null if the bytes could not be read. */
  readonly contentHash: string | null;
}

const sampled = Buffer.alloc(8 + 3 * SAMPLE_BYTES);

/** Hash over the size and the first, middle and last bytes: the whole of a small file, 12 KiB of a large one. */
function hashContent(descriptor: number, size: number): string {
  sampled.writeBigUInt64LE(BigInt(size), 0);
  let length = 8;
  if (size <= 3 * SAMPLE_BYTES) {
    length += readSync(descriptor, sampled, length, size, 0);
  } else {
    for (const position of [0, Math.floor((size - SAMPLE_BYTES) / 2), size - SAMPLE_BYTES]) {
      length += readSync(descriptor, sampled, length, SAMPLE_BYTES, position);
    }
  }
  return hash('sha256', sampled.subarray(0, length), 'hex').slice(0, HASH_DIGITS);
}

/** What is known of a file; never follows a link, never waits for a pipe that took the file's place. */
function readFacts(path: string): FileFacts {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
  } catch {
    return { ...statOf(path), contentHash: null };
  }
  try {
    const { size, mtimeMs } = fstatSync(descriptor);
    return { size, modifiedAt: Math.floor(mtimeMs), contentHash: hashContent(descriptor, size) };
  } catch {
    return { ...statOf(path), contentHash: null };
  } finally {
    closeSync(descriptor);
  }
}

/** Size and time without opening; zeros if even that is refused, or the name is not valid text. */
function statOf(path: string): { size: number; modifiedAt: number } {
  try {
    const { size, mtimeMs } = lstatSync(path);
    return { size, modifiedAt: Math.floor(mtimeMs) };
  } catch {
    return { size: 0, modifiedAt: 0 };
  }
}

/** Bytes of the disk that holds `folder`; null where the system does not say. */
function capacityOf(folder: string): number | null {
  try {
    const { blocks, bsize } = statfsSync(folder);
    return blocks * bsize;
  } catch {
    return null;
  }
}

/**
 * Indexes `folder` as a new location of the volume called `volume`, which is made if it is not there.
 * Folders get their size after everything in them, so that a folder's row is newer than its children's.
 */
export function indexFolder(db: Database, folder: string, volume: string): IndexReport {
  const started = performance.now();
  // Whoever names a link means what it points to; links further down are not followed.
  const root = realpathSync(folder);
  const known = db
    .prepare('SELECT 1 FROM locations l JOIN volumes v ON v.id = l.volume_id WHERE v.name = ? AND l.path = ?')
    .get(volume, root);
  if (known !== undefined) throw new Error(`${root} is a location of "${volume}" already. Delete it first.`);

  const findContent = db.prepare('SELECT id FROM content_identities WHERE content_hash = ?').pluck();
  const addContent = db.prepare('INSERT INTO content_identities (content_hash, size) VALUES (?, ?)');
  const addEntry = db.prepare(`
    INSERT INTO entries (location_id, parent_id, content_id, name, extension, kind, size, modified_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)`);
  const setSize = db.prepare('UPDATE entries SET size = ? WHERE id = ?');
  const contentIds = new Map<string, number>();
  let [files, folders, links, unreadable, skipped, bytes, contents, written] = [0, 0, 0, 0, 0, 0, 0, 0];

  const wrote = (): void => {
    written += 1;
    if (written % ROWS_A_TRANSACTION === 0) db.exec('COMMIT; BEGIN IMMEDIATE;');
  };
  const contentIdOf = (contentHash: string, size: number): number => {
    let id = contentIds.get(contentHash);
    if (id === undefined) {
      id = findContent.get(contentHash) as number | undefined;
      if (id === undefined) {
        id = Number(addContent.run(contentHash, size).lastInsertRowid);
        contents += 1;
        wrote();
      }
      contentIds.set(contentHash, id);
    }
    return id;
  };

  const addFolder = (location: number, parent: number | null, path: string, name: string): number => {
    let children: Dirent[] = [];
    try {
      children = readdirSync(path, { withFileTypes: true });
    } catch {
      unreadable += 1;
    }
    const { modifiedAt } = statOf(path);
    const id = Number(addEntry.run(location, parent, null, name, '', 'folder', 0, modifiedAt).lastInsertRowid);
    folders += 1;
    wrote();
    let total = 0;
    for (const child of children) {
      const childPath = join(path, child.name);
      if (child.isDirectory()) {
        total += addFolder(location, id, childPath, child.name);
      } else if (child.isFile()) {
        const facts = readFacts(childPath);
        if (facts.contentHash === null) unreadable += 1;
        const contentId = facts.contentHash === null ? null : contentIdOf(facts.contentHash, facts.size);
        addEntry.run(
          location,
          id,
          contentId,
          child.name,
          extensionOf(child.name),
          'file',
          facts.size,
          facts.modifiedAt,
        );
        files += 1;
        total += facts.size;
        wrote();
      } else if (child.isSymbolicLink()) {
        const facts = statOf(childPath);
        addEntry.run(location, id, null, child.name, extensionOf(child.name), 'link', facts.size, facts.modifiedAt);
        links += 1;
        wrote();
      } else {
        skipped += 1;
      }
    }
    setSize.run(total, id);
    wrote();
    return total;
  };

  db.exec('BEGIN IMMEDIATE');
  try {
    const volumeId =
      (db.prepare('SELECT id FROM volumes WHERE name = ?').pluck().get(volume) as number | undefined) ??
      db
        .prepare('INSERT INTO volumes (name, capacity, added_at) VALUES (?, ?, ?)')
        .run(volume, capacityOf(root), Date.now()).lastInsertRowid;
    const location = Number(
      db.prepare('INSERT INTO locations (volume_id, path) VALUES (?, ?)').run(volumeId, root).lastInsertRowid,
    );
    bytes = addFolder(location, null, root, basename(root) || root);
    db.prepare('UPDATE locations SET indexed_at = ? WHERE id = ?').run(Date.now(), location);
    db.exec('COMMIT');
  } catch (error) {
    if (db.inTransaction) db.exec('ROLLBACK');
    throw error;
  }
  const seconds = (performance.now() - started) / 1_000;
  return { files, folders, links, unreadable, skipped, bytes, contents, seconds };
}

function main(): void {
  const { positionals, values } = parseArgs({ allowPositionals: true, options: { json: { type: 'boolean' } } });
  const [library, folder, volume] = positionals;
  if (library === undefined || folder === undefined || volume === undefined) {
    throw new Error('Use: indexer.ts <library> <folder> <volume> [--json]');
  }
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new Error(`${folder} is not a folder.`);
  const db = openLibrary(library);
  const report = indexFolder(db, folder, volume);
  db.close();
  if (values.json === true) console.log(JSON.stringify(report));
  else console.log(`${report.files} files in ${report.folders} folders, ${report.seconds.toFixed(1)} s`);
}

if (import.meta.main) {
  try {
    main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
