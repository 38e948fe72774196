/** `flotilla doctor` as a program: what it prints and how it ends, on files that are libraries and files that are not. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Examination } from '../../src/index.ts';
import {
  endEverything,
  execute,
  expectRefusal,
  flotillaCommand,
  flotillaJson,
  testFolder,
} from '../support/command.ts';

const folder = testFolder();
const file = join(folder, 'notes.db');
afterAll(endEverything);

describe('flotilla doctor', () => {
  it('[S17] says what init would refuse, ends with 1, and leaves file and folder as they are', async () => {
    execute(file, 'CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); CREATE TABLE log (line TEXT)');
    const before = readFileSync(file);
    const { code, stdout, stderr } = await flotillaCommand(['doctor', file]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(stdout).toMatch(/The table "log" has no primary key/);
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(existsSync(`${file}.flotilla`)).toBe(false);
  });

  it('[S18] ends with 0 when what it named is mended, before init and after', async () => {
    execute(file, 'DROP TABLE log');
    expect(await flotillaJson<Examination>(['doctor', file])).toMatchObject({ initialised: false, ok: true });
    const { libraryId } = await flotillaJson<{ libraryId: string }>(['init', file]);
    expect(await flotillaJson<Examination>(['doctor', file])).toMatchObject({ initialised: true, libraryId, ok: true });
  });

  it('refuses what is no database', () =>
    expectRefusal(['doctor', join(folder, 'absent.db')], folder, { code: 'NO_SUCH_FILE', says: /absent\.db/ }));
});
