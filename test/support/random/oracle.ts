/**
 * What must not get lost. Every statement of a program is compared with the rows before it: what it wrote and removed, and
 * what that copy knew then. At the end each token must be there, unless there is a write or a delete of its row that the one who
 * wrote it did not know of, or that came after it.
 */
import type { Named, TokenCell } from './naming.ts';
import { tokensOf } from './naming.ts';
import type { SnapRow } from './snapshot.ts';
import { contentOf } from './snapshot.ts';
import { cellText } from './values.ts';

/** What a copy knows: of each writer the number of its last statement that has certainly come here. */
export type Known = ReadonlyMap<string, number>;

/** What a program did to a row. */
interface Event {
  readonly row: string;
  readonly writer: string;
  readonly number: number;
  readonly isDelete: boolean;
  readonly isBirth: boolean;
  /** The row is merged as a whole: it belongs to a device. */
  readonly isWhole: boolean;
  /** Token columns that it wrote, those that lost their token included. */
  readonly columns: ReadonlySet<number>;
  /** All tokens of the row after it. */
  readonly tokens: ReadonlySet<string>;
}

/** The end of a token: somebody who saw it replaced it, or deleted its row. */
interface End {
  readonly token: string;
  readonly writer: string;
  readonly known: Known;
  /** What its row held then; nothing if it was deleted. */
  readonly by: readonly string[];
}

/** A value that some program wrote, and that is looked for at the end. */
interface Written extends Event {
  readonly token: string;
  readonly column: number;
  readonly known: Known;
}

/** Effects of one statement; they count when its transaction is committed. */
export interface Effects {
  readonly events: Event[];
  readonly written: Written[];
  /** Tokens that this statement took out of the tables. */
  readonly ended: End[];
  /** Tokens that it took out of one row, by its name, and that others still have. */
  readonly left: { readonly token: string; readonly row: string }[];
  readonly parents: {
    readonly row: string;
    readonly parent: string;
    readonly onDelete: string;
    /** The reference is in the row's name. */
    readonly isNaming: boolean;
  }[];
  /** Rows that got another name: both names. */
  readonly renamed: { readonly from: string; readonly to: string }[];
}

export interface JudgeOptions {
  /** Tokens in tables, or waiting. */
  readonly present: ReadonlySet<string>;
  /** Tokens of which a conflict record tells; null where there are no such records yet. */
  readonly recorded: ReadonlySet<string> | null;
  /** Whether a token may be back that was replaced: after a restore, or where deletes are undone. */
  readonly mayReturn: boolean;
}

export class Oracle {
  readonly #events = new Map<string, Event[]>();
  readonly #written = new Map<string, Written>();
  readonly #ended = new Map<string, End[]>();
  readonly #left = new Map<string, Set<string>>();
  /** Rows in which a token stood, if it was more than one: its row was given another name. */
  readonly #rowsOfToken = new Map<string, Set<string>>();
  readonly #parents = new Map<string, Map<string, Set<string>>>();
  /** Rows that a row has in its name. */
  readonly #namedBy = new Map<string, Set<string>>();
  /** The names that a row had before it got one. */
  readonly #before = new Map<string, Set<string>>();

  /** What one statement did. @param replaced - the table into which it was a REPLACE: that writes every column of its row */
  compare(
    writer: string,
    number: number,
    known: Known,
    before: Named,
    after: Named,
    replaced: string | null = null,
  ): Effects {
    const effects: Effects = { events: [], written: [], ended: [], left: [], parents: [], renamed: [] };
    const tokens = (named: Named): Set<string> =>
      new Set([...named.rows.values()].flatMap((row) => tokensOf(row).map(({ token }) => token)));
    const none = new Set<never>();
    const tokensAfter = tokens(after);
    for (const [name, row] of before.rows) {
      const now = after.rows.get(name);
      const by = now === undefined ? [] : tokensOf(now).map(({ token }) => token);
      for (const { token } of tokensOf(row)) {
        if (!tokensAfter.has(token)) effects.ended.push({ token, writer, known, by });
        else if (!by.includes(token)) effects.left.push({ token, row: name });
      }
    }
    for (const [name, { table }] of before.rows) {
      const isWhole = table.ownership === 'device';
      if (!after.rows.has(name))
        effects.events.push({
          row: name,
          writer,
          number,
          isDelete: true,
          isBirth: false,
          isWhole,
          columns: none,
          tokens: none,
        });
    }
    const changedRows: SnapRow[] = [];
    const left = [...before.rows].filter(([name]) => !after.rows.has(name)).map(([name, row]) => ({ name, row }));
    for (const [name, row] of after.rows) {
      const old = before.rows.get(name);
      if (old !== undefined && textOf(old, before) === textOf(row, after)) continue;
      const changed = tokensOf(row).filter(({ token, column }) => old === undefined || !has(old, token, column));
      const isReplaced = row.table.name === replaced && changed.length > 0;
      const columns = new Set([
        ...changed.map(({ column }) => column),
        ...(isReplaced ? tokenColumns(row) : old === undefined ? [] : tokensOf(old).flatMap(gone(row))),
      ]);
      const own = new Set(tokensOf(row).map(({ token }) => token));
      if (old === undefined)
        for (const from of left)
          if (tokensOf(from.row).some(({ token }) => own.has(token)) || isSamePlace(from.row, row, replaced))
            effects.renamed.push({ from: from.name, to: name });
      const isWhole = row.table.ownership === 'device';
      const isBirth = old === undefined;
      const event = { row: name, writer, number, isDelete: false, isBirth, isWhole, columns, tokens: own };
      effects.events.push(event);
      // A row that leads nowhere stays behind, and which row it is cannot be told: nothing of it is followed.
      if (!row.isDangling)
        for (const { token, column } of changed) effects.written.push({ ...event, token, column, known });
      changedRows.push(row);
    }
    effects.parents.push(...parentsOf(changedRows, after));
    return effects;
  }

