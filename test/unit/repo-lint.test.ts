/**
 * The lint rules that keep the rooms apart fire on what they forbid, and stay silent on what they allow. Each case is a
 * file of its own in a temporary folder that has the project's own configuration.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');
const IMPORTS = 'eslint(no-restricted-imports)';
const GLOBALS = 'eslint(no-restricted-globals)';
const PROPERTIES = 'eslint(no-restricted-properties)';

/** Room, line of code, the rule that must fire (null: none). */
const cases: ReadonlyArray<readonly [room: string, code: string, rule: string | null]> = [
  // protocol/ is pure
  ['src/protocol', "import '../db/api.ts';", IMPORTS],
  ['src/protocol', "import type { MemberRow } from '../db/api.ts';\nexport type M = MemberRow;", IMPORTS],
  ['src/protocol', "import '../net/api.ts';", IMPORTS],
  ['src/protocol', "export * from '../actors/peer-session.ts';", IMPORTS],
  ['src/protocol', "await import('../node.ts');", IMPORTS],
  ['src/protocol', "import 'node:fs';", IMPORTS],
  ['src/protocol', "import 'node:net';", IMPORTS],
  ['src/protocol', "import 'libp2p';", IMPORTS],
  ['src/protocol', "import '@libp2p/crypto/keys';", IMPORTS],
  ['src/protocol', "import 'better-sqlite3';", IMPORTS],
  ['src/protocol', "import 'xstate';", IMPORTS],
  ['src/protocol', "import { randomBytes } from 'node:crypto';\nrandomBytes(1);", IMPORTS],
  ['src/protocol', 'export const now = Date.now();', GLOBALS],
  ['src/protocol', 'export const now = new Date();', GLOBALS],
  ['src/protocol', 'export const now = performance.now();', GLOBALS],
  ['src/protocol', 'export const id = crypto.randomUUID();', GLOBALS],
  ['src/protocol', 'setTimeout(() => {}, 1);', GLOBALS],
  ['src/protocol', 'export const dice = Math.random();', PROPERTIES],
  ['src/protocol', "import { createHash } from 'node:crypto';\ncreateHash('sha256');", null],
  ['src/protocol', "import './types.ts';\nimport '../errors.ts';\nimport 'msgpackr';", null],

  // db/ sees protocol/
  ['src/db', "import '../net/api.ts';", IMPORTS],
  ['src/db', "import '../actors/database.ts';", IMPORTS],
  ['src/db', "import '../node.ts';", IMPORTS],
  ['src/db', "import 'xstate';", IMPORTS],
  ['src/db', "import '@libp2p/tcp';", IMPORTS],
  ['src/db', "import 'node:net';", IMPORTS],
  ['src/db', "import '../protocol/types.ts';\nimport 'better-sqlite3';\nimport '../errors.ts';", null],

  // actors/ see db/api.ts, net/ and protocol/
  ['src/actors', "import '../db/schema.ts';", IMPORTS],
  ['src/actors', "import '../cli/main.ts';", IMPORTS],
  ['src/actors', "import '../index.ts';", IMPORTS],
  ['src/actors', "import 'better-sqlite3';", IMPORTS],
  ['src/actors', "import 'libp2p';", IMPORTS],
  [
    'src/actors',
    "import '../db/api.ts';\nimport '../net/api.ts';\nimport '../protocol/types.ts';\nimport 'xstate';",
    null,
  ],

  // net/ sees protocol/, and types of db/api.ts
  ['src/net', "import '../db/schema.ts';", IMPORTS],
  ['src/net', "import { counters } from '../db/api.ts';\ncounters();", IMPORTS],
  ['src/net', "import '../actors/discovery.ts';", IMPORTS],
  ['src/net', "import 'better-sqlite3';", IMPORTS],
  ['src/net', "import 'xstate';", IMPORTS],
  ['src/net', "import type { MemberRow } from '../db/api.ts';\nexport type M = MemberRow;", null],
  ['src/net', "import '../protocol/types.ts';\nimport 'libp2p';\nimport 'it-pipe';", null],

  // the wiring, and the errors that everyone may import
  ['src', "import 'better-sqlite3';", IMPORTS],
  ['src', "import 'libp2p';", IMPORTS],
  ['src', "import 'xstate';", IMPORTS],
  ['src/node.ts', "import 'better-sqlite3';", IMPORTS],
  ['src/node.ts', "import 'libp2p';", IMPORTS],
  [
    'src/node.ts',
    "import 'xstate';\nimport './db/open.ts';\nimport './net/host.ts';\nimport './actors/node.ts';",
    null,
  ],
  ['src/errors.ts', "import './api.ts';", IMPORTS],

  // the command line and the examples see what any program sees
  ['src/cli', "import '../node.ts';", IMPORTS],
  ['src/cli', "import '../db/api.ts';", IMPORTS],
  ['src/cli', "import 'better-sqlite3';", IMPORTS],
  ['src/cli', "import type { NodeStatus } from '../api.ts';\nexport type S = NodeStatus;", null],
  ['src/cli', "import '../index.ts';\nimport './output.ts';\nimport 'commander';", null],
  ['examples', "import '../src/db/schema.ts';", IMPORTS],
  ['examples', "import '../src/index.ts';\nimport 'better-sqlite3';", null],
  ['examples/file-library', "import '../../src/index.ts';", IMPORTS],
  ['examples/file-library', "import 'flotilla';", IMPORTS],
  ['examples/file-library', "import 'better-sqlite3';\nimport 'node:fs';", null],

  // tests that do not run (put together here, so that a search for such tests does not find this file)
  ['test/unit', "import { it } from 'vitest';\nit." + "only('alone', () => {});", 'vitest(no-focused-tests)'],
  ['test/unit', "import { it } from 'vitest';\nit." + "skip('never', () => {});", 'vitest(no-disabled-tests)'],
];

/** A room that names a file is that file; any other gets a file of its own for each case. */
function fileOf(room: string, index: number): string {
  return room.endsWith('.ts') ? join(`case${index}`, room) : join(`case${index}`, room, 'sample.ts');
}

describe('lint', () => {
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-lint-'));
  const fired = new Map<string, string[]>();

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  beforeAll(() => {
    for (const [index, [room, code]] of cases.entries()) {
      const file = join(folder, fileOf(room, index));
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, `${code}\nexport {};\n`);
      copyFileSync(join(ROOT, '.oxlintrc.json'), join(folder, `case${index}`, '.oxlintrc.json'));
    }
    copyFileSync(join(ROOT, '.oxlintrc.json'), join(folder, '.oxlintrc.json'));
    const oxlint = join(ROOT, 'node_modules', '.bin', 'oxlint');
    const run = spawnSync(oxlint, ['--format', 'json', '--no-ignore', '.'], { cwd: folder, encoding: 'utf8' });
    const { diagnostics } = JSON.parse(run.stdout) as { diagnostics: Array<{ filename: string; code: string }> };
    for (const { filename, code } of diagnostics) fired.set(filename, [...(fired.get(filename) ?? []), code]);
  });

  it.each(cases.map(([room, code, rule], index) => ({ room, code, rule, index })))(
    '$room: $code → $rule',
    ({ room, rule, index }) => {
      const codes = fired.get(fileOf(room, index)) ?? [];
      if (rule === null) {
        expect(codes.filter((code) => code.includes('no-restricted'))).toEqual([]);
      } else {
        expect(codes).toContain(rule);
      }
    },
  );
});
