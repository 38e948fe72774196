/**
 * A device of the simulated fleet: its library in memory, and the node that serves it while its process lives. All of the node is
 * real but the threads, the network and time.
 */
import { join } from 'node:path';

import Sqlite from 'better-sqlite3';
import type { Database, Statement } from 'better-sqlite3';

import { openDatabase } from '../../src/actors/database.ts';
import { startNode } from '../../src/actors/node-runtime.ts';
import type { RunningNode } from '../../src/actors/node-runtime.ts';
import type { NodeEvent } from '../../src/api.ts';
import type { JoinGrant } from '../../src/db/api.ts';
import { parseConfig } from '../../src/db/config.ts';
import type { Surroundings } from '../../src/db/library.ts';
import { writeFounder } from '../../src/db/members.ts';
import { buildFromGrant, createLibrary } from '../../src/db/setup.ts';
import { libraryIdOf } from '../../src/protocol/membership.ts';
import { makeUuidV7Generator } from '../../src/protocol/uuid.ts';
import type { Chance } from '../support/chance.ts';
import type { Written } from '../support/fleet-writer.ts';
import { seededBytes } from '../support/replica.ts';
import { pretendedSeal } from '../support/surroundings.ts';
import type { Mutant } from './mutants.ts';
import { mutating } from './mutants.ts';
import type { SimNetwork } from './network.ts';
import { SimThread } from './thread.ts';
import { DeviceClock } from './time.ts';

/** Rows a batch: few, so that passes have many pages. */
const BATCH_ROWS = [1, 5, 20, 100] as const;
/** How long it takes at most until the node learns that a program has written, ms. */
const LOOK_MS = 250;
const SALT = '5a'.repeat(16);
/** 1970 in Julian days. */
const EPOCH = 2_440_587.5;
const DAY_MS = 86_400_000;

export interface DeviceOptions {
  readonly name: string;
  readonly seed: number;
  readonly chance: Chance;
  readonly network: SimNetwork;
  /** Where devices keep files beside their libraries; null for nowhere: then nobody gives a snapshot. */
  readonly folder: string | null;
  /** Peer ids of all devices that there may ever be. */
  readonly everybody: readonly string[];
  readonly mutant: Mutant | null;
  /** Another device by its name. */
  readonly peer: (name: string) => SimDevice;
  readonly onEvent: (event: NodeEvent) => void;
  /** Something went wrong that must not. */
  readonly onFault: (what: string) => void;
}

export class SimDevice implements Written {
  readonly name: string;
  readonly #options: DeviceOptions;
  readonly #around: Surroundings;
  #db: Database;
  /** What was asked of it, prepared; and how often it was opened. */
  readonly #statements = new Map<string, Statement<unknown[]>>();
  #files = 0;
  #clock: DeviceClock;
  #writer: SimThread | null = null;
  #reader: SimThread | null = null;
  #process: { held: boolean } | null = null;
  /** Fails after the process has gone, since nothing of it may matter any more. */
  #incarnation = 0;
  node: RunningNode | null = null;
  isJoined = false;
  /** It was removed, or has left. */
  isOut = false;
  /** From its start to its end, node or not. */
  isOn = false;
  /** ms by which its clock is wrong. */
  skew = 0;
  /** What a crash would leave, where that is not what stands in memory: for a build that ACKs too early. */
  unsynced: Buffer | null = null;

  constructor(options: DeviceOptions) {
    const { name, seed, network } = options;
    this.name = name;
    this.#options = options;
    this.#db = this.#open();
    this.#clock = new DeviceClock(network.time, () => this.skew);
    const randomBytes = seededBytes(seed);
    const newUuid = makeUuidV7Generator(randomBytes);
    const now = (): number => this.#clock.now();
    this.#around = { device: name, seal: pretendedSeal(name), now, randomBytes, newUuid: () => newUuid(now()) };
  }

  get db(): Database {
    return this.#db;
  }

  /** Programs have to wait. */
  get isHeld(): boolean {
    return this.#process?.held ?? false;
  }

  // -- how it gets its library

