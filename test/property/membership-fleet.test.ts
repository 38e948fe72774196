/**
 * Random stories of a small fleet that lets devices in, removes them, leaves and comes back, with exchanges in between that refuse
 * whom they do not know as a member, and some that are cut in the middle. At rest, devices that talk to each other agree: on who is a
 * member, and on every row.
 */
import { describe, expect, it } from 'vitest';

import { FlotillaError } from '../../src/errors.ts';
import { Chance } from '../support/chance.ts';
import { expectEqual } from '../support/engine.ts';
import { FOUNDED_ID, Replica, seededBytes } from '../support/replica.ts';

const DDL = `CREATE TABLE folders (id INTEGER PRIMARY KEY, name TEXT);
  CREATE TABLE notes (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folders (id) ON DELETE CASCADE, body TEXT);`;
const DEVICES = 5;
const STEPS = 60;
const SEEDS = 15;
/** Rounds in which every pair exchanges until nothing moves any more. */
const MAX_ROUNDS = 30;

class Story {
  readonly trace: string[] = [];
  readonly #chance: Chance;
  #replicas: Replica[];
  #written = 0;

  constructor(seed: number) {
    this.#chance = new Chance(seed);
    let time = Date.UTC(2026, 0, 1);
    this.#replicas = Array.from({ length: DEVICES }, (_, i) => {
      const randomBytes = seededBytes(seed * DEVICES + i);
      const device = String.fromCodePoint(65 + i);
      return new Replica({ device, ddl: DDL, libraryId: FOUNDED_ID, randomBytes, now: () => (time += 1) });
    });
    this.#replicas[0]?.found();
  }

  play(): void {
    for (let step = 0; step < STEPS; step += 1) {
      const act = this.#chance.weighted([
        [6, () => this.#write()],
        [3, () => this.#invite()],
        [1, () => this.#revoke()],
        [9, () => this.#exchange()],
        [1, () => this.#restart()],
      ] as const);
      act();
    }
  }

  #write(): void {
    const one = this.#chance.pick(this.#replicas);
    this.#written += 1;
    const name = `'${one.device}${this.#written}'`;
    const sql = this.#chance.pick([
      `INSERT INTO folders (name) VALUES (${name})`,
      `INSERT INTO notes (folder_id, body) SELECT max(id), ${name} FROM folders`,
      `UPDATE notes SET folder_id = (SELECT min(id) FROM folders) WHERE id = (SELECT max(id) FROM notes)`,
      `UPDATE notes SET body = ${name} WHERE id = (SELECT min(id) FROM notes)`,
      'DELETE FROM folders WHERE id = (SELECT max(id) FROM folders)',
      'DELETE FROM notes WHERE id = (SELECT min(id) FROM notes)',
    ]);
    this.#note(`${one.device}: ${sql}`);
    one.write(sql);
  }

  #invite(): void {
    const [by, newcomer] = [this.#chance.pick(this.#replicas), this.#chance.pick(this.#replicas)];
    if (by === newcomer || !by.members().includes(by.device)) return;
    this.#note(`${by.device} lets ${newcomer.device} in`);
    by.admit(newcomer);
    // What joining gives it, rows as well.
    pullOrRefuse(newcomer, by);
  }

  #revoke(): void {
    const [by, other] = [this.#chance.pick(this.#replicas), this.#chance.pick(this.#replicas)];
    if (!by.members().includes(by.device) || !by.members().includes(other.device)) return;
    this.#note(`${by.device} removes ${other.device}`);
    by.revoke(other);
  }

  #restart(): void {
    this.#chance.pick(this.#replicas).restart();
  }

  #exchange(): void {
    const [to, from] = [this.#chance.pick(this.#replicas), this.#chance.pick(this.#replicas)];
    if (to === from || !meet(to, from)) return;
    const pages = this.#chance.below(4);
    this.#note(`${to.device} takes ${pages === 3 ? 'all' : `${pages} pages`} from ${from.device}`);
    if (pages === 3) to.pull(from);
    else this.#part(to, from, pages);
  }

  #part(to: Replica, from: Replica, pages: number): void {
    const pass = to.passFrom(from);
    for (let i = 0; i < pages; i += 1) {
      const page = pass.next(1);
      if (page !== null) to.apply(from.device, page);
    }
    pass.close();
  }

  /** Everybody exchanges with everybody who lets him, until nothing moves. */
  async rest(): Promise<number> {
    for (let round = 0; ; round += 1) {
      if (round === MAX_ROUNDS) throw new Error('the copies do not come to rest');
      const heads = this.#replicas.map(({ library }) => library.head).join();
      for (const to of this.#replicas)
        for (const from of this.#replicas) if (to !== from && meet(to, from)) pullOrRefuse(to, from);
      if (heads === this.#replicas.map(({ library }) => library.head).join()) break;
    }
    let pairs = 0;
    for (const one of this.#replicas) {
      const others = this.#replicas.filter((other) => other === one || meet(one, other));
      if (others.length === 1) continue;
      pairs += others.length - 1;
      expect(others.map((other) => standings(other))).toEqual(others.map(() => standings(one)));
      await expectEqual(...others);
    }
    return pairs;
  }

  #note(what: string): void {
    this.trace.push(what);
  }

  close(): void {
    for (const { db } of this.#replicas) db.close();
  }
}

/** Whether two nodes would have a session: each knows the other, and itself, as a member. */
function meet(one: Replica, other: Replica): boolean {
  return [one, other].every((copy) => [one, other].every(({ device }) => copy.members().includes(device)));
}

/** What is heard in an exchange may end it. */
function pullOrRefuse(to: Replica, from: Replica): void {
  try {
    to.pull(from, 2);
  } catch (error) {
    if (!(error instanceof FlotillaError) || error.code !== 'REVOKED') throw error;
  }
}

function standings(replica: Replica): unknown[][] {
  return replica.rows('SELECT device, name, term, invited_by, revoked_by FROM flotilla_members ORDER BY device');
}

describe('[P1] [P9] members that talk to each other agree', () => {
  it(`in ${SEEDS} random stories`, async () => {
    let pairs = 0;
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const story = new Story(seed);
      try {
        story.play();
        pairs += await story.rest();
      } catch (error) {
        throw new Error(`seed ${seed}: ${String(error)}\n${story.trace.join('\n')}`, { cause: error });
      } finally {
        story.close();
      }
    }
    expect(pairs).toBeGreaterThan(SEEDS);
  });
});
