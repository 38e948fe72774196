import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';

import { CONFIG_FILE, loadConfig, parseConfig, tableConfig } from '../../src/db/config.ts';
import { FlotillaError } from '../../src/errors.ts';

function refusal(work: () => unknown): FlotillaError {
  try {
    work();
  } catch (error) {
    if (error instanceof FlotillaError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('parseConfig', () => {
  it('reads every setting', () => {
    const { config } = parseConfig(
      '{"ownership":"device","conflictDays":7,"tables":{"a":{"sync":false},"b":{"ownership":"shared","identity":["x","y"],"localColumns":["z"]}}}',
      'f.json',
    );
    expect(config).toEqual({
      ownership: 'device',
      conflictDays: 7,
      tables: { a: { sync: false }, b: { ownership: 'shared', identity: ['x', 'y'], localColumns: ['z'] } },
    });
  });

  it('takes one identity column without brackets', () => {
    expect(parseConfig('{"tables":{"a":{"identity":"uuid"}}}', 'f.json').config.tables?.['a']?.identity).toEqual([
      'uuid',
    ]);
  });

  it('takes names that every object has', () => {
    const text = '{"tables":{"constructor":{"sync":false},"__proto__":{"unique":{"prototype":"merge"}}}}';
    const loaded = parseConfig(text, 'f.json');
    expect(tableConfig(loaded.config, 'constructor')).toEqual({ sync: false });
    expect(tableConfig(loaded.config, '__proto__')).toEqual({ unique: { prototype: 'merge' } });
    expect(parseConfig(loaded.text, 'f.json')).toEqual(loaded);
  });

  it('gives equal configurations the same text, which reads back as the same', () => {
    const one = parseConfig(
      '{"tables":{"b":{"identity":"u"},"a":{"sync":true,"ownership":"device"}},"ownership":"shared"}',
      'f',
    );
    const two = parseConfig(
      ' {"ownership":"shared","tables":{"a":{"ownership":"device","sync":true},"b":{"identity":["u"]}}}',
      'f',
    );
    expect(one.text).toBe(two.text);
    expect(parseConfig(one.text, 'f')).toEqual(one);
  });

  it.each([
    ['{"owner":"device"}', 'owner'],
    ['{"tables":{"entries":{"Sync":false}}}', 'tables.entries.Sync'],
    ['{"ownership":"mine"}', 'ownership'],
    ['{"conflictDays":0}', 'conflictDays'],
    ['{"conflictDays":1e999}', 'conflictDays'],
    ['{"constructor":{}}', 'constructor'],
    ['{"tables":{"entries":{"identity":[]}}}', 'tables.entries.identity'],
    ['{"tables":{"entries":{"identity":7}}}', 'tables.entries.identity'],
    ['{"tables":{"entries":{"localColumns":"x"}}}', 'tables.entries.localColumns'],
    ['{"tables":{"entries":true}}', 'tables.entries'],
    ['{"tables":{"entries":[]}}', 'tables.entries'],
    ['{"tables":{"entries":{"unique":{"a, b":"later"}}}}', 'tables.entries.unique.a, b'],
    ['{"tables":[]}', 'tables'],
    ['{"tables":{"entries":{"columns":{"size":{}}}}}', 'tables.entries.columns.size.merge'],
  ])('refuses %s, naming the key and the file', (text, key) => {
    const error = refusal(() => parseConfig(text, 'some/flotilla.config.json'));
    expect(error.code).toBe('CONFIG');
    expect(error.message).toContain(`"${key}"`);
    expect(error.message).toContain('some/flotilla.config.json');
  });

  it.each(['', '{', '[1', '{"a":1,}', 'null', '[]', '3'])('refuses %j as a whole, naming the file', (text) => {
    const error = refusal(() => parseConfig(text, 'f.json'));
    expect(error.code).toBe('CONFIG');
    expect(error.message).toContain('f.json');
  });

  it('is not disturbed by a byte order mark', () => {
    expect(parseConfig('\uFEFF{}', 'f.json').config).toEqual({});
  });
});

describe('tableConfig', () => {
  it('compares names as SQLite does: ASCII letters without case, others exactly', () => {
    const { config } = parseConfig('{"tables":{"Entries":{"sync":false},"ÄPFEL":{"sync":false}}}', 'f');
    expect(tableConfig(config, 'eNTRIES').sync).toBe(false);
    expect(tableConfig(config, 'äpfel').sync).toBeUndefined();
  });

  it('finds nothing for tables named like members of every object', () => {
    const { config } = parseConfig('{"tables":{}}', 'f');
    expect(tableConfig(config, 'constructor')).toEqual({});
    expect(tableConfig(config, '__proto__')).toEqual({});
  });
});

describe('loadConfig', () => {
  const folders: string[] = [];
  const folder = (): string => {
    const made = mkdtempSync(join(tmpdir(), 'flotilla-config-'));
    folders.push(made);
    return made;
  };
  afterEach(() => {
    for (const made of folders.splice(0)) rmSync(made, { recursive: true });
  });

  it('finds the file beside the library', () => {
    const where = folder();
    writeFileSync(join(where, CONFIG_FILE), '{"ownership":"device"}');
    expect(loadConfig(join(where, 'library.db')).config.ownership).toBe('device');
  });

  it('is empty when there is no file', () => {
    expect(loadConfig(join(folder(), 'library.db'))).toEqual({ config: {}, text: '{}' });
  });

  it('prefers the file that is named, and refuses when that one is not there', () => {
    const where = folder();
    writeFileSync(join(where, CONFIG_FILE), '{"ownership":"device"}');
    writeFileSync(join(where, 'other.json'), '{"ownership":"shared"}');
    expect(loadConfig(join(where, 'library.db'), join(where, 'other.json')).config.ownership).toBe('shared');
    const error = refusal(() => loadConfig(join(where, 'library.db'), join(where, 'absent.json')));
    expect(error.code).toBe('CONFIG');
    expect(error.message).toContain('absent.json');
  });

  it('names the file when its content is damaged', () => {
    const where = folder();
    writeFileSync(join(where, CONFIG_FILE), '{"ownership"');
    expect(refusal(() => loadConfig(join(where, 'library.db'))).message).toContain(join(where, CONFIG_FILE));
  });
});
