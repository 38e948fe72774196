/**
 * Bars as SVG, without a library: a title, and panels of bars below each other, each bar with its value in words. Readable on light and
 * dark paper, since the drawing asks the reader's system for its colours.
 */
import { shown } from './bench.ts';

/** One panel: what is compared, and in which unit. */
export interface Panel {
  /** Such as `Time a row, µs`. */
  readonly title: string;
  /** Names of the bars of each group; one without a name needs no legend. */
  readonly series: readonly string[];
  /** Groups of bars, from top to bottom. A value of null says why there is none in `note`. */
  readonly groups: ReadonlyArray<{
    readonly label: string;
    readonly values: ReadonlyArray<number | null>;
    readonly note?: string;
  }>;
}

export interface Chart {
  readonly title: string;
  /** What was measured, and on what. */
  readonly subtitle: string;
  readonly panels: readonly Panel[];
}

const WIDTH = 760;
const MARGIN = 20;
const LABELS = 220;
/** For the value behind the longest bar. */
const VALUES = 90;
const BAR = 14;
const GAP = 10;
const LINE = 20;
/** From the least value to the greatest, times: beyond that, equal steps to the right are equal factors, or the short bars would vanish. */
const WIDEST = 50;
const COLOURS = [
  ['#2f6fb0', '#6cb0f2'],
  ['#c76a1c', '#f2a766'],
  ['#5a8a3a', '#9bcb7a'],
] as const;

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; }
  .quiet { fill: #59636e; }
  .paper { fill: #ffffff; }
${COLOURS.map(([light], i) => `  .s${i} { fill: ${light}; }`).join('\n')}
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .quiet { fill: #9198a1; }
    .paper { fill: #0d1117; }
${COLOURS.map(([, dark], i) => `    .s${i} { fill: ${dark}; }`).join('\n')}
  }
`;

/** The drawing as a text of its own. */
export function drawChart({ title, subtitle, panels }: Chart): string {
  const parts = [text(MARGIN, MARGIN + 6, title, 'title'), text(MARGIN, MARGIN + 6 + LINE, subtitle, 'quiet')];
  let y = MARGIN + 2 * LINE + 10;
  for (const panel of panels) {
    const drawn = drawPanel(panel, y);
    parts.push(...drawn.parts);
    y = drawn.bottom + LINE;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" role="img">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
<rect class="paper" width="${WIDTH}" height="${y}"/>
${parts.join('\n')}
</svg>
`;
}

function drawPanel({ title, series, groups }: Panel, top: number): { parts: string[]; bottom: number } {
  const { isLogarithmic, length } = scaleOf(groups.flatMap(({ values }) => values.filter((value) => value !== null)));
  const parts = [text(MARGIN, top + LINE - 6, `${title}${isLogarithmic ? ' (logarithmic)' : ''}`)];
  let x = MARGIN + LABELS;
  for (const [i, name] of series.entries()) {
    if (name === '') continue;
    parts.push(rect(x, top + LINE - 17, BAR, BAR, i), text(x + BAR + 5, top + LINE - 6, name, 'quiet'));
    x += BAR + 20 + name.length * 7;
  }
  let y = top + LINE + GAP;
  for (const { label, values, note = '' } of groups) {
    parts.push(text(MARGIN, y + (values.length * BAR) / 2 + 4, label));
    for (const [i, value] of values.entries()) {
      const width = value === null ? 0 : length(value);
      if (value !== null) parts.push(rect(MARGIN + LABELS, y, width, BAR - 2, i));
      parts.push(text(MARGIN + LABELS + width + 6, y + BAR - 3, value === null ? note : shown(value), 'quiet'));
      y += BAR;
    }
    y += GAP;
  }
  return { parts, bottom: y };
}

/** Lengths of bars. Where steps are factors, the axis begins at a power of ten below the least value. */
function scaleOf(values: readonly number[]): { isLogarithmic: boolean; length: (value: number) => number } {
  const room = WIDTH - 2 * MARGIN - LABELS - VALUES;
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const isLogarithmic = least > 0 && most / least > WIDEST;
  if (!isLogarithmic) return { isLogarithmic, length: (value) => rounded((value / most) * room) };
  const start = 10 ** Math.floor(Math.log10(least) - 0.1);
  return { isLogarithmic, length: (value) => rounded((Math.log(value / start) / Math.log(most / start)) * room) };
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}

function rect(x: number, y: number, width: number, height: number, series: number): string {
  return `<rect class="s${series}" x="${x}" y="${y}" width="${width}" height="${height}"/>`;
}

function text(x: number, y: number, words: string, kind = ''): string {
  return `<text${kind === '' ? '' : ` class="${kind}"`} x="${x}" y="${y}">${escaped(words)}</text>`;
}

function escaped(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
