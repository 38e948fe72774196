/**
 * What capture costs the programs that write: the same work on the same rows in two files, one as it was, one after
 * `flotilla init`. No node runs meanwhile; what it costs to stamp is measured by itself.
 */
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { openLibrary } from '../examples/file-library/library.ts';
import { fillSynthetic } from '../examples/file-library/synthetic.ts';
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
  type Run,
  shown,
  type Spread,
} from './bench.ts';

/** What is written, and which state of the library it begins with. */
const WORKS = {
  bulk: { said: 'inserts, 1,000 a transaction', from: 'empty' },
  'one-transaction': { said: 'inserts, all in one transaction', from: 'empty' },
  many: { said: 'inserts, 100 a statement', from: 'parents' },
  single: { said: 'inserts, one a transaction', from: 'parents' },
  update: { said: 'updates, 1,000 a transaction', from: 'full' },
  delete: { said: 'deletes, 1,000 a transaction', from: 'full' },
} as const;

type Work = keyof typeof WORKS;
type State = (typeof WORKS)[Work]['from'];

const ALL = Object.keys(WORKS) as Work[];

/** Entries of the library (with what they point to, 1.85 rows each), single transactions, and pairs that are measured. */
const FULL = { entries: 40_000, single: 10_000, pairs: 9 };
const QUICK = { entries: 5_000, single: 2_000, pairs: 3 };

type Size = typeof FULL;

/** Times as long as without capture that are wanted at most. */
const GOALS: Partial<Record<Work, number>> = { bulk: 1.6, single: 1.3 };

/** The files that work begins with: plain and captured, in each state. */
class Files {
  readonly source: string;
  readonly #folder: string;
  readonly #size: Size;
  /** How fast the captured rows were stamped, rows a ms. */
  stampRate = 0;

  constructor(folder: string, size: Size) {
    this.#folder = folder;
    this.#size = size;
    this.source = join(folder, 'source.db');
    const db = openLibrary(this.source);
    fillSynthetic(db, { entries: size.entries, seed: 1, volume: 'bench' });
    db.close();
  }

  async make(): Promise<void> {
    for (const kind of ['plain', 'captured'] as const) {
      const empty = this.path(kind, 'empty');
      openLibrary(empty).close();
      if (kind === 'captured')
        initLibraryFile(
          { file: empty, name: 'bench', around: realSurroundings('bench', undefined, new Uint8Array(32)) },
          null,
          '{}',
        );
      copyFileSync(empty, this.path(kind, 'parents'));
      await this.#run(this.path(kind, 'parents'), 'parents');
      copyFileSync(empty, this.path(kind, 'full'));
      await this.#run(this.path(kind, 'full'), 'bulk');
    }
    // A node has been running: the rows have their identities, and no marks are left.
    this.#stamp(this.path('captured', 'parents'));
    this.stampRate = this.#stamp(this.path('captured', 'full'));
  }

  path(kind: 'plain' | 'captured', state: State): string {
    return join(this.#folder, `${kind}-${state}.db`);
  }

  /** Work on a fresh copy, in a process of its own. */
  async measure(kind: 'plain' | 'captured', work: Work): Promise<Run & { rows: number }> {
    const file = join(this.#folder, 'run.db');
    copyFileSync(this.path(kind, WORKS[work].from), file);
    const run = await this.#run(file, work);
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true });
    return run;
  }

  #run(file: string, work: Work | 'parents'): Promise<Run & { rows: number }> {
    const rows = work === 'single' ? this.#size.single : this.#size.entries;
    return runScript(join(projectFolder, 'bench', 'capture-writer.ts'), [file, this.source, work, String(rows)]);
  }

  /** Stamps all marks of a file as a node does; rows a ms. */
  #stamp(file: string): number {
    const fail = (error: unknown): never => {
      throw error;
    };
    const writer = new Writer(file, 'normal', realSurroundings('bench'), () => undefined, fail);
    try {
      // Opening it has stamped the first slice already.
      const started = performance.now();
      const { stamped } = writer.stamp();
      return stamped / (performance.now() - started);
    } finally {
      writer.close();
    }
  }
}

const range = ({ least, greatest }: Spread): string => `${least.toFixed(2)} – ${greatest.toFixed(2)}`;

interface Found extends Paired {
  readonly work: Work;
  readonly rows: number;
}

async function run({ quick, say }: BenchOptions): Promise<BenchReport> {
  const size = quick ? QUICK : FULL;
  const files = new Files(temporaryFolder('flotilla-bench-capture-', false), size);
  await files.make();
  const found: Found[] = [];
  for (const work of ALL) {
    let rows = 0;
    const pair = await paired(
      size.pairs,
      () => files.measure('plain', work),
      async () => {
        const run = await files.measure('captured', work);
        ({ rows } = run);
        return run;
      },
    );
    found.push({ ...pair, work, rows });
    say(`${WORKS[work].said}: ${pair.ratio.median.toFixed(2)} times as long`);
  }
  const of = (work: Work): Found => found.find((one) => one.work === work) as Found;
  const plainRow = of('bulk').one.median / of('bulk').rows;
  return {
    bench: 'capture',
    ratio: rounded(of('bulk').ratio.median),
    figures: {
      ...Object.fromEntries(found.map(({ work, ratio }) => [work, rounded(ratio.median)])),
      stampedRowsPerSecond: Math.round(files.stampRate * 1_000),
      stampRatio: rounded(1 / files.stampRate / plainRow),
      pairs: size.pairs,
      works: Object.fromEntries(
        found.map(({ work, rows, ratio, cpuRatio, one, other }) => [
          work,
          {
            rows,
            least: rounded(ratio.least),
            greatest: rounded(ratio.greatest),
            cpuRatio: rounded(cpuRatio.median),
            plainMs: rounded(one.median),
            capturedMs: rounded(other.median),
            ...(GOALS[work] === undefined ? {} : { goal: GOALS[work] }),
          },
        ]),
      ),
    },
    table: [
      ['', 'plain', 'captured', 'ratio', 'spread', 'by CPU time', 'goal'],
      ...found.map(({ work, rows, ratio, cpuRatio, one, other }) => [
        WORKS[work].said,
        `${shown((one.median / rows) * 1_000)} µs a row`,
        `${shown((other.median / rows) * 1_000)} µs a row`,
        ratio.median.toFixed(2),
        range(ratio),
        cpuRatio.median.toFixed(2),
        GOALS[work] === undefined ? '' : `≤ ${GOALS[work].toFixed(1)}`,
      ]),
      [
        'stamping, in the node',
        '',
        `${shown(1_000 / files.stampRate)} µs a row`,
        (1 / files.stampRate / plainRow).toFixed(2),
        '',
        '',
        '',
      ],
    ],
    notes: [
      `The rows of the file library, ${shown(size.entries)} entries; ratios are medians of ${size.pairs} pairs run in turns,`,
      'stamping is compared with the plain insert of a row.',
    ],
  };
}

export const capture: Bench = {
  name: 'capture',
  about: 'local writes with capture against without, and stamping',
  run,
};
