import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Database } from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { indexFolder } from '../../examples/file-library/indexer.ts';
import { extensionOf, openLibrary } from '../../examples/file-library/library.ts';
import { fillSynthetic } from '../../examples/file-library/synthetic.ts';
import { writeRound } from '../../examples/file-library/writer.ts';

let folder: string;
let db: Database;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-files-'));
  db = openLibrary(join(folder, 'library.db'));
});
afterEach(() => {
  db.close();
  rmSync(folder, { recursive: true, force: true });
});

function one(sql: string): unknown {
  return db.prepare(sql).pluck().get();
}

function violations(): unknown[] {
  return db.prepare('PRAGMA foreign_key_check').all();
}

describe('the schema of the file library', () => {
  it('has an index for every foreign key', () => {
    const tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all() as string[];
    const keys = tables.flatMap((table) =>
      (db.prepare('SELECT "from" FROM pragma_foreign_key_list(?)').pluck().all(table) as string[]).map(
        (column) => [table, column] as const,
      ),
    );
    expect(keys.length).toBeGreaterThanOrEqual(7);
    for (const [table, column] of keys) {
      const found = db
        .prepare('SELECT 1 FROM pragma_index_list(?) l, pragma_index_info(l.name) i WHERE i.seqno = 0 AND i.name = ?')
        .get(table, column);
      expect(found, `${table}.${column}`).toBeDefined();
    }
  });

  it('is what the configuration speaks of', () => {
    const text = readFileSync(new URL('../../examples/file-library/flotilla.config.json', import.meta.url), 'utf8');
    const { tables } = JSON.parse(text) as { tables: Record<string, { identity?: string[] }> };
    for (const [table, { identity = [] }] of Object.entries(tables)) {
      const columns = db.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table);
      expect(columns).toEqual(expect.arrayContaining(['id', ...identity]));
    }
  });
});

