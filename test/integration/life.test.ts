/**
 * An ordinary life: three devices, of which two were let in by the first, written to from outside by any program, in all
 * directions, until somebody tampers with one of the files.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Device } from '../../examples/fleet.ts';
import { openLibrary } from '../../examples/file-library/library.ts';
import { fillSynthetic } from '../../examples/file-library/synthetic.ts';
import type { VerifyReport } from '../../src/index.ts';
import {
  column,
  endEverything,
  execute,
  flotillaCommand,
  testFolder,
  untilColumn,
  withDatabase,
} from '../support/command.ts';
import { expectEqual, untilState } from '../support/devices.ts';
import { OUTSIDE_WRITERS } from '../support/writers.ts';

/** Entries in the first library before anybody joins. */
const ENTRIES = 300;

const folder = testFolder();
const ada = new Device(folder, 'ada');
const ben = new Device(folder, 'ben');
const cleo = new Device(folder, 'cleo');
const all = [ada, ben, cleo];

const equal = (): Promise<void> => expectEqual(all);

beforeAll(async () => {
  const db = openLibrary(ada.library);
  fillSynthetic(db, { entries: ENTRIES, seed: 1, volume: 'ada' });
  db.close();
  await ada.init();
  await ada.start([]);
  await ben.join(ada);
  await ben.start([]);
  await untilState(ben, ada, 'live');
});
afterAll(endEverything);

describe('three devices', () => {
  it('the third is let in by the first, and the second accepts it without having met it', async () => {
    await cleo.join(ada);
    await cleo.start([]);
    await Promise.all([untilState(cleo, ada, 'live'), untilState(cleo, ben, 'live'), untilState(ben, cleo, 'live')]);
    expect(ben.node.events).toContainEqual(expect.objectContaining({ event: 'joined', device: cleo.id, name: 'cleo' }));
    await equal();
  });

  it.each(OUTSIDE_WRITERS)(
    'take over what $name writes, on any of them, rows of each other included',
    async ({ name, write }) => {
      for (const device of all) {
        const from = `${name} at ${device.name}`;
        write(
          device.library,
          `BEGIN IMMEDIATE;
        INSERT INTO volumes (name, added_at) VALUES ('${from}', 1);
        INSERT INTO locations (volume_id, path) SELECT id, '/${from}' FROM volumes WHERE name = '${from}';
        INSERT INTO entries (location_id, name, kind, modified_at)
          SELECT id, 'kept', 'folder', 1 FROM locations WHERE path = '/${from}';
        INSERT INTO entries (location_id, parent_id, name, kind, size, modified_at)
          SELECT location_id, id, 'file in it', 'file', 5, 2 FROM entries WHERE name = 'kept'
          AND location_id = (SELECT id FROM locations WHERE path = '/${from}');
        INSERT INTO entries (location_id, name, kind, modified_at)
          SELECT id, 'doomed', 'folder', 1 FROM locations WHERE path = '/${from}';
        INSERT INTO entries (location_id, parent_id, name, kind, size, modified_at)
          SELECT location_id, id, 'doomed file', 'file', 5, 2 FROM entries WHERE name = 'doomed'
          AND location_id = (SELECT id FROM locations WHERE path = '/${from}');
        INSERT INTO tags (name) VALUES ('${from}');
        COMMIT;`,
        );
      }
      await equal();
      for (const device of all) {
        const from = `${name} at ${device.name}`;
        write(
          device.library,
          `BEGIN IMMEDIATE;
        -- A tag of our own on what others own, and a shared row for everybody's tags.
        INSERT INTO entry_tags (entry_id, tag_id, tagged_at)
          SELECT e.id, t.id, 3 FROM entries e, tags t WHERE e.name = 'kept' AND t.name = '${from}';
        UPDATE tags SET color = 'seen by ${device.name}' WHERE name = '${name} at ada';
        -- Takes the file in it along.
        DELETE FROM entries WHERE name = 'doomed' AND location_id = (SELECT id FROM locations WHERE path = '/${from}');
        UPDATE entries SET name = 'renamed file' WHERE name = 'file in it'
          AND location_id = (SELECT id FROM locations WHERE path = '/${from}');
        COMMIT;`,
        );
      }
      await equal();
      const paths = `(SELECT id FROM locations WHERE path GLOB '/${name} at *')`;
      const names = `SELECT name FROM entries WHERE location_id IN ${paths} ORDER BY name`;
      expect(column(cleo.library, names)).toEqual([...Array(3).fill('kept'), ...Array(3).fill('renamed file')]);
      const tagged = `SELECT count(*) FROM entry_tags WHERE tag_id IN (SELECT id FROM tags WHERE name GLOB '${name} at *')`;
      expect(Number(column(ada.library, tagged)[0])).toBeGreaterThanOrEqual(9);
    },
  );

  it('leave no trace of a transaction that was rolled back', async () => {
    const file = ben.library;
    execute(file, "BEGIN; INSERT INTO tags (name) VALUES ('never'); ROLLBACK");
    execute(file, "INSERT INTO tags (name) VALUES ('after')");
    await untilColumn(ada.library, "SELECT name FROM tags WHERE name IN ('never', 'after')", ['after']);
    await equal();
  });
});

