import { SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';

import { createTaking } from '../../src/actors/taking.ts';
import { CHUNK_BYTES } from '../../src/protocol/messages.ts';
import type { Frame } from '../../src/protocol/types.ts';

const OFFER = { id: 'aa'.repeat(16), bytes: 2 * CHUNK_BYTES, rows: 1_000, hash: 'bb'.repeat(32) };

/** Takes a snapshot of two chunks; what people are told, in order. */
async function take(taken: { readonly rows: number } | null, from = 0): Promise<unknown[]> {
  const told: unknown[] = [];
  const taking = createTaking({
    peer: 'peer',
    store: {
      beginSnapshot: async () => from,
      addToSnapshot: async () => {},
      takeSnapshot: async () => {
        told.push('taken in');
        return taken;
      },
    },
    send: async (frame: Frame) => {
      if (frame.type === 'fetch') taking.answered({ type: 'snapshot', ...OFFER });
      else if (frame.type === 'part') taking.answered({ type: 'chunk', data: new Uint8Array(CHUNK_BYTES) });
    },
    signal: new AbortController().signal,
    clock: new SimulatedClock(),
    onProgress: (rows, remaining) => told.push([rows, remaining]),
    onTransferred: () => told.push('transferred'),
  });
  expect(await taking.run({ layout: 'cc'.repeat(32) })).toBe(taken);
  return told;
}

describe('taking a snapshot', () => {
  it('[A13] is done when it is taken in, not when all has come', async () => {
    const told = await take({ rows: 1_000 });
    expect(told).toEqual([[450, 550], [450, 100], 'transferred', 'taken in', [100, 0]]);
  });

  it('[A13] goes on with the first chunk that is lacking', async () => {
    expect(await take({ rows: 1_000 }, CHUNK_BYTES)).toEqual([[900, 100], 'transferred', 'taken in', [100, 0]]);
  });

  it('[A13] that is not what it should be counts for nothing', async () => {
    expect(await take(null)).toEqual([[450, 550], [450, 100], 'transferred', 'taken in']);
  });
});
