/**
 * A made-up file library of any size, the same for the same seed: eight or nine folders deep, about twelve files a
 * folder, content identities for 80 % of the entries (the rest are copies), metadata for 5 %. Every entry has its
 * location, its content and, but for the topmost folder, its parent: three foreign keys each.
 *
 *   node examples/file-library/synthetic.ts <library> --entries 182530 [--seed 1] [--volume name] [--json]
 */
import { hash } from 'node:crypto';
import { parseArgs } from 'node:util';
import type { Database } from 'better-sqlite3';
import { extensionOf, openLibrary, randomFrom } from './library.ts';

/** Files in a folder, on average. */
const FILES_A_FOLDER = 12;
/** How the folders spread over the levels below the topmost one: most of a real tree is in its middle. */
const LEVEL_WEIGHTS = [2, 5, 10, 16, 20, 20, 15, 12] as const;
/** Part of the entries whose content no earlier entry has. */
const NEW_CONTENT = 0.8;
/** Part of the entries that somebody noted something about. */
const WITH_METADATA = 0.05;
const ROWS_A_TRANSACTION = 1_000;
/** Times of the made-up files lie in the five years after this: 2020-01-01, ms since 1970. */
const FIRST_TIME = 1_577_836_800_000;
const FIVE_YEARS_MS = 157_680_000_000;
const NAMES = [
  'report',
  'IMG',
  'holiday',
  'notes',
  'draft',
  'track',
  'scan',
  'backup',
  'Über',
  'résumé',
  '写真',
  'take',
];
const EXTENSIONS = ['jpg', 'pdf', 'txt', 'mp3', 'mov', 'md', 'png', 'docx', 'zip', 'csv'];

export interface SyntheticOptions {
  readonly entries: number;
  readonly seed: number;
  /** Name of the volume that holds the tree. */
  readonly volume: string;
}

export interface SyntheticReport {
  readonly entries: number;
  readonly contents: number;
  readonly metadata: number;
  readonly depth: number;
  readonly seconds: number;
}

/** Number of the level (1 = directly below the topmost folder) of each of `count` folders, ascending. */
function levelsOf(count: number): number[] {
  const sum = LEVEL_WEIGHTS.reduce((left, right) => left + right, 0);
  const levels: number[] = [];
  let weightSoFar = 0;
  LEVEL_WEIGHTS.forEach((weight, index) => {
    weightSoFar += weight;
    // At least one folder a level while there are any, so that a small tree is deep as well.
    const upTo = Math.min(count, Math.max(index + 1, Math.round((count * weightSoFar) / sum)));
    while (levels.length < upTo) levels.push(index + 1);
  });
  return levels;
}

/** True for the entries at which a running share of `part` gains one: spreads `part` of them evenly. */
function isShare(index: number, part: number): boolean {
  return Math.round((index + 1) * part) > Math.round(index * part);
}

