/**
 * `npm run test:lan`: the tests with hosts of their own, in network namespaces. Whoever is not root runs them in a user namespace. The last
 * line of stdout is JSON: how many tests passed, failed and were skipped, and what is missing here.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

import { makeHosts, missingFilter, removeHosts } from './support/hosts.ts';

const ROOT = join(import.meta.dirname, '..');
const TESTS = ['test/integration/lan.test.ts', 'test/lan/lan-faults.test.ts'];
/** Set where this program runs itself in a namespace. */
const INSIDE = '--inside';

interface Result {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** What cannot be tried here, and why; '' if all can. */
  readonly missing: string;
}

function runTests(missing: string): Result {
  const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
  const { stdout, stderr } = spawnSync(process.execPath, [vitest, 'run', ...TESTS], {
    cwd: ROOT,
    env: { ...process.env, FLOTILLA_LAN: '1' },
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  process.stderr.write(stdout + stderr);
  const counts = /tests: (\d+) passed, (\d+) failed, (\d+) skipped/.exec(stdout)?.slice(1).map(Number);
  const [passed, failed, skipped] = (counts ?? [0, 1, 0]) as [number, number, number];
  return { passed, failed, skipped, missing };
}

/** The same in namespaces of one's own, in which one is root. */
function runInside(): Result {
  const script = 'mount -t tmpfs none /run && exec "$0" "$@"';
  const args = ['-rmn', 'sh', '-c', script, process.execPath, import.meta.filename, INSIDE];
  const { status, stdout, stderr, error } = spawnSync('unshare', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  process.stderr.write(stderr ?? '');
  const line = stdout?.trim().split('\n').at(-1) ?? '';
  if (line.startsWith('{')) return JSON.parse(line) as Result;
  const why = error?.message ?? (stderr.trim() || `unshare ended with ${status}`);
  return { passed: 0, failed: 0, skipped: 0, missing: `neither root nor user namespaces: ${why}` };
}

function runHere(): Result {
  const missing = makeHosts();
  removeHosts();
  return missing === '' ? runTests(missingFilter()) : { passed: 0, failed: 0, skipped: 0, missing };
}

const result = process.getuid?.() === 0 || process.argv.includes(INSIDE) ? runHere() : runInside();
if (result.missing !== '') process.stderr.write(`Not tried here: ${result.missing}\n`);
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exitCode = result.failed > 0 ? 1 : 0;
