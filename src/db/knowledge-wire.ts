/** Knowledge between its form on the wire and entries: run id (hex) → hlc. */
import { bytesToHex, hexToBytes } from '../protocol/uuid.ts';
import type { KnowledgeWire } from '../protocol/types.ts';

/** The entries of a knowledge on the wire. */
export function entriesOf({ runs, hlc }: KnowledgeWire): [run: string, hlc: number][] {
  return hlc.map((known, i) => [bytesToHex(runs.subarray(i * 16, i * 16 + 16)), known]);
}

/** Knowledge entries as they travel: runs in ascending order. */
export function wireOf(unordered: ReadonlyArray<readonly [string, number]>): KnowledgeWire {
  const entries = [...unordered].sort(([a], [b]) => (a < b ? -1 : 1));
  const runs = new Uint8Array(entries.length * 16);
  entries.forEach(([run], i) => runs.set(hexToBytes(run), i * 16));
  return { runs, hlc: entries.map(([, hlc]) => hlc) };
}
