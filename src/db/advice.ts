/**
 * What of a schema works, but not as a person may think: told by `flotilla doctor`, one finding a fact, each with what to do.
 */
import type { Database } from 'better-sqlite3';

import type { Finding } from './api.ts';
import { isInternal } from './choose.ts';
import { CONFIG_FILE, foldName } from './config.ts';
import { keywords, raisesOf, triggersToGuard, writesTo } from './guard.ts';
import type { Model, Registry } from './model.ts';
import { quoteName } from './model.ts';
import { HUGE_ROW_BYTES } from './huge.ts';
import { isIndexed } from './indexes.ts';

type Said = Omit<Finding, 'level'>;

/** @param unusable - tables that SQLite cannot read here */
export function adviceOn(db: Database, registry: Registry, unusable: ReadonlySet<string>): Finding[] {
  const models = registry.models.filter((model) => !isInternal(model.table) && !unusable.has(model.table));
  const said: Said[] = [
    ...models.flatMap((model) => [
      ...onKey(db, model),
      ...onUniques(model),
      ...onForeignKeys(db, model),
      ...onHiddenReferences(model, models),
      ...onActionsOfHidingName(model),
      ...onRows(db, model),
    ]),
    ...onTriggers(db, registry),
    ...onVirtualTables(db, models),
    ...onFile(db),
  ];
  return said.map((one) => ({ level: 'advice', ...one }));
}

function onKey(db: Database, model: Model): Said[] {
  const { table, key } = model;
  if (model.rowid !== null) return [];
  const said: Said[] = [];
  const columns = key.map((name) => model.columns.find((column) => column.name === name));
  const [only] = columns;
  if (columns.length === 1 && only?.affinity === 'INTEGER' && only.role.kind === 'value') {
    said.push({
      rule: 'number-as-name',
      table,
      message:
        `The key ${quoteName(only.name)} of "${table}" is a number that SQLite does not assign (it is no INTEGER PRIMARY KEY ` +
        'with a rowid), so it names the row: rows with the same number on two devices are one row. If programs count these ' +
        'numbers up, declare it as INTEGER PRIMARY KEY; if they name things (a code, a year), all is well.',
    });
  }
  const nameless = count(
    db,
    `SELECT count(*) FROM ${quoteName(table)} WHERE ${key.map((name) => `${quoteName(name)} IS NULL`).join(' OR ')}`,
  );
  if (nameless > 0) {
    said.push({
      rule: 'null-in-key',
      table,
      message: `${rows(nameless)} of "${table}" ${nameless === 1 ? 'has' : 'have'} NULL in the key (${key.join(', ')}) and ${nameless === 1 ? 'stays' : 'stay'} on this device until the key is whole. Give them one, and declare the columns NOT NULL.`,
    });
  }
  return said;
}

/** Unique values of tables whose rows have no name of their own collide where people mean the same thing. */
function onUniques(model: Model): Said[] {
  if (model.identity.kind !== 'random') return [];
  return model.uniques.flatMap(({ columns, partial }): Said[] => {
    const synced = columns.every((name) => {
      const role = model.columns.find((column) => column.name === name)?.role.kind;
      return role === 'value' || role === 'ref';
    });
    if (partial || !synced) return [];
    const names = columns.map((name) => JSON.stringify(name)).join(', ');
    return [
      {
        rule: 'unique-values',
        table: model.table,
        message:
          `Two devices may make rows of "${model.table}" with the same (${columns.join(', ')}), which must be UNIQUE: then they ` +
          `collide. If such rows are meant to be one, say "identity": [${names}] for the table in ${CONFIG_FILE} before "flotilla init".`,
      },
    ];
  });
}

