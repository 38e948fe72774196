/**
 * Two schemas that were not made for sync, from one end to the other: a program's file becomes a library on one device, two more
 * join, the program writes on all of them at once while their nodes run, and every copy shows the same.
 */
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, describe, expect, it } from 'vitest';
import { Device } from '../../examples/fleet.ts';
import { flotilla, until } from '../../examples/support.ts';
import type { NodeStatus } from '../../src/index.ts';
import { noteTaker } from '../conformance/schemas/note-taker.ts';
import { photoCatalogue } from '../conformance/schemas/photo-catalogue.ts';
import { Chance } from '../support/chance.ts';
import { endEverything, testFolder, withDatabase } from '../support/command.ts';
import { ARRIVAL_MS, untilState } from '../support/devices.ts';
import { readFacts } from '../support/facts.ts';
import { leftOut, playAlone, shownBy } from '../support/wild-fleet.ts';

afterAll(endEverything);

describe.each([noteTaker, photoCatalogue])('$name', (schema) => {
  it('is the same on three devices, after its program wrote on all of them at once', async () => {
    const folder = testFolder();
    const devices = ['ada', 'ben', 'cleo'].map((name) => new Device(folder, name));
    const [ada, ben, cleo] = devices as [Device, Device, Device];
    const db = new Database(ada.library);
    db.exec(schema.ddl);
    db.exec(schema.fill(new Chance(7), 'ada'));
    db.close();
    writeFileSync(join(dirname(ada.library), 'flotilla.config.json'), JSON.stringify(schema.config ?? {}));
    await flotilla(['init', ada.library, '--name', 'ada']);
    await ada.start([]);
    for (const device of [ben, cleo]) {
      await device.join(ada);
      await device.start([]);
    }
    await Promise.all([untilState(ben, ada, 'live'), untilState(cleo, ada, 'live'), untilState(cleo, ben, 'live')]);
    await equal();
    expect(
      withDatabase(cleo.library, (file) => playAlone(schema, file, { seed: 1, times: 1, bold: false })),
    ).toBeGreaterThan(0);
    await equal();

    // Nobody waits for anybody: what each program does meets what the others do.
    const done = devices.map(({ library, name }, seed) =>
      withDatabase(library, (file) => playAlone(schema, file, { seed, who: name, bold: false })),
    );
    for (const count of done) expect(count).toBeGreaterThan(schema.scripts.length / 2);
    await equal();
    for (const { library } of devices) {
      withDatabase(library, (file) => {
        expect(file.pragma('foreign_key_check')).toEqual([]);
        expect(file.pragma('integrity_check', { simple: true })).toBe('ok');
        for (const [what, sql] of Object.entries(schema.strays)) expect(file.prepare(sql).all(), what).toEqual([]);
        for (const sql of schema.checks ?? []) file.exec(sql);
      });
      expect(await flotilla<NodeStatus>(['status', library])).toMatchObject({ library: { waitingCount: 0 } });
    }

    /** Waits until every copy shows what the first does, with nothing left to stamp. */
    async function equal(): Promise<void> {
      const shown = ({ library }: Device): string =>
        withDatabase(library, (file) => {
          file.exec('BEGIN');
          const facts = readFacts(file, leftOut(schema));
          const marks = file.prepare('SELECT count(*) FROM flotilla_marks').pluck().get();
          const text = JSON.stringify([marks === 0, shownBy(schema, file, facts)]);
          file.exec('COMMIT');
          return text;
        });
      await until('copies that show the same', ARRIVAL_MS * 2, () => {
        const [first = '', ...others] = devices.map(shown);
        return first.startsWith('[true,') && others.every((other) => other === first) ? true : undefined;
      });
    }
  });
});
