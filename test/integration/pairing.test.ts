/**
 * `flotilla pair` on one device, the six digits typed on another: the newcomer becomes a member and gets the library, as by an invitation.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RunningNode, type StatusReport } from '../../examples/support.ts';
import type { JoinReport } from '../../src/index.ts';
import {
  column,
  endEverything,
  execute,
  expectRefusal,
  flotillaCommand,
  flotillaJson,
  type Program,
  startFlotilla,
  testFolder,
  untilColumn,
} from '../support/command.ts';

const folder = testFolder();
const others = testFolder();
const SCHEMA = 'CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)';
const BODIES = 'SELECT body FROM notes ORDER BY body';
const first = join(folder, 'first.db');
const fileOf = (name: string): string => join(others, `${name}.db`);
let node: RunningNode;

async function show(library: string): Promise<{ readonly program: Program; readonly code: string }> {
  const program = startFlotilla(['pair', library, '--local-only', '--json']);
  const { code } = JSON.parse(await program.line((line) => line.includes('"code"'))) as { code: string };
  return { program, code };
}

const joinWith = (code: string, name: string, ...options: string[]): Promise<JoinReport> =>
  flotillaJson<JoinReport>(['join', code, fileOf(name), '--local-only', '--name', name, ...options]);

/** Another code than that one. */
const wrong = (code: string): string => `${code.slice(0, 5)}${(Number(code[5]) + 1) % 10}`;

async function members(): Promise<string[]> {
  const { library } = await flotillaJson<StatusReport>(['status', first]);
  return library.members.map(({ name }) => name);
}

beforeAll(async () => {
  execute(first, `${SCHEMA}; INSERT INTO notes (body) VALUES ('first')`);
  await flotillaJson(['init', first, '--psk', '--name', 'first']);
  node = new RunningNode('first', first, []);
  await node.ready();
});
afterAll(endEverything);

describe('pairing', () => {
  it('lets the device in that types the code, with the pre-shared key, and brings the rows', async () => {
    const { program, code } = await show(first);
    const report = await joinWith(`${code.slice(0, 3)} ${code.slice(3)}`, 'second');
    expect(report).toMatchObject({ created: true, omitted: [] });
    expect(await program.ended).toBe(0);
    const joined = { event: 'joined', device: report.device, name: 'second' };
    expect(program.lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      expect.objectContaining({ event: 'code', code }),
      joined,
    ]);
    expect(await members()).toEqual(['first', 'second']);
    const key = (library: string): string => readFileSync(join(`${library}.flotilla`, 'swarm.key'), 'utf8');
    expect(key(fileOf('second'))).toBe(key(first));
    const second = new RunningNode('second', fileOf('second'), []);
    await second.ready();
    await untilColumn(fileOf('second'), BODIES, ['first']);
    await second.terminate();
  });

  it('refuses a wrong code, and leaves no trace; after three of them the right one too', async () => {
    const { program, code } = await show(first);
    const refused = { code: 'CODE_REFUSED', says: /Compare the digits/ };
    for (let tries = 0; tries < 3; tries += 1)
      await expectRefusal(['join', wrong(code), 'third.db', '--local-only'], others, refused);
    expect(await program.ended).toBe(1);
    expect(program.stderr()).toMatch(/typed wrong, or guessed at, 3 times/);
    const nobody = { code: 'UNREACHABLE', says: /No device on this network shows a code/ };
    await expectRefusal(['join', code, 'third.db', '--local-only'], others, nobody);
    expect(await members()).toEqual(['first', 'second']);
  });

  it('does not use up a code for a file that cannot join', async () => {
    execute(fileOf('rows'), `${SCHEMA}; INSERT INTO notes (body) VALUES ('mine')`);
    const { program, code } = await show(first);
    await expectRefusal(['join', code, 'rows.db', '--local-only'], others, {
      code: 'LIBRARY_NOT_EMPTY',
      says: /--union .* --same/,
    });
    await joinWith(code, 'rows', '--union');
    expect(await program.ended).toBe(0);
    expect(await members()).toEqual(['first', 'second', 'rows']);
  });

  it('shows one code at a time, and takes it back', async () => {
    const old = await show(first);
    const { program, code } = await show(first);
    expect(await old.program.ended).toBe(1);
    expect(old.program.stderr()).toMatch(/not shown any more/);
    program.signal('SIGINT');
    expect(await program.ended).toBe(0);
    const nobody = { code: 'UNREACHABLE', says: /No device on this network shows a code/ };
    await expectRefusal(['join', code, 'third.db', '--local-only'], others, nobody);
  });

  it('works where no node runs: one runs as long as the code is shown', async () => {
    await node.terminate();
    const { program, code } = await show(first);
    await joinWith(code, 'late');
    expect(await program.ended).toBe(0);
    expect(await flotillaJson<StatusReport>(['status', first])).toMatchObject({ running: false });
    expect(await members()).toEqual(['first', 'second', 'rows', 'late']);
    expect(column(fileOf('late'), BODIES)).toEqual([]);
  });

  it('is for members only', async () => {
    const file = join(others, 'plain.db');
    execute(file, SCHEMA);
    const { code, stderr } = await flotillaCommand(['pair', file, '--local-only']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/flotilla init/) });
    expect(existsSync(`${file}.flotilla`)).toBe(false);
  });
});
