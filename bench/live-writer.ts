/**
 * The writing program of `live` and `fanout`, in a process of its own: commits one entry a transaction, so many a second, as any program
 * would. Each says in its name when it was about to be committed, by the clock that all processes of the machine share.
 *
 *   node bench/live-writer.ts <library> <transactions a second> <transactions>
 */
import Database from 'better-sqlite3';

const [file, rate, count] = process.argv.slice(2);
if (file === undefined || rate === undefined || count === undefined)
  throw new Error('Use: live-writer.ts <library> <transactions a second> <transactions>');
const db = new Database(file, { fileMustExist: true, timeout: 20_000 });
db.pragma('synchronous = NORMAL');
db.pragma('foreign_keys = ON');
const location = db.prepare('SELECT min(id) FROM locations').pluck().get();
const insert = db.prepare(
  "INSERT INTO entries (location_id, name, kind, size, modified_at) VALUES (?, ?, 'file', 0, 0)",
);
const pause = new Int32Array(new SharedArrayBuffer(4));
const started = performance.now();
for (let n = 0; n < Number(count); n += 1) {
  const due = started + (n * 1_000) / Number(rate);
  const wait = due - performance.now();
  if (wait > 0) Atomics.wait(pause, 0, 0, wait);
  insert.run(location, String(process.hrtime.bigint()));
}
const ms = performance.now() - started;
db.close();
console.log(JSON.stringify({ ms }));
