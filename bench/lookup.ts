/**
 * The seed of this project: turning the UUIDs of a batch into local ids. 1,000 rows with three references each, one query for each UUID
 * against the one query that a batch makes.
 */
import Database from 'better-sqlite3';
import { join } from 'node:path';
import { openLibrary } from '../examples/file-library/library.ts';
import { fillSynthetic } from '../examples/file-library/synthetic.ts';
import { temporaryFolder } from '../examples/support.ts';
import { bytesToHex } from '../src/protocol/uuid.ts';
import { decodeBatch } from '../src/protocol/batch.ts';
import type { Batch } from '../src/protocol/types.ts';
import { Feeds } from '../src/db/feed.ts';
import { lookUp } from '../src/db/lookup.ts';
import { rowsTable } from '../src/db/model.ts';
import { runBytes } from '../src/db/page.ts';
import { Served } from '../src/db/served.ts';
import { initLibraryFile } from '../src/db/setup.ts';
import { realSurroundings } from '../src/db/writer.ts';
import { type Bench, type BenchOptions, type BenchReport, paired, rounded, type Run, shown } from './bench.ts';

const FULL = { entries: 100_000, pairs: 15 };
const QUICK = { entries: 10_000, pairs: 3 };
const BATCH_ROWS = 1_000;
/** Batches that are looked up in one measurement. */
const BATCHES = 10;

async function run({ quick }: BenchOptions): Promise<BenchReport> {
  const { entries, pairs } = quick ? QUICK : FULL;
  const file = join(temporaryFolder('flotilla-bench-lookup-', false), 'library.db');
  const filled = openLibrary(file);
  fillSynthetic(filled, { entries, seed: 1, volume: 'bench' });
  filled.close();
  const around = realSurroundings('bench', undefined, new Uint8Array(32));
  initLibraryFile({ file, name: 'bench', around }, null, '{}');
  const db = new Database(file);
  const { library } = new Served(db, around, () => undefined);
  const model = library.model('entries');
  const feeds = new Feeds(db, library.registry);
  const { feed } = feeds.open(null, { runs: new Uint8Array(0), hlc: [] });
  const batches: Batch[] = [];
  while (batches.length < BATCHES) {
    const page = feeds.page(feed, { rows: BATCH_ROWS, bytes: 1024 * 1024 });
    if ('unstamped' in page || page.data === null) throw new Error('The library is too small.');
    const batch = decodeBatch(new Uint8Array(page.data));
    if (batch.tables.some(({ table, rows }) => table === model.wire && rows.length > BATCH_ROWS / 2))
      batches.push(batch);
  }
  let uuids = 0;
  const timed = async (work: () => void): Promise<Run> => {
    const [started, cpu] = [performance.now(), process.cpuUsage()];
    work();
    const used = process.cpuUsage(cpu);
    return { ms: performance.now() - started, cpuMs: (used.user + used.system) / 1_000 };
  };
  const batched = (): Promise<Run> =>
    timed(() => {
      for (const batch of batches)
        lookUp(
          library,
          batch,
          batch.runDevices.map((_, i) => library.runOrdinal(bytesToHex(runBytes(batch, i)), null)),
        );
    });
  // What the look-up of a batch answers as well: where the row stands, where its references lead. Nothing else is asked.
  const single = (): Promise<Run> =>
    timed(() => {
      uuids = 0;
      for (const batch of batches) {
        const statements = batch.names.map((name) =>
          db.prepare(`SELECT key FROM ${rowsTable(library.arriving(name))} WHERE uuid = ?`).pluck(),
        );
        const ask = (index: number): void => {
          uuids += 1;
          statements[batch.uuidTable[index] ?? 0]?.get(Buffer.from(batch.uuids.subarray(index * 16, index * 16 + 16)));
        };
        for (const { rows, columns } of batch.tables) {
          for (const index of rows) ask(index);
          for (const column of columns)
            if (column.kind === 'ref') for (const ref of column.refs) if (ref >= 0) ask(ref);
        }
      }
    });
  const found = await paired(pairs, batched, single);
  db.close();
  const per = (ms: number): string => `${shown(ms / BATCHES)} ms`;
  return {
    bench: 'lookup',
    ratio: rounded(found.ratio.median),
    figures: {
      batches: BATCHES,
      queriesOneByOne: uuids / BATCHES,
      queriesBatched: 1,
      oneByOneMs: rounded(found.other.median / BATCHES),
      batchedMs: rounded(found.one.median / BATCHES),
      least: rounded(found.ratio.least),
      greatest: rounded(found.ratio.greatest),
      cpuRatio: rounded(found.cpuRatio.median),
      pairs,
      goal: { queries: 1 },
    },
    table: [
      ['a batch of 1,000 rows', 'queries', 'time', 'spread of the ratio'],
      ['one by one', shown(uuids / BATCHES), per(found.other.median), ''],
      ['batched', '1', per(found.one.median), `${shown(found.ratio.least)} – ${shown(found.ratio.greatest)}`],
    ],
    notes: [
      `Ratio ${shown(found.ratio.median)}: how many times as long the queries one by one take. The batched one also answers what is deleted or waits, and with which stamps.`,
    ],
  };
}

export const lookup: Bench = { name: 'lookup', about: 'UUID → id of a batch, one by one against one query', run };
