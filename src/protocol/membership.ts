/**
 * Who belongs to a library: signed records that are only ever added, and what they mean together. The meaning is a function of
 * the set of records alone, so it does not depend on the order in which they arrive, nor on any clock. Pure.
 *
 * Every record begins with its library's founder: the library id is the hash of the founder's id, so nobody else can be it.
 */
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { hexOf, integer, list, read, text } from './forms.ts';
import { MAX_DEVICE_NAME } from './messages.ts';
import { bytesToHex } from './uuid.ts';

/** What is signed begins with this, so that a signature is worth nothing anywhere else. The number is the format's. */
const DOMAIN = 'flotilla membership 1';
/** Bytes of a record's id. */
export const RECORD_ID_BYTES = 16;
/** Characters of a peer id; those of ours have 52. */
const MAX_PEER_ID = 128;
/** Records of one device that a revocation can leave standing: far more than one person invites. */
const MAX_KEPT = 1_000;

/** A peer id. That it is one shows where its device proves itself: by a signature, or to Noise. */
const device = text(MAX_PEER_ID, 1);
/** How often a device has been let in, this time included: 1 for the first. */
const term = integer(1, 2 ** 31);
/** ms since 1970, by the clock of the signer: for people, decides nothing. */
const at = integer(0);
const recordId = hexOf(RECORD_ID_BYTES);

const recordSchema = v.variant('type', [
  /** The first device; signed by itself. The library id comes of `device` and `salt`. */
  v.strictObject({ type: v.literal('founder'), device, name: text(MAX_DEVICE_NAME), salt: recordId, at }),
  /** `by`, in its term `byTerm`, has let a device in. */
  v.strictObject({
    type: v.literal('member'),
    device,
    term,
    name: text(MAX_DEVICE_NAME),
    by: device,
    byTerm: term,
    at,
  }),
  /**
   * `by` has ended the membership of a device, which may be its own. `keeps` are the records signed by that device which `by` knew
   * of: they stand, all others of it do not, whatever their dates.
   */
  v.strictObject({
    type: v.literal('revoked'),
    device,
    term,
    by: device,
    byTerm: term,
    at,
    keeps: list(recordId, MAX_KEPT),
  }),
]);

export type MemberRecord = v.InferOutput<typeof recordSchema>;
type Revocation = Extract<MemberRecord, { type: 'revoked' }>;
type Grant = Exclude<MemberRecord, Revocation>;

/** The canonical text of a record: what is stored, sent and signed. */
export function recordText(record: MemberRecord): string {
  return JSON.stringify(read(recordSchema, record));
}

/** The record of a text; null for whatever {@link recordText} did not make. */
export function readRecord(text: string): MemberRecord | null {
  try {
    const record = read(recordSchema, JSON.parse(text));
    return JSON.stringify(record) === text ? record : null;
  } catch {
    return null;
  }
}

/** The device that has to sign a record. */
export function signerOf(record: MemberRecord): string {
  return record.type === 'founder' ? record.device : record.by;
}

/** What the signer of a record signs. */
export function signedBytes(libraryId: string, text: string): Uint8Array {
  return new TextEncoder().encode(`${DOMAIN}\n${libraryId}\n${text}`);
}

/** The name of a record: 32 hex digits. */
export function recordIdOf(libraryId: string, text: string): string {
  const digest = createHash('sha256').update(signedBytes(libraryId, text)).digest();
  return bytesToHex(digest.subarray(0, RECORD_ID_BYTES));
}

/** The id of a library that a device founds: 32 hex digits. @param salt - 32 random hex digits, so that a device can found several */
export function libraryIdOf(founder: string, salt: string): string {
  const digest = createHash('sha256').update(`${DOMAIN}\n${founder}\n${salt}`).digest();
  return bytesToHex(digest.subarray(0, 16));
}

/** How a device stands. */
export interface Standing {
  readonly device: string;
  readonly name: string;
  /** Its last term. */
  readonly term: number;
  /** Peer id of the device that let it in; '' for the founder. */
  readonly invitedBy: string;
  /** ms since 1970 */
  readonly addedAt: number;
  /** null while it is a member; else who ended that, and when (ms since 1970). */
  readonly revoked: { readonly by: string; readonly at: number } | null;
}

export interface Membership {
  /** Members, and devices that were; by peer id. */
  readonly devices: ReadonlyMap<string, Standing>;
  /** Ids of the records that count. */
  readonly counted: ReadonlySet<string>;
}

