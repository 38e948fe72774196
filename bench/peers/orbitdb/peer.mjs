// OrbitDB: a keyvalue database on Helia, with blocks in LevelDB, replicated over libp2p.
import { gossipsub } from '@libp2p/gossipsub';
import { identify } from '@libp2p/identify';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { noise } from '@chainsafe/libp2p-noise';
import { createOrbitDB } from '@orbitdb/core';
import { LevelBlockstore } from 'blockstore-level';
import { createHelia } from 'helia';
import { createLibp2p } from 'libp2p';
import { multiaddr } from '@multiformats/multiaddr';
import { readFile, writeFile } from 'node:fs/promises';
import { play } from '../harness.ts';

const addressFile = (store) => `${store}.address`;

async function openOrbit(store) {
  const libp2p = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true }) },
  });
  const ipfs = await createHelia({ libp2p, blockstore: new LevelBlockstore(`${store}-blocks`) });
  return { libp2p, orbit: await createOrbitDB({ ipfs, directory: store }) };
}

async function all(db) {
  const rows = [];
  for await (const { key, value } of db.iterator()) rows.push({ key, value });
  return rows;
}

await play({
  async fill(store, rows) {
    const { orbit } = await openOrbit(store);
    const db = await orbit.open('library', { type: 'keyvalue' });
    for (const { key, value } of rows) await db.put(key, value);
    await writeFile(addressFile(store), db.address);
    await db.close();
    await orbit.stop();
  },

  async send(store) {
    const { libp2p, orbit } = await openOrbit(store);
    const db = await orbit.open(await readFile(addressFile(store), 'utf8'));
    return `${String(libp2p.getMultiaddrs()[0])} ${db.address}`;
  },

  async receive(store, address, rows) {
    const [peer, name] = address.split(' ');
    const { libp2p, orbit } = await openOrbit(store);
    await libp2p.dial(multiaddr(peer));
    const db = await orbit.open(name);
    await new Promise((resolve) => {
      const look = async () => (await all(db)).length === rows && resolve();
      db.events.on('update', look);
      void look();
    });
    await writeFile(addressFile(store), name);
  },

  async read(store) {
    const { orbit } = await openOrbit(store);
    return all(await orbit.open(await readFile(addressFile(store), 'utf8')));
  },
});
