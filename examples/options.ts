/** Options of scripts, as `parseArgs` gives them: texts. */

/**
 * Reads an option that is a whole number.
 *
 * @param option - its name without dashes, for the message
 * @throws Error - unless it is one from `least` to `most`
 */
export function wholeNumber(option: string, text: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isInteger(value) && value >= least && value <= most) return value;
  const range = most === Number.MAX_SAFE_INTEGER ? `, at least ${least}` : ` from ${least} to ${most}`;
  throw new Error(`--${option} takes a whole number${range}.`);
}
