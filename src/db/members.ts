/**
 * Membership in the library file. `flotilla_membership` holds the signed records, which sync like rows of a table of the user's but
 * are never changed nor deleted; `flotilla_members` holds what they mean, worked out anew in each transaction that takes one in.
 */
import { createHash } from 'node:crypto';

import { FlotillaError } from '../errors.ts';
import {
  RECORD_ID_BYTES,
  membershipOf,
  nextTerm,
  readRecord,
  recordIdOf,
  recordText,
  signedBytes,
  signedRecords,
  signerOf,
} from '../protocol/membership.ts';
import type { MemberRecord, Membership, Standing } from '../protocol/membership.ts';
import type { Batch, TableData } from '../protocol/types.ts';
import { bytesToHex, canonicalKey, derivedUuid, hexToBytes } from '../protocol/uuid.ts';
import type { MemberRow, Revoked } from './api.ts';
import { MEMBERSHIP_TABLE } from './choose.ts';
import { columnData } from './incoming.ts';
import { mergeBatch } from './merge.ts';
import { rowsTable } from './model.ts';
import { runBytes } from './page.ts';
import type { Library } from './library.ts';
import type { Statements } from './sql.ts';
import { stampExisting } from './stamp.ts';
import { cutVersion, joinVersions } from './version.ts';

/** Members and devices that were, as `flotilla_members` has them. */
export function readMembers(sql: Statements): MemberRow[] {
  return sql
    .rows(
      `SELECT device, name, invited_by, added_at, revoked_by, revoked_at
       FROM flotilla_members ORDER BY added_at, device`,
    )
    .map(([device, name, invitedBy, addedAt, by, at]) => ({
      device: String(device),
      name: String(name),
      invitedBy: String(invitedBy),
      addedAt: Number(addedAt),
      revoked: by === null ? null : { by: String(by), at: Number(at) },
    }));
}

/** True for a device that was a member and is none any more. */
export function isRevoked(sql: Statements, device: string): boolean {
  const found = sql.value('SELECT 1 FROM flotilla_members WHERE device = ? AND revoked_at IS NOT NULL', device);
  return found !== undefined;
}

/** @throws FlotillaError REVOKED when the device is a member no more */
export function requireNotRevoked(sql: Statements, device: string): void {
  if (isRevoked(sql, device))
    throw new FlotillaError(
      'REVOKED',
      'The peer is a member of this library no more: nothing goes to it or comes from it.',
    );
}

/** A member by its peer id, or by its name if only one has it. @throws FlotillaError NOT_A_MEMBER */
export function memberNamed(sql: Statements, named: string): MemberRow {
  return oneNamed(
    readMembers(sql).filter(({ revoked }) => revoked === null),
    named,
  );
}

function oneNamed(members: readonly MemberRow[], named: string): MemberRow {
  const byName = members.filter(({ name }) => name === named);
  const found = members.find(({ device }) => device === named) ?? (byName.length === 1 ? byName[0] : undefined);
  if (found !== undefined) return found;
  const why = byName.length > 1 ? `${byName.length} members have the name "${named}"` : `No member is "${named}"`;
  throw new FlotillaError('NOT_A_MEMBER', `${why}: give a peer id, as "flotilla devices" shows it.`);
}

// -- our own records

/** Writes the record of a new library's first device. */
export function writeFounder(library: Library, name: string, salt: string): void {
  const { device, now } = library.around;
  writeRecord(library, { type: 'founder', device, name, salt, at: now() });
}

/**
 * Lets a device in, signed by this one; also one that was a member before. Nothing is written when it is a member already.
 * @throws FlotillaError NOT_A_MEMBER when this device is none
 */
export function admit(library: Library, device: string, name: string): void {
  library.transact(() => {
    const { records, membership } = judge(library);
    const own = ownStanding(library, membership);
    const standing = membership.devices.get(device);
    if (standing !== undefined && standing.revoked === null) return;
    const term = nextTerm(membership, records.values(), device);
    const at = library.around.now();
    writeRecord(library, { type: 'member', device, term, name, by: own.device, byTerm: own.term, at });
  });
}

/**
 * Ends the membership of a device, signed by this one.
 * @param named - peer id or name
 * @throws FlotillaError NOT_A_MEMBER when it is none, or this device is none
 */
