import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { wholeNumber } from '../../examples/options.ts';
import { cleanUp, runScript, temporaryFolder, until } from '../../examples/support.ts';

describe('running programs for the demo', () => {
  let folder: string;
  const script = (text: string): string => {
    const file = join(folder, 'script.mjs');
    writeFileSync(file, text);
    return file;
  };
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'flotilla-support-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('gives the JSON of the last line', async () => {
    const file = script('console.log("words"); console.log(JSON.stringify(process.argv.slice(2)))');
    await expect(runScript(file, ['a', 'b c'])).resolves.toEqual(['a', 'b c']);
  });

  it('fails with what the program said, when it fails', async () => {
    await expect(runScript(script('console.error("no such folder"); process.exit(3)'), [])).rejects.toThrow(
      /ended with 3: no such folder/,
    );
  });

  it('fails when the program prints something else', async () => {
    await expect(runScript(script('console.log("hello")'), [])).rejects.toThrow(/no JSON but: hello/);
  });

  it('ends a program that does not end', async () => {
    await expect(runScript(script('setInterval(() => {}, 1000)'), [], 200)).rejects.toThrow(/did not end/);
  });

  it('does not pass on variables that would set options', async () => {
    process.env['FLOTILLA_NAME'] = 'surprise';
    try {
      const file = script(
        'console.log(JSON.stringify(Object.keys(process.env).filter((n) => n.startsWith("FLOTILLA"))))',
      );
      await expect(runScript(file, [])).resolves.toEqual([]);
    } finally {
      delete process.env['FLOTILLA_NAME'];
    }
  });

  it('leaves no process and no temporary folder behind', async () => {
    const made = temporaryFolder('flotilla-support-', false);
    const kept = temporaryFolder('flotilla-support-', true);
    const pidFile = join(folder, 'pid');
    const running = runScript(
      script(`
      import { writeFileSync, renameSync } from 'node:fs';
      writeFileSync(${JSON.stringify(`${pidFile}.new`)}, String(process.pid));
      renameSync(${JSON.stringify(`${pidFile}.new`)}, ${JSON.stringify(pidFile)});
      setInterval(() => {}, 1000);`),
      [],
    );
    const outcome = expect(running).rejects.toThrow(/SIGKILL/);
    await until('the start of the program', 20_000, () => (existsSync(pidFile) ? true : undefined));
    cleanUp();
    await outcome;
    expect([existsSync(made), existsSync(kept)]).toEqual([false, true]);
    rmSync(kept, { recursive: true });
  });

  it('says what it waited for in vain', async () => {
    await expect(until('snow', 5, () => undefined)).rejects.toThrow(/in vain for snow/);
  });
});

describe('options of scripts', () => {
  it('are whole numbers within their bounds', () => {
    expect([wholeNumber('seed', '0', 0), wholeNumber('nodes', '8', 2, 8), wholeNumber('from', '-3', -3)]).toEqual([
      0, 8, -3,
    ]);
    for (const text of ['', ' ', 'x', '1.5', '1', '9', 'Infinity'])
      expect(() => wholeNumber('nodes', text, 2, 8), text).toThrow('--nodes takes a whole number from 2 to 8.');
    expect(() => wholeNumber('seed', '-1', 0)).toThrow('--seed takes a whole number, at least 0.');
  });
});
