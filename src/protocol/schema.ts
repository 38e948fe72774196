/**
 * What two devices say of their tables, and what lies between two such descriptions, in words. Devices are upgraded on
 * different days: what one has and the other lacks is kept there until it is upgraded too. Only a column that means
 * something else on each side keeps two devices apart. All names are those on the wire.
 */

export interface ColumnDescription {
  readonly name: string;
  readonly kind: 'value' | 'ref' | 'rowid';
  /** The table that a reference leads to; '' for others. */
  readonly target: string;
  /** Affinity. INTEGER and NUMERIC store alike. */
  readonly type: 'INTEGER' | 'TEXT' | 'BLOB' | 'REAL' | 'NUMERIC';
  readonly notNull: boolean;
  /** How concurrent writes come together, if not by the later one; '' if so. */
  readonly policy: string;
  /** The device that says so does not have it itself; it keeps the values for others. */
  readonly absent: boolean;
}

export interface ForeignKeyDescription {
  readonly columns: readonly string[];
  readonly table: string;
  readonly targets: readonly string[];
  readonly onDelete: string;
}

export interface TableDescription {
  readonly name: string;
  readonly ownership: 'shared' | 'device';
  /** The column that says whose a row is; '' if its maker's. */
  readonly ownedBy: string;
  /** The columns from which the identity of a row is derived; null where it is given at birth. */
  readonly identity: readonly string[] | null;
  readonly key: readonly string[];
  readonly collations: readonly string[];
  readonly columns: readonly ColumnDescription[];
  readonly foreignKeys: readonly ForeignKeyDescription[];
  /** The device that says so does not have it itself; it keeps the rows for others. */
  readonly absent: boolean;
}

export interface SchemaDescription {
  readonly tables: readonly TableDescription[];
}

export interface SchemaDifferences {
  /** What one side has and the other lacks or has otherwise, one sentence each. They sync nevertheless. */
  readonly differences: readonly string[];
  /** What means something else on each side, with what to do. They cannot sync. */
  readonly conflicts: readonly string[];
}

/** A description with the name of whose it is, for people. */
export interface Described {
  readonly name: string;
  readonly schema: SchemaDescription;
}

/** Compares two descriptions. */
export function compareSchemas(one: Described, other: Described): SchemaDifferences {
  const differences: string[] = [];
  const conflicts: string[] = [];
  const others = new Map(other.schema.tables.map((table) => [table.name, table]));
  const names = new Set(one.schema.tables.map((table) => table.name));
  for (const table of one.schema.tables) {
    const there = others.get(table.name);
    if (there === undefined || there.absent) {
      if (!table.absent) differences.push(lacks(other.name, `the table "${table.name}"`, 'its rows wait'));
    } else if (table.absent) differences.push(lacks(one.name, `the table "${table.name}"`, 'its rows wait'));
    else compareTables(one.name, table, other.name, there, differences, conflicts);
  }
  for (const table of other.schema.tables)
    if (!names.has(table.name) && !table.absent)
      differences.push(lacks(one.name, `the table "${table.name}"`, 'its rows wait'));
  return { differences, conflicts };
}

function lacks(device: string, what: string, effect: string): string {
  return `"${device}" does not have ${what}: ${effect} there until it is upgraded.`;
}

function compareTables(
  oneName: string,
  one: TableDescription,
  otherName: string,
  other: TableDescription,
  differences: string[],
  conflicts: string[],
): void {
  const where = `the table "${one.name}"`;
  const conflict = (what: string, here: string, there: string, advice: string): void =>
    void conflicts.push(`${what} is ${here} on "${oneName}" and ${there} on "${otherName}": ${advice}.`);
  const sameAgain = 'bring both to the same schema and configuration';
  if (one.ownership !== other.ownership)
    conflict(`The ownership of ${where}`, `"${one.ownership}"`, `"${other.ownership}"`, sameAgain);
  else if (one.ownedBy !== other.ownedBy)
    conflict(`What says whose rows of ${where} are`, `"${one.ownedBy}"`, `"${other.ownedBy}"`, sameAgain);
  if (!isSameList(one.key, other.key) || !isSameList(one.collations, other.collations))
    conflict(
      `The primary key of ${where}`,
      keyInWords(one),
      keyInWords(other),
      `${sameAgain}, or give the new table another name`,
    );
  else if (!isSameList(one.identity ?? [], other.identity ?? []))
    conflict(`The identity of ${where}`, identityInWords(one), identityInWords(other), sameAgain);
  const others = new Map(other.columns.map((column) => [column.name, column]));
  const names = new Set(one.columns.map((column) => column.name));
  for (const column of one.columns) {
    const there = others.get(column.name);
    const what = `the column "${column.name}" of "${one.name}"`;
    if (there === undefined || there.absent) {
      if (!column.absent) differences.push(lacks(otherName, what, 'its values are kept aside'));
    } else if (column.absent) differences.push(lacks(oneName, what, 'its values are kept aside'));
    else if (meaning(column) !== meaning(there))
      conflict(
        `The column "${column.name}" of "${one.name}"`,
        meaningInWords(column),
        meaningInWords(there),
        'a column keeps its meaning; give the new one another name',
      );
    else if (column.policy !== there.policy)
      conflict(
        `The policy of the column "${column.name}" of "${one.name}"`,
        `"${column.policy || 'lww'}"`,
        `"${there.policy || 'lww'}"`,
        sameAgain,
      );
    else if (column.notNull !== there.notNull)
      differences.push(
        `${what[0]?.toUpperCase()}${what.slice(1)} may be NULL on "${column.notNull ? otherName : oneName}" only.`,
      );
  }
  for (const column of other.columns)
    if (!names.has(column.name) && !column.absent)
      differences.push(lacks(oneName, `the column "${column.name}" of "${one.name}"`, 'its values are kept aside'));
  const inWords = ({ foreignKeys }: TableDescription): string[] =>
    foreignKeys.map((key) => `(${key.columns.join(', ')}) → ${key.table} ON DELETE ${key.onDelete}`).toSorted();
  if (!isSameList(inWords(one), inWords(other))) differences.push(`The foreign keys of ${where} are not the same.`);
}

function meaning({ kind, target, type }: ColumnDescription): string {
  if (kind !== 'value') return `${kind} ${target}`;
  return type === 'NUMERIC' ? 'INTEGER' : type;
}

function meaningInWords({ kind, target, type }: ColumnDescription): string {
  if (kind === 'ref') return `a reference to "${target}"`;
  return kind === 'rowid' ? 'an id that each device assigns' : `of type ${type}`;
}

function keyInWords({ key, collations }: TableDescription): string {
  return `(${key.map((name, i) => (collations[i] === 'BINARY' ? name : `${name} COLLATE ${collations[i]}`)).join(', ')})`;
}

function identityInWords({ identity }: TableDescription): string {
  return identity === null ? 'given at birth' : `(${identity.join(', ')})`;
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, i) => item === b[i]);
}
