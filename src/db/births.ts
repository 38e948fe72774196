/**
 * Births and deaths of our own: the identities and first stamps of rows that were written here, in bulk, and tombstones.
 */
import { bornAnew } from './aside.ts';
import { decodeKey } from './capture.ts';
import type { FirstMark, MarkKey } from './identity.ts';
import { deriveUuids, isNamedByItself, uuidsOfMarks } from './identity.ts';
import type { Cells } from './cells.ts';
import { formatCells, formatSeen, parseCells, registersIn, seenIn } from './cells.ts';
import { recordReplaced } from './given-up.ts';
import { readVersion } from './join.ts';
import type { Library } from './library.ts';
import { takeFromName } from './misplaced.ts';
import type { Model } from './model.ts';
import { quoteName, rowsTable } from './model.ts';
import { cellsAtBirth } from './register-writes.ts';
import type { Pending } from './pending.ts';
import { forgetPending, hasPending, noteArrival, waitingVersion } from './pending.ts';
import { danglingKeys } from './remark.ts';
import type { Key } from './sql.ts';
import { insertMany, jsonKeys } from './sql.ts';
import { tenureOf, tenureStamps } from './tenure.ts';

/** A row that is to get an identity. */
export interface Newborn {
  readonly key: MarkKey;
  /** When it was written, ms since 1970. */
  readonly at: number;
  /** Absent where it was there before anything was marked. */
  readonly first?: FirstMark;
}

/** Writes the map rows of new rows: UUID, birth stamp, lsn. */
export function bear(library: Library, model: Model, rows: readonly Newborn[]): void {
  let left = rows;
  const uuidOf = uuidsOfMarks(library, model);
  while (left.length > 0) {
    const derived = deriveUuids(
      library,
      model,
      left.map((row) => row.key),
    );
    // Rows that are named by rows of the same table come after those; what has no name in the end gets a fresh UUID, roots first.
    const named = isNamedByItself(model) ? left.filter((row) => derived.has(row.key)) : left;
    const now =
      [named, named.length > 0 ? [] : rootsOf(library, model, left), left].find((rows) => rows.length > 0) ?? [];
    writeBirths(library, model, now, derived, uuidOf);
    const done = new Set(now);
    left = left.filter((row) => !done.has(row));
  }
}

/** Those of some rows that refer to themselves by their identity: they have no name, and others are named by them. */
function rootsOf<T extends { readonly key: MarkKey }>(library: Library, model: Model, rows: readonly T[]): T[] {
  const { identity, rowid } = model;
  const own = (identity.kind === 'derived' ? identity.columns : []).filter((name) => {
    const role = model.columns.find((column) => column.name === name)?.role;
    return role?.kind === 'ref' && role.table === model.table;
  });
  if (rowid === null) return [];
  const found = library.sql.rows(
    `SELECT ${quoteName(rowid)} FROM ${quoteName(model.table)}
     WHERE ${quoteName(rowid)} IN (SELECT value FROM json_each(?)) AND (${own.map((name) => `${quoteName(name)} = ${quoteName(rowid)}`).join(' OR ')})`,
    jsonKeys(rows.map(({ key }) => key as Key)),
  );
  const keys = new Set<MarkKey>(found.map(([key]) => key as Key));
  return rows.filter(({ key }) => keys.has(key));
}

