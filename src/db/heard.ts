/**
 * What other members know, as they have said or ACKed it themselves, directly or by way of others, and when they were last heard of. It
 * only grows, unless a member says itself that it knows less: it was restored, and what it knew more may be nowhere any more.
 */
import { createHash } from 'node:crypto';

import { bytesToHex } from '../protocol/uuid.ts';
import type { HeardWire, KnowledgeWire } from '../protocol/types.ts';
import { entriesOf, wireOf } from './knowledge-wire.ts';
import type { Library } from './library.ts';
import type { Statements } from './sql.ts';

/** A member's being there is told again after so long, ms. */
const SEEN_AGAIN_MS = 3_600_000;

/**
 * Up to where members that have gone back know some runs, as they said themselves: others may not have heard of it, and tell more. Device →
 * local number of the run → hlc.
 */
const wentBack = new WeakMap<Library, Map<string, Map<number, number>>>();

/**
 * Takes over all that a device says that it knows. Where it has known more, it has gone back: deletes would be kept for good because of what
 * nobody has.
 * @param before - what was heard of it before it was asked; by now more may have been
 */
export function hearAll(
  library: Library,
  device: string,
  knowledge: KnowledgeWire,
  at: number,
  before: ReadonlyMap<number, number> = knowledgeHeard(library.sql, device),
): void {
  const now = new Map(entriesOf(knowledge).map(([run, hlc]) => [library.runOrdinal(run, null), hlc]));
  for (const [run, hlc] of before) {
    const known = now.get(run) ?? 0;
    if (known >= hlc) continue;
    // What has been heard since stays.
    const same = 'device = ? AND run = ? AND hlc = ?';
    if (known === 0) library.sql.run(`DELETE FROM flotilla_heard WHERE ${same}`, device, run, hlc);
    else library.sql.run(`UPDATE flotilla_heard SET hlc = ? WHERE ${same}`, known, device, run, hlc);
    const ofLibrary = wentBack.get(library) ?? new Map<string, Map<number, number>>();
    wentBack.set(library, ofLibrary.set(device, (ofLibrary.get(device) ?? new Map<number, number>()).set(run, known)));
  }
  hear(library, device, knowledge, at);
}

/**
 * Takes over what a device says that it knows.
 * @param at - when it said so, ms since 1970
 * @param isHearsay - another one says so. @default false
 */
export function hear(
  library: Library,
  device: string,
  { runs, hlc }: KnowledgeWire,
  at: number,
  isHearsay = false,
): void {
  if (device === library.around.device) return;
  library.sql.run(
    `INSERT INTO flotilla_seen (device, at) VALUES (?, ?)
     ON CONFLICT (device) DO UPDATE SET at = excluded.at WHERE excluded.at > flotilla_seen.at`,
    device,
    Math.min(at, library.around.now()),
  );
  if (hlc.length === 0) return;
  // A session begins with all that somebody knows, nearly all of which has been said before.
  const before = knowledgeHeard(library.sql, device);
  const bounds = wentBack.get(library)?.get(device);
  hlc.forEach((known, i) => {
    const run = library.runOrdinal(bytesToHex(runs.subarray(i * 16, i * 16 + 16)), null);
    if (known <= (before.get(run) ?? -1)) return;
    if (isHearsay && known > (bounds?.get(run) ?? Infinity)) return;
    bounds?.delete(run);
    library.sql.run(
      `INSERT INTO flotilla_heard (device, run, hlc) VALUES (?, ?, ?)
       ON CONFLICT (device, run) DO UPDATE SET hlc = excluded.hlc WHERE excluded.hlc > flotilla_heard.hlc`,
      device,
      run,
      known,
    );
  });
}

/** Local number of a run → hlc. */
export function knowledgeHeard(sql: Pick<Statements, 'rows'>, device: string): Map<number, number> {
  const rows = sql.rows('SELECT run, hlc FROM flotilla_heard WHERE device = ?', device);
  return new Map(rows.map(([run, hlc]) => [Number(run), Number(hlc)]));
}

/** Another member, as far as we have heard. */
export interface Heard {
  readonly device: string;
  /** Local number of the run → hlc. Empty when it has never said anything. */
  readonly knowledge: ReadonlyMap<number, number>;
  /** When it was last heard of, ms since 1970; 0 for never. */
  readonly at: number;
}

/** All members but this device. */
export function heardMembers(sql: Pick<Statements, 'rows'>, own: string): Heard[] {
  const devices = sql.rows(
    `SELECT m.device, ifnull(s.at, 0) FROM flotilla_members m LEFT JOIN flotilla_seen s ON s.device = m.device
     WHERE m.device <> ? AND m.revoked_at IS NULL`,
    own,
  );
  const known = new Map<string, Map<number, number>>(devices.map(([device]) => [String(device), new Map()]));
  for (const [device, run, hlc] of sql.rows('SELECT device, run, hlc FROM flotilla_heard'))
    known.get(String(device))?.set(Number(run), Number(hlc));
  return devices.map(([device, at]) => ({
    device: String(device),
    knowledge: known.get(String(device)) ?? new Map<number, number>(),
    at: Number(at),
  }));
}

/**
 * Hash of what this device has heard of all others but a peer, hex: where the peer's is the same, neither has anything to tell.
 * @param seenMs - differences of less do not matter in when they were last heard of
 */
