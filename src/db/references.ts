/**
 * Tables as they stand in the file, before the others are looked at, and the foreign keys between them.
 */
import type { Database } from 'better-sqlite3';
import { select, unsupported } from './choose.ts';
import { CONFIG_FILE, foldName } from './config.ts';
import type { TableConfig } from './config.ts';
import type { UniqueIndex } from './indexes.ts';
import type { Affinity, DeleteAction } from './model.ts';

export interface RawForeignKey {
  readonly columns: readonly string[];
  readonly table: string;
  readonly targets: readonly string[];
  readonly onDelete: DeleteAction;
  readonly onUpdate: DeleteAction;
}

export interface RawColumn {
  readonly name: string;
  readonly cid: number;
  readonly affinity: Affinity;
  readonly notNull: boolean;
  readonly defaultText: string | null;
  readonly local: boolean;
}

/** A table as it stands in the file, before the others are looked at. */
export interface Draft {
  readonly table: string;
  settings: TableConfig;
  /** Column → policy or function, as the configuration says. */
  readonly policies: ReadonlyMap<string, string>;
  readonly ownership: 'shared' | 'device';
  readonly columns: readonly RawColumn[];
  readonly key: readonly string[];
  readonly keyCollations: readonly string[];
  readonly rowid: string | null;
  readonly uniques: readonly UniqueIndex[];
  /** Names of its generated columns. */
  readonly generated: readonly string[];
  readonly hasConflictClause: boolean;
  readonly maySkip: boolean;
  foreignKeys: readonly RawForeignKey[];
}

export type Drafts = ReadonlyMap<string, Draft>;

/**
 * The foreign keys of a table that sync: those with a local column are this device's own business.
 * @param left - tables that do not sync
 * @param refused - tables that should, and cannot: nothing is said of what refers to them
 */
export function readForeignKeys(
  db: Database,
  draft: Draft,
  drafts: Drafts,
  left: ReadonlySet<string>,
  refused: ReadonlySet<string>,
): RawForeignKey[] {
  const rows = select<{
    id: number;
    table: string;
    from: string;
    to: string | null;
    on_delete: DeleteAction;
    on_update: DeleteAction;
  }>(
    db,
    `SELECT id, "table", "from", "to", on_delete, on_update FROM pragma_foreign_key_list(?, 'main') ORDER BY id, seq`,
    draft.table,
  );
  return [...new Set(rows.map((row) => row.id))].flatMap((id): RawForeignKey[] => {
    const group = rows.filter((row) => row.id === id);
    const named = group[0]?.table ?? '';
    const columns = group.map((row) => row.from);
    const known = columns.map((name) => draft.columns.find((column) => column.name === name));
    // With one column local the reference is this device's own business.
    if (known.some((column) => column?.local === true)) return [];
    const reference = `(${columns.join(', ')}) of the table "${draft.table}"`;
    if (known.includes(undefined)) {
      throw unsupported(
        `${reference} is a foreign key on a generated column, which cannot sync. Put the key on plain columns, or set ` +
          `"sync": false for "${draft.table}" in ${CONFIG_FILE}.`,
      );
    }
    const parent = [...drafts.values()].find((candidate) => foldName(candidate.table) === foldName(named));
    // It is told of the other table what is wrong there.
    if ([...refused].some((name) => foldName(name) === foldName(named))) return [];
    if (parent === undefined) {
      const why = [...left].some((name) => foldName(name) === foldName(named)) ? 'does not sync' : 'does not exist';
      throw unsupported(
        `${reference} refers to the table "${named}", which ${why}. Let "${named}" sync, leave "${draft.table}" out too, ` +
          `or name the column under "localColumns" in ${CONFIG_FILE}.`,
      );
    }
    const targets = group.every((row) => row.to === null) ? parent.key : group.map((row) => row.to ?? '');
    const resolved = targets.map((target) =>
      parent.columns.find((column) => foldName(column.name) === foldName(target)),
    );
    const names = resolved.flatMap((column) => (column === undefined || column.local ? [] : [column.name]));
    const made = targets.find((target) => parent.generated.some((name) => foldName(name) === foldName(target)));
    if (made !== undefined) {
      throw unsupported(
        `${reference} refers to "${made}" of "${parent.table}", a generated column, which cannot sync. Let it refer to plain ` +
          `columns, or set "sync": false for "${draft.table}" in ${CONFIG_FILE}.`,
      );
    }
    if (names.length !== columns.length || !isUnique(parent, names)) {
      throw unsupported(
        `${reference} refers to (${targets.join(', ')}) of "${parent.table}", which is no primary key and not UNIQUE over ` +
          'columns that sync. Correct the foreign key.',
      );
    }
    // An id that refers to itself always holds.
    if (parent === draft && columns.every((column, position) => column === names[position])) return [];
    const { on_delete: onDelete = 'NO ACTION', on_update: onUpdate = 'NO ACTION' } = group[0] ?? {};
    return [{ columns, table: parent.table, targets: names, onDelete, onUpdate }];
  });
}

function isUnique(parent: Draft, columns: readonly string[]): boolean {
  const same = (other: ReadonlyArray<string | null>): boolean =>
    other.length === columns.length && other.every((column) => column !== null && columns.includes(column));
  return same(parent.key) || parent.uniques.some((unique) => !unique.partial && same(unique.columns));
}
