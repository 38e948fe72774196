/**
 * What the demo shows: lines with the time, a bar that moves on a terminal and is a few lines in a pipe, and a summary.
 */

/** Characters of a bar. */
const BAR_WIDTH = 24;
/** In a pipe a bar is a line each time it has gained this part. */
const PIPE_STEP = 0.25;
/** Between two drawings of a bar on a terminal, ms: more often nobody sees. */
const REDRAW_MS = 50;

export interface BarState {
  readonly done: number;
  readonly total: number;
  /** Rows a second. */
  readonly rate: number;
  readonly secondsLeft: number | null;
}

/** 1234567 → 1,234,567 */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** 1 file, 2 files */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** Writes to one stream; `started` is the zero of its clock. */
export class Screen {
  readonly #stream: NodeJS.WriteStream;
  readonly #started = performance.now();
  #barVisible = false;
  #drawnAt = 0;
  #step = '';

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  get seconds(): number {
    return (performance.now() - this.#started) / 1_000;
  }

  title(text: string): void {
    this.#write(`\n${text}\n`);
  }

  line(who: string, text: string): void {
    this.#write(`${this.#prefix(who)}${text}\n`);
  }

  /** Shows how far a backfill is; call it as often as there is news. */
  bar(who: string, { done, total, rate, secondsLeft }: BarState): void {
    const part = total === 0 ? 1 : Math.min(1, done / total);
    const step = `${who} ${Math.floor(part / PIPE_STEP)}`;
    const now = performance.now();
    if (this.#stream.isTTY ? now - this.#drawnAt < REDRAW_MS : step === this.#step) return;
    [this.#drawnAt, this.#step] = [now, step];
    const full = Math.round(part * BAR_WIDTH);
    const left = secondsLeft === null ? '' : `, ${secondsLeft.toFixed(1)} s left`;
    const drawn = '█'.repeat(full) + '░'.repeat(BAR_WIDTH - full);
    const percent = String(Math.floor(part * 100)).padStart(3);
    const pace = rate > 0 ? `, ${count(rate)}/s` : '';
    const text = `${drawn} ${percent} %  ${count(done)} of ${count(total)} rows${pace}${left}`;
    if (this.#stream.isTTY) {
      this.#stream.write(`\r\u001b[K${this.#prefix(who)}${text}`);
      this.#barVisible = true;
    } else {
      this.line(who, text);
    }
  }

  /** Two columns, aligned. */
  table(rows: ReadonlyArray<readonly [string, string]>): void {
    const width = Math.max(...rows.map(([label]) => label.length));
    for (const [label, text] of rows) this.#write(`  ${label.padEnd(width)}  ${text}\n`);
  }

  #prefix(who: string): string {
    return `[${this.seconds.toFixed(1).padStart(5)} s] ${who.padEnd(9)} `;
  }

  #write(text: string): void {
    if (this.#barVisible) this.#stream.write('\r\u001b[K');
    this.#barVisible = false;
    this.#stream.write(text);
  }
}
