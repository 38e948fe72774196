/**
 * Compares two copies by digests: tables first, then the buckets of those that differ, then the rows of those buckets. So
 * what travels grows with the difference, not with the library.
 */
import type { VerifyReport } from '../api.ts';
import { FlotillaError } from '../errors.ts';
import type { Inspection, InspectionAnswer } from '../protocol/types.ts';

/** Differences that are listed of one peer: enough to see the kind of fault, little enough to read. */
export const MAX_DIFFERENCES = 100;

export type Inspect = (query: Inspection) => Promise<InspectionAnswer>;
export type Difference = VerifyReport['peers'][number]['differences'][number];

/** The rows in which two copies differ, at most `MAX_DIFFERENCES`; none when they are identical. */
export async function compareCopies(here: Inspect, there: Inspect): Promise<Difference[]> {
  const differences: Difference[] = [];
  const [own, other] = await both(here, there, { kind: 'tables' });
  const names = new Set([...Object.keys(own.tables), ...Object.keys(other.tables)]);
  for (const table of [...names].toSorted()) {
    if (own.tables[table]?.digest === other.tables[table]?.digest) continue;
    const [ownBuckets, otherBuckets] = await both(here, there, { kind: 'buckets', table });
    for (let bucket = 0; bucket < ownBuckets.digests.length; bucket += 1) {
      if (ownBuckets.digests[bucket] === otherBuckets.digests[bucket]) continue;
      const [ownRows, otherRows] = await both(here, there, { kind: 'rows', table, bucket });
      for (const difference of compareRows(table, new Map(ownRows.rows), new Map(otherRows.rows))) {
        differences.push(difference);
        if (differences.length === MAX_DIFFERENCES) return differences;
      }
    }
  }
  return differences;
}

function* compareRows(table: string, own: Map<string, string>, other: Map<string, string>): Generator<Difference> {
  for (const [uuid, hash] of own) {
    const there = other.get(uuid);
    if (there === undefined) yield { table, uuid, difference: 'only here' };
    else if (there !== hash) yield { table, uuid, difference: 'different' };
  }
  for (const uuid of other.keys()) {
    if (!own.has(uuid)) yield { table, uuid, difference: 'only there' };
  }
}

type Answer<K extends Inspection['kind']> = Extract<InspectionAnswer, { kind: K }>;

async function both<K extends Inspection['kind']>(
  here: Inspect,
  there: Inspect,
  query: Extract<Inspection, { kind: K }>,
): Promise<[Answer<K>, Answer<K>]> {
  const answers = await Promise.all([here(query), there(query)]);
  for (const answer of answers) {
    if (answer.kind !== query.kind)
      throw new FlotillaError('PROTOCOL', 'The peer answered something else than it was asked.');
  }
  return answers as [Answer<K>, Answer<K>];
}
