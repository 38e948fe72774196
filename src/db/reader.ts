/**
 * The read worker's service: feed pages, digests, status. Its connections cannot write.
 */
import type { Database } from 'better-sqlite3';

import { FlotillaError } from '../errors.ts';
import { bytesToHex, formatUuid } from '../protocol/uuid.ts';
import type { Cursor, Inspection, InspectionAnswer, KnowledgeWire, PassKind } from '../protocol/types.ts';
import type {
  ConflictList,
  ConflictQuery,
  Counters,
  FeedOpened,
  FeedPage,
  JoinGrant,
  LibraryStatus,
  MemberRow,
  PageLimits,
  SnapshotOffer,
  WaitingRow,
} from './api.ts';
import type { OpenFile, ReadAccess } from './access.ts';
import { fileAccess } from './access.ts';
import { stampsBeyond } from './beyond.ts';
import { listConflicts } from './conflict-list.ts';
import { inspect } from './digest.ts';
import { Feeds } from './feed.ts';
import type { NotYet } from './feed.ts';
import { pruningStatus } from './floor.ts';
import { readGrant } from './grant.ts';
import { readMembers, requireNotRevoked } from './members.ts';
import { getState } from './metadata.ts';
import type { Registry } from './model.ts';
import { allModels, rowsTable } from './model.ts';
import { explainSqlite } from './open.ts';
import { readServedRegistry, requireLibrary, schemaCookie, storedConfig } from './serving.ts';
import { SnapshotsOut } from './snapshot-out.ts';
import { Statements } from './sql.ts';

/** Waiting rows that a status lists; their number is given beside. */
const MAX_LISTED = 100;
/** Findings that a check lists. */
const MAX_FINDINGS = 100;
/** Metadata that is about rows, not about coordination (docs/architecture.md). */
const ROW_METADATA = /^flotilla_rows_\d+$/;

export class Reader {
  readonly #file: string;
  readonly #access: ReadAccess;
  readonly #db: Database;
  readonly #closeFile: () => void;
  readonly #sql: Statements;
  #registry: Registry;
  #cookie: number;
  readonly #feeds: Feeds;
  /** For whom each open feed is. */
  readonly #readers = new Map<number, string>();
  /** Snapshots that stay open over several turns of the loop have connections of their own. */
  readonly #inspecting = new Set<OpenFile>();
  readonly #snapshots: SnapshotsOut;

  /** @param access - how the file is reached, and the time */
  constructor(file: string, access: ReadAccess = fileAccess) {
    this.#file = file;
    this.#access = access;
    const { db, close } = access.openForReading(file);
    try {
      requireLibrary(db, file);
      this.#cookie = schemaCookie(db);
      this.#registry = requireUpToDate(readServedRegistry(db), file);
      this.#db = db;
      this.#closeFile = close;
      this.#sql = new Statements(db);
      this.#feeds = new Feeds(db, this.#registry, access.elapsed);
      this.#snapshots = new SnapshotsOut(file, access);
    } catch (error) {
      close();
      throw explainSqlite(error, file);
    }
  }

