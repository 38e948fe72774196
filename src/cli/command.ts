/**
 * The shape of a command: one declaration from which `program.ts` makes flags, help and the call.
 */
import type { Cli } from './context.ts';
import type { OptionName, OptionValues } from './options.ts';

export interface CommandSpec<Args extends string = string, Names extends OptionName = OptionName> {
  /** One word, or that of another command and one more. */
  readonly name: string;
  /** One line of help. */
  readonly summary: string;
  /** Positional arguments, all required, with their help. */
  readonly args: Readonly<Record<Args, string>>;
  readonly options: readonly Names[];
  /** @returns the exit code */
  run(call: Call<Args, Names>): Promise<number>;
}

/** One use of a command. */
export interface Call<Args extends string, Names extends OptionName> {
  readonly args: Readonly<Record<Args, string>>;
  readonly options: OptionValues<Names>;
  readonly cli: Cli;
}

/** Keeps the names of arguments and options in the type. */
export function defineCommand<Args extends string, Names extends OptionName>(
  spec: CommandSpec<Args, Names>,
): CommandSpec<Args, Names> {
  return spec;
}

/** What `FILE` is, in every command's help. */
export const FILE_HELP = 'the library: an SQLite database';
