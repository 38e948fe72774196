/**
 * Learning of other programs' commits: the write-ahead log grows (inotify and its like), `PRAGMA data_version` judges
 * whether it was somebody else, and a slow poll catches what a watch misses (network file systems, a full watch queue).
 */
import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';

/** Poll beside the watch, ms. */
const POLL_MS = 250;

/**
 * Calls `look` soon after the library's WAL has changed, and every 250 ms.
 * @returns the way to stop
 */
export function watchCommits(file: string, look: () => void): () => void {
  const wal = `${basename(file)}-wal`;
  let scheduled = false;
  const soon = (): void => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      look();
    });
  };
  let watcher: FSWatcher | null = null;
  try {
    watcher = watch(dirname(file), (_event, name) => {
      if (name === wal) soon();
    });
    // The folder went away or cannot be watched any more: the poll goes on.
    watcher.on('error', () => watcher?.close());
  } catch {
    // No watch to be had (its number is limited on some systems): the poll alone does it, a quarter of a second later.
    watcher = null;
  }
  const timer = setInterval(look, POLL_MS);
  return () => {
    watcher?.close();
    clearInterval(timer);
  };
}
