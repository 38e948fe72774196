/**
 * The home folder: key, settings, one-use invitations, address book, who is running.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openHome } from '../../src/net/home.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flotilla-home-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('the key', () => {
  it('is made once, for the owner alone, and is the same ever after', async () => {
    const path = join(folder, 'a.flotilla');
    const first = await openHome(path, true);
    expect((await openHome(path, true)).device).toBe(first.device);
    expect((await openHome(path, false)).device).toBe(first.device);
    expect((await stat(join(path, 'key'))).mode & 0o777).toBe(0o600);
    expect((await stat(path)).mode & 0o777).toBe(0o700);
  });

  it('is the same for all who create it at the same time, and leaves no temporary file', async () => {
    const homes = await Promise.all(Array.from({ length: 8 }, () => openHome(folder, true)));
    expect(new Set(homes.map((home) => home.device)).size).toBe(1);
    expect((await readdir(folder)).toSorted()).toEqual(['invites', 'key']);
  });

  it('is asked for where there is none, and nothing is made', async () => {
    const path = join(folder, 'none');
    await expect(openHome(path, false)).rejects.toMatchObject({ code: 'NO_SUCH_FILE' });
    expect(await readdir(folder)).toEqual([]);
  });

  it('that is damaged is not replaced', async () => {
    await writeFile(join(folder, 'key'), 'not a key');
    await expect(openHome(folder, true)).rejects.toMatchObject({ code: 'CONFIG' });
  });
});

describe('the pre-shared key', () => {
  it('is kept in the form of libp2p, for the owner alone, and can be brought along', async () => {
    const home = await openHome(folder, true);
    expect(await home.psk()).toBeNull();
    const psk = new Uint8Array(32).fill(0xab);
    await home.savePsk(psk);
    const path = join(folder, 'swarm.key');
    expect(await readFile(path, 'utf8')).toBe(`/key/swarm/psk/1.0.0/\n/base16/\n${'ab'.repeat(32)}\n`);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await (await openHome(folder, false)).psk()).toEqual(psk);
    // As other libp2p programs write it: no line end, or that of Windows, capital letters.
    await writeFile(path, `/key/swarm/psk/1.0.0/\r\n/base16/\r\n${'AB'.repeat(32)}`);
    expect(await home.psk()).toEqual(psk);
    await home.savePsk(null);
    expect(await home.psk()).toBeNull();
  });

  it.each(['', 'a'.repeat(64), `/key/swarm/psk/1.0.0/\n/base16/\n${'ab'.repeat(31)}\n`])(
    'that is damaged is not taken for none: %j',
    async (text) => {
      await writeFile(join(folder, 'swarm.key'), text);
      const home = await openHome(folder, true);
      await expect(home.psk()).rejects.toMatchObject({ code: 'CONFIG', message: expect.stringContaining('swarm.key') });
    },
  );
});

describe('settings and address book', () => {
  it('are kept, change by change, also when changed at the same time', async () => {
    const home = await openHome(folder, true);
    expect(await home.settings()).toEqual({ name: '', port: 0 });
    await Promise.all([home.saveSettings({ name: 'laptop' }), home.saveSettings({ port: 4001 })]);
    expect(await (await openHome(folder, false)).settings()).toEqual({ name: 'laptop', port: 4001 });
  });

  it('remember each peer with its latest addresses first', async () => {
    const home = await openHome(folder, true);
    await Promise.all([
      home.rememberPeer('p', ['a', 'b'], 1),
      home.rememberPeer('q', ['c'], 2),
      home.rememberPeer('p', ['d', 'b'], 3),
    ]);
    expect(await home.addressBook()).toEqual({
      p: { addresses: ['d', 'b', 'a'], seenAt: 3 },
      q: { addresses: ['c'], seenAt: 2 },
    });
    await home.rememberPeer(
      'p',
      Array.from({ length: 50 }, (_, index) => `x${index}`),
      4,
    );
    expect((await home.addressBook())['p']?.addresses.length).toBeLessThan(20);
  });

  it.each([
    ['peers.json', '{"p": 3}'],
    ['peers.json', '[{"addresses":[],"seenAt":1}]'],
    ['peers.json', '{"p":{"addresses":[],"seenAt":1e999}}'],
    ['node.json', '[]'],
    ['node.json', '{"port":70000}'],
  ])('that are damaged say which file it is: %s %s', async (name, content) => {
    const home = await openHome(folder, true);
    await writeFile(join(folder, name), content);
    await expect(name === 'node.json' ? home.settings() : home.addressBook()).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining(name),
    });
  });
});

describe('an invitation', () => {
  it('is open until it expires, and then removed', async () => {
    const home = await openHome(folder, true);
    await home.addInvite('peer', 100);
    expect(await home.invites(99)).toEqual([{ peer: 'peer', expiresAt: 100, usedBy: '' }]);
    await home.useInvite('peer', 'x');
    expect(await home.invites(100)).toEqual([]);
    expect(await readdir(join(folder, 'invites'))).toEqual([]);
    expect(await home.useInvite('peer', 'x')).toBe(false);
  });

  it('serves one device, as often as that one asks', async () => {
    const home = await openHome(folder, true);
    await home.addInvite('peer', 100);
    const same = await openHome(folder, false);
    const devices = Array.from({ length: 10 }, (_, index) => `device ${index}`);
    const won = await Promise.all(devices.map((device, index) => (index % 2 ? home : same).useInvite('peer', device)));
    expect(won.filter(Boolean)).toHaveLength(1);
    const winner = devices[won.indexOf(true)] ?? '';
    expect(await same.useInvite('peer', winner)).toBe(true);
    expect(await same.useInvite('peer', 'somebody else')).toBe(false);
    expect(await home.invites(0)).toEqual([{ peer: 'peer', expiresAt: 100, usedBy: winner }]);
  });

  it('is readable by the owner alone', async () => {
    const home = await openHome(folder, true);
    await home.addInvite('peer', 100);
    expect((await stat(join(folder, 'invites', 'peer.json'))).mode & 0o777).toBe(0o600);
  });
});

describe('who is running', () => {
  it('is known while the process lives', async () => {
    const home = await openHome(folder, true);
    expect(await home.running()).toBeNull();
    await home.setRunning({ pid: process.pid, addresses: ['x'] });
    expect(await home.running()).toEqual({ pid: process.pid, addresses: ['x'] });
    await home.clearRunning();
    await home.clearRunning();
    expect(await home.running()).toBeNull();
  });

  it('is nobody once the process is gone without a word', async () => {
    const home = await openHome(folder, true);
    const child = spawn(process.execPath, ['-e', '']);
    await home.setRunning({ pid: child.pid ?? 0, addresses: [] });
    await once(child, 'exit');
    expect(await home.running()).toBeNull();
  });
});
