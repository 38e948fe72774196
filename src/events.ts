/** What happens in a node, told to whoever listens. */
import type { NodeEvent } from './api.ts';

/** See {@link createNodeEvents}. */
export interface NodeEvents {
  emit(event: NodeEvent): void;
  /** @returns the way to stop */
  listen(listener: (event: NodeEvent) => void): () => void;
  /** Says `ready`, then what waited. */
  ready(event: NodeEvent): void;
}

/** The events of one node, `ready` first: what happens before waits, so that a listener who comes in time hears it all. */
export function createNodeEvents(): NodeEvents {
  const listeners = new Set<(event: NodeEvent) => void>();
  let early: NodeEvent[] | null = [];
  const tell = (event: NodeEvent): void => {
    for (const listener of listeners) listener(event);
  };
  return {
    emit(event) {
      if (early === null) tell(event);
      else early.push(event);
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    ready(event) {
      const waiting = early ?? [];
      early = null;
      for (const next of [event, ...waiting]) tell(next);
    },
  };
}
