/**
 * `flotilla.config.json`: what a person wants otherwise than the schema says. Read, checked and brought into one form
 * here; whether the tables and columns that it names exist is for `schema.ts` to say.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { FlotillaError, messageOf } from '../errors.ts';

/** Name of the file that is looked for beside the library. */
export const CONFIG_FILE = 'flotilla.config.json';

/** Days for which records of conflicts are kept, unless the configuration says otherwise: a device may be away for a month. */
export const CONFLICT_DAYS = 30;

/** Days of silence after which pruning goes on without a member, unless the configuration says otherwise. */
export const RETENTION_DAYS = 30;

const columnName = z.string().min(1, 'a column name must not be empty');
const ownership = z.enum(['shared', 'device']);

/** A policy, or a function by the name under which the module exports it. */
const merge = z.string().regex(/^[A-Za-z_$][\w$]*$/, 'it must be lww, max, min, counter or the name of a function');

const columnSchema = z.strictObject({ merge });

const tableSchema = z.strictObject({
  /** Whether the table syncs. @default true */
  sync: z.boolean().optional(),
  /** Who may write a row: every member, or the device that made it. @default the setting for all tables */
  ownership: ownership.optional(),
  /** The column that refers to the row whose owner may write this one. @default none: its maker may */
  ownedBy: columnName.optional(),
  /** Columns that say which row it is on all devices. @default the natural key, or a UUID made at birth */
  identity: z
    .union([columnName.transform((name) => [name]), z.array(columnName).min(1, 'it must name a column')], {
      error: 'expected a column name or a list of column names',
    })
    .optional(),
  /** Columns whose concurrent writes come together in another way than by the later one. @default none */
  columns: z.record(z.string(), columnSchema).optional(),
  /**
   * What becomes of two rows, made apart, that have the same values in a unique index: by the index's columns (`"parent_id, name"`) or
   * its name. @default `merge` where the rows hold nothing else, else `rename` for text, else `keep-first`
   */
  unique: z.record(z.string(), z.enum(['merge', 'rename', 'keep-first'])).optional(),
  /**
   * Columns that lead from a row to its parent in the same table: of moves that make a ring, the latest gives way. False for none.
   * @default references to the table itself that delete children with their parent, or are called parent, manager, reports or reply
   */
  tree: z
    .union([z.literal(false), columnName.transform((name) => [name]), z.array(columnName)], {
      error: 'expected false, a column name or a list of column names',
    })
    .optional(),
  /** Columns that stay on this device. @default none */
  localColumns: z.array(columnName).optional(),
  /** Name of the table before it was renamed. Other devices may still call it so. @default none */
  renamedFrom: columnName.optional(),
  /** Columns that were renamed: new name → the one before. @default none */
  renamedColumns: z.record(z.string(), columnName).optional(),
});

const configSchema = z.strictObject({
  /** Ownership of every table that does not say otherwise. @default 'shared' */
  ownership: ownership.optional(),
  /** Days for which records of conflicts are kept. @default {@link CONFLICT_DAYS} */
  conflictDays: z.number().positive().optional(),
  /** Days of silence after which a member no longer keeps the others from forgetting deletes. @default {@link RETENTION_DAYS} */
  retentionDays: z.number().positive().optional(),
  /** File beside the library that exports the functions named as policies. @default none */
  module: z
    .string()
    .regex(/^\.\/[\w.-]+\.[cm]?js$/, 'it must be a file beside the library, as "./flotilla.merge.js"')
    .optional(),
  tables: z.record(z.string(), tableSchema).optional(),
});

/** The configuration of a library, checked. */
export type Config = z.infer<typeof configSchema>;

/** The configuration of one table. */
export type TableConfig = z.infer<typeof tableSchema>;

export interface LoadedConfig {
  readonly config: Config;
  /** The same as JSON with sorted keys: equal for equal configurations, and readable by {@link parseConfig}. */
  readonly text: string;
}

/**
 * Reads a configuration.
 * @param jsonText - the JSON
 * @param where - the file's name, for messages
 * @throws FlotillaError CONFIG, naming the key and the file
 */
export function parseConfig(jsonText: string, where: string): LoadedConfig {
  let json: unknown;
  try {
    json = JSON.parse(jsonText.replace(/^\uFEFF/, ''));
  } catch (error) {
    throw new FlotillaError('CONFIG', `${where} is not valid JSON: ${messageOf(error)}. Correct it and try again.`, {
      cause: error,
    });
  }
  const result = configSchema.safeParse(json);
  if (!result.success) throw new FlotillaError('CONFIG', describe(result.error.issues[0], where));
  return { config: result.data, text: formatConfig(result.data) };
}

/** JSON with sorted keys: the same text for equal configurations. */
export function formatConfig(config: Config): string {
  return JSON.stringify(sorted(config));
}

/**
 * Loads the configuration of a library.
 * @param libraryPath - path of the library file
 * @param explicitPath - a configuration file that must exist; without it the one beside the library, if there is one
 * @throws FlotillaError CONFIG
 */
export function loadConfig(libraryPath: string, explicitPath?: string): LoadedConfig {
  const path = explicitPath ?? join(dirname(libraryPath), CONFIG_FILE);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (missing && explicitPath === undefined) return { config: {}, text: '{}' };
    const what = missing ? 'does not exist' : `cannot be read (${messageOf(error)})`;
    throw new FlotillaError('CONFIG', `The configuration file ${path} ${what}.`, { cause: error });
  }
  return parseConfig(text, path);
}

/** What the configuration says of a table. Names are compared as SQLite does. */
export function tableConfig(config: Config, table: string): TableConfig {
  const wanted = foldName(table);
  const found = Object.entries(config.tables ?? {}).find(([name]) => foldName(name) === wanted);
  return found?.[1] ?? {};
}

/** A name as SQLite compares it: without regard to the case of ASCII letters, and of those only. */
export function foldName(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());
}

type Issue = z.core.$ZodIssue;

function describe(issue: Issue | undefined, where: string): string {
  const path = (issue?.path ?? []).map(String);
  if (issue?.code === 'unrecognized_keys') {
    const key = [...path, issue.keys[0] ?? ''].join('.');
    const known = [configSchema, null, tableSchema, null, columnSchema][path.length]?.shape ?? {};
    return `${where} has the key "${key}", which is not known. Known there: ${Object.keys(known).join(', ')}.`;
  }
  const what = path.length === 0 ? 'the whole' : `the value of "${path.join('.')}"`;
  return `In ${where}, ${what} is not valid: ${issue?.message ?? 'unknown reason'}.`;
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return Object.fromEntries(
    entries.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => [key, sorted(inner)]),
  );
}
