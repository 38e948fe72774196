/**
 * What capture costs the programs that write: the same work on the same rows in two files, one as it was, one after
 * `flotilla init`. No node runs meanwhile: what it costs to stamp is measured by itself.
 */
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { SCHEMA_SQL } from '../examples/file-library/library.ts';
import { projectFolder, runScript, temporaryFolder } from '../examples/support.ts';
import { initLibraryFile } from '../src/db/setup.ts';
import { realSurroundings, Writer } from '../src/db/writer.ts';
import {
  type Bench,
  type BenchOptions,
  type BenchReport,
  paired,
  type Paired,
  rounded,
  shown,
  type Spread,
} from './bench.ts';

const WORKS = ['bulk', 'single', 'update', 'delete'] as const;
type Work = (typeof WORKS)[number];

const SAID: Readonly<Record<Work, string>> = {
  bulk: 'inserts, 10,000 a transaction',
  single: 'inserts, one a transaction',
  update: 'updates, 10,000 a transaction',
  delete: 'deletes, 10,000 a transaction',
};

/** Rows of each piece of work, and pairs that are measured: about a second a run, some minutes in all. */
const FULL = { bulk: 200_000, single: 40_000, update: 200_000, delete: 200_000, pairs: 9 };
const QUICK = { bulk: 30_000, single: 5_000, update: 30_000, delete: 30_000, pairs: 3 };

/** A table and what must be in the file for it. */
interface Subject {
  readonly table: string;
  readonly said: string;
  readonly ddl: string;
  readonly before: string;
}

const SUBJECTS: readonly Subject[] = [
  {
    table: 'entries',
    said: 'entries of the file library: 10 columns, 4 foreign keys, 4 indexes',
    ddl: SCHEMA_SQL,
    before: `
      INSERT INTO volumes (id, name, added_at) VALUES (1, 'bench', 0);
      INSERT INTO locations (id, volume_id, path) VALUES (1, 1, '/bench');
      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
      INSERT INTO content_identities (id, content_hash, size) SELECT i, printf('%064x', i), i FROM n;`,
  },
  {
    table: 'notes',
    said: 'notes: 4 columns and no index, where a mark is half of the work',
    ddl: 'CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL, body TEXT, changed_at INTEGER);',
    before: '',
  },
];

/** Runs work on a fresh copy of a file, in a process of its own; ms. */
async function measure(from: string, table: string, work: Work, rows: number): Promise<number> {
  const file = `${from}.run`;
  copyFileSync(from, file);
  const { ms } = await runScript<{ ms: number }>(join(projectFolder, 'bench', 'capture-writer.ts'), [
    file,
    table,
    work,
    String(rows),
  ]);
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true });
  return ms;
}

/** Has work done to a file for good. */
async function prepare(file: string, table: string, rows: number): Promise<void> {
  await runScript(join(projectFolder, 'bench', 'capture-writer.ts'), [file, table, 'bulk', String(rows)]);
}

function create(file: string, { ddl, before }: Subject): void {
  const db = new Database(file);
  db.exec(ddl);
  db.exec(before);
  db.close();
}

function init(file: string): void {
  initLibraryFile({ file, name: 'bench', around: realSurroundings('bench') }, null, '{}');
}

/** Stamps all marks of a file as a node does, slice by slice; ms. */
function stamp(file: string): { ms: number; stamped: number } {
  const fail = (error: unknown): never => {
    throw error;
  };
  const writer = new Writer(file, 'normal', realSurroundings('bench'), () => undefined, fail);
  try {
    // Opening it has stamped the first slice.
    const started = performance.now();
    const { stamped } = writer.stamp();
    return { ms: performance.now() - started, stamped };
  } finally {
    writer.close();
  }
}

interface Found {
  readonly subject: Subject;
  readonly works: Readonly<Record<Work, Paired>>;
  /** Stamping of a bulk of inserts, rows a ms. */
  readonly stampRate: number;
  /** Its time a row as a part of the time of a plain insert. */
  readonly stampRatio: number;
}

