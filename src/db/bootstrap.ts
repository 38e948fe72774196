/**
 * How a device that has nothing yet takes a snapshot: what it asks for, what it has gathered so far (also over restarts), and what it does
 * with it in the end. On any doubt it takes the feed, and asks for no snapshot again.
 */
import { statSync } from 'node:fs';

import { FlotillaError } from '../errors.ts';
import type { SnapshotOffer, SnapshotWanted, Taken, TakenSnapshot } from './api.ts';
import type { Library } from './library.ts';
import { requireNotRevoked } from './members.ts';
import { getState, setState } from './metadata.ts';
import type { Served } from './served.ts';
import { incomingSnapshots, layoutOf } from './snapshot.ts';
import { Gathered, copySnapshot, inspectSnapshot, isBlank, removeGathered } from './snapshot-in.ts';

/**
 * What of snapshots is there, as the library remembers it: of each place the id and hash, a JSON list; or that none is to be asked for again.
 * There are two places, so that a peer may be tried that could be faster, and left again, without a loss of what the first one gave.
 */
const KEY = 'snapshot';
const NONE = 'none';

export class Bootstrap {
  /** Where they are gathered; none where there can be no file. */
  readonly #places: readonly string[];
  /** From whom it comes, while this node runs. */
  #peer: string | null = null;
  #gathered: Gathered | null = null;

  /** @param base - the path that the name of the file is made of; null where there can be none */
  constructor(base: string | null, library: Library) {
    this.#places = base === null ? [] : incomingSnapshots(base);
    if (!isBlank(library)) this.#clear();
  }

  /** The peer that was asked for one last. */
  get peer(): string | null {
    return this.#peer;
  }

  /** What to ask a peer for that gives this device its first pass; null for nothing. */
  want(library: Library, peer: string): SnapshotWanted | null {
    const stored = getState(library.db, KEY);
    if (this.#places.length === 0 || stored === NONE || !isBlank(library)) return null;
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
    this.#check(library, peer);
    this.#close();
    const name = `${offer.id} ${offer.hash}`;
    const stored = getState(library.db, KEY);
    const names = typeof stored === 'string' ? (JSON.parse(stored) as string[]) : [];
    const isSame = names.includes(name);
    const place = isSame ? names.indexOf(name) : this.#smallest();
    names[place] = name;
    if (!isSame)
      library.transact(() => setState(library.db, KEY, JSON.stringify(Array.from(names, (one) => one ?? ''))));
    this.#gathered = new Gathered(this.#places[place] ?? '', offer, isSame);
    return this.#gathered.size;
  }

  /** The place in which least has been gathered. */
  #smallest(): number {
    const sizes = this.#places.map((path) => statSync(path, { throwIfNoEntry: false })?.size ?? 0);
    return sizes.indexOf(Math.min(...sizes));
  }

  add(library: Library, peer: string, chunk: Uint8Array): void {
    this.#check(library, peer);
    this.#gathered?.add(chunk);
  }

  /** All is there: takes it. Null when it is not what it should be; nothing of it is left then, or what the feed brings as well. */
  take({ library }: Served, apply: (data: Uint8Array) => Taken, peer: string): TakenSnapshot | null {
    this.#check(library, peer);
    try {
      if (this.#gathered?.finish() !== true) return null;
      const { path } = this.#gathered;
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
      this.#clear();
      library.transact(() => setState(library.db, KEY, NONE));
    }
  }

  /** It must still come from this peer. */
  #check(library: Library, peer: string): void {
    requireNotRevoked(library.sql, peer);
    if (this.#peer !== peer)
      throw new FlotillaError('BUSY', 'This device takes its first pass from another one by now.');
  }

  #clear(): void {
    for (const path of this.#places) removeGathered(path);
  }

  #close(): void {
    this.#gathered?.close();
    this.#gathered = null;
  }
}
