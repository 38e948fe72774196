/**
 * The feed: this copy's row versions and tombstones in the order in which it took them in (lsn), from a cursor, in pages,
 * for one peer a pass. Backfill, catching up and live are the same: a page that reaches the head completes the pass, and
 * each later one does too. Reads only; each page is one snapshot in which nothing is left unstamped.
 */
import type { Database } from 'better-sqlite3';

import { decodeBatch, encodeBatch } from '../protocol/batch.ts';
import { bytesToHex } from '../protocol/uuid.ts';
import type { Cursor, KnowledgeWire, PageEnd, PassKind } from '../protocol/types.ts';
import type { FeedOpened, FeedPage, PageLimits } from './api.ts';
import { FlotillaError } from '../errors.ts';
import { parseSeen } from './cells.ts';
import { MEMBERSHIP_TABLE, isInternal } from './choose.ts';
import { floorOf, isBelow } from './floor.ts';
import { fits, headOf } from './history.ts';
import { entriesOf, wireOf } from './knowledge-wire.ts';
import { lostTables } from './known.ts';
import type { LeftBehind } from './remark.ts';
import { hasStamp, isAskedFor, isNoNews, newsIn, newPass, raise } from './pass.ts';
import { recordsHash } from './members.ts';
import type { Entry, Pass } from './pass.ts';
import { ownStamps } from './stamp-lists.ts';
import { heldUpInWords, holdUp, isHuge, roomBeside, safePosition, stillHeldUp } from './huge.ts';
import { UNSTAMPED } from './metadata.ts';
import type { Model, Registry } from './model.ts';
import { allModels, rowsTable } from './model.ts';
import {
  BIRTH_HLC,
  BIRTH_RUN,
  HLC,
  LSN,
  PageBuilder,
  RUN,
  UUID,
  readVersions,
  runBytes,
  sizeOf,
  versionSelect,
} from './page.ts';
import type { RunInfo, Target } from './page.ts';
import type { Key, RawRow } from './sql.ts';
import { schemaCookie } from './serving.ts';
import { Statements, jsonKeys } from './sql.ts';
import { PENDING, TOMBSTONES, countBehind, entryTables, nextStretch } from './stretch.ts';

/** How long a page may look for something that the peer lacks before it goes out empty, ms: nobody else is served meanwhile. */
const SEARCH_MS = 25;
/** Change numbers by which a peer's cursor moves before it is told of that alone: a next pass walks over them in milliseconds. */
const WORTH_TELLING = 1_000;
/** Versions read in the first step from a table whose rows' size is not known yet. */
const FIRST_CHUNK = 64;
/** Bytes for which a row is taken so long where few are to be read. */
const UNKNOWN_SIZE = 128 * 1024;

/** The answer to `page` when the writing side must do something first. */
export interface NotYet {
  /** Marks must be stamped first. */
  readonly unstamped: boolean;
  /** It must be noted first (`noteDangling`) that rows here refer to nothing, and what of them stays behind until they do; null for nothing. */
  readonly dangling: readonly LeftBehind[] | null;
}

/** What goes along with the dead ones of a page: the rows that they are from now on. */
interface Heirs {
  readonly targets: Target[];
  readonly entries: Entry[];
  /** Bytes that may still go ahead of their place. */
  readonly room: number;
}

export class Feeds {
  readonly #db: Database;
  readonly #sql: Statements;
  #registry: Registry;
  #cookie: number;
  readonly #passes = new Map<number, Pass>();
  readonly #runs = new Map<number, RunInfo>();
  /** Mean size of a table's rows, to read no more at once than a page holds. */
  readonly #meanSize = new Map<string, number>();
  readonly #clock: () => number;
  readonly #runHex = (ordinal: number): string => this.#run(ordinal).hex;
  #lastId = 0;
  /** Since the start: pages that carried something, rows in them, queries for their references. */
  readonly counters = { batchesOut: 0, rowsOut: 0, lookupsOut: 0 };

