/**
 * Whether anything was lost: what each copy held before they exchanged, against what they hold in the end. Of the engine it
 * takes which row is which, and which copy wrote which column; the rest it works out by itself.
 *
 * - A row that somebody had is there in the end, or waits, or goes back to a delete: its own, or that of a row which takes it
 *   along by ON DELETE CASCADE.
 * - A column that only one copy wrote holds in the end what that copy wrote; one that several wrote, what one of them wrote. A row
 *   that was made anew, or that one device owns, counts as a whole. A reference to a row that is gone may have been changed by
 *   ON DELETE.
 * - A reference of a row to another one of its table may have given way, to nothing, where moves together made a ring.
 * - Of two rows that collided in a unique index one may bear a suffix of its own UUID, or both may be one; then what referred to
 *   the other refers to that one, under another identity where its own contains the reference.
 */
import { parseCells } from '../../src/db/cells.ts';
import { mapJoin, quoteName, rowsTable, syncedColumns } from '../../src/db/model.ts';
import { exact } from './contents.ts';
import type { Replica } from './replica.ts';

export interface Version {
  readonly table: string;
  /** When it was born, and this copy's number of its last change. */
  readonly birth: string;
  readonly lsn: string;
  /** Whether it is one device's, and changes as a whole. */
  readonly isOwned: boolean;
  /** Stamp of each column that was written after the birth. */
  readonly written: Readonly<Record<string, number>>;
  /** Values by column, references as UUIDs. */
  readonly values: Readonly<Record<string, string>>;
  /** UUIDs that it refers to: by which columns, and whether ON DELETE CASCADE. */
  readonly targets: readonly {
    readonly columns: readonly string[];
    readonly uuid: string;
    readonly cascades: boolean;
  }[];
}

/** Versions by UUID. */
export type Versions = ReadonlyMap<string, Version>;

/** What a copy held, and what had been deleted there by then. */
export interface Edited {
  readonly rows: Versions;
  readonly deleted: ReadonlySet<string>;
}

/** A copy as it is now. */
export function editedCopy(replica: Replica): Edited {
  const rows = versionsOf(replica);
  return { rows, deleted: new Set(replica.rows('SELECT hex(uuid) FROM flotilla_tombstones').map(String)) };
}

/** All rows of a copy by UUID, stamped first. */
export function versionsOf(replica: Replica): Versions {
  replica.stamp();
  const { models, byName } = replica.library.registry;
  const found = new Map<string, Version>();
  for (const model of models) {
    if (model.table.startsWith('flotilla_')) continue;
    const columns = syncedColumns(model);
    const shown = columns.map(({ name, role }) => {
      if (role.kind !== 'ref') return `t.${quoteName(name)}`;
      const parent = byName.get(role.table);
      return parent === undefined
        ? 'NULL'
        : `(SELECT hex(uuid) FROM ${rowsTable(parent)} WHERE key = t.${quoteName(name)})`;
    });
    const targets = model.foreignKeys.map((foreignKey) => {
      const parent = byName.get(foreignKey.table);
      if (parent === undefined) return 'NULL';
      // The parent's column first: a foreign key compares by its collation.
      const on = foreignKey.columns.map(
        (column, i) => `p.${quoteName(foreignKey.targets[i] ?? '')} = t.${quoteName(column)}`,
      );
      return `(SELECT hex(pm.uuid) FROM ${quoteName(parent.table)} p JOIN ${rowsTable(parent)} pm ON ${mapJoin(parent, 'p', 'pm')} WHERE ${on.join(' AND ')})`;
    });
    const rows = replica.db
      .prepare(
        `SELECT ${['hex(m.uuid)', 'm.birth_hlc', 'm.lsn', 'm.cells', ...shown, ...targets].join(', ')} FROM ${quoteName(model.table)} t
         JOIN ${rowsTable(model)} m ON ${mapJoin(model)}`,
      )
      .safeIntegers(true)
      .raw()
      .all() as unknown[][];
    for (const [uuid, birth, lsn, cells, ...rest] of rows) {
      const stamps = parseCells(cells as string | null);
      found.set(String(uuid), {
        table: model.table,
        birth: String(birth),
        lsn: String(lsn),
        isOwned: model.ownership === 'device',
        written: Object.fromEntries(
          columns.flatMap(({ name, number }) => {
            const cell = stamps.get(number);
            return cell === undefined ? [] : [[name, cell.hlc]];
          }),
        ),
        values: Object.fromEntries(columns.map(({ name }, i) => [name, exact(rest[i])])),
        targets: model.foreignKeys.flatMap((foreignKey, i) => {
          const target = rest[columns.length + i];
          return typeof target === 'string'
            ? [{ columns: foreignKey.columns, uuid: target, cascades: foreignKey.onDelete === 'CASCADE' }]
            : [];
        }),
      });
    }
  }
  return found;
}

export interface Story {
  /** What each copy held when the edits began. They are equal but for what waited. */
  readonly base: readonly Versions[];
  /** What each held after its edits. */
  readonly edited: readonly Edited[];
  /** What one of them holds in the end. */
  readonly end: Versions;
  /** Rows that have become one with another one there: which with which. */
  readonly merged: ReadonlyMap<string, string>;
  /** UUIDs of versions that wait there in the end, and of those that waited anywhere when the edits began. */
  readonly waiting: ReadonlySet<string>;
}

