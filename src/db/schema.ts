/**
 * Reads the registry from a library file: which tables sync, their columns, keys, references and identities. The schema
 * is taken as it is; the configuration only says what the schema cannot. Nothing is written here.
 *
 * Three steps: which tables (`choose.ts`), each table by itself (`readDraft`), then what needs all of them: roles of
 * columns along the foreign keys, identities, order.
 */
import type { Database } from 'better-sqlite3';
import { FlotillaError } from '../errors.ts';
import { badConfig, checkNames, chooseTables, INTERNAL_TABLES, isInternal, select, unsupported } from './choose.ts';
import type { TableEntry } from './choose.ts';
import { foldName, tableConfig } from './config.ts';
import type { Config, TableConfig } from './config.ts';
import { describeModels, hashOf } from './describe.ts';
import { keywords, raisesOf } from './guard.ts';
import { readForeignKeys } from './references.ts';
import type { Draft, Drafts, RawColumn, RawForeignKey } from './references.ts';
import { readUniques } from './indexes.ts';
import type { UniqueIndex } from './indexes.ts';
import { checkPolicies, policiesIn } from './policy-config.ts';
import { readKey } from './keys.ts';
import type { Affinity, Column, ColumnRole, ForeignKey, Identity, Model, Registry } from './model.ts';
import { ALWAYS_THERE, foreignKeyNumber } from './model.ts';
import { treesOf } from './trees.ts';

/** A column, with the text of its default when that is a literal. */
export type SchemaColumn = Column & { readonly defaultSql: string | null };

/** What `readRegistry` really returns for each table: the model, with what capture needs to foresee evictions. */
export type SchemaModel = Model & {
  readonly columns: readonly SchemaColumn[];
  readonly uniques: readonly UniqueIndex[];
  /** Names of generated columns, which are no columns for us, but may stand in indexes. */
  readonly generated: readonly string[];
};

/** Hears of a table that cannot sync, and why; the others are read without it. */
export type OnRefusal = (table: string, error: FlotillaError) => void;

/**
 * Reads the registry.
 * @param db - an open library
 * @param config - its configuration
 * @param numbers - table name → number, as assigned in this file before; tables that are not in it get the next ones
 * @param onRefusal - what becomes of a table that should sync and cannot. @default it is thrown
 * @throws FlotillaError NO_PRIMARY_KEY, UNSUPPORTED_SCHEMA or CONFIG, naming the table
 */
export function readRegistry(
  db: Database,
  config: Config,
  numbers: ReadonlyMap<string, number>,
  onRefusal?: OnRefusal,
): Registry {
  const encoding = db.pragma('encoding', { simple: true });
  if (encoding !== 'UTF-8') {
    throw unsupported(`The library is encoded in ${String(encoding)}; only UTF-8 can sync. Rebuild it with UTF-8.`);
  }
  const { chosen, left } = chooseTables(db, config);
  const leftNames = new Set(left.map((entry) => entry.table));
  const refused = new Set<string>();
  const drafts = new Map<string, Draft>();
  const attempt = <T>(table: string, work: () => T): T | undefined => {
    try {
      return work();
    } catch (error) {
      if (onRefusal === undefined || !(error instanceof FlotillaError)) throw error;
      refused.add(table);
      drafts.delete(table);
      left.push({ table, reason: 'It cannot sync as it is.' });
      onRefusal(table, error);
      return undefined;
    }
  };
  for (const entry of chosen) {
    const draft = attempt(entry.name, () => readDraft(db, entry, config));
    if (draft !== undefined) drafts.set(entry.name, draft);
  }
  for (const draft of drafts.values()) {
    attempt(draft.table, () => {
      draft.foreignKeys = readForeignKeys(db, draft, drafts, leftNames, refused);
    });
  }
  for (const draft of drafts.values()) attempt(draft.table, () => refuseRing(draft, drafts));
  for (const draft of drafts.values()) attempt(draft.table, () => void toModel(draft, drafts, 0));
  // What refers to a table that was refused after it is read as if that reference were not there.
  for (const draft of drafts.values()) {
    const kept = draft.foreignKeys.filter((key) => !refused.has(key.table));
    if (kept.length === draft.foreignKeys.length) continue;
    draft.foreignKeys = kept;
    const { ownedBy, ...others } = draft.settings;
    if (ownedBy !== undefined && findOwnerKey(draft) === undefined) draft.settings = others;
  }

  const order = parentsFirst(drafts);
  const given = [...numbers].filter(([table]) => !INTERNAL_TABLES.has(table)).map(([, n]) => n);
  let next = Math.max(0, ...given) + 1;
  const models = order.map((draft) =>
    toModel(draft, drafts, numbers.get(draft.table) ?? INTERNAL_TABLES.get(draft.table) ?? next++),
  );
  for (const model of models) checkPolicies(model, config.module ?? null);
  return {
    models,
    byName: new Map(models.map((model) => [model.table, model])),
    absent: [],
    byWire: new Map(models.map((model) => [model.wire, model])),
    left,
    schemaHash: hashOf(describeModels(models)),
    mergeModule: config.module ?? null,
  };
}

