/**
 * A note taker: text keys that SQLite makes by a DEFAULT expression, a tree of notebooks, tags without regard to case, a full
 * text index over the notes that triggers keep, attachments, settings that stay on the device, columns named like keywords.
 */
import { inserts, rows } from '../../support/chance.ts';
import type { WildSchema } from './schema.ts';

export const noteTaker: WildSchema = {
  name: 'a note taker',
  ddl: `
    CREATE TABLE folders (
      id TEXT PRIMARY KEY NOT NULL DEFAULT (lower(hex(randomblob(16)))), title TEXT NOT NULL DEFAULT '',
      parent_id TEXT REFERENCES folders (id) ON DELETE CASCADE, icon TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE notes (
      id TEXT PRIMARY KEY NOT NULL DEFAULT (lower(hex(randomblob(16)))),
      folder_id TEXT NOT NULL REFERENCES folders (id) ON DELETE CASCADE, title TEXT NOT NULL DEFAULT '', body TEXT NOT NULL DEFAULT '',
      is_todo INT NOT NULL DEFAULT 0 CHECK (is_todo IN (0, 1)), todo_due INT, latitude NUMERIC NOT NULL DEFAULT 0,
      "order" NUMERIC NOT NULL DEFAULT 0, "group" TEXT, "index" INT, user_updated_time INT NOT NULL DEFAULT 0
    );
    CREATE INDEX notes_by_folder ON notes (folder_id, "order");
    CREATE INDEX notes_due ON notes (todo_due) WHERE is_todo = 1;
    CREATE TABLE tags (id TEXT PRIMARY KEY, title TEXT NOT NULL COLLATE NOCASE UNIQUE);
    CREATE TABLE note_tags (
      id INTEGER PRIMARY KEY, note_id TEXT NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
      tag_id TEXT NOT NULL REFERENCES tags (id) ON DELETE CASCADE, UNIQUE (note_id, tag_id)
    );
    CREATE TABLE resources (id TEXT PRIMARY KEY, mime TEXT NOT NULL, filename TEXT NOT NULL DEFAULT '', size INT NOT NULL DEFAULT -1, content BLOB);
    CREATE TABLE note_resources (
      note_id TEXT NOT NULL REFERENCES notes (id) ON DELETE CASCADE, resource_id TEXT NOT NULL REFERENCES resources (id) ON DELETE RESTRICT,
      is_associated INT NOT NULL, last_seen_time INT NOT NULL, PRIMARY KEY (note_id, resource_id)
    );
    CREATE TABLE revisions (
      id TEXT PRIMARY KEY, parent_id TEXT REFERENCES revisions (id) ON DELETE SET NULL,
      note_id TEXT NOT NULL REFERENCES notes (id) ON DELETE CASCADE, body_diff TEXT NOT NULL
    );
    CREATE TABLE settings ("key" TEXT PRIMARY KEY, value TEXT);
    CREATE VIRTUAL TABLE notes_fts USING fts5 (title, body, content = 'notes', content_rowid = 'rowid');
    CREATE TRIGGER notes_fts_insert AFTER INSERT ON notes BEGIN
      INSERT INTO notes_fts (rowid, title, body) VALUES (new.rowid, new.title, new.body);
    END;
    CREATE TRIGGER notes_fts_delete AFTER DELETE ON notes BEGIN
      INSERT INTO notes_fts (notes_fts, rowid, title, body) VALUES ('delete', old.rowid, old.title, old.body);
    END;
    CREATE TRIGGER notes_fts_update AFTER UPDATE ON notes BEGIN
      INSERT INTO notes_fts (notes_fts, rowid, title, body) VALUES ('delete', old.rowid, old.title, old.body);
      INSERT INTO notes_fts (rowid, title, body) VALUES (new.rowid, new.title, new.body);
    END;
    CREATE VIEW tags_with_counts AS
      SELECT tags.title AS title, count(note_tags.id) AS note_count FROM tags LEFT JOIN note_tags ON note_tags.tag_id = tags.id GROUP BY tags.id;`,
  config: {
    tables: {
      settings: { sync: false },
      note_tags: { identity: ['note_id', 'tag_id'] },
      notes: { localColumns: ['index'] },
    },
  },

  fill(chance, who) {
    const id = (kind: string, n: number): string => `${kind}${who}${String(n).padStart(4, '0')}`;
    return [
      rows('folders', 6, (n) => ({
        id: id('f', n),
        title: chance.title(),
        parent_id: n < 3 ? null : id('f', chance.between(1, n - 1)),
      })),
      rows('notes', 30, (n) => ({
        id: id('n', n),
        folder_id: id('f', chance.between(1, 6)),
        title: chance.title(3),
        body: Array.from({ length: chance.between(0, 5) }, () => chance.title(8)).join('\n'),
        is_todo: chance.happens(0.3) ? 1 : 0,
        todo_due: chance.happens(0.5) ? null : chance.between(1, 1e6),
        order: chance.between(0, 100) / 8,
        group: chance.pick([null, 'a', 'b']),
        index: n,
      })),
      rows('tags', 6, (n) => ({ id: id('t', n), title: `${chance.word()} ${who}${n}` })),
      inserts(
        'note_tags',
        chance.pairs(30, 30, 6).map(([note, tag]) => ({ note_id: id('n', note), tag_id: id('t', tag) })),
      ),
      rows('resources', 5, (n) => ({
        id: id('r', n),
        mime: 'image/png',
        filename: `${n}.png`,
        size: 30,
        content: chance.blob(30),
      })),
      inserts(
        'note_resources',
        chance.pairs(8, 30, 5).map(([note, resource]) => ({
          note_id: id('n', note),
          resource_id: id('r', resource),
          is_associated: 1,
          last_seen_time: chance.below(1e9),
        })),
      ),
      rows('revisions', 12, (n) => ({
        id: id('v', n),
        parent_id: n < 4 ? null : id('v', chance.between(1, n - 1)),
        note_id: id('n', chance.between(1, 30)),
        body_diff: JSON.stringify([{ add: chance.word() }]),
      })),
      rows('settings', 3, (n) => ({ key: `setting ${n}`, value: who })),
    ].join('');
  },

  scripts: [
    {
      does: 'writes a note, of which SQLite makes the key',
      run: (hand) =>
        hand.run(
          'INSERT INTO notes (folder_id, title, body, "order") VALUES (?, ?, ?, ?)',
          hand.one('SELECT id FROM folders'),
          hand.fresh(),
          `${hand.fresh()}\nsome rare word`,
          hand.chance.below(100),
        ),
    },
    {
      does: 'goes on with a note',
      run: (hand) =>
        hand.run(
          "UPDATE notes SET body = body || ' ' || ?, user_updated_time = user_updated_time + 1 WHERE id = ?",
          hand.fresh(),
          hand.one('SELECT id FROM notes'),
        ),
    },
    {
      does: 'moves a note into another notebook',
      run: (hand) =>
        hand.run(
          'UPDATE notes SET folder_id = ?, "group" = ? WHERE id = ?',
          hand.one('SELECT id FROM folders'),
          hand.fresh(),
          hand.one('SELECT id FROM notes'),
        ),
    },
    {
      does: 'tags a note with a tag that is there',
      run: (hand) =>
        hand.run(
          'INSERT OR IGNORE INTO note_tags (note_id, tag_id) VALUES (?, ?)',
          hand.one('SELECT id FROM notes'),
          hand.one('SELECT id FROM tags'),
        ),
    },
    {
      does: 'takes the tags of a note away',
      run: (hand) => hand.run('DELETE FROM note_tags WHERE note_id = ?', hand.one('SELECT note_id FROM note_tags')),
    },
    {
      does: 'deletes a note with all that hangs on it',
      run: (hand) => hand.run('DELETE FROM notes WHERE id = ?', hand.one('SELECT id FROM notes')),
    },
    {
      does: 'deletes a notebook with the notebooks in it',
      run: (hand) =>
        hand.run('DELETE FROM folders WHERE id = ?', hand.one('SELECT id FROM folders WHERE parent_id IS NOT NULL')),
    },
    {
      does: 'keeps a revision of a note',
      run: (hand) =>
        hand.run(
          'INSERT INTO revisions (id, parent_id, note_id, body_diff) VALUES (?, ?, ?, ?)',
          hand.fresh(),
          hand.one('SELECT id FROM revisions'),
          hand.one('SELECT id FROM notes'),
          '[]',
        ),
    },
    {
      does: 'sorts the notes anew, for itself and for all',
      run(hand) {
        hand.run('UPDATE notes SET "index" = ? - rowid', hand.chance.below(1000));
        hand.run('UPDATE notes SET "order" = ? WHERE id = ?', hand.chance.number(), hand.one('SELECT id FROM notes'));
        hand.run('UPDATE settings SET value = ? WHERE "key" = \'setting 1\'', hand.fresh());
      },
    },
    {
      does: 'makes a tag that somebody else may make, in another spelling',
      hard: true,
      run: (hand) =>
        hand.run(
          'INSERT OR IGNORE INTO tags (id, title) VALUES (?, ?)',
          hand.fresh(),
          hand.chance.pick(['Recipes', 'recipes', 'travel']),
        ),
    },
    {
      does: 'throws an attachment away that no note here shows',
      hard: true,
      run: (hand) =>
        hand.run(
          'DELETE FROM resources WHERE id = ?',
          hand.one('SELECT id FROM resources WHERE id NOT IN (SELECT resource_id FROM note_resources)'),
        ),
    },
    {
      does: 'attaches something to a note',
      hard: true,
      run: (hand) =>
        hand.run(
          'INSERT OR IGNORE INTO note_resources (note_id, resource_id, is_associated, last_seen_time) VALUES (?, ?, 1, 0)',
          hand.one('SELECT id FROM notes'),
          hand.one('SELECT id FROM resources'),
        ),
    },
    {
      does: 'moves a notebook into another one',
      hard: true,
      run: (hand) =>
        hand.run(
          'UPDATE folders SET parent_id = ? WHERE id = ? AND id <> ?1',
          hand.one('SELECT id FROM folders'),
          hand.one('SELECT id FROM folders'),
        ),
    },
  ],
  shows: {
    'what a search finds': `SELECT n.id, n.title FROM notes_fts f JOIN notes n ON n.rowid = f.rowid WHERE notes_fts MATCH 'rare' ORDER BY 1`,
    'tags and their notes': 'SELECT title, note_count FROM tags_with_counts ORDER BY 1',
  },
  strays: {},
  checks: ["INSERT INTO notes_fts (notes_fts, rank) VALUES ('integrity-check', 1)"],
  collisions: 'may wait',
};