async function measureSubject(subject: Subject, folder: string, { quick, say }: BenchOptions): Promise<Found> {
  const size = quick ? QUICK : FULL;
  const { table } = subject;
  const [plain, captured] = [join(folder, `${table}-plain.db`), join(folder, `${table}-captured.db`)];
  for (const file of [plain, captured]) create(file, subject);
  init(captured);
  const works: Partial<Record<Work, Paired>> = {};
  for (const work of ['bulk', 'single'] as const) works[work] = await pairOf(work, plain, captured);

  // From here on the rows are there, and have their identities: a node has been running.
  await prepare(plain, table, size.update);
  await prepare(captured, table, size.update);
  const { ms, stamped } = stamp(captured);
  for (const work of ['update', 'delete'] as const) works[work] = await pairOf(work, plain, captured);
  const plainMs = (works.bulk as Paired).one.median / size.bulk;
  return { subject, works: works as Record<Work, Paired>, stampRate: stamped / ms, stampRatio: ms / stamped / plainMs };

  async function pairOf(work: Work, one: string, other: string): Promise<Paired> {
    const found = await paired(
      size.pairs,
      () => measure(one, table, work, size[work]),
      () => measure(other, table, work, size[work]),
    );
    say(`${table}, ${SAID[work]}: ${shown(found.ratio.median)} times as long`);
    return found;
  }
}

const range = ({ least, greatest }: Spread): string => `${least.toFixed(2)} – ${greatest.toFixed(2)}`;

async function run(options: BenchOptions): Promise<BenchReport> {
  const folder = temporaryFolder('flotilla-bench-capture-', false);
  const size = options.quick ? QUICK : FULL;
  const found: Found[] = [];
  for (const subject of SUBJECTS) found.push(await measureSubject(subject, folder, options));
  const [first] = found as [Found];
  const perRow = (work: Work, spread: Spread): string => `${shown((spread.median / size[work]) * 1_000)} µs`;
  return {
    bench: 'capture',
    ratio: rounded(first.works.bulk.ratio.median),
    figures: {
      ...Object.fromEntries(WORKS.map((work) => [work, rounded(first.works[work].ratio.median)])),
      stampedRowsPerSecond: Math.round(first.stampRate * 1_000),
      tables: Object.fromEntries(
        found.map(({ subject, works, stampRate, stampRatio }) => [
          subject.table,
          {
            ...Object.fromEntries(
              WORKS.map((work) => {
                const { ratio, one, other } = works[work];
                return [
                  work,
                  {
                    ratio: rounded(ratio.median),
                    least: rounded(ratio.least),
                    greatest: rounded(ratio.greatest),
                    rows: size[work],
                    plainMs: rounded(one.median),
                    capturedMs: rounded(other.median),
                  },
                ];
              }),
            ),
            stamp: { rowsPerSecond: Math.round(stampRate * 1_000), ratio: rounded(stampRatio) },
          },
        ]),
      ),
      pairs: size.pairs,
    },
    table: [
      ['', 'plain, a row', 'captured, a row', 'ratio', 'spread'],
      ...found.flatMap(({ subject, works, stampRate, stampRatio }) => [
        ...WORKS.map((work) => [
          `${subject.table}: ${SAID[work]}`,
          perRow(work, works[work].one),
          perRow(work, works[work].other),
          works[work].ratio.median.toFixed(2),
          range(works[work].ratio),
        ]),
        [`${subject.table}: stamping, in the node`, '', `${shown(1_000 / stampRate)} µs`, stampRatio.toFixed(2), ''],
      ]),
    ],
    notes: [
      ...found.map(({ subject }) => subject.said),
      `ratio: median of ${size.pairs} pairs run in turns; stamping against a plain insert of the row`,
    ],
  };
}

export const capture: Bench = {
  name: 'capture',
  about: 'local writes with capture against without, and stamping',
  run,
};
