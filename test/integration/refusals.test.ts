/**
 * What cannot be done is refused by one clear sentence, with an exit code that is not 0, without a stack trace, and with
 * nothing changed. Here: commands that meet no running node.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  endEverything,
  execute,
  expectRefusal,
  flotillaCommand,
  flotillaJson,
  type Refusal,
  testFolder,
  undoAtEnd,
  withDatabase,
} from '../support/command.ts';

const folder = testFolder();
const SCHEMA = 'CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL, seen INTEGER NOT NULL)';
/** Rows of the library that gets damaged: some hundred pages. */
const FILL = `
  WITH RECURSIVE count(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM count WHERE i < 5000)
  INSERT INTO notes SELECT i, 'This is note number ' || i || ', and it is not short.', 0 FROM count`;

const EVERY_COMMAND = ['init', 'up', 'invite', 'status', 'verify'];

/** Each command of the list alone, since a busy machine has few cores. */
async function refused(file: string, commands: readonly string[], refusal: Refusal): Promise<void> {
  for (const command of commands) {
    await expectRefusal([command, file, ...(command === 'up' ? ['--local-only'] : [])], folder, refusal);
  }
}

beforeAll(async () => {
  execute(join(folder, 'plain.db'), `${SCHEMA}; ${FILL}`);
  copyFileSync(join(folder, 'plain.db'), join(folder, 'library.db'));
  await flotillaJson(['init', join(folder, 'library.db')]);
});
afterAll(endEverything);

describe('a file that is no library', () => {
  it('does not exist', () =>
    refused('absent.db', EVERY_COMMAND, { code: 'NO_SUCH_FILE', says: /no file .*absent\.db/ }));

  it('is a text file', async () => {
    writeFileSync(join(folder, 'text.db'), 'Dear diary, today I wrote more than sixteen characters.\n');
    await refused('text.db', ['init', 'up', 'status'], {
      code: 'NOT_A_DATABASE',
      says: /text\.db.* not an SQLite database/,
    });
  });

  it('is a folder', async () => {
    mkdirSync(join(folder, 'folder.db'));
    await refused('folder.db', ['init', 'verify'], { code: 'NOT_A_DATABASE', says: /folder\.db is not a file/ });
  });

  it('was never initialised', () =>
    refused('plain.db', ['up', 'status'], { code: 'NOT_INITIALISED', says: /flotilla init/ }));
});

describe('a damaged database', () => {
  it('was cut off before init', async () => {
    copyFileSync(join(folder, 'plain.db'), join(folder, 'cut.db'));
    truncateSync(join(folder, 'cut.db'), 20_000);
    await refused('cut.db', ['init', 'up'], { code: 'DATABASE', says: /damaged: restore a copy/ });
  });

  it('has pages of nonsense in its middle, which init finds after it has begun', async () => {
    const bytes = readFileSync(join(folder, 'plain.db'));
    bytes.fill(0xa5, 30 * 4096, 32 * 4096);
    writeFileSync(join(folder, 'nonsense.db'), bytes);
    await refused('nonsense.db', ['init'], { code: 'DATABASE', says: /damaged: restore a copy/ });
  });

  it('was a library, and is cut off', async () => {
    copyFileSync(join(folder, 'library.db'), join(folder, 'cut-library.db'));
    truncateSync(join(folder, 'cut-library.db'), 60_000);
    await refused('cut-library.db', ['up'], { code: 'DATABASE', says: /damaged: restore a copy/ });
  });
});

describe('a schema that cannot sync', () => {
  it.each([
    ['no primary key', 'CREATE TABLE log (line TEXT)', { code: 'NO_PRIMARY_KEY', says: /"log" has no primary key/ }],
    [
      'a name of ours',
      'CREATE TABLE flotilla_pairs (a TEXT PRIMARY KEY, b TEXT)',
      { code: 'UNSUPPORTED_SCHEMA', says: /"flotilla_pairs".*Rename it/ },
    ],
  ])('has %s', async (name, schema, refusal) => {
    const file = `${name.replaceAll(' ', '-')}.db`;
    execute(join(folder, file), `${SCHEMA}; ${schema}`);
    await refused(file, ['init'], refusal);
  });
});

describe('a configuration', () => {
  it.each([
    ['is no JSON', '{"tables":', /config\.json is not valid JSON/],
    [
      'has an unknown key in a table',
      '{"tables": {"notes": {"sycn": false}}}',
      /"tables\.notes\.sycn" is not valid: it is not known there/,
    ],
    [
      'keeps a column local that is NOT NULL and has no default',
      '{"tables": {"notes": {"localColumns": ["seen"]}}}',
      /"seen" of "notes" cannot be a local column/,
    ],
  ])('%s', async (name, json, says) => {
    const config = join(folder, `${name.replaceAll(' ', '-')}.config.json`);
    writeFileSync(config, json);
    await expectRefusal(['init', 'plain.db', '--config', config], folder, { code: 'CONFIG', says });
  });

  it('is named and not there', () =>
    expectRefusal(['init', 'plain.db', '--config', 'absent.json'], folder, { code: 'CONFIG', says: /absent\.json/ }));

  it('differs from the one that the library was initialised with', async () => {
    writeFileSync(join(folder, 'later.json'), '{"ownership": "device"}');
    const refusal = { code: 'ALREADY_INITIALISED', says: /another configuration/ };
    await expectRefusal(['init', 'library.db', '--config', 'later.json'], folder, refusal);
  });
});

