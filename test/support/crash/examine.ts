/**
 * What a library must be whenever its process has died, looked at as any program would before a node opens it again: every change is
 * there as a whole or not at all, and nothing is claimed that is not there.
 */
import Sqlite from 'better-sqlite3';

import { bytesToHex } from '../../../src/protocol/uuid.ts';

/** What was found of one library. */
export interface Examined {
  /** What is broken, in words; none if all is well. */
  readonly faults: readonly string[];
  /** What it knows: run → hlc. */
  readonly knows: ReadonlyMap<string, number>;
  /** Its place in the feed of each other. */
  readonly cursors: ReadonlyMap<string, number>;
  /** What it has heard of what others know: device → run → hlc, and how far they have ACKed its own feed. */
  readonly heard: ReadonlyMap<string, ReadonlyMap<string, number>>;
  readonly acks: ReadonlyMap<string, number>;
}

const HEX = (value: unknown): string => bytesToHex(value as Uint8Array);

export function examine(file: string): Examined {
  const db = new Sqlite(file);
  try {
    const rows = (sql: string): unknown[][] => db.prepare(sql).raw().all() as unknown[][];
    const faults: string[] = [];
    const expect = (what: string, found: unknown, wanted: unknown): void => {
      if (JSON.stringify(found) !== JSON.stringify(wanted)) faults.push(`${what}: ${JSON.stringify(found)}`);
    };
    expect('integrity', rows('PRAGMA integrity_check'), [['ok']]);
    expect('foreign keys', rows('PRAGMA foreign_key_check'), []);
    expect('capture is suspended', rows('SELECT suspended FROM flotilla_capture'), [[0]]);
    // Rows are found by their ids here: every table of the story that has none of its own is found by its key.
    const adopting = rows("SELECT 1 FROM flotilla_state WHERE key = 'adopting'").length > 0;
    for (const [n, name] of rows('SELECT n, name FROM flotilla_tables')) {
      const key = db.prepare(`SELECT name FROM pragma_table_info(?) WHERE pk > 0`).pluck().all(name) as string[];
      if (key.length !== 1 || String(name).startsWith('flotilla_')) continue;
      const marked = `EXISTS (SELECT 1 FROM flotilla_marks k WHERE k.tbl = ${String(n)})`;
      const [table, map] = [`"${String(name)}" t`, `flotilla_rows_${String(n)} m`];
      if (!adopting)
        expect(
          `${String(name)}: rows without identity`,
          rows(
            `SELECT t.${key[0]} FROM ${table} WHERE NOT ${marked} AND NOT EXISTS (SELECT 1 FROM ${map} WHERE m.key = t.${key[0]})`,
          ),
          [],
        );
      expect(
        `${String(name)}: identities without row`,
        rows(
          `SELECT m.key FROM ${map} WHERE NOT ${marked} AND NOT EXISTS (SELECT 1 FROM ${table} WHERE m.key = t.${key[0]})`,
        ),
        [],
      );
      expect(
        `${String(name)}: changes beyond the last one`,
        rows(`SELECT m.key FROM ${map} WHERE m.lsn > (SELECT head FROM flotilla_clock)`),
        [],
      );
    }
    const heard = new Map<string, Map<string, number>>();
    for (const [device, run, hlc] of rows(
      'SELECT h.device, r.id, h.hlc FROM flotilla_heard h JOIN flotilla_runs r USING (run)',
    )) {
      const known = heard.get(String(device)) ?? new Map<string, number>();
      heard.set(String(device), known.set(HEX(run), Number(hlc)));
    }
    const numbers = (sql: string): Map<string, number> =>
      new Map(rows(sql).map(([name, value]) => [String(name), Number(value)]));
    return {
      faults,
      knows: new Map(
        rows('SELECT r.id, k.hlc FROM flotilla_knowledge k JOIN flotilla_runs r USING (run)').map(([run, hlc]) => [
          HEX(run),
          Number(hlc),
        ]),
      ),
      cursors: numbers('SELECT peer, position FROM flotilla_cursors'),
      heard,
      acks: numbers('SELECT peer, position FROM flotilla_acks'),
    };
  } finally {
    db.close();
  }
}

/** Where somebody believes that another has more than that has. */
export function exaggerations(fleet: ReadonlyMap<string, Examined>): string[] {
  const found: string[] = [];
  for (const [name, { heard, acks }] of fleet) {
    for (const [other, { knows, cursors }] of fleet) {
      for (const [run, hlc] of heard.get(other) ?? [])
        if ((knows.get(run) ?? -1) < hlc) found.push(`${name} has heard that ${other} knows ${run} up to ${hlc}`);
      if ((acks.get(other) ?? 0) > (cursors.get(name) ?? 0))
        found.push(`${name} counts ${other} at ${acks.get(other)}`);
    }
  }
  return found;
}
