/**
 * A random fleet in one thread, from one seed: a few copies of a library with a tree, nullable and multiple references,
 * many-to-many, a declared identity, an owned and a shared table. Programs write plain SQL, passes are cut anywhere, nodes
 * restart, are restored from old backups, and have clocks that differ. Beside it runs a model of what must not get lost.
 */
import { Replica, seededBytes } from './replica.ts';
import type { Pass } from './replica.ts';

export const FLEET_DDL = `
CREATE TABLE notes (id INTEGER PRIMARY KEY, born TEXT NOT NULL, payload TEXT NOT NULL, slot TEXT);
CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, payload TEXT NOT NULL);
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, born TEXT NOT NULL, payload TEXT NOT NULL, label TEXT,
  parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE,
  note_id INTEGER REFERENCES notes (id) ON DELETE SET NULL,
  cover_id INTEGER REFERENCES entries (id) ON DELETE SET NULL
);
CREATE TABLE metadata (entry_id INTEGER PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE, payload TEXT NOT NULL);
CREATE TABLE entry_tags (
  entry_id INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
  tag_id INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE,
  payload TEXT NOT NULL, PRIMARY KEY (entry_id, tag_id)
);
CREATE TABLE volumes (id INTEGER PRIMARY KEY, born TEXT NOT NULL, payload TEXT NOT NULL);
CREATE TABLE files (
  id INTEGER PRIMARY KEY, born TEXT NOT NULL, payload TEXT NOT NULL,
  volume_id INTEGER NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
  parent_id INTEGER REFERENCES files (id) ON DELETE CASCADE,
  note_id INTEGER REFERENCES notes (id) ON DELETE SET NULL
);
CREATE INDEX entries_parent ON entries (parent_id);
CREATE INDEX entry_tags_tag ON entry_tags (tag_id);`;

export const FLEET_CONFIG = {
  tables: { tags: { identity: 'name' }, volumes: { ownership: 'device' }, files: { ownership: 'device' } },
};

/**
 * The same with what this release does not settle: values that collide, deletes that are forbidden. Rows may wait there, but
 * the copies must come to rest and be equal, and their constraints must hold.
 */
export const HARD_DDL = `${FLEET_DDL.replace('notes (id) ON DELETE SET NULL,\n  cover', 'notes (id),\n  cover').replace(
  'cover_id INTEGER REFERENCES entries (id) ON DELETE SET NULL',
  'cover_id INTEGER REFERENCES entries (id) ON DELETE RESTRICT',
)}
CREATE UNIQUE INDEX notes_slot ON notes (slot);
CREATE UNIQUE INDEX entries_label ON entries (parent_id, label);`;

/** The same with ownership over up to two steps: files belong to who owns their volume, volumes to who owns the box that they are in. */
export const OWNED_DDL = `CREATE TABLE boxes (id INTEGER PRIMARY KEY, born TEXT NOT NULL, payload TEXT NOT NULL);
${FLEET_DDL.replace(
  'CREATE TABLE volumes (id INTEGER PRIMARY KEY,',
  'CREATE TABLE volumes (id INTEGER PRIMARY KEY, box_id INTEGER REFERENCES boxes (id) ON DELETE SET NULL,',
)}`;

export const OWNED_CONFIG = {
  tables: {
    tags: { identity: 'name' },
    boxes: { ownership: 'device' },
    volumes: { ownedBy: 'box_id' },
    files: { ownedBy: 'volume_id' },
  },
};

