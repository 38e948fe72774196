/**
 * A host in a process of its own, for tests that stop it. Prints its peer id and addresses as one line of JSON, and ends
 * with its standard input.
 */
import { generateKeyPair } from '@libp2p/crypto/keys';
import { createHost } from '../../src/net/host.ts';

const host = await createHost({
  privateKey: await generateKeyPair('Ed25519'),
  listen: ['/ip4/127.0.0.1/tcp/0'],
  localOnly: true,
  allowed: () => true,
  invited: () => false,
});
process.stdin.on('end', () => process.exit(0)).resume();
console.log(JSON.stringify({ device: host.device, addresses: host.addresses() }));