  found(ddl: string, config: object): void {
    this.#db.exec(ddl);
    const given = parseConfig(JSON.stringify(config), 'the simulation');
    const create = (): void => {
      const library = createLibrary(this.#db, this.#around, libraryIdOf(this.name, SALT), given);
      library.transact(() => writeFounder(library, this.name, SALT));
    };
    this.#db.transaction(create).immediate();
    this.isJoined = true;
  }

  join(grant: JoinGrant): void {
    const options = { file: 'library', name: this.name, around: this.#around };
    this.#db.transaction(() => buildFromGrant(this.#db, options, { grant, existing: 'empty' })).immediate();
    this.isJoined = true;
  }

  // -- its node

  start(): void {
    const { name, chance, network, folder, everybody, mutant, peer: peerOf } = this.#options;
    const clock = new DeviceClock(network.time, () => this.skew);
    this.#clock = clock;
    this.isOn = true;
    const incarnation = (this.#incarnation += 1);
    const process = {
      db: this.#db,
      clock,
      chance,
      around: this.#around,
      beside: folder === null ? null : join(folder, name),
      held: false,
      mutate: mutating(mutant, this, peerOf, network.time),
    };
    this.#process = process;
    const fault = (what: string): void => {
      if (incarnation === this.#incarnation) this.#options.onFault(`${name}: ${what}`);
    };
    const starting = startNode({
      device: name,
      name,
      batchRows: chance.pick(BATCH_ROWS),
      snapshotRows: 1,
      clock,
      random: () => chance.number(),
      network: () => '',
      known: new Map(everybody.filter((peer) => peer !== name).map((peer) => [peer, [`/sim/${peer}`]])),
      openStore: (onFailed) =>
        openDatabase({
          file: 'library',
          device: name,
          name,
          durability: 'full',
          key: null,
          clock,
          onFailed: (error) => {
            fault(`the database failed: ${error.message}`);
            onFailed(error);
          },
          onFault: (error) => fault(error.message),
          worker: (spec) => {
            const thread = new SimThread(process, spec);
            if (spec.role === 'write') this.#writer = thread;
            else this.#reader = thread;
            return thread;
          },
        }),
      openHost: async (allowed) => network.createHost(name, allowed),
      createDiscovery: null,
      serve: async () => async () => undefined,
      remember: () => undefined,
      emit: (event) => {
        if (incarnation === this.#incarnation) this.#options.onEvent(event);
      },
    });
    starting.then(
      (node) => {
        if (incarnation === this.#incarnation) this.node = node;
      },
      (error: unknown) => fault(`it could not start: ${String(error)}`),
    );
  }

  /** What a backup takes. */
  backup(): Buffer {
    return this.#db.serialize();
  }

  /** Its library is that of an older backup from now on; no node may run. */
  restore(backup: Buffer): void {
    this.#db.close();
    this.#db = this.#open(backup);
  }

  /** The node ends in good order. */
  async stop(): Promise<void> {
    await this.node?.stop();
    this.#gone();
  }

  /** Its process is gone between two turns; what was committed stays. */
  crash(): void {
    if (this.#db.inTransaction) this.#options.onFault(`${this.name}: a transaction was open between two turns`);
    this.#options.network.crash(this.name);
    this.#gone();
  }

  #gone(): void {
    this.#clock.die();
    this.#incarnation += 1;
    this.#clock = new DeviceClock(this.#options.network.time, () => this.skew);
    this.node = null;
    this.#writer = null;
    this.#reader?.die();
    this.#reader = null;
    this.#process = null;
    this.isOn = false;
    const file = this.unsynced ?? this.#db.serialize();
    this.unsynced = null;
    this.#db.close();
    this.#db = this.#open(file);
  }

  #open(file?: Buffer): Database {
    this.#statements.clear();
    this.#files += 1;
    const db = new Sqlite(file ?? ':memory:');
    db.pragma('foreign_keys = ON');
    // Our triggers ask for the time by this name.
    db.function('julianday', (_when) => EPOCH + this.#clock.now() / DAY_MS);
    return db;
  }

  // -- programs

  write(sql: string): void {
    this.#db.exec(sql);
    const writer = this.#writer;
    if (writer !== null) this.#clock.setTimeout(() => writer.look(), this.#options.chance.below(LOOK_MS));
  }

  rows(sql: string, ...params: unknown[]): unknown[][] {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, (statement = this.#db.prepare<unknown[]>(sql).raw()));
    return statement.all(...params) as unknown[][];
  }

  /** Another number whenever the file may have changed. */
  get state(): string {
    return `${this.#files} ${String(this.rows('SELECT total_changes()')[0]?.[0])}`;
  }

  /** What a crash would leave now. */
  file(): { rows(sql: string, ...params: unknown[]): unknown[][] } {
    const { unsynced } = this;
    if (unsynced === null) return this;
    return {
      rows(sql, ...params) {
        const db = new Sqlite(unsynced);
        try {
          return db
            .prepare(sql)
            .raw()
            .all(...params) as unknown[][];
        } finally {
          db.close();
        }
      },
    };
  }

  close(): void {
    this.#reader?.die();
    this.#clock.die();
    this.#incarnation += 1;
    this.#db.close();
  }
}
