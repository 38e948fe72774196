/**
 * What `up` knows of the peers, folded from the node's events. Pure: an event and the list before give the list after.
 */
import type { NodeEvent, PeerState, Progress } from '../index.ts';

/** One peer as `up` shows it. */
export interface PeerView {
  readonly device: string;
  readonly name: string;
  readonly state: PeerState | 'found';
  readonly reason: string;
  readonly progress: Progress | null;
  /** Rows taken in from it since the node started. */
  readonly received: number;
}

/** By peer id, in the order in which they were first heard of. */
export type PeerList = ReadonlyMap<string, PeerView>;

/** The list after one more event; the same list when the event does not concern it. */
export function withEvent(list: PeerList, event: NodeEvent): PeerList {
  switch (event.event) {
    case 'discovered':
      return list.has(event.device) ? list : put(list, event.device, {});
    case 'joined':
      return put(list, event.device, { name: event.name });
    case 'revoked':
      return new Map([...list].filter(([device]) => device !== event.device));
    case 'peer':
      return put(list, event.device, {
        name: event.name,
        state: event.state,
        reason: event.reason,
        // A bar belongs to the pass that it counts: it must not stand still beside another state.
        ...(event.state === 'backfill' ? {} : { progress: null }),
      });
    case 'progress':
      return put(list, event.device, { name: event.name, progress: event.progress });
    case 'applied':
      return put(list, event.device, { received: (list.get(event.device)?.received ?? 0) + event.rows });
    default:
      return list;
  }
}

function put(list: PeerList, device: string, change: Partial<PeerView>): PeerList {
  const before = list.get(device) ?? { device, name: '', state: 'found', reason: '', progress: null, received: 0 };
  const name = change.name === undefined || change.name === '' ? before.name : change.name;
  return new Map(list).set(device, { ...before, ...change, name });
}
