/**
 * Records of conflicts for people: which row, what was lost, what was kept, who wrote each and when, and why.
 */
import { decodeBatch } from '../protocol/batch.ts';
import { hlcToMs } from '../protocol/hlc.ts';
import { formatUuid } from '../protocol/uuid.ts';
import type { SqlValue } from '../protocol/types.ts';
import { FlotillaError } from '../errors.ts';
import type { ConflictList, ConflictQuery, ConflictRecord, ConflictSide, ShownValue } from './api.ts';
import { foldName } from './config.ts';
import { exactly, RULES } from './conflicts.ts';
import { bindable } from './incoming.ts';
import type { Column, Model, Registry } from './model.ts';
import { firstText, nameRow, showValue, textColumns, wordsFor } from './names.ts';
import type { Statements } from './sql.ts';
import { readBig } from './sql.ts';

/** Records that are listed unless more are asked for. */
const DEFAULT_LIMIT = 100;
/** Records that one answer may hold: at some hundred bytes for each column of a row, it stays far below a message's limit. */
const MAX_LIMIT = 1000;

/** @throws FlotillaError CONFIG for a table that does not sync here, or a limit that is no count */
export function listConflicts(sql: Statements, registry: Registry, query: ConflictQuery): ConflictList {
  const model = query.table === undefined ? null : requireModel(registry, query.table);
  const { limit: wanted = DEFAULT_LIMIT } = query;
  if (!Number.isInteger(wanted) || wanted < 1)
    throw new FlotillaError(
      'CONFIG',
      `A limit of ${wanted} records cannot be used: give a whole number of at least 1.`,
    );
  const limit = Math.min(wanted, MAX_LIMIT);
  const where = model === null ? 'WHERE ? IS NULL' : 'WHERE tbl = ?';
  const n = model?.n ?? null;
  const ids = sql.rows(`SELECT id FROM flotilla_conflicts ${where} ORDER BY id DESC LIMIT ?`, n, limit);
  // One at a time: each may hold a value of many megabytes, of which only the beginning is shown.
  return {
    conflicts: ids.map(([id]) => readRecord(sql, registry, Number(id))),
    total: sql.number(`SELECT count(*) FROM flotilla_conflicts ${where}`, n),
    unrestored: sql.number(`SELECT count(*) FROM flotilla_conflicts ${where} AND restored_at IS NULL`, n),
  };
}

function requireModel(registry: Registry, table: string): Model {
  const model = registry.models.find((candidate) => foldName(candidate.table) === foldName(table));
  if (model !== undefined) return model;
  throw new FlotillaError(
    'CONFIG',
    `No table "${table}" syncs in this library: "flotilla status" lists those that do.`,
  );
}

function readRecord(sql: Statements, registry: Registry, id: number): ConflictRecord {
  const text = `SELECT at, tbl, uuid, col, rule, lost, lost_hlc, lost_run, kept, kept_hlc, kept_run, restored_at
    FROM flotilla_conflicts WHERE id = ?`;
  const [at, tbl, uuid, col, rule, lost, lostHlc, lostRun, kept, keptHlc, keptRun, restoredAt] = readBig(
    sql.get(text),
    [id],
  )[0] as SqlValue[];
  const model = registry.models.find((candidate) => candidate.n === Number(tbl));
  const name = col === null ? null : String(col);
  const column = model?.columns.find((candidate) => candidate.name === name);
  const row =
    model === undefined
      ? { uuid: formatUuid(uuid as Uint8Array), key: '', text: '' }
      : nameRow(sql, model, uuid as Uint8Array);
  const whole =
    name === null && model !== undefined && lost instanceof Uint8Array ? showRow(sql, registry, model, lost) : null;
  const side = (value: SqlValue, hlc: SqlValue, run: SqlValue): ConflictSide => ({
    value: name === null ? null : showIn(sql, registry, column, value),
    ...writer(sql, run),
    at: hlcToMs(Number(hlc)),
  });
  return {
    id,
    table: model?.table ?? String(tbl),
    row: { ...row, text: row.text || (whole?.text ?? '') },
    column: name,
    columns: whole?.columns ?? null,
    lost: side(lost ?? null, lostHlc ?? null, lostRun ?? null),
    kept: side(kept ?? null, keptHlc ?? null, keptRun ?? null),
    rule: String(rule),
    reason: (RULES as Readonly<Record<string, string>>)[String(rule)] ?? String(rule),
    at: Number(at),
    restoredAt: restoredAt === null ? null : Number(restoredAt),
  };
}

/** The device behind a run, and its name as a member. */
function writer(sql: Statements, run: SqlValue): { device: string; name: string } {
  const row = sql.rows(
    'SELECT r.device, m.name FROM flotilla_runs r LEFT JOIN flotilla_members m ON m.device = r.device WHERE r.run = ?',
    run,
  )[0];
  return { device: String(row?.[0] ?? ''), name: String(row?.[1] ?? '') };
}

/** A value as it stands in a record; of a column that is no more, as it is. */
function showIn(sql: Statements, registry: Registry, column: Column | undefined, value: SqlValue): ShownValue {
  const target = column?.role.kind === 'ref' ? registry.byName.get(column.role.table) : undefined;
  return target === undefined || !(value instanceof Uint8Array) ? showValue(value) : showReference(sql, target, value);
}

function showReference(sql: Statements, target: Model, uuid: Uint8Array): ShownValue {
  return { type: 'reference', text: `${target.table} ${wordsFor(nameRow(sql, target, uuid))}`, size: 0 };
}

/** All values of a row that is gone, and its name. */
function showRow(
  sql: Statements,
  registry: Registry,
  model: Model,
  version: Uint8Array,
): { columns: Record<string, ShownValue>; text: string } {
  const batch = decodeBatch(version);
  const columns: Record<string, ShownValue> = {};
  const values = new Map<string, SqlValue>();
  for (const data of batch.tables[0]?.columns ?? []) {
    const column = model.columns.find(({ name }) => name === data.name);
    if (data.kind === 'value') {
      const value = bindable(data, 0);
      values.set(data.name, value);
      columns[data.name] = showValue(column === undefined ? value : exactly(value, column));
      continue;
    }
    const index = data.refs[0] ?? -1;
    const target = registry.byName.get(batch.names[batch.uuidTable[index] ?? 0] ?? '');
    columns[data.name] =
      index < 0 || target === undefined
        ? showValue(null)
        : showReference(sql, target, batch.uuids.subarray(index * 16, index * 16 + 16));
  }
  return { columns, text: firstText(textColumns(model).map((name) => values.get(name) ?? null)) };
}
