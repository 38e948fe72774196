import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import { FlotillaError } from '../../src/errors.ts';
import { run } from '../../src/cli/program.ts';
import { fakeApi, FakeIo, FakeNode, ME, PEER } from './cli-fakes.ts';

const READY = { event: 'ready', device: ME, library: 'aaaa', addresses: [`/ip4/127.0.0.1/tcp/4001/p2p/${ME}`] };

/** `up` in the background, with its node listened to. */
async function started(node = new FakeNode(), argv: readonly string[] = ['--json'], io = new FakeIo()) {
  const exited = run(['up', 'files.db', ...argv], io, fakeApi({ openNode: () => Promise.resolve(node) }));
  await turn();
  expect(node.listeners.size).toBe(1);
  return { node, io, exited };
}

/** Lets everything that is ready to go on go on. */
async function turn(): Promise<void> {
  await new Promise<void>((resolve) => {
    setImmediate(resolve);
  });
}

describe('up', () => {
  it('prints the events until a signal, stops the node, and exits 0', async () => {
    const { node, io, exited } = await started();
    node.emit({ event: 'peer', device: PEER, name: 'nas', state: 'live', code: '', reason: '' });
    node.emit({ event: 'applied', device: PEER, rows: 3, changed: 2, complete: true });
    expect(node.stops).toBe(0);
    io.signal('SIGTERM');
    expect(await exited).toBe(0);
    expect(node.stops).toBe(1);
    expect(io.stdout.json).toEqual([
      READY,
      { event: 'peer', device: PEER, name: 'nas', state: 'live', code: '', reason: '' },
      { event: 'applied', device: PEER, rows: 3, changed: 2, complete: true },
      { event: 'stopped' },
    ]);
    expect(io.stderr.text).toBe('');
    expect(io.signals.size).toBe(0);
    expect(node.listeners.size).toBe(0);
    expect(io.exits).toEqual([]);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('exits at once at the second %s', async (signal, code) => {
    const node = new FakeNode();
    let drained: () => void = () => undefined;
    node.draining = new Promise((resolve) => {
      drained = resolve;
    });
    const { io, exited } = await started(node);
    io.signal('SIGINT');
    await turn();
    expect(io.exits).toEqual([]);
    io.signal(signal);
    expect(io.exits).toEqual([code]);
    drained();
    await exited;
  });

  it('stops the node that was still opening when the signal came', async () => {
    const io = new FakeIo();
    const node = new FakeNode();
    let open: (node: FakeNode) => void = () => undefined;
    const opening = new Promise<FakeNode>((resolve) => {
      open = resolve;
    });
    const exited = run(['up', 'x', '--json'], io, fakeApi({ openNode: () => opening }));
    await turn();
    io.signal('SIGINT');
    open(node);
    expect(await exited).toBe(0);
    expect(node.stops).toBe(1);
  });

  it('exits 1 when the node stops by itself', async () => {
    const { node, io, exited } = await started();
    node.emit({ event: 'stopped' });
    expect(await exited).toBe(1);
    expect(io.stderr.text).toContain('The node stopped by itself');
    expect(io.stdout.json.slice(1)).toMatchObject([{ event: 'stopped' }, { event: 'error', code: 'STOPPED' }]);
  });

  it('fails in one sentence when the library cannot be opened', async () => {
    const io = new FakeIo();
    const openNode = (): Promise<never> =>
      Promise.reject(new FlotillaError('LIBRARY_IN_USE', 'Another node has it: stop that one.'));
    expect(await run(['up', 'x', '--json'], io, fakeApi({ openNode }))).toBe(1);
    expect(io.stderr.text).toBe('flotilla: Another node has it: stop that one.\n');
    expect(io.stdout.json).toEqual([
      { event: 'error', code: 'LIBRARY_IN_USE', message: 'Another node has it: stop that one.' },
    ]);
    expect(io.signals.size).toBe(0);
  });

  it('gives the terminal back when stopping fails', async () => {
    const node = new FakeNode();
    const { io, exited } = await started(node, [], new FakeIo({ terminal: { columns: 80, rows: 24 } }));
    expect(io.stdout.text).toContain('\x1b[?25l');
    node.draining = Promise.reject(new Error('no'));
    io.signal('SIGINT');
    expect(await exited).toBe(1);
    expect(io.stdout.text.lastIndexOf('\x1b[?25h')).toBeGreaterThan(io.stdout.text.lastIndexOf('\x1b[?25l'));
    expect(io.exitListeners.size).toBe(0);
  });
});

/** A process that runs `up` with real streams and signals on a fake library. */
const SCRIPT = `
  const here = ${JSON.stringify(import.meta.url)};
  const { run } = await import(new URL('../../src/cli/program.ts', here));
  const { leave, processIo } = await import(new URL('../../src/cli/context.ts', here));
  const { fakeApi, FakeNode } = await import(new URL('./cli-fakes.ts', here));
  const node = new FakeNode();
  const alive = setInterval(() => undefined, 1000);
  if (process.env.STUCK) node.draining = new Promise(() => undefined);
  const stop = node.stop.bind(node);
  node.stop = () => { process.stderr.write('stopping '); return stop(); };
  const io = processIo();
  await leave(io, await run(['up', 'x', '--json'], io, fakeApi({ openNode: async () => node })));
`;

const children = new Set<ChildProcess>();

function upProcess(env: Record<string, string> = {}) {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', SCRIPT], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  return { child, exit: once(child, 'exit'), out: () => out };
}

describe('a real process', () => {
  afterEach(() => {
    for (const child of children) child.kill('SIGKILL');
    children.clear();
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('drains and exits 0 on %s', async (signal) => {
    const { child, exit, out } = upProcess();
    await once(child.stdout, 'data');
    child.kill(signal);
    expect(await exit).toEqual([0, null]);
    expect(
      out()
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as { event: string }).event),
    ).toEqual(['ready', 'stopped']);
  });

  it('ends at once at the second signal', async () => {
    const { child, exit } = upProcess({ STUCK: '1' });
    await once(child.stdout, 'data');
    child.kill('SIGTERM');
    await once(child.stderr, 'data');
    child.kill('SIGTERM');
    expect(await exit).toEqual([143, null]);
  });

  it('goes on when nobody reads its output any more', async () => {
    const { child, exit } = upProcess();
    await once(child.stdout, 'data');
    child.stdout.destroy();
    child.kill('SIGTERM');
    expect(await exit).toEqual([0, null]);
  });
});
