/**
 * A process is killed at every point of `fault-points.ts`, one after the other, in a story of three devices that reaches them all. What
 * it leaves is whole and claims nothing that is not there; opened again the fleet goes on, and ends as it does without any crash.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { FAULT_POINTS } from '../../src/db/fault-points.ts';
import type { FaultPoint } from '../../src/db/fault-points.ts';
import { examine, exaggerations } from '../support/crash/examine.ts';
import { STEPS, closeFleet, contentsOf, makeFleet, openFleet, playStep, stepsToRest } from '../support/crash/story.ts';

const CHILD = join(import.meta.dirname, '..', 'support', 'crash', 'child.ts');
/** What a killed process has written is there, on a disk or not: where there is none, nothing has to be waited for. */
const MEMORY = '/dev/shm';
const DEVICES = ['A', 'B', 'C'] as const;

let root: string;
/** Where each point is reached in the story: step and how often in it. */
const reached = new Map<FaultPoint, { readonly step: number; readonly times: number }[]>();

/** The libraries as they are before a step. */
const before = (step: number): string => join(root, `before ${step}`);

beforeAll(async () => {
  root = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'flotilla-crash-'));
  const folder = mkdtempSync(join(root, 'whole-'));
  makeFleet(folder);
  for (let step = 0; step < STEPS.length; step += 1) {
    cpSync(folder, before(step), { recursive: true });
    const counts = new Map<FaultPoint, number>();
    await playStep(folder, step, (point) => void counts.set(point, (counts.get(point) ?? 0) + 1));
    for (const [point, times] of counts) reached.set(point, [...(reached.get(point) ?? []), { step, times }]);
  }
  cpSync(folder, before(STEPS.length), { recursive: true });
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Whether each point is tried three times. */
const IS_LONG = process.env['FLOTILLA_FAULTS'] === 'all';

/** The last time; with `npm run test:faults` the first one as well, and one between them. */
function someTimes(point: FaultPoint): { readonly step: number; readonly nth: number }[] {
  const all = (reached.get(point) ?? []).flatMap(({ step, times }) =>
    Array.from({ length: times }, (_, i) => ({ step, nth: i + 1 })),
  );
  const tried = IS_LONG ? [0, Math.floor(all.length / 2), all.length - 1] : [all.length - 1];
  return [...new Set(tried)].flatMap((i) => all[i] ?? []);
}

/** Plays a step in a process that is killed in it; the folder with what that left. */
function crash(step: number, point: FaultPoint, nth: number): string {
  const folder = mkdtempSync(join(root, 'crash-'));
  cpSync(before(step), folder, { recursive: true });
  const { signal, stderr } = spawnSync(process.execPath, [CHILD, folder, String(step), point, String(nth)], {
    encoding: 'utf8',
  });
  expect(signal, `${STEPS[step]?.name}: ${point} was not reached the ${nth}th time. ${stderr}`).toBe('SIGKILL');
  return folder;
}

function expectWhole(folder: string, mayExaggerate = false): void {
  const fleet = new Map(DEVICES.map((name) => [name, examine(join(folder, `${name}.db`))]));
  for (const [name, { faults }] of fleet) expect(faults, name).toEqual([]);
  if (!mayExaggerate) expect(exaggerations(fleet)).toEqual([]);
}

/** How the fleet ends that gets through `step` and then to rest: all rows by name, the same on all. */
async function rest(folder: string, step: number): Promise<unknown> {
  for (const next of stepsToRest(step)) await playStep(folder, next, () => undefined);
  expectWhole(folder);
  const fleet = openFleet(folder, STEPS.length, () => undefined);
  try {
    const digests = await Promise.all(DEVICES.map((name) => fleet[name].reader.inspect({ kind: 'tables' })));
    for (const digest of digests) expect(digest).toEqual(digests[0]);
    for (const name of DEVICES)
      expect(fleet[name].reader.status(), name).toMatchObject({ waitingCount: 0, unstamped: 0, tombstones: 0 });
  } finally {
    closeFleet(fleet);
  }
  const [first, ...others] = DEVICES.map((name) => contentsOf(join(folder, `${name}.db`)));
  const sorted = (rows = first): unknown => [...(rows ?? [])].toSorted(([a], [b]) => (a < b ? -1 : 1));
  for (const other of others) expect(sorted(other)).toEqual(sorted());
  return sorted();
}