export function revoke(library: Library, named: string): Revoked {
  return library.transact(() => {
    const { records, membership } = judge(library);
    const own = ownStanding(library, membership);
    const all = readMembers(library.sql);
    const standing = all.filter((member) => member.revoked === null);
    const isNamed = ({ device, name }: MemberRow): boolean => device === named || name === named;
    // Who is gone is found as well, to say so; but whoever is there comes first.
    const { device, name } = oneNamed(standing.some(isNamed) ? standing : all, named);
    const last = membership.devices.get(device);
    if (last === undefined || last.revoked !== null) return { device, name, changed: false };
    const keeps = signedRecords(membership, records, device);
    const at = library.around.now();
    writeRecord(library, { type: 'revoked', device, term: last.term, by: own.device, byTerm: own.term, at, keeps });
    return { device, name, changed: true };
  });
}

function ownStanding({ around }: Library, { devices }: Membership): Standing {
  const standing = devices.get(around.device);
  if (standing !== undefined && standing.revoked === null) return standing;
  throw new FlotillaError(
    'NOT_A_MEMBER',
    "This device is no member of the library, so it can let nobody in and end nobody's membership: get an invitation from a member first.",
  );
}

/** Signs and writes a record; stamped, since capture leaves this table alone. */
function writeRecord(library: Library, record: MemberRecord): void {
  const text = recordText(record);
  const { libraryId, around } = library;
  const signature = around.seal.sign(signedBytes(libraryId, text));
  library.withoutCapture(() =>
    library.sql.run(
      `INSERT INTO ${MEMBERSHIP_TABLE} (id, record, signature) VALUES (?, ?, ?)`,
      Buffer.from(hexToBytes(recordIdOf(libraryId, text))),
      text,
      Buffer.from(signature),
    ),
  );
  stampExisting(library, library.model(MEMBERSHIP_TABLE), around.now());
  refreshMembers(library);
}

/** Hash of all records, hex: who says the same has the same. */
export function recordsHash(sql: Statements): string {
  const digest = createHash('sha256');
  for (const row of sql.rows(
    `SELECT id, CAST(record AS BLOB), signature FROM ${MEMBERSHIP_TABLE} ORDER BY id`,
  ) as Uint8Array[][])
    for (const bytes of row) digest.update(`${bytes.byteLength};`).update(bytes);
  return digest.digest('hex').slice(0, 32);
}

// -- what the records mean

function judge(library: Library): { records: Map<string, MemberRecord>; membership: Membership } {
  const records = new Map<string, MemberRecord>();
  for (const [id, text, signature] of library.sql.rows(`SELECT id, record, signature FROM ${MEMBERSHIP_TABLE}`)) {
    const found = checkRecord(library, id, text, signature);
    if (typeof found !== 'string') records.set(bytesToHex(id as Uint8Array), found);
  }
  return { records, membership: membershipOf(library.libraryId, records) };
}

