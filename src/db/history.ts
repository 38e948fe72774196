/**
 * Which run gave which lsns here. By that a cursor is known to fit the history of this copy, and not one that was undone when it was restored.
 */
import { NO_RUN } from '../protocol/stamp.ts';
import type { Cursor, Head } from '../protocol/types.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Statements } from './sql.ts';

type Reads = Pick<Statements, 'number' | 'value'>;

/** Where our feed ends. */
export function headOf(sql: Reads): Head {
  const lsn = sql.number('SELECT head FROM flotilla_clock WHERE id = 1');
  return { lsn, run: runAt(sql, lsn) };
}

/** The run (hex) under which an lsn was given here; that of zeros for lsn 0. */
export function runAt(sql: Pick<Reads, 'value'>, lsn: number): string {
  const id = sql.value(
    `SELECT r.id FROM flotilla_openings o JOIN flotilla_runs r ON r.run = o.run
     WHERE o.first_lsn <= ? ORDER BY o.first_lsn DESC LIMIT 1`,
    lsn,
  );
  return id === undefined ? NO_RUN : bytesToHex(id as Uint8Array);
}

/** A cursor fits if our history has its head lsn, given under the run that it names: else this copy was restored since. */
export function fits(sql: Reads, cursor: Cursor): boolean {
  if (cursor.head > headOf(sql).lsn || cursor.position > cursor.head || cursor.position < 0) return false;
  return runAt(sql, cursor.head) === cursor.run;
}
