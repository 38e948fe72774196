/**
 * What a library goes through when disks, logs and workers fail, by hand: the small cases of rule group K.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import Sqlite from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';

import { systemClock } from '../../src/actors/clock.ts';
import { openDatabase } from '../../src/actors/database.ts';
import type { NodeStore } from '../../src/actors/database.ts';
import { SET_ASIDE_MS, createSetAside } from '../../src/actors/set-aside.ts';
import type { StartThread } from '../../src/actors/worker-client.ts';
import { initLibraryFile } from '../../src/db/setup.ts';
import { Writer } from '../../src/db/writer.ts';
import { FlotillaError } from '../../src/errors.ts';
import { Replica, converge } from '../support/replica.ts';
import { surroundingsOf } from '../support/surroundings.ts';
import { until } from '../support/until.ts';

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

  it('has them whichever tables they are of, and whatever is written there before it is stamped', () => {
    const ddl = `${DDL}; CREATE TABLE pages (id INTEGER PRIMARY KEY, body TEXT, note_id INTEGER REFERENCES notes (id))`;
    const [a, b] = [new Replica({ device: 'A', ddl }), new Replica({ device: 'B', ddl })];
    a.write("INSERT INTO notes (body) VALUES ('one')");
    a.write("INSERT INTO pages (body, note_id) VALUES ('first', 1), ('second', NULL)");
    a.write('DELETE FROM pages WHERE id = 1');
    a.write("INSERT INTO pages (id, body) VALUES (1, 'first again')");
    const backup = a.backup();
    converge([a, b]);
    const restored = a.restored(backup);
    restored.write("INSERT INTO notes (body) VALUES ('two')");
    restored.write("INSERT INTO pages (body) VALUES ('third')");
    converge([restored, b]);
    for (const copy of [restored, b]) {
      expect(copy.rows('SELECT body FROM notes ORDER BY body')).toEqual([['one'], ['two']]);
      expect(copy.rows('SELECT body FROM pages ORDER BY body')).toEqual([['first again'], ['second'], ['third']]);
    }
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

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-faults-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function makeLibrary(name: string): string {
  const file = join(folder, name);
  const db = new Sqlite(file);
  db.exec(DDL);
  db.close();
  initLibraryFile({ file, name: 'A', around: surroundingsOf('A', file) }, null, null);
  return file;
}

function all(file: string, sql: string): unknown[][] {
  const db = new Sqlite(file);
  try {
    return db.prepare(sql).raw().all() as unknown[][];
  } finally {
    db.close();
  }
}

/** One page with the notes of another copy. */
function batchOf(body: string): Uint8Array {
  const other = new Replica({ device: 'B', ddl: DDL });
  other.db.prepare('INSERT INTO notes (body) VALUES (?)').run(body);
  const pass = new Replica({ device: 'A', ddl: DDL }).passFrom(other);
  return pass.next() as Uint8Array;
}

describe('[K3] a transaction that fails', () => {
  it('leaves memory as it was, also where nothing can be read for a while', () => {
    const a = new Replica({ device: 'A', ddl: DDL });
    a.write("INSERT INTO notes (body) VALUES ('one')");
    const { library, db } = a;
    const [head, prepare, exec] = [library.head, library.sql.rows.bind(library.sql), db.exec.bind(db)];
    const broken = (): never => {
      throw new Error('the disk is gone');
    };
    db.exec = (sql: string) => (sql === 'COMMIT' ? broken() : exec(sql));
    library.sql.rows = (sql, ...params) => (sql.includes('FROM flotilla_clock') ? broken() : prepare(sql, ...params));
    expect(() => a.stamp()).toThrow('the disk is gone');
    expect(library.head).toBe(head);
    expect(() => a.stamp()).toThrow('the disk is gone');
    library.sql.rows = prepare;
    db.exec = exec;
    a.stamp();
    expect(a.rows('SELECT m.lsn, c.head FROM flotilla_rows_1 m, flotilla_clock c')).toEqual([[head + 1, head + 1]]);
    const b = new Replica({ device: 'B', ddl: DDL });
    converge([a, b]);
    expect(b.rows('SELECT body FROM notes')).toEqual([['one']]);
  });

  it('because another program keeps the library locked is told by its own code, and done when that has ended', () => {
    const file = makeLibrary('locked.db');
    const faults: unknown[] = [];
    const around = surroundingsOf('A', file);
    const writer = new Writer(
      file,
      'normal',
      around,
      () => undefined,
      (error) => faults.push(error),
    );
    onTestFinished(() => writer.close());
    const batch = batchOf('from elsewhere');
    const other = new Sqlite(file);
    onTestFinished(() => void other.close());
    other.exec("INSERT INTO notes (body) VALUES ('before'); BEGIN IMMEDIATE; INSERT INTO notes (body) VALUES ('held')");
    expect(() => writer.apply('B', [batch])).toThrowError(expect.objectContaining({ code: 'LOCKED' }));
    other.exec('COMMIT');
    writer.apply('B', [batch]);
    expect(all(file, 'SELECT body FROM notes ORDER BY body')).toEqual([['before'], ['from elsewhere'], ['held']]);
    expect(all(file, 'SELECT count(*) FROM flotilla_marks')).toEqual([[0]]);
  });
});

