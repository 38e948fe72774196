import { SimulatedClock } from 'xstate';
import { expect, it } from 'vitest';
import { createSender } from '../../src/actors/sending.ts';
import type { Frame } from '../../src/protocol/types.ts';
import { FakeStore } from '../support/fake-store.ts';
import { settle, until } from '../support/until.ts';

/** Has a row that is too large to be sent. */
class Laden extends FakeStore {
  isLaden = true;

  override async page(...args: Parameters<FakeStore['page']>): ReturnType<FakeStore['page']> {
    const page = await super.page(...args);
    return this.isLaden ? { ...page, complete: false, heldUp: 'a row is too large' } : page;
  }
}

it('[A18] what is too large is told, and waited for without reading the feed again and again', async () => {
  const store = new Laden('a');
  store.write('one', 'two');
  const stop = new AbortController();
  const [told, sent]: [string[], Frame[]] = [[], []];
  const sender = createSender({
    peer: 'b',
    store,
    cursor: null,
    pass: 'ordinary',
    knowledge: { runs: new Uint8Array(), hlc: [] },
    records: '00',
    credit: 1 << 20,
    limits: { rows: 10, bytes: 1 << 20 },
    send: async (frame) => void sent.push(frame),
    signal: stop.signal,
    clock: new SimulatedClock(),
    applying: () => false,
    onHeldUp: (message) => told.push(message),
    onComplete: () => {},
  });
  const running = sender.run();
  await until(() => sent.length === 1);
  await settle();
  const { pages } = store;
  await settle(100);
  expect(store.pages).toBe(pages);
  expect(told).toContain('a row is too large');
  expect(sender.upToDate()).toBe(false);
  store.isLaden = false;
  store.write('three');
  await until(() => sent.length === 2);
  stop.abort(new Error('done'));
  await running;
});
