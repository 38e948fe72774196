/** What must hold of a fleet at a quiet point. */
import { inspect } from '../../src/db/digest.ts';
import { readServedRegistry } from '../../src/db/serving.ts';
import { bytesToHex } from '../../src/protocol/uuid.ts';
import { ROWS, rowsOf } from '../support/fleet-library.ts';
import type { SimDevice } from './device.ts';
import { SimError } from './fault.ts';
import type { Files } from './files.ts';

/** Equal content and digests everywhere, constraints that hold, and nothing that waits. */
export async function compare(devices: readonly SimDevice[]): Promise<void> {
  const digests = new Map<string, string>();
  for (const device of devices) {
    checkFile(device);
    const registry = readServedRegistry(device.db);
    if (registry === null) throw new SimError('violation', `${device.name} does not know its own schema`);
    const answer = await inspect(device.db, registry, { kind: 'tables' }, async () => undefined);
    digests.set(device.name, JSON.stringify(answer));
  }
  const [first] = devices as readonly [SimDevice];
  const rows = rowsOf(first, ROWS);
  for (const device of devices) {
    const waiting = device.rows('SELECT reason, detail FROM flotilla_pending');
    if (waiting.length > 0)
      throw new SimError('diverged', `${device.name} has rows waiting: ${JSON.stringify(waiting)}`);
    const other = rowsOf(device, ROWS);
    for (const name of new Set([...rows.keys(), ...other.keys()])) {
      const [a, b] = [rows.get(name)?.content, other.get(name)?.content];
      if (a !== b) throw new SimError('diverged', `${name}: ${first.name} has ${a}, ${device.name} has ${b}`);
    }
    if (digests.get(device.name) !== digests.get(first.name))
      throw new SimError('diverged', `the digests of ${first.name} and ${device.name} differ`);
  }
}

/** Its file is whole, and its constraints hold. */
export function checkFile(device: SimDevice): void {
  const broken = device.db.pragma('foreign_key_check') as unknown[];
  if (broken.length > 0) throw new SimError('violation', `${device.name}: ${JSON.stringify(broken)}`);
  const integrity = device.db.pragma('integrity_check', { simple: true });
  if (integrity !== 'ok') throw new SimError('violation', `${device.name}: ${String(integrity)}`);
}

/**
 * Nobody believes that a device has more than its file has.
 * @param all - also those that have left
 * @param once - what a device knew before it was restored: device → run → hlc
 */
export function checkHeard(
  all: readonly SimDevice[],
  devices: readonly SimDevice[],
  files: Files,
  once: ReadonlyMap<string, ReadonlyMap<string, number>>,
): void {
  const said = new Map(all.map((device) => [device.name, files.read(device)]));
  for (const device of devices) {
    for (const [about, run, hlc] of said.get(device.name)?.heard ?? []) {
      const has = Math.max(said.get(about)?.known.get(run) ?? -1, once.get(about)?.get(run) ?? -1);
      if (has < hlc)
        throw new SimError(
          'violation',
          `${device.name} has heard that ${about} knows ${run} up to ${hlc}, its file says ${has}`,
        );
    }
  }
}

/** A delete is forgotten once all know it and the birth of what died; what went back in time with its device some may never know (F1). */
export function requireUnknown(
  device: SimDevice,
  tombstones: number,
  devices: readonly SimDevice[],
  files: Files,
  hasRestored: boolean,
): void {
  const known = devices.map((other) => files.read(other).known);
  const isKnown = (run: unknown, hlc: unknown): boolean =>
    known.every((one) => (one.get(bytesToHex(run as Uint8Array)) ?? -1) >= Number(hlc));
  const kept = device.rows(
    `SELECT r.id, t.hlc, b.id, t.birth_hlc FROM flotilla_tombstones t
     JOIN flotilla_runs r ON r.run = t.run JOIN flotilla_runs b ON b.run = t.birth_run`,
  );
  const late = kept.filter(([run, hlc, birthRun, birthHlc]) => isKnown(run, hlc) && isKnown(birthRun, birthHlc));
  if (!hasRestored || late.length > 0)
    throw new SimError(
      'violation',
      `${device.name} has not forgotten ${tombstones} deletes, of which all have ${late.length}`,
    );
}
