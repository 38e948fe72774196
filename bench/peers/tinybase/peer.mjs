// TinyBase: a MergeableStore with its tables, kept in a file, synced over its WebSocket server.
import { createMergeableStore } from 'tinybase';
import { createFilePersister } from 'tinybase/persisters/persister-file';
import { createWsSynchronizer } from 'tinybase/synchronizers/synchronizer-ws-client';
import { createWsServer } from 'tinybase/synchronizers/synchronizer-ws-server';
import { WebSocket, WebSocketServer } from 'ws';
import { listen, play, ROWS_A_TRANSACTION } from '../harness.ts';

/** s that the receiver waits for an answer: the default of 1 s is not enough for a store of this size. */
const REQUEST_S = 600;

const load = (store, file) => createFilePersister(store, file).load();

const sizeOf = (store) => store.getTableIds().reduce((sum, table) => sum + store.getRowCount(table), 0);

await play({
  async fill(file, rows) {
    const store = createMergeableStore('sender');
    for (let from = 0; from < rows.length; from += ROWS_A_TRANSACTION) {
      store.transaction(() => {
        for (const { key, value } of rows.slice(from, from + ROWS_A_TRANSACTION)) {
          store.setRow(key.slice(0, key.indexOf(':')), key, value);
        }
      });
    }
    await createFilePersister(store, file).save();
  },

  async send(file) {
    const store = createMergeableStore('sender');
    await load(store, file);
    const { server, port } = await listen();
    createWsServer(new WebSocketServer({ server, maxPayload: 2 ** 30 }));
    const address = `ws://127.0.0.1:${port}`;
    const client = await createWsSynchronizer(store, new WebSocket(address, { maxPayload: 2 ** 30 }));
    await client.startSync();
    return address;
  },

  async receive(file, address, rows) {
    const store = createMergeableStore('receiver');
    const persister = createFilePersister(store, file);
    const client = await createWsSynchronizer(store, new WebSocket(address, { maxPayload: 2 ** 30 }), REQUEST_S);
    await client.startSync();
    await new Promise((resolve) => {
      const look = () => sizeOf(store) === rows && resolve();
      store.addDidFinishTransactionListener(look);
      look();
    });
    await persister.save();
  },

  async read(file) {
    const store = createMergeableStore('reader');
    await load(store, file);
    return Object.values(store.getTables()).flatMap((rows) =>
      Object.entries(rows).map(([key, value]) => ({ key, value })),
    );
  },
});
