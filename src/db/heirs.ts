/**
 * What has become of a row that is dead under its own UUID: it may have become one with another row (`alias.ts`), or have got
 * another name, where the name is its identity. Its tombstone carries the UUID of its heir as an alias; whoever refers to the
 * dead one means the heir, before any ON DELETE applies.
 */
import { decodeKey } from './capture.ts';
import type { Cells } from './cells.ts';
import { formatCells, parseCells } from './cells.ts';
import type { MarkKey } from './identity.ts';
import { mapKeyCondition } from './identity.ts';
import { isKilled, isUnseen } from './killed.ts';
import type { Library } from './library.ts';
import type { KnownRow, KnownVersion } from './lookup.ts';
import type { Model, Registry } from './model.ts';
import { allModels, mapJoin, quoteName, rowsTable } from './model.ts';
import { hasWaitingVersion, pendingKind } from './pending.ts';
import type { StandingRow } from './rivals.ts';
import { standingRow } from './rivals.ts';
import { isSettled } from './settled.ts';
import type { Key, Statements } from './sql.ts';
import type { SqlValue } from '../protocol/types.ts';
import { bytesToHex } from '../protocol/uuid.ts';

/** The row that stands for a dead one; `open` while it may still turn out who it is; `none`: nobody does. */
export type Heir = StandingRow | 'open' | 'none';

/** Steps that aliases may lead on: a row may be renamed, or become one with others, many times. */
const MAX_STEPS = 100;

/** Finds the heir of a row that has a tombstone here. */
export function heirOf(library: Library, model: Model, uuid: Uint8Array): Heir {
  return follow(library, model, uuid).heir;
}

/** The last of the dead rows to which the aliases of a dead one lead: itself if it has none. */
export function lastHeir(library: Library, model: Model, uuid: Uint8Array): Uint8Array {
  return follow(library, model, uuid).last;
}

/** The heir of a row, if it waits because another row here has its unique value. */
export function collidingHeir(library: Library, model: Model, uuid: Uint8Array): Uint8Array | null {
  const { heir, last } = follow(library, model, uuid);
  return heir === 'open' && pendingKind(library, last) === 'unique' ? last : null;
}

function follow(library: Library, model: Model, uuid: Uint8Array): { readonly heir: Heir; readonly last: Uint8Array } {
  let last = uuid;
  for (let step = 0; step < MAX_STEPS; step += 1) {
    const grave = library.sql.rows(
      'SELECT hlc, run, birth_hlc, birth_run, seen, alias FROM flotilla_tombstones WHERE uuid = ?',
      Buffer.from(last),
    )[0];
    // Nothing has been heard of it but its name.
    if (grave === undefined && step > 0 && standingRow(library, model, last) === null) return { heir: 'open', last };
    const [hlc, run, birthHlc, birthRun] = (grave ?? []).slice(0, 4).map(Number) as [number, number, number, number];
    if (step > 0) {
      const row = standingRow(library, model, last);
      const tombstone = { hlc, run, birthHlc, birthRun, seen: grave?.[4] ?? null };
      if (row !== null && (grave === undefined || !isKilled(library, model, tombstone, row, row.cells)))
        return { heir: isSettled(library, row) ? row : 'open', last };
      if (hasWaitingVersion(library, last)) return { heir: 'open', last };
    }
    if (grave === undefined) return { heir: 'none', last };
    if (!library.isSettled(run, hlc)) return { heir: 'open', last };
    const alias = grave[5];
    if (!(alias instanceof Uint8Array)) return { heir: 'none', last };
    last = alias;
  }
  return { heir: 'none', last };
}

