/**
 * Digests of the synced content: what two copies compare to know that they are the same, and where they differ. A row's
 * hash covers its UUID, its stamps, and all its values with references as UUIDs; digests add hashes up, so that they do not
 * depend on any order. Versions that wait count as they will stand; rows whose delete waits do not count.
 */
import { createHash, hash } from 'node:crypto';

import type { Database } from 'better-sqlite3';

import { decodeBatch } from '../protocol/batch.ts';
import { TextBytes } from '../protocol/text-bytes.ts';
import { bytesToHex, formatUuid } from '../protocol/uuid.ts';
import type { Batch, CellData, Inspection, InspectionAnswer, SqlValue, TableData } from '../protocol/types.ts';
import { FlotillaError } from '../errors.ts';
import type { Aliases } from './heirs.ts';
import { birthText, heirIn, readAliases } from './heirs.ts';
import type { NotYet } from './feed.ts';
import { UNSTAMPED } from './metadata.ts';
import type { Model, Registry } from './model.ts';
import { UNSET_HLC, allModels, isPlainId } from './model.ts';
import { NO_END, PageBuilder, readVersions, runBytes, versionSelect } from './page.ts';
import type { RunInfo } from './page.ts';
import { BEFORE_ALL_KEYS, Statements } from './sql.ts';
import type { RawRow } from './sql.ts';

/** Rows read at once. */
const CHUNK_ROWS = 1000;
const BUCKETS = 256;
/** Rows that one answer may list; a bucket of a library of some million rows stays below. */
const MAX_ANSWER_ROWS = 100_000;

/** Called between chunks, so that a thread can serve others meanwhile. */
export type Breathe = () => Promise<void>;

/**
 * Answers an inspection over one snapshot of `db`, a connection of its own whose read transaction stays open until the
 * last chunk.
 */
export async function inspect(
  db: Database,
  registry: Registry,
  query: Inspection,
  breathe: Breathe,
): Promise<InspectionAnswer | NotYet> {
  const digester = new Digester(db, registry);
  db.exec('BEGIN');
  try {
    // A fresh write would wear the stamp of the version before it, and seem to differ from that.
    if (db.prepare(UNSTAMPED).get() !== undefined) return { unstamped: true, dangling: null };
    if (query.kind === 'tables') {
      const tables: Record<string, { rows: number; digest: string }> = {};
      for (const model of allModels(registry)) {
        const sums = await digester.buckets(model, breathe);
        tables[model.wire] = { rows: sums.reduce((rows, sum) => rows + sum.rows, 0), digest: digestOf(sums) };
      }
      return { kind: 'tables', tables };
    }
    const model = registry.byWire.get(query.table);
    if (model === undefined) throw new FlotillaError('PROTOCOL', `The peer asks for a table that does not sync here.`);
    if (query.kind === 'buckets') {
      const sums = await digester.buckets(model, breathe);
      return { kind: 'buckets', digests: sums.map((sum) => digestOf([sum])) };
    }
    return { kind: 'rows', rows: await digester.rows(model, query.bucket, breathe) };
  } finally {
    db.exec('COMMIT');
  }
}

interface Sum {
  rows: number;
  /** Sums of the four words of the hashes, each modulo 2^32. */
  readonly words: Uint32Array;
}

function digestOf(sums: readonly Sum[]): string {
  const all = createHash('sha256');
  for (const sum of sums) all.update(`${sum.rows}:`).update(new Uint8Array(sum.words.buffer));
  return all.digest('hex').slice(0, 32);
}

class Digester {
  readonly #sql: Statements;
  readonly #registry: Registry;
  readonly #runs = new Map<number, RunInfo>();
  /** Of the snapshot. */
  #aliases: Aliases | null = null;

  constructor(db: Database, registry: Registry) {
    this.#sql = new Statements(db);
    this.#registry = registry;
  }

  async buckets(model: Model, breathe: Breathe): Promise<Sum[]> {
    const sums = Array.from({ length: BUCKETS }, (): Sum => ({ rows: 0, words: new Uint32Array(4) }));
    await this.#each(model, breathe, (uuid, rowHash) => {
      const sum = sums[uuid[15] ?? 0] as Sum;
      sum.rows += 1;
      for (let i = 0; i < 4; i += 1) sum.words[i] = ((sum.words[i] as number) + rowHash.readUInt32LE(i * 4)) >>> 0;
    });
    return sums;
  }

  async rows(model: Model, bucket: number, breathe: Breathe): Promise<[string, string][]> {
    const rows: [string, string][] = [];
    await this.#each(model, breathe, (uuid, rowHash) => {
      if (uuid[15] === bucket && rows.length < MAX_ANSWER_ROWS)
        rows.push([formatUuid(uuid), rowHash.toString('hex').slice(0, 32)]);
    });
    return rows;
  }

  async #each(model: Model, breathe: Breathe, see: (uuid: Uint8Array, rowHash: Buffer) => void): Promise<void> {
    const condition = `WHERE m.key > ? AND NOT EXISTS (SELECT 1 FROM flotilla_pending p WHERE p.uuid = m.uuid)
      ORDER BY m.key LIMIT ${CHUNK_ROWS}`;
    const text = versionSelect(model, this.#registry, condition);
    this.#aliases ??= readAliases(this.#sql, this.#registry);
    let after: SqlValue = BEFORE_ALL_KEYS;
    while (!model.isAbsent) {
      const versions: RawRow[] = readVersions(this.#sql, model, text, [after]);
      const builder = this.#builder();
      builder.addVersions(model, versions);
      builder.resolve();
      seeRows(builder.build(NO_END), this.#aliases, model, see);
      if (versions.length < CHUNK_ROWS) break;
      after = versions.at(-1)?.[1] ?? null;
      await breathe();
    }
    const waiting = this.#sql.rows(
      'SELECT version FROM flotilla_pending WHERE version IS NOT NULL AND tbl = ?',
      model.n,
    );
    for (const [version] of waiting) seeRows(decodeBatch(version as Uint8Array), this.#aliases, model, see);
  }

  #builder(): PageBuilder {
    return new PageBuilder(this.#sql, this.#registry, (ordinal) => {
      let run = this.#runs.get(ordinal);
      if (run === undefined) {
        run = {
          hex: bytesToHex(this.#sql.value('SELECT id FROM flotilla_runs WHERE run = ?', ordinal) as Uint8Array),
          device: '',
        };
        this.#runs.set(ordinal, run);
      }
      return run;
    });
  }
}