/** Brings `flotilla_members` up to date with the records. In the transaction that has added some. */
export function refreshMembers(library: Library): void {
  const { devices, counted } = judge(library).membership;
  library.sql.run('DELETE FROM flotilla_members');
  for (const { device, name, term, invitedBy, addedAt, revoked } of devices.values()) {
    library.sql.run(
      `INSERT INTO flotilla_members (device, name, term, invited_by, added_at, revoked_by, revoked_at)
       VALUES (?, ?, ?, ?, ?, ?, ?)`,
      device,
      name,
      term,
      invitedBy,
      addedAt,
      revoked?.by ?? null,
      revoked?.at ?? null,
    );
  }
  library.sql.run(
    `INSERT INTO flotilla_state (key, value)
     SELECT 'uncounted', count(*) - ${counted.size} FROM ${MEMBERSHIP_TABLE} WHERE true
     ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
  );
  library.membersChanged();
}

// -- records that arrive

/** A batch, with its records of membership apart. */
export interface Screened {
  readonly batch: Batch;
  /** Those that are what they say; null for none. */
  readonly records: Batch | null;
  /** Why others are left out, one sentence each. */
  readonly refused: readonly string[];
}

/**
 * Takes the records of membership out of a batch, and leaves out what is not what it says: a damaged one, one that its signer has
 * not signed, one under another row's identity; and deletes of records, which nobody makes.
 */
export function screenRecords(library: Library, batch: Batch): Screened {
  const isRecords = ({ table }: { readonly table: string }): boolean => table === MEMBERSHIP_TABLE;
  const found = batch.tables.filter(isRecords);
  const graves = batch.tombstones.filter(isRecords);
  if (found.length === 0 && graves.length === 0) return { batch, records: null, refused: [] };
  const rest = {
    ...batch,
    tables: batch.tables.filter((one) => !isRecords(one)),
    tombstones: batch.tombstones.filter((one) => !isRecords(one)),
  };
  const judged = found.flatMap((table) =>
    table.rows.flatMap((_, position) =>
      isHere(library, batch, table, position)
        ? []
        : [{ table, position, fault: faultOf(library, batch, table, position) }],
    ),
  );
  const refused = [...graves.map(() => DELETED), ...judged.flatMap(({ fault }) => fault ?? [])];
  const good = judged.filter(({ fault }) => fault === null);
  if (good.length === 0) return { batch: rest, records: null, refused };
  const records =
    good.length === found.reduce((sum, { rows }) => sum + rows.length, 0)
      ? { ...batch, tables: found, tombstones: [] }
      : joinVersions(
          library,
          good.map(({ table, position }) => cutVersion(batch, table, position)),
        );
  return { batch: rest, records, refused };
}

/** Merges records that were found good. @returns how many were news */
export function takeRecords(library: Library, records: Batch): number {
  // As if they were taken up again: whatever our knowledge claims, one that is not here was never here.
  const { changed } = mergeBatch(library, records, { holdDeletes: false, retake: true, adopter: null });
  if (changed > 0) refreshMembers(library);
  return changed;
}

/** Why a record of a batch is not taken, in words; null when it is. */
function faultOf(library: Library, batch: Batch, table: TableData, position: number): string | null {
  const value = (name: string): unknown => {
    const column = columnData(table, name);
    return column?.kind === 'value' ? column.values[position] : undefined;
  };
  const id = value('id');
  const found = checkRecord(library, id, value('record'), value('signature'));
  if (typeof found === 'string') return found;
  const index = table.rows[position] ?? 0;
  const uuid = batch.uuids.subarray(index * 16, index * 16 + 16);
  const wanted = uuidOfRecord(library, id as Uint8Array);
  return Buffer.compare(uuid, wanted) === 0
    ? null
    : 'A record of membership came under the identity of another row: it was not taken.';
}

/** True for a version that is here already: every pass brings all of them. */
function isHere(library: Library, batch: Batch, table: TableData, position: number): boolean {
  const index = table.rows[position] ?? 0;
  const [row] = library.sql.rows(
    `SELECT birth_hlc, birth_run FROM ${rowsTable(library.model(MEMBERSHIP_TABLE))} WHERE uuid = ?`,
    Buffer.from(batch.uuids.subarray(index * 16, index * 16 + 16)),
  );
  if (row === undefined || row[0] !== batch.birthHlc[index]) return false;
  return library.runHex(Number(row[1])) === bytesToHex(runBytes(batch, batch.birthRun[index] ?? 0));
}

function uuidOfRecord({ libraryId }: Library, id: Uint8Array): Uint8Array {
  const canonical = canonicalKey(hexToBytes(libraryId), MEMBERSHIP_TABLE, [{ type: 'blob', value: id }]);
  return derivedUuid(createHash('sha256').update(canonical).digest());
}

/** The record, or why it is none, in words. */
function checkRecord(library: Library, id: unknown, text: unknown, signature: unknown): MemberRecord | string {
  if (typeof text !== 'string' || !(id instanceof Uint8Array) || !(signature instanceof Uint8Array)) return DAMAGED;
  const record = readRecord(text);
  const isNamed = id.byteLength === RECORD_ID_BYTES && bytesToHex(id) === recordIdOf(library.libraryId, text);
  if (record === null || !isNamed) return DAMAGED;
  const signer = signerOf(record);
  if (library.around.seal.isSignedBy(signer, signedBytes(library.libraryId, text), signature)) return record;
  return `A record of membership about ${record.device} has no valid signature of ${signer}: it was not taken.`;
}

const DELETED = 'The peer has deleted a record of membership, which is never done: it stays.';
const DAMAGED = 'A record of membership is damaged: it was not taken.';
