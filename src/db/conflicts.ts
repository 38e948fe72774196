/**
 * Records of what was discarded: a value that a later write replaced without having seen it, a row that was deleted by somebody
 * who did not know of its last change. They are made where the discarded value stood, so at least on the device whose user wrote
 * it, in the transaction that discards it, and stay on that device until they age out.
 */
import { encodeBatch } from '../protocol/batch.ts';
import type { Batch, SqlValue } from '../protocol/types.ts';
import type { LocalStamp } from './cells.ts';
import type { Collider } from './collisions.ts';
import { RETENTION_DAYS } from './config.ts';
import type { Doomed } from './deletes.ts';
import { countingMembers, knownToAll } from './floor.ts';
import type { Incoming } from './incoming.ts';
import { bindable, columnData } from './incoming.ts';
import { readVersion } from './join.ts';
import type { Library } from './library.ts';
import type { Column, Model } from './model.ts';
import { mapJoin, quoteName, rowsTable, syncedColumns } from './model.ts';
import { isSame } from './registers.ts';
import type { StandingRow } from './rivals.ts';
import type { RowWriter } from './rows.ts';
import { readBig } from './sql.ts';

/** Why a value or a row was discarded: the rules by their names, and what each says to people. All wording is here. */
export const RULES = {
  'later-write': 'another device wrote this column later, and did not know of it',
  'later-birth': 'another device made the same row, later',
  deleted: 'another device deleted the row, and did not know of its last change',
  ownership: 'the row did not belong to the device that wrote it, or not any more',
  cascade: 'what the row referred to was deleted, and the row with it (ON DELETE CASCADE)',
  'took-along': 'its delete took a row along that refers to it, of which whoever deleted it did not know',
  'not-mergeable': 'the column has a policy, and this value cannot be merged by it',
  'reference-cleared': 'what it referred to was deleted (ON DELETE SET NULL or SET DEFAULT)',
  revived: 'something that may not lose it refers to the row, so the delete was undone',
  renamed: 'another row has the value in a unique index, so this one got another',
  cycle:
    'another device moved what is above it, and together the two moves made a ring, of which this was the later one',
  'named-apart': 'another device gave the row another name, later, and did not know of this one',
  merged: 'another row has the values in a unique index, and they are one row from now on',
} as const;

export type Rule = keyof typeof RULES;

/** What has been kept instead of a discarded value. */
interface Kept extends LocalStamp {
  readonly value: SqlValue;
}

/** How the value of a column stands in a record: a reference as the UUID of its target, a number in its own type. */
function stored(value: SqlValue, column: Column | null): SqlValue {
  if (value instanceof Uint8Array && !Buffer.isBuffer(value)) return Buffer.from(value);
  return column === null ? value : exactly(value, column);
}

/** A value that was bound for a column, as the column holds it: better-sqlite3 would store a number in a column without type as REAL. */
export function exactly(value: SqlValue, { affinity }: Column): SqlValue {
  const isInteger = affinity === 'INTEGER' || affinity === 'NUMERIC';
  return isInteger && typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : value;
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

/**
 * Records a row that goes, or that another one replaces, with all that it holds. Nothing is recorded if it is not here.
 * @param was - when it was written, where that is not the stamp that it has; what it held, if it has been parked since
 */
export function recordRow(
  library: Library,
  model: Model,
  uuid: Uint8Array,
  rule: Rule,
  kept: LocalStamp,
  { at, last }: { readonly at?: LocalStamp; readonly last?: Batch | null } = {},
): void {
  const version = last ?? readVersion(library, model, uuid);
  const row = library.sql.rows(`SELECT hlc, run FROM ${rowsTable(model)} WHERE uuid = ?`, Buffer.from(uuid))[0];
  if (version === null || row === undefined) return;
  const value = Buffer.from(encodeBatch(version));
  const lost = { hlc: at?.hlc ?? Number(row[0]), run: at?.run ?? Number(row[1]), value };
  record(library, model, uuid, null, rule, lost, { hlc: kept.hlc, run: kept.run, value: null });
}

/** Records what a program wrote here into a column whose policy cannot take it. */
export function recordRefused(
  library: Library,
  model: Model,
  uuid: Uint8Array,
  column: Column,
  lost: Kept,
  kept: Kept,
): void {
  record(library, model, uuid, column, 'not-mergeable', lost, kept);
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
  { model, uuid, hlc, run, version }: Omit<Collider, 'values' | 'birthHlc' | 'birthRun'>,
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

/** Records one value, or with no column a row; nothing if both values are the same. References are UUIDs. */
export function record(
  library: Library,
  model: Model,
  uuid: Uint8Array,
  column: Column | null,
  rule: Rule,
  lost: Kept,
  kept: Kept,
): void {
  const [before, after] = [stored(lost.value, column), stored(kept.value, column)];
  if (column !== null && isSame(before, after)) return;
  library.sql.run(
    `INSERT OR IGNORE INTO flotilla_conflicts
       (at, tbl, uuid, col, rule, lost, lost_hlc, lost_run, kept, kept_hlc, kept_run)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    library.around.now(),
    model.n,
    Buffer.from(uuid),
    column?.name ?? null,
    rule,
    before,
    lost.hlc,
    lost.run,
    after,
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

/** Records age out: a day, ms. */
const DAY_MS = 86_400_000;

/**
 * Removes records that are older than so many days, once every member is known to have what was kept: until then the lost value may stand
 * somewhere still, and somebody may ask what became of it. Returns how many.
 * @param retentionDays - silence after which a member is not waited for
 */
export function ageOutConflicts(library: Library, days: number, retentionDays: number = RETENTION_DAYS): number {
  const before = library.around.now() - days * DAY_MS;
  // Looked at first: no write transaction is begun for nothing.
  if (library.sql.value('SELECT 1 FROM flotilla_conflicts WHERE at < ? LIMIT 1', before) === undefined) return 0;
  return library.transact(
    () =>
      library.sql.rows(
        `WITH known (run, hlc) AS (SELECT value ->> 0, value ->> 1 FROM json_each(?))
         DELETE FROM flotilla_conflicts AS c
         WHERE at < ? AND EXISTS (SELECT 1 FROM known k WHERE k.run = c.kept_run AND c.kept_hlc <= k.hlc)
         RETURNING id`,
        JSON.stringify([...knownToAll(library, countingMembers(library, retentionDays))]),
        before,
      ).length,
  );
}
