/**
 * Rows after a change of the schema, on the writing side: what was written while our triggers could not see it, what waited
 * for a table or a column that is there now. All in the transaction that has brought the metadata up to date.
 */
import { LAST_MASK_BIT, OP_DELETE, OP_UPDATE, encodedKey } from './capture.ts';
import { writeTombstone } from './births.ts';
import { formatAside, parseAside } from './aside.ts';
import { formatCells, parseCells } from './cells.ts';
import type { Evolved } from './evolve.ts';
import { forgetLostTables, lostTables, noteLost } from './known.ts';
import type { Library } from './library.ts';
import { mergeBatch } from './merge.ts';
import { getState } from './metadata.ts';
import { NOT_HERE, mapJoin, quoteName, rowsTable } from './model.ts';
import type { Column, Model } from './model.ts';
import { NO_END, PageBuilder, readVersions, versionSelect } from './page.ts';
import { BEFORE_ALL_KEYS } from './sql.ts';
import type { Key } from './sql.ts';
import { stampAll, stampExisting } from './stamp.ts';

/** Rows whose values enter a new column at once. */
const TAKE_IN_ROWS = 1000;

export function catchUp(library: Library, { rebuilt, arrived, added, lost, changes }: Evolved): void {
  // What others wrote is stamped in slices, as always.
  if (rebuilt.length + arrived.length + added.length + changes.length === 0) return;
  library.sql.run(
    'DELETE FROM flotilla_marks WHERE tbl NOT IN (SELECT value FROM json_each(?))',
    JSON.stringify(library.registry.models.map(({ n }) => n)),
  );
  // What marks say of deleted rows is in the order of columns that were there then.
  if (changes.length > 0) library.sql.run('UPDATE flotilla_marks SET new = NULL WHERE op = ?', OP_DELETE);
  const returns = arrived.length > 0 || added.some(({ fromOthers }) => fromOthers.length > 0);
  const isBack = returns && lostTables(library.db) !== null;
  if (isBack)
    for (const { model, fromOthers } of added) forgetLost(library, current(library, model), new Set(fromOthers));
  for (const { model, numbers } of added) markWritten(library, model, numbers);
  stampAll(library);
  // While a copy is being paired with what arrives, rows without an identity are what that is about.
  const isAdopting = getState(library.db, 'adopting') === 1;
  for (const model of rebuilt) {
    buryMissing(library, current(library, model));
    if (!isAdopting) stampExisting(library, current(library, model), library.around.now());
  }
  if (lost !== null) noteLost(library.db, lost);
  if (isBack) {
    library.forgetKnowledge();
    forgetLostTables(library.db);
  }
  for (const { model, numbers } of added) takeIn(library, current(library, model), new Set(numbers));
  for (const model of arrived)
    library.sql.run(
      "UPDATE flotilla_pending SET reason = 'missing-target', detail = 'Its table has just appeared.' WHERE tbl = ?",
      model.n,
    );
}

/** Stamps of values that went with a column when it was dropped would keep those of others from coming back. */
function forgetLost(library: Library, model: Model, numbers: ReadonlySet<number>): void {
  if (numbers.size === 0) return;
  const rows = library.sql.rows(
    `SELECT key, cells, aside FROM ${rowsTable(model)} WHERE cells IS NOT NULL OR aside IS NOT NULL`,
  );
  for (const [key, cells, aside] of rows) {
    const values = parseAside(aside);
    const hasLost = (number: number): boolean => {
      const kind = values.get(number)?.kind;
      return numbers.has(number) && kind !== 'value' && kind !== 'ref';
    };
    library.sql.run(
      `UPDATE ${rowsTable(model)} SET cells = ?, aside = ? WHERE key = ?`,
      formatCells(new Map([...parseCells(cells)].filter(([number]) => !hasLost(number)))),
      formatAside(new Map([...values].filter(([number]) => !hasLost(number)))),
      key,
    );
  }
}

function current(library: Library, model: Model): Model {
  return library.modelByNumber(model.n);
}

/**
 * A program that adds a column often fills it in the same breath, before there are triggers that know it. Whatever is not
 * the default was written.
 */