/** Affinity of a declared type (https://sqlite.org/datatype3.html#determination_of_column_affinity). */
export function affinityOf(type: string, strict: boolean): Affinity {
  const upper = type.toUpperCase();
  if (strict && upper === 'ANY') return 'BLOB';
  if (upper.includes('INT')) return 'INTEGER';
  if (/CHAR|CLOB|TEXT/.test(upper)) return 'TEXT';
  if (upper === '' || upper.includes('BLOB')) return 'BLOB';
  return /REAL|FLOA|DOUB/.test(upper) ? 'REAL' : 'NUMERIC';
}

// ---- one table

function readDraft(db: Database, entry: TableEntry, config: Config): Draft {
  const table = entry.name;
  const settings = tableConfig(config, table);
  const raw = select<{
    cid: number;
    name: string;
    type: string;
    notnull: number;
    dflt: string | null;
    pk: number;
    hidden: number;
  }>(
    db,
    `SELECT cid, name, type, "notnull", dflt_value AS dflt, pk, hidden FROM pragma_table_xinfo(?, 'main') ORDER BY cid`,
    table,
  );
  // Generated columns (hidden 2 and 3) are computed on every device, so they are no columns for us.
  const plain = raw.filter((column) => column.hidden === 0);
  const columnNames = plain.map((column) => column.name);
  checkNames(table, columnNames);
  const generated = raw.filter((column) => column.hidden > 1).map((column) => column.name);
  const named = (names: readonly string[], what: string): string[] =>
    resolve(names, columnNames, generated, `${what} of the table "${table}"`);
  const locals = new Set(named(settings.localColumns ?? [], 'localColumns'));
  const identity = settings.identity && named(settings.identity, 'identity');
  const uniques = readUniques(db, table);
  const key = readKey(db, table, raw, uniques, identity);
  const columns = plain.map((column) => ({
    name: column.name,
    cid: column.cid,
    affinity: affinityOf(column.type, entry.strict === 1),
    notNull: column.notnull === 1,
    defaultText: column.dflt,
    local: locals.has(column.name),
  }));
  for (const column of columns.filter((candidate) => candidate.local)) {
    const where = `"${column.name}" of "${table}" cannot be a local column`;
    if (key.columns.includes(column.name))
      throw badConfig(
        `${where}: it is part of the ${key.index === null ? 'primary key' : 'key'}. Take it out of localColumns.`,
      );
    if (column.notNull && column.defaultText === null) {
      throw badConfig(`${where}: rows from other devices come without it. Let it be NULL or give it a default.`);
    }
  }
  return {
    table,
    policies: policiesIn(settings, (names) => named(names, 'columns')),
    settings: { ...settings, identity },
    ownership: isInternal(table) ? 'shared' : ownershipOf(table, settings, config),
    columns,
    generated,
    key: key.columns,
    keyCollations: key.collations,
    rowid: key.rowid,
    uniques: uniques.filter((unique) => unique.name !== key.index),
    hasConflictClause: hasConflictClause(db, table),
    maySkip: maySkip(db, table),
    foreignKeys: [],
  };
}

