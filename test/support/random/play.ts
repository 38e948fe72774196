/**
 * A random story, from one seed: a few copies of a library with a random schema, programs that write, passes that break, nodes
 * that are killed or restored, clocks that differ. In the end everybody hears of everything, and all that was promised is
 * looked at.
 */
import { decodeBatch } from '../../../src/protocol/batch.ts';
import { Replica, seededBytes } from '../replica.ts';
import { Chance } from './chance.ts';
import type { Copy } from './exchange.ts';
import { Exchange } from './exchange.ts';
import type { Named } from './naming.ts';
import { Naming, tokensOf } from './naming.ts';
import type { Effects, Known } from './oracle.ts';
import { Oracle } from './oracle.ts';
import type { Schema, Table, Traits } from './schema.ts';
import { quote, randomSchema, sqlOf } from './schema.ts';
import { differences, rowsOf, tableOf, takeSnapshot } from './snapshot.ts';
import { Writer, whereKey } from './writer.ts';

const YEAR_MS = 365 * 86_400_000;

/** What stories are told of, each with expectations of its own. */
export const KINDS = ['easy', 'owned', 'restored', 'careless', 'hard'] as const;
export type Kind = (typeof KINDS)[number];

/** What this release does not do yet: expectations rise when it does. */
export const RELEASE = {
  /** Every value that was discarded unseen is in a record somewhere. */
  records: true,
  /** Tables WITHOUT ROWID sync, and those with columns that are named like the rowid. */
  withoutRowid: true,
} as const;

export type Fault = 'diverged' | 'violation' | 'lost';

export class StoryError extends Error {
  readonly fault: Fault;
  readonly seed: number;

  constructor(fault: Fault, seed: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.fault = fault;
    this.seed = seed;
  }
}

export interface StoryOptions {
  readonly kind: Kind;
  /** What happens, one thing after the other. @default 60 */
  readonly steps?: number;
  /** Steps that are left out: the others stay as they are, so that a story can be made short. */
  readonly without?: ReadonlySet<number>;
  /** Now and then a clock is a year ahead while something is written, and is set right then. @default false */
  readonly wrongClocks?: boolean;
}

export interface Told {
  /** Statements that programs ran, and pages that were applied. */
  readonly operations: number;
  /** Values that were followed to the end. */
  readonly tokens: number;
}

/** Plays one seed to its end; throws a {@link StoryError} that tells the whole story. */
export async function playStory(seed: number, options: StoryOptions): Promise<Told> {
  const story = new Story(seed, options);
  try {
    story.begin();
    story.play();
    await story.rest();
    return story.told;
  } catch (error) {
    const fault = error instanceof Wrong ? error.fault : 'violation';
    const what = error instanceof Wrong ? error.message : (error as Error).stack;
    const text = `${options.kind} story of seed ${seed}: ${what}\n\n${story.ddl}\n\n${story.trace.join('\n')}`;
    throw new StoryError(fault, seed, text, { cause: error });
  } finally {
    story.close();
  }
}

class Wrong extends Error {
  readonly fault: Fault;

  constructor(fault: Fault, message: string) {
    super(message);
    this.fault = fault;
  }
}

interface Backup {
  readonly file: Buffer;
  readonly known: Known;
}

class Story {
  readonly trace: string[] = [];
  readonly #options: StoryOptions;
  readonly #seed: number;
  readonly #chance: Chance;
  readonly #schema: Schema;
  readonly #copies: Copy[] = [];
  readonly #backups: Backup[][] = [];
  readonly #skews: number[] = [];
  readonly #naming = new Naming();
  readonly #oracle = new Oracle();
  readonly #exchange: Exchange;
  #time = Date.UTC(2026, 0, 1);
  #statements = 0;
  #checks = 0;
  #incarnations = 0;