export function heardHash(library: Library, peer: string, seenMs: number): string {
  const digest = createHash('sha256');
  for (const { device, at, knowledge } of toTell(library, peer)) {
    digest.update(`${device} ${Math.floor(at / seenMs)};`);
    const known = [...knowledge].map(([run, hlc]) => `${library.runHex(run)} ${hlc};`);
    for (const entry of known.sort()) digest.update(entry);
  }
  return digest.digest('hex').slice(0, 32);
}

/** What there is to tell a peer of others, in the order of their ids. */
function toTell(library: Library, peer: string): Heard[] {
  return heardMembers(library.sql, library.around.device)
    .filter(({ device, knowledge }) => device !== peer && knowledge.size > 0)
    .sort((a, b) => (a.device < b.device ? -1 : 1));
}

/** What was said to one peer in its session. */
export class Conversation {
  /** What others know. */
  readonly spreading: Spreading;
  /** What we know ourselves: run id (hex) → hlc. */
  readonly #told: Map<string, number>;

  /** @param base - what our own `want` says that we know */
  constructor(peer: string, base: ReadonlyMap<string, number>) {
    this.spreading = new Spreading(peer, base);
    this.#told = new Map(base);
  }

  /** What we know since it was last said. */
  sayTo(library: Library): KnowledgeWire {
    const news = [...library.knowledge()].filter(([run, hlc]) => hlc > (this.#told.get(run) ?? -1));
    for (const [run, hlc] of news) this.#told.set(run, hlc);
    return wireOf(news);
  }
}

/** What of others was said to one peer in its session, and by it. */
class Spreading {
  readonly #peer: string;
  /** What our own `want` said that we know: the first word about each member is where it differs from that. */
  readonly #base: ReadonlyMap<string, number>;
  /** The same by local numbers of runs. */
  #numbered: ReadonlyMap<number, number> | null = null;
  readonly #told = new Map<string, Heard>();

  constructor(peer: string, base: ReadonlyMap<string, number>) {
    this.#peer = peer;
    this.#base = base;
  }

  /** The peer has heard of others what this device has. */
  wasToldAll(library: Library): void {
    for (const member of toTell(library, this.#peer)) this.#told.set(member.device, member);
  }

  /** What is news to the peer. */
  news(library: Library): HeardWire[] {
    return toTell(library, this.#peer).flatMap((member): HeardWire[] => {
      const { device, at, knowledge } = member;
      const told = this.#told.get(device);
      const entries = told === undefined ? this.#differences(library, knowledge) : grown(knowledge, told.knowledge);
      // That it is still there is news now and then.
      if (told !== undefined && entries.length === 0 && at < told.at + SEEN_AGAIN_MS) return [];
      this.#told.set(device, member);
      const named = entries.map(([run, hlc]): [string, number] => [library.runHex(run), hlc]);
      return [{ device, at, knowledge: wireOf(named), whole: told === undefined }];
    });
  }

  /** The peer has said so itself: it is no news to it. */
  wasTold(library: Library, members: readonly Said[]): void {
    const names = new Set(library.sql.rows('SELECT device FROM flotilla_members').map(([device]) => device));
    for (const { device, at, entries } of members) {
      if (!names.has(device)) continue;
      const told = this.#told.get(device);
      const knowledge = new Map(told?.knowledge);
      for (const [hex, hlc] of entries) {
        const run = library.runOrdinal(hex, null);
        if (hlc > (knowledge.get(run) ?? -1)) knowledge.set(run, hlc);
      }
      this.#told.set(device, { device, at: Math.max(at, told?.at ?? 0), knowledge });
    }
  }

  #differences(library: Library, knowledge: ReadonlyMap<number, number>): [number, number][] {
    const base = (this.#numbered ??= new Map(
      [...this.#base].map(([hex, hlc]) => [library.runOrdinal(hex, null), hlc]),
    ));
    const lower = [...base].filter(([run, hlc]) => (knowledge.get(run) ?? 0) < hlc);
    return [...lower.map(([run]): [number, number] => [run, knowledge.get(run) ?? 0]), ...grown(knowledge, base)];
  }
}

function grown(knowledge: ReadonlyMap<number, number>, before: ReadonlyMap<number, number>): [number, number][] {
  return [...knowledge].filter(([run, hlc]) => hlc > (before.get(run) ?? -1));
}

/** What a peer has said of another member. */
interface Said {
  readonly device: string;
  readonly at: number;
  /** Run id (hex) and hlc. */
  readonly entries: ReadonlyArray<readonly [run: string, hlc: number]>;
}

/**
 * Takes over what a peer has heard of others.
 * @param base - what the peer's `want` said that it knows
 * @param conversation - with that peer; null where it is not talked to
 */
export function hearOfOthers(
  library: Library,
  base: KnowledgeWire,
  members: readonly HeardWire[],
  conversation: Conversation | null,
): void {
  const own = entriesOf(base);
  const said = members.map(({ device, at, knowledge, whole }): Said => {
    const named = new Map([...(whole ? own : []), ...entriesOf(knowledge)]);
    // Of what the base has, 0 says that this member has nothing.
    return { device, at, entries: [...named].filter(([, hlc]) => hlc > 0) };
  });
  for (const { device, at, entries } of said) hear(library, device, wireOf(entries), at, true);
  conversation?.spreading.wasTold(library, said);
}