function ownershipOf(table: string, { ownership, ownedBy }: TableConfig, config: Config): 'shared' | 'device' {
  if (ownedBy === undefined) return ownership ?? config.ownership ?? 'shared';
  if (ownership === 'shared')
    throw badConfig(`The table "${table}" cannot be shared and have "ownedBy". Take one of the two away.`);
  return 'device';
}

/** Names from the configuration in the schema's own spelling. */
function resolve(
  names: readonly string[],
  columns: readonly string[],
  generated: readonly string[],
  where: string,
): string[] {
  return names.map((name) => {
    const same = (column: string): boolean => foldName(column) === foldName(name);
    const found = columns.find(same);
    if (found !== undefined) return found;
    if (generated.some(same))
      throw badConfig(
        `${where} names "${name}", a generated column, which each device computes. Name what it is made of.`,
      );
    throw badConfig(`${where} names "${name}", which is no column that can sync. Correct the name.`);
  });
}

/** Whether a constraint of the table says ON CONFLICT; only its text does. */
function hasConflictClause(db: Database, table: string): boolean {
  const [found] = select<{ sql: string }>(
    db,
    `SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?`,
    table,
  );
  const words = keywords(found?.sql ?? '').map((word) => word.text);
  return words.some((word, i) => word === 'CONFLICT' && words[i - 1] === 'ON');
}

function maySkip(db: Database, table: string): boolean {
  return select<{ sql: string }>(
    db,
    `SELECT sql FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE`,
    table,
  ).some(({ sql }) => raisesOf(sql).has('IGNORE'));
}

// ---- all tables together

/**
 * What a column holds, found along the foreign keys: an integer id of a row somewhere, however many keys of keys lie
 * between, or a value. `trail` keeps rings of references from being walked for ever.
 */
function roleOf(draft: Draft, column: string, drafts: Drafts, trail: ReadonlySet<string> = new Set()): ColumnRole {
  if (draft.columns.find((candidate) => candidate.name === column)?.local === true) return { kind: 'local' };
  const own: ColumnRole = column === draft.rowid ? { kind: 'rowid' } : { kind: 'value' };
  const place = JSON.stringify([draft.table, column]);
  if (trail.has(place)) return own;
  const through = new Set([...trail, place]);
  // A column under several foreign keys takes the first that names an id at once, so that this key needs no join.
  const keys = draft.foreignKeys.filter((key) => key.columns.includes(column));
  const direct = (key: RawForeignKey): boolean =>
    key.targets.length === 1 && key.targets[0] === drafts.get(key.table)?.rowid;
  for (const key of [...keys.filter(direct), ...keys.filter((candidate) => !direct(candidate))]) {
    const parent = drafts.get(key.table);
    const target = key.targets[key.columns.indexOf(column)];
    if (parent === undefined || target === undefined || (parent === draft && target === column)) continue;
    const role: ColumnRole =
      target === parent.rowid ? { kind: 'ref', table: parent.table } : roleOf(parent, target, drafts, through);
    // The table's own id may come back to it through a child's reference: then it is still assigned here.
    if (role.kind === 'ref' && !(column === draft.rowid && role.table === draft.table)) return role;
  }
  return own;
}

/** Refuses tables whose ids are each other's ids in a ring: none of them could be born first. */
function refuseRing(draft: Draft, drafts: Drafts): void {
  const path = [draft.table];
  for (let at: Draft | undefined = draft; at !== undefined && at.rowid !== null;) {
    const role: ColumnRole = roleOf(at, at.rowid, drafts);
    if (role.kind !== 'ref') return;
    if (role.table === draft.table) {
      throw unsupported(
        `The ids of ${path.map((name) => `"${name}"`).join(', ')} refer to each other in a ring, which cannot sync.`,
      );
    }
    if (path.includes(role.table)) return;
    path.push(role.table);
    at = drafts.get(role.table);
  }
}

