/**
 * The part of a node that stamps what others wrote, in a process of its own, so that its memory can be measured. It prints how
 * many slices it took, how long the longest was, how often another program got to write in between, and its memory.
 *
 *   node test/conformance/programs/stamp.ts <file>
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import Sqlite from 'better-sqlite3';

import { Writer } from '../../../src/db/writer.ts';
import { surroundingsOf } from '../../support/surroundings.ts';

const file = process.argv[2] as string;
// Another program: it does not wait for anybody.
const outside = new Sqlite(file, { timeout: 0 });
const marks = outside.prepare('SELECT ifnull(max(n) - min(n) + 1, 0) FROM flotilla_marks').pluck();
const write = outside.prepare('UPDATE sensors SET writes = writes + 1 WHERE id = 1');
const residentMB = (): number => process.memoryUsage.rss() / 1e6;

let left = Number(marks.get());
const fail = (error: unknown): never => {
  throw error;
};
const writer = new Writer(file, 'normal', surroundingsOf('A'), () => undefined, fail);
let [slices, greatest, writes, early, peak] = [0, 0, 0, 0, 0];
while (left > 0) {
  const now = Number(marks.get());
  if (now < left) {
    slices += 1;
    greatest = Math.max(greatest, left - now);
    // A write of its own makes one mark more.
    write.run();
    writes += 1;
    left = now === 0 ? 0 : now + 1;
    peak = Math.max(peak, residentMB());
    // By then everything that is made once is there.
    if (slices === 3) early = residentMB();
  }
  await nextTurn();
}
writer.close();
outside.close();
console.log(JSON.stringify({ slices, greatest, writes, earlyMB: early, peakMB: peak }));
