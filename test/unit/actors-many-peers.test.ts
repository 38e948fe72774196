/** Promise 7 with twenty peers at once: what a device keeps in memory is bounded, whatever they send and however slowly they read. */
import { SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';
import { RECEIVE_CREDIT_BYTES } from '../../src/actors/receiving.ts';
import { startSession } from '../../src/actors/session-driver.ts';
import type { SessionDriver } from '../../src/actors/session-driver.ts';
import { createTurns } from '../../src/actors/turns.ts';
import type { Turns } from '../../src/actors/turns.ts';
import type { Channel, Frame } from '../../src/protocol/types.ts';
import { FakeStore } from '../support/fake-store.ts';
import { memoryChannelPair } from '../support/memory-channel.ts';
import { settle, until } from '../support/until.ts';

const PEERS = 20;
const ROWS = 30;
const ROW_BYTES = 200_000;
/** A batch of five rows, about. */
const BATCH_BYTES = 1_100_000;

const peers = Array.from({ length: PEERS }, (_, i) => `peer ${i}`);

function library(device: string, rows = ROWS): FakeStore {
  const store = new FakeStore(device, { rowBytes: ROW_BYTES });
  store.write(...Array.from({ length: rows }, (_, i) => `${device} ${i}`));
  return store;
}

function start(store: FakeStore, channel: Channel, turns: Turns, clock: SimulatedClock): SessionDriver {
  return startSession({
    channel,
    store,
    clock,
    turns,
    facts: { device: store.device, name: store.device, library: 'ab'.repeat(16) },
    limits: { rows: 5, bytes: 1024 * 1024 },
    emit: () => {},
  });
}

/** A channel that takes one batch, and no more: nobody reads at its other end. */
function stuck(channel: Channel): Channel {
  let batches = 0;
  return {
    peer: channel.peer,
    frames: channel.frames,
    close: () => channel.close(),
    abort: (error) => channel.abort(error),
    async send(frame) {
      if (frame.type === 'batch' && (batches += 1) > 1) await new Promise(() => {});
      return channel.send(frame);
    },
  };
}

describe('[L1] a device with twenty peers', () => {
  it('is sent by all of them together no more than by one, while its library takes in nothing', async () => {
    const [clock, hub] = [new SimulatedClock(), new FakeStore('hub')];
    const turns = createTurns(clock);
    let isBlocked = true;
    let proceed = (): void => {};
    hub.beforeApply = () => (isBlocked ? new Promise((resolve) => (proceed = resolve)) : Promise.resolve());
    let [flying, most] = [0, 0];
    const onFrame = (from: string, frame: Frame): void => {
      if (frame.type === 'batch' && from !== 'hub') flying += frame.data.byteLength;
      if (frame.type === 'ack' && from === 'hub') flying -= frame.credit;
      most = Math.max(most, flying);
    };
    for (const peer of peers) {
      const [near, far] = memoryChannelPair('hub', peer, { onFrame });
      start(hub, near, turns, clock);
      start(library(peer), far, createTurns(clock), clock);
    }
    await until(() => flying >= RECEIVE_CREDIT_BYTES);
    await settle(200);
    expect(most).toBeLessThan(RECEIVE_CREDIT_BYTES + BATCH_BYTES);
    isBlocked = false;
    proceed();
    await until(() => hub.ids().length === PEERS * ROWS);
    expect(most).toBeLessThan(RECEIVE_CREDIT_BYTES + BATCH_BYTES);
  });

  it('keeps two pages for each that reads nothing, and reads no more', async () => {
    const [clock, hub] = [new SimulatedClock(), library('hub')];
    const turns = createTurns(clock);
    for (const peer of peers) {
      const [near, far] = memoryChannelPair('hub', peer);
      start(hub, stuck(near), turns, clock);
      const silent = new FakeStore(peer);
      silent.beforeApply = () => new Promise(() => {});
      start(silent, far, createTurns(clock), clock);
    }
    await until(() => hub.pages >= 2 * PEERS);
    await settle(200);
    expect(hub.pages).toBe(2 * PEERS);
  });
});
