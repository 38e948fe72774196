/**
 * Which row is which, on all copies: by its name where its key or the configuration names it, else by its tokens, of which
 * each was written into one row only.
 */
import type { Table } from './schema.ts';
import { columnOf } from './schema.ts';
import type { Snapshot, SnapRow } from './snapshot.ts';
import { cellAt, rowsOf } from './snapshot.ts';
import type { Cell } from './values.ts';

export interface Named {
  readonly names: ReadonlyMap<SnapRow, string>;
  readonly rows: ReadonlyMap<string, SnapRow>;
}

/** A token of a row with the number of its column. */
export interface TokenCell {
  readonly token: string;
  readonly column: number;
}

/** The tokens of a row. */
export function tokensOf(row: SnapRow): TokenCell[] {
  return row.table.columns.flatMap((column, i) => {
    const token = column.purpose === 'token' ? tokenText(row.cells[i] ?? null) : null;
    return token === null ? [] : [{ token, column: i }];
  });
}

function tokenText(cell: Cell): string | null {
  if (typeof cell === 'string') return cell;
  return Buffer.isBuffer(cell) ? cell.toString('utf8') : null;
}

export class Naming {
  readonly #rowOfToken = new Map<string, string>();
  /** The last name of rows that their key names: one that leads nowhere still is that row. */
  readonly #derivedOfToken = new Map<string, string>();
  /** Names of rows that nothing but their tokens names. */
  readonly #given = new Set<string>();

  /**
   * Names the rows of a snapshot.
   * @param before - the same copy before one statement: a row that keeps its key, but none of its tokens, is the same row
   */
  name(snapshot: Snapshot, before: Named | null = null): Named {
    const names = new Map<SnapRow, string>();
    const rows = new Map<string, SnapRow>();
    const give = (row: SnapRow, name: string): void => {
      names.set(row, name);
      rows.set(name, row);
    };
    const unnamed: SnapRow[] = [];
    for (const row of rowsOf(snapshot)) {
      const known = isDerived(row.table) ? undefined : this.#byToken(row);
      if (known !== undefined && !rows.has(known)) give(row, known);
      else unnamed.push(row);
    }
    const visiting = new Set<SnapRow>();
    const visit = (row: SnapRow): string | null => {
      const known = names.get(row);
      if (known !== undefined) return known;
      if (visiting.has(row)) return null;
      visiting.add(row);
      let name = this.#derived(row, visit);
      if (name === null && row.isDangling) name = this.#lastDerived(row);
      if (name === null || rows.has(name)) name = this.#byToken(row) ?? null;
      if (name === null || rows.has(name)) name = this.#byKey(row, before, rows);
      if (name === null || rows.has(name)) name = this.#give(row);
      visiting.delete(row);
      give(row, name);
      return name;
    };
    // One that leads nowhere has its name only as long as no other row has it.
    for (const row of unnamed) if (!row.isDangling) visit(row);
    for (const row of unnamed) visit(row);
    for (const [row, name] of names) {
      if (this.#given.has(name)) this.#learn(row, name);
      else if (!row.isDangling) for (const { token } of tokensOf(row)) this.#derivedOfToken.set(token, name);
    }
    return { names, rows };
  }

  #lastDerived(row: SnapRow): string | null {
    for (const { token } of tokensOf(row)) {
      const known = this.#derivedOfToken.get(token);
      if (known !== undefined) return known;
    }
    return null;
  }

  #give(row: SnapRow): string {
    const name = `${row.table.name} ${this.#given.size + 1}`;
    this.#given.add(name);
    return name;
  }

  #byKey(row: SnapRow, before: Named | null, taken: ReadonlyMap<string, SnapRow>): string | null {
    if (before === null) return null;
    for (const [old, name] of before.names)
      if (old.table === row.table && old.key === row.key && this.#given.has(name) && !taken.has(name)) return name;
    return null;
  }

  #learn(row: SnapRow, name: string): void {
    for (const { token } of tokensOf(row)) if (!this.#rowOfToken.has(token)) this.#rowOfToken.set(token, name);
  }

  #byToken(row: SnapRow): string | undefined {
    for (const { token } of tokensOf(row)) {
      const known = this.#rowOfToken.get(token);
      if (known !== undefined) return known;
    }
    return undefined;
  }

  #derived(row: SnapRow, visit: (row: SnapRow) => string | null): string | null {
    const { table } = row;
    if (table.identity === null) return null;
    const parts = table.identity.map((name): string | null => {
      const column = columnOf(table, name);
      if (column.idOf === null) return foldedText(cellAt(row, name), column.collation);
      const at = table.foreignKeys.findIndex((foreignKey) => foreignKey.columns.includes(name));
      const target = row.targets[at] ?? null;
      return target === null ? null : visit(target);
    });
    return parts.includes(null) ? null : `${table.name}${JSON.stringify(parts)}`;
  }
}

function isDerived(table: Table): boolean {
  return table.identity !== null;
}

/** As an index with this collation sees it; 1 and 1.0 are equal there. Null for NULL, which names nothing. */
function foldedText(cell: Cell, collation: string): string | null {
  if (cell === null) return null;
  if (typeof cell === 'string') {
    if (collation === 'NOCASE') return `t${cell.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase())}`;
    return `t${collation === 'RTRIM' ? cell.replace(/ +$/, '') : cell}`;
  }
  if (Buffer.isBuffer(cell)) return `b${cell.toString('hex')}`;
  return Number.isInteger(Number(cell)) ? `i${BigInt(cell)}` : `r${cell}`;
}
