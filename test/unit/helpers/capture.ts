/**
 * A library with capture in place and nothing else: no stamping, so that the marks stay to be looked at.
 */
import Database from 'better-sqlite3';

import {
  OP_DELETE,
  OP_EVICT,
  OP_FOLLOW,
  OP_INSERT,
  OP_STANDS,
  OP_UPDATE,
  decodeKey,
  installCapture,
} from '../../../src/db/capture.ts';
import { parseConfig } from '../../../src/db/config.ts';
import { createMap, createMetadata } from '../../../src/db/metadata.ts';
import type { Model, Registry } from '../../../src/db/model.ts';
import { readRegistry } from '../../../src/db/schema.ts';
import type { SqlValue } from '../../../src/protocol/types.ts';

/** Peer id of the device that owns the library of a test. */
export const OWN_DEVICE = 'device-own';

export interface Mark {
  readonly table: string;
  readonly op: 'insert' | 'update' | 'delete' | 'evict' | 'stands' | 'follow';
  /** Keys, decoded: one value for an INTEGER PRIMARY KEY, else the key columns. Absent where the mark has none. */
  readonly old?: SqlValue | SqlValue[];
  readonly new?: SqlValue | SqlValue[];
  /** Names of the columns whose bits are set; for updates and references that may have followed only. */
  readonly columns?: string[];
  /** Of such a reference: the id before and after. */
  readonly ids?: string;
}

export interface CaptureLibrary {
  readonly db: Database.Database;
  readonly registry: Registry;
  model(table: string): Model;
  /** Runs SQL and tells which marks it left. */
  marksOf(sql: string, ...params: unknown[]): Mark[];
  /** The marks since the last call. */
  takeMarks(): Mark[];
}

const OP_NAMES = {
  [OP_INSERT]: 'insert',
  [OP_UPDATE]: 'update',
  [OP_DELETE]: 'delete',
  [OP_EVICT]: 'evict',
  [OP_FOLLOW]: 'follow',
  [OP_STANDS]: 'stands',
} as const;

/** Creates a library with the given tables and captures them. */
export function captureLibrary(schema: string, config = '{}', file = ':memory:'): CaptureLibrary {
  const db = new Database(file);
  db.pragma('foreign_keys = ON');
  db.exec(schema);
  createMetadata(db, '00'.repeat(16), config, OWN_DEVICE);
  const registry = readRegistry(db, parseConfig(config, 'test').config, new Map());
  for (const model of registry.models) createMap(db, model);
  installCapture(db, registry);
  const model = (table: string): Model => {
    const found = registry.byName.get(table);
    if (found === undefined) throw new Error(`no model ${table}`);
    return found;
  };
  const takeMarks = (): Mark[] => {
    const rows = db.prepare('SELECT tbl, op, old, new, mask FROM flotilla_marks ORDER BY n').all() as RawMark[];
    db.exec('DELETE FROM flotilla_marks');
    return rows.map((row) => readMark(registry, row));
  };
  return {
    db,
    registry,
    model,
    takeMarks,
    marksOf: (sql, ...params) => {
      takeMarks();
      if (params.length === 0) db.exec(sql);
      else db.prepare(sql).run(...params);
      return takeMarks();
    },
  };
}

interface RawMark {
  readonly tbl: number;
  readonly op: keyof typeof OP_NAMES;
  readonly old: number | string | null;
  readonly new: number | string | null;
  readonly mask: number;
}

function readMark(registry: Registry, row: RawMark): Mark {
  const model = registry.models.find((candidate) => candidate.n === row.tbl);
  if (model === undefined) throw new Error(`a mark names the table ${row.tbl}`);
  const key = (value: number | string): SqlValue | SqlValue[] => (typeof value === 'string' ? decodeKey(value) : value);
  const mask = BigInt(row.mask);
  const columns = model.columns.filter(({ number }) => (mask & (1n << BigInt(Math.min(number, 52)))) !== 0n);
  return {
    table: model.table,
    op: OP_NAMES[row.op],
    ...(row.old === null ? {} : { old: key(row.old) }),
    ...(row.new === null ? {} : row.op === OP_FOLLOW ? { ids: String(row.new) } : { new: key(row.new) }),
    ...(row.op === OP_UPDATE || row.op === OP_FOLLOW ? { columns: columns.map((column) => column.name) } : {}),
  };
}
