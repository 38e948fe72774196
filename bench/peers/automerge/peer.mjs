// Automerge: documents of a thousand rows in a repository, kept in files, synced by automerge-repo over a WebSocket.
import { readFile, writeFile } from 'node:fs/promises';
import { ImmutableString, Repo } from '@automerge/automerge-repo';
import { NodeFSStorageAdapter } from '@automerge/automerge-repo-storage-nodefs';
import { WebSocketClientAdapter, WebSocketServerAdapter } from '@automerge/automerge-repo-network-websocket';
import { WebSocketServer } from 'ws';
import { listen, play, ROWS_A_TRANSACTION } from '../harness.ts';

/** Where the document that names all others is noted down. */
const rootFile = (store) => `${store}.root`;

/** Strings that nobody edits letter by letter: cheaper than its text. */
const packed = (value) =>
  Object.fromEntries(
    Object.entries(value).map(([name, cell]) => [name, typeof cell === 'string' ? new ImmutableString(cell) : cell]),
  );
const unpacked = (value) => Object.fromEntries(Object.entries(value).map(([name, cell]) => [name, cell?.val ?? cell]));

await play({
  async fill(store, rows) {
    const repo = new Repo({ storage: new NodeFSStorageAdapter(store) });
    const documents = [];
    for (let from = 0; from < rows.length; from += ROWS_A_TRANSACTION) {
      const some = rows.slice(from, from + ROWS_A_TRANSACTION);
      documents.push(repo.create({ rows: Object.fromEntries(some.map(({ key, value }) => [key, packed(value)])) }).url);
      await repo.flush();
    }
    const root = repo.create({ documents });
    await repo.flush();
    await writeFile(rootFile(store), root.url);
  },

  async send(store) {
    const { server, port } = await listen();
    const sockets = new WebSocketServer({ server, maxPayload: 2 ** 30 });
    const repo = new Repo({
      storage: new NodeFSStorageAdapter(store),
      network: [new WebSocketServerAdapter(sockets)],
      sharePolicy: async () => true,
    });
    const root = await readFile(rootFile(store), 'utf8');
    const { documents } = (await repo.find(root)).doc();
    for (const url of documents) await repo.find(url);
    return `ws://127.0.0.1:${port} ${root}`;
  },

  async receive(store, address, rows) {
    const [server, root] = address.split(' ');
    const repo = new Repo({
      storage: new NodeFSStorageAdapter(store),
      network: [new WebSocketClientAdapter(server)],
    });
    const { documents } = (await repo.find(root)).doc();
    const found = await Promise.all(documents.map((url) => repo.find(url)));
    const taken = found.reduce((sum, handle) => sum + Object.keys(handle.doc().rows).length, 0);
    if (taken !== rows) throw new Error(`It took ${taken} rows of ${rows}.`);
    await repo.flush();
    await writeFile(rootFile(store), root);
  },

  async read(store) {
    const repo = new Repo({ storage: new NodeFSStorageAdapter(store) });
    const { documents } = (await repo.find(await readFile(rootFile(store), 'utf8'))).doc();
    const rows = [];
    for (const url of documents) {
      const handle = await repo.find(url);
      for (const [key, value] of Object.entries(handle.doc().rows)) rows.push({ key, value: unpacked(value) });
    }
    return rows;
  },
});