  openFeed(
    peer: string,
    cursor: Cursor | null,
    knowledge: KnowledgeWire | null,
    pass: PassKind,
    records: string,
    isOver = false,
  ): FeedOpened {
    return this.#do(() => {
      requireNotRevoked(this.#sql, peer);
      const opened = this.#feeds.open(cursor, knowledge, pass, records, isOver);
      this.#readers.set(opened.feed, peer);
      return opened;
    });
  }

  page(feed: number, limits: PageLimits): FeedPage | NotYet {
    return this.#do(() => {
      requireNotRevoked(this.#sql, this.#readers.get(feed) ?? '');
      return this.#isCurrent() ? this.#feeds.page(feed, limits) : NOT_YET;
    });
  }

  closeFeed(feed: number): void {
    this.#readers.delete(feed);
    this.#feeds.close(feed);
  }

  peerKnows(feed: number, knowledge: KnowledgeWire): void {
    this.#feeds.peerKnows(feed, knowledge);
  }

  peerHas(feed: number, stamps: Uint8Array): void {
    this.#feeds.peerHas(feed, stamps);
  }

  stampsBeyond(): Uint8Array[] {
    return this.#do(() => (this.#isCurrent() ? stampsBeyond(this.#sql, this.#registry) : []));
  }

  /** Begins to make a snapshot; `snapshotReady` gives it. Whether there will be one. */
  makeSnapshot(peer: string, layout: string, leastRows: number): boolean | NotYet {
    return this.#do(() => {
      requireNotRevoked(this.#sql, peer);
      return this.#isCurrent() ? this.#snapshots.begin(this.#registry, layout, leastRows) : NOT_YET;
    });
  }

  async snapshotReady(): Promise<SnapshotOffer | null> {
    return this.#snapshots.ready();
  }

  async snapshotPart(peer: string, id: string, offset: number): Promise<{ data: ArrayBuffer }> {
    this.#do(() => requireNotRevoked(this.#sql, peer));
    return { data: await this.#snapshots.part(id, offset) };
  }

  async inspect(query: Inspection): Promise<InspectionAnswer | NotYet> {
    if (!this.#do(() => this.#isCurrent())) return NOT_YET;
    const snapshot = this.#access.openSnapshot(this.#file);
    this.#inspecting.add(snapshot);
    try {
      return await inspect(snapshot.db, this.#registry, query, () => this.#access.breathe());
    } finally {
      this.#inspecting.delete(snapshot);
      snapshot.close();
    }
  }

  status(): LibraryStatus {
    return this.#do(() => {
      this.#isCurrent();
      const tables = this.#registry.models
        .filter((model) => !model.table.startsWith('flotilla_'))
        .map((model) => ({
          table: model.table,
          ownership: model.ownership,
          rows: this.#sql.number(`SELECT count(*) FROM ${rowsTable(model)}`),
        }));
      return {
        libraryId: String(getState(this.#db, 'library')),
        tables,
        rows: tables.reduce((sum, table) => sum + table.rows, 0),
        tombstones: this.#sql.number('SELECT count(*) FROM flotilla_tombstones'),
        pruning: pruningStatus(
          this.#sql,
          String(this.#sql.value('SELECT device FROM flotilla_self')),
          this.#access.now(),
          storedConfig(this.#db),
        ),
        waiting: this.#waiting(),
        waitingCount: this.#sql.number('SELECT count(*) FROM flotilla_pending'),
        conflicts: this.#sql.number('SELECT count(*) FROM flotilla_conflicts WHERE restored_at IS NULL'),
        unstamped: this.#sql.number('SELECT count(*) FROM flotilla_marks'),
        head: this.#sql.number('SELECT head FROM flotilla_clock WHERE id = 1'),
        counters: this.#counters(),
        coordinationBytes: this.#coordinationBytes(),
        members: readMembers(this.#sql).filter(({ revoked }) => revoked === null),
        uncountedRecords: Number(getState(this.#db, 'uncounted') ?? 0),
        acks: Object.fromEntries(
          this.#sql
            .rows('SELECT peer, position, complete, at FROM flotilla_acks')
            .map(([peer, position, complete, at]) => [
              String(peer),
              { position: Number(position), complete: complete === 1, at: Number(at) },
            ]),
        ),
      };
    });
  }

  members(): MemberRow[] {
    return this.#do(() => readMembers(this.#sql));
  }

  check(): { foreignKeyViolations: string[]; integrity: string[] } {
    return this.#do(() => {
      const violations = this.#db.pragma('foreign_key_check') as { table: string; rowid: number; parent: string }[];
      const integrity = this.#db.pragma(`integrity_check(${MAX_FINDINGS})`) as { integrity_check: string }[];
      return {
        foreignKeyViolations: violations
          .slice(0, MAX_FINDINGS)
          .map(({ table, rowid, parent }) => `${table} row ${rowid} refers to a row of ${parent} that does not exist`),
        integrity: integrity.map((finding) => finding.integrity_check).filter((finding) => finding !== 'ok'),
      };
    });
  }

  conflicts(query: ConflictQuery): ConflictList {
    return this.#do(() => listConflicts(this.#sql, this.#registry, query));
  }

  joinGrant(): JoinGrant {
    return this.#do(() => {
      this.#isCurrent();
      return readGrant(this.#db, this.#sql, this.#registry, (ordinal) => {
        const row = this.#sql.rows('SELECT id, device FROM flotilla_runs WHERE run = ?', ordinal)[0];
        return { hex: bytesToHex(row?.[0] as Uint8Array), device: row?.[1] === null ? '' : String(row?.[1]) };
      });
    });
  }

  close(): void {
    for (const snapshot of this.#inspecting) snapshot.close();
    this.#snapshots.close();
    this.#closeFile();
  }

  #waiting(): WaitingRow[] {
    return this.#sql
      .rows('SELECT tbl, uuid, reason, detail FROM flotilla_pending ORDER BY lsn LIMIT ?', MAX_LISTED)
      .map(([tbl, uuid, reason, detail]) => ({
        table: allModels(this.#registry).find((model) => model.n === tbl)?.table ?? String(tbl),
        uuid: formatUuid(uuid as Uint8Array),
        reason: String(reason) as WaitingRow['reason'],
        detail: String(detail),
      }));
  }

  /** What the library keeps of the write side, and what this worker has sent since it started. */
  #counters(): Counters {
    const kept = new Map(
      this.#sql.rows('SELECT name, value FROM flotilla_counters').map(([name, value]) => [String(name), Number(value)]),
    );
    return {
      batchesIn: kept.get('batchesIn') ?? 0,
      lookupsIn: kept.get('lookupsIn') ?? 0,
      rowsIn: kept.get('rowsIn') ?? 0,
      ...this.#feeds.counters,
    };
  }

  #coordinationBytes(): number {
    const objects = this.#sql.rows(
      "SELECT name, tbl_name FROM sqlite_schema WHERE tbl_name LIKE 'flotilla\\_%' ESCAPE '\\' AND type <> 'trigger'",
    );
    let bytes = 0;
    for (const [name, table] of objects) {
      if (ROW_METADATA.test(String(table))) continue;
      bytes += this.#sql.number('SELECT sum(pgsize) FROM dbstat WHERE name = ?', name);
    }
    return bytes;
  }

  /** True when the registry fits the schema of the file; false while the writing side has not followed it yet. */
  #isCurrent(): boolean {
    if (schemaCookie(this.#db) === this.#cookie) return true;
    this.#db.exec('BEGIN');
    try {
      const registry = readServedRegistry(this.#db);
      if (registry === null) return false;
      this.#registry = registry;
      this.#cookie = schemaCookie(this.#db);
      this.#feeds.use(registry);
      return true;
    } finally {
      this.#db.exec('COMMIT');
    }
  }

  #do<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw explainSqlite(error, this.#file);
    }
  }
}

const NOT_YET: NotYet = { unstamped: true, dangling: null };

function requireUpToDate(registry: Registry | null, file: string): Registry {
  if (registry !== null) return registry;
  throw new FlotillaError(
    'SCHEMA_MISMATCH',
    `The tables of ${file} have changed since its node ran last: start it once ("flotilla up"), then try again.`,
  );
}
