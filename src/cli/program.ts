/**
 * Puts the commands together: reads the command line, runs one command, tells what went wrong, gives the exit code.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import type { CommandSpec } from './command.ts';
import { type Api, EXIT, type Io, leave, processIo } from './context.ts';
import { reportFailure, UsageError } from './failure.ts';
import { doctorCommand } from './doctor.ts';
import { devicesCommand } from './devices.ts';
import { initCommand } from './init.ts';
import { inviteCommand } from './invite.ts';
import { joinCommand } from './join.ts';
import { leaveCommand } from './leave.ts';
import { migrateCommand } from './migrate.ts';
import { commanderOption, type Parsed, readOptions } from './options.ts';
import { ownCommand } from './own.ts';
import { pairCommand } from './pair.ts';
import { conflictsCommand, restoreCommand } from './conflicts.ts';
import { revokeCommand } from './revoke.ts';
import { statusCommand } from './status.ts';
import { upCommand } from './up.ts';
import { verifyCommand } from './verify.ts';
import { waitCommand } from './wait.ts';

/** In the order in which one needs them. */
export const COMMANDS: readonly CommandSpec[] = [
  initCommand,
  upCommand,
  inviteCommand,
  pairCommand,
  joinCommand,
  migrateCommand,
  statusCommand,
  devicesCommand,
  revokeCommand,
  leaveCommand,
  ownCommand,
  waitCommand,
  verifyCommand,
  conflictsCommand,
  restoreCommand,
  doctorCommand,
];

const SUMMARY = "Keeps one SQLite library the same on all of a person's devices, with no server.";

const EXAMPLE = `
Example:
  first device:  flotilla init files.db && flotilla up files.db    (then, beside it: flotilla invite files.db)
  other device:  flotilla join INVITATION files.db && flotilla up files.db`;

/**
 * Runs one command line.
 *
 * @param argv - arguments without the names of Node.js and the script
 * @param load - how to get at the library; late, so that help is quick and works without it
 * @returns the exit code; never rejects
 */
export async function run(argv: readonly string[], io: Io, load: () => Promise<Api>): Promise<number> {
  const json = wantsJson(argv);
  let writeFault: NodeJS.ErrnoException | null = null;
  const onWriteFault = (fault: NodeJS.ErrnoException): void => {
    // EPIPE: the reader has seen enough and went away, which is no fault of ours.
    if (fault.code !== 'EPIPE') writeFault ??= fault;
  };
  io.stdout.on('error', onWriteFault);
  io.stderr.on('error', () => undefined);

  let exitCode: number = EXIT.ok;
  const program = makeProgram(io, async (spec, args, command) => {
    // An option of a command may also stand before the word of a command below it.
    const parsed: Parsed = {
      opts: () => command.optsWithGlobals(),
      getOptionValueSource: (key) => command.getOptionValueSourceWithGlobals(key),
    };
    const options = readOptions(spec.options, parsed, io.env);
    exitCode = await spec.run({ args, options, cli: { io, api: load } });
  });
  try {
    if (argv.length === 0) throw new UsageError('Say what to do: flotilla --help shows the commands.');
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    const usage = error instanceof CommanderError ? asUsage(error) : error;
    if (usage !== null) exitCode = reportFailure(io, usage, json);
  }
  if (writeFault !== null && exitCode === EXIT.ok) return reportFailure(io, writeFault, false);
  return exitCode;
}

/** What `main.ts` calls: the real world, the real library, and the end of the process. */
export async function main(): Promise<void> {
  const io = processIo();
  const argv = process.argv.slice(2);
  // What nobody caught is told like everything else; going on after it would be going on with a broken node.
  let leaving = false;
  const fatal = (error: unknown): void => {
    if (leaving) return;
    leaving = true;
    void leave(io, reportFailure(io, error, wantsJson(argv)));
  };
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', fatal);
  const exitCode = await run(argv, io, () => import('../index.ts'));
  await leave(io, exitCode);
}

type Action = (spec: CommandSpec, args: Record<string, string>, command: Command) => Promise<void>;

function makeProgram(io: Io, action: Action): Command {
  const program = new Command('flotilla')
    .description(SUMMARY)
    .version(version(), '--version', 'print the version')
    .helpOption('--help', 'show help')
    .helpCommand(false)
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      // Told by `reportFailure`, like every other failure.
      outputError: () => undefined,
      getOutHelpWidth: () => io.stdout.columns || HELP_WIDTH,
      getErrHelpWidth: () => io.stderr.columns || HELP_WIDTH,
    })
    .exitOverride()
    .addHelpText('after', EXAMPLE);
  for (const spec of COMMANDS) {
    const sentence = `${spec.summary.charAt(0).toUpperCase()}${spec.summary.slice(1)}.`;
    // `program.command` hands down the settings above; `addCommand` would not.
    const words = spec.name.split(' ');
    const above = program.commands.find((one) => words.length > 1 && one.name() === words[0]);
    const command = (above?.enablePositionalOptions() ?? program).command(words.at(-1) ?? '');
    command.summary(spec.summary).description(sentence);
    const names = Object.keys(spec.args);
    for (const name of names) command.argument(`<${name}>`, spec.args[name]);
    for (const option of spec.options) command.addOption(commanderOption(option));
    command.action(async (...given: unknown[]) => {
      const args = Object.fromEntries(names.map((name, index) => [name, String(given[index])]));
      await action(spec, args, command);
    });
  }
  return program;
}

/** Columns of help text where there is no terminal to ask. */
const HELP_WIDTH = 100;

/** Commander's complaint as ours; null when it only ends the run after help or version was shown. */
function asUsage(error: CommanderError): UsageError | null {
  if (error.exitCode === 0) return null;
  const text = error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ');
  return new UsageError(`${text}${/[.)?]$/.test(text) ? '' : '.'} See flotilla --help.`, { cause: error });
}

/** Whether machines read: known before, and even if, the command line cannot be parsed. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return (end === -1 ? argv : argv.slice(0, end)).includes('--json');
}

/** The package's own version. Two folders up in the source and in the build alike. */
function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  const parsed: unknown = JSON.parse(text);
  const found = typeof parsed === 'object' && parsed !== null && 'version' in parsed ? parsed.version : undefined;
  return typeof found === 'string' ? found : 'unknown';
}