  constructor(seed: number, options: StoryOptions) {
    this.#seed = seed;
    this.#options = options;
    this.#chance = new Chance(seed);
    this.#schema = randomSchema(new Chance(this.#chance.fork()), traitsOf(options.kind, this.#chance));
    const count = this.#chance.between(3, 4);
    const isChain = this.#chance.is(0.4);
    this.#exchange = new Exchange({
      copies: this.#copies,
      isLinked: (to, from) => isLinked(to, from, count, isChain),
      onApplied: (to, words) => {
        if (words !== '') this.trace.push(`${to} ${words}`);
        this.#check(to);
      },
    });
    for (let i = 0; i < count; i += 1) {
      this.#skews.push(this.#chance.below(240_000) - 120_000);
      this.#backups.push([]);
    }
    this.#isLinked = (to, from) => isLinked(to, from, count, isChain);
  }

  readonly #isLinked: (to: number, from: number) => boolean;

  /** The tables that the story is about, and those that they refer to. */
  get ddl(): string {
    const named = new Set<Table>();
    const add = (table: Table): void => {
      if (named.has(table)) return;
      named.add(table);
      for (const key of table.foreignKeys) add(tableOf(this.#schema, key.table));
    };
    for (const table of this.#schema.tables)
      if (
        this.trace.some((line) =>
          new RegExp(`(?:INTO|UPDATE|FROM|IGNORE|REPLACE) ${escape(quote(table.name))} `).test(`${line} `),
        )
      )
        add(table);
    const ddl = this.#schema.tables.filter((table) => named.has(table)).map(sqlOf);
    return `${ddl.join('\n')}\n-- ${JSON.stringify(this.#schema.config)}`;
  }

  get told(): Told {
    return { operations: this.#statements + this.#exchange.pages, tokens: this.#oracle.tokens };
  }

  begin(): void {
    for (const [i, skew] of this.#skews.entries()) {
      this.#skews[i] = skew;
      this.#copies.push({ replica: this.#newReplica(i), writer: `device-${i}`, known: new Map() });
    }
  }

  #newReplica(i: number): Replica {
    return new Replica({
      device: `device-${i}`,
      ddl: this.#schema.ddl,
      config: this.#schema.config,
      now: () => (this.#time += 1) + (this.#skews[i] ?? 0),
      randomBytes: seededBytes(this.#seed * 16 + i),
    });
  }

  play(): void {
    const seeds = Array.from({ length: this.#options.steps ?? 60 }, () => this.#chance.fork());
    for (const [step, seed] of seeds.entries())
      if (this.#options.without?.has(step) !== true) this.#step(step, new Chance(seed));
  }

  #step(step: number, chance: Chance): void {
    this.#time += chance.is(0.3) ? chance.below(20_000) : chance.below(3);
    const copy = chance.below(this.#copies.length);
    const happen = chance.weighted<() => void>([
      [45, () => this.#writeByAnyClock(copy, chance, `t${step}`)],
      [40, () => this.#exchange.step(chance)],
      [5, () => this.#exchange.again(chance)],
      [3, () => this.#restart(copy, chance)],
      [3, () => this.#backUp(copy)],
      [2, () => this.#shiftClock(copy, chance)],
      [this.#options.kind === 'restored' ? 3 : 0, () => this.#restore(copy, chance)],
    ]);
    happen();
  }

  // -- what happens

  #writeByAnyClock(index: number, chance: Chance, prefix: string): void {
    if (this.#options.wrongClocks !== true || !chance.is(0.25)) return this.#write(index, chance, prefix);
    const { replica } = this.#copy(index);
    const skew = this.#skews[index] ?? 0;
    replica.stamp();
    this.#skews[index] = skew + YEAR_MS;
    for (const part of ['', 'w']) {
      this.#write(index, chance, prefix + part);
      replica.stamp();
    }
    this.#skews[index] = skew;
    // As a node does: every session begins anew.
    this.#exchange.close(index);
    const done = replica.served.stampAnew();
    replica.look();
    this.trace.push(
      `${index}: its clock was a year ahead until here, and ${done?.stamps ?? 'no'} stamps were given anew`,
    );
  }

  #write(index: number, chance: Chance, prefix: string): void {
    const copy = this.#copy(index);
    const { db } = copy.replica;
    const isHard = this.#options.kind === 'hard';
    const writer = new Writer(chance, this.#schema, { isHard }, prefix);
    const isCareless = this.#options.kind === 'careless' && chance.is(0.3);
    if (isCareless) {
      db.pragma('foreign_keys = OFF');
      this.trace.push(`${index}: foreign_keys off`);
    }
    try {
      if (chance.is(0.5)) this.#transaction(index, chance, writer);
      else for (let i = chance.between(1, 3); i > 0; i -= 1) this.#statements_(index, writer, []);
    } finally {
      if (db.inTransaction) this.#run(index, 'ROLLBACK');
      db.pragma('foreign_keys = ON');
    }
    if (chance.is(0.3)) copy.replica.stamp();
    this.#check(index);
  }

  #transaction(index: number, chance: Chance, writer: Writer): void {
    const effects: Effects[] = [];
    this.#run(index, chance.pick(['BEGIN', 'BEGIN IMMEDIATE']));
    for (let i = chance.between(1, 5); i > 0; i -= 1) {
      if (!chance.is(0.15)) {
        this.#statements_(index, writer, effects);
        continue;
      }
      const before = effects.length;
      this.#run(index, 'SAVEPOINT some');
      this.#statements_(index, writer, effects);
      if (chance.is(0.6)) {
        this.#run(index, 'ROLLBACK TO some');
        effects.length = before;
      }
      this.#run(index, 'RELEASE some');
    }
    if (chance.is(0.1)) {
      this.#run(index, 'ROLLBACK');
      return;
    }
    if (this.#run(index, 'COMMIT')) this.#oracle.commit(effects);
  }

  /** What the writer thinks of next. Outside of a transaction each statement is one. */
  #statements_(index: number, writer: Writer, effects: Effects[]): void {
    const copy = this.#copy(index);
    const isAlone = !copy.replica.db.inTransaction;
    for (const sql of writer.next(takeSnapshot(copy.replica.db, this.#schema))) {
      const before = this.#named(index);
      if (!this.#run(index, sql)) return;
      const number = this.#statements;
      copy.known.set(copy.writer, number);
      const done = this.#oracle.compare(
        copy.writer,
        number,
        new Map(copy.known),
        before,
        this.#named(index, before),
        this.#replacedBy(sql),
      );
      if (isAlone) this.#oracle.commit([done]);
      else effects.push(done);
    }
  }

  /** The table into which a statement is a REPLACE. */
  #replacedBy(sql: string): string | null {
    const match = /^(?:REPLACE|INSERT OR REPLACE) INTO (.*)$/s.exec(sql);
    return this.#schema.tables.find(({ name }) => match?.[1]?.startsWith(`${quote(name)} (`) === true)?.name ?? null;
  }

  #named(index: number, before: Named | null = null): Named {
    return this.#naming.name(takeSnapshot(this.#copy(index).replica.db, this.#schema), before);
  }

  /** @returns whether the tables took it */
  #run(index: number, sql: string): boolean {
    this.#statements += 1;
    try {
      const takesCare = this.#options.kind !== 'careless';
      if (takesCare && sql === 'COMMIT' && this.#dangling(index) > 0) throw new Error('it leaves a reference dangling');
      if (takesCare && /\bREPLACE (?:INTO )?/.test(sql)) this.#replaceWhole(index, sql);
      else this.#copy(index).replica.db.exec(sql);
      this.trace.push(`${index}: ${sql};`);
      return true;
    } catch (error) {
      this.trace.push(`${index}: ${sql}; -- refused: ${String(error)}`);
      return false;
    }
  }

  /**
   * SQLite does not look again at a reference of the row that a REPLACE writes, when what it evicts takes the target along: it is left
   * dangling, with or without us. A program that takes care takes that back. (So it does at the commit: where such a row has a deferred
   * reference to its own table, SQLite lets that pass as well.)
   */
  #replaceWhole(index: number, sql: string): void {
    const { db } = this.#copy(index).replica;
    const before = this.#dangling(index);
    db.exec('SAVEPOINT replacing');
    try {
      db.exec(sql);
      if (this.#dangling(index) > before) throw new Error('it leaves a reference dangling');
    } catch (error) {
      if (db.inTransaction) db.exec('ROLLBACK TO replacing');
      throw error;
    } finally {
      if (db.inTransaction) db.exec('RELEASE replacing');
    }
  }

  #dangling(index: number): number {
    return (this.#copy(index).replica.db.pragma('foreign_key_check') as unknown[]).length;
  }

  /** Killed between two transactions, or stopped: it goes on from the file, as another run. */
  #restart(index: number, chance: Chance): void {
    const copy = this.#copy(index);
    this.#exchange.close(index);
    if (chance.is(0.5)) {
      this.trace.push(`${index}: restarts`);
      copy.replica.restart();
    } else {
      this.trace.push(`${index}: is killed, and begins again from its file`);
      this.#reopen(index, copy.replica.backup());
    }
  }

  #reopen(index: number, file: Buffer): void {
    const copy = this.#copy(index);
    const old = copy.replica;
    copy.replica = old.restored(file);
    old.db.close();
  }

  #backUp(index: number): void {
    const copy = this.#copy(index);
    this.trace.push(`${index}: is backed up`);
    // A row that is in the backup without an identity gets another one from each copy: nothing is lost, but it is there twice.
    copy.replica.stamp();
    this.#backups[index]?.push({ file: copy.replica.backup(), known: new Map(copy.known) });
  }

  #restore(index: number, chance: Chance): void {
    const backup = chance.pickOr(this.#backups[index] ?? [], null);
    if (backup === null) return;
    const copy = this.#copy(index);
    this.trace.push(`${index}: is restored`);
    this.#exchange.forget(index);
    const before = this.#present();
    this.#reopen(index, backup.file);
    copy.writer = `device-${index}-${(this.#incarnations += 1)}`;
    copy.known = new Map(backup.known);
    this.#oracle.lose(before, this.#present());
  }

  #shiftClock(index: number, chance: Chance): void {
    this.#skews[index] = chance.below(240_000) - 120_000;
    this.trace.push(`${index}: its clock is ${this.#skews[index]} ms off`);
  }

  // -- what must hold

  #check(index: number, thoroughly = false): void {
    const { db, device } = this.#copy(index).replica;
    if (this.#options.kind !== 'careless') {
      const violations = db.pragma('foreign_key_check') as unknown[];
      if (violations.length > 0) throw new Wrong('violation', `${device}: ${JSON.stringify(violations)}`);
    }
    this.#checks += 1;
    if (!thoroughly && this.#checks % 16 !== 0) return;
    const integrity = db.pragma('integrity_check', { simple: true });
    if (integrity !== 'ok') throw new Wrong('violation', `${device}: ${String(integrity)}`);
  }

  /** Full exchange until nothing moves, then all that was promised. */
  async rest(): Promise<void> {
    this.trace.push('-- rest');
    for (const [index] of this.#copies.entries()) this.#exchange.close(index);
    this.#settle();
    if (this.#options.kind === 'careless') {
      for (const [index] of this.#copies.entries()) this.#mend(index);
      this.#settle();
    }
    await this.#compare();
    const wrong = this.#oracle.judge({
      present: this.#present(),
      // What a device recorded goes with it when it is restored; and what a writer without foreign keys leaves is made whole by deletes.
      recorded: RELEASE.records && RECORDED.has(this.#options.kind) ? this.#recorded() : null,
      mayReturn: this.#options.kind !== 'easy' && this.#options.kind !== 'owned',
    });
    if (wrong.length > 0) throw new Wrong('lost', wrong.join('\n'));
  }

  #settle(): void {
    for (let round = 0, quiet = 0; quiet < 2; round += 1) {
      if (round > MAX_ROUNDS) throw new Wrong('diverged', 'the copies do not come to rest');
      const heads = this.#heads();
      for (const [to] of this.#copies.entries()) {
        for (const [from] of this.#copies.entries())
          if (this.#isLinked(to, from)) this.#exchange.pull(to, from, 1 + this.#chance.below(30));
      }
      quiet = heads === this.#heads() ? quiet + 1 : 0;
    }
  }

  /** A person removes what refers to nothing, at last. */
  #mend(index: number): void {
    for (let again = true; again;) {
      again = false;
      const copy = this.#copy(index);
      for (const row of rowsOf(takeSnapshot(copy.replica.db, this.#schema)).filter(({ isDangling }) => isDangling)) {
        const before = this.#named(index);
        if (!this.#run(index, `DELETE FROM ${quote(row.table.name)} WHERE ${whereKey(row)}`)) continue;
        copy.known.set(copy.writer, this.#statements);
        this.#oracle.commit([
          this.#oracle.compare(copy.writer, this.#statements, new Map(copy.known), before, this.#named(index, before)),
        ]);
        again = true;
      }
    }
  }

  #heads(): string {
    return this.#copies.map(({ replica }) => replica.library.head).join(' ');
  }

  async #compare(): Promise<void> {
    const first = this.#copy(0).replica;
    const digest = JSON.stringify(await first.digest());
    const isHard = this.#options.kind === 'hard';
    for (const [index, { replica }] of this.#copies.entries()) {
      this.#check(index, true);
      if (!isHard) {
        const waiting = replica.rows('SELECT reason, detail FROM flotilla_pending');
        if (waiting.length > 0)
          throw new Wrong('diverged', `${replica.device} has rows waiting: ${JSON.stringify(waiting)}`);
        const different = differences(takeSnapshot(first.db, this.#schema), takeSnapshot(replica.db, this.#schema));
        if (different.length > 0)
          throw new Wrong('diverged', `${first.device} and ${replica.device} differ:\n${different.join('\n')}`);
      }
      const other = JSON.stringify(await replica.digest());
      if (other !== digest)
        throw new Wrong(
          'diverged',
          `the digests of ${first.device} and ${replica.device} differ:\n${digest}\n${other}`,
        );
    }
  }

  /** Tokens in any copy, in its tables or waiting. */
  #present(): Set<string> {
    const present = new Set<string>();
    for (const { replica } of this.#copies) {
      for (const row of rowsOf(takeSnapshot(replica.db, this.#schema)))
        for (const { token } of tokensOf(row)) present.add(token);
      for (const [version] of replica.rows('SELECT version FROM flotilla_pending WHERE version IS NOT NULL'))
        for (const token of waitingTexts(version as Uint8Array)) present.add(token);
    }
    return present;
  }

  /** Tokens in the records of what was discarded. */
  #recorded(): Set<string> {
    const recorded = new Set<string>();
    for (const { replica } of this.#copies) {
      for (const [column, lost] of replica.rows('SELECT col, lost FROM flotilla_conflicts WHERE lost IS NOT NULL'))
        for (const token of column === null ? waitingTexts(lost as Uint8Array) : [textOf(lost)]) recorded.add(token);
    }
    return recorded;
  }

  close(): void {
    for (const { replica } of this.#copies) replica.db.close();
  }

  #copy(index: number): Copy {
    return this.#copies[index] as Copy;
  }
}

/** Kinds of stories in which all that is discarded must be recorded. */
const RECORDED: ReadonlySet<string> = new Set(['easy', 'owned', 'hard']);

/** Rounds of full exchange after which copies that still move never come to rest. */
const MAX_ROUNDS = 40;

function escape(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, String.raw`\$&`);
}

function isLinked(to: number, from: number, count: number, isChain: boolean): boolean {
  return to !== from && !(isChain && Math.abs(to - from) === count - 1);
}

function traitsOf(kind: Kind, chance: Chance): Traits {
  return {
    isHard: kind === 'hard',
    isOwned: kind === 'owned' || (kind === 'hard' && chance.is(0.2)),
    hasWithoutRowid: RELEASE.withoutRowid,
  };
}

/** Texts and blobs of a version that waits: its tokens are among them. */
function waitingTexts(version: Uint8Array): string[] {
  return decodeBatch(version).tables.flatMap((table) =>
    table.columns.flatMap((column) => (column.kind === 'value' ? column.values.map(textOf) : [])),
  );
}

function textOf(value: unknown): string {
  return value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : String(value);
}
