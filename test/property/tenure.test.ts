/**
 * A model of ownership without a database: devices with clocks that differ own roots, hand them over, move rows between them,
 * write and delete, and hear of each other in any order, version by version. Whatever happens, all end with the same, and
 * nobody is shut out of what belongs to it.
 */
import { describe, expect, it } from 'vitest';

import type { LocalStamp, Order } from '../../src/db/cells.ts';
import { CREATORS, compareTenures, compareTitles, nextTenure } from '../../src/db/tenure.ts';
import type { Tenure, Title } from '../../src/db/tenure.ts';
import { seededBytes } from '../support/replica.ts';

interface Version extends LocalStamp {
  readonly row: number;
  readonly tenure: Tenure;
  /** The row that it belongs to. */
  readonly parent: number | null;
  readonly isDead: boolean;
}

interface Transfer extends LocalStamp {
  readonly root: number;
  readonly device: number;
}

const order: Order = (hlcA, runA, hlcB, runB) => hlcA - hlcB || runA - runB;
const RUNS = 16;
/** A run belongs to the device that is its remainder. */
const deviceOf = (run: number): string => String(run % RUNS);
/** A row's maker, and its birth. */
interface Born extends LocalStamp {
  readonly device: number;
}

function compareVersions(a: Version, b: Version): number {
  const tenures = compareTenures(order, a.tenure, b.tenure);
  // A device does not write what it has deleted.
  return tenures || Number(a.isDead) - Number(b.isDead) || order(a.hlc, a.run, b.hlc, b.run);
}

class Device {
  readonly id: number;
  run: number;
  hlc = 0;
  readonly rows = new Map<number, Version>();
  readonly transfers: Transfer[] = [];
  readonly births: Map<number, Born>;

  constructor(id: number, births: Map<number, Born>) {
    this.id = id;
    this.run = id;
    this.births = births;
  }

  tick(now: number): LocalStamp {
    this.hlc = Math.max(this.hlc + 1, now);
    return { hlc: this.hlc, run: this.run };
  }

  rootOf(row: number): number {
    const parent = this.rows.get(row)?.parent ?? null;
    return parent === null ? row : this.rootOf(parent);
  }

  transferOf(root: number): Transfer | null {
    let last: Transfer | null = null;
    for (const transfer of this.transfers)
      if (transfer.root === root && (last === null || order(transfer.hlc, transfer.run, last.hlc, last.run) > 0))
        last = transfer;
    return last;
  }

  ownerOf(row: number): number {
    const root = this.rootOf(row);
    return this.transferOf(root)?.device ?? (this.births.get(root) as Born).device;
  }

  titleFor(row: number): Title | null {
    const root = this.rootOf(row);
    const transfer = this.transferOf(root);
    if (transfer !== null) return { ...transfer, isTransfer: true };
    const born = this.births.get(root) as Born;
    return this.births.get(row)?.device === this.id ? null : { ...born, isTransfer: false };
  }

  isUnder(row: number, title: LocalStamp | null): boolean {
    const root = this.rootOf(row);
    const born = this.births.get(root) as Born;
    if (title === null) return born.device === this.births.get(row)?.device;
    if (order(title.hlc, title.run, born.hlc, born.run) === 0) return true;
    return this.transfers.some((one) => one.root === root && order(title.hlc, title.run, one.hlc, one.run) === 0);
  }

  write(row: number, parent: number | null, isDead: boolean, now: number): Version {
    const before = this.rows.get(row) as Version;
    const tenure = nextTenure(
      order,
      before,
      this.titleFor(row),
      this.isUnder(row, before.tenure.title),
      this.run,
      deviceOf,
    );
    const version = { ...this.tick(now), row, tenure, parent, isDead };
    if (compareVersions(version, before) <= 0) throw new Error(`a write that is older than what it was written over`);
    this.rows.set(row, version);
    return version;
  }

  take(version: Version): void {
    this.hlc = Math.max(this.hlc, version.hlc);
    const here = this.rows.get(version.row);
    if (here === undefined || compareVersions(version, here) > 0) this.rows.set(version.row, version);
  }

  /** Everything that another device has at this moment. */
  hear(other: Device): void {
    for (const transfer of other.transfers) {
      this.hlc = Math.max(this.hlc, transfer.hlc);
      if (!this.transfers.some((one) => one.hlc === transfer.hlc && one.run === transfer.run))
        this.transfers.push(transfer);
    }
    for (const version of other.rows.values()) this.take(version);
  }
}

const ROOTS = 3;
const PLACES = 3;
const ROWS = 8;
const DEVICES = 4;

