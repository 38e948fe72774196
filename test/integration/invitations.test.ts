/**
 * Joining by invitation, and everything for which it is refused: each time the file, its folder and the list of members
 * stay as they were, and the invitation stays open. And the library that is in use by another node.
 */
import { copyFileSync, mkdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RunningNode, type StatusReport } from '../../examples/support.ts';
import type { Invitation, JoinReport } from '../../src/index.ts';
import { endEverything, execute, expectRefusal, flotillaJson, testFolder } from '../support/command.ts';

/** The running node's own folder, which changes by itself; what the refused commands work in is another one. */
const home = testFolder();
const folder = testFolder();
const library = join(home, 'library.db');
const SCHEMA = 'CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)';
let node: RunningNode;
let open: Invitation;

const invite = (...options: string[]): Promise<Invitation> =>
  flotillaJson<Invitation>(['invite', library, '--local-only', ...options]);

async function members(): Promise<string[]> {
  const { library: found } = await flotillaJson<StatusReport>(['status', library]);
  return found.members.map(({ name }) => name);
}

beforeAll(async () => {
  execute(library, `${SCHEMA}; INSERT INTO notes (body) VALUES ('first')`);
  await flotillaJson(['init', library, '--name', 'inviter']);
  node = new RunningNode('inviter', library, []);
  await node.ready();
  open = await invite();
});
afterAll(endEverything);

const joinWith = (invitation: string, file: string, ...options: string[]): string[] => [
  'join',
  invitation,
  file,
  '--local-only',
  ...options,
];

describe('a library that another node has open', () => {
  const inUse = { code: 'LIBRARY_IN_USE', says: /library\.db is in use by another Flotilla node/ };
  // A node at work touches these of its own.
  const atWork = /-wal$|-shm$|-journal$/;

  it('is not opened a second time', () => expectRefusal(['up', library, '--local-only'], home, inUse, atWork));

  it('nor by another name', async () => {
    symlinkSync(library, join(folder, 'link.db'));
    await expectRefusal(['up', 'link.db', '--local-only'], folder, inUse);
    unlinkSync(join(folder, 'link.db'));
  });

  it('nor from another home folder, which is not made either', () =>
    expectRefusal(['up', library, '--local-only', '--home', join(home, 'second')], home, inUse, atWork));
});

describe('an invitation', () => {
  it.each([
    ['with a letter too many', (text: string) => `${text}x`],
    ['with a letter changed', (text: string) => `${text.slice(0, 30)}${text[30] === 'a' ? 'b' : 'a'}${text.slice(31)}`],
    ['that is none', () => 'please'],
  ])('%s is refused', (_, damage) =>
    expectRefusal(joinWith(damage(open.text), 'new.db'), folder, {
      code: 'INVITE_INVALID',
      says: /damaged or incomplete/,
    }),
  );

  it('that has expired is refused', async () => {
    // A thousandth of a second: over before it is printed.
    const { text } = await invite('--minutes', '0.00002');
    await expectRefusal(joinWith(text, 'new.db'), folder, {
      code: 'INVITE_EXPIRED',
      says: /expired: ask for a new one/,
    });
  });
});

describe('a file that cannot join', () => {
  const refused = (file: string, options: string[], code: string, says: RegExp): Promise<void> =>
    expectRefusal(joinWith(open.text, file, ...options), folder, { code, says });

  it('lies in no folder', () => refused('nowhere/new.db', [], 'NO_SUCH_FILE', /no folder .*nowhere/));

  it('is a folder', () => {
    mkdirSync(join(folder, 'folder.db'));
    return refused('folder.db', [], 'NOT_A_DATABASE', /folder\.db is not a file/);
  });

  it('is a text file', () => {
    writeFileSync(join(folder, 'text.db'), 'Dear diary, today I wrote more than sixteen characters.\n');
    return refused('text.db', [], 'NOT_A_DATABASE', /text\.db.* not an SQLite database/);
  });

  it.runIf(process.platform === 'linux')('cannot be made', () =>
    refused('/proc/new.db', ['--home', 'home'], 'READ_ONLY', /\/proc\/new\.db cannot be made/),
  );

  it('has rows, and nothing says what they are', () => {
    execute(join(folder, 'rows.db'), `${SCHEMA}; INSERT INTO notes (body) VALUES ('mine')`);
    return refused('rows.db', [], 'LIBRARY_NOT_EMPTY', /--union .* --same/);
  });

  it.each([
    ['and is empty', '', []],
    ['and has rows', "; INSERT INTO notes (body, colour) VALUES ('mine', 'red')", ['--union']],
  ])('has another schema, %s', (name, rows, options) => {
    const file = `other schema ${name}.db`;
    execute(join(folder, file), `CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL, colour TEXT)${rows}`);
    return refused(file, options, 'SCHEMA_MISMATCH', /are not those of the library to join/);
  });

  it('is part of another library', async () => {
    execute(join(folder, 'other.db'), SCHEMA);
    await flotillaJson(['init', join(folder, 'other.db')]);
    await refused('other.db', [], 'ALREADY_INITIALISED', /part of another Flotilla library/);
  });

  it('made nobody a member', async () => {
    expect(await members()).toEqual(['inviter']);
  });
});

describe('after all that', () => {
  it('the same invitation still lets one device in, and then nobody else', async () => {
    const report = await flotillaJson<JoinReport>(joinWith(open.text, join(folder, 'new.db'), '--name', 'newcomer'));
    expect(report).toMatchObject({ created: true, invitedBy: open.device, libraryId: open.libraryId, omitted: [] });
    expect(await members()).toEqual(['inviter', 'newcomer']);
    const used = { code: 'INVITE_USED', says: /used already by another device: ask for a new one/ };
    await expectRefusal(joinWith(open.text, 'third.db'), folder, used);
    expect(await members()).toEqual(['inviter', 'newcomer']);
  });

  it('an inviter that does not run is not found, and that is said', async () => {
    const { text } = await invite();
    await node.terminate();
    const gone = { code: 'UNREACHABLE', says: /did not answer at .*start it with "flotilla up"/ };
    await expectRefusal(joinWith(text, 'third.db'), folder, gone);
  });

  it('an invitation of a node that has forgotten it is refused', async () => {
    // The same key at the same port, but a home folder from before the invitation: as after a restored backup.
    const { text } = await invite();
    const stranger = join(home, 'restored');
    mkdirSync(stranger);
    for (const name of ['key', 'node.json']) copyFileSync(join(`${library}.flotilla`, name), join(stranger, name));
    node = new RunningNode('inviter', library, ['--home', stranger]);
    await node.ready();
    const unknown = { code: 'INVITE_USED', says: /used already, has expired, or was not made by that node/ };
    await expectRefusal(joinWith(text, 'third.db'), folder, unknown);
    await node.terminate();
  });
});

describe('an invitation that is made while the node starts', () => {
  it('is one that the node knows, whoever of the two was first', async () => {
    for (let tries = 0; tries < 3; tries += 1) {
      const starting = new RunningNode('inviter', library, []);
      const making = invite();
      await starting.ready();
      const { text } = await making;
      const name = `meanwhile-${tries}`;
      await flotillaJson<JoinReport>(joinWith(text, join(folder, `${name}.db`), '--name', name));
      await starting.terminate();
    }
  });
});
