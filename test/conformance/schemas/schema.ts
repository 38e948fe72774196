/**
 * A schema from the wild: the tables of a kind of program that people have, as such programs write them down, with rows of
 * ours and with what their users do. Nothing in it knows of sync.
 */
import type { Chance } from '../../support/chance.ts';

/** A program at one copy. */
export interface Hand {
  readonly chance: Chance;
  /** Which copy: a text that no other one has. */
  readonly who: string;
  /** Text that nobody else writes. */
  fresh(): string;
  /** First column of one of the rows, by chance; null when there is none. */
  one(sql: string, ...params: readonly unknown[]): unknown;
  run(sql: string, ...params: readonly unknown[]): void;
}

/** Something that a user of the program does, in one transaction. It does nothing where the rows for it are missing. */
export interface Script {
  readonly does: string;
  /** True when the same, or something else, done elsewhere at once may take two rows to a value that only one can have, or may forbid it. */
  readonly hard?: true;
  run(hand: Hand): void;
}

export interface WildSchema {
  readonly name: string;
  readonly ddl: string;
  /** As in `flotilla.config.json`. */
  readonly config?: {
    readonly tables: Readonly<
      Record<
        string,
        {
          readonly sync?: boolean;
          readonly identity?: string | readonly string[];
          readonly localColumns?: readonly string[];
          readonly ownership?: 'shared' | 'device';
        }
      >
    >;
  };
  /** Rows from before sync. Each copy has rows of its own; `who` goes into what must be unique. */
  fill(chance: Chance, who: string): string;
  readonly scripts: readonly Script[];
  /** Queries that give the same on every copy: what the program shows, in names. */
  readonly shows: Readonly<Record<string, string>>;
  /** Queries that find nothing while tables that triggers keep agree with those that they are kept from. */
  readonly strays: Readonly<Record<string, string>>;
  /** Statements that fail when an index of the program's own does not agree with its table. */
  readonly checks?: readonly string[];
  /**
   * Whether rows may wait once the copies have been quiet, after edits that collide: `may wait` as long as the engine does not
   * settle everything that this schema can bring about, `settled` from then on. Then the tables are compared too.
   */
  readonly collisions: 'may wait' | 'settled';
}