describe('a command line', () => {
  it.each([
    ['names no command of ours', ['frobnicate'], /unknown command 'frobnicate'/],
    ['lacks the file', ['init'], /missing required argument 'file'/],
    ['has an option that is not known', ['init', 'plain.db', '--confg', 'x'], /'--confg' \(Did you mean --config\?\)/],
    ['names a port beyond all', ['up', 'library.db', '--listen-port', '99999'], /--listen-port: .* 0 to 65535/],
    ['names a peer without its id', ['up', 'library.db', '--peer', '/ip4/127.0.0.1/tcp/1'], /--peer: .*\/p2p\//],
    [
      'wants an invitation for no time',
      ['invite', 'library.db', '--minutes', '0'],
      /--minutes: must be a number above 0/,
    ],
    ['says two things of the rows', ['join', 'x', 'new.db', '--union', '--same'], /exclude each other/],
  ])('%s', (_, args, says) => expectRefusal(args, folder, { code: 'USAGE', says, exit: 2 }));

  it('without --json says the same to people only', async () => {
    const outcome = await flotillaCommand(['status', 'absent.db'], { cwd: folder });
    // Exactly this, with nothing on the other stream.
    const message = `flotilla: There is no file ${join(folder, 'absent.db')}: check the path.\n`;
    expect(outcome).toEqual({ code: 1, stdout: '', stderr: message });
  });
});

describe('a place that cannot be written', () => {
  it.each([
    ['below a file', join(folder, 'plain.db', 'home')],
    ['that is a file', join(folder, 'plain.db')],
  ])('is a home folder %s', async (_, home) => {
    const refusal = { code: 'READ_ONLY', says: /cannot be made or written/ };
    await expectRefusal(['init', 'plain.db', '--home', home], folder, refusal);
    await expectRefusal(['up', 'library.db', '--local-only', '--home', home], folder, refusal);
  });

  it.runIf(process.platform === 'linux')('is a home folder in a file system that takes none', () =>
    expectRefusal(['init', 'plain.db', '--home', '/proc/flotilla/home'], folder, { code: 'READ_ONLY', says: /\/proc/ }),
  );

  it('is the folder of the library', async (context) => {
    const closed = join(folder, 'closed');
    mkdirSync(closed);
    copyFileSync(join(folder, 'plain.db'), join(closed, 'plain.db'));
    copyFileSync(join(folder, 'library.db'), join(closed, 'library.db'));
    const reason = makeReadOnly(closed);
    if (reason !== '') return context.skip(reason);
    const refusal = { code: 'READ_ONLY', says: /cannot be (made or written|written|opened)/ };
    await expectRefusal(['init', 'closed/plain.db'], folder, refusal);
    await expectRefusal(['init', 'closed/plain.db', '--home', 'elsewhere'], folder, refusal);
    await expectRefusal(['up', 'closed/library.db', '--local-only', '--home', 'elsewhere'], folder, refusal);
    // Looking does no harm, so it is allowed.
    const status = await flotillaCommand(['status', 'closed/library.db', '--json'], { cwd: folder });
    expect(status).toMatchObject({ code: 0, stderr: '' });
    return undefined;
  });

  it('is the file of the library', async (context) => {
    const open = join(folder, 'open');
    mkdirSync(open);
    for (const name of ['plain.db', 'library.db']) {
      copyFileSync(join(folder, name), join(open, name));
      const reason = makeReadOnly(join(open, name));
      if (reason !== '') return context.skip(reason);
    }
    const refusal = { code: 'READ_ONLY', says: /cannot be written: check the permissions/ };
    await expectRefusal(['init', 'open/plain.db'], folder, refusal);
    await expectRefusal(['init', 'open/plain.db', '--home', 'elsewhere'], folder, refusal);
    // The file that is locked by nodes stays, as it does after any of them: another one may have it open already.
    const up = ['up', 'open/library.db', '--local-only', '--home', 'elsewhere'];
    await expectRefusal(up, folder, refusal, /-flotilla-lock$/);
    const status = await flotillaCommand(['status', 'open/library.db', '--json'], { cwd: folder });
    expect(status).toMatchObject({ code: 0, stderr: '' });
    return undefined;
  });

  it('is the folder of a library with a log, which SQLite cannot even read there', async (context) => {
    const closed = join(folder, 'closed with a log');
    mkdirSync(closed);
    const file = join(closed, 'library.db');
    copyFileSync(join(folder, 'library.db'), file);
    withDatabase(file, (db) => db.pragma('journal_mode = WAL'));
    const reason = makeReadOnly(closed);
    if (reason !== '') return context.skip(reason);
    const refusal = { code: 'READ_ONLY', says: /cannot be opened: check that it exists and may be written/ };
    await expectRefusal(['status', file], folder, refusal);
    await expectRefusal(['up', file, '--local-only', '--home', 'elsewhere'], folder, refusal);
    return undefined;
  });
});

/** '' when done, else why it is impossible here. Permissions mean nothing to root, but a read-only mount does. */
function makeReadOnly(path: string): string {
  if (process.getuid?.() !== 0) {
    spawnSync('chmod', ['-R', 'a-w', path]);
    undoAtEnd(() => void spawnSync('chmod', ['-R', 'u+w', path]));
    return '';
  }
  if (spawnSync('mount', ['--bind', path, path]).status !== 0)
    return 'root may write everywhere, and cannot mount here';
  undoAtEnd(() => void spawnSync('umount', [path]));
  const isReadOnly = spawnSync('mount', ['-o', 'remount,ro,bind', path]).status === 0;
  return isReadOnly ? '' : 'root may write everywhere, and cannot mount read-only here';
}