  /** @param clock - ms that pass, for the limit of a search */
  constructor(db: Database, registry: Registry, clock: () => number = () => performance.now()) {
    this.#db = db;
    this.#clock = clock;
    this.#sql = new Statements(db);
    this.#registry = registry;
    this.#cookie = schemaCookie(db);
  }

  /** The schema has changed: pages are read by this registry from now on. */
  use(registry: Registry): void {
    this.#registry = registry;
    this.#cookie = schemaCookie(this.#db);
  }

  /**
   * Opens a pass; a cursor that does not fit our history is ignored, and what the peer knows spares it what it has.
   * @param records - hash of the records of membership that the peer has, hex. @default it has none
   * @param isOver - the peer says that it has all up to its cursor, where our feed ended when it heard of it. @default false
   */
  open(
    cursor: Cursor | null,
    knowledge: KnowledgeWire | null,
    kind: PassKind = 'ordinary',
    records = '',
    isOver = false,
  ): FeedOpened {
    return this.#open(cursor, knowledge, kind, false, records, isOver);
  }

  /** Opens a pass for one that has nothing, without the rows of the user's tables. */
  openBeside(): FeedOpened {
    return this.#open(null, { runs: new Uint8Array(0), hlc: [] }, 'newcomer', true, '', false);
  }

