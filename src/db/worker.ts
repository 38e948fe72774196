/**
 * Entry of a database worker thread: opens the library in the role that it is given and answers calls. Nothing here knows
 * what a call means; `writer.ts` and `reader.ts` do.
 */
import { existsSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

import type { Database } from 'better-sqlite3';

import { FlotillaError, messageOf } from '../errors.ts';
import type { Examination, JoinState } from './api.ts';
import { isInternal } from './choose.ts';
import { examineFile } from './examine.ts';
import { hasMetadata } from './metadata.ts';
import { quoteName } from './model.ts';
import { explainSqlite, openForReading, requireDatabase } from './open.ts';
import { configFor, migrateFile } from './migrate.ts';
import { Reader } from './reader.ts';
import { createFromGrant, initLibraryFile, tryGrant } from './setup.ts';
import type { GrantUse, SetupOptions } from './setup.ts';
import { Writer, realSurroundings } from './writer.ts';

/** What this worker is to do; given by the thread that starts it. */
interface Assignment {
  readonly role: 'write' | 'read';
  readonly file: string;
  /** Own peer id; '' where nothing is stamped. */
  readonly device: string;
  readonly name: string;
  readonly durability: 'normal' | 'full';
  /** Seed of this device's key, for the records of membership that it signs; null where it signs none. */
  readonly key: Uint8Array | null;
  /** `setup`: the library may not be there yet. */
  readonly purpose: 'serve' | 'setup';
}

interface Call {
  readonly id: number;
  readonly method: string;
  readonly args: readonly unknown[];
}

/** What answers calls. */
type Service = object;

/** Before a library is one: `init` and `join`. */
class Setup {
  readonly #options: SetupOptions;

  constructor(options: SetupOptions) {
    this.#options = options;
  }

  init(configPath: string | null, configJson: string | null): unknown {
    return initLibraryFile(this.#options, configPath, configJson);
  }

  migrate(sql: string, configPath: string | null): string[] {
    return migrateFile(this.#options, sql, configFor(this.#options.file, configPath));
  }

  /** Looks at a file without changing it. */
  examine(configPath: string | null): Examination {
    return examineFile(this.#options.file, configPath);
  }

  createFromGrant(use: GrantUse): unknown {
    return createFromGrant(this.#options, use);
  }

  tryGrant(use: GrantUse): void {
    tryGrant(this.#options, use);
  }

  /** How the file stands that a device wants to join with. */
  inspectForJoin(): JoinState {
    const { file } = this.#options;
    if (!existsSync(file)) return { exists: false, initialised: false, rows: 0 };
    requireDatabase(file);
    let db: Database | null = null;
    try {
      const open = openForReading(file);
      db = open;
      const tables = open.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
      );
      const names = (tables.pluck().all() as string[]).filter((name) => !isInternal(name));
      const count = (name: string): number =>
        Number(
          open
            .prepare(`SELECT count(*) FROM ${quoteName(name)}`)
            .pluck()
            .get(),
        );
      return { exists: true, initialised: hasMetadata(open), rows: names.reduce((sum, name) => sum + count(name), 0) };
    } catch (error) {
      throw explainSqlite(error, file);
    } finally {
      db?.close();
    }
  }

  close(): void {
    // Each call opens and closes the file itself.
  }
}

function open(assignment: Assignment): Service {
  const { role, file, device, name, durability, purpose, key } = assignment;
  if (purpose === 'setup') return new Setup({ file, name, around: realSurroundings(device, file, key) });
  if (role === 'read') return new Reader(file);
  return new Writer(
    file,
    durability,
    realSurroundings(device, file, key),
    (head, from) => port.postMessage({ event: 'head', head, from }),
    (error) => port.postMessage({ event: 'fault', error: inWords(error) }),
    (changes) => port.postMessage({ event: 'schema', changes }),
    () => port.postMessage({ event: 'members' }),
  );
}

function inWords(error: unknown): { code: string; message: string } {
  return { code: error instanceof FlotillaError ? error.code : 'DATABASE', message: messageOf(error) };
}

/** ArrayBuffers in an answer move to the other thread instead of being copied. */
function buffersOf(result: unknown): ArrayBuffer[] {
  if (typeof result !== 'object' || result === null) return [];
  return Object.values(result).filter((value) => value instanceof ArrayBuffer);
}

async function answer(service: Service, call: Call): Promise<void> {
  try {
    const method: unknown = Reflect.get(service, call.method);
    if (typeof method !== 'function') throw new RangeError(`the database worker has no method ${call.method}`);
    const result: unknown = await Reflect.apply(method, service, call.args);
    port.postMessage({ id: call.id, result }, buffersOf(result));
  } catch (error) {
    port.postMessage({ id: call.id, error: inWords(error) });
  }
  if (call.method === 'close') port.close();
}

if (parentPort === null) throw new Error('The database worker runs as a thread of a node, not by itself.');
const port = parentPort;
try {
  const service = open(workerData as Assignment);
  port.on('message', (call: Call) => void answer(service, call));
  port.postMessage({ event: 'ready' });
} catch (error) {
  port.postMessage({ event: 'failed', error: inWords(error) });
}
