/**
 * Opening an initialised library to serve it: the registry that fits the file, the triggers in place.
 */
import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import { parseConfig } from './config.ts';
import { getState, hasMetadata, tableNumbers } from './metadata.ts';
import type { Registry } from './model.ts';
import { readRegistry } from './schema.ts';

/** The registry of an initialised library. @throws FlotillaError NOT_INITIALISED, SCHEMA_MISMATCH, FORMAT_TOO_NEW */
export function readServedRegistry(db: Database, file: string): Registry {
  if (!hasMetadata(db)) {
    throw new FlotillaError(
      'NOT_INITIALISED',
      `${file} is no Flotilla library yet: run "flotilla init ${file}" first.`,
    );
  }
  const { config } = parseConfig(String(getState(db, 'config')), file);
  const registry = readRegistry(db, config, tableNumbers(db));
  if (registry.schemaHash !== getState(db, 'schema')) {
    throw new FlotillaError(
      'SCHEMA_MISMATCH',
      `The tables of ${file} have changed since "flotilla init". This release cannot follow schema changes: put the old schema back.`,
    );
  }
  return registry;
}
