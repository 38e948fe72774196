/**
 * Cuts a file of SQL into its statements, as the sqlite3 shell does: by semicolons outside of strings, names and comments, and
 * not within the body of a trigger.
 */

const TOKEN =
  /'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|\/\*[^]*?(?:\*\/|$)|[\p{L}_$][\p{L}\p{N}_$]*|;/gu;

/** Each with its comments, without the semicolon; empty ones are left out. */
export function splitStatements(sql: string): string[] {
  const statements: string[] = [];
  let start = 0;
  let words: string[] = [];
  let depth = 0;
  const end = (at: number): void => {
    if (words.length > 0) statements.push(sql.slice(start, at).trim());
    words = [];
    depth = 0;
  };
  for (const match of sql.matchAll(TOKEN)) {
    const [token] = match;
    if (token === ';') {
      if (depth > 0) continue;
      end(match.index);
      start = match.index + 1;
    } else if (!token.startsWith('--') && !token.startsWith('/*')) {
      words.push(token.toUpperCase());
      if (!/^CREATE(?: TEMP| TEMPORARY)? TRIGGER\b/.test(words.slice(0, 3).join(' '))) continue;
      if (/^(?:BEGIN|CASE)$/i.test(token)) depth += 1;
      else if (/^END$/i.test(token)) depth -= 1;
    }
  }
  end(sql.length);
  return statements;
}

/** First words of a statement, in capitals, without comments. */
export function firstWords(statement: string, count: number): string {
  const words = [...statement.matchAll(TOKEN)].map(([token]) => token).filter((token) => /^[\p{L}_$]/u.test(token));
  return words.slice(0, count).join(' ').toUpperCase();
}
