/**
 * The file library through what people would pick instead: from a process that has it to one that has nothing, over a socket of this
 * machine. Each system in its usual way of keeping and syncing (bench/peers), with packages of its own that are installed when they are
 * first needed. Who received is ended by SIGKILL, its store opened by another process, and everything in it compared with the source.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { peakRssMB, projectFolder, runScript, startChild } from '../examples/support.ts';
import { type Bench, type BenchOptions, type BenchReport, rounded, shown } from './bench.ts';
import { bytesSentBy, Source } from './nodes.ts';
import { type Contents, contentsOf, readLibrary } from './peers/harness.ts';

const FOLDER = join(projectFolder, 'bench', 'peers');
/** Folders, and the packages whose versions are told. That of cr-sqlite does not install on a Node.js that this project runs on, so there is no more to it. */
const SYSTEMS = {
  yjs: 'yjs',
  loro: 'loro-crdt',
  tinybase: 'tinybase',
  crsqlite: '@vlcn.io/crsqlite',
  automerge: '@automerge/automerge',
  pouchdb: 'pouchdb',
  orbitdb: '@orbitdb/core',
} as const;
type System = keyof typeof SYSTEMS;

const FULL = 182_530;
const QUICK = 5_000;
/** A reason of failure that is shown, characters. */
const LONGEST_REASON = 160;

interface Measured {
  /** From the start of the receiving process until it has all, durably, ms. */
  readonly ms: number;
  /** Peak resident memory, MB. */
  readonly senderMB: number | null;
  readonly receiverMB: number | null;
  /** Both ways. */
  readonly bytes: number;
  /** Until the sender's process served its store, ms: not part of `ms`. */
  readonly openMs: number | null;
  readonly contents: Contents;
}

interface Line {
  readonly system: string;
  readonly measured: Measured | null;
  /** Why it was not measured. */
  readonly reason: string;
}

/** A process that says one JSON object a line and stays. */
class Player {
  readonly startedAt = performance.now();
  readonly #child;
  readonly #errorOutput;
  readonly #said: Record<string, unknown>[] = [];
  readonly #lines;

  constructor(file: string, args: readonly string[]) {
    ({ child: this.#child, errorOutput: this.#errorOutput } = startChild(file, args));
    if (this.#child.stdout === null) throw new Error('The child has no output.');
    this.#lines = createInterface({ input: this.#child.stdout });
    this.#lines.on('line', (line) => {
      // What libraries print of their own is nothing to us.
      if (line.startsWith('{"')) this.#said.push(JSON.parse(line) as Record<string, unknown>);
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get peakRssMB(): number | null {
    return peakRssMB(this.pid);
  }

  /** Waits until it says something under a name. */
  async say<T>(name: string, limitS: number): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<T>((resolve, reject) => {
        const look = (): void => {
          const found = this.#said.find((one) => name in one);
          if (found !== undefined) resolve(found[name] as T);
        };
        this.#lines.on('line', look);
        this.#child.once('close', () => reject(new Error(this.#errorOutput() || 'It ended without a word.')));
        timer = setTimeout(() => reject(new Error(`not ${name} within ${limitS} s`)), limitS * 1_000);
        look();
      });
    } finally {
      clearTimeout(timer);
    }
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGKILL');
    await closed;
  }
}

/** Installs the packages of a system, unless they are there. */
function install(system: System): void {
  const cwd = join(FOLDER, system);
  if (existsSync(join(cwd, 'node_modules', '.package-lock.json'))) return;
  const { status, error, stderr } = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd, encoding: 'utf8' });
  if (status === 0) return;
  const telling = /\w*Error: .*/.exec(stderr)?.[0] ?? stderr.trim().split('\n')[0] ?? '';
  throw new Error(`does not install here: ${telling}`, { cause: error });
}

