/**
 * Running Flotilla from outside, as a user would: the command line in child processes, its JSON lines, deadlines for
 * everything that is waited for, and the certainty that no process outlives the script. Nothing here knows what is
 * inside a node.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { NodeEvent, NodeStatus } from '../src/index.ts';

const PROJECT = fileURLToPath(new URL('..', import.meta.url));
/** Entry of the command line. The tests make a bundle of the sources before they start: it starts in a third of the CPU time. */
let command = process.env['FLOTILLA_TEST_COMMAND'] ?? join(PROJECT, 'src', 'cli', 'main.ts');

/** A command that answers and ends: `init` of a large library is the slowest, some seconds. */
export const COMMAND_MS = 120_000;
/** From the start of a process until it listens: under a second, more on a busy machine. */
export const READY_MS = 30_000;
/** From SIGTERM until the process has drained and ended. */
export const STOP_MS = 20_000;
/** Characters of a child's error output that are kept, for the message when it fails. */
const KEPT_ERROR_OUTPUT = 4_000;

/** What `flotilla status --json` prints. */
export type StatusReport = NodeStatus & { readonly batches: number; readonly lookupQueries: number };

const children = new Set<ChildProcess>();
const folders = new Set<string>();

/** Ends every child by its id and removes the temporary folders. Called at exit, whatever the reason; repeatable. */
export function cleanUp(): void {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  folders.clear();
}

let watching = false;

/** From the first thing that must not be left behind: whatever ends this process, it is cleaned up. */
function cleanUpAtExit(): void {
  if (watching) return;
  watching = true;
  process.on('exit', cleanUp);
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.on(signal, () => process.exit(code));
  }
}

/** A folder of our own that vanishes at exit, unless it is to be kept. */
export function temporaryFolder(prefix: string, keep: boolean): string {
  cleanUpAtExit();
  const folder = mkdtempSync(join(tmpdir(), prefix));
  if (!keep) folders.add(folder);
  return folder;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Asks again and again until the answer is not undefined. */
export async function until<T>(
  what: string,
  ms: number,
  ask: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const deadline = performance.now() + ms;
  for (let pause = 2; ; pause = Math.min(pause * 1.5, 100)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > deadline) throw new Error(`Waited ${Math.round(ms / 1_000)} s in vain for ${what}.`);
    await sleep(pause);
  }
}

/** Our environment without what would set options of the command line behind our back. */
function childEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('FLOTILLA_')));
}

/** Starts a script of ours that does not outlive this process; `errorOutput` is the end of what it has said there. */
export function startChild(file: string, args: readonly string[]): { child: ChildProcess; errorOutput: () => string } {
  cleanUpAtExit();
  const child = spawn(process.execPath, [file, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: childEnvironment(),
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  let text = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    text = (text + chunk).slice(-KEPT_ERROR_OUTPUT);
  });
  return { child, errorOutput: () => text.trim() };
}

