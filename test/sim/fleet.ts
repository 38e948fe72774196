/**
 * One seed: a fleet of whole nodes lives through days in virtual time, with programs that write and everything that happens to
 * devices and networks; at quiet points all that was promised is checked.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { NodeEvent } from '../../src/api.ts';
import { bytesToHex } from '../../src/protocol/uuid.ts';
import type { Frame } from '../../src/protocol/types.ts';
import { Chance } from '../support/chance.ts';
import { FLEET_CONFIG, FLEET_DDL, ROWS, rowsOf } from '../support/fleet-library.ts';
import type { Rows } from '../support/fleet-library.ts';
import { FleetModel } from '../support/fleet-model.ts';
import { FleetWriter, runProgram } from '../support/fleet-writer.ts';
import { checkFile, checkHeard, compare, requireUnknown } from './checks.ts';
import { SimDevice } from './device.ts';
import { SimError } from './fault.ts';
import type { Fault } from './fault.ts';
import { Files } from './files.ts';
import type { Mutant } from './mutants.ts';
import { knowledgeOf } from './mutants.ts';
import { SimNetwork } from './network.ts';
import { VirtualTime } from './time.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Days of silence after which the fleet forgets deletes without a device. */
const RETENTION_DAYS = 7;
/** Clocks are wrong by so much at most, ms. */
const MAX_SKEW = MINUTE;
/** A fleet at which nothing happens any more is at rest within this time, virtual ms. */
const REST = 2 * HOUR;
/** What a library may need beside rows when all have ACKed, bytes. */
const MAX_COORDINATION = 1024 * 1024;
/** What makes a snapshot several chunks long, so that one may break off in its middle. */
const PADS_DDL = `CREATE TABLE pads (id INTEGER PRIMARY KEY, content BLOB NOT NULL)`;
const PADS = `INSERT INTO pads VALUES (1, zeroblob(130000)), (2, zeroblob(130000)), (3, zeroblob(130000)), (4, zeroblob(130000))`;

export interface SimOptions {
  /** How many devices there are in the end. */
  readonly nodes: number;
  /** Rounds of trouble, each with a quiet point at its end. @default 3 */
  readonly rounds?: number;
  /** Virtual minutes of trouble in a round. @default 6 */
  readonly minutes?: number;
  readonly mutant?: Mutant | null;
}

export interface SimResult {
  readonly virtualHours: number;
  /** Programs that wrote. */
  readonly operations: number;
  /** Events of the simulation, and what went over the network. */
  readonly events: number;
  readonly frames: number;
  readonly bytes: number;
  /** All that happened: two plays of a seed have the same. */
  readonly trace: readonly string[];
}

/** Apart from the chances of the stories. */
const SNAPSHOT_SEEDS = 1_000_003;

/** Plays one seed to its end. @throws SimError with the whole story */
export async function playSim(seed: number, options: SimOptions): Promise<SimResult> {
  const fleet = new Fleet(seed, options);
  try {
    await fleet.play();
    return fleet.result();
  } catch (error) {
    const fault = error instanceof SimError ? error.fault : 'violation';
    const why = error instanceof SimError ? error.message : String(error instanceof Error ? error.stack : error);
    throw new SimError(fault, `${fleet.trace.join('\n')}\nsim seed ${seed}: ${why}`);
  } finally {
    fleet.close();
  }
}

class Fleet {
  readonly trace: string[] = [];
  readonly #chance: Chance;
  readonly #time = new VirtualTime(Date.UTC(2026, 0, 1));
  readonly #start = this.#time.now;
  readonly #network: SimNetwork;
  readonly #devices: SimDevice[];
  readonly #writer: FleetWriter;
  readonly #model = new FleetModel();
  readonly #rounds: number;
  readonly #minutes: number;
  #operations = 0;
  /** What else happens in this story. Devices that go back in time, or leave, take with them what only they knew. */
  readonly #kind: 'plain' | 'restores' | 'parting';
  /** Where snapshots lie, if newcomers take them in this story. */
  readonly #folder: string | null;
  #hasRestored = false;
  readonly #backups = new Map<SimDevice, Buffer[]>();
  /** What a device knew before it was restored: others may go on believing that it does. Device → run → hlc. */
  readonly #once = new Map<string, Map<string, number>>();
  readonly #files = new Files();
  /** The first thing that went wrong outside of our own calls. */
  #fault: SimError | null = null;

