/**
 * Triggers of the user's that must not run where rows arrive. Those that write to synced tables did their work on the device
 * where the row was written, and what they wrote was captured like every other change: done once more, the copies would
 * differ for ever. Those that refuse a delete, or end the transaction, would stop what has happened elsewhere already. So
 * their WHEN clause gets a condition more, at init and wherever a library is opened. All others, above all those that keep
 * local tables, are left alone and run everywhere.
 */
import type { Database } from 'better-sqlite3';

import { isInternal } from './choose.ts';
import type { Registry } from './model.ts';
import { quoteName } from './model.ts';

/** True unless rows are being merged; what our own triggers ask as well. */
export const GUARD = '(SELECT suspended FROM flotilla_capture) IS NOT 1';

/** A trigger that needs the guard. */
export interface GuardedTrigger {
  readonly name: string;
  /** The table or view that it belongs to. */
  readonly table: string;
  /** Why, as the end of "It …". */
  readonly reason: string;
  readonly isGuarded: boolean;
  readonly sql: string;
}

/** The triggers of the user's that must not run where rows arrive, and why. */
export function triggersToGuard(db: Database, registry: Registry): GuardedTrigger[] {
  const triggers = db
    .prepare("SELECT name, tbl_name AS tableName, sql FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY rowid")
    .all() as { name: string; tableName: string; sql: string }[];
  return triggers.flatMap(({ name, tableName, sql }) => {
    if (isInternal(name)) return [];
    const reason = reasonToGuard(sql, tableName, registry);
    return reason === null ? [] : [{ name, table: tableName, reason, isGuarded: sql.includes(GUARD), sql }];
  });
}

/** Puts the guard into every trigger that needs it and lacks it. Returns their names. */
export function guardTriggers(db: Database, registry: Registry): string[] {
  const open = triggersToGuard(db, registry).filter((trigger) => !trigger.isGuarded);
  for (const { name, sql } of open) {
    db.exec(`DROP TRIGGER main.${quoteName(name)}`);
    db.exec(withGuard(sql));
  }
  return open.map(({ name }) => name);
}

function reasonToGuard(sql: string, tableName: string, registry: Registry): string | null {
  const written = registry.models.filter(({ table }) => writesTo(sql, table)).map(({ table }) => `"${table}"`);
  if (written.length > 0) return `writes to ${written.join(', ')}`;
  const raised = raisesOf(sql);
  if (raised.has('ROLLBACK') || raised.has('FAIL')) return 'may end a transaction, or leave a statement half done';
  const isSynced = registry.models.some(({ table }) => table.toLowerCase() === tableName.toLowerCase());
  return isSynced && raised.size > 0 && eventOf(sql) === 'DELETE' ? 'may refuse a delete' : null;
}

/** What a trigger may raise: IGNORE, ABORT, FAIL, ROLLBACK. */
export function raisesOf(trigger: string): Set<string> {
  const words = keywords(trigger).map((word) => word.text);
  return new Set(words.filter((_, i) => words[i - 1] === 'RAISE'));
}

/** INSERT, UPDATE or DELETE: reserved words, so that no name before it can be one. */
function eventOf(trigger: string): string | undefined {
  return keywords(trigger).find(({ text }) => text === 'INSERT' || text === 'UPDATE' || text === 'DELETE')?.text;
}

/** The trigger with the guard in its WHEN clause. */
export function withGuard(sql: string): string {
  const words = keywords(sql);
  const begin = words.find((word) => word.text === 'BEGIN');
  if (begin === undefined) throw new RangeError(`a trigger without BEGIN: ${sql.slice(0, 60)}`);
  const when = words.find((word) => word.text === 'WHEN' && word.at < begin.at);
  const head = sql.slice(0, when?.at ?? begin.at);
  // A line break ends a comment that the condition may end with.
  const condition = when === undefined ? GUARD : `${GUARD} AND (${sql.slice(when.at + 'WHEN'.length, begin.at)}\n)`;
  return `${head.trimEnd()}\nWHEN ${condition}\n${sql.slice(begin.at)}`;
}

/** True when a trigger's body changes rows of `table`. */
export function writesTo(trigger: string, table: string): boolean {
  const words = keywords(trigger);
  const begin = words.findIndex((word) => word.text === 'BEGIN');
  return words.some((word, i) => {
    if (i <= begin) return false;
    const before = words[i - 1]?.text;
    const writes =
      word.text === 'INTO' ||
      (word.text === 'FROM' && before === 'DELETE') ||
      (word.text === 'UPDATE' && before !== 'DO');
    return writes && targetOf(trigger.slice(word.at + word.text.length)).toLowerCase() === table.toLowerCase();
  });
}

/** The table name that text begins with, after OR clauses and the name of its schema. */
function targetOf(text: string): string {
  const rest = text.replace(/^\s*(?:OR\s+\w+\s+)?/i, '').replace(/^(?:main|"main"|\[main\]|`main`)\s*\.\s*/i, '');
  const quoted = /^(?:"((?:[^"]|"")*)"|`((?:[^`]|``)*)`|\[([^\]]*)\])/.exec(rest);
  if (quoted !== null) return quoted[1]?.replaceAll('""', '"') ?? quoted[2]?.replaceAll('``', '`') ?? quoted[3] ?? '';
  return /^[^\s(;,]+/.exec(rest)?.[0] ?? '';
}

/** Words of SQL outside of strings, quoted names and comments, in upper case, with their places. */
export function keywords(sql: string): { text: string; at: number }[] {
  const token =
    /'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|[\p{L}_$][\p{L}\p{N}_$]*/gu;
  return [...sql.matchAll(token)]
    .filter(([text]) => /^[\p{L}_$]/u.test(text))
    .map((match) => ({ text: match[0].toUpperCase(), at: match.index }));
}
