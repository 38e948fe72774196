/**
 * A page of the feed as bytes: tables in columns, one dictionary of UUIDs, integers packed (`bytes.ts`), values by type
 * (`columns.ts`). The format is our own: msgpack of the same columns was 1.6 times larger, took 1.5 times as long to write and
 * twice as long to read before anything was checked, and its reader cannot leave its extensions out (see `msgpack.ts`).
 *
 * Reading takes the bytes for hostile. What comes back has every array as long as it should be, every index in range, every
 * name once; whether the names mean anything here is for the reader's schema to say. The counts are bounded before anything
 * is allocated, since packed constants make long lists of few bytes.
 */
import { FlotillaError, messageOf } from '../errors.ts';
import { ByteReader, ByteWriter, damaged } from './bytes.ts';
import { readValues, writeValues } from './columns.ts';
import { MAX_HLC } from './hlc.ts';
import { knowledgeFault, MAX_KNOWN_RUNS } from './knowledge.ts';
import { bytesToRun, RUN_BYTES, runToBytes } from './stamp.ts';
import { UUID_BYTES } from './uuid.ts';
import type {
  Batch,
  CellData,
  ColumnData,
  DependencyData,
  KnowledgeWire,
  PageEnd,
  RegisterData,
  StampList,
  TableData,
  TombstoneData,
} from './types.ts';

/** First byte of every batch. 1: columns, with stamps of rows and of single columns. */
export const BATCH_FORMAT = 1;

/** No stamps beside those that every row has. */
export const NO_STAMPS: CellData = { row: [], column: [], hlc: [], run: [] };

/** Bytes of an encoded batch: 32 MiB with the frame's type byte. Room for one huge row; a common page of 1,000 rows has 0.1 MB. */
export const MAX_BATCH_BYTES = 32 * 1024 * 1024 - 1;

/** Row versions and tombstones together: a hundred pages of the default size, 0.1 s to apply. */
export const MAX_BATCH_ROWS = 100_000;

/** Columns of one table: what SQLite allows unless it was compiled otherwise (SQLITE_MAX_COLUMN). */
export const MAX_BATCH_COLUMNS = 2000;

/** Greatest number of a foreign key: 31 bits of a hash of what it says. */
export const MAX_FOREIGN_KEY = 0x7fffffff;

/** Rows × columns over all tables: 32 MB of JavaScript values at least, so a small hostile message cannot ask for gigabytes. */
export const MAX_BATCH_CELLS = 4_000_000;

/** What a column counts at least, in values: a column is an object of 100 bytes and more, also where its group has no row. */
const LEAST_COLUMN_CELLS = 8;

/** UUIDs in the dictionary: the rows and up to nine other rows that each of them refers to. */
export const MAX_BATCH_UUIDS = 10 * MAX_BATCH_ROWS;

/** Tables that occur, as rows or as targets: far beyond any schema written by people. */
export const MAX_BATCH_TABLES = 10_000;

/** Groups of rows, and of tombstones: a version that waits travels in a group of its own, so at worst each row is one. */
export const MAX_BATCH_GROUPS = MAX_BATCH_ROWS;

/** Bytes of a table's or column's name. */
export const MAX_NAME_BYTES = 1024;

/** Bytes of a peer id as text; those of today have 52 to 66. */
export const MAX_PEER_ID_BYTES = 128;

/** Stamps that concern a row and none of its columns, so its ownership, have a negative number: −1 and −2. */
const LEAST_COLUMN = -2;

/** Kinds of columns as they are written. */
const VALUE = 0;
const REF = 1;

/** What the parts of a batch are checked against while it is written or read. */
interface Bounds {
  readonly names: readonly string[];
  readonly uuidTable: readonly number[];
  /** Greatest index into the runs; −1 for none. */
  readonly lastRun: number;
  rowsLeft: number;
  cellsLeft: number;
}

/**
 * @returns the batch in an ArrayBuffer of its own, which may be transferred to another thread
 * @throws FlotillaError PROTOCOL when the batch is inconsistent or beyond a limit: its receiver would refuse it
 */
