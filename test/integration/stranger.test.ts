/**
 * A copy of a library file is no membership: without the home folder the node has a key that nobody knows. It is refused
 * after Noise, before any stream; the members say nothing of it, and nothing goes either way.
 */
import { copyFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Device } from '../../examples/fleet.ts';
import { openLibrary } from '../../examples/file-library/library.ts';
import { column, endEverything, execute, testFolder } from '../support/command.ts';
import { ARRIVAL_MS, untilState } from '../support/devices.ts';

const folder = testFolder();
const member = new Device(folder, 'member');
const stranger = new Device(folder, 'stranger');
const TAGS = 'SELECT name FROM tags ORDER BY name';

beforeAll(async () => {
  openLibrary(member.library).close();
  execute(member.library, "INSERT INTO tags (name) VALUES ('before')");
  await member.init();
  copyFileSync(member.library, stranger.library);
  await member.start([]);
});
afterAll(endEverything);

describe('a node on a copied file', () => {
  it('says that it is no member, and that the member ended the connection', async () => {
    execute(stranger.library, "INSERT INTO tags (name) VALUES ('of a stranger')");
    await stranger.start(member.addresses.flatMap((address) => ['--peer', address]));
    const notice = await stranger.node.waitFor('a notice', ARRIVAL_MS, (events) =>
      events.find((event) => event.event === 'notice'),
    );
    expect(notice).toMatchObject({ message: expect.stringMatching(/no member of the library.*invitation/) });
    expect(await untilState(stranger, member, 'backoff')).toMatch(/may not know this device as a member/);
    const { peers } = await stranger.status();
    expect(peers).toMatchObject([{ device: member.id, name: 'member', inSync: false }]);
  });

  it('gets nothing and gives nothing, however often it tries', async () => {
    execute(member.library, "INSERT INTO tags (name) VALUES ('among members')");
    for (let tries = 0; tries < 3; tries += 1)
      await untilState(stranger, member, 'backoff', stranger.node.events.length);
    expect(column(stranger.library, TAGS)).toEqual(['before', 'of a stranger']);
    expect(column(member.library, TAGS)).toEqual(['among members', 'before']);
    expect(stranger.node.events.filter((event) => event.event === 'peer' && event.state === 'handshake')).toEqual([]);
  });

  it('is nobody to the member', async () => {
    expect(member.node.events.map((event) => event.event)).toEqual(['ready']);
    const { peers, library } = await member.status();
    expect(peers).toEqual([]);
    expect(library.members.map(({ device }) => device)).toEqual([member.id]);
    expect(library.acks).toEqual({});
  });
});
