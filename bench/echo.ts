/**
 * A bare libp2p stream between two processes: what the network and its encryption cost, whatever is sent. Started alone it is one end, which
 * sends back what comes; `measureEcho` starts that and measures the round trip of 100 bytes.
 *
 *   node bench/echo.ts
 */
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@libp2p/yamux';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createLibp2p, type Libp2p } from 'libp2p';

const PROTOCOL = '/echo/1';
const BYTES = 100;
const WARM_UP = 50;

function host(): Promise<Libp2p> {
  return createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
  });
}

async function serve(): Promise<void> {
  const node = await host();
  await node.handle(PROTOCOL, (stream) => {
    stream.addEventListener('message', ({ data }) => void stream.send(data));
  });
  console.log(String(node.getMultiaddrs()[0]));
}

/** Round trips in ms, ascending. */
export async function measureEcho(samples: number): Promise<number[]> {
  const file = fileURLToPath(import.meta.url);
  const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const node = await host();
    const stream = await node.dialProtocol(multiaddr(line.toString().trim()), PROTOCOL);
    const times: number[] = [];
    for (let n = 0; n < WARM_UP + samples; n += 1) {
      const started = performance.now();
      const answered = new Promise<void>((resolve) => {
        let left = BYTES;
        const onMessage = ({ data }: { readonly data: { readonly byteLength: number } }): void => {
          left -= data.byteLength;
          if (left > 0) return;
          stream.removeEventListener('message', onMessage);
          resolve();
        };
        stream.addEventListener('message', onMessage);
      });
      stream.send(new Uint8Array(BYTES));
      await answered;
      if (n >= WARM_UP) times.push(performance.now() - started);
    }
    await node.stop();
    return times.toSorted((a, b) => a - b);
  } finally {
    child.kill('SIGKILL');
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await serve();
