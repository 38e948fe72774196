/**
 * Arriving versions of rows of which a version waits already, with the same birth: column by column they go into that one, and
 * the two are tried together.
 */
import { decodeBatch } from '../protocol/batch.ts';
import type { Batch, TableData } from '../protocol/types.ts';
import { recordJoined } from './given-up.ts';
import { joinVersion } from './join.ts';
import { pickStamps } from './stamp-lists.ts';
import type { Library } from './library.ts';
import { birthOf } from './lookup.ts';
import type { Found } from './lookup.ts';
import { cutVersion, joinVersions } from './version.ts';

export interface Absorbed {
  /** What is left of the batch. */
  readonly rest: Batch;
  /** The versions that have grown, as a batch; null for none. */
  readonly versions: Batch | null;
}

/** Null when there is nothing of the kind, as in nearly every batch. */
export function absorbIntoWaiting(library: Library, batch: Batch, found: Found): Absorbed | null {
  if (found.pending.length === 0) return null;
  const grown: Batch[] = [];
  let hasAny = false;
  const tables = batch.tables.map((table) => {
    const model = library.arriving(table.table);
    if (model.ownership === 'device') return table;
    const absorbed = new Set<number>();
    table.rows.forEach((index, position) => {
      const waiting = found.pending[index];
      if (waiting === undefined || waiting.isDelete) return;
      const { birthHlc, birthRun } = birthOf(batch, found, index);
      if (library.compare(birthHlc, birthRun, waiting.birthHlc, waiting.birthRun) !== 0) return;
      absorbed.add(position);
      const uuid = Buffer.from(batch.uuids.subarray(index * 16, index * 16 + 16));
      const version = library.sql.value('SELECT version FROM flotilla_pending WHERE uuid = ?', uuid);
      const ours = decodeBatch(version as Uint8Array);
      const joined = joinVersion(library, model, ours, cutVersion(batch, table, position));
      if (joined.isNews) grown.push(joined.version);
      if (joined.unseen.size > 0) recordJoined(library, { model, uuid }, ours, joined.before, joined);
    });
    hasAny ||= absorbed.size > 0;
    return absorbed.size === 0 ? table : withoutRows(table, absorbed);
  });
  if (!hasAny) return null;
  return {
    rest: { ...batch, tables: tables.filter((table) => table.rows.length > 0) },
    versions: grown.length === 0 ? null : joinVersions(library, grown),
  };
}

function withoutRows(table: TableData, positions: ReadonlySet<number>): TableData {
  const places = table.rows.map((_, position) => position).filter((position) => !positions.has(position));
  const pick = <T>(list: readonly T[]): T[] => places.map((position) => list[position] as T);
  const { registers: _registers, ...others } = table;
  return {
    ...others,
    rows: pick(table.rows),
    hlc: pick(table.hlc),
    run: pick(table.run),
    columns: table.columns.map((column) => {
      if (column.kind === 'ref') return { ...column, refs: pick(column.refs) };
      const { ints, ...rest } = column;
      const values = pick(column.values);
      return ints === undefined ? { ...rest, values } : { ...rest, values, ints: Uint8Array.from(pick([...ints])) };
    }),
    dependencies: table.dependencies.map((dependency) => ({ ...dependency, refs: pick(dependency.refs) })),
    ...pickStamps(
      table,
      (row) => !positions.has(row),
      (row) => places.indexOf(row),
      (run) => run,
    ),
  };
}
