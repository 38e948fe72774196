/**
 * References that followed a row to another id. ON UPDATE CASCADE writes them into the referring rows, though these refer to the same
 * row as before: there is nothing to tell others, and a move that somebody made meanwhile must not lose against it. Capture sets
 * such changes apart (`OP_FOLLOW`); here it is seen whether the row did move in that moment.
 */
import { OP_FOLLOW, OP_UPDATE, followsIds } from './capture.ts';
import type { MarkKey } from './identity.ts';
import type { Library } from './library.ts';
import { LAST_MASK_BIT } from './capture.ts';
import type { Column, ForeignKey, Model } from './model.ts';

/** The next mark that concerns the ids of a move, and whether it is that move. */
interface Next {
  readonly n: number;
  readonly isMove: boolean;
}

/** Followed references whose target is still to be moved by a later slice of marks. */
const followed = new WeakMap<Library, Set<string>>();

/** For one slice of marks. */
export class Follows {
  readonly #library: Library;
  readonly #next = new Map<string, Next>();
  /** Table number → number of the last mark that moves one of its rows. */
  readonly #lastMoves = new Map<number, number>();

  constructor(library: Library) {
    this.#library = library;
  }

  /**
   * Whether a reference means the same row as before: right after it was written, the row moved there.
   * @param ids - the id before and after, as the mark has them: `before:after`
   */
  isSame(model: Model, n: number, ids: string, mask: number): boolean {
    const column = columnOf(model, mask);
    if (column?.role.kind !== 'ref') return false;
    const [from = '', to = ''] = ids.split(':');
    const parent = this.#library.model(column.role.table);
    const place = `${parent.n}:${ids}`;
    let next = this.#next.get(place);
    if (next === undefined || next.n <= n) {
      next = this.#readNext(parent, n, BigInt(from), BigInt(to));
      this.#next.set(place, next);
    }
    if (next.isMove) followedOf(this.#library).add(evidence(model, column, to));
    return next.isMove;
  }

  /** A mark on one of the two ids comes before the move, or there is none. */
  #readNext(parent: Model, n: number, from: bigint, to: bigint): Next {
    const none = { n: Infinity, isMove: false };
    let last = this.#lastMoves.get(parent.n);
    if (last === undefined) {
      last = this.#library.sql.number(
        'SELECT ifnull(max(n), 0) FROM flotilla_marks WHERE tbl = ? AND op = ? AND old IS NOT new',
        parent.n,
        OP_UPDATE,
      );
      this.#lastMoves.set(parent.n, last);
    }
    if (last <= n) return none;
    const row = this.#library.sql.rows(
      `SELECT n, op = ? AND old = ? AND new = ? FROM flotilla_marks
       WHERE n > ? AND n <= ? AND tbl = ? AND op <> ? AND (old IN (?, ?) OR new IN (?, ?)) ORDER BY n LIMIT 1`,
      OP_UPDATE,
      from,
      to,
      n,
      last,
      parent.n,
      OP_FOLLOW,
      from,
      to,
      from,
      to,
    )[0];
    return row === undefined ? none : { n: Number(row[0]), isMove: row[1] === 1 };
  }
}

/** Whether the references of a foreign key followed a row to its new id, so that nobody else refers to that by it. */
export function haveFollowed(library: Library, child: Model, foreignKey: ForeignKey, to: MarkKey): boolean {
  const known = followedOf(library);
  return foreignKey.columns.some((name) => {
    const column = child.columns.find((candidate) => candidate.name === name);
    return column !== undefined && followsIds(child, column) && known.has(evidence(child, column, to));
  });
}

/** No marks are left: what was noted of them is of no more use. */
export function forgetFollowed(library: Library): void {
  followed.delete(library);
}

function followedOf(library: Library): Set<string> {
  let known = followed.get(library);
  if (known === undefined) {
    known = new Set();
    followed.set(library, known);
  }
  return known;
}

function evidence(child: Model, column: Column, to: MarkKey): string {
  return `${child.n}:${column.number}:${String(to)}`;
}

function columnOf(model: Model, mask: number): Column | undefined {
  return model.columns.find(({ number }) => number < LAST_MASK_BIT && 2 ** number === mask);
}
