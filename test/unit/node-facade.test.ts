import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { describe, expect, it, onTestFinished } from 'vitest';
import * as api from '../../src/index.ts';
import {
  createInvitation,
  initLibrary,
  joinLibrary,
  listConflicts,
  openNode,
  readStatus,
  restoreConflict,
  verifyLibrary,
} from '../../src/index.ts';
import type { FlotillaNode, NodeEvent, NodeOptions } from '../../src/index.ts';

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'flotilla-node-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

function write(file: string, sql: string): void {
  const db = new Sqlite(file);
  try {
    db.exec(sql);
  } finally {
    db.close();
  }
}

function names(file: string): unknown[] {
  const db = new Sqlite(file, { readonly: true });
  try {
    return db.prepare('SELECT name FROM things ORDER BY name').pluck().all();
  } finally {
    db.close();
  }
}

const SCHEMA = `
  CREATE TABLE things (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES things (id), name TEXT NOT NULL);
  INSERT INTO things (id, parent_id, name) VALUES (1, NULL, 'root'), (2, 1, 'leaf');
`;

async function library(): Promise<string> {
  const file = join(await folder(), 'library.db');
  write(file, SCHEMA);
  await initLibrary(file, { name: 'first' });
  return file;
}

async function up(file: string, options: Partial<NodeOptions> = {}): Promise<FlotillaNode> {
  const node = await openNode({ library: file, localOnly: true, discovery: false, ...options });
  onTestFinished(() => node.stop());
  return node;
}

/** Resolves when `condition` holds; looked at on every event of the node. */
function when(node: FlotillaNode, condition: () => boolean | Promise<boolean>): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      Promise.resolve(condition()).then((holds) => {
        if (!holds) return;
        stop();
        resolve();
      }, reject);
    };
    const stop = node.onEvent(look);
    look();
  });
}

const isLive = async (node: FlotillaNode): Promise<boolean> => {
  const { peers } = await node.status();
  return peers.length > 0 && peers.every(({ state }) => state === 'live');
};

describe('public API', () => {
  it('is exactly this', () => {
    expect(Object.keys(api).toSorted()).toEqual([
      'ERROR_CODES',
      'FlotillaError',
      'createInvitation',
      'examineLibrary',
      'initLibrary',
      'joinLibrary',
      'leaveLibrary',
      'listConflicts',
      'listDevices',
      'migrateLibrary',
      'openNode',
      'ownRow',
      'pairDevice',
      'readStatus',
      'restoreConflict',
      'revokeDevice',
      'verifyLibrary',
      'waitReplicated',
    ]);
  });
});

describe('conflicts', () => {
  /** A library in which two values were discarded, the first of them long ago. */
  async function contested(): Promise<string> {
    const file = await library();
    write(
      file,
      `INSERT INTO flotilla_conflicts (at, tbl, uuid, col, rule, lost, lost_hlc, lost_run, kept, kept_hlc, kept_run)
       SELECT 1, 1, uuid, 'name', 'later-write', 'long ago', 1, 1, name, 2, 1 FROM flotilla_rows_1 JOIN things ON key = id WHERE id = 2
       UNION ALL SELECT 4e12, 1, uuid, 'name', 'later-write', 'lost', 3, 1, name, 4, 1 FROM flotilla_rows_1 JOIN things ON key = id WHERE id = 2`,
    );
    return file;
  }

  it('[R11] are listed and restored while no node runs', async () => {
    const file = await contested();
    expect(await listConflicts(file)).toMatchObject({
      total: 2,
      conflicts: [{ id: 2, row: { text: 'leaf' } }, { id: 1 }],
    });
    expect(await restoreConflict(file, 2)).toMatchObject({ id: 2, table: 'things', row: { text: 'lost' } });
    expect(names(file)).toEqual(['lost', 'root']);
    await expect(restoreConflict(file, 2)).rejects.toMatchObject({ code: 'CANNOT_RESTORE' });
    // What is old has gone when the library was opened to write.
    expect(await listConflicts(file, { table: 'things' })).toMatchObject({ total: 1, unrestored: 0 });
    await expect(listConflicts(file, { table: 'none' })).rejects.toMatchObject({ code: 'CONFIG' });
    await expect(restoreConflict(file, 1, { home: join(await folder(), 'none') })).rejects.toMatchObject({
      code: 'NOT_INITIALISED',
    });
  });

  it('[R11] are listed and restored while the node runs, through it', async () => {
    const file = await contested();
    const node = await up(file);
    expect(await listConflicts(file, { limit: 1 })).toMatchObject({ total: 1, conflicts: [{ id: 2 }] });
    expect(await readStatus(file)).toMatchObject({ running: true, library: { conflicts: 1 } });
    expect(await restoreConflict(file, 2)).toMatchObject({ id: 2, column: 'name' });
    await expect(restoreConflict(file, 7)).rejects.toMatchObject({ code: 'NO_SUCH_CONFLICT' });
    expect(names(file)).toEqual(['lost', 'root']);
    expect(await node.conflicts()).toMatchObject({ unrestored: 0 });
    expect(await node.status()).toMatchObject({ library: { conflicts: 0, unstamped: 0 } });
    await expect(node.restoreConflict(2)).rejects.toMatchObject({ code: 'CANNOT_RESTORE' });
  });
});

