/**
 * `flotilla.config.json`: what a person wants otherwise than the schema says. Read, checked and brought into one form
 * here; whether the tables and columns that it names exist is for `schema.ts` to say.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { FlotillaError, messageOf } from '../errors.ts';
import { finite, object } from '../protocol/forms.ts';

/** Name of the file that is looked for beside the library. */
export const CONFIG_FILE = 'flotilla.config.json';

/** Days for which records of conflicts are kept, unless the configuration says otherwise: a device may be away for a month. */
export const CONFLICT_DAYS = 30;

/** Days of silence after which pruning goes on without a member, unless the configuration says otherwise. */
export const RETENTION_DAYS = 30;

/** An object that has these keys, and no others. */
function settings<const Entries extends v.ObjectEntries>(entries: Entries) {
  const known = Object.keys(entries).join(', ');
  return v.pipe(
    object,
    v.strictObject(entries, ({ expected }) =>
      expected === 'never' ? `it is not known there. Known are ${known}` : 'it must be set',
    ),
  );
}

/** Values by the names of tables or columns. (A record of valibot's leaves out what is called `constructor`.) */
function byName<Schema extends v.GenericSchema>(schema: Schema) {
  return v.pipe(
    object,
    v.rawTransform(({ dataset, addIssue, NEVER }): Record<string, v.InferOutput<Schema>> => {
      const entries: [string, v.InferOutput<Schema>][] = [];
      for (const [key, value] of Object.entries(dataset.value)) {
        const result = v.safeParse(schema, value);
        if (!result.success) {
          const [{ message, path }] = result.issues;
          const place: v.ObjectPathItem = { type: 'object', origin: 'value', input: dataset.value, key, value };
          addIssue({ message, path: [place, ...(path ?? [])] });
          return NEVER;
        }
        entries.push([key, result.output]);
      }
      return Object.fromEntries(entries);
    }),
  );
}

const columnName = v.pipe(v.string(), v.minLength(1, 'a column name must not be empty'));
const columnNames = v.array(columnName);
const oneColumn = v.pipe(
  columnName,
  v.transform((name) => [name]),
);
const ownership = v.picklist(['shared', 'device']);
const days = v.optional(v.pipe(finite, v.gtValue(0)));

/** A policy, or a function by the name under which the module exports it. */
const merge = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z_$][\w$]*$/, 'it must be lww, max, min, counter or the name of a function'),
);

const columnSchema = settings({ merge });

const tableSchema = settings({
  /** Whether the table syncs. @default true */
  sync: v.optional(v.boolean()),
  /** Who may write a row: every member, or the device that made it. @default the setting for all tables */
  ownership: v.optional(ownership),
  /** The column that refers to the row whose owner may write this one. @default none: its maker may */
  ownedBy: v.optional(columnName),
  /** Columns that say which row it is on all devices. @default the natural key, or a UUID made at birth */
  identity: v.optional(
    v.union(
      [oneColumn, v.pipe(columnNames, v.minLength(1, 'it must name a column'))],
      'expected a column name or a list of column names',
    ),
  ),
  /** Columns whose concurrent writes come together in another way than by the later one. @default none */
  columns: v.optional(byName(columnSchema)),
  /**
   * What becomes of two rows, made apart, that have the same values in a unique index: by the index's columns (`"parent_id, name"`) or
   * its name. @default `merge` where the rows hold nothing else, else `rename` for text, else `keep-first`
   */
  unique: v.optional(byName(v.picklist(['merge', 'rename', 'keep-first']))),
  /**
   * Columns that lead from a row to its parent in the same table: of moves that make a ring, the latest gives way. False for none.
   * @default references to the table itself that delete children with their parent, or are called parent, manager, reports or reply
   */
  tree: v.optional(
    v.union([v.literal(false), oneColumn, columnNames], 'expected false, a column name or a list of column names'),
  ),
  /** Columns that stay on this device. @default none */
  localColumns: v.optional(columnNames),
  /** Name of the table before it was renamed. Other devices may still call it so. @default none */
  renamedFrom: v.optional(columnName),
  /** Columns that were renamed: new name → the one before. @default none */
  renamedColumns: v.optional(byName(columnName)),
});

const configSchema = settings({
  /** Ownership of every table that does not say otherwise. @default 'shared' */
  ownership: v.optional(ownership),
  /** Days for which records of conflicts are kept. @default {@link CONFLICT_DAYS} */
  conflictDays: days,
  /** Days of silence after which a member no longer keeps the others from forgetting deletes. @default {@link RETENTION_DAYS} */
  retentionDays: days,
  /** File beside the library that exports the functions named as policies. @default none */
  module: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\.\/[\w.-]+\.[cm]?js$/, 'it must be a file beside the library, as "./flotilla.merge.js"'),
    ),
  ),
  tables: v.optional(byName(tableSchema)),
});

/** The configuration of a library, checked. */
export type Config = v.InferOutput<typeof configSchema>;

/** The configuration of one table. */
export type TableConfig = v.InferOutput<typeof tableSchema>;

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
  const result = v.safeParse(configSchema, json);
  if (!result.success) throw new FlotillaError('CONFIG', describe(result.issues[0], where));
  return { config: result.output, text: formatConfig(result.output) };
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

function describe({ path, message }: v.BaseIssue<unknown>, where: string): string {
  const what = path === undefined ? 'the whole' : `"${path.map(({ key }) => String(key)).join('.')}"`;
  return `In ${where}, ${what} is not valid: ${message}.`;
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return Object.fromEntries(
    entries.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => [key, sorted(inner)]),
  );
}
