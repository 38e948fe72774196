/**
 * What a library goes through when disks, logs and workers fail, by hand: the small cases of rule group K.
 */
import { describe, expect, it } from 'vitest';

import { Replica, converge } from '../support/replica.ts';

const DDL = 'CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)';

describe('[K2] a library that goes back to before something was stamped', () => {
  it('has the same rows as those that others have got from it meanwhile', () => {
    const [a, b] = [new Replica({ device: 'A', ddl: DDL }), new Replica({ device: 'B', ddl: DDL })];
    a.write("INSERT INTO notes (body) VALUES ('one'), ('two')");
    a.write("UPDATE notes SET body = 'second' WHERE id = 2");
    const backup = a.backup();
    converge([a, b]);
    b.write("DELETE FROM notes WHERE body = 'second'");
    b.stamp();
    const restored = a.restored(backup);
    restored.write("INSERT INTO notes (body) VALUES ('three')");
    converge([restored, b]);
    for (const copy of [restored, b])
      expect(copy.rows('SELECT body FROM notes ORDER BY body')).toEqual([['one'], ['three']]);
  });

  it('gives a row that is written at the very same moment an identity of its own', () => {
    const now = Date.UTC(2026, 0, 1);
    const a = new Replica({ device: 'A', ddl: DDL, now: () => now });
    a.write("INSERT INTO notes (id, body) VALUES (1, 'one')");
    a.stamp();
    a.write('UPDATE notes SET id = 2');
    a.stamp();
    a.write("INSERT INTO notes (id, body) VALUES (1, 'another')");
    a.stamp();
    expect(a.rows('SELECT count(DISTINCT uuid) FROM flotilla_rows_1')).toEqual([[2]]);
  });
});