  #open(
    cursor: Cursor | null,
    knowledge: KnowledgeWire | null,
    kind: PassKind,
    isBeside: boolean,
    records: string,
    isOver: boolean,
  ): FeedOpened {
    return this.#snapshot(() => {
      const resumed = cursor !== null && kind !== 'reconcile' && fits(this.#sql, cursor);
      const position = resumed ? cursor.position : 0;
      const known = knowledge === null ? this.#knowledge() : new Map(entriesOf(knowledge));
      const floor = floorOf(this.#sql);
      if (kind === 'ordinary' && isBelow(known, floor)) throw belowFloor();
      const remaining = this.#countBeyond(isBeside, position);
      const led = this.#led(records);
      // Nothing is left to say: whatever comes from now on is live.
      const completed = isOver && kind === 'ordinary' && resumed && position === cursor.head && led.hasLed;
      this.#lastId += 1;
      this.#passes.set(this.#lastId, newPass({ floor, kind, isBeside, position, known, remaining, completed, ...led }));
      return { feed: this.#lastId, resumed, total: remaining, isOver: completed };
    });
  }

  /** Whether the records of membership are to go out first, and up to where they have. */
  #led(records: string): Pick<Pass, 'records' | 'hasLed'> {
    if (records !== recordsHash(this.#sql)) return { records: 0, hasLed: false };
    return { records: headOf(this.#sql).lsn, hasLed: true };
  }

  close(id: number): void {
    this.#passes.delete(id);
  }

  /** The peer said what it knows by now: spares it the echo of what it sent. */
  peerKnows(id: number, knowledge: KnowledgeWire): void {
    const pass = this.#passes.get(id);
    if (pass === undefined) return;
    for (const [run, hlc] of entriesOf(knowledge)) raise(pass.known, run, hlc);
  }

  /** The peer told of stamps of versions that it has, whatever it knows: they need not be sent before the end of the pass. */
  peerHas(id: number, stamps: Uint8Array): void {
    const pass = this.#passes.get(id);
    if (pass?.completed === false) pass.has.add(stamps);
  }

  /** The next page of a pass. */
  page(id: number, limits: PageLimits): FeedPage | NotYet {
    const pass = this.#passes.get(id);
    if (pass === undefined) throw new RangeError(`there is no feed ${id}`);
    return this.#snapshot(() => {
      if (schemaCookie(this.#db) !== this.#cookie || this.#sql.value(UNSTAMPED) !== undefined)
        return { unstamped: true, dangling: null };
      const { position: start, records, hasLed } = pass;
      const page = this.#read(pass, limits);
      // Back to where the page began. What went ahead in it may go twice, which does no harm.
      if ('dangling' in page) {
        pass.position = start;
        pass.remaining = this.#countBeyond(pass.isBeside, start);
        Object.assign(pass, { records, hasLed });
        pass.ahead.clear();
      }
      return page;
    });
  }

  #read(pass: Pass, limits: PageLimits): FeedPage | NotYet {
    const { position: start } = pass;
    const { lsn: head, run } = headOf(this.#sql);
    const builder = new PageBuilder(this.#sql, this.#registry, (ordinal) => this.#run(ordinal));
    const leading = pass.hasLed ? 0 : this.#leadWithRecords(builder, pass, head, limits);
    const started = this.#clock();
    while (pass.hasLed && pass.position < head && builder.rows === leading && this.#clock() - started < SEARCH_MS) {
      this.#fill(builder, pass, head, limits);
    }
    const left = builder.leaveOutDangling();
    const dangling = left.flatMap((version) => this.#newlyBehind(pass, version));
    if (dangling.length > 0 || (left.length > 0 && !this.#isDanglingNoted())) return { unstamped: false, dangling };
    const isAtHead = pass.hasLed && pass.position >= head;
    const heldUp = stillHeldUp(this.#sql, pass);
    const complete = isAtHead && heldUp.length === 0;
    const reconciled = complete && pass.kind === 'reconcile' && !pass.completed;
    const knowledge = reconciled ? [...this.#knowledge()] : complete ? this.#news(pass) : [];
    this.#checkFloor(pass);
    if (complete) pass.remaining = 0;
    const words = isAtHead ? heldUpInWords(heldUp) : '';
    // A page without rows may name some: what is not named in a pass that reconciles was deleted.
    if (builder.rows === 0 && words !== '' && (pass.kind !== 'reconcile' || pass.position === start)) {
      pass.isOpen = true;
      return { data: null, rows: 0, complete, remaining: pass.remaining, head, heldUp: words };
    }
    // After a page that did not reach the head, one that does must follow, else the peer would think that more comes. Else nothing is said
    // of what the peer has itself, until the cursor is worth a word.
    const isNews = complete && (knowledge.length > 0 || pass.position - pass.told >= WORTH_TELLING);
    if (builder.rows === 0 && pass.completed && !pass.isOpen && !isNews) {
      return { data: null, rows: 0, complete, remaining: pass.remaining, head, heldUp: '' };
    }
    if (complete && !pass.completed) {
      pass.completed = true;
      pass.has.clear();
    }
    pass.isOpen = !complete;
    for (const [run, hlc] of knowledge) pass.sent.set(run, hlc);
    pass.told = safePosition(pass);
    const batch = builder.build({
      cursor: { position: pass.told, head, run },
      complete,
      knowledge: wireOf(knowledge),
      remaining: pass.remaining,
      ...(reconciled ? { floor: wireOf([...pass.floor]), ...this.#lost() } : {}),
    });
    this.counters.batchesOut += 1;
    const rows = builder.rows - leading;
    this.counters.rowsOut += rows;
    this.counters.lookupsOut += builder.lookups;
    return { data: ownBuffer(encodeBatch(batch)), rows, complete, remaining: pass.remaining, head, heldUp: words };
  }

  /**
   * Every pass begins with all records of membership, whatever the peer claims to know, unless it has the very same: it hears who was
   * revoked before any row, and nobody can have made it believe that it had. They are few; where somebody made many, they are more than one page.
   * @returns how many are in this one
   */
  #leadWithRecords(builder: PageBuilder, pass: Pass, head: number, limits: PageLimits): number {
    const model = this.#registry.byName.get(MEMBERSHIP_TABLE);
    const entries: Entry[] = [];
    pass.records = model === undefined ? head : this.#readTable(model, pass.records, head, limits.bytes, entries);
    pass.hasLed = pass.records >= head;
    const records = entries.flatMap(({ version }) => (version === undefined ? [] : [version]));
    if (model !== undefined) builder.addVersions(model, records);
    return entries.length;
  }

  /** Adds the next stretch of the feed to the page and moves the pass on. */
  #fill(builder: PageBuilder, pass: Pass, head: number, limits: PageLimits): void {
    const models = this.#models(pass.isBeside);
    const stretch = nextStretch(this.#sql, entryTables(models), pass.position, limits.rows);
    let upTo = stretch.end ?? head;
    if (upTo < head) upTo = lastWithin(limits.groupEnds ?? [], pass.position, upTo) ?? upTo;
    const entries: Entry[] = [];
    for (const model of models)
      if (stretch.sources.has(rowsTable(model)))
        upTo = this.#readTable(model, pass.position, upTo, limits.bytes, entries);
    if (stretch.sources.has(TOMBSTONES)) this.#readTombstones(pass.position, upTo, entries);
    if (stretch.sources.has(PENDING)) this.#readWaiting(pass.position, upTo, entries);
    const within = entries.filter((entry) => entry.lsn <= upTo).sort((a, b) => a.lsn - b.lsn);
    let bytes = 0;
    let count = 0;
    for (const entry of within) {
      bytes += entry.size;
      if (count > 0 && bytes > limits.bytes) {
        upTo = (within[count - 1] as Entry).lsn;
        break;
      }
      count += 1;
    }
    const news = within.slice(0, count).filter((entry) => !this.#spared(pass, entry, builder) && !holdUp(pass, entry));
    const wanted = [...news, ...this.#waitingDeletesOf(pass, news)];
    const versions = new Map<Model, RawRow[]>();
    for (const entry of wanted) {
      if (entry.model === undefined || entry.version === undefined) continue;
      const list = versions.get(entry.model) ?? [];
      list.push(entry.version);
      versions.set(entry.model, list);
    }
    for (const [model, list] of versions) builder.addVersions(model, list);
    const heirs = this.#heirsOf(pass, wanted, upTo, roomBeside(wanted));
    this.#sendParentsAhead(builder, pass, upTo, heirs);
    for (const entry of [...wanted, ...heirs.entries]) if (entry.model === undefined) entry.add(builder);
    pass.position = upTo;
    pass.remaining = Math.max(0, pass.remaining - count);
  }

  /** Reads a table's versions up to `upTo`, or up to the size of a page; returns how far it read. */
  #readTable(model: Model, from: number, upTo: number, bytes: number, entries: Entry[]): number {
    const text = versionSelect(model, this.#registry, 'WHERE m.lsn > ? AND m.lsn <= ? ORDER BY m.lsn LIMIT ?');
    let position = from;
    let size = 0;
    let read = 0;
    for (;;) {
      const mean = this.#meanSize.get(model.table);
      const chunk = mean === undefined ? FIRST_CHUNK : Math.max(1, Math.floor(bytes / mean));
      const versions = readVersions(this.#sql, model, text, [position, upTo, chunk]);
      for (const version of versions) {
        const entrySize = sizeOf(version);
        size += entrySize;
        entries.push({ lsn: version[LSN] as number, size: entrySize, model, version, add: () => undefined });
      }
      read += versions.length;
      if (read > 0) this.#meanSize.set(model.table, size / read);
      if (versions.length < chunk) return upTo;
      position = (versions.at(-1) as RawRow)[LSN] as number;
      if (size > bytes) return position;
    }
  }

  #readTombstones(from: number, upTo: number, entries: Entry[]): void {
    const rows = this.#sql.rows(
      'SELECT lsn, tbl, uuid, birth_hlc, birth_run, hlc, run, seen, alias FROM flotilla_tombstones WHERE lsn > ? AND lsn <= ? ORDER BY lsn',
      from,
      upTo,
    );
    for (const [lsn, tbl, uuid, birthHlc, birthRun, hlc, run, seen, alias] of rows) {
      const model = allModels(this.#registry).find((candidate) => candidate.n === tbl);
      if (model === undefined) continue;
      entries.push({
        lsn: Number(lsn),
        size: 50,
        ...(alias === null ? {} : { heir: { model, uuid: alias as Uint8Array } }),
        // A tombstone is spared by its own stamp alone: that is what `spared` finds in these places.
        version: stampOnly(Number(hlc), Number(run)),
        add: (builder) =>
          builder.addTombstone(
            model,
            uuid as Uint8Array,
            { hlc: Number(birthHlc), run: Number(birthRun) },
            { hlc: Number(hlc), run: Number(run) },
            parseSeen(seen),
            alias as Uint8Array | null,
          ),
      });
    }
  }

  /**
   * What is said of rows whose deletes wait here goes with those that the peer has already: it may have carried them out and forgotten them. Not
   * so the ends of names: that row goes on under another one.
   */
  #waitingDeletesOf(pass: Pass, entries: readonly Entry[]): Entry[] {
    if (this.#sql.value('SELECT 1 FROM flotilla_pending LIMIT 1') === undefined) return [];
    const uuids = entries.flatMap(({ model, version }) =>
      model === undefined || version === undefined ? [] : [bytesToHex(version[UUID] as Uint8Array)],
    );
    const found: Entry[] = [];
    for (const [lsn] of this.#sql.rows(
      `SELECT s.lsn FROM json_each(?) j CROSS JOIN flotilla_pending p ON p.uuid = unhex(j.value) AND p.version IS NULL
       JOIN flotilla_tombstones s ON s.uuid = p.uuid AND s.alias IS NULL`,
      JSON.stringify(uuids),
    ))
      this.#readTombstones(Number(lsn) - 1, Number(lsn), found);
    return found.filter((entry) => entry.lsn <= pass.position || isNoNews(pass, entry, this.#runHex));
  }

  #readWaiting(from: number, upTo: number, entries: Entry[]): void {
    const rows = this.#sql.rows(
      `SELECT lsn, version, birth_hlc, birth_run, hlc, run, tbl, uuid FROM flotilla_pending
       WHERE version IS NOT NULL AND lsn > ? AND lsn <= ? ORDER BY lsn`,
      from,
      upTo,
    );
    for (const [lsn, version, birthHlc, birthRun, hlc, run, tbl, uuid] of rows) {
      const model = allModels(this.#registry).find(({ n }) => n === tbl);
      const bytes = version as Uint8Array;
      const batch = decodeBatch(bytes);
      const stamps = stampOnly(Number(hlc), Number(run));
      stamps[BIRTH_HLC] = birthHlc ?? null;
      stamps[BIRTH_RUN] = birthRun ?? null;
      entries.push({
        lsn: Number(lsn),
        size: bytes.length,
        version: stamps,
        ...(model === undefined ? {} : { waits: { model, uuid: uuid as Uint8Array } }),
        hasRegisters: batch.tables.some(({ registers }) => registers !== undefined),
        cells: batch.tables.flatMap((table) =>
          ownStamps(table).map(([index, time]) => [bytesToHex(runBytes(batch, index)), time] as const),
        ),
        add: (builder) => builder.addWaiting(batch),
      });
    }
  }

  /** True when the peer has this already: all its stamps are known there, or it went ahead and has not changed since. */
  #spared(pass: Pass, entry: Entry, builder: PageBuilder): boolean {
    if (!isNoNews(pass, entry, this.#runHex)) return false;
    const { version, waits } = entry;
    if (pass.kind !== 'reconcile' || pass.completed || version === undefined) return true;
    // What waits here is here, but what it refers to may not be.
    if (waits !== undefined)
      builder.name(waits.model, waits.uuid, version[BIRTH_HLC] as number, version[BIRTH_RUN] as number);
    else if (entry.model !== undefined) builder.mention(entry.model, version);
    return true;
  }

  /** What the peer does not have of a version that stays behind, and will believe that it has; without what is noted. */
  #newlyBehind(pass: Pass, version: RawRow): LeftBehind[] {
    const uuid = Uint8Array.from(version[UUID] as Uint8Array);
    const noted = 'SELECT 1 FROM flotilla_behind WHERE uuid = ? AND hlc = ? AND run = ?';
    return newsIn(pass, version, this.#runHex)
      .filter(({ hlc, run }) => this.#sql.value(noted, Buffer.from(uuid), hlc, run) === undefined)
      .map(({ hlc, run }) => ({ uuid, hlc, run }));
  }

  /** What was pruned since the pass began may be among what it has sent, and never will be taken back. */
  #checkFloor(pass: Pass): void {
    const floor = floorOf(this.#sql);
    if (!isBelow(pass.floor, floor)) return;
    const known = new Map(pass.known);
    for (const [run, hlc] of pass.sent) raise(known, run, hlc);
    const isFirst = pass.kind !== 'ordinary' && !pass.completed;
    if (isFirst || isBelow(known, floor)) throw belowFloor();
  }

  /**
   * Targets that lie further on in the feed and that the peer cannot know go ahead, in the same page, and their own
   * targets too: a folder that was updated after its files were added has a later lsn than they do.
   * @param heirs - rows that have to go along as well, and the room that is left
   */
  #sendParentsAhead(builder: PageBuilder, pass: Pass, upTo: number, heirs: Heirs): void {
    // The new name of a row that goes comes with the end of the old one, so it is the first.
    let targets = [...heirs.targets, ...builder.resolve()];
    let { room } = heirs;
    while (targets.length > 0) {
      const early = new Map<Model, Target[]>();
      for (const target of targets) {
        const { model, uuid, lsn, birthHlc, birthRun } = target;
        const name = bytesToHex(uuid);
        if (lsn <= upTo || hasStamp(pass, this.#runHex(birthRun), birthHlc) || pass.ahead.has(name)) continue;
        const rows = early.get(model) ?? [];
        rows.push(target);
        early.set(model, rows);
        pass.ahead.set(name, lsn);
      }
      targets = [];
      for (const [model, rows] of early) {
        // Their own targets come with them, so that a page makes one query for references however deep the tree is.
        const text = versionSelect(model, this.#registry, 'WHERE m.key IN (SELECT value FROM json_each(?))', true);
        let next = 0;
        while (next < rows.length && room > 0) {
          const few = rows.slice(next, next + Math.max(1, Math.floor(room / this.#meanOf(model))));
          next += few.length;
          const versions = readVersions(this.#sql, model, text, [jsonKeys(few.map(({ key }) => key))]);
          const going = versions.filter((version) => {
            if (isAskedFor(version)) return false;
            const size = sizeOf(version);
            const isGoing = size <= room && !isHuge(version, size);
            if (!isGoing) pass.ahead.delete(bytesToHex(version[UUID] as Uint8Array));
            // Where one finds no room, no more are read: each may be as large.
            if (isGoing || size > room) room -= size;
            return isGoing;
          });
          targets.push(...builder.addWithTargets(model, going));
        }
        // They come in their places, and who refers to them waits so long.
        for (const { uuid } of rows.slice(next)) pass.ahead.delete(bytesToHex(uuid));
      }
    }
  }

  /** Mean size of a table's rows, as far as it is known. */
  #meanOf(model: Model): number {
    return this.#meanSize.get(model.table) ?? UNKNOWN_SIZE;
  }

  /**
   * What lies further on in the feed of the rows that the dead ones of a page are from now on. It goes with them: of a new name of
   * which only the end of the old one is left (its device may be restored) nobody could tell what has become of the row.
   */
  #heirsOf(pass: Pass, wanted: readonly Entry[], upTo: number, most: number): Heirs {
    let room = most;
    const targets: Target[] = [];
    const entries: Entry[] = [];
    const queue = wanted.flatMap(({ heir }) => heir ?? []);
    const seen = new Set<string>();
    for (let heir = queue.pop(); heir !== undefined; heir = queue.pop()) {
      const { model, uuid } = heir;
      if (seen.has(bytesToHex(uuid))) continue;
      seen.add(bytesToHex(uuid));
      const name = Buffer.from(uuid);
      for (const row of this.#sql.rows(
        `SELECT key, birth_hlc, birth_run, lsn FROM ${rowsTable(model)} WHERE uuid = ?`,
        name,
      )) {
        const [birthHlc, birthRun, lsn] = row.slice(1).map(Number) as [number, number, number];
        targets.push({ model, uuid, key: row[0] as Key, birthHlc, birthRun, lsn });
      }
      const found: Entry[] = [];
      for (const [lsn] of this.#sql.rows(
        `SELECT lsn FROM flotilla_tombstones WHERE uuid = ? AND lsn > ?
         UNION ALL SELECT lsn FROM flotilla_pending WHERE uuid = ? AND lsn > ?`,
        name,
        upTo,
        name,
        upTo,
      )) {
        this.#readTombstones(Number(lsn) - 1, Number(lsn), found);
        this.#readWaiting(Number(lsn) - 1, Number(lsn), found);
      }
      const news = found.filter((entry) => entry.size <= room && !isNoNews(pass, entry, this.#runHex));
      entries.push(...news);
      room -= news.reduce((sum, { size }) => sum + size, 0);
      queue.push(...news.flatMap((entry) => entry.heir ?? []));
    }
    return { targets, entries, room };
  }

  /** What we know and the peer may not: goes out with a page that reaches the head. */
  #news(pass: Pass): [string, number][] {
    return [...this.#knowledge()].filter(
      ([run, hlc]) => hlc > (pass.sent.get(run) ?? -1) && hlc > (pass.known.get(run) ?? -1),
    );
  }

  #knowledge(): Map<string, number> {
    const rows = this.#sql.rows('SELECT r.id, k.hlc FROM flotilla_knowledge k JOIN flotilla_runs r ON r.run = k.run');
    return new Map(rows.map(([id, hlc]) => [bytesToHex(id as Uint8Array), Number(hlc)]));
  }

  #models(isBeside: boolean): readonly Model[] {
    const { models } = this.#registry;
    return isBeside ? models.filter(({ table }) => isInternal(table)) : models;
  }

  #countBeyond(isBeside: boolean, position: number): number {
    return countBehind(this.#sql, entryTables(this.#models(isBeside)), position);
  }

  /** The writing side gives rows that stayed behind a new birth from now on, so that a page may claim that they have gone. */
  #isDanglingNoted(): boolean {
    return this.#sql.value("SELECT 1 FROM flotilla_state WHERE key = 'dangling' AND value = 1") !== undefined;
  }

  /** Tables of which all is gone here, though it was merged: their rows are not named, and were not deleted. */
  #lost(): Partial<PageEnd> {
    const numbers = lostTables(this.#db) ?? [];
    const names = allModels(this.#registry).flatMap(({ n, wire }) => (numbers.includes(n) ? [wire] : []));
    return names.length === 0 ? {} : { lost: names };
  }

  #run(ordinal: number): RunInfo {
    let run = this.#runs.get(ordinal);
    if (run === undefined) {
      const row = this.#sql.rows('SELECT id, device FROM flotilla_runs WHERE run = ?', ordinal)[0];
      if (row === undefined) throw new RangeError(`there is no run ${ordinal}`);
      run = { hex: bytesToHex(row[0] as Uint8Array), device: row[1] === null ? '' : String(row[1]) };
      if (run.device !== '') this.#runs.set(ordinal, run);
    }
    return run;
  }

  #snapshot<T>(work: () => T): T {
    if (this.#db.inTransaction) return work();
    this.#db.exec('BEGIN');
    try {
      return work();
    } finally {
      this.#db.exec('COMMIT');
    }
  }
}

/** The greatest of ascending numbers that lies beyond `from` and not beyond `to`. */
function lastWithin(ends: readonly number[], from: number, to: number): number | undefined {
  return ends.findLast((end) => end > from && end <= to);
}

function stampOnly(hlc: number, run: number): RawRow {
  const row: RawRow = [];
  row[BIRTH_HLC] = hlc;
  row[BIRTH_RUN] = run;
  row[HLC] = hlc;
  row[RUN] = run;
  return row;
}

function belowFloor(): FlotillaError {
  return new FlotillaError(
    'BELOW_FLOOR',
    'Deletes that the peer has not seen were pruned here: it has to compare all rows first, which it does with the next session.',
  );
}

/** The bytes in an ArrayBuffer of their own, which can move to another thread. */
export function ownBuffer(bytes: Uint8Array): ArrayBuffer {
  if (bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength && bytes.buffer instanceof ArrayBuffer)
    return bytes.buffer;
  return bytes.slice().buffer as ArrayBuffer;
}