/** Fills an empty library with one volume, one location and exactly `entries` entries. */
export function fillSynthetic(db: Database, options: SyntheticOptions): SyntheticReport {
  const started = performance.now();
  const random = randomFrom(options.seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const addContent = db.prepare('INSERT INTO content_identities (content_hash, size) VALUES (?, ?)');
  const addMetadata = db.prepare('INSERT INTO user_metadata (note, favourite, rating) VALUES (?, ?, ?)');
  const addEntry = db.prepare(`
    INSERT INTO entries (location_id, parent_id, content_id, metadata_id, name, extension, kind, size, modified_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`);
  const setSize = db.prepare('UPDATE entries SET size = ? WHERE id = ?');
  const contentIds: number[] = [];
  // Folders in the order in which they were made, parents first, with the bytes that lie in them.
  const folderBytes = new Map<number, { readonly parent: number | null; bytes: number }>();
  let [made, metadata] = [0, 0];

  // Made up once, thrown away soon: nobody waits for the disk here.
  db.pragma('synchronous = OFF');
  db.exec('BEGIN IMMEDIATE');
  const volume = db
    .prepare('INSERT INTO volumes (name, capacity, added_at) VALUES (?, ?, ?)')
    .run(options.volume, 4_000_000_000_000, FIRST_TIME).lastInsertRowid;
  const location = db
    .prepare('INSERT INTO locations (volume_id, path, indexed_at) VALUES (?, ?, ?)')
    .run(volume, `/synthetic/${options.seed}`, FIRST_TIME).lastInsertRowid;

  const addOne = (parent: number | null, kind: 'file' | 'folder', label: string): number => {
    const index = made;
    made += 1;
    const size = kind === 'file' ? Math.floor(1_000 * 2 ** (random() * 16)) : 0;
    if (isShare(index, NEW_CONTENT) || contentIds.length === 0) {
      const contentHash = hash('sha256', `${options.seed}/${index}`, 'hex').slice(0, 32);
      contentIds.push(Number(addContent.run(contentHash, size).lastInsertRowid));
    }
    const content = isShare(index, NEW_CONTENT) ? contentIds.at(-1) : pick(contentIds);
    let metadataId: number | null = null;
    if (isShare(index, WITH_METADATA)) {
      metadata += 1;
      const note = random() < 0.5 ? `Note ${metadata}: ${pick(NAMES)}` : null;
      metadataId = Number(addMetadata.run(note, random() < 0.3 ? 1 : 0, 1 + Math.floor(random() * 5)).lastInsertRowid);
    }
    const time = FIRST_TIME + Math.floor(random() * FIVE_YEARS_MS);
    const extension = kind === 'file' ? extensionOf(label) : '';
    const added = addEntry.run(location, parent, content, metadataId, label, extension, kind, size, time);
    if (made % ROWS_A_TRANSACTION === 0) db.exec('COMMIT; BEGIN IMMEDIATE;');
    const id = Number(added.lastInsertRowid);
    if (kind === 'folder') folderBytes.set(id, { parent, bytes: 0 });
    else if (parent !== null) (folderBytes.get(parent) as { bytes: number }).bytes += size;
    return id;
  };

  const folders = Math.max(1, Math.round(options.entries / (FILES_A_FOLDER + 1)));
  const levels = levelsOf(folders - 1);
  // Folders of the level above, and of the level that is being made.
  let [upper, current, level]: [number[], number[], number] = [[], [], 0];
  const addFolder = (parent: number | null, label: string, left: number): number => {
    const id = addOne(parent, 'folder', label);
    // The last folder takes what is left; the others keep enough entries for the folders still to come.
    const wanted = left === 0 ? options.entries : Math.floor(random() * (2 * FILES_A_FOLDER + 1));
    const files = Math.min(wanted, options.entries - made - left);
    for (let file = 0; file < files; file += 1) addOne(id, 'file', `${pick(NAMES)} ${made}.${pick(EXTENSIONS)}`);
    return id;
  };
  current.push(addFolder(null, 'synthetic', folders - 1));
  levels.forEach((next, index) => {
    if (next !== level) [upper, current, level] = [current, [], next];
    current.push(addFolder(pick(upper), `${pick(NAMES)} ${index}`, levels.length - index - 1));
  });
  // As the indexer does: a folder gets its size when everything in it is there, so its row is newer than theirs.
  for (const [id, { parent, bytes }] of [...folderBytes].toReversed()) {
    setSize.run(bytes, id);
    const above = parent === null ? undefined : folderBytes.get(parent);
    if (above !== undefined) above.bytes += bytes;
  }
  db.exec('COMMIT');
  const seconds = (performance.now() - started) / 1_000;
  return { entries: made, contents: contentIds.length, metadata, depth: level + 1, seconds };
}

function main(): void {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      entries: { type: 'string', default: '182530' },
      seed: { type: 'string', default: '1' },
      volume: { type: 'string', default: 'synthetic' },
      json: { type: 'boolean' },
    },
  });
  const [library] = positionals;
  const [entries, seed] = [Number(values.entries), Number(values.seed)];
  if (library === undefined || !Number.isInteger(entries) || entries < 1 || !Number.isInteger(seed)) {
    throw new Error('Use: synthetic.ts <library> [--entries K] [--seed S] [--volume name] [--json]');
  }
  const db = openLibrary(library);
  const report = fillSynthetic(db, { entries, seed, volume: values.volume });
  db.close();
  if (values.json === true) console.log(JSON.stringify(report));
  else console.log(`${report.entries} entries, ${report.depth} folders deep, ${report.seconds.toFixed(1)} s`);
}

if (import.meta.main) {
  try {
    main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
