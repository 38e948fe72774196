/**
 * A film rental: every table knows when it was last changed, by triggers that write into the row itself; stores and their
 * managers refer to each other; a search index over the films is kept by triggers; RESTRICT against CASCADE.
 */
import { inserts, rows } from '../../support/chance.ts';
import type { WildSchema } from './schema.ts';

const TOUCHED = ['actor', 'film', 'customer'];

export const filmRental: WildSchema = {
  name: 'a film rental',
  ddl: `
    CREATE TABLE actor (
      actor_id INTEGER PRIMARY KEY, first_name VARCHAR(45) NOT NULL, last_name VARCHAR(45) NOT NULL,
      last_update TIMESTAMP NOT NULL DEFAULT 'never'
    );
    CREATE TABLE language (language_id INTEGER PRIMARY KEY, name CHAR(20) NOT NULL UNIQUE);
    CREATE TABLE category (category_id INTEGER PRIMARY KEY, name VARCHAR(25) NOT NULL UNIQUE);
    CREATE TABLE film (
      film_id INTEGER PRIMARY KEY, title VARCHAR(255) NOT NULL, description BLOB SUB_TYPE TEXT, release_year VARCHAR(4),
      language_id SMALLINT NOT NULL REFERENCES language (language_id) ON DELETE RESTRICT ON UPDATE CASCADE,
      original_language_id SMALLINT REFERENCES language (language_id) ON DELETE SET NULL ON UPDATE CASCADE,
      rental_rate DECIMAL(4, 2) NOT NULL DEFAULT 4.99, rating VARCHAR(10) DEFAULT 'G', special_features VARCHAR(100),
      last_update TIMESTAMP NOT NULL DEFAULT 'never',
      CONSTRAINT check_rating CHECK (rating IN ('G', 'PG', 'R')),
      CONSTRAINT check_features CHECK (special_features IS NULL OR special_features LIKE '%Trailers%')
    );
    CREATE TABLE film_actor (
      actor_id INTEGER NOT NULL REFERENCES actor (actor_id) ON DELETE CASCADE ON UPDATE CASCADE,
      film_id INTEGER NOT NULL REFERENCES film (film_id) ON DELETE CASCADE ON UPDATE CASCADE, PRIMARY KEY (actor_id, film_id)
    );
    CREATE TABLE film_category (
      film_id INTEGER NOT NULL REFERENCES film (film_id) ON DELETE CASCADE,
      category_id INTEGER NOT NULL REFERENCES category (category_id) ON DELETE CASCADE, PRIMARY KEY (film_id, category_id)
    );
    CREATE TABLE store (
      store_id INTEGER PRIMARY KEY, town VARCHAR(50) NOT NULL,
      manager_staff_id INTEGER NOT NULL REFERENCES staff (staff_id) DEFERRABLE INITIALLY DEFERRED
    );
    CREATE TABLE staff (
      staff_id INTEGER PRIMARY KEY, name VARCHAR(45) NOT NULL, picture BLOB, active BOOLEAN NOT NULL DEFAULT TRUE,
      store_id INTEGER NOT NULL REFERENCES store (store_id) DEFERRABLE INITIALLY DEFERRED
    );
    CREATE TABLE customer (
      customer_id INTEGER PRIMARY KEY, store_id INTEGER NOT NULL REFERENCES store (store_id) ON DELETE RESTRICT,
      last_name VARCHAR(45) NOT NULL, email VARCHAR(50), active CHAR(1) DEFAULT 'Y' NOT NULL,
      last_update TIMESTAMP NOT NULL DEFAULT 'never'
    );
    CREATE TABLE inventory (
      inventory_id INTEGER PRIMARY KEY, film_id INTEGER NOT NULL REFERENCES film (film_id) ON DELETE CASCADE,
      store_id INTEGER NOT NULL REFERENCES store (store_id) ON DELETE CASCADE
    );
    CREATE TABLE rental (
      rental_id INTEGER PRIMARY KEY, rental_date TIMESTAMP NOT NULL, return_date TIMESTAMP,
      inventory_id INTEGER NOT NULL REFERENCES inventory (inventory_id) ON DELETE CASCADE,
      customer_id INTEGER NOT NULL REFERENCES customer (customer_id) ON DELETE CASCADE
    );
    CREATE TABLE payment (
      payment_id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customer (customer_id) ON DELETE CASCADE,
      rental_id INTEGER REFERENCES rental (rental_id) ON DELETE SET NULL, amount DECIMAL(5, 2) NOT NULL CHECK (amount >= 0)
    );
    CREATE TABLE film_text (film_id INTEGER PRIMARY KEY, title TEXT NOT NULL, words TEXT);
    CREATE INDEX idx_film_title ON film (title);
    CREATE INDEX idx_rental_customer ON rental (customer_id);
    ${TOUCHED.map(
      (table) => `
    CREATE TRIGGER ${table}_touched AFTER UPDATE ON ${table} WHEN OLD.last_update IS NEW.last_update BEGIN
      UPDATE ${table} SET last_update = 'changed ' || (1 + CAST(substr(last_update, 9) AS INTEGER)) WHERE rowid = NEW.rowid;
    END;`,
    ).join('')}
    CREATE TRIGGER film_text_insert AFTER INSERT ON film BEGIN
      INSERT INTO film_text (film_id, title, words) VALUES (NEW.film_id, NEW.title, lower(NEW.description));
    END;
    CREATE TRIGGER film_text_update AFTER UPDATE ON film BEGIN
      UPDATE film_text SET title = NEW.title, words = lower(NEW.description), film_id = NEW.film_id WHERE film_id = OLD.film_id;
    END;
    CREATE TRIGGER film_text_delete AFTER DELETE ON film BEGIN DELETE FROM film_text WHERE film_id = OLD.film_id; END;
    CREATE VIEW film_list AS
      SELECT f.title AS title, c.name AS category, a.last_name AS actor FROM film f
      LEFT JOIN film_category fc ON fc.film_id = f.film_id LEFT JOIN category c ON c.category_id = fc.category_id
      LEFT JOIN film_actor fa ON fa.film_id = f.film_id LEFT JOIN actor a ON a.actor_id = fa.actor_id;`,
  config: {
    tables: { film_text: { sync: false }, language: { identity: 'name' }, category: { identity: 'name' } },
  },

  fill: (chance, who) =>
    [
      rows('actor', 10, (n) => ({ actor_id: n, first_name: chance.name(), last_name: `${chance.name()} ${who}` })),
      inserts(
        'language',
        ['Ido', 'Latin', 'Sanskrit'].map((name, i) => ({ language_id: i + 1, name })),
      ),
      inserts(
        'category',
        ['Comedy', 'Noir', 'Travel'].map((name, i) => ({ category_id: i + 1, name })),
      ),
      rows('film', 16, (n) => ({
        film_id: n,
        title: `${chance.title(3)} ${who}`,
        description: chance.title(9),
        release_year: String(chance.between(1950, 2025)),
        language_id: chance.between(1, 3),
        original_language_id: chance.happens(0.6) ? null : chance.between(1, 3),
        rental_rate: chance.pick([0.99, 2.99, 4.99]),
        rating: chance.pick(['G', 'PG', 'R', null]),
        special_features: chance.pick([null, 'Trailers', 'Trailers,Scenes']),
      })),
      inserts(
        'film_actor',
        chance.pairs(30, 10, 16).map(([actor_id, film_id]) => ({ actor_id, film_id })),
      ),
      inserts(
        'film_category',
        chance.pairs(20, 16, 3).map(([film_id, category_id]) => ({ film_id, category_id })),
      ),
      // Each needs the other: the check is left to the commit.
      `BEGIN; INSERT INTO store (store_id, town, manager_staff_id) VALUES (1, 'Upper ${who}', 1), (2, 'Lower ${who}', 3);
       INSERT INTO staff (staff_id, name, store_id) VALUES (1, 'Ann ${who}', 1), (2, 'Bo ${who}', 1), (3, 'Cy ${who}', 2); COMMIT;\n`,
      rows('customer', 9, (n) => ({
        customer_id: n,
        store_id: chance.between(1, 2),
        last_name: chance.name(),
        email: `${chance.word()}@mail.example`,
        active: chance.pick(['Y', 'N']),
      })),
      rows('inventory', 24, (n) => ({
        inventory_id: n,
        film_id: chance.between(1, 16),
        store_id: chance.between(1, 2),
      })),
      rows('rental', 24, (n) => ({
        rental_id: n,
        rental_date: chance.date(),
        return_date: chance.happens(0.3) ? null : chance.date(),
        inventory_id: chance.between(1, 24),
        customer_id: chance.between(1, 9),
      })),
      rows('payment', 20, (n) => ({
        payment_id: n,
        customer_id: chance.between(1, 9),
        rental_id: chance.happens(0.2) ? null : chance.between(1, 24),
        amount: chance.pick([0, 2.99, 4.99, 11]),
      })),
    ].join(''),

  scripts: [
    {
      does: 'corrects the title and the description of a film',
      run: (hand) =>
        hand.run(
          'UPDATE film SET title = ?, description = ? WHERE film_id = ?',
          hand.fresh(),
          hand.fresh(),
          hand.one('SELECT film_id FROM film'),
        ),
    },
    {
      does: 'takes a film in, with actors and copies in a store',
      run(hand) {
        const language = hand.one('SELECT language_id FROM language');
        hand.run('INSERT INTO film (title, language_id) VALUES (?, ?)', hand.fresh(), language);
        hand.run(
          'INSERT INTO film_actor (actor_id, film_id) SELECT ?, max(film_id) FROM film',
          hand.one('SELECT actor_id FROM actor'),
        );
        hand.run(
          'INSERT INTO inventory (film_id, store_id) SELECT max(film_id), ? FROM film',
          hand.one('SELECT store_id FROM store'),
        );
      },
    },
    {
      does: 'rents a copy and takes the money',
      run(hand) {
        const customer = hand.one('SELECT customer_id FROM customer');
        const inventory = hand.one('SELECT inventory_id FROM inventory');
        hand.run(
          'INSERT INTO rental (rental_date, inventory_id, customer_id) VALUES (?, ?, ?)',
          hand.fresh(),
          inventory,
          customer,
        );
        hand.run(
          'INSERT INTO payment (customer_id, rental_id, amount) SELECT ?, max(rental_id), 3.5 FROM rental',
          customer,
        );
      },
    },
    {
      does: 'takes a copy back',
      run: (hand) =>
        hand.run(
          'UPDATE rental SET return_date = ? WHERE rental_id = ?',
          hand.fresh(),
          hand.one('SELECT rental_id FROM rental WHERE return_date IS NULL'),
        ),
    },
    {
      does: 'forgets old rentals, but not what was paid',
      run: (hand) => hand.run('DELETE FROM rental WHERE rental_id = ?', hand.one('SELECT rental_id FROM rental')),
    },
    {
      does: 'deletes a film with its copies and rentals',
      run: (hand) => hand.run('DELETE FROM film WHERE film_id = ?', hand.one('SELECT film_id FROM film')),
    },
    {
      does: 'opens a store with a manager of its own',
      run(hand) {
        hand.run(
          'INSERT INTO store (town, manager_staff_id) VALUES (?, (SELECT max(staff_id) + 1 FROM staff))',
          hand.fresh(),
        );
        hand.run('INSERT INTO staff (name, store_id) SELECT ?, max(store_id) FROM store', hand.fresh());
      },
    },
    {
      does: 'swaps the managers of two stores',
      run: (hand) =>
        hand.run(
          `UPDATE store SET manager_staff_id = (SELECT min(s.staff_id) FROM staff s WHERE s.store_id <> store.store_id)
           WHERE store_id = ?`,
          hand.one('SELECT store_id FROM store'),
        ),
    },
    {
      does: 'drops a language that no film here is in',
      hard: true,
      run: (hand) =>
        hand.run(
          'DELETE FROM language WHERE language_id = ?',
          hand.one('SELECT language_id FROM language WHERE language_id NOT IN (SELECT language_id FROM film)'),
        ),
    },
    {
      does: 'closes a store without customers and dismisses who works there',
      hard: true,
      run(hand) {
        const store = hand.one('SELECT store_id FROM store WHERE store_id NOT IN (SELECT store_id FROM customer)');
        hand.run('DELETE FROM staff WHERE store_id = ?', store);
        hand.run('DELETE FROM store WHERE store_id = ?', store);
      },
    },
  ],
  shows: {
    'films by category and actor': 'SELECT title, category, actor FROM film_list ORDER BY 1, 2, 3',
    'the search over films': 'SELECT title, words FROM film_text ORDER BY 1, 2',
  },
  strays: {
    'texts without their film': `SELECT title FROM film_text x WHERE NOT EXISTS (
      SELECT 1 FROM film f WHERE f.film_id = x.film_id AND f.title = x.title AND lower(f.description) IS x.words)`,
    'films without their text': 'SELECT title FROM film WHERE film_id NOT IN (SELECT film_id FROM film_text)',
  },
  collisions: 'may wait',
};
