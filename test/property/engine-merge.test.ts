/**
 * Merging as a property: whatever two programs wrote and whenever their feeds were read, a copy that takes the batches in
 * any order, any number of times, comes to the same database as one that takes each once and in order.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expectEqual, inTheMiddle, pagesFor } from '../support/engine.ts';
import { Replica, converge, seededBytes } from '../support/replica.ts';

const DDL = `
CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, color TEXT);
CREATE TABLE folders (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, name TEXT);
CREATE TABLE files (
  id INTEGER PRIMARY KEY, name TEXT,
  folder_id INTEGER NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
  cover_tag_id INTEGER REFERENCES tags (id) ON DELETE SET NULL
);
CREATE TABLE taggings (
  file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
  tag_id INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE, note TEXT, PRIMARY KEY (file_id, tag_id)
);`;
/** About 5 s on a quiet machine. */
const RUNS = 40;
/** ms. */
const TIMEOUT = 120_000;

const config = { tables: { tags: { identity: 'name' } } };

/** The id of one of the rows of a table, whichever `:x` or `:y` says; NULL when it has none. */
const one = (table: string, which: ':x' | ':y'): string =>
  `(SELECT id FROM ${table} ORDER BY id LIMIT 1 OFFSET ${which} % max(1, (SELECT count(*) FROM ${table})))`;

const STATEMENTS = [
  `INSERT INTO folders (parent_id, name) VALUES (CASE :y % 3 WHEN 0 THEN NULL ELSE ${one('folders', ':x')} END, :text)`,
  `UPDATE folders SET name = :text WHERE id = ${one('folders', ':x')}`,
  `DELETE FROM folders WHERE id = ${one('folders', ':x')} AND :y % 2 = 0`,
  `INSERT INTO files (folder_id, name) SELECT id, :text FROM folders WHERE id = ${one('folders', ':x')}`,
  `UPDATE files SET folder_id = ${one('folders', ':y')} WHERE id = ${one('files', ':x')}`,
  `UPDATE files SET name = :text, cover_tag_id = ${one('tags', ':y')} WHERE id = ${one('files', ':x')}`,
  `DELETE FROM files WHERE id = ${one('files', ':x')}`,
  `INSERT OR IGNORE INTO tags (name, color) VALUES ('tag ' || :x % 3, :text)`,
  `UPDATE tags SET color = :text WHERE id = ${one('tags', ':x')}`,
  `DELETE FROM tags WHERE id = ${one('tags', ':x')} AND :y % 2 = 0`,
  `INSERT OR REPLACE INTO taggings (file_id, tag_id, note)
   SELECT files.id, tags.id, :text FROM files, tags WHERE files.id = ${one('files', ':x')} AND tags.id = ${one('tags', ':y')}`,
  `DELETE FROM taggings WHERE file_id = ${one('files', ':x')}`,
] as const;

/** What happens on the two devices that write. */
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write'),
      by: fc.nat(1),
      sql: fc.constantFrom(...STATEMENTS),
      x: fc.nat(5),
      y: fc.nat(5),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('exchange'), by: fc.nat(1) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('read'), by: fc.nat(1), rows: fc.integer({ min: 1, max: 4 }) }),
  },
);

/** One fresh copy, made once as a file: most of the time would go into it. */
const files = new Map<string, Buffer>();
function fresh(device: string, clock: { now: number }, seed: number): Replica {
  const options = { device, ddl: DDL, config, now: () => (clock.now += 1), randomBytes: seededBytes(seed) };
  const file = files.get(device);
  if (file !== undefined) return new Replica(options, file);
  const made = new Replica(options);
  files.set(device, made.backup());
  return made;
}

describe('merging batches', () => {
  it('in any order and any number of times gives the same database', { timeout: TIMEOUT }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 10, maxLength: 40 }),
        fc.infiniteStream(fc.nat(1_000_000)),
        async (steps, dice) => {
          const clock = { now: Date.UTC(2026, 0, 1) };
          const writers = [fresh('A', clock, 1), fresh('B', clock, 2)] as const;
          const [inOrder, shuffled] = [fresh('C', clock, 3), fresh('D', clock, 4)] as const;
          const replicas = [...writers, inOrder, shuffled];
          try {
            // Read for a copy that has nothing, at several moments: the batches hold several versions of the same rows.
            const batches: Array<{ from: string; page: Uint8Array }> = [];
            const read = (from: Replica, rows: number): void =>
              pagesFor(inOrder, from, rows).forEach((page) =>
                batches.push({ from: from.device, page: inTheMiddle(page) }),
              );
            for (const [at, now] of steps.entries()) {
              const [writer, other] = now.by === 0 ? writers : [writers[1], writers[0]];
              if ('sql' in now) writer.db.prepare(now.sql).run({ x: now.x, y: now.y, text: `${now.by} at ${at}` });
              else if ('rows' in now) read(writer, now.rows);
              else writer.pull(other, 3);
            }
            for (const writer of writers) read(writer, 3);

            for (const { from, page } of batches) inOrder.applier.apply(from, page);
            const inSomeOrder = [...batches, ...batches]
              .map((batch) => ({ ...batch, at: dice.next().value as number }))
              .filter(({ at }, index) => index < batches.length || at % 2 === 0)
              .toSorted((one, two) => one.at - two.at);
            for (const { from, page } of inSomeOrder) {
              shuffled.applier.apply(from, page);
              expect(shuffled.violations()).toEqual([]);
            }
            // Before any pass was complete: the same versions are held, standing or waiting, and nothing was settled.
            await expectEqual(inOrder, shuffled);
            for (const { from, page } of inSomeOrder) expect(shuffled.applier.apply(from, page).changed).toBe(0);

            converge(replicas, 3);
            await expectEqual(...replicas);
            for (const replica of replicas) expect(replica.waiting()).toEqual([]);
          } finally {
            for (const replica of replicas) replica.db.close();
          }
        },
      ),
      { numRuns: RUNS },
    );
  });
});