export function encodeBatch(batch: Batch): Uint8Array<ArrayBuffer> {
  const writer = new ByteWriter();
  writer.byte(BATCH_FORMAT);
  const runs = batch.runDevices.length;
  if (runs > MAX_KNOWN_RUNS || batch.runs.length !== runs * RUN_BYTES)
    damaged('The runs of a batch do not fit together.');
  writer.count(runs);
  writer.raw(batch.runs);
  for (const device of batch.runDevices) writer.text(checkLength(device, MAX_PEER_ID_BYTES));
  checkNames(batch.names, MAX_BATCH_TABLES);
  writer.count(batch.names.length);
  for (const name of batch.names) writer.text(name);

  const uuids = batch.uuidTable.length;
  if (uuids > MAX_BATCH_UUIDS || batch.uuids.length !== uuids * UUID_BYTES)
    damaged('The dictionary of a batch does not fit together.');
  writer.count(uuids);
  writer.raw(batch.uuids);
  writeList(writer, batch.birthHlc, uuids, 0, MAX_HLC, 'birth stamps');
  writeList(writer, batch.birthRun, uuids, 0, runs - 1, 'birth runs');
  writeList(writer, batch.uuidTable, uuids, 0, batch.names.length - 1, 'tables of UUIDs');

  const bounds = makeBounds(batch.names, batch.uuidTable, runs);
  writer.count(checkCount(batch.tables.length, MAX_BATCH_GROUPS, 'groups'));
  for (const table of batch.tables) writeTable(writer, table, bounds);
  writer.count(checkCount(batch.tombstones.length, MAX_BATCH_GROUPS, 'groups'));
  for (const table of batch.tombstones) {
    writeRows(writer, table, bounds);
    writeList(writer, table.alias, table.rows.length, -1, uuids - 1, 'aliases');
    checkAliases(table, bounds);
    writeStamps(writer, table.seen, table.hlc, bounds);
  }
  writeEnd(writer, batch.end);
  if (writer.length > MAX_BATCH_BYTES) damaged(`A batch of ${writer.length} bytes is larger than ${MAX_BATCH_BYTES}.`);
  return writer.finish();
}

/**
 * Reads a batch. UUIDs, runs and blobs are views of `bytes`.
 *
 * @throws FlotillaError PROTOCOL for whatever {@link encodeBatch} does not write, and nothing else
 */
export function decodeBatch(bytes: Uint8Array): Batch {
  try {
    return readBatch(bytes);
  } catch (error) {
    if (error instanceof FlotillaError) throw error;
    throw new FlotillaError('PROTOCOL', `A batch could not be read: ${messageOf(error)}`, { cause: error });
  }
}

function readBatch(bytes: Uint8Array): Batch {
  if (bytes.length > MAX_BATCH_BYTES) damaged(`A batch of ${bytes.length} bytes is larger than ${MAX_BATCH_BYTES}.`);
  const reader = new ByteReader(bytes);
  const format = reader.byte();
  if (format !== BATCH_FORMAT) damaged(`A batch has format ${format}, this version reads ${BATCH_FORMAT}.`);
  const runCount = reader.count(MAX_KNOWN_RUNS, 'runs');
  const runs = reader.raw(runCount * RUN_BYTES);
  const runDevices = readTexts(reader, runCount, MAX_PEER_ID_BYTES, 'peer id');
  const names = readNames(reader);
  checkNames(names, MAX_BATCH_TABLES);

  const uuidCount = reader.count(MAX_BATCH_UUIDS, 'UUIDs');
  const uuids = reader.raw(uuidCount * UUID_BYTES);
  const birthHlc = reader.integers(uuidCount, 0, MAX_HLC, 'birth stamps');
  const birthRun = reader.integers(uuidCount, 0, runCount - 1, 'birth runs');
  const uuidTable = reader.integers(uuidCount, 0, names.length - 1, 'tables of UUIDs');

  const bounds = makeBounds(names, uuidTable, runCount);
  const tables: TableData[] = [];
  for (let left = reader.count(MAX_BATCH_GROUPS, 'groups'); left > 0; left -= 1) tables.push(readTable(reader, bounds));
  const tombstones: TombstoneData[] = [];
  for (let left = reader.count(MAX_BATCH_GROUPS, 'groups'); left > 0; left -= 1)
    tombstones.push(readTombstones(reader, bounds));
  const end = readEnd(reader);
  reader.end();
  return { runs, runDevices, uuids, birthHlc, birthRun, uuidTable, names, tables, tombstones, end };
}

function makeBounds(names: readonly string[], uuidTable: readonly number[], runs: number): Bounds {
  return { names, uuidTable, lastRun: runs - 1, rowsLeft: MAX_BATCH_ROWS, cellsLeft: MAX_BATCH_CELLS };
}

