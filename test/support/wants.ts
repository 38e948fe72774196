/** Messages that ask for a feed. */
import type { Frame } from '../../src/protocol/types.ts';

type Want = Extract<Frame, { type: 'want' }>;

/** Asks for everything, as who knows nothing. @param credit - bytes that it says it has room for */
export function wantAll(credit: number, more: Partial<Want> = {}): Want {
  return {
    type: 'want',
    pass: 'ordinary',
    cursor: null,
    knowledge: { runs: new Uint8Array(0), hlc: [] },
    records: '00',
    credit,
    isOver: false,
    ...more,
  };
}
