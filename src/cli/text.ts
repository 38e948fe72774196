/**
 * Small pure functions that turn values into text for people. Everything that came from outside (names, reasons, table
 * names) goes through `printable`: a device's name must not be able to move the cursor of somebody else's terminal.
 */
import Table from 'cli-table3';

/** Characters of a peer id that are shown: its end, since all Ed25519 ids begin alike. */
const SHORT_ID = 8;

/** Two columns wide in a terminal: East Asian scripts, full-width forms, emoji. */
const WIDE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u{3000}-\u{303E}\u{FF01}-\u{FF60}]/u;
/** No column of its own: combining marks, variation selectors, joiners. */
const NARROW = /[\p{M}\p{Cf}]/u;

/** One line without control characters, escape sequences or direction overrides. */
export function printable(text: string): string {
  return text
    .replaceAll(/[\r\n\t]+/g, ' ')
    .replaceAll(/[\p{Cc}\u{202A}-\u{202E}\u{2066}-\u{2069}\u{2028}\u{2029}]/gu, '?');
}

/** Columns that a text takes in a terminal. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const character of text) width += NARROW.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
  return width;
}

/** Cuts a text to so many columns, with `…` where something is missing. */
export function truncate(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  if (columns <= 0) return '';
  let kept = '';
  let width = 0;
  for (const character of text) {
    const next = displayWidth(character);
    if (width + next > columns - 1) break;
    kept += character;
    width += next;
  }
  return `${kept}…`;
}

/** Cuts or fills a text to exactly so many columns. */
export function fit(text: string, columns: number): string {
  const cut = truncate(text, columns);
  return cut + ' '.repeat(Math.max(0, columns - displayWidth(cut)));
}

/** `182530` → `182,530`. */
export function formatCount(count: number): string {
  return Math.round(count).toLocaleString('en-US');
}

/** `1` → `1 row`, `2000` → `2,000 rows`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** `940` → `940 B`, `12345` → `12.3 kB`. Decimal units. */
export function formatBytes(bytes: number): string {
  const units = ['kB', 'MB', 'GB', 'TB'];
  if (bytes < 1_000) return `${Math.round(bytes)} B`;
  let value = bytes;
  let unit = 'B';
  // 999.95 would be shown as 1000.0, so it already belongs to the next unit.
  for (const next of units) {
    if (value < 999.95) break;
    value /= 1_000;
    unit = next;
  }
  return `${value.toFixed(1)} ${unit}`;
}

/** Seconds for people, with the two units that matter: `<1 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return 'unknown';
  if (seconds < 1) return '<1 s';
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  const pairs = [
    [60, 'min', 1, 's'],
    [3_600, 'h', 60, 'min'],
    [86_400, 'd', 3_600, 'h'],
  ] as const;
  const [large, largeName, small, smallName] = whole < 3_600 ? pairs[0] : whole < 86_400 ? pairs[1] : pairs[2];
  const rest = Math.floor((whole % large) / small);
  return `${Math.floor(whole / large)} ${largeName}${rest === 0 ? '' : ` ${rest} ${smallName}`}`;
}

/** `█████░░░░░`, always exactly `width` columns; full only when everything is there. */
export function progressBar(done: number, total: number, width: number): string {
  const share = fraction(done, total);
  const filled = share >= 1 ? width : Math.min(width - 1, Math.floor(share * width));
  const blocks = Math.max(0, filled);
  return '█'.repeat(blocks) + '░'.repeat(Math.max(0, width - blocks));
}

/** Part that is done, 0 to 1; a pass with nothing in it is done. */
export function fraction(done: number, total: number): number {
  return total <= 0 ? 1 : Math.min(1, Math.max(0, done / total));
}

/** `24 %`; 100 only when everything is there. */
export function percent(done: number, total: number): string {
  return `${Math.floor(fraction(done, total) * 100)} %`;
}

/** The end of a peer id: enough to tell one's own devices apart. */
export function shortDevice(device: string): string {
  const clean = printable(device);
  return clean.length <= SHORT_ID ? clean : `…${clean.slice(-SHORT_ID)}`;
}

/** How a device is called in a line: its name, and the end of its id since names need not differ. */
export function deviceLabel(name: string, device: string): string {
  const clean = printable(name).trim();
  return clean === '' ? shortDevice(device) : `${clean} (${shortDevice(device)})`;
}

/** A table with a head, without colours. */
export function table(head: readonly string[], rows: ReadonlyArray<readonly string[]>): string[] {
  const drawn = new Table({ head: [...head], style: { head: [], border: [] } });
  for (const row of rows) drawn.push(row.map(printable));
  return drawn.toString().split('\n');
}