/** The foreign key behind `ownedBy`, which must lead, over any number of tables, to one whose rows belong to their maker. */
function ownedByOf(draft: Draft, drafts: Drafts, foreignKeys: readonly ForeignKey[]): ForeignKey | null {
  const path = [draft.table];
  let found: ForeignKey | null = null;
  for (let at = draft; at.settings.ownedBy !== undefined;) {
    const key = ownerKey(at);
    found ??= foreignKeys.find(({ columns }) => columns.length === 1 && columns[0] === key.columns[0]) ?? null;
    const parent = drafts.get(key.table);
    if (parent === undefined) return found;
    const where = `The table "${at.table}" cannot be owned by its ${key.columns[0]}`;
    if (parent.ownership === 'shared')
      throw badConfig(
        `${where}: rows of "${parent.table}" belong to nobody. Set "ownership": "device" for that table, or "ownedBy".`,
      );
    if (path.includes(parent.table))
      throw badConfig(`${where}: ${path.join(', ')} would own each other. One of them must belong to its maker.`);
    path.push(parent.table);
    at = parent;
  }
  return found;
}

function ownerKey(draft: Draft): RawForeignKey {
  const found = findOwnerKey(draft);
  if (found !== undefined) return found;
  throw badConfig(
    `ownedBy of the table "${draft.table}" names "${draft.settings.ownedBy ?? ''}", which is no column with a foreign key of its own that syncs. Name one that has.`,
  );
}

function findOwnerKey({ foreignKeys, settings }: Draft): RawForeignKey | undefined {
  const wanted = foldName(settings.ownedBy ?? '');
  return foreignKeys.find(({ columns }) => columns.length === 1 && foldName(columns[0] ?? '') === wanted);
}

function identityOf(draft: Draft, columns: readonly Column[]): Identity {
  const declared = draft.settings.identity;
  if (declared === undefined) {
    if (draft.rowid === null) return { kind: 'derived', columns: draft.key };
    const rowid = columns.find((column) => column.name === draft.rowid);
    return rowid?.role.kind === 'ref' ? { kind: 'derived', columns: [draft.rowid] } : { kind: 'random' };
  }
  const where = `The identity of the table "${draft.table}" cannot be (${declared.join(', ')})`;
  const roles = declared.map((name) => columns.find((column) => column.name === name)?.role.kind);
  if (roles.includes('rowid'))
    throw badConfig(`${where}: every device assigns its own integer ids. Name other columns.`);
  if (roles.includes('local'))
    throw badConfig(`${where}: a local column is not known on other devices. Name other columns.`);
  const covered = (names: ReadonlyArray<string | null>): boolean =>
    names.every((name) => name !== null && declared.includes(name));
  if (!covered(draft.key) && !draft.uniques.some((unique) => !unique.partial && covered(unique.columns))) {
    throw badConfig(`${where}: two rows may have the same values there. Create a UNIQUE index on these columns.`);
  }
  return { kind: 'derived', columns: declared };
}

function toModel(draft: Draft, drafts: Drafts, n: number): SchemaModel {
  const columns = draft.columns.map((column): SchemaColumn => ({
    name: column.name,
    number: column.cid,
    wire: column.name,
    since: ALWAYS_THERE,
    affinity: column.affinity,
    notNull: column.notNull,
    hasDefault: column.defaultText !== null,
    fallback: literal(column.defaultText) ?? `(${column.defaultText ?? 'NULL'})`,
    defaultSql: literal(column.defaultText),
    role: roleOf(draft, column.name, drafts),
    ...policyOf(draft, column),
  }));
  const roles = new Map(columns.map((column) => [column.name, column.role]));
  const foreignKeys = draft.foreignKeys.map((key): ForeignKey => {
    const role = key.columns.length === 1 ? roles.get(key.columns[0] ?? '') : undefined;
    const direct = key.targets.length === 1 && key.targets[0] === drafts.get(key.table)?.rowid;
    return {
      number: foreignKeyNumber(key.columns, key.table, key.targets),
      ...key,
      wires: key.columns,
      simple: direct && role?.kind === 'ref' && role.table === key.table,
    };
  });
  const identity = identityOf(draft, columns);
  return {
    n,
    table: draft.table,
    wire: draft.table,
    isAbsent: false,
    absent: [],
    ownership: draft.ownership,
    ownedBy: ownedByOf(draft, drafts, foreignKeys),
    identity,
    columns,
    key: draft.key,
    keyCollations: draft.keyCollations,
    rowid: draft.rowid,
    rowidIsRef: draft.rowid !== null && roles.get(draft.rowid)?.kind === 'ref',
    foreignKeys,
    trees: treesOf(draft, foreignKeys, identity),
    uniques: withPolicies(draft),
    generated: draft.generated,
    hasConflictClause: draft.hasConflictClause,
    maySkip: draft.maySkip,
  };
}

