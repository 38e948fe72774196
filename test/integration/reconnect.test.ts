/**
 * What it costs that a device comes back: bytes at the sockets of two nodes in this process, both ways, from the first one until both are live.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, describe, expect, it, onTestFinished } from 'vitest';
import { createInvitation, initLibrary, joinLibrary, openNode } from '../../src/index.ts';
import type { FlotillaNode } from '../../src/index.ts';
import { endEverything, execute, testFolder, untilColumn } from '../support/command.ts';

/** Bytes that a reconnect with nothing new may take, see docs/benchmarks.md. */
const MOST_BYTES = 2_000;
/** Counts of which the least is taken: on a slow machine a beat of the heart may fall into one. */
const TIMES = 3;
const SCHEMA = 'CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)';
const BODIES = 'SELECT body FROM notes ORDER BY body';

const folder = testFolder();
afterAll(endEverything);

async function open(library: string, peers: readonly string[] = []): Promise<FlotillaNode> {
  const node = await openNode({ library, localOnly: true, discovery: false, peers });
  onTestFinished(() => node.stop());
  return node;
}

/** Resolves when the node has a session that is live. */
function live(node: FlotillaNode): Promise<void> {
  return new Promise((resolve) => {
    node.onEvent((event) => {
      if (event.event === 'peer' && event.state === 'live') resolve();
    });
  });
}

/** Connections that were made from here, and the bytes on them. */
function watchConnections() {
  const sockets = new Set<Socket>();
  const onSocket = (message: unknown): void => void sockets.add((message as { socket: Socket }).socket);
  subscribe('net.client.socket', onSocket);
  onTestFinished(() => void unsubscribe('net.client.socket', onSocket));
  // The control socket of a node has no port.
  const connected = (): Socket[] => [...sockets].filter(({ remotePort }) => remotePort !== undefined);
  return {
    forget: () => sockets.clear(),
    connections: () => connected().length,
    bytes: () => connected().reduce((sum, { bytesRead, bytesWritten }) => sum + bytesRead + bytesWritten, 0),
  };
}

describe('a reconnect with nothing new', () => {
  it.each([
    ['', false],
    [', with a pre-shared key', true],
  ])('takes less than 2,000 bytes until both are live%s', async (_, psk) => {
    const [laptop, nas, phone] = ['laptop', 'nas', 'phone'].map((name) => join(folder, `${name} ${psk}.db`)) as [
      string,
      string,
      string,
    ];
    execute(laptop, SCHEMA);
    await initLibrary(laptop, { name: 'the laptop of somebody', psk });
    const staying = await open(laptop);
    const { addresses } = await staying.status();
    const letIn = async (file: string, name: string): Promise<FlotillaNode> => {
      const { text } = await createInvitation(laptop, { localOnly: true });
      await joinLibrary(text, file, { localOnly: true, name });
      const node = await open(file, addresses);
      await Promise.all([live(staying), live(node)]);
      return node;
    };
    // A third member, of which both have heard.
    const third = await letIn(phone, 'the phone');
    execute(phone, "INSERT INTO notes (body) VALUES ('of the phone')");
    await untilColumn(laptop, BODIES, ['of the phone']);
    await third.stop();
    const first = await letIn(nas, 'the box in the cupboard');
    execute(nas, "INSERT INTO notes (body) VALUES ('one')");
    await untilColumn(laptop, BODIES, ['of the phone', 'one']);
    execute(laptop, "INSERT INTO notes (body) VALUES ('two')");
    await untilColumn(nas, BODIES, ['of the phone', 'one', 'two']);
    await first.stop();

    const watch = watchConnections();
    const counts: number[] = [];
    for (let time = 0; time < TIMES; time += 1) {
      watch.forget();
      const coming = await open(nas, addresses);
      await Promise.all([live(staying), live(coming)]);
      expect(watch.connections()).toBe(1);
      counts.push(watch.bytes());
      await coming.stop();
    }
    expect(Math.min(...counts)).toBeGreaterThan(500);
    expect(Math.min(...counts)).toBeLessThan(MOST_BYTES);
  });
});
