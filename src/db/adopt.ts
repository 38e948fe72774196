/**
 * Joining with a file that has the same rows already (`join --same`): rows here have no identity until an equal row
 * arrives, whose identity they take. What is left after the first complete pass is new.
 */
import { TextBytes } from '../protocol/text-bytes.ts';
import type { SqlValue } from '../protocol/types.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import { OP_UPDATE, encodedKey } from './capture.ts';
import type { MarkKey } from './identity.ts';
import { identityText } from './identity.ts';
import type { Library } from './library.ts';
import type { Model } from './model.ts';
import { mapJoin, quoteName, rowsTable, syncedColumns } from './model.ts';
import type { Key } from './sql.ts';
import { narrow, readBig } from './sql.ts';

interface Candidate {
  /** As marks name it. */
  readonly key: MarkKey;
  readonly content: string;
}

/** Candidates of one table, by what they are paired on. */
type Candidates = Map<string, Candidate[]>;

export class Adopter {
  readonly #tables = new Map<string, Candidates>();

  /** Rows have been written here: what was read of them is stale. */
  reset(): void {
    this.#tables.clear();
  }

  /**
   * The local key of a row without identity that equals the arriving one, which it is from now on; null if there is none.
   * Rows whose identity is derived are paired by it alone: if the rest differs, what stands here is a later change.
   */
  pair(library: Library, model: Model, values: readonly unknown[]): Key | null {
    const columns = syncedColumns(model);
    const list = this.#candidates(library, model).get(pairingText(model, values));
    const candidate = list?.shift();
    if (candidate === undefined) return null;
    if (candidate.content !== contentText(values)) {
      const mask = columns.reduce((bits, column) => bits + 2 ** Math.min(column.number, 52), 0);
      library.sql.run(
        'INSERT INTO flotilla_marks (tbl, op, old, new, at, mask) VALUES (?, ?, ?, ?, ?, ?)',
        model.n,
        OP_UPDATE,
        candidate.key,
        candidate.key,
        library.around.now(),
        Math.min(mask, Number.MAX_SAFE_INTEGER),
      );
    }
    // A natural key stands in the row itself: there, any number says that it was paired.
    return typeof candidate.key === 'string' ? 0 : candidate.key;
  }

  #candidates(library: Library, model: Model): Candidates {
    let candidates = this.#tables.get(model.table);
    if (candidates !== undefined) return candidates;
    candidates = new Map();
    const columns = syncedColumns(model);
    const statement = library.sql.get(
      `SELECT ${[encodedKey(model, 't'), ...columns.map((column) => `t.${quoteName(column.name)}`)].join(', ')} FROM ${quoteName(model.table)} t
       WHERE NOT EXISTS (SELECT 1 FROM ${rowsTable(model)} m WHERE ${mapJoin(model)})`,
    );
    for (const [key, ...cells] of readBig(statement, [])) {
      const values = cells.map((value, i) =>
        columns[i]?.affinity === 'BLOB' && columns[i]?.role.kind === 'value' ? value : narrow(value),
      );
      const text = pairingText(model, values);
      const list = candidates.get(text) ?? [];
      list.push({ key: narrow(key ?? null) as MarkKey, content: contentText(values) });
      candidates.set(text, list);
    }
    this.#tables.set(model.table, candidates);
    return candidates;
  }
}

/** What rows are paired on: the derived identity, or all that they hold. */
function pairingText(model: Model, values: readonly unknown[]): string {
  const { identity } = model;
  if (identity.kind === 'random') return contentText(values);
  const columns = syncedColumns(model);
  return identity.columns
    .map((name) =>
      identityText(model, name, (values[columns.findIndex((column) => column.name === name)] ?? null) as SqlValue),
    )
    .join('\u0000');
}

function contentText(values: readonly unknown[]): string {
  return values.map((value) => cellText(value as SqlValue)).join('\u0000');
}

/** Texts say how long they are: they may hold the separator. */
function cellText(value: SqlValue): string {
  if (value instanceof Uint8Array) return `b${Buffer.from(value).toString('hex')}`;
  if (typeof value === 'string') return `t${value.length}:${value}`;
  if (value instanceof TextBytes) return `x${bytesToHex(value.bytes)}`;
  return `${typeof value}${String(value)}`;
}
