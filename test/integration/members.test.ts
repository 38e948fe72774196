/** Who belongs to a library, with real nodes over loopback: from the first invitation to the last member that leaves. */
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { afterAll, describe, expect, it } from 'vitest';

import {
  createInvitation,
  initLibrary,
  joinLibrary,
  leaveLibrary,
  listDevices,
  openNode,
  readStatus,
  revokeDevice,
} from '../../src/index.ts';
import type { DeviceInfo, FlotillaNode, NodeEvent, PeerState } from '../../src/index.ts';
import { openHome } from '../../src/net/home.ts';
import { createHost } from '../../src/net/host.ts';

const folders: string[] = [];
const running = new Set<Machine>();
afterAll(async () => {
  await Promise.all([...running].map((machine) => machine.down()));
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** One device: a library in a folder of its own, and its node when it runs. */
class Machine {
  readonly name: string;
  readonly library: string;
  readonly events: NodeEvent[] = [];
  #node: FlotillaNode | null = null;

  constructor(name: string, folder: string) {
    this.name = name;
    this.library = join(folder, `${name}.db`);
  }

  get node(): FlotillaNode {
    if (this.#node === null) throw new Error(`${this.name} is not up`);
    return this.#node;
  }

  /** @param peers - machines whose addresses it is told */
  async up(...peers: Machine[]): Promise<void> {
    const addresses = peers.flatMap((peer) => peer.node.addresses());
    const options = { library: this.library, localOnly: true, discovery: false, peers: addresses };
    this.#node = await openNode(options);
    this.#node.onEvent((event) => this.events.push(event));
    running.add(this);
  }

  async down(): Promise<void> {
    running.delete(this);
    await this.#node?.stop();
    this.#node = null;
  }

  /** Lets another one in, which takes the file that it has, if it has one. Returns the invitation. */
  async invite(other: Machine): Promise<string> {
    const { text } = await createInvitation(this.library, { localOnly: true });
    await joinLibrary(text, other.library, { name: other.name, localOnly: true });
    return text;
  }

  write(body: string): void {
    const db = new Sqlite(this.library);
    db.prepare('INSERT INTO notes (body) VALUES (?)').run(body);
    db.close();
  }

  notes(): unknown[] {
    const db = new Sqlite(this.library, { readonly: true });
    try {
      return db.prepare('SELECT body FROM notes ORDER BY body').pluck().all();
    } finally {
      db.close();
    }
  }

  /** Resolves when the condition holds; looked at on every event of the node. */
  async until(condition: () => boolean | Promise<boolean>): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        Promise.resolve(condition()).then((holds) => {
          if (!holds) return;
          stop();
          resolve();
        }, reject);
      };
      const stop = this.node.onEvent(look);
      look();
    });
  }

  async has(...notes: string[]): Promise<void> {
    await this.until(() => notes.every((body) => this.notes().includes(body)));
  }

  async sees(other: Machine, state: PeerState): Promise<void> {
    const device = other.node.device;
    await this.until(async () =>
      (await this.node.status()).peers.some((peer) => peer.device === device && peer.state === state),
    );
  }

  /** Names of the members, as this machine has them. */
  async members(): Promise<string[]> {
    const { devices } = await listDevices(this.library);
    return devices.filter(({ revoked }) => revoked === null).map(({ name }) => name);
  }

  async knows(...names: string[]): Promise<void> {
    await this.until(async () => (await this.members()).toSorted().join() === names.toSorted().join());
  }
}

async function fleet<const Names extends readonly string[]>(...names: Names): Promise<{ [N in keyof Names]: Machine }> {
  const folder = await mkdtemp(join(tmpdir(), 'flotilla-members-'));
  folders.push(folder);
  const machines = names.map((name) => new Machine(name, folder));
  const [first] = machines as [Machine];
  const db = new Sqlite(first.library);
  db.exec('CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)');
  db.close();
  await initLibrary(first.library, { name: first.name });
  return machines as { [N in keyof Names]: Machine };
}

const named = (devices: readonly DeviceInfo[], name: string): DeviceInfo | undefined =>
  devices.find((device) => device.name === name);