describe('the indexer', () => {
  let tree: string;
  beforeEach(() => {
    tree = join(folder, 'tree');
    mkdirSync(join(tree, 'music', 'live'), { recursive: true });
    writeFileSync(join(tree, 'a.TXT'), 'hello');
    writeFileSync(join(tree, 'music', 'b.txt'), 'hello');
    writeFileSync(join(tree, 'music', 'live', 'c'), 'x'.repeat(50_000));
    writeFileSync(join(tree, 'empty.md'), '');
  });
  const sizeOf = (name: string): unknown => db.prepare('SELECT size FROM entries WHERE name = ?').pluck().get(name);

  it('lists files and folders as a tree, with sizes of folders', () => {
    const report = indexFolder(db, tree, 'laptop');
    expect(report).toMatchObject({
      files: 4,
      folders: 3,
      links: 0,
      unreadable: 0,
      skipped: 0,
      bytes: 50_010,
      contents: 3,
    });
    const rows = db
      .prepare(
        'SELECT e.name, p.name AS parent, e.extension, e.kind, e.size FROM entries e LEFT JOIN entries p ON p.id = e.parent_id ORDER BY e.name',
      )
      .raw()
      .all();
    expect(rows).toEqual([
      ['a.TXT', 'tree', 'txt', 'file', 5],
      ['b.txt', 'music', 'txt', 'file', 5],
      ['c', 'live', '', 'file', 50_000],
      ['empty.md', 'tree', 'md', 'file', 0],
      ['live', 'music', '', 'folder', 50_000],
      ['music', 'tree', '', 'folder', 50_005],
      ['tree', null, '', 'folder', 50_010],
    ]);
    expect(violations()).toEqual([]);
  });

  it('writes a folder again after everything in it', () => {
    db.exec(`
      CREATE TABLE written (n INTEGER PRIMARY KEY, name TEXT);
      CREATE TRIGGER added AFTER INSERT ON entries BEGIN INSERT INTO written (name) VALUES (NEW.name); END;
      CREATE TRIGGER changed AFTER UPDATE ON entries BEGIN INSERT INTO written (name) VALUES (NEW.name); END;`);
    indexFolder(db, tree, 'laptop');
    const last = (name: string): number =>
      db.prepare('SELECT max(n) FROM written WHERE name = ?').pluck().get(name) as number;
    expect(last('live')).toBeGreaterThan(last('c'));
    expect(last('music')).toBeGreaterThan(Math.max(last('live'), last('b.txt')));
    expect(last('tree')).toBeGreaterThan(Math.max(last('music'), last('a.TXT'), last('empty.md')));
  });

  it('gives equal files one content and tells apart files that differ at the beginning, in the middle or at the end', () => {
    const size = 100_000;
    for (const [name, position] of [
      ['start', 0],
      ['middle', size / 2],
      ['end', size - 1],
      ['plain', -1],
      ['copy', -1],
    ] as const) {
      const bytes = Buffer.alloc(size, 7);
      if (position >= 0) bytes[position] = 8;
      writeFileSync(join(tree, name), bytes);
    }
    writeFileSync(join(tree, 'longer'), Buffer.alloc(size + 1, 7));
    indexFolder(db, tree, 'laptop');
    const contentOf = (name: string): unknown =>
      db.prepare('SELECT content_id FROM entries WHERE name = ?').pluck().get(name);
    expect(contentOf('copy')).toBe(contentOf('plain'));
    expect(contentOf('a.TXT')).toBe(contentOf('b.txt'));
    const differing = ['start', 'middle', 'end', 'plain', 'longer'].map(contentOf);
    expect(new Set(differing).size).toBe(5);
  });

  it('uses the contents that are there already', () => {
    indexFolder(db, tree, 'laptop');
    mkdirSync(join(folder, 'second'));
    writeFileSync(join(folder, 'second', 'again'), 'hello');
    expect(indexFolder(db, join(folder, 'second'), 'laptop').contents).toBe(0);
    expect(one('SELECT count(*) FROM volumes')).toBe(1);
    expect(one('SELECT count(*) FROM content_identities')).toBe(3);
  });

  it('lists links without following them, even in a circle, and leaves pipes out', () => {
    symlinkSync(tree, join(tree, 'circle'));
    symlinkSync(join(tree, 'nowhere'), join(tree, 'broken'));
    symlinkSync(join(tree, 'music', 'live', 'c'), join(tree, 'to-c'));
    execFileSync('mkfifo', [join(tree, 'pipe')]);
    const report = indexFolder(db, tree, 'laptop');
    expect(report).toMatchObject({ files: 4, folders: 3, links: 3, skipped: 1, bytes: 50_010 });
    expect(one("SELECT count(*) FROM entries WHERE kind = 'link' AND content_id IS NULL")).toBe(3);
  });

  it('follows the link that it is given itself', () => {
    symlinkSync(tree, join(folder, 'link'));
    expect(indexFolder(db, join(folder, 'link'), 'laptop')).toMatchObject({ files: 4, folders: 3, links: 0 });
    expect(() => indexFolder(db, tree, 'laptop')).toThrow(/already/);
  });

  it.runIf(process.platform === 'linux')('lists what it cannot read, and goes on', () => {
    // Its name is not valid UTF-8, so no program that uses text for names can open it.
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/bad-`), Buffer.from([0xff])]), 'x');
    const report = indexFolder(db, tree, 'laptop');
    expect(report).toMatchObject({ files: 5, unreadable: 1 });
    expect(one("SELECT count(*) FROM entries WHERE kind = 'file' AND content_id IS NULL")).toBe(1);
    expect(sizeOf('c')).toBe(50_000);
  });

  it('refuses to index a folder twice, changing nothing', () => {
    indexFolder(db, tree, 'laptop');
    expect(() => indexFolder(db, tree, 'laptop')).toThrow(/already/);
    expect(one('SELECT count(*) FROM locations')).toBe(1);
    expect(one('SELECT count(*) FROM entries')).toBe(7);
  });

  it('names extensions', () => {
    expect(['a.TXT', '.bashrc', 'x.tar.gz', 'none', 'dot.'].map(extensionOf)).toEqual(['txt', '', 'gz', '', '']);
  });
});

describe('the synthetic library', () => {
  it('has the shape that it promises', () => {
    const report = fillSynthetic(db, { entries: 5_000, seed: 7, volume: 'v' });
    expect(report).toMatchObject({ entries: 5_000, contents: 4_000, metadata: 250 });
    expect(report.depth).toBeGreaterThanOrEqual(8);
    expect(one('SELECT count(*) FROM entries')).toBe(5_000);
    expect(one('SELECT count(*) FROM content_identities')).toBe(4_000);
    expect(one('SELECT count(*) FROM user_metadata')).toBe(250);
    expect(one('SELECT count(*) FROM entries WHERE parent_id IS NULL')).toBe(1);
    expect(one('SELECT count(*) FROM entries WHERE content_id IS NULL')).toBe(0);
    expect(one("SELECT count(*) FROM entries e JOIN entries p ON p.id = e.parent_id WHERE p.kind <> 'folder'")).toBe(0);
    expect(one('SELECT size FROM entries WHERE parent_id IS NULL')).toBe(
      one("SELECT sum(size) FROM entries WHERE kind = 'file'"),
    );
    expect(violations()).toEqual([]);
  });

  it('is the same for the same seed, another one for another', () => {
    const content = (seed: number, name: string): unknown[] => {
      const other = openLibrary(join(folder, name));
      fillSynthetic(other, { entries: 300, seed, volume: 'v' });
      const rows = other
        .prepare('SELECT id, parent_id, content_id, metadata_id, name, size, modified_at FROM entries')
        .raw()
        .all();
      other.close();
      return rows;
    };
    const first = content(1, 'first.db');
    expect(content(1, 'again.db')).toEqual(first);
    expect(content(2, 'other.db')).not.toEqual(first);
  });

  it.each([1, 2, 14, 100])('makes exactly %i entries', (entries) => {
    fillSynthetic(db, { entries, seed: 3, volume: 'v' });
    expect(one('SELECT count(*) FROM entries')).toBe(entries);
  });
});

describe('the writer', () => {
  it('inserts, renames, moves, tags, notes and deletes a folder with its files, on its own volume only', () => {
    fillSynthetic(db, { entries: 500, seed: 1, volume: 'mine' });
    const mine = one('SELECT id FROM locations');
    db.exec(
      "INSERT INTO volumes (id, name, added_at) VALUES (50, 'theirs', 0); INSERT INTO locations (id, volume_id, path) VALUES (50, 50, '/t')",
    );
    const insert = db.prepare("INSERT INTO entries (location_id, name, kind, modified_at) VALUES (50, ?, 'file', 0)");
    for (let file = 0; file < 20; file += 1) insert.run(`their ${file}`);
    const theirs = (): unknown[] =>
      db.prepare('SELECT id, parent_id, name, metadata_id FROM entries WHERE location_id = 50').all();
    const before = theirs();

    const report = writeRound(db, 'mine', 1);
    expect(report).toMatchObject({ inserted: 11, renamed: 5, moved: 5, tagged: 20, noted: 6 });
    expect(report.deleted).toBeGreaterThan(1);
    expect(theirs()).toEqual(before);
    expect(one('SELECT count(*) FROM entries WHERE location_id <> 50')).toBe(500 + report.inserted - report.deleted);
    expect(one("SELECT count(*) FROM entries WHERE name LIKE 'renamed in round 1 %'")).toBeGreaterThan(0);
    expect(one('SELECT count(*) FROM entry_tags t JOIN entries e ON e.id = t.entry_id WHERE e.location_id = 50')).toBe(
      10,
    );
    expect(one("SELECT count(*) FROM tags WHERE name IN ('demo', 'from mine')")).toBe(2);
    expect(mine).toBe(1);
    expect(violations()).toEqual([]);
  });

  it('says so when the volume has nothing', () => {
    expect(() => writeRound(db, 'nobody', 1)).toThrow(/nobody/);
  });
});