/** A row by what names it on all copies, with its content (references by name) and the rows that take it along. */
const ROWS = [
  `SELECT 'note ' || born, payload, NULL, NULL, ifnull(slot, '') FROM notes`,
  `SELECT 'tag ' || name, payload, NULL, NULL, '' FROM tags`,
  `SELECT 'entry ' || e.born, e.payload, 'entry ' || p.born, NULL, ifnull(n.born, '-') || ' ' || ifnull(c.born, '-') || ifnull(e.label, '')
   FROM entries e LEFT JOIN entries p ON p.id = e.parent_id LEFT JOIN notes n ON n.id = e.note_id
   LEFT JOIN entries c ON c.id = e.cover_id`,
  `SELECT 'metadata ' || e.born, m.payload, 'entry ' || e.born, NULL, '' FROM metadata m JOIN entries e ON e.id = m.entry_id`,
  `SELECT 'tagging ' || e.born || ' ' || g.name, t.payload, 'entry ' || e.born, 'tag ' || g.name, ''
   FROM entry_tags t JOIN entries e ON e.id = t.entry_id JOIN tags g ON g.id = t.tag_id`,
  `SELECT 'volume ' || born, payload, NULL, NULL, '' FROM volumes`,
  `SELECT 'file ' || f.born, f.payload, 'volume ' || v.born, 'file ' || p.born, ifnull(n.born, '-')
   FROM files f JOIN volumes v ON v.id = f.volume_id LEFT JOIN files p ON p.id = f.parent_id LEFT JOIN notes n ON n.id = f.note_id`,
].join(' UNION ALL ');

const OWNED_ROWS = `${ROWS} UNION ALL SELECT 'box ' || born, payload, NULL, NULL, '' FROM boxes`;

interface Row {
  readonly payload: string;
  /** Rows whose death takes this one along. */
  readonly owners: readonly string[];
  /** References that may become NULL. */
  readonly rest: string;
  readonly content: string;
}

type Rows = Map<string, Row>;

export interface FleetOptions {
  /** Actions. @default 60 */
  readonly steps?: number;
  /** Whether copies are restored from older backups. @default by the seed */
  readonly restores?: boolean;
  /** Whether rows may collide and forbid deletes, see {@link HARD_DDL}. @default false */
  readonly hard?: boolean;
  /** Whether rows are owned through others, moved and given away, see {@link OWNED_DDL}. @default false */
  readonly transfers?: boolean;
}

/** Plays one seed to its end; throws an error that tells the seed and what was done. */
export async function playFleet(seed: number, options: FleetOptions = {}): Promise<void> {
  const fleet = new Fleet(seed, options);
  try {
    fleet.play();
    await fleet.rest();
  } catch (error) {
    throw new Error(`fleet seed ${seed}: ${String(error)}\n${fleet.trace.join('\n')}`, { cause: error });
  } finally {
    fleet.close();
  }
}

const emptyLibraries = new Map<string, Buffer>();

/** The file of a fresh copy: made once, since most of the time of a short play would go into it. */
function emptyLibrary(ddl: string, config: object, i: number): Buffer {
  let file = emptyLibraries.get(`${i}${ddl}`);
  if (file === undefined) {
    const replica = new Replica({ device: `device-${i}`, ddl, config });
    file = replica.backup();
    replica.db.close();
    emptyLibraries.set(`${i}${ddl}`, file);
  }
  return file;
}

interface Link {
  readonly to: number;
  readonly from: number;
  readonly pass: Pass;
}

class Fleet {
  readonly trace: string[] = [];
  readonly #replicas: Replica[] = [];
  readonly #linked: (to: number, from: number) => boolean;
  readonly #steps: number;
  readonly #restores: boolean;
  readonly #hard: boolean;
  readonly #transfers: boolean;
  readonly #skews: number[] = [];
  readonly #backups: { at: number; file: Buffer; counter: number }[][] = [];
  #open: Link[] = [];
  /** Batches that were applied: they may come again. */
  readonly #applied: { to: number; from: string; page: Uint8Array }[] = [];
  #time = Date.UTC(2026, 0, 1);
  #counter = 0;
  #checks = 0;
  #state: number;

  /** Names of rows that some program wrote. */
  readonly #written = new Set<string>();
  /** Names of rows that some program removed, directly or by a cascade there. */
  readonly #removed = new Set<string>();
  readonly #replaced = new Set<string>();
  /** Name → names of rows that would have taken it along, in any version. */
  readonly #owners = new Map<string, Set<string>>();
  /** Contents that some program replaced. */
  readonly #superseded = new Set<string>();
  readonly #said = new Set<string>();
  /** Contents that were written twice: a tag that is renamed and named back is born again, with what it had. */
  readonly #saidAgain = new Set<string>();
  /** Rows with references that a delete elsewhere may set to NULL: such a write of another copy may come after any content. */
  readonly #mayBeCleared = new Set<string>();
  #hasRestored = false;

