/**
 * How copies hear of each other: passes that are opened, cut and begun again, pages that come late, twice, or never.
 */
import type { Database } from 'better-sqlite3';

import { exact } from '../contents.ts';
import type { Pass, Replica } from '../replica.ts';
import type { Chance } from './chance.ts';
import type { Known } from './oracle.ts';

/**
 * All that a file holds, its own and Flotilla's tables. Not its bytes: what stands in pages that are free may differ, since SQLite does
 * not bring back the contents of those.
 */
function dumpOf(db: Database): string {
  const tables = db.prepare(
    "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name",
  );
  return (tables.pluck().all() as string[])
    .map((name) => {
      const rows = db
        .prepare(`SELECT * FROM "${name.replaceAll('"', '""')}"`)
        .raw()
        .safeIntegers(true)
        .all() as unknown[][];
      return `${name}\n${rows.map((row) => row.map(exact).join()).join('\n')}`;
    })
    .join('\n\n');
}

/** A copy in the story. */
export interface Copy {
  replica: Replica;
  /** Who writes there: another one after a restore. */
  writer: string;
  known: Map<string, number>;
}

/** A page on its way, with what its sender knew when it was read. */
interface Letter {
  readonly to: number;
  readonly from: string;
  readonly page: Uint8Array;
  readonly known: Known;
  /** The page before it in its pass; it is not taken before that one. */
  readonly after: Letter | null;
  isTaken: boolean;
}

interface Link {
  readonly to: number;
  readonly from: number;
  readonly pass: Pass;
  last: Letter | null;
}

export interface ExchangeOptions {
  readonly copies: readonly Copy[];
  readonly isLinked: (to: number, from: number) => boolean;
  /** Called after each page that was applied. */
  readonly onApplied: (to: number, words: string) => void;
}

export class Exchange {
  readonly #options: ExchangeOptions;
  #open: Link[] = [];
  #letters: Letter[] = [];
  pages = 0;

  constructor(options: ExchangeOptions) {
    this.#options = options;
  }

  /** Some pages of some pass. */
  step(chance: Chance): void {
    const link = this.#link(chance);
    if (link === null) return;
    const size = chance.between(1, 7);
    const bytes = chance.is(0.1) ? 60 : 1 << 20;
    for (let pages = chance.between(1, 4); pages > 0; pages -= 1) {
      const letter = this.#write(link, size, bytes);
      if (letter === null) break;
      // It is still on its way when the connection breaks.
      if (chance.is(0.08)) {
        this.#end((other) => other === link);
        break;
      }
      if (chance.is(0.04)) this.#failOnce(letter);
      this.#take(letter, '');
    }
  }

  /** A page that was applied comes again, or one that was late arrives. */
  again(chance: Chance): void {
    const ready = this.#letters.filter((letter) => letter.after === null || letter.after.isTaken);
    if (ready.length > 0) {
      const letter = chance.pick(ready);
      this.#take(letter, letter.isTaken ? ', again' : ', late');
    }
  }

  /** A copy is closed: its passes end. */
  close(copy: number): void {
    this.#end((link) => link.to === copy || link.from === copy);
  }

  /** A copy was restored: what was on its way to it belongs to passes that it does not remember. */
  forget(copy: number): void {
    this.close(copy);
    this.#letters = this.#letters.filter((letter) => letter.to !== copy);
  }

  /** One complete pass. */
  pull(to: number, from: number, rows: number): void {
    const link = this.#begin(to, from);
    for (let letter = this.#write(link, rows, 1 << 20); letter !== null; letter = this.#write(link, rows, 1 << 20))
      if (this.#take(letter, '')) break;
    this.#end((other) => other === link);
  }

  #link(chance: Chance): Link | null {
    if (this.#open.length > 0 && chance.is(0.6)) return chance.pick(this.#open);
    const to = chance.below(this.#options.copies.length);
    const from = chance.below(this.#options.copies.length);
    return this.#options.isLinked(to, from) ? this.#begin(to, from) : null;
  }

  #begin(to: number, from: number): Link {
    this.#end((link) => link.to === to && link.from === from);
    const pass = this.#copy(to).replica.passFrom(this.#copy(from).replica);
    const link: Link = { to, from, pass, last: null };
    this.#open.push(link);
    return link;
  }

  #end(which: (link: Link) => boolean): void {
    for (const link of this.#open.filter(which)) link.pass.close();
    this.#open = this.#open.filter((link) => !which(link));
  }

  #write(link: Link, rows: number, bytes: number): Letter | null {
    const sender = this.#copy(link.from);
    const page = link.pass.next(rows, bytes);
    if (page === null) return null;
    const letter: Letter = {
      to: link.to,
      from: sender.replica.device,
      page,
      known: new Map(sender.known),
      after: link.last,
      isTaken: false,
    };
    link.last = letter;
    this.#letters.push(letter);
    if (this.#letters.length > MAX_LETTERS) this.#letters.shift();
    return letter;
  }

  /** @returns whether the pass is complete */
  #take(letter: Letter, words: string): boolean {
    const receiver = this.#copy(letter.to);
    const applied = receiver.replica.applier.apply(letter.from, letter.page);
    letter.isTaken = true;
    this.pages += 1;
    if (applied.complete) {
      for (const [writer, number] of letter.known)
        if (number > (receiver.known.get(writer) ?? 0)) receiver.known.set(writer, number);
    }
    const complete = applied.complete ? ', complete' : '';
    const isNews = applied.rows > 0 || words !== '';
    this.#options.onApplied(letter.to, isNews ? `<- ${letter.from}: ${applied.rows} rows${complete}${words}` : '');
    return applied.complete;
  }

  /** The disk is full, or the power goes, at the end of a transaction: nothing of it stays. */
  #failOnce(letter: Letter): void {
    const { applier, db } = this.#copy(letter.to).replica;
    const before = dumpOf(db);
    db.exec = (sql) => {
      if (sql === 'COMMIT') throw new Error(DISK_FULL);
      return Reflect.apply(Object.getPrototypeOf(db).exec, db, [sql]) as Database;
    };
    let thrown: unknown = new Error('a page was applied without a commit');
    try {
      applier.apply(letter.from, letter.page);
    } catch (error) {
      thrown = error;
    } finally {
      Reflect.deleteProperty(db, 'exec');
    }
    if (!String(thrown).includes(DISK_FULL)) throw thrown;
    if (dumpOf(db) !== before) throw new Error('a transaction that failed has left something');
  }

  #copy(index: number): Copy {
    return this.#options.copies[index] as Copy;
  }
}

const DISK_FULL = 'the disk is full';
/** Pages that are kept to come again. */
const MAX_LETTERS = 60;