/** The real worker, in which batches with a word die: by the process's own end, or for want of memory. */
const DEADLY = `
  import { parentPort } from 'node:worker_threads';
  parentPort.on('message', ({ method, args }) => {
    if (method !== 'apply') return;
    const text = args[1].map((page) => Buffer.from(page).toString('latin1')).join('');
    if (text.includes('poison')) process.exit(9);
    if (text.includes('hog')) for (const hog = []; ; ) hog.push(new Array(100_000).fill(hog.length));
  });
  await import(${JSON.stringify(new URL('../../src/db/worker.ts', import.meta.url).href)});`;

const startDeadly: StartThread = (spec) =>
  new Worker(new URL(`data:text/javascript,${encodeURIComponent(DEADLY)}`), {
    workerData: spec,
    resourceLimits: { maxOldGenerationSizeMb: 64 },
  });

describe('[K4] a batch of which the database worker dies', () => {
  it.each(['poison', 'hog'])(
    'is tried once more and then set aside, while everything else goes on: %s',
    async (word) => {
      const file = makeLibrary(`${word}.db`);
      const onFailed = (error: FlotillaError): never => {
        throw error;
      };
      const common = { file, device: 'A', name: 'A', durability: 'normal', key: null, clock: systemClock } as const;
      const store = await openDatabase({ ...common, onFailed, onFault: onFailed, worker: startDeadly });
      onTestFinished(() => store.close());
      const deadly = batchOf(word);
      for (let tries = 0; tries < 2; tries += 1) {
        await expect(store.apply('B', [deadly.slice()])).rejects.toMatchObject({ code: 'DATABASE' });
        await untilOpen(store);
      }
      await expect(store.apply('B', [deadly.slice()])).rejects.toMatchObject({
        code: 'SET_ASIDE',
        message: expect.stringMatching(/2 times \(.*(code 9|memory)/),
      });
      expect(await store.apply('C', [batchOf('harmless')])).toMatchObject([{ changed: 1, complete: true }]);
      all(file, "INSERT INTO notes (body) VALUES ('own') RETURNING 1");
      expect((await store.stamp()).head).toBeGreaterThan(1);
      expect(all(file, 'SELECT body FROM notes ORDER BY body')).toEqual([['harmless'], ['own']]);
    },
  );

  it('is tried again an hour later, and forgiven once it works', () => {
    let now = 0;
    const aside = createSetAside({ now: () => now });
    const error = new FlotillaError('DATABASE', 'it died');
    aside.ended('B', error);
    aside.check('B');
    aside.ended('B', error);
    expect(() => aside.check('B')).toThrowError(expect.objectContaining({ code: 'SET_ASIDE' }));
    aside.check('C');
    now = SET_ASIDE_MS;
    aside.check('B');
    aside.ended('B', error);
    expect(() => aside.check('B')).toThrow('3 times (it died)');
    now = 2 * SET_ASIDE_MS;
    aside.worked('B');
    aside.ended('B', error);
    aside.check('B');
  });
});

/** Waits until a store whose worker has died is open again. */
function untilOpen(store: NodeStore): Promise<void> {
  let isOpen = false;
  const ask = async (): Promise<void> => {
    while (!isOpen)
      await store.info().then(
        () => (isOpen = true),
        () => new Promise(setImmediate),
      );
  };
  void ask();
  return until(() => isOpen);
}