function onForeignKeys(db: Database, model: Model): Said[] {
  return model.foreignKeys
    .filter(({ columns }) => !isIndexed(db, model.table, columns, model.rowid))
    .map(({ columns, table: parent }) => ({
      rule: 'foreign-key-index',
      table: model.table,
      message:
        `No index of "${model.table}" begins with (${columns.join(', ')}), which refers to "${parent}": each delete there, also one ` +
        `that arrives, reads all of "${model.table}". CREATE INDEX … ON ${quoteName(model.table)} (${columns.map(quoteName).join(', ')}) mends it.`,
    }));
}

/**
 * SQLite carries out the actions of foreign keys by triggers of its own, in whose SQL OLD and NEW are the referenced row: a referring table
 * of that name stands for it there.
 */
function onActionsOfHidingName({ table, foreignKeys }: Model): Said[] {
  const name = foldName(table);
  if (name !== 'old' && name !== 'new') return [];
  return foreignKeys.flatMap(({ columns, table: parent, onDelete, onUpdate }): Said[] => {
    const writes = (action: string): boolean => action !== 'NO ACTION' && action !== 'RESTRICT';
    const actions = [
      ...(writes(onDelete) && name === 'old' ? [`ON DELETE ${onDelete}`] : []),
      // In SQLite's own UPDATE, NEW is only named by CASCADE.
      ...(writes(onUpdate) && (name === 'old' || onUpdate === 'CASCADE') ? [`ON UPDATE ${onUpdate}`] : []),
    ];
    if (actions.length === 0) return [];
    return [
      {
        rule: 'table-hides-row',
        table,
        message:
          `SQLite itself takes the table ${quoteName(table)} for the row of "${parent}" that is written when it carries out ${actions.join(' and ')} of (${columns.join(', ')}): ` +
          'it refuses the write, or deletes and changes other rows. Give the table another name (ALTER TABLE … RENAME TO).',
      },
    ];
  });
}

/** Numbers that are called like references, but are none for SQLite: they mean other rows on other devices. */
function onHiddenReferences(model: Model, models: readonly Model[]): Said[] {
  const referring = new Set(model.foreignKeys.flatMap((key) => key.columns));
  return model.columns.flatMap(({ name, affinity, role }): Said[] => {
    const base = /^(.+?)_?(?:id|Id|ID)$/.exec(name)?.[1];
    if (base === undefined || role.kind !== 'value' || affinity !== 'INTEGER' || referring.has(name)) return [];
    if (model.key.includes(name) && model.key.length === 1) return [];
    const target = models.find(
      (candidate) => candidate.rowid !== null && namesOf(base).includes(foldName(candidate.table)),
    );
    const what = target === undefined ? 'is called like a reference' : `looks like a reference to "${target.table}"`;
    return [
      {
        rule: 'reference-without-foreign-key',
        table: model.table,
        message:
          `${quoteName(name)} of "${model.table}" ${what}, but is no foreign key. Integer ids differ from device to device; only foreign keys are ` +
          `translated, so its numbers would mean other rows elsewhere. Declare REFERENCES on it, or leave it alone if it holds no ids of this library.`,
      },
    ];
  });
}

/** Names that a table of such things may have. */
function namesOf(base: string): string[] {
  const name = foldName(base);
  return [name, `${name}s`, `${name}es`, name.replace(/y$/, 'ies')];
}

function onRows(db: Database, model: Model): Said[] {
  const wide = model.columns.filter(({ affinity, role }) => role.kind === 'value' && affinity !== 'REAL');
  if (wide.length === 0) return [];
  // Without reading the values: SQLite has their lengths beside them.
  const size = wide.map(({ name }) => `ifnull(octet_length(${quoteName(name)}), 0)`).join(' + ');
  const huge = count(db, `SELECT count(*) FROM ${quoteName(model.table)} WHERE ${size} > ${HUGE_ROW_BYTES}`);
  if (huge === 0) return [];
  return [
    {
      rule: 'huge-row',
      table: model.table,
      message: `${rows(huge)} of "${model.table}" ${huge === 1 ? 'is' : 'are'} larger than ${Math.floor(HUGE_ROW_BYTES / 1024 / 1024)} MiB, more than one message carries: ${huge === 1 ? 'it stays' : 'they stay'} behind, and so does what is decided at the end of a pass. Keep such contents in files, or name the column under "localColumns" in ${CONFIG_FILE}.`,
    },
  ];
}

