/**
 * Three copies of a schema from the wild, in one thread, from one seed. Each has rows from before sync. In each round, every
 * copy is edited at once, by what the program's users do and by random edits; then they exchange in random order, passes cut
 * off and repeated, until nothing changes.
 */
import Sqlite from 'better-sqlite3';
import type { Database } from 'better-sqlite3';
import { expect } from 'vitest';

import type { Hand, Script, WildSchema } from '../conformance/schemas/schema.ts';
import { Chance } from './chance.ts';
import { contentsOf } from './contents.ts';
import { Editor } from './editor.ts';
import { expectEqual } from './engine.ts';
import { type Facts, readFacts } from './facts.ts';
import { converge, Replica } from './replica.ts';
import { type Edited, editedCopy, losses, type Versions, versionsOf } from './survivors.ts';

/** Edits of each kind on each copy in a round. */
const SCRIPTS = 8;
const RANDOM_EDITS = 12;
/** Passes in random order before the copies exchange until they rest. */
const PASSES = 5;

export interface WildOptions {
  readonly seed: number;
  /** Whether edits may collide, forbid each other, and close circles. */
  readonly bold: boolean;
  readonly rounds: number;
}

export class WildFleet {
  readonly schema: WildSchema;
  readonly copies: readonly Replica[];
  readonly facts: Facts;
  /** Edits that a constraint refused, and those that stood. */
  refused = 0;
  done = 0;
  /** Versions that wait, in all copies, at the end of the last round. */
  waiting = 0;
  readonly #chance: Chance;
  readonly #options: WildOptions;
  readonly #editors: readonly Editor[];
  #fresh = 0;

