/** Waiting for a condition, without a time to wait. */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Resolves when `condition` holds; looks again at every turn of the event loop. The test's own time limit ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await nextTurn();
}

/** Lets everything that is ready run: `turns` turns of the event loop. */
export async function settle(turns = 20): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await nextTurn();
}