/** The row that stands here, by the names that a dead one was given, whatever is still to be heard of it; null for none. */
export function livingHeir(library: Library, model: Model, uuid: Uint8Array): KnownRow | null {
  let last = uuid;
  for (let step = 0; step < MAX_STEPS; step += 1) {
    const alias = library.sql.value('SELECT alias FROM flotilla_tombstones WHERE uuid = ?', Buffer.from(last));
    if (!(alias instanceof Uint8Array)) return null;
    last = alias;
    const [row] = library.sql.rows(
      `SELECT m.key, m.birth_hlc, m.birth_run, m.hlc, m.run, m.cells, m.aside, s.birth_hlc, s.birth_run, s.hlc, s.run, s.seen
       FROM ${rowsTable(model)} m LEFT JOIN flotilla_tombstones s ON s.uuid = m.uuid WHERE m.uuid = ?`,
      Buffer.from(last),
    );
    if (row === undefined) continue;
    const [key, birthHlc, birthRun, hlc, run, cells = null, aside = null, ...grave] = row;
    const known = { key: key as Key, cells, aside, ...versionOf([birthHlc, birthRun, hlc, run]) };
    const tombstone = { ...versionOf(grave), seen: grave[4] ?? null };
    if (grave[0] === null || !isKilled(library, model, tombstone, known, parseCells(cells))) return known;
  }
  return null;
}

/**
 * The last name of a dead row that has no {@link livingHeir}: the row of that name has not come, waits, or was deleted as well; null where
 * it was given none.
 */
export function nameOfHeir(library: Library, uuid: Uint8Array): Uint8Array | null {
  let last = uuid;
  for (let step = 0; step < MAX_STEPS; step += 1) {
    const alias =
      step > 0 && hasWaitingVersion(library, last)
        ? null
        : library.sql.value('SELECT alias FROM flotilla_tombstones WHERE uuid = ?', Buffer.from(last));
    if (!(alias instanceof Uint8Array)) return step === 0 ? null : last;
    last = alias;
  }
  return null;
}

function versionOf(stamps: readonly (SqlValue | undefined)[]): KnownVersion {
  const [birthHlc = 0, birthRun = 0, hlc = 0, run = 0] = stamps.slice(0, 4).map(Number);
  return { birthHlc, birthRun, hlc, run };
}

/** Whom a reference to a dead row means, as hex. */
interface Alias {
  readonly heir: string;
  /** Where another row has the name by now: the last birth that is dead, as {@link birthText} has it. */
  readonly until: string | null;
}

export type Aliases = ReadonlyMap<string, Alias>;

/**
 * The alias of each dead row that has one, as hex: for digests, in which a reference to such a row counts as one to its heir. A
 * row of another device's goes on referring to the old name until its owner has heard of the new one, except where it was renamed; and so
 * does a version that waits, until it is taken.
 */
export function readAliases(sql: Statements, registry: Registry): Aliases {
  const aliases = new Map<string, Alias>();
  const found = sql.rows(
    `SELECT t.uuid, t.tbl, t.alias, t.hlc, r.id, t.birth_hlc, b.id
     FROM flotilla_tombstones t JOIN flotilla_runs r ON r.run = t.run JOIN flotilla_runs b ON b.run = t.birth_run
     WHERE t.alias IS NOT NULL`,
  );
  if (found.length === 0) return aliases;
  const models = new Map(allModels(registry).map((model) => [model.n, model]));
  for (const [uuid, tbl, alias, hlc, run, birthHlc, birthRun] of found) {
    const model = models.get(Number(tbl));
    const lives =
      model === undefined ||
      sql.value(
        `SELECT 1 FROM ${rowsTable(model)} WHERE uuid = ? AND birth_hlc > ?
         UNION ALL SELECT 1 FROM flotilla_pending WHERE uuid = ? AND version IS NOT NULL AND birth_hlc > ?`,
        uuid,
        hlc,
        uuid,
        hlc,
      ) !== undefined;
    const [lastHlc, lastRun] = model?.ownership === 'device' ? [birthHlc, birthRun] : [hlc, run];
    const last = birthText(Number(lastHlc), bytesToHex(lastRun as Uint8Array));
    aliases.set(bytesToHex(uuid as Uint8Array), {
      heir: bytesToHex(alias as Uint8Array),
      until: lives ? last : null,
    });
  }
  return aliases;
}

