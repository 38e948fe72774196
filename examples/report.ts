/** What a script of many nodes says of its run: the last line of `--json`, for programs and for those who compare runs. */
import type { Device } from './fleet.ts';
import type { Latency } from './latency.ts';

/** Of the demo and of `npm run synctest` alike. */
export interface RunReport {
  readonly nodes: number;
  /** In the first device's library. */
  readonly entries: number;
  /** In the tables of the user, on each device. */
  readonly rows: number;
  /** `mdns` when all devices found each other by it. */
  readonly discovery: 'mdns' | 'addresses';
  readonly identical: boolean;
  readonly missingRows: number;
  readonly extraRows: number;
  readonly differentRows: number;
  readonly foreignKeyViolations: number;
  readonly batches: number;
  readonly lookupQueries: number;
  /** Nodes that were started again, after they were killed or stopped. */
  readonly restarts: number;
  /** Metadata other than the identities of rows, after all ACKs: the most that one device has. */
  readonly coordinationBytes: number;
  /** From a commit on one device until it is visible on another, ms. */
  readonly liveMs: Latency;
  readonly seconds: { readonly index: number; readonly backfill: number; readonly total: number };
  /** What was not as it should be, in words; empty when all is well. */
  readonly problems: readonly string[];
}

/** What the demo says beside that. */
export interface DemoReport extends RunReport {
  /** Name of the folder that was indexed, or `synthetic`. */
  readonly source: string;
  /** `flotilla verify` found nothing. */
  readonly verified: boolean;
  /** The node that was killed in the middle of its backfill went on where it was. */
  readonly resumed: boolean;
  /** By device; null where the system does not tell. */
  readonly peakRssMB: ReadonlyArray<number | null>;
  readonly maxEventLoopDelayMs: number;
}

/** What the scenario of 182,530 entries says beside that. */
export interface ScenarioReport extends RunReport {
  readonly senderBatches: number;
  readonly senderLookupQueries: number;
  /** Until the rows that were there had their identities. */
  readonly initSeconds: number;
  /** A plain local copy of the same rows, without any sync. */
  readonly floorSeconds: number;
  /** From the start of the receiver's process until everything is durable there. */
  readonly syncSeconds: number;
  /** floorSeconds / syncSeconds */
  readonly ratio: number;
  /** null where the system does not tell. */
  readonly peakRssMB: { readonly sender: number | null; readonly receiver: number | null };
  /** Of the main threads. */
  readonly maxEventLoopDelayMs: { readonly sender: number; readonly receiver: number };
}

/** How often a node was started again. */
export function restartsOf(devices: readonly Device[]): number {
  return devices.reduce((sum, { nodes }) => sum + Math.max(0, nodes.length - 1), 0);
}
