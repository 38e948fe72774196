/**
 * Random schemas: what people write when nobody has told them about sync. Each table has columns that only hold things, and
 * at least one *token* column: every write puts a value of its own there, so that it can be told what became of it.
 */
import type { Chance } from './chance.ts';
import { freshNames } from './names.ts';
import { fewValue, wildValue } from './values.ts';

/** What a column is for. `few` and `code` hold values that name rows: few that meet, or one for each row. */
export type Purpose = 'id' | 'few' | 'code' | 'ref' | 'token' | 'wild' | 'generated' | 'local';

export interface Column {
  readonly name: string;
  /** As declared; '' for none. */
  readonly type: string;
  readonly purpose: Purpose;
  /** The table whose integer ids it holds, its own included; null where its value means the same everywhere. */
  readonly idOf: string | null;
  readonly notNull: boolean;
  readonly hasDefault: boolean;
  readonly collation: 'BINARY' | 'NOCASE' | 'RTRIM';
  /** What follows the type: defaults, checks, the expression of a generated column. */
  readonly clauses: string;
}

export type Action = 'NO ACTION' | 'RESTRICT' | 'SET NULL' | 'SET DEFAULT' | 'CASCADE';

export interface ForeignKey {
  readonly columns: readonly string[];
  readonly table: string;
  readonly targets: readonly string[];
  /** Declared without naming the target columns. */
  readonly isImplicit: boolean;
  readonly onDelete: Action;
  readonly onUpdate: Action;
  readonly isDeferred: boolean;
}

export interface Table {
  readonly name: string;
  readonly columns: Column[];
  readonly key: readonly string[];
  /** The key is the rowid. */
  readonly isRowid: boolean;
  readonly isAutoincrement: boolean;
  readonly isStrict: boolean;
  readonly isWithoutRowid: boolean;
  readonly foreignKeys: ForeignKey[];
  /** Columns of unique constraints in the table itself. */
  readonly uniques: string[][];
  /** Indexes, as statements. */
  readonly indexes: string[];
  readonly checks: string[];
  readonly ownership: 'shared' | 'device';
  /** Columns that name a row on all copies; null where each new row is one of its own. */
  readonly identity: readonly string[] | null;
}

export interface Schema {
  readonly tables: readonly Table[];
  readonly ddl: string;
  readonly config: object;
}

/** What a schema may have. */
export interface Traits {
  /** Values that collide between rows, deletes that are forbidden, checks over several columns. */
  readonly isHard: boolean;
  /** Tables whose rows belong to a device. */
  readonly isOwned: boolean;
  readonly hasWithoutRowid: boolean;
}

export function randomSchema(chance: Chance, traits: Traits): Schema {
  const names = freshNames(chance, true);
  const tables: Table[] = [];
  const columnNames = new Map<Table, () => string>();
  for (let i = chance.between(2, 5); i > 0; i -= 1) {
    const own = freshNames(chance, traits.hasWithoutRowid);
    const table = randomTable(chance, traits, tableName(names()), own, tables);
    tables.push(table);
    columnNames.set(table, own);
  }
  for (const [table, own] of columnNames) {
    for (let i = chance.below(3); i > 0; i -= 1) addForeignKey(chance, traits, own, tables, table);
    if (traits.isHard) addCollisions(chance, own, names, table);
    for (const { columns } of table.foreignKeys)
      if (chance.is(0.5)) table.indexes.push(indexSql(names(), table.name, columns.map(quote).join(', ')));
  }
  const settings = tables.flatMap((table) => {
    const local = table.columns.filter((column) => column.purpose === 'local').map((column) => column.name);
    const own = {
      ...(table.ownership === 'device' ? { ownership: 'device' } : {}),
      ...(isDeclared(table) ? { identity: table.identity } : {}),
      ...(local.length > 0 ? { localColumns: local } : {}),
    };
    return Object.keys(own).length > 0 ? [[table.name, own] as const] : [];
  });
  const ddl = tables.map(sqlOf).join('\n');
  return { tables, ddl, config: settings.length > 0 ? { tables: Object.fromEntries(settings) } : {} };
}

