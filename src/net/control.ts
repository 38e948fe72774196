/**
 * The local control socket: how a command talks to the node that runs on the same home folder. One JSON object a line:
 * `{id, method, params}` and `{id, result}` or `{id, error: {code, message}}`. Local to the machine and to the user.
 */
import { createHash } from 'node:crypto';
import { chmod, lstat, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import * as v from 'valibot';
import { ERROR_CODES, FlotillaError, messageOf } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { finite, read } from '../protocol/forms.ts';
import { codeOf, makeFolder } from './files.ts';

/** Bytes of a socket's path: the system takes 104 to 108, with the end mark. */
const MAX_PATH_BYTES = 100;
/** Name of the socket where the home folder holds it. */
const SOCKET_NAME = 'control.sock';
/** Characters of a line: a request is a few words, an answer a status; what is longer comes from no program of ours. */
const MAX_LINE_LENGTH = 16 * 1024 * 1024;

const requestSchema = v.object({ id: finite, method: v.string(), params: v.optional(v.unknown()) });
const answerSchema = v.object({
  id: finite,
  result: v.optional(v.unknown()),
  error: v.optional(v.object({ code: v.string(), message: v.string() })),
});

/** What the running node can be asked, by method name. Results must survive JSON. */
export type ControlHandlers = Readonly<Record<string, (params: unknown) => Promise<unknown>>>;

export interface ControlServer {
  /** Ends every connection and removes the socket. */
  close(): Promise<void>;
}

/** Where the socket of a home folder is: in it, or, if that path is too long, in a folder of the user under the temporary one. */
export function controlPath(home: string): string {
  const inside = join(resolve(home), SOCKET_NAME);
  if (Buffer.byteLength(inside) <= MAX_PATH_BYTES) return inside;
  const name = createHash('sha256').update(resolve(home)).digest('hex').slice(0, 16);
  return join(tmpdir(), `flotilla-${userInfo().uid}`, `${name}.sock`);
}

/**
 * Answers requests on a socket; one left behind by a killed node is replaced.
 * @throws FlotillaError LIBRARY_IN_USE when a running node has it
 */
export async function serveControl(path: string, handlers: ControlHandlers): Promise<ControlServer> {
  await makeFolder(dirname(path));
  await checkOwner(path);
  const standing = await tryConnect(path);
  if (standing !== null) {
    standing.destroy();
    throw new FlotillaError('LIBRARY_IN_USE', `Another node is running on ${dirname(path)}: stop it first.`);
  }
  await rm(path, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    serveSocket(socket, handlers);
  });
  await new Promise<void>((done, fail) => {
    server.once('error', fail);
    server.listen(path, done);
  });
  await chmod(path, 0o600);
  return {
    close: () =>
      new Promise<void>((done) => {
        // Closing removes the socket's file too.
        server.close(() => done());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/**
 * Asks the running node.
 * @returns null when nobody listens
 * @throws FlotillaError with the node's own code and message; UNREACHABLE when it does not answer in time
 */
export async function callControl(
  path: string,
  method: string,
  params: unknown,
  timeoutMs: number,
): Promise<{ readonly result: unknown } | null> {
  if ((await lstat(path).catch(() => null)) === null) return null;
  await checkOwner(path);
  const socket = await tryConnect(path);
  if (socket === null) return null;
  const timer = setTimeout(
    () => socket.destroy(new Error(`it did not answer within ${timeoutMs / 1000} s`)),
    timeoutMs,
  );
  try {
    socket.write(`${JSON.stringify({ id: 1, method, params })}\n`);
    const answer = readAnswer(await firstLine(socket));
    if (answer.error !== undefined) throw new FlotillaError(codeFrom(answer.error.code), answer.error.message);
    return { result: answer.result };
  } catch (cause) {
    if (cause instanceof FlotillaError) throw cause;
    throw new FlotillaError(
      'UNREACHABLE',
      `The running node cannot be asked: ${messageOf(cause)}. Is it overloaded or stopped?`,
      {
        cause,
      },
    );
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

function serveSocket(socket: Socket, handlers: ControlHandlers): void {
  onLine(socket, (line) => {
    void answerTo(line, handlers).then((answer) => {
      if (!socket.destroyed) socket.write(`${JSON.stringify(answer)}\n`);
    });
  });
}

function onLine(socket: Socket, listener: (line: string) => void): void {
  let rest: string[] = [];
  let length = 0;
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => {
    const lines = text.split('\n');
    const last = lines.pop() ?? '';
    for (const line of lines) {
      // Joined only when its end is there: a long line that comes in pieces would be copied with each of them.
      listener([...rest, line].join(''));
      rest = [];
      length = 0;
    }
    rest.push(last);
    length += last.length;
    if (length > MAX_LINE_LENGTH) socket.destroy(new Error('A line is too long'));
  });
}

/** One line that a command sent. @throws FlotillaError PROTOCOL for what is no request */
export function readRequest(line: string): v.InferOutput<typeof requestSchema> {
  return readLine(line, requestSchema);
}

/** One line that a node answered. @throws FlotillaError PROTOCOL for what is no answer */
export function readAnswer(line: string): v.InferOutput<typeof answerSchema> {
  return readLine(line, answerSchema);
}

function readLine<Schema extends v.GenericSchema>(line: string, schema: Schema): v.InferOutput<Schema> {
  try {
    return read(schema, JSON.parse(line));
  } catch (cause) {
    throw new FlotillaError(
      'PROTOCOL',
      'What came through the control socket is no message of ours: use the same version of Flotilla for both.',
      { cause },
    );
  }
}

async function answerTo(line: string, handlers: ControlHandlers): Promise<unknown> {
  let id = 0;
  try {
    const request = readRequest(line);
    id = request.id;
    const handler = Object.hasOwn(handlers, request.method) ? handlers[request.method] : undefined;
    if (handler === undefined)
      throw new FlotillaError('PROTOCOL', `The running node does not know "${request.method}".`);
    return { id, result: (await handler(request.params)) ?? null };
  } catch (error) {
    const code = error instanceof FlotillaError ? error.code : 'PROTOCOL';
    return { id, error: { code, message: messageOf(error) } };
  }
}

/** Null when nobody listens there. */
function tryConnect(path: string): Promise<Socket | null> {
  return new Promise((done, fail) => {
    const socket = connect(path);
    socket.once('connect', () => done(socket));
    socket.once('error', (error) => {
      if (['ENOENT', 'ECONNREFUSED', 'ENOTSOCK'].includes(codeOf(error))) done(null);
      else fail(error);
    });
  });
}

function firstLine(socket: Socket): Promise<string> {
  return new Promise((done, fail) => {
    socket.once('error', fail);
    socket.once('close', () => fail(new Error('it ended the connection')));
    onLine(socket, done);
  });
}

/** A folder under the temporary one could have been made by somebody else, to answer in the node's place. */
async function checkOwner(path: string): Promise<void> {
  if (basename(path) === SOCKET_NAME) return;
  const folder = dirname(path);
  const entry = await lstat(folder);
  if (!entry.isDirectory() || entry.uid !== userInfo().uid) {
    throw new FlotillaError(
      'CONFIG',
      `${folder} belongs to another user: remove it, or choose a home folder with a shorter path.`,
    );
  }
}

function codeFrom(code: string): ErrorCode {
  return Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'PROTOCOL';
}