function seeRows(batch: Batch, aliases: Aliases, model: Model, see: (uuid: Uint8Array, rowHash: Buffer) => void): void {
  for (const table of batch.tables) {
    const columns = [...table.columns].sort((a, b) => (a.name < b.name ? -1 : 1));
    const cells = cellsInWords(batch, table);
    const unset = unsetColumns(table);
    const byId = new Set(model.columns.filter(({ name }) => isPlainId(model, name)).map(({ wire }) => wire));
    /** Whom a reference means. By an id it is the row of that birth; in a name, or by values, whichever has that name by now. */
    const heir = (at: number, name: string): string => {
      if (at < 0) return '-';
      const birth = byId.has(name)
        ? birthText(batch.birthHlc[at] ?? 0, bytesToHex(runBytes(batch, batch.birthRun[at] ?? 0)))
        : null;
      return heirIn(aliases, bytesToHex(batch.uuids.subarray(at * 16, at * 16 + 16)), birth);
    };
    table.rows.forEach((index, position) => {
      see(
        batch.uuids.subarray(index * 16, index * 16 + 16),
        hashRow(batch, heir, { ...table, columns }, index, position, cells.get(position), unset.get(position)),
      );
    });
  }
}

/** The stamps of single columns, by position. What their writers had seen may differ between copies. */
function cellsInWords(batch: Batch, { cells, columns, registers }: TableData): Map<number, string[]> {
  const words = new Map<number, string[]>();
  const add = (row: number, word: string): void => void words.set(row, [...(words.get(row) ?? []), word].toSorted());
  const nameOf = (column: number): string => (column < 0 ? String(column) : (columns[column]?.name ?? ''));
  const stampOf = (list: CellData, i: number): string =>
    `${nameOf(list.column[i] ?? 0)}=${list.hlc[i]}@${bytesToHex(runBytes(batch, list.run[i] ?? 0))}`;
  cells.row.forEach((row, i) => {
    if (cells.row[i - 1] === row && cells.column[i - 1] === cells.column[i]) return;
    if (isUnsetAt(cells, i)) return;
    add(row, stampOf(cells, i));
  });
  registers?.row.forEach((row, i) =>
    add(row, `${stampOf(registers, i)}=${valueText(registers.values[i] ?? null, registers.ints[i] === 1)}`),
  );
  return words;
}

const NOTHING: ReadonlySet<string> = new Set();

function isUnsetAt(cells: CellData, i: number): boolean {
  return cells.hlc[i] === UNSET_HLC && (cells.column[i] ?? 0) >= 0;
}

/** Names of the columns in which a row has no value of its own, by position: what stands there is only a default. */
function unsetColumns({ cells, columns }: TableData): Map<number, Set<string>> {
  const unset = new Map<number, Set<string>>();
  cells.row.forEach((row, i) => {
    if (!isUnsetAt(cells, i)) return;
    unset.set(row, (unset.get(row) ?? new Set()).add(columns[cells.column[i] ?? 0]?.name ?? ''));
  });
  return unset;
}

function hashRow(
  batch: Batch,
  heir: (reference: number, column: string) => string,
  table: TableData,
  index: number,
  position: number,
  cells: readonly string[] = [],
  unset: ReadonlySet<string> = NOTHING,
): Buffer {
  const run = (at: number): string => bytesToHex(runBytes(batch, at));
  const parts = [
    bytesToHex(batch.uuids.subarray(index * 16, index * 16 + 16)),
    `${batch.birthHlc[index]}@${run(batch.birthRun[index] ?? 0)}`,
    `${table.hlc[position]}@${run(table.run[position] ?? 0)}`,
    ...cells,
  ];
  for (const column of table.columns) {
    if (unset.has(column.name)) continue;
    parts.push(column.name);
    if (column.kind === 'ref') parts.push(`u${heir(column.refs[position] ?? -1, column.name)}`);
    else parts.push(valueText(column.values[position] ?? null, column.ints?.[position] === 1));
  }
  return hash('sha256', parts.join('\u0000'), 'buffer');
}

function valueText(value: SqlValue, isInt: boolean): string {
  if (value === null) return 'n';
  if (typeof value === 'string') return `t${value.length}:${value}`;
  if (value instanceof Uint8Array) return `b${bytesToHex(value)}`;
  if (value instanceof TextBytes) return `x${bytesToHex(value.bytes)}`;
  if (typeof value === 'bigint' || isInt) return `i${value}`;
  return Object.is(value, -0) ? 'r-0' : `r${value}`;
}
