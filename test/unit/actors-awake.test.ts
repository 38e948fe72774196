import { SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';
import { LOOK_MS, SLEPT_MS, watchAwake } from '../../src/actors/awake.ts';
import type { Clock } from '../../src/actors/clock.ts';

/** Looks at a clock whose wall clock can jump, as it does in sleep, while timers stand still. */
function rig() {
  const timers = new SimulatedClock();
  const state = { jumped: 0, network: '192.0.2.1', alarms: 0 };
  const clock: Clock = {
    now: () => timers.now() + state.jumped,
    setTimeout: (fn, ms) => timers.setTimeout(fn, ms),
    clearTimeout: (id) => timers.clearTimeout(id as number),
  };
  const stop = watchAwake({ clock, network: () => state.network, onAwake: () => (state.alarms += 1) });
  const look = (times = 1): void => {
    for (let n = 0; n < times; n += 1) timers.increment(LOOK_MS);
  };
  return { state, stop, look };
}

describe('waking up', () => {
  it('is noticed at the next look, once', () => {
    const made = rig();
    made.look(10);
    made.state.jumped += 3_600_000;
    expect(made.state.alarms).toBe(0);
    made.look();
    expect(made.state.alarms).toBe(1);
    made.look(10);
    expect(made.state.alarms).toBe(1);
  });

  it('is not taken from a clock that was set by seconds, or back', () => {
    const made = rig();
    made.state.jumped += SLEPT_MS;
    made.look();
    made.state.jumped -= 3_600_000;
    made.look(3);
    expect(made.state.alarms).toBe(0);
  });

  it('[H10] is so on another network: one that comes, goes or is exchanged', () => {
    const made = rig();
    for (const network of ['192.0.2.1 198.51.100.7', '198.51.100.7', '', '203.0.113.9']) {
      made.state.network = network;
      made.look(2);
    }
    expect(made.state.alarms).toBe(4);
  });

  it('is looked for no more once it is stopped', () => {
    const made = rig();
    made.stop();
    made.state.network = '';
    made.look(3);
    expect(made.state.alarms).toBe(0);
  });
});