/** A birth as a text that is ordered as births are. @param run - its id as hex */
export function birthText(hlc: number, run: string): string {
  return `${String(hlc).padStart(16, '0')}@${run}`;
}

/**
 * Where the aliases of a row lead in the end; the row itself if it has none. All as hex.
 * @param birth - of that row, where a reference means the very one of that birth, whichever has the name by now
 */
export function heirIn(aliases: Aliases, uuid: string, birth: string | null): string {
  let last = uuid;
  for (let step = 0; step < MAX_STEPS; step += 1) {
    const alias = aliases.get(last);
    if (alias === undefined) break;
    if (alias.until !== null && (step > 0 || birth === null || birth > alias.until)) break;
    last = alias.heir;
  }
  return last;
}

/**
 * A row has got another name: the tombstone of its old one says which row it is now, and has the stamp of its birth, so that of two
 * names that were given apart the tombstones and the rows say the same. @param key - of that row, as marks name it
 */
export function nameHeir(library: Library, model: Model, dead: Uint8Array, key: MarkKey): void {
  const isNatural = model.rowid === null;
  const heir = library.sql.rows(
    `SELECT uuid, birth_hlc FROM ${rowsTable(model)} WHERE ${isNatural ? mapKeyCondition(model) : 'key = ?'} AND uuid <> ?`,
    ...(isNatural ? decodeKey(String(key)) : [key]),
    Buffer.from(dead),
  )[0];
  if (heir === undefined) return;
  const [uuid, born] = heir;
  // The old name may be that of another row at once, which lives.
  library.sql.run(
    `UPDATE flotilla_tombstones SET alias = ?, hlc = CASE WHEN EXISTS (
       SELECT 1 FROM ${rowsTable(model)} m WHERE m.uuid = flotilla_tombstones.uuid AND m.birth_hlc <= ?
     ) THEN hlc ELSE ? END WHERE uuid = ?`,
    uuid,
    born,
    born,
    Buffer.from(dead),
  );
}

/** Says which row a dead one is from now on. What it held is its heir's: nobody bears it again. */
export function nameAlias(library: Library, dead: Uint8Array, heir: Uint8Array): void {
  library.sql.run(
    'UPDATE flotilla_tombstones SET alias = ?, version = NULL WHERE uuid = ?',
    Buffer.from(heir),
    Buffer.from(dead),
  );
}

/**
 * Whether what a row holds is discarded when it goes for an heir. It is not where it only gets another name, and whoever named it had
 * seen its last change.
 */
export function isDiscarded(
  library: Library,
  model: Model,
  row: KnownVersion & { readonly uuid: Uint8Array; readonly cells: Cells },
  heir: Uint8Array,
): boolean {
  const grave = library.sql.rows(
    'SELECT hlc, run, birth_hlc, birth_run, seen FROM flotilla_tombstones WHERE uuid = ? AND alias = ?',
    Buffer.from(row.uuid),
    Buffer.from(heir),
  )[0];
  if (grave === undefined) return true;
  const [hlc, run, birthHlc, birthRun] = grave.slice(0, 4).map(Number) as [number, number, number, number];
  const tombstone = { hlc, run, birthHlc, birthRun, seen: grave[4] ?? null };
  return isUnseen(library, model, { ...row, cells: formatCells(row.cells) }, tombstone);
}

/** The row here whose identity holds these values. */
export function rowNamed(library: Library, model: Model, values: ReadonlyMap<string, unknown>): StandingRow | null {
  if (model.identity.kind !== 'derived') return null;
  const { columns } = model.identity;
  const uuid = library.sql.value(
    `SELECT m.uuid FROM ${quoteName(model.table)} t CROSS JOIN ${rowsTable(model)} m ON ${mapJoin(model)}
     WHERE ${columns.map((name) => `t.${quoteName(name)} IS ?`).join(' AND ')}`,
    ...columns.map((name) => values.get(name) ?? null),
  );
  return uuid instanceof Uint8Array ? standingRow(library, model, uuid) : null;
}