  constructor(seed: number, options: FleetOptions) {
    this.#state = (seed * 2_654_435_761) >>> 0;
    const count = 3 + this.#below(2);
    const chain = this.#chance(0.5);
    this.#linked = (to, from) => to !== from && !(chain && Math.abs(to - from) === count - 1);
    this.#steps = options.steps ?? 60;
    this.#hard = options.hard ?? false;
    this.#transfers = options.transfers ?? false;
    this.#restores = options.restores ?? this.#chance(0.4);
    for (let i = 0; i < count; i += 1) {
      this.#skews.push(this.#below(240_000) - 120_000);
      this.#backups.push([]);
      const randomBytes = seededBytes(seed * 16 + i);
      const now = (): number => (this.#time += 1) + (this.#skews[i] ?? 0);
      const ddl = this.#hard ? HARD_DDL : this.#transfers ? OWNED_DDL : FLEET_DDL;
      const config = this.#transfers ? OWNED_CONFIG : FLEET_CONFIG;
      this.#replicas.push(
        new Replica({ device: `device-${i}`, ddl, config, now, randomBytes }, emptyLibrary(ddl, config, i)),
      );
    }
  }

  play(): void {
    for (let step = 0; step < this.#steps; step += 1) {
      this.#time += this.#below(3) === 0 ? this.#below(20_000) : this.#below(3);
      const dice = this.#below(100);
      if (dice < 3 && this.#transfers) this.#give(this.#below(this.#replicas.length));
      else if (dice < 45) this.#write(this.#below(this.#replicas.length));
      else if (dice < 85) this.#exchange();
      else if (dice < 89) this.#repeat();
      else if (dice < 92) this.#restart(this.#below(this.#replicas.length));
      else if (dice < 95) this.#backup(this.#below(this.#replicas.length));
      else if (dice < 97) this.#shiftClock(this.#below(this.#replicas.length));
      else if (this.#restores) this.#restore(this.#below(this.#replicas.length));
    }
  }

  /** Full exchange until nothing moves, then all that was promised. */
  async rest(): Promise<void> {
    this.trace.push('-- rest');
    for (const link of this.#open.splice(0)) link.pass.close();
    let quiet = 0;
    for (let round = 0; quiet < 2; round += 1) {
      if (round > 40) throw new Error('the fleet does not come to rest');
      const heads = this.#heads();
      let rows = 0;
      for (const [to, receiver] of this.#replicas.entries()) {
        for (const [from, sender] of this.#replicas.entries()) {
          if (!this.#linked(to, from)) continue;
          for (const applied of receiver.pull(sender, 1 + this.#below(30))) rows += applied.rows;
          this.#check(receiver);
        }
      }
      // Once more may be sent what came by another way meanwhile, but not twice.
      const still = heads === this.#heads();
      if (still && quiet > 0 && rows > 0) throw new Error('rows are sent that change nothing, again and again');
      quiet = still ? quiet + 1 : 0;
    }
    await this.#compare();
  }

  close(): void {
    for (const replica of this.#replicas) replica.db.close();
  }

  #heads(): string {
    return this.#replicas.map((replica) => replica.library.head).join(' ');
  }

  async #compare(): Promise<void> {
    const first = this.#replicas[0] as Replica;
    const rows = this.#rowsOf(first);
    const digest = JSON.stringify(await first.digest());
    for (const replica of this.#replicas) {
      this.#check(replica, true);
      if (JSON.stringify(await replica.digest()) !== digest) throw new Error(`the digest of ${replica.device} differs`);
      if (this.#hard) {
        for (const [name, row] of this.#rowsOf(replica)) rows.set(name, row);
        continue;
      }
      if (replica.waiting().length > 0)
        throw new Error(`${replica.device} has rows waiting: ${replica.waiting().join(', ')}`);
      const other = this.#rowsOf(replica);
      for (const name of new Set([...rows.keys(), ...other.keys()])) {
        const [a, b] = [rows.get(name)?.content, other.get(name)?.content];
        if (a !== b) throw new Error(`${name}: ${first.device} has ${a}, ${replica.device} has ${b}`);
      }
    }
    this.#judge(rows);
  }

  /** No row that nobody removed is lost; no content that somebody replaced is back. */
  #judge(rows: Rows): void {
    const mayBeGone = new Set(this.#hasRestored ? [...this.#removed, ...this.#replaced] : this.#removed);
    for (let again = true; again;) {
      again = false;
      for (const [name, owners] of this.#owners) {
        if (mayBeGone.has(name) || ![...owners].some((owner) => mayBeGone.has(owner))) continue;
        mayBeGone.add(name);
        again = true;
      }
    }
    for (const name of this.#written) {
      if (!mayBeGone.has(name) && !rows.has(name)) throw new Error(`lost: ${name}`);
    }
    if (this.#hasRestored || this.#hard) return;
    for (const [name, row] of rows) {
      if (this.#mayBeCleared.has(name)) continue;
      // Owned rows go whole: what gives way to whoever owns the row now may have been written over what comes back.
      if (this.#transfers && /^(?:box|volume|file) /.test(name)) continue;
      const said = `${name}=${row.payload}`;
      if (this.#superseded.has(said) && !this.#saidAgain.has(said))
        throw new Error(`${name} went back to ${row.payload}`);
    }
  }

  // -- what happens

  #exchange(): void {
    let link = this.#open.length > 0 && this.#chance(0.6) ? this.#pick(this.#open) : undefined;
    if (link === undefined) {
      const to = this.#below(this.#replicas.length);
      const from = this.#below(this.#replicas.length);
      if (!this.#linked(to, from)) return;
      link = { to, from, pass: (this.#replicas[to] as Replica).passFrom(this.#replicas[from] as Replica) };
      this.#open = this.#open.filter((other) => other.to !== to || other.from !== from || (other.pass.close(), false));
      this.#open.push(link);
      this.trace.push(`${to} <- ${from}: opens`);
    }
    const receiver = this.#replicas[link.to] as Replica;
    const sender = this.#replicas[link.from] as Replica;
    const size = 1 + this.#below(7);
    const bytes = this.#chance(0.1) ? 60 : 1 << 20;
    for (let pages = 1 + this.#below(4); pages > 0; pages -= 1) {
      const page = link.pass.next(size, bytes);
      if (page === null) break;
      const before = this.#rowsOf(receiver);
      if (this.#chance(0.04)) this.#failOnce(receiver, sender.device, page);
      const applied = receiver.applier.apply(sender.device, page);
      this.trace.push(
        `${link.to} <- ${link.from}: ${applied.rows} rows${applied.complete ? ', complete' : ''}${this.#difference(before, this.#rowsOf(receiver))}`,
      );
      this.#applied.push({ to: link.to, from: sender.device, page });
      this.#check(receiver);
    }
  }

  /** The disk is full, or the power goes, at the end of a transaction: nothing of it stays. */
  #failOnce(receiver: Replica, from: string, page: Uint8Array): void {
    const { library } = receiver;
    const before = receiver.rows(
      'SELECT (SELECT count(*) FROM flotilla_runs), (SELECT count(*) FROM flotilla_pending), hlc, head FROM flotilla_clock',
    );
    library.saveCursor = () => {
      throw new Error('the disk is full');
    };
    try {
      receiver.applier.apply(from, page);
    } catch (error) {
      if (!String(error).includes('the disk is full')) throw error;
    } finally {
      Reflect.deleteProperty(library, 'saveCursor');
    }
    const after = receiver.rows(
      'SELECT (SELECT count(*) FROM flotilla_runs), (SELECT count(*) FROM flotilla_pending), hlc, head FROM flotilla_clock',
    );
    if (JSON.stringify(before) !== JSON.stringify(after))
      throw new Error('a transaction that failed has left something');
  }

  /** A batch that was applied here comes once more. */
  #repeat(): void {
    if (this.#applied.length === 0) return;
    const { to, from, page } = this.#pick(this.#applied);
    const receiver = this.#replicas[to] as Replica;
    this.trace.push(`${to}: a batch again`);
    receiver.applier.apply(from, page);
    this.#check(receiver);
  }

  #restart(index: number): void {
    this.trace.push(`${index}: restarts`);
    this.#endPasses(index);
    this.#replicas[index]?.restart();
  }

  #backup(index: number): void {
    this.trace.push(`${index}: is backed up`);
    // A row that is in the backup without an identity gets another one from each copy: nothing is lost, but it is there twice.
    this.#replicas[index]?.stamp();
    this.#backups[index]?.push({
      at: this.#time,
      file: (this.#replicas[index] as Replica).backup(),
      counter: this.#counter,
    });
  }

  #restore(index: number): void {
    const backup = this.#backups[index]?.[this.#below(this.#backups[index]?.length ?? 0)];
    if (backup === undefined) return;
    this.trace.push(`${index}: is restored`);
    this.#hasRestored = true;
    this.#endPasses(index);
    const old = this.#replicas[index] as Replica;
    this.#replicas[index] = old.restored(backup.file);
    old.db.close();
    // What nobody else had is gone.
    const left = new Set<string>();
    for (const replica of this.#replicas) for (const name of this.#rowsOf(replica).keys()) left.add(name);
    for (const name of this.#written) if (!left.has(name)) this.#removed.add(name);
    // Batches applied after the backup were not: they may not come out of their order.
    for (let i = this.#applied.length - 1; i >= 0; i -= 1)
      if (this.#applied[i]?.to === index) this.#applied.splice(i, 1);
  }

  #shiftClock(index: number): void {
    this.#skews[index] = this.#below(240_000) - 120_000;
    this.trace.push(`${index}: clock at ${this.#skews[index]}`);
  }

  #rowsOf(replica: Replica): Rows {
    return rowsOf(replica, this.#transfers ? OWNED_ROWS : ROWS);
  }

  #endPasses(index: number): void {
    this.#open = this.#open.filter((link) => {
      const ends = link.to === index || link.from === index;
      if (ends) link.pass.close();
      return !ends;
    });
  }

  #write(index: number): void {
    const replica = this.#replicas[index] as Replica;
    const before = this.#rowsOf(replica);
    const statements = Array.from({ length: 1 + this.#below(this.#chance(0.3) ? 5 : 2) }, () =>
      this.#statement(replica),
    );
    if (this.#chance(0.5)) statements.splice(0, statements.length, 'BEGIN', ...statements, 'COMMIT');
    let refused = '';
    let last = before;
    const done: [Rows, Rows, string][] = [];
    for (const sql of statements) {
      try {
        replica.write(sql);
      } catch (error) {
        if (replica.db.inTransaction) {
          replica.write('ROLLBACK');
          done.splice(0);
        }
        refused = ` (refused: ${String(error)})`;
        break;
      }
      const now = this.#rowsOf(replica);
      done.push([last, now, sql]);
      last = now;
    }
    for (const step of done) this.#remember(...step);
    this.trace.push(`${index}: ${statements.join('; ')}${refused}${this.#difference(before, this.#rowsOf(replica))}`);
    if (this.#chance(0.3)) replica.stamp();
    this.#check(replica);
  }

  /** Some device gives a box, or a volume that is in none, to some device. */
  #give(index: number): void {
    const replica = this.#replicas[index] as Replica;
    const roots = replica.rows(
      "SELECT 'boxes', id FROM boxes UNION ALL SELECT 'volumes', id FROM volumes WHERE box_id IS NULL ORDER BY 1, 2",
    );
    if (roots.length === 0) return;
    const [table, id] = this.#pick(roots);
    const to = this.#below(this.#replicas.length);
    this.trace.push(`${index}: gives ${String(table)} ${String(id)} to ${to}`);
    replica.own(String(table), Number(id), this.#replicas[to]);
    this.#check(replica);
  }

  #remember(before: Rows, after: Rows, sql: string): void {
    // Such a tag dies and is born again: a page and a restore may come between the two.
    const replaced = /INSERT OR REPLACE INTO tags .* VALUES \('(.)'/.exec(sql)?.[1];
    if (replaced !== undefined && before.has(`tag ${replaced}`)) this.#replaced.add(`tag ${replaced}`);
    for (const [name, row] of before) {
      const now = after.get(name);
      if (now === undefined) this.#removed.add(name);
      else if (now.payload !== row.payload) this.#superseded.add(`${name}=${row.payload}`);
    }
    for (const [name, row] of after) {
      if (before.get(name)?.content === row.content) continue;
      this.#written.add(name);
      const said = `${name}=${row.payload}`;
      if (this.#said.has(said)) this.#saidAgain.add(said);
      this.#said.add(said);
      if (/\d/.test(row.rest)) this.#mayBeCleared.add(name);
      const owners = this.#owners.get(name) ?? new Set<string>();
      for (const owner of row.owners) owners.add(owner);
      this.#owners.set(name, owners);
    }
  }

  #difference(before: Rows, after: Rows): string {
    const words: string[] = [];
    for (const [name, row] of after) {
      const old = before.get(name);
      if (old === undefined) words.push(`+${name} (${row.content})`);
      else if (old.content !== row.content) words.push(`~${name} (${row.content})`);
    }
    for (const name of before.keys()) if (!after.has(name)) words.push(`-${name}`);
    return words.length === 0 ? '' : ` => ${words.join(', ')}`;
  }

  #check(replica: Replica, thoroughly = false): void {
    const violations = replica.violations();
    if (violations.length > 0) throw new Error(`${replica.device}: ${JSON.stringify(violations)}`);
    this.#checks += 1;
    if (!thoroughly && this.#checks % 16 !== 0) return;
    const integrity = replica.db.pragma('integrity_check', { simple: true });
    if (integrity !== 'ok') throw new Error(`${replica.device}: ${String(integrity)}`);
  }

  // -- what programs write

  #statement(replica: Replica): string {
    const id = (table: string, column = 'id'): string => {
      const rows = replica.rows(`SELECT ${column} FROM ${table} ORDER BY ${column}`);
      return rows.length === 0 ? 'NULL' : String(this.#pick(rows)[0]);
    };
    const maybe = (text: string): string => (this.#chance(0.5) ? text : 'NULL');
    const token = (): string => `'${(this.#counter += 1)}'`;
    const tag = (): string => `'${'abcde'[this.#below(5)]}'`;
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
    let left = this.#below(kinds.reduce((sum, [weight]) => sum + weight, 0));
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

  #insertFile(replica: Replica, volume: string, note: string, token: string): string {
    const files = replica.rows('SELECT id FROM files ORDER BY id');
    const parent = files.length > 0 && this.#chance(0.5) ? String(this.#pick(files)[0]) : 'NULL';
    return volume === 'NULL'
      ? `INSERT INTO volumes (born, payload) VALUES (${token}, ${token})`
      : `INSERT INTO files (born, payload, volume_id, parent_id, note_id) VALUES (${token}, ${token}, ${volume}, ${parent}, ${note})`;
  }

  // -- chance

  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #chance(of: number): boolean {
    return this.#random() < of;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)] as T;
  }
}

function rowsOf(replica: Replica, query: string): Rows {
  const rows: Rows = new Map();
  for (const [name, payload, first, second, rest] of replica.rows(query)) {
    const owners = [first, second].filter((owner) => owner !== null).map(String);
    rows.set(String(name), {
      payload: String(payload),
      owners,
      rest: String(rest),
      content: [payload, ...owners, rest].join(' '),
    });
  }
  return rows;
}
