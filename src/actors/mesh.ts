/**
 * Whom a device keeps a session with. Few devices all talk to each other; of many, each talks to some, and a change goes over others, in
 * as many steps as the number of devices has binary digits, at most.
 */
import type { PeerState } from '../api.ts';

/** Other devices up to which each has a session with each. */
export const FULL_MESH_PEERS = 9;

/**
 * The peers to have a session with: on the ring of all that are there, in the order of their ids, those 1, 2, 4, 8 … places ahead and
 * behind. All who see the same devices choose alike, and the rest stays connected when some of them go. Who is away is dialled by everybody.
 *
 * @param peers - the other members
 * @param isAway - whether a peer could not be reached lately
 */
export function neighbours(
  own: string,
  peers: readonly string[],
  isAway: (peer: string) => boolean,
): ReadonlySet<string> {
  const away = peers.filter((peer) => isAway(peer));
  if (peers.length - away.length <= FULL_MESH_PEERS) return new Set(peers);
  const ring = [own, ...peers.filter((peer) => !isAway(peer))].toSorted();
  const place = ring.indexOf(own);
  const chosen = new Set(away);
  for (let step = 1; step < ring.length; step *= 2) {
    chosen.add(ring[(place + step) % ring.length] as string);
    chosen.add(ring[(place - step + ring.length) % ring.length] as string);
  }
  return chosen;
}

/** Faults in a row from which on a peer counts as away: a connection that breaks is mostly made again with the first dial. */
export const AWAY_FAULTS = 2;

/**
 * Who is away, as the states of its sessions tell. A dial says nothing until the peer has answered: else each dial of somebody who is away
 * would move the ring, and with it half of all sessions, there and back.
 */
export class Absent {
  readonly #peers = new Set<string>();

  /** @param faults - of its session in a row */
  note(peer: string, state: PeerState, faults: number): void {
    switch (state) {
      case 'refused':
        this.#peers.add(peer);
        return;
      case 'backoff':
        if (faults >= AWAY_FAULTS) this.#peers.add(peer);
        return;
      case 'connecting':
      case 'handshake':
        return;
      case 'backfill':
      case 'ack':
      case 'live':
      case 'idle':
      case 'stopped':
        this.#peers.delete(peer);
    }
  }

  has(peer: string): boolean {
    return this.#peers.has(peer);
  }
}