/** The version that is to be installed. */
function versionOf(system: System): string {
  const { dependencies } = JSON.parse(readFileSync(join(FOLDER, system, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  return dependencies[SYSTEMS[system]] ?? '';
}

async function measure(
  system: System,
  library: string,
  folder: string,
  rows: number,
  limitS: number,
): Promise<Measured> {
  const script = join(FOLDER, system, 'peer.mjs');
  const store = (name: string): string => join(folder, `${system}-${name}`);
  await runScript(script, ['fill', library, store('sender')], limitS * 1_000);
  const sender = new Player(script, ['send', store('sender')]);
  let receiver: Player | null = null;
  try {
    const address = await sender.say<string>('serving', limitS);
    const openMs = performance.now() - sender.startedAt;
    receiver = new Player(script, ['receive', store('receiver'), address, String(rows)]);
    await receiver.say('done', limitS);
    const ms = performance.now() - receiver.startedAt;
    sender.signal('SIGUSR2');
    const bytes = (await sender.say<number>('counted', limitS)) || bytesSentBy(sender, receiver);
    const [senderMB, receiverMB] = [sender.peakRssMB, receiver.peakRssMB];
    await receiver.kill();
    const contents = await runScript<Contents>(script, ['check', store('receiver')], limitS * 1_000);
    return { ms, senderMB, receiverMB, bytes, openMs, contents };
  } finally {
    await receiver?.kill();
    await sender.kill();
  }
}

/** Flotilla, in the same way. */
async function measureOurs(source: Source, isBlank: boolean): Promise<Measured> {
  const device = await source.newDevice(isBlank ? 'blank' : 'not blank', isBlank);
  const node = await device.start([]);
  const { withStartMs: ms } = await source.wholePass(node);
  const bytes = bytesSentBy(source.node, node);
  const [senderMB, receiverMB] = [source.node.peakRssMB, node.peakRssMB];
  await node.kill();
  return { ms, senderMB, receiverMB, bytes, openMs: null, contents: contentsOf(readLibrary(device.library)) };
}

/** What went wrong, in one line. */
function reasonOf(error: unknown): string {
  const lines = (error instanceof Error ? error.message : String(error)).split('\n');
  const telling = lines.find((line) => /error|not /i.test(line)) ?? lines[0] ?? '';
  return telling.trim().slice(0, LONGEST_REASON);
}

async function run({ quick, say, limitS, only }: BenchOptions): Promise<BenchReport> {
  const entries = Number(process.env['FLOTILLA_BENCH_ENTRIES'] ?? (quick ? QUICK : FULL));
  const source = await Source.start('peers', entries);
  const wanted = contentsOf(readLibrary(source.library));
  const lines: Line[] = [];
  const take = async (system: string, work: () => Promise<Measured>): Promise<void> => {
    try {
      const measured = await work();
      const { rows, dangling, sum } = measured.contents;
      const isWhole = rows === wanted.rows && dangling === 0 && sum === wanted.sum;
      lines.push({
        system,
        measured,
        reason: isWhole ? '' : `not the same: ${rows} rows, ${dangling} references to nothing`,
      });
      say(`${system}: ${shown(measured.ms / 1_000)} s`);
    } catch (error) {
      lines.push({ system, measured: null, reason: reasonOf(error) });
      say(`${system}: ${reasonOf(error)}`);
    }
  };
  await take('Flotilla, into a new device', () => measureOurs(source, true));
  await take('Flotilla, into one that has rows', () => measureOurs(source, false));
  await source.node.terminate();
  const systems = (Object.keys(SYSTEMS) as System[]).filter((system) => only === null || only.includes(system));
  for (const system of systems) {
    await take(`${SYSTEMS[system]} ${versionOf(system)}`, async () => {
      install(system);
      return measure(system, source.library, source.folder, wanted.rows, limitS);
    });
    for (const side of ['sender', 'receiver'])
      rmSync(join(source.folder, `${system}-${side}`), { recursive: true, force: true });
  }
  const ours = lines[0]?.measured?.ms ?? Number.NaN;
  const ratioOf = ({ measured }: Line): number => (measured?.ms ?? Number.NaN) / ours;
  const others = lines.slice(2).filter(({ measured, reason }) => measured !== null && reason === '');
  return {
    bench: 'peers',
    ratio: rounded(Math.min(...others.map(ratioOf))),
    figures: {
      entries,
      rows: wanted.rows,
      limitS,
      systems: lines.map((line) => ({
        system: line.system,
        reason: line.reason,
        ...(line.measured !== null && {
          seconds: rounded(line.measured.ms / 1_000),
          ratio: rounded(ratioOf(line)),
          openSeconds: line.measured.openMs === null ? null : rounded(line.measured.openMs / 1_000),
          senderMB: line.measured.senderMB,
          receiverMB: line.measured.receiverMB,
          megabytes: rounded(line.measured.bytes / 1e6),
        }),
      })),
    },
    table: [
      ['', 'until durable', 'ratio', 'memory, sender / receiver', 'on the wire', 'sender opens', 'all there, reopened'],
      ...lines.map((line) => {
        const { system, measured, reason } = line;
        if (measured === null) return [system, reason, '', '', '', '', 'no'];
        return [
          system,
          `${shown(measured.ms / 1_000)} s`,
          shown(ratioOf(line)),
          `${measured.senderMB ?? '?'} / ${measured.receiverMB ?? '?'} MB`,
          `${shown(measured.bytes / 1e6)} MB`,
          measured.openMs === null ? '' : `${shown(measured.openMs / 1_000)} s`,
          reason === '' ? 'yes' : reason,
        ];
      }),
    ],
    notes: [
      `${shown(wanted.rows)} rows. From the start of the receiving process until it has all, durably; the sender serves by then. Ratio: against the first line.`,
      'Then the receiver is killed, its store opened by another process: rows counted, references followed, values compared. Only Flotilla has foreign keys to enforce.',
    ],
  };
}

export const peers: Bench = {
  name: 'peers',
  about: 'the same library through other systems, installed when first needed',
  onDemand: true,
  run,
};
