/** `up` in a pipe or a log: a line for what changes, and progress now and then. */
import type { NodeEvent } from '../index.ts';
import type { Io } from './context.ts';
import { progressText } from './live-frame.ts';
import { lineWriter } from './output.ts';
import { deviceLabel, percent, printable, shortDevice } from './text.ts';
import type { View } from './view.ts';

/** ms between two lines of progress of one peer at least: a log should not be made of progress. */
export const PROGRESS_MS = 1_000;

export function plainView(io: Pick<Io, 'stdout' | 'now'>): View {
  const writer = lineWriter<string>(
    io.stdout,
    (line) => line,
    () => 'stop',
    (count) => `… ${count} lines were left out, since nobody read them`,
  );
  const progressAt = new Map<string, number>();
  /** Peer → why it is out of reach, as it was told last. */
  const outOfReach = new Map<string, string>();

  /** A peer that is switched off is dialled for ever; each attempt would be two lines of a log that say nothing new. */
  function wasTold({ device, state, reason }: Extract<NodeEvent, { event: 'peer' }>): boolean {
    const last = outOfReach.get(device);
    if (state === 'connecting') return last !== undefined;
    if (state === 'backoff') outOfReach.set(device, reason);
    else outOfReach.delete(device);
    return state === 'backoff' && last === reason;
  }

  return {
    event(event) {
      if (event.event === 'peer' && wasTold(event)) return;
      if (event.event === 'progress') {
        const now = io.now();
        if (now - (progressAt.get(event.device) ?? Number.NEGATIVE_INFINITY) < PROGRESS_MS) return;
        progressAt.set(event.device, now);
      }
      const line = plainLine(event);
      if (line !== null) writer.write(line);
    },
    close: () => writer.close(),
  };
}

/** An event as text; null when it is not worth a line. */
export function plainLine(event: NodeEvent): string | null {
  switch (event.event) {
    case 'peer': {
      const reason = event.reason === '' ? '' : `: ${printable(event.reason)}`;
      return `${deviceLabel(event.name, event.device)}: ${event.state}${reason}`;
    }
    case 'progress': {
      const { done, total } = event.progress;
      return `${deviceLabel(event.name, event.device)}: ${percent(done, total)}, ${progressText(event.progress)}`;
    }
    case 'discovered':
      return `${shortDevice(event.device)}: found via ${event.via}`;
    case 'applied':
      return null;
    default:
      return lastingLine(event);
  }
}

/** Events that concern the node as a whole: on a terminal these lines stay, above the picture. */
export function lastingLine(event: NodeEvent): string | null {
  switch (event.event) {
    case 'ready':
      return [
        `Flotilla is up: device ${shortDevice(event.device)}, library ${event.library}`,
        ...event.addresses.map((address) => `  listening on ${printable(address)}`),
      ].join('\n');
    case 'notice':
      return printable(event.message);
    case 'joined':
      return `${deviceLabel(event.name, event.device)} is a member now`;
    case 'revoked': {
      const who = deviceLabel(event.name, event.device);
      if (event.by === event.device) return `${who} has left the library`;
      return `${who} was removed from the library by ${deviceLabel(event.byName, event.by)}`;
    }
    case 'stopped':
      return 'Flotilla has stopped.';
    default:
      return null;
  }
}
