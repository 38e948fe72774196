/**
 * The control socket between a command and the node that runs.
 */
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FlotillaError } from '../../src/errors.ts';
import { callControl, controlPath, serveControl } from '../../src/net/control.ts';
import type { ControlHandlers, ControlServer } from '../../src/net/control.ts';

const ANSWER_MS = 10_000;
let folder: string;
const servers: ControlServer[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flotilla-control-'));
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
  await rm(folder, { recursive: true, force: true });
});

async function serve(handlers: ControlHandlers, path = controlPath(folder)): Promise<string> {
  servers.push(await serveControl(path, handlers));
  return path;
}

describe('a call', () => {
  it('brings parameters there and the result back', async () => {
    const path = await serve({ echo: async (params) => ({ got: params }), nothing: async () => undefined });
    expect(await callControl(path, 'echo', { a: ['ü', 1, null] }, ANSWER_MS)).toEqual({
      result: { got: { a: ['ü', 1, null] } },
    });
    expect(await callControl(path, 'nothing', null, ANSWER_MS)).toEqual({ result: null });
  });

  it('carries large answers', async () => {
    const large = 'x'.repeat(3_000_000);
    const path = await serve({ large: async () => large });
    expect(await callControl(path, 'large', null, ANSWER_MS)).toEqual({ result: large });
  });

  it('throws the error of the node with its code and message', async () => {
    const path = await serve({
      fail: async () => {
        throw new FlotillaError('DISK_FULL', 'The disk is full: make room.');
      },
    });
    await expect(callControl(path, 'fail', null, ANSWER_MS)).rejects.toMatchObject({
      code: 'DISK_FULL',
      message: 'The disk is full: make room.',
    });
    await expect(callControl(path, 'toString', null, ANSWER_MS)).rejects.toMatchObject({ code: 'PROTOCOL' });
  });

  it('is null when nobody listens', async () => {
    expect(await callControl(controlPath(folder), 'echo', null, ANSWER_MS)).toBeNull();
    const path = await serve({});
    await servers.pop()?.close();
    expect(await callControl(path, 'echo', null, ANSWER_MS)).toBeNull();
    await writeFile(path, '');
    expect(await callControl(path, 'echo', null, ANSWER_MS)).toBeNull();
  });

  it('ends when the node does not answer, or goes away', async () => {
    const path = await serve({ hang: () => new Promise(() => {}) });
    await expect(callControl(path, 'hang', null, 50)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    const other = join(folder, 'other.sock');
    const server = createServer((socket) => socket.destroy()).listen(other);
    await once(server, 'listening');
    await expect(callControl(other, 'x', null, ANSWER_MS)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    server.close();
  });
});

describe('the socket', () => {
  it('is for the owner alone', async () => {
    expect((await stat(await serve({}))).mode & 0o777).toBe(0o600);
  });

  it('that a killed node left behind is replaced, one that is served is not', async () => {
    await writeFile(controlPath(folder), '');
    const path = await serve({ who: async () => 'first' });
    await expect(serveControl(path, {})).rejects.toMatchObject({ code: 'LIBRARY_IN_USE' });
    expect(await callControl(path, 'who', null, ANSWER_MS)).toEqual({ result: 'first' });
  });

  it('answers nonsense with an error, and each request of several by its id', async () => {
    const path = await serve({ twice: async (params) => Number(params) * 2 });
    const socket = connect(path);
    socket.write('{"id": 7, "method": "twice", "params": 4}\nnonsense\n{"id": 8, "method": "twice", "params": 5}\n');
    socket.setEncoding('utf8');
    let text = '';
    for await (const chunk of socket) {
      text += chunk;
      if (text.split('\n').length > 3) break;
    }
    const answers = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(answers).toContainEqual({ id: 7, result: 8 });
    expect(answers).toContainEqual({ id: 8, result: 10 });
    expect(answers).toContainEqual({ id: 0, error: { code: 'PROTOCOL', message: expect.any(String) } });
  });

  it('of a home with a long path is found elsewhere, by both sides', async () => {
    const home = join(folder, 'long'.repeat(40));
    const path = controlPath(home);
    expect(Buffer.byteLength(path)).toBeLessThan(100);
    expect(path).not.toBe(controlPath(`${home}2`));
    await serve({ who: async () => 'me' }, path);
    expect(await callControl(controlPath(home), 'who', null, ANSWER_MS)).toEqual({ result: 'me' });
  });
});
