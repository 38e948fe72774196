/**
 * What a command gets from outside: the library's functions, and the world (streams, environment, clock, signals). Tests
 * pass fakes of both; no command touches `process` itself.
 */
import type { Writable } from 'node:stream';
import type {
  ConflictList,
  ConflictQuery,
  DeviceList,
  Examination,
  ExamineOptions,
  FlotillaNode,
  InitOptions,
  InitReport,
  Invitation,
  InviteOptions,
  JoinOptions,
  JoinReport,
  LeaveOptions,
  LeaveReport,
  MigrateOptions,
  MigrateReport,
  NodeOptions,
  NodeStatus,
  Owned,
  Pairing,
  PairOptions,
  Replicated,
  RestoredConflict,
  Revoked,
  VerifyReport,
  WaitOptions,
} from '../index.ts';
import { flush } from './output.ts';

/** The part of the public API that the commands use. */
export interface Api {
  openNode(options: NodeOptions): Promise<FlotillaNode>;
  initLibrary(file: string, options: InitOptions): Promise<InitReport>;
  examineLibrary(file: string, options: ExamineOptions): Promise<Examination>;
  createInvitation(file: string, options: InviteOptions): Promise<Invitation>;
  pairDevice(file: string, options: PairOptions): Promise<Pairing>;
  joinLibrary(invitation: string, file: string, options: JoinOptions): Promise<JoinReport>;
  migrateLibrary(file: string, options: MigrateOptions): Promise<MigrateReport>;
  readStatus(file: string, options: { readonly home?: string }): Promise<NodeStatus>;
  listDevices(file: string, options: { readonly home?: string }): Promise<DeviceList>;
  revokeDevice(file: string, device: string, options: { readonly home?: string }): Promise<Revoked>;
  leaveLibrary(file: string, options: LeaveOptions): Promise<LeaveReport>;
  ownRow(
    file: string,
    table: string,
    key: string,
    options: { readonly home?: string; readonly device?: string },
  ): Promise<Owned>;
  waitReplicated(file: string, options: WaitOptions): Promise<Replicated>;
  verifyLibrary(file: string, options: { readonly home?: string }): Promise<VerifyReport>;
  listConflicts(file: string, options: ConflictQuery & { readonly home?: string }): Promise<ConflictList>;
  restoreConflict(file: string, id: number, options: { readonly home?: string }): Promise<RestoredConflict>;
}

/** A stream to write to that may be a terminal. */
export type Output = Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };

export type Signal = 'SIGINT' | 'SIGTERM';

/** Exit codes. By convention of shells, death by a signal is 128 + its number. */
export const EXIT = { ok: 0, failed: 1, usage: 2, SIGINT: 130, SIGTERM: 143 } as const;

export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** ms, from any fixed moment, never backwards. */
  now(): number;
  /** ms since 1970. */
  wallClock(): number;
  /** Calls back once after so many ms; the returned function cancels it. */
  after(ms: number, callback: () => void): () => void;
  onSignal(listener: (signal: Signal) => void): () => void;
  /** Calls back while the process exits, in whatever way; only synchronous work is possible there. */
  onExit(listener: () => void): () => void;
  /** Ends the process at once. */
  exit(code: number): void;
}

/** All that a command needs. */
export interface Cli {
  readonly io: Io;
  /** Loads the library, late, so that `--help` is quick. */
  api(): Promise<Api>;
}

/** The real world. */
export function processIo(): Io {
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    now: () => performance.now(),
    wallClock: () => Date.now(),
    after(ms, callback) {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
    onSignal(listener) {
      process.on('SIGINT', listener);
      process.on('SIGTERM', listener);
      return () => {
        process.off('SIGINT', listener);
        process.off('SIGTERM', listener);
      };
    },
    onExit(listener) {
      process.on('exit', listener);
      return () => process.off('exit', listener);
    },
    exit: (code) => process.exit(code),
  };
}

/** Lets what was written go out, then ends the process. */
export async function leave(io: Io, code: number): Promise<void> {
  await Promise.all([flush(io, io.stdout), flush(io, io.stderr)]);
  io.exit(code);
}
