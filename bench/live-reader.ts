/**
 * The watching program of `live`, in a process of its own: looks for the entries of `live-writer.ts` in another device's library every half
 * millisecond, and says how long each took.
 *
 *   node bench/live-reader.ts <library> <entries> <seconds to wait at most>
 */
import Database from 'better-sqlite3';

const [file, count, most] = process.argv.slice(2);
if (file === undefined || count === undefined || most === undefined)
  throw new Error('Use: live-reader.ts <library> <entries> <seconds>');
const db = new Database(file, { readonly: true, fileMustExist: true });
const select = db.prepare('SELECT id, name FROM entries WHERE id > ? ORDER BY id').raw();
let last = Number(db.prepare('SELECT ifnull(max(id), 0) FROM entries').pluck().get());
const pause = new Int32Array(new SharedArrayBuffer(4));
const taken: number[] = [];
const deadline = performance.now() + Number(most) * 1_000;
// The other process waits for this word before it begins.
process.stdout.write('watching\n');
while (taken.length < Number(count) && performance.now() < deadline) {
  const rows = select.all(last) as [number, string][];
  const now = process.hrtime.bigint();
  for (const [id, name] of rows) {
    last = Math.max(last, id);
    taken.push(Number(now - BigInt(name)) / 1e6);
  }
  if (rows.length === 0) Atomics.wait(pause, 0, 0, 0.5);
}
db.close();
const quantile = (values: readonly number[], part: number): number =>
  values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(part * values.length) - 1)] ?? Number.NaN;
const half = Math.floor(taken.length / 2);
console.log(
  JSON.stringify({
    seen: taken.length,
    p50: quantile(taken, 0.5),
    p99: quantile(taken, 0.99),
    // Whether the lag grows: the second half against the first.
    growth: quantile(taken.slice(half), 0.5) / quantile(taken.slice(0, half), 0.5),
  }),
);
