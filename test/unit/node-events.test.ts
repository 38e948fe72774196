import { describe, expect, it } from 'vitest';
import type { NodeEvent } from '../../src/api.ts';
import { createNodeEvents } from '../../src/events.ts';

const READY = { event: 'ready', device: 'd', library: 'l', addresses: [] } as const;
const found = (device: string): NodeEvent => ({ event: 'discovered', device, via: 'mdns' });

describe('events of a node', () => {
  it('begin with ready, whatever happened before', () => {
    const events = createNodeEvents();
    const heard: NodeEvent[] = [];
    events.emit(found('a'));
    events.listen((event) => heard.push(event));
    events.emit(found('b'));
    expect(heard).toEqual([]);
    events.ready(READY);
    events.emit(found('c'));
    expect(heard).toEqual([READY, found('a'), found('b'), found('c')]);
  });

  it('go to who listens, until they stop', () => {
    const events = createNodeEvents();
    const heard: NodeEvent[] = [];
    const forget = events.listen((event) => heard.push(event));
    events.ready(READY);
    forget();
    events.emit(found('a'));
    expect(heard).toEqual([READY]);
  });
});
