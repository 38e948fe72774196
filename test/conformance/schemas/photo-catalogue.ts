/**
 * A photo catalogue: albums by path, a tree of tags, one row of details a photo under the photo's own id, places in an R-tree
 * that triggers keep, generated columns, SET DEFAULT to a label that is named by its code, covers that close a circle.
 */
import { inserts, rows } from '../../support/chance.ts';
import type { WildSchema } from './schema.ts';

export const photoCatalogue: WildSchema = {
  name: 'a photo catalogue',
  ddl: `
    CREATE TABLE AlbumRoots (id INTEGER PRIMARY KEY, label TEXT, identifier TEXT NOT NULL UNIQUE);
    CREATE TABLE Albums (
      id INTEGER PRIMARY KEY, albumRoot INTEGER NOT NULL REFERENCES AlbumRoots (id) ON DELETE CASCADE, relativePath TEXT NOT NULL,
      caption TEXT, icon INTEGER REFERENCES Images (id) ON DELETE SET NULL, UNIQUE (albumRoot, relativePath)
    );
    CREATE TABLE Labels (code TEXT PRIMARY KEY COLLATE NOCASE, color INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE Images (
      id INTEGER PRIMARY KEY AUTOINCREMENT, album INTEGER REFERENCES Albums (id) ON DELETE CASCADE, name TEXT NOT NULL,
      fileSize INTEGER, uniqueHash TEXT, label TEXT NOT NULL DEFAULT 'none' REFERENCES Labels (code) ON DELETE SET DEFAULT ON UPDATE CASCADE,
      rating INTEGER CHECK (rating BETWEEN -1 AND 5), extension TEXT AS (lower(substr(name, -3))) STORED, UNIQUE (album, name)
    );
    CREATE INDEX image_hash ON Images (uniqueHash, fileSize);
    CREATE TABLE ImageInformation (
      imageid INTEGER PRIMARY KEY REFERENCES Images (id) ON DELETE CASCADE, width INTEGER, height INTEGER, creationDate DATETIME,
      aspect REAL GENERATED ALWAYS AS (round(width * 1.0 / height, 4)) VIRTUAL, megapixels GENERATED ALWAYS AS (width * height / 1e6)
    );
    CREATE TABLE ImagePositions (
      imageid INTEGER PRIMARY KEY REFERENCES Images (id) ON DELETE CASCADE, latitude REAL NOT NULL, longitude REAL NOT NULL, altitude REAL
    );
    CREATE TABLE Tags (
      id INTEGER PRIMARY KEY, pid INTEGER REFERENCES Tags (id) ON DELETE CASCADE, name TEXT NOT NULL, icon BLOB, UNIQUE (name, pid)
    );
    CREATE TABLE ImageTags (
      imageid INTEGER NOT NULL REFERENCES Images (id) ON DELETE CASCADE, tagid INTEGER NOT NULL REFERENCES Tags (id) ON DELETE CASCADE,
      PRIMARY KEY (imageid, tagid)
    );
    CREATE TABLE ImageRelations (
      subject INTEGER REFERENCES Images (id) ON DELETE CASCADE, object INTEGER REFERENCES Images (id) ON DELETE CASCADE,
      type INTEGER NOT NULL DEFAULT 1, CHECK (subject <> object), PRIMARY KEY (subject, object)
    );
    CREATE TABLE Thumbnails (imageid INTEGER PRIMARY KEY, modified INTEGER, data BLOB);
    CREATE TABLE TagCounts (tagid INTEGER PRIMARY KEY, images INTEGER NOT NULL);
    CREATE VIRTUAL TABLE Places USING rtree (id, minLat, maxLat, minLon, maxLon);
    CREATE TRIGGER positions_insert AFTER INSERT ON ImagePositions BEGIN
      INSERT INTO Places VALUES (NEW.imageid, NEW.latitude, NEW.latitude, NEW.longitude, NEW.longitude);
    END;
    CREATE TRIGGER positions_update AFTER UPDATE ON ImagePositions BEGIN
      DELETE FROM Places WHERE id = OLD.imageid;
      INSERT INTO Places VALUES (NEW.imageid, NEW.latitude, NEW.latitude, NEW.longitude, NEW.longitude);
    END;
    CREATE TRIGGER positions_delete AFTER DELETE ON ImagePositions BEGIN DELETE FROM Places WHERE id = OLD.imageid; END;
    CREATE TRIGGER tag_counts_insert AFTER INSERT ON ImageTags BEGIN
      INSERT INTO TagCounts (tagid, images) VALUES (NEW.tagid, 1) ON CONFLICT (tagid) DO UPDATE SET images = images + 1;
    END;
    CREATE TRIGGER tag_counts_delete AFTER DELETE ON ImageTags BEGIN UPDATE TagCounts SET images = images - 1 WHERE tagid = OLD.tagid; END;
    CREATE TRIGGER tag_counts_update AFTER UPDATE OF tagid ON ImageTags BEGIN
      UPDATE TagCounts SET images = images - 1 WHERE tagid = OLD.tagid;
      INSERT INTO TagCounts (tagid, images) VALUES (NEW.tagid, 1) ON CONFLICT (tagid) DO UPDATE SET images = images + 1;
    END;
    CREATE VIEW TagPaths AS WITH RECURSIVE path (id, text) AS (
      SELECT id, name FROM Tags WHERE pid IS NULL UNION ALL SELECT t.id, p.text || '/' || t.name FROM Tags t JOIN path p ON p.id = t.pid
    ) SELECT id, text FROM path;`,
  config: {
    tables: {
      AlbumRoots: { identity: 'identifier' },
      Albums: { identity: ['albumRoot', 'relativePath'] },
      Thumbnails: { sync: false },
      TagCounts: { sync: false },
    },
  },

  fill: (chance, who) =>
    [
      rows('AlbumRoots', 2, (n) => ({
        id: n,
        label: chance.title(2),
        identifier: n === 1 ? 'volumeid:shared' : `volumeid:${who}`,
      })),
      rows('Labels', 4, (n) => ({ code: ['none', 'Red', 'green', `of ${who}`][n - 1], color: n * 100 })),
      rows('Albums', 7, (n) => ({
        id: n,
        albumRoot: 1 + (n % 2),
        relativePath: n < 3 ? `/${n}` : `/${chance.word()}/${who}${n}`,
        caption: chance.happens(0.4) ? null : chance.title(),
      })),
      rows('Images', 40, (n) => ({
        id: n,
        album: chance.happens(0.1) ? null : chance.between(1, 7),
        name: `IMG_${who}_${1000 + n}.${chance.pick(['JPG', 'png', 'Raw'])}`,
        fileSize: chance.between(10_000, 9_000_000),
        uniqueHash: chance.hex(8),
        label: chance.pick(['none', 'red', 'GREEN', `of ${who}`]),
        rating: chance.pick([null, -1, 0, 3, 5]),
      })),
      `UPDATE Albums SET icon = (SELECT min(id) FROM Images WHERE album = Albums.id);\n`,
      rows('ImageInformation', 30, (n) => ({
        imageid: n,
        width: chance.between(1, 6000),
        height: chance.between(1, 4000),
        creationDate: chance.date(),
      })),
      rows('ImagePositions', 18, (n) => ({
        imageid: n * 2,
        latitude: chance.number() * 180 - 90,
        longitude: chance.number() * 360 - 180,
        altitude: chance.pick([null, 0, -0.5, 8848.86]),
      })),
      rows('Tags', 12, (n) => ({
        id: n,
        pid: n < 4 ? null : chance.between(1, n - 1),
        name: `${chance.name()} ${who}${n}`,
        icon: null,
      })),
      inserts(
        'ImageTags',
        chance.pairs(50, 40, 12).map(([imageid, tagid]) => ({ imageid, tagid })),
      ),
      inserts(
        'ImageRelations',
        chance.pairs(10, 20, 20).map(([subject, object]) => ({ subject, object: object + 20, type: 1 })),
      ),
      rows('Thumbnails', 10, (n) => ({ imageid: n, modified: n, data: chance.blob(40) })),
    ].join(''),

  scripts: [
    {
      does: 'imports a photo with its details and its place',
      run(hand) {
        hand.run(
          'INSERT INTO Images (album, name, fileSize) VALUES (?, ?, ?)',
          hand.one('SELECT id FROM Albums'),
          `${hand.fresh()}.JPG`,
          hand.chance.between(1, 1e6),
        );
        hand.run('INSERT INTO ImageInformation (imageid, width, height) SELECT max(id), 4000, 3000 FROM Images');
        hand.run(
          'INSERT INTO ImagePositions (imageid, latitude, longitude) SELECT max(id), ?, 7.25 FROM Images',
          hand.chance.number(),
        );
      },
    },
    {
      does: 'tags some photos',
      run: (hand) =>
        hand.run(
          'INSERT OR IGNORE INTO ImageTags (imageid, tagid) SELECT id, ? FROM Images WHERE id % 7 = ?',
          hand.one('SELECT id FROM Tags'),
          hand.chance.below(7),
        ),
    },
    {
      does: 'takes a tag from all photos',
      run: (hand) => hand.run('DELETE FROM ImageTags WHERE tagid = ?', hand.one('SELECT id FROM Tags')),
    },
    {
      does: 'deletes a tag with those below it',
      run: (hand) => hand.run('DELETE FROM Tags WHERE id = ?', hand.one('SELECT id FROM Tags WHERE pid IS NOT NULL')),
    },
    {
      does: 'rates a photo and labels it',
      run: (hand) =>
        hand.run(
          'UPDATE Images SET rating = ?, label = ? WHERE id = ?',
          hand.chance.between(-1, 5),
          hand.one('SELECT code FROM Labels') ?? 'none',
          hand.one('SELECT id FROM Images'),
        ),
    },
    {
      does: 'corrects the place of a photo',
      run: (hand) =>
        hand.run(
          'UPDATE ImagePositions SET latitude = ?, longitude = longitude / 2 WHERE imageid = ?',
          hand.chance.number() * 90,
          hand.one('SELECT imageid FROM ImagePositions'),
        ),
    },
    {
      does: 'deletes an album with its photos',
      run: (hand) => hand.run('DELETE FROM Albums WHERE id = ?', hand.one('SELECT id FROM Albums')),
    },
    {
      does: 'chooses a cover',
      run: (hand) =>
        hand.run(
          'UPDATE Albums SET icon = ?, caption = ? WHERE id = ?',
          hand.one('SELECT id FROM Images'),
          hand.fresh(),
          hand.one('SELECT id FROM Albums'),
        ),
    },
    {
      does: 'makes thumbnails anew',
      run: (hand) =>
        hand.run('REPLACE INTO Thumbnails (imageid, modified) SELECT id, ? FROM Images', hand.chance.below(1e6)),
    },
    {
      does: 'moves a photo into another album, where its name may be taken',
      hard: true,
      run: (hand) =>
        hand.run(
          `UPDATE OR IGNORE Images SET album = ?, name = ? WHERE id = ?`,
          hand.one('SELECT id FROM Albums'),
          `Best ${hand.chance.below(2)}.jpg`,
          hand.one('SELECT id FROM Images'),
        ),
    },
    {
      does: 'drops a label: its photos get the default one',
      hard: true,
      run: (hand) =>
        hand.run("DELETE FROM Labels WHERE code <> 'none' AND code = ?", hand.one('SELECT code FROM Labels')),
    },
    {
      does: 'moves a tag below another one',
      hard: true,
      run: (hand) =>
        hand.run(
          'UPDATE OR IGNORE Tags SET pid = ? WHERE id = ? AND id <> ?1',
          hand.one('SELECT id FROM Tags'),
          hand.one('SELECT id FROM Tags'),
        ),
    },
  ],
  shows: {
    'photos by tag': `SELECT p.text, i.name FROM ImageTags JOIN TagPaths p ON p.id = tagid JOIN Images i ON i.id = imageid ORDER BY 1, 2`,
    'photos by place': `SELECT i.name, round(p.minLat, 2) FROM Places p JOIN Images i ON i.id = p.id ORDER BY 1, 2`,
    details: `SELECT name, extension, aspect, megapixels FROM ImageInformation JOIN Images ON id = imageid ORDER BY 1, 2, 3`,
  },
  strays: {
    'places without a position': 'SELECT id FROM Places WHERE id NOT IN (SELECT imageid FROM ImagePositions)',
    'positions without a place': 'SELECT imageid FROM ImagePositions WHERE imageid NOT IN (SELECT id FROM Places)',
    'tags counted wrongly': `SELECT t.id FROM Tags t LEFT JOIN TagCounts c ON c.tagid = t.id
      WHERE ifnull(c.images, 0) <> (SELECT count(*) FROM ImageTags i WHERE i.tagid = t.id)`,
  },
  collisions: 'may wait',
};
