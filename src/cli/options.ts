/**
 * Every option of every command, declared once: flag, environment variable, check and documentation. The names are those
 * of the public API (`NodeOptions` and its kin), so a command hands them on as they are.
 */
import { Option } from 'commander';
import * as v from 'valibot';
import { UsageError } from './failure.ts';

/** Devices of one person. */
const MAX_DEVICES = 1000;
/** A day, s. */
const MAX_TIMEOUT = 86_400;
/** Highest TCP port. */
const MAX_PORT = 65_535;
/** An invitation is a secret on paper or in a chat: a week is the longest that one should lie around. */
const MAX_MINUTES = 7 * 24 * 60;
/** A batch is one transaction and one message; beyond this its byte limit would cut it anyway. */
const MAX_BATCH_ROWS = 100_000;

/** Records that one answer holds. */
const MAX_RECORDS = 1_000;

const EMPTY = 'must not be empty';
const trimmed = v.pipe(v.string(), v.trim());
const text = v.pipe(trimmed, v.minLength(1, EMPTY));
const texts = v.pipe(v.array(text), v.minLength(1, EMPTY));
const flag = v.boolean();

function wholeNumber(min: number, max: number) {
  const message = `must be a whole number from ${min} to ${max}`;
  return v.pipe(
    trimmed,
    v.regex(/^\d+$/, message),
    v.transform(Number),
    v.minValue(min, message),
    v.maxValue(max, message),
  );
}

const NO_MINUTES = `must be a number above 0, up to ${MAX_MINUTES}`;
const minutes = v.pipe(
  trimmed,
  v.regex(/^\d+(\.\d+)?$/, NO_MINUTES),
  v.transform(Number),
  v.gtValue(0, NO_MINUTES),
  v.maxValue(MAX_MINUTES, NO_MINUTES),
);

const multiaddr = v.pipe(text, v.regex(/^\/.+\/p2p\/[^/]+$/, 'must be a multiaddr that ends in /p2p/<peer id>'));

/** One declaration. */
interface OptionSpec<Schema extends v.GenericSchema> {
  /** As commander reads them. */
  readonly flags: string;
  /** Environment variable that sets it where the flag is not given. */
  readonly env?: string;
  /** May be given several times; in the environment variable separated by commas. */
  readonly list?: true;
  readonly schema: Schema;
  readonly help: string;
  /** The default in words, as the API documents it. */
  readonly fallback?: string;
}

function option<Schema extends v.GenericSchema>(spec: OptionSpec<Schema>): OptionSpec<Schema> {
  return spec;
}

export const OPTIONS = {
  json: option({ flags: '--json', schema: flag, help: 'print JSON for machines' }),
  home: option({
    flags: '--home <folder>',
    env: 'FLOTILLA_HOME',
    schema: text,
    help: "this device's folder: key, port, invitations",
    fallback: '<library>.flotilla',
  }),
  name: option({
    flags: '--name <name>',
    env: 'FLOTILLA_NAME',
    schema: text,
    help: 'name of this device for people',
    fallback: 'the host name',
  }),
  config: option({
    flags: '--config <file>',
    env: 'FLOTILLA_CONFIG',
    schema: text,
    help: 'what syncs, and how',
    fallback: 'flotilla.config.json beside the library, if it exists',
  }),
  sql: option({
    flags: '--sql <file>',
    list: true,
    schema: texts,
    help: 'file of SQL statements to run; may be repeated',
  }),
  psk: option({
    flags: '--psk',
    schema: flag,
    help: 'make a pre-shared key, without which nobody gets as far as a handshake',
  }),
  port: option({
    flags: '--listen-port <port>',
    env: 'FLOTILLA_LISTEN_PORT',
    schema: wholeNumber(0, MAX_PORT),
    help: 'TCP port to listen on, 0 for any',
    fallback: 'the one used last time',
  }),
  localOnly: option({
    flags: '--local-only',
    env: 'FLOTILLA_LOCAL_ONLY',
    schema: flag,
    help: 'stay on loopback: nothing leaves this machine',
  }),
  discovery: option({
    flags: '--no-discovery',
    env: 'FLOTILLA_DISCOVERY',
    schema: flag,
    help: 'do not look for members by multicast DNS',
  }),
  interfaces: option({
    flags: '--interface <name>',
    env: 'FLOTILLA_INTERFACES',
    list: true,
    schema: texts,
    help: 'network interface to discover on; may be repeated',
    fallback: 'all',
  }),
  peers: option({
    flags: '--peer <multiaddr>',
    env: 'FLOTILLA_PEERS',
    list: true,
    schema: v.pipe(v.array(multiaddr), v.minLength(1, EMPTY)),
    help: 'member to dial beside what discovery finds; may be repeated',
  }),
  batchRows: option({
    flags: '--batch <rows>',
    env: 'FLOTILLA_BATCH',
    schema: wholeNumber(1, MAX_BATCH_ROWS),
    help: 'rows a batch at most',
    fallback: '1000',
  }),
  durability: option({
    flags: '--durability <level>',
    env: 'FLOTILLA_DURABILITY',
    schema: v.picklist(['normal', 'full'], 'must be normal or full'),
    help: 'full waits for the disk at every commit, normal may lose the last ones in a power cut',
    fallback: 'normal',
  }),
  minutes: option({
    flags: '--minutes <minutes>',
    env: 'FLOTILLA_MINUTES',
    schema: minutes,
    help: 'minutes until the invitation expires',
    fallback: '15',
  }),
  devices: option({
    flags: '--devices <count>',
    schema: wholeNumber(1, MAX_DEVICES),
    help: 'other devices that must hold it',
    fallback: '1',
  }),
  timeout: option({
    flags: '--timeout <seconds>',
    schema: wholeNumber(1, MAX_TIMEOUT),
    help: 'seconds after which it fails',
    fallback: '60',
  }),
  device: option({
    flags: '--for <device>',
    schema: text,
    help: 'member that gets the row, by peer id or name',
    fallback: 'this device',
  }),
  table: option({ flags: '--table <name>', schema: text, help: 'only what concerns this table' }),
  limit: option({
    flags: '--limit <records>',
    schema: wholeNumber(1, MAX_RECORDS),
    help: 'the latest so many',
    fallback: '20, with --json 100',
  }),
  qr: option({ flags: '--qr', schema: flag, help: 'draw the QR code even when this is not a terminal' }),
  union: option({
    flags: '--union',
    schema: flag,
    help: 'rows that are here already are all new: keep them beside the others',
  }),
  same: option({
    flags: '--same',
    schema: flag,
    help: 'rows that are here already may be copies: pair those of equal content',
  }),
} as const;

