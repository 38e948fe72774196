/**
 * What all systems of `peers` share: the rows that they take, the part that each process plays, and the check at the end. A system is a
 * file `peer.mjs` in a folder with packages of its own. It keeps one row as one value under a key; a reference is the key of another row.
 *
 *   node bench/peers/<system>/peer.mjs fill <library> <store>         the rows of a file library into the sender's store
 *   node bench/peers/<system>/peer.mjs send <store>                   serves it; says where
 *   node bench/peers/<system>/peer.mjs receive <store> <address> <n>  takes it into a new store; says so once n rows are there, durably
 *   node bench/peers/<system>/peer.mjs check <store>                  opens a store and says what is in it
 *
 * Each says one JSON object a line. Who sends or receives stays until it is ended: by SIGKILL, so that what is not on the disk is lost.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { crc32 } from 'node:zlib';
import Database from 'better-sqlite3';

/** Tables of the file library, parents first, with the columns that refer to rows of others. */
const TABLES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  volumes: {},
  locations: { volume_id: 'volumes' },
  content_identities: {},
  user_metadata: {},
  entries: {
    location_id: 'locations',
    parent_id: 'entries',
    content_id: 'content_identities',
    metadata_id: 'user_metadata',
  },
};

/** Rows that a system may take at once, where it has a way to. */
export const ROWS_A_TRANSACTION = 1_000;

type Value = string | number | null;

/** One row. */
export interface Row {
  /** Such as `entries:42`. */
  readonly key: string;
  readonly value: Readonly<Record<string, Value>>;
}

/** What a store or a library holds. */
export interface Contents {
  readonly rows: number;
  /** References to rows that are not there. */
  readonly dangling: number;
  /** The same for the same values and the same references, whatever the order and the keys. */
  readonly sum: number;
}

/** A system. */
export interface Peer {
  /** Takes the rows into a new store, durably. */
  fill(store: string, rows: readonly Row[]): Promise<void>;
  /** Serves a store; gives what `receive` connects to. */
  send(store: string): Promise<string>;
  /** Takes all from there into a new store; resolves when so many rows are there, durably. */
  receive(store: string, address: string, rows: number): Promise<void>;
  /** All rows of a store that is there. */
  read(store: string): Promise<Iterable<Row>>;
}

/** Rows of a file library as systems without tables take them. */
export function readLibrary(file: string): Row[] {
  const db = new Database(file, { readonly: true, fileMustExist: true });
  try {
    return Object.entries(TABLES).flatMap(([table, references]) =>
      (db.prepare(`SELECT * FROM ${table} ORDER BY id`).all() as Record<string, Value>[]).map(({ id, ...value }) => {
        for (const [column, target] of Object.entries(references)) {
          if (value[column] !== null) value[column] = `${target}:${value[column]}`;
        }
        return { key: `${table}:${id}`, value };
      }),
    );
  } finally {
    db.close();
  }
}

/** Counts rows, follows every reference, and adds up what they hold. */
export function contentsOf(rows: Iterable<Row>): Contents {
  const all = new Map<string, { own: number; references: readonly string[] }>();
  for (const { key, value } of rows) {
    const table = key.slice(0, key.indexOf(':'));
    const references = Object.keys(TABLES[table] ?? {});
    const plain = Object.entries(value).filter(([column]) => !references.includes(column));
    const own = crc32(JSON.stringify([table, plain.toSorted(([a], [b]) => (a < b ? -1 : 1))]));
    all.set(key, { own, references: references.flatMap((column) => value[column] ?? []).map(String) });
  }
  let [dangling, sum] = [0, 0];
  for (const { own, references } of all.values()) {
    let whole = own;
    for (const reference of references) {
      const target = all.get(reference);
      if (target === undefined) dangling += 1;
      else whole = crc32(String(target.own), whole);
    }
    sum = (sum + whole) % 2 ** 48;
  }
  return { rows: all.size, dangling, sum };
}

const sockets = new Set<Socket>();

/** An HTTP server on a free port of this machine, whose bytes are counted. */
export async function listen(server: Server = createServer()): Promise<{ server: Server; port: number }> {
  server.on('connection', (socket: Socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, port: (server.address() as AddressInfo).port };
}

function say(what: object): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

/** Plays the part that the arguments name. */
export async function play(peer: Peer): Promise<void> {
  const [part = '', ...args] = process.argv.slice(2);
  const [first = '', second = '', third = ''] = args;
  if (part === 'fill') {
    await peer.fill(second, readLibrary(first));
    say({ filled: true });
  } else if (part === 'send') {
    say({ serving: await peer.send(first) });
    process.on('SIGUSR2', () => {
      say({ counted: [...sockets].reduce((sum, { bytesRead, bytesWritten }) => sum + bytesRead + bytesWritten, 0) });
    });
    return;
  } else if (part === 'receive') {
    await peer.receive(first, second, Number(third));
    say({ done: true });
    setInterval(() => undefined, 60_000);
    return;
  } else if (part === 'check') say(contentsOf(await peer.read(first)));
  else throw new Error(`There is no part "${part}".`);
  process.exit();
}
