/**
 * Builds that are broken on purpose, switched on by name: the simulation is worth what it finds in them. They change what goes in and
 * out of the writing service, so that nothing of them is in the product.
 */
import type { WorkerCall } from '../../src/actors/worker-client.ts';
import { wireOf } from '../../src/db/knowledge-wire.ts';
import { decodeBatch, encodeBatch } from '../../src/protocol/batch.ts';
import { bytesToHex } from '../../src/protocol/uuid.ts';
import type { SimDevice } from './device.ts';
import type { VirtualTime } from './time.ts';

/**
 * - `ack-before-commit`: a batch is ACKed some time before a crash could no longer undo it
 * - `early-knowledge`: what the sender knows is taken over with each page, not with the one that reaches its head
 * - `prune-at-once`: every member counts as having what this device has, so deletes are forgotten at once
 */
export const MUTANTS = ['ack-before-commit', 'early-knowledge', 'prune-at-once'] as const;
export type Mutant = (typeof MUTANTS)[number];

/** How long what was ACKed too early takes to become durable, ms. */
const SYNC_MS = 1_500;

/** Stands around a call of the writing service. */
export type Mutate = (call: WorkerCall, proceed: (call: WorkerCall) => unknown) => unknown;

/** @param peer - a device of the fleet by its name */
export function mutating(
  mutant: Mutant | null,
  device: SimDevice,
  peer: (name: string) => SimDevice,
  time: VirtualTime,
): Mutate {
  switch (mutant) {
    case null:
      return (call, proceed) => proceed(call);
    case 'ack-before-commit':
      return (call, proceed) => {
        if (call.method === 'apply' && device.unsynced === null) {
          device.unsynced = device.db.serialize();
          time.after(SYNC_MS, () => {
            device.unsynced = null;
          });
        }
        return proceed(call);
      };
    case 'early-knowledge':
      return (call, proceed) => {
        if (call.method !== 'apply') return proceed(call);
        const [sender, pages] = call.args as [string, readonly Uint8Array[]];
        const knowing = pages.map((page) => {
          const batch = decodeBatch(page);
          if (batch.end.complete) return page;
          const end = { ...batch.end, complete: true, knowledge: wireOf([...knowledgeOf(peer(sender))]) };
          return encodeBatch({ ...batch, end });
        });
        return proceed({ ...call, args: [sender, knowing] });
      };
    case 'prune-at-once':
      return (call, proceed) => {
        if (call.method === 'acked' || call.method === 'hear')
          device.db.exec(
            `INSERT INTO flotilla_heard (device, run, hlc)
             SELECT m.device, k.run, k.hlc FROM flotilla_members m, flotilla_knowledge k
             WHERE m.device NOT IN (SELECT device FROM flotilla_self)
             ON CONFLICT (device, run) DO UPDATE SET hlc = max(hlc, excluded.hlc)`,
          );
        return proceed(call);
      };
  }
}

/** What a copy says that it knows: run id (hex) → hlc. */
export function knowledgeOf(file: { rows(sql: string): unknown[][] }): Map<string, number> {
  const rows = file.rows('SELECT r.id, k.hlc FROM flotilla_knowledge k JOIN flotilla_runs r ON r.run = k.run');
  return new Map(rows.map(([id, hlc]) => [bytesToHex(id as Uint8Array), Number(hlc)]));
}
