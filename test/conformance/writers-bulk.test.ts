/**
 * A great many rows in one transaction. `npm run test:bulk` does it with a million; here with fewer, by the same steps.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

import { STAMP_SLICE } from '../../src/db/stamp.ts';
import { Written } from '../support/written.ts';

const ROWS = Number(process.env['FLOTILLA_BULK_ROWS'] ?? 60_000);
/** MB by which the memory of what stamps may grow after its first slices, whatever the number of rows. */
const GROWTH_MB = 100;
const TIMEOUT = 60_000 + ROWS;

const PROGRAMS = fileURLToPath(new URL('programs', import.meta.url));
const DDL = `
  CREATE TABLE sensors (id INTEGER PRIMARY KEY, name TEXT, writes INTEGER NOT NULL DEFAULT 0);
  CREATE TABLE readings (id INTEGER PRIMARY KEY, sensor INTEGER NOT NULL REFERENCES sensors (id), at INTEGER NOT NULL, value REAL);`;

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(PROGRAMS, program), ...args], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr}`);
  return stdout;
}

it(
  `[W25] ${ROWS.toLocaleString('en-US')} rows in one transaction are stamped in slices, in flat memory, and arrive`,
  { timeout: TIMEOUT },
  async () => {
    const written = new Written(DDL, "INSERT INTO sensors (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')", {
      now: Date.now,
    });
    try {
      run('bulk.ts', written.file, String(ROWS));
      expect(written.library.rows('SELECT count(*) FROM flotilla_marks')).toEqual([[ROWS]]);
      const stamped = JSON.parse(run('stamp.ts', written.file)) as Record<
        'slices' | 'greatest' | 'writes' | 'earlyMB' | 'peakMB',
        number
      >;
      process.stdout.write(`stamping ${ROWS} rows: ${JSON.stringify(stamped)}\n`);
      expect(stamped.greatest).toBeLessThanOrEqual(STAMP_SLICE);
      expect(stamped.slices).toBeGreaterThanOrEqual(Math.ceil(ROWS / STAMP_SLICE));
      // Somebody who would not wait got to write after each of them.
      expect(stamped.writes).toBe(stamped.slices);
      expect(stamped.peakMB - stamped.earlyMB).toBeLessThan(GROWTH_MB);
      written.library.restart();
      written.other.pull(written.library);
      expect(written.other.rows('SELECT count(*), sum(at) FROM readings')).toEqual([[ROWS, (ROWS * (ROWS + 1)) / 2]]);
      expect(await written.other.digest()).toEqual(await written.library.digest());
    } finally {
      written.close();
    }
  },
);
