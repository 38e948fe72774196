/**
 * What programs write to the libraries of the random fleets: one statement at a time, plain SQL.
 */
import type { Chance } from './chance.ts';
import type { Queried, Rows } from './fleet-library.ts';
import type { FleetModel } from './fleet-model.ts';

/** A copy that programs write to. */
export interface Written extends Queried {
  write(sql: string): void;
  readonly db: { readonly inTransaction: boolean };
}

/**
 * Runs a program's statements, in one transaction if they say so, and tells the model what became of them.
 * @param look - reads the rows of the copy
 * @returns why the rest was refused; '' if nothing was
 */
export function runProgram(copy: Written, statements: readonly string[], model: FleetModel, look: () => Rows): string {
  let refused = '';
  let last = look();
  const done: [Rows, Rows, string][] = [];
  for (const sql of statements) {
    try {
      copy.write(sql);
    } catch (error) {
      if (copy.db.inTransaction) {
        copy.write('ROLLBACK');
        done.splice(0);
      }
      refused = String(error);
      break;
    }
    const now = look();
    done.push([last, now, sql]);
    last = now;
  }
  for (const step of done) model.remember(...step);
  return refused;
}

export interface FleetWriterOptions {
  /** Values may collide, deletes may be forbidden. @default false */
  readonly hard?: boolean;
  /** Rows are owned through others. @default false */
  readonly transfers?: boolean;
}

export class FleetWriter {
  readonly #chance: Pick<Chance, 'below' | 'happens' | 'pick'>;
  readonly #hard: boolean;
  readonly #transfers: boolean;
  #counter = 0;

  constructor(
    chance: Pick<Chance, 'below' | 'happens' | 'pick'>,
    { hard = false, transfers = false }: FleetWriterOptions = {},
  ) {
    this.#chance = chance;
    this.#hard = hard;
    this.#transfers = transfers;
  }

