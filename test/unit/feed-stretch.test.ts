/** Where the next entries of the feed are. */
import Sqlite from 'better-sqlite3';
import { describe, expect, it } from 'vitest';

import { Statements } from '../../src/db/sql.ts';
import { PENDING, countBehind, nextStretch } from '../../src/db/stretch.ts';

/** Tables with some lsns each; of those in `flotilla_pending` the odd ones are deletes. */
function feedOf(lsns: Readonly<Record<string, readonly number[]>>): Statements {
  const db = new Sqlite(':memory:');
  for (const [table, numbers] of Object.entries(lsns)) {
    db.exec(`CREATE TABLE ${table} (lsn INTEGER, version)`);
    const insert = db.prepare(`INSERT INTO ${table} VALUES (?, ?)`);
    for (const lsn of numbers) insert.run(lsn, lsn % 2 === 0 ? 'x' : null);
  }
  return new Statements(db);
}

describe('the next stretch of the feed', () => {
  it('ends where the rows do, and names the tables in which they are', () => {
    const sql = feedOf({ a: [1, 4, 7], b: [2, 9], [PENDING]: [3, 6] });
    const tables = ['a', 'b', PENDING];
    expect(nextStretch(sql, tables, 0, 2)).toEqual({ end: 2, sources: new Set(['a', 'b']) });
    expect(nextStretch(sql, tables, 2, 2)).toEqual({ end: 6, sources: new Set(['a', PENDING]) });
    expect(nextStretch(sql, tables, 6, 9)).toEqual({ end: null, sources: new Set(['a', 'b']) });
    expect(nextStretch(sql, tables, 9, 1)).toEqual({ end: null, sources: new Set() });
    expect([0, 2, 9].map((position) => countBehind(sql, tables, position))).toEqual([6, 4, 0]);
  });

  it('is found in more tables than one query takes', () => {
    const names = Array.from({ length: 900 }, (_, i) => `t${i}`);
    const sql = feedOf(Object.fromEntries(names.map((name, i) => [name, [i + 1]])));
    const seen: string[] = [];
    for (let position = 0; position < names.length;) {
      const { end, sources } = nextStretch(sql, names, position, 300);
      seen.push(...sources);
      position = end ?? names.length;
    }
    expect(new Set(seen)).toEqual(new Set(names));
    expect(countBehind(sql, names, 700)).toBe(200);
  });
});
