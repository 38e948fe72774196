/**
 * A program that works with a file library while a node syncs it: inserts, renames, moves, tags, notes and deletes, by
 * plain SQL from a process of its own. It changes entries of its own volume only, and tags and rates anybody's.
 *
 *   node examples/file-library/writer.ts <library> <volume> [--round 1] [--json]
 */
import { hash } from 'node:crypto';
import { parseArgs } from 'node:util';
import type { Database } from 'better-sqlite3';
import { openLibrary, randomFrom } from './library.ts';

/** How many rows each kind of change touches. */
const FILES_INSERTED = 10;
const FILES_RENAMED = 5;
const FILES_MOVED = 5;
const FILES_TAGGED = 5;
const FILES_NOTED = 3;
/** A folder with more in it than this is not deleted: the show should go on. */
const MOST_DELETED = 200;
/** A tag that everybody makes for himself, and that must become one row. */
const COMMON_TAG = 'demo';

export interface WriterReport {
  readonly inserted: number;
  readonly renamed: number;
  readonly moved: number;
  /** Tags put on entries of the own volume and of others. */
  readonly tagged: number;
  /** Notes made, and notes of anybody that got another rating. */
  readonly noted: number;
  /** Entries that went with the deleted folder, itself included. */
  readonly deleted: number;
}

/** One round of changes. The same round on the same library does the same. */
export function writeRound(db: Database, volume: string, round: number): WriterReport {
  const random = randomFrom(Number.parseInt(hash('sha256', `${volume}/${round}`, 'hex').slice(0, 8), 16));
  const root = db
    .prepare(
      `SELECT e.id AS id, e.location_id AS location
      FROM entries e
      JOIN locations l ON l.id = e.location_id
      JOIN volumes v ON v.id = l.volume_id
      WHERE v.name = ? AND e.parent_id IS NULL
      ORDER BY e.id
      LIMIT 1`,
    )
    .get(volume) as { id: number; location: number } | undefined;
  if (root === undefined) throw new Error(`The volume "${volume}" has no indexed location in this library.`);
  const { location } = root;

  const ownFiles = db.prepare("SELECT id FROM entries WHERE location_id = ? AND kind = 'file' ORDER BY id").pluck();
  const otherFiles = db.prepare("SELECT id FROM entries WHERE location_id <> ? AND kind = 'file' ORDER BY id").pluck();
  const sample = (ids: unknown[], count: number): number[] => {
    const left = ids as number[];
    const taken: number[] = [];
    while (taken.length < count && left.length > 0) {
      const index = Math.floor(random() * left.length);
      taken.push(left[index] as number);
      left[index] = left.at(-1) as number;
      left.pop();
    }
    return taken;
  };
  const inTransaction = <T>(work: () => T): T => db.transaction(work).immediate();

  const folder = inTransaction(() => {
    const added = db
      .prepare("INSERT INTO entries (location_id, parent_id, name, kind, modified_at) VALUES (?, ?, ?, 'folder', ?)")
      .run(location, root.id, `Round ${round} of ${volume}`, Date.now()).lastInsertRowid;
    const addContent = db.prepare('INSERT INTO content_identities (content_hash, size) VALUES (?, ?)');
    const addFile = db.prepare(`
      INSERT INTO entries (location_id, parent_id, content_id, name, extension, kind, size, modified_at)
      VALUES (?, ?, ?, ?, 'txt', 'file', ?, ?)`);
    for (let file = 0; file < FILES_INSERTED; file += 1) {
      const size = Math.floor(random() * 10_000);
      const content = addContent.run(hash('sha256', `${volume}/${round}/${file}`, 'hex').slice(0, 32), size);
      addFile.run(location, added, content.lastInsertRowid, `new ${file}.txt`, size, Date.now());
    }
    return added;
  });

  const renamed = inTransaction(() => {
    const ids = sample(ownFiles.all(location), FILES_RENAMED);
    const rename = db.prepare('UPDATE entries SET name = ? || name WHERE id = ?');
    for (const id of ids) rename.run(`renamed in round ${round} `, id);
    return ids.length;
  });

  const moved = inTransaction(() => {
    const ids = sample(ownFiles.all(location), FILES_MOVED);
    const move = db.prepare('UPDATE entries SET parent_id = ? WHERE id = ?');
    for (const id of ids) move.run(folder, id);
    return ids.length;
  });

  const tagged = inTransaction(() => {
    const addTag = db.prepare('INSERT INTO tags (name, color) VALUES (?, ?) ON CONFLICT (name) DO NOTHING');
    addTag.run(COMMON_TAG, 'blue');
    addTag.run(`from ${volume}`, 'green');
    const tags = db.prepare('SELECT id FROM tags WHERE name IN (?, ?)').pluck().all(COMMON_TAG, `from ${volume}`);
    const tag = db.prepare(
      'INSERT INTO entry_tags (entry_id, tag_id, tagged_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
    );
    const ids = [...sample(ownFiles.all(location), FILES_TAGGED), ...sample(otherFiles.all(location), FILES_TAGGED)];
    let changes = 0;
    for (const id of ids) for (const tagId of tags) changes += tag.run(id, tagId, Date.now()).changes;
    return changes;
  });

  const noted = inTransaction(() => {
    const rate = db.prepare('UPDATE user_metadata SET rating = ?, note = ? WHERE id = ?');
    const old = sample(db.prepare('SELECT id FROM user_metadata ORDER BY id').pluck().all(), FILES_NOTED);
    for (const id of old) rate.run(1 + Math.floor(random() * 5), `rated by ${volume} in round ${round}`, id);
    const add = db.prepare('INSERT INTO user_metadata (note, favourite, rating) VALUES (?, ?, ?)');
    const attach = db.prepare('UPDATE entries SET metadata_id = ? WHERE id = ?');
    const ids = sample(ownFiles.all(location), FILES_NOTED);
    for (const id of ids) attach.run(add.run(`noted by ${volume}`, 1, null).lastInsertRowid, id);
    return old.length + ids.length;
  });

  const deleted = inTransaction(() => {
    const before = db.prepare('SELECT count(*) FROM entries WHERE location_id = ?').pluck();
    const victims = db
      .prepare(
        `SELECT f.id
        FROM entries f
        JOIN entries c ON c.parent_id = f.id
        WHERE f.location_id = ? AND f.id NOT IN (?, ?)
        GROUP BY f.id
        HAVING count(*) <= ? AND max(c.kind = 'folder') = 0
        ORDER BY count(*) DESC, f.id
        LIMIT 1`,
      )
      .pluck()
      .all(location, root.id, folder, MOST_DELETED);
    const count = before.get(location) as number;
    for (const id of victims) db.prepare('DELETE FROM entries WHERE id = ?').run(id);
    return count - (before.get(location) as number);
  });
  return { inserted: FILES_INSERTED + 1, renamed, moved, tagged, noted, deleted };
}

function main(): void {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { round: { type: 'string', default: '1' }, json: { type: 'boolean' } },
  });
  const [library, volume] = positionals;
  const round = Number(values.round);
  if (library === undefined || volume === undefined || !Number.isInteger(round)) {
    throw new Error('Use: writer.ts <library> <volume> [--round 1] [--json]');
  }
  const db = openLibrary(library);
  const report = writeRound(db, volume, round);
  db.close();
  const words = Object.entries(report).map(([what, count]) => `${count} ${what}`);
  console.log(values.json === true ? JSON.stringify(report) : words.join(', '));
}

if (import.meta.main) {
  try {
    main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