  constructor(seed: number, { nodes, rounds = 3, minutes = 6, mutant = null }: SimOptions) {
    this.#chance = new Chance(seed);
    this.#kind = this.#chance.pick(['plain', 'restores', 'parting']);
    const hasSnapshots = new Chance(seed + SNAPSHOT_SEEDS).happens(0.3);
    this.#folder = hasSnapshots ? mkdtempSync(join(tmpdir(), 'flotilla-sim-')) : null;
    this.#rounds = rounds;
    this.#minutes = minutes;
    this.#network = new SimNetwork(this.#time, this.#chance, (from, to, frame) => this.#sent(from, to, frame));
    this.#writer = new FleetWriter(this.#chance);
    const everybody = this.#chance.shuffled(Array.from({ length: nodes }, (_, i) => `device-${i}`));
    this.#devices = everybody.map(
      (name, i) =>
        new SimDevice({
          name,
          seed: seed * 64 + i,
          chance: this.#chance,
          network: this.#network,
          folder: this.#folder,
          everybody,
          mutant,
          peer: (other) => this.#device(other),
          onEvent: (event) => this.#heard(name, event),
          onFault: (what) => this.#fail('violation', what),
        }),
    );
  }

  result(): SimResult {
    const { frames, bytes } = this.#network;
    const virtualHours = (this.#time.now - this.#start) / HOUR;
    return { virtualHours, operations: this.#operations, events: this.#time.events, frames, bytes, trace: this.trace };
  }

  close(): void {
    for (const device of this.#devices) device.close();
    if (this.#folder !== null) rmSync(this.#folder, { recursive: true, force: true });
  }

  async play(): Promise<void> {
    const founder = this.#devices[0] as SimDevice;
    founder.found(this.#folder === null ? FLEET_DDL : `${FLEET_DDL} ${PADS_DDL}`, {
      ...FLEET_CONFIG,
      retentionDays: RETENTION_DAYS,
    });
    if (this.#folder !== null) founder.write(PADS);
    founder.start();
    await this.#run(SECOND);
    for (let round = 0; round < this.#rounds; round += 1) {
      await this.#trouble();
      if (this.#chance.happens(0.6)) await this.#absence();
      await this.#rest(round === this.#rounds - 1);
    }
  }

  // -- what happens

  async #trouble(): Promise<void> {
    this.#tell('-- trouble');
    const end = this.#time.now + this.#minutes * MINUTE;
    while (this.#time.now < end) {
      await this.#run(this.#chance.happens(0.5) ? this.#chance.below(300) : this.#chance.below(6 * SECOND));
      await this.#happen();
      this.#checkHeard();
    }
  }

  async #happen(): Promise<void> {
    const act = this.#chance.weighted<() => void | Promise<void>>([
      [60, () => this.#program()],
      [6, () => this.#crash()],
      [12, () => this.#restart()],
      [3, () => this.#stop()],
      [6, () => this.#cut()],
      [4, () => this.#hole()],
      [2, () => this.#wall()],
      [3, () => this.#partition()],
      [4, () => this.#slow()],
      [5, () => this.#heal()],
      [2, () => this.#skew()],
      [5, () => this.#join()],
      [this.#kind === 'restores' ? 5 : 0, () => this.#backup()],
      [this.#kind === 'restores' ? 3 : 0, () => this.#restore()],
      [this.#kind === 'parting' ? 2 : 0, () => this.#part()],
    ]);
    await act();
  }

  #program(): void {
    const device = this.#chance.pick(this.#joined());
    if (device.isHeld) return;
    const statements = this.#writer.program(device);
    const refused = runProgram(device, statements, this.#model, () => this.#rowsOf(device));
    this.#operations += 1;
    this.#tell(`${device.name}: ${statements.join('; ')}${refused === '' ? '' : ` (refused: ${refused})`}`);
  }

  #crash(): void {
    const device = this.#chance.pick(this.#joined());
    if (!device.isOn) return;
    this.#tell(`${device.name}: crashes`);
    device.crash();
    checkFile(device);
  }

  #restart(): void {
    const off = this.#joined().filter(({ isOn }) => !isOn);
    if (off.length === 0) return;
    const device = this.#chance.pick(off);
    this.#tell(`${device.name}: starts`);
    device.start();
  }

  async #stop(): Promise<void> {
    const device = this.#chance.pick(this.#joined());
    if (device.node === null) return;
    this.#tell(`${device.name}: stops`);
    await this.#until(device.stop(), 5 * MINUTE, `the stop of ${device.name}`);
  }

  #cut(): void {
    const [a, b] = this.#pair();
    this.#tell(`${a} and ${b}: the connection breaks`);
    this.#network.cut(a, b, 3 * SECOND);
  }

  #hole(): void {
    const [a, b] = this.#pair();
    this.#tell(`${a} to ${b}: nothing arrives`);
    this.#network.hole(a, b);
  }

  #wall(): void {
    const [a, b] = this.#pair();
    this.#tell(`${a} to ${b}: cannot dial`);
    this.#network.wall(a, b);
  }

  #partition(): void {
    const names = this.#chance.shuffled(this.#devices.map(({ name }) => name));
    const first = names.slice(0, 1 + this.#chance.below(names.length - 1));
    this.#tell(`the network falls apart: ${first.join(', ')} and the others`);
    for (const a of first)
      for (const b of names) {
        if (first.includes(b)) continue;
        this.#network.hole(a, b);
        this.#network.hole(b, a);
      }
  }

  #slow(): void {
    const [a, b] = this.#pair();
    const speed = { latency: this.#chance.between(20, 3_000), bandwidth: this.#chance.pick([0.2, 2, 20]) };
    this.#tell(`${a} and ${b}: ${speed.latency} ms, ${speed.bandwidth} kB/s`);
    this.#network.slow(a, b, speed);
  }

  #heal(): void {
    this.#tell('the network heals');
    this.#network.heal();
  }

  #skew(): void {
    const device = this.#chance.pick(this.#joined());
    device.skew = this.#chance.between(-MAX_SKEW, MAX_SKEW);
    this.#tell(`${device.name}: its clock is wrong by ${device.skew} ms`);
  }

  /** A device that runs lets a new one in. */
  async #join(): Promise<void> {
    const next = this.#devices.find(({ isJoined }) => !isJoined);
    const inviters = this.#joined().filter(({ node }) => node !== null);
    if (next === undefined || inviters.length === 0) return;
    const inviter = this.#chance.pick(inviters);
    this.#tell(`${inviter.name} lets ${next.name} in`);
    const { store } = inviter.node as NonNullable<SimDevice['node']>;
    const granting = store.admit(next.name, next.name).then(() => store.joinGrant());
    next.join(await this.#until(granting, MINUTE, 'the invitation'));
    // A device that forgot whom it alone let in would leave that one alone.
    this.#backups.clear();
    next.start();
    if (this.#folder !== null) await this.#disturb(next);
  }

  /** A newcomer that takes a snapshot is slow, and something happens to it or to whoever may give it. */
  async #disturb(newcomer: SimDevice): Promise<void> {
    const others = this.#joined().filter((device) => device !== newcomer);
    const speed = { latency: this.#chance.below(300), bandwidth: this.#chance.pick([100, 1_000]) };
    for (const { name } of others) this.#network.slow(newcomer.name, name, speed);
    await this.#run(this.#chance.below(6 * SECOND));
    const [other] = this.#chance.shuffled(others.filter(({ isOn }) => isOn));
    const victim = this.#chance.pick([newcomer, newcomer, other, null]);
    if (this.#chance.happens(0.3) && other !== undefined) {
      this.#tell(`${newcomer.name} and ${other.name}: the connection breaks`);
      this.#network.cut(newcomer.name, other.name, SECOND);
    } else if (victim !== null && victim?.isOn === true) {
      this.#tell(`${victim.name}: crashes, and starts again`);
      victim.crash();
      checkFile(victim);
      await this.#run(this.#chance.below(5 * SECOND));
      victim.start();
    }
  }

  #backup(): void {
    const device = this.#chance.pick(this.#joined());
    this.#tell(`${device.name}: is backed up`);
    this.#backups.set(device, [...(this.#backups.get(device) ?? []), device.backup()]);
  }

  #restore(): void {
    const device = this.#chance.pick(this.#joined());
    const backups = this.#backups.get(device) ?? [];
    if (backups.length === 0) return;
    this.#tell(`${device.name}: is restored from an older backup`);
    if (device.isOn) device.crash();
    const known = knowledgeOf(device.file());
    const once = this.#once.get(device.name) ?? new Map<string, number>();
    for (const [run, hlc] of known) once.set(run, Math.max(hlc, once.get(run) ?? 0));
    this.#once.set(device.name, once);
    device.restore(this.#chance.pick(backups));
    this.#hasRestored = true;
    checkFile(device);
    // What nobody else had is gone.
    const left = new Set(this.#joined().flatMap((other) => [...this.#rowsOf(other).keys()]));
    this.#model.forget([...this.#model.written].filter((name) => !left.has(name)));
  }

  /** A device is removed by another one, or leaves; once in a story. */
  async #part(): Promise<void> {
    const joined = this.#joined();
    if (joined.length < 4 || this.#devices.some(({ isOut }) => isOut)) return;
    const [by, device] = this.#chance.shuffled(joined.filter(({ node }) => node !== null));
    if (by?.node === undefined || device === undefined) return;
    // Whom only it has let in, unknown to the others, would have to go with it.
    const count = 'SELECT count(*) FROM flotilla_members WHERE revoked_at IS NULL';
    if (joined.some((other) => Number(other.rows(count)[0]?.[0]) < joined.length)) return;
    device.isOut = true;
    if (this.#chance.happens(0.5)) {
      this.#tell(`${device.name}: leaves`);
      const report = await this.#until(
        device.node?.leave() ?? Promise.reject(new Error('gone')),
        MINUTE,
        'the farewell',
      );
      this.#tell(`${device.name}: has told ${report.told.map(({ device: peer }) => peer).join(', ') || 'nobody'}`);
      await this.#until(device.stop(), 5 * MINUTE, `the stop of ${device.name}`);
      if (report.told.length > 0) return;
    }
    this.#tell(`${by.name}: removes ${device.name}`);
    await this.#until(by.node?.store.revoke(device.name) ?? Promise.reject(new Error('gone')), MINUTE, 'the removal');
  }

  /** Some device is away for weeks, most of which the others sleep through as well. */
  async #absence(): Promise<void> {
    const joined = this.#joined();
    if (joined.length < 3) return;
    const away = this.#chance.pick(joined);
    this.#heal();
    if (away.node !== null) await this.#until(away.stop(), 5 * MINUTE, `the stop of ${away.name}`);
    else if (away.isOn) away.crash();
    const days = this.#chance.pick([2, 9, 20]);
    this.#tell(`${away.name} goes away for ${days} days`);
    for (const device of joined) if (!device.isOn && device !== away) device.start();
    for (let day = 0; day < days; day += 1) {
      this.#time.leap(DAY - HOUR + this.#chance.below(2 * HOUR));
      await this.#run(MINUTE);
      for (let n = this.#chance.below(4); n > 0; n -= 1) this.#program();
      await this.#run(30 * SECOND);
    }
    this.#tell(`${away.name} comes back`);
    if (!away.isOn) away.start();
  }

  // -- rest

  async #rest(isLast: boolean): Promise<void> {
    this.#tell('-- rest');
    this.#heal();
    while (isLast && this.#devices.some(({ isJoined }) => !isJoined)) {
      await this.#join();
      if (!this.#joined().some(({ isOn }) => isOn)) this.#restart();
      await this.#run(10 * SECOND);
    }
    for (const device of this.#joined()) {
      device.skew = 0;
      if (!device.isOn) device.start();
    }
    await this.#comeToRest();
    if (await this.#takeOver()) await this.#comeToRest();
    await compare(this.#joined());
    this.#checkHeard();
    await this.#checkCoordination();
    this.#judge();
  }

  async #comeToRest(): Promise<void> {
    const end = this.#time.now + REST;
    let before = '';
    for (;;) {
      await this.#run(2 * MINUTE);
      const now = this.#heads();
      if (now === before && this.#isInSync()) return;
      before = now;
      if (this.#time.now > end)
        throw new SimError('diverged', `the fleet does not come to rest:\n${this.#states().join('\n')}`);
    }
  }

  /**
   * What a delete means for the rows of a device that has left waits for whoever takes them over (O9), which is for people to do. Where
   * something waits they do it here.
   */
  async #takeOver(): Promise<boolean> {
    const joined = this.#joined();
    if (!joined.some((device) => device.rows('SELECT 1 FROM flotilla_pending').length > 0)) return false;
    const taken = new Set<string>();
    for (const { name } of this.#devices.filter(({ isOut }) => isOut)) {
      for (const device of joined) {
        for (const [n, table] of device.rows(
          "SELECT n, name FROM flotilla_tables WHERE name IN ('volumes', 'files')",
        )) {
          const left = device.rows(
            `SELECT lower(hex(m.uuid)) FROM flotilla_rows_${String(n)} m JOIN flotilla_runs r ON r.run = m.birth_run
             WHERE r.device = ? AND NOT EXISTS (SELECT 1 FROM flotilla_transfers t WHERE t.root = m.uuid)`,
            name,
          );
          for (const key of left.map(([uuid]) => String(uuid)).filter((uuid) => !taken.has(uuid))) {
            taken.add(key);
            const own = device.node?.store.own({ table: String(table), key, device: null });
            await this.#until(own ?? Promise.reject(new Error('gone')), MINUTE, 'the transfer');
          }
        }
      }
    }
    if (taken.size > 0) this.#tell(`${taken.size} rows of who has left are taken over`);
    return taken.size > 0;
  }

  #heads(): string {
    return this.#joined()
      .map((device) => JSON.stringify(device.rows('SELECT head FROM flotilla_clock')))
      .join();
  }

  #isInSync(): boolean {
    const joined = this.#joined();
    return joined.every(({ node }) => {
      const peers = node?.peers() ?? [];
      return (
        peers.length === joined.length - 1 &&
        peers.every(({ state, inSync }) => state === 'idle' || (state === 'live' && inSync))
      );
    });
  }

  #states(): string[] {
    return this.#joined().map(({ name, node }) => {
      const peers = node
        ?.peers()
        .map((peer) => `${peer.device} ${peer.state}${peer.inSync ? '' : ' behind'} ${peer.reason}`);
      return `${name}: ${peers?.join(', ') ?? 'no node'}`;
    });
  }

  #judge(): void {
    const rows = this.#rowsOf(this.#joined()[0] as SimDevice);
    const parted = this.#devices.filter(({ isOut }) => isOut);
    for (const device of parted) this.#model.forget([...this.#rowsOf(device).keys()].filter((name) => !rows.has(name)));
    try {
      this.#model.judge(rows, { hasRestored: this.#hasRestored, hasParted: parted.length > 0 });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      throw new SimError(message.startsWith('lost') ? 'lost' : 'resurrected', message);
    }
  }

  // -- what must hold at any moment

  /** Whatever a device says that it has, its file has. */
  #sent(from: string, to: string, frame: Frame): void {
    if (frame.type !== 'ack') return;
    const file = this.#device(from).file();
    const [cursor] = file.rows('SELECT position, head, run FROM flotilla_cursors WHERE peer = ?', to);
    const { position, head, run } = frame.cursor;
    if (cursor === undefined || cursor[2] !== run || Number(cursor[0]) < position || Number(cursor[1]) < head)
      this.#fail(
        'violation',
        `${from} ACKs ${position} of ${head} to ${to}, and its file has ${JSON.stringify(cursor)}`,
      );
    const known = knowledgeOf(file);
    frame.knowledge.hlc.forEach((hlc, i) => {
      const hex = bytesToHex(frame.knowledge.runs.subarray(i * 16, i * 16 + 16));
      if ((known.get(hex) ?? -1) < hlc)
        this.#fail(
          'violation',
          `${from} says to ${to} that it knows ${hex} up to ${hlc}, and its file ${known.get(hex)}`,
        );
    });
  }

  #checkHeard(): void {
    const all = this.#devices.filter(({ isJoined }) => isJoined);
    checkHeard(all, this.#joined(), this.#files, this.#once);
  }

  async #checkCoordination(): Promise<void> {
    for (const device of this.#joined()) {
      const { node, name } = device;
      if (node === null) throw new SimError('violation', `${name} has ended`);
      const { coordinationBytes, tombstones } = await this.#until(node.store.status(), MINUTE, 'the status');
      if (coordinationBytes > MAX_COORDINATION)
        throw new SimError('violation', `${name} needs ${coordinationBytes} bytes beside its rows`);
      if (tombstones > 0) requireUnknown(device, tombstones, this.#joined(), this.#files, this.#hasRestored);
    }
  }

  /** Honest devices that run the same program have nothing to reproach each other with. */
  #heard(name: string, event: NodeEvent): void {
    if (event.event === 'peer' && event.reason !== '')
      this.#tell(`${name}: ${event.device} ${event.state}: ${event.reason}`);
    if (event.event === 'notice') this.#tell(`${name}: ${event.message}`);
    if (event.event === 'peer' && (event.code === 'PROTOCOL' || event.code === 'DATABASE'))
      this.#fail('violation', `${name} with ${event.device}: ${event.code}: ${event.reason}`);
  }

  // -- helpers

  async #run(ms: number): Promise<void> {
    await this.#time.run(ms);
    if (this.#fault !== null) throw this.#fault;
  }

  async #until<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
    const result = await this.#time.until(promise, ms, what);
    if (this.#fault !== null) throw this.#fault;
    return result;
  }

  #fail(fault: Fault, message: string): void {
    this.#fault ??= new SimError(fault, message);
  }

  #joined(): SimDevice[] {
    return this.#devices.filter(({ isJoined, isOut }) => isJoined && !isOut);
  }

  #device(name: string): SimDevice {
    return this.#devices.find((device) => device.name === name) as SimDevice;
  }

  #pair(): [string, string] {
    const [a, b] = this.#chance.shuffled(this.#devices.map(({ name }) => name));
    return [a as string, b as string];
  }

  #rowsOf(device: SimDevice): Rows {
    return rowsOf(device, ROWS);
  }

  #tell(what: string): void {
    this.trace.push(`${((this.#time.now - this.#start) / SECOND).toFixed(3)} ${what}`);
  }
}
