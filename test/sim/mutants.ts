/**
 * Builds that are broken on purpose, switched on by name: the simulation is worth what it finds in them. They change what goes in and
 * out of the writing service, so that nothing of them is in the product.
 */
import type { WorkerCall } from '../../src/actors/worker-client.ts';
import type { Writer } from '../../src/db/writer.ts';
import type { SimDevice } from './device.ts';
import type { VirtualTime } from './time.ts';

export const MUTANTS = ['ack-before-commit'] as const;
export type Mutant = (typeof MUTANTS)[number];

/** How long what was ACKed too early takes to become durable, ms. */
const SYNC_MS = 1_500;

export type Mutate = (writer: Writer, call: WorkerCall, proceed: () => unknown) => unknown;

export function mutating(mutant: Mutant | null, device: SimDevice, time: VirtualTime): Mutate {
  switch (mutant) {
    case null:
      return (_writer, _call, proceed) => proceed();
    case 'ack-before-commit':
      return (_writer, { method }, proceed) => {
        if (method !== 'apply' || device.unsynced !== null) return proceed();
        device.unsynced = device.db.serialize();
        time.after(SYNC_MS, () => {
          device.unsynced = null;
        });
        return proceed();
      };
  }
}
