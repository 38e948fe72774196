/**
 * A busy program: many short transactions on the office among other programs that do the same, some rolled back. It prints what
 * it was told is committed: the names of its people, and how many tasks each has.
 *
 *   node test/conformance/programs/busy.ts <file> <name> <transactions> <foreign keys: ON or OFF>
 */
import Sqlite from 'better-sqlite3';

const [file, name, count, foreignKeys] = process.argv.slice(2);
const db = new Sqlite(file as string, { timeout: 60_000 });
db.pragma(`foreign_keys = ${foreignKeys}`);
const insertPerson = db.prepare('INSERT INTO people (name, boss) VALUES (?, 1)');
const insertTask = db.prepare('INSERT INTO tasks (project, owner, title) VALUES (1, ?, ?)');
const kept = new Map<string, number>();
for (let n = 0; n < Number(count); n += 1) {
  const person = `${name} ${n}`;
  const tasks = 1 + (n % 4);
  const isGivenUp = n % 5 === 4;
  db.exec('BEGIN IMMEDIATE');
  const { lastInsertRowid } = insertPerson.run(person);
  for (let task = 0; task < tasks; task += 1) insertTask.run(lastInsertRowid, `${person}: ${task}`);
  // Everybody changes the same row, and reads what the others made of it.
  db.exec("UPDATE teams SET title = title + 1 WHERE code = 'none'");
  if (n % 7 === 6) db.prepare('DELETE FROM tasks WHERE owner = ?').run(lastInsertRowid);
  db.exec(isGivenUp ? 'ROLLBACK' : 'COMMIT');
  if (!isGivenUp) kept.set(person, n % 7 === 6 ? 0 : tasks);
}
db.close();
console.log(JSON.stringify([...kept]));
