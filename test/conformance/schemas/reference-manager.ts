/**
 * A reference manager: items whose fields are rows of a table of values, authors in an order, attachments under the item's
 * own id, triggers that refuse what makes no sense, values in a column without a type.
 */
import { inserts, rows } from '../../support/chance.ts';
import type { WildSchema } from './schema.ts';

const FIELDS = ['title', 'date', 'pages', 'DOI'];

export const referenceManager: WildSchema = {
  name: 'a reference manager',
  ddl: `
    CREATE TABLE itemTypes (itemTypeID INTEGER PRIMARY KEY, typeName TEXT NOT NULL UNIQUE, display INT DEFAULT 1);
    CREATE TABLE fields (fieldID INTEGER PRIMARY KEY, fieldName TEXT NOT NULL UNIQUE, fieldFormatID INT);
    CREATE TABLE libraries (libraryID INTEGER PRIMARY KEY, type TEXT NOT NULL UNIQUE, editable INT NOT NULL DEFAULT 1);
    CREATE TABLE items (
      itemID INTEGER PRIMARY KEY, itemTypeID INT NOT NULL, dateAdded TIMESTAMP DEFAULT 'now' NOT NULL, libraryID INT NOT NULL,
      key TEXT NOT NULL, version INT NOT NULL DEFAULT 0, UNIQUE (libraryID, key),
      FOREIGN KEY (libraryID) REFERENCES libraries (libraryID) ON DELETE CASCADE,
      FOREIGN KEY (itemTypeID) REFERENCES itemTypes (itemTypeID)
    );
    CREATE TABLE itemDataValues (valueID INTEGER PRIMARY KEY, value UNIQUE);
    CREATE TABLE itemData (
      itemID INT, fieldID INT, valueID INT NOT NULL, PRIMARY KEY (itemID, fieldID),
      FOREIGN KEY (itemID) REFERENCES items (itemID) ON DELETE CASCADE, FOREIGN KEY (fieldID) REFERENCES fields (fieldID),
      FOREIGN KEY (valueID) REFERENCES itemDataValues (valueID)
    );
    CREATE TABLE creators (creatorID INTEGER PRIMARY KEY, firstName TEXT, lastName TEXT, fieldMode INT, UNIQUE (lastName, firstName, fieldMode));
    CREATE TABLE itemCreators (
      itemID INT NOT NULL, creatorID INT NOT NULL, orderIndex INT NOT NULL DEFAULT 0, PRIMARY KEY (itemID, orderIndex),
      FOREIGN KEY (itemID) REFERENCES items (itemID) ON DELETE CASCADE, FOREIGN KEY (creatorID) REFERENCES creators (creatorID) ON DELETE RESTRICT
    );
    CREATE TABLE collections (
      collectionID INTEGER PRIMARY KEY, collectionName TEXT NOT NULL, parentCollectionID INT DEFAULT NULL, key TEXT NOT NULL UNIQUE,
      FOREIGN KEY (parentCollectionID) REFERENCES collections (collectionID) ON DELETE CASCADE
    );
    CREATE TABLE collectionItems (
      collectionID INT NOT NULL, itemID INT NOT NULL, orderIndex INT NOT NULL DEFAULT 0, PRIMARY KEY (collectionID, itemID),
      FOREIGN KEY (collectionID) REFERENCES collections (collectionID) ON DELETE CASCADE,
      FOREIGN KEY (itemID) REFERENCES items (itemID) ON DELETE CASCADE
    );
    CREATE TABLE tags (tagID INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE itemTags (
      itemID INT NOT NULL, tagID INT NOT NULL, type INT NOT NULL, PRIMARY KEY (itemID, tagID),
      FOREIGN KEY (itemID) REFERENCES items (itemID) ON DELETE CASCADE, FOREIGN KEY (tagID) REFERENCES tags (tagID) ON DELETE CASCADE
    );
    CREATE TABLE itemAttachments (
      itemID INTEGER PRIMARY KEY, parentItemID INT, linkMode INT NOT NULL, path TEXT,
      FOREIGN KEY (itemID) REFERENCES items (itemID) ON DELETE CASCADE,
      FOREIGN KEY (parentItemID) REFERENCES items (itemID) ON DELETE CASCADE
    );
    CREATE TABLE itemNotes (
      itemID INTEGER PRIMARY KEY, parentItemID INT REFERENCES items (itemID) ON DELETE CASCADE, note TEXT,
      FOREIGN KEY (itemID) REFERENCES items (itemID) ON DELETE CASCADE
    );
    CREATE TABLE deletedItems (itemID INTEGER PRIMARY KEY REFERENCES items (itemID) ON DELETE CASCADE, dateDeleted DEFAULT 'now' NOT NULL);
    CREATE TABLE itemWords (itemID INT, word TEXT, PRIMARY KEY (itemID, word));
    CREATE INDEX itemData_valueID ON itemData (valueID);
    CREATE INDEX itemAttachments_parent ON itemAttachments (parentItemID);
    CREATE TRIGGER attachments_mode BEFORE INSERT ON itemAttachments WHEN NEW.linkMode NOT BETWEEN 0 AND 4 BEGIN
      SELECT RAISE(ABORT, 'no such link mode');
    END;
    CREATE TRIGGER creators_named BEFORE INSERT ON creators
      FOR EACH ROW WHEN NEW.fieldMode = 1 AND NEW.firstName <> '' BEGIN
      SELECT RAISE(ABORT, 'an institution has no first name');
    END;
    CREATE TRIGGER creators_renamed BEFORE UPDATE ON creators
      FOR EACH ROW WHEN NEW.fieldMode = 1 AND NEW.firstName <> '' BEGIN
      SELECT RAISE(ABORT, 'an institution has no first name');
    END;
    CREATE TRIGGER notes_words AFTER INSERT ON itemNotes BEGIN
      INSERT OR IGNORE INTO itemWords (itemID, word) VALUES (NEW.itemID, lower(substr(NEW.note, 1, 8)));
    END;
    CREATE TRIGGER notes_words_gone AFTER DELETE ON itemNotes BEGIN DELETE FROM itemWords WHERE itemID = OLD.itemID; END;`,
  config: {
    tables: {
      itemTypes: { identity: 'typeName' },
      fields: { identity: 'fieldName' },
      libraries: { identity: 'type' },
      items: { identity: ['libraryID', 'key'] },
      itemDataValues: { identity: 'value' },
      creators: { identity: ['lastName', 'firstName', 'fieldMode'] },
      collections: { identity: 'key' },
      tags: { identity: 'name' },
      itemWords: { sync: false },
    },
  },

  fill: (chance, who) =>
    [
      inserts(
        'itemTypes',
        ['book', 'attachment', 'note'].map((typeName, i) => ({ itemTypeID: i + 1, typeName })),
      ),
      inserts(
        'fields',
        FIELDS.map((fieldName, i) => ({ fieldID: i + 1, fieldName })),
      ),
      rows('libraries', 2, (n) => ({ libraryID: n, type: n === 1 ? 'user' : `group ${who}` })),
      rows('items', 30, (n) => ({
        itemID: n,
        itemTypeID: n <= 20 ? 1 : n <= 25 ? 2 : 3,
        libraryID: chance.between(1, 2),
        key: `${chance.hex(3).toUpperCase()}${who}${n}`,
        version: chance.below(400),
      })),
      rows('itemDataValues', 30, (n) => ({
        valueID: n,
        value: n === 1 ? 1984 : n === 2 ? '1984' : n === 3 ? 2.5 : `${chance.title(3)} ${who}${n}`,
      })),
      inserts(
        'itemData',
        chance.pairs(50, 20, 4).map(([itemID, fieldID]) => ({ itemID, fieldID, valueID: chance.between(1, 30) })),
      ),
      rows('creators', 8, (n) => ({
        creatorID: n,
        firstName: n === 8 ? '' : chance.name(),
        lastName: `${chance.name()} ${who}${n}`,
        fieldMode: n === 8 ? 1 : 0,
      })),
      inserts(
        'itemCreators',
        chance
          .pairs(28, 20, 4)
          .map(([itemID, orderIndex]) => ({ itemID, orderIndex, creatorID: chance.between(1, 8) })),
      ),
      rows('collections', 6, (n) => ({
        collectionID: n,
        collectionName: chance.title(),
        parentCollectionID: n < 3 ? null : chance.between(1, n - 1),
        key: `C${who}${n}`,
      })),
      inserts(
        'collectionItems',
        chance
          .pairs(24, 6, 20)
          .map(([collectionID, itemID]) => ({ collectionID, itemID, orderIndex: chance.below(9) })),
      ),
      rows('tags', 6, (n) => ({ tagID: n, name: n < 3 ? `common ${n}` : `${chance.word()} ${who}${n}` })),
      inserts(
        'itemTags',
        chance.pairs(26, 20, 6).map(([itemID, tagID]) => ({ itemID, tagID, type: chance.below(2) })),
      ),
      rows('itemAttachments', 5, (n) => ({
        itemID: 20 + n,
        parentItemID: chance.happens(0.2) ? null : chance.between(1, 20),
        linkMode: chance.below(5),
        path: `storage:${chance.word()}.pdf`,
      })),
      rows('itemNotes', 5, (n) => ({
        itemID: 25 + n,
        parentItemID: chance.between(1, 20),
        note: `<p>${chance.title(6)}</p>`,
      })),
      inserts('deletedItems', [{ itemID: 20, dateDeleted: chance.date() }]),
    ].join(''),

  scripts: [
    {
      does: 'takes a book up, its title as a value that may be there',
      run(hand) {
        const title = hand.chance.pick(['Essays', 'Letters', hand.fresh()]);
        hand.run(
          `INSERT INTO items (itemTypeID, libraryID, key) SELECT itemTypeID, ?, ? FROM itemTypes WHERE typeName = 'book'`,
          hand.one('SELECT libraryID FROM libraries'),
          hand.fresh(),
        );
        hand.run('INSERT OR IGNORE INTO itemDataValues (value) VALUES (?)', title);
        hand.run(
          `INSERT INTO itemData (itemID, fieldID, valueID) SELECT (SELECT max(itemID) FROM items), fieldID, valueID
           FROM fields, itemDataValues WHERE fieldName = 'title' AND value = ?`,
          title,
        );
      },
    },
    {
      does: 'changes a field of a book to another value',
      run(hand) {
        const value = hand.fresh();
        hand.run('INSERT INTO itemDataValues (value) VALUES (?)', value);
        hand.run(
          'UPDATE itemData SET valueID = (SELECT valueID FROM itemDataValues WHERE value = ?) WHERE rowid = ?',
          value,
          hand.one('SELECT rowid FROM itemData'),
        );
      },
    },
    {
      does: 'files a book in a collection',
      run: (hand) =>
        hand.run(
          'INSERT OR IGNORE INTO collectionItems (collectionID, itemID) VALUES (?, ?)',
          hand.one('SELECT collectionID FROM collections'),
          hand.one('SELECT itemID FROM items'),
        ),
    },
    {
      does: 'deletes a collection with those in it, but no book',
      run: (hand) =>
        hand.run(
          'DELETE FROM collections WHERE collectionID = ?',
          hand.one('SELECT collectionID FROM collections WHERE parentCollectionID IS NOT NULL'),
        ),
    },
    {
      does: 'throws a book into the bin, and takes it out again',
      run(hand) {
        const item = hand.one('SELECT itemID FROM items');
        hand.run('INSERT OR REPLACE INTO deletedItems (itemID, dateDeleted) VALUES (?, ?)', item, hand.fresh());
        if (hand.chance.happens(0.5)) hand.run('DELETE FROM deletedItems WHERE itemID = ?', item);
      },
    },
    {
      does: 'empties the bin',
      run: (hand) => hand.run('DELETE FROM items WHERE itemID IN (SELECT itemID FROM deletedItems)'),
    },
    {
      does: 'attaches a file to a book',
      run(hand) {
        hand.run(
          `INSERT INTO items (itemTypeID, libraryID, key) SELECT itemTypeID, ?, ? FROM itemTypes WHERE typeName = 'attachment'`,
          hand.one('SELECT libraryID FROM libraries'),
          hand.fresh(),
        );
        hand.run(
          'INSERT INTO itemAttachments (itemID, parentItemID, linkMode, path) SELECT max(itemID), ?, 1, ? FROM items',
          hand.one("SELECT itemID FROM items JOIN itemTypes USING (itemTypeID) WHERE typeName = 'book'"),
          hand.fresh(),
        );
      },
    },
    {
      does: 'gives a book a tag that others may make too',
      run(hand) {
        const tag = `to read ${hand.chance.below(3)}`;
        hand.run('INSERT OR IGNORE INTO tags (name) VALUES (?)', tag);
        hand.run(
          'INSERT OR IGNORE INTO itemTags (itemID, tagID, type) SELECT ?, tagID, 0 FROM tags WHERE name = ?',
          hand.one('SELECT itemID FROM items'),
          tag,
        );
      },
    },
    {
      does: 'renames a tag',
      run: (hand) =>
        hand.run('UPDATE tags SET name = ? WHERE tagID = ?', hand.fresh(), hand.one('SELECT tagID FROM tags')),
    },
    {
      does: 'puts the authors of a book into another order',
      run(hand) {
        const item = hand.one('SELECT itemID FROM itemCreators');
        hand.run('UPDATE itemCreators SET orderIndex = -1 - orderIndex WHERE itemID = ?', item);
        hand.run('UPDATE itemCreators SET orderIndex = 6 + orderIndex WHERE itemID = ?', item);
      },
    },
    {
      does: 'clears values that no field here has',
      hard: true,
      run: (hand) => hand.run('DELETE FROM itemDataValues WHERE valueID NOT IN (SELECT valueID FROM itemData)'),
    },
    {
      does: 'forgets an author who has written nothing here',
      hard: true,
      run: (hand) => hand.run('DELETE FROM creators WHERE creatorID NOT IN (SELECT creatorID FROM itemCreators)'),
    },
    {
      does: 'moves a collection into another one',
      hard: true,
      run: (hand) =>
        hand.run(
          'UPDATE collections SET parentCollectionID = ? WHERE collectionID = ? AND collectionID <> ?1',
          hand.one('SELECT collectionID FROM collections'),
          hand.one('SELECT collectionID FROM collections'),
        ),
    },
  ],
  shows: {
    'fields of books': `SELECT key, fieldName, typeof(value), value FROM itemData JOIN items USING (itemID) JOIN fields USING (fieldID)
      JOIN itemDataValues USING (valueID) ORDER BY 1, 2`,
    authors: `SELECT key, orderIndex, lastName FROM itemCreators JOIN items USING (itemID) JOIN creators USING (creatorID) ORDER BY 1, 2`,
  },
  strays: {
    'words of notes that are gone': 'SELECT word FROM itemWords WHERE itemID NOT IN (SELECT itemID FROM itemNotes)',
  },
  collisions: 'settled',
};
