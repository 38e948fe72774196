/**
 * A finance ledger: STRICT tables, some WITHOUT ROWID, amounts as whole numbers, currencies by code, foreign keys of several columns, one default
 * account for each currency by a partial unique index, RESTRICT where money hangs on it, deferred checks.
 */
import { inserts, rows } from '../../support/chance.ts';
import type { WildSchema } from './schema.ts';

const CURRENCIES = ['CHF', 'EUR', 'JPY'];

export const financeLedger: WildSchema = {
  name: 'a finance ledger',
  ddl: `
    CREATE TABLE currencies (code TEXT PRIMARY KEY CHECK (length(code) = 3), fraction INTEGER NOT NULL DEFAULT 100) STRICT, WITHOUT ROWID;
    CREATE TABLE accounts (
      id INTEGER PRIMARY KEY, name TEXT NOT NULL CHECK (name <> ''), type TEXT NOT NULL DEFAULT 'asset',
      currency TEXT NOT NULL DEFAULT 'EUR' REFERENCES currencies (code) ON UPDATE CASCADE ON DELETE SET DEFAULT,
      parent_id INTEGER REFERENCES accounts (id) ON DELETE RESTRICT, is_default INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE UNIQUE INDEX accounts_default ON accounts (currency) WHERE is_default = 1;
    CREATE UNIQUE INDEX accounts_name ON accounts (ifnull(parent_id, 0), lower(name));
    CREATE TABLE payees (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, category_id INTEGER REFERENCES categories (id) ON DELETE SET NULL) STRICT;
    CREATE TABLE categories (id INTEGER PRIMARY KEY, name TEXT NOT NULL, "limit" INTEGER, UNIQUE (name)) STRICT;
    CREATE TABLE transactions (
      id INTEGER PRIMARY KEY, posted TEXT NOT NULL DEFAULT '1970-01-01', num TEXT, description TEXT,
      payee_id INTEGER REFERENCES payees (id) ON DELETE SET NULL, "check" BLOB
    ) STRICT;
    CREATE TABLE splits (
      transaction_id INTEGER NOT NULL REFERENCES transactions (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
      line INTEGER NOT NULL, account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE RESTRICT, amount INTEGER NOT NULL CHECK (amount <> 0),
      memo TEXT, reconciled TEXT NOT NULL DEFAULT 'n' CHECK (reconciled IN ('n', 'c', 'y')), PRIMARY KEY (transaction_id, line)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE receipts (
      id TEXT PRIMARY KEY, transaction_id INTEGER NOT NULL, line INTEGER, image BLOB,
      FOREIGN KEY (transaction_id, line) REFERENCES splits (transaction_id, line) ON DELETE CASCADE
    ) STRICT;
    CREATE TABLE prices (
      base TEXT NOT NULL REFERENCES currencies (code) ON DELETE CASCADE ON UPDATE CASCADE,
      quote TEXT NOT NULL REFERENCES currencies (code) ON DELETE CASCADE ON UPDATE CASCADE, day TEXT NOT NULL, rate REAL NOT NULL,
      PRIMARY KEY (base, quote, day)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE budgets (year INTEGER, month INTEGER CHECK (month BETWEEN 1 AND 12), note TEXT, PRIMARY KEY (year, month)) STRICT;
    CREATE TABLE budget_lines (
      year INTEGER NOT NULL, month INTEGER NOT NULL, category_id INTEGER NOT NULL REFERENCES categories (id) ON DELETE CASCADE,
      planned INTEGER NOT NULL DEFAULT (10 * 100), PRIMARY KEY (year, month, category_id),
      FOREIGN KEY (year, month) REFERENCES budgets (year, month) ON DELETE CASCADE ON UPDATE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE recurring (
      id INTEGER PRIMARY KEY, year INTEGER, month INTEGER, what TEXT NOT NULL,
      FOREIGN KEY (year, month) REFERENCES budgets (year, month) ON DELETE SET NULL ON UPDATE CASCADE
    ) STRICT;
    CREATE VIEW balances AS SELECT a.name AS name, a.currency AS currency, total(s.amount) AS balance FROM accounts a
      LEFT JOIN splits s ON s.account_id = a.id GROUP BY a.id;`,
  config: { tables: { payees: { identity: 'name' }, categories: { identity: 'name' } } },

  fill: (chance, who) =>
    [
      inserts(
        'currencies',
        CURRENCIES.map((code) => ({ code, fraction: code === 'JPY' ? 1 : 100 })),
      ),
      rows('accounts', 10, (n) => ({
        id: n,
        name: `${chance.name()} ${who}${n}`,
        type: chance.pick(['asset', 'expense', 'income']),
        currency: chance.pick(CURRENCIES),
        parent_id: n < 4 ? null : chance.between(1, n - 1),
        is_default: 0,
      })),
      rows('categories', 6, (n) => ({
        id: n,
        name: n < 4 ? ['Food', 'Rent', 'Fun'][n - 1] : `${chance.word()} ${who}${n}`,
        limit: chance.pick([null, 5_000]),
      })),
      rows('payees', 8, (n) => ({
        id: n,
        name: `${chance.title(2)} ${who}${n}`,
        category_id: chance.happens(0.3) ? null : chance.between(1, 6),
      })),
      rows('transactions', 25, (n) => ({
        id: n,
        posted: chance.date().slice(0, 10),
        num: chance.happens(0.5) ? null : String(n),
        description: chance.title(4),
        payee_id: chance.happens(0.3) ? null : chance.between(1, 8),
        check: chance.happens(0.2) ? chance.blob(11) : null,
      })),
      inserts(
        'splits',
        Array.from({ length: 25 }, (_, i) => [chance.between(1, 99_999), i + 1] as const).flatMap(
          ([amount, transaction_id]) => [
            { transaction_id, line: 1, account_id: chance.between(1, 10), amount },
            { transaction_id, line: 2, account_id: chance.between(1, 10), amount: -amount },
          ],
        ),
      ),
      rows('receipts', 8, (n) => ({
        id: `${who}-${chance.hex(4)}`,
        transaction_id: n,
        line: chance.pick([1, 2, null]),
        image: chance.blob(20),
      })),
      inserts(
        'prices',
        chance.pairs(14, 6, 9).map(([pair, day]) => ({
          base: CURRENCIES[pair % 3],
          quote: CURRENCIES[(pair + 1 + (pair % 2)) % 3],
          day: `2025-0${day}-01`,
          rate: chance.number() * 150,
        })),
      ).replace('INSERT INTO', 'INSERT OR IGNORE INTO'),
      rows('budgets', 4, (n) => ({ year: 2025, month: n, note: chance.title() })),
      inserts(
        'budget_lines',
        chance
          .pairs(14, 4, 6)
          .map(([month, category_id]) => ({ year: 2025, month, category_id, planned: chance.between(1, 900) })),
      ),
      rows('recurring', 4, (n) => ({ id: n, year: 2025, month: n, what: chance.title(2) })),
    ].join(''),

  scripts: [
    {
      does: 'enters a transaction, its lines before it',
      run(hand) {
        const next = hand.one('SELECT max(id) + 1 FROM transactions') ?? 1;
        const amount = hand.chance.between(1, 1e6);
        for (const [line, value] of [
          [1, amount],
          [2, -amount],
        ]) {
          const account = hand.one('SELECT id FROM accounts');
          hand.run(
            'INSERT INTO splits (transaction_id, line, account_id, amount) VALUES (?, ?, ?, ?)',
            next,
            line,
            account,
            value,
          );
        }
        hand.run(
          'INSERT INTO transactions (id, description, payee_id) VALUES (?, ?, ?)',
          next,
          hand.fresh(),
          hand.one('SELECT id FROM payees'),
        );
      },
    },
    {
      does: 'corrects an amount on both sides',
      run: (hand) =>
        hand.run(
          'UPDATE splits SET amount = amount * 3 WHERE transaction_id = ?',
          hand.one('SELECT id FROM transactions'),
        ),
    },
    {
      does: 'reconciles an account',
      run: (hand) =>
        hand.run(
          "UPDATE splits SET reconciled = 'y', memo = ? WHERE account_id = ?",
          hand.fresh(),
          hand.one('SELECT id FROM accounts'),
        ),
    },
    {
      does: 'deletes a transaction with its lines and receipts',
      run: (hand) => hand.run('DELETE FROM transactions WHERE id = ?', hand.one('SELECT id FROM transactions')),
    },
    {
      does: 'attaches a receipt to a line',
      run(hand) {
        const split = hand.one('SELECT transaction_id FROM splits');
        hand.run(
          'INSERT INTO receipts (id, transaction_id, line, image) VALUES (?, ?, 1, ?)',
          hand.fresh(),
          split,
          hand.chance.blob(900),
        );
      },
    },
    {
      does: 'notes the rates of a day that others may note as well',
      run: (hand) =>
        hand.run(
          'INSERT INTO prices (base, quote, day, rate) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET rate = excluded.rate',
          hand.chance.pick(CURRENCIES),
          'EUR',
          `2026-01-0${hand.chance.between(1, 3)}`,
          hand.chance.number(),
        ),
    },
    {
      does: 'plans a month',
      run(hand) {
        const month = hand.chance.between(1, 12);
        hand.run('INSERT OR IGNORE INTO budgets (year, month, note) VALUES (2026, ?, ?)', month, hand.fresh());
        hand.run(
          'INSERT OR REPLACE INTO budget_lines (year, month, category_id) VALUES (2026, ?, ?)',
          month,
          hand.one('SELECT id FROM categories'),
        );
      },
    },
    {
      does: 'drops the plan of a month',
      run: (hand) => hand.run('DELETE FROM budgets WHERE month = ?', hand.one('SELECT month FROM budgets')),
    },
    {
      does: 'deletes a category: its payees keep, its plans go',
      run: (hand) => hand.run('DELETE FROM categories WHERE id = ?', hand.one('SELECT id FROM categories')),
    },
    {
      does: 'renames a payee',
      run: (hand) =>
        hand.run('UPDATE payees SET name = ? WHERE id = ?', hand.fresh(), hand.one('SELECT id FROM payees')),
    },
    {
      does: 'makes an account the default of its currency',
      hard: true,
      run(hand) {
        const account = hand.one('SELECT id FROM accounts');
        hand.run(
          'UPDATE accounts SET is_default = 0 WHERE currency = (SELECT currency FROM accounts WHERE id = ?)',
          account,
        );
        hand.run('UPDATE accounts SET is_default = 1 WHERE id = ?', account);
      },
    },
    {
      does: 'closes an account that nothing here hangs on',
      hard: true,
      run: (hand) =>
        hand.run(
          'DELETE FROM accounts WHERE id = ?',
          hand.one(
            `SELECT id FROM accounts WHERE id NOT IN (SELECT account_id FROM splits)
             AND id NOT IN (SELECT parent_id FROM accounts WHERE parent_id IS NOT NULL)`,
          ),
        ),
    },
    {
      does: 'opens an account that others may open by the same name',
      hard: true,
      run: (hand) => hand.run('INSERT OR IGNORE INTO accounts (name) VALUES (?)', hand.chance.pick(['Cash', 'cash'])),
    },
    {
      does: 'moves a plan to another month, with its lines',
      hard: true,
      run: (hand) =>
        hand.run(
          'UPDATE OR IGNORE budgets SET month = ? WHERE month = ?',
          hand.chance.between(1, 12),
          hand.one('SELECT month FROM budgets'),
        ),
    },
    {
      does: 'gives up a currency: its accounts get the default one',
      hard: true,
      run: (hand) => hand.run("DELETE FROM currencies WHERE code <> 'EUR' AND code = ?", hand.chance.pick(CURRENCIES)),
    },
    {
      does: 'moves an account below another one',
      hard: true,
      run: (hand) =>
        hand.run(
          'UPDATE OR IGNORE accounts SET parent_id = ? WHERE id = ? AND id <> ?1',
          hand.one('SELECT id FROM accounts'),
          hand.one('SELECT id FROM accounts'),
        ),
    },
  ],
  shows: {
    balances: 'SELECT name, currency, balance FROM balances ORDER BY 1, 2',
    plans:
      'SELECT l.year, l.month, c.name, planned FROM budget_lines l JOIN categories c ON c.id = category_id ORDER BY 1, 2, 3',
  },
  strays: {},
  collisions: 'may wait',
};
