/** Waiting for what devices do: whose session stands how, and when their copies are the same. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type Device, waitUntilEqual } from '../../examples/fleet.ts';
import type { PeerState, Progress } from '../../src/index.ts';

/** Until what is written on one device is on all others, ms. Far more than it takes. */
export const ARRIVAL_MS = 30_000;

/** Waits until `device` says, after its event number `from`, that its session with `other` is in this state; the reason. */
export function untilState(
  device: Device,
  other: Device,
  state: PeerState,
  from = 0,
  ms = ARRIVAL_MS,
): Promise<string> {
  return device.node.waitFor(`"${state}" with ${other.name}`, ms, (events) => {
    for (const event of events.slice(from)) {
      if (event.event === 'peer' && event.device === other.id && event.state === state) return event.reason;
    }
    return undefined;
  });
}

/** Waits until `device` reports progress of a pass that has begun and is not over. */
export function untilMidway(device: Device, from = 0): Promise<Progress> {
  return device.node.waitFor('progress of a backfill', ARRIVAL_MS, (events) => {
    for (const event of events.slice(from)) {
      if (event.event === 'progress' && event.progress.done > 0 && event.progress.done < event.progress.total)
        return event.progress;
    }
    return undefined;
  });
}

/** Waits until all copies hold the same, with every foreign key pointing somewhere. */
export async function expectEqual(devices: readonly Device[], ms = ARRIVAL_MS): Promise<void> {
  const { comparison } = await waitUntilEqual(devices, ms);
  expect(comparison).toMatchObject({
    identical: true,
    foreignKeyViolations: 0,
    missingRows: 0,
    extraRows: 0,
    differentRows: 0,
  });
}

/** Process id of the running node, as it says itself. */
export function pidOf(device: Device): number {
  const { pid } = JSON.parse(readFileSync(join(`${device.library}.flotilla`, 'running.json'), 'utf8')) as {
    pid: number;
  };
  return pid;
}