describe('the guard of owned rows', () => {
  it.each([
    ['changed', "UPDATE entries SET name = 'mine now' WHERE id = ?"],
    ['deleted', 'DELETE FROM entries WHERE id = ?'],
  ])("another device's row cannot be %s, and the error says why", (_, sql) => {
    const own = `SELECT group_concat(id || name) FROM entries WHERE location_id = (SELECT l.id FROM locations l
      JOIN volumes v ON v.id = l.volume_id WHERE v.name = 'ada')`;
    withDatabase(ben.library, (db) => {
      const before = db.prepare(own).pluck().get();
      const id = db.prepare(`SELECT min(id) FROM entries WHERE location_id = (SELECT l.id FROM locations l
        JOIN volumes v ON v.id = l.volume_id WHERE v.name = 'ada')`);
      const attempt = (): unknown => db.prepare(sql).run(id.pluck().get());
      expect(attempt).toThrow(/belongs to another device/);
      expect(db.prepare(own).pluck().get()).toBe(before);
    });
  });

  it('what was refused is not sent either', async () => {
    await equal();
  });
});

describe('verify', () => {
  const verify = async (device: Device): Promise<{ code: unknown; report: VerifyReport; stderr: string }> => {
    const { code, stdout, stderr } = await flotillaCommand(['verify', device.library, '--json']);
    return { code, stderr, report: JSON.parse(stdout) as VerifyReport };
  };

  it('finds all three identical', async () => {
    await equal();
    const { code, report, stderr } = await verify(ben);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(report).toMatchObject({ ok: true, compared: true, foreignKeyViolations: [], integrity: [] });
    const same = { identical: true, differences: [], error: '' };
    expect(report.peers.toSorted((one, other) => (one.name < other.name ? -1 : 1))).toMatchObject([
      { device: ada.id, name: 'ada', ...same },
      { device: cleo.id, name: 'cleo', ...same },
    ]);
  });

  it('names the row that somebody changed behind the back of Flotilla', async () => {
    const uuid = withDatabase(cleo.library, (db) => {
      const id = db.prepare("SELECT id FROM tags WHERE name = 'after'").pluck().get();
      const n = db.prepare("SELECT n FROM flotilla_tables WHERE name = 'tags'").pluck().get();
      db.exec(`BEGIN IMMEDIATE;
        UPDATE flotilla_capture SET suspended = 1;
        UPDATE tags SET color = 'forged' WHERE id = ${Number(id)};
        UPDATE flotilla_capture SET suspended = 0;
        COMMIT;`);
      return db
        .prepare(`SELECT lower(hex(uuid)) FROM flotilla_rows_${Number(n)} WHERE key = ?`)
        .pluck()
        .get(id);
    });
    const dashed = String(uuid).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    const { code, report, stderr } = await verify(ada);
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(report.ok).toBe(false);
    expect(report.peers.find(({ device }) => device === ben.id)).toMatchObject({ identical: true, differences: [] });
    expect(report.peers.find(({ device }) => device === cleo.id)).toMatchObject({
      identical: false,
      differences: [{ table: 'tags', uuid: dashed, difference: 'different' }],
    });
    const people = await flotillaCommand(['verify', ada.library]);
    expect(people).toMatchObject({ code: 1, stderr: '' });
    expect(people.stdout).toContain(`tags ${dashed}: different`);
  });
});
