/**
 * Triggers of the user's that write to synced tables. On the device where a row is written they do their work, and what they
 * wrote is captured like every other change. Where the row arrives they must not do it again: the copies would differ for
 * ever. So their WHEN clause gets a condition more, at init and wherever a library is opened. Triggers that only keep local
 * tables are left alone and fire everywhere.
 */
import type { Database } from 'better-sqlite3';

import { isInternal } from './choose.ts';
import type { Registry } from './model.ts';
import { quoteName } from './model.ts';

/** True unless rows are being merged; what our own triggers ask as well. */
const GUARD = '(SELECT suspended FROM flotilla_capture) IS NOT 1';

/** Puts the guard into every trigger that needs it and lacks it. Returns their names. */
export function guardTriggers(db: Database, registry: Registry): string[] {
  const triggers = db.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY rowid").all() as {
    name: string;
    sql: string;
  }[];
  const guarded: string[] = [];
  for (const { name, sql } of triggers) {
    if (isInternal(name) || sql.includes(GUARD) || !registry.models.some(({ table }) => writesTo(sql, table))) continue;
    db.exec(`DROP TRIGGER main.${quoteName(name)}`);
    db.exec(withGuard(sql));
    guarded.push(name);
  }
  return guarded;
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