/** The same without a crash, worked out once for each step. */
const undisturbed = new Map<number, Promise<unknown>>();
function wanted(step: number): Promise<unknown> {
  const known = undisturbed.get(step);
  if (known !== undefined) return known;
  const folder = mkdtempSync(join(root, 'rest-'));
  cpSync(before(step + 1), folder, { recursive: true });
  const result = rest(folder, step);
  undisturbed.set(step, result);
  return result;
}

async function goesOn(folder: string, step: number): Promise<void> {
  await playStep(folder, step, () => undefined);
  expect(await rest(folder, step)).toEqual(await wanted(step));
}

describe('[K1] a process that dies', () => {
  it('has a point for each step in the story', () => {
    expect(FAULT_POINTS.filter((point) => !reached.has(point))).toEqual([]);
    expect([...reached.keys()].filter((point) => !FAULT_POINTS.includes(point))).toEqual([]);
  });

  it.each(FAULT_POINTS)('at "%s" loses nothing, leaves nothing half done, and goes on', async (point) => {
    for (const { step, nth } of someTimes(point)) {
      const folder = crash(step, point, nth);
      expectWhole(folder);
      await goesOn(folder, step);
      rmSync(folder, { recursive: true });
    }
  });
});

/** Whose log is torn in which step. In the first one a program's writes have been stamped and sent before they are marks again. */
const TORN = [
  ['A', 'all meet after that'],
  ['B', 'a copy joins'],
  ['C', 'a newcomer takes its first pass'],
  ['B', 'all meet, and forget deletes'],
  ['B', 'all meet after that'],
  ['A', 'much later they forget without it'],
  ['C', 'it comes back'],
] as const;

/** Bytes before the first frame of a WAL, and before the page in each. */
const WAL_HEADER = 32;
const FRAME_HEADER = 24;

/** What a power cut may leave of a log: its end is missing, whole frames or part of one, or something else stands there. */
const DAMAGES: readonly (readonly [string, (wal: Buffer, frame: number) => Buffer])[] = [
  ['without its last frame', (wal, frame) => wal.subarray(0, wal.length - frame)],
  ['without the end of its last frame', (wal, frame) => wal.subarray(0, wal.length - frame / 2)],
  ['with another byte in its last page', (wal, frame) => flipped(wal, wal.length - frame / 2)],
  ['with another byte in the head of its last frame', (wal, frame) => flipped(wal, wal.length - frame + 9)],
  ['without its second half', (wal, frame) => wal.subarray(0, WAL_HEADER + half(wal, frame))],
  ['with nonsense in its second half', (wal, frame) => flipped(wal, WAL_HEADER + half(wal, frame) + FRAME_HEADER)],
  ['of which only the head is there', (wal) => wal.subarray(0, WAL_HEADER)],
  ['that is empty', (wal) => wal.subarray(0, 0)],
];

const half = (wal: Buffer, frame: number): number => Math.floor((wal.length - WAL_HEADER) / frame / 2) * frame;

function flipped(wal: Buffer, at: number): Buffer {
  const copy = Buffer.from(wal);
  copy[at] = (copy[at] ?? 0) ^ 0xff;
  return copy;
}

describe('[K2] a log that a power cut has torn', () => {
  it.each(DAMAGES)('%s costs what was last taken in, and that comes again', async (what, damage) => {
    const nth = DAMAGES.findIndex(([one]) => one === what);
    for (const [name, title] of [TORN[0], TORN[1 + (nth % (TORN.length - 1))] ?? TORN[0]]) {
      const step = STEPS.findIndex((one) => one.name === title);
      const times = reached.get('ack: sent')?.find((found) => found.step === step)?.times ?? 0;
      const folder = crash(step, 'ack: sent', times);
      const path = join(folder, `${name}.db-wal`);
      const wal = readFileSync(path);
      const pageSize = wal.readUInt32BE(8);
      writeFileSync(path, damage(wal, FRAME_HEADER + pageSize));
      expectWhole(folder, true);
      await goesOn(folder, step);
      rmSync(folder, { recursive: true });
    }
  });
});
