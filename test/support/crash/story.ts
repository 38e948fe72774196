/**
 * What a fleet of three goes through while one crash after the other is tried: a first library, a copy of it that joins, a newcomer,
 * conflicts of every kind, deletes that are forgotten, a device that comes back after too long, another table. Each step leaves all
 * libraries closed, and may be begun again after it broke off anywhere.
 */
import Sqlite from 'better-sqlite3';

import { createFromGrant, initLibraryFile } from '../../../src/db/setup.ts';
import { FLEET_CONFIG, FLEET_DDL, ROWS, rowsOf } from '../fleet-library.ts';
import type { Rows } from '../fleet-library.ts';
import { surroundingsOf } from '../surroundings.ts';
import { CrashDevice } from './device.ts';
import type { Reached } from './device.ts';

const DAY = 86_400_000;
const YEAR = 365 * DAY;

const DDL = FLEET_DDL.replace(
  'cover_id INTEGER REFERENCES entries (id) ON DELETE SET NULL',
  'cover_id INTEGER REFERENCES entries (id) ON DELETE RESTRICT',
);

/** Rows that A and the copy of it have in common. */
const COMMON = [
  "INSERT INTO notes (id, born, payload) VALUES (1, 'n1', 'p'), (2, 'n2', 'p')",
  "INSERT INTO entries (id, born, payload, parent_id, note_id) VALUES (1, 'e1', 'p', NULL, 1), (2, 'e2', 'p', 1, 2), (3, 'e3', 'p', 1, NULL), (4, 'e4', 'p', 2, 1)",
  "INSERT INTO tags (id, name, payload) VALUES (1, 'red', 'p'), (2, 'blue', 'p')",
  "INSERT INTO entry_tags VALUES (1, 1, 'p'), (2, 1, 'p'), (2, 2, 'p')",
] as const;

export interface Fleet {
  readonly A: CrashDevice;
  readonly B: CrashDevice;
  readonly C: CrashDevice;
}

/** @param step - which it is opened for: later ones lie in a later time */
export function openFleet(folder: string, step: number, reached: Reached): Fleet {
  const days = STEPS.slice(0, step + 1).reduce((sum, one) => sum + (one.days ?? 0), 0);
  const now = (): number => Date.now() + days * DAY;
  const wrong = STEPS[step]?.ahead;
  const ahead = (): number => now() + YEAR;
  const device = (name: string): CrashDevice => new CrashDevice(folder, name, name === wrong ? ahead : now, reached);
  return { A: device('A'), B: device('B'), C: device('C') };
}

export function closeFleet({ A, B, C }: Fleet): void {
  for (const device of [A, B, C]) device.close();
}

async function meetAll({ A, B, C }: Fleet): Promise<void> {
  for (let round = 0; round < 2; round += 1) {
    await A.meet(B);
    await B.meet(C);
    await C.meet(A);
  }
}

function tidyAll({ A, B, C }: Fleet): void {
  for (const device of [A, B, C]) device.tidy();
}

function thoseWhoAreThere({ A, B }: Fleet): void {
  for (const device of [A, B]) device.tidy();
}

function id(table: string, born: string): string {
  return `(SELECT id FROM ${table} WHERE born = '${born}')`;
}

/** Makes the libraries: A's, a copy that joins with the same rows and one of its own, and an empty one. */
export function makeFleet(folder: string): void {
  const fleet = openFleet(folder, 0, () => undefined);
  const { A, B, C } = fleet;
  for (const { file } of [A, B]) {
    const db = new Sqlite(file);
    db.exec(DDL);
    for (const sql of COMMON) db.exec(sql);
    db.close();
  }
  B.write("INSERT INTO entries (born, payload, parent_id) VALUES ('of B', 'p', 2)");
  const options = ({ name, file }: CrashDevice) => ({ name, file, around: surroundingsOf(name, file) });
  initLibraryFile(options(A), null, JSON.stringify(FLEET_CONFIG));
  A.writer.admit('B', 'B');
  A.writer.admit('C', 'C');
  const grant = A.reader.joinGrant();
  createFromGrant(options(B), { grant, existing: 'same' });
  createFromGrant(options(C), { grant, existing: 'empty' });
  closeFleet(fleet);
}

interface Step {
  readonly name: string;
  /** So many have passed since the step before. */
  readonly days?: number;
  /** The clock of this device is a year ahead. */
  readonly ahead?: 'A';
  readonly run: (fleet: Fleet) => void | Promise<void>;
}