  constructor(schema: WildSchema, options: WildOptions) {
    this.schema = schema;
    this.#options = options;
    this.#chance = new Chance(options.seed);
    this.copies = ['A', 'B', 'C'].map((device) => newCopy(schema, device, this.#chance));
    this.facts = readFacts(this.#copy(0).db, leftOut(schema));
    const config = Object.entries(schema.config?.tables ?? {});
    const identities = new Map(config.map(([name, { identity }]) => [name, [identity ?? []].flat()] as const));
    this.#editors = this.copies.map(
      (copy, i) =>
        new Editor({
          db: copy.db,
          facts: this.facts,
          chance: this.#chance,
          bold: options.bold,
          identities: new Map([...identities].filter(([, columns]) => columns.length > 0)),
          owned: config.filter(([, { ownership }]) => ownership === 'device').map(([name]) => name),
          fresh: () => this.#freshText(i),
          freshNumber: () => 1_000_000 + (this.#fresh += 1) * 10 + i,
        }),
    );
  }

  /** Brings the copies together for the first time, and plays all rounds. */
  async play(): Promise<void> {
    converge(this.copies);
    await this.expectRest();
    for (let round = 0; round < this.#options.rounds; round += 1) {
      const base = this.copies.map(versionsOf);
      const waited = this.copies.flatMap(held);
      for (const i of this.copies.keys()) this.#edit(i);
      const edited = this.copies.map(editedCopy);
      this.#exchange();
      converge(this.copies, this.#chance.pick([7, 1000]));
      await this.expectRest();
      this.#expectNothingLost(base, edited, waited);
    }
  }

  close(): void {
    for (const { db } of this.copies) db.close();
  }

  /** Everything that must hold once the copies are quiet. */
  async expectRest(): Promise<void> {
    const where = `seed ${this.#options.seed}`;
    const waiting = this.copies.map((copy) =>
      copy
        .rows('SELECT tbl, reason, detail FROM flotilla_pending ORDER BY uuid')
        .map(([tbl, ...rest]) => [this.#table(copy, tbl), ...rest].join(': ')),
    );
    this.waiting = waiting.flat().length;
    const mayWait = this.#options.bold && this.schema.collisions === 'may wait';
    if (!mayWait) expect(waiting, `${where}: nothing may wait`).toEqual(waiting.map(() => []));
    await expectEqual(...this.copies);
    for (const copy of this.copies) {
      for (const [what, sql] of Object.entries(this.schema.strays))
        expect(copy.rows(sql), `${where}: ${what} on ${copy.device}`).toEqual([]);
      for (const sql of this.schema.checks ?? []) copy.db.exec(sql);
    }
    // What waits is in no table yet, so only copies without it show the same.
    if (this.waiting > 0) return;
    const [first, ...others] = this.copies.map((copy) => shownBy(this.schema, copy.db, this.facts));
    for (const other of others) expect(other, where).toEqual(first);
  }

  #expectNothingLost(base: readonly Versions[], edited: readonly Edited[], waited: readonly string[]): void {
    for (const copy of this.copies) {
      const waiting = new Set([...waited, ...held(copy)]);
      const found = losses({ base, edited, end: versionsOf(copy), waiting });
      expect(found, `seed ${this.#options.seed}, on ${copy.device}`).toEqual([]);
    }
  }

  // -- edits

  #edit(i: number): void {
    const copy = this.#copy(i);
    const scripts = this.schema.scripts.filter(({ hard }) => this.#options.bold || hard !== true);
    const edits = [
      ...Array.from({ length: SCRIPTS }, () => this.#chance.pick(scripts)).map(
        (script) => () => this.#script(script, i),
      ),
      ...Array.from({ length: RANDOM_EDITS }, () => () => this.#editors[i]?.edit()),
    ];
    for (const edit of this.#chance.shuffled(edits)) {
      try {
        copy.db.transaction(edit)();
        this.done += 1;
      } catch (error) {
        if (!isRefusal(error)) throw error;
        this.refused += 1;
      }
      if (this.#chance.happens(0.1)) copy.stamp();
    }
  }

  #script(script: Script, i: number): void {
    const { db, device } = this.#copy(i);
    playScript(script, db, { chance: this.#chance, who: device, fresh: () => this.#freshText(i) });
  }

  #freshText(i: number): string {
    return `${this.#copy(i).device}-${(this.#fresh += 1)}`;
  }

  // -- exchange

  #exchange(): void {
    for (let n = 0; n < PASSES; n += 1) {
      const [to, from] = this.#chance.shuffled(this.copies) as [Replica, Replica];
      const pass = to.passFrom(from);
      const pages = this.#chance.between(1, 6);
      for (let page = 0; page < pages; page += 1) {
        const data = pass.next(this.#chance.pick([3, 20, 300]));
        if (data === null) break;
        const applied = to.applier.apply(from.device, data);
        // Some pages come twice.
        if (this.#chance.happens(0.2)) to.applier.apply(from.device, data);
        if (applied.complete) break;
      }
      pass.close();
      if (this.#chance.happens(0.1)) to.restart();
    }
  }

  #copy(i: number): Replica {
    return this.copies[i] as Replica;
  }

  #table(copy: Replica, n: unknown): string {
    return String(copy.rows('SELECT name FROM flotilla_tables WHERE n = ?', n)[0]?.[0]);
  }
}

/** UUIDs of what waits in a copy. */
function held(copy: Replica): string[] {
  return copy.rows('SELECT hex(uuid) FROM flotilla_pending').map(String);
}

/** A copy with rows of its own from before. */
export function newCopy(schema: WildSchema, device: string, chance: Chance): Replica {
  const before = schema.fill(chance, device);
  return new Replica({
    device,
    ddl: schema.ddl,
    before,
    ...(schema.config === undefined ? {} : { config: schema.config }),
  });
}

/** The rows of a copy as the program has them before there is any sync. */
export function withoutSync(schema: WildSchema, seed: number): Database {
  const db = new Sqlite(':memory:');
  db.pragma('foreign_keys = ON');
  db.exec(schema.ddl);
  db.exec(schema.fill(new Chance(seed), 'A'));
  return db;
}

/** A constraint, or a trigger of the program's, has refused an edit: its program would say so and go on. */
function isRefusal(error: unknown): boolean {
  return error instanceof Sqlite.SqliteError && error.code.startsWith('SQLITE_CONSTRAINT');
}

/** Has a program do something to a database. */
function playScript(script: Script, db: Database, around: Pick<Hand, 'chance' | 'who' | 'fresh'>): void {
  try {
    script.run({
      ...around,
      one: (sql, ...params) => {
        const rows = db
          .prepare(sql)
          .pluck()
          .safeIntegers(true)
          .all(...params);
        return rows.length === 0 ? null : around.chance.pick(rows);
      },
      run(sql, ...params) {
        // better-sqlite3 takes parameters by name where a statement uses one of them twice.
        let n = 0;
        if (!/\?\d/.test(sql)) db.prepare(sql).run(...params);
        else
          db.prepare(sql.replaceAll(/\?(?!\d)/g, () => `?${(n += 1)}`)).run(
            Object.fromEntries(params.map((value, i) => [i + 1, value])),
          );
      },
    });
  } catch (error) {
    if (error instanceof Error && !isRefusal(error)) error.message = `${script.does}: ${error.message}`;
    throw error;
  }
}

/** How a program is played alone. */
export interface AloneOptions {
  readonly seed: number;
  /** @default 'A' */
  readonly who?: string;
  /** Whether it also does what may collide with what others do. @default true */
  readonly bold?: boolean;
  /** How often it does each of the things. @default 3 */
  readonly times?: number;
}

/** Has a program do all that it does, alone with its database. Returns how often it was not refused. */
export function playAlone(schema: WildSchema, db: Database, options: AloneOptions): number {
  const { seed, who = 'A', bold = true, times = 3 } = options;
  const chance = new Chance(seed);
  let done = 0;
  let fresh = 0;
  for (let n = 0; n < times; n += 1) {
    for (const script of schema.scripts.filter(({ hard }) => bold || hard !== true)) {
      try {
        const around = { chance, who, fresh: () => `${who}-new-${(fresh += 1)}` };
        db.transaction(() => playScript(script, db, around)).immediate();
        done += 1;
      } catch (error) {
        if (!isRefusal(error)) throw error;
      }
    }
  }
  return done;
}

/** Tables that the configuration leaves out. */
export function leftOut(schema: WildSchema): string[] {
  return Object.entries(schema.config?.tables ?? {}).flatMap(([name, { sync }]) => (sync === false ? [name] : []));
}

/** All that a copy shows of what syncs, in names: equal on all copies. */
export function shownBy(schema: WildSchema, db: Database, facts: Facts): Record<string, unknown> {
  const local = Object.entries(schema.config?.tables ?? {}).flatMap(([table, { localColumns }]) =>
    (localColumns ?? []).map((column) => `${table}.${column}`),
  );
  const views = Object.entries(schema.shows).map(([what, sql]) => [what, db.prepare(sql).raw().all()] as const);
  return { ...contentsOf(db, facts, local), ...Object.fromEntries(views) };
}
