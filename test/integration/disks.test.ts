/**
 * Nodes whose disk lets them down while they take something in: it is full, or it reports errors. They say so by a code, go on living, and go
 * on by themselves when there is room again.
 */
import { spawnSync } from 'node:child_process';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { openLibrary } from '../../examples/file-library/library.ts';
import { Device } from '../../examples/fleet.ts';
import { column, endEverything, execute, testFolder, undoAtEnd } from '../support/command.ts';
import { expectEqual, pidOf, untilState } from '../support/devices.ts';

/** Room that a small library needs, bytes: much less than is written then. */
const LITTLE = 6 * 1024 * 1024;
/** Until a node has tried again after any back-off, ms. */
const AGAIN_MS = 90_000;

const folder = testFolder();
const sender = new Device(folder, 'sender');

interface Trouble {
  readonly what: string;
  readonly code: string;
  /** Before anything is in the device's folder. @returns why it cannot be had here; '' if it can */
  readonly prepare: (device: Device) => string;
  readonly begin: (device: Device) => void;
  readonly end: (device: Device) => void;
}

function run(command: string, ...args: string[]): string {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? '' : `${command} ${args.join(' ')}: ${error?.message ?? stderr}`;
}

const TROUBLES: readonly Trouble[] = [
  {
    what: 'is full',
    code: 'DISK_FULL',
    prepare: (device) => {
      const why = run('mount', '-t', 'tmpfs', '-o', `size=${LITTLE}`, 'flotilla', device.folder);
      if (why === '') undoAtEnd(() => void run('umount', '-l', device.folder));
      return why;
    },
    begin: () => undefined,
    end: (device) => expect(run('mount', '-o', 'remount,size=256m', device.folder)).toBe(''),
  },
  {
    what: 'reports errors',
    code: 'IO_ERROR',
    prepare: () => run('prlimit', '--version'),
    // What lies beyond that in a file cannot be written, as if the disk were bad there.
    begin: (device) => expect(run('prlimit', '--pid', String(pidOf(device)), '--fsize=1048576:')).toBe(''),
    end: (device) => expect(run('prlimit', '--pid', String(pidOf(device)), '--fsize=unlimited:')).toBe(''),
  },
];

beforeAll(async () => {
  openLibrary(sender.library).close();
  await sender.init();
  await sender.start([]);
});
afterAll(endEverything);

describe('[K3] a disk', () => {
  it.for(TROUBLES)(
    'that $what is told of, and when it works again all goes on',
    { timeout: 3 * AGAIN_MS },
    async ({ what, code, prepare, begin, end }, context) => {
      const device = new Device(folder, `that ${what}`);
      const missing = prepare(device);
      if (missing !== '') return context.skip(missing);
      await device.join(sender);
      await device.start([]);
      await untilState(device, sender, 'live');
      await expectEqual([sender, device]);
      begin(device);
      const seen = device.node.events.length;
      execute(
        sender.library,
        `INSERT INTO tags (name) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
         SELECT '${what} ' || i || hex(zeroblob(1500)) FROM n`,
      );
      await device.node.waitFor(code, AGAIN_MS, (events) =>
        events.slice(seen).some((event) => event.event === 'peer' && event.code === code) ? true : undefined,
      );
      expect(column(device.library, 'SELECT count(*) FROM pragma_foreign_key_check')).toEqual([0]);
      end(device);
      await expectEqual([sender, device], AGAIN_MS);
      await device.node.terminate();
      expect(column(device.library, 'PRAGMA integrity_check')).toEqual(['ok']);
      return undefined;
    },
  );
});
