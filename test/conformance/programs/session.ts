/**
 * A program whose transactions last as long as one wants: it runs one line of SQL after the other and answers each with a line
 * of JSON, the rows or the error.
 *
 *   node test/conformance/programs/session.ts <file>
 */
import { createInterface } from 'node:readline';
import Sqlite from 'better-sqlite3';

const db = new Sqlite(process.argv[2] as string);
db.pragma('foreign_keys = ON');
for await (const line of createInterface({ input: process.stdin })) {
  try {
    const statement = db.prepare(line);
    const rows = statement.reader ? statement.raw().all() : [statement.run().changes];
    console.log(JSON.stringify({ rows }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
db.close();
