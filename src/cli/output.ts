/**
 * Writing to streams that may be slow, full or gone: a queue that stays small whatever the reader does.
 */
import type { Io, Output } from './context.ts';

/**
 * Items held back while the reader does not read. An event is about 200 bytes, so this is a few hundred kilobytes; what
 * can be merged is merged first, so that only state changes over a long time ever come near it.
 */
export const MAX_QUEUED = 1_000;

/** ms to wait at the end for a reader that does not read: somebody who asked us to stop should not wait for it. */
const FLUSH_MS = 1_000;

/** Writes items, one line each, and never holds more than {@link MAX_QUEUED}. */
export interface LineWriter<Item> {
  write(item: Item): void;
  /** Writes what is still queued, whether or not the stream wants it, and lets go of the stream. */
  close(): void;
}

/**
 * @param output - where to; when it breaks (`EPIPE`: the reader went away) everything later is dropped silently
 * @param render - an item as one line, without the line end
 * @param merge - both items as one, when the later one can stand for both while nobody reads; undefined keeps both.
 *   Asked for queued items from the newest to the oldest, until it answers or says `'stop'`
 * @param lost - the item that says how many were dropped
 */
export function lineWriter<Item>(
  output: Output,
  render: (item: Item) => string,
  merge: (queued: Item, next: Item) => Item | 'stop' | undefined,
  lost: (count: number) => Item,
): LineWriter<Item> {
  const queue: Item[] = [];
  let dropped = 0;
  let broken = false;

  const send = (item: Item): boolean => output.write(`${render(item)}\n`);
  const drain = (): void => {
    if (dropped > 0) {
      queue.unshift(lost(dropped));
      dropped = 0;
    }
    while (!broken && !output.writableNeedDrain) {
      const item = queue.shift();
      if (item === undefined) return;
      send(item);
    }
  };
  const fail = (): void => {
    broken = true;
    queue.length = 0;
  };
  output.on('drain', drain);
  output.on('error', fail);

  const enqueue = (item: Item): void => {
    for (let index = queue.length - 1; index >= 0; index -= 1) {
      const merged = merge(queue[index] as Item, item);
      if (merged === 'stop') break;
      if (merged !== undefined) {
        queue[index] = merged;
        return;
      }
    }
    queue.push(item);
    if (queue.length > MAX_QUEUED) {
      queue.shift();
      dropped += 1;
    }
  };

  return {
    write(item) {
      if (broken) return;
      if (queue.length > 0 || output.writableNeedDrain) enqueue(item);
      else send(item);
    },
    close() {
      if (!broken) {
        if (dropped > 0) send(lost(dropped));
        for (const item of queue) send(item);
      }
      queue.length = 0;
      dropped = 0;
      broken = true;
      output.off('drain', drain);
      output.off('error', fail);
    },
  };
}

/** Resolves when everything written so far has left, the stream is broken, or the reader was given time enough. */
export async function flush(io: Pick<Io, 'after'>, output: Output): Promise<void> {
  if (output.destroyed || output.writableEnded) return;
  await new Promise<void>((resolve) => {
    const cancel = io.after(FLUSH_MS, resolve);
    output.write('', () => {
      cancel();
      resolve();
    });
  });
}

/** Prints lines for people. */
export function printLines(output: Output, lines: readonly string[]): void {
  output.write(`${lines.join('\n')}\n`);
}

/** Prints one object for machines, on one line. */
export function printJson(output: Output, value: unknown): void {
  output.write(`${JSON.stringify(value)}\n`);
}
