/**
 * A program that writes to the office with Drizzle, as its users write: tables declared in code, typed queries, transactions
 * within transactions.
 *
 *   node test/conformance/programs/drizzle.ts <file>
 */
import Sqlite from 'better-sqlite3';
import { and, eq, gt, inArray, isNull, sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/better-sqlite3';
import { integer, primaryKey, real, sqliteTable, text } from 'drizzle-orm/sqlite-core';

const people = sqliteTable('people', {
  id: integer().primaryKey(),
  name: text().unique(),
  boss: integer(),
  note: text(),
});
const teams = sqliteTable('teams', { code: text().primaryKey(), title: text().notNull().default('untitled') });
const projects = sqliteTable('projects', {
  id: integer().primaryKey({ autoIncrement: true }),
  title: text(),
  team: text().default('none'),
});
const tasks = sqliteTable('tasks', {
  id: integer().primaryKey(),
  project: integer().notNull(),
  parent: integer(),
  owner: integer(),
  title: text(),
  done: integer({ mode: 'boolean' }).default(false),
});
const memberships = sqliteTable('memberships', { person: integer(), team: text(), since: real() }, (table) => [
  primaryKey({ columns: [table.person, table.team] }),
]);

const client = new Sqlite(process.argv[2] as string);
client.pragma('foreign_keys = ON');
const db = drizzle(client);

const [hana] = db
  .insert(people)
  .values({ name: 'Hana', boss: 1, note: 'by Drizzle' })
  .returning({ id: people.id })
  .all();
const made = db
  .insert(projects)
  .values([{ title: 'Porch', team: 'core' }, { title: 'Roof' }])
  .returning()
  .all();
db.insert(tasks)
  .values(
    Array.from({ length: 40 }, (_, i) => ({
      project: made[i % 2]?.id ?? 1,
      owner: hana?.id ?? null,
      title: `step ${i}`,
    })),
  )
  .run();
db.insert(teams).values({ code: 'core', title: 'no' }).onConflictDoNothing().run();
db.insert(people)
  .values({ name: 'ben', note: 'upserted' })
  .onConflictDoUpdate({ target: people.name, set: { note: sql`excluded.note || '!'` } })
  .run();
db.update(tasks)
  .set({ done: true, title: sql`upper(${tasks.title})` })
  .where(and(gt(tasks.id, 10), isNull(tasks.parent)))
  .run();
db.transaction((tx) => {
  tx.update(teams).set({ code: 'operations' }).where(eq(teams.code, 'ops')).run();
  try {
    // A savepoint, rolled back.
    tx.transaction((inner) => {
      inner.delete(people).run();
      inner.rollback();
    });
  } catch {
    tx.insert(teams).values({ code: 'late' }).run();
  }
});
try {
  db.transaction((tx) => {
    tx.insert(people).values({ name: 'never' }).run();
    tx.insert(people).values({ name: 'NEVER' }).run();
  });
} catch (error) {
  if (!String(error instanceof Error ? (error.cause ?? error) : error).includes('UNIQUE')) throw error;
}
db.insert(memberships)
  .values({ person: hana?.id ?? 1, team: 'late', since: 2026 })
  .run();
db.delete(projects)
  .where(inArray(projects.id, [1]))
  .run();
db.delete(people).where(eq(people.name, 'Dan')).run();
client.close();