function writeTable(writer: ByteWriter, table: TableData, bounds: Bounds): void {
  const rows = table.rows.length;
  const lastUuid = bounds.uuidTable.length - 1;
  writeRows(writer, table, bounds);
  takeColumns(bounds, rows, table.columns.length + table.dependencies.length);
  checkNames(
    table.columns.map((column) => column.name),
    MAX_BATCH_COLUMNS,
  );
  writer.count(table.columns.length);
  for (const column of table.columns) {
    writer.text(column.name);
    writer.byte(column.kind === 'ref' ? REF : VALUE);
    if (column.kind === 'ref') {
      writeList(writer, column.refs, rows, -1, lastUuid, 'references');
    } else {
      checkSame(column.values.length, rows, 'values');
      writeValues(writer, column, 'values');
    }
  }
  writer.count(checkCount(table.dependencies.length, MAX_BATCH_COLUMNS, 'dependencies'));
  for (const dependency of table.dependencies) {
    writer.count(checkCount(dependency.foreignKey, MAX_FOREIGN_KEY, 'foreign keys'));
    writeList(writer, dependency.refs, rows, -1, lastUuid, 'dependencies');
  }
  writeCells(writer, table.cells, table.hlc, table.columns.length, bounds);
  writer.byte(table.registers === undefined ? 0 : 1);
  if (table.registers !== undefined) writeRegisters(writer, table.registers, table.hlc, table.columns.length, bounds);
}

function readTable(reader: ByteReader, bounds: Bounds): TableData {
  const head = readRows(reader, bounds);
  const rows = head.rows.length;
  const lastUuid = bounds.uuidTable.length - 1;
  const columns: ColumnData[] = [];
  const columnCount = reader.count(MAX_BATCH_COLUMNS, 'columns');
  takeColumns(bounds, rows, columnCount);
  for (let i = 0; i < columnCount; i += 1) {
    const name = reader.text(MAX_NAME_BYTES, 'column name');
    const kind = reader.byte();
    if (kind === REF) columns.push({ kind: 'ref', name, refs: reader.integers(rows, -1, lastUuid, 'references') });
    else if (kind === VALUE)
      columns.push({ kind: 'value', name, ...readValues(reader, rows, MAX_BATCH_BYTES, 'values') });
    else damaged('A column is of an unknown kind.');
  }
  checkNames(
    columns.map((column) => column.name),
    MAX_BATCH_COLUMNS,
  );
  const dependencies: DependencyData[] = [];
  const dependencyCount = reader.count(MAX_BATCH_COLUMNS, 'dependencies');
  takeColumns(bounds, rows, dependencyCount);
  for (let i = 0; i < dependencyCount; i += 1) {
    const foreignKey = reader.count(MAX_FOREIGN_KEY, 'foreign keys');
    dependencies.push({ foreignKey, refs: reader.integers(rows, -1, lastUuid, 'dependencies') });
  }
  const cells = readCells(reader, head.hlc, columns.length, bounds);
  const hasRegisters = reader.byte();
  if (hasRegisters > 1) damaged('A table has neither registers nor none.');
  if (hasRegisters === 0) return { ...head, columns, dependencies, cells };
  const registers = readRegisters(reader, head.hlc, columns.length, bounds);
  return { ...head, columns, dependencies, cells, registers };
}

function readTombstones(reader: ByteReader, bounds: Bounds): TombstoneData {
  const head = readRows(reader, bounds);
  const alias = reader.integers(head.rows.length, -1, bounds.uuidTable.length - 1, 'aliases');
  checkAliases({ table: head.table, alias }, bounds);
  return { ...head, alias, seen: readStamps(reader, head.hlc, bounds) };
}

function writeCells(
  writer: ByteWriter,
  cells: CellData,
  changes: readonly number[],
  columns: number,
  bounds: Bounds,
): void {
  writeStamps(writer, cells, changes, bounds);
  writeList(writer, cells.column, cells.row.length, LEAST_COLUMN, columns - 1, 'columns of stamps');
}

function readCells(reader: ByteReader, changes: readonly number[], columns: number, bounds: Bounds): CellData {
  const stamps = readStamps(reader, changes, bounds);
  return { ...stamps, column: reader.integers(stamps.row.length, LEAST_COLUMN, columns - 1, 'columns of stamps') };
}

function writeRegisters(
  writer: ByteWriter,
  registers: RegisterData,
  changes: readonly number[],
  columns: number,
  bounds: Bounds,
): void {
  writeCells(writer, registers, changes, columns, bounds);
  checkSame(registers.values.length, registers.row.length, 'values of registers');
  writeValues(writer, registers, 'values of registers');
}

function readRegisters(reader: ByteReader, changes: readonly number[], columns: number, bounds: Bounds): RegisterData {
  const cells = readCells(reader, changes, columns, bounds);
  const { values, ints } = readValues(reader, cells.row.length, MAX_BATCH_BYTES, 'values of registers');
  if (ints === undefined) damaged('Registers do not say which of their values are integers.');
  return { ...cells, values, ints };
}

