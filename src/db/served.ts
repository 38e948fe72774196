/**
 * A library that is being served, on the writing side: its state in memory, kept to the schema that the file has. Other
 * programs may change that at any moment; each transaction begins with a look at SQLite's own number of it.
 */
import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import { differenceInWords } from '../protocol/hlc.ts';
import type { SchemaDescription } from '../protocol/schema.ts';
import { beginStampingAnew, finishStampingAnew } from './anew.ts';
import type { StampedAnew } from './anew.ts';
import { Applier } from './apply.ts';
import type { OwnRequest, Owned, Taken } from './api.ts';
import { installCapture } from './capture.ts';
import { catchUp } from './catch-up.ts';
import type { Config } from './config.ts';
import { evolve } from './evolve.ts';
import { guardTriggers } from './guard.ts';
import { UnknownSchema } from './incoming.ts';
import { readKnown, registryOf, withDescribed, writeKnown } from './known.ts';
import type { Known } from './known.ts';
import { Library, SchemaMoved } from './library.ts';
import type { Surroundings } from './library.ts';
import { createMap } from './metadata.ts';
import type { Registry } from './model.ts';
import { rowsTable } from './model.ts';
import { ownRow } from './own.ts';
import { pruneConfig } from './renames.ts';
import { noteSchema, schemaCookie, storedConfig } from './serving.ts';

export class Served {
  readonly db: Database;
  readonly #around: Surroundings;
  readonly #onSchema: (changes: readonly string[]) => void;
  /** Stamps are being given anew. */
  #begun: StampedAnew | null = null;
  library!: Library;
  applier!: Applier;

  /**
   * @param onSchema - hears of each change of the schema that was followed, in words (none when others have told of tables or
   *   columns that are not here)
   */
  constructor(db: Database, around: Surroundings, onSchema: (changes: readonly string[]) => void) {
    this.db = db;
    this.#around = around;
    this.#onSchema = onSchema;
    finishStampingAnew(db, around.reached);
    this.follow();
  }

  /** Brings metadata, triggers and memory to the schema that the file has now. */
  follow(config?: Config): readonly string[] {
    const { db } = this;
    const isFirst = (this.library as Library | undefined) === undefined;
    const { library, changes } = db
      .transaction(() => {
        const evolved = evolve(db, config ?? storedConfig(db));
        guardTriggers(db, evolved.registry);
        installCapture(db, evolved.registry);
        const opened = new Library(db, evolved.registry, this.#around);
        opened.transact(() => catchUp(opened, evolved));
        noteSchema(db, evolved.registry);
        opened.reached('schema: followed');
        return { library: opened, changes: evolved.changes };
      })
      .immediate();
    library.reached('schema: committed');
    this.#use(library);
    this.run(() => this.applier.retry());
    if (!isFirst || changes.length > 0) this.#onSchema(changes);
    return changes;
  }

  /** True when the schema is no longer the one that memory and triggers fit. */
  hasMoved(): boolean {
    return schemaCookie(this.db) !== this.library.cookie;
  }

  /** Runs work that may find, in its transaction, that the schema has changed: then that is followed first. */
  run<T>(work: () => T): T {
    this.#finish();
    try {
      return work();
    } catch (error) {
      if (!(error instanceof SchemaMoved)) throw error;
      this.follow();
      return work();
    }
  }

  /** Applies batches of `peer` in their order, in one transaction where that can be. Those before one that is refused stay applied. */
  apply(peer: string, pages: readonly Uint8Array[]): Taken[] {
    return this.run(() => this.applier.together(peer, pages)) ?? pages.map((page) => this.#applyAlone(peer, page));
  }

  #applyAlone(peer: string, page: Uint8Array): Taken {
    return this.run(() => {
      try {
        return this.applier.alone(peer, page);
      } catch (error) {
        if (!(error instanceof UnknownSchema)) throw error;
        const before = readKnown(this.db);
        this.learn(error.schema);
        try {
          return this.applier.alone(peer, page);
        } catch (refused) {
          this.#unlearn(before);
          if (!(refused instanceof UnknownSchema)) throw refused;
          throw new FlotillaError('PROTOCOL', 'The peer sent columns that no device sends, such as an id of its own.');
        }
      }
    });
  }

  /** Forgets the tables and columns of a batch that was refused: it changes nothing. */
  #unlearn(before: Known): void {
    const { db } = this;
    const registry = this.library.transact(() => {
      for (const { n } of readKnown(db))
        if (!before.some((table) => table.n === n)) db.exec(`DROP TABLE ${rowsTable({ n })}`);
      writeKnown(db, before);
      const known = registryOf(db, pruneConfig(db, storedConfig(db)), before) as Registry;
      noteSchema(db, known);
      return known;
    });
    this.#use(new Library(db, registry, this.#around));
    this.#onSchema([]);
  }

  /** Remembers tables and columns of another device that are not here, so that what arrives of them is kept. */
  learn(schema: SchemaDescription): void {
    const { db } = this;
    const learned = this.run(() =>
      this.library.transact(() => {
        const before = readKnown(db);
        const known = withDescribed(before, schema);
        if (known === before) return null;
        writeKnown(db, known);
        const registry = registryOf(db, pruneConfig(db, storedConfig(db)), known) as Registry;
        for (const model of registry.absent) if (!before.some(({ n }) => n === model.n)) createMap(db, model);
        noteSchema(db, registry);
        return registry;
      }),
    );
    if (learned === null) return;
    this.#use(new Library(db, learned, this.#around));
    this.#onSchema([]);
  }

  /** Gives a row of a device's to a member. What a delete means for rows that are its now may be this device's to decide. */
  own(request: OwnRequest): Owned {
    return this.run(() => {
      const owned = ownRow(this.library, request);
      if (owned.changed) this.applier.settle();
      return owned;
    });
  }

  /** Stamps anew what a clock that was wrong has stamped in the future, see `anew.ts`. Every session must begin anew then, as after a change of the schema. */
  stampAnew(): StampedAnew | null {
    const begun = this.run(() => beginStampingAnew(this.library));
    this.#begun = begun;
    this.#finish();
    return begun;
  }

  /** Where a program kept the library locked in the middle of it, this is done before anything else. */
  #finish(): void {
    if (this.#begun === null) return;
    const { db } = this;
    finishStampingAnew(db, this.#around.reached);
    const { aheadMs } = this.#begun;
    this.#begun = null;
    const registry = registryOf(db, pruneConfig(db, storedConfig(db)), readKnown(db)) as Registry;
    this.#use(new Library(db, registry, this.#around));
    this.#onSchema([
      `The clock of this device was ${differenceInWords(aheadMs)}: what was written meanwhile, and nobody else has, was stamped again with the right time.`,
    ]);
  }

  #use(library: Library): void {
    library.cookie = schemaCookie(this.db);
    this.library = library;
    this.applier = new Applier(library);
  }
}
