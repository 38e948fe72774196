/**
 * A media server: guids as blobs, a tree of items with its closure in a table of its own, streams and chapters numbered within
 * their item, what each person has watched, STRICT tables, JSON with a CHECK, positions in ticks.
 */
import { inserts, rows } from '../../support/chance.ts';
import type { WildSchema } from './schema.ts';

/** Ids of the top of the tree, the same on every server of a person. */
const ROOT = Uint8Array.from({ length: 16 }, () => 0xff);

export const mediaServer: WildSchema = {
  name: 'a media server',
  ddl: `
    CREATE TABLE BaseItems (
      Id BLOB PRIMARY KEY NOT NULL CHECK (length(Id) = 16), Type TEXT NOT NULL, ParentId BLOB REFERENCES BaseItems (Id) ON DELETE CASCADE,
      Name TEXT, SortName TEXT AS (lower(coalesce(Name, ''))) STORED, Path TEXT, RunTimeTicks INTEGER, CommunityRating REAL,
      Data TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(Data)), ProviderIds ANY
    ) STRICT;
    CREATE INDEX BaseItems_parent ON BaseItems (ParentId, Type);
    CREATE INDEX BaseItems_year ON BaseItems (json_extract(Data, '$.year')) WHERE Type = 'Movie';
    CREATE TABLE AncestorIds (
      ItemId BLOB NOT NULL REFERENCES BaseItems ON DELETE CASCADE, AncestorId BLOB NOT NULL REFERENCES BaseItems ON DELETE CASCADE,
      PRIMARY KEY (ItemId, AncestorId)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE Users (Id INTEGER PRIMARY KEY AUTOINCREMENT, Username TEXT NOT NULL UNIQUE COLLATE NOCASE, LastActivity INTEGER) STRICT;
    CREATE TABLE UserData (
      UserId INTEGER NOT NULL REFERENCES Users (Id) ON DELETE CASCADE, ItemId BLOB NOT NULL REFERENCES BaseItems (Id) ON DELETE CASCADE,
      Played INTEGER NOT NULL DEFAULT 0 CHECK (Played IN (0, 1)), PlayCount INTEGER NOT NULL DEFAULT 0,
      PlaybackPositionTicks INTEGER NOT NULL DEFAULT 0, Rating REAL, PRIMARY KEY (UserId, ItemId)
    ) STRICT;
    CREATE TABLE MediaStreams (
      ItemId BLOB NOT NULL REFERENCES BaseItems (Id) ON DELETE CASCADE, StreamIndex INTEGER NOT NULL, StreamType TEXT NOT NULL,
      Codec TEXT, Language TEXT, BitRate INTEGER, PRIMARY KEY (ItemId, StreamIndex)
    );
    CREATE TABLE Subtitles (
      Id INTEGER PRIMARY KEY, ItemId BLOB NOT NULL, StreamIndex INTEGER NOT NULL, Text TEXT,
      FOREIGN KEY (ItemId, StreamIndex) REFERENCES MediaStreams (ItemId, StreamIndex) ON DELETE CASCADE
    );
    CREATE TABLE Chapters (
      ItemId BLOB NOT NULL REFERENCES BaseItems (Id) ON DELETE CASCADE, ChapterIndex INT NOT NULL, StartPositionTicks BIGINT NOT NULL,
      Name TEXT, PRIMARY KEY (ItemId, ChapterIndex)
    ) WITHOUT ROWID;
    CREATE TABLE People (Id INTEGER PRIMARY KEY, Name TEXT NOT NULL, PersonType TEXT, UNIQUE (Name, PersonType));
    CREATE TABLE PeopleItems (
      ItemId BLOB NOT NULL REFERENCES BaseItems (Id) ON DELETE CASCADE, PersonId INTEGER NOT NULL REFERENCES People (Id) ON DELETE CASCADE,
      Role TEXT, ListOrder INTEGER, PRIMARY KEY (ItemId, PersonId)
    );
    CREATE TABLE Devices (Id INTEGER PRIMARY KEY, UserId INTEGER REFERENCES Users (Id) ON DELETE SET NULL, Token TEXT NOT NULL UNIQUE);
    CREATE TABLE ActivityLog (Id INTEGER PRIMARY KEY, Line TEXT, UserName TEXT);
    CREATE VIRTUAL TABLE ItemSearch USING fts5 (Name, Id UNINDEXED);
    CREATE TRIGGER items_search_insert AFTER INSERT ON BaseItems BEGIN
      INSERT INTO ItemSearch (Name, Id) VALUES (NEW.Name, hex(NEW.Id));
    END;
    CREATE TRIGGER items_search_update AFTER UPDATE OF Name ON BaseItems BEGIN
      UPDATE ItemSearch SET Name = NEW.Name WHERE Id = hex(OLD.Id);
    END;
    CREATE TRIGGER items_search_delete AFTER DELETE ON BaseItems BEGIN DELETE FROM ItemSearch WHERE Id = hex(OLD.Id); END;
    CREATE TRIGGER played_logged AFTER UPDATE OF Played ON UserData WHEN NEW.Played = 1 BEGIN
      INSERT INTO ActivityLog (Line, UserName) SELECT 'played', Username FROM Users WHERE Id = NEW.UserId;
    END;
    CREATE VIEW NextUp AS SELECT u.Username AS Username, b.Name AS Name, d.PlaybackPositionTicks / 10000000 AS Seconds
      FROM UserData d JOIN Users u ON u.Id = d.UserId JOIN BaseItems b ON b.Id = d.ItemId WHERE d.Played = 0;`,
  config: {
    tables: {
      People: { identity: ['Name', 'PersonType'] },
      ActivityLog: { sync: false },
      Devices: { ownership: 'device' },
    },
  },

  fill(chance, who) {
    const ids = Array.from({ length: 26 }, (_, n) => (n === 0 ? ROOT : chance.blob(16)));
    const parents = ids.map((_, n) => (n === 0 ? null : chance.below(Math.min(n, 6))));
    const ancestors = ids.flatMap((ItemId, n) => {
      const found: number[] = [];
      for (let at = parents[n] ?? null; at !== null; at = parents[at] ?? null) found.push(at);
      return found.map((ancestor) => ({ ItemId, AncestorId: ids[ancestor] }));
    });
    return [
      inserts(
        'BaseItems',
        ids.map((Id, n) => ({
          Id,
          Type: n < 6 ? 'Folder' : chance.pick(['Movie', 'Episode']),
          ParentId: n === 0 ? null : ids[parents[n] ?? 0],
          Name: n === 0 ? 'Media' : chance.title(3),
          Path: n < 6 ? null : `/media/${who}/${chance.word()}.mkv`,
          RunTimeTicks: n < 6 ? null : BigInt(chance.between(1, 9_000)) * 10_000_000_019n,
          CommunityRating: chance.pick([null, 7.25, 9.9999]),
          Data: JSON.stringify({ year: chance.between(1920, 2025), who }),
          ProviderIds: n === 0 ? null : chance.pick([null, chance.between(1, 99), chance.word(), chance.blob(4)]),
        })),
      ),
      inserts('AncestorIds', ancestors),
      rows('Users', 3, (n) => ({
        Id: n,
        Username: n === 1 ? `Family ${who}` : `${chance.name()}${who}${n}`,
        LastActivity: chance.below(1e9),
      })),
      inserts(
        'UserData',
        chance.pairs(30, 3, 20).map(([UserId, n]) => ({
          UserId,
          ItemId: ids[n + 5],
          Played: chance.below(2),
          PlayCount: chance.below(4),
          PlaybackPositionTicks: chance.below(2 ** 31),
          Rating: chance.pick([null, 3.5]),
        })),
      ),
      inserts(
        'MediaStreams',
        ids.slice(6).flatMap((ItemId) =>
          ['Video', 'Audio'].map((StreamType, StreamIndex) => ({
            ItemId,
            StreamIndex,
            StreamType,
            Codec: chance.pick(['h264', 'aac']),
          })),
        ),
      ),
      rows('Subtitles', 8, (n) => ({
        Id: n,
        ItemId: ids[chance.between(6, 25)],
        StreamIndex: chance.below(2),
        Text: chance.title(7),
      })),
      inserts(
        'Chapters',
        chance
          .pairs(20, 20, 4)
          .map(([n, ChapterIndex]) => ({ ItemId: ids[n + 5], ChapterIndex, StartPositionTicks: chance.below(1e9) })),
      ),
      rows('People', 8, (n) => ({
        Id: n,
        Name: n < 3 ? `Known ${n}` : `${chance.title(2)} ${who}`,
        PersonType: chance.pick(['Actor', 'Director']),
      })),
      inserts(
        'PeopleItems',
        chance
          .pairs(20, 20, 8)
          .map(([n, PersonId]) => ({ ItemId: ids[n + 5], PersonId, Role: chance.name(), ListOrder: n })),
      ),
      rows('Devices', 2, (n) => ({ Id: n, UserId: n, Token: `${who}${chance.hex(6)}` })),
    ].join('');
  },

  scripts: [
    {
      does: 'finds a new film in a folder, with streams and a chapter',
      run(hand) {
        const [id, parent] = [hand.chance.blob(16), hand.one("SELECT Id FROM BaseItems WHERE Type = 'Folder'")];
        hand.run(
          "INSERT INTO BaseItems (Id, Type, ParentId, Name) VALUES (?, 'Movie', ?, ?)",
          id,
          parent,
          `${hand.fresh()} rare`,
        );
        hand.run('INSERT INTO AncestorIds (ItemId, AncestorId) VALUES (?, ?)', id, parent);
        hand.run(
          "INSERT INTO MediaStreams (ItemId, StreamIndex, StreamType) VALUES (?1, 0, 'Video'), (?1, 1, 'Audio')",
          id,
        );
        hand.run('INSERT INTO Subtitles (ItemId, StreamIndex, Text) VALUES (?, 1, ?)', id, hand.fresh());
      },
    },
    {
      does: 'goes on watching',
      run: (hand) =>
        hand.run(
          `INSERT INTO UserData (UserId, ItemId, PlaybackPositionTicks) VALUES (?, ?, ?) ON CONFLICT (UserId, ItemId)
           DO UPDATE SET PlaybackPositionTicks = excluded.PlaybackPositionTicks, PlayCount = PlayCount + 1`,
          hand.one('SELECT Id FROM Users'),
          hand.one("SELECT Id FROM BaseItems WHERE Type <> 'Folder'"),
          BigInt(hand.chance.below(2 ** 31)) * 4_194_304n,
        ),
    },
    {
      does: 'has watched something to its end',
      run: (hand) =>
        hand.run(
          'UPDATE UserData SET Played = 1, PlaybackPositionTicks = 0 WHERE rowid = ?',
          hand.one('SELECT rowid FROM UserData'),
        ),
    },
    {
      does: 'looks an item up again and knows more',
      run: (hand) =>
        hand.run(
          "UPDATE BaseItems SET Data = json_set(Data, '$.overview', ?), ProviderIds = ? WHERE Id = ?",
          hand.fresh(),
          hand.chance.pick([1, 1.5, '1', hand.chance.blob(2)]),
          hand.one('SELECT Id FROM BaseItems'),
        ),
    },
    {
      does: 'loses a folder with all that is in it',
      run: (hand) =>
        hand.run(
          'DELETE FROM BaseItems WHERE Id = ?',
          hand.one("SELECT Id FROM BaseItems WHERE Type = 'Folder' AND ParentId IS NOT NULL"),
        ),
    },
    {
      does: 'scans the chapters of a film anew',
      run(hand) {
        const item = hand.one("SELECT Id FROM BaseItems WHERE Type <> 'Folder'");
        hand.run('DELETE FROM Chapters WHERE ItemId = ?', item);
        hand.run(
          'INSERT INTO Chapters (ItemId, ChapterIndex, StartPositionTicks, Name) VALUES (?1, 0, 0, ?2), (?1, 1, 77, ?2)',
          item,
          hand.fresh(),
        );
      },
    },
    {
      does: 'names a person who may be known',
      run(hand) {
        const name = `Guest ${hand.chance.below(3)}`;
        hand.run("INSERT OR IGNORE INTO People (Name, PersonType) VALUES (?, 'Actor')", name);
        hand.run(
          'INSERT OR IGNORE INTO PeopleItems (ItemId, PersonId, Role) SELECT ?, Id, ? FROM People WHERE Name = ?',
          hand.one('SELECT Id FROM BaseItems'),
          hand.fresh(),
          name,
        );
      },
    },
    {
      does: 'removes a person from the household',
      run: (hand) =>
        hand.run(
          'DELETE FROM Users WHERE Id = ?',
          hand.one('SELECT Id FROM Users WHERE Id NOT IN (SELECT UserId FROM Devices WHERE UserId IS NOT NULL)'),
        ),
    },
    {
      does: 'registers a device of its own',
      run: (hand) =>
        hand.run('INSERT INTO Devices (UserId, Token) VALUES (?, ?)', hand.one('SELECT Id FROM Users'), hand.fresh()),
    },
    {
      does: 'takes in a person whom others may name in another spelling',
      hard: true,
      run: (hand) =>
        hand.run('INSERT OR IGNORE INTO Users (Username) VALUES (?)', hand.chance.pick(['Kid', 'kid', 'KID'])),
    },
    {
      does: 'moves a folder into another one',
      hard: true,
      run: (hand) =>
        hand.run(
          "UPDATE BaseItems SET ParentId = ? WHERE Id = ? AND Id <> ?1 AND Type = 'Folder' AND ParentId IS NOT NULL",
          hand.one("SELECT Id FROM BaseItems WHERE Type = 'Folder'"),
          hand.one("SELECT Id FROM BaseItems WHERE Type = 'Folder'"),
        ),
    },
  ],
  shows: {
    'next up': 'SELECT Username, Name, Seconds FROM NextUp ORDER BY 1, 2, 3',
    'what a search finds': "SELECT Name, Id FROM ItemSearch WHERE ItemSearch MATCH 'rare' ORDER BY 2",
  },
  strays: {
    'found, but gone':
      'SELECT Id FROM ItemSearch s WHERE NOT EXISTS (SELECT 1 FROM BaseItems b WHERE hex(b.Id) = s.Id AND b.Name IS s.Name)',
    'there, but not found': 'SELECT hex(Id) FROM BaseItems WHERE hex(Id) NOT IN (SELECT Id FROM ItemSearch)',
  },
  collisions: 'may wait',
};
