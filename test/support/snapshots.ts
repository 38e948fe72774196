/** Snapshots between copies in memory: made by the parts of the engine that the workers use, with files in a folder that goes. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import Sqlite from 'better-sqlite3';
import type { Database } from 'better-sqlite3';

import { fileAccess } from '../../src/db/access.ts';
import type { ReadAccess } from '../../src/db/access.ts';
import type { SnapshotOffer, TakenSnapshot } from '../../src/db/api.ts';
import { Bootstrap } from '../../src/db/bootstrap.ts';
import { beginNewcomer } from '../../src/db/newcomer.ts';
import { floorOf } from '../../src/db/floor.ts';
import { wireOf } from '../../src/db/knowledge-wire.ts';
import { SnapshotsOut } from '../../src/db/snapshot-out.ts';
import { CHUNK_BYTES } from '../../src/protocol/messages.ts';
import type { Replica } from './replica.ts';

/** A folder for the files of one test. */
export class SnapshotFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'flotilla-snapshot-'));
  readonly #open: SnapshotsOut[] = [];

  /** What gives snapshots of a copy. */
  out(from: Replica): SnapshotsOut {
    const access: ReadAccess = {
      ...fileAccess,
      beside: () => join(this.path, from.device),
      openForCopying() {
        const db = new Sqlite(from.db.serialize());
        return { db, close: () => db.close() };
      },
    };
    const out = new SnapshotsOut(from.device, access);
    this.#open.push(out);
    return out;
  }

  /** What takes snapshots into a copy. */
  in(to: Replica): Bootstrap {
    return new Bootstrap(join(this.path, to.device), to.library);
  }

  remove(): void {
    for (const out of this.#open) out.close();
    rmSync(this.path, { recursive: true, force: true });
  }
}

export interface Transfer {
  /** Changes a chunk on its way. */
  readonly onTheWay?: (chunk: Buffer, offset: number) => Uint8Array;
  /** Makes another file of it, which is offered and sent in its place. */
  readonly forge?: (snapshot: Database) => void;
  /** The same, byte by byte. */
  readonly spoil?: (bytes: Buffer) => void;
  /** Called when the snapshot is made, before it goes. */
  readonly meanwhile?: () => void;
}

/** Makes a snapshot of `from`, as it is for `to`; null when there is to be none. */
export async function offerFrom(out: SnapshotsOut, from: Replica, layout: string): Promise<SnapshotOffer | null> {
  from.stamp();
  return out.begin(from.library.registry, layout, 0) === true ? out.ready() : null;
}

/** Brings a snapshot from one copy to the other. Null when it was not taken; 'none' when there was none to ask for, or to give. */
export async function bring(
  folder: SnapshotFolder,
  from: Replica,
  to: Replica,
  { onTheWay = (chunk) => chunk, forge, spoil, meanwhile }: Transfer = {},
): Promise<TakenSnapshot | null | 'none'> {
  const [out, bootstrap] = [folder.out(from), folder.in(to)];
  to.library.transact(() => beginNewcomer(to.library, from.device, wireOf([...floorOf(from.library.sql)])));
  const wanted = bootstrap.want(to.library, from.device);
  if (wanted === null) return 'none';
  let offer = await offerFrom(out, from, wanted.layout);
  if (offer === null) return 'none';
  let bytes = await readAll(out, offer);
  if (forge !== undefined) bytes = forged(bytes, join(folder.path, 'forged'), forge);
  spoil?.(bytes);
  offer = { ...offer, bytes: bytes.length, hash: createHash('sha256').update(bytes).digest('hex') };
  meanwhile?.();
  for (let at = bootstrap.begin(to.library, from.device, offer); at < offer.bytes; at += CHUNK_BYTES)
    bootstrap.add(to.library, from.device, onTheWay(bytes.subarray(at, at + CHUNK_BYTES), at));
  return bootstrap.take(to.served, (data) => to.apply(from.device, data), from.device);
}

async function readAll(out: SnapshotsOut, { id, bytes }: SnapshotOffer): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes; at += CHUNK_BYTES) chunks.push(Buffer.from(await out.part(id, at)));
  return Buffer.concat(chunks);
}

function forged(bytes: Buffer, path: string, forge: (snapshot: Database) => void): Buffer {
  writeFileSync(path, bytes);
  const db = new Sqlite(path);
  forge(db);
  db.close();
  return readFileSync(path);
}
