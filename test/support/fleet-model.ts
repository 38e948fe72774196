/**
 * A model of what must not get lost in a random fleet: what programs wrote, replaced and removed, by rows' names on all copies.
 */
import type { Rows } from './fleet-library.ts';

/** What may have happened beside writes. */
export interface Judged {
  /** Copies were restored from older backups: what was replaced may be back, and what only they held is gone. @default false */
  readonly hasRestored?: boolean;
  /** Rows may collide and forbid deletes. @default false */
  readonly hard?: boolean;
  /** Owned rows may be given away. @default false */
  readonly transfers?: boolean;
  /** A device is a member no more: what it alone had written, replaced or removed is its own affair. @default false */
  readonly hasParted?: boolean;
}

export class FleetModel {
  /** Names of rows that some program wrote. */
  readonly #written = new Set<string>();
  /** Names of rows that some program removed, directly or by a cascade there. */
  readonly #removed = new Set<string>();
  readonly #replaced = new Set<string>();
  /** Of a tag that was renamed: the tag that it is at last, over any number of names; and all names that one has had. */
  readonly #roots = new Map<string, string>();
  readonly #names = new Map<string, Set<string>>();
  /** What each name was given up for, and tags that got several names in place of one. */
  readonly #next = new Map<string, string>();
  readonly #forked = new Set<string>();
  /** Name → names of rows that would have taken it along, in any version. */
  readonly #owners = new Map<string, Set<string>>();
  /** Contents that some program replaced. */
  readonly #superseded = new Set<string>();
  readonly #said = new Set<string>();
  /** Contents that were written twice: a tag that is renamed and named back is born again, with what it had. */
  readonly #saidAgain = new Set<string>();
  /** Rows with references that a delete elsewhere may set to NULL: such a write of another copy may come after any content. */
  readonly #mayBeCleared = new Set<string>();

  /** The names of the rows that were written until now. */
  get written(): ReadonlySet<string> {
    return this.#written;
  }

  /** Rows that are gone otherwise than by a program's delete. */
  forget(names: Iterable<string>): void {
    for (const name of names) this.#removed.add(name);
  }

  /** No row that nobody removed is lost; no row that somebody removed, and no content that somebody replaced, is back. */
  judge(rows: Rows, { hasRestored = false, hard = false, transfers = false, hasParted = false }: Judged = {}): void {
    const mayBeGone = new Set(hasRestored ? [...this.#removed, ...this.#replaced] : this.#removed);
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
    if (hasRestored || hard || hasParted) return;
    for (const [name, row] of rows) {
      // A row of these is made once; others have names that may be given again.
      if (!transfers && /^(?:note|entry|volume|file) /.test(name) && this.#removed.has(name))
        throw new Error(`${name} is back`);
      if (this.#mayBeCleared.has(name)) continue;
      // Owned rows go whole: what gives way to whoever owns the row now may have been written over what comes back.
      if (transfers && /^(?:box|volume|file) /.test(name)) continue;
      const said = `${name}=${row.payload}`;
      if (this.#superseded.has(said) && !this.#saidAgain.has(said))
        throw new Error(`${name} went back to ${row.payload}`);
    }
  }

  /** A statement of a program, by what was there before and after it. */
  remember(before: Rows, after: Rows, sql: string): void {
    // Such a tag dies and is born again: a page and a restore may come between the two.
    const replaced = /INSERT OR REPLACE INTO tags .* VALUES \('(.)'/.exec(sql)?.[1];
    if (replaced !== undefined && before.has(`tag ${replaced}`)) this.#replaced.add(`tag ${replaced}`);
    this.#rememberNames(before, after, sql);
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
  /** A tag that is given two names apart has the later one (N3), and what had the other is gone with that name. */
  #rememberNames(before: Rows, after: Rows, sql: string): void {
    if (!sql.includes('UPDATE OR IGNORE tags SET name')) return;
    const tags = (rows: Rows, others: Rows): string[] =>
      [...rows.keys()].filter((name) => name.startsWith('tag ') && !others.has(name));
    const [[old], [name]] = [tags(before, after), tags(after, before)];
    if (old === undefined || name === undefined) return;
    const root = this.#roots.get(old) ?? old;
    this.#roots.set(name, root);
    const names = (this.#names.get(root) ?? new Set()).add(name);
    this.#names.set(root, names);
    if ((this.#next.get(old) ?? name) !== name) this.#forked.add(root);
    this.#next.set(old, name);
    if (this.#forked.has(root)) this.forget(names);
  }
}