function writeBirths(
  library: Library,
  model: Model,
  rows: readonly Newborn[],
  derived: ReadonlyMap<MarkKey, Uint8Array | null>,
  uuidOf: (first: FirstMark) => Uint8Array,
): void {
  const taken = takenUuids(library, model, derived.values());
  const natural = model.rowid === null;
  const keyColumns = natural ? model.key.map((_, index) => `, k${index + 1}`).join('') : '';
  const hasRegisters = library.policies(model).size > 0;
  const width = 7 + (natural ? model.key.length : 0) + (hasRegisters ? 1 : 0);
  const now = library.around.now();
  const pending = hasPending(library);
  const replaced: Omit<Pending, 'targets'>[] = [];
  insertMany(
    library.sql,
    `INSERT INTO ${rowsTable(model)} (key, uuid, birth_hlc, birth_run, hlc, run, lsn${keyColumns}${hasRegisters ? ', cells' : ''})`,
    width,
    rows.length,
    (index, into) => {
      const row = rows[index];
      if (row === undefined) return;
      const name = derived.get(row.key) ?? null;
      let uuid: Uint8Array;
      // Two rows of one derived name can only be there when no unique index guards it: the second is a row of its own.
      const waiting = pending && name !== null ? waitingVersion(library, name) : null;
      const former = name !== null && taken.has(hexOf(name)) ? takeFromName(library, model, name, row.key) : null;
      if (name !== null && (!taken.has(hexOf(name)) || former !== null || losesName(library, model, name))) {
        uuid = name;
        taken.add(hexOf(name));
        // One that has been asked for is recorded already.
        if (waiting === null && former !== null && former.hlc > 0) replaced.push(former);
        if (pending) {
          if (waiting !== null) replaced.push(waiting);
          forgetPending(library, uuid);
          noteArrival(library, uuid);
        }
      } else uuid = row.first === undefined ? library.around.newUuid() : uuidOf(row.first);
      const hlc = library.stampAt(Math.min(row.at, now));
      const { run } = library;
      into.push(natural ? null : row.key, Buffer.from(uuid), hlc, run, hlc, run, library.nextLsn());
      if (natural) into.push(...decodeKey(String(row.key)));
      if (hasRegisters) into.push(cellsAtBirth(library, model, row.key, { hlc, run }));
    },
  );
  for (const waiting of replaced) {
    const version = readVersion(library, model, waiting.uuid);
    recordReplaced(library, waiting, 'later-birth', { hlc: library.hlc, run: library.run, version });
  }
}

/** A row that refers to nothing has its name no more as soon as another one has it: it goes on as a row that nobody has heard of. */
function losesName(library: Library, model: Model, uuid: Uint8Array): boolean {
  if (model.ownership === 'device' || danglingKeys(library, model, uuid).length === 0) return false;
  const map = rowsTable(model);
  const [cells, aside] = library.sql.rows(`SELECT cells, aside FROM ${map} WHERE uuid = ?`, Buffer.from(uuid))[0] ?? [];
  const hlc = library.stampAt(library.around.now());
  library.sql.run(
    `UPDATE ${map} SET uuid = ?, birth_hlc = ?, birth_run = ?, hlc = ?, run = ?, lsn = ?, cells = ?, aside = ? WHERE uuid = ?`,
    Buffer.from(library.around.newUuid()),
    hlc,
    library.run,
    hlc,
    library.run,
    library.nextLsn(),
    formatCells(registersIn(parseCells(cells))),
    bornAnew(aside),
    Buffer.from(uuid),
  );
  return true;
}

function takenUuids(library: Library, model: Model, uuids: Iterable<Uint8Array | null>): Set<string> {
  const taken = new Set<string>();
  for (const uuid of uuids) {
    if (uuid === null) continue;
    if (library.sql.value(`SELECT 1 FROM ${rowsTable(model)} WHERE uuid = ?`, Buffer.from(uuid)) !== undefined)
      taken.add(hexOf(uuid));
  }
  return taken;
}

function hexOf(uuid: Uint8Array): string {
  return Buffer.from(uuid.buffer, uuid.byteOffset, uuid.byteLength).toString('latin1');
}

/**
 * Stamps a death of our own.
 * @param cells - of the row that dies; of an owned row, those of what is written over it
 * @param last - the row itself, if its delete may have to be undone
 */
export function writeTombstone(
  library: Library,
  model: Model,
  uuid: Uint8Array,
  birthHlc: number,
  birthRun: number,
  at: number,
  cells: Cells,
  last: Uint8Array | null = null,
): void {
  const hlc = library.stampAt(at);
  library.sql.run(
    `INSERT OR REPLACE INTO flotilla_tombstones (uuid, tbl, birth_hlc, birth_run, hlc, run, lsn, seen, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    Buffer.from(uuid),
    model.n,
    birthHlc,
    birthRun,
    hlc,
    library.run,
    library.nextLsn(),
    formatSeen(model.ownership === 'device' ? tenureStamps(tenureOf(cells), library.run) : seenIn(cells)),
    last === null ? null : Buffer.from(last),
  );
  if (model.ownership === 'shared' && hasPending(library)) forgetPending(library, uuid);
}
