// Loro: one document with a map of rows. It has neither a store nor a network of its own: a file, and updates over a WebSocket.
import { open, readFile } from 'node:fs/promises';
import { LoroDoc, VersionVector } from 'loro-crdt';
import { WebSocket, WebSocketServer } from 'ws';
import { listen, play, ROWS_A_TRANSACTION } from '../harness.ts';

const rowsOf = (doc) => doc.getMap('rows');

async function save(store, doc) {
  const file = await open(store, 'w');
  await file.writeFile(doc.export({ mode: 'snapshot' }));
  await file.sync();
  await file.close();
}

async function load(store) {
  const doc = new LoroDoc();
  doc.import(await readFile(store));
  return doc;
}

await play({
  async fill(store, rows) {
    const doc = new LoroDoc();
    for (const [n, { key, value }] of rows.entries()) {
      rowsOf(doc).set(key, value);
      if (n % ROWS_A_TRANSACTION === 0) doc.commit();
    }
    doc.commit();
    await save(store, doc);
  },

  async send(store) {
    const doc = await load(store);
    const { server, port } = await listen();
    // Who connects says what it has, and gets the rest.
    new WebSocketServer({ server, maxPayload: 2 ** 30 }).on('connection', (socket) => {
      socket.on('message', (version) =>
        socket.send(doc.export({ mode: 'update', from: VersionVector.decode(version) })),
      );
    });
    return `ws://127.0.0.1:${port}`;
  },

  async receive(store, address, rows) {
    const doc = new LoroDoc();
    const socket = new WebSocket(address, { maxPayload: 2 ** 30 });
    socket.on('open', () => socket.send(doc.version().encode()));
    await new Promise((resolve, reject) => {
      socket.on('error', reject);
      socket.on('message', (update) => {
        doc.import(update);
        if (rowsOf(doc).size === rows) resolve();
      });
    });
    await save(store, doc);
  },

  async read(store) {
    return rowsOf(await load(store))
      .entries()
      .map(([key, value]) => ({ key, value }));
  },
});
