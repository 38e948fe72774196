/**
 * How a device that has nothing yet takes a snapshot: what it asks for, what it has gathered so far (also over restarts), and what it does
 * with it in the end. On any doubt it takes the feed, and asks for no snapshot again.
 */
import { FlotillaError } from '../errors.ts';
import type { SnapshotOffer, SnapshotWanted, Taken, TakenSnapshot } from './api.ts';
import type { Library } from './library.ts';
import { requireNotRevoked } from './members.ts';
import { getState, setState } from './metadata.ts';
import type { Served } from './served.ts';
import { incomingSnapshot, layoutOf } from './snapshot.ts';
import { Gathered, copySnapshot, inspectSnapshot, isBlank, removeGathered } from './snapshot-in.ts';

/** What of a snapshot is there, as the library remembers it: id and hash; or that none is to be asked for again. */
const KEY = 'snapshot';
const NONE = 'none';

export class Bootstrap {
  /** Where it is gathered; null where there can be no file. */
  readonly #path: string | null;
  /** From whom it comes, while this node runs. */
  #peer: string | null = null;
  #gathered: Gathered | null = null;

  /** @param base - the path that the name of the file is made of; null where there can be none */
  constructor(base: string | null, library: Library) {
    this.#path = base === null ? null : incomingSnapshot(base);
    if (this.#path !== null && !isBlank(library)) removeGathered(this.#path);
  }

  /** The peer that was asked for one last. */
  get peer(): string | null {
    return this.#peer;
  }

  /** What to ask a peer for that gives this device its first pass; null for nothing. */
  want(library: Library, peer: string): SnapshotWanted | null {
    const stored = getState(library.db, KEY);
    if (this.#path === null || stored === NONE || !isBlank(library)) return null;
    const layout = layoutOf(library.db, library.registry);
    if (layout === null) return null;
    if (this.#peer !== peer) this.#close();
    this.#peer = peer;
    return { layout };
  }

  /** Another peer gives the first pass, or this one gives no snapshot. */
  leave(): void {
    this.#close();
    this.#peer = null;
  }

  /** A peer will send this one. Returns from which byte on. */
  begin(library: Library, peer: string, offer: SnapshotOffer): number {
    const path = this.#from(library, peer);
    this.#close();
    const name = `${offer.id} ${offer.hash}`;
    const isSame = getState(library.db, KEY) === name;
    if (!isSame) library.transact(() => setState(library.db, KEY, name));
    this.#gathered = new Gathered(path, offer, isSame);
    return this.#gathered.size;
  }

  add(library: Library, peer: string, chunk: Uint8Array): void {
    this.#from(library, peer);
    this.#gathered?.add(chunk);
  }

  /** All is there: takes it. Null when it is not what it should be; nothing of it is left then, or what the feed brings as well. */
  take({ library }: Served, apply: (data: Uint8Array) => Taken, peer: string): TakenSnapshot | null {
    const path = this.#from(library, peer);
    try {
      if (this.#gathered?.finish() !== true) return null;
      const { head, batches } = inspectSnapshot(library, path);
      const [transfers = Buffer.alloc(0), ...others] = batches;
      apply(transfers);
      const rows = copySnapshot(library, peer, path, head);
      for (const batch of others) apply(batch);
      return { rows };
    } catch (error) {
      if (error instanceof FlotillaError && error.code === 'REVOKED') throw error;
      return null;
    } finally {
      this.leave();
      removeGathered(path);
      library.transact(() => setState(library.db, KEY, NONE));
    }
  }

  /** Where it is gathered, if it still comes from this peer. */
  #from(library: Library, peer: string): string {
    requireNotRevoked(library.sql, peer);
    if (this.#path === null || this.#peer !== peer)
      throw new FlotillaError('BUSY', 'This device takes its first pass from another one by now.');
    return this.#path;
  }

  #close(): void {
    this.#gathered?.close();
    this.#gathered = null;
  }
}
