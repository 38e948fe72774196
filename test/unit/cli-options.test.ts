import { describe, expect, it } from 'vitest';
import type { NodeOptions } from '../../src/index.ts';
import { OPTIONS } from '../../src/cli/options.ts';
import { COMMANDS, run } from '../../src/cli/program.ts';
import { fakeApi, FakeIo, PEER } from './cli-fakes.ts';

const ADDRESS = `/ip4/127.0.0.1/tcp/1/p2p/${PEER}`;

/** What `up` asks the library for; the node itself never opens. */
async function asked(argv: readonly string[], env: Record<string, string> = {}): Promise<NodeOptions | undefined> {
  let options: NodeOptions | undefined;
  const openNode = (given: NodeOptions): Promise<never> => {
    options = given;
    return Promise.reject(new Error('far enough'));
  };
  await run(['up', ...argv], new FakeIo({ env }), fakeApi({ openNode }));
  return options;
}

async function usage(
  argv: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; text: string }> {
  const io = new FakeIo({ env });
  const code = await run(argv, io, fakeApi({}));
  return { code, text: io.stderr.text };
}

describe('options', () => {
  it('reach the library under the names of its API', async () => {
    const argv = [
      'files.db',
      '--listen-port',
      '4001',
      '--local-only',
      '--no-discovery',
      '--name',
      'nas',
      '--batch',
      '500',
    ];
    expect(await asked([...argv, '--durability', 'full', '--home', 'h'])).toEqual({
      library: 'files.db',
      port: 4001,
      localOnly: true,
      discovery: false,
      name: 'nas',
      batchRows: 500,
      durability: 'full',
      home: 'h',
    });
  });

  it('that nobody set are absent, so that the defaults of the API hold', async () => {
    expect(await asked(['files.db'])).toEqual({ library: 'files.db' });
    expect(await asked(['files.db'], { FLOTILLA_HOME: '' })).toEqual({ library: 'files.db' });
  });

  it('that may be repeated do not swallow the file after them', async () => {
    const argv = ['--interface', 'lo', '--interface', 'eth0', '--peer', ADDRESS, 'files.db'];
    expect(await asked(argv)).toEqual({ library: 'files.db', interfaces: ['lo', 'eth0'], peers: [ADDRESS] });
  });

  it('come from the environment where the flag is not given', async () => {
    const env = {
      FLOTILLA_HOME: '/somewhere',
      FLOTILLA_LISTEN_PORT: '0',
      FLOTILLA_LOCAL_ONLY: '1',
      FLOTILLA_DISCOVERY: 'no',
      FLOTILLA_PEERS: `${ADDRESS},${ADDRESS}`,
    };
    expect(await asked(['files.db', '--listen-port', '7'], env)).toEqual({
      library: 'files.db',
      home: '/somewhere',
      port: 7,
      localOnly: true,
      discovery: false,
      peers: [ADDRESS, ADDRESS],
    });
    expect(await asked(['files.db'], { FLOTILLA_LOCAL_ONLY: '0' })).toEqual({ library: 'files.db', localOnly: false });
  });

  it.each([
    [['up', 'x', '--listen-port', '65536'], '--listen-port: must be a whole number from 0 to 65535.'],
    [['up', 'x', '--listen-port', ''], '--listen-port: must be a whole number from 0 to 65535.'],
    [['up', 'x', '--listen-port', '0x10'], '--listen-port: must be a whole number from 0 to 65535.'],
    [['up', 'x', '--batch', '0'], '--batch: must be a whole number from 1 to 100000.'],
    [['up', 'x', '--durability', 'most'], '--durability: must be normal or full.'],
    [['up', 'x', '--peer', '/ip4/127.0.0.1/tcp/1'], '--peer: must be a multiaddr that ends in /p2p/<peer id>.'],
    [['up', 'x', '--name', ' '], '--name: must not be empty.'],
    [['invite', 'x', '--minutes', '0'], '--minutes: must be a number above 0, up to 10080.'],
    [['invite', 'x', '--minutes', '-5'], '--minutes: must be a number above 0, up to 10080.'],
    [
      ['join', 'i', 'x', '--union', '--same'],
      '--union and --same exclude each other: use the one that fits the rows that are here.',
    ],
    [['up'], "missing required argument 'file'. See flotilla --help."],
    [['up', 'x', '--bogus'], "unknown option '--bogus'. See flotilla --help."],
    [['launch', 'x'], "unknown command 'launch'. See flotilla --help."],
    [[], 'Say what to do: flotilla --help shows the commands.'],
  ])('%j is refused in one sentence with exit code 2', async (argv, message) => {
    expect(await usage(argv)).toEqual({ code: 2, text: `flotilla: ${message}\n` });
  });

  it('from the environment are checked too, and named', async () => {
    const port = await usage(['up', 'x'], { FLOTILLA_LISTEN_PORT: 'any' });
    expect(port).toEqual({
      code: 2,
      text: 'flotilla: FLOTILLA_LISTEN_PORT: must be a whole number from 0 to 65535.\n',
    });
    const local = await usage(['up', 'x'], { FLOTILLA_LOCAL_ONLY: 'maybe' });
    expect(local).toEqual({ code: 2, text: 'flotilla: FLOTILLA_LOCAL_ONLY: must be 1 or 0.\n' });
  });

  it('of init, invite and join reach the library', async () => {
    const seen: unknown[] = [];
    const refuse = (...given: unknown[]): Promise<never> => {
      seen.push(given);
      return Promise.reject(new Error('far enough'));
    };
    const api = fakeApi({ createInvitation: refuse, joinLibrary: refuse, initLibrary: refuse });
    await run(['init', 'x', '--config', 'c.json', '--name', 'n'], new FakeIo(), api);
    await run(['invite', 'x', '--minutes', '0.5', '--local-only'], new FakeIo(), api);
    await run(['join', 'i', 'x', '--same', '--name', 'n'], new FakeIo(), api);
    await run(['join', 'i', 'x', '--union', '--local-only'], new FakeIo(), api);
    expect(seen).toEqual([
      ['x', { config: 'c.json', name: 'n' }],
      ['x', { minutes: 0.5, localOnly: true }],
      ['i', 'x', { existing: 'same', name: 'n' }],
      ['i', 'x', { existing: 'union', localOnly: true }],
    ]);
  });
});