/** The statements that make a table. */
export function sqlOf(table: Table): string {
  return [tableSql(table), ...table.indexes].join('\n');
}

export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function columnOf(table: Table, name: string): Column {
  return table.columns.find((column) => column.name === name) as Column;
}

/** Named by columns that only the configuration names. */
function isDeclared(table: Table): boolean {
  return table.isRowid && table.identity !== null && columnOf(table, table.key[0] ?? '').purpose === 'id';
}

/** Some foreign key leads to columns of the table that are neither its key nor its name. */
export function isNamedByValues(schema: Schema, table: Table): boolean {
  return schema.tables.some(({ foreignKeys }) =>
    foreignKeys.some(
      ({ table: target, targets }) => target === table.name && targets !== table.key && targets !== table.identity,
    ),
  );
}

// ---- tables

const column = (name: string, type: string, purpose: Purpose, more: Partial<Column> = {}): Column => ({
  name,
  type,
  purpose,
  idOf: null,
  notNull: false,
  hasDefault: false,
  collation: 'BINARY',
  clauses: '',
  ...more,
});

type KeyKind = 'integer' | 'autoincrement' | 'named' | 'few' | 'code' | 'composite' | 'link' | 'extension';

function randomTable(
  chance: Chance,
  traits: Traits,
  name: string,
  names: () => string,
  earlier: readonly Table[],
): Table {
  const isStrict = chance.is(0.2);
  const base = {
    name,
    isStrict,
    ownership: traits.isOwned && chance.is(0.4) ? ('device' as const) : ('shared' as const),
  };
  const kind = chance.weighted<KeyKind>([
    [6, 'integer'],
    [2, 'autoincrement'],
    [3, 'named'],
    [2, 'few'],
    [1, 'code'],
    [2, 'composite'],
    [earlier.length > 0 ? 3 : 0, 'link'],
    [earlier.some((table) => table.isRowid) ? 2 : 0, 'extension'],
  ]);
  const foreignKeys: ForeignKey[] = [];
  const uniques: string[][] = [];
  const columns: Column[] = [];
  let key: string[];
  let identity: string[] | null;
  switch (kind) {
    case 'integer':
    case 'autoincrement':
    case 'named': {
      columns.push(column(names(), 'INTEGER', 'id', { idOf: name, notNull: chance.is(0.2) }));
      key = [columns[0]?.name ?? ''];
      identity = null;
      if (kind !== 'named') break;
      const own = Array.from({ length: chance.is(0.25) ? 2 : 1 }, () => fewColumn(chance, names(), isStrict));
      columns.push(...own);
      identity = own.map((part) => part.name);
      uniques.push(identity);
      break;
    }
    case 'few':
    case 'code':
    case 'composite': {
      const own =
        kind === 'code'
          ? [column(names(), chance.pick(['TEXT', 'BLOB']), 'code', { notNull: true })]
          : Array.from({ length: kind === 'few' ? 1 : chance.between(2, 3) }, () =>
              fewColumn(chance, names(), isStrict, true),
            );
      // One column of exactly this type would be the rowid.
      if (own.length === 1)
        own.forEach((part, i) => (own[i] = part.type === 'INTEGER' ? { ...part, type: 'INT' } : part));
      columns.push(...own);
      key = own.map((part) => part.name);
      identity = key;
      break;
    }
    case 'link': {
      const targets = chance.is(0.7) ? [chance.pick(earlier), chance.pick(earlier)] : [chance.pick(earlier)];
      for (const target of targets) foreignKeys.push(linkTo(chance, traits, names, target, isStrict, columns));
      if (targets.length === 1) columns.push(fewColumn(chance, names(), isStrict, true));
      key = columns.map((part) => part.name);
      identity = key;
      break;
    }
    case 'extension': {
      const parent = chance.pick(earlier.filter((table) => table.isRowid));
      const own = column(names(), 'INTEGER', 'ref', { idOf: idRoot(earlier, parent), notNull: true });
      columns.push(own);
      key = [own.name];
      identity = key;
      foreignKeys.push({ ...foreignKey(chance, traits, parent, [own], parent.key), onDelete: 'CASCADE' });
      break;
    }
  }
  const isRowid = kind === 'integer' || kind === 'autoincrement' || kind === 'named' || kind === 'extension';
  const table: Table = {
    ...base,
    columns,
    key,
    identity,
    foreignKeys,
    uniques,
    indexes: [],
    checks: [],
    isRowid,
    isAutoincrement: kind === 'autoincrement',
    isWithoutRowid: !isRowid && traits.hasWithoutRowid && chance.is(0.4),
  };
  for (let i = chance.between(1, 2); i > 0; i -= 1)
    columns.push(column(names(), tokenType(chance, isStrict), 'token', { notNull: chance.is(0.3) }));
  if (chance.is(0.25)) {
    columns.push(column(names(), chance.pick(['TEXT', 'BLOB']), 'code', { notNull: chance.is(0.5) }));
    uniques.push([columns.at(-1)?.name ?? '']);
  }
  for (let i = chance.below(4); i > 0; i -= 1) columns.push(wildColumn(chance, names(), isStrict));
  if (chance.is(0.25)) columns.push(generatedColumn(chance, names(), table));
  if (chance.is(0.15))
    columns.push(column(names(), isStrict ? 'TEXT' : '', 'local', { hasDefault: true, clauses: "DEFAULT 'here'" }));
  if (traits.isHard && chance.is(0.15)) addCheck(chance, table);
  return table;
}