function onTriggers(db: Database, registry: Registry): Said[] {
  const guarded = triggersToGuard(db, registry);
  const said = guarded.map(({ name, table, reason, isGuarded }): Said => ({
    rule: 'guarded-trigger',
    table,
    message:
      `The trigger "${name}" of "${table}" ${reason}. It runs where a row is written, and what it writes syncs; where rows arrive it must not ` +
      `run again, so its WHEN clause ${isGuarded ? 'has' : 'gets, at "flotilla init" and "flotilla up",'} the guard ` +
      '(docs/configuration.md, "Triggers").',
  }));
  for (const model of registry.models) {
    for (const { name, sql } of triggersOf(db, model.table)) {
      if (guarded.some((trigger) => trigger.name === name)) continue;
      if (raisesOf(sql).size > 0) {
        said.push({
          rule: 'refusing-trigger',
          table: model.table,
          message: `The trigger "${name}" of "${model.table}" may refuse rows (RAISE), also rows that arrive: those wait, listed by "flotilla status", until it lets them in. A rule that holds on every device needs no more than that.`,
        });
      }
      if (model.hasConflictClause && hasOrClause(sql)) {
        said.push({
          rule: 'overridden-or-clause',
          table: model.table,
          message: `"${model.table}" has a constraint with ON CONFLICT, so rows arrive with OR ABORT, which SQLite applies to the statements inside the trigger "${name}" too: their own OR clauses do not count then. Write ON CONFLICT … DO UPDATE there instead.`,
        });
      }
    }
  }
  return said;
}

/** INSERT OR …, UPDATE OR …, REPLACE in the body of a trigger. */
function hasOrClause(sql: string): boolean {
  const words = keywords(sql).map((word) => word.text);
  return words.some(
    (word, i) =>
      (word === 'OR' && (words[i - 1] === 'INSERT' || words[i - 1] === 'UPDATE')) ||
      (word === 'REPLACE' && words[i + 1] === 'INTO'),
  );
}

function onVirtualTables(db: Database, models: readonly Model[]): Said[] {
  const virtual = db
    .prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'virtual' ORDER BY name")
    .pluck()
    .all() as string[];
  const triggers = models.flatMap((model) => triggersOf(db, model.table));
  return virtual
    .filter((name) => !triggers.some(({ sql }) => writesTo(sql, name)))
    .map((table) => ({
      rule: 'unfed-virtual-table',
      table,
      message: `"${table}" is a virtual table, which each device fills by itself, and no trigger of a synced table writes to it: what arrives is not in it until your program fills it. Triggers that keep it run where rows arrive as well.`,
    }));
}

function onFile(db: Database): Said[] {
  const mode = String(db.pragma('journal_mode', { simple: true }));
  if (mode === 'wal' || mode === 'memory') return [];
  return [
    {
      rule: 'journal-mode',
      table: '',
      message: `The file is in journal mode ${mode}; "flotilla up" puts it into WAL mode, for good. Programs that use it must be on this machine (no network drive), and copy the file with its -wal file or by .backup.`,
    },
  ];
}

function triggersOf(db: Database, table: string): { name: string; sql: string }[] {
  return (
    db
      .prepare(
        "SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE ORDER BY rowid",
      )
      .all(table) as { name: string; sql: string }[]
  ).filter(({ name }) => !isInternal(name));
}

function count(db: Database, sql: string): number {
  return Number(db.prepare(sql).pluck().get());
}

function rows(n: number): string {
  return n === 1 ? '1 row' : `${n} rows`;
}
