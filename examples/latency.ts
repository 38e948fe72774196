/**
 * How long a row takes from one library into another, measured from outside: this process commits to one file by plain
 * SQL and watches the other file. No node is asked and nothing of Flotilla is used.
 */
import Database from 'better-sqlite3';
import { openLibrary } from './file-library/library.ts';
import { sleep, until } from './support.ts';

/** Between two looks at the other file, ms. */
const POLL_MS = 0.5;
/** A row that has not come after this is lost for this measurement, ms. */
const SAMPLE_LIMIT_MS = 10_000;
/** Between two samples, ms: each begins with a node at rest. */
const PAUSE_MS = 15;
/** Until the folders for the samples have reached all libraries, ms. */
const SETUP_LIMIT_MS = 30_000;

export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly samples: number;
}

interface Place {
  /** Path of the location whose entries this library writes. */
  readonly path: string;
  readonly writer: Database.Database;
  readonly reader: Database.Database;
}

/**
 * Writes `samples` entries, in turn to each library, and looks for each of them in the next one.
 *
 * @param files - the libraries
 * @returns milliseconds from before the write until a reader sees the row
 */
export async function measureLatency(files: readonly string[], samples: number): Promise<Latency> {
  const places: Place[] = files.map((file, index) => ({
    path: `/samples of ${index + 1}`,
    writer: openLibrary(file),
    reader: new Database(file, { readonly: true, fileMustExist: true }),
  }));
  const times: number[] = [];
  try {
    // A location of its own for each, so that a look is a short search in an index.
    for (const { writer, path } of places) {
      const volume = writer.prepare('INSERT INTO volumes (name, added_at) VALUES (?, ?)').run(path, Date.now());
      writer.prepare('INSERT INTO locations (volume_id, path) VALUES (?, ?)').run(volume.lastInsertRowid, path);
    }
    for (const { path } of places) {
      await until('the locations for the samples', SETUP_LIMIT_MS, () =>
        places.every(({ reader }) => locationOf(reader, path) !== undefined) ? true : undefined,
      );
    }
    for (let sample = 0; sample < samples; sample += 1) {
      const from = places[sample % places.length];
      const to = places[(sample + 1) % places.length];
      if (from === undefined || to === undefined) break;
      times.push(await measureOne(from, to, `sample ${sample}`));
      await sleep(PAUSE_MS);
    }
  } finally {
    for (const { writer, reader } of places) {
      writer.close();
      reader.close();
    }
  }
  times.sort((left, right) => left - right);
  const quantile = (part: number): number =>
    Math.round((times[Math.ceil(part * times.length) - 1] ?? Number.NaN) * 10) / 10;
  return { p50: quantile(0.5), p99: quantile(0.99), samples: times.length };
}

async function measureOne(from: Place, to: Place, name: string): Promise<number> {
  const insert = from.writer.prepare(
    "INSERT INTO entries (location_id, name, kind, size, modified_at) VALUES (?, ?, 'file', 0, ?)",
  );
  const find = to.reader.prepare('SELECT 1 FROM entries WHERE location_id = ? AND name = ?');
  const here = locationOf(from.writer, from.path);
  const there = locationOf(to.reader, from.path);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const started = performance.now();
  insert.run(here, name, Date.now());
  while (find.get(there, name) === undefined) {
    if (performance.now() - started > SAMPLE_LIMIT_MS) throw new Error(`${name} in ${from.path} did not arrive.`);
    // A timer would sleep a whole millisecond or more; this sleeps for half of one, and leaves the processor to others.
    Atomics.wait(pause, 0, 0, POLL_MS);
    await new Promise(setImmediate);
  }
  return performance.now() - started;
}

function locationOf(db: Database.Database, path: string): unknown {
  return db.prepare('SELECT id FROM locations WHERE path = ?').pluck().get(path);
}
