/**
 * A browser's history: times in microseconds beyond 2^53, counts kept in the row by triggers, a tree of bookmarks named by
 * guids, icons many-to-many, partial and expression indexes, visits that lead to each other.
 */
import { inserts, rows } from '../../support/chance.ts';
import type { Chance } from '../../support/chance.ts';
import type { WildSchema } from './schema.ts';

/** Microseconds since 1601: larger than any number that JavaScript keeps exact. */
const time = (chance: Chance): bigint => 13_300_000_000_000_001n + BigInt(chance.below(2 ** 31)) * 1_003n;

export const browserHistory: WildSchema = {
  name: "a browser's history",
  ddl: `
    CREATE TABLE origins (id INTEGER PRIMARY KEY, prefix TEXT NOT NULL, host TEXT NOT NULL, frecency INTEGER NOT NULL DEFAULT -1,
      UNIQUE (prefix, host));
    CREATE TABLE urls (
      id INTEGER PRIMARY KEY AUTOINCREMENT, url LONGVARCHAR NOT NULL, title LONGVARCHAR, visit_count INTEGER DEFAULT 0 NOT NULL,
      last_visit_time INTEGER NOT NULL, hidden INTEGER DEFAULT 0 NOT NULL, origin_id INTEGER REFERENCES origins (id) ON DELETE CASCADE,
      url_length INTEGER GENERATED ALWAYS AS (length(url)) VIRTUAL
    );
    CREATE UNIQUE INDEX urls_url_index ON urls (url);
    CREATE INDEX urls_shown ON urls (last_visit_time) WHERE hidden = 0;
    CREATE INDEX urls_host ON urls (lower(substr(url, 9, 20)));
    CREATE TABLE visits (
      id INTEGER PRIMARY KEY AUTOINCREMENT, url INTEGER NOT NULL REFERENCES urls (id) ON DELETE CASCADE, visit_time INTEGER NOT NULL,
      from_visit INTEGER REFERENCES visits (id) ON DELETE SET NULL, transition INTEGER DEFAULT 0 NOT NULL, visit_duration REAL
    );
    CREATE INDEX visits_url_index ON visits (url);
    CREATE INDEX visits_from_index ON visits (from_visit);
    CREATE TABLE bookmarks (
      id INTEGER PRIMARY KEY, type INTEGER NOT NULL, fk INTEGER REFERENCES urls (id) ON DELETE SET NULL,
      parent INTEGER REFERENCES bookmarks (id) ON DELETE CASCADE, position INTEGER, title LONGVARCHAR, dateAdded INTEGER, guid TEXT NOT NULL
    );
    CREATE UNIQUE INDEX bookmarks_guid ON bookmarks (guid);
    CREATE INDEX bookmarks_parent ON bookmarks (parent, position);
    CREATE TABLE keywords (id INTEGER PRIMARY KEY, keyword TEXT UNIQUE COLLATE NOCASE, url INTEGER REFERENCES urls (id) ON DELETE CASCADE);
    CREATE TABLE icons (id INTEGER PRIMARY KEY, icon_url TEXT NOT NULL UNIQUE, width INTEGER NOT NULL DEFAULT 0, data BLOB);
    CREATE TABLE icons_to_urls (
      url_id INTEGER NOT NULL REFERENCES urls (id) ON DELETE CASCADE, icon_id INTEGER NOT NULL REFERENCES icons (id) ON DELETE CASCADE,
      expire_ms INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (url_id, icon_id)
    );
    CREATE TABLE annotations (
      url_id INTEGER NOT NULL REFERENCES urls (id) ON DELETE CASCADE, name TEXT NOT NULL, content, flags INTEGER,
      PRIMARY KEY (url_id, name)
    );
    CREATE TABLE typed_input (input TEXT PRIMARY KEY, use_count REAL);
    CREATE TRIGGER visits_count_insert AFTER INSERT ON visits BEGIN
      UPDATE urls SET visit_count = visit_count + 1, last_visit_time = max(last_visit_time, NEW.visit_time) WHERE id = NEW.url;
    END;
    CREATE TRIGGER visits_count_delete AFTER DELETE ON visits BEGIN
      UPDATE urls SET visit_count = visit_count - 1 WHERE id = OLD.url;
    END;`,
  config: {
    tables: {
      origins: { identity: ['prefix', 'host'] },
      urls: { identity: 'url' },
      bookmarks: { identity: 'guid' },
      icons: { identity: 'icon_url' },
      keywords: { identity: 'keyword' },
      typed_input: { sync: false },
    },
  },

  fill: (chance, who) =>
    [
      rows('origins', 5, (n) => ({
        id: n,
        prefix: 'https://',
        host: n < 3 ? `shared${n}.example` : `${chance.word()}-${who}.example`,
      })),
      rows('urls', 25, (n) => ({
        id: n,
        url: n < 5 ? `https://shared1.example/${n}` : `https://${chance.word()}.example/${who}/${n}?q=${chance.hex(3)}`,
        title: chance.happens(0.2) ? null : chance.title(5),
        last_visit_time: time(chance),
        hidden: chance.happens(0.2) ? 1 : 0,
        origin_id: chance.happens(0.1) ? null : chance.between(1, 5),
      })),
      rows('visits', 50, (n) => ({
        id: n,
        url: chance.between(1, 25),
        visit_time: time(chance),
        from_visit: n === 1 || chance.happens(0.4) ? null : chance.between(1, n - 1),
        transition: chance.pick([0, 1, 805_306_368]),
        visit_duration: chance.pick([null, 0, 1.5, 1e-7]),
      })),
      rows('bookmarks', 14, (n) => ({
        id: n,
        type: n < 5 ? 2 : 1,
        fk: n < 5 ? null : chance.between(1, 25),
        parent: n === 1 ? null : chance.between(1, Math.min(n - 1, 4)),
        position: n,
        title: chance.title(2),
        dateAdded: time(chance),
        // Every browser has the same roots.
        guid: n === 1 ? 'root________' : `${who}${chance.hex(5)}${n}`,
      })),
      rows('keywords', 3, (n) => ({ id: n, keyword: `${chance.word()}${who}${n}`, url: chance.between(1, 25) })),
      rows('icons', 6, (n) => ({
        id: n,
        icon_url: n < 3 ? `https://shared${n}.example/icon` : `https://x/${who}/${n}.ico`,
        width: chance.pick([16, 32]),
        data: chance.blob(chance.between(10, 90)),
      })),
      inserts(
        'icons_to_urls',
        chance.pairs(22, 25, 6).map(([url_id, icon_id]) => ({ url_id, icon_id, expire_ms: chance.below(9) })),
      ),
      inserts(
        'annotations',
        chance.pairs(12, 25, 3).map(([url_id, n]) => ({
          url_id,
          name: ['charset', 'download/size', 'note'][n - 1],
          content: [chance.word(), chance.below(1e9), chance.blob(5)][n - 1],
          flags: 0,
        })),
      ),
      rows('typed_input', 4, (n) => ({ input: `${who}${n}`, use_count: n / 3 })),
    ].join(''),

  scripts: [
    {
      does: 'visits a page that is known, from another visit',
      run: (hand) =>
        hand.run(
          'INSERT INTO visits (url, visit_time, from_visit) VALUES (?, ?, ?)',
          hand.one('SELECT id FROM urls'),
          time(hand.chance),
          hand.one('SELECT id FROM visits'),
        ),
    },
    {
      does: 'visits a page that others may visit for the first time as well',
      run(hand) {
        const page = `https://shared1.example/new/${hand.chance.below(6)}`;
        hand.run(
          `INSERT INTO urls (url, last_visit_time, title) VALUES (?, ?, ?)
           ON CONFLICT (url) DO UPDATE SET last_visit_time = excluded.last_visit_time, title = excluded.title`,
          page,
          time(hand.chance),
          hand.fresh(),
        );
        hand.run('INSERT INTO visits (url, visit_time) SELECT id, ? FROM urls WHERE url = ?', time(hand.chance), page);
      },
    },
    {
      does: 'forgets a page with all its visits',
      run: (hand) => hand.run('DELETE FROM urls WHERE id = ?', hand.one('SELECT id FROM urls')),
    },
    {
      does: 'forgets the visits of one day',
      run: (hand) => hand.run('DELETE FROM visits WHERE id % 10 = ?', hand.chance.below(10)),
    },
    {
      does: 'files a bookmark into a folder',
      run: (hand) =>
        hand.run(
          'INSERT INTO bookmarks (type, fk, parent, position, title, guid) VALUES (1, ?, ?, 99, ?, ?)',
          hand.one('SELECT id FROM urls'),
          hand.one('SELECT id FROM bookmarks WHERE type = 2'),
          hand.fresh(),
          hand.fresh(),
        ),
    },
    {
      does: 'moves a bookmark to the root folder and makes room for it',
      run(hand) {
        hand.run(
          'UPDATE bookmarks SET position = position + 1 WHERE parent = (SELECT id FROM bookmarks WHERE parent IS NULL)',
        );
        hand.run(
          'UPDATE bookmarks SET parent = (SELECT min(id) FROM bookmarks WHERE parent IS NULL), position = 0 WHERE id = ?',
          hand.one('SELECT id FROM bookmarks WHERE type = 1'),
        );
      },
    },
    {
      does: 'deletes a folder of bookmarks with what is in it',
      run: (hand) =>
        hand.run(
          'DELETE FROM bookmarks WHERE id = ?',
          hand.one('SELECT id FROM bookmarks WHERE type = 2 AND parent IS NOT NULL'),
        ),
    },
    {
      does: 'gets a new icon for a page',
      run: (hand) =>
        hand.run(
          'INSERT OR REPLACE INTO icons_to_urls (url_id, icon_id, expire_ms) VALUES (?, ?, ?)',
          hand.one('SELECT id FROM urls'),
          hand.one('SELECT id FROM icons'),
          hand.chance.below(1e6),
        ),
    },
    {
      does: 'notes something of a page in whatever type',
      run: (hand) =>
        hand.run(
          'REPLACE INTO annotations (url_id, name, content, flags) VALUES (?, ?, ?, 0)',
          hand.one('SELECT id FROM urls'),
          hand.chance.pick(['note', 'charset']),
          hand.chance.pick([hand.fresh(), 5n, 5.5, time(hand.chance), hand.chance.blob(3), null]),
        ),
    },
    {
      does: 'follows a page that has moved: another url for the same row',
      hard: true,
      run: (hand) =>
        hand.run(
          'UPDATE OR REPLACE urls SET url = ? WHERE id = ?',
          `https://moved.example/${hand.chance.below(3)}`,
          hand.one('SELECT id FROM urls'),
        ),
    },
    {
      does: 'gives a keyword to another page, in another spelling',
      hard: true,
      run: (hand) =>
        hand.run(
          'REPLACE INTO keywords (keyword, url) VALUES (?, ?)',
          hand.chance.pick(['wiki', 'Wiki', 'WIKI', 'map']),
          hand.one('SELECT id FROM urls'),
        ),
    },
    {
      does: 'moves a folder of bookmarks into another one',
      hard: true,
      run: (hand) =>
        hand.run(
          'UPDATE bookmarks SET parent = ? WHERE id = ? AND type = 2 AND parent IS NOT NULL AND id <> ?1',
          hand.one('SELECT id FROM bookmarks WHERE type = 2'),
          hand.one('SELECT id FROM bookmarks WHERE type = 2'),
        ),
    },
  ],
  shows: {
    'pages by visits':
      'SELECT u.url, url_length, count(v.id) FROM urls u LEFT JOIN visits v ON v.url = u.id GROUP BY u.id ORDER BY 1',
    'bookmarks by folder': `SELECT p.guid, b.guid, u.url FROM bookmarks b LEFT JOIN bookmarks p ON p.id = b.parent
      LEFT JOIN urls u ON u.id = b.fk ORDER BY 1, 2`,
  },
  strays: {},
  collisions: 'may wait',
};