/** The table that gives the ids out which `table`'s key holds: an extension has those of the table that it extends. */
function idRoot(tables: readonly Table[], table: Table): string {
  const { idOf } = columnOf(table, table.key[0] ?? '');
  const root = tables.find((candidate) => candidate.name === idOf);
  return root === undefined ? table.name : root.name;
}

function tokenType(chance: Chance, isStrict: boolean): string {
  return isStrict
    ? chance.pick(['TEXT', 'ANY'])
    : chance.pick(['TEXT', 'TEXT', '', 'VARCHAR(40)', 'INTEGER', 'NUMERIC']);
}

function fewColumn(chance: Chance, name: string, isStrict: boolean, isKey = false): Column {
  const type = isStrict
    ? chance.pick(['TEXT', 'INTEGER', 'BLOB', 'ANY'])
    : chance.pick(['TEXT', 'TEXT', 'INT', 'BLOB', '', 'NUMERIC', 'REAL', 'VARCHAR(10)']);
  const isText = type === 'TEXT' || type === 'VARCHAR(10)';
  const collation = isText && chance.is(0.3) ? chance.pick(['NOCASE', 'RTRIM'] as const) : 'BINARY';
  const clauses = collation === 'BINARY' ? '' : `COLLATE ${collation}`;
  return column(name, type, 'few', { collation, clauses, notNull: isKey || chance.is(0.6) });
}

function wildColumn(chance: Chance, name: string, isStrict: boolean): Column {
  const type = isStrict
    ? chance.pick(['INTEGER', 'INT', 'REAL', 'TEXT', 'BLOB', 'ANY'])
    : chance.pick([
        'INTEGER',
        'TEXT',
        'BLOB',
        'REAL',
        'NUMERIC',
        '',
        'BOOLEAN',
        'DATETIME',
        'VARCHAR(20)',
        'DOUBLE PRECISION',
      ]);
  const clauses: string[] = [];
  const hasDefault = chance.is(0.3);
  if (hasDefault) {
    const expression = isStrict
      ? wildValue(chance, type, true)
      : chance.pick([wildValue(chance, type, false), '(1 + 1)', "(lower('ABC'))"]);
    clauses.push(`DEFAULT ${expression.startsWith('CAST') ? `(${expression})` : expression}`);
  }
  const isText = type === 'TEXT' || type.startsWith('VARCHAR');
  const collation = isText && chance.is(0.2) ? 'NOCASE' : 'BINARY';
  if (collation === 'NOCASE') clauses.push('COLLATE NOCASE');
  if (chance.is(0.1)) clauses.push(`CHECK (${quote(name)} IS NULL OR ifnull(length(${quote(name)}), 0) < 1000)`);
  const notNull = hasDefault ? chance.is(0.5) : chance.is(0.15);
  return column(name, type, 'wild', { clauses: clauses.join(' '), hasDefault, collation, notNull });
}

