/**
 * Whether anything was lost: what each copy held before they exchanged, against what they hold in the end. It looks at the rows
 * by their UUIDs, which is all that it takes from the engine.
 *
 * - A row that somebody had is there in the end, or waits, or goes back to a delete: its own, or that of a row which takes it
 *   along by ON DELETE CASCADE.
 * - What only one copy wrote stands in the end; what several wrote is what one of them made of it. A reference to a row that is
 *   gone may have been changed by ON DELETE.
 */
import { mapJoin, quoteName, rowsTable, syncedColumns } from '../../src/db/model.ts';
import { exact } from './contents.ts';
import type { Replica } from './replica.ts';

export interface Version {
  readonly table: string;
  /** This copy's number of its last change: another one shows a write, also one that brought the old values back. */
  readonly lsn: string;
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
        `SELECT ${['hex(m.uuid)', 'm.lsn', ...shown, ...targets].join(', ')} FROM ${quoteName(model.table)} t
         JOIN ${rowsTable(model)} m ON ${mapJoin(model)}`,
      )
      .safeIntegers(true)
      .raw()
      .all() as unknown[][];
    for (const [uuid, lsn, ...rest] of rows) {
      found.set(String(uuid), {
        table: model.table,
        lsn: String(lsn),
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
  /** UUIDs of versions that wait there in the end, and of those that waited anywhere when the edits began. */
  readonly waiting: ReadonlySet<string>;
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
    const changed = edited.flatMap((versions, i) => {
      const version = versions.get(uuid);
      return version === undefined || version.lsn === story.base[i]?.get(uuid)?.lsn ? [] : [version];
    });
    const wanted = changed.length > 0 ? changed : story.base.flatMap((versions) => versions.get(uuid) ?? []);
    if (!wanted.some((version) => agrees(version, end, mayGo)))
      found.push(`${told(end)} is none of what was written: ${wanted.map(told).join(' / ')}`);
  }
  for (const [uuid, version] of story.end) if (!all.has(uuid)) found.push(`from nowhere: ${told(version)}`);
  return found;
}

/** Rows that somebody deleted, and those that go with them. */
function mortal({ base, edited }: Story): Set<string> {
  const gone = new Set<string>();
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

function agrees(wanted: Version, end: Version, mayGo: ReadonlySet<string>): boolean {
  const released = new Set(wanted.targets.filter(({ uuid }) => mayGo.has(uuid)).flatMap(({ columns }) => columns));
  return Object.entries(wanted.values).every(([column, value]) => released.has(column) || end.values[column] === value);
}

function told(version: Version | undefined): string {
  return version === undefined ? 'nothing' : `${version.table} ${JSON.stringify(version.values)}`;
}
