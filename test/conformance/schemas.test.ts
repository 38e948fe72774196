/**
 * Schemas that were not made for sync, as they are: what was there before is taken in, three copies are edited at once, and
 * come to the same. A failure prints its seed; `FLOTILLA_WILD_RUNS` raises the number of seeds, `FLOTILLA_WILD_SEED` is the first.
 */
import { describe, expect, it } from 'vitest';

import { Chance } from '../support/chance.ts';
import { contentsOf } from '../support/contents.ts';
import { readFacts } from '../support/facts.ts';
import { leftOut, newCopy, playAlone, WildFleet, withoutSync } from '../support/wild-fleet.ts';
import { WILD_SCHEMAS } from './schemas/all.ts';

const RUNS = Number(process.env['FLOTILLA_WILD_RUNS'] ?? 1);
const FIRST_SEED = Number(process.env['FLOTILLA_WILD_SEED'] ?? 1);
const SEEDS = Array.from({ length: RUNS }, (_, i) => FIRST_SEED + i);
const ROUNDS = 2;
/** ms for all seeds of a schema. */
const TIMEOUT = 60_000 + RUNS * 5_000;

describe.each(WILD_SCHEMAS)('$name', (schema) => {
  it('is taken as it is, with what was there', () => {
    const plain = withoutSync(schema, 1);
    const copy = newCopy(schema, 'A', new Chance(1));
    const facts = readFacts(plain);
    expect(contentsOf(copy.db, facts)).toEqual(contentsOf(plain, facts));
    // Every table syncs but those that were left out on purpose, and every row in them has an identity.
    const synced = [...facts.keys()].filter((name) => !leftOut(schema).includes(name));
    const { models } = copy.library.registry;
    expect(
      models
        .map(({ table }) => table)
        .filter((name) => !name.startsWith('flotilla_'))
        .toSorted(),
    ).toEqual(synced);
    for (const { table, n } of models) {
      const [[rows, known] = []] = copy.rows(
        `SELECT (SELECT count(*) FROM "${table}"), (SELECT count(*) FROM flotilla_rows_${n})`,
      );
      expect({ table, known }).toEqual({ table, known: rows });
      if (synced.includes(table)) expect(Number(rows), `${table} has rows`).toBeGreaterThan(0);
    }
    plain.close();
    copy.db.close();
  });

  it('is the same for its program with capture as without', () => {
    const plain = withoutSync(schema, 1);
    const copy = newCopy(schema, 'A', new Chance(1));
    const facts = readFacts(plain);
    const done = [plain, copy.db].map((db) => playAlone(schema, db, { seed: 5 }));
    expect(done[0]).toBeGreaterThan(schema.scripts.length);
    expect(done[1]).toBe(done[0]);
    // What SQLite makes up itself is another value each time.
    const seen = (db: typeof plain): unknown =>
      JSON.parse(JSON.stringify(contentsOf(db, facts)).replaceAll(/[0-9a-f]{32}|#[0-9a-f]{12}/g, '*')) as unknown;
    expect(seen(copy.db)).toEqual(seen(plain));
    plain.close();
    copy.db.close();
  });

  /** Plays a fleet to its end; throws what went wrong. */
  async function play(seed: number, bold: boolean): Promise<WildFleet> {
    const fleet = new WildFleet(schema, { seed, bold, rounds: ROUNDS });
    try {
      await fleet.play();
      // Refusals are part of it, but the rounds must be made of edits.
      expect(fleet.done).toBeGreaterThan(fleet.refused);
      return fleet;
    } finally {
      fleet.close();
    }
  }

  it.each(SEEDS)(
    'comes to the same on three copies that are edited at once (seed %i)',
    { timeout: TIMEOUT },
    async (seed) => {
      expect((await play(seed, false)).waiting).toBe(0);
    },
  );

  it.each(SEEDS)(
    'comes to rest, with nothing lost, after edits that collide (seed %i)',
    { timeout: TIMEOUT },
    async (seed) => {
      await play(seed, true);
    },
  );
});