/** What the configuration says of a column, if it is no more than what every column does. */
function policyOf({ policies }: Draft, { name }: RawColumn): { readonly policy?: string } {
  const policy = policies.get(name);
  return policy === undefined ? {} : { policy };
}

/** The unique indexes with what the configuration says of them. */
function withPolicies({ table, settings, uniques }: Draft): UniqueIndex[] {
  const configured = Object.entries(settings.unique ?? {});
  const isMeant = (unique: UniqueIndex, name: string): boolean =>
    foldName(name) === foldName(unique.name) ||
    JSON.stringify(name.split(',').map((part) => foldName(part.trim()))) ===
      JSON.stringify(unique.columns.map((column) => foldName(column ?? '')));
  for (const [name] of configured) {
    if (uniques.some((unique) => isMeant(unique, name))) continue;
    const known = uniques
      .map((unique) => `"${unique.columns.map((column) => column ?? '…').join(', ')}"`)
      .join(' and ');
    throw badConfig(
      `"unique" of the table "${table}" names "${name}", which is no unique index of it. Name the columns of one as the index has them: ${known || 'it has none'}.`,
    );
  }
  return uniques.map((unique) => {
    const policy = configured.find(([name]) => isMeant(unique, name))?.[1];
    return policy === undefined ? unique : { ...unique, policy };
  });
}

/** The default as an SQL literal that means the same in a trigger; null when it is an expression or NULL. */
function literal(text: string | null): string | null {
  if (text === null || /^null$/i.test(text)) return null;
  if (/^(?:'(?:[^']|'')*'|x'[0-9a-f]*'|[-+]?\s*[\d.][\w.+-]*|true|false)$/i.test(text)) return text;
  // In a DEFAULT clause a bare or double-quoted word is a string; elsewhere it would name a column.
  const word =
    /^"((?:[^"]|"")*)"$/.exec(text)?.[1]?.replaceAll('""', '"') ?? /^[\p{L}_][\p{L}\p{N}_$]*$/u.exec(text)?.[0];
  return word === undefined || /^current_/i.test(word) ? null : `'${word.replaceAll("'", "''")}'`;
}

/**
 * Internal tables, then parents before children. Where references go in a circle, the first name goes first of those whose rows
 * need no other table's rows in their names: whoever is born needs to be named.
 */
function parentsFirst(drafts: Drafts): Draft[] {
  const waiting = [...drafts.values()].toSorted((a, b) => compare(a.table, b.table));
  const done = new Set<string>();
  const order: Draft[] = [];
  const ready = (draft: Draft): boolean =>
    draft.foreignKeys.every((key) => key.table === draft.table || done.has(key.table));
  const isNamed = (draft: Draft): boolean => namingTables(draft, drafts).every((table) => done.has(table));
  while (waiting.length > 0) {
    const internal = waiting.findIndex((draft) => INTERNAL_TABLES.has(draft.table));
    const places = [internal, waiting.findIndex(ready), waiting.findIndex(isNamed), 0];
    const position = places.find((place) => place >= 0) ?? 0;
    for (const draft of waiting.splice(position, 1)) {
      order.push(draft);
      done.add(draft.table);
    }
  }
  return order;
}

/** The other tables to which the columns lead that name the rows of this one. */
function namingTables(draft: Draft, drafts: Drafts): string[] {
  const names = draft.settings.identity ?? (draft.rowid === null ? draft.key : [draft.rowid]);
  const roles = names.map((name) => roleOf(draft, name, drafts));
  return roles.flatMap((role) => (role.kind === 'ref' && role.table !== draft.table ? [role.table] : []));
}

/** Orders by code units, which is the same on every machine. */
function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
