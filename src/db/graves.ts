/**
 * The last values of deleted rows whose delete may have to be undone: a tombstone keeps them, as a version. On the device that
 * deleted the row they come with the mark, since the row is gone when it is stamped; elsewhere they are read before it goes.
 */
import { encodeBatch } from '../protocol/batch.ts';
import type { SqlValue } from '../protocol/types.ts';
import { formatAside, parseAside } from './aside.ts';
import { decodeKey } from './capture.ts';
import type { Cells } from './cells.ts';
import { formatCells, lastChange, registersIn } from './cells.ts';
import { mayBeUndone } from './clauses.ts';
import type { Doomed } from './deletes.ts';
import type { Library } from './library.ts';
import type { KnownTombstone } from './lookup.ts';
import type { Model } from './model.ts';
import { NOT_HERE, lateColumns, syncedColumns } from './model.ts';
import { NO_END, PageBuilder, readVersions, versionSelect } from './page.ts';
import type { Key } from './sql.ts';
import { jsonKeys } from './sql.ts';
import { cutVersion } from './version.ts';

/** A row that the marks say was deleted. */
interface Deleted {
  readonly key: Key;
  readonly uuid: Uint8Array;
  readonly birthHlc: number;
  readonly birthRun: number;
  readonly cells: Cells;
  readonly aside: SqlValue;
  /** Its synced columns, as a mark carries them. */
  readonly last: string;
}

/** The last versions of rows that were deleted here, by UUID (hex). Call it while all mappings are still in place. */
export function lastVersions(library: Library, model: Model, rows: readonly Deleted[]): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  if (rows.length === 0 || model.foreignKeys.some((key) => !key.simple)) return found;
  const builder = pageBuilder(library);
  builder.addVersions(
    model,
    rows.map(({ key, uuid, birthHlc, birthRun, last, cells, aside }): SqlValue[] => {
      // What was counted has no other place than its entries.
      const registers = registersIn(cells);
      const { hlc, run } = lastChange(
        (...stamps) => library.compare(...stamps),
        { hlc: birthHlc, run: birthRun },
        registers,
      );
      return [
        0,
        key,
        uuid,
        birthHlc,
        birthRun,
        hlc,
        run,
        formatCells(registers),
        asBorn(model, cells, aside),
        ...exactly(model, last),
      ];
    }),
  );
  cutAll(builder, found);
  return found;
}

/** Keeps the last versions of rows that are about to be removed because they were deleted elsewhere. */
export function keepLast(
  library: Library,
  model: Model,
  rows: ReadonlyArray<Pick<Doomed, 'key' | 'uuid' | 'last'>>,
): void {
  if (!mayBeUndone(library.registry, model)) return;
  const builder = pageBuilder(library);
  const text = versionSelect(model, library.registry, 'WHERE m.key IN (SELECT value FROM json_each(?))');
  builder.addVersions(model, readVersions(library.sql, model, text, [jsonKeys(rows.map(({ key }) => key))]));
  const found = new Map<string, Uint8Array>();
  cutAll(builder, found);
  for (const { uuid, last } of rows)
    if (last !== undefined && last !== null) found.set(Buffer.from(uuid).toString('hex'), encodeBatch(last));
  for (const [uuid, version] of found) {
    library.sql.run(
      'UPDATE flotilla_tombstones SET version = ? WHERE uuid = ?',
      Buffer.from(version),
      Buffer.from(uuid, 'hex'),
    );
  }
}

/**
 * Stores a tombstone that has arrived. What the row held is kept with whichever delete of that birth counts.
 * @param heir - the UUID of the row that it is from now on
 */
export function storeGrave(
  library: Library,
  model: Model,
  uuid: Uint8Array,
  { birthHlc, birthRun, hlc, run, seen }: KnownTombstone,
  heir: Uint8Array | null,
): void {
  const kept =
    heir === null
      ? library.sql.value(
          'SELECT version FROM flotilla_tombstones WHERE uuid = ? AND birth_hlc = ? AND birth_run = ?',
          uuid,
          birthHlc,
          birthRun,
        )
      : null;
  library.sql.run(
    'INSERT OR REPLACE INTO flotilla_tombstones (uuid, tbl, birth_hlc, birth_run, hlc, run, lsn, seen, alias, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
    uuid,
    model.n,
    birthHlc,
    birthRun,
    hlc,
    run,
    library.nextLsn(),
    seen,
    heir,
    kept ?? null,
  );
}

/** Columns that were written after the birth count as born with the row: it will be born anew with all that it held. */
function asBorn(model: Model, cells: Cells, aside: SqlValue): SqlValue {
  const late = lateColumns(model).filter(({ since, number }) => since !== NOT_HERE && cells.has(number));
  if (late.length === 0) return aside;
  const notes = late.map(({ number }): [number, { kind: 'born' }] => [number, { kind: 'born' }]);
  return formatAside(new Map([...parseAside(aside), ...notes]));
}

/** The values of a mark; in a column that could hold 5.0 as well, 5 is a bigint. */
function exactly(model: Model, last: string): SqlValue[] {
  if (last === '') return [];
  const columns = syncedColumns(model);
  const kinds = last.split(',').map((part) => part[0]);
  return decodeKey(last).map((value, i) =>
    columns[i]?.affinity === 'BLOB' && kinds[i] === 'i' ? BigInt(value as number | bigint) : value,
  );
}

function pageBuilder(library: Library): PageBuilder {
  return new PageBuilder(library.sql, library.registry, (ordinal) => ({
    hex: library.runHex(ordinal),
    device: library.runDevice(ordinal) ?? '',
  }));
}

function cutAll(builder: PageBuilder, into: Map<string, Uint8Array>): void {
  builder.resolve();
  const page = builder.build(NO_END);
  for (const table of page.tables) {
    table.rows.forEach((index, position) => {
      const uuid = Buffer.from(page.uuids.subarray(index * 16, index * 16 + 16)).toString('hex');
      into.set(uuid, encodeBatch(cutVersion(page, table, position)));
    });
  }
}
