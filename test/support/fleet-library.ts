/**
 * The library of the random fleets: a tree, nullable and multiple references, many-to-many, a declared identity, an owned and a
 * shared table; and its rows by what names them on all copies.
 */

export const FLEET_DDL = `
CREATE TABLE notes (id INTEGER PRIMARY KEY, born TEXT NOT NULL, payload TEXT NOT NULL, slot TEXT);
CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, payload TEXT NOT NULL);
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, born TEXT NOT NULL, payload TEXT NOT NULL, label TEXT,
  parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE,
  note_id INTEGER REFERENCES notes (id) ON DELETE SET NULL,
  cover_id INTEGER REFERENCES entries (id) ON DELETE SET NULL
);
CREATE TABLE metadata (entry_id INTEGER PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE, payload TEXT NOT NULL);
CREATE TABLE entry_tags (
  entry_id INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
  tag_id INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE,
  payload TEXT NOT NULL, PRIMARY KEY (entry_id, tag_id)
);
CREATE TABLE volumes (id INTEGER PRIMARY KEY, born TEXT NOT NULL, payload TEXT NOT NULL);
CREATE TABLE files (
  id INTEGER PRIMARY KEY, born TEXT NOT NULL, payload TEXT NOT NULL,
  volume_id INTEGER NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
  parent_id INTEGER REFERENCES files (id) ON DELETE CASCADE,
  note_id INTEGER REFERENCES notes (id) ON DELETE SET NULL
);
CREATE INDEX entries_parent ON entries (parent_id);
CREATE INDEX entry_tags_tag ON entry_tags (tag_id);`;

export const FLEET_CONFIG = {
  tables: { tags: { identity: 'name' }, volumes: { ownership: 'device' }, files: { ownership: 'device' } },
};

/**
 * The same with what this release does not settle: values that collide, deletes that are forbidden. Rows may wait there, but
 * the copies must come to rest and be equal, and their constraints must hold.
 */
export const HARD_DDL = `${FLEET_DDL.replace('notes (id) ON DELETE SET NULL,\n  cover', 'notes (id),\n  cover').replace(
  'cover_id INTEGER REFERENCES entries (id) ON DELETE SET NULL',
  'cover_id INTEGER REFERENCES entries (id) ON DELETE RESTRICT',
)}
CREATE UNIQUE INDEX notes_slot ON notes (slot);
CREATE UNIQUE INDEX entries_label ON entries (parent_id, label);`;

/** The same with ownership over up to two steps: files belong to who owns their volume, volumes to who owns the box that they are in. */
export const OWNED_DDL = `CREATE TABLE boxes (id INTEGER PRIMARY KEY, born TEXT NOT NULL, payload TEXT NOT NULL);
${FLEET_DDL.replace(
  'CREATE TABLE volumes (id INTEGER PRIMARY KEY,',
  'CREATE TABLE volumes (id INTEGER PRIMARY KEY, box_id INTEGER REFERENCES boxes (id) ON DELETE SET NULL,',
)}`;

export const OWNED_CONFIG = {
  tables: {
    tags: { identity: 'name' },
    boxes: { ownership: 'device' },
    volumes: { ownedBy: 'box_id' },
    files: { ownedBy: 'volume_id' },
  },
};

/** A row by what names it on all copies, with its content (references by name) and the rows that take it along. */
export const ROWS = [
  `SELECT 'note ' || born, payload, NULL, NULL, ifnull(slot, '') FROM notes`,
  `SELECT 'tag ' || name, payload, NULL, NULL, '' FROM tags`,
  `SELECT 'entry ' || e.born, e.payload, 'entry ' || p.born, NULL, ifnull(n.born, '-') || ' ' || ifnull(c.born, '-') || ifnull(e.label, '')
   FROM entries e LEFT JOIN entries p ON p.id = e.parent_id LEFT JOIN notes n ON n.id = e.note_id
   LEFT JOIN entries c ON c.id = e.cover_id`,
  `SELECT 'metadata ' || e.born, m.payload, 'entry ' || e.born, NULL, '' FROM metadata m JOIN entries e ON e.id = m.entry_id`,
  `SELECT 'tagging ' || e.born || ' ' || g.name, t.payload, 'entry ' || e.born, 'tag ' || g.name, ''
   FROM entry_tags t JOIN entries e ON e.id = t.entry_id JOIN tags g ON g.id = t.tag_id`,
  `SELECT 'volume ' || born, payload, NULL, NULL, '' FROM volumes`,
  `SELECT 'file ' || f.born, f.payload, 'volume ' || v.born, 'file ' || p.born, ifnull(n.born, '-')
   FROM files f JOIN volumes v ON v.id = f.volume_id LEFT JOIN files p ON p.id = f.parent_id LEFT JOIN notes n ON n.id = f.note_id`,
].join(' UNION ALL ');

export const OWNED_ROWS = `${ROWS} UNION ALL SELECT 'box ' || born, payload, NULL, NULL, '' FROM boxes`;

export interface Row {
  readonly payload: string;
  /** Rows whose death takes this one along. */
  readonly owners: readonly string[];
  /** References that may become NULL. */
  readonly rest: string;
  readonly content: string;
}

export type Rows = Map<string, Row>;

/** Whatever answers queries of one copy. */
export interface Queried {
  rows(sql: string): unknown[][];
}

export function rowsOf(replica: Queried, query: string): Rows {
  const rows: Rows = new Map();
  for (const [name, payload, first, second, rest] of replica.rows(query)) {
    const owners = [first, second].filter((owner) => owner !== null).map(String);
    rows.set(String(name), {
      payload: String(payload),
      owners,
      rest: String(rest),
      content: [payload, ...owners, rest].join(' '),
    });
  }
  return rows;
}