function markWritten(library: Library, model: Model, numbers: readonly number[]): void {
  for (const column of model.columns.filter(({ number }) => numbers.includes(number))) {
    const value = `t.${quoteName(column.name)}`;
    // A default that is computed says nothing about what it was then.
    const fallback = column.fallback.startsWith('(') ? 'NULL' : column.fallback;
    library.sql.run(
      `INSERT INTO flotilla_marks (tbl, op, old, new, at, mask)
       SELECT ${model.n}, ${OP_UPDATE}, ${encodedKey(model, 't')}, ${encodedKey(model, 't')}, ?, ?
       FROM ${quoteName(model.table)} t WHERE ${value} IS NOT ${fallback}`,
      library.around.now(),
      2 ** Math.min(column.number, LAST_MASK_BIT),
    );
  }
}

/** Rows that went while the table was built anew: this device has deleted them. */
function buryMissing(library: Library, model: Model): void {
  const rows = library.sql.rows(
    `SELECT m.key, m.uuid, m.birth_hlc, m.birth_run, m.cells FROM ${rowsTable(model)} m
     WHERE NOT EXISTS (SELECT 1 FROM ${quoteName(model.table)} t WHERE ${mapJoin(model)})`,
  );
  for (const [key, uuid, birthHlc, birthRun, cells] of rows) {
    library.sql.run(`DELETE FROM ${rowsTable(model)} WHERE key = ?`, key);
    const isForeign = model.ownership === 'device' && library.runDevice(Number(birthRun)) !== library.around.device;
    if (isForeign) continue;
    const at = library.around.now();
    writeTombstone(library, model, uuid as Uint8Array, Number(birthHlc), Number(birthRun), at, parseCells(cells));
  }
}

/**
 * Values that stood aside enter the columns that have appeared, as if they arrived just now: a reference whose target is not
 * here makes its row wait, like any other. Nothing is stamped: they are what they were.
 */
function takeIn(library: Library, model: Model, numbers: ReadonlySet<number>): void {
  const isNew = ({ number }: Column): boolean => numbers.has(number);
  const before: Model = {
    ...model,
    columns: model.columns.filter((column) => !isNew(column)),
    absent: [...model.absent, ...model.columns.filter(isNew).map((column) => ({ ...column, since: NOT_HERE }))],
  };
  const condition = `WHERE m.aside IS NOT NULL AND m.key > ? ORDER BY m.key LIMIT ${TAKE_IN_ROWS}`;
  const text = versionSelect(before, library.registry, condition);
  let after: Key = BEFORE_ALL_KEYS;
  for (;;) {
    const versions = readVersions(library.sql, before, text, [after]);
    const last = versions.at(-1);
    if (last === undefined) return;
    after = last[1] as Key;
    const builder = new PageBuilder(library.sql, library.registry, (ordinal) => ({
      hex: library.runHex(ordinal),
      device: library.runDevice(ordinal) ?? '',
    }));
    const own = versions.filter((version) => hasValue(version[8], numbers));
    builder.addVersions(before, own);
    builder.resolve();
    const batch = builder.build(NO_END);
    for (const version of own) forget(library, model, version[1] as Key, numbers);
    library.db.pragma('defer_foreign_keys = ON');
    library.withoutCapture(() => mergeBatch(library, batch, { holdDeletes: false, retake: false, adopter: null }));
  }
}

function hasValue(aside: unknown, numbers: ReadonlySet<number>): boolean {
  return [...parseAside(aside as Uint8Array | null)].some(
    ([number, { kind }]) => numbers.has(number) && (kind === 'value' || kind === 'ref'),
  );
}

/** Makes a row one that has no value in these columns. */
function forget(library: Library, model: Model, key: Key, numbers: ReadonlySet<number>): void {
  const [row] = library.sql.rows(`SELECT cells, aside FROM ${rowsTable(model)} WHERE key = ?`, key);
  const others = <T>(entries: ReadonlyMap<number, T>): Map<number, T> =>
    new Map([...entries].filter(([number]) => !numbers.has(number)));
  library.sql.run(
    `UPDATE ${rowsTable(model)} SET cells = ?, aside = ?${model.ownership === 'device' ? ', hlc = 0' : ''} WHERE key = ?`,
    formatCells(others(parseCells(row?.[0]))),
    formatAside(others(parseAside(row?.[1]))),
    key,
  );
}