  /** The statements of one program: often one, now and then some more, half of them in a transaction. */
  program(replica: Queried): string[] {
    const statements = Array.from({ length: 1 + this.#chance.below(this.#chance.happens(0.3) ? 5 : 2) }, () =>
      this.statement(replica),
    );
    return this.#chance.happens(0.5) ? ['BEGIN', ...statements, 'COMMIT'] : statements;
  }

  statement(replica: Queried): string {
    const id = (table: string, column = 'id'): string => {
      const rows = replica.rows(`SELECT ${column} FROM ${table} ORDER BY ${column}`);
      return rows.length === 0 ? 'NULL' : String(this.#chance.pick(rows)[0]);
    };
    const maybe = (text: string): string => (this.#chance.happens(0.5) ? text : 'NULL');
    const token = (): string => `'${(this.#counter += 1)}'`;
    const tag = (): string => `'${'abcde'[this.#chance.below(5)]}'`;
    const kinds: [number, () => string][] = [
      [
        10,
        () =>
          `INSERT INTO entries (born, payload, parent_id, note_id, cover_id) VALUES (${token()}, ${token()}, ${maybe(id('entries'))}, ${maybe(id('notes'))}, ${maybe(id('entries'))})`,
      ],
      [4, () => `INSERT INTO notes (born, payload) VALUES (${token()}, ${token()})`],
      [3, () => `INSERT OR IGNORE INTO tags (name, payload) VALUES (${tag()}, ${token()})`],
      [
        2,
        () =>
          `INSERT INTO tags (name, payload) VALUES (${tag()}, ${token()}) ON CONFLICT (name) DO UPDATE SET payload = excluded.payload`,
      ],
      [1, () => `INSERT OR REPLACE INTO tags (name, payload) VALUES (${tag()}, ${token()})`],
      [
        5,
        () =>
          `INSERT OR IGNORE INTO entry_tags SELECT e.id, g.id, ${token()} FROM entries e, tags g WHERE e.id = ${id('entries')} AND g.id = ${id('tags')}`,
      ],
      [
        1,
        () =>
          `INSERT OR REPLACE INTO entry_tags SELECT e.id, g.id, ${token()} FROM entries e, tags g WHERE e.id = ${id('entries')} AND g.id = ${id('tags')}`,
      ],
      [
        2,
        () =>
          `INSERT INTO metadata SELECT id, ${token()} FROM entries WHERE id = ${id('entries')} ON CONFLICT (entry_id) DO UPDATE SET payload = excluded.payload`,
      ],
      [5, () => `UPDATE entries SET payload = ${token()} WHERE id = ${id('entries')}`],
      [5, () => this.#move(id('entries'), maybe(id('entries')), token())],
      [3, () => `UPDATE entries SET note_id = ${maybe(id('notes'))}, payload = ${token()} WHERE id = ${id('entries')}`],
      [
        2,
        () => `UPDATE entries SET cover_id = ${maybe(id('entries'))}, payload = ${token()} WHERE id = ${id('entries')}`,
      ],
      [2, () => `UPDATE notes SET payload = ${token()} WHERE id = ${id('notes')}`],
      [3, () => `UPDATE OR IGNORE notes SET slot = ${maybe(tag())}, payload = ${token()} WHERE id = ${id('notes')}`],
      [
        this.#hard ? 1 : 0,
        () => `UPDATE OR REPLACE notes SET slot = ${tag()}, payload = ${token()} WHERE id = ${id('notes')}`,
      ],
      [
        3,
        () => `UPDATE OR IGNORE entries SET label = ${maybe(tag())}, payload = ${token()} WHERE id = ${id('entries')}`,
      ],
      [this.#hard ? 2 : 0, () => this.#swapSlots(id('notes'), id('notes'))],
      [2, () => `UPDATE tags SET payload = ${token()} WHERE id = ${id('tags')}`],
      [2, () => `UPDATE OR IGNORE tags SET name = ${tag()}, payload = ${token()} WHERE id = ${id('tags')}`],
      [2, () => `UPDATE entry_tags SET payload = ${token()} WHERE rowid = ${id('entry_tags', 'rowid')}`],
      [
        1,
        () =>
          `UPDATE OR REPLACE entry_tags SET tag_id = ${id('tags')}, payload = ${token()} WHERE rowid = ${id('entry_tags', 'rowid')}`,
      ],
      [3, () => `DELETE FROM entries WHERE id = ${id('entries')}`],
      [2, () => `DELETE FROM notes WHERE id = ${id('notes')}`],
      [1, () => `DELETE FROM tags WHERE id = ${id('tags')}`],
      [2, () => `DELETE FROM entry_tags WHERE rowid = ${id('entry_tags', 'rowid')}`],
      [1, () => `DELETE FROM metadata WHERE entry_id = ${id('metadata', 'entry_id')}`],
      [1, () => this.#reinsert(id('notes'), token())],
      [
        1,
        () =>
          `UPDATE notes SET id = id + 1000 WHERE id = ${id('notes')} AND NOT EXISTS (SELECT 1 FROM entries WHERE note_id = notes.id) AND NOT EXISTS (SELECT 1 FROM files WHERE note_id = notes.id)`,
      ],
      [2, () => `INSERT INTO volumes (born, payload) VALUES (${token()}, ${token()})`],
      [4, () => this.#insertFile(replica, id('volumes'), maybe(id('notes')), token())],
      [3, () => `UPDATE files SET payload = ${token()}, note_id = ${maybe(id('notes'))} WHERE id = ${id('files')}`],
      [1, () => `UPDATE volumes SET payload = ${token()} WHERE id = ${id('volumes')}`],
      [1, () => `DELETE FROM files WHERE id = ${id('files')}`],
      [1, () => `DELETE FROM volumes WHERE id = ${id('volumes')}`],
      ...(this.#transfers ? this.#ownedStatements(id, maybe, token) : []),
    ];
    let left = this.#chance.below(kinds.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, make] of kinds) {
      if (left < weight) return make();
      left -= weight;
    }
    return 'SELECT 1';
  }

  #ownedStatements(
    id: (table: string) => string,
    maybe: (text: string) => string,
    token: () => string,
  ): [number, () => string][] {
    return [
      [4, () => `INSERT INTO boxes (born, payload) VALUES (${token()}, ${token()})`],
      [2, () => `UPDATE boxes SET payload = ${token()} WHERE id = ${id('boxes')}`],
      [1, () => `DELETE FROM boxes WHERE id = ${id('boxes')}`],
      [8, () => `UPDATE volumes SET box_id = ${maybe(id('boxes'))}, payload = ${token()} WHERE id = ${id('volumes')}`],
      [6, () => `INSERT INTO volumes (born, payload, box_id) VALUES (${token()}, ${token()}, ${id('boxes')})`],
      [8, () => `UPDATE files SET volume_id = ${id('volumes')}, payload = ${token()} WHERE id = ${id('files')}`],
      [8, () => `UPDATE files SET payload = ${token()} WHERE id = ${id('files')}`],
      [
        4,
        () =>
          `INSERT INTO files (born, payload, volume_id) SELECT ${token()}, ${token()}, id FROM volumes WHERE id = ${id('volumes')}`,
      ],
      [2, () => `DELETE FROM files WHERE id = ${id('files')}`],
      [
        1,
        () =>
          `INSERT OR REPLACE INTO files (id, born, payload, volume_id) SELECT id, born, ${token()}, ${id('volumes')} FROM files WHERE id = ${id('files')}`,
      ],
    ];
  }

  /** A move that closes no circle here. */
  #move(entry: string, parent: string, token: string): string {
    return `UPDATE OR IGNORE entries SET parent_id = ${parent}, payload = ${token} WHERE id = ${entry} AND NOT EXISTS (
      WITH RECURSIVE up (id) AS (SELECT ${parent} UNION SELECT parent_id FROM entries JOIN up USING (id))
      SELECT 1 FROM up WHERE id = ${entry})`;
  }

  #swapSlots(one: string, other: string): string {
    return `UPDATE notes SET slot = '-' || slot WHERE id IN (${one}, ${other});
      UPDATE OR IGNORE notes SET slot = CASE slot WHEN '-a' THEN 'b' WHEN '-b' THEN 'c' ELSE 'a' END WHERE slot LIKE '-%'`;
  }

  /** Another row under an id that was just freed. */
  #reinsert(note: string, token: string): string {
    return `DELETE FROM notes WHERE id = ${note}; INSERT INTO notes (id, born, payload) VALUES (${note}, ${token}, ${token})`;
  }

  #insertFile(replica: Queried, volume: string, note: string, token: string): string {
    const files = replica.rows('SELECT id FROM files ORDER BY id');
    const parent = files.length > 0 && this.#chance.happens(0.5) ? String(this.#chance.pick(files)[0]) : 'NULL';
    return volume === 'NULL'
      ? `INSERT INTO volumes (born, payload) VALUES (${token}, ${token})`
      : `INSERT INTO files (born, payload, volume_id, parent_id, note_id) VALUES (${token}, ${token}, ${volume}, ${parent}, ${note})`;
  }
}
