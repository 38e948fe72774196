/**
 * A program that writes to the office with Kysely, as its users write: a typed query builder, controlled transactions with
 * savepoints, UPDATE FROM, statements that return what they wrote.
 *
 *   node test/conformance/programs/kysely.ts <file>
 */
import Sqlite from 'better-sqlite3';
import { type Generated, Kysely, sql, SqliteDialect } from 'kysely';

interface Office {
  people: { id: Generated<number>; name: string | null; boss: number | null; note: unknown };
  teams: { code: string; title: Generated<string> };
  projects: { id: Generated<number>; title: string | null; team: Generated<string | null> };
  tasks: {
    id: Generated<number>;
    project: number;
    parent: number | null;
    owner: number | null;
    title: string | null;
    done: Generated<number>;
  };
  memberships: { person: number; team: string; since: number | null };
}

const client = new Sqlite(process.argv[2] as string);
client.pragma('foreign_keys = ON');
const db = new Kysely<Office>({ dialect: new SqliteDialect({ database: client }) });

const ivo = await db
  .insertInto('people')
  .values({ name: 'Ivo', boss: 2, note: Buffer.from([0, 255]) })
  .returning('id')
  .executeTakeFirstOrThrow();
await db
  .insertInto('tasks')
  .columns(['project', 'owner', 'title'])
  .expression((from) =>
    from
      .selectFrom('projects')
      .select((e) => ['id', e.val(ivo.id).as('owner'), sql<string>`'do ' || title`.as('title')]),
  )
  .execute();
await db
  .insertInto('people')
  .values([
    { name: 'ADA', boss: null, note: 'upserted' },
    { name: 'Jo', boss: ivo.id, note: 7n },
  ])
  .onConflict((on) => on.column('name').doUpdateSet((e) => ({ note: e.ref('excluded.note') })))
  .execute();
await db.replaceInto('memberships').values({ person: 2, team: 'core', since: 1.25 }).execute();
await db.insertInto('teams').orIgnore().values({ code: 'ops' }).execute();
await db
  .updateTable('tasks')
  .from('projects')
  .set((e) => ({ title: e.fn<string>('lower', [e.ref('projects.title')]), done: e.ref('projects.id') }))
  .whereRef('tasks.project', '=', 'projects.id')
  .where('tasks.parent', 'is', null)
  .where('tasks.owner', 'is not', ivo.id)
  .execute();

const transaction = await db.startTransaction().execute();
await transaction.updateTable('teams').set({ code: 'heart' }).where('code', '=', 'core').execute();
const saved = await transaction.savepoint('before').execute();
await saved.deleteFrom('people').execute();
await saved.rollbackToSavepoint('before').execute();
await saved.insertInto('teams').values({ code: 'kept', title: 'after the savepoint' }).execute();
await saved.commit().execute();

await db
  .transaction()
  .execute(async (within) => {
    await within.deleteFrom('memberships').execute();
    throw new Error('as the program wants');
  })
  .catch((error: Error) => {
    if (error.message !== 'as the program wants') throw error;
  });
await db
  .deleteFrom('tasks')
  .where('id', 'in', (e) => e.selectFrom('tasks').select('id').where('parent', 'is not', null).limit(1))
  .execute();
await db.deleteFrom('projects').where('title', '=', 'Barn').executeTakeFirst();
await db.destroy();