describe('two nodes', () => {
  it('pair by invitation, become equal, stay live, compare, and stop', async () => {
    const first = await library();
    const second = join(await folder(), 'copy.db');
    const a = await up(first);
    const invitation = await createInvitation(first, { localOnly: true });
    expect(invitation).toMatchObject({ nodeRunning: true, device: a.device, libraryId: a.libraryId });
    const joined = await joinLibrary(invitation.text, second, { name: 'second', localOnly: true });
    expect(joined).toMatchObject({ created: true, invitedBy: a.device, libraryId: a.libraryId });

    const b = await up(second);
    const events: NodeEvent[] = [];
    b.onEvent((event) => events.push(event));
    expect(b.device).toBe(joined.device);
    await when(b, () => isLive(b));
    await when(a, () => isLive(a));
    expect(names(second)).toEqual(['leaf', 'root']);
    // The peer was found and dialled before anybody could listen; it is told all the same, after this.
    expect(events[0]).toMatchObject({ event: 'ready', device: b.device });
    expect(events).toContainEqual(expect.objectContaining({ event: 'peer', device: a.device, state: 'connecting' }));

    write(first, "INSERT INTO things (parent_id, name) VALUES (2, 'from a')");
    await when(b, () => names(second).includes('from a'));
    write(second, "UPDATE things SET name = 'renamed by b' WHERE name = 'leaf'");
    await when(a, () => names(first).includes('renamed by b'));
    // Until the other one has said that it is durable there; one that nobody can have is not waited for longer than that.
    expect(await a.replicated(await a.change(), { devices: 1 })).toEqual([b.device]);
    const tooMany = a.replicated(await a.change(), { devices: 2, signal: AbortSignal.timeout(1) });
    await expect(tooMany).rejects.toThrow(/timeout/);

    const status = await readStatus(second);
    expect(status).toMatchObject({
      running: true,
      name: 'second',
      peers: [{ device: a.device, name: 'first', state: 'live' }],
    });
    expect(status.library.rows).toBeGreaterThanOrEqual(3);
    const verified = await verifyLibrary(first);
    expect(verified).toMatchObject({
      ok: true,
      compared: true,
      peers: [{ device: b.device, identical: true, error: '' }],
    });

    await Promise.all([a.stop(), b.stop(), b.stop()]);
    expect(events.at(-1)).toEqual({ event: 'stopped' });
    expect(await readStatus(second)).toMatchObject({ running: false, device: b.device, name: 'second' });
    expect(await verifyLibrary(second)).toMatchObject({ ok: true, compared: false });
  });

  it('let nobody in twice with one invitation', async () => {
    const first = await library();
    const a = await up(first);
    const { text } = await createInvitation(first, { localOnly: true });
    const files = [join(await folder(), 'one.db'), join(await folder(), 'two.db')] as const;
    await joinLibrary(text, files[0], { localOnly: true });
    await expect(joinLibrary(text, files[1], { localOnly: true })).rejects.toMatchObject({ code: 'INVITE_USED' });
    expect([existsSync(files[1]), existsSync(`${files[1]}.flotilla`)]).toEqual([false, false]);
    expect((await a.status()).library.members).toHaveLength(2);
  });
});