/** What a set of records says. Records must be signed by {@link signerOf}: that is checked before. */
export function membershipOf(libraryId: string, records: ReadonlyMap<string, MemberRecord>): Membership {
  return new Judgement(libraryId, records).result();
}

interface Case {
  readonly id: string;
  readonly record: MemberRecord;
  /** `open` until it is decided. */
  status: 'open' | 'counts' | 'void';
}

/**
 * A record counts if its signer's membership does, and no revocation that counts cuts it off. Cases are decided in rounds, each
 * from what the rounds before have decided. That can lead nowhere: two devices that revoke each other apart cut off each other's
 * revocation. Then all revocations of such a circle count, so that nobody can undo his own revocation by answering it.
 *
 * Tried and rejected: letting the one count whose signer is nearer to the founder. A device that was stolen is as near as it was,
 * and answers whenever it likes.
 */
class Judgement {
  readonly #cases: readonly Case[];
  readonly #grants = new Map<string, Case[]>();
  readonly #revocations: ReadonlyArray<Case & { readonly record: Revocation }>;

  constructor(libraryId: string, records: ReadonlyMap<string, MemberRecord>) {
    this.#cases = [...records]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([id, record]) => ({ id, record, status: 'open' }));
    this.#revocations = this.#cases.filter((one) => one.record.type === 'revoked') as never;
    for (const one of this.#cases) {
      const { record } = one;
      if (record.type === 'revoked') continue;
      if (record.type === 'founder')
        one.status = libraryIdOf(record.device, record.salt) === libraryId ? 'counts' : 'void';
      const key = termKey(record.device, record.type === 'founder' ? 1 : record.term);
      this.#grants.set(key, [...(this.#grants.get(key) ?? []), one]);
    }
    while (this.#decide() || this.#breakTie());
  }

  /** One round. False when it decided nothing. */
  #decide(): boolean {
    const decided = this.#cases
      .filter((one) => one.status === 'open')
      .map((one) => ({ one, status: this.#judge(one) }))
      .filter(({ status }) => status !== 'open');
    for (const { one, status } of decided) one.status = status;
    return decided.length > 0;
  }

  #judge(one: Case): Case['status'] {
    const signer = this.#signerStatus(one);
    if (signer === 'void') return 'void';
    const cut = this.#cutStatus(one);
    if (cut === 'cut') return 'void';
    return signer === 'counts' && cut === 'stands' ? 'counts' : 'open';
  }

  #signerStatus({ record }: Case): Case['status'] {
    return anyOf(record.type === 'founder' ? [] : this.#grantsOf(record.by, record.byTerm));
  }

  #grantsOf(peer: string, of: number): readonly Case[] {
    return this.#grants.get(termKey(peer, of)) ?? [];
  }

  /** Whether revocations of its signer leave a record standing: one that knew of it does, for all. */
  #cutStatus(one: Case): 'stands' | 'cut' | 'open' {
    const over = this.#revocations.filter((revocation) => covers(revocation, one));
    const keepers = anyOf(over.filter(({ record }) => record.keeps.includes(one.id)));
    const cutters = anyOf(over.filter(({ record }) => !record.keeps.includes(one.id)));
    if (keepers === 'counts' || cutters === 'void') return 'stands';
    return cutters === 'counts' && keepers === 'void' ? 'cut' : 'open';
  }

  /**
   * What is left depends on itself. Of each circle that depends on nothing else all revocations count, if their signers can be
   * members at all; the rest of it is judged by them.
   */
  #breakTie(): boolean {
    const open = this.#cases.filter((one) => one.status === 'open');
    const before = new Map(open.map((one) => [one, this.#reach(one)]));
    const circles = open.filter((one) => [...(before.get(one) ?? [])].every((other) => before.get(other)?.has(one)));
    const counting = circles.filter(
      ({ record }) => record.type === 'revoked' && this.#canBeMember(record.by, record.byTerm),
    );
    for (const one of counting) one.status = 'counts';
    if (counting.length === 0) for (const one of circles) one.status = 'void';
    return open.length > 0;
  }

  /** The open cases on which one depends, over any number of steps. */
  #reach(one: Case): Set<Case> {
    const found = new Set<Case>();
    const queue = [one];
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      for (const other of this.#grounds(next)) {
        if (other.status !== 'open' || found.has(other)) continue;
        found.add(other);
        queue.push(other);
      }
    }
    return found;
  }