/** Rows of a copy that have become one with another one: which with which. */
export function mergedIn(replica: Replica): Map<string, string> {
  const rows = replica.rows('SELECT hex(uuid), hex(alias) FROM flotilla_tombstones WHERE alias IS NOT NULL');
  return new Map(rows as [string, string][]);
}

/** Everything that is missing or invented, in words; nothing if all is well. */
export function losses(story: Story): string[] {
  const mayGo = mortal(story);
  const found: string[] = [];
  const edited = story.edited.map(({ rows }) => rows);
  const all = new Set([...story.base, ...edited].flatMap((versions) => [...versions.keys()]));
  for (const uuid of all) {
    if (story.waiting.has(uuid)) continue;
    const end = story.end.get(uuid);
    if (end === undefined) {
      if (!mayGo.has(uuid)) found.push(`lost: ${told(edited.find((versions) => versions.has(uuid))?.get(uuid))}`);
      continue;
    }
    // What a delete held that is undone was seen by nobody here.
    if (story.edited.some(({ deleted }) => deleted.has(uuid))) continue;
    const wrong = disagreements(uuid, end, story, mayGo);
    if (wrong.length > 0)
      found.push(
        `${wrong.join(', ')} of ${told(end)} is not what was written: ${told(...edited.flatMap((versions) => versions.get(uuid) ?? []))}`,
      );
  }
  const winners = new Set(story.merged.values());
  for (const [uuid, version] of story.end) {
    // What waited when the edits began may stand in the end.
    if (!all.has(uuid) && !story.waiting.has(uuid) && !version.targets.some((target) => winners.has(target.uuid)))
      found.push(`from nowhere: ${told(version)}`);
  }
  return found;
}

/** Rows that somebody deleted, and those that go with them. */
function mortal({ base, edited, merged }: Story): Set<string> {
  const gone = new Set<string>(merged.keys());
  edited.forEach(({ rows, deleted }, i) => {
    for (const uuid of base[i]?.keys() ?? []) if (!rows.has(uuid)) gone.add(uuid);
    for (const uuid of deleted) gone.add(uuid);
  });
  for (let size = -1; size !== gone.size;) {
    size = gone.size;
    for (const versions of [...base, ...edited.map(({ rows }) => rows)]) {
      for (const [uuid, { targets }] of versions)
        if (targets.some((target) => target.cascades && gone.has(target.uuid))) gone.add(uuid);
    }
  }
  return gone;
}

/** Columns that hold in the end what nobody wrote there. */
function disagreements(uuid: string, end: Version, { base, edited }: Story, mayGo: ReadonlySet<string>): string[] {
  const writers = edited.flatMap(({ rows }, i) => {
    const [before, after] = [base[i]?.get(uuid), rows.get(uuid)];
    return after === undefined || after.lsn === before?.lsn ? [] : [{ before, after }];
  });
  const reborn = writers.filter(({ before, after }) => after.isOwned || after.birth !== before?.birth);
  if (reborn.length > 0) {
    const held = reborn.map(({ after }) =>
      Object.keys(after.values).filter((column) => !holds(uuid, end, column, [after], mayGo)),
    );
    return held.toSorted((a, b) => a.length - b.length)[0] ?? [];
  }
  const before = base.flatMap((versions) => versions.get(uuid) ?? []);
  return Object.keys(end.values).filter((column) => {
    if (isTop(uuid, end, column) && mayHaveMadeRing(uuid, column, [...base, ...edited.map(({ rows }) => rows)]))
      return false;
    const wrote = writers.filter((writer) => writer.after.written[column] !== writer.before?.written[column]);
    return !holds(uuid, end, column, wrote.length > 0 ? wrote.map(({ after }) => after) : before, mayGo);
  });
}

/** Whether a row is at the top of a tree: of moves that made a ring one gives way. */
function isTop(uuid: string, { values }: Version, column: string): boolean {
  return values[column] === exact(null) || values[column] === exact(uuid);
}

/** Whether a row is above itself by references of one column that anybody ever had, taken together. */
function mayHaveMadeRing(uuid: string, column: string, all: readonly Versions[]): boolean {
  const above = (from: string): string[] =>
    all.flatMap((versions) =>
      (versions.get(from)?.targets ?? []).flatMap(({ columns, uuid: target }) =>
        columns.includes(column) ? [target] : [],
      ),
    );
  const seen = new Set<string>();
  const queue = above(uuid).filter((target) => target !== uuid);
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    if (at === uuid) return true;
    if (seen.has(at)) continue;
    seen.add(at);
    queue.push(...above(at));
  }
  return false;
}

/** Whether a column holds what one of some versions does, or has let go of a row that is gone. */
function holds(
  uuid: string,
  end: Version,
  column: string,
  versions: readonly Version[],
  mayGo: ReadonlySet<string>,
): boolean {
  // A row that collided in a unique index has another name, by a suffix from its own UUID.
  const digits = uuid.replaceAll('-', '').toLowerCase();
  const unnamed = end.values[column]?.replace(/ \(([0-9a-f]+)\)"$/, (suffix, hex: string) =>
    digits.endsWith(hex) ? '"' : suffix,
  );
  return versions.some(
    ({ values, targets }) =>
      values[column] === end.values[column] ||
      values[column] === unnamed ||
      targets.some((target) => target.columns.includes(column) && mayGo.has(target.uuid)),
  );
}

function told(...versions: readonly (Version | undefined)[]): string {
  return versions
    .map((version) => (version === undefined ? 'nothing' : `${version.table} ${JSON.stringify(version.values)}`))
    .join(' / ');
}
