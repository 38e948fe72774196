/**
 * The picture that `up` draws on a terminal, as lines of text. Pure: `live-view.ts` brings it to the screen.
 */
import type { Progress } from '../index.ts';
import type { PeerView } from './peer-list.ts';
import {
  deviceLabel,
  displayWidth,
  fit,
  formatCount,
  formatDuration,
  plural,
  printable,
  progressBar,
  truncate,
} from './text.ts';

/** A bar longer than this says nothing more; one shorter than the other says nothing. Columns. */
const WIDEST_BAR = 30;
const NARROWEST_BAR = 8;
/** Columns of the names at most, so that one long name does not push the figures out. */
const WIDEST_NAME = 32;
/** Longest state is `connecting`. */
const STATE_WIDTH = 10;

/** `45,000 of 182,530 rows, 52,000 rows/s, 3 s left`. */
export function progressText(progress: Progress): string {
  const parts = [`${formatCount(progress.done)} of ${plural(progress.total, 'row')}`];
  if (progress.rate > 0) parts.push(`${formatCount(progress.rate)} rows/s`);
  if (progress.secondsLeft !== null) parts.push(`${formatDuration(progress.secondsLeft)} left`);
  return parts.join(', ');
}

/** What there is to say of a peer beside its state. */
export function peerDetail(peer: {
  readonly progress: Progress | null;
  readonly reason: string;
  readonly received?: number;
}): string {
  if (peer.progress !== null) return progressText(peer.progress);
  if (peer.reason !== '') return printable(peer.reason);
  return (peer.received ?? 0) > 0 ? `${plural(peer.received ?? 0, 'row')} received` : '';
}

/**
 * The live picture: one line a peer, none longer than the terminal.
 *
 * @param columns - width of the terminal
 * @param rows - lines that may be used
 */
export function liveFrame(peers: readonly PeerView[], columns: number, rows: number): string[] {
  // The last column stays empty: a full line would make some terminals wrap.
  const width = Math.max(1, columns - 1);
  if (peers.length === 0) return [truncate('Nobody else is here yet. Ctrl+C stops.', width)];
  const room = Math.max(1, rows);
  const shown = peers.length <= room ? peers : peers.slice(0, Math.max(0, room - 1));
  const nameWidth = Math.min(WIDEST_NAME, Math.max(...shown.map((peer) => displayWidth(label(peer))), 1));
  const lines = shown.map((peer) => peerLine(peer, nameWidth, width));
  if (shown.length < peers.length) {
    lines.push(truncate(`… and ${plural(peers.length - shown.length, 'more device')}`, width));
  }
  return lines;
}

function label(peer: PeerView): string {
  return deviceLabel(peer.name, peer.device);
}

function peerLine(peer: PeerView, nameWidth: number, width: number): string {
  const start = `${fit(label(peer), nameWidth)}  ${fit(peer.state, STATE_WIDTH)}  `;
  const detail = peerDetail(peer);
  const left = width - displayWidth(start) - displayWidth(detail) - 2;
  const bar =
    peer.progress !== null && left >= NARROWEST_BAR
      ? `${progressBar(peer.progress.done, peer.progress.total, Math.min(left, WIDEST_BAR))}  `
      : '';
  return truncate(`${start}${bar}${detail}`.trimEnd(), width);
}