describe('one clear error, nothing changed', () => {
  it('no such file', async () => {
    const file = join(await folder(), 'missing.db');
    for (const attempt of [
      () => openNode({ library: file }),
      () => initLibrary(file),
      () => readStatus(file),
      () => verifyLibrary(file),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'NO_SUCH_FILE' });
    }
    expect(existsSync(`${file}.flotilla`)).toBe(false);
  });

  it('not a database', async () => {
    const file = join(await folder(), 'text.db');
    await writeFile(file, 'this is no database at all, only a few words');
    for (const attempt of [() => openNode({ library: file }), () => initLibrary(file)]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'NOT_A_DATABASE' });
    }
    expect(existsSync(`${file}.flotilla`)).toBe(false);
  });

  it('not initialised', async () => {
    const file = join(await folder(), 'plain.db');
    write(file, SCHEMA);
    const { size } = await stat(file);
    for (const attempt of [() => openNode({ library: file }), () => createInvitation(file), () => readStatus(file)]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'NOT_INITIALISED' });
    }
    expect([existsSync(`${file}.flotilla`), (await stat(file)).size]).toEqual([false, size]);
  });

  it('in use by another node, which goes on', async () => {
    const file = await library();
    const node = await up(file);
    await expect(openNode({ library: file, localOnly: true })).rejects.toMatchObject({ code: 'LIBRARY_IN_USE' });
    expect((await node.status()).running).toBe(true);
    expect(await readStatus(file)).toMatchObject({ running: true, device: node.device });
  });

  it('options that make no sense', async () => {
    const file = await library();
    for (const options of [
      { batchRows: 0 },
      { batchRows: 1.5 },
      { peers: ['nonsense'] },
      { peers: ['/ip4/127.0.0.1/tcp/1'] },
    ]) {
      await expect(openNode({ library: file, ...options })).rejects.toMatchObject({ code: 'CONFIG' });
    }
    await expect(createInvitation(file, { minutes: 0 })).rejects.toMatchObject({ code: 'CONFIG' });
  });

  it('an invitation that is damaged', async () => {
    const file = join(await folder(), 'new.db');
    await expect(joinLibrary('flotilla1-nonsense', file)).rejects.toMatchObject({ code: 'INVITE_INVALID' });
    expect([existsSync(file), existsSync(`${file}.flotilla`)]).toEqual([false, false]);
  });

  it('rows in the file to join with, when nobody said what they are', async () => {
    const first = await library();
    await up(first);
    const { text } = await createInvitation(first, { localOnly: true });
    const file = join(await folder(), 'other.db');
    write(file, SCHEMA);
    await expect(joinLibrary(text, file, { localOnly: true })).rejects.toMatchObject({ code: 'LIBRARY_NOT_EMPTY' });
    expect(existsSync(`${file}.flotilla`)).toBe(false);
    // The invitation is still good.
    await joinLibrary(text, file, { localOnly: true, existing: 'union' });
  });
});

describe('an invitation without a running node', () => {
  it('names the port on which the node will listen', async () => {
    const file = await library();
    const invitation = await createInvitation(file, { localOnly: true });
    expect(invitation.nodeRunning).toBe(false);
    const node = await up(file);
    expect(node.addresses()[0]).toContain(invitation.addresses[0]);
    const joined = await joinLibrary(invitation.text, join(await folder(), 'late.db'), { localOnly: true });
    expect(joined.invitedBy).toBe(node.device);
  });
});