describe('members', () => {
  it('[P5] [P8] [P12] are let in over a chain, known to all, removed by one for all, and let in again', async () => {
    const [laptop, nas, phone] = await fleet('laptop', 'nas', 'phone');
    await laptop.up();
    await laptop.invite(nas);
    await nas.up();
    const spent = await nas.invite(phone);
    await phone.up(laptop);
    // The laptop has never met the phone: the NAS has said that it belongs to them.
    await Promise.all([laptop.sees(phone, 'live'), phone.sees(nas, 'live'), laptop.sees(nas, 'live')]);
    phone.write('by phone');
    await laptop.has('by phone');
    const { devices } = await listDevices(laptop.library);
    expect(
      devices.map(({ name, invitedByName, isSelf, connected, revoked }) => [
        name,
        invitedByName,
        isSelf,
        connected,
        revoked,
      ]),
    ).toEqual([
      ['laptop', '', true, false, null],
      ['nas', 'laptop', false, true, null],
      ['phone', 'nas', false, true, null],
    ]);
    expect(named(devices, 'nas')?.lastSeen).toBeGreaterThan(0);

    // By name, over the control socket of the running node.
    expect(await revokeDevice(laptop.library, 'phone')).toMatchObject({ name: 'phone', changed: true });
    await Promise.all([laptop.knows('laptop', 'nas'), nas.knows('laptop', 'nas')]);
    await phone.until(() => phone.events.some((event) => event.event === 'peer' && event.state === 'refused'));
    const { device } = phone.node;
    expect(laptop.events.find(({ event }) => event === 'revoked')).toMatchObject({
      device,
      name: 'phone',
      byName: 'laptop',
    });
    expect(await laptop.node.revoke('phone')).toMatchObject({ changed: false });
    phone.write('after it');
    laptop.write('not for phones');
    await nas.has('not for phones');
    const list = await nas.node.devices();
    expect(named(list.devices, 'phone')).toMatchObject({ connected: false, revoked: { byName: 'laptop' } });
    expect([laptop.notes(), phone.notes()]).toEqual([
      ['by phone', 'not for phones'],
      ['after it', 'by phone'],
    ]);
    await phone.down();

    // Whatever it tries by itself, it is cut off after Noise, before any stream; the invitation that let it in is spent.
    const home = await openHome(`${phone.library}.flotilla`, false);
    const everything = { listen: [], localOnly: true, allowed: () => true, invited: () => true };
    const host = await createHost({ privateKey: home.key, ...everything });
    const { signal } = new AbortController();
    for (const open of [host.openChannel, host.openJoin]) {
      await host.dial(laptop.node.device, laptop.node.addresses(), signal).catch(() => {});
      await expect(open(laptop.node.device, signal)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    }
    await host.stop();
    await expect(joinLibrary(spent, phone.library, { localOnly: true })).rejects.toMatchObject({ code: 'INVITE_USED' });

    await nas.invite(phone);
    await phone.up();
    await Promise.all([laptop.has('after it'), phone.has('not for phones')]);
    expect((await laptop.members()).toSorted()).toEqual(['laptop', 'nas', 'phone']);
    await Promise.all([laptop.down(), nas.down(), phone.down()]);

    // From the file alone, while no node runs.
    expect(await revokeDevice(phone.library, 'laptop')).toMatchObject({ name: 'laptop', changed: true });
    expect(await phone.members()).toEqual(['nas', 'phone']);
  });

  it('[P11] leave: the others are told, the node stops, the file stays a database', async () => {
    const [laptop, nas, phone] = await fleet('laptop', 'nas', 'phone');
    await laptop.up();
    for (const other of [nas, phone]) await laptop.invite(other);
    await nas.up();
    await laptop.sees(nas, 'live');
    nas.write('from the nas');
    await laptop.has('from the nas');
    await laptop.until(async () => (await nas.node.status()).peers.some(({ state }) => state === 'live'));
    const stopped = new Promise<void>((done) => nas.node.onEvent(({ event }) => event === 'stopped' && done()));
    const report = await leaveLibrary(nas.library);
    expect([report.told, report.untold].map((list) => list.map(({ name }) => name))).toEqual([['laptop'], ['phone']]);
    await stopped;
    await nas.down();
    await laptop.knows('laptop', 'phone');
    expect(laptop.events.find(({ event }) => event === 'revoked')).toMatchObject({ name: 'nas', byName: 'nas' });
    expect(nas.notes()).toEqual(['from the nas']);
    nas.write('still a database');
    await expect(createInvitation(nas.library)).rejects.toMatchObject({ code: 'NOT_A_MEMBER' });
    await expect(revokeDevice(nas.library, 'laptop')).rejects.toMatchObject({ code: 'NOT_A_MEMBER' });
    await expect(leaveLibrary(nas.library, { localOnly: true })).rejects.toMatchObject({ code: 'NOT_A_MEMBER' });
    await expect(revokeDevice(laptop.library, 'laptop')).rejects.toMatchObject({ code: 'CONFIG' });

    // Without a node of its own, it starts one for as long as it takes.
    const other = await leaveLibrary(phone.library, { localOnly: true });
    expect(other.told.map(({ name }) => name)).toEqual(['laptop']);
    await laptop.knows('laptop');
    expect((await readStatus(phone.library)).library.members.map(({ name }) => name)).toEqual(['laptop']);
    await laptop.down();
  });
});