function play(seed: number, { moves, deletes }: { moves: boolean; deletes: boolean }): void {
  const bytes = seededBytes(seed);
  const below = (limit: number): number => ((bytes(1)[0] as number) * 256 + (bytes(1)[0] as number)) % limit;
  const births = new Map<number, Born>();
  const devices = Array.from({ length: DEVICES }, (_, i) => new Device(i, births));
  const skews = devices.map(() => below(200));
  let now = 1000;
  /** Every version that was ever written, of each row. */
  const written = new Map<number, Version[]>();
  const note = (version: Version): void =>
    void written.set(version.row, [...(written.get(version.row) ?? []), version]);
  const device = (): Device => devices[below(DEVICES)] as Device;
  for (let row = 0; row < ROWS; row += 1) {
    const maker = row < ROOTS ? (devices[row] as Device) : device();
    now += 1;
    const stamp = maker.tick(now + (skews[maker.id] ?? 0));
    births.set(row, { ...stamp, device: maker.id });
    const own = [...maker.rows.keys()].filter((one) => one < row && maker.ownerOf(one) === maker.id);
    const parent = row < ROOTS ? null : (own[below(own.length + 1)] ?? null);
    // Who owns nothing makes a root; places are made before what lies in them.
    const isPlace = row < ROOTS + PLACES;
    const under = parent !== null && (isPlace ? parent < ROOTS : true) ? parent : null;
    const given = under === null ? null : maker.transferOf(maker.rootOf(under));
    const title = given === null ? null : { ...given, isTransfer: true };
    const version = { ...stamp, row, tenure: { ...CREATORS, title }, parent: under, isDead: false };
    maker.rows.set(row, version);
    note(version);
    for (const other of devices) if (below(2) === 0) other.hear(maker);
    if (row >= ROOTS && below(4) === 0) {
      now += 1;
      const giver = device();
      const root = below(ROOTS);
      if (giver.rows.has(root))
        giver.transfers.push({ ...giver.tick(now + (skews[giver.id] ?? 0)), root, device: below(DEVICES) });
    }
  }
  for (let step = 0; step < 80; step += 1) {
    now += below(20);
    const one = device();
    const at = now + (skews[one.id] ?? 0);
    const dice = below(100);
    if (dice < 30) one.hear(device());
    else if (dice < 40) {
      // Single versions overtake others.
      const versions = [...device().rows.values()];
      const version = versions[below(versions.length + 1)];
      if (version !== undefined && one.rows.has(version.parent ?? version.row) && knowsTitle(one, version, births))
        one.take(version);
    } else if (dice < 50) {
      const roots = [...one.rows.values()].filter(({ parent }) => parent === null);
      const root = roots[below(roots.length + 1)];
      if (root !== undefined)
        one.transfers.push({ ...one.tick(at), root: one.rootOf(root.row), device: below(DEVICES) });
    } else if (dice < 53) one.run += RUNS;
    else {
      const own = [...one.rows.values()].filter(({ row, isDead }) => !isDead && one.ownerOf(row) === one.id);
      const version = own[below(own.length + 1)];
      if (version === undefined) continue;
      const places = [...one.rows.keys()].filter(
        (row) => row < (version.row < ROOTS + PLACES ? ROOTS : ROOTS + PLACES),
      );
      const isMove = moves && version.parent !== null && below(3) === 0;
      const isDead = deletes && version.row >= ROOTS + PLACES && below(8) === 0;
      const parent = isMove ? (places[below(places.length)] as number) : version.parent;
      note(one.write(version.row, parent, isDead, at));
    }
  }
  const quiet = (): void => {
    for (let round = 0; round < 3; round += 1) for (const to of devices) for (const from of devices) to.hear(from);
  };
  quiet();
  const ends = devices.map((one) => JSON.stringify([...one.rows].toSorted(([a], [b]) => a - b)));
  for (const end of ends) expect(end).toBe(ends[0]);
  if (!moves) {
    // A row that never leaves its root: the last title under which it was ever written decides, whatever the clocks say.
    for (const [row, versions] of written) {
      const titles = versions.map(({ tenure }) => tenure.title);
      const last = titles.reduce((a, b) => (compareTitles(order, a, b) < 0 ? b : a));
      expect((devices[0] as Device).rows.get(row)?.tenure.title).toEqual(last);
    }
  }
  // Whoever owns a row now can write it, and that is what all have then.
  for (const row of [...births.keys()].filter((one) => devices[0]?.rows.get(one)?.isDead !== true)) {
    const [any] = devices as [Device];
    const owner = devices[any.ownerOf(row)] as Device;
    const version = owner.write(row, owner.rows.get(row)?.parent ?? null, false, 0);
    quiet();
    for (const one of devices) expect(one.rows.get(row)).toEqual(version);
  }
}

/** Versions under a title that is not known yet wait. */
function knowsTitle(device: Device, { tenure: { title } }: Version, births: Map<number, Born>): boolean {
  if (title === null) return true;
  const isBirth = [...births.values()].some((born) => order(born.hlc, born.run, title.hlc, title.run) === 0);
  return isBirth || device.transfers.some((one) => order(one.hlc, one.run, title.hlc, title.run) === 0);
}

describe('ownership, in a model', () => {
  for (const moves of [false, true])
    for (const deletes of [false, true])
      it(`[O4] ends the same everywhere, and shuts nobody out (moves: ${moves}, deletes: ${deletes})`, () => {
        for (let seed = 1; seed <= 300; seed += 1) {
          try {
            play(seed, { moves, deletes });
          } catch (error) {
            throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
          }
        }
      });
});
