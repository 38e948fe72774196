/** `flotilla own`: a volume goes to another device, with and without running nodes, also from a device that is gone. */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Device } from '../../examples/fleet.ts';
import { flotilla } from '../../examples/support.ts';
import type { Owned } from '../../src/index.ts';
import { endEverything, execute, expectRefusal, flotillaCommand, testFolder, untilColumn } from '../support/command.ts';
import { ARRIVAL_MS, expectEqual, untilState } from '../support/devices.ts';

const folder = testFolder();
const first = new Device(folder, 'first');
const second = new Device(folder, 'second');
const both = [first, second];
const NAMES = 'SELECT name FROM entries ORDER BY name';
const CONFIG = {
  tables: {
    volumes: { ownership: 'device' },
    locations: { ownedBy: 'volume_id' },
    entries: { ownedBy: 'location_id' },
  },
};

const rename = (device: Device, to: string): void => execute(device.library, `UPDATE entries SET name = '${to}'`);

beforeAll(async () => {
  execute(
    first.library,
    `CREATE TABLE volumes (id INTEGER PRIMARY KEY, name TEXT);
     CREATE TABLE locations (id INTEGER PRIMARY KEY, volume_id INTEGER NOT NULL REFERENCES volumes (id));
     CREATE TABLE entries (id INTEGER PRIMARY KEY, location_id INTEGER NOT NULL REFERENCES locations (id), name TEXT);
     INSERT INTO volumes VALUES (7, 'drive'); INSERT INTO locations VALUES (1, 7); INSERT INTO entries VALUES (1, 1, 'x')`,
  );
  const config = join(first.folder, 'config.json');
  writeFileSync(config, JSON.stringify(CONFIG));
  await flotilla(['init', first.library, '--name', first.name, '--config', config]);
  await first.start([]);
  await second.join(first);
  await second.start([]);
  await untilState(second, first, 'live');
  await untilColumn(second.library, NAMES, ['x'], ARRIVAL_MS);
});
afterAll(endEverything);

describe('own', () => {
  it('[O3] takes a volume over while both nodes run', async () => {
    expect(() => rename(second, 'by the second')).toThrow('belongs to another device');
    const owned = await flotilla<Owned>(['own', second.library, 'volumes', '1']);
    expect(owned).toMatchObject({ table: 'volumes', device: second.id, previous: first.id, changed: true });
    rename(second, 'by the second');
    await untilColumn(first.library, NAMES, ['by the second'], ARRIVAL_MS);
    expect(() => rename(first, 'by the first')).toThrow('belongs to another device');
    await expectEqual(both);
  });

  it('[O3] gives it away by name, and back, while no node runs; says so to people', async () => {
    await first.node.terminate();
    await second.node.terminate();
    const { code, stdout } = await flotillaCommand(['own', second.library, 'volumes', '1', '--for', 'first']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^volumes 1 belongs to …\w+ from now on, and to …\w+ no more\.\n/);
    expect(() => rename(second, 'too late')).toThrow('belongs to another device');
    await Promise.all([first.start([]), second.start([])]);
    await untilState(second, first, 'live');
    const again = await flotilla<Owned>(['own', first.library, 'VOLUMES', '7']);
    expect(again).toMatchObject({ device: first.id, changed: false });
    rename(first, 'by the first again');
    await untilColumn(second.library, NAMES, ['by the first again'], ARRIVAL_MS);
  });

  it('[O3] takes over what a device owns that is gone', async () => {
    await first.node.terminate();
    await flotilla<Owned>(['own', second.library, 'volumes', '1']);
    rename(second, 'saved');
    // It was only away, and has written meanwhile.
    rename(first, 'late');
    await first.start([]);
    await untilColumn(first.library, NAMES, ['saved'], ARRIVAL_MS);
    await expectEqual(both);
    await untilColumn(first.library, 'SELECT rule || lost FROM flotilla_conflicts', ['ownershiplate']);
  });

  it('refuses what cannot be given', async () => {
    const changing = /\.(?:db|db-wal|db-shm)$|flotilla-lock|\.flotilla/;
    const own = (...args: string[]): string[] => ['own', second.library, ...args];
    await expectRefusal(
      own('entries', '1'),
      folder,
      { code: 'NOT_OWNED', says: /its location_id refers to/ },
      changing,
    );
    await expectRefusal(own('volumes', '99'), folder, { code: 'NO_SUCH_ROW', says: /no row \(id\) = 99/ }, changing);
    await expectRefusal(
      own('volumes', '1', '--for', 'nobody'),
      folder,
      { code: 'NOT_A_MEMBER', says: /No member is "nobody"/ },
      changing,
    );
    const copy = join(folder, 'copy.db');
    await second.node.terminate();
    copyFileSync(second.library, copy);
    await expectRefusal(
      ['own', copy, 'volumes', '1'],
      folder,
      { code: 'NOT_INITIALISED', says: /no home folder/ },
      changing,
    );
  });
});
