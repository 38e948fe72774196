/**
 * Records of what was discarded: a value that a later write replaced without having seen it, a row that was deleted by somebody
 * who did not know of its last change. They are made where the discarded value stood, so at least on the device whose user wrote
 * it, in the transaction that discards it, and stay on that device until they age out.
 */
import { encodeBatch } from '../protocol/batch.ts';
import { TextBytes } from '../protocol/text-bytes.ts';
import type { SqlValue } from '../protocol/types.ts';
import type { LocalStamp } from './cells.ts';
import type { Collider } from './collisions.ts';
import type { Doomed } from './deletes.ts';
import type { Incoming } from './incoming.ts';
import { bindable, columnData } from './incoming.ts';
import { readVersion } from './join.ts';
import type { Library } from './library.ts';
import type { Column, Model } from './model.ts';
import { mapJoin, quoteName, rowsTable, syncedColumns } from './model.ts';
import type { StandingRow } from './rivals.ts';
import type { RowWriter } from './rows.ts';
import { readBig } from './sql.ts';

/** Why a value or a row was discarded. */
export type Rule =
  /** Another device wrote the column later. */
  | 'later-write'
  /** Another device made the same row anew, later. */
  | 'later-birth'
  /** Another device deleted the row. */
  | 'deleted'
  /** What the row referred to was deleted: ON DELETE CASCADE. */
  | 'cascade'
  /** What the row referred to was deleted: ON DELETE SET NULL or SET DEFAULT. */
  | 'reference-cleared'
  /** Something that may not lose it refers to the row: the delete was undone. */
  | 'revived'
  /** Another row has the value in a unique index: this one got another. */
  | 'renamed'
  /** Another row has the values in a unique index, and they are one row from now on. */
  | 'merged';

/** What has been kept instead of a discarded value. */
interface Kept extends LocalStamp {
  readonly value: SqlValue;
}

/** How the value of a column stands in a record: a reference as the UUID of its target. */
function stored(value: SqlValue): SqlValue {
  return value instanceof Uint8Array && !Buffer.isBuffer(value) ? Buffer.from(value) : value;
}

/** Records the values that an arriving version writes over unseen; call it before they are gone. */
export function recordOverwritten(library: Library, row: Incoming, rows: RowWriter): void {
  const { model, outcome, table, position } = row;
  const columns = syncedColumns(model).filter(({ number }) => outcome.unseen.has(number));
  const here = readColumns(library, model, rows.uuidOf(row.index), columns);
  if (here === null) return;
  columns.forEach((column, i) => {
    const data = columnData(table, column.wire);
    const index = data?.kind === 'ref' ? (data.refs[position] ?? -1) : -1;
    const value = data?.kind === 'value' ? bindable(data, position) : index < 0 ? null : rows.uuidOf(index);
    const kept = outcome.cells.get(column.number) ?? outcome;
    const lost = outcome.lost.get(column.number);
    if (lost !== undefined)
      record(
        library,
        row.model,
        rows.uuidOf(row.index),
        column,
        outcome.rule,
        { ...lost, value: here[i] ?? null },
        { ...kept, value },
      );
  });
}

/** Records a row that goes, or that another one replaces, with all that it holds. Nothing is recorded if it is not here. */
export function recordRow(library: Library, model: Model, uuid: Uint8Array, rule: Rule, kept: LocalStamp): void {
  const version = readVersion(library, model, uuid);
  const row = library.sql.rows(`SELECT hlc, run FROM ${rowsTable(model)} WHERE uuid = ?`, Buffer.from(uuid))[0];
  if (version === null || row === undefined) return;
  const lost = { hlc: Number(row[0]), run: Number(row[1]), value: Buffer.from(encodeBatch(version)) };
  record(library, model, uuid, null, rule, lost, { ...kept, value: null });
}

/** Records a value of a row here that is about to be changed by a rule. */
export function recordValue(library: Library, row: StandingRow, column: Column, rule: Rule, kept: Kept): void {
  const value = readColumns(library, row.model, row.uuid, [column])?.[0];
  if (value === undefined) return;
  const { hlc, run } = row.cells.get(column.number) ?? row;
  record(library, row.model, row.uuid, column, rule, { hlc, run, value }, kept);
}

/** Records a value of a version that waits, which is about to be changed by a rule. */
export function recordVersionValue(
  library: Library,
  { model, uuid, hlc, run, values }: Collider,
  column: Column,
  rule: Rule,
  value: SqlValue,
): void {
  const lost = { hlc, run, value: values.get(column.name) as SqlValue };
  record(library, model, uuid, column, rule, lost, { hlc: library.hlc, run: library.run, value });
}

/** Records a version that waits and is given up. */
export function recordVersion(
  library: Library,
  { model, uuid, hlc, run, version }: Collider,
  rule: Rule,
  kept: LocalStamp,
): void {
  const lost = { hlc, run, value: Buffer.from(encodeBatch(version)) };
  record(library, model, uuid, null, rule, lost, { hlc: kept.hlc, run: kept.run, value: null });
}

/** Records that a delete is undone: what is lost is the delete. */
export function recordDelete(
  library: Library,
  row: Pick<Doomed, 'model' | 'uuid' | 'hlc' | 'run'>,
  kept: LocalStamp,
): void {
  record(
    library,
    row.model,
    row.uuid,
    null,
    'revived',
    { hlc: row.hlc, run: row.run, value: null },
    { ...kept, value: null },
  );
}

function record(
  library: Library,
  model: Model,
  uuid: Uint8Array,
  column: Column | null,
  rule: Rule,
  lost: Kept,
  kept: Kept,
): void {
  if (column !== null && isSame(lost.value, kept.value)) return;
  library.sql.run(
    `INSERT OR IGNORE INTO flotilla_conflicts
       (at, tbl, uuid, col, rule, lost, lost_hlc, lost_run, kept, kept_hlc, kept_run)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    library.around.now(),
    model.n,
    Buffer.from(uuid),
    column?.name ?? null,
    rule,
    stored(lost.value),
    lost.hlc,
    lost.run,
    stored(kept.value),
    kept.hlc,
    kept.run,
  );
}

/** Values of some columns of a row, references as UUIDs; null if it is not here. Integers are bigints, so that 5 and 5.0 differ. */
function readColumns(library: Library, model: Model, uuid: Uint8Array, columns: readonly Column[]): SqlValue[] | null {
  const joins: string[] = [];
  const list = columns.map(({ name, role }, i) => {
    if (role.kind !== 'ref') return `t.${quoteName(name)}`;
    joins.push(`LEFT JOIN ${rowsTable(library.model(role.table))} r${i} ON r${i}.key = t.${quoteName(name)}`);
    return `r${i}.uuid`;
  });
  const text = `SELECT ${list.join(', ')} FROM ${rowsTable(model)} m CROSS JOIN ${quoteName(model.table)} t ON ${mapJoin(model)}
    ${joins.join(' ')} WHERE m.uuid = ?`;
  return readBig(library.sql.get(text), [Buffer.from(uuid)])[0] ?? null;
}

function isSame(a: SqlValue, b: SqlValue): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0;
  if (a instanceof TextBytes && b instanceof TextBytes) return Buffer.compare(a.bytes, b.bytes) === 0;
  // Integers that are read here come as bigints, those that arrive as numbers where these are exact.
  if (typeof a === 'bigint' && typeof b === 'number') return Number(a) === b;
  return a === b;
}
