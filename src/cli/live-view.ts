/**
 * `up` on a terminal: a picture at the bottom that is redrawn in place, above it lines that stay.
 *
 * Every redraw is one write: up to the first line of the picture, each line over the old one with the rest of the row
 * cleared, then everything below. Nothing is ever blank in between, so nothing flickers.
 */
import type { NodeEvent } from '../index.ts';
import type { Io } from './context.ts';
import { liveFrame } from './live-frame.ts';
import type { PeerList } from './peer-list.ts';
import { withEvent } from './peer-list.ts';
import { lastingLine } from './plain-view.ts';
import { displayWidth } from './text.ts';
import type { View } from './view.ts';

/** ms between two pictures at least: ten a second is as fast as figures can be read. */
export const FRAME_MS = 100;

const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';
const CLEAR_REST_OF_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

/** Size of a terminal that does not tell its own, or says 0 as some do. */
const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;

export function liveView(io: Pick<Io, 'stdout' | 'now' | 'after' | 'onExit'>): View {
  const { stdout } = io;
  let peers: PeerList = new Map();
  let lasting: string[] = [];
  let drawn: readonly string[] = [];
  let drawnAt = Number.NEGATIVE_INFINITY;
  let cancelTimer: (() => void) | null = null;
  let closed = false;

  const draw = (): void => {
    cancelTimer?.();
    cancelTimer = null;
    if (stdout.destroyed) return;
    const columns = stdout.columns || DEFAULT_COLUMNS;
    // One row for the line of the shell below, one so that the picture never scrolls away its own top.
    const frame = liveFrame([...peers.values()], columns, (stdout.rows || DEFAULT_ROWS) - 2);
    const same =
      lasting.length === 0 && frame.length === drawn.length && frame.every((line, index) => line === drawn[index]);
    if (same) return;
    const lines = [...lasting, ...frame].map((line) => `${line}${CLEAR_REST_OF_LINE}\n`);
    stdout.write(`${HIDE_CURSOR}${moveUp(rowsOf(drawn, columns))}${lines.join('')}${CLEAR_BELOW}`);
    lasting = [];
    drawn = frame;
    drawnAt = io.now();
  };

  const schedule = (): void => {
    if (closed || cancelTimer !== null || stdout.writableNeedDrain) return;
    const wait = drawnAt + FRAME_MS - io.now();
    if (wait <= 0) draw();
    else cancelTimer = io.after(wait, draw);
  };

  // The terminal has moved what was drawn, so it has to be drawn anew even if no figure changed.
  const resized = (): void => {
    if (closed) return;
    const rows = rowsOf(drawn, stdout.columns || DEFAULT_COLUMNS);
    if (rows > 0 && !stdout.destroyed) stdout.write(`${moveUp(rows)}${CLEAR_BELOW}`);
    drawn = [];
    draw();
  };
  const showCursor = (): void => {
    if (!stdout.destroyed) stdout.write(SHOW_CURSOR);
  };
  const forgetExit = io.onExit(showCursor);
  stdout.on('resize', resized);
  stdout.on('drain', schedule);

  return {
    event(event: NodeEvent) {
      if (closed) return;
      peers = withEvent(peers, event);
      const line = lastingLine(event);
      if (line !== null) lasting.push(...line.split('\n'));
      schedule();
    },
    close() {
      if (closed) return;
      draw();
      closed = true;
      stdout.off('resize', resized);
      stdout.off('drain', schedule);
      forgetExit();
      showCursor();
    },
  };
}

/** Rows that lines take on the screen; more than one each when the window became narrower than they are. */
function rowsOf(lines: readonly string[], columns: number): number {
  let rows = 0;
  for (const line of lines) rows += Math.max(1, Math.ceil(displayWidth(line) / Math.max(1, columns)));
  return rows;
}

function moveUp(rows: number): string {
  return rows === 0 ? '' : `\x1b[${rows}A\r`;
}