export type OptionName = keyof typeof OPTIONS;

/** The checked values of some options; what nobody set is absent, so that the API's defaults hold. */
export type OptionValues<Names extends OptionName> = {
  readonly [Name in Names]?: v.InferOutput<(typeof OPTIONS)[Name]['schema']>;
};

/** The option as commander wants it. Values stay strings here: `readOptions` checks them, wherever they came from. */
export function commanderOption(name: OptionName): Option {
  const spec: OptionSpec<v.GenericSchema> = OPTIONS[name];
  const notes = [
    ...(spec.fallback === undefined ? [] : [`default: ${spec.fallback}`]),
    ...(spec.env === undefined ? [] : [`env: ${spec.env}`]),
  ];
  const made = new Option(spec.flags, notes.length === 0 ? spec.help : `${spec.help} (${notes.join(', ')})`);
  if (spec.list) made.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value]);
  return made;
}

/** What commander knows of one parsed command; a narrow view of its `Command`. */
export interface Parsed {
  opts(): Record<string, unknown>;
  getOptionValueSource(key: string): string | undefined;
}

/**
 * The values of a command's options: the flag if it was given, else the environment variable, else nothing.
 *
 * @throws UsageError - when a value is not valid; it names the flag or the variable
 */
export function readOptions<Names extends OptionName>(
  names: readonly Names[],
  parsed: Parsed,
  env: Readonly<Record<string, string | undefined>>,
): OptionValues<Names> {
  const values: Partial<Record<OptionName, unknown>> = {};
  for (const name of names) {
    const spec: OptionSpec<v.GenericSchema> = OPTIONS[name];
    const made = new Option(spec.flags);
    const key = made.attributeName();
    if (parsed.getOptionValueSource(key) === 'cli') {
      values[name] = check(spec.schema, parsed.opts()[key], made.long ?? name);
    } else if (spec.env !== undefined) {
      const found = env[spec.env];
      // An empty variable counts as not set, as in most programs: it is how a shell script unsets one for a command.
      if (found === undefined || found.trim() === '') continue;
      values[name] = check(spec.schema, fromEnvironment(spec, found), spec.env);
    }
  }
  return values as OptionValues<Names>;
}

/** A variable's text in the form that the flag would have given. */
function fromEnvironment(spec: OptionSpec<v.GenericSchema>, found: string): unknown {
  if (spec.list) return found.split(',');
  if (spec.flags.includes('<')) return found;
  const word = found.trim().toLowerCase();
  if (['1', 'true', 'yes', 'on'].includes(word)) return true;
  if (['0', 'false', 'no', 'off'].includes(word)) return false;
  throw new UsageError(`${spec.env}: must be 1 or 0.`);
}

function check(schema: v.GenericSchema, value: unknown, where: string): unknown {
  const result = v.safeParse(schema, value, { abortPipeEarly: true });
  if (result.success) return result.output;
  throw new UsageError(`${where}: ${result.issues[0].message}.`);
}
