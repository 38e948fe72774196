/**
 * Opening an initialised library to serve it: what is known of its tables, and whether the file is still as that says.
 */
import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import { parseConfig } from './config.ts';
import type { Config } from './config.ts';
import { describeModels } from './describe.ts';
import { readKnown, registryOf } from './known.ts';
import { getState, hasMetadata, setState } from './metadata.ts';
import { pruneConfig } from './renames.ts';
import type { Registry } from './model.ts';
import { allModels } from './model.ts';

/** @throws FlotillaError NOT_INITIALISED, FORMAT_TOO_NEW */
export function requireLibrary(db: Database, file: string): void {
  if (hasMetadata(db)) return;
  throw new FlotillaError('NOT_INITIALISED', `${file} is no Flotilla library yet: run "flotilla init ${file}" first.`);
}

export function storedConfig(db: Database): Config {
  return parseConfig(String(getState(db, 'config')), 'the library').config;
}

/** SQLite's own number of the schema: every change of it, by whomever, gives another one. */
export function schemaCookie(db: Database): number {
  return Number(db.pragma('schema_version', { simple: true }));
}

/** True while the schema of the file is the one for which the metadata was brought up to date last. */
export function isUpToDate(db: Database): boolean {
  return getState(db, 'cookie') === schemaCookie(db);
}

/** Says that the metadata fits the schema as it is now. The last thing that a transaction does which changes either. */
export function noteSchema(db: Database, registry: Registry): void {
  setState(db, 'described', JSON.stringify(describeModels(allModels(registry))));
  setState(db, 'cookie', schemaCookie(db));
}

/** The registry of a library whose metadata is up to date; null if it is not: the writing side must see to it first. */
export function readServedRegistry(db: Database): Registry | null {
  return isUpToDate(db) ? registryOf(db, pruneConfig(db, storedConfig(db)), readKnown(db)) : null;
}
