-- A file library: what is on whose disk, what it contains, and what people say about it.
--
-- Plain SQLite with integer ids: nothing in here knows of Flotilla. A device owns its volumes, their locations and the
-- entries in them, since it alone sees that disk; content identities, metadata and tags belong to everybody.

-- A disk, or a part of one, that is attached to a device.
CREATE TABLE volumes (
  id       INTEGER PRIMARY KEY,
  name     TEXT    NOT NULL,
  -- Bytes; NULL if it could not be found out.
  capacity INTEGER,
  -- Milliseconds since 1970, like every time in this library.
  added_at INTEGER NOT NULL
);

-- A folder of a volume that somebody asked to have indexed.
CREATE TABLE locations (
  id         INTEGER PRIMARY KEY,
  volume_id  INTEGER NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
  path       TEXT    NOT NULL,
  indexed_at INTEGER
);
CREATE INDEX locations_volume_id ON locations (volume_id);

-- What a file contains, whatever it is called and wherever it lies: equal files share one row.
CREATE TABLE content_identities (
  id           INTEGER PRIMARY KEY,
  -- Hash over the size and samples of the bytes, hex.
  content_hash TEXT    NOT NULL UNIQUE,
  size         INTEGER NOT NULL
);

-- What a person notes down about an entry.
CREATE TABLE user_metadata (
  id        INTEGER PRIMARY KEY,
  note      TEXT,
  favourite INTEGER NOT NULL DEFAULT 0 CHECK (favourite IN (0, 1)),
  -- Stars, 1 to 5; NULL if there is no opinion.
  rating    INTEGER CHECK (rating BETWEEN 1 AND 5)
);

-- Files and folders, a tree by parent_id. The topmost folder of a location has no parent.
CREATE TABLE entries (
  id          INTEGER PRIMARY KEY,
  location_id INTEGER NOT NULL REFERENCES locations (id) ON DELETE CASCADE,
  parent_id   INTEGER REFERENCES entries (id) ON DELETE CASCADE,
  content_id  INTEGER REFERENCES content_identities (id) ON DELETE SET NULL,
  metadata_id INTEGER REFERENCES user_metadata (id) ON DELETE SET NULL,
  name        TEXT    NOT NULL,
  -- Without the dot, lower case; '' if there is none.
  extension   TEXT    NOT NULL DEFAULT '',
  kind        TEXT    NOT NULL CHECK (kind IN ('file', 'folder', 'link')),
  -- Bytes; of a folder, of everything in it.
  size        INTEGER NOT NULL DEFAULT 0,
  modified_at INTEGER NOT NULL
);
CREATE INDEX entries_location_id ON entries (location_id);
CREATE INDEX entries_parent_id ON entries (parent_id);
CREATE INDEX entries_content_id ON entries (content_id);
CREATE INDEX entries_metadata_id ON entries (metadata_id);

CREATE TABLE tags (
  id    INTEGER PRIMARY KEY,
  name  TEXT NOT NULL UNIQUE,
  color TEXT NOT NULL DEFAULT 'grey'
);

-- Which entry carries which tag. Two people who tag one entry alike have made one row.
CREATE TABLE entry_tags (
  entry_id  INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
  tag_id    INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE,
  tagged_at INTEGER NOT NULL,
  PRIMARY KEY (entry_id, tag_id)
);
CREATE INDEX entry_tags_tag_id ON entry_tags (tag_id);