export const STEPS: readonly Step[] = [
  { name: 'a copy joins', run: ({ A, B }) => A.meet(B) },
  {
    name: 'rows of every table are written',
    run: ({ A }) =>
      A.write(
        "INSERT INTO volumes (born, payload) VALUES ('v1', 'p')",
        `INSERT INTO files (born, payload, volume_id, note_id) SELECT 'f' || value, 'p', ${id('volumes', 'v1')}, 1 FROM json_each('[1,2,3,4,5,6,7,8]')`,
        `UPDATE files SET parent_id = ${id('files', 'f1')} WHERE born > 'f4'`,
      ),
  },
  { name: 'a newcomer takes its first pass', run: ({ A, C }) => A.meet(C) },
  { name: 'all meet', run: meetAll },
  {
    name: 'all write apart, into each others ways',
    run({ A, B, C }) {
      A.write(
        "UPDATE entries SET payload = 'of A' WHERE born = 'e1'",
        // A cascade that does not know of what C puts below.
        "DELETE FROM entries WHERE born = 'e4'",
        "INSERT INTO entries (born, payload) VALUES ('r1', 'p'), ('r2', 'p')",
        // That B refers to as its cover: it must come back.
        "DELETE FROM entries WHERE born = 'of B'",
        "DELETE FROM notes WHERE born = 'n2'",
      );
      B.write(
        "UPDATE entries SET payload = 'of B' WHERE born = 'e1'",
        `UPDATE entries SET cover_id = ${id('entries', 'of B')} WHERE born = 'e3'`,
        `UPDATE entries SET parent_id = ${id('entries', 'e3')}, payload = 'moved' WHERE born = 'e2'`,
        "DELETE FROM tags WHERE name = 'blue'",
        "INSERT INTO tags (name, payload) VALUES ('green', 'p')",
      );
      C.write(
        `INSERT INTO entries (born, payload, parent_id) VALUES ('below', 'p', ${id('entries', 'e4')})`,
        `UPDATE entries SET parent_id = ${id('entries', 'e2')}, payload = 'moved' WHERE born = 'e3'`,
        "INSERT INTO tags (name, payload) VALUES ('green', 'of C')",
        `INSERT INTO entry_tags SELECT ${id('entries', 'e1')}, id, 'p' FROM tags WHERE name = 'blue'`,
        "UPDATE notes SET payload = 'of C' WHERE born = 'n1'",
      );
    },
  },
  { name: 'all meet after that', run: meetAll },
  {
    name: 'all meet, and forget deletes',
    async run(fleet) {
      await meetAll(fleet);
      tidyAll(fleet);
    },
  },
  {
    name: 'two go on while one is away',
    async run({ A, B }) {
      A.write("DELETE FROM files WHERE born = 'f1'", "DELETE FROM entries WHERE born = 'r1'");
      B.write("INSERT OR REPLACE INTO tags (name, payload) VALUES ('red', 'again')");
    },
  },
  {
    name: 'the third writes as well',
    run: ({ C }) =>
      C.write(
        "UPDATE entries SET payload = 'away' WHERE born IN ('r1', 'r2')",
        `INSERT INTO entries (born, payload, parent_id) VALUES ('away', 'p', ${id('entries', 'r2')})`,
        "UPDATE tags SET payload = 'away' WHERE name = 'green'",
      ),
  },
  // Beyond the retention of 30 days; who is away for half of that himself sets nobody aside.
  { name: 'the two are there', days: 14, run: thoseWhoAreThere },
  { name: 'and still are', days: 14, run: thoseWhoAreThere },
  {
    name: 'much later they forget without it',
    days: 12,
    async run({ A, B }) {
      await A.meet(B);
      await B.meet(A);
      A.tidy();
      B.tidy();
    },
  },
  { name: 'it comes back', run: ({ A, C }) => A.meet(C) },
  {
    name: 'one gets other tables',
    run: ({ B }) =>
      B.write(
        "ALTER TABLE notes ADD COLUMN extra TEXT; UPDATE notes SET extra = 'new' WHERE born = 'n1'",
        "CREATE TABLE extras (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO extras (name) VALUES ('x')",
      ),
  },
  { name: 'all meet with that', run: meetAll },
  {
    name: 'another writes while something waits for a table',
    run: ({ A }) => A.write("UPDATE notes SET payload = 'late' WHERE born = 'n1'"),
  },
  { name: 'all meet again', run: meetAll },
  {
    name: 'one writes whose clock is ahead',
    run: ({ A }) =>
      A.write(
        "UPDATE notes SET payload = 'in a year' WHERE born = 'n1'",
        "INSERT INTO entries (born, payload) VALUES ('in a year', 'p')",
        "DELETE FROM entries WHERE born = 'below'",
        // SQLite has asked the clock of this machine, which is right.
        `UPDATE flotilla_marks SET at = at + ${YEAR}`,
      ),
  },
  { name: 'and stamps that', ahead: 'A', run: ({ A }) => void A.writer.stamp() },
  { name: 'all meet when it is right again', run: meetAll },
  {
    name: 'the others get the tables',
    run({ A, C }) {
      for (const device of [A, C])
        device.write(
          'ALTER TABLE notes ADD COLUMN extra TEXT; CREATE TABLE extras (id INTEGER PRIMARY KEY, name TEXT)',
        );
    },
  },
  {
    name: 'all come to rest',
    async run(fleet) {
      await meetAll(fleet);
      await meetAll(fleet);
      tidyAll(fleet);
    },
  },
];
/** How a fleet that has got through a step comes to rest: what begins with a table that only one has ends when all have it. */
export function stepsToRest(step: number): number[] {
  const tables = STEPS.findIndex(({ name }) => name === 'one gets other tables');
  const last = STEPS.length - 1;
  return Array.from({ length: last }, (_, i) => i + 1).filter((i) => i > step && (step >= tables || i === last));
}

/** Plays one step, from the files to the files. */
export async function playStep(folder: string, step: number, reached: Reached): Promise<void> {
  const fleet = openFleet(folder, step, reached);
  try {
    await (STEPS[step] as Step).run(fleet);
  } finally {
    closeFleet(fleet);
  }
}

/** The rows of a library by what names them on all copies, read as any program would. */
export function contentsOf(file: string): Rows {
  const db = new Sqlite(file);
  try {
    const query = { rows: (sql: string) => db.prepare(sql).raw().all() as unknown[][] };
    const rows = rowsOf(query, ROWS);
    const names = query.rows(ROWS).map(([name]) => String(name));
    if (names.length > rows.size) throw new Error(`${file} has rows twice: ${names.toSorted().join(', ')}`);
    return rows;
  } finally {
    db.close();
  }
}
