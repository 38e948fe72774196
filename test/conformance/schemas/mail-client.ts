/**
 * A mail client: mailboxes in a tree, messages numbered within them, addresses unique by an expression, labels without regard
 * to case, counts of unread mail in a table that triggers keep, bodies as blobs, an outbox with a partial unique index.
 */
import { inserts, rows } from '../../support/chance.ts';
import type { WildSchema } from './schema.ts';

export const mailClient: WildSchema = {
  name: 'a mail client',
  ddl: `
    CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT NOT NULL, "primary" INTEGER NOT NULL DEFAULT 0, signature TEXT);
    CREATE UNIQUE INDEX accounts_email ON accounts (lower(email));
    CREATE TABLE mailboxes (
      id INTEGER PRIMARY KEY AUTOINCREMENT, account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
      parent_id INTEGER REFERENCES mailboxes (id) ON DELETE CASCADE, name TEXT NOT NULL, uid_validity INTEGER,
      UNIQUE (account_id, parent_id, name)
    );
    CREATE TABLE threads (id INTEGER PRIMARY KEY, subject TEXT COLLATE NOCASE, last_at REAL NOT NULL DEFAULT (0.5 + 1));
    CREATE TABLE messages (
      id INTEGER PRIMARY KEY AUTOINCREMENT, mailbox_id INTEGER NOT NULL REFERENCES mailboxes (id) ON DELETE CASCADE,
      thread_id INTEGER REFERENCES threads (id) ON DELETE SET NULL, message_id TEXT NOT NULL,
      in_reply_to INTEGER REFERENCES messages (id) ON DELETE SET NULL, uid INTEGER, is_read BOOLEAN NOT NULL DEFAULT FALSE,
      flags INTEGER NOT NULL DEFAULT 0, "from" TEXT, "to" TEXT, date INTEGER, body BLOB
    );
    CREATE UNIQUE INDEX messages_uid ON messages (mailbox_id, uid) WHERE uid IS NOT NULL;
    CREATE INDEX messages_id ON messages (message_id);
    CREATE INDEX messages_thread ON messages (thread_id, date DESC);
    CREATE TABLE attachments (
      message_id INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE, part TEXT NOT NULL, name TEXT, size INTEGER, data BLOB,
      PRIMARY KEY (message_id, part)
    );
    CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, colour TEXT DEFAULT 'grey');
    CREATE TABLE message_labels (
      message_id INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE, label_id INTEGER NOT NULL REFERENCES labels (id) ON DELETE CASCADE,
      PRIMARY KEY (label_id, message_id)
    ) WITHOUT ROWID;
    CREATE TABLE contacts (id INTEGER PRIMARY KEY, name TEXT, birthday TEXT CHECK (birthday IS NULL OR birthday GLOB '[0-9-]*'));
    CREATE TABLE addresses (
      address TEXT NOT NULL COLLATE NOCASE PRIMARY KEY, contact_id INTEGER REFERENCES contacts (id) ON DELETE CASCADE, seen INTEGER DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE outbox (
      id INTEGER PRIMARY KEY, message_id INTEGER NOT NULL REFERENCES messages (id) ON DELETE RESTRICT, state TEXT NOT NULL DEFAULT 'draft',
      attempts INTEGER NOT NULL DEFAULT 0
    );
    CREATE UNIQUE INDEX outbox_sending ON outbox (message_id) WHERE state = 'sending';
    CREATE TABLE unread_counts (mailbox_id INTEGER PRIMARY KEY, unread INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE sync_state (account_id INTEGER PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE, highest_modseq INTEGER);
    CREATE TRIGGER unread_insert AFTER INSERT ON messages WHEN NOT NEW.is_read BEGIN
      INSERT INTO unread_counts (mailbox_id, unread) VALUES (NEW.mailbox_id, 1) ON CONFLICT DO UPDATE SET unread = unread + 1;
    END;
    CREATE TRIGGER unread_delete AFTER DELETE ON messages WHEN NOT OLD.is_read BEGIN
      UPDATE unread_counts SET unread = unread - 1 WHERE mailbox_id = OLD.mailbox_id;
    END;
    CREATE TRIGGER unread_update AFTER UPDATE OF is_read, mailbox_id ON messages BEGIN
      UPDATE unread_counts SET unread = unread - 1 WHERE mailbox_id = OLD.mailbox_id AND NOT OLD.is_read;
      INSERT INTO unread_counts (mailbox_id, unread) SELECT NEW.mailbox_id, 1 WHERE NOT NEW.is_read
        ON CONFLICT DO UPDATE SET unread = unread + 1;
    END;
    CREATE VIEW inbox AS SELECT m."from" AS sender, t.subject AS subject, b.name AS mailbox, m.is_read AS is_read FROM messages m
      JOIN mailboxes b ON b.id = m.mailbox_id LEFT JOIN threads t ON t.id = m.thread_id;
    CREATE TRIGGER inbox_read INSTEAD OF UPDATE OF is_read ON inbox BEGIN
      UPDATE messages SET is_read = NEW.is_read WHERE "from" = OLD.sender;
    END;`,
  config: {
    tables: {
      labels: { identity: 'name' },
      unread_counts: { sync: false },
      sync_state: { sync: false },
      accounts: { localColumns: ['primary'] },
    },
  },

  fill: (chance, who) =>
    [
      rows('accounts', 2, (n) => ({
        id: n,
        email: `${chance.word()}.${who}${n}@Mail.example`,
        primary: n === 1 ? 1 : 0,
        signature: null,
      })),
      rows('mailboxes', 7, (n) => ({
        id: n,
        account_id: 1 + (n % 2),
        parent_id: n < 4 ? null : chance.between(1, 3),
        name: n < 4 ? ['INBOX', 'Sent', 'Archive'][n - 1] : `${chance.name()} ${n}`,
        uid_validity: chance.between(1, 2 ** 31),
      })),
      rows('threads', 10, (n) => ({ id: n, subject: chance.title(4) })),
      rows('messages', 40, (n) => ({
        id: n,
        mailbox_id: chance.between(1, 7),
        thread_id: chance.happens(0.1) ? null : chance.between(1, 10),
        message_id: `<${chance.hex(6)}@${who}>`,
        in_reply_to: n < 5 || chance.happens(0.5) ? null : chance.between(1, n - 1),
        uid: chance.happens(0.2) ? null : n,
        is_read: chance.below(2),
        flags: chance.below(16),
        from: `${chance.word()}@${chance.word()}.example`,
        to: null,
        date: chance.between(1e9, 1.7e9),
        body: chance.blob(chance.between(0, 120)),
      })),
      inserts(
        'attachments',
        chance.pairs(12, 40, 3).map(([message_id, part]) => ({
          message_id,
          part: `2.${part}`,
          name: chance.word(),
          size: 9,
          data: chance.blob(9),
        })),
      ),
      rows('labels', 5, (n) => ({ id: n, name: n < 3 ? ['Work', 'home'][n - 1] : `${chance.word()}${who}${n}` })),
      inserts(
        'message_labels',
        chance.pairs(40, 40, 5).map(([message_id, label_id]) => ({ message_id, label_id })),
      ),
      rows('contacts', 6, (n) => ({
        id: n,
        name: chance.title(2),
        birthday: chance.pick([null, '1990-02-28', '--02-29']),
      })),
      rows('addresses', 9, (n) => ({
        address: `${chance.word()}${n}@${who}.Example`,
        contact_id: chance.happens(0.2) ? null : chance.between(1, 6),
        seen: n,
      })),
      rows('outbox', 2, (n) => ({ id: n, message_id: n, state: 'draft' })),
      rows('sync_state', 2, (n) => ({ account_id: n, highest_modseq: n })),
    ].join(''),

  scripts: [
    {
      does: 'gets a message into a thread, with an attachment and a label',
      run(hand) {
        hand.run(
          `INSERT INTO messages (mailbox_id, thread_id, message_id, in_reply_to, "from", body) VALUES (?, ?, ?, ?, ?, ?)`,
          hand.one('SELECT id FROM mailboxes'),
          hand.one('SELECT id FROM threads'),
          hand.fresh(),
          hand.one('SELECT id FROM messages'),
          hand.fresh(),
          hand.chance.blob(500),
        );
        hand.run(
          "INSERT INTO attachments (message_id, part, data) SELECT max(id), '1', ? FROM messages",
          hand.chance.blob(5000),
        );
        hand.run(
          'INSERT INTO message_labels (message_id, label_id) SELECT max(m.id), ? FROM messages m',
          hand.one('SELECT id FROM labels'),
        );
      },
    },
    {
      does: 'marks a mailbox as read',
      run: (hand) =>
        hand.run('UPDATE messages SET is_read = TRUE WHERE mailbox_id = ?', hand.one('SELECT id FROM mailboxes')),
    },
    {
      does: 'marks messages of somebody as unread, through the view',
      run: (hand) => hand.run('UPDATE inbox SET is_read = 0 WHERE sender = ?', hand.one('SELECT sender FROM inbox')),
    },
    {
      does: 'moves a message into another mailbox, where it has no number yet',
      run: (hand) =>
        hand.run(
          'UPDATE messages SET mailbox_id = ?, uid = NULL WHERE id = ?',
          hand.one('SELECT id FROM mailboxes'),
          hand.one('SELECT id FROM messages'),
        ),
    },
    {
      does: 'stars a message and labels it',
      run(hand) {
        const message = hand.one('SELECT id FROM messages');
        hand.run('UPDATE messages SET flags = flags | 32 WHERE id = ?', message);
        hand.run(
          'INSERT OR IGNORE INTO message_labels (message_id, label_id) VALUES (?, ?)',
          message,
          hand.one('SELECT id FROM labels'),
        );
      },
    },
    {
      does: 'takes all labels from a message',
      run: (hand) =>
        hand.run('DELETE FROM message_labels WHERE message_id = ?', hand.one('SELECT message_id FROM message_labels')),
    },
    {
      does: 'makes a label that others may make, in their spelling',
      run: (hand) =>
        hand.run(
          'INSERT OR IGNORE INTO labels (name, colour) VALUES (?, ?)',
          hand.chance.pick(['Later', 'LATER', 'later']),
          hand.fresh(),
        ),
    },
    {
      does: 'learns an address',
      run: (hand) =>
        hand.run(
          'INSERT INTO addresses (address, contact_id) VALUES (?, ?) ON CONFLICT (address) DO UPDATE SET seen = seen + 1',
          hand.chance.pick(['Known@x.example', 'known@X.example', `${hand.fresh()}@x.example`]),
          hand.one('SELECT id FROM contacts'),
        ),
    },
    {
      does: 'deletes a contact with its addresses',
      run: (hand) => hand.run('DELETE FROM contacts WHERE id = ?', hand.one('SELECT id FROM contacts')),
    },
    {
      does: 'joins two threads',
      run: (hand) =>
        hand.run(
          'UPDATE messages SET thread_id = ? WHERE thread_id = ?',
          hand.one('SELECT id FROM threads'),
          hand.one('SELECT id FROM threads'),
        ),
    },
    {
      does: 'numbers what has no number in a mailbox',
      hard: true,
      run(hand) {
        const mailbox = hand.one('SELECT mailbox_id FROM messages WHERE uid IS NULL');
        hand.run(
          `UPDATE messages SET uid = (SELECT ifnull(max(uid), 0) + 1 FROM messages WHERE mailbox_id = ?1)
           WHERE id = (SELECT min(id) FROM messages WHERE mailbox_id = ?1 AND uid IS NULL)`,
          mailbox,
        );
      },
    },
    {
      does: 'deletes a message that nothing here sends',
      hard: true,
      run: (hand) =>
        hand.run(
          'DELETE FROM messages WHERE id = ?',
          hand.one('SELECT id FROM messages WHERE id NOT IN (SELECT message_id FROM outbox)'),
        ),
    },
    {
      does: 'sends a message',
      hard: true,
      run: (hand) =>
        hand.run(
          "INSERT OR IGNORE INTO outbox (message_id, state) VALUES (?, 'sending')",
          hand.one('SELECT id FROM messages'),
        ),
    },
    {
      does: 'moves a mailbox below another one',
      hard: true,
      run: (hand) =>
        hand.run(
          'UPDATE OR IGNORE mailboxes SET parent_id = ? WHERE id = ? AND id <> ?1',
          hand.one('SELECT id FROM mailboxes'),
          hand.one('SELECT id FROM mailboxes'),
        ),
    },
    {
      does: 'sets up an account that may be set up elsewhere',
      hard: true,
      run: (hand) =>
        hand.run(
          'INSERT OR IGNORE INTO accounts (email) VALUES (?)',
          hand.chance.pick(['me@x.example', 'Me@X.example']),
        ),
    },
  ],
  shows: { inbox: 'SELECT sender, subject, mailbox, is_read FROM inbox ORDER BY 1, 2, 3, 4' },
  strays: {
    'mailboxes counted wrongly': `SELECT b.name FROM mailboxes b LEFT JOIN unread_counts c ON c.mailbox_id = b.id
      WHERE ifnull(c.unread, 0) <> (SELECT count(*) FROM messages m WHERE m.mailbox_id = b.id AND NOT m.is_read)`,
  },
  collisions: 'may wait',
};
