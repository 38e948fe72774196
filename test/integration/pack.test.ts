/**
 * What users get: the packed package, installed into an empty folder, has a working command and a working import. The
 * package is made from a copy of the sources, so that the project's own folder stays as it is.
 */
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');
const BIN = join(ROOT, 'node_modules', '.bin');

/** What is needed to build and pack. */
const SOURCES = [
  '.npmrc',
  'CHANGELOG.md',
  'LICENSE',
  'README.md',
  'package.json',
  'scripts',
  'src',
  'tsconfig.build.json',
  'tsconfig.json',
];

/** Opens a node of a new library, in the way of a program that uses the package. */
const PROGRAM = `
import Database from 'better-sqlite3';
import { FlotillaError, initLibrary, openNode } from 'flotilla';

const db = new Database('things.db');
db.exec("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO things (name) VALUES ('one'), ('two')");
db.close();
const report = await initLibrary('things.db', {});
const node = await openNode({ library: 'things.db', localOnly: true, discovery: false, port: 0 });
const status = await node.status();
await node.stop();
console.log(JSON.stringify({
  stampedRows: report.stampedRows,
  rows: status.library.rows,
  listens: node.addresses !== undefined && status.addresses.length > 0,
  error: new FlotillaError('STOPPED', 'x').code,
}));
`;

/** The Node.js of the project first; nothing of the npm that may have started this test. */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|INIT_CWD$|NODE_ENV$|NODE_OPTIONS$|VITEST)/i.test(name),
  );
  const passed = ['npm_config_cache', 'npm_config_registry', 'npm_config_userconfig'] as const;
  for (const name of passed) if (process.env[name] !== undefined) kept.push([name, process.env[name]]);
  return { ...Object.fromEntries(kept), PATH: `${BIN}${delimiter}${process.env['PATH'] ?? ''}` };
}

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
function run(command: string, args: readonly string[], cwd: string): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: environment(), stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
}

describe('the packed package', () => {
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-pack-'));
  const project = join(folder, 'project');
  const user = join(folder, 'user');
  let files: string[] = [];

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  beforeAll(async () => {
    mkdirSync(project);
    mkdirSync(user);
    for (const name of SOURCES) cpSync(join(ROOT, name), join(project, name), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(project, 'node_modules'), 'dir');

    const packed = await run('npm', ['pack', '--json', '--pack-destination', folder], project);
    expect(packed.code, packed.stdout + packed.stderr).toBe(0);
    // What the build prints comes before the JSON.
    const report = JSON.parse(packed.stdout.slice(packed.stdout.search(/^[[{]\s*$/m))) as unknown;
    const [made] = Object.values(report as Record<string, { filename: string; files: Array<{ path: string }> }>);
    files = made?.files.map(({ path }) => path) ?? [];

    writeFileSync(join(user, 'package.json'), '{"private": true, "type": "module"}\n');
    const options = ['--prefer-offline', '--no-audit', '--no-fund', '--no-update-notifier'];
    const installed = await run('npm', ['install', ...options, join(folder, made?.filename ?? '')], user);
    expect(installed.code, installed.stderr).toBe(0);
  });

  it('holds what runs and what is read, and no sources or tests', () => {
    expect(files).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'bundle/LICENSES.txt',
        'bundle/cli/main.js',
        'dist/index.d.ts',
        'dist/index.js',
      ]),
    );
    expect(
      files.filter(
        (path) =>
          !/^(dist\/.+\.(js|d\.ts)|bundle\/.+\.js|bundle\/LICENSES\.txt|[A-Z]+(\.md)?|package\.json)$/.test(path),
      ),
    ).toEqual([]);
  });

  it('has a command that can be executed', () => {
    expect(statSync(join(project, 'bundle', 'cli', 'main.js')).mode & 0o111).toBe(0o111);
  });

  it('gives a working npx flotilla --help', async () => {
    const { code, stdout, stderr } = await run('npx', ['--no-install', 'flotilla', '--help'], user);
    expect(code, stderr).toBe(0);
    for (const command of ['init', 'up', 'invite', 'join', 'status', 'verify']) expect(stdout).toContain(command);
  });

  it('gives a working import, with workers that start', async () => {
    writeFileSync(join(user, 'program.js'), PROGRAM);
    const { code, stdout, stderr } = await run(process.execPath, ['program.js'], user);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ stampedRows: 2, rows: 2, listens: true, error: 'STOPPED' });
  });
});
