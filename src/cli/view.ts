/** Where the events of a running node go: one of three views, by who reads. */
import type { NodeEvent } from '../index.ts';
import type { Io } from './context.ts';
import { liveView } from './live-view.ts';
import { lineWriter } from './output.ts';
import { plainView } from './plain-view.ts';

export interface View {
  event(event: NodeEvent): void;
  /** Writes what is left and gives the terminal back. Twice is harmless. */
  close(): void;
}

/** JSON for machines, a live picture on a terminal, plain lines in a pipe or a log. */
export function chooseView(io: Io, json: boolean): View {
  if (json) return jsonView(io);
  return io.stdout.isTTY && io.env['TERM'] !== 'dumb' ? liveView(io) : plainView(io);
}

/** One event, one line. While nobody reads, later figures replace earlier ones of the same device. */
export function jsonView(io: Pick<Io, 'stdout'>): View {
  const writer = lineWriter<NodeEvent>(
    io.stdout,
    (event) => JSON.stringify(event),
    mergeEvents,
    (count) => ({
      event: 'notice',
      message: `${count} events were left out, since nobody read them.`,
    }),
  );
  return { event: (event) => writer.write(event), close: () => writer.close() };
}

/**
 * Two events of one device as one: the newest progress, the sum of what was applied. An event of another kind of that
 * device in between ends the search, so that the order of a device's events stays true.
 */
export function mergeEvents(queued: NodeEvent, next: NodeEvent): NodeEvent | 'stop' | undefined {
  if (next.event !== 'progress' && next.event !== 'applied') return 'stop';
  if (!('device' in queued) || queued.device !== next.device) return undefined;
  if (queued.event === 'progress' && next.event === 'progress') return next;
  if (queued.event === 'applied' && next.event === 'applied') {
    return { ...next, rows: queued.rows + next.rows, changed: queued.changed + next.changed };
  }
  return queued.event === 'progress' || queued.event === 'applied' ? undefined : 'stop';
}