/** @param changes - hlc of each row's change stamp */
function writeStamps(writer: ByteWriter, stamps: StampList, changes: readonly number[], bounds: Bounds): void {
  const count = stamps.row.length;
  takeCells(bounds, count, 1);
  writer.count(count);
  writeList(writer, stamps.row, count, 0, changes.length - 1, 'rows of stamps');
  writeList(writer, stamps.hlc, count, 0, MAX_HLC, 'stamps');
  writeList(writer, stamps.run, count, 0, bounds.lastRun, 'runs of stamps');
  checkStamps(stamps, changes);
}

function readStamps(reader: ByteReader, changes: readonly number[], bounds: Bounds): StampList {
  const count = reader.count(MAX_BATCH_CELLS, 'stamps');
  takeCells(bounds, count, 1);
  const row = reader.integers(count, 0, changes.length - 1, 'rows of stamps');
  const hlc = reader.integers(count, 0, MAX_HLC, 'stamps');
  const stamps = { row, hlc, run: reader.integers(count, 0, bounds.lastRun, 'runs of stamps') };
  checkStamps(stamps, changes);
  return stamps;
}

/** In the order of their rows, and none later than the last change of its row. */
function checkStamps({ row, hlc }: StampList, changes: readonly number[]): void {
  for (let i = 0; i < row.length; i += 1) {
    if (i > 0 && row[i]! < row[i - 1]!) damaged('Stamps are not in the order of their rows.');
    if (hlc[i]! > changes[row[i]!]!) damaged('A stamp is later than the last change of its row.');
  }
}

/** Rows' own stamps: the part that versions and tombstones share. */
type RowsHead = Pick<TombstoneData, 'table' | 'rows' | 'hlc' | 'run'>;

/** The part that rows and tombstones share: the table, which rows, their stamps. */
function writeRows(writer: ByteWriter, table: RowsHead, bounds: Bounds): void {
  const index = bounds.names.indexOf(table.table);
  if (index < 0) damaged('A table is not among the names of its batch.');
  const rows = table.rows.length;
  takeRows(bounds, rows);
  writer.count(index);
  writer.count(rows);
  writeList(writer, table.rows, rows, 0, bounds.uuidTable.length - 1, 'rows');
  checkTable(table.rows, index, bounds);
  writeList(writer, table.hlc, rows, 0, MAX_HLC, 'stamps');
  writeList(writer, table.run, rows, 0, bounds.lastRun, 'runs of stamps');
}

function readRows(reader: ByteReader, bounds: Bounds): RowsHead {
  const index = reader.count(MAX_BATCH_TABLES, 'tables');
  const table = bounds.names[index];
  if (table === undefined) damaged('A table is not among the names of its batch.');
  const count = reader.count(MAX_BATCH_ROWS, 'rows');
  takeRows(bounds, count);
  const rows = reader.integers(count, 0, bounds.uuidTable.length - 1, 'rows');
  checkTable(rows, index, bounds);
  const hlc = reader.integers(count, 0, MAX_HLC, 'stamps');
  const run = reader.integers(count, 0, bounds.lastRun, 'runs of stamps');
  return { table, rows, hlc, run };
}

function writeEnd(writer: ByteWriter, end: PageEnd): void {
  checkEnd(end);
  writer.double(end.cursor.position);
  writer.double(end.cursor.head);
  writer.raw(runToBytes(end.cursor.run));
  writer.byte(kindOf(end));
  writer.double(end.remaining);
  writeKnowledge(writer, end.knowledge);
  if (end.floor !== undefined) writeKnowledge(writer, end.floor);
  if (end.lost === undefined) return;
  writer.count(end.lost.length);
  for (const name of end.lost) writer.text(name);
}

/** How a page stands in its pass, as a byte. */
const ENDS = { middle: 0, complete: 1, reconciled: 2, lossy: 3 } as const;

function kindOf({ complete, floor, lost }: PageEnd): number {
  if (floor === undefined) return complete ? ENDS.complete : ENDS.middle;
  return lost === undefined ? ENDS.reconciled : ENDS.lossy;
}

function writeKnowledge(writer: ByteWriter, { runs, hlc }: KnowledgeWire): void {
  writer.count(hlc.length);
  writer.raw(runs);
  writer.integers(hlc, 0, MAX_HLC, 'knowledge');
}

function readKnowledge(reader: ByteReader): KnowledgeWire {
  const count = reader.count(MAX_KNOWN_RUNS, 'known runs');
  const runs = reader.raw(count * RUN_BYTES);
  return { runs, hlc: reader.integers(count, 0, MAX_HLC, 'knowledge') };
}

