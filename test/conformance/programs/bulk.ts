/**
 * A program that fills a table in one transaction, row by row.
 *
 *   node test/conformance/programs/bulk.ts <file> <rows>
 */
import Sqlite from 'better-sqlite3';

const db = new Sqlite(process.argv[2] as string);
db.pragma('foreign_keys = ON');
const insert = db.prepare('INSERT INTO readings (sensor, at, value) VALUES (?, ?, ?)');
db.exec('BEGIN IMMEDIATE');
for (let n = 1; n <= Number(process.argv[3]); n += 1) insert.run(1 + (n % 3), n, n / 7);
db.exec('COMMIT');
db.close();
