import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeInvitation } from '../../src/net/invitation.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const INDEX = new URL('../../src/index.ts', import.meta.url).href;
const NEEDED = [22, 12] as const;
/** One that is well formed and does not expire soon. */
const INVITATION = encodeInvitation({
  libraryId: '00'.repeat(16),
  inviter: '12D3KooWQ8194kbq3XAW11nx8wTBDkXXtYNzdnsTd8aP5zctvqCE',
  addresses: ['/ip4/127.0.0.1/tcp/1'],
  secret: new Uint8Array(16),
  expiresAt: Date.UTC(2200, 0, 1),
  psk: null,
});

function tooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major < NEEDED[0] || (major === NEEDED[0] && minor < NEEDED[1]);
}

/** The first Node.js on the PATH that is too old for us; null on a machine that has none. */
function oldNode(): { path: string; version: string } | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, 'node');
    if (folder.includes('node_modules') || !existsSync(path)) continue;
    const version = spawnSync(path, ['-p', 'process.versions.node'], { encoding: 'utf8' }).stdout?.trim() ?? '';
    if (/^\d+\.\d+/.test(version) && tooOld(version)) return { path, version };
  }
  return null;
}

/** A loader that makes this Node.js call itself another version. */
function faking(version: string): string[] {
  const code = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`;
  return ['--import', `data:text/javascript,${encodeURIComponent(code)}`];
}

function runMain(path: string, args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(path, args, { encoding: 'utf8' });
  return { status, stdout, stderr };
}

const sentence = (version: string): string =>
  `Flotilla needs Node.js 22.12 or newer and this is ${version}: install a newer one (https://nodejs.org) and try again.`;

describe('an old Node.js', () => {
  let folder = '';
  let built = '';
  beforeAll(() => {
    // As the build leaves it: the same text without types. Nothing lies beside it, so a static import would fail here.
    folder = mkdtempSync(join(tmpdir(), 'flotilla-main-'));
    built = join(folder, 'main.mjs');
    writeFileSync(built, stripTypeScriptTypes(readFileSync(MAIN, 'utf8')));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('is told in one sentence what to do', () => {
    // The machine's own where it is old; else this one under a false name.
    const old = oldNode();
    const version = old?.version ?? '20.1.0';
    const how = old === null ? faking(version) : [];
    const path = old?.path ?? process.execPath;
    expect(runMain(path, [...how, built, 'status', 'x'])).toEqual({
      status: 1,
      stdout: '',
      stderr: `flotilla: ${sentence(version)}\n`,
    });
    const json = runMain(path, [...how, built, 'status', 'x', '--json']);
    expect(JSON.parse(json.stdout)).toEqual({ event: 'error', code: 'OLD_NODE', message: sentence(version) });
  });

  it.each(['16.20.2', '20.19.5', '22.11.0'])('%s is refused', (version) => {
    const refused = runMain(process.execPath, [...faking(version), MAIN, '--help']);
    expect(refused).toEqual({ status: 1, stdout: '', stderr: `flotilla: ${sentence(version)}\n` });
  });

  it.each(['22.12.0', '24.0.0', '26.1.0'])('%s is let in', (version) => {
    const { status, stdout } = runMain(process.execPath, [...faking(version), MAIN, '--help']);
    expect(status).toBe(0);
    expect(stdout).toContain('Usage: flotilla');
  });

  it.each([
    ['22.11.0', 'OLD_NODE'],
    ['22.12.0', 'NO_SUCH_FILE'],
  ])('%s meets a program that uses the API with %s', (version, code) => {
    const program = `
      import { joinLibrary, openNode } from ${JSON.stringify(INDEX)};
      for (const call of [() => openNode({ library: '/none/a.db' }), () => joinLibrary(${JSON.stringify(INVITATION)}, '/none/a.db')])
        await call().catch((error) => console.log(error.code));`;
    const { stdout } = runMain(process.execPath, [...faking(version), '--input-type=module', '-e', program]);
    expect(stdout.trim().split('\n')).toEqual([code, code]);
  });

  it('is what package.json calls too old', () => {
    const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    expect((JSON.parse(text) as { engines: { node: string } }).engines.node).toBe(`>=${NEEDED.join('.')}`);
    expect(readFileSync(MAIN, 'utf8')).toContain(`NEEDED_MAJOR = ${NEEDED[0]};\nconst NEEDED_MINOR = ${NEEDED[1]};`);
  });
});

describe('the program', () => {
  it('ends with the exit code of the command, and without a stack', () => {
    const { status, stdout, stderr } = runMain(process.execPath, [MAIN, 'up', '--json']);
    expect(status).toBe(2);
    expect(stderr).toBe("flotilla: missing required argument 'file'. See flotilla --help.\n");
    expect(JSON.parse(stdout)).toMatchObject({ event: 'error', code: 'USAGE' });
  });

  it('says in one sentence when its own files are missing', () => {
    const folder = mkdtempSync(join(tmpdir(), 'flotilla-main-'));
    try {
      const alone = join(folder, 'main.mjs');
      writeFileSync(alone, stripTypeScriptTypes(readFileSync(MAIN, 'utf8')));
      const { status, stderr } = runMain(process.execPath, [alone]);
      expect(status).toBe(1);
      expect(stderr.trimEnd().split('\n')).toHaveLength(1);
      expect(stderr).toContain('flotilla: the program could not be loaded');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