function readEnd(reader: ByteReader): PageEnd {
  const position = reader.natural('position');
  const head = reader.natural('head');
  const run = bytesToRun(reader.raw(RUN_BYTES));
  const kind = reader.byte();
  if (kind > ENDS.lossy) damaged('The end of a batch is neither complete nor not.');
  const remaining = reader.natural('remaining');
  const knowledge = readKnowledge(reader);
  const whole = { cursor: { position, head, run }, complete: kind !== ENDS.middle, knowledge, remaining };
  const end: PageEnd = {
    ...whole,
    ...(kind >= ENDS.reconciled ? { floor: readKnowledge(reader) } : {}),
    ...(kind === ENDS.lossy ? { lost: readNames(reader) } : {}),
  };
  checkEnd(end);
  return end;
}

function readNames(reader: ByteReader): string[] {
  return readTexts(reader, reader.count(MAX_BATCH_TABLES, 'tables'), MAX_NAME_BYTES, 'table name');
}

function readTexts(reader: ByteReader, count: number, limit: number, what: string): string[] {
  const texts: string[] = [];
  for (let i = 0; i < count; i += 1) texts.push(reader.text(limit, what));
  return texts;
}

function writeList(
  writer: ByteWriter,
  list: readonly number[],
  length: number,
  lowest: number,
  highest: number,
  what: string,
): void {
  checkSame(list.length, length, what);
  writer.integers(list, lowest, highest, what);
}

function checkSame(length: number, rows: number, what: string): void {
  if (length !== rows) damaged(`${what}: ${length} for ${rows} rows.`);
}

function checkCount(count: number, limit: number, what: string): number {
  if (!Number.isInteger(count) || count < 0 || count > limit)
    damaged(`${what}: ${count} is not between 0 and ${limit}.`);
  return count;
}

function checkLength(text: string, limit: number): string {
  if (Buffer.byteLength(text) > limit) damaged(`A name is longer than ${limit} bytes.`);
  return text;
}

/** Names occur once. `__proto__` is none: it would be a trap for whoever uses names as keys of an object. */
function checkNames(names: readonly string[], limit: number): void {
  checkCount(names.length, limit, 'names');
  for (const name of names) {
    checkLength(name, MAX_NAME_BYTES);
    if (name === '' || name === '__proto__') damaged(`'${name}' cannot be the name of a table or a column that syncs.`);
  }
  if (new Set(names).size !== names.length) damaged('A name occurs twice.');
}

/** A row becomes one with a row of its own table. */
function checkAliases({ table, alias }: Pick<TombstoneData, 'table' | 'alias'>, bounds: Bounds): void {
  const own = alias.filter((index) => index >= 0);
  if (own.length > 0) checkTable(own, bounds.names.indexOf(table), bounds);
}

/** Each row must stand in the dictionary under the table that claims it. */
function checkTable(rows: readonly number[], index: number, bounds: Bounds): void {
  for (let i = 0; i < rows.length; i += 1) {
    if (bounds.uuidTable[rows[i]!] !== index) damaged('A row stands under another table than in the dictionary.');
  }
}

function checkEnd(end: PageEnd): void {
  const { position, head } = end.cursor;
  for (const number of [position, head, end.remaining]) {
    if (!Number.isSafeInteger(number) || number < 0) damaged(`The end of a batch names ${number}.`);
  }
  const fault = knowledgeFault(end.knowledge) ?? (end.floor === undefined ? null : knowledgeFault(end.floor));
  if (fault !== null) damaged(fault);
  if (!end.complete && end.floor !== undefined) damaged('A page in the middle of a pass names a floor.');
  if (end.floor === undefined && end.lost !== undefined) damaged('A page names lost tables and no floor.');
  if (end.lost !== undefined) checkNames(end.lost, MAX_BATCH_TABLES);
  if (!end.complete && end.knowledge.hlc.length > 0) damaged('A page in the middle of a pass claims knowledge.');
}

function takeRows(bounds: Bounds, rows: number): void {
  bounds.rowsLeft -= rows;
  if (bounds.rowsLeft < 0) damaged(`A batch has more than ${MAX_BATCH_ROWS} rows.`);
}

function takeColumns(bounds: Bounds, rows: number, columns: number): void {
  takeCells(bounds, Math.max(rows, LEAST_COLUMN_CELLS), columns);
}

function takeCells(bounds: Bounds, rows: number, columns: number): void {
  bounds.cellsLeft -= rows * columns;
  if (bounds.cellsLeft < 0) damaged(`A batch has more than ${MAX_BATCH_CELLS} values.`);
}
