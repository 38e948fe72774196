/**
 * Rows of other devices' that were written here without right, and are to be fetched again (O8). Until they have come, what is claimed
 * here of the runs that stamped them stays below: a pass that was open before would claim them as merged without bringing them.
 */
import { bytesToHex } from '../protocol/uuid.ts';
import type { Library } from './library.ts';
import { setState } from './metadata.ts';
import type { Model } from './model.ts';
import { rowsTable } from './model.ts';

const PREFIX = 'asked ';
/** The character after the last one of the prefix. */
const END = 'asked!';

/** A stamp that is not known here (any more). */
interface Asked {
  readonly hlc: number;
  readonly run: number;
}

/** A row is asked for. Its version is no news to anybody until it has come. */
export function askFor(
  library: Library,
  model: Model,
  { uuid, hlc, run }: Asked & { readonly uuid: Uint8Array },
): void {
  setState(library.db, `${PREFIX}${bytesToHex(uuid)}`, `${model.n} ${run} ${hlc}`);
  library.sql.run(`UPDATE ${rowsTable(model)} SET hlc = 0 WHERE uuid = ?`, Buffer.from(uuid));
  library.sql.run('DELETE FROM flotilla_cursors');
  library.forget(run, hlc);
}

/** Takes back what was claimed of rows that are still asked for. Returns whether there are any: then feeds are read from the beginning. */
export function disclaimAsked(library: Library): boolean {
  const asked = library.sql.rows('SELECT key, value FROM flotilla_state WHERE key > ? AND key < ?', PREFIX, END);
  let isAny = false;
  for (const [key, value] of asked) {
    const [table = 0, run = 0, hlc = 0] = String(value).split(' ').map(Number);
    const uuid = Buffer.from(String(key).slice(PREFIX.length), 'hex');
    if (hasCome(library, library.modelByNumber(table), uuid))
      library.sql.run('DELETE FROM flotilla_state WHERE key = ?', key);
    else {
      isAny = true;
      library.forget(run, hlc);
    }
  }
  return isAny;
}

/** It stands again, waits (or its delete does), or has been deleted. */
function hasCome(library: Library, model: Model, uuid: Buffer): boolean {
  const here = library.sql.value(`SELECT hlc > 0 FROM ${rowsTable(model)} WHERE uuid = ?`, uuid);
  if (here === 1 || library.sql.value('SELECT 1 FROM flotilla_pending WHERE uuid = ?', uuid) !== undefined) return true;
  return (
    here === undefined && library.sql.value('SELECT 1 FROM flotilla_tombstones WHERE uuid = ?', uuid) !== undefined
  );
}