describe('help', () => {
  it('names every command, with a two-line example, and exits 0 without loading the library', async () => {
    const io = new FakeIo();
    const code = await run(['--help'], io, () => Promise.reject(new Error('loaded')));
    expect(code).toBe(0);
    for (const { name, summary } of COMMANDS) {
      // One below another command is named where that one is explained.
      const above = new FakeIo();
      await run([...name.split(' ').slice(0, -1), '--help'], above, () => Promise.reject(new Error('loaded')));
      expect(above.stdout.text.replaceAll(/\s+/g, ' ')).toContain(summary);
    }
    expect(io.stdout.text.split('Example:\n')[1]?.trimEnd().split('\n')).toHaveLength(2);
    expect(io.stderr.text).toBe('');
  });

  it.each(COMMANDS.map((command) => [command.name, command] as const))(
    'of %s names its options and variables',
    async (name, command) => {
      const io = new FakeIo();
      expect(await run([...name.split(' '), '--help'], io, fakeApi({}))).toBe(0);
      const text = io.stdout.text.replaceAll(/\s+/g, ' ');
      expect(command.options).toContain('json');
      // It looks at a file alone, which may be nobody's library yet.
      if (command.name !== 'doctor') expect(command.options).toContain('home');
      for (const option of command.options) {
        const spec: { flags: string; env?: string; help: string } = OPTIONS[option];
        expect(text).toContain(spec.flags);
        expect(text).toContain(spec.help);
        if (spec.env !== undefined) expect(text).toContain(spec.env);
      }
    },
  );

  it('--version prints the version of the package', async () => {
    const { default: manifest } = await import('../../package.json', { with: { type: 'json' } });
    const io = new FakeIo();
    expect(await run(['--version'], io, fakeApi({}))).toBe(0);
    expect(io.stdout.text).toBe(`${manifest.version}\n`);
  });
});
