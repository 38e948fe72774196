/**
 * How anything that goes wrong is told: one sentence on stderr, one object on stdout with `--json`, an exit code. The
 * stack is only for `FLOTILLA_DEBUG=1`.
 */
import { inspect } from 'node:util';
import { FlotillaError, messageOf } from '../errors.ts';
import { EXIT, type Io } from './context.ts';
import { printJson } from './output.ts';
import { printable } from './text.ts';

/** The command line itself is wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** A failure as the command line tells it. */
export interface Failure {
  /** A code of `FlotillaError`, `USAGE`, the code of a system error such as `EACCES`, or `UNEXPECTED`. */
  readonly code: string;
  readonly message: string;
  readonly exitCode: number;
}

/** What a thrown value means to the user. */
export function describeFailure(error: unknown): Failure {
  const message = printable(messageOf(error)).trim();
  if (error instanceof UsageError) return { code: 'USAGE', message, exitCode: EXIT.usage };
  if (error instanceof FlotillaError) return { code: error.code, message, exitCode: EXIT.failed };
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'UNEXPECTED';
  const named = message === '' ? (error instanceof Error ? error.name : 'no reason given') : message;
  return {
    code,
    message: `Something unexpected went wrong: ${named} (FLOTILLA_DEBUG=1 shows where).`,
    exitCode: EXIT.failed,
  };
}

/** Tells a failure and returns the exit code. */
export function reportFailure(io: Pick<Io, 'stdout' | 'stderr' | 'env'>, error: unknown, json: boolean): number {
  const failure = describeFailure(error);
  io.stderr.write(`flotilla: ${failure.message}\n`);
  if (io.env['FLOTILLA_DEBUG'] === '1') io.stderr.write(`${inspect(error)}\n`);
  if (json) printJson(io.stdout, { event: 'error', code: failure.code, message: failure.message });
  return failure.exitCode;
}
