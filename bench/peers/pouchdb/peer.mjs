// PouchDB: one document a row in LevelDB, replicated from an express-pouchdb server over HTTP.
import { createServer } from 'node:http';
import { basename, dirname } from 'node:path';
import { mkdir } from 'node:fs/promises';
import expressPouchDB from 'express-pouchdb';
import PouchDB from 'pouchdb';
import { listen, play, ROWS_A_TRANSACTION } from '../harness.ts';

await play({
  async fill(store, rows) {
    const db = new PouchDB(store);
    for (let from = 0; from < rows.length; from += ROWS_A_TRANSACTION) {
      const docs = rows.slice(from, from + ROWS_A_TRANSACTION).map(({ key, value }) => ({ _id: key, ...value }));
      await db.bulkDocs(docs);
    }
    await db.close();
  },

  async send(store) {
    // The server keeps a log and a configuration where it is started.
    await mkdir(`${store}-server`);
    process.chdir(`${store}-server`);
    const Served = PouchDB.defaults({ prefix: `${dirname(store)}/` });
    const { port } = await listen(createServer(expressPouchDB(Served, { mode: 'minimumForPouchDB' })));
    return `http://127.0.0.1:${port}/${basename(store)}`;
  },

  async receive(store, address, rows) {
    const db = new PouchDB(store);
    const { docs_written: written } = await db.replicate.from(address, { batch_size: ROWS_A_TRANSACTION });
    if (written !== rows) throw new Error(`It took ${written} documents of ${rows}.`);
  },

  async read(store) {
    const { rows } = await new PouchDB(store).allDocs({ include_docs: true });
    return rows.map(({ doc: { _id, _rev, ...value } }) => ({ key: _id, value }));
  },
});
