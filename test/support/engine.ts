/** Small words for tests of the engine: pages of a pass, pages turned into others, copies compared. */
import { expect } from 'vitest';

import { decodeBatch, encodeBatch } from '../../src/protocol/batch.ts';
import type { Batch } from '../../src/protocol/types.ts';
import { Replica } from './replica.ts';
import type { ReplicaOptions } from './replica.ts';

/** Copies of one library on devices A, B, C, …. */
export function fleetOf(count: number, ddl: string, options: Partial<ReplicaOptions> = {}): Replica[] {
  return Array.from(
    { length: count },
    (_, i) => new Replica({ ...options, device: String.fromCodePoint(65 + i), ddl }),
  );
}

/** Two copies. */
export function pairOf(ddl: string, options: Partial<ReplicaOptions> = {}): [Replica, Replica] {
  return fleetOf(2, ddl, options) as [Replica, Replica];
}

/** All pages of one pass of `from`'s feed for `to`, none of them applied yet. */
export function pagesFor(to: Replica, from: Replica, rows: number, bytes?: number): Uint8Array[] {
  const pass = to.passFrom(from);
  const pages: Uint8Array[] = [];
  for (;;) {
    const page = pass.next(rows, bytes);
    if (page === null) break;
    pages.push(page);
    if (decodeBatch(page).end.complete) break;
  }
  pass.close();
  return pages;
}

/** A page with some of it changed. */
export function altered(page: Uint8Array, change: (batch: Batch) => Partial<Batch>): Uint8Array {
  const batch = decodeBatch(page);
  return encodeBatch({ ...batch, ...change(batch) });
}

/** The same rows in a page that claims nothing: as if more of the pass were to come. */
export function inTheMiddle(page: Uint8Array): Uint8Array {
  const knowledge = { runs: new Uint8Array(0), hlc: [] };
  return altered(page, ({ end }) => ({ end: { ...end, complete: false, knowledge } }));
}

/** Rows and tombstones in a page. */
export function rowsIn(page: Uint8Array): number {
  const { tables, tombstones } = decodeBatch(page);
  return [...tables, ...tombstones].reduce((sum, table) => sum + table.rows.length, 0);
}

/** Expects digests to agree, and constraints to hold everywhere. */
export async function expectEqual(...replicas: Replica[]): Promise<void> {
  for (const replica of replicas) {
    expect(replica.violations()).toEqual([]);
    expect(replica.db.pragma('integrity_check', { simple: true })).toBe('ok');
  }
  const digests = await Promise.all(replicas.map((replica) => replica.digest()));
  for (const digest of digests) expect(digest).toEqual(digests[0]);
}

/** Expects a query to give these rows everywhere, nothing to wait, and the copies to be equal. */
export async function expectShown(
  replicas: readonly Replica[],
  query: string,
  rows: readonly unknown[],
): Promise<void> {
  for (const replica of replicas) {
    expect(replica.rows(query), replica.device).toEqual(rows);
    expect(replica.waiting(), replica.device).toEqual([]);
  }
  await expectEqual(...replicas);
}

/** UUID (hex), birth stamp and change stamp of a row that has this integer key. */
export function stampsOf(
  replica: Replica,
  table: string,
  key: number | bigint,
): { uuid: string; birth: number; hlc: number; lsn: number } {
  replica.stamp();
  const { n } = replica.library.model(table);
  const [row] = replica.rows(`SELECT hex(uuid), birth_hlc, hlc, lsn FROM flotilla_rows_${n} WHERE key = ?`, key);
  if (row === undefined) throw new Error(`${table} has no row ${key}`);
  return { uuid: String(row[0]), birth: Number(row[1]), hlc: Number(row[2]), lsn: Number(row[3]) };
}

/** Applies pages as if all came from the middle of a pass that was broken off, so that the next one begins at 0. */
export function applyAll(to: Replica, from: string, pages: readonly Uint8Array[]): void {
  for (const page of pages) {
    to.applier.apply(from, inTheMiddle(page));
    expect(to.violations()).toEqual([]);
  }
  to.write('DELETE FROM flotilla_cursors');
}

/** Pages of one row each, in the order in which the rows were written. */
export function singles(to: Replica, from: Replica): Uint8Array[] {
  return pagesFor(to, from, 1);
}
