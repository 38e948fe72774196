import { describe, expect, it } from 'vitest';
import { ERROR_CODES, FlotillaError, type ErrorCode } from '../../src/errors.ts';
import { run } from '../../src/cli/program.ts';
import { fakeApi, FakeIo, nodeStatus } from './cli-fakes.ts';

async function failing(
  error: unknown,
  argv: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<FakeIo & { code: number }> {
  const io = new FakeIo({ env });
  const readStatus = (): Promise<never> => Promise.reject(error as Error);
  const code = await run(['status', 'x', ...argv], io, fakeApi({ readStatus }));
  return Object.assign(io, { code });
}

describe('a failure', () => {
  it('is one sentence on stderr, exit code 1, and nothing on stdout', async () => {
    const io = await failing(new FlotillaError('NO_SUCH_FILE', 'There is no file x: check the path.'));
    expect(io.code).toBe(1);
    expect(io.stderr.text).toBe('flotilla: There is no file x: check the path.\n');
    expect(io.stdout.text).toBe('');
  });

  it.each(Object.keys(ERROR_CODES) as ErrorCode[])('with --json is also an object on stdout: %s', async (errorCode) => {
    const io = await failing(new FlotillaError(errorCode, 'What happened.'), ['--json']);
    expect(io.code).toBe(1);
    expect(io.stdout.json).toEqual([{ event: 'error', code: errorCode, message: 'What happened.' }]);
    expect(io.stderr.text).toBe('flotilla: What happened.\n');
  });

  it('that nobody expected is one line too, without a stack', async () => {
    const io = await failing(Object.assign(new Error('a\nb\x1b[31m'), { code: 'EACCES' }), ['--json']);
    expect(io.stderr.lines).toEqual([
      'flotilla: Something unexpected went wrong: a b?[31m (FLOTILLA_DEBUG=1 shows where).',
    ]);
    expect(io.stdout.json).toMatchObject([{ event: 'error', code: 'EACCES' }]);
  });

  it.each([
    ['a string', 'UNEXPECTED'],
    [undefined, 'UNEXPECTED'],
    [new TypeError(), 'UNEXPECTED'],
  ])('that is no proper error (%s) is told as well', async (thrown, code) => {
    const io = await failing(thrown, ['--json']);
    expect(io.code).toBe(1);
    expect(io.stderr.lines).toHaveLength(1);
    expect(io.stdout.json).toMatchObject([{ event: 'error', code }]);
  });

  it('shows its stack and causes only with FLOTILLA_DEBUG=1', async () => {
    const error = new FlotillaError('DATABASE', 'No.', { cause: new Error('the cause of it') });
    const io = await failing(error, [], { FLOTILLA_DEBUG: '1' });
    expect(io.stderr.text).toContain('flotilla: No.\n');
    expect(io.stderr.text).toContain('cli-failure.test.ts');
    expect(io.stderr.text).toContain('the cause of it');
    const quiet = await failing(error, [], { FLOTILLA_DEBUG: '0' });
    expect(quiet.stderr.text).toBe('flotilla: No.\n');
  });

  it('of the command line is an object as well when machines read', async () => {
    const io = new FakeIo();
    expect(await run(['up', '--json'], io, fakeApi({}))).toBe(2);
    expect(io.stdout.json).toEqual([
      { event: 'error', code: 'USAGE', message: "missing required argument 'file'. See flotilla --help." },
    ]);
    const other = new FakeIo();
    expect(await run(['up', '--', '--json', 'x'], other, fakeApi({}))).toBe(2);
    expect(other.stdout.text).toBe('');
  });

  it('to load the library is told like any other', async () => {
    const io = new FakeIo();
    expect(await run(['status', 'x'], io, () => Promise.reject(new Error('no native module')))).toBe(1);
    expect(io.stderr.text).toContain('no native module');
  });
});

describe('a broken stdout', () => {
  async function breaking(code: string): Promise<FakeIo & { exitCode: number }> {
    const io = new FakeIo();
    io.stdout._write = (_chunk, _encoding, done) => done(Object.assign(new Error(`write ${code}`), { code }));
    const readStatus = async () => {
      io.stdout.write('early');
      await new Promise((resolve) => {
        io.stdout.once('close', resolve);
      });
      return nodeStatus({});
    };
    const exitCode = await run(['status', 'x'], io, fakeApi({ readStatus }));
    return Object.assign(io, { exitCode });
  }

  it('is fine when the reader has gone away', async () => {
    const io = await breaking('EPIPE');
    expect(io.exitCode).toBe(0);
    expect(io.stderr.text).toBe('');
  });

  it('is a failure otherwise', async () => {
    const io = await breaking('ENOSPC');
    expect(io.exitCode).toBe(1);
    expect(io.stderr.text).toContain('ENOSPC');
  });
});