  /** The transaction of these statements was committed. */
  commit(all: readonly Effects[]): void {
    for (const { events, written, ended, left, parents, renamed } of all) {
      for (const event of events) push(this.#events, event.row, event);
      for (const one of written) {
        if (!this.#written.has(one.token)) this.#written.set(one.token, one);
        const rows = this.#rowsOfToken.get(one.token) ?? new Set();
        this.#rowsOfToken.set(one.token, rows.add(one.row));
      }
      for (const end of ended) push(this.#ended, end.token, end);
      for (const { token, row } of left) this.#left.set(token, (this.#left.get(token) ?? new Set()).add(row));
      for (const { from, to } of renamed) this.#before.set(to, (this.#before.get(to) ?? new Set()).add(from));
      for (const { row, parent, onDelete, isNaming } of parents) {
        if (isNaming) this.#namedBy.set(row, (this.#namedBy.get(row) ?? new Set()).add(parent));
        const own = this.#parents.get(row) ?? new Map<string, Set<string>>();
        this.#parents.set(row, own.set(parent, (own.get(parent) ?? new Set()).add(onDelete)));
      }
    }
  }

  /** A device was restored: what only its file held is gone with that, whoever wrote it. */
  lose(before: ReadonlySet<string>, after: ReadonlySet<string>): void {
    for (const token of before) if (!after.has(token)) this.#written.delete(token);
  }

  get tokens(): number {
    return this.#written.size;
  }

  /** What is wrong at the end, as sentences. */
  judge(options: JudgeOptions): string[] {
    const wrong: string[] = [];
    const gone = this.#mayBeGone();
    for (const one of this.#written.values()) {
      if (options.present.has(one.token)) {
        if (!options.mayReturn && this.#isBack(one, gone, options.recorded))
          wrong.push(`${one.token} in ${one.row} is back: it was replaced or deleted by someone who knew it`);
        continue;
      }
      if (options.recorded?.has(one.token) === true && this.#isOfAnother(one)) continue;
      const excuse = this.#excuse(one, gone);
      if (excuse === null)
        wrong.push(`${one.token} in ${one.row} is lost (written by ${one.writer}, statement ${one.number})`);
      else if (excuse === 'concurrent' && options.recorded !== null && !options.recorded.has(one.token))
        wrong.push(`${one.token} in ${one.row} was discarded without a record of it`);
    }
    return wrong;
  }

  #isBack(one: Written, gone: ReadonlySet<string>, recorded: JudgeOptions['recorded']): boolean {
    const ends = this.#ended.get(one.token);
    if (ends === undefined || (this.#rowsOfToken.get(one.token)?.size ?? 0) > 1 || this.#hasFollowed(one.row))
      return false;
    if (!one.isWhole) return true;
    // The whole row was written anew, with its older content, by a copy that had not seen the newer one.
    const kept = (this.#events.get(one.row) ?? []).filter((event) => event.tokens.has(one.token));
    // Or what replaced it was not that device's to write, and is undone with a record (O8); as is a delete, of which there is nothing to tell.
    const makers = new Set((this.#events.get(one.row) ?? []).flatMap((event) => (event.isBirth ? [event.writer] : [])));
    const standing = ends.filter(({ by, writer }) =>
      by.length === 0 ? makers.has(writer) : !by.some((token) => recorded?.has(token) === true),
    );
    return (
      !this.#mayBeCleared(one.row, gone) && standing.some(({ known }) => kept.every((event) => isKnown(event, known)))
    );
  }

  /**
   * The row has the name of another one in its own, which got a new one: whoever follows that (N1) writes it anew under its new name,
   * and may not have heard of a delete of the old one.
   */
  #hasFollowed(row: string): boolean {
    const parents = this.#namedBy.get(row);
    const holds = (name: string): boolean => row.includes(JSON.stringify(name)) || parents?.has(name) === true;
    return [...this.#before.values()].some((names) => [...names].some(holds));
  }

  /** It was written to a row that another device has made: no trigger saw it, and it is undone with a record (O8). */
  #isOfAnother(one: Written): boolean {
    const births = (this.#events.get(one.row) ?? []).filter(({ isBirth }) => isBirth);
    return one.isWhole && !one.isBirth && births.length > 0 && births.every(({ writer }) => writer !== one.writer);
  }

  /** Why a token may be absent; null when nothing excuses it. */
  #excuse(one: Written, gone: ReadonlySet<string>): 'later' | 'concurrent' | 'effect' | null {
    if (this.#ended.has(one.token) || this.#hasLeftItsName(one)) return 'later';
    for (const row of this.#rowsOfToken.get(one.token) ?? []) {
      for (const event of this.#events.get(row) ?? []) {
        if (event.writer === one.writer && event.number === one.number) continue;
        if (isKnown(event, one.known) && !(event.isDelete && this.#wasUnseen(event, one))) continue;
        const touches = event.isDelete || event.isBirth || one.isBirth || one.isWhole || event.columns.has(one.column);
        if (touches) return 'concurrent';
      }
      if (gone.has(row) || (one.isWhole && this.#mayBeCleared(row, gone))) return 'effect';
    }
    const isOneByName = this.#isNamedApart(one) || this.#hasFollowedUnseen(one) || this.#isLedToAnother(one);
    return isOneByName || this.#isBornApart(one) ? 'concurrent' : null;
  }

  /**
   * It was replaced by someone who knew it, in its row under a new name. A copy may show the row under its old name as well, until what
   * refers to that has followed (N1).
   */
  #hasLeftItsName({ token }: Written): boolean {
    const names = this.#rowsOfToken.get(token) ?? new Set();
    const hadOneOf = (row: string): boolean => [...(this.#before.get(row) ?? [])].some((name) => names.has(name));
    return [...(this.#left.get(token) ?? [])].some((row) => names.has(row) && hadOneOf(row));
  }

  /**
   * Somebody else gave its row another name, or deleted it, under a name that it had before: of two names the later stands (N3). Each
   * device writes by itself that the other one goes (D1), some of them later than others: what was made anew under this name meanwhile,
   * though by someone who had heard of both, goes with that, with a record (N1).
   */
  #isNamedApart(one: Written): boolean {
    const names = new Set(this.#rowsOfToken.get(one.token));
    for (const name of names) for (const earlier of this.#before.get(name) ?? []) names.add(earlier);
    return [...names].some((name) => {
      const deletes = (this.#events.get(name) ?? []).filter(({ isDelete }) => isDelete);
      const wasLeft = [...this.#before.values()].some((earlier) => earlier.has(name));
      const areApart = wasLeft && new Set(deletes.map(({ writer }) => writer)).size > 1;
      return areApart || deletes.some((event) => !isKnown(event, one.known));
    });
  }

  /**
   * What is in its name was given another one, which some rows follow later than others (N1): where two rows come to have one name so,
   * the later stands (N3). Of the other one this writer had not heard.
   */
  #hasFollowedUnseen(one: Written): boolean {
    const rows = this.#rowsOfToken.get(one.token) ?? new Set();
    const parts = new Set([...rows].flatMap((row) => [...(this.#namedBy.get(row) ?? [])]));
    const linked = new Set(parts);
    for (const name of linked) {
      for (const earlier of this.#before.get(name) ?? []) linked.add(earlier);
      for (const [later, names] of this.#before) if (names.has(name)) linked.add(later);
    }
    return [...this.#namedBy].some(
      ([other, names]) =>
        !rows.has(other) &&
        [...names].some((name) => linked.has(name) && !parts.has(name)) &&
        (this.#events.get(other) ?? []).some((event) => !event.isDelete && !isKnown(event, one.known)),
    );
  }

  /**
   * What is in its name was given another one, of which this writer had not heard, and with that in its place its name is that of
   * another row, maybe of the same writer: both are one from then on (N3).
   */
  #isLedToAnother(one: Written): boolean {
    const rows = [...(this.#rowsOfToken.get(one.token) ?? [])];
    const wasUnheard = (name: string): boolean =>
      (this.#events.get(name) ?? []).some((event) => event.isDelete && !isKnown(event, one.known));
    return [...this.#before].some(([later, names]) =>
      [...names].some((name) =>
        rows.some((row) => {
          const led = row.replaceAll(JSON.stringify(name), () => JSON.stringify(later));
          return led !== row && this.#events.has(led) && wasUnheard(name);
        }),
      ),
    );
  }

  /**
   * Its row had been deleted before, and that was undone elsewhere for a row which refers to it, and of which this writer had not heard
   * (D4): of two births the later stands (C3).
   */
  #isBornApart(one: Written): boolean {
    const rows = [...(this.#rowsOfToken.get(one.token) ?? [])];
    const wasDeleted = (row: string): boolean => (this.#events.get(row) ?? []).some(({ isDelete }) => isDelete);
    const refers = [...this.#parents].filter(([, parents]) => rows.some((row) => parents.has(row) && wasDeleted(row)));
    return refers.some(([child]) =>
      (this.#events.get(child) ?? []).some((event) => !event.isDelete && !isKnown(event, one.known)),
    );
  }

  /**
   * A copy shows a row whose delete waits there: who writes to it knows nothing of the delete, though it has come. (Or the row
   * was born again since, which that copy knew.)
   */
  #wasUnseen(death: Event, one: Written): boolean {
    if (one.isBirth) return false;
    return !(this.#events.get(death.row) ?? []).some(
      (event) => event.isBirth && event.number > death.number && isKnown(event, one.known),
    );
  }

  /** Rows that a delete may have taken along: by a reference that some version of theirs had. */
  #mayBeGone(): Set<string> {
    const deleted = new Set(
      [...this.#events].filter(([, events]) => events.some((event) => event.isDelete)).map(([row]) => row),
    );
    const gone = new Set<string>();
    for (let again = true; again;) {
      again = false;
      for (const [row, parents] of this.#parents) {
        if (gone.has(row)) continue;
        for (const [parent, actions] of parents) {
          if (!actions.has('CASCADE') || !(deleted.has(parent) || gone.has(parent))) continue;
          gone.add(row);
          again = true;
        }
      }
    }
    for (const row of deleted) this.#deleted.add(row);
    return gone;
  }

  readonly #deleted = new Set<string>();

  /** A reference of the row may have been set to NULL, or to a default, because what it led to was deleted. */
  #mayBeCleared(row: string, gone: ReadonlySet<string>): boolean {
    for (const [parent, actions] of this.#parents.get(row) ?? [])
      if ((gone.has(parent) || this.#deleted.has(parent)) && [...actions].some((action) => action !== 'CASCADE'))
        return true;
    return false;
  }
}

function isKnown(event: Event, known: Known): boolean {
  return event.number <= (known.get(event.writer) ?? 0);
}

/**
 * A row's content with the rows that it refers to, and their ids here: a row that follows its parent's new id is written anew,
 * though it says the same.
 */
function textOf(row: SnapRow, named: Named): string {
  const ids = row.table.columns.map((column, i) =>
    column.idOf === null || column.purpose === 'id' ? '' : cellText(row.cells[i] ?? null),
  );
  const targets = row.targets.map((target) => (target === null ? '-' : (named.names.get(target) ?? '?')));
  return [contentOf(row), ...ids, ...targets].join('\u0002');
}

/** What rows refer to, and what that refers to: a row that was renamed with its parent has been written by nobody under that name. */
function parentsOf(rows: readonly SnapRow[], { names }: Named): Effects['parents'] {
  const seen = new Set(rows);
  const found: Effects['parents'] = [];
  for (const row of seen) {
    row.table.foreignKeys.forEach(({ onDelete, columns }, i) => {
      const target = row.targets[i] ?? null;
      const [own, parent] = [names.get(row), target === null ? undefined : names.get(target)];
      if (target === null || own === undefined || parent === undefined) return;
      const isNaming = columns.some((name) => row.table.identity?.includes(name) === true);
      found.push({ row: own, parent, onDelete, isNaming });
      seen.add(target);
    });
  }
  return found;
}

/** A REPLACE writes the row whose key it names, of which nothing but that is left. */
function isSamePlace(from: SnapRow, to: SnapRow, replaced: string | null): boolean {
  return to.table.name === replaced && from.table === to.table && from.key === to.key;
}

/** The column of a token that has gone from a row. */
function gone(row: SnapRow): (cell: TokenCell) => number[] {
  return ({ token, column }) => (has(row, token, column) ? [] : [column]);
}

function tokenColumns({ table }: SnapRow): number[] {
  return table.columns.flatMap(({ purpose }, i) => (purpose === 'token' ? [i] : []));
}

function has(row: SnapRow, token: string, column: number): boolean {
  return tokensOf(row).some((other) => other.token === token && other.column === column);
}

function push<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}
