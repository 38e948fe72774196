/**
 * The command line in child processes, as a user types it, for the integration tests: what a command says and how it
 * ends, and files looked at from outside. Every process ends with the test file, by its id, whatever happens.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import Database from 'better-sqlite3';
import { expect, onTestFinished } from 'vitest';
import { cleanUp, commandFile, projectFolder, until } from '../../examples/support.ts';

/** No command of these tests takes longer, ms: reached only when something hangs. */
export const COMMAND_MS = 60_000;

// Dozens of short processes start here: they need not compile the same files anew each time.
process.env['NODE_COMPILE_CACHE'] ??= join(projectFolder, 'node_modules', '.cache', 'compile');

const children = new Set<ChildProcess>();
const folders = new Set<string>();

/** For `afterAll`: ends all that was started here and in examples/support.ts, and removes the folders. */
export function endEverything(): void {
  for (const child of children) child.kill('SIGKILL');
  cleanUp();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  folders.clear();
}

/** A folder of the test's own, under the system's temporary one. */
export function testFolder(): string {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'flotilla-test-'));
  folders.add(folder);
  return folder;
}

/** How a process ended: exit code, or the name of the signal that ended it. */
export type Ending = number | NodeJS.Signals | null;

/** A process of ours whose lines can be waited for. */
export interface Program {
  readonly pid: number;
  /** Lines of standard output so far. */
  readonly lines: readonly string[];
  readonly stderr: () => string;
  readonly ended: Promise<Ending>;
  signal(name: NodeJS.Signals): void;
  /** Resolves with the first line that fits; rejects when the process ends before. */
  line(fits: (line: string) => boolean, ms?: number): Promise<string>;
}

/** Starts any program. */
export function start(
  file: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Program {
  const child = spawn(file, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: options.cwd,
    env: { ...withoutSettings(process.env), ...options.env },
  });
  children.add(child);
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const tell = (): void => waiting.forEach((look) => look());
  let stderr = '';
  let isOver = false;
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line);
    tell();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<Ending>((resolve) => {
    child.once('error', () => resolve(null));
    child.once('close', (code, signal) => resolve(code ?? signal));
  });
  void ended.then(() => {
    isOver = true;
    children.delete(child);
    tell();
  });
  return {
    pid: child.pid ?? -1,
    lines,
    stderr: () => stderr,
    ended,
    signal: (name) => void child.kill(name),
    line(fits, ms = COMMAND_MS) {
      return new Promise((resolve, reject) => {
        const done = (finish: () => void): void => {
          clearTimeout(timer);
          waiting.delete(look);
          finish();
        };
        const look = (): void => {
          const found = lines.find(fits);
          if (found !== undefined) done(() => resolve(found));
          else if (isOver) done(() => reject(new Error(`The process ended before it said that. ${stderr}`)));
        };
        const timer = setTimeout(
          () => done(() => reject(new Error(`It never said that, but: ${lines.slice(-5).join('\n')} ${stderr}`))),
          ms,
        );
        waiting.add(look);
        look();
      });
    },
  };
}

/** `flotilla <args>`, left running. */
export function startFlotilla(
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Program {
  return start(process.execPath, [commandFile(), ...args], options);
}

export interface Outcome {
  readonly code: Ending;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export async function run(program: Program): Promise<Outcome> {
  const timer = setTimeout(() => program.signal('SIGKILL'), COMMAND_MS);
  const code = await program.ended;
  clearTimeout(timer);
  return { code, stdout: program.lines.join('\n'), stderr: program.stderr() };
}

/** `flotilla <args>`, to its end. */
export function flotillaCommand(
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> {
  return run(startFlotilla(args, options));
}

/** `flotilla <args> --json`, which must succeed: what it printed. */
export async function flotillaJson<T>(args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await flotillaCommand([...args, '--json']);
  expect({ code, stderr }, `flotilla ${args.join(' ')}`).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as T;
}

/** Settings from the environment of whoever runs the tests must not change what they test. */
function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('FLOTILLA_')));
}

/** What a refused command must look like: a code for programs, one sentence for people, nothing else. */
export interface Refusal {
  /** Code in the JSON object. */
  readonly code: string;
  /** In the sentence. */
  readonly says: RegExp;
  /** @default 1 */
  readonly exit?: number;
}

/**
 * Runs `flotilla <args> --json`, which must be refused as said, and must change nothing below `folder`.
 * @param changing - files that change by themselves, since a node runs
 */
export async function expectRefusal(
  args: readonly string[],
  folder: string,
  refusal: Refusal,
  changing?: RegExp,
): Promise<void> {
  const before = fingerprint(folder, changing);
  const { code, stdout, stderr } = await flotillaCommand([...args, '--json'], { cwd: folder });
  const what = `flotilla ${args.join(' ')}`;
  expect(stderr, what).toMatch(/^flotilla: [^\n]+[.)?]\n$/);
  expect(stderr, what).toMatch(refusal.says);
  expect(stderr, what).not.toMatch(/Something unexpected|\bat .*\.ts:/);
  expect(JSON.parse(stdout), what).toEqual({
    event: 'error',
    code: refusal.code,
    message: stderr.slice('flotilla: '.length).trimEnd(),
  });
  expect(code, what).toBe(refusal.exit ?? 1);
  expect(fingerprint(folder, changing), `${what} must leave everything as it was`).toEqual(before);
}

/** Everything below a folder: path → hash of the content, '' for folders. */
export function fingerprint(folder: string, changing?: RegExp): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (changing?.test(path) === true) continue;
    if (entry.isFile()) found[path] = createHash('sha256').update(readFileSync(path)).digest('hex');
    else found[path] = entry.isDirectory() ? '' : 'special';
  }
  return found;
}

/** Does something with a database file as any program would, and closes it. */
export function withDatabase<T>(file: string, work: (db: Database.Database) => T): T {
  const db = new Database(file, { timeout: COMMAND_MS });
  try {
    db.pragma('foreign_keys = ON');
    return work(db);
  } finally {
    db.close();
  }
}

/** Runs SQL on a database file. */
export function execute(file: string, sql: string): void {
  withDatabase(file, (db) => db.exec(sql));
}

/** First column of all rows of a query. */
export function column(file: string, sql: string): unknown[] {
  return withDatabase(file, (db) => db.prepare(sql).pluck().all());
}

/** Waits until a query on a file gives these values. */
export async function untilColumn(file: string, sql: string, expected: readonly unknown[], ms = 20_000): Promise<void> {
  let last: unknown[] = [];
  const found = await until('rows', ms, () => {
    last = column(file, sql);
    return JSON.stringify(last) === JSON.stringify(expected) ? true : undefined;
  }).catch(() => false);
  if (!found) expect(last, sql).toEqual(expected);
}

/** Makes something that must be undone at the end of the test, even if it fails. */
export function undoAtEnd(undo: () => void): void {
  onTestFinished(undo);
}
