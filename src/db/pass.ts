/**
 * One pass over the feed for one peer: where it is, and what the peer has already, so that it is not sent again.
 */
import { encodeBatch } from '../protocol/batch.ts';
import { StampSet } from '../protocol/stamp-set.ts';
import type { Batch, Cursor, PageEnd, PassKind } from '../protocol/types.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { LocalStamp } from './cells.ts';
import { parseCells, registersIn, stampsOf } from './cells.ts';
import { MEMBERSHIP_TABLE } from './choose.ts';
import type { Model } from './model.ts';
import { BIRTH_HLC, BIRTH_RUN, CELLS, HLC, NO_END, RUN } from './page.ts';
import type { PageBuilder } from './page.ts';
import type { RawRow } from './sql.ts';

export interface Pass {
  /** Our floor when it was opened. */
  readonly floor: ReadonlyMap<string, number>;
  readonly kind: PassKind;
  /** Without the rows of the user's tables, which go another way (`snapshot.ts`). */
  readonly isBeside: boolean;
  position: number;
  /** Up to where the peer has been told that it need not read. */
  told: number;
  /** What the peer knows, by run id (hex). */
  readonly known: Map<string, number>;
  /** What it has beyond that, from a pass that was broken off. */
  readonly has: StampSet;
  /** Our knowledge as it was sent in this pass. */
  readonly sent: Map<string, number>;
  /** lsn of the versions that went ahead of their place, by UUID: not sent again when their place comes. */
  readonly ahead: Map<string, number>;
  /** Versions that no message can carry, by lsn: the pass is not complete as long as they are there. */
  readonly heldUp: Map<number, HeldUp>;
  remaining: number;
  /** It has reached the head once. */
  completed: boolean;
  /** The last page that went out did not reach the head. */
  isOpen: boolean;
  /** lsn up to which records of membership went out. */
  records: number;
  /** All that there were at the beginning of the pass did. */
  hasLed: boolean;
}

export interface HeldUp {
  /** Map table, or that of the versions that wait. */
  readonly source: string;
  /** Which row it is, for people. */
  readonly row: string;
  readonly bytes: number;
}

interface Row {
  readonly model: Model;
  readonly uuid: Uint8Array;
}

/** One version or tombstone between two lsns. */
export interface Entry {
  readonly lsn: number;
  readonly size: number;
  /** Of a tombstone: which row the dead one is from now on. */
  readonly heir?: Row;
  /** The row of a version that waits. */
  readonly waits?: Row;
  readonly add: (builder: PageBuilder) => void;
  /** Of table rows, which are added a table at a time. */
  readonly model?: Model;
  readonly version?: RawRow;
  /** Of a version that waits: it has columns with a policy. */
  readonly hasRegisters?: boolean;
  /** Stamps of single columns of a version that waits: run (hex) and hlc. */
  readonly cells?: ReadonlyArray<readonly [run: string, hlc: number]>;
}

/** What of a pass is known when it is opened. */
type Begun = Pick<
  Pass,
  'floor' | 'kind' | 'isBeside' | 'position' | 'known' | 'remaining' | 'completed' | 'records' | 'hasLed'
>;

export function newPass(begun: Begun): Pass {
  return {
    ...begun,
    told: begun.position,
    has: new StampSet(),
    sent: new Map(),
    ahead: new Map(),
    heldUp: new Map(),
    isOpen: false,
  };
}

/** A page that brings nothing. */
export function emptyBatch(end: PageEnd): Batch {
  return {
    runs: new Uint8Array(0),
    runDevices: [],
    uuids: new Uint8Array(0),
    birthHlc: [],
    birthRun: [],
    uuidTable: [],
    names: [],
    tables: [],
    tombstones: [],
    end,
  };
}

/** The page that ends a pass in which nothing was left to bring. */
export function lastPage(cursor: Cursor): Uint8Array {
  return encodeBatch(emptyBatch({ ...NO_END, cursor, complete: true }));
}

const NOTHING = new StampSet();

/** True when what was stamped so has been merged by the peer. */
export function hasStamp({ known, has }: Pick<Pass, 'known' | 'has'>, run: string, hlc: number): boolean {
  return hlc <= (known.get(run) ?? -1) || (!has.isEmpty && has.has(run, hlc));
}

/**
 * True when the peer has all of an entry: each of its stamps was merged there, or it went ahead and has not changed since.
 * @param runHex - id of a run, by its local number
 */
export function isNoNews(pass: Pass, entry: Entry, runHex: (ordinal: number) => string): boolean {
  const { version, cells } = entry;
  if (version === undefined) return false;
  if (isAskedFor(version)) return true;
  if (entry.model?.table === MEMBERSHIP_TABLE) return entry.lsn <= pass.records;
  const had = isNamedByStamps(entry) ? pass : { known: pass.known, has: NOTHING };
  const has = (hlc: unknown, run: unknown): boolean => hasStamp(had, runHex(run as number), hlc as number);
  // What the writers of single columns had seen need not be there: it is news to nobody.
  const hasCells = (): boolean => {
    if (cells !== undefined) return cells.every(([run, hlc]) => hasStamp(had, run, hlc));
    if (typeof version[CELLS] !== 'string') return true;
    // What an owned row says of its ownership is no change.
    return [...parseCells(version[CELLS])].every(
      ([column, cell]) => column < 0 || stampsOf(cell).every(({ hlc, run }) => has(hlc, run)),
    );
  };
  if (has(version[HLC], version[RUN]) && has(version[BIRTH_HLC], version[BIRTH_RUN]) && hasCells()) return true;
  if (entry.model === undefined || pass.ahead.size === 0) return false;
  const uuid = bytesToHex(version[2] as Uint8Array);
  const lsn = pass.ahead.get(uuid);
  if (lsn === undefined) return false;
  pass.ahead.delete(uuid);
  return lsn === entry.lsn;
}

/**
 * Whether the stamps of a version are its own alone, so that whoever has them has it. Those of deletes need not be: the end of an old name has
 * that of the birth of the new one. Nor are those of counters, whose entries may go from row to row.
 */
function isNamedByStamps({ model, waits, version, hasRegisters }: Entry): boolean {
  if (model === undefined) return waits !== undefined && hasRegisters !== true;
  const cells = version?.[CELLS];
  return typeof cells !== 'string' || registersIn(parseCells(cells)).size === 0;
}

/** The stamps of a version that the peer does not have. */
export function newsIn(pass: Pass, version: RawRow, runHex: (ordinal: number) => string): LocalStamp[] {
  const stampAt = (hlc: number, run: number): LocalStamp => ({ hlc: Number(version[hlc]), run: Number(version[run]) });
  const cells = [...parseCells(version[CELLS])].flatMap(([column, cell]) => (column < 0 ? [] : stampsOf(cell)));
  const all = [stampAt(BIRTH_HLC, BIRTH_RUN), stampAt(HLC, RUN), ...cells];
  return all.filter(({ hlc, run }) => !hasStamp(pass, runHex(run), hlc));
}

/** A row of another device's that was written here without right: it is fetched again (O8), and is nothing to tell until then. */
export function isAskedFor(version: RawRow): boolean {
  return version[HLC] === 0;
}

export function raise(map: Map<string, number>, run: string, hlc: number): void {
  if (hlc > (map.get(run) ?? -1)) map.set(run, hlc);
}
