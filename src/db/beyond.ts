/**
 * What this device has beyond its knowledge: versions that came in a pass which is not complete. Another peer that takes over is told of
 * them, and spares them. Each stamp is named for itself: of a version that was merged here all stamps were, and a version of which all
 * stamps were merged is no news, as it would be if they were known. That holds of stamps that are of one row alone: those of deletes need not
 * be, nor those of counters, so nothing is said of these (`pass.ts`).
 */
import { decodeBatch } from '../protocol/batch.ts';
import { encodeStamps } from '../protocol/stamp-set.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import { parseCells, stampsOf } from './cells.ts';
import { MEMBERSHIP_TABLE } from './choose.ts';
import type { Library } from './library.ts';
import { setState } from './metadata.ts';
import type { Registry } from './model.ts';
import { allModels, rowsTable } from './model.ts';
import { runBytes } from './page.ts';
import type { RawRow, Statements } from './sql.ts';
import { ownStamps } from './stamp-lists.ts';

/** State: the lsn behind which everything lies that came in passes that are not complete. */
const FROM = 'beyond';

/** State: the hlc up to which stamps are not told of. */
const DISTRUSTED = 'distrusted';

/** Rows read at once. */
const CHUNK = 5_000;

const IS_UNDER_WAY = 'SELECT 1 FROM flotilla_cursors WHERE position < head';

/** A page has come. @param head - the lsn before it was merged */
export function noteUnderWay(library: Library, head: number, isComplete: boolean): void {
  if (!isComplete && library.sql.value(IS_UNDER_WAY) === undefined) setState(library.db, FROM, head);
}

/**
 * Something that was merged here is lost, though the stamps of its row still stand (a column that has come back): those of until now do not
 * say what is here.
 */
export function distrustStamps(library: Library): void {
  setState(library.db, DISTRUSTED, library.hlc);
}

/** Messages (`stamp-set.ts`) that tell what is here beyond what is known; none when no pass is under way. */
export function stampsBeyond(sql: Statements, registry: Registry): Uint8Array<ArrayBuffer>[] {
  if (sql.value(IS_UNDER_WAY) === undefined) return [];
  const stored = (key: string): number => Number(sql.value('SELECT value FROM flotilla_state WHERE key = ?', key) ?? 0);
  const from = stored(FROM);
  const distrusted = stored(DISTRUSTED);
  const known = new Map(
    sql.rows('SELECT run, hlc FROM flotilla_knowledge').map(([run, hlc]) => [Number(run), Number(hlc)]),
  );
  const found = new Map<number, number[]>();
  const add = (run: number, hlc: number): void => {
    if (hlc <= Math.max(distrusted, known.get(run) ?? -1)) return;
    const hlcs = found.get(run);
    if (hlcs === undefined) found.set(run, [hlc]);
    else hlcs.push(hlc);
  };
  for (const model of allModels(registry)) {
    if (model.table === MEMBERSHIP_TABLE) continue;
    // hlc 0: it is asked for, see `asked.ts`.
    const text = `SELECT lsn, birth_hlc, birth_run, hlc, run, cells FROM ${rowsTable(model)} WHERE lsn > ? AND hlc > 0 ORDER BY lsn LIMIT ?`;
    for (const [, birthHlc, birthRun, hlc, run, cells] of inChunks(sql, text, from)) {
      add(Number(run), Number(hlc));
      if (hlc !== birthHlc || run !== birthRun) add(Number(birthRun), Number(birthHlc));
      if (typeof cells !== 'string') continue;
      for (const [column, cell] of parseCells(cells)) {
        // What an owned row says of its ownership names stamps of others; so may counters.
        if (column >= 0 && cell.entries === undefined) for (const stamp of stampsOf(cell)) add(stamp.run, stamp.hlc);
      }
    }
  }
  const ids = sql.rows('SELECT run, id FROM flotilla_runs');
  const hex = new Map(ids.map(([run, id]) => [Number(run), bytesToHex(id as Uint8Array)]));
  const ordinals = new Map([...hex].map(([run, id]) => [id, run]));
  const waiting =
    'SELECT lsn, version, birth_hlc, birth_run, hlc, run FROM flotilla_pending WHERE version IS NOT NULL AND lsn > ? ORDER BY lsn LIMIT ?';
  for (const [, version, birthHlc, birthRun, hlc, run] of inChunks(sql, waiting, from)) {
    add(Number(run), Number(hlc));
    if (birthRun !== null) add(Number(birthRun), Number(birthHlc));
    const batch = decodeBatch(version as Uint8Array);
    for (const [index, time] of batch.tables.flatMap(({ cells }) => ownStamps({ cells }))) {
      const ordinal = ordinals.get(bytesToHex(runBytes(batch, index)));
      if (ordinal !== undefined) add(ordinal, time);
    }
  }
  return encodeStamps(new Map([...found].map(([run, hlcs]) => [hex.get(run) ?? '', hlcs])));
}

function* inChunks(sql: Statements, text: string, from: number): Generator<RawRow> {
  let after = from;
  for (;;) {
    const rows = sql.rows(text, after, CHUNK);
    yield* rows;
    if (rows.length < CHUNK) return;
    after = Number(rows.at(-1)?.[0]);
  }
}
