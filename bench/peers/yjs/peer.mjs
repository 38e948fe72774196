// Yjs: one document with a map of rows, kept by y-leveldb, synced by y-websocket.
import { createRequire } from 'node:module';
import { WebSocket, WebSocketServer } from 'ws';
import { listen, play, ROWS_A_TRANSACTION } from '../harness.ts';

// The server is CommonJS, and all must share one copy of Yjs.
const require = createRequire(import.meta.url);
const Y = require('yjs');
const { LeveldbPersistence } = require('y-leveldb');
const { WebsocketProvider } = require('y-websocket');
const { setPersistence, setupWSConnection } = require('y-websocket/bin/utils');

const NAME = 'library';

const rowsOf = (doc) => doc.getMap('rows');

await play({
  async fill(store, rows) {
    const kept = new LeveldbPersistence(store);
    const doc = new Y.Doc();
    const writes = [];
    doc.on('update', (update) => writes.push(kept.storeUpdate(NAME, update)));
    for (let from = 0; from < rows.length; from += ROWS_A_TRANSACTION) {
      doc.transact(() => {
        for (const { key, value } of rows.slice(from, from + ROWS_A_TRANSACTION)) rowsOf(doc).set(key, value);
      });
    }
    await Promise.all(writes);
    await kept.flushDocument(NAME);
    await kept.destroy();
  },

  async send(store) {
    const kept = new LeveldbPersistence(store);
    const doc = await kept.getYDoc(NAME);
    setPersistence({
      provider: kept,
      bindState: async (_, shared) => {
        Y.applyUpdate(shared, Y.encodeStateAsUpdate(doc));
        shared.on('update', (update) => kept.storeUpdate(NAME, update));
      },
      writeState: async () => {},
    });
    const { server, port } = await listen();
    new WebSocketServer({ server, maxPayload: 2 ** 30 }).on('connection', setupWSConnection);
    return `ws://127.0.0.1:${port}`;
  },

  async receive(store, address, rows) {
    const kept = new LeveldbPersistence(store);
    const doc = new Y.Doc();
    const writes = [];
    doc.on('update', (update) => writes.push(kept.storeUpdate(NAME, update)));
    new WebsocketProvider(address, NAME, doc, { WebSocketPolyfill: WebSocket, disableBc: true });
    await new Promise((resolve) => {
      const look = () => rowsOf(doc).size === rows && resolve();
      doc.on('update', look);
      look();
    });
    await Promise.all(writes);
  },

  async read(store) {
    const doc = await new LeveldbPersistence(store).getYDoc(NAME);
    return [...rowsOf(doc).entries()].map(([key, value]) => ({ key, value }));
  },
});
