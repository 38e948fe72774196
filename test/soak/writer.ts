/**
 * A program that writes to a library while a soak runs: `writer.ts LIBRARY NAME SEED MS`. After each commit it prints what it has done, and before a
 * commit what it is about to delete, one line each: so whoever ends it by SIGKILL knows what must be there and what may be gone.
 *
 * - `+ TOKEN`: a note is committed.
 * - `- TOKEN`: a note is about to be deleted; `= TOKEN`: that is committed.
 * - `done OPERATIONS`: the last line.
 */
import { writeSync } from 'node:fs';
import Sqlite from 'better-sqlite3';

import { Chance } from '../support/chance.ts';

/** ms to wait for another writer, or for the node. */
const BUSY_MS = 30_000;
/** Rows of a bulk insert. */
const BULK = 2_000;
const TAGS = 12;

const [library = '', name = '', seed = '1', ms = '1000'] = process.argv.slice(2);
const chance = new Chance(Number(seed));
const db = new Sqlite(library, { timeout: BUSY_MS });
db.pragma('foreign_keys = ON');
db.pragma('synchronous = NORMAL');

let made = 0;
let operations = 0;
const token = (kind: string): string => `${kind}-${name}-${seed}-${(made += 1)}`;
const say = (mark: string, tokens: readonly string[]): void => {
  if (tokens.length > 0) writeSync(1, tokens.map((one) => `${mark} ${one}\n`).join(''));
};
const any = (table: string): number | undefined =>
  db
    .prepare(`SELECT id FROM ${table} WHERE id >= abs(random() % max(1, (SELECT max(id) FROM ${table}))) LIMIT 1`)
    .pluck()
    .get() as number | undefined;

/** Tokens that are inserted and deleted by the transaction at hand. */
let inserted: string[] = [];
let deleted: string[] = [];

function insertNote(folder: number | undefined, kind: string): void {
  if (folder === undefined) return;
  const one = token(kind);
  db.prepare('INSERT INTO notes (folder, token, body) VALUES (?, ?, ?)').run(
    folder,
    one,
    'x'.repeat(chance.below(400)),
  );
  inserted.push(one);
}

/** A folder that is deleted some day, with all that anybody has put into it: nobody counts on its notes. */
function makeDoomed(): void {
  const made = db.prepare('INSERT INTO folders (parent, name) VALUES (NULL, ?)').run(token('doomed'));
  for (let n = chance.below(6); n >= 0; n -= 1) insertNote(Number(made.lastInsertRowid), 'doomed');
}

const lasting = (): number | undefined =>
  db.prepare("SELECT id FROM folders WHERE name NOT GLOB 'doomed*' ORDER BY random() LIMIT 1").pluck().get() as
    | number
    | undefined;

const EDITS: readonly (() => void)[] = [
  () => insertNote(lasting(), 'note'),
  () => insertNote(lasting(), 'note'),
  () => db.prepare('UPDATE notes SET body = ?, edits = edits + 1 WHERE id = ?').run(token('body'), any('notes')),
  () => db.prepare('UPDATE notes SET folder = ? WHERE id = ?').run(lasting(), any('notes')),
  () => {
    const found = db.prepare("SELECT id, token FROM notes WHERE id = ? AND token GLOB 'note*'").get(any('notes')) as
      | { id: number; token: string }
      | undefined;
    if (found === undefined) return;
    deleted.push(found.token);
    db.prepare('DELETE FROM notes WHERE id = ?').run(found.id);
  },
  () => db.prepare('INSERT INTO folders (parent, name) VALUES (?, ?)').run(lasting() ?? null, token('folder')),
  // Moves that may make a ring, also together with those of others.
  () => db.prepare('UPDATE folders SET parent = ? WHERE id = ?').run(lasting() ?? null, lasting()),
  makeDoomed,
  () => db.prepare("DELETE FROM folders WHERE name GLOB 'doomed*' AND id = ?").run(any('folders')),
  () =>
    db
      .prepare('INSERT INTO tags (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET uses = uses + 1')
      .run(`tag-${chance.below(TAGS)}`),
  () => db.prepare('DELETE FROM tags WHERE name = ?').run(`tag-${chance.below(TAGS)}`),
  () => db.prepare('INSERT OR IGNORE INTO note_tags (note, tag) SELECT ?, id FROM tags').run(any('notes')),
  () => db.prepare('DELETE FROM note_tags WHERE note = ?').run(any('notes')),
];

function transact(edit: () => void): void {
  [inserted, deleted] = [[], []];
  db.exec('BEGIN IMMEDIATE');
  try {
    edit();
  } catch (error) {
    db.exec('ROLLBACK');
    if (!(error instanceof Sqlite.SqliteError) || !error.code.startsWith('SQLITE_CONSTRAINT')) throw error;
    return;
  }
  say('-', deleted);
  db.exec('COMMIT');
  say('+', inserted);
  say('=', deleted);
  operations += 1;
}

const end = performance.now() + Number(ms);
while (performance.now() < end) {
  if (chance.happens(0.005)) {
    const folder = lasting();
    transact(() => {
      for (let n = 0; n < BULK; n += 1) insertNote(folder, 'doomed');
      db.prepare("DELETE FROM notes WHERE token GLOB 'doomed-*' AND id % 3 > 0").run();
    });
  } else {
    transact(() => {
      for (let n = chance.below(8); n >= 0; n -= 1) chance.pick(EDITS)();
    });
  }
  await new Promise((resolve) => setTimeout(resolve, chance.below(40)));
}
db.close();
writeSync(1, `done ${operations}\n`);
