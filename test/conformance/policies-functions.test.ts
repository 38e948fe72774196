/** Group C of docs/spec.md, C14 and C16: functions in files beside real libraries. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { describe, expect, it, onTestFinished } from 'vitest';

import { createFromGrant, initLibraryFile, tryGrant } from '../../src/db/setup.ts';
import { Reader } from '../../src/db/reader.ts';
import { Writer } from '../../src/db/writer.ts';
import { surroundingsOf } from '../support/surroundings.ts';
import { FlotillaError } from '../../src/errors.ts';

const CONFIG = JSON.stringify({
  module: './flotilla.merge.js',
  tables: { notes: { columns: { tags: { merge: 'union' } } } },
});
const UNION = `export const union = (a, b) => [...new Set([...a.split(' '), ...b.split(' ')])].sort().join(' ');\n`;

/** A folder with a database and, if there is one, the module. */
function library(module: string | null, rows: readonly string[] = []): string {
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-functions-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  if (module !== null) writeFileSync(join(folder, 'flotilla.merge.js'), module);
  const file = join(folder, 'library.db');
  const db = new Sqlite(file);
  db.exec('CREATE TABLE notes (id INTEGER PRIMARY KEY, tags TEXT)');
  for (const tags of rows) db.prepare('INSERT INTO notes (tags) VALUES (?)').run(tags);
  db.close();
  return file;
}

function init(file: string): void {
  initLibraryFile({ file, name: 'A', around: surroundingsOf('A', file) }, null, CONFIG);
}

function open(file: string): Writer {
  const fault = (error: unknown): never => {
    throw error;
  };
  return new Writer(file, 'normal', surroundingsOf('A', file), () => undefined, fault);
}

function refusal(work: () => unknown): FlotillaError {
  try {
    work();
  } catch (error) {
    if (error instanceof FlotillaError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('functions beside the library', () => {
  it('[C14] are taken from the module that the configuration names', () => {
    const file = library(UNION, ['a b', 'b c']);
    init(file);
    const writer = open(file);
    const db = new Sqlite(file);
    db.exec("UPDATE notes SET tags = 'c' WHERE id = 1");
    writer.stamp();
    expect(db.prepare('SELECT tags FROM notes ORDER BY id').pluck().all()).toEqual(['a b c', 'b c']);
    writer.close();
    db.close();
  });

  it.each([
    [
      'no file',
      null,
      'CONFIG',
      /flotilla\.merge\.js, which the configuration names for the function "union", cannot be/,
    ],
    ['no such function', 'export const other = 1;', 'CONFIG', /exports no function "union"/],
    ['a file that fails', 'throw new Error("broken");', 'CONFIG', /cannot be loaded .*: broken/],
    [
      'a function that only joins',
      'export const union = (a, b) => a + b;',
      'MERGE_FUNCTION',
      /not idempotent: for "p q"/,
    ],
    [
      'a function that the values prove wrong together',
      'export const union = (a, b) => (a.length === b.length ? (a < b ? a : b) : a.length + b.length === 5 ? (a < b ? a : b) : a > b ? a : b);',
      'MERGE_FUNCTION',
      /not associative|not commutative/,
    ],
  ])('[C14] init refuses %s, and writes nothing', (_name, module, code, message) => {
    const file = library(module, ['p q', 'xy', 'zzzz', 'q']);
    const error = refusal(() => init(file));
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)]);
    const db = new Sqlite(file);
    expect(db.prepare("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'flotilla%'").pluck().get()).toBe(0);
    db.close();
  });

  it('[C14] a device without the module can look at its library, and says what it lacks before it writes', () => {
    const file = library(UNION, ['a']);
    init(file);
    const copy = library(null);
    copyFileSync(file, copy);
    const reader = new Reader(copy);
    expect(reader.status().rows).toBe(1);
    reader.close();
    expect(refusal(() => open(copy)).message).toMatch(/Copy it from a device that has it\.$/);
  });

  it('[C14] a newcomer without the module is told so before its invitation is used up', () => {
    const file = library(UNION, ['a']);
    init(file);
    const reader = new Reader(file);
    const grant = reader.joinGrant();
    reader.close();
    const join2 = (module: string | null): (() => void) => {
      const other = library(module);
      rmSync(other);
      const options = { file: other, name: 'B', around: surroundingsOf('B', other) };
      return () => {
        tryGrant(options, { grant, existing: 'empty' });
        createFromGrant(options, { grant, existing: 'empty' });
      };
    };
    expect(refusal(join2(null)).message).toMatch(/cannot be loaded from beside the library/);
    expect(join2(UNION)).not.toThrow();
  });
});
