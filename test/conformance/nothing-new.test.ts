/** A pass that is over before it has begun, as the receiver says: where the feed believes it, what goes without saying, and what does not. */
import { describe, expect, it } from 'vitest';

import { headOf } from '../../src/db/history.ts';
import { wireOf } from '../../src/db/knowledge-wire.ts';
import { recordsHash } from '../../src/db/members.ts';
import { lastPage } from '../../src/db/pass.ts';
import { decodeBatch } from '../../src/protocol/batch.ts';
import type { Cursor, PassKind } from '../../src/protocol/types.ts';
import { expectEqual, pairOf, rowsIn } from '../support/engine.ts';
import { Pass, converge } from '../support/replica.ts';
import type { Replica } from '../support/replica.ts';

const TREE = `CREATE TABLE entries (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES entries (id) ON DELETE CASCADE, name TEXT)`;

/** Two that have the same, and have seen the ends of each other's feeds. */
function acquainted(): [Replica, Replica] {
  const [a, b] = pairOf(TREE);
  a.write("INSERT INTO entries (name) VALUES ('of a')");
  b.write("INSERT INTO entries (name) VALUES ('of b')");
  converge([a, b]);
  return [a, b];
}

const cursorOf = (to: Replica, from: Replica): Cursor => {
  const cursor = to.library.cursor(from.device);
  if (cursor === null) throw new Error('they have not met');
  return cursor;
};

/** Opens a pass of which the receiver says that it is over. */
function open(to: Replica, from: Replica, changes: { kind?: PassKind; records?: string; cursor?: Cursor | null } = {}) {
  from.stamp();
  const { kind = 'ordinary', records = recordsHash(to.library.sql), cursor = cursorOf(to, from) } = changes;
  const opened = from.feeds.open(cursor, wireOf([...to.library.knowledge()]), kind, records, true);
  return { isOver: opened.isOver, pass: new Pass(to, from, opened.feed) };
}

describe('[A21] a pass of which the receiver says that it is over', () => {
  it('is, where it stands at the end: no page comes before there is something to say', async () => {
    const [a, b] = acquainted();
    const { lsn, run } = headOf(a.library.sql);
    expect(cursorOf(b, a)).toEqual({ position: lsn, head: lsn, run });
    const { isOver, pass } = open(b, a);
    expect(isOver).toBe(true);
    expect(pass.next()).toBeNull();
    a.write("INSERT INTO entries (name) VALUES ('live')");
    const page = pass.next() as Uint8Array;
    expect(decodeBatch(page).end.complete).toBe(true);
    b.apply('A', page);
    await expectEqual(a, b);
    expect(pass.next()).toBeNull();
  });

  it('brings at once what was written since the receiver heard of the end', () => {
    const [a, b] = acquainted();
    const cursor = cursorOf(b, a);
    a.write("INSERT INTO entries (name) VALUES ('since')");
    const { isOver, pass } = open(b, a, { cursor });
    expect(isOver).toBe(true);
    expect(rowsIn(pass.next() as Uint8Array)).toBe(1);
  });

  it('goes without the very page that would be sent otherwise', () => {
    const [a, b] = acquainted();
    const cursor = cursorOf(b, a);
    const { feed } = a.feeds.open(cursor, wireOf([...b.library.knowledge()]), 'ordinary', recordsHash(b.library.sql));
    const page = new Pass(b, a, feed).next() as Uint8Array;
    expect(decodeBatch(page)).toEqual(decodeBatch(lastPage(cursor)));
    expect(b.apply('A', lastPage(cursor))).toMatchObject({ complete: true, rows: 0, changed: 0, cursor });
  });

  it.each<[string, (a: Replica, b: Replica) => Parameters<typeof open>[2]]>([
    ['it has not the very same records of membership', () => ({ records: 'ab'.repeat(16) })],
    ['it compares all rows', () => ({ kind: 'reconcile' })],
    ['it has never taken anything', () => ({ cursor: null })],
    ['it stands in the middle', (a, b) => ({ cursor: { ...cursorOf(b, a), position: 0 } })],
    ['the end was that of another run', (a, b) => ({ cursor: { ...cursorOf(b, a), run: '00'.repeat(16) } })],
  ])('is not, where %s: it gets its pages', (_, changes) => {
    const [a, b] = acquainted();
    const { isOver, pass } = open(b, a, changes(a, b));
    expect(isOver).toBe(false);
    expect(decodeBatch(pass.next() as Uint8Array).end.complete).toBe(true);
  });

  it('is not, where the sender was restored: it gets what was written since', async () => {
    const [a, b] = acquainted();
    const backup = a.backup();
    a.write("INSERT INTO entries (name) VALUES ('undone')");
    b.pull(a);
    const again = a.restored(backup);
    again.write("INSERT INTO entries (name) VALUES ('of another run')");
    const { isOver, pass } = open(b, again);
    expect(isOver).toBe(false);
    b.apply('A', pass.next() as Uint8Array);
    converge([again, b]);
    await expectEqual(again, b);
  });
});
