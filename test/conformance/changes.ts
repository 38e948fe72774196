/**
 * Copies with schemas of their own, for the tests of group G.
 */
import { expect } from 'vitest';

import { Replica } from '../support/replica.ts';

/** Three copies of one library, on the devices a, b and c. */
export function replicas(ddl: string, config: object = {}): [Replica, Replica, Replica] {
  const make = (device: string): Replica => new Replica({ device, ddl, config });
  return [make('a'), make('b'), make('c')];
}

/** Their digests agree, also where one keeps aside what another has in its tables, and their foreign keys hold. */
export async function expectEqual(...copies: Replica[]): Promise<void> {
  const digests = await Promise.all(copies.map((copy) => copy.digest()));
  for (const digest of digests) expect(digest).toEqual(digests[0]);
  for (const copy of copies) expect(copy.violations()).toEqual([]);
}