function generatedColumn(chance: Chance, name: string, table: Table): Column {
  const from = chance.pick(table.columns.filter((part) => part.idOf === null && part.purpose !== 'local'));
  const expression = chance.pick([
    `typeof(${quote(from.name)})`,
    `hex(${quote(from.name)})`,
    `ifnull(${quote(from.name)}, '') || '!'`,
  ]);
  const where = chance.pick(['VIRTUAL', 'STORED']);
  return column(name, 'TEXT', 'generated', { clauses: `GENERATED ALWAYS AS (${expression}) ${where}` });
}

// ---- foreign keys

/** Own columns for a foreign key to `target`'s columns. */
function referringColumns(
  names: () => string,
  target: Table,
  targets: readonly string[],
  isStrict: boolean,
  more: Partial<Column>,
): Column[] {
  return targets.map((name) => {
    const { type, idOf } = columnOf(target, name);
    // What the target may hold at any time, a STRICT column must take as well, or a new name of the target could not be followed.
    const isTaken = !isStrict || target.isStrict || idOf !== null || columnOf(target, name).purpose === 'id';
    // ANY converts numbers in other tables: to SQLite such a column refers to 1 when it is looked up, and to '1' as well when that goes.
    const alike = type === 'ANY' && target.isStrict && !isStrict ? '' : type;
    return column(names(), isTaken ? alike : 'ANY', 'ref', { ...more, idOf });
  });
}

/** A foreign key that is part of a key: its target's key. */
function linkTo(
  chance: Chance,
  traits: Traits,
  names: () => string,
  target: Table,
  isStrict: boolean,
  columns: Column[],
): ForeignKey {
  const own = referringColumns(names, target, target.key, isStrict, { notNull: true });
  columns.push(...own);
  return foreignKey(chance, traits, target, own, target.key);
}

function addForeignKey(
  chance: Chance,
  traits: Traits,
  names: () => string,
  tables: readonly Table[],
  table: Table,
): void {
  const target = chance.pick(tables);
  const steady = (columns: readonly string[]): boolean => columns === target.identity || target.identity === null;
  const targets = chance.pick([target.key, ...target.uniques.filter((columns) => traits.isHard || steady(columns))]);
  const isEarlier = tables.indexOf(target) < tables.indexOf(table);
  const notNull = isEarlier && chance.is(0.3);
  const own = referringColumns(names, target, targets, table.isStrict, { notNull });
  if (traits.isHard && !notNull && chance.is(0.2)) {
    own.forEach(
      (part, i) =>
        (own[i] = { ...part, hasDefault: true, clauses: `DEFAULT ${fewValue(chance, part.type, table.isStrict)}` }),
    );
  }
  table.columns.push(...own);
  table.foreignKeys.push(foreignKey(chance, traits, target, own, targets));
}

function foreignKey(
  chance: Chance,
  traits: Traits,
  target: Table,
  own: readonly Column[],
  targets: readonly string[],
): ForeignKey {
  const actions: Action[] = ['NO ACTION', 'RESTRICT', 'SET NULL', 'SET DEFAULT', 'CASCADE'];
  const mustStay = own.some((part) => part.notNull);
  const easy: Action[] = mustStay ? ['CASCADE'] : ['CASCADE', 'SET NULL'];
  return {
    columns: own.map((part) => part.name),
    table: target.name,
    targets,
    isImplicit: targets === target.key && chance.is(0.3),
    onDelete: chance.pick(traits.isHard ? actions : easy),
    onUpdate: chance.weighted(
      traits.isHard
        ? actions.map((action) => [1, action])
        : [
            [3, 'CASCADE'],
            [1, 'NO ACTION'],
          ],
    ),
    isDeferred: chance.is(0.3),
  };
}