  /** What the judgement of a record looks at. */
  #grounds(one: Case): readonly Case[] {
    const { record } = one;
    const grants = record.type === 'founder' ? [] : this.#grantsOf(record.by, record.byTerm);
    return [...grants, ...this.#revocations.filter((revocation) => covers(revocation, one))];
  }

  /** True when invitations that may still count lead from the founder to a device. */
  #canBeMember(peer: string, of: number, seen: ReadonlySet<string> = new Set()): boolean {
    const key = termKey(peer, of);
    if (seen.has(key)) return false;
    return this.#grantsOf(peer, of).some(
      ({ status, record }) =>
        status !== 'void' &&
        (record.type === 'founder' || this.#canBeMember(record.by, record.byTerm, new Set([...seen, key]))),
    );
  }

  result(): Membership {
    const devices = new Map<string, Standing>();
    for (const peer of new Set(
      this.#cases.flatMap(({ record }) => (record.type === 'revoked' ? [] : [record.device])),
    )) {
      const standing = this.#standingOf(peer);
      if (standing !== null) devices.set(peer, standing);
    }
    const counted = this.#cases.filter(({ status }) => status === 'counts');
    return { devices, counted: new Set(counted.map(({ id }) => id)) };
  }

  #standingOf(peer: string): Standing | null {
    const own = this.#cases.filter(({ record }) => record.type !== 'revoked' && record.device === peer);
    const counted = latest(own.filter(({ status }) => status === 'counts'));
    if (counted === null) return this.#cutOff(own);
    const standing = standingBy(counted);
    const ended = this.#revocations
      .filter(({ status, record }) => status === 'counts' && record.device === peer && record.term >= standing.term)
      .map(({ record }) => ({ by: record.by, at: record.at }))
      .toSorted((a, b) => a.at - b.at);
    return { ...standing, revoked: ended[0] ?? null };
  }

  /** A device that was let in by one that was revoked, before anybody else had heard of it: it goes with that one. */
  #cutOff(own: readonly Case[]): Standing | null {
    for (const one of own) {
      const cutter = this.#revocations.find((over) => over.status === 'counts' && covers(over, one));
      if (cutter === undefined || this.#signerStatus(one) !== 'counts') continue;
      return { ...standingBy(one.record as Grant), revoked: { by: cutter.record.by, at: cutter.record.at } };
    }
    return null;
  }
}

/** True for a record that a revocation's device has signed, in the term that it ends or before. */
function covers(revocation: Case & { readonly record: Revocation }, one: Case): boolean {
  const { record } = one;
  return (
    one !== revocation &&
    record.type !== 'founder' &&
    record.by === revocation.record.device &&
    record.byTerm <= revocation.record.term
  );
}

/** Whether one of them counts: `void` when none does or can. */
function anyOf(cases: readonly Case[]): Case['status'] {
  if (cases.some(({ status }) => status === 'counts')) return 'counts';
  return cases.some(({ status }) => status === 'open') ? 'open' : 'void';
}

/** The grant of the last term; of several made apart the one with the earliest date. */
function latest(grants: readonly Case[]): Grant | null {
  const last = Math.max(...grants.map(({ record }) => termOf(record as Grant)));
  const [first] = grants
    .map(({ record }) => record as Grant)
    .filter((record) => termOf(record) === last)
    .toSorted((a, b) => a.at - b.at);
  return first ?? null;
}

function standingBy(grant: Grant): Standing {
  const { device: peer, name, at: addedAt } = grant;
  const invitedBy = grant.type === 'founder' ? '' : grant.by;
  return { device: peer, name, term: termOf(grant), invitedBy, addedAt, revoked: null };
}

function termOf(grant: Grant): number {
  return grant.type === 'founder' ? 1 : grant.term;
}

function termKey(peer: string, of: number): string {
  return `${peer} ${of}`;
}

/** The term in which a device would be let in next. */
export function nextTerm({ devices }: Membership, records: Iterable<MemberRecord>, peer: string): number {
  let last = devices.get(peer)?.term ?? 0;
  for (const record of records)
    if (record.type === 'revoked' && record.device === peer) last = Math.max(last, record.term);
  return last + 1;
}

/** Ids of the records that a device has signed and that count: what its revocation leaves standing. */
export function signedRecords(
  { counted }: Membership,
  records: ReadonlyMap<string, MemberRecord>,
  peer: string,
): string[] {
  return [...records].flatMap(([id, record]) => (counted.has(id) && signerOf(record) === peer ? [id] : [])).toSorted();
}
