/** A music store: integer keys, no ON DELETE anywhere, so that nothing that is referred to can go. */
import { inserts, rows } from '../../support/chance.ts';
import type { WildSchema } from './schema.ts';

const GENRES = ['Ambient', 'Brass', 'Choral', 'Dub'];

export const musicStore: WildSchema = {
  name: 'a music store',
  ddl: `
    CREATE TABLE Genre (GenreId INTEGER PRIMARY KEY NOT NULL, Name NVARCHAR(120) UNIQUE);
    CREATE TABLE MediaType (MediaTypeId INTEGER PRIMARY KEY NOT NULL, Name NVARCHAR(120) NOT NULL UNIQUE);
    CREATE TABLE Artist (ArtistId INTEGER PRIMARY KEY NOT NULL, Name NVARCHAR(120));
    CREATE TABLE Album (
      AlbumId INTEGER PRIMARY KEY NOT NULL, Title NVARCHAR(160) NOT NULL, ArtistId INTEGER NOT NULL,
      FOREIGN KEY (ArtistId) REFERENCES Artist (ArtistId) ON DELETE NO ACTION ON UPDATE NO ACTION
    );
    CREATE TABLE Track (
      TrackId INTEGER PRIMARY KEY NOT NULL, Name NVARCHAR(200) NOT NULL, AlbumId INTEGER, MediaTypeId INTEGER NOT NULL,
      GenreId INTEGER, Composer NVARCHAR(220), Milliseconds INTEGER NOT NULL, Bytes INTEGER,
      UnitPrice NUMERIC(10, 2) NOT NULL,
      FOREIGN KEY (AlbumId) REFERENCES Album (AlbumId), FOREIGN KEY (GenreId) REFERENCES Genre (GenreId),
      FOREIGN KEY (MediaTypeId) REFERENCES MediaType (MediaTypeId)
    );
    CREATE TABLE Employee (
      EmployeeId INTEGER PRIMARY KEY NOT NULL, LastName NVARCHAR(20) NOT NULL, Title NVARCHAR(30),
      ReportsTo INTEGER, HireDate DATETIME, FOREIGN KEY (ReportsTo) REFERENCES Employee (EmployeeId)
    );
    CREATE TABLE Customer (
      CustomerId INTEGER PRIMARY KEY NOT NULL, LastName NVARCHAR(20) NOT NULL, Email NVARCHAR(60) NOT NULL,
      SupportRepId INTEGER, FOREIGN KEY (SupportRepId) REFERENCES Employee (EmployeeId)
    );
    CREATE TABLE Invoice (
      InvoiceId INTEGER PRIMARY KEY NOT NULL, CustomerId INTEGER NOT NULL REFERENCES Customer (CustomerId),
      InvoiceDate DATETIME NOT NULL, BillingCity NVARCHAR(40), Total NUMERIC(10, 2) NOT NULL
    );
    CREATE TABLE InvoiceLine (
      InvoiceLineId INTEGER PRIMARY KEY NOT NULL, InvoiceId INTEGER NOT NULL REFERENCES Invoice (InvoiceId),
      TrackId INTEGER NOT NULL REFERENCES Track (TrackId), UnitPrice NUMERIC(10, 2) NOT NULL, Quantity INTEGER NOT NULL
    );
    CREATE TABLE Playlist (PlaylistId INTEGER PRIMARY KEY NOT NULL, Name NVARCHAR(120));
    CREATE TABLE PlaylistTrack (
      PlaylistId INTEGER NOT NULL, TrackId INTEGER NOT NULL,
      CONSTRAINT PK_PlaylistTrack PRIMARY KEY (PlaylistId, TrackId),
      FOREIGN KEY (PlaylistId) REFERENCES Playlist (PlaylistId), FOREIGN KEY (TrackId) REFERENCES Track (TrackId)
    );
    CREATE INDEX IFK_AlbumArtistId ON Album (ArtistId);
    CREATE INDEX IFK_TrackAlbumId ON Track (AlbumId);
    CREATE INDEX IFK_PlaylistTrackTrackId ON PlaylistTrack (TrackId);
    CREATE INDEX IFK_InvoiceLineInvoiceId ON InvoiceLine (InvoiceId);`,
  config: { tables: { Genre: { identity: 'Name' }, MediaType: { identity: ['Name'] } } },

  fill: (chance, who) =>
    [
      inserts(
        'Genre',
        GENRES.map((Name, i) => ({ GenreId: i + 1, Name })),
      ),
      inserts('MediaType', [
        { MediaTypeId: 1, Name: 'Lossy file' },
        { MediaTypeId: 2, Name: 'Lossless file' },
      ]),
      rows('Artist', 8, (n) => ({ ArtistId: n, Name: chance.happens(0.1) ? null : chance.title(2) })),
      rows('Album', 14, (n) => ({ AlbumId: n, Title: `${chance.title()} ${who}${n}`, ArtistId: chance.between(1, 8) })),
      rows('Track', 60, (n) => ({
        TrackId: n,
        Name: chance.title(),
        AlbumId: chance.happens(0.1) ? null : chance.between(1, 14),
        MediaTypeId: chance.between(1, 2),
        GenreId: chance.happens(0.2) ? null : chance.between(1, GENRES.length),
        Composer: chance.happens(0.5) ? chance.title(3) : null,
        Milliseconds: chance.between(60_000, 600_000),
        Bytes: chance.between(1_000_000, 12_000_000),
        UnitPrice: chance.pick([0.99, 1.99, 1, 2.5]),
      })),
      rows('Employee', 5, (n) => ({
        EmployeeId: n,
        LastName: chance.name(),
        Title: chance.pick(['Manager', 'Agent', null]),
        ReportsTo: n === 1 ? null : chance.between(1, n - 1),
        HireDate: chance.date(),
      })),
      rows('Customer', 9, (n) => ({
        CustomerId: n,
        LastName: chance.name(),
        Email: `${chance.word()}@${chance.word()}.example`,
        SupportRepId: chance.happens(0.2) ? null : chance.between(1, 5),
      })),
      rows('Invoice', 12, (n) => ({
        InvoiceId: n,
        CustomerId: chance.between(1, 9),
        InvoiceDate: chance.date(),
        BillingCity: chance.name(),
        Total: chance.pick([1.98, 5.94, 13.86, 3]),
      })),
      rows('InvoiceLine', 30, (n) => ({
        InvoiceLineId: n,
        InvoiceId: chance.between(1, 12),
        TrackId: chance.between(1, 60),
        UnitPrice: 0.99,
        Quantity: chance.between(1, 3),
      })),
      rows('Playlist', 3, (n) => ({ PlaylistId: n, Name: chance.title() })),
      inserts(
        'PlaylistTrack',
        chance.pairs(30, 3, 60).map(([PlaylistId, TrackId]) => ({ PlaylistId, TrackId })),
      ),
    ].join(''),

  scripts: [
    {
      does: 'renames a track and its composer',
      run: (hand) =>
        hand.run(
          'UPDATE Track SET Name = ?, Composer = ? WHERE TrackId = ?',
          hand.fresh(),
          hand.fresh(),
          hand.one('SELECT TrackId FROM Track'),
        ),
    },
    {
      does: 'adds an album with its tracks to an artist',
      run(hand) {
        const artist = hand.one('SELECT ArtistId FROM Artist');
        hand.run('INSERT INTO Album (Title, ArtistId) VALUES (?, ?)', hand.fresh(), artist);
        for (let n = 0; n < 3; n += 1) {
          hand.run(
            `INSERT INTO Track (Name, AlbumId, MediaTypeId, GenreId, Milliseconds, UnitPrice)
             SELECT ?, max(AlbumId), (SELECT min(MediaTypeId) FROM MediaType), ?, ?, 0.99 FROM Album`,
            hand.fresh(),
            hand.one('SELECT GenreId FROM Genre'),
            hand.chance.between(1_000, 9_000),
          );
        }
      },
    },
    {
      does: 'moves an album to another artist',
      run: (hand) =>
        hand.run(
          'UPDATE Album SET ArtistId = ? WHERE AlbumId = ?',
          hand.one('SELECT ArtistId FROM Artist'),
          hand.one('SELECT AlbumId FROM Album'),
        ),
    },
    {
      does: 'sells some tracks, with the total kept by the program',
      run(hand) {
        hand.run(
          'INSERT INTO Invoice (CustomerId, InvoiceDate, BillingCity, Total) VALUES (?, ?, ?, 0)',
          hand.one('SELECT CustomerId FROM Customer'),
          hand.chance.date(),
          hand.fresh(),
        );
        for (let n = 0; n < 2; n += 1) {
          hand.run(
            `INSERT INTO InvoiceLine (InvoiceId, TrackId, UnitPrice, Quantity)
             SELECT max(InvoiceId), ?, 0.99, ? FROM Invoice`,
            hand.one('SELECT TrackId FROM Track'),
            hand.chance.between(1, 4),
          );
        }
        hand.run(
          `UPDATE Invoice SET Total = (SELECT sum(UnitPrice * Quantity) FROM InvoiceLine l WHERE l.InvoiceId = Invoice.InvoiceId)
           WHERE InvoiceId = (SELECT max(InvoiceId) FROM Invoice)`,
        );
      },
    },
    {
      does: 'puts a track into a playlist, which may have it',
      run: (hand) =>
        hand.run(
          'INSERT OR IGNORE INTO PlaylistTrack (PlaylistId, TrackId) VALUES (?, ?)',
          hand.one('SELECT PlaylistId FROM Playlist'),
          hand.one('SELECT TrackId FROM Track'),
        ),
    },
    {
      does: 'empties a playlist of half of its tracks',
      run: (hand) =>
        hand.run(
          'DELETE FROM PlaylistTrack WHERE PlaylistId = ? AND TrackId % 2 = 0',
          hand.one('SELECT PlaylistId FROM Playlist'),
        ),
    },
    {
      does: 'raises the price of a genre by a percentage',
      run: (hand) =>
        hand.run(
          'UPDATE Track SET UnitPrice = round(UnitPrice * 1.1, 2) WHERE GenreId = ?',
          hand.one('SELECT GenreId FROM Genre'),
        ),
    },
    {
      does: 'deletes an artist with albums, tracks and what was sold of them, bottom up',
      hard: true,
      run(hand) {
        const artist = hand.one('SELECT ArtistId FROM Artist');
        const albums = '(SELECT AlbumId FROM Album WHERE ArtistId = ?)';
        const tracks = `(SELECT TrackId FROM Track WHERE AlbumId IN ${albums})`;
        hand.run(`DELETE FROM InvoiceLine WHERE TrackId IN ${tracks}`, artist);
        hand.run(`DELETE FROM PlaylistTrack WHERE TrackId IN ${tracks}`, artist);
        hand.run(`DELETE FROM Track WHERE AlbumId IN ${albums}`, artist);
        hand.run('DELETE FROM Album WHERE ArtistId = ?', artist);
        hand.run('DELETE FROM Artist WHERE ArtistId = ?', artist);
      },
    },
    {
      does: 'gives a genre the name that somebody else may give one',
      hard: true,
      run: (hand) =>
        hand.run(
          'UPDATE OR IGNORE Genre SET Name = ? WHERE GenreId = ?',
          hand.chance.pick(['Folk', 'Jazz']),
          hand.one('SELECT GenreId FROM Genre'),
        ),
    },
  ],
  shows: {
    'albums by artist': `SELECT r.Name, a.Title, count(t.TrackId), sum(t.Milliseconds) FROM Album a JOIN Artist r USING (ArtistId)
      LEFT JOIN Track t USING (AlbumId) GROUP BY a.AlbumId ORDER BY 1, 2, 3, 4`,
    'takings by genre': `SELECT g.Name, count(*), sum(l.Quantity) FROM InvoiceLine l JOIN Track USING (TrackId)
      LEFT JOIN Genre g USING (GenreId) GROUP BY g.GenreId ORDER BY 1, 2`,
  },
  strays: {},
  collisions: 'may wait',
};