// ---- what makes it hard

function addCollisions(chance: Chance, names: () => string, indexNames: () => string, table: Table): void {
  if (chance.is(0.5)) return;
  const own = fewColumn(chance, names(), table.isStrict);
  table.columns.push(own);
  const name = quote(own.name);
  const others = table.columns
    .filter((part) => part.purpose === 'ref' || part.purpose === 'few')
    .map((part) => quote(part.name));
  const unique = (terms: string, where = ''): string => indexSql(indexNames(), table.name, terms, true, where);
  chance.pick([
    () => void table.uniques.push([own.name]),
    () => void table.indexes.push(unique(name)),
    () => void table.indexes.push(unique(`${name} COLLATE NOCASE`)),
    () => void table.indexes.push(unique(`lower(${name})`)),
    () => void table.indexes.push(unique(name, `${name} <> 'a'`)),
    () => void table.indexes.push(unique(name, `typeof(${name}) = 'text'`)),
    () => void table.indexes.push(unique([name, chance.pick(others)].join(', '))),
    () => void table.indexes.push(unique(`${chance.pick(others)} DESC, ${name}`)),
  ])();
}

function addCheck(chance: Chance, table: Table): void {
  const [one, other] = [chance.pick(table.columns), chance.pick(table.columns)].map((part) => quote(part.name));
  table.checks.push(`${one} IS NOT ${other}`);
}

// ---- SQL

/**
 * In what ON DELETE and ON UPDATE do to a table that is called NEW or OLD, SQLite takes the row of that name for the table: it does it to
 * rows that have nothing to do with the one that goes.
 */
function tableName(name: string): string {
  return /^(?:new|old)$/i.test(name) ? `${name}s` : name;
}

function indexSql(name: string, table: string, terms: string, isUnique = false, where = ''): string {
  const condition = where === '' ? '' : ` WHERE ${where}`;
  return `CREATE ${isUnique ? 'UNIQUE ' : ''}INDEX ${quote(name)} ON ${quote(table)} (${terms})${condition};`;
}

function tableSql(table: Table): string {
  const isInline = table.isRowid;
  const lines = table.columns.map((part) => {
    const words = [quote(part.name), part.type];
    if (isInline && part.name === table.key[0])
      words.push(`PRIMARY KEY${table.isAutoincrement ? ' AUTOINCREMENT' : ''}`);
    if (part.notNull) words.push('NOT NULL');
    words.push(part.clauses);
    return words.filter((word) => word !== '').join(' ');
  });
  if (!isInline) lines.push(`PRIMARY KEY (${table.key.map(quote).join(', ')})`);
  for (const unique of table.uniques) lines.push(`UNIQUE (${unique.map(quote).join(', ')})`);
  for (const check of table.checks) lines.push(`CHECK (${check})`);
  for (const key of table.foreignKeys) {
    const targets = key.isImplicit ? '' : ` (${key.targets.map(quote).join(', ')})`;
    const deferred = key.isDeferred ? ' DEFERRABLE INITIALLY DEFERRED' : '';
    lines.push(
      `FOREIGN KEY (${key.columns.map(quote).join(', ')}) REFERENCES ${quote(key.table)}${targets}` +
        ` ON DELETE ${key.onDelete} ON UPDATE ${key.onUpdate}${deferred}`,
    );
  }
  const options = [...(table.isStrict ? ['STRICT'] : []), ...(table.isWithoutRowid ? ['WITHOUT ROWID'] : [])].join(
    ', ',
  );
  return `CREATE TABLE ${quote(table.name)} (\n  ${lines.join(',\n  ')}\n)${options === '' ? '' : ` ${options}`};`;
}