/** Runs a script of ours to its end; its last line of output must be JSON, which is what comes back. */
export async function runScript<Result>(file: string, args: readonly string[], ms = COMMAND_MS): Promise<Result> {
  const { child, errorOutput } = startChild(file, args);
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk;
  });
  const what = `${file.replace(PROJECT, '')} ${args[0] ?? ''}`;
  const code = await new Promise<number | string>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${what} did not end within ${Math.round(ms / 1_000)} s. ${errorOutput()}`));
    }, ms);
    child.once('error', reject);
    child.once('close', (exitCode, signal) => {
      clearTimeout(timer);
      resolve(exitCode ?? signal ?? 'nothing');
    });
  });
  if (code !== 0) throw new Error(`${what} ended with ${code}: ${errorOutput() || output.trim()}`);
  const last = output.trimEnd().split('\n').at(-1) ?? '';
  try {
    return JSON.parse(last) as Result;
  } catch (cause) {
    throw new Error(`${what} printed no JSON but: ${last.slice(0, 200)}`, { cause });
  }
}

/** `flotilla <args> --json`, to its end. */
export function flotilla<Result>(args: readonly string[], ms = COMMAND_MS): Promise<Result> {
  return runScript<Result>(command, [...args, '--json'], ms);
}

/** Path of the command line that is run. */
export function commandFile(): string {
  return command;
}

/** From now on runs the command line as `npm run build` has made it. */
export function useBuild(): void {
  command = join(PROJECT, 'bundle', 'cli', 'main.js');
}

/** Path of a script of the file library. */
export function libraryScript(name: string): string {
  return join(PROJECT, 'examples', 'file-library', name);
}

/** Folder of the project. */
export const projectFolder: string = PROJECT;

/** Peak resident memory of a process so far, MB (10^6 bytes); null where the system does not tell (Linux does). */
export function peakRssMB(pid: number): number | null {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kilobytes === undefined ? null : Math.round((Number(kilobytes) * 1_024) / 100_000) / 10;
  } catch {
    return null;
  }
}

/** One `flotilla up`: the process and what it says. */
export class RunningNode {
  /** Everything that it has said, in order, with the moment at which we read it (`performance.now()`). */
  readonly events: Array<NodeEvent & { readonly at: number }> = [];
  /** When the process was started (`performance.now()`). */
  readonly startedAt: number;
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #errorOutput: () => string;
  readonly #closed: Promise<number | string>;
  readonly #listeners = new Set<() => void>();
  #ended = false;

  constructor(name: string, library: string, options: readonly string[]) {
    this.#name = name;
    this.startedAt = performance.now();
    const { child, errorOutput } = startChild(command, ['up', library, '--json', '--local-only', ...options]);
    this.#child = child;
    this.#errorOutput = errorOutput;
    if (child.stdout === null) throw new Error('The child has no output.');
    createInterface({ input: child.stdout }).on('line', (line) => this.#take(line));
    this.#closed = new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('close', (code, signal) => resolve(code ?? signal ?? 'nothing'));
    });
    void this.#closed.then(() => {
      this.#ended = true;
      this.#tell();
    });
  }

  get running(): boolean {
    return !this.#ended;
  }

  /** Of the process; 0 when it could not be started. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Peak resident memory of the process so far, MB (10^6 bytes); null where the system does not tell (Linux does). */
  get peakRssMB(): number | null {
    return peakRssMB(this.pid);
  }

  /** Calls back after each event and at the end; the returned function stops it. */
  onEvent(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Waits for the first answer of `find`, which is asked at once and after each event.
   *
   * @throws Error - when the node ends before, or after `ms`
   */
  waitFor<T>(what: string, ms: number, find: (events: RunningNode['events']) => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (done: () => void): void => {
        clearTimeout(timer);
        stop();
        done();
      };
      const look = (): void => {
        const found = find(this.events);
        if (found !== undefined) settle(() => resolve(found));
        else if (this.#ended)
          settle(() => reject(new Error(`${this.#name} ended while we waited for ${what}. ${this.#errorOutput()}`)));
      };
      const timer = setTimeout(() => {
        const last = this.events.slice(-3).map((event) => JSON.stringify(event));
        settle(() =>
          reject(
            new Error(
              `Waited ${Math.round(ms / 1_000)} s in vain for ${what} of ${this.#name}. ` +
                `Its last words: ${last.join(' ')} ${this.#errorOutput()}`,
            ),
          ),
        );
      }, ms);
      const stop = this.onEvent(look);
      look();
    });
  }

  async ready(ms = READY_MS): Promise<Extract<NodeEvent, { event: 'ready' }>> {
    return this.waitFor('its start', ms, (events) => events.find((event) => event.event === 'ready'));
  }

  /** SIGTERM: it drains and must end with 0. */
  async terminate(): Promise<void> {
    if (this.#ended) throw new Error(`${this.#name} ended by itself. ${this.#errorOutput()}`);
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS);
    const code = await this.#closed;
    clearTimeout(timer);
    if (code !== 0) throw new Error(`${this.#name} ended with ${code} after SIGTERM. ${this.#errorOutput()}`);
  }

  /** SIGKILL: as if the power had failed. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }

  #take(line: string): void {
    try {
      this.events.push({ ...(JSON.parse(line) as NodeEvent), at: performance.now() });
    } catch {
      // A line cut off by SIGKILL. Anything else that is no JSON would show as a missing event.
      return;
    }
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}
