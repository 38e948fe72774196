/** Every order of being away, deletes elsewhere, pruning, writing while away, and coming back, with a second absent member and a newcomer. */
import { describe, expect, it } from 'vitest';

import { expectEqual, fleetOf } from '../support/engine.ts';
import { FOUNDED_ID, Replica, converge } from '../support/replica.ts';
import { SnapshotFolder, bring } from '../support/snapshots.ts';

const DDL = `CREATE TABLE folders (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
  CREATE TABLE files (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, name TEXT, size INTEGER);
  CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT)`;

const RETENTION_MS = 31 * 86_400_000;

/** What happens while C and D are away. */
interface Story {
  readonly a: Replica;
  readonly b: Replica;
  readonly c: Replica;
  readonly d: Replica;
  readonly newcomers: Replica[];
  readonly now: () => number;
  readonly folder: SnapshotFolder;
}

const EVENTS: Readonly<Record<string, (story: Story) => void | Promise<void>>> = {
  'A deletes'({ a, b }) {
    a.write(
      "DELETE FROM folders WHERE name = 'gone'; DELETE FROM files WHERE name = 'deleted'; DELETE FROM tags WHERE name = 'dead'",
    );
    converge([a, b]);
  },
  'A prunes': ({ a }) => void a.prune(),
  'C writes'({ c }) {
    c.write(`
      UPDATE files SET size = 7 WHERE name = 'deleted';
      UPDATE files SET size = 8 WHERE name = 'kept';
      INSERT INTO files (folder_id, name) SELECT id, 'of C' FROM folders WHERE name = 'stays';
      INSERT INTO tags VALUES ('of C', 'c')`);
  },
  'D comes back'({ a, b, d }) {
    d.write("INSERT INTO tags VALUES ('of D', 'd')");
    converge([a, b, d]);
    b.prune();
  },
  async 'A lets a newcomer in'({ a, newcomers, now, folder }) {
    const newcomer = new Replica({ device: 'N', ddl: DDL, now, newcomer: true, libraryId: FOUNDED_ID });
    a.admit(newcomer);
    await bring(folder, a, newcomer);
    newcomers.push(newcomer);
  },
};

function ordersOf(names: readonly string[]): string[][] {
  if (names.length === 0) return [[]];
  return names.flatMap((name) => ordersOf(names.filter((other) => other !== name)).map((rest) => [name, ...rest]));
}

async function play(order: readonly string[], comesBackTo: 'A' | 'B' | 'newcomer'): Promise<void> {
  let time = Date.UTC(2026, 5, 1);
  const now = (): number => (time += 1);
  const [a, b, c, d] = fleetOf(4, DDL, { now, libraryId: FOUNDED_ID }) as [Replica, Replica, Replica, Replica];
  const folder = new SnapshotFolder();
  const story: Story = { a, b, c, d, newcomers: [], now, folder };
  try {
    a.found();
    for (const other of [b, c, d]) a.admit(other);
    a.write(`
      INSERT INTO folders VALUES (1, 'stays'), (2, 'gone');
      INSERT INTO files VALUES (1, 1, 'kept', 0), (2, 1, 'deleted', 0), (3, 2, 'in gone', 0);
      INSERT INTO tags VALUES ('dead', 'x')`);
    converge([a, b, c, d]);
    time += RETENTION_MS;
    for (const name of order) await EVENTS[name]?.(story);
    const [first = a] = comesBackTo === 'newcomer' ? story.newcomers : [comesBackTo === 'A' ? a : b];
    converge([c, first]);
    const all = [a, b, c, d, ...story.newcomers];
    converge(all);
    for (const replica of all) replica.prune();
    converge(all);
    await expectEqual(...all);
    for (const replica of all) {
      expect(replica.rows('SELECT name FROM folders')).toEqual([['stays']]);
      expect(replica.rows('SELECT name, size FROM files ORDER BY name')).toEqual([
        ['kept', 8],
        ['of C', null],
      ]);
      expect(replica.rows('SELECT name FROM tags ORDER BY name')).toEqual([['of C'], ['of D']]);
      expect(replica.waiting()).toEqual([]);
    }
    // What C wrote to a row that is gone is not lost without a word.
    expect(all.some((one) => one.rows('SELECT 1 FROM flotilla_conflicts').length > 0)).toBe(true);
  } finally {
    folder.remove();
  }
}

/** `FLOTILLA_ABSENCES=all` plays every order with each of the three; else every so many-th is played. */
const IS_WHOLE = process.env['FLOTILLA_ABSENCES'] === 'all';
const EVERY = 19;
/** ms that a story may take on a slow machine. */
const STORY_MS = 8_000;

const FIRST_MET = ['A', 'B', 'newcomer'] as const;
const STORIES = ordersOf(Object.keys(EVENTS)).flatMap((order) => FIRST_MET.map((first) => ({ order, first })));
const PLAYED = STORIES.filter((_, i) => IS_WHOLE || i % (EVERY * FIRST_MET.length) === (i % FIRST_MET.length) * EVERY);

describe('[F2] [F3] whoever was away and comes back', () => {
  it.each(FIRST_MET)(
    'to %s first: nothing is lost, and nothing comes back from the dead, whatever the order',
    { timeout: STORIES.length * STORY_MS },
    async (met) => {
      for (const { order, first } of PLAYED)
        if (first === met)
          await play(order, first).catch((error: unknown) => {
            throw new Error(`in the order: ${order.join(', ')}`, { cause: error });
          });
    },
  );
});
